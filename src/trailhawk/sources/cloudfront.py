"""CloudFront's standard logs as Sentinel's AWSCloudFront_AccessLog_CL table: text, JSON and Parquet.

The fields and their order are the user's choice (standard logging, version 2); the older version writes 33 of
them. Text says them in a line `#Fields:` or in a first line of names, with a tab or another character
between. Logs in real time, which name no fields, are not read.
Format: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/standard-logs-reference.html ,
https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/standard-logging.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Final

import orjson

from trailhawk.kql.types import KqlType
from trailhawk.sources import framing, parquet
from trailhawk.sources.columns import declared
from trailhawk.sources.json_rows import CLOUDTRAIL, Field, JsonRows, Record, paths, shape, text_of
from trailhawk.sources.lines import lines_of
from trailhawk.sources.moments import moment
from trailhawk.sources.source import Chunk, Rows

if TYPE_CHECKING:
    import pyarrow as pa

_TEXT, _TIME = KqlType.STRING, KqlType.DATETIME
_AT: Final = "_at"

_LINES: Final = (
    ("TimeGenerated", _TIME, "When CloudFront had answered the request, UTC.", _AT),
    ("Date", _TEXT, "Day of the request, UTC.", "date"),
    ("Time", _TEXT, "Time of the request, UTC.", "time"),
    ("XEdgeLocation", _TEXT, "Edge location that answered.", "x-edge-location"),
    ("ScBytes", _TEXT, "Bytes of the answer with its headers.", "sc-bytes"),
    ("CIp", _TEXT, "Address of the viewer, or of the proxy before it.", "c-ip"),
    ("CsMethod", _TEXT, "Method of the request.", "cs-method"),
    ("CsHost", _TEXT, "Domain of the distribution.", "cs-host"),
    ("CsUriStem", _TEXT, "Path of the request.", "cs-uri-stem"),
    ("ScStatus", _TEXT, "Status of the answer.", "sc-status"),
    ("CsReferer", _TEXT, "Referer header.", "cs-referer"),
    ("CsUserAgent", _TEXT, "User agent, URL-encoded.", "cs-user-agent"),
    ("CsUriQuery", _TEXT, "Query of the request.", "cs-uri-query"),
    ("CsCookie", _TEXT, "Cookie header.", "cs-cookie"),
    ("XEdgeResultType", _TEXT, "How the request ended, such as Hit or Error.", "x-edge-result-type"),
    ("XEdgeRequestId", _TEXT, "Id of the request.", "x-edge-request-id"),
    ("XHostHeader", _TEXT, "Host header.", "x-host-header"),
    ("CsProtocol", _TEXT, "http, https, grpcs, ws or wss.", "cs-protocol"),
    ("CsBytes", _TEXT, "Bytes of the request with its headers.", "cs-bytes"),
    ("TimeTaken", _TEXT, "Seconds from the request to the answer's end.", "time-taken"),
    ("XForwardedFor", _TEXT, "Address of the viewer behind a proxy.", "x-forwarded-for"),
    ("SslProtocol", _TEXT, "TLS protocol.", "ssl-protocol"),
    ("SslCipher", _TEXT, "TLS cipher.", "ssl-cipher"),
    ("XEdgeResponseResultType", _TEXT, "How the answer was classed.", "x-edge-response-result-type"),
    ("CsProtocolVersion", _TEXT, "HTTP version of the request.", "cs-protocol-version"),
    ("FleStatus", _TEXT, "How field-level encryption went.", "fle-status"),
    ("FleEncryptedFields", _TEXT, "Fields encrypted and sent on.", "fle-encrypted-fields"),
    ("CPort", _TEXT, "Port of the viewer.", "c-port"),
    ("TimeToFirstByte", _TEXT, "Seconds until the answer began.", "time-to-first-byte"),
    ("XEdgeDetailedResultType", _TEXT, "How the request ended, in detail.", "x-edge-detailed-result-type"),
    ("ScContentType", _TEXT, "Content type of the answer.", "sc-content-type"),
    ("ScContentLen", _TEXT, "Content length of the answer.", "sc-content-len"),
    ("ScRangeStart", _TEXT, "Start of the range answered.", "sc-range-start"),
    ("ScRangeEnd", _TEXT, "End of the range answered.", "sc-range-end"),
    ("Timestamp", _TEXT, "Time of the answer, in seconds since 1970.", "timestamp"),
    ("DistributionId", _TEXT, "Id of the distribution.", "distributionid|distribution-id"),
    ("TimestampMs", _TEXT, "Time of the answer, in milliseconds since 1970.", "timestamp-ms"),
    ("OriginFbl", _TEXT, "Seconds until the origin began to answer.", "origin-fbl"),
    ("OriginLbl", _TEXT, "Seconds until the origin had answered.", "origin-lbl"),
    ("Asn", _TEXT, "Autonomous system of the viewer.", "asn|c-asn"),
    ("CCountry", _TEXT, "Country of the viewer's address.", "c-country"),
    ("CacheBehaviorPathPattern", _TEXT, "Path pattern that matched.", "cache-behavior-path-pattern"),
    ("DistributionTenantId", _TEXT, "Id of the distribution's tenant.", "distribution-tenant-id"),
)
TABLE: Final = declared(
    "AWSCloudFront_AccessLog_CL",
    "Requests to CloudFront's distributions, one row a request.",
    _LINES,
    statistics=("CIp",),
)
_FIELDS: Final = [Field(name, kind, paths(place)) for name, kind, _, place in _LINES]
_ROWS: Final = JsonRows(
    TABLE,
    _FIELDS,
    what="CloudFront log record",
    identity=lambda record: text_of(record.get("x-edge-request-id")).strip("-"),
)
_HEADER_BYTES: Final = 8 * 1024
_CHUNK_BYTES: Final = 16 * 1024 * 1024
_MOST_FIELDS: Final = 200
_W3C: Final = re.compile(rb"#Fields:[ \t]*([^\r\n]*)")
_NAME: Final = rb"[A-Za-z(][A-Za-z0-9()_-]*"
_PLAIN: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?%(name)s(?:([\t ,;|])%(name)s)(?:\1%(name)s)*\r?(?=\n|\Z)" % {b"name": _NAME}
)
_MARKS: Final = tuple(
    re.compile(mark)
    for mark in (rb'"x-edge-(?:location|request-id)"\s*:', rb'"(?:date|timestamp(?:\(ms\))?)"\s*:')
)
_OTHERS: Final = re.compile(r"[^a-z0-9]+")
_EDGES: Final = frozenset(("x-edge-location", "x-edge-request-id"))
_TIMES: Final = ("timestamp-ms", "timestamp")


@lru_cache(maxsize=1024)
def _field(name: str) -> str:
    """The name of a field whichever way it is written.

    >>> _field("cs(User-Agent)"), _field("x_edge_location"), _field("timestamp(ms)")
    ('cs-user-agent', 'x-edge-location', 'timestamp-ms')
    """
    return _OTHERS.sub("-", name.lower()).strip("-")


def _header(line: bytes) -> tuple[bytes, bytes] | None:
    """The names in a header line and what stands between values; None for another line."""
    if len(line) > _HEADER_BYTES:
        return None
    w3c = _W3C.match(line)
    if w3c is not None:
        names, between = b" ".join(w3c[1].split()), b"\t"
    else:
        plain = _PLAIN.fullmatch(line)
        if plain is None:
            return None
        between = plain[1]
        names = b" ".join(line.removeprefix(framing.BOM).rstrip(b"\r").split(between))
    found = [_field(name) for name in names.decode("ascii", "replace").split(" ")]
    is_header = bool(_EDGES & set(found)) and len(set(found)) == len(found) <= _MOST_FIELDS
    return (names, between) if is_header else None


class CloudFront:
    """Standard logs. A record of text is its header, what stands between values, and its line."""

    name = "cloudfront"
    table = TABLE

    def __init__(self) -> None:
        self._shape = shape(starts="date|timestamp|x-edge-location|DistributionId")

    def recognises(self, name: str, head: bytes) -> bool:
        if head.startswith(parquet.MAGIC):
            return _is_ours(parquet.columns(head))
        start = head.removeprefix(framing.BOM).lstrip()
        if start[:1] in (b"{", b"["):
            return not CLOUDTRAIL.search(head) and all(mark.search(head) for mark in _MARKS)
        return any(_header(line.rstrip(b"\r")) for line in start[:_HEADER_BYTES].split(b"\n", 3)[:3])

    def is_digest(self, head: bytes) -> bool:
        return False

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        first = next(blocks, b"")
        whole = chain((first,), blocks)
        if first.startswith(parquet.MAGIC):
            return parquet.chunks(whole, _of_batch, check=_check, flat=True)
        if first.removeprefix(framing.BOM).lstrip()[:1] in (b"{", b"["):
            return framing.chunks(whole, self._shape)
        return _of_lines(whole)

    def rows(self, records: Sequence[bytes]) -> Rows:
        made: list[bytes] = []
        places: list[int] = []
        bad: list[tuple[int, str]] = []
        for place, record in enumerate(records):
            try:
                made.append(_record(record))
                places.append(place)
            except (ValueError, TypeError) as error:
                bad.append((place, f"not a CloudFront log record: {error}"))
        rows = _ROWS.rows(made)
        bad += [(places[place], reason) for place, reason in rows.bad]
        return Rows(rows.table, [places[place] for place in rows.kept], tuple(sorted(bad)))


def _is_ours(columns: frozenset[str]) -> bool:
    return len(_EDGES & set(map(_field, columns))) == len(_EDGES)


def _check(columns: frozenset[str]) -> None:
    if not _is_ours(columns):
        raise ValueError("it has not the columns of CloudFront's log")


def _of_batch(batch: pa.RecordBatch) -> list[bytes]:
    return [orjson.dumps(row) for row in parquet.dicts(batch)]


def _of_lines(blocks: Iterator[bytes]) -> Iterator[Chunk]:
    """Records of lines; each holds the header too, so a chunk ends where these come to many bytes."""
    header: tuple[bytes, bytes] | None = None
    for cut in lines_of(blocks):
        records: list[bytes] = []
        starts: list[int] = []
        bad, size = cut.bad, 0
        for start, line in zip(cut.starts, cut.lines, strict=True):
            found = _header(line)
            if found is not None:
                header = found
            elif not line.startswith(b"#"):
                record = line if header is None else b"%s\n%s\n%s" % (*header, line)
                if records and size + len(record) > _CHUNK_BYTES:
                    yield Chunk(records, bad, starts.__getitem__)
                    records, starts, bad, size = [], [], (), 0
                records.append(record)
                starts.append(start)
                size += len(record)
        yield Chunk(records, bad, starts.__getitem__)


def _record(record: bytes) -> bytes:
    """The record as JSON with the names of fields that a column has; ValueError where it is none."""
    if record.lstrip()[:1] == b"{":
        value = orjson.loads(record)
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
    else:
        names, newline, rest = record.partition(b"\n")
        between, other, line = rest.partition(b"\n")
        if not newline or not other:
            raise ValueError("no line above it names its fields")
        if (count := line.count(between) + 1) != (fields := names.count(b" ") + 1):
            raise ValueError(f"{count} values for {fields} fields")
        pairs = zip(names.decode().split(" "), line.decode().split(between.decode()), strict=True)
        value = dict(pairs)
    found: Record = {_field(str(name)): each for name, each in value.items()}
    found[_AT] = _time(found)
    return orjson.dumps(found)


def _time(record: Record) -> object:
    if (date := record.get("date")) and (time := record.get("time")):
        return f"{text_of(date)}T{text_of(time)}Z"
    return next((value for name in _TIMES if moment(value := record.get(name)) is not None), None)
