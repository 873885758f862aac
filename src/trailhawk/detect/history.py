"""Replay rules over the stored history, window by window as a scheduler would have run them.

By event time alone. What was ingested since an NRT rule has a schedule is left to that, which goes by
ingestion: it would be raised again at another T. What a window has found stays recorded; it runs again only
when rows have come into what it looks at since. An alert's id follows from rule, T and row, so a replay never
raises the same alert twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from heapq import merge
from itertools import accumulate, islice
from typing import TYPE_CHECKING

import numpy as np

from trailhawk.detect.alert import Alert
from trailhawk.detect.rule import Rule, RuleKind, Trigger
from trailhawk.detect.run import Leave, Run, run
from trailhawk.detect.schedule import LEARNING, SUPPRESSED, Window, WindowState
from trailhawk.detect.spans import (
    Counts,
    Mask,
    Moments,
    Span,
    known,
    micros,
    place,
    regular,
    spans,
    window_at,
    write,
)
from trailhawk.detect.store import AlertStore
from trailhawk.engine.result import Engine, TimeRange
from trailhawk.errors import QueryError

if TYPE_CHECKING:
    import sqlalchemy as sa

BIN = timedelta(minutes=5)
BATCH = 200
"""Windows without alerts are written together, this many in a transaction."""

LATE = timedelta(hours=48)
"""How late a row may come for the schedule to run windows again that look at it."""

IsQuiet = Callable[[Moments], Mask]
"""Of each of these T, whether a rule's query, run then, cannot have a result."""

Sink = Callable[[Sequence[Alert]], Callable[["sa.Connection"], None]]
"""What is done with new alerts: prepared outside the transaction, written inside it."""

Reads = Callable[[Rule], Collection[str] | None]
"""The names of the tables that a rule's query reads, by itself or through functions; None if unknown."""

Progress = Callable[[int, int], None]
"""Told after each window that needs its query how many of these are done, and of how many."""


@dataclass(frozen=True)
class Stored:
    """How many rows each five minutes of a table hold."""

    moments: tuple[datetime, ...]
    sums: tuple[int, ...]
    """Running sum of the rows, one longer than `moments`."""
    first: datetime | None
    last: datetime | None

    def rows(self, starts: Moments, ends: Moments) -> Counts:
        """Rows in each [start, end), with the whole of the five minutes at either edge."""
        low = np.searchsorted(self.places, starts - micros(BIN), "right")
        return self._sums[np.searchsorted(self.places, ends)] - self._sums[low]

    @cached_property
    def places(self) -> Moments:
        """`moments` in microseconds since the Unix epoch."""
        return np.array([place(moment) for moment in self.moments], np.int64)

    @cached_property
    def _sums(self) -> Counts:
        return np.array(self.sums, np.int64)


def stored(
    engine: Engine,
    table: str,
    *,
    now: datetime,
    since: datetime | None = None,
    before: datetime | None = None,
) -> Stored:
    """What the lake holds of a table; with `since` the counts begin there, `first` is that of all rows; with
    `before` only what was ingested before then."""
    ingested = f" | where ingestion_time() < datetime({before.isoformat()})" if before else ""
    result = engine.query(
        f"['{table}']{ingested} | summarize Rows=count(), First=min(TimeGenerated), Last=max(TimeGenerated)"
        " by Bin=bin(TimeGenerated, 5m) | sort by Bin asc",
        now=now,
        window=TimeRange(since, None) if since else None,
    )
    moments, counts, firsts, lasts = [], [], [], []
    for row in result.rows():
        bin_start, rows, first, last = row["Bin"], row["Rows"], row["First"], row["Last"]
        if not isinstance(bin_start, datetime) or not isinstance(rows, int):
            continue  # rows without a time belong to no window
        moments.append(bin_start)
        counts.append(rows)
        firsts.append(first)
        lasts.append(last)
    sums = tuple(accumulate(counts, initial=0))
    first = firsts[0] if firsts and isinstance(firsts[0], datetime) else None
    last = lasts[-1] if lasts and isinstance(lasts[-1], datetime) else None
    if since is not None:
        oldest = engine.query(f"['{table}'] | summarize First=min(TimeGenerated)", now=now).rows()[0]["First"]
        first = oldest if isinstance(oldest, datetime) else None
    return Stored(tuple(moments), sums, first, last)


def tables_of(rule: Rule, lake: Mapping[str, Stored], reads: Reads | None = None) -> list[Stored]:
    """The tables that a rule's query reads; where `reads` does not tell, those it names, or else all."""
    read = reads(rule) if reads else None
    if read is not None:
        return [table for name, table in lake.items() if name in read]
    named = [name for name in lake if re.search(rf"\b{re.escape(name)}\b", rule.query)]
    return [lake[name] for name in named or lake]


def seen(tables: Iterable[Stored], rule: Rule, at: Moments) -> Counts:
    """How many rows are stored of what the windows at these T look at. Have they grown since one ran, rows
    came late.

    A row that comes late by no more than `LATE` lies no further back from any window that was run meanwhile.
    """
    starts = at - micros(min(rule.period, LATE))
    return sum((table.rows(starts, at) for table in tables), np.zeros(len(at), np.int64))


@dataclass(frozen=True, slots=True)
class RuleSummary:
    """What the replay did with one rule."""

    rule: Rule
    run: int
    before: int
    """Windows that had been run earlier and have nothing new to look at."""
    learning: int
    suppressed: int
    failed: int
    alerts: int
    error: str = ""
    skipped: int = 0
    """Windows of a rule that reads what the settings do not allow; `reason` says what."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a replay did. `alerts` are the new ones, in order of their runs."""

    start: datetime | None
    end: datetime | None
    rules: tuple[RuleSummary, ...]
    alerts: tuple[Alert, ...]


def detect(
    engine: Engine,
    store: AlertStore,
    rules: Iterable[Rule],
    *,
    tables: Sequence[str],
    now: datetime,
    start: datetime | None = None,
    end: datetime | None = None,
    sink: Sink | None = None,
    progress: Progress | None = None,
    workers: int = 1,
    quiet: Callable[[Rule, datetime, datetime], IsQuiet] | None = None,
    reads: Reads | None = None,
    leave: Leave | None = None,
    held: Mapping[str, Stored] | None = None,
) -> Summary:
    """Run every due window of these rules over what is stored, of [start, end) where these are given.

    `tables` are the tables of the lake that hold rows. `quiet` tells, for a rule and a stretch of history,
    at which T its query cannot have a result: such a window is done without being run. With more than one
    worker, queries run side by side (the engine must allow it); what they find is still taken in order of
    time. `leave` takes out what exceptions take. With `held` the windows are those of a lake that holds
    this.
    """
    lake = held if held is not None else {table: stored(engine, table, now=now) for table in tables}
    first = min((s.first for s in lake.values() if s.first), default=None)
    last = max((s.last + timedelta(microseconds=1) for s in lake.values() if s.last), default=None)
    rules = tuple(rule for rule in rules if rule.kind is not RuleKind.HUNTING)
    if first and last:
        start, end = max(start or first, first), min(end or last, last)
    if not (first and last and start and end and start < end):
        return Summary(start, end, tuple(RuleSummary(rule, 0, 0, 0, 0, 0, 0) for rule in rules), ())
    held_by = {rule.id: lake for rule in rules} | _unseen(engine, store, rules, tables, now)
    read = {rule.id: tables_of(rule, held_by[rule.id], reads) for rule in rules}
    replay = _Replay(engine, store, {rule.id: rule for rule in rules}, read, sink, leave)
    if quiet is not None:
        replay.find_quiet(quiet, start, end)
    for rule in rules:
        replay.plan(rule, place(start), place(end))
    for each in replay.runs(workers):
        replay.take(each)
        if progress is not None:
            progress(replay.done, replay.due)
    replay.flush()
    for rule in rules:
        replay.finish(rule)
    return Summary(start, end, tuple(replay.summary(rule) for rule in rules), tuple(replay.raised))


def _unseen(
    engine: Engine, store: AlertStore, rules: Iterable[Rule], tables: Sequence[str], now: datetime
) -> dict[str, dict[str, Stored]]:
    """Of NRT rules that have a schedule: what was ingested before this began."""
    starts = store.schedule_starts()
    nrt = {rule.id for rule in rules if rule.kind is RuleKind.NRT} & starts.keys()
    held = {
        start: {table: stored(engine, table, now=now, before=start) for table in tables}
        for start in {starts[rule_id] for rule_id in nrt}
    }
    return {rule_id: held[starts[rule_id]] for rule_id in nrt}


def settle(
    store: AlertStore,
    runs: Sequence[Run],
    sink: Sink | None,
    also: Callable[[sa.Connection], None] = lambda _: None,
) -> tuple[Alert, ...]:
    """Write how windows ended, their new alerts, what follows from these, and `also`, in one transaction.

    What follows is prepared before it, since the lake is asked for it; again where another process has come
    to know some of the alerts in between. The alerts that were new.
    """
    new = [alert for each in runs for alert in each.alerts]
    while True:
        with store.reading() as connection:
            new = list(store.new_alerts(connection, new))
        write = sink(new) if sink and new else None
        with store.engine.begin() as connection:
            if len(store.new_alerts(connection, new)) < len(new):
                continue
            store.record(connection, runs, new)
            if write is not None:
                write(connection)
            also(connection)
            return tuple(new)


@dataclass(slots=True)
class _Plan:
    """What is due of one rule: the windows with a query to run, and spans of those without."""

    step: int
    due: Moments
    seen: Counts
    quiet: list[Span]
    learning: list[Span]
    begun: int = 0
    """How many of those `due` were handed out to be run."""
    broken: Run | None = None
    """How a window ended in a way that all later ones must."""


class _Replay:
    """The state of one replay: what is due, what waits to be written, which rules are out."""

    def __init__(
        self,
        engine: Engine,
        store: AlertStore,
        rules: Mapping[str, Rule],
        tables: Mapping[str, Sequence[Stored]],
        sink: Sink | None,
        leave: Leave | None,
    ) -> None:
        self._engine = engine
        self._leave = leave
        self._tables = tables
        self._store = store
        self._rules = rules
        self._sink = sink
        self._waiting: list[Run] = []
        self._plans: dict[str, _Plan] = {}
        self._raised_at = {
            rule.id: {alert.at for alert in store.alerts(rule_id=rule.id)}
            for rule in rules.values()
            if rule.suppression
        }
        self._counts: Counter[tuple[str, str]] = Counter()
        self._quiet: dict[str, IsQuiet] = {}
        self.raised: list[Alert] = []
        self.due = 0
        """The windows with a query to run, and how many of them are done."""
        self.done = 0

    def find_quiet(
        self, quiet: Callable[[Rule, datetime, datetime], IsQuiet], start: datetime, end: datetime
    ) -> None:
        """Look once over history for each rule that raises nothing from no rows."""
        for rule in self._rules.values():
            if not rule.trigger.fires(0, rule.threshold):
                # A query that does not compile fails where it is run, with its reason kept.
                with suppress(QueryError):
                    self._quiet[rule.id] = quiet(rule, start - rule.period, end + rule.frequency)

    def plan(self, rule: Rule, start: int, end: int) -> None:
        """Find the windows to run: not those that were run before and have nothing new to look at."""
        tables, step = self._tables[rule.id], micros(rule.frequency)
        at = self._windows(rule, start, end)
        rows = seen(tables, rule, at)
        with self._store.reading() as connection:
            is_before = known(connection, rule.id, at) >= rows
        self._counts[rule.id, "before"] += int(np.count_nonzero(is_before))
        is_due = ~is_before
        if rule.kind is RuleKind.NRT and rule.trigger is Trigger.GREATER:
            is_due &= rows > 0  # a minute without rows cannot give any
        at, rows = at[is_due], rows[is_due]
        learns = _is_learning(rule, tables, at)
        learning = list(spans(step, at[learns], 0 * rows[learns], WindowState.SKIPPED, LEARNING))
        at, rows = at[~learns], rows[~learns]
        is_quiet = self._quiet.get(rule.id, _never)(at)
        quiet = list(spans(step, at[is_quiet], rows[is_quiet], WindowState.DONE))
        self._plans[rule.id] = _Plan(step, at[~is_quiet], rows[~is_quiet], quiet, learning)
        self.due += len(self._plans[rule.id].due)

    def _windows(self, rule: Rule, start: int, end: int) -> Moments:
        """T of the rule's windows in [start, end), without those of long times without a row in its tables.

        One event with a wrong year must not cost a million windows. A query that could have a result without
        any row keeps them all.
        """
        is_quiet, tables = self._quiet.get(rule.id), self._tables[rule.id]
        held = np.unique(np.concatenate([_NONE, *(table.places for table in tables)]))
        if is_quiet is None or not len(held):
            return regular(rule.frequency, start, end)
        unseen, following = held[:-1] + micros(BIN + rule.period), held[1:]
        is_long = following - unseen > micros(rule.frequency)
        unseen, following = unseen[is_long], following[is_long]
        # What is quiet at one moment without rows is quiet at all of them.
        is_left_out = is_quiet(unseen + (following - unseen) // 2)
        starts = np.maximum([held[0], *following[is_left_out]], start).tolist()
        ends = np.minimum([*unseen[is_left_out], end], end).tolist()
        stretches = [each for each in zip(starts, ends, strict=True) if each[0] < each[1]]
        return np.concatenate([_NONE, *(regular(rule.frequency, *each) for each in stretches)])

    def runs(self, workers: int) -> Iterator[Run]:
        """Each window that needs its query, run: in order of time, at one time in order of the rules' ids."""
        due = merge(*(self._due(rule_id, plan) for rule_id, plan in self._plans.items()))
        if workers <= 1:
            yield from (self._run(*each) for each in due)
            return
        with ThreadPoolExecutor(workers) as pool:
            while batch := list(islice(due, BATCH)):
                yield from pool.map(lambda each: self._run(*each), batch)

    @staticmethod
    def _due(rule_id: str, plan: _Plan) -> Iterator[tuple[int, str, int]]:
        """T, rule and rows seen of the windows of a rule, until it is found to be broken."""
        while plan.begun < len(plan.due) and plan.broken is None:
            at, rows = int(plan.due[plan.begun]), int(plan.seen[plan.begun])
            plan.begun += 1
            yield at, rule_id, rows

    def _run(self, at: int, rule_id: str, rows: int) -> Run:
        rule = self._rules[rule_id]
        window = window_at(rule, at)
        if broken := self._plans[rule_id].broken:
            return Run(window, broken.state, broken.reason)
        return run(rule, window, self._engine, seen=rows, replayed=True, leave=self._leave)

    def take(self, each: Run) -> None:
        """Take what a window gave, as if all windows before it were finished."""
        window = each.window
        if each.state is WindowState.DONE and self._is_suppressed(window):
            each = Run(window, WindowState.SKIPPED, SUPPRESSED, seen=each.seen)
        plan = self._plans[window.rule_id]
        self.done += 1
        if each.is_permanent and plan.broken is None:
            plan.broken = each
            self.done += len(plan.due) - plan.begun
        if each.alerts and window.rule_id in self._raised_at:
            self._raised_at[window.rule_id].add(window.at)
        self._count(window.rule_id, each.state, each.reason)
        self._waiting.append(each)
        if each.alerts or len(self._waiting) >= BATCH:
            self.flush()

    def _is_suppressed(self, window: Window) -> bool:
        suppression = self._rules[window.rule_id].suppression
        raised_at = self._raised_at.get(window.rule_id, set())
        return suppression is not None and any(at <= window.at < at + suppression for at in raised_at)

    def flush(self) -> None:
        """Write the windows that wait, their new alerts and what follows from them, in one transaction."""
        if not self._waiting:
            return
        new = settle(self._store, self._waiting, self._sink)
        self._counts.update((alert.rule_id, "alerts") for alert in new)
        self.raised.extend(new)
        self._waiting.clear()

    def finish(self, rule: Rule) -> None:
        """Write the windows of a rule that needed no query, now that it is known how its others ended."""
        plan = self._plans[rule.id]
        at, rows = _each(plan.quiet)
        ended = list(plan.learning)
        if broken := plan.broken:
            is_after = at > place(broken.window.at)
            rest = np.sort(np.concatenate([at[is_after], plan.due[plan.begun :]]))
            ended += spans(plan.step, rest, 0 * rest, broken.state, broken.reason)
            at, rows = at[~is_after], rows[~is_after]
        is_out = self._are_suppressed(rule, at)
        ended += spans(plan.step, at[is_out], rows[is_out], WindowState.SKIPPED, SUPPRESSED)
        ended += spans(plan.step, at[~is_out], rows[~is_out], WindowState.DONE)
        if ended:
            with self._store.engine.begin() as connection:
                write(connection, rule.id, ended)
        for span in ended:
            self._count(rule.id, span.state, span.reason, span.windows)

    def _are_suppressed(self, rule: Rule, at: Moments) -> Mask:
        """Of windows at these T, which an alert suppresses: an earlier one, or their own of a run before."""
        raised = np.sort(np.array([place(each) for each in self._raised_at.get(rule.id, ())], np.int64))
        if rule.suppression is None or not len(raised):
            return np.zeros(len(at), bool)
        last = np.searchsorted(raised, at, "right") - 1
        return (last >= 0) & (at < raised[last] + micros(rule.suppression))

    def _count(self, rule_id: str, state: WindowState, reason: str, windows: int = 1) -> None:
        self._counts[rule_id, reason if reason in (LEARNING, SUPPRESSED) else state.value] += windows

    def summary(self, rule: Rule) -> RuleSummary:
        count, broken = self._counts, self._plans[rule.id].broken
        return RuleSummary(
            rule,
            run=count[rule.id, WindowState.DONE.value],
            before=count[rule.id, "before"],
            learning=count[rule.id, LEARNING],
            suppressed=count[rule.id, SUPPRESSED],
            failed=count[rule.id, WindowState.FAILED.value],
            alerts=count[rule.id, "alerts"],
            error=broken.reason if broken and broken.state is WindowState.FAILED else "",
            skipped=count[rule.id, WindowState.SKIPPED.value],
            reason=broken.reason if broken and broken.state is WindowState.SKIPPED else "",
        )


_NONE = np.zeros(0, np.int64)


def _never(at: Moments) -> Mask:
    return np.zeros(len(at), bool)


def _is_learning(rule: Rule, tables: Iterable[Stored], at: Moments) -> Mask:
    """Of windows at these T, for which the stored history begins too late, see `is_learning`."""
    if not rule.history_needed:
        return np.zeros(len(at), bool)
    first = min((table.first for table in tables if table.first), default=None)
    if first is None:
        return np.ones(len(at), bool)
    return at < place(first) + micros(rule.history_needed)


def _each(found: Sequence[Span]) -> tuple[Moments, Counts]:
    """T of all windows of the spans, in order of time, and the rows that each has seen."""
    at = [np.arange(span.first, span.last + 1, span.step) for span in found]
    counts = np.array([span.seen for span in found], np.int64)
    return np.concatenate([_NONE, *at]), np.repeat(counts, [len(each) for each in at])
