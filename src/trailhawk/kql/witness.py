"""Which rows of which tables a query's result must rest on: none of them, no result.

A rule replayed over weeks finds nothing in most of its windows. The conditions found here are run once
over all the history; a window without a matching row need not be run at all. They are necessary, never
sufficient: a condition that cannot be carried down to a table is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trailhawk.kql.passes import conjuncts, optimize
from trailhawk.kql.plan import (
    Aggregate,
    Apply,
    Call,
    ColumnRef,
    Const,
    Expr,
    Filter,
    InQuery,
    Join,
    JoinKind,
    Limit,
    Node,
    Project,
    ScalarQuery,
    Scan,
    Shared,
    Sort,
    Union,
    Unnest,
    Values,
    Window,
    references,
    substitute,
    walk,
)
from trailhawk.kql.types import KqlType

MAX_COVERS = 4


@dataclass(frozen=True)
class Leaf:
    """Rows of one table: those that satisfy all `conditions`, with a time in [low, high) in ticks."""

    scan: Scan
    conditions: tuple[Expr, ...]
    low: int | None
    high: int | None


Cover = tuple[Leaf, ...]
"""Leaves that between them feed every result row: are all of them empty, so is the result."""


def covers(plan: Node) -> tuple[Cover, ...]:
    """Each a proof of emptiness on its own; none where the result may have rows without any input."""
    return tuple(_covers(plan, ())[:MAX_COVERS])


def _covers(node: Node, above: Sequence[Expr]) -> list[Cover]:
    match node:
        case Scan():
            return [(_leaf(node, above),)]
        case Values():
            return [] if node.rows else [()]
        case Apply():
            return []
        case Filter():
            return _covers(node.input, (*above, *conjuncts(node.predicate)))
        case Project():
            values = {c.id: v for c, v in zip(node.columns, node.values, strict=True)}
            return _covers(node.input, [substitute(item, values) for item in above])
        case Sort() | Limit() | Window() | Unnest():
            return _covers(node.input, above)
        case Aggregate():
            if not node.keys:
                return []
            keys = {c.id: key for c, key in zip(node.columns, node.keys, strict=False)}
            return _covers(node.input, [substitute(item, keys) for item in above])
        case Union():
            return _all_of(
                [
                    _covers(
                        item,
                        [
                            substitute(one, {c.id: v for c, v in zip(node.columns, row, strict=True)})
                            for one in above
                        ],
                    )
                    for item, row in zip(node.inputs, node.values, strict=True)
                ]
            )
        case Join():
            return _joined(node, above)
        case Shared():
            sources = {
                c.id: ColumnRef(c.type, source) for c, source in zip(node.columns, node.sources, strict=True)
            }
            return _covers(optimize(node.plan), [substitute(item, dict(sources)) for item in above])
    raise AssertionError(type(node))


def _joined(node: Join, above: Sequence[Expr]) -> list[Cover]:
    """Conditions above reach a side only where the join does not fill it with nulls."""
    match node.kind:
        case JoinKind.INNER | JoinKind.INNER_UNIQUE | JoinKind.LEFT_SEMI | JoinKind.RIGHT_SEMI:
            return [*_covers(node.left, above), *_covers(node.right, above)]
        case JoinKind.LEFT_OUTER | JoinKind.LEFT_ANTI:
            return _covers(node.left, above)
        case JoinKind.RIGHT_OUTER | JoinKind.RIGHT_ANTI:
            return _covers(node.right, above)
        case JoinKind.FULL_OUTER:
            return _all_of([_covers(node.left, ()), _covers(node.right, ())])


def _all_of(parts: list[list[Cover]]) -> list[Cover]:
    """One cover made of one of each part; none if a part has none."""
    if not all(parts):
        return []
    return [tuple(leaf for part in parts for leaf in part[0])]


def _leaf(scan: Scan, above: Sequence[Expr]) -> Leaf:
    own = {column.id for column in scan.columns}
    times = {c.id for c, s in zip(scan.columns, scan.stored, strict=True) if s == scan.table.time_column}
    low: int | None = None
    high: int | None = None
    kept: list[Expr] = []
    for condition in above:
        match condition:
            case Call(args=(ColumnRef(id=id_), Const(type=KqlType.DATETIME, value=int() as ticks))) if (
                id_ in times and condition.overload.name in ("<", "<=", ">", ">=")
            ):
                if condition.overload.name in (">", ">="):
                    low = ticks if low is None else max(low, ticks)
                else:
                    end = ticks + (condition.overload.name == "<=")
                    high = end if high is None else min(high, end)
            case _:
                read = references(condition)
                # A query inside has time bounds of its own, so it holds for this window alone.
                alone = any(isinstance(part, InQuery | ScalarQuery) for part in walk(condition))
                if read and read <= own and not alone:
                    kept.append(condition)
    return Leaf(scan, tuple(kept), low, high)
