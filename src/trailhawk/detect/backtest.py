"""What a rule would have raised over the stored history: alerts, their rows, the cost, how right it was.

The windows are those of `detect`, run by the same code with a state database of their own: nothing is raised.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trailhawk.detect.alert import EVENT_IDS, Alert, alerts
from trailhawk.detect.exceptions import Exceptions, RuleException
from trailhawk.detect.history import IsQuiet, Progress, Reads, detect
from trailhawk.detect.rule import Rule
from trailhawk.detect.run import Left
from trailhawk.detect.schedule import Window
from trailhawk.detect.store import AlertStore, open_state, sqlite_url
from trailhawk.engine.result import Result, TimeRange
from trailhawk.kql.schema import Table

if TYPE_CHECKING:
    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.engine.reading import Files, Tables
    from trailhawk.kql.plan import Need
    from trailhawk.lake.table import DataFile, Found

TRUE_POSITIVE: Final = "TruePositive"
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Cost:
    """What the windows took that had to be run. Rows and bytes are those of the row groups that were read,
    less what the index over terms left out; bytes as they lie in the lake. `most_` are of one window."""

    windows: int = 0
    seconds: float = 0.0
    rows: int = 0
    bytes: int = 0
    most_seconds: float = 0.0
    most_rows: int = 0
    most_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Effect:
    """What an exception took away: result rows, in how many windows, and by how much fewer the alerts are."""

    exception: RuleException
    rows: int
    windows: int
    alerts: int
    alert_ids: tuple[str, ...] = ()
    """The alerts that are not raised for it; those that only changed are not among them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A result row of a window that raised an alert; `at` is T."""

    at: datetime
    row: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Stored alerts of the rule in incidents of one classification; `raised` of them are raised here too."""

    classification: str
    alerts: int
    raised: int


@dataclass(frozen=True)
class Backtest:
    """A rule over the windows whose news lies in [start, end). `rows` are those behind the alerts."""

    rule: Rule
    start: datetime | None
    end: datetime | None
    windows: int
    learning: int
    suppressed: int
    failed: int
    error: str
    alerts: tuple[Alert, ...]
    rows: int
    sample: tuple[Sample, ...]
    cost: Cost
    effects: tuple[Effect, ...]
    verdicts: tuple[Verdict, ...] = ()

    @property
    def days(self) -> tuple[tuple[date, int], ...]:
        """Alerts of each day, days without any too, by the end of the window."""
        if self.start is None or self.end is None:
            return ()
        counts = Counter(alert.at.date() for alert in self.alerts)
        first, last = self.start.date(), max([self.end.date(), *counts])
        return tuple((day, counts[day]) for day in _days(first, last))

    @property
    def precision(self) -> float | None:
        """The share of true positives among the alerts raised here that somebody judged; None without any."""
        judged = sum(each.raised for each in self.verdicts)
        right = sum(each.raised for each in self.verdicts if each.classification == TRUE_POSITIVE)
        return right / judged if judged else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How another version of a rule differs: alerts it raises that the first did not, and the other way."""

    gained: tuple[Alert, ...]
    lost: tuple[Alert, ...]
    both: int


def backtest(
    rule: Rule,
    engine: DuckDBEngine,
    *,
    tables: Sequence[str],
    start: datetime,
    end: datetime,
    now: datetime,
    folder: Path,
    exceptions: Exceptions | None = None,
    judged: Sequence[tuple[Alert, str]] = (),
    reads: Reads | None = None,
    sample: int = 10,
    workers: int = 1,
    progress: Progress | None = None,
) -> Backtest:
    """Run the rule's windows over [start, end) of the stored history.

    `tables` are those of the lake that hold rows, `judged` stored alerts of the rule with the classification
    of their incident, `folder` an empty one for the state. `sample` rows are kept. With exceptions, what each
    takes away is told; nothing is counted for it.
    """
    collected = _Collected(exceptions, sample)
    measured = _Measured(engine, frozenset(tables))

    def quiet(each: Rule, since: datetime, until: datetime) -> IsQuiet:
        history = TimeRange(since, until, replayed=True)
        return engine.activity(
            each.query, period=each.period, history=history, frequency=each.frequency
        ).is_quiet

    state = open_state(sqlite_url(folder / "backtest.db"))
    try:
        summary = detect(
            measured,
            AlertStore(state),
            [rule],
            tables=tables,
            now=now,
            start=start,
            end=end,
            workers=workers,
            quiet=quiet,
            reads=reads,
            leave=collected,
            progress=progress,
        )
    finally:
        state.dispose()
    (done,) = summary.rules
    fired = {alert.at for alert in summary.alerts}
    return Backtest(
        rule=rule,
        start=summary.start,
        end=summary.end,
        windows=done.run + done.learning + done.suppressed + done.failed + done.skipped,
        learning=done.learning,
        suppressed=done.suppressed,
        failed=done.failed,
        error=done.error or done.reason,
        alerts=summary.alerts,
        rows=sum(rows for at, rows in collected.rows.items() if at in fired),
        sample=collected.sample(fired),
        cost=measured.cost(),
        effects=collected.effects(),
        verdicts=_verdicts(judged, summary.alerts, summary.start, summary.end),
    )


def compare(first: Backtest, second: Backtest) -> Comparison:
    """What the second raised and the first did not, and the other way round."""
    kept = same(first.alerts, second.alerts)
    known = same(second.alerts, first.alerts)
    return Comparison(
        gained=tuple(alert for alert in second.alerts if alert.id not in known),
        lost=tuple(alert for alert in first.alerts if alert.id not in kept),
        both=len(known),
    )


@dataclass(frozen=True, slots=True)
class Preview:
    """What an exception would have done to a rule over [start, end), before it is made.

    `rows` in `windows` would have been taken; alerts `before` and `after`; of those gone, how many there are
    in incidents of each classification.
    """

    rule: Rule
    start: datetime | None
    end: datetime | None
    rows: int
    windows: int
    before: int
    after: int
    gone: tuple[tuple[str, int], ...] = ()


def preview(candidate: RuleException, tried: Backtest, judged: Iterable[tuple[Alert, str]] = ()) -> Preview:
    """What a candidate did in a backtest that applied it beside the exceptions there are."""
    effect = next((each for each in tried.effects if each.exception.id == candidate.id), None)
    after = len(tried.alerts)
    if effect is None:
        return Preview(tried.rule, tried.start, tried.end, 0, 0, after, after)
    ids = set(effect.alert_ids)
    gone = Counter(name for alert, name in judged if alert.id in ids)
    return Preview(
        tried.rule,
        tried.start,
        tried.end,
        effect.rows,
        effect.windows,
        after + effect.alerts,
        after,
        tuple(sorted(gone.items())),
    )


def same(alerts: Iterable[Alert], others: Iterable[Alert]) -> set[str]:
    """The ids of those alerts that tell of what one of the others tells of.

    That is: the same alert, or one that rests on an event of it, or where either names no events, one of the
    same run about the same entities.
    """
    others = tuple(others)
    ids = {alert.id for alert in others}
    events = {event for alert in others for event in alert.detail(EVENT_IDS)}
    whole = {_about(alert) for alert in others}
    nameless = {_about(alert) for alert in others if not alert.detail(EVENT_IDS)}
    found = set()
    for alert in alerts:
        own = alert.detail(EVENT_IDS)
        about = _about(alert)
        if alert.id in ids or events.intersection(own) or about in (nameless if own else whole):
            found.add(alert.id)
    return found


def _about(alert: Alert) -> tuple[datetime, frozenset[str]]:
    return alert.at, frozenset(f"{each.type}:{each.value}" for each in alert.entities)


def _verdicts(
    judged: Sequence[tuple[Alert, str]],
    raised: Sequence[Alert],
    start: datetime | None,
    end: datetime | None,
) -> tuple[Verdict, ...]:
    if start is None or end is None:
        return ()
    inside = [(alert, name) for alert, name in judged if start <= alert.started_at < end]
    still = same([alert for alert, _ in inside], raised)
    counts = Counter(name for _, name in inside)
    again = Counter(name for alert, name in inside if alert.id in still)
    return tuple(Verdict(name, count, again[name]) for name, count in sorted(counts.items()))


def _days(first: date, last: date) -> Iterable[date]:
    while first <= last:
        yield first
        first += _DAY


# --- what is watched meanwhile -----------------------------------------------------------------------------


@dataclass
class _Taken:
    rows: int = 0
    windows: int = 0
    alerts: int = 0
    ids: list[str] = field(default_factory=list)


class _Collected:
    """Applies the exceptions, and keeps what they took and some rows of what they left."""

    def __init__(self, exceptions: Exceptions | None, most: int) -> None:
        self._exceptions = exceptions
        self._most = most
        self._lock = threading.Lock()
        self._samples: dict[datetime, list[dict[str, object]]] = {}
        self._taken: dict[int, _Taken] = defaultdict(_Taken)
        self.rows: dict[datetime, int] = {}

    def __call__(self, rule: Rule, window: Window, result: Result) -> Left:
        left = self._exceptions(rule, window, result) if self._exceptions else Left(result)
        rows = left.result.rows()
        with self._lock:
            self.rows[window.at] = len(rows)
            self._samples[window.at] = rows[: self._most]
            if left.taken:
                self._count(rule, window, result.rows(), left)
        return left

    def _count(self, rule: Rule, window: Window, rows: Sequence[Mapping[str, object]], left: Left) -> None:
        """What each exception took, one after the other as they were applied."""
        here = set(range(len(rows)))
        before = alerts(rule, window, rows)
        for taken in left.taken:
            if not taken.places:
                continue
            here -= set(taken.places)
            after = alerts(rule, window, [rows[place] for place in sorted(here)])
            found = self._taken[taken.exception_id]
            found.rows += len(taken.places)
            found.windows += 1
            found.alerts += len(before) - len(after)
            found.ids += sorted({alert.id for alert in before} - {alert.id for alert in after})
            before = after

    def sample(self, fired: Iterable[datetime]) -> tuple[Sample, ...]:
        """The newest rows of windows that raised an alert, the most recent first."""
        found = [Sample(at, row) for at in sorted(fired, reverse=True) for row in self._samples.get(at, ())]
        return tuple(found[: self._most])

    def effects(self) -> tuple[Effect, ...]:
        known = self._exceptions.all if self._exceptions else ()
        return tuple(
            Effect(each, taken.rows, taken.windows, taken.alerts, tuple(taken.ids))
            for each in known
            if (taken := self._taken.get(each.id)) is not None
        )


class _Measured:
    """An engine that keeps count of what each window's query took."""

    def __init__(self, engine: DuckDBEngine, tables: frozenset[str]) -> None:
        self._own = threading.local()
        self._engine = engine.over(_CountedTables(engine.tables, tables, self._own))
        self._lock = threading.Lock()
        self._found: list[tuple[float, int, int]] = []

    def query(
        self,
        text: str,
        *,
        now: datetime,
        window: TimeRange | None = None,
        parameters: Mapping[str, object] | None = None,
        picked: TimeRange | None = None,
    ) -> Result:
        if window is None or window.end is None:  # no window of a rule: what the tables hold is looked up
            return self._engine.query(text, now=now, window=window, parameters=parameters, picked=picked)
        read: list[_CountedFiles] = []
        self._own.read = read
        started = time.perf_counter()
        try:
            return self._engine.query(text, now=now, window=window, parameters=parameters, picked=picked)
        finally:
            self._own.read = None
            seconds = time.perf_counter() - started
            with self._lock:
                rows, size = sum(each.rows for each in read), sum(each.bytes for each in read)
                self._found.append((seconds, rows, size))

    def cost(self) -> Cost:
        if not self._found:
            return Cost()
        seconds, rows, sizes = zip(*self._found, strict=True)
        return Cost(
            len(self._found), sum(seconds), sum(rows), sum(sizes), max(seconds), max(rows), max(sizes)
        )


class _CountedTables:
    """The tables of an engine, the logs among them with files that keep count."""

    def __init__(self, tables: Tables, counted: frozenset[str], own: threading.local) -> None:
        self._tables = tables
        self._counted = counted
        self._own = own

    def table(self, name: str) -> Table | None:
        return self._tables.table(name)

    def table_names(self) -> tuple[str, ...]:
        return self._tables.table_names()

    def snapshot(self, name: str) -> Files:
        read: list[_CountedFiles] | None = getattr(self._own, "read", None)
        if read is None or name not in self._counted:
            return self._tables.snapshot(name)
        read.append(_CountedFiles(self._tables.snapshot(name)))
        return read[-1]


class _CountedFiles:
    """The files of a table as one statement asks for them."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._whole = (0, 0)
        self._parts: list[tuple[int, int]] = []

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self._parts) if self._parts else self._whole[0]

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self._parts) if self._parts else self._whole[1]

    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[DataFile, ...]:
        found = self._files.files(since, until)
        rows, size = self._whole
        self._whole = (rows + sum(file.rows for file in found), size + sum(file.size for file in found))
        return found

    def look(self, files: Sequence[DataFile], need: Need) -> Found:
        found = self._files.look(files, need)
        rows = sum(int(part.file.rows * part.share) for part in found.parts)
        self._parts.append((rows, sum(int(part.file.size * part.share) for part in found.parts)))
        return found
