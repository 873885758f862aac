"""The place in the tokens of a query, and the errors about what comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import TypeVar

from trailhawk.errors import KqlSyntaxError, LimitError, QueryError, Span
from trailhawk.kql import lexer
from trailhawk.kql.lexer import BAD, END, NAME
from trailhawk.kql.parser.habits import habit, left_out

OPENING = {"(": ")", "[": "]", "{": "}"}
CLOSING = frozenset(OPENING.values())

_Item = TypeVar("_Item")


class Cursor:
    """One reading of one text. `at` is the place in the tokens; every method reads one thing and moves on.

    `height` is the height of the tallest expression read since it was last set to 0, see `binary`."""

    def __init__(
        self, text: str, max_depth: int, found: list[QueryError] | None = None, *, base: int = 0
    ) -> None:
        self.text = text
        tokens = lexer.tokens(text)
        self.kinds = tokens.kinds
        self.words = tokens.texts
        self.base = base
        self.starts = [base + start for start in tokens.starts] if base else tokens.starts
        self.ends = [base + end for end in tokens.ends] if base else tokens.ends
        self.at = 0
        self.depth = 0
        self.max_depth = max_depth
        self.height = 0
        self.found = found

    def span(self, start: int) -> Span:
        """From the token at place `start` to the last one read."""
        return Span(self.starts[start], self.ends[self.at - 1] if self.at > start else self.starts[start])

    def here(self) -> Span:
        return Span(self.starts[self.at], self.ends[self.at])

    def is_word(self, word: str, ahead: int = 0) -> bool:
        place = self.at + ahead
        return place < len(self.words) and self.words[place] == word

    def kind(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.kinds[place] if place < len(self.kinds) else END

    def take(self, word: str) -> bool:
        """Read this word if it comes next."""
        if self.words[self.at] == word and self.kinds[self.at] != END:
            self.at += 1
            return True
        return False

    def need(self, *words: str, hint: str = "") -> str:
        """Read one of these words; anything else is an error, which shows how it is written (`hint`)."""
        word = self.words[self.at]
        if word in words and self.kinds[self.at] != END:
            self.at += 1
            return word
        raise self.unexpected(
            " or ".join(f"'{word}'" for word in words), near=words, hint=self.unclosed(words) or hint
        )

    def unexpected(self, wanted: str, *, near: Iterable[str] = (), hint: str = "") -> KqlSyntaxError:
        """The error for the token that comes next."""
        word, kind = self.words[self.at], self.kinds[self.at]
        known = habit(self.words, self.kinds, self.at)
        if kind == BAD:
            found = lexer.bad_token(self.text, self.starts[self.at] - self.base)
            return KqlSyntaxError(found, self.here(), hint=known)
        hint = known or hint
        shown = (
            "the end of the query" if kind == END else f"'{word if len(word) < 60 else word[:57] + '...'}'"
        )
        if not hint and kind == NAME and len(word) > 2:
            close = get_close_matches(word[:60], list(near), n=1, cutoff=0.6)
            hint = f"did you mean '{close[0]}'?" if close else ""
        hint = hint or left_out(self.words, self.kinds, self.at)
        return KqlSyntaxError(f"expected {wanted}, found {shown}", self.here(), hint=hint)

    def unclosed(self, words: tuple[str, ...]) -> str:
        """Where one of these closing brackets is missing: the place of the one that it would close."""
        wanted = {opening for opening, closing in OPENING.items() if closing in words}
        if not wanted or (self.kinds[self.at] != END and self.words[self.at] not in ("|", ";")):
            return ""
        level = 0
        for place in range(self.at - 1, -1, -1):
            word = self.words[place]
            if word in CLOSING:
                level += 1
            elif word in OPENING:
                if level == 0 and word in wanted:
                    start = self.starts[place] - self.base
                    line, column = Span(start, start).position(self.text)
                    return f"the '{word}' at {line}:{column} is not closed"
                level -= 1
        return ""

    def enter(self) -> None:
        """One level deeper; every `enter` has its `leave` unless an error ends the reading."""
        self.depth += 1
        if self.depth > self.max_depth:
            raise LimitError(
                f"more than {self.max_depth} levels of nesting",
                self.here(),
                hint="split it with let statements",
            )

    def leave(self) -> None:
        self.depth -= 1
        self.height += 1

    def listed(self, read: Callable[[], _Item]) -> tuple[_Item, ...]:
        """One or more items with commas between."""
        items = [read()]
        while self.take(","):
            items.append(read())
        return tuple(items)
