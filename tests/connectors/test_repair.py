"""Damage of the lake is found, and mended from the objects that the ledger names; nothing goes unsaid."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.lakes import assert_balanced, rows
from trailhawk import connectors, sources
from trailhawk.cli import run
from trailhawk.connectors.digest import NamedLog
from trailhawk.connectors.health import streams
from trailhawk.connectors.ingest import Ingestor, ingest
from trailhawk.connectors.objects import LogObject, Transform, TransformResult
from trailhawk.connectors.reopen import GoneError, object_at
from trailhawk.connectors.repair import Findings, Restored, accept, awaited, check, mend, restore
from trailhawk.connectors.verify import Ledger
from trailhawk.errors import LakeError
from trailhawk.kql.schema import INGESTION_TIME
from trailhawk.lake import Lake
from trailhawk.lake.check import damages
from trailhawk.lake.retention import forget
from trailhawk.lake.table import BATCH, CONFLICT, OBJECT, fitted
from trailhawk.sources import SOURCES

NOW = dt.datetime(2026, 3, 9, 12, tzinfo=dt.UTC)
TABLES = [*sources.TABLES, *connectors.TABLES]
CALLS, FLOWS, LEDGER = "AWSCloudTrail", "AWSVPCFlow", "IngestLedger"
_FLOW = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action"
    " log-status"
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", TABLES)


def calls(path: Path, *numbers: int, day: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [
        {
            "eventTime": f"2026-03-{day:02}T10:00:{number % 60:02}Z",
            "eventID": f"id-{number}",
            "eventName": "a",
        }
        for number in numbers
    ]
    path.write_text(json.dumps({"Records": records}))
    return path


def flows(path: Path, *seconds: int) -> Path:
    """Flow records, which have no id of their own; a second that comes twice gives two equal records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = int(dt.datetime(2026, 3, 3, 10, tzinfo=dt.UTC).timestamp())
    lines = [
        f"2 111122223333 eni-1 10.0.0.1 10.0.0.2 443 {1000 + at} 6 1 40 {start + at} {start + at} ACCEPT OK"
        for at in seconds
    ]
    path.write_text("\n".join([_FLOW, *lines]))
    return path


def take(lake: Lake, *paths: Path, at: dt.datetime = NOW) -> None:
    ingest(Lake(lake.root, TABLES), paths, clock=lambda: at)


def files(lake: Lake, table: str) -> list[Path]:
    return [Path(file.path) for file in lake.snapshot(table).files(fetch=False)]


def found(lake: Lake) -> Findings:
    return check(lake, lake.table_names())


def repaired(lake: Lake, filter_at: Callable[..., Transform | None] = lambda *_: None) -> list[Restored]:
    mend(lake, found(lake), clock=lambda: NOW)
    return read_again(lake, filter_at)


def read_again(lake: Lake, filter_at: Callable[..., Transform | None] = lambda *_: None) -> list[Restored]:
    wanted = awaited(lake, lake.table_names())
    return list(
        restore(lake, wanted, find=object_at({}), clock=lambda: NOW, sources=SOURCES, filter_at=filter_at)
    )


def values(lake: Lake, table: str, column: str) -> list[str]:
    return sorted(str(row[column]) for row in rows(lake, table))


def test_a_sound_lake_is_sound(lake: Lake, tmp_path: Path) -> None:
    take(lake, calls(tmp_path / "a.json", *range(9)), flows(tmp_path / "vpcflowlogs" / "b.log", 1, 1, 2))
    assert found(lake).ok
    assert repaired(lake) == []


@pytest.mark.parametrize("damage", ["gone", "cut off", "another file"])
def test_rows_of_a_damaged_file_are_read_again(lake: Lake, tmp_path: Path, damage: str) -> None:
    take(lake, calls(tmp_path / "a.json", *range(9)))
    take(lake, calls(tmp_path / "b.json", *range(5, 20)))
    path = files(lake, CALLS)[0]
    content = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(content[:99] if damage == "cut off" else b"x")
    told = found(lake)
    assert [(each.table, each.day, each.file) for each in told.damages] == [
        (CALLS, dt.date(2026, 3, 3), str(path))
    ]
    lost = sum(each.rows for each in told.damages)
    assert sum(each.rows for each in told.missing) == lost
    done = repaired(lake)
    assert [each.reason for each in done] == [""] * len(done)
    assert sum(each.rows for each in done) == lost
    assert values(lake, CALLS, "AwsEventId") == sorted(f"id-{number}" for number in range(20))
    assert_balanced(lake, retried=True)
    assert found(lake).ok
    take(lake, tmp_path / "a.json", tmp_path / "b.json")
    assert lake.snapshot(CALLS).rows == 20


def test_rows_without_an_id_come_again_once(lake: Lake, tmp_path: Path) -> None:
    """They are told apart by their object: what other files hold of it stays alone, equal rows included."""
    path = flows(tmp_path / "vpcflowlogs" / "a.log", *range(20), 3, 3, 15)
    take(lake, path)
    before = values(lake, FLOWS, "DstPort")
    delta = lake.delta(FLOWS)
    delta.refresh()
    [whole] = delta.live()
    table = pq.ParquetFile(delta.file(whole)).read()
    halves = delta.stage(table.slice(0, 9)) + delta.stage(table.slice(9))
    delta.commit(halves, remove=[whole], moved=True)
    delta.file(halves[0].path).write_bytes(b"damaged")
    assert [each.rows for each in repaired(lake)] == [9]
    assert values(lake, FLOWS, "DstPort") == before
    assert_balanced(lake, retried=True)
    # And the other half, of the same object, later.
    delta.file(halves[1].path).unlink()
    assert [each.rows for each in repaired(lake)] == [len(before) - 9]
    assert values(lake, FLOWS, "DstPort") == before
    assert_balanced(lake, retried=True)
    assert found(lake).ok


def test_what_cannot_be_had_is_named_and_asked_for_again(lake: Lake, tmp_path: Path) -> None:
    here, gone = calls(tmp_path / "a.json", *range(9)), calls(tmp_path / "b.json", *range(50, 55))
    take(lake, here, gone)
    files(lake, CALLS)[0].unlink()
    content = gone.read_bytes()
    gone.write_bytes(content.replace(b"id-51", b"id-99"))
    done = {each.missing.location: each for each in repaired(lake)}
    assert (done[str(here)].rows, done[str(here)].reason) == (9, "")
    assert (done[str(gone)].rows, done[str(gone)].missing.rows) == (0, 5)
    assert "not those that were taken" in done[str(gone)].reason
    assert [(each.location, each.rows) for each in found(lake).missing] == [(str(gone), 5)]
    assert_balanced(lake, retried=True)
    gone.write_bytes(content)
    assert [(each.rows, each.reason) for each in repaired(lake)] == [(5, "")]
    assert found(lake).ok
    assert_balanced(lake, retried=True)


def test_what_can_be_read_of_a_file_is_kept(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trailhawk.lake.delta.ROW_GROUP_ROWS", 8)
    log = calls(tmp_path / "a.json", *range(24))
    take(lake, log)
    log.unlink()
    [path] = files(lake, CALLS)
    with pq.ParquetFile(path) as file:
        column = file.metadata.row_group(1).column(file.schema_arrow.names.index("AwsEventId"))
        start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start + column.total_compressed_size // 2] ^= 1  # one bit, in the second of three row groups
    path.write_bytes(content)
    [damage] = found(lake).damages
    assert (damage.rows, damage.readable) == (24, 16)
    [done] = repaired(lake)
    assert (done.rows, done.missing.rows) == (0, 8)
    assert lake.snapshot(CALLS).rows == 16
    assert_balanced(lake, retried=True)


def test_doubled_rows_go(lake: Lake, tmp_path: Path) -> None:
    """A file is put back from a backup after its events were stored again."""
    take(lake, calls(tmp_path / "a.json", *range(9)))
    [path] = files(lake, CALLS)
    content = path.read_bytes()
    path.write_bytes(b"damaged")
    take(lake, calls(tmp_path / "b.json", *range(5, 20)), at=NOW + dt.timedelta(hours=1))
    path.write_bytes(content)
    assert lake.snapshot(CALLS).rows == 24
    told = found(lake)
    assert [each.rows for each in told.doubled] == [4]
    assert repaired(lake) == []
    assert values(lake, CALLS, "AwsEventId") == sorted(f"id-{number}" for number in range(20))
    stored_at = [row["_th_ingestion_time"].hour for row in rows(lake, CALLS)]
    assert (stored_at.count(12), stored_at.count(13)) == (9, 11), "what came first stays"
    assert found(lake).ok
    assert_balanced(lake, retried=True)


def test_doubled_rows_go_that_share_a_file(lake: Lake, tmp_path: Path) -> None:
    take(lake, calls(tmp_path / "a.json", *range(9)))
    delta = lake.delta(CALLS)
    delta.refresh()
    [whole] = delta.live()
    table = pq.ParquetFile(delta.file(whole)).read()
    delta.commit(delta.stage(pa.concat_tables([table, table.slice(2, 4)])), remove=[whole], moved=True)
    assert [each.rows for each in found(lake).doubled] == [4]
    repaired(lake)
    assert values(lake, CALLS, "AwsEventId") == sorted(f"id-{number}" for number in range(9))


@pytest.mark.parametrize("damage", ["column's name", "letter", "other rows", "longer", "bounds"])
def test_a_file_that_is_not_the_one_that_was_written_is_damaged(
    lake: Lake, tmp_path: Path, damage: str
) -> None:
    """Footers of the first versions have no checksum; each of these can be read without an error, but for the
    first."""
    take(lake, calls(tmp_path / "a.json", *range(9)))
    [path] = files(lake, CALLS)
    content = bytearray(path.read_bytes().replace(b"TrailCRC", bytes(8)))
    if damage in ("column's name", "letter"):
        footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        content[content.index(b"UserIdentityArn", footer)] ^= 1 if damage == "letter" else 0x80
    elif damage == "other rows":
        take(Lake(tmp_path / "other", TABLES), calls(tmp_path / "b.json", *range(20, 29), day=4))
        content = bytearray(files(Lake(tmp_path / "other", TABLES), CALLS)[0].read_bytes())
    elif damage == "longer":
        content += content[-8 - int.from_bytes(content[-8:-4], "little") :]
    else:
        statistics = pq.ParquetFile(path).metadata.row_group(0).column(0).statistics
        first = int(statistics.min.replace(tzinfo=dt.UTC).timestamp() * 1e6).to_bytes(8, "little")
        at = content.rindex(first)
        content[at + 4] ^= 1
    path.write_bytes(content)
    assert [each.file for each in found(lake).damages] == [str(path)]
    assert sum(each.rows for each in repaired(lake)) == 9
    assert values(lake, CALLS, "AwsEventId") == sorted(f"id-{number}" for number in range(9))


def test_each_bit_of_a_footer_counts(lake: Lake, tmp_path: Path) -> None:
    """Arrow reads over some that stop DuckDB."""
    take(lake, calls(tmp_path / "a.json", *range(9)))
    [path] = files(lake, CALLS)
    content = path.read_bytes()
    for at in range(len(content) - 8 - int.from_bytes(content[-8:-4], "little"), len(content), 37):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        assert [each.file for each in damages(lake.delta(CALLS))] == [str(path)], at
    path.write_bytes(content)
    assert found(lake).ok


def _without_its_add(log: Path) -> None:
    log.write_text(log.read_text().replace('"add"', '"aed"'))


@pytest.mark.parametrize("damage", [_without_its_add, Path.unlink])
def test_rows_that_the_ledger_has_and_no_file_are_read_again(
    lake: Lake, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """The table's log has lost a commit: its newest file, or a key in it."""
    take(lake, calls(tmp_path / "a.json", *range(9)))
    take(lake, calls(tmp_path / "b.json", *range(5, 20)), flows(tmp_path / "vpcflowlogs" / "c.log", 1, 1, 2))
    damage(max((lake.root / CALLS / "_delta_log").glob("*.json")))
    lake = Lake(lake.root, TABLES)
    assert lake.snapshot(CALLS).rows == 9
    told = found(lake)
    assert [(each.location, each.rows) for each in told.missing] == [(str(tmp_path / "b.json"), 11)]
    assert not told.ok
    assert [(each.rows, each.reason) for each in repaired(lake)] == [(11, "")]
    assert values(lake, CALLS, "AwsEventId") == sorted(f"id-{number}" for number in range(20))
    assert found(lake).ok
    assert_balanced(lake, retried=True)


def test_what_retention_removed_is_not_missing(lake: Lake, tmp_path: Path) -> None:
    take(lake, calls(tmp_path / "a.json", *range(9)), calls(tmp_path / "b.json", *range(20, 29), day=5))
    forget(lake.delta(CALLS), before=dt.date(2026, 3, 4))
    assert found(lake).ok


def test_a_table_older_than_its_ledger_stops_ingest_until_it_is_repaired(lake: Lake, tmp_path: Path) -> None:
    """As a copy of the lake is that was made table by table while it was written to. What came next was not
    entered into the ledger."""
    for name in "ab":
        take(lake, calls(tmp_path / f"{name}.json", ord(name)))
    max((lake.root / CALLS / "_delta_log").glob("*.json")).unlink()
    lake = Lake(lake.root, TABLES)
    with pytest.raises(LakeError, match="is older than what"):
        take(lake, calls(tmp_path / "c.json", 3))
    assert found(lake).behind == (CALLS,)
    repaired(lake)
    assert found(lake).ok
    take(lake, tmp_path / "c.json")
    assert values(lake, CALLS, "AwsEventId") == ["id-3", "id-97", "id-98"]
    assert_balanced(lake, retried=True)


def test_a_log_that_cannot_be_read_is_named_and_other_tables_are_repaired(lake: Lake, tmp_path: Path) -> None:
    take(lake, calls(tmp_path / "a.json", *range(9)), flows(tmp_path / "vpcflowlogs" / "b.log", 1, 1, 2))
    files(lake, FLOWS)[0].unlink()
    for path in (lake.root / CALLS / "_delta_log").glob("*.json"):
        path.write_bytes(b"\0damaged")
    lake = Lake(lake.root, TABLES)
    told = found(lake)
    assert [name for name, _ in told.unreadable] == [CALLS]
    assert [each.table for each in told.damages] == [FLOWS]
    assert [each.rows for each in repaired(lake)] == [3]
    assert [name for name, _ in found(lake).unreadable] == [CALLS]
    assert not found(lake).missing


def test_of_a_table_without_objects_what_can_be_read_stays(lake: Lake) -> None:
    delta, at = lake.delta("SentinelHealth"), NOW.replace(tzinfo=None)
    delta.create()
    row = {"TimeGenerated": at, INGESTION_TIME: at, OBJECT: "", BATCH: "", CONFLICT: False}
    for _ in range(2):
        delta.commit(delta.stage(fitted(pa.Table.from_pylist([row]), delta.table)))
    first, _ = files(lake, "SentinelHealth")
    first.unlink()
    assert repaired(lake) == []
    assert lake.snapshot("SentinelHealth").rows == 1
    assert lake.snapshot(LEDGER).version == -1


def test_the_ledger_is_written_anew(lake: Lake, tmp_path: Path) -> None:
    logs = [calls(tmp_path / "a.json", *range(9)), flows(tmp_path / "vpcflowlogs" / "b.log", 1, 1, 2)]
    (bad := tmp_path / "c.json").write_text('{"Records": [7]}')
    take(lake, *logs, bad)
    for path in files(lake, LEDGER):
        path.write_bytes(b"damaged")
    assert {each.table for each in found(lake).damages} == {LEDGER}
    assert repaired(lake) == []
    assert_balanced(lake)
    take(lake, *logs, bad)
    assert (lake.snapshot(CALLS).rows, lake.snapshot(FLOWS).rows, lake.snapshot("Quarantine").rows) == (
        9,
        3,
        1,
    )


def test_days_that_retention_removed_do_not_come_back(lake: Lake, tmp_path: Path) -> None:
    log = calls(tmp_path / "a.json", *range(9))
    late = calls(tmp_path / "b.json", *range(20, 24), day=5)
    both = json.loads(log.read_text())["Records"] + json.loads(late.read_text())["Records"]
    log.write_text(json.dumps({"Records": both}))
    take(lake, log)
    forget(lake.delta(CALLS), before=dt.date(2026, 3, 5))
    files(lake, CALLS)[0].unlink()
    [one] = found(lake).missing
    assert one.rows == 4
    assert [each.rows for each in repaired(lake)] == [4]
    assert values(lake, CALLS, "AwsEventId") == ["id-20", "id-21", "id-22", "id-23"]


def test_a_kill_at_any_place_is_made_good_by_the_next(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    path = tmp_path / "vpcflowlogs" / "a.log"
    take(lake, flows(path, *range(20)))
    files(lake, FLOWS)[0].unlink()
    left = 0
    real = type(lake.delta(FLOWS)).commit

    def commit(self: object, *args: object, **options: object) -> int:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        return real(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("trailhawk.lake.delta.Delta.commit", commit)
    kills = 0
    while True:
        left = kills + 1
        try:
            repaired(Lake(lake.root, TABLES))
            break
        except Killed:
            kills += 1
    assert kills >= 2
    assert values(lake, FLOWS, "DstPort") == sorted(str(1000 + at) for at in range(20))
    assert_balanced(lake, retried=True)


def test_a_log_that_lost_rows_is_not_proven(lake: Lake, tmp_path: Path) -> None:
    log = calls(tmp_path / "a.json", *range(9))
    content = log.read_bytes()
    take(lake, log)
    named = NamedLog("bucket", "logs/a.json", "")
    sha256 = hashlib.sha256(content).hexdigest()
    files(lake, CALLS)[0].unlink()
    log.unlink()
    repaired(lake)
    taken = Ledger(rows(lake, LEDGER)).find(named, sha256)
    assert taken is not None
    assert not taken.finished
    log.write_bytes(content)
    repaired(lake)
    taken = Ledger(rows(lake, LEDGER)).find(named, sha256)
    assert taken is not None
    assert taken.finished


def test_a_loss_that_is_accepted_is_no_fault_and_stays_written_down(lake: Lake, tmp_path: Path) -> None:
    log = calls(tmp_path / "a.json", *range(9))
    content = log.read_bytes()
    take(lake, log)
    [before] = streams(lake, now=NOW)
    files(lake, CALLS)[0].unlink()
    log.unlink()
    accept(lake, [each.missing for each in repaired(lake)], clock=lambda: NOW)
    told = found(lake)
    assert told.ok
    assert [(one.rows, one.accepted) for one in told.missing] == [(9, True)]
    assert [row["State"] for row in rows(lake, LEDGER)].count("accepted") == 1
    assert_balanced(lake, retried=True)
    assert streams(lake, now=NOW) == [before]
    taken = Ledger(rows(lake, LEDGER)).find(NamedLog("", "a.json", ""), hashlib.sha256(content).hexdigest())
    assert taken is not None
    assert not taken.finished
    assert [each.reason for each in repaired(lake)] == ["No such file or directory"]
    accept(lake, [one for one in found(lake).missing if one.accepted], clock=lambda: NOW)
    assert [row["State"] for row in rows(lake, LEDGER)].count("accepted") == 1, "once is enough"
    log.write_bytes(content)
    assert [(each.rows, each.reason) for each in repaired(lake)] == [(9, "")], "it came back all the same"
    assert found(lake).missing == ()
    assert_balanced(lake, retried=True)


@pytest.mark.parametrize(
    ("what", "gone"),
    [
        ("deleted", True),
        ("changed", True),
        ("folder away", False),
        ("folder empty", False),
        ("locked", False),
    ],
)
def test_what_is_gone_for_good(lake: Lake, tmp_path: Path, what: str, gone: bool) -> None:
    """A file in a folder that is empty or not there may lie in one that is not mounted."""
    log = calls(tmp_path / "logs" / "a.json", *range(9))
    other = calls(tmp_path / "logs" / "b.json", 50)
    take(lake, log)
    files(lake, CALLS)[0].unlink()
    if what == "changed":
        calls(log, 1)
    else:
        log.unlink()
    if what.startswith("folder"):
        other.unlink()
    if what == "folder away":
        log.parent.rmdir()
    if what == "locked":
        log.mkdir()
    [told] = repaired(lake)
    assert (bool(told.reason), told.gone) == (True, gone)


@pytest.mark.parametrize("inside", ["//a.json", "//day/a.json", "!a.json", "!day/a.json", "//b.zip//a.json"])
def test_a_member_of_an_archive_that_is_gone(tmp_path: Path, inside: str) -> None:
    """Also as older ledgers have it. What only cannot be opened now is not gone."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "other.json").touch()
    place = f"{folder}/day.zip{inside}"
    with pytest.raises(GoneError, match="No such file or directory"):
        object_at({})(place).open()
    with zipfile.ZipFile(folder / "day.zip", "w") as archive:
        archive.writestr("c.json", "{}")
    with pytest.raises(GoneError, match="no such file in the archive"):
        object_at({})(place).open()
    (folder / "day.zip").unlink()
    if inside.startswith("//"):
        (folder / "day.zip").mkdir()
        with pytest.raises(IsADirectoryError):
            object_at({})(place).open()
        (folder / "day.zip").rmdir()
    (folder / "other.json").unlink()
    with pytest.raises(FileNotFoundError, match="not mounted") as away:
        object_at({})(place).open()
    assert not isinstance(away.value, GoneError)


def test_rows_that_may_be_there_twice_are_not_told_as_lost(lake: Lake, tmp_path: Path) -> None:
    """They are stored again, and a file that was damaged meanwhile may hold them as well."""
    take(lake, calls(tmp_path / "a.json", *range(9)))
    first = files(lake, CALLS)[0]
    take(lake, calls(tmp_path / "b.json", *range(60, 69)))
    first.write_text("damaged")
    mend(lake, found(lake), clock=lambda: NOW)
    for path in files(lake, CALLS):
        path.write_text("damaged")
    [told] = read_again(lake)
    assert (told.rows, told.reason) == (9, "")
    assert "may hold as well" in told.doubt


def test_what_came_over_http_is_gone_for_good(lake: Lake, tmp_path: Path) -> None:
    log = calls(tmp_path / "a.json", *range(9))
    item = LogObject("http:AWSCloudTrail/1", lambda: log.open("rb"), identity="one")
    ingestor = Ingestor(lake, clock=lambda: NOW, sources=SOURCES)
    ingestor.take(item)
    ingestor.flush()
    files(lake, CALLS)[0].unlink()
    [told] = repaired(lake)
    assert (told.reason, told.gone) == ("it came over HTTP, and lies nowhere else", True)


def test_how_far_it_is_told(lake: Lake, tmp_path: Path) -> None:
    take(lake, calls(tmp_path / "a.json", *range(9)), calls(tmp_path / "b.json", *range(30, 33), day=4))
    told: list[tuple[int, int]] = []
    check(lake, lake.table_names(), progress=lambda done, total: told.append((done, total)))
    count = sum(len(files(lake, table)) for table in lake.table_names())
    assert told == [(done, count) for done in range(1, count + 1)]


def test_a_repair_is_no_sign_of_life(lake: Lake, tmp_path: Path) -> None:
    take(lake, calls(tmp_path / "a.json", *range(9)))
    [before] = streams(lake, now=NOW)
    files(lake, CALLS)[0].unlink()
    repaired(lake)
    [after] = streams(lake, now=NOW)
    assert (after.objects, after.rows) == (before.objects, before.rows)


def test_masked_rows_come_again_as_they_were(lake: Lake, tmp_path: Path) -> None:
    """By the filter that was in force when the object was stored."""
    take(lake, calls(tmp_path / "a.json", *range(9)))
    files(lake, CALLS)[0].unlink()
    asked: list[tuple[str, dt.datetime]] = []

    def keep(wanted: pa.Table) -> TransformResult:
        kept = np.arange(wanted.num_rows) % 2 == 0
        return TransformResult(kept, wanted.filter(pa.array(kept)))

    def filter_at(table: str, at: dt.datetime) -> Transform:
        asked.append((table, at))
        return keep

    [done] = repaired(lake, filter_at)
    assert (done.rows, done.missing.rows) == (5, 9)
    assert asked == [(CALLS, NOW)]


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"

    def command(*words: str) -> int:
        return run(["--home", str(home), *words])

    assert command("lake", "check") == 1
    shown = capsys.readouterr()
    assert "nothing is stored" in shown.out
    assert f"no logs are stored in {home}" in shown.err, "a home that was mistyped is not sound"
    for other in ("status", "compact", "vacuum", "retention"):
        assert command("lake", other) == 0
        assert f"no logs are stored in {home}" in capsys.readouterr().err
    logs = [calls(tmp_path / "a.json", *range(9)), calls(tmp_path / "b.json", *range(30, 33))]
    assert command("ingest", *map(str, logs), "--quiet") == 0
    assert command("lake", "check") == 0
    [path] = (home / "lake" / CALLS).glob("*/*.parquet")
    path.unlink()
    logs[1].unlink()
    capsys.readouterr()
    assert command("lake", "check") == 1
    assert str(path) in capsys.readouterr().out
    assert command("lake", "repair", "--format", "json") == 1
    told = [(each["what"], each["place"], each["rows"]) for each in json.loads(capsys.readouterr().out)]
    assert told == [("damaged", str(path), 12), ("missing", str(logs[0]), 9), ("missing", str(logs[1]), 3)]
    assert command("lake", "repair", "--apply") == 1
    shown = capsys.readouterr()
    assert "3 rows of 1 object are lost" in shown.err
    assert command("lake", "check") == 1
    assert command("lake", "repair", "--accept-loss") == 2
    capsys.readouterr()
    assert command("lake", "repair", "--apply", "--accept-loss") == 0
    assert "3 rows of 1 object are lost; which is accepted" in capsys.readouterr().err
    assert command("lake", "check") == 0
    assert "3 rows of 1 object are lost, which is accepted" in capsys.readouterr().err
    assert command("query", "AWSCloudTrail | count", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == [{"Count": 9}]
    assert command("lake", "repair") == 0
    assert "can be read again" not in capsys.readouterr().out
    calls(logs[1], *range(30, 33))
    assert command("lake", "repair", "--format", "json") == 0
    shown = capsys.readouterr()
    [told] = json.loads(shown.out)
    assert (told["what"], told["place"]) == ("lost, accepted", str(logs[1]))
    assert told["detail"] == "can be read again"
    assert "nothing was changed: see --apply" in shown.err
    assert command("lake", "repair", "--apply") == 0
    (bad := tmp_path / "c.json").write_text('{"Records": [7]}')
    assert command("ingest", str(bad), "--quiet") == 0
    [path] = (home / "lake" / "Quarantine").glob("*/*.parquet")
    path.unlink()
    capsys.readouterr()
    assert command("lake", "repair", "--apply") == 1
    assert "1 row is lost, of no object" in capsys.readouterr().err
    assert command("lake", "check") == 0


def test_what_cannot_be_reached_is_not_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, mounted = tmp_path / "home", tmp_path / "mounted"

    def command(*words: str) -> int:
        return run(["--home", str(home), *words])

    gone = calls(tmp_path / "a.json", *range(9))
    assert command("ingest", str(gone), str(calls(mounted / "b.json", *range(30, 31))), "--quiet") == 0
    for path in (home / "lake" / CALLS).glob("*/*.parquet"):
        path.unlink()
    gone.unlink()
    mounted.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert command("lake", "repair", "--apply", "--accept-loss") == 1
    shown = capsys.readouterr()
    assert "9 rows of 1 object are lost; which is accepted" in shown.err
    assert "1 row of 1 object is lost; the next repair asks for them again, not accepted" in shown.err
    assert command("lake", "check") == 1
    (tmp_path / "elsewhere").rename(mounted)
    assert command("lake", "repair", "--apply") == 0
    assert command("lake", "check") == 0
