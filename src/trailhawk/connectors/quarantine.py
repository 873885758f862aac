"""What could not be stored as rows, kept with its place and reason."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from trailhawk.errors import NotFoundError
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import Lake
from trailhawk.lake.files import opened

_TEXT, _LONG, _TIME = KqlType.STRING, KqlType.LONG, KqlType.DATETIME

QUARANTINE: Final = Table(
    name="Quarantine",
    description="Bytes of log objects that became no row, with the reason.",
    columns=(
        Column("TimeGenerated", _TIME, "When it was put here."),
        Column("Id", _TEXT, "Short id, of the object and the place."),
        Column("Reason", _TEXT, "Why it could not be stored."),
        Column("Location", _TEXT, "Where the object was read."),
        Column("Object", _TEXT, "What the object is known by in IngestLedger."),
        Column("Source", _TEXT, "Log source that read it; empty if none knew it."),
        Column("FirstByte", _LONG, "Start in the object's uncompressed bytes."),
        Column("Size", _LONG, "How many uncompressed bytes."),
        Column("Sha256", _TEXT, "Digest of these bytes."),
        Column("Content", _TEXT, "The first 64 KiB, as text or in base64."),
        Column("Encoding", _TEXT, "utf-8 or base64."),
        Column("Batch", _TEXT, "Id of the batch in IngestLedger."),
    ),
)


_LISTED: Final = tuple(
    column.name for column in QUARANTINE.columns if column.name not in ("Content", "Encoding", "Batch")
)
_AT_ONCE: Final = 64
"""Contents unpacked at a time: each has up to 64 KiB, 88 in base64."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One part in quarantine. `start` and `size` are in the uncompressed bytes of the object."""

    id: str
    at: dt.datetime
    reason: str
    location: str
    object: str
    source: str
    start: int
    size: int
    sha256: str


def quarantined(lake: Lake) -> list[Quarantined]:
    """Everything in quarantine, oldest first, without its bytes."""
    found: list[Quarantined] = []
    for file in lake.snapshot(QUARANTINE.name).files():
        with opened(file.path) as parquet:
            for batch in parquet.iter_batches(columns=list(_LISTED)):
                found += map(_part, batch.to_pylist())
    return sorted(found, key=lambda part: (part.at, part.location, part.start))


def contents(lake: Lake, ids: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """The ids of these parts, each with the bytes that are kept of it; few are held at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(sorted(ids), pa.string())
    for file in lake.snapshot(QUARANTINE.name).files():
        with opened(file.path) as parquet:
            # Reading ids alone tells whether the bytes of this file are asked for.
            if not pc.any(pc.is_in(parquet.read(columns=["Id"])["Id"], wanted)).as_py():
                continue
            for batch in parquet.iter_batches(_AT_ONCE, columns=["Id", "Content", "Encoding"]):
                for row in batch.filter(pc.is_in(batch["Id"], wanted)).to_pylist():
                    content: str = row["Content"]
                    kept = base64.b64decode(content) if row["Encoding"] == "base64" else content.encode()
                    yield row["Id"], kept


def show(lake: Lake, part_id: str) -> tuple[Quarantined, bytes]:
    """The part of this id with the bytes that are kept of it; NotFoundError if there is none."""
    for part in quarantined(lake):
        if part.id == part_id:
            return part, next((kept for _, kept in contents(lake, [part_id])), b"")
    raise NotFoundError(
        f"nothing in quarantine has the id {part_id!r}", hint="see `trailhawk quarantine list`"
    )


def encode(content: bytes) -> tuple[str, str]:
    """Bytes as text with the name of the encoding: as they are if they are UTF-8, else in base64."""
    try:
        return content.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(content).decode(), "base64"


def _part(row: dict[str, Any]) -> Quarantined:
    return Quarantined(
        id=row["Id"],
        at=row["TimeGenerated"].replace(tzinfo=dt.UTC),
        reason=row["Reason"],
        location=row["Location"],
        object=row["Object"],
        source=row["Source"],
        start=row["FirstByte"],
        size=row["Size"],
        sha256=row["Sha256"],
    )
