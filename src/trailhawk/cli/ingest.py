"""Taking logs in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trailhawk.cli.options import FormatOption, QuietOption, examples, single, tell, workspace_of
from trailhawk.render.output import Format, show_one
from trailhawk.render.text import members

app = single()


@app.command(
    epilog=examples(
        "trailhawk ingest ~/logs/cloudtrail",
        "trailhawk ingest one.json.gz two.json --format json",
    )
)
def ingest(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Log files, and folders of them.")],
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Take logs into the lake.

    CloudTrail as AWS writes it, as JSON array or as JSON lines, gzipped or not.
    What was taken before is skipped, an event that was stored before is not
    stored again, and what cannot be read is kept in quarantine.
    """
    from trailhawk.render.console import progress

    with progress("ingest, objects", quiet=quiet) as bar:
        summary = workspace_of(context).ingest(paths, lambda done: bar(done.objects, done.all_objects))
    show_one({**members(summary), "seconds": round(summary.seconds, 2)}, form)
    if not summary.objects:
        tell("no files found there; hidden ones are passed over")
    if summary.quarantined:
        tell(f"{summary.quarantined:,} parts could not be stored: 'trailhawk quarantine list' shows them")
