"""Who was active when: counts of ids over windows of a timeline.

Each plugin starts with the id, the timeline and the bounds of the analysis (both inclusive), and ends with
dimensions that slice it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from trailhawk.errors import LimitError
from trailhawk.kql import syntax
from trailhawk.kql.plan import Node
from trailhawk.kql.plugins.registry import Use, plugin
from trailhawk.kql.plugins.shared import (
    Arguments,
    Key,
    Number,
    Row,
    Value,
    Windows,
    as_number,
    binned,
    by_dimensions,
    computed,
    over_values,
    projected,
    timeline,
    window_size,
)
from trailhawk.kql.scope import Scope
from trailhawk.kql.types import KqlType

_T = KqlType
MAX_WINDOWS = 1_000_000

Event = tuple[object, Number]
"""An id and when it was seen."""


@dataclass(frozen=True)
class _Subject:
    """What all of these are asked about."""

    use: Use
    arguments: Arguments
    id: Value
    timeline: Value

    @classmethod
    def of(cls, use: Use, *named: str) -> _Subject:
        arguments = Arguments(use, *named)
        return cls(use, arguments, arguments.value("IdColumn"), timeline(arguments))

    def bounds(self) -> tuple[Number, Number]:
        return self.arguments.number("Start"), self.arguments.number("End")

    def windows(self, start: Number, last: Number, size: Number | str) -> Windows:
        if not isinstance(size, str) and (last - start) / size > MAX_WINDOWS:
            raise LimitError(f"{self.use.name}() over more than {MAX_WINDOWS} windows", self.use.call.span)
        return Windows(start, size)

    def table(
        self,
        first: Sequence[tuple[str, KqlType]],
        last: Sequence[tuple[str, KqlType]],
        rows: Callable[[list[Event]], Iterable[tuple[Row, Row]]],
    ) -> Node:
        """Rows of each group's events (in order of time): what comes before the dimensions, and after."""
        dimensions = self.arguments.dimensions()

        def over(found: list[Row]) -> Iterator[Row]:
            for key, group in by_dimensions(found, len(dimensions)).items():
                for before, after in rows(_events(group)):
                    yield (*before, *key, *after)

        columns = [*first, *((dimension.name, dimension.type) for dimension in dimensions), *last]
        values = [self.id.value, self.timeline.value, *(dimension.value for dimension in dimensions)]
        return over_values(self.use, values, columns, over)

    @property
    def time(self) -> tuple[str, KqlType]:
        return self.timeline.name, self.timeline.type


def _events(rows: Iterable[Row]) -> list[Event]:
    found = [(id_, place) for id_, at in rows if (place := as_number(at)) is not None]
    return sorted(found, key=lambda event: event[1])


def _ids_by_window(events: Iterable[Event], windows: Windows) -> dict[Number, set[object]]:
    found: dict[Number, set[object]] = {}
    for id_, at in events:
        found.setdefault(windows.of(at), set()).add(id_)
    return found


def _within(events: Iterable[Event], start: Number, end: Number) -> list[Event]:
    return [event for event in events if start <= event[1] <= end]


@plugin("active_users_count")
def active_users_count(use: Use) -> Node:
    """Ids seen in at least so many periods of the lookback window before one of their appearances, by bin.

    `active_users_count(id, timeline, start, end, lookback, period, active_periods, bin [, dimensions])`
    """
    subject = _Subject.of(use)
    start, end = subject.bounds()
    lookback = subject.arguments.number("LookbackWindow")
    period = Windows(start, window_size(subject.arguments, "Period"))
    least = subject.arguments.whole("ActivePeriods")
    bins = subject.windows(start, end, window_size(subject.arguments, "Step"))

    def rows(events: list[Event]) -> Iterator[tuple[Row, Row]]:
        seen: dict[object, list[Number]] = {}
        active: dict[Number, set[object]] = {}
        for id_, at in events:
            before = seen.setdefault(id_, [])
            before.append(at)
            while before[0] <= at - lookback:
                before.pop(0)
            if start <= at <= end and len({period.of(place) for place in before}) >= least:
                active.setdefault(bins.of(at), set()).add(id_)
        for begin, ids in sorted(active.items()):
            yield (begin,), (len(ids),)

    return subject.table([subject.time], [("dcount", _T.LONG)], rows)


@plugin("activity_counts_metrics")
def activity_counts_metrics(use: Use) -> Node:
    """Rows, ids, ids never seen before, and all ids so far, of each window.

    `activity_counts_metrics(id, timeline, start, end, window [, dimensions])`
    """
    subject = _Subject.of(use)
    start, end = subject.bounds()
    windows = subject.windows(start, end, window_size(subject.arguments, "Step"))

    def rows(events: list[Event]) -> Iterator[tuple[Row, Row]]:
        counts: dict[Number, int] = {}
        inside = _within(events, start, end)
        for _, at in inside:
            begin = windows.of(at)
            counts[begin] = counts.get(begin, 0) + 1
        known: set[object] = set()
        for begin, ids in _ids_by_window(inside, windows).items():
            new = ids - known
            known |= new
            yield (begin,), (counts[begin], len(ids), len(new), len(known))

    names = ("count", "dcount", "new_dcount", "aggregated_dcount")
    return subject.table([subject.time], [(name, _T.LONG) for name in names], rows)


def _optional_bounds(subject: _Subject, sizes: int) -> tuple[Number, Number] | None:
    """Start and End, where two more constants stand before the columns than there are window sizes."""
    constants = 0
    for arg in subject.arguments.rest:
        if isinstance(arg, syntax.Name) and subject.use.scope.column(arg.text) is not None:
            break
        constants += 1
    return subject.bounds() if constants >= sizes + 2 else None


def _bounds_of(
    events: Sequence[Event], bounds: tuple[Number, Number] | None, windows: Windows
) -> tuple[Number, Number]:
    """The given bounds, or those of the events."""
    if bounds is not None or not events:
        return bounds or (0, 0)
    return windows.of(events[0][1]), events[-1][1]


@plugin("activity_engagement")
def activity_engagement(use: Use) -> Node:
    """Ids of each inner window, of the outer window that ends with it, and their ratio.

    `activity_engagement(id, timeline [, start, end], inner_window, outer_window [, dimensions])`
    """
    subject = _Subject.of(use)
    bounds = _optional_bounds(subject, 2)
    inner = window_size(subject.arguments, "InnerActivityWindow")
    outer = subject.arguments.number("OuterActivityWindow")

    def rows(events: list[Event]) -> Iterator[tuple[Row, Row]]:
        start, end = _bounds_of(events, bounds, binned(subject.timeline.type, inner))
        windows = subject.windows(start, end, inner)
        by_window = _ids_by_window(_within(events, start, end), windows)
        for begin, ids in by_window.items():
            close = windows.next(begin)
            around: set[object] = set()
            for other, found in by_window.items():
                if close - outer <= other <= begin:
                    around |= found
            yield (begin,), (len(ids), len(around), len(ids) / len(around))

    last = [
        ("dcount_activities_inner", _T.LONG),
        ("dcount_activities_outer", _T.LONG),
        ("activity_ratio", _T.REAL),
    ]
    return subject.table([subject.time], last, rows)


@plugin("activity_metrics")
def activity_metrics(use: Use) -> Node:
    """Ids of each window, those not in the window before, and how many of that one came back or did not.

    `activity_metrics(id, timeline [, start, end], window [, dimensions])`
    """
    subject = _Subject.of(use)
    bounds = _optional_bounds(subject, 1)
    size = window_size(subject.arguments, "Window")

    def rows(events: list[Event]) -> Iterator[tuple[Row, Row]]:
        start, end = _bounds_of(events, bounds, binned(subject.timeline.type, size))
        windows = subject.windows(start, end, size)
        by_window = _ids_by_window(_within(events, start, end), windows)
        before: set[object] = set()
        expected: Number | None = None
        for begin, ids in by_window.items():
            if begin != expected:
                before = set()  # the window before was empty
            kept = len(ids & before) / len(before) if before else float("nan")
            yield (begin,), (len(ids), len(ids - before), kept, 1 - kept)
            before, expected = ids, windows.next(begin)

    last = [
        ("dcount_values", _T.LONG),
        ("dcount_newvalues", _T.LONG),
        ("retention_rate", _T.REAL),
        ("churn_rate", _T.REAL),
    ]
    return subject.table([subject.time], last, rows)


@plugin("new_activity_metrics")
def new_activity_metrics(use: Use) -> Node:
    """Of the ids first seen in a window, how many came back in each later one.

    `new_activity_metrics(id, timeline, start, end, window [, cohort] [, dimensions] [, lookback])`: a cohort
    leaves only the window that begins there; ids of the lookback table are never new.
    """
    subject = _Subject.of(use, "lookback", "Lookback")
    start, end = subject.bounds()
    size = window_size(subject.arguments, "Window")
    cohort = _cohort(subject)
    lookback = _lookback(subject)
    windows = subject.windows(start, end, size)
    dimensions = subject.arguments.dimensions()

    def rows(found: list[Row], old: list[Row]) -> Iterator[Row]:
        known = {row[0] for row in old}
        for key, group in by_dimensions(found, len(dimensions)).items():
            yield from _cohorts(_within(_events(group), start, end), known, key)

    def _cohorts(events: list[Event], known: set[object], key: Key) -> Iterator[Row]:
        by_window = _ids_by_window(events, windows)
        seen = set(known)
        for begin, ids in by_window.items():
            new = ids - seen
            seen |= ids
            if not new or (cohort is not None and begin != windows.of(cohort)):
                continue
            for later in windows.between(begin, end):
                there = by_window.get(later, set())
                fresh = new if later == begin else there - seen
                back = len(new & there)
                gone = len(new) - back
                rates = (back / len(new), gone / len(new))
                yield (begin, later, *key, len(fresh), back, gone, *rates)

    columns = [
        (f"from_{subject.timeline.name}", subject.timeline.type),
        (f"to_{subject.timeline.name}", subject.timeline.type),
        *((dimension.name, dimension.type) for dimension in dimensions),
        ("dcount_new_values", _T.LONG),
        ("dcount_retained_values", _T.LONG),
        ("dcount_churn_values", _T.LONG),
        ("retention_rate", _T.REAL),
        ("churn_rate", _T.REAL),
    ]
    given = [subject.id, subject.timeline, *dimensions]
    inner = projected(use, use.node, [("", item.value) for item in given])
    if lookback is None:
        return computed(use, [inner], columns, lambda found: rows(found, []))
    id_ = next((column for column in lookback.columns if column.name == subject.id.name), lookback.columns[0])
    old = use.binder.scalars.bind(syntax.Name(use.call.span, id_.name), Scope(lookback.columns, use.env))
    return computed(use, [inner, projected(use, lookback, [("", old)])], columns, rows)


def _cohort(subject: _Subject) -> Number | None:
    """The next argument, where it is a constant and no column."""
    arguments = subject.arguments
    if not arguments.rest:
        return None
    following = arguments.rest[0]
    names_column = isinstance(following, syntax.Name) and subject.use.scope.column(following.text) is not None
    if names_column or subject.use.binder.is_table(following, subject.use.env):
        return None
    if isinstance(following, syntax.Literal) and following.value == "~":
        arguments.rest.pop(0)
        return None
    return arguments.number("Cohort")


def _lookback(subject: _Subject) -> Node | None:
    """The last argument, where it is a table."""
    arguments = subject.arguments
    given = arguments.named.pop("lookback", None) or arguments.named.pop("Lookback", None)
    if given is None and arguments.rest and subject.use.binder.is_table(arguments.rest[-1], subject.use.env):
        given = arguments.rest.pop()
    return None if given is None else subject.use.binder.table(given, subject.use.env)


@plugin("session_count")
def session_count(use: Use) -> Node:
    """Sessions of each window: an id not seen for the lookback window begins a new one.

    `session_count(id, timeline, start, end, bin, lookback [, dimensions])`
    """
    subject = _Subject.of(use)
    start, end = subject.bounds()
    windows = subject.windows(start, end, window_size(subject.arguments, "Bin"))
    lookback = subject.arguments.number("LookBackWindow")

    def rows(events: list[Event]) -> Iterator[tuple[Row, Row]]:
        last: dict[object, tuple[Number, int]] = {}
        sessions: dict[Number, set[tuple[object, int]]] = {}
        for id_, at in _within(events, start, end):
            before, number = last.get(id_, (at, 0))
            if at - before > lookback:
                number += 1
            last[id_] = (at, number)
            sessions.setdefault(windows.of(at), set()).add((id_, number))
        for begin, found in sessions.items():
            yield (begin,), (len(found),)

    return subject.table([subject.time], [("count_sessions", _T.LONG)], rows)


@plugin("sliding_window_counts")
def sliding_window_counts(use: Use) -> Node:
    """Rows and ids of the lookback window that ends with each bin.

    `sliding_window_counts(id, timeline, start, end, lookback, bin [, dimensions])`
    """
    subject = _Subject.of(use)
    start, end = subject.bounds()
    lookback = subject.arguments.number("LookbackWindow")
    bins = subject.windows(start, end, window_size(subject.arguments, "Bin"))

    def rows(events: list[Event]) -> Iterator[tuple[Row, Row]]:
        by_bin: dict[Number, list[object]] = {}
        for id_, at in events:
            if at <= end:
                by_bin.setdefault(bins.of(at), []).append(id_)
        for begin in bins.between(start, end):
            close = bins.next(begin)
            found = [
                id_ for other, ids in by_bin.items() if close - lookback <= other <= begin for id_ in ids
            ]
            if found:
                yield (begin,), (len(found), len(set(found)))

    return subject.table([subject.time], [("Count", _T.LONG), ("dcount", _T.LONG)], rows)
