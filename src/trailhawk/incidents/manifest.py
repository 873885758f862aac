"""The exfiltration manifest: which objects were read, how much of them, when, by whom, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from trailhawk.engine.result import Engine, TimeRange
from trailhawk.incidents.lineage import unwrapped
from trailhawk.incidents.row import count, moment
from trailhawk.incidents.scope import Scope

# A large object is read in several ranges: bytes are summed, calls counted. HeadObject gives no content.
_READS = """
AWSCloudTrail
| where {condition}
| where EventSource == "s3.amazonaws.com"
| where EventName in ("GetObject", "GetObjectTorrent", "SelectObjectContent")
| extend Bytes = tolong(parse_json(AdditionalEventData).bytesTransferredOut)
| summarize Bytes = sumif(Bytes, isempty(ErrorCode)), Reads = countif(isempty(ErrorCode)),
    Denied = countif(isnotempty(ErrorCode)), First = min(TimeGenerated), Last = max(TimeGenerated)
    by Bucket = tostring(parse_json(RequestParameters).bucketName),
       Object = tostring(parse_json(RequestParameters).key),
       Session = iff(isempty(UserIdentityArn), UserIdentityPrincipalid, UserIdentityArn),
       AccessKey = UserIdentityAccessKeyId, Address = SourceIpAddress, Client = UserAgent
| sort by First asc, Bucket asc, Object asc
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One object as one caller read it. `reads` counts the calls that succeeded, `denied` the others."""

    bucket: str
    key: str
    bytes: int
    reads: int
    denied: int
    first: datetime
    last: datetime
    session: str
    access_key: str
    address: str
    client: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What left. Objects that were only asked for, and refused, stand in `lines` with no reads."""

    lines: tuple[Line, ...]

    @property
    def objects(self) -> int:
        """How many objects were read, each counted once."""
        return len({(line.bucket, line.key) for line in self.lines if line.reads})

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


def manifest(engine: Engine, scope: Scope, *, now: datetime) -> Manifest:
    """What was read in this scope."""
    result = engine.query(
        _READS.replace("{condition}", scope.condition), now=now, window=TimeRange(scope.start, scope.end)
    )
    return Manifest(tuple(_line(row) for row in result.rows()))


def _line(row: Mapping[str, object]) -> Line:
    return Line(
        bucket=str(row["Bucket"]),
        key=str(row["Object"]),
        bytes=count(row["Bytes"]),
        reads=count(row["Reads"]),
        denied=count(row["Denied"]),
        first=moment(row["First"]),
        last=moment(row["Last"]),
        session=str(row["Session"]),
        access_key=str(row["AccessKey"]),
        address=str(row["Address"]),
        client=unwrapped(str(row["Client"])),
    )
