"""Canaries: the positive test of each rule, sent along the whole road from a raw log file to an alert.

A test's logs become files as AWS delivers them, are taken by the ingest (with the home's sources and
filters) into a lake of their own, and the scheduler runs the rule at the test's moment. All tests share that
lake; each is run over the files that hold its own rows, so that none sees another's.
"""

from __future__ import annotations

import gzip
import io
import json
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO, Final

import sqlalchemy as sa

from trailhawk.connectors.ingest import Ingestor
from trailhawk.connectors.objects import LogObject, Outcome, Transform
from trailhawk.connectors.quarantine import quarantined
from trailhawk.detect.alert import Alert
from trailhawk.detect.history import Sink
from trailhawk.detect.proof import CLOUDTRAIL, HUNT_AFTER, last_event, moment_of, typed_rows, window_of
from trailhawk.detect.rule import Rule, RuleKind, RuleTest
from trailhawk.detect.rulebook import RuleStates
from trailhawk.detect.run import Leave
from trailhawk.detect.schedule import WindowState
from trailhawk.detect.scheduler import DELAY, NRT_DELAY, Scheduler
from trailhawk.detect.store import AlertStore, Moment, make_tables, metadata, reading
from trailhawk.errors import QueryError, RuleError, TrailhawkError
from trailhawk.kql.schema import Table
from trailhawk.lake import Lake
from trailhawk.sources import Source
from trailhawk.sources import vpc_flow as flow_logs
from trailhawk.sources.cloudtrail import PLACES
from trailhawk.words import counted

if TYPE_CHECKING:
    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.engine.reading import Files, Tables
    from trailhawk.kql.plan import Need
    from trailhawk.lake.table import DataFile, Found

FLOWS: Final = flow_logs.TABLE.name
_HOUR: Final = timedelta(hours=1)
_ACCOUNT, _REGION = "111122223333", "us-east-1"
_BY: Final = "canary"
_FLOW_HEADER: Final = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
    "log-status"
)
_FLOW_FIELDS: Final = 14


class Entry(Enum):
    """Where a test's rows came in: as log files, or (some of them) as rows of a table."""

    LOG = "raw log"
    TABLE = "table"


class Stage(Enum):
    """How far a canary came."""

    INGEST = "ingest"
    QUERY = "query"
    ALERT = "alert"
    INCIDENT = "incident"


@dataclass(frozen=True, slots=True)
class Canary:
    """What became of a rule's positive test. `stage` is where it stopped, None where it fired.

    `entry` says where it came in; `note` why that is a table. A rule without a positive test has no `test`.
    """

    rule: Rule
    test: RuleTest | None
    stage: Stage | None
    reason: str
    entry: Entry = Entry.LOG
    note: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.test is not None and self.stage is None

    @property
    def failed(self) -> bool:
        return self.test is not None and self.stage is not None


@dataclass(frozen=True)
class Scratch:
    """A lake and a state database for canaries alone."""

    lake: Lake
    engine: DuckDBEngine
    alerts: AlertStore
    states: RuleStates
    sink: Callable[[DuckDBEngine, Mapping[str, Rule], datetime], Sink]
    """What makes incidents of the alerts of these rules."""
    in_incidents: Callable[[], set[str]]
    """The ids of the alerts that are in an incident."""
    wants_incident: Callable[[Alert, Rule], bool]


def canaries(
    rules: Iterable[Rule],
    fresh: Callable[[], Scratch],
    *,
    sources: Sequence[Source],
    transforms: Callable[[], Mapping[str, Transform]],
    leave: Leave | None = None,
    workers: int = 1,
) -> Generator[Canary, None, None]:
    """Send the first positive test of each rule or hunt along the road; how each ended, in their order.

    `fresh` gives a new scratch lake, one for each worker; more are only needed where a test's records have
    been stored before. `transforms` gives the home's ingest filters, `leave` applies its exceptions.
    """
    own = threading.local()

    def road() -> _Road:
        return _Road(fresh(), sources, transforms(), leave)

    def send(rule: Rule) -> Canary:
        test = next((each for each in rule.tests if each.expect.alerts), None)
        if test is None:
            return Canary(rule, None, None, "it has no test that must fire")
        started = time.perf_counter()
        if not hasattr(own, "road"):
            own.road = road()
        sent: _Sent = own.road.send(rule, test)
        if sent.is_known:
            # Its records are those of another test, under the same ids.
            sent = road().send(rule, test)
        return replace(sent.canary, seconds=time.perf_counter() - started)

    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(send, rules)
    finally:
        pool.shutdown(cancel_futures=True)


# --- the road ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sent:
    canary: Canary
    is_known: bool = False


class _StopError(Exception):
    """A canary came no further."""

    def __init__(self, stage: Stage, reason: str, *, is_known: bool = False) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason
        self.is_known = is_known


class _Road:
    """One scratch lake, with the ingest and the scheduler under a clock that follows the tests."""

    def __init__(
        self,
        scratch: Scratch,
        sources: Sequence[Source],
        transforms: Mapping[str, Transform],
        leave: Leave | None,
    ) -> None:
        self._scratch = scratch
        self._sources = sources
        self._now = datetime(2000, 1, 1, tzinfo=UTC)
        self._leave = leave
        self._known: dict[str, frozenset[str]] = {}
        self._ingestor = Ingestor(
            scratch.lake, clock=lambda: self._now, sources=sources, transforms=transforms, worker=_BY
        )

    def send(self, rule: Rule, test: RuleTest) -> _Sent:
        """Bring a test's logs in and run its rule."""
        raw = _Raw()
        try:
            raw = _raw(rule, test, self._sources, self._scratch.lake)
            files = self._bring_in(rule, test, raw)
            self._fire(rule, test, files)
        except _StopError as stop:
            return _Sent(
                Canary(rule, test, stop.stage, stop.reason, raw.entry, raw.note), is_known=stop.is_known
            )
        except TrailhawkError as error:
            return _Sent(Canary(rule, test, Stage.INGEST, str(error), raw.entry, raw.note))
        return _Sent(Canary(rule, test, None, "", raw.entry, raw.note))

    # Raw logs become rows

    def _bring_in(self, rule: Rule, test: RuleTest, raw: _Raw) -> dict[str, frozenset[str]]:
        """The files that hold the test's rows, by table."""
        found: dict[str, frozenset[str]] = {}
        self._now = self._arrival(rule, test)
        for each in raw.objects:
            self._take(each)
            found[each.table] = found.get(each.table, frozenset()) | self._new(each.table)
        for name, rows in raw.rows.items():
            found[name] = found.get(name, frozenset()) | self._write(name, rows)
        if rule.history_needed and rule.kind is not RuleKind.HUNTING:
            # Only that there is history is told by this row: it lies before all that the window sees.
            before = window_of(rule, test).at - max(rule.period, rule.history_needed) - _HOUR
            for name in found:
                table = self._scratch.lake.delta(name).table
                row = {table.time_column: before.isoformat()}
                found[name] |= self._write(name, [row])
        return found

    def _arrival(self, rule: Rule, test: RuleTest) -> datetime:
        """When the logs come in: with the last of them, and before the rule runs."""
        last = last_event(test)
        if rule.kind is RuleKind.HUNTING:
            return last
        return min(last, window_of(rule, test).at - timedelta(seconds=1))

    def _take(self, each: _Object) -> None:
        outcomes: list[Outcome] = []
        location = f"s3://canary/{each.name}"
        item = LogObject(
            location,
            lambda: _open(each.content),
            size=len(each.content),
            bucket="canary",
            key=each.name,
            identity=f"s3:{location}@{uuid.uuid5(uuid.NAMESPACE_URL, each.name)}",
        )
        self._ingestor.take(item, outcomes.append)
        self._ingestor.flush()
        (done,) = outcomes
        if done.state != "stored" or done.quarantined:
            reasons = [part.reason for part in quarantined(self._scratch.lake) if part.location == location]
            raise _StopError(Stage.INGEST, f"quarantined: {reasons[0] if reasons else done.state}")
        if done.filtered == done.records:
            raise _StopError(Stage.INGEST, f"row missing: the ingest filter of {each.table} drops it")
        if done.duplicates:
            known = f"row missing: {done.duplicates:,} of {done.records:,} records were stored before"
            raise _StopError(Stage.INGEST, known, is_known=True)

    def _new(self, name: str) -> frozenset[str]:
        """The files of a table that came since the last look."""
        files = frozenset(file.path for file in self._scratch.lake.snapshot(name).files())
        new = files - self._known.get(name, frozenset())
        self._known[name] = files
        if not new:
            raise _StopError(Stage.INGEST, f"row missing: the log did not become a row of {name}")
        return new

    def _write(self, name: str, rows: Sequence[Mapping[str, object]]) -> frozenset[str]:
        delta = self._scratch.lake.delta(name)
        delta.create()
        # The ledger has grown by the test's own logs.
        self._known[name] = frozenset(file.path for file in self._scratch.lake.snapshot(name).files())
        delta.commit(delta.stage(typed_rows(rows, delta.table)))
        return self._new(name)

    # Rows become an alert

    def _fire(self, rule: Rule, test: RuleTest, files: Mapping[str, frozenset[str]]) -> None:
        engine = self._scratch.engine.over(_Own(self._scratch.engine.tables, files))
        if rule.kind is RuleKind.HUNTING:
            self._hunt(rule, test, engine)
            return
        window = window_of(rule, test)
        self._now = window.at + (NRT_DELAY if rule.kind is RuleKind.NRT else DELAY)
        self._scratch.states.set(rule, enabled=True, reason="", now=self._now, by=_BY)
        scheduler = Scheduler(
            self._scratch.alerts,
            self._scratch.states,
            owner=_BY,
            clock=lambda: self._now,
            sink=lambda rules: self._scratch.sink(engine, rules, self._now),
            leave=lambda: self._leave,
        )
        done = scheduler.round(engine, [rule], list(files))
        each = next((each for each in done.runs if each.window.at == window.at), None)
        if each is None:
            raise _StopError(Stage.QUERY, f"the scheduler ran no window at {window.at:%Y-%m-%dT%H:%M:%SZ}")
        if each.state is not WindowState.DONE:
            raise _StopError(Stage.QUERY, f"{each.state.value}: {each.reason}")
        if not done.alerts:
            taken = [found for found in each.taken if found.places]
            numbers = ", ".join(str(found.exception_id) for found in taken)
            rows = counted(each.rows, "row")
            why = f"exception {numbers} takes its rows" if taken else f"its query gives {rows}"
            raise _StopError(Stage.ALERT, f"no alert: {why}")
        wanted = [alert for alert in done.alerts if self._scratch.wants_incident(alert, rule)]
        if wanted and not self._scratch.in_incidents().issuperset(alert.id for alert in wanted):
            raise _StopError(Stage.INCIDENT, "its alert is in no incident")

    def _hunt(self, rule: Rule, test: RuleTest, engine: DuckDBEngine) -> None:
        try:
            found = engine.query(rule.query, now=test.at or last_event(test) + HUNT_AFTER)
        except QueryError as error:
            raise _StopError(Stage.QUERY, error.render(rule.query).split("\n", 1)[0]) from None
        if not found.table.num_rows:
            raise _StopError(Stage.ALERT, "no rows: its query finds nothing")


class _Own:
    """The tables of an engine, of which only some files are seen."""

    def __init__(self, tables: Tables, files: Mapping[str, frozenset[str]]) -> None:
        self._tables = tables
        self._files = files

    def table(self, name: str) -> Table | None:
        return self._tables.table(name)

    def table_names(self) -> tuple[str, ...]:
        return self._tables.table_names()

    def snapshot(self, name: str) -> Files:
        if name not in self._files and not self._is_log(name):
            return self._tables.snapshot(name)
        return _OwnFiles(self._tables.snapshot(name), self._files.get(name, frozenset()))

    def _is_log(self, name: str) -> bool:
        table = self._tables.table(name)
        return table is not None and bool(table.time_column) and name != "SecurityAlert"


class _OwnFiles:
    def __init__(self, files: Files, own: frozenset[str]) -> None:
        self._files = files
        self._own = own

    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[DataFile, ...]:
        return tuple(file for file in self._files.files(since, until) if file.path in self._own)

    def look(self, files: Sequence[DataFile], need: Need) -> Found:
        return self._files.look(files, need)


# --- logs as AWS delivers them -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Object:
    table: str
    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class _Raw:
    """A test's logs as files, and the rows that no file can hold."""

    objects: tuple[_Object, ...] = ()
    rows: Mapping[str, Sequence[Mapping[str, object]]] = field(default_factory=dict)
    note: str = ""
    entry: Entry = Entry.LOG


def _raw(rule: Rule, test: RuleTest, sources: Sequence[Source], lake: Lake) -> _Raw:
    at = last_event(test)
    events: list[Mapping[str, object]] = list(test.events)
    logs: dict[str, list[Mapping[str, object] | str]] = {}
    for name, entries in test.logs:
        if not any(source.table.name == name for source in sources):
            raise RuleError(f"the test '{test.name}' has logs of {name}, which no source reads")
        logs.setdefault(name, []).extend(entries)
    rows: dict[str, Sequence[Mapping[str, object]]] = {}
    notes: list[str] = []
    filled = {source.table.name for source in sources}
    at_table = False
    lines: list[str] = []
    for name, given in test.rows:
        records: list[Mapping[str, object]] = []
        if name == FLOWS:
            lines, why = _flow_lines(given)
        else:
            records, why = _records(name, given)
        if why:
            if name not in filled:
                why = f"no log fills {name}"
            if lake.table(name) is None:
                raise RuleError(f"the test '{test.name}' has rows of {name}, which is no table")
            rows[name] = given
            notes.append(f"enters at the table: {why}")
            at_table |= name in filled
        events += records
    for record in [each for each in logs.pop(CLOUDTRAIL, ()) if not isinstance(each, str)]:
        events.append(record)
    identity = f"{rule.id}/{test.name}"
    objects = [_object(name, entries, at, identity) for name, entries in logs.items()]
    if lines:
        objects.append(_object(FLOWS, lines, at, f"{identity}/rows"))
    if events:
        objects.insert(0, _trail(events, at, identity))
    # Rows that no log fills stand beside the logs, as lists do; they are not what comes along the road.
    is_log = objects and not at_table
    return _Raw(tuple(objects), rows, "; ".join(notes), Entry.LOG if is_log else Entry.TABLE)


def _trail(events: Sequence[Mapping[str, object]], at: datetime, identity: str) -> _Object:
    """A CloudTrail log file; records without an id get one that no other test's have.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-examples.html
    """
    records = [
        {
            "eventVersion": "1.11",
            "eventID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{identity}/{place}")),
            **event,
        }
        for place, event in enumerate(events)
    ]
    content = json.dumps({"Records": records}, default=str).encode()
    folder = f"AWSLogs/{_ACCOUNT}/CloudTrail/{_REGION}/{at:%Y/%m/%d}"
    name = f"{_ACCOUNT}_CloudTrail_{_REGION}_{at:%Y%m%dT%H%MZ}_{_unique(identity)}.json.gz"
    return _Object(CLOUDTRAIL, f"{folder}/{name}", gzip.compress(content, 1))


def _object(
    table: str, entries: Sequence[Mapping[str, object] | str], at: datetime, identity: str
) -> _Object:
    """A log file of another table, under a name as its service gives; lines as they stand in the test."""
    lines = [each if isinstance(each, str) else json.dumps(each, default=str) for each in entries]
    unique = _unique(f"{identity}/{table}")
    aws = f"AWSLogs/{_ACCOUNT}"
    match table:
        case _ if table == FLOWS:
            # https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-s3-path.html
            if lines[0][:1].isdigit() and len(lines[0].split()) == _FLOW_FIELDS:
                lines.insert(0, _FLOW_HEADER)
            file = f"{_ACCOUNT}_vpcflowlogs_{_REGION}_fl-0a1b2c3d_{at:%Y%m%dT%H%MZ}_{unique[:8]}.log.gz"
            name = f"{aws}/vpcflowlogs/{_REGION}/{at:%Y/%m/%d}/{file}"
        case "AWSGuardDuty":
            # https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_exportfindings.html
            name = (
                f"{aws}/GuardDuty/{_REGION}/{at:%Y/%m/%d}/{uuid.uuid5(uuid.NAMESPACE_URL, unique)}.jsonl.gz"
            )
        case "AWSS3ServerAccess":
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerLogs.html
            name = f"access/{at:%Y-%m-%d-%H-%M-%S}-{unique}"
        case _:
            name = f"{table}/{at:%Y/%m/%d}/{unique}.log"
    content = "".join(line + "\n" for line in lines).encode()
    return _Object(table, name, gzip.compress(content, 1) if name.endswith(".gz") else content)


def _unique(identity: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, identity).hex[:16].upper()


def _open(content: bytes) -> BinaryIO:
    return io.BytesIO(content)


_JSON: Final = frozenset(
    {"RequestParameters", "ResponseElements", "AdditionalEventData", "Resources", "ServiceEventDetails"}
)
_PLACE: Final = {column: place for place, column in PLACES.items()}


def _records(table: str, rows: Sequence[Mapping[str, object]]) -> tuple[list[Mapping[str, object]], str]:
    """The log records whose rows these are; or why there are none."""
    if table != CLOUDTRAIL:
        return [], f"rows of {table} do not tell how their log was written"
    unknown = {name for row in rows for name in row} - _PLACE.keys()
    if unknown:
        return [], f"the column {', '.join(sorted(unknown))} has no one place in a record"
    return [_record(row) for row in rows], ""


def _record(row: Mapping[str, object]) -> Mapping[str, object]:
    """The CloudTrail record of a row: each column's value where the source finds it."""
    record: dict[str, object] = {}
    for column, value in row.items():
        if value is None or value == "":
            continue
        if column in _JSON and isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise RuleError(f"the test's {column} is no JSON") from None
        *above, name = _PLACE[column].split(".")
        inside = record
        for step in above:
            below = inside.setdefault(step, {})
            assert isinstance(below, dict)  # no column stands at a place within which another one stands
            inside = below
        inside[name] = value
    return record


def _flow_lines(rows: Sequence[Mapping[str, object]]) -> tuple[list[str], str]:
    """Flow log lines with a header, whose rows these are; or why there are none."""
    wanted = {name for row in rows for name in row} - {"TimeGenerated"}
    if unknown := wanted - flow_logs.PLACES.keys():
        return [], f"the column {', '.join(sorted(unknown))} has no field in a line"
    columns = [name for name in flow_logs.PLACES if name in wanted | {"Start", "End"}]
    lines = [" ".join(flow_logs.PLACES[name] for name in columns)]
    for row in rows:
        start = row.get("Start", row.get("TimeGenerated"))
        if row.get("TimeGenerated", start) != start:
            return [], "a flow's time is that of its start"
        full = {**row, "Start": start, "End": row.get("End", start)}
        values = [_flow_value(name, full.get(name)) for name in columns]
        if any(" " in value for value in values):
            return [], "a field of a flow log holds no space"
        lines.append(" ".join(values))
    return lines, ""


def _flow_value(column: str, value: object) -> str:
    if value is None or value == "":
        return "-"
    if column in ("Start", "End"):
        moment = moment_of(str(value))
        return str(int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))
    return str(value)


# --- what is kept ------------------------------------------------------------------------------------------

_canaries = sa.Table(
    "canaries",
    metadata,
    sa.Column("rule_id", sa.String, primary_key=True),
    sa.Column("rule_name", sa.String, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("stage", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("entry", sa.String, nullable=False),
    sa.Column("passed_at", Moment),
)


@dataclass(frozen=True, slots=True)
class LastCanary:
    """How a rule's last canary ended, and when one passed last."""

    rule_id: str
    rule_name: str
    at: datetime
    passed: bool
    stage: str
    reason: str
    entry: str
    passed_at: datetime | None


def keep(engine: sa.Engine, sent: Iterable[Canary], *, now: datetime) -> None:
    """Write down how canaries ended; rules without a positive test leave no trace."""
    make_tables(engine, [_canaries])
    told = {each.rule.id: each for each in sent if each.test is not None}
    with engine.begin() as connection:
        query = sa.select(_canaries.c.rule_id, _canaries.c.passed_at)
        before = {row.rule_id: row.passed_at for row in connection.execute(query)}
        connection.execute(sa.delete(_canaries).where(_canaries.c.rule_id.in_(told)))
        rows = [
            {
                "rule_id": rule_id,
                "rule_name": each.rule.name,
                "at": now,
                "passed": each.passed,
                "stage": each.stage.value if each.stage else "",
                "reason": each.reason,
                "entry": each.entry.value,
                "passed_at": now if each.passed else before.get(rule_id),
            }
            for rule_id, each in told.items()
        ]
        if rows:
            connection.execute(sa.insert(_canaries), rows)


def last_canaries(engine: sa.Engine) -> dict[str, LastCanary]:
    """How the last canary of each rule and hunt ended, by its id."""
    make_tables(engine, [_canaries])
    with reading(engine) as connection:
        rows = connection.execute(sa.select(_canaries))
        return {row.rule_id: LastCanary(**row._mapping) for row in rows}
