"""A check of a query: all its errors with code, place and suggestion, or the columns of its results."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from trailhawk.kql.compiler import Checked, check
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.stored import Functions, StoredFunction
from trailhawk.kql.types import KqlType

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EVENTS = Table(
    "Events",
    (
        Column("TimeGenerated", KqlType.DATETIME),
        Column("EventName", KqlType.STRING),
        Column("ErrorCode", KqlType.STRING),
        Column("Size", KqlType.LONG),
    ),
)


class OneTable:
    def table(self, name: str) -> Table | None:
        return EVENTS if name == "Events" else None

    def table_names(self) -> tuple[str, ...]:
        return ("Events",)


def checked(text: str, functions: Functions | None = None) -> Checked:
    return check(text, OneTable(), now=NOW, functions=functions)


def told(text: str) -> list[tuple[str, str, str]]:
    """Code, place and suggestion of each error."""
    return [
        (error.code, "" if error.span is None else text[error.span.start : error.span.end], error.hint)
        for error in checked(text).errors
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Event | take 5", ("unknown-table", "Event", "did you mean 'Events'?")),
        ("events | take 5", ("unknown-table", "events", "did you mean 'Events'?")),
        ("Events | where EventNam == 'x'", ("unknown-column", "EventNam", "did you mean 'EventName'?")),
        ("Events | project eventname", ("unknown-column", "eventname", "did you mean 'EventName'?")),
        ("Events | project-away Siz", ("unknown-column", "Siz", "did you mean 'Size'?")),
        ("Events | extend n = strln(EventName)", ("unknown-function", "strln", "did you mean 'strlen'?")),
        ("Events | summarize cont() by Size", ("unknown-function", "cont", "did you mean 'count'?")),
        ("Events | invoke f()", ("unknown-function", "f", "")),
        ("Events | evaluate pivt(Size)", ("unknown-function", "pivt", "did you mean 'pivot'?")),
        ("Events | sumarize count()", ("unknown-operator", "sumarize", "did you mean 'summarize'?")),
        ("Events | project-awy Size", ("unknown-operator", "project-awy", "did you mean 'project-away'?")),
        ("Events where Size == 1", ("syntax", "where", "did you forget the '|' before 'where'?")),
        ("Events | where Size = 1", ("syntax", "=", "did you mean '=='?")),
        ("Events | where (Size = 1)", ("syntax", "=", "did you mean '=='?")),
        ("Events | where (Size == 1", ("syntax", "", "the '(' at 1:16 is not closed")),
        ("Events\n| where a in (1, 2 | take 5", ("syntax", "|", "the '(' at 2:14 is not closed")),
        ("Events | where Size == 1)", ("syntax", ")", "this ')' closes nothing")),
        ("Events | where Size == 1 && Size == 2", ("syntax", "&", "'&&' is written 'and'")),
        ("Events | where Size == 1 || Size == 2", ("syntax", "|", "'||' is written 'or'")),
        ("Events | where Size == 1 AND Size == 2", ("syntax", "AND", "did you mean 'and'?")),
        ("Events | where EventName is null", ("syntax", "is", "use isnull() or isempty()")),
        ("Events | where EventName == “x”", ("syntax", "“", "a text stands in straight quotes")),
        ("Events | where EventName == 'x", ("syntax", "'", "")),
        ("Events | count by Size", ("syntax", "by", "did you mean 'summarize count() by ...'?")),
        ("Events | where EventName", ("wrong-type", "EventName", "")),
        (
            "Events | extend s = substring(EventName)",
            ("wrong-arguments", "substring(EventName)", "it is substring(source, start, [length])"),
        ),
        ("Events | __executeAndCache", ("unsupported", "__executeAndCache", "")),
    ],
)
def test_common_slips(text: str, expected: tuple[str, str, str]) -> None:
    assert told(text) == [expected]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (
            "Events | where EventNam == 'x' | where ErorCode == 'y' | sort by Siz",
            ["EventNam", "ErorCode", "Siz"],
        ),
        ("Events | where Size = 1 | where Size == | summarize a=1 b=2 by Size | take", ["=", "|", "b", ""]),
        ("let f = (a: long) { a + }; let g = 3 3; print f(g", ["}", "3", ""]),
        ("Events | wher Size == 1 | take", ["wher", ""]),
        ("Events | join (Events | where Nam == 1) on EventNme", ["Nam", "EventNme"]),
        ("Events | where Nam == 1 | extend x = Siz | where Nope", ["Nam", "Siz"]),
    ],
)
def test_several_errors_at_once(text: str, places: list[str]) -> None:
    assert [place for _, place, _ in told(text)] == places


def test_an_error_is_told_once_however_often_its_table_is_used() -> None:
    assert [place for _, place, _ in told("let t = Events | where Nam == 1; union t, t")] == ["Nam"]


def test_there_is_a_bound_on_what_is_told() -> None:
    assert len(checked("Events" + " | where Size = 1" * 100).errors) <= 20
    assert len(checked("Events" + " | where Nope == 1" * 100).errors) <= 20


def test_the_columns_of_each_result() -> None:
    found = checked("Events | project EventName, n = Size * 2 | fork a = (take 1) (count)")
    shapes = [(name, [(c.name, c.type.value) for c in columns]) for name, columns in found.results]
    assert found.errors == ()
    assert shapes == [("a", [("EventName", "string"), ("n", "long")]), ("", [("Count", "long")])]


def test_an_error_in_a_stored_function_stands_where_it_is_called() -> None:
    functions = Functions([StoredFunction("mine", "Events | where Nam == 1", "mine.kql")])
    text = "print 1; mine | take 5"
    (error,) = checked(text, functions).errors
    assert error.code == "unknown-column"
    assert error.span is not None
    assert text[error.span.start : error.span.end] == "mine"


def test_places_count_in_the_text_as_it_was_written() -> None:
    text = "Events | where TimeGenerated > datetime({{StartTimeISO}}) | where Nam == 1 | where Siz == 2"
    assert [place for _, place, _ in told(text)] == ["Nam", "Siz"]


@pytest.mark.parametrize("text", ["", "print " + "(" * 10_000, "Events" + " | where Size == 1" * 10_000])
def test_hostile_texts_have_an_error(text: str) -> None:
    assert checked(text).errors


def test_what_functions_have_against_constants_has_its_place() -> None:
    text = "Events | extend month = format_datetime(TimeGenerated, 'MMM') | summarize percentile(Size, 200)"
    assert [place for _, place, _ in told(text)] == ["format_datetime(TimeGenerated, 'MMM')"]
    assert told("Events | extend bag = bag_pack('a')") == [("binding", "bag_pack('a')", "")]


def test_a_constant_in_a_column_is_not_refused_before_it_is_known() -> None:
    text = "Events | extend part = 'day' | extend day = datetime_part(part, TimeGenerated)"
    assert not checked(text).errors


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Events | extend x = extract_all(EventName, 'x')", "extract_all(EventName, 'x')"),
        (
            "Events | extend x = datetime_part(EventName, TimeGenerated)",
            "datetime_part(EventName, TimeGenerated)",
        ),
        (
            "Events | extend p = 'day' | extend datetime_part(p, now()), datetime_part(EventName, now())",
            "datetime_part(EventName, now())",
        ),
        ("Events | summarize percentile(Size, Size) by EventName", "percentile(Size, Size)"),
        ("Events | summarize make_list(EventName, Size)", "make_list(EventName, Size)"),
        (
            "Events | summarize make_bag(bag_pack(EventName, 1), Size)",
            "make_bag(bag_pack(EventName, 1), Size)",
        ),
        ("let f = (p: string) { Events | extend x = datetime_part(p, TimeGenerated) }; f('day')", None),
        ("Events | extend n = int(2) | summarize make_set(EventName, n)", None),
        ("Events | summarize make_set_if(Size, true, toscalar(Events | count))", None),
        ("let p = 50; Events | summarize percentile(Size, p)", None),
    ],
)
def test_what_wants_a_constant_has_its_place_unless_it_has_one_at_last(text: str, place: str | None) -> None:
    assert [found for _, found, _ in told(text)] == ([] if place is None else [place])


@pytest.mark.parametrize("call", ["make_list(Size, -2)", "make_set(Size, long(null))", "make_bag(d, -1)"])
def test_a_size_is_from_0_up(call: str) -> None:
    text = f"Events | extend d = bag_pack('a', 1) | summarize {call}"
    assert told(text) == [("binding", call, "")]
