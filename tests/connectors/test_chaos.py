"""Workers on a queue killed with SIGKILL: the small form of bench/sqs_chaos.py.

TRAILHAWK_CHAOS_OBJECTS and TRAILHAWK_CHAOS_KILLS make it larger.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.long
def test_killed_workers_lose_and_double_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)  # the workers import it by name
    done = importlib.import_module("sqs_chaos").chaos(
        tmp_path,
        objects=int(os.environ.get("TRAILHAWK_CHAOS_OBJECTS", "40")),
        kills=int(os.environ.get("TRAILHAWK_CHAOS_KILLS", "2")),
        records=5,
        lives=(0.3, 1.0),
    )
    assert done.faults == []
    assert done.kills == int(os.environ.get("TRAILHAWK_CHAOS_KILLS", "2"))
