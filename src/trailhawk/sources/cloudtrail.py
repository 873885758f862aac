"""AWS CloudTrail: management, data, network activity and Insights events, as Sentinel's AWSCloudTrail table.

Record contents: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
import xxhash
from msgspec import Raw, Struct, field

from trailhawk.kql.schema import Column, Promoted, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import ID, PAYLOAD
from trailhawk.sources import framing
from trailhawk.sources.json_text import canonical_hash, signed, tidy
from trailhawk.sources.source import Chunk, Rows

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_BOOL, _TIME = KqlType.BOOL, KqlType.DATETIME
_RULE: Final = "$.ipPermissions.items[*]."

# Name, type and meaning of each column, and the SQL that makes it from the columns of `_arrow`.
_COLUMNS: Final[tuple[tuple[str, KqlType, str, str], ...]] = (
    (
        "TimeGenerated",
        _TIME,
        "When the API call was made or completed (eventTime), UTC.",
        "moment(event_time)",
    ),
    (
        "AdditionalEventData",
        KqlType.STRING,
        "JSON beside request and response, such as bytes moved.",
        "additionalEventData",
    ),
    ("APIVersion", KqlType.STRING, "API version of the call.", "apiVersion"),
    (
        "AwsEventId",
        KqlType.STRING,
        "Id that CloudTrail gave the event; unique per receiving account.",
        "eventID",
    ),
    ("AWSRegion", KqlType.STRING, "Region the request was made to.", "awsRegion"),
    ("AwsRequestId", KqlType.STRING, "Old name of AwsRequestId_; always empty.", "''"),
    (
        "AwsRequestId_",
        KqlType.STRING,
        "Request id from the called service; events can share one.",
        "requestID",
    ),
    ("Category", KqlType.STRING, "Management, Data, NetworkActivity or Insight.", "eventCategory"),
    (
        "CidrIp",
        KqlType.STRING,
        "IPv4 ranges of a security group rule in the request, comma separated.",
        f"rule(eventName, requestParameters, '{_RULE}ipRanges.items[*].cidrIp', '$.cidrIp')",
    ),
    ("CipherSuite", KqlType.STRING, "TLS cipher suite of the request.", "tls_cipherSuite"),
    (
        "ClientProvidedHostHeader",
        KqlType.STRING,
        "Host name the client called.",
        "tls_clientProvidedHostHeader",
    ),
    (
        "DestinationPort",
        KqlType.STRING,
        "Ends of port ranges of a security group rule.",
        f"rule(eventName, requestParameters, '{_RULE}toPort', '$.toPort')",
    ),
    (
        "EC2RoleDelivery",
        KqlType.STRING,
        "How an instance got the credentials: 1.0 for IMDSv1, 2.0 for IMDSv2.",
        "delivery",
    ),
    ("ErrorCode", KqlType.STRING, "The service's error; empty if the call succeeded.", "errorCode"),
    ("ErrorMessage", KqlType.STRING, "Text of the error.", "errorMessage"),
    ("EventName", KqlType.STRING, "The action, such as GetObject.", "eventName"),
    ("EventSource", KqlType.STRING, "The service called, such as s3.amazonaws.com.", "eventSource"),
    (
        "EventTypeName",
        KqlType.STRING,
        "Origin of the event, such as AwsApiCall or AwsServiceEvent.",
        "eventType",
    ),
    ("EventVersion", KqlType.STRING, "Version of the record's format; 1.10 is above 1.9.", "eventVersion"),
    (
        "IpProtocol",
        KqlType.STRING,
        "Protocols of a security group rule.",
        f"rule(eventName, requestParameters, '{_RULE}ipProtocol', '$.ipProtocol')",
    ),
    ("ManagementEvent", _BOOL, "Whether this is a management event.", "flag(managementEvent)"),
    ("ReadOnly", _BOOL, "Whether the call only reads.", "flag(readOnly)"),
    ("RecipientAccountId", KqlType.STRING, "Account whose trail received the event.", "recipientAccountId"),
    ("RequestParameters", KqlType.STRING, "JSON of what was asked; empty if null.", "requestParameters"),
    ("Resources", KqlType.STRING, "JSON list of the resources touched.", "resources"),
    (
        "ResponseElements",
        KqlType.STRING,
        "JSON of the answer of a call that changes something.",
        "responseElements",
    ),
    ("ServiceEventDetails", KqlType.STRING, "JSON details of a service event.", "serviceEventDetails"),
    (
        "SessionCreationDate",
        _TIME,
        "When the temporary credentials were issued.",
        "moment(session_created)",
    ),
    ("SessionIssuerAccountId", KqlType.STRING, "Account of what issued the session.", "issuer_accountId"),
    (
        "SessionIssuerArn",
        KqlType.STRING,
        "ARN of the role or user that the session comes from.",
        "issuer_arn",
    ),
    (
        "SessionIssuerPrincipalId",
        KqlType.STRING,
        "Internal id of the session's issuer.",
        "issuer_principalId",
    ),
    ("SessionIssuerType", KqlType.STRING, "Root, IAMUser or Role.", "issuer_type"),
    (
        "SessionIssuerUserName",
        KqlType.STRING,
        "Name of the role or user behind the session.",
        "issuer_userName",
    ),
    ("SessionMfaAuthenticated", _BOOL, "Whether the session was opened with MFA.", "flag(mfa)"),
    (
        "SharedEventId",
        KqlType.STRING,
        "Same id on the copies that several accounts receive.",
        "sharedEventID",
    ),
    (
        "SourceIpAddress",
        KqlType.STRING,
        "Caller's address, or a service's name, as logged.",
        "sourceIPAddress",
    ),
    (
        "SourcePort",
        KqlType.STRING,
        "Starts of port ranges of a security group rule.",
        f"rule(eventName, requestParameters, '{_RULE}fromPort', '$.fromPort')",
    ),
    ("TlsVersion", KqlType.STRING, "TLS version of the request.", "tls_tlsVersion"),
    ("UserAgent", KqlType.STRING, "Client program as logged; S3 wraps it in brackets.", "userAgent"),
    (
        "UserIdentityAccessKeyId",
        KqlType.STRING,
        "Access key that signed the request.",
        "identity_accessKeyId",
    ),
    ("UserIdentityAccountId", KqlType.STRING, "Account of the caller.", "identity_accountId"),
    ("UserIdentityArn", KqlType.STRING, "ARN of the caller.", "identity_arn"),
    (
        "UserIdentityInvokedBy",
        KqlType.STRING,
        "Service that called on the identity's behalf.",
        "identity_invokedBy",
    ),
    (
        "UserIdentityPrincipalid",
        KqlType.STRING,
        "Unique id of the caller, with the session's name.",
        "identity_principalId",
    ),
    (
        "UserIdentityStoreArn",
        KqlType.STRING,
        "Identity store of an Identity Center user.",
        "owner_identityStoreArn",
    ),
    (
        "UserIdentityType",
        KqlType.STRING,
        "Root, IAMUser, AssumedRole, AWSService and so on.",
        "identity_type",
    ),
    ("UserIdentityUserId", KqlType.STRING, "Identity Center id of the user.", "owner_userId"),
    ("UserIdentityUserName", KqlType.STRING, "Name of the caller, where it has one.", "identity_userName"),
    ("VpcEndpointId", KqlType.STRING, "VPC endpoint the request came through.", "vpcEndpointId"),
)

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
        *(Column(name, KqlType.STRING, meaning) for name, (_, meaning) in _CONSTANTS.items()),
    ),
    promoted=tuple(
        Promoted(column, tuple(path.split(".")))
        for column, paths in _PROMOTED.items()
        for path in paths.split()
    ),
    constants={name: value for name, (value, _) in _CONSTANTS.items()},
    statistics=("EventName", "EventSource", "RecipientAccountId"),
)

_Text = str | None
_Flag = str | bool | None
_ABSENT = Raw(b"")


class _Issuer(Struct, gc=False):
    type: _Text = None
    principalId: _Text = None  # noqa: N815
    arn: _Text = None
    accountId: _Text = None  # noqa: N815
    userName: _Text = None  # noqa: N815


class _Attributes(Struct, gc=False):
    creationDate: _Text = None  # noqa: N815
    mfaAuthenticated: _Flag = None  # noqa: N815


class _Session(Struct, gc=False):
    sessionIssuer: _Issuer | None = None  # noqa: N815
    attributes: _Attributes | None = None
    ec2RoleDelivery: _Text = None  # noqa: N815


class _Owner(Struct, gc=False):
    userId: _Text = None  # noqa: N815
    identityStoreArn: _Text = None  # noqa: N815


class _Identity(Struct, gc=False):
    type: _Text = None
    principalId: _Text = None  # noqa: N815
    arn: _Text = None
    accountId: _Text = None  # noqa: N815
    accessKeyId: _Text = None  # noqa: N815
    userName: _Text = None  # noqa: N815
    invokedBy: _Text = None  # noqa: N815
    sessionContext: _Session | None = None  # noqa: N815
    onBehalfOf: _Owner | None = None  # noqa: N815


class _Tls(Struct, gc=False):
    tlsVersion: _Text = None  # noqa: N815
    cipherSuite: _Text = None  # noqa: N815
    clientProvidedHostHeader: _Text = None  # noqa: N815


class _Record(Struct, gc=False):
    eventTime: str | int | float | None = None  # noqa: N815
    timestamp: str | int | float | None = field(name="@timestamp", default=None)
    eventID: _Text = None  # noqa: N815
    recipientAccountId: _Text = None  # noqa: N815
    awsRegion: _Text = None  # noqa: N815
    apiVersion: _Text = None  # noqa: N815
    requestID: _Text = None  # noqa: N815
    eventCategory: _Text = None  # noqa: N815
    errorCode: _Text = None  # noqa: N815
    errorMessage: _Text = None  # noqa: N815
    eventName: _Text = None  # noqa: N815
    eventSource: _Text = None  # noqa: N815
    eventType: _Text = None  # noqa: N815
    eventVersion: _Text = None  # noqa: N815
    managementEvent: _Flag = None  # noqa: N815
    readOnly: _Flag = None  # noqa: N815
    sharedEventID: _Text = None  # noqa: N815
    sourceIPAddress: _Text = None  # noqa: N815
    userAgent: _Text = None  # noqa: N815
    vpcEndpointId: _Text = None  # noqa: N815
    requestParameters: Raw = _ABSENT  # noqa: N815
    responseElements: Raw = _ABSENT  # noqa: N815
    additionalEventData: Raw = _ABSENT  # noqa: N815
    resources: Raw = _ABSENT
    serviceEventDetails: Raw = _ABSENT  # noqa: N815
    insightDetails: Raw = _ABSENT  # noqa: N815
    userIdentity: _Identity | None = None  # noqa: N815
    tlsDetails: _Tls | None = None  # noqa: N815


_TEXTS: Final = _Record.__struct_fields__[2:20]
_JSONS: Final = (
    "requestParameters",
    "responseElements",
    "additionalEventData",
    "resources",
    "serviceEventDetails",
)
_RECORD = msgspec.json.Decoder(_Record)
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_NO_IDENTITY, _NO_TLS, _NO_SESSION, _NO_OWNER = _Identity(), _Tls(), _Session(), _Owner()
_NO_ISSUER, _NO_ATTRIBUTES = _Issuer(), _Attributes()


class _LogEvent(Struct, gc=False):
    message: str = ""


class _Lookup(Struct, gc=False):
    CloudTrailEvent: str = ""


class _Wrapper(Struct, gc=False):
    """The forms a CloudTrail record can be packed in; a plain record has none of these members."""

    Records: list[Raw] | None = None
    logEvents: list[_LogEvent] | None = None  # noqa: N815
    Events: list[_Lookup] | None = None
    detail: Raw = _ABSENT
    eventName: Raw = _ABSENT  # noqa: N815


_VALUE = msgspec.json.Decoder(_Wrapper | list[Raw])


def _unwrap(value: bytes) -> list[bytes] | None:
    """The records in a JSON value, None where it is a record itself. Raises msgspec.DecodeError."""
    packed = _VALUE.decode(value)
    if isinstance(packed, list):
        return list(map(bytes, packed))
    if packed.Records is not None:
        return list(map(bytes, packed.Records))
    if packed.logEvents is not None:
        return [event.message.encode() for event in packed.logEvents]
    if packed.Events is not None:
        return [event.CloudTrailEvent.encode() for event in packed.Events]
    if bytes(packed.detail).startswith(b"{") and not bytes(packed.eventName):
        return [bytes(packed.detail)]
    return None


_NAMES = b"eventVersion|userIdentity|eventTime|eventSource|eventName|eventID|awsRegion|@timestamp|@version"
_SHAPE = framing.Shape(
    unwrap=_unwrap,
    opening=re.compile(rb'\{\s*"Records"\s*:\s*\['),
    record_start=re.compile(rb'\{\s*"(?:%s)"\s*:' % _NAMES),
)
_KNOWN = re.compile(
    rb'"(?:Records|%s|logEvents|messageType|CloudTrailEvent|detail-type|digestEndTime)"' % _NAMES
)
_DIGEST = re.compile(rb'"(?:digestStartTime|digestEndTime|digestS3Object)"\s*:')
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
    """CREATE MACRO rule(name, doc, many, one) AS CASE
        WHEN NOT contains(name, 'SecurityGroup') OR doc = '' THEN ''
        WHEN contains(doc, '"ipPermissions"') THEN array_to_string(json_extract_string(doc, many), ',')
        ELSE json_extract_string(doc, one)
    END""",
)


def _sql() -> str:
    """One SELECT that makes the stored and promoted columns from the columns of `_arrow`."""
    lists, promoted = [], []
    for place, (column, paths) in enumerate(_PROMOTED.items()):
        source = next(sql for name, _, _, sql in _COLUMNS if name == column)
        quoted = ("$" + "".join(f'."{step}"' for step in path.split(".")) for path in paths.split())
        literal = ", ".join(f"'{path}'" for path in quoted)
        lists.append(f"json_extract_string(nullif({source}, ''), [{literal}]) AS hot{place}")
        names = [item.hidden for item in TABLE.promoted if item.column == column]
        promoted += [f'hot{place}[{index}] AS "{name}"' for index, name in enumerate(names, 1)]
    columns = [
        f"coalesce({sql}, '') AS \"{name}\"" if kind is KqlType.STRING else f'{sql} AS "{name}"'
        for name, kind, _, sql in _COLUMNS
    ]
    return (
        f"SELECT {', '.join(columns)}, {', '.join(promoted)}, {ID}, {PAYLOAD} "
        f"FROM (SELECT *, {', '.join(lists)} FROM decoded)"
    )


_SQL: Final = _sql()


class CloudTrail:
    """CloudTrail as delivered to S3, and as recordings, exports and subscriptions write it."""

    name = "cloudtrail"
    table = TABLE

    def __init__(self) -> None:
        self._local = threading.local()

    def recognises(self, name: str, head: bytes) -> bool:
        return _LOOKS_JSON.match(head) is not None and _KNOWN.search(head) is not None

    def is_digest(self, head: bytes) -> bool:
        return _DIGEST.search(head) is not None and b'"eventName"' not in head

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        return framing.chunks(blocks, _SHAPE)

    def rows(self, records: Sequence[bytes]) -> Rows:
        decoded: list[_Record] = []
        hashes: list[int] = []
        kept: list[int] = []
        bad: list[tuple[int, str]] = []
        for index, text in enumerate(records):
            try:
                # The hash comes first: it also proves that the whole record is valid JSON in UTF-8.
                payload = canonical_hash(text)
                record = _decode(text)
            except (ValueError, TypeError) as error:
                bad.append((index, f"not a CloudTrail record: {error}"))
                continue
            decoded.append(record)
            hashes.append(payload)
            kept.append(index)
        table = self._select(_arrow(decoded, hashes))
        if not table["TimeGenerated"].null_count:
            return Rows(table, kept, tuple(bad))
        timed = table["TimeGenerated"].is_valid()
        places = timed.to_pylist()
        bad += [
            (index, _no_time(record))
            for index, record, has in zip(kept, decoded, places, strict=True)
            if not has
        ]
        kept = [index for index, has in zip(kept, places, strict=True) if has]
        return Rows(table.filter(timed), kept, tuple(sorted(bad)))

    def _select(self, decoded: pa.Table) -> pa.Table:
        """The table's columns from decoded records: what is not text, and what stands inside of JSON."""
        connection = self._connection()
        connection.register("decoded", decoded)
        try:
            return connection.sql(_SQL).to_arrow_table()
        finally:
            connection.unregister("decoded")

    def _connection(self) -> duckdb.DuckDBPyConnection:
        connection: duckdb.DuckDBPyConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            import duckdb

            connection = duckdb.connect(config={"memory_limit": "1GB", "threads": 1})
            for macro in _MACROS:
                connection.execute(macro)
            self._local.connection = connection
        return connection


def _decode(text: bytes) -> _Record:
    try:
        return _RECORD.decode(text)
    except msgspec.ValidationError:
        return _lenient(text)


def _lenient(text: bytes) -> _Record:
    """A record some of whose members have another type than AWS documents: everything becomes text."""
    whole = orjson.loads(text)
    if not isinstance(whole, dict):
        raise ValueError("not a JSON object")
    slices = _MEMBERS.decode(text)
    identity = _object(whole.get("userIdentity"))
    session = _object(identity.get("sessionContext"))
    tls = _object(whole.get("tlsDetails"))
    members: dict[str, Any] = {name: _text(whole.get(name)) for name in _TEXTS}
    members |= {name: slices.get(name, _ABSENT) for name in (*_JSONS, "insightDetails")}
    return _Record(
        **members,
        eventTime=_text(whole.get("eventTime")),
        timestamp=_text(whole.get("@timestamp")),
        userIdentity=_Identity(
            **_texts(_Identity, identity),
            sessionContext=_Session(
                sessionIssuer=_Issuer(**_texts(_Issuer, _object(session.get("sessionIssuer")))),
                attributes=_Attributes(**_texts(_Attributes, _object(session.get("attributes")))),
                ec2RoleDelivery=_text(session.get("ec2RoleDelivery")),
            ),
            onBehalfOf=_Owner(**_texts(_Owner, _object(identity.get("onBehalfOf")))),
        ),
        tlsDetails=_Tls(**_texts(_Tls, tls)),
    )


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _texts(kind: type[Struct], values: dict[str, object]) -> dict[str, Any]:
    """The plain members of a struct from parsed JSON; those that are structs stay for the caller."""
    nested = ("sessionContext", "onBehalfOf")
    return {name: _text(values.get(name)) for name in kind.__struct_fields__ if name not in nested}


def _no_time(record: _Record) -> str:
    found = record.eventTime if record.eventTime is not None else record.timestamp
    return "no eventTime" if found is None else f"eventTime is no time: {str(found)[:64]!r}"


def _arrow(records: Sequence[_Record], hashes: Sequence[int]) -> pa.Table:
    """Decoded records as columns. Transposing happens in C (`zip`), a record at a time costs too much."""
    import pyarrow as pa

    identities = [record.userIdentity or _NO_IDENTITY for record in records]
    sessions = [identity.sessionContext or _NO_SESSION for identity in identities]
    columns: dict[str, pa.Array] = {}
    times = [record.eventTime if record.eventTime is not None else record.timestamp for record in records]
    columns["event_time"] = _strings(
        time if time is None or type(time) is str else str(time) for time in times
    )
    flags = ("managementEvent", "readOnly")
    for name in _TEXTS:
        values = [getattr(record, name) for record in records]
        columns[name] = _strings(map(_flag_text, values) if name in flags else values)
    for name in _JSONS:
        values = [getattr(record, name) for record in records]
        if name == "additionalEventData":
            values = [_insight(record, value) for record, value in zip(records, values, strict=True)]
        columns[name] = _json(values)
    for struct, names, items in (
        (
            "identity",
            ("type", "principalId", "arn", "accountId", "accessKeyId", "userName", "invokedBy"),
            identities,
        ),
        (
            "issuer",
            ("type", "principalId", "arn", "accountId", "userName"),
            [session.sessionIssuer or _NO_ISSUER for session in sessions],
        ),
        (
            "owner",
            ("userId", "identityStoreArn"),
            [identity.onBehalfOf or _NO_OWNER for identity in identities],
        ),
        (
            "tls",
            ("tlsVersion", "cipherSuite", "clientProvidedHostHeader"),
            [record.tlsDetails or _NO_TLS for record in records],
        ),
    ):
        for name in names:
            columns[f"{struct}_{name}"] = _strings([getattr(item, name) for item in items])
    attributes = [session.attributes or _NO_ATTRIBUTES for session in sessions]
    columns["session_created"] = _strings([item.creationDate for item in attributes])
    columns["mfa"] = _strings(map(_flag_text, [item.mfaAuthenticated for item in attributes]))
    columns["delivery"] = _strings([session.ec2RoleDelivery for session in sessions])
    columns[ID] = pa.array([_identity(record) for record in records], pa.int64())
    columns[PAYLOAD] = pa.array(hashes, pa.int64())
    return pa.table(columns)


def _identity(record: _Record) -> int | None:
    """Hash of what makes an event one and the same: its id in the account that received it."""
    if not record.eventID:
        return None
    return signed(xxhash.xxh3_64_intdigest(f"{record.eventID}\0{record.recipientAccountId or ''}".encode()))


def _insight(record: _Record, additional: Raw) -> Raw:
    """Insights events say what they found in a member that has no column."""
    details = bytes(record.insightDetails)
    if not details or len(bytes(additional)) > len(b"null"):
        return additional
    return Raw(b'{"insightDetails":' + details + b"}")


def _flag_text(value: object) -> str | None:
    if type(value) is bool:
        return "true" if value else "false"
    return value if isinstance(value, str) else None


def _strings(values: Iterable[str | None]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.string())


def _json(values: Iterable[Raw]) -> pa.Array:
    """JSON slices as text, '' for absent and null; only those with a blank or an escape are rewritten."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.array(map(bytes, values), pa.binary()).cast(pa.string())
    text = pc.if_else(pc.equal(text, "null"), "", text)
    untidy = pc.indices_nonzero(pc.match_substring_regex(text, r"[ \t\r\n]|\\[u/]")).to_pylist()
    if not untidy:
        return text
    tidied = text.to_pylist()
    for index in untidy:
        tidied[index] = tidy(tidied[index])
    return pc.if_else(pc.equal(new := pa.array(tidied, pa.string()), "null"), "", new)
