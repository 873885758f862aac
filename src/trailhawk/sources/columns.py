"""How a source's table is written down: one line a column, with its type, its meaning and its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trailhawk.kql.schema import Column, Promoted, Table
from trailhawk.kql.types import KqlType

Line = tuple[str, KqlType, str, str]
"""A column: name, type, meaning, and where its value stands in a record."""

_CONSTANTS = (
    ("SourceSystem", "AWS", "System the rows come from."),
    ("TenantId", "00000000-0000-0000-0000-000000000000", "Workspace id; one workspace, so always the same."),
)


def declared(
    name: str,
    description: str,
    lines: Iterable[Line],
    *,
    promoted: Mapping[str, str] = {},
    statistics: tuple[str, ...] = (),
) -> Table:
    """The table of these columns with the constants that every table has.

    `promoted` maps a JSON column to its paths, apart by blanks, steps apart by dots.
    """
    constants = (*_CONSTANTS, ("Type", name, "Name of the table."))
    return Table(
        name=name,
        description=description,
        columns=(
            *(Column(column, kind, meaning) for column, kind, meaning, _ in lines),
            *(Column(column, KqlType.STRING, meaning) for column, _, meaning in constants),
        ),
        promoted=tuple(
            Promoted(column, tuple(path.split(".")))
            for column, paths in promoted.items()
            for path in paths.split()
        ),
        constants={column: value for column, value, _ in constants},
        statistics=statistics,
    )
