"""What `declare` gives a query: parameters with values from outside, and patterns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from trailhawk.errors import BindingError, Span
from trailhawk.kql import syntax
from trailhawk.kql.parser.values import READERS
from trailhawk.kql.plan import Const, ConstValue, Node
from trailhawk.kql.scalars import ticks_of
from trailhawk.kql.scope import Env, FunctionBinding, PatternBinding, ScalarBinding, Scope
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
_READ = frozenset({_T.BOOL, _T.INT, _T.LONG, _T.REAL, _T.DECIMAL, _T.GUID})
"""Types whose texts are read as in a literal; the conversion of a text reads times."""


def parameter(
    binder: Binder, declared: syntax.Parameter, values: Mapping[str, object], env: Env
) -> ScalarBinding:
    """A query parameter: the value given from outside, or its default. No text of a value becomes query."""
    type_ = declared.type
    if type_ is None:
        raise BindingError("a query parameter has a type", declared.span)
    if declared.name in values:
        given = _constant(values[declared.name], declared)
        value = binder.scalars.convert(given, type_, declared.span)
        if not isinstance(value, Const) or (value.value is None and given.value is not None):
            raise _is_none(declared)
        return ScalarBinding(value)
    if declared.default is None:
        hint = f"write {declared.name}: type = value"
        raise BindingError(f"the parameter '{declared.name}' has no value", declared.span, hint=hint)
    default = binder.scalars.bind(declared.default, Scope((), env))
    return ScalarBinding(binder.scalars.convert(default, type_, declared.default.span))


def _constant(value: object, declared: syntax.Parameter) -> Const:
    """A Python value as a constant of its own type."""
    found: tuple[KqlType, ConstValue]
    match value:
        case None:
            found = (_T.DYNAMIC, None)
        case bool():
            found = (_T.BOOL, value)
        case int() if -(2**63) <= value < 2**63:
            found = (_T.LONG, value)
        case float():
            found = (_T.REAL, value)
        case Decimal():
            found = (_T.DECIMAL, value)
        case UUID():
            found = (_T.GUID, str(value))
        case datetime():
            found = (_T.DATETIME, ticks_of(value if value.tzinfo else value.replace(tzinfo=UTC)))
        case timedelta():
            found = (_T.TIMESPAN, (value // timedelta(microseconds=1)) * 10)
        case str() if declared.type is _T.DYNAMIC:
            found = (_T.DYNAMIC, _json(value, declared.span))
        case str() if declared.type in _READ:
            read = READERS[declared.type](value.strip())
            if read is None:
                raise _is_none(declared)
            found = (declared.type, read)
        case str():
            found = (_T.STRING, value)
        case list() | dict():
            found = (_T.DYNAMIC, value)
        case _:
            raise BindingError(f"'{declared.name}' cannot be a {type(value).__name__}", declared.span)
    return Const(*found)


def _is_none(declared: syntax.Parameter) -> BindingError:
    wanted = "" if declared.type is None else declared.type.value
    return BindingError(
        f"the value of parameter '{declared.name}' is no {wanted}", declared.span, code="wrong-type"
    )


def _json(text: str, span: Span) -> ConstValue:
    try:
        value = json.loads(text)
    except ValueError:
        raise BindingError("a dynamic parameter is given as JSON", span) from None
    return value if isinstance(value, bool | int | float | str | list | dict) else None


def pattern_of(expr: syntax.Expr, env: Env) -> tuple[PatternBinding, syntax.Call, syntax.Expr | None] | None:
    """The pattern, call and path of `name(values)`, `name(values).path` or `name(values)["path"]`."""
    path: syntax.Expr | None = None
    called = expr
    if isinstance(expr, syntax.Member):
        called, path = expr.target, syntax.Literal(expr.span, expr.name, _T.STRING)
    elif isinstance(expr, syntax.Index):
        called, path = expr.target, expr.index
    if not isinstance(called, syntax.Call) or called.target is not None:
        return None
    binding = env.get(called.name)
    return (binding, called, path) if isinstance(binding, PatternBinding) else None


def pattern_table(
    binder: Binder, found: tuple[PatternBinding, syntax.Call, syntax.Expr | None], env: Env
) -> Node:
    """The table that a pattern maps these arguments to."""
    pattern, call, path = found

    def values(items: tuple[syntax.Expr, ...]) -> tuple[object, ...]:
        return tuple(binder.scalars.constant(item, env, "a pattern's argument").value for item in items)

    places = () if path is None else (path,)
    wanted = (values(call.args), values(places))
    for case in pattern.value.cases:
        own = () if case.path is None else (case.path,)
        if (values(case.values), values(own)) == wanted:
            function = FunctionBinding(pattern.value.name, case.body, pattern.env)
            body_env = binder.call_scope(function, (), Scope((), env), call.span)
            if case.body.body is None:
                raise BindingError(f"'{function.name}' has no result", call.span)
            return binder.table_or_graph(case.body.body, body_env)
    shown = ", ".join(repr(value) for value in wanted[0])
    place = "".join(f"[{value!r}]" for value in wanted[1])
    raise BindingError(f"the pattern does not map {call.name}({shown}){place}", call.span)
