"""When a query could have had a result at all: a cheap look over history before it is replayed there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from trailhawk.engine.result import TimeRange
from trailhawk.kql.compiler import compile_query
from trailhawk.kql.functions import FUNCTIONS
from trailhawk.kql.plan import Aggregate, Call, ColumnRef, Const, Filter, Node, OutColumn
from trailhawk.kql.records import replace
from trailhawk.kql.scalars import ticks_of
from trailhawk.kql.schema import Catalog
from trailhawk.kql.stored import Functions
from trailhawk.kql.types import TICKS_PER_SECOND, KqlType
from trailhawk.kql.witness import Leaf, covers

if TYPE_CHECKING:
    import pyarrow as pa

MINUTE = 60 * TICKS_PER_SECOND
_SHIFT = timedelta(days=1)


@dataclass(frozen=True)
class _Trace:
    """The minutes (ticks, sorted) with rows that a leaf asks for, and its bounds as offsets from now."""

    minutes: np.ndarray[tuple[int], np.dtype[np.int64]]
    low: int | None
    high: int | None

    def is_empty(self, now: int) -> bool:
        first = (
            0 if self.low is None else int(np.searchsorted(self.minutes, now + self.low - MINUTE, "right"))
        )
        end = (
            len(self.minutes)
            if self.high is None
            else int(np.searchsorted(self.minutes, now + self.high, "left"))
        )
        return end <= first


@dataclass(frozen=True)
class Activity:
    """Where a query's necessary rows stand in history."""

    covers: tuple[tuple[_Trace, ...], ...]

    def is_quiet(self, at: datetime) -> bool:
        """True where the query, run with now() = `at`, cannot give a row. False proves nothing."""
        now = ticks_of(at)
        return any(all(trace.is_empty(now) for trace in cover) for cover in self.covers)


def activity(
    text: str,
    catalog: Catalog,
    run: Callable[[Node], pa.Table],
    *,
    period: timedelta,
    history: TimeRange,
    functions: Functions | None,
) -> Activity:
    """The activity behind a rule's query, whose window is [now - period, now).

    `run` gives the rows of a plan. A condition that depends on now() is found by compiling for two
    moments, and left out. Raises QueryError where the query does not compile.
    """
    assert history.end is not None
    moments = (history.end, history.end + _SHIFT)
    one, other = (
        covers(compile_query(text, catalog, now=now, start=now - period, end=now, functions=functions).plan)
        for now in moments
    )
    at = [ticks_of(now) for now in moments]
    found = []
    for first, second in zip(one, other, strict=True):
        found.append(tuple(_trace(a, b, at, run, history) for a, b in zip(first, second, strict=True)))
    return Activity(tuple(found))


def _trace(
    one: Leaf, other: Leaf, at: list[int], run: Callable[[Node], pa.Table], history: TimeRange
) -> _Trace:
    steady = tuple(a for a, b in zip(one.conditions, other.conditions, strict=True) if a == b)
    low, high = (_offset(a, b, at) for a, b in ((one.low, other.low), (one.high, other.high)))
    scan = replace(
        one.scan,
        since=None if history.start is None else ticks_of(history.start),
        until=None if history.end is None else ticks_of(history.end),
    )
    times = [c for c, s in zip(scan.columns, scan.stored, strict=True) if s == scan.table.time_column]
    if not times:
        return _Trace(np.zeros(1, np.int64), None, None)
    node: Node = scan
    for condition in steady:
        node = Filter(node.columns, node, condition)
    minute = FUNCTIONS["bin"].resolve((KqlType.DATETIME, KqlType.TIMESPAN), (False, False))
    assert minute is not None
    key = Call(
        KqlType.DATETIME, minute, (ColumnRef(KqlType.DATETIME, times[0].id), Const(KqlType.TIMESPAN, MINUTE))
    )
    column = OutColumn(max(c.id for c in scan.columns) + 1, "At", KqlType.DATETIME)
    rows = run(Aggregate((column,), node, (key,), ()))
    minutes = rows.column(0).to_numpy().astype("datetime64[us]").astype(np.int64) * 10
    return _Trace(np.sort(minutes), low, high)


def _offset(one: int | None, other: int | None, at: list[int]) -> int | None:
    """A bound as a distance from now; None where it does not move with now."""
    if one is None or other is None or one - at[0] != other - at[1]:
        return None
    return one - at[0]
