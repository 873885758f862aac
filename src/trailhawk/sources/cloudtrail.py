"""AWS CloudTrail: management, data, network activity and Insights events, as Sentinel's AWSCloudTrail table.

Record contents: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import orjson
from msgspec import Raw, Struct

from trailhawk.kql.schema import Column, Promoted, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import ID, PAYLOAD, REST, picked
from trailhawk.native.records import Reader, Records
from trailhawk.sources import framing
from trailhawk.sources.cloudtrail_lake import event_column, events
from trailhawk.sources.direct import UNREADABLE, Direct, Layout, reader
from trailhawk.sources.json_rows import CLOUDTRAIL
from trailhawk.sources.json_text import beyond, hashed, identity, signed, tidy, tree
from trailhawk.sources.source import Chunk, Rows

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_BOOL, _TIME, _TEXT = KqlType.BOOL, KqlType.DATETIME, KqlType.STRING
_ISSUER: Final = "userIdentity.sessionContext.sessionIssuer."

# Name, type and meaning of each column, and where its value stands in a record.
_COLUMNS: Final[tuple[tuple[str, KqlType, str, str], ...]] = (
    ("TimeGenerated", _TIME, "When the API call was made or completed (eventTime), UTC.", "eventTime"),
    (
        "AdditionalEventData",
        _TEXT,
        "JSON beside request and response, such as bytes moved.",
        "additionalEventData",
    ),
    ("APIVersion", _TEXT, "API version of the call.", "apiVersion"),
    ("AwsEventId", _TEXT, "Id that CloudTrail gave the event; unique per receiving account.", "eventID"),
    ("AWSRegion", _TEXT, "Region the request was made to.", "awsRegion"),
    ("AwsRequestId", _TEXT, "Old name of AwsRequestId_; always empty.", ""),
    ("AwsRequestId_", _TEXT, "Request id from the called service; events can share one.", "requestID"),
    ("Category", _TEXT, "Management, Data, NetworkActivity or Insight.", "eventCategory"),
    ("CidrIp", _TEXT, "IPv4 ranges of a security group rule, comma separated.", "cidrIp"),
    ("CipherSuite", _TEXT, "TLS cipher suite of the request.", "tlsDetails.cipherSuite"),
    (
        "ClientProvidedHostHeader",
        _TEXT,
        "Host name the client called.",
        "tlsDetails.clientProvidedHostHeader",
    ),
    ("DestinationPort", _TEXT, "Ends of the port ranges of a security group rule.", "toPort"),
    (
        "EC2RoleDelivery",
        _TEXT,
        "How an instance got the credentials: 1.0 for IMDSv1, 2.0 for IMDSv2.",
        "userIdentity.sessionContext.ec2RoleDelivery",
    ),
    ("ErrorCode", _TEXT, "The service's error; empty if the call succeeded.", "errorCode"),
    ("ErrorMessage", _TEXT, "Text of the error.", "errorMessage"),
    ("EventName", _TEXT, "The action, such as GetObject.", "eventName"),
    ("EventSource", _TEXT, "The service called, such as s3.amazonaws.com.", "eventSource"),
    ("EventTypeName", _TEXT, "Origin of the event, such as AwsApiCall or AwsServiceEvent.", "eventType"),
    ("EventVersion", _TEXT, "Version of the record's format; 1.10 is above 1.9.", "eventVersion"),
    ("IpProtocol", _TEXT, "Protocols of a security group rule.", "ipProtocol"),
    ("ManagementEvent", _BOOL, "Whether this is a management event.", "managementEvent"),
    ("ReadOnly", _BOOL, "Whether the call only reads.", "readOnly"),
    ("RecipientAccountId", _TEXT, "Account whose trail received the event.", "recipientAccountId"),
    ("RequestParameters", _TEXT, "JSON of what was asked; empty if null.", "requestParameters"),
    ("Resources", _TEXT, "JSON list of the resources touched.", "resources"),
    ("ResponseElements", _TEXT, "JSON of the answer of a call that changes something.", "responseElements"),
    ("ServiceEventDetails", _TEXT, "JSON details of a service event.", "serviceEventDetails"),
    (
        "SessionCreationDate",
        _TIME,
        "When the temporary credentials were issued.",
        "userIdentity.sessionContext.attributes.creationDate",
    ),
    ("SessionIssuerAccountId", _TEXT, "Account of what issued the session.", _ISSUER + "accountId"),
    ("SessionIssuerArn", _TEXT, "ARN of the role or user that the session comes from.", _ISSUER + "arn"),
    ("SessionIssuerPrincipalId", _TEXT, "Internal id of the session's issuer.", _ISSUER + "principalId"),
    ("SessionIssuerType", _TEXT, "Root, IAMUser or Role.", _ISSUER + "type"),
    ("SessionIssuerUserName", _TEXT, "Name of the role or user behind the session.", _ISSUER + "userName"),
    (
        "SessionMfaAuthenticated",
        _BOOL,
        "Whether the session was opened with MFA.",
        "userIdentity.sessionContext.attributes.mfaAuthenticated",
    ),
    ("SharedEventId", _TEXT, "Same id on the copies that several accounts receive.", "sharedEventID"),
    ("SourceIpAddress", _TEXT, "Caller's address, or a service's name, as logged.", "sourceIPAddress"),
    ("SourcePort", _TEXT, "Starts of the port ranges of a security group rule.", "fromPort"),
    ("TlsVersion", _TEXT, "TLS version of the request.", "tlsDetails.tlsVersion"),
    ("UserAgent", _TEXT, "Client program as logged; S3 wraps it in brackets.", "userAgent"),
    ("UserIdentityAccessKeyId", _TEXT, "Access key that signed the request.", "userIdentity.accessKeyId"),
    ("UserIdentityAccountId", _TEXT, "Account of the caller.", "userIdentity.accountId"),
    ("UserIdentityArn", _TEXT, "ARN of the caller.", "userIdentity.arn"),
    ("UserIdentityInvokedBy", _TEXT, "Service that called for the identity.", "userIdentity.invokedBy"),
    (
        "UserIdentityPrincipalid",
        _TEXT,
        "Unique id of the caller, with its session.",
        "userIdentity.principalId",
    ),
    (
        "UserIdentityStoreArn",
        _TEXT,
        "Identity store of an Identity Center user.",
        "userIdentity.onBehalfOf.identityStoreArn",
    ),
    ("UserIdentityType", _TEXT, "Root, IAMUser, AssumedRole, AWSService and so on.", "userIdentity.type"),
    ("UserIdentityUserId", _TEXT, "Identity Center id of the user.", "userIdentity.onBehalfOf.userId"),
    ("UserIdentityUserName", _TEXT, "Name of the caller, where it has one.", "userIdentity.userName"),
    ("VpcEndpointId", _TEXT, "VPC endpoint the request came through.", "vpcEndpointId"),
)
_JSON_COLUMNS: Final = (
    "RequestParameters",
    "ResponseElements",
    "AdditionalEventData",
    "Resources",
    "ServiceEventDetails",
)
# Members of a security group rule, in the request itself (old form) or in a list of permissions.
_RULE_COLUMNS: Final = {
    "CidrIp": "ipRanges.items[*].cidrIp",
    "DestinationPort": "toPort",
    "IpProtocol": "ipProtocol",
    "SourcePort": "fromPort",
}

PLACES: Final = {place: name for name, *_, place in _COLUMNS if place and name not in _RULE_COLUMNS}
"""The column of each member of a record that has one, by its path in the record."""

_CONSTANTS: Final = {
    "OperationName": ("CloudTrail", "Always CloudTrail."),
    "SourceSystem": ("AWS", "System the rows come from."),
    "TenantId": ("00000000-0000-0000-0000-000000000000", "Workspace id; one workspace, so always the same."),
    "Type": ("AWSCloudTrail", "Name of the table."),
}

# What hunts and detections ask of the JSON columns again and again.
_PROMOTED: Final = {
    "RequestParameters": (
        "bucketName key prefix x-amz-copy-source roleArn roleSessionName roleName userName groupName groupId "
        "policyArn policyName instanceId instanceProfileName functionName secretId name"
    ),
    "ResponseElements": (
        "credentials.accessKeyId assumedRoleUser.arn assumedRoleUser.assumedRoleId accessKey.accessKeyId "
        "accessKey.userName ConsoleLogin"
    ),
    "AdditionalEventData": "bytesTransferredOut bytesTransferredIn MFAUsed AuthenticationMethod",
}

TABLE: Final = Table(
    name="AWSCloudTrail",
    description="AWS API activity recorded by CloudTrail, one row an event.",
    columns=(
        *(Column(name, kind, meaning) for name, kind, meaning, _ in _COLUMNS),
        *(Column(name, _TEXT, meaning) for name, (_, meaning) in _CONSTANTS.items()),
    ),
    promoted=tuple(
        Promoted(column, tuple(path.split(".")))
        for column, paths in _PROMOTED.items()
        for path in paths.split()
    ),
    constants={name: value for name, (value, _) in _CONSTANTS.items()},
    statistics=("EventName", "EventSource", "RecipientAccountId"),
)

_ABSENT = Raw(b"")


class _Json(Struct, gc=False):
    """The members of a record that are kept as JSON text, as slices of the record."""

    requestParameters: Raw = _ABSENT  # noqa: N815
    responseElements: Raw = _ABSENT  # noqa: N815
    additionalEventData: Raw = _ABSENT  # noqa: N815
    resources: Raw = _ABSENT
    serviceEventDetails: Raw = _ABSENT  # noqa: N815
    insightDetails: Raw = _ABSENT  # noqa: N815


_JSON = msgspec.json.Decoder(_Json)


class _LogEvent(Struct, gc=False):
    message: str = ""


class _Lookup(Struct, gc=False):
    CloudTrailEvent: str = ""


class _Wrapper(Struct, gc=False):
    """The forms a CloudTrail record can be packed in; a plain record has none of these members."""

    Records: list[Raw] | None = None
    logEvents: list[_LogEvent] | None = None  # noqa: N815
    Events: list[_Lookup] | None = None
    QueryResultRows: list[Raw] | None = None
    eventJson: Raw = _ABSENT  # noqa: N815
    eventjson: Raw = _ABSENT
    detail: Raw = _ABSENT
    eventName: Raw = _ABSENT  # noqa: N815
    message: Raw = _ABSENT
    event: Raw = _ABSENT
    cloudtrail: Raw = _ABSENT
    hit: Raw = msgspec.field(default=_ABSENT, name="_source")


class _Original(Struct, gc=False):
    original: str = ""


class _Cell(Struct, gc=False):
    """A cell of a row that a query of CloudTrail Lake gives; the column is spelled as the query spells it."""

    eventJson: str = ""  # noqa: N815
    eventjson: str = ""


_VALUE = msgspec.json.Decoder(_Wrapper | list[Raw])


_DEEPEST: Final = 3


def _unwrap(value: bytes, depth: int = 0) -> list[bytes] | None:
    """The records in a JSON value, None where it is a record itself. Raises msgspec.DecodeError."""
    packed = _VALUE.decode(value)
    if isinstance(packed, list):
        return [record for each in packed for record in _unwrapped(bytes(each), depth + 1)]
    if packed.Records is not None:
        return list(map(bytes, packed.Records))
    if packed.logEvents is not None:
        return [event.message.encode() for event in packed.logEvents]
    if packed.Events is not None:
        return [event.CloudTrailEvent.encode() for event in packed.Events]
    if packed.QueryResultRows is not None:
        return [_queried(bytes(row)) for row in packed.QueryResultRows]
    if (event := bytes(packed.eventJson) or bytes(packed.eventjson)).startswith(b'"'):
        return [msgspec.json.decode(event, type=str).encode()]
    if bytes(packed.eventName):
        return None
    if bytes(packed.detail).startswith(b"{"):
        return [bytes(packed.detail)]
    shipped = _shipped(packed) if depth < _DEEPEST else None
    return None if shipped is None else _unwrap(shipped, depth + 1) or [shipped]


def _queried(row: bytes) -> bytes:
    """The event in a row of CloudTrail Lake; the row itself, which is no record, where it has none."""
    try:
        cells = msgspec.json.decode(row, type=list[_Cell])
    except msgspec.DecodeError:
        return row
    return next((text.encode() for cell in cells if (text := cell.eventJson or cell.eventjson)), row)


def _unwrapped(value: bytes, depth: int) -> list[bytes]:
    """The records in a member of an array, which is mostly one itself."""
    if value[:1] != b"{" or depth > _DEEPEST or _SHAPE.record_start.match(value):
        return [value]
    found = _unwrap(value, depth)
    return [value] if found is None else found


def _shipped(packed: _Wrapper) -> bytes | None:
    """What a log shipper (Logstash, Filebeat) has put under a member of its own, as JSON or as text of it."""
    for raw in (bytes(packed.cloudtrail), bytes(packed.hit)):
        if raw.startswith(b"{") and b"eventSource" in raw:
            return raw
    if bytes(packed.message).startswith(b'"'):
        text = msgspec.json.decode(packed.message, type=str)
    elif bytes(packed.event).startswith(b"{"):
        text = msgspec.json.decode(packed.event, type=_Original).original
    else:
        return None
    inner = text.encode()
    return inner if inner.lstrip().startswith(b"{") and CLOUDTRAIL.search(inner) else None


_MEMBERS = b"eventVersion|userIdentity|eventTime|eventSource|eventName|eventID|awsRegion"
_NAMES = _MEMBERS + b"|@timestamp|@version"


def _cut(text: bytes, at: int) -> Records | None:
    return _reader().cut(text, at)


_SHAPE = framing.Shape(
    unwrap=_unwrap,
    cut=_cut,
    opening=re.compile(rb'\{\s*"Records"\s*:\s*\['),
    # What a shipper puts in front of a record, it also puts in front of a wrapper.
    record_start=re.compile(
        rb'\{\s*(?:"@(?:timestamp|version)"\s*:\s*(?:"[^"\\]*"|[\d.]+)\s*,\s*)*"(?:%s)"\s*:' % _MEMBERS
    ),
)
# What S3 keeps beside a digest, as `aws s3api head-object` prints it.
_SIGNATURE = rb'"Metadata"\s*:\s*\{\s*"signature(?:-algorithm)?"\s*:'
_KNOWN = re.compile(
    rb'"(?:Records|%s|logEvents|messageType|CloudTrailEvent|digest(?:Start|End)Time'
    rb'|QueryResultRows|event[jJ]son|fileHashValue)"|%s' % (_NAMES, _SIGNATURE)
)
_DIGEST = re.compile(rb'"(?:digestStartTime|digestEndTime|digestS3Object)"\s*:|%s' % _SIGNATURE)
_SIGN = re.compile(rb'"(?:fileHashValue|hashSignature|queryCompleteTime)"\s*:')
_LOOKS_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*[\[{]")

_MACROS: Final = (
    r"""CREATE MACRO zone(t) AS
        coalesce(to_minutes(try_cast(regexp_extract(t, '[-+]\d\d:?\d\d$')[:3]
            || '0' AS INTEGER) * 6 + try_cast(regexp_extract(t, '([-+])\d\d:?(\d\d)$', 1)
            || regexp_extract(t, '([-+])\d\d:?(\d\d)$', 2) AS INTEGER)), INTERVAL 0 MINUTE)""",
    # A time as text, or as seconds or milliseconds since 1970; without zone it is UTC. No time gives NULL.
    "CREATE MACRO sane(t) AS CASE WHEN year(t) BETWEEN 1970 AND 2200 THEN t END",
    """CREATE MACRO moment(t) AS CASE
        WHEN NOT t BETWEEN '0' AND ':' THEN NULL
        WHEN ends_with(t, 'Z') THEN sane(try_cast(t AS TIMESTAMP))
        WHEN try_cast(t AS DOUBLE) IS NULL THEN sane(try_cast(t AS TIMESTAMP) - zone(t))
        WHEN try_cast(t AS DOUBLE) < 1e11 THEN make_timestamp(try_cast(try_cast(t AS DOUBLE) * 1e6 AS BIGINT))
        WHEN try_cast(t AS DOUBLE) < 1e13 THEN make_timestamp(try_cast(try_cast(t AS DOUBLE) * 1e3 AS BIGINT))
    END""",
    "CREATE MACRO flag(t) AS CASE lower(t) WHEN 'true' THEN true WHEN 'false' THEN false END",
    # The old form has its members in the request itself, mostly beside an empty list.
    """CREATE MACRO rule(name, doc, many, one) AS CASE WHEN contains(name, 'SecurityGroup') THEN
        coalesce(
            nullif(json_extract_string(doc, one), ''), array_to_string(json_extract_string(doc, many), ',')
        )
    END""",
)


def _sql() -> str:
    """One SELECT from `record` (JSON text) of all that is not a slice of the record.

    Every path is asked for in one call, so that DuckDB parses a record once.
    """
    paths: dict[str, int] = {"@timestamp": 1}

    def value(path: str) -> str:
        return f"v[{paths.setdefault(path, len(paths) + 1)}]"

    def column(name: str, kind: KqlType, path: str) -> str:
        if name == "TimeGenerated":
            return f"moment(coalesce({value(path)}, {value('@timestamp')}))"
        if kind is not _TEXT:
            return f"{'flag' if kind is _BOOL else 'moment'}({value(path)})"
        if name in _RULE_COLUMNS:
            many = f"$.requestParameters.ipPermissions.items[*].{_RULE_COLUMNS[name]}"
            one = f"$.requestParameters.{path}"
            return f"coalesce(rule({value('eventName')}, record, '{many}', '{one}'), '')"
        return f"coalesce({value(path)}, '')" if path else "''"

    member = {name: path for name, _, _, path in _COLUMNS}
    selected = [
        f'{column(name, kind, path)} AS "{name}"'
        for name, kind, _, path in _COLUMNS
        if name not in _JSON_COLUMNS
    ]
    selected += [
        f'{value(".".join([member[item.column], *map(str, item.path)]))} AS "{item.hidden}"'
        for item in TABLE.promoted
    ]
    quoted = ("$" + "".join(f'."{step}"' for step in path.split(".")) for path in paths)
    literal = ", ".join(f"'{path}'" for path in quoted)
    values = f"SELECT record, json_extract_string(record, [{literal}]) AS v FROM decoded"
    return f"SELECT {', '.join(selected)} FROM ({values})"


_SQL: Final = _sql()

# What has a column, whole or in parts; the rest of a record is kept as JSON. `@version` is an export's own.
_KNOWN_MEMBERS: Final = tree(
    [path for name, _, _, path in _COLUMNS if path and name not in _RULE_COLUMNS]
    + ["@timestamp", "@version", "insightDetails"]
)
_OF_RECORDS: Final = frozenset(_MEMBERS.decode().split("|")) | {"eventType", "insightDetails"}

_AS_DELIVERED: Final = (
    *("eventVersion", "userIdentity", "eventTime", "eventSource", "eventName", "awsRegion"),
    *("sourceIPAddress", "userAgent", "errorCode", "errorMessage", "requestParameters", "responseElements"),
    *("additionalEventData", "requestID", "eventID", "readOnly", "resources", "eventType", "apiVersion"),
    *("managementEvent", "recipientAccountId", "sharedEventID", "serviceEventDetails", "vpcEndpointId"),
    *("vpcEndpointAccountId", "eventContext", "addendum", "eventCategory", "tlsDetails"),
)


@cache
def _layout() -> Layout:
    """Where the columns stand in a record as CloudTrail delivers it."""
    member = {name: path for name, _, _, path in _COLUMNS if path and name not in _RULE_COLUMNS}
    inner: dict[str, dict[str, tuple[KqlType, tuple[str, ...]]]] = {}
    for name, kind, _, path in _COLUMNS:
        if "." in member.get(name, ""):
            top, *below = path.split(".")
            inner.setdefault(top, {})[name] = (kind, tuple(below))
    plain = {name: kind for name, kind, _, path in _COLUMNS if name in member and "." not in path}
    return Layout(
        table=TABLE,
        time=member["TimeGenerated"],
        text={n: member[n] for n, kind in plain.items() if kind is _TEXT and n not in _JSON_COLUMNS},
        flags={name: member[name] for name, kind in plain.items() if kind is _BOOL},
        json={name: member[name] for name in _JSON_COLUMNS},
        inner=inner,
        known=_KNOWN_MEMBERS,
        rest=("sessionCredentialFromConsole", "vpcEndpointAccountId", "eventContext", "addendum"),
        identity=("AwsEventId", "RecipientAccountId"),
        # Security group rules are spread over columns of their own.
        special={"EventName": "SecurityGroup"},
        repeated=frozenset(plain) - {"AwsEventId", "AwsRequestId_", "SharedEventId", *_JSON_COLUMNS},
        order=_AS_DELIVERED,
    )


@cache
def _reader() -> Reader:
    return reader(_layout())


class CloudTrail:
    """CloudTrail as delivered to S3, and as recordings, exports and subscriptions write it."""

    name = "cloudtrail"
    table = TABLE
    shape = _SHAPE

    def __init__(self) -> None:
        self._local = threading.local()

    def recognises(self, name: str, head: bytes) -> bool:
        if _LOOKS_JSON.match(head) is None:
            return event_column(head) is not None
        return _KNOWN.search(head) is not None

    def is_digest(self, head: bytes) -> bool:
        if b'"eventName"' in head:
            return False
        # What proves the results of CloudTrail Lake's queries has these three.
        return _DIGEST.search(head) is not None or len(set(_SIGN.findall(head))) == 3

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        first = next(blocks, b"")
        blocks = chain((first,), blocks)
        column = event_column(first) if _LOOKS_JSON.match(first) is None else None
        return framing.chunks(blocks, _SHAPE) if column is None else events(blocks, column)

    def rows(self, records: Sequence[bytes]) -> Rows:
        import pyarrow as pa

        mapped = self._direct().rows(records)
        if mapped.table is not None and not mapped.left:
            return Rows(mapped.table, mapped.kept, ())
        careful = self._halved([records[place] for place in mapped.left])
        kept = [*mapped.kept, *(mapped.left[place] for place in careful.kept)]
        bad = tuple((mapped.left[place], reason) for place, reason in careful.bad)
        if mapped.table is None:
            return Rows(careful.table, kept, bad)
        order = np.argsort(np.asarray(kept, np.int64))
        others = careful.table.select(mapped.table.schema.names).cast(mapped.table.schema)
        both = pa.concat_tables([mapped.table, others])
        return Rows(picked(both, order), [kept[place] for place in order.tolist()], bad)

    def _halved(self, records: Sequence[bytes]) -> Rows:
        """As `_careful`; a record that alone takes more memory than there is for it is bad."""
        import duckdb
        import pyarrow as pa

        try:
            return self._careful(records)
        except (duckdb.Error, pa.ArrowException, MemoryError) as error:
            if len(records) == 1:
                reason = f"not a CloudTrail record that can be read: {str(error).partition(chr(10))[0][:200]}"
                return Rows(self._careful([]).table, [], ((0, reason),))
        half = len(records) // 2
        first, second = self._halved(records[:half]), self._halved(records[half:])
        kept = [*first.kept, *(half + place for place in second.kept)]
        bad = (*first.bad, *((half + place, reason) for place, reason in second.bad))
        return Rows(pa.concat_tables([first.table, second.table]), kept, bad)

    def _careful(self, records: Sequence[bytes]) -> Rows:
        """Rows of records of any form, record by record."""
        import pyarrow as pa

        texts: list[bytes] = []
        parts: list[_Json] = []
        hashes: list[int] = []
        rests: list[bytes | None] = []
        kept: list[int] = []
        bad: list[tuple[int, str]] = []
        for place, text in enumerate(records):
            try:
                value = orjson.loads(text)  # proves that the whole record is valid JSON in UTF-8
                if isinstance(value, dict) and isinstance(inner := _lake_event(value), str):
                    text = inner.encode()
                    value = orjson.loads(text)
                payload = text
                if isinstance(value, dict) and (rewritten := _rewritten(value)) is not None:
                    value = rewritten
                    text = orjson.dumps(rewritten)
                part = _JSON.decode(text)
                is_shipped = isinstance(value, dict) and "@timestamp" in value
                payload = _delivered(value) if is_shipped else payload
                rest = beyond(value, _KNOWN_MEMBERS) if isinstance(value, dict) else None
                rest_text = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS) if rest else None
            except (ValueError, orjson.JSONEncodeError, *UNREADABLE) as error:
                bad.append((place, f"not a CloudTrail record: {error}"))
                continue
            if is_shipped and _OF_RECORDS.isdisjoint(value):
                bad.append((place, "no CloudTrail record: it has none of the members of one"))
                continue
            texts.append(text)
            parts.append(part)
            hashes.append(signed(hashed(payload)))
            rests.append(rest_text)
            kept.append(place)
        table = _with_hashes(self._select(texts, parts), hashes)
        table = table.append_column(REST, pa.array(rests, pa.binary()).cast(pa.string()))
        timed = table["TimeGenerated"].is_valid()
        if table["TimeGenerated"].null_count:
            has_time = timed.to_pylist()
            for place, text, has in zip(kept, texts, has_time, strict=True):
                if not has:
                    bad.append((place, _no_time(text)))
            kept = [place for place, has in zip(kept, has_time, strict=True) if has]
            table = table.filter(timed)
        return Rows(table, kept, tuple(sorted(bad)))

    def _select(self, texts: Sequence[bytes], parts: Sequence[_Json]) -> pa.Table:
        """The table's stored and promoted columns."""
        import pyarrow as pa

        connection = self._connection()
        connection.register("decoded", pa.table({"record": pa.array(texts, pa.binary()).cast(pa.string())}))
        try:
            table = connection.sql(_SQL).to_arrow_table()
        finally:
            connection.unregister("decoded")
        for name in _JSON_COLUMNS:
            member = name[0].lower() + name[1:]
            slices = [bytes(getattr(part, member)) for part in parts]
            if name == "AdditionalEventData":
                slices = list(map(_insight, parts, slices))
            table = table.append_column(name, _json(slices))
        return table

    def _direct(self) -> Direct:
        direct: Direct | None = getattr(self._local, "direct", None)
        if direct is None:
            direct = self._local.direct = Direct(_layout(), _reader(), self._connection)
        return direct

    def _connection(self) -> duckdb.DuckDBPyConnection:
        connection: duckdb.DuckDBPyConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            import duckdb

            connection = duckdb.connect(config={"memory_limit": "1GB", "threads": 1})
            for macro in _MACROS:
                connection.execute(macro)
            self._local.connection = connection
        return connection


def _no_time(text: bytes) -> str:
    record = orjson.loads(text)
    found = record.get("eventTime", record.get("@timestamp"))
    if isinstance(found, list | dict):
        return "eventTime is no time: a list or an object"  # perhaps nested deeper than str() goes
    return "no eventTime" if found is None else f"eventTime is no time: {str(found)[:64]!r}"


def _lake_event(row: dict[str, object]) -> object:
    """The event in a row of CloudTrail Lake that has other columns of the event too."""
    return row.get("eventJson") or row.get("eventjson")


def _rewritten(value: dict[str, object]) -> dict[str, object] | None:
    """An aggregated event in the members of the others, None for any other record.

    It counts the calls of five minutes: its time is their start, its counts go into additionalEventData.
    Format: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-aggregated-events.html
    """
    window = value.get("timeWindow")
    if value.get("eventType") != _AGGREGATED or not isinstance(window, dict):
        return None
    record = {name: item for name, item in value.items() if name not in _OF_AGGREGATED}
    counted = {name: value[name] for name in ("timeWindow", "summary") if name in value}
    return {
        "eventTime": window.get("windowStart"),
        "eventID": value.get("eventId"),
        "recipientAccountId": value.get("accountId"),
        "additionalEventData": counted,
        **record,
    }


_AGGREGATED: Final = "AwsAggregatedEvent"
_OF_AGGREGATED: Final = frozenset(("accountId", "eventId", "timeWindow", "summary"))


def _delivered(value: dict[str, object]) -> bytes:
    """A record that Logstash has written, as AWS had delivered it: its codec moves the time to `@timestamp`.

    So the same event is known again, whichever way it comes.
    """
    record = {name: item for name, item in value.items() if name not in ("@timestamp", "@version")}
    record.setdefault("eventTime", str(value["@timestamp"]).replace(".000Z", "Z"))
    return orjson.dumps(record)


def _with_hashes(table: pa.Table, payloads: Sequence[int]) -> pa.Table:
    """The table with the hashes of identity (the event's id in the account that received it) and payload."""
    import pyarrow as pa

    events, accounts = table["AwsEventId"].to_pylist(), table["RecipientAccountId"].to_pylist()
    ids = [
        signed(identity(event, account)) if event else None
        for event, account in zip(events, accounts, strict=True)
    ]
    table = table.append_column(ID, pa.array(ids, pa.int64()))
    return table.append_column(PAYLOAD, pa.array(payloads, pa.int64()))


def _insight(part: _Json, additional: bytes) -> bytes:
    """Insights events say what they found in a member without a column; it goes into AdditionalEventData."""
    details = bytes(part.insightDetails)
    if not details or additional not in (b"", b"null"):
        return additional
    return b'{"insightDetails":' + details + b"}"


def _json(slices: list[bytes]) -> pa.Array:
    """JSON slices as text, '' for absent and null; only those with a blank or an escape are rewritten."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.array(slices, pa.binary()).cast(pa.string())
    text = pc.if_else(pc.equal(text, "null"), "", text)
    untidy = pc.indices_nonzero(pc.match_substring_regex(text, r"[ \t\r\n]|\\[u/]")).to_pylist()
    if not untidy:
        return text
    tidied = text.to_pylist()
    for index in untidy:
        tidied[index] = tidy(tidied[index])
    return pa.array(tidied, pa.string())
