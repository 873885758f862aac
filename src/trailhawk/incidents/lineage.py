"""Credential lineage: which call issued a key, to whom, and from where the key was used.

Read from CloudTrail's events of STS, and of IAM where a long-term key is made: the access key of the answer
is `userIdentity.accessKeyId` of the calls made with the key. EC2 hands out several keys for one role session
in the same second, so the keys issued beside an accused one are told too. A call from another account is
logged in both, and the account of the role does not learn the caller's key: the fuller record counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from trailhawk.engine.result import Engine, TimeRange
from trailhawk.incidents.literal import string, strings
from trailhawk.incidents.row import count, moment

LONGEST_SESSION = timedelta(hours=36)
"""The longest that credentials from STS live (GetSessionToken); a role session lives 12 hours at most."""
TOGETHER = timedelta(seconds=5)
MAX_DEPTH = 5
INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")

_ISSUING = strings(
    [
        *("AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot"),
        *("GetSessionToken", "GetFederationToken", "CreateAccessKey"),
    ]
)

_ISSUED = """
AWSCloudTrail
| where EventSource in ("sts.amazonaws.com", "iam.amazonaws.com") and EventName in {issuing}
| where isempty(ErrorCode)
| extend Request = parse_json(RequestParameters), Response = parse_json(ResponseElements)
| extend Key = coalesce(tostring(Response.credentials.accessKeyId), tostring(Response.accessKey.accessKeyId)),
    User = tostring(Response.accessKey.userName),
    Expires = tostring(Response.credentials.expiration),
    RoleArn = tostring(Request.roleArn),
    SessionName = tostring(Request.roleSessionName)
| where {condition}
| project At = TimeGenerated, EventId = AwsEventId, Api = EventName, Key, User, Expires, RoleArn, SessionName,
    Service = UserIdentityInvokedBy, CallerType = UserIdentityType, CallerArn = UserIdentityArn,
    CallerId = UserIdentityPrincipalid, CallerKey = UserIdentityAccessKeyId, CallerAddress = SourceIpAddress,
    CallerClient = UserAgent, Region = AWSRegion
| sort by At asc, EventId asc
""".replace("{issuing}", _ISSUING)

_USED = """
AWSCloudTrail
| where UserIdentityAccessKeyId in {keys}
| summarize First = min(TimeGenerated), Last = max(TimeGenerated), Calls = count(),
    Denied = countif(isnotempty(ErrorCode))
    by Key = UserIdentityAccessKeyId, Address = SourceIpAddress, Client = UserAgent,
       Delivery = EC2RoleDelivery
| sort by First asc, Key asc, Address asc, Client asc
"""


@dataclass(frozen=True, slots=True)
class Issue:
    """One call that issued a key. `service` is set when an AWS service asked for it, as EC2 does, be it for
    itself or for the caller that is named; `user` is whose key it is, where it is a long-term one."""

    at: datetime
    event_id: str
    api: str
    key: str
    expires: str
    role_arn: str
    session_name: str
    service: str
    caller_type: str
    caller_arn: str
    caller_id: str
    caller_key: str
    caller_address: str
    user: str = ""
    region: str = ""

    @property
    def role(self) -> str:
        """The role's name, without its path."""
        return self.role_arn.rsplit("/", 1)[-1]

    @property
    def instance(self) -> str:
        """The instance the credentials were issued to, empty when it was none."""
        is_instance = self.service == "ec2.amazonaws.com" and INSTANCE_ID.fullmatch(self.session_name)
        return self.session_name if is_instance else ""


@dataclass(frozen=True, slots=True)
class SessionOf:
    """What the ARN of an assumed role's session says."""

    role_arn: str
    """Without the role's path, which the session's ARN does not tell."""
    name: str

    @property
    def role(self) -> str:
        return self.role_arn.rsplit("/", 1)[-1]

    @property
    def instance(self) -> str:
        """The instance whose session this is, empty where it is none's: EC2 names sessions so."""
        return self.name if INSTANCE_ID.fullmatch(self.name) else ""


_SESSION: Final = re.compile(r"arn:([^:]*):sts::([^:]*):assumed-role/([^/]+)/(.+)", re.DOTALL)


def session_of(arn: str) -> SessionOf | None:
    """What an ARN of a session says, None for any other ARN.

    >>> session_of("arn:aws:sts::1:assumed-role/web/i-0123456789abcdef0").instance
    'i-0123456789abcdef0'
    """
    found = _SESSION.fullmatch(arn)
    if found is None:
        return None
    partition, account, role, name = found.groups()
    return SessionOf(f"arn:{partition}:iam::{account}:role/{role}", name)


@dataclass(frozen=True, slots=True)
class Use:
    """How a key was used from one address with one client."""

    key: str
    address: str
    client: str
    delivery: str
    """`1.0` or `2.0`: the version of the instance metadata service that handed out the key, if one did."""
    first: datetime
    last: datetime
    calls: int
    denied: int


@dataclass(frozen=True, slots=True)
class Lineage:
    issues: tuple[Issue, ...]
    uses: tuple[Use, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key in it, in the order of issue and use."""
        issued = (issue.key for issue in self.issues)
        return tuple(dict.fromkeys(key for key in (*issued, *(use.key for use in self.uses)) if key))

    def issue_of(self, key: str) -> Issue | None:
        """The call that issued this key, if it is stored."""
        return next((issue for issue in self.issues if issue.key == key), None)


def issues(
    engine: Engine, keys: Iterable[str], *, start: datetime, end: datetime, now: datetime
) -> tuple[Issue, ...]:
    """The calls that issued these keys, the keys their callers used, and so on upwards."""
    found: dict[str, Issue] = {}
    asked: set[str] = set()
    wanted = set(filter(None, keys))
    range_start = start - LONGEST_SESSION
    for _ in range(MAX_DEPTH):
        if not wanted:
            break
        asked |= wanted
        rows = _issued(engine, f"Key in {strings(sorted(wanted))}", TimeRange(range_start, end), now)
        found |= {issue.event_id: issue for issue in rows}
        wanted = {issue.caller_key for issue in rows if issue.caller_key} - asked
        range_start -= LONGEST_SESSION
    return _in_order(found.values())


def lineage(engine: Engine, keys: Iterable[str], *, start: datetime, end: datetime, now: datetime) -> Lineage:
    """Where these keys came from, what was issued beside them and with them, and where all were used."""
    keys = tuple(keys)
    above = issues(engine, keys, start=start, end=end, now=now)
    found = {issue.event_id: issue for issue in above}
    for issue in above:
        found |= {each.event_id: each for each in _beside(engine, issue, now)}
    if keys:
        below = f"UserIdentityAccessKeyId in {strings(keys)} and isnotempty(Key)"
        found |= {i.event_id: i for i in _issued(engine, below, TimeRange(start, end), now)}
    everything = _in_order(found.values())
    every_key = sorted({*keys, *(issue.key for issue in everything)})
    return Lineage(everything, _uses(engine, every_key, TimeRange(start - LONGEST_SESSION, end), now))


def _in_order(found: Iterable[Issue]) -> tuple[Issue, ...]:
    """In order of time, though never before the key it was asked for with: a chain may fit into a second. Of
    two records of one key the one that knows more of who asked for it."""
    best: dict[str, Issue] = {}
    for each in sorted(found, key=lambda issue: (not issue.caller_key, not issue.caller_arn, issue.event_id)):
        best.setdefault(each.key or each.event_id, each)
    placed: dict[str, Issue] = {}
    for each in sorted(best.values(), key=lambda issue: (issue.at, issue.event_id)):
        chain = [each]
        while (above := best.get(chain[-1].caller_key)) and above.key not in placed and above not in chain:
            chain.append(above)
        placed |= {one.key or one.event_id: one for one in reversed(chain)}
    return tuple(placed.values())


def _beside(engine: Engine, issue: Issue, now: datetime) -> tuple[Issue, ...]:
    """The keys issued to the same session in the same moment."""
    if not issue.session_name:
        return ()
    condition = f"SessionName == {string(issue.session_name)} and RoleArn == {string(issue.role_arn)}"
    return _issued(engine, condition, TimeRange(issue.at - TOGETHER, issue.at + TOGETHER), now)


def _issued(engine: Engine, condition: str, within: TimeRange, now: datetime) -> tuple[Issue, ...]:
    text = _ISSUED.replace("{condition}", condition)
    return tuple(_issue(row) for row in engine.query(text, now=now, window=within).rows())


def _issue(row: Mapping[str, object]) -> Issue:
    return Issue(
        at=moment(row["At"]),
        event_id=str(row["EventId"]),
        api=str(row["Api"]),
        key=str(row["Key"]),
        expires=_expiry(str(row["Expires"])),
        role_arn=str(row["RoleArn"]),
        session_name=str(row["SessionName"]),
        service=str(row["Service"]),
        caller_type=str(row["CallerType"]),
        caller_arn=str(row["CallerArn"]),
        caller_id=str(row["CallerId"]),
        caller_key=str(row["CallerKey"]),
        caller_address=str(row["CallerAddress"]),
        user=str(row["User"]),
        region=str(row["Region"]),
    )


def _expiry(text: str) -> str:
    """When a key ends, as other times are written. CloudTrail writes `Mar 2, 2026, 3:12:00 PM`, at times
    without the second comma, and with a narrow no-break space before PM; what is of another form stays."""
    plain = text.replace("\u202f", " ")
    for form in ("%b %d, %Y, %I:%M:%S %p", "%b %d, %Y %I:%M:%S %p"):
        with suppress(ValueError):
            return datetime.strptime(plain, form).strftime("%Y-%m-%d %H:%M:%S UTC")
    return plain


def _uses(engine: Engine, keys: Iterable[str], within: TimeRange, now: datetime) -> tuple[Use, ...]:
    result = engine.query(_USED.replace("{keys}", strings(keys)), now=now, window=within)
    return tuple(
        Use(
            key=str(row["Key"]),
            address=str(row["Address"]),
            client=unwrapped(str(row["Client"])),
            delivery=str(row["Delivery"]),
            first=moment(row["First"]),
            last=moment(row["Last"]),
            calls=count(row["Calls"]),
            denied=count(row["Denied"]),
        )
        for row in result.rows()
    )


def unwrapped(client: str) -> str:
    """A user agent without the brackets that S3 puts around it."""
    return client[1:-1] if client.startswith("[") and client.endswith("]") else client
