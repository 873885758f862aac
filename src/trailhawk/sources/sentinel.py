"""Rows exported from Microsoft Sentinel's tables of AWS logs, into the tables of the same names.

They come from the portal (Export to CSV), the Azure CLI (`az monitor log-analytics query`), the query API and
the continuous export of a workspace. The columns are those of our tables, so a row goes in as it is. The CLI
writes every value as text and nothing as `None`; the portal writes `TimeGenerated [UTC]` over its times, in
the spelling of the browser: only that of the United States (`3/1/2026, 9:30:00.123 AM`) and ISO 8601 say for
sure which day they mean. A search or union gives rows of several tables: those of others are bad ones.
Tables: https://learn.microsoft.com/azure/azure-monitor/reference/tables-category ,
https://learn.microsoft.com/azure/azure-monitor/logs/logs-data-export
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import orjson

from trailhawk.kql.schema import Table
from trailhawk.kql.types import KqlType
from trailhawk.sources import tabular
from trailhawk.sources.json_rows import Field, JsonRows, Record, text_of
from trailhawk.sources.moments import formatted, moment
from trailhawk.sources.once import once
from trailhawk.sources.source import Chunk, Rows, Source

# Columns of the workspace and of the tools, not of the event.
_OF_WORKSPACE: Final = """
TenantId SourceSystem Type OperationName MG ManagementGroupName _ResourceId _SubscriptionId _BilledSize
_IsBillable _ItemId _TimeReceived _Internal_WorkspaceResourceId InternalWorkspaceResourceId TableName
"""
_UTC: Final = "UTC"
_OF_PORTAL: Final = re.compile(
    r"\d{1,2}/\d{1,2}/\d{4}, \d{1,2}:\d\d:\d\d(?:\.\d{1,6})?[ \u202f][AP]M", re.ASCII
)
_TYPE: Final = "Type"
_OF_CLI: Final = "TableName"
_NOTHING: Final = ("", "None", "null")
_PARSED: Final = " as JSON"
_DEEP: Final = 200

# By what columns a table is known where the column Type was left out of the export: all of the first, and one
# of the second.
_TELLING: Final = {
    "AWSCloudTrail": (
        {"EventName", "EventSource"},
        {"AwsEventId", "AWSRegion", "UserIdentityType", "UserIdentityArn", "RecipientAccountId"},
    ),
    "AWSGuardDuty": ({"ActivityType", "Id"}, {"ServiceDetails", "ResourceDetails", "TimeCreated"}),
    "AWSVPCFlow": ({"SrcAddr", "DstAddr"}, {"InterfaceId", "LogStatus", "TrafficType", "FlowDirection"}),
    "AWSCloudWatch": ({"Message", "ExtractedTime"}, {"Message"}),
}


def time(value: object) -> int | None:
    """A time as the exports write it, in microseconds since 1970.

    >>> time("3/1/2026, 9:30:00.123 AM") == time("2026-03-01T09:30:00.1230000Z")
    True
    >>> time("25/2/2026, 9:30:00 am") is time("1/3/2026, 09:30:00") is None
    True
    """
    if isinstance(value, str) and _OF_PORTAL.fullmatch(value):
        pattern = "%m/%d/%Y, %I:%M:%S.%f %p" if "." in value else "%m/%d/%Y, %I:%M:%S %p"
        return formatted(value.replace("\u202f", " "), pattern)
    return moment(value)


@once
def table_of(head: bytes) -> str:
    """The name of the table that an object beginning so was exported from, '' for any other object."""
    if head.rfind(b"TimeGenerated") < 0:  # in half the time of `in`, and every object is asked
        return ""
    record = tabular.first_record(head)
    names = {_plain(name)[0] for name in record}
    if "TimeGenerated" not in names:
        return ""
    if (kind := record.get(_TYPE)) and isinstance(kind, str):
        return kind
    return next((table for table, (all_, one) in _TELLING.items() if all_ <= names and one & names), "")


def _plain(name: str) -> tuple[str, str]:
    """A column's name and the time zone behind it, '' for none."""
    plain, blank, zone = name[:-1].rpartition(" [")
    return (plain, zone) if name.endswith("]") and blank else (name, "")


class Exported:
    """The rows of a table; `identity` gives what a row is known by, '' for nothing."""

    def __init__(self, name: str, table: Table, identity: Callable[[Record], str] = lambda _: "") -> None:
        self.name = name
        self.table = table
        self._types = {column.name: column.type for column in table.stored}
        self._telling = frozenset().union(*_TELLING.get(table.name, ()))
        self._read = {item.column for item in table.promoted}
        fields = [Field(name, kind, self._places(name), time) for name, kind in self._types.items()]
        ignored = [(name,) for name in (*_OF_WORKSPACE.split(), *table.constants)]
        self._mapping = JsonRows(
            table,
            fields,
            what=f"row of {table.name}",
            identity=identity,
            prepare=self._prepared,
            ignored=ignored,
        )

    def _places(self, name: str) -> tuple[tuple[str, ...], ...]:
        """A text column with JSON is there again, read, for the paths that have columns of their own."""
        is_read = name in self._read and self._types[name] is KqlType.STRING
        return ((name,), (name + _PARSED,)) if is_read else ((name,),)

    def recognises(self, name: str, head: bytes) -> bool:
        return table_of(head) == self.table.name

    def is_digest(self, head: bytes) -> bool:
        return False

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        return tabular.chunks(blocks, lambda name: _plain(name)[0] in self._types)

    def rows(self, records: Sequence[bytes]) -> Rows:
        return self._mapping.rows(records)

    def _prepared(self, record: Record) -> Record:
        """The row under its plain names. ValueError for a row of another table, and for times that do not say
        what they mean."""
        found: Record = {}
        table: object = None
        is_of_cli = record.get(_OF_CLI) == "PrimaryResult"
        for headed, value in record.items():
            name, zone = _plain(headed)
            kind = self._types.get(name, KqlType.STRING)
            if is_of_cli and value == "None":
                continue
            if zone and zone != _UTC:
                raise ValueError(f"the times of {name} are in {zone[:64]!r}: export them in UTC")
            if name == _TYPE:
                table = value
            if value is None or (kind is not KqlType.STRING and value in _NOTHING):
                continue
            if kind is KqlType.DATETIME and time(value) is None:
                raise ValueError(f"{name} is no time that says which day it is: {text_of(value)[:64]!r}")
            found[name] = _read(value) if kind is KqlType.DYNAMIC else value
            if name in self._read and kind is KqlType.STRING and isinstance(inner := _read(value), dict):
                found[name + _PARSED] = inner
        self._check(found, table)
        return found

    def _check(self, row: Record, table: object) -> None:
        """ValueError where a row is another table's, by its name or, without one, by its columns."""
        if isinstance(table, str) and table:
            if table != self.table.name:
                raise ValueError(f"a row of {table[:64]}")
        elif not any(row.get(name) not in (None, "") for name in self._telling):
            raise ValueError("neither Type nor a column that tells its table")


def _read(value: object) -> object:
    """JSON in a text, read; the value itself where it is none."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return value
    if value.count("{") + value.count("[") > _DEEP:
        return value
    try:
        return orjson.loads(value)
    except ValueError:
        return value


def _joined(*names: str) -> Callable[[Record], str]:
    """An identity of these columns; '' where the first is empty."""

    def identity(record: Record) -> str:
        values = [text_of(record.get(name)) for name in names]
        return "\0".join(values) if values[0] else ""

    return identity


# An event is known by the same as the trail's own; a finding is not, for the export has other times.
_IDENTITIES: Final = {
    "AWSCloudTrail": _joined("AwsEventId", "RecipientAccountId"),
    "AWSGuardDuty": _joined("Id", "AccountId", "TimeGenerated"),
    "AWSSecurityHubFindings": _joined("AwsSecurityFindingId", "AwsSecurityFindingUpdatedAt"),
}


def exported(sources: Sequence[Source]) -> tuple[Exported, ...]:
    """The exports of the tables of these sources that are Sentinel's, each table once."""
    names = {source.table.name: source.name for source in reversed(sources)}
    tables = {source.table.name: source.table for source in sources}
    return tuple(
        Exported(f"sentinel-{names[name]}", table, _IDENTITIES.get(name, lambda _: ""))
        for name, table in tables.items()
        if name.startswith("AWS") and not name.endswith("_CL") and name not in _OURS
    )


_OURS: Final = ("AWSSSMOutput",)
