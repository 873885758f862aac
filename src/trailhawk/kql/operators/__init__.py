"""KQL's tabular operators, each rewritten into the plan's few nodes: one function an operator."""

from trailhawk.kql.operators import (
    arrays,
    columns,
    graph,
    groups,
    joins,
    patterns,
    rows,
    scan,
    series,
    shared,
    tables,
    unions,
)
from trailhawk.kql.operators.registry import SOURCES, STEPS

__all__ = [
    "SOURCES",
    "STEPS",
    "arrays",
    "columns",
    "graph",
    "groups",
    "joins",
    "patterns",
    "rows",
    "scan",
    "series",
    "shared",
    "tables",
    "unions",
]
