"""The class of docs/simulate.md: the commands as they stand there find the attack."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from trailhawk.cli import run

PAGE = Path(__file__).parents[2] / "docs" / "simulate.md"


@pytest.mark.long
def test_the_commands_of_the_page_lead_to_the_attack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = PAGE.read_text(encoding="utf-8").partition("## In a class")[2].split("```")[1]
    simulate, ingest, detect, listed, report = (shlex.split(line)[1:] for line in block.splitlines()[1:])
    monkeypatch.chdir(tmp_path)
    for words in (simulate, ingest, detect):
        assert run(words) == 0
    capsys.readouterr()
    assert run([*listed, "--format", "json"]) == 0
    gravest, *others = json.loads(capsys.readouterr().out)
    assert gravest["severity"] == "High"
    assert {each["severity"] for each in others} <= {"Low", "Informational"}
    assert report[:5] == [*listed[:3], "report", str(gravest["number"])]
    assert run(report) == 0
    assert gravest["title"] in (tmp_path / "ana.html").read_text(encoding="utf-8")
