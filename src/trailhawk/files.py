"""Files that are written whole or not at all, and room for them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from trailhawk.errors import TrailhawkError

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""What an OSError says where there is no room."""


def in_words(error: BaseException) -> str:
    """What ended work that is begun again by itself."""
    if isinstance(error, OSError) and error.errno in FULL:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; make room, nothing is lost: what was begun is brought again"
    return str(error) if isinstance(error, TrailhawkError) else f"{type(error).__name__}: {error}"


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in the place of what is there, in one step; its folder must be there.

    OSError where that cannot be, and then all is as before.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # which writing does not tell, as opening does
        raise
    finally:
        part.unlink(missing_ok=True)


def has_room(size: int, *, share: int = 1) -> bool:
    """Whether so many bytes are at most one `share`-th of what is free in the folder of temporary files;
    OSError where there is none."""
    return size * share <= shutil.disk_usage(tempfile.gettempdir()).free


def make_sure_of_room(size: int) -> None:
    """OSError where a temporary file of so many bytes has no room, before it is begun."""
    if not has_room(size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), tempfile.gettempdir())


@contextmanager
def closed_on_failure(file: BinaryIO) -> Iterator[None]:
    """While a temporary file is filled, which lives on where that succeeds."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # what could not be written is tried again by closing
            file.close()
        raise


def filled(file: BinaryIO, pieces: Iterable[bytes]) -> BinaryIO:
    """The temporary file with these bytes, at its start; it is closed where that fails."""
    with closed_on_failure(file):
        for piece in pieces:  # noqa: FURB122 (one that begins in memory would stay there, whole)
            file.write(piece)
        file.seek(0)
    return file
