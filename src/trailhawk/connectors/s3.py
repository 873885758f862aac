"""Buckets listed and compared with the ledger: a backfill, or the way in where there is no queue.

A pass lists every key below each location, in S3's order, and takes what the ledger does not have. No cursor
decides what is new: a key that sorts before others and comes after them is found by the next pass. Within a
pass a small file remembers how far everything is settled, so that a pass that was cut off goes on there;
what came meanwhile before that place is listed once more at its end.

Where it goes on (`every_seconds`), most passes list only the folders of the last days: `.../2026/03/01/` as
AWS names them (`...2026-03-01-` for S3 access logs without folders), below the parents that the last full
pass saw.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import math
import os
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import orjson

from trailhawk.connectors import credentials
from trailhawk.connectors.config import ConnectorSettings, Location, S3Settings
from trailhawk.connectors.connector import Board, ConnectorError, Intake, State, Taker
from trailhawk.connectors.fetch import (
    BrokenReadError,
    Fetched,
    Fetcher,
    RefusedError,
    identity,
    refused_object,
    take,
)
from trailhawk.connectors.notices import Notice
from trailhawk.connectors.objects import Outcome
from trailhawk.connectors.prefetch import Prefetch
from trailhawk.connectors.retry import REFUSALS, Fault, Kind, Waits, fault_of, retried
from trailhawk.connectors.store import TableError
from trailhawk.files import in_words, write_whole

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2RequestTypeDef, ListObjectVersionsRequestTypeDef

T = TypeVar("T")

_DAY_FOLDER: Final = re.compile(
    r"(?P<parent>.*?)(?:year=)?(?P<year>20\d\d)/(?:month=)?(?P<month>\d\d)/(?:day=)?(?P<day>\d\d)/", re.DOTALL
)
# What S3 names its access logs without folders: PREFIX2026-03-01-09-30-00-0123456789ABCDEF.
_DAY_BEFORE_NAME: Final = re.compile(
    r"(?P<parent>.*?)(?P<year>20\d\d)-(?P<month>\d\d)-(?P<day>\d\d)-\d\d-\d\d-\d\d-[0-9A-Z]+", re.DOTALL
)
_FLAT: Final = "YYYY-MM-DD-"
_DAY_IN_NAME: Final = re.compile(r"[_/](?P<year>20\d\d)(?P<month>\d\d)(?P<day>\d\d)(?:[T_/.-]|$)")
_BUCKETS, _PLACES, _STORING = "buckets", "places", "storing"  # causes of problems
_MOST_DENIED: Final = 20  # refusals in a row after which the fault is not with one object
_SAVE_SECONDS: Final = 5.0
_PAGE_KEYS = 1000  # the most that S3 gives
_MOST_PARENTS: Final = 100_000
_MOST_PLACES: Final = 100_000  # several batches
_REST: Final = 10.0  # times as long as a full pass took, where it could not store all
_LISTING_ATTEMPTS: Final = 8  # some minutes
_READING_ATTEMPTS: Final = 30  # some 25 minutes


def connector(settings: ConnectorSettings, intake: Intake) -> S3Connector:
    """The connector of these settings."""
    if not isinstance(settings, S3Settings):
        raise TypeError(f"settings of type {settings.type}")
    signed_in = credentials.session(settings.access)
    client = credentials.s3_client(signed_in, settings.access, connections=settings.reading.threads + 2)
    return S3Connector(settings, intake, client)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a full pass of a location is: all keys up to `after` are settled. `parents` of day folders."""

    after: str = ""
    parents: tuple[str, ...] = ()


class _OutageError(ConnectorError):
    """No network, say, or credentials that ended: other locations cannot be had either."""


class S3Connector:
    """Takes what a listing of buckets shows and the ledger has not."""

    def __init__(self, settings: S3Settings, intake: Intake, client: S3Client) -> None:
        self._settings = settings
        self._intake = intake
        self._client = client
        self._board = Board(settings.name, settings.type, intake.clock)
        self._waits = Waits(intake.rng)
        self._denied = 0
        self._failed: TableError | None = None  # of this pass
        self._empty: set[Location] = set()  # where the last full pass found nothing

    @property
    def name(self) -> str:
        return self._settings.name

    def state(self) -> State:
        return self._board.state()

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Take what is there; with `once`, or without `every_seconds`, to the end of one full pass.

        ConnectorError for a bucket that cannot be listed or whose objects are all refused, TableError at the
        end where all was stored but what is for one table; where the connector goes on, it says so in its
        state and tries again with the next pass.
        """
        settings = self._settings
        taker = self._intake.taker(f"{self.name}@{socket.gethostname()}:{os.getpid()}")
        one_pass = once or not settings.every_seconds
        full_every = settings.full_every_seconds or math.inf
        full_since, took, rest = -math.inf, 0.0, math.inf
        try:
            while not stop.is_set():
                started = time.monotonic()
                full = started - full_since >= min(full_every, rest)
                try:
                    self._pass(taker, stop, full=full)
                    if full:
                        full_since, took, rest = started, time.monotonic() - started, math.inf
                except ConnectorError as error:
                    if one_pass:
                        raise
                    is_outage = isinstance(error, _OutageError)
                    self._board.problem(_BUCKETS if is_outage else _PLACES, error.message)
                except TableError:
                    if one_pass:
                        raise
                    # What is not stored may lie in any folder, and is read again by each full pass.
                    if full:
                        full_since, took = started, time.monotonic() - started
                    rest = took * _REST
                if one_pass:
                    return
                empty = ", ".join(str(each) for each in settings.locations if each in self._empty)
                nothing = f"; nothing lies below {empty}" if empty else ""
                self._board.doing(f"waiting for the next pass{nothing}", idle=True)
                stop.wait(max(0.0, settings.every_seconds - (time.monotonic() - started)))
        finally:
            self._board.doing("stopped")

    # A pass

    def _pass(self, taker: Taker, stop: threading.Event, *, full: bool) -> None:
        """List everything, or the recent days, and take what is new. Ends early when `stop` is set.
        At its end TableError where all was stored but what is for one table, and before that ConnectorError
        where a location cannot be had, which holds up no other."""
        self._denied = 0
        self._failed = None
        memories = {location: _Memory(self._intake.folder, location) for location in self._settings.locations}
        count = _Count()
        counting = threading.Event()
        if full:
            marks = {location: memory.read().after for location, memory in memories.items()}
            threading.Thread(target=self._count, args=(marks, count, counting), daemon=True).start()
        refused: ConnectorError | None = None
        try:
            for location, memory in memories.items():
                if stop.is_set():
                    return
                try:
                    if full:
                        self._full(taker, location, memory, count, stop)
                    else:
                        self._recent(taker, location, memory, count, stop)
                except _OutageError:
                    raise
                except ConnectorError as error:
                    refused = refused or error
                    self._denied = 0
        finally:
            counting.set()
            self._board.ahead(None, None)
        if refused is not None:
            raise refused
        self._board.over(_PLACES)
        if not self._denied:
            self._board.over(_BUCKETS)
        if self._failed is not None:
            raise self._failed
        self._board.over(_STORING)

    def _full(
        self, taker: Taker, location: Location, memory: _Memory, count: _Count, stop: threading.Event
    ) -> None:
        """A full pass of a location, from where the last one was cut off, and then what lies before that."""
        begun = memory.read().after
        found = self._take_listed(taker, location, count, stop, memory=memory)
        if begun:
            found |= self._take_listed(taker, location, count, stop, until=begun)
        if not stop.is_set():
            memory.write(dataclasses.replace(memory.read(), after=""))
            self._empty = self._empty - {location} if found else self._empty | {location}

    def _recent(
        self, taker: Taker, location: Location, memory: _Memory, count: _Count, stop: threading.Event
    ) -> None:
        """What the last days' keys begin with, and tomorrow's, where clocks are ahead."""
        today = self._intake.clock().date()
        for parent in memory.read().parents:
            for back in range(self._settings.recent_days, -2, -1):
                folder = day_folder(parent, today - dt.timedelta(days=back))
                # A location may itself name a day, or a part of one: what lies beside it is not asked for.
                inner = max(folder, location.prefix, key=len)
                if not stop.is_set() and inner.startswith(folder) and inner.startswith(location.prefix):
                    self._take_listed(taker, Location(location.bucket, inner), count, stop)

    def _take_listed(
        self,
        taker: Taker,
        location: Location,
        count: _Count,
        stop: threading.Event,
        *,
        memory: _Memory | None = None,
        until: str = "",
    ) -> bool:
        """Take what is new below a location, up to the key `until`, from where `memory` says; whether there
        is anything."""
        found = False
        settled = _Settled(memory.read() if memory else Mark())
        fetcher = Fetcher(
            self._client,
            waits=self._waits,
            stop=stop,
            attempts=_READING_ATTEMPTS,
            max_bytes=self._settings.reading.max_object_bytes,
            told=self._told,
        )
        saved = time.monotonic()
        with Prefetch[_Place](fetcher, threads=self._settings.reading.threads) as ahead:
            for notice in self._listed(location, settled.mark.after, stop):
                found = True
                if until and notice.key > until:
                    break
                place = settled.begin(notice)
                if not self._wants(notice):
                    self._board.passed_over(1)
                    place.ended = True
                elif taker.knows(identity(notice)):
                    taker.take(refused_object(notice, "taken before"), self._ender(place, None, count))
                else:
                    ahead.ask(notice, place)
                self._take_ready(taker, ahead, count, stop, wait=ahead.is_full)
                if stop.is_set():
                    break
                if taker.age >= dt.timedelta(seconds=self._settings.flush_seconds):
                    self._flush(taker)
                if time.monotonic() - saved >= _SAVE_SECONDS:
                    saved = time.monotonic()
                    self._board.ahead(count.total, count.eta())
                    mark = settled.mark
                    if memory:
                        memory.write(mark)
            while len(ahead) and not stop.is_set():
                self._take_ready(taker, ahead, count, stop, wait=True)
            self._flush(taker)
        if memory:
            memory.write(settled.mark)
        return found

    def _flush(self, taker: Taker) -> None:
        try:
            taker.flush()
        except TableError as error:  # its objects are listed again
            self._failed = error
            self._board.problem(_STORING, in_words(error))

    def _take_ready(
        self, taker: Taker, ahead: Prefetch[_Place], count: _Count, stop: threading.Event, *, wait: bool
    ) -> None:
        """Bring to the ingest what was read by now."""
        for place, notice, answer in ahead.ready(wait=wait):
            if isinstance(answer, RefusedError):
                refused: RefusedError | None = answer
            else:
                self._denied = 0
                self._board.over(_BUCKETS)
                refused = self._took(taker, answer, self._ender(place, answer, count))
            if refused is None:
                continue
            if not refused.fault.passes:
                self._refused(refused)
                taker.take(refused_object(notice, refused.reason), self._ender(place, None, count))
            elif not stop.is_set():
                raise self._error(refused.fault)(f"{self.name}: {refused}", hint="the next run goes on here")
        self._board.flight(len(ahead))

    def _took(self, taker: Taker, fetched: Fetched, done: Callable[[Outcome], None]) -> RefusedError | None:
        """Bring an object to the ingest; why its reading broke off, if it did."""
        try:
            take(taker, fetched, done, source=self._settings.source)
        except BrokenReadError as error:
            return error.refused
        return None

    def _refused(self, error: RefusedError) -> None:
        """One object that cannot be had is for the quarantine; many in a row are a fault of the set-up."""
        self._denied += error.fault.kind is Kind.DENIED
        self._board.problem(_BUCKETS, str(error))
        if self._denied >= _MOST_DENIED:
            raise ConnectorError(
                f"{self.name}: {self._denied} objects in a row are refused, the last with {error.reason}",
                hint=f"`trailhawk connectors doctor {self.name}` says what is missing",
            )

    def _wants(self, notice: Notice) -> bool:
        if notice.is_marker or not notice.key.endswith(self._settings.suffix):
            return False
        if not self._settings.since_days:
            return True
        day = day_of(notice.key)
        first = self._intake.clock().date() - dt.timedelta(days=self._settings.since_days)
        return day is None or day >= first

    def _ender(self, place: _Place, what: Fetched | None, count: _Count) -> Callable[[Outcome], None]:
        """What to do when the ledger has the object."""

        def ended(outcome: Outcome) -> None:
            place.ended = True
            count.passed += place.size
            self._board.ended(outcome, (what.notice.size or 0) if what else 0)

        return ended

    def _told(self, fault: Fault) -> None:
        self._board.problem(_BUCKETS, str(fault))

    # Listings

    def _listed(self, location: Location, after: str, stop: threading.Event) -> Iterator[Notice]:
        """Every object below a location whose key sorts behind `after`, in the order of the keys."""
        self._board.doing(f"listing {location}")
        pages = self._versions if self._settings.versions else self._newest
        return pages(location, after, stop)

    def _newest(self, location: Location, after: str, stop: threading.Event) -> Iterator[Notice]:
        asked: ListObjectsV2RequestTypeDef = {
            "Bucket": location.bucket,
            "Prefix": location.prefix,
            "MaxKeys": _PAGE_KEYS,
        }
        if after:
            asked["StartAfter"] = after
        while not stop.is_set():
            page = self._page(location, partial(self._client.list_objects_v2, **asked), stop)
            for found in page.get("Contents", []):
                etag, size = found.get("ETag", "").strip('"'), found.get("Size")
                yield Notice(location.bucket, found["Key"], etag=etag, size=size)
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _versions(self, location: Location, after: str, stop: threading.Event) -> Iterator[Notice]:
        """Every version that is kept; deletions are none."""
        asked: ListObjectVersionsRequestTypeDef = {
            "Bucket": location.bucket,
            "Prefix": location.prefix,
            "MaxKeys": _PAGE_KEYS,
        }
        if after:
            asked["KeyMarker"] = after
        while not stop.is_set():
            page = self._page(location, partial(self._client.list_object_versions, **asked), stop)
            for found in page.get("Versions", []):
                etag, size = found.get("ETag", "").strip('"'), found.get("Size")
                yield Notice(location.bucket, found["Key"], found.get("VersionId", ""), etag, size)
            if not page.get("IsTruncated"):
                return
            asked["KeyMarker"] = page["NextKeyMarker"]
            asked["VersionIdMarker"] = page["NextVersionIdMarker"]

    @staticmethod
    def _error(fault: Fault) -> type[ConnectorError]:
        return _OutageError if fault.kind in (Kind.PASSING, Kind.CREDENTIALS) else ConnectorError

    def _page(self, location: Location, ask: Callable[[], T], stop: threading.Event) -> T:
        try:
            return retried(ask, self._waits, stop, attempts=_LISTING_ATTEMPTS, told=self._told)
        except REFUSALS as error:
            fault = fault_of(error)
            raise self._error(fault)(
                f"{self.name}: {location} cannot be listed: {fault}",
                hint=f"`trailhawk connectors doctor {self.name}` says what is missing",
            ) from error

    def _count(self, marks: Mapping[Location, str], count: _Count, over: threading.Event) -> None:
        """Count what a full pass has before it, beside the pass itself; the estimate needs it."""
        objects = size = 0
        try:
            for location, after in marks.items():
                pages = self._versions if self._settings.versions else self._newest
                for notice in pages(location, after, over):
                    if self._wants(notice):
                        objects, size = objects + 1, size + (notice.size or 0)
        except ConnectorError:
            return  # the pass meets the same refusal, and says so
        if not over.is_set():
            count.bytes, count.total = size, objects


@dataclass
class _Count:
    """What a pass has before it and behind it. `total` objects of `bytes` are None until they are counted."""

    total: int | None = None
    bytes: int = 0
    passed: int = 0
    since: float = dataclasses.field(default_factory=time.monotonic)

    def eta(self) -> float | None:
        """Seconds until the end at the speed so far."""
        if self.total is None or not self.passed:
            return None
        return (time.monotonic() - self.since) / self.passed * max(0, self.bytes - self.passed)


@dataclass
class _Place:
    """A key that was listed, and whether it is settled."""

    key: str
    size: int
    ended: bool = False


class _Settled:
    """How far a listing is settled: `mark.after` is the last key before which nothing is open. Behind what is
    open for very long, as it is for a table in trouble, no more is remembered: the mark stays there."""

    def __init__(self, mark: Mark) -> None:
        self._after = mark.after
        self._parents = set(mark.parents)
        self._places: deque[_Place] = deque()
        self._stays = False

    def begin(self, notice: Notice) -> _Place:
        """A key was listed."""
        parent = day_parent(notice.key)
        if parent is not None and len(self._parents) < _MOST_PARENTS:
            self._parents.add(parent)
        place = _Place(notice.key, notice.size or 0)
        if not self._stays:
            self._places.append(place)
        if len(self._places) >= _MOST_PLACES:
            self._advance()
        if len(self._places) >= _MOST_PLACES:
            self._places.clear()
            self._stays = True
        return place

    def _advance(self) -> None:
        while self._places and self._places[0].ended:
            self._after = self._places.popleft().key

    @property
    def mark(self) -> Mark:
        self._advance()
        return Mark(self._after, tuple(sorted(self._parents)))


class _Memory:
    """A file with the mark of a location's full pass."""

    def __init__(self, folder: Path, location: Location) -> None:
        name = hashlib.sha256(str(location).encode()).hexdigest()[:32]
        self._file = folder / "passes" / f"{name}.json"

    def read(self) -> Mark:
        """The mark; that of a beginning where there is none or it is damaged: then all is listed again."""
        try:
            held = orjson.loads(self._file.read_bytes())
            return Mark(str(held["after"]), tuple(map(str, held["parents"])))
        except (FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError):
            return Mark()

    def write(self, mark: Mark) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._file, orjson.dumps({"after": mark.after, "parents": mark.parents}))


def day_of(key: str) -> dt.date | None:
    """The day that a key names, in its folders or its last part."""
    found = _DAY_FOLDER.match(key) or _DAY_BEFORE_NAME.fullmatch(key) or _DAY_IN_NAME.search(key)
    try:
        return dt.date(*(int(found[part]) for part in ("year", "month", "day"))) if found else None
    except ValueError:
        return None


def day_parent(key: str) -> str | None:
    """What stands before the folders of a day: `.../eu-west-1/`, or `.../year=` where they are named so; with
    `YYYY-MM-DD-` at its end where the day is the beginning of a name."""
    found = _DAY_FOLDER.match(key)
    if found:
        return key[: found.start("year")]
    flat = _DAY_BEFORE_NAME.fullmatch(key)
    return flat["parent"] + _FLAT if flat else None


def day_folder(parent: str, day: dt.date) -> str:
    """What all keys of a day below such a parent begin with."""
    if parent.endswith(_FLAT):
        return f"{parent.removesuffix(_FLAT)}{day}-"
    return parent + (f"{day:%Y/month=%m/day=%d/}" if parent.endswith("year=") else f"{day:%Y/%m/%d/}")
