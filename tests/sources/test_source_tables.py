"""Every source's table: Sentinel's columns and types, and rows that fit it."""

import json
from pathlib import Path

import pytest

from trailhawk.kql.schema import Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import ID, PAYLOAD, REST, stored_schema
from trailhawk.sources import SOURCES, TABLES

SCHEMAS = Path(__file__).parents[3] / "shared/schemas"
# Where the type or the column is ours, and why.
OURS = {
    ("AWSGuardDuty", "SeverityScore"): "real",  # the fraction that the rounded Severity has not
    ("AWSCloudWatch", "LogGroup"): "string",
    ("AWSCloudWatch", "LogStream"): "string",
    ("AWSS3ServerAccess", "BytesSent"): "long",  # an object may be larger than an int can say
    ("AWSS3ServerAccess", "ObjectSize"): "long",
}
TABLES_OF_OURS = {
    "AWSSSMOutput",
    "ProxyAccess",
    "AwsBucketAPILogsRaw_CL",
    "AWSClassicELBAccessLogs_CL",
    "AWSALBConnectionLogs_CL",
    "AWSALBHealthCheckLogs_CL",
    "AWSCloudFront_AccessLog_CL",  # Sentinel's solution makes it; without Distributionid
}


@pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])
def test_a_table_is_that_of_log_analytics(table: Table) -> None:
    path = SCHEMAS / f"{table.name}.json"
    if table.name in TABLES_OF_OURS:
        assert not path.exists()
        return
    if not path.exists():
        pytest.skip("no schema facts beside the repository")
    documented = {
        column["name"]: column["type"]
        for column in json.loads(path.read_text())["columns"]
        if not column["name"].startswith("_")
    }
    documented |= {column: kind for (name, column), kind in OURS.items() if name == table.name}
    assert {column.name: column.type.value for column in table.columns} == documented


@pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])
def test_a_table_can_be_stored(table: Table) -> None:
    names = [name.lower() for name in stored_schema(table).names]
    assert len(set(names)) == len(names), "DuckDB and Delta fold case"
    assert all(column.description.endswith(".") for column in table.columns)
    time = table.column(table.time_column)
    assert time is not None
    assert time.type is KqlType.DATETIME
    assert {item.column for item in table.promoted} <= {column.name for column in table.stored}
    assert {"Type", "TenantId", "SourceSystem"} <= table.constants.keys()
    assert set(table.statistics) <= {column.name for column in table.stored}


@pytest.mark.parametrize("source", SOURCES, ids=[source.name for source in SOURCES])
def test_no_records_are_no_rows_of_the_same_columns(source: object) -> None:
    made = source.rows([])  # type: ignore[attr-defined]
    assert made.table.num_rows == 0
    table = source.table  # type: ignore[attr-defined]
    wanted = {column.name for column in table.stored} | {item.hidden for item in table.promoted}
    assert wanted <= set(made.table.column_names)
    assert set(made.table.column_names) - wanted <= {ID, PAYLOAD, REST}


def test_sources_have_names_of_their_own() -> None:
    names = [source.name for source in SOURCES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"# notes", b"hello world", b"\0\1\2", b"<xml/>", b'{"a":1}', b"[]"]
)
def test_what_is_no_log_is_nobodys(data: bytes) -> None:
    assert [source.name for source in SOURCES if source.recognises("notes.txt", data)] == []


def test_the_guide_names_every_source_and_table() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
    for source in SOURCES:
        kind = source.name.partition("-")[2]
        assert f"`{source.name}`" in guide or f"`-{kind}`" in guide, source.name
        table = source.table.name
        assert f"`{table}`" in guide or f"`...{table.removeprefix('AWSNetworkFirewall')}`" in guide, table
