"""Ingest filters: what of the logs is kept."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    FormatOption,
    QuietOption,
    examples,
    fail,
    group,
    tell,
    workspace_of,
)
from trailhawk.cli.times import duration
from trailhawk.errors import QueryError, UsageError
from trailhawk.render.output import Format, Shown, show_list, show_one
from trailhawk.render.text import members
from trailhawk.words import counted

if TYPE_CHECKING:
    from trailhawk.detect.refetch import Dropped
    from trailhawk.detect.trial import Saving, Trial

app = group("Ingest filters: KQL that drops, masks and adds before logs are stored.")

_TABLE = "AWSCloudTrail"
_MOST_ROWS = 25

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="The transform in KQL: source | where ... | extend ...")
]
TableOption = Annotated[str, typer.Option("--table", metavar="TABLE", help="The table it is for.")]
ByOption = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who does it; the name signed in with unless given.")
]
NoteOption = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why.")]


@app.command(
    "try",
    epilog=examples(
        "trailhawk filter try drop.kql --last 7d", "trailhawk filter try drop.kql --table AWSVPCFlow"
    ),
)
def filter_try(
    context: typer.Context,
    file: FileArgument,
    last: Annotated[
        str, typer.Option("--last", metavar="SPAN", help="So much up to the newest row of the table.")
    ] = "7d",
    table: TableOption = _TABLE,
    prices: Annotated[
        str,
        typer.Option(
            "--prices", metavar="FILE", help="Prices; the home's prices.yaml or the package's unless given."
        ),
    ] = "",
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Show what a filter would save, and which results it would cost.

    Sends the rows of the last days through the filter, and runs every rule and
    hunt that reads the table over both. Nothing is dropped and nothing stored.
    """
    from trailhawk.render.console import progress

    span = duration(last)
    if not span:
        raise UsageError(f"'{last}' is no span of time", hint="write 7d or 12h")
    text = _text(file)
    workspace = workspace_of(context)
    with progress("filter, percent", quiet=quiet) as bar:
        try:
            tried = workspace.try_filter(
                table, text, last=span, prices=Path(prices) if prices else None, progress=bar
            )
        except QueryError as error:
            raise typer.Exit(fail(error.render(text), EXIT_FAILURE)) from None
    _show(tried, form)


@app.command("apply", epilog=examples("trailhawk filter apply drop.kql --note 'noise of the backup role'"))
def filter_apply(
    context: typer.Context,
    file: FileArgument,
    table: TableOption = _TABLE,
    by: ByOption = "",
    note: NoteOption = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Make it the filter of a table, for all logs taken from now on.

    It takes the place of the one before. What is stored already stays as it
    is; what a filter drops can be had back with 'refetch' as long as the
    object is where it was.
    """
    text = _text(file)
    workspace = workspace_of(context)
    try:
        workspace.transform(table, text)
    except QueryError as error:
        raise typer.Exit(fail(error.render(text), EXIT_FAILURE)) from None
    made = workspace.filters.apply(table, text, by=by or getpass.getuser(), now=workspace.clock(), note=note)
    show_one(members(made), form)


@app.command("list", epilog=examples("trailhawk filter list", "trailhawk filter list --all"))
def filter_list(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="All versions, also those not in force.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the filters in force, or every version there was."""
    versions = workspace_of(context).filters.versions()
    newest = {version.table: version for version in versions}
    shown = [
        {**members(version), "in_force": newest[version.table] is version and bool(version.text)}
        for version in versions
    ]
    columns = [Shown(name, name) for name in ("table", "version", "at", "by", "note", "text")]
    listed = shown if every else [one for one in shown if one["in_force"]]
    show_list(listed, columns, form, empty="no filters")


@app.command("remove", epilog=examples("trailhawk filter remove AWSCloudTrail"))
def filter_remove(
    context: typer.Context,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table whose filter goes.")],
    by: ByOption = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Take the filter of a table out of use."""
    workspace = workspace_of(context)
    made = workspace.filters.remove(table, by=by or getpass.getuser(), now=workspace.clock())
    show_one(members(made), form)
    tell(f"what it dropped is not back yet: 'trailhawk filter refetch {made.table}'")


@app.command("refetch", epilog=examples("trailhawk filter refetch AWSCloudTrail"))
def filter_refetch(
    context: typer.Context,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table whose dropped rows are wanted.")],
    profile: Annotated[str, typer.Option("--profile", metavar="NAME", help="Profile of AWS's files.")] = "",
    region: Annotated[str, typer.Option("--region", metavar="NAME", help="Region to sign in at.")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Read dropped rows again from the bucket or folder.

    Stores what filters have dropped and the filter as it is now (or none)
    keeps. Rows that were stored with masked columns stay masked. A bucket is
    read with the rights of the connector that names it, unless told otherwise.
    """
    from trailhawk.connectors.reopen import object_at, unchanged
    from trailhawk.connectors.trail_store import Aws

    workspace = workspace_of(context)
    workspace.lake.delta(table)
    find = object_at(workspace.connector_settings)
    aws = Aws(profile=profile, region=region) if profile or region else None

    def opened(item: Dropped) -> BinaryIO:
        if item.bucket and aws:
            return unchanged(aws.open(item.bucket, item.key), item.sha256)
        return unchanged(find(item.location).open(), item.sha256)

    show_one(members(workspace.refetch(table, opened)), form)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8 text") from None


def _show(tried: Trial, form: Format) -> None:
    if form is Format.JSON:
        show_one(members(tried), form)
        return
    columns = [
        Shown("event_source", "event source"),
        Shown("event_name", "event name"),
        *(
            Shown(name, heading, right=True)
            for name, heading in {
                "rows": "rows",
                "dropped": "dropped",
                "bytes_saved": "bytes saved",
                "rows_saved_a_month": "rows a month",
                "bytes_saved_a_month": "bytes a month",
                "sentinel": "Sentinel $ a month",
                "s3": "S3 $ a month",
            }.items()
        ),
    ]
    saved = [one for one in tried.savings if one.bytes_saved]
    listed = [_saving(one) for one in saved[:_MOST_ROWS]]
    if len(saved) > 1:
        listed.append({**_saving(tried.total), "event_source": "all"})
    show_list(listed, columns, form, empty="it drops and masks nothing")
    if len(saved) > _MOST_ROWS:
        tell(f"{len(saved) - _MOST_ROWS:,} more: --format json has all")
    share = tried.dropped / tried.rows if tried.rows else 0.0
    print(
        f"\n{tried.table}, {tried.start:%Y-%m-%d %H:%M} to {tried.end:%Y-%m-%d %H:%M}: "
        f"{tried.dropped:,} of {counted(tried.rows, 'row')} dropped ({share:.1%})"
    )
    for note in tried.notes:
        print(f"note: {note}")
    print()
    columns = [
        Shown("kind", "kind"),
        Shown("name", "name"),
        Shown("results", "results", right=True),
        Shown("lost", "lost", right=True),
        Shown("other", "other instead", right=True),
        Shown("error", "not known"),
    ]
    show_list([members(effect) for effect in tried.effects], columns, form, empty="")
    lost = sum(1 for effect in tried.effects if effect.lost)
    unknown = sum(1 for effect in tried.effects if effect.error)
    print(
        f"\n{counted(tried.tried, 'rule or hunt reads', 'rules and hunts read')}"
        f" {tried.table}; {lost} would have lost results"
        + (f", of {unknown} it is not known" if unknown else "")
    )


def _saving(saving: Saving) -> dict[str, object]:
    return {
        **members(saving),
        "sentinel": f"{saving.sentinel_usd_a_month:,.2f}",
        "s3": f"{saving.s3_usd_a_month:,.4f}",
    }
