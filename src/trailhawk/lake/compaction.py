"""Few large sorted files in place of many small ones, beside writers and readers that go on.

A day that holds many files is rewritten, sorted by event time. The commit retires the old files and adds
the new ones without changing data; readers of an older version keep theirs until `Delta.clean`.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from trailhawk.kql.schema import Table
from trailhawk.lake.delta import ConflictError, Delta, Staged, Transaction
from trailhawk.lake.table import DAY, stored_schema

if TYPE_CHECKING:
    import pyarrow as pa

COMPACT: Final = "compact"
"""Application id of whoever retires files."""

FILES_PER_DAY: Final = 8
"""A day with more live files than this is rewritten."""

_ROWS_IN_MEMORY: Final = 400_000
"""Rewritten at a time: about 1 KB a row unpacked, so some 400 MB."""


def compact_busy_days(delta: Delta, *, more_than: int = FILES_PER_DAY) -> int:
    """Rewrite the days with more than `more_than` files; how many were rewritten."""
    if delta.refresh() < 0:
        return 0
    busy = [day for day, files in _files_by_day(delta).items() if len(files) > more_than]
    return sum(compact_day(delta, day) for day in sorted(busy))


def compact_day(delta: Delta, day: dt.date) -> bool:
    """Rewrite one event day; False where it needs none or another process did it in the same moment."""
    files = _files_by_day(delta).get(day, [])
    if len(files) < 2:
        return False
    staged: list[Staged] = []
    for group in _groups(files):
        staged.extend(delta.stage(_read(delta, [path for path, _ in group])))
    try:
        # Measured: delta-rs lets two commits retire the same files; a transaction of its own does not.
        transaction = Transaction(COMPACT, delta.transaction(COMPACT) + 1)
        delta.commit(staged, remove=[path for path, _ in files], transaction=transaction)
    except ConflictError:
        delta.discard(staged)
        return False
    return True


def _files_by_day(delta: Delta) -> dict[dt.date, list[tuple[str, int]]]:
    """Path and rows of the live files of each day, in order of their first event."""
    actions = delta.actions()
    days: dict[dt.date, list[tuple[str, int]]] = defaultdict(list)
    if actions is None:
        return days
    actions = actions.sort_by(f"min.{delta.table.time_column}")
    columns = (actions[name].to_pylist() for name in (f"partition.{DAY}", "path", "num_records"))
    for day, path, rows in zip(*columns, strict=True):
        days[day].append((path, rows or 0))
    return days


def _groups(files: Sequence[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    """Files in runs that are rewritten together, so that memory stays bounded on a very large day."""
    group: list[tuple[str, int]] = []
    for file in files:
        if group and sum(rows for _, rows in group) + file[1] > _ROWS_IN_MEMORY:
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def _read(delta: Delta, paths: Sequence[str]) -> pa.Table:
    """The rows of files, in today's schema: a column that an older file lacks is NULL (text: empty)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pa.concat_tables([_fit(pq.ParquetFile(delta.root / path).read(), delta.table) for path in paths])


def _fit(rows: pa.Table, table: Table) -> pa.Table:
    import pyarrow as pa

    schema = stored_schema(table)
    for field in schema:
        if field.name not in rows.column_names:
            column = table.column(field.name)
            text = column is not None and field.type == pa.string()
            values = pa.repeat(pa.scalar(""), rows.num_rows) if text else pa.nulls(rows.num_rows, field.type)
            rows = rows.append_column(field, values)
    return rows.select(schema.names).cast(schema)
