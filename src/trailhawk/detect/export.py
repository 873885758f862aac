"""Alerts from the state database, which is their truth, to the lake, where any engine can read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from trailhawk.detect.security_alert import SECURITY_ALERT, alert_rows
from trailhawk.detect.store import AlertStore
from trailhawk.kql.schema import INGESTION_TIME
from trailhawk.lake import Lake
from trailhawk.lake.catalog import EXPORT
from trailhawk.lake.delta import ConflictError, Transaction
from trailhawk.lake.table import stored_schema


def export_alerts(alerts: AlertStore, lake: Lake, *, now: datetime) -> int:
    """Append the alerts that the lake lacks to SecurityAlert, in order of their sequence; how many.

    The last sequence number is the version of the Delta application `export`, in the same commit as the
    rows: what was exported is never exported again, whoever tries. `lake` must be a view of its own.
    """
    delta = lake.delta(SECURITY_ALERT.name)
    done = 0
    while True:
        delta.create()
        delta.refresh()
        pending = alerts.pending(delta.transaction(EXPORT))
        if not pending:
            return done
        staged = delta.stage(_stored_rows(alert_rows(alert for _, alert in pending), now))
        try:
            delta.commit(staged, transaction=Transaction(EXPORT, pending[-1][0]))
        except ConflictError:
            delta.discard(staged)  # another process has exported meanwhile: look again
            continue
        done += len(pending)


def _stored_rows(rows: pa.Table, now: datetime) -> pa.Table:
    """The rows with the lake's hidden columns; a record's identity is not known here."""
    schema = stored_schema(SECURITY_ALERT)
    ingested = pa.scalar(now.astimezone(UTC).replace(tzinfo=None), pa.timestamp("us"))
    columns = []
    for field in schema:
        if field.name in rows.column_names:
            columns.append(rows.column(field.name).cast(field.type))
        elif field.name == INGESTION_TIME:
            columns.append(pa.chunked_array([pa.repeat(ingested, rows.num_rows)]))
        elif pa.types.is_string(field.type):
            columns.append(pa.chunked_array([pa.repeat("", rows.num_rows)]))
        else:
            columns.append(pa.chunked_array([pa.nulls(rows.num_rows, field.type)]))
    return pa.table(columns, schema=schema)
