"""How long rows stay: whole event days are forgotten, and what no version names is cleared from the disk."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from trailhawk.lake.compaction import COMPACT
from trailhawk.lake.delta import ConflictError, Delta, Transaction
from trailhawk.lake.table import DAY

_FORGOTTEN: Final = "retention"
"""Application id of retention: its version is the number of the first day that it kept."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a table gave up: event days before `before`."""

    table: str
    before: dt.date
    days: int
    files: int
    rows: int


def expiring(delta: Delta, *, before: dt.date) -> Forgotten:
    """What `forget` would remove, as of the table's newest state."""
    delta.refresh()
    return _forgotten(delta, before, _older(delta, before))


def forget(delta: Delta, *, before: dt.date) -> Forgotten:
    """Remove the rows of the event days before a day. The files stay on disk until `Delta.clean`.

    Looks at the table's newest state. Safe beside writers; a row that comes for such a day afterwards stays
    until the next call.
    """
    while True:
        delta.refresh()
        paths = _older(delta, before)
        gone = _forgotten(delta, before, paths)
        known = delta.transaction(_FORGOTTEN)
        if not paths and (known or delta.version < 0):
            return gone
        try:
            delta.commit(
                [],
                remove=list(paths),
                transaction=Transaction(COMPACT, delta.transaction(COMPACT) + 1),
                also=Transaction(_FORGOTTEN, max(known, before.toordinal())),
            )
        except ConflictError:
            continue  # somebody compacts: other files hold these days now
        return gone


def first_kept(delta: Delta) -> dt.date:
    """The first day of which retention never removed rows, as of the state last looked at."""
    return dt.date.fromordinal(max(1, delta.transaction(_FORGOTTEN)))


def _older(delta: Delta, before: dt.date) -> dict[str, tuple[dt.date, int]]:
    """Path, event day and rows of the live files of days before `before`."""
    actions = delta.actions()
    if actions is None:
        return {}
    columns = (actions[name].to_pylist() for name in ("path", f"partition.{DAY}", "num_records"))
    return {path: (day, rows or 0) for path, day, rows in zip(*columns, strict=True) if day < before}


def _forgotten(delta: Delta, before: dt.date, paths: dict[str, tuple[dt.date, int]]) -> Forgotten:
    return Forgotten(
        table=delta.table.name,
        before=before,
        days=len({day for day, _ in paths.values()}),
        files=len(paths),
        rows=sum(rows for _, rows in paths.values()),
    )
