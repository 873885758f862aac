"""What a scan reads: files, rows of the state, nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
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


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("AWSCloudTrail | count", [{"Count": 2}]),
        (
            """AWSCloudTrail | where tostring(parse_json(RequestParameters).bucketName) == "cards"
            | project EventName""",
            [{"EventName": "Get"}],
        ),
        (
            """AWSCloudTrail | project EventName, Asked = strlen(RequestParameters)
            | join (AWSCloudTrail | project EventName, AwsEventId) on EventName
            | project AwsEventId, Asked | order by AwsEventId asc""",
            [{"AwsEventId": "1", "Asked": 23}, {"AwsEventId": "2", "Asked": 21}],
        ),
        ("AWSCloudTrail | summarize take_any(AWSRegion)", [{"AWSRegion": ""}]),
        ("union AWSCloudTrail, AWSGuardDuty | summarize count() by AwsEventId | count", [{"Count": 2}]),
    ],
)
def test_rows_beside_the_files_have_what_each_scan_reads(
    query: str, rows: list[dict[str, object]], tmp_path: Path
) -> None:
    held = pa.table(
        {
            "TimeGenerated": pa.array([NOW.replace(tzinfo=None)] * 2, pa.timestamp("us")),
            "AwsEventId": ["1", "2"],
            "EventName": ["Get", "Put"],
            "RequestParameters": ['{"bucketName": "cards"}', '{"bucketName": "web"}'],
        }
    )
    engine = DuckDBEngine(Lake(tmp_path, TABLES)).holding({"AWSCloudTrail": held})
    assert engine.query(query, now=NOW).rows() == rows
