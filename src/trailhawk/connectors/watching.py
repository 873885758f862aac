"""Folders as a connector: files are taken as they are completed.

While they cannot be stored (an outage of the lake, a damaged table), they are taken again with growing waits;
new files meanwhile as ever, since what is for other tables can be stored.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from trailhawk.connectors import folder
from trailhawk.connectors.connector import Board, ConnectorError, Intake, State, Taker
from trailhawk.connectors.objects import Outcome
from trailhawk.errors import LakeError, StateError
from trailhawk.files import in_words

if TYPE_CHECKING:
    from trailhawk.connectors.config import ConnectorSettings
    from trailhawk.settings import Section

_LOOK_SECONDS: Final = 2.0
_LONGEST_SECONDS: Final = 60.0
"""Until what could not be stored is taken again; doubled each time from a look's."""
_REST: Final = 10.0  # at least so many times as long as the round took: many files are a tenth of a core
_LONGEST_REST: Final = 900.0
_PATHS, _STORING = "paths", "storing"  # causes of problems


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """Folders and files, looked at again and again. A file is complete when nobody wrote to it for
    `quiet_seconds`."""

    name: str
    paths: tuple[Path, ...]
    quiet_seconds: int = 10

    type = "folder"

    @property
    def where(self) -> str:
        return ", ".join(map(str, self.paths))

    @classmethod
    def read(cls, name: str, section: Section) -> Self:
        paths = section.texts("paths")
        if not paths:
            raise section.wrong("paths", "is missing", hint='write paths = ["/var/log/aws"]')
        home = section.file.parent
        return cls(
            name=name,
            paths=tuple(home / Path(path).expanduser() for path in paths),
            quiet_seconds=section.number("quiet_seconds", 10, most=86_400),
        )


def connector(settings: ConnectorSettings, intake: Intake) -> FolderConnector:
    """The connector of these settings."""
    if not isinstance(settings, FolderSettings):
        raise TypeError(f"settings of type {settings.type}")
    return FolderConnector(settings, intake)


class FolderConnector:
    """Takes the files of folders, each once for each content it has."""

    def __init__(self, settings: FolderSettings, intake: Intake) -> None:
        self._settings = settings
        self._intake = intake
        self._board = Board(settings.name, settings.type, intake.clock)
        self._left = Counter[Path]()  # files of which not all is stored

    @property
    def name(self) -> str:
        return self._settings.name

    def state(self) -> State:
        return self._board.state()

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Take files until `stop`; with `once` those that are there, complete or not.

        With `once` only: ConnectorError for a path that does not exist, and what storing raises.
        """
        settings = self._settings
        self._board.doing("looking for files")
        taker = self._intake.taker(f"{self.name}@{socket.gethostname()}:{os.getpid()}")
        watched = folder.Watched(
            settings.paths,
            without=self._intake.folder.parents[1] / "lake",
            quiet=dt.timedelta(seconds=0 if once else settings.quiet_seconds),
        )
        if once:
            watched.look(self._intake.clock())  # what has the same size at two looks is complete
        failures, due = 0, 0.0
        self._left.clear()
        while not stop.is_set():
            missing = [path for path in settings.paths if not os.path.lexists(path)]
            said = f"no such file or folder: {missing[0]}" if missing else ""
            if said and once:
                raise ConnectorError(f"{self.name}: {said}")
            if said:
                self._board.problem(_PATHS, said)
            else:
                self._board.over(_PATHS)
            began = time.monotonic()
            if self._left and began >= due:
                watched.again(self._left)
                self._left.clear()
            try:
                ready = watched.look(self._intake.clock())
                self._left.update(ready)
                for path in ready:
                    if not stop.is_set():
                        self._take(taker, path, stop)
                taker.flush()
            except (StateError, LakeError, OSError) as error:
                if once:
                    raise
                self._board.problem(_STORING, in_words(error))
                if began >= due:  # what new files fail for puts off no others
                    now = time.monotonic()
                    wait = min(_LOOK_SECONDS * 2 ** min(failures, 5), _LONGEST_SECONDS)
                    due = now + max(wait, min((now - began) * _REST, _LONGEST_REST))
                    failures += 1
            if not self._left:
                self._board.over(_STORING)
                failures = 0
            if once:
                break
            self._board.doing("waiting for files", idle=True)
            stop.wait(max(_LOOK_SECONDS, watched.rest))
        self._board.doing("stopped")

    def _take(self, taker: Taker, path: Path, stop: threading.Event) -> None:
        self._board.doing(f"taking {path.parent}")
        for item, _ in folder.log_objects(path, named=path in self._settings.paths):
            if stop.is_set():
                return
            self._left[path] += 1
            taker.take(item, self._ender(path, item.size or 0))
        self._is_done(path)

    def _ender(self, path: Path, size: int) -> Callable[[Outcome], None]:
        def ended(outcome: Outcome) -> None:
            self._board.ended(outcome, size)
            self._is_done(path)

        return ended

    def _is_done(self, path: Path) -> None:
        self._left[path] -= 1
        if not self._left[path]:
            del self._left[path]
