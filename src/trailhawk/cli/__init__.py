"""The command line: what is typed, which rooms do it, how it ends."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trailhawk import __version__
from trailhawk.cli.options import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USAGE, examples, fail
from trailhawk.errors import TrailhawkError, UsageError

COMMANDS = (
    "ingest",
    "connectors",
    "run",
    "quarantine",
    "verify",
    "filter",
    "tables",
    "lake",
    "health",
    "query",
    "functions",
    "watchlist",
    "intel",
    "rules",
    "hunt",
    "coverage",
    "detect",
    "incidents",
    "entity",
    "lineage",
    "posture",
    "notify",
    "automation",
    "playbook",
    "simulate",
    "demo",
)
"""The commands in the order of the help; each is the `app` of the module of its name beside this one."""


_FILES = {"run": "running"}
"""Modules under another name than their command's: a module `run` would take the place of `run` below."""


class _Modules(Mapping[str, Any]):
    """The commands by name. A command's module is loaded when the command is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        if name not in self._loaded:
            command = typer.main.get_command(import_module(f"trailhawk.cli.{_FILES.get(name, name)}").app)
            command.name = name
            self._loaded[name] = command
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Commands(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Modules()  # type: ignore[assignment]


app = typer.Typer(
    name="trailhawk",
    cls=_Commands,
    help="Hunt threats in AWS logs on your own machine: take logs in, ask in KQL, detect, explain incidents.",
    epilog=examples(
        "trailhawk demo",
        "trailhawk ingest ~/logs/cloudtrail",
        "trailhawk detect --last 7d",
        "trailhawk incidents list --sort severity",
        "trailhawk help incidents report",
    ),
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
        from trailhawk.native import kernel

        print(f"trailhawk {__version__}" + ("" if kernel.library() else ", without the compiled kernel"))
        raise typer.Exit
    context.obj = home
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line of this process and end it."""
    _collect_garbage_seldom()
    _speak_to_all()
    code: list[int] = []
    atexit.register(_leave, code)  # registered first, it is called last
    code.append(run(sys.argv[1:]))
    sys.exit(code[0])


def _speak_to_all() -> None:
    """What the terminal's encoding lacks is printed by its number; it would end the command else. What
    programs read is UTF-8, see `render.output.for_programs`, and so is standard input."""
    # A locale of plain C has `surrogateescape`, which prints bytes that were read and nothing else.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Of many lines one that is no UTF-8 is told as such, and the others are read.
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")


_AT_START, _LATER = (500_000, 20, 50), (50_000, 20, 50)
"""After how many new objects garbage is looked for. Imports and a short command make up to 400,000, which
last; to look through them, once or at every 700 new ones, costs 0.05 to 0.2 s."""


def _collect_garbage_seldom() -> None:
    def settle(phase: str, found: Mapping[str, int]) -> None:
        gc.set_threshold(*_LATER)
        gc.callbacks.remove(settle)

    gc.set_threshold(*_AT_START)
    gc.callbacks.append(settle)


def _leave(code: Sequence[int]) -> None:
    """End the process at once where its command has ended. Threads are joined by now and what is registered
    for the end is done; to take all objects apart would be a sixth of a short command's time."""
    if not code:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # the interpreter tries again as it ends, and tells why
    os._exit(code[0])


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code: 0, 1 for failure, 2 for wrong use, 130 interrupted."""
    try:
        command = typer.main.get_command(app)
        words = _asked(_home_first(arguments))
        outcome = command.main(words, prog_name="trailhawk", standalone_mode=False)
        sys.stdout.flush()
        if outcome == EXIT_INTERRUPTED:  # typer has caught Ctrl-C, and said nothing
            return fail("interrupted", EXIT_INTERRUPTED)
        return outcome if isinstance(outcome, int) else 0
    except TrailhawkError as error:
        return fail(f"{error.kind}: {error}", EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILURE)
    except typer.TyperException as error:
        return fail(f"usage: {_advised(error)}", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter's own flush at the end must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except OSError as error:
        from trailhawk.files import FULL

        where = f"{error.filename}: " if error.filename else ""
        then = "; make room, what was stored before is kept" if error.errno in FULL else ""
        return fail(f"error: {where}{error.strerror or _one_line(error)}{then}", EXIT_FAILURE)
    except Exception as error:
        if isinstance(error, RuntimeError) and str(error) == "Query interrupted":
            return fail("interrupted", EXIT_INTERRUPTED)  # what Ctrl-C becomes while DuckDB works
        # What no room has an answer to is a fault of ours, or a damaged file that a library stumbles over.
        if os.environ.get("TRAILHAWK_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {_one_line(error)}"
        return fail(f"internal error: {what}; TRAILHAWK_TRACEBACK=1 shows where", EXIT_FAILURE)


def _home_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--home DIR` in front, wherever it was typed."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    place = next((at for at, word in enumerate(words[:end]) if word.split("=")[0] == "--home"), 0)
    length = 1 if words and "=" in words[place] else 2
    return words[place : place + length] + words[:place] + words[place + length :] if place else words


def _asked(words: list[str]) -> list[str]:
    """`help COMMAND` and `version`, as other tools have them, as the options they are here, and the name of a
    shell behind `--show-completion` as the variable that prints its script."""
    home = 0 if not words or words[0].split("=")[0] != "--home" else 1 if "=" in words[0] else 2
    front, typed = words[:home], words[home:]
    if typed[:1] == ["help"]:
        return [*front, *typed[1:], "--help"]
    match typed:
        # Both options are flags, and would pass the word over.
        case ["--show-completion", shell, *_] if not shell.startswith("-"):
            os.environ["_TRAILHAWK_COMPLETE"] = f"source_{shell}"
        case ["--install-completion", shell, *_] if not shell.startswith("-"):
            hint = f"`trailhawk --show-completion {shell}` prints the script of another"
            raise UsageError("--install-completion is for the shell in use", hint=hint)
    return [*front, "--version"] if typed == ["version"] else words


def _one_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _advised(error: typer.TyperException) -> str:
    """What was typed wrongly, and what to type or to read instead."""
    told = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    typed = getattr(error, "option_name", "").lstrip("-")
    for option in getattr(getattr(context, "command", None), "params", ()):
        # `--json`, as other tools have it, where the form is a value here.
        if typed in getattr(option.type, "choices", ()):
            return f"{told.partition(' (')[0]}; write '{option.opts[0]} {typed}'"
        # A span before the newest row is `--last`, one before now `--timespan`; each command has one of them.
        if typed == "last" and "--timespan" in option.opts:
            told = f"{told.partition(' (')[0]}. Did you mean '--timespan', which counts back from now?"
    command = getattr(context, "command_path", "trailhawk")
    if told == "Missing command":
        told += f"; there is {', '.join(getattr(getattr(context, 'command', None), 'commands', ()))}"
    return f"{told}{' Try' if told.endswith('?') else '; try'} '{command} --help'"
