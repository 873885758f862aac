"""A pattern of single edges gives the same matches joined by the engine as searched for in memory."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.kql.operators import graph

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
PATTERNS = [
    "(a)-[e]->(b)",
    "(a)<-[e]-(b)-->(c)",
    "(a)--(b)--(c)",
    "(a)-->(b)-->(a)",
    "(a)-->(b)-->(c)-->(a)",
    "(a)-->(a)",
    "(a)-->(n)-->(b), (c)<--(n)",
    "(a)-->(n)-->(b), (b)<--(n)--(c)",
]


@pytest.fixture(scope="module")
def engine() -> DuckDBEngine:
    return DuckDBEngine(NoTables())


@pytest.mark.parametrize("cycles", ["all", "none", "unique_edges"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_joined_and_searched_are_the_same(
    engine: DuckDBEngine, pattern: str, cycles: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(f"{pattern} {cycles}")
    edges = ", ".join(f"{chance.randrange(6)}, {chance.randrange(6)}, {number}" for number in range(14))
    names = sorted({letter for letter in pattern if letter in "abcn"})
    shown = ", ".join(f"{name}.id" for name in names)
    weight = ", e.w" if "[e]" in pattern else ""
    text = (
        f"datatable(s: long, t: long, w: long) [{edges}] | make-graph s --> t with_node_id=id"
        f" | graph-match cycles={cycles} {pattern} where a.id != 3 and a.id <= b.id project {shown}{weight}"
        if "b" in names
        else f"datatable(s: long, t: long, w: long) [{edges}] | make-graph s --> t with_node_id=id"
        f" | graph-match cycles={cycles} {pattern} project {shown}"
    )
    joined = sorted(engine.query(text, now=NOW).tuples())
    monkeypatch.setattr(graph, "MAX_JOINED_EDGES", 0)
    assert sorted(engine.query(text, now=NOW).tuples()) == joined
