"""The exfiltration manifest: which objects were read, how much of them, when, by whom, and with what.

CloudTrail's data events say it, event by event, so exactly those of the incident count. What its callers
read besides from its addresses, and no alert names, is told in one sentence: it may be theirs or the thief's.
For a bucket without any, S3's access logs say it: what the incident's callers read from the incident's
addresses. Where neither is stored, that is said, with the last moment at which one was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from trailhawk.engine.result import Engine, TimeRange
from trailhawk.incidents.lineage import unwrapped
from trailhawk.incidents.literal import fill, strings
from trailhawk.incidents.literal import moment as literal
from trailhawk.incidents.row import count, moment
from trailhawk.incidents.scope import AFTER, Scope
from trailhawk.words import counted

DATA_EVENTS, ACCESS_LOGS = "S3 data events", "S3 access logs"

OPERATIONS: Final = strings(
    ["REST.GET.OBJECT", "REST.GET.OBJECT_TORRENT", "REST.SELECT.OBJECT", "REST.COPY.OBJECT_GET"]
)
"""What access logs call the reading of an object, as a list in KQL."""

LOOK_BACK: Final = timedelta(days=30)
"""How far back it is looked for the last log of a bucket."""

_READING: Final = (
    'EventSource in ("s3.amazonaws.com", "s3express.amazonaws.com") and EventName in '
    '("GetObject", "GetObjectTorrent", "SelectObjectContent", "CopyObject", "UploadPartCopy")'
)

# A large object is read in several ranges: bytes are summed, calls counted. HeadObject gives no content. A
# copy to another bucket is a read of which no byte passes the caller: what is counted there is the answer's.
# A call across accounts is logged in both, under ids of their own and one that is shared. What no alert names
# may be all that a service reads: it is counted by bucket.
_READS = """
AWSCloudTrail
| where {reading}
| extend IsNamed = {named}
| where IsNamed or ({callers})
| project IsNamed, TimeGenerated, RequestParameters, AdditionalEventData, ErrorCode, UserIdentityArn,
    SourceIpAddress, UserIdentityPrincipalid, UserIdentityAccessKeyId, UserAgent,
    IsCopy = EventName contains "Copy",
    Call = iff(isempty(SharedEventId), AwsEventId, SharedEventId),
    Rank = strcat(iff(isempty(UserIdentityAccessKeyId), "0", "1"), AwsEventId)
| summarize arg_max(Rank, *), Named = countif(IsNamed) by Call
| extend Request = parse_json(RequestParameters)
| extend Bucket = tostring(Request.bucketName), Object = tostring(Request.key),
    Version = tostring(Request.versionId),
    Source = split(tostring(Request["x-amz-copy-source"]), "?versionId=")
| extend Path = trim_start("/", url_decode(tostring(Source[0])))
| extend FromBucket = tostring(split(Path, "/")[0])
| where not(IsCopy) or FromBucket != Bucket
| extend CopiedTo = iff(IsCopy, strcat("s3://", Bucket, "/", Object), ""),
    Bytes = iff(IsCopy, long(0), tolong(parse_json(AdditionalEventData).bytesTransferredOut))
| extend Bucket = iff(IsCopy, FromBucket, Bucket),
    Object = iff(IsCopy, substring(Path, strlen(FromBucket) + 1), Object),
    Version = iff(IsCopy, tostring(Source[1]), Version)
| extend IsNamed = Named > 0
| summarize Bytes = sumif(Bytes, isempty(ErrorCode)), Reads = countif(isempty(ErrorCode)),
    Denied = countif(isnotempty(ErrorCode)), First = min(TimeGenerated), Last = max(TimeGenerated),
    Objects = count_distinctif(Object, isempty(ErrorCode))
    by IsNamed, Bucket, Object = iff(IsNamed, Object, ""), Version = iff(IsNamed, Version, ""),
       CopiedTo = iff(IsNamed, CopiedTo, ""),
       Session = case(not(IsNamed), "", isempty(UserIdentityArn), UserIdentityPrincipalid, UserIdentityArn),
       AccessKey = iff(IsNamed, UserIdentityAccessKeyId, ""), Address = iff(IsNamed, SourceIpAddress, ""),
       Client = iff(IsNamed, UserAgent, "")
| sort by First asc, Bucket asc, Object asc
"""

# S3 writes the ARN of the session, but no access key; a key in the log is percent-encoded. A copy sends
# nothing to its caller, and the source's size is told. Who has an object already (304) is neither given it
# nor refused.
_LOGGED = """
AWSS3ServerAccess
| where Requester in {sessions} and RemoteIp in {addresses} and Bucket !in {known}
| where Operation in {operations}
| where toint(HttpStatus) != 304
| extend IsRead = toint(HttpStatus) between (200 .. 299),
    Size = iff(Operation == "REST.COPY.OBJECT_GET", tolong(ObjectSize), tolong(BytesSent))
| summarize Bytes = sumif(Size, IsRead), Reads = countif(IsRead), Denied = countif(not(IsRead)),
    First = min(TimeGenerated), Last = max(TimeGenerated)
    by Bucket, Object = url_decode(Key), Version = iff(VersionId == "-", "", VersionId), Session = Requester,
       Address = RemoteIp, Client = UserAgent
| extend AccessKey = "", CopiedTo = ""
| sort by First asc, Bucket asc, Object asc
"""

_LAST_LOGS = """
union
    (AWSCloudTrail
    | where EventSource == "s3.amazonaws.com"
    | extend Bucket = tostring(parse_json(RequestParameters).bucketName)
    | where Bucket in {buckets}
    | where EventName in {names}
    | summarize Last = max(TimeGenerated) by Bucket),
    (AWSS3ServerAccess | where Bucket in {buckets} | summarize Last = max(TimeGenerated) by Bucket)
| summarize Last = max(Last) by Bucket
"""

_NAMES: Final = strings(["GetObject", "PutObject", "HeadObject", "DeleteObject", "ListObjects"])
"""What the commonest data events are called, as a list in KQL."""

_EVERYWHERE: Final = fill(
    """
union
    (AWSCloudTrail
    | where EventSource == "s3.amazonaws.com" and EventName in {names}
    | project TimeGenerated),
    (AWSS3ServerAccess | project TimeGenerated)
| summarize Last = max(TimeGenerated) by Bucket = ""
""",
    names=_NAMES,
)
"""The last log of any bucket, under the name that `Gap` has for all."""


@dataclass(frozen=True, slots=True)
class Line:
    """One object as one caller read it. `reads` counts the calls that succeeded, `denied` the others.

    `source` is the log that says it; access logs name no access key. `copied_to` is set where it was copied
    into another bucket instead of being sent to the caller; CloudTrail does not say how large it is then.
    """

    bucket: str
    key: str
    version: str
    bytes: int
    reads: int
    denied: int
    first: datetime
    last: datetime
    session: str
    access_key: str
    address: str
    client: str
    source: str
    copied_to: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """A bucket of the incident whose reads no stored log shows, and when one did last (None: not within 30
    days before). An empty name stands for all buckets, where the incident names none."""

    bucket: str
    last: datetime | None

    @property
    def told(self) -> str:
        """What nobody knows, as a sentence."""
        of, any_of = (f" in bucket {self.bucket}", "it") if self.bucket else ("", "any bucket")
        since = "none of the 30 days before is either"
        if self.last:
            since = f"the last is of {self.last.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return (
            f"What was read{of} is not known: neither S3 data events nor access logs of {any_of} are stored "
            f"for this time; {since}."
        )


@dataclass(frozen=True, slots=True)
class Besides:
    """Reads that no alert names, by the incident's callers from its addresses, until 12 hours after it."""

    objects: int
    reads: int
    bytes: int
    denied: int
    first: datetime
    last: datetime
    query: str
    """Gives these reads, with those of the manifest in their time."""

    @property
    def told(self) -> str:
        """What else may have left, as a sentence."""
        read = f"{counted(self.reads, 'read')} of {counted(self.objects, 'object')}, {self.bytes:,} bytes"
        refused = f"{counted(self.denied, 'read')} refused"
        what = " and ".join([read] * bool(self.reads) + [refused] * bool(self.denied))
        first, last = (f"{each.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" for each in (self.first, self.last))
        when = f"at {first}" if first == last else f"from {first} to {last}"
        return (
            f"Not in the manifest, for no alert names it: {what}, by the same callers and addresses {when}."
        )


@dataclass(frozen=True, slots=True)
class Callers:
    """Whose reads count in access logs (ARNs of sessions and users) and from where, and the buckets that the
    incident names."""

    sessions: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What left. Objects that were only asked for, and refused, stand in `lines` with no reads."""

    lines: tuple[Line, ...]
    gaps: tuple[Gap, ...] = ()
    besides: Besides | None = None

    @property
    def unknown(self) -> bool:
        """Whether a log that could have shown a read is missing and the others show none: that is not the
        same as that nothing was read."""
        return bool(self.gaps) and not self.objects

    @property
    def objects(self) -> int:
        """How many objects were read, each counted once."""
        return len({(line.bucket, line.key) for line in self.lines if line.reads})

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what `lines` cannot say."""
        return (*(gap.told for gap in self.gaps), *([self.besides.told] if self.besides else []))

    @property
    def copies(self) -> tuple[Line, ...]:
        """What was copied into another bucket, of a size that no log says."""
        return tuple(line for line in self.lines if line.copied_to and line.reads)

    @property
    def bytes(self) -> int:
        return sum(line.bytes for line in self.lines)

    @property
    def denied(self) -> int:
        """How many reads were refused."""
        return sum(line.denied for line in self.lines)

    @property
    def buckets(self) -> tuple[str, ...]:
        """The buckets objects were read from."""
        return tuple(dict.fromkeys(line.bucket for line in self.lines if line.reads))

    @property
    def seconds(self) -> float:
        """From the first to the last read."""
        read = [line for line in self.lines if line.reads]
        if not read:
            return 0.0
        return (max(line.last for line in read) - min(line.first for line in read)).total_seconds()


def manifest(engine: Engine, scope: Scope, callers: Callers, *, now: datetime) -> Manifest:
    """What was read in this scope, and of which buckets that is not known."""
    who = (strings(callers.sessions), strings(callers.addresses))
    theirs = "(UserIdentityArn in {0} or UserIdentityPrincipalid in {0}) and SourceIpAddress in {1}".format(
        *who
    )
    of_alerts = f"({scope.condition}) and TimeGenerated < {literal(scope.end)}"
    until = TimeRange(scope.start, scope.end + AFTER)
    query = fill(_READS, reading=_READING, named=of_alerts, callers=theirs)
    found = list(engine.query(query, now=now, window=until).rows())
    lines = [_line(row, DATA_EVENTS) for row in found if row["IsNamed"]]
    if callers.sessions and callers.addresses:
        query = fill(
            _LOGGED,
            operations=OPERATIONS,
            sessions=strings(callers.sessions),
            addresses=strings(callers.addresses),
            known=strings(sorted({line.bucket for line in lines})),
        )
        logged = engine.query(query, now=now, window=until).rows()
        lines += [_line(row, ACCESS_LOGS) for row in logged]
    logged_buckets = {line.bucket for line in lines if line.source == ACCESS_LOGS}
    others = [row for row in found if not row["IsNamed"] and row["Bucket"] not in logged_buckets]
    named = {line.bucket for line in lines} | set(callers.buckets)
    silent = sorted(named - {line.bucket for line in lines}) if named else [""]
    gaps = _gaps(engine, silent, scope, now) if silent else ()
    return Manifest(tuple(lines), gaps, _besides(others, theirs))


def _besides(buckets: Sequence[Mapping[str, object]], theirs: str) -> Besides | None:
    if not buckets:
        return None
    first, last = min(moment(row["First"]) for row in buckets), max(moment(row["Last"]) for row in buckets)
    when = f"TimeGenerated between ({literal(first)} .. {literal(last)})"
    return Besides(
        objects=sum(count(row["Objects"]) for row in buckets),
        reads=sum(count(row["Reads"]) for row in buckets),
        bytes=sum(count(row["Bytes"]) for row in buckets),
        denied=sum(count(row["Denied"]) for row in buckets),
        first=first,
        last=last,
        query=f"AWSCloudTrail | where {when} and {_READING} and {theirs}",
    )


def _gaps(engine: Engine, buckets: list[str], scope: Scope, now: datetime) -> tuple[Gap, ...]:
    """Of these buckets those that no log speaks of from the incident's day on."""
    around = TimeRange(scope.start - LOOK_BACK, scope.end + AFTER)
    query = fill(_LAST_LOGS, buckets=strings(buckets), names=_NAMES) if buckets[0] else _EVERYWHERE
    rows = engine.query(query, now=now, window=around).rows()
    last = {str(row["Bucket"]): moment(row["Last"]) for row in rows}
    day = timedelta(days=1)
    return tuple(
        Gap(bucket, last.get(bucket))
        for bucket in buckets
        if bucket not in last or last[bucket] < scope.start - day
    )


def _line(row: Mapping[str, object], source: str) -> Line:
    return Line(
        bucket=str(row["Bucket"]),
        key=str(row["Object"]),
        version=str(row["Version"]),
        bytes=count(row["Bytes"]),
        reads=count(row["Reads"]),
        denied=count(row["Denied"]),
        first=moment(row["First"]),
        last=moment(row["Last"]),
        session=str(row["Session"]),
        access_key=str(row["AccessKey"]),
        address=str(row["Address"]),
        client=unwrapped(str(row["Client"])),
        source=source,
        copied_to=str(row["CopiedTo"]),
    )
