"""An object's uncompressed bytes, block by block; gzip is known by its bytes, not by its name."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol, cast

BLOCK_BYTES = 8 * 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_READ_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 128 * 1024
_GZIP = 31  # zlib window bits: gzip framing only
_CAREFUL_BYTES = 512
_FREE_BYTES = 256 * 1024 * 1024
_MAX_RATIO = 400
"""Logs unpack to 5 to 60 times their size, gzip can reach 1,030: beyond this, and beyond the free bytes, a
stream is a bomb."""


class Readable(Protocol):
    """Bytes as delivered; a read may give fewer than asked for, and gives none only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Unpacked:
    """Iterates over blocks of at most `block` bytes; `fault` says afterwards why the stream ended early."""

    def __init__(self, file: Readable, *, block: int = BLOCK_BYTES) -> None:
        self.fault = ""
        self._file = file
        self._block = block
        self._taken = 0
        self._given = 0

    def __iter__(self) -> Iterator[bytes]:
        first = self._file.read(_READ_BYTES)
        pieces = self._members(first) if first.startswith(_GZIP_MAGIC) else self._plain(first)
        return self._blocks(pieces)

    def _blocks(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Pieces joined into full blocks, the last one shorter."""
        held: list[bytes] = []
        size = 0
        for piece in pieces:
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

    def _members(self, piece: bytes) -> Iterator[bytes]:
        """The members of a gzip stream one after the other."""
        from isal import isal_zlib
        from isal.igzip_lib import IsalError

        # isal's stub calls the class an instance.
        faults = (cast("type[Exception]", IsalError), zlib.error)

        packed = piece
        self._taken = len(piece)
        while packed:
            if not packed.startswith(_GZIP_MAGIC):
                # Tape and block stores pad with zeros; anything else behind a member is a fault.
                if packed.strip(b"\0"):
                    self.fault = "bytes after the end of the gzip stream"
                return
            member = isal_zlib.decompressobj(_GZIP)
            start, given = packed, 0
            while not member.eof:
                try:
                    # Small pieces: a large one is moved as it grows, page by page. What is left is copied.
                    piece = member.decompress(packed, min(self._block, max(_PIECE_BYTES, len(packed))))
                    given += len(piece)
                    self._given += len(piece)
                    yield piece
                except faults as error:
                    yield from self._careful(start, given)
                    self.fault = f"gzip stream is damaged ({error})"
                    return
                packed = member.unconsumed_tail
                if self._given > max(_FREE_BYTES, _MAX_RATIO * (self._taken - len(packed))):
                    self.fault = f"unpacks to more than {_MAX_RATIO} times its size"
                    return
                if not packed and not member.eof:
                    packed, start = self._next(), b""
                    if not packed:
                        self.fault = "gzip stream ends early"
                        return
            packed = member.unused_data or self._next()
            if len(packed) == 1:
                packed += self._next()

    def _next(self) -> bytes:
        piece = self._file.read(_READ_BYTES)
        self._taken += len(piece)
        return piece

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
