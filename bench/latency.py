"""Queries while ingest runs at full speed: `python bench/latency.py [ROWS [SECONDS]]`.

A lake of ROWS rows over 30 days; one process takes in new events of today and late ones of the ten days
before, as fast as it can, one process compacts. Meanwhile one-day counts are asked. Prints their 50th and
95th percentile, the most live files of today and of a closed day after any commit, and what was ingested; at
the end every live file is read to see that it is sorted and that no row is missing.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import multiprocessing
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import BinaryIO

import cloudtrail_files
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from isal import igzip

from trailhawk.connectors.ingest import Ingestor, ingest
from trailhawk.connectors.objects import LogObject
from trailhawk.lake.compaction import compact_busy_days
from trailhawk.lake.delta import Delta
from trailhawk.lake.table import DAY, ID, PAYLOAD
from trailhawk.workspace import Workspace

TODAY = dt.date(2026, 3, 31)
DAYS = 30
TABLE = "AWSCloudTrail"
_NOW = dt.datetime(2026, 3, 31, 23, 59, 59, tzinfo=dt.UTC)
_EVENT_ID = re.compile(rb'"eventID":"[0-9a-f]{8}')


def main(rows: int = 1_000_000, seconds: int = 60) -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        workspace = Workspace.open(home / "home", clock=lambda: _NOW)
        started = time.perf_counter()
        stored = fill(workspace, home / "template", rows)
        print(f"{stored:,} rows over {DAYS} days laid down in {time.perf_counter() - started:.0f} s")
        context = multiprocessing.get_context("spawn")
        stop, counts = context.Event(), context.Queue()
        workers = [
            context.Process(target=take, args=(home, stop, counts)),
            context.Process(target=care, args=(home, stop, counts)),
        ]
        for worker in workers:
            worker.start()
        ask(workspace, seconds)
        stop.set()
        told = dict(counts.get(timeout=600) for _ in workers)
        for worker in workers:
            worker.join()
        print(f"ingested meanwhile: {told['rows']:,} rows, {told['rows'] / seconds:,.0f} a second")
        print(
            f"days rewritten meanwhile: {told['rewritten']}; errors of the workers: {told.get('errors', 0)}"
        )
        check(workspace.lake.delta(TABLE), stored + told["rows"])


def ask(workspace: Workspace, seconds: int) -> None:
    """One-day counts, one after the other."""
    times: list[float] = []
    errors: Counter[str] = Counter()
    until = time.perf_counter() + seconds
    days = [TODAY - dt.timedelta(days=back) for back in (0, 1, 5, 20)]
    while time.perf_counter() < until:
        day = days[len(times) % len(days)]
        text = (
            f"{TABLE} | where TimeGenerated between (datetime({day}) .. 24h) | summarize count() by EventName"
        )
        started = time.perf_counter()
        try:
            workspace.query(text, now=_NOW)
        except Exception as error:
            errors[f"{type(error).__name__}: {error}"] += 1
        times.append(time.perf_counter() - started)
    p50, p95 = np.quantile(times, [0.5, 0.95])
    print(f"{len(times)} day counts: p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms, errors {dict(errors)}")


def fill(workspace: Workspace, template: Path, rows: int) -> int:
    """Lay down the rows, a few files a day, made of one day of synthetic events."""
    cloudtrail_files.write(template, events=40_000, days=1, repeat=0)
    small = Workspace.open(template / "home", clock=workspace.clock)
    ingest(small.lake, [template / "AWSLogs"], clock=workspace.clock)
    day = pa.concat_tables(
        pq.read_table(file.path, partitioning=None) for file in small.lake.snapshot(TABLE).files()
    )
    delta = workspace.lake.delta(TABLE)
    delta.create()
    per_day, stored = rows // DAYS, 0
    rng = np.random.default_rng(1)
    start = np.datetime64("2026-01-01T00:00:00", "us")
    for back in range(DAYS):
        moved = np.timedelta64((np.datetime64(TODAY) - back - start).astype("timedelta64[us]"))
        copies = [_copy(day, moved, rng) for _ in range(-(-per_day // day.num_rows))]
        made = pa.concat_tables(copies).slice(0, per_day)
        delta.commit(delta.stage(made))
        stored += made.num_rows
    return stored


def _copy(rows: pa.Table, moved: np.timedelta64, rng: np.random.Generator) -> pa.Table:
    """The rows on another day, with hashes of their own."""
    count = rows.num_rows
    times = pa.array(rows["TimeGenerated"].to_numpy() + moved)
    fresh = {"TimeGenerated": times, ID: None, PAYLOAD: None}
    for name, values in fresh.items():
        column = values if values is not None else pa.array(rng.integers(-(2**62), 2**62, count))
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), column.cast(rows.schema.field(place).type))
    return rows


def take(home: Path, stop: Event, counts: multiprocessing.Queue[tuple[str, int]]) -> None:
    """Take in event after event, nine of ten of today, the others of the ten days before, in small batches:
    a queue that never runs dry is taken in larger ones, which makes less work for the rest."""
    workspace = Workspace.open(home / "home", clock=lambda: _NOW)
    ingestor = Ingestor(workspace.lake, clock=workspace.clock, worker="bench", batch_records=10_000)
    texts = [igzip.decompress(path.read_bytes()) for path in cloudtrail_files.files(home / "template")]
    for number, text in _endless(texts):
        if stop.is_set():
            break
        ingestor.take(
            LogObject(
                f"mem/{number}.json", partial(_opened, text), source="cloudtrail", identity=f"mem:{number}"
            )
        )
    ingestor.flush()
    counts.put(("rows", ingestor.summary().rows))


def _opened(text: bytes) -> BinaryIO:
    return io.BytesIO(text)


def _endless(texts: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Files that never came before: the event ids begin with a number of their own."""
    number = 0
    while True:
        for text in texts:
            back = number % 11 if number % 10 == 0 else 0
            day = TODAY - dt.timedelta(days=back)
            fresh = _EVENT_ID.sub(b'"eventID":"%08x' % number, text)
            yield number, fresh.replace(b'"2026-01-01T', f'"{day}T'.encode())
            number += 1


def care(home: Path, stop: Event, counts: multiprocessing.Queue[tuple[str, int]]) -> None:
    """Compact round after round."""
    delta = Workspace.open(home / "home").lake.apart().delta(TABLE)
    rewritten = 0
    while not stop.wait(1.0):
        rewritten += compact_busy_days(delta, today=TODAY)
    time.sleep(5)  # the last batch is stored meanwhile
    rewritten += compact_busy_days(delta, today=TODAY)
    counts.put(("rewritten", rewritten))


def check(delta: Delta, expected: int) -> None:
    """Every live file is sorted, and all rows are there."""
    delta.refresh()
    rows = unsorted = 0
    for path in delta.live():
        times = pq.ParquetFile(delta.root / path).read(["TimeGenerated"])["TimeGenerated"].combine_chunks()
        rows += len(times)
        unsorted += not pc.all(pc.less_equal(times[:-1], times[1:])).as_py() if len(times) > 1 else False
    print(f"at the end: {rows:,} rows of {expected:,}; {unsorted} files not sorted")
    most: Counter[str] = Counter()
    for files in live_files(delta):
        most |= files
    today = most.pop(str(TODAY), 0)
    most.pop(str(TODAY - dt.timedelta(days=1)), 0)
    print(f"most live files after any commit: {today} of today, {max(most.values())} of a closed day")


def live_files(delta: Delta) -> Iterator[Counter[str]]:
    """The live files of each day after each commit of the log."""
    live: Counter[str] = Counter()
    for commit in sorted((delta.root / "_delta_log").glob("*.json")):
        for line in commit.read_text().splitlines():
            for kind, action in json.loads(line).items():
                if kind in ("add", "remove"):
                    live[action["partitionValues"][DAY]] += 1 if kind == "add" else -1
        yield live


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
