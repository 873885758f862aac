"""Kill an ingest again and again, then finish it: no row lost, none double, the ledger balanced.

`python bench/crash.py [--events N] [--kills N] [--batch N]` makes CloudTrail files, measures a clean ingest,
then kills ingests of the same files with SIGKILL, spread over reading, decoding, writing Parquet, the
table's commit and the ledger's commit, and checks every row and every object after a last clean run.
"""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cloudtrail_files
import pyarrow.parquet as pq

from trailhawk.connectors import LEDGER, QUARANTINE
from trailhawk.connectors import TABLES as INGEST_TABLES
from trailhawk.connectors.ingest import BATCH_RECORDS, ingest
from trailhawk.lake import Lake
from trailhawk.sources import TABLES

PHASES = ("read", "write", "commit", "ledger", "decode")
# How long after a phase began it is killed at most, in seconds: commits are short.
_DELAYS = {"read": 0.05, "decode": 0.5, "write": 0.05, "commit": 0.002, "ledger": 0.006}


@dataclass(frozen=True)
class Kill:
    """One killed run: the phase aimed at, the phase it died in, and how long it had run."""

    aim: str
    died_in: str
    seconds: float


def open_lake(root: Path) -> Lake:
    return Lake(root, [*TABLES, *INGEST_TABLES])


def child(root: Path, logs: Path, batch: int, stop: str, nth: int) -> None:
    """Ingest, telling the parent each phase as it begins; wait for its kill in the nth phase `stop`."""
    met = itertools.count(1)

    def phase(name: str) -> None:
        os.write(1, f"{name}\n".encode())
        if name == stop and next(met) == nth:
            time.sleep(60)

    ingest(open_lake(root), [logs], clock=lambda: dt.datetime.now(dt.UTC), phase=phase, batch_records=batch)


def killed_run(
    root: Path, logs: Path, batch: int, aim: str, nth: int, rng: random.Random, *, wait: bool
) -> Kill | None:
    """Start an ingest and kill it in the nth occurrence of a phase; None if it ended before.

    With `wait` it stands still as the phase begins, so that a slow machine cannot miss it.
    """
    started = time.perf_counter()
    met = 0
    with _start(root, logs, batch, (aim, nth) if wait else ("", 0)) as process:
        if process.stdout is None:
            raise RuntimeError("the ingest has no output to read")
        for line in process.stdout:
            met += line.strip() == aim
            if met == nth:
                time.sleep(rng.random() * _DELAYS[aim])
                process.send_signal(signal.SIGKILL)
                break
        rest = process.stdout.read().split()
    if process.returncode != -signal.SIGKILL:
        return None
    return Kill(aim, rest[-1] if rest else aim, time.perf_counter() - started)


def clean_run(root: Path, logs: Path, batch: int) -> float:
    """Ingest to the end in a process of its own; seconds."""
    started = time.perf_counter()
    process = _start(root, logs, batch)
    process.communicate()
    if process.returncode:
        raise SystemExit(f"ingest failed with {process.returncode}")
    return time.perf_counter() - started


def check(root: Path, logs: Path, expected: set[tuple[str, str]]) -> list[str]:
    """What is wrong with the lake; empty if every event is stored once and the books balance."""
    lake = open_lake(root)
    rows = _column_rows(lake, "AWSCloudTrail", ("AwsEventId", "RecipientAccountId", "_th_batch"))
    counts = collections.Counter((event, account) for event, account, _ in rows)
    names = [column.name for column in LEDGER.columns]
    ledger = [dict(zip(names, row, strict=True)) for row in _column_rows(lake, LEDGER.name, names)]
    objects = collections.Counter(row["Object"] for row in ledger if row["State"] != "part")
    faults = {
        "events lost": len(expected - counts.keys()),
        "events not delivered": len(counts.keys() - expected),
        "events stored twice": sum(count > 1 for count in counts.values()),
        "objects in the ledger twice": sum(count > 1 for count in objects.values()),
        "objects missing in the ledger": len(list(cloudtrail_files.files(logs))) - len(objects),
        "rows of a batch the ledger does not know": len(
            {row[2] for row in rows} - {r["Batch"] for r in ledger}
        ),
        "ledger rows and stored rows differ by": sum(row["Rows"] for row in ledger) - len(rows),
        "ledger rows out of balance": sum(
            row["Records"] != row["Rows"] + row["Duplicates"] + row["Filtered"] + row["Quarantined"]
            for row in ledger
        ),
        "parts in quarantine": lake.snapshot(QUARANTINE.name).rows,
    }
    return [f"{what}: {count}" for what, count in faults.items() if count]


def crash(
    folder: Path, *, events: int, days: int, kills: int, batch: int, seed: int = 7, wait: bool = False
) -> list[str]:
    """The whole run in `folder`, printing as it goes; the faults found. `wait` as in `killed_run`."""
    logs, root = folder / "logs", folder / "lake"
    expected = cloudtrail_files.write(logs, events=events, days=days)
    seconds = clean_run(folder / "clean", logs, batch)
    print(f"clean ingest of {len(expected):,} events: {seconds:.1f} s", flush=True)
    batches = max(1, events // batch)
    rng = random.Random(seed)
    done: list[Kill] = []
    while len(done) < kills:
        aim = PHASES[len(done) % len(PHASES)]
        # Every run gets a few batches further, so that the kills are spread over the whole data.
        ahead = max(1, batches // (kills + 1))
        nth = ahead * _per_batch(aim, logs, batches) + rng.randrange(2)
        kill = killed_run(root, logs, batch, aim, nth, rng, wait=wait)
        if kill is None:
            print("an ingest came to its end before it could be killed", flush=True)
            break
        done.append(kill)
        print(f"kill {len(done)}: in {kill.died_in} after {kill.seconds:.1f} s", flush=True)
    print("killed in", dict(collections.Counter(kill.died_in for kill in done)))
    print(f"last clean ingest: {clean_run(root, logs, batch):.1f} s")
    faults = check(root, logs, expected)
    if len(done) < kills:
        faults.append(f"only {len(done)} of {kills} kills")
    return faults


def _per_batch(phase: str, logs: Path, batches: int) -> int:
    """How often a phase is told in a batch."""
    return max(1, len(list(cloudtrail_files.files(logs))) // batches) if phase == "read" else 1


def _start(root: Path, logs: Path, batch: int, stop: tuple[str, int] = ("", 0)) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--child", str(root), str(logs), str(batch), *map(str, stop)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _column_rows(lake: Lake, table: str, names: Sequence[str]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for file in lake.snapshot(table).files():
        with pq.ParquetFile(file.path) as parquet:
            columns = parquet.read(columns=list(names))
        rows += zip(*(columns[name].to_pylist() for name in names), strict=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--events", type=int, default=2_400_000)
    parser.add_argument("--days", type=int, default=12)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--batch", type=int, default=BATCH_RECORDS)
    options = parser.parse_args()
    if options.child:
        root, logs, batch, stop, nth = options.child
        child(Path(root), Path(logs), int(batch), stop, int(nth))
        return 0
    with tempfile.TemporaryDirectory() as name:
        faults = crash(
            Path(name), events=options.events, days=options.days, kills=options.kills, batch=options.batch
        )
    print("\n".join(faults) or "no row lost, none double, the ledger balanced")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
