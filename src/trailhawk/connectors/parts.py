"""Objects read into parts: each becomes a row of the ledger, with its records, bad ones apart."""

from __future__ import annotations

import dataclasses
import datetime as dt
import errno
import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeGuard

import xxhash

from trailhawk.connectors import archives
from trailhawk.connectors.ledger import Taken, part_key
from trailhawk.connectors.objects import LogObject
from trailhawk.errors import TrailhawkError
from trailhawk.files import FULL, filled, make_sure_of_room
from trailhawk.sources import BadPart, Chunk, Placed, Readable, Source, Unpacked, known_by, source_of, strange

UNREADABLE: Final = "unreadable:"
"""How the keys of objects begin whose bytes cannot be had."""

_WHOLE_BYTES: Final = 16 * 1024 * 1024  # up to this an object is read once, and hashed from memory
_RECOGNISE_BYTES: Final = 64 * 1024
_COPY_BYTES: Final = 4 * 1024 * 1024
_MAX_REASON: Final = 200


@dataclass(slots=True)
class Part:
    """An object, or a part of a very large one, on its way into the lake; becomes one row of the ledger."""

    key: str
    item: LogObject
    source: Source | None
    size: int
    sha256: str
    state: str
    read_at: dt.datetime
    first_record: int = 0
    texts: Sequence[bytes] = ()
    position: Callable[[int], int] = int
    bad: list[BadPart] = field(default_factory=list)
    found: int = 0
    rows: int = 0
    duplicates: int = 0
    filtered: int = 0
    first_event: dt.datetime | None = None
    last_event: dt.datetime | None = None
    dropped: bool = False
    failure: str = ""  # why it could not be stored, where that is a fault of its own
    doubt: str = ""  # why some of its rows may be stored twice
    released: str = ""  # the part in quarantine that leaves with this one
    arrived: bool = False  # an object that could not be read or stored before, from `first_record` to its end

    @property
    def identity(self) -> str:
        """What it is known by in the ledger."""
        if self.state == "retried":
            return f"{self.key}!{self.released}"
        return part_key(self.key, self.first_record) if self.state == "part" else self.key

    @property
    def keys(self) -> set[str]:
        """If the ledger knows one of these, it is stored; of what arrived, perhaps the beginning only."""
        if self.state == "retried":
            return {self.identity}
        begun = {part_key(self.key, self.first_record)} if self.arrived else set()
        return {self.key, self.identity, *begun}

    @property
    def records(self) -> int:
        """Records it holds: `found` became candidates for rows, the bad ones did not."""
        return self.found + self.quarantined

    @property
    def quarantined(self) -> int:
        """How many records go into quarantine, less the one that leaves it."""
        return len(self.bad) - bool(self.released)


class Opened:
    """The bytes of an object under way, with its digest: at once where it is needed to know the object."""

    def __init__(self, item: LogObject, file: BinaryIO) -> None:
        self._copy: BinaryIO | None = None
        # A read makes room for all that it asks for, so no more is asked for than there should be.
        asked = min(_WHOLE_BYTES, item.size or 0) + 1
        start = _read(file, asked)
        if len(start) == asked <= _WHOLE_BYTES:
            start += _read(file, _WHOLE_BYTES + 1 - asked)
        self._hashed: _Hashed | None = None
        self._same: _Same | None = None
        if len(start) <= _WHOLE_BYTES:
            self.size = len(start)
            self.sha256 = hashlib.sha256(start).hexdigest()
            self.stream: Readable = io.BytesIO(start)
        elif item.identity:
            self.size, self.sha256 = item.size or 0, ""
            self.stream = self._hashed = _Hashed(start, file)
        else:
            if not file.seekable():
                file = self._copy = _spooled(start, file, item.size)
            file.seek(0)
            self.sha256, mark = _file_digests(file)
            self.size = file.tell()
            file.seek(0)
            self.stream = self._same = _Same(file, self.size, mark)
        self.key = item.identity or f"sha256:{self.sha256}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._copy is not None:
            self._copy.close()

    def finish(self) -> None:
        """Read what the decompressor left, so that size and digest are those of the whole object; OSError
        where it was changed since its digest was made."""
        if self._same is not None:
            while self._same.read(_COPY_BYTES):
                pass
        if self._hashed is not None:
            while self._hashed.read(_COPY_BYTES):
                pass
            self.size, self.sha256 = self._hashed.size, self._hashed.digest.hexdigest()


def read_parts(
    item: LogObject,
    opened: Opened,
    *,
    sources: Sequence[Source],
    source: Source | None,
    taken: Taken,
    now: dt.datetime,
) -> Iterator[Part]:
    """The parts of an opened object; all but the last have the state `part`.

    `source` reads it where it is given, else the first of `sources` that knows it. Parts that the ledger
    holds are passed over; where they were cut at other places, by another version, what they held is left
    out of the part that they end in. What reading the object raises goes through; an object over whose bytes
    a source fails is an OSError.
    """
    unpacked = Unpacked(opened.stream)
    counted = _Counted(iter(unpacked))
    try:
        yield from _parts(item, opened, unpacked, counted, sources, source, taken, now)
    except (OSError, TrailhawkError):  # the lake's, where it is asked for the parts it has
        raise
    except Exception as error:
        if counted.error is not None:
            raise counted.error from error
        raise OSError(errno.EILSEQ, f"its log source fails over it: {failure(error)}") from error


def failure(error: Exception) -> str:
    """An error that nobody foresaw, on one line."""
    said = " ".join(str(error).split())[:_MAX_REASON]
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _unknown(first: bytes) -> str:
    """Why an object that begins so is nobody's."""
    if archives.begins(first):
        return "an archive that is not opened where it lies: unpack it first"
    if not first.strip():
        return "empty file"
    return strange(first) or "not a log of a known kind"


def _parts(
    item: LogObject,
    opened: Opened,
    unpacked: Unpacked,
    counted: _Counted,
    sources: Sequence[Source],
    source: Source | None,
    taken: Taken,
    now: dt.datetime,
) -> Iterator[Part]:
    head = Part(opened.key, item, None, opened.size, opened.sha256, "stored", now)
    start, blocks = known_by(counted)
    first = next(blocks, b"")
    if source is None or not first.strip():
        source = source_of(sources, item.location, start)
    stored = 0
    if part_key(head.key, 0) in taken:  # the source that began it goes on: another one may find other records
        stored, began = taken.parts_of(head.key)
        source = next((each for each in sources if each.name == began), source)
    if source is None:
        reason = unpacked.fault or _unknown(first)
        head.state, head.bad = "quarantined", [_all(first, blocks, reason)]
        yield _sealed(head, opened)
        return
    head.source = source
    if source.is_digest(start):
        for _ in blocks:
            pass
        head.state = "digest"
        yield _sealed(head, opened)
        return
    position = 0
    waiting: Part | None = None
    reader = source.placed(item.location, now) if _is_placed(source) else source
    for chunk in reader.chunks(chain((first,), blocks)):
        if waiting is not None and position > stored:
            waiting = _behind(waiting, stored)
            waiting.state = "part"
            yield waiting
        waiting = _part(head, chunk, position)
        position += waiting.records
    last = _behind(waiting or head, stored)
    if unpacked.fault:
        last.bad = _with_fault(last.bad, counted.size, unpacked.fault)
    yield _sealed(last, opened)


def _is_placed(source: Source) -> TypeGuard[Placed]:
    # `isinstance` takes as long for this question as cutting thirty records out of an object.
    return hasattr(source, "placed")


def recognised(item: LogObject, sources: Sequence[Source]) -> bool:
    """Whether a source knows the object by its name and first bytes. OSError where it cannot be read."""
    with item.open() as file:
        start = next(iter(Unpacked(file, block=_RECOGNISE_BYTES)), b"")
    return source_of(sources, item.location, start) is not None


def mark_key(item: LogObject) -> str:
    """What an object is known by in the ledger that could not be read or stored."""
    digest = hashlib.sha256(f"{item.location}:{item.identity}:{item.stamp}".encode()).hexdigest()
    return f"{UNREADABLE}{digest}"


def mark(item: LogObject, now: dt.datetime, reason: str) -> Part:
    """What stands in the ledger for an object that could not be read or stored."""
    bad = BadPart(0, 0, "", b"", reason)
    return Part(mark_key(item), item, None, 0, "", "quarantined", now, bad=[bad])


def unreadable(item: LogObject, error: OSError | MemoryError) -> str:
    """Why the bytes of an object cannot be had."""
    if isinstance(error, MemoryError):
        return f"cannot be read: {failure(error)}"
    where = _temporary(item.size) if error.errno in FULL else ""
    return f"cannot be read: {error.strerror or error}{where}"


def _temporary(size: int | None) -> str:
    """Where there was no room for a copy of an object, and how much it takes."""
    folder = tempfile.gettempdir()
    free = f"{shutil.disk_usage(folder).free:,} bytes are free"
    needed = "" if size is None else f", it takes at least {size:,}"
    return f" in {folder}, where it is unpacked: {free}{needed}; TMPDIR names another folder"


class _Counted:
    """Blocks, with the sum of their sizes so far, and what ended them before their end."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.size = 0
        self.error: Exception | None = None
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            block = next(self._blocks)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise
        self.size += len(block)
        return block


class _Hashed:
    """A stream that is hashed as it is read; its first bytes were read already."""

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self._start = io.BytesIO(start)
        self._file = file

    def read(self, size: int, /) -> bytes:
        data = self._start.read(size) or self._file.read(size)
        self.digest.update(data)
        self.size += len(data)
        return data


def _read(file: BinaryIO, size: int) -> bytes:
    """Up to this many bytes; fewer only at the end, though a stream may give them in small pieces."""
    data = file.read(size)
    if len(data) == size or not data:
        return data
    pieces = [data]
    left = size - len(data)
    while left and (piece := file.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


class _Same:
    """A file read for the second time: as many bytes as the first time; at their end OSError if they are
    others by now."""

    def __init__(self, file: BinaryIO, size: int, mark: bytes) -> None:
        self._file = file
        self._left = size
        self._mark = mark
        self._hash = xxhash.xxh3_128()

    def read(self, size: int, /) -> bytes:
        data = self._file.read(min(size, self._left))
        self._hash.update(data)
        self._left -= len(data)
        if not data and (self._left or self._hash.digest() != self._mark):
            raise OSError(errno.EBUSY, "it was changed while it was read")
        return data


def _file_digests(file: BinaryIO) -> tuple[str, bytes]:
    """The SHA-256 of the rest of a file, and a quicker digest to compare with."""
    digest, mark = hashlib.sha256(), xxhash.xxh3_128()
    while piece := file.read(_COPY_BYTES):
        digest.update(piece)
        mark.update(piece)
    return digest.hexdigest(), mark.digest()


def _spooled(start: bytes, file: BinaryIO, size: int | None) -> BinaryIO:
    """A copy on disk of a stream that cannot be read twice, gone when it is closed. A copy of so many bytes
    is not begun where there is no room for it."""
    if size is not None:
        make_sure_of_room(size)
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the object is read)
    return filled(copy, chain((start,), iter(lambda: file.read(_COPY_BYTES), b"")))


def _part(head: Part, chunk: Chunk, first_record: int) -> Part:
    return Part(
        head.key,
        head.item,
        head.source,
        head.size,
        head.sha256,
        head.state,
        head.read_at,
        first_record,
        texts=chunk.records,
        position=chunk.position,
        bad=list(chunk.bad),
        found=len(chunk.records),
    )


def _behind(part: Part, stored: int) -> Part:
    """The part without those of its records, good or bad, that come before the place `stored`."""
    count = stored - part.first_record
    if count <= 0 or not part.records:
        return part
    starts = [(part.position(place), place) for place in range(len(part.texts))]
    order = sorted([*starts, *((bad.start, -1) for bad in part.bad)])
    gone = sum(place >= 0 for _, place in order[:count])
    position = part.position
    return dataclasses.replace(
        part,
        first_record=part.first_record + min(count, len(order)),
        texts=part.texts[gone:],
        position=lambda place: position(place + gone),
        bad=sorted(part.bad, key=lambda bad: bad.start)[count - gone :],
        found=len(part.texts) - gone,
    )


def _sealed(part: Part, opened: Opened) -> Part:
    """The last part, with the size and the digest of the object."""
    opened.finish()
    part.size, part.sha256 = opened.size, opened.sha256
    return part


def _all(first: bytes, rest: Iterator[bytes], reason: str) -> BadPart:
    """A whole object as a bad part."""
    digest = hashlib.sha256(first)
    size = len(first)
    for block in rest:
        digest.update(block)
        size += len(block)
    return dataclasses.replace(BadPart.of(first, 0, reason), size=size, sha256=digest.hexdigest())


def _with_fault(bad: list[BadPart], size: int, fault: str) -> list[BadPart]:
    """The bad parts of an object whose bytes end too early; the last one (perhaps empty) says why."""
    if bad and bad[-1].start + bad[-1].size >= size:
        return [*bad[:-1], dataclasses.replace(bad[-1], reason=f"{fault}; {bad[-1].reason}")]
    return [*bad, BadPart.of(b"", size, fault)]
