"""Sentinel's settings of a rule, in the state database: time, bound, closed incidents, late alerts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import entity
from trailhawk.detect.rule import Grouping, Matching, Rule, RuleKind, Severity
from trailhawk.incidents.change import ChangeKind
from trailhawk.incidents.incident import Classification, Closing, Status

Raised = Callable[..., Alert]
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
RULE = Rule(id="r", name="r", query="T", kind=RuleKind.SCHEDULED, severity=Severity.LOW)
ANY = replace(RULE, grouping=Grouping(Matching.ANY_ALERT, timedelta(hours=5)))
REOPENING = replace(RULE, grouping=Grouping(Matching.ANY_ALERT, timedelta(hours=5), reopen=True))
FALSE = Closing.of(Classification.BENIGN_POSITIVE)


def test_150_alerts_and_then_another_incident(desk: Any, raised: Raised) -> None:
    desk.raise_(*(raised(f"a{n:03}", minutes=n) for n in range(160)), rule=ANY)
    assert sorted(len(group) for group in desk.together()) == [10, 150]
    # One that comes late, into the time of the full one, goes into the other.
    desk.raise_(raised("late", minutes=3), rule=ANY)
    assert sorted(len(group) for group in desk.together()) == [11, 150]
    assert [len(change.alerts_added) for change in desk.incidents.changes_since(0)] == [150, 10, 1]


def test_a_late_alert_moves_the_bounds(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("h4", minutes=240), rule=ANY)
    desk.raise_(raised("h8", minutes=480), rule=ANY)
    assert desk.together() == {frozenset({"h4", "h8"})}
    desk.raise_(raised("h0", minutes=0), rule=ANY)
    assert desk.together() == {frozenset({"h0", "h4"}), frozenset({"h8"})}
    assert desk.incidents.incident(1).alert_ids == ("h0", "h4")
    kinds = [change.kind for change in desk.incidents.changes(1)]
    assert kinds == [ChangeKind.CREATED, ChangeKind.ALERTS_ADDED, ChangeKind.ALERTS_ADDED]
    last = desk.incidents.changes(1)[-1]
    assert (last.alerts_added, last.alerts_removed) == (("h0",), ("h8",))


def test_an_incident_that_lost_all_alerts_points_to_the_one_that_has_them(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("h4", minutes=240), rule=ANY)
    desk.raise_(raised("h10", minutes=600), rule=ANY)
    desk.raise_(raised("h6", minutes=360, severity=Severity.HIGH), rule=ANY)
    assert desk.together() == {frozenset({"h4", "h6"}), frozenset({"h10"})}
    desk.raise_(raised("h0", minutes=0), rule=ANY)
    desk.raise_(raised("h12", minutes=720), rule=ANY)
    assert desk.together() == {frozenset({"h0", "h4"}), frozenset({"h6", "h10"}), frozenset({"h12"})}


def test_a_closed_incident_is_left_closed_or_opened_as_the_rule_says(new_desk: Any, raised: Raised) -> None:
    for rule, expected in ((ANY, [Status.CLOSED, Status.NEW]), (REOPENING, [Status.ACTIVE])):
        desk = new_desk()
        desk.raise_(raised("a"), rule=rule)
        desk.incidents.close(1, FALSE, by="ana", now=NOW)
        desk.raise_(raised("b", minutes=5), rule=rule)
        desk.raise_(raised("c", minutes=6), rule=rule)
        assert [incident.status for incident in desk.incidents.all()] == expected


def test_what_was_shaped_by_hand_is_not_cut(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("h4", minutes=240), raised("h8", minutes=480), rule=ANY)
    desk.raise_(raised("other", entity("AwsAccessKey", Id="ASIA1")))
    desk.incidents.merge(1, [2], by="ana", now=NOW)
    desk.raise_(raised("h0", minutes=0), rule=ANY)
    assert desk.together() == {frozenset({"h4", "h8", "other"}), frozenset({"h0"})}


def test_rules_are_grouped_each_for_itself(desk: Any, raised: Raised) -> None:
    other = replace(ANY, id="s")
    desk.raise_(raised("a"), rule=ANY)
    desk.raise_(raised("b", rule="s"), rule=other)
    desk.raise_(raised("c", entity("AwsAccessKey", Id="ASIA1")))
    assert len(desk.together()) == 3
