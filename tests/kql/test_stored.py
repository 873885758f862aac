"""Stored functions: read from files, called by queries and by each other, their errors placed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.result import TimeRange
from trailhawk.errors import BindingError, KqlSyntaxError, NotFoundError, QueryError
from trailhawk.kql.stored import Functions, read_functions

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILES = {
    "Numbers": "// Three numbers.\n// And no more.\n\nrange n from 1 to 3 step 1",
    "Above": "(least: long = 2) {\n    Numbers | where n >= least\n}",
    "Twice": "(n: long) { n * 2 }",
    "Doubled": "(T: (n: long)) { let twice = (x: long) { Twice(x) };\n T | extend d = twice(n) };",
    "Ping": "Pong() | take 1",
    "Pong": "// Calls the other one.\nPing | take 1",
    "Wrong": "(a: long = 1) {\n    Numbers\n    | where nn == a\n}",
    "Wrapping": "Wrong(2)\n| count",
    "Broken": "Numbers\n| wher n > 1",
    "NoResult": "let x = 1;",
    "Reordered": "print b1 = 1, a1 = 2, b2 = 3 | project-reorder b*, *",
}


@pytest.fixture
def functions(tmp_path: Path) -> Functions:
    for name, text in FILES.items():
        (tmp_path / f"{name}.kql").write_text(text)
    return Functions(read_functions(tmp_path))


@pytest.fixture
def engine(functions: Functions) -> DuckDBEngine:
    return DuckDBEngine(NoTables(), functions=functions)


def rows(engine: DuckDBEngine, query: str, window: TimeRange | None = None) -> list[list[object]]:
    return [list(row.values()) for row in engine.query(query, now=NOW, window=window).table.to_pylist()]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Numbers", [[1], [2], [3]]),
        ("Numbers()", [[1], [2], [3]]),
        ("workspace('trailhawk').Numbers | count", [[3]]),
        ("Above | order by n asc", [[2], [3]]),
        ("Above(3)", [[3]]),
        ("Reordered", [[1, 3, 2]]),
        ("Above(least=3)", [[3]]),
        ("union Numbers, Above() | summarize sum(n)", [[11]]),
        ("print Twice(21)", [[42]]),
        ("Twice(21)", [[42]]),
        ("Numbers | where n in (Above | project n) | count", [[2]]),
        ("let Numbers = datatable(n: long)[7]; Numbers", [[7]]),
        ("let Numbers = datatable(n: long)[7]; Above", [[2], [3]]),
        ("Numbers | where n == 3 | invoke Doubled()", [[3, 6]]),
        ("Numbers | where n == 3 | invoke Doubled() | project n | invoke Doubled()", [[3, 6]]),
        ("Doubled(Above(3))", [[3, 6]]),
    ],
)
def test_calls(engine: DuckDBEngine, query: str, expected: list[list[object]]) -> None:
    assert rows(engine, query) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("Ping", "the function 'Ping' calls itself: Ping > Pong > Ping"),
        ("Numbers | take 1 | union Pong", "the function 'Pong' calls itself: Pong > Ping > Pong"),
        ("Above(nleast=3)", "'Above' has no parameter 'nleast'"),
        ("Above(1, 2)", "'Above' takes 1 arguments, not 2"),
        ("Numers", "there is no table 'Numers'"),
    ],
)
def test_calls_that_cannot_be(engine: DuckDBEngine, query: str, message: str) -> None:
    with pytest.raises(BindingError) as caught:
        engine.query(query, now=NOW)
    assert caught.value.message == message


def test_a_name_nearby_is_offered(engine: DuckDBEngine) -> None:
    with pytest.raises(BindingError) as caught:
        engine.query("Numers", now=NOW)
    assert caught.value.hint == "did you mean 'Numbers'?"


@pytest.mark.parametrize("query", ["Wrapping", "print x = 1 | extend y = toscalar(Wrapping())"])
def test_an_error_in_a_function_stands_where_the_query_calls_it(engine: DuckDBEngine, query: str) -> None:
    with pytest.raises(BindingError) as caught:
        engine.query(query, now=NOW)
    assert "(in function 'Wrong' at 3:13)" in caught.value.message
    assert caught.value.span is not None
    assert query[caught.value.span.start : caught.value.span.end] == "Wrapping"


def test_an_error_in_an_argument_stands_in_the_query(engine: DuckDBEngine) -> None:
    query = "Doubled((Numbers | where m > 1))"
    with pytest.raises(BindingError) as caught:
        engine.query(query, now=NOW)
    assert caught.value.span is not None
    assert query[caught.value.span.start : caught.value.span.end] == "m"
    assert "in function" not in caught.value.message


@pytest.mark.parametrize(("name", "place"), [("Broken", ":2:3: unknown"), ("NoResult", ":1:1: the function")])
def test_a_file_that_is_no_kql_names_its_place_when_it_is_called(
    engine: DuckDBEngine, functions: Functions, name: str, place: str
) -> None:
    assert rows(engine, "Numbers | count") == [[3]]
    with pytest.raises(KqlSyntaxError) as caught:
        engine.query(name, now=NOW)
    assert f"{name}.kql{place}" in caught.value.message
    with pytest.raises(QueryError):
        _ = functions.named(name).value


def test_documentation_and_parameters(functions: Functions) -> None:
    assert functions.named("Numbers").documentation == "Three numbers.\nAnd no more."
    assert functions.named("Numbers").parameters == ""
    assert functions.named("Above").parameters == "least: long = 2"
    assert functions.named("Above").documentation == ""
    with pytest.raises(NotFoundError, match="did you mean 'Above'"):
        functions.named("above")


def test_a_later_function_replaces_one_of_its_name(tmp_path: Path, functions: Functions) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "Numbers.kql").write_text("\ufeffrange n from 7 to 7 step 1")
    both = Functions([*functions.all(), *read_functions(own)])
    engine = DuckDBEngine(NoTables(), functions=both)
    assert rows(engine, "Above(0)") == [[7]]


def test_a_file_that_cannot_be_called_costs_nobody_else(tmp_path: Path) -> None:
    assert read_functions(tmp_path / "none") == []
    (tmp_path / "folder.kql").mkdir()
    (tmp_path / "two words.kql").write_text("print 7")
    (tmp_path / "Latin.kql").write_bytes(b"print '\xe9'")
    (tmp_path / "Broken.kql").write_text("(a: long) { print a")
    (tmp_path / "Good.kql").write_text("print 1")
    functions = Functions(read_functions(tmp_path))
    engine = DuckDBEngine(NoTables(), functions=functions)
    assert rows(engine, "Good") == [[1]]
    assert rows(engine, "['two words']") == [[7]]
    faults = {function.name: function.fault.rpartition("/")[2] for function in functions.all()}
    assert faults == {
        "Broken": "Broken.kql:1:20: expected '|', ';' or '}', found the end of the query",
        "Good": "",
        "Latin": "Latin.kql is not UTF-8 text",
        "two words": "",
    }
    assert functions.named("Broken").parameters == ""
    for name in ("Latin", "Broken"):
        with pytest.raises(KqlSyntaxError):
            engine.query(name, now=NOW)


# --- the range of a hunt -----------------------------------------------------------------------------------

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (None, ["2026-02-28T12:00:00.000000Z", "2026-03-01T12:00:00.000000Z"]),
        (TimeRange(NOW - 7 * DAY, NOW - DAY), ["2026-02-22T12:00:00.000000Z", "2026-02-28T12:00:00.000000Z"]),
        (TimeRange(None, NOW), ["1970-01-01T00:00:00.000000Z", "2026-03-01T12:00:00.000000Z"]),
        (TimeRange(NOW - DAY, None), ["2026-02-28T12:00:00.000000Z", "2026-03-01T12:00:00.000000Z"]),
    ],
)
def test_the_range_of_a_hunt_is_written_in(
    engine: DuckDBEngine, window: TimeRange | None, expected: list[str]
) -> None:
    assert rows(engine, "print '{{StartTimeISO}}', '{{EndTimeISO}}'", window) == [expected]
    days = "print (datetime({{EndTimeISO}}) - todatetime('{{ StartTimeISO }}')) > 1h"
    assert rows(engine, days, window) == [[True]]


def test_errors_stand_at_their_place_in_the_text_as_written(engine: DuckDBEngine) -> None:
    query = "let a = todatetime('{{StartTimeISO}}'); let b = '{{EndTimeISO}}';\nprint a, wrong"
    with pytest.raises(QueryError) as caught:
        engine.query(query, now=NOW)
    assert caught.value.span is not None
    assert query[caught.value.span.start : caught.value.span.end] == "wrong"
    with pytest.raises(KqlSyntaxError) as refused:
        engine.query("print '{{StartTimeISO}}' | | count", now=NOW)
    assert refused.value.span is not None
    assert refused.value.span.start == 27


def test_other_braces_stay(engine: DuckDBEngine) -> None:
    assert rows(engine, "print '{{Else}}'") == [["{{Else}}"]]


def test_what_is_computed_once_is_computed_for_each_call(engine: DuckDBEngine) -> None:
    count = "let f = (n: long) { let x = materialize(range i from 1 to n step 1); x | count };"
    calls = ", ".join(f"f({n})" for n in range(1, 60))
    assert rows(engine, f"{count} union {calls} | summarize dcount(Count, 4)") == [[59]]


def test_materialized_rows_and_an_operator_that_shares_its_input(engine: DuckDBEngine) -> None:
    query = "let m = materialize(Numbers); m | where n > 1 | extend j = n * 10 | top-nested 2 of j by sum(j)"
    assert rows(engine, query) == [[30, 30], [20, 20]]
