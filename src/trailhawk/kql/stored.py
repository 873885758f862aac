"""Stored functions: KQL files, one function each, that every query may call by the file's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trailhawk.errors import KqlSyntaxError, NotFoundError, QueryError, Span
from trailhawk.kql import syntax
from trailhawk.kql.parser import parse_function
from trailhawk.kql.parser.limits import MAX_LENGTH
from trailhawk.kql.records import field_names
from trailhawk.kql.scope import suggestion

_BASE = 1 << 32
_ROOM = 1 << 24
assert _ROOM > MAX_LENGTH
"""Spans in a stored function count from a base of its own, beyond those of every query."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class StoredFunction:
    """One file: its name is the function's, `source` says where it lies, `base` where its spans begin.

    `text` is None where the file is not text.
    """

    name: str
    text: str | None
    source: str
    base: int = _BASE

    @property
    def documentation(self) -> str:
        """The comment lines at the top."""
        lines = []
        for line in (self.text or "").splitlines():
            if not line.startswith("//"):
                break
            lines.append(line.lstrip("/").strip())
        return "\n".join(lines).strip()

    @cached_property
    def value(self) -> syntax.Function:
        """What it says; QueryError with file, line and column where that is no KQL."""
        if self.text is None:
            raise KqlSyntaxError(f"{self.source} is not UTF-8 text")
        try:
            return parse_function(self.text, base=self.base)
        except QueryError as error:
            where = "" if error.span is None else ":{}:{}".format(*self.own(error.span).position(self.text))
            raise error.again(None, f"{self.source}{where}: {error.message}") from None

    @property
    def fault(self) -> str:
        """Why it cannot be called, '' where it can."""
        try:
            _ = self.value
        except QueryError as error:
            return str(error)
        return ""

    @property
    def parameters(self) -> str:
        """The parameters as they are written, '' where there are none."""
        if self.text is None or self.fault or not self.value.parameters:
            return ""
        given = self.value.parameters
        first, last = self.own(given[0].span), self.own(given[-1].span)
        return " ".join(self.text[first.start : last.end].split())

    def own(self, span: Span) -> Span:
        """A span as a place in this text."""
        return Span(max(0, span.start - self.base), max(0, span.end - self.base))


class Functions(Mapping[str, syntax.Function]):
    """The stored functions of a workspace; a later one replaces an earlier one of the same name."""

    def __init__(self, stored: Iterable[StoredFunction] = ()) -> None:
        latest = {function.name: function for function in stored}
        self._stored = {
            function.name: StoredFunction(
                function.name, function.text, function.source, _BASE + place * _ROOM
            )
            for place, function in enumerate(sorted(latest.values(), key=lambda one: one.name.lower()))
        }

    def __getitem__(self, name: str) -> syntax.Function:
        return self._stored[name].value

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def all(self) -> tuple[StoredFunction, ...]:
        """All of them by name."""
        return tuple(self._stored.values())

    def named(self, name: str) -> StoredFunction:
        """The function of this name; NotFoundError with the nearest name where there is none."""
        if name not in self._stored:
            raise NotFoundError(f"there is no stored function '{name}'", hint=suggestion(name, self))
        return self._stored[name]

    def explained(self, error: QueryError, query: syntax.Query) -> QueryError:
        """The error as one of the query's own text: an error in a function stands where that is called."""
        if error.span is None or error.span.start < _BASE:
            return error
        function = self.all()[(error.span.start - _BASE) // _ROOM]
        line, column = function.own(error.span).position(function.text or "")
        message = f"{error.message} (in function '{function.name}' at {line}:{column})"
        return error.again(self._call_of(function.name, query), message)

    def _call_of(self, name: str, query: syntax.Query) -> Span | None:
        """Where the query first calls this function, itself or by way of others."""
        leading = {name}
        while True:
            more = {
                function.name
                for function in self.all()
                if function.name not in leading and leading & set(_WORD.findall(function.text or ""))
            }
            if not more:
                break
            leading |= more
        for node in _nodes(query):
            if isinstance(node, syntax.Name) and node.text in leading:
                return node.span
            if isinstance(node, syntax.Call) and node.name in leading:
                return node.name_span
        return None


def read_functions(folder: Path) -> list[StoredFunction]:
    """The functions of a folder's `*.kql` files; none where there is no such folder.

    A file that cannot be called is no error yet: it must not cost the other queries.
    """
    return [
        StoredFunction(path.stem, _text(path), str(path))
        for path in sorted(folder.glob("*.kql"))
        if path.is_file()
    ]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return None


def _nodes(node: object) -> Iterator[syntax.Node]:
    """A syntax node and all below it, in the order of the text."""
    if isinstance(node, tuple):
        for item in node:
            yield from _nodes(item)
    elif isinstance(node, syntax.Node):
        yield node
        for name in field_names(node):
            yield from _nodes(getattr(node, name))
