"""Wiring: one home folder's lake, engine, state and clock, each made when first asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from trailhawk.errors import LakeError, QueryError, RuleError, UsageError, raised
from trailhawk.workspace.catalogue import Relations, Tables

# The heavy rooms are imported where they are first used: a command loads only what it needs.
if TYPE_CHECKING:
    import threading

    import sqlalchemy as sa

    from trailhawk.connectors.again import Retried
    from trailhawk.connectors.config import ConnectorSettings
    from trailhawk.connectors.connector import Connector
    from trailhawk.connectors.connector import State as ConnectorState
    from trailhawk.connectors.ingest import Progress as IngestProgress
    from trailhawk.connectors.ingest import Summary as IngestSummary
    from trailhawk.connectors.objects import Outcome as ObjectOutcome
    from trailhawk.connectors.objects import Transform
    from trailhawk.connectors.quarantine import Quarantined
    from trailhawk.connectors.repair import Findings, Missing, Progress, Restored
    from trailhawk.connectors.running import Running
    from trailhawk.connectors.sentinel_health import Told
    from trailhawk.detect.bookmarks import BookmarkStore
    from trailhawk.detect.filters import FilterStore, Transforms
    from trailhawk.detect.history import IsQuiet
    from trailhawk.detect.history import Summary as DetectSummary
    from trailhawk.detect.intel.store import IntelStore
    from trailhawk.detect.posture import Answer, Check
    from trailhawk.detect.refetch import Dropped
    from trailhawk.detect.rule import Rule
    from trailhawk.detect.scheduler import Round, Scheduler
    from trailhawk.detect.store import AlertStore
    from trailhawk.detect.trial import Trial
    from trailhawk.detect.watchlists import WatchlistStore
    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.engine.external import External
    from trailhawk.engine.result import Result, TimeRange
    from trailhawk.engine.transform import RowTransform
    from trailhawk.incidents.case import Case
    from trailhawk.incidents.entity import EntityPage
    from trailhawk.incidents.incident import Incident
    from trailhawk.incidents.report import Report
    from trailhawk.incidents.store import IncidentStore
    from trailhawk.kql.operators.external import ExternalFile
    from trailhawk.kql.schema import Table
    from trailhawk.kql.stored import Functions
    from trailhawk.lake import Lake, LogError
    from trailhawk.lake.care import Caretaker
    from trailhawk.lake.files import DamagedFileError
    from trailhawk.lake.status import DayState
    from trailhawk.lake.storage import S3
    from trailhawk.settings import Settings
    from trailhawk.sources import Source
    from trailhawk.workspace.content import Content
    from trailhawk.workspace.response import Response

_LAKE = "lake"
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
        self._linked_to: datetime | None = None
        self._has_exported = False
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
        from trailhawk.lake.known import Known

        own = (SECURITY_ALERT, SECURITY_INCIDENT, WATCHLIST, HUNTING_BOOKMARK, THREAT_INTEL)
        known = Known(self.settings.lake.url or _LAKE, self.home / "lake-tables")
        return Lake(self._lake_place(), [*self.log_tables, *INTAKE_TABLES, *own], known=known)

    def _lake_place(self) -> Path | S3:
        """Where the settings put the lake: the home's folder `lake`, another folder, a bucket."""
        wanted = self.settings.lake
        if not wanted.url.startswith("s3://"):
            return self.home / (wanted.url or _LAKE)
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
            logs=[table.name for table in self.log_tables],
        )

    @cached_property
    def engine(self) -> DuckDBEngine:
        return self.engine_with()

    def engine_with(
        self,
        *,
        threads: int | None = None,
        few_rows: bool = False,
        looks_first: bool = False,
        seconds: float = 600.0,
        most_memory: int | None = None,
    ) -> DuckDBEngine:
        from trailhawk.engine.duckdb import DuckDBEngine, Limits, default_memory

        return DuckDBEngine(
            Tables(self),
            relations=Relations(self),
            functions=self.functions,
            limits=Limits(
                memory=min(default_memory(), most_memory) if most_memory else None,
                threads=threads,
                seconds=seconds,
                few_rows=few_rows,
                looks_first=looks_first,
            ),
            temporary=self.home / "temporary",
            external=self._external,
        )

    def _external(self, file: ExternalFile) -> list[list[object]]:
        """What externaldata reads; code and settings of it are asked for by the first query that has one."""
        return self._allowed_external(file)

    def allows(self, file: ExternalFile) -> bool:
        """Whether externaldata may read the file."""
        return self._allowed_external.allows(file)

    @cached_property
    def _allowed_external(self) -> External:
        from trailhawk.engine.external import allowed

        return allowed(self.settings.externaldata, self.home)

    @cached_property
    def functions(self) -> Functions:
        """The stored functions: the package's, and the user's in the home's `functions` folder."""
        from trailhawk.detect.content import functions

        return functions([self.home / "functions"])

    def export(self, damaged: Callable[[LogError], None] = raised) -> None:
        """Hand what the state database has and the lake lacks to the lake. `damaged` hears of a table whose
        log is damaged, once the others have theirs."""
        from trailhawk.detect.export import export_alerts, export_bookmarks, export_watchlists
        from trailhawk.incidents.export import export_incidents
        from trailhawk.lake import LogError

        lake, now = self.lake.apart(), self.clock()
        faults: list[LogError] = []
        for hand_over in (
            partial(export_alerts, self.alerts),
            partial(export_watchlists, self.watchlists),
            partial(export_bookmarks, self.bookmarks),
            partial(export_incidents, self.incidents),
        ):
            try:
                hand_over(lake, now=now)
            except LogError as error:
                faults.append(error)
        for fault in faults:
            damaged(fault)

    def try_export(self) -> None:
        """As `export`; what a damaged log keeps back is tried again when rules run next."""
        damage: list[LogError] = []
        self.export(damage.append)
        self._has_exported = not damage

    @cached_property
    def alerts(self) -> AlertStore:
        from trailhawk.detect.store import AlertStore, open_state, sqlite_url

        url = self.settings.state.url or sqlite_url(self.home / "state.db")
        return AlertStore(open_state(url, first=self._go_on_behind_the_lake))

    def _go_on_behind_the_lake(self, state: sa.Engine) -> None:
        """Let what is written from now on come after what the lake has, in case the state is a restored copy:
        what had the numbers of old rows would count as exported. Where that cannot be read they go far on."""
        from trailhawk.detect.bookmark_table import HUNTING_BOOKMARK
        from trailhawk.detect.bookmarks import BookmarkStore
        from trailhawk.detect.security_alert import SECURITY_ALERT
        from trailhawk.detect.store import AlertStore
        from trailhawk.detect.watchlist_table import WATCHLIST
        from trailhawk.detect.watchlists import WatchlistStore
        from trailhawk.incidents.security_incident import SECURITY_INCIDENT
        from trailhawk.incidents.store import IncidentStore
        from trailhawk.lake import LogError

        def exported(table: Table) -> int:
            try:
                return self.lake.snapshot(table.name).exported
            except LogError:
                # So many rows no table has: one for every four seconds since 1970. It stays below 2**31,
                # where PostgreSQL's numbers end, for two centuries.
                return int(self.clock().timestamp()) // 4

        # Stores of its own: another thread may wait for this one while it makes the workspace's.
        if sequence := exported(SECURITY_ALERT):
            AlertStore(state).go_on_after(sequence)
        if sequence := exported(WATCHLIST):
            WatchlistStore(state).go_on_after(sequence)
        if sequence := exported(HUNTING_BOOKMARK):
            BookmarkStore(state).go_on_after(sequence)
        if sequence := exported(SECURITY_INCIDENT):
            IncidentStore(AlertStore(state)).go_on_after(sequence)

    def ahead_of_state(self) -> timedelta:
        """How far this machine's clock is ahead of that of the state database's server; zero for a file."""
        from trailhawk.detect.store import server_time

        at = server_time(self.alerts.engine)
        return timedelta() if at is None else self.clock() - at

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
    def content(self) -> Content:
        """The rules and hunts, and the work on them."""
        from trailhawk.workspace.content import Content

        return Content(self)

    @cached_property
    def response(self) -> Response:
        """Messages, playbooks and automation rules."""
        from trailhawk.workspace.response import Response

        return Response(self)

    # What it does

    def ingest(
        self,
        paths: Iterable[Path],
        progress: Callable[[IngestProgress], None] = lambda _: None,
        *,
        told: Callable[[ObjectOutcome], None] = lambda _: None,
        damaged: Callable[[DamagedFileError], None] = raised,
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
            damaged=damaged,
            strict=strict,
        )

    def follow(
        self,
        paths: Iterable[Path],
        stop: threading.Event,
        *,
        told: Callable[[ObjectOutcome], None] = lambda _: None,
        damaged: Callable[[DamagedFileError], None] = raised,
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
            damaged=damaged,
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
        if not lasting and not self._has_state():
            return {}
        return self._transforms(lasting=lasting)

    def _has_state(self) -> bool:
        return bool(self.settings.state.url) or (self.home / "state.db").exists()

    def _transforms(self, *, lasting: bool) -> Transforms:
        from trailhawk.detect.filters import Transforms

        return Transforms(
            lambda: self.filters if self._has_state() else None,
            lambda: self.engine,
            self.lake.table,
            clock=self.clock,
            lasting=lasting,
        )

    def transform(self, table: str, text: str) -> RowTransform:
        """An ingest transform of a table of logs, checked; QueryError with the place of what is wrong."""
        from trailhawk.engine.transform import RowTransform

        own = self.lake.delta(table).table
        if own.name not in {each.name for each in self.log_tables}:
            raise UsageError(
                f"{table} takes no filter: it is not filled from logs",
                hint=f"there are {', '.join(sorted(each.name for each in self.log_tables))}",
            )
        return RowTransform(text, own, self.engine, clock=self.clock)

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
                self.engine_with(threads=1),
                rule_engine=self.rule_engine,
                files=self.lake.snapshot(table),
                rules=self.content.rules(),
                hunts=self.content.hunts(),
                tables=self.history_tables(),
                last=last,
                prices=found,
                folder=Path(folder),
                now=self.clock(),
                leave=self.content.leave(),
                in_force=self.filters.current(table) is not None,
                workers=os.cpu_count() or 1,
                progress=progress,
            )

    def refetch(self, table: str, open_object: Callable[[Dropped], BinaryIO]) -> IngestSummary:
        """Store what filters dropped of a table and the filter as it is now keeps; see `detect.refetch`."""
        from trailhawk.detect.refetch import LEDGER_COLUMNS, refetch

        of_table = f"IngestLedger | where TargetTable == '{table}'"
        query = (
            f"let Lacking = {of_table} and Filtered > 0 | distinct Object;"
            f" {of_table} and (Object in (Lacking) or Object startswith 'again:') | project {LEDGER_COLUMNS}"
        )
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
        return open_connector(one(self.connector_settings, name, sources=self.sources), intake)

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
        engine = self.rule_engine
        summary = detect(
            engine,
            self.alerts,
            rules,
            tables=self.history_tables(),
            now=now,
            start=start,
            end=end,
            sink=self.incidents.sink(engine, {rule.id: rule for rule in rules}, now=now),
            progress=progress,
            workers=os.cpu_count() or 1,
            quiet=partial(self._quiet, replayed=True),
            reads=self.reads,
            leave=self.content.leave(),
        )
        if summary.end is not None:
            known = {rule.id: rule for rule in rules}
            self.incidents.relink(engine, known, since=summary.end - _RELINK, now=now)
        self.export()
        self.incidents.publish()
        return summary

    def _quiet(self, rule: Rule, start: datetime, end: datetime, *, replayed: bool = False) -> IsQuiet:
        """At which T of this stretch of history a rule's query cannot have a result."""
        from trailhawk.engine.result import TimeRange

        history = TimeRange(start, end, replayed=replayed)
        return self.rule_engine.activity(
            rule.query, period=rule.period, history=history, frequency=rule.frequency
        ).is_quiet

    def run_due_rules(
        self, *, fault: Callable[[RuleError], None], stopped: Callable[[], bool] = lambda: False
    ) -> Round:
        """Run what the schedule has due now, of the enabled rules; new alerts go into incidents.

        A rule that reads a table whose log is damaged is postponed; what is to be written to such a table
        waits as well. LogError where none that is sound has rows. Once `stopped`, no further window is begun.
        """
        from trailhawk.connectors.sentinel_health import append
        from trailhawk.detect.rule_health import of_round
        from trailhawk.lake import LogError

        rules = self.content.rules(fault=fault)
        with suppress(LogError):
            self.intel.republish(self.clock())
        if not self._has_exported:
            self.try_export()  # what a process before this one left
        damage: list[LogError] = []
        held = self.history_tables(damage.append)
        if damage and not held:  # there is nothing to run on, as where the lake has gone
            raise damage[0]
        done = self._scheduler.round(self.rule_engine, rules, held, stopped=stopped)
        with suppress(LogError):
            append(self.lake.apart(), of_round(done, rules), now=self.clock())
        if done.alerts:
            self.try_export()
            self.incidents.publish()
        if not stopped():
            with suppress(LogError):
                self._relink(rules)
        return done

    def _relink(self, rules: Sequence[Rule]) -> None:
        """Now and then, look for calls that issued keys and came later than alerts about these keys; after a
        time in which they could not be looked for, of the alerts of that time too."""
        now = self.clock()
        if self._relinked_at is None or now - self._relinked_at >= _RELINK_EVERY:
            self._relinked_at = now
            self._linked_to = self._linked_to or now
            known = {rule.id: rule for rule in rules}
            self.incidents.relink(self.rule_engine, known, since=self._linked_to - _RELINK, now=now)
            self._linked_to = now

    @cached_property
    def _scheduler(self) -> Scheduler:
        from trailhawk.detect.owner import Owner, boot
        from trailhawk.detect.scheduler import Scheduler

        owner = Owner(self.home / "processes", boot=boot())
        return Scheduler(
            self.alerts,
            self.content.rule_states,
            owner=owner.name,
            has_ended=owner.has_ended,
            clock=self.clock,
            sink=lambda rules: self.incidents.sink(self.rule_engine, rules, now=self.clock()),
            workers=os.cpu_count() or 1,
            reads=self.reads,
            leave=self.content.leave,
            quiet=self._quiet,
        )

    @cached_property
    def rule_engine(self) -> DuckDBEngine:
        """Many small queries: side by side with one thread each they take half the time. The process may
        grow by twice the engine's memory, which together stays below 4 GiB."""
        return self.engine_with(threads=1, few_rows=True, looks_first=True, most_memory=7 << 28)

    def history_tables(self, damaged: Callable[[LogError], None] = raised) -> list[str]:
        """The tables of logs that hold rows. Our own (ledger, quarantine) grow at other times: no history.

        `damaged` hears of a table whose log is damaged or gone, which is not among them.
        """
        from trailhawk.lake import LogError

        held: list[str] = []
        for table in self.log_tables:
            try:
                if self.lake.snapshot(table.name).rows:
                    held.append(table.name)
            except LogError as error:
                damaged(error)
        return held

    def newest_row(self) -> datetime | None:
        """The time of the newest row of logs; None without any."""
        held = (self.table_state(name).last for name in self.history_tables())
        return max((last for last in held if last), default=None)

    def oldest_row(self) -> datetime | None:
        """The time of the oldest row of logs; None without any."""
        held = (self.table_state(name).first for name in self.history_tables())
        return min((first for first in held if first), default=None)

    def reads(self, rule: Rule) -> frozenset[str] | None:
        """The tables that a rule's query reads; None for one that does not compile."""
        from trailhawk.kql.passes import scans

        known = self._read_by.get(rule.query)
        if known is None:
            try:
                plan = self.rule_engine.compiled(rule.query, now=self.clock()).plan
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
        from trailhawk.connectors.reopen import body_or, object_at
        from trailhawk.connectors.spool import forget

        connectors = self.home / "connectors"
        retried = retry(
            self.lake,
            ids,
            find=body_or(connectors, self.sources, object_at(self.connector_settings)),
            clock=self.clock,
            sources=self.sources,
            transforms=self.transforms(lasting=False),
        )
        for each in retried:
            if each.state == "stored":
                forget(connectors, each.location)
        return retried

    def quarantine(self) -> list[Quarantined]:
        """Everything in quarantine, oldest first."""
        from trailhawk.connectors.quarantine import quarantined

        return quarantined(self.lake)

    def tables(self) -> list[TableState]:
        """What each table of the lake holds."""
        return [self.table_state(name) for name in self.lake.table_names()]

    def health(self) -> list[dict[str, object]]:
        """Every stream of logs, every connector as SentinelHealth told last, and the tables whose log cannot
        be read."""
        from trailhawk.connectors.health import StreamHealth, streams
        from trailhawk.connectors.sentinel_health import OF_STREAMS, connector_states
        from trailhawk.lake import LogError

        judged: list[StreamHealth] = []
        states: list[dict[str, object]] = []
        with suppress(LogError):  # told of as unreadable
            judged = streams(self.lake, now=self.clock())
        with suppress(LogError):
            states = connector_states(self.lake)
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
                "idle_since": None,
                "last_received": None,
            }
            for stream in judged
        ]
        told = [each for each in states if each["name"] in self.connector_settings]
        shown = [connector | self._running.health(connector, now=self.clock()) for connector in told]
        return [
            *found,
            *shown,
            *(
                {"name": table, "kind": "Table", "state": "unreadable", "reason": reason, **OF_STREAMS}
                for table, reason in self.unreadable_logs().items()
            ),
        ]

    @cached_property
    def _running(self) -> Running:
        from trailhawk.connectors.running import Running

        return Running(self.home / "health")

    def tell_health(
        self,
        states: Sequence[ConnectorState],
        *,
        alarms: bool = True,
        begin: Collection[str] = (),
        every: timedelta = timedelta(minutes=1),
    ) -> list[Told]:
        """Write what changed for connectors and streams into SentinelHealth, and how connectors fare into the
        home, where it is told `every` so often.

        Without `alarms` it is only told which streams are well again. Connectors in `begin` have just begun;
        SentinelHealth has nothing of those that have not.
        """
        from trailhawk.connectors.health import streams
        from trailhawk.connectors.sentinel_health import of_connector, of_stream, tell

        now = self.clock()
        self._running.write(states, now=now, every=every)
        conditions = [of_connector(state, begins=state.name in begin) for state in states if state.has_begun]
        found = map(of_stream, streams(self.lake, now=now))
        conditions += [each for each in found if alarms or each.status == "Success"]
        return tell(self.lake.apart(), conditions, now=now, begin=begin)

    def end_health(self, states: Sequence[ConnectorState]) -> None:
        """Tell that connectors, which fared like this last, run no more."""
        self._running.end(states, now=self.clock())

    def unreadable_logs(self) -> dict[str, str]:
        """The tables whose log cannot be read, each with the reason."""
        from trailhawk.connectors.repair import unreadable_logs

        return unreadable_logs(self.lake)

    def lake_days(self, tables: Iterable[str] = ()) -> list[DayState]:
        """What these tables (all, unless named) hold of each event day. NotFoundError for an unknown one."""
        from trailhawk.lake.status import day_states

        return day_states(self.lake, tuple(tables) or self.lake.table_names())

    def damaged_files(self, tables: Iterable[str] = ()) -> list[str]:
        """Data files of these tables (all, unless named) that are missing or cut off, by their paths."""
        from trailhawk.lake.status import damaged_files

        return damaged_files(self.lake, tuple(tables) or self.lake.table_names())

    def check_lake(
        self,
        tables: Iterable[str] = (),
        *,
        renewed: Callable[[str], None] = lambda _: None,
        progress: Progress,
    ) -> Findings:
        """Read all that these tables (all, unless named) hold; see `connectors.repair`."""
        from trailhawk.connectors.repair import check

        names = tuple(tables) or self.lake.table_names()
        return check(self.lake, names, renewed=renewed, progress=progress)

    def mend_lake(self, found: Findings, *, progress: Progress) -> list[Restored]:
        """Give up damaged files, take away doubled rows, and read again what is missing."""
        from trailhawk.connectors.reopen import object_at
        from trailhawk.connectors.repair import awaited, mend, restore

        mend(self.lake, found, clock=self.clock)
        return list(
            restore(
                self.lake,
                awaited(self.lake, found.tables),
                find=object_at(self.connector_settings),
                clock=self.clock,
                sources=self.sources,
                filter_at=self._transforms(lasting=False).at,
                progress=progress,
            )
        )

    def accept_loss(self, lost: Iterable[Missing]) -> None:
        """Let it be no fault any more that these rows, which could not be read again, are lost."""
        from trailhawk.connectors.repair import accept

        accept(self.lake, lost, clock=self.clock)

    def why_lost(self, missing: Missing) -> str:
        """Why the rows of an object cannot be read again now; '' where they can."""
        from trailhawk.connectors.reopen import object_at
        from trailhawk.connectors.repair import opened_again

        try:
            opened_again(missing, object_at(self.connector_settings), self.sources).close()
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def table_state(self, name: str) -> TableState:
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
