"""Every rule of the package runs its own tests: events that must fire, and events that must not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from trailhawk.detect import content
from trailhawk.detect.rule import Rule, RuleTest
from trailhawk.detect.run import run
from trailhawk.detect.schedule import Window, WindowState, windows
from trailhawk.engine.result import Engine

RULES = content.rules()
CASES = [pytest.param(rule, test, id=f"{rule.source}: {test.name}") for rule in RULES for test in rule.tests]


def last_window(rule: Rule, test: RuleTest) -> Window:
    """The first regular run after the last event."""
    last = max(datetime.fromisoformat(str(event["eventTime"])) for event in test.events)
    return next(windows(rule, last, last + rule.frequency))


@pytest.mark.parametrize(("rule", "test"), CASES)
def test_a_rule_does_what_its_test_says(rule: Rule, test: RuleTest, engine_of: Callable[..., Engine]) -> None:
    found = run(rule, last_window(rule, test), engine_of(test.events))
    assert found.state is WindowState.DONE, found.reason
    assert len(found.alerts) == test.expect.alerts, [alert.name for alert in found.alerts]
    for alert in found.alerts:
        assert alert.detail("EventIds"), "an alert names the events it rests on"
        if test.expect.severity is not None:
            assert alert.severity is test.expect.severity
        for kind, values in test.expect.entities:
            assert set(alert.values(kind)) == set(values)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.source)
def test_a_rule_has_an_event_that_must_fire_and_one_that_must_not(rule: Rule) -> None:
    expected = [test.expect.alerts for test in rule.tests]
    assert any(expected)
    assert 0 in expected
