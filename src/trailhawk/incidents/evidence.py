"""The log objects that an incident rests on, each with its digest, so that others can check them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from trailhawk.engine.result import Engine, TimeRange
from trailhawk.incidents.literal import strings
from trailhawk.incidents.row import count
from trailhawk.incidents.timeline import Event

_OBJECTS = """
AWSCloudTrail
| where AwsEventId in {ids}
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


def evidence(engine: Engine, events: Iterable[Event]) -> tuple[Evidence, ...]:
    """The log objects of these events, by location."""
    events = tuple(events)
    if not events:
        return ()
    latest = max(event.at for event in events)
    within = TimeRange(min(event.at for event in events), latest + timedelta(seconds=1))
    query = _OBJECTS.replace("{ids}", strings(event.event_id for event in events))
    rows = engine.query(query, now=latest, window=within).rows()
    found = {str(row["Object"]): count(row["Events"]) for row in rows if row["Object"]}
    if not found:
        return ()
    ledger = engine.query(_LEDGER.replace("{objects}", strings(found)), now=latest).rows()
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
