"""The members of a rule's file that come of a Sigma rule."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from trailhawk.detect.rule import Severity
from trailhawk.detect.sigma.fields import LogSource

if TYPE_CHECKING:
    from sigma.correlations import SigmaCorrelationRule
    from sigma.rule import SigmaRule

EVERY = "15m"
MAX_TITLE, MAX_DESCRIPTION = 200, 5_000
MAX_LISTED = 50
"""Characters of a title and of a description, and most references or false positives of a rule."""

_SEVERITY = {
    "informational": Severity.INFORMATIONAL,
    "low": Severity.LOW,
    "medium": Severity.MEDIUM,
    "high": Severity.HIGH,
    "critical": Severity.HIGH,
}
_TECHNIQUE = re.compile(r"t\d{4}(?:\.\d{3})?")
_TACTIC = re.compile(r"[a-z]+(?:[-_][a-z]+)*")


def scheduled(source: LogSource, condition: str) -> dict[str, object]:
    """Timing, query and columns of a rule that asks for rows: one result for each who did it."""
    summary = ("StartTime = min(TimeGenerated)", "EndTime = max(TimeGenerated)", "Events = count()")
    query = "\n".join(
        (
            source.view,
            f"| where {condition}",
            f"| summarize {', '.join((*summary, *source.summary))}",
            f"    by {', '.join(source.who)}",
        )
    )
    return {
        "queryFrequency": EVERY,
        "queryPeriod": EVERY,
        "query": query,
        "title": source.title,
        "details": dict(source.details),
    }


def document(
    rule: SigmaRule | SigmaCorrelationRule,
    identity: str,
    source: LogSource,
    file: str,
    made: Mapping[str, object],
) -> dict[str, object]:
    """The whole file. `made` gives timing, query, custom details and how a title ends."""
    name = (_line(rule.title) or file)[:MAX_TITLE]
    level = rule.level.name.lower() if rule.level else ""
    tactics, techniques, others = _tags(f"{tag.namespace}.{tag.name}" for tag in rule.tags)
    title = str(made["title"])
    found: dict[str, object] = {
        "id": identity,
        "name": name,
        "version": "1.0.0",
        "kind": "Scheduled",
        "description": _description(rule, file),
        "severity": _SEVERITY.get(level, Severity.MEDIUM).value,
        "requiredDataConnectors": [{"connectorId": source.connector, "dataTypes": [source.table.name]}],
        "queryFrequency": made["queryFrequency"],
        "queryPeriod": made["queryPeriod"],
        "triggerOperator": "gt",
        "triggerThreshold": 0,
        "tactics": tactics,
        "relevantTechniques": techniques,
        "tags": ["Sigma", *others],
        "query": str(made["query"]) + "\n",
        "entityMappings": [
            {
                "entityType": kind,
                "fieldMappings": [{"identifier": name, "columnName": column} for name, column in fields],
            }
            for kind, fields in source.entities
        ],
        "customDetails": made["details"],
        "alertDetailsOverride": {"alertDisplayNameFormat": f"{_plain(name)} {title}".strip()},
        "eventGroupingSettings": {"aggregationKind": "AlertPerResult"},
        "sigma": _credit(rule, file),
    }
    return {key: value for key, value in found.items() if value not in ([], {})}


def _line(text: object) -> str:
    return " ".join(str(text or "").split())


def _plain(text: str) -> str:
    """A text that is no format of columns."""
    return text.replace("{{", "{ {").replace("}}", "} }")


def _description(rule: SigmaRule | SigmaCorrelationRule, file: str) -> str:
    parts = [str(rule.description or rule.title or file).strip()]
    if rule.falsepositives:
        parts.append("May be harmless: " + "; ".join(map(_line, rule.falsepositives[:MAX_LISTED])) + ".")
    if rule.references:
        parts.append("References: " + ", ".join(map(_line, rule.references[:MAX_LISTED])))
    if rule.author:
        parts.append(
            f"Sigma rule by {_line(rule.author)}" + (f", {_line(rule.license)}." if rule.license else ".")
        )
    return "\n".join(parts)[:MAX_DESCRIPTION]


def _credit(rule: SigmaRule | SigmaCorrelationRule, file: str) -> dict[str, Any]:
    """Whose rule it is, kept in a member of its own."""
    found: dict[str, Any] = {
        "file": file,
        "id": str(rule.id) if rule.id else "",
        "author": _line(rule.author),
        "license": _line(rule.license),
        "status": rule.status.name.lower() if rule.status else "",
        "date": str(rule.date or ""),
        "modified": str(rule.modified or ""),
        "references": [_line(each) for each in rule.references[:MAX_LISTED]],
        "falsepositives": [_line(each) for each in rule.falsepositives[:MAX_LISTED]],
    }
    return {key: value for key, value in found.items() if value}


def _tags(tags: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Tactics and techniques as rules name them, and the tags that are neither."""
    tactics: list[str] = []
    techniques: list[str] = []
    others: list[str] = []
    for tag in tags:
        namespace, _, name = tag.lower().partition(".")
        if namespace == "attack" and _TECHNIQUE.fullmatch(name):
            techniques.append(name.upper())
        elif namespace == "attack" and _TACTIC.fullmatch(name):
            tactics.append("".join(word.capitalize() for word in re.split("[-_]", name)))
        else:
            others.append(_line(tag))
    return list(dict.fromkeys(tactics)), list(dict.fromkeys(techniques)), others[:MAX_LISTED]
