"""What came in over HTTP and is not in the lake yet: a folder of files, each durable before it is known.

A file is written beside, synced, and renamed; then the folder is synced. Its name says when it came, what
it is known by and for which table it is, so that nothing else need be remembered: after a crash the folder
is what there is to do.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from trailhawk.connectors.objects import LogObject
from trailhawk.sources import Source

_NAME: Final = re.compile(r"(?P<at>\d{20})-(?P<id>[0-9a-f]{32})\.(?P<table>\w+)\.spool", re.ASCII)
_PARTIAL: Final = ".partial"
_KEPT: Final = "kept"
_LOCATION: Final = re.compile(r"http:(?P<table>\w+)/(?P<id>[0-9a-f]{32})", re.ASCII)
_OLD_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Spooled:
    """A body that waits: `id` is what it is known by."""

    path: Path
    id: str
    table: str
    size: int

    @property
    def identity(self) -> str:
        return f"http:{self.id}"

    def log_object(self, file: BinaryIO, sources: Sequence[Source]) -> LogObject:
        """The body, opened already, as the ingest takes it: of the sources of its table with the first that
        knows the beginning as its own."""
        of_table = [source for source in sources if source.table.name == self.table]
        if len(of_table) > 1:
            head = file.read(64 << 10)
            file.seek(0)
            of_table = [each for each in of_table if each.recognises(self.path.name, head)] or of_table
        return LogObject(
            location=f"http:{self.table}/{self.id}",
            open=lambda: file,
            size=self.size,
            source=of_table[0].name if of_table else "",
            identity=self.identity,
        )


class Spool:
    """The folder. Safe to use from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._bytes: Counter[str] = Counter()
        folder.mkdir(parents=True, exist_ok=True)
        self._clear()
        self.waiting()

    def sizes(self) -> dict[str, int]:
        """How many bytes wait for each table, as of the last look and what was put since."""
        with self._lock:
            return dict(self._bytes)

    def put(self, table: str, body_id: str, lines: Sequence[bytes]) -> None:
        """Keep a body of lines: when this returns, neither a crash nor a loss of power loses it. Raises
        OSError.

        One that waits under the same id already is kept once.
        """
        if any(self.folder.glob(f"*-{body_id}.{table}.spool")):
            return
        name = f"{time.time_ns():020d}-{body_id}.{table}.spool"
        partial = self.folder / f"{name}{_PARTIAL}"
        try:
            with partial.open("xb") as file:
                file.writelines(line + b"\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(self.folder / name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        _sync(self.folder)
        with self._lock:
            self._bytes[table] += sum(map(len, lines)) + len(lines)

    def waiting(self) -> list[Spooled]:
        """All that waits, the oldest first."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                match = _NAME.fullmatch(entry.name)
                if match is None:
                    continue
                try:
                    size = entry.stat().st_size
                except FileNotFoundError:
                    continue  # another process was done with it
                found.append(Spooled(Path(entry.path), match["id"], match["table"], size))
        sizes: Counter[str] = Counter()
        for item in found:
            sizes[item.table] += item.size
        with self._lock:
            self._bytes = sizes
        return sorted(found, key=lambda item: item.path.name)

    def done(self, item: Spooled) -> None:
        """Forget a body that the lake has."""
        item.path.unlink(missing_ok=True)

    def keep(self, item: Spooled) -> None:
        """Put a body aside of which the lake has only that it could not be stored; see `kept`."""
        with suppress(FileNotFoundError):  # another process was done with it
            item.path.replace(self.folder / f"{item.id}.{item.table}.{_KEPT}")

    def _clear(self) -> None:
        """Away with what a crash left half written: nobody was told that it is kept."""
        for path in self.folder.glob(f"*{_PARTIAL}"):
            try:
                if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                    path.unlink()
            except FileNotFoundError:
                continue


def kept(connectors: Path, location: str) -> Spooled | None:
    """The body of a location where it was put aside, by a connector with a folder in this one. OSError where
    it cannot be read."""
    for path in _kept_at(connectors, location):
        body_id, table, _ = path.name.split(".")
        return Spooled(path, body_id, table, path.stat().st_size)
    return None


def forget(connectors: Path, location: str) -> None:
    """Forget a body that was put aside and that the lake has now."""
    for path in _kept_at(connectors, location):
        path.unlink(missing_ok=True)


def _kept_at(connectors: Path, location: str) -> Iterator[Path]:
    if found := _LOCATION.fullmatch(location):
        yield from connectors.glob(f"*/spool/{found['id']}.{found['table']}.{_KEPT}")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
