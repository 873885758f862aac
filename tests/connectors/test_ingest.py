import collections
import datetime as dt
import gzip
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.lakes import assert_balanced
from trailhawk.connectors import LEDGER, QUARANTINE, TABLES
from trailhawk.connectors.ingest import Progress, Summary, ingest
from trailhawk.connectors.quarantine import quarantined, show
from trailhawk.connectors.store import KEPT_FOR
from trailhawk.errors import NotFoundError, UsageError
from trailhawk.kql.schema import INGESTION_TIME
from trailhawk.lake import Lake
from trailhawk.lake.table import BATCH, CONFLICT, ID, OBJECT, PAYLOAD
from trailhawk.sources import TABLES as SOURCE_TABLES

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)
REAL = Path(__file__).parents[3] / "shared/data/invictus_stratus/CloudTrail"


def open_lake(root: Path) -> Lake:
    return Lake(root, [*SOURCE_TABLES, *TABLES])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "lake")


def run(lake: Lake, *paths: Path, batch_records: int = 40_000) -> Summary:
    return ingest(lake, paths, clock=lambda: NOW, batch_records=batch_records)


def stored(lake: Lake, table: str = "AWSCloudTrail") -> pa.Table:
    files = lake.snapshot(table).files()
    return pa.concat_tables([pq.ParquetFile(file.path).read() for file in files])


def event(number: int, **changes: object) -> dict[str, object]:
    at = dt.datetime(2026, 3, 1) + dt.timedelta(hours=5 * number)
    base = {
        "eventTime": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "eventID": f"id-{number}",
        "recipientAccountId": "111122223333",
        "eventName": "GetObject",
        "eventSource": "s3.amazonaws.com",
        "requestParameters": {"bucketName": "cards", "key": f"k{number}"},
    }
    return {name: value for name, value in (base | changes).items() if value is not None}


def write(path: Path, *events: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"Records": events}).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def counts(summary: Summary) -> tuple[int, int, int, int, int]:
    return summary.objects, summary.records, summary.rows, summary.duplicates, summary.quarantined


@pytest.mark.skipif(not REAL.exists(), reason="no real logs beside the repository")
def test_real_logs_are_stored_once(lake: Lake) -> None:
    assert counts(run(lake, REAL)) == (55, 2900, 2900, 0, 0)
    again = run(lake, REAL)
    assert (again.objects, again.skipped, again.rows) == (55, 55, 0)
    rows = stored(lake)
    files = [json.loads(path.read_bytes())["Records"] for path in REAL.glob("*.json")]
    sources = collections.Counter(record["eventSource"] for records in files for record in records)
    assert collections.Counter(rows["EventSource"].to_pylist()) == sources
    assert_balanced(lake)


def test_rows_know_where_and_when_they_came(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "logs/a.json.gz", event(1), event(2))
    run(lake, tmp_path / "logs")
    row = stored(lake).to_pylist()[0]
    key = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert row[OBJECT] == key
    assert row[INGESTION_TIME] == NOW.replace(tzinfo=None)
    (entry,) = stored(lake, LEDGER.name).to_pylist()
    assert (entry["Object"], entry["Location"], entry["State"]) == (key, str(path), "stored")
    assert (entry["Records"], entry["Rows"], entry["Batch"]) == (2, 2, row[BATCH])
    assert entry["FirstEvent"] == dt.datetime(2026, 3, 1, 5)
    assert entry["LastEvent"] == dt.datetime(2026, 3, 1, 10)


def test_an_object_taken_before_is_skipped_wherever_it_lies(lake: Lake, tmp_path: Path) -> None:
    first = write(tmp_path / "a/x.json", event(1, eventID=None), event(1, eventID=None))
    assert counts(run(lake, first)) == (1, 2, 2, 0, 0)
    copy = tmp_path / "b/y.json"
    copy.parent.mkdir()
    copy.write_bytes(first.read_bytes())
    summary = run(lake, tmp_path)
    assert (summary.objects, summary.skipped, summary.rows) == (2, 2, 0)


def test_an_event_delivered_again_is_a_duplicate(lake: Lake, tmp_path: Path) -> None:
    run(lake, write(tmp_path / "a.json", event(1), event(2)))
    spelt_otherwise = tmp_path / "b.json"
    spelt_otherwise.write_text(json.dumps([dict(reversed(event(1).items())), event(3)], indent=1))
    assert counts(run(lake, spelt_otherwise)) == (1, 2, 1, 1, 0)
    twice = write(tmp_path / "c.json", event(4), event(4), event(3))
    assert counts(run(lake, twice)) == (1, 3, 1, 2, 0)
    assert_balanced(lake)


def test_an_id_with_another_payload_is_kept_and_flagged(lake: Lake, tmp_path: Path) -> None:
    run(lake, write(tmp_path / "a.json", event(1), event(2), event(2, eventName="PutObject")))
    summary = run(lake, write(tmp_path / "b.json", event(1, eventName="HeadObject"), event(1)))
    assert (summary.rows, summary.duplicates) == (1, 1)
    flagged = {
        row["EventName"]: row[CONFLICT] for row in stored(lake).to_pylist() if row["AwsEventId"] == "id-1"
    }
    assert flagged == {"GetObject": False, "HeadObject": True}
    assert sum(stored(lake)[CONFLICT].to_pylist()) == 2


def test_the_same_id_in_another_account_is_another_event(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", event(1), event(1, recipientAccountId="444455556666"))
    assert run(lake, path).rows == 2
    assert not any(stored(lake)[CONFLICT].to_pylist())


def _of_datadog(record: object) -> str:
    """An event of an archive: the record's members are the pipeline's."""
    return json.dumps(
        {"_id": "AZ", "date": "2026-03-01T09:30:00.000Z", "source": "cloudtrail", "attributes": record}
    )


def test_what_is_nobodys_is_called_by_its_name(lake: Lake, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "archive_1.json").write_text(_of_datadog(event(1)) + "\n")
    (logs / "quoted.json").write_text(json.dumps(event(2, requestParameters=json.loads(_of_datadog(1)))))
    tagged = event(3, requestParameters={"attributes": {}, "tags": {"_id": "7", "date": "today"}})
    (logs / "shipped.json").write_text(json.dumps({"host": "web-1", "cloudtrail": tagged}) + "\n")
    (logs / "tail.log").write_text("2026-03-01T09:30:00 hello\n")
    (logs / "alerts.csv").write_text("\ufeffEvent Name,User ID,Alert\nListObjects,\"{'a': 1}\", 302\n")
    (logs / "prose.json").write_text("Dear all, no, this is no CSV\nof mine.\n")
    pq.write_table(pa.table({"a": [1]}), logs / "part-0.parquet")
    history = {"fileVersion": "1.0", "configurationItems": [{"resourceType": "AWS::S3::Bucket"}]}
    (logs / "history.json").write_text(json.dumps(history))
    manifest = {"sourceBucket": "a", "destinationBucket": "b", "fileSchema": "Bucket, Key", "files": []}
    (logs / "manifest.json").write_text(json.dumps(manifest, indent=2))
    failed = {"attemptsMade": 4, "arrivalTimestamp": 1, "errorMessage": "no", "rawData": "e30="}
    (logs / "failed.json").write_text(f"{json.dumps(failed)}\n" * 3)
    summary = run(lake, *logs.iterdir())  # files that are named are logs, whatever they look like
    assert (summary.rows, summary.quarantined) == (2, 8)
    reasons = {Path(part.location).name: part.reason for part in quarantined(lake)}
    assert {name: reason.partition(":")[0] for name, reason in reasons.items()} == {
        "archive_1.json": "an archive of Datadog's, which has not the records as they were",
        "tail.log": "lines with a time without zone",
        "alerts.csv": "CSV with the columns of no known log or export",
        "prose.json": "not a log of a known kind",
        "part-0.parquet": "Parquet with the columns of no known log",
        "history.json": "what AWS Config noted of resources, which is no log of what was done",
        "manifest.json": "the manifest of an S3 Inventory, which is no log",
        "failed.json": "what Firehose could not deliver",
    }


def test_a_bad_file_does_not_stop_the_others(lake: Lake, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write(logs / "good.json.gz", event(1), event(2))
    (logs / "empty.json").write_bytes(b"")
    (logs / "notes.json").write_text("these are notes")
    whole = gzip.compress(json.dumps({"Records": [event(n) for n in range(10, 300)]}).encode())
    (logs / "cut.json.gz").write_bytes(whole[: len(whole) // 2])
    write(logs / "parts.json", event(3), event(4, eventTime=None), event(5, eventID=None))
    (logs / "digest.json").write_text('{"digestStartTime": "2026-03-01T00:00:00Z", "logFiles": []}')
    (logs / "gone.json").symlink_to(tmp_path / "nowhere")
    (logs / "none.json").write_text('{"Records": []}')
    summary = run(lake, logs)
    reasons = {Path(part.location).name: part for part in quarantined(lake)}
    assert {name: part.reason.partition(";")[0] for name, part in reasons.items()} == {
        "empty.json": "empty file",
        "notes.json": "not a log of a known kind",
        "cut.json.gz": "gzip stream ends early",
        "parts.json": "no eventTime",
        "gone.json": "cannot be read: No such file or directory",
    }
    assert (summary.objects, summary.digests, summary.quarantined) == (8, 1, 5)
    assert summary.records == summary.rows + summary.quarantined
    assert summary.rows > 100
    notes = reasons["notes.json"]
    assert (notes.start, notes.size) == (0, 15)
    assert notes.sha256 == hashlib.sha256(b"these are notes").hexdigest()
    assert show(lake, notes.id) == (notes, b"these are notes")
    assert_balanced(lake)
    again = run(lake, logs)
    assert (again.rows, again.quarantined, again.skipped) == (0, 0, 8)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_tried_again_when_it_may(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", event(1))
    path.chmod(0)
    assert run(lake, path).quarantined == 1
    assert run(lake, path).skipped == 1
    path.chmod(0o600)
    assert run(lake, path).rows == 1


def test_bytes_that_are_no_text_come_back_as_they_were(lake: Lake, tmp_path: Path) -> None:
    content = bytes(range(256)) * 300
    (tmp_path / "a.bin").write_bytes(content)
    run(lake, tmp_path / "a.bin")
    (part,) = quarantined(lake)
    assert part.size == len(content)
    assert show(lake, part.id) == (part, content[: 64 * 1024])


def test_the_list_of_the_quarantine_reads_no_bytes(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong prefix puts thousands of objects there, of which 64 KiB each are kept."""
    import pyarrow.parquet as pq

    paths = [tmp_path / f"{number}.bin" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 100_000)
    run(lake, *paths)
    asked: list[str] = []
    iter_batches = pq.ParquetFile.iter_batches

    def spy(file: pq.ParquetFile, size: int = 65_536, *, columns: list[str]) -> object:
        asked.extend(columns)
        return iter_batches(file, size, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert len(quarantined(lake)) == 3
    assert asked
    assert "Content" not in asked


def test_a_folder_without_logs_and_a_path_that_is_none(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "empty/deeper").mkdir(parents=True)
    assert counts(run(lake, tmp_path / "empty")) == (0, 0, 0, 0, 0)
    assert quarantined(lake) == []
    with pytest.raises(UsageError, match="no such file or folder"):
        run(lake, tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="'abc'"):
        show(lake, "abc")


def test_small_batches_and_a_large_object_in_parts(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trailhawk.sources import framing

    monkeypatch.setattr(framing, "CHUNK_RECORDS", 7)
    path = write(tmp_path / "big.json", *(event(n % 5, eventID=None) for n in range(30)))
    write(tmp_path / "small.json", *(event(n) for n in range(20)))
    assert counts(run(lake, tmp_path, batch_records=10)) == (2, 50, 50, 0, 0)
    parts = [row for row in stored(lake, LEDGER.name).to_pylist() if row["Location"] == str(path)]
    assert [row["State"] for row in sorted(parts, key=lambda row: row["FirstRecord"])] == ["part"] * 4 + [
        "stored"
    ]
    assert_balanced(lake)
    assert run(lake, tmp_path, batch_records=10).skipped == 2


class StopError(BaseException):
    """Stands for a crash at a certain step."""


@pytest.mark.parametrize("step", ["read", "decode", "write", "commit", "ledger"])
@pytest.mark.parametrize("nth", [2, 4])
def test_a_crash_at_any_step_loses_and_doubles_nothing(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    from trailhawk.sources import framing

    monkeypatch.setattr(framing, "CHUNK_RECORDS", 7)
    # Records without id: only the object tells that they were stored.
    write(tmp_path / "logs/big.json", *(event(n % 5, eventID=None) for n in range(30)))
    for number in range(4):
        write(tmp_path / f"logs/{number}.json", event(number, eventID=None), event(number), {"no": "time"})
    met = itertools.count(1)

    def phase(name: str) -> None:
        if name == step and next(met) == nth:
            raise StopError

    with pytest.raises(StopError):
        ingest(lake, [tmp_path / "logs"], clock=lambda: NOW, phase=phase, batch_records=6)
    # A new process knows nothing of what the old one had in memory.
    fresh = open_lake(tmp_path / "lake")
    run(fresh, tmp_path / "logs", batch_records=6)
    assert fresh.snapshot("AWSCloudTrail").rows == 38
    assert fresh.snapshot(QUARANTINE.name).rows == 4
    assert_balanced(fresh)


@pytest.mark.parametrize("then", [3, 5, 10, 13, 100])
def test_an_object_half_stored_is_finished_by_a_version_that_cuts_elsewhere(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: int
) -> None:
    """Records without id, good ones, some that are none and some without a time."""
    from trailhawk.sources import framing

    made = [event(n, eventID=None) for n in range(40)]
    mixed = [{"no": "time"} if n % 9 == 4 else 7 if n % 11 == 6 else each for n, each in enumerate(made)]
    path = tmp_path / "big.json"
    path.write_text(json.dumps({"Records": mixed}))
    good = sum(each in made for each in mixed)
    met = itertools.count(1)

    def phase(name: str) -> None:
        if name == "commit" and next(met) == 3:
            raise StopError

    monkeypatch.setattr(framing, "CHUNK_RECORDS", 7)
    with pytest.raises(StopError):
        ingest(lake, [path], clock=lambda: NOW, phase=phase, batch_records=6)
    assert 0 < lake.snapshot("AWSCloudTrail").rows < good
    monkeypatch.setattr(framing, "CHUNK_RECORDS", then)
    fresh = open_lake(tmp_path / "lake")
    run(fresh, path, batch_records=6)
    assert fresh.snapshot("AWSCloudTrail").rows == good
    assert fresh.snapshot(QUARANTINE.name).rows == len(mixed) - good
    assert sum(row["Records"] for row in stored(fresh, LEDGER.name).to_pylist()) == len(mixed)
    assert len({part.start for part in quarantined(fresh)}) == len(mixed) - good
    assert_balanced(fresh)


@pytest.mark.parametrize("step", ["decode", "write", "commit"])
def test_another_ingest_is_faster(lake: Lake, tmp_path: Path, step: str) -> None:
    shared = write(tmp_path / "shared.json", event(1), event(2, eventID=None), {"no": "time"})
    mine = write(tmp_path / "mine.json", event(1), event(3))
    other = write(tmp_path / "other.json", event(3), event(4))
    met = itertools.count()

    def phase(name: str) -> None:
        if name == step and next(met) == 0:
            assert run(lake, shared, other).rows == 4
            assert lake.snapshot("AWSCloudTrail").rows == 4

    summary = ingest(lake, [shared, mine], clock=lambda: NOW, phase=phase)
    assert (summary.rows, summary.duplicates, summary.skipped) == (0, 2, 1)
    assert lake.snapshot("AWSCloudTrail").rows == 4
    assert lake.snapshot(QUARANTINE.name).rows == 1
    assert_balanced(lake)


def test_another_ingest_brings_some_rows_first(lake: Lake, tmp_path: Path) -> None:
    days = [f"2026-03-{day:02d}T09:30:00Z" for day in (1, 2, 3)]
    mine = write(tmp_path / "mine.json", *(event(n, eventTime=days[n % 3]) for n in range(9)))
    other = write(tmp_path / "other.json", event(1, eventTime=days[1]), event(4, eventTime=days[1]))
    met = itertools.count()
    written: list[set[Path]] = []

    def phase(name: str) -> None:
        if name == "commit":
            written.append(set(lake.root.glob("AWSCloudTrail/*/*.parquet")))
        if name == "commit" and next(met) == 0:
            assert run(lake, other).rows == 2

    summary = ingest(lake, [mine], clock=lambda: NOW, phase=phase)
    assert (summary.rows, summary.duplicates) == (7, 2)
    before, after = written
    assert len(before) == len(before & after) + 1 == 3  # of three days only the second was written again
    data = lake.delta("AWSCloudTrail")
    data.refresh()
    assert {data.file(path) for path in data.live()} == set(lake.root.glob("AWSCloudTrail/*/*.parquet"))
    assert sorted(row["AwsEventId"] for row in stored(lake).to_pylist()) == [f"id-{n}" for n in range(9)]
    assert_balanced(lake)


def test_rows_that_wait_long_for_their_commit_have_a_new_time(lake: Lake, tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.json", event(1))
    other = write(tmp_path / "other.json", event(2))
    now = [NOW]

    def phase(name: str) -> None:
        if name == "commit" and now[0] == NOW:
            now[0] += KEPT_FOR + dt.timedelta(seconds=1)
            run(lake, other)

    ingest(lake, [mine], clock=lambda: now[0], phase=phase)
    times = {row["AwsEventId"]: row[INGESTION_TIME] for row in stored(lake).to_pylist()}
    assert times["id-1"].replace(tzinfo=dt.UTC) == now[0] > NOW
    assert len(list(lake.root.glob("AWSCloudTrail/*/*.parquet"))) == 2
    assert_balanced(lake)


def test_progress_goes_up_to_the_end(lake: Lake, tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.json", event(number))
    told: list[Progress] = []
    ingest(lake, [tmp_path], clock=lambda: NOW, progress=told.append)
    assert [step.objects for step in told] == [1, 2, 3]
    assert told[-1].bytes == told[-1].all_bytes > 0
    assert told[-1].records == 3


_EVENTS = st.lists(
    st.builds(
        lambda number, name, identity: event(number, eventName=name, eventID=identity and f"id-{number}"),
        st.integers(0, 6),
        st.sampled_from(["GetObject", "PutObject"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


def _visible(lake: Lake) -> list[tuple[object, ...]]:
    hidden = {OBJECT, BATCH, CONFLICT, INGESTION_TIME}
    rows = stored(lake).to_pylist()
    return sorted((tuple(v for k, v in row.items() if k not in hidden) for row in rows), key=repr)


@pytest.fixture
def folders() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_EVENTS, st.integers(1, 4), st.integers(2, 5))
def test_ingesting_twice_equals_once_however_the_records_are_split(
    folders: Path, events: list[dict[str, object]], files: int, batch: int
) -> None:
    root = Path(tempfile.mkdtemp(dir=folders))
    # Nothing but the object tells records without id apart, so each is given a place of its own.
    events = [
        each | {"requestID": str(place)} if "eventID" not in each else each
        for place, each in enumerate(events)
    ]
    whole, split = open_lake(root / "whole"), open_lake(root / "split")
    run(whole, write(root / "a/all.json", *events))
    for number in range(files):
        write(root / f"b/{number}.json", number, *events[number::files])
    for _ in range(2):
        run(split, root / "b", batch_records=batch)
    assert _visible(split) == _visible(whole)
    assert_balanced(split)
    names = stored(split).column_names
    assert {ID, PAYLOAD} <= set(names)


def test_a_lake_that_cannot_be_written_stops_the_ingest_and_blames_no_log_file(
    lake: Lake, tmp_path: Path
) -> None:
    write(tmp_path / "logs/a.json", event(0))
    write(tmp_path / "logs/b.json", event(1))
    in_the_way = lake.root / "AWSCloudTrail" / "_th_day=2026-03-01"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    with pytest.raises(OSError, match="_th_day"):
        run(lake, tmp_path / "logs", batch_records=1)
    in_the_way.unlink()
    summary = run(lake, tmp_path / "logs")
    assert counts(summary) == (2, 2, 2, 0, 0)
    assert summary.skipped == 0
    assert quarantined(lake) == []
