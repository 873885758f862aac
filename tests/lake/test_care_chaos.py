"""Care of the lake that is killed again and again: TRAILHAWK_CARE_KILLS says how often (3 unless set)."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trailhawk.kql.schema import INGESTION_TIME, Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import ConflictError, Lake, Transaction
from trailhawk.lake.compaction import compact_busy_days
from trailhawk.lake.delta import Delta
from trailhawk.lake.retention import forget
from trailhawk.lake.table import BATCH, CONFLICT, OBJECT, fitted

KILLS = int(os.environ.get("TRAILHAWK_CARE_KILLS", "3"))
EVENTS = Table(
    "Events", (Column("TimeGenerated", KqlType.DATETIME), Column("Number", KqlType.LONG)), constants={}
)
DAYS = [dt.date(2026, 3, day) for day in (1, 2, 3)]
FORGOTTEN = dt.date(2026, 2, 20)
TODAY = dt.date(2026, 3, 9)

_CARE = """
import datetime as dt, sys
from pathlib import Path
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import Lake
from trailhawk.lake.compaction import compact_busy_days
from trailhawk.lake.retention import forget

columns = (Column("TimeGenerated", KqlType.DATETIME), Column("Number", KqlType.LONG))
delta = Lake(Path(sys.argv[1]), [Table("Events", columns, constants={})]).delta("Events")
print("ready", flush=True)
while True:
    compact_busy_days(delta, today=dt.date(2026, 3, 9))
    forget(delta, before=dt.date(2026, 3, 1))
    delta.clean(older_than=dt.timedelta(days=1))
"""


def _append(delta: Delta, number: int) -> bool:
    """Add a row to each day; whether nobody retired files meanwhile, as a writer must then plan again."""
    rows = [
        {
            "TimeGenerated": dt.datetime.combine(day, dt.time()) + dt.timedelta(seconds=number),
            "Number": number * len(DAYS) + place if day in DAYS else -1,
            INGESTION_TIME: dt.datetime(2026, 3, 9),
            OBJECT: "o",
            BATCH: "b",
            CONFLICT: False,
        }
        for place, day in enumerate([*DAYS, FORGOTTEN])
    ]
    delta.refresh()
    staged = delta.stage(fitted(pa.Table.from_pylist(rows), EVENTS))
    try:
        delta.commit(staged, transaction=Transaction("ingest", delta.transaction("ingest") + 1))
    except ConflictError:
        delta.discard(staged)
        return False
    return True


@pytest.mark.long
def test_killed_care_loses_and_doubles_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    """Compaction, retention and clearing away, beside a writer that goes on."""
    delta = Lake(tmp_path, [EVENTS]).delta("Events")
    delta.create()
    rng = random.Random(5)
    written = 0
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", _CARE, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == "ready\n"
                until = time.monotonic() + rng.uniform(0.2, 1.5)
                while time.monotonic() < until:
                    written += _append(delta, written)
            finally:
                process.kill()
    while compact_busy_days(delta, today=TODAY):
        pass
    forget(delta, before=DAYS[0])
    delta.refresh()
    numbers: list[int] = []
    for path in delta.live():
        numbers += pq.ParquetFile(delta.file(path)).read()["Number"].to_pylist()
    assert sorted(numbers) == list(range(written * len(DAYS)))
    assert len(delta.live()) <= 4 * len(DAYS)
    two_days_ago = time.time() - 2 * 86_400
    for file in tmp_path.rglob("*.parquet"):
        os.utime(file, (two_days_ago, two_days_ago))
    delta.clean(older_than=dt.timedelta(days=1))
    commits = [path.read_text() for path in (delta.root / "_delta_log").glob("*.json")]
    lines = [line for commit in commits for line in commit.splitlines()]
    named = {action["add"]["path"] for action in map(json.loads, lines) if "add" in action}
    assert {str(path.relative_to(delta.root)) for path in delta.root.glob("_th_day=*/*.parquet")} <= named
