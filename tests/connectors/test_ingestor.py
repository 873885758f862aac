import dataclasses
import datetime as dt
import errno
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from support.lakes import assert_balanced, rows
from trailhawk.connectors import LEDGER, QUARANTINE, TABLES, parts
from trailhawk.connectors import ingest as ingest_module
from trailhawk.connectors.ingest import Ingestor
from trailhawk.connectors.objects import LogObject, Outcome, TransformResult
from trailhawk.errors import LakeError, NotFoundError
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import Lake
from trailhawk.lake.table import ID, PAYLOAD, REST
from trailhawk.sources import SOURCES, Chunk, Rows
from trailhawk.sources import TABLES as SOURCE_TABLES

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)
NOTES = Table("Notes", (Column("TimeGenerated", KqlType.DATETIME), Column("Text", KqlType.STRING)))


class Notes:
    """Lines `note SECONDS TEXT`."""

    name = "notes"
    table = NOTES

    def recognises(self, name: str, head: bytes) -> bool:
        return head.startswith(b"note ")

    def is_digest(self, head: bytes) -> bool:
        return False

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        yield Chunk(b"".join(blocks).splitlines(), (), int)

    def rows(self, records: Sequence[bytes]) -> Rows:
        good = [place for place, record in enumerate(records) if record.split(b" ")[1].isdigit()]
        fields = [records[place].decode().split(" ", 2) for place in good]
        table = pa.table(
            {
                "TimeGenerated": pa.array(
                    [dt.datetime(2026, 3, 1) + dt.timedelta(seconds=int(field[1])) for field in fields],
                    pa.timestamp("us"),
                ),
                "Text": pa.array([field[2] for field in fields], pa.string()),
                ID: pa.nulls(len(good), pa.int64()),
                PAYLOAD: pa.nulls(len(good), pa.int64()),
                REST: pa.nulls(len(good), pa.string()),
            }
        )
        bad = tuple((place, "no time") for place in range(len(records)) if place not in good)
        return Rows(table, good, bad)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", [*SOURCE_TABLES, NOTES, *TABLES])


def ingestor(lake: Lake, **options: object) -> Ingestor:
    return Ingestor(lake, clock=lambda: NOW, sources=(*SOURCES, Notes()), **options)  # type: ignore[arg-type]


def event(number: int, **changes: object) -> dict[str, object]:
    return {
        "eventTime": f"2026-03-01T00:00:{number:02}Z",
        "eventID": f"id-{number}",
        "eventName": "GetObject",
        "requestParameters": {"bucketName": "cards", "key": f"k{number}"},
        **changes,
    }


def trail(*events: object) -> bytes:
    return json.dumps({"Records": events}).encode()


def put(content: bytes, key: str = "a", **changes: object) -> LogObject:
    item = LogObject(
        f"s3://logs/{key}",
        lambda: io.BytesIO(content),
        bucket="logs",
        key=key,
        version="v1",
        identity=f"s3:logs/{key}@v1",
    )
    return dataclasses.replace(item, **changes)  # type: ignore[arg-type]


def test_objects_of_two_sources_go_to_their_tables_in_one_batch(lake: Lake) -> None:
    told: list[Outcome] = []
    worker = ingestor(lake, worker="w1")
    assert not any(path.is_dir() for path in lake.root.glob("*"))
    worker.take(put(trail(event(1), event(2)), "a.json"), told.append)
    worker.take(put(b"note 5 hello\nnote x bad\n", "b.txt"), told.append)
    worker.take(put(b"\x89PNG", "c.png"), told.append)
    assert (told, worker.age) == ([], dt.timedelta())
    worker.flush()
    assert [(each.state, each.records, each.rows, each.quarantined) for each in told] == [
        ("stored", 2, 2, 0),
        ("stored", 2, 1, 1),
        ("quarantined", 1, 0, 1),
    ]
    assert [row["Text"] for row in rows(lake, "Notes")] == ["hello"]
    ledger = {row["Key"]: row for row in rows(lake, LEDGER.name)}
    assert {
        key: (row["Bucket"], row["Version"], row["Worker"]) for key, row in ledger.items()
    } == dict.fromkeys(("a.json", "b.txt", "c.png"), ("logs", "v1", "w1"))
    assert [ledger[key]["TargetTable"] for key in ("a.json", "b.txt", "c.png")] == [
        "AWSCloudTrail",
        "Notes",
        "",
    ]
    assert lake.snapshot(QUARANTINE.name).rows == 2
    assert_balanced(lake)


def test_a_batch_of_large_records_is_half_as_large(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "BATCH_BYTES", 1_000_000)
    commits: list[str] = []

    def taken(size: int, count: int) -> int:
        commits.clear()
        ingestor = Ingestor(lake, clock=lambda: NOW, sources=(Notes(),), phase=commits.append)
        for number in range(count):
            text = f"{number:06}".encode() + b"x" * (size - 20)
            ingestor.take(LogObject(f"{size}-{number}", partial(io.BytesIO, b"note 1 " + text)))
        return commits.count("commit")

    assert taken(100_000, 9) == 1
    assert taken(1_000, 400) == 0


def test_done_is_told_once_and_after_the_commit(lake: Lake) -> None:
    known: list[int] = []

    def done(outcome: Outcome) -> None:
        known.append(lake.snapshot(LEDGER.name).rows)
        told.append(outcome.state)

    told: list[str] = []
    worker = ingestor(lake)
    item = put(trail(event(1)))
    worker.take(item, done)
    worker.take(item, done)
    assert told == []
    worker.flush()
    assert (told, known) == (["stored", "skipped"], [1, 1])
    worker.take(item, done)
    assert told[2:] == ["skipped"]
    ingestor(lake).take(put(b"", open=_never), done)
    assert told[3:] == ["skipped"]
    assert (worker.summary().objects, worker.summary().skipped) == (3, 2)


def test_what_the_connector_does_not_want_to_hear_is_no_fault_of_the_object(lake: Lake) -> None:
    def done(outcome: Outcome) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    worker = ingestor(lake)
    item = put(trail(event(1)), identity="")
    worker.take(item)
    worker.flush()
    with pytest.raises(OSError, match="Read-only"):
        worker.take(item, done)
    with pytest.raises(OSError, match="Read-only"):
        worker.take(put(b"\x89PNG", "c.png", identity="", doubtful=True), done)
    worker.flush()
    assert (lake.snapshot(LEDGER.name).rows, lake.snapshot(QUARANTINE.name).rows) == (1, 0)


def _never() -> BinaryIO:
    raise AssertionError("opened though it was taken")


def test_a_batch_knows_its_age(lake: Lake) -> None:
    moment = [NOW]
    worker = Ingestor(lake, clock=lambda: moment[0])
    worker.take(put(trail(event(1))))
    moment[0] += dt.timedelta(seconds=7)
    worker.take(put(trail(event(2)), "b"))
    assert worker.age == dt.timedelta(seconds=7)
    moment[0] -= dt.timedelta(hours=1)  # the clock was set back: nothing is to wait for that hour
    assert worker.age > dt.timedelta(minutes=59)
    worker.flush()
    assert worker.age == dt.timedelta()


def test_the_connector_may_name_the_source(lake: Lake) -> None:
    worker = ingestor(lake)
    worker.take(put(b'{"eventTime": 1772357400, "x": 1}', source="cloudtrail"))
    worker.flush()
    assert lake.snapshot("AWSCloudTrail").rows == 1
    with pytest.raises(NotFoundError, match="no log source 'other'"):
        worker.take(put(b"", source="other"))


def test_an_object_that_cannot_be_read_is_tried_again(lake: Lake) -> None:
    told: list[str] = []

    def done(outcome: Outcome) -> None:
        told.append(outcome.state)

    def refuse() -> BinaryIO:
        raise PermissionError(13, "Access Denied")

    worker = ingestor(lake)
    for _ in range(2):
        worker.take(put(b"", open=refuse), done)
        worker.flush()
    worker.take(put(trail(event(1))), done)
    worker.flush()
    assert told == ["unreadable", "unreadable", "stored"]
    assert [row["Reason"] for row in rows(lake, QUARANTINE.name)] == ["cannot be read: Access Denied"]
    assert_balanced(lake)


def test_a_machine_without_files_sets_no_object_aside(lake: Lake) -> None:
    told: list[Outcome] = []

    def refuse() -> BinaryIO:
        raise OSError(errno.EMFILE, "Too many open files")

    worker = ingestor(lake)
    with pytest.raises(OSError, match="Too many open files"):
        worker.take(put(b"", open=refuse), told.append)
    worker.flush()
    assert (told, lake.snapshot(QUARANTINE.name).rows) == ([], 0)
    worker.take(put(trail(event(1))), told.append)
    worker.flush()
    assert [outcome.state for outcome in told] == ["stored"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_an_object_too_large_for_temporary_files_does_not_come_again_for_ever(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken when there is room, though no other is held up until then."""
    from trailhawk.sources import parquet

    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return False

    flows = io.BytesIO()
    pq.write_table(pa.table({"interface_id": ["eni-0a"], "start": [1772357400]}), flows)
    large = put(flows.getvalue(), "flows.parquet")
    monkeypatch.setattr(parts, "_WHOLE_BYTES", 100)
    unknown = put(trail(event(2)), "unknown", identity="", open=lambda: Stream(trail(event(2))))
    told: list[Outcome] = []
    worker = ingestor(lake)
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "_IN_MEMORY", 100)
        patch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("w+b"))  # noqa: SIM115
        for item in (large, unknown, put(trail(event(1)))):
            worker.take(item, told.append)
        worker.flush()
    states = {outcome.location.rpartition("/")[2]: outcome.state for outcome in told}
    assert list(states.values()).count("unreadable") == 2
    assert lake.snapshot("AWSCloudTrail").rows == 1
    for row in rows(lake, QUARANTINE.name):
        assert row["Reason"].startswith("cannot be read: No space left on device in ")
    told.clear()
    for item in (large, unknown):
        worker.take(item, told.append)
    worker.flush()
    assert [outcome.state for outcome in told] == ["stored", "stored"]
    assert (lake.snapshot("AWSVPCFlow").rows, lake.snapshot("AWSCloudTrail").rows) == (1, 2)
    assert_balanced(lake)


def test_a_batch_that_cannot_be_written_leaves_no_files(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = ingestor(lake)
    days = [event(number, eventTime=f"2026-03-0{number}T01:00:00Z") for number in range(1, 4)]
    worker.take(put(trail(event(9)), "before"))
    worker.flush()
    before = sorted(path for path in lake.root.rglob("*") if path.is_file())
    fsync, left = os.fsync, [0]

    def full(number: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    for files in range(4):  # three days, then the ledger
        left[0] = files
        monkeypatch.setattr("trailhawk.lake.delta.os.fsync", full)
        worker.take(put(trail(*days), "a"))
        with pytest.raises(OSError, match=r"No space left on device.*\.parquet"):
            worker.flush()
        monkeypatch.undo()
        assert sorted(path for path in lake.root.rglob("*") if path.is_file()) == before
    worker.take(put(trail(*days), "a"))
    worker.flush()
    assert lake.snapshot("AWSCloudTrail").rows == 4
    assert_balanced(lake)


def test_a_batch_that_cannot_be_committed_leaves_no_files(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that runs on tries again and again: what it left each time would fill the disk."""
    from deltalake import DeltaTable

    worker = ingestor(lake)
    worker.take(put(trail(event(9)), "before"))
    worker.take(put(b"\x89PNG", "bad"))
    worker.flush()
    before = sorted(path for path in lake.root.rglob("*") if path.is_file())
    told: list[Outcome] = []
    real, left = DeltaTable.create_write_transaction, [0]

    def commit(*given: Any, **named: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("Generic LocalFileSystem error\n No space left on device (os error 28)")
        real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", commit)
        for _ in range(3):
            left[0] = 0
            worker.take(put(trail(event(1), 7), "a"), told.append)
            with pytest.raises(LakeError, match=r"AWSCloudTrail .* cannot be written: .*No space left"):
                worker.flush()
            assert sorted(path for path in lake.root.rglob("*") if path.is_file()) == before
        for table in ("Quarantine", "IngestLedger"):  # they follow, whoever comes next
            # The second finishes first what the first has left.
            left[0] = 1 if table == "Quarantine" else 4
            worker.take(put(trail(event(2), 7), table), told.append)
            with pytest.raises(LakeError, match=rf"{table} .* cannot be written: .*No space left"):
                worker.flush()
    assert told == []
    for key in ("a", "Quarantine", "IngestLedger"):
        worker.take(put(trail(event(1 if key == "a" else 2), 7), key), told.append)
    worker.flush()
    assert sorted(outcome.state for outcome in told) == ["skipped", "skipped", "stored"]
    assert lake.snapshot("AWSCloudTrail").rows == 3
    assert lake.snapshot(QUARANTINE.name).rows == 4
    assert len(rows(lake, LEDGER.name)) == 5
    assert_balanced(lake)


class BrokenError(Exception):
    """Stands for a fault of the connector's own."""


def test_a_fault_of_the_connector_leaves_the_object_to_be_brought_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trailhawk.sources import framing, unpack

    monkeypatch.setattr(framing, "CHUNK_RECORDS", 7)
    monkeypatch.setattr(unpack, "BLOCK_BYTES", 1000)
    content = b"\n".join(json.dumps(event(n, eventID=None)).encode() for n in range(50))
    told: list[Outcome] = []

    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 6000:
                raise BrokenError
            return super().read(1000)

    worker = ingestor(lake, batch_records=20)
    big = put(content, size=len(content))
    monkeypatch.setattr("trailhawk.connectors.parts._WHOLE_BYTES", 100)
    with pytest.raises(BrokenError):
        worker.take(dataclasses.replace(big, open=lambda: Breaking(content)), told.append)
    worker.take(big, told.append)
    worker.flush()
    (outcome,) = told
    assert outcome.state == "stored"
    assert lake.snapshot("AWSCloudTrail").rows == 50
    ledger = rows(lake, LEDGER.name)
    assert sum(row["Records"] for row in ledger) == 50
    assert [row["Size"] for row in ledger if row["State"] == "stored"] == [len(content)]
    assert_balanced(lake)


def _masking(keep: Callable[[pa.Table], pa.Array]) -> Callable[[pa.Table], TransformResult]:
    def transform(table: pa.Table) -> TransformResult:
        kept = keep(table)
        out = table.filter(kept)
        masked = pc.replace_substring(out["RequestParameters"], "cards", "***")
        out = out.set_column(out.schema.get_field_index("RequestParameters"), "RequestParameters", masked)
        return TransformResult(kept.to_numpy(zero_copy_only=False), out.drop_columns(["UserAgent"]))

    return transform


def test_a_transform_filters_and_masks_and_is_counted(lake: Lake) -> None:
    told: list[Outcome] = []
    transform = _masking(lambda table: pc.not_equal(table["EventName"], "HeadObject").combine_chunks())
    worker = ingestor(lake, transforms={"AWSCloudTrail": transform})
    noise = event(3, eventName="HeadObject")
    worker.take(put(trail(event(1, userAgent="x"), noise, event(2), event(2), 7)), told.append)
    worker.take(put(trail(noise), "b"), told.append)
    worker.flush()
    assert [(o.records, o.rows, o.duplicates, o.filtered, o.quarantined) for o in told] == [
        (5, 2, 1, 1, 1),
        (1, 0, 0, 1, 0),
    ]
    stored = sorted(rows(lake, "AWSCloudTrail"), key=lambda row: str(row["AwsEventId"]))
    assert [row["RequestParameters"] for row in stored] == [
        '{"bucketName":"***","key":"k1"}',
        '{"bucketName":"***","key":"k2"}',
    ]
    # What was promoted from the column is masked with it.
    assert [row["_th_RequestParameters_bucketName"] for row in stored] == ["***", "***"]
    assert [row["_th_RequestParameters_key"] for row in stored] == ["k1", "k2"]
    assert {row["UserAgent"] for row in stored} == {""}
    assert worker.summary().filtered == 2
    assert_balanced(lake)


def test_a_transform_may_not_make_columns_of_its_own_or_lose_count(lake: Lake) -> None:
    def widen(table: pa.Table) -> TransformResult:
        return TransformResult(np.ones(table.num_rows, bool), table.append_column("Extra", table["Text"]))

    def shrink(table: pa.Table) -> TransformResult:
        return TransformResult(np.ones(table.num_rows, bool), table.slice(1))

    for transform, reason in ((widen, "Extra"), (shrink, "rows")):
        worker = ingestor(lake, transforms={"Notes": transform})
        worker.take(put(b"note 1 a\nnote 2 b"))
        with pytest.raises(LakeError, match=reason):
            worker.flush()
    assert lake.snapshot("Notes").rows == 0
    worker = ingestor(lake)
    worker.take(put(b"note 1 a\nnote 2 b"))
    worker.flush()
    assert lake.snapshot("Notes").rows == 2


def test_what_could_not_be_stored_can_be_brought_again(lake: Lake) -> None:
    told: list[Outcome] = []
    in_the_way = lake.root / "Notes"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    worker = ingestor(lake)
    worker.take(put(trail(event(1)), "a"), told.append)
    worker.take(put(b"note 1 a", "b"), told.append)
    with pytest.raises(OSError, match="Notes"):
        worker.flush()
    assert [outcome.location for outcome in told] == ["s3://logs/a"]
    in_the_way.unlink()
    worker.take(put(b"note 1 a", "b"), told.append)
    worker.flush()
    assert [outcome.state for outcome in told] == ["stored", "stored"]
    assert lake.snapshot("Notes").rows == 1


def test_a_stream_that_cannot_be_read_twice(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trailhawk.connectors.parts._WHOLE_BYTES", 100)

    class Once(io.BytesIO):
        def seekable(self) -> bool:
            return False

    content = trail(*map(event, range(20)))
    worker = ingestor(lake)
    for _ in range(2):
        worker.take(put(content, open=lambda: Once(content), identity=""))
    worker.flush()
    (entry,) = rows(lake, LEDGER.name)
    assert (entry["Size"], entry["Rows"]) == (len(content), 20)
    assert entry["Object"] == f"sha256:{entry['Sha256']}"


def test_bad_parts_know_their_place_in_each_object(lake: Lake) -> None:
    worker = ingestor(lake)
    for key in ("a", "b"):
        worker.take(put(trail(event(1, eventID=key), 7, event(2, eventID=key)), key))
    worker.flush()
    places = [(row["Location"], row["Content"], row["FirstByte"]) for row in rows(lake, QUARANTINE.name)]
    at = trail(event(1, eventID="a"), 7).index(b", 7]") + 2
    assert sorted(places) == [("s3://logs/a", "7", at), ("s3://logs/b", "7", at)]


def test_what_goes_into_quarantine_counts_for_the_size_of_a_batch(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "BATCH_BYTES", 1 << 20)
    took = ingestor(lake)
    told: list[Outcome] = []
    for number in range(40):  # no log of any source, no time, and no JSON
        content = (b"%d " % number).ljust(50_000, b"x"), trail(event(number, eventTime="", a="x" * 50_000))
        took.take(put(content[0], key=f"{number}.json"), told.append)
        took.take(put(content[1], key=f"{number}-b.json"), told.append)
    assert len(told) > 20
    took.flush()
    assert sum(outcome.quarantined for outcome in told) == 80
    assert_balanced(lake)


def test_objects_without_records_are_stored_in_time(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "_BATCH_PARTS", 5)
    took = ingestor(lake)
    told: list[Outcome] = []
    for number in range(12):
        took.take(put(b'{"Records":[]}' + b" " * number, key=str(number)), told.append)
    assert len(told) == 10
