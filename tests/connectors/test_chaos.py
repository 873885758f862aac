"""Workers on a queue killed with SIGKILL: the small form of bench/sqs_chaos.py.

TRAILHAWK_CHAOS_OBJECTS and TRAILHAWK_CHAOS_KILLS make it larger.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parents[2] / "bench" / "sqs_chaos.py"


def bench() -> Any:
    spec = importlib.util.spec_from_file_location("sqs_chaos", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_killed_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    done = bench().chaos(
        tmp_path,
        objects=int(os.environ.get("TRAILHAWK_CHAOS_OBJECTS", "40")),
        kills=int(os.environ.get("TRAILHAWK_CHAOS_KILLS", "2")),
        records=5,
        pause=(0.5, 1.5),
    )
    assert done.faults == []
    assert done.kills == int(os.environ.get("TRAILHAWK_CHAOS_KILLS", "2"))
