"""Tab completion: what the shell is offered, and that it never hears of a fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trailhawk.cli import run


def offered(home: Path | None, *words: str) -> list[str]:
    """What bash would offer for the last of these words."""
    start = ["trailhawk", *(["--home", str(home)] if home else [])]
    line = [*start, *words]
    environment = os.environ | {
        "_TRAILHAWK_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    command = [sys.executable, "-c", "from trailhawk.cli import main; main()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home: Path = tmp_path_factory.mktemp("home")
    (home / "list.csv").write_text("a\n1\n")
    for alias in ("admins", "addresses", "buckets"):
        assert run(["watchlist", "import", alias, str(home / "list.csv"), "--home", str(home)]) == 0
    (home / "functions").mkdir()
    (home / "functions" / "MyFunction.kql").write_text("// Mine.\nprint 1\n")
    log = home / "log.json"
    log.write_text(json.dumps({"eventTime": "2026-03-01T10:00:00Z", "eventID": "1", "eventName": "a"}))
    assert run(["ingest", str(log), "--home", str(home)]) == 0
    return home


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["wat"], ["watchlist"]),
        (["watchlist", "sh"], ["show"]),
        (["watchlist", "show", "ad"], ["addresses", "admins"]),
        (["functions", "show", "My"], ["MyFunction"]),
        (["query", "AWSCloudT"], ["AWSCloudTrail"]),
        (["query", "MyF"], ["MyFunction"]),
        (["incidents", "show", ""], []),
        (["rules", "show", "large-b"], ["large-bucket-read"]),
        (["hunt", "run", "keys-used-e"], ["keys-used-elsewhere-first"]),
        (["simulate", "cl"], ["cloud-breach-s3"]),
        (["simulate", "cloud-breach-s3", "--variant", "token"], ["token-required", "token-fetched"]),
        (["query", "--format", "js"], ["json", "jsonl"]),
        (["incidents", "list", "--severity", "m"], ["medium"]),
        (["rules", "list", "--severity", "I"], ["Informational"]),
        (["incidents", "set", "3", "--status", ""], ["New", "Active"]),
        (["incidents", "close", "3", "--as", "f"], ["false-positive"]),
    ],
)
def test_names_of_the_home(home: Path, words: list[str], expected: list[str]) -> None:
    assert offered(home, *words) == expected


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert offered(missing, "watchlist", "show", "a") == []
    assert not missing.exists()


def test_a_damaged_home_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("no database, " * 100)
    assert offered(tmp_path, "watchlist", "show", "a") == []


def test_a_shell_gets_its_script() -> None:
    environment = os.environ | {"_TRAILHAWK_COMPLETE": "source_bash"}
    command = [sys.executable, "-c", "from trailhawk.cli import main; main()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert "complete_bash" in done.stdout


def test_the_script_of_a_shell_that_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for shell, code, begins in (("zsh", 0, "#compdef trailhawk"), ("fish", 0, "complete "), ("csh", 1, "")):
        monkeypatch.setenv("_TRAILHAWK_COMPLETE", "")  # put back after the test
        with pytest.raises(SystemExit) as ended:
            run(["--show-completion", shell])
        assert ended.value.code == code
        assert capsys.readouterr().out.lstrip().startswith(begins)
    monkeypatch.setenv("_TRAILHAWK_COMPLETE", "")
    assert run(["--install-completion", "zsh"]) == 2
    assert "is for the shell in use; `trailhawk --show-completion zsh`" in capsys.readouterr().err
    assert run(["--show-completion", "--help"]) == 0
    assert "Usage: " in capsys.readouterr().out
