"""Constants computed while binding, in ticks, so that literals, `ago()` and file pruning are exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta

from trailhawk.kql.literals import (
    DATETIME_MAX,
    DATETIME_MIN,
    datetime_ticks,
    format_datetime,
    format_timespan,
    timespan_ticks,
)
from trailhawk.kql.plan import Const, Expr
from trailhawk.kql.types import TICKS_PER_DAY, TICKS_PER_SECOND, KqlType

_EPOCH = date(1970, 1, 1)
_MONTHS = 10_000 * 12
_INT64 = 2**63


def _day(ticks: int) -> date:
    return _EPOCH + timedelta(days=ticks // TICKS_PER_DAY)


def _month(year: int, months: int) -> int:
    """When the month begins that is so many after the year's first; after the last one time ends."""
    index = year * 12 + months
    if index == _MONTHS:
        return DATETIME_MAX + 1
    return (date(index // 12, index % 12 + 1, 1) - _EPOCH).days * TICKS_PER_DAY


def _start_of_day(ticks: int, offset: int = 0) -> int:
    return (ticks // TICKS_PER_DAY + offset) * TICKS_PER_DAY


def _start_of_week(ticks: int, offset: int = 0) -> int:
    return _start_of_day(ticks, 7 * offset - _day(ticks).isoweekday() % 7)


def _start_of_month(ticks: int, offset: int = 0) -> int:
    day = _day(ticks)
    return _month(day.year, day.month - 1 + offset)


def _start_of_year(ticks: int, offset: int = 0) -> int:
    return _month(_day(ticks).year + offset, 0)


def _divide(left: int, right: int) -> int | None:
    if right == 0:
        return None
    size = abs(left) // abs(right)
    return size if (left < 0) == (right < 0) else -size


_STARTS: dict[str, Callable[[int, int], int]] = {
    "day": _start_of_day,
    "week": _start_of_week,
    "month": _start_of_month,
    "year": _start_of_year,
}

_T = KqlType
_WHOLE = (_T.INT, _T.LONG)


def fold(name: str, args: tuple[Const, ...], result: KqlType) -> Const | None:
    """The constant a call of constants gives; None where it is left to the engine."""
    tested = _test(name, args)
    if tested is not None:
        return Const(result, tested)
    if any(arg.value is None for arg in args):
        return None
    try:
        value = _fold(name, args, result)
    except (OverflowError, ValueError):
        # A day outside the years 1 to 9999 is null.
        return Const(result, None) if result is _T.DATETIME else None
    if isinstance(value, int) and not isinstance(value, bool):
        if result is _T.DATETIME and not DATETIME_MIN <= value <= DATETIME_MAX:
            return Const(result, None)
        if not -_INT64 <= value < _INT64:
            return None
    return None if value is None else Const(result, value)


def _fold(name: str, args: tuple[Const, ...], result: KqlType) -> bool | int | float | str | None:
    types = tuple(arg.type for arg in args)
    values = [arg.value for arg in args]
    first = values[0] if values else None
    if name in ("todatetime", "totimespan") and types == (_T.STRING,):
        read = datetime_ticks if name == "todatetime" else timespan_ticks
        return read(str(first))
    if (
        name == "tostring"
        and types[0] in (_T.DATETIME, _T.TIMESPAN, _T.STRING)
        and isinstance(first, int | str)
    ):
        if isinstance(first, str):
            return first
        return format_datetime(first) if types[0] is _T.DATETIME else format_timespan(first)
    if name == "strcat" and all(type_ is _T.STRING for type_ in types):
        return "".join(map(str, values))
    if first == "nanosecond" and name in ("datetime_part", "datetime_diff"):
        moments = [value for value in values[1:] if isinstance(value, int)]
        ticks = moments[0] % TICKS_PER_SECOND if name == "datetime_part" else moments[0] - moments[1]
        return ticks * 100
    if first == "nanosecond" and name == "datetime_add":
        count, moment = (value for value in values[1:] if isinstance(value, int))
        return moment + (count // 100 if count >= 0 else -(-count // 100))
    numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    if len(numbers) != len(values):
        return _reals(name, values, types)
    if name[:7] == "startof" and name[7:] in _STARTS:
        return _STARTS[name[7:]](numbers[0], numbers[1] if len(numbers) > 1 else 0)
    if name[:5] == "endof" and name[5:] in _STARTS:
        return _STARTS[name[5:]](numbers[0], (numbers[1] if len(numbers) > 1 else 0) + 1) - 1
    return _whole(name, numbers, types)


def _test(name: str, args: tuple[Const, ...]) -> bool | int | None:
    """What a function asks of its parameters, so that a filter nobody asked for costs nothing."""
    match name, args:
        case (("isnull" | "isnotnull"), (Const(type_, value),)) if type_ not in (_T.STRING, _T.DYNAMIC):
            return (value is None) == (name == "isnull")
        case (("isempty" | "isnotempty"), (Const(_T.STRING, str() as text),)):
            return (text == "") == (name == "isempty")
        case "array_length", (Const(_T.DYNAMIC, list() as array),):
            return len(array)
        case "not", (Const(_T.BOOL, bool() as truth),):
            return not truth
        case (("==" | "!="), (Const(_T.STRING, str() as left), Const(_T.STRING, str() as right))):
            return (left == right) == (name == "==")
        case (("==" | "!="), (Const(type_, int() as left), Const(other, int() as right))) if (
            type_ is other or {type_, other} <= {*_WHOLE}
        ):
            return (left == right) == (name == "==")
    return None


def either(op: str, left: Expr, right: Expr) -> Expr | None:
    """`and`, `or` where one side is a constant truth; None where it is not."""
    for side, other in ((left, right), (right, left)):
        if isinstance(side, Const) and isinstance(side.value, bool):
            return side if side.value == (op == "or") else other
    return None


def _whole(name: str, numbers: list[int], types: tuple[KqlType, ...]) -> int | None:
    if name == "neg":
        return -numbers[0]
    if len(numbers) != 2:
        return None
    left, right = numbers
    match name:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "bin" if right != 0:
            return left - left % abs(right)
        case "%" if right != 0:
            return left % abs(right)
        case "/" if not types[0] is types[1] is _T.TIMESPAN:
            return _divide(left, right)
    return None


def _reals(name: str, values: Sequence[object], types: tuple[KqlType, ...]) -> int | float | None:
    """Arithmetic with a real in it; a timespan times a real is cut to whole ticks."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != len(values):
        return None
    if name == "neg":
        return -numbers[0]
    if len(numbers) != 2 or _T.TIMESPAN not in types:
        return None
    if name == "*":
        return int(numbers[0] * numbers[1])
    if name == "/" and types[0] is _T.TIMESPAN and types[1] is not _T.TIMESPAN and numbers[1]:
        return int(numbers[0] / numbers[1])
    return None
