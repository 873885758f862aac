"""Constants computed while binding, in ticks, so that literals, `ago()` and file pruning are exact."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

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


def _made(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return int(moment.timestamp()) * TICKS_PER_SECOND


def _months_later(ticks: int, count: int) -> int:
    """The same day of another month, or its last where it has no such day."""
    day = _day(ticks)
    start, end = (_month(day.year, day.month + count - 1 + more) for more in (0, 1))
    return min(start + (day.day - 1) * TICKS_PER_DAY, end - TICKS_PER_DAY) + ticks % TICKS_PER_DAY


def _added(part: str, count: int, ticks: int) -> int | None:
    if part in _IN_MONTHS:
        return _months_later(ticks, count * _IN_MONTHS[part])
    if part == "nanosecond":
        return ticks + (count // 100 if count >= 0 else -(-count // 100))
    return ticks + count * IN_TICKS[part] if part in IN_TICKS else None


def _between(part: str, later: int, earlier: int) -> int | None:
    """How many boundaries of the part lie between two moments; weeks begin on Sundays."""
    if part == "nanosecond":
        return (later - earlier) * 100
    if part in _IN_MONTHS:
        one, other = (day.year * 12 + day.month - 1 for day in map(_day, (later, earlier)))
        return one // _IN_MONTHS[part] - other // _IN_MONTHS[part]
    if part == "week":
        later, earlier = (_start_of_week(ticks) for ticks in (later, earlier))
        return (later - earlier) // IN_TICKS[part]
    if part not in IN_TICKS:
        return None
    return later // IN_TICKS[part] - earlier // IN_TICKS[part]


def rounded(value: int, size: int, type_: KqlType) -> int:
    """The value rounded down as bin() does it: times count from the first moment that KQL knows."""
    return value - (value - (DATETIME_MIN if type_ is _T.DATETIME else 0)) % size


def _divide(left: int, right: int) -> int | None:
    if right == 0:
        return None
    size = abs(left) // abs(right)
    return size if (left < 0) == (right < 0) else -size


STARTS: dict[str, Callable[[int, int], int]] = {
    "day": _start_of_day,
    "week": _start_of_week,
    "month": _start_of_month,
    "year": _start_of_year,
}

_IN_MONTHS = {"year": 12, "quarter": 3, "month": 1}
IN_TICKS = {
    "week": 7 * TICKS_PER_DAY,
    "day": TICKS_PER_DAY,
    "hour": 3600 * TICKS_PER_SECOND,
    "minute": 60 * TICKS_PER_SECOND,
    "second": TICKS_PER_SECOND,
    "millisecond": TICKS_PER_SECOND // 1000,
    "microsecond": TICKS_PER_SECOND // 1_000_000,
}
PARTS = frozenset({*_IN_MONTHS, *IN_TICKS, "nanosecond"})
"""The parts that `datetime_add` and `datetime_diff` know."""

_WHOLE_NUMBER = re.compile("-?[0-9]{1,18}")

_UNIX_TICKS = {
    "unixtime_seconds_todatetime": TICKS_PER_SECOND,
    "unixtime_milliseconds_todatetime": TICKS_PER_SECOND // 1000,
    "unixtime_microseconds_todatetime": TICKS_PER_SECOND // 1_000_000,
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
    if name in ("toint", "tolong") and types == (_T.STRING,) and _WHOLE_NUMBER.fullmatch(str(first)):
        number = int(str(first))
        return number if name == "tolong" or -(2**31) <= number < 2**31 else None
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
    if name in ("datetime_add", "datetime_diff"):
        one, other = (value for value in values[1:] if isinstance(value, int))
        return (_added if name == "datetime_add" else _between)(str(first).lower(), one, other)
    if first == "nanosecond" and name == "datetime_part":
        (moment,) = (value for value in values[1:] if isinstance(value, int))
        return moment % TICKS_PER_SECOND * 100
    if name in _UNIX_TICKS and isinstance(first, int | float) and first == int(first):
        return int(first) * _UNIX_TICKS[name]
    numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    if len(numbers) != len(values):
        return _reals(name, values, types)
    if name == "make_datetime":
        return _made(*numbers)
    if name[:7] == "startof" and name[7:] in STARTS:
        return STARTS[name[7:]](numbers[0], numbers[1] if len(numbers) > 1 else 0)
    if name[:5] == "endof" and name[5:] in STARTS:
        return STARTS[name[5:]](numbers[0], (numbers[1] if len(numbers) > 1 else 0) + 1) - 1
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
        case "bin" if right > 0:
            return rounded(left, right, types[0])
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
