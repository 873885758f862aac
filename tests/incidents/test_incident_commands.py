"""The commands about incidents, over a home with incidents made by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trailhawk.cli import run
from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import entity
from trailhawk.detect.rule import Severity
from trailhawk.incidents.grouping import linked
from trailhawk.workspace import Workspace

Raised = Callable[..., Alert]


class Shell:
    """Runs commands in one home."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._capsys = capsys
        self.err = ""

    def __call__(self, *words: str, code: int = 0) -> str:
        assert run(["--home", str(self.home), *words]) == code
        out, self.err = self._capsys.readouterr()
        return out

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--format", "json"))


@pytest.fixture
def shell(tmp_path: Path, raised: Raised, capsys: pytest.CaptureFixture[str]) -> Shell:
    workspace = Workspace.open(tmp_path)
    address = entity("IP", Address="192.0.2.7")
    alerts = [
        raised(
            f"alert-{n}",
            entity("AwsAccessKey", Id=f"ASIA{n}"),
            *([address] if n < 3 else []),
            minutes=n,
            severity=Severity.HIGH if n == 1 else Severity.LOW,
        )
        for n in range(1, 5)
    ]
    incidents = workspace.incidents
    with workspace.alerts.engine.begin() as connection:
        workspace.alerts.record(connection, [], alerts)
        incidents.add(connection, alerts, [linked(each, None, []) for each in alerts])
    workspace.alerts.engine.dispose()
    return Shell(tmp_path, capsys)


NEEDLESS = ("boto3", "http.client", "networkx", "pandas", "pyarrow.compute", "scipy", "trailhawk.respond")


@pytest.mark.parametrize(
    "words",
    [("list",), ("show", "1"), ("graph", "1"), ("report", "1")],
    ids=lambda words: words[0],
)
def test_reading_an_incident_loads_only_what_it_needs(shell: Shell, words: tuple[str, ...]) -> None:
    Workspace.open(shell.home).export()
    code = (
        "import sys; from trailhawk.cli import run; run(sys.argv[1:]);"
        f" print([name for name in {NEEDLESS} if name in sys.modules])"
    )
    out = ["--out", str(shell.home / "page.html")] if words[0] in ("graph", "report") else []
    command = [sys.executable, "-c", code, "--home", str(shell.home), "incidents", *words, *out]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


def numbers(found: list[dict[str, Any]]) -> list[int]:
    return [each["number"] for each in found]


def test_the_list_and_its_filters(shell: Shell) -> None:
    assert numbers(shell.json("incidents", "list")) == [1, 2, 3, 4]
    shell("incidents", "set", "2", "--status", "active", "--owner", "ana", "--label", "Mine", "--by", "ana")
    shell("incidents", "close", "4", "--as", "false-positive", "--reason", "inaccurate-data")

    def found(*words: str) -> list[int]:
        return numbers(shell.json("incidents", "list", *words))

    assert found("--status", "new") == [1, 3]
    assert found("--status", "Active", "--status", "closed") == [2, 4]
    assert found("--severity", "high") == [1]
    assert found("--owner", "ana") == found("--label", "mine") == [2]
    assert found("--owner", "") == [1, 3, 4]
    assert found("--entity", "192.0.2.7") == [1, 2]
    assert found("--classification", "FalsePositive") == [4]
    assert found("--title", "ALERT-3") == [3]
    assert found("--since", "2026-03-01T12:03:00Z") == [3, 4]
    assert found("--until", "2026-03-01T12:03:00Z") == [1, 2]
    assert found("--limit", "2") == [3, 4]
    assert found("--sort", "severity")[0] == 1
    assert found("--sort", "severity", "--limit", "1") == [1]
    assert "the newest 2 of 4 incidents; --limit 0 shows all" in shell("incidents", "list", "--limit", "2")
    assert "Closed: FalsePositive" in shell("incidents", "list")
    shell("incidents", "list", "--status", "open", code=2)
    assert shell.err.startswith("usage: 'open' is no status; there is New, Active, Closed")
    shell("incidents", "list", "--rule", "no such rule", code=1)
    assert shell.err.startswith("not found: no rule or hunt 'no such rule'")


def test_what_was_done_is_shown(shell: Shell) -> None:
    assert shell("incidents", "comment", "1", "looks\x1b[31m real", "--by", "ana") == (
        "incident 1: comment: looks\\x1b[31m real\n"
    )
    shell("incidents", "task", "1", "rotate the key", "--by", "bo")
    shell("incidents", "task", "1", "--done", "1", "--by", "bo")
    page = shell("incidents", "show", "1")
    for text in (
        "owner: nobody",
        "rotate the key",
        "looks\\x1b[31m real",
        "task 1 done: rotate the key",
        "bo",
    ):
        assert text in page
    data = shell.json("incidents", "show", "1")
    assert [(one["kind"], one["by"]) for one in data["changes"]] == [
        ("Created", "grouping"),
        ("Commented", "ana"),
        ("Task", "bo"),
        ("Task", "bo"),
    ]
    assert data["comments"][0]["text"] == "looks\x1b[31m real"


def test_closing_and_opening(shell: Shell) -> None:
    said = shell("incidents", "close", "1", "2", "--as", "TruePositive", "--comment", "it was", "--by", "ana")
    assert said.splitlines() == [
        f"incident {n}: status New -> Closed as TruePositive, SuspiciousActivity: it was" for n in (1, 2)
    ]
    shell("incidents", "reopen", "1", "--by", "ana")
    shell("incidents", "reopen", "1", "--by", "ana")
    assert shell.err == "nothing to change\n"
    shell("incidents", "close", "1", "--as", "false-positive", code=2)
    assert "FalsePositive needs a reason: IncorrectAlertLogic or InaccurateData" in shell.err
    shell("incidents", "close", "3", "99", "--as", "undetermined", code=1)
    assert shell.err.startswith("not found: no incident 99")
    assert shell.json("incidents", "list", "--status", "closed")[0]["number"] == 2


def test_merging_and_splitting(shell: Shell) -> None:
    (done,) = shell.json("incidents", "merge", "1", "2", "3", "--by", "ana")
    assert (done["kind"], done["others"], done["alerts_added"]) == ("Merged", [2, 3], ["alert-2", "alert-3"])
    assert numbers(shell.json("incidents", "list")) == [1, 4]
    (made,) = shell.json("incidents", "split", "1", "--alert", "alert-3", "--by", "ana")
    assert (made["number"], made["kind"], made["others"]) == (5, "Created", [1])
    shell("incidents", "split", "1", "--alert", "alert-", code=2)
    assert "more than one alert 'alert-'" in shell.err
    shell("incidents", "task", "1", code=2)


def test_similar(shell: Shell) -> None:
    first, *others = shell.json("incidents", "similar", "1")
    assert first["number"] == 2
    assert first["reasons"] == ["same address 192.0.2.7", "same rule: The rule r"]
    assert [each["reasons"] for each in others] == [["same rule: The rule r"]] * 2
    assert "same address 192.0.2.7" in shell("incidents", "similar", "1")


def test_the_list_in_json_is_what_show_has(shell: Shell) -> None:
    shell("incidents", "comment", "1", "\x1b[31m\u202e é", "--by", "ana")
    shell("incidents", "close", "1", "--as", "true-positive", "--by", "ana")
    shell("incidents", "task", "1", "x", "--by", "ana")
    text = shell("incidents", "list", "--format", "json")
    assert "\x1b" not in text
    assert "\u202e" not in text
    (listed,) = (each for each in json.loads(text) if each["number"] == 1)
    shown = shell.json("incidents", "show", "1")
    same = set(listed) - {"techniques", "entities"}
    assert {name: listed[name] for name in same} == {name: shown[name] for name in same}
    assert listed["entities"] == shown["entities"]
    (from_detect,) = (each for each in shell.json("detect", "--quiet")["incidents"] if each["number"] == 1)
    assert listed == from_detect


def test_the_addresses_of_an_incident_are_looked_for_in_another_home(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As docs/investigation.md has it: the whole file is taken."""
    file = tmp_path / "indicators.csv"
    rows = shell.json("incidents", "indicators", "1", "--type", "address")
    assert {row["type"] for row in rows} == {"address"}
    shell("incidents", "indicators", "1", "--type", "address", "--out", str(file))
    other = Shell(tmp_path / "other", capsys)
    (taken,) = other.json("intel", "import", str(file), "--column", "value")
    assert (taken["created"], taken["refused"]) == (len(rows), 0)


def test_indicators_are_written_as_the_ending_says(shell: Shell) -> None:
    rows = shell.json("incidents", "indicators", "1")
    assert {row["type"] for row in rows} <= {"access key", "address", "client", "session"}
    assert rows
    shell("incidents", "indicators", "1", "--out", str(shell.home / "found.json"))
    assert json.loads((shell.home / "found.json").read_text()) == rows
    shell("incidents", "indicators", "1", "--out", str(shell.home / "found.csv"))
    written = (shell.home / "found.csv").read_text().splitlines()
    assert (written[0], len(written)) == ("type,value,events,first,last", 1 + len(rows))
    shell("incidents", "indicators", "1", "--type", "ip", code=2)
    assert shell.err.startswith("usage: no indicator is of type 'ip'; there is access key, address,")
    shell("incidents", "indicators", "1", "--out", "found.xlsx", code=2)
    assert shell.err.startswith("usage: found.xlsx ends in none of .csv, .json")
    shell("incidents", "report", "1", "--out", "found.pdf", code=2)
    assert "for a PDF print the HTML page" in shell.err
    shell("incidents", "manifest", "1", "--out", "found.xlsx", code=2)
    assert shell.err.startswith("usage: found.xlsx does not end in .csv")
