"""Log text in a query means itself, whatever it holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given
from hypothesis import strategies as st

from trailhawk.incidents.literal import moment, string, strings
from trailhawk.kql import syntax
from trailhawk.kql.parser import parse


@given(st.text())
@example("\x000: a digit behind a zero byte is no part of its escape")
def test_a_text_comes_back_as_it_was(text: str) -> None:
    assert [n.value for n in literals(parse(f"print {string(text)}"))] == [text]


def literals(node: object) -> list[syntax.Literal]:
    """All literals of a tree."""
    if isinstance(node, syntax.Literal):
        return [node]
    if isinstance(node, tuple):
        return [found for item in node for found in literals(item)]
    if not isinstance(node, syntax.Node):
        return []
    slots = [name for kind in type(node).__mro__ for name in getattr(kind, "__slots__", ())]
    return [found for name in slots for found in literals(getattr(node, name))]


def test_a_list_of_nothing_matches_nothing() -> None:
    assert strings([]) == "(dynamic([]))"
    assert strings(['a"b', "c"]) == '("a\\"b", "c")'


def test_a_moment_is_told_in_utc() -> None:
    here = timezone(timedelta(hours=2))
    assert moment(datetime(2026, 3, 1, 14, tzinfo=here)) == "datetime(2026-03-01T12:00:00.000000Z)"
    assert moment(datetime(2026, 3, 1, 14, tzinfo=UTC)) == "datetime(2026-03-01T14:00:00.000000Z)"
