"""Few large sorted files in place of many small ones, beside writers and readers that go on.

The small files of a day that holds many are rewritten, sorted by event time. The commit retires the old
files and adds the new ones without changing data; readers of an older version keep theirs until
`Delta.clean`.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from trailhawk.lake.delta import ConflictError, Delta, Transaction
from trailhawk.lake.table import DAY, fitted

if TYPE_CHECKING:
    import pyarrow as pa

COMPACT: Final = "compact"
"""Application id of whoever retires files."""

FILE_ROWS: Final = 1_000_000
"""A rewritten file holds at most about this many rows."""

SLICE_ROWS: Final = 25_000
"""Rows rewritten at a time: about 1.5 KB each when unpacked."""


@dataclass(frozen=True, slots=True)
class Tier:
    """How many files below how many rows a day may hold before they are rewritten."""

    files: int
    rows: int


OPEN_DAY: Final = Tier(files=8, rows=FILE_ROWS // 20)
CLOSED_DAY: Final = Tier(files=4, rows=FILE_ROWS // 2)
"""A day is closed when the day after it is over. An open one is not rewritten as a whole again and again."""


def compact_busy_days(delta: Delta, *, today: dt.date) -> int:
    """Rewrite the days that hold many small files; how many were rewritten."""
    if delta.refresh() < 0:
        return 0
    yesterday = today - dt.timedelta(days=1)
    compacted = 0
    for day, files in sorted(_files_by_day(delta).items()):
        tier = CLOSED_DAY if day < yesterday else OPEN_DAY
        small = [file.path for file in files if file.rows < tier.rows]
        if len(small) > tier.files:
            compacted += compact(delta, day, small)
    return compacted


def compact(delta: Delta, day: dt.date, paths: Sequence[str]) -> bool:
    """Rewrite files of one event day, as of the state last looked at; False where another process rewrote
    something in the same moment."""
    staged = [delta.stage_sorted(slices, day) for slices in _outputs(delta, paths)]
    try:
        # Measured: delta-rs lets two commits retire the same files; a transaction of its own does not.
        transaction = Transaction(COMPACT, delta.transaction(COMPACT) + 1)
        delta.commit(staged, remove=paths, transaction=transaction)
    except ConflictError:
        delta.discard(staged)
        return False
    return True


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    rows: int


def _files_by_day(delta: Delta) -> dict[dt.date, list[_File]]:
    """The live files of each day."""
    actions = delta.actions()
    days: dict[dt.date, list[_File]] = defaultdict(list)
    if actions is None:
        return days
    columns = (actions[name].to_pylist() for name in (f"partition.{DAY}", "path", "num_records"))
    for day, path, rows in zip(*columns, strict=True):
        days[day].append(_File(path, rows or 0))
    return days


def _outputs(delta: Delta, paths: Sequence[str]) -> Iterator[Iterator[pa.Table]]:
    """For each new file its sorted slices. Only the time column is held for all rows."""
    import pyarrow.parquet as pq

    time = delta.table.time_column
    times = {path: _times(pq.ParquetFile(delta.root / path).read([time])[time]) for path in paths}
    edges = np.unique(np.sort(np.concatenate(list(times.values())))[::SLICE_ROWS])
    ends = [*edges[1:], None]
    spans = {path: (column.min(), column.max()) for path, column in times.items() if len(column)}

    def overlapping(start: np.datetime64, end: np.datetime64 | None) -> list[str]:
        return [path for path, (low, high) in spans.items() if high >= start and (end is None or low < end)]

    slices = [(start, end, overlapping(start, end)) for start, end in zip(edges, ends, strict=True)]
    per_file = FILE_ROWS // SLICE_ROWS
    for first in range(0, len(slices), per_file):
        yield (_slice(delta, *each) for each in slices[first : first + per_file])


def _times(column: pa.ChunkedArray) -> NDArray[np.datetime64]:
    return np.asarray(column.to_numpy())


def _slice(delta: Delta, start: np.datetime64, end: np.datetime64 | None, paths: Sequence[str]) -> pa.Table:
    """The rows of files with an event time in [start, end), sorted, in today's schema."""
    import pyarrow as pa

    time = delta.table.time_column
    parts = [part for path in paths for part in _between(delta.root / path, time, start, end)]
    return pa.concat_tables([fitted(part, delta.table) for part in parts]).sort_by(time)


def _between(path: Path, time: str, start: np.datetime64, end: np.datetime64 | None) -> Iterator[pa.Table]:
    """The rows of a file in [start, end), by row group, so that of a large file little is unpacked."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
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
