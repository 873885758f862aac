"""VPC Flow Logs as Sentinel's AWSVPCFlow table: text with or without header, and Parquet.

The fields and their order are the user's choice, so a header line says which stand in the lines below it; a
header can come again in the middle of a file. A line without header is read by the default format (version 2,
14 fields), by that of transit gateways (36 fields), or by a format that the user names, chosen by its number
of fields.
Fields: https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html ,
https://docs.aws.amazon.com/vpc/latest/tgw/tgw-flow-logs.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Final

from trailhawk.kql.types import KqlType
from trailhawk.lake.table import ID, PAYLOAD, REST, arrow_type
from trailhawk.sources import parquet
from trailhawk.sources.columns import declared
from trailhawk.sources.framing import BOM
from trailhawk.sources.lines import Lines, lines_of
from trailhawk.sources.source import BadPart, Chunk, Rows

if TYPE_CHECKING:
    import pyarrow as pa

_TEXT, _TIME, _INT, _LONG = KqlType.STRING, KqlType.DATETIME, KqlType.INT, KqlType.LONG

_LINES: Final = (
    ("TimeGenerated", _TIME, "Start of the flow's interval, UTC.", ""),
    ("AccountId", _TEXT, "Account that owns the network interface.", "account-id"),
    ("Action", _TEXT, "ACCEPT or REJECT.", "action"),
    ("AzId", _TEXT, "Id of the availability zone.", "az-id"),
    ("Bytes", _LONG, "Bytes of the flow in the interval.", "bytes"),
    ("DstAddr", _TEXT, "Destination address.", "dstaddr"),
    ("DstPort", _INT, "Destination port.", "dstport"),
    ("EcsClusterArn", _TEXT, "ARN of the ECS cluster.", "ecs-cluster-arn"),
    ("EcsClusterName", _TEXT, "Name of the ECS cluster.", "ecs-cluster-name"),
    ("EcsContainerId", _TEXT, "Id of the container.", "ecs-container-id"),
    ("EcsContainerInstanceArn", _TEXT, "ARN of the container instance.", "ecs-container-instance-arn"),
    ("EcsContainerInstanceId", _TEXT, "Id of the container instance.", "ecs-container-instance-id"),
    ("EcsSecondContainerId", _TEXT, "Id of the second container.", "ecs-second-container-id"),
    ("EcsServiceName", _TEXT, "Name of the ECS service.", "ecs-service-name"),
    ("EcsTaskArn", _TEXT, "ARN of the ECS task.", "ecs-task-arn"),
    ("EcsTaskDefinitionArn", _TEXT, "ARN of the ECS task definition.", "ecs-task-definition-arn"),
    ("EcsTaskId", _TEXT, "Id of the ECS task.", "ecs-task-id"),
    ("End", _TIME, "End of the flow's interval.", "end"),
    ("FlowDirection", _TEXT, "ingress or egress.", "flow-direction"),
    ("InstanceId", _TEXT, "Instance of the network interface.", "instance-id"),
    ("InterfaceId", _TEXT, "Network interface that was watched.", "interface-id"),
    ("LogStatus", _TEXT, "OK, NODATA (no traffic) or SKIPDATA (records were lost).", "log-status"),
    ("Packets", _INT, "Packets of the flow in the interval.", "packets"),
    ("PktDstAddr", _TEXT, "Destination address of the packet itself.", "pkt-dstaddr"),
    ("PktDstAwsService", _TEXT, "AWS service of the destination address.", "pkt-dst-aws-service"),
    ("PktSrcAddr", _TEXT, "Source address of the packet itself.", "pkt-srcaddr"),
    ("PktSrcAwsService", _TEXT, "AWS service of the source address.", "pkt-src-aws-service"),
    ("Protocol", _INT, "IANA number of the protocol.", "protocol"),
    ("Region", _TEXT, "Region of the network interface.", "region"),
    ("SrcAddr", _TEXT, "Source address.", "srcaddr"),
    ("SrcPort", _INT, "Source port.", "srcport"),
    ("Start", _TIME, "Start of the flow's interval.", "start"),
    ("SublocationId", _TEXT, "Id of the sublocation.", "sublocation-id"),
    ("SublocationType", _TEXT, "wavelength, outpost or localzone.", "sublocation-type"),
    ("SubnetId", _TEXT, "Subnet of the network interface.", "subnet-id"),
    ("TcpFlags", _INT, "TCP flags seen, as a bit mask.", "tcp-flags"),
    ("TrafficPath", _TEXT, "Path that egress traffic takes.", "traffic-path"),
    ("TrafficType", _TEXT, "IPv4, IPv6 or EFA.", "type"),
    ("Version", _INT, "Version of the flow log's fields.", "version"),
    ("VpcId", _TEXT, "VPC of the network interface.", "vpc-id"),
)
TABLE: Final = declared(
    "AWSVPCFlow",
    "Traffic of network interfaces, one row a flow and interval.",
    _LINES,
    statistics=("SrcAddr", "DstAddr", "InterfaceId"),
)
_COLUMN: Final = {place: (name, kind) for name, kind, _, place in _LINES if place}
PLACES: Final = {name: place for name, _, _, place in _LINES if place}
"""The field of each column that has one, as a header names it."""

_DEFAULT_HEADER: Final = (
    b"version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end "
    b"action log-status"
)
DEFAULT: Final = tuple(_DEFAULT_HEADER.split())
_GATEWAY_HEADER: Final = (
    b"version resource-type account-id tgw-id tgw-attachment-id tgw-src-vpc-account-id "
    b"tgw-dst-vpc-account-id tgw-src-vpc-id tgw-dst-vpc-id tgw-src-subnet-id tgw-dst-subnet-id tgw-src-eni "
    b"tgw-dst-eni tgw-src-az-id tgw-dst-az-id tgw-pair-attachment-id srcaddr dstaddr srcport dstport "
    b"protocol packets bytes start end log-status type packets-lost-no-route packets-lost-blackhole "
    b"packets-lost-mtu-exceeded packets-lost-ttl-expired tcp-flags region flow-direction "
    b"pkt-src-aws-service pkt-dst-aws-service"
)
# Fields without a column of Sentinel's; they are kept beside the row.
_MORE: Final = (
    "reject-reason resource-id encryption-status resource-type tgw-id tgw-attachment-id "
    "tgw-src-vpc-account-id tgw-dst-vpc-account-id tgw-src-vpc-id tgw-dst-vpc-id tgw-src-subnet-id "
    "tgw-dst-subnet-id tgw-src-eni tgw-dst-eni "
    "tgw-src-az-id tgw-dst-az-id tgw-pair-attachment-id packets-lost-no-route "
    "packets-lost-blackhole packets-lost-mtu-exceeded packets-lost-ttl-expired"
)
FIELDS: Final = frozenset(name.encode() for name in (*_COLUMN, *_MORE.split()))
"""The fields that AWS documents, as they stand in a header."""

_NAMES: Final = b"|".join(sorted(FIELDS, reverse=True))  # the longer of two with the same start first
_HEADER: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:%s)(?:[ \t]+[a-z][a-z0-9_-]*+)+[ \t]*+\r?(?=\n|\Z)" % _NAMES
)
# A line of the default format, told by its fixed parts.
_FLOW: Final = re.compile(
    rb"\d{1,2} (?:\d{6,16}|unknown) (?:[a-z]+-[0-9A-Za-z]+|-) \S+ \S+ (?:\d+|-) (?:\d+|-) (?:\d+|-) "
    rb"(?:\d+|-) (?:\d+|-) (?:\d+|-) (?:\d+|-) (?:ACCEPT|REJECT|-) (?:OK|NODATA|SKIPDATA)\b"
)
# The same for a transit gateway's: its id and its attachment's stand where no other format has any.
_GATEWAY: Final = re.compile(
    rb"\d{1,2} (?:TransitGateway[A-Za-z]*|-) (?:\d{6,16}|unknown|-) tgw-[0-9A-Za-z]+ "
    rb"(?:tgw-attach-[0-9A-Za-z]+|-)(?: [^ \t\r\n]++){31}[ \t]*+\r?(?=\n|\Z)"
)
_WRAPPED: Final = re.compile(rb'\A\s*\{\s*"message"\s*:\s*"' + _FLOW.pattern)
_HEADER_BYTES: Final = 4096
"""A longer line is no header: all documented fields take a quarter of it, and it stands before every line."""

_RANGE: Final = {_INT: 2**31, _LONG: 2**63}
_SECOND: Final = 1_000_000
_EARLIEST: Final = 1136073600  # 2006: AWS has no older logs, so an earlier second is a damaged number
_LATEST: Final = 7258118400  # 2200
_BATCH_ROWS: Final = 20_000
_MAX_VALUE_BYTES: Final = 8192


class VpcFlow:
    """Flow logs. `formats` are the fields of custom formats, for lines that come without a header."""

    name = "vpcflow"
    table = TABLE

    def __init__(self, formats: Sequence[Sequence[str]] = ()) -> None:
        self._formats = {len(DEFAULT): DEFAULT} | {
            len(fields): tuple(field.encode() for field in fields) for fields in formats
        }

    def recognises(self, name: str, head: bytes) -> bool:
        if head.startswith(parquet.MAGIC):
            names = parquet.columns(head)
            return _is_flow(names) or not names  # one that is damaged is set aside with its reason
        first = head[:_HEADER_BYTES]
        return (
            _HEADER.match(first) is not None
            or _FLOW.match(first.lstrip()) is not None
            or _GATEWAY.match(first.lstrip()) is not None
            or _WRAPPED.match(first) is not None
            or self._configured(first.lstrip().split(b"\n", 1)[0])
        )

    def _configured(self, line: bytes) -> bool:
        """Whether a line has the shape of a format that the user named."""
        if len(self._formats) == 1:
            return False
        values = line.split()
        fields = self._formats.get(len(values))
        if fields is None or fields == DEFAULT:
            return False
        numbers = (b"version", b"start", b"end")
        return all(
            value.isdigit() for field, value in zip(fields, values, strict=True) if field in numbers
        ) and (b"start" in fields or b"end" in fields)

    def is_digest(self, head: bytes) -> bool:
        return False

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        first = next(blocks, b"")
        if first.startswith(parquet.MAGIC):
            yield from parquet.chunks(
                chain((first,), blocks),
                _as_lines,
                check=_check,
                rows=_BATCH_ROWS,
                longest=_MAX_VALUE_BYTES,
                flat=True,
            )
            return
        layout = b""
        for cut in lines_of(chain((first,), blocks)):
            records, starts, bad = cut.lines, cut.starts, list(cut.bad)
            headers = _headers(cut)
            if headers:
                records, starts, layout = _below(headers, cut, layout, bad)
            elif layout:
                records = [layout + line for line in records]
            if b"{" in cut.text:
                records = [_message(record) for record in records]
            yield Chunk(records, tuple(bad), starts.__getitem__)

    def rows(self, records: Sequence[bytes]) -> Rows:
        groups: dict[bytes, tuple[list[int], list[bytes]]] = {}
        bad: list[tuple[int, str]] = []
        plain = groups.setdefault(_DEFAULT_HEADER, ([], []))
        width = len(DEFAULT) - 1
        for place, record in enumerate(records):
            if record.count(b" ") == width and b"\n" not in record:
                plain[0].append(place)
                plain[1].append(record)
                continue
            header, newline, line = record.rpartition(b"\n")
            if b"  " in line or b"\t" in line:
                line = b" ".join(line.split())
            values = line.count(b" ") + 1
            if newline and not _is_header(header):
                bad.append((place, "not a flow log record: more than one line"))
                continue
            if not newline:
                header = b" ".join(self._formats.get(values, ()))
                if not header and _GATEWAY.fullmatch(line):
                    header = _GATEWAY_HEADER
            if not header:
                bad.append((place, f"not a flow log record: {values} fields, and no header says which"))
            elif (fields := header.count(b" ") + 1) != values:
                bad.append((place, f"not a flow log record: {values} values for {fields} fields"))
            else:
                group = groups.setdefault(header, ([], []))
                group[0].append(place)
                group[1].append(line)
        made = [_rows(header, places, lines, bad) for header, (places, lines) in groups.items()]
        return _joined(made, sorted(bad))


@lru_cache(maxsize=64)
def _is_header(line: bytes) -> bool:
    fields = line.split()
    return _HEADER.fullmatch(line) is not None and len(set(fields)) == len(fields)


def _headers(cut: Lines) -> set[int]:
    """Where the header lines start. One without a time is of no use, so that name is looked for first."""
    if b"start" not in cut.text and b"end" not in cut.text:
        return set()
    return {
        start
        for start, line in zip(cut.starts, cut.lines, strict=True)
        if len(line) <= _HEADER_BYTES and (b"start" in line or b"end" in line) and _HEADER.fullmatch(line)
    }


def _below(
    headers: set[int], cut: Lines, layout: bytes, bad: list[BadPart]
) -> tuple[list[bytes], list[int], bytes]:
    """The lines that are no header, each under the header that holds for it; and the one that holds last.

    A record is its header and its line; under the default header, and under none, it is the line alone.
    """
    records: list[bytes] = []
    starts: list[int] = []
    for start, line in zip(cut.starts, cut.lines, strict=True):
        if start not in headers:
            records.append(layout + line)
            starts.append(start)
            continue
        fields = tuple(line.removeprefix(BOM).split())
        if not _is_header(b" ".join(fields)):
            bad.append(BadPart.of(line, start, "a header that names a field twice"))
        layout = b"" if fields == DEFAULT else b" ".join(fields) + b"\n"
    return records, starts, layout


def _message(line: bytes) -> bytes:
    """The flow in {"message": "..."}, or the line itself."""
    if not line.startswith(b"{"):
        return line
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return line
    message = value.get("message") if isinstance(value, dict) else None
    if not isinstance(message, str) or "\n" in message:
        return line
    return message.strip().encode("utf-8", "replace")


_Part = tuple["pa.Table", list[int]]


def _rows(header: bytes, places: list[int], lines: list[bytes], bad: list[tuple[int, str]]) -> _Part:
    """Rows of lines of one format, each with as many values as the header has fields."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fields = header.decode("ascii", "replace").split()
    places, lines = _readable(places, lines, bad)
    values = _values(fields, lines)
    wrong: dict[int, str] = {}
    columns: dict[str, pa.Array] = {}
    for name, kind, _, field in _LINES:
        if not field:
            continue
        text = values.get(field)
        if text is None:
            columns[name] = _nothing(kind, len(lines))
        elif kind is _TEXT:
            columns[name] = pc.if_else(pc.equal(text, "-"), "", text)
        elif kind is _TIME:
            columns[name] = _times(field, text, wrong)
        else:
            columns[name] = _numbers(field, text, kind, wrong)
    columns["TimeGenerated"] = pc.coalesce(columns["Start"], columns["End"])
    for index in pc.indices_nonzero(pc.is_null(columns["TimeGenerated"])).to_pylist():
        wrong.setdefault(index, "no start")
    count = len(lines)
    columns[ID] = pa.nulls(count, pa.int64())
    columns[PAYLOAD] = pa.repeat(pa.scalar(0, pa.int64()), count)
    columns[REST] = _rest(values, [field for field in fields if field not in _COLUMN], count)
    table = pa.table(columns)
    if wrong:
        bad += [(places[index], reason) for index, reason in sorted(wrong.items())]
        kept = [index for index in range(count) if index not in wrong]
        table, places = table.take(pa.array(kept, pa.int64())), [places[index] for index in kept]
    return table, places


def _readable(
    places: list[int], lines: list[bytes], bad: list[tuple[int, str]]
) -> tuple[list[int], list[bytes]]:
    """The lines that are text; a vertical tab, a carriage return or a NUL inside would break the reading."""
    text = b"\n".join(lines)
    if text.isascii() and _CONTROL.search(text) is None and text.count(b"\n") == max(len(lines) - 1, 0):
        return places, lines
    good: list[int] = []
    for index, line in enumerate(lines):
        if _CONTROL.search(line) or b"\n" in line:
            bad.append((places[index], "not a flow log record: a control character in the line"))
            continue
        try:
            line.decode()
        except UnicodeDecodeError:
            bad.append((places[index], "not a flow log record: not UTF-8"))
            continue
        good.append(index)
    return [places[index] for index in good], [lines[index] for index in good]


_CONTROL: Final = re.compile(rb"[\0-\x08\x0b-\x1f\x7f]")


def _values(fields: list[str], lines: list[bytes]) -> dict[str, pa.Array]:
    """The values of each field as text."""
    import pyarrow as pa
    import pyarrow.csv as csv

    if not lines:
        return {field: pa.array([], pa.string()) for field in fields}
    text = b"\n".join(lines) + b"\n"
    table = csv.read_csv(
        pa.BufferReader(text),
        read_options=csv.ReadOptions(
            column_names=fields, use_threads=False, block_size=min(len(text) + 1, 2**31 - 1)
        ),
        parse_options=csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(fields, pa.string()), strings_can_be_null=False, check_utf8=False
        ),
    )
    return {field: table[field].combine_chunks() for field in fields}


def _nothing(kind: KqlType, count: int) -> pa.Array:
    import pyarrow as pa

    return pa.repeat("", count) if kind is _TEXT else pa.nulls(count, arrow_type(kind))


def _whole(field: str, text: pa.Array, high: int, wrong: dict[int, str]) -> pa.Array:
    """Whole numbers below `high`, null for `-`; what is neither goes into `wrong` with its place."""
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = pc.equal(text, "-")
    digits = pc.and_(pc.ascii_is_decimal(text), pc.less(pc.binary_length(text), 19))
    numbers = pc.if_else(digits, text, None).cast(pa.int64())
    fits = digits if high == 2**63 else pc.fill_null(pc.less(numbers, high), False)
    lost = pc.and_not(pc.invert(missing), fits)
    for index in pc.indices_nonzero(lost).to_pylist():
        wrong.setdefault(index, f"{field} is no number: {text[index].as_py()[:64]!r}")
    return numbers if fits is digits else pc.if_else(fits, numbers, None)


def _numbers(field: str, text: pa.Array, kind: KqlType, wrong: dict[int, str]) -> pa.Array:
    return _whole(field, text, _RANGE[kind], wrong).cast(arrow_type(kind))


def _times(field: str, text: pa.Array, wrong: dict[int, str]) -> pa.Array:
    import pyarrow.compute as pc

    seconds = _whole(field, text, 2**63, wrong)
    fits = pc.and_(pc.greater_equal(seconds, _EARLIEST), pc.less(seconds, _LATEST))
    for index in pc.indices_nonzero(pc.invert(pc.fill_null(fits, True))).to_pylist():
        wrong.setdefault(index, f"{field} is no time: {text[index].as_py()[:64]!r}")
    micros = pc.multiply(pc.if_else(pc.fill_null(fits, False), seconds, None), _SECOND)
    return micros.cast(arrow_type(_TIME))


def _rest(values: dict[str, pa.Array], fields: list[str], count: int) -> pa.Array:
    """What has no column, as JSON."""
    import pyarrow as pa

    if not fields:
        return pa.nulls(count, pa.string())
    rests: list[str | None] = []
    for row in zip(*(values[field].to_pylist() for field in fields), strict=True):
        found = {field: value for field, value in zip(fields, row, strict=True) if value != "-"}
        rests.append(json.dumps(found, sort_keys=True, ensure_ascii=False) if found else None)
    return pa.array(rests, pa.string())


def _joined(parts: list[_Part], bad: list[tuple[int, str]]) -> Rows:
    """Rows of several formats in the order of their records."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [part for part in parts if part[1]] or parts[:1]
    if len(parts) == 1:
        return Rows(parts[0][0], parts[0][1], tuple(bad))
    table = pa.concat_tables([table for table, _ in parts])
    places = pa.array([place for _, kept in parts for place in kept], pa.int64())
    order = pc.sort_indices(places)
    return Rows(table.take(order), places.take(order).to_pylist(), tuple(bad))


def _check(names: frozenset[str]) -> None:
    """ValueError for columns that are none of a flow log."""
    if not _is_flow(names):
        raise ValueError("it has not the columns of a flow log")


_SPELT: Final = {
    "account": "account-id",
    "interfaceid": "interface-id",
    "sourceaddress": "srcaddr",
    "destinationaddress": "dstaddr",
    "sourceport": "srcport",
    "destinationport": "dstport",
    "numpackets": "packets",
    "numbytes": "bytes",
    "starttime": "start",
    "endtime": "end",
    "logstatus": "log-status",
}


def field_of(column: str) -> str:
    """The field that a column of a table holds, as AWS's statements to create the tables name it."""
    plain = column.lower().replace("_", "-")
    return _SPELT.get(plain, plain)


_NO_WORD: Final = re.compile(r"\A[^a-z]+|[^a-z0-9-]+")


def _is_flow(names: frozenset[str]) -> bool:
    known = {field_of(name).encode() for name in names} & FIELDS
    return bool(known & {b"start", b"end"}) and (b"interface-id" in known or len(known) >= 3)


def _as_lines(batch: pa.RecordBatch) -> list[bytes]:
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = [_NO_WORD.sub("", name.lower().replace("_", "-")) or "x" for name in batch.schema.names]
    fields = [name if (field := field_of(name)) in plain else field for name in plain]
    # A header is known by its first field; a table may have others, of the user's own naming, before it.
    order = sorted(range(len(fields)), key=lambda place: fields[place].encode() not in FIELDS)
    names = [fields[place] for place in order]
    texts = [_seconds(batch.column(place)).cast(pa.string()) for place in order]
    columns = [pc.fill_null(pc.if_else(pc.equal(text, ""), "-", text), "-") for text in texts]
    # A value with a blank would shift the ones behind it.
    columns = [pc.replace_substring_regex(column, r"\s", "_") for column in columns]
    header = " ".join(names)
    start = "" if tuple(header.encode().split()) == DEFAULT else header + "\n"
    joined = pc.binary_join_element_wise(*columns, " ")
    found: list[bytes] = pc.binary_join_element_wise(start, joined, "").cast(pa.binary()).to_pylist()
    return found


def _seconds(column: pa.Array) -> pa.Array:
    """Times as a flow log has them, where a query made them moments; other columns as they are."""
    import pyarrow as pa

    if not pa.types.is_timestamp(column.type):
        return column
    return column.cast(pa.timestamp("s", column.type.tz), safe=False).cast(pa.int64())
