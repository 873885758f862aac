"""A batch stored in one table, exactly once: transform, look for duplicates, commit, settle."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from trailhawk.connectors.batch import Batch, Decoded, joined
from trailhawk.connectors.ledger import INGEST, LEDGER, Taken, first_key, object_hash, settle
from trailhawk.connectors.objects import Lost, Transform
from trailhawk.connectors.parts import Part, failure, mark_key
from trailhawk.connectors.quarantine import QUARANTINE, encode
from trailhawk.errors import (
    BindingError,
    KqlSyntaxError,
    LakeError,
    NotAllowedError,
    QueryError,
    TrailhawkError,
    UnsupportedError,
)
from trailhawk.kql.schema import INGESTION_TIME, Table
from trailhawk.lake import ConflictError, Lake, LogError, Staged, Transaction, UncommittedError
from trailhawk.lake.compaction import COMPACT, care_date, to_fold
from trailhawk.lake.files import DamagedFileError
from trailhawk.lake.seen import Hashes, Seen, repeated, rows_of, rows_of_objects
from trailhawk.lake.table import (
    BATCH,
    CONFLICT,
    ID,
    OBJECT,
    PAYLOAD,
    REST,
    as_stored,
    fitted,
    picked,
    plain,
    stored_schema,
)
from trailhawk.sources import BadPart
from trailhawk.sources.promote import promoted

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
Mask = NDArray[np.bool_]
Clock = Callable[[], dt.datetime]
KEPT_FOR: Final = dt.timedelta(minutes=1)
"""After so long what was written for a commit is written anew: rows have its time as that of their ingestion,
and who asks for what came since the last look must find them."""
MOST_FAILED: Final = 20
"""So many objects of a batch that cannot be stored, and none that can: the fault is with none of them."""
_DOUBT: Final = (
    "{}; events of its time are stored now that it may hold as well, and that are there twice when it is put"
    " back from a backup: do that before more of them come"
)
_BROUGHT: Final = "nothing is set aside for it, and what was read is brought again"
_UNRUNNABLE: Final = (KqlSyntaxError, BindingError, UnsupportedError, NotAllowedError)
"""Of a transform: it cannot run at all. Another QueryError is over these values."""
Phase = Callable[[str], None]
"""Told what is about to be done: read, decode, write, commit, ledger, compact."""


class TableError(LakeError):
    """What is for one table cannot be stored now; neither the lake nor what is for others is at fault."""

    def __init__(self, table: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.table = table


@dataclass(frozen=True)
class _Plan:
    """What of a batch to store: whole parts, of their rows those that are new, and the live files that are
    written anew together with the rows of their day."""

    parts: tuple[int, ...]
    keep: Mask
    conflict: Mask
    onto: Mapping[dt.date, tuple[str, ...]]

    def same(self, other: _Plan) -> bool:
        return self.parts == other.parts and self.onto == other.onto and not self.differs(other).any()

    def differs(self, other: _Plan) -> Mask:
        """The rows that are stored otherwise by the other plan, or by one only."""
        differs: Mask = (self.keep != other.keep) | (self.conflict != other.conflict)
        return differs

    @property
    def retired(self) -> list[str]:
        return [path for paths in self.onto.values() for path in paths]


class Store:
    """Stores batches of parts in one table. What no source knows is stored in the quarantine itself."""

    def __init__(
        self,
        lake: Lake,
        table: Table,
        taken: Taken,
        *,
        clock: Clock,
        phase: Phase,
        worker: str,
        transform: Transform | None,
    ) -> None:
        self._lake = lake
        self._table = table
        self._data = lake.delta(table.name)
        self._seen = Seen(self._data)
        self._taken = taken
        self._clock = clock
        self._phase = phase
        self._worker = worker
        self._transform = transform
        self._followers = followers(table.name)

    def store(self, batch: Batch) -> list[Part]:
        """Commit a batch; the parts that this process stored (others may have been faster with some).

        Where it cannot be prepared, and neither the lake nor this machine is the reason, the parts at fault
        are found by halves and the rest is committed at once. A part at fault is dropped and says why in
        `failure`, and the parts of its object that come behind it are dropped. TableError, before anything is
        stored, where it is no fault of theirs: the table's log is damaged, the transform cannot run or fails
        without any rows, or this many objects fail that were not set aside before, and none is left.
        """
        parts = batch.parts
        rows = batch.rows()
        for part in parts:
            # What was taken out of quarantine and is as bad as before stays there.
            part.dropped = part.dropped or bool(part.released and not part.found and not part.arrived)
        _date(parts, rows.rows[self._table.time_column].to_numpy(), rows.owner)
        decoded = self._after_transform(parts, rows)
        for part in parts:
            if part.item.lost:  # what is bad of it is in quarantine since it was first read
                part.found, part.filtered = part.found + len(part.bad), part.filtered + len(part.bad)
                part.bad = []
        self._blame(parts, rows)
        self._look()
        try:
            return self._commit(parts, decoded, _left(parts))
        except _UnpreparedError:
            pass  # and what it holds of the batch is let go
        pieces = _by_halves(parts, lambda places: self._tried(parts, decoded, places))
        self._blame(parts, rows)
        try:
            return self._commit(parts, decoded, _left(parts))
        except _UnpreparedError:
            if len(pieces) < 2:
                raise
        # It is too much at once: each piece can be written.
        return [part for places in pieces for part in self._commit(parts, decoded, places)]

    def _look(self) -> None:
        """Look at the table's newest state. TableError where its log is at fault, and not the whole lake."""
        try:
            self._data.create()
        except LogError as error:
            self._taken.refresh()  # where the lake has gone, so has the ledger
            raise TableError(self._table.name, error.message, hint=error.hint) from error

    def _after_transform(self, parts: list[Part], decoded: Decoded) -> Decoded:
        """The rows that the table's transform makes of these, if it has one; what it left out is counted.
        It is not shown rows of dropped parts: they are nobody's fault."""
        if any(part.dropped for part in parts):
            decoded = _rows_of(decoded, _left(parts))
        if self._transform is None or not decoded.rows.num_rows:
            return decoded
        for part in parts:
            part.filtered = 0
        try:
            return self._made(parts, decoded, self._transform)
        except _UnpreparedError:
            pass  # and what it holds of the batch is let go
        self._try_without_rows(decoded)
        transform = self._transform
        pieces = _by_halves(parts, lambda places: self._made(parts, _rows_of(decoded, places), transform))
        return joined(pieces) if pieces else _rows_of(decoded, ())

    def _made(self, parts: Sequence[Part], decoded: Decoded, transform: Transform) -> Decoded:
        with self._preparing():
            rows, kept = _transformed(plain(decoded.rows), self._table, transform)
        for place, count in zip(*np.unique(decoded.owner[~kept], return_counts=True), strict=True):
            parts[place].filtered = int(count)
        return Decoded(rows, decoded.owner[kept])

    def _try_without_rows(self, decoded: Decoded) -> None:
        """TableError where the transform fails over no rows at all, so that no object is at fault."""
        if self._transform is None:
            return
        try:
            _transformed(plain(decoded.rows.slice(0, 0)), self._table, self._transform)
        except Exception as error:
            raise self._cannot_run(error) from error

    def _cannot_run(self, error: Exception) -> TableError:
        said = f"the ingest transform of {self._table.name} cannot run: {failure(error)}"
        return TableError(self._table.name, said, hint=_BROUGHT)

    def _blame(self, parts: Sequence[Part], decoded: Decoded) -> None:
        """TableError where what parts failed for is not their fault."""
        failed = [part for part in parts if part.failure]
        if not failed:
            return
        self._try_without_rows(decoded)
        # What is in quarantine was found to be bad before, and says nothing about what is stored now.
        new = [part for part in failed if not part.released and mark_key(part.item) not in self._taken]
        if len(new) >= MOST_FAILED and not any(part.found and not part.dropped for part in parts):
            said = f"nothing can be stored in {new[0].failure}"
            raise TableError(self._table.name, said, hint=_BROUGHT)

    @contextmanager
    def _preparing(self) -> Iterator[None]:
        """Before a commit: an error that nobody foresaw may be the fault of what is to be stored."""
        try:
            yield
        except Exception as error:
            if isinstance(error, _UNRUNNABLE):
                raise self._cannot_run(error) from error
            if self._table.name == QUARANTINE.name or _is_ours(error):
                raise
            said = f"{self._table.name}: {failure(error)}"
            raise _UnpreparedError(self._table.name, said) from error

    def _tried(self, parts: list[Part], decoded: Decoded, places: Sequence[int]) -> Sequence[int]:
        """The places, if these parts can be written; nothing of it is kept."""
        with self._preparing():
            plan = replace(self._plan(parts, decoded, places, before=None), onto={})
            self._stage(parts, decoded, plan, before=None).discard()
        return places

    def _commit(self, parts: list[Part], decoded: Decoded, places: Sequence[int]) -> list[Part]:
        """Commit the parts at these places, all or none; those that this process stored. _UnpreparedError
        where they cannot be written."""
        staged: _Staging | None = None
        is_late = False
        while True:
            # The ledger is brought up to the data table's version from which this commit is prepared, so
            # that an object and a row can only be missed if the commit itself fails and is tried again.
            settle(self._lake, self._table.name, self._followers)
            self._taken.refresh()
            if staged is not None and self._clock() - staged.at > KEPT_FOR:
                staged.discard()
                staged, is_late = None, True
            try:
                with self._preparing():
                    plan = self._plan(parts, decoded, places, before=staged, least=is_late)
                    if plan.parts and (staged is None or not staged.plan.same(plan)):
                        self._phase("write")
                        staged = self._stage(parts, decoded, plan, before=staged)
            except DamagedFileError as error:
                if not error.is_lasting or error.path in self._seen.damaged:
                    raise
                if not self._data.renew(error):
                    self._seen.damaged[error.path] = error  # it stays as it is, and the rows come beside it
                if staged is not None:
                    staged.discard()
                    staged = None
                continue
            if not plan.parts or staged is None:
                if staged is not None:
                    staged.discard()
                return []
            self._phase("commit")
            try:
                retired = staged.plan.retired
                self._data.commit(
                    staged.rows,
                    remove=retired,
                    transaction=Transaction(INGEST, self._data.transaction(INGEST) + 1),
                    also=Transaction(COMPACT, self._data.transaction(COMPACT) + 1) if retired else None,
                    note=staged.note,
                )
                break
            except ConflictError:
                continue
            except UncommittedError:
                staged.discard()  # a full disk is not filled with what is tried again and again
                raise
        self._phase("ledger")
        settle(self._lake, self._table.name, self._followers)
        self._taken.refresh()
        return staged.parts

    def _plan(
        self,
        batch: list[Part],
        decoded: Decoded,
        asked: Sequence[int],
        *,
        before: _Staging | None,
        least: bool = False,
    ) -> _Plan:
        """Of the parts at these places, against the state last looked at: those not taken yet, and of their
        rows those not stored yet. `before` is what was written for an earlier state; with `least` as little
        as can be of what is stored is to be written anew."""
        rows, owner = decoded.rows, decoded.owner
        parts = tuple(place for place in asked if not any(key in self._taken for key in batch[place].keys))
        keep: Mask = np.isin(owner, parts)
        conflict = np.zeros(len(owner), bool)
        known = rows[ID].is_valid().to_numpy(zero_copy_only=False) & keep
        ids = rows[ID].fill_null(0).to_numpy()
        payloads = rows[PAYLOAD].to_numpy()
        days = rows[self._table.time_column].to_numpy().astype("datetime64[D]")
        places = np.flatnonzero(known)
        again, differs = repeated(ids[places], payloads[places])
        keep[places[again]] = False
        conflict[places[differs]] = True
        for day in np.unique(days[places]):
            here = places[days[places] == day]
            stored, differs = self._seen.compare(day.item(), ids[here], payloads[here])
            keep[here[stored]] = False
            conflict[here[differs]] = True
        conflict &= keep
        if conflict.any():
            self._spelt_otherwise(rows, ids, days, keep, conflict)
        for place in parts:
            batch[place].doubt = ""
        self._leave_out_what_is_there(batch, parts, decoded, keep)
        times = rows[self._table.time_column].to_numpy()
        for day in np.unique(days[keep & known]) if self._seen.damaged else ():
            here = np.flatnonzero(keep & known & (days == day))
            for error, hidden in self._seen.hidden(day.item(), times[here], conflict[here]):
                for place in np.unique(owner[here[hidden]]):
                    batch[place].doubt = _DOUBT.format(error.message)
        coming = zip(*np.unique(days[keep], return_counts=True), strict=True)
        onto = to_fold(
            self._data,
            {day.item(): int(count) for day, count in coming},
            today=care_date(self._clock()),
            damaged=self._seen.damaged,
            tried=before.plan.onto if before else {},
            least=least,
        )
        return _Plan(parts, keep, conflict & keep, onto)

    def _spelt_otherwise(
        self, rows: pa.Table, ids: Hashes, days: NDArray[np.datetime64], keep: Mask, conflict: Mask
    ) -> None:
        """Of the rows whose identity came before with another payload, take those for duplicates whose row
        is equal to one that came before: the same record with other blanks or members in another order."""
        import pyarrow as pa

        doubtful = keep & np.isin(ids, np.unique(ids[conflict])) & rows[ID].is_valid().to_numpy()
        times = rows[self._table.time_column].to_numpy()
        met: dict[int, set[Comparable]] = {}
        for day in np.unique(days[doubtful]):
            here = doubtful & (days == day)
            first, last = times[here].min().item(), times[here].max().item()
            for stored in rows_of(
                self._data,
                day.item(),
                np.unique(ids[here]),
                first=first,
                last=last,
                damaged=self._seen.damaged,
            ):
                for identity, value in zip(
                    stored[ID].to_pylist(), comparable(stored, self._table), strict=True
                ):
                    met.setdefault(identity, set()).add(value)
        values = comparable(rows.filter(pa.array(doubtful)), self._table)
        for place, value in zip(np.flatnonzero(doubtful).tolist(), values, strict=True):
            known = met.setdefault(int(ids[place]), set())
            if value in known:
                keep[place] = conflict[place] = False
            known.add(value)

    def _leave_out_what_is_there(
        self, batch: Sequence[Part], asked: Iterable[int], decoded: Decoded, keep: Mask
    ) -> None:
        """Of objects that are read again for rows they lost: keep none of other times and, of the rows that
        have no identity, none that is stored. Where as many of one time are stored, all of them are."""
        import pyarrow as pa

        rows, owner = decoded.rows, decoded.owner
        times = rows[self._table.time_column].to_numpy()
        unknown = ~rows[ID].is_valid().to_numpy(zero_copy_only=False)
        doubtful: dict[int, tuple[Lost, NDArray[np.int64]]] = {}
        for place in asked:
            if lost := batch[place].item.lost:
                here = np.arange(*np.searchsorted(owner, (place, place + 1)))
                within = (times[here] >= np.datetime64(lost.first)) & (
                    times[here] <= np.datetime64(lost.last)
                )
                keep[here[~within]] = False
                if len(here := here[within & unknown[here]]):
                    doubtful[place] = lost, here
        if not doubtful:
            return
        names = {lost.object for lost, _ in doubtful.values()}
        mine = {batch[place].key for place in doubtful}
        stored: dict[str, Counter[Comparable]] = defaultdict(Counter)
        stored_at: dict[str, Counter[dt.datetime]] = defaultdict(Counter)
        for there in rows_of_objects(
            self._data,
            lambda key: key not in mine and first_key(key) in names,
            first=min(lost.first for lost, _ in doubtful.values()),
            last=max(lost.last for lost, _ in doubtful.values()),
        ):
            moments = there[self._table.time_column].to_pylist()
            values = comparable(there, self._table)
            for key, at, value in zip(there[OBJECT].to_pylist(), moments, values, strict=True):
                stored[first_key(key)][value] += 1
                stored_at[first_key(key)][at] += 1
        for lost, here in doubtful.values():
            found = rows.take(pa.array(here))
            moments = found[self._table.time_column].to_pylist()
            is_whole = {at for at, count in Counter(moments).items() if stored_at[lost.object][at] >= count}
            left = stored[lost.object]
            for place, at, value in zip(here.tolist(), moments, comparable(found, self._table), strict=True):
                if at in is_whole or left[value] > 0:
                    left[value] -= 1
                    keep[place] = False

    def _stage(
        self, batch: list[Part], decoded: Decoded, plan: _Plan, *, before: _Staging | None
    ) -> _Staging:
        """Write the files of a plan. Of what was written `before` for another one, the days stay that both
        have alike: of a batch's rows other workers bring few."""
        batch_id, now = (uuid.uuid4().hex, self._clock()) if before is None else (before.batch, before.at)
        parts = [batch[place] for place in plan.parts]
        kept, wanted = self._kept(decoded, plan, before)
        staging = _Staging(plan, parts, batch_id, now, self._lake, self._table.name, kept, {})
        try:
            _count_rows(parts, plan, decoded.owner)
            bad = _quarantine_rows(parts, batch_id, now)
            of_table = {
                QUARANTINE.name: bad,
                LEDGER.name: _ledger_rows(parts, self._target, batch_id, now, self._worker),
            }
            rows = (
                bad
                if self._table.name == QUARANTINE.name
                else _with_hidden(decoded, self._table, batch, wanted, plan.conflict, batch_id, now)
            )
            staging.rows.extend(self._data.stage(rows, onto=plan.onto))
            for name in self._followers:
                staging.follow[name] = self._lake.delta(name).stage(of_table[name])
        except BaseException:
            staging.discard()
            raise
        return staging

    def _kept(self, decoded: Decoded, plan: _Plan, before: _Staging | None) -> tuple[list[Staged], Mask]:
        """The files of an earlier plan whose days are the same in this one, and the rows still to be written.
        Its other files are removed."""
        if before is None:
            return [], plan.keep
        days = decoded.rows[self._table.time_column].to_numpy().astype("datetime64[D]")
        old, new = before.plan.onto, plan.onto
        onto = [day for day in old.keys() | new.keys() if old.get(day) != new.get(day)]
        changed = np.union1d(days[before.plan.differs(plan)], np.array(onto, "datetime64[D]"))
        kept: list[Staged] = []
        if self._table.name != QUARANTINE.name:
            kept = [file for file in before.rows if np.datetime64(file.day) not in changed]
        before.discard(but=kept)
        return kept, plan.keep & np.isin(days, changed)

    @property
    def _target(self) -> str:
        return "" if self._table.name == QUARANTINE.name else self._table.name


class _UnpreparedError(TableError):
    """What is to be stored cannot be made rows or files, perhaps by a fault of its own."""


def _left(parts: Sequence[Part]) -> list[int]:
    """The places of the parts that are to be stored."""
    return [place for place, part in enumerate(parts) if not part.dropped]


def _by_halves(parts: Sequence[Part], attempt: Callable[[Sequence[int]], T]) -> list[T]:
    """What `attempt` gives for the places of the parts that are left, in as few pieces as it takes.

    The part over which it fails alone is dropped with the reason, and so are those of its object that come
    behind: a hole in the midst of an object would be taken for stored.
    """

    def found(places: Sequence[int]) -> list[T]:
        places = [place for place in places if not parts[place].dropped]
        if not places:
            return []
        try:
            return [attempt(places)]
        except _UnpreparedError as error:
            reason = error.message  # what else it holds is as much memory as the batch
        if len(places) > 1:
            half = (len(places) + 1) // 2
            return [*found(places[:half]), *found(places[half:])]
        part = parts[places[0]]
        if part.state == "part":
            for behind in parts[places[0] + 1 :]:
                if behind.key == part.key:
                    behind.dropped, behind.failure = True, ""
        part.dropped, part.failure = True, reason
        return []

    return found(_left(parts))


def _rows_of(decoded: Decoded, places: Sequence[int]) -> Decoded:
    """The rows of the parts at these places, which are in order."""
    low, high = np.searchsorted(decoded.owner, (places[0], places[-1] + 1)).tolist() if places else (0, 0)
    rows, owner = decoded.rows.slice(low, high - low), decoded.owner[low:high]
    wanted = np.flatnonzero(np.isin(owner, places))
    return Decoded(rows, owner) if len(wanted) == len(owner) else Decoded(picked(rows, wanted), owner[wanted])


def _is_ours(error: Exception) -> bool:
    """Whether the lake, the state database, a setting or this machine is at fault, whatever is stored."""
    return isinstance(error, TrailhawkError | OSError) and not isinstance(error, QueryError)


@dataclass(frozen=True)
class _Staging:
    """A batch's written files, waiting for their commit."""

    plan: _Plan
    parts: list[Part]
    batch: str
    at: dt.datetime
    lake: Lake
    table: str
    rows: list[Staged]
    follow: dict[str, tuple[Staged, ...]]

    @property
    def note(self) -> dict[str, object]:
        """What the followers are to take over, and which rows leave the quarantine."""
        files = {name: [file.to_json() for file in files] for name, files in self.follow.items()}
        released = [part.released for part in self.parts if part.released]
        release = {"release": {QUARANTINE.name: released}} if released else {}
        return {"batch": self.batch, "follow": files, **release}

    def discard(self, *, but: Sequence[Staged] = ()) -> None:
        self.lake.delta(self.table).discard(file for file in self.rows if file not in but)
        for name, files in self.follow.items():
            self.lake.delta(name).discard(files)


def followers(table: str) -> tuple[str, ...]:
    """The tables that take over what a data table's commits name for them."""
    return (LEDGER.name,) if table == QUARANTINE.name else (QUARANTINE.name, LEDGER.name)


def _transformed(rows: pa.Table, table: Table, transform: Transform) -> tuple[pa.Table, Mask]:
    """Rows after a transform, and which of them it kept.

    Hidden columns stay those of the record, so that it is known when it comes again; promoted paths are
    read anew where their column was changed. A row that lost its time gets it back.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = [column.name for column in table.stored]
    result = transform(rows.select(names))
    kept = np.asarray(result.kept, bool)
    before = rows.filter(pa.array(kept))
    foreign = sorted(set(result.rows.column_names) - set(names))
    if foreign or len(kept) != rows.num_rows or result.rows.num_rows != before.num_rows:
        reason = (
            f"it makes columns that the table has not: {', '.join(foreign)}" if foreign else "rows differ"
        )
        raise TableError(
            table.name,
            f"the ingest transform of {table.name} cannot be used: {reason}",
            hint="see `trailhawk filter list`",
        )
    after = result.rows
    for name in before.column_names:
        if name not in names:
            after = after.append_column(name, before[name])
    after = fitted(after, table)
    time = table.time_column
    after = _with(after, time, pc.coalesce(after[time], before[time]))
    changed = {name for name in names if not after[name].equals(before[name])}
    for path in table.promoted:
        if path.column in changed:
            after = _with(after, path.hidden, promoted(after[path.column], path.path))
    return after, kept


def _with(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, values)


Comparable = tuple[object, ...]


def comparable(rows: pa.Table, table: Table) -> Iterator[Comparable]:
    """Each row as values, equal for records that say the same: JSON has no blanks, its members are sorted."""
    names = [column.name for column in table.stored] + [REST]
    columns = [[_canonical(value) for value in rows[name].to_pylist()] for name in names]
    return zip(*columns, strict=True)


def _canonical(value: object) -> object:
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    try:
        return orjson.dumps(orjson.loads(value), option=orjson.OPT_SORT_KEYS)
    except (ValueError, orjson.JSONEncodeError):  # nested deeper than orjson writes
        return value


def _date(parts: list[Part], times: NDArray[np.datetime64], owner: NDArray[np.int64]) -> None:
    """Write the range of event times into the parts: of all that was read, so that a stream of which a
    filter keeps nothing is not taken for a silent one."""
    if not len(owner):
        return
    places, starts = np.unique(owner, return_index=True)
    first, last = np.minimum.reduceat(times, starts), np.maximum.reduceat(times, starts)
    for place, low, high in zip(places.tolist(), first.tolist(), last.tolist(), strict=True):
        parts[place].first_event, parts[place].last_event = low, high


def _count_rows(parts: list[Part], plan: _Plan, owner: NDArray[np.int64]) -> None:
    """Write rows and duplicates into the parts of a plan."""
    most = max(plan.parts, default=0) + 1
    found = np.bincount(owner, minlength=most).tolist()
    rows = np.bincount(owner[plan.keep], minlength=most).tolist()
    for place, part in zip(plan.parts, parts, strict=True):
        part.rows, part.duplicates = rows[place], found[place] - rows[place]


def _with_hidden(
    decoded: Decoded,
    table: Table,
    batch: list[Part],
    keep: Mask,
    conflict: Mask,
    batch_id: str,
    now: dt.datetime,
) -> pa.Table:
    """The rows to keep with their hidden columns, by event time: sorted here, they are moved only once."""
    import pyarrow as pa

    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(decoded.rows[table.time_column].to_numpy()[kept], kind="stable")]
    rows = picked(decoded.rows, kept)
    objects = pa.array([part.key for part in batch], pa.string())
    hidden = {
        INGESTION_TIME: pa.repeat(pa.scalar(as_stored(now), pa.timestamp("us")), rows.num_rows),
        OBJECT: pa.DictionaryArray.from_arrays(pa.array(decoded.owner[kept].astype(np.int32)), objects),
        BATCH: pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(rows.num_rows, np.int32)), pa.array([batch_id])
        ),
        CONFLICT: pa.array(conflict[kept]),
    }
    for name, values in hidden.items():
        rows = _with(rows, name, values)
    return rows


def _ledger_rows(parts: Sequence[Part], table: str, batch_id: str, now: dt.datetime, worker: str) -> pa.Table:
    hashes = [object_hash(part.identity) for part in parts]
    values: dict[str, Sequence[object]] = {
        "Object": [part.key for part in parts],
        "Location": [part.item.location for part in parts],
        "Bucket": [part.item.bucket for part in parts],
        "Key": [part.item.key for part in parts],
        "Version": [part.item.version or part.item.etag for part in parts],
        "Size": [part.size for part in parts],
        "Sha256": [part.sha256 for part in parts],
        "Source": [_source(part) for part in parts],
        "State": [part.state for part in parts],
        "FirstRecord": [part.first_record for part in parts],
        "Records": [part.records for part in parts],
        "Rows": [part.rows for part in parts],
        "Duplicates": [part.duplicates for part in parts],
        "Filtered": [part.filtered for part in parts],
        "Quarantined": [part.quarantined for part in parts],
        "FirstEvent": [part.first_event for part in parts],
        "LastEvent": [part.last_event for part in parts],
        "ReadTime": [as_stored(part.read_at) for part in parts],
        ID: [identity for identity, _ in hashes],
        PAYLOAD: [payload for _, payload in hashes],
    }
    return own_rows(LEDGER, values, {"TargetTable": table, "Worker": worker}, batch_id, now)


def _quarantine_rows(parts: Iterable[Part], batch_id: str, now: dt.datetime) -> pa.Table:
    def row(part: Part, bad: BadPart) -> dict[str, object]:
        content, encoding = encode(bad.head)
        reason = bad.reason.encode("utf-8", "backslashreplace").decode()  # it may quote any bytes
        place = f"{part.key}:{bad.start}:{bad.size}:{reason}"
        return {
            "Id": hashlib.sha256(place.encode()).hexdigest()[:12],
            "Reason": reason,
            "Location": part.item.location,
            "Object": part.key,
            "Source": _source(part),
            "FirstByte": bad.start,
            "Size": bad.size,
            "Sha256": bad.sha256,
            "Content": content,
            "Encoding": encoding,
        }

    rows = [row(part, bad) for part in parts for bad in part.bad]
    values = {name: [each[name] for each in rows] for name in rows[0]} if rows else {"Object": []}
    return own_rows(QUARANTINE, values, {}, batch_id, now)


def own_rows(
    table: Table,
    values: Mapping[str, Sequence[object]],
    alike: Mapping[str, object],
    batch_id: str,
    now: dt.datetime,
) -> pa.Table:
    """Rows of the ledger or the quarantine: what differs, what all have alike, and what both tables have."""
    import pyarrow as pa

    at = as_stored(now)
    both = {"TimeGenerated": at, "Batch": batch_id, INGESTION_TIME: at, BATCH: batch_id, CONFLICT: False}
    objects = values["Object"]
    listed, same = {OBJECT: objects, **values}, {**both, **alike}
    columns = [
        pa.array(listed[field.name], field.type)
        if field.name in listed
        else pa.repeat(pa.scalar(same.get(field.name), field.type), len(objects))
        for field in stored_schema(table)
    ]
    return pa.Table.from_arrays(columns, schema=stored_schema(table))


def _source(part: Part) -> str:
    return part.source.name if part.source else ""
