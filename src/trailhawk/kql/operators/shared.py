"""What several operators ask: columns, names and values of a list of items, properties, row counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from trailhawk.errors import BindingError, Span
from trailhawk.kql import syntax
from trailhawk.kql.functions import AGGREGATES, FUNCTIONS, WINDOWS
from trailhawk.kql.names import auto_name
from trailhawk.kql.plan import (
    AggregateCall,
    Call,
    ColumnRef,
    Const,
    Expr,
    Filter,
    Limit,
    Node,
    OutColumn,
    PathExpr,
    Project,
    Window,
)
from trailhawk.kql.scalars import Collector
from trailhawk.kql.schema import HIDDEN_PREFIX
from trailhawk.kql.scope import (
    Env,
    Scope,
    suggestion,
    visible,
)
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType


def refs(columns: Iterable[OutColumn]) -> tuple[Expr, ...]:
    return tuple(ColumnRef(column.type, column.id) for column in columns)


def scope_of(node: Node, env: Env) -> Scope:
    return Scope(node.columns, env)


def carried(binder: Binder, node: Node) -> tuple[OutColumn, ...]:
    """The hidden columns that tell apart the parts of the rows that a sub-pipe runs over."""
    return tuple(column for column in node.columns if column.name in binder.partitions)


def rider_name(column: OutColumn) -> str:
    return f"{HIDDEN_PREFIX}ride{column.id}"


def riders(node: Node) -> tuple[OutColumn, ...]:
    """The copies of outer rows' columns that a node carries."""
    return tuple(c for c in node.columns if c.name.startswith(f"{HIDDEN_PREFIX}ride"))


def riding_calls(node: Node) -> tuple[AggregateCall, ...]:
    """Aggregates that carry the copies along: within a part all values are the same."""
    function = AGGREGATES["take_any"]
    return tuple(AggregateCall(function, (ref,), ref.type) for ref in refs(riders(node)))


def column_for(binder: Binder, name: str, value: Expr) -> OutColumn:
    """A column for the value; one that only passes through keeps its id."""
    if isinstance(value, ColumnRef):
        return OutColumn(value.id, name, value.type)
    return OutColumn(binder.new_id(), name, value.type)


def named_values(
    binder: Binder, items: Sequence[syntax.Expr], scope: Scope, collect: Collector | None = None
) -> list[tuple[str, bool, Expr, Span]]:
    """Name, whether the query gave it, value and place of each item of a project or extend."""
    found: list[tuple[str, bool, Expr, Span]] = []
    for item in items:
        if isinstance(item, syntax.Star):
            found += [(c.name, True, ColumnRef(c.type, c.id), item.span) for c in visible(scope.columns)]
            continue
        names = item.names if isinstance(item, syntax.Named) else ()
        value = item.value if isinstance(item, syntax.Named) else item
        try:
            bound = binder.scalars.bind(value, scope, collect)
        except BindingError as error:
            raise _named_with_equals(error, value) from None
        several = columns_of(binder, value, bound, names)
        if several:
            found += [(name, given, part, item.span) for name, given, part in several]
        elif len(names) > 1:
            raise BindingError("several names need a function that gives several columns", item.span)
        else:
            name = names[0] if names else auto_name(_found(value, scope)) or ""
            found.append((name, bool(names), bound, item.span))
    return found


def _named_with_equals(error: BindingError, value: syntax.Expr) -> BindingError:
    """The error, with a hint where `x == 1` seems to name a column."""
    match value:
        case syntax.Binary(op="==", left=syntax.Name() as name) if (
            error.code == "unknown-column" and error.span == name.span and not error.hint
        ):
            return BindingError(error.message, error.span, hint="a name is given with '='", code=error.code)
    return error


def _found(value: syntax.Expr, scope: Scope) -> syntax.Expr:
    """What names a column: of column_ifexists() the one of its arguments that is there."""
    match value:
        case syntax.Call(
            name="column_ifexists" | "columnifexists", args=(syntax.Literal(value=str() as name), otherwise)
        ) if scope.column(name) is None:
            return otherwise
    return value


def columns_of(
    binder: Binder, value: syntax.Expr, bound: Expr, names: Sequence[str]
) -> list[tuple[str, bool, Expr]]:
    """The columns of a function that gives several at once; none of any other expression.

    One name is that of the first column; the others keep theirs.
    """
    if not isinstance(value, syntax.Call) or value.name in binder.scalars.special:
        return []
    if value.name not in FUNCTIONS:
        return []
    function = FUNCTIONS[value.name]
    if function.column_each and isinstance(bound, Call):
        arrays = [a for a, b in zip(value.args, bound.args, strict=True) if b.type is _T.DYNAMIC]
        columns = [
            (f"{auto_name(array) or f'array{place}'}_{function.column_each}", _T.DYNAMIC)
            for place, array in enumerate(arrays)
        ]
    else:
        argument = auto_name(value.args[0]) if value.args else None
        columns = [(f"{value.name}_{argument or ''}_{suffix}", type_) for suffix, type_ in function.columns]
    alone = function.column_each and len(columns) == 1
    found = []
    for place, (own, type_) in enumerate(columns):
        part = bound if alone else PathExpr(_T.DYNAMIC, bound, (place,))
        part = binder.scalars.convert(part, type_, value.span)
        found.append((names[place], True, part) if place < len(names) else (own, False, part))
    return found


def limited(binder: Binder, node: Node, count: int | Expr) -> Node:
    """The first rows, of each part where the rows are parted."""
    parts = carried(binder, node)
    if not parts:
        return Limit(node.columns, node, count)
    number = OutColumn(binder.new_id(), f"{HIDDEN_PREFIX}row", KqlType.LONG)
    call = AggregateCall(WINDOWS["row_number"], (), KqlType.LONG, refs(parts))
    numbered = Window((*node.columns, number), node, (call,))
    test = binder.scalars.call("<=", [ColumnRef(KqlType.LONG, number.id), counted(count)], Span(0, 0))
    return Project(node.columns, Filter(numbered.columns, numbered, test), refs(node.columns))


def counted(count: int | Expr) -> Expr:
    """A number of rows as a value."""
    return Const(KqlType.LONG, count) if isinstance(count, int) else count


class HasProperties(Protocol):
    """An operator with parameters before its arguments."""

    @property
    def properties(self) -> tuple[syntax.Property, ...]: ...


def one_of(operator: HasProperties, name: str, choices: Sequence[str]) -> str:
    """The property's value, the first choice where it is not given; BindingError for any other."""
    given = property_text(operator, name)
    if given is not None and given not in choices:
        span = next(item.span for item in operator.properties if item.name.lower() == name)
        hint = suggestion(given, choices) or f"it is {' or '.join(choices)}"
        raise BindingError(f"there is no {name} '{given}'", span, hint=hint)
    return given or choices[0]


def property_text(operator: HasProperties, name: str) -> str | None:
    for item in operator.properties:
        if item.name.lower() == name:
            if isinstance(item.value, syntax.Name):
                return item.value.text
            if isinstance(item.value, syntax.Literal):
                return str(item.value.value)
    return None


def row_count(binder: Binder, expr: syntax.Expr, env: Env) -> int | Expr:
    """A number of rows: known now, or the one value of an expression without columns."""
    count = binder.scalars.bind(expr, Scope((), env))
    if not isinstance(count, Const) and count.type in (_T.INT, _T.LONG):
        return binder.scalars.bind(syntax.Call(expr.span, "toscalar", (expr,), expr.span), Scope((), env))
    if not isinstance(count, Const):
        raise BindingError("the number of rows must be a whole number", expr.span)
    if count.type is KqlType.REAL and isinstance(count.value, float) and count.value.is_integer():
        count = Const(KqlType.LONG, int(count.value))
    if not isinstance(count.value, int) or isinstance(count.value, bool):
        raise BindingError("the number of rows must be a whole number", expr.span)
    return max(count.value, 0)  # of fewer than no row there is none
