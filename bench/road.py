"""Figures of the whole road, in seconds: `python bench/road.py [DAYS [EVENTS_A_DAY]]`."""

from __future__ import annotations

import datetime as dt
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from trailhawk.simulate.run import simulate
from trailhawk.workspace import Workspace

LAST_DAY = dt.date(2026, 3, 31)
NOW = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
QUERIES = {
    "count": "AWSCloudTrail | count",
    "group by a promoted path": (
        "AWSCloudTrail | summarize count() by tostring(parse_json(RequestParameters).bucketName)"
    ),
    "text search": "AWSCloudTrail | where UserAgent has 'aws-cli' | summarize count() by SourceIpAddress",
    "one session": "AWSCloudTrail | where UserIdentityArn endswith 'i-0a1b2c3d4e5f60718' | take 10",
}
T = TypeVar("T")


def timed(name: str, work: Callable[[], T]) -> T:
    started = perf_counter()
    outcome = work()
    print(f"{name:40} {perf_counter() - started:8.3f}", flush=True)
    return outcome


def startup(home: Path, *words: str, rounds: int = 7) -> None:
    """A command as a process of its own: the least time by the clock, and the least processor time."""
    command = [sys.executable, "-m", "trailhawk", "--home", str(home), *words]
    clock, processor = [], []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        clock.append(perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"{'trailhawk ' + ' '.join(words)[:29]:40} {min(clock):8.3f} {min(processor):8.3f} cpu", flush=True)


def main(days: int = 35, events_per_day: int = 3_000) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = timed(
            "simulate",
            lambda: simulate(
                "cloud-breach-s3",
                folder / "sim",
                days=days,
                seed=1,
                events_per_day=events_per_day,
                end=LAST_DAY,
            ),
        )
        workspace = Workspace.open(folder / "home", clock=lambda: NOW)
        taken = timed("ingest", lambda: workspace.ingest([made.logs], lambda _: None))
        found = timed("detect", lambda: workspace.detect(workspace.content.rules()))
        for incident in workspace.incidents.all():
            timed(f"report of incident {incident.number}", lambda n=incident.number: workspace.report(n))
        for title, text in QUERIES.items():
            workspace.query(text, now=NOW)
            timed(f"query: {title}", lambda text=text: workspace.query(text, now=NOW))
        print(f"{'rows':40} {taken.rows:8,}")
        print(f"{'windows run':40} {sum(rule.run for rule in found.rules):8,}")
        page = str(folder / "page.html")
        startup(folder / "nowhere yet", "query", "print 1")
        for words in (
            ("--version",),
            ("query", "print 1"),
            ("query", "AWSCloudTrail | count"),
            ("tables",),
            ("rules", "list"),
            ("hunt", "list"),
            ("incidents", "list"),
            ("incidents", "show", "1"),
            ("incidents", "graph", "1", "--out", page),
            ("incidents", "report", "1", "--out", page),
        ):
            startup(folder / "home", *words)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
