"""When a rule runs, what it sees then, and whether there is history enough.

A scheduled rule runs at the multiples of its frequency since the Unix epoch. The run at T sees the rows
with TimeGenerated in [T - period, T), and now() is T.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from trailhawk.detect.rule import Rule

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LEARNING = "learning"
SUPPRESSED = "suppressed"


class WindowState(Enum):
    """Where a window is on its way: due and running are the scheduler's, the others say how it ended."""

    DUE = "due"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Window:
    """One run of one rule at T: it sees [start, at), and [news, at) is what the run before did not see."""

    rule_id: str
    at: datetime
    start: datetime
    news: datetime


def windows(rule: Rule, start: datetime, end: datetime) -> Iterator[Window]:
    """The runs that see the events of [start, end) as news, in order of time.

    The last one is the first regular run at or after `end`.
    """
    at = next_run(rule.frequency, start)
    while at - rule.frequency < end:
        yield Window(rule.id, at, at - rule.period, at - rule.frequency)
        at += rule.frequency


def next_run(frequency: timedelta, moment: datetime) -> datetime:
    """The first multiple of the frequency after this moment."""
    return EPOCH + ((moment - EPOCH) // frequency + 1) * frequency


def last_run(frequency: timedelta, moment: datetime) -> datetime:
    """The last regular run at or before this moment."""
    return EPOCH + ((moment - EPOCH) // frequency) * frequency


def is_learning(rule: Rule, window: Window, history_start: datetime | None) -> bool:
    """Whether the stored history begins too late for this window of this rule."""
    if not rule.history_needed:
        return False
    return history_start is None or window.at - rule.history_needed < history_start
