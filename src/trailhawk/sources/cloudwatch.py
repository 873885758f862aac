"""CloudWatch Logs as Sentinel's AWSCloudWatch table: events of log groups that are no log known here.

Log group and stream are columns of ours: without them nobody finds anything in the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import orjson
import xxhash

from trailhawk.kql.types import KqlType
from trailhawk.lake.table import ID, PAYLOAD, REST
from trailhawk.sources import framing
from trailhawk.sources.columns import declared
from trailhawk.sources.envelope import (
    EVENT,
    EXPORTED,
    Envelope,
    front_of,
    is_envelope,
    opened,
    shape,
    with_fault,
)
from trailhawk.sources.held import Held, form_of
from trailhawk.sources.json_text import signed
from trailhawk.sources.lines import CHUNK_LINES, MAX_LINE_BYTES, lines_of
from trailhawk.sources.moments import moment
from trailhawk.sources.source import HEAD_BYTES, BadPart, Chunk, Rows
from trailhawk.sources.ssm import about

if TYPE_CHECKING:
    import pyarrow as pa

_TEXT, _TIME = KqlType.STRING, KqlType.DATETIME

_LINES: Final = (
    ("TimeGenerated", _TIME, "Time of the event, UTC.", ""),
    ("ExtractedTime", _TIME, "Time of the event, UTC.", ""),
    ("LogGroup", _TEXT, "Log group, where the road names it. A column of ours.", ""),
    ("LogStream", _TEXT, "Log stream, where the road names it. A column of ours.", ""),
    ("Message", _TEXT, "The event as it was logged.", ""),
)
TABLE: Final = declared(
    "AWSCloudWatch",
    "Events of CloudWatch log groups that have no table of their own.",
    _LINES,
    statistics=("LogGroup",),
)
_WRITE_TEST: Final = b"Permission Check Successful"


class _Record(msgspec.Struct, gc=False):
    """An event of a subscription with what its envelope says of it."""

    message: str
    timestamp: int | str | None = None
    id: str = ""
    logGroup: str = ""  # noqa: N815
    logStream: str = ""  # noqa: N815
    owner: str = ""


_RECORD: Final = msgspec.json.Decoder(_Record)
_Row = tuple[int, str, str, str, int | None]


def _packed(envelope: Envelope, event: bytes) -> bytes:
    try:
        found = EVENT.decode(event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return event
    return msgspec.json.encode(
        _Record(
            found.message, found.timestamp, found.id, envelope.logGroup, envelope.logStream, envelope.owner
        )
    )


def _held(event: Held) -> bytes:
    return msgspec.json.encode(_Record(event.text, event.at, event.id, event.group, event.stream))


class CloudWatch:
    """Events of a subscription, of an export to S3, of the API, of Logs Insights, of the console or of
    `aws logs tail`."""

    name = "cloudwatch"
    table = TABLE

    def __init__(self) -> None:
        self._shape = shape(_packed)

    def recognises(self, name: str, head: bytes) -> bool:
        if front := front_of(head):
            return front != "short" and about(name) is None  # what is printed may begin with a time too
        if is_envelope(head):
            return True
        form = form_of(head)
        return (form is not None and form[0].of_log_group) or self.is_digest(head)

    def is_digest(self, head: bytes) -> bool:
        """The object that CloudWatch writes to see whether it may."""
        return head.strip() == _WRITE_TEST

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        first, blocks, unpacked = opened(blocks)
        form = form_of(first[:HEAD_BYTES])
        if form is not None:
            return with_fault(form[0].chunks(blocks, _held), unpacked)
        if first.removeprefix(framing.BOM).lstrip()[:1] in (b"{", b"["):
            return with_fault(framing.chunks(blocks, self._shape), unpacked)
        return with_fault(_exported(blocks), unpacked)

    def rows(self, records: Sequence[bytes]) -> Rows:
        made: list[_Row] = []
        kept: list[int] = []
        bad: list[tuple[int, str]] = []
        for place, record in enumerate(records):
            row = _row(record)
            if isinstance(row, str):
                bad.append((place, row))
            else:
                made.append(row)
                kept.append(place)
        return Rows(_table(made), kept, tuple(bad))


def _row(record: bytes) -> _Row | str:
    """Time, group, stream, message and identity; why it is no row."""
    exported = EXPORTED.match(record)
    try:
        if exported is not None:
            at = moment((exported["at"] or exported["tailed"]).decode())
            # Lines that belong to no event stand in the one before: they may not cost it.
            stream, text = (
                part.decode("utf-8", "backslashreplace")
                for part in (exported["stream"] or b"", record[exported.end() :])
            )
            return "its time is none" if at is None else (at, "", stream, text, None)
        found = _RECORD.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"not a CloudWatch event: {error}"
    at = moment(found.timestamp)
    if at is None:
        return (
            "no timestamp"
            if found.timestamp is None
            else f"timestamp is no time: {str(found.timestamp)[:64]}"
        )
    identity = (
        signed(
            xxhash.xxh3_64_intdigest(orjson.dumps([found.owner, found.logGroup, found.logStream, found.id]))
        )
        if found.id
        else None
    )
    return at, found.logGroup, found.logStream, found.message, identity


def _table(made: list[_Row]) -> pa.Table:
    import pyarrow as pa

    times, groups, streams, texts, ids = zip(*made, strict=True) if made else ((),) * 5
    payloads = [
        signed(xxhash.xxh3_64_intdigest(text.encode())) if identity is not None else 0
        for text, identity in zip(texts, ids, strict=True)
    ]
    at = pa.array(times, pa.timestamp("us"))
    return pa.table(
        {
            "TimeGenerated": at,
            "ExtractedTime": at,
            "LogGroup": pa.array(groups, pa.string()),
            "LogStream": pa.array(streams, pa.string()),
            "Message": pa.array(texts, pa.string()),
            ID: pa.array(ids, pa.int64()),
            PAYLOAD: pa.array(payloads, pa.int64()),
            REST: pa.nulls(len(made), pa.string()),
        }
    )


def _exported(blocks: Iterator[bytes]) -> Iterator[Chunk]:
    """Events of an export: a line with a time, and the lines without one that follow it."""
    events = _Events()
    for cut in lines_of(blocks):
        events.bad += cut.bad
        for start, line in zip(cut.starts, cut.lines, strict=True):
            events.add(start, line.removeprefix(framing.BOM) if start == 0 else line)
            if events.are_many:
                yield events.taken(but=1)
    if events.records or events.bad:
        yield events.taken(but=0)


class _Events:
    """Events under way; the last one may still get lines."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.bad: list[BadPart] = []
        self._starts: list[int] = []
        self._more: list[bytes] = []
        self._size = 0
        self._bytes = 0

    @property
    def are_many(self) -> bool:
        """Whether it is time to take what is settled."""
        return max(len(self.records), len(self.bad)) > CHUNK_LINES or self._bytes > framing.CHUNK_BYTES

    def add(self, start: int, line: bytes) -> None:
        self._bytes += len(line)
        if EXPORTED.match(line):
            self._close()
            self.records.append(line)
            self._starts.append(start)
            self._size = len(line)
        elif not self.records or self._size > MAX_LINE_BYTES:
            self.bad.append(BadPart.of(line, start, "a line that belongs to no event"))
        else:
            self._more.append(line)
            self._size += len(line)

    def _close(self) -> None:
        if self._more:
            self.records[-1] = b"\n".join((self.records[-1], *self._more))
            self._more = []

    def taken(self, *, but: int) -> Chunk:
        """What is settled, without the last `but` events."""
        if not but:
            self._close()
        count = len(self.records) - but
        chunk = Chunk(self.records[:count], tuple(self.bad), self._starts[:count].__getitem__)
        self.records, self._starts, self.bad = self.records[count:], self._starts[count:], []
        self._bytes = self._size if self.records else 0
        return chunk
