"""A home that may only be read: what only reads works, what writes says so."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trailhawk.cli import run

NOBODY = 65534
SCRIPT = """
import os, sys
from trailhawk.cli import run
from trailhawk.workspace.content import Content
every = Content.rules
Content.rules = lambda self, *given, **named: every(self, *given, **named)[:10]  # to run all takes seconds
warm, home, nobody, *words = sys.argv[1:]
if os.geteuid() == 0:
    # The other user may not read where Python lies: everything is loaded before.
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    run([*words, "--home", warm])
    os.dup2(out, 1)
    os.setgid(int(nobody))
    os.setuid(int(nobody))
sys.exit(run([*words, "--home", home]))
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def read_only() -> Iterator[Run]:
    """Runs commands in a home with some events that this process may not write."""
    yield from _read_only()


@pytest.fixture
def without_state() -> Iterator[Run]:
    """And in one that nobody ran a rule in."""
    yield from _read_only(has_state=False)


def _read_only(*, has_state: bool = True) -> Iterator[Run]:
    # Not among pytest's own folders, which are closed to others.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield from _commands(folder, has_state)


def _commands(folder: Path, has_state: bool) -> Iterator[Run]:
    home = folder / "home"
    log = folder / "log.json"
    log.write_text(json.dumps({"eventTime": "2026-03-01T10:00:00Z", "eventID": "1", "eventName": "a"}))
    assert run(["ingest", str(log), "--home", str(home)]) == 0
    if has_state:
        assert run(["detect", "--quiet", "--home", str(home)]) == 0
        # As the last process that closes the state leaves it; here the commands' connections may be open
        # still.
        with contextlib.closing(sqlite3.connect(home / "state.db")) as state:
            state.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for beside in ("state.db-wal", "state.db-shm"):
        (home / beside).unlink(missing_ok=True)
    warm = folder / "warm"
    shutil.copytree(home, warm)
    entries = [home, *home.rglob("*")]
    for path in entries:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", SCRIPT, str(warm), str(home), str(NOBODY), *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)

    yield command
    for path in entries:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize(
    "words",
    [
        ["incidents", "list"],
        ["watchlist", "list"],
        ["quarantine", "list"],
        ["tables"],
        ["query", "AWSCloudTrail | count"],
        ["query", "SecurityAlert | count", "--format", "csv"],
        ["query", "_GetWatchlistAlias | count"],
    ],
    ids=" ".join,
)
def test_what_reads_works(read_only: Run, words: list[str]) -> None:
    done = read_only(*words)
    assert done.stderr == ""
    assert done.returncode == 0


def test_what_writes_says_why_not(read_only: Run) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as lists:
        lists.write("a\n1\n")
        lists.flush()
        Path(lists.name).chmod(0o644)
        done = read_only("watchlist", "import", "one", lists.name)
    assert done.returncode == 1
    assert "state.db may only be read here; see who may write to it and its folder" in done.stderr


def test_a_home_without_a_state_can_be_read(without_state: Run) -> None:
    done = without_state("query", "SecurityAlert | count", "--format", "json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [{"Count": 0}])
    done = without_state("detect", "--quiet")
    assert done.returncode == 1
    assert "state.db may only be read here; see who may write to it and its folder" in done.stderr
