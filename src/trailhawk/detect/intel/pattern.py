"""STIX patterns: which equalities one holds, and how they belong together.

`[ipv4-addr:value = '203.0.113.5' OR domain-name:value IN ('a.example', 'b.example')]`, observations joined by
AND, OR and FOLLOWEDBY, with qualifiers. Comparisons that are no equality (LIKE, MATCHES, <, NOT) are passed
over: nothing can be looked up by them.
https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html#_me3pzm77qfnf
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_PATTERN = 100_000
MAX_DEPTH = 50
MAX_COMPARISONS = 1_000
"""Characters, brackets within brackets, and comparisons of a pattern."""

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^'\\]|\\.)*')
    | (?P<path>[A-Za-z][A-Za-z0-9_-]*:[A-Za-z_](?:[A-Za-z0-9_.-]|'[^'\\]{0,100}'|\[(?:\d{1,9}|\*)\])*)
    | (?P<stamp>[tbh]'(?:[^'\\]|\\.)*')
    | (?P<number>[+-]?\d+(?:\.\d+)?)
    | (?P<operator>!=|<=|>=|<>|==|=|<|>)
    | (?P<word>[A-Za-z_]+)
    | (?P<mark>[\[\](),])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ORDER = ("", "OR", "AND", "FOLLOWEDBY")


@dataclass(frozen=True, slots=True)
class Parsed:
    """The equalities of a pattern in order, each once, and the strictest word that joins any two."""

    equalities: tuple[tuple[str, str], ...]
    joined: str
    passed: int
    """Comparisons that are no equality."""


def parse(pattern: str) -> Parsed:
    """The equalities of a pattern. ValueError with the place where it is no STIX pattern."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern of {len(pattern):,} characters; {MAX_PATTERN:,} at most")
    return _Parser(_tokens(pattern)).pattern()


def _tokens(pattern: str) -> list[tuple[str, str, int]]:
    found: list[tuple[str, str, int]] = []
    place, end = 0, len(pattern.rstrip())
    while place < end:
        token = _TOKEN.match(pattern, place)
        if token is None:
            place += len(pattern) - place - len(pattern[place:].lstrip())
            raise ValueError(f"no STIX pattern at character {place + 1}: {pattern[place : place + 20]!r}")
        kind = str(token.lastgroup)
        found.append((kind, token[kind], token.start(kind)))
        place = token.end()
    return found


class _Parser:
    """A walk over the tokens: brackets must close, comparisons have two sides."""

    def __init__(self, tokens: list[tuple[str, str, int]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._found: dict[tuple[str, str], None] = {}
        self._passed = 0
        self._joined = ""

    def pattern(self) -> Parsed:
        self._observations(0)
        if self._at < len(self._tokens):
            raise self._wrong("the end")
        return Parsed(tuple(self._found), self._joined, self._passed)

    # Observations: [..] joined and qualified.

    def _observations(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError(f"a pattern nested deeper than {MAX_DEPTH}")
        while True:
            if self._takes("("):
                self._observations(depth + 1)
                self._expect(")")
            else:
                self._expect("[")
                self._comparisons(depth + 1)
                self._expect("]")
            self._qualifiers()
            word = self._word()
            if word not in ("AND", "OR", "FOLLOWEDBY"):
                return
            self._at += 1
            self._join(word)

    def _qualifiers(self) -> None:
        while self._word() in ("WITHIN", "REPEATS", "START"):
            self._at += 1
            while self._at < len(self._tokens) and self._word() not in ("SECONDS", "TIMES"):
                kind, text, _ = self._tokens[self._at]
                if kind == "mark" or text.upper() in (
                    "AND",
                    "OR",
                    "FOLLOWEDBY",
                    "WITHIN",
                    "REPEATS",
                    "START",
                ):
                    break  # START .. STOP .. ends without a word of its own
                self._at += 1
            if self._word() in ("SECONDS", "TIMES"):
                self._at += 1

    # Comparisons within [..].

    def _comparisons(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError(f"a pattern nested deeper than {MAX_DEPTH}")
        while True:
            if self._takes("("):
                self._comparisons(depth + 1)
                self._expect(")")
            else:
                self._comparison()
            word = self._word()
            if word not in ("AND", "OR"):
                return
            self._at += 1
            self._join(word)

    def _comparison(self) -> None:
        if self._word() == "EXISTS":
            self._at += 1
            self._next("path", "a path")
            self._passed += 1
            return
        path = self._next("path", "a path such as ipv4-addr:value")
        negated = self._word() == "NOT"
        self._at += negated
        kind, text, _ = self._peek()
        self._at += 1
        if kind == "operator":
            values = [self._value()]
            is_equal = text in ("=", "==")
        elif kind == "word" and text.upper() == "IN":
            values, is_equal = self._values(), True
        elif kind == "word" and text.upper() in ("LIKE", "MATCHES", "ISSUBSET", "ISSUPERSET"):
            values = [self._value()]
            # A network in which the address lies: an equality with a network.
            is_equal = text.upper() == "ISSUBSET"
        else:
            self._at -= 1
            raise self._wrong("an operator")
        if negated or not is_equal:
            self._passed += 1
            return
        for value in values:
            self._found[path, value] = None
        if len(self._found) > MAX_COMPARISONS:
            raise ValueError(f"a pattern of more than {MAX_COMPARISONS:,} comparisons")

    def _values(self) -> list[str]:
        self._expect("(")
        values = [self._value()]
        while self._takes(","):
            values.append(self._value())
        self._expect(")")
        if len(values) > 1:
            self._join("OR")
        return values

    def _value(self) -> str:
        kind, text, _ = self._peek()
        if kind not in ("text", "stamp", "number", "word"):
            raise self._wrong("a value")
        self._at += 1
        if kind in ("text", "stamp"):
            return _ESCAPE.sub(r"\1", text[text.index("'") + 1 : -1])
        return text

    # Tokens.

    def _join(self, word: str) -> None:
        self._joined = max(self._joined, word, key=_ORDER.index)

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "", -1)

    def _word(self) -> str:
        kind, text, _ = self._peek()
        return text.upper() if kind == "word" else ""

    def _takes(self, mark: str) -> bool:
        taken = self._peek()[:2] == ("mark", mark)
        self._at += taken
        return taken

    def _expect(self, mark: str) -> None:
        if not self._takes(mark):
            raise self._wrong(f"'{mark}'")

    def _next(self, kind: str, what: str) -> str:
        found, text, _ = self._peek()
        if found != kind:
            raise self._wrong(what)
        self._at += 1
        return text

    def _wrong(self, expected: str) -> ValueError:
        _, text, place = self._peek()
        found = f"'{text[:40]}' at character {place + 1}" if place >= 0 else "the end"
        return ValueError(f"no STIX pattern: {expected} expected, found {found}")
