"""Runs of playbooks in the state database: what each step did, and how to go on after a crash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from trailhawk.detect.store import Moment, make_tables, metadata, reading
from trailhawk.errors import NotFoundError
from trailhawk.respond.playbook import KINDS, Contain, Playbook

CLAIM: Final = timedelta(minutes=5)
"""After so long without a step a run counts as left by a process that ended."""
MOST_DETAIL: Final = 4_000
MOST_CALLS: Final = 200_000
"""Characters of what a step says; in AWS there is room for every call of it, which somebody approves."""

_runs = sa.Table(
    "playbook_runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("origin", sa.String, nullable=False, unique=True),
    sa.Column("playbook", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("number", sa.Integer),
    sa.Column("alert_id", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("chain", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("ended_at", Moment),
    sa.Column("claimed_at", Moment),
    sa.Column("decided_by", sa.String, nullable=False),
    sa.Column("decided_at", Moment),
    sqlite_autoincrement=True,
)

_steps = sa.Table(
    "playbook_steps",
    metadata,
    sa.Column("run_id", sa.Integer, primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("detail", sa.String, nullable=False),
    sa.Column("at", Moment),
    sa.Column("data", sa.LargeBinary),
)


class RunState(Enum):
    RUNNING = "running"
    WAITING = "waiting"
    """For approval."""
    DONE = "done"
    FAILED = "failed"
    """At least one step did not work; the others were done."""
    REJECTED = "rejected"
    UNDONE = "undone"


class StepState(Enum):
    PLANNED = "planned"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class StepRun:
    """A step of a run; `place` counts from 1, `data` is what it keeps for itself."""

    place: int
    kind: str
    state: StepState
    detail: str
    at: datetime | None
    data: Any


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a playbook; `number` is the incident's, None for an alert that is in none."""

    id: int
    playbook: str
    source: str
    number: int | None
    alert_id: str
    by: str
    chain: tuple[str, ...]
    state: RunState
    started_at: datetime
    ended_at: datetime | None
    decided_by: str
    """Who approved or rejected it."""
    decided_at: datetime | None
    steps: tuple[StepRun, ...]

    @property
    def waits_since(self) -> datetime | None:
        """When the oldest of what it waits to do was planned; None where it does not wait."""
        if self.state is not RunState.WAITING:
            return None
        waiting = (each.at for each in self.steps if each.state is StepState.WAITING and each.at)
        return min(waiting, default=None)


class PlaybookRuns:
    """The runs, in the state database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        make_tables(engine, [_runs, _steps])

    def start(
        self,
        playbook: Playbook,
        *,
        origin: str,
        number: int | None,
        alert_id: str,
        by: str,
        chain: Iterable[str],
        now: datetime,
    ) -> int:
        """The id of a new run, or of the one of this origin that there is."""
        known = sa.select(_runs.c.id).where(_runs.c.origin == origin)
        with self._engine.begin() as connection:
            if (found := connection.scalar(known)) is not None:
                return int(found)
            made: int = connection.execute(
                sa.insert(_runs).returning(_runs.c.id),
                {
                    "origin": origin,
                    "playbook": playbook.name,
                    "source": playbook.source,
                    "number": number,
                    "alert_id": alert_id,
                    "by": by,
                    "chain": msgspec.json.encode(tuple(chain)),
                    "state": RunState.RUNNING.value,
                    "started_at": now,
                    "decided_by": "",
                },
            ).scalar_one()
            connection.execute(
                sa.insert(_steps),
                [
                    {
                        "run_id": made,
                        "place": place,
                        "kind": KINDS[type(step)],
                        "state": StepState.PLANNED.value,
                        "detail": "",
                    }
                    for place, step in enumerate(playbook.steps, 1)
                ],
            )
        return made

    def claim(self, run_id: int, now: datetime) -> bool:
        """Take a running run for oneself; False where it runs elsewhere, or does not run."""
        free = _runs.c.claimed_at.is_(None) | (_runs.c.claimed_at < now - CLAIM)
        running = (_runs.c.id == run_id) & (_runs.c.state == RunState.RUNNING.value)
        with self._engine.begin() as connection:
            return bool(
                connection.execute(sa.update(_runs).where(running & free).values(claimed_at=now)).rowcount
            )

    def left(self, now: datetime) -> tuple[int, ...]:
        """The runs that nobody works on any more, though they are not at their end."""
        free = _runs.c.claimed_at.is_(None) | (_runs.c.claimed_at < now - CLAIM)
        query = sa.select(_runs.c.id).where(_runs.c.state == RunState.RUNNING.value, free)
        with reading(self._engine) as connection:
            return tuple(connection.scalars(query.order_by(_runs.c.id)))

    def step(
        self,
        run_id: int,
        place: int,
        state: StepState,
        *,
        detail: str = "",
        data: object = None,
        now: datetime,
    ) -> None:
        """Write down how a step stands; what it kept stays where `data` is None."""
        values: dict[str, object] = {"state": state.value, "at": now}
        if data is not None:
            values["data"] = msgspec.json.encode(data)
        which = (_steps.c.run_id == run_id) & (_steps.c.place == place)
        with self._engine.begin() as connection:
            kind = connection.scalar(sa.select(_steps.c.kind).where(which))
            values["detail"] = _cut(detail, MOST_CALLS if kind == KINDS[Contain] else MOST_DETAIL)
            connection.execute(sa.update(_steps).where(which).values(values))
            connection.execute(
                sa.update(_runs)
                .where(_runs.c.id == run_id, _runs.c.claimed_at.is_not(None))
                .values(claimed_at=now)
            )

    def end(self, run_id: int, state: RunState, *, now: datetime) -> None:
        """Write down how a run stands, and give it back."""
        ended = None if state in (RunState.WAITING, RunState.RUNNING) else now
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(_runs)
                .where(_runs.c.id == run_id)
                .values(state=state.value, claimed_at=None, ended_at=ended)
            )

    def decide(self, run_id: int, state: RunState, *, by: str, now: datetime) -> bool:
        """Let a waiting run go on, or not; False where it does not wait."""
        waiting = (_runs.c.id == run_id) & (_runs.c.state == RunState.WAITING.value)
        values = {"state": state.value, "decided_by": by, "decided_at": now}
        with self._engine.begin() as connection:
            return bool(connection.execute(sa.update(_runs).where(waiting).values(values)).rowcount)

    def run(self, run_id: int) -> Run:
        """NotFoundError where there is none."""
        with reading(self._engine) as connection:
            row = connection.execute(sa.select(_runs).where(_runs.c.id == run_id)).one_or_none()
            if row is None:
                raise NotFoundError(f"no run {run_id}", hint="`trailhawk playbook runs` lists them")
            steps = sa.select(_steps).where(_steps.c.run_id == run_id).order_by(_steps.c.place)
            return _run(row, connection.execute(steps).all())

    def runs(self, *, number: int | None = None, limit: int = 100) -> tuple[Run, ...]:
        """The newest runs, oldest first."""
        query = sa.select(_runs).order_by(_runs.c.id.desc()).limit(limit)
        if number is not None:
            query = query.where(_runs.c.number == number)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
            steps = sa.select(_steps).where(_steps.c.run_id.in_([row.id for row in rows]))
            found: dict[int, list[sa.Row[Any]]] = {}
            for step in connection.execute(steps.order_by(_steps.c.run_id, _steps.c.place)):
                found.setdefault(step.run_id, []).append(step)
        return tuple(_run(row, found.get(row.id, [])) for row in reversed(rows))

    def last_of(self, playbook: str, number: int) -> Run | None:
        """The newest run of a playbook about an incident."""
        query = sa.select(_runs.c.id).where(_runs.c.playbook == playbook, _runs.c.number == number)
        with reading(self._engine) as connection:
            found = connection.scalar(query.order_by(_runs.c.id.desc()).limit(1))
        return None if found is None else self.run(found)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def _run(row: sa.Row[Any], steps: Sequence[sa.Row[Any]]) -> Run:
    return Run(
        id=row.id,
        playbook=row.playbook,
        source=row.source,
        number=row.number,
        alert_id=row.alert_id,
        by=row.by,
        chain=tuple(msgspec.json.decode(row.chain)),
        state=RunState(row.state),
        started_at=row.started_at,
        ended_at=row.ended_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        steps=tuple(
            StepRun(
                place=step.place,
                kind=step.kind,
                state=StepState(step.state),
                detail=step.detail,
                at=step.at,
                data=None if step.data is None else msgspec.json.decode(step.data),
            )
            for step in steps
        ),
    )
