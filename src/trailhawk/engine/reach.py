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

from trailhawk.engine.activity import Mask, Ticks, Trace, trace_of
from trailhawk.engine.news import look_for
from trailhawk.engine.result import TimeRange
from trailhawk.errors import QueryError
from trailhawk.kql.compiler import compile_for_any_moment
from trailhawk.kql.plan import Node, Scan
from trailhawk.kql.schema import Catalog
from trailhawk.kql.stored import Functions
from trailhawk.kql.witness import leaves

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

    A condition that depends on now() is left out, unless it is a bound of a table's time that moves with it.
    Of a query whose columns follow from its rows, or that does not compile without a moment to take for
    now(), only the time that it reads is looked at.
    """
    if changes.every is None:
        return Reach(())
    try:
        plan = compile_for_any_moment(text, catalog, period=period, functions=functions)
    except QueryError:
        return _by_time(catalog, changes, period, history)
    return Reach(
        tuple(
            trace_of(leaf, rows, history)
            for leaf in leaves(plan, changes.table)
            if (rows := changes.of(leaf.scan)) is not None
        )
    )


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
