"""Analytics rules in an ARM template, as Sentinel's portal exports them, put into the members of rule YAML.

Reference: https://learn.microsoft.com/azure/templates/microsoft.securityinsights/alertrules
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_RESOURCES = ("/alertrules", "/alertruletemplates")
_KINDS = ("scheduled", "nrt")
_RENAMED = {"displayName": "name", "techniques": "relevantTechniques", "templateVersion": "version"}
_PASSED = frozenset(
    {
        "description",
        "severity",
        "enabled",
        "query",
        "queryFrequency",
        "queryPeriod",
        "triggerOperator",
        "triggerThreshold",
        "suppressionDuration",
        "suppressionEnabled",
        "tactics",
        "entityMappings",
        "customDetails",
        "alertDetailsOverride",
        "eventGroupingSettings",
        "incidentConfiguration",
        "requiredDataConnectors",
        "subTechniques",
        "alertRuleTemplateName",
    }
)


def documents(template: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The rules of a template, each as a rule's YAML would say it; rules of other kinds are left out."""
    resources = template.get("resources")
    for resource in resources if isinstance(resources, list) else [template]:
        if isinstance(resource, dict) and _is_rule(resource):
            yield _document(resource)


def _is_rule(resource: Mapping[str, object]) -> bool:
    return (
        str(resource.get("type", "")).lower().endswith(_RESOURCES)
        and str(resource.get("kind", "")).lower() in _KINDS
        and isinstance(resource.get("properties"), dict)
    )


def _document(resource: Mapping[str, object]) -> dict[str, object]:
    properties: dict[str, object] = resource["properties"]  # type: ignore[assignment]  # see _is_rule
    found: dict[str, object] = {"id": _id(resource), "kind": resource["kind"]}
    for key, value in properties.items():
        if (key in _RENAMED or key in _PASSED) and value is not None:
            found[_RENAMED.get(key, key)] = value
    return found


def _id(resource: Mapping[str, object]) -> str:
    """The rule's own GUID: the last part of id or name, which may be an expression that joins strings."""
    text = str(resource.get("id") or resource.get("name") or "")
    return text.rsplit("/", 1)[-1].strip("'\")]} ")
