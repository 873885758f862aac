"""Parquet objects: known by their footer, and read row by row in bounded memory, whatever they claim.

A Parquet file names its columns at its end, so the whole object is held (on disk above 64 MB) before a source
is asked whether it is its own.
Format: https://github.com/apache/parquet-format
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Final

from trailhawk.sources.parquet_pages import check_footer, examined, weigh_footer
from trailhawk.sources.source import HEAD_BYTES, MAX_RECORD_BYTES, BadPart, Chunk

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAGIC: Final = b"PAR1"
_TAIL: Final = 8  # the footer's length, and the magic bytes again
_MAX_FOOTER_BYTES: Final = 8 * 1024 * 1024
_IN_MEMORY: Final = 64 * 1024 * 1024
_COPY_BYTES: Final = 1 << 20
_MAX_FILE_BYTES: Final = 1 << 30
"""A Parquet file is read from its end, so all of it is held on disk. AWS closes one at 75 MB."""
_MAX_ROWS_A_BYTE: Final = 100
"""A Parquet file that claims more rows a byte than this is no log: real ones have less than one."""
_MAX_GROUP_BYTES: Final = 1 << 30
_MAX_COLUMNS: Final = 1_000
_MAX_GROUPS: Final = 10_000
_MAX_IN_LISTS: Final = 32_000_000
"""Values that stand in the lists of a row group, all of which may be one row's."""
_PIECE_BYTES: Final = 16 * 1024 * 1024
_ENTRY_BYTES: Final = 32
"""What an entry of a list or a map counts beside its text: it may have none."""

Records = Callable[["pa.RecordBatch"], list[bytes]]


def known_by(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The bytes by which a source knows an object, and all blocks of the object.

    These are its first ones; of a Parquet file its magic bytes and its footer, which are a Parquet file
    without data. OSError where the file finds no room on this machine's disk.
    """
    first = next(blocks, b"")
    whole = chain((first,), blocks)
    if not first.startswith(MAGIC):
        return first[:HEAD_BYTES], whole
    held = _Held()
    for block in whole:
        held.write(block)
        if held.size > _MAX_FILE_BYTES:
            return first[:HEAD_BYTES], chain(held, blocks)
    return held.footer() or first[:HEAD_BYTES], held


def _footer(file: IO[bytes], size: int) -> bytes:
    """Magic bytes and footer of a file, nothing where it does not end in one."""
    if size < 2 * len(MAGIC) + _TAIL:
        return b""
    file.seek(size - _TAIL)
    tail = file.read(_TAIL)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length > min(size - _TAIL - len(MAGIC), _MAX_FOOTER_BYTES):
        return b""
    file.seek(size - _TAIL - length)
    return MAGIC + file.read(length + _TAIL)


class _Held:
    """The bytes of an object on disk, given out once from the start."""

    def __init__(self) -> None:
        self.size = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 (closed at its end)
        self._is_read = False

    def write(self, block: bytes) -> None:
        self._file.write(block)
        self.size += len(block)

    def footer(self) -> bytes:
        """Magic bytes and footer, nothing where the file does not end in one."""
        return _footer(self._file, self.size)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._is_read:
            self._is_read = True
            self._file.seek(0)
        block = b"" if self._file.closed else self._file.read(_COPY_BYTES)
        if not block:
            self._file.close()
            raise StopIteration
        return block

    def __del__(self) -> None:
        with contextlib.suppress(OSError):  # a full disk was told when it was written to
            self._file.close()


@lru_cache(maxsize=4)
def columns(head: bytes) -> frozenset[str]:
    """The paths of the columns of a Parquet file that is known by these bytes; none where they are no footer.

    A path has its steps apart by dots, and none for what a list or a map adds (`unmapped.key`).
    """
    metadata = _metadata(head)
    if metadata is None:
        return frozenset()
    try:
        found = [
            metadata.schema.column(place).path for place in range(min(metadata.num_columns, _MAX_COLUMNS))
        ]
    except ValueError:  # a name that is not UTF-8
        return frozenset()
    return frozenset(map(plain_path, found))


@lru_cache(maxsize=4)
def only_value(head: bytes, path: str) -> str | None:
    """The text that a column has in every row by the footer's statistics; None where they do not say."""
    metadata = _metadata(head)
    if metadata is None:
        return None
    try:
        values = set(_extremes(metadata, path))
    except (ValueError, NotImplementedError, OSError):  # no text, or none that can be read
        return None
    value = values.pop() if len(values) == 1 else None
    return value if isinstance(value, str) else None


def _extremes(metadata: pq.FileMetaData, path: str) -> Iterator[object]:
    """The least and the greatest value of a column in each row group; None where one does not say."""
    for number in range(min(metadata.num_row_groups, _MAX_GROUPS)):
        group = metadata.row_group(number)
        for place in range(min(group.num_columns, _MAX_COLUMNS)):
            column = group.column(place)
            if plain_path(column.path_in_schema) == path:
                statistics = column.statistics
                if statistics is None or not statistics.has_min_max:
                    yield from (None, "")
                else:
                    yield from (statistics.min, statistics.max)


def _metadata(head: bytes) -> pq.FileMetaData | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not head.startswith(MAGIC) or not head.endswith(MAGIC):
        return None
    with contextlib.suppress(pa.ArrowException, OSError, ValueError):
        weigh_footer(head[len(MAGIC) : -_TAIL])
        metadata = pq.read_metadata(io.BytesIO(head))
        check_footer(head[len(MAGIC) : -_TAIL], metadata.schema)
        return metadata
    return None


_OF_LISTS: Final = frozenset(("list", "element", "key_value", "array", "bag", "array_element", "item"))


def plain_path(path: str) -> str:
    """A column's path without the steps that lists and maps add, whose names depend on the writer.

    >>> plain_path("resources.list.element.uid"), plain_path("unmapped.key_value.key")
    ('resources.uid', 'unmapped.key')
    """
    top, *below = path.split(".")
    return ".".join([top, *(step for step in below if step not in _OF_LISTS)])


def chunks(
    blocks: Iterator[bytes],
    records: Records,
    *,
    check: Callable[[frozenset[str]], None],
    wanted: Callable[[str], bool] = lambda _: True,
    rows: int = 2_000,
    longest: int = MAX_RECORD_BYTES,
    flat: bool = False,
) -> Iterator[Chunk]:
    """The rows of a Parquet file as `records` writes them; one bad part for a file that cannot be read.

    `check` raises ValueError for columns that are none of the log's. Only the columns `wanted` (by their
    plain path) are read, of which a value is no longer than `longest` bytes. `records` gets up to so many
    `rows`, whose text is dictionaries. `flat`: the log has no lists. OSError where the file finds no room on
    this machine's disk.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spool:
        size = 0
        for block in blocks:
            size += len(block)
            if size > _MAX_FILE_BYTES:
                spool.seek(0)
                reason = f"Parquet of more than {_MAX_FILE_BYTES:,} bytes"
                yield Chunk([], (_all(chain(_read(spool), (block,), blocks), reason),), int)
                return
            spool.write(block)
        spool.seek(0)
        taken = 0
        try:
            footer = _footer(spool, size)[len(MAGIC) : -_TAIL]
            weigh_footer(footer)
            file = pq.ParquetFile(spool)
            check_footer(footer, file.schema)
            chosen = _chosen(file, size, wanted, check, flat=flat)
            pages = examined(spool, file.metadata)
            if max(pages.unfolded, pages.grown) > _MAX_GROUP_BYTES:
                raise ValueError("its pages unfold to more than 1 GiB")
            # A text that stands once in the file may be that of every row: so it is held once, and looked at.
            # Not where some pages of a column have none of its dictionary, which nested columns cannot read.
            texts = [
                column.path
                for column in chosen
                if column.physical_type == "BYTE_ARRAY" and (flat or column.path not in pages.mixed)
            ]
            file = pq.ParquetFile(
                spool, metadata=file.metadata, read_dictionary=texts, coerce_int96_timestamp_unit="us"
            )
            names = [column.path for column in chosen]
            for batch in _batches(file, names, rows, flat=flat):
                for piece in _pieces(batch, longest):
                    found, bad = ([], (_TOO_LARGE,)) if piece is None else (records(piece), ())
                    taken += len(found) + len(bad)
                    yield Chunk(found, bad, lambda _: 0)
        except (pa.ArrowException, OSError, ValueError, NotImplementedError, OverflowError) as error:
            spool.seek(0)
            reason = f"Parquet that cannot be read after {taken} rows: {str(error)[:200]}"
            yield Chunk([], (_all(_read(spool), reason),), int)


def _batches(file: pq.ParquetFile, names: list[str], rows: int, *, flat: bool) -> Iterator[pa.RecordBatch]:
    """The rows; where columns are nested no batch spans two row groups, whose dictionaries differ."""
    if flat:
        yield from file.iter_batches(rows, columns=names, use_threads=False)
        return
    for group in range(file.metadata.num_row_groups):
        yield from file.iter_batches(rows, row_groups=[group], columns=names, use_threads=False)


def _chosen(
    file: pq.ParquetFile,
    size: int,
    wanted: Callable[[str], bool],
    check: Callable[[frozenset[str]], None],
    *,
    flat: bool,
) -> list[pq.ColumnSchema]:
    """The columns to read; ValueError for what is no such log, or would grow beyond reason."""
    metadata = file.metadata
    if metadata.num_columns > _MAX_COLUMNS or metadata.num_row_groups > _MAX_GROUPS:
        raise ValueError(
            f"{metadata.num_columns} columns in {metadata.num_row_groups} row groups are too many"
        )
    found = [file.schema.column(place) for place in range(len(file.schema))]
    check(frozenset(plain_path(column.path) for column in found))
    chosen = [column for column in found if wanted(plain_path(column.path))]
    for column in chosen:
        if column.physical_type == "FIXED_LEN_BYTE_ARRAY" or (flat and column.max_repetition_level):
            raise ValueError(f"the column {column.path[:100]} is none of such a log")
    if metadata.num_rows > size * _MAX_ROWS_A_BYTE:
        raise ValueError(f"it claims {metadata.num_rows} rows in {size} bytes")
    lists = {column.path for column in chosen if column.max_repetition_level}
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if group.total_byte_size > _MAX_GROUP_BYTES:
            raise ValueError("a row group is larger than 1 GiB")
        columns = (group.column(place) for place in range(group.num_columns))
        if sum(column.num_values for column in columns if column.path_in_schema in lists) > _MAX_IN_LISTS:
            raise ValueError(f"the lists of a row group hold more than {_MAX_IN_LISTS:,} values")
    return chosen


_TOO_LARGE: Final = BadPart.of(b"", 0, f"a row of Parquet larger than {MAX_RECORD_BYTES // 2**20} MB")


def _pieces(batch: pa.RecordBatch, longest: int) -> Iterator[pa.RecordBatch | None]:
    """A batch in pieces whose text is not much larger than _PIECE_BYTES, None for a row that alone is larger
    than a record; ValueError for a value that is too long."""
    size = sum(_size(column, longest) for column in batch.columns)
    if size <= _PIECE_BYTES:
        yield batch
    elif batch.num_rows == 1:
        yield batch if size <= MAX_RECORD_BYTES else None
    else:
        half = batch.num_rows // 2
        yield from _pieces(batch.slice(0, half), longest)
        yield from _pieces(batch.slice(half), longest)


def _size(array: pa.Array, longest: int) -> int:
    """How many bytes the values would take as text, about."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        if (pc.max(lengths).as_py() or 0) > longest:
            raise ValueError(f"a value is longer than {longest:,} bytes")
        return int(pc.sum(lengths).as_py() or 0) + len(array)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        lengths = pc.binary_length(array)
        if (pc.max(lengths).as_py() or 0) > longest:
            raise ValueError(f"a value is longer than {longest:,} bytes")
        return int(pc.sum(lengths).as_py() or 0) + len(array)
    if pa.types.is_struct(kind):
        return len(array) + sum(_size(child, longest) for child in array.flatten())
    if _is_list(kind):
        child = _inner(array)[1]
        return 8 * len(array) + _ENTRY_BYTES * len(child) + _size(child, longest)
    return 8 * len(array)


def dicts(batch: pa.RecordBatch) -> list[dict[str, object]]:
    """The rows as JSON has them, without nulls: maps are objects, times text in ISO 8601 (UTC)."""
    return _objects(batch.schema.names, [_values(column) for column in batch.columns])


def _objects(names: Sequence[str], columns: Sequence[list[object]]) -> list[dict[str, object]]:
    rows = zip(*columns, strict=True)
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None} for row in rows
    ]


def _values(array: pa.Array) -> list[object]:
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        return _values(array.dictionary_decode())
    if pa.types.is_struct(kind):
        made = _objects([field.name for field in kind], [_values(child) for child in array.flatten()])
        if not array.null_count:
            return list(made)
        return [
            each if is_there else None
            for each, is_there in zip(made, array.is_valid().to_pylist(), strict=True)
        ]
    if _is_list(kind):
        lengths, child = _inner(array)
        inner = iter(_values(child))
        lists = [list(islice(inner, length)) for length in lengths]
        is_map, valid = pa.types.is_map(kind), array.is_valid().to_pylist()
        return [
            (_mapping(each) if is_map else each) if is_there else None
            for each, is_there in zip(lists, valid, strict=True)
        ]
    if pa.types.is_timestamp(kind):
        micros = array.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
        return [None if value is None else _iso(value) for value in micros.to_pylist()]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [None if value is None else value.decode("utf-8", "replace") for value in array.to_pylist()]
    found: list[object] = array.to_pylist()
    if kind.id in _as_json():
        return found
    return [None if value is None else str(value) for value in found]


@lru_cache(maxsize=1)
def _as_json() -> frozenset[int]:
    """The types whose values JSON has too; dates, decimals and the like become text."""
    import pyarrow as pa

    numbers = (pa.int8, pa.int16, pa.int32, pa.int64, pa.uint8, pa.uint16, pa.uint32, pa.uint64)
    kinds = (*numbers, pa.float16, pa.float32, pa.float64, pa.bool_, pa.string, pa.large_string, pa.null)
    return frozenset(kind().id for kind in kinds)


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind))


def _inner(array: pa.Array) -> tuple[list[int], pa.Array]:
    """How many values each list holds, and all of these; the entries of a map are structs."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_map(array.type):
        child = pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"])
    else:
        child = array.values
    offsets = array.offsets.to_numpy()
    first, last = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
    return np.diff(offsets).tolist(), child.slice(first, last - first)


def _mapping(entries: list[object]) -> dict[str, object]:
    return {str(entry.get("key")): entry.get("value") for entry in entries if isinstance(entry, dict)}


_EPOCH: Final = dt.datetime(1970, 1, 1)


def _iso(micros: int) -> str | int:
    try:
        return (_EPOCH + dt.timedelta(microseconds=micros)).isoformat() + "Z"
    except OverflowError:
        return micros  # no time that anything can be made of


def _read(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(_COPY_BYTES), b"")


def _all(pieces: Iterator[bytes], reason: str) -> BadPart:
    digest, size, head = hashlib.sha256(), 0, b""
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
        head += piece[: HEAD_BYTES - len(head)]
    return BadPart(0, size, digest.hexdigest(), head, reason)
