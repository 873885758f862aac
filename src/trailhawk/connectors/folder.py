"""Log files in folders: found at any depth, in the order of their days, each once."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import BinaryIO, Final

from trailhawk.connectors import archives
from trailhawk.connectors.objects import LogObject
from trailhawk.errors import UsageError

# What logs are called: an ending of theirs, or a day in the name, as S3 access logs have.
_LOG = re.compile(r"\.(?:json|jsonl|ndjson|log|gz|bz2|xz|zst|parquet)$|20\d{2}-?\d{2}-?\d{2}", re.IGNORECASE)
_BYTE = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")
_REST: Final = 20.0  # times as long as the look before took: 50,000 files every 2 s are a fifth of a core
_LONGEST_REST: Final = 60.0
_DAY = re.compile(r"[_/](20\d{2})/?(\d{2})/?(\d{2})(?:[T/]|$)")


def files(paths: Iterable[Path], *, without: Path | None = None) -> list[Path]:
    """The regular files under the paths, those of one day together, oldest day first.

    Hidden files and folders are passed over, links to folders are not followed, links to files are. Folders
    and files that cannot be looked at are among them. A path named by the caller is taken as it is;
    UsageError if it does not exist. What lies in the folder `without` (the lake's own) is left out.
    """
    found: dict[str, Path] = {}
    left_out = os.path.realpath(without) if without else None
    for path in paths:
        if not os.path.lexists(path):
            raise UsageError(f"no such file or folder: {path}")
        for real, file in _walk(path, left_out) if os.path.isdir(path) else [(os.path.realpath(path), path)]:
            found.setdefault(real, file)
    return sorted(found.values(), key=_order)


def log_objects(path: Path, *, strict: bool = False, named: bool = True) -> Iterator[tuple[LogObject, int]]:
    """The file as an object to take, known by its bytes, or the files of an archive one after the other; each
    with the bytes of the file that lie before its end.

    One that nobody named, that was only found in a folder or an archive, is doubtful if its name is no log's;
    with `strict` none is. An archive's object can be opened until the next one is asked for.
    """
    if archives.is_archive(path):
        for member in archives.members(path, location_of(path)):
            yield _of_archive(member, strict=strict), member.bytes
    else:
        item = _log_object(path, doubtful=not (strict or named or _LOG.search(path.name)))
        yield item, item.size or 0


def _of_archive(member: archives.Member, *, strict: bool = False) -> LogObject:
    name = member.name.rpartition("/")[2]
    doubtful = not (strict or _LOG.search(name) or archives.is_named_so(name))
    return dataclasses.replace(member.item, doubtful=doubtful)


def _log_object(path: Path, *, doubtful: bool) -> LogObject:
    def opened() -> BinaryIO:
        try:
            return path.open("rb", buffering=0)  # it is read in pieces larger than any buffer
        except IsADirectoryError:
            os.listdir(path)  # a folder comes here only where this fails, and says why
            raise

    try:
        status = path.stat()
    except OSError:
        return LogObject(location_of(path), opened, doubtful=doubtful)
    stamp = f"{status.st_size}:{status.st_mtime_ns}:{status.st_mode}"
    return LogObject(location_of(path), opened, size=status.st_size, stamp=stamp, doubtful=doubtful)


def size_of(path: Path) -> int:
    """In bytes; 0 where it cannot be had."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def location_of(path: Path) -> str:
    r"""The whole path as text that a table can hold, another one for each path: a byte of it that is no UTF-8
    becomes `\xNN`, a backslash that looks like that becomes `\x5c`."""
    return archives.escaped(os.path.abspath(path))


def archive_at(location: str) -> Path | None:
    """The archive of this location; None where it is no archive."""
    path = _path_at(location)
    return path if path.is_file() and archives.is_archive(path) else None


def objects_in(
    archive: Path, location: str, wanted: Collection[str]
) -> Iterator[tuple[LogObject, list[str]]]:
    """What `log_objects` takes of the archives at the locations that are wanted, of this one or in it; each
    object with those of the locations that it belongs to. `location` is the archive's."""
    left = set(wanted)
    for member, files in archives.opened(archive, location):
        places = (location,) if files is None else (location, member.item.location)
        if found := [place for place in places if place in wanted]:
            for each in (member,) if files is None else files:
                yield _of_archive(each), found
        left.difference_update(places[1:])
        if not left:
            return


def archives_in(archive: Path, location: str, wanted: Collection[str]) -> Iterator[LogObject]:
    """The archives in this one, at the locations that are wanted."""
    left = set(wanted)
    for member, files in archives.opened(archive, location):
        if files is not None and member.item.location in left:
            left.discard(member.item.location)
            yield member.item
        if not left:
            return


def open_at(location: str) -> BinaryIO:
    """The bytes of a location that `log_objects` gave. OSError where they cannot be had."""
    inside = location.find(archives.INSIDE, 1)  # a path may begin with two
    if inside > 0:
        return archives.open_inside(_path_at(location[:inside]), location[inside:])
    path = _path_at(location)
    if not path.exists():
        for found in re.finditer(re.escape(archives.INSIDE_BEFORE), location):
            if archive := archive_at(location[: found.start()]):
                return archives.open_inside(archive, location[found.start() :])
    return path.open("rb")


def is_there(location: str) -> bool:
    """Whether the folder of a location's file holds anything: one that is not mounted does not."""
    befores = (found.start() for found in re.finditer(re.escape(archives.INSIDE_BEFORE), location))
    inside = location.find(archives.INSIDE, 1)
    if inside < 0:
        inside = next((end for end in befores if archives.is_named_so(location[:end])), len(location))
    try:
        return any(_path_at(location[:inside]).parent.iterdir())
    except OSError:
        return False


def _path_at(location: str) -> Path:
    """The file of a location; older ones had backslashes as they were."""
    path = Path(os.fsdecode(_BYTE.sub(lambda found: bytes([int(found[1], 16)]), os.fsencode(location))))
    return path if os.path.lexists(path) else Path(location)


class Watched:
    """Folders looked at again and again: which files are new or changed, and complete.

    A file is complete when it was not written to for `quiet` and has the size it had at the last look. A look
    at many thousands takes long: `rest` says how many seconds to wait for the next one.
    """

    def __init__(self, paths: Iterable[Path], *, without: Path | None, quiet: dt.timedelta) -> None:
        self._paths = list(paths)
        self._without = without
        self._quiet = quiet.total_seconds()
        self._last: dict[Path, tuple[int, int, int]] = {}
        self._taken: dict[Path, tuple[int, int, int]] = {}
        self.rest = 0.0

    def again(self, paths: Iterable[Path]) -> None:
        """Let these files be named once more."""
        for path in paths:
            self._taken.pop(path, None)

    def look(self, now: dt.datetime) -> list[Path]:
        """The files to take now, oldest day first; each is named once for each of its states."""
        began = perf_counter()
        ready: list[Path] = []
        seen: dict[Path, tuple[int, int, int]] = {}
        for path in files([path for path in self._paths if os.path.exists(path)], without=self._without):
            try:
                status = path.stat()
            except OSError:
                continue  # it went meanwhile, or is a link to nothing yet
            state = (status.st_size, status.st_mtime_ns, status.st_mode)  # it may be opened to us later
            seen[path] = state
            quiet = abs(now.timestamp() - status.st_mtime) >= self._quiet
            if quiet and self._last.get(path) == state != self._taken.get(path):
                ready.append(path)
                self._taken[path] = state
        self._last = seen
        self._taken = {path: state for path, state in self._taken.items() if path in seen}
        self.rest = min((perf_counter() - began) * _REST, _LONGEST_REST)
        return ready


def _walk(folder: Path, without: str | None) -> Iterator[tuple[str, Path]]:
    """The files, and what cannot be looked at: that is worth a word in the quarantine. Each with its path
    without links."""
    folders, closed = [os.fspath(folder)], []
    while folders:
        parent = folders.pop()
        real = os.path.realpath(parent)
        if real == without:
            continue
        try:
            with os.scandir(parent) as entries:
                found = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except FileNotFoundError:
            continue  # it went meanwhile
        except OSError:
            closed.append((real, Path(parent)))
            continue
        shown = [entry for entry in found if not entry.name.startswith(".")]
        folders += [entry.path for entry in shown if _is_folder(entry)]
        for entry in reversed(shown):
            if _is_file(entry):
                yield _real(entry, real), Path(entry.path)
    yield from closed


def _real(entry: os.DirEntry[str], above: str) -> str:
    """Its path without links; `above` is that of its folder."""
    try:
        is_link = entry.is_symlink()
    except OSError:
        is_link = False
    return os.path.realpath(entry.path) if is_link else os.path.join(above, entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether this is a file, a link to one or one that cannot be looked at; no folder, pipe or device."""
    try:
        return entry.is_file(follow_symlinks=False) or stat.S_ISREG(entry.stat().st_mode)
    except FileNotFoundError:
        return entry.is_symlink()  # a link to nothing; else it went meanwhile
    except OSError:
        return True


def _order(path: Path) -> tuple[str, str]:
    """The day that AWS writes into a log's name or folders, so that a batch touches few days."""
    text = path.as_posix()
    day = _DAY.search(text)
    return ("".join(day.groups()) if day else "", text)
