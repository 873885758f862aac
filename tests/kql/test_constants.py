"""What is folded as a constant is what the engine gives for the same values in columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.errors import TrailhawkError
from trailhawk.kql import syntax
from trailhawk.kql.folding import PARTS
from trailhawk.kql.functions.reference import examples
from trailhawk.kql.parser import parse
from trailhawk.kql.records import field_names

NOW = datetime(2024, 5, 17, 12, tzinfo=UTC)
EVERY = int(os.environ.get("TRAILHAWK_EVERY_EXAMPLE", "4"))
"""Of so many examples one is compared; 1 for all of them."""


def literals(node: object) -> Iterator[syntax.Literal]:
    """The literals of a tree that have a value."""
    if isinstance(node, syntax.Literal):
        if node.type is not None and node.value is not None:
            yield node
    elif isinstance(node, tuple):
        for item in node:
            yield from literals(item)
    elif isinstance(node, syntax.Node):
        for name in field_names(node):
            yield from literals(getattr(node, name))


@dataclass(frozen=True)
class Pair:
    """A documented example, and itself over columns (with types and values) in place of its literals."""

    constant: str
    column: str
    types: tuple[str, ...]
    values: tuple[str, ...]


def pairs() -> list[Pair]:
    found = []
    texts = [example.text for _, given in examples() for example in given]
    for number, text in enumerate(texts):
        start = len("print ")
        places = sorted(literals(parse(f"print {text}")), key=lambda literal: -literal.span.start)
        types, values, over = [], [], text
        for place, literal in enumerate(places):
            assert literal.type is not None
            first, end = literal.span.start - start, literal.span.end - start
            types.append(f"c{number}_{place}: {literal.type.value}")
            values.append(text[first:end])
            over = f"{over[:first]}c{number}_{place}{over[end:]}"
        if types:
            found.append(Pair(text, over, tuple(types), tuple(values)))
    return found


def over_columns(chosen: Sequence[Pair]) -> str:
    types = ", ".join(type_ for pair in chosen for type_ in pair.types)
    values = ", ".join(value for pair in chosen for value in pair.values)
    shown = ", ".join(f"x{place} = {pair.column}" for place, pair in enumerate(chosen))
    return f"datatable({types})[{values}] | project {shown}"


def plain(value: object) -> str:
    """The value's text; of a decimal without the zeros that only its column's type adds."""
    return str(value.normalize() if isinstance(value, Decimal) else value)


def test_a_column_gives_what_a_constant_gives() -> None:
    engine = DuckDBEngine(NoTables())
    given = pairs()[::EVERY]
    waiting = [given[start : start + 24] for start in range(0, len(given), 24)]
    compared = 0
    while waiting:
        some = waiting.pop()
        try:
            columns = ", ".join(f"x{place} = {pair.constant}" for place, pair in enumerate(some))
            (expected,) = engine.query(f"print {columns}", now=NOW).tuples()
            (shown,) = engine.query(over_columns(some), now=NOW).tuples()
        except TrailhawkError:  # One of them needs a constant, or a library that is not there.
            half = len(some) // 2
            waiting += [some[:half], some[half:]] if half else []
            continue
        for pair, one, other in zip(some, expected, shown, strict=True):
            assert plain(other) == plain(one), pair.column
        compared += len(some)
    assert compared > 300 // EVERY


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ('bag_remove_keys(bag, dynamic(["$.a.b", "$.n.x", "$.z.z"]))', {"a": {"c": 2}, "n": 1}),
        ('bag_remove_keys(bag, pack_array(strcat("$.a", ".c"), key))', {"a": {"b": 1}}),
        ("bag_set_key(bag, path, 3)", {"a": {"b": 3, "c": 2}, "n": 1}),
        ("bag_set_key(bag, key, 3)", {"n": 3, "a": {"b": 1, "c": 2}}),
        (
            "bag_pack('has', bag_has_key(bag, path), 'no', bag_has_key(bag, strcat(path, '.d')))",
            {"has": True, "no": False},
        ),
    ],
)
def test_paths_in_columns(call: str, expected: dict[str, object]) -> None:
    engine = DuckDBEngine(NoTables())
    bag = 'dynamic({"a": {"b": 1, "c": 2}, "n": 1})'
    table = f'datatable(bag: dynamic, key: string, path: string)[{bag}, "n", "$.a.b"]'
    assert engine.query(f"{table} | project {call}", now=NOW).tuples() == [(expected,)]


@pytest.mark.parametrize("call", ["endofyear(at)", "endofmonth(at)", "endofday(at)", "endofweek(at)"])
@pytest.mark.parametrize("at", ["9999-12-31 10:00", "0001-01-01", "9999-12-25", "2024-02-29"])
def test_the_ends_of_time_in_columns(call: str, at: str) -> None:
    engine = DuckDBEngine(NoTables())
    column = engine.query(f"datatable(at: datetime)[datetime({at})] | project {call}", now=NOW)
    constant = engine.query(f"let at = datetime({at}); print {call}", now=NOW)
    assert constant.tuples() == column.tuples()


@pytest.mark.parametrize("part", sorted(PARTS))
def test_moments_are_moved_and_compared_in_columns(part: str) -> None:
    engine = DuckDBEngine(NoTables())
    at = ["2024-02-29 10:00:01.5", "2023-01-31", "1969-12-31 23:59:59.999999", "2024-03-03", "2024-12-29"]
    pairs = [(one, other) for one in at for other in at]
    table = ", ".join(f"datetime({one}), datetime({other})" for one, other in pairs)
    call = f"datetime_diff('{part}', {{0}}, {{1}}), datetime_add('{part}', {{2}}, {{0}})"
    shown = call.format("a", "b", "strlen(tostring(a)) - 60")
    columns = f"datatable(a: datetime, b: datetime)[{table}] | project {shown}"
    found = engine.query(columns, now=NOW).tuples()
    for (one, other), row in zip(pairs, found, strict=True):
        constant = call.format(f"datetime({one})", f"datetime({other})", "-32")
        assert engine.query(f"print {constant}", now=NOW).tuples() == [row]


@pytest.mark.parametrize(
    "call",
    [
        "make_datetime(2024 * i, 2, 29, 23, 59, 59)",
        "make_datetime(2023 * i, 2, 29)",
        "make_datetime(2024 * i, 2, 1, 24, 0)",
        "make_datetime(0 * i, 1, 1)",
        "datetime_add('year', 8000 * i, datetime(2024-02-29))",
        "datetime_add('month', i, datetime(9999-11-30))",
        "datetime_add('month', i, datetime(9999-12-30))",
        "datetime_add('week', 9223372036854775807 * i, datetime(2024-02-29))",
        "datetime_add('day', -1 * i, datetime(0001-01-01))",
        "unixtime_seconds_todatetime(-1 * i)",
        "unixtime_seconds_todatetime(9999999999999 * i)",
        "unixtime_seconds_todatetime(1.5 * i)",
        "datetime_add('nanosecond', -100 * i, datetime(2020-01-01))",
        "datetime_add('nanosecond', -1900 * i, datetime(2020-01-01))",
        "datetime_add('nanosecond', -50 * i, datetime(2020-01-01))",
        "datetime_add('nanosecond', 1999 * i, datetime(2020-01-01))",
        "unixtime_seconds_todatetime(-1.25 * i)",
        "unixtime_milliseconds_todatetime(253402300799999 * i)",
        "unixtime_milliseconds_todatetime(-62135596800000 * i)",
        "unixtime_milliseconds_todatetime(9223372036854775807 * i)",
        "unixtime_milliseconds_todatetime(real(nan) * i)",
        "unixtime_microseconds_todatetime(1704067200000001 * i)",
    ],
)
def test_moments_are_made_in_columns(call: str) -> None:
    engine = DuckDBEngine(NoTables())
    column = engine.query(f"range i from 1 to 1 step 1 | project {call}", now=NOW)
    assert (
        engine.query(f"print {call.replace(' * i', '').replace('i,', '1,')}", now=NOW).tuples()
        == column.tuples()
    )


def test_nanoseconds_between_moments_beyond_a_long_are_null() -> None:
    at = "datatable(a: datetime, b: datetime)[datetime(9999-01-01), datetime(0001-01-01)]"
    found = DuckDBEngine(NoTables()).query(f"{at} | project datetime_diff('nanosecond', a, b)", now=NOW)
    assert found.tuples() == [(None,)]


def test_whole_numbers_of_texts_are_those_of_columns() -> None:
    texts = [
        "443",
        "-7",
        "007",
        "-0",
        "2147483648",
        "-2147483648",
        " 7 ",
        "+5",
        "0x1F",
        "9" * 18,
        "9" * 20,
        "x",
        "",
    ]
    written = ", ".join(f'"{text}"' for text in texts)
    columns = f"datatable(s: string)[{written}] | project toint(s), tolong(s)"
    constants = " | union ".join(f'(print toint("{text}"), tolong("{text}"))' for text in texts)
    engine = DuckDBEngine(NoTables())
    found = [engine.query(query, now=NOW).tuples() for query in (columns, constants)]
    assert sorted(found[0], key=str) == sorted(found[1], key=str)
