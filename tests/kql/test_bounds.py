"""Hostile and huge queries end in one of our errors or run; never in a crash."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk.engine.duckdb import DuckDBEngine, Limits
from trailhawk.errors import QueryError
from trailhawk.lake.catalog import Lake

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    home: Path = tmp_path_factory.mktemp("lake")
    return DuckDBEngine(Lake(home, []), limits=Limits(memory=1 << 30, seconds=60))


ROWS = 'datatable(x: long, s: string) [1, "a", 2, "b"]'

TWICE = "".join(
    f"let L{i} = materialize(union L{i - 1}, L{i - 1} | summarize arg_max(x, *) by s);" for i in range(1, 25)
)
RUNS = {
    "1,000 items": (f"{ROWS} | where x in ({', '.join(map(str, range(2, 1002)))}) | count", 1),
    "1,000 texts without case": (
        f"{ROWS} | where s in~ ({', '.join(repr(f'A{i}') for i in range(1000))}, 'B') | count",
        1,
    ),
    "10,000 terms of or": (f"{ROWS} | where {' or '.join(f'x == {i}' for i in range(2, 10_002))} | count", 1),
    "10,000 terms of and": (
        f"{ROWS} | where {' and '.join(f'x != {i}' for i in range(2, 10_002))} | count",
        1,
    ),
    "500 needles": (
        f"{ROWS} | where s has_any ({', '.join(repr(f'n{i}') for i in range(500))}, 'a') | count",
        1,
    ),
    "300 steps": (ROWS + "".join(f" | extend x{i} = x + {i}" for i in range(300)) + " | count", 2),
    "300 filters": (ROWS + "".join(f" | where x != {i + 5}" for i in range(300)) + " | count", 2),
    "100 tables in a union": (f"union {', '.join(['(' + ROWS + ')'] * 100)} | count", 200),
    "24 shared queries, each read twice": (f"let L0 = {ROWS}; {TWICE} L24 | summarize sum(x)", 3),
    "24 of them beyond 64 bits": (
        f"let L0 = {ROWS}; {TWICE} L24 | summarize sum(x * 9223372036854775807)",
        9223372036854775805,
    ),
    "60 joins": (ROWS + "".join(f" | join kind=inner ({ROWS}) on x" for _ in range(60)) + " | count", 2),
    "200 branches of case": (
        f"{ROWS} | where case({', '.join(f'x == {i}, {i}' for i in range(200))}, 0) > 1 | count",
        1,
    ),
    "60 parentheses": (f"print {'(' * 60}1{')' * 60} | count", 1),
    "a long text": (f"print s = '{'x' * 500_000}' | where strlen(s) == 500000 | count", 1),
}


LONG = ("10,000 terms of or", "10,000 terms of and", "24 of them beyond 64 bits")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in RUNS]
)
def test_large_queries_run(engine: DuckDBEngine, name: str) -> None:
    query, expected = RUNS[name]
    assert engine.query(query, now=NOW).tuples() == [(expected,)]


def doubling(count: int) -> str:
    lets = "".join(f"let x{i} = x{i - 1} + x{i - 1} * y;" for i in range(1, count))
    return f"let y = toscalar(print 2); let x0 = y; {lets} print x{count - 1}"


FAILS = {
    "10,000 parentheses": f"print {'(' * 10_000}1{')' * 10_000}",
    "10,000 signs": f"print {'-' * 10_000}1",
    "10,000 calls inside one another": f"print {'tostring(' * 10_000}1{')' * 10_000}",
    "10,000 members": "print d = dynamic({}) | extend x = d" + ".a" * 10_000,
    "5,000 additions": f"print {' + '.join(['now()'] * 5_000)}",
    "lets that double": doubling(60),
    "tables that double": "let t0 = print x = 1;"
    + "".join(f"let t{i} = union t{i - 1}, t{i - 1};" for i in range(1, 40))
    + "t39 | count",
    "functions that double": "let f0 = () { print x = 1 };"
    + "".join(f"let f{i} = () {{ union f{i - 1}(), f{i - 1}() }};" for i in range(1, 40))
    + "f39()",
    "scalar functions that double": "let f0 = (a: long) { a + 1 };"
    + "".join(f"let f{i} = (a: long) {{ f{i - 1}(a) + f{i - 1}(a) }};" for i in range(1, 40))
    + "print f39(1)",
    "10,000 steps": "print x = 1" + " | where x == 1" * 10_000,
    "sub-pipes inside one another": "print d = dynamic([1])"
    + " | mv-apply d on (extend x = 1" * 200
    + ")" * 200,
    "a text of 5 MB": f"print '{'x' * 5_000_000}'",
    "an unfinished text": 'print "',
    "nothing": "",
    "only a comment": "// nothing",
    "a regular expression that is none": 'print "a" matches regex "("',
    "a number beyond long": "print 99999999999999999999",
    "arithmetic beyond long": "print 9223372036854775807 + 1",
}


@pytest.mark.parametrize("name", FAILS)
def test_hostile_queries_end_in_our_error_or_run(engine: DuckDBEngine, name: str) -> None:
    said = "rows"
    try:
        engine.query(FAILS[name], now=NOW)
    except QueryError as error:
        said = error.render(FAILS[name])
    assert said
