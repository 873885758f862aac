"""Lines of a text log, block by block: no line larger than the limit is held, nothing is lost silently."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from trailhawk.sources.source import HEAD_BYTES, BadPart

MAX_LINE_BYTES: Final = 1024 * 1024
CHUNK_LINES: Final = 20_000
_TEXT_BYTES: Final = 8 * 1024 * 1024
_BLANKS: Final = b" \t\r\f\v\n"
_UNTIDY: Final = (b"\r", b"\n\n", b" \n", b"\t\n", b"\f\n", b"\v\n")


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines without their breaks, blank ones left out, and where each starts in the object.

    `text` is what they were cut from, and starts where the first of them does.
    """

    text: bytes
    lines: list[bytes]
    starts: list[int]
    bad: tuple[BadPart, ...]


def lines_of(blocks: Iterator[bytes]) -> Iterator[Lines]:
    """The lines of an object, at most CHUNK_LINES at a time. Same bytes, same lines, whatever the blocks."""
    for base, text, bad in pieces(blocks):
        lines, starts = _cut(base, text)
        if not lines and bad:
            yield Lines(b"", [], [], bad)
        for first in range(0, len(lines), CHUNK_LINES):
            part, places = lines[first : first + CHUNK_LINES], starts[first : first + CHUNK_LINES]
            whole = text[places[0] - base : places[-1] - base + len(part[-1])]
            yield Lines(whole, part, places, bad if first == 0 else ())


def _cut(base: int, text: bytes) -> tuple[list[bytes], list[int]]:
    lines = text.split(b"\n")
    starts = [base, *accumulate([len(line) + 1 for line in lines[:-1]], initial=base)][1:]
    if not any(mark in text for mark in _UNTIDY) and text[:1] not in _BLANKS and text[-1:] not in b" \t\f\v":
        if not lines[-1]:
            lines.pop()
            starts.pop()
        return lines, starts
    found = [(start, line.rstrip()) for start, line in zip(starts, lines, strict=True)]
    return [line for _, line in found if line], [start for start, line in found if line]


def pieces(blocks: Iterator[bytes]) -> Iterator[tuple[int, bytes, tuple[BadPart, ...]]]:
    """Runs of whole lines with their place; a line over the limit is a bad part and in no run."""
    held, base = b"", 0
    small = _small(blocks)
    for block in small:
        held += block
        end = held.rfind(b"\n") + 1
        if end:
            yield from _checked(base, held[:end])
            held, base = held[end:], base + end
        if len(held) > MAX_LINE_BYTES:
            part, held = _oversized(base, held, small)
            base += part.size
            yield base, b"", (part,)
    if held:
        yield from _checked(base, held)


def _small(blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        for start in range(0, len(block), _TEXT_BYTES):
            yield block[start : start + _TEXT_BYTES]


def _checked(base: int, text: bytes) -> Iterator[tuple[int, bytes, tuple[BadPart, ...]]]:
    """A run of lines, cut around those that are too long."""
    if len(text) <= MAX_LINE_BYTES:
        yield base, text, ()
        return
    start = at = 0
    for line in text.split(b"\n"):
        if len(line) > MAX_LINE_BYTES:
            if at > start:
                yield base + start, text[start:at], ()
            yield base + at, b"", (BadPart.of(line, base + at, _REASON),)
            start = at + len(line) + 1
        at += len(line) + 1
    if start < len(text):
        yield base + start, text[start:], ()


_REASON: Final = "line longer than 1 MB"


def _oversized(base: int, held: bytes, blocks: Iterator[bytes]) -> tuple[BadPart, bytes]:
    """Pass over the line under way, holding only its head and a running digest; what follows it."""
    digest = hashlib.sha256(held)
    head, size = held[:HEAD_BYTES], len(held)
    rest = b""
    for block in blocks:
        end = block.find(b"\n")
        used = block if end < 0 else block[:end]
        digest.update(used)
        size += len(used)
        if end >= 0:
            rest = block[end:]
            break
    return BadPart(base, size, digest.hexdigest(), head, _REASON), rest
