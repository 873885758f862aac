"""What was typed and printed on instances: Session Manager transcripts and Run Command output, AWSSSMOutput.

A table of ours, one row a line of output. Four roads lead here:

- a session's transcript in S3, `<prefix>/<session id>.log`, text with the terminal's control characters;
- a session streamed to CloudWatch Logs as JSON with `sessionData`;
- a command's output in S3, `<prefix>/<command id>/<instance id>/<plugin>/.../stdout` (or `stderr`);
- a command's output in CloudWatch Logs, in the stream `<command id>/<instance id>/<plugin>/stdout`.

Objects of S3 name session, command and instance in their key. What has no time of its own has the time at
which it was read. Docs: https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-logging.html
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import orjson

from trailhawk.kql.types import KqlType
from trailhawk.sources import framing
from trailhawk.sources.columns import declared
from trailhawk.sources.envelope import (
    EVENT,
    Envelope,
    exported,
    front_of,
    is_envelope,
    messages,
    opened,
    shape,
    stream_name,
    with_fault,
)
from trailhawk.sources.json_rows import CLOUDTRAIL, Field, JsonRows, paths
from trailhawk.sources.lines import lines_of
from trailhawk.sources.moments import moment
from trailhawk.sources.source import HEAD_BYTES, Chunk, Rows

_TEXT, _TIME, _LONG = KqlType.STRING, KqlType.DATETIME, KqlType.LONG

_LINES: Final = (
    ("TimeGenerated", _TIME, "Time of the output; when it was read, where it has none of its own.", "at"),
    ("Kind", _TEXT, "Session or Command.", "kind"),
    ("SessionId", _TEXT, "Id of the session, as StartSession gives it.", "session"),
    ("CommandId", _TEXT, "Id of the command, as SendCommand gives it.", "command"),
    ("InstanceId", _TEXT, "Instance, where the road names it.", "instance"),
    ("UserArn", _TEXT, "Who opened the session, where the road names it.", "user"),
    ("RunAsUser", _TEXT, "User on the instance, where the road names it.", "runAs"),
    ("AWSRegion", _TEXT, "Region, where the road names it.", "region"),
    ("Plugin", _TEXT, "Plugin and step of the command.", "plugin"),
    ("Stream", _TEXT, "stdout or stderr; empty for a session.", "stream"),
    ("LineNumber", _LONG, "Place of the line in its object or event, from 1.", "line"),
    ("Output", _TEXT, "The line, with its control characters.", "text"),
)
TABLE: Final = declared(
    "AWSSSMOutput",
    "Lines typed and printed in Session Manager sessions and by Run Command. A table of ours.",
    _LINES,
    statistics=("SessionId", "InstanceId"),
)
_ROWS: Final = JsonRows(
    TABLE, [Field(name, kind, paths(place)) for name, kind, _, place in _LINES], what="line of output"
)

_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_COMMAND: Final = re.compile(
    rf"(?:^|/)({_UUID})/((?:i|mi)-[0-9a-f]{{8,17}})/([^\s]{{1,512}}?)/?(stdout|stderr)(?:\.gz)?$", re.ASCII
)
_SESSION: Final = re.compile(
    r"(?:^|/)([\w+=,.@-]{1,96}-[0-9a-z]{17,26})(?:\.(?:log|txt))?(?:\.gz)?$", re.ASCII
)
_STARTED: Final = re.compile(
    rb"\A(?:Script started on (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[-+]\d\d:?\d\d)"
    rb"|\*{10,}\r?\nWindows PowerShell transcript start\r?\nStart time: (\d{14}))"
)
_STREAMED: Final = (re.compile(rb'"sessionData"\s*:'), re.compile(rb'"sessionId"\s*:'))


@dataclass(frozen=True, slots=True)
class _About:
    """What all lines of an object share."""

    kind: str = "Session"
    session: str = ""
    command: str = ""
    instance: str = ""
    plugin: str = ""
    stream: str = ""
    at: str = ""

    @property
    def shared(self) -> dict[str, object]:
        """What a record has of this."""
        return {
            "at": self.at,
            "kind": self.kind,
            "session": self.session,
            "command": self.command,
            "instance": self.instance,
            "plugin": self.plugin,
            "stream": self.stream,
        }

    def record(self, number: int, text: bytes) -> bytes:
        line = text.decode("utf-8", "backslashreplace")
        return orjson.dumps({**self.shared, "line": number, "text": line})


def about(name: str, at: str = "") -> _About | None:
    """What a key or a log stream says; None where it is neither a session's nor a command's."""
    command = _COMMAND.search(name)
    if command is not None:
        return _About("Command", "", command[1], command[2], command[3].strip("/"), command[4], at)
    session = _SESSION.search(name)
    return None if session is None else _About("Session", session[1], at=at)


def _is_streamed(texts: bytes) -> bool:
    """Whether these are pieces of a session, and no event that names one."""
    return CLOUDTRAIL.search(texts) is None and all(mark.search(texts) for mark in _STREAMED)


class SsmOutput:
    """Session Manager transcripts and Run Command output."""

    name = "ssm"
    table = TABLE

    def __init__(self) -> None:
        self._shape = shape(_records_of_event)

    def recognises(self, name: str, head: bytes) -> bool:
        if is_envelope(head):
            is_streamed = _is_streamed(b"\n".join(messages(head)))
            return is_streamed or _COMMAND.search(stream_name(head)) is not None
        if head[:1] in (b"{", b"["):
            return _is_streamed(head)
        return _STARTED.match(head) is not None

    def is_digest(self, head: bytes) -> bool:
        return False

    def placed(self, name: str, read_at: dt.datetime) -> _Placed:
        """This source for an object of this name, read at this time."""
        return _Placed(self, about(name) or _About(), read_at)

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        return self.chunks_about(blocks, _About())

    def chunks_about(self, blocks: Iterator[bytes], known: _About) -> Iterator[Chunk]:
        """The lines of an object of which this much is known."""
        first, blocks, unpacked = opened(blocks)
        head = first[:HEAD_BYTES]
        if front_of(head):
            if _is_streamed(b"\n".join(messages(head))):
                return with_fault(_flat(exported(blocks)), unpacked)
        elif is_envelope(head) or (first[:1] in (b"{", b"[") and _is_streamed(head)):
            return with_fault(_flat(framing.chunks(blocks, self._shape)), unpacked)
        started = _STARTED.match(first)
        if started is not None:
            known = _started(known, *started.groups())
        return with_fault(_transcript(blocks, known), unpacked)

    def rows(self, records: Sequence[bytes]) -> Rows:
        return _ROWS.rows(records)


class SsmTranscript(SsmOutput):
    """The same for text that only its name tells: asked last of all."""

    name = "ssm-transcript"

    def recognises(self, name: str, head: bytes) -> bool:
        known = about(name)
        if known is None or b"\0" in head:
            return False
        return known.kind == "Command" or head[:1] not in (b"{", b"[")  # a command may answer in JSON


@dataclass(frozen=True, slots=True)
class _Placed:
    source: SsmOutput
    about: _About
    read_at: dt.datetime

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        known = replace(self.about, at=self.read_at.astimezone(dt.UTC).isoformat())
        return self.source.chunks_about(blocks, known)


def _started(known: _About, script: bytes | None, shell: bytes | None) -> _About:
    """With the time that stands at the transcript's start."""
    if script is not None:
        at = script.decode()
    else:
        text = (shell or b"").decode()
        at = f"{text[:4]}-{text[4:6]}-{text[6:8]} {text[8:10]}:{text[10:12]}:{text[12:14]}"
    return known if moment(at) is None else replace(known, at=at)


def _transcript(blocks: Iterator[bytes], known: _About) -> Iterator[Chunk]:
    number = 0
    for cut in lines_of(blocks):
        records = [known.record(number + place, line) for place, line in enumerate(cut.lines, 1)]
        number += len(records)
        yield Chunk(records, cut.bad, cut.starts.__getitem__)


class _Streamed(msgspec.Struct, gc=False):
    """A piece of a session as it is streamed."""

    sessionData: list[msgspec.Raw]  # noqa: N815
    eventTime: str = ""  # noqa: N815
    awsRegion: str = ""  # noqa: N815
    target: dict[str, msgspec.Raw] = {}
    userIdentity: dict[str, msgspec.Raw] = {}  # noqa: N815
    runAsUser: str = ""  # noqa: N815
    sessionId: str = ""  # noqa: N815


_MAX_EVENT_BYTES: Final = 2 * 1024 * 1024
"""CloudWatch Logs takes events of 1 MB at most; a larger one may hold millions of lines."""
_STREAM: Final = msgspec.json.Decoder(_Streamed)


class _Event(bytes):
    """An event as JSON of its lines and of what they share; `_flat` makes each a record. A type of its own:
    any text may be a line."""

    @classmethod
    def of(cls, shared: Mapping[str, object], lines: list[str], *, blanks: bool) -> _Event:
        return cls(orjson.dumps([shared, lines, blanks]))

    def records(self) -> Iterator[bytes]:
        shared, lines, blanks = orjson.loads(memoryview(self))
        for number, line in enumerate(lines, 1):
            if blanks or line.strip():
                yield orjson.dumps({**shared, "line": number, "text": line})


def _records_of_event(envelope: Envelope, event: bytes) -> bytes:
    """An event with its lines, or as it is where it is none of ours."""
    try:
        found = EVENT.decode(event)
        text = found.message.encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return event
    if len(text) > _MAX_EVENT_BYTES:
        return event
    if text.startswith(b"{") and (streamed := _streamed(text, found.timestamp)):
        return streamed
    known = about(envelope.logStream, str(found.timestamp or ""))
    if known is None:
        return event
    if text.startswith(b"{") and not known.command:  # a damaged piece; what a command prints may be JSON
        return text
    return _Event.of(known.shared, found.message.split("\n"), blanks=False)


def _streamed(text: bytes, timestamp: int | None) -> _Event | None:
    """A piece of a session; None for other JSON."""
    try:
        piece = _STREAM.decode(text)
        shared = {
            "at": piece.eventTime or timestamp,
            "kind": "Session",
            "session": piece.sessionId,
            "instance": _string(piece.target.get("id")),
            "user": _string(piece.userIdentity.get("arn")),
            "runAs": piece.runAsUser,
            "region": piece.awsRegion,
        }
        return _Event.of(shared, list(map(_string, piece.sessionData)), blanks=True)
    except (
        msgspec.DecodeError,
        orjson.JSONDecodeError,
        orjson.JSONEncodeError,
        UnicodeError,
        RecursionError,
    ):
        return None


def _alone(record: bytes) -> _Event | None:
    """A piece of a session that stands in no envelope."""
    return _streamed(record, None) if len(record) <= _MAX_EVENT_BYTES else None


def _string(raw: msgspec.Raw | None) -> str:
    """A JSON string's text, other JSON as it is."""
    value = orjson.loads(bytes(raw)) if raw is not None else ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _flat(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Events that hold several lines as one record a line."""
    for chunk in chunks:
        bad = chunk.bad
        records: list[bytes] = []
        owners: list[int] = []
        size = 0
        for place, record in enumerate(chunk.records):
            event = record if isinstance(record, _Event) else _alone(record)
            for line in event.records() if event is not None else (record,):
                records.append(line)
                owners.append(place)
                size += len(line)
                if len(records) >= framing.CHUNK_RECORDS or size >= framing.CHUNK_BYTES:
                    yield Chunk(records, bad, _Through(owners, chunk))
                    records, owners, bad, size = [], [], (), 0
        if records or bad:
            yield Chunk(records, bad, _Through(owners, chunk))


@dataclass(frozen=True, slots=True)
class _Through:
    """The place of a line is that of the event it came in."""

    owners: list[int]
    chunk: Chunk

    def __call__(self, index: int) -> int:
        return self.chunk.position(self.owners[index])
