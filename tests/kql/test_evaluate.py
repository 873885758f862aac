"""Expressions over earlier rows give in Python what the engine gives over the row at hand."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
COLUMNS = "n: long, m: long, r: real, s: string, u: string, t: datetime, d: timespan, b: bool, j: dynamic"
ROWS = """
    1, 2, 1.5, "Alpha beta", "beta", datetime(2026-01-01 10:00), 1h, true,
    dynamic({"a": [1, "x"], "b": null}),
    -7, 5, -0.25, "", "", datetime(2025-12-31 23:59:59.5), -90s, false, dynamic([1, 2]),
    0, 0, 0.0, "a_b-c.d", "B", datetime(1969-07-20), 0s, true, dynamic("text"),
    long(null), 3, real(null), "42", "0x1F", datetime(null), timespan(null), bool(null), dynamic(null),
    9007199254740993, -3, 1e300, "ÄÖ x", "ä", datetime(2026-02-28), 36500d, false, dynamic({"a": []})
"""
EXPRESSIONS = [
    (
        "bool",
        [
            "n == m",
            "n != m",
            "n < m",
            "n >= m",
            "r > n",
            "s == u",
            "s != ''",
            "t > datetime(2026-01-01)",
            "b == true",
        ],
    ),
    (
        "bool",
        [
            "b and n > 0",
            "b or n > 0",
            "not(b)",
            "not(n > 0)",
            "n in (1, -7)",
            "n !in (1, 2)",
            "s in~ ('42', 'A_B-C.D')",
        ],
    ),
    (
        "bool",
        [
            "r * 0 / 0.0 == r * 0 / 0.0",
            "r * 0 / 0.0 != r",
            "r * 0 / 0.0 > 0.5",
            "r in (r * 0 / 0.0, 1.5)",
            "j.a[0] == 1",
            "j.a[0] in (1.5, 1)",
        ],
    ),
    ("real", ["max_of(r * 0 / 0.0, 1.5)", "min_of(r, r * 0 / 0.0)", "todouble(strcat(n, '_0'))"]),
    ("bool", ["n between (-7 .. 1)", "n !between (0 .. 5)", "t between (datetime(2025-12-01) .. 40d)"]),
    (
        "bool",
        ["s has u", "s has 'b'", "s has_cs 'Alpha'", "s contains u", "s contains_cs 'B'", "s startswith 'a'"],
    ),
    (
        "bool",
        [
            "s endswith_cs 'beta'",
            "s hasprefix 'al'",
            "s hassuffix 'eta'",
            "s !has 'alpha'",
            "s =~ 'ALPHA BETA'",
            "s !~ 'x'",
        ],
    ),
    ("bool", ["isnull(n)", "isnotnull(r)", "isempty(s)", "isnotempty(u)", "isnull(j)", "isempty(t)"]),
    (
        "long",
        [
            "n + m",
            "n - m",
            "m * 3",
            "n / m",
            "n % m",
            "-n",
            "bin(n, 5)",
            "abs(m)",
            "strlen(s)",
            "tolong(s)",
            "tolong(u)",
        ],
    ),
    (
        "long",
        [
            "iff(b, n, m)",
            "case(n > 0, 1, n < 0, -1, 0)",
            "coalesce(n, m)",
            "max_of(n, m, 2)",
            "min_of(n, m)",
            "toint(m)",
        ],
    ),
    ("real", ["n + r", "r * 2", "r / 4", "n / 4.0", "d / 1h", "todouble(s)", "todouble(m)", "bin(r, 0.5)"]),
    ("timespan", ["t - datetime(2026-01-01)", "d + 1h", "d * 2", "d / 2", "-d", "bin(d, 1m)", "d % 7m"]),
    (
        "datetime",
        [
            "t + d / 1000",
            "t - 1h",
            "bin(t, 1d)",
            "bin(t, 7d)",
            "iff(isnull(t), datetime(2020-01-01), t)",
            "max_of(t, datetime(2025-01-01))",
        ],
    ),
    (
        "string",
        [
            "strcat(s, '-', n)",
            "tostring(n)",
            "tostring(b)",
            "tostring(t)",
            "tostring(d)",
            "tolower(s)",
            "toupper(u)",
        ],
    ),
    ("string", ["iff(b, s, u)", "coalesce(s, u)", "tostring(j.a)", "tostring(j)", "strcat(t, '|', d)"]),
    ("dynamic", ["j.a", "j.a[0]", "j[0]", "j.a[-1]", "pack_array(n, s, b)", "bag_pack('k', n, 'l', s)"]),
    ("dynamic", ["array_concat(j.a, pack_array(n))", "bag_merge(j, bag_pack('z', 1))"]),
    (
        "bool",
        [
            "set_has_element(pack_array(n, r, s, j), n)",
            "set_has_element(pack_array(1.0, true, s, '1', j), m / 2)",
            "set_has_element(pack_array(m, s), s)",
            "set_has_element(pack_array(n, j), j)",
            "set_has_element(pack_array(r * 0 / 0.0), r * 0 / 0.0)",
        ],
    ),
    (
        "long",
        [
            "array_length(j.a)",
            "tolong(j.a[0])",
            "array_length(set_union(pack_array(s, m), pack_array(s, '1', 1)))",
        ],
    ),
]
CASES = [(kind, text) for kind, texts in EXPRESSIONS for text in texts]


@pytest.fixture(scope="module")
def engine() -> DuckDBEngine:
    return DuckDBEngine(NoTables())


def over_state(text: str) -> str:
    """The expression with its columns read from the step's state."""
    outside = re.split(r"('[^']*')", text)
    names = r"(?<![\w.$])([nmrsutdbj])(?![\w(])"
    return "".join(part if place % 2 else re.sub(names, r"s1.\1", part) for place, part in enumerate(outside))


@pytest.mark.parametrize(("kind", "text"), CASES, ids=[text for _, text in CASES])
def test_python_gives_what_the_engine_gives(engine: DuckDBEngine, kind: str, text: str) -> None:
    # Every row comes twice, so that the state of the second is the row itself.
    query = f"""
        datatable({COLUMNS}) [{ROWS}]
        | extend place = row_number() | mv-expand turn = range(1, 2) to typeof(long)
        | sort by place asc, turn asc
        | scan declare (found: {kind}) with (step s1: true => found = {over_state(text)};)
        | where turn == 2
        | project place, found = tostring(found), wanted = tostring({text})
    """
    rows = engine.query(query, now=NOW).tuples()
    assert [(place, found) for place, found, _ in rows] == [(place, wanted) for place, _, wanted in rows]
    assert len(rows) == 5


def test_a_set_of_texts_grows_without_being_written_in_each_row(
    engine: DuckDBEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    dumps = json.dumps

    def counted(value: object, **options: Any) -> str:
        written.append(value)
        return dumps(value, **options)

    monkeypatch.setattr(json, "dumps", counted)
    query = """
        range n from 1 to 50 step 1
        | scan declare (seen: dynamic = dynamic([]), known: bool) with (
            step s: true => known = set_has_element(s.seen, tostring(n % 40)),
                seen = set_union(s.seen, pack_array(tostring(n % 40)));)
        | summarize countif(known), max(array_length(seen))
    """
    assert engine.query(query, now=NOW).tuples() == [(10, 40)]
    assert len(written) <= 2 * 50
