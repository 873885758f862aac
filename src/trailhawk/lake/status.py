"""What lies in the lake: rows, files and bytes, for each table and event day."""

from __future__ import annotations

import datetime as dt
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from trailhawk.lake.catalog import Lake
from trailhawk.lake.table import DataFile


@dataclass(frozen=True, slots=True)
class DayState:
    """What a table holds of one event day. `oldest` and `newest` are event times, None where not known."""

    table: str
    day: dt.date | None
    rows: int
    files: int
    bytes: int
    oldest: dt.datetime | None
    newest: dt.datetime | None


def day_states(lake: Lake, tables: Iterable[str]) -> list[DayState]:
    """The days of these tables that hold anything, by table and day. NotFoundError for an unknown table."""
    return [state for table in tables for state in _days(lake, table)]


def damaged_files(lake: Lake, tables: Iterable[str]) -> list[str]:
    """The files of these tables that are not there or not as long as they were written: a look at the folder
    alone, for a lake on this machine; what has the right length is not read."""
    found: list[str] = []
    for table in tables:
        if lake.delta(table).storage.is_local:
            files = lake.snapshot(table).files(fetch=False)
            found += [file.path for file in files if _size(file.path) != file.size]
    return found


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def _days(lake: Lake, table: str) -> list[DayState]:
    days: dict[dt.date | None, list[DataFile]] = defaultdict(list)
    for file in lake.snapshot(table).files(fetch=False):
        days[file.first.date() if file.first else None].append(file)
    return [
        DayState(
            table=table,
            day=day,
            rows=sum(file.rows for file in files),
            files=len(files),
            bytes=sum(file.size for file in files),
            oldest=min((file.first for file in files if file.first), default=None),
            newest=max((file.last for file in files if file.last), default=None),
        )
        for day, files in sorted(days.items(), key=lambda item: item[0] or dt.date.min)
    ]
