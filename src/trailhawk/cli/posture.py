"""How the accounts are set up, as far as logs tell."""

from __future__ import annotations

from typing import Annotated

import typer

from trailhawk.cli.options import FormatOption, QuietOption, TimespanOption, examples, single, workspace_of
from trailhawk.cli.times import time_range
from trailhawk.render.output import Format

app = single()


@app.command(
    epilog=examples(
        "trailhawk posture",
        "trailhawk posture --timespan 30d --check metadata-version-one",
        "trailhawk posture --format json",
    )
)
def posture(
    context: typer.Context,
    timespan: TimespanOption = "",
    check: Annotated[
        list[str] | None, typer.Option("--check", metavar="ID", help="Only this one; may be repeated.")
    ] = None,
    quiet: QuietOption = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Tell weaknesses that the logs show, with what to do about each.

    Roles still using version 1 of the metadata service, powerful instance
    roles, open buckets, trails without validation, sign-ins without MFA, old
    keys, root at work, and what Systems Manager reaches.
    """
    from trailhawk.detect.posture import checks
    from trailhawk.engine.result import TimeRange
    from trailhawk.errors import NotFoundError
    from trailhawk.render.console import progress
    from trailhawk.render.posture import show_posture

    known = {each.id: each for each in checks()}
    for name in check or ():
        if name not in known:
            raise NotFoundError(f"no check '{name}'", hint=f"there is {', '.join(known)}")
    workspace = workspace_of(context)
    window = TimeRange(*time_range(timespan, workspace.clock())) if timespan else None
    with progress("checks", quiet=quiet) as bar:
        asked = [known[name] for name in check] if check else list(known.values())
        answers = workspace.posture(asked, window=window, progress=bar)
    show_posture(answers, form)
