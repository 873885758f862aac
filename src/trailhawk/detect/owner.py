"""Names for processes that take work by leases, and whether the process of a name has ended.

A process holds a lock on a file of its own for as long as it lives. The kernel gives the lock up when the
process ends, however that comes about; it knows neither a process id that was given again, nor one of another
container.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_OLD_SECONDS: Final = 86_400.0
_APART: Final = "/"


def boot(path: Path = BOOT) -> str:
    """What tells this boot of this machine from all others; '' where the system does not say."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Owner:
    """This process among those that work over one home; `folder` is the same for all of them.

    `name` holds host and process id for people to read, the boot, and the file whose lock is held.
    """

    def __init__(self, folder: Path, *, boot: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        self._folder = folder
        self._boot = boot
        self.name = _APART.join((f"{socket.gethostname()}:{os.getpid()}", boot, self._locked()))

    def _locked(self) -> str:
        """The file whose lock is held; '' in a folder that knows no locks."""
        path = self._folder / f"{uuid.uuid4().hex}.lock"
        file = path.open("xb")
        weakref.finalize(self, _end, path, file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            return ""
        return path.stem

    def has_ended(self, name: str) -> bool:
        """Whether the process of this name has certainly ended.

        Only of one over the same home since the same boot of the same machine is anything said: a lock of
        another machine may be gone for the network's sake alone.
        """
        _, _, known = name.partition(_APART)
        boot, _, file = known.partition(_APART)
        if not self._boot or boot != self._boot or not file.isalnum():
            return False
        with _free(self._folder / f"{file}.lock") as free:
            return free


def _end(path: Path, file: IO[bytes]) -> None:
    path.unlink(missing_ok=True)
    file.close()


def _clear(folder: Path) -> None:
    """Remove what processes left that ended a long time ago: no lease is that old."""
    for path in folder.glob("*.lock"):
        with _free(path) as free, suppress(FileNotFoundError):
            if free and time.time() - path.stat().st_mtime > _OLD_SECONDS:
                path.unlink(missing_ok=True)


@contextmanager
def _free(path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock of a file that is there. Several may ask at once."""
    try:
        file = path.open("rb")
    except OSError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
