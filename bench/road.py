"""Figures of the whole road, in seconds: `python bench/road.py [DAYS [EVENTS_A_DAY]]`."""

from __future__ import annotations

import datetime as dt
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


def startup(*words: str) -> None:
    """The best of five whole processes."""
    command = [sys.executable, "-m", "trailhawk", *words]
    seconds = []
    for _ in range(5):
        started = perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(perf_counter() - started)
    print(f"{'trailhawk ' + ' '.join(words[-2:]):40} {min(seconds):8.3f}", flush=True)


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
        startup("--version")
        startup("--home", str(folder / "home"), "query", "print 1")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
