"""Lists of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trailhawk.cli.options import FormatOption, examples, group, offered, workspace_of
from trailhawk.render.output import Format, Shown, show_list, show_one
from trailhawk.render.text import members

app = group("Lists of your own that queries read with _GetWatchlist('alias').")
AliasArgument = Annotated[
    str,
    typer.Argument(metavar="ALIAS", help="The name that queries use.", autocompletion=offered("watchlists")),
]


@app.command(
    "import",
    epilog=examples(
        "trailhawk watchlist import admins admins.csv", "trailhawk watchlist import admins new.csv --key Arn"
    ),
)
def watchlist_import(
    context: typer.Context,
    alias: AliasArgument,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="CSV in UTF-8, 3.8 MB at most; its first line names columns."),
    ],
    key: Annotated[
        str, typer.Option("--key", metavar="COLUMN", help="Column of SearchKey; the first unless given.")
    ] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Make a watchlist of a CSV file, or bring it to what the file says.

    Items that are not in the file any more are deleted; what each version
    held stays.
    """
    workspace = workspace_of(context)
    done = workspace.watchlists.load(alias, file, key=key or None, now=workspace.clock())
    workspace.export()
    show_one(members(done), form)


@app.command("list", epilog=examples("trailhawk watchlist list"))
def watchlist_list(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the watchlists."""
    found = [{**members(one), "columns": list(one.columns)} for one in workspace_of(context).watchlists.all()]
    columns = [
        Shown("alias", "alias"),
        Shown("items", "items", right=True),
        Shown("key", "search key"),
        Shown("columns", "columns"),
        Shown("version", "version", right=True),
        Shown("updated_at", "updated"),
    ]
    show_list(found, columns, form, empty="no watchlists")


@app.command(
    "show",
    epilog=examples("trailhawk watchlist show admins", "trailhawk watchlist show admins --version 1"),
)
def watchlist_show(
    context: typer.Context,
    alias: AliasArgument,
    version: Annotated[
        int, typer.Option("--version", metavar="N", help="As it was then; as it is unless given.", min=0)
    ] = 0,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the items of a watchlist."""
    store = workspace_of(context).watchlists
    found = store.watchlist(alias, version=version or None)
    items = [
        {"SearchKey": item.key, **item.values, "LastUpdatedTimeUTC": item.updated_at, "_DTItemId": item.id}
        for item in store.items(alias, found.version)
    ]
    columns = [Shown(name, name) for name in ("SearchKey", *found.columns, "LastUpdatedTimeUTC")]
    show_list(items, columns, form, empty="no items")


@app.command("history", epilog=examples("trailhawk watchlist history admins"))
def watchlist_history(
    context: typer.Context, alias: AliasArgument, form: FormatOption = Format.TABLE
) -> None:
    """List the versions of a watchlist: when each came, and what it changed.

    Those of a watchlist that was removed, too. 'watchlist show --version'
    has the items as they were.
    """
    found = [members(each) for each in workspace_of(context).watchlists.history(alias)]
    columns = [
        Shown("version", "version", right=True),
        Shown("at", "at"),
        Shown("source", "file"),
        Shown("items", "items", right=True),
        Shown("created", "created", right=True),
        Shown("updated", "updated", right=True),
        Shown("deleted", "deleted", right=True),
        Shown("removed", "removed"),
    ]
    show_list(found, columns, form, empty="no versions")


@app.command("remove", epilog=examples("trailhawk watchlist remove admins"))
def watchlist_remove(context: typer.Context, alias: AliasArgument, form: FormatOption = Format.TABLE) -> None:
    """Take a watchlist out of use; what it held stays in the state database."""
    workspace = workspace_of(context)
    removed = workspace.watchlists.remove(alias, now=workspace.clock())
    workspace.export()
    show_one(members(removed), form)
