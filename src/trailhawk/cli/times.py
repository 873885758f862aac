"""Times and spans as people type them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from trailhawk.errors import UsageError

_PART = re.compile(r"(\d+)(w|d|h|m|s)")
_ISO_DURATION = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}

OLD: Final = timedelta(days=1)
"""What counts back from now finds little in logs that end longer before it."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def moment(text: str) -> datetime:
    """A date or time in ISO 8601, UTC where no offset is written."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"'{text}' is no time", hint="write 2023-07-01 or 2023-07-01T12:00:00Z") from None


def day(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"'{text}' is no day", hint="write 2023-07-01") from None


def duration(text: str) -> timedelta | None:
    """`7d`, `1d12h`, `2w`, `PT30M`; None for what is no duration."""
    text = text.strip()
    if text and not _PART.sub("", text):
        return sum((timedelta(**{_UNITS[unit]: int(n)}) for n, unit in _PART.findall(text)), timedelta())
    iso_form = _ISO_DURATION.fullmatch(text)
    if iso_form is None or not any(iso_form.groups()):
        return None
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in iso_form.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def time_range(text: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """`7d` up to now, or an ISO 8601 interval: `start/end`, `start/7d`, `7d/end`, `start/`, `/end`."""
    try:
        return _time_range(text, now)
    except OverflowError:
        raise UsageError(f"the timespan '{text}' reaches beyond the years 1 to 9999") from None


def _time_range(text: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    hint = "write 7d, 12h, or 2023-07-01/2023-07-02"
    start_text, slash, end_text = text.partition("/")
    if not slash:
        back = duration(text)
        if back is None:
            raise UsageError(f"'{text}' is no timespan", hint=hint)
        return now - back, now
    back, forth = duration(start_text), duration(end_text)
    start = moment(start_text) if start_text and back is None else None
    end = moment(end_text) if end_text and forth is None else None
    if back is not None:
        start = None if end is None else end - back
    if forth is not None:
        end = None if start is None else start + forth
    if (back or forth) and not (start and end):
        raise UsageError(f"'{text}' is no timespan", hint=hint)
    if start and end and start >= end:
        raise UsageError(f"the timespan '{text}' ends before it starts")
    return start, end
