"""Windows that ended alike one after the other, as one row of the state database.

Most windows of a sparse log are quiet: nothing is run for them, and each is done, having seen as many rows as
the one before. T are arrays of microseconds since the Unix epoch, ascending.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import sqlalchemy as sa

from trailhawk.detect.rule import Rule
from trailhawk.detect.schedule import EPOCH, SUPPRESSED, Window, WindowState
from trailhawk.detect.store import spans_table, windows_table

Moments = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Microseconds since the Unix epoch."""
Counts = np.ndarray[tuple[int], np.dtype[np.int64]]
Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]

_MICROSECOND = timedelta(microseconds=1)


def micros(span: timedelta) -> int:
    """A span of time in microseconds."""
    return span // _MICROSECOND


def place(moment: datetime) -> int:
    """A moment in microseconds since the Unix epoch."""
    return micros(moment - EPOCH)


def moment_at(place: int) -> datetime:
    """The moment so many microseconds after the Unix epoch."""
    return EPOCH + timedelta(microseconds=int(place))


def window_at(rule: Rule, place: int) -> Window:
    """The rule's window whose T is so many microseconds after the Unix epoch."""
    at = moment_at(place)
    return Window(rule.id, at, at - rule.period, at - rule.frequency)


def regular(frequency: timedelta, start: int, end: int) -> Moments:
    """T of the runs that see the events of [start, end) as news, see `windows`."""
    step = micros(frequency)
    return np.arange((start // step + 1) * step, end + step, step, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Span:
    """The windows of a rule at `first`, `first` + `step` and so on up to `last`, all of which ended so."""

    step: int
    first: int
    last: int
    state: WindowState
    reason: str
    seen: int

    @property
    def windows(self) -> int:
        """How many windows these are."""
        return (self.last - self.first) // self.step + 1

    def next(self, at: int) -> int:
        """The first T at or after this moment, of the span's or as if it went on."""
        return max(self.first, at + (self.first - at) % self.step)


def is_final(state: WindowState, reason: str) -> bool:
    """Whether a window that ended so is run again for more rows only."""
    return state is WindowState.DONE or reason == SUPPRESSED


def spans(step: int, at: Moments, seen: Counts, state: WindowState, reason: str = "") -> Iterator[Span]:
    """These windows as few spans; `seen` has a number for each of them."""
    if not len(at):
        return
    edges = np.flatnonzero((np.diff(at) != step) | (np.diff(seen) != 0))
    firsts, lasts = np.concatenate(([0], edges + 1)), np.concatenate((edges, [len(at) - 1]))
    columns = (at[firsts].tolist(), at[lasts].tolist(), seen[firsts].tolist())
    for first, last, rows in zip(*columns, strict=True):
        yield Span(step, first, last, state, reason, rows)


def known(connection: sa.Connection, rule_id: str, at: Moments) -> Counts:
    """Of each of these windows how many rows it had seen when it ended; -1 where it is to be run anyhow."""
    seen = np.full(len(at), -1, np.int64)
    if not len(at):
        return seen
    query = sa.select(_at, windows_table.c.state, windows_table.c.reason, windows_table.c.seen).where(
        windows_table.c.rule_id == rule_id, _at.between(int(at[0]), int(at[-1]))
    )
    # Rows before spans: a row that becomes part of a span meanwhile is found in one of them.
    own = {
        place: rows if is_final(WindowState(state), reason) else -1
        for place, state, reason, rows in connection.execute(query)
    }
    for span in _stored(connection, rule_id, since=int(at[0])):
        part = slice(np.searchsorted(at, span.first), np.searchsorted(at, span.last, "right"))
        rows = span.seen if is_final(span.state, span.reason) else -1
        seen[part] = np.where((at[part] - span.first) % span.step == 0, rows, seen[part])
    places, counts = (np.fromiter(each, np.int64, len(own)) for each in (own.keys(), own.values()))
    _, here, there = np.intersect1d(at, places, assume_unique=True, return_indices=True)
    seen[here] = counts[there]
    return seen


def covered(connection: sa.Connection, rule_id: str, at: Moments) -> Mask:
    """Of each of these windows, whether a span has it."""
    found = np.zeros(len(at), bool)
    for span in _stored(connection, rule_id, since=int(at[0])) if len(at) else ():
        found |= (at >= span.first) & (at <= span.last) & ((at - span.first) % span.step == 0)
    return found


def done_since(connection: sa.Connection, rule_id: str, since: int) -> tuple[Moments, Counts]:
    """The windows after this T that are done, of those that have no row of their own: T and the rows seen."""
    query = sa.select(_at).where(windows_table.c.rule_id == rule_id, _at > since)
    own = np.array(connection.scalars(query).all(), np.int64)
    found = [
        (np.arange(first, span.last + 1, span.step), span)
        for span in _stored(connection, rule_id, since=since + 1)
        if (first := span.next(since + 1)) <= span.last
    ]
    # Of several spans the last one counts, so it comes first.
    moments = np.concatenate([_NONE, *(at for at, _ in reversed(found))])
    rows = [span.seen if span.state is WindowState.DONE else -1 for _, span in reversed(found)]
    seen = np.repeat(np.array(rows, np.int64), [len(at) for at, _ in reversed(found)])
    at, places = np.unique(moments, return_index=True)
    is_here = (seen[places] >= 0) & ~np.isin(at, own)
    return at[is_here], seen[places][is_here]


def _stored(connection: sa.Connection, rule_id: str, *, since: int) -> list[Span]:
    """The spans of a rule that end at this T or later, in the order in which they were written."""
    return [span for _, span in _numbered(connection, rule_id, since=since)]


def _numbered(connection: sa.Connection, rule_id: str, *, since: int) -> list[tuple[int, Span]]:
    c = spans_table.c
    query = sa.select(c.number, c.step, c.first_at, c.last_at, c.state, c.reason, c.seen)
    rows = connection.execute(query.where(c.rule_id == rule_id, c.last_at >= since).order_by(c.number))
    return [
        (number, Span(step, first, last, WindowState(state), reason, seen))
        for number, step, first, last, state, reason, seen in rows
    ]


def write(connection: sa.Connection, rule_id: str, new: Sequence[Span]) -> None:
    """Write spans of one step, none of which overlap, in place of what is stored of their windows.

    A row stays by which another process has meanwhile seen as much.
    """
    if not new:
        return
    connection.execute(
        _FORGET,
        [
            {
                "rule": rule_id,
                "first": span.first,
                "last": span.last,
                "step": span.step,
                "enough": span.seen if is_final(span.state, span.reason) else _EVERYTHING,
            }
            for span in new
        ],
    )
    new = sorted(new, key=lambda span: span.first)
    c = spans_table.c
    steps = {new[0].step, *connection.scalars(sa.select(c.step).where(c.rule_id == rule_id).distinct())}
    step = new[0].step
    old = _numbered(connection, rule_id, since=new[0].first - step if len(steps) == 1 else -_EVERYTHING)
    if len(steps) == 1:  # of a rule whose frequency changed, all stays in order
        old = [(number, span) for number, span in old if _touches(span, new)]
    left = [*(part for _, span in old for part in _without(span, new)), *new]
    if len(steps) == 1:
        left = list(_joined(left))
    if old:
        numbers = [{"replaced": number} for number, _ in old]
        connection.execute(sa.delete(spans_table).where(c.number == sa.bindparam("replaced")), numbers)
    connection.execute(sa.insert(spans_table), [_row(rule_id, span) for span in left])


def _touches(old: Span, new: Sequence[Span]) -> bool:
    """Whether one of the newer spans overlaps a span of the same step, or follows or precedes it at once."""
    after = bisect_left(new, old.first - old.step, key=lambda span: span.last)
    return after < len(new) and new[after].first <= old.last + old.step


def _without(old: Span, new: Sequence[Span]) -> Iterator[Span]:
    """What is left of a span beside newer ones, in order of time. One whose windows are not all of the newer
    ones' frequency stays whole: what is written later counts."""
    if old.step % new[0].step:
        yield old
        return
    first = old.first
    for span in new[bisect_left(new, old.first, key=lambda span: span.last) :]:
        if span.first > old.last:
            break
        if first < span.first:
            yield replace(old, first=first, last=old.next(span.first) - old.step)
        first = old.next(span.last + 1)
    if first <= old.last:
        yield replace(old, first=first)


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Spans of one step in order of time; those that follow each other and are alike as one."""
    ordered = sorted(spans, key=lambda span: span.first)
    whole = ordered[0]
    for span in ordered[1:]:
        if (
            replace(span, first=whole.first, last=whole.last) == whole
            and span.first == whole.last + span.step
        ):
            whole = replace(whole, last=span.last)
        else:
            yield whole
            whole = span
    yield whole


def _row(rule_id: str, span: Span) -> dict[str, object]:
    return {
        "rule_id": rule_id,
        "step": span.step,
        "first_at": span.first,
        "last_at": span.last,
        "state": span.state.value,
        "reason": span.reason,
        "seen": span.seen,
    }


_NONE = np.zeros(0, np.int64)
_EVERYTHING = (1 << 63) - 1
_at = sa.type_coerce(windows_table.c.at, sa.BigInteger)
_FORGET = sa.delete(windows_table).where(
    windows_table.c.rule_id == sa.bindparam("rule"),
    _at >= sa.bindparam("first"),
    _at <= sa.bindparam("last"),
    (_at - sa.bindparam("first")) % sa.bindparam("step") == 0,
    sa.not_(
        sa.and_(
            windows_table.c.state == WindowState.DONE.value, windows_table.c.seen >= sa.bindparam("enough")
        )
    ),
)
