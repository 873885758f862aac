"""The envelopes of CloudWatch Logs: what a subscription and an export to S3 put around other logs.

A subscription (Firehose, Kinesis, Lambda) gives JSON objects with `logEvents`, one after the other, perhaps
in gzip once more or in base64; an export gives lines of a time and a message, and `aws logs tail` lines of a
time, a stream and a message, or in short of a time without zone and a message.
Formats: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html ,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/S3Export.html ,
https://docs.aws.amazon.com/cli/latest/reference/logs/tail.html
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, Protocol, runtime_checkable

import msgspec
import orjson
from msgspec import Raw, Struct

from trailhawk.sources import framing
from trailhawk.sources.lines import lines_of
from trailhawk.sources.once import once
from trailhawk.sources.source import MAX_RECORD_BYTES, BadPart, Chunk, Rows, Source
from trailhawk.sources.unpack import Unpacked

GZIP: Final = b"\x1f\x8b"
_CONTROL: Final = b"CWL CONTROL MESSAGE"
_GZIP_WINDOW: Final = 31
_ABSENT: Final = Raw(b"")
_SAMPLES: Final = 5
_MAX_INFLATED: Final = 64 * 1024 * 1024
"""What is packed in one value, as a whole: an event of Lambda has at most 6 MB, and text packs to a tenth."""

_SECOND: Final = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
# CloudWatch counts in milliseconds: with other microseconds it is a syslog, whose second word is a host.
_TAILED: Final = rb"(?P<tailed>%b\.\d{3}000\+00:00) (?P<stream>[^ \r\n]++)(?: (?=\S)|\r?$)" % _SECOND
EXPORTED: Final = re.compile(rb"\A(?:(?P<at>%b\.\d{3}Z) ?|%b)" % (_SECOND, _TAILED))
"""What stands before each event of an export and of `aws logs tail`."""
_FRONT: Final = re.compile(rb"%b|\A(?P<short>%b) (?=\S)" % (EXPORTED.pattern, _SECOND))
_SYSLOG: Final = re.compile(rb"^%b\.\d{3}(?!000)\d{3}\+00:00 " % _SECOND, re.MULTILINE)

# Only at the very start: in the middle of an object these may be somebody's text.
_SUBSCRIPTION: Final = re.compile(
    rb'\s*\[?\s*\{\s*(?:"[A-Za-z]{1,40}"\s*:\s*(?:"(?:[^"\\]|\\.)*+"|\[[^\]]*+\]|null)\s*,\s*)*"logEvents"\s*:\s*\['
)
_PACKED: Final = re.compile(
    rb'\A\s*\{\s*"(?:(awslogs)"\s*:\s*\{|(?:Records|records|invocationId|deliveryStreamArn)"\s*:)'
)
_PACKED_NAMES: Final = (b'"kinesis"', b'"recordId"')
_PACKED_NEAR: Final = 4096  # bytes before one of these, where there is no `awslogs`
# CloudTrail's events may name these too; theirs is a service's host, and Lambda's records have `aws:kinesis`.
_OF_TRAIL: Final = re.compile(rb'"eventSource"\s*:\s*"(?!aws:)')
_DATA: Final = re.compile(rb'"data"\s*:\s*"([A-Za-z0-9+/=]+)')
_MESSAGE: Final = re.compile(rb'"message"\s*:\s*"((?:[^"\\]|\\.)*+)', re.DOTALL)
_STREAM: Final = re.compile(rb'"logStream"\s*:\s*"([^"\\]{1,512})"')


class Event(Struct, gc=False, frozen=True):
    """An event of a subscription; `timestamp` is in milliseconds."""

    message: str
    timestamp: int | None = None
    id: str = ""


class _Data(Struct, gc=False):
    data: str = ""


class _Kinesis(Struct, gc=False):
    kinesis: _Data = msgspec.field(default_factory=_Data)


class Envelope(Struct, gc=False):
    """An object of a subscription. `logEvents` are kept as JSON, so that a broken one costs only itself."""

    logEvents: list[Raw] | None = None  # noqa: N815
    messageType: str = ""  # noqa: N815
    owner: str = ""
    logGroup: str = ""  # noqa: N815
    logStream: str = ""  # noqa: N815
    awslogs: _Data | None = None
    Records: list[_Kinesis] | None = None
    records: list[_Data] | None = None


_ENVELOPE: Final = msgspec.json.Decoder(Envelope | list[Raw])
EVENT: Final = msgspec.json.Decoder(Event)

Unpack = Callable[[Envelope, bytes], bytes]
"""Makes a record of an event (its JSON) of an envelope."""


def shape(record: Unpack) -> framing.Shape:
    """How a subscription's objects are cut into events, and an event made a record."""

    def unwrap(value: bytes, depth: int = 0) -> list[bytes] | None:
        try:
            found = _ENVELOPE.decode(value)
        except RecursionError as error:
            raise msgspec.DecodeError("nested too deeply") from error
        if isinstance(found, list):
            return [one for each in found for one in unwrap(bytes(each), depth + 1) or [bytes(each)]]
        if found.logEvents is not None:
            if found.messageType == "CONTROL_MESSAGE":
                return []
            return [record(found, bytes(event)) for event in found.logEvents]
        packed = [found.awslogs] if found.awslogs else [each.kinesis for each in found.Records or ()]
        packed = packed or list(found.records or ())
        if not packed or depth:
            return None
        records: list[bytes] = []
        room = _MAX_INFLATED
        for each in packed:
            inner = _unwrapped(each.data, unwrap, room)
            room -= sum(map(len, inner))
            records += inner
        return records

    return framing.Shape(
        unwrap=unwrap,
        opening=re.compile(rb"(?!)"),
        # What matches from its first byte would be taken for a record, and not be unwrapped.
        record_start=re.compile(rb'(?<=[\n}])\{\s*"(?:messageType|owner|awslogs|logGroup)"\s*:'),
    )


def _unwrapped(data: str, unwrap: Callable[[bytes, int], list[bytes] | None], room: int) -> list[bytes]:
    """The records in base64; the text itself, which is none, where it is damaged or larger than `room`."""
    try:
        text = base64.b64decode(data, validate=True)
        if text.startswith(GZIP):
            text = _inflated(text, min(room, MAX_RECORD_BYTES))
        found = unwrap(text, 1)
    except (binascii.Error, zlib.error, msgspec.DecodeError, UnicodeDecodeError, ValueError):
        found = None
    return [data.encode()] if found is None else found


def _inflated(packed: bytes, most: int) -> bytes:
    """The first gzip member, ValueError where it is cut off or larger than so many bytes."""
    if most <= 0:
        raise ValueError("no room left")
    stream = zlib.decompressobj(_GZIP_WINDOW)
    text = stream.decompress(packed, most)
    if not stream.eof:
        raise ValueError("cut off or too large")
    return text


@once
def front_of(head: bytes) -> str:
    """What stands before the lines of an object that begins so: 'timed' for an export and `aws logs tail`,
    'short' for a time without zone, as its short format writes it; '' for any other."""
    head = _opened(head)
    front = _FRONT.match(head)
    if front is None or (front["tailed"] and _SYSLOG.search(head)):
        return ""
    return "short" if front["short"] else "timed"


@once
def is_envelope(head: bytes) -> bool:
    """Whether an object that begins so is a subscription's or an export's."""
    if front_of(head):
        return True
    head = _opened(head)
    if head.lstrip()[:1] not in (b"{", b"["):
        return False
    return _is_packed(head) or _SUBSCRIPTION.match(head) is not None


def _is_packed(head: bytes) -> bool:
    """Whether messages stand in it in base64."""
    start = _PACKED.match(head)
    if start is None or start[1]:
        return start is not None
    if _OF_TRAIL.search(head):
        return False
    until = start.end() + _PACKED_NEAR
    return any(head.rfind(name, start.end(), until + len(name)) >= 0 for name in _PACKED_NAMES)


@once
def messages(head: bytes) -> tuple[bytes, ...]:
    """The first few messages of an envelope that begins so, the last one perhaps cut off."""
    is_lines = front_of(head)
    head = _opened(head)
    if is_lines:
        return tuple(_FRONT.sub(b"", line, count=1) for line in head.split(b"\n", _SAMPLES)[:_SAMPLES])
    if not is_envelope(head):
        return ()
    texts = (text_in(match[1]) for inner in _inner(head) for match in _MESSAGE.finditer(inner))
    # CloudWatch tries a new subscription with a message of its own, which stands before those that are sent.
    return tuple(islice((text for text in texts if text and not text.startswith(_CONTROL)), _SAMPLES))


def stream_name(head: bytes) -> str:
    """The log stream of the first envelope, '' where none is named."""
    head = _opened(head)
    named = (_STREAM.search(inner) for inner in _inner(head)) if is_envelope(head) else iter(())
    found = next(filter(None, named), None)
    return found[1].decode("utf-8", "replace") if found else ""


def _inner(head: bytes) -> Iterator[bytes]:
    """The texts of envelopes, out of base64 where they stand in it."""
    if not _is_packed(head):
        yield head
        return
    for data in islice(_DATA.finditer(head), _SAMPLES):
        try:
            text = base64.b64decode(data[1][: len(data[1]) // 4 * 4])
        except binascii.Error:
            continue
        yield _opened(text)


def _opened(head: bytes) -> bytes:
    """The start of what stands in gzip once more."""
    if not head.startswith(GZIP):
        return head.removeprefix(framing.BOM)
    try:
        return zlib.decompressobj(_GZIP_WINDOW).decompress(head, 64 * 1024)
    except zlib.error:
        return b""


def text_in(escaped: bytes) -> bytes:
    """A JSON string's text, without an escape that is cut off at its end."""
    for cut in range(12):
        try:
            value = orjson.loads(b'"' + escaped[: len(escaped) - cut] + b'"')
        except orjson.JSONDecodeError:
            continue
        return str(value).encode()
    return b""


class _Stream:
    """Blocks as a file that is read from front to back."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._held = b""

    def read(self, size: int = -1, /) -> bytes:
        while not self._held:
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._held = block
        found, self._held = self._held[:size], self._held[size:]
        return found


def opened(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes], Unpacked | None]:
    """The first block and all of them, out of gzip where the bytes are gzip once more.

    The last tells afterwards what was wrong with that gzip.
    """
    first = next(blocks, b"")
    if not first.startswith(GZIP):
        return first, chain((first,), blocks), None
    unpacked = Unpacked(_Stream(chain((first,), blocks)))
    inner = iter(unpacked)
    first = next(inner, b"")
    return first, chain((first,), inner), unpacked


def with_fault(chunks: Iterator[Chunk], unpacked: Unpacked | None) -> Iterator[Chunk]:
    """Chunks, and a bad part at the end where the inner gzip was damaged."""
    yield from chunks
    if unpacked is not None and unpacked.fault:
        yield Chunk([], (BadPart.of(b"", 0, unpacked.fault),), int)


@runtime_checkable
class _Wrapping(Protocol):
    """A source whose records may be wrapped: a rule of EventBridge writes whole events into a log group."""

    @property
    def shape(self) -> framing.Shape: ...


@runtime_checkable
class _Placing(Protocol):
    """A source whose records have with them what their envelope says."""

    def in_envelope(self, envelope: Envelope, message: bytes) -> bytes: ...


class Enveloped:
    """A source that is also read inside an envelope, where a message is one of its records or wraps some."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.table = source.table
        self.inner = source
        self._shape = shape(_message)
        if isinstance(source, _Placing):
            placing = source.in_envelope
            self._shape = shape(lambda envelope, event: placing(envelope, _message(envelope, event)))

    def recognises(self, name: str, head: bytes) -> bool:
        if not is_envelope(head):
            return self.inner.recognises(name, head)
        found = messages(head)
        return bool(found) and self.inner.recognises(name, b"\n".join(found))

    def is_digest(self, head: bytes) -> bool:
        return not is_envelope(head) and self.inner.is_digest(head)

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        first, blocks, unpacked = opened(blocks)
        head = first[: 64 * 1024]
        if front_of(head):
            return with_fault(self._inside(exported(blocks)), unpacked)
        if is_envelope(head):
            return with_fault(self._inside(framing.chunks(blocks, self._shape)), unpacked)
        return with_fault(self.inner.chunks(blocks), unpacked)

    def _inside(self, messages: Iterator[Chunk]) -> Iterator[Chunk]:
        source = self.inner
        return framing.unwrapped(messages, source.shape) if isinstance(source, _Wrapping) else messages

    def rows(self, records: Sequence[bytes]) -> Rows:
        return self.inner.rows(records)


def _message(_: Envelope, event: bytes) -> bytes:
    try:
        return EVENT.decode(event).message.encode()
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return event


def exported(blocks: Iterator[bytes]) -> Iterator[Chunk]:
    """The messages of an export or of `aws logs tail`, one a line."""
    for cut in lines_of(blocks):
        records = [_FRONT.sub(b"", line, count=1) for line in cut.lines]
        yield Chunk(records, cut.bad, cut.starts.__getitem__)
