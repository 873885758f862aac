"""Threat intelligence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from trailhawk.cli.options import EXIT_FAILURE, FormatOption, examples, group, tell, workspace_of
from trailhawk.errors import UsageError
from trailhawk.render.output import Format, Shown, show_list
from trailhawk.render.text import members

app = group("Indicators of threat intelligence, which rules look for: addresses, domains, hashes.")

NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[INDICATOR...]", help="Its id, or the value it names.")
]
SourceOption = Annotated[str, typer.Option("--source", metavar="NAME", help="Those of this source.")]
COLUMNS = (
    Shown("value", "value"),
    Shown("key", "kind"),
    Shown("source", "source"),
    Shown("confidence", "confidence", right=True),
    Shown("tags", "tags"),
    Shown("valid_until", "until"),
    Shown("state", "state"),
)


@app.command(
    "import",
    epilog=examples(
        "trailhawk intel import bundle.json --source cert",
        "trailhawk intel import addresses.txt --source blocklist --valid-for 30d --confidence 60 --replace",
        "trailhawk intel import feed.csv --column dst_ip --tag c2",
    ),
)
def intel_import(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="STIX 2 (JSON), a list with one indicator a line, or CSV."),
    ],
    source: Annotated[
        str, typer.Option("--source", metavar="NAME", help="Whose it is; the file's name unless given.")
    ] = "",
    column: Annotated[
        str, typer.Option("--column", metavar="NAME", help="Of CSV: the column that holds the indicators.")
    ] = "",
    valid_for: Annotated[
        str,
        typer.Option(
            "--valid-for", metavar="SPAN", help="Of a list: how long it holds; for ever unless given."
        ),
    ] = "",
    confidence: Annotated[
        int | None,
        typer.Option("--confidence", metavar="N", help="Of a list: how sure its source is.", min=0, max=100),
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TEXT", help="Of a list; may be repeated.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="End the source's indicators that the file no longer holds.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Take indicators in, or bring those of a source up to date.

    What an indicator was before stays in the table ThreatIntelIndicators; its
    newest row counts. Exit code 1 when some of a file could not be taken.
    """
    from trailhawk.detect.intel.store import Options
    from trailhawk.detect.rule_file import duration

    try:
        span = duration(valid_for) if valid_for else None
    except ValueError as error:
        raise UsageError(f"--valid-for: {error}") from None
    options = Options(column, span, confidence, tuple(tags or ()))
    workspace = workspace_of(context)
    if replace and len(files) > 1:
        raise UsageError("--replace takes one file", hint="what it does not hold is ended")
    done = [
        workspace.intel.load(path, source=source, now=workspace.clock(), options=options, replace=replace)
        for path in files
    ]
    names = ("source", "created", "updated", "unchanged", "older", "ended", "unmatchable", "refused")
    columns = [Shown(name, name, right=name != "source") for name in names]
    show_list([{**members(each), "reasons": list(each.reasons)} for each in done], columns, form, empty="")
    for each in done:
        for reason in each.reasons:
            tell(f"left out: {reason}")
        if each.refused > len(each.reasons):
            tell(f"and {each.refused - len(each.reasons):,} more")
    if any(each.refused for each in done):
        raise typer.Exit(EXIT_FAILURE)


@app.command(
    "list", epilog=examples("trailhawk intel list", "trailhawk intel list --source cert --all --format json")
)
def intel_list(
    context: typer.Context,
    source: SourceOption = "",
    holding: Annotated[
        str, typer.Option("--value", metavar="TEXT", help="Those whose value holds this text.")
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is revoked, ended or removed.")
    ] = False,
    most: Annotated[int, typer.Option("--rows", metavar="N", help="Most rows.", min=1)] = 1000,
    form: FormatOption = Format.TABLE,
) -> None:
    """List indicators as they are now, the last told first."""
    from trailhawk.kql.printer import quoted

    wanted = ["true"]
    if not everything:
        wanted.append("IsActive and not(IsDeleted) and (isnull(ValidUntil) or ValidUntil > now())")
    if source:
        wanted.append(f"SourceSystem == {quoted(source)}")
    if holding:
        wanted.append(f"ObservableValue contains {quoted(holding)}")
    workspace = workspace_of(context)
    now = workspace.clock()
    rows = workspace.intel.listed(now, where=" and ".join(wanted), most=most + 1)
    show_list([_listed(row, now) for row in rows[:most]], COLUMNS, form, empty="no indicators")
    if len(rows) > most:
        tell(f"the first {most:,}; --rows shows more")


@app.command(
    "expire",
    epilog=examples("trailhawk intel expire 203.0.113.7", "trailhawk intel expire --source blocklist"),
)
def intel_expire(
    context: typer.Context,
    names: NamesArgument = None,
    source: SourceOption = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Let indicators end now: rules look for them no more."""
    _end(context, names or (), source, form, remove=False)


@app.command(
    "remove",
    epilog=examples(
        "trailhawk intel remove 203.0.113.7 --source blocklist", "trailhawk intel remove --source old"
    ),
)
def intel_remove(
    context: typer.Context,
    names: NamesArgument = None,
    source: SourceOption = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Remove indicators that should not have been there; their history stays."""
    _end(context, names or (), source, form, remove=True)


def _end(context: typer.Context, names: Sequence[str], source: str, form: Format, *, remove: bool) -> None:
    if not names and not source:
        raise UsageError("which indicators?", hint="give ids or values, or --source")
    workspace = workspace_of(context)
    now = workspace.clock()
    rows = workspace.intel.end(now, names=names, source=source, remove=remove)
    show_list([_listed(row, now) for row in rows], COLUMNS, form, empty="no indicators")


def _listed(row: Mapping[str, object], now: datetime) -> dict[str, object]:
    from trailhawk.detect.intel.store import state_of

    return {
        "id": row["Id"],
        "key": row["ObservableKey"],
        "value": row["ObservableValue"] or row["Pattern"],
        "source": row["SourceSystem"],
        "confidence": row["Confidence"],
        "tags": row["Tags"],
        "valid_from": row["ValidFrom"],
        "valid_until": row["ValidUntil"],
        "told_at": row["TimeGenerated"],
        "state": state_of(row, now),
    }
