"""Operators over arrays inside a row: mv-expand and mv-apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeGuard

from trailhawk.errors import BindingError, LimitError, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.functions import FUNCTIONS, WINDOWS
from trailhawk.kql.names import Names, auto_name
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import (
    carried,
    counted,
    one_of,
    property_text,
    refs,
    rider_name,
    riders,
    row_count,
    scope_of,
)
from trailhawk.kql.operators.unions import united
from trailhawk.kql.plan import (
    Aggregate,
    AggregateCall,
    Call,
    ColumnRef,
    Const,
    ConstValue,
    Expr,
    Filter,
    Limit,
    Node,
    OutColumn,
    Project,
    Unnest,
    Window,
)
from trailhawk.kql.records import Record, field_names, replace
from trailhawk.kql.schema import HIDDEN_PREFIX
from trailhawk.kql.scope import Env, ScalarBinding, visible
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
_CASTS = {
    **dict.fromkeys((_T.INT, _T.LONG, _T.REAL, _T.DECIMAL), "if_number"),
    **dict.fromkeys((_T.DATETIME, _T.GUID), "if_text"),
    _T.BOOL: "if_truth",
}
"""What an element must be so that `to typeof(...)` gives a value: a cast, no conversion of texts."""
MAX_QUERIES = 64
"""Values that `partition by column {query}` runs its query for."""


@dataclass(frozen=True)
class _Item:
    """One array that is expanded: the column of its elements, and the type they are converted to."""

    column: OutColumn
    to: KqlType | None
    span_of: syntax.MvColumn


@step(syntax.MvExpand)
def mv_expand(binder: Binder, node: Node, operator: syntax.MvExpand, env: Env) -> Node:
    return _expanded(binder, node, operator, env)


def _expanded(binder: Binder, node: Node, operator: syntax.MvExpand | syntax.MvApply, env: Env) -> Node:
    """A row for each element; an element takes the place of a column of its name."""
    as_arrays = "array" in [one_of(operator, name, ("bag", "array")) for name in ("bagexpansion", "kind")]
    function = FUNCTIONS["expand_bag_arrays" if as_arrays else "expand_list"].overloads[0]
    index = property_text(operator, "with_itemindex")
    scope = scope_of(node, env)
    names = Names(column.name for column in node.columns)
    lists: list[Expr] = []
    items: dict[str, _Item] = {}
    for item in operator.columns:
        named = item.value if isinstance(item.value, syntax.Named) else None
        value = binder.scalars.bind(named.value if named else item.value, scope)
        if value.type is not _T.DYNAMIC:
            raise BindingError(
                f"an array is expected, this is a {value.type.value}", item.span, hint="use parse_json(...)"
            )
        name = (named.names[0] if named else auto_name(item.value)) or names.computed()
        if name in items:
            raise BindingError(f"two columns are called '{name}'", item.span, hint="name one: other = ...")
        lists.append(Call(_T.DYNAMIC, function, (value,)))
        items[name] = _Item(OutColumn(binder.new_id(), name, _T.DYNAMIC), item.to, item)
    numbered = index or operator.limit is not None
    place = [OutColumn(binder.new_id(), index or f"{HIDDEN_PREFIX}place", _T.LONG)] if numbered else []
    fresh = [item.column for item in items.values()]
    unnest: Node = Unnest((*node.columns, *fresh, *place), node, tuple(lists), bool(place))
    if operator.limit is not None:
        most = counted(row_count(binder, operator.limit, env))
        within = binder.scalars.call("<", [*refs(place), most], operator.span)
        unnest = Filter(unnest.columns, unnest, within)
    pairs: list[tuple[OutColumn, Expr]] = []
    for column in node.columns:
        taken = items.pop(column.name, None)
        pairs.append(_element(binder, taken) if taken else (column, ColumnRef(column.type, column.id)))
    pairs += [_element(binder, item) for item in items.values()]
    if index:
        pairs += [(replace(c, name=names.unique(c.name)), ColumnRef(c.type, c.id)) for c in place]
    return Project(tuple(column for column, _ in pairs), unnest, tuple(value for _, value in pairs))


def _element(binder: Binder, item: _Item) -> tuple[OutColumn, Expr]:
    """The element's column, converted if the query asks for a type."""
    value: Expr = ColumnRef(_T.DYNAMIC, item.column.id)
    if item.to is None or item.to is _T.DYNAMIC:
        return item.column, value
    if item.to in _CASTS:
        value = Call(_T.DYNAMIC, FUNCTIONS[_CASTS[item.to]].overloads[0], (value,))
    converted = binder.scalars.convert(value, item.to, item.span_of.span)
    return OutColumn(binder.new_id(), item.column.name, converted.type), converted


@step(syntax.MvApply)
def mv_apply(binder: Binder, node: Node, operator: syntax.MvApply, env: Env) -> Node:
    """The sub-pipe over each row's elements: rows are numbered, and every step minds the number."""
    part = f"{HIDDEN_PREFIX}part{binder.new_id()}"
    number = OutColumn(binder.new_id(), part, _T.LONG)
    call = AggregateCall(WINDOWS["row_number"], (), _T.LONG, refs(carried(binder, node)))
    numbered: Node = Window((*node.columns, number), node, (call,))
    expanded = _expanded(binder, numbered, operator, env)
    found = binder.body(operator.body, riding(binder, numbered, expanded), env, part)
    return _beside_elements(node, found)


def riding(binder: Binder, row: Node, node: Node) -> Node:
    """The node with hidden copies of a row's columns, which go along whatever the sub-pipe does."""
    kept = {column.id for column in node.columns}
    copies = [
        (OutColumn(binder.new_id(), rider_name(column), column.type), ColumnRef(column.type, column.id))
        for column in row.columns
        if column.id in kept and not column.name.startswith(HIDDEN_PREFIX)
    ]
    columns = (*node.columns, *(column for column, _ in copies))
    return Project(columns, node, (*refs(node.columns), *(value for _, value in copies)))


def _beside_elements(row: Node, found: Node) -> Node:
    """The row's columns, then what the sub-pipe gives beside them; of one name the sub-pipe's wins."""
    given = {column.name: column for column in visible(found.columns)}
    copies = {column.name: column for column in riders(found)}
    pairs: list[tuple[OutColumn, OutColumn]] = []
    for column in row.columns:
        source = given.pop(column.name, None) or copies.get(rider_name(column))
        if source is None and column.name.startswith(HIDDEN_PREFIX):
            source = next((c for c in found.columns if c.name == column.name), None)
        if source is not None:
            pairs.append((replace(source, name=column.name), source))
    pairs += [(column, column) for column in given.values()]
    return _renamed(found, pairs)


def _renamed(node: Node, pairs: Sequence[tuple[OutColumn, OutColumn]]) -> Node:
    return Project(tuple(column for column, _ in pairs), node, refs([source for _, source in pairs]))


@step(syntax.Partition)
def partition(binder: Binder, node: Node, operator: syntax.Partition, env: Env) -> Node:
    """The sub-pipe over the rows of each value of a column on its own."""
    if operator.standalone:
        return _partition_of_queries(binder, node, operator, env)
    key = binder.scalars.bind(operator.by, scope_of(node, env))
    if key.type is _T.DYNAMIC:
        raise BindingError("a dynamic value cannot be parted by", operator.by.span, hint="use tostring(...)")
    part = f"{HIDDEN_PREFIX}part{binder.new_id()}"
    column = OutColumn(binder.new_id(), part, key.type)
    parted = Project((*node.columns, column), node, (*refs(node.columns), key))
    found = binder.body(operator.body, parted, env, part)
    return _renamed(found, [(c, c) for c in found.columns if c.name != part])


def _value_name(operator: syntax.Partition) -> str:
    """What a part's value is called in its query, beside the column's name."""
    return f"{HIDDEN_PREFIX}value{operator.by.span.start}"


def asks_again(operator: syntax.Partition) -> bool:
    """Whether the sub-pipe begins with `as` and reads its part again by that name, as in toscalar()."""
    if operator.standalone or not operator.body.operators or not isinstance(operator.by, syntax.Name):
        return False
    first, *rest = operator.body.operators
    return isinstance(first, syntax.As) and any(_names(each, first.name) for each in rest)


def _names(node: object, name: str) -> bool:
    """Whether a name stands in a part of a query."""
    if isinstance(node, syntax.Name) and node.text == name:
        return True
    if isinstance(node, tuple):
        return any(_names(each, name) for each in node)
    return isinstance(node, Record) and any(_names(getattr(node, field), name) for field in field_names(node))


def named_parts(operator: syntax.Partition, before: syntax.Pipe) -> syntax.Partition:
    """The partition with a query for each part: the rows of the pipe before it that have the part's value."""
    by, span = operator.by, operator.by.span

    def call(name: str, value: syntax.Expr) -> syntax.Call:
        return syntax.Call(span, name, (value,), span)

    given = syntax.Name(span, _value_name(operator))
    nulls = syntax.Binary(span, "and", call("isnull", by), call("isnull", given))
    rows = syntax.Where(span, syntax.Binary(span, "or", syntax.Binary(span, "==", by, given), nulls))
    source = syntax.Pipe(before.span, before.source, (*before.operators, rows))
    body = syntax.Pipe(operator.body.span, source, operator.body.operators)
    return replace(operator, body=body, standalone=True)


def _partition_of_queries(binder: Binder, node: Node, operator: syntax.Partition, env: Env) -> Node:
    """A query of its own for each value of a column, which it names by toscalar(column)."""
    name = auto_name(operator.by)
    key = binder.scalars.bind(operator.by, scope_of(node, env))
    if name is None or key.type is _T.DYNAMIC or carried(binder, node):
        raise UnsupportedError("partition by a computed value with a query in braces", operator.by.span)
    column = OutColumn(binder.new_id(), name, key.type)
    values = binder.look(Aggregate((column,), node, (key,), ()), "partition", operator.span).values[0]
    if len(values) > MAX_QUERIES:
        raise LimitError(
            f"partition would run {len(values)} queries", operator.span, hint=f"at most {MAX_QUERIES}"
        )
    constants = [Const(key.type, value) for value in values if _is_constant(value)]
    branches: list[tuple[str, Node]] = []
    for constant in constants or [Const(key.type, None)]:
        value = ScalarBinding(constant)
        inner = env.with_({name: value, _value_name(operator): value})
        branches.append(("", binder.table(operator.body, inner)))
    found = united(binder, branches, None)
    return found if constants else Limit(found.columns, found, 0)


def _is_constant(value: object) -> TypeGuard[ConstValue]:
    return value is None or isinstance(value, bool | int | float | str | Decimal)
