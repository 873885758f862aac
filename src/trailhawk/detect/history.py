"""Replay rules over the stored history, window by window as a scheduler would have run them.

By event time alone. What a window has found stays recorded; it runs again only when rows have come into what
it looks at since. An alert's id follows from rule, T and row, so a replay never raises the same alert twice.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from trailhawk.detect.alert import Alert
from trailhawk.detect.rule import Rule, RuleKind, Trigger
from trailhawk.detect.run import Leave, Run, run
from trailhawk.detect.schedule import (
    LEARNING,
    SUPPRESSED,
    Window,
    WindowState,
    in_order,
    is_learning,
    windows,
)
from trailhawk.detect.store import AlertStore, WindowRecord
from trailhawk.engine.result import Engine, TimeRange
from trailhawk.errors import QueryError

if TYPE_CHECKING:
    import sqlalchemy as sa

BIN = timedelta(minutes=5)
BATCH = 200
"""Windows without alerts are written together, this many in a transaction."""

LATE = timedelta(hours=48)
"""How late a row may come for the schedule to run windows again that look at it."""

IsQuiet = Callable[[datetime], bool]
"""Whether a rule's query, run at this T, cannot have a result."""

Sink = Callable[[Sequence[Alert]], Callable[["sa.Connection"], None]]
"""What is done with new alerts: prepared outside the transaction, written inside it."""

Reads = Callable[[Rule], Collection[str] | None]
"""The names of the tables that a rule's query reads, by itself or through functions; None if unknown."""

Progress = Callable[[int, int], None]
"""Told after each window how many are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Stored:
    """How many rows each five minutes of a table hold."""

    moments: tuple[datetime, ...]
    sums: tuple[int, ...]
    """Running sum of the rows, one longer than `moments`."""
    first: datetime | None
    last: datetime | None

    def rows(self, start: datetime, end: datetime) -> int:
        """Rows in [start, end), with the whole of the five minutes at either edge."""
        low = bisect_right(self.moments, start - BIN)
        return self.sums[bisect_left(self.moments, end)] - self.sums[low]


def stored(engine: Engine, table: str, *, now: datetime, since: datetime | None = None) -> Stored:
    """What the lake holds of a table; with `since` the counts begin there, `first` is that of all rows."""
    result = engine.query(
        f"['{table}'] | summarize Rows=count(), First=min(TimeGenerated), Last=max(TimeGenerated)"
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


def seen(tables: Iterable[Stored], window: Window) -> int:
    """How many rows are stored of what a window looks at. Have they grown since it ran, rows came late.

    A row that comes late by no more than `LATE` lies no further back from any window that was run meanwhile.
    """
    start = max(window.start, window.at - LATE)
    return sum(table.rows(start, window.at) for table in tables)


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
    replay = _Replay(engine, store, {rule.id: rule for rule in rules}, lake, sink, reads, leave)
    if quiet is not None:
        replay.find_quiet(quiet, start, end)
    due = in_order(window for rule in rules for window in replay.due(rule, start, end))
    for done, each in enumerate(replay.runs(due, workers), start=1):
        replay.take(each)
        if progress is not None:
            progress(done, len(due))
    replay.flush()
    return Summary(start, end, tuple(replay.summary(rule) for rule in rules), tuple(replay.raised))


def _is_final(record: WindowRecord) -> bool:
    return record.state is WindowState.DONE or record.reason == SUPPRESSED


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


class _Replay:
    """The state of one replay: what is written, what waits to be written, which rules are out."""

    def __init__(
        self,
        engine: Engine,
        store: AlertStore,
        rules: Mapping[str, Rule],
        lake: Mapping[str, Stored],
        sink: Sink | None,
        reads: Reads | None,
        leave: Leave | None,
    ) -> None:
        self._engine = engine
        self._leave = leave
        self._tables = {rule.id: tables_of(rule, lake, reads) for rule in rules.values()}
        self._store = store
        self._rules = rules
        self._sink = sink
        self._waiting: list[Run] = []
        self._broken: dict[str, Run] = {}
        """By rule: how a window ended in a way that all its others must."""
        self._raised_at = {
            rule.id: {alert.at for alert in store.alerts(rule_id=rule.id)}
            for rule in rules.values()
            if rule.suppression
        }
        self._counts: Counter[tuple[str, str]] = Counter()
        self._quiet: dict[str, IsQuiet] = {}
        self.raised: list[Alert] = []

    def find_quiet(
        self, quiet: Callable[[Rule, datetime, datetime], IsQuiet], start: datetime, end: datetime
    ) -> None:
        """Look once over history for each rule that raises nothing from no rows."""
        for rule in self._rules.values():
            if not rule.trigger.fires(0, rule.threshold):
                # A query that does not compile fails where it is run, with its reason kept.
                with suppress(QueryError):
                    self._quiet[rule.id] = quiet(rule, start - rule.period, end + rule.frequency)

    def due(self, rule: Rule, start: datetime, end: datetime) -> Iterator[Window]:
        """The windows to run: not those that were run before and have nothing new to look at."""
        tables = self._tables[rule.id]
        known = self._store.windows(rule.id)
        for window in self._windows(rule, start, end):
            rows = seen(tables, window)
            before = known.get(window.at)
            if before and _is_final(before) and before.seen >= rows:
                self._counts[rule.id, "before"] += 1
            elif rule.kind is RuleKind.NRT and rule.trigger is Trigger.GREATER and not rows:
                continue  # a minute without rows cannot give any
            else:
                yield window

    def _windows(self, rule: Rule, start: datetime, end: datetime) -> Iterator[Window]:
        """The rule's windows in [start, end), without those of long times that left no row in its tables.

        One event with a wrong year must not cost a million windows. A query that could have a result without
        any row keeps them all.
        """
        is_quiet = self._quiet.get(rule.id)
        moments = sorted({moment for table in self._tables[rule.id] for moment in table.moments})
        if is_quiet is None or not moments:
            yield from windows(rule, start, end)
            return
        first = max(start, moments[0])
        for moment, following in pairwise(moments):
            unseen = moment + BIN + rule.period
            # What is quiet at one moment without rows is quiet at all of them.
            if following - unseen > rule.frequency and is_quiet(unseen + (following - unseen) / 2):
                if first < min(unseen, end):
                    yield from windows(rule, first, min(unseen, end))
                first = max(start, following)
        if first < end:
            yield from windows(rule, first, end)

    def runs(self, due: Sequence[Window], workers: int) -> Iterator[Run]:
        """Each window run, in the order given."""
        if workers <= 1:
            yield from map(self._run, due)
            return
        with ThreadPoolExecutor(workers) as pool:
            for place in range(0, len(due), BATCH):
                yield from pool.map(self._run, due[place : place + BATCH])

    def _run(self, window: Window) -> Run:
        rule = self._rules[window.rule_id]
        tables = self._tables[rule.id]
        if broken := self._broken.get(rule.id):
            return Run(window, broken.state, broken.reason)
        first = min((s.first for s in tables if s.first), default=None)
        if is_learning(rule, window, first):
            return Run(window, WindowState.SKIPPED, LEARNING)
        is_quiet = self._quiet.get(rule.id)
        if is_quiet is not None and is_quiet(window.at):
            return Run(window, WindowState.DONE, seen=seen(tables, window))
        return run(rule, window, self._engine, seen=seen(tables, window), leave=self._leave)

    def take(self, each: Run) -> None:
        """Take what a window gave, as if all windows before it were finished."""
        window = each.window
        if each.state is WindowState.DONE and self._is_suppressed(window):
            each = Run(window, WindowState.SKIPPED, SUPPRESSED, seen=each.seen)
        if each.is_permanent:
            self._broken.setdefault(window.rule_id, each)
        if each.alerts and window.rule_id in self._raised_at:
            self._raised_at[window.rule_id].add(window.at)
        is_known = each.reason in (LEARNING, SUPPRESSED)
        self._counts[window.rule_id, each.reason if is_known else each.state.value] += 1
        self._waiting.append(each)
        if each.alerts or len(self._waiting) >= BATCH:
            self.flush()

    def _is_suppressed(self, window: Window) -> bool:
        suppression = self._rules[window.rule_id].suppression
        raised_at = self._raised_at.get(window.rule_id, set())
        return suppression is not None and any(at < window.at < at + suppression for at in raised_at)

    def flush(self) -> None:
        """Write the windows that wait, their new alerts and what follows from them, in one transaction."""
        if not self._waiting:
            return
        new = settle(self._store, self._waiting, self._sink)
        self._counts.update((alert.rule_id, "alerts") for alert in new)
        self.raised.extend(new)
        self._waiting.clear()

    def summary(self, rule: Rule) -> RuleSummary:
        count, broken = self._counts, self._broken.get(rule.id)
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
