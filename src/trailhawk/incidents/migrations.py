"""The incidents of earlier versions, brought over; see `detect/migrate.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import sqlalchemy as sa

from trailhawk.detect.migrate import Step
from trailhawk.detect.store import AlertStore
from trailhawk.incidents import log
from trailhawk.incidents.change import GROUPING, ChangeKind
from trailhawk.incidents.incident import Facts, Incident, in_order, joined, made_of

LEGACY: Final = "incident_changes"
"""The log of the first version: whole incidents, one row for each change, all of them made by grouping."""


def _from_changes(connection: sa.Connection) -> None:
    """Fill the log and how incidents stand from the first version's log, and give that up."""
    old = sa.table(LEGACY, sa.column("sequence"), sa.column("number"), sa.column("body"))
    stands: dict[int, Incident] = {}
    alerts: dict[str, Facts] = {}
    for number, body in connection.execute(
        sa.select(old.c.number, old.c.body).order_by(old.c.sequence)
    ).all():
        before = stands.get(number)
        after = replace(log.decoded(bytes(body)), modified_by=GROUPING)
        facts = _facts(connection, after.alert_ids, alerts)
        after = replace(after, entities=in_order(after.entities), guid=made_of(number, facts).guid)
        kind = ChangeKind.CREATED if before is None else ChangeKind.ALERTS_ADDED
        others: Sequence[int] = ()
        kept: Facts | None = facts
        if after.merged_into is not None:
            kind, others, kept = ChangeKind.MERGED_AWAY, [after.merged_into], None
            after = replace(after, alert_ids=(), entities=(), closed_at=after.modified_at)
        if before is not None:
            after = replace(after, guid=before.guid)
        written = log.write(
            connection, before, after, kept, kind=kind, by=GROUPING, at=after.modified_at, others=others
        )
        stands[number] = written.after
    connection.execute(sa.text(f"DROP TABLE {LEGACY}"))


def _facts(connection: sa.Connection, alert_ids: Sequence[str], known: dict[str, Facts]) -> Facts:
    """What follows from these alerts; each is read once."""
    for some in log.chunks([alert_id for alert_id in alert_ids if alert_id not in known]):
        known |= {alert.id: Facts.of(alert) for alert in AlertStore.stored(connection, some)}
    return joined(known[alert_id] for alert_id in alert_ids)


STEPS: Final[tuple[Step, ...]] = (_from_changes,)
