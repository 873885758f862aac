"""Rows that ingest filters dropped, fetched again: their objects are read once more from where they lie.

Only rows that every filter dropped until now are stored, so that rows without an id of their own, which are
told apart by their object alone, do not come twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from trailhawk.connectors.ingest import Ingestor, Summary
from trailhawk.connectors.ledger import AGAIN
from trailhawk.connectors.objects import LogObject, TransformResult
from trailhawk.detect.filters import FilterStore, FilterVersion
from trailhawk.engine.transform import RowTransform
from trailhawk.lake import Lake
from trailhawk.sources import SOURCES, Source

if TYPE_CHECKING:
    import pyarrow as pa

LEDGER_COLUMNS: Final = (
    "TimeGenerated, Object, Location, Bucket, Key, Sha256, Source, Rows, Duplicates, Filtered"
)


@dataclass(frozen=True, slots=True)
class Dropped:
    """An object of which a filter dropped rows that are not fetched yet: what it is known by, where it is,
    the hash of its bytes as delivered, and the versions that dropped all of those rows."""

    object: str
    location: str
    bucket: str
    key: str
    sha256: str
    source: str
    rows: int
    versions: tuple[int, ...]


def dropped(rows: Iterable[Mapping[str, Any]], versions: Sequence[FilterVersion]) -> list[Dropped]:
    """The objects of one table that still lack rows, from their rows in IngestLedger (see LEDGER_COLUMNS).

    What was fetched again has a row of its own there, which names the version that it was fetched under.
    """
    found: dict[str, Dropped] = {}
    for row in sorted(rows, key=lambda row: row["TimeGenerated"]):
        again, name = row["Object"].startswith(AGAIN), row["Object"]
        if again:
            version, _, name = name.removeprefix(AGAIN).partition(":")
        known = found.get(name)
        if again and known is None:
            continue
        found[name] = Dropped(
            name,
            row["Location"],
            row["Bucket"],
            row["Key"],
            row["Sha256"],
            row["Source"],
            (known.rows if known else 0) + (-(row["Rows"] + row["Duplicates"]) if again else row["Filtered"]),
            tuple(
                sorted({*(known.versions if known else ()), int(version) if again else _at(versions, row)})
            ),
        )
    return [one for one in found.values() if one.rows > 0]


def again(item: Dropped, versions: Sequence[FilterVersion]) -> str:
    """What the object is known by when it is read again under the newest version."""
    return f"{AGAIN}{versions[-1].version if versions else 0}:{item.object}"


def _at(versions: Sequence[FilterVersion], row: Mapping[str, Any]) -> int:
    """The version in force when an object was stored."""
    return max((one.version for one in versions if one.at <= row["TimeGenerated"]), default=0)


def still_missing(
    rows: pa.Table, *, old: Sequence[RowTransform], current: RowTransform | None
) -> TransformResult:
    """Of the rows of an object read again: those that every old filter dropped and the current one keeps."""
    import pyarrow as pa

    missing = np.ones(rows.num_rows, bool)
    for transform in old:
        missing &= ~transform(rows).kept
    left = rows.filter(pa.array(missing))
    if current is None:
        return TransformResult(missing, left)
    made = current(left)
    kept = missing.copy()
    kept[missing] = made.kept
    return TransformResult(kept, made.rows)


def refetch(
    lake: Lake,
    filters: FilterStore,
    table: str,
    ledger: Iterable[Mapping[str, Any]],
    *,
    transform: Callable[[str], RowTransform],
    open_object: Callable[[Dropped], BinaryIO],
    clock: Callable[[], datetime],
    sources: Sequence[Source] = SOURCES,
) -> Summary:
    """Read again the objects of which a filter of the table dropped rows, and store those rows that the
    filter as it is now keeps.

    `ledger` are the rows of IngestLedger about the table (LEDGER_COLUMNS), `transform` makes one of a
    version's text, `open_object` gives an object's bytes and raises OSError where they are gone.
    """
    versions, current = filters.versions(table), filters.current(table)
    texts = {version.version: version.text for version in versions}
    keep = transform(current.text) if current else None
    items = dropped(ledger, versions)
    done: list[Summary] = []
    for used in sorted({item.versions for item in items}):
        old = [transform(texts[number]) for number in used if texts.get(number)]
        ingestor = Ingestor(
            lake,
            clock=clock,
            worker="refetch",
            sources=sources,
            transforms={table: partial(still_missing, old=old, current=keep)},
        )
        for item in items:
            if item.versions == used:
                ingestor.take(_log_object(item, again(item, versions), open_object))
        ingestor.flush()
        done.append(ingestor.summary())
    return Summary(
        **{
            field.name: sum(getattr(each, field.name) for each in done)
            for field in dataclasses.fields(Summary)
        }
    )


def _log_object(item: Dropped, identity: str, open_object: Callable[[Dropped], BinaryIO]) -> LogObject:
    return LogObject(
        location=item.location,
        open=partial(open_object, item),
        bucket=item.bucket,
        key=item.key,
        source=item.source,
        identity=identity,
    )
