"""The bound plan: typed expressions over columns with ids, and the dozen nodes that every operator becomes.

A column is known by its id alone; its name matters only in the final schema, since engines fold case
(`a` and `A` may stand side by side in KQL).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Final

from trailhawk.errors import Span
from trailhawk.kql.records import Record, replace
from trailhawk.kql.schema import Path, Table
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.functions.registry import Aggregate as AggregateFunction
    from trailhawk.kql.functions.registry import Overload

ConstValue = None | bool | int | float | Decimal | str | list[object] | dict[str, object]


class OutColumn(Record, frozen=True):
    """A column that a node gives: its id (unique in the whole query), KQL name and type."""

    id: int
    name: str
    type: KqlType


# --- expressions -------------------------------------------------------------------------------------------


class Expr(Record, frozen=True):
    type: KqlType


class Const(Expr, frozen=True):
    """A constant: datetime and timespan in ticks, dynamic as plain Python values, None for null."""

    value: ConstValue


class ColumnRef(Expr, frozen=True):
    id: int


NOW: Final = ColumnRef(KqlType.DATETIME, 0)
"""Stands for now() in a plan that is bound for no one moment: no column has this id."""


class Place(Record, frozen=True):
    """Where in the query's text a call stands, for its errors; as for what it gives all places are equal."""

    span: Span | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place)

    def __hash__(self) -> int:
        return 0


NOWHERE: Final = Place()


class Call(Expr, frozen=True):
    """A scalar function or operator applied; the overload knows how to write itself in SQL."""

    overload: Overload
    args: tuple[Expr, ...]
    place: Place = NOWHERE


class PathExpr(Expr, frozen=True):
    """Steps into a dynamic value; a missing step gives null."""

    base: Expr
    steps: Path


class ScalarQuery(Expr, frozen=True):
    """`toscalar(query)`: the first column of the first row."""

    plan: Node


class InQuery(Expr, frozen=True):
    """`value in (query)` over the query's first column."""

    value: Expr
    plan: Node
    negated: bool
    fold_case: bool


class AggregateCall(Record, frozen=True):
    """An aggregate function over the rows of a group, or a window function over the rows of a partition."""

    function: AggregateFunction
    args: tuple[Expr, ...]
    type: KqlType
    partition: tuple[Expr, ...] = ()
    place: Place = NOWHERE


# --- nodes -------------------------------------------------------------------------------------------------


class Node(Record, frozen=True):
    columns: tuple[OutColumn, ...]


class Needle(Record, frozen=True):
    """A text that one of these stored columns must hold, without regard to case, for a row to be needed.

    `left` and `right`: it begins and ends where a term does (`has`, `==`), not inside one (`contains`).
    """

    columns: frozenset[str]
    text: str
    left: bool = True
    right: bool = True


class AllOf(Record, frozen=True):
    parts: tuple[Need, ...]


class AnyOf(Record, frozen=True):
    """One of the parts; no part at all means that no row is needed."""

    parts: tuple[Need, ...]


Need = Needle | AllOf | AnyOf


class Scan(Node, frozen=True):
    """The rows of a stored table. `stored[i]` is the stored name of `columns[i]`.

    `since` and `until` (ticks, half-open) bound the time column, `need` says what a row must hold: no other
    row is needed, so that files can be left out; the filters themselves stay in the plan.
    """

    table: Table
    stored: tuple[str, ...]
    since: int | None = None
    until: int | None = None
    need: Need | None = None

    @property
    def event_time(self) -> ColumnRef | None:
        """The column of the event time, if the scan has it."""
        names = zip(self.columns, self.stored, strict=True)
        ids = (column.id for column, name in names if name == self.table.time_column)
        return next((ColumnRef(KqlType.DATETIME, id_) for id_ in ids), None)


class Values(Node, frozen=True):
    rows: tuple[tuple[Const, ...], ...]


class Filter(Node, frozen=True):
    input: Node
    predicate: Expr


class Project(Node, frozen=True):
    """`columns[i]` is `values[i]`; a column that only passes through keeps its id."""

    input: Node
    values: tuple[Expr, ...]


class Aggregate(Node, frozen=True):
    """Columns are the keys, then the aggregates. Without keys there is exactly one row."""

    input: Node
    keys: tuple[Expr, ...]
    aggregates: tuple[AggregateCall, ...]


class SortKey(Record, frozen=True):
    value: Expr
    descending: bool
    nulls_first: bool


class Sort(Node, frozen=True):
    input: Node
    keys: tuple[SortKey, ...]


class Limit(Node, frozen=True):
    """The first rows. A computed `count` reads no column and is one value; null or below 0 is no row."""

    input: Node
    count: int | Expr


class JoinKind(Enum):
    INNER_UNIQUE = "innerunique"
    INNER = "inner"
    LEFT_OUTER = "leftouter"
    RIGHT_OUTER = "rightouter"
    FULL_OUTER = "fullouter"
    LEFT_SEMI = "leftsemi"
    RIGHT_SEMI = "rightsemi"
    LEFT_ANTI = "leftanti"
    RIGHT_ANTI = "rightanti"


class Join(Node, frozen=True):
    """Columns are the left's then the right's, or one side's for semi and anti."""

    left: Node
    right: Node
    kind: JoinKind
    keys: tuple[tuple[Expr, Expr], ...]


class Union(Node, frozen=True):
    """All rows of all inputs; `values[i]` are the expressions over input i for `columns`."""

    inputs: tuple[Node, ...]
    values: tuple[tuple[Expr, ...], ...]


class Unnest(Node, frozen=True):
    """A row for each place of the lists (zipped, padded with null); columns are the input's, then theirs.

    With `index` the last column is the zero-based place.
    """

    input: Node
    lists: tuple[Expr, ...]
    index: bool = False


class Window(Node, frozen=True):
    """Columns computed over neighbouring rows in the input's order; columns are the input's, then theirs."""

    input: Node
    calls: tuple[AggregateCall, ...]


class Shared(Node, frozen=True):
    """`materialize(query)`, computed once: every use is a Shared with the same `key`, and ids of its own.

    `columns[i]` is the plan's column `sources[i]`. `since` and `until` (ticks, half-open) bound the event
    time of the rows that this use reads, where they are rows of one table.
    """

    key: int
    plan: Node
    sources: tuple[int, ...]
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True)
class Frame:
    """Rows in memory, for what SQL cannot say: a list of Python values for each column.

    datetime and timespan are ticks, dynamic is what its JSON says, null is None.
    """

    columns: tuple[OutColumn, ...]
    values: tuple[list[object], ...]

    def column(self, id_: int) -> list[object]:
        """The values of the column of this id."""
        return self.values[[column.id for column in self.columns].index(id_)]

    def rows(self) -> list[tuple[object, ...]]:
        return list(zip(*self.values, strict=True))


TableFunction = Callable[[tuple[Frame, ...]], Sequence[Sequence[object]]]
"""From the rows of its inputs to the values of each of its own columns."""


class Apply(Node, frozen=True):
    """A Python function over all rows of its inputs; `given[i]` are the columns it is handed of input i.

    All columns are its own: none passes through. `name` is the operator's or plugin's, for messages. Each of
    the inputs that `feeders` names by place is needed: without rows of it there are none.
    """

    inputs: tuple[Node, ...]
    given: tuple[tuple[OutColumn, ...], ...]
    function: TableFunction
    name: str
    feeders: tuple[int, ...] = ()


class Chart(Record, frozen=True):
    """What `render` asked for: kind (timechart, barchart, ...) and its properties."""

    kind: str
    properties: tuple[tuple[str, str], ...] = ()


class Query(Record, frozen=True):
    """A bound query: the plan of its last tabular expression, and how to draw it.

    `others` are its other results: of earlier statements, and of fork and facet after their first.
    """

    plan: Node
    chart: Chart | None = None
    others: tuple[Node, ...] = ()
    names: tuple[str, ...] = ()
    """What the query calls the plan and each of the others, '' where it does not say."""


def filtered(node: Node, conditions: Iterable[Expr]) -> Node:
    """The rows for which every condition holds."""
    for condition in conditions:
        node = Filter(node.columns, node, condition)
    return node


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and all below it, without the plans of subqueries."""
    stack = [expr]
    while stack:
        current = stack.pop()
        yield current
        match current:
            case Call():
                stack.extend(current.args)
            case PathExpr():
                stack.append(current.base)
            case InQuery():
                stack.append(current.value)


def references(expr: Expr) -> set[int]:
    """Ids of the columns an expression reads."""
    if isinstance(expr, ColumnRef):
        return {expr.id}
    return {part.id for part in walk(expr) if isinstance(part, ColumnRef)}


def substitute(expr: Expr, values: dict[int, Expr]) -> Expr:
    """The expression with columns replaced by what `values` has for their ids."""
    match expr:
        case ColumnRef():
            return values.get(expr.id, expr)
        case Call():
            args = tuple([substitute(arg, values) for arg in expr.args])
            return expr if args == expr.args else replace(expr, args=args)
        case PathExpr():
            base = substitute(expr.base, values)
            if isinstance(base, PathExpr):
                return PathExpr(expr.type, base.base, base.steps + expr.steps)
            return expr if base is expr.base else replace(expr, base=base)
        case InQuery():
            return replace(expr, value=substitute(expr.value, values))
        case _:
            return expr
