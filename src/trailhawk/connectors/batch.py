"""The parts that wait for one table's next commit; their records become rows while they are still at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from trailhawk.connectors.parts import Part, failure
from trailhawk.kql.schema import Table
from trailhawk.lake.table import fitted, picked, plain, stored_schema
from trailhawk.native.records import Records
from trailhawk.native.records import joined as run_together
from trailhawk.sources import BadPart, Rows, Source, archived

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_RECORDS: Final = 16_000
GROUP_BYTES: Final = 32 * 1024 * 1024
"""Records of several small objects are decoded together: a call costs some milliseconds, and bytes that
wait too long fall out of the processor's cache."""
_BAD_BYTES: Final = 500
"""Of a bad part, beside its text."""


@dataclass(frozen=True)
class Decoded:
    """Rows in the table's stored columns with their hashes, text perhaps as dictionaries, and for each the
    place of its part."""

    rows: pa.Table
    owner: NDArray[np.int64]


def joined(pieces: Sequence[Decoded]) -> Decoded:
    """The rows of all pieces, in their order; there is at least one."""
    import pyarrow as pa

    tables = [each.rows for each in pieces]
    if any(each.schema.types != tables[0].schema.types for each in tables):
        tables = [plain(each) for each in tables]
    rows = pa.concat_tables(tables).unify_dictionaries()
    return Decoded(rows, np.concatenate([each.owner for each in pieces]))


class Batch:
    """Parts for one table. `records` and `bytes` (text, Arrow, and what goes into quarantine) are what it
    holds."""

    def __init__(self, table: Table, phase: Callable[[str], None]) -> None:
        self.parts: list[Part] = []
        self.records = 0
        self.bytes = 0
        self._table = table
        self._phase = phase
        self._decoded: list[Decoded] = []
        self._waiting: list[int] = []
        self._waiting_records = 0
        self._waiting_bytes = 0

    def add(self, part: Part) -> None:
        """Take a part; decode what waits when it is enough."""
        size = part.texts.size if isinstance(part.texts, Records) else sum(map(len, part.texts))
        self._waiting.append(len(self.parts))
        self.parts.append(part)
        self.records += part.records
        self.bytes += size + _bad_bytes(part)
        self._waiting_records += len(part.texts)
        self._waiting_bytes += size
        if self._waiting_records >= GROUP_RECORDS or self._waiting_bytes >= GROUP_BYTES:
            self._decode()
            self._phase("read")

    def drop(self, key: str) -> None:
        """Leave out what is here of an object."""
        for part in self.parts:
            if part.key == key:
                part.dropped = True

    def rows(self) -> Decoded:
        """All rows so far; bad records are in their part's `bad`."""
        self._decode()
        if not self._decoded:
            return Decoded(stored_schema(self._table).empty_table(), np.empty(0, np.int64))
        made = joined(self._decoded)
        rows, owner = made.rows, made.owner
        self._decoded = []
        if np.any(owner[1:] < owner[:-1]):  # sources of one table took turns
            order = np.argsort(owner, kind="stable")
            rows, owner = picked(rows, order), owner[order]
        return Decoded(rows, owner)

    def _decode(self) -> None:
        if not self._waiting:
            return
        self._phase("decode")
        waiting, size = self._waiting, self._waiting_bytes
        self._waiting, self._waiting_records, self._waiting_bytes = [], 0, 0
        for source, places in _by_source(self.parts, waiting):
            before = sum(_bad_bytes(self.parts[place]) for place in places)
            for made in _decode(source, self.parts, places):
                if made.rows.num_rows:
                    decoded = Decoded(fitted(made.rows, self._table), made.owner)
                    self._decoded.append(decoded)
                    self.bytes += int(decoded.rows.nbytes)
            self.bytes += sum(_bad_bytes(self.parts[place]) for place in places) - before
        self.bytes -= size


def _bad_bytes(part: Part) -> int:
    return sum(_BAD_BYTES + len(bad.head) for bad in part.bad)


def _by_source(parts: Sequence[Part], places: Sequence[int]) -> Iterator[tuple[Source, list[int]]]:
    groups: dict[str, tuple[Source, list[int]]] = {}
    for place in places:
        source = parts[place].source
        if source is not None:
            groups.setdefault(source.name, (source, []))[1].append(place)
    return iter(groups.values())


def _decode(source: Source, parts: Sequence[Part], places: list[int]) -> Iterator[Decoded]:
    counts = [len(parts[place].texts) for place in places]
    texts = run_together([parts[place].texts for place in places])
    owners = np.repeat(np.array(places, np.int64), counts)
    starts = np.repeat(np.cumsum([0, *counts[:-1]]), counts)
    for first, made in _rows(source, texts):
        for place, reason in made.bad:
            index = first + place
            part = parts[owners[index]]
            at = part.position(index - int(starts[index]))
            part.bad.append(BadPart.of(texts[index], at, archived(texts[index]) or reason))
            part.found -= 1
        yield Decoded(made.table, owners[first + np.asarray(made.kept, np.int64)])
    for place in places:
        parts[place].texts, parts[place].position = (), int


def _rows(source: Source, texts: Sequence[bytes]) -> Iterator[tuple[int, Rows]]:
    """Rows of the records, each with the place of its first record.

    Where the source fails over some of them (a fault of its own, or they take too much memory at once), they
    are read in halves; what it fails over alone is bad. An OSError is this machine's, and goes through.
    """
    if not texts:
        return
    try:
        made = source.rows(texts)
    except OSError:
        raise
    except Exception as error:
        if len(texts) == 1:
            bad = (0, f"{source.name} fails over it: {failure(error)}")
            yield 0, Rows(stored_schema(source.table).empty_table(), (), (bad,))
            return
    else:
        yield 0, made
        return
    half = len(texts) // 2
    yield from _rows(source, texts[:half])
    for first, made in _rows(source, texts[half:]):
        yield half + first, made
