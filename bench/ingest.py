"""How fast files become rows, on one core: `python bench/ingest.py [EVENTS [DAYS]]`.

Prints events a second over the whole ingest, the peak memory, and how long a listing of the files takes.
"""

from __future__ import annotations

import datetime as dt
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import cloudtrail_files

from trailhawk.connectors import TABLES as INGEST_TABLES
from trailhawk.connectors.ingest import ingest
from trailhawk.lake import Lake
from trailhawk.sources import TABLES


def main(events: int = 400_000, days: int = 4) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cloudtrail_files.write(folder / "logs", events=events, days=days)
        lake = Lake(folder / "lake", [*TABLES, *INGEST_TABLES])
        phases: dict[str, float] = {}
        last = ["start", time.process_time()]

        def phase(name: str) -> None:
            now = time.process_time()
            phases[str(last[0])] = phases.get(str(last[0]), 0.0) + now - float(last[1])
            last[:] = [name, now]

        summary = ingest(lake, [folder / "logs"], clock=lambda: dt.datetime.now(dt.UTC), phase=phase)
        phase("end")
        print(summary)
        busy = sum(phases.values())
        print(f"{summary.records / summary.seconds:,.0f} events/s by the clock on one core")
        print(f"{summary.records / busy:,.0f} events/s by processor time")
        print("processor seconds by phase:", {name: round(seconds, 2) for name, seconds in phases.items()})
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
        cold = Lake(folder / "lake", TABLES)
        for state in ("first", "again"):
            started = time.perf_counter()
            files = cold.snapshot("AWSCloudTrail").files()
            print(f"listing of {len(files)} files, {state}: {(time.perf_counter() - started) * 1000:.1f} ms")
        stored = sum(file.size for file in files)
        print(f"{stored / max(1, summary.rows):.0f} B stored an event")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
