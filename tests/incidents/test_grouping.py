"""What joins alerts into one incident, what does not, and that their order is nothing to it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import Entity, entity
from trailhawk.detect.rule import Grouping, Matching, Rule, RuleKind, Severity
from trailhawk.incidents.grouping import Link, Linked, LinkKind, are_joined, groups, linked
from trailhawk.incidents.lineage import Issue

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def alert(number: int, *named: Entity, at: datetime = AT, rule: str = "r", name: str = "n") -> Alert:
    return Alert(
        id=f"a{number}",
        rule_id=rule,
        rule_name=rule,
        at=at,
        started_at=at - HOUR,
        ended_at=at,
        name=name,
        description="",
        severity=Severity.LOW,
        tactics=(),
        techniques=(),
        entities=named,
        custom_details=(),
        properties=(),
        query="T",
        rows=1,
    )


def issue(key: str, *, by_key: str = "", by: str = "", kind: str = "AssumedRole", service: str = "") -> Issue:
    return Issue(
        at=AT,
        event_id="e",
        api="AssumeRole",
        key=key,
        expires="",
        role_arn="arn:aws:iam::1:role/r",
        session_name="s",
        service=service,
        caller_type=kind,
        caller_arn=by,
        caller_id="AROA:x",
        caller_key=by_key,
        caller_address="192.0.2.1",
    )


KEY = entity("AwsAccessKey", Id="ASIA1")
OTHER_KEY = entity("AwsAccessKey", Id="ASIA2")
SESSION = entity("AwsSession", Id="AROA:i-1", Arn="arn:aws:sts::1:assumed-role/r/i-1")


def joined(one: Linked, other: Linked) -> bool:
    assert are_joined(one, other) == are_joined(other, one)
    return are_joined(one, other)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (KEY, KEY, True),
        (SESSION, SESSION, True),
        (SESSION, entity("AwsSession", Arn="arn:aws:sts::1:assumed-role/r/i-1"), True),
        (KEY, OTHER_KEY, False),
        (entity("IP", Address="192.0.2.1"), entity("IP", Address="192.0.2.1"), False),
        (entity("AwsBucket", Name="b"), entity("AwsBucket", Name="b"), False),
        (entity("AwsAccount", Id="1"), entity("AwsAccount", Id="1"), False),
        (entity("AwsPrincipal", Arn="arn:user/u"), entity("AwsPrincipal", Arn="arn:user/u"), False),
    ],
)
def test_what_a_shared_entity_means(one: Entity, other: Entity, expected: bool) -> None:
    assert joined(linked(alert(1, one), None, []), linked(alert(2, other), None, [])) is expected


def test_a_key_is_joined_with_the_key_that_asked_for_it() -> None:
    above = linked(alert(1, KEY), None, [])
    below = linked(alert(2, OTHER_KEY), None, [issue("ASIA2", by_key="ASIA1")])
    assert joined(above, below)


def test_a_session_is_joined_with_the_user_who_took_it() -> None:
    user = linked(alert(1, entity("AwsPrincipal", Arn="arn:user/u")), None, [])
    session = linked(alert(2, OTHER_KEY), None, [issue("ASIA2", by="arn:user/u", kind="IAMUser")])
    assert joined(user, session)


def test_what_a_service_issued_joins_nothing() -> None:
    for service, kind, by in (
        ("ec2.amazonaws.com", "AWSService", ""),
        ("autoscaling.amazonaws.com", "AssumedRole", "arn:aws:sts::1:assumed-role/AWSServiceRoleForX/x"),
    ):
        asked = {"service": service, "kind": kind, "by": by}
        one = linked(alert(1, KEY), None, [issue("ASIA1", **asked)])
        other = linked(alert(2, OTHER_KEY), None, [issue("ASIA2", **asked)])
        assert not joined(one, other)


def test_a_day_between_them_is_the_limit() -> None:
    first = linked(alert(1, KEY), None, [])
    near = linked(alert(2, KEY, at=AT + 25 * HOUR), None, [])
    far = linked(alert(3, KEY, at=AT + 26 * HOUR), None, [])
    assert joined(first, near)
    assert not joined(first, far)
    assert groups([first, near, far]) == (frozenset({"a1", "a2", "a3"}),)


def test_alerts_without_any_link_stay_alone() -> None:
    lone = [linked(alert(n), None, []) for n in range(3)]
    assert groups(lone) == (frozenset({"a0"}), frozenset({"a1"}), frozenset({"a2"}))


RULE = Rule(id="r", name="r", query="T", kind=RuleKind.SCHEDULED, severity=Severity.LOW)
IP = entity("IP", Address="192.0.2.1")


@pytest.mark.parametrize(
    ("grouping", "one", "other", "expected"),
    [
        (Grouping(Matching.ANY_ALERT, 5 * HOUR), [IP], [], True),
        (Grouping(Matching.ALL_ENTITIES, 5 * HOUR), [IP], [IP], True),
        (Grouping(Matching.ALL_ENTITIES, 5 * HOUR), [IP], [], False),
        (Grouping(Matching.SELECTED, 5 * HOUR, entities=("IP",)), [IP, KEY], [IP, OTHER_KEY], True),
        (Grouping(Matching.SELECTED, 5 * HOUR, details=("DisplayName",)), [], [IP], True),
    ],
)
def test_sentinels_own_grouping(
    grouping: Grouping, one: Sequence[Entity], other: Sequence[Entity], expected: bool
) -> None:
    rule = replace(RULE, grouping=grouping)
    first = linked(alert(1, *one), rule, [])
    near = linked(alert(2, *other, at=AT + HOUR), rule, [])
    late = linked(alert(3, *other, at=AT + 6 * HOUR), rule, [])
    assert (frozenset({"a1", "a2"}) in groups([first, near])) is expected
    assert frozenset({"a3"}) in groups([first, late])


def test_a_rule_with_a_grouping_of_its_own_is_grouped_by_that_alone() -> None:
    rule = replace(RULE, grouping=Grouping(Matching.ALL_ENTITIES, HOUR))
    own = linked(alert(1, KEY), rule, [issue("ASIA1", by_key="ASIA2")])
    assert not joined(own, linked(alert(2, KEY), None, []))
    assert [link.kind for link in own.links] == [LinkKind.RULE]


def test_the_time_counts_from_the_first_alert() -> None:
    rule = replace(RULE, grouping=Grouping(Matching.ANY_ALERT, 5 * HOUR))
    alerts = [linked(alert(hour, at=AT + hour * HOUR), rule, []) for hour in (0, 4, 8, 13)]
    assert groups(alerts) == (frozenset({"a0", "a4"}), frozenset({"a8", "a13"}))


def test_the_150th_alert_is_the_last_of_an_incident() -> None:
    rule = replace(RULE, grouping=Grouping(Matching.ANY_ALERT, 5 * HOUR))
    alerts = [linked(alert(n, at=AT + timedelta(minutes=n)), rule, []) for n in range(200)]
    assert [len(group) for group in groups(alerts)] == [150, 50]


LINKED = st.builds(
    lambda number, keys, hour: Linked(
        f"a{number}",
        AT + hour * HOUR,
        AT + (hour + 1) * HOUR,
        AT + (hour + 1) * HOUR,
        tuple(Link(f"key:{key}", LinkKind.OWN) for key in sorted(keys)),
    ),
    st.integers(0, 10_000),
    st.sets(st.integers(0, 6), max_size=3),
    st.integers(0, 200),
)


@given(st.lists(LINKED, max_size=12, unique_by=lambda each: each.alert_id), st.integers(0, 1000))
def test_the_order_of_alerts_is_nothing_to_it(alerts: list[Linked], seed: int) -> None:
    shuffled = alerts.copy()
    random.Random(seed).shuffle(shuffled)
    assert set(groups(alerts)) == set(groups(shuffled))
    assert sum(map(len, groups(alerts))) == len(alerts)
