"""Alerts made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import Entity
from trailhawk.detect.rule import Severity

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def alert(
    name: str,
    *named: Entity,
    minutes: int = 0,
    severity: Severity = Severity.LOW,
    rule: str = "r",
    details: tuple[tuple[str, tuple[str, ...]], ...] = (),
) -> Alert:
    """An alert of the half hour before its run."""
    at = AT + timedelta(minutes=minutes)
    return Alert(
        id=name,
        rule_id=rule,
        rule_name=f"The rule {rule}",
        at=at,
        started_at=at - timedelta(minutes=30),
        ended_at=at,
        name=f"Alert {name}",
        description=f"About {name}",
        severity=severity,
        tactics=("Collection",),
        techniques=("T1530",),
        entities=named,
        custom_details=details,
        properties=(),
        query="T",
        rows=1,
    )
