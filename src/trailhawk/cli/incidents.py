"""What the alerts add up to."""

from __future__ import annotations

from typing import Annotated

import typer

from trailhawk.cli.options import FormatOption, examples, group, offered, workspace_of
from trailhawk.render.output import Format

app = group("What the alerts add up to.")


@app.command("list", epilog=examples("trailhawk incidents list", "trailhawk incidents list --format json"))
def incidents_list(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the incidents by number."""
    from trailhawk.render.incident import show_incidents

    show_incidents(workspace_of(context).incidents.all(), form)


@app.command(
    "show", epilog=examples("trailhawk incidents show 1", "trailhawk incidents show 1 --format json")
)
def incidents_show(
    context: typer.Context,
    number: Annotated[
        int,
        typer.Argument(metavar="N", help="Its number in the list.", autocompletion=offered("incidents")),
    ],
    events: Annotated[
        int, typer.Option("--events", metavar="N", help="Most events of the timeline; 0 for all.", min=0)
    ] = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one incident in full.

    Story, entities, timeline, where the credentials came from, which objects
    left, and the ATT&CK techniques.
    """
    from trailhawk.render.incident import show_report

    show_report(workspace_of(context).report(number), form, most_events=events)
