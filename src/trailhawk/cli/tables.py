"""What the lake holds."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import FormatOption, examples, offered, single, workspace_of
from trailhawk.errors import NotFoundError
from trailhawk.render.output import Format, Shown, show_list
from trailhawk.render.text import members

if TYPE_CHECKING:
    from trailhawk.workspace import Workspace

app = single()


@app.command(
    epilog=examples("trailhawk tables", "trailhawk tables AWSCloudTrail", "trailhawk tables --format json")
)
def tables(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="TABLE", help="Show this table's columns.", autocompletion=offered("tables")),
    ] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """List the tables with their rows, time range and size, or one table's columns."""
    workspace = workspace_of(context)
    if name:
        _show_columns(workspace, name, form)
        return
    columns = [
        Shown("name", "table"),
        Shown("rows", "rows", right=True),
        Shown("first", "first event"),
        Shown("last", "last event"),
        Shown("bytes", "bytes", right=True, extra=True),
        Shown("description", "what it holds", extra=True),
    ]
    states = [members(state) for state in workspace.tables()]
    if form is Format.TABLE:
        states.sort(key=lambda state: not state["rows"])  # what holds something comes first
    show_list(states, columns, form, empty="no tables")


def _show_columns(workspace: Workspace, name: str, form: Format) -> None:
    table = workspace.lake.table(name)
    if table is None:
        known = {each.lower(): each for each in workspace.lake.table_names()}
        near = get_close_matches(name.lower(), known, n=1)
        meant = f"did you mean '{known[near[0]]}'? " if near else ""
        raise NotFoundError(f"there is no table '{name}'", hint=f"{meant}'trailhawk tables' lists them")
    found = [
        {"name": column.name, "type": column.type.value, "description": column.description}
        for column in table.columns
    ]
    columns = [Shown("name", "column"), Shown("type", "type"), Shown("description", "what it holds")]
    show_list(found, columns, form, empty="no columns")
