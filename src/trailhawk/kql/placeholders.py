"""`{{StartTimeISO}}` and `{{EndTimeISO}}`: the time range a hunt is asked for, as its text writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trailhawk.errors import QueryError, Span

_PLACEHOLDER = re.compile(r"\{\{\s*(StartTimeISO|EndTimeISO)\s*\}\}")
_DAY = timedelta(days=1)
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Filled:
    """A text with its placeholders filled. `shifts`: from this place of the text on, so much longer."""

    text: str
    shifts: tuple[tuple[int, int], ...] = ()

    def explained(self, error: QueryError) -> QueryError:
        """The error with its place in the text as it was written."""
        if error.span is not None and self.shifts:
            error.span = Span(self._written(error.span.start), self._written(error.span.end))
        return error

    def _written(self, place: int) -> int:
        longer = 0
        for start, more in self.shifts:
            if place < start:
                break
            longer = more
        return place - longer


def fill(text: str, *, now: datetime, start: datetime | None, end: datetime | None) -> Filled:
    """The text with the range [start, end) written in; the day before `now` where neither is given.

    With one of them given, the range begins in 1970, or ends now.
    """
    if "{{" not in text:
        return Filled(text)
    if start is None:
        start = now - _DAY if end is None else _FIRST
    moments = {"StartTimeISO": start, "EndTimeISO": end or now}
    parts: list[str] = []
    shifts: list[tuple[int, int]] = []
    done = length = longer = 0
    for found in _PLACEHOLDER.finditer(text):
        moment = moments[found[1]].astimezone(UTC).isoformat(timespec="microseconds")
        written = moment.replace("+00:00", "Z")
        parts += [text[done : found.start()], written]
        length += found.start() - done + len(written)
        longer += len(written) - len(found[0])
        shifts.append((length, longer))
        done = found.end()
    return Filled("".join([*parts, text[done:]]), tuple(shifts))
