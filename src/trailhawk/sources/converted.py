"""Records of another format, put into the words of the log that they were made of and read as that log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import orjson

from trailhawk.sources import tabular
from trailhawk.sources.json_rows import Record, parsed
from trailhawk.sources.source import MAX_RECORD_BYTES, Chunk, Rows, Source

Convert = Callable[[bytes], Record | bytes]
"""A record in the words of its log; ValueError or TypeError with what is wrong where it is none."""


def rows(records: Sequence[bytes], inner: Source, convert: Convert, *, what: str) -> Rows:
    """Rows of records by way of `inner`; `what` says what a bad one is not."""
    made: list[bytes] = []
    places: list[int] = []
    bad: list[tuple[int, str]] = []
    for place, text in enumerate(records):
        try:
            made.append(_bounded(convert(text)))
            places.append(place)
        except (ValueError, TypeError) as error:
            bad.append((place, f"not {what}: {error}"))
    found = inner.rows(made)
    bad += [(places[place], reason) for place, reason in found.bad]
    return Rows(found.table, [places[place] for place in found.kept], tuple(sorted(bad)))


def _bounded(made: Record | bytes) -> bytes:
    record = made if isinstance(made, bytes) else orjson.dumps(made)
    if len(record) > MAX_RECORD_BYTES:
        raise ValueError(f"in the words of its log it is larger than {MAX_RECORD_BYTES // 2**20} MB")
    return record


class TableSource:
    """The rows of a table that another tool made of a log.

    `known` tells it by its first row, `is_kept` the columns that `convert` has to have where they are empty.
    """

    def __init__(
        self,
        name: str,
        inner: Source,
        *,
        known: Callable[[Record], bool],
        convert: Callable[[Record], Record | bytes],
        what: str,
        is_kept: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.name = name
        self.table = inner.table
        self._inner = inner
        self._known = known
        self._convert = convert
        self._what = what
        self._is_kept = is_kept

    def recognises(self, name: str, head: bytes) -> bool:
        return tabular.is_table(head) and self._known(tabular.first_record(head))

    def is_digest(self, head: bytes) -> bool:
        return False

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        return tabular.chunks(blocks, self._is_kept)

    def rows(self, records: Sequence[bytes]) -> Rows:
        return rows(records, self._inner, lambda text: self._convert(parsed(text)), what=self._what)
