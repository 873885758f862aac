"""Operators over arrays inside a row: mv-expand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, Span, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.functions import FUNCTIONS
from trailhawk.kql.names import Names, auto_name
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import column_for, property_text, row_count, scope_of
from trailhawk.kql.plan import (
    Call,
    ColumnRef,
    Expr,
    Node,
    OutColumn,
    Project,
    Unnest,
)
from trailhawk.kql.scope import (
    Env,
)
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType


@step(syntax.MvExpand)
def mv_expand(binder: Binder, node: Node, operator: syntax.MvExpand, env: Env) -> Node:
    scope = scope_of(node, env)
    as_arrays = (
        property_text(operator, "bagexpansion") == "array" or property_text(operator, "kind") == "array"
    )
    function = FUNCTIONS["expand_bag_arrays" if as_arrays else "expand_list"].overloads[0]
    index = property_text(operator, "with_itemindex")
    lists: list[Expr] = []
    fresh: list[OutColumn] = []
    finals: dict[str, tuple[OutColumn, KqlType | None]] = {}
    names = Names(column.name for column in node.columns)
    for item in operator.columns:
        named = item.value if isinstance(item.value, syntax.Named) else None
        value = binder.scalars.bind(named.value if named else item.value, scope)
        if value.type is not _T.DYNAMIC:
            raise BindingError(f"mv-expand needs a dynamic value, this is a {value.type.value}", item.span)
        name = (named.names[0] if named else auto_name(item.value)) or names.computed()
        lists.append(Call(_T.DYNAMIC, function, (value,)))
        fresh.append(OutColumn(binder.new_id(), name, _T.DYNAMIC))
        finals[name] = (fresh[-1], item.to)
    place = OutColumn(binder.new_id(), index or "", _T.LONG)
    extra = (*fresh, place) if index else tuple(fresh)
    unnest: Node = Unnest((*node.columns, *extra), node, tuple(lists), index is not None)
    columns: list[OutColumn] = []
    values: list[Expr] = []

    def add(name: str, column: OutColumn, to: KqlType | None, span: Span) -> None:
        ref: Expr = ColumnRef(column.type, column.id)
        if to is not None and to is not _T.DYNAMIC:
            ref = binder.scalars.convert(ref, to, span)
        columns.append(column_for(binder, name, ref))
        values.append(ref)

    for column in node.columns:
        replaced = finals.pop(column.name, None)
        if replaced:
            add(column.name, replaced[0], replaced[1], operator.span)
        else:
            columns.append(column)
            values.append(ColumnRef(column.type, column.id))
    for name, (column, to) in finals.items():
        add(name, column, to, operator.span)
    if index:
        add(names.unique(index), place, None, operator.span)
    result: Node = Project(tuple(columns), unnest, tuple(values))
    if operator.limit is not None:
        row_count(binder, operator.limit, env)
        raise UnsupportedError("mv-expand limit", operator.limit.span)
    return result
