"""What a query reads: the index of terms leaves rows out and loses none, filters that hold anyway go."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pyarrow as pa
import pytest

from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.kql.schema import INGESTION_TIME, Column, Promoted, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import Lake
from trailhawk.lake import delta as delta_module
from trailhawk.lake.table import stored_schema
from trailhawk.lake.terms import FOLDER

NOW = dt.datetime(2026, 3, 20, tzinfo=dt.UTC)
DAY = dt.datetime(2026, 3, 1)
DAYS = 6
ROWS = 6_000
EVENTS = Table(
    "Events",
    (
        Column("TimeGenerated", KqlType.DATETIME),
        Column("Address", KqlType.STRING),
        Column("Agent", KqlType.STRING),
        Column("Request", KqlType.STRING),
        Column("Id", KqlType.STRING),
        Column("Type", KqlType.STRING),
    ),
    promoted=(Promoted("Request", ("bucket",)),),
    constants={"Type": "Events"},
)
QUERIES = (
    'search in (Events) "203.0.113.77" | count',
    'search in (Events) "nobody" | count',
    'search in (Events) "Events" | count',
    'search in (Events) "curl" and "203.0.113.77" | count',
    'search in (Events) "cur*" | count',
    'Events | where * has "203.0.113.77" | project TimeGenerated, Address | sort by TimeGenerated asc',
    'Events | where Agent has "CURL" | count',
    'Events | where Agent !has "curl" | count',
    'Events | where Agent has "url" | count',
    'Events | where Agent has_cs "Curl" | count',
    'Events | where Agent has_any ("wget", "curl") | count',
    'Events | where Agent has_all ("curl", "8") | count',
    'Events | where Agent contains "rl/8.4 (x" | count',
    'Events | where Agent startswith "CURL/8" | count',
    'Events | where Agent endswith "(x)" | count',
    'Events | where Address == "203.0.113.77" | count',
    'Events | where Address in ("203.0.113.77", "203.0.113.78") | count',
    'Events | where Address =~ "203.0.113.77" or Agent has "wget" | count',
    'Events | where Address == "203.0.113.77" or TimeGenerated > datetime(2026-03-06T23:00) | count',
    'Events | where tostring(parse_json(Request).bucket) == "rare \\"one\\"" | count',
    'Events | where tostring(parse_json(Request).bucket) == "" | count',
    "Events | where isnotempty(tostring(parse_json(Request).bucket)) | count",
    'Events | where tostring(parse_json(Request).bucket) in ("", "b1") | count',
    'Events | extend A = strcat(Address, "") | where A == "203.0.113.77" | count',
    'union Events, Events | where Address == "203.0.113.77" | summarize count() by Address',
    'Events | summarize count() by Address | where Address == "203.0.113.77"',
    'Events | where Address == "203.0.113.77" | join kind=inner Events on Id | count',
    "Events | where TimeGenerated >= datetime(2026-03-02) and TimeGenerated < datetime(2026-03-04) | count",
    "Events | where TimeGenerated > datetime(2026-03-02T12:00) | count",
    "Events | where TimeGenerated > datetime(2026-03-02) and Agent has 'curl' | distinct Address",
)


def rows(day: int) -> pa.Table:
    rng = random.Random(day)
    start = DAY + dt.timedelta(days=day)
    buckets = [rng.choice(["b1", "b2", None]) for _ in range(ROWS)]
    given: dict[str, list[object]] = {
        "TimeGenerated": [start + dt.timedelta(seconds=10 * place) for place in range(ROWS)],
        "Address": [f"10.{rng.randrange(9)}.{rng.randrange(256)}.{rng.randrange(256)}" for _ in range(ROWS)],
        "Agent": [rng.choice(["aws-cli/2.1", "boto3/1.2 md", "console"]) for _ in range(ROWS)],
        "Request": [f'{{"bucket":"{bucket}"}}' if bucket else "{}" for bucket in buckets],
        "_th_Request_bucket": list(buckets),
        "Id": [f"{rng.getrandbits(800):x}" for _ in range(ROWS)],
        INGESTION_TIME: [start] * ROWS,
    }
    if day in (1, 4):
        given["Address"][4_000] = "203.0.113.77"
        given["Agent"][4_000] = "Curl/8.4 (x)"
        given["Request"][4_000] = '{"bucket":"rare \\"one\\""}'
        given["_th_Request_bucket"][4_000] = 'rare "one"'
    schema = stored_schema(EVENTS)
    return pa.table(
        [pa.array(given.get(field.name, [None] * ROWS), field.type) for field in schema], schema=schema
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("lake"), [EVENTS])
    table = lake.delta("Events")
    table.create()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delta_module, "ROW_GROUP_ROWS", ROWS // 3)
        for day in range(DAYS):
            table.commit(table.stage(rows(day)))
    return lake


@pytest.fixture(scope="module")
def plain(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The same files without an index beside them."""
    root = tmp_path_factory.mktemp("plain")
    (root / "Events").mkdir()
    for path in (lake.root / "Events").iterdir():
        if path.name != FOLDER:
            (root / "Events" / path.name).symlink_to(path)
    return Lake(root, [EVENTS])


@pytest.mark.parametrize("query", QUERIES)
def test_the_index_changes_no_row(lake: Lake, plain: Lake, query: str) -> None:
    with_index = DuckDBEngine(lake).query(query, now=NOW).tuples()
    assert with_index == DuckDBEngine(plain).query(query, now=NOW).tuples()
    assert with_index


def test_only_the_row_groups_that_may_hold_a_needle_are_read(lake: Lake) -> None:
    (read,) = DuckDBEngine(lake).explained('search in (Events) "203.0.113.77"', now=NOW).reads
    assert (read.table, read.files, read.files_read) == ("Events", DAYS, 2)
    assert (read.row_groups, read.row_groups_skipped) == (3 * DAYS, 3 * DAYS - 2)
    assert read.bytes_read < read.bytes / 5
    assert "203.0.113.77" in read.sought


def test_what_no_term_can_tell_is_a_scan(lake: Lake) -> None:
    for query in ('Events | where Agent contains "url"', "Events | where Agent matches regex 'curl'"):
        (read,) = DuckDBEngine(lake).explained(query, now=NOW).reads
        assert (read.sought, read.files_read, read.bytes_read) == ("", DAYS, read.bytes)


def test_a_time_filter_that_all_rows_of_the_files_satisfy_is_left_out(lake: Lake) -> None:
    engine = DuckDBEngine(lake)
    whole = "Events | where TimeGenerated >= datetime(2026-03-02) and Agent == 'console' | count"
    assert (
        '"TimeGenerated"' not in engine.explain(whole, now=NOW).replace("SELECT 1", "").partition("WHERE")[2]
    )
    assert "2026-03-02" not in engine.explain(whole, now=NOW).partition("WHERE")[2]
    part = "Events | where TimeGenerated >= datetime(2026-03-02T05:00) | count"
    assert "2026-03-02 05:00:00" in engine.explain(part, now=NOW)


def test_a_plan_is_outlined_without_being_run(lake: Lake) -> None:
    query = (
        "let a = Events | where Agent == 'x'; a | join kind=leftanti Events on Id | top 3 by TimeGenerated"
    )
    explained = DuckDBEngine(lake).explained(query, now=NOW)
    lines = [line.split(":")[0].strip() for line in explained.plan.splitlines()]
    assert "Limit 3" in lines
    assert "Join leftanti on 1 key" in lines
    assert lines.count("Scan Events") == 2
    assert len(explained.reads) == 2


def test_files_lie_where_the_index_says(lake: Lake) -> None:
    assert len(list(Path(lake.root / "Events" / FOLDER).iterdir())) == DAYS
