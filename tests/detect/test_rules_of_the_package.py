"""Every rule and hunt of the package passes its own tests: some must give something, some nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from trailhawk.detect import content
from trailhawk.detect.proof import Holding, prove
from trailhawk.detect.rule import Rule
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.result import Engine
from trailhawk.kql import passes
from trailhawk.kql.plan import Call, Const, Expr, Node, Shared, references
from trailhawk.kql.schema import Table
from trailhawk.kql.types import KqlType

NUMBERS = (KqlType.INT, KqlType.LONG, KqlType.REAL)
CONTENT = (*content.rules(), *content.hunts())


@pytest.mark.parametrize("rule", CONTENT, ids=lambda rule: rule.source)
def test_what_is_shipped_passes_its_own_tests(
    rule: Rule, holding: Holding, tables: Callable[[], list[Table]]
) -> None:
    outcomes = list(prove([rule], tables(), holding))
    assert [(outcome.test.name, outcome.failures) for outcome in outcomes if not outcome.passed] == []


@pytest.mark.parametrize("rule", CONTENT, ids=lambda rule: rule.source)
def test_what_is_shipped_has_logs_that_must_give_something_and_logs_that_must_not(rule: Rule) -> None:
    expected = [test.expect.alerts for test in rule.tests]
    assert any(expected)
    assert 0 in expected


def test_no_two_have_the_same_id_or_name() -> None:
    assert len({rule.id for rule in CONTENT}) == len({rule.name for rule in CONTENT}) == len(CONTENT)


@pytest.mark.parametrize("rule", content.rules(), ids=lambda rule: rule.source)
def test_no_number_in_an_alerts_text_stands_before_a_plural(rule: Rule, holding: Holding) -> None:
    """A column cannot know whether it is one instance: the number stands behind the noun."""
    formats = f"{rule.details.display_name_format} {rule.details.description_format}"
    before = re.findall(r"{{(\w+)}} (?:[a-z-]+ )?[a-z]+s\b", formats)
    engine = holding({})
    assert isinstance(engine, DuckDBEngine)
    columns = engine.compiled(rule.query, now=datetime(2026, 3, 2, tzinfo=UTC)).columns
    numbers = {column.name for column in columns if column.type in NUMBERS}
    assert numbers.isdisjoint(before)


@pytest.mark.parametrize("rule", content.rules(), ids=lambda rule: rule.source)
def test_no_number_is_made_text_before_a_plural(rule: Rule, holding: Holding) -> None:
    """Unless a condition around the text is about it: `iff(Count > 1, strcat(Count, " disks"), "a disk")`."""
    engine = holding({})
    assert isinstance(engine, DuckDBEngine)
    plan = engine.compiled(rule.query, now=datetime(2026, 3, 2, tzinfo=UTC)).plan
    own = (expr for node in every_node(plan) for expr in passes._own_expressions(node))
    assert [text for expr in own for text in numbers_before_plurals(expr, frozenset())] == []


def every_node(plan: Node) -> Iterator[Node]:
    for node in passes.nodes(plan):
        yield node
        if isinstance(node, Shared):
            yield from every_node(node.plan)


def numbers_before_plurals(expr: Expr, looked_at: frozenset[int]) -> Iterator[str]:
    """What texts made of numbers are followed by a plural, where no condition around them is about them."""
    if not isinstance(expr, Call):
        return
    if expr.overload.name in ("iff", "case"):
        looked_at = looked_at.union(*(references(arg) for arg in expr.args if arg.type is KqlType.BOOL))
    if expr.overload.name == "strcat":
        for number, text in pairwise(expr.args):
            while isinstance(number, Call) and number.overload.name == "tostring":
                (number,) = number.args
            said = str(text.value) if isinstance(text, Const) else ""
            is_plural = re.match(r" (?:[a-z-]+ )?[a-z]+s\b", said) is not None
            if number.type in NUMBERS and is_plural and not references(number) & looked_at:
                yield said
    for arg in expr.args:
        yield from numbers_before_plurals(arg, looked_at)


def test_commands_by_name_and_by_tag_are_both_told(
    engine_of: Callable[[Iterable[Mapping[str, object]]], Engine],
) -> None:
    (rule,) = (each for each in CONTENT if each.source.endswith("command-sent-to-instances.yaml"))
    (test,) = (each for each in rule.tests if each.name == "one by name and another by tag")
    (row,) = engine_of(test.events).query(rule.query, now=datetime(2026, 3, 2, 10, tzinfo=UTC)).rows()
    assert row["Named"] == "1 and by tag"
