"""Operators over groups of rows: summarize, distinct, count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, Span
from trailhawk.kql import syntax
from trailhawk.kql.functions import AGGREGATES
from trailhawk.kql.functions.aggregates import FEW, ROW_FIELD, ROW_FUNCTIONS, ROW_OF, ROWS
from trailhawk.kql.names import Names, aggregate_name, auto_name, percentile_name
from trailhawk.kql.operators.apart import settled
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import (
    carried,
    limited,
    named_values,
    refs,
    riders,
    riding_calls,
    row_count,
    scope_of,
)
from trailhawk.kql.plan import (
    Aggregate,
    AggregateCall,
    Call,
    ColumnRef,
    Const,
    Expr,
    Node,
    OutColumn,
    Project,
    Sort,
    SortKey,
    references,
)
from trailhawk.kql.records import replace
from trailhawk.kql.scalars import Collector
from trailhawk.kql.scope import (
    Env,
    Scope,
    visible,
)
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType


@step(syntax.Count)
def count(binder: Binder, node: Node, operator: syntax.Count, env: Env) -> Node:
    column = OutColumn(binder.new_id(), operator.name or "Count", _T.LONG)
    parts = key_parts(binder, node)
    keys = refs(carried(binder, node))
    calls = (AggregateCall(AGGREGATES["count"], (), _T.LONG), *riding_calls(node))
    return Aggregate((*parts, column, *fresh_riders(binder, node)), node, keys, calls)


def key_parts(binder: Binder, node: Node) -> tuple[OutColumn, ...]:
    """Columns for the keys that keep parts of the rows apart."""
    return tuple(replace(column, id=binder.new_id()) for column in carried(binder, node))


@step(syntax.Distinct)
def distinct(binder: Binder, node: Node, operator: syntax.Distinct, env: Env) -> Node:
    items = named_values(binder, operator.values, scope_of(node, env))
    names = Names()
    columns = tuple(
        OutColumn(binder.new_id(), names.unique(name or names.computed()), value.type)
        for name, _, value, _ in items
    )
    for _, _, value, span in items:
        no_dynamic_key(value, span)
    keys = (*(value for _, _, value, _ in items), *refs(carried(binder, node)))
    columns = (*columns, *key_parts(binder, node), *fresh_riders(binder, node))
    return Aggregate(columns, node, keys, riding_calls(node))


def fresh_riders(binder: Binder, node: Node) -> tuple[OutColumn, ...]:
    """Columns for what `riding_calls` gives."""
    return tuple(replace(column, id=binder.new_id()) for column in riders(node))


def no_dynamic_key(value: Expr, span: Span) -> None:
    if value.type is _T.DYNAMIC:
        raise BindingError("a dynamic value cannot be grouped by", span, hint="use tostring(...)")


@step(syntax.Summarize)
def summarize(binder: Binder, node: Node, operator: syntax.Summarize, env: Env) -> Node:
    scope = scope_of(node, env)
    names = Names()
    keys = named_values(binder, operator.by, scope)
    for _, _, value, span in keys:
        no_dynamic_key(value, span)
    key_columns: list[OutColumn] = []
    for name, _, value, _ in keys:
        key_columns.append(OutColumn(binder.new_id(), names.unique(name or names.computed()), value.type))
    collect = Collector(AGGREGATES)
    grouped = {value.id for _, _, value, _ in keys if isinstance(value, ColumnRef)}
    outputs: list[tuple[str, Expr]] = []
    for item in operator.values:
        outputs += aggregate_item(binder, item, scope, collect, names, grouped)
    key_columns += key_parts(binder, node)
    along = fresh_riders(binder, node)
    aggregated = Aggregate(
        (*key_columns, *collect.columns, *along),
        node,
        (*(value for _, _, value, _ in keys), *refs(carried(binder, node))),
        (*collect.calls, *riding_calls(node)),
    )
    key_columns += along
    columns = list(key_columns)
    values: list[Expr] = list(refs(key_columns))
    for name, value in outputs:
        columns.append(OutColumn(binder.new_id(), name, value.type))
        values.append(value)
    return Project(tuple(columns), aggregated, tuple(values))


def aggregate_item(
    binder: Binder, item: syntax.Expr, scope: Scope, collect: Collector, names: Names, grouped: set[int]
) -> list[tuple[str, Expr]]:
    given = item.names if isinstance(item, syntax.Named) else ()
    value = item.value if isinstance(item, syntax.Named) else item
    if isinstance(value, syntax.Call) and value.name in ROW_FUNCTIONS:
        found = row_aggregate(binder, value, scope, collect, grouped)
    elif isinstance(value, syntax.Call) and value.name in ("percentiles", "percentilesw"):
        found = percentiles(binder, value, scope, collect)
    else:
        bound = binder.scalars.bind(value, scope, collect)
        found = [(aggregate_name(value) or "", bound)]
    rows = {column.id for column in scope.columns}
    if any(references(bound) & rows for _, bound in found):
        raise BindingError(
            "a column stands outside an aggregate", item.span, hint="name it after 'by', or use take_any(...)"
        )
    for index, name in enumerate(given):
        if name in names.used:
            raise BindingError(f"two columns are called '{name}'", item.span)
        if index < len(found):
            found[index] = (name, found[index][1])
    return [(names.unique(name or names.computed()), bound) for name, bound in found]


_OLDER = frozenset({"argmax", "argmin"})
"""The older spellings put the names of all their columns after this one's."""


def row_aggregate(
    binder: Binder, call: syntax.Call, scope: Scope, collect: Collector, grouped: set[int]
) -> list[tuple[str, Expr]]:
    """arg_max, arg_min and take_any of several columns: values of one and the same row."""
    function = ROW_FUNCTIONS[call.name]
    args = list(call.args)
    found: list[tuple[str, Expr]] = []
    ordering: list[Expr] = []
    older = "any_" if call.name == "any" else ""
    of = "any"
    if call.name not in ("take_any", "any"):
        if not args:
            raise BindingError(f"{call.name}() needs the value to order by", call.span)
        ordering = [binder.scalars.bind(args[0], scope)]
        plain = AGGREGATES["max" if call.name.endswith("max") else "min"]
        of = f"{plain.name}_{auto_name(args[0]) or ''}"
        name = auto_name(args[0]) or of
        if call.name in _OLDER:
            name, older = of, f"{of}_"
        found.append((name, binder.scalars.collect(plain, ordering, call.span, collect)))
        args = args[1:]
    values: list[tuple[str, Expr]] = []
    for place, arg in enumerate(args, start=len(found)):
        if isinstance(arg, syntax.Star):
            taken = {ref.id for ref in ordering if isinstance(ref, ColumnRef)}
            left_out = taken | grouped
            values += [
                (older + c.name, ColumnRef(c.type, c.id))
                for c in visible(scope.columns)
                if c.id not in left_out
            ]
        else:
            named = auto_name(arg)
            values.append((older + named if named else f"{of}_arg{place}", binder.scalars.bind(arg, scope)))
    if not ordering and len(values) == 1 and not isinstance(args[0], syntax.Star):
        (named, value) = values[0] if call.name != "any" else (aggregate_name(call) or "", values[0][1])
        return [(named, binder.scalars.collect(AGGREGATES["take_any"], [value], call.span, collect))]
    if len(values) > FEW:
        return found + _wide_row(binder, call, collect, ordering, values)
    row = tuple(value for _, value in values)
    for place, (name, value) in enumerate(values):
        aggregate = AggregateCall(function, (Const(_T.LONG, place), *ordering, *row), value.type)
        column = OutColumn(binder.new_id(), "", value.type)
        collect.calls.append(aggregate)
        collect.columns.append(column)
        found.append((name, ColumnRef(value.type, column.id)))
    return found


def _wide_row(
    binder: Binder,
    call: syntax.Call,
    collect: Collector,
    ordering: Sequence[Expr],
    values: Sequence[tuple[str, Expr]],
) -> list[tuple[str, Expr]]:
    """The row as one column, and each of its values read from that; see `kql/rows.py`."""
    binder.has_wide_rows = True
    number = Const(_T.LONG, call.span.start)
    places = Const(_T.DYNAMIC, list(range(len(values))))
    row = Call(_T.DYNAMIC, ROW_OF, (number, places, *(value for _, value in values)))
    column = OutColumn(binder.new_id(), "", _T.DYNAMIC)
    collect.calls.append(AggregateCall(ROWS[ROW_FUNCTIONS[call.name]], (*ordering, row), _T.DYNAMIC))
    collect.columns.append(column)
    taken = ColumnRef(_T.DYNAMIC, column.id)
    return [
        (name, Call(value.type, ROW_FIELD, (number, Const(_T.LONG, place), taken, Const(value.type, None))))
        for place, (name, value) in enumerate(values)
    ]


def percentiles(
    binder: Binder, call: syntax.Call, scope: Scope, collect: Collector
) -> list[tuple[str, Expr]]:
    """A column for each percent; percentilesw() takes the values' weight before them."""
    weighted = call.name == "percentilesw"
    first = 2 if weighted else 1
    if len(call.args) <= first:
        raise BindingError(f"{call.name}() takes a value and percents", call.span)
    function = AGGREGATES["percentilew" if weighted else "percentile"]
    given = [binder.scalars.bind(arg, scope) for arg in call.args[:first]]
    base = auto_name(call.args[0])
    found = []
    for percent in call.args[first:]:
        bound = binder.scalars.bind(percent, scope)
        column = binder.scalars.collect(function, [*given, bound], percent.span, collect)
        found.append((percentile_name(base, bound.value if isinstance(bound, Const) else ""), column))
    return found


@step(syntax.TopHitters)
def top_hitters(binder: Binder, node: Node, operator: syntax.TopHitters, env: Env) -> Node:
    """The most frequent values (or those of the largest sum), exact here, largest first."""
    scope = scope_of(node, env)
    weighed = operator.by is not None
    name = "approximate_sum_" if weighed else "approximate_count_"
    source = operator.by if operator.by is not None else operator.of
    named = operator.of if isinstance(operator.of, syntax.Named) else None
    key = binder.scalars.bind(named.value if named else operator.of, scope)
    no_dynamic_key(key, operator.of.span)
    collect = Collector(AGGREGATES)
    args = [binder.scalars.bind(operator.by, scope)] if operator.by is not None else []
    total = binder.scalars.collect(AGGREGATES["sum" if weighed else "count"], args, operator.span, collect)
    shown = named.names[0] if named else auto_name(operator.of)
    column = OutColumn(binder.new_id(), shown or "Column1", key.type)
    weight = replace(collect.columns[0], name=f"{name}{auto_name(source) or ''}")
    keys = (key, *refs(carried(binder, node)))
    grouped = Aggregate((column, *key_parts(binder, node), weight), node, keys, tuple(collect.calls))
    largest = SortKey(total, descending=True, nulls_first=False)
    ordered = Sort(grouped.columns, grouped, settled(grouped, [largest]))
    return limited(binder, ordered, row_count(binder, operator.count, env))


@step(syntax.SampleDistinct)
def sample_distinct(binder: Binder, node: Node, operator: syntax.SampleDistinct, env: Env) -> Node:
    different = distinct(binder, node, syntax.Distinct(operator.span, (operator.of,)), env)
    return limited(binder, different, row_count(binder, operator.count, env))
