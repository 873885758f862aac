"""Texts that are no JSON, but that the engine takes for it, as log lines hold them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from support.catalog import NoTables
from trailhawk.engine.batch import run_batch
from trailhawk.engine.duckdb import DuckDBEngine

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ROWS = """datatable(s: string) ['[1,]', '{"a": 1}'] | extend d = parse_json(s)"""


@pytest.fixture
def engine() -> Iterator[DuckDBEngine]:
    made = DuckDBEngine(NoTables())
    yield made
    made.close()


def test_they_are_shown_as_text(engine: DuckDBEngine) -> None:
    query = f"{ROWS} | project d, n = array_length(d)"
    [answer] = run_batch([json.dumps({"id": "1", "query": query})], engine, now=NOW)
    assert json.loads(answer)["rows"] == [["[1,]", 1], [{"a": 1}, None]]
    assert engine.query(query, now=NOW).tuples() == [("[1,]", 1), ({"a": 1}, None)]


def test_a_function_over_rows_takes_them(engine: DuckDBEngine) -> None:
    query = f"{ROWS} | scan declare (n: dynamic) with (step s: true => n = d;) | project n"
    assert engine.query(query, now=NOW).tuples() == [("[1,]",), ({"a": 1},)]
