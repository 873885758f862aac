"""Whether a query over many rows lacks the few that its result must rest on: then it need not be run.

A rule asks for the last hour's rows of a kind, and compares them with weeks of rows. Mostly there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from trailhawk.engine.reading import MANY, Reading
from trailhawk.kql.functions import FUNCTIONS
from trailhawk.kql.passes import nodes, scans
from trailhawk.kql.plan import (
    Call,
    ColumnRef,
    Const,
    Expr,
    Limit,
    Node,
    OutColumn,
    Project,
    Scan,
    Shared,
    filtered,
)
from trailhawk.kql.records import replace
from trailhawk.kql.types import KqlType
from trailhawk.kql.witness import Leaf, covers

_NARROW: Final = 0.25
"""A look reads at most this share of the rows that the largest scan reads."""

_ONE: Final = OutColumn(1, "One", KqlType.LONG)


def is_without_news(plan: Node, reading: Reading, has_rows: Callable[[Node], bool]) -> bool:
    """Whether an optimized plan over a large table cannot have a result. False proves nothing.

    `has_rows` tells whether a plan gives a row; it is asked only of short times.
    """
    if all(reading.rows(scan) < MANY for scan in _tables(plan, set())):
        return False
    most = max((reading.rows(scan) for scan in scans(plan)), default=0)
    if most < MANY:
        return False
    for cover in covers(plan):
        looks = [look_for(leaf) for leaf in cover]
        if all(reading.rows(scan) <= _NARROW * most for scan, _ in looks) and not any(
            has_rows(look) for _, look in looks
        ):
            return True
    return False


def _tables(node: Node, seen: set[int]) -> Iterator[Scan]:
    """A scan of each table as a whole that is read below a node."""
    for each in nodes(node):
        if isinstance(each, Scan):
            yield replace(each, since=None, until=None)
        elif isinstance(each, Shared) and each.key not in seen:
            seen.add(each.key)
            yield from _tables(each.plan, seen)


def look_for(leaf: Leaf) -> tuple[Scan, Node]:
    """The scan of a leaf's time, and the plan of one of its rows."""
    scan = replace(leaf.scan, since=leaf.low, until=leaf.high)
    time = scan.event_time
    bounds = [
        _compared(time, test, ticks)
        for test, ticks in ((">=", leaf.low), ("<", leaf.high))
        if time and ticks is not None
    ]
    node = filtered(scan, (*bounds, *leaf.conditions))
    return scan, Limit((_ONE,), Project((_ONE,), node, (Const(KqlType.LONG, 1),)), 1)


def _compared(time: ColumnRef, test: str, ticks: int) -> Expr:
    overload = FUNCTIONS[test].resolve((KqlType.DATETIME, KqlType.DATETIME), (False, False))
    assert overload is not None
    return Call(KqlType.BOOL, overload, (time, Const(KqlType.DATETIME, ticks)))
