"""An error that nobody foresaw while a batch is stored: the object that is the reason is set aside alone."""

import dataclasses
import datetime as dt
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from support.lakes import assert_balanced, rows
from support.text import log
from trailhawk.connectors import LEDGER, QUARANTINE
from trailhawk.connectors.again import Retried, retry
from trailhawk.connectors.ingest import Ingestor, ingest
from trailhawk.connectors.objects import LogObject, Outcome, Transform, TransformResult
from trailhawk.connectors.quarantine import quarantined
from trailhawk.connectors.reopen import object_at
from trailhawk.connectors.store import MOST_FAILED, TableError
from trailhawk.errors import LakeError, LimitError, QueryError, UnsupportedError
from trailhawk.lake import Delta, Lake, Staged
from trailhawk.sources import SOURCES, Chunk
from trailhawk.sources.cloudtrail import CloudTrail

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)


def nameless(count: int, *ids: str) -> bytes:
    """Events without ids, so that only their place tells them apart, and then some with ids."""
    event = {"eventTime": "2026-03-01T00:00:00Z"}
    return json.dumps({"Records": [event] * count + [event | {"eventID": each} for each in ids]}).encode()


def failing(error: Callable[[], Exception], *, most: int = 1_000_000, word: str = "POISON") -> Transform:
    """Fails over rows of an event whose id begins with a word, and over more than so many rows at once."""

    def transform(rows: pa.Table) -> TransformResult:
        if rows.num_rows > most or pc.any(pc.starts_with(rows["AwsEventId"], word)).as_py():
            raise error()
        return TransformResult(np.ones(rows.num_rows, bool), rows)

    return transform


def objects(names: Iterable[str]) -> list[LogObject]:
    """Small objects with one event each, of which both have the name."""
    return [LogObject(f"s3://logs/{name}", opener(log(name)), identity=name) for name in names]


def again(lake: Lake, items: Iterable[LogObject] = (), transform: Transform | None = None) -> list[Retried]:
    """A retry of all that is in quarantine, of files and of these objects."""
    known = {item.location: item for item in items}
    return retry(
        lake,
        clock=lambda: NOW,
        sources=SOURCES,
        find=lambda place: known.get(place) or object_at({})(place),
        transforms={"AWSCloudTrail": transform} if transform else {},
    )


def ids(lake: Lake) -> list[str]:
    return sorted(str(row["AwsEventId"]) for row in rows(lake, "AWSCloudTrail"))


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
    assert_balanced(lake, retried=True)
    # It is as bad as before for as long as the fault is there, and leaves the quarantine when that is mended.
    told_again = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}), transforms=transforms)
    assert [(each.state, each.reason) for each in told_again] == [("bad", f"AWSCloudTrail: {reason}")]
    summary = ingest(lake, [logs], clock=lambda: NOW, transforms=transforms)
    assert (summary.skipped, summary.rows, len(quarantined(lake))) == (10, 0, 1)
    told_again = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}))
    assert [(each.state, each.rows) for each in told_again] == [("stored", 2)]
    assert (len(ids(lake)), quarantined(lake)) == (20, [])
    assert_balanced(lake, retried=True)


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
    assert_balanced(lake, retried=True)


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
    assert_balanced(lake, retried=True)


@pytest.mark.parametrize(
    ("error", "told_as"),
    [(lambda: UnsupportedError("no"), TableError), (lambda: OSError(28, "disk full"), OSError)],
)
def test_what_is_no_fault_of_an_object_ends_the_batch(
    error: Callable[[], Exception], told_as: type[Exception], lake: Lake
) -> None:
    took = Ingestor(lake, clock=lambda: NOW, transforms={"AWSCloudTrail": failing(error)})
    told: list[Outcome] = []
    for each in ("1", "POISON"):
        took.take(LogObject(f"s3://logs/{each}", opener(log(each)), identity=each), told.append)
    with pytest.raises(told_as):
        took.flush()
    took.flush()
    assert (told, quarantined(lake), ids(lake)) == ([], [], [])


def test_of_an_object_in_parts_what_was_stored_stays(lake: Lake) -> None:
    """It is read no further, and is taken from where it was once it can be."""
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
    assert_balanced(lake, retried=True)
    told.clear()
    mended = Ingestor(lake, clock=lambda: NOW, sources=sources)
    mended.take(item, told.append)
    mended.flush()
    assert [each.state for each in told] == ["stored"]
    assert ids(lake) == sorted([*many, "POISON", "b"])
    assert_balanced(lake, retried=True)
    assert lake.snapshot(QUARANTINE.name).rows == 1


MANY = 41_000
"""Events of an object in three parts."""


class Stumbles(CloudTrail):
    """A source that cannot read the end of an object in parts."""

    behind = 2

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        yield from islice(super().chunks(blocks), self.behind)
        raise RuntimeError


class StumblesLater(Stumbles):
    behind = 3


@pytest.mark.parametrize("stumbles", [True, False])
def test_a_retry_takes_of_an_object_in_parts_what_is_not_stored(stumbles: bool, lake: Lake) -> None:
    content = nameless(MANY, "POISON")
    item = LogObject("s3://logs/large", opener(content), size=len(content), identity="large")
    transforms = {"AWSCloudTrail": failing(MemoryError)}
    sources = (Stumbles(),) if stumbles else SOURCES
    took = Ingestor(lake, clock=lambda: NOW, sources=sources, transforms=transforms, batch_records=5_000)
    told: list[Outcome] = []
    took.take(item, told.append)
    took.flush()
    assert [each.state for each in told] == ["unreadable"]
    before = len(ids(lake))
    assert 5_000 < before < MANY
    assert [each.state for each in again(lake, [item], failing(MemoryError))] == ["bad"]
    [mended] = again(lake, [item])
    assert (mended.state, mended.rows) == ("stored", MANY + 1 - before)
    assert (len(ids(lake)), quarantined(lake)) == (MANY + 1, [])
    assert sum(int(str(row["Records"])) for row in rows(lake, LEDGER.name)) == MANY + 1
    assert_balanced(lake, retried=True)
    took = Ingestor(lake, clock=lambda: NOW)
    took.take(item, told.append)
    took.flush()
    assert (told[-1].state, len(ids(lake))) == ("skipped", MANY + 1)


def test_a_retry_beside_an_ingest_that_goes_on_with_the_object(lake: Lake) -> None:
    content = nameless(MANY)
    item = LogObject("s3://logs/large", opener(content), size=len(content), identity="large")
    took = Ingestor(lake, clock=lambda: NOW, sources=(Stumbles(),), batch_records=5_000)
    took.take(item)
    took.flush()
    assert 0 < len(ids(lake)) < MANY
    met: list[str] = []

    def phase(name: str) -> None:
        if name == "commit" and not met:
            met.append(name)
            beside = Ingestor(lake, clock=lambda: NOW, sources=(StumblesLater(),), batch_records=5_000)
            beside.take(item)
            beside.flush()

    known = {item.location: item}
    told = retry(lake, clock=lambda: NOW, sources=SOURCES, find=known.__getitem__, phase=phase)
    assert [(each.state, each.rows) for each in told] == [("left", 0)]
    assert len(ids(lake)) == 40_000
    assert [(each.state, each.rows) for each in again(lake, [item])] == [("stored", MANY - 40_000)]
    assert (len(ids(lake)), quarantined(lake)) == (MANY, [])


def test_the_source_that_began_an_object_goes_on_with_it(lake: Lake) -> None:
    """A connector may name the source, and then nobody but the ledger knows it."""

    class Own(CloudTrail):
        name = "own"

        def recognises(self, name: str, head: bytes) -> bool:
            return False

    class OwnStumbles(Stumbles):
        name = "own"

    content = nameless(MANY)
    item = LogObject("s3://logs/large", opener(content), size=len(content), identity="large", source="own")
    took = Ingestor(lake, clock=lambda: NOW, sources=(OwnStumbles(),), batch_records=5_000)
    took.take(item)
    took.flush()
    found = dataclasses.replace(item, source="")
    told = retry(lake, clock=lambda: NOW, sources=(*SOURCES, Own()), find=lambda _: found)
    assert [(each.state, each.rows) for each in told] == [("stored", MANY - 20_000)]
    assert {row["Source"] for row in rows(lake, LEDGER.name)} == {"own", ""}


def test_two_marks_of_one_object_are_taken_once(lake: Lake, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for name in ("a.json", "b.json"):
        (logs / name).symlink_to(tmp_path / f"there/{name}")
    ingest(lake, [logs], clock=lambda: NOW)
    (tmp_path / "there").mkdir()
    for name in ("a.json", "b.json"):
        (tmp_path / "there" / name).write_bytes(nameless(1))
    assert sorted(each.state for each in again(lake)) == ["left", "stored"]
    assert [(each.state, each.rows) for each in again(lake)] == [("stored", 0)]
    assert (len(ids(lake)), quarantined(lake)) == (1, [])
    assert_balanced(lake, retried=True)


@pytest.mark.parametrize("first", [True, False])
def test_many_bad_objects_do_not_keep_the_good_ones_out(first: bool, lake: Lake) -> None:
    bad = [f"POISON{number}" for number in range(MOST_FAILED + 2)]
    good = [f"{number}" for number in range(60)]
    names = [*bad, *good] if first else [*good, *bad]
    for run in range(2):
        took = Ingestor(lake, clock=lambda: NOW, transforms={"AWSCloudTrail": failing(MemoryError)})
        told: list[Outcome] = []
        for item in objects(names):
            took.take(item, told.append)
        took.flush()
        states = Counter(each.state for each in told)
        assert states == {"unreadable": len(bad), ("skipped" if run else "stored"): len(good)}
        assert (len(ids(lake)), len(quarantined(lake))) == (len(good), len(bad))
    # What good there was is one commit, and the marks are one.
    assert len(lake.snapshot(LEDGER.name).files()) == 2
    assert len(lake.snapshot("AWSCloudTrail").files()) == 1
    assert_balanced(lake, retried=True)


def test_of_many_marks_those_that_are_mended_go(lake: Lake) -> None:
    items = objects([f"POISON-{letter}{number}" for letter in "AB" for number in range(MOST_FAILED)] + ["ok"])
    took = Ingestor(lake, clock=lambda: NOW, transforms={"AWSCloudTrail": failing(MemoryError)})
    for item in items:
        took.take(item)
    took.flush()
    still = failing(MemoryError, word="POISON-A")
    for expected in ({"bad": MOST_FAILED, "stored": MOST_FAILED}, {"bad": MOST_FAILED}):
        assert Counter(each.state for each in again(lake, items, still)) == expected
    assert len(ids(lake)) == MOST_FAILED + 1


def test_rows_of_a_part_that_is_left_out_are_no_fault_of_others(lake: Lake) -> None:
    head = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end"
    line = "2 123456789010 eni-{} 10.0.0.1 10.0.0.2 1 443 6 1 {} 1767225600 1767225660 {} OK\n"

    def flows(name: str, count: int, action: str) -> LogObject:
        text = head + " action log-status\n" + "".join(line.format(name, i, action) for i in range(count))
        return LogObject(name, opener(text.encode()), size=len(text), identity=name)

    def transform(rows: pa.Table) -> TransformResult:
        if pc.any(pc.equal(rows["Action"], "REJECT")).as_py():
            raise MemoryError
        return TransformResult(np.ones(rows.num_rows, bool), rows)

    took = Ingestor(lake, clock=lambda: NOW, transforms={"AWSVPCFlow": transform})
    told: list[Outcome] = []
    for item in (flows("a", 5, "ACCEPT"), flows("bad", 20_500, "REJECT"), flows("c", 5, "ACCEPT")):
        took.take(item, told.append)
    took.flush()
    assert {each.location: each.state for each in told} == {"a": "stored", "bad": "unreadable", "c": "stored"}
    assert lake.snapshot("AWSVPCFlow").rows == 10
    assert_balanced(lake, retried=True)


def test_records_of_one_object_are_tried_again_each_alone(lake: Lake, tmp_path: Path) -> None:
    class Deaf(CloudTrail):
        def rows(self, records):  # type: ignore[no-untyped-def]
            return super().rows([b"[]"] * len(records))

    path = tmp_path / "a.json"
    path.write_bytes(log("POISON", "1", "2"))
    ingest(lake, [path], clock=lambda: NOW, sources=(Deaf(),))
    told = again(lake, transform=failing(RuntimeError))
    assert sorted((each.state, each.rows, each.reason) for each in told) == [
        ("bad", 0, "AWSCloudTrail: RuntimeError"),
        ("stored", 1, ""),
        ("stored", 1, ""),
    ]
    assert ids(lake) == ["1", "2"]
    assert len(quarantined(lake)) == 1
    assert_balanced(lake, retried=True)


def test_a_transform_that_cannot_run_sets_nothing_aside(lake: Lake) -> None:
    calls: list[int] = []

    def transform(rows: pa.Table) -> TransformResult:
        calls.append(rows.num_rows)
        raise RuntimeError("the connection is closed")

    took = Ingestor(lake, clock=lambda: NOW, transforms={"AWSCloudTrail": transform})
    told: list[Outcome] = []
    for item in objects("abc"):
        took.take(item, told.append)
    with pytest.raises(LakeError, match="transform of AWSCloudTrail cannot run: RuntimeError: the conn"):
        took.flush()
    assert (told, quarantined(lake), ids(lake), calls) == ([], [], [], [3, 0])


@pytest.mark.parametrize("most", [1_000, 3])
def test_what_cannot_be_written_is_found_by_halves(
    most: int, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where more than so many rows are too much at once: then it is one commit for each piece."""
    stage = Delta.stage

    def failing_stage(self: Delta, rows: pa.Table, **onto: Any) -> tuple[Staged, ...]:
        found = rows["AwsEventId"].to_pylist() if self.table.name == "AWSCloudTrail" else []
        if "POISON" in found or len(found) > most:
            raise pa.ArrowInvalid("so")
        return stage(self, rows, **onto)

    monkeypatch.setattr(Delta, "stage", failing_stage)
    names = ["1", "2", "3", "POISON", "4", "5", "6", "7", "8"]
    took = Ingestor(lake, clock=lambda: NOW)
    told: list[Outcome] = []
    for item in objects(names):
        took.take(item, told.append)
    took.flush()
    assert ids(lake) == sorted(set(names) - {"POISON"})
    assert [each.location for each in told if each.state != "stored"] == ["s3://logs/POISON"]
    [bad] = quarantined(lake)
    assert bad.reason == "cannot be stored: AWSCloudTrail: ArrowInvalid: so"
    assert (lake.snapshot("AWSCloudTrail").version == 1) == (most == 1_000)
    assert_balanced(lake, retried=True)
