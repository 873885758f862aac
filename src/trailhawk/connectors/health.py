"""Which streams of logs fell silent or shrank, judged by what each did before.

A stream is the objects of one source, account and region. What is usual for it is learnt from the ledger: how
far apart the newest events of its objects lie, how late they are stored, and how many rows a day brings.
Nights and weekends count as usual once they were seen.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from trailhawk.connectors.ledger import LEDGER
from trailhawk.lake import Lake
from trailhawk.lake.files import opened

if TYPE_CHECKING:
    import pyarrow as pa

MEMORY: Final = dt.timedelta(days=90)
"""A stream of which nothing was stored for so long is forgotten."""

HORIZON: Final = dt.timedelta(days=28)
"""What is usual is learnt from so long before a stream's newest event; four weekends are in it."""

LEAST_OBJECTS: Final = 8
LEAST_SPAN: Final = dt.timedelta(days=1)
LEAST_SILENCE: Final = dt.timedelta(minutes=15)
LEAST_DAYS: Final = 7
LEAST_ROWS: Final = 50
"""A stream that brings fewer rows a day is not said to have shrunk."""

_SLACK = 1.5
_SHRUNK = 0.5
_DELAYED = 2
_LIVE = np.timedelta64(1, "D")
_DAY = np.timedelta64(1, "D")
_ACCOUNT = re.compile(r"(?:^|/)(\d{12})(?=/)")
_REGION = re.compile(r"(?:^|/)([a-z]{2}(?:-[a-z]+)+-\d)(?=/)")

Moments = NDArray[np.datetime64]
Spans = NDArray[np.timedelta64]


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """How a stream of logs fares.

    `state`: ok; silent (no event for longer than is usual); delayed (events are stored much later than is
    usual); shrunk (the last day brought much less than the days before); learning (too few objects to judge
    by). `account` and `region` are read from where the
    objects lay, '' where that does not tell. `silence` is how long no event may come before it is silent;
    `delay` is the median from event to row, `delay_now` that of what was stored in the last day; None where
    there is none. `rows` are those of the last day, `usual_rows` the median day.
    """

    source: str
    table: str
    account: str
    region: str
    state: str
    reason: str
    objects: int
    last_event: dt.datetime
    quiet: dt.timedelta
    silence: dt.timedelta
    delay: dt.timedelta | None
    delay_now: dt.timedelta | None
    rows: int
    usual_rows: int

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.source, self.account, self.region) if part)


def streams(lake: Lake, *, now: dt.datetime) -> list[StreamHealth]:
    """Every stream of which the ledger knows, by source, account and region."""
    found: dict[tuple[str, str, str, str], list[_Objects]] = defaultdict(list)
    for key, objects in _by_stream(lake, now - MEMORY):
        found[key].append(objects)
    moment = np.datetime64(now.astimezone(dt.UTC).replace(tzinfo=None), "us")
    return [_judged(key, _Objects.joined(parts), moment) for key, parts in sorted(found.items())]


@dataclass(frozen=True)
class _Objects:
    """Objects of a stream: their newest event, when they were stored, their rows."""

    last: Moments
    stored: Moments
    rows: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: list[_Objects]) -> _Objects:
        """All of them, the oldest first."""
        last = np.concatenate([part.last for part in parts])
        order = np.argsort(last, kind="stable")
        stored = np.concatenate([part.stored for part in parts])
        rows = np.concatenate([part.rows for part in parts])
        return cls(last[order], stored[order], rows[order])

    def since(self, moment: np.datetime64) -> _Objects:
        start = int(np.searchsorted(self.last, moment))
        return _Objects(self.last[start:], self.stored[start:], self.rows[start:])


def _by_stream(lake: Lake, since: dt.datetime) -> Iterator[tuple[tuple[str, str, str, str], _Objects]]:
    places: dict[str, tuple[str, str]] = {}
    columns = ["TimeGenerated", "Location", "Source", "TargetTable", "Rows", "LastEvent"]
    for file in lake.snapshot(LEDGER.name).files(since):
        with opened(file.path) as parquet:
            rows = parquet.read(columns=columns)
        rows = rows.filter(rows["LastEvent"].is_valid())
        yield from _split(rows, places)


def _split(
    rows: pa.Table, places: dict[str, tuple[str, str]]
) -> Iterator[tuple[tuple[str, str, str, str], _Objects]]:
    members: dict[tuple[str, str, str, str], list[int]] = defaultdict(list)
    sources, tables = rows["Source"].to_pylist(), rows["TargetTable"].to_pylist()
    for index, location in enumerate(rows["Location"].to_pylist()):
        folder = location.rpartition("/")[0] + "/"
        place = places.get(folder)
        if place is None:
            place = places[folder] = _place(folder)
        members[sources[index], tables[index], *place].append(index)
    last, stored = rows["LastEvent"].to_numpy(), rows["TimeGenerated"].to_numpy()
    counts = rows["Rows"].to_numpy()
    for key, indexes in members.items():
        yield key, _Objects(last[indexes], stored[indexes], counts[indexes])


def _place(folder: str) -> tuple[str, str]:
    """Account and region as AWS writes them into the names of folders."""
    account, region = _ACCOUNT.search(folder), _REGION.search(folder)
    return (account[1] if account else "", region[1] if region else "")


def _judged(key: tuple[str, str, str, str], objects: _Objects, now: np.datetime64) -> StreamHealth:
    source, table, account, region = key
    newest = objects.last[-1]
    recent = objects.since(newest - np.timedelta64(HORIZON))
    delays = recent.stored - recent.last
    # What is stored a day after its event or later is a backfill, and tells nothing of delays.
    live = (delays >= np.timedelta64(0, "us")) & (delays < _LIVE)
    fresh = live & (recent.stored > now - _DAY)
    delays, delays_now = delays[live & ~fresh] if (live & ~fresh).any() else delays[live], delays[fresh]
    delay, delay_now = _median(delays), _median(delays_now)
    quiet = max(now - newest, np.timedelta64(0, "us"))
    silence = _silence(recent, delays)
    rows, usual, low = _volumes(recent, newest if quiet > silence else now - _late(delays))
    if quiet >= _DAY:
        rows = 0
    state, reason = "ok", ""
    if len(recent.last) < LEAST_OBJECTS or newest - recent.last[0] < np.timedelta64(LEAST_SPAN):
        state, reason = "learning", f"{len(recent.last)} objects so far"
    elif quiet > silence:
        state, reason = "silent", f"no event for {_long(quiet)}, usual is one every {_long(silence)} at most"
    elif delay_now is not None and delay_now > _span(_late(delays)) * _DELAYED + LEAST_SILENCE:
        late = _long(np.timedelta64(delay_now))
        state, reason = "delayed", f"rows come {late} after their events, usual are {_long(_late(delays))}"
    elif usual >= LEAST_ROWS and rows < low * _SHRUNK:
        state, reason = "shrunk", f"{rows:,} rows in the last day, usual are {usual:,}"
    return StreamHealth(
        source=source,
        table=table,
        account=account,
        region=region,
        state=state,
        reason=reason,
        objects=len(objects.last),
        last_event=_moment(newest),
        quiet=_span(quiet),
        silence=_span(silence),
        delay=delay,
        delay_now=delay_now,
        rows=rows,
        usual_rows=usual,
    )


def _silence(objects: _Objects, delays: Spans) -> np.timedelta64:
    """How long no event may come: the longest usual gap between objects with some slack, and the usual delay.

    Of many gaps the longest hundredth is left out, so that an outage of last week does not count as usual.
    """
    gaps = np.sort(np.diff(np.unique(objects.last)).astype(np.int64))
    left_out = -(-len(gaps) // 100) if len(gaps) >= 30 else 0
    longest = int(gaps[-1 - left_out]) if len(gaps) else 0
    usual = np.timedelta64(int(longest * _SLACK), "us") + _late(delays)
    return max(np.timedelta64(usual, "s"), np.timedelta64(LEAST_SILENCE))


def _late(delays: Spans) -> np.timedelta64:
    """From event to row, as slow as it usually gets."""
    return np.timedelta64(int(np.quantile(delays.astype(np.int64), 0.95)) if len(delays) else 0, "us")


def _median(delays: Spans) -> dt.timedelta | None:
    return dt.timedelta(microseconds=int(np.median(delays.astype(np.int64)))) if len(delays) else None


def _volumes(objects: _Objects, end: np.datetime64) -> tuple[int, int, int]:
    """Rows of the day up to `end`, of the median day before, and of a poor day before (0 where too few are
    known)."""
    ago = np.clip(((end - objects.last) // _DAY).astype(np.int64), 0, None)
    days = int(ago.max(initial=0))  # the oldest day is cut off by the horizon and left out
    if days < LEAST_DAYS:
        return int(objects.rows[ago == 0].sum()), 0, 0
    sums = np.bincount(ago, weights=objects.rows, minlength=days)
    before = sums[1:days]
    return int(sums[0]), int(np.median(before)), int(np.quantile(before, 0.1))


def _long(span: np.timedelta64) -> str:
    """A span for people: 45 min, 6.5 h, 3.0 d."""
    minutes = span / np.timedelta64(1, "m")
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.1f} d"


def _span(span: np.timedelta64) -> dt.timedelta:
    return dt.timedelta(microseconds=int(span.astype("timedelta64[us]").astype(np.int64)))


def _moment(moment: np.datetime64) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + _span(moment - np.datetime64(0, "us"))
