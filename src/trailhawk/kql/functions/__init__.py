"""KQL's functions: one Python function each, with types, documentation, examples and SQL."""

from trailhawk.kql.functions import (
    aggregates,
    arrays,
    conditional,
    conversion,
    dynamic,
    maths,
    network,
    operators,
    text,
    time,
    windows,
)
from trailhawk.kql.functions.registry import AGGREGATES, FUNCTIONS, WINDOWS

# The rarer ones, imported when a name is not among those above.
_FURTHER = [
    f"{__name__}.{module}"
    for module in (
        "codes",
        "commands",
        "geo",
        "geo_cells",
        "geo_ip",
        "hashes",
        "parsing",
        "series",
        "sketches",
        "statistics",
        "surroundings",
        "units",
        "zones",
    )
]
for _registry in (FUNCTIONS, AGGREGATES, WINDOWS):
    _registry.later(*_FURTHER)

__all__ = [
    "AGGREGATES",
    "FUNCTIONS",
    "WINDOWS",
    "aggregates",
    "arrays",
    "conditional",
    "conversion",
    "dynamic",
    "maths",
    "network",
    "operators",
    "text",
    "time",
    "windows",
]
