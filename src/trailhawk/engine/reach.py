"""How far a change of some rows of a table reaches: the runs of a query that may have another result by it.

A result rests on the rows that get through the filters right above each scan. Where no changed row gets
through any of them, neither as it was nor as it is now, the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from trailhawk.engine.activity import SHIFT, Mask, Ticks, Trace, asks_for_a_calendar, trace_of
from trailhawk.engine.news import look_for
from trailhawk.engine.result import TimeRange
from trailhawk.errors import QueryError
from trailhawk.kql.compiler import compile_query
from trailhawk.kql.plan import Node, Scan
from trailhawk.kql.scalars import ticks_of
from trailhawk.kql.schema import Catalog
from trailhawk.kql.stored import Functions
from trailhawk.kql.witness import Leaf, leaves

if TYPE_CHECKING:
    import pyarrow as pa

Rows = Callable[[Node], "pa.Table"]
"""Gives the rows of a plan."""


@dataclass(frozen=True)
class Changes:
    """Rows of a table that are gone, and rows in which these `columns` (stored names) are others.

    `gone` reads the table as if it held nothing but the former, `every` as if it held both: the latter as
    they were and as they are. None where there are none.
    """

    table: str
    columns: frozenset[str]
    gone: Rows | None
    every: Rows | None

    def of(self, scan: Scan) -> Rows | None:
        """The changes that a scan sees."""
        return self.every if self.columns.intersection(scan.stored) else self.gone


@dataclass(frozen=True)
class Reach:
    """Where in history the changed rows stand that a query reads."""

    traces: tuple[Trace, ...]

    def __bool__(self) -> bool:
        return any(len(each.minutes) for each in self.traces)

    def touches(self, moments: Ticks) -> Mask:
        """Whether the query, run with now() at one of these moments (microseconds since the Unix epoch), may
        have another result. True proves nothing."""
        touched = np.zeros(len(moments), bool)
        for each in self.traces:
            touched |= ~each.is_empty(moments * 10)
        return touched


def reach(
    text: str,
    catalog: Catalog,
    changes: Changes,
    *,
    period: timedelta,
    history: TimeRange,
    functions: Functions | None,
) -> Reach:
    """How far changes reach into the runs of a rule's query, whose window is [now - period, now).

    A condition that depends on now() is found by compiling for two moments, and left out. Of a query whose
    columns follow from its rows, or that asks for parts of a date, only the time that it reads is looked at.
    """
    if changes.every is None:
        return Reach(())
    assert history.end is not None
    moments = (history.end, history.end - SHIFT)
    try:
        one, other = (
            leaves(
                compile_query(text, catalog, now=now, start=now - period, end=now, functions=functions).plan,
                changes.table,
            )
            for now in moments
        )
    except QueryError:
        return _by_time(catalog, changes, period, history)
    if asks_for_a_calendar(text, functions) or not _are_alike(one, other):
        return _by_time(catalog, changes, period, history)
    at = [ticks_of(now) for now in moments]
    return Reach(
        tuple(
            trace_of(a, b, at, rows, history)
            for a, b in zip(one, other, strict=True)
            if (rows := changes.of(a.scan)) is not None
        )
    )


def _are_alike(one: tuple[Leaf, ...], other: tuple[Leaf, ...]) -> bool:
    return [(leaf.scan.stored, len(leaf.conditions)) for leaf in one] == [
        (leaf.scan.stored, len(leaf.conditions)) for leaf in other
    ]


def _by_time(catalog: Catalog, changes: Changes, period: timedelta, history: TimeRange) -> Reach:
    """The runs whose window holds any change: as if the query read all of the table."""
    whole = f"['{changes.table}']"
    return reach(whole, catalog, changes, period=period, history=history, functions=None)


def reads_any(plan: Node, changes: Changes) -> bool:
    """Whether an optimized plan reads a changed row."""
    return any(
        rows(look_for(leaf)[1]).num_rows > 0
        for leaf in leaves(plan, changes.table)
        if (rows := changes.of(leaf.scan)) is not None
    )
