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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[1e400, -1e400, 1.5, 1e2]", ["Infinity", "-Infinity", 1.5, 100.0]),
        ("[" * 1500 + "]" * 1500, "[" * 1500 + "]" * 1500),
    ],
    ids=["reals beyond 64 bits", "nested too deep"],
)
def test_a_batch_goes_on_after_what_json_has_not(engine: DuckDBEngine, text: str, shown: object) -> None:
    lines = [json.dumps({"id": number, "query": f"print x = parse_json('{text}')"}) for number in (1, 2)]
    answers = [json.loads(answer) for answer in run_batch(lines, engine, now=NOW)]
    assert [(answer["rows"], answer["error"]) for answer in answers] == [([[shown]], None)] * 2
