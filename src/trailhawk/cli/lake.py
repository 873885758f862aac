"""Looking after the lake: what it holds, compaction, retention, clearing away."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import FormatOption, examples, group, tell, workspace_of
from trailhawk.render.output import Format, Shown, show_list
from trailhawk.render.text import members

if TYPE_CHECKING:
    from trailhawk.lake.files import DamagedFileError
    from trailhawk.lake.status import DayState

app = group("Look after the lake: state, compaction, retention, clearing away.")

TablesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TABLE]...", help="Only these tables; all of them unless given.", show_default=False
    ),
]


@app.command(
    epilog=examples(
        "trailhawk lake status",
        "trailhawk lake status AWSCloudTrail --days",
        "trailhawk lake status --format json",
    )
)
def status(
    context: typer.Context,
    tables: TablesArgument = None,
    days: Annotated[bool, typer.Option("--days", help="A line for each event day.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show rows, files, bytes, oldest and newest event of each table, or of each of its days.

    Data files that are missing or cut off are named on standard error.
    """
    workspace = workspace_of(context)
    found = workspace.lake_days(tables or ())
    columns = [
        Shown("table", "table"),
        *([Shown("day", "day")] if days else [Shown("days", "days", right=True)]),
        Shown("rows", "rows", right=True),
        Shown("files", "files", right=True, extra=True),
        Shown("bytes", "bytes", right=True, extra=True),
        Shown("oldest", "oldest event"),
        Shown("newest", "newest event"),
    ]
    shown = [members(state) for state in found] if days else _by_table(found)
    show_list(shown, columns, form, empty="nothing is stored")
    for path in workspace.damaged_files(tables or ()):
        tell(f"{path} is missing or cut off: queries that need it fail until it is put back from a backup")


def _by_table(days: list[DayState]) -> list[dict[str, object]]:
    tables: dict[str, list[DayState]] = defaultdict(list)
    for state in days:
        tables[state.table].append(state)
    return [
        {
            "table": name,
            "days": len(states),
            "rows": sum(state.rows for state in states),
            "files": sum(state.files for state in states),
            "bytes": sum(state.bytes for state in states),
            "oldest": min((state.oldest for state in states if state.oldest), default=None),
            "newest": max((state.newest for state in states if state.newest), default=None),
        }
        for name, states in tables.items()
    ]


@app.command(epilog=examples("trailhawk lake compact", "trailhawk lake compact AWSCloudTrail"))
def compact(context: typer.Context, tables: TablesArgument = None, form: FormatOption = Format.TABLE) -> None:
    """Rewrite the days that hold many small files as few sorted ones.

    Readers and writers go on meanwhile. The old files stay on disk for a day.
    Damaged files are named and left where they are; then it ends with 1.
    """
    damage: list[DamagedFileError] = []
    done = workspace_of(context).caretaker.compact(tables or (), told=damage.append)
    rows = [{"table": name, "rewritten": count} for name, count in done.items() if count]
    columns = [Shown("table", "table"), Shown("rewritten", "days rewritten", right=True)]
    show_list(rows, columns, form, empty="nothing to rewrite")
    for error in damage:
        tell(str(error))
    if damage:
        raise typer.Exit(1)


@app.command(epilog=examples("trailhawk lake vacuum"))
def vacuum(context: typer.Context, tables: TablesArgument = None, form: FormatOption = Format.TABLE) -> None:
    """Delete the files that no version of the last day names: retired ones, and what a kill left."""
    done = workspace_of(context).caretaker.vacuum(tables or ())
    rows = [{"table": name, "deleted": count} for name, count in done.items() if count]
    columns = [Shown("table", "table"), Shown("deleted", "files deleted", right=True)]
    show_list(rows, columns, form, empty="nothing to delete")


@app.command(epilog=examples("trailhawk lake retention", "trailhawk lake retention --apply"))
def retention(
    context: typer.Context,
    tables: TablesArgument = None,
    apply: Annotated[bool, typer.Option("--apply", help="Remove these rows now.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the rows that are older than the settings keep them; remove them with --apply.

    How many days a table keeps stands in trailhawk.toml, under lake.retention_days
    and lake.retention. Days count from the event. The files stay on disk for a day.
    """
    caretaker = workspace_of(context).caretaker
    found = caretaker.forget(tables or ()) if apply else caretaker.expiring(tables or ())
    columns = [
        Shown("table", "table"),
        Shown("before", "events before"),
        Shown("days", "days", right=True),
        Shown("files", "files", right=True),
        Shown("rows", "rows removed" if apply else "rows to remove", right=True),
    ]
    show_list([members(each) for each in found], columns, form, empty="every table is kept for ever")
