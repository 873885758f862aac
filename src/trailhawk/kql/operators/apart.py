"""Which columns tell rows apart that came of groups: a sort ends with them, so that equals have one order.

Kusto leaves the order of equals open, and so does the engine: a `top 10` of twelve equal groups would keep
others in each run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trailhawk.kql.plan import (
    Aggregate,
    ColumnRef,
    Filter,
    Join,
    JoinKind,
    Limit,
    Node,
    OutColumn,
    Project,
    Shared,
    Sort,
    SortKey,
    Union,
    Unnest,
    Window,
)
from trailhawk.kql.types import KqlType

_ONE_SIDE = {
    JoinKind.LEFT_SEMI: "left",
    JoinKind.LEFT_ANTI: "left",
    JoinKind.RIGHT_SEMI: "right",
    JoinKind.RIGHT_ANTI: "right",
}


def settled(node: Node, keys: Sequence[SortKey]) -> tuple[SortKey, ...]:
    """The keys of a sort, then the columns that tell equals of them apart, ascending.

    Rows of a table are not told apart: to compare all that they hold would cost more than it is worth.
    """
    named = {key.value.id for key in keys if isinstance(key.value, ColumnRef)}
    more = [column for column in _apart(node) if column.id not in named]
    return (*keys, *(SortKey(ColumnRef(column.type, column.id), False, True) for column in more))


def _apart(node: Node) -> Iterator[OutColumn]:
    """The columns, as far as they are still there, with the keys of the groups that the rows come from."""
    match node:
        case Aggregate():
            yield from node.columns[: len(node.keys)]
        case Filter() | Sort() | Limit() | Window():
            yield from _apart(node.input)
        case Unnest():
            yield from _apart(node.input)
            own = node.columns[len(node.input.columns) :]
            yield from (column for column in own if column.type is not KqlType.DYNAMIC)
        case Project():
            below = {column.id for column in _apart(node.input)}
            named = zip(node.columns, node.values, strict=True)
            yield from (c for c, value in named if isinstance(value, ColumnRef) and value.id in below)
        case Join():
            side = _ONE_SIDE.get(node.kind)
            below = {
                column.id
                for name, input_ in (("left", node.left), ("right", node.right))
                if side in (None, name)
                for column in _apart(input_)
            }
            yield from (column for column in node.columns if column.id in below)
        case Union():
            inputs = [{column.id for column in _apart(item)} for item in node.inputs]
            for place, column in enumerate(node.columns):
                values = [row[place] for row in node.values]
                pairs = zip(values, inputs, strict=True)
                if any(isinstance(value, ColumnRef) and value.id in below for value, below in pairs):
                    yield column
        case Shared():
            below = {column.id for column in _apart(node.plan)}
            yield from (c for c, source in zip(node.columns, node.sources, strict=True) if source in below)
