"""Follows the incidents' log and the alerts, and runs the automation rules that are for what happened.

Each rule runs once for each change. Rules take their turns in order, and a later one sees what an earlier one
left. A change that a rule or its playbook made remembers which rules led to it: none of those runs on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from trailhawk.connectors.sentinel_health import Record
from trailhawk.detect.store import AlertStore
from trailhawk.errors import TrailhawkError
from trailhawk.incidents.change import Change
from trailhawk.incidents.incident import MAX_TEXT, MAX_TITLE, assemble
from trailhawk.incidents.store import IncidentStore
from trailhawk.respond import automation, changing, player
from trailhawk.respond.automation import Action, AddTask, Modify, Rule, RunPlaybook, Trigger, View
from trailhawk.respond.automation_runs import AutomationRuns, Occasion, Run, State
from trailhawk.respond.playbook import STEP_SECONDS, Playbooks
from trailhawk.respond.playbook_runs import RunState
from trailhawk.respond.player import Player
from trailhawk.words import counted

CURSOR: Final = "automation"
MOST_CHAIN: Final = 10
"""Rules one after the other, each started by what the one before did."""
_BATCH: Final = 1_000


class Automator:
    """Runs automation rules."""

    def __init__(
        self,
        runs: AutomationRuns,
        *,
        incidents: IncidentStore,
        alerts: AlertStore,
        rules: Callable[[], Sequence[Rule]],
        playbooks: Playbooks,
        player: Player,
        clock: Callable[[], datetime],
        wait_seconds: float = STEP_SECONDS,
    ) -> None:
        self.runs = runs
        self._incidents = incidents
        self._alerts = alerts
        self._rules = rules
        self._playbooks = playbooks
        self._player = player
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._playing: list[threading.Thread] = []

    def begin(self) -> None:
        """Who sets up rules means what comes from now on, not all that ever happened."""
        self._incidents.begin_at_the_end(CURSOR)
        if self.runs.has_alerts_cursor():
            return
        last = 0
        while some := self._alerts.pending(last, limit=_BATCH):
            last = some[-1][0]
        self.runs.begin_alerts_at(last)

    def collect(self) -> int:
        """Write down what has happened since; how many changes and alerts."""
        done = 0
        while count := self._incidents.consume(CURSOR, self.runs.note):
            done += count
        while alerts := self._alerts.pending(self.runs.alerts_cursor(), limit=_BATCH):
            done += self.runs.note_alerts(alerts)
        return done

    def work(self, told: Callable[[Run], None] = lambda _: None) -> int:
        """Give the rules their turns on all that was written down, and on what they do thereby; how many ran.

        Playbooks that a process left are taken up again.
        """
        rules = self._rules()
        ran = 0
        self._player.resume()
        while True:
            if (of := self.runs.take(self._clock())) is None:
                if self.collect():
                    continue
                return ran
            for run in self._turns(of, rules):
                told(run)
                ran += 1
            self.runs.finish(of, now=self._clock())

    def wait(self) -> None:
        """Wait for playbooks that went on longer than their rules waited."""
        for thread in self._playing:
            thread.join()
        self._playing.clear()

    # One occasion

    def _turns(self, of: Occasion, rules: Sequence[Rule]) -> list[Run]:
        change = self._change(of) if of.trigger is not Trigger.ALERT_CREATED else None
        chain = self._chain(change) if change is not None else ()
        decided, begun = list(of.decided), self.runs.runs_of(of)
        view = self._view(of, change)
        done: list[Run] = []
        for rule in rules:
            if rule.trigger is not of.trigger:
                continue
            run = begun.get(rule.id)
            if run is None:
                if rule.id in decided:
                    continue
                decided.append(rule.id)
                now = self._clock()
                own = rule.id in chain or (change is not None and change.by == rule.by)
                fits = rule.is_on(now) and not own and len(chain) < MOST_CHAIN
                if view is None or not fits or not rule.holds(view):
                    continue
                run = self.runs.begin(
                    of,
                    rule,
                    decided=decided,
                    number=view.incident.number,
                    chain=(*chain, rule.id),
                    now=now,
                )
            if run.state is State.RUNNING:
                done.append(self._carry_out(rule, run, of))
                view = self._view(of, change)  # the next rule sees what this one left
        return done

    def _change(self, of: Occasion) -> Change | None:
        found = self._incidents.changes_since(of.sequence - 1, limit=1)
        return found[0] if found and found[0].sequence == of.sequence else None

    def _view(self, of: Occasion, change: Change | None) -> View | None:
        """What conditions look at; None where the incident went into another one."""
        if of.trigger is Trigger.ALERT_CREATED:
            alert = self._alerts.alert(of.alert_id)
            return View(assemble(0, [alert]), None, lambda _: (alert,))
        incident = self._incidents.incident(of.number)
        if incident.number != of.number:
            return None
        return View(incident, change, self._incidents.alerts_of)

    def _chain(self, change: Change) -> tuple[str, ...]:
        """The rules that led to a change: those of the rule or playbook that made it.

        The rules of an incident run one change after the other, so the newest run of that name is the one,
        or one that has itself that rule in its chain.
        """
        if change.by.startswith(automation.BY):
            run = self.runs.last_of(change.by.removeprefix(automation.BY), change.number)
            return run.chain if run else ()
        if change.by.startswith(player.BY):
            played = self._player.runs.last_of(change.by.removeprefix(player.BY), change.number)
            return played.chain if played else ()
        return ()

    # One run

    def _carry_out(self, rule: Rule, run: Run, of: Occasion) -> Run:
        """The actions that are left of a run. What goes wrong is written down, and the run goes on."""
        for action, step in zip(rule.actions, run.steps, strict=False):
            if step.state in (State.DONE, State.FAILED):
                continue
            again = step.state is State.RUNNING
            self.runs.step(run, step.place, State.RUNNING, now=self._clock())
            try:
                detail, state = self._act(rule, run, of, action, step.place, again=again), State.DONE
            except TrailhawkError as error:
                detail, state = str(error), State.FAILED
            self.runs.step(run, step.place, state, detail=detail, now=self._clock())
        return self.runs.end(run.id, now=self._clock())

    def _act(self, rule: Rule, run: Run, of: Occasion, action: Action, place: int, *, again: bool) -> str:
        now = self._clock()
        match action:
            case Modify():
                changing.change(self._incidents, run.number, action.setting, by=rule.by, now=now)
                return str(action)
            case AddTask():
                return self._add_task(rule, run, action, again=again)
            case RunPlaybook():
                return self._play(rule, run, of, action, place)

    def _add_task(self, rule: Rule, run: Run, action: AddTask, *, again: bool) -> str:
        title, text = action.title[:MAX_TITLE], action.description[:MAX_TEXT]
        incident = self._incidents.incident(run.number)
        if again and any(
            (each.title, each.by) == (title, rule.by) and each.at >= run.started_at for each in incident.tasks
        ):
            return f"task is there: {title}"
        self._incidents.add_task(run.number, title, description=text, by=rule.by, now=self._clock())
        return f"task added: {title}"

    def _play(self, rule: Rule, run: Run, of: Occasion, action: RunPlaybook, place: int) -> str:
        """Run a playbook; after the time that a rule waits, it goes on and so does the playbook."""
        number = run.number or self._incidents.incidents_of([of.alert_id]).get(of.alert_id)
        run_id = self._player.start(
            self._playbooks.playbook(action.name),
            origin=f"automation run {run.id}, action {place}",
            by=rule.by,
            number=number,
            alert_id=of.alert_id,
            chain=run.chain,
        )
        thread = threading.Thread(target=self._player.go, args=(run_id,), name=f"playbook-{run_id}")
        thread.start()
        thread.join(self._wait_seconds)
        if thread.is_alive():
            self._playing = [each for each in self._playing if each.is_alive()] + [thread]
            return f"playbook {action.name}, run {run_id}: goes on"
        played = self._player.runs.run(run_id)
        said = f"playbook {action.name}, run {run_id}: {played.state.value}"
        if played.state is RunState.FAILED:
            raise TrailhawkError(said, hint=f"see `trailhawk playbook runs {run_id}`")
        return said


def health(run: Run) -> list[Record]:
    """The rows of SentinelHealth about a run: the rule's, and one for each playbook."""
    bad = [each for each in run.steps if each.state is State.FAILED]
    status = "Success" if not bad else "Failure" if len(bad) == len(run.steps) else "Partial success"
    about = {
        "IncidentNumber": run.number,
        "ActionsTriggeredSuccessfully": len(run.steps) - len(bad),
        "ActionsTriggered": len(run.steps),
        "TriggeredOn": "Alert" if run.trigger is Trigger.ALERT_CREATED else "Incident",
        "TriggeredWhen": "Updated" if run.trigger is Trigger.INCIDENT_UPDATED else "Created",
    }
    records = [
        Record(
            operation="Automation rule run",
            name=run.rule,
            id=run.rule_id,
            type="Automation rule",
            kind="",
            status=status,
            reason="action failed" if bad else "",
            description=run.error or counted(len(run.steps), "action"),
            properties=about,
        )
    ]
    for each in run.steps:
        if each.action.startswith("run playbook "):
            failed = each.state is State.FAILED
            records.append(
                Record(
                    operation="Playbook was triggered",
                    name=each.action.removeprefix("run playbook "),
                    type="Playbook",
                    kind="",
                    status="Failure" if failed else "Success",
                    reason="playbook failed" if failed else "",
                    description=each.detail,
                    properties={"IncidentNumber": run.number, "TriggeredByName": run.rule},
                )
            )
    return records
