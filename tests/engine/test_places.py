"""What is wrong with a call is told with its place in the query's text, also where only its SQL tells it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.errors import QueryError
from trailhawk.kql.stored import Functions, StoredFunction
from trailhawk.lake.catalog import Lake
from trailhawk.sources import TABLES

NOW = datetime(2026, 3, 2, tzinfo=UTC)
PART = "datetime_part(EventName, TimeGenerated)"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    mine = StoredFunction("mine", f"AWSCloudTrail | extend d = {PART}", "mine.kql")
    lake = Lake(Path(tmp_path_factory.mktemp("lake")), TABLES)
    return DuckDBEngine(lake, functions=Functions([mine]))


@pytest.mark.parametrize(
    ("query", "place"),
    [
        (f"AWSCloudTrail | extend d = {PART}", PART),
        (f"AWSCloudTrail | where TimeGenerated > datetime({{{{StartTimeISO}}}}) | extend d = {PART}", PART),
        (f"AWSCloudTrail | extend x = toscalar(AWSCloudTrail | project {PART})", PART),
        (f"print 1; AWSCloudTrail | extend d = {PART} | fork (project d) (count)", PART),
        ("mine | take 3", "mine"),
        ("AWSCloudTrail | summarize percentile(1, tolong(EventName))", "percentile(1, tolong(EventName))"),
    ],
)
def test_what_wants_a_constant_is_told_with_its_place(engine: DuckDBEngine, query: str, place: str) -> None:
    for run in (engine.query, engine.explained):
        with pytest.raises(QueryError, match="not a constant") as caught:
            run(query, now=NOW)
        span = caught.value.span
        assert span is not None
        assert query[span.start : span.end] == place
