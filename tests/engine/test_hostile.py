"""Hostile queries over their limits: each ends in an error of ours, in time and in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk.engine.duckdb import DuckDBEngine, Limits
from trailhawk.engine.watch import resident
from trailhawk.errors import LimitError, QueryError
from trailhawk.lake.catalog import Lake
from trailhawk.render.text import to_json

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MEMORY = 256 << 20
ALL = "| extend k = 1 | join kind=inner (range b from 1 to 1000000 step 1 | extend k = 1) on k"

BEYOND = {
    "a cross join, counted": f"range a from 1 to 1000000 step 1 {ALL} | summarize sum(a * b)",
    "a cross join, all rows": f"range a from 1 to 1000000 step 1 {ALL}",
    "a huge range": "range x from 1 to 9223372036854775807 step 1 | count",
    "a huge range sorted": "range x from 1 to 100000000000 step 1 | sort by x desc",
    "a huge range of times": "range t from datetime(1900-01-01) to datetime(2030-01-01) step 1tick | count",
    "mv-expand of mv-expand": "range x from 1 to 1000000 step 1 | extend a = range(1, 1000000) | mv-expand a"
    " | mv-expand b = range(1, 1000) | count",
    "mv-apply over long lists": "range x from 1 to 1000000 step 1 | extend a = range(x, x + 10000)"
    " | mv-apply a on (summarize s = sum(tolong(a))) | summarize sum(s)",
    "text that multiplies": "print s = strrep(strrep(strrep(strrep('xxxxxxxxxx', 1024), 1024), 1024), 1024)"
    " | extend n = strlen(s)",
    "text that doubles": "print s = 'xxxxxxxxxxxxxxxx'"
    + " | extend s = strcat(s, s, s, s, s, s, s, s)" * 12
    + " | extend n = strlen(s)",
    "lists that double": "print s = dynamic([1, 2, 3, 4, 5, 6, 7, 8])"
    + " | extend s = array_concat(s, s, s, s, s, s, s, s)" * 12
    + " | extend n = array_length(s)",
    "a list without end": "print s = repeat('x', 1000000000) | extend n = array_length(s)",
    "everything in one list": "range x from 1 to 100000000 step 1 | summarize make_list(x)",
    "everything sorted": "range x from 1 to 1000000000 step 1 | extend s = hash_sha256(x) | sort by s",
    "a million columns": "range x from 1 to 1000000 step 1 | extend k = 1 | evaluate pivot(x)",
    "a series of seconds": "range x from 1 to 9 step 1 | extend t = datetime(2020-01-01) + x * 1d"
    " | make-series count() on t from datetime(1900-01-01) to datetime(2100-01-01) step 1s",
    "JSON that nests too deep for Python": "print s = strcat(strrep('[', 1000), strrep(']', 1000))"
    " | extend d = series_fir(parse_json(s), dynamic([1]))",
    "a regular expression that multiplies": "print m = strrep('a', 1000) matches regex"
    " '((((a{1,100}){1,100}){1,100}){1,100})'",
}

GROWING = "range x from 1 to 100 step 1 | extend s = strrep('a', x)"
DEEP = "print d = parse_json(strcat(strrep(strrep('[', 1000), 100), strrep(strrep(']', 1000), 100)))"
RUNS = {
    "a regular expression that goes back and forth elsewhere": (
        "print m = strcat(strrep('a', 1000), 'c') matches regex '(a+)+$b'",
        [(False,)],
    ),
    "one over a column": (f"{GROWING} | where s matches regex strcat('(', s, '+)+$') | count", [(100,)]),
    "deep JSON": (f"{DEEP} | project isnull(array_length(d))", None),
    "a step of nothing": ("range x from 1 to 10 step toscalar(datatable(n: long) [0]) | count", None),
}

# What ends Python code may land in a callback of the collector, which can only tell of it.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*Stopped:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    home: Path = tmp_path_factory.mktemp("home")
    limits = Limits(memory=MEMORY, seconds=2, temporary=256 << 20)
    engine = DuckDBEngine(Lake(home / "lake", []), limits=limits, temporary=home / "temporary")
    yield engine
    engine.close()


@pytest.mark.parametrize("name", BEYOND)
def test_it_ends_in_an_error(engine: DuckDBEngine, name: str) -> None:
    before, started = resident(), time.monotonic()
    with pytest.raises(QueryError) as caught:
        engine.query(BEYOND[name], now=NOW)
    assert caught.value.render(BEYOND[name])
    assert time.monotonic() - started < 60  # on a busy machine too
    assert resident() - before < 8 * MEMORY
    assert engine.query("print 1", now=NOW).tuples() == [(1,)]


@pytest.mark.parametrize("name", RUNS)
def test_it_runs(engine: DuckDBEngine, name: str) -> None:
    query, expected = RUNS[name]
    rows = engine.query(query, now=NOW).tuples()
    assert expected is None or rows == expected


def test_it_says_which_limit(engine: DuckDBEngine) -> None:
    with pytest.raises(LimitError, match=r"ran longer than 2 s|needs more memory"):
        engine.query(BEYOND["a cross join, counted"], now=NOW)


@pytest.mark.parametrize(("depth", "is_text"), [(100, False), (200, False), (201, True), (900, True)])
def test_a_value_nested_deep_comes_as_its_text(engine: DuckDBEngine, depth: int, is_text: bool) -> None:
    """What shows a result walks through its values; a log's text must not end that."""
    nest = f"strcat(strrep('[', {depth}), strrep(']', {depth}))"
    for query in (f"print d = parse_json({nest})", f"print s = {nest} | project d = parse_json(s)"):
        ((value,),) = engine.query(query, now=NOW).tuples()
        assert (value == "[" * depth + "]" * depth) is is_text
        assert to_json(value).count("[") == depth
    wide = "range x from 1 to 500 step 1 | summarize d = make_list(pack('a', '[[{', 'b', x))"
    ((value,),) = engine.query(wide, now=NOW).tuples()
    assert isinstance(value, list)
