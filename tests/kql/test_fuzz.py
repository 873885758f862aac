"""Random words and mutated queries through parser, binder, passes and lowering: only our errors come out.

TRAILHAWK_FUZZ=100000 for a long run, TRAILHAWK_FUZZ_SEED for another one. What an input may take is bounded
in processor time, so that a busy machine is no failure and a hang is one.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path

import pytest
import yaml

from trailhawk.errors import QueryError, TrailhawkError
from trailhawk.kql.compiler import check, compile_query
from trailhawk.kql.functions import AGGREGATES, FUNCTIONS, WINDOWS
from trailhawk.kql.lower import column_name, lower
from trailhawk.kql.plan import Apply, Scan
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import TYPE_NAMES

HERE = Path(__file__).parent
CORPUS = HERE.parents[2] / "shared" / "kql" / "docs_corpus.jsonl"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SIZE = int(os.environ.get("TRAILHAWK_FUZZ", "400"))
SEED = int(os.environ.get("TRAILHAWK_FUZZ_SEED", "3"))
FOUND = (
    "range x from 1 to typeof(",
    "print a = dynamic([1]), b = dynamic([2]) | mv-expand x = a, x = b",
    "print x = 1.0, y = 1.0 | evaluate geo_line_lookup((print l = dynamic({})), l, x, y, dynamic([1]))",
    "AWSCloudTrail | parse-kv EventName as (a: string) with (kv_delimiter=1)",
    "AWSCloudTrail | where EventName between (1 .. 2)",
    'print extract_all("(a)", dynamic(["b"]), "a")',
    'print extract_all("(a)", dynamic([1.5]), "a")',
)
"""Inputs that once brought out other errors: all are refused."""
SECONDS = 10
"""Processor time that one input may take: far above the slowest, far below a hang."""
PIECES = (
    *"()[]{}|;,.:=<>+-*/%!~'\"@#\\$",
    *(
        "..",
        "=>",
        "==",
        "!=",
        "=~",
        "//",
        "\n",
        "```",
        "hint.x=",
        "kind=",
        "datetime(",
        "dynamic(",
        "typeof(",
    ),
    *("null", "1", "-1", "0", "1d", "2.5", "1e308", "9223372036854775807", "''", "'a'", "true", "$left", "*"),
)


class Tables:
    """The tables of columns/schemas.json."""

    def __init__(self) -> None:
        schemas: dict[str, dict[str, str]] = json.loads((HERE / "columns" / "schemas.json").read_text())
        self.tables = {
            name: Table(name, tuple(Column(column, TYPE_NAMES[kind]) for column, kind in columns.items()))
            for name, columns in schemas.items()
        }

    def table(self, name: str) -> Table | None:
        return self.tables.get(name)

    def table_names(self) -> tuple[str, ...]:
        return tuple(self.tables)


TABLES = Tables()


def blocks(folder: str) -> Iterator[str]:
    for path in sorted((HERE / folder).glob("*.kql")):
        for block in path.read_text(encoding="utf-8").split("=== ")[1:]:
            yield block.split("\n", 1)[1].split("\n---", 1)[0]


def shipped() -> Iterator[str]:
    """The queries of the content that comes with the package."""
    for path in sorted(Path(str(resources.files("trailhawk"))).glob("content/**/*")):
        if path.suffix == ".kql":
            yield path.read_text(encoding="utf-8")
        elif path.suffix in (".yaml", ".yml"):
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
            if isinstance(found, dict) and isinstance(found.get("query"), str):
                yield found["query"]


@cache
def seeds() -> list[list[str]]:
    """Real queries as words."""
    found = [*blocks("columns"), *blocks("golden"), *shipped()]
    if CORPUS.exists():
        found += [json.loads(line)["query"] for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    return [words for query in found if (words := re.findall(r"\w+|\s+|.", query))]


@cache
def vocabulary() -> list[str]:
    names = [*FUNCTIONS, *AGGREGATES, *WINDOWS, *TABLES.table_names()]
    return [word for words in seeds() for word in words if word.strip()] + names + list(PIECES) * 20


@cache
def steps() -> list[str]:
    """Operators of real queries, `where ...` and the like."""
    found = {step.strip() for words in seeds() for step in "".join(words).split("|")[1:]}
    return sorted(step for step in found if step and ";" not in step and step.count("(") == step.count(")"))


@cache
def names() -> list[str]:
    return sorted({word for word in vocabulary() if word[0].isalpha() or word[0] == "_"})


def mutated(chance: random.Random) -> str:
    """A real query with some words dropped, doubled, moved or replaced, or with a part of another one."""
    words = list(chance.choice(seeds()))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(words))
        match chance.randrange(8):
            case 0:
                del words[at : at + chance.randint(1, 4)]
            case 1:
                words.insert(at, chance.choice(vocabulary()))
            case 2:
                words[at] = words[chance.randrange(len(words))]
            case 3:
                other = chance.choice(seeds())
                start = chance.randrange(len(other))
                words[at:at] = other[start : start + chance.randint(1, 25)]
            case 4:
                end = at + chance.randint(1, 12)
                words[at:at] = words[at:end] * chance.randint(1, 3)
            case 5:
                words.append("\n| " + chance.choice(steps()))
            case _:
                _renamed(chance, words)
        words = words or ["T"]
    return "".join(words)


def _renamed(chance: random.Random, words: list[str]) -> None:
    """One name becomes another everywhere, or one number another: what is left can often be read."""
    old = chance.choice(words)
    if old.isdigit():
        new = chance.choice(
            ("0", "1", "-1", "2.5", "1d", "9223372036854775807", "true", "'a'", "dynamic([1])")
        )
    elif old.isidentifier():
        new = chance.choice(
            names() if chance.random() < 0.5 else [word for word in words if word.isidentifier()]
        )
    else:
        return
    words[:] = [new if word == old else word for word in words]


def chained(chance: random.Random) -> str:
    """Operators of several real queries, one after the other."""
    source = chance.choice((*TABLES.table_names(), "print a = 1, s = 'x', d = dynamic({'a': [1]})"))
    return "\n| ".join([source, *chance.choices(steps(), k=chance.randint(1, 5))])


def soup(chance: random.Random) -> str:
    """Words without sense, often after a beginning that makes the binder look at them."""
    begin = chance.choice(
        ("", "print ", "AWSCloudTrail | where ", "AWSCloudTrail | summarize ", "range x from 1 to ")
    )
    return begin + " ".join(chance.choices(vocabulary(), k=chance.randint(1, 30)))


def made(chance: random.Random, number: int) -> str:
    """An input of the kind that its number says."""
    return (soup, chained, chained, mutated, mutated, mutated, mutated, mutated)[number % 8](chance)


@contextmanager
def bounded(text: str) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"more than {SECONDS} s of processor time for {text!r}")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def nothing(scan: Scan) -> str:
    return f"SELECT {', '.join(f'NULL AS {column_name(column.id)}' for column in scan.columns)}"


def relation(node: Apply, inputs: tuple[str, ...]) -> str:
    return "relation"


def goes_through(text: str) -> bool:
    """Is the query taken? Anything but our errors goes on."""
    try:
        compiled = compile_query(text, TABLES, now=NOW)
        for result in (compiled, *compiled.others):
            lower(result.plan, nothing, relation)
    except TrailhawkError as error:
        if isinstance(error, QueryError):
            error.render(text)
        return False
    return True


@pytest.mark.fuzz
@pytest.mark.skipif(not hasattr(signal, "SIGVTALRM"), reason="no timer of processor time")
def test_any_text_is_compiled_or_refused() -> None:
    chance = random.Random(SEED)
    taken = 0
    for number in range(SIZE):
        text = made(chance, number)
        with bounded(text):
            try:
                taken += goes_through(text)
                if number % 16 == 0:
                    check(text, TABLES, now=NOW)
            except Exception as error:
                error.add_note(f"input {number}: {text!r}")
                raise
    # The mutations stay near enough to real queries to reach behind the parser.
    assert taken > SIZE / 50


@pytest.mark.parametrize("text", FOUND)
def test_found_before(text: str) -> None:
    assert not goes_through(text)
