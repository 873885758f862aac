"""The command line itself: what is accepted, what is refused, how it ends, how fast it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from trailhawk import __version__
from trailhawk.cli import app, run
from trailhawk.cli.times import time_range
from trailhawk.errors import UsageError
from trailhawk.workspace import Workspace

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEAVY = (
    "duckdb",
    "pyarrow",
    "deltalake",
    "sqlglot",
    "sqlalchemy",
    "numpy",
    "yaml",
    "msgspec",
    "rich",
    "pydantic",
)


def leaves(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command that does something, as the words that call it."""
    children = getattr(command, "commands", {})
    if not children:
        return [path]
    return [leaf for name, child in children.items() for leaf in leaves(child, (*path, name))]


COMMANDS = leaves(typer.main.get_command(app))


@pytest.mark.usefixtures("compiled")
def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"trailhawk {__version__}\n"
    monkeypatch.setenv("TRAILHAWK_KERNEL", "off")
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"trailhawk {__version__}, without the compiled kernel\n"


def test_without_arguments_it_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    shown = capsys.readouterr().out
    assert all(words[0] in shown for words in COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"trailhawk {' '.join(words)}" in shown.split("Examples:")[1]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_with_a_result_prints_json(words: tuple[str, ...]) -> None:
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    options = {option for parameter in command.params for option in parameter.opts}
    # A command that writes a file tells the form by the file's ending; a policy is JSON and nothing else.
    others = {("demo",), ("playbook", "permissions")}
    assert "--format" in options or "--out" in options or words in others


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["--nope"],
        ["simulate"],
        ["simulate", "x", "--out", "y", "--days", "many"],
        ["simulate", "--format"],
    ],
)
def test_wrong_use_is_one_line_and_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("usage: ")


NO_LAST = "usage: No such option: --last. Did you mean '--timespan', which counts back from now?"


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["ingset", "x"], "usage: No such command 'ingset'. Did you mean 'ingest'? Try 'trailhawk --help'"),
        (["rules", "list", "--json"], "usage: No such option: --json; write '--format json'"),
        (["query", "print 1", "--csv"], "usage: No such option: --csv; write '--format csv'"),
        (
            ["query", "--last", "1d", "print 1"],
            f"{NO_LAST} Try 'trailhawk query --help'",
        ),
        (
            ["hunt", "run", "--all", "--last=1d", "--timespan", "7d"],
            f"{NO_LAST} Try 'trailhawk hunt run --help'",
        ),
        (["ingest"], "usage: Missing argument 'PATH...'; try 'trailhawk ingest --help'"),
        (
            ["quarantine"],
            "usage: Missing command; there is list, show, retry; try 'trailhawk quarantine --help'",
        ),
    ],
)
def test_wrong_use_is_told_what_to_write(
    arguments: list[str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert capsys.readouterr().err == f"{advice}\n"


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["help"], ["--help"]),
        (["help", "quarantine", "list"], ["quarantine", "list", "--help"]),
        (["help", "ingest", "--home", "x"], ["ingest", "--help"]),
        (["version"], ["--version"]),
        (["--home=x", "version"], ["--version"]),
    ],
)
def test_help_and_version_are_words_too(
    words: list[str], options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert run(options) == 0
    assert shown == capsys.readouterr().out


def test_what_stands_in_brackets_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["notify", "--help"]) == 0
    assert "`[notify.channels.NAME]`" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["incidents", "list"], ["detect"]], ids=" ".join)
def test_a_damaged_state_database_is_told_in_one_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state.db").write_text("no database, " * 100)
    assert run([*words, "--home", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"state: the state database {tmp_path}/state.db: file is not a database\n"


def test_what_nothing_has_an_answer_to_is_one_line_and_a_traceback_where_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(_: Workspace) -> None:
        raise ZeroDivisionError("a fault\nof ours")

    monkeypatch.setattr(Workspace, "tables", faulty)
    assert run(["tables", "--home", str(tmp_path)]) == 1
    told = "internal error: ZeroDivisionError: a fault; TRAILHAWK_TRACEBACK=1 shows where\n"
    assert capsys.readouterr() == ("", told)
    monkeypatch.setenv("TRAILHAWK_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run(["tables", "--home", str(tmp_path)])


def test_a_hostile_argument_is_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["\x1b[2Jnope"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_what_does_not_exist_is_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "no-such-attack", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("not found: no scenario named 'no-such-attack'")


def test_home_may_stand_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--home", "HOME", "tables"], ["tables", "--home", "HOME"], ["tables", "--home=HOME"]):
        home = tmp_path / str(len(words[-1]))
        assert run([word.replace("HOME", str(home)) for word in words]) == 0
        assert home.is_dir()
    assert run(["query", "--", "--home", "x"]) == 2


def test_completion_knows_the_attacks() -> None:
    environment = os.environ | {
        "_TRAILHAWK_COMPLETE": "complete_bash",
        "COMP_WORDS": "trailhawk simulate cl",
        "COMP_CWORD": "2",
    }
    command = [sys.executable, "-c", "from trailhawk.cli import main; main()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["cloud-breach-s3"]


def test_start_loads_nothing_heavy() -> None:
    code = f"import sys, trailhawk.cli; print([name for name in {HEAVY} if name in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


NEEDLESS = (
    "asyncio",
    "deltalake",
    "jinja2",
    "pandas",
    "pyarrow.compute",
    "pydantic",
    "scipy",
    "shapely",
    "sqlalchemy",
    "urllib.request",
    "yaml",
    "trailhawk.connectors",
    "trailhawk.detect.store",
    "trailhawk.engine.activity",
    "trailhawk.kql.functions.geo",
    "trailhawk.kql.functions.series",
    "trailhawk.kql.operators.scan",
    "trailhawk.sources",
)


NEEDLESS_OVER_LOGS = (
    "asyncio",
    "boto3",
    "jinja2",
    "pandas",
    "pyarrow.compute",
    "scipy",
    "sqlalchemy",
    "yaml",
    "trailhawk.detect.rule",
    "trailhawk.incidents.incident",
    "trailhawk.kql.functions.geo",
)


@pytest.mark.parametrize(
    ("query", "needless"), [("print 1", NEEDLESS), ("AWSCloudTrail | count", NEEDLESS_OVER_LOGS)]
)
def test_a_query_loads_only_what_it_needs(query: str, needless: tuple[str, ...], tmp_path: Path) -> None:
    code = (
        "import sys; from trailhawk.cli import run; run(['query', sys.argv[1], '--home', sys.argv[2]]);"
        f" print([name for name in {needless} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, query, str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


def test_a_process_ends_at_once_but_not_before_all_is_told(tmp_path: Path) -> None:
    def ended(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "trailhawk", "--home", str(tmp_path), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    code, told, complaints = ended("query", "range x from 1 to 20000 step 1", "--format", "csv")
    assert (code, told.splitlines()[-1], complaints) == (0, "20000", "")
    code, told, complaints = ended("query", "prin 1")
    assert (code, told) == (1, "")
    assert complaints.startswith("syntax: ")
    assert ended("watchlist", "list")[0] == 0
    # The last connection folds the write-ahead log into the file: a copy of the file alone is whole.
    assert [path.name for path in tmp_path.glob("state.db*")] == ["state.db"]


def test_a_reader_that_leaves_hears_no_complaint() -> None:
    command = [sys.executable, "-m", "trailhawk", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) in (0, 1)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("7d", NOW - timedelta(days=7), NOW),
        ("1d12h", NOW - timedelta(hours=36), NOW),
        ("2w", NOW - timedelta(weeks=2), NOW),
        ("PT30M", NOW - timedelta(minutes=30), NOW),
        ("P1W", NOW - timedelta(days=7), NOW),
        ("2023-07-01/2023-07-02", datetime(2023, 7, 1, tzinfo=UTC), datetime(2023, 7, 2, tzinfo=UTC)),
        (
            "2023-07-01T06:00:00+02:00/1h",
            datetime(2023, 7, 1, 4, tzinfo=UTC),
            datetime(2023, 7, 1, 5, tzinfo=UTC),
        ),
        ("P1D/2023-07-02", datetime(2023, 7, 1, tzinfo=UTC), datetime(2023, 7, 2, tzinfo=UTC)),
        ("2023-07-01/", datetime(2023, 7, 1, tzinfo=UTC), None),
        ("/2023-07-02", None, datetime(2023, 7, 2, tzinfo=UTC)),
    ],
)
def test_time_range(text: str, start: datetime | None, end: datetime | None) -> None:
    assert time_range(text, NOW) == (start, end)


@pytest.mark.parametrize(
    "text",
    [
        *("", "7", "7x", "soon/later", "7d/7d", "/7d", "7d/", "2023-07-02/2023-07-01", "P"),
        *("9999999999999d", "1000000d", "2023-07-01/1000000000d", "0001-01-01T00:00+05:00/"),
    ],
)
def test_time_range_refuses(text: str) -> None:
    with pytest.raises(UsageError):
        time_range(text, NOW)
