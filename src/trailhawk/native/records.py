"""Members of JSON records, and paths in JSON texts, as Arrow columns: the functions of `records.c`."""

from __future__ import annotations

import ctypes
import os
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Self, overload

import numpy as np
from numpy.typing import NDArray

from trailhawk.native.kernel import NO_MEMORY, PAD, library

if TYPE_CHECKING:
    import pyarrow as pa

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int32]

_KIND: Final = np.uint8(0x0F)
_NULL: Final = np.uint8(1)
_TRUE: Final = np.uint8(3)
_ESCAPE: Final = np.uint8(0x10)
_UNTIDY: Final = np.uint8(0x20)
_MOST_BYTES: Final = (1 << 31) - 1
_USUAL_BYTES: Final = 700
"""A record in a list takes more than that, on the whole."""
MOST_PATHS: Final = 64
_SECRET: Final = int.from_bytes(os.urandom(8))
"""What hashes begin with, so that nobody can write logs whose texts all come to lie in one place."""
_ZEROS: Final = bytes(PAD)
_NO_NUMBERS: Final = np.empty(0, np.int32)


class Want(IntEnum):
    """What a member has to be for its record to be a usual one; TEXT and FLAG may be null."""

    TIME = 0
    TEXT = 1
    FLAG = 2
    ANY = 3


@dataclass(frozen=True)
class Strings:
    """Texts one after the other, as Arrow has them, with PAD zero bytes behind the last."""

    offsets: Numbers
    octets: Bytes

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        encoded = [text.encode() for text in texts]
        offsets = np.zeros(len(texts) + 1, np.int32)
        np.cumsum([len(text) for text in encoded], out=offsets[1:])
        return cls(offsets, np.frombuffer(b"".join((*encoded, _ZEROS)), np.uint8))

    def array(self, valid: NDArray[np.bool_] | None = None) -> pa.Array:
        """As a string array, null where not `valid`."""
        import pyarrow as pa

        bits = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
        text = pa.py_buffer(self.octets[: self.offsets[-1]])
        return pa.Array.from_buffers(
            pa.string(), len(self.offsets) - 1, [bits, pa.py_buffer(self.offsets), text]
        )


@dataclass(frozen=True)
class Slices:
    """By row a stretch of a text: its address, how long it is, and what stands there (see `records.c`; 0 for
    nothing). `held` keeps the texts alive.

    Where they were asked for: by row the number of its text among those that differ (null as nothing), and
    of each of these its first row.
    """

    held: object
    places: NDArray[np.uint64]
    lengths: NDArray[np.uint32]
    forms: Bytes
    numbers: Numbers = field(default_factory=lambda: _NO_NUMBERS)
    firsts: Numbers = field(default_factory=lambda: _NO_NUMBERS)

    @property
    def is_present(self) -> NDArray[np.bool_]:
        return np.asarray(self.forms != 0, bool)

    @property
    def is_value(self) -> NDArray[np.bool_]:
        """Where there is something that is not null."""
        return np.asarray((self.forms & _KIND) > _NULL, bool)

    @property
    def is_untidy(self) -> NDArray[np.bool_]:
        """Where a blank stands outside of strings, or an escape that need not be."""
        return np.asarray((self.forms & _UNTIDY) != 0, bool)

    @property
    def has_escapes(self) -> bool:
        return bool((self.forms & _ESCAPE).any())

    def flags(self) -> pa.Array:
        """true and false as they stand there, null for anything else."""
        import pyarrow as pa

        return pa.array((self.forms & _KIND) == _TRUE, mask=~self.is_value)

    def at(self, rows: Numbers) -> Slices:
        """Those of some rows."""
        return Slices(self.held, self.places[rows], self.lengths[rows], self.forms[rows])

    def bytes_at(self, row: int) -> bytes:
        """The stretch as it stands there; nothing for null."""
        length = int(self.lengths[row])
        return ctypes.string_at(int(self.places[row]), length) if length else b""

    def doubled(self) -> NDArray[np.bool_]:
        """Where an object may have two members of one name, of which parsers take one or the other."""
        found = np.empty(len(self.forms), np.uint8)
        _functions().json_doubled(_at(self.places), _at(self.lengths), len(found), _at(found))
        return found.astype(bool)

    def strings(self, *, as_json: bool = False) -> Strings:
        """What the strings stand for, or JSON as it stands there; '' for nothing and for null. MemoryError
        for more than Arrow's offsets reach."""
        rows = len(self.forms)
        offsets = np.empty(rows + 1, np.int32)
        most = int(self.lengths.sum(dtype=np.int64))
        if most > _MOST_BYTES:
            raise MemoryError(f"{most:,} bytes of text in a column")
        octets = np.empty(most + PAD, np.uint8)
        size = _functions().text_gathered(
            _at(self.places), _at(self.lengths), _at(self.forms), rows, as_json, _at(offsets), _at(octets)
        )
        octets[size : size + PAD] = 0
        return Strings(offsets, octets)


class _Layout(ctypes.Structure):
    """`json_layout` of kernel.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("names", "name_ends", "wants", "repeats")),
        ("members", ctypes.c_int32),
        ("secret", ctypes.c_uint64),
    )


class _Columns(ctypes.Structure):
    """`json_columns` of kernel.h."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("kept", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("records", "times", "hashes", "places", "lengths")),
        *((name, ctypes.c_void_p) for name in ("numbers", "firsts", "forms", "counts")),
    )


class Found:
    """The usual ones of some records, and their members, in one piece of memory: `json_columns`."""

    def __init__(self, rows: int, members: int) -> None:
        cells = rows * members
        sizes = [8 * rows] * 4 + [8 * cells, 4 * rows] + [4 * cells] * 3 + [4 * members, cells]
        self._ends = list(accumulate(sizes, initial=0))
        self._memory = np.empty(self._ends[-1], np.uint8)
        self._shape = (members, rows)
        address = self._memory.ctypes.data
        self.at = [address + end for end in self._ends]
        """The addresses of starts and ends of the records, then of what follows in `struct`."""
        times, hashes, places, records, lengths, numbers, firsts, counts, forms = self.at[2:-1]
        self.struct = _Columns(
            rows, 0, records, times, hashes, places, lengths, numbers, firsts, forms, counts
        )
        self.held: object = None  # what keeps the texts alive

    def __len__(self) -> int:
        kept: int = self.struct.kept
        return kept

    @property
    def records(self) -> Numbers:
        """Which records they are."""
        found: Numbers = self._array(5, np.int32, len(self))
        return found

    @property
    def times(self) -> NDArray[np.int64]:
        """In microseconds since 1970."""
        found: NDArray[np.int64] = self._array(2, np.int64, len(self))
        return found

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """XXH3 of the bytes of each."""
        found: NDArray[np.uint64] = self._array(3, np.uint64, len(self))
        return found

    def spans(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where `count` records start and end in their text."""
        return self._array(0, np.int64, count), self._array(1, np.int64, count)

    def members(self) -> Iterator[Slices]:
        """What stands there by member."""
        members, rows = self._shape
        kinds = ((4, np.uint64), (6, np.uint32), (7, np.int32), (8, np.int32))
        places, lengths, numbers, firsts = (self._array(place, kind, members * rows) for place, kind in kinds)
        counts = self._array(9, np.int32, members).tolist()
        forms = self._array(10, np.uint8, members * rows)
        for member, count in enumerate(counts):
            at = slice(member * rows, member * rows + len(self))
            first = firsts[member * rows : member * rows + count]
            yield Slices(self.held, places[at], lengths[at], forms[at], numbers[at], first)

    def _array(self, place: int, kind: type[np.generic], count: int) -> Any:
        return np.frombuffer(self._memory, kind, count, self._ends[place])


class _Lazy(Sequence[bytes]):
    """Records that are made bytes when they are asked for."""

    @abstractmethod
    def _one(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self._one(place) for place in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._one(index)


class Records(_Lazy):
    """The records of one text, read already."""

    def __init__(self, reader: Reader, text: bytes, found: Found, count: int) -> None:
        self.reader = reader
        self.found = found
        self.starts, self._ends = found.spans(count)
        self._text = text
        lengths = self._ends - self.starts
        self.size = int(np.add.reduce(lengths))
        """Their bytes."""
        self.longest = int(np.maximum.reduce(lengths, initial=0))

    def __len__(self) -> int:
        return len(self.starts)

    def _one(self, index: int) -> bytes:
        return self._text[self.starts[index] : self._ends[index]]


class Joined(_Lazy):
    """Runs of records one after the other, of which some were read already, all by one reader."""

    def __init__(self, reader: Reader, runs: Sequence[Records | list[bytes]]) -> None:
        self.reader = reader
        self.runs = runs
        self.ends = list(accumulate(map(len, runs)))

    def __len__(self) -> int:
        return self.ends[-1]

    def _one(self, index: int) -> bytes:
        run = bisect_right(self.ends, index)
        return self.runs[run][index - self.ends[run] + len(self.runs[run])]


def joined(runs: Sequence[Sequence[bytes]]) -> Sequence[bytes]:
    """All records one after the other; what one reader has read of them already stays with them."""
    readers = {run.reader for run in runs if isinstance(run, Records)}
    if len(readers) != 1:
        return [record for run in runs for record in run]
    parts: list[Records | list[bytes]] = []
    for run in runs:
        if isinstance(run, Records):
            parts.append(run)
        elif parts and isinstance(parts[-1], list):
            parts[-1] += run
        elif run:
            parts.append([*run])
    return Joined(readers.pop(), parts)


class Reader:
    """Reads records that have only these members, each once, and each as it is wanted; the texts of the
    `repeated` ones are numbered. For any number of threads.

    A record is usual if it is valid JSON in UTF-8 besides, without halves of surrogate pairs, nested at most
    64 levels deep, and with numbers that a double holds.
    """

    def __init__(self, members: Sequence[tuple[str, Want]], repeated: Collection[str]) -> None:
        self._names = [name for name, _ in members]
        self._joined, self._ends = _joined_names(self._names)
        self._wants = np.array([want for _, want in members], np.uint8)
        self._repeats = np.array([name in repeated for name in self._names], np.uint8)
        arrays = [_at(each) for each in (self._joined, self._ends, self._wants, self._repeats)]
        self._layout = _Layout(*arrays, len(members), _SECRET)

    def read(self, records: Sequence[bytes]) -> Found | None:
        """The usual ones of the records; None for too many bytes at once, and without kernel. MemoryError
        without memory."""
        if isinstance(records, Joined) and records.reader is self:
            return self._together(records)
        if library() is None:
            return None
        ends = np.zeros(len(records) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, records), np.int64, len(records)), out=ends[1:])
        if ends[-1] > _MOST_BYTES - PAD:
            return None
        text = np.frombuffer(b"".join((*records, _ZEROS)), np.uint8)
        found = Found(len(records), len(self._names))
        found.held = text
        _functions().json_records(
            _at(text), _at(ends), len(records), ctypes.byref(self._layout), ctypes.byref(found.struct)
        )
        return found

    def cut(self, text: bytes, at: int) -> Records | None:
        """The records of a list in an object, whose first stands at `at`; None where the text is anything
        else, or damaged, and without kernel. MemoryError without memory."""
        kernel = library()
        if kernel is None or len(text) > _MOST_BYTES - PAD:
            return None
        padded = text + _ZEROS
        found = Found(len(text) // _USUAL_BYTES + 16, len(self._names))
        found.held = octets = np.frombuffer(padded, np.uint8)
        count = kernel.json_list(
            _at(octets), at, len(text), *found.at[:2], ctypes.byref(self._layout), ctypes.byref(found.struct)
        )
        if count == NO_MEMORY:
            raise MemoryError(f"no memory for the texts of {len(text):,} bytes of records")
        return Records(self, padded, found, count) if count >= 0 else None

    def by_name(self, found: Found) -> dict[str, Slices]:
        """The members of what this reader found."""
        return dict(zip(self._names, found.members(), strict=True))

    def _together(self, records: Joined) -> Found | None:
        parts = [run.found if isinstance(run, Records) else self.read(run) for run in records.runs]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return None
        if len(found) == 1:
            return found[0]
        before = np.array([0, *records.ends], np.int64)
        structs = (_Columns * len(found))(*(part.struct for part in found))
        whole = Found(sum(map(len, found)), len(self._names))
        whole.held = found
        _functions().json_joined(
            ctypes.byref(self._layout), structs, _at(before), len(found), ctypes.byref(whole.struct)
        )
        return whole


def hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """XXH3 of texts without nulls, by the kernel."""
    _, ends, octets = texts.buffers()
    text = np.frombuffer(octets or b"", np.uint8)
    found = np.empty(len(texts), np.uint64)
    ends = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    _functions().text_hashes(text, len(text), ends, len(texts), found)
    return found


def used(codes: Numbers, values: int) -> NDArray[np.bool_]:
    """Which of so many values the codes name. ValueError for a code beyond them."""
    found = np.zeros(values, np.uint8)
    if (functions := library()) is None:
        if len(codes) and not 0 <= codes.min() <= codes.max() < values:
            raise ValueError(f"codes_used: a code is none of {values} values")
        found[codes] = 1
    else:
        functions.codes_used(codes, len(codes), values, found)
    return found.view(np.bool_)


class Paths:
    """Reads paths of names in texts of JSON as `json_text.tidy` writes it."""

    def __init__(self, paths: Sequence[Sequence[str]]) -> None:
        if len(paths) > MOST_PATHS:
            raise ValueError(f"{len(paths)} paths, at most {MOST_PATHS} are read at once")
        self._count = len(paths)
        self._steps, self._step_ends = _joined_names([step for path in paths for step in path])
        self._path_ends = np.cumsum([0, *map(len, paths)], dtype=np.int32)

    def read(self, texts: Strings) -> tuple[list[Slices], NDArray[np.bool_]]:
        """By path what stands there (nothing for null), and the rows of which something may be written
        otherwise by who prints JSON: those are to be read again."""
        rows = len(texts.offsets) - 1
        places = np.empty((self._count, rows), np.uint64)
        lengths = np.empty((self._count, rows), np.uint32)
        forms, doubts = np.empty((self._count, rows), np.uint8), np.empty(rows, np.uint8)
        _functions().json_paths(
            _at(texts.octets), _at(texts.offsets), rows, _at(self._steps), _at(self._step_ends),
            _at(self._path_ends), self._count, _at(places), _at(lengths), _at(forms), _at(doubts),
        )  # fmt: skip
        found = [Slices(texts.octets, *each) for each in zip(places, lengths, forms, strict=True)]
        return found, doubts.astype(bool)


def _joined_names(names: Iterable[str]) -> tuple[Bytes, Numbers]:
    encoded = [name.encode() for name in names]
    text = np.frombuffer(b"".join((*encoded, _ZEROS)), np.uint8)
    return text, np.cumsum([0, *map(len, encoded)], dtype=np.int32)


def _at(values: NDArray[Any]) -> int:
    """Where the values stand; whoever asks keeps them for the time of the call."""
    if not values.flags.c_contiguous:
        raise ValueError("the kernel reads arrays in one piece")
    return values.ctypes.data


def _functions() -> ctypes.CDLL:
    found = library()
    if found is None:
        raise RuntimeError("there is no kernel")
    return found
