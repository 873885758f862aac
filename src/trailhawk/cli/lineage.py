"""Where credentials came from and went to."""

from __future__ import annotations

from typing import Annotated

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    FormatOption,
    TimespanOption,
    examples,
    fail,
    is_bare,
    single,
    workspace_of,
)
from trailhawk.cli.times import time_range
from trailhawk.render.output import Format

app = single()


@app.command(
    epilog=examples(
        "trailhawk lineage ASIAOX5MAHLPBXEZT7KU",
        "trailhawk lineage i-0a1b2c3d4e5f60718 --timespan 2d",
        "trailhawk lineage arn:aws:iam::123456789012:user/bob --format json",
    )
)
def lineage(
    context: typer.Context,
    who: Annotated[
        str,
        typer.Argument(metavar="KEY|ARN|INSTANCE", help="An access key, a session, role, user, instance."),
    ],
    timespan: TimespanOption = "",
    form: FormatOption = Format.TABLE,
) -> int:
    """Tell who got which credentials from whom, around a key, ARN or instance.

    A tree: who asked, the key they got, and from where it was used; keys that
    were never used and keys used from two places at once are told. The KQL
    function behind it is CredentialLineage().
    """
    from trailhawk.engine.result import TimeRange
    from trailhawk.errors import UsageError
    from trailhawk.incidents.literal import string
    from trailhawk.render.console import working
    from trailhawk.render.lineage import show_lineage
    from trailhawk.render.output import print_json_list

    if not who.strip():
        raise UsageError("whose credentials?", hint="name an access key, an ARN or an instance")
    workspace = workspace_of(context)
    window = TimeRange(*time_range(timespan, workspace.clock())) if timespan else None
    with working(f"credentials of {who}"):
        result = workspace.query(f"CredentialLineage({string(who)})", now=workspace.clock(), window=window)
    if form is Format.JSON:
        print_json_list(result.rows())
        return 0
    if not result.table.num_rows:
        if is_bare(context, workspace):
            return EXIT_FAILURE
        told = f"nothing is stored about credentials of {who}"
        return fail(f"{told}; name an access key, an ARN or an instance as the logs have it", EXIT_FAILURE)
    show_lineage(who, result.rows())
    return 0
