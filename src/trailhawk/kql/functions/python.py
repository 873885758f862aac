"""Scalar functions that SQL cannot say: one row's Python values in, one value out.

    @python(name_after="")
    def series_sum(series: Json) -> Float | None:

Parameters are annotated with the types below; a value is None for null (text never is), datetime and
timespan are ticks, dynamic is what its JSON says. NumPy and SciPy are imported inside the body, when first
used. The engine runs the body over columns, so a body has no side effects.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from sqlglot import exp

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.registry import FUNCTIONS, Arg, Overload, ScalarFunction, Sql, signature
from trailhawk.kql.records import replace
from trailhawk.kql.types import KqlType

Text = Annotated[str, frozenset({KqlType.STRING})]
Whole = Annotated[int, frozenset({KqlType.LONG})]
Float = Annotated[float, frozenset({KqlType.REAL})]
ExactFloat = Annotated[float, frozenset({KqlType.REAL}), KqlType.REAL]
"""A real, and no decimal made one: where the nearest real gives quite another result."""
Exact = Annotated[Decimal, frozenset({KqlType.DECIMAL})]
Flag = Annotated[bool, frozenset({KqlType.BOOL})]
Json = Annotated[object, frozenset({KqlType.DYNAMIC})]
Moment = Annotated[int, frozenset({KqlType.DATETIME})]
Duration = Annotated[int, frozenset({KqlType.TIMESPAN})]
Value = Annotated[object, frozenset(KqlType)]
"""A value of any type, handed over as what its JSON says: times are KQL text."""

PREFIX = "th_py_"
"""Before the name of each such function in SQL."""


@dataclass(frozen=True, slots=True, eq=False)
class PythonFunction:
    """A body with its SQL name, and the types of its parameters and result."""

    name: str
    params: tuple[KqlType, ...]
    returns: KqlType
    body: Callable[..., object]


PYTHON: dict[str, PythonFunction] = {}
"""By SQL name, in lower case."""


def python(
    name: str = "",
    *,
    aliases: tuple[str, ...] = (),
    name_after: str | None = None,
    columns: tuple[tuple[str, KqlType], ...] = (),
    internal: bool = False,
) -> Callable[[Callable[..., object]], ScalarFunction]:
    """Register a scalar function computed in Python.

    With `columns` the body gives a list, and an unnamed use gives one column for each place of it, called
    `function_argument_suffix`. An `internal` one is part of other functions' SQL, no query can call it.
    """

    def register(body: Callable[..., object]) -> ScalarFunction:
        own = name or body.__name__.rstrip("_")
        function = ScalarFunction(own, inspect.getdoc(body) or "", name_after, internal, columns)
        function.overloads.append(_overload(own, body, len(function.overloads)))
        for key in (own, *aliases):
            FUNCTIONS[key] = function
        return function

    return register


def python_overload(function: ScalarFunction) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Another signature of a function, computed in Python."""

    def register(body: Callable[..., object]) -> Callable[..., object]:
        function.overloads.append(_overload(function.name, body, len(function.overloads)))
        return body

    return register


def _overload(own: str, body: Callable[..., object], number: int) -> Overload:
    read = signature(own, body)
    if read.variadic is not None or not isinstance(read.returns, KqlType):
        raise TypeError(f"{own}: a Python function has fixed parameters and one type of result")
    taken = tuple(replace(param, typed=len(param.types) > 1) for param in read.params)
    params = tuple(KqlType.DYNAMIC if param.typed else next(iter(param.types)) for param in taken)
    sql_name = f"{PREFIX}{own}_{number}"
    PYTHON[sql_name] = PythonFunction(sql_name, params, read.returns, body)
    returns = read.returns

    def build(*args: Sql | Arg) -> Sql:
        given = [_json(arg) if isinstance(arg, Arg) else arg for arg in args]
        missing = [sql.cast(exp.Null(), type_) for type_ in params[len(args) :]]
        called = sql.call(sql_name, *given, *missing)
        if returns is KqlType.STRING:
            return sql.text(called)
        return sql.cast(called, returns) if returns is KqlType.DYNAMIC else called

    build.__module__ = body.__module__  # where the function stands: its page of the reference
    return Overload(own, taken, None, returns, build)


def _json(arg: Arg) -> Sql:
    """The argument as JSON, which has no word for what is not finite: that is null."""
    from trailhawk.kql.functions.dynamic import json_value  # Which uses conversions, and these this module.

    if arg.type is not KqlType.REAL:
        return json_value(arg)
    return sql.case((sql.call("isfinite", arg.sql.copy()), json_value(arg)), otherwise=exp.Null())
