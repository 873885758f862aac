"""What a home does about incidents: messages, playbooks, automation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.engine.result import Result
    from trailhawk.incidents.incident import Incident
    from trailhawk.respond.automation import Rule as AutomationRule
    from trailhawk.respond.automation_file import AutomationError
    from trailhawk.respond.automation_runs import Run as AutomationRun
    from trailhawk.respond.automator import Automator
    from trailhawk.respond.channel import Channel
    from trailhawk.respond.containment import Containment
    from trailhawk.respond.notifier import Notifier
    from trailhawk.respond.outbox import Outbox
    from trailhawk.respond.playbook import Playbooks
    from trailhawk.respond.player import Player
    from trailhawk.workspace.home import Workspace


class Response:
    """The channels, playbooks and automation rules of a home, ready to run."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @cached_property
    def outbox(self) -> Outbox:
        """What is to be told about incidents, and what was."""
        from trailhawk.respond.outbox import Outbox

        return Outbox(self._workspace.alerts.engine)

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """Whom the settings name to be told; SettingsError where one is wrong."""
        if not self._workspace.settings.notify:
            return ()
        from trailhawk.respond.channel import channels

        return channels(self._workspace.settings.notify)

    @cached_property
    def notifier(self) -> Notifier:
        """Tells the channels of the settings; SettingsError where one is wrong."""
        from trailhawk.respond.notifier import Notifier

        known = self.channels  # before the state database is asked
        return Notifier(
            self._workspace.incidents,
            self.outbox,
            known,
            clock=self._workspace.clock,
            environment=os.environ,
            story=self._told,
            templates=self._workspace.home / "templates",
        )

    def _told(self, incident: Incident) -> tuple[str, ...]:
        """The sentences that a message has of an incident."""
        report = self._workspace.report(incident.number)
        return (*report.story, *report.to_do)

    @cached_property
    def playbooks(self) -> Playbooks:
        """The package's playbooks, and the user's in the home's `playbooks` folder."""
        from trailhawk.respond.playbook import Playbooks

        return Playbooks(self._workspace.home / "playbooks")

    @cached_property
    def player(self) -> Player:
        """Runs playbooks; in AWS with the credentials of `[respond.aws]`."""
        from trailhawk.respond.playbook_runs import PlaybookRuns
        from trailhawk.respond.player import Player

        known = self.channels

        def ask(text: str, given: Mapping[str, object]) -> Result:
            return self._step_engine.query(text, now=self._workspace.clock(), parameters=given)

        return Player(
            PlaybookRuns(self._workspace.alerts.engine),
            incidents=self._workspace.incidents,
            alerts=self._workspace.alerts,
            outbox=self.outbox,
            channels=lambda: known,
            watchlists=self._workspace.watchlists,
            ask=ask,
            containment=lambda: self._containment,
            clock=self._workspace.clock,
        )

    @cached_property
    def _step_engine(self) -> DuckDBEngine:
        from trailhawk.respond.playbook import STEP_SECONDS

        return self._workspace.engine_with(seconds=STEP_SECONDS)

    @cached_property
    def _containment(self) -> Containment:
        from trailhawk.respond.containment import Containment, ResponseSettings

        section = self._workspace.settings.respond.get("aws")
        settings = ResponseSettings() if section is None else ResponseSettings.read(section)
        return Containment(settings, clock=self._workspace.clock)

    def automation_rules(
        self, *, fault: Callable[[AutomationError], None] | None = None
    ) -> tuple[AutomationRule, ...]:
        """The automation rules of the home's folder `automation`, in the order in which they run."""
        from trailhawk.respond.automation_file import load_rules

        return load_rules(self._workspace.home / "automation", fault=fault)

    def automator(self, *, fault: Callable[[AutomationError], None]) -> Automator:
        """Runs the automation rules; `fault` is told of files that hold none."""
        from trailhawk.respond.automation_runs import AutomationRuns
        from trailhawk.respond.automator import Automator

        return Automator(
            AutomationRuns(self._workspace.alerts.engine),
            incidents=self._workspace.incidents,
            alerts=self._workspace.alerts,
            rules=lambda: self.automation_rules(fault=fault),
            playbooks=self.playbooks,
            player=self.player,
            clock=self._workspace.clock,
        )

    def run_automation(self, automator: Automator) -> list[AutomationRun]:
        """Run the automation rules that are for what has happened since; their runs, told to SentinelHealth
        as well."""
        from trailhawk.connectors.sentinel_health import append
        from trailhawk.lake import LogError
        from trailhawk.respond.automator import health

        done: list[AutomationRun] = []
        automator.collect()
        automator.work(done.append)
        if done:
            with suppress(LogError):  # health names it
                append(
                    self._workspace.lake.apart(),
                    [row for run in done for row in health(run)],
                    now=self._workspace.clock(),
                )
            self._workspace.try_export()
        return done
