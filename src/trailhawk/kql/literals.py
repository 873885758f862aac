"""Text to datetime and timespan, and back: one set of rules for literals, todatetime() and totimespan().

All values are ticks of 100 ns. datetime counts from the Unix epoch, UTC.
Reference: https://learn.microsoft.com/kusto/query/scalar-data-types/datetime
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal, InvalidOperation

from trailhawk.kql.types import TICKS_PER_DAY, TICKS_PER_SECOND

TICKS_PER_MINUTE = 60 * TICKS_PER_SECOND
TICKS_PER_HOUR = 60 * TICKS_PER_MINUTE

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

DATETIME_MIN = (1 - _EPOCH_ORDINAL) * TICKS_PER_DAY
"""0001-01-01, Kusto's first moment."""
DATETIME_MAX = (date(9999, 12, 31).toordinal() + 1 - _EPOCH_ORDINAL) * TICKS_PER_DAY - 1
"""9999-12-31T23:59:59.9999999, its last."""
TIMESPAN_MAX = 2**63 - 1
TIMESPAN_MIN = -(2**63)

_UNITS = (
    (("d", "day", "days"), TICKS_PER_DAY),
    (("h", "hr", "hrs", "hour", "hours"), TICKS_PER_HOUR),
    (("m", "min", "minute", "minutes"), TICKS_PER_MINUTE),
    (("s", "sec", "second", "seconds"), TICKS_PER_SECOND),
    (("ms", "milli", "millis", "millisec", "millisecond", "milliseconds"), TICKS_PER_SECOND // 1000),
    (("micro", "micros", "microsec", "microsecond", "microseconds"), 10),
    (("tick", "ticks"), 1),
    (("nano", "nanos", "nanosec", "nanosecond", "nanoseconds"), Decimal("0.01")),
)
TIMESPAN_UNITS: dict[str, int | Decimal] = {name: ticks for names, ticks in _UNITS for name in names}
"""Every suffix a number may carry (`1d`, `2hours`) with its ticks."""

_MONTH_NAMES = """
    january february march april may june july august september october november december
"""
_MONTHS = {
    text: number for number, name in enumerate(_MONTH_NAMES.split(), start=1) for text in (name, name[:3])
}

_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?:[.,](?P<fraction>\d+))?)?"
    r"(?:\s*(?P<half>[AaPp][Mm]))?"
)
_ZONE = r"(?:\s*(?P<zone>[Zz]|GMT|UTC|UT|[+-]\d{2}(?::?\d{2})?))?"
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\s*)?"
_DATES = (
    r"(?P<year>\d{4})\s*[-/,]\s*(?P<month>\d{1,2})\s*[-/,]\s*(?P<day>\d{1,2})",
    r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})",
    r"(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4})",
    r"(?P<month>\d{1,2})-(?P<day>\d{1,2})-(?P<year>\d{4})",
    r"(?P<month>\d{1,2})\.(?P<day>\d{1,2})\.(?P<year>\d{4})",
    _WEEKDAY + r"(?P<day>\d{1,2})[\s-](?P<month>[A-Za-z]{3,9})[\s-](?P<year>\d{4}|\d{2})",
    _WEEKDAY + r"(?P<month>[A-Za-z]{3,9})\s+(?P<day>\d{1,2}),?\s+(?P<year>\d{4})",
)
_DATETIMES = [
    re.compile(rf"{day}(?:(?:\s*[Tt]\s*|\s+){_TIME}{_ZONE}|{_ZONE.replace('zone', 'dayzone')})", re.ASCII)
    for day in _DATES
]
_MONTH = re.compile(r"(?P<year>\d{4})(?:[-/](?P<month>\d{1,2}))?", re.ASCII)

_CLOCK = re.compile(
    r"(?P<sign>[+-])?(?:(?P<days>\d+)[.:](?=\d+:\d+:)|(?P<day>\d+)\.)?"
    r"(?P<hours>\d{1,2}):(?P<minutes>\d{1,2})(?::(?P<seconds>\d{1,2})(?:\.(?P<fraction>\d{1,7}))?)?",
    re.ASCII,
)
_AMOUNT = re.compile(r"(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*(?P<unit>[a-z]+)", re.ASCII)
_DAYS = re.compile(r"[+-]?\d+", re.ASCII)


def datetime_ticks(text: str) -> int | None:
    """The moment a text names, None where it names none. Without an offset it is UTC.

    >>> datetime_ticks("1970-01-01 01:00+00:30")
    18000000000
    """
    text = text.strip()
    for pattern in _DATETIMES:
        if found := pattern.fullmatch(text):
            return _moment(found.groupdict())
    if found := _MONTH.fullmatch(text):
        return _moment(found.groupdict())
    return None


def _moment(part: dict[str, str | None]) -> int | None:
    day = _ordinal(part)
    if day is None:
        return None
    clock = _clock(part)
    offset = _offset(part.get("zone") or part.get("dayzone"))
    if clock is None or offset is None:
        return None
    ticks = (day - _EPOCH_ORDINAL) * TICKS_PER_DAY + clock - offset
    return ticks if DATETIME_MIN <= ticks <= DATETIME_MAX else None


def _ordinal(part: dict[str, str | None]) -> int | None:
    year = int(part["year"] or 0)
    if len(part["year"] or "") == 2:
        year += 2000 if year < 50 else 1900
    month_text = part.get("month") or "1"
    month = int(month_text) if month_text.isdigit() else _MONTHS.get(month_text.lower(), 0)
    try:
        return date(year, month, int(part.get("day") or 1)).toordinal()
    except ValueError:
        return None


def _clock(part: dict[str, str | None]) -> int | None:
    if part.get("hour") is None:
        return 0
    hour, minute, second = (int(part.get(name) or 0) for name in ("hour", "minute", "second"))
    half = part.get("half")
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half in "PMpmPm" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    return (
        hour * TICKS_PER_HOUR
        + minute * TICKS_PER_MINUTE
        + second * TICKS_PER_SECOND
        + int((part.get("fraction") or "")[:7].ljust(7, "0"))
    )


def _offset(zone: str | None) -> int | None:
    if zone is None or zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 14 or minutes > 59:
        return None
    ticks = hours * TICKS_PER_HOUR + minutes * TICKS_PER_MINUTE
    return -ticks if zone[0] == "-" else ticks


def timespan_ticks(text: str) -> int | None:
    """The ticks of `d.hh:mm:ss.fffffff`, an amount with a unit, or a whole number of days; None otherwise.

    >>> timespan_ticks("1.00:00:00.5"), timespan_ticks("1.5h"), timespan_ticks("2")
    (864005000000, 54000000000, 1728000000000)
    """
    text = text.strip()
    if found := _CLOCK.fullmatch(text):
        return _clock_span(found)
    if found := _AMOUNT.fullmatch(text):
        return amount_ticks(found["number"], found["unit"])
    if _DAYS.fullmatch(text):
        return _bounded(int(text) * TICKS_PER_DAY) if len(text) < 20 else None
    return None


def _clock_span(found: re.Match[str]) -> int | None:
    hours, minutes, seconds = (int(found[name] or 0) for name in ("hours", "minutes", "seconds"))
    days = found["days"] or found["day"] or "0"
    if hours > 23 or minutes > 59 or seconds > 59 or len(days) > 9:
        return None
    ticks = (
        int(days) * TICKS_PER_DAY
        + hours * TICKS_PER_HOUR
        + minutes * TICKS_PER_MINUTE
        + seconds * TICKS_PER_SECOND
        + int((found["fraction"] or "").ljust(7, "0"))
    )
    return _bounded(-ticks if found["sign"] == "-" else ticks)


def amount_ticks(number: str, unit: str) -> int | None:
    """`1.5` and `h` to ticks; None for an unknown unit or too large an amount."""
    ticks = TIMESPAN_UNITS.get(unit)
    if ticks is None or len(number) > 40:
        return None
    try:
        return _bounded(int(Decimal(number) * ticks))
    except InvalidOperation:
        return None


def _bounded(ticks: int) -> int | None:
    return ticks if TIMESPAN_MIN <= ticks <= TIMESPAN_MAX else None


def format_datetime(ticks: int) -> str:
    """As tostring() prints it: always seven digits and Z.

    >>> format_datetime(0)
    '1970-01-01T00:00:00.0000000Z'
    """
    days, rest = divmod(ticks, TICKS_PER_DAY)
    return f"{date.fromordinal(days + _EPOCH_ORDINAL).isoformat()}T{_clock_text(rest)}Z"


def format_timespan(ticks: int) -> str:
    """As tostring() prints it: `[-][d.]hh:mm:ss[.fffffff]`.

    >>> format_timespan(-864005000000)
    '-1.00:00:00.5000000'
    """
    days, rest = divmod(abs(ticks), TICKS_PER_DAY)
    clock = _clock_text(rest)
    return ("-" if ticks < 0 else "") + (f"{days}." if days else "") + clock.removesuffix(".0000000")


def _clock_text(ticks: int) -> str:
    seconds, fraction = divmod(ticks, TICKS_PER_SECOND)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:07}"
