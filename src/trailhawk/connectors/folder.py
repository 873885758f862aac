"""Log files in folders: found at any depth, in the order of their days, each once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from trailhawk.connectors.objects import LogObject
from trailhawk.errors import UsageError

_DAY = re.compile(r"[_/](20\d{2})/?(\d{2})/?(\d{2})(?:[T/]|$)")


def files(paths: Iterable[Path], *, without: Path | None = None) -> list[Path]:
    """The regular files under the paths, those of one day together, oldest day first.

    Hidden files and folders are passed over, links to folders are not followed, links to files are. A
    path named by the caller is taken as it is; UsageError if it does not exist. What lies in the folder
    `without` (the lake's own) is left out.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if not os.path.lexists(path):
            raise UsageError(f"no such file or folder: {path}")
        for file in _walk(path, os.path.realpath(without) if without else None) if path.is_dir() else [path]:
            found.setdefault(os.path.realpath(file), file)
    return sorted(found.values(), key=_order)


def log_object(path: Path) -> LogObject:
    """The file as an object to take: known by its bytes."""
    try:
        status = path.stat()
    except OSError:
        return LogObject(str(path), lambda: path.open("rb"))
    stamp = f"{status.st_size}:{status.st_mtime_ns}:{status.st_mode}"
    return LogObject(str(path), lambda: path.open("rb"), size=status.st_size, stamp=stamp)


def _walk(folder: Path, without: str | None) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, followlinks=False):
        if os.path.realpath(parent) == without:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            # A broken link stays: that it cannot be read is worth a word in the quarantine.
            if not name.startswith(".") and (path.is_file() or path.is_symlink()):
                yield path


def _order(path: Path) -> tuple[str, str]:
    """The day that AWS writes into a log's name or folders, so that a batch touches few days."""
    text = path.as_posix()
    day = _DAY.search(text)
    return ("".join(day.groups()) if day else "", text)
