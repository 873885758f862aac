"""Raw records in the hands of other tools: what a search, an export or an API call puts around them.

A tool that keeps a record as text gives it back as it was. It is taken out and read as its own log, so an
event that the log brought too is known again. The form is told by how an object begins, with the members that
it has there; the log by the first records.

    aws cloudtrail lookup-events                     {"Events": [{"CloudTrailEvent": "..."}]}
    ... --query 'Events[].CloudTrailEvent'           ["...", "..."], also of messages
    aws logs filter-log-events, get-log-events       {"events": [{"timestamp": 1, "message": "..."}]}
    aws logs get-query-results                       {"results": [[{"field": "@message", "value": "..."}]]}
    Splunk's export and search                       {"result": {"_raw": "..."}} and lists of them
    Elasticsearch, documents and hits                {"event": {"original": "..."}}, {"_source": {...}}
    CSV with a column _raw, @message, event.original, CloudTrailEvent, or message beside timestamp

Formats: https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html ,
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html ,
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetQueryResults.html ,
https://docs.splunk.com/Documentation/Splunk/latest/RESTREF/RESTsearch ,
https://www.elastic.co/docs/reference/ecs/ecs-event
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, Protocol, runtime_checkable

import msgspec
from msgspec import Raw, Struct

from trailhawk.sources import csv_text, framing
from trailhawk.sources.envelope import Enveloped, text_in
from trailhawk.sources.json_lists import LINES, LISTS, TEXTS, Grammar, items
from trailhawk.sources.json_rows import shape
from trailhawk.sources.once import once
from trailhawk.sources.source import HEAD_BYTES, Chunk, Rows, Source

_SAMPLES: Final = 5
_ABSENT: Final = Raw(b"")
_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, UnicodeEncodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Held:
    """A record as text, and what a tool that reads CloudWatch Logs says of it; `at` is as written there."""

    text: str
    at: str | int | None = None
    group: str = ""
    stream: str = ""
    id: str = ""


Make = Callable[[Held], bytes]
"""What becomes of a held record: its text, or an event of CloudWatch."""


@dataclass(frozen=True)
class Form:
    """A form that holds records: how an object of it is cut, and the first few texts in one that begins so.

    `start` matches the beginning of each such object, but for CSV. `of_log_group` says that it is only used
    for CloudWatch Logs. `empty` matches an answer without records, which is then for the source `log`.
    """

    name: str
    start: re.Pattern[bytes] | None
    samples: Callable[[bytes], list[bytes]]
    chunks: Callable[[Iterator[bytes], Make], Iterator[Chunk]]
    of_log_group: bool = False
    empty: re.Pattern[bytes] | None = None
    log: str = "cloudwatch"


# Objects


class _Original(Struct, gc=False):
    original: str = ""


class _Document(Struct, gc=False):
    """A document of Elasticsearch, whose members are nested or have dots in their names."""

    event: Raw = _ABSENT
    flat: Raw = msgspec.field(default=_ABSENT, name="event.original")


class _Object(Struct, gc=False):
    """What the forms call a record."""

    CloudTrailEvent: str | None = None
    raw: str | None = msgspec.field(default=None, name="_raw")
    message: str | None = None
    timestamp: int | None = None
    logStreamName: str = ""  # noqa: N815
    eventId: str = ""  # noqa: N815


class _Hit(_Document, gc=False):
    source: _Document | None = msgspec.field(default=None, name="_source")
    fields: _Document | None = None


_OBJECT: Final = msgspec.json.Decoder(_Object)
_HIT: Final = msgspec.json.Decoder(_Hit)
_FLAT: Final = msgspec.json.Decoder(str | list[str])
_ORIGINAL: Final = msgspec.json.Decoder(_Original)


def _looked_up(item: bytes) -> Held | None:
    text = _OBJECT.decode(item).CloudTrailEvent
    return None if text is None else Held(text)


def _searched(item: bytes) -> Held | None:
    text = _OBJECT.decode(item).raw
    return None if text is None else Held(text)


def _logged(item: bytes) -> Held | None:
    found = _OBJECT.decode(item)
    if found.message is None:
        return None
    return Held(found.message, found.timestamp, stream=found.logStreamName, id=found.eventId)


def _shipped(item: bytes) -> Held | None:
    hit = _HIT.decode(item)
    texts = map(_original, (each for each in (hit.source, hit, hit.fields) if each is not None))
    text = next(filter(None, texts), "")
    return Held(text) if text else None


def _original(document: _Document) -> str:
    if bytes(document.flat):
        flat = _FLAT.decode(document.flat)
        return flat if isinstance(flat, str) else "".join(flat[:1])
    nested = bytes(document.event)
    return _ORIGINAL.decode(nested).original if nested.startswith(b"{") else ""


_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_VALUE: Final = rb"(?:%b|[-+.\w]++|\[(?:[^\[\]\"]++|%b)*+\]|\{(?:[^{}\"]++|%b|\{[^{}]*+\})*+\})" % (
    _STRING,
    _STRING,
    _STRING,
)


@dataclass(frozen=True)
class Wrapped:
    """JSON objects in lists, or one after the other: how they are cut, and what they begin with."""

    shape: framing.Shape
    first: re.Pattern[bytes]


def wrapped(
    *,
    lists: Sequence[str],
    starts: str,
    inner: Sequence[str] = (),
    begins: str = "(?!)",
    around: str = "(?!)",
) -> Wrapped:
    """Objects in lists of these names, perhaps each in a member of its own (`inner`).

    `starts` are the names a record begins with, `begins` those of what it is wrapped in, `around` those
    beside the lists, all apart by `|`. Where an answer is larger than a block, what stands around is passed
    over.
    """
    plain = shape(lists=lists, inner=inner, starts=starts)
    beside = rb'"(?:%b)"\s*+:\s*+%b' % (around.encode(), _VALUE)
    named = rb'\{\s*+(?:%b\s*+,\s*+)*+"(?:%b)"\s*+:\s*+' % (beside, "|".join(lists).encode())
    front = rb"%b(?:%b)?+\[" % (named, named)
    first = rb'\s*+\[?\s*+(?:%b\s*+\{\s*+"(?:%b)"|\{\s*+"(?:%b|%b)")\s*+:' % (
        front,
        starts.encode(),
        starts.encode(),
        begins.encode(),
    )
    opening = re.compile(rb"%b|%b" % (front, beside), re.DOTALL)
    return Wrapped(dataclasses.replace(plain, opening=opening), re.compile(first, re.DOTALL))


def _objects(
    name: str,
    take: Callable[[bytes], Held | None],
    member: bytes | None,
    objects: Wrapped,
    *,
    of_log_group: bool = False,
    mark: bytes = b"",
    empty: bytes = b"",
    log: str = "cloudwatch",
) -> Form:
    """A form of JSON objects. `member` is the name before the texts, None for one that others have too: then
    only whole records tell what they hold. `mark` must stand somewhere in the first bytes."""
    marked = re.compile(mark)
    texts = re.compile(rb'"%b"\s*+:\s*+"((?:[^"\\]++|\\.)*+)' % (member or b"(?!)"), re.DOTALL)

    def samples(head: bytes) -> list[bytes]:
        if objects.first.match(head) is None or marked.search(head) is None:
            return []
        if member is not None:
            return [text_in(text[1]) for text in islice(texts.finditer(head), _SAMPLES)]
        found = framing.chunks(iter((head,)), objects.shape)
        whole = (
            _made(item, take, _as_text) for chunk in found for item in chunk.records if _held(item, take)
        )
        return list(islice(whole, _SAMPLES))

    named = b'"%b"' % (member or b"")

    def record(item: bytes, make: Make) -> bytes:
        # Damage may put the next item inside this one, which is then no record: both are set aside.
        return item if member and item.count(named) > 1 else _made(item, take, make)

    def chunks(blocks: Iterator[bytes], make: Make) -> Iterator[Chunk]:
        for chunk in framing.chunks(blocks, objects.shape):
            yield Chunk([record(item, make) for item in chunk.records], chunk.bad, chunk.position)

    return Form(name, objects.first, samples, chunks, of_log_group, re.compile(empty) if empty else None, log)


def _as_text(held: Held) -> bytes:
    return held.text.encode()


def _held(item: bytes, take: Callable[[bytes], Held | None]) -> bool:
    """Whether an item holds a record."""
    try:
        return take(item) is not None
    except _NOT_JSON:
        return False


def _made(item: bytes, take: Callable[[bytes], Held | None], make: Make) -> bytes:
    """The record that an item holds; the item itself, which is none, where it has no text."""
    try:
        held = take(item)
        return item if held is None else make(held)
    except _NOT_JSON:
        return item


# Lists


class _Named(Struct, gc=False):
    field: str = ""
    value: str = ""


_RESULT: Final = msgspec.json.Decoder(list[_Named])
_TEXT: Final = msgspec.json.Decoder(str)


def _result(item: bytes) -> Held | None:
    values = {named.field: named.value for named in _RESULT.decode(item)}
    return _of_insights(values)


def _of_insights(values: Mapping[str, str]) -> Held | None:
    """A row of Logs Insights; `@log` is account:group."""
    if "@message" not in values:
        return None
    group = values.get("@log", "").partition(":")[2]
    return Held(values["@message"], values.get("@timestamp"), group, values.get("@logStream", ""))


def _lists(
    name: str,
    take: Callable[[bytes], Held | None],
    grammar: Grammar,
    first: bytes,
    text: bytes,
    *,
    of_log_group: bool = False,
    empty: bytes = b"",
) -> Form:
    """A form of lists or texts; `first` matches its start, `text` what stands before the quote of a text."""
    start, texts = re.compile(first), re.compile(text + rb'"((?:[^"\\]++|\\.)*+)', re.DOTALL)

    def samples(head: bytes) -> list[bytes]:
        if start.match(head) is None:
            return []
        return [text_in(found[1]) for found in islice(texts.finditer(head), _SAMPLES)]

    def chunks(blocks: Iterator[bytes], make: Make) -> Iterator[Chunk]:
        for found in items(blocks, grammar):
            records = [_made(item, take, make) for item in found.texts]
            yield Chunk(records, tuple(found.bad), found.starts.__getitem__)

    return Form(name, start, samples, chunks, of_log_group, re.compile(empty) if empty else None)


# CSV

_COLUMNS: Final = ("_raw", "@message", "CloudTrailEvent", "event.original", "_source.event.original")
_CONSOLE: Final = ("timestamp", "message")
_MILLISECONDS: Final = re.compile(r"\d{12,13}", re.ASCII)


def _text_column(names: Sequence[str]) -> str:
    """The column of the texts, '' where there is none."""
    if tuple(names) == _CONSOLE:
        return "message"
    return next((name for name in _COLUMNS if name in names), "")


def _csv(name: str, wanted: Callable[[str], bool], *, of_log_group: bool = False) -> Form:
    """CSV with a column of texts whose name is `wanted`."""

    def samples(head: bytes) -> list[bytes]:
        names = csv_text.header(head)
        column = _text_column(names)
        if not column or not wanted(column):
            return []
        rows = csv_text.first_rows(head, _SAMPLES)
        if column == "message" and not any(_MILLISECONDS.fullmatch(row["timestamp"]) for row in rows):
            return []
        return [row[column].encode() for row in rows]

    def chunks(blocks: Iterator[bytes], make: Make) -> Iterator[Chunk]:
        for cut in csv_text.rows_of(blocks):
            records = [make(_of_row(dict(zip(cut.names, row, strict=True)))) for row in cut.rows]
            yield Chunk(records, cut.bad, cut.starts.__getitem__)

    return Form(name, None, samples, chunks, of_log_group)


def _of_row(row: Mapping[str, str]) -> Held:
    column = _text_column(tuple(row))
    held = _of_insights(row) if column == "@message" else None
    return held or Held(row.get(column, ""), row.get("timestamp"))


DOCUMENTS: Final = wrapped(
    lists=("hits",),
    inner=("hits",),
    starts="@timestamp|@metadata|@version|_index|_id|_type|_version|_score|_source|actor|agent|aws|client|cloud"
    "|container|data_stream|destination|dns|ecs|elastic_agent|error|event|event\\.original|fields|file|group"
    "|host|http|input|labels|log|message|network|observer|organization|process|related|rule|service|source"
    "|tags|target|tls|url|user|user_agent",
    around="took|timed_out|_shards|_scroll_id|total|max_score",
)
"""Elasticsearch's documents, as lines or as hits of a search."""

FORMS: Final = (
    _objects(
        "lookup-events",
        _looked_up,
        b"CloudTrailEvent",
        wrapped(
            lists=("Events",),
            starts="EventId|EventName|ReadOnly|AccessKeyId|EventTime|EventSource|Username|Resources"
            "|CloudTrailEvent",
            around="NextToken|ResponseMetadata",
        ),
        empty=rb'\s*+\{\s*+"Events"\s*+:\s*+\[\s*+\]',
        log="cloudtrail",
    ),
    _lists("texts", lambda item: Held(_TEXT.decode(item)), TEXTS, rb"\s*+\[\s*+\"\{", rb"[\[,]\s*+"),
    _lists("lines", lambda item: Held(_TEXT.decode(item)), LINES, rb"\s*+\[\s*+\"[^{\"]", rb"[\[,]\s*+"),
    _objects(
        "log-events",
        _logged,
        b"message",
        wrapped(
            lists=("events",),
            starts="logStreamName|timestamp|message|ingestionTime|eventId",
            around="searchedLogStreams|nextToken|nextForwardToken|nextBackwardToken|ResponseMetadata",
        ),
        of_log_group=True,
        # A timestamp and a message have many logs; only CloudWatch says when it took them.
        mark=rb'"ingestionTime"\s*+:\s*+\d{12}',
        empty=rb'\s*+\{\s*+"events"\s*+:\s*+\[\s*+\]\s*+,\s*+"(?:searchedLogStreams|nextForwardToken)"',
    ),
    _lists(
        "insights",
        _result,
        LISTS,
        rb"\s*+\{[^\[\]]{0,1000}?\"results\"\s*+:\s*+\[\s*+\[\s*+\{\s*+\"(?:field|value)\"\s*+:",
        rb'"field"\s*+:\s*+"@message"\s*+,\s*+"value"\s*+:\s*+',
        of_log_group=True,
        empty=rb'\s*+\{[^\[\]]{0,1000}?"results"\s*+:\s*+\[\s*+\]\s*+,\s*+"statistics"',
    ),
    _objects(
        "splunk",
        _searched,
        b"_raw",
        wrapped(
            lists=("results",),
            inner=("result",),
            begins="preview|offset|lastrow|result",
            starts="_bkt|_cd|_indextime|_raw|_serial|_si|_sourcetype|_time|host|index|linecount|source|sourcetype"
            "|splunk_server",
            around="preview|init_offset|post_process_count|messages|fields|highlighted",
        ),
    ),
    _objects("elastic", _shipped, None, DOCUMENTS),
    _csv("csv", lambda column: column not in ("@message", "message")),
    _csv("csv of a log group", lambda column: column in ("@message", "message"), of_log_group=True),
)
_STARTS: Final = (each.pattern for form in FORMS for each in (form.start, form.empty) if each is not None)
_START: Final = re.compile(b"|".join(b"(?:%b)" % each for each in _STARTS), re.DOTALL)


@once
def form_of(head: bytes) -> tuple[Form, bytes] | None:
    """The form of an object that begins so, with its first few texts, a line each; None for any other.

    There are no texts where the object is an answer without records.
    """
    head = head.removeprefix(framing.BOM)
    if _START.match(head) is None and not csv_text.header(head):
        return None  # as for nearly all objects, and in a fifth of the time
    for form in FORMS:
        found = [text for text in form.samples(head) if text]
        if found or (form.empty is not None and form.empty.match(head)):
            return form, b"\n".join(found)
    return None


@runtime_checkable
class _Wrapping(Protocol):
    """A source whose records may be wrapped, as events of EventBridge are."""

    @property
    def shape(self) -> framing.Shape: ...


@runtime_checkable
class _Described(Protocol):
    """A source that the user described: what it reads is a record of it, whatever else it looks like."""

    def is_own(self, head: bytes) -> bool:
        """Whether the first record of an object that begins so is this log's."""
        ...


def _objects_first(texts: bytes) -> bytes:
    """The texts from the first JSON object on, where one that is none stands before it, and at least as many
    are; none otherwise. An application may say hello before it writes its log."""
    lines = texts.split(b"\n")
    place = next((place for place, line in enumerate(lines) if line.lstrip().startswith(b"{")), 0)
    return b"\n".join(lines[place:]) if 0 < place <= len(lines) - place else b""


class Carried:
    """A source that is also read out of what other tools hold, and out of CloudWatch Logs' envelopes."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.table = source.table
        self.inner = source
        self._source = Enveloped(source)

    def _form_of(self, head: bytes) -> tuple[Form, bytes] | None:
        found = form_of(head)
        is_own = found is not None and isinstance(self.inner, _Described) and self.inner.is_own(head)
        return None if is_own else found

    def recognises(self, name: str, head: bytes) -> bool:
        found = self._form_of(head)
        if found is None:
            return self._source.recognises(name, head)
        form, texts = found
        if not texts:
            return self.name == form.log
        return any(self.inner.recognises(name, each) for each in (texts, _objects_first(texts)) if each)

    def is_digest(self, head: bytes) -> bool:
        return self._form_of(head) is None and self._source.is_digest(head)

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        first = next(blocks, b"")
        found = self._form_of(first[:HEAD_BYTES])
        whole = chain((first,), blocks)
        if found is None:
            return self._source.chunks(whole)
        records = found[0].chunks(whole, _as_text)
        inner = self.inner
        return framing.unwrapped(records, inner.shape) if isinstance(inner, _Wrapping) else records

    def rows(self, records: Sequence[bytes]) -> Rows:
        return self._source.rows(records)
