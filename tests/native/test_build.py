"""The kernel is made of the sources as they are, or is not used."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from pathlib import Path

import pytest

from trailhawk.native import build, kernel


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources in a folder of the test's own, without an object."""
    for path in build.sources():
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    monkeypatch.setattr(build, "OBJECT", tmp_path / "_kernel.so")
    return tmp_path


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)


def test_where_ci_is_set_there_is_a_kernel() -> None:
    assert kernel.library() is not None or not os.environ.get("CI")


def test_it_is_left_out_where_the_environment_says_so(
    compiled: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kernel.library() is compiled
    monkeypatch.setenv(kernel.SWITCH, "off")
    assert kernel.library() is None


@pytest.mark.usefixtures("compiled")
def test_an_object_of_other_sources_is_not_used_and_made_anew(copied: Path) -> None:
    build.build()
    assert kernel._loaded.__wrapped__() is not None
    with (copied / "kernel.c").open("a") as file:
        file.write("/* changed */\n")
    assert build.load(build.OBJECT, build.digest()) is None
    build.build()
    assert build.is_made_of(build.OBJECT, build.digest())
    assert kernel._loaded.__wrapped__() is None, "this process has the module of the sources before"
    assert sorted(path.suffix for path in copied.iterdir() if path.suffix not in (".c", ".h")) == [".so"]


@pytest.mark.usefixtures("compiled")
def test_an_object_that_is_current_stays(copied: Path) -> None:
    build.build()
    made = build.OBJECT.stat()
    build.build()
    assert build.OBJECT.stat() == made


@pytest.mark.usefixtures("compiled")
def test_an_object_that_cannot_be_loaded_is_none_and_made_anew(copied: Path) -> None:
    build.OBJECT.write_bytes(build.MARK + build.digest().encode())
    assert kernel._loaded.__wrapped__() is None
    build.build()
    assert kernel._loaded.__wrapped__() is not None


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_one_line_says_so(copied: Path) -> None:
    build.OBJECT.write_bytes(b"old")
    with pytest.raises(build.NotBuiltError, match=r"^no C compiler found$"):
        build.build()
    assert build.OBJECT.read_bytes() == b"old", "a second process may have just made it"
    assert kernel._loaded.__wrapped__() is None


def test_a_compiler_that_fails_is_told_in_one_line(
    copied: Path, no_compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "/bin/sh -c 'echo 1; echo bad: error: no headers >&2; exit 1'")
    with pytest.raises(build.NotBuiltError, match=r"^/bin/sh: bad: error: no headers$"):
        build.build()
    monkeypatch.setenv("CC", "no-such-program")
    with pytest.raises(build.NotBuiltError, match=r"^no-such-program: "):
        build.build()


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("true", "^true: it made nothing that this machine can load$"),
        ("echo", "^echo: it made nothing that this machine can load$"),
        (" ", "^no C compiler found$"),
        ("''", "^: "),
        ('gcc "', '^gcc ": '),
    ],
)
def test_what_is_no_compiler_is_told_and_the_next_is_tried(
    copied: Path, no_compiler: None, monkeypatch: pytest.MonkeyPatch, named: str, said: str
) -> None:
    for name in ("true", "echo"):
        (copied / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("CC", named)
    with pytest.raises(build.NotBuiltError, match=said):
        build.build()


@pytest.mark.usefixtures("compiled")
def test_after_a_compiler_for_another_machine_the_next_is_tried(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build.MARK.decode() + build.digest()
    crossing = f"""/bin/sh -c 'for flag; do [ "$last" = -o ] && echo {made} >"$flag"; last=$flag; done' sh"""
    monkeypatch.setenv("CC", crossing)
    build.build()
    assert kernel._loaded.__wrapped__() is not None


@pytest.mark.usefixtures("compiled")
def test_an_object_that_cannot_be_replaced_is_told(copied: Path) -> None:
    build.OBJECT.mkdir()
    with pytest.raises(build.NotBuiltError, match="_kernel"):
        build.build()
    assert not list(copied.glob("*.tmp"))


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("compiler", list(build.compilers()), ids=lambda command: Path(command[0]).name)
def test_no_compiler_warns(compiler: list[str], tmp_path: Path) -> None:
    build.compile_with(compiler, tmp_path / "kernel.so", ("-Wall", "-Wextra", "-Werror"))
    assert build.is_made_of(tmp_path / "kernel.so", build.digest())


def test_what_the_header_declares_is_what_python_calls() -> None:
    header = (build.FOLDER / "kernel.h").read_text()
    assert set(re.findall(r"(?m)^KERNEL_API [^;(]*?(\w+)\(", header)) == set(kernel.PROTOTYPES)
