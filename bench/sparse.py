"""What a sparse log costs: `python bench/sparse.py [EVENTS [DAYS]]`, 2,000 events over 730 days unless given.

The events come in bursts, and almost every window of every rule is quiet. Printed are seconds by the clock
and of processor time: ingest, the first `detect`, a second that finds all done, and one after late rows.
"""

from __future__ import annotations

import datetime as dt
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import TypeVar

import cloudtrail_files

from trailhawk.detect.history import Summary
from trailhawk.workspace import Workspace

T = TypeVar("T")
COUNTS = ("run", "before", "learning", "suppressed", "failed", "skipped", "alerts")


def timed(name: str, work: Callable[[], T]) -> T:
    clock, processor = perf_counter(), process_time()
    outcome = work()
    print(f"{name:30} {perf_counter() - clock:8.1f} s {process_time() - processor:8.1f} s of processor time")
    return outcome


def told(summary: Summary) -> str:
    return ", ".join(f"{sum(getattr(rule, name) for rule in summary.rules):,} {name}" for name in COUNTS)


def main(events: int = 2_000, days: int = 730) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        now = cloudtrail_files.FIRST_DAY + dt.timedelta(days=days)
        cloudtrail_files.write_bursts(folder / "logs", events=events, days=days)
        cloudtrail_files.write_bursts(folder / "late", events=events // 20, days=days, seed=2)
        workspace = Workspace.open(folder / "home", clock=lambda: now)
        rules = workspace.content.rules()
        timed("ingest", lambda: workspace.ingest([folder / "logs"], lambda _: None))
        for title in ("detect", "detect again", "detect after late rows"):
            if title == "detect after late rows":
                workspace.ingest([folder / "late"], lambda _: None)
            print(" ", told(timed(title, lambda: workspace.detect(rules))))
            state = sum(file.stat().st_size for file in (folder / "home").glob("state.db*"))
            print(f"  state {state / 1e6:.1f} MB, at most", end=" ")
            print(
                f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB of memory", flush=True
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
