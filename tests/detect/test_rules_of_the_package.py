"""Every rule and hunt of the package passes its own tests: some must give something, some nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trailhawk.detect import content
from trailhawk.detect.proof import Holding, prove
from trailhawk.detect.rule import Rule
from trailhawk.kql.schema import Table

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
