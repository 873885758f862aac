"""The hunting queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    FormatOption,
    QuietOption,
    examples,
    fail,
    group,
    left_out,
    workspace_of,
)
from trailhawk.cli.times import moment, time_range
from trailhawk.errors import QueryError, UsageError
from trailhawk.render.output import Format, RowFormat, Shown, show_list, show_result

if TYPE_CHECKING:
    from trailhawk.detect.hunt import Hunted

app = group("The hunting queries.")

HuntsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--hunts", metavar="DIR", help="A folder of hunts beside the built-in ones; may be repeated."
    ),
]


@app.command("list", epilog=examples("trailhawk hunt list"))
def hunt_list(context: typer.Context, folders: HuntsOption = None, form: FormatOption = Format.TABLE) -> None:
    """List the hunts with tactics and techniques."""
    found = [
        {
            "id": hunt.id,
            "name": hunt.name,
            "tactics": list(hunt.tactics),
            "techniques": list(hunt.techniques),
            "source": hunt.source,
            "description": hunt.description,
        }
        for hunt in workspace_of(context).hunts(folders or (), fault=left_out)
    ]
    columns = [
        Shown("name", "hunt"),
        Shown("tactics", "tactics"),
        Shown("techniques", "techniques"),
        Shown("source", "file"),
    ]
    show_list(found, columns, form, empty="no hunts")


@app.command(
    "run",
    epilog=examples(
        "trailhawk hunt run --all",
        "trailhawk hunt run who-asks-who-it-is",
        "trailhawk hunt run who-asks --timespan 7d --now 2026-01-31 --format csv",
    ),
)
def hunt_run(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="[HUNT]", help="Its id, name or file, or a part that only it has.")
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="Run all hunts, and count what they find.")] = False,
    timespan: Annotated[
        str,
        typer.Option("--timespan", metavar="SPAN", help="What {{StartTimeISO}} and {{EndTimeISO}} mean: 7d."),
    ] = "",
    now: Annotated[str, typer.Option("--now", metavar="TIME", help="What now() and ago() mean.")] = "",
    folders: HuntsOption = None,
    form: Annotated[RowFormat, typer.Option("--format", help="How the rows are printed.")] = RowFormat.TABLE,
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", help="Most rows of a table; 0 for all.", min=0)
    ] = 100,
    quiet: QuietOption = False,
) -> None:
    """Run one hunt and show its rows, or all and show how many each has.

    A hunt reads what its query says, of all that is stored. With --all, each
    is also run as of a day before, so that what is new stands out.
    """
    from trailhawk.detect.hunt import hunt
    from trailhawk.detect.rulebook import named
    from trailhawk.engine.result import TimeRange
    from trailhawk.render.console import progress

    if every == bool(name):
        raise UsageError("give one hunt, or --all")
    workspace = workspace_of(context)
    at = moment(now) if now else workspace.clock()
    hunts = workspace.hunts(folders or (), fault=left_out)
    if every:
        if form not in (RowFormat.TABLE, RowFormat.JSON):
            raise UsageError("--all is printed as table or json")
        with progress("hunts", quiet=quiet) as bar:
            found = workspace.hunt_all(hunts, now=at, progress=bar)
        _show_hunted(found, Format(form.value))
        if any(each.rows is None and not each.skipped for each in found):
            raise typer.Exit(EXIT_FAILURE)
        return
    chosen = named(hunts, name)
    picked = TimeRange(*time_range(timespan, at)) if timespan else None
    try:
        result = hunt(workspace.engine, chosen.query, now=at, picked=picked)
    except QueryError as error:
        raise typer.Exit(fail(error.render(chosen.query), EXIT_FAILURE)) from None
    show_result(result, form, most=rows)


def _show_hunted(found: tuple[Hunted, ...], form: Format) -> None:
    rows = [
        {
            "name": each.hunt.name,
            "rows": "N/A" if each.rows is None and form is Format.TABLE else each.rows,
            "delta": "" if each.delta is None and form is Format.TABLE else each.delta,
            "tactics": list(each.hunt.tactics),
            "techniques": list(each.hunt.techniques),
            "reason": f"skipped: {each.reason}" if each.skipped else each.reason,
        }
        for each in sorted(found, key=lambda each: -(each.rows or 0))
    ]
    columns = [
        Shown("name", "hunt"),
        Shown("rows", "rows", right=True),
        Shown("delta", "more than a day before", right=True),
        Shown("tactics", "tactics"),
        Shown("reason", "why not"),
    ]
    show_list(rows, columns, form, empty="no hunts")
