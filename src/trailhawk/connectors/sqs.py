"""A queue with notices of new objects, as Sentinel's S3 connector reads it: notice, object, commit, delete.

A message stays invisible while its objects are on their way (a thread extends it) and is deleted only when
the ledger has all of them. A worker that dies leaves its messages to the next; what was stored by then is
found in the ledger. Objects are told from one another by bucket, key and etag, so that a notice delivered
twice, out of order, or beside a listing of the bucket stores nothing twice.

What cannot be had: deleted meanwhile, it is set down in the quarantine and its message deleted. Access
denied, it is tried again with growing waits, `tries` times in all, then set aside likewise. Throttling, a
broken network or credentials that ended are no fault of the object: it is waited for. Its message is held
meanwhile, for about an hour, so that it does not count as received once more for that; only where others were
read in that hour does it count as a refusal of the object's own, credentials never.
Where access is denied to one object after the other, and to none is it given between or since the process
began, a policy or a revoked session is at fault rather than the objects: they are tried for some hours.
An object that ends the worker itself (the machine's memory) shows by its message coming back: then a small
file remembers each try until it ends well, and one that did not is tried alone, and set aside at last. A
lake or a state database that cannot be reached, or a full disk, is no try: messages are held until it is
over, since each that came again would count as received once more, up to the queue's dead letters. Where one
table's log is damaged or its filter cannot run, what is for that table is given back, and others pass.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar
from urllib.parse import urlsplit

from trailhawk.connectors import credentials
from trailhawk.connectors.config import ConnectorSettings, SqsSettings
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
from trailhawk.connectors.notices import Message as Said
from trailhawk.connectors.notices import Notice, read
from trailhawk.connectors.objects import LogObject, Outcome
from trailhawk.connectors.prefetch import Prefetch
from trailhawk.connectors.retry import REFUSALS, Fault, Kind, Waits, fault_of, retried
from trailhawk.connectors.store import TableError
from trailhawk.errors import LakeError, StateError
from trailhawk.files import in_words, write_whole

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

T = TypeVar("T")

_GROUP: Final = 10  # messages a request takes at most
_POLL_SECONDS = 5
_BUSY_POLL_SECONDS = 1  # while a batch waits; 0 would ask only some of the queue's servers
_LONGEST_RELEASE: Final = 900.0
_DENIED_IN_A_ROW: Final = 3
_REFUSED, _ALL_DENIED, _TRIED = _COUNTED = ("refused", "denied", "tries")  # folders of _Tries
_KEPT: Final = timedelta(days=14)  # the longest that a queue keeps a message
_FORGET_SECONDS = 86_400.0
_MOST_WAITS: Final = 10  # for a refusal to pass, in one receipt of a message: about an hour
_MISSED_SECONDS: Final = 1200.0  # longer than until a message that was given back comes again
PATIENCE: Final = 10
"""Times `tries`, while access is denied to all."""
_MANY_OUTSIDE: Final = 10  # after so many of them it is told that nothing fits
# Causes of problems.
_QUEUE, _OBJECTS, _MISSED, _MESSAGES, _STORING = "queue", "objects", "missed", "messages", "storing"
_OUTSIDE: Final = "outside"
_STORED: Final = ("stored", "digest", "quarantined")
"""What is told of an object only once a commit holds it; of one that was known it is told at any time."""


@dataclass
class _Message:
    """A message in flight: what it tells of that the ledger does not have yet is `open`, and of that `left`
    is on its way, `brought` to the ingest and not stored, and `refused` what is asked for when the message
    comes back, not before, so that an outage of ours uses up no tries. `kept`: not to be deleted. `passing`:
    a refusal of it will pass, for which it has waited so many times (`waits`). `reads`: how many objects had
    been read when it came."""

    id: str
    receipt: str
    receives: int
    body: str
    reads: int
    said: Said
    open: list[Notice | str]
    refused: list[Notice] = field(default_factory=list)
    left: int = 0
    brought: int = 0
    kept: bool = False
    waits: int = 0
    passing: bool = False


def connector(settings: ConnectorSettings, intake: Intake) -> SqsConnector:
    """The connector of these settings."""
    if not isinstance(settings, SqsSettings):
        raise TypeError(f"settings of type {settings.type}")
    access = settings.access
    signed_in = credentials.session(access)
    return SqsConnector(
        settings,
        intake,
        sqs=credentials.sqs_client(signed_in, access, region=queue_region(settings)),
        fetcher=lambda waits, stop, told, attempts: Fetcher(
            credentials.s3_client(signed_in, access, connections=settings.reading.threads),
            waits=waits,
            stop=stop,
            attempts=attempts,
            max_bytes=settings.reading.max_object_bytes,
            told=told,
        ),
    )


def queue_region(settings: SqsSettings) -> str:
    """The region in a queue's address; that of the settings where the address has none."""
    host = (urlsplit(settings.queue_url).hostname or "").split(".")
    for service in ("sqs", "sqs-fips"):
        if service in host[:-2]:  # sqs.REGION.amazonaws.com, also behind an endpoint of a private network
            return host[host.index(service) + 1]
    if host[1:2] == ["queue"]:  # REGION.queue.amazonaws.com, as old addresses have it
        return host[0]
    return settings.access.region


MakeFetcher = Callable[[Waits, threading.Event, Callable[[Fault], None], int], Fetcher]


class SqsConnector:
    """Takes the objects that a queue tells of. Any number may read one queue."""

    def __init__(
        self, settings: SqsSettings, intake: Intake, *, sqs: SQSClient, fetcher: MakeFetcher
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._sqs = sqs
        self._make_fetcher = fetcher
        self._board = Board(settings.name, settings.type, intake.clock)
        self._waits = Waits(intake.rng)
        self._held: dict[str, _Message] = {}
        self._lock = threading.Lock()  # the heartbeat reads what is held
        self._settled: list[_Message] = []
        self._reads = 0  # objects that this process was given access to
        self._denied: set[str] = set()  # the first since an object was read last
        self._watched: list[_Tries] = []
        self._failures = 0  # of storing, since a batch was stored last
        self._waiting: list[tuple[float, _Message]] = []  # for refusals to pass, and until when
        # Objects that were refused: until when it is told, and what.
        self._missed: dict[str, tuple[float, str]] = {}
        self._once = False
        self._forgets_at = 0.0
        self._outside = 0  # objects that were passed over before one fitted
        self._fitted = _Fitted(intake.folder / "fitted", settings)

    @property
    def name(self) -> str:
        return self._settings.name

    def state(self) -> State:
        return self._board.state()

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Take objects until `stop`; with `once` until the queue gives nothing more.

        With `once` only: ConnectorError for a queue that cannot be read, and what storing raises.
        """
        self._once = once
        taker = self._intake.taker(f"{self.name}@{socket.gethostname()}:{os.getpid()}")
        ended = threading.Event()
        heart = threading.Thread(target=self._beat, args=(ended,), name=f"{self.name} heartbeat", daemon=True)
        heart.start()
        attempts = 12 if once else 3  # otherwise messages wait, and no thread for long
        fetcher = self._make_fetcher(self._waits, stop, partial(self._told, _OBJECTS), attempts)
        try:
            while not self._run(taker, fetcher, stop, once=once):
                if stop.wait(self._waits.wait(self._failures)):
                    return
                self._failures += 1
        finally:
            ended.set()
            heart.join()
            self._release(list(self._held.values()), 0, ended)
            self._board.doing("stopped")

    def _run(self, taker: Taker, fetcher: Fetcher, stop: threading.Event, *, once: bool) -> bool:
        """Take objects, those of messages that are held already first, until all is said of `run`; False
        where they cannot be stored now."""
        try:
            with Prefetch[_Message](fetcher, threads=self._settings.reading.threads) as ahead:
                waiting = {message.id for _, message in self._waiting}
                for message in [each for each in self._held.values() if each.id not in waiting]:
                    self._begin(message, taker, ahead)
                self._loop(taker, ahead, stop, once=once)
            taker.flush()
            self._delete(stop)
        except (StateError, LakeError, OSError) as error:
            # What is stored in cannot be reached or is full, or one table cannot: no object has done this.
            for tried in self._watched:
                with suppress(OSError):  # of one whose file cannot be had the try counts; the cause is told
                    tried.take_back()
            if once:
                raise
            if isinstance(error, TableError):
                self._board.problem(_of(error.table), in_words(error))
                self._let_others_pass()
            else:
                self._board.problem(_STORING, in_words(error))
            self._delete(stop)
            return False
        finally:
            self._watched.clear()
        return True

    def _loop(self, taker: Taker, ahead: Prefetch[_Message], stop: threading.Event, *, once: bool) -> None:
        while not stop.is_set():
            if time.monotonic() >= self._forgets_at:
                self._forgets_at = time.monotonic() + _FORGET_SECONDS
                self._forget_tries()
            idle = not self._receive(taker, ahead, stop, once=once)
            self._had()
            self._ask_again(taker, ahead)
            if stop.is_set():
                return
            for message, notice, answer in ahead.ready(wait=ahead.is_full):
                idle = False
                self._take(taker, message, notice, answer)
                self._delete(stop)
            idle = idle and not len(ahead)
            if idle or taker.age >= timedelta(seconds=self._settings.flush_seconds):
                waits = bool(taker.age)
                taker.flush()
                if waits:  # also where others were faster with all of it
                    self._has_stored()
            self._delete(stop)
            if once and idle and not self._held:
                return

    # Messages in

    def _receive(self, taker: Taker, ahead: Prefetch[_Message], stop: threading.Event, *, once: bool) -> int:
        """Ask for messages and begin to read their objects; how many came."""
        if ahead.is_full or len(self._held) >= self._settings.max_in_flight:
            return 0
        busy = bool(self._held)
        self._board.doing("taking objects" if busy else "waiting for messages", idle=not busy)
        attempt = 0
        while True:
            try:
                messages = self._ask(_BUSY_POLL_SECONDS if busy or once else _POLL_SECONDS)
                break
            except REFUSALS as error:
                fault = fault_of(error)
                if once and fault.kind is not Kind.PASSING:
                    raise ConnectorError(
                        f"{self.name}: the queue cannot be read: {fault}",
                        hint=f"`trailhawk connectors doctor {self.name}` says what is missing",
                    ) from error
                self._told(_QUEUE, fault)
                attempt += 1
                if stop.wait(fault.after + self._waits.wait(attempt)):
                    return 0
        self._board.over(_QUEUE)
        for message in messages:
            self._open(message, taker, ahead)
        self._board.flight(sum(held.left for held in self._held.values()))
        return len(messages)

    def _ask(self, wait: int) -> Sequence[MessageTypeDef]:
        answer = self._sqs.receive_message(
            QueueUrl=self._settings.queue_url,
            MaxNumberOfMessages=_GROUP,
            WaitTimeSeconds=wait,
            VisibilityTimeout=self._settings.visibility_seconds,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return answer.get("Messages", [])

    def _open(self, given: MessageTypeDef, taker: Taker, ahead: Prefetch[_Message]) -> None:
        """Begin with a message that came."""
        body = given.get("Body", "")
        said = read(body)
        message = _Message(
            id=given["MessageId"],
            receipt=given["ReceiptHandle"],
            receives=int(given.get("Attributes", {}).get("ApproximateReceiveCount", "1")),
            body=body,
            reads=self._reads,
            said=said,
            open=[*(said.faults if self._sets_aside else ()), *filter(self._wants, said.notices)],
        )
        with self._lock:
            if again := self._held.get(message.id):
                again.receipt = message.receipt  # only the newest handle deletes
                return
            self._held[message.id] = message
        self._pass_over([notice for notice in said.notices if not self._wants(notice)], of=len(said.notices))
        self._begin(message, taker, ahead)

    def _pass_over(self, notices: Sequence[Notice], *, of: int) -> None:
        """Count what is not wanted, and tell where nothing was wanted ever: the section may be mistyped."""
        self._board.passed_over(len(notices))
        if len(notices) < of and not self._fitted.is_told:
            self._fitted.tell()
        if self._fitted.is_told:
            self._board.over(_OUTSIDE)
            return
        outside = [notice.location for notice in notices if not notice.is_marker]
        self._outside += len(outside)
        if outside and self._outside >= _MANY_OUTSIDE:
            self._board.problem(
                _OUTSIDE,
                f"none of the {self._outside:,} objects that the queue told of fits {self._fitted.filter},"
                f" the last is {outside[-1]}; their messages are deleted",
            )

    def _begin(self, message: _Message, taker: Taker, ahead: Prefetch[_Message]) -> None:
        """Ask for the objects that a message tells of, once more for those that could not be stored."""
        is_misread = bool(message.said.faults) and not self._sets_aside  # left to the redrive policy
        message.kept = is_misread or bool(message.refused)
        asked = [what for what in message.open if what not in message.refused]
        message.left, message.brought, message.passing = len(asked), 0, False
        for what in asked:
            if isinstance(what, str):
                taker.take(self._misread(message, what), self._ender(message, what))
            elif taker.knows(identity(what)):
                taker.take(refused_object(what, "taken before"), self._ender(message, what))
            else:
                ahead.ask(what, message)
        if not asked:
            self._settle(message)

    def _ask_again(self, taker: Taker, ahead: Prefetch[_Message]) -> None:
        """Ask for the objects that have waited for a refusal to pass."""
        now = time.monotonic()
        due = [message for until, message in self._waiting if until <= now]
        self._waiting = [each for each in self._waiting if each[0] > now]
        for message in due:
            self._begin(message, taker, ahead)

    def _wants(self, notice: Notice) -> bool:
        settings = self._settings
        return (
            not notice.is_marker
            and (not settings.buckets or notice.bucket in settings.buckets)
            and (not settings.prefixes or notice.key.startswith(settings.prefixes))
            and notice.key.endswith(settings.suffix)
        )

    @property
    def _sets_aside(self) -> bool:
        return self._settings.on_poison == "set-aside"

    def _misread(self, message: _Message, fault: str) -> LogObject:
        """A message that could not be understood, for the quarantine."""
        queue = self._settings.queue_url.rpartition("/")[2]
        begin = message.body[:1000]
        reason = f"a message that is no notice of objects: {fault}; it begins with {begin!r}"

        def refuse() -> BinaryIO:
            raise OSError(reason)

        return LogObject(location=f"sqs://{queue}/{message.id}", open=refuse, stamp=fault)

    # Objects

    def _take(self, taker: Taker, message: _Message, notice: Notice, answer: Fetched | RefusedError) -> None:
        """Bring an object to the ingest, or say that it cannot be had."""
        if isinstance(answer, RefusedError):
            self._refused(taker, message, notice, answer)
            return
        self._board.over(_OBJECTS)
        self._reads += 1
        self._denied.clear()
        try:
            if message.receives > self._settings.tries:
                self._take_watched(taker, message, notice, answer)
            else:
                done = self._ender(message, notice, answer)
                take(taker, answer, done, source=self._settings.source)
        except BrokenReadError as error:
            message.brought -= 1
            self._refused(taker, message, notice, error.refused)

    def _refused(self, taker: Taker, message: _Message, notice: Notice, error: RefusedError) -> None:
        kind = error.fault.kind
        if kind is Kind.DENIED and len(self._denied) < _DENIED_IN_A_ROW:
            self._denied.add(notice.location)
        never = kind is Kind.PASSING and message.waits == _MOST_WAITS and self._reads > message.reads
        if never or not error.fault.passes:
            may_be_all = not self._reads or len(self._denied) == _DENIED_IN_A_ROW
            for_all = kind is Kind.DENIED and may_be_all
            tries = self._settings.tries * (PATIENCE if for_all else 1)
            refusals = self._refusals(notice, for_all=for_all)
            if kind is Kind.GONE or (self._sets_aside and refusals.begin() >= tries):
                taker.take(refused_object(notice, error.reason), self._ender(message, notice))
                return
        elif kind is not Kind.SETUP:
            self._miss(notice, error)
            message.passing = True
            self._end(message)
            return
        # It comes back after a wait, and the others of its message with it; those will be known by then.
        self._miss(notice, error)
        message.refused.append(notice)
        message.kept = True
        self._end(message)

    def _miss(self, notice: Notice, error: RefusedError) -> None:
        """Tell that an object cannot be had, until it can: others that can say nothing of it."""
        said = f"{notice.location}: {error.reason}"
        self._missed.pop(notice.location, None)  # the newest is the last
        self._missed[notice.location] = (time.monotonic() + _MISSED_SECONDS, said)
        self._board.problem(_MISSED, said)

    def _had(self, location: str = "") -> None:
        """An object is not missed any more, nor are those whose messages did not come again: another worker
        has them, or the dead letters."""
        gone = self._missed.pop(location, None)
        while self._missed and next(iter(self._missed.values()))[0] <= time.monotonic():
            gone = self._missed.pop(next(iter(self._missed)))
        if gone and self._missed:
            self._board.problem(_MISSED, next(reversed(self._missed.values()))[1])
        elif gone:
            self._board.over(_MISSED)

    def _forget_tries(self) -> None:
        """Of objects whose messages are gone: other workers had them, or the dead letters."""
        oldest = (self._intake.clock() - _KEPT).timestamp()
        for file in (path for name in _COUNTED for path in (self._intake.folder / name).glob("*")):
            with suppress(FileNotFoundError):  # where another process ends it meanwhile
                if file.stat().st_mtime < oldest:
                    file.unlink()

    def _refusals(self, notice: Notice, *, for_all: bool) -> _Tries:
        """How often an object was refused, alone or as all were; how often its message came says nothing of
        that."""
        return _Tries(self._intake.folder / (_ALL_DENIED if for_all else _REFUSED), notice.location)

    def _take_watched(self, taker: Taker, message: _Message, notice: Notice, answer: Fetched) -> None:
        """Take an object whose message came back too often: the object may be why workers end."""
        tried = _Tries(self._intake.folder / _TRIED, identity(answer.notice))
        if self._sets_aside and tried.count >= self._settings.tries:
            answer.file.close()
            reason = f"taking it did not end well {tried.count} times: it may take more memory than there is"
            taker.take(refused_object(answer.notice, reason), self._ender(message, notice, tried=tried))
            return
        alone = tried.count > 0
        if alone:
            taker.flush()  # so that it harms no other
        tried.begin()
        self._watched.append(tried)
        try:
            done = self._ender(message, notice, answer, tried=tried)
            take(taker, answer, done, source=self._settings.source)
        except BrokenReadError:
            self._watched.remove(tried)
            tried.take_back()
            raise
        if alone:
            taker.flush()

    def _ender(
        self,
        message: _Message,
        what: Notice | str,
        fetched: Fetched | None = None,
        *,
        tried: _Tries | None = None,
    ) -> Callable[[Outcome], None]:
        """What to do when the ledger has what the message tells of."""

        message.brought += 1

        def ended(outcome: Outcome) -> None:
            message.brought -= 1
            message.open.remove(what)
            if isinstance(what, Notice):
                self._had(what.location)
                for for_all in (False, True):
                    self._refusals(what, for_all=for_all).end()
            if tried is not None:
                tried.end()
                self._watched = [each for each in self._watched if each is not tried]
            if outcome.state in _STORED:
                self._has_stored()
            self._board.over(_of(outcome.table))
            self._board.ended(outcome, (fetched.notice.size or 0) if fetched else 0)
            self._end(message)

        return ended

    def _let_others_pass(self) -> None:
        """Give back what was brought and is not stored: it may be a day until it can be, and held it would
        leave no room for what is for other tables."""
        self._failures = 0
        for message in self._held.values():
            if message.brought:
                message.kept = True
                self._settle(message)

    def _has_stored(self) -> None:
        self._failures = 0
        self._board.over(_STORING)

    def _end(self, message: _Message) -> None:
        message.left -= 1
        if message.left:
            return
        has_room = len(self._waiting) < self._settings.max_in_flight // 2
        if message.passing and not self._once and has_room and message.waits < _MOST_WAITS:
            self._waiting.append((time.monotonic() + self._pause(message.waits), message))
            message.waits += 1
            return
        message.kept = message.kept or message.passing
        self._settle(message)

    def _pause(self, times: int) -> float:
        """Seconds until an object is asked for again, after it was so many times before."""
        return Waits(self._intake.rng, first=30.0, longest=_LONGEST_RELEASE).wait(times)

    # Messages out

    def _settle(self, message: _Message) -> None:
        self._settled.append(message)

    def _delete(self, stop: threading.Event) -> None:
        """Delete the messages whose objects the ledger has; give back those that are to come again."""
        settled, self._settled = self._settled, []
        if not settled:
            return
        with self._lock:
            for message in settled:
                self._held.pop(message.id, None)
        self._board.flight(sum(held.left for held in self._held.values()))
        for group in _grouped(message for message in settled if not message.kept):
            self._request(partial(self._delete_group, group), stop)
        for message in settled:
            if message.kept:
                self._release([message], int(self._pause(message.receives - 1)), stop)

    def _delete_group(self, group: Sequence[_Message]) -> None:
        self._sqs.delete_message_batch(
            QueueUrl=self._settings.queue_url,
            Entries=[{"Id": str(n), "ReceiptHandle": message.receipt} for n, message in enumerate(group)],
        )

    def _release(self, messages: Sequence[_Message], seconds: int, stop: threading.Event) -> None:
        """Let messages come back after so many seconds; where the queue refuses, when they would anyway."""
        with self._lock:
            for message in messages:
                self._held.pop(message.id, None)
        for group in _grouped(messages):
            if not self._request(partial(self._hide, group, seconds), stop):
                return

    def _hide(self, group: Sequence[_Message], seconds: int) -> None:
        self._sqs.change_message_visibility_batch(
            QueueUrl=self._settings.queue_url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": message.receipt, "VisibilityTimeout": seconds}
                for n, message in enumerate(group)
            ],
        )

    def _request(self, ask: Callable[[], None], stop: threading.Event) -> bool:
        """Ask the queue for something that may fail: then the messages come back, and are known. Once `stop`
        is set it is asked once, without a wait."""
        told = partial(self._told, _MESSAGES)
        try:
            retried(ask, self._waits, stop, attempts=4, told=told)
        except (*REFUSALS, OSError) as error:
            told(fault_of(error))
            return False
        self._board.over(_MESSAGES)
        return True

    def _beat(self, ended: threading.Event) -> None:
        """Keep the messages in flight invisible until `ended`."""
        while not ended.wait(self._settings.visibility_seconds / 3):
            with self._lock:
                held = list(self._held.values())
            for group in _grouped(held):
                if not ended.is_set():
                    self._request(partial(self._hide, group, self._settings.visibility_seconds), ended)

    def _told(self, cause: str, fault: Fault) -> None:
        self._board.problem(cause, str(fault))


class _Fitted:
    """Whether the queue ever told of an object that the section's buckets, prefixes and suffix let through;
    a small file remembers with which."""

    def __init__(self, file: Path, settings: SqsSettings) -> None:
        names = {"buckets": list(settings.buckets), "prefixes": list(settings.prefixes)}
        kept = names | {"suffix": settings.suffix}
        self.filter = ", ".join(f"{key} = {value!r}" for key, value in kept.items() if value)
        self._file = file
        self._is_told = not self.filter

    @property
    def is_told(self) -> bool:
        """Whether it did, this process or another of the home."""
        if not self._is_told:
            with suppress(FileNotFoundError):
                self._is_told = self._file.read_bytes() == self.filter.encode()
        return self._is_told

    def tell(self) -> None:
        self._is_told = True
        with suppress(OSError):  # on a full disk: it is told again with the next start
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, self.filter.encode())


class _Tries:
    """How often something of an object was begun and did not end well; a small file remembers."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._file = folder / hashlib.sha256(identity.encode()).hexdigest()[:32]

    @property
    def count(self) -> int:
        try:
            return int(self._file.read_text() or 0)
        except FileNotFoundError:
            return 0

    def begin(self) -> int:
        """Count one more; how many there are."""
        tried = self.count + 1
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._file, str(tried).encode())
        return tried

    def take_back(self) -> None:
        """Let it be as if it had not begun. Where that cannot be written, on a full disk, all its tries are
        forgotten: it may have more of them, and is not set aside for too few."""
        if (tried := self.count) > 1:
            with suppress(OSError):
                write_whole(self._file, str(tried - 1).encode())
                return
        self.end()

    def end(self) -> None:
        self._file.unlink(missing_ok=True)


def _of(table: str) -> str:
    """The cause of a problem of one table."""
    return f"{_STORING} in {table}"


def _grouped(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while group := list(islice(rest, _GROUP)):
        yield group
