"""Rarer functions and operators are imported when they are asked for, and only then."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = (
    "import sys; from trailhawk.kql.functions import FUNCTIONS, AGGREGATES; {0}; print('{1}' in sys.modules)"
)
GEO = "trailhawk.kql.functions.geo"


def _prints(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize(
    ("use", "loaded"),
    [
        ("'strcat' in FUNCTIONS", "False"),
        ("'strcat' in AGGREGATES", "False"),
        ("FUNCTIONS['geo_distance_2points']", "True"),
        ("'no_such_function' in FUNCTIONS", "True"),
        ("len(FUNCTIONS)", "True"),
    ],
)
def test_rarer_functions_wait(use: str, loaded: str) -> None:
    assert _prints(LOADED.format(use, GEO)) == loaded


def test_a_short_query_loads_no_plugin() -> None:
    code = (
        "import sys, datetime as dt; from trailhawk.kql.compiler import compile_query\n"
        "class C:\n"
        "    def table(self, name): return None\n"
        "    def table_names(self): return ()\n"
        "compile_query('print 1', C(), now=dt.datetime.now(dt.UTC))\n"
        "print([name for name in sys.modules if name.startswith('trailhawk.kql.plugins')])"
    )
    assert _prints(code) == "[]"
