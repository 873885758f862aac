"""The tests inside rules: logs as AWS writes them go in, alerts (of a hunt: rows) must come out."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from trailhawk.detect.alert import EVENT_IDS, Alert
from trailhawk.detect.rule import Rule, RuleKind, RuleTest
from trailhawk.detect.run import Leave, Run, run
from trailhawk.detect.schedule import Window, WindowState, windows
from trailhawk.errors import QueryError, RuleError, TrailhawkError
from trailhawk.kql.schema import INGESTION_TIME, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import fitted, stored_schema
from trailhawk.sources import SOURCES, Source, log_of
from trailhawk.words import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.engine.result import Engine

CLOUDTRAIL = "AWSCloudTrail"
HUNT_AFTER = timedelta(minutes=1)
"""When a hunt's test runs after its last event, unless it says when."""

Holding = Callable[[Mapping[str, "pa.Table"]], "Engine"]
"""Gives an engine over tables that hold just these rows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test of one rule ended: `failures` say what is not as expected, none when it passed."""

    rule: Rule
    test: RuleTest
    failures: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.failures


def prove(
    rules: Iterable[Rule],
    tables: Iterable[Table],
    holding: Holding,
    *,
    sources: Sequence[Source] = SOURCES,
    leave: Leave | None = None,
) -> Iterator[Outcome]:
    """Run every test of these rules, one by one; a test that cannot run has failed, with the reason.

    Exceptions are applied only where `leave` is given.
    """
    known = {table.name: table for table in tables}
    for rule in rules:
        for test in rule.tests:
            started = time.perf_counter()
            try:
                failures = tuple(_failures(rule, test, holding(_rows(test, known, sources)), leave))
            except TrailhawkError as error:
                failures = (str(error),)
            yield Outcome(rule, test, failures, time.perf_counter() - started)


def trial(
    rule: Rule,
    test: RuleTest,
    tables: Iterable[Table],
    holding: Holding,
    *,
    sources: Sequence[Source] = SOURCES,
) -> Run:
    """What a rule finds in the logs of a test, whatever it expects; RuleError for a log that is none."""
    known = {table.name: table for table in tables}
    return run(rule, window_of(rule, test), holding(_rows(test, known, sources)))


# --- what is expected --------------------------------------------------------------------------------------


def _failures(rule: Rule, test: RuleTest, engine: Engine, leave: Leave | None) -> Iterator[str]:
    if rule.kind is RuleKind.HUNTING:
        yield from _of_hunt(rule, test, engine)
        return
    found = run(rule, window_of(rule, test), engine, leave=leave)
    if found.state is not WindowState.DONE:
        yield f"{found.state.value}: {found.reason}"
        return
    yield from _of_alerts(rule, test, found)


def _of_hunt(rule: Rule, test: RuleTest, engine: Engine) -> Iterator[str]:
    try:
        rows = engine.query(rule.query, now=test.at or last_event(test) + HUNT_AFTER).table.num_rows
    except QueryError as error:
        yield error.render(rule.query)
        return
    if rows != test.expect.alerts:
        yield f"{counted(test.expect.alerts, 'row')} expected, found {rows}"


def _of_alerts(rule: Rule, test: RuleTest, found: Run) -> Iterator[str]:
    expect = test.expect
    if len(found.alerts) != expect.alerts:
        names = "".join(f"\n  {alert.name}" for alert in found.alerts[:5])
        yield f"{counted(expect.alerts, 'alert')} expected, found {len(found.alerts)}{names}"
    for alert in found.alerts:
        yield from _of_alert(rule, test, alert)


def _of_alert(rule: Rule, test: RuleTest, alert: Alert) -> Iterator[str]:
    if rule.data_types[:1] in ((), (CLOUDTRAIL,)) and test.events and not alert.detail(EVENT_IDS):
        yield f"the alert '{alert.name}' names no events: it needs the custom detail {EVENT_IDS}"
    severity = test.expect.severity
    if severity is not None and alert.severity is not severity:
        yield f"severity {severity.value} expected, found {alert.severity.value}"
    for kind, values in test.expect.entities:
        if set(alert.values(kind)) != set(values):
            yield f"{kind} {', '.join(values)} expected, found {', '.join(alert.values(kind)) or 'none'}"


# --- when it runs ------------------------------------------------------------------------------------------


def window_of(rule: Rule, test: RuleTest) -> Window:
    """The first regular run after the last event, or at or after the moment that the test names."""
    moment = last_event(test) if test.at is None else test.at - timedelta(microseconds=1)
    return next(windows(rule, moment, moment + rule.frequency))


def last_event(test: RuleTest) -> datetime:
    """When the last event of a test happened, or the moment it names; RuleError where it tells neither."""
    last = max(_times(test), default=test.at)
    if last is None:
        raise RuleError(f"the test '{test.name}' has no event with a time; give it `at:`")
    return last


def _times(test: RuleTest) -> Iterator[datetime]:
    texts = [
        text
        for record in (*test.events, *(row for _, rows in test.rows for row in rows))
        for name in ("eventTime", "TimeGenerated")
        if isinstance(text := record.get(name), str)
    ]
    for text in texts:
        moment = moment_of(text)
        yield moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def moment_of(text: str) -> datetime:
    """A time in a test; RuleError for what is none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise RuleError(f"'{text}' is no time", hint="write 2026-03-02T09:00:00Z") from None


# --- what the tables hold ----------------------------------------------------------------------------------


def _rows(test: RuleTest, tables: Mapping[str, Table], sources: Sequence[Source]) -> dict[str, pa.Table]:
    import pyarrow as pa

    parts: dict[str, list[pa.Table]] = {}
    logs = [(CLOUDTRAIL, _with_ids(test.events))] if test.events else []
    for name, entries in (*logs, *test.logs):
        source = log_of(name, sources)
        if source is None:
            raise RuleError(f"the test '{test.name}' has logs of {name}, which no source reads")
        parts.setdefault(name, []).append(_read(source, entries, test))
    for name, rows in test.rows:
        if name not in tables:
            raise RuleError(f"the test '{test.name}' has rows of {name}, which is no table")
        parts.setdefault(name, []).append(_typed(rows, tables[name]))
    return {
        name: pa.concat_tables([_ingested(fitted(part, tables[name]), tables[name]) for part in found])
        for name, found in parts.items()
    }


def _with_ids(events: Iterable[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """The records, each with a version and an id; the id follows from the record's place."""
    return [
        {"eventVersion": "1.11", "eventID": str(uuid.uuid5(uuid.NAMESPACE_URL, str(place)))} | dict(event)
        for place, event in enumerate(events)
    ]


def _read(source: Source, entries: Iterable[Mapping[str, object] | str], test: RuleTest) -> pa.Table:
    """Logs as the source reads them; a test's logs must all become rows."""
    import pyarrow as pa

    lines = [each if isinstance(each, str) else json.dumps(each) for each in entries]
    tables = []
    for chunk in source.chunks(iter(["".join(line + "\n" for line in lines).encode()])):
        made = source.rows(chunk.records)
        reasons = [*(part.reason for part in chunk.bad), *(reason for _, reason in made.bad)]
        if reasons:
            raise RuleError(f"the test '{test.name}' has a log that is none of {source.name}: {reasons[0]}")
        tables.append(made.table)
    return pa.concat_tables(tables)


def typed_rows(rows: Iterable[Mapping[str, object]], table: Table) -> pa.Table:
    """Rows as the lake stores them, that came the moment they happened."""
    return _ingested(fitted(_typed(rows, table), table), table)


def _typed(rows: Iterable[Mapping[str, object]], table: Table) -> pa.Table:
    """Rows as a table's columns, by name; absent ones are empty."""
    import pyarrow as pa

    unknown = {name for row in rows for name in row} - {column.name for column in table.columns}
    if unknown:
        raise RuleError(f"{table.name} has no column {', '.join(sorted(unknown))}")
    types = {column.name: column.type for column in table.stored}
    return pa.Table.from_pylist(
        [{name: _value(row.get(name), kind) for name, kind in types.items()} for row in rows],
        pa.schema([field for field in stored_schema(table) if field.name in types]),
    )


def _value(value: object, kind: KqlType) -> object:
    """A value of YAML as the column stores it."""
    if kind is KqlType.DATETIME and isinstance(value, str):
        moment = moment_of(value)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    if kind in (KqlType.STRING, KqlType.DYNAMIC):
        if value is None:
            return "" if kind is KqlType.STRING else None
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return value


def _ingested(rows: pa.Table, table: Table) -> pa.Table:
    """Rows that came the moment they happened."""
    place = rows.schema.get_field_index(INGESTION_TIME)
    return rows.set_column(place, INGESTION_TIME, rows[table.time_column])
