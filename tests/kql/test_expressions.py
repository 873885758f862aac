"""Regular expressions as the engine takes them."""

from __future__ import annotations

import random
import re

import duckdb
import pytest
from sqlglot import exp

from trailhawk.errors import UnsupportedError
from trailhawk.kql.functions import sql
from trailhawk.kql.functions.expressions import matches, re2, takes_a_character


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"(?<year>\d+)-(?P<month>\d+)", r"(?P<year>\d+)-(?P<month>\d+)"),
        (r"\(?<a>", r"\(?<a>"),
        (r"[(?<a>](?<b>x)", r"[(?<a>](?P<b>x)"),
        (r"[a[](?<b>x)", r"[a[](?P<b>x)"),
        (r"[]a](?<b>x)", r"[]a](?P<b>x)"),
        (r"[^]a\]](?<b>x)", r"[^]a\]](?P<b>x)"),
        (r"[[:alpha:](?<a>]+(?<b>x)", r"[[:alpha:](?<a>]+(?P<b>x)"),
        (r"\u00e9\u{e9}\U000000e9\U{E9}", r"\x{00e9}\x{e9}\x{000000e9}\x{E9}"),
        (r"\\u0041", r"\\u0041"),
        (r"(?-u:\b)a(?u)b(?iu)c(?i-u:d)", r"(?:\b)ab(?i)c(?i:d)"),
        ("(?x) a [ b ] # no (group\n c\\ d", "a[b]c\\ d"),
        ("(?x: a b) c", "(?:ab) c"),
        ("a (?x) b ( c (?-x) d ) e", "a b(c d )e"),
        (r"(?sx-i) a .", r"(?s-i)a."),
    ],
)
def test_in_the_syntax_of_the_engine(pattern: str, expected: str) -> None:
    assert re2(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "piece"),
    [
        ("[a-z&&[^b]]", "&&"),
        (r"a[\w&&x]b", "&&"),
        ("[0-9--4]+", "--"),
        ("[a-g~~b-h]", "~~"),
        ("[x[^xyz]]", "["),
        ("[^[:alpha:][0-9]]", "["),
        (r"\b{start}a", r"\b{start}"),
        (r"a\b{end-half}", r"\b{end-half}"),
        (r"\<a", r"\<"),
        ("a(?i)*", "*"),
        ("a(?x) # nothing\n {2}", "{2}"),
        (r"a\>", r"\>"),
    ],
)
def test_what_the_engine_would_read_as_something_else(pattern: str, piece: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(f"'{piece}'")):
        re2(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "a&&b--c~~d",
        r"[a\-\-b]",
        "[--9]",
        "[^--9]",
        "[^[]+",
        r"\[([^[\]]+)\]",
        "[]&]&[&]",
        r"[\[&]&&",
        r"\Q[a&&b]\E",
        r"\b{2}" + "a",
        r"\\<a",
    ],
)
def test_what_only_looks_alike(pattern: str) -> None:
    assert re2(pattern) == pattern


@pytest.mark.parametrize(
    "pattern",
    [
        "a",
        "(a|b)",
        "a{1,2}",
        r"\.",
        "[]a]",
        "[^]]*x",
        "(?P<n>a)|b",
        r"\d+?",
        "(?i)a",
        "((a)|(b))(c)?",
        "^.$",
        r"\x61",
        r"\x{61}",
        r"\pL",
        r"\p{Greek}|a",
        r"\P{^L}",
        "(?:)a",
    ],
)
def test_a_pattern_that_takes_a_character(pattern: str) -> None:
    assert takes_a_character(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a*",
        "a|",
        "(a|b)?",
        "^$",
        r"\b",
        "[[:alpha:]]*",
        "a{0}",
        "a{00,2}",
        "(?:a*)+",
        r"\pN*",
        r"\Q\E",
        "a(?i)*",
        r"\x{61}?",
        "(?:)",
    ],
)
def test_a_pattern_that_may_match_nothing_is_matched(pattern: str) -> None:
    assert not takes_a_character(pattern)
    assert matches(sql.literal("x"), pattern).name == "regexp_matches"


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?u)\u00e9",
        r"(?u)\x61",
        r"\x61(?u)",
        r"(?u:)\x2f",
        "(?:)a",
        "a(?:)",
        "()a",
        "(?i:)a(?i:)",
        "(?:)$",
        r"(?:)\Qa\E",
        r"(?:(?s))\07",
        r"(?:){1}$",
        "{(?:)",
        r"\Q(?:\Ea",
    ],
)
def test_a_group_of_nothing_is_no_edge(pattern: str) -> None:
    bare = ["a", "é", "/", "\7", "{", "(?:a"]
    texts = ["", None, *bare, *("b" + each for each in bare), *(each + "b" for each in bare)]
    connection = duckdb.connect()
    connection.execute("CREATE TABLE texts AS SELECT unnest($1::VARCHAR[]) AS x", [texts])
    connection.execute("CREATE TABLE patterns AS SELECT $1 AS p", [re2(pattern)])
    right = connection.execute("SELECT x FROM texts, patterns WHERE regexp_matches(x, p)").fetchall()
    written = matches(exp.column("x"), re2(pattern)).sql("duckdb")
    found = connection.execute(f"SELECT x FROM texts WHERE {written}").fetchall()
    assert sorted(found) == sorted(right) != []


@pytest.mark.parametrize("pattern", ["*(?:)", "{2}(?:)", "?(?i)a"])
def test_what_is_no_expression_stays_none(pattern: str) -> None:
    written = matches(exp.column("x"), pattern).sql("duckdb")
    with pytest.raises(duckdb.InvalidInputException, match="repetition"):
        duckdb.execute(f"SELECT {written} FROM (SELECT 'a' AS x)")


def test_extracting_finds_what_matching_finds() -> None:
    """Of patterns made of pieces, over texts with line ends, and letters that change their case oddly."""
    pieces = [
        "a",
        "b",
        ".",
        r"\n",
        "[ab]",
        "[^a]",
        "é",
        r"\d",
        "^",
        "$",
        r"\b",
        "(a|b)",
        "(?:a|)",
        "k",
        r"\.",
    ]
    often = ["", "", "*", "+", "?", "{2}", "{0,1}", "*?", "|"]
    texts = ["", "a", "b", "ab", "a\nb", "\n", "é", "1", "aé1\n", "x.b", "\u212a", "bba\n", None]
    chance = random.Random(1)
    connection = duckdb.connect()
    connection.execute("CREATE TABLE texts AS SELECT unnest($1::VARCHAR[]) AS x", [texts])
    extracted = 0
    for _ in range(400):
        pattern = "".join(chance.choice(pieces) + chance.choice(often) for _ in range(chance.randint(1, 4)))
        fold = chance.random() < 0.5
        written = matches(exp.column("x"), pattern, fold=fold).sql("duckdb")
        options = ", 'i'" if fold else ""
        query = (
            f"SELECT x FROM texts WHERE regexp_matches(x, '{pattern}'{options}) IS DISTINCT FROM ({written})"
        )
        assert not connection.execute(query).fetchall(), pattern
        extracted += "EXTRACT" in written
    assert extracted > 100
