"""Where rows come from: tables, let and materialize, datatable, print, range; getschema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, Span, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.functions import AGGREGATES, FUNCTIONS
from trailhawk.kql.functions.registry import widest
from trailhawk.kql.names import Names
from trailhawk.kql.operators.registry import source, step
from trailhawk.kql.operators.shared import columns_of
from trailhawk.kql.operators.watchlists import WATCHLIST_FUNCTION, watchlist
from trailhawk.kql.plan import (
    Call,
    ColumnRef,
    Const,
    Expr,
    Filter,
    Node,
    OutColumn,
    Project,
    Scan,
    Shared,
    Unnest,
    Values,
)
from trailhawk.kql.records import replace
from trailhawk.kql.schema import HIDDEN_PREFIX, INGESTION_TIME, LOG_OBJECT, WATCHLIST_ALIASES, Column, Table
from trailhawk.kql.scope import (
    Env,
    FunctionBinding,
    NoTableError,
    ScalarBinding,
    Scope,
    TableBinding,
    no_function,
    suggestion,
    visible,
)
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
PLACES = frozenset({"database", "workspace", "cluster"})
ELSEWHERE = frozenset({"external_table", "materialized_view", "stored_query_result"})
"""Functions that give tables which a lake does not have."""
OWN_NAMES = frozenset({"trailhawk", "default", ""})
"""What a query may call this lake where it names a database, workspace or cluster."""
_DOTNET = {
    _T.BOOL: "System.SByte",
    _T.INT: "System.Int32",
    _T.LONG: "System.Int64",
    _T.REAL: "System.Double",
    _T.DECIMAL: "System.Data.SqlTypes.SqlDecimal",
    _T.STRING: "System.String",
    _T.DATETIME: "System.DateTime",
    _T.TIMESPAN: "System.TimeSpan",
    _T.GUID: "System.Guid",
    _T.DYNAMIC: "System.Object",
}


def table_name(binder: Binder, expr: syntax.Name, env: Env) -> Node:
    match env.get(expr.text):
        case TableBinding() as binding:
            return binder.table_or_graph(binding.value, binding.env)
        case FunctionBinding() as binding:
            return call_table(binder, binding, (), Scope((), env), expr.span)
        case ScalarBinding():
            raise BindingError(f"'{expr.text}' is a value, not a table", expr.span)
    table = table_named(binder, expr.text)
    if table is None:
        known = [*binder.catalog.table_names(), *env.all_names()]
        raise NoTableError(
            f"there is no table '{expr.text}'",
            expr.span,
            hint=suggestion(expr.text, known),
            code="unknown-table",
        )
    return scan(binder, table)


def table_named(binder: Binder, name: str) -> Table | None:
    """The table of this name, if a query may write it."""
    return None if name.startswith(HIDDEN_PREFIX) else binder.catalog.table(name)


_HIDDEN = (Column(INGESTION_TIME, _T.DATETIME), Column(LOG_OBJECT, _T.STRING))
"""What every row has and no query may name: ingestion_time() and log_object() give it."""


def scan(binder: Binder, table: Table) -> Node:
    stored = [*table.stored]
    names = {column.name for column in stored}
    stored += (column for column in _HIDDEN if column.name not in names)
    columns = {column.name: OutColumn(binder.new_id(), column.name, column.type) for column in stored}
    came = table.time_column if binder.replayed and table.time_column in columns else INGESTION_TIME
    read = (came if name == INGESTION_TIME else name for name in columns)
    scan = clipped(binder, Scan(tuple(columns.values()), table, tuple(read)))
    if not table.constants:
        return scan
    shown: list[OutColumn] = []
    values: list[Expr] = []
    for column in (*table.columns, *_HIDDEN):
        if column.name in columns:
            shown.append(columns[column.name])
            values.append(ColumnRef(column.type, columns[column.name].id))
        else:
            shown.append(OutColumn(binder.new_id(), column.name, column.type))
            values.append(Const(column.type, table.constants[column.name]))
    return Project(tuple(shown), scan, tuple(values))


def clipped(binder: Binder, scan: Scan) -> Node:
    name = INGESTION_TIME if binder.ingested else scan.table.time_column
    times = [column for column in scan.columns if column.name == name]
    node: Node = scan
    for op, bound in zip((">=", "<"), binder.clip, strict=True):
        if bound is not None and times:
            time = ColumnRef(_T.DATETIME, times[0].id)
            test = binder.scalars.call(op, [time, bound], Span(0, 0))
            node = Filter(node.columns, node, test)
    return node


def table_call(binder: Binder, expr: syntax.Call, env: Env) -> Node:
    binding = env.get(expr.name)
    if isinstance(binding, FunctionBinding):
        return call_table(binder, binding, expr.args, Scope((), env), expr.span)
    if expr.name == WATCHLIST_FUNCTION:
        return watchlist(binder, expr, env)
    if expr.name == WATCHLIST_ALIASES and not expr.args:
        return table_name(binder, syntax.Name(expr.span, expr.name), env)
    if expr.name == "materialize" and len(expr.args) == 1:
        return materialize(binder, expr.args[0], env)
    if expr.name == "table" and len(expr.args) >= 1:
        name = str(binder.scalars.constant(expr.args[0], env, "table()'s name").value)
        named = env if isinstance(env.get(name), TableBinding) else binder.root
        return table_name(binder, syntax.Name(expr.args[0].span, name), named)
    if expr.name in ELSEWHERE:
        raise UnsupportedError(f"{expr.name}()", expr.span, hint="name a table of this lake")
    if expr.name in FUNCTIONS or expr.name in AGGREGATES:
        raise BindingError(f"'{expr.name}()' gives a value, not a table", expr.span, hint="use print")
    known = [*env.all_names(), "materialize", "table", WATCHLIST_FUNCTION, WATCHLIST_ALIASES]
    unknown = no_function(expr, known)
    raise NoTableError(unknown.message, unknown.span, hint=unknown.hint, code=unknown.code)


def table_elsewhere(binder: Binder, expr: syntax.Member, env: Env) -> Node:
    """`database('x').T`, `workspace('x').T`, `cluster('y').database('x').T` of our own names."""
    target: syntax.Expr | None = expr.target
    while isinstance(target, syntax.Call) and target.name in PLACES:
        place = [binder.scalars.constant(arg, env, f"{target.name}()'s name").value for arg in target.args]
        if len(place) != 1 or place[0] not in OWN_NAMES:
            known = ", ".join(f"'{name}'" for name in sorted(OWN_NAMES))
            raise UnsupportedError(
                f"{target.name}({place[0] if place else ''!r})", target.span, hint=f"ours are {known}"
            )
        target = target.target
    if target is not None:
        raise BindingError("a table is expected", expr.span)
    return table_name(binder, syntax.Name(expr.span, expr.name), binder.root)


def invoke(binder: Binder, before: syntax.Pipe, operator: syntax.Invoke, env: Env) -> Node:
    """`T | invoke f(a)`: the function with the rows as its first argument."""
    call = operator.call
    function = env.get(call.name)
    if not isinstance(function, FunctionBinding):
        raise no_function(call, env.all_names())
    return call_table(binder, function, (before, *call.args), Scope((), env), operator.span)


def call_table(
    binder: Binder, binding: FunctionBinding, args: Sequence[syntax.Expr], scope: Scope, span: Span
) -> Node:
    env = binder.call_scope(binding, args, scope, span)
    if binding.value.body is None:
        raise BindingError(f"'{binding.name}' has no result", span)
    return binder.table_or_graph(binding.value.body, env)


def materialize(binder: Binder, expr: syntax.Expr, env: Env) -> Node:
    key = (expr.span.start, id(env))
    if key not in binder.shared:
        binder.shared[key] = (binder.new_id(), binder.table(expr, env))
        binder.kept.append(env)
    number, plan = binder.shared[key]
    columns = tuple(replace(column, id=binder.new_id()) for column in plan.columns)
    return Shared(columns, number, plan, tuple(column.id for column in plan.columns))


def datatable(binder: Binder, expr: syntax.DataTable, env: Env) -> Node:
    columns = tuple(OutColumn(binder.new_id(), column.name, column.type) for column in expr.columns)
    width = len(columns)
    if width == 0 or len(expr.values) % width:
        raise BindingError(f"the values do not fill rows of {width} columns", expr.span)
    rows = []
    for start in range(0, len(expr.values), width):
        row = []
        for column, value in zip(columns, expr.values[start : start + width], strict=True):
            constant = binder.scalars.constant(value, env, "a datatable's value")
            converted = binder.scalars.convert(constant, column.type, value.span)
            if not isinstance(converted, Const):
                raise BindingError(f"this is no {column.type.value}", value.span)
            row.append(converted)
        rows.append(tuple(row))
    return Values(columns, tuple(rows))


def one_row(binder: Binder) -> Node:
    return Values((OutColumn(binder.new_id(), "", _T.BOOL),), ((Const(_T.BOOL, True),),))


@source(syntax.Print)
def print_(binder: Binder, operator: syntax.Print, env: Env) -> Node:
    scope = Scope((), env)
    names = Names()
    columns: list[OutColumn] = []
    values: list[Expr] = []
    for index, item in enumerate(operator.values):
        given = item.names if isinstance(item, syntax.Named) else ()
        source = item.value if isinstance(item, syntax.Named) else item
        value = binder.scalars.bind(source, scope)
        several = columns_of(binder, source, value, given)[: len(given) or None]
        if len(given) > 1 and not several:
            raise BindingError("several names need a function that gives several columns", item.span)
        single = [(given[0] if given else f"print_{index}", bool(given), value)]
        if not given and len(several) == 1:
            several = single
        for name, _, part in several or single:
            columns.append(OutColumn(binder.new_id(), names.unique(name), part.type))
            values.append(part)
    return Project(tuple(columns), one_row(binder), tuple(values))


@source(syntax.RangeSource)
def range_(binder: Binder, operator: syntax.RangeSource, env: Env) -> Node:
    scope = Scope((), env)
    start, stop, step = (
        binder.scalars.bind(item, scope) for item in (operator.start, operator.stop, operator.step)
    )
    type_ = start.type
    if type_.is_number:
        type_ = widest([start.type, stop.type, step.type]) or _T.LONG
        type_ = _T.LONG if type_ is _T.INT else type_
    elif type_ not in (_T.DATETIME, _T.TIMESPAN):
        raise BindingError(f"range cannot count in {type_.value}", operator.span)
    if isinstance(step, Const) and step.value == 0:
        raise BindingError("a range does not end with a step of 0", operator.step.span)
    stop = binder.scalars.convert(stop, type_, operator.stop.span)
    span = operator.span
    # Counting is done in whole numbers: places 0..n, then start + place * step.
    steps = binder.scalars.call("-", [stop, start], span)
    places = binder.scalars.call("/", [steps, step], span)
    count = Call(
        _T.LONG, FUNCTIONS["range_places"].overloads[0], (binder.scalars.convert(places, _T.REAL, span),)
    )
    place = OutColumn(binder.new_id(), "place", _T.LONG)
    unnest = Unnest((*(row := one_row(binder)).columns, place), row, (count,))
    offset = binder.scalars.call("*", [step, ColumnRef(_T.LONG, place.id)], span)
    value = binder.scalars.convert(binder.scalars.call("+", [start, offset], span), type_, span)
    return Project((OutColumn(binder.new_id(), operator.name, type_),), unnest, (value,))


@step(syntax.GetSchema)
def getschema(binder: Binder, node: Node, operator: syntax.GetSchema, env: Env) -> Node:
    types = (_T.STRING, _T.LONG, _T.STRING, _T.STRING)
    names = ("ColumnName", "ColumnOrdinal", "DataType", "ColumnType")
    columns = tuple(OutColumn(binder.new_id(), n, t) for n, t in zip(names, types, strict=True))
    rows = tuple(
        tuple(
            Const(type_, value)
            for type_, value in zip(types, (c.name, place, _DOTNET[c.type], c.type.value), strict=True)
        )
        for place, c in enumerate(visible(node.columns))
    )
    return Values(columns, rows)
