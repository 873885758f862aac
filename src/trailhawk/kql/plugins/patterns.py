"""What rows have in common: autocluster, basket, diffpatterns.

A pattern fixes the values of some columns and leaves the others open. Rows that are alike are counted by the
engine first; what comes here is each different row with its weight. All three are deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trailhawk.errors import BindingError, LimitError
from trailhawk.kql.functions import AGGREGATES
from trailhawk.kql.operators.shared import refs
from trailhawk.kql.plan import Aggregate, AggregateCall, ColumnRef, Expr, Node, OutColumn
from trailhawk.kql.plugins.registry import Use, plugin
from trailhawk.kql.plugins.shared import Arguments, Row, as_number, column_argument, computed, kept, projected
from trailhawk.kql.types import KqlType

_T = KqlType
MAX_WORK = 1_000_000_000
"""Steps over rows that a search for patterns may take: some twenty seconds."""
Item = tuple[int, object]
"""A column's place, and its value."""


@dataclass(frozen=True)
class Pattern:
    """Fixed values, and the rows (by their places) that have them all."""

    items: tuple[Item, ...]
    rows: frozenset[int]


@dataclass(frozen=True)
class _Data:
    """Different rows and how much each weighs."""

    rows: list[Row]
    weights: list[float]

    def weight(self, places: frozenset[int]) -> float:
        return sum(self.weights[place] for place in places)


def _tallied(use: Use, weight: OutColumn | None, columns: Sequence[OutColumn], sides: Sequence[Expr]) -> Node:
    """Each different row with its weight as the last value; `sides` are grouped by as well."""
    values: list[Expr] = []
    for column, ref in zip(columns, refs(columns), strict=True):
        is_json = column.type is _T.DYNAMIC
        values.append(use.binder.scalars.convert(ref, _T.STRING, use.call.span) if is_json else ref)
    given = [*values, *sides, *(refs([weight]) if weight else ())]
    inner = projected(use, use.node, [("", value) for value in given])
    keys = inner.columns[: len(values) + len(sides)]
    total = refs(inner.columns[-1:]) if weight else ()
    function = AGGREGATES["sum" if weight else "count"]
    type_ = function.overload.result(tuple(value.type for value in total)) if weight else _T.LONG
    out = tuple(OutColumn(use.binder.new_id(), "", column.type) for column in keys)
    tally = OutColumn(use.binder.new_id(), "", type_)
    return Aggregate((*out, tally), inner, refs(keys), (AggregateCall(function, total, type_),))


def _data(rows: list[Row], width: int) -> _Data:
    ordered = sorted(rows, key=lambda row: (-_weight(row[-1]), repr(row)))
    return _Data([row[:width] for row in ordered], [_weight(row[-1]) for row in ordered])


def _weight(value: object) -> float:
    return as_number(value) or 0


def _weight_column(arguments: Arguments) -> OutColumn | None:
    if not arguments.rest:
        return None
    before = len(arguments.rest)
    found = arguments.take("WeightColumn")
    if found is None:
        return None
    arguments.rest.insert(0, found)
    assert len(arguments.rest) == before
    return column_argument(arguments, "WeightColumn")


def _wildcards(arguments: Arguments, columns: Sequence[OutColumn]) -> tuple[object, ...]:
    """What stands in an open column: null ('' in text), or the constant given for its type."""
    by_type: dict[KqlType, object] = {_T.STRING: ""}
    for arg in arguments.rest:
        found = arguments.as_constant(arg)
        if found.value != "~":
            by_type[found.type] = found.value
    arguments.rest = []
    return tuple(by_type.get(column.type) for column in columns)


def _share(arguments: Arguments, name: str, default: float, least: float) -> float:
    found = arguments.optional(name)
    if found is None:
        return default
    share = as_number(found.value)
    if share is None or not least <= share <= 1:
        raise BindingError(
            f"{arguments.use.name}() takes '{name}' from {least:g} to 1", arguments.use.call.span
        )
    return float(share)


def _count(arguments: Arguments, name: str, default: int) -> int:
    found = arguments.optional(name)
    if found is None:
        return default
    if not isinstance(found.value, int) or found.value < 1:
        raise BindingError(
            f"{arguments.use.name}() takes '{name}' as a whole number", arguments.use.call.span
        )
    return found.value


def _filled(pattern: Pattern, wildcards: tuple[object, ...]) -> Row:
    fixed = dict(pattern.items)
    return tuple(fixed.get(place, wildcard) for place, wildcard in enumerate(wildcards))


def _shown(columns: Sequence[OutColumn]) -> list[tuple[str, KqlType]]:
    return [(column.name, column.type) for column in columns]


def _whole(weight: float) -> int:
    return round(weight)


def _closed(data: _Data, enough: Callable[[frozenset[int]], bool], most: int) -> list[Pattern]:
    """Patterns that are frequent enough and cannot fix another value without losing rows.

    As in Apriori a pattern grows by one value at a time; the values that all its rows share besides come with
    it, and do not count toward the `most` that may be fixed.
    """
    by_item: dict[Item, set[int]] = {}
    for place, row in enumerate(data.rows):
        for column, value in enumerate(row):
            if value is not None and value != "":
                by_item.setdefault((column, value), set()).add(place)
    singles = [
        Pattern((item,), rows)
        for item, found in sorted(by_item.items(), key=lambda pair: (pair[0][0], repr(pair[0][1])))
        if enough(rows := frozenset(found))
    ]
    work = 0
    closed: dict[frozenset[int], Pattern] = {}
    level: list[frozenset[int]] = [frozenset(range(len(data.rows)))]
    for _ in range(most):
        wider: list[frozenset[int]] = []
        for rows in level:
            known = {item[0] for item in closed[rows].items} if rows in closed else set()
            for single in singles:
                if single.items[0][0] in known:
                    continue
                narrowed = rows & single.rows
                work += min(len(rows), len(single.rows)) + len(narrowed)
                if narrowed in closed or not narrowed or not enough(narrowed):
                    continue
                work += len(narrowed)
                if work > MAX_WORK:
                    raise LimitError(
                        "too many patterns are frequent enough",
                        hint="raise the threshold, or project fewer columns",
                    )
                items = tuple(other.items[0] for other in singles if narrowed <= other.rows)
                closed[narrowed] = Pattern(items, narrowed)
                wider.append(narrowed)
        level = wider
    return list(closed.values())


@plugin("basket")
def basket(use: Use) -> Node:
    """Patterns that many rows have, the widest and most frequent first.

    `basket([threshold [, weight_column [, max_dimensions [, wildcards ...]]]])`: a pattern is frequent in
    this share of the rows (0.05), and fixes at most so many columns (5).
    """
    arguments = Arguments(use)
    threshold = _share(arguments, "Threshold", 0.05, 0.015)
    weight = _weight_column(arguments)
    most = _count(arguments, "MaxDimensions", 5)
    columns = [column for column in kept(use) if column != weight]
    wildcards = _wildcards(arguments, columns)

    def rows(found: list[Row]) -> Iterator[Row]:
        data = _data(found, len(columns))
        total = sum(data.weights)
        patterns = _closed(data, lambda places: data.weight(places) >= threshold * total > 0, most)
        ranked = sorted(patterns, key=lambda p: (-data.weight(p.rows) * len(p.items), repr(p.items)))
        for number, pattern in enumerate(ranked):
            count = data.weight(pattern.rows)
            yield (number, _whole(count), round(100 * count / total, 1), *_filled(pattern, wildcards))

    first = [("SegmentId", _T.LONG), ("Count", _T.LONG), ("Percent", _T.REAL)]
    return computed(use, [_tallied(use, weight, columns, ())], [*first, *_shown(columns)], rows)


@plugin("autocluster")
def autocluster(use: Use) -> Node:
    """A few patterns that together describe many of the rows, by Seed-Expand.

    `autocluster([size_weight [, weight_column [, num_seeds [, wildcards ...]]]])`: the most frequent rows are
    seeds; columns of a seed are opened while that raises coverage^size_weight * fixed^(1 - size_weight).
    """
    arguments = Arguments(use)
    size_weight = _share(arguments, "SizeWeight", 0.5, 0.0)
    weight = _weight_column(arguments)
    seeds = _count(arguments, "NumSeeds", 25)
    columns = [column for column in kept(use) if column != weight]
    wildcards = _wildcards(arguments, columns)

    def rows(found: list[Row]) -> Iterator[Row]:
        data = _data(found, len(columns))
        total = sum(data.weights)
        for number, pattern in enumerate(_clusters(data, len(columns), size_weight, seeds)):
            count = data.weight(pattern.rows)
            yield (number, _whole(count), round(100 * count / total, 1), *_filled(pattern, wildcards))

    first = [("SegmentId", _T.LONG), ("Count", _T.LONG), ("Percent", _T.REAL)]
    return computed(use, [_tallied(use, weight, columns, ())], [*first, *_shown(columns)], rows)


_WORTH = 0.3
"""A further cluster is shown if its score is at least this share of the best one's."""


def _clusters(data: _Data, width: int, size_weight: float, seeds: int) -> list[Pattern]:
    """The best patterns grown from seeds, each from rows that none before it covers."""
    total = sum(data.weights)
    if not width or total <= 0:
        return []

    def score(pattern: Pattern) -> float:
        coverage = data.weight(pattern.rows) / total
        return float(coverage**size_weight * (len(pattern.items) / width) ** (1 - size_weight))

    by_item: dict[Item, set[int]] = {}
    for place, row in enumerate(data.rows):
        for column, value in enumerate(row):
            by_item.setdefault((column, value), set()).add(place)

    def fixed(items: tuple[Item, ...]) -> Pattern:
        smallest = sorted((by_item[item] for item in items), key=len)
        return Pattern(items, frozenset(smallest[0].intersection(*smallest[1:])))

    grown: dict[Pattern, None] = {}
    for row in data.rows[:seeds]:
        best = fixed(tuple(enumerate(row)))
        while len(best.items) > 1:
            wider = [fixed((*best.items[:i], *best.items[i + 1 :])) for i in range(len(best.items))]
            found = max(wider, key=score)
            if score(found) <= score(best):
                break
            best = found
        grown[best] = None
    ranked = sorted(grown, key=lambda pattern: (-score(pattern), repr(pattern.items)))
    chosen: list[Pattern] = []
    covered: frozenset[int] = frozenset()
    for pattern in ranked:
        left = data.weight(pattern.rows - covered)
        if score(pattern) >= _WORTH * score(ranked[0]) and left > data.weight(pattern.rows) / 2:
            chosen.append(pattern)
            covered |= pattern.rows
    return chosen


@plugin("diffpatterns")
def diffpatterns(use: Use) -> Node:
    """Patterns that are more frequent in one of two sets of rows than in the other.

    `diffpatterns(split_column, value_a, value_b [, weight_column [, threshold [, max_dimensions
    [, wildcards ...]]]])`: shares differ by at least the threshold (0.05). Of patterns of which one widens
    the other, that with the largest difference is shown.
    """
    arguments = Arguments(use)
    split = column_argument(arguments, "SplitColumn")
    sides = [arguments.text(name) for name in ("SplitValueA", "SplitValueB")]
    weight = _weight_column(arguments)
    threshold = _share(arguments, "Threshold", 0.05, 0.015)
    columns = [column for column in kept(use) if column not in (weight, split)]
    most = _count(arguments, "MaxDimensions", len(columns) or 1)
    wildcards = _wildcards(arguments, columns)
    side = use.binder.scalars.convert(ColumnRef(split.type, split.id), _T.STRING, use.call.span)

    def rows(found: list[Row]) -> Iterator[Row]:
        data = _data([row for row in found if row[-2] in sides], len(columns) + 1)
        halves = [frozenset(i for i, row in enumerate(data.rows) if row[-1] == value) for value in sides]
        totals = [data.weight(half) for half in halves]
        if not all(totals):
            return
        plain = _Data([row[:-1] for row in data.rows], data.weights)

        def shares(places: frozenset[int]) -> tuple[float, float]:
            a, b = (data.weight(places & half) / total for half, total in zip(halves, totals, strict=True))
            return a, b

        # A pattern can only differ that much if it is that frequent on one of the sides.
        patterns = _closed(plain, lambda places: max(shares(places)) >= threshold, most)
        for number, pattern in enumerate(_different(patterns, shares, threshold)):
            counts = [_whole(data.weight(pattern.rows & half)) for half in halves]
            percents = [100 * count / total for count, total in zip(counts, totals, strict=True)]
            shown = (*percents, abs(percents[0] - percents[1]))
            yield (number, *counts, *(round(share, 2) for share in shown), *_filled(pattern, wildcards))

    names = [("SegmentId", _T.LONG), ("CountA", _T.LONG), ("CountB", _T.LONG)]
    names += [(name, _T.REAL) for name in ("PercentA", "PercentB", "PercentDiffAB")]
    return computed(use, [_tallied(use, weight, columns, (side,))], [*names, *_shown(columns)], rows)


def _different(
    patterns: list[Pattern], shares: Callable[[frozenset[int]], tuple[float, float]], threshold: float
) -> list[Pattern]:
    """The patterns with the largest differences, none of which widens or narrows one before it."""
    measured = []
    for pattern in patterns:
        a, b = shares(pattern.rows)
        if abs(a - b) >= threshold:
            measured.append((-abs(a - b), -len(pattern.items), repr(pattern.items), pattern))
    chosen: list[Pattern] = []
    for _, _, _, pattern in sorted(measured, key=lambda entry: entry[:3]):
        items = set(pattern.items)
        if not any(items <= set(other.items) or items >= set(other.items) for other in chosen):
            chosen.append(pattern)
    return chosen
