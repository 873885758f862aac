"""The skipping index: for each row group of a data file a Bloom filter of the terms its text columns hold.

A term is a run of ASCII letters and digits, in lower case; everything else parts terms. That gives more
parts than Kusto's own terms never less, so a text that `has` finds has all its terms in the filter. Single
numbers of an address are everywhere, so four short neighbours (`203.0.113.77`) are kept as one term too.

The file, little-endian: `TERMS002`, the size of the header, its CRC-32, the header as JSON (`_Header`), then
pages of `page` bytes: a part of a filter and, in the last four bytes, its CRC-32. All bits of one term lie
in one page. What is missing, cut off or damaged means that the row group is read.

Terms are gathered and filters filled by the kernel, and by the same steps in NumPy where there is none.
"""

from __future__ import annotations

import ctypes
import os
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from trailhawk.kql.plan import AllOf, AnyOf, Need, Needle
from trailhawk.kql.schema import HIDDEN_PREFIX
from trailhawk.native import kernel
from trailhawk.native.terms import TermSet, fill

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.lake.table import DataFile

FOLDER: Final = "_terms"
"""Beside the day folders of a table. Delta leaves alone what begins with `_`, and so do other readers."""

SHARE: Final = 0.09
"""An index is at most this share of its data file."""

LEAST_ROWS: Final = 2_000
"""A smaller file is read faster than it is looked up."""

_MAGIC: Final = b"TERMS002"
_PREFIX: Final = len(_MAGIC) + 8
_CRC_BYTES: Final = 4
_PAGE: Final = 4096
_SMALL_PAGE: Final = 512
_PROBES: Final = 8
_BITS: Final = 14.0
"""Bits a term: with eight probes two of a thousand absent terms seem present. Fewer where `SHARE` says so."""

_LEAST_BITS: Final = 3.0
"""With fewer bits a term a filter would say yes to nearly everything."""

_WORD: Final = (1 << 64) - 1
_ROW_TERMS: Final = 9
"""Which a row of CloudTrail adds to its row group's. A set that grows step by step takes a third more."""

_PIECE_BYTES: Final = 1 << 17  # what is made of it, ten times as much, stays in the processor's cache
_FILTER_TERMS: Final = 1 << 14
_BETWEEN: Final = "\n\n"
_STEPS: Final = (0, 0, 16, 24, 32, 32, 32, 32)  # how long a term is that is read on with the next step
_SHORT: Final = 4
_NEIGHBOURS: Final = 4

Hashes = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]


def _lower_table() -> bytes:
    table = bytearray(range(128)) + bytearray(128)
    for letter in range(ord("A"), ord("Z") + 1):
        table[letter] = letter + 32
    return bytes(table)


_LOWER: Final = _lower_table()
_IN_TERM: Final = bytes(chr(code).isalnum() and code < 128 for code in range(256))
# The only characters beyond ASCII that are equal to an ASCII letter when case is ignored: İ, ſ, K (Kelvin).
_FOLDS_TO_ASCII: Final = ("\u0130".encode(), "\u017f".encode(), "\u212a".encode())

_LOWER_A, _ZERO = np.uint8(ord("a")), np.uint8(ord("0"))
_LETTERS, _DIGITS, _CASE = np.uint8(26), np.uint8(10), np.uint8(0x20)
_C1: Final = np.uint64(0x9E3779B97F4A7C15)
_C2: Final = np.uint64(0xBF58476D1CE4E5B9)
_C3: Final = np.uint64(0x94D049BB133111EB)
_MASKS: Final = np.array([(1 << (8 * count)) - 1 for count in range(9)], dtype=np.uint64)


class _Group(msgspec.Struct, frozen=True, array_like=True):
    """One row group: its rows, its first and last event time (microseconds since 1970), its first page and
    how many; no pages where the terms are not known."""

    rows: int
    first: int
    last: int
    page: int
    pages: int


class _Header(msgspec.Struct, frozen=True):
    probes: int
    page: int
    columns: frozenset[str]
    groups: tuple[_Group, ...]


_HEADER: Final = msgspec.json.Decoder(_Header)


# --- terms ------------------------------------------------------------------------------------------------


def _mixed(value: Hashes) -> Hashes:
    value = value ^ (value >> np.uint64(30))
    value *= _C2
    value ^= value >> np.uint64(27)
    value *= _C3
    value ^= value >> np.uint64(31)
    return value


def _term_hashes(text: bytes) -> Hashes:
    """A hash for each term of a text, in order, then one for each four short neighbours."""
    lowered, starts, ends = _cut(text)
    if not len(starts):
        return np.empty(0, np.uint64)
    terms = _mixed(_keys(lowered, starts, ends))
    return np.concatenate([terms, _neighbours(text, starts, ends, terms)])


def _cut(text: bytes) -> tuple[Bytes, Places, Places]:
    """The text with its terms in lower case and eight bytes behind it, and where its terms start and end.

    Outside of terms other bytes stand there than in the text.
    """
    octets = np.frombuffer(text, np.uint8)
    lowered = np.zeros(len(octets) + 8, np.uint8)
    here = np.bitwise_or(octets, _CASE, out=lowered[: len(octets)])  # a digit stays the same
    inside = np.zeros(len(octets) + 2, bool)
    np.logical_or((here - _LOWER_A) < _LETTERS, (octets - _ZERO) < _DIGITS, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    return lowered, edges[0::2].copy(), edges[1::2].copy()


def _keys(lowered: Bytes, starts: Places, ends: Places) -> Hashes:
    """A number for each term, another one for nearly every other; its bits are not mixed yet."""
    # The eight bytes from each place on, as numbers.
    words: Hashes = np.ndarray((len(lowered) - 7,), "<u8", lowered, strides=(1,))
    lengths = ends - starts
    keys = lengths.view(np.uint64) * _C1
    keys ^= words[starts] & _MASKS.take(lengths, mode="clip")
    # Of a longer term the first 32 bytes and the last 32 count: any function of the term will do.
    long = np.flatnonzero(lengths > 8)
    for step in range(1, 8):
        found = keys[long]
        found ^= found >> np.uint64(29)
        found *= _C2
        if step <= 4:
            found ^= words[ends[long] - 8] if step == 1 else words[starts[long] + 8 * (step - 1)]
        else:
            found ^= words[ends[long] - 8 * (step - 3)]
        keys[long] = found
        if step < 7:
            long = long[lengths[long] > _STEPS[step + 1]]
        if not len(long):
            break
    return keys


def _first_of_neighbours(starts: Places, ends: Places) -> Places:
    """The places of terms that are the first of four short neighbours."""
    count = len(starts) - _NEIGHBOURS + 1
    if count <= 0:
        return np.empty(0, np.int64)
    short = ends - starts <= _SHORT
    close = starts[1:] - ends[:-1] == 1
    met = short[:count].copy()
    for place in range(1, _NEIGHBOURS):
        met &= short[place : place + count] & close[place - 1 : place - 1 + count]
    return np.flatnonzero(met)


def _neighbours(text: bytes, starts: Places, ends: Places, terms: Hashes) -> Hashes:
    """A hash for each four neighbours, by their hashes and what parts them."""
    first = _first_of_neighbours(starts, ends)
    joined = terms[first]
    octets = np.frombuffer(text, np.uint8)
    for place in range(1, _NEIGHBOURS):
        separator = octets[ends[first + place - 1]].astype(np.uint64)
        joined = _mixed(joined * _C1 + terms[first + place] + separator)
    return joined


def terms_of(needle: Needle) -> Hashes:
    """Hashes of the whole terms inside a needle, the longest first; terms at an edge that may go on in the
    text do not count."""
    text = needle.text.lower().encode()
    inside = text.translate(_IN_TERM)
    start, end = 0, len(text)
    if not needle.left:
        while start < end and inside[start]:
            start += 1
    if not needle.right:
        while end > start and inside[end - 1]:
            end -= 1
    return _term_hashes(text[start:end])[::-1]


# --- writing ----------------------------------------------------------------------------------------------


class TermsWriter:
    """Gathers the terms of a data file while it is written, row group by row group."""

    def __init__(self, columns: Sequence[str], repetitive: Collection[str], time: str) -> None:
        self._columns = list(columns)
        self._repetitive = frozenset(repetitive)
        self._time = time
        self._groups: list[tuple[int, int, int, Hashes | None]] = []

    def add(self, rows: pa.Table, group_rows: int) -> None:
        """Rows that are written as row groups of this size, sorted by time."""
        for start in range(0, rows.num_rows, group_rows):
            part = rows.slice(start, group_rows)
            times = part[self._time].combine_chunks().to_numpy(zero_copy_only=False).astype(np.int64)
            self._groups.append((part.num_rows, int(times.min()), int(times.max()), self._terms(part)))

    def _terms(self, rows: pa.Table) -> Hashes | None:
        """The terms' hashes, each once; None where a character makes them unsure."""
        texts = rows.select(self._columns)
        library = kernel.library()
        return _gathered(texts, self._repetitive) if library is None else _gathered_by(library, texts)

    def write(self, path: Path, *, data_size: int) -> None:
        """The index of a data file of that size in bytes; nothing where it would not be worth its size."""
        if sum(rows for rows, *_ in self._groups) < LEAST_ROWS:
            return
        count = sum(len(terms) for *_, terms in self._groups if terms is not None)
        room = int(data_size * SHARE) - _PREFIX - 96 * len(self._groups) - 32 * len(self._columns)
        bits = min(_BITS, 8 * room / max(1, count))
        if bits < _LEAST_BITS:
            return
        page = _PAGE if room > 64 * _PAGE else _SMALL_PAGE
        per_page = 8 * (page - _CRC_BYTES)
        groups, filters, at = [], [], 0
        for rows, first, last, terms in self._groups:
            pages = 0 if terms is None else max(1, int(len(terms) * bits / per_page))
            if terms is not None:
                filters.append(_filter(terms, pages, page))
            groups.append(_Group(rows, first, last, at, pages))
            at += pages
        header = msgspec.json.encode(_Header(_PROBES, page, frozenset(self._columns), tuple(groups)))
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.write(_MAGIC + len(header).to_bytes(4, "little") + _crc(header) + header)
            file.writelines(filters)
            file.flush()
            # Zeros in place of a page that never reached the disk would hide rows.
            os.fsync(file.fileno())


def _gathered_by(library: ctypes.CDLL, rows: pa.Table) -> Hashes | None:
    """`_gathered`, by the kernel: it reads the values where they lie."""
    import pyarrow as pa

    found = TermSet(library, _ROW_TERMS * rows.num_rows)
    for column in rows.columns:
        for chunk in column.chunks:
            values = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
            if not len(values):
                continue
            valid, offsets, data = values.buffers()
            places = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
            if not found.add(_octets(data), places, _octets(valid), values.offset):
                return None
    return found.hashes()


def _octets(buffer: pa.Buffer | None) -> Bytes:
    return np.frombuffer(buffer or b"", np.uint8)


def _gathered(rows: pa.Table, repetitive: frozenset[str]) -> Hashes | None:
    """The hashes of all terms, each once; None where a character makes them unsure."""
    found = [np.empty(0, np.uint64)]
    for text in _texts(rows, repetitive):
        if not text.isascii() and any(fold in text for fold in _FOLDS_TO_ASCII):
            return None
        found.append(_distinct(_term_hashes(text)))
    return _distinct(np.concatenate(found))


def _distinct(hashes: Hashes) -> Hashes:
    """Each once, in order. Sorting is far cheaper here than what `np.unique` does."""
    ordered = np.sort(hashes)
    fresh = np.ones(len(ordered), bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    kept: Hashes = ordered[fresh]
    return kept


def _texts(rows: pa.Table, repetitive: frozenset[str]) -> Iterable[bytes]:
    """All values of the columns, parted so that neither a term nor neighbours go on from one into the next,
    in pieces of bounded size; repeated values once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts: list[bytes] = []
    size = 0
    for name in rows.column_names:
        column = rows[name]
        if pa.types.is_dictionary(column.type):
            column = pa.chunked_array([chunk.dictionary for chunk in column.chunks])
        elif name in repetitive:
            column = pc.unique(column)
        for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            steps = max(1, -(-chunk.nbytes // _PIECE_BYTES))
            width = max(1, -(-len(chunk) // steps))
            for start in range(0, len(chunk), width):
                values = chunk.slice(start, width).drop_null()
                listed = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
                text = pc.binary_join(listed, _BETWEEN)[0].as_buffer()
                if text is None:
                    continue
                parts.append(text.to_pybytes())
                size += len(parts[-1])
                if size > _PIECE_BYTES:
                    yield _BETWEEN.encode().join(parts)
                    parts, size = [], 0
    if parts:
        yield _BETWEEN.encode().join(parts)


def _filter(terms: Hashes, pages: int, page: int) -> bytes:
    library = kernel.library()
    filled = np.zeros((pages, page), np.uint8)
    if library is None:
        _fill(terms, filled)
    else:
        fill(library, terms, filled)
    for row in filled:
        row[-_CRC_BYTES:] = np.frombuffer(_crc(row[:-_CRC_BYTES].tobytes()), np.uint8)
    return filled.tobytes()


def _fill(terms: Hashes, pages: Bytes) -> None:
    """Set the bits of these terms in the pages, one a row."""
    count, page = pages.shape
    width = np.uint64(8 * (page - _CRC_BYTES))
    bits = np.zeros(count * 8 * page, np.uint8)
    for start in range(0, len(terms), _FILTER_TERMS):
        part = terms[start : start + _FILTER_TERMS]
        base = (part >> np.uint64(40)) % np.uint64(count) * np.uint64(8 * page)
        step = (part >> np.uint64(20)) | np.uint64(1)
        for probe in range(_PROBES):
            bits[base + (part + np.uint64(probe) * step) % width] = 1
    pages[:] = np.packbits(bits).reshape(pages.shape)


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CRC_BYTES, "little")


# --- reading ----------------------------------------------------------------------------------------------


class Terms:
    """The index of one data file, as far as it can be read."""

    def __init__(self, path: Path, header: _Header, pages_at: int) -> None:
        self._path = path
        self._header = header
        self._pages_at = pages_at

    @classmethod
    def open(cls, path: Path) -> Terms | None:
        """The index at this path; None where there is none or its header is damaged."""
        try:
            with path.open("rb") as file:
                prefix = file.read(_PREFIX)
                size = int.from_bytes(prefix[len(_MAGIC) : len(_MAGIC) + 4], "little")
                data = file.read(min(size, 16 << 20))
        except OSError:
            return None
        if not prefix.startswith(_MAGIC) or len(data) != size or _crc(data) != prefix[-_CRC_BYTES:]:
            return None
        try:
            header = _HEADER.decode(data)
        except msgspec.DecodeError:
            return None
        return cls(path, header, _PREFIX + size)

    @property
    def groups(self) -> int:
        return len(self._header.groups)

    def span(self, group: int) -> tuple[int, int]:
        """The first and the last event time of a row group, in microseconds since 1970."""
        found = self._header.groups[group]
        return found.first, found.last

    def look(self, groups: Iterable[int], wanted: Wanted, data: DataFile) -> list[bool]:
        """For each of these row groups of a data file: may it hold rows with what is wanted?"""
        try:
            with self._path.open("rb", buffering=0) as file:
                descriptor = file.fileno()

                def holds(group: int, needle: Needle, hashes: Sequence[int]) -> bool:
                    return not self._covers(needle.columns, data) or self._holds(descriptor, group, hashes)

                return [wanted.may_be_in(partial(holds, group)) for group in groups]
        except OSError:
            return [True for _ in groups]

    def _covers(self, columns: frozenset[str], data: DataFile) -> bool:
        """Are the terms of all these columns in it? A column that the data file lacks is empty there, but a
        promoted path is then read from its JSON."""
        return all(
            name in self._header.columns or (name not in data.columns and not name.startswith(HIDDEN_PREFIX))
            for name in columns
        )

    def _holds(self, descriptor: int, group: int, terms: Sequence[int]) -> bool:
        header = self._header
        found = header.groups[group]
        if not found.pages:
            return True
        width = 8 * (header.page - _CRC_BYTES)
        for term in terms:
            place = found.page + (term >> 40) % found.pages
            page = os.pread(descriptor, header.page, self._pages_at + place * header.page)
            if len(page) < header.page or _crc(page[:-_CRC_BYTES]) != page[-_CRC_BYTES:]:
                return True
            step = (term >> 20) | 1
            for probe in range(header.probes):
                bit = ((term + probe * step) & _WORD) % width
                if not page[bit >> 3] & (128 >> (bit & 7)):
                    return False
        return True


Holds = Callable[[Needle, Sequence[int]], bool]


class Wanted:
    """What a scan needs of a row, ready to be looked up."""

    def __init__(self, need: Need) -> None:
        self._need = need
        self._hashes: dict[Needle, list[int]] = {}

    def may_be_in(self, holds: Holds) -> bool:
        """May it be where `holds` says of a needle whether it may be there?"""
        return self._may_be(self._need, holds)

    def _may_be(self, need: Need, holds: Holds) -> bool:
        match need:
            case Needle():
                if need not in self._hashes:
                    self._hashes[need] = terms_of(need).tolist()
                return holds(need, self._hashes[need])
            case AllOf():
                return all(self._may_be(part, holds) for part in need.parts)
            case AnyOf():
                return any(self._may_be(part, holds) for part in need.parts)


def terms_path(root: Path, data: str) -> Path:
    """Where the index of a data file of a table lies; `data` is its path or its name."""
    return root / FOLDER / (data.rpartition("/")[2].removesuffix(".parquet") + ".terms")


def clean(root: Path) -> int:
    """Delete the indexes whose data file is gone; how many."""
    indexes = list((root / FOLDER).glob("*.terms"))
    data = {path.stem for path in root.glob("*/*.parquet")}
    orphans = [path for path in indexes if path.stem not in data]
    for path in orphans:
        path.unlink(missing_ok=True)
    return len(orphans)
