"""Tables, records and charts as they come out of a console."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from trailhawk.kql.schema import Column
from trailhawk.kql.types import KqlType
from trailhawk.render import output
from trailhawk.render.chart import chart
from trailhawk.render.output import Format, Shown
from trailhawk.render.table import print_fields, print_rows


def printed(names: list[str], rows: list[list[object]], *, width: int = 80, total: int | None = None) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None, markup=False)
    print_rows(console, names, rows, total=total, right=["n"])
    return stream.getvalue()


def test_grid() -> None:
    text = printed(["user", "n"], [["ann", 5], ["[red]bob[/]", 12]])
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    assert lines[0].split() == ["user", "n"]
    assert lines[2].split() == ["ann", "5"]
    assert lines[3].split() == ["[red]bob[/]", "12"]


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    text = printed(["x"], [["\x1b]0;owned\x07 \u202eabc"]])
    assert "\x1b" not in text
    assert "\\x1b]0;owned\\x07 \\u202eabc" in text


def test_wide_rows_become_records_without_their_empty_columns() -> None:
    names = [f"column{number}" for number in range(20)]
    text = printed(names, [["", *["value of some length"] * 19]])
    assert "-- 1 --" in text
    assert "column0 " not in text
    assert "column7   value of some length" in text


def test_note_about_rows_not_shown() -> None:
    assert "1 of 5,000 rows shown" in printed(["x"], [[1]], total=5000)


def test_a_result_without_rows_still_names_its_columns() -> None:
    assert printed(["x", "y"], []) == "no rows; columns: x, y\n"
    many = [f"column{number}" for number in range(11)]
    assert printed(many, []).endswith("column7 and 3 more\n")


def listed(width: int, *, terminal: bool = True) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=None)
    columns = [Shown("name", "name"), Shown("file", "file", extra=True), Shown("day", "day", extra=True)]
    thing = {"name": "n" * 30, "file": "f" * 30, "day": "2026-01-01"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "results", lambda: console)
        output.show_list([thing], columns, Format.TABLE, empty="")
    return stream.getvalue()


def test_a_list_drops_its_extra_columns_on_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert "2026-01-01" in listed(100)
    assert capsys.readouterr().out == ""
    assert "2026-01-01" not in listed(70)
    assert "f" * 30 in listed(70)
    assert "f" * 30 not in listed(50)
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "no room for: file, day; a wider terminal or --format json has them"


def test_a_list_shows_times_as_people_read_them(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
    spans = (
        timedelta(days=1, hours=2, microseconds=5),
        timedelta(days=14),
        timedelta(hours=3, microseconds=9),
    )
    thing = {"at": moment, **{f"s{number}": span for number, span in enumerate(spans)}}
    columns = [Shown(name, name) for name in thing]
    output.show_list([thing], columns, Format.TABLE, empty="")
    shown = capsys.readouterr().out.splitlines()[3]
    assert shown.split("   ") == [" 2026-01-02T03:04:05Z", "1 d 2 h", "14 d", "03:00:00 "]
    output.show_list([thing], columns, Format.JSON, empty="")
    assert "2026-01-02T03:04:05.678900Z" in capsys.readouterr().out


def test_records_and_pipes_have_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    for shown in (listed(12), listed(100_000, terminal=False)):
        assert "2026-01-01" in shown
        assert "f" * 30 in shown
    assert capsys.readouterr().out == ""


def test_fields() -> None:
    stream = io.StringIO()
    print_fields(Console(file=stream, width=80), {"rows": 5, "name": "a[b]"})
    assert stream.getvalue().split() == ["rows", "5", "name", "a[b]"]


WHEN = Column("TimeGenerated", KqlType.DATETIME)
WHO = Column("Who", KqlType.STRING)
COUNT = Column("Count", KqlType.LONG)
START = datetime(2026, 1, 1, tzinfo=UTC)


def drawn(kind: str, columns: list[Column], rows: list[list[object]]) -> list[str]:
    lines = chart(kind, columns, rows, width=60)
    assert lines is not None
    assert all(len(line.plain) <= 60 for line in lines)
    return [line.plain for line in lines]


def test_bars_are_as_long_as_their_values() -> None:
    lines = drawn("barchart", [WHO, COUNT], [["ann", 10], ["bob", 5], ["cy", 0]])
    assert [line.count("█") for line in lines] == [41, 20, 0]
    assert lines[0].endswith(" 10")


def test_columns_over_time_leave_gaps_where_nothing_is() -> None:
    rows: list[list[object]] = [[START + timedelta(hours=hour), 10] for hour in (0, 1, 3)]
    lines = drawn("timechart", [WHEN, COUNT], rows)
    assert lines[0].strip() == "10 │████████    ████".strip()
    assert lines[-1].split() == ["2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z"]


def test_a_small_value_beside_a_large_one_is_seen() -> None:
    rows: list[list[object]] = [[START, 1], [START + timedelta(hours=1), 100_000]]
    lines = drawn("timechart", [WHEN, COUNT], rows)
    assert "▁" in lines[-2]


def test_several_series_get_a_strip_each() -> None:
    rows: list[list[object]] = [
        [START + timedelta(hours=hour), who, hour] for hour in range(5) for who in ("a", "b\x1b")
    ]
    lines = drawn("timechart", [WHEN, WHO, COUNT], rows)
    assert any(line.strip() == "b\\x1b" for line in lines)
    assert sum("│" in line for line in lines) == 6


def test_more_points_than_cells_keep_the_peak() -> None:
    rows: list[list[object]] = [[START + timedelta(minutes=m), 50 if m == 333 else 1] for m in range(1000)]
    assert "█" in drawn("timechart", [WHEN, COUNT], rows)[0]


def test_two_series_of_bars_stand_together() -> None:
    rows: list[list[object]] = [["x", "ok", 2], ["y", "ok", 3], ["x", "denied", 1]]
    labels = [line.split("█")[0].split() for line in drawn("columnchart", [WHO, WHO, COUNT], rows)]
    assert labels[:2] == [["x", "ok"], ["x", "denied"]]


def test_what_has_no_chart() -> None:
    assert chart("timechart", [WHO, COUNT], [["a", 1]]) is None
    assert chart("barchart", [COUNT], [[1]]) is None
    assert chart("barchart", [WHO, COUNT], []) is None
    assert chart("barchart", [WHO, WHO], [["a", "b"]]) is None
