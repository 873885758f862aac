"""The commands one after the other on small simulated data, as a user would run them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from trailhawk.cli import run

DAYS, RATE, LAST = 18, 300, "2026-03-18"
WATCHED = LAST
"""The day that rules run over: each has the history it wants, and the days before cost most of the time."""


class Shell:
    """Runs commands with one home and gives what they print."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        self.capsys.readouterr()
        assert run(["--home", str(self.home), *words]) == code, self.capsys.readouterr().err
        self.err: str
        out, self.err = self.capsys.readouterr()
        return out

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--format", "json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the logs of an attack, `sim/logs`."""
    folder = tmp_path_factory.mktemp("road")
    simulate = [
        "simulate",
        "cloud-breach-s3",
        "--out",
        str(folder / "sim"),
        "--days",
        str(DAYS),
        "--end",
        LAST,
    ]
    assert run([*simulate, "--events-per-day", str(RATE), "--seed", "7", "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def home(folder: Path) -> Path:
    """A home with these logs taken in and all rules run over the last day."""
    assert run(["--home", str(folder / "home"), "ingest", str(folder / "sim" / "logs"), "--quiet"]) == 0
    assert run(["--home", str(folder / "home"), "detect", "--from", WATCHED, "--quiet"]) == 0
    return folder / "home"


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(home, capsys)


def truth(home: Path) -> Any:
    return json.loads((home.parent / "sim" / "truth.json").read_text())


def test_ingest_again_stores_nothing(shell: Shell) -> None:
    summary = shell.json("ingest", str(shell.home.parent / "sim" / "logs"))
    assert summary["rows"] == 0
    assert summary["skipped"] == summary["objects"] > 0


def test_detect_again_raises_nothing(shell: Shell) -> None:
    again = shell.json("detect", "--from", WATCHED)
    assert again["alerts"] == []
    assert all(rule["run"] == 0 for rule in again["rules"])
    assert len(again["incidents"]) >= 1


def test_tables(shell: Shell) -> None:
    tables = {table["name"]: table for table in shell.json("tables")}
    assert tables["AWSCloudTrail"]["rows"] == truth(shell.home)["counts"]["events"]
    assert tables["AWSCloudTrail"]["last"].startswith(LAST)
    assert "AWSCloudTrail" in shell("tables")


def test_query_forms(shell: Shell) -> None:
    kql = "AWSCloudTrail | summarize Calls=count() by EventName | top 3 by Calls"
    rows = shell.json("query", kql)
    assert list(rows[0]) == ["EventName", "Calls"]
    assert [json.loads(line) for line in shell("query", kql, "--format", "jsonl").splitlines()] == rows
    lines = list(csv.DictReader(io.StringIO(shell("query", kql, "--format", "csv"))))
    assert [int(line["Calls"]) for line in lines] == [row["Calls"] for row in rows]
    assert rows[0]["EventName"] in shell("query", kql)


def test_query_from_file_and_standard_input(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "q.kql").write_text("print X = 1 + 1", encoding="utf-8-sig")
    assert shell.json("query", "-f", str(tmp_path / "q.kql")) == [{"X": 2}]
    monkeypatch.setattr("sys.stdin", io.StringIO("print X = 3"))
    assert shell.json("query", "-") == [{"X": 3}]


def test_query_now_and_timespan(shell: Shell) -> None:
    at = ["--now", "2026-03-19T00:00:00Z"]
    assert shell.json("query", "print At = now()", *at) == [{"At": "2026-03-19T00:00:00Z"}]
    count = "AWSCloudTrail | summarize Calls = count(), First = min(TimeGenerated)"
    [day] = shell.json("query", count, *at, "--timespan", "1d")
    [same] = shell.json("query", count, "--timespan", "2026-03-18/2026-03-19")
    [everything] = shell.json("query", count)
    assert day == same
    assert 0 < day["Calls"] < everything["Calls"]
    assert datetime.fromisoformat(day["First"]) >= datetime(2026, 3, 18, tzinfo=UTC)


def test_query_draws_a_chart(shell: Shell) -> None:
    kql = "AWSCloudTrail | summarize Calls=count() by bin(TimeGenerated, 1d) | render timechart"
    drawn = shell("query", kql)
    assert "█" in drawn
    assert "2026-03-18T00:00:00Z" in drawn
    assert len(shell.json("query", kql)) == DAYS


def test_query_error_has_a_caret(shell: Shell) -> None:
    assert shell("query", "AWSCloudTrail | where EventNam == 'x'", code=1) == ""
    message = shell.err.splitlines()
    assert " at 1:23" in message[0]
    assert message[2].index("^") == message[1].index("EventNam")
    assert "EventName" in shell.err
    assert "Traceback" not in shell.err


@pytest.mark.parametrize("words", [["query"], ["query", "print 1", "-f", "x"]])
def test_query_wants_one_text(shell: Shell, words: list[str]) -> None:
    shell(*words, code=2)
    assert shell.err.startswith("usage: give one query")


def test_what_a_query_cannot_read(shell: Shell, tmp_path: Path) -> None:
    shell("query", "-f", str(tmp_path / "missing.kql"), code=1)
    assert "missing.kql: No such file" in shell.err
    (tmp_path / "latin.kql").write_bytes(b"print '\xe4'")
    shell("query", "-f", str(tmp_path / "latin.kql"), code=2)
    assert "is not UTF-8" in shell.err


def test_the_incident(shell: Shell) -> None:
    attack = truth(shell.home)["attack"]
    high = [each for each in shell.json("incidents", "list") if each["severity"] == "High"]
    assert len(high) == 1
    number = str(high[0]["number"])
    report = shell.json("incidents", "show", number)
    assert report["manifest"]["objects"] == 4
    assert report["manifest"]["bytes"] == 459_921
    assert report["story"]
    page = shell("incidents", "show", number)
    for line in report["manifest"]["lines"]:
        assert line["key"] in page
    assert "459,921 bytes" in page
    assert "T1530 Data from Cloud Storage" in page
    assert all(event["event_id"] in page for event in report["timeline"])
    assert attack


@pytest.mark.long
def test_two_ordinary_days_raise_nothing_high(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those before the attack, at a rate of calls at which most of what a rule learns is rare."""
    shell = Shell(folder / "quiet", capsys)
    shell("ingest", str(folder / "sim" / "logs"), "--quiet")
    found = shell.json("detect", "--from", "2026-03-16", "--to", LAST, "--quiet")
    assert sum(rule["run"] for rule in found["rules"]) > 1000
    assert [each["title"] for each in found["incidents"] if each["severity"] == "High"] == []


def test_alerts_are_a_table(shell: Shell) -> None:
    rows = shell.json("query", "SecurityAlert | summarize Alerts=count() by AlertSeverity")
    assert sum(row["Alerts"] for row in rows) >= 1


def test_rules(shell: Shell) -> None:
    rules = shell.json("rules", "list")
    assert len(rules) >= 5
    assert all(rule["tactics"] for rule in rules)


def test_what_is_not_there(shell: Shell) -> None:
    shell("incidents", "show", "999", code=1)
    assert shell.err.startswith("not found: no incident 999")
    shell("quarantine", "show", "nope", code=1)
    assert shell.err.startswith("not found: ")
    shell("detect", "--from", "2026-03-02", "--to", "2026-03-01", code=2)
    shell("rules", "list", "--rules", "no-such-folder", code=1)
    assert shell.err.startswith("rule: ")


def test_bad_input_is_kept_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(tmp_path / "home", capsys)
    (tmp_path / "bad.json").write_bytes(b"\x1b[2Jno log")
    assert shell.json("ingest", str(tmp_path / "bad.json"))["quarantined"] == 1
    assert "quarantine list" in shell.err
    [part] = shell.json("quarantine", "list")
    assert shell.json("quarantine", "list", "--summary") == [
        {"parts": 1, "reason": "not a log of a known kind", "location": str(tmp_path / "bad.json")}
    ]
    page = shell("quarantine", "show", part["id"])
    assert "\\x1b[2Jno log" in page
    assert "\x1b" not in page
    shell("ingest", str(tmp_path / "nowhere"), code=2)


def test_a_folder_without_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(tmp_path / "home", capsys)
    (tmp_path / "empty").mkdir()
    assert shell.json("ingest", str(tmp_path / "empty"))["objects"] == 0
    assert "no files found" in shell.err


def test_a_home_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    shell = Shell(tmp_path / "file" / "home", capsys)
    shell("tables", code=1)
    assert shell.err.count("\n") == 1
    assert shell.err.startswith("lake: cannot use ")
