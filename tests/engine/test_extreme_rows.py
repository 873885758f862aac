"""arg_max and arg_min: every column of one and the same row, among equals and nulls, with many threads."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk.engine.duckdb import DuckDBEngine, Limits
from trailhawk.kql.passes import scans
from trailhawk.lake.catalog import Lake
from trailhawk.sources import TABLES

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    return DuckDBEngine(Lake(Path(tmp_path_factory.mktemp("lake")), TABLES), limits=Limits(threads=8))


@pytest.mark.parametrize("function", ["arg_max", "arg_min"])
def test_columns_come_from_the_same_row_among_equals(engine: DuckDBEngine, function: str) -> None:
    query = f"""
    range x from 1 to 400000 step 1
    | extend At = datetime(2026-01-01) + (x % 3) * 1h, Group = x % 997, A = x, B = tostring(x), C = x * 2
    | summarize {function}(At, A, B, C) by Group
    | where B != tostring(A) or C != A * 2
    """
    for _ in range(5):
        assert engine.query(query, now=NOW).table.num_rows == 0


@pytest.mark.parametrize(
    ("function", "wanted"), [("arg_max", ["b", None, "d"]), ("arg_min", ["b", None, "d"])]
)
def test_null_times_come_last_and_null_values_stay(
    engine: DuckDBEngine, function: str, wanted: list[str | None]
) -> None:
    query = f"""
    datatable(G: long, At: datetime, V: string, N: long) [
        1, datetime(null), "a", 1,
        1, datetime(2026-01-02), "b", 2,
        2, datetime(2026-01-01), "", long(null),
        3, datetime(null), "d", 4]
    | summarize {function}(At, V, N) by G | sort by G asc | project V, N
    """
    rows = engine.query(query, now=NOW).rows()
    assert [row["V"] or None for row in rows] == wanted
    assert [row["N"] for row in rows] == [2, None, 4]


@pytest.mark.parametrize("function", ["arg_max", "arg_min"])
@pytest.mark.parametrize(
    "ordering",
    [
        "datetime(2026-01-01)",
        "datetime(null)",
        "x % 2",
        "1.5",
        "real(null)",
        "'same'",
        "1s * (x % 2)",
        "true",
    ],
)
@pytest.mark.parametrize("columns", ["A", "A, B", "*"])
def test_among_equals_it_is_the_same_row_whatever_the_order_of_rows(
    engine: DuckDBEngine, function: str, ordering: str, columns: str
) -> None:
    def rows(number: str) -> list[dict[str, object]]:
        query = f"""
        range n from 1 to 20000 step 1
        | project x = {number}
        | extend A = x % 5000, B = tostring(x), C = 1, D = 2, E = 3, F = 4, G = 5, H = 6, I = x % 7
        | extend Rank = {ordering}, Group = x % 13
        | summarize {function}(Rank, {columns}) by Group
        | sort by Group asc
        """
        return engine.query(query, now=NOW).rows()

    assert rows("n") == rows("20001 - n")


LEAST, MOST = -(2**63), 2**63 - 1
MANY = ", " + ", ".join(f"C{place} = {place}" for place in range(8))
"""More columns than are taken one by one."""


@pytest.mark.parametrize("more", ["", MANY])
@pytest.mark.parametrize(
    ("function", "ordering", "other"),
    [
        ("arg_max", f"long({LEAST})", "long(null)"),
        ("arg_max", f"long({MOST})", f"long({MOST - 1})"),
        ("arg_max", f"long({MOST})", "long(null)"),
        ("arg_min", f"long({MOST})", "long(null)"),
        ("arg_min", f"long({LEAST})", f"long({LEAST + 1})"),
        ("arg_min", f"long({LEAST})", "long(null)"),
        ("arg_max", "timespan(-10675199.02:48:05.4775807)", "timespan(null)"),
        ("arg_min", "datetime(9999-12-31 23:59:59.999999)", "datetime(null)"),
        ("arg_max", "datetime(0001-01-01)", "datetime(null)"),
        ("arg_max", "false", "bool(null)"),
        ("arg_min", "true", "bool(null)"),
        ("arg_max", "1.5", "1.25"),
        ("arg_min", "1.25", "1.5"),
        ("arg_max", "real(-inf)", "real(null)"),
        ("arg_min", "real(+inf)", "real(null)"),
        ("arg_max", "decimal(0.00000000000000002)", "decimal(0.00000000000000001)"),
        ("arg_min", "'a'", "'b'"),
        ("arg_max", "'b'", "''"),
    ],
)
def test_the_nearest_values_and_null_are_not_taken_for_equals(
    engine: DuckDBEngine, function: str, ordering: str, other: str, more: str
) -> None:
    """In so many groups that a hash, which decides among equals, would choose wrongly in one of them."""
    query = f"""
    let Groups = range G from 1 to 40 step 1 | extend V = G;
    union (Groups | extend Rank = {ordering}, Is = 'taken'), (Groups | extend Rank = {other}, Is = 'other')
    | extend Z = 1{more}
    | summarize {function}(Rank, *) by G | summarize n = count() by Is
    """
    assert engine.query(query, now=NOW).rows() == [{"Is": "taken", "n": 40}]


WIDE = (
    "| extend A = x % 5000, B = x % 777, C = 1, D = 2, E = 3, F = 4, G = 5, H = x % 3, I = x % 7, J = x "
    "| extend Group = x % 13, Rank = x % 2"
)
TAKEN = ["arg_max(Rank, *)", "arg_min(Rank, *)", "take_any(*)", "arg_max(strcat('r', Rank), *)"]


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("more", ["", " | project Group, A", " | where I > 2 | project Group, A, H"])
def test_a_wide_row_of_which_little_is_read_is_the_same_whatever_the_order_of_rows(
    engine: DuckDBEngine, taken: str, more: str
) -> None:
    def rows(number: str) -> list[dict[str, object]]:
        query = f"range n from 1 to 20000 step 1 | project x = {number} {WIDE} | summarize {taken} by Group"
        return engine.query(f"{query}{more} | sort by Group asc", now=NOW).rows()

    found = rows("n")
    assert found == rows("20001 - n")
    assert found


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize(
    "use",
    [
        "Last | project Group, A",
        "Last | project Group, A | where A in ((Last | project A))",
        "let Kept = materialize(Last); Kept | project Group, A",
    ],
)
def test_uses_that_read_other_columns_see_the_same_rows(engine: DuckDBEngine, taken: str, use: str) -> None:
    query = f"""
    let Last = range x from 1 to 20000 step 1 {WIDE} | summarize {taken} by Group;
    {use}
    | join kind=inner (Last | project Group, J) on Group
    | where J % 5000 == A
    """
    assert engine.query(query, now=NOW).table.num_rows == 13


def test_parts_of_a_query_that_read_other_columns_see_the_same_rows(engine: DuckDBEngine) -> None:
    query = f"""
    range x from 1 to 20000 step 1 {WIDE} | summarize arg_max(Rank, *) by Group
    | fork (project Group, A) (project Group, J)
    """
    first, second = engine.query(query, now=NOW).all()
    of_a = {row["Group"]: row["A"] for row in first.rows()}
    assert of_a == {row["Group"]: int(str(row["J"])) % 5000 for row in second.rows()}
    assert len(of_a) == 13


def test_of_a_wide_row_no_more_is_read_than_later_operators_use(engine: DuckDBEngine) -> None:
    query = (
        "AWSCloudTrail | summarize arg_max(TimeGenerated, *) by UserIdentityArn | project UserIdentityArn, "
    )
    plan = engine.compiled(f"{query}EventName", now=NOW).plan
    (scan,) = scans(plan)
    assert set(scan.stored) == {"TimeGenerated", "UserIdentityArn", "EventName"}


def test_no_rows_give_one_row_of_nothing(engine: DuckDBEngine) -> None:
    rows = engine.query(
        f"range x from 1 to 0 step 1 {WIDE} | extend T = 'x' | summarize arg_max(x, *)", now=NOW
    )
    assert [row["T"] for row in rows.rows()] == [""]
    assert [row["J"] for row in rows.rows()] == [None]
