"""Exceptions: result rows that a rule is to pass over, for a reason and until a day.

An exception is one KQL predicate over the columns of a rule's result. A window that ends before `until`
leaves the rows out that satisfy it, whenever the window is run; so a replay gives what the schedule gave. An
exception is never changed: it is made and removed, and both are kept with who did it and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from trailhawk.detect.rule import Rule, RuleKind
from trailhawk.detect.run import Left, Taken
from trailhawk.detect.schedule import Window
from trailhawk.detect.store import Moment, make_tables, metadata, reading, taken_table
from trailhawk.engine.result import Result
from trailhawk.errors import (
    BindingError,
    NotFoundError,
    QueryError,
    Span,
    TrailhawkError,
    UnsupportedError,
    UsageError,
)
from trailhawk.kql import syntax
from trailhawk.kql.parser import parse
from trailhawk.kql.plan import Expr, Filter, InQuery, Node, Project, ScalarQuery, Scan, walk
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.engine.reading import Files
    from trailhawk.kql.compiler import Compiled
    from trailhawk.kql.plan import Need
    from trailhawk.kql.stored import Functions
    from trailhawk.lake.table import DataFile, Found

EVERY_RULE: Final = "*"
MAX_WHERE, MAX_REASON = 10_000, 2_000
"""Characters."""

_ROWS: Final = "Rows"
_BEFORE, _AFTER = f"{_ROWS} | where (\n", "\n)"

_exceptions = sa.Table(
    "rule_exceptions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("rule_id", sa.String, nullable=False, index=True),
    sa.Column("rule_name", sa.String, nullable=False),
    sa.Column("where", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("until", Moment, nullable=False),
    sa.Column("made_at", Moment, nullable=False),
    sa.Column("made_by", sa.String, nullable=False),
    sa.Column("removed_at", Moment),
    sa.Column("removed_by", sa.String, nullable=False),
    sa.Column("removed_why", sa.String, nullable=False),
    sqlite_autoincrement=True,
)


class ExceptionState(Enum):
    """`expired`: windows that end from now on are not touched any more."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class RuleException:
    """An exception as it stands. `rule_id` is '*' where it is of every rule that has its columns."""

    id: int
    rule_id: str
    rule_name: str
    where: str
    reason: str
    until: datetime
    made_at: datetime
    made_by: str
    removed_at: datetime | None = None
    removed_by: str = ""
    removed_why: str = ""

    def state(self, now: datetime) -> ExceptionState:
        if self.removed_at is not None:
            return ExceptionState.REMOVED
        return ExceptionState.ACTIVE if now < self.until else ExceptionState.EXPIRED

    def is_of(self, rule: Rule) -> bool:
        return self.rule_id in (rule.id, EVERY_RULE)


@dataclass(frozen=True, slots=True)
class Count:
    """What an exception took: rows, in how many windows, and T of the last of them.

    `error` is the newest reason why it could not be applied to a window; its rows were alerted on then.
    """

    rows: int = 0
    windows: int = 0
    last: datetime | None = None
    error: str = ""


class ExceptionStore:
    """The exceptions in the state database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        make_tables(engine, [_exceptions, taken_table])

    def add(self, draft: RuleException) -> RuleException:
        """Store an exception that was drafted (see `draft`); with its number."""
        values = {
            "rule_id": draft.rule_id,
            "rule_name": draft.rule_name,
            "where": draft.where,
            "reason": draft.reason,
            "until": draft.until,
            "made_at": draft.made_at,
            "made_by": draft.made_by,
            "removed_by": "",
            "removed_why": "",
        }
        with self._engine.begin() as connection:
            added = connection.execute(sa.insert(_exceptions).values(**values))
        key = added.inserted_primary_key
        assert key is not None  # an insert of one row has one
        return replace(draft, id=key[0])

    def remove(self, number: int, *, now: datetime, by: str, why: str = "") -> RuleException:
        """Take an exception out of use; it stays in the history. NotFoundError where there is none in use."""
        with self._engine.begin() as connection:
            done = connection.execute(
                sa.update(_exceptions)
                .where(_exceptions.c.id == number, _exceptions.c.removed_at.is_(None))
                .values(removed_at=now, removed_by=by, removed_why=why)
            )
        if not done.rowcount:
            raise NotFoundError(
                f"no exception {number} in use", hint="'trailhawk rules exceptions list' shows them"
            )
        return self.exception(number)

    def exception(self, number: int) -> RuleException:
        """The exception of this number; NotFoundError when there is none."""
        found = self._read(sa.select(_exceptions).where(_exceptions.c.id == number))
        if not found:
            raise NotFoundError(f"no exception {number}")
        return found[0]

    def all(self, *, removed: bool = False) -> tuple[RuleException, ...]:
        """Those in use, expired ones too, oldest first; with `removed` those that were removed as well."""
        query = sa.select(_exceptions).order_by(_exceptions.c.id)
        return self._read(query if removed else query.where(_exceptions.c.removed_at.is_(None)))

    def of(self, rule: Rule) -> tuple[RuleException, ...]:
        """The exceptions in use of this rule, with those of every rule."""
        return tuple(each for each in self.all() if each.is_of(rule))

    def counts(self, *, rule_id: str | None = None) -> dict[int, Count]:
        """What each exception took, of all rules or of one; none for one that has taken nothing."""
        table = taken_table.c
        query = sa.select(
            table.exception_id,
            sa.func.sum(table.rows),
            sa.func.sum(sa.case((table.rows > 0, 1), else_=0)),
            sa.func.max(sa.case((table.rows > 0, table.at))),
        ).group_by(table.exception_id)
        errors = sa.select(table.exception_id, table.error).where(table.error != "").order_by(table.at)
        if rule_id is not None:
            query, errors = query.where(table.rule_id == rule_id), errors.where(table.rule_id == rule_id)
        with self._reading() as connection:
            reasons = {row.exception_id: str(row.error) for row in connection.execute(errors)}
            return {
                number: Count(int(rows), int(windows), last, reasons.get(number, ""))
                for number, rows, windows, last in connection.execute(query)
            }

    def _reading(self) -> AbstractContextManager[sa.Connection]:
        return reading(self._engine)

    def _read(self, query: sa.Select[tuple[object, ...]]) -> tuple[RuleException, ...]:
        with self._reading() as connection:
            return tuple(RuleException(**row._mapping) for row in connection.execute(query))


# --- making one --------------------------------------------------------------------------------------------


Columns = Callable[[Rule], Sequence[Column]]
"""The columns of a rule's result; raises QueryError for a query that does not compile."""


def draft(
    rules: Sequence[Rule],
    where: str,
    *,
    columns: Columns,
    until: datetime,
    reason: str,
    now: datetime,
    by: str,
    every: bool = False,
    functions: Functions | None = None,
) -> tuple[RuleException, tuple[Rule, ...]]:
    """An exception ready to be stored, and the rules that it is of.

    `rules` is the one rule, or with `every` all of them: the exception is of those that have its columns.
    Raises QueryError with the place in `where`, UsageError for a day that is past or a text that is missing.
    """
    where, reason = where.strip(), reason.strip()
    if not reason:
        raise UsageError("an exception needs a reason", hint="--reason 'who agreed, and why'")
    for name, text, most in (("--where", where, MAX_WHERE), ("--reason", reason, MAX_REASON)):
        if len(text) > most:
            raise UsageError(f"{name} is longer than {most:,} characters")
    if until <= now:
        raise UsageError(
            f"--until {until:%Y-%m-%d} is past", hint="give a day on which it is looked at again"
        )
    if any(rule.kind is RuleKind.HUNTING for rule in rules) and not every:
        raise UsageError("a hunt has no exceptions", hint="they are of rules, which raise alerts")
    chosen: list[Rule] = []
    error: QueryError | None = None
    for rule in rules:
        try:
            predicate(where, columns(rule), now=now, functions=functions)
        except BindingError as found:
            error = error or found
            if not every:
                raise
        except QueryError:
            if not every or not _is_predicate(where):
                raise
        else:
            chosen.append(rule)
    if every and not chosen:
        raise UsageError(
            "no rule has the columns of this exception",
            hint=error.render(where).split("\n", 1)[0] if error else "there is no rule",
        )
    rule_id, name = (EVERY_RULE, EVERY_RULE) if every else (rules[0].id, rules[0].name)
    return RuleException(0, rule_id, name, where, reason, until, now, by), tuple(chosen)


def _is_predicate(where: str) -> bool:
    """Whether the text is a predicate, so that an error is of the rule."""
    _checked(where)
    return True


def predicate(
    where: str, columns: Iterable[Column], *, now: datetime, functions: Functions | None = None
) -> Compiled:
    """The query `Rows | where (...)` over a table of these columns; its text can do nothing else.

    Raises QueryError with the place in `where`.
    """
    from trailhawk.kql.compiler import compile_query  # not for those who only list rules

    _checked(where)
    try:
        compiled = compile_query(
            f"{_BEFORE}{where}{_AFTER}", _OneTable(_table(columns)), now=now, functions=functions
        )
    except QueryError as error:
        raise _placed(error, where) from None
    _only_rows(compiled.plan, where)
    return compiled


def _checked(where: str) -> None:
    """Refuse a text that is more than one predicate, whatever parentheses, pipes or comments it holds."""
    try:
        query = parse(f"{_BEFORE}{where}{_AFTER}")
    except QueryError as error:
        raise _placed(error, where) from None
    match query.statements:
        case (syntax.ExpressionStatement(value=syntax.Pipe(operators=(syntax.Where(),))),):
            return
    raise UnsupportedError(
        "more than a predicate in an exception",
        Span(0, len(where)),
        hint="write what stands after `where`, such as: SourceIpAddress == '203.0.113.66'",
    )


def _only_rows(plan: Node, where: str) -> None:
    """Refuse a query inside the predicate: an exception looks at one row of the result."""
    while not isinstance(plan, Scan):
        values: Sequence[Expr] = ()
        match plan:
            case Filter():
                values = (plan.predicate,)
            case Project():
                values = plan.values
            case _:
                raise _inner(where)
        if any(isinstance(part, ScalarQuery | InQuery) for value in values for part in walk(value)):
            raise _inner(where)
        plan = plan.input


def _inner(where: str) -> UnsupportedError:
    return UnsupportedError(
        "a query inside of an exception", Span(0, len(where)), hint="it looks at one row of the result"
    )


def _placed(error: QueryError, where: str) -> QueryError:
    """The error with its place in the predicate alone."""
    if error.span is None:
        return error
    start, end = (min(max(at - len(_BEFORE), 0), len(where)) for at in (error.span.start, error.span.end))
    return error.again(Span(start, end))


# --- applying them -----------------------------------------------------------------------------------------


class Exceptions:
    """Exceptions as runs apply them: `now` is no argument, a window's own end decides."""

    def __init__(self, exceptions: Iterable[RuleException], engine: DuckDBEngine) -> None:
        self.all = tuple(each for each in exceptions if each.removed_at is None)
        self._engine = engine

    def __bool__(self) -> bool:
        return bool(self.all)

    def __call__(self, rule: Rule, window: Window, result: Result) -> Left:
        """The rows that are left of a window's result, and what each exception took: the oldest takes first.

        One that cannot be applied takes nothing, and its error is told.
        """
        import pyarrow as pa

        taken: list[Taken] = []
        places = list(range(result.table.num_rows))
        left = result
        for each in self.all:
            if not places:
                break
            if not each.is_of(rule) or window.at >= each.until:
                continue
            found = self._take(each, left, window.at)
            if found.error:
                taken.append(found)
            elif found.places:
                taken.append(replace(found, places=tuple(places[at] for at in found.places)))
                gone = set(found.places)
                kept = [at for at in range(len(places)) if at not in gone]
                places = [places[at] for at in kept]
                left = replace(left, table=left.table.take(pa.array(kept, pa.int64())))
        return Left(left, tuple(taken))

    def _take(self, each: RuleException, result: Result, now: datetime) -> Taken:
        try:
            places = _places(each.where, result, self._engine, now)
        except BindingError as error:
            if each.rule_id == EVERY_RULE:
                return Taken(each.id)  # a rule without its columns is none of its rules
            return Taken(each.id, error=error.render(each.where).split("\n", 1)[0])
        except TrailhawkError as error:
            return Taken(each.id, error=f"{error.kind}: {error.message}")
        return Taken(each.id, places)


def _places(where: str, result: Result, engine: DuckDBEngine, now: datetime) -> tuple[int, ...]:
    """The places of the rows that satisfy the predicate."""
    import pyarrow as pa

    from trailhawk.kql.compiler import compile_query
    from trailhawk.kql.lower import column_name
    from trailhawk.lake.table import arrow_type

    columns = _once(result.columns)
    number = "Place"
    while any(column.name.lower() == number.lower() for _, column in columns):
        number += "_"
    # The place stands in the same table under a name that no column has.
    arrays = [result.table.column(place).cast(arrow_type(column.type)) for place, column in columns]
    held = pa.table(
        [*arrays, pa.array(range(result.table.num_rows), pa.int64())],
        names=[*(column.name for _, column in columns), number],
    )
    table = _table([*(column for _, column in columns), Column(number, KqlType.LONG)])
    _checked(where)
    compiled = compile_query(
        f"{_BEFORE}{where}{_AFTER} | project {number}", _OneTable(table), now=now, functions=engine.functions
    )
    _only_rows(compiled.plan, where)
    found = engine.over(_OneTable(table)).holding({_ROWS: held}).rows(compiled.plan)
    return tuple(sorted(found[column_name(compiled.columns[0].id)].to_pylist()))


def _once(columns: Iterable[Column]) -> list[tuple[int, Column]]:
    """The columns with their places; of two whose names differ in case at most the first."""
    found: dict[str, tuple[int, Column]] = {}
    for place, column in enumerate(columns):
        found.setdefault(column.name.lower(), (place, column))
    return list(found.values())


def _table(columns: Iterable[Column]) -> Table:
    return Table(_ROWS, tuple(column for _, column in _once(columns)), time_column="")


class _OneTable:
    """A catalog of the result's rows and of nothing else."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def table(self, name: str) -> Table | None:
        return self._table if name == _ROWS else None

    def table_names(self) -> tuple[str, ...]:
        return (_ROWS,)

    def snapshot(self, name: str) -> Files:
        return self

    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[DataFile, ...]:
        return ()

    def look(self, files: Sequence[DataFile], need: Need) -> Found:
        from trailhawk.lake.table import Found

        return Found(())
