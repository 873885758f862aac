"""The passes over a plan: same rows with and without them, and what they make of scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.kql import passes
from trailhawk.kql.compiler import compile_query
from trailhawk.kql.plan import InQuery, Need, Node, ScalarQuery, Scan, Shared, walk
from trailhawk.kql.records import replace
from trailhawk.kql.schema import INGESTION_TIME, Column, Promoted, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import DataFile, Found, Part

NOW = datetime(2026, 3, 10, tzinfo=UTC)
TABLE = Table(
    "Events",
    (
        Column("TimeGenerated", KqlType.DATETIME),
        Column("Name", KqlType.STRING),
        Column("Params", KqlType.STRING),
        Column("Bytes", KqlType.LONG),
        Column("Extra", KqlType.DYNAMIC),
        Column("Late", KqlType.STRING),
        Column("Type", KqlType.STRING),
    ),
    promoted=(Promoted("Params", ("bucket",)), Promoted("Params", ("user", "name"))),
    constants={"Type": "Events"},
)
PARAMS = [
    '{"bucket":"logs","n":1,"user":{"name":"ann"}}',
    '{"bucket":"data","n":2}',
    "",
    "not json",
    '{"bucket":null,"user":{}}',
]


def rows(first: int, *, promoted: bool, late: bool) -> pa.Table:
    """Five rows of one day; older files have neither the promoted columns nor the column Late."""
    day = datetime(2026, 3, first)
    columns: dict[str, pa.Array] = {
        "TimeGenerated": pa.array([day + timedelta(hours=h) for h in range(5)], pa.timestamp("us")),
        "Name": pa.array(["Get", "Put", "Get", "", "Delete"]),
        "Params": pa.array(PARAMS),
        "Bytes": pa.array([10, 20, None, 0, first], pa.int64()),
        "Extra": pa.array(['{"k":1}', None, "[1,2]", '"x"', "{}"]),
        INGESTION_TIME: pa.array([day + timedelta(days=1)] * 5, pa.timestamp("us")),
    }
    if promoted:
        columns["_th_Params_bucket"] = pa.array(["logs", "data", None, None, None])
        columns["_th_Params_user_name"] = pa.array(["ann", None, None, None, None])
    if late:
        columns["Late"] = pa.array(["x"] * 5)
    return pa.table(columns)


class Days:
    """One Parquet file a day, of three ages of the schema."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[datetime | None, datetime | None]] = []
        self.kept: list[DataFile] = []
        for first, promoted, late in ((1, False, False), (2, True, False), (3, True, True)):
            table = rows(first, promoted=promoted, late=late)
            path = folder / f"{first}.parquet"
            pq.write_table(table, path)
            day = datetime(2026, 3, first, tzinfo=UTC)
            names = frozenset(table.column_names)
            self.kept.append(
                DataFile(str(path), 5, path.stat().st_size, names, day, day + timedelta(hours=4), None, None)
            )

    def table(self, name: str) -> Table | None:
        return TABLE if name == "Events" else None

    def table_names(self) -> tuple[str, ...]:
        return ("Events",)

    def snapshot(self, name: str) -> Days:
        return self

    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[DataFile, ...]:
        self.asked.append((since, until))
        return tuple(
            file
            for file in self.kept
            if (since is None or file.last is None or file.last >= since)
            and (until is None or file.first is None or file.first < until)
        )

    def look(self, files: Sequence[DataFile], need: Need) -> Found:
        return Found(tuple(map(Part, files)))


@pytest.fixture
def days(tmp_path: Path) -> Days:
    return Days(tmp_path)


@pytest.fixture
def engine(days: Days) -> DuckDBEngine:
    return DuckDBEngine(days)


def scans(node: Node) -> Iterator[Scan]:
    """Every scan below a node, those of subqueries and of materialized queries too."""
    if isinstance(node, Scan):
        yield node
    if isinstance(node, Shared):
        return
    for expr in passes._own_expressions(node):
        for part in walk(expr):
            if isinstance(part, ScalarQuery | InQuery):
                yield from scans(part.plan)
    for item in passes._inputs(node):
        yield from scans(item)


def scans_of(query: str) -> list[Scan]:
    class Tables:
        def table(self, name: str) -> Table | None:
            return TABLE if name == "Events" else None

        def table_names(self) -> tuple[str, ...]:
            return ("Events",)

    plan = compile_query(query, Tables(), now=NOW).plan
    return [*scans(plan), *(s for shared in passes.shared_plans(plan).values() for s in scans(shared))]


# --- rows --------------------------------------------------------------------------------------------------

QUERIES = (Path(__file__).parent / "passes" / "rows.kql").read_text().splitlines()


@pytest.mark.parametrize("query", QUERIES)
def test_the_passes_change_no_row(engine: DuckDBEngine, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    optimized = engine.query(query, now=NOW)
    plain = lambda plan, needed=None: plan  # noqa: E731
    for module in ("trailhawk.kql.compiler", "trailhawk.kql.passes", "trailhawk.engine.duckdb"):
        monkeypatch.setattr(f"{module}.optimize", plain)
    unoptimized = engine.query(query, now=NOW)
    assert optimized.columns == unoptimized.columns
    assert sorted(map(repr, optimized.tuples())) == sorted(map(repr, unoptimized.tuples()))
    assert optimized.table.num_rows > 0


# --- plans -------------------------------------------------------------------------------------------------


def test_only_the_columns_that_are_read_are_scanned() -> None:
    (scan,) = scans_of("Events | where Name == 'x' | summarize sum(Bytes) by bin(TimeGenerated, 1h)")
    assert set(scan.stored) == {"Name", "Bytes", "TimeGenerated"}


def test_counting_rows_reads_no_column() -> None:
    (scan,) = scans_of("Events | extend x = strlen(Name), p = parse_json(Params) | sort by x | count")
    assert set(scan.stored) <= {"Name"}
    (scan,) = scans_of("Events | extend p = parse_json(Params) | count")
    assert scan.stored == ()


PROMOTED = (Path(__file__).parent / "passes" / "promoted.kql").read_text().splitlines()


@pytest.mark.parametrize("query", PROMOTED)
def test_promoted_paths_are_read_instead_of_json(query: str) -> None:
    stored = {name for scan in scans_of(query) for name in scan.stored}
    assert "_th_Params_bucket" in stored
    assert "Params" not in stored


@pytest.mark.parametrize(
    "query",
    [
        "Events | project gettype(parse_json(Params).bucket)",
        "Events | project parse_json(Params).bucket",
        "Events | project tostring(parse_json(Params).other)",
        "Events | extend Params = Name | project tostring(parse_json(Params).bucket)",
        "Events | where isnull(parse_json(Params).bucket) | project Name",
    ],
)
def test_what_is_not_the_text_of_a_promoted_path_stays_json(query: str) -> None:
    (scan,) = scans_of(query)
    assert "_th_Params_bucket" not in scan.stored


def times(query: str) -> list[tuple[str | None, str | None]]:
    def text(ticks: int | None) -> str | None:
        return None if ticks is None else str(datetime.fromtimestamp(ticks / 10**7, UTC))[:19]

    return [(text(scan.since), text(scan.until)) for scan in scans_of(query)]


D2, D3 = "2026-03-02 00:00:00", "2026-03-03 00:00:00"


def test_time_ranges_reach_the_scan() -> None:
    both = "Events | where TimeGenerated >= datetime(2026-03-02) and TimeGenerated < datetime(2026-03-03)"
    assert times(f"{both} | count") == [(D2, D3)]
    assert times("Events | where datetime(2026-03-02) <= TimeGenerated | count") == [(D2, None)]
    assert times("Events | where TimeGenerated > ago(8d) | where Name == 'x' | count") == [(D2, None)]
    assert times("Events | extend t = TimeGenerated | where t > ago(8d) | count") == [(D2, None)]
    assert times(
        "Events | project t = TimeGenerated | sort by t | where t < datetime(2026-03-03) | count"
    ) == [(None, D3)]
    assert times("Events | where TimeGenerated > ago(8d) or Name == 'x' | count") == [(None, None)]
    assert times("Events | where not(TimeGenerated > ago(8d)) | count") == [(None, None)]
    assert times(
        "Events | extend TimeGenerated = TimeGenerated + 1d | where TimeGenerated > ago(7d) | count"
    ) == [(D2, None)]
    assert times("Events | extend age = now() - TimeGenerated | where age <= 8d | count") == [(D2, None)]
    assert times("Events | extend day = dayofmonth(TimeGenerated) | where day > 8 | count") == [(None, None)]


def test_time_ranges_go_through_unions_and_joins_but_not_through_limits() -> None:
    assert times("union Events, Events | where TimeGenerated > ago(8d) | count") == [(D2, None)] * 2
    joined = "Events | join kind={} (Events) on Name | where TimeGenerated > ago(8d) | count"
    assert times(joined.format("inner")) == [(D2, None), (None, None)]
    assert times(joined.format("leftouter")) == [(D2, None), (None, None)]
    assert times(joined.format("rightouter")) == [(None, None), (None, None)]
    assert times(joined.format("fullouter")) == [(None, None), (None, None)]
    assert times(joined.format("innerunique")) == [(D2, None), (None, None)]
    assert times("Events | take 5 | where TimeGenerated > ago(8d) | count") == [(None, None)]
    numbered = "Events | sort by TimeGenerated asc | extend r = row_number() | where TimeGenerated > ago(8d)"
    assert times(f"{numbered} | count") == [(None, None)]


@pytest.mark.parametrize(
    "since",
    [
        "datetime(2026-03-03)",
        "make_datetime(2026, 3, 3)",
        "datetime_add('day', -2, datetime(2026-03-05))",
        "unixtime_seconds_todatetime(1772496000)",
        "toscalar(print datetime(2026-03-03))",
        "toscalar(datatable(a: long, t: datetime)[1, datetime(2026-03-03)] | project t)",
    ],
)
def test_files_outside_the_time_range_are_not_asked_for(engine: DuckDBEngine, days: Days, since: str) -> None:
    engine.query(f"Events | where TimeGenerated >= {since} | count", now=NOW)
    assert days.asked == [(datetime(2026, 3, 3, tzinfo=UTC), None)]


def test_a_materialized_query_reads_what_its_uses_read() -> None:
    (scan,) = scans_of(
        "let M = materialize(Events | where Name != ''); union (M | project Bytes), (M | summarize by Late)"
    )
    assert set(scan.stored) == {"Name", "Bytes", "Late"}


# --- hidden columns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "Events",
        "Events | extend x = 1",
        "Events | distinct Name, Type",
        "Events | summarize arg_max(TimeGenerated, *)",
        "Events | summarize take_any(*)",
        "union withsource=T Events",
        "Events | search 'x'",
        "Events | join kind=inner Events on Name",
        "Events | getschema",
        "Events | project-away Name",
        "Events | project-reorder Type",
        "Events | project-keep *",
        "Events | mv-apply x = Extra on (take 1)",
        "Events | partition by Name (top 1 by Bytes)",
        "Events | sort by Bytes | extend p = prev(Name)",
        "Events | as T | union T",
        "Events | lookup (Events | distinct Name) on Name",
    ],
)
def test_hidden_columns_are_never_shown(engine: DuckDBEngine, query: str) -> None:
    result = engine.query(query, now=NOW)
    assert not [column.name for column in result.columns if column.name.startswith("_th_")]
    assert "_th_" not in repr(result.tuples())


def test_pack_all_holds_no_hidden_column(engine: DuckDBEngine) -> None:
    result = engine.query(
        "Events | take 1 | project p = pack_all() | project array_length(bag_keys(p))", now=NOW
    )
    assert result.tuples() == [(7,)]


def test_getschema_shows_the_logical_order(engine: DuckDBEngine) -> None:
    names = [row[0] for row in engine.query("Events | getschema", now=NOW).tuples()]
    assert names == [column.name for column in TABLE.columns]


# --- files of several ages ---------------------------------------------------------------------------------


def test_files_without_a_column_give_its_empty_value(engine: DuckDBEngine) -> None:
    result = engine.query("Events | summarize count() by Late | sort by Late asc", now=NOW)
    assert result.tuples() == [("", 10), ("x", 5)]


def test_files_without_a_promoted_column_are_read_from_json(engine: DuckDBEngine) -> None:
    query = "Events | summarize count() by b = tostring(parse_json(Params).bucket) | sort by b asc"
    assert engine.query(query, now=NOW).tuples() == [("", 9), ("data", 3), ("logs", 3)]


def test_a_table_without_files_is_empty(engine: DuckDBEngine, days: Days) -> None:
    days.kept.clear()
    result = engine.query("Events | where Bytes > 1", now=NOW)
    assert result.table.num_rows == 0
    assert [column.name for column in result.columns] == [column.name for column in TABLE.columns]


def test_a_window_clips_every_scan(engine: DuckDBEngine) -> None:
    from trailhawk.engine.result import TimeRange

    window = TimeRange(datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))
    query = "union (Events | count), (Events | where Name in ((Events | project Name)) | count)"
    assert engine.query(query, now=NOW, window=window).tuples() == [(5,), (5,)]


def test_a_plan_is_not_changed_by_its_passes() -> None:
    class Tables:
        def table(self, name: str) -> Table | None:
            return TABLE

        def table_names(self) -> tuple[str, ...]:
            return ()

    plan = compile_query("Events | where Name == 'x' | project Name", Tables(), now=NOW).plan
    again = passes.optimize(plan)
    assert replace(again) == again
    assert [scan.stored for scan in scans(again)] == [scan.stored for scan in scans(plan)]
