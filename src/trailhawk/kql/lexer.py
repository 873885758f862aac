"""Query text to tokens: one compiled pattern, parallel lists."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trailhawk.errors import KqlSyntaxError, Span
from trailhawk.kql.literals import TIMESPAN_UNITS
from trailhawk.kql.types import TYPE_NAMES

NAME, STRING, LONG, HEX, REAL, TIMESPAN, TYPED, SYMBOL, END, BAD = (
    "name",
    "string",
    "long",
    "hex",
    "real",
    "timespan",
    "typed",
    "symbol",
    "end",
    "bad",
)
"""Kinds of token. `TYPED` is a literal such as `datetime(2020-01-01)`, whole; a keyword is a `NAME`."""

HYPHENATED = (
    "assert-schema",
    "granny-asc",
    "granny-desc",
    "graph-mark-components",
    "graph-match",
    "graph-shortest-paths",
    "graph-to-table",
    "graph-where-edges",
    "graph-where-nodes",
    "macro-expand",
    "make-graph",
    "make-series",
    "mv-apply",
    "mv-expand",
    "parse-kv",
    "parse-where",
    "partitioned-by",
    "project-away",
    "project-by-names",
    "project-keep",
    "project-rename",
    "project-reorder",
    "project-smart",
    "sample-distinct",
    "top-hitters",
    "top-nested",
)
NEGATED = (
    "between",
    "in~",
    "in",
    *(
        word + case
        for word in ("contains", "endswith", "hasprefix", "hassuffix", "has", "startswith")
        for case in ("_cs", "")
    ),
)


TYPED_LITERALS = (*(name for name in TYPE_NAMES if name not in ("string", "dynamic")), "int32", "int64")


def _any(words: tuple[str, ...] | list[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


# U+200B and U+FEFF are blanks to Kusto: queries pasted from web pages hold them.
_BLANK = r"\s\u180e\u200b\ufeff"
# Every repetition that something must follow is possessive (++): no text makes this pattern go back and
# forth, so that reading tokens takes linear time.
_PATTERN = re.compile(
    rf"""
      (?P<blank>(?:[{_BLANK}]+|//[^\n\r]*)++)
    | (?P<typed>(?:{_any(TYPED_LITERALS)})\([^)\n\r]*+\)?)
    | (?P<string>[hH]?(?:
          "[^"\\\n\r]*+(?:\\[^\n\r][^"\\\n\r]*+)*+"
        | '[^'\\\n\r]*+(?:\\[^\n\r][^'\\\n\r]*+)*+'
        | @"[^"\n\r]*+(?:""[^"\n\r]*+)*+"
        | @'[^'\n\r]*+(?:''[^'\n\r]*+)*+'
        | ```.*?``` | ~~~.*?~~~))
    | (?P<name>in~|(?:(?:{_any(HYPHENATED)})(?![\w-])|[A-Za-z_$][A-Za-z0-9_]*))
    | (?P<hex>0[xX][0-9a-fA-F]++(?!\w))
    | (?P<timespan>[0-9]++(?:\.[0-9]++)?(?:{_any(list(TIMESPAN_UNITS))})(?!\w))
    | (?P<real>[0-9]++(?:\.(?!\.)[0-9]*+(?:[eE][+-]?[0-9]++)?|[eE][+-]?[0-9]++)(?!\w))
    | (?P<long>[0-9]++(?!\w))
    | (?P<number_name>[0-9]++[A-Za-z_][A-Za-z0-9_]*)
    | (?P<symbol>!(?:{_any(NEGATED)})(?!\w)|==|=~|=>|!=|!~|<>|<=|>=|\.\.|[-+*/%=<>(){{}}\[\],;:.|])
    | (?P<bad>[0-9]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text, blanks and comments left out; the last one is an `END` of no width."""

    kinds: list[str]
    texts: list[str]
    starts: list[int]
    ends: list[int]


def tokens(text: str) -> Tokens:
    """Never fails: what is no token becomes a `BAD` one, which the parser reports where it meets it."""
    kinds: list[str] = []
    texts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for found in _PATTERN.finditer(text):
        kind = found.lastgroup
        if kind == "blank" or kind is None:
            continue
        start, end = found.span()
        kinds.append(NAME if kind == "number_name" else kind)
        texts.append(found.group())
        starts.append(start)
        ends.append(end)
    kinds.append(END)
    texts.append("")
    starts.append(len(text))
    ends.append(len(text))
    return Tokens(kinds, texts, starts, ends)


_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|[0-3]?[0-7]{1,2}|.)", re.DOTALL)
_SIMPLE_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "/": "/",
}


def string_value(token: str, span: Span) -> str:
    """What a string token of any form stands for. A wrong escape is a KqlSyntaxError."""
    if token[0] in "hH":
        token = token[1:]
    if token.startswith(("```", "~~~")):
        return token[3:-3]
    if token[0] == "@":
        quote = token[1]
        return token[2:-1].replace(quote * 2, quote)
    if "\\" not in token:
        return token[1:-1]
    return _whole(_ESCAPE.sub(lambda found: _escaped(found[1], span), token[1:-1]))


def _escaped(code: str, span: Span) -> str:
    if code in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[code]
    if code[0] in "01234567":
        return chr(int(code, 8))
    number = int(code[1:], 16) if len(code) > 1 else 0x110000
    if number > 0x10FFFF:
        raise KqlSyntaxError(
            f"\\{code} is no escape in a text",
            span,
            hint="write \\\\ for a backslash, or a verbatim text: @'...'",
        )
    return chr(number)


def _whole(text: str) -> str:
    """Surrogate pairs, as JSON writes them, joined to one character; a lone half becomes U+FFFD."""
    if not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def bad_token(text: str, start: int) -> str:
    """What is wrong with the `BAD` token that starts here."""
    rest = text[start : start + 4].lstrip("hH@")
    if rest[:3] in ("```", "~~~"):
        return f"a multi-line text that never ends (no closing {rest[:3]})"
    if rest[:1] in ("'", '"') and rest:
        return f"a text that never ends on its line (no closing {rest[0]})"
    return f"the character {text[start]!r}, which is no part of KQL"
