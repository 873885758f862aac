"""What a lake holds, whether its ledger says so, and a lake that is damaged."""

from __future__ import annotations

import collections
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from trailhawk.connectors import LEDGER, QUARANTINE, TABLES
from trailhawk.lake import Lake


def rows(lake: Lake, table: str) -> list[dict[str, Any]]:
    """A table's rows with their hidden columns, file by file."""
    files = lake.snapshot(table).files()
    return [row for file in files for row in pq.ParquetFile(file.path).read().to_pylist()]


def assert_balanced(lake: Lake, *, retried: bool = False) -> None:
    """Each record is a row, a duplicate, filtered or in quarantine; the tables hold what the ledger says; and
    no object has ended twice, unless it was tried again."""
    ledger = rows(lake, LEDGER.name)
    for row in ledger:
        assert row["Records"] == row["Rows"] + row["Duplicates"] + row["Filtered"] + row["Quarantined"]
    logs = set(lake.table_names()) - {table.name for table in TABLES}
    assert sum(row["Rows"] for row in ledger) == sum(lake.snapshot(name).rows for name in logs)
    assert sum(row["Quarantined"] for row in ledger) == lake.snapshot(QUARANTINE.name).rows
    ended = collections.Counter(row["Object"] for row in ledger if row["State"] != "part")
    assert retried or set(ended.values()) <= {1}


@contextmanager
def damaged(home: Path, table: str) -> Iterator[None]:
    """With a log of the table that nobody can read; it is put back."""
    log = home / "lake" / table / "_delta_log"
    away = log.parent / "away"
    log.rename(away)
    log.mkdir()
    (log / f"{0:020}.json").write_text("damaged")
    yield
    shutil.rmtree(log)
    away.rename(log)
