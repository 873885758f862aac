"""Rows of several sorted files, and such as come to them, in one order: a slice at a time, so that of large
files little is held at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from trailhawk.kql.schema import Table
from trailhawk.lake.files import opened
from trailhawk.lake.table import fitted, picked, trimmed

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SLICE_ROWS: Final = 80_000
"""Rows merged at a time, each a row group of the new file: about 1.5 KB a row when unpacked. Large row
groups are read 11 to 29 % faster than those of 25,000; with 120,000 an ingest that merges four files takes
more than a GiB. Rows of one time stay together, so a slice may be somewhat longer."""

SLICE_BYTES: Final = 64 * 1024 * 1024
"""And not more than about this, unpacked: a row of the quarantine has 64 KiB, an event perhaps 100. One of
CloudTrail usually has 600 bytes."""

_READ_ROWS: Final = 60_000
_READ_BYTES: Final = 48 * 1024 * 1024
"""Of all files together about so much is held beside a slice: a tenth slower than whole row groups."""

Moment = np.datetime64 | None
"""Before which a slice ends; None where nothing cuts it off."""


def merged(
    table: Table, at: Callable[[str], Path], paths: Sequence[str], coming: pa.Table
) -> Iterator[pa.Table]:
    """The rows of files and those that come to them, each sorted by time and with today's columns, in sorted
    slices. `at` finds a file."""
    stored = [_Stored(partial(at, path), table.time_column, len(paths)) for path in paths]
    dictionaries = _repeating(stored)
    rows = _Coming(_with_dictionaries(trimmed(coming), dictionaries), table.time_column)
    sources: list[_Source] = [rows, *stored]
    for end in _ends(sources):
        yield _slice(table, end, sources, dictionaries)


def rewritten(
    table: Table, at: Callable[[str], Path], paths: Sequence[str], *, file_rows: int
) -> Iterator[Iterator[pa.Table]]:
    """The rows of files for new ones of about so many rows: for each of these its sorted slices, to be asked
    for in order. A promoted path that not all of the files have is left out."""
    stored = [_Stored(partial(at, path), table.time_column, len(paths)) for path in paths]
    dictionaries = _repeating(stored)
    promoted = {path.hidden for path in table.promoted}
    lacking = sorted(promoted - frozenset.intersection(*(each.columns for each in stored)))
    ends = _ends(stored)
    outputs = max(1, -(-sum(each.rows for each in stored) // file_rows))
    per_file = -(-len(ends) // outputs)
    for first in range(0, len(ends), per_file):
        chosen = ends[first : first + per_file]
        yield (_slice(table, end, stored, dictionaries).drop_columns(lacking) for end in chosen)


def repeating(file: pq.ParquetFile) -> frozenset[str]:
    """The text columns that stand in a file as dictionaries; read so, they take little memory."""
    if not file.num_row_groups:
        return frozenset()
    group = file.metadata.row_group(0)
    return frozenset(
        column.path_in_schema
        for column in map(group.column, range(group.num_columns))
        if column.has_dictionary_page and column.physical_type == "BYTE_ARRAY"
    )


class _Stored:
    """The rows of a file, asked for in the order of their times. `at` fetches it anew where what was fetched
    from afar has been cleared away since; `share` is how many files are read beside each other."""

    def __init__(self, at: Callable[[], Path], time: str, share: int) -> None:
        self._at = at
        self._time = time
        self._share = share
        self._next = 0
        self._batches: Iterator[pa.Table] | None = None
        self._left: _Coming | None = None
        with opened(at()) as file:
            self._groups = [file.metadata.row_group(place) for place in range(file.num_row_groups)]
            self._place = file.schema_arrow.names.index(time)
            self.rows: int = file.metadata.num_rows
            self.bytes = sum(group.total_byte_size for group in self._groups)
            """When they are unpacked; texts that repeat count once."""
            self.repeating = repeating(file)
            self.columns = frozenset[str](file.schema_arrow.names)

    def times(self) -> tuple[NDArray[np.datetime64], NDArray[np.float32]]:
        """The times of the rows, and about how many bytes each has: as the mean of its row group, since an
        hour of large rows may follow one of small ones."""
        means = np.array([each.total_byte_size / max(1, each.num_rows) for each in self._groups], np.float32)
        with opened(self._at()) as file:
            times = np.asarray(file.read([self._time])[self._time].to_numpy())
        return times, np.repeat(means, [group.num_rows for group in self._groups])

    def before(self, end: Moment, dictionaries: Collection[str]) -> Iterator[pa.Table]:
        """The rows that were not asked for yet and come before this time, a few thousand at once. A row group
        that begins later is not opened."""
        while True:
            while self._left is None:
                if self._batches is None:
                    if self._next == len(self._groups) or self._begins_at(self._next, end):
                        return
                    self._batches = self._read(self._next, dictionaries)
                    self._next += 1
                rows = next(self._batches, None)
                if rows is None:
                    self._batches = None
                else:
                    self._left = _Coming(rows, self._time)
            yield from self._left.before(end, dictionaries)
            if self._left.rows:
                return
            self._left = None

    def _begins_at(self, group: int, end: Moment) -> bool:
        """Whether all rows of a row group are known to come at this time or later."""
        bounds = self._groups[group].column(self._place).statistics
        if end is None or bounds is None or not bounds.has_min_max:
            return False
        return bool(np.datetime64(bounds.min) >= end)

    def _read(self, place: int, dictionaries: Collection[str]) -> Iterator[pa.Table]:
        import pyarrow as pa

        group = self._groups[place]
        fitting = _READ_BYTES * group.num_rows // max(1, group.total_byte_size)
        most = max(1, min(_READ_ROWS, fitting) // self._share)
        with opened(self._at(), dictionaries=sorted(dictionaries)) as file:
            for batch in file.iter_batches(batch_size=most, row_groups=[place], use_threads=False):
                yield pa.Table.from_batches([batch])


class _Coming:
    """Rows in memory, asked for in the order of their times."""

    def __init__(self, table: pa.Table, time: str) -> None:
        self._table = table
        self._times: NDArray[np.datetime64] = table[time].to_numpy()
        self._begin = 0

    @property
    def rows(self) -> int:
        return len(self._times) - self._begin

    @property
    def bytes(self) -> int:
        size: int = self._table.nbytes
        return size

    def times(self) -> tuple[NDArray[np.datetime64], NDArray[np.float32]]:
        return self._times, np.full(len(self._times), self.bytes / max(1, len(self._times)), np.float32)

    def before(self, end: Moment, _: Collection[str]) -> Iterator[pa.Table]:
        """The rows that were not asked for yet and come before this time."""
        first = self._begin
        self._begin = len(self._times) if end is None else max(first, int(np.searchsorted(self._times, end)))
        if self._begin > first:
            yield self._table.slice(first, self._begin - first)


_Source = _Stored | _Coming


def _repeating(stored: Iterable[_Stored]) -> frozenset[str]:
    """What stands as a dictionary in all of them: all are read alike."""
    return frozenset.intersection(*(each.repeating for each in stored))


def _ends(sources: Sequence[_Source]) -> list[Moment]:
    """Where the slices end, so that each can be held. Of all rows only times are held for it."""
    rows, size = sum(each.rows for each in sources), sum(each.bytes for each in sources)
    if rows <= SLICE_ROWS and size <= SLICE_BYTES:
        return [None]
    edges = _edges(*map(np.concatenate, zip(*(each.times() for each in sources), strict=True)))
    return [*edges[1:], None]


def _edges(times: NDArray[np.datetime64], sizes: NDArray[np.float32]) -> NDArray[np.datetime64]:
    """The times at which slices begin, of rows with these times and bytes."""
    order = np.argsort(times, kind="stable")
    shares = np.maximum(sizes / SLICE_BYTES, 1 / SLICE_ROWS)[order]
    before = np.cumsum(shares, dtype=np.float64) - shares
    firsts = np.flatnonzero(np.diff(np.floor(before))) + 1
    return np.unique(times[order[[0, *firsts]]])


def _slice(table: Table, end: Moment, sources: Sequence[_Source], dictionaries: Collection[str]) -> pa.Table:
    """The rows of sources that come before this time and behind the slice before, sorted, in today's
    schema."""
    import pyarrow as pa

    parts = [fitted(part, table) for source in sources for part in source.before(end, dictionaries)]
    rows = pa.concat_tables(parts).unify_dictionaries()
    times = rows[table.time_column].to_numpy()
    if np.all(times[1:] >= times[:-1]):
        return rows
    return picked(rows, np.argsort(times, kind="stable"))


def _with_dictionaries(rows: pa.Table, names: Collection[str]) -> pa.Table:
    """The rows with these columns as dictionaries, and no others."""
    import pyarrow as pa

    for place, field in enumerate(rows.schema):
        is_one = pa.types.is_dictionary(field.type)
        if is_one != (field.name in names):
            column = rows.column(place)
            column = column.cast(field.type.value_type) if is_one else column.dictionary_encode()
            rows = rows.set_column(place, field.name, column)
    return rows
