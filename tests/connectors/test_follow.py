import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trailhawk.connectors import QUARANTINE, TABLES, folder
from trailhawk.connectors.folder import Watched, log_objects
from trailhawk.connectors.ingest import Summary, follow, ingest
from trailhawk.connectors.objects import Outcome
from trailhawk.errors import UsageError
from trailhawk.lake import Lake
from trailhawk.sources import TABLES as SOURCE_TABLES

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)
QUIET = dt.timedelta(seconds=10)


def open_lake(root: Path) -> Lake:
    return Lake(root, [*SOURCE_TABLES, *TABLES])


def line(number: int) -> str:
    return json.dumps({"eventTime": "2026-03-01T00:00:00Z", "eventID": f"id-{number}"}) + "\n"


def write(path: Path, text: str, *, seconds_ago: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    at = NOW.timestamp() - seconds_ago
    os.utime(path, (at, at))
    return path


def test_folders_that_take_long_are_looked_at_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([0.0, 0.01, 10.0, 10.5, 20.0, 90.0])
    monkeypatch.setattr(folder, "perf_counter", lambda: next(moments))
    watched = Watched([tmp_path], without=None, quiet=QUIET)
    rests = [(watched.look(NOW), watched.rest)[1] for _ in range(3)]
    assert rests == [pytest.approx(0.2), pytest.approx(10.0), 60.0]


def test_a_file_is_taken_when_it_rests(tmp_path: Path) -> None:
    watched = Watched([tmp_path], without=None, quiet=QUIET)
    growing = write(tmp_path / "a.jsonl", line(1), seconds_ago=2)
    assert watched.look(NOW) == watched.look(NOW) == []
    later = NOW + dt.timedelta(seconds=9)
    write(growing, line(1) + line(2), seconds_ago=-9)
    assert watched.look(later) == watched.look(later) == []
    at_last = later + QUIET
    assert watched.look(at_last) == [growing]
    assert watched.look(at_last) == []
    # What grows afterwards is another file.
    write(growing, line(1) + line(2) + line(3), seconds_ago=100)
    assert watched.look(at_last) == []
    assert watched.look(at_last) == [growing]
    growing.unlink()
    assert watched.look(at_last) == []


def test_following_takes_what_comes_and_stores_it_when_told_to_stop(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write(logs / "a.jsonl", line(1), seconds_ago=100)
    lake = open_lake(tmp_path / "lake")
    stop = threading.Event()
    done: list[Outcome] = []

    def told(outcome: Outcome) -> None:
        done.append(outcome)
        if len(done) == 1:
            write(logs / "b.jsonl", line(2) + line(1), seconds_ago=50)
            write(logs / "half.jsonl", line(3)[:20], seconds_ago=0)
        else:
            stop.set()

    summary = follow(lake, [logs], clock=lambda: NOW, stop=stop, told=told, quiet=QUIET, every=0.01)
    assert (summary.objects, summary.rows, summary.duplicates, summary.quarantined) == (2, 2, 1, 0)
    assert lake.snapshot("AWSCloudTrail").rows == 2
    with pytest.raises(UsageError, match="no such file or folder"):
        follow(lake, [tmp_path / "nowhere"], clock=lambda: NOW, stop=stop)


def test_sigterm_ends_following_with_everything_stored(tmp_path: Path) -> None:
    write(tmp_path / "logs/a.jsonl", line(1), seconds_ago=100)
    command = [sys.executable, "-m", "trailhawk", "--home", str(tmp_path / "home"), "ingest"]
    command += [str(tmp_path / "logs"), "--follow", "--quiet-for", "0", "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        ledger = tmp_path / "home/lake/IngestLedger/_delta_log/00000000000000000001.json"
        deadline = time.monotonic() + 60
        while not ledger.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert json.loads(output)["rows"] == 1


def _mixed(folder: Path) -> None:
    write(folder / "a.json", json.dumps({"Records": [json.loads(line(1))]}), seconds_ago=0)
    write(folder / "exported", line(2), seconds_ago=0)
    write(folder / "README.md", "# what this is", seconds_ago=0)
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n" + bytes(1000))
    write(folder / "notes.json", "these are notes", seconds_ago=0)
    write(folder / "LICENSE", "", seconds_ago=0)


def _run(lake: Lake, *paths: Path, strict: bool = False) -> tuple[Summary, list[str]]:
    strange: list[str] = []

    def told(outcome: Outcome) -> None:
        if outcome.state == "unrecognised":
            strange.append(Path(outcome.location).name)

    return ingest(lake, paths, clock=lambda: NOW, told=told, strict=strict), sorted(strange)


def test_what_is_no_log_is_passed_over_in_a_folder_and_not_when_named(tmp_path: Path) -> None:
    _mixed(tmp_path / "logs")
    lake = open_lake(tmp_path / "lake")
    summary, strange = _run(lake, tmp_path / "logs")
    assert (summary.objects, summary.rows, summary.quarantined, summary.unrecognised) == (6, 2, 1, 3)
    assert strange == ["LICENSE", "README.md", "picture.png"]
    summary, strange = _run(lake, tmp_path / "logs", tmp_path / "logs/README.md")
    assert (summary.skipped, summary.quarantined, strange) == (3, 1, ["LICENSE", "picture.png"])
    summary, strange = _run(lake, tmp_path / "logs", strict=True)
    assert (summary.quarantined, summary.unrecognised, strange) == (2, 0, [])
    assert lake.snapshot(QUARANTINE.name).rows == 4


@pytest.mark.parametrize(
    ("name", "doubtful"),
    [
        ("1_CloudTrail_eu-west-1_20260301T0005Z_a.json.gz", False),
        ("2026-03-01-00-15-22-A1B2C3D4E5F60718", False),
        ("events.JSONL", False),
        ("flow.log", False),
        ("flow.log.zst", False),
        ("index.html", True),
        ("Makefile", True),
    ],
)
def test_which_names_are_doubtful(name: str, doubtful: bool, tmp_path: Path) -> None:
    [(found, _)] = log_objects(tmp_path / name, named=False)
    [(named, _)] = log_objects(tmp_path / name)
    assert (found.doubtful, named.doubtful) == (doubtful, False)
