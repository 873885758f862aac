"""The lists that commands make of rules."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import pytest

from trailhawk.cli import run


class Shell:
    """Commands with their output, in a home of their own."""

    def __init__(self, home: Path, output: pytest.CaptureFixture[str]) -> None:
        self._home = ["--home", str(home)]
        self._output = output

    def __call__(self, *words: str, code: int = 0) -> str:
        assert run([*self._home, *words]) == code
        told = self._output.readouterr()
        return told.out if code in (0, 1) and told.out else told.err

    def listed(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self("rules", "list", "--format", "json", *words))
        return found


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "home", capsys)


def test_rules_are_listed_with_the_file_they_are_called_by(shell: Shell) -> None:
    every = shell.listed()
    assert all(each["file"] == PurePosixPath(each["source"]).stem for each in every)
    old = {"id", "name", "severity", "kind", "state", "frequency", "period", "tactics", "techniques"}
    assert set(every[0]) == old | {"exceptions", "source", "file"}
    table = shell("rules", "list", "--only", "trail-stopped")
    assert "trail-stopped-or-narrowed" in table
    assert "DefenseEvasion" in table
    assert shell("rules", "show", "trail-stopped-or-narrowed")


def test_rules_are_listed_by_severity_tactic_technique_and_file(shell: Shell) -> None:
    every = shell.listed()

    def those(*words: str) -> list[str]:
        return [each["id"] for each in shell.listed(*words)]

    grave = [each["id"] for each in every if each["severity"] == "High"]
    assert 0 < len(grave) < len(every)
    assert those("--severity", "high") == grave
    both = [each["id"] for each in every if each["severity"] in ("High", "Low")]
    assert those("--severity", "High", "--severity", "low") == both
    evading = [each["id"] for each in every if "DefenseEvasion" in each["tactics"]]
    for name in ("DefenseEvasion", "defense evasion", "defense-evasion", "TA0005", "ta0005"):
        assert those("--tactic", name) == evading
    assert those("--tactic", "DefenseEvasion", "--severity", "High") == [
        number for number in grave if number in evading
    ]
    whole = [each["id"] for each in every if any(one[:5] == "T1562" for one in each["techniques"])]
    assert those("--technique", "t1562") == whole
    part = [each["id"] for each in every if "T1562.008" in each["techniques"]]
    assert 0 < len(part) < len(whole)
    assert those("--technique", "T1562.008") == part
    assert [each["file"] for each in shell.listed("--only", "TRAIL-STOPPED")] == ["trail-stopped-or-narrowed"]
    assert f"none of {len(every)} rules is so" in shell("rules", "list", "--only", "no such rule")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--severity", "Grave"), "no severity 'Grave'; there are Informational, Low, Medium, High"),
        (("--tactic", "Evasion"), "no tactic 'Evasion'; there are Reconnaissance, "),
        (("--technique", "T156"), "no technique 'T156'; they are T1562, T1562.008, ..."),
    ],
)
def test_what_is_no_severity_tactic_or_technique_is_told(
    words: tuple[str, str], told: str, shell: Shell
) -> None:
    assert told in shell("rules", "list", *words, code=2)


def test_a_file_that_is_no_rule_is_named_by_validate(shell: Shell, tmp_path: Path) -> None:
    for room in (tmp_path / "given", tmp_path / "home" / "rules", tmp_path / "home" / "hunts"):
        (room / "deep").mkdir(parents=True)
        (room / "deep" / f"{room.name}.yaml").write_text("name: [a\n")
    found = json.loads(shell("rules", "validate", str(tmp_path / "given"), "--format", "json", code=1))
    assert [(each["source"], each["level"], each["member"]) for each in found] == [
        ("deep/given.yaml", "error", "file")
    ]
    found = json.loads(shell("rules", "validate", "--format", "json", code=1))
    broken = [each["source"] for each in found if each["member"] == "file"]
    assert broken == ["deep/rules.yaml", "deep/hunts.yaml"]


def test_validate_tells_of_rules_that_share_an_id(shell: Shell, tmp_path: Path) -> None:
    """Where the home loads them, one is left out or goes by another id."""
    rule = "id: a\nname: {}\nqueryFrequency: 1h\nqueryPeriod: 1h\nquery: |\n  AWSCloudTrail | take 1\n"
    for name, file in (("One", "a"), ("One", "b"), ("Other", "c")):
        (tmp_path / f"{file}.yaml").write_text(rule.format(name))
    found = json.loads(shell("rules", "validate", "--strict", str(tmp_path), "--format", "json", code=1))
    told = [(each["source"], each["member"], each["message"].split(":")[0]) for each in found]
    assert told == [
        ("b.yaml", "id", "the same rule as a.yaml"),
        ("c.yaml", "id", "a is also that of a.yaml"),
    ]


def test_a_finding_is_one_row_whatever_a_name_holds(shell: Shell, tmp_path: Path) -> None:
    """A name from the file may hold ends of lines: place, choices and advice are told all the same."""
    (tmp_path / "given").mkdir()
    head = "id: a\nname: A\nqueryFrequency: 1h\nqueryPeriod: 1h\n"
    (tmp_path / "given" / "a.yaml").write_text(f"{head}query: |\n  AWSCloudTrail | where ['a\\nb'] == 1\n")
    (tmp_path / "given" / "b.yaml").write_text(f'{head}severity: "a\\nb"\nquery: T\n')
    (tmp_path / "given" / "c.yaml").write_text(f"{head}query: |\n  AWSCloudTrail | where EventNam == 1\n")
    told = shell("rules", "validate", str(tmp_path / "given"), code=1)
    assert "'a\\nb' at 1:23, line 6 of the file" in told
    assert "is none of Informational, Low, Medium, High" in told
    assert "'EventNam' at 1:23, line 6 of the file; did you mean 'EventName'?" in told
    assert "^" not in told


RULE = """
id: {id}
name: A trail is stopped
kind: Scheduled
severity: High
queryFrequency: 1h
queryPeriod: 1h
query: |
  AWSCloudTrail | where EventName == "StopLogging" | project TimeGenerated, EventIds = pack_array(AwsEventId)
customDetails: {{EventIds: EventIds}}
tests:
  - name: stopped
    events:
      - {{eventTime: 2026-03-02T09:00:00Z, eventSource: cloudtrail.amazonaws.com, eventName: StopLogging}}
    expect: {{alerts: {alerts}}}
"""


def test_a_file_that_is_no_rule_fails_beside_the_tests_of_the_others(shell: Shell, tmp_path: Path) -> None:
    """In CI one bad file hid how all other rules fared, and left no file for the report."""
    rules, results = tmp_path / "rules", tmp_path / "results.xml"
    rules.mkdir()
    (rules / "broken.yaml").write_text("id: x\n name: [\n")
    (rules / "good.yaml").write_text(RULE.format(id="6d0d2f0e-0000-4000-8000-000000000001", alerts=1))
    (rules / "wrong.yaml").write_text(RULE.format(id="6d0d2f0e-0000-4000-8000-000000000002", alerts=2))
    told = shell("rules", "test", str(rules), "--junit", str(results), code=1)
    assert "FAILED broken.yaml\n  broken.yaml: not YAML" in told
    assert "FAILED wrong.yaml: stopped" in told
    assert "2 tests of 2 rules: 1 failed, 1 file is no rule, in " in told
    suites = {each.get("name"): each.get("failures") for each in ElementTree.parse(results).getroot()}
    assert suites == {"broken.yaml": "1", "good.yaml": "0", "wrong.yaml": "1"}
    listed = json.loads(shell("rules", "test", str(rules), "--format", "json", code=1))
    assert {(each["source"], each["passed"]) for each in listed} == {
        ("broken.yaml", False),
        ("good.yaml", True),
        ("wrong.yaml", False),
    }


def test_a_folder_without_rules_does_not_pass(shell: Shell, tmp_path: Path) -> None:
    """A folder that was moved or misspelt in CI has nothing to fail."""
    assert "no rules in" in shell("rules", "test", str(tmp_path), code=1)
    (tmp_path / "broken.yaml").write_text("[")
    assert "0 tests of 0 rules: 0 failed, 1 file is no rule" in shell("rules", "test", str(tmp_path), code=1)


def test_a_name_that_no_rule_has_is_told_beside_a_broken_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.yaml").write_text("[")
    assert (
        run(["--home", str(tmp_path / "home"), "rules", "test", str(tmp_path), "--only", "nosuchrule"]) == 1
    )
    told = capsys.readouterr()
    assert "1 file is no rule" in told.out
    assert "no rule or hunt with tests has 'nosuchrule' in its name or file" in told.err


def test_what_is_wrong_with_a_file_does_not_name_it_twice(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    told = shell("rules", "validate", str(tmp_path), code=1)
    assert "an empty file" in told
    assert told.count("empty.yaml") == 1
