"""What lies in quarantine taken again, after a source, a file or a right was mended."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trailhawk.connectors import archives
from trailhawk.connectors.batch import Batch
from trailhawk.connectors.folder import open_at
from trailhawk.connectors.ledger import Taken, settle
from trailhawk.connectors.marks import Marks
from trailhawk.connectors.objects import LogObject, Transform
from trailhawk.connectors.parts import UNREADABLE, Opened, Part, failure, read_parts
from trailhawk.connectors.quarantine import QUARANTINE, Quarantined, contents, quarantined
from trailhawk.connectors.store import Clock, Phase, Store, followers
from trailhawk.errors import NotFoundError
from trailhawk.lake import Lake
from trailhawk.sources import BadPart, Source, Unpacked

BATCH_RECORDS: Final = 50_000
MAX_BYTES: Final = 128 * 1024 * 1024
"""A part larger than this, unpacked, is not tried again as a whole."""

Find = Callable[[str], LogObject]
"""Finds an object by its location; OSError where it cannot be had."""


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of a part: `stored` (it left the quarantine), `bad` (as before, see `reason`), `gone` (its
    bytes cannot be had any more) or `left` (another process, or another mark of its object, was faster)."""

    id: str
    location: str
    state: str
    rows: int = 0
    duplicates: int = 0
    filtered: int = 0
    reason: str = ""


class _GoneError(Exception):
    """The bytes of a part cannot be had; the message says why."""


def retry(
    lake: Lake,
    ids: Iterable[str] | None = None,
    *,
    clock: Clock,
    sources: Sequence[Source],
    find: Find,
    transforms: Mapping[str, Transform] | None = None,
    worker: str = "",
    phase: Phase = lambda _: None,
) -> list[Retried]:
    """Take the parts of these ids (or all) again; one entry for each.

    The bytes are those kept in quarantine where they are whole, else those of the object that `find` has, if
    it is still the same. A part that gives at least one record leaves the quarantine with the commit that
    stores its rows, exactly once, and what of it is still bad comes into quarantine anew. NotFoundError for
    an id that there is not.
    """
    lake = lake.apart()
    for name in dict.fromkeys([*(source.table.name for source in sources), QUARANTINE.name]):
        settle(lake, name, followers(name))
    waiting = {part.id: part for part in quarantined(lake)}
    wanted = list(waiting) if ids is None else list(dict.fromkeys(ids))
    for part_id in wanted:
        if part_id not in waiting:
            raise NotFoundError(
                f"nothing in quarantine has the id {part_id!r}", hint="see `trailhawk quarantine list`"
            )
    taken = Taken(lake)
    taken.refresh()
    run = _Run(lake, taken, clock, phase, worker, transforms or {})
    marks = Marks((waiting[part_id].location for part_id in wanted), sources, taken)
    left = dict.fromkeys(wanted)
    for part_id, kept in contents(lake, wanted):
        if part_id not in left:
            continue
        del left[part_id]
        bad = waiting[part_id]
        try:
            part = _read(bad, kept, sources, taken, clock, find, marks)
        except _GoneError as error:
            run.told.append(Retried(bad.id, bad.location, "gone", reason=str(error)))
        except (OSError, MemoryError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else failure(error)
            run.told.append(Retried(bad.id, bad.location, "bad", reason=said))
        else:
            run.add(bad, part)
    run.flush()
    run.told += [Retried(waiting[part_id].id, waiting[part_id].location, "left") for part_id in left]
    place = {part_id: number for number, part_id in enumerate(wanted)}
    return sorted(run.told, key=lambda told: place[told.id])


class _Run:
    """The batches of a retry, and what became of the parts so far."""

    def __init__(
        self,
        lake: Lake,
        taken: Taken,
        clock: Clock,
        phase: Phase,
        worker: str,
        transforms: Mapping[str, Transform],
    ) -> None:
        self.told: list[Retried] = []
        self._lake = lake
        self._taken = taken
        self._clock = clock
        self._phase = phase
        self._worker = worker
        self._transforms = transforms
        self._batches: dict[str, Batch] = {}
        self._waiting: set[str] = set()

    def add(self, bad: Quarantined, part: Part) -> None:
        if part.source is None or (not part.texts and not part.arrived):
            reason = part.bad[0].reason if part.bad and bad.size else bad.reason
            self.told.append(Retried(bad.id, bad.location, "bad", reason=reason))
            return
        if part.identity in self._waiting:  # what is left of it is not known before that is stored
            self.told.append(Retried(bad.id, bad.location, "left"))
            return
        self._waiting.add(part.identity)
        name = part.source.table.name
        if name not in self._batches:
            self._batches[name] = Batch(part.source.table, self._phase)
        self._batches[name].add(part)
        if self._batches[name].records >= BATCH_RECORDS:
            self.flush()

    def flush(self) -> None:
        batches, self._batches, self._waiting = self._batches, {}, set()
        for name, batch in batches.items():
            table = self._lake.table(name)
            if table is None:
                raise NotFoundError(f"no table {name!r} in the lake")
            store = Store(
                self._lake,
                table,
                self._taken,
                clock=self._clock,
                phase=self._phase,
                worker=self._worker,
                transform=self._transforms.get(name),
            )
            stored = {part.released: part for part in store.store(batch)}
            self.told += [_told(part, stored.get(part.released)) for part in batch.parts]


def _told(part: Part, stored: Part | None) -> Retried:
    if stored is None and part.dropped:
        reason = part.failure or "; ".join(bad.reason for bad in part.bad[:1])
        return Retried(part.released, part.item.location, "bad", reason=reason)
    if stored is None:
        return Retried(part.released, part.item.location, "left")
    return Retried(
        part.released,
        part.item.location,
        "stored",
        rows=stored.rows,
        duplicates=stored.duplicates,
        filtered=stored.filtered,
        reason="; ".join(filter(None, (stored.doubt, *(bad.reason for bad in stored.bad[:3])))),
    )


def _read(
    bad: Quarantined,
    kept: bytes,
    sources: Sequence[Source],
    taken: Taken,
    clock: Clock,
    find: Find,
    marks: Marks,
) -> Part:
    """What lies in quarantine as one part that leaves it: the mark of an archive, that of another object, or
    records with their bytes."""
    is_mark = bad.object.startswith(UNREADABLE)
    if is_mark or archives.begins(kept):
        archive = _whole(bad, sources, clock, marks)
        if archive is not None:
            if not is_mark:
                _check(bad, marks)
            return archive
    if is_mark:
        return _arrived(bad, sources, taken, clock, find)
    return _records(bad, kept, sources, taken, clock, find)


def _records(
    bad: Quarantined, kept: bytes, sources: Sequence[Source], taken: Taken, clock: Clock, find: Find
) -> Part:
    """A part's records as today's sources read them: first that which read them then. Where it can read
    nothing, and an object begins with them, it may have taken the object by mistake."""
    item = LogObject(bad.location, lambda: io.BytesIO(_bytes(bad, kept, find)), identity=bad.object)

    def read(source: Source | None) -> Part:
        with item.open() as file, Opened(item, file) as opened:
            parts = _bounded(
                read_parts(item, opened, sources=sources, source=source, taken=_Nothing(taken), now=clock())
            )
        return dataclasses.replace(_one(parts, bad.start), state="retried", released=bad.id)

    named = next((each for each in sources if each.name == bad.source), None)
    part = read(named)
    if named is None or bad.start or len(named.rows(part.texts).bad) < len(part.texts):
        return part
    other = read(None)
    return other if other.texts else part


def _arrived(bad: Quarantined, sources: Sequence[Source], taken: Taken, clock: Clock, find: Find) -> Part:
    """An object that could not be read or stored and now can: what the ledger has not of it is taken as any
    other, and its mark goes."""
    try:
        item = find(bad.location)
        with item.open() as file, Opened(item, file) as opened:
            if opened.key in taken:  # an ingest took it meanwhile; only the mark is left
                mark = Part(bad.object, item, sources[0], 0, "", "retried", clock())
                return dataclasses.replace(mark, released=bad.id, arrived=True)
            source = next((each for each in sources if each.name == item.source), None)
            parts = _bounded(
                read_parts(item, opened, sources=sources, source=source, taken=taken, now=clock())
            )
    except OSError as error:
        raise _GoneError(f"cannot be read: {error.strerror or error}") from None
    return dataclasses.replace(_one(parts, 0), released=bad.id, arrived=True)


def _whole(bad: Quarantined, sources: Sequence[Source], clock: Clock, marks: Marks) -> Part | None:
    """The mark of an archive that was damaged, or that lies in another and was not opened before. It goes
    when the ledger has all logs of the archive. None where it is no mark of one."""
    try:
        missing = marks.missing(bad.location)
    except OSError as error:
        raise _GoneError(f"cannot be read: {error.strerror or error}") from None
    if missing is None:
        return None
    if missing:
        raise _GoneError(missing)
    item = LogObject(bad.location, lambda: open_at(bad.location))
    return Part(bad.object, item, sources[0], 0, "", "retried", clock(), released=bad.id, arrived=True)


def _bounded(parts: Iterator[Part]) -> list[Part]:
    """The parts of an object that is held as a whole, and so may not unpack to anything."""
    found: list[Part] = []
    size = 0
    for part in parts:
        found.append(part)
        size += sum(map(len, part.texts))
        if size > MAX_BYTES:
            raise _GoneError("it can be read now, but is too large for this; ingest it")
    return found


def _one(parts: Sequence[Part], start: int) -> Part:
    """Parts of an object that follow each other as one, `start` bytes into the object they come from."""
    texts: list[bytes] = []
    starts: list[int] = []
    bad: list[BadPart] = []
    for part in parts:
        texts += part.texts
        starts += [start + part.position(place) for place in range(len(part.texts))]
        bad += [dataclasses.replace(each, start=start + each.start) for each in part.bad]
    return dataclasses.replace(
        parts[-1],
        first_record=parts[0].first_record,
        texts=texts,
        position=starts.__getitem__,
        found=len(texts),
        bad=bad,
    )


class _Nothing(Taken):
    """A ledger that knows no parts: what is tried again is read whole."""

    def __init__(self, taken: Taken) -> None:
        self.__dict__.update(taken.__dict__)

    def __contains__(self, key: str) -> bool:
        return False


def _bytes(bad: Quarantined, kept: bytes, find: Find) -> bytes:
    """The uncompressed bytes of a part: those that are kept, where that is all of them."""
    if bad.size == len(kept) and bad.size:
        return kept
    if bad.size > MAX_BYTES:
        raise _GoneError(f"{bad.size:,} bytes are too many to try again at once")
    try:
        with find(bad.location).open() as file:
            content = _cut(Unpacked(file), bad.start, bad.size)
    except OSError as error:
        raise _GoneError(f"cannot be read: {error.strerror or error}") from None
    if hashlib.sha256(content).hexdigest() != bad.sha256:
        raise _GoneError("its object is another one by now")
    return content


def _check(bad: Quarantined, marks: Marks) -> None:
    """That the archive at a location is still the one of which this is the mark."""
    try:
        digest = marks.digest(bad.location)
    except OSError as error:
        raise _GoneError(f"cannot be read: {error.strerror or error}") from None
    if digest != bad.sha256:
        raise _GoneError("its object is another one by now")


def _cut(blocks: Iterable[bytes], start: int, size: int) -> bytes:
    """The bytes [start, start + size) of blocks."""
    return b"".join(_between(iter(blocks), start, start + size))


def _between(blocks: Iterator[bytes], start: int, end: int) -> Iterator[bytes]:
    at = 0
    for block in blocks:
        yield block[max(0, start - at) : max(0, end - at)]
        at += len(block)
        if at >= end:
            return
