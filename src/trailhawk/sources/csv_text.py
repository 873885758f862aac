"""CSV as tools export it: a header, and rows whose cells may hold commas, quotes and line breaks in quotes.

It is read line by line. A quote too many opens a cell that would take in all that follows; so a row of
several lines counts only if it has as many cells as the header, and if no line inside it is a whole row
itself. Else its first line is bad, and the next line starts a row.

Cells are apart by commas, or by semicolons or tabs where the header is, as spreadsheets write them. A first
line that says so (`sep=;`) is passed over.
Format: https://www.rfc-editor.org/rfc/rfc4180
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from trailhawk.sources.framing import BOM
from trailhawk.sources.lines import CHUNK_LINES, MAX_LINE_BYTES, pieces
from trailhawk.sources.source import BadPart

MAX_COLUMNS: Final = 1000
MAX_HEADER: Final = 32 * 1024
"""Of the names of all columns; AWS's and Sentinel's tables take some two thousand characters."""

_TELLING: Final = 4
"""From so many cells on a line inside a cell is not by chance as wide as a row."""

_SEPARATORS: Final = (",", ";", "\t")
_SAID: Final = re.compile(rb"sep=([,;\t])\s*", re.IGNORECASE)
_CELLS: Final = {
    separator: re.compile(rf'(?:"((?:[^"]++|"")*+)"|([^"{separator}]*+))(?={separator}|\Z)')
    for separator in _SEPARATORS
}


@dataclass(frozen=True, slots=True)
class CsvRows:
    """Rows under a header, with a cell for each of its names, where each starts, and what is no row."""

    names: tuple[str, ...]
    rows: list[list[str]]
    starts: list[int]
    bad: tuple[BadPart, ...]


def header(head: bytes) -> tuple[str, ...]:
    """The names of the columns of a CSV file that begins so; () for another file."""
    text = head.removeprefix(BOM)
    if text[:1] in (b"{", b"["):
        return ()  # at once: a file of JSON may be one line
    end = 0
    while end < len(text):
        start, end = end, text.find(b"\n", end) + 1 or len(text)
        line = text[start:end]
        if line.strip() and not line.startswith(b"#") and not _SAID.fullmatch(line):
            return _told(line)[0] if line[:1] not in (b"{", b"[") else ()
    return ()


def first_rows(head: bytes, most: int) -> list[dict[str, str]]:
    """The first few rows of a CSV file that begins so, by column."""
    reader = _Reader()
    start = 0
    while len(reader.rows) < most and start < len(head):
        end = head.find(b"\n", start)
        end = len(head) if end < 0 else end
        reader.take(start, head[start:end])
        start = end + 1
    return [dict(zip(reader.names or (), row, strict=True)) for row in reader.rows]


def rows_of(blocks: Iterator[bytes]) -> Iterator[CsvRows]:
    """The rows of a CSV file, at most some 20,000 at a time. Same bytes, same rows, whatever the blocks."""
    reader = _Reader()
    for base, text, bad in pieces(blocks):
        reader.bad += bad
        start = base
        for line in text.removesuffix(b"\n").split(b"\n") if text else ():
            reader.take(start, line)
            start += len(line) + 1
            if max(len(reader.rows), len(reader.bad)) >= CHUNK_LINES:
                yield reader.taken()
        if reader.rows or reader.bad:
            yield reader.taken()
    reader.end()
    if reader.rows or reader.bad:
        yield reader.taken()


def cells(row: bytes, separator: str = ",") -> list[str] | None:
    """The cells of a row, None where its quotes are not those of CSV. UnicodeDecodeError.

    >>> cells(b'a,"b ""c"", d",'), cells(b'a,"b'), cells(b'a,"b"c')
    (['a', 'b "c", d', ''], None, None)
    """
    text = row.decode()
    pattern = _CELLS[separator]
    found: list[str] = []
    at = 0
    while True:
        cell = pattern.match(text, at)
        if cell is None:
            return None
        found.append(cell[2] if cell[1] is None else cell[1].replace('""', '"'))
        at = cell.end() + 1
        if at > len(text):
            return found


def _told(line: bytes) -> tuple[tuple[str, ...], str]:
    """The names in a header and what stands between them: the first that makes several of it."""
    for separator in _SEPARATORS:
        if len(names := _names(line, separator)) > 1:
            return names, separator
    return _names(line, ","), ","


def _names(line: bytes, separator: str) -> tuple[str, ...]:
    """The names in a header, each there and each once; () where it is none."""
    if len(line) > MAX_HEADER:
        return ()
    try:
        found = cells(line.rstrip(), separator)
    except UnicodeDecodeError:
        return ()
    names = tuple(name.strip() for name in found or ())
    return names if all(names) and len(set(names)) == len(names) <= MAX_COLUMNS else ()


_Line = tuple[int, bytes]


@dataclass
class _Reader:
    """Rows under way; `_open` are the lines of one whose last quote has not closed."""

    names: tuple[str, ...] | None = None
    separator: str = ","
    rows: list[list[str]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    bad: list[BadPart] = field(default_factory=list)
    _open: list[_Line] = field(default_factory=list)
    _size: int = 0

    def take(self, start: int, line: bytes) -> None:
        """The next line, which perhaps shows that lines before it are no row and have to be seen alone."""
        waiting: deque[_Line] = deque([(start, line)])
        while waiting:
            at, text = waiting.popleft()
            if not self._open:
                self._alone(at, text)
            elif text.count(b'"') % 2:
                row = [*self._open, (at, text)]
                if self._row(row):
                    self._open = []
                else:
                    waiting.extendleft(reversed(self._broken(row)))
            elif self._size + len(text) > MAX_LINE_BYTES or self._is_row(text):
                waiting.extendleft(reversed(self._broken([*self._open, (at, text)])))
            else:
                self._open.append((at, text))
                self._size += len(text) + 1

    def end(self) -> None:
        """There are no more lines."""
        while self._open:
            for start, line in self._broken(self._open):
                self.take(start, line)

    def taken(self) -> CsvRows:
        found = CsvRows(self.names or (), self.rows, self.starts, tuple(self.bad))
        self.rows, self.starts, self.bad = [], [], []
        return found

    def _alone(self, start: int, line: bytes) -> None:
        """A line that no cell is open before."""
        if self.names is None:
            text = line.removeprefix(BOM) if start == 0 else line
            if text.strip() and not text.startswith(b"#") and not _SAID.fullmatch(text):
                self.names, self.separator = _told(text)
                if not self.names:
                    self._refuse(start, line, "no header of a CSV file")
        elif not self.names:
            if line.strip():
                self._refuse(start, line, "a row of a CSV file without a header that can be read")
        elif line.count(b'"') % 2:
            self._open = [(start, line)]
            self._size = len(line)
        elif line.strip() and not self._row([(start, line)]):
            self._refuse(start, line)

    def _row(self, lines: list[_Line]) -> bool:
        """Take lines as a row, if they are one."""
        try:
            found = cells(b"\n".join(line for _, line in lines).removesuffix(b"\r"), self.separator)
        except UnicodeDecodeError:
            return False
        if found is None or len(found) != len(self.names or ()):
            return False
        self.rows.append(found)
        self.starts.append(lines[0][0])
        return True

    def _is_row(self, line: bytes) -> bool:
        """Whether a line within a row is surely one itself."""
        width = len(self.names or ())
        if width < _TELLING or line.count(self.separator.encode()) < width - 1:
            return False
        try:
            found = cells(line.removesuffix(b"\r"), self.separator)
        except UnicodeDecodeError:
            return False
        return found is not None and len(found) == width

    def _broken(self, lines: list[_Line]) -> list[_Line]:
        """Refuse the first of lines that are no row; the others, to be looked at again."""
        self._open = []
        self._refuse(*lines[0])
        return lines[1:]

    def _refuse(self, start: int, line: bytes, reason: str = "") -> None:
        self.bad.append(BadPart.of(line, start, reason or self._why(line)))

    def _why(self, line: bytes) -> str:
        try:
            found = cells(line.removesuffix(b"\r"), self.separator)
        except UnicodeDecodeError:
            return "a row of a CSV file that is not UTF-8"
        if found is None:
            return "a row of a CSV file with quotes that do not close"
        return f"a row of {len(found)} cells under a header of {len(self.names or ())}"
