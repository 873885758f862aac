"""The lake read by others, as the manual tells it."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from trailhawk.cli import run

MANUAL = Path(__file__).parents[2] / "docs" / "lake.md"


def test_what_the_manual_tells_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = [
        {"eventTime": "2026-03-01T10:00:00Z", "eventID": str(number), "eventName": "GetObject"}
        for number in range(3)
    ]
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"Records": [call | {"eventSource": "s3.amazonaws.com"} for call in calls]}))
    assert run(["--home", str(tmp_path), "ingest", str(log), "--quiet"]) == 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    by_delta, by_command = re.findall(r"```python\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(by_delta, names)
    assert "GetObject" in capsys.readouterr().out
    exec(by_command, names)
    assert names["rows"] == [{"EventSource": "s3.amazonaws.com", "Calls": 3}]
