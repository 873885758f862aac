"""The one process: connectors, rules, the care of the lake and its health, until it is told to stop.

Each is a job with a thread of its own. A job that fails is started again after a while; one that is told to
stop finishes or gives back what it has begun. Two such processes over one home (or one lake) share the work:
an object is stored once whoever takes it, and only one at a time compacts.
"""

from __future__ import annotations

import fcntl
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from trailhawk.errors import LakeError, StateError
from trailhawk.files import in_words
from trailhawk.words import counted

if TYPE_CHECKING:
    from trailhawk.connectors.connector import Connector, State
    from trailhawk.lake import LogError
    from trailhawk.lake.files import DamagedFileError
    from trailhawk.respond.automator import Automator
    from trailhawk.respond.notifier import Notifier
    from trailhawk.workspace import Workspace

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0
"""Seconds before a failed job is started again; doubled each time, and afresh after a good while."""

_GOOD_WHILE: Final = 300.0
_AWAKE_SECONDS: Final = 1.0
_CATCH_UP: Final = timedelta(minutes=15)
"""How long what waited during a stop or a sleep may take to be read."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell whoever watches. `level` is info, warning or error."""

    at: datetime
    level: str
    job: str
    message: str
    fields: dict[str, object] = field(default_factory=dict)


Tell = Callable[[Event], None]
Say = Callable[..., None]
"""Tell an event of this moment: level, job, message, and fields by name."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Job:
    """Something that goes on until the event is set. It is done when `work` returns before that."""

    name: str
    work: Callable[[threading.Event], None]


def every(seconds: float, step: Callable[[], None]) -> Callable[[threading.Event], None]:
    """The work of a job that does one step again and again, with a wait between."""

    def work(stop: threading.Event) -> None:
        while not stop.is_set():
            step()
            stop.wait(seconds)

    return work


class Runner:
    """Runs jobs, each in a thread."""

    def __init__(
        self, jobs: Iterable[Job], *, tell: Tell, clock: Callable[[], datetime], rng: random.Random
    ) -> None:
        self._jobs = tuple(jobs)
        self._tell = tell
        self._clock = clock
        self._rng = rng
        self._threads: dict[str, threading.Thread] = {}

    def run(self, stop: threading.Event, *, drain_seconds: float) -> list[str]:
        """Work until `stop` is set, then wait for the jobs to end: those that had not within the time.

        Threads of the latter go on; the caller ends the process.
        """
        for job in self._jobs:
            thread = threading.Thread(target=self._keep, args=(job, stop), name=job.name, daemon=True)
            self._threads[job.name] = thread
            thread.start()
        # A signal may reach another thread, as when the process was frozen before; it is handled in this one,
        # once that wakes up.
        while not stop.wait(_AWAKE_SECONDS):
            pass
        self._say("info", "run", "stopping")
        deadline = time.monotonic() + drain_seconds
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        return [name for name, thread in self._threads.items() if thread.is_alive()]

    def _keep(self, job: Job, stop: threading.Event) -> None:
        """Run a job, and again when it fails."""
        wait = FIRST_WAIT
        while not stop.is_set():
            started = time.monotonic()
            try:
                job.work(stop)
            except BaseException as error:  # the border: one job's fault, or a library's panic, ends no other
                if isinstance(error, SystemExit | KeyboardInterrupt):
                    raise
                if time.monotonic() - started > _GOOD_WHILE:
                    wait = FIRST_WAIT
                self._say("error", job.name, f"failed: {in_words(error)}", again_in_seconds=wait)
                stop.wait(wait * self._rng.uniform(0.8, 1.2))
                wait = min(wait * 2, LONGEST_WAIT)
                continue
            if not stop.is_set():
                self._say("info", job.name, "done")
            return

    def _say(self, level: str, job: str, message: str, **fields: object) -> None:
        self._tell(Event(self._clock(), level, job, message, fields))


def jobs(workspace: Workspace, *, tell: Tell, status_seconds: float) -> list[Job]:
    """What a home's process does: connectors, rules, care of its lake, health, and a word now and then.

    SettingsError where a connector is set up wrong.
    """
    settings = workspace.settings.run

    def say(level: str, job: str, message: str, **fields: object) -> None:
        tell(Event(workspace.clock(), level, job, message, fields))

    connectors = [_Bringing(workspace.connector(name)) for name in workspace.connector_settings]
    health = _Health(workspace, connectors, say)
    care = _Care(workspace, say)
    notify = _Notify(workspace, say)
    automation = _Automation(workspace, say)

    # They begin with what comes from now on. Where the state database cannot be reached yet, with what comes
    # once it can be: rules begin them before they raise anything.
    readers: list[_Notify | _Automation] = [automation]
    if workspace.settings.notify:
        readers.insert(0, notify)
    for reader in readers:
        try:
            reader.begin()
        except (StateError, LakeError) as error:
            say("error", reader.name, f"failed: {error}; it is tried again")
    rules = _Rules(workspace, say, [reader.begin for reader in readers])

    def status() -> None:
        for connector in connectors:
            state = connector.state()
            say("info", state.name, _line(state), **_figures(state))

    return [
        *(Job(connector.name, health.until_end(connector.work)) for connector in connectors),
        Job("rules", lambda stop: every(settings.rules_seconds, partial(rules.run, stop))(stop)),
        Job("compact", every(settings.compact_seconds, care.compact)),
        Job("sweep", every(settings.sweep_seconds, care.sweep)),
        Job("health", health.until_end(health.work)),
        Job("status", _later(status_seconds, status)),
        *([Job("notify", every(settings.notify_seconds, notify.run))] if workspace.settings.notify else []),
        Job("automation", every(settings.automation_seconds, automation.run)),
        *([Job("canary", partial(_canaries, workspace, say))] if settings.canary_seconds else []),
    ]


def _later(seconds: float, step: Callable[[], None]) -> Callable[[threading.Event], None]:
    """As `every`, with the first wait before the first step."""
    repeated = every(seconds, step)

    def work(stop: threading.Event) -> None:
        stop.wait(seconds)
        repeated(stop)

    return work


class _Health:
    """Tells which streams fell silent and which connectors fail: when it is due, and when it is news."""

    def __init__(self, workspace: Workspace, connectors: list[_Bringing], say: Say) -> None:
        self._workspace = workspace
        self._connectors = connectors
        self._say = say
        self._seconds = workspace.settings.run.health_seconds
        self._waits = CatchUp(timedelta(seconds=self._seconds))
        self._begun: dict[str, float] = {}
        self._failing: set[str] = set()
        self._ending = threading.Lock()

    def work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._look()
            due = time.monotonic() + self._seconds
            while not stop.wait(min(_AWAKE_SECONDS, max(0.0, due - time.monotonic()))):
                if time.monotonic() >= due or any(map(self._is_news, self._connectors)):
                    break

    def until_end(self, work: Callable[[threading.Event], None]) -> Callable[[threading.Event], None]:
        """The work, and when it was stopped how connectors fared last: what they drain is in it."""

        def told(stop: threading.Event) -> None:
            try:
                work(stop)
            finally:
                if stop.is_set():
                    with self._ending:
                        self._workspace.end_health(self._states())

        return told

    def _look(self) -> None:
        states = self._states()
        begin = {state.name for state in states if state.has_begun} - self._begun.keys()
        self._failing = {state.name for state in states if state.problem}
        for told in self._workspace.tell_health(
            states,
            alarms=self._waits.is_over(self._workspace.clock()),
            begin=begin,
            every=timedelta(seconds=self._seconds),
        ):
            one = told.condition
            level = "info" if one.status == "Success" else "warning"
            self._say(level, "health", f"{one.name}: {one.description or 'well again'}", reason=one.reason)
        self._begun.update(dict.fromkeys(begin, time.monotonic()))

    def _states(self) -> list[State]:
        return [connector.state() for connector in self._connectors]

    def _is_news(self, connector: _Bringing) -> bool:
        """Whether a connector has begun, then failed, or ended with an error since it was told how it fares.

        Of one that has run for a while other trouble waits for the next round: it often passes by itself.
        """
        state, since = connector.state(), self._begun.get(connector.name)
        if since is None:
            return state.has_begun
        is_young = time.monotonic() - since < LONGEST_WAIT
        is_failing = bool(state.problem) if is_young else connector.has_failed
        return is_failing and connector.name not in self._failing


class CatchUp:
    """The time in which no stream of logs is called silent: what waited meanwhile is still to be read.

    It follows each start, and the end of a sleep of the machine or the process, as a clock shows it that is
    asked `every` so often and went on for longer; likewise a clock that was set.
    """

    def __init__(self, every: timedelta) -> None:
        self._most = every + _CATCH_UP
        self._asked: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        if self._asked is None or not self._asked <= now <= self._asked + self._most:
            self._since = now
        self._asked = now
        return now - self._since >= _CATCH_UP


class _Rules:
    """Runs the rules that are due. Who acts on alerts begins before: what is raised is theirs."""

    def __init__(self, workspace: Workspace, say: Say, before: list[Callable[[], object]]) -> None:
        self._workspace = workspace
        self._say = say
        self._before = before
        self._clock = _Clock(workspace, say)

    def run(self, stop: threading.Event) -> None:
        for begin in self._before:
            begin()
        self._clock.look()
        done = self._workspace.run_due_rules(
            fault=lambda error: self._say("warning", "rules", f"{error.message}; it is left out"),
            stopped=stop.is_set,
        )
        if done.to_come:
            self._tell_clock(done.to_come)
        for alert in done.alerts:
            message = f"{alert.severity.value}: {alert.name}"
            self._say("info", "rules", message, rule=alert.rule_name, alert=alert.id)
        for rule in done.disabled:
            self._say("error", "rules", f"'{rule.name}' is disabled: it keeps failing", rule=rule.id)

    def _tell_clock(self, to_come: datetime) -> None:
        seconds = round((to_come - self._workspace.clock()).total_seconds())
        message = (
            f"this machine's clock is {seconds:,} s behind the newest window that was run: set it right if it"
            f" is wrong; if it was ahead then, rules by ingestion wait until {to_come:%Y-%m-%d %H:%M}, and"
            " `trailhawk detect` runs them over what they miss"
        )
        self._say("warning", "rules", message, seconds=seconds)


def _canaries(workspace: Workspace, say: Say, stop: threading.Event) -> None:
    """Prove again and again that the rules still fire."""
    while not stop.wait(workspace.settings.run.canary_seconds):
        rules = workspace.content.canary_rules(
            fault=lambda error: say("warning", "canary", f"{error.message}; it is left out")
        )
        sent = workspace.content.canaries(rules, stopped=stop.is_set, workers=1)
        failed = [each for each in sent if each.failed]
        for each in failed:
            say("error", "canary", f"'{each.rule.name}' does not fire: {each.reason}", rule=each.rule.id)
        say("info", "canary", f"{len(sent):,} sent, {len(failed):,} failed", failed=len(failed))


class _Notify:
    """Sends what there is to tell."""

    name = "notify"

    def __init__(self, workspace: Workspace, say: Say) -> None:
        self._say = say
        self._workspace = workspace
        self.begin = _Once(self._begun)

    def _begun(self) -> Notifier:
        found = self._workspace.response.notifier
        found.begin()
        return found

    def run(self) -> None:
        notifier = self.begin()
        notifier.collect()
        notifier.deliver(
            lambda one: self._say(
                "info" if one.sent else "warning",
                self.name,
                f"{one.channel}: {'sent' if one.sent else one.detail}",
                delivery=one.delivery,
                notices=one.notices,
            )
        )


class _Automation:
    """Runs automation rules over new and changed incidents."""

    name = "automation"

    def __init__(self, workspace: Workspace, say: Say) -> None:
        self._say = say
        self._workspace = workspace
        self.begin = _Once(self._begun)

    def _begun(self) -> Automator:
        found = self._workspace.response.automator(
            fault=lambda error: self._say("warning", self.name, f"{error}; it is left out")
        )
        found.begin()
        return found

    def run(self) -> None:
        for run in self._workspace.response.run_automation(self.begin()):
            level = "warning" if run.error else "info"
            said = f"'{run.rule}' ran{f': {run.error}' if run.error else ''}"
            self._say(level, self.name, said, run=run.id, incident=run.number)


class _Once(Generic[_T]):
    """Something that is made by the first who asks, whichever thread that is; after an error by the next."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[_T] = []

    def __call__(self) -> _T:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


class _Bringing:
    """A connector at work. One that ended with an error is in trouble until it has run well for a while."""

    def __init__(self, connector: Connector) -> None:
        self.name = connector.name
        self._connector = connector
        self._failure = ""
        self._running_since: float | None = None

    def work(self, stop: threading.Event) -> None:
        self._running_since = time.monotonic()
        try:
            self._connector.run(stop)
        except BaseException as error:
            self._failure = in_words(error)
            raise
        finally:
            self._running_since = None

    @property
    def has_failed(self) -> bool:
        return bool(self._failure)

    def state(self) -> State:
        """As the connector tells it; with what ended it where that is its trouble."""
        state, since = self._connector.state(), self._running_since
        if since is not None and time.monotonic() - since > LONGEST_WAIT:
            self._failure = ""
        if state.problem or not self._failure:
            return state
        return replace(state, problem=self._failure)


MOST_SKEW: Final = timedelta(seconds=30)
"""So far a machine's clock may be from that of the database that it shares with others. Rules that run every
minute look two minutes behind: by then the rows must be there that bear the time of another machine."""


class _Clock:
    """Tells when this machine's clock begins to differ from that of the state database's server."""

    def __init__(self, workspace: Workspace, say: Say) -> None:
        self._workspace = workspace
        self._say = say
        self._is_wrong = False

    def look(self) -> None:
        ahead = self._workspace.ahead_of_state()
        was_wrong, self._is_wrong = self._is_wrong, abs(ahead) > MOST_SKEW
        if self._is_wrong and not was_wrong:
            seconds = round(abs(ahead).total_seconds())
            where = f"{seconds:,} s {'ahead of' if ahead > timedelta() else 'behind'} the state database's"
            message = f"this machine's clock is {where}; rules may miss rows of other machines: set it right"
            self._say("warning", "rules", message, seconds=seconds)


class _Care:
    """Compaction and sweeping, in one process of a home at a time."""

    def __init__(self, workspace: Workspace, say: Say) -> None:
        self._workspace = workspace
        self._say = say
        self._mutex = threading.Lock()
        self._has_told = False

    def compact(self) -> None:
        with self._mutex, _alone(self._workspace.home / "care.lock") as alone:
            if alone:
                done = self._workspace.caretaker.compact(told=self._damaged)
                for table, count in done.items():
                    if count:
                        self._say(
                            "info",
                            "care",
                            f"{table}: {counted(count, 'day')} rewritten",
                            table=table,
                            days=count,
                        )

    def _damaged(self, error: LogError | DamagedFileError) -> None:
        self._say("error", "care", str(error), path=error.path)

    def sweep(self) -> None:
        """Retention, then clearing away."""
        with self._mutex, _alone(self._workspace.home / "care.lock") as alone:
            if not alone:
                return
            care = self._workspace.caretaker
            now = care.believed()
            if any(each.rows for each in care.expiring(told=lambda _: None)):
                self._tell_clock(now)
            for gone in care.forget(now=now, told=self._damaged):
                if gone.rows:
                    message = f"{gone.table}: {counted(gone.rows, 'row')} of before {gone.before} removed"
                    self._say("info", "care", message, table=gone.table, rows=gone.rows)
            for table, count in care.vacuum().items():
                if count:
                    message = f"{table}: {count} retired files deleted"
                    self._say("info", "care", message, table=table, files=count)

    def _tell_clock(self, believed: datetime) -> None:
        """Say so, once, where retention goes by the newest event, and not by the clock."""
        from trailhawk.lake.care import MOST_AHEAD

        days = (self._workspace.clock().date() - believed.date()).days
        if days > 0 and not self._has_told:
            self._has_told = True
            message = (
                f"the newest event of the logs is {days + MOST_AHEAD.days:,} days behind this machine's"
                " clock; retention goes by it. If the clock is ahead, set it right; if the logs have stopped,"
                " `trailhawk lake retention --apply` removes what is old by the clock"
            )
            self._say("warning", "care", message, days=days)


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no other process holds this lock; it is held meanwhile."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _line(state: State) -> str:
    """How a connector fares, on one line."""
    parts = [counted(state.objects, "object")]
    if state.skipped:
        parts.append(f"{state.skipped:,} of them taken before")
    parts += [counted(state.records, "record"), counted(state.rows, "row")]
    if state.in_flight:
        parts.append(f"{state.in_flight:,} in flight")
    if state.set_aside:
        parts.append(f"{state.set_aside:,} set aside")
    if state.passed_over:
        parts.append(f"{state.passed_over:,} passed over")
    if state.total:
        parts.append(f"of {state.total:,}")
    if state.problem:
        parts.append(f"problem: {state.problem}")
    elif state.idle_since:
        parts.append(f"idle since {state.idle_since:%Y-%m-%d %H:%M}")
    return ", ".join(parts)


def _figures(state: State) -> dict[str, object]:
    return {
        "objects": state.objects,
        "records": state.records,
        "rows": state.rows,
        "skipped": state.skipped,
        "set_aside": state.set_aside,
        "passed_over": state.passed_over,
        "in_flight": state.in_flight,
        "idle_since": state.idle_since,
        "last_object_at": state.last_object_at,
        "problem": state.problem,
    }
