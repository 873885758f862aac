"""Rules and hunts in an ARM template, as Sentinel's portal exports them or a solution's package holds them.

They are put into the members of rule YAML.

Reference: https://learn.microsoft.com/azure/templates/microsoft.securityinsights/alertrules
"""

from __future__ import annotations

import re
import uuid
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
        "sentinelEntitiesMappings",
        "customDetails",
        "alertDetailsOverride",
        "eventGroupingSettings",
        "incidentConfiguration",
        "requiredDataConnectors",
        "alertRuleTemplateName",
    }
)


_VARIABLE = re.compile(r"variables\('([^']+)'\)((?:\.\w+)*)")
_HUNTS = "hunting queries"
_NAMESPACE = uuid.UUID("5f6f6c1c-0d1e-5a55-9a4b-6b0c4f0a9d10")
MAX_DEPTH = 5
"""Templates inside templates: a solution's package has two levels."""


def documents(template: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The rules and hunting queries of a template, each as its YAML would say it; others are left out.

    A solution's package holds each of its contents in a template of its own.
    """
    yield from _of(template, {}, "", MAX_DEPTH)


def _of(
    template: Mapping[str, object], outer: Mapping[str, object], content_id: str, depth: int
) -> Iterator[dict[str, object]]:
    found = template.get("variables")
    variables = {**outer, **found} if isinstance(found, dict) else outer
    resources = template.get("resources")
    for resource in resources if isinstance(resources, list) else [template]:
        if not isinstance(resource, dict):
            continue
        properties = resource.get("properties")
        if not isinstance(properties, dict):
            continue
        if _is_rule(resource):
            yield _document(resource, properties, variables)
        elif _is_hunt(resource, properties):
            yield _hunt(resource, properties, variables, content_id)
        own_id = _resolved(properties.get("contentId"), variables)
        for inside in (properties.get("mainTemplate"), properties.get("template")):
            if isinstance(inside, dict) and depth:
                yield from _of(inside, variables, own_id, depth - 1)


def _is_rule(resource: Mapping[str, object]) -> bool:
    return (
        str(resource.get("type", "")).lower().endswith(_RESOURCES)
        and str(resource.get("kind", "")).lower() in _KINDS
    )


def _is_hunt(resource: Mapping[str, object], properties: Mapping[str, object]) -> bool:
    return (
        str(resource.get("type", "")).lower().endswith("/savedsearches")
        and str(properties.get("category", "")).lower() == _HUNTS
    )


def _document(
    resource: Mapping[str, object], properties: Mapping[str, object], variables: Mapping[str, object]
) -> dict[str, object]:
    found: dict[str, object] = {"id": _id(resource, properties, variables), "kind": resource["kind"]}
    # What a package holds is a rule to be made, and `enabled: false` there says no more than that.
    is_template = str(resource["type"]).lower().endswith("templates")
    for key, value in properties.items():
        if (
            (key in _RENAMED or key in _PASSED)
            and value is not None
            and not (is_template and key == "enabled")
        ):
            found[_RENAMED.get(key, key)] = _unescaped(value)
    if isinstance(below := properties.get("subTechniques"), list):
        found["relevantTechniques"] = _techniques(found.get("relevantTechniques"), below)
    if "name" not in found and properties.get("name"):  # some published templates have it so
        found["name"] = _unescaped(properties["name"])
    return found


def _techniques(above: object, below: list[object]) -> list[object]:
    """Techniques, and in their place the sub-techniques that a template has apart: as rule YAML says it."""
    found: list[object] = []
    for technique in above if isinstance(above, list) else []:
        found += [each for each in below if str(each).startswith(f"{technique}.")] or [technique]
    return [*found, *below]


def _hunt(
    resource: Mapping[str, object],
    properties: Mapping[str, object],
    variables: Mapping[str, object],
    content_id: str,
) -> dict[str, object]:
    """A saved search of a solution: what YAML has as members stands in its tags."""
    tags = properties.get("tags")
    told = {
        str(tag.get("name", "")).lower(): str(tag.get("value", ""))
        for tag in (tags if isinstance(tags, list) else [])
        if isinstance(tag, dict)
    }
    return {
        "id": content_id or _id(resource, properties, variables),
        "name": _unescaped(properties.get("displayName") or resource.get("name")),
        "kind": "Hunting",
        "description": told.get("description", ""),
        "query": _unescaped(properties.get("query", "")),
        "tactics": told.get("tactics", ""),
        "relevantTechniques": told.get("techniques", ""),
    }


def _id(
    resource: Mapping[str, object], properties: Mapping[str, object], variables: Mapping[str, object]
) -> str:
    """The rule's own id: the last part of its id or name, in which variables are filled in. Of what other
    expressions leave open an id is made from the rule's name."""
    text = _resolved(resource.get("id") or resource.get("name"), variables)
    last = text.rsplit("/", 1)[-1].strip("'\")]} ")
    if last and not re.search(r"[(\['\s]", last):
        return last
    return str(uuid.uuid5(_NAMESPACE, str(properties.get("displayName", text))))


def _resolved(value: object, variables: Mapping[str, object]) -> str:
    """The text of a value, its `variables('a').b` filled in where the template gives them."""

    def filled(found: re.Match[str]) -> str:
        value: object = variables.get(found[1])
        for name in found[2].split(".")[1:]:
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, str) and not value.startswith("[") else found[0]

    text = "" if value is None else str(value)
    whole = _VARIABLE.sub(filled, text)
    return whole[1:-1] if whole != text and _VARIABLE.fullmatch(text[1:-1]) else whole


def _unescaped(value: object) -> object:
    """A text that begins with a bracket begins with two in a template."""
    return value[1:] if isinstance(value, str) and value.startswith("[[") else value
