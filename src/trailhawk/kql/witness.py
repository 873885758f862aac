"""Which rows of which tables a query's result must rest on: none of them, no result.

A rule replayed over weeks finds nothing in most of its windows. The conditions found here are run once
over all the history; a window without a matching row need not be run at all. They are necessary, never
sufficient: a condition that cannot be carried down to a table is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from trailhawk.kql.passes import below, conjuncts, is_fresh, is_random, optimize, shared_plans
from trailhawk.kql.plan import (
    NOW,
    Aggregate,
    AggregateCall,
    Apply,
    Call,
    ColumnRef,
    Const,
    Expr,
    Filter,
    Join,
    JoinKind,
    Limit,
    Node,
    OutColumn,
    Project,
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
from trailhawk.kql.records import replace
from trailhawk.kql.types import TICKS_PER_SECOND, KqlType

MAX_COVERS = 4

_COMPARISONS: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""Each with what says the same of the sides the other way round."""

_MICROSECOND: Final = TICKS_PER_SECOND // 1_000_000

_FAR: Final = 2**62
"""Ticks further than from any moment to any other, which can still be added to one."""

_MEASURES: Final = frozenset(
    ["count", "countif", "sum", "sumif", "min", "minif", "max", "maxif", "dcount", "dcountif", "avg", "avgif"]
)
"""Aggregates that give the same for the same rows, in whatever order they come."""

_MOST_PARTS: Final = 5_000
"""Of the conditions and keys of a group: written out over the scan's columns they may grow."""


@dataclass(frozen=True)
class Groups:
    """What groups of rows must come to: of rows of one table that satisfy all `conditions`, with a time in
    [low, high) in ticks, grouped by `keys`, there must be a group that satisfies all of `having`.

    Exactly the rows that the query groups. Of a plan for any moment all but `having` may read NOW. `columns`
    are those of the keys, then those of the aggregates.
    """

    scan: Scan
    conditions: tuple[Expr, ...]
    low: int | None
    high: int | None
    columns: tuple[OutColumn, ...]
    keys: tuple[Expr, ...]
    aggregates: tuple[AggregateCall, ...]
    having: tuple[Expr, ...]


@dataclass(frozen=True)
class Leaf:
    """Rows of one table: those that satisfy all `conditions`, with a time in [low, high) in ticks.

    Of a plan for any moment the conditions may read NOW.
    """

    scan: Scan
    conditions: tuple[Expr, ...]
    low: int | None
    high: int | None
    groups: Groups | None = None


Cover = tuple[Leaf, ...]
"""Leaves that between them feed every result row: are all of them empty, so is the result."""


def covers(plan: Node) -> tuple[Cover, ...]:
    """Each a proof of emptiness on its own; none where the result may have rows without any input."""
    return tuple(_covers(plan, ())[:MAX_COVERS])


def leaves(plan: Node, table: str) -> tuple[Leaf, ...]:
    """The rows of a table that an optimized plan reads: of the table its result rests on these alone."""
    plans = (plan, *shared_plans(plan).values())
    return tuple(leaf for each in plans for leaf in _leaves(each, table))


def _leaves(node: Node, table: str) -> Iterator[Leaf]:
    last, chain = node, list[Filter | Project]()
    while isinstance(last, Filter | Project):
        chain.append(last)
        last = last.input
    if not isinstance(last, Scan):
        for each in below(last):
            yield from _leaves(each, table)
    elif last.table.name == table:
        yield _needed(node, last)
    for step in chain:
        for each in below(step):
            if each is not step.input:
                yield from _leaves(each, table)


def _needed(node: Node, scan: Scan) -> Leaf:
    """The rows of a scan that get through the filters and projections above it."""
    rows = _rows(node)
    assert rows is not None
    leaf = _leaf(scan, () if is_random(node) else rows[1])
    lows = [low for low in (leaf.low, scan.since) if low is not None]
    highs = [high for high in (leaf.high, scan.until) if high is not None]
    return replace(leaf, low=max(lows, default=None), high=min(highs, default=None))


def _covers(node: Node, above: Sequence[Expr]) -> list[Cover]:
    match node:
        case Scan():
            return [(_leaf(node, above),)]
        case Values():
            return [] if node.rows else [()]
        case Apply():
            return [cover for place in node.feeders for cover in _covers(node.inputs[place], ())]
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
            found = _covers(node.input, [substitute(item, keys) for item in above])
            groups = _groups(node, above)
            return [(replace(leaf, groups=groups),) for (leaf,) in found] if groups else found
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
    """Covers made of one of each part: the first ones, and the smallest ones; none if a part has none."""
    if not all(parts):
        return []
    first = tuple(leaf for part in parts for leaf in part[0])
    smallest = tuple(leaf for part in parts for leaf in min(reversed(part), key=len))
    return [first] if smallest == first else [first, smallest]


def _groups(node: Aggregate, above: Sequence[Expr]) -> Groups | None:
    """What the conditions above a grouping of one table's rows ask of the groups; None where nothing."""
    keys = node.columns[: len(node.keys)]
    measures = dict(zip(node.columns[len(node.keys) :], node.aggregates, strict=True))
    by = {column.id for column in keys}
    steady = {column.id for column, call in measures.items() if call.function.name in _MEASURES}
    having = tuple(one for one in above if _asks_of(one, steady, by) and not _is_alone(one))
    rows = _rows(node.input) if having else None
    if rows is None:
        return None
    scan, conditions, values = rows
    low, high, rest = _bounded(scan, conditions)
    asked = {id_ for one in having for id_ in references(one)}
    used = {column: call for column, call in measures.items() if column.id in asked}
    groups = Groups(
        replace(scan, since=None, until=None),
        tuple(rest),
        low,
        high,
        (*keys, *used),
        tuple(substitute(key, values) for key in node.keys),
        tuple(
            replace(call, args=tuple(substitute(arg, values) for arg in call.args)) for call in used.values()
        ),
        having,
    )
    return groups if _is_worth_while(groups) else None


def _asks_of(condition: Expr, steady: set[int], keys: set[int]) -> bool:
    """Whether a condition is one on the steady measures of a group, and its keys, alone."""
    read = references(condition)
    return bool(read & steady) and read <= steady | keys


def _is_worth_while(groups: Groups) -> bool:
    """Neither with a query or what is random inside nor grown out of hand."""
    args = (arg for call in groups.aggregates for arg in call.args)
    parts = [
        part for each in (*groups.conditions, *groups.keys, *args) for part in islice(walk(each), _MOST_PARTS)
    ]
    return len(parts) < _MOST_PARTS and not any(map(is_fresh, parts))


def _rows(node: Node) -> tuple[Scan, list[Expr], dict[int, Expr]] | None:
    """The scan below filters and projections, the filters' conditions, and the columns' values, both over
    the scan's columns; None where anything else stands between."""
    match node:
        case Scan():
            return node, [], {}
        case Filter():
            if (below := _rows(node.input)) is None:
                return None
            scan, conditions, values = below
            more = [substitute(one, values) for one in conjuncts(node.predicate)]
            return scan, [*conditions, *more], values
        case Project():
            if (below := _rows(node.input)) is None:
                return None
            scan, conditions, values = below
            made = {
                column.id: substitute(value, values)
                for column, value in zip(node.columns, node.values, strict=True)
            }
            return scan, conditions, made
        case Shared():
            if (below := _rows(optimize(node.plan))) is None:
                return None
            scan, conditions, values = below
            refs = {
                c.id: ColumnRef(c.type, source) for c, source in zip(node.columns, node.sources, strict=True)
            }
            return scan, conditions, {id_: substitute(ref, values) for id_, ref in refs.items()}
    return None


def _is_alone(condition: Expr) -> bool:
    """Whether a query stands inside, which has time bounds of its own, or what is random: it holds for one
    run alone."""
    return any(map(is_fresh, walk(condition)))


def _leaf(scan: Scan, above: Sequence[Expr]) -> Leaf:
    own = {NOW.id, *(column.id for column in scan.columns)}
    low, high, rest = _bounded(scan, above)
    kept = [one for one in rest if (read := references(one)) and read <= own and not _is_alone(one)]
    return Leaf(scan, tuple(kept), low, high)


def _bounded(scan: Scan, conditions: Sequence[Expr]) -> tuple[int | None, int | None, list[Expr]]:
    """The bounds [low, high) of a scan's time that conditions set, and the conditions that set none.

    Stored times are whole microseconds, so that the bounds are exact as such.
    """
    time = scan.event_time
    low: int | None = None
    high: int | None = None
    rest: list[Expr] = []
    for condition in conditions:
        match condition:
            case Call(args=(ColumnRef(id=id_), Const(type=KqlType.DATETIME, value=int() as ticks))) if (
                time and id_ == time.id and condition.overload.name in _COMPARISONS
            ):
                bound = _bound(condition.overload.name, ticks)
                if condition.overload.name in (">", ">="):
                    low = bound if low is None else max(low, bound)
                else:
                    high = bound if high is None else min(high, bound)
            case _:
                rest.append(condition)
    return low, high, rest


def _bound(test: str, ticks: int) -> int:
    """The ticks of a whole microsecond at which, compared so, times begin that are at least or no more so."""
    past = test in (">", "<=")
    return (ticks // _MICROSECOND + 1 if past else -(-ticks // _MICROSECOND)) * _MICROSECOND


def moving(
    scan: Scan, conditions: Sequence[Expr]
) -> tuple[int | None, int | None, tuple[Expr, ...], tuple[Expr, ...]]:
    """Of conditions that may read NOW: the bounds [low, high) of the scan's time that move with it, as ticks
    from NOW, the conditions that do not read it, and those that do and are no such bounds."""
    lows, highs, steady, others = list[int](), list[int](), list[Expr](), list[Expr]()
    for condition in conditions:
        if NOW.id not in references(condition):
            steady.append(condition)
        elif (found := _moving_bound(scan.event_time, condition)) is None:
            others.append(condition)
        else:
            test, ticks = found
            (lows if test in (">", ">=") else highs).append(_bound(test, ticks))
    return max(lows, default=None), min(highs, default=None), tuple(steady), tuple(others)


def _moving_bound(time: ColumnRef | None, condition: Expr) -> tuple[str, int] | None:
    """How a condition compares the time, and with what, as ticks from NOW; None where it is another."""
    if not (
        time is not None
        and isinstance(condition, Call)
        and condition.overload.name in _COMPARISONS
        and len(condition.args) == 2
    ):
        return None
    left, right = condition.args
    if left == time:
        test, moment = condition.overload.name, right
    elif right == time:
        test, moment = _COMPARISONS[condition.overload.name], left
    else:
        return None
    ticks = _from_now(moment)
    return None if ticks is None else (test, max(-_FAR, min(ticks, _FAR)))


def _from_now(expr: Expr) -> int | None:
    """Ticks from NOW to a moment that lies so far from it at all times; None where it may not."""
    match expr:
        case ColumnRef(id=NOW.id):
            return 0
        case Call(args=(one, Const(type=KqlType.TIMESPAN, value=int() as length))) if expr.overload.name in (
            "+",
            "-",
        ):
            ticks = _from_now(one)
            return None if ticks is None else ticks + (length if expr.overload.name == "+" else -length)
        case Call(args=(Const(type=KqlType.TIMESPAN, value=int() as length), one)) if (
            expr.overload.name == "+"
        ):
            ticks = _from_now(one)
            return None if ticks is None else ticks + length
    return None
