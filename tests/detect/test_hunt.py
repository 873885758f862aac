"""Hunts: what they read, what is new against a day before, what they cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from trailhawk.detect.hunt import Hunted, TacticSum, by_tactic, hunt, hunt_all
from trailhawk.detect.rule import Rule, RuleKind, Severity
from trailhawk.engine.result import TimeRange

if TYPE_CHECKING:
    from trailhawk.engine.result import Engine

Record = Mapping[str, object]
NOW = datetime(2026, 3, 2, tzinfo=UTC)


def made(query: str) -> Rule:
    return Rule(id=query, name=query, query=query, kind=RuleKind.HUNTING, severity=Severity.INFORMATIONAL)


def events(*days: int) -> list[Record]:
    return [{"eventTime": f"2026-02-{day:02}T12:00:00Z", "eventName": "ListBuckets"} for day in days]


def test_a_hunt_reads_all_that_is_stored_and_nothing_of_the_future(
    engine_of: Callable[[Iterable[Record]], Engine],
) -> None:
    future = {"eventTime": "2026-03-03T12:00:00Z", "eventName": "ListBuckets"}
    engine = engine_of([*events(1, 20, 28), future])
    assert hunt(engine, "AWSCloudTrail", now=NOW).table.num_rows == 3


def test_the_picked_range_is_written_in_and_clips_nothing(
    engine_of: Callable[[Iterable[Record]], Engine],
) -> None:
    engine = engine_of(events(1, 20, 28))
    query = """
    AWSCloudTrail
    | summarize Old = countif(TimeGenerated < datetime({{StartTimeISO}})),
        New = countif(TimeGenerated between (datetime({{StartTimeISO}}) .. datetime({{EndTimeISO}})))
    """
    picked = TimeRange(NOW - timedelta(days=14), NOW)
    assert hunt(engine, query, now=NOW, picked=picked).rows() == [{"Old": 1, "New": 2}]
    assert hunt(engine, query, now=NOW).rows() == [{"Old": 3, "New": 0}]


def test_all_hunts_are_compared_with_a_day_before(engine_of: Callable[[Iterable[Record]], Engine]) -> None:
    engine = engine_of(events(27, 28, 28))
    hunts = [
        made("AWSCloudTrail | where TimeGenerated > ago(2d)"),
        made("Nothing | take 1"),
        made('externaldata(a: string) ["https://lists.example.com/a.csv"]'),
    ]
    done: list[tuple[int, int]] = []
    found = hunt_all(engine, hunts, now=NOW, workers=2, progress=lambda *each: done.append(each))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert found[0] == Hunted(hunts[0], rows=2, before=3)
    assert found[0].delta == -1
    assert (found[1].rows, found[1].delta) == (None, None)
    assert "Nothing" in found[1].reason
    assert found[2].skipped
    assert "lists.example.com" in found[2].reason


def test_all_hunts_take_the_picked_range_and_a_day_before_it_a_day_earlier(
    engine_of: Callable[[Iterable[Record]], Engine],
) -> None:
    engine = engine_of(events(20, 21, 22, 28))
    asked = made(
        "AWSCloudTrail | where TimeGenerated between (datetime({{StartTimeISO}}) .. datetime({{EndTimeISO}}))"
    )
    picked = TimeRange(datetime(2026, 2, 21, tzinfo=UTC), datetime(2026, 2, 24, tzinfo=UTC))
    (found,) = hunt_all(engine, [asked], now=NOW, picked=picked)
    assert (found.rows, found.before) == (2, 3)
    (found,) = hunt_all(engine, [asked], now=NOW)
    assert (found.rows, found.before) == (0, 1)


def test_sums_go_by_tactic_in_the_order_of_the_matrix() -> None:
    def found(rows: int | None, before: int | None, *tactics: str) -> Hunted:
        return Hunted(replace(made("q"), tactics=tactics), rows, before)

    hunted = [
        found(3, 1, "Impact", "Stealth"),
        found(1, 1, "Impact"),
        found(0, 2, "Discovery", "Juggling"),
        found(None, None, "Discovery"),
    ]
    assert by_tactic(hunted) == (
        TacticSum("Stealth", 1, 1, 1),
        TacticSum("Discovery", 2, 0, 0),
        TacticSum("Impact", 2, 2, 1),
        TacticSum("Juggling", 1, 0, 0),
    )
    assert by_tactic([]) == ()
