"""Taking logs in."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from trailhawk.cli.options import (
    FormatOption,
    QuietOption,
    examples,
    kept_if_interrupted,
    single,
    tell,
    workspace_of,
)
from trailhawk.cli.signals import stopped_by_signals
from trailhawk.render.output import Format, show_one
from trailhawk.render.text import members
from trailhawk.visible import visible
from trailhawk.words import counted

if TYPE_CHECKING:
    from trailhawk.connectors.objects import Outcome
    from trailhawk.lake.files import DamagedFileError

_LISTED: Final = 20

app = single()


@app.command(
    epilog=examples(
        "trailhawk ingest ~/logs/cloudtrail",
        "trailhawk ingest one.json.gz two.json --format json",
        "trailhawk ingest --follow /var/log/aws",
    )
)
def ingest(
    context: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Log files, and folders or archives of them.")
    ],
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on, and take new files as they are completed.")
    ] = False,
    quiet_seconds: Annotated[
        float,
        typer.Option(
            "--quiet-for", metavar="SECONDS", min=0, help="When a followed file counts as complete."
        ),
    ] = 10.0,
    strict: Annotated[
        bool, typer.Option("--strict", help="What no source knows is quarantined, whatever its name.")
    ] = False,
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Take logs into the lake.

    As AWS writes them, packed or not; CloudTrail also as JSON array or lines.
    Zip and tar archives are read like folders, and so are those in them.
    What was taken before is skipped, an event that was stored before is not
    stored again, and what cannot be read is kept in quarantine. A file in a
    folder that is no log, by its name and its content, is passed over.
    What went into quarantine is counted and told, and no failure: see
    `quarantined` of --format json. Damaged files of the lake that are met are
    named; then it ends with 1.

    With --follow a file is taken once nobody has written to it for a while.
    Ctrl-C and SIGTERM end it: what it has read is stored first.
    """
    strange: list[str] = []
    doubts: set[str] = set()

    def doubted(why: str) -> None:
        if why not in doubts:
            doubts.add(why)
            tell(why)

    def told(outcome: Outcome) -> None:
        if outcome.state == "unrecognised":
            strange.append(outcome.location)
        if outcome.doubt:
            doubted(outcome.doubt)

    def damaged(error: DamagedFileError) -> None:
        doubted(str(error))

    if follow:
        from threading import Event

        stop = Event()
        with stopped_by_signals(stop):
            summary = workspace_of(context).follow(
                paths,
                stop,
                told=told,
                damaged=damaged,
                strict=strict,
                quiet=timedelta(seconds=quiet_seconds),
            )
    else:
        from trailhawk.render.console import progress

        with progress("ingest, objects", quiet=quiet) as bar, kept_if_interrupted():
            summary = workspace_of(context).ingest(
                paths,
                lambda done: bar(done.objects, done.all_objects),
                told=told,
                damaged=damaged,
                strict=strict,
            )
    show_one({**members(summary), "seconds": round(summary.seconds, 2)}, form)
    if not summary.objects and not follow:
        tell("no files found there; hidden ones are passed over")
    for location in strange[:_LISTED]:
        tell(f"unrecognised, passed over: {visible(location)}")
    if len(strange) > _LISTED:
        tell(f"and {len(strange) - _LISTED:,} more; --strict puts them into quarantine")
    if any(location.lower().endswith((".csv", ".tsv", ".xlsx")) for location in strange):
        tell("a table is read as CSV with the columns of a log or of a tool's export: docs/sources.md")
    if summary.quarantined:
        why = "'trailhawk quarantine list --summary' says why"
        tell(f"{counted(summary.quarantined, 'part')} could not be stored: {why}")
    if doubts:
        raise typer.Exit(1)
