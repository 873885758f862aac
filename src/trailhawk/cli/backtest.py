"""`rules backtest`: what a rule would have raised over the stored history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import EXIT_FAILURE, FormatOption, QuietOption, RulesOption, offered, workspace_of
from trailhawk.cli.times import duration, moment
from trailhawk.errors import UsageError
from trailhawk.render.output import Format

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trailhawk.detect.rule import Rule
    from trailhawk.workspace import Workspace


def backtest(
    context: typer.Context,
    rule: Annotated[
        str,
        typer.Argument(
            metavar="RULE", help="Its id, name or file, or a rule file.", autocompletion=offered("rules")
        ),
    ],
    last: Annotated[
        str, typer.Option("--last", metavar="SPAN", help="So much up to the newest row of its tables.")
    ] = "30d",
    end: Annotated[
        str, typer.Option("--to", metavar="TIME", help="Where the history ends; its newest row unless given.")
    ] = "",
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", min=0, max=10_000, help="So many of the rows behind.")
    ] = 5,
    against: Annotated[
        str,
        typer.Option("--against", metavar="FILE", help="Another version: which alerts it gains and loses."),
    ] = "",
    folders: RulesOption = None,
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Tell what a rule would have raised, without raising anything.

    Its windows over the stored history are run by the code of `detect`, in
    a state of their own: alerts a day, the rows behind them, the seconds
    and bytes of a window, what each exception takes away, and how right it
    was where incidents with its alerts were classified. Exit code 1 when a
    window failed.
    """
    from trailhawk.render.backtest import show_backtest
    from trailhawk.render.console import progress

    workspace = workspace_of(context)
    span = duration(last)
    if not span:
        raise UsageError(f"--last '{last}' is no timespan", hint="write 30d or 12h")
    until = moment(end) if end else None
    found = _rule(workspace, rule, map(Path, folders or ()))
    other = _other(against, found) if against else None
    with progress("backtest, windows", quiet=quiet) as bar:
        first = workspace.content.backtest(found, last=span, end=until, sample=rows, progress=bar)
        second = (
            workspace.content.backtest(other, last=span, end=until, sample=rows, progress=bar)
            if other
            else None
        )
    show_backtest(first, second, form)
    if first.failed or first.error or (second and (second.failed or second.error)):
        raise typer.Exit(EXIT_FAILURE)


def _rule(workspace: Workspace, text: str, folders: Iterable[Path]) -> Rule:
    """The rule that this text names; a file is read, whether the home has it or not."""
    if not Path(text).is_file():
        return workspace.content.rule(text, folders)
    found = _read(Path(text))
    if len(found) == 1:
        return found[0]
    raise UsageError(f"{text} has {len(found)} rules", hint="import it, then name one of them")


def _other(file: str, rule: Rule) -> Rule:
    """The other version of a rule in a file: of several the one of its id. It counts as the same rule."""
    from dataclasses import replace

    found = _read(Path(file))
    of_id = [each for each in found if each.id == rule.id]
    if len(of_id or found) != 1:
        raise UsageError(f"{file} has {len(found)} rules, and not one with the id {rule.id}")
    return replace((of_id or found)[0], id=rule.id)


def _read(file: Path) -> tuple[Rule, ...]:
    from trailhawk.detect.rule_file import parse_rules

    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    return tuple(parse_rules(content, source=file.name))
