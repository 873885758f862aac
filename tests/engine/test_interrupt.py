"""Ctrl-C while the engine works ends the command as interrupted, not as a fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ENDLESS = (
    "range a from 1 to 1000000 step 1 | extend k = 1"
    " | join kind=inner (range b from 1 to 1000000 step 1 | extend k = 1) on k | summarize sum(a * b)"
)
SCRIPT = f"""
import os, signal, sys, threading
from trailhawk.cli import run
signal.signal(signal.SIGINT, signal.default_int_handler)
home = ["--home", sys.argv[1]]
assert run(["query", "print 1", *home]) == 0  # everything is loaded now
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
sys.exit(run(["query", {ENDLESS!r}, *home]))
"""


DIRECT = """
import os, signal, sys, threading
import duckdb
from trailhawk.workspace import Workspace
from trailhawk.cli import run
signal.signal(signal.SIGINT, signal.default_int_handler)
slow = "SELECT count(*) FROM range(20000000) a, range(20000) b WHERE a.range % 7 = b.range % 11"
home = ["--home", sys.argv[1]]
assert run(["query", "print 1", *home]) == 0  # everything is loaded now
# With one thread it is the first that works, and looks for signals; with more it may wait for the others.
Workspace.query = lambda *_, **__: duckdb.connect(config={"threads": 1}).execute(slow).fetchall()
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
sys.exit(run(["query", "print 1", *home]))
"""


def test_what_duckdb_makes_of_an_interrupt_is_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIRECT, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


def test_an_interrupted_query_ends_as_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")
