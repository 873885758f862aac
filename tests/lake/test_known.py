"""A lake whose disk is not mounted is not begun anew, nor read as an empty one, by a process that starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trailhawk.cli import run
from trailhawk.lake import Lake
from trailhawk.lake.known import Known
from trailhawk.sources import TABLES


def log(folder: Path, number: int) -> Path:
    record = {"eventVersion": "1.11", "eventTime": "2026-03-01T00:00:00Z", "eventID": str(number)}
    path = folder / f"{number}.json"
    path.write_text(json.dumps({"Records": [{**record, "eventName": "x", "eventSource": "s"}]}))
    return path


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    home = tmp_path / "home"
    assert run(["--home", str(home), "ingest", str(log(tmp_path, 1)), "--quiet"]) == 0
    capsys.readouterr()
    return home


def test_it_has_gone_for_who_reads_and_who_writes(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "lake").rename(tmp_path / "disk")
    (home / "lake").mkdir()  # the mount point
    for words in (
        ["ingest", str(log(tmp_path, 2)), "--quiet"],
        ["query", "AWSCloudTrail"],
        ["lake", "status"],
        ["detect"],
    ):
        assert run(["--home", str(home), *words]) == 1, words
        told = capsys.readouterr().err
        assert "has gone; see whether its disk is mounted" in " ".join(told.split()), words
        assert list((home / "lake").iterdir()) == [], words
    (home / "lake").rmdir()
    (tmp_path / "disk").rename(home / "lake")
    assert run(["--home", str(home), "ingest", str(log(tmp_path, 2)), "--quiet"]) == 0
    capsys.readouterr()
    assert run(["--home", str(home), "query", "AWSCloudTrail | count", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"Count": 2}]


def test_a_lake_removed_on_purpose_begins_anew(home: Path, tmp_path: Path) -> None:
    (home / "lake").rename(tmp_path / "old")
    (home / "lake-tables").unlink()
    assert run(["--home", str(home), "ingest", str(log(tmp_path, 2)), "--quiet"]) == 0


def test_another_place_is_another_lake(home: Path, tmp_path: Path) -> None:
    (home / "trailhawk.toml").write_text(f'[lake]\nurl = "{tmp_path / "other"}"\n')
    assert run(["--home", str(home), "ingest", str(log(tmp_path, 2)), "--quiet"]) == 0
    assert (tmp_path / "other" / "AWSCloudTrail").is_dir()


def test_what_is_known_is_told_once(tmp_path: Path) -> None:
    file = tmp_path / "lake-tables"
    for place in ("a", "a", "b c"):
        known = Known(place, file)
        known.add("Events")
        known.add("Events")
        assert "Events" in known
        assert "Other" not in known
    assert file.read_text() == "a\tEvents\nb c\tEvents\n"


def test_a_table_that_another_thread_is_just_making_has_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "lake", TABLES)
    reader, writer = lake.delta("AWSCloudTrail"), lake.apart().delta("AWSCloudTrail")
    opened = reader._open

    def slow() -> object:
        found = opened()
        writer.create()
        return found

    monkeypatch.setattr(reader, "_open", slow)
    assert reader.refresh() == -1
    assert reader.refresh() == 0
