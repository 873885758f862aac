"""rolling_percentile."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trailhawk.errors import BindingError, LimitError
from trailhawk.kql.plan import Node
from trailhawk.kql.plugins.registry import Use, plugin
from trailhawk.kql.plugins.shared import (
    Arguments,
    Row,
    as_number,
    binned,
    by_dimensions,
    over_values,
    timeline,
    window_size,
)

MAX_ROWS = 1_000_000


@plugin("rolling_percentile")
def rolling_percentile(use: Use) -> Node:
    """A percentile of the values in each bin and the bins before it.

    `rolling_percentile(value, percentile, index, bin_size, bins_per_window [, dimensions])`: nearest rank.
    """
    arguments = Arguments(use)
    value = arguments.value("ValueColumn")
    percent = arguments.constant("Percentile").value
    index = timeline(arguments, "IndexColumn")
    size = window_size(arguments, "BinSize")
    count = arguments.whole("BinsPerWindow")
    dimensions = arguments.dimensions()
    share = as_number(percent)
    if share is None or not 0 <= share <= 100 or isinstance(size, str) or count == 0:
        raise BindingError(
            "rolling_percentile() takes a percentile, a bin size and a number of bins", use.call.span
        )
    windows = binned(index.type, size)

    def rows(found: list[Row]) -> Iterator[Row]:
        for key, group in by_dimensions(found, len(dimensions)).items():
            bins: dict[float, list[object]] = {}
            for at, given in group:
                place = as_number(at)
                if place is not None and given is not None:
                    bins.setdefault(windows.of(place), []).append(given)
            if not bins:
                continue
            first, last = min(bins), max(bins)
            if (last - first) / size > MAX_ROWS:
                raise LimitError(f"rolling_percentile() over more than {MAX_ROWS} bins", use.call.span)
            for begin in windows.between(first, last):
                inside = sorted(
                    item  # type: ignore[type-var]  # one column's values: all of one type
                    for back in range(count)
                    for item in bins.get(begin - back * size, ())
                )
                if inside:
                    rank = max(1, math.ceil(share / 100 * len(inside)))
                    yield (begin, *key, inside[rank - 1])

    columns = [
        (index.name, index.type),
        *((dimension.name, dimension.type) for dimension in dimensions),
        (f"rolling_{count}_percentile_{value.name}_{percent}", value.type),
    ]
    given = [index.value, value.value, *(dimension.value for dimension in dimensions)]
    return over_values(use, given, columns, rows)
