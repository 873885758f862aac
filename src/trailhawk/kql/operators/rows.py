"""Operators over rows whose columns stay: where, take, sort, top, serialize."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, Span
from trailhawk.kql import syntax
from trailhawk.kql.operators.apart import settled
from trailhawk.kql.operators.columns import extend, keep, over, windows_over
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import carried, limited, refs, row_count, scope_of
from trailhawk.kql.plan import (
    Call,
    Expr,
    Filter,
    Join,
    JoinKind,
    Limit,
    Node,
    Sort,
    SortKey,
    references,
)
from trailhawk.kql.records import replace
from trailhawk.kql.scope import (
    Env,
    Scope,
)
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType


@step(syntax.Where)
def where(binder: Binder, node: Node, operator: syntax.Where, env: Env) -> Node:
    windows = windows_over(binder, node)
    predicate = binder.scalars.predicate(operator.predicate, scope_of(node, env), windows)
    if windows.calls:
        beside = over(node, windows)
        return keep(Filter(beside.columns, beside, predicate), node.columns)
    if isinstance(node, Join) and node.kind is JoinKind.INNER_UNIQUE:
        return _filtered_join(binder, node, predicate, operator.span)
    return Filter(node.columns, node, predicate)


def _filtered_join(binder: Binder, join: Join, predicate: Expr, span: Span) -> Node:
    """What a filter after an innerunique join asks of the left rows alone holds before one of them is taken.

    As in Kusto: the row that is taken for a key is one that passes.
    """
    left = {column.id for column in join.left.columns}
    before: list[Expr] = []
    after: list[Expr] = []
    for part in _conjuncts(predicate):
        (before if references(part) <= left else after).append(part)
    node: Node = join
    if before:
        test = reduce(lambda a, b: binder.scalars.call("and", [a, b], span), before)
        node = replace(join, left=Filter(join.left.columns, join.left, test))
    for part in after:
        node = Filter(node.columns, node, part)
    return node


def _conjuncts(predicate: Expr) -> list[Expr]:
    """The parts that all have to hold."""
    found: list[Expr] = []
    pending = [predicate]
    while pending:
        part = pending.pop()
        if isinstance(part, Call) and part.overload.name == "and":
            pending += reversed(part.args)
        else:
            found.append(part)
    return found


@step(syntax.Take)
def take(binder: Binder, node: Node, operator: syntax.Take, env: Env) -> Node:
    if isinstance(node, Sort):
        node = replace(node, keys=settled(node.input, node.keys))
    return limited(binder, node, row_count(binder, operator.count, env))


@step(syntax.Sample)
def sample(binder: Binder, node: Node, operator: syntax.Sample, env: Env) -> Node:
    """Rows drawn by chance: the first of a random order."""
    chance = binder.scalars.call("random_place", [], operator.span)
    shuffled = Sort(node.columns, node, (SortKey(chance, descending=False, nulls_first=True),))
    return limited(binder, shuffled, row_count(binder, operator.count, env))


@step(syntax.Sort)
def sort(binder: Binder, node: Node, operator: syntax.Sort, env: Env) -> Node:
    scope = scope_of(node, env)
    keys = [sort_key(binder, key, scope) for key in operator.keys]
    return Sort(node.columns, node, (*_part_keys(binder, node), *keys))


def _part_keys(binder: Binder, node: Node) -> list[SortKey]:
    """In a sub-pipe that runs over parts of the rows, the rows of a part stay together."""
    return [SortKey(ref, descending=False, nulls_first=True) for ref in refs(carried(binder, node))]


def sort_key(binder: Binder, key: syntax.Ordering, scope: Scope) -> SortKey:
    value = binder.scalars.bind(key.value, scope)
    if value.type is _T.DYNAMIC:
        raise BindingError(
            "a dynamic value has no order", key.value.span, hint="use tostring(...) or tolong(...)"
        )
    descending = key.descending is not False
    return SortKey(value, descending, key.nulls_first if key.nulls_first is not None else not descending)


@step(syntax.Top)
def top(binder: Binder, node: Node, operator: syntax.Top, env: Env) -> Node:
    key = sort_key(binder, operator.by, scope_of(node, env))
    count = row_count(binder, operator.count, env)
    keys = (*_part_keys(binder, node), *settled(node, [key]))
    return limited(binder, Sort(node.columns, node, keys), count)


@step(syntax.Serialize)
def serialize(binder: Binder, node: Node, operator: syntax.Serialize, env: Env) -> Node:
    return (
        extend(binder, node, syntax.Extend(operator.span, operator.values), env) if operator.values else node
    )


@step(syntax.Consume)
def consume(binder: Binder, node: Node, operator: syntax.Consume, env: Env) -> Node:
    return Limit(node.columns, node, 0)
