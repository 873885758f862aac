"""Exceptions of rules: `rules except`, and the commands below `rules exceptions`."""

from __future__ import annotations

from datetime import datetime, timedelta
from getpass import getuser
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import FormatOption, QuietOption, examples, group, offered, tell, workspace_of
from trailhawk.cli.times import duration, moment
from trailhawk.errors import QueryError, UsageError
from trailhawk.render.output import Format, Shown, show_list, show_one
from trailhawk.render.text import members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trailhawk.detect.backtest import Preview
    from trailhawk.detect.exceptions import Count, RuleException
    from trailhawk.detect.rule import Rule
    from trailhawk.render.console import Bar
    from trailhawk.workspace import Workspace

app = group("Rows that rules pass over, for a reason and until a day.")

_USUAL_DAYS = "7d"


@app.command(
    "list",
    epilog=examples(
        "trailhawk rules exceptions list", "trailhawk rules exceptions list --removed --format json"
    ),
)
def exceptions_list(
    context: typer.Context,
    rule: Annotated[str, typer.Option("--rule", metavar="RULE", help="Only those of this rule.")] = "",
    removed: Annotated[bool, typer.Option("--removed", help="Those that were removed, too.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the exceptions: what they take out of which rule, why, until when, and how much it was."""
    workspace = workspace_of(context)
    found: Sequence[RuleException] = workspace.content.exceptions.all(removed=removed)
    if rule:
        one = workspace.content.rule(rule)
        found = [each for each in found if each.is_of(one)]
    counts = workspace.content.exceptions.counts()
    rows = [listed(each, counts.get(each.id), workspace.clock()) for each in found]
    columns = [
        Shown("id", "number", right=True),
        Shown("rule_name", "rule"),
        Shown("where", "where"),
        Shown("reason", "reason"),
        Shown("until", "until"),
        Shown("state", "state"),
        Shown("rows", "rows", right=True),
        Shown("last", "last"),
        Shown("made_by", "by"),
        Shown("error", "trouble"),
    ]
    show_list(rows, columns, form, empty="no exceptions")


def listed(each: RuleException, count: Count | None, now: datetime) -> dict[str, object]:
    """An exception with what it took, as lists show it."""
    from trailhawk.detect.exceptions import Count

    return {**members(each), "state": each.state(now).value, **members(count or Count())}


@app.command("remove", epilog=examples("trailhawk rules exceptions remove 3 --reason 'the scanner is gone'"))
def exceptions_remove(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="As the list shows it.", min=1)],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept.")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Take an exception out of use; it stays in the history.

    What it took before is not alerted on now: windows that were run are done.
    """
    workspace = workspace_of(context)
    removed = workspace.content.exceptions.remove(number, now=workspace.clock(), by=getuser(), why=reason)
    show_one(members(removed), form)


def except_rule(
    context: typer.Context,
    rule: Annotated[
        str,
        typer.Argument(
            metavar="RULE",
            help="Its id, name or file; '*' for every rule that has the columns.",
            autocompletion=offered("rules"),
        ),
    ],
    where: Annotated[
        str, typer.Option("--where", metavar="KQL", help="A predicate over the columns of the rule's result.")
    ],
    until: Annotated[
        str,
        typer.Option("--until", metavar="DATE", help="Windows that end on it or later are not touched."),
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept and shown.")],
    last: Annotated[
        str,
        typer.Option(
            "--last",
            metavar="SPAN",
            help="Tell what it would have taken, so much up to the newest row; 7d of one rule unless given.",
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what it would have taken; make nothing.")
    ] = False,
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Let a rule pass over result rows that are known and agreed.

    The predicate is checked against the columns of the rule's result, and it
    cannot be more than a predicate. The rows it takes raise nothing on any
    road: schedule, `detect`, `backtest`; they are counted. Before it is made,
    what it would have taken from the history is shown.
    """
    from trailhawk.render.console import progress

    workspace = workspace_of(context)
    span = duration(last) if last else None
    if last and span is None:
        raise UsageError(f"'{last}' is no timespan", hint="write 7d or 12h")
    try:
        draft, rules = workspace.content.draft_exception(
            rule, where, until=moment(until), reason=reason, by=getuser()
        )
    except QueryError as error:
        raise UsageError(f"--where: {error.render(where.strip())}") from None
    previews: list[Preview] = []
    if last or dry_run or len(rules) == 1:
        with progress("exception, windows", quiet=quiet) as bar:
            for one in rules:
                found = _preview(workspace, draft, one, span or duration(_USUAL_DAYS) or timedelta(), bar)
                previews += [found] if found else []
    made = draft if dry_run else workspace.content.exceptions.add(draft)
    about = {"made": not dry_run, **members(made), "rules": [one.name for one in rules]}
    tried = [_told(each) for each in previews]
    if form is Format.JSON:
        show_one({**about, "would_have_taken": tried}, form)
        return
    columns = [
        Shown("rule", "rule"),
        Shown("start", "from"),
        Shown("end", "to"),
        Shown("rows", "rows taken", right=True),
        Shown("windows", "windows", right=True),
        Shown("before", "alerts before", right=True),
        Shown("after", "after", right=True),
        Shown("gone", "gone by verdict"),
    ]
    if tried:
        show_list(tried, columns, form, empty="")
    show_one(about, form)


def _preview(
    workspace: Workspace, draft: RuleException, rule: Rule, last: timedelta, bar: Bar
) -> Preview | None:
    """What it would have taken; None where there is no history for the rule."""
    try:
        return workspace.content.preview_exception(draft, rule, last=last, progress=bar)
    except UsageError as error:
        tell(f"{error}")
        return None


def _told(each: Preview) -> dict[str, object]:
    return {
        "rule": each.rule.name,
        "start": each.start,
        "end": each.end,
        "rows": each.rows,
        "windows": each.windows,
        "before": each.before,
        "after": each.after,
        "gone": [f"{name}: {count}" for name, count in each.gone],
    }
