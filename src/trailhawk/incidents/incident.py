"""What an incident is: alerts that one intruder's credentials tie together, under one number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import Entity, distinct
from trailhawk.detect.rule import Severity


class Status(Enum):
    NEW = "New"
    ACTIVE = "Active"
    CLOSED = "Closed"


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as it stands after a change. `modified_at` is T of the run that changed it last."""

    number: int
    title: str
    description: str
    severity: Severity
    status: Status
    created_at: datetime
    modified_at: datetime
    first_activity: datetime
    last_activity: datetime
    alert_ids: tuple[str, ...]
    rule_ids: tuple[str, ...]
    rule_names: tuple[str, ...]
    entities: tuple[Entity, ...]
    tactics: tuple[str, ...]
    techniques: tuple[str, ...]
    merged_into: int | None = None

    def values(self, entity_type: str) -> tuple[str, ...]:
        """The first identifiers of the incident's entities of this type."""
        return tuple(each.value for each in self.entities if each.type == entity_type)


def assemble(number: int, alerts: Iterable[Alert]) -> Incident:
    """The incident that these alerts make: title and description of the gravest, everything else summed up.

    It does not depend on the order of the alerts, which must not be none.
    """
    alerts = sorted(alerts, key=lambda alert: (-alert.severity.rank, alert.started_at, alert.at, alert.id))
    gravest = alerts[0]
    return Incident(
        number=number,
        title=gravest.name,
        description=gravest.description,
        severity=gravest.severity,
        status=Status.NEW,
        created_at=min(alert.at for alert in alerts),
        modified_at=max(alert.at for alert in alerts),
        first_activity=min(alert.started_at for alert in alerts),
        last_activity=max(alert.ended_at for alert in alerts),
        alert_ids=tuple(alert.id for alert in sorted(alerts, key=lambda a: (a.at, a.id))),
        rule_ids=_distinct([alert.rule_id] for alert in alerts),
        rule_names=_distinct([alert.rule_name] for alert in alerts),
        entities=distinct(entity for alert in alerts for entity in alert.entities),
        tactics=_distinct(alert.tactics for alert in alerts),
        techniques=_distinct(alert.techniques for alert in alerts),
    )


def _distinct(lists: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for values in lists for value in values))
