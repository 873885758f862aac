"""Every rule and hunt of the package passes its own tests: some must give something, some nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import pytest

from trailhawk.detect import content
from trailhawk.detect.proof import Holding, prove
from trailhawk.detect.rule import Rule
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.result import Engine
from trailhawk.kql.schema import Table
from trailhawk.kql.types import KqlType

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
    numbers = {column.name for column in columns if column.type in (KqlType.INT, KqlType.LONG, KqlType.REAL)}
    assert numbers.isdisjoint(before)


def test_commands_by_name_and_by_tag_are_both_told(
    engine_of: Callable[[Iterable[Mapping[str, object]]], Engine],
) -> None:
    (rule,) = (each for each in CONTENT if each.source.endswith("command-sent-to-instances.yaml"))
    (test,) = (each for each in rule.tests if each.name == "one by name and another by tag")
    (row,) = engine_of(test.events).query(rule.query, now=datetime(2026, 3, 2, 10, tzinfo=UTC)).rows()
    assert row["Named"] == "1 and by tag"
