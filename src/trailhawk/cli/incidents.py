"""What the alerts add up to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import FormatOption, examples, group, offered, workspace_of
from trailhawk.render.output import Format

if TYPE_CHECKING:
    from trailhawk.incidents.case import Case

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


_Number = Annotated[
    int, typer.Argument(metavar="N", help="Its number in the list.", autocompletion=offered("incidents"))
]


@app.command(
    "report",
    epilog=examples(
        "trailhawk incidents report 1 --out case.html",
        "trailhawk incidents report 1 --out case.md",
        "trailhawk incidents report 1 --out case.json",
    ),
)
def incidents_report(
    context: typer.Context,
    number: _Number,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Ends in .html, .md or .json: the form.")
    ],
) -> None:
    """Write the report of an incident: one file, to hand on or to print.

    Summary, what to do with the AWS CLI commands, graph, which objects left,
    lineage of the credentials, ATT&CK, timeline, and the log objects as
    evidence. The HTML file asks for nothing from any network.
    """
    from trailhawk.render import page
    from trailhawk.render.text import to_json

    _write(
        out,
        {
            ".html": page.report_page,
            ".md": page.report_markdown,
            ".json": lambda case: to_json(page.report_data(case), indent=2) + "\n",
        },
        context,
        number,
    )


@app.command(
    "graph",
    epilog=examples(
        "trailhawk incidents graph 1 --out graph.html", "trailhawk incidents graph 1 --out graph.graphml"
    ),
)
def incidents_graph(
    context: typer.Context,
    number: _Number,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="Ends in .html, .json or .graphml: the form."),
    ],
) -> None:
    """Write the investigation graph of an incident.

    Who acts through what: instance, role, session, key, address, bucket,
    object, with what each can be expanded to and the KQL behind it.
    """
    from trailhawk.render import page
    from trailhawk.render.text import to_json

    _write(
        out,
        {
            ".html": page.graph_page,
            ".json": lambda case: to_json(page.graph_data(case.graph), indent=2) + "\n",
            ".graphml": lambda case: page.graphml(case.graph),
        },
        context,
        number,
    )


def _write(
    out: Path, forms: Mapping[str, Callable[[Case], str]], context: typer.Context, number: int
) -> None:
    """Write what the file's ending asks for: whole or not at all."""
    from trailhawk.cli.options import save, tell
    from trailhawk.errors import UsageError

    form = forms.get(out.suffix.lower())
    if form is None:
        raise UsageError(f"{out} ends in none of {', '.join(forms)}", hint="the ending says the form")
    save(out, form(workspace_of(context).case(number)))
    tell(f"{out} written")
