"""What validation finds in a rule, and what it does not run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import yaml

from trailhawk.detect import content
from trailhawk.detect.hunt import hunt_all
from trailhawk.detect.proof import Holding
from trailhawk.detect.rule import Rule
from trailhawk.detect.rule_file import parse_rule
from trailhawk.detect.run import run
from trailhawk.detect.schedule import Window, WindowState
from trailhawk.detect.validate import Finding, Level, validate
from trailhawk.engine.download import AllowedHosts
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.external import External

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

PROPERTIES = "alertDetailsOverride: {alertDynamicProperties: [{alertProperty: A, value: B, valeu: C}]}"


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
        (("EventName", "EventNam"), "query", "'EventNam' at 1:23, line 11 of the file"),
        (("EventName", r"['a\nb']"), "query", r"'a\nb' at 1:23, line 11 of the file"),
        (("|\n  AWSC", ">\n  AWSc"), "query", "'AWScloudTrail' at 1:1"),
        (("AWSCloudTrail", "AWSCloudtrail"), "query", "'AWSCloudtrail' at 1:1, line 11 of the file"),
    ],
)
def test_errors(change: tuple[str, str], member: str, part: str, find: Find) -> None:
    ((level, where, message),) = findings(RULE.replace(*change), find)
    assert (level, where) == (Level.ERROR, member)
    assert message.endswith(part)


def test_members_of_other_tools_are_left_in_peace(find: Find) -> None:
    """What published rules and exported ones say beside what is read, and no misspelling of anything."""
    others = ("metadata", "status", "displayName", "techniques", "subTechniques", "enabled", "etag", "type",
              "templateVersion", "alertRuleTemplateName", "lastModifiedUtc", "startTimeUtc", "author",
              "createdTimeUtc", "provider", "queries", "uiMetadata", "location", "properties")  # fmt: skip
    assert findings(RULE + "".join(f"{member}: some\n" for member in others), find) == []


def test_what_to_do_is_told_beside_the_message(find: Find) -> None:
    (found,) = find(parse_rule(RULE.replace("EventName", "EventNam"), source="a"))
    assert found.hint.startswith("did you mean")
    assert found.told == f"{found.message}; {found.hint}"


@pytest.mark.parametrize(
    ("change", "member", "part"),
    [
        (
            ("query: |", f"{ENTITY}\nquery: |"),
            "entityMappings.IP.Address",
            "no column 'Source'; it gives TimeGenerated, UserIdentityArn",
        ),
        (("query: |", "customDetails: {Who: Arn}\nquery: |"), "customDetails.Who", "no column 'Arn'"),
        (
            ("query: |", "sentinelEntitiesMappings: [{columnName: Entities}]\nquery: |"),
            "sentinelEntitiesMappings",
            "no column 'Entities'",
        ),
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
def test_columns_that_are_missing_keep_no_rule_from_running(
    change: tuple[str, str], member: str, part: str, find: Find
) -> None:
    ((level, where, message),) = findings(RULE.replace(*change), find)
    assert (level, where) == (Level.WARNING, member)
    assert part in message


GROUPING = "incidentConfiguration.groupingConfiguration"
MAPPED = (
    "{entityMappings: [{entityType: %s, fieldMappings: [{identifier: %s, columnName: UserIdentityArn}]}]}"
)
SELECTED = "grouping: {matchingMethod: Selected, %s}"


@pytest.mark.parametrize(
    ("members", "member", "part"),
    [
        ("triggerThreshold: -1", "triggerThreshold", "0 to 10,000, found -1"),
        ("{suppressionEnabled: true, suppressionDuration: 25h}", "suppressionDuration", "24 hours at most"),
        (MAPPED % ("Acount", "Name"), "entityMappings", "'Acount' is no type of an entity; did you mean"),
        (
            MAPPED % ("AwsSession", "Key"),
            "entityMappings.AwsSession",
            "'Key' is no identifier of it; there is Id",
        ),
        ("grouping: {lookbackDuration: 8d}", f"{GROUPING}.lookbackDuration", "5 minutes to 7 days"),
        (SELECTED % "groupByEntities: [IP]", f"{GROUPING}.groupByEntities", "there is none"),
        (
            SELECTED % "groupByAlertDetails: [displayname]",
            f"{GROUPING}.groupByAlertDetails",
            "'DisplayName'?",
        ),
        (
            SELECTED % "groupByCustomDetails: [A]",
            f"{GROUPING}.groupByCustomDetails",
            "no part of this rule's",
        ),
    ],
)
def test_what_would_group_wrongly_or_is_beyond_sentinels_limits_is_told(
    members: str, member: str, part: str, find: Find
) -> None:
    rule = yaml.safe_load(RULE)
    given = yaml.safe_load(members)
    if grouping := given.pop("grouping", None):
        given["incidentConfiguration"] = {"groupingConfiguration": {"enabled": True, **grouping}}
    (found,) = find(parse_rule(yaml.safe_dump({**rule, **given}), source="a"))
    assert (found.level, found.member) == (Level.WARNING, member)
    assert part in found.told


@pytest.mark.parametrize(
    ("change", "member", "part"),
    [
        (("| where", "| where TimeGenerated > ago(7d) and"), "queryPeriod", "asks for 7 days"),
        (
            ("| where", "| where TimeGenerated > ago(150m) and"),
            "queryPeriod",
            "asks for 150 minutes, the rule sees only its period of 1 hour",
        ),
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
        (("severity:", "tets: [{name: a}]\nseverity:"), "tets", "not read"),
        (("severity:", "entityMapings: [{entityType: IP}]\nseverity:"), "entityMapings", "not read"),
        (
            ("severity:", "incidentConfiguration: {createIncidnt: false}\nseverity:"),
            "incidentConfiguration.createIncidnt",
            "not read",
        ),
        (
            ("severity:", f"{PROPERTIES}\nseverity:"),
            "alertDetailsOverride.alertDynamicProperties.valeu",
            "not read",
        ),
        (("severity:", "customDetals: {Who: UserIdentityArn}\nseverity:"), "customDetals", "not read"),
    ],
)
def test_warnings(change: tuple[str, str], member: str, part: str, find: Find) -> None:
    found = findings(RULE.replace(*change), find)
    assert (Level.WARNING, member) in [(level, where) for level, where, _ in found]
    assert part in " ".join(message for _, _, message in found)


def test_a_list_outside_the_lake_is_told_unless_it_is_allowed(holding: Holding, find: Find) -> None:
    host = "https://lists.example.com/exits.csv.zip"
    fetched = f'externaldata(address: string)[h@"{host}"] with (ignoreFirstRecord=true)'
    text = RULE.replace("query: |\n  ", f"query: |\n  let exits = ({fetched});\n  ")
    text = text.replace("| where", "| where SourceIpAddress in (exits) and")
    ((level, where, message),) = findings(text, find)
    assert (level, where) == (Level.WARNING, "query")
    assert message.startswith("it reads a list of lists.example.com, which 'allow' of [externaldata]")
    engine = holding({})
    assert isinstance(engine, DuckDBEngine)
    rule = parse_rule(text, source="a")
    hosts = AllowedHosts.of(["https://lists.example.com"])
    reader = External(hosts=hosts)
    assert (
        validate(
            rule,
            lambda text, now: engine.compiled(text, now=now),
            now=NOW,
            allows=reader.allows,
        )
        == ()
    )


ELSEWHERE = """
id: 6d0d2f0e-0000-4000-8000-000000000001
name: Signed in twice
kind: Scheduled
severity: High
queryFrequency: 1h
queryPeriod: 1h
requiredDataConnectors:
  - {connectorId: AzureActiveDirectory, dataTypes: [SigninLogs (All), AWSCloudTrail]}
query: AWSCloudTrail | join (%s) on $left.SourceIpAddress == $right.IPAddress
"""
OF_TWO = "union isfuzzy=true (SigninLogs | project IPAddress), (AWSCloudTrail | project A=SourceIpAddress)"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SigninLogs", "it reads SigninLogs, which this lake has not: skipped"),
        (OF_TWO, "it reads SigninLogs, which this lake has not: skipped"),
        ("OfficeActivity", "it reads OfficeActivity, which this lake has not: skipped"),
        ("Own_CL", "it reads Own_CL, which this lake has not: skipped"),
        ("_Im_Dns(starttime=ago(1d))", "it reads _Im_Dns(), which this lake has not: skipped"),
        ("_GetWatchlist('vips') | project IPAddress = SearchKey", "it reads watchlist 'vips', which"),
        (
            OF_TWO.replace("project A", "project IPAddress"),
            "it reads SigninLogs, which this lake has not: it",
        ),
    ],
)
def test_a_rule_for_more_than_aws_is_told_what_is_missing(query: str, told: str, find: Find) -> None:
    ((level, where, message),) = findings(ELSEWHERE % query, find)
    assert (level, where) == (Level.WARNING, "query")
    assert told in message


@pytest.mark.parametrize("query", ["SigninLog", "nothing()", "AWSCloudTrail | project IPAddres"])
def test_a_name_that_nobody_knows_stays_an_error(query: str, find: Find) -> None:
    assert [level for level, *_ in findings(ELSEWHERE.replace("SigninLogs (All), ", "") % query, find)] == [
        Level.ERROR
    ]


def test_what_is_missing_skips_a_window_and_a_hunt(holding: Holding) -> None:
    rule = parse_rule(ELSEWHERE % "SigninLogs", source="a")
    found = run(rule, Window(rule.id, NOW, NOW - rule.period, NOW - rule.frequency), holding({}))
    assert (found.state, found.is_permanent) == (WindowState.SKIPPED, True)
    assert found.reason == "it reads SigninLogs, which this lake has not"
    (hunted,) = hunt_all(holding({}), [rule], now=NOW)
    assert (hunted.skipped, hunted.reason) == (True, found.reason)
