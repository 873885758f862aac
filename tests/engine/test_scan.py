"""What a scan reads: files, rows of the state, nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.lake.catalog import Lake
from trailhawk.sources import TABLES

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "query",
    [
        'AWSCloudTrail | where tostring(parse_json(RequestParameters).bucketName) == "cards"',
        "AWSCloudTrail | summarize count() by tostring(parse_json(RequestParameters).bucketName)",
        "AWSCloudTrail | project ingestion_time()",
    ],
)
def test_an_empty_table_gives_no_rows(query: str, tmp_path: Path) -> None:
    engine = DuckDBEngine(Lake(tmp_path, TABLES))
    assert engine.query(query, now=NOW).table.num_rows == 0
