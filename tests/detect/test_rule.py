"""Rules as they are published, read; and what is wrong with a bad one, told by its place."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from trailhawk.detect import content
from trailhawk.detect.rule import (
    Aggregation,
    AlertDetails,
    Matching,
    RuleKind,
    Severity,
    Trigger,
)
from trailhawk.detect.rule_file import duration, load_rules, parse_rule
from trailhawk.errors import RuleError

PUBLISHED = """
id: 11111111-2222-3333-4444-555555555555
name: A rule in the published form
description: |
  'Told in two lines,
  quoted as many published rules are.'
severity: Medium
status: Available
requiredDataConnectors:
  - connectorId: AWS
    dataTypes:
      - AWSCloudTrail
queryFrequency: 1h
queryPeriod: 14d
triggerOperator: gt
triggerThreshold: 3
tactics:
  - Privilege Escalation
  - Persistence
relevantTechniques:
  - T1098
query: |
  AWSCloudTrail | take 1
entityMappings:
  - entityType: Account
    fieldMappings:
      - identifier: Name
        columnName: AccountName
      - identifier: UPNSuffix
        columnName: AccountUPNSuffix
customDetails:
  Who: UserIdentityArn
alertDetailsOverride:
  alertDisplayNameFormat: "{{EventName}} by {{UserIdentityArn}}"
  alertSeverityColumnName: Severity
  alertDynamicProperties:
    - alertProperty: AlertLink
      value: Link
eventGroupingSettings:
  aggregationKind: AlertPerResult
suppressionEnabled: true
suppressionDuration: PT5H
incidentConfiguration:
  createIncident: true
  groupingConfiguration:
    enabled: true
    lookbackDuration: P1D
    matchingMethod: Selected
    groupByEntities: [Account]
version: 1.0
kind: Scheduled
metadata:
  source: {kind: Community}
"""


def test_every_member_of_a_published_rule_is_read() -> None:
    rule = parse_rule(PUBLISHED, source="a.yaml")
    assert rule.kind is RuleKind.SCHEDULED
    assert rule.severity is Severity.MEDIUM
    assert rule.description.startswith("Told in two lines")
    assert (rule.frequency, rule.period) == (timedelta(hours=1), timedelta(days=14))
    assert (rule.trigger, rule.threshold) == (Trigger.GREATER, 3)
    assert rule.tactics == ("PrivilegeEscalation", "Persistence")
    assert [field.column for field in rule.entity_mappings[0].fields] == ["AccountName", "AccountUPNSuffix"]
    assert rule.aggregation is Aggregation.PER_RESULT
    assert rule.suppression == timedelta(hours=5)
    assert rule.create_incident is True
    assert rule.grouping is not None
    assert rule.grouping.matching is Matching.SELECTED
    assert rule.grouping.lookback == timedelta(days=1)
    assert rule.details.properties == (("AlertLink", "Link"),)
    assert rule.version == "1.0"
    assert [key for key, _ in rule.extra] == ["status", "metadata"]
    assert rule.history_needed == timedelta(0)  # Sentinel runs it from the first hour


def test_kind_may_be_missing_and_then_is_scheduled() -> None:
    assert parse_rule(PUBLISHED.replace("kind: Scheduled\n", ""), source="a").kind is RuleKind.SCHEDULED


def test_a_rule_without_schedule_is_a_hunt() -> None:
    text = "id: a\nname: b\nquery: print 1\ntactics: [Credential Access]\n"
    rule = parse_rule(text, source="a")
    assert rule.kind is RuleKind.HUNTING
    assert rule.tactics == ("CredentialAccess",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5m", timedelta(minutes=5)),
        ("1h", timedelta(hours=1)),
        ("14d", timedelta(days=14)),
        ("PT5M", timedelta(minutes=5)),
        ("P1DT2H", timedelta(days=1, hours=2)),
        ("p14d", timedelta(days=14)),
    ],
)
def test_durations_in_both_spellings(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["", "P", "PT", "5", "h", "1h30", "five minutes"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        duration(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("severity: Medium", "severity: Grave", "a.yaml: 'Grave' is none of .*High - at `\\$.severity`"),
        ("triggerOperator: gt", "triggerOperator: over", "at `\\$.triggerOperator`"),
        ("triggerThreshold: 3", "triggerThreshold: many", "Expected `int`.*`\\$.triggerThreshold`"),
        ("queryPeriod: 14d", "queryPeriod: 30m", "at `\\$.queryPeriod`"),
        ("queryPeriod: 14d", "queryPeriod: 15d", "at `\\$.queryPeriod`"),
        ("queryFrequency: 1h", "queryFrequency: 1m", "at `\\$.queryFrequency`"),
        ("columnName: AccountName", "column: AccountName", r"entityMappings\[0\].fieldMappings\[0\]"),
        ("name: A rule", "nome: A rule", "missing required field `name`"),
        ("id: 1111", "id: [", "not YAML"),
        ("  AWSCloudTrail | take 1", "  ", "the query is empty"),
    ],
)
def test_a_bad_member_is_told_by_its_path(old: str, new: str, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        parse_rule(PUBLISHED.replace(old, new), source="a.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id: a\nname: A\nquery: T\nseverity: Grave\n", "at `$.severity`, line 4"),
        ("id: a\nname: A\nquery: T\ntests:\n  - name: x\n    expect: {alert: 1}\n", "expect`, line 6"),
        ("id: a\nname: A\nquery: T\nentityMappings:\n  - type: IP\n", "entityMappings[0]`, line 4"),
        (
            "id: a\nname: A\n kind: B\n",
            "a.yaml: not YAML: mapping values are not allowed in this context at line 3",
        ),
        ("id: a\nname: \u20acuro\nquery: T\x07\n", "not YAML: control characters are not allowed at line 3"),
        ("id: a\n<<: &b {severity: Grave}\nname: A\nquery: T\nseverity: Bad\n", "at `$.severity`, line 5"),
        (
            "id: a\nquery: T\nname: A\nquery: U\n",
            "a.yaml: not YAML: 'query' stands at line 2 and again at line 4, column 1",
        ),
        ("# nothing\n", "a.yaml: an empty file"),
        ("- id: a\n", "a.yaml: a rule is a mapping, found list"),
        ("id: a\nname: A\n", "missing required field `query`"),
        ("title: A\ndetection: {condition: x}\n", "a.yaml: a Sigma rule"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, told: str) -> None:
    for given in (text, text.encode()):
        with pytest.raises(RuleError) as caught:
            parse_rule(given, source="a.yaml")
        assert told in caught.value.message


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("query: |\n  T", 3),
        ("query: |2-  # as it is\r\n  T\r", 3),
        ("'query': |\n\n  T", 3),
        ("query: T | take 1", 2),
        ("query: 'T'  # one line", 2),
        ("description: 'it says\n\n  query: |\n  there'\nquery: |\n  T", 7),
        ("query: |\n\tT", 3),
        ("query: >\n  T", 0),
        ('query: "T\\n| take 1"', 0),
        ("query: T\n  | take 1", 0),
    ],
)
def test_the_line_that_the_query_begins_on(query: str, line: int) -> None:
    assert parse_rule(f"id: a\n{query}\nname: A\n", source="a").query_line == line


def test_a_list_is_no_rule() -> None:
    with pytest.raises(RuleError, match="a rule is a mapping, found list"):
        parse_rule("- a", source="a.yaml")


@pytest.mark.parametrize("long", ["GreaterThan", "greater than", "GREATERTHAN"])
def test_long_spellings_of_operators(long: str) -> None:
    text = PUBLISHED.replace("triggerOperator: gt", f"triggerOperator: {long}")
    assert parse_rule(text, source="a").trigger is Trigger.GREATER


def test_a_learning_period_asks_for_history() -> None:
    assert parse_rule(PUBLISHED + "learningPeriod: 0\n", source="a").history_needed == timedelta(0)
    assert parse_rule(PUBLISHED + "learningPeriod: 7d\n", source="a").history_needed == timedelta(days=7)


def test_dates_in_sample_events_stay_text() -> None:
    text = PUBLISHED + (
        "tests:\n  - name: t\n    events: [{eventTime: 2026-01-01T00:00:00Z}]\n    expect: {alerts: 0}\n"
    )
    assert parse_rule(text, source="a").tests[0].events[0] == {"eventTime": "2026-01-01T00:00:00Z"}


def test_later_folders_replace_rules_by_id(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for folder, name in ((own, "first"), (other, "second")):
        folder.mkdir()
        text = PUBLISHED.replace("name: A rule in the published form", f"name: {name}")
        (folder / "rule.yaml").write_text(text)
    assert [rule.name for rule in load_rules([own, other])] == ["second"]


def test_one_id_twice_in_a_folder_is_refused(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml"):
        (tmp_path / name).write_text(PUBLISHED)
    with pytest.raises(RuleError, match=r"is also that of a\.yaml"):
        load_rules([tmp_path])


def test_the_case_of_an_ending_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "rule.YAML").write_text(PUBLISHED)
    assert len(load_rules([tmp_path])) == 1


def test_a_rule_is_loaded_by_its_file_too(tmp_path: Path) -> None:
    (tmp_path / "rule.yaml").write_text(PUBLISHED)
    assert [rule.source for rule in load_rules([tmp_path / "rule.yaml"])] == ["rule.yaml"]


def test_a_file_is_read_again_only_when_its_text_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "rule.yaml"
    file.write_text(PUBLISHED)
    (first,), (again,) = load_rules([tmp_path]), load_rules([tmp_path])
    assert again is first
    file.write_text(PUBLISHED.replace("name: A rule in the published form", "name: other"))
    assert [rule.name for rule in load_rules([tmp_path])] == ["other"]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="no file or folder of rules"):
        load_rules([tmp_path / "none"])


def test_the_rules_of_the_package_load() -> None:
    rules = content.rules()
    assert len(rules) >= 5
    for rule in rules:
        assert rule.description
        assert rule.tactics
        assert rule.entity_mappings
        assert len(rule.query) <= 10_000
        if rule.data_types[0] == "AWSCloudTrail":
            assert rule.techniques
            assert any(name == "EventIds" for name, _ in rule.custom_details)


MINIMAL = """id: 1111
name: A rule
kind: Scheduled
severity: High
queryFrequency: 1h
queryPeriod: 1h
triggerOperator: gt
triggerThreshold: 0
query: AWSCloudTrail | take 1
"""


@pytest.mark.parametrize(
    ("text", "member", "value"),
    [
        ("\ufeff" + MINIMAL, "name", "A rule"),
        (MINIMAL.replace("\n", "\r\n"), "query", "AWSCloudTrail | take 1"),
        (MINIMAL.replace("severity: H", "severity:\tH"), "severity", Severity.HIGH),
        (MINIMAL + "tactics:\n\t- Initial Access\n\t- Impact\n", "tactics", ("InitialAccess", "Impact")),
        (MINIMAL + "tactics:\n  -  Impact   \n  -\n", "tactics", ("Impact",)),
        (MINIMAL + "relevantTechniques: T1078, T1110.001\n", "techniques", ("T1078", "T1110.001")),
        (MINIMAL.replace("Threshold: 0", "Threshold: '5'"), "threshold", 5),
        (MINIMAL.replace("Threshold: 0", "Threshold: 5.0"), "threshold", 5),
        (MINIMAL.replace("Threshold: 0", "Threshold:"), "threshold", 0),
        (MINIMAL.replace("Period: 1h", "Period: 1day"), "period", timedelta(days=1)),
        (MINIMAL.replace("Frequency: 1h", "Frequency: 60 min"), "frequency", timedelta(hours=1)),
        (MINIMAL.replace("name: A rule", "name: 2024"), "name", "2024"),
        (MINIMAL.replace("severity: High", "severity:"), "severity", Severity.INFORMATIONAL),
        (MINIMAL.replace("kind: Scheduled", "kind: scheduled"), "kind", RuleKind.SCHEDULED),
        (MINIMAL + "version:\n", "version", ""),
        (MINIMAL + "version: 1.0\n", "version", "1.0"),
        (MINIMAL + "entityMappings:\n", "entity_mappings", ()),
        (MINIMAL + "entityMappings:\n  - entityType: IP\n    fieldMappings:\n", "entity_mappings", ()),
        (
            MINIMAL + "entityMappings: [{entityType: IP, fieldMappings: [{identifier: A, columnName: }]}]\n",
            "entity_mappings",
            (),
        ),
        (MINIMAL + "requiredDataConnectors: [{connectorId: A, dataTypes: T}]\n", "data_types", ("T",)),
        (MINIMAL + "requiredDataConnectors:\n  - AWS\n", "data_types", ()),
        (MINIMAL + "customDetails: [{A: B}, {1: C}]\n", "custom_details", (("A", "B"), ("1", "C"))),
        (MINIMAL + "customDetails:\n  A:\n  B: C\n", "custom_details", (("B", "C"),)),
        (MINIMAL + "eventGroupingSettings:\n  aggregationKind:\n", "aggregation", Aggregation.SINGLE),
        (MINIMAL + "suppressionEnabled:\nsuppressionDuration:\n", "suppression", None),
        (MINIMAL + "suppressionEnabled: 'false'\nsuppressionDuration: 5h\n", "suppression", None),
        (MINIMAL + "tags: [Log4j, {Schema: A, SchemaVersion: 0.1.1}]\n", "tags", ("Log4j",)),
        (
            MINIMAL
            + "alertDetailsOverride: {alertDynamicProperties: [{alertProperty: AlertLink, value: }]}\n",
            "details",
            AlertDetails(),
        ),
    ],
)
def test_habits_of_published_files(text: str, member: str, value: object) -> None:
    assert getattr(parse_rule(text.encode(), source="a.yaml"), member) == value
