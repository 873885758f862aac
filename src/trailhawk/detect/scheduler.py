"""Rules run when they are due: every window once, in order, whatever fails, sleeps or arrives late meanwhile.

A (rule, window) is a row of the state database from the moment it is due. A scheduler takes a rule by a
lease, runs its due windows in order of time and writes each with its alerts in one transaction; several
schedulers over one database share the rules. After an outage the missed windows are due one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache, partial
from time import perf_counter
from typing import Final

import numpy as np
import sqlalchemy as sa

from trailhawk.detect.alert import Alert
from trailhawk.detect.history import LATE, IsQuiet, Reads, Sink, Stored, seen, settle, stored, tables_of
from trailhawk.detect.rule import Rule, RuleKind
from trailhawk.detect.rulebook import RuleStates
from trailhawk.detect.run import Leave, Run, run
from trailhawk.detect.schedule import (
    LEARNING,
    SUPPRESSED,
    Window,
    WindowState,
    is_learning,
    last_run,
    next_run,
)
from trailhawk.detect.spans import Moments, covered, done_since, micros, moment_at, place
from trailhawk.detect.store import (
    AlertStore,
    Moment,
    make_tables,
    metadata,
    starts_table,
    windows_table,
)
from trailhawk.engine.result import Engine
from trailhawk.errors import LakeError, QueryError

DELAY: Final = timedelta(minutes=5)
NRT_DELAY: Final = timedelta(minutes=2)
LEASE: Final = timedelta(minutes=15)
"""Longer than the longest query takes. A scheduler that dies keeps a rule so long, unless it is known to have
ended."""

LATE_EVERY: Final = timedelta(minutes=5)
"""How often late rows are looked for: while logs trickle in, a window is not run again for each of them."""

FIRST_RETRY, LONGEST_RETRY = timedelta(minutes=1), timedelta(hours=1)
PERMANENT_FAILURES: Final = 3
"""After so many windows in a row that failed for the same permanent reason a rule is disabled."""

COSTLY_FAILURES: Final = 24
"""So often is a window tried that stops at a limit, over most of a day, before its rule is too costly."""

Quiet = Callable[[Rule, datetime, datetime], IsQuiet]
"""For a rule and a stretch of history: at which T its query cannot have a result."""

BY: Final = "scheduler"
_MANY: Final = 8
"""So many due windows of one rule are looked over together before they are run."""

_HOUR: Final = timedelta(hours=1)
_MOST_BACK: Final = timedelta(days=1)
_RUN_IN_A_DAY: Final = _MOST_BACK // timedelta(minutes=1)
_PLANNED_AT_ONCE: Final = 2_000

_schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("rule_id", sa.String, primary_key=True),
    sa.Column("next_at", Moment, nullable=False),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("leased_until", Moment),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("retry_at", Moment),
)
_periods = sa.Table(
    "schedule_periods",
    metadata,
    sa.Column("rule_id", sa.String, primary_key=True),
    sa.Column("period", sa.BigInteger, nullable=False),
)
"""Over what time, in microseconds, the rows were counted that a rule's windows have seen."""
_frequencies = sa.Table(
    "schedule_frequencies",
    metadata,
    sa.Column("rule_id", sa.String, primary_key=True),
    sa.Column("frequency", sa.BigInteger, nullable=False),
)
"""How far apart, in microseconds, a rule's windows were that were written down last."""
_planned = sa.select(_schedules.c.rule_id, _schedules.c.next_at, _frequencies.c.frequency).join(
    _frequencies, _frequencies.c.rule_id == _schedules.c.rule_id, isouter=True
)


@dataclass(frozen=True, slots=True)
class Round:
    """What one look at the clock did: windows run, and what came of them."""

    runs: tuple[Run, ...] = ()
    alerts: tuple[Alert, ...] = ()
    disabled: tuple[Rule, ...] = ()
    postponed: tuple[Run, ...] = ()
    """Those that failed for a passing reason, and wait to be tried again."""
    to_come: datetime | None = None
    """The newest window that was run though it is still to come: told at the first look, and when the clock
    has gone back."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A rule as the schedule has it, for people to look at."""

    rule_id: str
    next_at: datetime
    due: int
    failures: int
    reason: str
    retry_at: datetime | None


class Scheduler:
    """Runs rules over the lake as time goes by. `owner` tells schedulers over one database apart, `has_ended`
    says of another's that it will do nothing more."""

    def __init__(
        self,
        store: AlertStore,
        states: RuleStates,
        *,
        owner: str,
        clock: Callable[[], datetime],
        sink: Callable[[Mapping[str, Rule]], Sink] | None = None,
        workers: int = 1,
        reads: Reads | None = None,
        leave: Callable[[], Leave | None] = lambda: None,
        quiet: Quiet | None = None,
        has_ended: Callable[[str], bool] = lambda owner: False,
    ) -> None:
        self._store = store
        self._has_ended = has_ended
        self._quiet = quiet
        self._looked_at: dict[str, Stored] = {}
        self._late_at: datetime | None = None
        self._last_at: datetime | None = None
        self._ran: dict[str, deque[datetime]] = {}
        self._reads = reads
        self._leave = leave
        self._applied: Leave | None = None
        self._states = states
        self._owner = owner
        self._clock = clock
        self._sink = sink
        self._workers = workers
        make_tables(store.engine, [_schedules, _periods, _frequencies])

    def round(
        self,
        engine: Engine,
        rules: Iterable[Rule],
        tables: Sequence[str],
        *,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Round:
        """Run what is due now, of the enabled rules; `tables` are the tables of the lake that hold rows.

        Once `stopped`, no further window is begun: what is left stays due.
        """
        chosen = [rule for rule in rules if rule.kind is not RuleKind.HUNTING]
        enabled = self._states.of(chosen)
        chosen = [rule for rule in chosen if enabled[rule.id].enabled]
        self._applied = self._leave()
        now = self._clock()
        to_come = None
        if self._last_at is None or now < self._last_at:
            self._late_at = None
            self._take_back(now)
            to_come = self._newest_to_come(chosen, now)
        self._last_at = now
        self._plan_all(chosen, now, cache(partial(_oldest, engine, tables, now)))
        looks = self._late_at is None or now >= self._late_at
        due = self._first_due(chosen, now)
        if not looks and not due:
            return Round()
        # A window may look back as far as rows are late, and may be as old when they come; after an outage
        # from where it began. From a full hour on, so that what did not change looks the same next time.
        behind = min([now, *due.values()])
        since = last_run(_HOUR, behind - 2 * LATE - DELAY)
        lake = {name: stored(engine, name, now=now, since=since) for name in tables}
        if looks:
            self._late_at = now + LATE_EVERY
            if lake != self._looked_at:
                for rule in chosen:
                    if stopped():
                        return Round(to_come=to_come)
                    found = tables_of(rule, lake, self._reads)
                    self._find_late(rule, found, min(now, due.get(rule.id, now)) - LATE)
                self._looked_at = lake
                due = self._first_due(chosen, now)
        waiting = [rule for rule in chosen if rule.id in due]
        sink = self._sink({rule.id: rule for rule in chosen}) if self._sink else None
        with ThreadPoolExecutor(self._workers) as pool:
            parts = list(
                pool.map(
                    lambda rule: self._work(
                        rule, now, engine, tables_of(rule, lake, self._reads), sink, stopped
                    ),
                    waiting,
                )
            )
        return Round(
            runs=tuple(each for part in parts for each in part.runs),
            alerts=tuple(alert for part in parts for alert in part.alerts),
            disabled=tuple(rule for part in parts for rule in part.disabled),
            postponed=tuple(each for part in parts for each in part.postponed),
            to_come=to_come,
        )

    def scheduled(self) -> tuple[Scheduled, ...]:
        """The schedule of every rule that was ever planned."""
        due = (
            sa.select(sa.func.count())
            .where(windows_table.c.rule_id == _schedules.c.rule_id, windows_table.c.state.in_(_UNFINISHED))
            .scalar_subquery()
        )
        query = sa.select(
            _schedules.c.rule_id,
            _schedules.c.next_at,
            due,
            _schedules.c.failures,
            _schedules.c.reason,
            _schedules.c.retry_at,
        )
        with self._store.reading() as connection:
            return tuple(Scheduled(*row) for row in connection.execute(query.order_by(_schedules.c.rule_id)))

    # Windows become due

    def _take_back(self, now: datetime) -> None:
        """Let windows that are still to come wait for their time, of those that this scheduler itself has
        run: its clock was ahead, and most of their rows were not there."""
        for rule_id, ran in self._ran.items():
            ahead = [at for at in ran if at > now]
            if ahead and max(ahead) <= now + _MOST_BACK:
                with self._store.engine.begin() as connection:
                    connection.execute(
                        sa.update(windows_table)
                        .where(windows_table.c.rule_id == rule_id, windows_table.c.at.in_(ahead))
                        .values(state=WindowState.DUE.value)
                    )
                self._ran[rule_id] = deque((at for at in ran if at <= now), _RUN_IN_A_DAY)

    def _newest_to_come(self, rules: Iterable[Rule], now: datetime) -> datetime | None:
        """The newest window that is still to come but was planned, and run, by a clock that was ahead of this
        one. A replay may have run windows that are not planned yet."""
        window, rule_id = windows_table.c, _schedules.c.rule_id
        newest = sa.select(sa.func.max(window.at, type_=Moment)).where(
            window.rule_id == rule_id,
            window.at > now,
            window.at < _schedules.c.next_at,
            window.state.not_in(_UNFINISHED),
            rule_id.in_([rule.id for rule in rules]),
        )
        with self._store.reading() as connection:
            found: datetime | None = connection.scalar(newest)
        return found

    def _plan_all(self, rules: Iterable[Rule], now: datetime, oldest: Callable[[], datetime | None]) -> None:
        """Write down the windows that time has brought since the last look; after a long time those that may
        see the oldest row or a newer one. A rule may have begun by a clock that stood at 1970."""
        with self._store.reading() as connection:
            planned = {row.rule_id: (row.next_at, row.frequency) for row in connection.execute(_planned)}
        for rule in rules:
            latest = last_run(rule.frequency, now - _delay(rule))
            first = _unplanned(rule, *planned[rule.id]) if rule.id in planned else latest
            if latest - first > LATE:
                first = max(first, min(latest, last_run(rule.frequency, oldest() or latest)))
            if first <= latest:
                self._plan(rule, first, latest)

    def _plan(self, rule: Rule, first: datetime, latest: datetime) -> None:
        """Write down a rule's windows from the first to the latest one."""
        with self._store.engine.begin() as connection:
            row = connection.execute(_planned.where(_schedules.c.rule_id == rule.id)).one_or_none()
            if row is None:
                # As Sentinel does, a new rule runs at once, and its past is left alone.
                connection.execute(sa.insert(_schedules).values(**_new(rule, latest)))
            at = max(_unplanned(rule, row.next_at, row.frequency), first) if row else latest
            planned: list[datetime] = []
            while at <= latest and len(planned) < _PLANNED_AT_ONCE:
                planned.append(at)
                at += rule.frequency
            if not planned:
                return
            if not connection.scalar(sa.select(starts_table.c.at).where(starts_table.c.rule_id == rule.id)):
                start = {"rule_id": rule.id, "at": planned[0] - rule.frequency}
                connection.execute(sa.insert(starts_table), start)
            known = set(
                connection.scalars(
                    sa.select(windows_table.c.at).where(
                        windows_table.c.rule_id == rule.id, windows_table.c.at.in_(planned)
                    )
                )
            )
            in_spans = covered(connection, rule.id, _places(planned))
            new = [
                _due(rule, moment)
                for moment, has_span in zip(planned, in_spans, strict=True)
                if moment not in known and not has_span
            ]
            if new:
                connection.execute(sa.insert(windows_table), new)
            _change(connection, rule, next_at=at)
            if row is None or row.frequency != micros(rule.frequency):
                connection.execute(sa.delete(_frequencies).where(_frequencies.c.rule_id == rule.id))
                now = {"rule_id": rule.id, "frequency": micros(rule.frequency)}
                connection.execute(sa.insert(_frequencies), now)

    def _find_late(self, rule: Rule, tables: Sequence[Stored], since: datetime) -> None:
        """Make windows after `since` due again that have more to look at than when they ran."""
        if rule.kind is RuleKind.NRT:
            return  # it goes by ingestion: nothing is late
        with self._store.reading() as connection:
            done = connection.execute(
                sa.select(windows_table.c.at, windows_table.c.seen).where(
                    windows_table.c.rule_id == rule.id,
                    windows_table.c.at > since,
                    windows_table.c.state == WindowState.DONE.value,
                )
            ).all()
            at, before = done_since(connection, rule.id, place(since))
            period = connection.scalar(sa.select(_periods.c.period).where(_periods.c.rule_id == rule.id))
        # What they have seen was counted over the period of then.
        then = rule if period is None else replace(rule, period=timedelta(microseconds=period))
        rows = seen(tables, then, _places([row.at for row in done]))
        grown = [row.at for row, now in zip(done, rows, strict=True) if now > row.seen]
        in_spans = [moment_at(each) for each in at[seen(tables, then, at) > before]]
        if period != micros(rule.period):
            moments = [*(row.at for row in done), *map(moment_at, at.tolist())]
            counts = seen(tables, rule, _places(moments)).tolist()
            if self._counted_anew(rule, period, dict(zip(moments, counts, strict=True))):
                grown, in_spans = grown + in_spans, []
        if not (grown or in_spans):
            return
        with self._store.engine.begin() as connection:
            connection.execute(
                sa.update(windows_table)
                .where(
                    windows_table.c.rule_id == rule.id,
                    windows_table.c.at.in_(grown),
                    windows_table.c.state == WindowState.DONE.value,
                )
                .values(state=WindowState.DUE.value)
            )
            if in_spans:
                c = windows_table.c
                own = sa.select(c.at).where(c.rule_id == rule.id, c.at.between(in_spans[0], in_spans[-1]))
                known = set(connection.scalars(own))
                new = [_due(rule, moment) for moment in in_spans if moment not in known]
                if new:
                    connection.execute(sa.insert(windows_table), new)

    def _counted_anew(self, rule: Rule, period: int | None, rows: Mapping[datetime, int]) -> bool:
        """Keep the rule's period. Whether it was another: then these windows that are done have looked at so
        many `rows`, since over the new one there may be more of them though none came late. Each has a row
        of its own then."""
        c = windows_table.c
        with self._store.engine.begin() as connection:
            if period is None:
                fresh = {"rule_id": rule.id, "period": micros(rule.period)}
                known = connection.scalar(sa.select(_periods.c.period).where(_periods.c.rule_id == rule.id))
                if known is None:
                    connection.execute(sa.insert(_periods).values(fresh))
                return False
            connection.execute(
                sa.update(_periods).where(_periods.c.rule_id == rule.id).values(period=micros(rule.period))
            )
            own = dict(
                connection.execute(sa.select(c.at, c.state).where(c.rule_id == rule.id, c.at.in_(rows))).all()
            )
            for moment, count in rows.items():
                if own.get(moment) == WindowState.DONE.value:
                    connection.execute(
                        sa.update(windows_table)
                        .where(c.rule_id == rule.id, c.at == moment)
                        .values(seen=count)
                    )
            # A window of a span gets a row of its own, which counts in place of the span's.
            new = [_done(rule, moment, count) for moment, count in rows.items() if moment not in own]
            if new:
                connection.execute(sa.insert(windows_table), new)
        return True

    # Windows are run

    def _work(
        self,
        rule: Rule,
        now: datetime,
        engine: Engine,
        tables: Sequence[Stored],
        sink: Sink | None,
        stopped: Callable[[], bool],
    ) -> Round:
        """Run the due windows of one rule, if no other scheduler has it."""
        if stopped() or not self._lease(rule):
            return Round()
        done = Round()
        try:
            windows = self._due(rule, now)
            quiet = self._quiet_of(rule, windows)
            for window in windows:
                if stopped() or not self._lease(rule):
                    break
                each = self._run(rule, window, engine, tables, quiet)
                if _is_passing(each):
                    is_too_costly = self._postpone(rule, each)
                    done = replace(done, postponed=(each,), disabled=(rule,) if is_too_costly else ())
                    break
                done = self._settle(rule, each, done, sink)
                if done.disabled:
                    break
        finally:
            self._release(rule)
        return done

    def _lease(self, rule: Rule) -> bool:
        """Take or renew the rule: False while another holds it, or before the time to try again."""
        free = sa.or_(_schedules.c.owner.in_(("", self._owner)), _schedules.c.leased_until < self._clock())
        if self._take(rule, free):
            return True
        with self._store.reading() as connection:
            owner: str | None = connection.scalar(
                sa.select(_schedules.c.owner).where(_schedules.c.rule_id == rule.id)
            )
        if not owner or not self._has_ended(owner):
            return False
        return self._take(rule, _schedules.c.owner == owner)

    def _take(self, rule: Rule, free: sa.ColumnElement[bool]) -> bool:
        """Take the rule if it is `free` at this moment, and it is time."""
        now = self._clock()
        retry_at = _schedules.c.retry_at  # further away than that it was written by a clock that was ahead
        ready = sa.or_(retry_at.is_(None), retry_at <= now, retry_at > now + LONGEST_RETRY)
        with self._store.engine.begin() as connection:
            taken = connection.execute(
                sa.update(_schedules)
                .where(_schedules.c.rule_id == rule.id, free, ready)
                .values(owner=self._owner, leased_until=now + LEASE)
            )
        return taken.rowcount == 1

    def _release(self, rule: Rule) -> None:
        with self._store.engine.begin() as connection:
            connection.execute(
                sa.update(_schedules)
                .where(_schedules.c.rule_id == rule.id, _schedules.c.owner == self._owner)
                .values(owner="", leased_until=None)
            )

    def _first_due(self, rules: Iterable[Rule], now: datetime) -> dict[str, datetime]:
        """Those of the rules that have due windows whose time has come, each with the first of them."""
        first = sa.func.min(windows_table.c.at, type_=Moment).label("first")
        query = sa.select(windows_table.c.rule_id, first).where(windows_table.c.state.in_(_UNFINISHED))
        with self._store.reading() as connection:
            rows = connection.execute(query.group_by(windows_table.c.rule_id))
            firsts = {row.rule_id: row.first for row in rows}
        return {
            rule.id: firsts[rule.id]
            for rule in rules
            if rule.id in firsts and firsts[rule.id] <= now - _delay(rule)
        }

    def _due(self, rule: Rule, now: datetime) -> list[Window]:
        at = windows_table.c.at
        query = sa.select(at).where(
            windows_table.c.rule_id == rule.id,
            windows_table.c.state.in_(_UNFINISHED),
            at <= now - _delay(rule),
        )
        with self._store.reading() as connection:
            return [_window(rule, each) for each in connection.scalars(query.order_by(at))]

    def _quiet_of(self, rule: Rule, windows: Sequence[Window]) -> frozenset[datetime]:
        """T of those windows that need not be run, where there are many, as after an outage: one look over
        them all."""
        if (
            self._quiet is None
            or len(windows) < _MANY
            or rule.kind is RuleKind.NRT
            or rule.trigger.fires(0, rule.threshold)
        ):
            return frozenset()
        try:
            is_quiet = self._quiet(rule, windows[0].start, windows[-1].at + rule.frequency)
        except (QueryError, LakeError):
            return frozenset()  # it fails where it is run, with its reason kept
        answers = is_quiet(_places([window.at for window in windows]))
        return frozenset(window.at for window, answer in zip(windows, answers, strict=True) if answer)

    def _run(
        self,
        rule: Rule,
        window: Window,
        engine: Engine,
        tables: Sequence[Stored],
        quiet: frozenset[datetime],
    ) -> Run:
        first = min((table.first for table in tables if table.first), default=None)
        if rule.kind is not RuleKind.NRT and is_learning(rule, window, first):
            return Run(window, WindowState.SKIPPED, LEARNING)
        rows = int(seen(tables, rule, _places([window.at]))[0])
        if rule.suppression is not None and self._is_suppressed(rule, window, rule.suppression):
            return Run(window, WindowState.SKIPPED, SUPPRESSED, seen=rows)
        if window.at in quiet:
            return Run(window, WindowState.DONE, seen=rows, began=self._clock())
        self._mark_running(window)
        began, started = self._clock(), perf_counter()
        each = run(
            rule,
            window,
            engine,
            seen=rows,
            ingested=rule.kind is RuleKind.NRT,
            leave=self._applied,
        )
        return replace(each, began=began, seconds=perf_counter() - started)

    def _is_suppressed(self, rule: Rule, window: Window, suppression: timedelta) -> bool:
        """By an alert of a window before, or of this one, which late rows would have run again."""
        return self._store.has_alert(rule.id, after=window.at - suppression, until=window.at)

    def _mark_running(self, window: Window) -> None:
        with self._store.engine.begin() as connection:
            connection.execute(
                sa.update(windows_table)
                .where(windows_table.c.rule_id == window.rule_id, windows_table.c.at == window.at)
                .values(state=WindowState.RUNNING.value)
            )

    def _settle(self, rule: Rule, each: Run, done: Round, sink: Sink | None) -> Round:
        """Write how a window ended, with its new alerts and what follows from them."""
        failures = 0

        def count(connection: sa.Connection) -> None:
            nonlocal failures
            failures = self._count_failure(connection, rule, each)

        new = settle(self._store, [each], sink, count)
        self._ran.setdefault(rule.id, deque(maxlen=_RUN_IN_A_DAY)).append(each.window.at)
        disabled = done.disabled
        if failures >= PERMANENT_FAILURES:
            reason = f"failed {failures} times in a row: {each.reason}"
            self._states.set(rule, enabled=False, reason=reason, now=self._clock(), by=BY)
            disabled = (*disabled, rule)
        return Round((*done.runs, each), (*done.alerts, *new), disabled)

    def _count_failure(self, connection: sa.Connection, rule: Rule, each: Run) -> int:
        """How often in a row the rule has failed for this reason; 0 when it has not."""
        if each.state is not WindowState.FAILED:
            _change(connection, rule, failures=0, reason="", retry_at=None)
            return 0
        row = connection.execute(
            sa.select(_schedules.c.failures, _schedules.c.reason).where(_schedules.c.rule_id == rule.id)
        ).one()
        failures = row.failures + 1 if row.reason == each.reason else 1
        _change(connection, rule, failures=failures, reason=each.reason, retry_at=None)
        return int(failures)

    def _postpone(self, rule: Rule, each: Run) -> bool:
        """Try again later what failed for a passing reason: its windows wait. Whether the rule is disabled,
        as what stops at the same limit each time is, lest nobody see that it finds nothing any more."""
        with self._store.engine.begin() as connection:
            row = connection.execute(
                sa.select(_schedules.c.failures, _schedules.c.reason).where(_schedules.c.rule_id == rule.id)
            ).one()
            is_too_costly = (
                each.is_costly and row.failures + 1 >= COSTLY_FAILURES and row.reason == each.reason
            )
            wait = min(FIRST_RETRY * 2 ** min(row.failures, 10), LONGEST_RETRY)
            _change(
                connection,
                rule,
                failures=0 if is_too_costly else row.failures + 1,
                reason=each.reason,
                retry_at=None if is_too_costly else self._clock() + wait,
            )
            self._store.record(connection, [replace(each, state=WindowState.DUE)], ())
        if is_too_costly:
            reason = f"stopped {COSTLY_FAILURES} times in a row: {each.reason}"
            self._states.set(rule, enabled=False, reason=reason, now=self._clock(), by=BY)
        return is_too_costly


def _oldest(engine: Engine, tables: Iterable[str], now: datetime) -> datetime | None:
    found = (
        engine.query(f"['{name}'] | summarize First=min(TimeGenerated)", now=now).rows()[0]["First"]
        for name in tables
    )
    return min((first for first in found if isinstance(first, datetime)), default=None)


_UNFINISHED: Final = (WindowState.DUE.value, WindowState.RUNNING.value)


def _places(moments: Sequence[datetime]) -> Moments:
    return np.array([place(moment) for moment in moments], np.int64)


def _is_passing(each: Run) -> bool:
    return each.state is WindowState.FAILED and not each.is_permanent


def _delay(rule: Rule) -> timedelta:
    return NRT_DELAY if rule.kind is RuleKind.NRT else DELAY


def _unplanned(rule: Rule, next_at: datetime, frequency: int | None) -> datetime:
    """The rule's first regular run after the last one that was written down, be it by another frequency."""
    apart = rule.frequency if frequency is None else timedelta(microseconds=frequency)
    return next_run(rule.frequency, next_at - apart)


def _window(rule: Rule, at: datetime) -> Window:
    return Window(rule.id, at, at - rule.period, at - rule.frequency)


def _new(rule: Rule, next_at: datetime) -> dict[str, object]:
    return {"rule_id": rule.id, "next_at": next_at, "owner": "", "failures": 0, "reason": ""}


def _due(rule: Rule, at: datetime) -> dict[str, object]:
    state = WindowState.DUE.value
    return {"rule_id": rule.id, "at": at, "state": state, "reason": "", "rows": 0, "seen": 0}


def _done(rule: Rule, at: datetime, seen: int) -> dict[str, object]:
    return {**_due(rule, at), "state": WindowState.DONE.value, "seen": seen}


def _change(connection: sa.Connection, rule: Rule, **values: object) -> None:
    connection.execute(sa.update(_schedules).where(_schedules.c.rule_id == rule.id).values(**values))
