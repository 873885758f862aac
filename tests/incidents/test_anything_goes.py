"""Alerts and people in any mixture: what must hold whatever they do."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import entity
from trailhawk.detect.rule import Grouping, Matching, Rule, RuleKind, Severity
from trailhawk.errors import UsageError
from trailhawk.incidents import log
from trailhawk.incidents.incident import Classification, Closing, Incident, assemble

Raised = Callable[..., Alert]
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
RULE = Rule(id="r", name="r", query="T", kind=RuleKind.SCHEDULED, severity=Severity.LOW)
OWN = replace(RULE, id="s", grouping=Grouping(Matching.ANY_ALERT, timedelta(hours=3), reopen=True))
FALSE = Closing.of(Classification.UNDETERMINED)


def act(desk: Any, raised: Raised, chance: random.Random, step: int) -> None:
    """One thing that somebody does."""
    numbers = [incident.number for incident in desk.incidents.all()]
    number = chance.choice(numbers) if numbers else 0
    what = chance.randrange(9)
    if what < 4 or not numbers:
        keys = (entity("AwsAccessKey", Id=f"ASIA{chance.randrange(6)}") for _ in range(chance.randrange(3)))
        desk.raise_(raised(f"a{step}", *keys, minutes=chance.randrange(60 * 60)))
    elif what == 4:
        desk.raise_(raised(f"s{step}", minutes=chance.randrange(60 * 20), rule="s"), rule=OWN)
    elif what == 5:
        desk.incidents.close(number, FALSE, by="ana", now=NOW)
    elif what == 6:
        desk.incidents.set(number, by="ana", now=NOW, title=f"t{step}", add_labels=[f"l{step % 3}"])
    elif what == 7:
        try:
            desk.incidents.merge(number, [chance.choice(numbers)], by="ana", now=NOW)
        except UsageError:
            assert len(numbers) >= 1
    else:
        ids = desk.incidents.incident(number).alert_ids
        if len(ids) > 1:
            desk.incidents.split(number, chance.sample(ids, chance.randrange(1, len(ids))), by="ana", now=NOW)


def check(desk: Any) -> None:
    incidents: tuple[Incident, ...] = desk.incidents.all()
    with desk.alerts.engine.connect() as connection:
        members = connection.execute(sa.select(log.members.c.alert_id, log.members.c.number)).all()
        known = connection.execute(sa.select(log.names)).all()
        apart = connection.execute(sa.select(log.apart)).all()
    assert sorted((alert_id, each.number) for each in incidents for alert_id in each.alert_ids) == sorted(
        (alert_id, number) for alert_id, number in members
    )
    assert {(n, kind, value) for n, kind, value in known} == {
        (each.number, kind, value) for each in incidents for kind, value in log.names_of(each)
    }
    assert {number for pair in apart for number in pair} <= {each.number for each in incidents}
    for incident in incidents:
        made = assemble(incident.number, desk.incidents.alerts_of(incident))
        for name in ("entities", "alert_ids", "rule_ids", "tactics", "first_activity", "last_activity"):
            assert getattr(incident, name) == getattr(made, name)
        assert "title" in incident.set_by_hand or incident.title == made.title
    last: dict[int, Incident] = {}
    for change in desk.incidents.changes_since(0, limit=None):
        assert change.before == last.get(change.number)
        assert change.before is None or change.before.modified_at < change.at
        last[change.number] = change.after
    assert [each for _, each in sorted(last.items()) if each.merged_into is None] == list(incidents)


@settings(
    max_examples=int(os.environ.get("TRAILHAWK_EXAMPLES", "15")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 10_000), st.integers(1, 25))
def test_what_must_hold(new_desk: Any, raised: Raised, seed: int, steps: int) -> None:
    desk, chance = new_desk(), random.Random(seed)
    for step in range(steps):
        act(desk, raised, chance, step)
    check(desk)
