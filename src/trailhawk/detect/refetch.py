"""Rows that ingest filters dropped, fetched again: their objects are read once more from where they lie.

Only rows that every filter dropped until now are stored, so that rows without an id of their own, which are
told apart by their object alone, do not come twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from trailhawk.connectors.ingest import Ingestor, Summary
from trailhawk.connectors.ledger import AGAIN, is_of_repair
from trailhawk.connectors.objects import LogObject, Outcome, TransformResult
from trailhawk.detect.filters import FilterStore, FilterVersion
from trailhawk.engine.transform import RowTransform
from trailhawk.errors import LakeError
from trailhawk.lake import Lake
from trailhawk.sources import SOURCES, Source

if TYPE_CHECKING:
    import pyarrow as pa

LEDGER_COLUMNS: Final = (
    "TimeGenerated, Object, Location, Bucket, Key, Sha256, Source, State, Rows, Duplicates, Filtered"
)

_ANY_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Dropped:
    """An object of which a filter dropped rows that are not fetched yet: what it is known by, where it is,
    the hash of its bytes as delivered, the versions that dropped all of those rows, when it was stored."""

    object: str
    location: str
    bucket: str
    key: str
    sha256: str
    source: str
    rows: int
    versions: tuple[int, ...]
    at: datetime


def dropped(rows: Iterable[Mapping[str, Any]], versions: Sequence[FilterVersion]) -> list[Dropped]:
    """The objects of one table that still lack rows, from all of their rows in IngestLedger (LEDGER_COLUMNS):
    of a very large one only the last part has the hash, and a part of which nothing was dropped tells which
    versions kept its rows.

    What was fetched again has a row of its own there, which names the version that it was fetched under.
    """
    found: dict[str, Dropped] = {}
    for row in sorted(rows, key=lambda row: row["TimeGenerated"]):
        if is_of_repair(row["Object"], row["State"]):
            continue
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
            row["Sha256"] or (known.sha256 if known else ""),
            row["Source"],
            (known.rows if known else 0) + (-(row["Rows"] + row["Duplicates"]) if again else row["Filtered"]),
            tuple(
                sorted({*(known.versions if known else ()), int(version) if again else _at(versions, row)})
            ),
            known.at if known else row["TimeGenerated"],
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
    version's text, `open_object` gives an object's bytes and raises OSError where they are gone. LakeError,
    when all is stored, where a damaged file keeps it from being known whether some of it was there.
    """
    versions, current = filters.versions(table), filters.current(table)
    texts = {version.version: version.text for version in versions}
    keep = transform(current.text) if current else None

    @cache
    def made(number: int) -> RowTransform | None:
        """The filter of a version, compiled when an object needs it; none where it was taken away."""
        text = texts.get(number)
        return transform(text) if text else None

    groups: dict[tuple[tuple[int, ...], datetime], list[Dropped]] = {}
    for item in dropped(ledger, versions):
        old = [each for each in map(made, item.versions) if each]
        # The ledger is written after the filter ran: a moment later, and that much later for each object. By
        # the beginning of the minute nothing counts as dropped that was young enough to be kept.
        minute = item.at.replace(second=0, microsecond=0)
        at = minute if any(each.reads_clock for each in old) else _ANY_TIME
        groups.setdefault((item.versions, at), []).append(item)
    done: list[Summary] = []
    doubts: set[str] = set()

    def told(outcome: Outcome) -> None:
        if outcome.doubt:
            doubts.add(outcome.doubt)

    for (used, at), items in sorted(groups.items(), key=lambda group: group[0]):
        # What now() meant then: a row that was kept an hour after its event would be dropped today.
        old = [each.at(at) for each in map(made, used) if each]
        ingestor = Ingestor(
            lake,
            clock=clock,
            worker="refetch",
            sources=sources,
            transforms={table: partial(still_missing, old=old, current=keep)},
        )
        for item in items:
            ingestor.take(_log_object(item, again(item, versions), open_object), told)
        ingestor.flush()
        done.append(ingestor.summary())
    if doubts:
        raise LakeError("; ".join(sorted(doubts)))
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
