"""What the footer and the pages of a Parquet file say, read before Arrow reads it: so that none takes the
memory, and none ends the process.

A reader makes room for the size that a page's own header names, whatever the file's footer says of it. The
headers are Thrift structs in its compact form.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift (PageHeader, FileMetaData)
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
_OF_DICTIONARY: Final = (2, 8)
"""Encodings of pages whose values are places in the dictionary."""
_MAX_DICTIONARY_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Page:
    kind: int
    unfolded: int
    packed: int
    values: int
    header: int
    encoding: int = 0


@dataclass(frozen=True, slots=True)
class Examined:
    """What the pages of a file say, of the row group that takes most.

    `unfolded`: the bytes of its pages while it is read: of each column the largest page and the largest
    dictionary. `mixed` are the columns of text with pages of both kinds, some by the dictionary and some not;
    `grown` is how large their values may be that stand in the dictionary.
    """

    unfolded: int
    mixed: frozenset[str]
    grown: int


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
    """The most bytes that the pages of one row group take while it is read. ValueError where headers cannot
    be read, or take too long."""
    return examined(file, metadata).unfolded


def examined(file: IO[bytes], metadata: pq.FileMetaData) -> Examined:
    """What all pages say. ValueError where headers cannot be read, or take too long."""
    most, grown, work = 0, 0, _Work()
    mixed: set[str] = set()
    for place in range(metadata.num_row_groups):
        group = metadata.row_group(place)
        size = texts = 0
        for number in range(group.num_columns):
            work.column()
            column = group.column(number)
            pages = _pages(file, column, work)
            size += max((page.unfolded for _, page in pages if page.kind != _DICTIONARY_PAGE), default=0)
            size += max((page.unfolded for _, page in pages if page.kind == _DICTIONARY_PAGE), default=0)
            if column.physical_type == "BYTE_ARRAY" and _is_mixed(pages):
                mixed.add(column.path_in_schema)
                texts += _grown(file, column, pages)
        most, grown = max(most, size), max(grown, texts)
    return Examined(most, frozenset(mixed), grown)


_Found = list[tuple[int, _Page]]


def _is_mixed(pages: _Found) -> bool:
    return len({page.encoding in _OF_DICTIONARY for _, page in pages if page.kind != _DICTIONARY_PAGE}) > 1


def _grown(file: IO[bytes], column: pq.ColumnChunkMetaData, pages: _Found) -> int:
    """How many bytes the values may come to that stand in the dictionary: each is its longest text."""
    values = sum(page.values for _, page in pages if page.encoding in _OF_DICTIONARY)
    longest = 0
    for start, page in pages:
        if page.kind == _DICTIONARY_PAGE:
            if page.unfolded > _MAX_DICTIONARY_BYTES:
                raise ValueError("a dictionary is larger than 16 MB")
            file.seek(start + page.header)
            longest = max(
                longest, _longest(_plain(file.read(page.packed), column.compression, page.unfolded))
            )
    return values * longest


def _plain(packed: bytes, compression: str, size: int) -> bytes:
    """The bytes of a page; ValueError where they are none of that size."""
    import pyarrow as pa

    if compression == "UNCOMPRESSED":
        return packed
    name = {"LZ4": "lz4_raw"}.get(compression, compression.lower())
    return bytes(pa.decompress(packed, decompressed_size=size, codec=name, asbytes=True))


def _longest(values: bytes) -> int:
    """The most bytes of one of these texts, each behind its length."""
    at = longest = 0
    while at + 4 <= len(values):
        length = int.from_bytes(values[at : at + 4], "little")
        longest = max(longest, length)
        at += 4 + length
    return longest


def _pages(file: IO[bytes], column: pq.ColumnChunkMetaData, work: _Work) -> _Found:
    """The pages of a column in a row group and where they start, up to the one with its last value."""
    start = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    found: _Found = []
    values = 0
    while values < column.num_values:
        work.page(start)
        file.seek(start)
        page = _Header(file.read(_HEADER_BYTES), work).page()
        found.append((start, page))
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
        encoding = fields.get((5, 2), fields.get((8, 4), 0))
        return _Page(kind, unfolded, packed, max(values, 0), self._at, encoding)

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


_TYPES: Final = (
    "BOOLEAN",
    "INT32",
    "INT64",
    "INT96",
    "FLOAT",
    "DOUBLE",
    "BYTE_ARRAY",
    "FIXED_LEN_BYTE_ARRAY",
)
"""By their number in a footer."""


_MOST_ELEMENTS: Final = 2_000
"""Of a schema: its columns, and the groups that they stand in."""
_MOST_GROUPS: Final = 10_000
_MOST_ITEMS: Final = 1_000_000
"""Items of all lists of a footer; a reader makes some dozen bytes of the smallest."""
_LISTS: Final = {
    (2,): _STRUCT,  # the schema's elements
    (4,): _STRUCT,  # row groups
    (4, 1): _STRUCT,  # their columns
    (4, 1, 3, 2): _I32,  # encodings
    (4, 1, 3, 3): _BINARY,  # the steps of a path
    (4, 1, 3, 8): _STRUCT,  # names and values
    (4, 1, 3, 13): _STRUCT,  # encodings of pages
    (4, 1, 3, 16, 2): _I64,  # sizes by level
    (4, 1, 3, 16, 3): _I64,
    (4, 1, 3, 17, 2): _I32,  # kinds of shapes on a map
    (4, 4): _STRUCT,  # what rows are sorted by
    (5,): _STRUCT,  # names and values
    (7,): _STRUCT,  # orders of columns
}
"""Lists of a footer by the ids that lead there, and the kind of their items: a reader takes each for that
kind, whatever the list says."""


def weigh_footer(footer: bytes) -> None:
    """ValueError for a footer of which a reader would make more than some 200 MB, or that it reads otherwise
    than it is read here. `footer` is without length and magic bytes; to be called before Arrow sees the file.
    """
    if not footer:
        raise ValueError("it ends in no footer, or in one that is too large")
    try:
        _Footer(footer, _Work()).weigh()
    except IndexError:
        raise ValueError("the footer is cut off") from None


def check_footer(footer: bytes, schema: pq.ParquetSchema) -> None:
    """ValueError for a footer that Arrow answers by ending the process, not by an exception: a row group of
    other columns than the schema's, or a column of another type, whose sizes are not those of its levels, or
    that is encrypted. `footer` is without length and magic bytes.
    """
    columns = [schema.column(place) for place in range(len(schema))]
    levels = [
        _Levels(each.max_repetition_level, each.max_definition_level, each.physical_type) for each in columns
    ]
    try:
        _Footer(footer, _Work()).check(levels)
    except IndexError:
        raise ValueError("the footer is cut off") from None


@dataclass(frozen=True, slots=True)
class _Levels:
    repetition: int
    definition: int
    type: str


_MOST_FIELDS: Final = 1 << 15
_TOO_MANY: Final = {
    (2,): f"more than {_MOST_ELEMENTS:,} columns and groups of columns",
    (4,): f"more than {_MOST_GROUPS:,} row groups",
    (4, 1): f"more than {_MOST_PAGES:,} columns in its row groups",
    (): f"lists of more than {_MOST_ITEMS:,} values",
}


class _Footer(_Header):
    """The parts of a footer that are looked at: row groups, their columns, and the sizes these tell."""

    def __init__(self, content: bytes, work: _Work) -> None:
        super().__init__(content, work)
        self._room = {(2,): _MOST_ELEMENTS, (4,): _MOST_GROUPS, (4, 1): _MOST_PAGES, (): _MOST_ITEMS}

    def weigh(self) -> None:
        """Pass over all of it; ValueError where its lists are too long."""
        self._weighed((), 0)

    def _weighed(self, path: tuple[int, ...], depth: int) -> None:
        if depth > _DEEPEST:
            raise ValueError("the footer nests too deep")
        for field_, kind in self._fields():
            if not 0 < field_ < _MOST_FIELDS:
                raise ValueError("the footer has a field of no known number")
            inner = (*path, field_)
            if kind == _STRUCT:
                self._weighed(inner, depth + 1)
            elif kind in (_LIST, _SET):
                self._weighed_list(inner, depth + 1)
            else:
                self._pass(kind)

    def _weighed_list(self, path: tuple[int, ...], depth: int) -> None:
        head = self._byte()
        kind, count = head & 0x0F, head >> 4 if head >> 4 < 15 else self._number()
        self._take((), count)
        if path in self._room:
            self._take(path, count)
        if count and _LISTS.get(path, kind) != kind:
            raise ValueError("a list of the footer holds other values than it should")
        for _ in range(count):
            if kind == _STRUCT:
                self._weighed(path, depth)
            elif kind in (_LIST, _SET):
                raise ValueError("the footer has a list of lists")
            else:
                self._skip(kind, depth)

    def _take(self, path: tuple[int, ...], count: int) -> None:
        """Room for so many items is made before they are read, so it counts whether they are there or not."""
        self._room[path] -= count
        if self._room[path] < 0:
            raise ValueError(f"its footer has {_TOO_MANY[path]}")

    def check(self, levels: Sequence[_Levels]) -> None:
        for field_, kind in self._fields():
            if field_ == 4 and kind == _LIST:
                for _ in self._items():
                    self._group(levels)
            else:
                self._pass(kind)

    def _group(self, levels: Sequence[_Levels]) -> None:
        count = 0
        for field_, kind in self._fields():
            if field_ == 1 and kind == _LIST:
                for _ in self._items():
                    self._work.column()
                    if count >= len(levels):
                        raise ValueError("a row group has more columns than the file")
                    self._column(levels[count])
                    count += 1
            else:
                self._pass(kind)
        if count != len(levels):
            raise ValueError("a row group has other columns than the file")

    def _column(self, levels: _Levels) -> None:
        is_told = False
        for field_, kind in self._fields():
            if field_ == 8:
                raise ValueError("a column is encrypted")
            if field_ == 3 and kind == _STRUCT:
                is_told = True
                self._about(levels)
            else:
                self._pass(kind)
        if not is_told:
            raise ValueError("nothing is said of a column")

    def _about(self, levels: _Levels) -> None:
        for field_, kind in self._fields():
            if field_ == 1 and kind == _I32:
                number = self._whole()
                if not 0 <= number < len(_TYPES) or _TYPES[number] != levels.type:
                    raise ValueError("a column is of another type than the schema says")
            elif field_ == 16 and kind == _STRUCT:
                self._sizes(levels)
            else:
                self._pass(kind)

    def _sizes(self, levels: _Levels) -> None:
        most = {2: levels.repetition, 3: levels.definition}
        for field_, kind in self._fields():
            if field_ == 1 and levels.type != "BYTE_ARRAY":
                raise ValueError("a column tells the size of texts that it has not")
            if field_ in most and kind == _LIST:
                count = 0
                for item in self._items():
                    self._skip(item, 0)
                    count += 1
                if count not in (0, most[field_] + 1):
                    raise ValueError("a column tells sizes that are not those of its levels")
            else:
                self._pass(kind)

    def _fields(self) -> Iterator[tuple[int, int]]:
        """Ids and kinds of the fields of a struct; who asks takes each value before the next."""
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._whole()
            yield number, head & 0x0F

    def _items(self) -> Iterator[int]:
        """The kind of each item of a list, once for each; who asks takes it."""
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._number()
        for _ in range(min(count, len(self._content) + 1)):
            yield head & 0x0F

    def _pass(self, kind: int) -> None:
        if kind not in (_TRUE, _FALSE):  # which have no more than their head
            self._skip(kind, 0)
