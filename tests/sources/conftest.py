"""What the tests of the sources share: an object read to its end, as the ingest does it."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from trailhawk.sources import SOURCES, BadPart, Placed, Source, Unpacked, known_by

READ_AT = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)


@dataclass
class ReadObject:
    """What became of an object: `rows` without empty values, and the bad parts."""

    source: str
    records: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    bad: list[BadPart] = field(default_factory=list)
    digest: bool = False

    @property
    def reasons(self) -> list[str]:
        return [part.reason for part in self.bad]


def _read(
    data: bytes,
    *,
    name: str = "logs/object",
    source: Source | None = None,
    sources: tuple[Source, ...] = SOURCES,
    block: int = 1 << 25,
) -> ReadObject:
    """Read an object with the source that knows it, or with the one that is given."""
    unpacked = Unpacked(io.BytesIO(data), block=block)
    head, blocks = known_by(iter(unpacked))
    found = source or next((each for each in sources if each.recognises(name, head)), None)
    if found is None:
        return ReadObject("", 1)
    made = ReadObject(found.name)
    if found.is_digest(head):
        made.digest = True
        return made
    reader = found.placed(name, READ_AT) if isinstance(found, Placed) else found
    for chunk in reader.chunks(blocks):
        rows = found.rows(chunk.records)
        made.records += len(chunk.records) + len(chunk.bad)
        made.bad += chunk.bad
        for place, reason in rows.bad:
            made.bad.append(BadPart.of(chunk.records[place], chunk.position(place), reason))
        made.rows += [
            {name: value for name, value in row.items() if value not in (None, "") and name != "_th_payload"}
            for row in rows.table.to_pylist()
        ]
    assert made.records == len(made.rows) + len(made.bad)
    assert not unpacked.fault
    return made


@pytest.fixture
def read() -> Callable[..., ReadObject]:
    """Reads an object's bytes."""
    return _read
