"""Marks of archives in the quarantine: of one that was damaged, or that lay in another and was not opened."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO

from trailhawk.connectors import archives
from trailhawk.connectors.folder import archive_at, archives_in, objects_in, open_at
from trailhawk.connectors.ledger import Taken
from trailhawk.connectors.parts import Opened, failure, recognised
from trailhawk.sources import Source, Unpacked


class Marks:
    """Whether marks at these locations may go: when the ledger has all logs of their archives.

    Each file is gone through once for all archives in it when the first is asked for, and once more for the
    digests of these; for each of its own that would be as often as there are marks.
    """

    def __init__(self, locations: Iterable[str], sources: Sequence[Source], taken: Taken) -> None:
        self._sources = sources
        self._taken = taken
        self._wanted: dict[str, set[str]] = {}
        for location in filter(archives.is_named_so, locations):
            self._wanted.setdefault(_file_of(location), set()).add(location)
        self._missing: dict[str, dict[str, str]] = {}
        self._digests: dict[str, dict[str, str]] = {}

    def missing(self, location: str) -> str | None:
        """Why the mark may not go, '' if it may; None where no archive is that is opened."""
        file = _file_of(location)
        if file not in self._missing:
            self._missing[file] = self._looked(file, self._wanted.get(file, set()))
        return self._missing[file].get(location)

    def digest(self, location: str) -> str:
        """The SHA-256 of an archive of which nothing is missing, unpacked as far as the quarantine has it; ''
        or OSError where it cannot be read."""
        file = _file_of(location)
        if location == file:
            with open_at(file) as opened:
                return _digest(opened)
        if file not in self._digests:
            known = {place for place, reason in self._missing[file].items() if not reason}
            self._digests[file] = dict(_digests(file, known))
        return self._digests[file].get(location, "")

    def _looked(self, file: str, wanted: Collection[str]) -> dict[str, str]:
        archive = archive_at(file)
        if archive is None:
            return {}
        found = {file: ""} if file in wanted else {}
        for item, marks in objects_in(archive, file, wanted):
            asked = [mark for mark in marks if not found.setdefault(mark, "")]
            if not asked:
                continue
            try:
                if item.doubtful and not recognised(item, self._sources):
                    continue
                with item.open() as opened, Opened(item, opened) as read:
                    reason = "" if read.key in self._taken else "the archive can be read now: ingest it"
            except OSError as error:
                reason = f"cannot be read: {error.strerror or error}"
            except MemoryError as error:
                reason = f"cannot be read: {failure(error)}"
            found.update(dict.fromkeys(asked, reason))
        return found


def _digests(file: str, wanted: set[str]) -> Iterator[tuple[str, str]]:
    archive = archive_at(file)
    for item in archives_in(archive, file, wanted) if archive else ():
        with suppress(OSError), item.open() as opened:  # it could be read before: it is another one by now
            yield item.location, _digest(opened)


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    for block in Unpacked(file):
        digest.update(block)
    return digest.hexdigest()


def _file_of(location: str) -> str:
    """The location of the file in which this one lies."""
    inside = location.find(archives.INSIDE, 1)  # a path may begin with two
    return location if inside < 0 else location[:inside]
