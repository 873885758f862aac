"""How a Python function becomes a KQL function: its signature gives types, its docstring the documentation.

A scalar function's body builds a SQL tree from SQL trees. A parameter annotated `Arg` gets the tree with
its KQL type and, for constants, the value. Examples in the docstring run as tests; one per line pair:

    >>> indexof("abc", "c")
    2
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Annotated, Any, Final, cast, get_args

from sqlglot import exp

from trailhawk.errors import UnsupportedError
from trailhawk.kql.lazy import Registry
from trailhawk.kql.types import KqlType

Sql = exp.Expr


class NeedsConstantError(UnsupportedError):
    """An argument must be a constant and is none; it may be one when the plan has been optimized."""


class _NotConstant:
    """The value of an argument that is not a constant."""

    def __repr__(self) -> str:
        return "NOT_CONSTANT"


NOT_CONSTANT: Final = _NotConstant()


@dataclass(frozen=True, slots=True)
class Arg:
    """An argument with its type; `value` is the constant it was folded to, or NOT_CONSTANT."""

    sql: Sql
    type: KqlType
    value: object = NOT_CONSTANT


_NUMBERS = frozenset({KqlType.INT, KqlType.LONG, KqlType.REAL, KqlType.DECIMAL})
_INTEGERS = frozenset({KqlType.INT, KqlType.LONG})
_SUMMABLE = _NUMBERS | {KqlType.TIMESPAN}
_ANY = frozenset(KqlType)
ORDERED: Final = _ANY - {KqlType.DYNAMIC, KqlType.GUID}
"""Types of which one value is the largest."""


@dataclass(frozen=True, slots=True)
class _Same:
    """Return type: that of the widest of the arguments annotated with a set of types, `least` or wider."""

    least: KqlType | None = None


Bool = Annotated[Sql, frozenset({KqlType.BOOL})]
Int = Annotated[Sql, frozenset({KqlType.INT})]
Long = Annotated[Sql, frozenset({KqlType.LONG})]
Real = Annotated[Sql, frozenset({KqlType.REAL})]
Decimal = Annotated[Sql, frozenset({KqlType.DECIMAL})]
String = Annotated[Sql, frozenset({KqlType.STRING})]
Datetime = Annotated[Sql, frozenset({KqlType.DATETIME})]
Timespan = Annotated[Sql, frozenset({KqlType.TIMESPAN})]
Guid = Annotated[Sql, frozenset({KqlType.GUID})]
Dynamic = Annotated[Sql, frozenset({KqlType.DYNAMIC})]
Number = Annotated[Sql, _NUMBERS]
Integer = Annotated[Sql, _INTEGERS]
Scalar = Annotated[Sql, _ANY]
AnyArg = Annotated[Arg, _ANY]
OrderedArg = Annotated[Arg, ORDERED]
NumberArg = Annotated[Arg, _NUMBERS]
IntegerArg = Annotated[Arg, _INTEGERS]
LongArg = Annotated[Arg, frozenset({KqlType.LONG})]
RealArg = Annotated[Arg, frozenset({KqlType.REAL})]
StringArg = Annotated[Arg, frozenset({KqlType.STRING})]
TimespanArg = Annotated[Arg, frozenset({KqlType.TIMESPAN})]
DynamicArg = Annotated[Arg, frozenset({KqlType.DYNAMIC})]
SummableArg = Annotated[Arg, _SUMMABLE]
MeanArg = Annotated[Arg, _SUMMABLE | {KqlType.DATETIME}]
Text = Annotated[Sql, _ANY, KqlType.STRING]
"""Anything, converted by tostring()."""
DynamicText = Annotated[Sql, frozenset({KqlType.DYNAMIC}), KqlType.STRING]
"""A dynamic, converted by tostring(): of a promoted path the text is stored."""
TextArg = Annotated[Arg, _ANY, KqlType.STRING]
Same = Annotated[Sql, _Same()]
Arithmetic = Annotated[Sql, _Same(KqlType.LONG)]
"""The type of arithmetic: int and int give long."""
Mean = Annotated[Sql, _Same(KqlType.REAL)]
"""The type of a mean: real for whole numbers."""

_ORDER = (KqlType.INT, KqlType.LONG, KqlType.REAL, KqlType.DECIMAL)


def widest(types: Iterable[KqlType]) -> KqlType | None:
    """The type that all of these convert to without loss of kind; None if there is none.

    int < long < real < decimal; dynamic with another type is dynamic.
    """
    found: KqlType | None = None
    for type_ in types:
        if found is None or found is type_:
            found = type_
        elif found.is_number and type_.is_number:
            found = max(found, type_, key=_ORDER.index)
        elif KqlType.DYNAMIC in (found, type_):
            found = KqlType.DYNAMIC
        else:
            return None
    return found


def _at_least(least: KqlType | None, type_: KqlType) -> KqlType:
    if least is None or not type_.is_number:
        return type_
    return max(type_, least, key=_ORDER.index)


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: the types it takes; `typed` if the body wants an `Arg`, `to` what it is converted to."""

    name: str
    types: frozenset[KqlType]
    typed: bool
    optional: bool
    to: KqlType | None = None

    def cost(self, given: KqlType, *, null: bool = False) -> int | None:
        """How much conversion this argument needs (0 none); None if it does not fit.

        A null goes where a column of its type would; where none fits, anywhere.
        """
        if given in self.types:
            return 0 if len(self.types) < len(_ANY) else 1
        if given is KqlType.DYNAMIC:
            return 4
        if given.is_number:
            wider = [to for to in _ORDER if to in self.types and _ORDER.index(to) > _ORDER.index(given)]
            if wider:
                return 2 + _ORDER.index(wider[0]) - _ORDER.index(given)
            if KqlType.REAL in self.types and self.to is None:
                return 5
        return 6 if null else None

    def convert_to(self, given: KqlType) -> KqlType:
        """The type the argument is converted to before the body sees it."""
        if self.to is not None:
            return self.to
        if given in self.types:
            return given
        if given.is_number:
            for to in _ORDER:
                if to in self.types and _ORDER.index(to) > _ORDER.index(given):
                    return to
            if KqlType.REAL in self.types:
                return KqlType.REAL
        if self.types >= _NUMBERS:
            return KqlType.REAL
        if self.types >= _INTEGERS:
            return KqlType.LONG
        return next(iter(self.types))


@dataclass(frozen=True, slots=True, eq=False)
class Overload:
    """One signature of a scalar function and the SQL it writes."""

    name: str
    params: tuple[Param, ...]
    variadic: Param | None
    returns: KqlType | _Same
    build: Callable[..., Sql]

    def match(self, types: tuple[KqlType, ...], nulls: tuple[bool, ...]) -> int | None:
        """Total conversion cost of calling this overload with arguments of these types; None if it cannot."""
        needed = sum(not param.optional for param in self.params)
        if len(types) < needed or (self.variadic is None and len(types) > len(self.params)):
            return None
        total = 0
        for index, given in enumerate(types):
            cost = self.param(index).cost(given, null=nulls[index])
            if cost is None:
                return None
            total += cost
        return total

    def param(self, index: int) -> Param:
        if index < len(self.params):
            return self.params[index]
        assert self.variadic is not None
        return self.variadic

    def result(self, types: tuple[KqlType, ...]) -> KqlType:
        """The type of the result for (converted) arguments of these types."""
        if isinstance(self.returns, KqlType):
            return self.returns
        open_types = [type_ for index, type_ in enumerate(types) if len(self.param(index).types) > 1]
        return widest(_at_least(self.returns.least, type_) for type_ in open_types) or KqlType.DYNAMIC

    def sql(self, args: list[Arg]) -> Sql:
        return self.build(*[arg if self.param(i).typed else arg.sql for i, arg in enumerate(args)])


@dataclass(slots=True, eq=False)
class ScalarFunction:
    """A KQL scalar function with its overloads.

    `name_after` says what the column of an unnamed use is called: None for Column1, "" for the first
    argument's name, "x" for x_ and the first argument's name, "=x" for x alone.
    """

    name: str
    documentation: str
    name_after: str | None
    internal: bool = False
    """Written by the binder only: an operator, or a step of one. No query can call it."""
    columns: tuple[tuple[str, KqlType], ...] = ()
    """For a function that gives several columns at once: suffix and type of each."""
    column_each: str = ""
    """For a function that gives a column for each array it takes: what stands after the array's name."""
    overloads: list[Overload] = field(default_factory=list)

    def __call__(self, *args: Sql) -> Sql:
        """Use the function inside another one's body (its first overload without `Arg` parameters)."""
        return self.overloads[0].build(*args)

    def overload(self, body: Callable[..., Sql]) -> Callable[..., Sql]:
        """Another signature of the same function."""
        self.overloads.append(signature(self.name, body))
        _resolved.cache_clear()
        return body

    def resolve(self, types: tuple[KqlType, ...], nulls: tuple[bool, ...]) -> Overload | None:
        """The overload with the least conversion; the earlier one among equals."""
        if len(types) > _FEW_ARGUMENTS:
            return _resolved.__wrapped__(self, types, nulls)
        return _resolved(self, types, nulls)


_FEW_ARGUMENTS = 16
"""Of calls with more it is not remembered what they resolve to: one may have 50,000, and all be different."""


@lru_cache(maxsize=4096)
def _resolved(
    function: ScalarFunction, types: tuple[KqlType, ...], nulls: tuple[bool, ...]
) -> Overload | None:
    costs = [
        (cost, i)
        for i, item in enumerate(function.overloads)
        if (cost := item.match(types, nulls)) is not None
    ]
    return function.overloads[min(costs)[1]] if costs else None


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """A KQL aggregate: SQL over a group, and the value of an empty one is in that SQL.

    `order` gets the input's sort keys where the function keeps order (make_list).
    """

    name: str
    documentation: str
    prefix: str | None
    overload: Overload
    keeps_order: bool = False
    window: bool = False
    internal: bool = False


FUNCTIONS: Registry[str, ScalarFunction] = Registry()
AGGREGATES: Registry[str, Aggregate] = Registry()
WINDOWS: Registry[str, Aggregate] = Registry()
for _one in (FUNCTIONS, AGGREGATES, WINDOWS):
    _one.peers = (FUNCTIONS, AGGREGATES, WINDOWS)


@cache
def _parts(annotation: str, module: str) -> tuple[Any, ...]:
    """What stands in an `Annotated`, without `| None`. The same few stand at hundreds of functions, and to
    read each anew, as `get_type_hints` does, would be a third of the time that these take to be loaded."""
    hint = eval(annotation, vars(sys.modules[module]))
    parts = get_args(hint)
    return get_args(parts[0]) if type(None) in parts else parts


def signature(name: str, body: Callable[..., object]) -> Overload:
    """The overload that a body's annotations describe."""
    hints, module = body.__annotations__, body.__module__
    params: list[Param] = []
    variadic: Param | None = None
    for parameter in inspect.signature(body).parameters.values():
        base, types, *to = _parts(hints[parameter.name], module)
        param = Param(parameter.name, types, base is Arg, parameter.default is not parameter.empty, *to)
        if parameter.kind is parameter.VAR_POSITIONAL:
            variadic = param
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            params.append(param)
    returned: Any = _parts(hints["return"], module)[1]
    returns = next(iter(returned)) if isinstance(returned, frozenset) else returned
    return Overload(name, tuple(params), variadic, returns, cast(Callable[..., Sql], body))


def scalar(
    name: str = "",
    *,
    aliases: tuple[str, ...] = (),
    name_after: str | None = None,
    internal: bool = False,
    column_each: str = "",
) -> Callable[[Callable[..., Sql]], ScalarFunction]:
    """Register a scalar function under its Python name (a trailing underscore dropped) or `name`."""

    def register(body: Callable[..., Sql]) -> ScalarFunction:
        own = name or body.__name__.rstrip("_")
        documentation = inspect.getdoc(body) or ""
        function = ScalarFunction(own, documentation, name_after, internal, column_each=column_each)
        function.overload(body)
        for key in (own, *aliases):
            FUNCTIONS[key] = function
        return function

    return register


def aggregate(
    name: str = "",
    *,
    aliases: tuple[str, ...] = (),
    prefix: str | None = None,
    keeps_order: bool = False,
    internal: bool = False,
) -> Callable[[Callable[..., Sql]], Aggregate]:
    """Register an aggregate; `prefix` names its column (`prefix_argument`), if not given the own name."""

    def register(body: Callable[..., Sql]) -> Aggregate:
        own = name or body.__name__.rstrip("_")
        function = Aggregate(
            own,
            inspect.getdoc(body) or "",
            own if prefix is None else prefix,
            signature(own, body),
            keeps_order,
            internal=internal,
        )
        if not internal:
            AGGREGATES.update(dict.fromkeys((own, *aliases), function))
        return function

    return register


def window(name: str = "") -> Callable[[Callable[..., Sql]], Aggregate]:
    """Register a window function; its SQL is put before `OVER (order of the input)`."""

    def register(body: Callable[..., Sql]) -> Aggregate:
        own = name or body.__name__.rstrip("_")
        function = Aggregate(own, inspect.getdoc(body) or "", None, signature(own, body), window=True)
        WINDOWS[own] = function
        return function

    return register
