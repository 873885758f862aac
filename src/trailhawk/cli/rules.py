"""The detection rules."""

from __future__ import annotations

from pathlib import Path

import typer

from trailhawk.cli.options import FormatOption, RulesOption, examples, group, workspace_of
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
