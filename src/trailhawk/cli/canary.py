"""`rules canary`: does each rule still fire, from the raw log to the alert?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    FormatOption,
    QuietOption,
    RulesOption,
    has_place,
    left_out,
    offered,
    save,
    workspace_of,
)
from trailhawk.render.output import Format


def canary(
    context: typer.Context,
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RULE...]",
            help="Ids, names or files; every enabled rule and every hunt unless given.",
            autocompletion=offered("rules"),
        ),
    ] = None,
    folders: RulesOption = None,
    junit: Annotated[
        str, typer.Option("--junit", metavar="FILE", help="Also write the results as JUnit's XML.")
    ] = "",
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Send each rule's positive test from raw log to alert.

    The test's logs become files as AWS delivers them. They are taken into a
    scratch lake with this home's sources and filters, the scheduler runs the
    rule with this home's functions, watchlists and exceptions, and an alert
    (and its incident) must come. What no longer fires is named, with the
    place where it stopped. Exit code 1 when a rule does not fire.
    """
    from trailhawk.render.canary import junit as junit_of
    from trailhawk.render.canary import show_canaries
    from trailhawk.render.console import progress

    if junit:
        has_place(Path(junit))
    workspace = workspace_of(context)
    more = [Path(folder) for folder in folders or ()]
    if rules:
        chosen = [workspace.content.rule(text, more) for text in rules]
    else:
        chosen = list(workspace.content.canary_rules(more, fault=left_out))
    started = time.perf_counter()
    with progress("canaries", quiet=quiet) as bar:
        sent = workspace.content.canaries(chosen, progress=bar)
    if junit:
        save(Path(junit), junit_of(sent))
    show_canaries(sent, form, seconds=time.perf_counter() - started)
    if any(each.failed for each in sent):
        raise typer.Exit(EXIT_FAILURE)
