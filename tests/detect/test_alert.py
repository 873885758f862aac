"""Result rows become alerts: how many, with which ids, names and entities."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from trailhawk.detect.alert import alerts
from trailhawk.detect.entities import AWS_OBJECT, AWS_SESSION, Entity, as_json, distinct, entities, entity
from trailhawk.detect.rule import (
    Aggregation,
    AlertDetails,
    EntityMapping,
    FieldMapping,
    Rule,
    RuleKind,
    Severity,
    Trigger,
)
from trailhawk.detect.schedule import Window

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINDOW = Window("r", AT, AT - timedelta(hours=1), AT - timedelta(hours=1))


def mapping(kind: str, **columns: str) -> EntityMapping:
    return EntityMapping(kind, tuple(FieldMapping(name, column) for name, column in columns.items()))


RULE = Rule(
    id="r",
    name="The rule",
    query="T",
    kind=RuleKind.SCHEDULED,
    severity=Severity.LOW,
    description="What it says",
    frequency=timedelta(hours=1),
    period=timedelta(hours=1),
    entity_mappings=(mapping("IP", Address="Address"),),
    custom_details=(("EventIds", "Ids"),),
    aggregation=Aggregation.PER_RESULT,
)


def rows(count: int) -> list[dict[str, object]]:
    return [{"Address": f"192.0.2.{n}", "Ids": [f"e{n}"]} for n in range(count)]


@pytest.mark.parametrize(
    ("trigger", "threshold", "count", "fires"),
    [
        (Trigger.GREATER, 0, 0, False),
        (Trigger.GREATER, 0, 1, True),
        (Trigger.GREATER, 5, 5, False),
        (Trigger.LESS, 1, 0, True),
        (Trigger.EQUAL, 2, 2, True),
        (Trigger.NOT_EQUAL, 2, 2, False),
    ],
)
def test_trigger(trigger: Trigger, threshold: int, count: int, fires: bool) -> None:
    rule = replace(RULE, trigger=trigger, threshold=threshold, aggregation=Aggregation.SINGLE)
    assert bool(alerts(rule, WINDOW, rows(count))) is fires


def test_one_alert_for_all_rows() -> None:
    (alert,) = alerts(replace(RULE, aggregation=Aggregation.SINGLE), WINDOW, rows(3))
    assert alert.rows == 3
    assert alert.values("IP") == ("192.0.2.0", "192.0.2.1", "192.0.2.2")
    assert alert.detail("EventIds") == ("e0", "e1", "e2")
    assert (alert.started_at, alert.ended_at) == (WINDOW.start, WINDOW.at)


def test_one_alert_for_each_row() -> None:
    found = alerts(RULE, WINDOW, rows(3))
    assert [alert.rows for alert in found] == [1, 1, 1]
    assert len({alert.id for alert in found}) == 3


def test_rows_that_are_alike_give_an_alert_each() -> None:
    def ids(names: str) -> list[str]:
        return [alert.id for alert in alerts(RULE, WINDOW, [{"EventName": name} for name in names])]

    assert len(set(ids("aba"))) == 3
    assert set(ids("ab")) < set(ids("aba")) < set(ids("aaba")), "those that were raised are known again"


def test_the_hundred_and_fiftieth_alert_sums_up_all_rows() -> None:
    assert [alert.rows for alert in alerts(RULE, WINDOW, rows(150))] == [1] * 150
    found = alerts(RULE, WINDOW, rows(200))
    assert len(found) == 150
    assert [alert.rows for alert in found[-2:]] == [1, 200]
    assert len(alerts(replace(RULE, kind=RuleKind.NRT), WINDOW, rows(200))) == 30


def test_ids_do_not_depend_on_the_order_of_rows_or_sets() -> None:
    one = [{"Address": "192.0.2.1", "Ids": ["a", "b"]}, {"Address": "192.0.2.2", "Ids": ["c"]}]
    other = [{"Address": "192.0.2.2", "Ids": ["c"]}, {"Address": "192.0.2.1", "Ids": ["b", "a"]}]
    assert {a.id for a in alerts(RULE, WINDOW, one)} == {a.id for a in alerts(RULE, WINDOW, other)}
    later = replace(WINDOW, at=AT + timedelta(hours=1))
    assert {a.id for a in alerts(RULE, WINDOW, one)}.isdisjoint(a.id for a in alerts(RULE, later, one))


def test_ids_do_not_depend_on_the_order_in_which_numbers_were_added() -> None:
    def id_of(spread: float) -> str:
        return alerts(RULE, WINDOW, [{"Address": "192.0.2.1", "Spread": spread}])[0].id

    assert id_of(0.1 + 0.2 + 0.3) == id_of(0.3 + 0.2 + 0.1)
    assert len({id_of(0.6), id_of(0.61), id_of(float("nan")), id_of(float("inf"))}) == 4


def test_details_come_from_the_row_and_fall_back_to_the_rule() -> None:
    details = AlertDetails("{{What}} from {{Address}}", "Text {{What}}", "Severity", "Tactics")
    rule = replace(RULE, details=details, tactics=("Collection",))
    full = {"What": "Read", "Address": "192.0.2.1", "Severity": "high", "Tactics": ["Credential Access"]}
    (alert,) = alerts(rule, WINDOW, [full])
    assert (alert.name, alert.description) == ("Read from 192.0.2.1", "Text Read")
    assert (alert.severity, alert.tactics) == (Severity.HIGH, ("CredentialAccess",))
    (alert,) = alerts(rule, WINDOW, [{"What": "", "Severity": "grave"}])
    assert (alert.name, alert.description) == ("The rule", "What it says")
    assert (alert.severity, alert.tactics) == (Severity.LOW, ("Collection",))


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("T | sort by N desc", "b"),
        ("let x = T; x | top 5 by N | extend M = N | project N, Who, Severity", "b"),
        ("T | where N > 0", "a"),
        ("T | sort by N desc | summarize N = count() by Who, Severity", "a"),
        ("T | where At > datetime({{StartTimeISO}}) | sort by N desc", "a"),
    ],
)
def test_details_of_several_rows_are_those_of_the_row_that_the_query_puts_first(
    query: str, first: str
) -> None:
    details = AlertDetails("By {{Who}}", severity_column="Severity")
    rule = replace(RULE, query=query, details=details, aggregation=Aggregation.SINGLE)
    rows = [{"N": 2, "Who": "b", "Severity": "High"}, {"N": 1, "Who": "a", "Severity": "Low"}]
    (alert,) = alerts(rule, WINDOW, rows)
    assert (alert.name, alert.severity.value) == (f"By {first}", {"a": "Low", "b": "High"}[first])
    many = alerts(replace(rule, aggregation=Aggregation.PER_RESULT), WINDOW, rows * 80)
    assert (len(many), many[-1].rows, many[-1].name) == (150, 160, f"By {first}")


def test_what_a_column_names_and_is_no_tactic_leaves_the_rules() -> None:
    rule = replace(RULE, details=AlertDetails(tactics_column="Purpose"), tactics=("Collection",))

    def told(purpose: object) -> tuple[str, ...]:
        (alert,) = alerts(rule, WINDOW, [{"Purpose": purpose}])
        return alert.tactics

    assert told("Recon") == told("") == told(None) == told(7) == ("Collection",)
    assert told("privilege escalation, Trojan, Impact,Impact") == ("PrivilegeEscalation", "Impact")
    assert told(["stealth", "Policy"]) == ("Stealth",)


def test_a_timespan_is_told_as_kql_prints_it() -> None:
    rule = replace(RULE, details=AlertDetails("{{Longest}} at once"))
    (alert,) = alerts(rule, WINDOW, [{"Longest": timedelta(days=1, minutes=5)}])
    assert alert.name == "1.00:05:00 at once"


def test_entities_of_another_alert_are_taken_over() -> None:
    taken = {"entity_mappings": (), "entity_columns": ("Entities", "Other")}
    rule = replace(RULE, aggregation=Aggregation.SINGLE, **taken)  # type: ignore[arg-type]
    before = as_json([Entity("IP", (("Address", "192.0.2.1"),)), Entity("AwsBucket", (("Name", "a"),))])
    cloud = {"$id": "7", "Type": "cloud-application", "AppId": 3, "Name": "Box", "Host": {"$ref": "1"}}
    rows: list[dict[str, object]] = [
        {"Entities": json.dumps(before), "Other": [cloud, {"Name": "no type"}, "text"]},
        {"Entities": "[" * 9_000, "Other": None},
        {"Entities": json.dumps(before[0]), "Other": {"Type": "Toaster", "Id": "t"}},
    ]
    (alert,) = alerts(rule, WINDOW, rows)
    assert set(alert.entities) == {
        Entity("IP", (("Address", "192.0.2.1"),)),
        Entity("AwsBucket", (("Name", "a"),)),
        Entity("CloudApplication", (("Name", "Box"),)),
        Entity("Toaster", (("Id", "t"),)),
    }


def test_times_come_from_the_row() -> None:
    first, last = AT - timedelta(minutes=30), AT - timedelta(minutes=5)
    (alert,) = alerts(RULE, WINDOW, [{"StartTime": first, "EndTime": last}])
    assert (alert.started_at, alert.ended_at) == (first, last)
    (alert,) = alerts(RULE, WINDOW, [{"TimeGenerated": first}])
    assert (alert.started_at, alert.ended_at) == (first, first)


def test_a_list_gives_an_entity_for_each_value() -> None:
    mappings = [mapping("AwsAccessKey", Id="Keys"), mapping("AwsObject", Bucket="Bucket", Key="Objects")]
    row = {"Keys": ["AKIA1", "ASIA2", ""], "Bucket": "b", "Objects": ["x", "y"]}
    assert entities(mappings, [row]) == (
        entity("AwsAccessKey", Id="AKIA1"),
        entity("AwsAccessKey", Id="ASIA2"),
        entity("AwsObject", Bucket="b", Key="x"),
        entity("AwsObject", Bucket="b", Key="y"),
    )


def test_lists_beside_each_other_are_read_in_step() -> None:
    mappings = [mapping("AwsObject", Bucket="Buckets", Key="Objects")]
    row = {"Buckets": ["a", "b"], "Objects": ["x", "y"]}
    assert [each.name for each in entities(mappings, [row])] == ["a/x", "b/y"]


@pytest.mark.parametrize("name", ["root", "administrator", "SYSTEM", "anonymous"])
def test_nothing_named_root_is_dropped(name: str) -> None:
    mappings = [mapping("Account", Name="Name", UPNSuffix="Suffix")]
    found = entities(mappings, [{"Name": name, "Suffix": None}])
    assert found == (Entity("Account", (("Name", name),)),)


def test_no_more_than_five_hundred_entities_shared_equally() -> None:
    mappings = [mapping("IP", Address="A"), mapping("AwsBucket", Name="B")]
    row = {"A": [f"a{n}" for n in range(600)], "B": [f"b{n}" for n in range(600)]}
    found = entities(mappings, [row])
    assert [sum(each.type == kind for each in found) for kind in ("IP", "AwsBucket")] == [250, 250]


def test_entities_as_the_column_holds_them() -> None:
    assert as_json([entity("IP", Address="192.0.2.1")]) == [
        {"$id": "1", "Type": "ip", "Address": "192.0.2.1"}
    ]


def test_a_session_known_by_id_and_by_arn_is_one_entity() -> None:
    by_id = entity(AWS_SESSION, Id="AROA:i-1")
    by_arn = entity(AWS_SESSION, Arn="arn:aws:sts::1:assumed-role/r/i-1")
    both = entity(AWS_SESSION, Id="AROA:i-1", Arn="arn:aws:sts::1:assumed-role/r/i-1")
    other = entity(AWS_SESSION, Id="AROA:i-2")
    assert distinct([by_id, other, both]) == (both, other)
    assert distinct([both, other, by_id]) == (both, other)
    assert distinct([by_arn, by_id, other, both]) == (both, other)
    assert distinct([by_arn, by_id]) == (by_arn, by_id)


def test_an_entity_is_the_same_only_where_what_it_is_known_by_is() -> None:
    one = entity(AWS_OBJECT, Bucket="logs", Key="a")
    other = entity(AWS_OBJECT, Bucket="logs", Key="b")
    bucket = entity(AWS_OBJECT, Bucket="logs")
    bob = entity("Account", Name="bob")
    bob_at_home = entity("Account", Name="bob", UPNSuffix="example.com")
    found = (one, other, bucket, bob, bob_at_home)
    assert distinct(found) == found


def test_two_mappings_of_one_alert_give_one_session() -> None:
    mappings = (mapping("AwsSession", Id="Session"), mapping("AwsSession", Id="Session", Arn="Arn"))
    row = {"Session": "AROA:x", "Arn": "arn:aws:sts::1:assumed-role/r/x"}
    assert entities(mappings, [row]) == (entity(AWS_SESSION, Id="AROA:x", Arn=row["Arn"]),)
