"""What `query --check` found: errors with their places, or the columns of the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailhawk.render.console import results
from trailhawk.render.output import RowFormat
from trailhawk.render.table import print_rows
from trailhawk.render.text import to_json
from trailhawk.visible import visible

if TYPE_CHECKING:
    from trailhawk.errors import QueryError
    from trailhawk.kql.compiler import Checked


def show_checked(checked: Checked, text: str, form: RowFormat) -> None:
    """Print the errors of a query, or else each result's columns with their types.

    JSON has `errors` (`{code, kind, message, suggestion, start, end, line, column}`; places count characters
    from 0, lines and columns from 1, all null where there is none) and `results` (`{name, columns: [{name,
    type}]}`).
    """
    shapes = [
        {"name": name, "columns": [{"name": column.name, "type": column.type.value} for column in columns]}
        for name, columns in checked.results
    ]
    if form in (RowFormat.JSON, RowFormat.JSONL):
        found = {"errors": [_error(error, text) for error in checked.errors], "results": shapes}
        print(to_json(found, indent=2 if form is RowFormat.JSON else None))
        return
    for error in checked.errors:
        print(visible(error.render(text), keep="\n"))
    for number, (name, columns) in enumerate(checked.results, 1):
        if len(checked.results) > 1:
            print(visible(name or f"result {number}"))
        print_rows(results(), ["column", "type"], [[column.name, column.type.value] for column in columns])


def _error(error: QueryError, text: str) -> dict[str, object]:
    span = error.span
    line, column = (None, None) if span is None else span.position(text)
    return {
        "code": error.code,
        "kind": error.kind,
        "message": error.message,
        "suggestion": error.hint,
        "start": None if span is None else span.start,
        "end": None if span is None else span.end,
        "line": line,
        "column": column,
    }
