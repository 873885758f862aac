"""Whatever the order in which alerts come, however often and however late: the same incidents in the end."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import entity
from trailhawk.detect.rule import Grouping, Matching, Rule, RuleKind, Severity
from trailhawk.incidents.grouping import groups, linked
from trailhawk.incidents.incident import Incident

Raised = Callable[..., Alert]
NewDesk = Callable[[], Any]

EXAMPLES = int(os.environ.get("TRAILHAWK_EXAMPLES", "40"))
often = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

RULE = Rule(id="r", name="r", query="T", kind=RuleKind.SCHEDULED, severity=Severity.LOW)
KEYS = st.sets(st.integers(0, 5), max_size=3)
SEVERITIES = st.sampled_from(list(Severity)[1:])


def arrivals(seed: int, alerts: Sequence[Alert]) -> list[list[Alert]]:
    """The alerts in some order, some of them twice, in batches of some size."""
    chance = random.Random(seed)
    order = [*alerts, *(each for each in alerts if chance.random() < 0.3)]
    chance.shuffle(order)
    batches = []
    while order:
        size = chance.randint(1, 3)
        batch, order = order[:size], order[size:]
        batches.append(list({each.id: each for each in batch}.values()))
    return batches


def essence(incident: Incident) -> dict[str, object]:
    """All that an incident is, but for its number and when it was written down."""
    names = set(Incident.__dataclass_fields__) - {
        "number",
        "guid",
        "modified_at",
        "modified_by",
        "first_modified_at",
    }
    return {name: getattr(incident, name) for name in names}


def final(desk: Any, alerts: Sequence[Alert], seed: int, rule: Rule | None = None) -> list[dict[str, object]]:
    for batch in arrivals(seed, alerts):
        desk.raise_(*batch, rule=rule)
    return sorted((essence(each) for each in desk.incidents.all()), key=lambda one: str(one["alert_ids"]))


@often
@given(
    st.lists(st.tuples(KEYS, st.integers(0, 60), SEVERITIES), min_size=1, max_size=8),
    st.integers(0, 1000),
    st.integers(0, 1000),
)
def test_of_our_own_grouping(
    raised: Raised,
    new_desk: NewDesk,
    drawn: list[tuple[set[int], int, Severity]],
    one: int,
    other: int,
) -> None:
    alerts = [
        raised(
            f"a{place}",
            *(entity("AwsAccessKey", Id=f"ASIA{key}") for key in sorted(keys)),
            entity("AwsSession", Id=f"AROA:{place % 3}", Arn=f"arn:{place}"),
            minutes=hours * 60,
            severity=severity,
        )
        for place, (keys, hours, severity) in enumerate(drawn)
    ]
    desk = new_desk()
    first = final(desk, alerts, one)
    assert desk.together() == set(groups([linked(each, None, []) for each in alerts]))
    assert final(new_desk(), alerts, other) == first


@often
@given(
    st.sampled_from(
        [
            Grouping(Matching.ANY_ALERT, timedelta(hours=5)),
            Grouping(Matching.ALL_ENTITIES, timedelta(hours=5)),
            Grouping(Matching.SELECTED, timedelta(hours=3), entities=("IP",), details=("Severity",)),
            Grouping(Matching.SELECTED, timedelta(hours=5), custom_details=("Bucket",), reopen=True),
        ]
    ),
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 30), SEVERITIES, st.integers(0, 1)),
        min_size=1,
        max_size=10,
    ),
    st.integers(0, 1000),
    st.integers(0, 1000),
)
def test_of_sentinels_settings(
    raised: Raised,
    new_desk: NewDesk,
    grouping: Grouping,
    drawn: list[tuple[int, int, Severity, int]],
    one: int,
    other: int,
) -> None:
    rule = replace(RULE, grouping=grouping)
    alerts = [
        raised(
            f"a{place}",
            entity("IP", Address=f"192.0.2.{address}"),
            minutes=hours * 60,
            severity=severity,
            details=(("Bucket", (f"b{bucket}",)),),
        )
        for place, (address, hours, severity, bucket) in enumerate(drawn)
    ]
    desk = new_desk()
    first = final(desk, alerts, one, rule)
    assert desk.together() == set(groups([linked(each, rule, []) for each in alerts]))
    assert final(new_desk(), alerts, other, rule) == first


def test_every_order_of_a_late_bridge(raised: Raised, new_desk: NewDesk) -> None:
    def key(number: int) -> Any:
        return entity("AwsAccessKey", Id=f"ASIA{number}")

    alerts = [
        raised("a", key(1)),
        raised("b", key(2), severity=Severity.HIGH),
        raised("bridge", key(1), key(2)),
        raised("far", key(1), minutes=60 * 48),
    ]
    found = []
    for order in permutations(alerts):
        desk = new_desk()
        for each in order:
            desk.raise_(each)
        found.append(sorted((essence(one) for one in desk.incidents.all()), key=str))
        assert desk.together() == {frozenset({"a", "b", "bridge"}), frozenset({"far"})}
    assert all(one == found[0] for one in found)
