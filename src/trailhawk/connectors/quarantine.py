"""What could not be stored as rows, kept with its place and reason."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator
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
    content: bytes


def quarantined(lake: Lake) -> list[Quarantined]:
    """Everything in quarantine, oldest first."""
    return sorted(map(_part, _rows(lake)), key=lambda part: (part.at, part.location, part.start))


def show(lake: Lake, part_id: str) -> Quarantined:
    """The part of this id; NotFoundError if there is none."""
    for part in quarantined(lake):
        if part.id == part_id:
            return part
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
    content: str = row["Content"]
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
        content=base64.b64decode(content) if row["Encoding"] == "base64" else content.encode(),
    )


def _rows(lake: Lake) -> Iterator[dict[str, Any]]:
    for file in lake.snapshot(QUARANTINE.name).files():
        with opened(file.path) as parquet:
            yield from parquet.read(columns=[column.name for column in QUARANTINE.columns]).to_pylist()
