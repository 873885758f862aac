"""Results of SQL over AWS logs, by Athena and CloudTrail Lake: CSV, or the answers of GetQueryResults.

Columns are named as AWS's documentation names them in its statements to create the tables. A struct comes as
text without quotes, `{type=IAMUser, principalid=AIDA}`: it is read where it can be read in one way alone.
CloudTrail Lake writes request and answer so too, with names of anybody's choice: such a row is refused, and
`eventJson` among the columns gives the whole event.
Tables: https://docs.aws.amazon.com/athena/latest/ug/create-cloudtrail-table.html ,
https://docs.aws.amazon.com/athena/latest/ug/vpc-flow-logs-create-table-statement.html ,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-s3-access-logs-to-identify-requests.html
"""

from __future__ import annotations

import re
from typing import Final

import orjson

from trailhawk.sources.cloudtrail import CloudTrail
from trailhawk.sources.converted import TableSource
from trailhawk.sources.json_rows import Record, text_of
from trailhawk.sources.s3_access import S3_ACCESS
from trailhawk.sources.vpc_flow import FIELDS, VpcFlow, field_of

# What the documentation's statements divide tables by; it says nothing of a record.
_OF_TABLES: Final = """
account accid region date year month day hour timestamp aws-account-id aws-region aws-service
"""
_PARTITIONS: Final = frozenset(_OF_TABLES.split())

# CloudTrail

_OF_EVENTS: Final = """
eventVersion userIdentity eventTime eventSource eventName awsRegion sourceIPAddress userAgent errorCode
errorMessage requestParameters responseElements additionalEventData requestID eventID readOnly resources
eventType apiVersion managementEvent recipientAccountId serviceEventDetails sharedEventID vpcEndpointId
vpcEndpointAccountId eventCategory addendum sessionCredentialFromConsole edgeDeviceDetails tlsDetails
insightDetails
"""
_MEMBERS: Final = {name.lower(): name for name in _OF_EVENTS.split()}
_JSON: Final = (
    "requestParameters",
    "responseElements",
    "additionalEventData",
    "serviceEventDetails",
    "insightDetails",
    "edgeDeviceDetails",
    "addendum",
)
_STRUCTS: Final = ("tlsDetails", "resources")
_OF_STRUCTS: Final = """
type principalId arn accountId accessKeyId userName invokedBy sessionContext identityProvider credentialId
onBehalfOf inScopeOf attributes mfaAuthenticated creationDate sessionIssuer webIdFederationData
federatedProvider ec2RoleDelivery sourceIdentity ec2IssuedInVpc assumedRoot userId identityStoreArn
issuerType credentialsIssuedTo sourceArn sourceAccount tlsVersion cipherSuite clientProvidedHostHeader
keyExchange
"""
_INNER: Final = {name.lower(): name for name in _OF_STRUCTS.split()}
_MEMBER: Final = re.compile(r"([A-Za-z0-9_]+)=")
_VALUE: Final = re.compile(r"(.*?)(?=, [A-Za-z0-9_]+=|\}|\{|\Z)", re.DOTALL)
_DEEPEST: Final = 6
_OF_NOBODY: Final = ("", "null")
_TELLING: Final = frozenset(("eventname", "eventsource", "eventtime"))


def struct(text: str) -> Record:
    """A struct in CloudTrail's spelling. ValueError where it can be read in other ways too.

    >>> struct("{type=AssumedRole, username=null, sessioncontext={attributes={mfaauthenticated=false}}}")
    {'type': 'AssumedRole', 'sessionContext': {'attributes': {'mfaAuthenticated': 'false'}}}
    """
    found, end = _struct(text, 0, 0)
    if end != len(text):
        raise ValueError(f"it goes on behind its end: {text[end : end + 32]!r}")
    return found


def _struct(text: str, at: int, depth: int) -> tuple[Record, int]:
    if not text.startswith("{", at) or depth > _DEEPEST:
        raise ValueError(f"no struct at {text[at : at + 32]!r}")
    found: dict[str, object] = {}
    at += 1
    while not text.startswith("}", at):
        member = _MEMBER.match(text, at)
        if member is None or (name := _INNER.get(member[1].lower())) is None:
            raise ValueError(f"no member of CloudTrail's at {text[at : at + 32]!r}")
        if name in found:
            raise ValueError(f"{name} twice: where a value ends cannot be told")
        at = member.end()
        if text.startswith("{", at):
            found[name], at = _struct(text, at, depth + 1)
        else:
            value = _VALUE.match(text, at)
            found[name] = None if value is None or value[1] == "null" else value[1]
            at = value.end() if value else at
        if text.startswith(", ", at):
            at += 2
        elif not text.startswith("}", at):
            raise ValueError(f"where the value of {name} ends cannot be told")
    return {name: value for name, value in found.items() if value is not None}, at + 1


def _structs(text: str) -> list[Record]:
    """A list of structs."""
    found: list[Record] = []
    at = 1
    while not text.startswith("]", at):
        made, at = _struct(text, at, 0)
        found.append({"ARN" if name == "arn" else name: value for name, value in made.items()})
        at += 2 if text.startswith(", ", at) else 0
    if at != len(text) - 1:
        raise ValueError("it goes on behind its end")
    return found


def as_cloudtrail(row: Record) -> Record:
    """The event of a row. ValueError for a row that cannot be read in one way alone."""
    record: Record = {}
    for column, value in row.items():
        name = _MEMBERS.get(column.lower(), column)
        if value is None or value in _OF_NOBODY or name.lower() in _PARTITIONS:
            continue
        text = text_of(value)
        if name == "userIdentity":
            record[name] = _identity(text)
        elif name in _STRUCTS:
            record |= _part(name, text)
        elif name in _JSON:
            record[name] = _json(name, text)
        else:
            record[name] = value
    return record


def _identity(text: str) -> object:
    try:
        return orjson.loads(text) if text.startswith('{"') else struct(text)
    except ValueError as error:
        raise ValueError(f"useridentity: {error}") from None


def _part(name: str, text: str) -> Record:
    """The member; under another name its text, where that cannot be read in one way alone."""
    try:
        if text.startswith(('{"', '[{"')):
            return {name: orjson.loads(text)}
        return {name: _structs(text) if text.startswith("[") else struct(text)}
    except ValueError:
        return {f"{name} as text": text}


def _json(name: str, text: str) -> object:
    if not text.startswith(("{", "[")):
        return text
    try:
        return orjson.loads(text)
    except ValueError:
        raise ValueError(
            f"{name.lower()} is no JSON, so that its values cannot be told apart: ask for eventJson"
        ) from None


def _is_cloudtrail(row: Record) -> bool:
    names = {name.lower() for name in row}
    return names >= _TELLING and "eventjson" not in names


# Flow logs

_BLANK: Final = re.compile(r"\s")


def as_flow(row: Record) -> bytes:
    """The flow's values under a header of their own."""
    values = {field: value for name, value in row.items() if (field := field_of(name)).encode() in FIELDS}
    # A value with a blank would shift the ones behind it.
    texts = [_BLANK.sub("_", text_of(value)) or "-" for value in values.values()]
    return f"{' '.join(values)}\n{' '.join(texts)}".encode()


def _is_flow(row: Record) -> bool:
    fields = {field_of(name) for name in row}
    return (
        fields >= {"srcaddr", "dstaddr"}
        and bool(fields & {"start", "end"})
        and ({field for field in fields if field.encode() not in FIELDS} <= _PARTITIONS)
    )


# S3 server access logs

_OF_LINES: Final = """
bucketowner bucket_name requestdatetime remoteip requester requestid operation key request_uri httpstatus
errorcode bytessent objectsize totaltime turnaroundtime referrer useragent versionid hostid sigv ciphersuite
authtype endpoint tlsversion accesspointarn aclrequired
"""
_ORDER: Final = _OF_LINES.split()
_QUOTED: Final = ("request_uri", "referrer", "useragent")
_NEEDED: Final = 18
"""So many columns every line has; the others came with the years."""


def as_access(row: Record) -> bytes:
    """The line of the log. ValueError where a value could not stand in one."""
    by_name = {name.lower(): text_of(value) for name, value in row.items()}
    words: list[str] = []
    for place, name in enumerate(_ORDER):
        if name not in by_name:
            if place < _NEEDED:
                raise ValueError(f"no {name}")
            break
        text = by_name[name] or "-"
        if name == "requestdatetime":
            text = f"[{text.strip('[]')}]"
        elif name in _QUOTED:
            text = text if text == "-" or text[:1] == '"' else f'"{text}"'
        elif _BLANK.search(text):
            raise ValueError(f"{name} has a blank in it")
        words.append(text)
    return " ".join(words).encode()


def _is_access(row: Record) -> bool:
    return {name.lower() for name in row} >= set(_ORDER[:_NEEDED])


ATHENA: Final = (
    TableSource(
        "athena-cloudtrail",
        CloudTrail(),
        known=_is_cloudtrail,
        convert=as_cloudtrail,
        what="a row of CloudTrail's events",
    ),
    TableSource(
        "athena-vpcflow",
        VpcFlow(),
        known=_is_flow,
        convert=as_flow,
        what="a row of flow logs",
        is_kept=lambda name: field_of(name).encode() in FIELDS,
    ),
    TableSource(
        "athena-s3access",
        S3_ACCESS,
        known=_is_access,
        convert=as_access,
        what="a row of access logs",
        is_kept=lambda name: name.lower() in _ORDER,
    ),
)
