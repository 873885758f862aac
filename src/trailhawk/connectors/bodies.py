"""Bodies that shippers post: unpacked within bounds, and cut into records, one a line."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from trailhawk.sources import Unpacked

_MAGIC: Final = b"\x1f\x8b"
_STEP: Final = 1 << 20
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_BOM: Final = b"\xef\xbb\xbf"
_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most bytes of a body as sent and unpacked, most records in it, and how deep a record may nest."""

    body_bytes: int = 16 << 20
    unpacked_bytes: int = 128 << 20
    records: int = 100_000
    depth: int = 64


LATER: Final = {"Retry-After": "5"}
"""What an answer says beside 429 and 503."""


class BodyError(Exception):
    """A body that is not taken; `status` is what HTTP calls it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def unpacked(body: bytes, encoding: str, bounds: Bounds) -> bytes:
    """The body without its Content-Encoding (gzip or none), however small it was packed."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise BodyError(415, f"content encoding {encoding[:40]!r} is not known: send gzip or none")
    if body and not body.startswith(_MAGIC):
        raise BodyError(400, "the gzip body is damaged: it does not begin as gzip")
    pieces: list[bytes] = []
    size = 0
    stream = Unpacked(io.BytesIO(body), block=_STEP)
    for piece in stream:
        size += len(piece)
        if size > bounds.unpacked_bytes:
            raise BodyError(413, f"more than {bounds.unpacked_bytes:,} bytes when unpacked")
        pieces.append(piece)
    if stream.fault:
        raise BodyError(400, f"the gzip body is damaged: {stream.fault}")
    return b"".join(pieces)


def records(body: bytes, bounds: Bounds) -> list[bytes]:
    """The records of a body: a JSON array's members, one JSON object, or one object a line.

    Each comes as one line of JSON. All of the body is good, or BodyError says what is not and where.
    """
    text = body.removeprefix(_BOM).strip()
    if not text:
        return []
    if text.startswith(b"["):
        if _is_dense(text, bounds) and _has_more_members(text, bounds.records):
            raise _too_many(bounds, "records")
        try:
            found = [bytes(raw) for raw in _LIST.decode(text)]
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise BodyError(400, f"the JSON array cannot be read: {error}") from None
        return _checked(found, bounds, "member")
    if b"\n" in text and _is_one(text):
        return _checked([text], bounds, "member")
    return _checked(_some(map(bytes.strip, io.BytesIO(text)), bounds, "records"), bounds, "line")


def text_lines(body: bytes, bounds: Bounds) -> list[bytes]:
    """The lines of a body that is plain text."""
    return _some((line.rstrip(b"\r\n") for line in io.BytesIO(body.removeprefix(_BOM))), bounds, "lines")


def _some(lines: Iterator[bytes], bounds: Bounds, what: str) -> list[bytes]:
    """The lines that are not blank; BodyError as soon as there are too many."""
    found: list[bytes] = []
    for line in lines:
        if line.strip():
            found.append(line)
            if len(found) > bounds.records:
                raise _too_many(bounds, what)
    return found


def _too_many(bounds: Bounds, what: str) -> BodyError:
    return BodyError(413, f"more than {bounds.records:,} {what}")


def _is_dense(text: bytes, bounds: Bounds) -> bool:
    """Whether a list of the members might be far larger than the text."""
    return text.count(b",") > bounds.records + len(text) // 16


def _has_more_members(array: bytes, most: int) -> bool:
    """Whether a JSON array has more members than that, without making them; of broken JSON any answer."""
    depth = at = 0
    members = 1
    for match in _BRACKETS.finditer(array):
        if depth == 1:
            members += array.count(b",", at, match.start())
            if members > most:
                return True
        at = match.end()
        depth += (match[0] in (b"{", b"[")) - (match[0] in (b"}", b"]"))
    return False


def _is_one(text: bytes) -> bool:
    """Whether a text of many lines is one JSON value, laid out for people."""
    try:
        _VALUE.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _checked(found: list[bytes], bounds: Bounds, kind: str) -> list[bytes]:
    if len(found) > bounds.records:
        raise _too_many(bounds, "records")
    return [_record(record, bounds, f"{kind} {number}") for number, record in enumerate(found, 1)]


def _record(record: bytes, bounds: Bounds, place: str) -> bytes:
    if not record.startswith(b"{"):
        raise BodyError(400, f"{place} is no JSON object: {record[:40]!r}")
    try:
        _VALUE.decode(record)
        record.decode()
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BodyError(400, f"{place} cannot be read: {error}") from None
    if record.count(b"{") + record.count(b"[") > bounds.depth and _depth(record) > bounds.depth:
        raise BodyError(400, f"{place} nests deeper than {bounds.depth}")
    return msgspec.json.format(record, indent=-1) if b"\n" in record or b"\r" in record else record


def _depth(record: bytes) -> int:
    depth = deepest = 0
    for match in _BRACKETS.finditer(record):
        if match[0] in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in (b"}", b"]"):
            depth -= 1
    return deepest
