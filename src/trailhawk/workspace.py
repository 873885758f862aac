"""Wiring: one home folder's lake, engine, state and clock, each made when first asked for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from trailhawk.errors import LakeError, QueryError, RuleError, UsageError
from trailhawk.kql.schema import WATCHLIST_ALIASES, watchlist_table

# The heavy rooms are imported where they are first used: a command loads only what it needs.
if TYPE_CHECKING:
    import threading

    import pyarrow as pa

    from trailhawk.connectors.again import Retried
    from trailhawk.connectors.config import ConnectorSettings
    from trailhawk.connectors.connector import Connector
    from trailhawk.connectors.connector import State as ConnectorState
    from trailhawk.connectors.ingest import Progress as IngestProgress
    from trailhawk.connectors.ingest import Summary as IngestSummary
    from trailhawk.connectors.objects import Outcome as ObjectOutcome
    from trailhawk.connectors.objects import Transform
    from trailhawk.connectors.quarantine import Quarantined
    from trailhawk.connectors.sentinel_health import Told
    from trailhawk.detect.alert import Alert
    from trailhawk.detect.backtest import Backtest, Preview
    from trailhawk.detect.bookmarks import BookmarkStore
    from trailhawk.detect.canary import Canary, LastCanary, Scratch
    from trailhawk.detect.coverage import Coverage
    from trailhawk.detect.exceptions import ExceptionStore, RuleException
    from trailhawk.detect.filters import FilterStore
    from trailhawk.detect.history import IsQuiet
    from trailhawk.detect.history import Summary as DetectSummary
    from trailhawk.detect.hunt import Hunted
    from trailhawk.detect.intel.store import IntelStore
    from trailhawk.detect.posture import Answer, Check
    from trailhawk.detect.proof import Outcome
    from trailhawk.detect.refetch import Dropped
    from trailhawk.detect.rule import Rule
    from trailhawk.detect.rulebook import Imported, RuleStates
    from trailhawk.detect.run import Leave
    from trailhawk.detect.scheduler import Round, Scheduler
    from trailhawk.detect.sigma.importing import Outcome as SigmaOutcome
    from trailhawk.detect.store import AlertStore
    from trailhawk.detect.trial import Trial
    from trailhawk.detect.validate import Finding
    from trailhawk.detect.watchlists import WatchlistStore
    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.engine.reading import Files
    from trailhawk.engine.result import Result, TimeRange
    from trailhawk.engine.transform import RowTransform
    from trailhawk.incidents.case import Case
    from trailhawk.incidents.entity import EntityPage
    from trailhawk.incidents.feedback import Proposal
    from trailhawk.incidents.incident import Incident
    from trailhawk.incidents.report import Report
    from trailhawk.incidents.store import IncidentStore
    from trailhawk.kql.operators.external import ExternalFile, ReadExternal
    from trailhawk.kql.plan import Need
    from trailhawk.kql.schema import Column, Table
    from trailhawk.kql.stored import Functions
    from trailhawk.lake import Lake
    from trailhawk.lake.care import Caretaker
    from trailhawk.lake.status import DayState
    from trailhawk.lake.storage import S3
    from trailhawk.lake.table import DataFile, Found
    from trailhawk.respond.automation import Rule as AutomationRule
    from trailhawk.respond.automation_file import AutomationError
    from trailhawk.respond.automation_runs import Run as AutomationRun
    from trailhawk.respond.automator import Automator
    from trailhawk.respond.containment import Containment
    from trailhawk.respond.notifier import Notifier
    from trailhawk.respond.outbox import Outbox
    from trailhawk.respond.playbook import Playbooks
    from trailhawk.respond.player import Player
    from trailhawk.settings import Settings
    from trailhawk.sources import Source

_WATCHLIST = watchlist_table("")
_RELINK, _RELINK_EVERY = timedelta(hours=6), timedelta(minutes=5)
"""For how long after an alert, and how often, the origin of its keys is looked for again."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class TableState:
    """What a table holds now. `first` and `last` are event times, None for an empty table."""

    name: str
    rows: int
    first: datetime | None
    last: datetime | None
    files: int
    bytes: int
    description: str


class Workspace:
    """All that one home folder holds, and what can be done with it."""

    def __init__(self, home: Path, *, clock: Clock = utc_now) -> None:
        self.home = home
        self.clock = clock
        self._relinked_at: datetime | None = None
        self._read_by: dict[str, frozenset[str]] = {}

    @classmethod
    def open(cls, home: Path, *, clock: Clock = utc_now) -> Workspace:
        """The workspace of this folder, which is made if it does not exist. LakeError where it cannot be."""
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LakeError(f"cannot use {home} as home: {error.strerror}", hint="see --home") from None
        return cls(home.absolute(), clock=clock)

    # What it is made of

    @cached_property
    def settings(self) -> Settings:
        """What the home's `trailhawk.toml` says; SettingsError where it is wrong."""
        from trailhawk.settings import settings

        return settings(self.home)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The log sources: the package's, and the user's own in the home's `sources` folder."""
        from trailhawk.sources import with_custom

        return with_custom(self.home / "sources")

    @property
    def log_tables(self) -> tuple[Table, ...]:
        """The tables that the sources fill."""
        from trailhawk.sources import tables_of

        return tables_of(self.sources)

    @cached_property
    def lake(self) -> Lake:
        from trailhawk.connectors import TABLES as INTAKE_TABLES
        from trailhawk.detect.bookmark_table import HUNTING_BOOKMARK
        from trailhawk.detect.intel.table import THREAT_INTEL
        from trailhawk.detect.security_alert import SECURITY_ALERT
        from trailhawk.detect.watchlist_table import WATCHLIST
        from trailhawk.incidents.security_incident import SECURITY_INCIDENT
        from trailhawk.lake import Lake

        own = (SECURITY_ALERT, SECURITY_INCIDENT, WATCHLIST, HUNTING_BOOKMARK, THREAT_INTEL)
        return Lake(self._lake_place(), [*self.log_tables, *INTAKE_TABLES, *own])

    def _lake_place(self) -> Path | S3:
        """Where the settings put the lake: the home's folder `lake`, another folder, a bucket."""
        wanted = self.settings.lake
        if not wanted.url.startswith("s3://"):
            return self.home / (wanted.url or "lake")
        from trailhawk.lake.storage import S3

        return S3(
            url=wanted.url,
            cache=self.home / "cache",
            cache_bytes=wanted.cache_mib << 20,
            endpoint_url=wanted.endpoint_url,
            region=wanted.region,
        )

    @cached_property
    def caretaker(self) -> Caretaker:
        """Compaction, retention and clearing away of the lake's tables."""
        from trailhawk.connectors import LEDGER, QUARANTINE
        from trailhawk.connectors.ledger import settle
        from trailhawk.connectors.store import followers
        from trailhawk.lake.care import Caretaker, Retention

        wanted = self.settings.lake
        lake = self.lake.apart()

        def settle_all() -> None:
            for table in (*self.log_tables, QUARANTINE):
                settle(lake, table.name, followers(table.name))

        return Caretaker(
            lake,
            clock=self.clock,
            retention=Retention(wanted.retention_days, wanted.retention),
            settle=settle_all,
            kept=(LEDGER.name,),  # without it objects would be taken again
        )

    @cached_property
    def engine(self) -> DuckDBEngine:
        return self._engine()

    def _engine(
        self,
        *,
        threads: int | None = None,
        few_rows: bool = False,
        seconds: float = 600.0,
        most_memory: int | None = None,
    ) -> DuckDBEngine:
        from trailhawk.engine.duckdb import DuckDBEngine, Limits, default_memory

        return DuckDBEngine(
            _Tables(self),
            relations=_Relations(self),
            functions=self.functions,
            limits=Limits(
                memory=min(default_memory(), most_memory) if most_memory else None,
                threads=threads,
                seconds=seconds,
                few_rows=few_rows,
            ),
            temporary=self.home / "temporary",
            external=self._external,
        )

    def _external(self, file: ExternalFile) -> list[list[object]]:
        """What externaldata reads; code and settings of it are asked for by the first query that has one."""
        return self._allowed_external(file)

    @cached_property
    def _allowed_external(self) -> ReadExternal:
        from trailhawk.engine.external import allowed

        return allowed(self.settings.externaldata, self.home)

    @cached_property
    def functions(self) -> Functions:
        """The stored functions: the package's, and the user's in the home's `functions` folder."""
        from trailhawk.detect.content import functions

        return functions([self.home / "functions"])

    def alert_rows(self, snapshot: Files) -> pa.Table:
        """The alerts that this state of the lake does not hold yet."""
        from trailhawk.detect.security_alert import alert_rows
        from trailhawk.lake.catalog import Snapshot

        exported = snapshot.exported if isinstance(snapshot, Snapshot) else 0
        return alert_rows(alert for _, alert in self.alerts.pending(exported, limit=None))

    def watchlist_rows(self, snapshot: Files) -> pa.Table:
        """What happened to the watchlists that this state of the lake does not hold yet."""
        from trailhawk.detect.watchlist_table import watchlist_rows
        from trailhawk.lake.catalog import Snapshot

        exported = snapshot.exported if isinstance(snapshot, Snapshot) else 0
        return watchlist_rows(self.watchlists.pending(exported, limit=None))

    def bookmark_rows(self, snapshot: Files) -> pa.Table:
        """What happened to the bookmarks that this state of the lake does not hold yet."""
        from trailhawk.detect.bookmark_table import bookmark_rows
        from trailhawk.lake.catalog import Snapshot

        exported = snapshot.exported if isinstance(snapshot, Snapshot) else 0
        return bookmark_rows(self.bookmarks.pending(exported, limit=None))

    def incident_rows(self, snapshot: Files) -> pa.Table:
        """The changes of incidents that this state of the lake does not hold yet."""
        from trailhawk.incidents.export import pending_rows
        from trailhawk.lake.catalog import Snapshot

        exported = snapshot.exported if isinstance(snapshot, Snapshot) else 0
        return pending_rows(self.incidents, exported)

    def export(self) -> None:
        """Hand what the state database has and the lake lacks to the lake."""
        from trailhawk.detect.export import export_alerts, export_bookmarks, export_watchlists
        from trailhawk.incidents.export import export_incidents

        lake, now = self.lake.apart(), self.clock()
        export_alerts(self.alerts, lake, now=now)
        export_watchlists(self.watchlists, lake, now=now)
        export_bookmarks(self.bookmarks, lake, now=now)
        export_incidents(self.incidents, lake, now=now)

    @cached_property
    def alerts(self) -> AlertStore:
        from trailhawk.detect.store import AlertStore, open_state, sqlite_url

        return AlertStore(open_state(self.settings.state.url or sqlite_url(self.home / "state.db")))

    @cached_property
    def bookmarks(self) -> BookmarkStore:
        from trailhawk.detect.bookmarks import BookmarkStore

        return BookmarkStore(self.alerts.engine)

    @cached_property
    def watchlists(self) -> WatchlistStore:
        from trailhawk.detect.watchlists import WatchlistStore

        return WatchlistStore(self.alerts.engine)

    @cached_property
    def intel(self) -> IntelStore:
        """The indicators of threat intelligence, which stand in the lake."""
        from trailhawk.detect.intel.store import IntelStore

        return IntelStore(self.lake.apart(), self.engine)

    @cached_property
    def incidents(self) -> IncidentStore:
        from trailhawk.incidents.store import IncidentStore

        return IncidentStore(self.alerts)

    @cached_property
    def outbox(self) -> Outbox:
        """What is to be told about incidents, and what was."""
        from trailhawk.respond.outbox import Outbox

        return Outbox(self.alerts.engine)

    @cached_property
    def notifier(self) -> Notifier:
        """Tells the channels of the settings; SettingsError where one is wrong."""
        import os

        from trailhawk.respond.channel import channels
        from trailhawk.respond.notifier import Notifier

        return Notifier(
            self.incidents,
            self.outbox,
            channels(self.settings.notify),
            clock=self.clock,
            environment=os.environ,
            story=lambda incident: self.report(incident.number).story,
            templates=self.home / "templates",
        )

    @cached_property
    def playbooks(self) -> Playbooks:
        """The package's playbooks, and the user's in the home's `playbooks` folder."""
        from trailhawk.respond.playbook import Playbooks

        return Playbooks(self.home / "playbooks")

    @cached_property
    def player(self) -> Player:
        """Runs playbooks; in AWS with the credentials of `[respond.aws]`."""
        from trailhawk.respond.channel import channels
        from trailhawk.respond.playbook_runs import PlaybookRuns
        from trailhawk.respond.player import Player

        known = channels(self.settings.notify) if self.settings.notify else ()

        def ask(text: str, given: Mapping[str, object]) -> Result:
            return self._step_engine.query(text, now=self.clock(), parameters=given)

        return Player(
            PlaybookRuns(self.alerts.engine),
            incidents=self.incidents,
            alerts=self.alerts,
            outbox=self.outbox,
            channels=lambda: known,
            watchlists=self.watchlists,
            ask=ask,
            containment=lambda: self._containment,
            clock=self.clock,
        )

    @cached_property
    def _step_engine(self) -> DuckDBEngine:
        from trailhawk.respond.playbook import STEP_SECONDS

        return self._engine(seconds=STEP_SECONDS)

    @cached_property
    def _containment(self) -> Containment:
        from trailhawk.respond.containment import Containment, ResponseSettings

        section = self.settings.respond.get("aws")
        settings = ResponseSettings() if section is None else ResponseSettings.read(section)
        return Containment(settings, clock=self.clock)

    def automation_rules(
        self, *, fault: Callable[[AutomationError], None] | None = None
    ) -> tuple[AutomationRule, ...]:
        """The automation rules of the home's folder `automation`, in the order in which they run."""
        from trailhawk.respond.automation_file import load_rules

        return load_rules(self.home / "automation", fault=fault)

    def automator(self, *, fault: Callable[[AutomationError], None]) -> Automator:
        """Runs the automation rules; `fault` is told of files that hold none."""
        from trailhawk.respond.automation_runs import AutomationRuns
        from trailhawk.respond.automator import Automator

        return Automator(
            AutomationRuns(self.alerts.engine),
            incidents=self.incidents,
            alerts=self.alerts,
            rules=lambda: self.automation_rules(fault=fault),
            playbooks=self.playbooks,
            player=self.player,
            clock=self.clock,
        )

    def run_automation(self, automator: Automator) -> list[AutomationRun]:
        """Run the automation rules that are for what has happened since; their runs, told to SentinelHealth
        as well."""
        from trailhawk.connectors.sentinel_health import append
        from trailhawk.respond.automator import health

        done: list[AutomationRun] = []
        automator.collect()
        automator.work(done.append)
        if done:
            append(self.lake.apart(), [row for run in done for row in health(run)], now=self.clock())
            self.export()
        return done

    # What it does

    def ingest(
        self,
        paths: Iterable[Path],
        progress: Callable[[IngestProgress], None] = lambda _: None,
        *,
        told: Callable[[ObjectOutcome], None] = lambda _: None,
        strict: bool = False,
    ) -> IngestSummary:
        """Take log files into the lake."""
        from trailhawk.connectors.ingest import ingest

        return ingest(
            self.lake,
            paths,
            clock=self.clock,
            progress=progress,
            sources=self.sources,
            transforms=self.transforms(lasting=False),
            told=told,
            strict=strict,
        )

    def follow(
        self,
        paths: Iterable[Path],
        stop: threading.Event,
        *,
        told: Callable[[ObjectOutcome], None] = lambda _: None,
        strict: bool = False,
        quiet: timedelta = timedelta(seconds=10),
    ) -> IngestSummary:
        """Take log files as they are completed, until told to stop."""
        from trailhawk.connectors.ingest import follow

        return follow(
            self.lake,
            paths,
            clock=self.clock,
            stop=stop,
            sources=self.sources,
            transforms=self.transforms(lasting=True),
            told=told,
            strict=strict,
            quiet=quiet,
        )

    @cached_property
    def filters(self) -> FilterStore:
        """The ingest filters of the tables."""
        from trailhawk.detect.filters import FilterStore

        return FilterStore(self.alerts.engine)

    def transforms(self, *, lasting: bool) -> Mapping[str, Transform]:
        """The ingest filters as an Ingestor takes them; `lasting` for a process that runs on."""
        state = self.home / "state.db"
        if not lasting and not self.settings.state.url and not state.exists():
            return {}
        from trailhawk.detect.filters import Transforms

        return Transforms(
            lambda: self.filters if self.settings.state.url or state.exists() else None,
            lambda: self.engine,
            self.lake.table,
            clock=self.clock,
            lasting=lasting,
        )

    def transform(self, table: str, text: str) -> RowTransform:
        """An ingest transform of a table, checked; QueryError with the place of what is wrong."""
        from trailhawk.engine.transform import RowTransform

        return RowTransform(text, self.lake.delta(table).table, self.engine, clock=self.clock)

    def try_filter(
        self,
        table: str,
        text: str,
        *,
        last: timedelta,
        prices: Path | None = None,
        progress: Callable[[int, int], None],
    ) -> Trial:
        """What a filter would have saved and cost over the last so much time that the table holds."""
        import tempfile

        from trailhawk.detect.prices import PRICES
        from trailhawk.detect.prices import prices as read_prices
        from trailhawk.detect.trial import trial

        transform = self.transform(table, text)
        own = self.home / "prices.yaml"
        found = read_prices(prices or (own if own.exists() else PRICES))
        temporary = self.home / "temporary"
        temporary.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=temporary) as folder:
            return trial(
                transform,
                transform.table,
                self._engine(threads=1),
                files=self.lake.snapshot(table),
                rules=self.rules(),
                hunts=self.hunts(),
                tables=[each.name for each in self.log_tables if self.lake.snapshot(each.name).rows],
                last=last,
                prices=found,
                folder=Path(folder),
                now=self.clock(),
                workers=os.cpu_count() or 1,
                progress=progress,
            )

    def refetch(self, table: str, open_object: Callable[[Dropped], BinaryIO]) -> IngestSummary:
        """Store what filters dropped of a table and the filter as it is now keeps; see `detect.refetch`."""
        from trailhawk.detect.refetch import LEDGER_COLUMNS, refetch

        of_table = f"IngestLedger | where TargetTable == '{table}'"
        query = f"{of_table} and (Filtered > 0 or Object startswith 'again:') | project {LEDGER_COLUMNS}"
        return refetch(
            self.lake,
            self.filters,
            table,
            self.query(query, now=self.clock()).rows(),
            transform=lambda text: self.transform(table, text),
            open_object=open_object,
            clock=self.clock,
            sources=self.sources,
        )

    @cached_property
    def connector_settings(self) -> Mapping[str, ConnectorSettings]:
        """The connectors of the home's `trailhawk.toml` by name; SettingsError where one is wrong."""
        from trailhawk.connectors.config import connectors

        return connectors(self.settings.connectors)

    def connector(self, name: str) -> Connector:
        """A connector ready to run into this lake; NotFoundError where there is none of this name."""
        from trailhawk.connectors.config import one, open_connector
        from trailhawk.connectors.connector import Intake
        from trailhawk.connectors.ingest import Ingestor

        intake = Intake(
            taker=lambda worker: Ingestor(
                self.lake,
                clock=self.clock,
                worker=worker,
                sources=self.sources,
                transforms=self.transforms(lasting=True),
            ),
            folder=self.home / "connectors" / name,
            clock=self.clock,
            sources=self.sources,
        )
        return open_connector(one(self.connector_settings, name), intake)

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
        return [folder] if (folder := self.home / name).is_dir() else []

    def rule(self, text: str, folders: Iterable[Path] = ()) -> Rule:
        """The rule or hunt of this id, name or file; NotFoundError where there is none or more than one."""
        from trailhawk.detect.rulebook import named

        return named([*self.rules(folders), *self.hunts()], text)

    @cached_property
    def rule_states(self) -> RuleStates:
        from trailhawk.detect.rulebook import RuleStates

        return RuleStates(self.alerts.engine)

    @cached_property
    def exceptions(self) -> ExceptionStore:
        """The rows that rules pass over, and why."""
        from trailhawk.detect.exceptions import ExceptionStore

        return ExceptionStore(self.alerts.engine)

    def exceptions_of(self, rule: Rule) -> list[RuleException]:
        """The exceptions in use of this rule; those of every rule where it has their columns."""
        from trailhawk.detect.exceptions import EVERY_RULE, predicate

        found = []
        for each in self.exceptions.of(rule):
            if each.rule_id == EVERY_RULE:
                try:
                    columns = self._result_columns(rule)
                    predicate(each.where, columns, now=self.clock(), functions=self.functions)
                except QueryError:
                    continue  # a rule without its columns is none of its rules
            found.append(each)
        return found

    def _leave(self) -> Leave | None:
        """What applies the exceptions as they are now; None where there are none."""
        found = self.exceptions.all()
        if not found:
            return None
        from trailhawk.detect.exceptions import Exceptions

        return Exceptions(found, self._rule_engine)

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
            now=self.clock(),
            by=by,
            every=every,
            functions=self.functions,
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
        held, read = self._history_tables(), self._reads(rule)
        files = [self.lake.snapshot(name).files(fetch=False) for name in held if read is None or name in read]
        newest = max((file.last for each in files for file in each if file.last), default=None)
        if newest is None:
            names = ", ".join(sorted(read or ())) or "the lake"
            raise UsageError(f"there is nothing to run '{rule.name}' on: {names} is empty")
        until = min(end or newest, newest) + timedelta(microseconds=1)
        known = self.exceptions.all()
        temporary = self.home / "temporary"
        temporary.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=temporary) as folder:
            return backtest(
                rule,
                self._rule_engine,
                tables=held,
                start=until - last,
                end=until,
                now=self.clock(),
                folder=Path(folder),
                exceptions=Exceptions([*known, candidate] if candidate else known, self._rule_engine),
                judged=self._judged(rule),
                reads=self._reads,
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

        since = self.clock() - last
        alerts = [alert for alert in self.alerts.alerts(rule_id=rule.id) if alert.at >= since]
        return proposals(rule, alerts, self.incidents.classifications(), self._result_columns(rule))

    def _judged(self, rule: Rule) -> list[tuple[Alert, str]]:
        """The rule's alerts in incidents that somebody classified, with how."""
        judged = self.incidents.classifications()
        found = self.alerts.alerts(rule_id=rule.id) if judged else ()
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

        temporary = self.home / "temporary"
        temporary.mkdir(exist_ok=True)
        found: list[Canary] = []
        with tempfile.TemporaryDirectory(dir=temporary) as folder:
            made: list[Workspace] = []

            def fresh() -> Scratch:
                other = self._apart(Path(tempfile.mkdtemp(dir=folder)))
                made.append(other)
                return other._scratch()

            sending = canaries(
                rules,
                fresh,
                sources=self.sources,
                transforms=lambda: self.transforms(lasting=False),
                leave=self._leave(),
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
                    other._rule_engine.close()
        keep(self.alerts.engine, found, now=self.clock())
        return found

    def _apart(self, home: Path) -> Workspace:
        """A workspace with this one's sources, functions and watchlists, and its own lake and state."""
        from dataclasses import replace

        from trailhawk.settings import LakeSettings, StateSettings

        other = Workspace.open(home, clock=self.clock)
        other.settings = replace(self.settings, lake=LakeSettings(), state=StateSettings(), connectors={})
        other.sources = self.sources
        other.functions = self.functions
        other.watchlists = self.watchlists
        return other

    def _scratch(self) -> Scratch:
        from trailhawk.detect.canary import Scratch
        from trailhawk.incidents.store import makes_incident

        return Scratch(
            self.lake,
            self._rule_engine,
            self.alerts,
            self.rule_states,
            sink=lambda engine, rules, now: self.incidents.sink(engine, rules, now=now),
            in_incidents=lambda: {alert for one in self.incidents.all() for alert in one.alert_ids},
            wants_incident=makes_incident,
        )

    def last_canaries(self) -> dict[str, LastCanary]:
        """How the last canary of each rule and hunt ended, by its id."""
        from trailhawk.detect.canary import last_canaries

        return last_canaries(self.alerts.engine)

    def _result_columns(self, rule: Rule) -> list[Column]:
        """The columns of a rule's result; QueryError for a query that does not compile."""
        from trailhawk.kql.schema import Column

        compiled = self._rule_engine.compiled(rule.query, now=self.clock())
        return [Column(column.name, column.type) for column in compiled.columns]

    def import_rules(self, paths: Sequence[Path]) -> list[Imported]:
        """Take rule files into the home, those without an error."""
        from trailhawk.detect.rulebook import take_in

        return list(take_in(paths, self.home, self._findings))

    def import_sigma(
        self, paths: Sequence[Path], *, progress: Callable[[int, int], None] | None = None
    ) -> list[SigmaOutcome]:
        """Take Sigma rules into the home as rules of ours; UsageError where pySigma is not installed."""
        from trailhawk.detect.sigma.importing import take_in

        return take_in(paths, self.home, self._findings, progress=progress)

    def validate_rules(self, paths: Sequence[Path] = ()) -> list[tuple[str, str, tuple[Finding, ...]]]:
        """File, name and findings of each rule and hunt under these paths, or of all there are."""
        from trailhawk.detect.rulebook import read
        from trailhawk.detect.validate import Finding, Level

        faults: list[RuleError] = []
        rules = read(paths, faults.append) if paths else [*self.rules(fault=faults.append), *self.hunts()]
        broken = [("", "", (Finding(Level.ERROR, "file", error.message),)) for error in faults]
        return [*broken, *((rule.source, rule.name, self._findings(rule)) for rule in rules)]

    def _findings(self, rule: Rule) -> tuple[Finding, ...]:
        from trailhawk.detect.validate import validate

        return validate(rule, lambda text, now: self.engine.compiled(text, now=now), now=self.clock())

    def prove(
        self,
        folders: Sequence[Path] = (),
        *,
        only: str = "",
        excepted: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Outcome]:
        """Run the tests inside the rules and hunts of these folders, or of all content where none is given.

        `only` keeps those whose file or name holds it; with `excepted` the exceptions are applied.
        RuleError for a file that is no rule.
        """
        from trailhawk.detect.proof import prove
        from trailhawk.detect.rule_file import load_rules

        found = load_rules(folders) if folders else (*self.rules(), *self.hunts())
        chosen = [rule for rule in found if only.lower() in f"{rule.source} {rule.name}".lower()]
        count = sum(len(rule.tests) for rule in chosen)
        catalog = (self.lake.table(name) for name in self.lake.table_names())
        outcomes = []
        holding = self._engine(threads=1, few_rows=True).holding
        leave = self._leave() if excepted else None
        for outcome in prove(chosen, filter(None, catalog), holding, leave=leave):
            outcomes.append(outcome)
            if progress is not None:
                progress(len(outcomes), count)
        return outcomes

    def hunt_all(
        self, hunts: Sequence[Rule], *, now: datetime, progress: Callable[[int, int], None]
    ) -> tuple[Hunted, ...]:
        """Run hunts as of now and as of a day before, one a core."""
        from trailhawk.detect.hunt import hunt_all

        workers = os.cpu_count() or 1
        return hunt_all(self._engine(threads=1), hunts, now=now, workers=workers, progress=progress)

    def query(
        self,
        text: str,
        *,
        now: datetime,
        window: TimeRange | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> Result:
        """Run a KQL query; QueryError with the place where it is wrong. `parameters` are values for those
        that it declares."""
        return self.engine.query(text, now=now, window=window, parameters=parameters)

    def detect(
        self,
        rules: Sequence[Rule],
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> DetectSummary:
        """Run every due window of these rules over what is stored; new alerts go into incidents."""
        from trailhawk.detect.history import detect

        now = self.clock()
        engine = self._rule_engine

        summary = detect(
            engine,
            self.alerts,
            rules,
            tables=self._history_tables(),
            now=now,
            start=start,
            end=end,
            sink=self.incidents.sink(engine, {rule.id: rule for rule in rules}, now=now),
            progress=progress,
            workers=os.cpu_count() or 1,
            quiet=self._quiet,
            reads=self._reads,
            leave=self._leave(),
        )
        if summary.end is not None:
            known = {rule.id: rule for rule in rules}
            self.incidents.relink(engine, known, since=summary.end - _RELINK, now=now)
        self.export()
        self.incidents.publish()
        return summary

    def _quiet(self, rule: Rule, start: datetime, end: datetime) -> IsQuiet:
        """At which T of this stretch of history a rule's query cannot have a result."""
        from trailhawk.engine.result import TimeRange

        history = TimeRange(start, end)
        return self._rule_engine.activity(
            rule.query, period=rule.period, history=history, frequency=rule.frequency
        ).is_quiet

    def run_due_rules(self, *, fault: Callable[[RuleError], None]) -> Round:
        """Run what the schedule has due now, of the enabled rules; new alerts go into incidents."""
        from trailhawk.connectors.sentinel_health import append
        from trailhawk.detect.rule_health import of_round

        rules = self.rules(fault=fault)
        self.intel.republish(self.clock())
        done = self._scheduler.round(self._rule_engine, rules, self._history_tables())
        append(self.lake.apart(), of_round(done, rules), now=self.clock())
        if done.alerts:
            self.export()
            self.incidents.publish()
        self._relink(rules)
        return done

    def _relink(self, rules: Sequence[Rule]) -> None:
        """Now and then, look for calls that issued keys and came later than alerts about these keys."""
        now = self.clock()
        if self._relinked_at is None or now - self._relinked_at >= _RELINK_EVERY:
            self._relinked_at = now
            known = {rule.id: rule for rule in rules}
            self.incidents.relink(self._rule_engine, known, since=now - _RELINK, now=now)

    @cached_property
    def _scheduler(self) -> Scheduler:
        from trailhawk.detect.scheduler import Scheduler

        return Scheduler(
            self.alerts,
            self.rule_states,
            owner=f"{socket.gethostname()}:{os.getpid()}",
            clock=self.clock,
            sink=lambda rules: self.incidents.sink(self._rule_engine, rules, now=self.clock()),
            workers=os.cpu_count() or 1,
            reads=self._reads,
            leave=self._leave,
            quiet=self._quiet,
        )

    @cached_property
    def _rule_engine(self) -> DuckDBEngine:
        """Many small queries: side by side with one thread each they take half the time. The process has
        rows of its own beside DuckDB's; together they stay below 4 GiB."""
        return self._engine(threads=1, few_rows=True, most_memory=5 << 29)

    def _history_tables(self) -> list[str]:
        """The tables of logs that hold rows. Our own (ledger, quarantine) grow at other times: no history."""
        return [table.name for table in self.log_tables if self.lake.snapshot(table.name).rows]

    def _reads(self, rule: Rule) -> frozenset[str] | None:
        """The tables that a rule's query reads; None for one that does not compile."""
        from trailhawk.kql.passes import scans

        known = self._read_by.get(rule.query)
        if known is None:
            try:
                plan = self._rule_engine.compiled(rule.query, now=self.clock()).plan
            except QueryError:
                return None
            known = self._read_by[rule.query] = frozenset(scan.table.name for scan in scans(plan))
        return known

    def tables_read(self, text: str) -> tuple[str, ...]:
        """The tables of the lake that a query reads, by name; QueryError where it does not compile."""
        from trailhawk.kql.passes import scans

        plan = self.engine.compiled(text, now=self.clock()).plan
        known = set(self.lake.table_names())
        return tuple(sorted({scan.table.name for scan in scans(plan)} & known))

    def report(self, number: int) -> Report:
        """All that is known of the incident of this number; NotFoundError where there is none."""
        from trailhawk.incidents.report import report

        incident = self.incidents.incident(number)
        alerts = self.incidents.alerts_of(incident)
        return report(self.engine, incident, alerts, now=self.clock())

    def entity(self, text: str, *, within: TimeRange) -> tuple[EntityPage, tuple[Incident, ...]]:
        """What is known of an entity in a time, and the incidents that name it; UsageError for no entity."""
        from trailhawk.incidents.entity import entity_page, node_of
        from trailhawk.incidents.store import Wanted

        node = node_of(text)
        page = entity_page(self.engine, node, within=within, now=self.clock())
        named = node.name.rpartition("/")[2] if node.type == "AwsObject" else node.name
        return page, self.incidents.found(Wanted(entity=named), limit=20)

    def posture(
        self,
        asked: Sequence[Check],
        *,
        window: TimeRange | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[Answer, ...]:
        """What the logs say about how the accounts are set up."""
        from trailhawk.detect.posture import posture

        return posture(
            self.engine,
            asked,
            has_rows=lambda table: self.lake.snapshot(table).rows > 0,
            window=window,
            now=self.clock(),
            progress=progress,
        )

    def case(self, number: int) -> Case:
        """What a written report of the incident of this number holds; NotFoundError where there is none."""
        from trailhawk.incidents.case import case

        incident = self.incidents.incident(number)
        return case(
            self.engine,
            incident,
            self.incidents.alerts_of(incident),
            changes=self.incidents.changes(incident.number),
            bookmarks=self.bookmarks.all(),
            now=self.clock(),
        )

    def retry(self, ids: Sequence[str] | None) -> list[Retried]:
        """Take parts in quarantine again, or all; what became of each."""
        from trailhawk.connectors.again import retry
        from trailhawk.connectors.reopen import object_at

        return retry(
            self.lake,
            ids,
            find=object_at(self.connector_settings),
            clock=self.clock,
            sources=self.sources,
            transforms=self.transforms(lasting=False),
        )

    def quarantine(self) -> list[Quarantined]:
        """Everything in quarantine, oldest first."""
        from trailhawk.connectors.quarantine import quarantined

        return quarantined(self.lake)

    def tables(self) -> list[TableState]:
        """What each table of the lake holds."""
        return [self._table_state(name) for name in self.lake.table_names()]

    def health(self) -> list[dict[str, object]]:
        """Every stream of logs, and every connector as SentinelHealth told last."""
        from trailhawk.connectors.health import streams
        from trailhawk.connectors.sentinel_health import connector_states

        found: list[dict[str, object]] = [
            {
                "name": stream.name,
                "kind": "Stream",
                "state": stream.state,
                "reason": stream.reason,
                "source": stream.source,
                "table": stream.table,
                "account": stream.account,
                "region": stream.region,
                "objects": stream.objects,
                "last_event": stream.last_event,
                "quiet": stream.quiet,
                "silent_after": stream.silence,
                "delay": stream.delay,
                "delay_now": stream.delay_now,
                "rows": stream.rows,
                "usual_rows": stream.usual_rows,
            }
            for stream in streams(self.lake, now=self.clock())
        ]
        told = connector_states(self.lake)
        return found + [each for each in told if each["name"] in self.connector_settings]

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
            read[rule.id] = self._reads(rule)
            progress(done, len(content))
        newest = {table.name: self._table_state(table.name).last for table in self.log_tables}
        states = self.rule_states.of(content)
        return coverage(
            content,
            attack=attack_table(),
            version=version,
            reads=lambda rule: read[rule.id],
            flows=table_flows(self.engine, newest, streams(self.lake, now=now), now=now),
            enabled=lambda rule: states[rule.id].enabled,
            canaries=self.last_canaries(),
            now=now,
        )

    def tell_health(self, states: Iterable[ConnectorState]) -> list[Told]:
        """Write what changed for streams and connectors into SentinelHealth."""
        from trailhawk.connectors.health import streams
        from trailhawk.connectors.sentinel_health import of_connector, of_stream, tell

        now = self.clock()
        conditions = [*map(of_connector, states), *map(of_stream, streams(self.lake, now=now))]
        return tell(self.lake.apart(), conditions, now=now)

    def lake_days(self, tables: Iterable[str] = ()) -> list[DayState]:
        """What these tables (all, unless named) hold of each event day. NotFoundError for an unknown one."""
        from trailhawk.lake.status import day_states

        return day_states(self.lake, tuple(tables) or self.lake.table_names())

    def _table_state(self, name: str) -> TableState:
        snapshot = self.lake.snapshot(name)
        files = snapshot.files(fetch=False)
        return TableState(
            name=name,
            rows=sum(file.rows for file in files),
            first=min((file.first for file in files if file.first), default=None),
            last=max((file.last for file in files if file.last), default=None),
            files=len(files),
            bytes=sum(file.size for file in files),
            description=snapshot.table.description,
        )


class _Tables:
    """The lake as the engine sees it, made when a query first names a table: `print 1` needs none.

    Watchlists stand in it under names of their own, see `watchlist_table`.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def table(self, name: str) -> Table | None:
        if name == WATCHLIST_ALIASES:
            from trailhawk.detect.watchlists import ALIASES

            return ALIASES
        if name.startswith(_WATCHLIST):
            return self._workspace.watchlists.table(name)
        return self._workspace.lake.table(name)

    def table_names(self) -> tuple[str, ...]:
        return self._workspace.lake.table_names()

    def snapshot(self, name: str) -> Files:
        return _NoFiles() if _is_watchlist(name) else self._workspace.lake.snapshot(name)


class _NoFiles:
    """The files of what is not in the lake."""

    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[DataFile, ...]:
        return ()

    def look(self, files: Sequence[DataFile], need: Need) -> Found:
        from trailhawk.lake.table import Found

        return Found(())


class _Relations(Mapping[str, "Callable[[Files], pa.Table]"]):
    """What the state database holds, as rows: alerts that are not exported yet, and watchlists."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def __getitem__(self, name: str) -> Callable[[Files], pa.Table]:
        if name == "SecurityAlert":
            return self._workspace.alert_rows
        if name == "SecurityIncident":
            return self._workspace.incident_rows
        if name == "Watchlist":
            return self._workspace.watchlist_rows
        if name == "HuntingBookmark":
            return self._workspace.bookmark_rows
        if _is_watchlist(name):
            return lambda _: self._workspace.watchlists.rows(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(("SecurityAlert", "SecurityIncident", "Watchlist", "HuntingBookmark", WATCHLIST_ALIASES))

    def __len__(self) -> int:
        return 5


def _is_watchlist(name: str) -> bool:
    return name == WATCHLIST_ALIASES or name.startswith(_WATCHLIST)
