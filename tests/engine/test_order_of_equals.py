"""Rows that came of groups have one order, also where the sort itself finds them equal, with many threads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk.engine.duckdb import DuckDBEngine, Limits
from trailhawk.kql.plan import Node, Sort
from trailhawk.lake.catalog import Lake
from trailhawk.sources import TABLES

NOW = datetime(2026, 3, 2, tzinfo=UTC)
GROUPS = "range n from 1 to 60000 step 1 | extend Key = n % 3000 | summarize Count = count() by Key"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    return DuckDBEngine(Lake(Path(tmp_path_factory.mktemp("lake")), TABLES), limits=Limits(threads=8))


def nodes(plan: Node) -> Iterator[Node]:
    """The plan and the nodes that it is made of, down its only inputs."""
    yield plan
    below = getattr(plan, "input", None)
    if below is not None:
        yield from nodes(below)


def keys(engine: DuckDBEngine, query: str) -> list[object]:
    return [row["Key"] for row in engine.query(query, now=NOW).rows()]


@pytest.mark.parametrize(
    "query",
    [
        f"{GROUPS} | top 5 by Count",
        f"{GROUPS} | sort by Count desc | take 5",
        f"{GROUPS} | where Key < 9999 | extend Twice = Count * 2 | sort by Twice asc | take 5",
        f"let Groups = materialize({GROUPS}); Groups | top 5 by Count",
        f"{GROUPS} | sort by Count desc, Count asc | where Key < 9999 | sort by Count asc | limit 5",
        f"{GROUPS} | project Key = toreal(Key), Count | top 5 by Count",
        f"{GROUPS} | extend Half = Key / 2.0 | project Key = Half * 2, Count | top 5 by Count",
        f"{GROUPS} | join kind=inner ({GROUPS}) on Key | top 5 by Count1",
        f"{GROUPS} | join kind=leftsemi ({GROUPS}) on Key | top 5 by Count",
        f"{GROUPS} | union (print Key = -1, Count = 0) | top 5 by Count",
        f"{GROUPS} | mv-expand Part = dynamic([1, 2]) to typeof(long) | where Part == 1 | top 5 by Count",
        "range n from 1 to 60000 step 1 | distinct Key = n % 3000, Same = 1 | top 5 by Same",
        "range n from 1 to 60000 step 1 | extend Key = n % 3000 | top-hitters 5 of Key",
    ],
)
def test_groups_that_are_equal_follow_by_their_keys(engine: DuckDBEngine, query: str) -> None:
    assert keys(engine, query) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("more", ["", " | project Key, Count", " | where Count > 1 | take 5"])
def test_a_sort_of_all_rows_compares_no_more_than_it_is_told(engine: DuckDBEngine, more: str) -> None:
    plan = engine.compiled(f"{GROUPS} | sort by Count desc{more}", now=NOW).plan
    assert [len(node.keys) for node in nodes(plan) if isinstance(node, Sort)] == [1]


def test_a_key_that_the_sort_names_keeps_its_direction(engine: DuckDBEngine) -> None:
    assert keys(engine, f"{GROUPS} | sort by Count desc, Key desc | take 3") == [2999, 2998, 2997]
