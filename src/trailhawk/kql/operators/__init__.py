"""KQL's tabular operators, each rewritten into the plan's few nodes: one function an operator."""

from trailhawk.kql.operators import (
    arrays,
    columns,
    declared,
    finding,
    graph,
    groups,
    joins,
    nested,
    patterns,
    rows,
    scan,
    series,
    several,
    shared,
    similar,
    tables,
    unions,
)
from trailhawk.kql.operators.registry import SOURCES, STEPS

__all__ = [
    "SOURCES",
    "STEPS",
    "arrays",
    "columns",
    "declared",
    "finding",
    "graph",
    "groups",
    "joins",
    "nested",
    "patterns",
    "rows",
    "scan",
    "series",
    "several",
    "shared",
    "similar",
    "tables",
    "unions",
]
