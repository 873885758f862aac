"""KQL's tabular operators, each rewritten into the plan's few nodes: one function an operator."""

from trailhawk.kql.operators import (
    arrays,
    columns,
    declared,
    groups,
    joins,
    patterns,
    rows,
    several,
    shared,
    tables,
    unions,
)
from trailhawk.kql.operators.registry import SOURCES, STEPS

# The rarer ones, imported when an operator is not among those above.
_FURTHER = [
    f"{__name__}.{module}"
    for module in ("charts", "evaluate", "finding", "graph", "nested", "scan", "series", "similar")
]
for _registry in (SOURCES, STEPS):
    _registry.later(*_FURTHER)

__all__ = [
    "SOURCES",
    "STEPS",
    "arrays",
    "columns",
    "declared",
    "groups",
    "joins",
    "patterns",
    "rows",
    "several",
    "shared",
    "tables",
    "unions",
]
