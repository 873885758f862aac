"""Which files a plan reads, and what of them; which of its time filters these files make needless."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from trailhawk.kql.plan import (
    Aggregate,
    Apply,
    Call,
    ColumnRef,
    Const,
    Expr,
    Filter,
    Join,
    Limit,
    Node,
    Project,
    Scan,
    Sort,
    Union,
    Unnest,
    Window,
)
from trailhawk.kql.records import replace
from trailhawk.kql.schema import Catalog
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.plan import Need
    from trailhawk.lake.table import DataFile, Found, Part

MANY: Final = 1_000_000
"""A scan of so many rows is large: what is saved of it is worth a look before, or to read it twice."""

Spans = tuple[tuple[datetime, datetime], ...]
"""Times from the first to the last, both included."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_SPANS = 100
_WORTH_SPANS = 0.5
"""Row groups are told apart by their times where at most this share of the files' rows is to be read."""


class Files(Protocol):
    """What the engine asks of a table's snapshot."""

    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[DataFile, ...]: ...

    def look(self, files: Sequence[DataFile], need: Need) -> Found: ...


class Tables(Catalog, Protocol):
    """A catalog whose tables are files."""

    def snapshot(self, name: str) -> Files: ...


@dataclass(frozen=True)
class Group:
    """Files to be read by one scan: those that have the same ones of the columns it asks for.

    With `spans` only rows with an event time in one of them are needed.
    """

    columns: frozenset[str]
    files: tuple[DataFile, ...]
    spans: Spans | None


@dataclass(frozen=True)
class Chosen:
    """What a scan reads of a table: `files` of the time range, less what the index leaves out."""

    scan: Scan
    files: int
    bytes: int
    groups: tuple[Group, ...]
    bytes_read: int
    row_groups: int
    row_groups_skipped: int


class Reading:
    """The files of one statement: every table in one state, however often it is read."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._snapshots: dict[str, Files] = {}
        self._found: dict[tuple[str, int | None, int | None], tuple[DataFile, ...]] = {}
        self.chosen: list[Chosen] = []

    def snapshot(self, name: str) -> Files:
        if name not in self._snapshots:
            self._snapshots[name] = self._tables.snapshot(name)
        return self._snapshots[name]

    def _files(self, scan: Scan) -> tuple[DataFile, ...]:
        key = (scan.table.name, scan.since, scan.until)
        if key not in self._found:
            since, until = _moment(scan.since), _moment(scan.until, up=True)
            self._found[key] = self.snapshot(scan.table.name).files(since, until)
        return self._found[key]

    def rows(self, scan: Scan) -> int:
        """How many rows the files of the scan's time range hold."""
        return sum(file.rows for file in self._files(scan))

    def choose(self, scan: Scan) -> Chosen:
        """The files that may hold rows a scan needs, in groups. Also noted in `chosen`."""
        files = self._files(scan)
        if scan.need is None or not files:
            found = None
            groups = _grouped(scan, files, None)
        else:
            found = self.snapshot(scan.table.name).look(files, scan.need)
            groups = _narrowed(scan, found.parts)
        whole = found is None or any(group.spans is None for group in groups)
        chosen = Chosen(
            scan,
            len(files),
            sum(file.size for file in files),
            groups,
            sum(file.size for group in groups for file in group.files)
            if found is None or whole
            else sum(int(part.file.size * part.share) for part in found.parts),
            found.groups if found else 0,
            found.skipped if found else 0,
        )
        self.chosen.append(chosen)
        return chosen

    def settled(self, plan: Node, *, but: Callable[[str], bool]) -> Node:
        """The plan without the time filters that every row of the files satisfies anyway: the engine then
        need not read the times. `but` tells tables that have rows beside their files."""

        def settle(node: Node) -> Node:
            if isinstance(node, Filter) and (scan := _scan_below(node)) and not but(scan.table.name):
                rest = self._unsettled(node.predicate, scan)
                below = settle(node.input)
                if rest is None:
                    return below
                same = rest is node.predicate and below is node.input
                return node if same else replace(node, input=below, predicate=rest)
            return _with_inputs(node, settle)

        return settle(plan)

    def _unsettled(self, predicate: Expr, scan: Scan) -> Expr | None:
        time = scan.event_time
        files = self._files(scan)
        if not time or not files:
            return predicate
        firsts, lasts = [file.first for file in files], [file.last for file in files]
        if None in firsts or None in lasts:
            return predicate
        low = min(_ticks(moment) for moment in firsts if moment is not None)
        high = max(_ticks(moment) for moment in lasts if moment is not None)
        return _without(predicate, lambda condition: _is_given(condition, time.id, low, high))


def _scan_below(node: Node) -> Scan | None:
    while isinstance(node, Filter | Project | Sort):
        node = node.input
    return node if isinstance(node, Scan) else None


def _with_inputs(node: Node, change: Callable[[Node], Node]) -> Node:
    match node:
        case Filter() | Project() | Aggregate() | Sort() | Limit() | Unnest() | Window():
            below = change(node.input)
            return node if below is node.input else replace(node, input=below)
        case Join():
            left, right = change(node.left), change(node.right)
            return (
                node if left is node.left and right is node.right else replace(node, left=left, right=right)
            )
        case Union() | Apply():
            return replace(node, inputs=tuple(change(item) for item in node.inputs))
        case _:
            return node


def _without(predicate: Expr, given: Callable[[Expr], bool]) -> Expr | None:
    """A condition without the parts (joined by `and`) that are given; None if nothing is left."""
    if isinstance(predicate, Call) and predicate.overload.name == "and":
        parts = [_without(arg, given) for arg in predicate.args]
        left = [part for part in parts if part is not None]
        if len(left) < 2:
            return left[0] if left else None
        same = all(a is b for a, b in zip(left, predicate.args, strict=True))
        return predicate if same else replace(predicate, args=tuple(left))
    return None if given(predicate) else predicate


def _is_given(condition: Expr, time: int, low: int, high: int) -> bool:
    match condition:
        case Call(args=(ColumnRef(id=id_), Const(type=KqlType.DATETIME, value=int() as ticks))) if (
            id_ == time
        ):
            match condition.overload.name:
                case ">=":
                    return low >= ticks
                case ">":
                    return low > ticks
                case "<":
                    return high < ticks
                case "<=":
                    return high <= ticks
    return False


def _grouped(scan: Scan, files: Iterable[DataFile], spans: Spans | None) -> tuple[Group, ...]:
    stored = frozenset(scan.stored)
    groups: dict[frozenset[str], list[DataFile]] = {}
    for file in files:
        groups.setdefault(stored & file.columns, []).append(file)
    # The files of a group stay in order of time, so that sorted ones are read in order.
    return tuple(Group(columns, tuple(found), spans) for columns, found in groups.items())


def _narrowed(scan: Scan, parts: Sequence[Part]) -> tuple[Group, ...]:
    """The files in groups, with the times of the row groups that are left where that is worth while."""
    files = [part.file for part in parts]
    spans: list[tuple[datetime, datetime]] = []
    rows = kept = 0.0
    for part in parts:
        if part.spans is not None:
            spans += part.spans
        elif part.file.first is not None and part.file.last is not None:
            spans.append((part.file.first, part.file.last))
        else:
            return _grouped(scan, files, None)
        rows += part.file.rows
        kept += part.file.rows * part.share
    worth = kept <= _WORTH_SPANS * rows and len(spans) <= _MOST_SPANS
    return _grouped(scan, files, tuple(spans) if worth else None)


def _ticks(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 10


def _moment(ticks: int | None, *, up: bool = False) -> datetime | None:
    """Ticks as a moment, rounded down to microseconds; with `up` the end of a range is rounded up."""
    if ticks is None:
        return None
    try:
        return _EPOCH + timedelta(microseconds=-(-ticks // 10) if up else ticks // 10)
    except OverflowError:
        return None
