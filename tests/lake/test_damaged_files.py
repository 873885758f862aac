"""A data file that is missing, cut off or damaged is told by its name, whoever reads it."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from trailhawk import connectors, sources
from trailhawk.cli import run
from trailhawk.connectors.connector import Board
from trailhawk.connectors.ingest import ingest
from trailhawk.connectors.objects import Outcome
from trailhawk.connectors.quarantine import quarantined
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.errors import LakeError
from trailhawk.kql.schema import INGESTION_TIME
from trailhawk.lake import LogError
from trailhawk.lake.care import Caretaker, Retention
from trailhawk.lake.catalog import Lake
from trailhawk.lake.compaction import compact
from trailhawk.lake.files import DamagedFileError, damaged, opened
from trailhawk.lake.table import BATCH, CONFLICT, OBJECT, fitted

NOW = dt.datetime(2026, 3, 3, tzinfo=dt.UTC)


def flipped(content: bytes) -> bytes:
    """The file with all but its beginning and its end wrong: only who unpacks the rows notices."""
    size = len(content)
    middle = bytes(byte ^ 0x5A for byte in content[size // 10 : size * 8 // 10])
    return content[: size // 10] + middle + content[size * 8 // 10 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "another file": lambda _: b"damaged",
    "cut off": lambda content: content[: len(content) // 2],
    "flipped": flipped,
}


def call(number: int) -> dict[str, object]:
    # Random text: what packs well would leave nothing to damage.
    agent = os.urandom(40).hex()
    return {"eventTime": "2026-03-01T10:00:00Z", "eventID": str(number), "eventName": "a", "userAgent": agent}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake", [*sources.TABLES, *connectors.TABLES])
    take(lake, tmp_path, [json.dumps(call(number)) for number in range(2000)] + ["no JSON"])
    return lake


def take(lake: Lake, folder: Path, lines: list[str]) -> None:
    log = folder / f"log-{len(list(folder.iterdir()))}.json"
    log.write_text("\n".join(lines))
    ingest(lake, [log], clock=lambda: NOW)


def anew(lake: Lake) -> Lake:
    return Lake(lake.root, [*sources.TABLES, *connectors.TABLES])


def only_row() -> dict[str, list[object]]:
    at = dt.datetime(2026, 3, 1)
    return {"TimeGenerated": [at], INGESTION_TIME: [at], OBJECT: ["o"], BATCH: ["b"], CONFLICT: [False]}


def only_file(lake: Lake, table: str) -> Path:
    (file,) = lake.snapshot(table).files()
    return Path(file.path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_query_names_the_file(lake: Lake, damage: str) -> None:
    path = only_file(lake, "AWSCloudTrail")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    engine = DuckDBEngine(lake)
    with pytest.raises(LakeError, match="put it back from a backup") as caught:
        engine.query("AWSCloudTrail | summarize dcount(UserAgent)", now=NOW)
    assert str(path) in str(caught.value)
    engine.close()


def test_a_query_names_a_file_that_is_gone(lake: Lake) -> None:
    path = only_file(lake, "AWSCloudTrail")
    path.unlink()
    engine = DuckDBEngine(lake)
    with pytest.raises(LakeError, match=path.name):
        engine.query("AWSCloudTrail | summarize dcount(UserAgent)", now=NOW)
    engine.close()


def test_taking_in_names_a_file_of_the_ledger(lake: Lake, tmp_path: Path) -> None:
    """What was taken before is not known without it: everything would come twice."""
    path = only_file(lake, "IngestLedger")
    path.write_text("damaged")
    with pytest.raises(LakeError, match=path.name):
        take(anew(lake), tmp_path, [json.dumps(call(1))])


@pytest.mark.parametrize("damage", [*DAMAGES, "gone"])
def test_taking_in_goes_on_beside_it(lake: Lake, tmp_path: Path, damage: str) -> None:
    """New rows of its day are stored; a query goes on saying that rows are missing until it is back."""
    path = only_file(lake, "AWSCloudTrail")
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(DAMAGES[damage](content))
    later, lines = anew(lake), [json.dumps(call(3000 + number)) for number in range(5)]
    for line in lines:
        take(later, tmp_path, [line])
    live = {Path(file.path) for file in later.snapshot("AWSCloudTrail").files()}
    assert path in live
    assert len(live) <= 3
    engine = DuckDBEngine(later)
    with pytest.raises(LakeError, match=path.name):
        engine.query("AWSCloudTrail | summarize dcount(UserAgent)", now=NOW)
    path.write_bytes(content)
    assert engine.query("AWSCloudTrail | summarize dcount(UserAgent)", now=NOW).table.num_rows
    engine.close()
    take(anew(lake), tmp_path, [*lines, json.dumps(call(4000))])
    assert lake.snapshot("AWSCloudTrail").rows == 2000 + 5 + 1


def test_what_it_may_hold_as_well_is_told(lake: Lake, tmp_path: Path) -> None:
    """An event of another time is none of it; one of its time is stored, and told with the file's path."""
    path = only_file(lake, "AWSCloudTrail")
    path.write_text("damaged")
    told: list[Outcome] = []
    for number, at in enumerate(("2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z", "2026-03-02T10:00:00Z")):
        log = tmp_path / f"again-{number}.json"
        log.write_text(json.dumps(call(1) | {"eventTime": at}))
        ingest(anew(lake), [log], clock=lambda: NOW, told=told.append)
    assert [(outcome.rows, bool(outcome.doubt)) for outcome in told] == [(1, True), (1, False), (1, False)]
    assert str(path) in told[0].doubt
    assert "put back from a backup" in told[0].doubt


def test_only_the_events_are_doubtful_whose_hashes_cannot_be_read(lake: Lake, tmp_path: Path) -> None:
    """A file of which another column is damaged still tells what is in it."""
    path = only_file(lake, "AWSCloudTrail")
    with opened(path) as file:
        group = file.metadata.row_group(0)
        names = [group.column(place).path_in_schema for place in range(group.num_columns)]
        column = group.column(names.index("UserAgent"))
        start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    assert damaged([path])
    log, told = tmp_path / "again.json", list[Outcome]()
    log.write_text(json.dumps(call(4000)))
    ingest(anew(lake), [log], clock=lambda: NOW + dt.timedelta(days=9), told=told.append)
    assert [(outcome.rows, outcome.doubt) for outcome in told] == [(1, "")]


def test_the_command_names_it_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(
            "\n".join(json.dumps(call(each)) for each in range(number + 1))
        )
    assert run(["--home", str(home), "ingest", str(tmp_path / "0.json"), "--quiet"]) == 0
    [path] = (home / "lake" / "AWSCloudTrail").glob("*/*.parquet")
    path.write_bytes(bytes(path.stat().st_size))
    capsys.readouterr()
    logs = [str(tmp_path / f"{number}.json") for number in (1, 2)]
    assert run(["--home", str(home), "ingest", *logs, "--quiet"]) == 1
    assert capsys.readouterr().err.count(str(path)) == 1


def test_a_connector_says_so_until_it_ends() -> None:
    board = Board("queue", "sqs", lambda: NOW)
    board.ended(Outcome("stored", "a", rows=1, doubt="the file x cannot be read"), 1)
    board.ended(Outcome("stored", "b", rows=1), 1)
    assert board.state().problem == "the file x cannot be read"


def test_compaction_of_the_rest_goes_on(lake: Lake, tmp_path: Path) -> None:
    """One damaged file keeps neither other days and tables nor the rest of its day from being rewritten."""
    delta = lake.delta("AWSCloudTrail")
    delta.refresh()
    good = pa.table(only_row())
    for day in (1, 1, 1, 1, 2, 2, 2, 2):
        at = pa.array([dt.datetime(2026, 3, day, 5)], pa.timestamp("us"))
        delta.commit(delta.stage(fitted(good.set_column(0, "TimeGenerated", at), delta.table)))
    path = delta.file(min(path for path, rows in delta.live([dt.date(2026, 3, 1)]).items() if rows == 1))
    path.write_text("damaged")
    care = Caretaker(
        lake, clock=lambda: NOW + dt.timedelta(days=9), retention=Retention(), settle=lambda: None
    )
    told: list[LogError | DamagedFileError] = []
    assert care.compact(told=told.append)["AWSCloudTrail"] == 2
    assert [error.path for error in told] == [str(path)]
    found = [Path(file.path) for file in lake.snapshot("AWSCloudTrail").files()]
    assert path in found
    assert sorted(file.parent.name for file in found) == ["_th_day=2026-03-01"] * 3 + ["_th_day=2026-03-02"]


def test_the_state_of_the_lake_names_what_is_missing_or_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    log = tmp_path / "log.json"
    log.write_text(json.dumps(call(1)))
    assert run(["--home", str(home), "ingest", str(log), "--quiet"]) == 0
    capsys.readouterr()
    assert run(["--home", str(home), "lake", "status"]) == 0
    assert capsys.readouterr().err == ""
    [cut] = (home / "lake" / "AWSCloudTrail").glob("*/*.parquet")
    [gone] = (home / "lake" / "IngestLedger").glob("*/*.parquet")
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()
    assert run(["--home", str(home), "lake", "status"]) == 0
    told = capsys.readouterr().err
    assert f"{cut} is missing or cut off" in told
    assert f"{gone} is missing or cut off" in told


def test_what_stands_between_is_no_damage_of_the_file() -> None:
    for number, lasting in ((errno.EMFILE, False), (errno.EIO, False), (errno.ENOENT, True)):
        assert DamagedFileError("x", OSError(number, "so")).is_lasting is lasting
    assert DamagedFileError("x", pa.ArrowInvalid("no Parquet")).is_lasting


@pytest.mark.parametrize("damage", DAMAGES)
def test_compaction_names_the_file_and_leaves_the_table_as_it_was(lake: Lake, damage: str) -> None:
    path = only_file(lake, "AWSCloudTrail")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    delta = lake.delta("AWSCloudTrail")
    version, live = delta.refresh(), delta.live()
    with pytest.raises(LakeError, match=path.name):
        compact(delta, dt.date(2026, 3, 1), list(live))
    assert (delta.refresh(), delta.live()) == (version, live)


def test_the_list_of_the_quarantine_names_the_file(lake: Lake) -> None:
    assert len(quarantined(lake)) == 1
    path = only_file(lake, "Quarantine")
    path.write_text("damaged")
    with pytest.raises(LakeError, match=path.name):
        quarantined(lake)


def test_the_first_damaged_file_of_many(lake: Lake, tmp_path: Path) -> None:
    good = only_file(lake, "AWSCloudTrail")
    bad = tmp_path / "bad.parquet"
    bad.write_text("damaged")
    assert damaged([good]) is None
    found = damaged([good, bad])
    assert found is not None
    assert str(bad) in str(found)
