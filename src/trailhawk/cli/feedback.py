"""What closed incidents say of the rules: `rules precision` and `rules propose`."""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import FormatOption, left_out, offered, tell, workspace_of
from trailhawk.cli.times import duration
from trailhawk.errors import UsageError
from trailhawk.render.output import Format, Shown, show_list, show_one
from trailhawk.render.text import members
from trailhawk.visible import visible

if TYPE_CHECKING:
    from trailhawk.detect.rule import Rule
    from trailhawk.incidents.feedback import Precision

_EXCEPTED_FOR = timedelta(days=90)


def listed(each: Precision) -> dict[str, object]:
    """What became of a rule's alerts, as lists and JSON have it."""
    return {**members(each), "judged": each.judged, "precision": each.precision}


def percent(value: float | None) -> str:
    """A share as people read it; empty for none."""
    return "" if value is None else f"{value:.0%}"


def told(each: Precision) -> str:
    """A rule's precision in words."""
    return f"{percent(each.precision)} of {each.judged:,} judged alerts were true positives"


def precision(
    context: typer.Context,
    rule: Annotated[
        str,
        typer.Argument(
            metavar="[RULE]",
            help="Only this one: its id, name or file.",
            autocompletion=offered("rules"),
        ),
    ] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Tell how right the rules were, as closed incidents were classified.

    The alerts of a closed incident are judged as it is; precision is the share
    of true positives among those that somebody called true, benign or false.
    The worst comes first.
    """
    workspace = workspace_of(context)
    found = workspace.incidents.precisions()
    names = {each.id: each.name for each in workspace.content.rules(fault=left_out)}
    if rule:
        wanted = workspace.content.rule(rule)
        found = {wanted.id: found[wanted.id]} if wanted.id in found else {}
        names[wanted.id] = wanted.name
    order = sorted(
        found.values(),
        key=lambda each: (each.precision is None, each.precision or 0.0, -each.false, -each.alerts),
    )
    rows = [{"rule": names.get(each.rule_id, each.rule_id), **listed(each)} for each in order]
    if form is Format.TABLE:
        rows = [{**row, "precision": percent(each.precision)} for row, each in zip(rows, order, strict=True)]
    columns = [
        Shown("rule", "rule"),
        Shown("precision", "precision", right=True),
        Shown("alerts", "alerts", right=True),
        Shown("true", "true", right=True),
        Shown("benign", "benign", right=True),
        Shown("false", "false", right=True),
        Shown("undetermined", "undetermined", right=True, extra=True),
        Shown("incidents", "closed incidents", right=True, extra=True),
    ]
    show_list(rows, columns, form, empty="no alerts")


def propose(
    context: typer.Context,
    rule: Annotated[
        str,
        typer.Argument(metavar="RULE", help="Its id, name or file.", autocompletion=offered("rules")),
    ],
    last: Annotated[
        str, typer.Option("--last", metavar="SPAN", help="Count over alerts of so much time before now.")
    ] = "30d",
    form: FormatOption = Format.TABLE,
) -> None:
    """Propose exceptions for a rule from what was closed as a false positive.

    Each is a predicate on what false positives have in common and no true
    positive has, with the rule's alerts before and after, and how those were
    classified that it takes. Nothing is made: `rules except` makes one, and
    tells from the history exactly what it would take.
    """
    workspace = workspace_of(context)
    span = duration(last)
    if not span:
        raise UsageError(f"--last '{last}' is no timespan", hint="write 30d or 12h")
    found = workspace.content.rule(rule)
    made = workspace.content.proposals(found, last=span)
    until = f"{workspace.clock() + _EXCEPTED_FOR:%Y-%m-%d}"
    rows = [{**members(each), "command": _command(found, each.where, until)} for each in made]
    if form is Format.JSON:
        known = workspace.incidents.precisions().get(found.id)
        show_one(
            {
                "rule": found.name,
                "rule_id": found.id,
                **({"precision": known.precision, "false": known.false} if known else {}),
                "proposals": rows,
            },
            form,
        )
        return
    columns = [
        Shown("where", "except where"),
        Shown("before", "alerts before", right=True),
        Shown("after", "after", right=True),
        Shown("false", "false", right=True),
        Shown("benign", "benign", right=True),
        Shown("true", "true", right=True),
        Shown("unjudged", "unjudged", right=True, extra=True),
    ]
    show_list(rows, columns, form, empty="nothing to propose: no false positives, or nothing of their own")
    if rows:
        tell("to see exactly what the first would take, and then without --dry-run to make it:")
        print(visible(f"{rows[0]['command']} --dry-run"))


def _command(rule: Rule, where: str, until: str) -> str:
    """The command that makes an exception."""
    words = ["trailhawk", "rules", "except", rule.id, "--where", where, "--until", until]
    return shlex.join([*words, "--reason", "closed as false positives"])
