"""Every example in the documentation of a KQL function gives what it says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.result import Result
from trailhawk.errors import QueryError, UnsupportedError
from trailhawk.kql.functions import AGGREGATES, WINDOWS
from trailhawk.kql.functions.python import PREFIX
from trailhawk.kql.functions.reference import Example, documented, examples, pages
from trailhawk.kql.literals import format_datetime, format_timespan
from trailhawk.kql.lower import lower
from trailhawk.kql.types import KqlType

PAGES = Path(__file__).parents[2] / "docs" / "functions"
NOW = datetime(2024, 5, 17, 12, tzinfo=UTC)
NEW_YEAR_1970 = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def engine() -> DuckDBEngine:
    return DuckDBEngine(NoTables())


def shown(result: Result) -> str:
    """The one value of a result as Kusto writes it."""
    value, type_ = result.table.column(0)[0].as_py(), result.columns[0].type
    if value is None:
        return "null"
    if type_ is KqlType.DATETIME:
        return format_datetime(int((value.replace(tzinfo=UTC) - _EPOCH).total_seconds() * 10_000_000))
    if type_ is KqlType.TIMESPAN:
        return format_timespan(value)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if type_ is KqlType.DYNAMIC and value.startswith('"'):
        return str(json.loads(value))
    return str(value)


EXAMPLES = [
    pytest.param(example, id=f"{name}-{place}")
    for name, found in examples()
    for place, example in enumerate(found)
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(engine: DuckDBEngine, example: Example) -> None:
    try:
        result = engine.query(f"print x = {example.text}", now=NOW)
    except UnsupportedError as error:
        if "pip install 'trailhawk[" in error.hint:
            pytest.skip(str(error))
        raise
    assert shown(result) == example.result


def test_every_scalar_function_has_an_example() -> None:
    without = [function.name for function in documented() if not function.examples]
    # What an address gives depends on the database; tests of its own write one.
    assert set(without) <= {*AGGREGATES, *WINDOWS, "geo_info_from_ip_address"}


def test_every_function_has_a_page() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    assert written == pages(), "stale: run `make docs`"


def rows(engine: DuckDBEngine, query: str) -> list[tuple[object, ...]]:
    return engine.query(query, now=NOW).tuples()


NUMBERS = "datatable(a: long, s: string) [3, 'x', 1, 'y', 2, '', 2, 'z'] | sort by a asc, s asc "


@pytest.mark.parametrize(
    ("call", "column"),
    [
        ("row_number()", [1, 2, 3, 4]),
        ("row_number(10)", [10, 11, 12, 13]),
        ("row_number(1, a == 2 and prev(a) == 1)", [1, 1, 2, 3]),
        ("row_cumsum(a)", [1, 3, 5, 8]),
        ("row_cumsum(a, a != prev(a))", [1, 2, 4, 3]),
        ("row_rank_dense(a)", [1, 2, 2, 3]),
        ("row_rank_min(a)", [1, 2, 2, 4]),
        ("prev(a)", [None, 1, 2, 2]),
        ("prev(a, 2, -1)", [-1, -1, 1, 2]),
        ("next(s) == 'x'", [False, False, True, False]),
        ("strlen(prev(s))", [0, 1, 0, 1]),
        ("a - prev(a) + row_number()", [None, 3, 3, 5]),
    ],
)
def test_window(engine: DuckDBEngine, call: str, column: list[object]) -> None:
    assert [row[0] for row in rows(engine, f"{NUMBERS} | project r = {call}")] == column


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("sum(a * 1h)", timedelta(hours=8)),
        ("avg(a * 1h)", timedelta(hours=2)),
        ("avg(datetime(2020-01-01) + a * 1d)", datetime(2020, 1, 3, tzinfo=UTC)),
        ("avgif(a, a < 0)", "nan"),
        ("stdev(long(null))", 0.0),
        ("varianceif(a, a > 1)", 1 / 3),
        ("covariance(a, a)", 2 / 3),
        ("covariancep(a, -a)", -0.5),
        ("count_distinctif(a, a > 1)", 2),
        ("binary_all_and(a)", 0),
        ("binary_all_or(a)", 3),
        ("binary_all_xor(a)", 2),
        ("make_list_with_nulls(iff(a == 2, long(null), a))", [1, None, None, 3]),
        ("make_bag(bag_pack(s, a))", {"y": 1, "": 2, "z": 2, "x": 3}),
        ("make_bag_if(bag_pack('k', a), a > 2)", {"k": 3}),
        ("make_bag(bag_pack('k', dynamic({'n': null})))", {"k": {"n": None}}),
    ],
)
def test_aggregate(engine: DuckDBEngine, call: str, value: object) -> None:
    ((found,),) = rows(engine, f"{NUMBERS} | summarize r = {call}")
    if isinstance(value, float):
        assert found == pytest.approx(value)
    else:
        assert found == value or str(found) == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("substring(s, n, 2)", ["bc", "cd", "bc"]),
        ("substring(s, -n)", ["d", "cd", "d"]),
        ("strcat(s, int(null), n)", ["abcd1", "abcd2", "abcd1"]),
        ("ipv4_is_private(ip)", [True, None, False]),
        ("ipv4_is_in_range(ip, strcat('10.0.0.0/', 8 * n))", [True, None, False]),
        ("ipv4_is_in_any_range(ip, pack_array('10.0.0.0/8', range))", [True, None, True]),
        ("has_ipv4_prefix(strcat('from ', ip, '.'), iff(n == 1, '10.', '8.8.8.'))", [True, False, False]),
        ("strcat_array(pack_array(n, s), substring(s, 0, n))", ["1aabcd", "2ababcd", "1aabcd"]),
        ("has_ipv4('1.2.3.4 [', iff(n == 1, '[', '1.2.3.4'))", [False, True, False]),
        ("unixtime_seconds_todatetime(pow(10, 40 * (n - 1)))", [NEW_YEAR_1970, None, NEW_YEAR_1970]),
        ("range(n, 2 * n, iff(n == 1, long(null), 1))", [None, [2, 3, 4], None]),
        ("split(s, tostring(dynamic(['b', 'c', ''])[n]))", [["ab", "d"], ["abcd"], ["ab", "d"]]),
        ("extract('(b)(c)', 2, s)", ["c", "c", "c"]),
        ("countof(s, substring(s, n, 1))", [1, 1, 1]),
        ("array_slice(range(1, 4), n, -n)", [[2, 3, 4], [3], [2, 3, 4]]),
        ("repeat(s, n)", [["abcd"], ["abcd", "abcd"], ["abcd"]]),
        ("format_datetime(datetime(2020-01-01) + n * 1d, 'dd.MM.yy')", ["02.01.20", "03.01.20", "02.01.20"]),
    ],
)
def test_over_columns(engine: DuckDBEngine, expression: str, value: list[object]) -> None:
    table = (
        "datatable(s: string, n: long, ip: string, range: string) "
        "['abcd', 1, '10.1.2.3', '', 'abcd', 2, '010.1.2.3', '', 'abcd', 1, '8.8.8.8', '8.8.8.0/24']"
    )
    assert [row[0] for row in rows(engine, f"{table} | project r = {expression}")] == value


@pytest.mark.parametrize(
    "expression",
    [
        "extract_all('[0-9]', 'a1')",
        "format_datetime(now(), 'dddd')",
        "extract_json('$..a', '{}')",
        "datetime_add('eon', 1, now())",
    ],
)
def test_what_is_not_exact_is_refused(engine: DuckDBEngine, expression: str) -> None:
    with pytest.raises(UnsupportedError):
        engine.query(f"print x = {expression}", now=NOW)


def test_times_are_binned_alike_by_a_constant_and_by_a_column(engine: DuckDBEngine) -> None:
    times = "0001-01-01 1066-10-14T09:00:01 1969-12-31T23:59:59.999999 1970-01-01 9999-12-31T23:59:59.999999"
    listed = ", ".join(f"datetime({time})" for time in times.split())
    sizes = "1microsecond 7microseconds 1ms 10m 1h 1d 7d 31d 1000d 365000d 800000d 15ticks -1h"
    for size in sizes.split():
        query = f"datatable(t: datetime) [{listed}] | extend s = iff(isnull(t), 0s, {size})"
        found = engine.query(f"{query} | project bin(t, {size}), bin(t, s)", now=NOW).table
        assert found.column(0).to_pylist() == found.column(1).to_pylist(), size


def test_a_text_is_made_a_timespan_without_a_call_of_python_for_each_row(engine: DuckDBEngine) -> None:
    plan = engine.compiled('datatable(s: string) ["1d", "7"] | project t = totimespan(s)', now=NOW).plan
    written = lower(plan, lambda scan: "", lambda node, inputs: "")
    assert "REGEXP_MATCHES(" in written
    assert PREFIX not in written


@pytest.mark.parametrize("percent", ["-1", "101", "0.5 - 20", "p"])
def test_a_percent_outside_is_refused_however_it_is_written(engine: DuckDBEngine, percent: str) -> None:
    query = f"range n from 1 to 5 step 1 | extend p = -1 | summarize percentile(n, {percent})"
    with pytest.raises(QueryError):
        engine.query(query, now=NOW)
