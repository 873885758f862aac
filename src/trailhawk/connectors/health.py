"""Which streams of logs fell silent or shrank, judged by what each did before.

A stream is the objects of one source, account and region. What is usual for it is learnt from the ledger: how
far apart the newest events of its objects lie, how late they are stored, and how many rows a day brings.
Nights and weekends count as usual once they were seen. What filters drop counts as come.
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

from trailhawk.connectors.ledger import AGAIN, DOUBLED, LEDGER, LOST, RESTORED
from trailhawk.lake import Lake
from trailhawk.lake.files import opened
from trailhawk.words import counted

if TYPE_CHECKING:
    import pyarrow as pa

MEMORY: Final = dt.timedelta(days=90)
"""A stream of which nothing was stored for so long is forgotten."""

HORIZON: Final = dt.timedelta(days=28)
"""What is usual is learnt from so long before a stream's newest event; four weekends are in it."""

LEAST_OBJECTS: Final = 8
LEAST_SPAN: Final = dt.timedelta(days=1)
LEAST_SILENCE: Final = dt.timedelta(minutes=15)
LEAST_DAYS: Final = 14
LEAST_ROWS: Final = 50
LEAST_OF_A_DAY: Final = 12
"""A stream that brings fewer rows or objects a day is not said to have shrunk."""

WEEK: Final = dt.timedelta(days=7)
LEAST_OF_A_STRETCH: Final = 10
"""So many objects must have come in the same hours of weeks before for a stream to be called quiet."""
LENIENCE: Final = dt.timedelta(hours=1)
"""By how much a week may begin later than those before, as it does when summer time ends."""

_SLACK = 1.5
_IRREGULAR = 5.0
_YOUNG_SLACK = 3.0
_ALIKE = 1.5
_MOST_OUTAGES = 2
_SHRUNK = 0.5
_DELAYED = 2
_LIVE = np.timedelta64(1, "D")
_DAY = np.timedelta64(1, "D")
_ACCOUNT = re.compile(r"(?:^|[/=])(\d{12})(?=/)")
_REGION = re.compile(r"(?:^|[/=])([a-z]{2}(?:-[a-z]+)+-\d)(?=/)")

Moments = NDArray[np.datetime64]
Spans = NDArray[np.timedelta64]


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """How a stream of logs fares.

    `state`: ok; silent (no event for longer than is usual); quiet (no event for less than that, in hours in
    which the weeks before brought many); delayed (events are stored much later than is usual); shrunk (the
    last day brought much less than the days before); learning (too few objects to judge by). `account` and
    `region` are read from where the objects lay, '' where that does not tell. `silence` is how long no event
    may come before it is silent;
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
    columns = [
        "TimeGenerated",
        "Object",
        "Location",
        "Source",
        "TargetTable",
        "State",
        "Rows",
        "Filtered",
        "LastEvent",
    ]
    for file in lake.snapshot(LEDGER.name).files(since):
        with opened(file.path) as parquet:
            rows = parquet.read(columns=columns)
        yield from _split(_signs_of_life(rows), places)


def _signs_of_life(rows: pa.Table) -> pa.Table:
    """The entries that tell of events; not those of objects that are read once more for rows that were
    dropped or lost, nor those of a repair of the lake."""
    import pyarrow as pa
    import pyarrow.compute as pc

    again = pc.fill_null(pc.match_substring_regex(rows["Object"], f"^{AGAIN}|{RESTORED}"), False)
    again = pc.or_(again, pc.fill_null(pc.is_in(rows["State"], pa.array([LOST, DOUBLED])), False))
    return rows.filter(pc.and_(rows["LastEvent"].is_valid(), pc.invert(again)))


def _split(
    rows: pa.Table, places: dict[str, tuple[str, str]]
) -> Iterator[tuple[tuple[str, str, str, str], _Objects]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not rows.num_rows:
        return
    names = pa.table(
        {
            "source": rows["Source"],
            "table": rows["TargetTable"],
            "folder": pc.replace_substring_regex(rows["Location"], "[^/]*$", ""),
            "place": np.arange(rows.num_rows),
        }
    )
    members: dict[tuple[str, str, str, str], list[NDArray[np.int64]]] = defaultdict(list)
    groups = names.group_by(["source", "table", "folder"]).aggregate([("place", "list")])
    for source, table, folder, indexes in zip(*(groups[name] for name in groups.column_names), strict=True):
        name = folder.as_py() or ""
        if name not in places:
            places[name] = _place(name)
        members[source.as_py() or "", table.as_py() or "", *places[name]].append(indexes.values.to_numpy())
    last, stored = rows["LastEvent"].to_numpy(), rows["TimeGenerated"].to_numpy()
    # What comes from a clock that is ahead happened by the time it was stored, not next year.
    last = np.minimum(last, stored)
    counts = pc.add(pc.fill_null(rows["Rows"], 0), pc.fill_null(rows["Filtered"], 0)).to_numpy()
    for key, parts in members.items():
        chosen = np.concatenate(parts)
        yield key, _Objects(last[chosen], stored[chosen], counts[chosen])


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
    seen = now - _late(delays)
    rows, usual, low = _volumes(recent, newest if quiet > silence else seen)
    if quiet >= _DAY:
        rows = 0
    state, reason = "ok", ""
    if len(recent.last) < LEAST_OBJECTS or newest - recent.last[0] < np.timedelta64(LEAST_SPAN):
        state, reason = "learning", f"{counted(len(recent.last), 'object')} so far"
    elif quiet > silence:
        state, reason = "silent", f"no event for {_long(quiet)}, usual is one every {_long(silence)} at most"
    elif (others := _same_hours(recent, seen)) >= LEAST_OF_A_STRETCH:
        state = "quiet"
        reason = f"no event for {_long(quiet)}; these hours brought {others:,} objects or more in other weeks"
    elif delay_now is not None and delay_now > _span(_late(delays)) * _DELAYED + LEAST_SILENCE:
        late = _long(np.timedelta64(delay_now))
        state, reason = "delayed", f"rows come {late} after their events, usual are {_long(_late(delays))}"
    elif usual >= LEAST_ROWS and rows < low * _SHRUNK:
        state, reason = "shrunk", f"{counted(rows, 'row')} in the last day, usual are {usual:,}"
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

    The slack is the larger the more the gaps differ and the fewer are known (of n gaps at random the longest
    grows with ln n), and larger still before the first weekend was seen.
    """
    times = np.unique(objects.last)
    gaps = np.sort(np.diff(times).astype(np.int64))[::-1]
    if not len(gaps):
        return np.timedelta64(LEAST_SILENCE)
    span = times[-1] - times[0]
    longest = int(gaps[_outages(gaps) if span >= 2 * np.timedelta64(WEEK) else 0])
    differs = longest - int(np.median(gaps))
    usual = _SLACK * longest + differs * _IRREGULAR / np.log(len(gaps) + 1)
    if span < np.timedelta64(WEEK):
        usual *= _YOUNG_SLACK
    return max(np.timedelta64(int(usual / 1e6), "s") + _late(delays), np.timedelta64(LEAST_SILENCE))


def _outages(gaps: NDArray[np.int64]) -> int:
    """How many of the longest gaps came but once, and so are none of the stream's habits; a few at most.

    A weekend comes every week, an outage does not. `gaps` are the longest first.
    """
    for count in range(min(_MOST_OUTAGES, len(gaps) - 1)):
        if gaps[count] <= gaps[count + 1] * _ALIKE:
            return count
    return min(_MOST_OUTAGES, len(gaps) - 1)


def _same_hours(objects: _Objects, seen: np.datetime64) -> int:
    """How many objects the hours since the newest event brought in the weeks before: in the poorest but one
    of three or more, the poorer of two, 0 where fewer are known."""
    times = np.unique(objects.last)
    start, end = times[-1], seen - np.timedelta64(LENIENCE)
    weeks = [each * np.timedelta64(WEEK) for each in range(1, HORIZON // WEEK + 1)]
    counts = sorted(
        int(np.searchsorted(times, end - back) - np.searchsorted(times, start - back, "right"))
        for back in weeks
        if start - back >= times[0]
    )
    if end <= start or len(counts) < 2:
        return 0
    return max(counts[1 if len(counts) > 2 else 0], 0)


def _late(delays: Spans) -> np.timedelta64:
    """From event to row, as slow as it usually gets."""
    return np.timedelta64(int(np.quantile(delays.astype(np.int64), 0.95)) if len(delays) else 0, "us")


def _median(delays: Spans) -> dt.timedelta | None:
    return dt.timedelta(microseconds=int(np.median(delays.astype(np.int64)))) if len(delays) else None


def _volumes(objects: _Objects, end: np.datetime64) -> tuple[int, int, int]:
    """Rows of the day up to `end`, of the median day before, and of a poor day before, or the poorest of this
    day of the week (0 where too few days are known, or too few objects make one)."""
    ago = np.clip(((end - objects.last) // _DAY).astype(np.int64), 0, None)
    days = int(ago.max(initial=0))  # the oldest day is cut off by the horizon and left out
    if days < LEAST_DAYS:
        return int(objects.rows[ago == 0].sum()), 0, 0
    sums = np.bincount(ago, weights=objects.rows, minlength=days)
    before, objects_before = sums[1:days], np.bincount(ago, minlength=days)[1:days]
    of_weekday = slice(WEEK.days - 1, None, WEEK.days)
    many = min(np.median(objects_before), objects_before[of_weekday].min()) >= LEAST_OF_A_DAY
    poor = min(np.quantile(before, 0.1), before[of_weekday].min()) if many else 0
    return int(sums[0]), int(np.median(before)), int(poor)


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
