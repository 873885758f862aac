"""What to look for elsewhere: addresses, clients and credentials that an incident was done with."""

from __future__ import annotations

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
    """The addresses, clients, access keys and sessions of an incident, of each type the busiest first."""
    seen: dict[tuple[str, str], list[datetime]] = {}
    for event in report.timeline:
        for named in (
            ("address", event.address),
            ("client", event.client),
            ("access key", event.key),
            ("session", event.session),
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
