"""Windows lie at multiples of the frequency, and every event is news to exactly one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from trailhawk.detect.rule import Rule, RuleKind, Severity
from trailhawk.detect.schedule import is_learning, windows

HOUR = timedelta(hours=1)
START = datetime(2026, 3, 1, 10, 17, tzinfo=UTC)


def rule(frequency: timedelta, period: timedelta, learning: timedelta | None = None) -> Rule:
    return Rule(
        id="r",
        name="r",
        query="T",
        kind=RuleKind.SCHEDULED,
        severity=Severity.LOW,
        frequency=frequency,
        period=period,
        learning_period=learning,
    )


def test_windows_of_an_hourly_rule() -> None:
    found = list(windows(rule(HOUR, 24 * HOUR), START, START + 2 * HOUR))
    assert [window.at.hour for window in found] == [11, 12, 13]
    assert found[0].start == found[0].at - 24 * HOUR
    assert found[0].news == found[0].at - HOUR


def test_an_end_on_the_hour_needs_no_further_window() -> None:
    start = datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert [w.at.hour for w in windows(rule(HOUR, HOUR), start, start + HOUR)] == [11]


@given(
    st.integers(min_value=5, max_value=3000).map(lambda minutes: timedelta(minutes=minutes)),
    st.integers(min_value=0, max_value=10_000).map(lambda minutes: START + timedelta(minutes=minutes)),
)
def test_every_event_is_news_once(frequency: timedelta, moment: datetime) -> None:
    found = windows(rule(frequency, frequency), START, START + timedelta(days=8))
    holding = [w for w in found if w.news <= moment < w.at]
    assert len(holding) == 1


def test_learning_until_the_history_is_there() -> None:
    baseline = rule(HOUR, timedelta(days=14), timedelta(days=14))
    early, late = list(windows(baseline, START + timedelta(days=14), START + timedelta(days=14) + 2 * HOUR))[
        :2
    ]
    assert is_learning(baseline, early, START + HOUR)
    assert not is_learning(baseline, late, START)
    assert is_learning(baseline, late, None)


def test_no_learning_where_the_rule_does_not_ask_for_it() -> None:
    quick = rule(HOUR, timedelta(days=14))
    assert not is_learning(quick, next(windows(quick, START, START + HOUR)), START)
