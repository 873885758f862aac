"""What a log source is: which bytes are its own, and how they become rows."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from trailhawk.kql.schema import Table

if TYPE_CHECKING:
    import pyarrow as pa

HEAD_BYTES = 64 * 1024
MAX_RECORD_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BadPart:
    """A stretch of an object's uncompressed bytes that became no row; it counts as one record.

    `head` is its first 64 KiB, `sha256` the digest of all of it.
    """

    start: int
    size: int
    sha256: str
    head: bytes
    reason: str

    @classmethod
    def of(cls, content: bytes | memoryview, start: int, reason: str) -> BadPart:
        return cls(
            start, len(content), hashlib.sha256(content).hexdigest(), bytes(content[:HEAD_BYTES]), reason
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records of one object, each as its JSON text, and what could not be cut into records.

    `position` gives the start of a record in the uncompressed object by its place in `records`.
    """

    records: Sequence[bytes]
    bad: tuple[BadPart, ...]
    position: Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows made of records, and the records that are none.

    `table` has the stored and promoted columns of the source's table, `_th_id`, `_th_payload` and `_th_rest`;
    `kept[i]` is the place of row i's record in the input; `bad` names places and reasons.
    """

    table: pa.Table
    kept: Sequence[int]
    bad: tuple[tuple[int, str], ...]


class Source(Protocol):
    """A log format: recognises its objects, cuts them into records and maps records to rows."""

    @property
    def name(self) -> str: ...

    @property
    def table(self) -> Table: ...

    def recognises(self, name: str, head: bytes) -> bool:
        """Whether an object of this name, beginning with these uncompressed bytes, is this source's."""
        ...

    def is_digest(self, head: bytes) -> bool:
        """Whether the object only proves other objects, and holds no records."""
        ...

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        """Cut an object's uncompressed bytes into records. Same blocks, same chunks."""
        ...

    def rows(self, records: Sequence[bytes]) -> Rows:
        """Map records to rows. What has no time or is no JSON object is bad; never raises for a record."""
        ...


@runtime_checkable
class Placed(Protocol):
    """A source whose records need to know where their object lies, or when it was read."""

    def placed(self, name: str, read_at: dt.datetime) -> Chunks:
        """What cuts an object of this name, read at this time, into records."""
        ...


class Chunks(Protocol):
    """Cuts an object into records, as a source does."""

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]: ...
