"""Ingest transforms: one record in, at most one row out; everything else is refused by name and place."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from trailhawk.errors import LimitError, QueryError
from trailhawk.kql.plan import Filter, Project, Scan, Values
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.transform import ROW, transform
from trailhawk.kql.types import KqlType

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TABLE = Table(
    "Things",
    (
        Column("TimeGenerated", KqlType.DATETIME),
        Column("Name", KqlType.STRING),
        Column("Size", KqlType.LONG),
        Column("More", KqlType.DYNAMIC),
        Column("Type", KqlType.STRING),
    ),
    constants={"Type": "Things"},
)


@pytest.mark.parametrize(
    "text",
    [
        "source",
        "source | where Name == 'a' and Size > 1",
        "source | extend Name = strcat(Name, '!'), Size = Size * 2",
        "source | project TimeGenerated, Name = toupper(Name)",
        "source | project-away More",
        "source | project-keep TimeGenerated, N*",
        "source | project-rename Other = Name | project-rename Name = Other",
        "source | project-reorder Size, Name",
        "source | parse Name with 'a' Rest | where Rest != '' | project-away Rest",
        "source | parse-where Name with 'a' Name",
        "source | parse-kv Name as (a: string) with (pair_delimiter=',', kv_delimiter='=') | project-away a",
        "let least = 5; let some = dynamic(['a', 'b']); source | where Size >= least and Name in (some)",
        "let twice = (n: long) { n * 2 }; source | extend Size = twice(Size)",
        "source | extend More = bag_remove_keys(More, dynamic(['secret'])) | where TimeGenerated < now()",
        "source | where false",
    ],
)
def test_what_works_on_one_record(text: str) -> None:
    made = transform(text, TABLE, now=NOW)
    assert {column.name for column in made.columns} <= {column.name for column in TABLE.stored}
    plan = made.plan
    assert [column.name for column in plan.columns][-1] == ROW
    while isinstance(plan, Filter | Project):
        plan = plan.input
    assert isinstance(plan, Scan | Values)


@pytest.mark.parametrize(
    ("text", "what", "at"),
    [
        ("Things", "over anything but source", "Things"),
        ("source | summarize count() by Name", "summarize", "summarize"),
        ("source | where Size > 1 | take 3", "take", "take"),
        ("source | top 3 by Size", "top", "top"),
        ("source | distinct Name", "distinct", "distinct"),
        ("source | mv-expand More", "mv-expand", "mv-expand"),
        ("source | mv-apply More on (where true)", "mv-apply", "mv-apply"),
        ("source | join (source) on Name", "join", "join"),
        ("source | union source", "union", "union"),
        ("source | sort by Size", "sort", "sort"),
        ("source | serialize", "serialize", "serialize"),
        ("source | evaluate bag_unpack(More)", "evaluate", "evaluate"),
        ("source | as x", "as", "as"),
        ("source | render timechart", "render", "render"),
        ("union source", "over anything but source", "union"),
        ("print Name = 'a'", "over anything but source", "print"),
        ("source; source", "more or less than one query", "source"),
        ("let a = 1;", "more or less than one query", "let"),
        ("source | where Name in (source | project Name)", "a query inside", "source | project"),
        ("source | where Name == toscalar(source | project Name)", "toscalar()", "toscalar"),
        ("let t = materialize(source); source", "materialize()", "materialize"),
        ("let t = source | where Size > 1; t", "a query inside", "source | where"),
        ("source | extend Size = row_number()", "row_number()", "row_number"),
        ("source | extend Name = prev(Name)", "prev()", "prev"),
        ("source | extend Size = tolong(rand())", "rand()", "rand"),
        ("source | where ingestion_time() > ago(1d)", "ingestion_time()", "ingestion_time"),
        ("source | extend Extra = 1", "no column 'Extra'", "Extra"),
        ("source | extend Size = 'big'", "'Size' is string here and long", "Size"),
        ("source | extend Size = toreal(Size)", "'Size' is real here and long", "Size"),
        ("source | extend Type = 'x'", "'Type' is computed", "Type"),
        ("source | project-rename nAME = Name", "no column 'nAME'", "nAME"),
        ("source | where Nme == 1", "Nme", "Nme"),
        ("source | where _th_row == 1", "_th_row", "_th_row"),
        ("source |", "expected an operator", ""),
        ("", "", ""),
    ],
)
def test_what_is_refused_with_its_place(text: str, what: str, at: str) -> None:
    with pytest.raises(QueryError, match=r".*") as caught:
        transform(text, TABLE, now=NOW)
    assert what in caught.value.message
    if at:
        assert caught.value.span is not None
        assert text[caught.value.span.start :].startswith(at)


def test_a_text_without_end() -> None:
    with pytest.raises(LimitError):
        transform("source" + " | where true" * 10_000, TABLE, now=NOW)
    with pytest.raises(QueryError):
        transform("source | where " + "(" * 5000 + "true" + ")" * 5000, TABLE, now=NOW)
