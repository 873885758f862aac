"""Damage of the lake found and mended: files that cannot be read are given up, the rows that were in them are
read again from their objects, and rows that are there twice go.

Each step is one commit of the data table, which the ledger follows. What a file held is known without it: of
each object the ledger says how many rows were stored, and the other files how many there are.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from trailhawk.connectors.again import Find
from trailhawk.connectors.ingest import Ingestor
from trailhawk.connectors.ledger import (
    ACCEPTED,
    DOUBLED,
    INGEST,
    LEDGER,
    LOST,
    Taken,
    first_key,
    is_ahead,
    object_hash,
    restored_key,
    set_back,
    settle,
)
from trailhawk.connectors.objects import LogObject, Lost, Outcome, Transform
from trailhawk.connectors.quarantine import QUARANTINE
from trailhawk.connectors.reopen import GoneError, unchanged
from trailhawk.connectors.store import Clock, followers, own_rows
from trailhawk.errors import LakeError
from trailhawk.lake import ConflictError, Delta, Lake, LogError, Staged, Transaction, UncommittedError
from trailhawk.lake.check import Damage, Doubled, Mask, counted, damages, doubled, held, rewritten
from trailhawk.lake.compaction import COMPACT
from trailhawk.lake.files import DamagedFileError, opened
from trailhawk.lake.retention import first_kept
from trailhawk.lake.table import ID, OBJECT, PAYLOAD, as_stored
from trailhawk.sources import Source

if TYPE_CHECKING:
    import pyarrow as pa

_WORKER: Final = "repair"
_NOT_KNOWN: Final = ("", "", "", "", 0, "")
_UNKNOWN: Final = "where it lay is not known: the ledger was damaged too"

Progress = Callable[[int, int], None]
"""Is told how many are done, and of how many."""

FilterAt = Callable[[str, dt.datetime], Transform | None]
"""A table's ingest transform as it was in force at a time."""


class _Count:
    """What is done so far, told after each."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def one_more(self) -> None:
        self._done += 1
        self._progress(self._done, self._total)


@dataclass(frozen=True, slots=True)
class Missing:
    """Rows of an object that a damaged file held. `given_up` is the id of the commit that gave the file up,
    '' before that; `stored_at` is when the object was stored. That they are lost may be `accepted`."""

    table: str
    object: str
    location: str
    rows: int
    first: dt.datetime
    last: dt.datetime
    stored_at: dt.datetime
    source: str = field(repr=False)
    bucket: str = field(repr=False)
    key: str = field(repr=False)
    version: str = field(repr=False)
    size: int = field(repr=False)
    sha256: str = field(repr=False)
    given_up: str = field(default="", repr=False)
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong with these tables.

    `unreadable` are the tables whose log cannot be read, with the reason, `behind` those that are older than
    what the ledger has seen of them. `missing` are by object, as far as they come from objects, the rows of
    damaged files, those that the ledger has and no file, and those given up before that were not read again
    yet.
    """

    tables: tuple[str, ...]
    is_empty: bool
    unreadable: tuple[tuple[str, str], ...]
    behind: tuple[str, ...]
    damages: tuple[Damage, ...]
    doubled: tuple[Doubled, ...]
    missing: tuple[Missing, ...]

    @property
    def ok(self) -> bool:
        return not (self.unreadable or self.behind or self.damages or self.doubled or self.lacking)

    @property
    def lacking(self) -> tuple[Missing, ...]:
        """What is missing, without what is accepted to be lost."""
        return tuple(one for one in self.missing if not one.accepted)


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of an object's missing rows: `rows` of them are stored again. `reason`: why it could not be
    read again, '' where it could; `gone` where no later try will have it. `doubt`: why some of the rows may
    be there twice."""

    missing: Missing
    rows: int
    reason: str
    gone: bool = False
    doubt: str = ""


def check(
    lake: Lake,
    tables: Sequence[str],
    *,
    renewed: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda done, total: None,
) -> Findings:
    """Read all that these tables hold. Changes nothing but copies of a bucket's files, of whose being made
    anew `renewed` is told. `progress` counts files."""
    lake = lake.apart()
    unreadable = unreadable_logs(lake)
    sound = [table for table in tables if table not in unreadable]
    _settle(lake, without=unreadable.keys())
    looked = _Count(progress, sum(len(lake.delta(table).live()) for table in sound))
    found = [
        damage
        for table in sound
        for damage in damages(lake.delta(table), renewed=renewed, looked=looked.one_more)
    ]
    bad = {damage.path for damage in found}
    twice = [
        each for table in sound if table != LEDGER.name for each in doubled(lake.delta(table), without=bad)
    ]
    missing: list[Missing] = []
    behind: tuple[str, ...] = ()
    if not unreadable.keys() & {LEDGER.name, QUARANTINE.name}:
        behind = tuple(table for table in sound if _is_behind(lake, table))
        try:
            by_table = _by_table(found)
            for table in sound:
                of_table = by_table.get(table, [])
                known = _missing(lake, table, of_table) if of_table else []
                told = {one.object for one in known}
                missing += known
                missing += [one for one in _not_there(lake, table, of_table) if one.object not in told]
            missing += awaited(lake, sound)
        except DamagedFileError as error:
            if LEDGER.name not in tables:
                hint = "see `trailhawk lake repair` without a table's name"
                raise LakeError(f"the ledger is damaged: {error.path}: {error.reason}", hint=hint) from error
            if not any(damage.table == LEDGER.name for damage in found):
                raise
    return Findings(
        tables=tuple(tables),
        is_empty=all(lake.delta(table).version < 0 for table in sound),
        unreadable=tuple((table, unreadable[table]) for table in tables if table in unreadable),
        behind=behind,
        damages=tuple(found),
        doubled=tuple(twice),
        missing=tuple(missing),
    )


def mend(lake: Lake, found: Findings, *, clock: Clock) -> None:
    """Give up the damaged files, each table's in one commit with what of them can be read, and take away the
    doubled rows. The ledger comes first: it is written anew from the other tables.

    What was changed by others meanwhile is left as it is.
    """
    lake = lake.apart()
    for table in found.behind:
        for name in followers(table):
            set_back(lake.delta(name), lake.delta(table))
    by_table = _by_table(found.damages)
    if by_table.pop(LEDGER.name, ()):
        _write_ledger_anew(lake, found.damages, clock=clock)
    for table, damaged in by_table.items():
        _give_up(lake, table, damaged, clock=clock)
    for table in dict.fromkeys(one.table for one in found.missing if not one.given_up):
        _write_off(lake, table, clock=clock)
    for table in dict.fromkeys(each.table for each in found.doubled):
        _take_away(lake, table, [each for each in found.doubled if each.table == table], clock=clock)


def restore(
    lake: Lake,
    wanted: Iterable[Missing],
    *,
    find: Find,
    clock: Clock,
    sources: Sequence[Source],
    filter_at: FilterAt,
    progress: Progress = lambda done, total: None,
) -> Iterator[Restored]:
    """Read the objects of rows that were given up again, and store those rows. What cannot be read stays as
    it is, and can be asked for once more. `progress` counts objects."""
    groups: dict[int, tuple[Transform | None, list[Missing]]] = {}
    wanted = list(wanted)
    taken = _Count(progress, len(wanted))
    for one in sorted(wanted, key=lambda one: (one.first, one.location)):
        transform = filter_at(one.table, one.stored_at)
        groups.setdefault(id(transform), (transform, []))[1].append(one)
    for transform, group in groups.values():
        transforms = {one.table: transform for one in group} if transform else {}
        tables = {one.table for one in group}
        own = [source for source in sources if source.table.name in tables]  # another's log may be damaged
        ingestor = Ingestor(lake, clock=clock, sources=own, transforms=transforms, worker=_WORKER)
        told: list[Restored] = []
        for one in group:
            try:
                stream = opened_again(one, find, sources)
            except OSError as error:
                yield Restored(one, 0, error.strerror or str(error), isinstance(error, GoneError))
            else:
                ingestor.take(_log_object(one, stream), partial(_told, told, one))
            taken.one_more()
        ingestor.flush()
        yield from told


def opened_again(one: Missing, find: Find, sources: Sequence[Source]) -> BinaryIO:
    """The bytes of an object that lost rows, the same as were taken. OSError where they cannot be had,
    GoneError where no later try will have them."""
    if not one.location:
        raise GoneError(0, _UNKNOWN)
    if one.location.startswith("http:"):
        raise GoneError(0, "it came over HTTP, and lies nowhere else")
    if one.source not in {source.name for source in sources}:
        raise OSError(0, f"there is no log source {one.source!r} any more")
    return unchanged(find(one.location).open(), one.sha256)


def awaited(lake: Lake, tables: Collection[str]) -> list[Missing]:
    """The rows of these tables that were given up and are not read again yet."""
    taken = Taken(lake)
    taken.refresh()
    lost: list[dict[str, Any]] = []
    accepted: set[str] = set()
    for row in _entries(lake, lambda rows: _is_in(rows["State"], [LOST, ACCEPTED])):
        if row["State"] == ACCEPTED:
            accepted.add(row["Object"])
        elif row["TargetTable"] in tables:
            lost.append(row)
    found = []
    for row in lost:
        key = restored_key(row["Object"], row["Batch"])
        if key not in taken:
            one = _of_entry(row, -row["Rows"], given_up=row["Batch"])
            found.append(replace(one, accepted=key in accepted))
    return found


def accept(lake: Lake, lost: Iterable[Missing], *, clock: Clock) -> None:
    """Let the ledger say that it is accepted that these rows, which were given up, are lost."""
    lake = lake.apart()
    ledger = lake.delta(LEDGER.name)
    entries = [
        {**_entry(one, ACCEPTED), "Object": restored_key(one.object, one.given_up)}
        for one in lost
        if not one.accepted
    ]
    while entries:
        ledger.refresh()
        if _is_committed(lake, ledger, {}, entries, now=clock()):
            return


# --- what is missing ----------------------------------------------------------------------------------------


def unreadable_logs(lake: Lake) -> dict[str, str]:
    """The tables whose log cannot be read, each with the reason. LakeError where the bucket of all of them is
    out of reach: each would be asked for as long."""
    found: dict[str, str] = {}
    for name in lake.table_names():
        delta = lake.delta(name)
        try:
            delta.refresh()
        except LakeError as error:
            if not (delta.storage.is_local or isinstance(error, LogError)):
                raise
            found[name] = str(error)
    return found


def _settle(lake: Lake, *, without: Set[str] = frozenset()) -> None:
    """Bring the ledger up to all tables that it follows, as they are now."""
    for name in lake.table_names():
        if name not in without and not without & {LEDGER.name, QUARANTINE.name}:
            _settle_one(lake, name)


def _settle_one(lake: Lake, table: str) -> None:
    """Look at the newest state of a table, and bring the ledger up to it where objects come to the table."""
    delta = lake.delta(table)
    if delta.refresh() >= 0 and delta.transaction(INGEST) and not _is_behind(lake, table):
        settle(lake, table, followers(table))


def _is_behind(lake: Lake, table: str) -> bool:
    """Whether a table is older than what a follower of it has seen."""
    delta, following = lake.delta(table), [lake.delta(name) for name in followers(table)]
    return any(each.refresh() >= 0 and is_ahead(each, delta) for each in following)


def _by_table(found: Iterable[Damage]) -> dict[str, list[Damage]]:
    tables: dict[str, list[Damage]] = defaultdict(list)
    for damage in found:
        tables[damage.table].append(damage)
    return tables


def _missing(lake: Lake, table: str, damaged: Sequence[Damage]) -> list[Missing]:
    """The rows that damaged files of a table hold and that cannot be read, by object; as of its state last
    looked at. None of a table that no objects come to."""
    import pyarrow.compute as pc

    def overlaps(rows: pa.Table) -> pa.ChunkedArray:
        marks = [
            pc.and_(
                pc.less_equal(rows["FirstEvent"], each.last), pc.greater_equal(rows["LastEvent"], each.first)
            )
            for each in damaged
        ]
        either = marks[0]
        for mark in marks[1:]:
            either = pc.or_(either, mark)
        return pc.fill_null(pc.and_(either, pc.equal(rows["TargetTable"], table)), False)

    names = list({row["Object"] for row in _entries(lake, overlaps)})
    there = held(lake.delta(table), sound={each.path: each.sound for each in damaged})
    most = sum(each.rows - each.readable for each in damaged)
    found: list[Missing] = []
    for name, rows in _of_objects(lake, table, names).items():
        stored = sum(row["Rows"] for row in rows)
        lost = stored - (there[name].rows if name in there else 0)
        if lost > 0:
            one = _of_entry(_as_one(rows), min(lost, most))
            first = max(one.first, min(each.first for each in damaged))
            last = min(one.last, max(each.last for each in damaged))
            found.append(replace(one, first=first, last=last))
    return found


def _not_there(lake: Lake, table: str, damaged: Sequence[Damage]) -> list[Missing]:
    """The rows of a table that the ledger has and neither a file nor a damaged one: by objects none of whose
    events is of a day that retention removed. A table that objects do not come to has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    delta, sound = lake.delta(table), {each.path: each.sound for each in damaged}
    while True:
        _settle_one(lake, table)
        rewritings = delta.transaction(COMPACT)
        parts = [
            pa.table({"Object": rows["Object"], "Rows": pc.negate(rows["Rows"])})
            for rows in _ledger(lake, lambda rows: pc.equal(rows["TargetTable"], table))
        ]
        delta.refresh()  # newer than the ledger: what was stored between is there once more, and counts not
        if delta.transaction(COMPACT) == rewritings:
            break
    if not parts:
        return []
    both = pa.concat_tables([*parts, counted(delta, sound=sound)])
    sums = both.group_by("Object").aggregate([("Rows", "sum")])
    lacking = sums.filter(pc.less(sums["Rows_sum"], 0))
    lost = dict(zip(lacking["Object"].to_pylist(), lacking["Rows_sum"].to_pylist(), strict=True))
    since = dt.datetime.combine(first_kept(delta), dt.time())
    entries = _of_objects(lake, table, list(lost))
    found = (_of_entry(_as_one(rows), -lost[name]) for name, rows in entries.items())
    return [one for one in found if one.first >= since]


def _of_objects(lake: Lake, table: str, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The entries of these objects for a table, by object."""
    entries: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _entries(lake, lambda rows: _is_in(rows["Object"], names)) if names else ():
        if row["TargetTable"] == table:
            entries[row["Object"]].append(row)
    return entries


def _as_one(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The entries of an object (of a very large one, one for each part) as one."""
    ordered = sorted(entries, key=lambda row: (row["State"] == LOST, row["TimeGenerated"]))
    times = [row for row in ordered if row["FirstEvent"] is not None]
    return {
        **ordered[0],
        "Sha256": next((row["Sha256"] for row in ordered if row["State"] == "stored"), ""),
        "Size": max(row["Size"] for row in ordered),
        "FirstEvent": min(row["FirstEvent"] for row in times),
        "LastEvent": max(row["LastEvent"] for row in times),
    }


def _of_entry(row: Mapping[str, Any], rows: int, *, given_up: str = "") -> Missing:
    return Missing(
        table=row["TargetTable"],
        object=row["Object"],
        location=row["Location"],
        rows=rows,
        first=row["FirstEvent"],
        last=row["LastEvent"],
        stored_at=row["ReadTime"].replace(tzinfo=dt.UTC),
        source=row["Source"],
        bucket=row["Bucket"],
        key=row["Key"],
        version=row["Version"],
        size=row["Size"],
        sha256=row["Sha256"],
        given_up=given_up,
    )


def _entries(lake: Lake, wanted: Callable[[pa.Table], pa.ChunkedArray]) -> Iterator[dict[str, Any]]:
    """The ledger's entries for which `wanted` says so, as of its newest state."""
    for rows in _ledger(lake, wanted):
        yield from rows.to_pylist()


def _ledger(lake: Lake, wanted: Callable[[pa.Table], pa.ChunkedArray]) -> Iterator[pa.Table]:
    for file in lake.snapshot(LEDGER.name).files():
        with opened(file.path) as parquet:
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group, use_threads=False)
                yield rows.filter(wanted(rows))


def _is_in(values: pa.ChunkedArray, wanted: Sequence[str]) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(values, pa.array(wanted, pa.string()))


# --- mending ------------------------------------------------------------------------------------------------


def _give_up(lake: Lake, table: str, found: Sequence[Damage], *, clock: Clock) -> None:
    """Retire damaged files, in one commit with what of them can be read and the ledger's entries for what
    cannot."""
    delta = lake.delta(table)
    while True:
        _settle_one(lake, table)
        live = delta.live()
        damaged = [each for each in found if each.path in live]
        if not damaged:
            return
        keep = {each.path: (each.day, dict.fromkeys(each.sound)) for each in damaged}
        entries = [
            _entry(one, LOST, Records=-one.rows, Rows=-one.rows) for one in _missing(lake, table, damaged)
        ]
        if _is_committed(lake, delta, keep, entries, now=clock()):
            return


def _write_off(lake: Lake, table: str, *, clock: Clock) -> None:
    """Let the ledger say that rows it has and no file are lost, so that they are read again."""
    delta = lake.delta(table)
    delta.create()
    while entries := [
        _entry(one, LOST, Records=-one.rows, Rows=-one.rows) for one in _not_there(lake, table, ())
    ]:
        if _is_committed(lake, delta, {}, entries, now=clock()):
            return


def _take_away(lake: Lake, table: str, found: Sequence[Doubled], *, clock: Clock) -> None:
    """Write files anew without the rows that are there twice, where none of them was rewritten meanwhile."""
    import pyarrow as pa

    delta = lake.delta(table)
    _settle_one(lake, table)
    if not {each.path for each in found} <= delta.live().keys():
        return
    gone: Counter[str] = Counter()
    for each in found:
        with opened(delta.file(each.path)) as file:
            for group, mask in each.groups.items():
                keys = file.read_row_group(group, columns=[OBJECT])[OBJECT]
                gone.update(keys.filter(pa.array(mask)).to_pylist())
    names = list(gone)
    first: dict[str, dict[str, Any]] = {}
    for row in _entries(lake, lambda rows: _is_in(rows["Object"], names)):
        first.setdefault(row["Object"], row)
    entries = [
        _entry(_of_entry(row, gone[name]), DOUBLED, Rows=-gone[name], Duplicates=gone[name])
        for name, row in first.items()
    ]
    keep = {each.path: (each.day, {group: ~mask for group, mask in each.groups.items()}) for each in found}
    _is_committed(lake, delta, keep, entries, now=clock())


_Keep = Mapping[str, tuple[dt.date, Mapping[int, Mask | None]]]
"""By the path of a file: its day, and of which row groups which rows are kept (all for None)."""


def _is_committed(
    lake: Lake, delta: Delta, keep: _Keep, entries: Sequence[Mapping[str, object]], *, now: dt.datetime
) -> bool:
    """Retire files for new ones with what is kept of them; the ledger takes over the entries. Whether it was
    done: others may have been faster."""
    ledger, batch = lake.delta(LEDGER.name), uuid.uuid4().hex
    staged: list[Staged] = []
    follow: tuple[Staged, ...] = ()
    is_own = delta.table.name == LEDGER.name
    try:
        for path, (day, groups) in keep.items():
            staged += rewritten(delta, day, path, groups)
        if entries:
            follow = ledger.stage(_ledger_rows(entries, batch, now))
        note = {"batch": batch, "follow": {LEDGER.name: [file.to_json() for file in follow]}}
        delta.commit(
            [*staged, *follow] if is_own else staged,
            remove=list(keep),
            transaction=Transaction(COMPACT, delta.transaction(COMPACT) + 1),
            note=None if is_own or not follow else note,
        )
    except (ConflictError, UncommittedError) as error:
        delta.discard(staged)
        ledger.discard(follow)
        if isinstance(error, UncommittedError):
            raise
        return False
    if follow and not is_own:
        settle(lake, delta.table.name, followers(delta.table.name))
    return True


def _entry(one: Missing, state: str, **changes: int) -> dict[str, object]:
    """The ledger's entry that says by how much an object's numbers change."""
    numbers = dict.fromkeys(("FirstRecord", "Records", "Rows", "Duplicates", "Filtered", "Quarantined"), 0)
    return {
        "Object": one.object,
        "Location": one.location,
        "Bucket": one.bucket,
        "Key": one.key,
        "Version": one.version,
        "Size": one.size,
        "Sha256": one.sha256,
        "Source": one.source,
        "TargetTable": one.table,
        "State": state,
        "FirstEvent": one.first,
        "LastEvent": one.last,
        "ReadTime": as_stored(one.stored_at),
        **numbers,
        **changes,
    }


def _ledger_rows(entries: Sequence[Mapping[str, object]], batch: str, now: dt.datetime) -> pa.Table:
    names = [
        f"{entry['Object']}!{entry['State']}-{batch}"
        if entry["State"] in (LOST, DOUBLED, ACCEPTED)
        else entry["Object"]
        for entry in entries
    ]
    hashes = [object_hash(str(name)) for name in names]
    values = {name: [entry[name] for entry in entries] for name in entries[0]}
    known = {ID: [identity for identity, _ in hashes], PAYLOAD: [payload for _, payload in hashes]}
    return own_rows(LEDGER, {**values, **known}, {"Worker": _WORKER}, batch, now)


def _write_ledger_anew(lake: Lake, found: Sequence[Damage], *, clock: Clock) -> None:
    """Give up damaged files of the ledger. Objects that have rows or lie in quarantine get an entry by what
    the tables hold of them, so that they are not taken again; others are, and found to be known or empty."""
    ledger = lake.delta(LEDGER.name)
    sound = {each.path: each.sound for each in found}
    while True:
        _settle(lake)  # from here on the other tables are looked at as they are now
        ledger.refresh()
        live = ledger.live()
        damaged = [each for each in found if each.table == LEDGER.name and each.path in live]
        if not damaged:
            return
        keep = {each.path: (each.day, dict.fromkeys(each.sound)) for each in damaged}
        if _is_committed(lake, ledger, keep, _entries_anew(lake, sound, clock()), now=clock()):
            return


def _entries_anew(
    lake: Lake, sound: Mapping[str, Sequence[int]], now: dt.datetime
) -> list[dict[str, object]]:
    """An entry for each object that a table has and the ledger has not any more."""
    known = held(lake.delta(LEDGER.name), sound=sound)
    aside = held(lake.delta(QUARANTINE.name), sound=sound)
    entries: list[dict[str, object]] = []
    for table in lake.table_names():
        if table in (LEDGER.name, QUARANTINE.name):
            continue
        for name, rows in held(lake.delta(table), sound=sound).items():
            if name not in known:
                bad = aside[name].rows if name in aside else 0
                one = Missing(table, name, "", rows.rows, rows.first, rows.last, now, *_NOT_KNOWN)
                entries.append(
                    _entry(one, "stored", Records=rows.rows + bad, Rows=rows.rows, Quarantined=bad)
                )
    told = {entry["Object"] for entry in entries} | known.keys()
    for name, parts in aside.items():
        if name not in told:
            one = Missing("", name, "", 0, parts.first, parts.last, now, *_NOT_KNOWN)
            entries.append(_entry(one, "quarantined", Records=parts.rows, Quarantined=parts.rows))
    return entries


def _log_object(one: Missing, stream: BinaryIO) -> LogObject:
    return LogObject(
        one.location,
        lambda: stream,
        size=one.size,
        bucket=one.bucket,
        key=one.key,
        version=one.version,
        source=one.source,
        identity=restored_key(one.object, one.given_up),
        lost=Lost(first_key(one.object), one.first, one.last),
    )


def _told(told: list[Restored], one: Missing, outcome: Outcome) -> None:
    reason = "" if outcome.state in ("stored", "skipped") else f"it is {outcome.state} now"
    told.append(Restored(one, outcome.rows, reason, doubt=outcome.doubt))
