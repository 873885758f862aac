"""Those who run the hunts: trailhawk, SQL by hand over the same files, duckdb-kql and chdb over storage of
their own. Each gives all rows as Arrow, from the text on."""

from __future__ import annotations

import datetime as dt
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import data
import duckdb
import pyarrow as pa
from queries import Hunt

from trailhawk.engine.duckdb import DuckDBEngine, default_memory
from trailhawk.lake import Lake
from trailhawk.sources.cloudtrail import TABLE

Run = Callable[[Hunt], pa.Table]
_DAYS = re.compile(r"\{days\s+(\S+)\s+(\S+)\}")
_CONFIG: dict[str, str | bool | int | float | list[str]] = {"memory_limit": f"{default_memory() >> 20}MiB"}


def missing() -> list[str]:
    """What is to be installed for the whole comparison."""
    packages = {"duckdb_kql": "duckdb-kql", "chdb": "chdb"}
    return [package for module, package in packages.items() if importlib.util.find_spec(module) is None]


def trailhawk(lake: Lake) -> Run:
    engine = DuckDBEngine(lake)
    return lambda hunt: engine.query(hunt.kql, now=data.NOW).table


def by_hand(lake: Lake) -> Run:
    """SQL over the files of the days it is about, as their list is known to who writes it."""
    connection = duckdb.connect(config=_CONFIG)
    files: dict[dt.date, list[str]] = {}
    for file in lake.snapshot(TABLE.name).files():
        if file.first is not None:
            files.setdefault(file.first.date(), []).append(file.path)

    def scan(match: re.Match[str]) -> str:
        first, last = map(dt.date.fromisoformat, match.groups())
        paths = [path for day, found in sorted(files.items()) if first <= day <= last for path in found]
        return "read_parquet([" + ", ".join(f"'{path}'" for path in paths) + "], hive_partitioning=false)"

    return lambda hunt: connection.sql(_DAYS.sub(scan, hunt.sql)).to_arrow_table()


def duckdb_kql(lake: Lake, folder: Path) -> Run:
    """duckdb-kql over a native DuckDB file of the table's columns, sorted by time."""
    import duckdb_kql as other

    path = folder / "native.duckdb"
    if not (folder / "native.done").exists():
        path.unlink(missing_ok=True)
        with duckdb.connect(str(path), config=_CONFIG) as writer:
            writer.execute(f"CREATE TABLE AWSCloudTrail AS SELECT {_columns()} FROM {_all(lake)}")
        (folder / "native.done").touch()
    connection = duckdb.connect(str(path), read_only=True, config=_CONFIG)
    return lambda hunt: other.kql(connection, hunt.kql, query_now=data.NOW).to_arrow_table()


def chdb(lake: Lake, folder: Path) -> tuple[Run, Callable[[Hunt], bool]]:
    """ClickHouse in the process over a MergeTree sorted by time; its Kusto dialect where it takes the query
    (the second value says of which), else its SQL."""
    from chdb import session

    store = session.Session(str(folder / "chdb"))
    if not (folder / "chdb.done").exists():
        kinds = {"string": "String", "bool": "Nullable(Bool)", "datetime": "DateTime64(6, 'UTC')"}
        columns = ", ".join(f"`{c.name}` {kinds[c.type.value]}" for c in TABLE.stored)
        columns = columns.replace(
            "`SessionCreationDate` DateTime64", "`SessionCreationDate` Nullable(DateTime64"
        )
        columns = re.sub(r"Nullable\(DateTime64\(6, 'UTC'\)", "Nullable(DateTime64(6, 'UTC'))", columns)
        store.query("DROP TABLE IF EXISTS AWSCloudTrail")
        store.query(f"CREATE TABLE AWSCloudTrail ({columns}) ENGINE = MergeTree ORDER BY TimeGenerated")
        for file in lake.snapshot(TABLE.name).files():
            store.query(
                f"INSERT INTO AWSCloudTrail SELECT {_columns()} FROM file('{file.path}', Parquet) "
                "SETTINGS input_format_parquet_import_nested = 1"
            )
        store.query("OPTIMIZE TABLE AWSCloudTrail FINAL")
        (folder / "chdb.done").touch()
    store.query("SET use_query_condition_cache = 0")
    store.query("SET allow_experimental_kusto_dialect = 1")

    def kusto(text: str) -> pa.Table:
        store.query("SET dialect = 'kusto'")
        try:
            return store.query(text, "ArrowTable")
        finally:
            store.query("SET dialect = 'clickhouse'")

    takes: dict[str, bool] = {}

    def takes_kql(hunt: Hunt) -> bool:
        if hunt.name not in takes:
            try:
                kusto(hunt.kql)
                takes[hunt.name] = True
            except Exception:
                takes[hunt.name] = False
        return takes[hunt.name]

    return (
        lambda hunt: kusto(hunt.kql) if takes_kql(hunt) else store.query(hunt.chdb, "ArrowTable")
    ), takes_kql


def _columns() -> str:
    return ", ".join(f'"{column.name}"' for column in TABLE.stored)


def _all(lake: Lake) -> str:
    paths = ", ".join(f"'{file.path}'" for file in lake.snapshot(TABLE.name).files())
    return f"read_parquet([{paths}], hive_partitioning=false)"
