"""An object's uncompressed bytes, block by block.

How it is packed (gzip, bzip2, xz, Zstandard) its bytes tell, not its name. Text in UTF-16, as spreadsheets
and PowerShell write it, is put into UTF-8; without its mark the zeros beside its first letters tell it.
"""

from __future__ import annotations

import codecs
import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol, cast

from isal import isal_zlib
from isal.igzip_lib import IsalError

BLOCK_BYTES = 8 * 1024 * 1024
_GZIP_FAULTS = (cast("type[Exception]", IsalError), zlib.error)  # isal's stub calls the class an instance
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTANDARD_MAGIC = b"\x28\xb5\x2f\xfd"
_READ_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 128 * 1024
_PIECE_RATIO = 16
"""Most logs unpack to less of their size: an object comes in one piece, which is not to be joined."""
_GZIP = 31  # zlib window bits: gzip framing only
_CAREFUL_BYTES = 512
_NEXT_BYTES = 16 * 1024
_FREE_BYTES = 256 * 1024 * 1024
_MAX_RATIO = 400
"""Logs unpack to 5 to 60 times their size, gzip can reach 1,030: beyond this, and beyond the free bytes, a
stream is a bomb."""
_XZ_BYTES = 128 * 1024 * 1024  # of memory; xz -9 asks for 65 MB
_FREE_PACKED = 4 * 1024 * 1024
_MAX_PACKED_RATIO = 4
"""The same for gzip in gzip: what is packed packs no further, and the inner stream grows once more."""


_UTF16 = re.compile(
    rb"(?P<utf_16>\xff\xfe|\xfe\xff)|(?P<utf_16_le>(?:[\t\n\r -~]\0){3})|(?P<utf_16_be>(?:\0[\t\n\r -~]){3})"
)
"""How text in UTF-16 begins; the groups are called as Python's codecs."""


class Readable(Protocol):
    """Bytes as delivered; a read may give fewer than asked for, and gives none only at the end."""

    def read(self, size: int, /) -> bytes: ...


class _Decompressor(Protocol):
    """What the standard library has for bzip2 and xz."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Kind:
    """A form of packing: how its streams begin, and what unpacks one of them."""

    name: str
    magic: bytes
    decompressor: Callable[[], _Decompressor]


def _bzip2() -> _Decompressor:
    import bz2

    return bz2.BZ2Decompressor()


def _xz() -> _Decompressor:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_BYTES)


_KINDS = (_Kind("bzip2", b"BZh", _bzip2), _Kind("xz", b"\xfd7zXZ\0", _xz))
_LONGEST_MAGIC = 6


class Unpacked:
    """Iterates over blocks of at most `block` bytes; `fault` says afterwards why the stream ended early."""

    def __init__(self, file: Readable, *, block: int = BLOCK_BYTES) -> None:
        self.fault = ""
        self._file = file
        self._block = block
        self._given = 0

    def __iter__(self) -> Iterator[bytes]:
        first = self._ahead(self._file.read(_READ_BYTES))
        if first.startswith(_GZIP_MAGIC):
            return self._blocks(self._members(first))
        if first.startswith(_ZSTANDARD_MAGIC):
            return self._blocks(self._zstandard(first))
        for kind in _KINDS:
            if first.startswith(kind.magic):
                return self._blocks(self._streams(first, kind))
        return self._blocks(self._plain(first))

    def _ahead(self, data: bytes) -> bytes:
        """What was read, and enough behind it to know how it is packed."""
        while 0 < len(data) < _LONGEST_MAGIC and (more := self._file.read(_READ_BYTES)):
            data += more
        return data

    def _blocks(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Pieces joined into full blocks, the last one shorter."""
        held: list[bytes] = []
        size = 0
        for piece in _in_utf8(pieces):
            while piece:
                part = piece[: self._block - size]
                held.append(part)
                size += len(part)
                piece = piece[len(part) :]
                if size == self._block:
                    yield b"".join(held)
                    held, size = [], 0
        if held:
            yield b"".join(held)

    def _plain(self, first: bytes) -> Iterator[bytes]:
        piece = first
        while piece:
            yield piece
            piece = self._file.read(_READ_BYTES)

    def _streams(self, first: bytes, kind: _Kind) -> Iterator[bytes]:
        """The streams of one kind one after the other."""
        from lzma import LZMAError

        data, taken = first, len(first)
        while data:
            if not data.startswith(kind.magic):
                if data.strip(b"\0"):
                    self.fault = f"bytes after the end of the {kind.name} stream"
                return
            stream = kind.decompressor()
            while not stream.eof:
                try:
                    found = stream.decompress(data, _PIECE_BYTES)
                except (OSError, EOFError, LZMAError) as error:
                    self.fault = f"{kind.name} stream is damaged ({error})"
                    return
                yield found
                if not self._is_within(len(found), taken):
                    return
                data = b""
                if not stream.eof and stream.needs_input:
                    data = self._file.read(_READ_BYTES)
                    taken += len(data)
                    if not data:
                        self.fault = f"{kind.name} stream ends early"
                        return
            left = stream.unused_data
            data = self._ahead(left or self._file.read(_READ_BYTES))
            taken += len(data) - len(left)

    def _zstandard(self, first: bytes) -> Iterator[bytes]:
        """All frames; one that wants more than 128 MB of memory is refused by the library."""
        import pyarrow as pa

        packed = _Rest(first, self._file)
        stream = pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd")
        while True:
            try:
                found = stream.read(_PIECE_BYTES)
            except OSError as error:
                if packed.error is not None:
                    raise packed.error from error
                self.fault = f"Zstandard stream is damaged ({error})"
                return
            if not found:
                return
            yield found
            if not self._is_within(len(found), packed.taken):
                return

    def _is_within(self, found: int, taken: int) -> bool:
        """Whether so many bytes more are no sign of a bomb, of so many packed ones."""
        self._given += found
        if self._given > max(_FREE_BYTES, _MAX_RATIO * taken):
            self.fault = f"unpacks to more than {_MAX_RATIO} times its size"
        return not self.fault

    def _members(self, first: bytes) -> Iterator[bytes]:
        """The members of a gzip stream one after the other."""
        packed = _Packed(self._file, first)
        feed = _READ_BYTES
        free, ratio = _FREE_BYTES, _MAX_RATIO
        while start := packed.ahead():
            if not start.startswith(_GZIP_MAGIC):
                # Tape and block stores pad with zeros; anything else behind a member is a fault.
                if packed.take(_READ_BYTES).strip(b"\0"):
                    self.fault = "bytes after the end of the gzip stream"
                return
            member = isal_zlib.decompressobj(_GZIP)
            packed.begin()
            given = 0
            piece = packed.take(feed)
            while not member.eof:
                try:
                    # What is left is copied: of large pieces fewer times.
                    most = max(_PIECE_BYTES, _PIECE_RATIO * len(piece))
                    found = member.decompress(piece, min(self._block, most))
                    given += len(found)
                    self._given += len(found)
                    yield found
                except _GZIP_FAULTS as error:
                    yield from self._careful(packed.begun, given)
                    self.fault = f"gzip stream is damaged ({error})"
                    return
                piece = member.unconsumed_tail
                if self._given == len(found) and found.startswith(_GZIP_MAGIC):
                    free, ratio = _FREE_PACKED, _MAX_PACKED_RATIO
                if self._given > max(free, ratio * (packed.taken - len(piece))):
                    self.fault = f"unpacks to more than {ratio} times its size"
                    return
                if not piece and not member.eof:
                    feed = min(feed * 4, _READ_BYTES)
                    piece = packed.take(feed)
                    if not piece:
                        self.fault = "gzip stream ends early"
                        return
            packed.back(len(member.unused_data))
            # A member gives back what is not its own: of many small ones each would copy all that follow.
            feed = _NEXT_BYTES

    def _careful(self, packed: bytes, given: int) -> Iterator[bytes]:
        """What a damaged member still gives beyond the bytes that it gave: the decompressor of the standard
        library, in small bites. Only of a member that is held from its start.
        """
        if not packed:
            return
        member = zlib.decompressobj(_GZIP)
        for start in range(0, len(packed), _CAREFUL_BYTES):
            try:
                piece = member.decompress(packed[start : start + _CAREFUL_BYTES])
            except zlib.error:
                return
            yield piece[given:]
            given -= min(given, len(piece))


def _in_utf8(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces in UTF-8, where the first begins as UTF-16 does; what is no character is replaced."""
    first = next(filter(None, pieces), b"")
    start = _UTF16.match(first)
    if start is None:
        yield first
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder(start.lastgroup or "")("replace")
    for piece in chain((first,), pieces):
        for at in range(0, len(piece), _PIECE_BYTES):
            yield decoder.decode(piece[at : at + _PIECE_BYTES]).encode()
    yield decoder.decode(b"", final=True).encode()


class _Rest:
    """Bytes of which the first were read already. `taken` is how many were asked for, `error` what reading
    raised."""

    def __init__(self, first: bytes, file: Readable) -> None:
        self.taken = 0
        self.closed = False
        self.error: OSError | None = None
        self._first = io.BytesIO(first)
        self._file = file

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none only at the end."""
        try:
            data = self._first.read(size) or self._file.read(size)
        except OSError as error:
            self.error = error
            raise
        self.taken += len(data)
        return data

    def close(self) -> None:
        """The file is its owner's to close."""
        self.closed = True


class _Packed:
    """The bytes of a gzip stream, of which some can be given back. `taken` is how many are taken."""

    def __init__(self, file: Readable, first: bytes) -> None:
        self.taken = 0
        self._file = file
        self._held = first
        self._at = 0
        self._begun: int | None = 0

    def ahead(self) -> bytes:
        """The next two bytes, which stay; fewer only at the end."""
        while len(self._held) - self._at < 2 and (more := self._file.read(_READ_BYTES)):
            self._held, self._at = self._held[self._at :] + more, 0
        return self._held[self._at : self._at + 2]

    def take(self, size: int) -> bytes:
        """Up to so many bytes; none only at the end."""
        if self._at == len(self._held):
            self._held, self._at, self._begun = self._file.read(_READ_BYTES), 0, None
        piece = self._held[self._at : self._at + size]
        self._at += len(piece)
        self.taken += len(piece)
        return piece

    def back(self, count: int) -> None:
        """Give back the last bytes of what was taken last."""
        self._at -= count
        self.taken -= count

    def begin(self) -> None:
        """A member begins here."""
        self._begun = self._at

    @property
    def begun(self) -> bytes:
        """All that is held of the member under way, from its start; nothing where its start is gone."""
        return b"" if self._begun is None else self._held[self._begun :]
