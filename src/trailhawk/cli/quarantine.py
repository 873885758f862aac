"""What could not be stored."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from trailhawk.cli.options import FormatOption, examples, group, workspace_of
from trailhawk.errors import UsageError
from trailhawk.render.output import Format, Shown, show_list, show_one
from trailhawk.render.text import members

app = group("What could not be stored, with place and reason.")


@app.command(
    "list",
    epilog=examples(
        "trailhawk quarantine list",
        "trailhawk quarantine list --summary",
        "trailhawk quarantine list --format json",
    ),
)
def quarantine_list(
    context: typer.Context,
    summary: Annotated[
        bool, typer.Option("--summary", help="How many for each object and reason, the most first.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """List all parts in quarantine, the oldest first."""
    found = workspace_of(context).quarantine()
    if summary:
        sums = Counter((part.reason, part.location) for part in found)
        rows = [
            {"parts": count, "reason": reason, "location": location}
            for (reason, location), count in sums.most_common()
        ]
        shown = [Shown("parts", "parts", right=True), Shown("reason", "reason"), Shown("location", "object")]
        show_list(rows, shown, form, empty="nothing in quarantine")
        return
    parts = [members(part) for part in found]
    columns = [
        Shown("id", "id"),
        Shown("at", "put here", extra=True),
        Shown("reason", "reason"),
        Shown("start", "first byte", right=True, extra=True),
        Shown("size", "bytes", right=True, extra=True),
        Shown("location", "object"),
    ]
    show_list(parts, columns, form, empty="nothing in quarantine")


@app.command("show", epilog=examples("trailhawk quarantine show 0a1b2c3d4e5f"))
def quarantine_show(
    context: typer.Context,
    part: Annotated[str, typer.Argument(metavar="ID", help="Its id in the list.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one part with its content, at most 64 KiB of it."""
    from trailhawk.connectors.quarantine import encode, show

    found, kept = show(workspace_of(context).lake, part)
    content, encoding = encode(kept)
    show_one({**members(found), "encoding": encoding, "content": content}, form)


@app.command(
    "retry", epilog=examples("trailhawk quarantine retry 0a1b2c3d4e5f", "trailhawk quarantine retry --all")
)
def quarantine_retry(
    context: typer.Context,
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Their ids in the list.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that is in quarantine.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Take parts again, after a file, a right or a source was mended.

    A part that can be read now is stored and leaves the quarantine, once;
    the ledger says so. One that cannot stays where it is.
    """
    if bool(parts) == every:
        raise UsageError("give the ids of parts, or --all")
    found = workspace_of(context).retry(None if every else parts)
    columns = [
        Shown("id", "id"),
        Shown("state", "state"),
        Shown("rows", "rows", right=True),
        Shown("duplicates", "duplicates", right=True),
        Shown("reason", "reason"),
        Shown("location", "object"),
    ]
    show_list([members(each) for each in found], columns, form, empty="nothing in quarantine")
