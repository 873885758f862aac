"""One tree of errors, and the `Span` that says where in a query text one stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range of character offsets in a query text."""

    start: int
    end: int

    def position(self, text: str) -> tuple[int, int]:
        """Line and column of the start, both counted from 1."""
        line_start = text.rfind("\n", 0, self.start) + 1
        return text.count("\n", 0, self.start) + 1, self.start - line_start + 1

    def to(self, other: Span) -> Span:
        """The range from the start of this one to the end of the other."""
        return Span(self.start, max(self.end, other.end))


class TrailhawkError(Exception):
    """What went wrong, and (`hint`) what to do about it."""

    kind = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(TrailhawkError):
    """The caller asked for something that cannot be meant: a wrong flag, a wrong path."""

    kind = "usage"


class NotFoundError(TrailhawkError):
    """A thing named by the caller does not exist."""

    kind = "not found"


class SourceError(TrailhawkError):
    """Log bytes that a source cannot read."""

    kind = "source"


class RuleError(TrailhawkError):
    """A rule file that cannot be loaded, or a rule that cannot run. `source` is the file, where files of a
    folder are read one after the other."""

    kind = "rule"
    source = ""


class LakeError(TrailhawkError):
    """The lake's files cannot be read or written."""

    kind = "lake"


class StateError(TrailhawkError):
    """The state database cannot be read or written."""

    kind = "state"


class QueryError(TrailhawkError):
    """A query that cannot run, with the place in its text.

    `code` tells programs what is wrong: `unknown-table`, `unknown-column`, `unknown-function`,
    `unknown-operator`, `wrong-type`, `wrong-arguments`, or else the error's kind.
    """

    kind = "query"

    def __init__(self, message: str, span: Span | None = None, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.span = span
        self.code = code or self.kind.replace(" ", "-")

    def again(self, span: Span | None, message: str = "") -> Self:
        """The same error at another place, and with another message where one is given."""
        return type(self)(message or self.message, span, hint=self.hint, code=self.code)

    def located(self, text: str, *, first_line: int = 0) -> str:
        """The message with line and column, on one line; also a file's line, where the text stands in it
        from line `first_line` on."""
        told = f"{self.kind}: {self.message}".replace("\n", "\\n")  # a name in it may hold one
        if self.span is None:
            return told
        line, column = self.span.position(text)
        of_file = f", line {first_line + line - 1} of the file" if first_line else ""
        return f"{told} at {line}:{column}{of_file}"

    def render(self, text: str) -> str:
        """The message with line and column, the line itself, and a caret under the place."""
        if self.span is None:
            return f"{self.kind}: {self}"
        line, column = self.span.position(text)
        source = text.split("\n")[line - 1]
        width = max(1, min(self.span.end - self.span.start, len(source) - column + 1))
        # A long line is cut to a window around the place, so that the caret stays under it.
        left = max(0, column - 1 - 80)
        shown = source[left : left + 160].replace("\t", " ")
        caret = " " * (column - 1 - left) + "^" * min(width, 160 - (column - 1 - left))
        hint = f"\n{self.hint}" if self.hint else ""
        return f"{self.located(text)}\n  {shown}\n  {caret}{hint}"


class KqlSyntaxError(QueryError):
    """Text that is not KQL."""

    kind = "syntax"


class BindingError(QueryError):
    """KQL that names what does not exist or mixes types that do not go together."""

    kind = "binding"


class UnsupportedError(QueryError):
    """KQL that Microsoft's engine runs and this one does not yet; never guessed at."""

    kind = "unsupported"


class NotAllowedError(QueryError):
    """A query that asks for something outside that the settings do not allow; a rule is skipped then."""

    kind = "not allowed"


class LimitError(QueryError):
    """A query stopped at a limit of time, memory, depth or size."""

    kind = "limit"


def raised(error: TrailhawkError) -> None:
    """For what else would be told and gone on with: it ends there."""
    raise error
