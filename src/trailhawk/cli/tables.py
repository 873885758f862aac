"""What the lake holds."""

from __future__ import annotations

import typer

from trailhawk.cli.options import FormatOption, examples, single, workspace_of
from trailhawk.render.output import Format, Shown, show_list
from trailhawk.render.text import members

app = single()


@app.command(epilog=examples("trailhawk tables", "trailhawk tables --format json"))
def tables(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the tables with their rows, time range and size."""
    columns = [
        Shown("name", "table"),
        Shown("rows", "rows", right=True),
        Shown("first", "first event"),
        Shown("last", "last event"),
        Shown("files", "files", right=True),
        Shown("bytes", "bytes", right=True),
        Shown("description", "what it holds"),
    ]
    states = [members(state) for state in workspace_of(context).tables()]
    show_list(states, columns, form, empty="no tables")
