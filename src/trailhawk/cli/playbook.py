"""Playbooks: which there are, what they would do, running them, approving and taking back what they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    FormatOption,
    examples,
    group,
    left_out,
    offered,
    tell,
    workspace_of,
)
from trailhawk.render.output import Format, Shown, print_json_list, print_utf8, show_list, show_one
from trailhawk.render.text import to_json
from trailhawk.visible import visible

if TYPE_CHECKING:
    from trailhawk.respond.playbook_runs import Run, StepRun
    from trailhawk.respond.player import Told
    from trailhawk.workspace import Workspace

app = group(
    "Steps to take about an incident, by hand or by an automation rule: the home's folder `playbooks`."
)

RunId = Annotated[int, typer.Argument(metavar="RUN", help="As `playbook runs` numbers it.", min=1)]
By = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who does it; the user of this system unless given.")
]


@app.command("list", epilog=examples("trailhawk playbook list", "trailhawk playbook list --format json"))
def playbook_list(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the playbooks."""
    from trailhawk.respond.playbook import KINDS

    rows: list[dict[str, object]] = [
        {
            "name": each.name,
            "description": each.description,
            "steps": [KINDS[type(step)] for step in each.steps],
            "actions": list(each.actions),
        }
        for each in workspace_of(context).response.playbooks.all(fault=left_out)
    ]
    columns = [Shown("name", "playbook"), Shown("steps", "steps"), Shown("description", "what it is for")]
    show_list(rows, columns, form, empty="no playbooks")


@app.command("show", epilog=examples("trailhawk playbook show deactivate-keys"))
def playbook_show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show a playbook as it is written."""
    found = workspace_of(context).response.playbooks.playbook(name)
    if form is Format.JSON:
        show_one({"name": found.name, "description": found.description, "source": found.source}, form)
    else:
        print(visible(found.source, keep="\n"), end="")


@app.command("permissions", epilog=examples("trailhawk playbook permissions contain-instance-role"))
def playbook_permissions(
    context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]
) -> None:
    """Print the IAM policy that a playbook's actions need in AWS, to do and to undo, and no more."""
    from trailhawk.respond.containment import permissions

    print_utf8()
    print(to_json(permissions(workspace_of(context).response.playbooks.playbook(name).actions), indent=2))


@app.command(
    "run",
    epilog=examples(
        "trailhawk playbook run contain-instance-role --incident 3 --dry-run",
        "trailhawk playbook run contain-instance-role --incident 3",
    ),
)
def playbook_run(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    incident: Annotated[
        int, typer.Option("--incident", metavar="N", help="Its number.", autocompletion=offered("incidents"))
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what each step would do; AWS is read, not changed.")
    ] = False,
    by: By = "",
    form: FormatOption = Format.TABLE,
) -> int:
    """Run a playbook about an incident.

    What is done in AWS waits for 'playbook approve', unless both the playbook
    and the settings let the action go without.
    """
    import uuid

    workspace = workspace_of(context)
    playbook = workspace.response.playbooks.playbook(name)
    if dry_run:
        return _show_told(workspace.response.player.dry_run(playbook, incident), form)
    run_id = workspace.response.player.start(playbook, origin=str(uuid.uuid4()), by=_who(by), number=incident)
    return _show_run(workspace, workspace.response.player.go(run_id), form)


@app.command(
    "runs",
    epilog=examples(
        "trailhawk playbook runs", "trailhawk playbook runs 7", "trailhawk playbook runs --incident 3"
    ),
)
def playbook_runs(
    context: typer.Context,
    run: Annotated[int | None, typer.Argument(metavar="[RUN]", help="All of one run.")] = None,
    incident: Annotated[
        int | None,
        typer.Option(
            "--incident", metavar="N", help="Of this incident.", autocompletion=offered("incidents")
        ),
    ] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", help="How many.", min=1)] = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what playbooks did, newest last; with a number each step of that run.

    A run that waits for longer than approval_hours is 'expired': it can only be
    rejected, and planned anew.
    """
    workspace = workspace_of(context)
    player = workspace.response.player
    if run is not None:
        _show_run(workspace, player.runs.run(run), form)
        return
    rows = [_as_data(workspace, each) for each in player.runs.runs(number=incident, limit=most)]
    columns = [
        Shown("id", "run", right=True),
        Shown("started_at", "at"),
        Shown("playbook", "playbook"),
        Shown("incident", "incident", right=True),
        Shown("by", "by"),
        Shown("state", "state"),
        Shown("approve_until", "approve until"),
    ]
    show_list(rows, columns, form, empty="no playbook has run yet")


@app.command("approve", epilog=examples("trailhawk playbook approve 7"))
def playbook_approve(
    context: typer.Context, run: RunId, by: By = "", form: FormatOption = Format.TABLE
) -> int:
    """Let a run do in AWS what it waits to do: 'playbook runs RUN' shows the calls."""
    workspace = workspace_of(context)
    return _show_run(workspace, workspace.response.player.approve(run, by=_who(by)), form)


@app.command("reject", epilog=examples("trailhawk playbook reject 7"))
def playbook_reject(
    context: typer.Context, run: RunId, by: By = "", form: FormatOption = Format.TABLE
) -> None:
    """End a run that waits, without what it waits to do."""
    workspace = workspace_of(context)
    _show_run(workspace, workspace.response.player.reject(run, by=_who(by)), form)


@app.command("undo", epilog=examples("trailhawk playbook undo 7"))
def playbook_undo(context: typer.Context, run: RunId, by: By = "", form: FormatOption = Format.TABLE) -> int:
    """Put back what a run did in AWS.

    What somebody has changed since is told and left alone.
    """
    from trailhawk.respond.playbook_runs import RunState

    player = workspace_of(context).response.player
    told = player.undo(run, by=_who(by))
    _show_told(told, form)
    return 0 if player.runs.run(run).state is RunState.UNDONE else EXIT_FAILURE


def _who(by: str) -> str:
    from getpass import getuser

    return by.strip() or getuser()


def _show_told(told: Sequence[Told], form: Format) -> int:
    from trailhawk.respond.playbook_runs import StepState

    rows: list[dict[str, object]] = [
        {"place": each.place, "step": each.kind, "state": each.state.value, "detail": each.detail}
        for each in told
    ]
    _show_steps(rows, form)
    return EXIT_FAILURE if any(each.state is StepState.FAILED for each in told) else 0


def _show_run(workspace: Workspace, run: Run, form: Format) -> int:
    from trailhawk.respond.playbook_runs import RunState

    if form is Format.JSON:
        print(to_json(_as_data(workspace, run), indent=2))
    else:
        print(visible(f"run {run.id} of {run.playbook}: {_state(workspace, run)}"))
        _show_steps([_step(each) for each in run.steps], form)
    player = workspace.response.player
    until = player.approvable_until(run)
    if expired := player.expired(run):
        tell(f"it could be approved until {until:%Y-%m-%d %H:%M} UTC: {expired}")
    elif until is not None:
        tell(
            f"it waits until {until:%Y-%m-%d %H:%M} UTC: `trailhawk playbook approve {run.id}` lets it go on,"
            f" `reject {run.id}` ends it"
        )
    return EXIT_FAILURE if run.state is RunState.FAILED else 0


def _show_steps(rows: Sequence[dict[str, object]], form: Format) -> None:
    """The steps one below the other, each with its lines: a call of AWS is not to be cut."""
    if form is Format.JSON:
        print_json_list(rows)
        return
    for row in rows:
        print(f"{row['place']}. {row['step']}: {row['state']}")
        for line in str(row["detail"]).splitlines():
            print(visible(f"   {line}"))


def _step(each: StepRun) -> dict[str, object]:
    return {
        "place": each.place,
        "step": each.kind,
        "state": each.state.value,
        "detail": each.detail,
        "at": each.at,
    }


def _state(workspace: Workspace, run: Run) -> str:
    """A run that waits in vain is expired."""
    return "expired" if workspace.response.player.expired(run) else run.state.value


def _as_data(workspace: Workspace, run: Run) -> dict[str, object]:
    return {
        "id": run.id,
        "playbook": run.playbook,
        "incident": run.number,
        "alert": run.alert_id,
        "by": run.by,
        "state": _state(workspace, run),
        "approve_until": workspace.response.player.approvable_until(run),
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "decided_by": run.decided_by,
        "decided_at": run.decided_at,
        "steps": [_step(each) for each in run.steps],
    }
