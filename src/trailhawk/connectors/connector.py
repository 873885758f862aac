"""What every way in looks like from outside: a name, a run that ends when it is told to, and how it fares."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from trailhawk.errors import TrailhawkError
from trailhawk.sources import SOURCES, Source

if TYPE_CHECKING:
    from trailhawk.connectors.objects import LogObject, Outcome

Clock = Callable[[], dt.datetime]

_NOT_STARTED: Final = "not started"
_DOUBT, _IN_VAIN = "doubt", "in vain"  # causes of problems
_MANY_IN_VAIN: Final = 10


class ConnectorError(TrailhawkError):
    """A connector that cannot go on: the message has the service's words, the hint what to do."""

    kind = "connector"


@dataclass(frozen=True, slots=True)
class State:
    """How a connector fares. Counts are of objects since it was started.

    `objects` came to an end (the ledger has them), of these `skipped` were there before and `set_aside` went
    whole into quarantine; `in_flight` are on their way. `passed_over` were outside of the configured buckets
    and prefixes, or hold nothing. `total` and `eta_seconds` are None where they are not known. `idle_since`:
    since when it runs and finds nothing to bring, None while it works or does not run. `problem` is what
    hinders it now, in the service's words; empty if nothing does.
    """

    name: str
    type: str
    doing: str = _NOT_STARTED
    objects: int = 0
    records: int = 0
    rows: int = 0
    bytes: int = 0
    skipped: int = 0
    set_aside: int = 0
    passed_over: int = 0
    in_flight: int = 0
    total: int | None = None
    eta_seconds: float | None = None
    last_object_at: dt.datetime | None = None
    idle_since: dt.datetime | None = None
    problem: str = ""
    problem_since: dt.datetime | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there is something to tell: it has done something, or failed before it could."""
        return self.doing != _NOT_STARTED or bool(self.problem)


class Connector(Protocol):
    """A way in. One thread runs it; `state` may be asked by any."""

    @property
    def name(self) -> str: ...

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Bring objects until `stop` is set; what was begun is finished or given back.

        With `once` it also ends when there is nothing more to bring, and a problem that would otherwise be
        waited out is a ConnectorError.
        """

    def state(self) -> State: ...


class Taker(Protocol):
    """What a connector brings objects to: the ingest's `Ingestor`. Used by one thread."""

    def take(self, item: LogObject, done: Callable[[Outcome], None]) -> None: ...

    def flush(self) -> None: ...

    @property
    def age(self) -> dt.timedelta:
        """How long the oldest object waits to be stored; zero where none does."""

    def knows(self, identity: str) -> bool:
        """Whether the ledger has the object of this identity, as of the last look; no look is made."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What a connector is given to work with.

    `taker` makes the ingest for a worker of this name. `folder` is the connector's own, for what it must
    remember; it is made when first needed. `rng` spreads the waits, `sources` are those of the ingest.
    """

    taker: Callable[[str], Taker]
    folder: Path
    clock: Clock
    rng: random.Random = field(default_factory=random.Random)
    sources: Sequence[Source] = SOURCES


class Board:
    """The state of a connector, written by its threads and read by any."""

    def __init__(self, name: str, kind: str, clock: Clock) -> None:
        self._state = State(name, kind)
        self._problems: dict[str, str] = {}  # by cause, the one told last at the end
        self._in_vain: int | None = 0  # objects of which nothing could be read, until one can
        self._clock = clock
        self._lock = threading.Lock()

    def state(self) -> State:
        return self._state

    def doing(self, what: str, *, idle: bool = False) -> None:
        """Say what it does; `idle` where that is to wait for something to bring."""
        with self._lock:
            since = (self._state.idle_since or self._clock()) if idle else None
            self._state = dataclasses.replace(self._state, doing=what, idle_since=since)

    def idle(self) -> None:
        """Say that there is nothing to bring."""
        self.doing(self._state.doing, idle=True)

    def ended(self, outcome: Outcome, size: int) -> None:
        """Count an object that the ledger has now."""
        with self._lock:
            old = self._state
            self._state = dataclasses.replace(
                old,
                objects=old.objects + 1,
                records=old.records + outcome.records,
                rows=old.rows + outcome.rows,
                bytes=old.bytes + (0 if outcome.state == "skipped" else size),
                skipped=old.skipped + (outcome.state == "skipped"),
                set_aside=old.set_aside + (outcome.state in ("quarantined", "unreadable")),
                last_object_at=self._clock(),
                idle_since=None,
            )
        self._look_at(outcome)
        if outcome.doubt:  # it stays until the process ends: nothing that comes later undoes it
            self.problem(_DOUBT, outcome.doubt)

    def _look_at(self, outcome: Outcome) -> None:
        """Tell where nothing could be read of anything that came: a source or a set-up is wrong then."""
        if outcome.rows or outcome.duplicates or outcome.filtered:
            self._in_vain = None
            self.over(_IN_VAIN)
        elif self._in_vain is not None and outcome.quarantined:
            self._in_vain += 1
            if self._in_vain >= _MANY_IN_VAIN and self._problems.keys() <= {_IN_VAIN}:  # others say why
                self.problem(
                    _IN_VAIN,
                    f"all that came, {self._in_vain:,} objects by now, is in the quarantine, at last"
                    f" {outcome.location}: 'trailhawk quarantine list' has the reasons",
                )

    def passed_over(self, count: int) -> None:
        with self._lock:
            self._state = dataclasses.replace(self._state, passed_over=self._state.passed_over + count)

    def flight(self, in_flight: int) -> None:
        with self._lock:
            since = None if in_flight else self._state.idle_since
            self._state = dataclasses.replace(self._state, in_flight=in_flight, idle_since=since)

    def ahead(self, total: int | None, eta_seconds: float | None) -> None:
        with self._lock:
            self._state = dataclasses.replace(self._state, total=total, eta_seconds=eta_seconds)

    def problem(self, cause: str, what: str) -> None:
        """Say what hinders the connector, until the same cause is over; of several the last shows."""
        with self._lock:
            self._problems.pop(cause, None)
            self._problems[cause] = what
            self._tell_problem()

    def over(self, cause: str) -> None:
        """Say that what had this cause is over; nothing where nothing had."""
        with self._lock:
            if self._problems.pop(cause, None) is not None:
                self._tell_problem()

    def _tell_problem(self) -> None:
        what = next(reversed(self._problems.values()), "")
        since = self._state.problem_since if what and self._state.problem else None
        self._state = dataclasses.replace(
            self._state, problem=what, problem_since=(since or self._clock()) if what else None
        )
