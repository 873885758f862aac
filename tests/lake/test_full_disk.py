"""A disk that fills while the lake is written to: nothing half done, nothing left over, told where."""

import datetime as dt
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from trailhawk.cli import run
from trailhawk.errors import LakeError
from trailhawk.kql.schema import INGESTION_TIME, Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import Delta, Transaction, UncommittedError, merging, storage
from trailhawk.lake.compaction import compact
from trailhawk.lake.table import BATCH, CONFLICT, OBJECT, fitted

EVENTS = Table(
    "Events", (Column("TimeGenerated", KqlType.DATETIME), Column("Text", KqlType.STRING)), constants={}
)
DAY = dt.datetime(2026, 3, 1)
ARROW = "\n \x1b[31m↳\x1b[0m "
FULL = f"Generic LocalFileSystem error{ARROW}Unable to copy data{ARROW}No space left on device"
Commit = Callable[..., Any]


def rows(*hours: int) -> pa.Table:
    values = [
        {"TimeGenerated": at, INGESTION_TIME: at, OBJECT: "o", BATCH: "b", CONFLICT: False}
        for at in (DAY + dt.timedelta(hours=hour) for hour in hours)
    ]
    return fitted(pa.Table.from_pylist(values), EVENTS)


@pytest.fixture
def table(tmp_path: Path) -> Delta:
    made = Delta(tmp_path / "Events", EVENTS)
    made.create()
    return made


def files(table: Delta) -> list[Path]:
    return sorted(path for path in table.root.rglob("*") if path.is_file())


def refused(monkeypatch: pytest.MonkeyPatch, *, done: bool) -> None:
    real: Commit = DeltaTable.create_write_transaction

    def commit(*given: Any, **named: Any) -> None:
        if done:
            real(*given, **named)
        raise OSError(FULL)

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit)


def test_a_log_that_cannot_be_written_is_told_and_nothing_is_committed(
    table: Delta, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(table)
    staged = table.stage(rows(1, 30))
    with monkeypatch.context() as patch:
        refused(patch, done=False)
        with pytest.raises(UncommittedError) as caught:
            table.commit(staged, transaction=Transaction("a", 1))
    assert str(caught.value) == (
        f"table Events in {table.root} cannot be written: "
        "Generic LocalFileSystem error: Unable to copy data: No space left on device"
    )
    assert (table.version, table.transaction("a")) == (0, 0)
    assert table.commit(staged, transaction=Transaction("a", 1)) == 1
    table.discard(())
    assert len(files(table)) > len(before)


def test_a_commit_that_was_done_counts_whatever_is_said(
    table: Delta, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(monkeypatch, done=True)
    assert table.commit(table.stage(rows(1)), note={"a": 1}) == 1
    assert table.commit(table.stage(rows(2)), transaction=Transaction("a", 1)) == 2
    assert len(table.live()) == 2


@pytest.mark.parametrize("at", ["first file", "second file", "commit"])
def test_a_compaction_leaves_nothing_behind(at: str, table: Delta, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again and again: what it left would fill the disk for good."""
    monkeypatch.setattr(merging, "SLICE_ROWS", 2)
    for hour in range(8):
        table.commit(table.stage(rows(hour)))
    before, live = files(table), table.live()
    fsync, left = os.fsync, ["first file", "second file", "commit"].index(at)

    def full(number: int) -> None:
        nonlocal left
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left -= 1
        fsync(number)

    with monkeypatch.context() as patch:
        if at == "commit":
            refused(patch, done=False)
        else:
            patch.setattr("trailhawk.lake.delta.os.fsync", full)
        with pytest.raises((OSError, LakeError), match="No space left on device"):
            compact(table, DAY.date(), list(live), file_rows=4)
    assert (files(table), table.live()) == (before, live)
    assert compact(table, DAY.date(), list(live), file_rows=4)
    assert sum(table.live().values()) == 8


def test_staged_files_that_cannot_be_removed_are_left_to_clearing_away(
    table: Delta, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = table.stage(rows(1))

    def closed(self: storage.Folder, path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(storage.Folder, "remove", closed)
    table.discard(staged)
    assert (table.root / staged[0].path).exists()


def test_a_commit_outlasts_a_loss_of_power(table: Delta, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told that objects are stored deletes their messages: log and names are synced too."""
    synced: list[str] = []
    fsync = os.fsync

    def watched(number: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{number}"))
        fsync(number)

    if not Path("/proc/self/fd").exists():
        pytest.skip("the system does not tell what is open")
    staged = table.stage(rows(1))
    monkeypatch.setattr(os, "fsync", watched)
    version = table.commit(staged)
    log = table.root / "_delta_log"
    folder = (table.root / staged[0].path).parent
    assert set(synced) == {str(log / f"{version:020}.json"), str(log), str(folder)}

    def broken(number: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(LakeError, match="cannot be written to the disk: Input/output error"):
        storage.Folder(table.root).keep(version, ())


def test_a_command_says_where_there_is_no_room_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/lake/a.parquet")

    monkeypatch.setattr("trailhawk.workspace.home.Workspace.lake_days", full)
    assert run(["--home", str(tmp_path), "lake", "status"]) == 1
    told = "error: /lake/a.parquet: No space left on device; make room, what was stored before is kept\n"
    assert capsys.readouterr().err == told
