"""Functions over neighbouring rows.

A body gives a tree with `over(...)` in it; the lowering writes the order of the input into each of them,
and computes those that stand inside another one first.
"""

from __future__ import annotations

from sqlglot import exp

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.conversion import low_bits
from trailhawk.kql.functions.registry import AnyArg, Bool, Long, NumberArg, Same, Sql, window
from trailhawk.kql.types import KqlType


def over(function: Sql, *, running: bool = False, within: Sql | None = None) -> exp.Window:
    """The function over the rows in order; `running` goes up to the row itself, `within` parts the rows."""
    frame = exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW")
    partition = [] if within is None else [within]
    return exp.Window(this=function, spec=frame if running else None, partition_by=partition)


def _count(test: Sql) -> Sql:
    """How many rows up to this one pass a test."""
    return over(exp.Sum(this=sql.cast(sql.coalesce(test, exp.false()), KqlType.INT)), running=True)


def _part(restart: Sql | None) -> Sql | None:
    """The number of the part that a row belongs to, where `restart` begins a new one."""
    return None if restart is None else _count(restart)


@window()
def row_number(start: Long | None = None, restart: Bool | None = None) -> Long:
    """The row's number in order, counted from 1 or from `start`; anew where `restart` is true."""
    number = over(sql.call("row_number"), within=_part(restart))
    if start is None:
        return number
    return sql.binary(exp.Sub, sql.binary(exp.Add, number, start), sql.literal(1))


@window()
def row_cumsum(term: NumberArg, restart: Bool | None = None) -> Same:
    """The sum of the term up to this row; anew where `restart` is true."""
    known = sql.coalesce(term.sql, sql.literal(0))
    total = over(exp.Sum(this=known), running=True, within=_part(restart))
    if term.type in (KqlType.INT, KqlType.LONG):
        return low_bits(total) if term.type is KqlType.INT else sql.lower_bits(total)
    return total if term.type is KqlType.DECIMAL else sql.cast(total, term.type)


def _begins(term: Sql, restart: Sql | None) -> Sql:
    """Does the row differ in the term from the one before it, or is it the first?"""
    before = over(sql.call("lag", term), within=_part(restart))
    first = sql.binary(exp.EQ, over(sql.call("row_number"), within=_part(_copy(restart))), sql.literal(1))
    return sql.any_of(first, sql.binary(exp.NullSafeNEQ, term.copy(), before))


def _copy(tree: Sql | None) -> Sql | None:
    return None if tree is None else tree.copy()


@window()
def row_rank_dense(term: AnyArg, restart: Bool | None = None) -> Long:
    """How many different terms there were up to this row; anew where `restart` is true."""
    begins = sql.cast(_begins(term.sql, restart), KqlType.INT)
    return sql.cast(over(exp.Sum(this=begins), running=True, within=_part(_copy(restart))), KqlType.LONG)


@window()
def row_rank_min(term: AnyArg, restart: Bool | None = None) -> Long:
    """The number of the first row with this row's term; anew where `restart` is true."""
    number = over(sql.call("row_number"), within=_part(restart))
    first = sql.case((_begins(term.sql, _copy(restart)), number), otherwise=exp.Null())
    return over(exp.Max(this=first), running=True, within=_part(_copy(restart)))


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
