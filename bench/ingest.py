"""How fast files become committed rows on one core, beside what bounds it and what else does it.

`python bench/ingest.py [EVENTS [DAYS]]`, at least 500,000 events unless told otherwise. Each road runs in a
process of its own on the same core and the same files: (a) gunzip and parse without output, the limit;
(b) gunzip, records as one array, typed `read_json` straight to Parquet, no ledger, no search for duplicates;
(c) chdb's JSONEachRow into a MergeTree table; ours; ours in two processes on two cores. Figures are by
processor time, for a busy machine; by the clock stands beside. simdjson and chdb are left out where they
are not installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cloudtrail_files

ROADS = ("limit", "read_json", "chdb", "ours", "two")
_NEEDS = {"limit": "simdjson", "chdb": "chdb"}
_TEXT = "VARCHAR"
_ISSUER = dict.fromkeys(("type", "principalId", "arn", "accountId", "userName"), _TEXT)
_RECORD: dict[str, object] = {
    **dict.fromkeys(("eventVersion", "eventTime", "eventSource", "eventName", "awsRegion"), _TEXT),
    **dict.fromkeys(("sourceIPAddress", "userAgent", "errorCode", "errorMessage", "requestID"), _TEXT),
    **dict.fromkeys(("eventID", "eventType", "apiVersion", "recipientAccountId", "sharedEventID"), _TEXT),
    **dict.fromkeys(("vpcEndpointId", "eventCategory", "sessionCredentialFromConsole"), _TEXT),
    **dict.fromkeys(("readOnly", "managementEvent"), "BOOLEAN"),
    **dict.fromkeys(
        ("requestParameters", "responseElements", "additionalEventData", "resources", "serviceEventDetails"),
        "JSON",
    ),
    "userIdentity": {
        **dict.fromkeys(
            ("type", "principalId", "arn", "accountId", "accessKeyId", "userName", "invokedBy"), _TEXT
        ),
        "sessionContext": {
            "sessionIssuer": _ISSUER,
            "attributes": dict.fromkeys(("creationDate", "mfaAuthenticated"), _TEXT),
            "ec2RoleDelivery": _TEXT,
        },
    },
    "tlsDetails": dict.fromkeys(("tlsVersion", "cipherSuite", "clientProvidedHostHeader"), _TEXT),
}
_BATCH_RECORDS = 100_000


def limit(logs: Path, _: Path) -> int:
    """(a): no row comes out."""
    import simdjson
    from isal import igzip

    parser = simdjson.Parser()
    records = 0
    for path in sorted(cloudtrail_files.files(logs)):
        records += len(parser.parse(igzip.decompress(path.read_bytes()))["Records"])
    return records


def read_json(logs: Path, place: Path) -> int:
    """(b): batches of records as one array each, in memory-backed files where there are any."""
    import duckdb

    connection = duckdb.connect(config={"threads": 1, "memory_limit": "2GB"})
    shared = Path("/dev/shm")
    columns = "{" + ", ".join(f"'{name}': '{_sql_type(kind)}'" for name, kind in _RECORD.items()) + "}"
    selected = ", ".join(f"{path} AS c{place}" for place, path in enumerate(_leaves(_RECORD)))
    records = 0
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        array = Path(folder, "array.json")
        for number, bodies in enumerate(_bodies(logs)):
            with array.open("wb") as file:
                file.write(b"[")
                for place_in_batch, body in enumerate(bodies):
                    file.write(b"," if place_in_batch else b"")
                    file.write(body)
                file.write(b"]")
            connection.execute(
                f"COPY (SELECT {selected} FROM read_json('{array}', format='array', columns={columns}))"
                f" TO '{place / f'{number}.parquet'}' (FORMAT parquet, COMPRESSION zstd)"
            )
            rows = connection.execute(f"SELECT count(*) FROM '{place / f'{number}.parquet'}'").fetchone()
            records += rows[0] if rows else 0
    return records


def chdb(logs: Path, place: Path) -> int:
    """(c): the same batches as lines."""
    from chdb.session import Session

    session = Session(str(place / "chdb"))
    names = ", ".join(f"`{name}` {_clickhouse_type(kind)}" for name, kind in _RECORD.items())
    session.query(f"CREATE TABLE trail ({names}) ENGINE = MergeTree ORDER BY eventTime")
    settings = (
        "input_format_json_read_objects_as_strings=1, input_format_skip_unknown_fields=1,"
        " input_format_null_as_default=1, max_threads=1, max_insert_threads=1"
    )
    lines = place / "lines.json"
    for bodies in _bodies(logs):
        with lines.open("wb") as file:
            for body in bodies:
                file.write(bytes(body).replace(b'},{"eventVersion"', b'}\n{"eventVersion"'))
                file.write(b"\n")
        session.query(
            f"INSERT INTO trail SELECT * FROM file('{lines}', 'JSONEachRow', '{names}') SETTINGS {settings}"
        )
    return int(str(session.query("SELECT count() FROM trail", "CSV")))


class _Hidden:
    """Hides a package that is installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Finds nothing, and ends the search for the package."""
        if name == self._package:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)


def ours(logs: Path, place: Path, share: slice = slice(None)) -> int:
    """Files to committed rows, compaction included."""
    # chdb brings pandas, Trailhawk does not; Arrow loads it where it is, which takes a fifth of a second.
    sys.meta_path.insert(0, _Hidden("pandas"))

    import datetime as dt

    from trailhawk.connectors import TABLES as INGEST_TABLES
    from trailhawk.connectors.ingest import ingest
    from trailhawk.lake import Lake
    from trailhawk.sources import TABLES

    phases: dict[str, float] = {}
    last: list[tuple[str, float]] = [("start", time.process_time())]

    def phase(name: str) -> None:
        before, since = last[0]
        now = time.process_time()
        phases[before] = phases.get(before, 0.0) + now - since
        last[0] = (name, now)

    lake = Lake(place / "lake", [*TABLES, *INGEST_TABLES])
    folders = sorted({path.parent for path in cloudtrail_files.files(logs)})[share]
    summary = ingest(lake, folders, clock=lambda: dt.datetime.now(dt.UTC), phase=phase)
    phase("end")
    rounded = {name: round(seconds * 1e6 / max(1, summary.records), 2) for name, seconds in phases.items()}
    print("  microseconds an event by phase:", rounded, file=sys.stderr)
    stored = lake.snapshot("AWSCloudTrail").files()
    size = sum(file.size for file in stored) / max(1, sum(file.rows for file in stored))
    print(f"  {len(stored)} files, {size:.0f} B stored an event", file=sys.stderr)
    return summary.records


def _bodies(logs: Path) -> Iterator[list[memoryview]]:
    """The records of files, without the wrapper, in batches."""
    from isal import igzip

    batch: list[memoryview] = []
    size = 0
    for path in sorted(cloudtrail_files.files(logs)):
        text = igzip.decompress(path.read_bytes())
        batch.append(memoryview(text)[text.index(b"[") + 1 : text.rindex(b"]")])
        size += len(text)
        if size > _BATCH_RECORDS * 1_500:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _sql_type(kind: object) -> str:
    if not isinstance(kind, dict):
        return str(kind)
    return "STRUCT(" + ", ".join(f'"{name}" {_sql_type(inner)}' for name, inner in kind.items()) + ")"


def _clickhouse_type(kind: object) -> str:
    if not isinstance(kind, dict):
        return {"BOOLEAN": "Bool"}.get(str(kind), "String")
    return "Tuple(" + ", ".join(f"`{name}` {_clickhouse_type(inner)}" for name, inner in kind.items()) + ")"


def _leaves(kinds: dict[str, object], above: str = "") -> Iterator[str]:
    for name, kind in kinds.items():
        path = f'{above}"{name}"'
        if isinstance(kind, dict):
            yield from _leaves(kind, f"{path}.")
        else:
            yield f"CAST({path} AS TIMESTAMP)" if name == "eventTime" else path


def child(road: str, logs: Path, place: Path, core: int) -> None:
    """Run one road on one core and print its figures as JSON."""
    os.sched_setaffinity(0, {core})
    roads: dict[str, Callable[[], int]] = {
        "limit": lambda: limit(logs, place),
        "read_json": lambda: read_json(logs, place),
        "chdb": lambda: chdb(logs, place),
        "ours": lambda: ours(logs, place),
        "first": lambda: ours(logs, place, slice(0, None, 2)),
        "second": lambda: ours(logs, place, slice(1, None, 2)),
    }
    clock, busy = time.perf_counter(), time.process_time()
    records = roads[road]()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    figures = [records, time.process_time() - busy, time.perf_counter() - clock, memory]
    print(json.dumps(figures))


def _start(road: str, logs: Path, place: Path, core: int) -> subprocess.Popen[str]:
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--child", road, str(logs), str(place), str(core)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _figures(process: subprocess.Popen[str]) -> tuple[int, float, float, int]:
    output = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"a road failed with {process.returncode}")
    records, busy, clock, memory = json.loads(output.splitlines()[-1])
    return records, busy, clock, memory


def main(events: int = 520_000, days: int = 4) -> None:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        logs = folder / "logs"
        distinct = len(cloudtrail_files.write(logs, events=events, days=days))
        print(f"{distinct:,} distinct events in {len(list(cloudtrail_files.files(logs))):,} files")
        speed: dict[str, float] = {}
        for road in ROADS[:-1]:
            if road in _NEEDS and importlib.util.find_spec(_NEEDS[road]) is None:
                print(f"{road}: {_NEEDS[road]} is not installed")
                continue
            records, busy, clock, memory = _figures(_start(road, logs, folder / road, cores[-1]))
            speed[road] = records / busy
            print(
                f"{road:10} {records:9,} records {records / busy:10,.0f}/s by processor time"
                f" {records / clock:10,.0f}/s by the clock {memory:6,} MB",
                flush=True,
            )
        for road, other in speed.items():
            if road != "ours":
                print(f"ours is {speed['ours'] / other:.2f} of {road}")
        if len(cores) > 1:
            place = folder / "two"
            clock = time.perf_counter()
            workers = [
                _start(road, logs, place, core)
                for road, core in zip(("first", "second"), cores, strict=False)
            ]
            both = [_figures(worker) for worker in workers]
            records = sum(each[0] for each in both)
            seconds = time.perf_counter() - clock
            print(f"two workers: {records:,} records, {records / seconds:,.0f}/s by the clock,")
            print(
                f"  {sum(each[0] / each[1] for each in both) / speed['ours']:.2f} times one by processor time"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
    else:
        main(*map(int, sys.argv[1:]))
