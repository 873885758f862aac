"""The hunting queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    FormatOption,
    QuietOption,
    RowFormatOption,
    TimespanOption,
    examples,
    fail,
    group,
    is_bare,
    left_out,
    offered,
    tell,
    workspace_of,
)
from trailhawk.cli.times import OLD, duration, moment, time_range
from trailhawk.errors import NotFoundError, QueryError, UsageError
from trailhawk.render.output import Format, RowFormat, Shown, for_programs, show_list, show_one, show_result
from trailhawk.render.text import moment as moment_text
from trailhawk.words import counted

if TYPE_CHECKING:
    from trailhawk.detect.bookmarks import Bookmark
    from trailhawk.detect.hunt import Hunted
    from trailhawk.detect.livestream import Arrived
    from trailhawk.detect.rule import Rule
    from trailhawk.workspace import Workspace

app = group("The hunting queries.")
bookmarks = group("Rows to keep, with notes, tags and entities.")
app.add_typer(bookmarks, name="bookmark")

HuntsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--hunts", metavar="DIR", help="A folder of hunts beside the built-in ones; may be repeated."
    ),
]


@app.command("list", epilog=examples("trailhawk hunt list"))
def hunt_list(context: typer.Context, folders: HuntsOption = None, form: FormatOption = Format.TABLE) -> None:
    """List the hunts with tactics and techniques."""
    found = [
        {
            "id": hunt.id,
            "name": hunt.name,
            "tactics": list(hunt.tactics),
            "techniques": list(hunt.techniques),
            "source": hunt.source,
            "description": hunt.description,
        }
        for hunt in workspace_of(context).content.hunts(folders or (), fault=left_out)
    ]
    columns = [
        Shown("name", "hunt"),
        Shown("tactics", "tactics"),
        Shown("techniques", "techniques", extra=True),
        Shown("source", "file", extra=True),
    ]
    show_list(found, columns, form, empty="no hunts")


@app.command(
    "run",
    epilog=examples(
        "trailhawk hunt run --all",
        "trailhawk hunt run who-asks-who-it-is",
        "trailhawk hunt run who-asks --timespan 7d --now 2026-01-31 --format csv",
    ),
)
def hunt_run(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="[HUNT]",
            help="Its id, name or file, or a part that only it has.",
            autocompletion=offered("hunts"),
        ),
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="Run all hunts, and count what they find.")] = False,
    timespan: Annotated[
        str,
        typer.Option(
            "--timespan",
            metavar="SPAN",
            help="What {{StartTimeISO}} and {{EndTimeISO}} mean: 7d up to now, or DATE/DATE.",
        ),
    ] = "",
    now: Annotated[str, typer.Option("--now", metavar="TIME", help="What now() and ago() mean.")] = "",
    folders: HuntsOption = None,
    form: RowFormatOption = RowFormat.TABLE,
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", help="Most rows of a table; 0 for all.", min=0)
    ] = 100,
    quiet: QuietOption = False,
) -> None:
    """Run one hunt and show its rows, or all and show how many each has.

    A hunt reads what its query says, of all that is stored. With --all, each
    is also run as of a day before, so that what is new stands out, and the
    table ends with the sums by tactic.
    """
    from trailhawk.detect.hunt import hunt
    from trailhawk.detect.rulebook import named
    from trailhawk.engine.result import TimeRange
    from trailhawk.render.console import progress, working

    if every == bool(name):
        raise UsageError("give one hunt, or --all; 'trailhawk hunt list' has their names")
    workspace = workspace_of(context)
    at = moment(now) if now else workspace.clock()
    hunts = workspace.content.hunts(folders or (), fault=left_out)
    picked = TimeRange(*time_range(timespan, at)) if timespan else None
    if every:
        if form not in (RowFormat.TABLE, RowFormat.JSON):
            raise UsageError("--all is printed as table or json")
        with progress("hunts", quiet=quiet) as bar:
            found = workspace.content.hunt_all(hunts, now=at, picked=picked, progress=bar)
        _show_hunted(found, Format(form.value))
        if form is RowFormat.TABLE and not now:
            _tell_if_old(workspace, at)
        if any(each.rows is None and not each.skipped for each in found):
            raise typer.Exit(EXIT_FAILURE)
        return
    chosen = named(hunts, name)
    try:
        with working(chosen.name):
            result = hunt(workspace.engine, chosen.query, now=at, picked=picked)
    except QueryError as error:
        raise typer.Exit(fail(error.render(chosen.query), EXIT_FAILURE)) from None
    show_result(result, form, most=rows)
    if form is RowFormat.TABLE and not result.table.num_rows and not is_bare(context, workspace):
        _tell_if_old(workspace, at)


def _tell_if_old(workspace: Workspace, now: datetime) -> None:
    """Hunts count back from `now`: what that means where the logs end long before it."""
    newest = workspace.newest_row()
    if newest and now - newest > OLD:
        tell(f"the newest row is of {moment_text(newest)}; --now TIME says what now() and ago() count from")


def _show_hunted(found: tuple[Hunted, ...], form: Format) -> None:
    rows = [
        {
            "name": each.hunt.name,
            "rows": "N/A" if each.rows is None and form is Format.TABLE else each.rows,
            "delta": "" if each.delta is None and form is Format.TABLE else each.delta,
            "tactics": list(each.hunt.tactics),
            "techniques": list(each.hunt.techniques),
            "reason": f"skipped: {each.reason}" if each.skipped else each.reason,
        }
        for each in sorted(found, key=lambda each: -(each.rows or 0))
    ]
    columns = [
        Shown("name", "hunt"),
        Shown("rows", "rows", right=True),
        Shown("delta", "more than a day before", right=True, extra=True),
        Shown("tactics", "tactics", extra=True),
        Shown("reason", "why not"),
    ]
    show_list(rows, columns, form, empty="no hunts")
    if form is Format.TABLE and found:
        from trailhawk.detect.hunt import by_tactic
        from trailhawk.render.text import members

        columns = [
            Shown("tactic", "tactic"),
            Shown("hunts", "hunts", right=True),
            Shown("with_rows", "with rows", right=True),
            Shown("more", "with more than a day before", right=True),
        ]
        show_list([members(each) for each in by_tactic(found)], columns, form, empty="")


# --- live --------------------------------------------------------------------------------------------------


class LiveFormat(StrEnum):
    """How arriving rows are printed."""

    TABLE = "table"
    JSONL = "jsonl"


@app.command(
    "live",
    epilog=examples(
        "trailhawk hunt live \"AwsCalls | where EventName == 'ConsoleLogin'\"",
        "trailhawk hunt live what-root-did --every 1m --format jsonl | tee -a rows.jsonl",
        "trailhawk hunt live AWSGuardDuty --since 2h",
    ),
)
def hunt_live(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="QUERY|HUNT",
            help="KQL, or a hunt as 'hunt run' takes it.",
            autocompletion=offered("hunts"),
        ),
    ],
    every: Annotated[
        str, typer.Option("--every", metavar="SPAN", help="How often to look: 30s, 5m.")
    ] = "30s",
    since: Annotated[
        str, typer.Option("--since", metavar="SPAN", help="Begin with what arrived so long before.")
    ] = "0s",
    folders: HuntsOption = None,
    form: Annotated[
        LiveFormat, typer.Option("--format", help="How the rows are printed.", callback=for_programs)
    ] = LiveFormat.TABLE,
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", help="Most rows printed of one look.", min=1)
    ] = 1_000,
) -> None:
    """Run a query over what arrives, and print its rows as they come.

    Goes by the time of ingestion, so that late logs are seen too; no row is
    printed twice. Each look sees only what arrived since the last one, as an NRT
    rule does; watchlists are whole. Ctrl-C ends it.
    """
    import threading

    from trailhawk.cli.signals import stopped_by_signals
    from trailhawk.detect.livestream import Livestream, stream
    from trailhawk.errors import LakeError, LimitError

    step, back = _span("--every", every, least=1), _span("--since", since, least=0)
    workspace = workspace_of(context)
    text, _ = _query_or_hunt(workspace, what, folders)
    try:
        tables = workspace.tables_read(text)
    except QueryError as error:
        raise typer.Exit(fail(error.render(text), EXIT_FAILURE)) from None
    if not tables:
        raise UsageError("the query reads no table of logs, so nothing can arrive for it")
    live = Livestream(workspace.engine, text, tables=tables, start=workspace.clock() - back, most=rows)
    stop = threading.Event()
    tell(f"watching {', '.join(tables)} every {every}; Ctrl-C ends it")
    with stopped_by_signals(stop):
        stream(
            live,
            clock=workspace.clock,
            wait=stop.wait,
            every=step,
            tell=lambda arrived: _print_arrived(arrived, form),
            fail=lambda error: tell(f"{error}; tried again in {every}"),
            retried=(LimitError, LakeError),
        )


def _span(option: str, text: str, *, least: int) -> timedelta:
    found = duration(text)
    if found is None or found < timedelta(seconds=least):
        raise UsageError(f"{option} '{text}' is no span", hint="write 30s, 5m or 1h")
    return found


def _print_arrived(arrived: Arrived, form: LiveFormat) -> None:
    from trailhawk.render.console import results
    from trailhawk.render.table import print_rows
    from trailhawk.render.text import to_json

    if form is LiveFormat.JSONL:
        for row in arrived.rows:
            print(to_json(row), flush=True)
    else:
        print_rows(
            results(), arrived.columns, [[row[name] for name in arrived.columns] for row in arrived.rows]
        )
    if arrived.more:
        tell(f"{counted(arrived.more, 'more row')} arrived, not printed; see --rows")


def _query_or_hunt(
    workspace: Workspace, text: str, folders: Iterable[Path] | None
) -> tuple[str, Rule | None]:
    """The query that is meant: a hunt's where the text names one, and then the hunt, else the text itself."""
    from trailhawk.detect.rulebook import named

    if "|" in text or "\n" in text:
        return text, None
    try:
        found = named(workspace.content.hunts(folders or (), fault=left_out), text)
    except NotFoundError:
        return text, None
    return found.query, found


# --- bookmarks ---------------------------------------------------------------------------------------------

BookmarkArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Its id, or a beginning that only it has.")
]
TagsOption = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; may be repeated.")]


@bookmarks.command(
    "add",
    epilog=examples(
        "trailhawk hunt bookmark add --hunt what-root-did --row 2 --note 'nobody knows why' --tag case-7",
        "trailhawk hunt bookmark add --query \"AwsCalls | where EventName == 'StopLogging'\" --row 1"
        " --map AwsPrincipal.Arn=Principal",
    ),
)
def bookmark_add(
    context: typer.Context,
    query: Annotated[str, typer.Option("--query", metavar="KQL", help="The query whose row is kept.")] = "",
    hunt_name: Annotated[
        str,
        typer.Option(
            "--hunt",
            metavar="HUNT",
            help="The hunt whose row is kept, instead of a query.",
            autocompletion=offered("hunts"),
        ),
    ] = "",
    row: Annotated[
        int,
        typer.Option("--row", metavar="N", help="Which row, from 1; not needed where there is one.", min=0),
    ] = 0,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What there is to say.")] = "",
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="A name; else its first entity.")] = "",
    tags: TagsOption = None,
    like: Annotated[
        str,
        typer.Option("--like", metavar="RULE", help="Take the entities as this rule or hunt maps columns."),
    ] = "",
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="TYPE.ID=COLUMN", help="An entity from a column; may be repeated."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--entity", metavar="TYPE.ID=VALUE", help="An entity by its value; may be repeated."),
    ] = None,
    timespan: TimespanOption = "",
    now: Annotated[str, typer.Option("--now", metavar="TIME", help="What now() and ago() mean.")] = "",
    folders: HuntsOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Keep a row of a query's or a hunt's result.

    Its entities are those that the hunt's entityMappings find in the row (or
    those of the rule named by --like), and those given by --map and --entity.
    """
    from getpass import getuser

    from trailhawk.detect.bookmarks import bookmark, given_entity, given_mapping
    from trailhawk.detect.hunt import DAY, hunt
    from trailhawk.detect.rulebook import named
    from trailhawk.engine.result import TimeRange
    from trailhawk.render.text import to_json

    if bool(query) == bool(hunt_name):
        raise UsageError("give a query or a hunt")
    mappings, entities = (
        [given_mapping(each) for each in maps or ()],
        [given_entity(each) for each in given or ()],
    )
    workspace = workspace_of(context)
    at = moment(now) if now else workspace.clock()
    start, end = time_range(timespan, at) if timespan else (None, at)
    chosen = named(workspace.content.hunts(folders or (), fault=left_out), hunt_name) if hunt_name else None
    model = workspace.content.rule(like) if like else chosen
    text = chosen.query if chosen else query
    try:
        if chosen:
            picked = TimeRange(start or at - DAY, end)
            result = hunt(workspace.engine, text, now=at, picked=picked)
        else:
            result = workspace.query(text, now=at, window=TimeRange(start, end) if timespan else None)
    except QueryError as error:
        raise typer.Exit(fail(error.render(text), EXIT_FAILURE)) from None
    found = result.rows()
    if not found:
        raise UsageError("the query gives no row to keep")
    if row > len(found) or (not row and len(found) > 1):
        raise UsageError(f"the query gives {len(found):,} rows", hint="say which by --row")
    kept = found[max(row, 1) - 1]
    made = workspace.bookmarks.add(
        bookmark(
            kept,
            to_json(kept),
            query=text,
            query_start=start,
            query_end=end or at,
            mappings=[*(model.entity_mappings if model else ()), *mappings],
            given=entities,
            name=name,
            notes=note,
            tags=tags or (),
            now=workspace.clock(),
            by=getuser(),
        )
    )
    workspace.export()
    show_one(_shown(made) if form is Format.JSON else _brief(made), form)


@bookmarks.command(
    "list", epilog=examples("trailhawk hunt bookmark list", "trailhawk hunt bookmark list --tag case-7")
)
def bookmark_list(
    context: typer.Context,
    tag: Annotated[str, typer.Option("--tag", metavar="TAG", help="Only those that have it.")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """List the bookmarks, the newest first."""
    found = [_shown(each) for each in workspace_of(context).bookmarks.all(tag=tag)]
    columns = [
        Shown("short", "id"),
        Shown("name", "name"),
        Shown("notes", "note"),
        Shown("tags", "tags"),
        Shown("event_time", "event"),
        Shown("created_at", "made", extra=True),
        Shown("created_by", "by", extra=True),
    ]
    show_list(found, columns, form, empty="no bookmarks")


@bookmarks.command("show", epilog=examples("trailhawk hunt bookmark show 3f0a"))
def bookmark_show(
    context: typer.Context, bookmark_id: BookmarkArgument, form: FormatOption = Format.TABLE
) -> None:
    """Show a bookmark with its row, entities and history."""
    store = workspace_of(context).bookmarks
    found = store.one(bookmark_id)
    history = [
        {
            "at": each.bookmark.updated_at,
            "by": each.bookmark.updated_by,
            "notes": each.bookmark.notes,
            "tags": list(each.bookmark.tags),
        }
        for each in store.history(found.id)
    ]
    show_one({**_shown(found), "history": history}, form)


@bookmarks.command(
    "edit", epilog=examples("trailhawk hunt bookmark edit 3f0a --note 'it was the backup' --tag closed")
)
def bookmark_edit(
    context: typer.Context,
    bookmark_id: BookmarkArgument,
    note: Annotated[
        str | None, typer.Option("--note", metavar="TEXT", help="A note instead of the old.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="TEXT", help="A name instead of the old.")
    ] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="A tag instead of the old ones; may be repeated."),
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Change the note, the name or the tags of a bookmark."""
    from getpass import getuser

    if note is None and name is None and not tags:
        raise UsageError("give --note, --name or --tag")
    workspace = workspace_of(context)
    changed = workspace.bookmarks.change(
        bookmark_id, name=name, notes=note, tags=tags or None, now=workspace.clock(), by=getuser()
    )
    workspace.export()
    show_one(_shown(changed) if form is Format.JSON else _brief(changed), form)


@bookmarks.command("remove", epilog=examples("trailhawk hunt bookmark remove 3f0a"))
def bookmark_remove(
    context: typer.Context, bookmark_id: BookmarkArgument, form: FormatOption = Format.TABLE
) -> None:
    """Take a bookmark away; the table HuntingBookmark keeps what it held."""
    from getpass import getuser

    workspace = workspace_of(context)
    gone = workspace.bookmarks.remove(bookmark_id, now=workspace.clock(), by=getuser())
    workspace.export()
    show_one(_shown(gone) if form is Format.JSON else _brief(gone), form)


def _brief(each: Bookmark) -> Mapping[str, object]:
    """What to tell whoever changed a bookmark."""
    return {
        "id": each.id[:8],
        "name": each.name,
        "note": each.notes,
        "tags": ", ".join(each.tags),
        "entities": ", ".join(f"{entity.type} {entity.name}" for entity in each.entities),
    }


def _shown(each: Bookmark) -> Mapping[str, object]:
    """A bookmark for people and scripts; `row` is the row as an object."""
    import json

    from trailhawk.detect.entities import as_json
    from trailhawk.render.text import members

    return {
        "short": each.id[:8],
        **members(each),
        "tags": list(each.tags),
        "entities": as_json(each.entities),
        "row": json.loads(each.row),
    }
