"""Which alerts belong to one incident.

A rule that turns on Sentinel's grouping has its own alerts grouped as it says, and by nothing else: those
that agree in what it names, within the time it names from the first alert of an incident, 150 at most.

The alerts of all other rules are joined by a shared AWS session, a shared access key, or a lineage: one alert
is about credentials that the other's credentials or principal were used to get. The two must lie close in
time: at most a day between the end of one and the start of the other. Addresses, buckets and accounts join
nothing: an office shares its address, and a bucket its readers. Incidents are the connected components of
this relation.

Either way the order in which alerts come is nothing to what is together in the end. `groups` says so in the
plainest way; the store does the same piece by piece.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import AWS_ACCESS_KEY, AWS_PRINCIPAL, AWS_SESSION
from trailhawk.detect.rule import Grouping, Matching, Rule
from trailhawk.incidents.lineage import Issue

WITHIN = timedelta(hours=24)
_SERVICE_ROLE = ":assumed-role/AWSServiceRoleFor"
MAX_ALERTS = 150
"""Alerts of an incident of Sentinel's grouping; the next one begins another incident."""


class LinkKind(Enum):
    """Where a link comes from. Two alerts that only name the same principal are not joined."""

    OWN = "own"
    LINEAGE = "lineage"
    PRINCIPAL = "principal"
    RULE = "rule"


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """Something an alert can share with another one."""

    text: str
    kind: LinkKind

    def joins(self, other: Link) -> bool:
        principals = self.kind is LinkKind.PRINCIPAL and other.kind is LinkKind.PRINCIPAL
        return self.text == other.text and not principals


@dataclass(frozen=True, slots=True)
class Linked:
    """An alert as grouping sees it. `lookback` is set when its rule has Sentinel's grouping turned on; then
    its one link is of kind RULE."""

    alert_id: str
    started_at: datetime
    ended_at: datetime
    at: datetime
    links: tuple[Link, ...]
    lookback: timedelta | None = None
    reopens: bool = False
    """Whether a closed incident that it belongs to is opened again; for the grouping of rules only."""


def linked(alert: Alert, rule: Rule | None, issues: Iterable[Issue]) -> Linked:
    """An alert with what it can share: what it names, and where its credentials came from."""
    grouping = rule.grouping if rule else None
    if grouping is not None:
        links = [Link(_rule_key(alert, grouping), LinkKind.RULE)]
    else:
        own = {Link(text, LinkKind.OWN) for text in _own(alert)}
        principals = {Link(f"principal:{arn}", LinkKind.PRINCIPAL) for arn in alert.values(AWS_PRINCIPAL)}
        above = {Link(text, LinkKind.LINEAGE) for issue in issues for text in _above(issue)}
        links = sorted(own | principals | above, key=lambda link: (link.text, link.kind.value))
    return Linked(
        alert_id=alert.id,
        started_at=alert.started_at,
        ended_at=alert.ended_at,
        at=alert.at,
        links=tuple(links),
        lookback=grouping.lookback if grouping else None,
        reopens=bool(grouping and grouping.reopen),
    )


def _own(alert: Alert) -> Iterable[str]:
    for each in alert.entities:
        if each.type == AWS_ACCESS_KEY:
            yield f"key:{each.value}"
        if each.type == AWS_SESSION:
            yield from (f"session:{value}" for _, value in each.identifiers)


def _above(issue: Issue) -> Iterable[str]:
    """The credentials and the principal that asked for a key. A service that asks for itself, as EC2 does for
    many, is nobody: it has neither, or is a role of its own; one that asks for somebody names him."""
    if issue.service and _SERVICE_ROLE in issue.caller_arn:
        return
    if issue.caller_key:
        yield f"key:{issue.caller_key}"
    if issue.caller_type == "AssumedRole":
        yield f"session:{issue.caller_arn}"
        yield f"session:{issue.caller_id}"
    elif issue.caller_type == "AWSAccount" and ":" in issue.caller_id:
        yield f"session:{issue.caller_id}"  # a session of another account, which is all its record says
    elif issue.caller_arn:
        yield f"principal:{issue.caller_arn}"


def _rule_key(alert: Alert, grouping: Grouping) -> str:
    """What alerts of one rule must agree in to be joined by Sentinel's grouping."""
    return f"rule:{alert.rule_id}:{_digest(_agreed(alert, grouping))}"


def _agreed(alert: Alert, grouping: Grouping) -> Sequence[object]:
    if grouping.matching is Matching.ANY_ALERT:
        return []
    if grouping.matching is Matching.ALL_ENTITIES:
        return sorted([each.type, each.name] for each in alert.entities)
    details = {"DisplayName": alert.name, "Severity": alert.severity.value}
    return [
        sorted([each.type, each.name] for each in alert.entities if each.type in grouping.entities),
        [details.get(name, "") for name in grouping.details],
        [sorted(alert.detail(name)) for name in grouping.custom_details],
    ]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


def are_joined(one: Linked, other: Linked, *, within: timedelta = WITHIN) -> bool:
    """Whether two alerts belong to one incident for themselves, without a third between them."""
    if one.lookback is not None or other.lookback is not None:
        return False
    is_near = one.started_at - other.ended_at <= within and other.started_at - one.ended_at <= within
    return is_near and any(link.joins(peer) for link in one.links for peer in other.links)


def groups(alerts: Sequence[Linked], *, within: timedelta = WITHIN) -> tuple[frozenset[str], ...]:
    """The incidents these alerts make, as sets of alert ids, in order of their first run."""
    left = sorted(alerts, key=lambda alert: (alert.at, alert.alert_id))
    found: list[frozenset[str]] = []
    while left:
        first = left[0]
        if first.lookback is None:
            members, left = _component(first, left[1:], within)
        else:
            members, left = _block(first, left, first.lookback)
        found.append(frozenset(member.alert_id for member in members))
    return tuple(found)


def _block(first: Linked, left: list[Linked], lookback: timedelta) -> tuple[list[Linked], list[Linked]]:
    """The alerts that Sentinel's grouping puts together with the first one; and the rest."""
    same = [alert for alert in left if alert.links == first.links and alert.at - first.at <= lookback]
    members = same[:MAX_ALERTS]
    taken = {alert.alert_id for alert in members}
    return members, [alert for alert in left if alert.alert_id not in taken]


def _component(seed: Linked, others: list[Linked], within: timedelta) -> tuple[list[Linked], list[Linked]]:
    """The alerts joined with the seed, directly or through others; and the rest."""
    members, edge = [seed], [seed]
    while edge:
        near = [o for o in others if any(are_joined(member, o, within=within) for member in edge)]
        taken = {each.alert_id for each in near}
        others = [o for o in others if o.alert_id not in taken]
        members += near
        edge = near
    return members, others
