"""What analysts write by a slip or out of the habit of other languages: the place, and what KQL has."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from trailhawk.kql.compiler import check
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EVENTS = Table(
    "Events",
    (
        Column("TimeGenerated", KqlType.DATETIME),
        Column("EventName", KqlType.STRING),
        Column("Size", KqlType.LONG),
    ),
)
USERS = Table("Users", (Column("Account", KqlType.STRING), Column("Size", KqlType.LONG)))


class TwoTables:
    def table(self, name: str) -> Table | None:
        return {"Events": EVENTS, "Users": USERS}.get(name)

    def table_names(self) -> tuple[str, ...]:
        return ("Events", "Users")


def told(text: str) -> list[tuple[str, str]]:
    """The place and the suggestion of each error."""
    return [
        ("" if error.span is None else text[error.span.start : error.span.end], error.hint)
        for error in check(text, TwoTables(), now=NOW).errors
    ]


CHOICE = "a choice is iff(condition, value, otherwise) or case(...)"
LENGTH = "a length of time is written 1d, 12h, 30m or 10s"
LIKE = "use 'contains', 'startswith' or 'matches regex'"
NULL = "null is found with isnull(...), an empty text with isempty(...)"
TABLE_FIRST = "KQL begins with the table: Table | where ... | project ..."
COMMENT = "a comment begins with //"


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("SELECT * FROM Events WHERE Size = 1", "Events", TABLE_FIRST),
        ("select count(*) from Events group by Size", "count", TABLE_FIRST),
        ("Events | select EventName", "select", "columns are chosen with 'project'"),
        ("Events | group by EventName", "group", "rows are grouped with 'summarize ... by ...'"),
        ("Events | stats count by EventName", "stats", "rows are grouped with 'summarize ... by ...'"),
        ("Events | eval x = 1", "eval", "columns are computed with 'extend'"),
        ("Events | head 5", "head", "rows are taken with 'take'"),
        ("Events | summarize count() group by Size", "group", "write 'by' without 'group'"),
        ("Events | summarize count(distinct Size)", "Size", None),
        ("Events | summarize count by Size", "count", "it is a function: count(...)"),
        ("Events | summarize n = count(), by Size", "by", "there is a ',' too many before 'by'"),
        ("Events | summarize max(Size) as m", "as", "a name stands before its value: Name = value"),
        ("Events | project EventName as e", "as", "a name stands before its value: Name = value"),
        ("Events | project EventName Size", "Size", "did you forget a ','?"),
        ("Events | project EventName, , Size", ",", "there is a ',' too many"),
        ("Events | order by Size descending", "descending", "did you mean 'desc'?"),
        ("Events | top 5", "", "write 'top 10 by Column'"),
        ("Events | limit 10, 20", ",", "one number of rows is taken, from any place"),
        ("Events | count()", "(", "as an operator 'count' takes nothing"),
        ("Events | | count", "|", "one '|' is enough"),
        ("Events, Users | count", ",", "several tables are one with 'union A, B'"),
        ("union Events Users", "Users", "did you forget a ','?"),
        ("let x = 5 Events | take x", "Events", "did you forget the ';' before it?"),
        ("let x == 5; Events | take x", "==", "write let name = value;"),
        ("let x = 5; let x = 6; Events | take x", "x", "give it another name"),
        ("declare query_parameters(x: long = 1); let x = 2; print x", "x", "give it another name"),
        ("Events | search * and Size == 1", "*", "leave it out beside others"),
        ("search not(*)", "*", "leave it out beside others"),
        ("Events | where EventName LIKE '%x%'", "LIKE", LIKE),
        ("Events | where EventName IN ('a')", "IN", "did you mean 'in'?"),
        ("Events | where EventName not in ('a')", "not", "did you mean '!in'?"),
        ("Events | where EventName in 'a'", "'a'", "write in (one, other, ...)"),
        ("Events | where EventName !contain 'a'", "!", "did you mean '!contains'?"),
        ("Events | where EventName matches 'a'", "'a'", "write 'matches regex'"),
        ("Events | where EventName =~ /a/", "/", "a regular expression is a text: matches regex @'...'"),
        ("Events | where EventName has 'a' or has 'b'", "has", None),
        ("Events | where not EventName == 'a'", "EventName", "'not' is a function: not(...)"),
        ("Events | where !isnull(Size)", "!", "'not' is a function: not(...)"),
        ("Events | where isnull Size", "Size", "it is a function: isnull(...)"),
        ("Events | where Size == null", "null", NULL),
        ("Events | where Size != NULL", "NULL", NULL),
        ("Events | where EventName == 'a' or 'b'", "'b'", None),
        ("Events | where EventName > 3", "EventName > 3", "use tolong(...) or todouble(...)"),
        ("Events | where TimeGenerated > 2024-01-01", "TimeGenerated > 2024-01-01", None),
        ("Events | where TimeGenerated > ago(1)", "1", LENGTH),
        ("Events | where TimeGenerated > now() - 7", "now() - 7", LENGTH),
        ("Events | where TimeGenerated between (ago(2d) and ago(1d))", ")", "write between (low .. high)"),
        ("Events | where TimeGenerated > datetime(yesterday)", "datetime(yesterday)", None),
        ("Events | extend x == 1", "x", "a name is given with '='"),
        ("Events | extend x = EventName + 'y'", "EventName + 'y'", "texts are joined with strcat(...)"),
        ("Events | extend x = Size > 1 ? 1 : 0", "?", None),
        ("Events | extend case when Size > 1 then 1 end", "when", CHOICE),
        ("Events | extend été = 1", "é", "a name with other letters than A to Z is written ['name']"),
        ("Events | where -- Size", "-", COMMENT),
        ("Events | take 5 /* five */", "*", COMMENT),
        ("Events | take 5 # five", "#", COMMENT),
        ("Events | join (Users) on Account", "Account", "keys of two names are $left.a == $right.b"),
        (
            "Events | join (Users) on EventName == Account",
            "EventName == Account",
            "write $left.a == $right.b",
        ),
        ("Events | join kind=left (Users) on Size", "kind=left", "did you mean 'leftouter'?"),
        ("Events | summarize percentile(Size)", "percentile(Size)", "it is percentile(value, percent)"),
        ("Events | parse EventName with 'a' b c", "c", "a text in quotes stands between two parts"),
        ("Events | render piechat", "render piechat", "did you mean 'piechart'?"),
        ("Events | extend x = format_datetime(TimeGenerated, 'MMM')", None, ""),
        ("Events | summarize percentile(Size, 101)", "percentile(Size, 101)", ""),
        ("range n from 1 to 3 step 0", "0", ""),
        ("print (a, b) = 1", "(a, b) = 1", ""),
    ],
)
def test_a_slip_is_told(text: str, place: str | None, hint: str | None) -> None:
    """`None` where the test of the place, or of the words, is another's."""
    found = told(text)
    assert len(found) == 1
    assert found[0] == (found[0][0] if place is None else place, found[0][1] if hint is None else hint)
    assert place is not None or found[0][0] == "format_datetime(TimeGenerated, 'MMM')"
    assert hint is not None or found[0][1]


def test_each_part_of_a_condition_has_its_own_error() -> None:
    text = "Events | where EventNam == 'a' and foo(Size) and (Siz > 1 or TimeGenerated > 5) and Size > 1"
    assert [place for place, _ in told(text)] == ["EventNam", "foo", "Siz", "TimeGenerated > 5"]
