"""Automation rules: which there are, whether they can be meant, what they did."""

from __future__ import annotations

from pathlib import Path
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
from trailhawk.render.output import Format, Shown, print_json_list, show_list, show_one
from trailhawk.words import counted

if TYPE_CHECKING:
    from trailhawk.respond.automation import Rule
    from trailhawk.respond.automation_runs import Run

app = group("What is done by itself when incidents come or change: the home's folder `automation`.")


@app.command("list", epilog=examples("trailhawk automation list", "trailhawk automation list --format json"))
def automation_list(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the rules in the order in which they run."""
    workspace = workspace_of(context)
    now = workspace.clock()
    rows = [
        _as_data(rule) | {"on": rule.is_on(now)}
        for rule in workspace.response.automation_rules(fault=left_out)
    ]
    if form is Format.JSON:
        print_json_list(rows)
        return
    columns = [
        Shown("order", "order", right=True),
        Shown("name", "name"),
        Shown("trigger", "when"),
        Shown("on", "on"),
        Shown("conditions", "conditions"),
        Shown("actions", "actions"),
        Shown("source", "file"),
    ]
    show_list(rows, columns, form, empty="no automation rules; docs/automation.md shows how to write one")


@app.command("show", epilog=examples("trailhawk automation show 'Grave incidents'"))
def automation_show(
    context: typer.Context,
    rule: Annotated[str, typer.Argument(metavar="RULE", help="Its name, its id or its file.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one rule: when, on which conditions, what it does."""
    workspace = workspace_of(context)
    show_one(_as_data(_named(workspace.response.automation_rules(fault=left_out), rule)), form)


@app.command(
    "validate", epilog=examples("trailhawk automation validate", "trailhawk automation validate export.json")
)
def automation_validate(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="Files of rules; those of the home unless given."),
    ] = None,
    form: FormatOption = Format.TABLE,
) -> int:
    """Say what is wrong with rules before they are used; ends with 1 where something is."""
    from trailhawk.errors import TrailhawkError
    from trailhawk.respond.automation import RunPlaybook
    from trailhawk.respond.automation_file import load_rules, read_rules

    workspace = workspace_of(context)
    found: list[dict[str, object]] = []
    rules: list[Rule] = []
    if files:
        for path in files:
            try:
                rules += read_rules(path)
            except TrailhawkError as error:
                found.append({"file": str(path), "rule": "", "fault": str(error)})
    else:
        folder = workspace.home / "automation"
        rules += load_rules(
            folder, fault=lambda error: found.append({"file": "", "rule": "", "fault": str(error)})
        )
    for rule in rules:
        for action in rule.actions:
            if isinstance(action, RunPlaybook):
                try:
                    workspace.response.playbooks.playbook(action.name)
                except TrailhawkError as error:
                    found.append({"file": rule.source, "rule": rule.name, "fault": str(error)})
    if form is Format.JSON:
        print_json_list(found)
    else:
        columns = [Shown("file", "file"), Shown("rule", "rule"), Shown("fault", "what is wrong")]
        show_list(found, columns, form, empty=f"{counted(len(rules), 'rule')}, nothing wrong")
    return EXIT_FAILURE if found else 0


@app.command("test", epilog=examples("trailhawk automation test rule.yaml --incident 3"))
def automation_test(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of rules.")],
    incident: Annotated[
        int, typer.Option("--incident", metavar="N", help="Its number.", autocompletion=offered("incidents"))
    ],
    form: FormatOption = Format.TABLE,
) -> None:
    """Say which conditions of a rule hold for an incident; nothing is changed.

    A rule for updates looks at the incident's last change.
    """
    from trailhawk.respond.automation import View, explained, occasion
    from trailhawk.respond.automation_file import read_rules

    workspace = workspace_of(context)
    store = workspace.incidents
    found = store.incident(incident)
    changes = store.changes(found.number)
    rows: list[dict[str, object]] = []
    for rule in read_rules(file):
        fit = [change for change in changes if occasion(change) is rule.trigger]
        view = View(found, fit[-1] if fit else None, store.alerts_of)
        for depth, text, holds in explained(rule.conditions, view):
            rows.append({"rule": rule.name, "condition": "  " * depth + text, "holds": holds})
        will = rule.holds(view) and rule.is_on(workspace.clock())
        rows.append({"rule": rule.name, "condition": "the rule runs", "holds": will})
    columns = [Shown("rule", "rule"), Shown("condition", "condition"), Shown("holds", "holds")]
    show_list(rows, columns, form, empty="no rules")


@app.command("run", epilog=examples("trailhawk automation run", "trailhawk automation run --all"))
def automation_run(
    context: typer.Context,
    everything: Annotated[
        bool,
        typer.Option("--all", help="The first time: also for what happened before there were any rules."),
    ] = False,
    form: FormatOption = Format.TABLE,
) -> int:
    """Run the rules for what has happened since the last time; 'trailhawk run' does it by itself.

    The first time they are for what comes from then on.
    """
    workspace = workspace_of(context)
    automator = workspace.response.automator(fault=left_out)
    if not everything:
        automator.begin()
    done = workspace.response.run_automation(automator)
    automator.wait()
    _show_runs(done, form, empty="no rule had anything to do")
    return EXIT_FAILURE if any(run.error for run in done) else 0


@app.command("runs", epilog=examples("trailhawk automation runs", "trailhawk automation runs --incident 3"))
def automation_runs(
    context: typer.Context,
    incident: Annotated[
        int | None,
        typer.Option(
            "--incident", metavar="N", help="Of this incident.", autocompletion=offered("incidents")
        ),
    ] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", help="How many.", min=1)] = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what the rules did, newest last."""
    automator = workspace_of(context).response.automator(fault=left_out)
    _show_runs(automator.runs.runs(number=incident, limit=most), form, empty="no rule has run yet")


def _show_runs(runs: tuple[Run, ...] | list[Run], form: Format, *, empty: str) -> None:
    rows: list[dict[str, object]] = [
        {
            "id": run.id,
            "rule": run.rule,
            "rule_id": run.rule_id,
            "trigger": run.trigger.value,
            "incident": run.number,
            "change": run.sequence,
            "chain": list(run.chain),
            "state": run.state.value,
            "error": run.error,
            "started_at": run.started_at,
            "ended_at": run.ended_at,
            "actions": [
                {"action": each.action, "state": each.state.value, "detail": each.detail, "at": each.at}
                for each in run.steps
            ],
            "done": "; ".join(each.detail or each.action for each in run.steps),
        }
        for run in runs
    ]
    if form is Format.JSON:
        print_json_list(rows)
        return
    columns = [
        Shown("id", "run", right=True),
        Shown("started_at", "at"),
        Shown("rule", "rule"),
        Shown("incident", "incident", right=True),
        Shown("state", "state"),
        Shown("done", "what it did"),
    ]
    show_list(rows, columns, form, empty=empty)
    if any(run.error for run in runs):
        tell("some actions did not work; --format json has each with its reason")


def _as_data(rule: Rule) -> dict[str, object]:
    from trailhawk.respond.automation import explained_shape

    return {
        "id": rule.id,
        "name": rule.name,
        "order": rule.order,
        "enabled": rule.enabled,
        "expires_at": rule.expires_at,
        "trigger": rule.trigger.value,
        "conditions": [f"{'  ' * depth}{text}" for depth, text in explained_shape(rule.conditions)],
        "actions": [str(action) for action in rule.actions],
        "source": rule.source,
    }


def _named(rules: tuple[Rule, ...], text: str) -> Rule:
    from trailhawk.errors import NotFoundError

    wanted = text.lower()
    for rule in rules:
        if wanted in (rule.name.lower(), rule.id.lower(), rule.source.lower()):
            return rule
    raise NotFoundError(f"no automation rule '{text}'", hint="`trailhawk automation list` shows them all")
