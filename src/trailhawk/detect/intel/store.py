"""Indicators in the lake: taken in, ended, removed, and told again before the rules' look-back forgets them.

The lake is the truth: the table only grows, and every row is a fact of its time. Writers take turns by the
version of a Delta application, as those of SentinelHealth do.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trailhawk.detect.intel import MAX_BYTES, Indicator, Reading
from trailhawk.detect.intel.lists import read_list
from trailhawk.detect.intel.stix import read_stix
from trailhawk.detect.intel.table import (
    EXPIRE,
    REMOVE,
    REPUBLISH,
    THREAT_INTEL,
    Key,
    is_active,
    rows_of,
    says_the_same,
)
from trailhawk.engine.result import Engine
from trailhawk.errors import NotFoundError, SourceError, UsageError
from trailhawk.kql.printer import quoted
from trailhawk.kql.schema import INGESTION_TIME
from trailhawk.lake import Lake
from trailhawk.lake.delta import ConflictError, Transaction
from trailhawk.lake.table import BATCH, CONFLICT, OBJECT, as_stored, fitted

TOLD_AGAIN = timedelta(days=7)
"""How old the newest row of an active indicator may get at most: rules look back 14 days."""
CHECK_EVERY = timedelta(days=1)
MAX_SOURCE = 100
_APPLICATION = "intel"
_NEWEST = f"{THREAT_INTEL.name} | summarize arg_max(TimeGenerated, *) by Id, ObservableKey, ObservableValue"

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Options:
    """What a list does not say itself."""

    column: str = ""
    valid_for: timedelta | None = None
    confidence: int | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, in observables, and what of the file it could not use."""

    source: str
    indicators: int
    created: int
    updated: int
    unchanged: int
    older: int
    """Versions that are older than what is stored."""
    ended: int
    unmatchable: int
    """Indicators whose pattern holds nothing that can be looked up."""
    others: int
    refused: int
    reasons: tuple[str, ...]


class IntelStore:
    """The indicators of a lake, which `engine` reads; `lake` must be a view of its own."""

    def __init__(self, lake: Lake, engine: Engine) -> None:
        self._lake = lake
        self._engine = engine
        self._next_check: datetime | None = None

    # Taking in.

    def load(
        self,
        path: Path,
        *,
        source: str,
        now: datetime,
        options: Options | None = None,
        replace: bool = False,
    ) -> Imported:
        """Take a file's indicators in; with `replace`, end those of the source that it no longer holds.

        SourceError for a file that is neither STIX nor a list, UsageError for a name that cannot be.
        """
        source = source or path.stem
        if not source.strip() or len(source) > MAX_SOURCE or not source.isprintable():
            raise UsageError(
                f"'{source[:MAX_SOURCE]}' is no name of a source", hint=f"{MAX_SOURCE} letters at most"
            )
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SourceError(f"{path.name} is larger than {MAX_BYTES:,} bytes", hint="split it")
        reading = _read(content, path.name, now, options or Options())
        if not reading.indicators:
            reason = f": {reading.reasons[0]}" if reading.reasons else ""
            raise SourceError(f"{path.name} holds no indicator that can be taken{reason}")
        return self._import(reading, source, now, replace)

    def _import(self, reading: Reading, source: str, now: datetime, replace: bool) -> Imported:
        while True:
            version = self._version()
            known = self._newest(now, f"SourceSystem == {quoted(source)}")
            plan = _Plan(known, now)
            for indicator in reading.indicators.values():
                plan.take(indicator, source)
            if replace:
                plan.end_others()
            if self._append(plan.rows, version, now):
                break
        return Imported(
            source=source,
            indicators=len(reading.indicators),
            created=plan.created,
            updated=plan.updated,
            unchanged=plan.unchanged,
            older=plan.older,
            ended=plan.ended,
            unmatchable=sum(not each.observables for each in reading.indicators.values()),
            others=reading.others,
            refused=reading.refused,
            reasons=tuple(reading.reasons),
        )

    # Ending.

    def end(
        self, now: datetime, *, names: Sequence[str] = (), source: str = "", remove: bool = False
    ) -> list[Row]:
        """Let indicators end now, or remove them: by id or value, or all of a source. The rows that are new.

        NotFoundError for a name or source that no indicator in use has.
        """
        while True:
            version = self._version()
            where = f"SourceSystem == {quoted(source)}" if source else "true"
            found = {
                key: row for key, row in self._newest(now, where).items() if row["IsDeleted"] is not True
            }
            if not remove:
                found = {key: row for key, row in found.items() if _in_use(row, now)}
            chosen = _chosen(found, names, source)
            rows = [_ended(row, now, remove=remove) for row in chosen]
            if self._append(rows, version, now):
                return rows

    # Telling again.

    def republish(self, now: datetime) -> int:
        """Tell active indicators again before they were last told seven days ago; how many rows.

        Looks once a day at most.
        """
        if self._next_check is not None and now < self._next_check:
            return 0
        self._next_check = now + CHECK_EVERY
        if self._lake.snapshot(THREAT_INTEL.name).version < 0:
            return 0
        while True:
            version = self._version()
            aged = (TOLD_AGAIN - CHECK_EVERY) // timedelta(hours=1)
            rows = [
                row | {"TimeGenerated": as_stored(now), "LastUpdateMethod": REPUBLISH}
                for row in self._newest(now, f"TimeGenerated <= ago({aged}h)").values()
                if _in_use(row, now)
            ]
            if self._append(rows, version, now):
                return len(rows)

    # Reading and writing.

    def listed(self, now: datetime, *, where: str, most: int) -> list[Row]:
        """The newest rows that fulfil a condition, the last told first."""
        query = f"{_NEWEST} | where {where} | sort by TimeGenerated desc, ObservableValue asc | take {most}"
        return self._engine.query(query, now=now).rows()

    def _newest(self, now: datetime, where: str) -> dict[Key, Row]:
        """The newest row of each observable as it is stored, of those where it fulfils a condition."""
        if self._lake.snapshot(THREAT_INTEL.name).version < 0:
            return {}
        names = [column.name for column in THREAT_INTEL.stored]
        query = f"{_NEWEST} | where {where} | project {', '.join(names)}"
        rows = self._engine.query(query, now=now).table.rename_columns(names).to_pylist()
        return {(row["Id"], row["ObservableKey"], row["ObservableValue"]): row for row in rows}

    def _version(self) -> int:
        delta = self._lake.delta(THREAT_INTEL.name)
        delta.create()
        delta.refresh()
        return delta.transaction(_APPLICATION)

    def _append(self, rows: Sequence[Row], version: int, now: datetime) -> bool:
        """Write rows, if nobody has written since the version was read."""
        import pyarrow as pa

        if not rows:
            return True
        hidden = {INGESTION_TIME: as_stored(now), OBJECT: "", BATCH: uuid.uuid4().hex, CONFLICT: False}
        delta = self._lake.delta(THREAT_INTEL.name)
        staged = delta.stage(fitted(pa.Table.from_pylist([row | hidden for row in rows]), THREAT_INTEL))
        try:
            delta.commit(staged, transaction=Transaction(_APPLICATION, version + 1))
        except ConflictError:
            delta.discard(staged)
            return False
        return True


class _Plan:
    """What an import writes, row by row."""

    def __init__(self, known: dict[Key, Row], now: datetime) -> None:
        self._known = known
        self._now = now
        self._seen: set[Key] = set()
        self._of: dict[str, set[Key]] = {}
        for key in known:
            self._of.setdefault(key[0], set()).add(key)
        self.rows: list[Row] = []
        self.created = self.updated = self.unchanged = self.older = self.ended = 0

    def take(self, indicator: Indicator, source: str) -> None:
        rows = rows_of(indicator, source=source, now=self._now)
        name = next(iter(rows))[0]
        before = self._of.get(name, set())
        modified = as_stored(indicator.modified)
        newest = max(
            (at for key in before if isinstance(at := self._known[key]["Modified"], datetime)), default=None
        )
        if modified is not None and newest is not None and modified < newest:
            self.older += 1
            self._seen |= before
            return
        for key, row in rows.items():
            self._seen.add(key)
            self._take_row(key, row)
        # What a new version does not name any more is ended, so that it is not compared for ever.
        for key in before - rows.keys():
            self._seen.add(key)
            self._end(key)

    def _take_row(self, key: Key, row: Row) -> None:
        old = self._known.get(key)
        if old is None:
            self.created += 1
        else:
            if row["Modified"] is None and old["IsActive"] is True:
                row["ValidFrom"] = old["ValidFrom"]  # a list does not know since when
            if says_the_same(old, row):
                self.unchanged += 1
                return
            self.updated += 1
        self.rows.append(row)

    def end_others(self) -> None:
        """End everything of the source that was not taken."""
        for key in self._known.keys() - self._seen:
            self._end(key)

    def _end(self, key: Key) -> None:
        row = self._known[key]
        if row["IsDeleted"] is not True and _in_use(row, self._now):
            self.rows.append(_ended(row, self._now, remove=False))
            self.ended += 1


def _read(content: bytes, name: str, now: datetime, options: Options) -> Reading:
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") and not options.column:
        return read_stix(content, source=name)
    return read_list(
        content,
        source=name,
        now=now,
        column=options.column,
        valid_until=None if options.valid_for is None else now + options.valid_for,
        confidence=options.confidence,
        tags=options.tags,
    )


def _chosen(found: Mapping[Key, Row], names: Sequence[str], source: str) -> list[Row]:
    """The rows of these ids or values; all of them where only a source is named."""
    if not names:
        if not found:
            raise NotFoundError(f"no indicator of '{source}' is in use", hint="see 'trailhawk intel list'")
        return list(found.values())
    rows: dict[Key, Row] = {}
    for name in names:
        wanted = name.strip()
        matching = {
            key: row
            for key, row in found.items()
            if wanted in (key[0], key[0].rpartition("---")[2]) or wanted.lower() == key[2].lower()
        }
        if not matching:
            raise NotFoundError(f"no indicator in use is '{wanted[:200]}'", hint="see 'trailhawk intel list'")
        rows |= matching
    return list(rows.values())


def state_of(row: Mapping[str, object], now: datetime) -> str:
    """A word for what an indicator's newest row says of it."""
    if row["IsDeleted"] is True:
        return "removed"
    if row["Revoked"] is True:
        return "revoked"
    return "active" if _in_use(row, now) else "ended"


def _in_use(row: Mapping[str, object], now: datetime) -> bool:
    until = row["ValidUntil"]
    end = until.replace(tzinfo=UTC) if isinstance(until, datetime) else None
    return row["IsActive"] is True and row["IsDeleted"] is not True and is_active(row["Revoked"], end, now)


def _ended(row: Mapping[str, object], now: datetime, *, remove: bool) -> Row:
    """The row that ends an indicator, or says that it was removed."""
    end: Row = {
        "TimeGenerated": as_stored(now),
        "IsActive": False,
        "LastUpdateMethod": REMOVE if remove else EXPIRE,
    }
    return dict(row) | end | ({"IsDeleted": True} if remove else {"ValidUntil": as_stored(now)})
