"""Events in a wanted order: sequence_detect, funnel_sequence, funnel_sequence_completion."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from trailhawk.errors import BindingError, LimitError
from trailhawk.kql.literals import timespan_ticks
from trailhawk.kql.names import Names
from trailhawk.kql.plan import Expr, Node
from trailhawk.kql.plugins.registry import Use, plugin
from trailhawk.kql.plugins.shared import (
    Arguments,
    Number,
    Row,
    Value,
    Windows,
    as_number,
    by_dimensions,
    over_values,
    timeline,
    window_size,
)
from trailhawk.kql.types import KqlType

_T = KqlType
MAX_SEQUENCES = 1_000_000
MAX_SAMPLES = 128


@plugin("sequence_detect")
def sequence_detect(use: Use) -> Node:
    """Events that follow each other as predicates ask, within the same dimensions.

    `sequence_detect(timeline, max_step, max_span, predicate1, ... [, dimensions])`: every choice of one event
    for each predicate, in order of time, no step and no whole longer than allowed.
    """
    arguments = Arguments(use)
    at = timeline(arguments)
    step, span = arguments.number("MaxSequenceStepWindow"), arguments.number("MaxSequenceSpan")
    given = [arguments.as_value(arg) for arg in arguments.rest]
    count = next((i for i, value in enumerate(given) if value.type is not _T.BOOL), len(given))
    predicates, dimensions = given[:count], given[count:]
    if not predicates:
        raise BindingError("sequence_detect() needs a predicate", use.call.span)
    arguments.rest = arguments.rest[count:]
    arguments.dimensions()

    def rows(found: list[Row]) -> Iterator[Row]:
        total = 0
        for key, group in by_dimensions(found, len(dimensions)).items():
            for times in _sequences(group, len(predicates), step, span):
                total += 1
                if total > MAX_SEQUENCES:
                    raise LimitError(
                        f"sequence_detect() finds more than {MAX_SEQUENCES} sequences", use.call.span
                    )
                yield (*key, *times, times[-1] - times[0])

    names = Names(value.name for value in dimensions)
    columns = [
        *((value.name, value.type) for value in dimensions),
        *((names.unique(f"{value.name}_{at.name}"), at.type) for value in predicates),
        ("Duration", _T.TIMESPAN if at.type is _T.DATETIME else at.type),
    ]
    values = [at.value, *(value.value for value in (*predicates, *dimensions))]
    return over_values(use, values, columns, rows)


def _sequences(rows: list[Row], count: int, step: Number, span: Number) -> Iterator[tuple[Number, ...]]:
    """The times of each sequence, in order; rows are a time and whether each predicate holds."""
    times: list[list[Number]] = [
        sorted({place for row in rows if row[1 + i] is True and (place := as_number(row[0])) is not None})
        for i in range(count)
    ]
    stack: list[tuple[Number, ...]] = [(first,) for first in reversed(times[0])]
    while stack:
        chain = stack.pop()
        if len(chain) == count:
            yield chain
            continue
        latest = min(chain[-1] + step, chain[0] + span)
        stack += [(*chain, later) for later in reversed(times[len(chain)]) if chain[-1] < later <= latest]


def _states(use: Use, arguments: Arguments, name: str) -> list[object]:
    arg = arguments.need(name)
    found = arguments.as_constant(arg).value
    if not isinstance(found, list) or not found:
        raise BindingError(f"{use.name}() takes '{name}' as an array", arg.span)
    return found


def _by_id(rows: list[Row]) -> dict[object, list[tuple[Number, object]]]:
    """The times and states of each id, in order of time."""
    found: dict[object, list[tuple[Number, object]]] = {}
    for id_, at, state in rows:
        if (place := as_number(at)) is not None:
            found.setdefault(id_, []).append((place, state))
    for events in found.values():
        events.sort(key=lambda event: event[0])
    return found


@plugin("funnel_sequence")
def funnel_sequence(use: Use) -> Node:
    """Ids that took a sequence of states, by the state before and the state after it.

    `funnel_sequence(id, timeline, start, end, max_step, bin, state, sequence)`. This is Kusto's first table;
    the other two are its sums by `prev` and by `next`.
    """
    arguments = Arguments(use)
    id_, at = arguments.value("IdColumn"), timeline(arguments)
    start, end = arguments.number("Start"), arguments.number("End")
    step = arguments.number("MaxSequenceStepWindow")
    bins = Windows(start, window_size(arguments, "Step"))
    state = arguments.value("StateColumn")
    wanted = _states(use, arguments, "Sequence")
    arguments.end()

    def rows(found: list[Row]) -> Iterator[Row]:
        ids: dict[tuple[Number, str, str], dict[object, None]] = {}
        for who, events in _by_id(found).items():
            inside = [event for event in events if start <= event[0] <= end]
            for first, before, after in _taken(inside, wanted, step):
                ids.setdefault((bins.of(first), before, after), {})[who] = None
        for key, who_all in sorted(ids.items(), key=lambda item: (item[0][0], -len(item[1]), item[0])):
            yield (*key, len(who_all), list(who_all)[:MAX_SAMPLES])

    columns = [
        (at.name, at.type),
        ("prev", _T.STRING),
        ("next", _T.STRING),
        ("dcount", _T.LONG),
        ("samples", _T.DYNAMIC),
    ]
    return over_values(use, [id_.value, at.value, _as_text(use, state)], columns, rows)


def _as_text(use: Use, value: Value) -> Expr:
    return use.binder.scalars.convert(value.value, _T.STRING, value.span)


def _taken(
    events: list[tuple[Number, object]], wanted: list[object], step: Number
) -> Iterator[tuple[Number, str, str]]:
    """When each run of the wanted states begins, and the states next to it; no step longer than allowed."""
    length = len(wanted)
    for i in range(len(events) - length + 1):
        run = events[i : i + length]
        if [state for _, state in run] != [str(state) for state in wanted]:
            continue
        if any(b[0] - a[0] > step for a, b in itertools.pairwise(run)):
            continue
        before = events[i - 1] if i and run[0][0] - events[i - 1][0] <= step else None
        place = i + length
        after = events[place] if place < len(events) and events[place][0] - run[-1][0] <= step else None
        yield run[0][0], str(before[1]) if before else "", str(after[1]) if after else ""


@plugin("funnel_sequence_completion")
def funnel_sequence_completion(use: Use) -> Node:
    """Ids that came as far as each state of a sequence, within each of several periods from its first state.

    `funnel_sequence_completion(id, timeline, start, end, bin, state, sequence, periods)`
    """
    arguments = Arguments(use)
    id_, at = arguments.value("IdColumn"), timeline(arguments)
    start, end = arguments.number("Start"), arguments.number("End")
    bins = Windows(start, window_size(arguments, "BinSize"))
    state = arguments.value("StateColumn")
    wanted = [str(item) for item in _states(use, arguments, "Sequence")]
    given = _states(use, arguments, "MaxSequencePeriods")
    arguments.end()
    periods: list[Number] = []
    for item in given:
        ticks = timespan_ticks(item) if isinstance(item, str) else as_number(item)
        if ticks is None:
            raise BindingError(f"{use.name}() takes the periods as timespans or numbers", use.call.span)
        periods.append(ticks)

    def rows(found: list[Row]) -> Iterator[Row]:
        reached: dict[tuple[Number, int, int], set[object]] = {}
        for who, events in _by_id(found).items():
            inside = [event for event in events if start <= event[0] <= end]
            for i, (first, here) in enumerate(inside):
                if here != wanted[0]:
                    continue
                times = _progress(inside[i:], wanted)
                for place, period in enumerate(periods):
                    for level, time in enumerate(times):
                        if time - first <= period:
                            reached.setdefault((bins.of(first), place, level), set()).add(who)
        for begin in sorted({key[0] for key in reached}):
            for place, period in enumerate(periods):
                for level, name in enumerate(wanted):
                    yield (begin, name, period, len(reached.get((begin, place, level), ())))

    columns = [
        (at.name, at.type),
        (state.name, _T.STRING),
        ("Period", _T.TIMESPAN if at.type is _T.DATETIME else at.type),
        ("dcount", _T.LONG),
    ]
    return over_values(use, [id_.value, at.value, _as_text(use, state)], columns, rows)


def _progress(events: list[tuple[Number, object]], wanted: list[str]) -> list[Number]:
    """When each state was reached, as early as can be."""
    times: list[Number] = []
    for at, state in events:
        if len(times) < len(wanted) and state == wanted[len(times)]:
            times.append(at)
    return times
