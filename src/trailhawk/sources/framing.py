"""Cut JSON logs into records: a wrapper object, an array, or one value a line; and broken forms of these.

The fast road parses a whole block at C speed. Where that fails, or an object is larger than a block, a
scanner walks the bytes brace by brace, so that one cut-off record costs only itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import msgspec

from trailhawk.native.records import Records
from trailhawk.sources.source import HEAD_BYTES, MAX_RECORD_BYTES, BadPart, Chunk

BOM = b"\xef\xbb\xbf"
CHUNK_RECORDS = 20_000
LEAST_CUT = 16 * 1024
"""Bytes of an object that is worth a call of the kernel: the records of smaller ones are read together."""
CHUNK_BYTES = 32 * 1024 * 1024

_ANY_RAW = msgspec.json.Decoder(msgspec.Raw)
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BETWEEN = re.compile(rb"[\s,\[\]}]*+")
# One step of a walk through JSON text: everything up to and with the next brace outside of a string.
_TO_BRACES = re.compile(rb'(?:[^"{}]++|"(?:[^"\\]|\\.)*+")*+(\{++|\}++)', re.DOTALL)
_BRACES = re.compile(rb"\{++|\}++")
# Bounded, not possessive: Python before 3.11.5 keeps what such a group took of a string without an end.
_PLAIN = re.compile(rb'(?:[^"{}]++|"(?:[^"\\]|\\.)*+"){0,999}', re.DOTALL)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_RECORDS = msgspec.json.Decoder(list[msgspec.Raw])
_MAX_GROWN = 64 * 1024 * 1024
"""Bytes of the records of one block, which are more than the block where they were packed in it. Beyond this
its values are taken one after the other."""
_MAX_WASTE = 64 * 1024 * 1024
_BRACE_BYTES = 32
"""Bytes of an object looked at in vain, beyond the good ones; a brace takes as long as so many bytes."""
_START_BYTES = 1024
"""More than the start of a record takes, which may have come in part."""
_STRING_REST = re.compile(rb'(?:[^"\\]|\\.)*+', re.DOTALL)


@dataclass(frozen=True)
class Shape:
    """How a source wraps its records.

    `unwrap` gives the records of a whole parsed value, or None where the value is itself a record;
    `opening` matches the start of a wrapper up to its first record; `record_start` the start of a record,
    to find the next one after a broken one. `cut` reads a whole object in that wrapper, the first record of
    which stands at a place; None where there is anything else in it.
    """

    unwrap: Callable[[bytes], list[bytes] | None]
    opening: re.Pattern[bytes]
    record_start: re.Pattern[bytes]
    cut: Callable[[bytes, int], Records | None] = lambda text, at: None


def unwrapped(chunks: Iterator[Chunk], shape: Shape) -> Iterator[Chunk]:
    """Chunks whose records may be wrapped in their turn, as messages of an envelope are."""
    for chunk in chunks:
        inner = [_inside(record, shape) for record in chunk.records]
        if not any(found is not None for found in inner):
            yield chunk
            continue
        records: list[bytes] = []
        places: list[int] = []
        for place, (record, found) in enumerate(zip(chunk.records, inner, strict=True)):
            here = [record] if found is None else found
            records += here
            places += [place] * len(here)
        yield from _split(Chunk(records, chunk.bad, _through(chunk.position, places)))


def _inside(record: bytes, shape: Shape) -> list[bytes] | None:
    if record[:1] != b"{" or shape.record_start.match(record) or _is_dense(record):
        return None
    try:
        return shape.unwrap(record)
    except _NOT_JSON:
        return None


def _through(position: Callable[[int], int], places: list[int]) -> Callable[[int], int]:
    return lambda index: position(places[index])


def chunks(blocks: Iterator[bytes], shape: Shape) -> Iterator[Chunk]:
    """The records of an object, in chunks of bounded size."""
    first = next(blocks, b"")
    second = next(blocks, b"")
    if not second:
        yield from _whole(first, shape)
        return
    if _is_lines(first, shape):
        yield from _line_blocks(chain((first, second), blocks), shape)
    else:
        yield from _Scanner(shape).run(chain((first, second), blocks))


def _is_lines(block: bytes, shape: Shape) -> bool:
    """Whether the block's first line is a whole JSON value."""
    line = block[: block.find(b"\n") + 1].removeprefix(BOM)
    return bool(line.strip()) and _lines(line, shape) is not None


def _line_blocks(blocks: Iterator[bytes], shape: Shape) -> Iterator[Chunk]:
    """Chunks of JSON lines, block by block; only the line under way is carried over."""
    held, base = b"", 0
    for block in blocks:
        held += block
        end = held.rfind(b"\n") + 1
        if not end and len(held) > MAX_RECORD_BYTES:
            yield from _Scanner(shape, base).run(chain((held,), blocks))
            return
        if end:
            yield from _whole(held[:end], shape, base)
            base += end
            held = held[end:]
    if held:
        yield from _whole(held, shape, base)


def _is_dense(data: bytes) -> bool:
    """Whether a list of all values between commas and line ends would be far larger than the bytes."""
    most = len(data) // 12 + 500_000
    return len(data) > most and data.count(b",") + data.count(b"\n") > most


def _split(chunk: Chunk) -> Iterator[Chunk]:
    """A chunk as several of at most CHUNK_RECORDS records."""
    if len(chunk.records) <= CHUNK_RECORDS:
        yield chunk
        return
    for start in range(0, len(chunk.records), CHUNK_RECORDS):
        part = chunk.records[start : start + CHUNK_RECORDS]
        yield Chunk(part, chunk.bad if start == 0 else (), _shifted(chunk.position, start))


def _shifted(position: Callable[[int], int], by: int) -> Callable[[int], int]:
    return lambda index: position(index + by)


def _whole(data: bytes, shape: Shape, base: int = 0) -> Iterator[Chunk]:
    """Bytes held in memory, `base` bytes into their object."""
    if cut := _cut(data, shape):
        yield from _split(Chunk(cut, (), lambda index: base + int(cut.starts[index])))
        return
    text = data.removeprefix(BOM)
    records = None
    if not _is_dense(data):
        records = _one_value(text, shape)
        if records is None:
            records = _lines(text, shape)
    if records is None or max(map(len, records), default=0) > MAX_RECORD_BYTES:
        yield from _Scanner(shape, base).run(iter([data]))
    else:
        yield from _split(Chunk(records, (), _finder(data, records, base)))


def _cut(data: bytes, shape: Shape) -> Records | None:
    """The records of a whole object in the usual wrapper, read already."""
    opening = shape.opening.match(data) if len(data) >= LEAST_CUT else None
    found = shape.cut(data, opening.end()) if opening else None
    return found if found is not None and found.longest <= MAX_RECORD_BYTES else None


def _finder(data: bytes, records: list[bytes], base: int) -> Callable[[int], int]:
    """Places of records, sought only when one is asked for, and each once."""
    found: list[int] = []
    rest = _places(data, records)

    def position(index: int) -> int:
        found.extend(islice(rest, max(0, index + 1 - len(found))))
        # One that stood inside a JSON string has no place of its own: the object as a whole is named.
        return base + found[index] if index < len(found) else base

    return position


def _places(data: bytes, records: list[bytes]) -> Iterator[int]:
    """Where each record starts, as they stand in order in `data`; up to the first that is not there."""
    end = 0
    for record in records:
        at = data.find(record, end)
        if at < 0:
            return
        yield at
        end = at + len(record)


def _one_value(text: bytes, shape: Shape) -> list[bytes] | None:
    try:
        records = shape.unwrap(text)
    except _NOT_JSON:
        return None
    return [text.strip()] if records is None else records


def _lines(text: bytes, shape: Shape) -> list[bytes] | None:
    """One JSON value a line, each a record or a wrapper; None where a line is not JSON."""
    try:
        values = [bytes(value) for value in _ANY_RAW.decode_lines(text)]
        records: list[bytes] = []
        grown = 0
        for value in values:
            if shape.record_start.match(value):
                records.append(value)
            else:
                inner = shape.unwrap(value)
                records.extend([value] if inner is None else inner)
                grown += sum(map(len, inner or ()))
                if grown > _MAX_GROWN:
                    return None
    except _NOT_JSON:
        return None
    return records


class _Scanner:
    """Walks bytes that come in blocks and yields what stands between balanced braces.

    What it holds is bounded: the record under way (up to MAX_RECORD_BYTES, then only its head and a
    running digest) and one block.
    """

    def __init__(self, shape: Shape, base: int = 0) -> None:
        self._shape = shape
        self._held = b""  # bytes from `_base` on that are not settled yet
        self._base = base
        self._sought: tuple[bytes, int, int | None] = (b"", 0, None)  # see _next_start
        self._wasted = 0
        self._braces = 0  # runs of them in the last value walked through
        self._records: list[bytes] = []
        self._starts: list[int] = []
        self._bad: list[BadPart] = []
        self._bytes = 0

    def run(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        """All chunks of the object."""
        for block in blocks:
            self._held += block
            yield from self._settle(final=False, blocks=blocks)
        yield from self._settle(final=True, blocks=blocks)
        if self._records or self._bad:
            yield self._take()

    def _settle(self, *, final: bool, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        at = self._skip(0)
        at = yield from self._at_once(at)
        while True:
            if max(len(self._records), len(self._bad)) >= CHUNK_RECORDS or self._bytes >= CHUNK_BYTES:
                yield self._take()
            at = self._skip(at)
            if at >= len(self._held):
                break
            # After too many records without an end, an end is sought only up to where the next one starts.
            end = self._value_end(at, nearby=self._wasted > _MAX_WASTE)
            if end is None:
                self._wasted += len(self._held) - at + self._braces * _BRACE_BYTES
            if end is None and not final and len(self._held) - at <= MAX_RECORD_BYTES:
                break
            if end is None and not final:
                # Nothing balanced within the limit: a lost brace, no record, or one that is too large.
                following = self._resync(at)
                if following is None and self._held[at] != 0x7B:
                    following = self._cut(at, self._rest())
                if following is None:
                    self._oversized(blocks)
                at = following or 0
                continue
            if end is None:
                following = self._resync(at)
                at = self._cut(at, len(self._held)) if following is None else following
                continue
            after = self._record(at, end)
            walked = end - at + self._braces * _BRACE_BYTES
            self._wasted = self._wasted + walked if after < end else max(0, self._wasted - walked)
            at = after
        self._base += at
        self._held = self._held[at:]
        self._sought = (b"", 0, None)

    def _skip(self, at: int) -> int:
        """Past blanks, commas, the opening of a wrapper and the closing of one."""
        held = self._held
        if at == 0 and self._base == 0 and held.startswith(BOM):
            at = len(BOM)
        while True:
            between = _BETWEEN.match(held, at)
            at = between.end() if between else at
            opening = self._shape.opening.match(held, at)
            if not opening:
                return at
            at = opening.end()

    def _at_once(self, at: int) -> Generator[Chunk, None, int]:
        """Take all whole records from `at` on that stand side by side, at C speed; where to go on.

        The last record stays: whether it is whole shows only when its end has come.
        """
        held = self._held
        last = held.rfind(b"},{", at)
        while last > at and not self._shape.record_start.match(held, last + 2):
            last = held.rfind(b"},{", at, last)
        if last <= at or _is_dense(held):
            return at
        try:
            records = list(map(bytes, _RECORDS.decode(b"[%b]" % held[at : last + 1])))
        except _UNREADABLE:
            return at
        starts = self._shape.record_start
        if not all(starts.match(record) and len(record) <= MAX_RECORD_BYTES for record in records):
            return at
        if self._records or self._bad:
            yield self._take()
        yield from _split(Chunk(records, (), _finder(held[at : last + 1], records, self._base + at)))
        return last + 1

    def _value_end(self, at: int, *, nearby: bool) -> int | None:
        """The end of the balanced value that starts at `at`, None if it is not complete."""
        held = self._held
        until = len(held)
        self._braces = 0
        if nearby and (following := self._next_start(at + 1)) is not None:
            until = following
        if held[at] != 0x7B:
            # Not an object: it reaches to the next line or the next record.
            line = held.find(b"\n", at)
            following = self._next_start(at)
            ends = [place for place in (line, -1 if following is None else following) if place > at]
            return min(ends) if ends else None
        depth = 0
        place = at
        while True:
            step = _TO_BRACES.match(held, place, until)
            if step is None:
                return None
            self._braces += 1
            first, place = step.span(1)
            if held[first] == 0x7B:
                depth += place - first
            elif depth > place - first:
                depth -= place - first
            else:
                return first + depth

    def _record(self, at: int, end: int) -> int:
        """Take what stands in [at, end) as a record or as a bad part; where to go on."""
        content = self._held[at:end]
        if len(content) > MAX_RECORD_BYTES:
            following = self._shape.record_start.search(self._held, at + 1, end)
            if following is None or self._valid(content):
                self._refuse(at, end, "record larger than 16 MB")
                return end
            return self._cut(at, following.start())
        if content[:1] == b"{" and self._valid(content):
            inner = None if self._shape.record_start.match(content) else self._shape.unwrap(content)
            for record in [content] if inner is None else inner:
                self._records.append(record)
                self._starts.append(self._base + at)
                self._bytes += len(record)
            return end
        if content[:1] != b"{":
            self._refuse(at, end, "not a JSON object")
            return end
        following = self._shape.record_start.search(self._held, at + 1, end)
        return self._cut(at, following.start() if following else end)

    def _valid(self, content: bytes) -> bool:
        try:
            _ANY_RAW.decode(content)
            self._shape.unwrap(content)
        except _NOT_JSON:
            return False
        return True

    def _cut(self, at: int, end: int) -> int:
        self._refuse(at, end, "record cut off or not JSON")
        return end

    def _resync(self, at: int) -> int | None:
        """After an unbalanced record: the next place where a record starts, None if none is in sight."""
        following = self._next_start(at + 1)
        return None if following is None else self._cut(at, following)

    def _rest(self) -> int:
        """How far text that is no record, and has no end in sight, is given up. Not to a brace that begins no
        record: what follows would be walked through as one."""
        end = len(self._held) - _START_BYTES
        is_brace = self._held[end] == 0x7B and not self._shape.record_start.match(self._held, end)
        return end + 1 if is_brace else end

    def _next_start(self, at: int) -> int | None:
        """Where a record starts, at `at` or behind; sought once for all places before it."""
        held, since, found = self._sought
        if held is not self._held or at < since or (found is not None and at > found):
            match = self._shape.record_start.search(self._held, at)
            found = match.start() if match else None
            self._sought = (self._held, at, found)
        return found

    def _oversized(self, blocks: Iterator[bytes]) -> None:
        """Pass over a record that is larger than the limit, holding only its head and a running digest."""
        start = self._skip(0)
        held = self._held[start:]
        walk = _Walk()
        digest = hashlib.sha256()
        head = held[:HEAD_BYTES]
        size = 0
        while True:
            end = walk.feed(held)
            used = held if end is None else held[:end]
            digest.update(used)
            size += len(used)
            if end is not None:
                self._held = held[end:]
                break
            held = next(blocks, b"")
            if not held:
                self._held = b""
                break
        reason = "record larger than 16 MB"
        self._bad.append(BadPart(self._base + start, size, digest.hexdigest(), head, reason))
        self._bytes += len(head)
        self._base += start + size

    def _refuse(self, at: int, end: int, reason: str) -> None:
        content = self._held[at:end]
        self._bad.append(BadPart.of(content, self._base + at, reason))
        self._bytes += len(self._bad[-1].head)

    def _take(self) -> Chunk:
        chunk = Chunk(self._records, tuple(self._bad), self._starts.__getitem__)
        self._records, self._starts, self._bad, self._bytes = [], [], [], 0
        return chunk


class _Walk:
    """Finds the end of one balanced object that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, piece: bytes) -> int | None:
        """The end of the object in this piece, None if it goes on."""
        at = 0
        if self._escaped:
            at, self._escaped = 1, False
        while at < len(piece):
            if self._in_string:
                rest = _STRING_REST.match(piece, at)
                at = rest.end() if rest else at
                if at < len(piece):
                    if piece[at] == 0x5C:  # a backslash at the very end: the next piece begins escaped
                        self._escaped = True
                        return None
                    self._in_string = False
                    at += 1
                continue
            plain = _PLAIN.match(piece, at)
            at = plain.end() if plain else at
            if at >= len(piece):
                return None
            if piece[at] == 0x22:
                self._in_string = True
                at += 1
            elif braces := _BRACES.match(piece, at):
                first, at = braces.span()
                if piece[first] == 0x7B:
                    self._depth += at - first
                elif self._depth > at - first:
                    self._depth -= at - first
                else:
                    return first + self._depth
        return None
