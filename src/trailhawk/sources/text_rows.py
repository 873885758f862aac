"""Lines of text to rows: what the access logs share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import xxhash

from trailhawk.kql.schema import Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import ID, PAYLOAD, REST, arrow_type
from trailhawk.sources.framing import BOM
from trailhawk.sources.json_rows import real
from trailhawk.sources.json_text import signed
from trailhawk.sources.lines import lines_of
from trailhawk.sources.source import Chunk, Rows

if TYPE_CHECKING:
    import pyarrow as pa

Values = Sequence[str | int | None]
Parse = Callable[[str], Values | str]
"""The values of a line, or why it is no record. Text as it stands there, times in microseconds; the last
value is JSON of what has no column."""

_RANGE: Final = {KqlType.INT: 2**31, KqlType.LONG: 2**63}
_NUMBERS: Final = frozenset((*_RANGE, KqlType.REAL))
_FIELD: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"|(\S+)')


def fields_of(line: str) -> list[str] | None:
    r"""The values of a line apart by blanks, some in quotes; None where a quote is not closed.

    >>> fields_of('a "b \"c\"" - ""'), fields_of('a "b')
    (['a', 'b \\"c\\"', '-', ''], None)
    """
    found: list[str] = []
    at = 0
    while at < len(line):
        match = _FIELD.match(line, at)
        if match is None or (match[1] is None and match[2].startswith('"')):
            return None
        found.append(match[1] if match[1] is not None else match[2])
        at = match.end()
        if at < len(line) and line[at] != " ":
            return None
        at += 1
    return found


def rest_of(values: Mapping[str, object]) -> str | None:
    """What is left over, as JSON; None for nothing."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False) if values else None


class TextSource:
    """A log of one record a line.

    `columns` names the values that `parse` gives, with the time first. `first` matches the start of an
    object. `same` says that an equal line is the same record, since it holds an id of its own.
    An object that begins with `probe` only tries whether the bucket can be written.
    """

    def __init__(
        self,
        name: str,
        table: Table,
        columns: Sequence[str],
        parse: Parse,
        *,
        first: re.Pattern[bytes],
        what: str,
        same: bool = False,
        probe: bytes = b"",
    ) -> None:
        self.name = name
        self.table = table
        self._columns = columns
        self._parse = parse
        self._first = first
        self._what = what
        self._same = same
        self._probe = probe

    def recognises(self, name: str, head: bytes) -> bool:
        return self._first.match(head.removeprefix(BOM).lstrip()) is not None or self.is_digest(head)

    def is_digest(self, head: bytes) -> bool:
        return bool(self._probe) and head.startswith(self._probe)

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        for cut in lines_of(blocks):
            yield Chunk(cut.lines, cut.bad, cut.starts.__getitem__)

    def rows(self, records: Sequence[bytes]) -> Rows:
        kept: list[int] = []
        found: list[Values] = []
        bad: list[tuple[int, str]] = []
        for place, record in enumerate(records):
            try:
                values = self._parse(record.decode().removeprefix("\ufeff"))
            except UnicodeDecodeError:
                values = "not UTF-8"
            if isinstance(values, str):
                bad.append((place, f"not a {self._what}: {values}"))
            elif values[0] is None:
                bad.append((place, "no time that can be read"))
            else:
                kept.append(place)
                found.append(values)
        return Rows(self._rows(found, [records[place] for place in kept]), kept, tuple(bad))

    def _rows(self, found: list[Values], lines: Sequence[bytes]) -> pa.Table:
        import pyarrow as pa

        names = [*self._columns, REST]
        columns = dict(zip(names, zip(*found, strict=True) if found else [()] * len(names), strict=True))
        rests = list(columns[REST])
        made: dict[str, pa.Array] = {}
        for column in self.table.stored:
            values = columns[column.name]
            made[column.name] = array = _array(values, column.type)
            if array.null_count and column.type in _NUMBERS:
                _keep_lost(column.name, values, array, rests)
        hashes = (
            [signed(xxhash.xxh3_64_intdigest(line)) for line in lines] if self._same else [0] * len(lines)
        )
        made[ID] = pa.array(hashes, pa.int64()) if self._same else pa.nulls(len(lines), pa.int64())
        made[PAYLOAD] = pa.array(hashes, pa.int64())
        made[REST] = pa.array(rests, pa.string())
        return pa.table(made)


def _keep_lost(name: str, values: Sequence[object], array: pa.Array, rests: list[object]) -> None:
    """Keep beside the rows what stands in a column of numbers and is none."""
    import pyarrow.compute as pc

    for place in pc.indices_nonzero(array.is_null()).to_pylist():
        if values[place] in ("", "-", None):
            continue
        rest = rests[place]
        rests[place] = rest_of({**(json.loads(rest) if isinstance(rest, str) else {}), name: values[place]})


def _array(values: Sequence[object], kind: KqlType) -> pa.Array:
    """Values as stored; `-` and what is no number is null in a column of numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if kind is KqlType.REAL:
        return pa.array([real(value) for value in values], pa.float64())
    if kind not in _RANGE:
        return pa.array(values, arrow_type(kind))
    text = pa.array(values, pa.string())
    fine = pc.and_(pc.ascii_is_decimal(text), pc.less(pc.binary_length(text), 19))
    numbers = pc.if_else(fine, text, None).cast(pa.int64())
    return pc.if_else(pc.less_equal(numbers, _RANGE[kind] - 1), numbers, None).cast(arrow_type(kind))
