"""A lake in a bucket beside one in a folder: `python bench/bucket.py [EVENTS]`, against moto on this machine.

Prints for both how fast files become rows, how long a one-day count takes on a machine without copies and
again with them, and how long a compaction takes. moto is slow: what counts is that all of it works, and
what a second look costs.
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cloudtrail_files

from trailhawk.workspace import Workspace

_NOW = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
_QUERY = """
AWSCloudTrail | where TimeGenerated between (datetime(2026-01-01) .. 1d) | summarize count() by EventName
"""
_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


def main(events: int = 100_000) -> None:
    with tempfile.TemporaryDirectory() as name, server() as url:
        folder = Path(name)
        cloudtrail_files.write(folder / "logs", events=events, days=2)
        in_bucket = (
            f'[lake]\nurl = "s3://lake/bench"\n[lake.s3]\nendpoint_url = "{url}"\nregion = "us-east-1"\n'
        )
        for kind, settings in (("folder", ""), ("bucket", in_bucket)):
            print(f"lake in a {kind}")
            workspace = opened(folder / kind, settings)
            seconds = timed("  ingest", lambda workspace=workspace: take(workspace, folder / "logs"))
            print(f"  {events / seconds:,.0f} events a second")
            other = workspace if kind == "folder" else opened(folder / "elsewhere", settings)
            for state in ("first", "again"):
                timed(f"  one-day count, {state}", lambda other=other: other.query(_QUERY, now=_NOW))
            later = opened(workspace.home, settings, now=_NOW + dt.timedelta(days=9))
            timed("  compaction of the closed days", later.caretaker.compact)
            days = later.lake_days(["AWSCloudTrail"])
            print(f"  {sum(day.rows for day in days):,} rows in {sum(day.files for day in days)} files")


def take(workspace: Workspace, logs: Path) -> None:
    workspace.ingest([logs], lambda _: None)


def opened(home: Path, settings: str, *, now: dt.datetime = _NOW) -> Workspace:
    workspace = Workspace.open(home, clock=lambda: now)
    (home / "trailhawk.toml").write_text(settings)
    return workspace


def timed(name: str, work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    print(f"{name:36} {seconds:8.3f} s", flush=True)
    return seconds


@contextmanager
def server() -> Iterator[str]:
    """S3 in a process of its own, with a bucket `lake`."""
    import boto3

    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes to the server")
        host, port = process.stdout.readline().split()
        url = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="lake")
        yield url
        process.stdin.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
