"""The log of incidents, to the lake as SecurityIncident, where any engine can read it."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from trailhawk.detect.export import Pending, export_pending
from trailhawk.incidents.security_incident import SECURITY_INCIDENT, incident_rows
from trailhawk.incidents.store import BATCH, IncidentStore
from trailhawk.lake import Lake


def export_incidents(incidents: IncidentStore, lake: Lake, *, now: datetime) -> int:
    """Append the changes that the lake lacks to SecurityIncident, in order of their sequence; how many.

    `lake` must be a view of its own.
    """

    def pending(after: int) -> Pending | None:
        changes = incidents.changes_since(after, limit=10 * BATCH)
        return (changes[-1].sequence, incident_rows(changes)) if changes else None

    return export_pending(lake, SECURITY_INCIDENT, pending, incidents.go_on_after, now=now)


def pending_rows(incidents: IncidentStore, after: int) -> pa.Table:
    """All changes with a higher sequence number as rows."""
    parts = [incident_rows([])]
    while changes := incidents.changes_since(after):
        parts.append(incident_rows(changes))
        after = changes[-1].sequence
    return pa.concat_tables(parts)
