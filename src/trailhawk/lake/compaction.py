"""Few large sorted files in place of many small ones, beside writers and readers that go on.

A closed day comes down to a few files, and late rows are written together with its small ones, so that it
has few at any commit. A day that still grows is rewritten in tiers, as in a log-structured merge tree: files
of about one size become one of the next, so that a row is rewritten two or three times however long the day
grows. The commit retires the old files and adds the new ones without changing data; readers of an older
version keep theirs until `Delta.clean`.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from trailhawk.errors import raised
from trailhawk.lake.delta import ConflictError, Delta, Staged, Transaction, UncommittedError, repeating
from trailhawk.lake.files import DamagedFileError, opened
from trailhawk.lake.table import DAY, fitted, picked, schema_mark, stored_names

if TYPE_CHECKING:
    import pyarrow as pa

COMPACT: Final = "compact"
"""Application id of whoever retires files."""

FILE_ROWS: Final = 1_000_000
"""A rewritten file holds about this many rows, more where the day would otherwise have too many files."""

SLICE_ROWS: Final = 120_000
"""Rows rewritten at a time, each a row group of the new file: about 1.5 KB a row when unpacked. Large row
groups are read 11 to 29 % faster than those of 25,000. Rows of one time stay together, so a slice may be
somewhat longer; hence a little less than the size of a row group."""

SLICE_BYTES: Final = 96 * 1024 * 1024
"""And not more than about this, unpacked: a row of the quarantine has 64 KiB, an event perhaps 100. One of
CloudTrail usually has 600 bytes."""

CLOSED_FILES: Final = 3
"""The most files of a closed day: one holds what was there, the others what comes late, so that an arrival of
ten days back rewrites only those that came late before it."""

SMALL_ROWS: Final = 120_000
SMALL_BYTES: Final = 32 * 1024 * 1024
"""A file below both is small: late rows may be written together with it, in memory."""

FOLD_BYTES: Final = 64 * 1024 * 1024
"""And the files that one append writes anew for a day have not more than this, unpacked."""

_CLOSING: Final = dt.timedelta(hours=12)
_NOT_MUCH: Final = 4
_GROWN_ROWS: Final = 5_000
_COMMITS: Final = 20
_TIER_FILES: Final = 8
_TIER_ROWS: Final = 5_000
"""Rows below which a file counts among the smallest; each tier up holds files eight times as large."""

_OPEN_WHOLE: Final = 16
"""Into about so many files of the largest size a growing day is cut: at most 16 of them and 8 of each of
the tiers below make an open day stay under 50."""


def care_date(now: dt.datetime) -> dt.date:
    """The day that care takes for today. From noon on it is the next one: yesterday is rewritten as closed
    before it is closed."""
    return (now + _CLOSING).date()


def to_fold(
    delta: Delta, coming: Mapping[dt.date, int], *, today: dt.date, damaged: Collection[str] = ()
) -> dict[dt.date, tuple[str, ...]]:
    """For each closed day that rows come to: the files to write anew together with them (and to retire), so
    that the day stays at `CLOSED_FILES`. As of the state last looked at. Damaged files stay as they are.

    Large files stay as they are. What comes as large files itself (a day is laid down anew) is not held to
    the bound: `compact_busy_days` sees to it.
    """
    late = {day: rows for day, rows in coming.items() if _is_closed(day, today)}
    days = _files_by_day(delta, damaged) if late else {}
    mark = schema_mark(stored_names(delta.table))
    chosen = {
        day: _beside(days.get(day, []), rows, mark, lambda path: _unpacked(delta.file(path))[1])
        for day, rows in late.items()
    }
    return {day: paths for day, paths in chosen.items() if paths}


def grown(delta: Delta, days: Iterable[dt.date], *, today: dt.date) -> list[dt.date]:
    """Of the days that an append has written files of anew: those where it is time for `compact_busy_days`,
    since only the smallest file is left to be written anew, and it has grown."""
    files = _files_by_day(delta)
    return [
        day
        for day in days
        if min((file.rows for file in files[day]), default=0) >= _GROWN_ROWS
        and _plan(files[day], closed=_is_closed(day, today))
    ]


def _beside(files: Sequence[_File], rows: int, mark: str, unpacked: Callable[[str], int]) -> tuple[str, ...]:
    """The small files of a closed day to be written anew with so many rows: as many as must be, and the next
    larger one where it costs no more than to write these again and again."""
    # A file of an older schema is left to `compact`, which knows what to do with its promoted paths.
    small = [file for file in files if file.is_small and file.path.rpartition("/")[2].startswith(mark)]
    most = max(CLOSED_FILES, len(files) - len(small) + 1)
    chosen: list[str] = []
    total, room = rows, FOLD_BYTES
    for file in sorted(small, key=lambda file: file.rows):
        fits, level = len(files) - len(chosen) + 1 <= most, len(chosen)
        # n appends beside one file write n * n / 2 times their rows, and then once that file; beside two the
        # next larger one is due the more seldom.
        is_due = level and total ** (level + 1) >= 2 * rows * file.rows**level
        if total >= SMALL_ROWS or (fits and not is_due):
            break
        if (size := unpacked(file.path)) <= room:
            chosen.append(file.path)
            total, room = total + file.rows, room - size
    return tuple(chosen)


def compact_busy_days(
    delta: Delta,
    *,
    today: dt.date,
    days: Collection[dt.date] | None = None,
    told: Callable[[DamagedFileError], None] = raised,
) -> int:
    """Rewrite the days (all, or of these) that hold many small files; how many rewritings there were.

    A day is closed when the day after it is over. Looks at the table's newest state. `told` hears of each
    damaged file; it is left where it is, and the rest goes on.
    """
    if delta.refresh() < 0:
        return 0
    compacted = 0
    damaged: set[str] = set()
    files = _files_by_day(delta)
    for day in sorted(files if days is None else days):
        while plan := _plan(files.get(day, []), closed=_is_closed(day, today)):
            is_done = True
            try:
                is_done = compact(delta, day, plan.paths, file_rows=plan.file_rows)
                compacted += is_done
            except DamagedFileError as error:
                if not error.is_lasting or error.path in damaged:
                    raise
                if not delta.renew(error):
                    damaged.add(error.path)
                    told(error)
            # The state has moved on: what others have rewritten by now is seen.
            files = _files_by_day(delta, damaged)
            if not is_done:
                break
    return compacted


def _is_closed(day: dt.date, today: dt.date) -> bool:
    return day < today - dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Files to rewrite, and about how many rows a new one takes."""

    paths: list[str]
    file_rows: int


def _plan(files: Sequence[_File], *, closed: bool) -> _Plan | None:
    """What is to be rewritten of a day; None if nothing."""
    chosen, file_rows = _closed_day(files) if closed else _open_day(files)
    return _Plan([file.path for file in chosen], file_rows) if chosen else None


def _closed_day(files: Sequence[_File]) -> tuple[list[_File], int]:
    """The files to rewrite as one, and their rows: the smallest, as many as must be that there is room for
    what comes late, and those that are not much larger than all of these together."""
    by_size = sorted(files, key=lambda file: file.rows)
    is_crowded = len(files) == CLOSED_FILES and not by_size[1].is_small  # all that comes late joins one file
    if len(files) < CLOSED_FILES or (len(files) == CLOSED_FILES and not is_crowded):
        return [], 0
    rows = 0
    for count, file in enumerate(by_size):
        if not is_crowded and len(files) - count + 1 < CLOSED_FILES and file.rows > _NOT_MUCH * rows:
            return by_size[:count], rows
        rows += file.rows
    return by_size, rows


def _open_day(files: Sequence[_File]) -> tuple[list[_File], int]:
    """The lowest full tiers, as one: the files of the first tier that is full, and of those below it."""
    whole = max(FILE_ROWS, sum(file.rows for file in files) // _OPEN_WHOLE)
    tiers: dict[int, list[_File]] = defaultdict(list)
    for file in files:
        if file.rows < whole:
            tiers[_tier(file.rows)].append(file)
    full = [tier for tier, members in tiers.items() if len(members) > _TIER_FILES]
    if not full:
        return [], 0
    return [file for tier, members in tiers.items() if tier <= min(full) for file in members], whole


def _tier(rows: int) -> int:
    tier = 0
    while rows >= _TIER_ROWS * 8:
        rows //= 8
        tier += 1
    return tier


def compact(delta: Delta, day: dt.date, paths: Sequence[str], *, file_rows: int = FILE_ROWS) -> bool:
    """Rewrite files of one event day, as of the state last looked at; False where another process rewrote
    something in the same moment. A new file holds about `file_rows` rows, in today's schema; a path that was
    promoted since one of the files was written is left out, and read from its JSON text."""
    delta.widen()
    staged: list[Staged] = []
    try:
        staged += (delta.stage_sorted(slices, day) for slices in _outputs(delta, paths, file_rows))
    except DamagedFileError:
        delta.discard(staged)
        delta.refresh()
        if set(paths) <= delta.live().keys():
            raise
        return False  # another process retired the files, and cleaned them away, since they were looked up
    except BaseException:
        delta.discard(staged)
        raise
    # Measured: delta-rs lets two commits retire the same files; a transaction of its own does not.
    for _ in range(_COMMITS):
        transaction = Transaction(COMPACT, delta.transaction(COMPACT) + 1)
        try:
            delta.commit(staged, remove=paths, moved=True, transaction=transaction)
        except ConflictError:
            if set(paths) <= delta.live().keys():
                continue  # others were retired: what was written still stands for these
            break
        except UncommittedError:
            delta.discard(staged)
            raise
        return True
    delta.discard(staged)
    return False


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    rows: int
    size: int

    @property
    def is_small(self) -> bool:
        return self.rows < SMALL_ROWS and self.size < SMALL_BYTES


def _files_by_day(delta: Delta, damaged: Collection[str] = ()) -> dict[dt.date, list[_File]]:
    """The live files of each day, without the damaged ones."""
    actions = delta.actions()
    days: dict[dt.date, list[_File]] = defaultdict(list)
    if actions is None:
        return days
    names = (f"partition.{DAY}", "path", "num_records", "size_bytes")
    for day, path, rows, size in zip(*(actions[name].to_pylist() for name in names), strict=True):
        if not damaged or str(delta.root / path) not in damaged:
            days[day].append(_File(path, rows or 0, size))
    return days


def _outputs(delta: Delta, paths: Sequence[str], file_rows: int) -> Iterator[Iterator[pa.Table]]:
    """For each new file its sorted slices. Of all rows only times are held, to cut the slices."""
    time = delta.table.time_column
    read = {path: _times(delta.file(path), time) for path in paths}
    edges = _edges(*map(np.concatenate, zip(*read.values(), strict=True)))
    spans = {path: (times.min(), times.max()) for path, (times, _) in read.items() if len(times)}
    outputs = max(1, -(-sum(len(times) for times, _ in read.values()) // file_rows))
    del read
    dictionaries = sorted(set.intersection(*(repeating(delta.file(path)) for path in paths)))
    unpromoted = _unpromoted(delta, paths)
    ends = [*edges[1:], None]

    def overlapping(start: np.datetime64, end: np.datetime64 | None) -> list[str]:
        return [path for path, (low, high) in spans.items() if high >= start and (end is None or low < end)]

    slices = [(start, end, overlapping(start, end)) for start, end in zip(edges, ends, strict=True)]
    per_file = -(-len(slices) // outputs)
    for first in range(0, len(slices), per_file):
        chosen = slices[first : first + per_file]
        yield (_slice(delta, *each, dictionaries).drop_columns(unpromoted) for each in chosen)


def _edges(times: NDArray[np.datetime64], sizes: NDArray[np.float32]) -> NDArray[np.datetime64]:
    """The times at which slices begin, of rows with these times and bytes."""
    order = np.argsort(times, kind="stable")
    shares = np.maximum(sizes / SLICE_BYTES, 1 / SLICE_ROWS)[order]
    before = np.cumsum(shares, dtype=np.float64) - shares
    firsts = np.flatnonzero(np.diff(np.floor(before))) + 1
    return np.unique(times[order[[0, *firsts]]])


def _unpacked(path: Path) -> tuple[int, int]:
    """The rows of a file, and their bytes when they are unpacked; repeating texts count once."""
    with opened(path) as file:
        groups = (file.metadata.row_group(place) for place in range(file.num_row_groups))
        return file.metadata.num_rows, sum(group.total_byte_size for group in groups)


def _times(path: Path, time: str) -> tuple[NDArray[np.datetime64], NDArray[np.float32]]:
    """The times of a file's rows, and about how many bytes each has when it is unpacked: as the mean of its
    row group, since an hour of large rows may follow one of small ones."""
    with opened(path) as file:
        groups = [file.metadata.row_group(place) for place in range(file.num_row_groups)]
        means = np.array([group.total_byte_size / max(1, group.num_rows) for group in groups], np.float32)
        times = np.asarray(file.read([time])[time].to_numpy())
        return times, np.repeat(means, [group.num_rows for group in groups])


def _unpromoted(delta: Delta, paths: Sequence[str]) -> list[str]:
    """The columns of promoted paths that not all of the files have."""
    promoted = {path.hidden for path in delta.table.promoted}
    lacking: set[str] = set()
    for path in paths if promoted else ():
        with opened(delta.file(path)) as file:
            lacking |= promoted - set(file.schema_arrow.names)
    return sorted(lacking)


def _slice(
    delta: Delta,
    start: np.datetime64,
    end: np.datetime64 | None,
    paths: Sequence[str],
    dictionaries: Sequence[str],
) -> pa.Table:
    """The rows of files with an event time in [start, end), sorted, in today's schema."""
    import pyarrow as pa

    time = delta.table.time_column
    parts = [part for path in paths for part in _between(delta.file(path), time, start, end, dictionaries)]
    rows = pa.concat_tables([fitted(part, delta.table) for part in parts]).unify_dictionaries()
    return picked(rows, np.argsort(rows[time].to_numpy(), kind="stable"))


def _between(
    path: Path, time: str, start: np.datetime64, end: np.datetime64 | None, dictionaries: Sequence[str]
) -> Iterator[pa.Table]:
    """The rows of a file in [start, end), by row group, so that of a large file little is unpacked."""
    import pyarrow.compute as pc

    with opened(path, dictionaries=dictionaries) as file:
        place = file.schema_arrow.names.index(time)
        for group in range(file.num_row_groups):
            bounds = file.metadata.row_group(group).column(place).statistics
            if bounds is not None and bounds.has_min_max:
                low, high = np.datetime64(bounds.min), np.datetime64(bounds.max)
                if high < start or (end is not None and low >= end):
                    continue
            rows = file.read_row_group(group, use_threads=False)
            inside = pc.greater_equal(rows[time], start.item())
            if end is not None:
                inside = pc.and_(inside, pc.less(rows[time], end.item()))
            yield rows.filter(inside)
