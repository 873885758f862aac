"""A replay that keeps quiet windows as spans tells, raises and records what one window by window does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from trailhawk.detect.history import BIN, LATE, IsQuiet, RuleSummary, Stored, detect
from trailhawk.detect.rule import Aggregation, Rule, RuleKind, Severity, Trigger
from trailhawk.detect.run import Run
from trailhawk.detect.schedule import LEARNING, SUPPRESSED, Window, WindowState, is_learning, windows
from trailhawk.detect.spans import Moments, Span, covered, done_since, known, moment_at, place, spans, write
from trailhawk.detect.store import AlertStore, WindowRecord, open_state, spans_table
from trailhawk.engine.result import TimeRange
from trailhawk.errors import NotAllowedError

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DONE, SKIPPED = WindowState.DONE, WindowState.SKIPPED


@dataclass(frozen=True)
class Row:
    at: datetime
    name: str


@dataclass
class Log:
    """Rows that come one after the other; a rule's query is the name of those that it asks for."""

    rows: list[Row] = field(default_factory=list)

    def query(self, text: str, *, now: datetime, window: TimeRange) -> Any:
        if text == "forbidden":
            raise NotAllowedError("externaldata feeds.example")
        assert window.start is not None
        assert window.end is not None
        return _Found(
            [
                {"TimeGenerated": row.at, "Name": row.name}
                for row in self.rows
                if row.name == text and window.start <= row.at < window.end
            ]
        )

    def held(self) -> Stored:
        bins = Counter(row.at - (row.at - START) % BIN for row in self.rows)
        moments = tuple(sorted(bins))
        sums = [0]
        for moment in moments:
            sums.append(sums[-1] + bins[moment])
        times = sorted(row.at for row in self.rows)
        return Stored(moments, tuple(sums), times[0] if times else None, times[-1] if times else None)

    def quiet(self, rule: Rule, start: datetime, end: datetime) -> IsQuiet:
        """A look that is not always sure: of T at odd hours nothing is said where any row lies near."""
        rows = list(self.rows)

        def one(at: datetime) -> bool:
            near = [row for row in rows if at - rule.period <= row.at < at]
            wanted = "forbidden rows" if rule.query == "forbidden" else rule.query
            return not any(row.name == wanted for row in near) and not (near and at.hour % 2)

        return lambda moments: np.array([one(moment_at(each)) for each in moments.tolist()], np.bool_)


@dataclass
class _Found:
    found: list[dict[str, object]]

    def rows(self) -> list[dict[str, object]]:
        return self.found


class Plain:
    """What `detect` did before there were spans: each window by itself, a record for each."""

    def __init__(self) -> None:
        self.known: dict[str, dict[datetime, WindowRecord]] = {}
        self.alerts: dict[str, set[datetime]] = {}

    def detect(
        self, log: Log, rules: list[Rule], start: datetime | None, end: datetime | None
    ) -> tuple[list[RuleSummary], set[tuple[str, datetime]]]:
        held, summaries, raised = log.held(), [], set()
        if held.first is None or held.last is None:
            return [_summary(rule, Counter()) for rule in rules], set()
        start, end = max(start or held.first, held.first), min(end or held.last + _TICK, held.last + _TICK)
        for rule in rules:
            count: Counter[str] = Counter()
            if start < end:
                raised |= {(rule.id, at) for at in self._rule(log, held, rule, start, end, count)}
            summaries.append(_summary(rule, count))
        return summaries, raised

    def _rule(
        self, log: Log, held: Stored, rule: Rule, start: datetime, end: datetime, count: Counter[str]
    ) -> Iterator[datetime]:
        known = self.known.setdefault(rule.id, {})
        alerts = self.alerts.setdefault(rule.id, set())
        fires = rule.trigger.fires(0, rule.threshold)
        quiet = None if fires else log.quiet(rule, start, end)
        is_broken, fired, fresh = False, set(alerts), []
        for window in self._windows(held, rule, start, end, quiet):
            rows, before = _seen(held, rule, window), known.get(window.at)
            if before and (before.state is DONE or before.reason == SUPPRESSED) and before.seen >= rows:
                count["before"] += 1
                continue
            if rule.kind is RuleKind.NRT and not rows:
                continue
            record = WindowRecord(DONE, "", rows)
            found = [
                row.at for row in log.rows if row.name == rule.query and window.start <= row.at < window.at
            ]
            if is_broken:
                record = WindowRecord(SKIPPED, "externaldata feeds.example", 0)
            elif is_learning(rule, window, held.first):
                record = WindowRecord(SKIPPED, LEARNING, 0)
            elif rule.query == "forbidden" and not _is_quiet(quiet, window.at):
                is_broken, record = True, WindowRecord(SKIPPED, "externaldata feeds.example", rows)
            if record.state is DONE:
                suppression = rule.suppression or timedelta(0)
                if any(at <= window.at < at + suppression for at in fired):
                    record = WindowRecord(SKIPPED, SUPPRESSED, rows)
                elif rule.trigger.fires(len(found), rule.threshold):
                    fired.add(window.at)
                    fresh.append(window.at)
            known[window.at] = record
            name = record.reason if record.reason in (LEARNING, SUPPRESSED) else record.state.value
            count[name] += 1
        alerts.update(fresh)
        yield from fresh

    @staticmethod
    def _windows(
        held: Stored, rule: Rule, start: datetime, end: datetime, quiet: IsQuiet | None
    ) -> Iterable[Window]:
        if quiet is None:
            return list(windows(rule, start, end))
        found, first = [], max(start, held.moments[0])
        for moment, following in zip(held.moments, held.moments[1:], strict=False):
            unseen = moment + BIN + rule.period
            middle = unseen + (following - unseen) / 2
            if following - unseen > rule.frequency and _is_quiet(quiet, middle):
                found += list(windows(rule, first, min(unseen, end))) if first < min(unseen, end) else []
                first = max(start, following)
        return [*found, *(windows(rule, first, end) if first < end else ())]


_TICK = timedelta(microseconds=1)


def _is_quiet(quiet: IsQuiet | None, at: datetime) -> bool:
    return quiet is not None and bool(quiet(np.array([place(at)]))[0])


def _seen(held: Stored, rule: Rule, window: Window) -> int:
    start = max(window.start, window.at - LATE)
    counts = zip(held.moments, held.sums, held.sums[1:], strict=False)
    return sum(after - before for at, before, after in counts if start - BIN < at < window.at)


def _summary(rule: Rule, count: Mapping[str, int]) -> RuleSummary:
    return RuleSummary(
        rule,
        run=count.get("done", 0),
        before=count.get("before", 0),
        learning=count.get(LEARNING, 0),
        suppressed=count.get(SUPPRESSED, 0),
        failed=0,
        alerts=0,
        skipped=count.get("skipped", 0),
    )


def _rule(number: int, query: str, hours: tuple[int, int], **members: Any) -> Rule:
    return Rule(
        id=f"r{number}",
        name=query,
        query=query,
        kind=RuleKind.SCHEDULED,
        severity=Severity.LOW,
        frequency=hours[0] * HOUR,
        period=hours[1] * HOUR,
        aggregation=Aggregation.SINGLE,
        **members,
    )


LENGTHS = st.sampled_from([(1, 1), (1, 5), (2, 2), (3, 72), (6, 24), (24, 24)])
RULES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "none", "forbidden"]),
        LENGTHS,
        st.fixed_dictionaries(
            {
                "trigger": st.sampled_from([Trigger.GREATER, Trigger.GREATER, Trigger.LESS]),
                "threshold": st.sampled_from([0, 1]),
                "suppression": st.sampled_from([None, 5 * HOUR, 30 * HOUR]),
                "learning_period": st.sampled_from([None, None, 10 * HOUR, 4 * DAY]),
            }
        ),
    ),
    min_size=1,
    max_size=4,
).map(lambda found: [_rule(n, query, hours, **more) for n, (query, hours, more) in enumerate(found)])
ROWS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 5, 11]),  # bursts, days apart
        st.integers(0, 400),
        st.sampled_from(["a", "b", "c", "forbidden rows"]),
    ).map(lambda found: Row(START + found[0] * DAY + found[1] * MINUTE, found[2])),
    max_size=8,
)
MOMENTS = st.none() | st.integers(0, 12 * 24).map(lambda hours: START + hours * HOUR)
STEPS = st.lists(st.tuples(ROWS, MOMENTS, MOMENTS, LENGTHS, st.integers(0, 300)), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(RULES, STEPS)
def test_spans_change_nothing_that_is_told(rules: list[Rule], steps: list[Any]) -> None:
    """Rows and late rows come, a rule's frequency is changed, a window is due again: replay after replay."""
    state = open_state("sqlite://")
    store, plain, log = AlertStore(state), Plain(), Log()
    for rows, start, end, hours, place_of_due in steps:
        log.rows += rows
        held = {"Events": log.held()}
        found = detect(
            log,  # type: ignore[arg-type]  # is asked with a window alone
            store,
            rules,
            tables=["Events"],
            now=START + 30 * DAY,
            start=start,
            end=end,
            quiet=log.quiet,
            held=held,
        )
        summaries, raised = plain.detect(log, rules, start, end)
        told = [replace(each, reason="", alerts=0) for each in found.rules]
        assert told == summaries
        assert {(alert.rule_id, alert.at) for alert in found.alerts} <= raised
        ids = {(alert.rule_id, alert.at) for alert in store.alerts()}
        assert ids == {(rule_id, at) for rule_id, each in plain.alerts.items() for at in each}
        for rule in rules:
            assert store.windows(rule.id) == plain.known.get(rule.id, {})
        # A window of a rule becomes due by a row of its own, whether a span had it or not.
        at = START + place_of_due * HOUR
        again = Run(Window(rules[0].id, at, at, at), WindowState.DUE)
        with state.begin() as connection:
            store.record(connection, [again], ())
        plain.known.setdefault(rules[0].id, {})[at] = WindowRecord(WindowState.DUE, "", 0)
        rules = [replace(rules[0], frequency=hours[0] * HOUR), *rules[1:]]
    state.dispose()


def _places(*hours: int) -> Moments:
    return np.array([place(START + hour * HOUR) for hour in hours], np.int64)


def _hours(places: Moments) -> list[int]:
    return [(moment_at(each) - START) // HOUR for each in places.tolist()]


SIZE = place(START + HOUR) - place(START)


def _span(
    first: int, last: int, seen: int, state: WindowState = DONE, reason: str = "", step: int = 1
) -> Span:
    start, end = _places(first, last).tolist()
    return Span(step * SIZE, start, end, state, reason, seen)


def test_windows_that_ended_alike_become_one_span() -> None:
    found = spans(SIZE, _places(1, 2, 3, 5, 6, 7), np.array([4, 4, 4, 4, 0, 0]), DONE)
    assert list(found) == [_span(1, 3, 4), _span(5, 5, 4), _span(6, 7, 0)]
    assert list(spans(SIZE, _places(), np.array([], np.int64), DONE)) == []


def test_what_is_written_later_counts_and_what_follows_is_joined() -> None:
    store = AlertStore(open_state("sqlite://"))

    def stored() -> list[tuple[int, ...]]:
        with store.reading() as connection:
            c = spans_table.c
            rows = connection.execute(sa.select(c.step, c.first_at, c.last_at, c.seen).order_by(c.number))
            return [
                (row.step // SIZE, *_hours(np.array([row.first_at, row.last_at])), row.seen) for row in rows
            ]

    with store.engine.begin() as connection:
        write(connection, "r", [_span(0, 9, 0)])
        write(connection, "r", [_span(10, 19, 0)])
    assert stored() == [(1, 0, 19, 0)]
    with store.engine.begin() as connection:
        write(connection, "r", [_span(5, 6, 3), _span(8, 8, 2)])
    assert stored() == [(1, 0, 4, 0), (1, 5, 6, 3), (1, 7, 7, 0), (1, 8, 8, 2), (1, 9, 19, 0)]
    with store.engine.begin() as connection:
        write(connection, "r", [_span(4, 12, 7, step=4)])  # now every four hours
        assert known(connection, "r", _places(3, 4, 5, 8, 12, 13, 20)).tolist() == [0, 7, 3, 7, 7, 0, -1]
        write(connection, "r", [_span(2, 8, 0)])
        assert known(connection, "r", _places(3, 4, 5, 8, 12, 13, 20)).tolist() == [0, 0, 0, 0, 7, 0, -1]
        assert covered(connection, "r", _places(0, 19, 20)).tolist() == [True, True, False]
        assert covered(connection, "other", _places(0, 19, 20)).tolist() == [False] * 3


def test_a_row_counts_before_a_span_and_a_span_takes_only_rows_that_saw_less() -> None:
    store = AlertStore(open_state("sqlite://"))

    def record(hour: int, state: WindowState, seen: int) -> None:
        at = START + hour * HOUR
        with store.engine.begin() as connection:
            store.record(connection, [Run(Window("r", at, at, at), state, seen=seen)], ())

    for hour, state, seen in ((1, DONE, 9), (2, DONE, 1), (3, WindowState.DUE, 0), (9, DONE, 1)):
        record(hour, state, seen)
    with store.engine.begin() as connection:
        write(connection, "r", [_span(0, 6, 4)])
        assert known(connection, "r", _places(0, 1, 2, 3, 9)).tolist() == [4, 9, 4, 4, 1]
    record(5, WindowState.DUE, 0)
    with store.engine.begin() as connection:
        assert known(connection, "r", _places(4, 5, 6)).tolist() == [4, -1, 4]
        found, counts = done_since(connection, "r", place(START + 3 * HOUR))
        assert (_hours(found), counts.tolist()) == ([4, 6], [4, 4])
        write(connection, "r", [_span(4, 5, 0, SKIPPED, LEARNING)])
        assert known(connection, "r", _places(3, 4, 5, 6)).tolist() == [4, -1, -1, 4]
        assert _hours(done_since(connection, "r", place(START))[0]) == [2, 3, 6]
    assert [at for at, each in store.windows("r").items() if each.seen == 9] == [START + HOUR]
    assert store.first_window() == START
