"""Operators over series: make-series."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, LimitError, Span
from trailhawk.kql import syntax
from trailhawk.kql.functions import AGGREGATES
from trailhawk.kql.literals import format_datetime, format_timespan
from trailhawk.kql.names import Names
from trailhawk.kql.operators.groups import aggregate_item, fresh_riders, key_parts, no_dynamic_key
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import (
    carried,
    named_values,
    one_of,
    property_text,
    refs,
    riding_calls,
    scope_of,
)
from trailhawk.kql.operators.tables import one_row
from trailhawk.kql.plan import (
    Aggregate,
    Apply,
    Const,
    Expr,
    Filter,
    Frame,
    Node,
    OutColumn,
    Project,
)
from trailhawk.kql.records import replace
from trailhawk.kql.scalars import Collector
from trailhawk.kql.scope import Env, Scope
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
MAX_PLACES = 1 << 20
"""The longest series; Kusto's own bound."""
_TOLERANCE = 1e-9
"""Of a bin: sizes of reals are not exact."""


@dataclass(frozen=True)
class _Axis:
    """Where the places of the series are: bins of one size, from a start to a stop where these are given."""

    name: str
    value: Expr
    bin: Expr
    size: Expr
    start: Expr | None
    stop: Expr | None
    with_stop: bool


@step(syntax.MakeSeries)
def make_series(binder: Binder, node: Node, operator: syntax.MakeSeries, env: Env) -> Node:
    """Rows grouped by keys and bins in the engine; the bins are then put side by side, gaps filled."""
    scope = scope_of(node, env)
    names = Names()
    keys = named_values(binder, operator.by, scope)
    for _, _, value, span in keys:
        no_dynamic_key(value, span)
    key_columns = [
        OutColumn(binder.new_id(), names.unique(name or names.computed()), value.type)
        for name, _, value, _ in keys
    ]
    collect = Collector(AGGREGATES)
    outputs: list[tuple[str, Expr]] = []
    defaults: list[object] = []
    for item in operator.columns:
        found = aggregate_item(binder, item.value, scope, collect, names, set())
        outputs += found
        defaults += [_default(binder, item, value.type, env) for _, value in found]
    axis = _axis(binder, operator, scope, env)
    parts, along = key_parts(binder, node), fresh_riders(binder, node)
    bin_column = OutColumn(binder.new_id(), "", axis.bin.type)
    grouped = Aggregate(
        (*key_columns, *parts, bin_column, *collect.columns, *along),
        _within(binder, node, axis, operator),
        (*(value for _, _, value, _ in keys), *refs(carried(binder, node)), axis.bin),
        (*collect.calls, *riding_calls(node)),
    )
    values = [OutColumn(binder.new_id(), name, value.type) for name, value in outputs]
    places = Project(
        (*key_columns, *parts, *along, bin_column, *values),
        grouped,
        (*refs((*key_columns, *parts, *along, bin_column)), *(value for _, value in outputs)),
    )
    bounds = _bounds(binder, axis)
    kept = tuple(replace(column, id=binder.new_id()) for column in (*key_columns, *parts, *along))
    series = [OutColumn(binder.new_id(), name, _T.DYNAMIC) for name, _ in outputs]
    series.append(OutColumn(binder.new_id(), names.unique(axis.name), _T.DYNAMIC))
    is_kept = property_text(operator, "kind") is not None and one_of(operator, "kind", ("nonempty",))
    nonempty = bool(is_kept) and not keys and not parts

    def put(frames: tuple[Frame, ...]) -> Sequence[Sequence[object]]:
        return _side_by_side(frames[0], frames[1], len(kept), tuple(defaults), axis, nonempty=nonempty)

    return Apply(
        (*kept, *series),
        (places, bounds),
        (places.columns, bounds.columns),
        put,
        "make-series",
        feeders=(0,) if keys else (),
    )


def _default(binder: Binder, item: syntax.MakeSeriesColumn, type_: KqlType, env: Env) -> object:
    """What stands where a bin has no rows: the default asked for, else 0; null for what 0 is not of."""
    if item.default is None:
        return 0.0 if type_ is _T.REAL else 0 if type_.is_number else None
    given = binder.scalars.constant(item.default, env, "a default")
    if type_.is_number and given.type.is_number and isinstance(given.value, int | float | Decimal):
        return float(given.value) if type_ in (_T.REAL, _T.DECIMAL) else given.value
    return _element(given.value, given.type)


def _axis(binder: Binder, operator: syntax.MakeSeries, scope: Scope, env: Env) -> _Axis:
    name, _, value, span = named_values(binder, (operator.axis,), scope)[0]
    size = binder.scalars.bind(operator.step, Scope((), env))
    if isinstance(size, Const) and isinstance(size.value, int | float) and size.value <= 0:
        raise BindingError("the step of a series must be positive", operator.step.span)
    start = None if operator.start is None else binder.scalars.bind(operator.start, Scope((), env))
    stop = None if operator.stop is None else binder.scalars.bind(operator.stop, Scope((), env))
    if start is None or operator.in_range:
        bin_ = binder.scalars.call("bin", [value, size], span)
    else:
        start = binder.scalars.convert(start, value.type, span) if _is_text(start) else start
        bin_ = binder.scalars.call("bin_at", [value, size, start], span)
    if stop is not None and _is_text(stop):
        stop = binder.scalars.convert(stop, value.type, span)
    return _Axis(name or "Column1", value, bin_, size, start, stop, operator.in_range)


def _is_text(value: Expr) -> bool:
    return value.type in (_T.STRING, _T.DYNAMIC)


def _within(binder: Binder, node: Node, axis: _Axis, operator: syntax.MakeSeries) -> Node:
    """The rows that fall on the axis."""
    span = operator.axis.span
    tests = []
    if axis.start is not None:
        # With `in range` the first bin may begin before the start.
        first = axis.start
        if axis.with_stop:
            first = binder.scalars.call("bin", [first, axis.size], span)
        tests.append(binder.scalars.call(">=", [axis.value, first], span))
    if axis.stop is not None:
        given = axis.bin if axis.with_stop else axis.value
        tests.append(binder.scalars.call("<=" if axis.with_stop else "<", [given, axis.stop], span))
    if not tests:
        null = binder.scalars.call("isnull", [axis.value], span)
        tests.append(binder.scalars.call("not", [null], span))
    for test in tests:
        node = Filter(node.columns, node, test)
    return node


def _bounds(binder: Binder, axis: _Axis) -> Node:
    """One row: the size of a bin, the first bin and the stop, null where it is not given."""
    start = axis.start
    if start is not None and axis.with_stop:
        start = binder.scalars.call("bin", [start, axis.size], Span(0, 0))
    values: list[Expr] = [axis.size]
    values += [Const(axis.bin.type, None) if bound is None else bound for bound in (start, axis.stop)]
    columns = tuple(OutColumn(binder.new_id(), "", value.type) for value in values)
    return Project(columns, one_row(binder), tuple(values))


def _side_by_side(
    places: Frame, bounds: Frame, kept: int, defaults: tuple[object, ...], axis: _Axis, *, nonempty: bool
) -> Sequence[Sequence[object]]:
    """One row for each combination of keys: the keys, an array for each aggregate, the axis."""
    size, start, stop = (_number(bound) for bound in bounds.rows()[0])
    if size is None or size <= 0:
        raise BindingError("the step of a series must be positive")
    types = [column.type for column in places.columns[kept + 1 :]]
    found: dict[tuple[object, ...], dict[int | float, tuple[object, ...]]] = {}
    for row in places.rows():
        point = _number(row[kept])
        if point is not None:
            found.setdefault(row[:kept], {})[point] = row[kept + 1 :]
    if not found and nonempty:
        found[()] = {}
    rows: list[tuple[object, ...]] = []
    for keys in sorted(found, key=_in_order):
        bins = found[keys]
        first = start if start is not None else min(bins, default=0)
        count = _count(bins, first, stop, size, with_stop=axis.with_stop)
        at = {round((point - first) / size): values for point, values in bins.items()}
        arrays: list[list[object]] = [[] for _ in defaults]
        for place in range(count):
            values = at.get(place)
            if values is None:
                for array, default in zip(arrays, defaults, strict=True):
                    array.append(default)
            else:
                for array, type_, value in zip(arrays, types, values, strict=True):
                    array.append(_element(value, type_))
        points = [_element(first + place * size, axis.bin.type) for place in range(count)]
        rows.append((*keys, *arrays, points))
    return [[row[place] for row in rows] for place in range(kept + len(defaults) + 1)]


def _count(
    bins: Collection[int | float],
    first: int | float,
    stop: int | float | None,
    size: int | float,
    *,
    with_stop: bool,
) -> int:
    """How many places the axis has; without a stop up to the last bin that has rows."""
    if stop is None:
        count = round((max(bins) - first) / size) + 1 if bins else 0
    elif with_stop:
        count = math.floor((stop - first) / size + _TOLERANCE) + 1
    else:
        count = math.ceil((stop - first) / size - _TOLERANCE)
    if count > MAX_PLACES:
        raise LimitError(f"a series holds at most {MAX_PLACES} values", hint="make the step larger")
    return max(count, 0)


def _number(value: object) -> int | float | None:
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, int | float) else None


def _element(value: object, type_: KqlType) -> object:
    """A value as an element of a dynamic array: times as KQL text."""
    if isinstance(value, int) and type_ is _T.DATETIME:
        return format_datetime(value)
    if isinstance(value, int) and type_ is _T.TIMESPAN:
        return format_timespan(value)
    return float(value) if isinstance(value, Decimal) else value


def _in_order(keys: tuple[object, ...]) -> tuple[tuple[bool, object], ...]:
    """Nulls first, so that two runs give the rows in one order."""
    return tuple((key is not None, key) for key in keys)
