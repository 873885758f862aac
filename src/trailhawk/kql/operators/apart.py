"""Which columns tell rows apart that came of groups, for what keeps rows by their rank.

Kusto leaves the order of equals open, and so does the engine: a `top 10` of twelve equal groups would keep
others in each run.
"""

from __future__ import annotations

from collections.abc import Sequence

from trailhawk.kql.plan import (
    Aggregate,
    ColumnRef,
    Filter,
    Join,
    Limit,
    Node,
    Project,
    Shared,
    Sort,
    SortKey,
    Union,
    Unnest,
    Window,
    references,
)
from trailhawk.kql.types import KqlType

_MOST = 16
"""So many columns are compared more at most; more than any query of sense is grouped by."""


def settled(node: Node, keys: Sequence[SortKey]) -> tuple[SortKey, ...]:
    """The keys of a sort, then the columns that tell equals of them apart, ascending.

    For few rows that are kept they cost next to nothing; a sort of all rows would cost a multiple. Rows of a
    table are not told apart: to compare all that they hold would cost more than it is worth.
    """
    named = {key.value.id for key in keys if isinstance(key.value, ColumnRef)}
    apart = _apart(node) - named
    more = [c for c in node.columns if c.id in apart and c.type is not KqlType.DYNAMIC]
    return (*keys, *(SortKey(ColumnRef(c.type, c.id), False, True) for c in more[:_MOST]))


def _apart(node: Node) -> set[int]:
    """Ids of columns that hold keys of the groups that the rows come from, or what was computed of them."""
    match node:
        case Aggregate():
            return {column.id for column in node.columns[: len(node.keys)]}
        case Filter() | Sort() | Limit() | Window() | Unnest():
            return _apart(node.input)
        case Project():
            below = _apart(node.input)
            named = zip(node.columns, node.values, strict=True)
            return {column.id for column, value in named if references(value) & below}
        case Join():
            return _apart(node.left) | _apart(node.right)
        case Union():
            below = set().union(*map(_apart, node.inputs))
            rows = [zip(node.columns, values, strict=True) for values in node.values]
            return {c.id for row in rows for c, value in row if references(value) & below}
        case Shared():
            below = _apart(node.plan)
            return {c.id for c, source in zip(node.columns, node.sources, strict=True) if source in below}
    return set()
