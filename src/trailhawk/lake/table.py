"""How rows are stored: Arrow types, hidden columns, and what a data file's name says of its schema."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, overload

from trailhawk.kql.schema import HIDDEN_PREFIX, INGESTION_TIME, LOG_OBJECT, Table
from trailhawk.kql.types import KqlType
from trailhawk.native.records import used

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

ID = HIDDEN_PREFIX + "id"
PAYLOAD = HIDDEN_PREFIX + "payload"
OBJECT = LOG_OBJECT
BATCH = HIDDEN_PREFIX + "batch"
CONFLICT = HIDDEN_PREFIX + "conflict"
REST = HIDDEN_PREFIX + "rest"
DAY = HIDDEN_PREFIX + "day"

HIDDEN = (INGESTION_TIME, OBJECT, BATCH, ID, PAYLOAD, CONFLICT, REST)
"""Hidden columns that stand in every file: when and from where a row came, the hash of its identity (NULL
where it has none), the hash of its canonical payload, whether its identity was stored before with another
payload, and JSON of what the record has and the table's columns do not (NULL for nothing). `_th_day`, the
day of the event, is the partition and stands in the file's path."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file of a table, with the range of its event and ingestion times (None where unknown)."""

    path: str
    rows: int
    size: int
    columns: frozenset[str]
    first: dt.datetime | None
    last: dt.datetime | None
    ingested_first: dt.datetime | None
    ingested_last: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Part:
    """What of a data file is to be read: rows with event times in one of the spans (inclusive), or all."""

    file: DataFile
    spans: tuple[tuple[dt.datetime, dt.datetime], ...] | None = None
    share: float = 1.0
    """Of the file's rows, about."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look into the index left to be read, and the row groups that it could and did leave out."""

    parts: tuple[Part, ...]
    groups: int = 0
    skipped: int = 0


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece; copied only where it is in several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def trimmed(rows: pa.Table) -> pa.Table:
    """The rows, each column in one piece, with dictionaries that hold only values in use."""
    import numpy as np
    import pyarrow as pa

    columns: dict[str, pa.Array] = {}
    for name in rows.column_names:
        column = whole(rows[name])
        if pa.types.is_dictionary(column.type):
            codes = column.indices.drop_null().to_numpy().astype(np.int32, copy=False)
            is_used = used(codes, len(column.dictionary))
            if not is_used.all():
                places = pa.array(np.cumsum(is_used, dtype=np.int32) - 1).take(column.indices)
                values = column.dictionary.filter(pa.array(is_used))
                column = pa.DictionaryArray.from_arrays(places, values)
        columns[name] = column
    return pa.table(columns)


def arrow_type(kind: KqlType) -> pa.DataType:
    """The stored type: microseconds without zone for datetime, ticks for timespan, JSON text for dynamic."""
    import pyarrow as pa

    return {
        KqlType.BOOL: pa.bool_(),
        KqlType.INT: pa.int32(),
        KqlType.LONG: pa.int64(),
        KqlType.REAL: pa.float64(),
        KqlType.DECIMAL: pa.decimal128(38, 18),
        KqlType.DATETIME: pa.timestamp("us"),
        KqlType.TIMESPAN: pa.int64(),
    }.get(kind, pa.string())


@lru_cache(maxsize=64)
def _stored_schema(table: _ByIdentity) -> pa.Schema:
    import pyarrow as pa

    described = table.table
    fields = [(column.name, arrow_type(column.type)) for column in described.stored]
    fields += [(promoted.hidden, pa.string()) for promoted in described.promoted]
    hidden_types = (
        pa.timestamp("us"),
        pa.string(),
        pa.string(),
        pa.int64(),
        pa.int64(),
        pa.bool_(),
        pa.string(),
    )
    fields += zip(HIDDEN, hidden_types, strict=True)
    return pa.schema(fields)


class _ByIdentity:
    """A table as a cache key: tables hold mappings and so have no hash of their own."""

    __slots__ = ("table",)

    def __init__(self, table: Table) -> None:
        self.table = table

    def __hash__(self) -> int:
        return id(self.table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other.table is self.table


def stored_schema(table: Table) -> pa.Schema:
    """The columns of the table's files in stored order, without the partition column."""
    return _stored_schema(_ByIdentity(table))


def picked(rows: pa.Table, places: NDArray[np.int64]) -> pa.Table:
    """The rows at these places, in this order. Column by column: far cheaper than of many chunks at once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(places) and not 0 <= places.min() <= places.max() < rows.num_rows:  # once, not for each column
        raise IndexError(f"rows {places.min()} to {places.max()} of {rows.num_rows}")
    at = pa.array(places)
    columns: dict[str, pa.Array] = {}
    for name in rows.column_names:
        if rows[name].null_count == rows.num_rows:  # most promoted paths
            columns[name] = pa.nulls(len(at), rows[name].type)
        else:
            columns[name] = pc.take(whole(rows[name]), at, boundscheck=False)
    return pa.table(columns)


def plain(rows: pa.Table) -> pa.Table:
    """The rows with text in place of dictionaries."""
    import pyarrow as pa

    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in rows.schema
    ]
    return rows.cast(pa.schema(fields))


def fitted(rows: pa.Table, table: Table) -> pa.Table:
    """Rows in the table's stored columns and their order; an absent one is empty: '' for text, else NULL.

    Dictionaries stay such.
    """
    import pyarrow as pa

    columns: list[pa.ChunkedArray] = []
    present = set(rows.column_names)
    schema = stored_schema(table)
    for field in schema:
        if field.name in present:
            found = rows[field.name]
            is_fit = found.type == field.type or pa.types.is_dictionary(found.type)
            columns.append(found if is_fit else found.cast(field.type))
            continue
        column = table.column(field.name)
        text = column is not None and column.type is KqlType.STRING
        empty = pa.repeat(pa.scalar(""), rows.num_rows) if text else pa.nulls(rows.num_rows, field.type)
        columns.append(pa.chunked_array([empty]))
    return pa.table(columns, schema.names)


def described(rows: Iterable[Mapping[str, object]], table: Table) -> pa.Table:
    """Rows as the table's described columns; what a row does not name is empty: '' for text, else NULL."""
    import pyarrow as pa

    empty = {column.name: "" for column in table.stored if column.type is KqlType.STRING}
    schema = pa.schema([(column.name, arrow_type(column.type)) for column in table.stored])
    whole = [{**empty, **row} for row in rows]
    if not whole:  # to make an array of a list, even an empty one, Arrow loads pandas where there is one
        return pa.Table.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
    return pa.Table.from_pylist(whole, schema=schema)


@overload
def as_stored(moment: dt.datetime) -> dt.datetime: ...
@overload
def as_stored(moment: None) -> None: ...
@overload
def as_stored(moment: dt.datetime | None) -> dt.datetime | None: ...
def as_stored(moment: dt.datetime | None) -> dt.datetime | None:
    """An aware time as the lake has it: UTC without zone."""
    return None if moment is None else moment.astimezone(dt.UTC).replace(tzinfo=None)


def stored_names(table: Table) -> tuple[str, ...]:
    """The names of `stored_schema`, without importing Arrow."""
    columns = tuple(column.name for column in table.stored)
    return columns + tuple(promoted.hidden for promoted in table.promoted) + HIDDEN


def text_columns(schema: pa.Schema) -> tuple[str, ...]:
    """The names of the columns whose terms the lake's index holds: all texts that a query can name."""
    import pyarrow as pa

    texts = (pa.string(), pa.dictionary(pa.int32(), pa.string()))
    return tuple(field.name for field in schema if field.type in texts and field.name not in HIDDEN)


def schema_mark(names: tuple[str, ...] | frozenset[str]) -> str:
    """Eight hexadecimal digits that stand for a set of column names; files carry it in their name, so
    that a reader knows the columns of a thousand files without opening one."""
    return hashlib.sha256("\0".join(sorted(names)).encode()).hexdigest()[:8]


def statistics(table: Table) -> tuple[str, ...]:
    """The columns that get a minimum and a maximum in the table's log."""
    return tuple(dict.fromkeys((table.time_column, INGESTION_TIME, *table.statistics)))
