"""What is read, what is refused, how it is said, and that hostile text ends in an error."""

from __future__ import annotations

import json
import os
import random
import re
import time
from decimal import Decimal
from pathlib import Path

import pytest

from trailhawk.errors import KqlSyntaxError, LimitError, QueryError
from trailhawk.kql import syntax
from trailhawk.kql.parser import parse, problems
from trailhawk.kql.types import KqlType

HERE = Path(__file__).parent
CORPUS = HERE.parents[2] / "shared" / "kql" / "docs_corpus.jsonl"


def blocks(name: str) -> list[str]:
    text = (HERE / "syntax" / f"{name}.kql").read_text(encoding="utf-8")
    return re.split(r"\n{2,}", text.strip())[1:]


def value(text: str) -> syntax.Expr:
    """The one expression of `print text`."""
    statement = parse(f"print {text}").statements[0]
    assert isinstance(statement, syntax.ExpressionStatement)
    pipe = statement.value
    assert isinstance(pipe, syntax.Pipe)
    printed = pipe.operators[0]
    assert isinstance(printed, syntax.Print)
    return printed.values[0]


def operator(text: str) -> syntax.Operator:
    """The step of `T | text`."""
    statement = parse(f"T | {text}").statements[0]
    assert isinstance(statement, syntax.ExpressionStatement)
    assert isinstance(statement.value, syntax.Pipe)
    return statement.value.operators[0]


@pytest.mark.parametrize("query", blocks("accepted") + blocks("looser"))
def test_accepted(query: str) -> None:
    parse(query)
    assert problems(query) == ()


@pytest.mark.parametrize("query", blocks("rejected") + blocks("stricter"))
def test_rejected(query: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(query)
    span = caught.value.span
    assert span is not None
    assert 0 <= span.start <= span.end <= len(query)
    assert caught.value.render(query)
    first = problems(query)[0]
    assert (first.message, first.span) == (caught.value.message, span)


@pytest.mark.skipif(not CORPUS.exists(), reason="the documentation corpus is not here")
def test_documentation_parses() -> None:
    queries = [json.loads(line)["query"] for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    assert len(queries) > 400
    for query in queries:
        parse(query)


@pytest.mark.parametrize(
    ("text", "expected", "kind"),
    [
        ("1", 1, KqlType.LONG),
        ("0x1F", 31, KqlType.LONG),
        ("long(0xFFFFFFFFFFFFFFFF)", -1, KqlType.LONG),
        ("int(-7)", -7, KqlType.INT),
        ("int(null)", None, KqlType.INT),
        ("1e3", 1000.0, KqlType.REAL),
        ("real(-inf)", float("-inf"), KqlType.REAL),
        ("decimal(1.50)", Decimal("1.50"), KqlType.DECIMAL),
        ("true", True, KqlType.BOOL),
        ("bool(0)", False, KqlType.BOOL),
        ("'a' \"b\" @'c'", "abc", KqlType.STRING),
        ("datetime(1970-01-02)", 864_000_000_000, KqlType.DATETIME),
        ("datetime(null)", None, KqlType.DATETIME),
        ("date('1970-01-01')", 0, KqlType.DATETIME),
        ("1.5h", 54_000_000_000, KqlType.TIMESPAN),
        ("time(2)", 1_728_000_000_000, KqlType.TIMESPAN),
        ("guid(74BE27DE1E4E49D9B579FE0B331D3642)", "74be27de-1e4e-49d9-b579-fe0b331d3642", KqlType.GUID),
        (
            "dynamic({'a': [1, -2.5, null, true, datetime(1970-01-01), 1d]})",
            {"a": [1, -2.5, None, True, "1970-01-01T00:00:00.0000000Z", "1.00:00:00"]},
            KqlType.DYNAMIC,
        ),
        ("dynamic(null)", None, KqlType.DYNAMIC),
    ],
)
def test_literals(text: str, expected: object, kind: KqlType) -> None:
    literal = value(text)
    assert isinstance(literal, syntax.Literal)
    assert (literal.value, literal.type) == (expected, kind)
    assert (literal.span.start, literal.span.end) == (6, 6 + len(text))


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a or b and c", "a or (b and c)"),
        ("a == b and c == d", "(a == b) and (c == d)"),
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a < b == c", "(a < b) == c"),
        ("a + b has c", "a + (b has c)"),
        ("-a.b[0]", "-(a.b[0])"),
        ("a in (1) and b", "(a in (1)) and b"),
        ("a : 'x'", "a has 'x'"),
        ("a <> b", "a != b"),
        ("a and b and c", "(a and b) and c"),
        ("a and b and c and d", "(a and b) and (c and d)"),
    ],
)
def test_precedence(text: str, same: str) -> None:
    def shape(node: object) -> object:
        if isinstance(node, syntax.Binary):
            return node.op, shape(node.left), shape(node.right)
        if isinstance(node, syntax.Unary):
            return node.op, shape(node.operand)
        return type(node).__name__

    assert shape(value(text)) == shape(value(same))


def test_spans() -> None:
    text = "T | where (a + b) == c | take 5"
    statement = parse(text).statements[0]
    assert isinstance(statement, syntax.ExpressionStatement)
    pipe = statement.value
    assert isinstance(pipe, syntax.Pipe)
    where, take = pipe.operators
    assert isinstance(where, syntax.Where)
    assert text[where.span.start : where.span.end] == "where (a + b) == c"
    predicate = where.predicate
    assert isinstance(predicate, syntax.Binary)
    assert text[predicate.span.start : predicate.span.end] == "(a + b) == c"
    assert text[predicate.left.span.start : predicate.left.span.end] == "a + b"
    assert text[take.span.start : take.span.end] == "take 5"


def test_long_chains_stay_low() -> None:
    def height(node: syntax.Expr) -> int:
        return 1 + max(height(node.left), height(node.right)) if isinstance(node, syntax.Binary) else 0

    terms = " or ".join(f"a == {number}" for number in range(10_000))
    where = operator(f"where {terms}")
    assert isinstance(where, syntax.Where)
    assert height(where.predicate) <= 15


def test_details_of_operators() -> None:
    join = operator("join kind=leftouter hint.strategy=broadcast (U) on $left.a == $right.b, c")
    assert isinstance(join, syntax.Join)
    assert [item.name for item in join.properties] == ["kind", "hint.strategy"]
    assert [type(key) for key in join.keys] == [syntax.Binary, syntax.Name]
    sort = operator("sort by a asc nulls last, b")
    assert isinstance(sort, syntax.Sort)
    assert [(key.descending, key.nulls_first) for key in sort.keys] == [(False, False), (None, None)]
    away = operator("project-away a*, *b, c, *")
    assert isinstance(away, syntax.ProjectAway)
    assert [type(column).__name__ for column in away.columns] == [
        "NamePattern",
        "NamePattern",
        "Name",
        "Star",
    ]
    render = operator("render linechart with (ycolumns=a, b, title='x')")
    assert isinstance(render, syntax.Render)
    assert [item.name for item in render.properties] == ["ycolumns", "ycolumns", "title"]
    summarize = operator("summarize count = count(), (x, y) = arg_max(a, *) by type")
    assert isinstance(summarize, syntax.Summarize)
    assert [item.names for item in summarize.values if isinstance(item, syntax.Named)] == [
        ("count",),
        ("x", "y"),
    ]


@pytest.mark.parametrize(
    ("query", "message", "place", "hint"),
    [
        ("T | summarise count()", "unknown operator 'summarise'", (1, 5), "did you mean 'summarize'?"),
        ("T\n| project-way a", "unknown operator 'project-way'", (2, 3), "did you mean 'project-away'?"),
        ("T | where a = 1", "expected an operator, '|' or ';', found '='", (1, 13), "did you mean '=='?"),
        (
            "T | where a containz 'x'",
            "expected '|' or ';', found 'containz'",
            (1, 13),
            "did you mean 'contains'?",
        ),
        (
            "T | where (a == 1",
            "expected ')', found the end of the query",
            (1, 18),
            "the '(' at 1:11 is not closed",
        ),
        (
            "T | where by == 1",
            "expected an expression, found the keyword 'by'",
            (1, 11),
            "as a name write ['by']",
        ),
        ("print 'abc", "a text that never ends on its line (no closing ')", (1, 7), ""),
        ("print datetime(2020", "expected ')' to end datetime(...) on its line", (1, 7), ""),
        (
            "print datetime(xyz)",
            "'datetime(xyz)' is no valid value",
            (1, 7),
            "a moment is written datetime(2024-01-31 10:00), ago(1d) or now()",
        ),
        ("T | take", "expected an expression, found the end of the query", (1, 9), ""),
        ("T | sort a", "expected 'by', found 'a'", (1, 10), "write 'sort by Column desc'"),
        ("datatable(a:strin)[]", "expected a type, found 'strin'", (1, 13), "did you mean 'string'?"),
    ],
)
def test_messages(query: str, message: str, place: tuple[int, int], hint: str) -> None:
    with pytest.raises(KqlSyntaxError) as caught:
        parse(query)
    error = caught.value
    assert error.span is not None
    assert (error.message, error.span.position(query), error.hint) == (message, place, hint)


def test_several_problems() -> None:
    query = "let a = ;\nT | wher a | summarize count() by | extend | take 5 | sort a;\nprint 1 +"
    assert [error.span.position(query) for error in problems(query) if error.span] == [
        (1, 9),
        (2, 5),
        (2, 35),
        (2, 44),
        (2, 60),
        (3, 10),
    ]


def test_empty() -> None:
    for query in ("", "  ", "// nothing", ";;"):
        with pytest.raises(KqlSyntaxError, match="empty"):
            parse(query)


@pytest.mark.parametrize(
    "query",
    [
        "print " + "(" * 10_000 + "1" + ")" * 10_000,
        "print " + "f(" * 10_000,
        "print dynamic(" + "[" * 10_000,
        "print a" + ".b" * 10_000,
        "union a" + ".b" * 10_000,
        "T | facet by a" + ".b" * 10_000,
        "T | invoke b()" + ".b()" * 10_000,
        "print " + "+".join("1" * 10_000),
        "print " + "toscalar(print " * 10_000,
        "T | fork " + "(fork " * 10_000,
        "let f = " + "() { let g = " * 10_000,
        "print '" + "x" * 5_000_000 + "'",
    ],
    ids=lambda query: query[:24],
)
def test_bounds(query: str) -> None:
    with pytest.raises(LimitError):
        parse(query)


@pytest.mark.parametrize(
    "query",
    [
        "print '" + "x" * 1_900_000 + "'",
        "print " + "1" * 300_000 + "é",
        "print " + "datetime(" * 50_000,
        "print " + "'a' " * 50_000,
        "'\"" * 100_000,
        "```a" * 50_000,
        "T | project-away " + "*a" * 50_000,
        "print " + "(a," * 50_000,
        "T" + " | take 1" * 20_000,
        ";" * 100_000,
        "T | " + "w" * 500_000,
        "T | where a in (" + ",".join(map(str, range(20_000))) + ")",
    ],
    ids=lambda query: query[:24],
)
def test_linear_time(query: str) -> None:
    began = time.process_time()
    found = problems(query)[:1]
    assert all(len(str(error)) < 300 for error in found)
    assert time.process_time() - began < 10


def test_nesting_up_to_the_bound() -> None:
    parse("print " + "f(" * 60 + "1" + ")" * 60)
    parse("print " + "(" * 60 + "1" + ")" * 60)
    with pytest.raises(LimitError, match="more than 20 levels"):
        parse("print " + "(" * 21 + "1" + ")" * 21, max_depth=20)


PIECES = [
    *"()[]{}|;,.:=<>+-*/%!~'\"@#\\",
    "..",
    "=>",
    "==",
    "//",
    "\n",
    "```",
    "hint.x=",
    "kind=",
    "datetime(",
]


def mutated(chance: random.Random, words: list[str]) -> str:
    """A query's words with some dropped, doubled, swapped or replaced."""
    words = list(words)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(words))
        match chance.randrange(4):
            case 0:
                del words[at : at + chance.randint(1, 3)]
            case 1:
                words.insert(at, chance.choice(PIECES))
            case 2:
                words[at] = words[chance.randrange(len(words))]
            case _:
                words[at] = chance.choice(PIECES)
        words = words or ["T"]
    return "".join(words)


def refusal(text: str) -> QueryError | None:
    try:
        parse(text)
    except QueryError as error:
        return error
    return None


@pytest.mark.fuzz
def test_any_text_gives_a_tree_or_a_query_error() -> None:
    """TRAILHAWK_FUZZ=100000 for a long run."""
    chance = random.Random(20)
    seeds = [re.findall(r"\w+|\s+|.", query) for query in blocks("accepted")]
    vocabulary = [word for words in seeds for word in words] + PIECES
    for number in range(int(os.environ.get("TRAILHAWK_FUZZ", "3000"))):
        if number % 4:
            text = mutated(chance, chance.choice(seeds))
        else:
            text = " ".join(chance.choices(vocabulary, k=chance.randint(1, 30)))
        first = refusal(text)
        found = problems(text)
        assert bool(found) == bool(first), text
        assert all(error.span and 0 <= error.span.start <= error.span.end <= len(text) for error in found), (
            text
        )
