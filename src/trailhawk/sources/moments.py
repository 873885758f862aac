"""Times as logs write them, read strictly: microseconds since 1970, or None for what is no time."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import Final

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SECOND: Final = 1_000_000
LAST: Final = (dt.datetime(2200, 1, 1, tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(microseconds=1)
"""Where times end: a later one is a damaged number, not a time."""

_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(Z|UTC| UTC| ?[-+]\d\d:?\d\d)?", re.ASCII
)
_MONTHS: Final = {
    name: number
    for number, name in enumerate("JanFebMarAprMayJunJulAugSepOctNovDec"[i : i + 3] for i in range(0, 36, 3))
}
_CLF: Final = re.compile(r"(\d\d/[A-Z][a-z]{2}/\d{4}):(\d\d):(\d\d):(\d\d) ([-+]\d{4})", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,19}(?:\.\d{1,9})?", re.ASCII)


def moment(value: object) -> int | None:
    """A time as ISO 8601 text (UTC without zone), or as seconds, milliseconds or microseconds since 1970.

    >>> moment("2026-03-01T10:30:00+01:00") == moment(1772357400) == moment("1772357400000")
    True
    >>> moment("2025-10-21TT00:52:27Z") is moment(None) is moment(True) is moment(0) is None
    True
    """
    if isinstance(value, str):
        found = _ISO.fullmatch(value)
        if found is not None:
            return _iso(*found.groups())
        if _NUMBER.fullmatch(value) is None:
            return None
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return _number(value)


def clf(text: str) -> int | None:
    """A time of the common log format.

    >>> clf("06/Feb/2019:00:00:38 +0000") == moment("2019-02-06T00:00:38Z")
    True
    """
    found = _CLF.fullmatch(text)
    if found is None:
        return None
    day, hour, minute, second, zone = found.groups()
    midnight = _midnight(day, zone)
    # A leap second is the second before it.
    if midnight is None or not (hour < "24" and minute < "60" and second <= "60"):
        return None
    seconds = int(hour) * 3600 + int(minute) * 60 + min(int(second), 59)
    micros = midnight + seconds * _SECOND
    return micros if 0 <= micros < LAST else None


@lru_cache(maxsize=1024)
def _midnight(day: str, zone: str) -> int | None:
    """The start of a day such as 06/Feb/2019 in a zone such as +0000."""
    number, month, year = day.split("/")
    if month not in _MONTHS or zone[1:3] > "23" or zone[3:] > "59":
        return None
    try:
        at = dt.datetime.fromisoformat(f"{year}-{_MONTHS[month] + 1:02d}-{number}T00:00:00{zone}")
    except ValueError:
        return None
    return (at - _EPOCH) // dt.timedelta(microseconds=1)


def formatted(text: str, pattern: str) -> int | None:
    """A time in a format of strptime; UTC where the format has no zone."""
    try:
        at = dt.datetime.strptime(text, pattern)
    except ValueError:
        return None
    return _bounded(at if at.tzinfo else at.replace(tzinfo=dt.UTC))


def _iso(day: str, time: str, fraction: str | None, zone: str | None) -> int | None:
    zone = (zone or "").strip()
    offset = "+00:00" if zone in ("", "Z", "UTC") else zone
    if time.endswith(":60"):  # a leap second
        time = time[:-2] + "59"
    try:
        at = dt.datetime.fromisoformat(f"{day}T{time}{offset}")
    except ValueError:
        return None
    micros = _bounded(at)
    return None if micros is None else micros + int((fraction or "0").ljust(6, "0")[:6])


def _bounded(at: dt.datetime) -> int | None:
    micros = (at - _EPOCH) // dt.timedelta(microseconds=1)
    return micros if 0 <= micros < LAST else None


def _number(value: float) -> int | None:
    if not 0 < value < 1e17:
        return None
    scale = _SECOND if value < 1e11 else 1000 if value < 1e14 else 1
    micros = int(value * scale) if isinstance(value, int) else round(value * scale)
    return micros if micros < LAST else None
