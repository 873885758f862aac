"""Running the rules over the stored history."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    FormatOption,
    QuietOption,
    RulesOption,
    examples,
    is_bare,
    kept_if_interrupted,
    left_out,
    single,
    tell,
    workspace_of,
)
from trailhawk.cli.times import duration, moment
from trailhawk.errors import UsageError
from trailhawk.render.output import Format
from trailhawk.render.text import moment as moment_text

if TYPE_CHECKING:
    from trailhawk.workspace import Workspace

app = single()


@app.command(
    epilog=examples(
        "trailhawk detect",
        "trailhawk detect --last 7d",
        "trailhawk detect --from 2023-07-01 --to 2023-07-15 --rules my-rules",
    )
)
def detect(
    context: typer.Context,
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="First moment; all that is stored unless given.")
    ] = "",
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Moment before which it ends.")] = "",
    back: Annotated[
        str,
        typer.Option(
            "--last", metavar="SPAN", help="So much up to the newest that is stored, instead of --from."
        ),
    ] = "",
    folders: RulesOption = None,
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Run every rule over the stored history.

    Window by window, as a scheduler would have run them, by the time of the
    events; disabled rules do not run. A window whose rule needs more history than there is is skipped:
    learning. Running it again raises only what is new.
    """
    from trailhawk.render.console import progress

    workspace = workspace_of(context)
    first, last = moment(start) if start else None, moment(end) if end else None
    if back:
        if first:
            raise UsageError("--from and --last both say where it begins", hint="give one of them")
        first = _before_end(workspace, back, last)
    if first and last and first >= last:
        raise UsageError(f"--from {start} is not before --to {end}")
    rules = workspace.content.rules(map(Path, folders or ()), fault=left_out)
    states = workspace.content.rule_states.of(rules)
    enabled = [rule for rule in rules if states[rule.id].enabled]
    with progress("detect, windows", quiet=quiet) as bar, kept_if_interrupted():
        summary = workspace.detect(enabled, start=first, end=last, progress=bar)
    from trailhawk.render.incident import show_detection

    incidents = workspace.incidents.all()
    show_detection(summary, incidents, form)
    if back and first:
        tell(f"--last {back} begins at {moment_text(first)}")
    if form is Format.TABLE and not is_bare(context, workspace) and incidents:
        gravest = max(incidents, key=lambda each: (each.severity.rank, len(each.alert_ids)))
        tell(f"the gravest in full: trailhawk incidents show {gravest.number}")
    if any(rule.failed for rule in summary.rules):
        raise typer.Exit(EXIT_FAILURE)


def _before_end(workspace: Workspace, back: str, end: datetime | None) -> datetime | None:
    """So long before the newest event, or before `end` or now if that is earlier; None without events."""
    span = duration(back)
    if not span:
        raise UsageError(f"--last '{back}' is no timespan", hint="write 7d or 12h")
    newest = workspace.newest_row()
    return None if newest is None else min(newest, end or newest, workspace.clock()) - span
