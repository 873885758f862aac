"""The rules and hunts of a home, and the work on them: import, tests, trials, exceptions, coverage."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from trailhawk.errors import QueryError, RuleError, UsageError

if TYPE_CHECKING:
    from trailhawk.detect.alert import Alert
    from trailhawk.detect.backtest import Backtest, Preview
    from trailhawk.detect.canary import Canary, LastCanary, Scratch
    from trailhawk.detect.coverage import Coverage
    from trailhawk.detect.exceptions import ExceptionStore, RuleException
    from trailhawk.detect.hunt import Hunted
    from trailhawk.detect.proof import Outcome
    from trailhawk.detect.rule import Rule
    from trailhawk.detect.rulebook import Imported, RuleStates
    from trailhawk.detect.run import Leave
    from trailhawk.detect.sigma.importing import Outcome as SigmaOutcome
    from trailhawk.detect.validate import Finding
    from trailhawk.engine.result import TimeRange
    from trailhawk.incidents.feedback import Proposal
    from trailhawk.kql.schema import Column
    from trailhawk.workspace.home import Workspace


class Content:
    """What the package and the home hold of rules and hunting queries."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def rules(
        self, folders: Iterable[Path] = (), *, fault: Callable[[RuleError], None] | None = None
    ) -> tuple[Rule, ...]:
        """The rules of the package, of the home and of these folders, in order of name.

        A file that is no rule is told to `fault` and left out; without `fault` its RuleError is raised.
        """
        from trailhawk.detect import content

        return content.rules([*self._own("rules"), *folders], fault=fault)

    def hunts(
        self, folders: Iterable[Path] = (), *, fault: Callable[[RuleError], None] | None = None
    ) -> tuple[Rule, ...]:
        """The hunting queries of the package, of the home and of these folders, likewise."""
        from trailhawk.detect import content

        return content.hunts([*self._own("hunts"), *folders], fault=fault)

    def _own(self, name: str) -> list[Path]:
        return [folder] if (folder := self._workspace.home / name).is_dir() else []

    def rule(self, text: str, folders: Iterable[Path] = ()) -> Rule:
        """The rule or hunt of this id, name or file; NotFoundError where there is none or more than one."""
        from trailhawk.detect.rulebook import named

        return named([*self.rules(folders), *self.hunts()], text)

    @cached_property
    def rule_states(self) -> RuleStates:
        from trailhawk.detect.rulebook import RuleStates

        return RuleStates(self._workspace.alerts.engine)

    @cached_property
    def exceptions(self) -> ExceptionStore:
        """The rows that rules pass over, and why."""
        from trailhawk.detect.exceptions import ExceptionStore

        return ExceptionStore(self._workspace.alerts.engine)

    def exceptions_of(self, rule: Rule) -> list[RuleException]:
        """The exceptions in use of this rule; those of every rule where it has their columns."""
        from trailhawk.detect.exceptions import EVERY_RULE, predicate

        found = []
        for each in self.exceptions.of(rule):
            if each.rule_id == EVERY_RULE:
                try:
                    columns = self._result_columns(rule)
                    predicate(
                        each.where, columns, now=self._workspace.clock(), functions=self._workspace.functions
                    )
                except QueryError:
                    continue  # a rule without its columns is none of its rules
            found.append(each)
        return found

    def leave(self) -> Leave | None:
        """What applies the exceptions as they are now; None where there are none."""
        found = self.exceptions.all()
        if not found:
            return None
        from trailhawk.detect.exceptions import Exceptions

        return Exceptions(found, self._workspace.rule_engine)

    def draft_exception(
        self, rule: str, where: str, *, until: datetime, reason: str, by: str
    ) -> tuple[RuleException, tuple[Rule, ...]]:
        """An exception of a rule ('*': of all that have its columns), checked; see `detect.exceptions`."""
        from trailhawk.detect.exceptions import EVERY_RULE, draft

        every = rule.strip() == EVERY_RULE
        return draft(
            self.rules() if every else [self.rule(rule)],
            where,
            columns=self._result_columns,
            until=until,
            reason=reason,
            now=self._workspace.clock(),
            by=by,
            every=every,
            functions=self._workspace.functions,
        )

    def backtest(
        self,
        rule: Rule,
        *,
        last: timedelta,
        end: datetime | None = None,
        candidate: RuleException | None = None,
        sample: int = 10,
        progress: Callable[[int, int], None] | None = None,
    ) -> Backtest:
        """What a rule would have raised over the last so much time that its tables hold, or up to `end`.

        The home's exceptions are applied, and the `candidate` after them. Nothing is raised or counted.
        UsageError where the rule is a hunt, or its tables are empty.
        """
        import tempfile

        from trailhawk.detect.backtest import backtest
        from trailhawk.detect.exceptions import Exceptions
        from trailhawk.detect.rule import RuleKind

        if rule.kind is RuleKind.HUNTING:
            raise UsageError(f"'{rule.name}' is a hunt: it has no windows", hint="see 'trailhawk hunt run'")
        held, read = self._workspace.history_tables(), self._workspace.reads(rule)
        files = [
            self._workspace.lake.snapshot(name).files(fetch=False)
            for name in held
            if read is None or name in read
        ]
        newest = max((file.last for each in files for file in each if file.last), default=None)
        if newest is None:
            names = ", ".join(sorted(read or ())) or "the lake"
            raise UsageError(f"there is nothing to run '{rule.name}' on: {names} is empty")
        until = min(end or newest, newest) + timedelta(microseconds=1)
        known = self.exceptions.all()
        temporary = self._workspace.home / "temporary"
        temporary.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=temporary) as folder:
            return backtest(
                rule,
                self._workspace.rule_engine,
                tables=held,
                start=until - last,
                end=until,
                now=self._workspace.clock(),
                folder=Path(folder),
                exceptions=Exceptions(
                    [*known, candidate] if candidate else known, self._workspace.rule_engine
                ),
                judged=self._judged(rule),
                reads=self._workspace.reads,
                sample=sample,
                workers=os.cpu_count() or 1,
                progress=progress,
            )

    def preview_exception(
        self,
        candidate: RuleException,
        rule: Rule,
        *,
        last: timedelta,
        progress: Callable[[int, int], None] | None = None,
    ) -> Preview:
        """What an exception that is not made yet would have taken from a rule over the last so much time."""
        from trailhawk.detect.backtest import preview

        tried = self.backtest(rule, last=last, candidate=candidate, sample=0, progress=progress)
        return preview(candidate, tried, self._judged(rule))

    def proposals(self, rule: Rule, *, last: timedelta) -> tuple[Proposal, ...]:
        """Exceptions that would take false positives of a rule, counted over its alerts of the last so much
        time before now; QueryError where its query does not compile."""
        from trailhawk.incidents.feedback import proposals

        since = self._workspace.clock() - last
        alerts = [alert for alert in self._workspace.alerts.alerts(rule_id=rule.id) if alert.at >= since]
        return proposals(
            rule, alerts, self._workspace.incidents.classifications(), self._result_columns(rule)
        )

    def _judged(self, rule: Rule) -> list[tuple[Alert, str]]:
        """The rule's alerts in incidents that somebody classified, with how."""
        judged = self._workspace.incidents.classifications()
        found = self._workspace.alerts.alerts(rule_id=rule.id) if judged else ()
        return [(alert, judged[alert.id]) for alert in found if alert.id in judged]

    def canary_rules(
        self, folders: Sequence[Path] = (), *, fault: Callable[[RuleError], None] | None = None
    ) -> list[Rule]:
        """The rules that are enabled, and the hunts: those whose canaries are sent unless some are named."""
        rules = self.rules(folders, fault=fault)
        states = self.rule_states.of(rules)
        return [*(rule for rule in rules if states[rule.id].enabled), *self.hunts(fault=fault)]

    def canaries(
        self,
        rules: Sequence[Rule],
        *,
        progress: Callable[[int, int], None] | None = None,
        stopped: Callable[[], bool] = lambda: False,
        workers: int | None = None,
    ) -> list[Canary]:
        """Send the positive test of each of these rules and hunts from raw log to alert, in a scratch lake.

        How they ended is kept in the home's state. Once `stopped`, no more are sent. A core has one worker
        unless `workers` says otherwise.
        """
        import tempfile
        from contextlib import closing

        from trailhawk.detect.canary import canaries, keep

        temporary = self._workspace.home / "temporary"
        temporary.mkdir(exist_ok=True)
        found: list[Canary] = []
        with tempfile.TemporaryDirectory(dir=temporary) as folder:
            made: list[Workspace] = []

            def fresh() -> Scratch:
                other = self._apart(Path(tempfile.mkdtemp(dir=folder)))
                made.append(other)
                return other.content._scratch()

            sending = canaries(
                rules,
                fresh,
                sources=self._workspace.sources,
                transforms=lambda: self._workspace.transforms(lasting=False),
                leave=self.leave(),
                workers=workers or os.cpu_count() or 1,
            )
            try:
                with closing(sending):
                    for each in sending:
                        found.append(each)
                        if progress is not None:
                            progress(len(found), len(rules))
                        if stopped():
                            break
            finally:
                for other in made:
                    other.alerts.engine.dispose()
                    other.rule_engine.close()
        keep(self._workspace.alerts.engine, found, now=self._workspace.clock())
        return found

    def _apart(self, home: Path) -> Workspace:
        """A workspace with this one's sources, functions and watchlists, and its own lake and state."""
        from dataclasses import replace

        from trailhawk.settings import LakeSettings, StateSettings
        from trailhawk.workspace.home import Workspace

        other = Workspace.open(home, clock=self._workspace.clock)
        other.settings = replace(
            self._workspace.settings, lake=LakeSettings(), state=StateSettings(), connectors={}
        )
        other.sources = self._workspace.sources
        other.functions = self._workspace.functions
        other.watchlists = self._workspace.watchlists
        return other

    def _scratch(self) -> Scratch:
        from trailhawk.detect.canary import Scratch
        from trailhawk.incidents.store import makes_incident

        return Scratch(
            self._workspace.lake,
            self._workspace.rule_engine,
            self._workspace.alerts,
            self.rule_states,
            sink=lambda engine, rules, now: self._workspace.incidents.sink(engine, rules, now=now),
            in_incidents=lambda: {
                alert for one in self._workspace.incidents.all() for alert in one.alert_ids
            },
            wants_incident=makes_incident,
        )

    def last_canaries(self) -> dict[str, LastCanary]:
        """How the last canary of each rule and hunt ended, by its id."""
        from trailhawk.detect.canary import last_canaries

        return last_canaries(self._workspace.alerts.engine)

    def _result_columns(self, rule: Rule) -> list[Column]:
        """The columns of a rule's result; QueryError for a query that does not compile."""
        from trailhawk.kql.schema import Column

        compiled = self._workspace.rule_engine.compiled(rule.query, now=self._workspace.clock())
        return [Column(column.name, column.type) for column in compiled.columns]

    def import_rules(self, paths: Sequence[Path]) -> list[Imported]:
        """Take rule files into the home, those without an error."""
        from trailhawk.detect.rulebook import take_in

        return list(take_in(paths, self._workspace.home, self._findings))

    def import_sigma(
        self, paths: Sequence[Path], *, progress: Callable[[int, int], None] | None = None
    ) -> list[SigmaOutcome]:
        """Take Sigma rules into the home as rules of ours; UsageError where pySigma is not installed."""
        from trailhawk.detect.sigma.importing import take_in

        return take_in(paths, self._workspace.home, self._findings, progress=progress)

    def validate_rules(self, paths: Sequence[Path] = ()) -> list[tuple[str, str, tuple[Finding, ...]]]:
        """File, name and findings of each rule and hunt under these paths, or of all there are."""
        from trailhawk.detect.rulebook import read, shared_id
        from trailhawk.detect.validate import Finding, Level

        faults: list[RuleError] = []
        if paths:
            rules = read(paths, faults.append)
        else:
            rules = [*self.rules(fault=faults.append), *self.hunts(fault=faults.append)]
        broken = [
            (error.source, "", (Finding(Level.ERROR, "file", str(error).removeprefix(f"{error.source}: ")),))
            for error in faults
        ]
        found = []
        before: dict[str, Rule] = {}
        for rule in rules:
            found.append((rule.source, rule.name, (*self._findings(rule), *shared_id(rule, before))))
            before.setdefault(rule.id, rule)
        return [*broken, *found]

    def _findings(self, rule: Rule) -> tuple[Finding, ...]:
        from trailhawk.detect.validate import validate

        return validate(
            rule,
            lambda text, now: self._workspace.engine.compiled(text, now=now),
            now=self._workspace.clock(),
            allows=self._workspace.allows,
        )

    def prove(
        self,
        folders: Sequence[Path] = (),
        *,
        only: str = "",
        excepted: bool = False,
        progress: Callable[[int, int], None] | None = None,
        fault: Callable[[RuleError], None] | None = None,
    ) -> list[Outcome]:
        """Run the tests inside the rules and hunts of these folders, or of all content where none is given.

        `only` keeps those whose file or name holds it; with `excepted` the exceptions are applied.
        A file of the folders that is no rule is told to `fault`; without it its RuleError is raised.
        """
        from trailhawk.detect.proof import prove
        from trailhawk.detect.rule_file import load_rules

        found = load_rules(folders, fault=fault) if folders else (*self.rules(), *self.hunts())
        chosen = [rule for rule in found if only.lower() in f"{rule.source} {rule.name}".lower()]
        count = sum(len(rule.tests) for rule in chosen)
        catalog = (self._workspace.lake.table(name) for name in self._workspace.lake.table_names())
        outcomes = []
        holding = self._workspace.engine_with(threads=1, few_rows=True).holding
        leave = self.leave() if excepted else None
        for outcome in prove(chosen, filter(None, catalog), holding, leave=leave):
            outcomes.append(outcome)
            if progress is not None:
                progress(len(outcomes), count)
        return outcomes

    def hunt_all(
        self,
        hunts: Sequence[Rule],
        *,
        now: datetime,
        picked: TimeRange | None = None,
        progress: Callable[[int, int], None],
    ) -> tuple[Hunted, ...]:
        """Run hunts as of now and as of a day before, one a core; `picked` as in `hunt()`."""
        from trailhawk.detect.hunt import hunt_all

        workers = os.cpu_count() or 1
        return hunt_all(
            self._workspace.engine_with(threads=1),
            hunts,
            now=now,
            picked=picked,
            workers=workers,
            progress=progress,
        )

    def coverage(
        self,
        *,
        version: int,
        now: datetime,
        folders: Iterable[Path] = (),
        fault: Callable[[RuleError], None] | None = None,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Coverage:
        """ATT&CK's matrix for IaaS in this version, with the rules and hunts that name each technique, the
        tables they read and whether rows come into these."""
        from trailhawk.connectors.health import streams
        from trailhawk.detect.attack_table import attack_table
        from trailhawk.detect.coverage import coverage, table_flows

        folders = tuple(folders)
        content = (*self.rules(folders, fault=fault), *self.hunts(fault=fault))
        read = {}
        for done, rule in enumerate(content, start=1):
            read[rule.id] = self._workspace.reads(rule)
            progress(done, len(content))
        newest = {
            table.name: self._workspace.table_state(table.name).last for table in self._workspace.log_tables
        }
        states = self.rule_states.of(content)
        return coverage(
            content,
            attack=attack_table(),
            version=version,
            reads=lambda rule: read[rule.id],
            flows=table_flows(
                self._workspace.engine, newest, streams(self._workspace.lake, now=now), now=now
            ),
            enabled=lambda rule: states[rule.id].enabled,
            canaries=self.last_canaries(),
            now=now,
        )
