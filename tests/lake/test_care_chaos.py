"""Care of the lake that is killed again and again: TRAILHAWK_CARE_KILLS says how often (3 unless set)."""

from __future__ import annotations

import datetime as dt
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trailhawk.kql.schema import INGESTION_TIME, Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import Lake, Transaction
from trailhawk.lake.compaction import compact_busy_days
from trailhawk.lake.table import BATCH, CONFLICT, OBJECT, fitted

KILLS = int(os.environ.get("TRAILHAWK_CARE_KILLS", "3"))
EVENTS = Table(
    "Events", (Column("TimeGenerated", KqlType.DATETIME), Column("Number", KqlType.LONG)), constants={}
)
DAYS = [dt.date(2026, 3, day) for day in (1, 2, 3)]
TODAY = dt.date(2026, 3, 9)

_CARE = """
import datetime as dt, sys
from pathlib import Path
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import Lake
from trailhawk.lake.compaction import compact_busy_days

columns = (Column("TimeGenerated", KqlType.DATETIME), Column("Number", KqlType.LONG))
delta = Lake(Path(sys.argv[1]), [Table("Events", columns, constants={})]).delta("Events")
print("ready", flush=True)
while True:
    compact_busy_days(delta, today=dt.date(2026, 3, 9))
"""


def test_a_killed_compaction_loses_and_doubles_nothing(tmp_path: Path) -> None:
    delta = Lake(tmp_path, [EVENTS]).delta("Events")
    delta.create()
    rng = random.Random(5)
    written = 0
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", _CARE, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            until = time.monotonic() + rng.uniform(0.2, 1.5)
            while time.monotonic() < until:
                rows = [
                    {
                        "TimeGenerated": dt.datetime.combine(day, dt.time()) + dt.timedelta(seconds=written),
                        "Number": written * len(DAYS) + place,
                        INGESTION_TIME: dt.datetime(2026, 3, 9),
                        OBJECT: "o",
                        BATCH: "b",
                        CONFLICT: False,
                    }
                    for place, day in enumerate(DAYS)
                ]
                delta.refresh()
                transaction = Transaction("ingest", delta.transaction("ingest") + 1)
                delta.commit(delta.stage(fitted(pa.Table.from_pylist(rows), EVENTS)), transaction=transaction)
                written += 1
            process.kill()
    while compact_busy_days(delta, today=TODAY):
        pass
    delta.refresh()
    numbers: list[int] = []
    for path in delta.live():
        numbers += pq.ParquetFile(delta.file(path)).read()["Number"].to_pylist()
    assert sorted(numbers) == list(range(written * len(DAYS)))
    assert len(delta.live()) <= 4 * len(DAYS)
