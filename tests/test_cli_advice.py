"""An answer with nothing in it says why, and a long run says that it lives."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from trailhawk.cli import run
from trailhawk.detect.run import Run
from trailhawk.detect.schedule import Window, WindowState
from trailhawk.errors import LakeError
from trailhawk.lake import Delta
from trailhawk.render import console
from trailhawk.workspace import Workspace
from trailhawk.workspace.content import Content

EVENT = {
    "eventVersion": "1.11",
    "eventTime": "2026-01-05T10:00:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "ListBuckets",
    "awsRegion": "eu-west-1",
    "eventID": "6f6dd2b8-7b9e-4f6d-9a54-6a2f0c1f0001",
    "userIdentity": {"type": "IAMUser", "userName": "ana", "accountId": "111122223333"},
}


@pytest.fixture
def home(tmp_path: Path) -> list[str]:
    """A home with one event of January 2026."""
    (tmp_path / "one.json").write_text(json.dumps({"Records": [EVENT]}))
    words = ["--home", str(tmp_path / "home")]
    assert run([*words, "ingest", str(tmp_path / "one.json"), "--quiet"]) == 0
    return words


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rule and one hunt in ten: to run all takes seconds, and no more is told."""
    for kind in ("rules", "hunts"):
        every = getattr(Content, kind)

        def some(self: Content, *given: Any, every: Any = every, **named: Any) -> Any:
            return every(self, *given, **named)[::10]

        monkeypatch.setattr(Content, kind, some)


HELD = "AWSCloudTrail holds 2026-01-05T10:00:00Z to 2026-01-05T10:00:00Z"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["AWSCloudTrail | take 1"], ""),
        (["AWSCloudTrail | count"], ""),
        (["AWSGuardDuty | count"], "AWSGuardDuty holds no rows\n"),
        (["AWSCloudTrail | where EventName == 'x'"], ""),
        (["--timespan", "2026-02-01/", "AWSCloudTrail"], f"{HELD}, nothing of the timespan asked for\n"),
        (["--timespan", "/2026-01-01", "AWSCloudTrail"], f"{HELD}, nothing of the timespan asked for\n"),
        (
            ["--now", "2026-03-01", "AWSCloudTrail | where TimeGenerated > ago(7d)"],
            f"{HELD}; --now TIME says what now() and ago() count from\n",
        ),
        (["AWSCloudTrail | where 1 == 0 | union AWSGuardDuty"], "AWSGuardDuty holds no rows\n"),
        (["datatable(a: int)[]"], ""),
        (["AWSGuardDuty", "--format", "csv"], ""),
    ],
)
def test_a_query_without_rows_says_what_its_tables_hold(
    home: list[str], words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run([*home, "query", *words]) == 0
    assert capsys.readouterr().err == told


def test_a_hunt_over_old_logs_says_what_it_counts_from(
    home: list[str], capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    capsys.readouterr()
    words = [*home, "hunt", "run", "Buckets and how many read them", "--now"]
    assert run([*words, "2026-03-01"]) == 0
    assert capsys.readouterr().err == (
        "the newest row is of 2026-01-05T10:00:00Z; --now TIME says what now() and ago() count from\n"
    )
    assert run([*words, "2026-01-06"]) == 0
    assert capsys.readouterr().err == ""
    everything = [*home, "hunt", "run", "--all", "--quiet"]
    assert run(everything) == 0
    assert capsys.readouterr().err.startswith("the newest row is of 2026-01-05T10:00:00Z; --now TIME says")
    request.getfixturevalue("few")  # all have run now
    assert run([*everything, "--now", "2026-03-01"]) == 0  # whoever says what to count from knows
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words",
    [
        ["query", "AWSCloudTrail | count"],
        ["query", "AWSCloudTrail"],
        ["detect", "--quiet"],
        ["incidents", "list"],
        ["hunt", "run", "Buckets and how many read them"],
    ],
)
def test_a_home_without_logs_is_named(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--home", str(tmp_path / "tpyo"), *words]) == 0
    assert capsys.readouterr().err == (
        f"no logs are stored in {tmp_path / 'tpyo'}: 'trailhawk ingest PATH' takes them in;"
        " '--home DIR' names another folder\n"
    )


@pytest.mark.usefixtures("few")
def test_detect_lists_only_what_has_something_to_say(
    home: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*home, "detect", "--quiet"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3
    assert "rules, 0 new alerts: " in shown[0]
    assert "too little history to run at all" in shown[0]
    assert shown[1:] == ["no new alerts", "no incidents"]


@pytest.mark.usefixtures("few")
def test_detect_over_the_last_days_of_what_is_stored(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = {**EVENT, "eventTime": "2026-01-09T10:00:00Z", "eventID": "6f6dd2b8-7b9e-4f6d-9a54-6a2f0c1f0002"}
    (tmp_path / "two.json").write_text(json.dumps({"Records": [event]}))
    assert run([*home, "ingest", str(tmp_path / "two.json"), "--quiet"]) == 0
    capsys.readouterr()
    assert run([*home, "detect", "--last", "2d", "--quiet", "--format", "json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["start"] == "2026-01-07T10:00:00Z"
    assert printed.err == "--last 2d begins at 2026-01-07T10:00:00Z\n"  # one row of a wrong clock moves it
    for wrong in (["--last", "soon"], ["--last", "2d", "--from", "2026-01-01"]):
        assert run([*home, "detect", *wrong]) == 2
        assert capsys.readouterr().err.startswith("usage: --")


def test_the_columns_of_a_table(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run([*home, "tables", "AWSCloudTrail", "--format", "json"]) == 0
    columns = {column["name"]: column["type"] for column in json.loads(capsys.readouterr().out)}
    assert (columns["TimeGenerated"], columns["EventName"]) == ("datetime", "string")
    assert run([*home, "tables", "awscloudtral"]) == 1
    assert capsys.readouterr().err == (
        "not found: there is no table 'awscloudtral'; did you mean 'AWSCloudTrail'?"
        " 'trailhawk tables' lists them\n"
    )
    assert run([*home, "tables"]) == 0
    assert capsys.readouterr().out.splitlines()[3].split()[:2] == ["AWSCloudTrail", "1"]


def test_an_unknown_rule_or_hunt_is_told_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--home", str(tmp_path), "hunt", "run", "buckets and how many reed them"]) == 1
    assert capsys.readouterr().err == (
        "not found: no hunt 'buckets and how many reed them';"
        " did you mean 'Buckets and how many read them'? see 'trailhawk hunt list'\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["incidents", "report", "1", "--out"],
        ["incidents", "manifest", "1", "--out"],
        ["coverage", "--html"],
        ["rules", "test", "--junit"],
    ],
)
def test_a_file_that_cannot_be_written_is_told_before_the_work(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "missing" / "a.html"
    assert run(["--home", str(tmp_path), *words, str(out)]) == 2
    assert capsys.readouterr().err == (
        f"usage: {out} cannot be written: there is no folder {out.parent}; make it first\n"
    )


def test_progress_in_a_log_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([0.0, 5.0, 31.0, 40.0, 62.5])
    monkeypatch.setattr(console, "monotonic", lambda: next(moments))
    with console.progress("work") as bar:
        for done in (1, 20, 30, 4000):
            bar(done, 0 if done == 4000 else 5000)
    assert capsys.readouterr().err == "work: 20 of 5,000 after 31 s\nwork: 4,000 after 62 s\n"


def test_a_slow_answer_shows_on_a_terminal_that_it_is_coming() -> None:
    """On a pseudo-terminal: nothing for a quick piece of work, a sign and its removal for a slow one."""
    pytest.importorskip("pty")
    code = """
import os, pty, sys
child, end = pty.fork()
if not child:
    from trailhawk.render import console
    console._SOON = float(sys.argv[1])
    with console.working("slow thing"):
        if sys.argv[2] == "slow":
            os.read(0, 1)
    os._exit(0)
seen = b""
while True:
    try:
        part = os.read(end, 4096)
    except OSError:
        break
    if not part:
        break
    seen += part
    if b"slow thing" in seen:
        os.write(end, b"\\n")  # it has waited long enough
os.waitpid(child, 0)
print(seen.count(b"slow thing") > 0)
"""
    for soon, work, shown in (("0.05", "slow", "True"), ("30", "quick", "False")):
        line = [sys.executable, "-c", code, soon, work]
        done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=30)
        assert done.stdout.split() == [shown]


def test_a_typo_does_not_pass_as_nothing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path / "home")]
    (tmp_path / "empty").mkdir()
    for command in ("validate", "import"):
        assert run([*home, "rules", command, str(tmp_path / "empty")]) == 1
        assert capsys.readouterr().err == (
            f"not found: no rules in {tmp_path / 'empty'}; they are files that end in .yaml, .yml or .json\n"
        )
    assert run([*home, "rules", "test", "--only", "no such rule", "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("not found: no rule or hunt with tests has 'no such rule'")


def test_a_simulation_says_what_to_type_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "my logs")
    words = ["simulate", "cloud-breach-s3", "--days", "1", "--events-per-day", "300", "--flows-per-day", "0"]
    assert run([*words, "--out", out, "--quiet"]) == 0
    assert capsys.readouterr().err == f"next: trailhawk ingest '{out}/logs' && trailhawk detect\n"


def test_a_name_read_as_a_bucket_says_so(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run([*home, "entity", "ana"]) == 0
    assert capsys.readouterr().err.endswith(
        "\n'ana' was read as the name of a bucket; a user or a role is named by its ARN\n"
    )
    assert run([*home, "entity", "ana", "--timespan", ""]) == 0
    assert capsys.readouterr().err.startswith("'ana' was read as")


def test_a_query_that_is_no_utf8_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--home", str(tmp_path), "query", "print 'caf\udce9'"]) == 2
    assert capsys.readouterr().err == "usage: the query is not UTF-8 text\n"


@pytest.mark.usefixtures("few")
def test_no_incidents_before_any_rule_ran_says_what_looks_for_them(
    home: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    told = []
    for words in (["incidents", "list"], ["detect", "--quiet"], ["incidents", "list"]):
        assert run([*home, *words]) == 0
        told.append(capsys.readouterr().err)
    assert told == ["no rule has run yet: 'trailhawk detect' looks for incidents\n", "", ""]


def test_no_incidents_after_a_run_says_what_no_rule_has_looked_at(
    home: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The schedule leaves the time before it alone, whatever logs of it have come."""
    store, at = Workspace(Path(home[1])).alerts, datetime(2026, 1, 6, 10, tzinfo=UTC)
    for moment, told in (
        (at + timedelta(days=1), "no rule has looked at the logs of before 2026-01-07 10:00"),
        (at, ""),
    ):
        with store.engine.begin() as connection:
            store.record(connection, [Run(Window("r", moment, moment, moment), WindowState.DONE)], ())
        capsys.readouterr()
        assert run([*home, "incidents", "list"]) == 0
        assert capsys.readouterr().err == (f"{told}: 'trailhawk detect' does\n" if told else "")


def test_damaged_logs_are_no_empty_home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the one table with rows cannot be read, it was said that no logs are stored, with 0."""
    log = tmp_path / "lake" / "AWSCloudTrail" / "_delta_log" / f"{0:020}.json"
    log.parent.mkdir(parents=True)
    log.write_text("damaged")
    for words in (["detect"], ["incidents", "list"]):
        assert run(["--home", str(tmp_path), *words]) == 1
        assert "log of table AWSCloudTrail cannot be read" in capsys.readouterr().err


def test_a_damaged_log_hides_no_other_table(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    log = Path(home[1]) / "lake" / "AWSVPCFlow" / "_delta_log" / f"{0:020}.json"
    log.parent.mkdir(parents=True)
    log.write_text("damaged")
    assert run([*home, "lake", "status"]) == 1
    shown = capsys.readouterr()
    assert "AWSCloudTrail" in shown.out
    assert shown.err.startswith("the log of table AWSVPCFlow cannot be read")
    assert shown.err.count("\n") == 1


def test_a_bucket_out_of_reach_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each table was asked for, with all the tries of each: a minute and a half of the same line."""
    (tmp_path / "trailhawk.toml").write_text('[lake]\nurl = "s3://logs/lake"\n')
    asked: list[str] = []

    def out_of_reach(self: Delta) -> int:
        asked.append(self.table.name)
        raise LakeError("the bucket is out of reach")

    monkeypatch.setattr(Delta, "refresh", out_of_reach)
    for words in (["lake", "status"], ["lake", "check"]):
        asked.clear()
        assert run(["--home", str(tmp_path), *words]) == 1
        assert (len(asked), capsys.readouterr().err) == (1, "lake: the bucket is out of reach\n")
