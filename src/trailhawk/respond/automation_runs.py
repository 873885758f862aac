"""What automation rules have to look at, and what each of their runs did, in the state database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from trailhawk.detect.alert import Alert
from trailhawk.detect.store import Moment, make_tables, metadata, reading
from trailhawk.incidents.change import Change
from trailhawk.respond.automation import Rule, Trigger, occasion

CLAIM: Final = timedelta(minutes=5)
"""After so long without an action an occasion that somebody works on counts as left by a process that ended;
longer than any action takes."""
MOST_DETAIL: Final = 4_000

_occasions = sa.Table(
    "automation_occasions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("trigger", sa.String, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("alert_id", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("claimed_at", Moment),
    sa.Column("decided", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("trigger", "sequence"),
    sa.Index("automation_occasions_number", "number", "id"),
    sqlite_autoincrement=True,
)
"""Changes of incidents (`sequence` is the change's) and alerts (the alert's) that rules are still to look at.
`decided` are the ids of the rules that have had their turn."""

_runs = sa.Table(
    "automation_runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("rule_id", sa.String, nullable=False),
    sa.Column("rule", sa.String, nullable=False),
    sa.Column("trigger", sa.String, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("number", sa.Integer, nullable=False, index=True),
    sa.Column("chain", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("ended_at", Moment),
    sa.UniqueConstraint("trigger", "sequence", "rule_id"),
    sqlite_autoincrement=True,
)

_steps = sa.Table(
    "automation_steps",
    metadata,
    sa.Column("run_id", sa.Integer, primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("detail", sa.String, nullable=False),
    sa.Column("at", Moment),
)

_cursors = sa.Table(
    "automation_cursors",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("sequence", sa.Integer, nullable=False),
)

_ALERTS = "alerts"


class State(Enum):
    """Of an occasion, a run or a step."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Occasion:
    """Something that rules may be for."""

    id: int
    trigger: Trigger
    sequence: int
    number: int
    alert_id: str
    decided: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ActionRun:
    """An action of a run; `place` counts from 1."""

    place: int
    action: str
    state: State
    detail: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Run:
    """A rule's run on one occasion. `chain` are the ids of the rules that led to it and its own, in order."""

    id: int
    rule_id: str
    rule: str
    trigger: Trigger
    sequence: int
    number: int
    chain: tuple[str, ...]
    state: State
    started_at: datetime
    ended_at: datetime | None
    steps: tuple[ActionRun, ...]

    @property
    def error(self) -> str:
        """What went wrong, empty where nothing did."""
        return "; ".join(each.detail for each in self.steps if each.state is State.FAILED)


class AutomationRuns:
    """Occasions and runs, in the state database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        make_tables(engine, [_occasions, _runs, _steps, _cursors])

    # Occasions

    def note(self, connection: sa.Connection, change: Change) -> None:
        """Write down that rules are to look at a change, in the transaction of the connection."""
        trigger = occasion(change)
        if trigger is not None:
            self._add(connection, trigger, change.sequence, number=change.number)

    def _add(
        self,
        connection: sa.Connection,
        trigger: Trigger,
        sequence: int,
        *,
        number: int = 0,
        alert_id: str = "",
    ) -> None:
        connection.execute(
            sa.insert(_occasions).values(
                trigger=trigger.value,
                sequence=sequence,
                number=number,
                alert_id=alert_id,
                state=State.WAITING.value,
                decided=b"[]",
            )
        )

    def alerts_cursor(self) -> int:
        """The sequence number of the last alert that was noted; 0 where none was."""
        with reading(self._engine) as connection:
            return self._alerts_cursor(connection)

    def _alerts_cursor(self, connection: sa.Connection) -> int:
        query = sa.select(_cursors.c.sequence).where(_cursors.c.name == _ALERTS)
        return int(connection.scalar(query) or 0)

    def note_alerts(self, alerts: Sequence[tuple[int, Alert]]) -> int:
        """Write down that rules are to look at alerts (by their sequence numbers); how many were new."""
        with self._engine.begin() as connection:
            cursor = self._alerts_cursor(connection)
            fresh = [(sequence, alert) for sequence, alert in alerts if sequence > cursor]
            for sequence, alert in fresh:
                self._add(connection, Trigger.ALERT_CREATED, sequence, alert_id=alert.id)
            if fresh:
                self._move(connection, fresh[-1][0])
        return len(fresh)

    def has_alerts_cursor(self) -> bool:
        """Whether somebody has begun to note alerts."""
        with reading(self._engine) as connection:
            return self._has_cursor(connection)

    def _has_cursor(self, connection: sa.Connection) -> bool:
        return connection.execute(sa.select(_cursors).where(_cursors.c.name == _ALERTS)).first() is not None

    def begin_alerts_at(self, sequence: int) -> None:
        """Pass over all alerts until this one, where nobody has begun to note any."""
        with self._engine.begin() as connection:
            if not self._has_cursor(connection):
                self._move(connection, sequence)

    def _move(self, connection: sa.Connection, sequence: int) -> None:
        connection.execute(sa.delete(_cursors).where(_cursors.c.name == _ALERTS))
        connection.execute(sa.insert(_cursors).values(name=_ALERTS, sequence=sequence))

    def take(self, now: datetime) -> Occasion | None:
        """The next occasion, claimed for the caller; of one incident one at a time, in order."""
        other = _occasions.alias()
        waits = _occasions.c.state == State.WAITING.value
        left = (_occasions.c.state == State.RUNNING.value) & (_occasions.c.claimed_at < now - CLAIM)
        earlier = (
            sa.select(other.c.id)
            .where(
                other.c.number == _occasions.c.number,
                other.c.number != 0,
                other.c.id < _occasions.c.id,
            )
            .exists()
        )
        query = sa.select(_occasions).where(waits | left, ~earlier).order_by(_occasions.c.id).limit(1)
        with self._engine.begin() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            claimed = connection.execute(
                sa.update(_occasions)
                .where(_occasions.c.id == row.id, waits | left)
                .values(state=State.RUNNING.value, claimed_at=now)
            )
            if not claimed.rowcount:
                return None  # another process was quicker
        return Occasion(
            id=row.id,
            trigger=Trigger(row.trigger),
            sequence=row.sequence,
            number=row.number,
            alert_id=row.alert_id,
            decided=tuple(msgspec.json.decode(row.decided)),
        )

    def finish(self, of: Occasion, *, now: datetime) -> None:
        """Every rule has had its turn. A run that is not at its end is of a rule that is gone."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_occasions).where(_occasions.c.id == of.id))
            connection.execute(
                sa.update(_runs)
                .where(
                    _runs.c.trigger == of.trigger.value,
                    _runs.c.sequence == of.sequence,
                    _runs.c.state == State.RUNNING.value,
                )
                .values(state=State.FAILED.value, ended_at=now)
            )

    # Runs

    def begin(
        self,
        of: Occasion,
        rule: Rule,
        *,
        decided: Iterable[str],
        number: int,
        chain: Iterable[str],
        now: datetime,
    ) -> Run:
        """A new run of a rule. In the same transaction it is written down which rules have had their turn,
        so that after a crash none of them is asked again over what others have changed."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(_occasions)
                .where(_occasions.c.id == of.id)
                .values(decided=msgspec.json.encode(tuple(decided)), claimed_at=now)
            )
            made = connection.execute(
                sa.insert(_runs).returning(_runs.c.id),
                {
                    "rule_id": rule.id,
                    "rule": rule.name,
                    "trigger": of.trigger.value,
                    "sequence": of.sequence,
                    "number": number,
                    "chain": msgspec.json.encode(tuple(chain)),
                    "state": State.RUNNING.value,
                    "started_at": now,
                },
            ).scalar_one()
            connection.execute(
                sa.insert(_steps),
                [
                    {
                        "run_id": made,
                        "place": place,
                        "action": str(action)[:MOST_DETAIL],
                        "state": State.WAITING.value,
                        "detail": "",
                    }
                    for place, action in enumerate(rule.actions, 1)
                ],
            )
        return self.run(int(made))

    def step(self, run: Run, place: int, state: State, *, detail: str = "", now: datetime) -> None:
        """Write down how an action stands, and that somebody works on it."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(_occasions)
                .where(
                    _occasions.c.trigger == run.trigger.value,
                    _occasions.c.sequence == run.sequence,
                    _occasions.c.state == State.RUNNING.value,
                )
                .values(claimed_at=now)
            )
            connection.execute(
                sa.update(_steps)
                .where(_steps.c.run_id == run.id, _steps.c.place == place)
                .values(state=state.value, detail=detail[:MOST_DETAIL], at=now)
            )

    def end(self, run_id: int, *, now: datetime) -> Run:
        """Write down that a run is at its end; failed where one of its actions did not work."""
        failed = any(each.state is State.FAILED for each in self.run(run_id).steps)
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(_runs)
                .where(_runs.c.id == run_id)
                .values(state=(State.FAILED if failed else State.DONE).value, ended_at=now)
            )
        return self.run(run_id)

    def run(self, run_id: int) -> Run:
        return self._found(_runs.c.id == run_id)[0]

    def runs_of(self, of: Occasion) -> dict[str, Run]:
        """The runs that began on an occasion, by the rule's id."""
        wanted = (_runs.c.trigger == of.trigger.value) & (_runs.c.sequence == of.sequence)
        return {run.rule_id: run for run in self._found(wanted)}

    def last_of(self, rule: str, number: int) -> Run | None:
        """The newest run of the rule of this name on an incident."""
        found = self._found((_runs.c.rule == rule) & (_runs.c.number == number), limit=1)
        return found[0] if found else None

    def runs(self, *, number: int | None = None, limit: int = 100) -> tuple[Run, ...]:
        """The newest runs, oldest first."""
        wanted = sa.true() if number is None else _runs.c.number == number
        return tuple(reversed(self._found(wanted, limit=limit)))

    def _found(self, wanted: sa.ColumnElement[bool], *, limit: int | None = None) -> list[Run]:
        """The runs that are wanted, newest first."""
        query = sa.select(_runs).where(wanted).order_by(_runs.c.id.desc()).limit(limit)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
            steps: dict[int, list[ActionRun]] = {}
            known = sa.select(_steps).where(_steps.c.run_id.in_([row.id for row in rows]))
            for row in connection.execute(known.order_by(_steps.c.run_id, _steps.c.place)):
                one = ActionRun(row.place, row.action, State(row.state), row.detail, row.at)
                steps.setdefault(row.run_id, []).append(one)
        return [_run(row, steps.get(row.id, [])) for row in rows]


def _run(row: sa.Row[Any], steps: Iterable[ActionRun]) -> Run:
    return Run(
        id=row.id,
        rule_id=row.rule_id,
        rule=row.rule,
        trigger=Trigger(row.trigger),
        sequence=row.sequence,
        number=row.number,
        chain=tuple(msgspec.json.decode(row.chain)),
        state=State(row.state),
        started_at=row.started_at,
        ended_at=row.ended_at,
        steps=tuple(steps),
    )
