"""Which alerts belong to one incident.

What joins is a shared AWS session, a shared access key, or a lineage: one alert is about credentials that
the other's credentials or principal were used to get. The two must lie close in time: at most a day between
the end of one and the start of the other. Addresses, buckets and accounts join nothing: an office shares its
address, and a bucket its readers. A rule that turns on Sentinel's own grouping joins its own alerts that way
too. Incidents are the connected components of this relation, so the order in which alerts come is nothing
to it, except for Sentinel's grouping, which counts from the first alert of an incident.
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
    """An alert as grouping sees it. `lookback` is set when its rule has Sentinel's grouping turned on."""

    alert_id: str
    started_at: datetime
    ended_at: datetime
    at: datetime
    links: tuple[Link, ...]
    lookback: timedelta | None = None


def linked(alert: Alert, rule: Rule | None, issues: Iterable[Issue]) -> Linked:
    """An alert with what it can share: what it names, and where its credentials came from."""
    own = {Link(text, LinkKind.OWN) for text in _own(alert)}
    principals = {Link(f"principal:{arn}", LinkKind.PRINCIPAL) for arn in alert.values(AWS_PRINCIPAL)}
    above = {Link(text, LinkKind.LINEAGE) for issue in issues for text in _above(issue)}
    grouping = rule.grouping if rule else None
    by_rule = {Link(_rule_key(alert, grouping), LinkKind.RULE)} if grouping else set()
    return Linked(
        alert_id=alert.id,
        started_at=alert.started_at,
        ended_at=alert.ended_at,
        at=alert.at,
        links=tuple(
            sorted(own | principals | above | by_rule, key=lambda link: (link.text, link.kind.value))
        ),
        lookback=grouping.lookback if grouping else None,
    )


def _own(alert: Alert) -> Iterable[str]:
    for each in alert.entities:
        if each.type == AWS_ACCESS_KEY:
            yield f"key:{each.value}"
        if each.type == AWS_SESSION:
            yield from (f"session:{value}" for _, value in each.identifiers)


def _above(issue: Issue) -> Iterable[str]:
    """The credentials and the principal that asked for a key; a service such as EC2 asks for many."""
    if issue.service:
        return
    if issue.caller_key:
        yield f"key:{issue.caller_key}"
    if issue.caller_type == "AssumedRole":
        yield f"session:{issue.caller_arn}"
        yield f"session:{issue.caller_id}"
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
    for link in one.links:
        for peer in other.links:
            if link.joins(peer) and _is_near(one, other, link, within):
                return True
    return False


def _is_near(one: Linked, other: Linked, link: Link, within: timedelta) -> bool:
    if link.kind is LinkKind.RULE:
        lookback = min(one.lookback or timedelta(0), other.lookback or timedelta(0))
        return abs(one.at - other.at) <= lookback
    return one.started_at - other.ended_at <= within and other.started_at - one.ended_at <= within


def groups(alerts: Sequence[Linked], *, within: timedelta = WITHIN) -> tuple[frozenset[str], ...]:
    """The incidents these alerts make, as sets of alert ids, in order of their first run."""
    left = sorted(alerts, key=lambda alert: (alert.at, alert.alert_id))
    found: list[frozenset[str]] = []
    while left:
        members, left = _component(left[0], left[1:], within)
        found.append(frozenset(member.alert_id for member in members))
    return tuple(found)


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
