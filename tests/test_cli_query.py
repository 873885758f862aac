"""`trailhawk query`: parameters, several results, checks, and all that is wrong at once."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from trailhawk.cli import run

FORK = "range x from 1 to 3 step 1 | fork big=(where x > 1) (count)"


@pytest.fixture
def home(tmp_path: Path) -> list[str]:
    return ["--home", str(tmp_path)]


def test_parameters(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = "declare query_parameters(n: long, s: string = 'none'); print n = n + 1, s = s"
    assert run([*home, "query", text, "--parameter", "n=0x10", "-p", 's=a"=b', "--format", "csv"]) == 0
    assert capsys.readouterr().out == 'n,s\n17,"a""=b"\n'


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["-p", "n"], 2, "usage: 'n' is no parameter; write --parameter name=value"),
        (["-p", "n=1", "-p", "n=2"], 2, "usage: the parameter 'n' is given twice"),
        (["-p", "n=many"], 1, "binding: the value of parameter 'n' is no long"),
        (["-p", "n=1", "-p", "m=1"], 1, "binding: the query declares no parameter 'm'"),
        ([], 1, "binding: the parameter 'n' has no value"),
    ],
)
def test_wrong_parameters(
    home: list[str], given: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*home, "query", "declare query_parameters(n: long); print n", *given]) == code
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("csv", "# big\nx\n2\n3\n\n# result 2\nCount\n3\n"),
        (
            "jsonl",
            "".join(
                f'{{"name":"{name}","row":{{"{column}":{value}}}}}\n'
                for name, column, value in (("big", "x", 2), ("big", "x", 3), ("result 2", "Count", 3))
            ),
        ),
        (
            "json",
            '[\n {"name":"big","rows":[{"x":2},{"x":3}]},\n {"name":"result 2","rows":[{"Count":3}]}\n]\n',
        ),
    ],
)
def test_several_results(
    home: list[str], form: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*home, "query", FORK, "--format", form]) == 0
    assert capsys.readouterr().out == expected


def test_several_results_as_tables(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*home, "query", FORK]) == 0
    words = capsys.readouterr().out.split()
    assert [word for word in words if word.isalnum()] == ["big", "x", "2", "3", "result", "2", "Count", "3"]


def test_a_batch_with_parameters_and_several_results(
    home: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = [
        {"id": 1, "query": "declare query_parameters(s: string); print s", "parameters": {"s": "'; T"}},
        {"id": 2, "query": FORK},
        {"id": 3, "query": "print 1", "parameters": [1]},
        {"id": 4, "query": "print 1"},
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(json.dumps, asked))))
    assert run([*home, "query", "--batch"]) == 0
    first, second, third, fourth = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["rows"] == [["'; T"]]
    assert second["rows"] == [[2], [3]]
    assert second["others"] == [{"name": "", "columns": [{"name": "Count", "type": "long"}], "rows": [[3]]}]
    assert third["error"] == "usage: parameters is an object of names and values"
    assert "others" not in fourth


def test_a_check_tells_the_columns(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*home, "query", "--check", FORK, "--format", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "errors": [],
        "results": [
            {"name": "big", "columns": [{"name": "x", "type": "long"}]},
            {"name": "", "columns": [{"name": "Count", "type": "long"}]},
        ],
    }
    assert run([*home, "query", "--check", "print x = 1"]) == 0
    assert capsys.readouterr().out.split()[-2:] == ["x", "long"]


def test_a_check_tells_all_errors(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = "AWSCloudTrail\n| where EventNam == 'x'\n| where ErorCode == ''"
    assert run([*home, "query", "--check", text, "--format", "json"]) == 1
    first, second = json.loads(capsys.readouterr().out)["errors"]
    assert first == {
        "code": "unknown-column",
        "kind": "binding",
        "message": "there is no column or variable 'EventNam'",
        "suggestion": "did you mean 'EventName'?",
        "start": 22,
        "end": 30,
        "line": 2,
        "column": 9,
    }
    assert second["suggestion"] == "did you mean 'ErrorCode'?"
    assert run([*home, "query", "--check", text]) == 1
    assert capsys.readouterr().out.count("^^^^^^^^") == 2


def test_a_query_that_fails_tells_all_errors(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*home, "query", "AWSCloudTrail | where EventNam == 1 | wher x | take"]) == 1
    told = capsys.readouterr().err
    assert [line for line in told.splitlines() if ": " in line] == [
        "syntax: unknown operator 'wher' at 1:39",
        "syntax: expected an expression, found the end of the query at 1:52",
    ]


def test_a_batch_has_its_parameters_in_its_lines(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*home, "query", "--batch", "-p", "a=1"]) == 2
    assert "standard input" in capsys.readouterr().err


def test_a_file_given_as_the_query_is_told(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "hunt.kql"
    file.write_text("print 1")
    assert run([*home, "query", str(file)]) == 2
    assert capsys.readouterr().err == f"usage: {file} is a file; write -f FILE to read the query from it\n"


ASCII: Final = {"PYTHONIOENCODING": "ascii"}
LATIN: Final = {"PYTHONIOENCODING": "latin-1"}
PLAIN_C: Final = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale without another encoding than ASCII, whose output lets bytes through that are no text."""


def command(home: list[str], locale: dict[str, str], *words: str, given: str = "") -> bytes:
    """What a process in this locale prints to whom this is given in UTF-8."""
    return subprocess.run(
        [sys.executable, "-m", "trailhawk", *home, "query", *words],
        input=given.encode(),
        env={**os.environ, **locale},
        capture_output=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("locale", [ASCII, LATIN, PLAIN_C], ids=["ascii", "latin-1", "C"])
def test_what_programs_read_is_utf8_in_any_locale(home: list[str], locale: dict[str, str]) -> None:
    asked = "print x='\u00e4\u20ac'"
    told = {form: command(home, locale, "-", "--format", form, given=asked) for form in ("json", "csv")}
    assert json.loads(told["json"]) == [{"x": "\u00e4\u20ac"}]
    assert told["csv"] == "x\n\u00e4\u20ac\n".encode()

    if locale is not LATIN:  # there a command line's UTF-8 is other text
        assert json.loads(command(home, locale, asked, "--format", "json")) == [{"x": "\u00e4\u20ac"}]

    lines = json.dumps({"id": "\u00e4", "query": asked}, ensure_ascii=False)
    assert json.loads(command(home, locale, "--batch", given=lines))["rows"] == [["\u00e4\u20ac"]]


@pytest.mark.parametrize("locale", [ASCII, PLAIN_C], ids=["ascii", "C"])
def test_a_table_has_what_an_encoding_lacks_by_its_number(home: list[str], locale: dict[str, str]) -> None:
    assert b"\\xe4\\u20ac" in command(home, locale, "print x=make_string(228, 8364)")


def test_a_line_of_a_batch_that_is_no_utf8_costs_only_its_own_answer(home: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "trailhawk", *home, "query", "--batch"],
        input=b'{"id": 1, "query": "print \'\xff\'"}\n{"id": 2, "query": "print 2"}\n',
        capture_output=True,
        check=True,
    )
    first, second = map(json.loads, ended.stdout.splitlines())
    assert (first["error"], first["id"]) == ("usage: a line is not UTF-8 text", None)
    assert (second["rows"], second["error"]) == ([[2]], None)
