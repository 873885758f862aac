"""Ctrl-C before the command line is loaded."""

import subprocess
import sys

import pytest

BEGINS = {
    "python -m trailhawk": "import runpy; runpy.run_module('trailhawk', run_name='__main__', alter_sys=True)",
    "the installed script": "from trailhawk.__main__ import main; main()",
}
INTERRUPTED = """
import importlib.abc, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv = ["trailhawk", "--help"]
{begin}
"""


@pytest.mark.parametrize("begin", BEGINS)
@pytest.mark.parametrize("module", ["trailhawk.cli", "typer", "trailhawk.errors", "rich.table"])
def test_ctrl_c_while_modules_are_loaded_is_no_fault(begin: str, module: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED.format(module=module, begin=BEGINS[begin])]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")
