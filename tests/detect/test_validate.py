"""What validation finds in a rule, and what it does not run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from trailhawk.detect import content
from trailhawk.detect.proof import Holding
from trailhawk.detect.rule import Rule
from trailhawk.detect.rule_file import parse_rule
from trailhawk.detect.validate import Finding, Level, validate
from trailhawk.engine.duckdb import DuckDBEngine

Find = Callable[[Rule], tuple[Finding, ...]]
NOW = datetime(2026, 3, 2, tzinfo=UTC)
RULE = """
id: 6d0d2f0e-0000-4000-8000-000000000001
name: A trail is stopped
kind: Scheduled
severity: High
queryFrequency: 1h
queryPeriod: 1h
triggerOperator: gt
triggerThreshold: 0
query: |
  AWSCloudTrail | where EventName == "StopLogging" | project TimeGenerated, UserIdentityArn
"""
OLD = "toscalar(AWSCloudTrail | where TimeGenerated > ago(2d) | count)"
ENTITY = "entityMappings: [{entityType: IP, fieldMappings: [{identifier: Address, columnName: Source}]}]"


@pytest.fixture
def find(holding: Holding) -> Find:
    engine = holding({})
    assert isinstance(engine, DuckDBEngine)
    return lambda rule: validate(rule, lambda text, now: engine.compiled(text, now=now), now=NOW)


def findings(text: str, find: Find) -> list[tuple[Level, str, str]]:
    found = find(parse_rule(text, source="a"))
    return [(each.level, each.member, each.message) for each in found]


def test_a_sound_rule_has_no_findings(find: Find) -> None:
    assert findings(RULE, find) == []


@pytest.mark.parametrize("rule", [*content.rules(), *content.hunts()], ids=lambda rule: rule.source)
def test_what_is_shipped_has_no_findings(rule: Rule, find: Find) -> None:
    assert find(rule) == ()


@pytest.mark.parametrize(
    ("change", "member", "part"),
    [
        (("EventName", "EventNam"), "query", "EventNam"),
        (("AWSCloudTrail", "AWSCloudtrail"), "query", "AWSCloudtrail"),
        (
            ("query: |", f"{ENTITY}\nquery: |"),
            "entityMappings.IP.Address",
            "no column 'Source'; it gives TimeGenerated, UserIdentityArn",
        ),
        (("query: |", "customDetails: {Who: Arn}\nquery: |"), "customDetails.Who", "no column 'Arn'"),
        (
            ("query: |", "alertDetailsOverride: {alertDisplayNameFormat: 'by {{Who}}'}\nquery: |"),
            "alertDetailsOverride.alertDisplayNameFormat",
            "no column 'Who'",
        ),
        (
            ("query: |", "alertDetailsOverride: {alertSeverityColumnName: Sev}\nquery: |"),
            "alertDetailsOverride.alertSeverityColumnName",
            "no column 'Sev'",
        ),
    ],
)
def test_errors(change: tuple[str, str], member: str, part: str, find: Find) -> None:
    ((level, where, message),) = findings(RULE.replace(*change), find)
    assert (level, where) == (Level.ERROR, member)
    assert part in message


@pytest.mark.parametrize(
    ("change", "member", "part"),
    [
        (("| where", "| where TimeGenerated > ago(7d) and"), "queryPeriod", "asks for 7 days"),
        (
            ("| where", f"| where {OLD} > 5 and"),
            "queryPeriod",
            "asks for 2 days",
        ),
        (
            ("queryFrequency: 1h\nqueryPeriod: 1h", "queryFrequency: 5m\nqueryPeriod: 7d"),
            "queryPeriod",
            "48 h",
        ),
        (("AWSCloudTrail |", "union * |"), "query", "union *"),
        (("name: A trail", f"name: {'A trail' * 50}"), "name", "Sentinel takes 256"),
    ],
)
def test_warnings(change: tuple[str, str], member: str, part: str, find: Find) -> None:
    found = findings(RULE.replace(*change), find)
    assert (Level.WARNING, member) in [(level, where) for level, where, _ in found]
    assert part in " ".join(message for _, _, message in found)
