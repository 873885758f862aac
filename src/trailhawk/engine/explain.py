"""What a query becomes, without running it: its plan, the SQL, and the files it would read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trailhawk.engine.reading import Chosen
from trailhawk.kql.plan import (
    Aggregate,
    AllOf,
    AnyOf,
    Apply,
    Expr,
    Filter,
    InQuery,
    Join,
    Limit,
    Need,
    Needle,
    Node,
    Project,
    ScalarQuery,
    Scan,
    Shared,
    Sort,
    Union,
    Unnest,
    Values,
    Window,
    walk,
)
from trailhawk.words import counted

_MOST_NAMES = 8


@dataclass(frozen=True)
class Read:
    """One scan of a table. `files` and `bytes` are those of the query's time range, `files_read` and
    `bytes_read` what the index of terms leaves of them (of which only the columns named are read).

    `sought` is what the index was asked for, empty where it can not be; of `row_groups` that it was asked
    about it ruled out `row_groups_skipped`; none where a few samples all held what was sought.
    """

    table: str
    columns: tuple[str, ...]
    files: int
    bytes: int
    files_read: int
    bytes_read: int
    sought: str
    row_groups: int
    row_groups_skipped: int


@dataclass(frozen=True)
class Explained:
    """The plan as an indented outline, the SQL, and what is read."""

    plan: str
    sql: str
    reads: tuple[Read, ...]


def read(chosen: Chosen) -> Read:
    scan = chosen.scan
    return Read(
        scan.table.name,
        scan.stored,
        chosen.files,
        chosen.bytes,
        sum(len(group.files) for group in chosen.groups),
        chosen.bytes_read,
        _need(scan.need) if scan.need else "",
        chosen.row_groups,
        chosen.row_groups_skipped,
    )


def _need(need: Need) -> str:
    match need:
        case Needle():
            return f"'{need.text}' in {_names(sorted(need.columns))}"
        case AllOf():
            return " and ".join(f"({_need(part)})" for part in need.parts)
        case AnyOf():
            return " or ".join(f"({_need(part)})" for part in need.parts) or "nothing"


def outline(plan: Node) -> str:
    """The plan, a node a line, inputs indented below."""
    return "\n".join(_lines(plan, 0))


def _lines(node: Node, depth: int) -> Iterator[str]:
    yield "  " * depth + _headline(node)
    for below in _below(node):
        yield from _lines(below, depth + 1)


def _headline(node: Node) -> str:
    columns = _names([column.name for column in node.columns])
    match node:
        case Scan():
            return f"Scan {node.table.name}: {_names(list(node.stored))}"
        case Values():
            return f"Values: {counted(len(node.rows), 'row')} of {columns}"
        case Aggregate():
            keys = [column.name for column in node.columns[: len(node.keys)]]
            return f"Aggregate by {_names(keys) or 'nothing'}"
        case Limit():
            return f"Limit {node.count if isinstance(node.count, int) else 'computed'}"
        case Join():
            return f"Join {node.kind.value} on {counted(len(node.keys), 'key')}"
        case Apply():
            return f"Apply {node.name}: {columns}"
        case Filter():
            return "Filter"
        case Sort():
            return f"Sort by {counted(len(node.keys), 'key')}"
        case Project() | Union() | Unnest() | Window() | Shared():
            return f"{type(node).__name__}: {columns}"
    raise AssertionError(type(node))


def _below(node: Node) -> tuple[Node, ...]:
    match node:
        case Join():
            return (node.left, node.right)
        case Union() | Apply():
            return node.inputs
        case Shared():
            return (node.plan,)
        case Filter(predicate=Expr() as own) | Limit(count=Expr() as own):
            inner = [part.plan for part in walk(own) if isinstance(part, InQuery | ScalarQuery)]
            return (*inner, node.input)
        case Project() | Aggregate() | Sort() | Limit() | Unnest() | Window():
            return (node.input,)
        case _:
            return ()


def _names(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
