"""The events of an incident, one by one, with their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from trailhawk.engine.result import Engine, TimeRange
from trailhawk.incidents.lineage import unwrapped
from trailhawk.incidents.row import moment
from trailhawk.incidents.scope import Scope

_EVENTS = """
AWSCloudTrail
| where {condition}
| extend Request = parse_json(RequestParameters)
| project At = TimeGenerated, EventId = AwsEventId, Name = EventName, Service = EventSource,
    Session = iff(isempty(UserIdentityArn), UserIdentityPrincipalid, UserIdentityArn),
    Key = UserIdentityAccessKeyId, Address = SourceIpAddress, Client = UserAgent, Error = ErrorCode,
    Bucket = tostring(Request.bucketName), Object = tostring(Request.key), Role = tostring(Request.roleArn),
    RoleName = tostring(Request.roleName), Policy = tostring(Request.policyArn),
    User = tostring(Request.userName), Instance = tostring(Request.instanceId)
| sort by At asc, EventId asc
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One call: when, what, on what, by whom, from where, and whether it was refused."""

    at: datetime
    event_id: str
    name: str
    service: str
    target: str
    session: str
    key: str
    address: str
    client: str
    error: str

    @property
    def bucket(self) -> str:
        """The bucket that the call was about, empty where it was about none."""
        return self.target.removeprefix("s3://").split("/", 1)[0] if self.target.startswith("s3://") else ""


def timeline(engine: Engine, scope: Scope, *, now: datetime) -> tuple[Event, ...]:
    """The events of this scope in order of time."""
    result = engine.query(
        _EVENTS.replace("{condition}", scope.condition), now=now, window=TimeRange(scope.start, scope.end)
    )
    return tuple(_event(row) for row in result.rows())


def _event(row: Mapping[str, object]) -> Event:
    return Event(
        at=moment(row["At"]),
        event_id=str(row["EventId"]),
        name=str(row["Name"]),
        service=str(row["Service"]).removesuffix(".amazonaws.com"),
        target=_target(row),
        session=str(row["Session"]),
        key=str(row["Key"]),
        address=str(row["Address"]),
        client=unwrapped(str(row["Client"])),
        error=str(row["Error"]),
    )


def _target(row: Mapping[str, object]) -> str:
    """What the call was about, as far as the request says it."""
    bucket, key = str(row["Bucket"]), str(row["Object"])
    if bucket:
        return f"s3://{bucket}/{key}"
    parts = [str(row[name]) for name in ("Role", "RoleName", "User", "Policy", "Instance")]
    return " ".join(part for part in parts if part)
