"""Compiles the kernel beside its sources; run as a program by make, and by the hook that builds wheels.

It needs the standard library alone, since it runs before the project's packages are there.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

FOLDER = Path(__file__).parent
OBJECT = FOLDER / "_kernel.so"
MARK = b"trailhawk-kernel:"
"""Stands in an object before the digest of the sources that it was made of."""

# Nothing that only some processors of a kind have: a wheel runs on another machine than it was made on.
_FLAGS = ("-std=c11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden")
_LONGEST_SECONDS = 300


class NotBuiltError(Exception):
    """No compiler made the kernel; the message says why in one line."""


def sources() -> list[Path]:
    return sorted([*FOLDER.glob("*.c"), *FOLDER.glob("*.h")])


def digest() -> str:
    """Changes with every source, and with how they are compiled."""
    found = hashlib.sha256()
    for path in [*sources(), Path(__file__)]:
        content = path.read_bytes()
        found.update(f"{path.name}:{len(content)}:".encode() + content)
    return found.hexdigest()


def is_made_of(path: Path, made_of: str) -> bool:
    """Is this object made of the sources of this digest?"""
    try:
        return MARK + made_of.encode() in path.read_bytes()
    except OSError:
        return False


def load(path: Path, made_of: str) -> ctypes.CDLL | None:
    """The object at this path; None where it is made of sources of another digest, or for another kind of
    machine."""
    import ctypes

    try:
        return ctypes.CDLL(str(path)) if is_made_of(path, made_of) else None
    except OSError:
        return None


def compilers() -> Iterator[list[str]]:
    """The commands that may compile C here, in the order they are tried."""
    import shlex

    if named := os.environ.get("CC", "").strip():
        try:
            command = shlex.split(named)
        except ValueError:  # a quote that does not end: told as a program that is not there
            command = [named]
        yield command
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            yield [path]
    if importlib.util.find_spec("ziglang"):
        # Of itself it compiles for the very processor it runs on.
        yield [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]


def compile_with(compiler: Sequence[str], path: Path, flags: Sequence[str] = ()) -> None:
    """Make an object at this path. NotBuiltError where the compiler fails."""
    import subprocess  # not at the top: whoever loads the kernel needs no compiler

    mark = f'-DKERNEL_MARK="{MARK.decode()}{digest()}"'
    command = [*compiler, *_FLAGS, *flags, mark, "-o", str(path), *map(str, FOLDER.glob("*.c"))]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, errors="replace", timeout=_LONGEST_SECONDS
        )
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if "error" in line] or error.stderr.splitlines()
        raise NotBuiltError(f"{compiler[0]}: {said[0] if said else error.returncode}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotBuiltError(f"{compiler[0]}: {error}") from None


def build() -> None:
    """Make the kernel with the first compiler that can, unless it is current. NotBuiltError without one."""
    if load(OBJECT, digest()) is not None:
        return
    failures = []
    # Under another name until it is whole: a process may load it meanwhile. What was there before stays
    # until then; it is loaded by nobody, or by those who share the folder from another kind of machine.
    unfinished = OBJECT.with_name(f"_kernel.{os.getpid()}.tmp")
    try:
        for compiler in compilers():
            try:
                compile_with(compiler, unfinished)
                if load(unfinished, digest()) is None:
                    raise NotBuiltError(f"{compiler[0]}: it made nothing that this machine can load")
                unfinished.replace(OBJECT)
            except (NotBuiltError, OSError) as error:
                failures.append(str(error))
            else:
                return
    finally:
        with contextlib.suppress(OSError):  # it is not there, or nothing may be written here
            unfinished.unlink()
    raise NotBuiltError("; ".join(failures) or "no C compiler found")


if __name__ == "__main__":
    try:
        build()
    except NotBuiltError as error:
        sys.exit(f"the kernel is not built, without it ingest is slower: {error}")
