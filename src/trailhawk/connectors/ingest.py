"""From log objects to rows of the lake, exactly once: objects of any source and connector, batch by batch."""

from __future__ import annotations

import ctypes
import dataclasses
import datetime as dt
import errno
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from trailhawk.connectors import folder
from trailhawk.connectors.batch import Batch
from trailhawk.connectors.ledger import LEDGER, Taken, settle
from trailhawk.connectors.objects import BrokenOffError, LogObject, Outcome, OutcomeState, Transform
from trailhawk.connectors.parts import UNREADABLE, Opened, Part, mark, read_parts, recognised, unreadable
from trailhawk.connectors.quarantine import QUARANTINE
from trailhawk.connectors.store import Clock, Phase, Store, TableError, followers
from trailhawk.errors import NotFoundError, raised
from trailhawk.kql.schema import Table
from trailhawk.lake import Lake, LogError
from trailhawk.lake.compaction import care_date, compact_busy_days
from trailhawk.lake.files import DamagedFileError
from trailhawk.sources import SOURCES, Source

BATCH_RECORDS: Final = 120_000
BATCH_BYTES: Final = 96 * 1024 * 1024  # of text or Arrow; sorting and writing hold it twice for a moment
_LARGE_BYTES: Final = 4 * 1024
"""Records of this size in the mean take memory of their own, beside what is kept for smaller pieces: that is
given back, and the batch is half as large."""
_BATCH_PARTS: Final = 20_000
"""Objects in a batch: digests and empty files hold no records, and are held all the same."""
_KEEP_RETIRED: Final = dt.timedelta(days=1)  # far longer than any query or batch takes
_COMPACT_SECONDS: Final = 60.0
_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of this machine whatever the object: none is set aside for them. A full disk is none of these while
an object is read: nothing is written then but the object's own copy, and one too large for the folder of
temporary files would come again for ever. The lake is written outside of the reading."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 512 * 1024 * 1024  # of freed memory, about what a batch takes; until `_release_memory`
_MAPPED_BYTES: Final = 32 * 1024 * 1024  # the most that glibc takes; larger pieces go back at once
_NO_TRANSFORMS: Final[Mapping[str, Transform]] = MappingProxyType({})

Done = Callable[[Outcome], None]
Damaged = Callable[[DamagedFileError], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an ingest is; `bytes` are bytes as delivered."""

    objects: int
    all_objects: int
    bytes: int
    all_bytes: int
    records: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What an ingest did. records = rows + duplicates + filtered + quarantined.

    `objects` counts all that were found, with those `skipped` (taken before), the `digests` and the
    `unrecognised` ones: files in folders that are no logs by their name and to no source.
    """

    objects: int
    records: int
    rows: int
    duplicates: int
    filtered: int
    quarantined: int
    skipped: int
    digests: int
    unrecognised: int
    seconds: float


def ingest(
    lake: Lake,
    paths: Iterable[Path],
    *,
    clock: Clock,
    progress: Callable[[Progress], None] = lambda _: None,
    phase: Phase = lambda _: None,
    sources: Sequence[Source] = SOURCES,
    transforms: Mapping[str, Transform] = _NO_TRANSFORMS,
    told: Done = lambda _: None,
    damaged: Damaged = raised,
    strict: bool = False,
    batch_records: int = BATCH_RECORDS,
) -> Summary:
    """Take the log files under `paths` into the lake.

    What was taken before is skipped, and what cannot be read goes into quarantine: neither stops the rest.
    UsageError for a path that does not exist. Several processes may ingest at once. A kill at any moment
    loses nothing that a later ingest of the same files does not bring, and doubles nothing. A commit holds
    about `batch_records` records. `told` hears what became of each object, `damaged` of each file that keeps
    a day from being compacted. With `strict`, files of any name
    count as logs.
    """
    started = time.perf_counter()
    roots = set(paths)
    named = set(map(str, roots))  # in a tenth of the time that paths take to be looked up
    files = folder.files(roots, without=lake.root)
    sizes = [folder.size_of(path) for path in files]
    all_bytes = sum(sizes)
    ingestor = Ingestor(
        lake, clock=clock, sources=sources, transforms=transforms, phase=phase, batch_records=batch_records
    )
    done = 0
    for index, (path, size) in enumerate(zip(files, sizes, strict=True), 1):
        for item, before_end in folder.log_objects(path, strict=strict, named=str(path) in named):
            ingestor.take(item, told)
            progress(Progress(index, len(files), done + before_end, all_bytes, ingestor.records))
        done += size
    ingestor.flush()
    phase("compact")
    ingestor.compact(damaged)
    return dataclasses.replace(ingestor.summary(), seconds=time.perf_counter() - started)


def follow(
    lake: Lake,
    paths: Iterable[Path],
    *,
    clock: Clock,
    stop: threading.Event,
    sources: Sequence[Source] = SOURCES,
    transforms: Mapping[str, Transform] = _NO_TRANSFORMS,
    told: Done = lambda _: None,
    damaged: Damaged = raised,
    strict: bool = False,
    quiet: dt.timedelta = dt.timedelta(seconds=10),
    every: float = 2.0,
    batch_records: int = BATCH_RECORDS,
) -> Summary:
    """Take the files under `paths` as they are completed, until `stop` is set; then store what was read.

    A file is taken when it was not written to for `quiet`, looked at `every` so many seconds, or less often
    where looking takes long. One that
    grows after that is taken again as another object: its events that have ids are known by them.
    UsageError for a path that does not exist at the start.
    """
    started = time.perf_counter()
    roots = set(paths)
    named = set(map(str, roots))
    folder.files(roots, without=lake.root)
    watched = folder.Watched(roots, without=lake.root, quiet=quiet)
    ingestor = Ingestor(
        lake, clock=clock, sources=sources, transforms=transforms, batch_records=batch_records
    )
    compacted = time.monotonic()
    while True:
        for path in watched.look(clock()):
            for item, _ in folder.log_objects(path, strict=strict, named=str(path) in named):
                if stop.is_set():
                    break
                ingestor.take(item, told)
            if stop.is_set():
                break
        ingestor.flush()
        if stop.is_set() or time.monotonic() - compacted > _COMPACT_SECONDS:
            ingestor.compact(damaged)
            compacted = time.monotonic()
        if stop.wait(max(every, watched.rest)):
            break
    ingestor.compact(damaged)
    return dataclasses.replace(ingestor.summary(), seconds=time.perf_counter() - started)


class Ingestor:
    """Takes objects of any sources into the lake; one for each worker, long-lived, not for several threads.

    Objects are gathered in a batch, and each table they belong to gets one commit a batch. Several
    Ingestors in several processes may take the same objects at once: each is stored once.
    `transforms` are by table. After an exception nothing of the object at hand or of the batch is held any
    more, what was not told as done can be brought again.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        clock: Clock,
        sources: Sequence[Source] = SOURCES,
        transforms: Mapping[str, Transform] = _NO_TRANSFORMS,
        worker: str = "",
        phase: Phase = lambda _: None,
        batch_records: int = BATCH_RECORDS,
    ) -> None:
        _keep_memory()
        self._lake = lake.apart()
        self._clock = clock
        self._phase = phase
        self._sources = sources
        self._transforms = transforms
        self._worker = worker
        self._taken = Taken(self._lake)
        self._stores: dict[str, Store] = {}
        self._batches: dict[str, Batch] = {}
        self._full_records = batch_records
        self._pending: dict[str, _Pending] = {}
        self._since: dt.datetime | None = None
        self._totals = _Totals()
        self._failed: TableError | None = None
        phase("ledger")
        for name in self._tables():
            try:
                settle(self._lake, name, followers(name))
            except LogError as error:
                if error.table != name:
                    raise
                # What is for other tables can be stored; who stores in this one is told.
        self._taken.refresh()

    @property
    def records(self) -> int:
        """Records read so far, those of the batch included."""
        return self._totals.records + self._waiting_records

    @property
    def age(self) -> dt.timedelta:
        """How long the oldest object of the batch waits; zero for an empty batch. Who wants rows to be seen
        soon calls `flush` when it is too old. A clock that was set back makes it old as well."""
        return abs(self._clock() - self._since) if self._since is not None else dt.timedelta()

    def summary(self) -> Summary:
        """What was done since the start; the batch counts when it is stored."""
        return Summary(**dataclasses.asdict(self._totals), seconds=0.0)

    def knows(self, identity: str) -> bool:
        """Whether an object is in the batch, or was in the ledger at the last look: its bytes are not
        needed."""
        return identity in self._pending or identity in self._taken

    def take(self, item: LogObject, done: Done = lambda _: None) -> None:
        """Read an object into the batch, and store the batch when it is full.

        `done` is called once, after the ledger's commit that holds the object: perhaps within this call,
        perhaps within a later `take` or `flush`. What `open` and reading raise goes through to the caller,
        and the object counts as not brought; an OSError of reading only where it is a BrokenOffError, or
        this machine lacks files or memory. An object over which a source fails, or that takes more memory
        than there is, is set aside. An OSError of the lake goes through, a full disk as any. NotFoundError
        for an unknown source. An object that cannot be stored while others can is set aside as well.
        """
        source = self._named(item.source)
        self._phase("read")
        with _no_collection():
            # Parts come out of a generator, so that a lake which cannot be written is not taken for an
            # object which cannot be read.
            reading = _Reading()
            try:
                for part in self._read(item, source, done, reading):
                    try:
                        self._add(part)
                    except BaseException:
                        self._abandon()
                        raise
                    if part.state == "part" and part.key not in self._pending:
                        break  # what was stored of it just now could not be: it was set aside
            except BaseException:
                self._forget(reading.key)
                raise

    def flush(self) -> None:
        """Store the batch. TableError where one table's part of it, or of a full one before, cannot be: that
        of others is stored, and what is not told as done can be brought again."""
        with _no_collection():
            while self._batches:
                self._flush()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def compact(self, told: Damaged) -> None:
        """Rewrite the days of the tables written to that hold many small files, and clear away what no
        version names any more. `told` hears of each damaged file."""
        _release_memory()
        for name in (*self._stores, LEDGER.name, QUARANTINE.name):
            delta = self._lake.delta(name)
            if compact_busy_days(delta, today=care_date(self._clock()), told=told):
                delta.clean(older_than=_KEEP_RETIRED)

    # Parts

    def _tables(self) -> list[str]:
        """The tables that decide about objects."""
        return list(dict.fromkeys([source.table.name for source in self._sources] + [QUARANTINE.name]))

    def _named(self, name: str) -> Source | None:
        if not name:
            return None
        for source in self._sources:
            if source.name == name:
                return source
        known = ", ".join(source.name for source in self._sources)
        raise NotFoundError(f"no log source {name!r}", hint=f"there is {known}")

    def _read(self, item: LogObject, source: Source | None, done: Done, reading: _Reading) -> Iterator[Part]:
        """The parts of an object; one in quarantine for an object that cannot be read."""
        now = self._clock()
        if item.identity and self._known(item.identity, item, done):
            return
        strange, known = False, ""
        try:
            if item.doubtful and not recognised(item, self._sources):
                strange = True
            else:
                with item.open() as file, Opened(item, file) as opened:
                    if not item.identity and self.knows(opened.key):
                        known = opened.key
                    else:
                        self._begin(opened.key, done, reading)
                        yield from read_parts(
                            item, opened, sources=self._sources, source=source, taken=self._taken, now=now
                        )
        except (OSError, MemoryError) as error:
            self._forget(reading.key)
            if isinstance(error, BrokenOffError) or (isinstance(error, OSError) and error.errno in _OURS):
                raise
            part = mark(item, now, unreadable(item, error))
            if not self._known(part.key, item, done, state="unreadable"):
                self._begin(part.key, done, reading)
                yield part
            return
        # Here, since what `done` raises is no fault of the object.
        if strange:
            self._totals.objects += 1
            self._totals.unrecognised += 1
            done(Outcome("unrecognised", item.location))
        elif known:
            self._known(known, item, done)

    def _known(self, key: str, item: LogObject, done: Done, *, state: OutcomeState = "skipped") -> bool:
        """Whether the object was taken already; one that was is counted as skipped."""
        pending = self._pending.get(key)
        if pending is None and key not in self._taken:
            return False
        self._totals.objects += 1
        self._totals.skipped += 1
        outcome = Outcome(state, item.location)
        if pending is None:
            done(outcome)
        else:  # it waits in the batch: its commit answers for both
            pending.again.append((done, outcome))
        return True

    def _begin(self, key: str, done: Done, reading: _Reading) -> None:
        reading.key = key
        self._pending[key] = _Pending(done)
        self._since = self._since or self._clock()

    def _forget(self, key: str) -> None:
        """Drop what the batch holds of an object; its stored parts stay, and are passed over next time."""
        self._pending.pop(key, None)
        for batch in self._batches.values():
            batch.drop(key)
        self._since = self._since if self._pending else None

    def _abandon(self) -> None:
        """Drop the batch: what of it was being made rows is lost, and is to be brought again."""
        waiting, self._batches = self._batches, {}
        self._hand_back(waiting.values())

    def _hand_back(self, batches: Iterable[Batch]) -> None:
        """What was not stored is the caller's again."""
        for part in (part for batch in batches for part in batch.parts):
            self._pending.pop(part.key, None)
        # An object of which more is to come stays in the next batch.
        self._since = self._clock() if self._pending else None

    @property
    def _waiting_records(self) -> int:
        return sum(batch.records for batch in self._batches.values())

    def _add(self, part: Part) -> None:
        name = part.source.table.name if part.source else QUARANTINE.name
        if name not in self._batches:
            self._batches[name] = Batch(self._table(name), self._phase)
        self._batches[name].add(part)
        size = sum(batch.bytes for batch in self._batches.values())
        parts = sum(len(batch.parts) for batch in self._batches.values())
        records = self._waiting_records
        are_large = size >= records * _LARGE_BYTES
        is_large = size >= (BATCH_BYTES // 2 if are_large else BATCH_BYTES)
        if records >= self._full_records or is_large or parts >= _BATCH_PARTS:
            if are_large:
                _release_memory()
            self._flush()
            self._phase("read")

    def _flush(self) -> None:
        waiting, self._batches = self._batches, {}
        told: list[tuple[Done, Outcome]] = []
        try:
            for name in list(waiting):
                try:
                    stored = self._store(name).store(waiting[name])
                except TableError as error:  # what is for other tables can be stored
                    self._failed = self._failed or error
                    continue
                parts = waiting.pop(name).parts
                told += self._settled(parts, stored)
                self._set_aside(part for part in parts if part.failure)
        except BaseException:
            self._abandon()
            raise
        finally:
            self._hand_back(waiting.values())
            for done, outcome in told:
                done(outcome)

    def _set_aside(self, parts: Iterable[Part]) -> None:
        """Let the next batch mark objects that cannot be stored in the quarantine."""
        for part in parts:
            bad = mark(part.item, self._clock(), f"cannot be stored: {part.failure}")
            self._pending[bad.key] = self._pending.pop(part.key)
            if QUARANTINE.name not in self._batches:
                self._batches[QUARANTINE.name] = Batch(self._table(QUARANTINE.name), self._phase)
            self._batches[QUARANTINE.name].add(bad)

    def _table(self, name: str) -> Table:
        table = self._lake.table(name)
        if table is None:
            raise NotFoundError(f"no table {name!r} in the lake")
        return table

    def _store(self, name: str) -> Store:
        if name not in self._stores:
            self._stores[name] = Store(
                self._lake,
                self._table(name),
                self._taken,
                clock=self._clock,
                phase=self._phase,
                worker=self._worker,
                transform=self._transforms.get(name),
            )
        return self._stores[name]

    def _settled(self, batch: list[Part], stored: list[Part]) -> Iterator[tuple[Done, Outcome]]:
        """Count what became of a table's parts; who is to be told what of the objects that are complete."""
        mine = set(map(id, stored))
        for part in (part for part in batch if not part.dropped):
            is_mine = id(part) in mine
            pending = self._pending.get(part.key)
            if is_mine:
                self._totals.add(part)
                if pending is not None:
                    pending.parts.append(part)
            if part.state == "part":
                continue
            self._totals.objects += 1
            self._totals.skipped += not is_mine
            self._totals.digests += is_mine and part.state == "digest"
            if pending is not None:
                del self._pending[part.key]
                yield pending.done, _outcome(part, pending.parts if is_mine else ())
                yield from pending.again


@dataclass
class _Reading:
    """The key under which the object being read is known, once it is."""

    key: str = ""


@dataclass
class _Pending:
    """An object in the batch: whom to tell, the parts stored so far, and who brought it again meanwhile."""

    done: Done
    parts: list[Part] = field(default_factory=list)
    again: list[tuple[Done, Outcome]] = field(default_factory=list)


@dataclass(slots=True)
class _Totals:
    """What a Summary says, counted object by object."""

    objects: int = 0
    records: int = 0
    rows: int = 0
    duplicates: int = 0
    filtered: int = 0
    quarantined: int = 0
    skipped: int = 0
    digests: int = 0
    unrecognised: int = 0

    def add(self, part: Part) -> None:
        """Count what became of a part's records."""
        self.records += part.records
        self.rows += part.rows
        self.duplicates += part.duplicates
        self.filtered += part.filtered
        self.quarantined += part.quarantined


def _outcome(last: Part, parts: Sequence[Part]) -> Outcome:
    states: dict[str, OutcomeState] = {"digest": "digest", "quarantined": "quarantined"}
    state: OutcomeState = states.get(last.state, "stored") if parts else "skipped"
    table = last.source.table.name if last.source else QUARANTINE.name
    all_of_it = _Totals()
    for part in parts:
        all_of_it.add(part)
    return Outcome(
        "unreadable" if last.key.startswith(UNREADABLE) else state,
        last.item.location,
        records=all_of_it.records,
        rows=all_of_it.rows,
        duplicates=all_of_it.duplicates,
        filtered=all_of_it.filtered,
        quarantined=all_of_it.quarantined,
        doubt=next((part.doubt for part in parts if part.doubt), ""),
        table=table if parts else "",
    )


def _keep_memory() -> None:
    """Let memory that is freed be used again: given back to the system at once, each batch pays for the same
    pages again, up to a tenth of its time. Arrow's other allocators give back large buffers whatever they are
    told. Where the environment names an allocator, that one stays."""
    import pyarrow as pa

    if "ARROW_DEFAULT_MEMORY_POOL" in os.environ or sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # no glibc
        return
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
    pa.set_memory_pool(pa.system_memory_pool())


def _release_memory() -> None:
    """Give back what batches left: compaction needs as much, in other sizes."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's cycle collector: decoding makes millions of short-lived objects and no cycles, and
    the collector's rounds take a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
