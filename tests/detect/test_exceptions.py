"""Exceptions: what they may say, what they take on every road, what is kept of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from support.calls import DAY, call
from trailhawk.detect.exceptions import (
    EVERY_RULE,
    Exceptions,
    ExceptionState,
    ExceptionStore,
    RuleException,
    draft,
    predicate,
)
from trailhawk.detect.history import detect
from trailhawk.detect.rule import Aggregation, Rule, RuleKind, Severity
from trailhawk.detect.rulebook import RuleStates
from trailhawk.detect.scheduler import DELAY, Scheduler
from trailhawk.detect.store import AlertStore, open_state, sqlite_url
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.errors import NotFoundError, QueryError, TrailhawkError, UsageError
from trailhawk.kql.schema import Column
from trailhawk.kql.types import KqlType

NOW = DAY + timedelta(days=2)
UNTIL = DAY + timedelta(days=30)
HOUR = timedelta(hours=1)
COLUMNS = (
    Column("TimeGenerated", KqlType.DATETIME),
    Column("Address", KqlType.STRING),
    Column("Bag", KqlType.DYNAMIC),
    Column("Long", KqlType.TIMESPAN),
)
RULE = Rule(
    id="deletes",
    name="Deletes",
    query=(
        "AWSCloudTrail | where EventName == 'DeleteBucket' "
        "| project TimeGenerated, Address = SourceIpAddress, Bag = pack('a', SourceIpAddress), Long = 2h, "
        "AwsEventId"
    ),
    kind=RuleKind.SCHEDULED,
    severity=Severity.LOW,
    frequency=HOUR,
    period=HOUR,
    aggregation=Aggregation.PER_RESULT,
)

EngineOf = Callable[[Sequence[dict[str, object]]], DuckDBEngine]


CALLS = [
    call(0, "198.51.100.1", "ListBuckets"),
    call(1.5, "203.0.113.7"),
    call(1.6, "203.0.113.8"),
    call(3.5, "203.0.113.7"),
]


@pytest.fixture
def alerts(tmp_path: Path) -> AlertStore:
    return AlertStore(open_state(sqlite_url(tmp_path / "state.db")))


@pytest.fixture
def store(alerts: AlertStore) -> ExceptionStore:
    return ExceptionStore(alerts.engine)


def drafted(where: str, *rules: Rule, every: bool = False, **members: object) -> RuleException:
    given = {"until": UNTIL, "reason": "agreed", "now": NOW, "by": "ada"} | members
    made, _ = draft(rules or (RULE,), where, columns=lambda _: COLUMNS, every=every, **given)  # type: ignore[arg-type]
    return made


def replay(
    engine: DuckDBEngine, alerts: AlertStore, *exceptions: RuleException, rule: Rule = RULE
) -> list[str]:
    """The hours of the alerts that a replay raises."""
    summary = detect(
        engine,
        alerts,
        [rule],
        tables=["AWSCloudTrail"],
        now=NOW,
        leave=Exceptions(exceptions, engine),
    )
    assert not summary.rules[0].failed
    return [f"{alert.at:%H}" for alert in summary.alerts]


# --- what one may say --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        "Address == '203.0.113.7'",
        "Address has '203.0.113' and TimeGenerated > ago(3d) // the scanner",
        "Bag.a == '203.0.113.7' or Long >= 1h",
        "ipv4_is_in_range(Address, '203.0.113.0/24')",
        "(Address in ('203.0.113.7', '203.0.113.9'))",
        "true",
        "false",
    ],
)
def test_a_predicate_over_the_columns(where: str) -> None:
    predicate(where, COLUMNS, now=NOW)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("true) | extend Address = ('x'", "more than a predicate"),
        ("true) | take (1", "more than a predicate"),
        ("true) | union (AWSCloudTrail", "more than a predicate"),
        ("true); AWSCloudTrail | where (true", "more than a predicate"),
        ("Address in (Rows | project Address)", "a query inside"),
        ("Address == toscalar(Rows | project Address | take 1)", "a query inside"),
        ("Address in (AWSCloudTrail | project SourceIpAddress)", "AWSCloudTrail"),
        ("Address in (externaldata(a:string)['https://example.com/x'])", ""),
        ("Adress == 'x'", "Adress"),
        ("Address", "a bool is expected"),
        ("Address > 3", ""),
        ("Address == 'x", ""),
        ("", ""),
        ("(" * 5000 + "true" + ")" * 5000, ""),
    ],
)
def test_more_than_a_predicate_is_refused_with_its_place(where: str, told: str) -> None:
    with pytest.raises(QueryError) as caught:
        predicate(where, COLUMNS, now=NOW)
    assert told in str(caught.value)
    span = caught.value.span
    assert span is None or 0 <= span.start <= span.end <= len(where)
    caught.value.render(where)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"reason": "  "}, "needs a reason"),
        ({"reason": "x" * 2001}, "longer than 2,000"),
        ({"until": NOW}, "is past"),
    ],
)
def test_what_is_missing_is_told(members: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        drafted("true", **members)


def test_a_hunt_has_none() -> None:
    with pytest.raises(UsageError, match="hunt"):
        drafted("true", replace(RULE, kind=RuleKind.HUNTING))


def test_of_every_rule_that_has_the_columns() -> None:
    other = replace(RULE, id="other")
    columns = {"deletes": COLUMNS, "other": (Column("Name", KqlType.STRING),)}

    def made(where: str) -> tuple[RuleException, tuple[Rule, ...]]:
        return draft(
            [RULE, other],
            where,
            columns=lambda rule: columns[rule.id],
            until=UNTIL,
            reason="agreed",
            now=NOW,
            by="ada",
            every=True,
        )

    exception, rules = made("Address == '203.0.113.7'")
    assert (exception.rule_id, rules) == (EVERY_RULE, (RULE,))
    assert made("true")[1] == (RULE, other)
    with pytest.raises(UsageError, match="no rule has the columns"):
        made("Nowhere == 1")
    with pytest.raises(QueryError, match="predicate"):
        made("true) | take (1")


# --- what they take ----------------------------------------------------------------------------------------


def test_detect_passes_over_the_rows_and_counts_them(
    engine_of: EngineOf, alerts: AlertStore, store: ExceptionStore
) -> None:
    engine = engine_of(CALLS)
    made = store.add(drafted("Address == '203.0.113.7'"))
    assert replay(engine, alerts, *store.all()) == ["02"]
    count = store.counts()[made.id]
    assert (count.rows, count.windows, count.last) == (2, 2, DAY + 4 * HOUR)
    assert alerts.windows("deletes")[DAY + 4 * HOUR].state.value == "done"


def test_the_schedule_passes_over_them_too_and_a_window_counts_once(
    engine_of: EngineOf, alerts: AlertStore, store: ExceptionStore
) -> None:
    engine_of(CALLS[:3])
    made = store.add(drafted("Address == '203.0.113.7'"))
    now = DAY + 2 * HOUR + DELAY

    def round_() -> list[str]:
        scheduler = Scheduler(
            alerts,
            RuleStates(alerts.engine),
            owner="one",
            clock=lambda: now,
            leave=lambda: Exceptions(store.all(), engine),
        )
        return [str(alert.at.hour) for alert in scheduler.round(engine, [RULE], ["AWSCloudTrail"]).alerts]

    engine = engine_of([])
    assert round_() == ["2"]
    assert store.counts()[made.id].rows == 1
    engine = engine_of([call(1.7, "203.0.113.7"), call(1.8, "203.0.113.9")])
    assert round_() == ["2"], "the late row that nothing takes"
    assert (store.counts()[made.id].rows, store.counts()[made.id].windows) == (2, 1)


def test_the_oldest_takes_first_and_the_day_is_that_of_the_window(
    engine_of: EngineOf, alerts: AlertStore, store: ExceptionStore
) -> None:
    engine = engine_of(CALLS)
    whole = replace(drafted("true"), until=DAY + 4 * HOUR)
    first, second = store.add(drafted("Address endswith '.7'")), store.add(whole)
    assert replay(engine, alerts, *store.all()) == []
    counts = store.counts()
    assert (counts[first.id].rows, counts[second.id].rows) == (2, 1)
    ended = replace(drafted("Address endswith '.7'"), until=DAY + 4 * HOUR)
    again = AlertStore(open_state("sqlite://"))
    assert replay(engine, again, ended) == ["02", "04"], "the window at its day is not touched"


def test_values_of_every_type_and_no_value(engine_of: EngineOf, alerts: AlertStore) -> None:
    engine = engine_of(CALLS)
    where = "tostring(Bag.a) endswith '.8' and Long == 2h and TimeGenerated < now()"
    assert replay(engine, alerts, drafted(where)) == ["02", "04"]
    nothing = AlertStore(open_state("sqlite://"))
    assert len(replay(engine, nothing, drafted("toint(Address) > 1"))) == 3


def test_one_that_does_not_fit_any_more_takes_nothing_and_tells(
    engine_of: EngineOf, alerts: AlertStore, store: ExceptionStore
) -> None:
    engine = engine_of(CALLS)
    made = store.add(drafted("Address == '203.0.113.7'"))
    every = store.add(drafted("Address == '203.0.113.7'", every=True))
    changed = replace(RULE, query=RULE.query.replace("Address =", "From ="))
    assert replay(engine, alerts, *store.all(), rule=changed) == ["02", "02", "04"]
    count = store.counts()[made.id]
    assert count.rows == 0
    assert "Address" in count.error
    assert count.last is None
    assert every.id not in store.counts(), "of every rule means: of those with its columns"


def test_columns_of_one_name_but_for_case(engine_of: EngineOf, alerts: AlertStore) -> None:
    engine = engine_of(CALLS)
    twice = replace(RULE, query=RULE.query + " | extend address = 'y', Place = 1, Place_ = 2")
    assert replay(engine, alerts, drafted("Address == '203.0.113.7'"), rule=twice) == ["02"]


# --- what is kept ------------------------------------------------------------------------------------------


def test_made_and_removed_both_are_kept(store: ExceptionStore) -> None:
    made = store.add(drafted("Address == 'x'"))
    assert store.all() == (made,) == store.of(RULE)
    assert store.of(replace(RULE, id="other")) == ()
    assert made.state(NOW) is ExceptionState.ACTIVE
    assert made.state(UNTIL) is ExceptionState.EXPIRED
    removed = store.remove(made.id, now=NOW + HOUR, by="eve", why="not needed")
    assert store.all() == ()
    assert store.all(removed=True) == (removed,)
    assert (removed.removed_by, removed.removed_why, removed.removed_at) == ("eve", "not needed", NOW + HOUR)
    assert removed.state(NOW) is ExceptionState.REMOVED
    with pytest.raises(NotFoundError):
        store.remove(made.id, now=NOW, by="eve")
    with pytest.raises(TrailhawkError):
        store.exception(99)


def test_a_removed_one_takes_nothing(engine_of: EngineOf, alerts: AlertStore, store: ExceptionStore) -> None:
    engine = engine_of(CALLS)
    made = store.add(drafted("true"))
    store.remove(made.id, now=NOW, by="ada")
    assert len(replay(engine, alerts, *store.all(removed=True))) == 3
