"""What the state database is the truth of, to the lake, where any engine can read it: alerts, watchlists,
bookmarks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pyarrow as pa

from trailhawk.detect.bookmark_table import HUNTING_BOOKMARK, bookmark_rows
from trailhawk.detect.bookmarks import BookmarkStore
from trailhawk.detect.security_alert import SECURITY_ALERT, alert_rows
from trailhawk.detect.store import AlertStore
from trailhawk.detect.watchlist_table import WATCHLIST, watchlist_rows
from trailhawk.detect.watchlists import WatchlistStore
from trailhawk.kql.schema import INGESTION_TIME, Table
from trailhawk.lake import Lake
from trailhawk.lake.catalog import EXPORT
from trailhawk.lake.delta import ConflictError, Transaction
from trailhawk.lake.table import BATCH, OBJECT, as_stored, fitted

Pending = tuple[int, pa.Table]
"""The last sequence number of a batch, and its rows."""


def export_alerts(alerts: AlertStore, lake: Lake, *, now: datetime) -> int:
    """Append the alerts that the lake lacks to SecurityAlert, in order of their sequence; how many.

    `lake` must be a view of its own.
    """

    def pending(after: int) -> Pending | None:
        found = alerts.pending(after)
        return (found[-1][0], alert_rows(alert for _, alert in found)) if found else None

    return export_pending(lake, SECURITY_ALERT, pending, alerts.go_on_after, now=now)


def export_watchlists(watchlists: WatchlistStore, lake: Lake, *, now: datetime) -> int:
    """Append to Watchlist what happened to the watchlists since the last export; how many rows.

    `lake` must be a view of its own.
    """

    def pending(after: int) -> Pending | None:
        found = watchlists.pending(after)
        return (found[-1].sequence, watchlist_rows(found)) if found else None

    return export_pending(lake, WATCHLIST, pending, watchlists.go_on_after, now=now)


def export_bookmarks(bookmarks: BookmarkStore, lake: Lake, *, now: datetime) -> int:
    """Append to HuntingBookmark what happened to the bookmarks since the last export; how many rows.

    `lake` must be a view of its own.
    """

    def pending(after: int) -> Pending | None:
        found = bookmarks.pending(after)
        return (found[-1].sequence, bookmark_rows(found)) if found else None

    return export_pending(lake, HUNTING_BOOKMARK, pending, bookmarks.go_on_after, now=now)


def export_pending(
    lake: Lake,
    table: Table,
    pending: Callable[[int], Pending | None],
    go_on_after: Callable[[int], None],
    *,
    now: datetime,
) -> int:
    """Append what is pending, batch by batch.

    The last sequence number is the version of the Delta application `export`, in the same commit as the
    rows: what was exported is never exported again, whoever tries. `go_on_after` is told it before, in case
    the state database is older than the lake.
    """
    delta = lake.delta(table.name)
    if delta.refresh() < 0:
        if pending(0) is None:
            return 0  # there is nothing yet to make the table for
    else:
        go_on_after(delta.transaction(EXPORT))
    done = 0
    while True:
        delta.create()
        delta.refresh()
        batch = pending(delta.transaction(EXPORT))
        if batch is None:
            return done
        last, rows = batch
        staged = delta.stage(_stored_rows(table, rows, now))
        try:
            delta.commit(staged, transaction=Transaction(EXPORT, last))
        except ConflictError:
            delta.discard(staged)  # another process has exported meanwhile: look again
            continue
        done += rows.num_rows


def _stored_rows(table: Table, rows: pa.Table, now: datetime) -> pa.Table:
    """The rows with the lake's hidden columns; a record's identity is not known here."""
    ingested = pa.scalar(as_stored(now), pa.timestamp("us"))
    rows = rows.append_column(INGESTION_TIME, pa.repeat(ingested, rows.num_rows))
    for name in (OBJECT, BATCH):
        rows = rows.append_column(name, pa.repeat("", rows.num_rows))
    return fitted(rows, table)
