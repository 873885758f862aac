"""Printing a tree and reading it again gives the same tree."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trailhawk.errors import Span, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.literals import DATETIME_MAX, DATETIME_MIN
from trailhawk.kql.parser import parse
from trailhawk.kql.printer import quoted, to_kql
from trailhawk.kql.records import field_names
from trailhawk.kql.types import KqlType

HERE = Path(__file__).parent
CORPUS = HERE.parents[2] / "shared" / "kql" / "docs_corpus.jsonl"
NOWHERE = Span(0, 0)
SPANS = {"span", "name_span", "name_spans"}


def bare(node: object) -> object:
    """A tree without its spans; a number keeps its type, and NaN equals NaN."""
    if isinstance(node, syntax.Node):
        fields = [name for name in field_names(node) if name not in SPANS]
        return (type(node).__name__, *(bare(getattr(node, name)) for name in fields))
    if isinstance(node, tuple):
        return tuple(bare(item) for item in node)
    return repr(node)


READ_OVER = {"OtherStatement", "OtherOperator", "MacroExpand"}


def comes_back(query: syntax.Query) -> None:
    if any(kind in repr(query) for kind in READ_OVER):
        with pytest.raises(UnsupportedError, match="printing"):
            to_kql(query)
        return
    text = to_kql(query)
    assert bare(parse(text)) == bare(query), text


def probes() -> list[str]:
    text = (HERE / "syntax" / "accepted.kql").read_text(encoding="utf-8")
    return text.strip().split("\n\n")[1:]


@pytest.mark.parametrize("query", probes())
def test_probes_come_back(query: str) -> None:
    comes_back(parse(query))


@pytest.mark.skipif(not CORPUS.exists(), reason="the documentation corpus is not here")
def test_documentation_comes_back() -> None:
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        comes_back(parse(json.loads(line)["query"]))


def test_layout() -> None:
    query = "let a=1;T|where b==a and(c or d)and e|summarize count()by['by'],f|take 5"
    assert to_kql(parse(query)) == (
        'let a = 1;\nT\n| where b == a and (c or d) and e\n| summarize count() by ["by"], f\n| take 5'
    )


@settings(derandomize=True)
@given(st.text())
def test_quoted_texts_come_back(text: str) -> None:
    statement = parse(f"print {quoted(text)}").statements[0]
    assert isinstance(statement, syntax.ExpressionStatement)
    assert bare(statement.value) == bare(
        syntax.Pipe(NOWHERE, None, (syntax.Print(NOWHERE, (syntax.Literal(NOWHERE, text, KqlType.STRING),)),))
    )


def at(make: Callable[..., Any], *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(lambda *values: make(NOWHERE, *values), *args)


def literal(values: st.SearchStrategy[Any], kind: KqlType) -> st.SearchStrategy[Any]:
    return at(syntax.Literal, st.none() | values, st.just(kind))


NAMES = st.sampled_from(
    ["a", "b1", "_c", "$left", "count", "by", "kind", "view", "range", "1x", "a b", "é", 'q"\\', ""]
)
WORDS = st.sampled_from(["a", "type", "from", "id", "count"])
LONGS = st.integers(-(2**63), 2**63 - 1)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | LONGS | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
LITERALS = st.one_of(
    literal(LONGS, KqlType.LONG),
    literal(st.integers(-(2**31), 2**31 - 1), KqlType.INT),
    literal(st.floats(), KqlType.REAL),
    literal(
        st.decimals(allow_nan=False, allow_infinity=False).map(lambda number: Decimal(str(number))),
        KqlType.DECIMAL,
    ),
    literal(st.booleans(), KqlType.BOOL),
    literal(st.integers(DATETIME_MIN, DATETIME_MAX), KqlType.DATETIME),
    literal(LONGS, KqlType.TIMESPAN),
    literal(st.uuids().map(str), KqlType.GUID),
    literal(JSON, KqlType.DYNAMIC),
    at(syntax.Literal, st.text(max_size=5), st.just(KqlType.STRING)),
)
BINARY = st.sampled_from(
    [
        "or",
        "and",
        "==",
        "!=",
        "<",
        ">=",
        "+",
        "-",
        "*",
        "/",
        "%",
        "=~",
        "!~",
        "has",
        "!has_cs",
        "matches regex",
    ]
)
LISTS = st.sampled_from(["in", "!in", "in~", "!in~", "has_any", "has_all"])


def tuples(inner: st.SearchStrategy[Any], low: int = 1) -> st.SearchStrategy[Any]:
    return st.lists(inner, min_size=low, max_size=3).map(tuple)


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = inner | at(syntax.Named, tuples(NAMES), inner, st.just(()))
    pipe = at(syntax.Pipe, at(syntax.Name, NAMES), tuples(steps(inner)))
    return st.one_of(
        at(syntax.Binary, BINARY, inner, inner),
        at(syntax.Unary, st.sampled_from("+-"), inner),
        at(syntax.InList, LISTS, inner, tuples(inner | pipe)),
        at(syntax.Between, inner, inner, inner, st.booleans()),
        at(syntax.Member, inner, WORDS),
        at(syntax.Index, inner, inner),
        at(syntax.Call, NAMES, tuples(named, 0), st.just(NOWHERE)),
        at(syntax.Call, st.just("toscalar"), pipe.map(lambda value: (value,)), st.just(NOWHERE)),
        at(syntax.TypeOf, st.sampled_from(KqlType)),
    )


def steps(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = inner | at(syntax.Named, tuples(NAMES), inner, st.just(()))
    maybe = st.none() | inner
    choice = st.none() | st.booleans()
    ordering = at(syntax.Ordering, named, choice, choice)
    column = at(syntax.ColumnDecl, NAMES, st.sampled_from(KqlType))
    return st.one_of(
        at(syntax.Where, inner),
        at(syntax.Extend, tuples(named)),
        at(syntax.Project, tuples(named, 0)),
        at(syntax.Summarize, tuples(named, 0), tuples(named, 0)),
        at(syntax.Sort, tuples(ordering)),
        at(syntax.Top, inner, ordering),
        at(syntax.Take, inner),
        at(syntax.Distinct, tuples(inner)),
        at(syntax.MvExpand, tuples(at(syntax.MvColumn, named, st.none() | st.sampled_from(KqlType))), maybe),
        at(
            syntax.ProjectReorder,
            tuples(st.tuples(at(syntax.Name, NAMES), st.sampled_from([None, "asc", "desc"]))),
        ),
        at(syntax.ParseKv, inner, tuples(column)),
        at(syntax.Join, at(syntax.Name, NAMES), tuples(inner)),
        at(
            syntax.MakeSeries,
            tuples(at(syntax.MakeSeriesColumn, named, maybe)),
            at(syntax.Name, NAMES),
            maybe,
            maybe,
            inner,
            tuples(named, 0),
        ),
        at(syntax.Count, st.none() | NAMES),
        at(syntax.SampleDistinct, inner, named),
    )


EXPRESSIONS = st.recursive(LITERALS | at(syntax.Name, NAMES), larger, max_leaves=12)
QUERIES = st.builds(
    lambda lets, source, operators: syntax.Query(
        NOWHERE,
        (*lets, syntax.ExpressionStatement(NOWHERE, syntax.Pipe(NOWHERE, source, operators))),
    ),
    tuples(at(syntax.Let, NAMES, EXPRESSIONS, st.just(NOWHERE)), 0),
    at(syntax.Name, NAMES),
    tuples(steps(EXPRESSIONS)),
)


@settings(max_examples=int(os.environ.get("TRAILHAWK_EXAMPLES", "60")), deadline=None, derandomize=True)
@given(QUERIES)
def test_any_tree_comes_back(query: syntax.Query) -> None:
    comes_back(query)


def test_not_a_number_comes_back() -> None:
    comes_back(parse("print real(nan), dynamic(real(nan)), -real(inf), 1e300"))
    assert math.isnan(float("nan"))
