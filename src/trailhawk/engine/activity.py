"""When a query could have had a result at all: a cheap look over history before it is replayed there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from trailhawk.engine.result import TimeRange
from trailhawk.kql.compiler import compile_for_any_moment
from trailhawk.kql.functions import FUNCTIONS
from trailhawk.kql.plan import (
    NOW,
    Aggregate,
    Call,
    ColumnRef,
    Const,
    Node,
    OutColumn,
    Scan,
    filtered,
    references,
)
from trailhawk.kql.records import replace
from trailhawk.kql.scalars import ticks_of
from trailhawk.kql.schema import Catalog
from trailhawk.kql.stored import Functions
from trailhawk.kql.types import TICKS_PER_SECOND, KqlType
from trailhawk.kql.witness import Groups, Leaf, covers, moving

if TYPE_CHECKING:
    import pyarrow as pa

Ticks = np.ndarray[tuple[int], np.dtype[np.int64]]
Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]
MINUTE = 60 * TICKS_PER_SECOND
_MOST_PHASES, _RUNS_A_PHASE = 8, 4
"""A row is grouped for as many runs as look at it, one after the other: for so many at most, or for one of so
many runs that would be made. Each of these costs more than to read a few columns of the history."""

_FEW_RUNS = 4
"""So few runs are made rather than looked into."""


@dataclass(frozen=True)
class Trace:
    """The minutes (ticks, sorted) with rows that a leaf asks for, and its bounds as offsets from now."""

    minutes: Ticks
    low: int | None
    high: int | None
    grid: int = 0
    """Ticks from one run to the next, at multiples of them, where `runs` says something of these."""
    runs: Ticks | None = None
    """Of such runs those whose rows come to what their groups must come to, sorted."""

    def is_empty(self, now: Ticks) -> Mask:
        """Of each of these moments, whether a run then finds nothing here."""
        return self._has_no_rows(now) | self._has_no_groups(now)

    def _has_no_groups(self, now: Ticks) -> Mask:
        if self.runs is None:
            return np.zeros(len(now), bool)
        is_run: Mask = now % self.grid == 0
        return is_run & ~np.isin(now, self.runs)

    def _has_no_rows(self, now: Ticks) -> Mask:
        first = 0 if self.low is None else np.searchsorted(self.minutes, now + self.low - MINUTE, "right")
        end = (
            len(self.minutes) if self.high is None else np.searchsorted(self.minutes, now + self.high, "left")
        )
        return np.broadcast_to(np.asarray(end <= first), now.shape)


@dataclass(frozen=True)
class Activity:
    """Where a query's necessary rows stand in history."""

    covers: tuple[tuple[Trace, ...], ...]

    def is_quiet(self, moments: Ticks) -> Mask:
        """True where the query, run with now() at one of these moments (microseconds since the Unix epoch),
        cannot give a row. False proves nothing."""
        now, quiet = moments * 10, np.zeros(len(moments), bool)
        for cover in self.covers:
            empty = np.ones(len(now), bool)
            for trace in cover:
                empty &= trace.is_empty(now)
            quiet |= empty
        return quiet


def activity(
    text: str,
    catalog: Catalog,
    run: Callable[[Node], pa.Table],
    *,
    period: timedelta,
    history: TimeRange,
    functions: Functions | None,
    frequency: timedelta | None = None,
) -> Activity:
    """The activity behind a rule's query, whose window is [now - period, now).

    `run` gives the rows of a plan. A condition that depends on now() is left out, unless it is a bound of a
    table's time that moves with it. With `frequency`, between runs at its multiples since the Unix epoch,
    what groups of rows must come to is looked at too. Raises QueryError where the query does not compile, or
    not without a moment to take for now().
    """
    plan = compile_for_any_moment(
        text, catalog, period=period, functions=functions, replayed=history.replayed
    )
    return Activity(
        tuple(tuple(_trace(leaf, run, history, frequency) for leaf in cover) for cover in covers(plan))
    )


def _trace(
    leaf: Leaf, run: Callable[[Node], pa.Table], history: TimeRange, frequency: timedelta | None
) -> Trace:
    trace = trace_of(leaf, run, history)
    if frequency is None or leaf.groups is None:
        return trace
    return _grouped(trace, leaf.groups, run, history, frequency)


def _grouped(
    trace: Trace,
    groups: Groups,
    run: Callable[[Node], pa.Table],
    history: TimeRange,
    frequency: timedelta,
) -> Trace:
    """The trace, with the runs whose groups come to what they must, where that can be told."""
    grid = frequency // timedelta(microseconds=1) * 10
    low, high, steady, others = moving(groups.scan, groups.conditions)
    args = (arg for call in groups.aggregates for arg in call.args)
    if low is None or high is None or others or any(NOW.id in references(e) for e in (*groups.keys, *args)):
        return trace
    groups = replace(groups, conditions=steady)
    width = high - low
    if width <= 0 or width % grid:
        return trace
    runs_made = _busy(trace, grid, history)
    if runs_made < _FEW_RUNS or width // grid > max(_MOST_PHASES, runs_made // _RUNS_A_PHASE):
        return trace
    # Windows of this width that touch but do not overlap hold each row once: as many sets of them as there
    # are runs in a width.
    runs = [_runs(groups, low + phase * grid, width, run, history) - low for phase in range(width // grid)]
    return replace(trace, grid=grid, runs=np.unique(np.concatenate(runs)))


def _busy(trace: Trace, grid: int, history: TimeRange) -> int:
    """How many runs have rows at all."""
    assert history.start is not None
    assert history.end is not None
    first, last = ticks_of(history.start) // grid, ticks_of(history.end) // grid
    return int(np.count_nonzero(~trace.is_empty(np.arange(first * grid, last * grid, grid))))


def _runs(
    groups: Groups, start: int, width: int, run: Callable[[Node], pa.Table], history: TimeRange
) -> Ticks:
    """The starts of those windows of this width, one of which begins at `start`, with a group that satisfies
    what is asked."""
    scan = _within(groups.scan, groups.low, groups.high, history)
    time = scan.event_time
    assert time is not None
    node = filtered(scan, groups.conditions)
    into = FUNCTIONS["bin_at"].resolve(
        (KqlType.DATETIME, KqlType.TIMESPAN, KqlType.DATETIME), (False, False, False)
    )
    assert into is not None
    place = Call(
        KqlType.DATETIME,
        into,
        (
            time,
            Const(KqlType.TIMESPAN, width),
            Const(KqlType.DATETIME, start),
        ),
    )
    fresh = max(column.id for column in (*scan.columns, *groups.columns)) + 1
    window = OutColumn(fresh, "At", KqlType.DATETIME)
    keys, measures = groups.columns[: len(groups.keys)], groups.columns[len(groups.keys) :]
    node = Aggregate((*keys, window, *measures), node, (*groups.keys, place), groups.aggregates)
    node = filtered(node, groups.having)
    column = OutColumn(fresh + 1, "Window", KqlType.DATETIME)
    return _moments(run(Aggregate((column,), node, (ColumnRef(KqlType.DATETIME, fresh),), ())))


def trace_of(leaf: Leaf, run: Callable[[Node], pa.Table], history: TimeRange) -> Trace:
    """The trace of a leaf of a plan for any moment."""
    low, high, steady, _ = moving(leaf.scan, leaf.conditions)
    scan = _within(leaf.scan, leaf.low, leaf.high, history)
    time = scan.event_time
    if not time:
        return Trace(np.zeros(1, np.int64), None, None)
    minute = FUNCTIONS["bin"].resolve((KqlType.DATETIME, KqlType.TIMESPAN), (False, False))
    assert minute is not None
    key = Call(KqlType.DATETIME, minute, (time, Const(KqlType.TIMESPAN, MINUTE)))
    column = OutColumn(max(c.id for c in scan.columns) + 1, "At", KqlType.DATETIME)
    return Trace(_moments(run(Aggregate((column,), filtered(scan, steady), (key,), ()))), low, high)


def _within(scan: Scan, low: int | None, high: int | None, history: TimeRange) -> Scan:
    """The scan of what lies in history, and in [low, high)."""
    since = None if history.start is None else ticks_of(history.start)
    until = None if history.end is None else ticks_of(history.end)
    return replace(
        scan,
        since=max((each for each in (since, low) if each is not None), default=None),
        until=min((each for each in (until, high) if each is not None), default=None),
    )


def _moments(rows: pa.Table) -> Ticks:
    """The first column's times as ticks, sorted."""
    return np.sort(rows.column(0).to_numpy().astype("datetime64[us]").astype(np.int64) * 10)
