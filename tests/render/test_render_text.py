"""Values as text: exact in JSON, harmless everywhere."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import escape
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailhawk.render.text import cell, csv_lines, moment, plain, size, span, to_json
from trailhawk.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größe 文字", "größe 文字"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\x9b31m", "\\x9b31m"),
        ("tag\U000e0041", "tag\\U000e0041"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_nothing_shown_moves_the_cursor(text: str) -> None:
    kinds = {unicodedata.category(character) for character in visible(text)}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(visible(text)) & set("\u200b\u200e\u202e\u2066\ufeff")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_json_is_exact_and_safe(value: object) -> None:
    text = to_json(value)
    assert json.loads(text) == value
    assert text == visible(text)


def test_json_writes_what_json_has_no_word_for() -> None:
    value = {
        "at": datetime(2023, 7, 10, 12, 5, 1, tzinfo=UTC),
        "for": timedelta(days=1, hours=2, microseconds=5),
        "real": float("nan"),
        "decimal": Decimal("1.10"),
        "set": {"b", "a"},
    }
    assert plain(value) == {
        "at": "2023-07-10T12:05:01Z",
        "for": "1.02:00:00.0000050",
        "real": "NaN",
        "decimal": "1.10",
        "set": ["a", "b"],
    }


def test_moment_keeps_a_fraction() -> None:
    assert moment(datetime(2023, 7, 10, 12, 5, 1, 250_000, tzinfo=UTC)) == "2023-07-10T12:05:01.250000Z"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(), "00:00:00"),
        (timedelta(minutes=-5), "-00:05:00"),
        (timedelta(days=14), "14.00:00:00"),
        (timedelta(milliseconds=1), "00:00:00.0010000"),
    ],
)
def test_span(value: timedelta, text: str) -> None:
    assert span(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (9_999, "9,999 bytes"),
        (459_921, "459,921 bytes (449.1 KiB)"),
        (3 << 30, "3,221,225,472 bytes (3.0 GiB)"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


def test_cell() -> None:
    assert [cell(value) for value in (None, True, 1.5, "x\x00", {"a": [1]})] == [
        "",
        "true",
        "1.5",
        "x\\x00",
        '{"a":[1]}',
    ]


def test_csv_guards_formulas_but_not_numbers() -> None:
    lines = list(
        csv_lines(["name", "n"], [["=cmd()", -5], ["@x,y", 1.5], ['say "hi"', None], ["a\nb", True]])
    )
    assert lines == ["name,n", "'=cmd(),-5", '"\'@x,y",1.5', '"say ""hi""",', '"a\nb",true']


@given(st.lists(st.lists(st.text(st.characters(categories=["L", "N", "P", "Zs"])), min_size=2, max_size=2)))
def test_csv_reads_back(rows: list[list[str]]) -> None:
    text = "\r\n".join(csv_lines(["a", "b"], rows))
    back = list(csv.reader(io.StringIO(text)))[1:]
    assert [[value.removeprefix("'") for value in row] for row in back] == [
        [value.removeprefix("'") for value in row] for row in rows
    ]


def test_what_is_shown_can_stand_in_xml() -> None:
    every = visible("".join(map(chr, range(0x11_0000))))
    assert ElementTree.fromstring(f"<a>{escape(every)}</a>").text is not None
