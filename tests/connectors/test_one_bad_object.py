"""An object over which a source fails, or that takes too much memory, is one bad one; the rest is stored."""

import datetime as dt
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa
import pytest

from support.lakes import assert_balanced, rows
from support.text import log
from trailhawk.connectors import QUARANTINE
from trailhawk.connectors.again import retry
from trailhawk.connectors.batch import GROUP_RECORDS
from trailhawk.connectors.ingest import Ingestor, ingest
from trailhawk.connectors.ledger import Taken
from trailhawk.connectors.objects import LogObject, Outcome
from trailhawk.connectors.quarantine import quarantined
from trailhawk.connectors.reopen import object_at
from trailhawk.errors import LakeError
from trailhawk.lake import Lake
from trailhawk.sources import SOURCES, Chunk, Rows, promote
from trailhawk.sources.cloudtrail import CloudTrail
from trailhawk.sources.promote import promoted

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)


class Failing(CloudTrail):
    """Fails over records with POISON in them, and over objects with VENOM."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        super().__init__()
        self._error = error

    def rows(self, records: Sequence[bytes]) -> Rows:
        if any(b"POISON" in record for record in records):
            raise self._error()
        return super().rows(records)

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        text = b"".join(blocks)
        for chunk in super().chunks(iter([text])):
            yield chunk
            if b"VENOM" in text:
                raise self._error()


FAULTS = (
    (MemoryError, "it takes more memory than there is"),
    (lambda: duckdb.OutOfMemoryException("no\nroom"), "OutOfMemoryException: no room"),
    (lambda: RuntimeError(), "RuntimeError"),
    (lambda: pa.ArrowInvalid("so"), "ArrowInvalid: so"),
    (lambda: pa.lib.ArrowMemoryError("malloc of size 5 failed"), "it takes more memory than there is"),
)


@pytest.mark.parametrize(("error", "reason"), FAULTS)
def test_a_record_over_which_a_source_fails_is_set_aside_alone(
    error: Callable[[], BaseException], reason: str, lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_bytes(log("1", "2"))
    (tmp_path / "b.json").write_bytes(log("3", "POISON", "4", "5"))
    (tmp_path / "c.json").write_bytes(log("6", "POISON2"))
    summary = ingest(lake, [tmp_path], clock=lambda: NOW, sources=(Failing(error),))
    assert (summary.objects, summary.records, summary.rows, summary.quarantined) == (3, 8, 6, 2)
    assert sorted(str(row["AwsEventId"]) for row in rows(lake, "AWSCloudTrail")) == list("123456")
    bad = quarantined(lake)
    assert [each.reason for each in bad] == [f"cloudtrail fails over it: {reason}"] * 2
    assert [each.start for each in bad] == [log("3", "POISON").index(b'{"eventTime"', 20), bad[1].start]
    assert_balanced(lake)
    # Nothing of it is lost: mended, it leaves the quarantine.
    told = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}))
    assert [(each.state, each.rows) for each in told] == [("stored", 1), ("stored", 1)]
    assert lake.snapshot("AWSCloudTrail").rows == 8


@pytest.mark.parametrize(("error", "reason"), FAULTS)
def test_an_object_over_which_a_source_fails_is_set_aside_alone(
    error: Callable[[], BaseException], reason: str, lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_bytes(log("1", "2"))
    (tmp_path / "b.json").write_bytes(log("3", "VENOM"))
    (tmp_path / "c.json").write_bytes(log("4"))
    sources = (Failing(error),)
    summary = ingest(lake, [tmp_path], clock=lambda: NOW, sources=sources)
    assert (summary.objects, summary.rows, summary.quarantined) == (3, 3, 1)
    [bad] = quarantined(lake)
    assert bad.location == str(tmp_path / "b.json")
    assert bad.reason == f"cannot be read: its log source fails over it: {reason}"
    assert_balanced(lake)
    told = retry(lake, clock=lambda: NOW, sources=sources, find=object_at({}))
    assert [each.state for each in told] == ["gone"]
    assert "fails over it" in told[0].reason
    told = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}))
    assert [(each.state, each.rows) for each in told] == [("stored", 2)]
    assert lake.snapshot(QUARANTINE.name).rows == 0
    assert_balanced(lake)


def test_a_retry_over_which_a_source_fails_ends_no_other(lake: Lake, tmp_path: Path) -> None:
    class Deaf(CloudTrail):
        def recognises(self, name: str, head: bytes) -> bool:
            return False

    (tmp_path / "a.json").write_bytes(log("1", "VENOM"))
    (tmp_path / "b.json").write_bytes(log("2"))
    ingest(lake, [tmp_path], clock=lambda: NOW, sources=(Deaf(),))
    told = retry(lake, clock=lambda: NOW, sources=(Failing(MemoryError),), find=object_at({}))
    assert [(each.state, each.rows) for each in told] == [("bad", 0), ("stored", 1)]
    assert told[0].reason == "its log source fails over it: it takes more memory than there is"


def test_an_object_that_takes_more_memory_than_there_is(lake: Lake) -> None:
    class Huge(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise MemoryError

    told: list[Outcome] = []
    took = Ingestor(lake, clock=lambda: NOW)
    took.take(LogObject("s3://logs/a", lambda: io.BytesIO(log("1")), identity="a"), told.append)
    took.take(LogObject("s3://logs/b", Huge, identity="b"), told.append)
    took.take(LogObject("s3://logs/c", lambda: io.BytesIO(log("2")), identity="c"), told.append)
    took.flush()
    assert {each.location[-1]: each.state for each in told} == {
        "a": "stored",
        "b": "unreadable",
        "c": "stored",
    }
    [bad] = quarantined(lake)
    assert bad.reason == "cannot be read: it takes more memory than there is"
    assert_balanced(lake)


def test_reasons_that_are_no_unicode_can_be_stored(lake: Lake) -> None:
    """Errors quote names of files and members, which may be any bytes."""

    def refuse() -> BinaryIO:
        raise OSError(5, "no item named 'caf\udce9'")

    took = Ingestor(lake, clock=lambda: NOW, sources=(Failing(lambda: ValueError("caf\udce9")),))
    took.take(LogObject("s3://logs/a", refuse, identity="a"))
    took.take(LogObject("s3://logs/b", lambda: io.BytesIO(log("1", "POISON")), identity="b"))
    took.take(LogObject("s3://logs/c", lambda: io.BytesIO(log("1", "VENOM")), identity="c"))
    took.flush()
    assert sorted(each.reason for each in quarantined(lake)) == [
        "cannot be read: its log source fails over it: ValueError: caf\\udce9",
        "cannot be read: no item named 'caf\\udce9'",
        "cloudtrail fails over it: ValueError: caf\\udce9",
    ]
    assert_balanced(lake)


def test_a_lake_that_cannot_be_read_is_no_fault_of_the_object_at_hand(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(self: Taken, key: str) -> bool:
        if "#" in key:  # where the parts of the object are asked for, while it is read
            raise LakeError("the file x cannot be read")
        return False

    took = Ingestor(lake, clock=lambda: NOW)
    item = LogObject("s3://logs/a", lambda: io.BytesIO(log("1")), identity="a")
    told: list[Outcome] = []
    with monkeypatch.context() as patch:
        patch.setattr(Taken, "__contains__", lost)
        with pytest.raises(LakeError, match="the file x cannot be read"):
            took.take(item, told.append)
    took.take(item, told.append)
    took.flush()
    assert [each.state for each in told] == ["stored"]


def test_a_batch_that_this_machine_cannot_decode_is_brought_again_whole(lake: Lake) -> None:
    """Nothing of it may count as stored: not the object at hand, nor those that waited with it."""
    broken = [True]

    class Short(CloudTrail):
        def rows(self, records: Sequence[bytes]) -> Rows:
            if broken[0]:
                raise OSError(24, "Too many open files")
            return super().rows(records)

    took = Ingestor(lake, clock=lambda: NOW, sources=(Short(),))
    told: list[Outcome] = []
    small = LogObject("s3://logs/a", lambda: io.BytesIO(log("1")), identity="a")
    many = log(*(f"id-{number}" for number in range(GROUP_RECORDS)))
    large = LogObject("s3://logs/b", lambda: io.BytesIO(many), identity="b")
    took.take(small, told.append)
    with pytest.raises(OSError, match="Too many open files"):
        took.take(large, told.append)
    assert took.records == 0
    broken[0] = False
    took.flush()
    assert told == []
    for item in (small, large):
        took.take(item, told.append)
    took.flush()
    assert [(each.state, each.rows) for each in told] == [("stored", 1), ("stored", GROUP_RECORDS)]
    assert_balanced(lake)


def test_promoted_paths_are_read_anew_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB's limit is reached by two thousand texts of 100 kB; here a smaller limit by fewer."""
    connect = duckdb.connect
    small: dict[str, str | bool | int | float | list[str]] = {"memory_limit": "64MB", "threads": 1}
    monkeypatch.setattr(duckdb, "connect", lambda config: connect(config=small))
    text = json.dumps({"a": {"b": "x"}, "l": list(range(40_000))})
    huge = json.dumps({"a": {"b": "y"}, "l": [[]] * 4_000_000})
    texts = pa.chunked_array([[text] * 60, ['{"a":{"b":7}}', "{", huge, '{"a":{}}']], pa.string())
    found = promoted(texts, ("a", "b"))
    assert found.to_pylist() == ["x"] * 60 + ["7", None, None, None]
    assert promoted(texts.slice(0, 0), ("a", "b")).to_pylist() == []
    monkeypatch.setattr(promote, "_AT_ONCE", 1)
    assert promoted(texts.slice(0, 3), ("a", "b")).to_pylist() == ["x"] * 3
