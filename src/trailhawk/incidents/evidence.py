"""The log objects that an incident rests on, each with its digest, so that others can check them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from trailhawk.engine.result import Engine, TimeRange
from trailhawk.incidents.literal import fill, strings
from trailhawk.incidents.manifest import ACCESS_LOGS, OPERATIONS, Manifest
from trailhawk.incidents.row import count
from trailhawk.incidents.timeline import Event

_OBJECTS = """
AWSCloudTrail
| where AwsEventId in {ids}
| summarize Events = count() by Object = log_object()
"""
_LOGGED = """
AWSS3ServerAccess
| where Requester in {sessions} and RemoteIp in {addresses} and Bucket in {buckets}
| where Operation in {operations}
| summarize Events = count() by Object = log_object()
"""
_LEDGER = """
IngestLedger
| where Object in {objects} and State != "retried"
| summarize arg_max(TimeGenerated, Location, Bucket, Key, Version, Size, Sha256) by Object
"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A log object: where it was read, its version or etag in S3, bytes and SHA-256 as delivered, and how
    many events of the incident it holds."""

    location: str
    version: str
    size: int
    sha256: str
    events: int


def evidence(
    engine: Engine, events: Iterable[Event], read: Manifest, *, now: datetime
) -> tuple[Evidence, ...]:
    """The log objects of these events, and of the reads that access logs alone tell, by location."""
    found: Counter[str] = Counter()
    for query, within in (*_of_events(tuple(events)), *_of_reads(read)):
        for row in engine.query(query, now=now, window=within).rows():
            found[str(row["Object"])] += count(row["Events"])
    del found[""]
    if not found:
        return ()
    ledger = engine.query(fill(_LEDGER, objects=strings(found)), now=now).rows()
    return tuple(
        sorted(
            (
                Evidence(
                    location=f"s3://{row['Bucket']}/{row['Key']}" if row["Bucket"] else str(row["Location"]),
                    version=str(row["Version"]),
                    size=count(row["Size"]),
                    sha256=str(row["Sha256"]),
                    events=found[str(row["Object"])],
                )
                for row in ledger
            ),
            key=lambda each: each.location,
        )
    )


def _of_events(events: Sequence[Event]) -> Iterator[tuple[str, TimeRange]]:
    if events:
        query = fill(_OBJECTS, ids=strings(event.event_id for event in events))
        yield query, _within(event.at for event in events)


def _of_reads(read: Manifest) -> Iterator[tuple[str, TimeRange]]:
    if lines := [line for line in read.lines if line.source == ACCESS_LOGS]:
        query = fill(
            _LOGGED,
            sessions=strings(sorted({line.session for line in lines})),
            addresses=strings(sorted({line.address for line in lines})),
            buckets=strings(sorted({line.bucket for line in lines})),
            operations=OPERATIONS,
        )
        yield query, _within(at for line in lines for at in (line.first, line.last))


def _within(moments: Iterable[datetime]) -> TimeRange:
    moments = tuple(moments)
    return TimeRange(min(moments), max(moments) + timedelta(seconds=1))
