"""Which tables of a lake were seen before: such a one is not begun anew where its disk is not mounted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


class Known:
    """Names of tables seen in one place, by this process and, with a file, by earlier ones.

    The file has a line for each: the place, a tab, the name. Safe for several threads and processes.
    """

    def __init__(self, place: str = "", file: Path | None = None) -> None:
        self.file = file
        self._place = place
        self._names: set[str] = set()
        if file is not None and file.exists():
            lines = (line.rpartition("\t") for line in file.read_text().splitlines())
            self._names = {name for where, _, name in lines if where == place}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        if name in self._names:
            return
        self._names.add(name)
        if self.file is not None:
            with suppress(OSError), self.file.open("a") as file:  # who may only read the home leaves no word
                file.write(f"{self._place}\t{name}\n")
