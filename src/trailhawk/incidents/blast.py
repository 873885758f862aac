"""The blast radius of an incident: all that the accused credentials did and touched, what else their identity
is able to do, and who else works from the same addresses or with the very same client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from trailhawk.detect.entities import AWS_PRINCIPAL, AWS_SESSION, IP
from trailhawk.engine.result import Engine, TimeRange
from trailhawk.incidents.lineage import unwrapped
from trailhawk.incidents.literal import fill, strings
from trailhawk.incidents.report import Report
from trailhawk.incidents.row import count, moment
from trailhawk.incidents.scope import AFTER

BEFORE: Final = timedelta(days=30)
"""How far back it is looked for what the identity is able to do."""
AROUND: Final = timedelta(hours=24)
"""How long before and after others count as being there at the same time."""
MOST: Final = 100
"""Rows of each list, those with the most calls."""
_MOST_CLIENTS: Final = 1000
"""Rows with the clients of others; Terraform and the console name several a minute."""

_ACCUSED = """
AWSCloudTrail
| where UserIdentityAccessKeyId in {keys} or UserIdentityArn in {sessions}
| where SourceIpAddress in {addresses}
"""
_CALLS = """
| summarize Calls = count(), Denied = countif(isnotempty(ErrorCode)), First = min(TimeGenerated),
    Last = max(TimeGenerated)
    by Name = strcat(tostring(split(EventSource, ".")[0]), ":", EventName)
| sort by Calls desc, Name asc
| take {most}
"""
_TOUCHED = """
| extend Request = parse_json(RequestParameters)
| extend Role = coalesce(tostring(Request.roleArn), tostring(Request.roleName))
| extend Touched = bag_pack("Bucket", Request.bucketName, "Role", Role, "Secret", Request.secretId,
    "Key", Request.keyId, "User", Request.userName, "Function", Request.functionName,
    "Instance", Request.instanceId, "Snapshot", Request.snapshotId, "Parameter", Request.name,
    "Table", Request.tableName, "Policy", Request.policyArn, "Trail", Request.trailName)
| mv-expand kind=array Touched
| extend Kind = tostring(Touched[0]), Name = tostring(Touched[1])
| where isnotempty(Name)
| summarize Calls = count(), Denied = countif(isnotempty(ErrorCode)), First = min(TimeGenerated),
    Last = max(TimeGenerated) by Kind, Name
| sort by Calls desc, Kind asc, Name asc
| take {most}
"""
_ABLE = """
AWSCloudTrail
| where SessionIssuerArn in {principals} or UserIdentityArn in {principals}
| where isempty(ErrorCode)
| summarize Calls = count(), Denied = 0, First = min(TimeGenerated), Last = max(TimeGenerated)
    by Name = strcat(tostring(split(EventSource, ".")[0]), ":", EventName)
| where Name !in {done}
| sort by Calls desc, Name asc
| take {most}
"""
_OTHERS = """
AWSCloudTrail
| where SourceIpAddress in {addresses} or UserAgent in {clients}
| where UserIdentityArn !in {sessions} and UserIdentityAccessKeyId !in {keys}
| where isempty(UserIdentityInvokedBy) and isnotempty(UserIdentityArn)
| summarize Calls = count(), Denied = countif(isnotempty(ErrorCode)), First = min(TimeGenerated),
    Last = max(TimeGenerated), ByAddress = countif(SourceIpAddress in {addresses})
    by Name = UserIdentityArn, Address = SourceIpAddress, Client = UserAgent
| sort by ByAddress desc, Calls desc, Name asc, Address asc, Client asc
| take {most_clients}
"""


@dataclass(frozen=True, slots=True)
class Done:
    """A call, or a thing that was touched (of `kind`), how often, how often in vain, and when."""

    name: str
    calls: int
    denied: int
    first: datetime
    last: datetime
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Other:
    """A session or user that is not accused, seen at the same address or with the very same client.

    `clients` are those with the most calls first.
    """

    name: str
    address: str
    clients: tuple[str, ...]
    calls: int
    first: datetime
    last: datetime
    same_address: bool


@dataclass(frozen=True, slots=True)
class Blast:
    """`calls` and `touched` are of the accused credentials from the accused addresses; `able` are calls that
    the same identity has made with success in the 30 days before, and that are not among `calls`."""

    calls: tuple[Done, ...]
    touched: tuple[Done, ...]
    able: tuple[Done, ...]
    others: tuple[Other, ...]


def blast(engine: Engine, report: Report, *, now: datetime) -> Blast:
    """How far it may have gone. Nothing where the incident accuses nobody."""
    events, incident = report.timeline, report.incident
    keys = {event.key for event in events if event.key}
    sessions = {event.session for event in events if event.session}
    sessions |= {arn for e in incident.entities if e.type == AWS_SESSION and (arn := e.identifier("Arn"))}
    addresses = {event.address for event in events if event.address} or set(incident.values(IP))
    if not (keys or sessions) or not addresses:
        return Blast((), (), (), ())
    principals = set(incident.values(AWS_PRINCIPAL)) | {s for s in sessions if ":user/" in s}
    clients = {event.client for event in events if " " in event.client}
    words = {
        "keys": strings(sorted(keys)),
        "sessions": strings(sorted(sessions)),
        "addresses": strings(sorted(addresses)),
        "principals": strings(sorted(principals)),
        # S3 writes brackets around the client, other services do not.
        "clients": strings(sorted(each for c in clients for each in (c, f"[{c}]"))),
        "most": str(MOST),
        "most_clients": str(_MOST_CLIENTS),
    }
    start, end = incident.first_activity, incident.last_activity
    follow = TimeRange(start - timedelta(hours=1), end + AFTER)

    def asked(query: str, within: TimeRange, **more: str) -> Iterable[Mapping[str, object]]:
        return engine.query(fill(query, **words, **more), now=now, window=within).rows()

    calls = tuple(_done(row) for row in asked(_ACCUSED + _CALLS, follow))
    done = strings(sorted(call.name for call in calls))
    return Blast(
        calls=calls,
        touched=tuple(_done(row) for row in asked(_ACCUSED + _TOUCHED, follow)),
        able=tuple(_done(row) for row in asked(_ABLE, TimeRange(start - BEFORE, end + AFTER), done=done)),
        others=_others(asked(_OTHERS, TimeRange(start - AROUND, end + AROUND))),
    )


def _done(row: Mapping[str, object]) -> Done:
    return Done(
        name=str(row["Name"]),
        calls=count(row["Calls"]),
        denied=count(row["Denied"]),
        first=moment(row["First"]),
        last=moment(row["Last"]),
        kind=str(row.get("Kind", "")),
    )


def _others(rows: Iterable[Mapping[str, object]]) -> tuple[Other, ...]:
    """One for each who and address, those at the same address and with the most calls first."""
    found: dict[tuple[str, str], Other] = {}
    for row in rows:
        one = _other(row)
        known = found.get((one.name, one.address))
        found[one.name, one.address] = one if known is None else _both(known, one)
    order = sorted(found.values(), key=lambda o: (not o.same_address, -o.calls, o.name, o.address))
    return tuple(order[:MOST])


def _both(one: Other, more: Other) -> Other:
    return Other(
        name=one.name,
        address=one.address,
        clients=tuple(dict.fromkeys(one.clients + more.clients)),
        calls=one.calls + more.calls,
        first=min(one.first, more.first),
        last=max(one.last, more.last),
        same_address=one.same_address or more.same_address,
    )


def _other(row: Mapping[str, object]) -> Other:
    return Other(
        name=str(row["Name"]),
        address=str(row["Address"]),
        clients=(unwrapped(str(row["Client"])),),
        calls=count(row["Calls"]),
        first=moment(row["First"]),
        last=moment(row["Last"]),
        same_address=bool(row["ByAddress"]),
    )
