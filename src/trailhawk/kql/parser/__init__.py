"""Tokens to syntax tree: recursive descent for statements and operators, precedence climbing for expressions.

Reference: https://learn.microsoft.com/kusto/query/ and the grammar Microsoft publishes beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from trailhawk.errors import LimitError, QueryError
from trailhawk.kql import syntax
from trailhawk.kql.parser.limits import MAX_DEPTH, MAX_LENGTH
from trailhawk.kql.parser.statements import Statements

_Item = TypeVar("_Item")


def parse(text: str, *, max_depth: int = MAX_DEPTH, max_length: int = MAX_LENGTH) -> syntax.Query:
    """The tree of a query. Raises KqlSyntaxError where the text is no KQL, LimitError beyond the bounds."""
    _check_length(text, max_length)
    return _guarded(Statements(text, max_depth).query)


def parse_function(text: str, *, base: int = 0) -> syntax.Function:
    """A stored function: `(parameters) { body }`, or a query, which is one without parameters.

    Its spans count from `base`, so that texts of one compilation can be told apart. Errors as for `parse`.
    """
    _check_length(text, MAX_LENGTH)
    return _guarded(Statements(text, MAX_DEPTH, base=base).stored_function)


def problems(
    text: str, *, max_depth: int = MAX_DEPTH, max_length: int = MAX_LENGTH
) -> tuple[QueryError, ...]:
    """Everything wrong with a query, in order: after an error reading goes on at the next `|` or `;`."""
    found: list[QueryError] = []
    try:
        _check_length(text, max_length)
        _guarded(Statements(text, max_depth, found).query)
    except QueryError as error:
        found.append(error)
    return tuple(found)


def _check_length(text: str, max_length: int) -> None:
    if len(text) > max_length:
        raise LimitError(f"a query of {len(text):,} characters; at most {max_length:,} are read")


def _guarded(read: Callable[[], _Item]) -> _Item:
    try:
        return read()
    except RecursionError:
        raise LimitError("the query nests too deep", hint="split it with let statements") from None
