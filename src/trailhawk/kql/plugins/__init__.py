"""The plugins of `evaluate`, one place each: a function that binds the call to a plan."""

from trailhawk.kql.plugins import (
    activity,
    bags,
    lookups,
    patterns,
    percentiles,
    pivot,
    rows,
    sequences,
    sets,
)
from trailhawk.kql.plugins.registry import PLUGINS, Use, plugin

__all__ = [
    "PLUGINS",
    "Use",
    "activity",
    "bags",
    "lookups",
    "patterns",
    "percentiles",
    "pivot",
    "plugin",
    "rows",
    "sequences",
    "sets",
]
