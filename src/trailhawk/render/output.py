"""Results in the form the caller asked for: table, JSON, JSON lines or CSV."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, TextIO, TypeVar

from trailhawk.kql.types import KqlType
from trailhawk.render.chart import chart
from trailhawk.render.console import page_width, results
from trailhawk.render.table import fits, has_room, print_fields, print_rows
from trailhawk.render.text import csv_lines, to_json
from trailhawk.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

    from trailhawk.engine.result import Result

_SLICE_ROWS = 10_000


class Format(StrEnum):
    """How a list or one thing is printed."""

    TABLE = "table"
    JSON = "json"


class RowFormat(StrEnum):
    """How the rows of a query are printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


_Form = TypeVar("_Form", bound=StrEnum)
_FOR_PEOPLE = ("table", "text")


def for_programs(form: _Form) -> _Form:
    """The form, with standard output made ready for it: all but tables and text is UTF-8, as JSON has to be,
    whatever the terminal's encoding is."""
    if form not in _FOR_PEOPLE:
        print_utf8()
    return form


def print_utf8(stream: TextIO | None = None) -> None:
    """From here on, what is printed, or written to this stream, is UTF-8."""
    stream = stream or sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")


@dataclass(frozen=True)
class Shown:
    """A column of a list as people see it: its heading, and the name it has in JSON."""

    name: str
    heading: str
    right: bool = False
    extra: bool = False
    """Left out, the last one first, on a terminal that has no room for it."""


def show_list(
    things: Sequence[Mapping[str, object]], columns: Sequence[Shown], form: Format, *, empty: str
) -> None:
    """Print a list of things: JSON has all their members, the table the named columns that find room."""
    if form is Format.JSON:
        print_json_list(things)
    elif not things:
        print(empty)
    else:
        console = results()
        shown = _shown(console, things, columns)
        right = [column.heading for column in shown if column.right]
        print_rows(console, *_grid(things, shown), right=right)
        if left := [column.heading for column in columns if column not in shown]:
            print(f"no room for: {', '.join(left)}; a wider terminal or --format json has them")


def _shown(
    console: Console, things: Sequence[Mapping[str, object]], columns: Sequence[Shown]
) -> Sequence[Shown]:
    """The columns that a terminal has room for: all of them in a pipe, and where records are shown."""
    if not console.is_terminal:
        return columns
    shown = list(columns)
    while not has_room(console, *_grid(things, shown)) and any(column.extra for column in shown):
        shown.remove(next(column for column in reversed(shown) if column.extra))
    return shown if fits(console, *_grid(things, shown)) else columns


def _grid(
    things: Sequence[Mapping[str, object]], columns: Sequence[Shown]
) -> tuple[list[str], list[list[object]]]:
    rows = [[_listed(thing[column.name]) for column in columns] for thing in things]
    return [column.heading for column in columns], rows


def _listed(value: object) -> object:
    """A value as a list shows it: times without fractions, long spans in days and hours."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, datetime):
        return value.replace(microsecond=0)
    if isinstance(value, timedelta) and value >= timedelta(days=1):
        hours = value.seconds // 3600
        return f"{value.days} d {hours} h" if hours else f"{value.days} d"
    return timedelta(seconds=int(value.total_seconds())) if isinstance(value, timedelta) else value


def show_one(thing: Mapping[str, object], form: Format) -> None:
    """Print one thing: a JSON object, or lines of name and value."""
    if form is Format.JSON:
        print(to_json(thing, indent=2))
    else:
        print_fields(results(), thing)


def show_result(result: Result, form: RowFormat, *, most: int) -> None:
    """Print a query's result; a table stops after `most` rows (0: never), the other forms have all.

    Of several results each has its name: JSON is a list of `{name, rows}`, a line of JSON lines is `{name,
    row}`, and before the heads of tables and CSV stands a line with it.
    """
    if not result.others:
        _show_result(result, form, most)
        return
    several = [(each.name or f"result {number}", each) for number, each in enumerate(result.all(), 1)]
    if form is RowFormat.JSON:
        parts = ({"name": name, "rows": list(_objects(_names(each), each))} for name, each in several)
        print_json_list(parts)
        return
    for number, (name, each) in enumerate(several):
        if form is RowFormat.JSONL:
            for row in _objects(_names(each), each):
                print(to_json({"name": name, "row": row}))
            continue
        if number and form is RowFormat.CSV:
            print()
        print(f"# {visible(name)}" if form is RowFormat.CSV else visible(name))
        _show_result(each, form, most)


def _names(result: Result) -> list[str]:
    return [column.name for column in result.columns]


def _show_result(result: Result, form: RowFormat, most: int) -> None:
    names = _names(result)
    match form:
        case RowFormat.JSON:
            print_json_list(_objects(names, result))
        case RowFormat.JSONL:
            for row in _objects(names, result):
                print(to_json(row))
        case RowFormat.CSV:
            for line in csv_lines(names, _rows(result)):
                print(line)
        case RowFormat.TABLE:
            _show_table(result, names, most)


def print_json_list(things: Iterable[Mapping[str, object]]) -> None:
    """A JSON array with one object a line, written as the objects come."""
    first = True
    for thing in things:
        print("[" if first else ",", to_json(thing), sep="\n ", end="")
        first = False
    print("[]" if first else "\n]")


def _show_table(result: Result, names: Sequence[str], most: int) -> None:
    console = results()
    if result.chart is not None:
        width = page_width(console)
        lines = chart(result.chart.kind, result.columns, list(_rows(result)), width=width)
        if lines is not None:
            for line in lines:
                console.print(line)
            return
    total = result.table.num_rows
    right = [column.name for column in result.columns if _is_right(column.type)]
    print_rows(console, names, list(islice(_rows(result), most or total)), total=total, right=right)


def _is_right(type_: KqlType) -> bool:
    return type_.is_number or type_ is KqlType.TIMESPAN


def _rows(result: Result) -> Iterator[Sequence[object]]:
    """The rows as Python values, made a slice at a time."""
    for start in range(0, result.table.num_rows, _SLICE_ROWS):
        yield from replace(result, table=result.table.slice(start, _SLICE_ROWS)).tuples()


def _objects(names: Sequence[str], result: Result) -> Iterator[Mapping[str, object]]:
    for row in _rows(result):
        yield dict(zip(names, row, strict=True))
