"""From log objects to rows of the lake, exactly once: read, decode, look for duplicates, store, settle."""

from __future__ import annotations

import dataclasses
import datetime as dt
import gc
import hashlib
import io
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from trailhawk.connectors import folder
from trailhawk.connectors.ledger import INGEST, LEDGER, Taken, object_hash, part_key, settle
from trailhawk.connectors.quarantine import QUARANTINE, encode
from trailhawk.kql.schema import INGESTION_TIME, Table
from trailhawk.lake import ConflictError, Lake, Staged, Transaction
from trailhawk.lake.compaction import compact_busy_days
from trailhawk.lake.seen import Seen, repeated
from trailhawk.lake.table import BATCH, CONFLICT, ID, OBJECT, PAYLOAD, stored_schema
from trailhawk.sources import SOURCES, BadPart, Chunk, Source, Unpacked

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_RECORDS: Final = 40_000
BATCH_BYTES: Final = 48 * 1024 * 1024
_WHOLE_FILE_BYTES: Final = 16 * 1024 * 1024  # up to this a file is read once, and hashed from memory
_RECOGNISE_BYTES: Final = 64 * 1024
_KEEP_RETIRED: Final = dt.timedelta(days=1)  # far longer than any query or batch takes

Mask = NDArray[np.bool_]
Clock = Callable[[], dt.datetime]
Phase = Callable[[str], None]
"""Told what is about to be done: read, decode, write, commit, ledger, compact."""


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

    `objects` counts all that were found, with those `skipped` (taken before) and the `digests`.
    """

    objects: int
    records: int
    rows: int
    duplicates: int
    filtered: int
    quarantined: int
    skipped: int
    digests: int
    seconds: float


@dataclass
class _Part:
    """An object, or a part of a very large one, on its way into the lake; becomes one row of the ledger."""

    key: str
    location: str
    size: int
    sha256: str
    source: str
    state: str
    read_at: dt.datetime
    first_record: int = 0
    texts: Sequence[bytes] = ()
    position: Callable[[int], int] = int
    bad: list[BadPart] = field(default_factory=list)
    found: int = 0
    rows: int = 0
    duplicates: int = 0
    first_event: dt.datetime | None = None
    last_event: dt.datetime | None = None

    @property
    def identity(self) -> str:
        return part_key(self.key, self.first_record) if self.state == "part" else self.key

    @property
    def records(self) -> int:
        """Records it holds: `found` became candidates for rows, the bad ones did not."""
        return self.found + len(self.bad)


def ingest(
    lake: Lake,
    paths: Iterable[Path],
    *,
    clock: Clock,
    progress: Callable[[Progress], None] = lambda _: None,
    phase: Phase = lambda _: None,
    sources: Sequence[Source] = SOURCES,
    batch_records: int = BATCH_RECORDS,
) -> Summary:
    """Take the log files under `paths` into the lake.

    What was taken before is skipped, and what cannot be read goes into quarantine: neither stops the rest.
    UsageError for a path that does not exist. Several processes may ingest at once. A kill at any moment
    loses nothing that a later ingest of the same files does not bring, and doubles nothing. A commit holds
    about `batch_records` records.
    """
    with _no_collection():
        return _ingest(lake.apart(), paths, clock, progress, phase, sources, batch_records)


def _ingest(
    lake: Lake,
    paths: Iterable[Path],
    clock: Clock,
    progress: Callable[[Progress], None],
    phase: Phase,
    sources: Sequence[Source],
    batch_records: int,
) -> Summary:
    started = time.perf_counter()
    found = folder.files(paths, without=lake.root)
    run = _Run(lake, clock=clock, phase=phase, sources=sources, batch_records=batch_records)
    sizes = [_size(path) for path in found]
    all_bytes = sum(sizes)
    done = 0
    for index, (path, size) in enumerate(zip(found, sizes, strict=True), 1):
        run.take(path)
        done += size
        progress(Progress(index, len(found), done, all_bytes, run.records))
    run.flush()
    phase("compact")
    for name in (*(source.table.name for source in sources), LEDGER.name, QUARANTINE.name):
        if compact_busy_days(lake.delta(name), today=clock().date()):
            lake.delta(name).clean(older_than=_KEEP_RETIRED)
    return dataclasses.replace(run.summary(), objects=len(found), seconds=time.perf_counter() - started)


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


class _Run:
    """One ingest under way: the batch being filled and the counts so far."""

    def __init__(
        self, lake: Lake, *, clock: Clock, phase: Phase, sources: Sequence[Source], batch_records: int
    ) -> None:
        self._lake = lake
        self._clock = clock
        self._phase = phase
        self._sources = sources
        self._source = sources[0]
        self._taken = Taken(lake)
        self._stores: dict[str, _Store] = {}
        self._in_run: set[str] = set()
        self._batch: list[_Part] = []
        self._batch_bytes = 0
        self._batch_records = 0
        self._full_records = batch_records
        self._totals = Summary(0, 0, 0, 0, 0, 0, 0, 0, 0.0)
        phase("ledger")
        for source in sources:
            lake.delta(source.table.name).create()
            settle(lake, source.table.name, (QUARANTINE.name, LEDGER.name))
        self._taken.refresh()

    @property
    def records(self) -> int:
        return self._totals.records + self._batch_records

    def summary(self) -> Summary:
        return self._totals

    def take(self, path: Path) -> None:
        """Read one file into the batch, and store the batch when it is full."""
        self._phase("read")
        # Parts come out of a generator, so that a lake which cannot be written is not taken for a file
        # which cannot be read.
        for part in self._read(path):
            self._add(part)

    def flush(self) -> None:
        """Store the batch."""
        batch, self._batch = self._batch, []
        self._batch_bytes = self._batch_records = 0
        if not batch:
            return
        name = self._source.table.name
        if name not in self._stores:
            self._stores[name] = _Store(self._lake, self._source, self._taken, self._clock, self._phase)
        stored = self._stores[name].store(batch)
        self._count(stored, skipped=sum(part.state != "part" for part in batch) - _finished(stored))

    # Parts

    def _read(self, path: Path) -> Iterator[_Part]:
        """The parts of a file; one in quarantine for a file that cannot be read."""
        read_at = self._clock()
        try:
            with path.open("rb") as file:
                yield from self._read_open(file, path, read_at)
        except OSError as error:
            yield from self._unreadable(path, read_at, error)

    def _read_open(self, file: BufferedReader, path: Path, read_at: dt.datetime) -> Iterator[_Part]:
        size = path.stat().st_size
        if size <= _WHOLE_FILE_BYTES:
            content = file.read()
            size = len(content)
            sha256 = hashlib.sha256(content).hexdigest()
            stream: BinaryIO = io.BytesIO(content)
        else:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            stream = file
        key = f"sha256:{sha256}"
        if self._is_new(key):
            yield from self._parts(
                _Part(key, str(path), size, sha256, "", "stored", read_at), Unpacked(stream)
            )

    def _is_new(self, key: str) -> bool:
        """Whether the object was not taken yet; one that was is counted as skipped."""
        if key in self._in_run or key in self._taken:
            self._count((), skipped=1)
            return False
        self._in_run.add(key)
        return True

    def _parts(self, head: _Part, unpacked: Unpacked) -> Iterator[_Part]:
        """The parts of an object; all but the last have the state `part`."""
        blocks = _Counted(iter(unpacked))
        first = next(blocks, b"")
        source = self._recognise(head.location, first[:_RECOGNISE_BYTES])
        if source is None:
            reason = unpacked.fault or ("not a log of a known kind" if first.strip() else "empty file")
            yield dataclasses.replace(head, state="quarantined", bad=[_all(first, blocks, reason)])
            return
        head = dataclasses.replace(head, source=source.name)
        if source.is_digest(first[:_RECOGNISE_BYTES]):
            yield dataclasses.replace(head, state="digest")
            return
        stored = self._taken.records_of_parts(head.key) if part_key(head.key, 0) in self._taken else 0
        position = 0
        waiting: _Part | None = None
        for chunk in source.chunks(chain((first,), blocks)):
            if waiting is not None and position > stored:
                yield dataclasses.replace(waiting, state="part")
            waiting = _part(head, chunk, position)
            position += waiting.records
        last = waiting or head
        if unpacked.fault:
            last = dataclasses.replace(last, bad=_with_fault(last.bad, blocks.size, unpacked.fault))
        yield last

    def _recognise(self, location: str, head: bytes) -> Source | None:
        return next((source for source in self._sources if source.recognises(location, head)), None)

    def _unreadable(self, path: Path, read_at: dt.datetime, error: OSError) -> Iterator[_Part]:
        key = f"unreadable:{hashlib.sha256(f'{path.absolute()}:{_stamp(path)}'.encode()).hexdigest()}"
        if self._is_new(key):
            bad = BadPart(0, 0, "", b"", f"cannot be read: {error.strerror or error}")
            yield _Part(key, str(path), 0, "", "", "quarantined", read_at, bad=[bad])

    def _add(self, part: _Part) -> None:
        self._batch.append(part)
        self._batch_records += part.records
        self._batch_bytes += sum(map(len, part.texts))
        if self._batch_records >= self._full_records or self._batch_bytes >= BATCH_BYTES:
            self.flush()

    def _count(self, stored: Iterable[_Part], *, skipped: int) -> None:
        totals = self._totals
        for part in stored:
            totals = dataclasses.replace(
                totals,
                records=totals.records + part.records,
                rows=totals.rows + part.rows,
                duplicates=totals.duplicates + part.duplicates,
                quarantined=totals.quarantined + len(part.bad),
                digests=totals.digests + (part.state == "digest"),
            )
        self._totals = dataclasses.replace(totals, skipped=totals.skipped + skipped)


@dataclass(frozen=True)
class _Plan:
    """What of a batch to store: whole parts, and of their rows those that are new."""

    parts: tuple[int, ...]
    keep: Mask
    conflict: Mask

    def same(self, other: _Plan) -> bool:
        return (
            self.parts == other.parts
            and np.array_equal(self.keep, other.keep)
            and np.array_equal(self.conflict, other.conflict)
        )


class _Store:
    """Stores batches of one source's parts in its table."""

    def __init__(self, lake: Lake, source: Source, taken: Taken, clock: Clock, phase: Phase) -> None:
        self._lake = lake
        self._source = source
        self._data = lake.delta(source.table.name)
        self._seen = Seen(self._data)
        self._taken = taken
        self._clock = clock
        self._phase = phase

    def store(self, batch: list[_Part]) -> list[_Part]:
        """Commit a batch; the parts that this process stored (others may have been faster with some)."""
        self._phase("decode")
        rows, owner = self._decode(batch)
        followers = (QUARANTINE.name, LEDGER.name)
        staged: _Staging | None = None
        while True:
            # The ledger is brought up to the data table's version from which this commit is prepared, so
            # that an object and a row can only be missed if the commit itself fails and is tried again.
            settle(self._lake, self._source.table.name, followers)
            self._taken.refresh()
            plan = self._plan(batch, rows, owner)
            if not plan.parts:
                if staged is not None:
                    staged.discard()
                return []
            if staged is None or not staged.plan.same(plan):
                if staged is not None:
                    staged.discard()
                self._phase("write")
                staged = self._stage(batch, rows, owner, plan)
            self._phase("commit")
            try:
                self._data.commit(
                    staged.rows,
                    transaction=Transaction(INGEST, self._data.transaction(INGEST) + 1),
                    note={"batch": staged.batch, "follow": staged.note},
                )
                break
            except ConflictError:
                continue
        self._phase("ledger")
        settle(self._lake, self._source.table.name, followers)
        return staged.parts

    def _decode(self, batch: list[_Part]) -> tuple[pa.Table, NDArray[np.int64]]:
        """The rows of a batch, and for each the place of its part. Bad records move to their part's `bad`."""
        texts = [text for part in batch for text in part.texts]
        owners = np.repeat(np.arange(len(batch)), [len(part.texts) for part in batch])
        starts = np.cumsum([0, *(len(part.texts) for part in batch)])
        made = self._source.rows(texts)
        for index, reason in made.bad:
            part = batch[owners[index]]
            at = part.position(index - int(starts[owners[index]]))
            part.bad.append(BadPart.of(texts[index], at, reason))
            part.found -= 1
        for part in batch:
            part.texts, part.position = (), int
        return made.table, owners[np.asarray(made.kept, np.int64)]

    def _plan(self, batch: list[_Part], rows: pa.Table, owner: NDArray[np.int64]) -> _Plan:
        """Against the state last looked at: parts not taken yet, rows not stored yet."""
        parts = tuple(
            place
            for place, part in enumerate(batch)
            if part.key not in self._taken and part.identity not in self._taken
        )
        keep = np.isin(owner, parts)
        conflict = np.zeros(len(owner), bool)
        known = rows[ID].is_valid().to_numpy(zero_copy_only=False) & keep
        ids = rows[ID].fill_null(0).to_numpy()
        payloads = rows[PAYLOAD].to_numpy()
        days = rows[self._source.table.time_column].to_numpy().astype("datetime64[D]")
        places = np.flatnonzero(known)
        again, differs = repeated(ids[places], payloads[places])
        keep[places[again]] = False
        conflict[places[differs]] = True
        for day in np.unique(days[places]):
            here = places[days[places] == day]
            stored, differs = self._seen.compare(day.item(), ids[here], payloads[here])
            keep[here[stored]] = False
            conflict[here[differs]] = True
        return _Plan(parts, keep, conflict & keep)

    def _stage(self, batch: list[_Part], rows: pa.Table, owner: NDArray[np.int64], plan: _Plan) -> _Staging:
        batch_id, now = uuid.uuid4().hex, self._clock()
        parts = [dataclasses.replace(batch[place]) for place in plan.parts]
        _count_rows(parts, plan, rows[self._source.table.time_column].to_numpy(), owner)
        table = _with_hidden(rows, self._source.table, batch, owner, plan, batch_id, now)
        ledger, quarantine = self._lake.delta(LEDGER.name), self._lake.delta(QUARANTINE.name)
        name = self._source.table.name
        ledger_rows = _ledger_rows(parts, name, batch_id, now)
        quarantine_rows = _quarantine_rows(parts, batch_id, now)
        return _Staging(
            plan=plan,
            parts=parts,
            batch=batch_id,
            lake=self._lake,
            table=name,
            rows=self._data.stage(table),
            follow={
                QUARANTINE.name: quarantine.stage(quarantine_rows),
                LEDGER.name: ledger.stage(ledger_rows),
            },
        )


@dataclass(frozen=True)
class _Staging:
    """A batch's written files, waiting for their commit."""

    plan: _Plan
    parts: list[_Part]
    batch: str
    lake: Lake
    table: str
    rows: tuple[Staged, ...]
    follow: dict[str, tuple[Staged, ...]]

    @property
    def note(self) -> dict[str, list[dict[str, object]]]:
        return {name: [file.to_json() for file in files] for name, files in self.follow.items()}

    def discard(self) -> None:
        self.lake.delta(self.table).discard(self.rows)
        for name, files in self.follow.items():
            self.lake.delta(name).discard(files)


class _Counted:
    """Blocks, with the sum of their sizes so far."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.size = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = next(self._blocks)
        self.size += len(block)
        return block


def _part(head: _Part, chunk: Chunk, first_record: int) -> _Part:
    return dataclasses.replace(
        head,
        first_record=first_record,
        texts=chunk.records,
        position=chunk.position,
        bad=list(chunk.bad),
        found=len(chunk.records),
    )


def _all(first: bytes, rest: Iterator[bytes], reason: str) -> BadPart:
    """A whole object as a bad part."""
    digest = hashlib.sha256(first)
    size = len(first)
    for block in rest:
        digest.update(block)
        size += len(block)
    return dataclasses.replace(BadPart.of(first, 0, reason), size=size, sha256=digest.hexdigest())


def _with_fault(bad: list[BadPart], size: int, fault: str) -> list[BadPart]:
    """The bad parts of an object whose bytes end too early; the last one (perhaps empty) says why."""
    if bad and bad[-1].start + bad[-1].size >= size:
        return [*bad[:-1], dataclasses.replace(bad[-1], reason=f"{fault}; {bad[-1].reason}")]
    return [*bad, BadPart.of(b"", size, fault)]


def _finished(parts: Iterable[_Part]) -> int:
    return sum(part.state != "part" for part in parts)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _stamp(path: Path) -> str:
    """What changes when a file that could not be read is mended."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_mode}"


def _count_rows(
    parts: list[_Part], plan: _Plan, times: NDArray[np.datetime64], owner: NDArray[np.int64]
) -> None:
    """Write rows, duplicates and the range of event times into the parts of a plan."""
    for place, part in zip(plan.parts, parts, strict=True):
        low, high = np.searchsorted(owner, place, "left"), np.searchsorted(owner, place, "right")
        kept = times[low:high][plan.keep[low:high]]
        part.rows, part.duplicates = len(kept), int(high - low) - len(kept)
        if len(kept):
            part.first_event, part.last_event = kept.min().item(), kept.max().item()


def _with_hidden(
    rows: pa.Table,
    table: Table,
    batch: list[_Part],
    owner: NDArray[np.int64],
    plan: _Plan,
    batch_id: str,
    now: dt.datetime,
) -> pa.Table:
    """The kept rows with their hidden columns, in stored order."""
    import pyarrow as pa

    if not plan.keep.all():
        rows = rows.filter(pa.array(plan.keep))
    objects = pa.array([part.key for part in batch], pa.string())
    hidden = {
        INGESTION_TIME: pa.repeat(pa.scalar(_naive(now), pa.timestamp("us")), rows.num_rows),
        OBJECT: objects.take(pa.array(owner[plan.keep])),
        BATCH: pa.repeat(pa.scalar(batch_id), rows.num_rows),
        CONFLICT: pa.array(plan.conflict[plan.keep]),
    }
    for name, values in hidden.items():
        rows = rows.append_column(name, values)
    schema = stored_schema(table)
    return rows.select(schema.names).cast(schema)


def _ledger_rows(parts: Iterable[_Part], table: str, batch_id: str, now: dt.datetime) -> pa.Table:
    def row(part: _Part) -> dict[str, object]:
        identity, payload = object_hash(part.identity)
        return {
            "TimeGenerated": _naive(now),
            "Object": part.key,
            "Location": part.location,
            "Bucket": "",
            "Key": "",
            "Version": "",
            "Size": part.size,
            "Sha256": part.sha256,
            "Source": part.source,
            "TargetTable": table,
            "State": part.state,
            "FirstRecord": part.first_record,
            "Records": part.records,
            "Rows": part.rows,
            "Duplicates": part.duplicates,
            "Filtered": 0,
            "Quarantined": len(part.bad),
            "FirstEvent": part.first_event,
            "LastEvent": part.last_event,
            "ReadTime": _naive(part.read_at),
            "Batch": batch_id,
            **_hidden(part, batch_id, now),
            ID: identity,
            PAYLOAD: payload,
        }

    import pyarrow as pa

    return pa.Table.from_pylist([row(part) for part in parts], stored_schema(LEDGER))


def _quarantine_rows(parts: Iterable[_Part], batch_id: str, now: dt.datetime) -> pa.Table:
    def row(part: _Part, bad: BadPart) -> dict[str, object]:
        content, encoding = encode(bad.head)
        place = f"{part.key}:{bad.start}:{bad.size}:{bad.reason}"
        return {
            "TimeGenerated": _naive(now),
            "Id": hashlib.sha256(place.encode()).hexdigest()[:12],
            "Reason": bad.reason,
            "Location": part.location,
            "Object": part.key,
            "Source": part.source,
            "FirstByte": bad.start,
            "Size": bad.size,
            "Sha256": bad.sha256,
            "Content": content,
            "Encoding": encoding,
            "Batch": batch_id,
            **_hidden(part, batch_id, now),
        }

    import pyarrow as pa

    rows = [row(part, bad) for part in parts for bad in part.bad]
    return pa.Table.from_pylist(rows, stored_schema(QUARANTINE))


def _hidden(part: _Part, batch_id: str, now: dt.datetime) -> dict[str, object]:
    return {INGESTION_TIME: _naive(now), OBJECT: part.key, BATCH: batch_id, CONFLICT: False}


def _naive(moment: dt.datetime) -> dt.datetime:
    """An aware time as stored: UTC without zone."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None)
