"""Run one rule in one window on the engine it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from trailhawk.detect.absent import absent, is_there
from trailhawk.detect.absent import reason as reason_of
from trailhawk.detect.alert import Alert, alerts
from trailhawk.detect.rule import Rule
from trailhawk.detect.schedule import Window, WindowState
from trailhawk.engine.result import Engine, Result, TimeRange
from trailhawk.errors import LimitError, NotAllowedError, QueryError, StateError, TrailhawkError


@dataclass(frozen=True, slots=True)
class Taken:
    """The places of the result rows that an exception took, or why it could not be applied."""

    exception_id: int
    places: tuple[int, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """What exceptions left of a window's result, and what each of them took."""

    result: Result
    taken: tuple[Taken, ...] = ()


Leave = Callable[[Rule, Window, Result], Left]
"""Applies the exceptions of a rule to the result of one of its windows."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one window. `seen` is the number of stored rows in its news when it ran."""

    window: Window
    state: WindowState
    reason: str = ""
    rows: int = 0
    alerts: tuple[Alert, ...] = ()
    seen: int = 0
    is_permanent: bool = False
    """Of what failed or was skipped: whether every other window of the rule must end in the same way."""
    is_costly: bool = False
    """Of what failed: whether it was stopped at a limit of time, memory or size."""
    taken: tuple[Taken, ...] = ()
    """What exceptions took of the result; `rows` are those that they left."""
    began: datetime | None = None
    seconds: float = 0.0
    """When the scheduler ran it by its clock, and how long that took; None where no query was run."""


def run(
    rule: Rule,
    window: Window,
    engine: Engine,
    *,
    seen: int = 0,
    ingested: bool = False,
    replayed: bool = False,
    leave: Leave | None = None,
) -> Run:
    """The alerts of this window, which is one of ingestion times where `ingested`; where `replayed` each row
    came when its event happened.

    `leave` takes out what exceptions take. A query that fails is recorded, not raised.
    """
    try:
        clip = TimeRange(window.start, window.at, ingested=ingested, replayed=replayed)
        result = engine.query(rule.query, now=window.at, window=clip)
        left = leave(rule, window, result) if leave and result.table.num_rows else Left(result)
        rows = left.result.rows()
    except NotAllowedError as error:
        return Run(window, WindowState.SKIPPED, error.message, seen=seen, is_permanent=True)
    except QueryError as error:
        if missing := absent(rule, error, is_there(engine, window.at)):
            return Run(window, WindowState.SKIPPED, reason_of(missing), seen=seen, is_permanent=True)
        permanent = error.kind in ("syntax", "binding", "unsupported")
        reason = error.located(rule.query, first_line=rule.query_line)
        if error.hint:
            reason += f"; {error.hint}"
        costly = error.kind == LimitError.kind
        return Run(window, WindowState.FAILED, reason, seen=seen, is_permanent=permanent, is_costly=costly)
    except StateError:
        raise  # without the state database no window can be recorded
    except Exception as error:
        # One rule's window is a border: a fault of ours in one query must not end the others'.
        reason = str(error) if isinstance(error, TrailhawkError) else f"{type(error).__name__}: {error}"
        return Run(window, WindowState.FAILED, reason, seen=seen)
    found = alerts(rule, window, rows)
    return Run(window, WindowState.DONE, rows=len(rows), alerts=found, seen=seen, taken=left.taken)
