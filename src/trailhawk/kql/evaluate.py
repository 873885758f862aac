"""Bound expressions over Python values, for operators whose rows depend on rows before them (scan).

Not a second engine: what depends on the row alone is computed by the engine beforehand, and a function that
is not known here is refused by name. Values are as in a `Frame`: datetime and timespan are ticks, dynamic is
what its JSON says, null is None, text is never null. Equality is total, order is not, as in the engine.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from trailhawk.errors import Span, UnsupportedError
from trailhawk.kql import decimals
from trailhawk.kql.folding import PARTS, STARTS, fold, rounded
from trailhawk.kql.functions.operators import SEPARATOR, term_end, term_start
from trailhawk.kql.literals import DATETIME_MIN, format_datetime, format_timespan
from trailhawk.kql.plan import Call, ColumnRef, Const, Expr, PathExpr
from trailhawk.kql.types import KqlType

Row = Sequence[object]
Value = Callable[[Row], object]
"""An expression as a function of the values of a row."""
Body = Callable[..., object]
_T = KqlType
_INT64 = 2**63
_LIMIT = 1_000_000
"""Characters of a text, elements of an array: a state that grows with every row must end somewhere."""


def evaluator(expr: Expr, places: Mapping[int, int], span: Span) -> Value:
    """The expression as a function of a row, whose value number `places[id]` is the column of this id."""
    match expr:
        case Const():
            value = expr.value
            return lambda row: value
        case ColumnRef():
            place = places[expr.id]
            return lambda row: row[place]
        case PathExpr():
            base, steps = evaluator(expr.base, places, span), expr.steps
            return lambda row: _at(base(row), steps)
        case Call():
            return _call(expr, [evaluator(arg, places, span) for arg in expr.args], span)
        case _:
            raise UnsupportedError("a query over values of earlier rows", span)


def _call(call: Call, args: list[Value], span: Span) -> Value:
    name = call.overload.name
    if name == "and":
        left, right = args
        return lambda row: _and(left(row), right(row))
    if name == "or":
        left, right = args
        return lambda row: _or(left(row), right(row))
    if name == "case":
        return lambda row: _case(args, row)
    types = tuple(arg.type for arg in call.args)
    if name in _TYPED:
        body = _TYPED[name](types, call.type)
        return lambda row: body(*[arg(row) for arg in args])
    if name in _TOTAL:
        total = _TOTAL[name]
        return lambda row: total(*[arg(row) for arg in args])
    if name in _PLAIN:
        plain = _PLAIN[name]
        return lambda row: _unless_null(plain, [arg(row) for arg in args])
    if name in _OF_TIME and (types[0] is not _T.STRING or _is_part(call.args[0])):
        return lambda row: _as_constant(name, types, [arg(row) for arg in args], call.type)
    raise UnsupportedError(f"{name}() of values of earlier rows", span)


def _unless_null(body: Body, values: list[object]) -> object:
    if any(value is None for value in values):
        return None
    return body(*values)


def _is_part(expr: Expr) -> bool:
    return isinstance(expr, Const) and str(expr.value).lower() in PARTS


def _as_constant(name: str, types: Sequence[KqlType], values: Sequence[Any], result: KqlType) -> object:
    """The value as the binder computes it of constants; null where there is none."""
    found = fold(name, tuple(map(Const, types, values)), result)
    return None if found is None else found.value


# --- logic -------------------------------------------------------------------------------------------------


def _and(left: object, right: object) -> object:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _or(left: object, right: object) -> object:
    if left is True or right is True:
        return True
    return None if left is None or right is None else False


def _case(args: Sequence[Value], row: Row) -> object:
    for condition, value in zip(args[:-1:2], args[1::2], strict=True):
        if condition(row) is True:
            return value(row)
    return args[-1](row)


def _equal(left: object, right: object) -> object:
    if left is None and right is None:
        return None
    return _is_same(left, right)


def _not_equal(left: object, right: object) -> object:
    if left is None and right is None:
        return None
    return not _is_same(left, right)


def _is_same(left: object, right: object) -> bool:
    left, right = _compared(left, right)
    return left == right


def _in(value: object, *items: object) -> bool:
    return value is not None and any(_is_same(value, item) for item in items)  # a NaN would be found by `in`


def _in_fold(value: object, *items: object) -> bool:
    return str(value).lower() in [str(item).lower() for item in items]


# --- numbers and times -------------------------------------------------------------------------------------


def _bounded(value: object) -> object:
    """Whole numbers outside 64 bits are null."""
    if isinstance(value, int) and not isinstance(value, bool) and not -_INT64 <= value < _INT64:
        return None
    return value


def _whole(value: float) -> object:
    return _bounded(int(value)) if math.isfinite(value) else None


def _low_bits(value: int) -> int:
    """The lower 64 bits of a whole number."""
    return (value + _INT64) % (2 * _INT64) - _INT64


def _arithmetic(body: Callable[[float, float], float]) -> Callable[[tuple[KqlType, ...], KqlType], Body]:
    """Addition and the like, over numbers, times, and decimals; what is whole stays so."""

    def typed(types: tuple[KqlType, ...], result: KqlType) -> Body:
        def compute(left: object, right: object) -> object:
            left, right = _alike(left, right)
            if left is None or right is None:
                return None
            found = body(left, right)  # type: ignore[arg-type]  # the binder lets only numbers come here
            if result in (_T.LONG, _T.INT) and isinstance(found, int):
                return _low_bits(found)
            if result in (_T.DATETIME, _T.TIMESPAN, _T.LONG, _T.INT):
                return _whole(found)
            return _held(found)

        return compute

    return typed


def _is_mixed(left: object, right: object) -> bool:
    """Are these a decimal and a real?"""
    return {type(left), type(right)} == {Decimal, float}


def _alike(left: object, right: object) -> tuple[object, object]:
    """Two numbers that are computed with each other: of a decimal and a real the real is made a decimal."""
    if _is_mixed(left, right):
        left, right = (_decimal_of(item) if isinstance(item, float) else item for item in (left, right))
    return left, right


def _compared(left: object, right: object) -> tuple[object, object]:
    """Two values that are compared: of a decimal and a real the decimal is made a real."""
    return (_real_of(left), _real_of(right)) if _is_mixed(left, right) else (left, right)


def _decimal_of(real: float) -> Decimal | None:
    return decimals.held(Decimal(repr(real)))


def _held(value: object) -> object:
    return decimals.held(value) if isinstance(value, Decimal) else value


def _product(left: Any, right: Any) -> Any:
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return decimals.product(left, right)
    return left * right


def _ordered(body: Callable[[Any, Any], bool]) -> Body:
    return lambda left, right: body(*_compared(left, right))


def _divided(types: tuple[KqlType, ...], result: KqlType) -> Body:
    def compute(left: object, right: object) -> object:
        if left is None or right is None:
            return None
        a, b = cast(tuple[float, float], _alike(left, right))
        if result is _T.REAL:
            return _real_quotient(float(a), float(b))
        if result is _T.DECIMAL:
            return None if a is None or b is None else decimals.quotient(Decimal(a), Decimal(b))
        if b == 0:
            return None
        if isinstance(a, int) and isinstance(b, int):
            size = abs(a) // abs(b)
            return _low_bits(size if (a < 0) == (b < 0) else -size)
        return _whole(a / b) if result is _T.TIMESPAN else a / b

    return compute


def _real_quotient(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def _modulo(left: Any, right: Any) -> object:
    left, right = _alike(left, right)
    if left is None or right is None:
        return None
    if right == 0:
        return math.nan if float in (type(left), type(right)) else None
    size = abs(right)
    once = left % size
    if once < 0:  # A decimal's has the sign of the left.
        once += size
    # The sum of a tiny one is the size itself, and no remainder is -0.0.
    return _held(type(once)(0) if once >= size else once + 0)


def _bin(types: tuple[KqlType, ...], result: KqlType) -> Body:
    return lambda value, size: _binned(value, size, types[0])


def _binned(value: Any, size: Any, type_: KqlType) -> object:
    if value is None or size is None or size < 0:
        return None
    if isinstance(value, int) and isinstance(size, int):
        return rounded(value, size, type_) if size else None
    if isinstance(value, Decimal) or isinstance(size, Decimal):
        value, size = _alike(value, size)
        rest = _modulo(value, size) if value is not None and size is not None else None
        return None if rest is None else _held(value - rest)
    quotient = _real_quotient(value, size)
    return float(math.floor(quotient) if math.isfinite(quotient) else quotient) * size


def _without_nan(values: Sequence[object]) -> list[object]:
    """The values that are not null; NaN only where all are."""
    given = [value for value in values if value is not None]
    return [value for value in given if not (isinstance(value, float) and math.isnan(value))] or given


def _most(*values: object) -> object:
    given = _without_nan(values)
    return max(given) if given else None  # type: ignore[type-var]  # all are of one ordered type


def _least(*values: object) -> object:
    given = _without_nan(values)
    return min(given) if given else None  # type: ignore[type-var]  # all are of one ordered type


# --- texts -------------------------------------------------------------------------------------------------


def _text(value: object, type_: KqlType) -> str:
    """As tostring() writes it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value) if type_ is _T.BOOL else str(value).lower()
    if type_ is _T.DATETIME and isinstance(value, int):
        return format_datetime(value)
    if type_ is _T.TIMESPAN and isinstance(value, int):
        return format_timespan(value)
    if isinstance(value, Decimal):
        digits = f"{value:f}"
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


def _joined(types: tuple[KqlType, ...], result: KqlType) -> Body:
    def compute(*values: object) -> str:
        text = "".join(_text(value, type_) for value, type_ in zip(values, types, strict=True))
        return text[:_LIMIT]

    return compute


def _term(fold: bool, *, before: bool = True, after: bool = True) -> Body:
    """Is the needle there as a whole term, or at a term's beginning or end?"""
    flags = re.IGNORECASE if fold else 0

    def found(source: str, needle: str) -> bool:
        start = f"(?:^|{SEPARATOR})" if before and term_start(needle) else ""
        end = f"(?:$|{SEPARATOR})" if after and term_end(needle) else ""
        return re.search(f"{start}{re.escape(needle)}{end}", source, flags) is not None

    return found


def _folded(body: Callable[[str, str], bool]) -> Body:
    return lambda left, right: body(left.lower(), right.lower())


def _long_of(value: object) -> object:
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"[+-]?[0-9]+", text):
            return _bounded(int(text))
        return int(text, 16) if re.fullmatch(r"0[xX][0-9a-fA-F]{1,15}", text) else None
    if isinstance(value, float):
        return max(-_INT64 + 1, min(int(value), _INT64 - 1)) if math.isfinite(value) else None
    return int(value) if isinstance(value, bool | int | Decimal) else None


def _int_of(value: object) -> object:
    if isinstance(value, float) and math.isfinite(value):
        return max(-(2**31), min(int(value), 2**31 - 1))
    if isinstance(value, int) and not isinstance(value, bool):
        return (value + 2**31) % 2**32 - 2**31
    return _as_int(_long_of(value))


def _as_int(found: object) -> object:
    return found if isinstance(found, int) and -(2**31) <= found < 2**31 else None


def _int_of_dynamic(text: object, value: object) -> object:
    """A number gives its lower 32 bits, a text beyond them none."""
    return _as_int(_long_of(value)) if isinstance(value, str) else _int_of(value)


def _counted(body: Body) -> Callable[[tuple[KqlType, ...], KqlType], Body]:
    """A number of a value; a datetime's ticks are counted from the year 1, as Kusto does."""

    def typed(types: tuple[KqlType, ...], result: KqlType) -> Body:
        start = -DATETIME_MIN if types[0] is _T.DATETIME else 0
        return lambda value: body(value + start) if start and isinstance(value, int) else body(value)

    return typed


def _real_of(value: object) -> object:
    if isinstance(value, str):
        try:
            return None if "_" in value else float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, bool | int | float | Decimal) else None


# --- dynamic values ----------------------------------------------------------------------------------------


def _at(value: object, steps: Sequence[object]) -> object:
    for step in steps:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def _element(value: object, type_: KqlType) -> object:
    """The value as it stands inside a dynamic one."""
    if isinstance(value, Decimal):
        return float(value)
    return _text(value, type_) if type_ in (_T.DATETIME, _T.TIMESPAN) and value is not None else value


def _packed(types: tuple[KqlType, ...], result: KqlType) -> Body:
    return lambda *values: [_element(value, type_) for value, type_ in zip(values, types, strict=True)]


def _bag(types: tuple[KqlType, ...], result: KqlType) -> Body:
    def compute(*parts: object) -> dict[str, object]:
        values = [_element(value, type_) for value, type_ in zip(parts[1::2], types[1::2], strict=True)]
        return dict(zip(map(str, parts[::2]), values, strict=True))

    return compute


def _concat(*arrays: object) -> object:
    """What is no array counts as none."""
    return [item for array in arrays if isinstance(array, list) for item in array][:_LIMIT]


def _merge(*bags: object) -> object:
    """Of one key the leftmost value."""
    merged: dict[str, object] = {}
    for bag in bags:
        if isinstance(bag, dict):
            for key, value in bag.items():
                merged.setdefault(key, value)
    return merged


def _union(*arrays: object) -> object:
    """Each element once, as its JSON tells them apart; null where one is no array."""
    if not all(isinstance(array, list) for array in arrays):
        return None
    found: dict[object, object] = {}
    for item in cast(list[object], _concat(*arrays)):
        # A state has many texts and comes with each row: they are their own keys, the others' JSON is none.
        found.setdefault(item if isinstance(item, str) else (json.dumps(item),), item)
    return list(found.values())


def _has_element(types: tuple[KqlType, ...], result: KqlType) -> Body:
    """Whether an element is the same as JSON; a null is none."""

    def compute(array: object, value: object) -> bool:
        element = _element(value, types[1])
        if element is None or not isinstance(array, list):
            return False
        text = json.dumps(element)
        # An array that grows with every row is mostly of texts or whole numbers: these are told apart first.
        likely = (item for item in array if item == element or not isinstance(item, str | int))
        return any(json.dumps(item) == text for item in likely)

    return compute


def _dynamic(types: tuple[KqlType, ...], result: KqlType) -> Body:
    def compute(value: object) -> object:
        if types[0] is not _T.STRING:
            return _element(value, types[0])
        try:
            parsed: object = json.loads(str(value))
        except ValueError:
            return value or None
        return parsed

    return compute


# --- which function is which -------------------------------------------------------------------------------

_TYPED: dict[str, Callable[[tuple[KqlType, ...], KqlType], Body]] = {
    "+": _arithmetic(lambda a, b: a + b),
    "-": _arithmetic(lambda a, b: a - b),
    "*": _arithmetic(_product),
    "/": _divided,
    "bin": _bin,
    "tolong": _counted(_long_of),
    "toint": _counted(_int_of),
    "todouble": _counted(_real_of),
    "strcat": _joined,
    "tostring": lambda types, result: lambda value: _text(value, types[0]),
    "todynamic": _dynamic,
    "parse_json": _dynamic,
    "pack_array": _packed,
    "bag_pack": _bag,
    "set_has_element": _has_element,
}
"""Functions that mind the types of their arguments."""

_TOTAL: dict[str, Body] = {
    "==": _equal,
    "!=": _not_equal,
    "in": _in,
    "in~": _in_fold,
    "isnull": lambda value: value is None,
    "isnotnull": lambda value: value is not None,
    "isempty": lambda value: value is None or value == "",
    "isnotempty": lambda value: value is not None and value != "",
    "coalesce": lambda *values: next((value for value in values if value is not None), None),
    "coalesce_text": lambda *values: next((value for value in values if value), ""),
    "max_of": _most,
    "min_of": _least,
    "array_concat": _concat,
    "bag_merge": _merge,
    "set_union": _union,
    "array_length": lambda value: len(value) if isinstance(value, list) else None,
}
"""Functions that take nulls as values."""

_PLAIN: dict[str, Body] = {
    "<": _ordered(lambda a, b: a < b),
    "<=": _ordered(lambda a, b: a <= b),
    ">": _ordered(lambda a, b: a > b),
    ">=": _ordered(lambda a, b: a >= b),
    "not": lambda value: not value,
    "neg": lambda value: _low_bits(-value) if isinstance(value, int) else -value,
    "%": _modulo,
    "abs": lambda value: _low_bits(abs(value)) if isinstance(value, int) else abs(value),
    "=~": _folded(lambda a, b: a == b),
    "!~": _folded(lambda a, b: a != b),
    "contains": _folded(lambda a, b: b in a),
    "contains_cs": lambda a, b: b in a,
    "startswith": _folded(lambda a, b: a.startswith(b)),
    "startswith_cs": lambda a, b: a.startswith(b),
    "endswith": _folded(lambda a, b: a.endswith(b)),
    "endswith_cs": lambda a, b: a.endswith(b),
    "has": _term(True),
    "has_cs": _term(False),
    "hasprefix": _term(True, after=False),
    "hasprefix_cs": _term(False, after=False),
    "hassuffix": _term(True, before=False),
    "hassuffix_cs": _term(False, before=False),
    "strlen": len,
    "tolower": lambda text: text.lower(),
    "toupper": lambda text: text.upper(),
    "long_of_dynamic": lambda text, value: _long_of(value),
    "int_of_dynamic": _int_of_dynamic,
    "real_of_dynamic": lambda text, value: _real_of(value),
    "dynamic_at": lambda value, step: _at(value, (step,)),
    "dynamic_member": lambda value, step: _at(value, (step,)),
}
"""Functions that give null where an argument is null."""

_OF_TIME = frozenset(
    {"datetime_add", "datetime_diff", *(edge + unit for edge in ("startof", "endof") for unit in STARTS)}
)
"""Functions of times that are computed as constants are."""
