"""KQL's functions: one Python function each, with types, documentation, examples and SQL."""

from trailhawk.kql.functions import (
    aggregates,
    arrays,
    codes,
    conditional,
    conversion,
    dynamic,
    geo,
    geo_cells,
    maths,
    network,
    operators,
    series,
    sketches,
    text,
    time,
    windows,
)
from trailhawk.kql.functions.registry import AGGREGATES, FUNCTIONS, WINDOWS

__all__ = [
    "AGGREGATES",
    "FUNCTIONS",
    "WINDOWS",
    "aggregates",
    "arrays",
    "codes",
    "conditional",
    "conversion",
    "dynamic",
    "geo",
    "geo_cells",
    "maths",
    "network",
    "operators",
    "series",
    "sketches",
    "text",
    "time",
    "windows",
]
