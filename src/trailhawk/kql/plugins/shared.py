"""What several plugins ask: arguments, tables computed in Python, steps written in KQL, time windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from trailhawk.errors import BindingError, Span
from trailhawk.kql import syntax
from trailhawk.kql.literals import DATETIME_MIN
from trailhawk.kql.names import auto_name
from trailhawk.kql.operators.registry import SOURCES, STEPS
from trailhawk.kql.operators.shared import refs
from trailhawk.kql.parser import parse
from trailhawk.kql.plan import Apply, ColumnRef, Const, Expr, Frame, Node, OutColumn, Project, Shared
from trailhawk.kql.plugins.registry import Use
from trailhawk.kql.printer import quoted as literal
from trailhawk.kql.records import replace
from trailhawk.kql.scope import visible
from trailhawk.kql.types import TICKS_PER_SECOND, KqlType

_T = KqlType
Row = tuple[object, ...]
Number = int | float
"""A place on a timeline: ticks of a datetime or timespan, or a plain number."""


# --- arguments ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Value:
    """An argument computed for each row, and the name its column has."""

    name: str
    value: Expr
    span: Span

    @property
    def type(self) -> KqlType:
        return self.value.type


class Arguments:
    """A plugin's arguments, taken one after the other; those written `name = value` where they are named."""

    def __init__(self, use: Use, *named: str) -> None:
        self.use = use
        self.named: dict[str, syntax.Expr] = {}
        self.rest: list[syntax.Expr] = []
        for arg in use.call.args:
            if isinstance(arg, syntax.Named) and arg.names[0] in named:
                self.named[arg.names[0]] = arg.value
            else:
                self.rest.append(arg)

    def take(self, name: str) -> syntax.Expr | None:
        """The next argument (or the one of this name), if there is one; `~` stands for the default."""
        found = self.named.pop(name, None)
        if found is None and self.rest:
            found = self.rest.pop(0)
        if isinstance(found, syntax.Literal) and found.value == "~":
            return None
        return found

    def need(self, name: str) -> syntax.Expr:
        found = self.take(name)
        if found is None:
            raise BindingError(f"{self.use.name}() needs '{name}'", self.use.call.span)
        return found

    def value(self, name: str) -> Value:
        """A value of each row: a column, or an expression over columns."""
        return self.as_value(self.need(name))

    def as_value(self, arg: syntax.Expr) -> Value:
        given = arg.names[0] if isinstance(arg, syntax.Named) else None
        inner = arg.value if isinstance(arg, syntax.Named) else arg
        bound = self.use.binder.scalars.bind(inner, self.use.scope)
        return Value(given or auto_name(inner) or "", bound, arg.span)

    def dimensions(self) -> tuple[Value, ...]:
        """All that is left, as values to group by."""
        found = tuple(self.as_value(arg) for arg in self.rest)
        self.rest = []
        for dimension in found:
            if dimension.type is _T.DYNAMIC:
                raise BindingError(
                    "a dynamic value cannot be grouped by", dimension.span, hint="use tostring(...)"
                )
        return found

    def constant(self, name: str) -> Const:
        """A constant; what the compiler cannot fold is asked of the engine."""
        return self.as_constant(self.need(name))

    def optional(self, name: str) -> Const | None:
        found = self.take(name)
        return None if found is None else self.as_constant(found)

    def as_constant(self, arg: syntax.Expr) -> Const:
        binder = self.use.binder
        printed = syntax.Print(arg.span, (syntax.Named(arg.span, ("x",), arg, (arg.span,)),))
        plan = SOURCES[syntax.Print](binder, printed, self.use.env)
        column = plan.columns[0]
        if isinstance(plan, Project) and isinstance(plan.values[0], Const):
            return plan.values[0]
        (value,) = binder.look(plan, f"a computed argument of {self.use.name}()", arg.span).values[0]
        return Const(column.type, value)  # type: ignore[arg-type]  # a frame holds what constants hold

    def text(self, name: str) -> str:
        arg = self.need(name)
        found = self.as_constant(arg)
        if not isinstance(found.value, str):
            raise BindingError(f"{self.use.name}() takes '{name}' as a text", arg.span)
        return found.value

    def number(self, name: str) -> Number:
        """A constant on a timeline or a plain number."""
        arg = self.need(name)
        found = as_number(self.as_constant(arg).value)
        if found is None:
            raise BindingError(f"{self.use.name}() takes '{name}' as a number or time", arg.span)
        return found

    def whole(self, name: str) -> int:
        arg = self.need(name)
        found = self.as_constant(arg).value
        if not isinstance(found, int) or isinstance(found, bool) or found < 0:
            raise BindingError(f"{self.use.name}() takes '{name}' as a whole number", arg.span)
        return found

    def flag(self, name: str) -> bool:
        found = self.optional(name)
        return found is not None and found.value is True

    def end(self) -> None:
        """Raise BindingError if arguments are left."""
        left = [*self.rest, *self.named.values()]
        if left:
            raise BindingError(f"{self.use.name}() takes no such argument", left[0].span)


def as_number(value: object) -> Number | None:
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


# --- plans -------------------------------------------------------------------------------------------------


def quoted(name: str) -> str:
    """A column's name as KQL text."""
    return f"[{literal(name)}]"


def steps(use: Use, node: Node, text: str) -> Node:
    """The node with steps after it that are written in KQL."""
    statement = parse(f"T | {text}").statements[0]
    assert isinstance(statement, syntax.ExpressionStatement)
    assert isinstance(statement.value, syntax.Pipe)
    for operator in statement.value.operators:
        node = STEPS[type(operator)](use.binder, node, operator, use.env)
    return node


def hidden(use: Use) -> str:
    """A name for a column on the way, which no query can write."""
    return f"__plugin{use.binder.new_id()}"


def projected(use: Use, node: Node, values: Sequence[tuple[str, Expr]]) -> Project:
    """These values of each row, with columns of their own."""
    columns = tuple(OutColumn(use.binder.new_id(), name, value.type) for name, value in values)
    return Project(columns, node, tuple(value for _, value in values))


def shared(use: Use, plan: Node) -> Callable[[], Shared]:
    """A plan computed once: each call gives a use with columns of its own, in the plan's order."""
    number = use.binder.new_id()

    def again() -> Shared:
        columns = tuple(replace(column, id=use.binder.new_id()) for column in plan.columns)
        return Shared(columns, number, plan, tuple(column.id for column in plan.columns))

    return again


def computed(
    use: Use,
    inputs: Sequence[Node],
    columns: Sequence[tuple[str, KqlType]],
    function: Callable[..., Iterable[Sequence[object]]],
    *,
    feeders: tuple[int, ...] = (),
) -> Apply:
    """Rows that Python computes from all rows of the inputs: one list of row tuples for each."""
    out = tuple(OutColumn(use.binder.new_id(), name, type_) for name, type_ in columns)

    def over(frames: tuple[Frame, ...]) -> list[list[object]]:
        rows = function(*(frame.rows() for frame in frames))
        found: list[list[object]] = [[] for _ in out]
        for row in rows:
            for values, value in zip(found, row, strict=True):
                values.append(value)
        return found

    return Apply(out, tuple(inputs), tuple(item.columns for item in inputs), over, use.name, feeders)


def over_values(
    use: Use,
    values: Sequence[Expr],
    columns: Sequence[tuple[str, KqlType]],
    function: Callable[[list[Row]], Iterable[Sequence[object]]],
) -> Apply:
    """Rows that Python computes from these values of all rows."""
    inner = projected(use, use.node, [("", value) for value in values])
    return computed(use, [inner], columns, function)


def kept(use: Use) -> tuple[OutColumn, ...]:
    return visible(use.node.columns)


def only(use: Use, node: Node, columns: Sequence[OutColumn]) -> Project:
    return Project(tuple(columns), node, refs(columns))


def column_argument(arguments: Arguments, name: str) -> OutColumn:
    """An argument that must be a column of the input."""
    arg = arguments.need(name)
    found = arguments.as_value(arg)
    if isinstance(found.value, ColumnRef):
        for column in arguments.use.node.columns:
            if column.id == found.value.id:
                return column
    raise BindingError(f"{arguments.use.name}() takes '{name}' as a column", arg.span)


# --- timelines ---------------------------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400 * TICKS_PER_SECOND


@dataclass(frozen=True)
class Windows:
    """Windows side by side from `start`, `size` long, or calendar ones ('week', 'month', 'year')."""

    start: Number
    size: Number | str

    def of(self, at: Number) -> Number:
        """The beginning of the window that holds a place."""
        if isinstance(self.size, str):
            return _calendar(int(at), self.size)
        count = (at - self.start) // self.size
        return self.start + int(count) * self.size

    def next(self, begin: Number) -> Number:
        if isinstance(self.size, str):
            return _calendar(int(begin) + {"week": 7, "month": 31, "year": 366}[self.size] * _DAY, self.size)
        return begin + self.size

    def between(self, first: Number, last: Number) -> Iterator[Number]:
        """The beginnings of the windows that hold places from first to last."""
        begin = self.of(first)
        while begin <= last:
            yield begin
            begin = self.next(begin)


def binned(type_: KqlType, size: Number | str) -> Windows:
    """The windows into which bin() puts values of a type."""
    return Windows(DATETIME_MIN if type_ is _T.DATETIME else 0, size)


def _calendar(ticks: int, unit: str) -> int:
    day = (_EPOCH + timedelta(microseconds=ticks // 10)).replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":
        day -= timedelta(days=day.isoweekday() % 7)  # weeks begin on Sunday
    elif unit == "month":
        day = day.replace(day=1)
    else:
        day = day.replace(month=1, day=1)
    return (day - _EPOCH) // timedelta(microseconds=1) * 10


def window_size(arguments: Arguments, name: str) -> Number | str:
    """A positive length, or the name of a calendar window."""
    arg = arguments.need(name)
    found = arguments.as_constant(arg).value
    if found in ("week", "month", "year"):
        return str(found)
    size = as_number(found)
    if size is None or size <= 0:
        raise BindingError(
            f"{arguments.use.name}() takes '{name}' as a positive number or timespan",
            arg.span,
            hint="or 'week', 'month', 'year'",
        )
    return size


def timeline(arguments: Arguments, name: str = "TimelineColumn") -> Value:
    arg = arguments.need(name)
    found = arguments.as_value(arg)
    if found.type not in (_T.DATETIME, _T.TIMESPAN, _T.INT, _T.LONG, _T.REAL):
        raise BindingError(f"{arguments.use.name}() takes '{name}' as a time or number", arg.span)
    return found


Key = tuple[object, ...]


def by_dimensions(rows: Iterable[Row], count: int) -> dict[Key, list[Row]]:
    """Rows by their last `count` values, in order of appearance; these are taken off."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        width = len(row) - count
        found.setdefault(row[width:], []).append(row[:width])
    return found
