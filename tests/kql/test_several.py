"""Queries with several results, values for query parameters, patterns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.result import Result
from trailhawk.errors import BindingError, UnsupportedError

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ROWS = 'datatable(s: string, n: long) ["a", 1, "b", 2, "a", 3]'


@pytest.fixture(scope="module")
def engine() -> DuckDBEngine:
    return DuckDBEngine(NoTables())


def shown(result: Result) -> list[list[tuple[object, ...]]]:
    """The rows of the result and of its others."""
    return [sorted(item.tuples()) for item in (result, *result.others)]


def test_of_several_statements_the_last_is_the_result(engine: DuckDBEngine) -> None:
    result = engine.query("let x = 5; print x; set notruncation; print x + 1; print x + 2", now=NOW)
    assert shown(result) == [[(7,)], [(5,)], [(6,)]]


def test_fork_gives_a_result_for_each_branch(engine: DuckDBEngine) -> None:
    result = engine.query(
        f"{ROWS} | where n < 3 | fork big = (where n > 1) (summarize count() by s)", now=NOW
    )
    assert shown(result) == [[("b", 2)], [("a", 1), ("b", 1)]]


def test_all_branches_of_a_fork_are_drawn_as_what_follows_says(engine: DuckDBEngine) -> None:
    result = engine.query(f"{ROWS} | fork (where n > 1) (project n) | render piechart", now=NOW)
    assert shown(result) == [[("a", 3), ("b", 2)], [(1,), (2,), (3,)]]
    assert result.chart is not None
    assert result.chart.kind == "piechart"


def test_facet_counts_the_values_of_columns_beside_its_rows(engine: DuckDBEngine) -> None:
    result = engine.query(f"{ROWS} | facet by s, n with (where n == 2)", now=NOW)
    assert shown(result) == [[("b", 2)], [("a", 2), ("b", 1)], [(1, 1), (2, 1), (3, 1)]]
    assert [column.name for column in result.others[0].columns] == ["s", "count_s"]


def test_a_fork_has_no_place_inside_a_query(engine: DuckDBEngine) -> None:
    with pytest.raises(UnsupportedError, match="fork"):
        engine.query(f"let t = {ROWS} | fork (take 1) (count); t", now=NOW)


def test_names_given_by_as_go_on_to_later_statements(engine: DuckDBEngine) -> None:
    result = engine.query(f"{ROWS} | where n > 1 | as more | summarize sum(n); more | count", now=NOW)
    assert shown(result) == [[(2,)], [(5,)]]


def test_nodes_and_edges_of_a_graph_at_once(engine: DuckDBEngine) -> None:
    graph = 'datatable(s: string, t: string) ["a", "b"] | make-graph s --> t with_node_id=id'
    result = engine.query(f"{graph} | graph-to-table nodes as N, edges as E; N; E", now=NOW)
    assert shown(result) == [[("a", "b")], [("a",), ("b",)]]
    result = engine.query(f"{graph} | graph-to-table nodes, edges", now=NOW)
    assert shown(result) == [[("a",), ("b",)], [("a", "b")]]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("long", 7, 7),
        ("long", "7", 7),
        ("int", 7, 7),
        ("real", 7, 7.0),
        ("real", "7.5", 7.5),
        ("bool", "true", True),
        ("string", 'x"; T | take 1 //', 'x"; T | take 1 //'),
        ("datetime", datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        ("datetime", "2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("timespan", timedelta(minutes=5), timedelta(minutes=5)),
        ("timespan", "1h", timedelta(hours=1)),
        ("dynamic", {"a": [1]}, {"a": [1]}),
        ("dynamic", '{"a": 1}', {"a": 1}),
        ("decimal", Decimal("1.5"), Decimal("1.5")),
        ("guid", UUID(int=5), str(UUID(int=5))),
        ("long", None, None),
    ],
)
def test_values_of_parameters(engine: DuckDBEngine, kind: str, given: object, expected: object) -> None:
    text = f"declare query_parameters(p: {kind}); print x = p"
    assert engine.query(text, now=NOW, parameters={"p": given}).tuples() == [(expected,)]


def test_a_parameter_without_value_takes_its_default(engine: DuckDBEngine) -> None:
    text = "declare query_parameters(a: long = 3, b: string); print a, b"
    assert engine.query(text, now=NOW, parameters={"b": "x"}).tuples() == [(3, "x")]
    with pytest.raises(BindingError, match="'b' has no value"):
        engine.query(text, now=NOW)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"p": "many"}, "the value of parameter 'p' is no long"),
        ({"p": object()}, "'p' cannot be a object"),
        ({"p": 1, "q": 2}, "the query declares no parameter 'q'"),
    ],
)
def test_wrong_parameters(engine: DuckDBEngine, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(BindingError, match=message):
        engine.query("declare query_parameters(p: long); print p", now=NOW, parameters=parameters)


PATTERN = """
declare pattern site = (name: string)[part: string]
{
    ("one").["people"] = { let n = 2; range x from 1 to n step 1 };
    ("one").["hosts"] = { print x = 10 };
};
"""


@pytest.mark.parametrize(
    "call", ['site("one").people', 'site("one")["people"]', 'site("one").["people"] | as t']
)
def test_a_pattern_maps_texts_to_tables(engine: DuckDBEngine, call: str) -> None:
    assert engine.query(PATTERN + call, now=NOW).tuples() == [(1,), (2,)]


def test_patterns_inside_a_query(engine: DuckDBEngine) -> None:
    text = 'union site("one").people, site("one").hosts | summarize sum(x)'
    assert engine.query(PATTERN + text, now=NOW).tuples() == [(13,)]


def test_what_a_pattern_does_not_map(engine: DuckDBEngine) -> None:
    with pytest.raises(BindingError, match=r"does not map site\('two'\)\['people'\]"):
        engine.query(PATTERN + 'site("two").people', now=NOW)
    with pytest.raises(BindingError, match=r"does not map site\('one'\)"):
        engine.query('declare pattern site; site("one")', now=NOW)


def test_tables_that_a_lake_does_not_have(engine: DuckDBEngine) -> None:
    for call in ('external_table("x")', 'materialized_view("x")', 'stored_query_result("x")'):
        with pytest.raises(UnsupportedError, match=call.split("(")[0]):
            engine.query(f"{call} | count", now=NOW)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("long", "99999999999999999999"),
        ("long", 2**63),
        ("long", "1_000"),
        ("int", "0x1FFFFFFFF"),
        ("bool", "yes"),
        ("guid", "x"),
        ("decimal", "x"),
        ("datetime", "never"),
        ("dynamic", "{"),
    ],
)
def test_values_that_are_none_of_the_type(engine: DuckDBEngine, kind: str, given: object) -> None:
    with pytest.raises(BindingError):
        engine.query(f"declare query_parameters(p: {kind}); print p", now=NOW, parameters={"p": given})


def test_results_have_names_where_the_query_gives_some(engine: DuckDBEngine) -> None:
    def names(text: str) -> list[str]:
        return [result.name for result in engine.query(text, now=NOW).all()]

    assert names(f"{ROWS} | fork big = (where n > 1) (count)") == ["big", ""]
    assert names(f"{ROWS} | facet by s, n with (count)") == ["", "s", "n"]
    assert names(f"{ROWS} | as rows; print 1") == ["", "rows"]
    graph = 'datatable(s: string, t: string) ["a", "b"] | make-graph s --> t with_node_id=id'
    assert names(f"{graph} | graph-to-table nodes, edges") == ["nodes", "edges"]
