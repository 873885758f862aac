"""What the pages of a Parquet file say that they unfold to, so that none takes the memory.

A reader makes room for the size that a page's own header names, whatever the file's footer says of it. The
headers are Thrift structs in its compact form.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift (PageHeader)
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow.parquet as pq


_HEADER_BYTES: Final = 16 * 1024
"""A header may hold the least and the greatest value of its page; that of a flow log is a few dozen bytes."""
_MOST_PAGES: Final = 50_000
"""Pages of a file, and columns of its row groups; a flow log of 75 MB has some thousand."""
_MOST_STEPS: Final = 80 * _MOST_PAGES
"""Of all headers together; a step takes a byte, or passes over a text."""
_DEEPEST: Final = 8
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DICTIONARY_PAGE: Final = 2


@dataclass(frozen=True, slots=True)
class _Page:
    kind: int
    unfolded: int
    packed: int
    values: int
    header: int


@dataclass(slots=True)
class _Work:
    """What the headers of a file may still cost, whatever the file says; ValueError when it is spent."""

    pages: int = _MOST_PAGES
    steps: int = _MOST_STEPS
    begun: set[int] = field(default_factory=set)

    def column(self) -> None:
        self.pages -= 1
        if self.pages < 0:
            raise ValueError(f"it has more than {_MOST_PAGES:,} pages")

    def page(self, start: int) -> None:
        """A page at this place of the file, where no other is."""
        self.column()
        if start in self.begun:
            raise ValueError("two of its pages begin at one place")
        self.begun.add(start)

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise ValueError("the headers of its pages are too long")


def unfolded(file: IO[bytes], metadata: pq.FileMetaData) -> int:
    """The most bytes that the pages of one row group take while it is read: of each column the largest page
    and the largest dictionary. ValueError where headers cannot be read, or take too long."""
    most, work = 0, _Work()
    for place in range(metadata.num_row_groups):
        group = metadata.row_group(place)
        size = 0
        for number in range(group.num_columns):
            work.column()
            pages = _pages(file, group.column(number), work)
            size += max((page.unfolded for page in pages if page.kind != _DICTIONARY_PAGE), default=0)
            size += max((page.unfolded for page in pages if page.kind == _DICTIONARY_PAGE), default=0)
        most = max(most, size)
    return most


def _pages(file: IO[bytes], column: pq.ColumnChunkMetaData, work: _Work) -> list[_Page]:
    """The pages of a column in a row group, up to the one with its last value."""
    start = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    found: list[_Page] = []
    values = 0
    while values < column.num_values:
        work.page(start)
        file.seek(start)
        page = _Header(file.read(_HEADER_BYTES), work).page()
        found.append(page)
        start += page.header + page.packed
        values += page.values if page.kind != _DICTIONARY_PAGE else 0
    return found


class _Header:
    """The fields of a page's header, read one after the other."""

    def __init__(self, content: bytes, work: _Work) -> None:
        self._content = content
        self._work = work
        self._at = 0

    def page(self) -> _Page:
        """The page it heads; ValueError where it is none."""
        try:
            fields = self._struct(0)
        except IndexError:
            raise ValueError("the header of a page is cut off or too long") from None
        kind, unfolded, packed = (fields.get((number,), -1) for number in (1, 2, 3))
        if min(kind, unfolded, packed) < 0:
            raise ValueError("the header of a page is none")
        values = fields.get((5, 1), fields.get((8, 1), 0))
        return _Page(kind, unfolded, packed, max(values, 0), self._at)

    def _struct(self, depth: int) -> dict[tuple[int, ...], int]:
        """The whole numbers of a struct and of those in it, by the ids of the fields."""
        if depth > _DEEPEST:
            raise ValueError("the header of a page nests too deep")
        found: dict[tuple[int, ...], int] = {}
        field = 0
        while head := self._byte():
            kind = head & 0x0F
            field = field + (head >> 4) if head >> 4 else self._whole()
            if kind in (_I16, _I32, _I64):
                found[(field,)] = self._whole()
            elif kind == _STRUCT:
                for path, value in self._struct(depth + 1).items():
                    found[(field, *path)] = value
            elif kind not in (_TRUE, _FALSE):  # which have no more than their head
                self._skip(kind, depth + 1)
        return found

    def _skip(self, kind: int, depth: int) -> None:
        if depth > _DEEPEST:
            raise ValueError("the header of a page nests too deep")
        self._work.step()
        if kind in (_TRUE, _FALSE, _BYTE):
            self._byte()
        elif kind in (_I16, _I32, _I64):
            self._number()
        elif kind == _DOUBLE:
            self._at += 8
        elif kind == _BINARY:
            length = self._number()
            self._at += length
        elif kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._number()
            for _ in range(min(count, len(self._content) + 1)):
                self._skip(head & 0x0F, depth + 1)
        elif kind == _STRUCT:
            self._struct(depth)
        else:
            raise ValueError("the header of a page has a field of no known kind")

    def _byte(self) -> int:
        self._work.step()
        value = self._content[self._at]
        self._at += 1
        return value

    def _number(self) -> int:
        """A number of up to 64 bits, seven in a byte."""
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value
            if shift > 63:
                raise ValueError("the header of a page holds no number")

    def _whole(self) -> int:
        value = self._number()
        return (value >> 1) ^ -(value & 1)
