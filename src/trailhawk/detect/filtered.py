"""A table as a filter would have left it, and the rows that this changes, in files of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from trailhawk.engine.reach import Changes
from trailhawk.engine.transform import RowTransform, Transformed
from trailhawk.errors import QueryError, UnsupportedError
from trailhawk.kql.plan import Need
from trailhawk.kql.schema import INGESTION_TIME, Table

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.engine.reading import Files, Tables
    from trailhawk.lake.table import DataFile, Found

INGESTED: Final = "Ingested_of_the_trial"
"""The column with the time of ingest, beside those of the table."""

_KNOWN_MINUTES: Final = 2_000


class Filtered:
    """Collects the rows of a table as they are and as a filter leaves them, stretch by stretch."""

    def __init__(self, folder: Path, table: Table) -> None:
        self._folder = folder
        self._table = table
        self._left: list[DataFile] = []
        self._gone: list[DataFile] = []
        self._others: list[DataFile] = []
        self._columns: set[str] = set()

    def add(self, rows: pa.Table, made: Transformed) -> None:
        """Add rows, with the table's stored columns and INGESTED, and what the filter made of them."""
        import pyarrow as pa

        kept = pa.array(made.kept)
        before, after = self._stored(rows), self._stored(rows.filter(kept), made.rows)
        self._write(self._left, after)
        if not made.kept.all():
            self._write(self._gone, before.filter(pa.array(~made.kept)))
            before = before.filter(kept)
        others, columns = _differences(before, after)
        if columns:
            self._columns |= columns
            where = pa.array(others)
            self._write(self._others, pa.concat_tables([before.filter(where), after.filter(where)]))

    def tables(self, tables: Tables) -> Tables:
        """The same tables, this one as the filter leaves it."""
        return _Replaced(tables, self._table.name, self._left)

    def changes(self, engine: DuckDBEngine) -> Changes:
        """What the filter changes, read by the engine."""

        def over(files: Sequence[DataFile]) -> DuckDBEngine:
            return engine.over(_Replaced(engine.tables, self._table.name, files))

        promoted = {item.hidden for item in self._table.promoted if item.column in self._columns}
        every = [*self._gone, *self._others]
        return Changes(
            self._table.name,
            frozenset(self._columns | promoted),
            gone=over(self._gone).rows if self._gone else None,
            every=over(every).rows if every else None,
        )

    def _stored(self, rows: pa.Table, made: pa.Table | None = None) -> pa.Table:
        """The table's stored columns and the time of ingest; of those that the filter `made`, as it made
        them. A row without its event time gets it back."""
        import pyarrow as pa

        from trailhawk.lake.table import arrow_type

        found = rows if made is None else made
        names = set(found.column_names)
        return pa.table(
            {
                column.name: found[column.name].cast(arrow_type(column.type))
                if column.name in names
                else rows[column.name].cast(arrow_type(column.type))
                if column.name == self._table.time_column
                else pa.nulls(rows.num_rows, arrow_type(column.type))
                for column in self._table.stored
            }
        ).append_column(INGESTION_TIME, rows[INGESTED])

    def _write(self, files: list[DataFile], rows: pa.Table) -> None:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        from trailhawk.lake.table import DataFile

        if not rows.num_rows:
            return
        path = self._folder / f"{len(self._left)}-{len(self._gone)}-{len(self._others)}.parquet"
        pq.write_table(rows, path, compression="zstd", compression_level=1)
        times = rows[self._table.time_column]
        found = pc.min_max(times).as_py()
        first, last = (None if times.null_count else _aware(found[which]) for which in ("min", "max"))
        files.append(
            DataFile(
                path=str(path),
                rows=rows.num_rows,
                size=path.stat().st_size,
                columns=frozenset(rows.column_names),
                first=first,
                last=last,
                ingested_first=None,
                ingested_last=None,
            )
        )


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


def _differences(before: pa.Table, after: pa.Table) -> tuple[NDArray[np.bool_], set[str]]:
    """Which rows differ, and the columns in which they do."""
    import pyarrow.compute as pc

    rows, columns = np.zeros(before.num_rows, bool), set[str]()
    for name in before.column_names:
        old, new = before[name], after[name]
        if old.equals(new):
            continue
        same = pc.or_(pc.fill_null(pc.equal(old, new), False), pc.and_(pc.is_null(old), pc.is_null(new)))
        here = ~same.to_numpy()
        if here.any():
            columns.add(name)
            rows |= here
    return rows, columns


class _Replaced:
    """The tables of an engine, one of them with other files."""

    def __init__(self, tables: Tables, name: str, files: Sequence[DataFile]) -> None:
        self._tables = tables
        self._name = name
        self._files = _Files(files)

    def table(self, name: str) -> Table | None:
        return self._tables.table(name)

    def table_names(self) -> tuple[str, ...]:
        return self._tables.table_names()

    def snapshot(self, name: str) -> Files:
        return self._files if name == self._name else self._tables.snapshot(name)


class _Files:
    """Files that are all there is of a table."""

    def __init__(self, files: Sequence[DataFile]) -> None:
        self._files = files

    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[DataFile, ...]:
        return tuple(
            file
            for file in self._files
            if (since is None or file.last is None or file.last >= since)
            and (until is None or file.first is None or file.first < until)
        )

    def look(self, files: Sequence[DataFile], need: Need) -> Found:
        from trailhawk.lake.table import Found, Part

        return Found(tuple(map(Part, files)))


class AsThen:
    """What a filter would have made of rows at the minute of their ingest, which is what now() means.

    The filter is compiled once, with the minute as a column of each row. Where a function wants a constant of
    what depends on now(), it is compiled once for each minute; of the minutes that a stretch far away has no
    more use for the oldest are given up.
    """

    def __init__(self, transform: RowTransform) -> None:
        self._at = lru_cache(maxsize=_KNOWN_MINUTES)(transform.at)
        self._by_row: Callable[[pa.Table, pa.ChunkedArray], Transformed] | None = None
        with suppress(QueryError):
            self._by_row = transform.by_row()

    def __call__(self, rows: pa.Table, names: Sequence[str]) -> Transformed:
        """`rows` are not empty."""
        import pyarrow.compute as pc

        minutes = pc.floor_temporal(rows[INGESTED], unit="minute")
        if self._by_row is not None:
            try:
                return self._by_row(rows.select(names), minutes)
            except UnsupportedError:  # only the engine tells of some functions that they want a constant
                self._by_row = None
        return self._by_minute(rows.select(names), minutes.to_numpy().astype("datetime64[us]"))

    def _by_minute(self, rows: pa.Table, minutes: NDArray[np.datetime64]) -> Transformed:
        import pyarrow as pa

        by_minute = np.argsort(minutes, kind="stable")
        found, begins = np.unique(minutes[by_minute], return_index=True)
        kept = np.zeros(rows.num_rows, bool)
        places, parts = [], []
        for minute, here in zip(found.tolist(), np.split(by_minute, begins[1:]), strict=True):
            made = self._at(minute.replace(tzinfo=UTC))(rows.take(pa.array(here)))
            kept[here] = made.kept
            places.append(here[made.kept])
            parts.append(made.rows)
        order = np.argsort(np.concatenate(places), kind="stable")
        return Transformed(kept, pa.concat_tables(parts).take(pa.array(order)))
