"""What of ATT&CK is watched, and whether the data for it arrives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trailhawk.cli.options import (
    FormatOption,
    QuietOption,
    RulesOption,
    examples,
    has_place,
    left_out,
    save,
    single,
    tell,
    workspace_of,
)
from trailhawk.cli.times import moment
from trailhawk.errors import UsageError
from trailhawk.render.output import Format

app = single()


@app.command(
    epilog=examples(
        "trailhawk coverage",
        "trailhawk coverage --html coverage.html --navigator layer.json",
        "trailhawk coverage --format json --attack 18",
    )
)
def coverage(
    context: typer.Context,
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page of HTML that needs no network."),
    ] = None,
    layer: Annotated[
        Path | None,
        typer.Option("--navigator", metavar="FILE", help="Write a layer for the ATT&CK Navigator (4.5)."),
    ] = None,
    attack: Annotated[
        int, typer.Option("--attack", metavar="VERSION", help="The version of ATT&CK to show: 18 or 19.")
    ] = 19,
    now: Annotated[str, typer.Option("--now", metavar="TIME", help="What now is; for old data.")] = "",
    folders: RulesOption = None,
    form: FormatOption = Format.TABLE,
    json_: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Lay rules and hunts over ATT&CK's matrix for IaaS.

    For each technique: the rules and hunts that name it, the tables they read,
    whether rows came into these in the last day, and when the rule's canary last
    went through. With --html or --navigator the matrix goes into these files.
    """
    from trailhawk.detect.attack_table import attack_table
    from trailhawk.render.console import progress, results
    from trailhawk.render.coverage import as_json, navigator, print_coverage
    from trailhawk.render.coverage import page as html_page
    from trailhawk.render.text import to_json

    if attack not in attack_table().versions:
        known = ", ".join(map(str, attack_table().versions))
        raise UsageError(f"there is no table of ATT&CK {attack}", hint=f"there is {known}")
    for out in (page, layer):
        if out is not None:
            has_place(out)
    workspace = workspace_of(context)
    at = moment(now) if now else workspace.clock()
    with progress("coverage", quiet=quiet) as bar:
        found = workspace.content.coverage(
            version=attack,
            now=at,
            folders=[Path(each) for each in folders or ()],
            fault=left_out,
            progress=bar,
        )
    if page is not None:
        save(page, html_page(found))
        tell(f"wrote {page}")
    if layer is not None:
        save(layer, to_json(navigator(found), indent=2) + "\n")
        tell(f"wrote {layer}")
    if json_ or form is Format.JSON:
        print(to_json(as_json(found), indent=2))
    elif page is None and layer is None:
        print_coverage(results(), found)
