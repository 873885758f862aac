"""The runner of the tests inside rules: what it takes, what it tells."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from trailhawk.connectors.ledger import LEDGER
from trailhawk.detect.proof import Holding, Outcome, prove
from trailhawk.detect.rule import Rule
from trailhawk.detect.rule_file import parse_rule
from trailhawk.detect.validate import validate
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.errors import RuleError
from trailhawk.render.proof import junit
from trailhawk.sources import TABLES

MANUAL = Path(__file__).parents[2] / "docs" / "content.md"
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
  AWSCloudTrail
  | where EventName == "StopLogging"
  | summarize EventIds = make_set(AwsEventId) by UserIdentityArn
entityMappings:
  - entityType: AwsPrincipal
    fieldMappings: [{identifier: Arn, columnName: UserIdentityArn}]
customDetails: {EventIds: EventIds}
"""
STOP = """
    events:
      - eventTime: 2026-03-02T09:00:00Z
        eventSource: cloudtrail.amazonaws.com
        eventName: StopLogging
        userIdentity: {type: IAMUser, arn: "arn:aws:iam::111122223333:user/eve"}
"""


def rule(tests: str, head: str = RULE) -> Rule:
    return parse_rule(f"{head}tests:\n{tests}", source="trail.yaml")


def outcomes(made: Rule, holding: Holding) -> list[Outcome]:
    return list(prove([made], [*TABLES, LEDGER], holding))


def failures(made: Rule, holding: Holding) -> list[str]:
    return [failure for outcome in outcomes(made, holding) for failure in outcome.failures]


def test_a_test_that_holds_passes(holding: Holding) -> None:
    eve = "arn:aws:iam::111122223333:user/eve"
    expect = f"    expect: {{alerts: 1, severity: High, entities: {{AwsPrincipal: ['{eve}']}}}}"
    assert failures(rule(f"  - name: stopped{STOP}{expect}"), holding) == []


def test_what_differs_is_told(holding: Holding) -> None:
    expect = "    expect: {alerts: 2, severity: Low, entities: {AwsPrincipal: [mallory]}}"
    assert failures(rule(f"  - name: stopped{STOP}{expect}"), holding) == [
        "2 alerts expected, found 1\n  A trail is stopped",
        "severity Low expected, found High",
        "AwsPrincipal mallory expected, found arn:aws:iam::111122223333:user/eve",
    ]


def test_an_alert_over_cloudtrail_names_its_events(holding: Holding) -> None:
    head = RULE.replace("customDetails: {EventIds: EventIds}", "")
    (failure,) = failures(rule(f"  - name: stopped{STOP}    expect: {{alerts: 1}}", head), holding)
    assert "names no events" in failure


def test_a_query_that_is_wrong_fails_with_its_place(holding: Holding) -> None:
    head = RULE.replace("EventName ==", "EventNam ==")
    (failure,) = failures(rule(f"  - name: stopped{STOP}    expect: {{alerts: 1}}", head), holding)
    assert failure == (
        "failed: binding: there is no column or variable 'EventNam' at 2:9, line 12 of the file;"
        " did you mean 'EventName'?"
    )


def test_the_rule_of_the_manual_passes_its_tests_and_has_no_findings(holding: Holding) -> None:
    text = re.search(r"## A whole rule\n\n```yaml\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    assert text is not None
    made = parse_rule(text[1], source="trail-stopped.yaml")
    assert [outcome.failures for outcome in outcomes(made, holding)] == [(), ()]
    engine = holding({})
    assert isinstance(engine, DuckDBEngine)
    now = datetime(2026, 3, 2, tzinfo=UTC)
    assert validate(made, lambda query, at: engine.compiled(query, now=at), now=now) == ()


def test_rows_of_any_table_can_be_given_and_the_moment_of_the_run(holding: Holding) -> None:
    query = """
  IngestLedger
  | where Quarantined > 0
  | project UserIdentityArn = Location, EventIds = Object, At = now()
  | where At == datetime(2026-03-02T10:00:00Z)
"""
    head = RULE[: RULE.index("  AWSCloudTrail")] + query + RULE[RULE.index("entityMappings") :]
    tests = """
  - name: a bad object
    at: 2026-03-02T10:00:00Z
    rows:
      IngestLedger:
        - {TimeGenerated: 2026-03-02T09:59:00Z, Location: a.gz, Object: "sha256:1", Quarantined: 3}
        - {TimeGenerated: 2026-03-02T09:00:00Z, Location: b.gz, Object: "sha256:2", Quarantined: 0}
    expect: {alerts: 1}
"""
    assert failures(rule(tests, head), holding) == []


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        ("  - {name: a, expect: {alerts: 0}}", "has no event with a time"),
        ("  - {name: a, rows: {Nothing: []}, at: 2026-01-01, expect: {alerts: 0}}", "which is no table"),
        (
            "  - {name: a, rows: {IngestLedger: [{Colour: red}]}, at: 2026-01-01, expect: {alerts: 0}}",
            "IngestLedger has no column Colour",
        ),
        ("  - {name: a, logs: {Nothing: ['x']}, at: 2026-01-01, expect: {alerts: 0}}", "no source reads"),
        (
            "  - {name: a, logs: {AWSCloudTrail: [{eventName: x}]}, at: 2026-01-01, expect: {alerts: 0}}",
            "has a log that is none of",
        ),
    ],
)
def test_a_test_that_cannot_run_has_failed(tests: str, told: str, holding: Holding) -> None:
    (failure,) = failures(rule(tests), holding)
    assert told in failure


@pytest.mark.parametrize("expect", ["{rows: 1}", "{}", "{alerts: 1, rows: 1}"])
def test_a_rule_expects_alerts(expect: str) -> None:
    with pytest.raises(RuleError, match="give the number of alerts"):
        rule(f"  - name: stopped{STOP}    expect: {expect}")


def test_a_hunt_expects_rows(holding: Holding) -> None:
    hunt = """
id: 6d0d2f0e-0000-4000-8000-000000000002
name: Trails stopped today
query: AWSCloudTrail | where TimeGenerated > ago(1d) and EventName == "StopLogging"
"""
    assert failures(rule(f"  - name: stopped{STOP}    expect: {{rows: 1}}", hunt), holding) == []
    assert failures(rule(f"  - name: stopped{STOP}    expect: {{rows: 2}}", hunt), holding) == [
        "2 rows expected, found 1"
    ]
    with pytest.raises(RuleError, match="give the number of rows"):
        rule(f"  - name: stopped{STOP}    expect: {{alerts: 1}}", hunt)


def test_junit_has_a_suite_a_rule_and_no_character_that_xml_forbids(holding: Holding) -> None:
    name = '"stop\\x00ped"'
    made = rule(f"  - name: {name}{STOP}    expect: {{alerts: 2}}")
    root = ElementTree.fromstring(junit(outcomes(made, holding)).encode())
    (suite,) = root.findall("testsuite")
    assert suite.attrib["failures"] == "1"
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.attrib["message"].startswith("2 alerts expected")
