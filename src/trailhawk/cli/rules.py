"""The detection rules."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    FormatOption,
    QuietOption,
    RulesOption,
    examples,
    group,
    tell,
    workspace_of,
)
from trailhawk.render.output import Format, Shown, show_list

app = group("The detection rules.")


@app.command("list", epilog=examples("trailhawk rules list", "trailhawk rules list --rules my-rules"))
def rules_list(
    context: typer.Context,
    folders: RulesOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the rules with severity, frequency, period and techniques."""
    found = [
        {
            "id": rule.id,
            "name": rule.name,
            "severity": rule.severity.value,
            "kind": rule.kind.value,
            "frequency": rule.frequency,
            "period": rule.period,
            "tactics": list(rule.tactics),
            "techniques": list(rule.techniques),
            "source": rule.source,
        }
        for rule in workspace_of(context).rules(map(Path, folders or ()))
    ]
    columns = [
        Shown("name", "rule"),
        Shown("severity", "severity"),
        Shown("frequency", "every", right=True),
        Shown("period", "looks back", right=True),
        Shown("techniques", "techniques"),
        Shown("source", "file"),
    ]
    show_list(found, columns, form, empty="no rules")


@app.command(
    "test",
    epilog=examples(
        "trailhawk rules test",
        "trailhawk rules test my-rules --junit results.xml",
        "trailhawk rules test --only ssm",
    ),
)
def rules_test(
    context: typer.Context,
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR...]", help="Folders of rules and hunts; all content unless given."),
    ] = None,
    only: Annotated[
        str, typer.Option("--only", metavar="TEXT", help="Only rules whose file or name holds this text.")
    ] = "",
    junit: Annotated[
        str, typer.Option("--junit", metavar="FILE", help="Also write the results as JUnit's XML.")
    ] = "",
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Run the tests that stand inside rules and hunts.

    Each test's logs are read as their source reads them into empty tables of
    their own; then the rule runs over them, and its alerts (of a hunt: its
    rows) are compared with what the test expects.
    """
    from trailhawk.render.console import progress
    from trailhawk.render.proof import junit as junit_of
    from trailhawk.render.proof import show_outcomes

    started = time.perf_counter()
    with progress("rules, tests", quiet=quiet) as bar:
        outcomes = workspace_of(context).prove(folders or (), only=only, progress=bar)
    if junit:
        Path(junit).write_text(junit_of(outcomes), encoding="utf-8")
    show_outcomes(outcomes, form, seconds=time.perf_counter() - started)
    if not outcomes:
        tell("no tests there")
    if any(not outcome.passed for outcome in outcomes):
        raise typer.Exit(EXIT_FAILURE)
