"""An error that nobody foresaw while a batch is stored: the object that is the reason is set aside alone."""

import datetime as dt
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from trailhawk.connectors import LEDGER, QUARANTINE, TABLES
from trailhawk.connectors.again import retry
from trailhawk.connectors.ingest import Ingestor, ingest
from trailhawk.connectors.objects import LogObject, Outcome, Transform, TransformResult
from trailhawk.connectors.quarantine import quarantined
from trailhawk.connectors.reopen import object_at
from trailhawk.connectors.store import MOST_FAILED
from trailhawk.errors import LakeError, LimitError, QueryError, UnsupportedError
from trailhawk.lake import Lake
from trailhawk.sources import SOURCES
from trailhawk.sources import TABLES as SOURCE_TABLES

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", [*SOURCE_TABLES, *TABLES])


def log(*ids: str) -> bytes:
    events = [{"eventTime": "2026-03-01T00:00:00Z", "eventID": each} for each in ids]
    return json.dumps({"Records": events}).encode()


def failing(error: Callable[[], Exception], *, most: int = 1_000_000) -> Transform:
    """Fails over rows of an event POISON, and over more than so many rows at once."""

    def transform(rows: pa.Table) -> TransformResult:
        if rows.num_rows > most or pc.any(pc.equal(rows["AwsEventId"], "POISON")).as_py():
            raise error()
        return TransformResult(np.ones(rows.num_rows, bool), rows)

    return transform


def rows(lake: Lake, table: str) -> list[dict[str, object]]:
    files = lake.snapshot(table).files()
    return [row for file in files for row in pq.ParquetFile(file.path).read().to_pylist()]


def ids(lake: Lake) -> list[str]:
    return sorted(str(row["AwsEventId"]) for row in rows(lake, "AWSCloudTrail"))


def assert_balanced(lake: Lake) -> None:
    for row in rows(lake, LEDGER.name):
        parts = [row[name] for name in ("Rows", "Duplicates", "Filtered", "Quarantined")]
        assert row["Records"] == sum(parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError, "it takes more memory than there is"),
        (lambda: pa.ArrowInvalid("so"), "ArrowInvalid: so"),
        (lambda: QueryError("no\nnumber"), "QueryError: no number"),
        (lambda: LimitError("it takes more than 1 GiB"), "LimitError: it takes more than 1 GiB"),
    ],
)
def test_the_object_that_is_the_reason_is_set_aside_alone(
    error: Callable[[], Exception], reason: str, lake: Lake, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for number in range(9):
        (logs / f"{number}.json").write_bytes(log(f"{number}a", f"{number}b"))
    (logs / "4x.json").write_bytes(log("4c", "POISON"))
    told: list[Outcome] = []
    transforms = {"AWSCloudTrail": failing(error)}
    summary = ingest(lake, [logs], clock=lambda: NOW, transforms=transforms, told=told.append)
    assert (summary.objects, summary.rows, summary.quarantined) == (10, 18, 1)
    assert ids(lake) == sorted(f"{number}{letter}" for number in range(9) for letter in "ab")
    assert [each.location for each in told if each.state == "unreadable"] == [str(logs / "4x.json")]
    assert len(told) == 10
    [bad] = quarantined(lake)
    assert (bad.location, bad.reason) == (
        str(logs / "4x.json"),
        f"cannot be stored: AWSCloudTrail: {reason}",
    )
    assert_balanced(lake)
    # It is as bad as before for as long as the fault is there, and leaves the quarantine when that is mended.
    told_again = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}), transforms=transforms)
    assert [(each.state, each.reason) for each in told_again] == [("bad", f"AWSCloudTrail: {reason}")]
    summary = ingest(lake, [logs], clock=lambda: NOW, transforms=transforms)
    assert (summary.skipped, summary.rows, len(quarantined(lake))) == (10, 0, 1)
    told_again = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}))
    assert [(each.state, each.rows) for each in told_again] == [("stored", 2)]
    assert (len(ids(lake)), quarantined(lake)) == (20, [])
    assert_balanced(lake)


def test_what_is_too_much_at_once_is_stored_in_pieces(lake: Lake) -> None:
    took = Ingestor(lake, clock=lambda: NOW, transforms={"AWSCloudTrail": failing(MemoryError, most=5)})
    told: list[Outcome] = []
    for number in range(12):
        took.take(
            LogObject(f"s3://logs/{number}", opener(log(f"{number}")), identity=f"{number}"), told.append
        )
    took.flush()
    assert [each.state for each in told] == ["stored"] * 12
    assert len(ids(lake)) == 12
    assert not quarantined(lake)
    assert_balanced(lake)


def opener(content: bytes) -> Callable[[], io.BytesIO]:
    return lambda: io.BytesIO(content)


def test_where_nothing_can_be_stored_nothing_is_set_aside(lake: Lake) -> None:
    took = Ingestor(lake, clock=lambda: NOW, transforms={"AWSCloudTrail": failing(RuntimeError, most=0)})
    told: list[Outcome] = []
    items = [
        LogObject(f"s3://logs/{number}", opener(log(f"{number}")), identity=f"{number}")
        for number in range(MOST_FAILED + 3)
    ]
    for item in items:
        took.take(item, told.append)
    with pytest.raises(
        LakeError, match="nothing can be stored in AWSCloudTrail: RuntimeError; nothing is set"
    ):
        took.flush()
    assert (told, took.age) == ([], dt.timedelta())
    mended = Ingestor(lake, clock=lambda: NOW)
    for item in items:
        mended.take(item, told.append)
    mended.flush()
    assert [each.state for each in told] == ["stored"] * len(items)
    assert not quarantined(lake)
    assert_balanced(lake)


@pytest.mark.parametrize("error", [lambda: UnsupportedError("no"), lambda: OSError(28, "disk full")])
def test_what_is_no_fault_of_an_object_ends_the_batch(error: Callable[[], Exception], lake: Lake) -> None:
    took = Ingestor(lake, clock=lambda: NOW, transforms={"AWSCloudTrail": failing(error)})
    told: list[Outcome] = []
    for each in ("1", "POISON"):
        took.take(LogObject(f"s3://logs/{each}", opener(log(each)), identity=each), told.append)
    with pytest.raises(type(error())):
        took.flush()
    took.flush()
    assert (told, quarantined(lake), ids(lake)) == ([], [], [])


def test_of_an_object_in_parts_what_was_stored_stays(lake: Lake) -> None:
    """It is read no further, and is taken from where it was once it can be."""
    from trailhawk.sources.cloudtrail import CloudTrail

    many = [f"{number:06}" for number in range(23_000)]
    content = log(*many[:21_000], "POISON", *many[21_000:])
    item = LogObject("s3://logs/large", opener(content), size=len(content), identity="large")
    sources = (CloudTrail(),)
    transforms = {"AWSCloudTrail": failing(MemoryError)}
    took = Ingestor(lake, clock=lambda: NOW, sources=sources, transforms=transforms, batch_records=20_000)
    told: list[Outcome] = []
    took.take(item, told.append)
    took.take(LogObject("s3://logs/b", opener(log("b")), identity="b"), told.append)
    took.flush()
    assert {each.location[-1]: each.state for each in told} == {"e": "unreadable", "b": "stored"}
    before = len(ids(lake))
    assert 1 < before < 21_001
    assert_balanced(lake)
    told.clear()
    mended = Ingestor(lake, clock=lambda: NOW, sources=sources)
    mended.take(item, told.append)
    mended.flush()
    assert [each.state for each in told] == ["stored"]
    assert ids(lake) == sorted([*many, "POISON", "b"])
    assert_balanced(lake)
    assert lake.snapshot(QUARANTINE.name).rows == 1
