"""top-nested: the largest values, within each the largest of the next level, and so on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, Span
from trailhawk.kql import syntax
from trailhawk.kql.functions import AGGREGATES, FUNCTIONS
from trailhawk.kql.names import Names, auto_name
from trailhawk.kql.operators.groups import no_dynamic_key
from trailhawk.kql.operators.once import once
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import carried, limited, refs, row_count, scope_of
from trailhawk.kql.plan import (
    Aggregate,
    Call,
    ColumnRef,
    Const,
    Expr,
    Filter,
    Join,
    JoinKind,
    Node,
    OutColumn,
    Project,
    Sort,
    SortKey,
    references,
    substitute,
)
from trailhawk.kql.records import replace
from trailhawk.kql.scalars import Collector
from trailhawk.kql.schema import HIDDEN_PREFIX
from trailhawk.kql.scope import Env
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
MAX_LEVELS = 30


@dataclass(frozen=True)
class _Level:
    """A level: the value it groups by (over the operator's input), its columns, its aggregate and order."""

    key: Expr
    key_name: str
    collect: Collector
    total: Expr
    total_name: str
    count: int | Expr | None
    descending: bool
    others: Const | None
    span: Span


class _Lost(Enum):
    """What becomes of the rows that are not in the top of a level."""

    LEAVE = auto()
    STAY = auto()
    STAY_AMONG = auto()
    """They stay if they are among the others of a level above."""


@step(syntax.TopNested)
def top_nested(binder: Binder, node: Node, operator: syntax.TopNested, env: Env) -> Node:
    """Two columns for each level: the value and its aggregate, the best rows of each level first.

    With others, what did not make it to the top is one more row, and stays one through the levels below;
    it stands last. Of a level without, what a level below has others for stays too, as does what is among
    the others of one above: with no value and no aggregate there.
    """
    if len(operator.levels) > MAX_LEVELS:
        raise BindingError(f"top-nested takes at most {MAX_LEVELS} levels", operator.span)
    names = Names()
    levels = [_level(binder, node, level, names, env) for level in operator.levels]
    last_others = max((place for place, level in enumerate(levels) if level.others is not None), default=-1)
    parts = carried(binder, node)
    # The rows, the columns that tell their groups so far, and whether they are among the others.
    rows, groups = node, list(parts)
    among: OutColumn | None = None
    for place, level in enumerate(levels):
        lost = _Lost.LEAVE if last_others < 0 else _Lost.STAY if place <= last_others else _Lost.STAY_AMONG
        rows, groups, among = _descend(binder, rows, groups, among, level, lost)
    shown = [column for column in groups if not column.name.startswith(HIDDEN_PREFIX)]
    hidden = tuple(column for column in groups if column.name in binder.partitions)
    last = Aggregate(tuple(replace(column, id=binder.new_id()) for column in groups), rows, refs(groups), ())
    given = {old.id: new for old, new in zip(groups, last.columns, strict=True)}
    kept = tuple(given[column.id] for column in (*shown, *hidden))
    order: list[SortKey] = []
    for place, level in zip(range(len(parts), len(groups), 3), levels, strict=True):
        value, among_others, total = (ColumnRef(c.type, c.id) for c in last.columns[place : place + 3])
        order.append(SortKey(among_others, descending=False, nulls_first=True))
        order.append(SortKey(total, level.descending, not level.descending))
        order.append(SortKey(value, descending=False, nulls_first=True))
    return Project(kept, Sort(last.columns, last, tuple(order)), refs(kept))


def _level(binder: Binder, node: Node, level: syntax.TopNestedLevel, names: Names, env: Env) -> _Level:
    scope = scope_of(node, env)
    of = level.of.value if isinstance(level.of, syntax.Named) else level.of
    key = binder.scalars.bind(of, scope)
    no_dynamic_key(key, level.of.span)
    given = level.of.names[0] if isinstance(level.of, syntax.Named) else auto_name(level.of)
    key_name = names.unique(given or names.computed())
    by = level.by.value
    collect = Collector(AGGREGATES)
    total = binder.scalars.bind(by.value if isinstance(by, syntax.Named) else by, scope, collect)
    if not references(total) <= {column.id for column in collect.columns}:
        raise BindingError("top-nested orders by an aggregate", by.span, hint="write max(...) or sum(...)")
    total_name = names.unique(by.names[0] if isinstance(by, syntax.Named) else f"aggregated_{key_name}")
    others: Const | None = None
    if level.others is not None:
        constant = binder.scalars.constant(level.others, env, "the name of the others")
        converted = binder.scalars.convert(constant, key.type, level.others.span)
        if not isinstance(converted, Const):
            raise BindingError(f"the others must be a {key.type.value}", level.others.span)
        others = converted
    count = None if level.count is None else row_count(binder, level.count, env)
    return _Level(
        key,
        key_name,
        collect,
        total,
        total_name,
        count,
        level.by.descending is not False,
        others,
        level.span,
    )


def _descend(
    binder: Binder,
    rows: Node,
    groups: list[OutColumn],
    among: OutColumn | None,
    level: _Level,
    lost_rows: _Lost,
) -> tuple[Node, list[OutColumn], OutColumn]:
    """The rows that are in the level's top, and the lost ones that stay, with its value and aggregate."""
    key = OutColumn(binder.new_id(), level.key_name, level.key.type)
    keyed = once(binder, Project((*rows.columns, key), rows, (*refs(rows.columns), level.key)))
    use = keyed()
    place = {column.id: i for i, column in enumerate((*rows.columns, key))}

    def at(node: Node, column: OutColumn) -> OutColumn:
        return node.columns[place[column.id]]

    # The best values of the level within each group; what is among the others is not looked at again.
    chosen: Node = use
    if among is not None:
        flag = at(use, among)
        chosen = Filter(use.columns, use, binder.scalars.call("not", list(refs([flag])), level.span))
    top, top_total = _totals(binder, chosen, [at(use, c) for c in (*groups, key)], level, rows, use)
    if level.count is not None:
        top = _first(binder, top, top.columns[: len(groups)], top_total, level)
    right = top.columns[: len(groups) + 1]
    left = keyed()
    pairs = _pairs(binder, [at(left, c) for c in (*groups, key)], right, level.span)
    found_flag = OutColumn(binder.new_id(), f"{HIDDEN_PREFIX}found", _T.BOOL)
    marked = Project((*right, top_total, found_flag), top, (*refs((*right, top_total)), Const(_T.BOOL, True)))
    kind = JoinKind.INNER if lost_rows is _Lost.LEAVE else JoinKind.LEFT_OUTER
    joined: Node = Join((*left.columns, top_total, found_flag), left, marked, kind, pairs)
    lost = binder.scalars.call("isnull", list(refs([found_flag])), level.span)
    if lost_rows is _Lost.STAY_AMONG and among is not None:
        found = binder.scalars.call("isnotnull", list(refs([found_flag])), level.span)
        stays = binder.scalars.call("or", [found, *refs([at(left, among)])], level.span)
        joined = Filter(joined.columns, joined, stays)
    value: Expr = ColumnRef(key.type, at(left, key).id)
    if lost_rows is not _Lost.LEAVE:
        nothing = Const(key.type, "" if key.type is _T.STRING else None)
        value = Call(key.type, FUNCTIONS["case"].overloads[0], (lost, level.others or nothing, value))
    key_now = OutColumn(binder.new_id(), level.key_name, key.type)
    flag_now = OutColumn(binder.new_id(), f"{HIDDEN_PREFIX}others", _T.BOOL)
    # Columns go on under their old ids, so that the next levels' expressions hold.
    old = tuple(rows.columns)
    mapped = tuple(ColumnRef(c.type, at(left, c).id) for c in old)
    total_now = OutColumn(binder.new_id(), level.total_name, level.total.type)
    after = Project(
        (*old, key_now, flag_now, total_now),
        joined,
        (*mapped, value, lost, ColumnRef(top_total.type, top_total.id)),
    )
    if level.others is None:
        return after, [*groups, key_now, flag_now, total_now], flag_now
    return _with_total_of_others(binder, after, [*groups, key_now, flag_now], flag_now, total_now, level)


def _with_total_of_others(
    binder: Binder,
    rows: Project,
    groups: list[OutColumn],
    flag: OutColumn,
    total: OutColumn,
    level: _Level,
) -> tuple[Node, list[OutColumn], OutColumn]:
    """The rows with the aggregate of the others, taken over all of them together."""
    use = once(binder, rows)
    left, right = use(), use()
    places = {column.id: place for place, column in enumerate(rows.columns)}
    by_right = [right.columns[places[column.id]] for column in groups]
    by_left = [left.columns[places[column.id]] for column in groups]
    totals, fresh = _totals(binder, right, by_right, level, rows, right)
    pairs = _pairs(binder, by_left, totals.columns[: len(groups)], level.span)
    joined = Join((*left.columns, *totals.columns), left, totals, JoinKind.INNER, pairs)
    values: list[Expr] = [
        ColumnRef(fresh.type, fresh.id) if column.id == total.id else ColumnRef(column.type, now.id)
        for column, now in zip(rows.columns, left.columns, strict=True)
    ]
    return Project(rows.columns, joined, tuple(values)), [*groups, total], flag


def _totals(
    binder: Binder, node: Node, groups: list[OutColumn], level: _Level, old: Node, now: Node
) -> tuple[Node, OutColumn]:
    """A row for each group with the level's aggregate. Its expression is over `old`, the rows are `now`."""
    renamed: dict[int, Expr] = {
        before.id: ColumnRef(after.type, after.id)
        for before, after in zip(old.columns, now.columns, strict=False)
    }
    keys = tuple(replace(column, id=binder.new_id()) for column in groups)
    fresh = [replace(column, id=binder.new_id()) for column in level.collect.columns]
    calls = tuple(
        replace(call, args=tuple(substitute(arg, renamed) for arg in call.args))
        for call in level.collect.calls
    )
    grouped = Aggregate((*keys, *fresh), node, refs(groups), calls)
    own: dict[int, Expr] = {
        before.id: ColumnRef(after.type, after.id)
        for before, after in zip(level.collect.columns, fresh, strict=True)
    }
    total = OutColumn(binder.new_id(), level.total_name, level.total.type)
    return Project((*keys, total), grouped, (*refs(keys), substitute(level.total, own))), total


def _first(
    binder: Binder, top: Node, parents: tuple[OutColumn, ...], total: OutColumn, level: _Level
) -> Node:
    """The first rows of each parent by the aggregate; equal ones by the value."""
    key = top.columns[len(parents)]
    order = (
        SortKey(ColumnRef(total.type, total.id), level.descending, not level.descending),
        SortKey(ColumnRef(key.type, key.id), descending=False, nulls_first=True),
    )
    ordered = Sort(top.columns, top, order)
    if level.count is None:
        return ordered
    if not parents:
        return limited(binder, ordered, level.count)
    outside = binder.partitions
    named = tuple(
        replace(column, name=f"{HIDDEN_PREFIX}part{column.id}") if column in parents else column
        for column in top.columns
    )
    binder.partitions = tuple(column.name for column in named[: len(parents)])
    try:
        return limited(binder, Project(named, ordered, refs(top.columns)), level.count)
    finally:
        binder.partitions = outside


def _pairs(
    binder: Binder, left: list[OutColumn], right: tuple[OutColumn, ...], span: Span
) -> tuple[tuple[Expr, Expr], ...]:
    """The keys of a join in which null meets null: whether it is null, and the value as text."""
    found: list[tuple[Expr, Expr]] = []
    for pair in zip(refs(left), refs(right), strict=True):
        a, b = (binder.scalars.convert(side, _T.STRING, span) for side in pair)
        found.append((a, b))
        if pair[0].type is not _T.STRING:
            a, b = (binder.scalars.call("isnull", [side], span) for side in pair)
            found.append((a, b))
    return tuple(found)
