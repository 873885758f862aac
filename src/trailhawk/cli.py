"""The command line: what is typed, which rooms do it, how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trailhawk import __version__
from trailhawk.errors import TrailhawkError, UsageError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

app = typer.Typer(
    name="trailhawk",
    help="Hunt threats in AWS logs on your own machine: take logs in, ask in KQL, detect, explain incidents.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def trailhawk(
    context: typer.Context,
    home: Annotated[
        str,
        typer.Option(
            "--home",
            envvar="TRAILHAWK_HOME",
            metavar="DIR",
            show_default=False,
            help="Folder of the lake and the state; the platform's data folder unless given.",
        ),
    ] = "",
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        print(f"trailhawk {__version__}")
        raise typer.Exit
    context.obj = home
    if context.invoked_subcommand is None:
        print(context.get_help())


def _home(context: typer.Context) -> Path:
    given = context.find_root().obj
    if given:
        return Path(given).expanduser()
    from platformdirs import user_data_path

    return user_data_path("trailhawk", appauthor=False)


# --- how it ends ----------------------------------------------------------------------------------------


def main() -> None:
    """Run the command line of this process and end it."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code: 0, 1 for failure, 2 for wrong use, 130 and 141 for signals."""
    try:
        outcome = typer.main.get_command(app).main(
            list(arguments), prog_name="trailhawk", standalone_mode=False
        )
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except TrailhawkError as error:
        return _fail(f"{error.kind}: {error}", EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILURE)
    except typer.TyperException as error:
        return _fail(f"usage: {error.format_message().rstrip('.')}{_help_hint(error)}", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter's own flush at the end must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"error: {where}{error.strerror or error}", EXIT_FAILURE)


def _fail(message: str, code: int) -> int:
    from trailhawk.render.text import visible

    print(visible(message, keep="\n"), file=sys.stderr)
    return code


def _help_hint(error: typer.TyperException) -> str:
    command = getattr(getattr(error, "ctx", None), "command_path", "trailhawk")
    return f"; try '{command} --help'"
