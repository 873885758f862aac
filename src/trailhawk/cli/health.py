"""How the ways in fare: silent or shrunk streams of logs, failing connectors."""

from __future__ import annotations

from typing import Annotated

import typer

from trailhawk.cli.options import EXIT_FAILURE, FormatOption, examples, single, workspace_of
from trailhawk.render.output import Format, Shown, show_list

app = single()


@app.command(
    epilog=examples(
        "trailhawk health", "trailhawk health --check && echo all is well", "trailhawk health --format json"
    )
)
def health(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="End with 1 where something is not well.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Tell which streams of logs fell silent, shrank or come late, and which connectors fail.

    A stream is what one source brings of one account and region. What is usual
    for it is learnt from the ledger. How connectors fare is what the running
    'trailhawk run' told last: since when one is idle, and when it has received
    something.
    """
    found = workspace_of(context).health()
    columns = [
        Shown("name", "what"),
        Shown("state", "state"),
        Shown("last_event", "last event"),
        Shown("silent_after", "silent after", extra=True),
        Shown("delay_now", "delay", extra=True),
        Shown("delay", "usual delay", extra=True),
        Shown("rows", "rows, last day", right=True),
        Shown("usual_rows", "usual", right=True, extra=True),
        Shown("last_received", "last received", extra=True),
        Shown("idle_since", "idle since", extra=True),
        Shown("reason", "why"),
    ]
    show_list(found, columns, form, empty="nothing was taken in yet, and no connector has run")
    if check and any(each["state"] not in ("ok", "idle", "learning") for each in found):
        raise typer.Exit(EXIT_FAILURE)
