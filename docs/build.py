"""Writes the reference pages that are made from the code; a test fails when one is stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from trailhawk.cli import app
from trailhawk.kql.functions import reference as functions

_HOW = (
    "Made from the code by `make docs`. Every command also takes `--help`; "
    "`trailhawk --install-completion` sets up tab completion for the shell in use;"
    " `trailhawk --show-completion zsh` prints the script for zsh, and so for `bash` and `fish`."
)
_ENDS = (
    "Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted. Results go to standard output, "
    "messages to standard error."
)
_OWN = {"help", "install_completion", "show_completion"}


def commands() -> str:
    """The page of the command line: every command with its arguments, options and examples."""
    root = typer.main.get_command(app)
    parts = [
        "# Commands",
        _HOW,
        _ENDS,
        *_command("trailhawk", root),
    ]
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Any) -> list[str]:
    """The parts of one command's section, then those of its subcommands."""
    children = getattr(command, "commands", {})
    parts = [f"## {name}", _paragraphs(command.help)]
    table = [_row(parameter) for parameter in command.params if parameter.name not in _OWN]
    if table:
        parts.append("\n".join(["| | |", "| --- | --- |", *table]))
    if command.epilog:
        parts.append("```text\n" + _paragraphs(command.epilog).removeprefix("Examples:\n") + "\n```")
    for child, member in children.items():
        parts += _command(f"{name} {child}", member)
    return parts


def _paragraphs(text: str | None) -> str:
    return (text or "").replace("\b\n", "").replace("\\[", "[").strip()


def _row(parameter: Any) -> str:
    is_option = parameter.opts[0].startswith("-")
    flag = getattr(parameter, "is_flag", False)
    names = ", ".join(f"`{name}`" for name in parameter.opts) if is_option else f"`{parameter.metavar}`"
    value = "" if flag or not is_option else f" {parameter.metavar or _type(parameter)}"
    default = parameter.default
    shown = f" (default {default})" if isinstance(default, (int, str)) and default and not flag else ""
    help_text = (parameter.help or "").replace("\\[", "[").replace("|", "\\|")
    return f"| {names}{value} | {help_text}{shown} |"


def _type(parameter: Any) -> str:
    kind = parameter.type
    choices = getattr(kind, "choices", None)
    if choices:
        return "\\|".join(str(getattr(choice, "value", choice)) for choice in choices)
    return str(kind.name).upper()


PAGES = {"commands.md": commands}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (Path(__file__).parent / name).write_text(page(), encoding="utf-8")
    functions.main(Path(__file__).parent / "functions")


if __name__ == "__main__":
    main()
