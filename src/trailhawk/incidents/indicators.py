"""What to look for elsewhere: addresses, clients, credentials and whose they were, of an incident."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from trailhawk.detect.entities import AWS_ACCESS_KEY, AWS_SESSION, IP
from trailhawk.incidents.report import Report

_IDENTIFIERS: Final = {
    IP: ("address", "Address"),
    AWS_ACCESS_KEY: ("access key", "Id"),
    AWS_SESSION: ("session", "Arn"),
}
"""Which entities are indicators, the type they have as such, and the identifier that is looked for."""

TYPES: Final = ("access key", "address", "client", "principal", "session")
"""What an indicator may be."""

_IS_SESSION: Final = re.compile(r"arn:[^:]*:sts:[^:]*:[^:]*:(assumed-role|federated-user)/")
"""The ARNs of who has temporary credentials; a call with a user's own keys has the user's ARN."""


@dataclass(frozen=True, slots=True)
class Indicator:
    """A value to look for. So many `events` of the incident have it, from `first` to `last`: 0 and None where
    only an alert names it, or the lineage of its keys."""

    type: str
    value: str
    events: int
    first: datetime | None
    last: datetime | None


def indicators(report: Report) -> tuple[Indicator, ...]:
    """What an incident has of each of `TYPES`, of each type the busiest first."""
    seen: dict[tuple[str, str], list[datetime]] = {}
    for event in report.timeline:
        for named in (
            ("address", event.address),
            ("client", event.client),
            ("access key", event.key),
            ("session" if _IS_SESSION.match(event.session) else "principal", event.session),
        ):
            seen.setdefault(named, []).append(event.at)
    for each in report.entities:
        if each.type in _IDENTIFIERS:
            kind, identifier = _IDENTIFIERS[each.type]
            seen.setdefault((kind, each.identifier(identifier)), [])
    found = [
        Indicator(kind, value, len(at), min(at, default=None), max(at, default=None))
        for (kind, value), at in seen.items()
        if value and (kind != "address" or _is_address(value))
    ]
    return tuple(sorted(found, key=lambda each: (each.type, -each.events, each.value)))


def _is_address(text: str) -> bool:
    """Whether it is one; a service that calls on somebody's behalf stands under its name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
