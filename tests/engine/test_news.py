"""A query over many rows is not run where the few are missing that its result must rest on, and the times of
one table are read apart rather than kept: neither changes a row."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from trailhawk.engine import duckdb as engine_module
from trailhawk.engine import news
from trailhawk.engine.duckdb import DuckDBEngine, Limits
from trailhawk.engine.result import TimeRange
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import Lake
from trailhawk.lake.table import stored_schema

EVENTS = Table(
    "Events",
    (
        Column("TimeGenerated", KqlType.DATETIME),
        Column("Name", KqlType.STRING),
        Column("User", KqlType.STRING),
        Column("Size", KqlType.LONG),
    ),
)
START = datetime(2026, 3, 1)
DAYS, ROWS = 6, 60
NOW = datetime(2026, 3, 7, tzinfo=UTC)
WINDOW = TimeRange(NOW - timedelta(days=5), NOW)

QUERIES = {
    "first seen": """let E = materialize(Events | where Name != "List");
        let Known = E | where TimeGenerated < ago(2h) | distinct User;
        E | where TimeGenerated >= ago(2h) and Name == "{name}" | join kind=leftanti Known on User""",
    "known": """let E = materialize(Events | project At = TimeGenerated, Name, Who = strcat(User, "!"), Size);
        let Known = E | where At < ago(2h) | summarize Before = count(), Sum = sum(Size) by Who;
        E | where At >= ago(2h) and Name == "{name}" | join kind=inner Known on Who""",
    "whole": """let E = materialize(Events | where Name == "{name}");
        union (E | where TimeGenerated >= ago(2d)), (E | summarize Size = sum(Size) by User)""",
    "a count": 'Events | where TimeGenerated >= ago(2h) and Name == "{name}" | count',
    "by chance": """let E = materialize(Events | where Name == "{name}" | extend Lot = rand());
        E | where TimeGenerated < ago(1d) | join kind=inner (E | where TimeGenerated < ago(1d)) on Lot
        | where TimeGenerated >= ago(4d) | project User, Size""",
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Days of rows; in the last hours nobody did 'Put'."""
    lake = Lake(tmp_path_factory.mktemp("lake"), [EVENTS])
    table = lake.delta("Events")
    table.create()
    schema, rng = stored_schema(EVENTS), random.Random(3)
    for day in range(DAYS):
        times = [START + timedelta(days=day, seconds=86_400 * place // ROWS) for place in range(ROWS)]
        quiet = NOW.replace(tzinfo=None) - timedelta(hours=3)
        given: dict[str, list[object]] = {
            "TimeGenerated": list(times),
            "Name": [rng.choice(["Get", "List"] if at > quiet else ["Get", "Put", "List"]) for at in times],
            "User": [rng.choice(["ann", "bob", f"new{place}"]) for place in range(ROWS)],
            "Size": [rng.choice([0, 5, None]) for _ in times],
        }
        arrays = [pa.array(given.get(field.name, [None] * ROWS), field.type) for field in schema]
        table.commit(table.stage(pa.table(arrays, schema=schema)))
    return lake


@pytest.mark.parametrize("name", ["Get", "Put", "Never"])
@pytest.mark.parametrize("text", QUERIES.values(), ids=list(QUERIES))
def test_neither_changes_a_row(lake: Lake, text: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query = text.replace("{name}", name)
    plain = DuckDBEngine(lake).query(query, now=NOW, window=WINDOW)
    monkeypatch.setattr(news, "MANY", 10)
    monkeypatch.setattr(engine_module, "MANY", 10)
    looking = DuckDBEngine(lake, limits=Limits(looks_first=True)).query(query, now=NOW, window=WINDOW)
    assert looking.table.schema == plain.table.schema
    assert sorted(looking.tuples(), key=repr) == sorted(plain.tuples(), key=repr)


def test_without_news_the_history_is_not_read(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "MANY", 10)
    engine = DuckDBEngine(lake, limits=Limits(looks_first=True))
    read: list[int] = []
    select = DuckDBEngine._selects

    def noted(self: DuckDBEngine, scan, reading, beside=None):  # type: ignore[no-untyped-def]
        read.append(reading.rows(scan))
        return select(self, scan, reading, beside)

    monkeypatch.setattr(DuckDBEngine, "_selects", noted)
    engine.query(QUERIES["first seen"].replace("{name}", "Put"), now=NOW, window=WINDOW)
    assert max(read) == ROWS  # the day of the news alone
    engine.query(QUERIES["first seen"].replace("{name}", "Get"), now=NOW, window=WINDOW)
    assert max(read) > ROWS


@pytest.mark.parametrize(
    ("name", "again"), [("first seen", True), ("known", True), ("whole", False), ("by chance", False)]
)
def test_parts_that_hardly_overlap_are_read_again(
    lake: Lake, name: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, engine = QUERIES[name].replace("{name}", "Get"), DuckDBEngine(lake)
    assert "NOT MATERIALIZED" not in engine.explain(query, now=NOW, window=WINDOW)  # a small table
    monkeypatch.setattr(engine_module, "MANY", 10)
    assert ("NOT MATERIALIZED" in engine.explain(query, now=NOW, window=WINDOW)) is again
