"""What the commands share: options, the home they work in, how they speak and end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.errors import TrailhawkError
from trailhawk.render.output import Format, RowFormat, for_programs
from trailhawk.visible import visible

if TYPE_CHECKING:
    from trailhawk.workspace import Workspace

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

FormatOption = Annotated[
    Format, typer.Option("--format", help="How the result is printed.", callback=for_programs)
]
RowFormatOption = Annotated[
    RowFormat, typer.Option("--format", help="How the rows are printed.", callback=for_programs)
]
TimespanOption = Annotated[
    str,
    typer.Option(
        "--timespan", metavar="SPAN", help="Only rows of this time: 7d or 12h up to now, or DATE/DATE."
    ),
]
"""As Sentinel's: a span counts back from now. `--last`, which other commands have, from the newest row."""
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
RulesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rules", metavar="DIR", help="A folder of rules beside the built-in ones; may be repeated."
    ),
]


def offered(names: str) -> Callable[[typer.Context, str], list[tuple[str, str]]]:
    """The completion of this name in `completion`, loaded when the shell asks."""

    def complete(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        from trailhawk.cli import completion

        found: list[tuple[str, str]] = getattr(completion, names)(context, incomplete)
        return found

    return complete


def among(*words: str) -> Callable[[str], list[str]]:
    """The completion of an option that takes one of these words, also written small."""

    def complete(incomplete: str) -> list[str]:
        forms = words if any(word.startswith(incomplete) for word in words) else map(str.lower, words)
        return [word for word in forms if word.startswith(incomplete)]

    return complete


SEVERITIES = among("Informational", "Low", "Medium", "High")


def examples(*lines: str) -> str:
    """The closing part of a command's help; typer keeps the line ends after \\b."""
    return "\b\nExamples:\n" + _literal("\n".join(f"  {line}" for line in lines))


def _literal(text: str) -> str:
    """The text of a help without markup: what stands in brackets would be left out as a style."""
    return text.replace("[", "\\[")


def single() -> typer.Typer:
    """The `app` of a module that is one command."""
    return typer.Typer(add_completion=False, rich_markup_mode="rich")


def group(about: str) -> typer.Typer:
    """The `app` of a module with commands below its own name."""
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", help=_literal(about))
    app.callback()(_nothing)  # with a callback typer keeps a group of one command a group
    return app


def _nothing() -> None:
    pass


def home_of(context: typer.Context) -> Path:
    """The folder of lake and state: `--home`, or the platform's data folder."""
    given = context.find_root().obj
    if given:
        return Path(given).expanduser()
    from platformdirs import user_data_path

    return user_data_path("trailhawk", appauthor=False)


def workspace_of(context: typer.Context) -> Workspace:
    """The workspace of that folder."""
    from trailhawk.workspace import Workspace

    return Workspace.open(home_of(context))


def is_bare(context: typer.Context, workspace: Workspace) -> bool:
    """Whether no logs are stored in the home, which is told with what to do about it."""
    if workspace.history_tables():
        return False
    tell(
        f"no logs are stored in {home_of(context)}: 'trailhawk ingest PATH' takes them in;"
        " '--home DIR' names another folder"
    )
    return True


@contextmanager
def kept_if_interrupted() -> Iterator[None]:
    """Long work that stores as it goes: Ctrl-C says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        tell("what is done is kept: the same command goes on from here")
        raise


def tell(message: str) -> None:
    """A word to whoever typed the command, on standard error."""
    print(visible(message, keep="\n"), file=sys.stderr)


def left_out(error: TrailhawkError) -> None:
    """Tell of a file that is wrong, where the work goes on without it."""
    tell(f"{error.kind}: {error}; it is left out")


def fail(message: str, code: int) -> int:
    """Tell what went wrong; the code to end with."""
    tell(message)
    return code


def has_place(path: Path) -> None:
    """UsageError where a file of this path cannot be, before work is done that it is to hold."""
    from trailhawk.errors import UsageError

    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}", hint="make it first")


def save(path: Path, text: str) -> None:
    """Write a file as UTF-8, whole or not at all; UsageError where that cannot be."""
    from trailhawk.errors import UsageError
    from trailhawk.files import write_whole

    try:
        if path.exists() and not path.is_file():  # a pipe or a terminal: there is no file to put in its place
            path.write_text(text, encoding="utf-8")
            return
        write_whole(path, text.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
