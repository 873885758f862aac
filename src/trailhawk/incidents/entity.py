"""What is known of one entity: an access key, ARN, address, instance, bucket, object or account."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from trailhawk.detect.entities import (
    AWS_ACCESS_KEY,
    AWS_ACCOUNT,
    AWS_BUCKET,
    AWS_INSTANCE,
    AWS_OBJECT,
    AWS_PRINCIPAL,
    AWS_SESSION,
    IP,
)
from trailhawk.engine.result import Engine, TimeRange
from trailhawk.errors import UsageError
from trailhawk.incidents.graph import Expanded, Graph, Node, expand
from trailhawk.incidents.literal import string
from trailhawk.incidents.row import count, moment

MOST: Final = 15
"""Lines of each list."""

_KEY = re.compile(r"A[KS]IA[A-Z0-9]{8,124}")
_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}")
_ACCOUNT = re.compile(r"\d{12}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.\-_]{1,253}[a-z0-9]", re.IGNORECASE)

_WHERE: Final[Mapping[str, str]] = {
    AWS_ACCESS_KEY: "UserIdentityAccessKeyId == {name}",
    AWS_SESSION: "UserIdentityArn == {name} or UserIdentityPrincipalid == {name}",
    AWS_PRINCIPAL: "UserIdentityArn == {name} or SessionIssuerArn == {name}",
    IP: "SourceIpAddress == {name}",
    AWS_INSTANCE: "UserIdentityPrincipalid endswith strcat(':', {name}) or RequestParameters has {name}"
    " or ResponseElements has {name}",
    AWS_BUCKET: "EventSource == 's3.amazonaws.com'"
    " and tostring(parse_json(RequestParameters).bucketName) == {name}",
    AWS_OBJECT: "EventSource == 's3.amazonaws.com' and {name} =="
    " strcat(parse_json(RequestParameters).bucketName, '/', parse_json(RequestParameters).key)",
    AWS_ACCOUNT: "RecipientAccountId == {name} or UserIdentityAccountId == {name}",
}
_CALLS = """
let Calls = materialize(
    AwsCalls
    | where {where}
    | project TimeGenerated, Call = strcat(tostring(split(EventSource, ".")[0]), ":", EventName),
        Address = SourceIpAddress, Client = extract(@"^\\[?([^ \\]]+)", 1, UserAgent), Region = AWSRegion,
        Who = coalesce(SessionIssuerArn, UserIdentityArn, iff(Principal startswith "arn:", Principal, "")),
        Whole = "",
        IsRefused = isnotempty(ErrorCode));
union
"""
_LIST = """
    (Calls
    | summarize Count = count(), Refused = countif(IsRefused), First = min(TimeGenerated),
        Last = max(TimeGenerated) by Name = {column}
    | top {most} by Count desc
    | extend Kind = "{kind}")"""
_LISTS: Final[Mapping[str, str]] = {
    "": "Whole",
    "calls": "Call",
    "from": "Address",
    "with": "Client",
    "by": "Who",
    "in region": "Region",
}


@dataclass(frozen=True, slots=True)
class Sum:
    """How many calls something made or got, how many of them were refused, and when."""

    name: str
    calls: int
    refused: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class EntityPage:
    """`whole` is None where no call of CloudTrail is about it; `lists` are its calls by what they share."""

    node: Node
    whole: Sum | None
    lists: Mapping[str, tuple[Sum, ...]]
    expanded: tuple[Expanded, ...]

    @property
    def graph(self) -> Graph:
        """The entity alone, to be expanded."""
        return Graph((self.node,), (), self.expanded)


def node_of(text: str) -> Node:
    """What a text names: UsageError where it is nothing that AWS logs name.

    A bucket is written as it is or as `s3://bucket`, an object as `s3://bucket/key`.
    """
    text = text.strip()
    if text.startswith("s3://"):
        bucket, _, key = text.removeprefix("s3://").partition("/")
        return Node(AWS_OBJECT, f"{bucket}/{key}") if key else Node(AWS_BUCKET, bucket)
    if text.startswith("arn:"):
        return _of_arn(text)
    if _KEY.fullmatch(text):
        return Node(AWS_ACCESS_KEY, text)
    if _INSTANCE.fullmatch(text):
        return Node(AWS_INSTANCE, text)
    if _ACCOUNT.fullmatch(text):
        return Node(AWS_ACCOUNT, text)
    try:
        return Node(IP, str(ipaddress.ip_address(text)))
    except ValueError:
        pass
    if _BUCKET.fullmatch(text):
        return Node(AWS_BUCKET, text)
    raise UsageError(
        f"'{text}' is no key, ARN, address, instance, bucket or account",
        hint="write s3://bucket/key for an object",
    )


def _of_arn(text: str) -> Node:
    parts = text.split(":", 5)
    service, rest = (parts[2], parts[5]) if len(parts) == 6 else ("", "")
    if service == "s3":
        return Node(AWS_OBJECT, rest) if "/" in rest else Node(AWS_BUCKET, rest)
    if service == "ec2" and rest.startswith("instance/"):
        return Node(AWS_INSTANCE, rest.removeprefix("instance/"))
    if service == "sts":
        return Node(AWS_SESSION, text)
    return Node(AWS_PRINCIPAL, text)


def entity_page(engine: Engine, node: Node, *, within: TimeRange, now: datetime) -> EntityPage:
    """What CloudTrail's calls, and the expansions of content, say of an entity in this time."""
    where = _WHERE[node.type].replace("{name}", string(node.name))
    if node.type == AWS_PRINCIPAL and ":identitystore:" in node.name:
        # No record has this ARN, which `AwsCalls` makes of the user's id.
        where = f"UserIdentityUserId == {string(node.name.rpartition('/')[2])}"
    parts = (
        _LIST.replace("{column}", column).replace("{kind}", kind).replace("{most}", str(MOST))
        for kind, column in _LISTS.items()
    )
    query = _CALLS.replace("{where}", where) + ",".join(parts)
    lists: dict[str, list[Sum]] = {}
    for row in engine.query(query, now=now, window=within).rows():
        if count(row["Count"]):
            lists.setdefault(str(row["Kind"]), []).append(_sum(row))
    whole = next(iter(lists.pop("", [])), None)
    return EntityPage(
        node=node,
        whole=whole,
        lists={kind: _sorted(found) for kind, found in lists.items() if _says_more(kind, node)},
        expanded=expand(engine, [node], within=within, now=now),
    )


def _says_more(kind: str, node: Node) -> bool:
    """That an address is seen at itself says nothing."""
    return not ((kind == "from" and node.type == IP) or (kind == "by" and node.type == AWS_PRINCIPAL))


def _sorted(found: Iterable[Sum]) -> tuple[Sum, ...]:
    return tuple(sorted((each for each in found if each.name), key=lambda each: (-each.calls, each.name)))


def _sum(row: Mapping[str, object]) -> Sum:
    return Sum(
        name=str(row["Name"]),
        calls=count(row["Count"]),
        refused=count(row["Refused"]),
        first=moment(row["First"]),
        last=moment(row["Last"]),
    )
