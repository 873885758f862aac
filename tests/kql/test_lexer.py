"""Tokens, and what text literals stand for."""

from __future__ import annotations

import pytest

from trailhawk.errors import KqlSyntaxError, Span
from trailhawk.kql import lexer


def kinds(text: str) -> list[tuple[str, str]]:
    read = lexer.tokens(text)
    return list(zip(read.kinds, read.texts, strict=True))[:-1]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("abc", "name"),
        ("$left", "name"),
        ("_a1", "name"),
        ("1a", "name"),
        ("3Dchart", "name"),
        ("project-away", "name"),
        ("in~", "name"),
        ("12", "long"),
        ("0x1F", "hex"),
        ("1.5", "real"),
        ("1.", "real"),
        ("1e3", "real"),
        ("1.5E-3", "real"),
        ("1d", "timespan"),
        ("1.5h", "timespan"),
        ("10microseconds", "timespan"),
        ("datetime(2020-01-01 10:00)", "typed"),
        ("guid(74be27de-1e4e-49d9-b579-fe0b331d3642)", "typed"),
        ("!in~", "symbol"),
        ("!has_cs", "symbol"),
        ("..", "symbol"),
        ("'a'", "string"),
        ('h"a"', "string"),
        ("@'a''b'", "string"),
        ("```a\n'b'```", "string"),
        ("é", "bad"),
        ("?", "bad"),
    ],
)
def test_one_token(text: str, kind: str) -> None:
    assert kinds(text) == [(kind, text)]


def test_tokens_that_touch() -> None:
    assert [word for _, word in kinds("1..5")] == ["1", "..", "5"]
    assert [word for _, word in kinds("a-->b")] == ["a", "-", "-", ">", "b"]
    assert [word for _, word in kinds("a!=b//c\n|d")] == ["a", "!=", "b", "|", "d"]
    assert [word for _, word in kinds("mv-expand x-y")] == ["mv-expand", "x", "-", "y"]


def test_blanks_of_the_web() -> None:
    assert [word for _, word in kinds("\ufeffT\u00a0|\u200b take 1")] == ["T", "|", "take", "1"]


def test_places() -> None:
    read = lexer.tokens("T  | take 10")
    assert (read.starts, read.ends) == ([0, 3, 5, 10, 12], [1, 4, 9, 12, 12])


@pytest.mark.parametrize(
    ("token", "value"),
    [
        (r"'a\'b'", "a'b"),
        (r'"a\"b\\c"', 'a"b\\c'),
        (r"'\t\n\r\a\b\f\v'", "\t\n\r\a\b\f\v"),
        (r"'\u00e9\x41\101\U0001F600'", "éAA😀"),
        (r"'\ud83d\ude00'", "😀"),
        (r"'\ud83d'", "\ufffd"),
        (r"@'c:\temp\'", "c:\\temp\\"),
        ("@'a''b'", "a'b"),
        ('@"a""b"', 'a"b'),
        ("h'secret'", "secret"),
        ("H@'x'", "x"),
        ("```a\nb```", "a\nb"),
        ("~~~a'b~~~", "a'b"),
        ("''", ""),
    ],
)
def test_string_values(token: str, value: str) -> None:
    assert kinds(token)[0][0] == "string"
    assert lexer.string_value(token, Span(0, len(token))) == value


@pytest.mark.parametrize("token", [r"'\d'", r"'\u12'", r"'\U00110000'", r"'\x4'"])
def test_wrong_escapes(token: str) -> None:
    with pytest.raises(KqlSyntaxError, match="no escape"):
        lexer.string_value(token, Span(0, len(token)))
