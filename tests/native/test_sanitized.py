"""The kernel stays within its buffers and does nothing that C leaves undefined, whatever it is given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trailhawk.native import build, kernel

pytestmark = pytest.mark.long

WATCHED = (
    "-g",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-Wall",
    "-Wextra",
    "-Werror",
)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An object that watches itself, and the library it needs; skipped without GCC's sanitizers."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc")
    asked = [compiler, "-print-file-name=libasan.so"]
    needed = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    if not needed.is_absolute():
        pytest.skip("gcc has no sanitizers here")
    path = tmp_path_factory.mktemp("watched") / "kernel.so"
    build.compile_with([compiler], path, WATCHED)
    return path, needed


def hammered(watched: tuple[Path, Path], how: str, options: str = "") -> subprocess.CompletedProcess[str]:
    path, needed = watched
    environment = {
        **os.environ,
        kernel.SWITCH: "",
        "LD_PRELOAD": str(needed),
        "ASAN_OPTIONS": f"detect_leaks=0{options}",  # Python leaves much to the end of the process
        "PYTHONPATH": str(build.FOLDER.parents[1]),
        "PYTHONMALLOC": "malloc",  # each object an allocation of its own
    }
    hammer = str(Path(__file__).with_name("hammer.py"))
    command = [sys.executable, hammer, str(path), how]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def test_mutated_input(watched: tuple[Path, Path]) -> None:
    run = hammered(watched, os.environ.get("TRAILHAWK_FUZZ", "2000"))
    assert run.returncode == 0, run.stderr[-4000:]


def test_memory_that_is_missing(watched: tuple[Path, Path]) -> None:
    run = hammered(watched, "short", ":allocator_may_return_null=1:max_allocation_size_mb=3")
    assert run.returncode == 0, run.stderr[-4000:]
