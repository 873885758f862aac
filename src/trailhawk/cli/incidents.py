"""What the alerts add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from trailhawk.cli.options import (
    SEVERITIES,
    FormatOption,
    among,
    examples,
    group,
    is_bare,
    offered,
    tell,
    workspace_of,
)
from trailhawk.render.output import Format
from trailhawk.words import counted

if TYPE_CHECKING:
    from trailhawk.detect.rule import Severity
    from trailhawk.incidents.case import Case
    from trailhawk.incidents.change import Change
    from trailhawk.workspace import Workspace

E = TypeVar("E", bound=Enum)

_UNSEEN: Final = timedelta(days=1)
"""How much older than the first window of any rule the logs may be: some rules begin that late."""

app = group("What the alerts add up to.")


class Order(StrEnum):
    """What the list of incidents goes by."""

    NUMBER = "number"
    SEVERITY = "severity"


Number = Annotated[
    int, typer.Argument(metavar="N", help="Its number in the list.", autocompletion=offered("incidents"))
]
Numbers = Annotated[
    list[int], typer.Argument(metavar="N...", help="Their numbers.", autocompletion=offered("incidents"))
]
_CLASSIFICATIONS = among("true-positive", "benign-positive", "false-positive", "undetermined")
By = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who does it; the user of this system unless given.")
]


@app.command(
    "list",
    epilog=examples(
        "trailhawk incidents list",
        "trailhawk incidents list --status new --severity high",
        "trailhawk incidents list --sort severity --limit 10",
        "trailhawk incidents list --entity 203.0.113.66 --since 7d",
        "trailhawk incidents list --format json",
    ),
)
def incidents_list(
    context: typer.Context,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            help="New, Active or Closed; may be repeated.",
            autocompletion=among("New", "Active", "Closed"),
        ),
    ] = None,
    severity: Annotated[
        list[str] | None,
        typer.Option(
            "--severity",
            help="Informational, Low, Medium or High; may be repeated.",
            autocompletion=SEVERITIES,
        ),
    ] = None,
    classification: Annotated[
        str,
        typer.Option(
            "--classification",
            metavar="CLASS",
            help="What they were closed as.",
            autocompletion=_CLASSIFICATIONS,
        ),
    ] = "",
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="NAME", help="Whose they are; '' for nobody's.")
    ] = None,
    label: Annotated[str, typer.Option("--label", metavar="TEXT", help="That have this label.")] = "",
    rule: Annotated[
        str,
        typer.Option(
            "--rule",
            metavar="RULE",
            help="That a rule raised: its id, name or file.",
            autocompletion=offered("rules"),
        ),
    ] = "",
    entity: Annotated[
        str, typer.Option("--entity", metavar="VALUE", help="That name this ARN, key, address, bucket.")
    ] = "",
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="Whose title holds this.")] = "",
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Active since then: 7d, 12h or 2026-03-01.")
    ] = "",
    until: Annotated[
        str, typer.Option("--until", metavar="TIME", help="Whose last activity lies before: as --since.")
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=0,
            help="At most so many: the newest, or the gravest; 0 for all; 100 in a table unless given.",
        ),
    ] = None,
    order: Annotated[
        Order, typer.Option("--sort", help="By number, the newest at the end; or the gravest first.")
    ] = Order.NUMBER,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the incidents: by number, or the gravest first."""
    from trailhawk.incidents.incident import Classification, Status
    from trailhawk.incidents.store import Wanted
    from trailhawk.render.incident import show_incidents

    workspace = workspace_of(context)
    wanted = Wanted(
        statuses=tuple(_member(Status, name, "status") for name in status or ()),
        severities=tuple(_severity(name) for name in severity or ()),
        classification=_member(Classification, classification, "classification") if classification else None,
        owner=owner,
        label=label,
        rule=_rule_id(workspace, rule) if rule else "",
        entity=entity,
        text=title,
        since=_ago(since, workspace) if since else None,
        until=_ago(until, workspace) if until else None,
    )
    most = limit if limit is not None else 100 if form is Format.TABLE else 0
    gravest = order is Order.SEVERITY
    found = workspace.incidents.found(wanted, limit=most or None, gravest=gravest)
    total = workspace.incidents.count(wanted) if most and len(found) == most else len(found)
    show_incidents(found, form, total=total, gravest=gravest)
    nothing = form is Format.TABLE and not found and wanted == Wanted()
    if nothing and not is_bare(context, workspace):
        first, oldest = workspace.alerts.first_window(), workspace.oldest_row()
        if first is None:
            tell("no rule has run yet: 'trailhawk detect' looks for incidents")
        elif oldest is not None and first - oldest > _UNSEEN:
            tell(f"no rule has looked at the logs of before {first:%Y-%m-%d %H:%M}: 'trailhawk detect' does")


def _rule_id(workspace: Workspace, text: str) -> str:
    """The id of a rule that is there, or the text as the id of one that was."""
    from trailhawk.errors import NotFoundError

    try:
        return workspace.content.rule(text).id
    except NotFoundError:
        if " " in text or len(text) != 36:
            raise
        return text


def _ago(text: str, workspace: Workspace) -> datetime:
    from trailhawk.cli.times import duration, moment

    back = duration(text)
    return moment(text) if back is None else workspace.clock() - back


def _member(kind: type[E], name: str, what: str) -> E:
    """The member of an enumeration by its word, however it is written: `false-positive`, `FalsePositive`."""
    from trailhawk.errors import UsageError

    wanted = "".join(char for char in name.lower() if char.isalnum())
    for each in kind:
        if str(each.value).lower() == wanted:
            return each
    raise UsageError(f"'{name}' is no {what}", hint=f"there is {', '.join(str(e.value) for e in kind)}")


def _severity(name: str) -> Severity:
    from trailhawk.detect.rule import Severity

    return _member(Severity, name, "severity")


@app.command(
    "show", epilog=examples("trailhawk incidents show 1", "trailhawk incidents show 1 --format json")
)
def incidents_show(
    context: typer.Context,
    number: Number,
    events: Annotated[
        int, typer.Option("--events", metavar="N", help="Most events of the timeline; 0 for all.", min=0)
    ] = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one incident in full.

    Story, entities, timeline, where the credentials came from, which objects
    left, the ATT&CK techniques, and who did what about it.
    """
    from trailhawk.render.console import working
    from trailhawk.render.incident import report_as_data, show_report
    from trailhawk.render.incident_work import change_as_data, print_work
    from trailhawk.render.text import to_json

    workspace = workspace_of(context)
    with working(f"incident {number}"):
        report = workspace.report(number)
    changes = workspace.incidents.changes(report.incident.number)
    if form is Format.JSON:
        done = [change_as_data(change) for change in changes]
        print(to_json({**report_as_data(report), "changes": done}, indent=2))
        return
    show_report(report, form, most_events=events)
    print_work(report.incident, changes)


@app.command(
    "set",
    epilog=examples(
        "trailhawk incidents set 3 --status active --owner ana",
        "trailhawk incidents set 3 4 5 --label phishing --severity low",
    ),
)
def incidents_set(
    context: typer.Context,
    numbers: Numbers,
    status: Annotated[
        str,
        typer.Option("--status", help="New or Active.", autocompletion=among("New", "Active")),
    ] = "",
    severity: Annotated[
        str,
        typer.Option("--severity", help="Informational, Low, Medium or High.", autocompletion=SEVERITIES),
    ] = "",
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="NAME", help="Who works on it; '' for nobody.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="A better title.")] = None,
    description: Annotated[
        str | None, typer.Option("--description", metavar="TEXT", help="A better description.")
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="TEXT", help="Put on; may be repeated.")
    ] = None,
    unlabels: Annotated[
        list[str] | None, typer.Option("--unlabel", metavar="TEXT", help="Take off; may be repeated.")
    ] = None,
    by: By = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Change status, severity, owner, title, description or labels.

    What is set here stays when more alerts come.
    """
    from trailhawk.incidents.incident import Status

    workspace = _with_all(context, numbers)
    new_status = _member(Status, status, "status") if status else None
    new_severity = _severity(severity) if severity else None
    _show_changes(
        (
            workspace.incidents.set(
                number,
                by=_who(by),
                now=workspace.clock(),
                status=new_status,
                severity=new_severity,
                owner=owner,
                title=title,
                description=description,
                add_labels=labels or (),
                remove_labels=unlabels or (),
            )
            for number in numbers
        ),
        form,
    )


@app.command(
    "close",
    epilog=examples(
        "trailhawk incidents close 3 --as true-positive --comment 'keys revoked'",
        "trailhawk incidents close 4 5 --as false-positive --reason incorrect-alert-logic",
    ),
)
def incidents_close(
    context: typer.Context,
    numbers: Numbers,
    classification: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="CLASS",
            help="true-positive, benign-positive, false-positive or undetermined.",
            autocompletion=_CLASSIFICATIONS,
        ),
    ],
    reason: Annotated[
        str,
        typer.Option(
            "--reason",
            metavar="REASON",
            help="Of a false positive: incorrect-alert-logic or inaccurate-data; else there is one only.",
            autocompletion=among("incorrect-alert-logic", "inaccurate-data"),
        ),
    ] = "",
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="What it was.")] = "",
    by: By = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Close incidents, and say what they were.

    What is closed as a false positive lowers the precision of its rules:
    'trailhawk rules precision'.
    """
    from trailhawk.incidents.incident import Classification, Closing, Reason

    workspace = _with_all(context, numbers)
    closing = Closing.of(
        _member(Classification, classification, "classification"),
        _member(Reason, reason, "reason") if reason else None,
        comment.strip(),
    )
    now, who = workspace.clock(), _who(by)
    _show_changes((workspace.incidents.close(n, closing, by=who, now=now) for n in numbers), form)


@app.command("reopen", epilog=examples("trailhawk incidents reopen 3"))
def incidents_reopen(
    context: typer.Context, numbers: Numbers, by: By = "", form: FormatOption = Format.TABLE
) -> None:
    """Open closed incidents again."""
    workspace = _with_all(context, numbers)
    now, who = workspace.clock(), _who(by)
    _show_changes((workspace.incidents.reopen(n, by=who, now=now) for n in numbers), form)


@app.command("comment", epilog=examples("trailhawk incidents comment 3 'asked the owner of the role'"))
def incidents_comment(
    context: typer.Context,
    number: Number,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="30,000 characters at most.")],
    by: By = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Add a comment."""
    workspace = workspace_of(context)
    _show_changes([workspace.incidents.comment(number, text, by=_who(by), now=workspace.clock())], form)


@app.command(
    "task",
    epilog=examples(
        "trailhawk incidents task 3 'rotate the key' --description 'with the owner'",
        "trailhawk incidents task 3 --done 1",
    ),
)
def incidents_task(
    context: typer.Context,
    number: Number,
    title: Annotated[str, typer.Argument(metavar="[TITLE]", help="What is to be done.")] = "",
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="More about it.")] = "",
    done: Annotated[
        int | None, typer.Option("--done", metavar="ID", help="Mark this task as done instead.")
    ] = None,
    undone: Annotated[
        int | None, typer.Option("--undone", metavar="ID", help="Mark this task as open again instead.")
    ] = None,
    by: By = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Add something to do, or mark it as done."""
    from trailhawk.errors import UsageError

    if sum([bool(title), done is not None, undone is not None]) != 1:
        raise UsageError("give a title, --done or --undone", hint="one of them")
    workspace = workspace_of(context)
    store, now, who = workspace.incidents, workspace.clock(), _who(by)
    if title:
        change = store.add_task(number, title, description=description, by=who, now=now)
    elif done is not None:
        change = store.set_task(number, done, by=who, now=now)
    else:
        change = store.set_task(number, undone or 0, done=False, by=who, now=now)
    _show_changes([change], form)


@app.command("merge", epilog=examples("trailhawk incidents merge 3 7 9"))
def incidents_merge(
    context: typer.Context,
    number: Number,
    others: Annotated[
        list[int], typer.Argument(metavar="OTHER...", help="Those that go into the first one.")
    ],
    by: By = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Put incidents into another one; their comments, tasks and labels come along."""
    workspace = workspace_of(context)
    _show_changes([workspace.incidents.merge(number, others, by=_who(by), now=workspace.clock())], form)


@app.command("split", epilog=examples("trailhawk incidents split 3 --alert 0f5c --alert 77d1"))
def incidents_split(
    context: typer.Context,
    number: Number,
    alerts: Annotated[
        list[str],
        typer.Option("--alert", metavar="ID", help="An alert's id or the beginning of it; may be repeated."),
    ],
    by: By = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Put some alerts of an incident into one of their own.

    Alerts that come later do not join the two again.
    """
    workspace = workspace_of(context)
    _show_changes([workspace.incidents.split(number, alerts, by=_who(by), now=workspace.clock())], form)


@app.command("similar", epilog=examples("trailhawk incidents similar 3"))
def incidents_similar(
    context: typer.Context,
    number: Number,
    most: Annotated[int, typer.Option("--limit", metavar="N", help="The nearest so many.", min=1)] = 20,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show which other incidents have something in common with one, and what."""
    from trailhawk.render.incident_work import show_similar

    show_similar(workspace_of(context).incidents.similar(number, most=most), form)


def _with_all(context: typer.Context, numbers: Iterable[int]) -> Workspace:
    """The workspace, if all of these incidents are there: what is typed once is done whole or not at all."""
    workspace = workspace_of(context)
    for number in numbers:
        workspace.incidents.incident(number)
    return workspace


def _who(by: str) -> str:
    from getpass import getuser

    return by.strip() or getuser()


def _show_changes(changes: Iterable[Change | None], form: Format) -> None:
    from trailhawk.render.incident_work import show_changes

    changes = list(changes)
    show_changes([change for change in changes if change is not None], form)
    if form is Format.TABLE and None in changes:
        tell("nothing to change" if len(changes) == 1 else "nothing to change in some of them")


@app.command(
    "report",
    epilog=examples(
        "trailhawk incidents report 1 --out case.html",
        "trailhawk incidents report 1 --out case.md",
        "trailhawk incidents report 1 --out case.json",
    ),
)
def incidents_report(
    context: typer.Context,
    number: Number,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Ends in .html, .md or .json: the form.")
    ],
) -> None:
    """Write the report of an incident: one file, to hand on or to print.

    Summary, what to do with the AWS CLI commands, graph, which objects left,
    lineage of the credentials, ATT&CK, timeline, and the log objects as
    evidence. The HTML file asks for nothing from any network.
    """
    from trailhawk.render import page
    from trailhawk.render.text import to_json

    _write(
        out,
        {
            ".html": page.report_page,
            ".md": page.report_markdown,
            ".json": lambda case: to_json(page.report_data(case), indent=2) + "\n",
        },
        context,
        number,
    )


@app.command(
    "graph",
    epilog=examples(
        "trailhawk incidents graph 1 --out graph.html", "trailhawk incidents graph 1 --out graph.graphml"
    ),
)
def incidents_graph(
    context: typer.Context,
    number: Number,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="Ends in .html, .json or .graphml: the form."),
    ],
) -> None:
    """Write the investigation graph of an incident.

    Who acts through what: instance, role, session, key, address, bucket,
    object, with what each can be expanded to and the KQL behind it.
    """
    from trailhawk.render import page
    from trailhawk.render.text import to_json

    _write(
        out,
        {
            ".html": page.graph_page,
            ".json": lambda case: to_json(page.graph_data(case.graph), indent=2) + "\n",
            ".graphml": lambda case: page.graphml(case.graph),
        },
        context,
        number,
    )


@app.command(
    "timeline",
    epilog=examples("trailhawk incidents timeline 1", "trailhawk incidents timeline 1 --format json"),
)
def incidents_timeline(context: typer.Context, number: Number, form: FormatOption = Format.TABLE) -> None:
    """Show all that belongs to an incident in order of time.

    Events, alerts, bookmarks of rows that name its session, key, principal,
    instance or objects, comments, and what else people did about it.
    """
    from trailhawk.incidents.moments import bookmarked, moments
    from trailhawk.render.console import working
    from trailhawk.render.output import Shown, print_json_list, show_list
    from trailhawk.render.text import members

    workspace = workspace_of(context)
    with working(f"incident {number}"):
        report = workspace.report(number)
    changes = workspace.incidents.changes(report.incident.number)
    found = moments(report, changes, bookmarked(report, workspace.bookmarks.all()))
    rows = [members(each) | {"kind": each.kind.value} for each in found]
    if form is Format.JSON:
        print_json_list(rows)
        return
    columns = [
        Shown("at", "at"),
        Shown("kind", "kind"),
        Shown("says", "what"),
        Shown("detail", ""),
        Shown("id", "id"),
    ]
    show_list(rows, columns, form, empty="nothing")


@app.command(
    "indicators",
    epilog=examples(
        "trailhawk incidents indicators 1",
        "trailhawk incidents indicators 1 --type address --out indicators.csv",
        "trailhawk incidents indicators 1 --format json",
    ),
)
def incidents_indicators(
    context: typer.Context,
    number: Number,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Only these: access key, address, client, principal, session; may be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there: .csv or .json.")
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what to look for elsewhere: addresses, clients, access keys, sessions.

    Each with the incident's events that have it, first and last. What is only
    named by an alert, or was issued together with a key of it, has none.
    """
    from trailhawk.cli.options import has_place, save
    from trailhawk.errors import UsageError
    from trailhawk.incidents.indicators import TYPES, indicators
    from trailhawk.render.console import working
    from trailhawk.render.output import Shown, show_list
    from trailhawk.render.text import csv_lines, members, to_json

    if out is not None:
        has_place(out)
        if out.suffix.lower() not in (".csv", ".json"):
            raise UsageError(f"{out} ends in none of .csv, .json", hint="the ending says the form")
    for unknown in set(types or ()).difference(TYPES):
        raise UsageError(f"no indicator is of type '{unknown}'", hint=f"there is {', '.join(TYPES)}")
    with working(f"incident {number}"):
        found = indicators(workspace_of(context).report(number))
    rows = [members(each) for each in found if not types or each.type in types]
    if out is None:
        columns = [
            Shown("type", "type"),
            Shown("value", "value"),
            Shown("events", "events", right=True),
            Shown("first", "first", extra=True),
            Shown("last", "last", extra=True),
        ]
        show_list(rows, columns, form, empty="nothing")
        return
    if out.suffix.lower() == ".json":
        save(out, f"{to_json(rows)}\n")
    else:
        names = ["type", "value", "events", "first", "last"]
        lines = csv_lines(names, ([row[name] for name in names] for row in rows))
        save(out, "\r\n".join([*lines, ""]))
    tell(f"{out} written")


@app.command(
    "manifest",
    epilog=examples("trailhawk incidents manifest 1", "trailhawk incidents manifest 1 --out stolen.csv"),
)
def incidents_manifest(
    context: typer.Context,
    number: Number,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write it there, its SHA-256 beside it."),
    ] = None,
) -> None:
    """Write which objects left, as CSV with its SHA-256.

    One line for each object and caller: bytes, reads, refused reads, first and
    last, session, key, address, client, and the log that says so.
    """
    import hashlib

    from trailhawk.cli.options import has_place, save, tell
    from trailhawk.errors import UsageError
    from trailhawk.render.console import working
    from trailhawk.render.page import manifest_csv

    if out is not None:
        has_place(out)
        if out.suffix.lower() not in ("", ".csv", ".txt"):
            raise UsageError(f"{out} does not end in .csv", hint="a manifest is written as CSV")
    with working(f"incident {number}"):
        found = workspace_of(context).report(number).manifest
    text = manifest_csv(found)
    digest = hashlib.sha256(text.encode()).hexdigest()
    for note in found.notes:
        tell(note)
    if out is None:
        print(text, end="")
    else:
        save(out, text)
        save(out.with_name(f"{out.name}.sha256"), f"{digest}  {out.name}\n")
    left = (
        "what left is not known"
        if found.unknown
        else f"{counted(found.objects, 'object')}, {counted(found.bytes, 'byte')}"
    )
    tell(f"{left}; SHA-256 {digest}")


def _write(
    out: Path, forms: Mapping[str, Callable[[Case], str]], context: typer.Context, number: int
) -> None:
    """Write what the file's ending asks for: whole or not at all."""
    from trailhawk.cli.options import has_place, save
    from trailhawk.errors import UsageError
    from trailhawk.render.console import working

    form = forms.get(out.suffix.lower())
    if form is None:
        hint = "the ending says the form; for a PDF print the HTML page from a browser"
        raise UsageError(f"{out} ends in none of {', '.join(forms)}", hint=hint)
    has_place(out)
    with working(f"incident {number}"):
        case = workspace_of(context).case(number)
    save(out, form(case))
    tell(f"{out} written")
