"""SentinelHealth: what is told when a connector or a stream of logs begins to fail and when it is well again,
and what others tell of theirs (see `append`).

https://learn.microsoft.com/azure/sentinel/health-table-reference
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from trailhawk.kql.schema import INGESTION_TIME, Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import ConflictError, Lake, Transaction
from trailhawk.lake.files import opened
from trailhawk.lake.table import BATCH, CONFLICT, OBJECT, as_stored, fitted

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.connectors.connector import State
    from trailhawk.connectors.health import StreamHealth

_TEXT, _TIME, _DYNAMIC = KqlType.STRING, KqlType.DATETIME, KqlType.DYNAMIC

SENTINEL_HEALTH: Final = Table(
    name="SentinelHealth",
    description="How connectors and streams of logs fare: a row when that changes. Rules: a row of each run.",
    columns=(
        Column("TenantId", _TEXT),
        Column("TimeGenerated", _TIME, "When it was noticed."),
        Column(
            "OperationName",
            _TEXT,
            "Data fetch status change or failure summary, Scheduled or NRT analytics rule run.",
        ),
        Column("SentinelResourceId", _TEXT, "Id of a rule; empty of a connector."),
        Column(
            "SentinelResourceName", _TEXT, "The connector; source, account and region of a stream; the rule."
        ),
        Column("Status", _TEXT, "Success, Partial success, Warning or Failure."),
        Column("Description", _TEXT, "What happened, in words."),
        Column(
            "Reason",
            _TEXT,
            "silent, quiet, delayed, shrunk, connector, a kind of error; empty where nothing is wrong.",
        ),
        Column("WorkspaceId", _TEXT),
        Column("SentinelResourceType", _TEXT, "Data connector or Analytics rule."),
        Column("SentinelResourceKind", _TEXT, "The connector's type, Stream, Scheduled or NRT."),
        Column("RecordId", _TEXT, "Id of the row."),
        Column("ExtendedProperties", _DYNAMIC, "The figures behind it."),
        Column("SourceSystem", _TEXT),
        Column("Type", _TEXT),
    ),
    constants={
        "Type": "SentinelHealth",
        "SourceSystem": "Sentinel",
        "TenantId": "",
        "WorkspaceId": "",
    },
)

DATA_CONNECTOR: Final = "Data connector"
ANALYTICS_RULE: Final = "Analytics rule"
CHANGE: Final = "Data fetch status change"
FAILURES: Final = "Data fetch failure summary"
SUMMARY_EVERY: Final = dt.timedelta(hours=1)
_AHEAD: Final = dt.timedelta(minutes=5)
"""What was told at a time further ahead was told by a wrong clock. It is no news to differ from it."""
OF_STREAMS: Final[Mapping[str, object]] = {
    **dict.fromkeys(("source", "table", "account", "region"), ""),
    **dict.fromkeys(("objects", "last_event", "quiet", "silent_after", "delay", "delay_now"), None),
    **dict.fromkeys(("rows", "usual_rows", "idle_since", "last_received"), None),
}
"""The members of a stream's health that others do not have."""
_HEALTH: Final = "health"
"""Application id of whoever writes the table."""

_STATUS = {
    "ok": "Success",
    "learning": "Success",
    "quiet": "Warning",
    "delayed": "Warning",
    "shrunk": "Warning",
    "silent": "Failure",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """How one thing fares now. `kind` is a connector's type, or Stream."""

    name: str
    kind: str
    status: str
    reason: str = ""
    description: str = ""
    properties: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """A row of the table. `properties` are what can be written as JSON."""

    operation: str
    name: str
    type: str
    kind: str
    status: str
    reason: str = ""
    description: str = ""
    id: str = ""
    properties: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """A row of the table that was written."""

    operation: str
    condition: Condition


def of_stream(stream: StreamHealth) -> Condition:
    status = _STATUS[stream.state]
    return Condition(
        name=stream.name,
        kind="Stream",
        status=status,
        reason="" if status == "Success" else stream.state,
        description="" if status == "Success" else stream.reason,
        properties={
            "DestinationTable": stream.table,
            "Source": stream.source,
            "Account": stream.account,
            "Region": stream.region,
            "LastEvent": stream.last_event.isoformat(),
            "SilentAfterSeconds": round(stream.silence.total_seconds()),
            "DelaySeconds": _seconds(stream.delay_now),
            "UsualDelaySeconds": _seconds(stream.delay),
            "RowsOfLastDay": stream.rows,
            "UsualRowsOfADay": stream.usual_rows,
        },
    )


def _seconds(span: dt.timedelta | None) -> float | None:
    return None if span is None else round(span.total_seconds(), 1)


def of_connector(state: State, *, begins: bool = False) -> Condition:
    """How a connector fares; that it `begins` is said where nothing hinders it."""
    return Condition(
        name=state.name,
        kind=state.type,
        status="Failure" if state.problem else "Success",
        reason="connector" if state.problem else "",
        description=state.problem or (f"started, {state.doing}" if begins else ""),
        properties={
            "Doing": state.doing,
            "Objects": state.objects,
            "Rows": state.rows,
            "SetAside": state.set_aside,
            "IdleSince": state.idle_since.isoformat() if state.idle_since else None,
            "LastReceived": state.last_object_at.isoformat() if state.last_object_at else None,
            "ProblemSince": state.problem_since.isoformat() if state.problem_since else None,
        },
    )


def tell(
    lake: Lake, conditions: Iterable[Condition], *, now: dt.datetime, begin: Collection[str] = ()
) -> list[Told]:
    """Write a row for each condition that differs from what the table said last, and every hour one for a
    failure that lasts. Safe beside others that do the same: each change is told once.

    A stream that was never told of and is well is not worth a row. Those named in `begin` have a row in any
    case. `lake` must be a view of its own.
    """
    conditions = list(conditions)
    delta = lake.delta(SENTINEL_HEALTH.name)
    delta.create()
    while True:
        version = delta.refresh()
        last = latest(lake, until=now + _AHEAD)
        told = [
            Told(operation, each)
            for each in conditions
            if (operation := CHANGE if each.name in begin else _due(each, last, now))
        ]
        if not told or version < 0:
            return told
        staged = delta.stage(_rows(map(_record, told), now))
        try:
            delta.commit(staged, transaction=Transaction(_HEALTH, delta.transaction(_HEALTH) + 1))
        except ConflictError:
            delta.discard(staged)
            continue  # another process has told meanwhile: look again
        return told


def append(lake: Lake, records: Sequence[Record], *, now: dt.datetime) -> None:
    """Write these rows in one commit. `lake` must be a view of its own."""
    if not records:
        return
    delta = lake.delta(SENTINEL_HEALTH.name)
    delta.create()
    staged = delta.stage(_rows(records, now))
    while True:
        try:
            delta.commit(staged)
        except ConflictError:
            continue  # a newer version of Trailhawk has given the table columns meanwhile
        return


def latest(lake: Lake, *, until: dt.datetime | None = None) -> dict[str, list[dict[str, Any]]]:
    """For each connector and stream the newest row of each operation, as the table's columns; with `until` of
    those up to then."""
    end = as_stored(until)
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for file in lake.snapshot(SENTINEL_HEALTH.name).files():
        for row in _of_connectors(file.path):
            if end and row["TimeGenerated"] > end:
                continue
            key = (row["SentinelResourceName"], row["OperationName"])
            if key not in newest or newest[key]["TimeGenerated"] <= row["TimeGenerated"]:
                newest[key] = row
    found: dict[str, list[dict[str, Any]]] = {}
    for (name, _), row in newest.items():
        found.setdefault(name, []).append(row)
    return found


def _of_connectors(path: str) -> list[dict[str, Any]]:
    """A file's rows of connectors and streams. Most are of rules, and of those one column is read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    operation = "OperationName"
    with opened(path) as parquet:
        wanted = pc.is_in(parquet.read(columns=[operation])[operation], pa.array([CHANGE, FAILURES]))
        if not pc.any(wanted).as_py():
            return []
        columns = [
            column.name for column in SENTINEL_HEALTH.stored if column.name in parquet.schema_arrow.names
        ]
        rows: list[dict[str, Any]] = parquet.read(columns=columns).filter(wanted).to_pylist()
        return rows


def connector_states(lake: Lake) -> list[dict[str, object]]:
    """The connectors as the table told of them last, in the members of a stream's health."""
    return [
        {
            "name": name,
            "kind": row["SentinelResourceKind"],
            "state": "ok" if row["Status"] == "Success" else "failing",
            "reason": row["Description"],
            **OF_STREAMS,
        }
        for name, rows in sorted(latest(lake).items())
        for row in rows
        if row["OperationName"] == CHANGE and row["SentinelResourceKind"] != "Stream"
    ]


def _due(condition: Condition, last: Mapping[str, list[dict[str, Any]]], now: dt.datetime) -> str:
    """The operation to write for a condition; '' for none."""
    rows = last.get(condition.name, [])
    change = next((row for row in rows if row["OperationName"] == CHANGE), None)
    if change is None:
        return "" if condition.kind == "Stream" and not condition.reason else CHANGE
    if (change["Status"], change["Reason"]) != (condition.status, condition.reason):
        return CHANGE
    newest = max(row["TimeGenerated"] for row in rows).replace(tzinfo=dt.UTC)
    return FAILURES if condition.status == "Failure" and now - newest >= SUMMARY_EVERY else ""


def _record(told: Told) -> Record:
    one = told.condition
    return Record(
        told.operation,
        one.name,
        DATA_CONNECTOR,
        one.kind,
        one.status,
        reason=one.reason,
        description=one.description,
        properties=one.properties,
    )


def _rows(records: Iterable[Record], now: dt.datetime) -> pa.Table:
    import pyarrow as pa

    at = as_stored(now)
    batch = uuid.uuid4().hex
    rows = [
        {
            "TimeGenerated": at,
            "OperationName": each.operation,
            "SentinelResourceId": each.id,
            "SentinelResourceName": each.name,
            "Status": each.status,
            "Description": each.description,
            "Reason": each.reason,
            "SentinelResourceType": each.type,
            "SentinelResourceKind": each.kind,
            "RecordId": str(uuid.uuid4()),
            "ExtendedProperties": json.dumps(dict(each.properties), ensure_ascii=False),
            INGESTION_TIME: at,
            OBJECT: "",
            BATCH: batch,
            CONFLICT: False,
        }
        for each in records
    ]
    return fitted(pa.Table.from_pylist(rows), SENTINEL_HEALTH)
