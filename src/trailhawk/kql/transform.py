"""An ingest transform: KQL over one record at a time, with no row or one for each row in.

The rules are those of Sentinel's ingestion-time transformation ("Supported KQL features in Azure Monitor
transformations"): the rows that come in are the table `source`, and what works on several rows is refused.
Such a query becomes a plan of Filter and Project over one Scan, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from trailhawk.errors import BindingError, LimitError, Span, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.binder import Binder, spelling
from trailhawk.kql.parser import parse
from trailhawk.kql.passes import optimize
from trailhawk.kql.plan import (
    NOW,
    ColumnRef,
    Expr,
    Filter,
    InQuery,
    Node,
    OutColumn,
    Project,
    ScalarQuery,
    Scan,
    substitute,
    walk,
)
from trailhawk.kql.records import Record, field_names, replace
from trailhawk.kql.scalars import ticks_of
from trailhawk.kql.schema import HIDDEN_PREFIX, Column, Table
from trailhawk.kql.types import KqlType

SOURCE: Final = "source"
ROW: Final = HIDDEN_PREFIX + "row"
"""The hidden column that tells which row of the input a row of the result was."""
CLOCK: Final = HIDDEN_PREFIX + "clock"
"""The hidden column that tells what now() means for a row, where it is not one moment for all."""

MAX_CHARACTERS: Final = 50_000
_OPERATORS: Final = (
    syntax.Where,
    syntax.Extend,
    syntax.Project,
    syntax.ProjectAway,
    syntax.ProjectByNames,
    syntax.ProjectKeep,
    syntax.ProjectRename,
    syntax.ProjectReorder,
    syntax.Parse,
    syntax.ParseKv,
)
_ALLOWED: Final = (
    "where, extend, project, project-away, project-keep, project-rename, project-reorder, "
    "parse, parse-where and parse-kv"
)
_NOT_ROWWISE: Final = {
    "row_number": "it counts over rows",
    "row_rank_dense": "it counts over rows",
    "row_rank_min": "it counts over rows",
    "row_cumsum": "it adds over rows",
    "row_window_session": "it looks at other rows",
    "prev": "it looks at another row",
    "next": "it looks at another row",
    "toscalar": "it is a query of its own",
    "materialize": "it is a query of its own",
    "ingestion_time": "the row is not stored yet",
    "rand": "the same record must always give the same row",
    "new_guid": "the same record must always give the same row",
}
_CLOCK: Final = ("now", "ago")


@dataclass(frozen=True)
class Transform:
    """A checked transform. `plan` reads the table `source`, whose last column is ROW, and its result has
    `columns` (those of the table, in the query's order) and ROW last. `reads_clock` where now() or ago() is
    in it."""

    text: str
    table: Table
    plan: Node
    columns: tuple[OutColumn, ...]
    row: OutColumn
    reads_clock: bool


class _Source:
    """A catalog of the one table that a transform may read."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def table(self, name: str) -> Table | None:
        return self._table if name == SOURCE else None

    def table_names(self) -> tuple[str, ...]:
        return (SOURCE,)


def source_table(table: Table) -> Table:
    """The rows of a table before they are stored, with the place of each and its moment."""
    columns = (*table.stored, Column(CLOCK, KqlType.DATETIME), Column(ROW, KqlType.LONG))
    return Table(SOURCE, columns, table.description, time_column=table.time_column)


def transform(text: str, table: Table, *, now: datetime | None) -> Transform:
    """The transform of a table that this KQL text is. `now` is what now() means, None for what the column
    CLOCK says.

    Raises QueryError with the place: syntax, names that do not exist, what is not one row at a time
    (unsupported, by name), columns that the table has not or has with another type.
    """
    if len(text) > MAX_CHARACTERS:
        raise LimitError(f"the transform is longer than {MAX_CHARACTERS:,} characters")
    query = parse(text)
    pipe = _checked(query)
    try:
        moment = NOW if now is None else ticks_of(now)
        bound = Binder(_Source(source_table(table)), moment, {}).query(query).plan
        scan = _only_rowwise(bound, pipe.span)
    except RecursionError:
        raise LimitError("the transform nests too deep") from None
    columns = tuple(column for column in bound.columns if not column.name.startswith(HIDDEN_PREFIX))
    _fits(columns, table, pipe)
    clock, row = (scan.columns[scan.stored.index(name)] for name in (CLOCK, ROW))
    carried = _carry(bound if now else _carry(_at(bound, clock), clock), row)
    plan = optimize(Project((*columns, row), carried, tuple(_ref(c) for c in (*columns, row))))
    reads_clock = any(isinstance(part, syntax.Call) and part.name in _CLOCK for part in _parts(query))
    return Transform(text, table, plan, columns, row, reads_clock)


# --- what the text may hold ---------------------------------------------------------------------------------


def _checked(query: syntax.Query) -> syntax.Pipe:
    """The pipeline over `source`; UnsupportedError at the first thing that is not one row at a time."""
    pipes = []
    for statement in query.statements:
        match statement:
            case syntax.Let():
                _check_parts(statement.value, set())
            case syntax.ExpressionStatement(value=syntax.Pipe() as pipe):
                pipes.append(pipe)
            case syntax.ExpressionStatement(value=syntax.Name() as name):
                pipes.append(syntax.Pipe(name.span, name, ()))
            case _:
                raise UnsupportedError("this statement in an ingest transform", statement.span, hint=_begin())
    if len(pipes) != 1:
        raise UnsupportedError(
            "more or less than one query in an ingest transform", query.span, hint=_begin()
        )
    (pipe,) = pipes
    if not isinstance(pipe.source, syntax.Name) or pipe.source.text != SOURCE:
        span = pipe.source.span if pipe.source else pipe.span
        raise UnsupportedError("an ingest transform over anything but source", span, hint=_begin())
    for operator in pipe.operators:
        if not isinstance(operator, _OPERATORS):
            raise UnsupportedError(
                f"{spelling(operator)} in an ingest transform", operator.span, hint=f"there are {_ALLOWED}"
            )
        _check_parts(operator, {id(pipe)})
    return pipe


def _begin() -> str:
    return "it is: source | where ... | extend ..., after any let statements with values"


def _check_parts(node: syntax.Node, seen: set[int]) -> None:
    for part in _parts(node):
        if isinstance(part, syntax.Call) and part.name in _NOT_ROWWISE:
            raise UnsupportedError(
                f"{part.name}() in an ingest transform", part.name_span, hint=_NOT_ROWWISE[part.name]
            )
        if isinstance(part, syntax.Pipe | syntax.DataTable | syntax.ExternalData) and id(part) not in seen:
            raise UnsupportedError(
                "a query inside of an ingest transform", part.span, hint="it looks at one record at a time"
            )


def _parts(node: syntax.Node) -> Iterator[syntax.Node]:
    """The node and all below it."""
    stack: list[object] = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, syntax.Node):
            yield current
        if isinstance(current, Record):
            stack.extend(getattr(current, name) for name in field_names(current))
        elif isinstance(current, tuple):
            stack.extend(current)


# --- what it is bound to -----------------------------------------------------------------------------------


def _only_rowwise(plan: Node, span: Span) -> Scan:
    """The Scan below; UnsupportedError where a plan has more than filters and projections."""
    while not isinstance(plan, Scan):
        if isinstance(plan, Filter):
            values: Sequence[object] = (plan.predicate,)
        elif isinstance(plan, Project):
            values = plan.values
        else:
            raise UnsupportedError(f"{type(plan).__name__.lower()} in an ingest transform", span)
        for value in values:
            for part in walk(value):  # type: ignore[arg-type]  # both are expressions
                if isinstance(part, ScalarQuery | InQuery):
                    raise UnsupportedError("a query inside of an ingest transform", span)
        plan = plan.input
    return plan


def _carry(plan: Node, row: OutColumn) -> Node:
    """The same plan with the column ROW in every node."""
    match plan:
        case Project() if row not in plan.columns:
            return replace(
                plan,
                columns=(*plan.columns, row),
                input=_carry(plan.input, row),
                values=(*plan.values, _ref(row)),
            )
        case Filter():
            below = _carry(plan.input, row)
            return replace(plan, input=below, columns=below.columns)
        case Project():
            return replace(plan, input=_carry(plan.input, row))
        case _:
            return plan


def _at(plan: Node, clock: OutColumn) -> Node:
    """The plan with the column CLOCK in the place of now()."""
    values: dict[int, Expr] = {NOW.id: _ref(clock)}
    match plan:
        case Project():
            made = tuple(substitute(value, values) for value in plan.values)
            return replace(plan, input=_at(plan.input, clock), values=made)
        case Filter():
            return replace(plan, input=_at(plan.input, clock), predicate=substitute(plan.predicate, values))
        case _:
            return plan


def _ref(column: OutColumn) -> ColumnRef:
    return ColumnRef(column.type, column.id)


def _fits(columns: Sequence[OutColumn], table: Table, pipe: syntax.Pipe) -> None:
    """Refuse what the table cannot hold, at the operator that made it."""
    wanted = {column.name: column.type for column in table.stored}
    for column in columns:
        span = _place(column.name, pipe)
        if column.name in table.constants:
            raise BindingError(
                f"'{column.name}' is computed, it is not stored", span, hint=_away(column.name)
            )
        if column.name not in wanted:
            raise BindingError(f"{table.name} has no column '{column.name}'", span, hint=_away(column.name))
        if column.type is not wanted[column.name]:
            is_, should = column.type.value, wanted[column.name].value
            raise BindingError(
                f"'{column.name}' is {is_} here and {should} in {table.name}", span, hint=f"use to{should}()"
            )


def _away(name: str) -> str:
    return f"end with | project-away {name}"


def _place(name: str, pipe: syntax.Pipe) -> Span:
    """Where a column was named last, as far as the text shows."""
    for operator in reversed(pipe.operators):
        for part in _parts(operator):
            if isinstance(part, syntax.Named) and name in part.names:
                return part.name_spans[part.names.index(name)]
            if isinstance(part, syntax.Name) and part.text == name:
                return part.span
            if isinstance(part, syntax.ParsePart | syntax.ColumnDecl) and part.name == name:
                return part.span
    return pipe.span
