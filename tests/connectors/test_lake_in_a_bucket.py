"""The lake in a bucket, against AWS: taking in, asking, compaction, races, copies within a bound."""

from __future__ import annotations

import dataclasses
import datetime as dt
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet
import pytest

from trailhawk import connectors, sources
from trailhawk.cli import run
from trailhawk.connectors.ingest import ingest
from trailhawk.connectors.objects import Outcome
from trailhawk.connectors.reopen import object_at
from trailhawk.connectors.repair import awaited, check, mend, restore
from trailhawk.errors import LakeError
from trailhawk.lake import Lake
from trailhawk.lake.compaction import compact, compact_busy_days
from trailhawk.lake.storage import S3
from trailhawk.sources.cloudtrail import CloudTrail

if TYPE_CHECKING:
    from support.aws import Aws

_SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def aws_server() -> Iterator[str]:
    """A server in a process of its own: delta-rs holds the interpreter's lock during some requests, so that
    a server in this process could not answer them."""
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        assert process.stdin
        host, port = process.stdout.readline().split()
        yield f"http://{host}:{port}"
        process.stdin.close()


_DEAF = """
import http.client
import http.server
import sys

host, port, plan = sys.argv[1:]
asked = {}


def refused():
    # Whether this request comes behind those that the plan lets through.
    if not plan:
        return False
    with open(plan) as file:
        text = file.read()
    asked[text] = asked.get(text, 0) + 1
    return asked[text] > int(text.split()[1])


class Deaf(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def pass_on(self):
        if refused():
            self.body()
            body = b"<Error><Code>AccessDenied</Code><Message>not any more</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body * (self.command != "HEAD"))
            return
        left_out = ("expect", "transfer-encoding")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
        behind = http.client.HTTPConnection(host, int(port))
        behind.request(self.command, self.path, self.body(), headers)
        answer = behind.getresponse()
        body = answer.read()
        status = answer.status
        if not plan and self.command == "PUT" and "/_delta_log/" in self.path and status == 200:
            status, body = 500, b""  # done, and not said so
        self.send_response(status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        behind.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

    def log_message(self, *said):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Deaf)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def deaf(aws_server: str) -> Iterator[str]:
    """The server behind one that carries out every commit and then answers 500."""
    with _behind(aws_server) as url:
        yield url


@contextmanager
def _behind(server: str, plan: str = "") -> Iterator[str]:
    host, _, port = server.removeprefix("http://").partition(":")
    command = [sys.executable, "-c", _DEAF, host, port, plan]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


NOW = dt.datetime(2026, 3, 9, 12, tzinfo=dt.UTC)
TABLES = [*sources.TABLES, *connectors.TABLES]


def place(aws: Aws, cache: Path, *, cache_bytes: int = 1 << 30) -> S3:
    return S3("s3://lake/one", cache, cache_bytes, endpoint_url=aws.url, region=aws.access.region)


def logs(folder: Path, *, files: int, each: int = 3) -> Path:
    """CloudTrail files of events of one day, each with a few of the file before."""
    folder.mkdir(exist_ok=True)
    for number in range(files):
        records = [
            {
                "eventVersion": "1.11",
                "eventID": f"{folder.name}-{number * (each - 1) + place}",
                "eventTime": f"2026-03-03T10:{number % 60:02d}:{place:02d}Z",
                "eventName": "GetObject",
                "eventSource": "s3.amazonaws.com",
                "recipientAccountId": "111122223333",
            }
            for place in range(each)
        ]
        # An event of two files has one payload, or it would not be one event.
        for record in records:
            record["eventTime"] = "2026-03-03T10:00:00Z"
        (folder / f"{number}.json").write_text(json.dumps({"Records": records}))
    return folder


def clock() -> dt.datetime:
    return NOW


def test_files_are_taken_once_and_another_machine_sees_them(aws: Aws, tmp_path: Path) -> None:
    aws.bucket("lake")
    here = Lake(place(aws, tmp_path / "here"), TABLES)
    made = logs(tmp_path / "logs", files=10)
    first = ingest(here, [made], clock=clock, batch_records=6)
    assert (first.records, first.rows, first.duplicates) == (30, 21, 9)
    assert ingest(here, [made], clock=clock).skipped == 10
    there = Lake(place(aws, tmp_path / "there"), TABLES)
    assert there.snapshot("AWSCloudTrail").rows == 21
    assert ingest(there, [made], clock=clock).skipped == 10
    files = there.snapshot("AWSCloudTrail").files()
    assert all(Path(file.path).is_relative_to(tmp_path / "there") for file in files)
    assert not list((tmp_path / "here").rglob("_delta_log"))


def test_a_commit_that_was_done_and_answered_with_an_error_loses_nothing(
    aws: Aws, deaf: str, tmp_path: Path
) -> None:
    aws.bucket("lake")
    folder = logs(tmp_path / "logs", files=2)
    lake = Lake(dataclasses.replace(place(aws, tmp_path / "cache"), endpoint_url=deaf), TABLES)
    assert ingest(lake, [folder], clock=clock, batch_records=3).rows == 5
    events = lake.delta("AWSCloudTrail")
    events.refresh()
    assert len(live := events.live()) == 2
    assert compact(events, dt.date(2026, 3, 3), list(live))
    far = Lake(place(aws, tmp_path / "elsewhere"), TABLES)
    for name, count in (("AWSCloudTrail", 5), ("IngestLedger", 2)):
        files = far.snapshot(name).files()
        assert sum(pa.parquet.read_metadata(file.path).num_rows for file in files) == count


def test_rights_that_end_in_the_middle_lose_and_double_nothing(
    aws: Aws, aws_server: str, tmp_path: Path
) -> None:
    """At whatever request: it is told, and the next ingest has all of it."""
    aws.bucket("lake")
    plan = tmp_path / "plan"
    plan.write_text("0 1000000")
    step = int(os.environ.get("TRAILHAWK_REFUSALS_STEP", "40"))
    faults: list[str] = []
    files = 0
    with _behind(aws_server, str(plan)) as url:
        reached = dataclasses.replace(place(aws, tmp_path / "cache"), endpoint_url=url)
        for number, allowed in enumerate(range(20, 75, step)):
            folder = logs(tmp_path / f"logs-{number}", files=2)
            files += 2
            plan.write_text(f"{number} {allowed}")
            try:
                ingest(Lake(reached, TABLES), [folder], clock=clock, sources=(CloudTrail(),), batch_records=3)
            except LakeError as error:
                faults.append(str(error))
            plan.write_text(f"again-{number} 1000000")
            ingest(Lake(reached, TABLES), [folder], clock=clock, sources=(CloudTrail(),), batch_records=3)
        lake = Lake(reached, TABLES)
        assert lake.snapshot("AWSCloudTrail").rows == files // 2 * 5
        ledger = [
            row
            for file in lake.snapshot("IngestLedger").files()
            for row in pa.parquet.read_table(file.path, partitioning=None).to_pylist()
        ]
    assert len(ledger) == len({row["Object"] for row in ledger}) == files
    for row in ledger:
        assert row["Records"] == row["Rows"] + row["Duplicates"] + row["Filtered"] + row["Quarantined"]
    assert faults
    for fault in faults:
        assert "AccessDenied" in fault or "ACCESS_DENIED" in fault
        assert "\n" not in fault


def test_compaction_and_clearing_away(aws: Aws, tmp_path: Path) -> None:
    aws.bucket("lake")
    lake = Lake(place(aws, tmp_path / "cache"), TABLES)
    for number in range(6):
        ingest(lake, [logs(tmp_path / f"logs-{number}", files=1)], clock=lambda: NOW - dt.timedelta(days=6))
    delta = lake.delta("AWSCloudTrail")
    delta.refresh()
    assert len(delta.live()) == 6
    assert compact_busy_days(delta, today=NOW.date()) == 1
    elsewhere = Lake(place(aws, tmp_path / "elsewhere"), TABLES)
    (file,) = elsewhere.snapshot("AWSCloudTrail").files()
    assert file.rows == 18
    # What was retired a moment ago stays.
    assert delta.clean(older_than=dt.timedelta(days=1)) == 0
    listed = aws.s3.list_objects_v2(Bucket="lake", Prefix="one/AWSCloudTrail/_th_day=")
    assert listed["KeyCount"] == 7


@pytest.mark.parametrize("damage", ["cut off", "rotten"])
def test_a_damaged_copy_is_made_anew(aws: Aws, tmp_path: Path, damage: str) -> None:
    """The bucket's file is whole: nothing is stored a second time, nor called damaged."""
    aws.bucket("lake")
    made = logs(tmp_path / "logs", files=1)
    ingest(Lake(place(aws, tmp_path / "cache"), TABLES), [made], clock=clock)
    [copy] = (tmp_path / "cache" / "AWSCloudTrail").glob("*/*.parquet")
    whole = copy.read_bytes()
    copy.write_bytes(b"" if damage == "cut off" else bytes(len(whole) - 60) + whole[-60:])
    [log] = made.iterdir()
    again = tmp_path / "again.json"
    content = gzip.decompress(log.read_bytes()) if log.suffix == ".gz" else log.read_bytes()
    again.write_bytes(content + b"\n")
    told: list[Outcome] = []
    lake = Lake(place(aws, tmp_path / "cache"), TABLES)
    found = ingest(lake, [again], clock=clock, told=told.append)
    assert (found.rows, found.duplicates) == (0, lake.snapshot("AWSCloudTrail").rows)
    assert [outcome.doubt for outcome in told] == [""]
    assert copy.read_bytes() == whole


def test_two_that_take_the_same_files_at_once_store_them_once(aws: Aws, tmp_path: Path) -> None:
    aws.bucket("lake")
    made = logs(tmp_path / "logs", files=12)
    faults: list[BaseException] = []

    def take(name: str) -> None:
        try:
            ingest(Lake(place(aws, tmp_path / name), TABLES), [made], clock=clock, batch_records=6)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=take, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    lake = Lake(place(aws, tmp_path / "after"), TABLES)
    assert lake.snapshot("AWSCloudTrail").rows == 25
    assert lake.snapshot("IngestLedger").rows == 12


def test_copies_stay_within_their_bound(aws: Aws, tmp_path: Path) -> None:
    aws.bucket("lake")
    table = place(aws, tmp_path, cache_bytes=2500).table("Events")

    def write(name: str, content: bytes) -> Path:
        path = table.root / "day" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        table.publish(f"day/{name}.parquet")
        return path

    first, second, third = (write(str(number), bytes([number]) * 1000) for number in range(3))
    assert third.exists()
    assert first.exists(), "what was asked for lately may be open"
    os.utime(first, (time.time() - 3600,) * 2)
    os.utime(second, (time.time() - 7200,) * 2)
    write("3", b"x")
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)
    table.fetch(["day/0.parquet", "day/1.parquet"])
    assert second.read_bytes() == b"\x01" * 1000
    table.remove("day/1.parquet")
    table.remove("day/1.parquet")
    with pytest.raises(LakeError, match=r"there is no s3://lake/one/Events/day/1\.parquet"):
        table.fetch(["day/1.parquet"])


def test_a_damaged_copy_is_made_anew_and_a_file_that_is_gone_is_repaired(aws: Aws, tmp_path: Path) -> None:
    aws.bucket("lake")
    lake = Lake(place(aws, tmp_path / "cache"), TABLES)
    ingest(lake, [logs(tmp_path / "logs", files=4)], clock=clock)
    [copy] = (tmp_path / "cache" / "AWSCloudTrail").glob("*/*.parquet")
    content = copy.read_bytes()
    copy.write_bytes(content[:100] + bytes(len(content) - 104) + b"PAR1")
    renewed: list[str] = []
    assert check(lake, lake.table_names(), renewed=renewed.append).ok
    assert renewed == [str(copy)]
    assert copy.read_bytes() == content
    aws.s3.delete_object(Bucket="lake", Key=f"one/AWSCloudTrail/{copy.parent.name}/{copy.name}")
    copy.unlink()
    with pytest.raises(LakeError, match="there is no s3://lake/one/AWSCloudTrail/"):
        lake.snapshot("AWSCloudTrail").files()
    found = check(lake, lake.table_names())
    assert [damage.rows for damage in found.damages] == [9]
    mend(lake, found, clock=clock)
    done = restore(
        lake,
        awaited(lake, lake.table_names()),
        find=object_at({}),
        clock=clock,
        sources=sources.SOURCES,
        filter_at=lambda *_: None,
    )
    assert sum(each.rows for each in done) == 9
    there = Lake(place(aws, tmp_path / "there"), TABLES)
    assert there.snapshot("AWSCloudTrail").rows == 9
    assert check(there, there.table_names()).ok


def test_a_bucket_that_is_not_there_is_told(aws: Aws, tmp_path: Path) -> None:
    lake = Lake(place(aws, tmp_path / "cache"), TABLES)
    with pytest.raises(LakeError, match=r"the log of table AWS\w+ cannot be read: .*NoSuchBucket"):
        ingest(lake, [logs(tmp_path / "logs", files=1)], clock=clock)


def test_the_commands_over_a_bucket(aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aws.bucket("lake")
    home = tmp_path / "home"
    home.mkdir()
    (home / "trailhawk.toml").write_text(
        f'[lake]\nurl = "s3://lake/mine"\n[lake.s3]\n'
        f'endpoint_url = "{aws.url}"\nregion = "{aws.access.region}"\n'
    )

    def words(*given: str) -> str:
        assert run(["--home", str(home), *given]) == 0
        return capsys.readouterr().out

    words("ingest", str(logs(tmp_path / "logs", files=5)), "--quiet")
    found = json.loads(words("query", "AWSCloudTrail | summarize Rows=count()", "--format", "json"))
    assert found == [{"Rows": 11}]
    status = json.loads(words("lake", "status", "--format", "json"))
    assert {each["table"]: each["rows"] for each in status} == {"AWSCloudTrail": 11, "IngestLedger": 5}
    assert "nothing to rewrite" in words("lake", "compact")
    assert not (home / "lake").exists()


def test_a_table_in_a_bucket_gets_the_columns_that_came_since(aws: Aws, tmp_path: Path) -> None:
    aws.bucket("lake")
    ledger = connectors.LEDGER
    once = dataclasses.replace(ledger, columns=tuple(c for c in ledger.columns if c.name != "Worker"))
    Lake(place(aws, tmp_path / "once"), [once]).delta(ledger.name).create()
    lake = Lake(place(aws, tmp_path / "now"), TABLES)
    assert ingest(lake, [logs(tmp_path / "logs", files=1)], clock=clock).rows == 3
    delta = lake.apart().delta(ledger.name)
    delta.create()
    assert delta.version == 2  # made, widened, written
    (path,) = delta.live()
    assert pa.parquet.read_table(delta.file(path), partitioning=None)["Worker"].to_pylist() == [""]
