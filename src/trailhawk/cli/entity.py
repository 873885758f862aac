"""What is known of a key, an ARN, an address, an instance, a bucket."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from trailhawk.cli.options import FormatOption, examples, is_bare, single, tell, workspace_of
from trailhawk.cli.times import time_range
from trailhawk.render.output import Format

_USUAL = timedelta(days=30)

app = single()


@app.command(
    epilog=examples(
        "trailhawk entity 203.0.113.66",
        "trailhawk entity ASIAOX5MAHLPBXEZT7KU --timespan 2d",
        "trailhawk entity s3://example-bucket/file.csv --format json",
    )
)
def entity(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="ENTITY", help="Key, ARN, address, instance, account, bucket, s3://bucket/key."
        ),
    ],
    timespan: Annotated[
        str | None,
        typer.Option(
            "--timespan",
            metavar="SPAN",
            help="Only rows of this time: 7d or 12h up to now, or DATE/DATE; '' for all time.",
        ),
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Tell what is known of an entity.

    When and where it was seen, what it called or who called it, the incidents
    that name it, and what content's expansions say: sessions of a role,
    principals at an address, readers of a bucket, traffic, related alerts.
    It looks at the 30 days up to the newest row unless told otherwise.
    """
    from trailhawk.engine.result import TimeRange
    from trailhawk.render.console import working
    from trailhawk.render.entity import show_entity

    workspace = workspace_of(context)
    now = workspace.clock()
    if timespan:
        within = TimeRange(*time_range(timespan, now))
    elif timespan is not None:
        within = TimeRange(None, now + timedelta(days=1))
    else:
        newest = workspace.newest_row() or now
        within = TimeRange(min(newest, now) - _USUAL, now + timedelta(days=1))
    with working(f"looking for {name}"):
        page, incidents = workspace.entity(name, within=within)
    show_entity(page, incidents, form)
    if page.whole is None and form is Format.TABLE and not is_bare(context, workspace):
        if timespan is None:
            tell(f"looked at the rows since {within.start:%Y-%m-%d}; --timespan 2023-01-01/ begins earlier")
        if page.node.type == "AwsBucket":
            tell(f"'{name}' was read as the name of a bucket; a user or a role is named by its ARN")
