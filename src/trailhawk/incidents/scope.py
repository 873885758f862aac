"""Which events belong to an incident: a condition for KQL, made from its alerts.

An alert that lists the ids of its events (custom detail EventIds) brings exactly those. One that does not, or
whose list was cut, brings the calls of its sessions and keys from its addresses between its first and last
event. So an instance's own traffic stays out of the incident about the thief's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from trailhawk.detect.alert import EVENT_IDS, MAX_DETAIL_VALUES, Alert
from trailhawk.detect.entities import AWS_ACCESS_KEY, AWS_SESSION, IP, Entity
from trailhawk.incidents.literal import moment, strings

AFTER: Final = timedelta(hours=12)
"""How long after the last event of an incident its credentials are still followed."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A KQL condition on AWSCloudTrail, and the time in which it can hold."""

    condition: str
    start: datetime
    end: datetime


def scope(alerts: Iterable[Alert]) -> Scope:
    """The events that these alerts, at least one, rest on."""
    alerts = list(alerts)
    ids = sorted({event_id for alert in alerts for event_id in alert.detail(EVENT_IDS)})
    spans = [_calls(alert) for alert in alerts if not _is_exact(alert)]
    conditions = [f"AwsEventId in {strings(ids)}"] if ids else []
    conditions += sorted({span for span in spans if span})
    return Scope(
        condition=" or ".join(f"({each})" for each in conditions) or "false",
        start=min(alert.started_at for alert in alerts),
        end=max(alert.ended_at for alert in alerts) + timedelta(seconds=1),
    )


def _is_exact(alert: Alert) -> bool:
    return 0 < len(alert.detail(EVENT_IDS)) < MAX_DETAIL_VALUES


def _calls(alert: Alert) -> str:
    """The calls of the alert's sessions and keys in its time; empty when it names neither."""
    who = _who(alert.entities)
    if not who:
        return ""
    addresses = alert.values(IP)
    where = f" and SourceIpAddress in {strings(addresses)}" if addresses else ""
    times = f"TimeGenerated between ({moment(alert.started_at)} .. {moment(alert.ended_at)})"
    return f"({who}){where} and {times}"


def _who(entities: Iterable[Entity]) -> str:
    named: dict[str, list[str]] = {}
    for each in entities:
        if each.type == AWS_ACCESS_KEY:
            named.setdefault("UserIdentityAccessKeyId", []).append(each.value)
        if each.type == AWS_SESSION and each.identifier("Id"):
            named.setdefault("UserIdentityPrincipalid", []).append(each.identifier("Id"))
        elif each.type == AWS_SESSION and each.identifier("Arn"):
            named.setdefault("UserIdentityArn", []).append(each.identifier("Arn"))
    return " or ".join(f"{column} in {strings(values)}" for column, values in named.items())
