"""Regular expressions as the engine takes them."""

from __future__ import annotations

import re

import pytest

from trailhawk.errors import UnsupportedError
from trailhawk.kql.functions.expressions import re2


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
        (r"(?-u:\b)a(?u)b(?iu)c(?i-u:d)", r"(?:\b)a(?:)b(?i)c(?i:d)"),
        ("(?x) a [ b ] # no (group\n c\\ d", "(?:)a[b]c\\ d"),
        ("(?x: a b) c", "(?:ab) c"),
        ("a (?x) b ( c (?-x) d ) e", "a (?:)b(c(?:) d )e"),
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
