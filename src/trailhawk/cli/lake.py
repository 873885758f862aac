"""Looking after the lake: what it holds, compaction, retention, clearing away, repair."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    FormatOption,
    QuietOption,
    examples,
    group,
    is_bare,
    tell,
    workspace_of,
)
from trailhawk.render.output import Format, Shown, show_list
from trailhawk.render.text import members
from trailhawk.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from trailhawk.connectors.repair import Findings, Missing, Restored
    from trailhawk.lake import LogError
    from trailhawk.lake.files import DamagedFileError
    from trailhawk.lake.status import DayState

app = group("Look after the lake: state, compaction, retention, clearing away, repair.")

_MOST_FINDINGS = 200

TablesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TABLE]...", help="Only these tables; all of them unless given.", show_default=False
    ),
]


@app.command(
    epilog=examples(
        "trailhawk lake status",
        "trailhawk lake status AWSCloudTrail --days",
        "trailhawk lake status --format json",
    )
)
def status(
    context: typer.Context,
    tables: TablesArgument = None,
    days: Annotated[bool, typer.Option("--days", help="A line for each event day.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show rows, files, bytes, oldest and newest event of each table, or of each of its days.

    Data files that are missing or cut off are named on standard error, and logs
    that are damaged; then it ends with 1.
    """
    workspace = workspace_of(context)
    unreadable = {} if tables else workspace.unreadable_logs()
    sound = tables or [name for name in workspace.lake.table_names() if name not in unreadable]
    found = workspace.lake_days(sound)
    columns = [
        Shown("table", "table"),
        *([Shown("day", "day")] if days else [Shown("days", "days", right=True)]),
        Shown("rows", "rows", right=True),
        Shown("files", "files", right=True, extra=True),
        Shown("bytes", "bytes", right=True, extra=True),
        Shown("oldest", "oldest event"),
        Shown("newest", "newest event"),
    ]
    shown = [members(state) for state in found] if days else _by_table(found)
    show_list(shown, columns, form, empty="nothing is stored")
    if not shown and not unreadable:
        is_bare(context, workspace)
    for path in workspace.damaged_files(sound):
        tell(f"{path} is missing or cut off: queries that need it fail; see 'trailhawk lake repair'")
    for reason in unreadable.values():
        tell(reason)
    if unreadable:
        raise typer.Exit(EXIT_FAILURE)


def _by_table(days: list[DayState]) -> list[dict[str, object]]:
    tables: dict[str, list[DayState]] = defaultdict(list)
    for state in days:
        tables[state.table].append(state)
    return [
        {
            "table": name,
            "days": len(states),
            "rows": sum(state.rows for state in states),
            "files": sum(state.files for state in states),
            "bytes": sum(state.bytes for state in states),
            "oldest": min((state.oldest for state in states if state.oldest), default=None),
            "newest": max((state.newest for state in states if state.newest), default=None),
        }
        for name, states in tables.items()
    ]


@app.command(epilog=examples("trailhawk lake compact", "trailhawk lake compact AWSCloudTrail"))
def compact(context: typer.Context, tables: TablesArgument = None, form: FormatOption = Format.TABLE) -> None:
    """Rewrite the days that hold many small files as few sorted ones.

    Readers and writers go on meanwhile. The old files stay on disk for a day.
    Damaged files and logs are named and left where they are; then it ends with 1.
    """
    damage: list[LogError | DamagedFileError] = []
    workspace = workspace_of(context)
    done = workspace.caretaker.compact(tables or (), told=damage.append)
    rows = [{"table": name, "rewritten": count} for name, count in done.items() if count]
    columns = [Shown("table", "table"), Shown("rewritten", "days rewritten", right=True)]
    show_list(rows, columns, form, empty="nothing to rewrite")
    if not rows:
        is_bare(context, workspace)
    for error in damage:
        tell(str(error))
    if damage:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "trailhawk lake check", "trailhawk lake check AWSCloudTrail", "trailhawk lake check --format json"
    )
)
def check(
    context: typer.Context,
    tables: TablesArgument = None,
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Read all that is stored, and say what is damaged, missing or there twice.

    Every live file is read through, its checksums too; nothing is changed. Of a
    lake in a bucket the copies on this machine are read, those that are missing
    are fetched, and a damaged copy is made anew. Ends with 1 where something is
    wrong, and where no logs are stored: nothing was checked then.
    """
    found = _checked(context, tables, quiet)
    _show_findings([*_damaged(found), *_missing(found)], form, _sound(found))
    _tell_accepted(found)
    if not found.ok or (found.is_empty and is_bare(context, workspace_of(context))):
        raise typer.Exit(1)


def _checked(context: typer.Context, tables: list[str] | None, quiet: bool) -> Findings:
    from trailhawk.render.console import progress

    with progress("check, files", quiet=quiet) as bar:
        return workspace_of(context).check_lake(tables or (), renewed=_tell_renewed, progress=bar)


@app.command(
    epilog=examples(
        "trailhawk lake repair",
        "trailhawk lake repair --apply",
        "trailhawk lake repair --apply --accept-loss",
    )
)
def repair(
    context: typer.Context,
    tables: TablesArgument = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; else it is only said.")] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="With --apply: what is gone for good is no fault any more.")
    ] = False,
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Give up damaged files, read their rows again, and take away doubled rows.

    A damaged file is best put back from a backup. Without --apply it is said
    what would become of its rows. With --apply the rows that can be read go into
    new files; the others are read again from the objects that the ledger names,
    as far as these lie where they lay. What cannot be had is named, stays in the
    ledger as lost, and is asked for again by the next repair. Ends with 1 where
    rows stay lost, unless that is accepted: the ledger says so then, and check
    is content. Accepted is what is gone for good: an object that is not there or
    another by now, or that came over HTTP. What only cannot be reached now is not.
    Safe beside all that runs, and safe to run again.
    """
    from trailhawk.errors import UsageError
    from trailhawk.render.console import progress

    if accept_loss and not apply:
        raise UsageError("--accept-loss needs --apply", hint="what is lost is known when it was asked for")
    workspace = workspace_of(context)
    found = _checked(context, tables, quiet)
    if not apply:
        why = {}
        with progress("repair, objects looked for", quiet=quiet) as bar:
            for count, one in enumerate(found.missing, 1):
                why[one] = workspace.why_lost(one)
                bar(count, len(found.missing))
        shown = [*_damaged(found), *_missing(found, why)]
        _show_findings(shown, form, _sound(found))
        _tell_accepted(found)
        if shown:
            tell("nothing was changed: see --apply")
        if not found.ok:
            raise typer.Exit(1)
        return
    with progress("repair, objects read again", quiet=quiet) as bar:
        restored = workspace.mend_lake(found, progress=bar)
    failed = [each for each in restored if each.reason and not each.missing.accepted]
    gone = [each.missing for each in failed if accept_loss and each.gone]
    lost = [each.missing for each in failed if not (accept_loss and each.gone)]
    if gone:
        workspace.accept_loss(gone)
    _show_findings(
        [*_damaged(found, given_up="given up", doubled="taken away"), *map(_restored, restored)],
        form,
        _sound(found),
    )
    held = sum(each.rows - each.readable for each in found.damages)
    no_objects = held - sum(one.rows for one in found.missing if not one.given_up)
    if no_objects > 0:
        tell(f"{counted(no_objects, 'row is', 'rows are')} lost, of no object that the ledger names")
    if gone:
        tell(f"{_lost(gone)}; which is accepted")
    if lost:
        then = "not accepted, since they may be had later" if accept_loss else "see --accept-loss"
        tell(f"{_lost(lost)}; the next repair asks for them again, {then}")
    if lost or no_objects > 0 or found.unreadable:
        raise typer.Exit(1)


def _tell_accepted(found: Findings) -> None:
    if gone := [one for one in found.missing if one.accepted]:
        tell(f"{_lost(gone)}, which is accepted: IngestLedger | where State == 'accepted'")


def _lost(lost: Sequence[Missing]) -> str:
    rows = sum(one.rows for one in lost)
    return f"{counted(rows, 'row')} of {counted(len(lost), 'object')} {'is' if rows == 1 else 'are'} lost"


def _tell_renewed(path: str) -> None:
    tell(f"{path} was a damaged copy, and was made anew")


def _sound(found: Findings) -> str:
    return "all that is stored can be read, and is there once" if not found.is_empty else "nothing is stored"


def _show_findings(rows: list[dict[str, object]], form: Format, sound: str) -> None:
    columns = [
        Shown("what", "what"),
        Shown("table", "table"),
        Shown("day", "day"),
        Shown("rows", "rows", right=True),
        Shown("place", "where"),
        Shown("detail", "why"),
    ]
    shown = rows if form is Format.JSON else rows[:_MOST_FINDINGS]
    show_list(shown, columns, form, empty=sound)
    if len(shown) < len(rows):
        tell(f"{len(rows) - len(shown):,} more: --format json has all")


def _damaged(
    found: Findings, *, given_up: str = "damaged", doubled: str = "doubled"
) -> Iterator[dict[str, object]]:
    """The tables' logs and the files of which something is wrong, with the rows concerned."""
    for table, reason in found.unreadable:
        yield _finding("unreadable", table, None, None, "", reason)
    for table in found.behind:
        yield _finding("behind", table, None, None, "", "it is older than what the ledger has seen of it")
    for each in found.damages:
        rows = each.rows - each.readable
        yield _finding(given_up, each.table, each.day, rows, each.file, each.reason)
    for twice in found.doubled:
        yield _finding(
            doubled, twice.table, twice.day, twice.rows, twice.file, "equal rows were stored before"
        )


def _missing(found: Findings, why: Mapping[Missing, str] | None = None) -> Iterator[dict[str, object]]:
    """The objects of which rows are missing; where it is known why, also those that are accepted to be lost
    and can be read again."""
    for one in found.missing:
        before = "given up before" if one.given_up else "in no file that can be read"
        detail = (why[one] or "can be read again") if why else before
        if not one.accepted or (why and not why[one]):
            what = "lost, accepted" if one.accepted else "missing"
            yield _finding(what, one.table, one.first.date(), one.rows, one.location or one.object, detail)


def _restored(each: Restored) -> dict[str, object]:
    one = each.missing
    detail = each.reason or each.doubt or f"{one.rows:,} were missing" * (each.rows != one.rows)
    lost = "lost, accepted" if one.accepted else "lost"
    what, rows = (lost, one.rows) if each.reason else ("read again", each.rows)
    return _finding(what, one.table, one.first.date(), rows, one.location or one.object, detail)


def _finding(
    what: str, table: str, day: date | None, rows: int | None, place: str, detail: str
) -> dict[str, object]:
    return {"what": what, "table": table, "day": day, "rows": rows, "place": place, "detail": detail}


@app.command(epilog=examples("trailhawk lake vacuum"))
def vacuum(context: typer.Context, tables: TablesArgument = None, form: FormatOption = Format.TABLE) -> None:
    """Delete the files that no version of the last day names: retired ones, and what a kill left."""
    workspace = workspace_of(context)
    done = workspace.caretaker.vacuum(tables or ())
    rows = [{"table": name, "deleted": count} for name, count in done.items() if count]
    columns = [Shown("table", "table"), Shown("deleted", "files deleted", right=True)]
    show_list(rows, columns, form, empty="nothing to delete")
    if not rows:
        is_bare(context, workspace)


@app.command(epilog=examples("trailhawk lake retention", "trailhawk lake retention --apply"))
def retention(
    context: typer.Context,
    tables: TablesArgument = None,
    apply: Annotated[bool, typer.Option("--apply", help="Remove these rows now.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the rows that are older than the settings keep them; remove them with --apply.

    How many days a table keeps stands in trailhawk.toml, under lake.retention_days
    and lake.retention. Days count from the event. The files stay on disk for a day.
    """
    workspace = workspace_of(context)
    caretaker = workspace.caretaker
    found = caretaker.forget(tables or ()) if apply else caretaker.expiring(tables or ())
    columns = [
        Shown("table", "table"),
        Shown("before", "events before"),
        Shown("days", "days", right=True),
        Shown("files", "files", right=True),
        Shown("rows", "rows removed" if apply else "rows to remove", right=True),
    ]
    show_list([members(each) for each in found], columns, form, empty="every table is kept for ever")
    if not found:
        is_bare(context, workspace)
