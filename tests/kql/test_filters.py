"""A property: `where` keeps the rows that a plain reading of KQL's rules keeps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.kql.compiler import compile_query
from trailhawk.kql.lower import lower
from trailhawk.kql.plan import Node

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Row = tuple[int | None, float | None, str]
Truth = bool | None


ENGINE = DuckDBEngine(NoTables())

numbers = st.one_of(st.none(), st.integers(-3, 3))
reals = st.one_of(st.none(), st.sampled_from([-1.5, 0.0, 1.0, 2.5]))
texts = st.sampled_from(["", "a", "A", "ab", "b a"])
rows = st.lists(st.tuples(numbers, reals, texts), min_size=1, max_size=6)


class Comparison:
    """`column op value`, over column 0 (long), 1 (real) or 2 (string)."""

    def __init__(self, column: int, op: str, value: int | float | str | None) -> None:
        self.column, self.op, self.value = column, op, value

    def kql(self) -> str:
        return f"{'nrs'[self.column]} {self.op} {literal(self.value, self.column)}"

    def of(self, row: Row) -> Truth:
        return compare(self.op, row[self.column], self.value)


class Listed:
    def __init__(self, column: int, values: list[int | str], negated: bool) -> None:
        self.column, self.values, self.negated = column, values, negated

    def kql(self) -> str:
        items = ", ".join(literal(value, self.column) for value in self.values)
        return f"{'nrs'[self.column]} {'!in' if self.negated else 'in'} ({items})"

    def of(self, row: Row) -> Truth:
        return (row[self.column] in self.values) != self.negated


class Joined:
    def __init__(self, op: str, parts: list[Test]) -> None:
        self.op, self.parts = op, parts

    def kql(self) -> str:
        return "(" + f" {self.op} ".join(part.kql() for part in self.parts) + ")"

    def of(self, row: Row) -> Truth:
        found = [part.of(row) for part in self.parts]
        decisive = self.op == "or"
        if decisive in found:
            return decisive
        return None if None in found else not decisive


class Negated:
    def __init__(self, part: Test) -> None:
        self.part = part

    def kql(self) -> str:
        return f"not({self.part.kql()})"

    def of(self, row: Row) -> Truth:
        found = self.part.of(row)
        return None if found is None else not found


Test = Comparison | Listed | Joined | Negated


def literal(value: int | float | str | None, column: int) -> str:
    if value is None:
        return ("long(null)", "real(null)", '""')[column]
    return f'"{value}"' if isinstance(value, str) else f"real({value})" if column == 1 else str(value)


def compare(op: str, left: int | float | str | None, right: int | float | str | None) -> Truth:
    """Equality is total unless both are null; order is unknown with a null."""
    if op in ("==", "!="):
        if left is None and right is None:
            return None
        return (left == right) == (op == "==")
    if left is None or right is None:
        return None
    assert not isinstance(left, str)
    assert not isinstance(right, str)
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[op]


orders = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
leaves = st.one_of(
    st.builds(Comparison, st.just(0), orders, numbers),
    st.builds(Comparison, st.just(1), orders, reals),
    st.builds(Comparison, st.just(2), st.sampled_from(["==", "!="]), texts),
    st.builds(Listed, st.just(0), st.lists(st.integers(-3, 3), min_size=1, max_size=3), st.booleans()),
    st.builds(Listed, st.just(2), st.lists(texts, min_size=1, max_size=3), st.booleans()),
)
tests = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Negated, inner),
        st.builds(Joined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(rows, tests)
def test_where_keeps_what_the_rules_keep(table: list[Row], test: Test) -> None:
    values = ", ".join(literal(value, column) for row in table for column, value in enumerate(row))
    source = f"datatable(n: long, r: real, s: string) [{values}]"
    kept = ENGINE.query(f"{source} | where {test.kql()}", now=NOW).tuples()
    assert kept == [row for row in table if test.of(row)]
    # As a value the same test may be null, and `where` may not.
    shown = ENGINE.query(f"{source} | project t = {test.kql()}", now=NOW).tuples()
    assert shown == [(test.of(row),) for row in table]


def sql_of(query: str) -> str:
    def nothing(node: Node, inputs: tuple[str, ...] = ()) -> str:
        raise AssertionError(node)

    plan = compile_query(query, NoTables(), now=NOW).plan
    return lower(plan, nothing, nothing)


@pytest.mark.parametrize(
    "test", ["r < q", "r <= q", "r > q", "r >= q", "q < r", "q >= r", "r == q", "r in (q, 1.0)"]
)
def test_a_query_that_is_compared_with_is_run_once(test: str) -> None:
    mean = "let q = toscalar(datatable(n: real) [1, 2] | summarize avg(n));"
    assert sql_of(f"{mean} datatable(r: real) [1] | where {test}").count("LIMIT 1") == 1


@pytest.mark.parametrize("test", ["d.x > 5", "d.x == 5", "d.x in (5, 6)", "n > 5", "r < 5.0"])
def test_the_guard_against_nan_is_a_bound_and_only_where_nan_can_be(test: str) -> None:
    written = sql_of(f"datatable(d: dynamic, n: long, r: real) [dynamic(null), 1, 1.0] | where {test}")
    assert "isnan" not in written
    assert written.count("'inf'") == (test == "d.x > 5")
