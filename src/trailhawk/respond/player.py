"""Runs playbooks: step by step, each written down before and after, so that a run can go on after a crash."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from trailhawk.detect.store import AlertStore
from trailhawk.detect.watchlists import WatchlistStore
from trailhawk.errors import TrailhawkError, UsageError
from trailhawk.incidents.incident import MAX_COMMENT, MAX_TEXT, MAX_TITLE, Incident, assemble
from trailhawk.incidents.store import MAX_LABEL, IncidentStore
from trailhawk.respond import changing
from trailhawk.respond.channel import Channel
from trailhawk.respond.cloud import Call, ContainmentError, ForeignError
from trailhawk.respond.containment import (
    MOST_TARGETS,
    Containment,
    Done,
    Place,
    Plan,
    Target,
    target,
    targets,
)
from trailhawk.respond.message import PLAYBOOK, filled
from trailhawk.respond.outbox import Outbox
from trailhawk.respond.places import Ask, places
from trailhawk.respond.playbook import (
    KINDS,
    STEP_SECONDS,
    Contain,
    Label,
    Notify,
    Playbook,
    Query,
    Remark,
    Set,
    Step,
    Todo,
    Watch,
    parse_playbook,
)
from trailhawk.respond.playbook_runs import PlaybookRuns, Run, RunState, StepRun, StepState
from trailhawk.words import counted

BY: Final = "Playbook - "
"""Who changes an incident: this and the playbook's name."""
MOST_ROWS: Final = 100
MOST_VALUE: Final = 1_000
MOST_ENTITIES: Final = 500


@dataclass(frozen=True, slots=True)
class Told:
    """What a step would do, or did."""

    place: int
    kind: str
    state: StepState
    detail: str


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why a target is not acted on. A fault leaves something of ours as it was; the account of somebody else
    does not."""

    said: str
    is_fault: bool


class Player:
    """Runs playbooks over the incidents of a home."""

    def __init__(
        self,
        runs: PlaybookRuns,
        *,
        incidents: IncidentStore,
        alerts: AlertStore,
        outbox: Outbox,
        channels: Callable[[], Sequence[Channel]],
        watchlists: WatchlistStore,
        ask: Ask,
        containment: Callable[[], Containment],
        clock: Callable[[], datetime],
        step_seconds: float = STEP_SECONDS,
    ) -> None:
        self.runs = runs
        self._incidents = incidents
        self._alerts = alerts
        self._outbox = outbox
        self._channels = channels
        self._watchlists = watchlists
        self._ask = ask
        self._containment = containment
        self._clock = clock
        self._step_seconds = step_seconds

    # Runs

    def start(
        self,
        playbook: Playbook,
        *,
        origin: str,
        by: str,
        number: int | None = None,
        alert_id: str = "",
        chain: Iterable[str] = (),
    ) -> int:
        """Begin a run, which `go` carries out; the one of this origin where there is one."""
        return self.runs.start(
            playbook,
            origin=origin,
            number=None if number is None else self._incidents.incident(number).number,
            alert_id=alert_id,
            by=by,
            chain=chain,
            now=self._clock(),
        )

    def go(self, run_id: int) -> Run:
        """Carry out what is left of a run, until its end or until it waits for approval."""
        if self.runs.claim(run_id, self._clock()):
            try:
                state = self._carry_out(self.runs.run(run_id))
            except Exception as error:  # the border: a run that cannot go on does not keep others waiting
                state = self._broken(run_id, error)
            self.runs.end(run_id, state, now=self._clock())
        return self.runs.run(run_id)

    def _carry_out(self, run: Run) -> RunState:
        playbook = parse_playbook(run.source, name=run.playbook)
        for step, done in zip(playbook.steps, run.steps, strict=True):
            if done.state in (StepState.DONE, StepState.FAILED):
                continue
            if isinstance(step, Contain) and not run.decided_by and self._asks(step):
                if self._wait(run, playbook):
                    return RunState.WAITING
                continue  # it could not even be planned, and is written down as failed
            self._do(run, step, done)
        states = {each.state for each in self.runs.run(run.id).steps}
        return RunState.FAILED if StepState.FAILED in states else RunState.DONE

    def _broken(self, run_id: int, error: Exception) -> RunState:
        """Write down why a run cannot go on: settings or a kept playbook that cannot be read any more, a
        fault of ours. Its steps that are to come fail."""
        said = str(error) if isinstance(error, TrailhawkError) else f"{type(error).__name__}: {error}"
        for each in self.runs.run(run_id).steps:
            if each.state in (StepState.PLANNED, StepState.RUNNING, StepState.WAITING):
                self.runs.step(run_id, each.place, StepState.FAILED, detail=said, now=self._clock())
        return RunState.FAILED

    def resume(self) -> int:
        """Go on with runs that a process left; how many there were."""
        left = self.runs.left(self._clock())
        for run_id in left:
            self.go(run_id)
        return len(left)

    def approve(self, run_id: int, *, by: str) -> Run:
        """Let a run do what it waits to do, and the rest. UsageError where it does not wait, or has waited
        for too long: what was planned may be wrong by now."""
        run = self.runs.run(run_id)
        if hint := self.expired(run):
            raise UsageError(
                f"run {run_id} could be approved until {self.approvable_until(run):%Y-%m-%d %H:%M} UTC",
                hint=f"{hint}; `approval_hours` in [respond.aws] says how long one waits",
            )
        self._decide(run_id, RunState.RUNNING, by)
        return self.go(run_id)

    def expired(self, run: Run) -> str:
        """What to do about a run that waits and has waited for too long; '' for any other."""
        until = self.approvable_until(run)
        return _anew(run) if until is not None and self._clock() >= until else ""

    def approvable_until(self, run: Run) -> datetime | None:
        """When a run that waits has waited for too long; None for one that does not wait."""
        since = run.waits_since
        return None if since is None else since + self._containment().approval

    def reject(self, run_id: int, *, by: str) -> Run:
        """End a run that waits; what it has done stays done."""
        self._decide(run_id, RunState.REJECTED, by)
        now = self._clock()
        for each in self.runs.run(run_id).steps:
            if each.state in (StepState.WAITING, StepState.PLANNED):
                self.runs.step(run_id, each.place, StepState.REJECTED, detail=each.detail, now=now)
        self.runs.end(run_id, RunState.REJECTED, now=now)
        return self.runs.run(run_id)

    def _decide(self, run_id: int, state: RunState, by: str) -> None:
        self.runs.run(run_id)
        if not by.strip():
            raise UsageError("who decides is no empty text")
        if not self.runs.decide(run_id, state, by=by, now=self._clock()):
            raise UsageError(
                f"run {run_id} does not wait: it is {self.runs.run(run_id).state.value}",
                hint="`trailhawk playbook runs` shows which do",
            )

    def undo(self, run_id: int, *, by: str) -> list[Told]:
        """Put back what a run did in AWS, the last first. What cannot be put back is told, and left."""
        run = self.runs.run(run_id)
        if run.state in (RunState.RUNNING, RunState.WAITING):
            raise UsageError(f"run {run_id} is not at its end: it is {run.state.value}")
        told: list[Told] = []
        whole = True
        for each in reversed(run.steps):
            if each.kind != "aws" or not each.data or each.state is StepState.UNDONE:
                continue
            said, undone = self._undo_step(each)
            whole = whole and undone
            state = StepState.UNDONE if undone else each.state
            detail = f"{each.detail}\nundone by {by}: {'; '.join(said)}"
            self.runs.step(run_id, each.place, state, detail=detail, now=self._clock())
            told.append(Told(each.place, each.kind, state, "; ".join(said)))
        if not told:
            raise UsageError(f"run {run_id} did nothing in AWS that could be put back")
        if whole:
            self.runs.end(run_id, RunState.UNDONE, now=self._clock())
        return told

    def _undo_step(self, each: StepRun) -> tuple[list[str], bool]:
        said, undone = [], True
        for done in reversed(_done_of(each.data)):
            try:
                said.append(self._containment().undo(done))
            except ContainmentError as error:
                said.append(str(error))
                undone = False
        return said, undone

    # Plans

    def dry_run(self, playbook: Playbook, number: int) -> list[Told]:
        """What each step would do now. Queries and AWS are read; nothing is written anywhere."""
        incident = self._incidents.incident(number)
        results: dict[str, object] = {}
        told = []
        for place, step in enumerate(playbook.steps, 1):
            try:
                detail = self._would(playbook, step, incident, results)
                state = StepState.PLANNED
            except TrailhawkError as error:
                detail, state = str(error), StepState.FAILED
            told.append(Told(place, KINDS[type(step)], state, detail))
        return told

    def _would(self, playbook: Playbook, step: Step, incident: Incident, results: dict[str, object]) -> str:
        context = self._context(playbook.name, incident, results)
        match step:
            case Query():
                rows, more = self._rows(step, incident)
                results[step.name] = rows
                return _rows_said(rows, more)
            case Notify():
                self._channel(step.channel)
                return f"tell {step.channel}: {filled(step.text, context)}"
            case Remark():
                return filled(step.text, context)
            case Todo():
                return (
                    f"{filled(step.title, context, line=True)}\n{filled(step.description, context)}".strip()
                )
            case Label():
                return ", ".join(filled(text, context, line=True) for text in step.texts)
            case Set():
                return str(step.setting)
            case Watch():
                return f"put on {step.alias}: {', '.join(incident.values(step.type)) or 'nothing'}"
            case Contain():
                asks = "after approval: " if self._asks(step) else ""
                _, plans, refused = self._planned(step, incident)
                return asks + ("\n".join([*plans, *_said(refused)]) or "nothing to act on")

    def _asks(self, step: Contain) -> bool:
        return step.approval or step.action not in self._containment().allowed

    def _wait(self, run: Run, playbook: Playbook) -> bool:
        """Plan all steps in AWS that are to come, so that who approves sees them; whether any is to wait."""
        incident = self._incident(run)
        waits = False
        for place, step in enumerate(playbook.steps, 1):
            known = self.runs.run(run.id).steps[place - 1]
            waits = waits or known.state is StepState.WAITING  # planned before a process ended
            if not isinstance(step, Contain) or known.state not in (StepState.PLANNED, StepState.RUNNING):
                continue
            try:
                chosen, plans, refused = self._planned(step, incident)
                detail = "\n".join([*plans, *_said(refused)]) or "nothing to act on"
                state = StepState.WAITING
                # What was done before a process ended stays there, to be taken back.
                data: object = (known.data or {}) | {
                    "targets": [_row(each) for each in chosen],
                    "refused": _said(refused),
                    "faults": _faults(refused),
                }
            except TrailhawkError as error:
                detail, state, data = str(error), StepState.FAILED, None
            waits = waits or state is StepState.WAITING
            self.runs.step(run.id, place, state, detail=detail, data=data, now=self._clock())
        return waits

    def _found(
        self, step: Contain, incident: Incident, deadline: float
    ) -> tuple[list[Target], list[_Refused]]:
        """What can be acted on, with account and region, and why others cannot be: a role of the attacker's
        own account must not keep ours from being contained. The error where none can be."""
        fit: list[Target] = []
        refused: list[_Refused] = []
        chosen = self._targets(step, incident)
        for each in chosen:
            try:
                self._check(deadline)
                fit.append(self._located(step.action, each, incident))
            except TrailhawkError as error:  # of AWS, or of the lake that tells where it is
                if len(refused) + 1 == len(chosen):
                    raise
                refused.append(_refused(each, error))
        return list(dict.fromkeys(fit)), refused

    def _check(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise ContainmentError(f"not done: the step took {self._step_seconds:g} seconds")

    def _located(self, action: str, each: Target, incident: Incident) -> Target:
        def named() -> tuple[Place, ...]:
            start, end = incident.first_activity, incident.last_activity
            return places(self._ask, each.name, start=start, end=end)

        return self._containment().located(action, each, named)

    def _targets(self, step: Contain, incident: Incident) -> tuple[Target, ...]:
        chosen = tuple(target(step.action, name) for name in step.targets)
        chosen = chosen or targets(step.action, incident.entities)
        if len(chosen) > MOST_TARGETS:
            raise UsageError(
                f"the incident has {len(chosen)} to {step.action}", hint=f"{MOST_TARGETS} at most; name them"
            )
        return chosen

    def _planned(self, step: Contain, incident: Incident) -> tuple[list[Target], list[str], list[_Refused]]:
        """What can be acted on, what would be done with each, and why others cannot be. The error where none
        can be."""
        fit: list[Target] = []
        plans: list[str] = []
        found, refused = self._found(step, incident, time.monotonic() + self._step_seconds)
        for each in found:
            try:
                plans.append(_plan_said(self._containment().plan(step.action, each)))
            except ContainmentError as error:
                if not fit and each is found[-1]:
                    raise
                refused.append(_refused(each, error))
            else:
                fit.append(each)
        return fit, plans, refused

    # Steps

    def _do(self, run: Run, step: Step, done: StepRun) -> None:
        """One step. What goes wrong is written down, and the run goes on."""
        again = done.state is StepState.RUNNING
        self.runs.step(run.id, done.place, StepState.RUNNING, detail=done.detail, now=self._clock())
        try:
            detail, data = self._done(run, step, done, again=again)
            state = StepState.DONE
        except TrailhawkError as error:
            detail, data, state = str(error), None, StepState.FAILED
        except Exception as error:  # the border: one step's fault must not end the run
            detail, data, state = f"{type(error).__name__}: {error}", None, StepState.FAILED
        self.runs.step(run.id, done.place, state, detail=detail, data=data, now=self._clock())

    def _done(self, run: Run, step: Step, done: StepRun, *, again: bool) -> tuple[str, object]:
        incident = self._incident(run)
        results = self._results(run)
        context = self._context(run.playbook, incident, results)
        now, by = self._clock(), BY + run.playbook
        match step:
            case Query():
                return self._query(run, step, incident, again=again)
            case Notify():
                channel, number = self._channel(step.channel), _number(incident)
                text = filled(step.text, context)
                key = f"playbook run {run.id}, step {done.place}"
                new = self._outbox.tell(channel, number, text, occasion=PLAYBOOK, key=key, now=now)
                return f"{'to be sent' if new else 'was to be sent already'} to {channel.name}: {text}", None
            case Remark():
                return self._remark(run, incident, filled(step.text, context), again=again), None
            case Todo():
                title = filled(step.title, context, line=True)[:MAX_TITLE]
                text = filled(step.description, context)[:MAX_TEXT]
                if again and _has_task(incident, title, by, run.started_at):
                    return f"task is there: {title}", None
                self._incidents.add_task(_number(incident), title, description=text, by=by, now=now)
                return f"task added: {title}", None
            case Label():
                texts = [filled(text, context, line=True)[:MAX_LABEL] for text in step.texts]
                self._incidents.set(_number(incident), add_labels=texts, by=by, now=now)
                return f"labels: {', '.join(texts)}", None
            case Set():
                changing.change(self._incidents, _number(incident), step.setting, by=by, now=now)
                return str(step.setting), None
            case Watch():
                values = incident.values(step.type)[:MOST_ENTITIES]
                about = {"Incident": str(incident.number), "Playbook": run.playbook}
                count = self._watchlists.add(
                    step.alias, values, column=step.type, values=about, source=by, now=now
                )
                return f"{count} of {len(values)} put on {step.alias}", None
            case Contain():
                return self._contain(run, step, done, incident)

    def _remark(self, run: Run, incident: Incident, text: str, *, again: bool) -> str:
        by, text = BY + run.playbook, text[:MAX_COMMENT].strip()
        there = any(
            (each.by, each.text) == (by, text) and each.at >= run.started_at for each in incident.comments
        )
        if again and there:
            return "the comment is there"
        self._incidents.comment(_number(incident), text, by=by, now=self._clock())
        return text

    def _query(self, run: Run, step: Query, incident: Incident, *, again: bool) -> tuple[str, object]:
        rows, more = self._rows(step, incident)
        said = _rows_said(rows, more)
        if step.comment:
            self._remark(run, incident, said, again=again)
        return said, {"name": step.name, "rows": rows}

    def _rows(self, step: Query, incident: Incident) -> tuple[list[dict[str, object]], bool]:
        known: dict[str, object] = {
            "IncidentNumber": incident.number,
            "Start": incident.first_activity,
            "End": incident.last_activity,
        }
        given = {
            name: known[name] if name in known else list(incident.values(name))[:MOST_ENTITIES]
            for name in step.declared
        }
        found = self._ask(step.kql, given)
        short = [{name: _short(value) for name, value in row.items()} for row in found.rows()[:MOST_ROWS]]
        return short, found.table.num_rows > MOST_ROWS

    def _contain(self, run: Run, step: Contain, done: StepRun, incident: Incident) -> tuple[str, object]:
        """Act on what was approved. Before each call goes out, what puts it back is written down."""
        data = dict(done.data or {})
        deadline = time.monotonic() + self._step_seconds
        if "targets" in data:
            chosen = tuple(Target(*each) for each in data["targets"])  # those that were approved
        else:
            found, refused = self._found(step, incident, deadline)
            chosen = tuple(found)
            data |= {"refused": _said(refused), "faults": _faults(refused)}
            data["targets"] = [_row(each) for each in chosen]
        known = {each.target: each for each in _done_of(data)}
        said, failed = list(data.get("refused", [])), bool(data.get("faults"))

        def keep(detail: str) -> None:
            data["done"] = msgspec.to_builtins(list(known.values()))
            self.runs.step(run.id, done.place, StepState.RUNNING, detail=detail, data=data, now=self._clock())

        for one in chosen:
            before = known.get(one)
            if before is not None and before.after is not None:
                continue  # done before the process ended
            try:
                self._check(deadline)
                plan = self._containment().plan(step.action, one)
                if before is None:
                    known[one] = Done(plan.action, one, plan.before, None, plan.undo)
                    data["done"] = msgspec.to_builtins(list(known.values()))
                    self.runs.step(
                        run.id,
                        done.place,
                        StepState.RUNNING,
                        detail=done.detail,
                        data=data,
                        now=self._clock(),
                    )
                finished = self._containment().apply(plan)
                first = known[one]
                known[one] = Done(first.action, one, first.before, finished.after, first.undo)
                said.append(_plan_said(plan))
            except TrailhawkError as error:
                said.append(f"{one.name}: {error}")
                failed = True
            keep("\n".join(said))
        if failed:
            raise ContainmentError("\n".join(said))
        return "\n".join(said) or f"nothing to {step.action}", data

    # What steps know

    def _incident(self, run: Run) -> Incident:
        """The run's incident; for an alert that is in none, what it would be."""
        if run.number is not None:
            return self._incidents.incident(run.number)
        return assemble(0, [self._alerts.alert(run.alert_id)])

    def _results(self, run: Run) -> dict[str, object]:
        kept = [each.data for each in self.runs.run(run.id).steps if each.kind == "query" and each.data]
        return {each["name"]: each["rows"] for each in kept}

    def _context(
        self, playbook: str, incident: Incident, results: Mapping[str, object]
    ) -> Mapping[str, object]:
        entities = _Entities()
        for each in incident.entities[:MOST_ENTITIES]:
            entities[each.type] = (*entities[each.type], each.value)
        return {"incident": incident, "entities": entities, "results": results, "playbook": playbook}

    def _channel(self, name: str) -> Channel:
        channels = self._channels()
        found = next((each for each in channels if each.name == name), None)
        if found is None:
            known = ", ".join(each.name for each in channels) or "none is set up"
            raise UsageError(f"no channel '{name}'", hint=f"there is {known}")
        return found


class _Entities(dict[str, tuple[str, ...]]):
    """The entities by type; of a type that the incident has not there are none."""

    def __missing__(self, key: str) -> tuple[str, ...]:
        return ()


def _number(incident: Incident) -> int:
    if not incident.number:
        raise UsageError("the alert is in no incident")
    return incident.number


def _has_task(incident: Incident, title: str, by: str, since: datetime) -> bool:
    return any((each.title, each.by) == (title.strip(), by) and each.at >= since for each in incident.tasks)


def _short(value: object) -> object:
    """A value as it is kept: what JSON can hold, of a bounded length."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else value.isoformat() if isinstance(value, datetime) else None
    if text is None:
        text = json.dumps(value, default=str)
    return text if len(text) <= MOST_VALUE else text[: MOST_VALUE - 3] + "..."


def _rows_said(rows: Sequence[Mapping[str, object]], more: bool) -> str:
    """Rows as text: a line each, names and values."""
    lines = [", ".join(f"{name}={value}" for name, value in row.items()) for row in rows]
    head = counted(len(rows), "row") + (", the first of more" if more else "")
    return "\n".join([head, *lines])


def _refused(each: Target, error: TrailhawkError) -> _Refused:
    return _Refused(f"{each.name}: {error}", not isinstance(error, ForeignError))


def _said(refused: Iterable[_Refused]) -> list[str]:
    return [each.said for each in refused]


def _faults(refused: Iterable[_Refused]) -> bool:
    return any(each.is_fault for each in refused)


def _row(each: Target) -> tuple[str, str, str]:
    return each.name, each.account, each.region


def _plan_said(plan: Plan) -> str:
    if not plan.calls:
        return f"{plan.target} is so already"
    return "\n".join([f"{plan.target}:", *map(str, plan.calls)])


def _done_of(data: Any) -> list[Done]:
    found = data.get("done", []) if isinstance(data, dict) else []
    return [
        Done(
            each["action"],
            Target(**each["target"]),
            each["before"],
            each["after"],
            tuple(Call(**call) for call in each["undo"]),
        )
        for each in found
    ]


def _anew(run: Run) -> str:
    rejected = f"`trailhawk playbook reject {run.id}` ends it"
    if run.number is None:
        return rejected
    return f"{rejected}, `trailhawk playbook run {run.playbook} --incident {run.number}` plans it anew"
