"""Functions over neighbouring rows.

A body gives a tree with `over(...)` at its heart; the lowering writes the order of the input into it.
"""

from __future__ import annotations

from sqlglot import exp

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.registry import AnyArg, Long, NumberArg, Same, Sql, window


def over(function: Sql, *, running: bool = False) -> exp.Window:
    """The function over the rows in order; `running` sums up to the row itself."""
    frame = exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW")
    return exp.Window(this=function, spec=frame if running else None)


@window()
def row_number(start: Long | None = None) -> Long:
    """The row's number in order, counted from 1 or from `start`."""
    number = over(sql.call("row_number"))
    if start is None:
        return number
    return sql.binary(exp.Sub, sql.binary(exp.Add, number, start), sql.literal(1))


@window()
def row_cumsum(term: NumberArg) -> Same:
    """The sum of the term up to this row."""
    known = sql.coalesce(term.sql, sql.literal(0))
    return sql.cast(over(exp.Sum(this=known), running=True), term.type)


def _neighbour(name: str, column: AnyArg, offset: Long | None, default: AnyArg | None) -> Sql:
    otherwise = sql.null(column.type) if default is None else default.sql
    return over(sql.call(name, column.sql, sql.literal(1) if offset is None else offset, otherwise))


@window()
def prev(column: AnyArg, offset: Long | None = None, default: AnyArg | None = None) -> Same:
    """The column's value `offset` rows before (1 if not given); beyond the rows the default or null."""
    return _neighbour("lag", column, offset, default)


@window("next")
def next_(column: AnyArg, offset: Long | None = None, default: AnyArg | None = None) -> Same:
    """The column's value `offset` rows after (1 if not given); beyond the rows the default or null."""
    return _neighbour("lead", column, offset, default)
