"""The replay over history: every window once, nothing twice, late rows found, learning told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trailhawk.detect.alert import Alert
from trailhawk.detect.history import Stored, detect, stored
from trailhawk.detect.rule import Aggregation, Rule, RuleKind, Severity
from trailhawk.detect.rule_file import parse_rule
from trailhawk.detect.spans import place
from trailhawk.detect.store import AlertStore, open_state, sqlite_url
from trailhawk.engine.result import Engine, Result, TimeRange

DAY = datetime(2026, 3, 1, tzinfo=UTC)
NOW = DAY + timedelta(days=90)
HOUR = timedelta(hours=1)


def call(at: datetime, name: str = "ListBuckets") -> dict[str, object]:
    return {
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": "s3.amazonaws.com",
        "eventName": name,
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "Root", "arn": "arn:aws:iam::111122223333:root"},
    }


RULE = Rule(
    id="r",
    name="Deletes",
    query='AWSCloudTrail | where EventName == "DeleteBucket" | project TimeGenerated, AwsEventId',
    kind=RuleKind.SCHEDULED,
    severity=Severity.LOW,
    frequency=HOUR,
    period=HOUR,
    aggregation=Aggregation.PER_RESULT,
)
OLD = [call(DAY), call(DAY + timedelta(hours=5), "DeleteBucket"), call(DAY + timedelta(hours=9))]


@pytest.fixture
def store(tmp_path: Path) -> AlertStore:
    return AlertStore(open_state(sqlite_url(tmp_path / "state.db")))


def replay(engine: Engine, store: AlertStore, *rules: Rule, workers: int = 1) -> list[Alert]:
    summary = detect(engine, store, rules, tables=["AWSCloudTrail"], now=NOW, workers=workers)
    return list(summary.alerts)


def test_every_window_is_run_and_what_fires_is_stored(
    engine_of: Callable[..., Engine], store: AlertStore
) -> None:
    told: list[tuple[int, int]] = []
    summary = detect(
        engine_of(OLD),
        store,
        [RULE],
        tables=["AWSCloudTrail"],
        now=NOW,
        progress=lambda done, total: told.append((done, total)),
    )
    assert summary.rules[0].run == 10
    assert told[-1] == (10, 10)
    (alert,) = summary.alerts
    assert alert.at == DAY + timedelta(hours=6)
    assert store.alerts() == (alert,)
    assert store.pending(0) == ((1, alert),)
    assert store.pending(1) == ()


def test_a_row_came_when_its_event_happened(engine_of: Callable[..., Engine], store: AlertStore) -> None:
    """Rules that look back further than they run often, and take what came since their last run: stored at
    once, each row came since every run."""
    query = f"{RULE.query}, Came = ingestion_time() | where Came > ago(1h)"
    rule = replace(RULE, query=query, period=3 * HOUR)
    engine = engine_of([*OLD, call(DAY + timedelta(hours=5, minutes=30), "DeleteBucket")])
    activity = engine.activity(  # type: ignore[attr-defined]
        query, period=3 * HOUR, frequency=HOUR, history=TimeRange(DAY, DAY + 10 * HOUR, replayed=True)
    )
    summary = detect(
        engine,
        store,
        [rule],
        tables=["AWSCloudTrail"],
        now=NOW,
        quiet=lambda *_: activity.is_quiet,
    )
    assert [alert.at for alert in summary.alerts] == [DAY + 6 * HOUR]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_replay_runs_nothing_and_raises_nothing(
    engine_of: Callable[..., Engine], store: AlertStore, workers: int
) -> None:
    engine = engine_of(OLD)
    assert len(replay(engine, store, RULE, workers=workers)) == 1
    summary = detect(engine, store, [RULE], tables=["AWSCloudTrail"], now=NOW, workers=workers)
    assert (summary.rules[0].run, summary.rules[0].before) == (0, 10)
    assert len(store.alerts()) == 1


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), range(1, 11)),
        (DAY + timedelta(hours=5), None, range(6, 11)),
        (None, DAY + timedelta(hours=5), range(1, 6)),
        (None, DAY - HOUR, range(0)),
        (DAY + timedelta(hours=10), None, range(0)),
    ],
)
def test_only_what_is_stored_is_replayed(
    engine_of: Callable[..., Engine],
    store: AlertStore,
    start: datetime | None,
    end: datetime | None,
    hours: range,
) -> None:
    detect(engine_of(OLD), store, [RULE], tables=["AWSCloudTrail"], now=NOW, start=start, end=end)
    assert sorted(store.windows("r")) == [DAY + hour * HOUR for hour in hours]


@pytest.mark.parametrize(("is_quiet", "hours"), [(True, [1, 2, 3, 41, 42]), (False, list(range(1, 43)))])
def test_a_long_time_without_rows_costs_no_windows_where_nothing_can_be_found_in_it(
    is_quiet: bool, hours: list[int], engine_of: Callable[..., Engine], store: AlertStore
) -> None:
    engine = engine_of([call(DAY + hour * HOUR) for hour in (0, 1, 40, 41)])
    detect(
        engine,
        store,
        [RULE],
        tables=["AWSCloudTrail"],
        now=NOW,
        quiet=lambda *_: lambda at: np.full(len(at), is_quiet),
    )
    assert sorted(store.windows("r")) == [DAY + hour * HOUR for hour in hours]


def test_rows_that_come_late_are_found_by_the_window_they_belong_to(
    engine_of: Callable[..., Engine], store: AlertStore
) -> None:
    replay(engine_of(OLD), store, RULE)
    engine = engine_of([call(DAY + timedelta(hours=5, minutes=30), "DeleteBucket")])
    summary = detect(engine, store, [RULE], tables=["AWSCloudTrail"], now=NOW)
    assert (summary.rules[0].run, summary.rules[0].alerts) == (1, 1)
    assert [alert.at for alert in store.alerts()] == [DAY + timedelta(hours=6)] * 2


def test_a_window_without_history_enough_is_learning(
    engine_of: Callable[..., Engine], store: AlertStore
) -> None:
    baseline = replace(RULE, learning_period=timedelta(hours=4))
    summary = detect(engine_of(OLD), store, [baseline], tables=["AWSCloudTrail"], now=NOW)
    assert (summary.rules[0].learning, summary.rules[0].run) == (3, 7)


def test_a_query_that_names_no_table_has_the_history_of_all(
    engine_of: Callable[..., Engine], store: AlertStore
) -> None:
    two = timedelta(days=2)
    rule = replace(
        RULE, query='search "DeleteBucket" | project TimeGenerated', period=two, learning_period=two
    )
    engine = engine_of([call(DAY), call(DAY + 60 * HOUR, "DeleteBucket")])
    found = detect(engine, store, [rule], tables=["AWSCloudTrail"], now=NOW)
    assert (found.rules[0].learning, found.rules[0].run, found.rules[0].alerts) == (47, 14, 1)
    late = engine_of([call(DAY + 59 * HOUR, "DeleteBucket")])
    assert detect(late, store, [rule], tables=["AWSCloudTrail"], now=NOW).rules[0].run > 0


def test_a_query_that_cannot_be_bound_fails_once_and_loudly(
    engine_of: Callable[..., Engine], store: AlertStore
) -> None:
    broken = replace(RULE, id="b", query="AWSCloudTrail | where Nowhere == 1")
    summary = detect(engine_of(OLD), store, [broken, RULE], tables=["AWSCloudTrail"], now=NOW)
    assert summary.rules[0].failed == 10
    assert "Nowhere" in summary.rules[0].error
    assert summary.rules[1].alerts == 1


def test_a_rule_that_reads_what_is_not_allowed_is_skipped(
    engine_of: Callable[..., Engine], store: AlertStore
) -> None:
    feed = 'externaldata(a: string)["https://feeds.example/list.csv?key=secret"] | project a'
    rule = replace(RULE, id="x", query=f"{RULE.query} | where AwsEventId !in (({feed}))")
    engine = engine_of(OLD)
    for _ in range(2):  # it is asked again each time: the settings may have changed
        summary = detect(engine, store, [rule, RULE], tables=["AWSCloudTrail"], now=NOW)
        skipped = summary.rules[0]
        assert (skipped.skipped, skipped.failed, skipped.alerts) == (10, 0, 0)
        assert skipped.reason == "externaldata feeds.example"
    assert {(run.state.value, run.reason) for run in store.windows("x").values()} == {
        ("skipped", "externaldata feeds.example")
    }


def test_a_fault_in_one_rule_is_its_own(engine_of: Callable[..., Engine], store: AlertStore) -> None:
    engine = engine_of(OLD)

    class Faulty:
        def query(self, text: str, **given: Any) -> Result:
            if "Fault" in text:
                raise ZeroDivisionError("in a function of ours")
            return engine.query(text, **given)

    faulty = replace(RULE, id="f", query='AWSCloudTrail | where EventName == "Fault"')
    summary = detect(Faulty(), store, [faulty, RULE], tables=["AWSCloudTrail"], now=NOW)
    assert (summary.rules[0].failed, summary.rules[1].alerts) == (10, 1)
    assert {run.reason for run in store.windows("f").values()} == {"ZeroDivisionError: in a function of ours"}


def test_suppression_keeps_a_rule_quiet_and_stays_after_a_second_replay(
    engine_of: Callable[..., Engine], store: AlertStore
) -> None:
    quiet = replace(RULE, suppression=timedelta(hours=3))
    engine = engine_of([*OLD, call(DAY + timedelta(hours=6, minutes=1), "DeleteBucket")])
    assert len(replay(engine, store, quiet)) == 1
    assert replay(engine, store, quiet) == []


def test_what_the_sink_writes_is_in_the_same_transaction(
    engine_of: Callable[..., Engine], store: AlertStore
) -> None:
    def failing(alerts: Sequence[Alert]) -> object:
        def write(_: object) -> None:
            raise RuntimeError("disk full")

        return write

    engine = engine_of(OLD)
    with pytest.raises(RuntimeError, match="disk full"):
        detect(engine, store, [RULE], tables=["AWSCloudTrail"], now=NOW, sink=failing)  # type: ignore[arg-type]
    assert store.alerts() == ()
    assert len(replay(engine, store, RULE)) == 1


def test_an_empty_lake_has_nothing_to_replay(engine_of: Callable[..., Engine], store: AlertStore) -> None:
    summary = detect(engine_of([]), store, [RULE], tables=[], now=NOW)
    assert (summary.start, summary.alerts) == (None, ())


def test_a_minute_rule_runs_where_there_are_rows(engine_of: Callable[..., Engine], store: AlertStore) -> None:
    text = f"id: n\nname: n\nkind: NRT\nseverity: Low\nquery: |\n  {RULE.query}\n"
    nrt = parse_rule(text, source="n")
    summary = detect(engine_of(OLD), store, [nrt], tables=["AWSCloudTrail"], now=NOW)
    assert (summary.rules[0].run, summary.rules[0].alerts) == (11, 1)


def test_rows_are_counted_in_steps_of_five_minutes(engine_of: Callable[..., Engine]) -> None:
    held = stored(engine_of(OLD), "AWSCloudTrail", now=NOW)
    assert (held.first, held.last) == (DAY, DAY + timedelta(hours=9))
    starts, ends = [DAY, DAY + timedelta(minutes=5)], [DAY + timedelta(days=1), DAY + timedelta(hours=9)]
    places = [np.array([place(at) for at in each]) for each in (starts, ends)]
    assert held.rows(*places).tolist() == [3, 1]
    assert Stored((), (0,), None, None).rows(*places).tolist() == [0, 0]
