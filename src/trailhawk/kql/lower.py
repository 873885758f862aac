"""Plan to SQL: a chain of common table expressions, one tree at a time, columns named c<id>.

`scan` gives the SQL text of a table's rows; everything else is written here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from trailhawk.errors import LimitError, QueryError
from trailhawk.kql.functions import sql
from trailhawk.kql.functions.conversion import DYNAMIC_TEXT
from trailhawk.kql.functions.dynamic import PARSE_JSON, range_places
from trailhawk.kql.functions.operators import same
from trailhawk.kql.functions.registry import NOT_CONSTANT, Arg, Overload
from trailhawk.kql.passes import read_apart, shared_plans
from trailhawk.kql.plan import (
    Aggregate,
    AggregateCall,
    Apply,
    Call,
    ColumnRef,
    Const,
    Expr,
    Filter,
    InQuery,
    Join,
    JoinKind,
    Limit,
    Node,
    OutColumn,
    PathExpr,
    Place,
    Project,
    ScalarQuery,
    Scan,
    Shared,
    Sort,
    SortKey,
    Union,
    Unnest,
    Values,
    Window,
    references,
)
from trailhawk.kql.schema import json_path
from trailhawk.kql.types import KqlType

ScanSql = Callable[[Scan], str]
ApplyRows = Callable[[Apply, tuple[str, ...]], str]
"""Runs an Apply over the SQL of each of its inputs; gives the name of a relation with its rows."""
_ONCE, _AGAIN = "MATERIALIZED ", "NOT MATERIALIZED "
"""What DuckDB is told of a query with a name: to keep its rows, or to read them again for each use."""
_T = KqlType
_DIALECT = DuckDB()


def column_name(id_: int) -> str:
    """The SQL name of a column; promoted columns have negative ids."""
    return f"c{id_}" if id_ >= 0 else f"p{-id_}"


def lower(
    plan: Node, scan: ScanSql, apply: ApplyRows, *, is_large: Callable[[Scan], bool] = lambda scan: False
) -> str:
    """The SQL of an optimized plan; result columns are named by `column_name`, in the plan's order.

    `is_large` tells scans whose rows are rather read twice than kept.
    """
    try:
        plans = shared_plans(plan)
        lowering = _Lowering(scan, apply, plans, read_apart(plan, plans, is_large))
        return lowering.statement(lowering.relation(plan), plan.columns)
    except RecursionError:
        raise LimitError("the query nests too deep", hint="split it with let statements") from None


def _from(source: str) -> exp.From:
    return exp.From(this=exp.Table(this=exp.to_identifier(source)))  # to_table() would parse the name


def _text(tree: exp.Expr) -> str:
    return str(_DIALECT.generate(tree, copy=False))


@dataclass
class _Relation:
    """A SELECT being built: where it reads, what each column is there, filters, order and limit."""

    source: str
    columns: dict[int, exp.Expr]
    where: list[exp.Expr] = field(default_factory=list)
    order: list[exp.Ordered] = field(default_factory=list)
    limit: exp.Expr | None = None

    @property
    def is_plain(self) -> bool:
        return self.limit is None and all(
            isinstance(item, exp.Column | exp.Literal | exp.Cast) or sql.is_promoted(item)
            for item in self.columns.values()
        )


class _Lowering:
    def __init__(self, scan: ScanSql, apply: ApplyRows, plans: dict[int, Node], apart: set[int]) -> None:
        self.scan = scan
        self.apply = apply
        self.plans = plans
        self.apart = apart
        self.ctes: list[tuple[str, str, str]] = []
        self.shared: dict[int, str] = {}
        self.queries = 0

    # --- relations -----------------------------------------------------------------------------------------

    def relation(self, node: Node) -> _Relation:
        match node:
            case Scan():
                table = self._table(self._cte(self.scan(node)), [column.id for column in node.columns])
                for id_ in table.columns:
                    if id_ < 0:  # a promoted path is NULL where it is absent, and a string is never null
                        table.columns[id_] = sql.promoted(table.columns[id_])
                return table
            case Values():
                return self._values(node)
            case Filter():
                below = self._ready(self.relation(node.input))
                below.where.append(self.condition(node.predicate, below.columns))
                return below
            case Project():
                return self._project(node)
            case Aggregate():
                return self._aggregate(node)
            case Sort():
                below = self._ready(self.relation(node.input))
                below.order = [item for key in node.keys for item in self._ordered(key, below.columns)]
                return below
            case Limit():
                below = self.relation(node.input)
                if below.limit is not None:
                    below = self._stage(below)
                below.limit = self._count(node.count)
                return below
            case Join():
                return self._join(node)
            case Union():
                return self._union(node)
            case Unnest():
                return self._unnest(node)
            case Window():
                return self._window(node)
            case Shared():
                return self._shared(node)
            case Apply():
                return self._apply(node)
        raise AssertionError(type(node))

    def statement(self, relation: _Relation, columns: Sequence[OutColumn]) -> str:
        """The whole SQL of a relation: what it rests on, then these columns, dynamic ones as text."""
        dynamic = {column.id for column in columns if column.type is _T.DYNAMIC}
        select = self.select(relation, [column.id for column in columns], as_text=dynamic)
        ctes = ", ".join(f"{name} AS {hint}({text})" for name, hint, text in self.ctes)
        return (f"WITH {ctes} " if ctes else "") + _text(select)

    def _apply(self, node: Apply) -> _Relation:
        inputs = tuple(
            self.statement(self.relation(item), given)
            for item, given in zip(node.inputs, node.given, strict=True)
        )
        name = self.apply(node, inputs)
        items = ", ".join(
            f"CAST({column_name(c.id)} AS JSON) AS {column_name(c.id)}"
            if c.type is _T.DYNAMIC
            else column_name(c.id)
            for c in node.columns
        )
        return self._table(self._cte(f"SELECT {items or '1'} FROM {name}"), [c.id for c in node.columns])

    def _cte(self, text: str, hint: str = "") -> str:
        name = f"q{len(self.ctes)}"
        self.ctes.append((name, hint, text))
        return name

    def _table(self, source: str, ids: list[int]) -> _Relation:
        return _Relation(source, {id_: exp.column(column_name(id_)) for id_ in ids})

    def select(self, relation: _Relation, ids: list[int], *, as_text: Collection[int] = ()) -> exp.Select:
        """The SELECT of a relation with these columns, in this order; those in `as_text` as text."""
        items: list[exp.Expr] = []
        for id_ in ids:
            value = sql.copied(relation.columns[id_])
            if id_ in as_text:
                value = sql.cast(value, _T.STRING)
            items.append(exp.alias_(value, column_name(id_), copy=False))
        select = exp.Select(expressions=items or [exp.Literal.number(1)])
        select.set("from_", _from(relation.source))
        if relation.where:
            select.set("where", exp.Where(this=sql.all_of(*map(sql.copied, relation.where))))
        if relation.order:
            select.set("order", exp.Order(expressions=[*map(sql.copied, relation.order)]))
        if relation.limit is not None:
            select.set("limit", exp.Limit(expression=sql.copied(relation.limit)))
        return select

    def _stage(self, relation: _Relation) -> _Relation:
        """The relation as a CTE of its own; an order without a limit goes on above it."""
        ids = list(relation.columns)
        select = self.select(relation, ids)
        carried: list[exp.Ordered] = []
        for place, key in enumerate(relation.order):
            name = f"o{len(self.ctes)}_{place}"
            select.append("expressions", exp.alias_(key.this.copy(), name, copy=False))
            carried.append(
                exp.Ordered(
                    this=exp.column(name), desc=key.args.get("desc"), nulls_first=key.args.get("nulls_first")
                )
            )
        if relation.limit is None:
            select.set("order", None)
        staged = self._table(self._cte(_text(select)), ids)
        staged.order = carried
        return staged

    def _ready(self, relation: _Relation) -> _Relation:
        """A relation whose columns are cheap to name again and that has no limit yet."""
        return relation if relation.is_plain else self._stage(relation)

    def _values(self, node: Values) -> _Relation:
        ids = [column.id for column in node.columns]
        rows = node.rows or (tuple(Const(column.type, None) for column in node.columns),)
        lines = [", ".join(_text(self.constant(value)) for value in row) for row in rows]
        names = ", ".join(column_name(id_) for id_ in ids)
        text = f"SELECT {names} FROM (VALUES {', '.join(f'({line})' for line in lines)}) AS v({names})"
        return self._table(self._cte(text if node.rows else f"{text} WHERE FALSE"), ids)

    def _project(self, node: Project) -> _Relation:
        below = self._ready(self.relation(node.input))
        columns = {
            column.id: self.expression(value, below.columns)
            for column, value in zip(node.columns, node.values, strict=True)
        }
        return _Relation(below.source, columns, below.where, below.order, below.limit)

    def _count(self, count: int | Expr) -> exp.Expr:
        """A number of rows as LIMIT takes it: a computed one stands in a query."""
        if isinstance(count, int):
            return sql.literal(count)
        most = sql.call("greatest", self.expression(count, {}), 0)  # which passes over null
        return exp.Subquery(this=exp.Select(expressions=[most]))

    def _ordered(self, key: SortKey, columns: dict[int, exp.Expr]) -> list[exp.Ordered]:
        value = self.expression(key.value, columns)
        if isinstance(value, exp.Literal | exp.Boolean):  # The same in every row, and refused by the engine.
            return []
        order = exp.Ordered(this=value, desc=key.descending, nulls_first=key.nulls_first)
        if key.value.type is not KqlType.REAL:
            return [order]
        # NaN stands beside the nulls, at whichever end they are; the engine has it above all numbers.
        no_number = exp.Ordered(
            this=sql.call("isnan", value.copy()), desc=key.nulls_first, nulls_first=key.nulls_first
        )
        return [no_number, order]

    def _aggregate(self, node: Aggregate) -> _Relation:
        below = self._ready(self.relation(node.input))
        items: list[exp.Expr] = []
        groups: list[exp.Expr] = []
        for place, (column, key) in enumerate(zip(node.columns, node.keys, strict=False), start=1):
            items.append(exp.alias_(self.expression(key, below.columns), column_name(column.id), copy=False))
            groups.append(exp.Literal.number(place))
        for column, call in zip(node.columns[len(node.keys) :], node.aggregates, strict=True):
            value = self.aggregate(call, below)
            items.append(exp.alias_(value, column_name(column.id), copy=False))
        # One row without keys, even where no aggregate is read.
        select = exp.Select(expressions=items or [exp.Count(this=exp.Star())])
        select.set("from_", _from(below.source))
        if below.where:
            select.set("where", exp.Where(this=sql.all_of(*below.where)))
        if groups:
            select.set("group", exp.Group(expressions=groups))
        return self._table(self._cte(_text(select)), [column.id for column in node.columns])

    def aggregate(self, call: AggregateCall, below: _Relation) -> exp.Expr:
        args = [self._arg(arg, below.columns) for arg in call.args]
        tree = _written(call.function.overload, args, call.place)
        if call.function.keeps_order and below.order:
            for gathered in list(tree.find_all(exp.Anonymous)):
                if gathered.name == "list":
                    value = gathered.expressions[0]
                    order = exp.Order(this=value.copy(), expressions=[item.copy() for item in below.order])
                    gathered.set("expressions", [order])
        return tree

    def _join(self, node: Join) -> _Relation:
        left, right = self._stage(self.relation(node.left)), self._stage(self.relation(node.right))
        # A null key meets a null key; a text is never null, and plainly equal is sooner told.
        pairs = [
            sql.binary(
                exp.EQ if _T.STRING in (a.type, b.type) else exp.NullSafeEQ,
                self.expression(a, left.columns),
                self.expression(b, right.columns),
            )
            for a, b in node.keys
        ]
        on = sql.all_of(*pairs)
        source = left.source
        if node.kind is JoinKind.INNER_UNIQUE:
            source = self._first_rows(left, [self.expression(a, left.columns) for a, _ in node.keys])
        ids = [column.id for column in node.columns]
        words = {
            JoinKind.INNER: "JOIN",
            JoinKind.INNER_UNIQUE: "JOIN",
            JoinKind.LEFT_OUTER: "LEFT JOIN",
            JoinKind.RIGHT_OUTER: "RIGHT JOIN",
            JoinKind.FULL_OUTER: "FULL JOIN",
            JoinKind.LEFT_SEMI: "SEMI JOIN",
            JoinKind.LEFT_ANTI: "ANTI JOIN",
        }
        other = right.source
        if node.kind in (JoinKind.RIGHT_SEMI, JoinKind.RIGHT_ANTI):
            source, other = other, source
            word = "SEMI JOIN" if node.kind is JoinKind.RIGHT_SEMI else "ANTI JOIN"
        else:
            word = words[node.kind]
        # Rows without a partner bring NULL; a string is never null.
        nullable: set[int] = set()
        if node.kind in (JoinKind.LEFT_OUTER, JoinKind.FULL_OUTER):
            nullable |= {column.id for column in node.right.columns}
        if node.kind in (JoinKind.RIGHT_OUTER, JoinKind.FULL_OUTER):
            nullable |= {column.id for column in node.left.columns}
        shown = []
        for column in node.columns:
            name = column_name(column.id)
            text = f"COALESCE({name}, '')" if column.id in nullable and column.type is _T.STRING else name
            shown.append(f"{text} AS {name}")
        text = f"SELECT {', '.join(shown) or '1'} FROM {source} {word} {other} ON {_text(on)}"
        return self._table(self._cte(text), ids)

    def _first_rows(self, relation: _Relation, keys: list[exp.Expr]) -> str:
        """The first row of each key, in the rows' order or as they are stored: two runs keep the same row."""
        ordered = sql.call("row_number")
        over = exp.Order(expressions=[*map(sql.copied, relation.order)]) if relation.order else None
        place = _text(exp.Window(this=ordered, order=over))
        numbered = self._cte(f"SELECT *, {place} AS th_place FROM {relation.source}")
        parts = ", ".join(map(_text, keys))
        first = f"row_number() OVER (PARTITION BY {parts} ORDER BY th_place) = 1"
        return self._cte(f"SELECT * EXCLUDE (th_place) FROM {numbered} QUALIFY {first}")

    def _union(self, node: Union) -> _Relation:
        ids = [column.id for column in node.columns]
        parts = []
        for item, row in zip(node.inputs, node.values, strict=True):
            below = self._ready(self.relation(item))
            columns = {
                column.id: self.expression(value, below.columns)
                for column, value in zip(node.columns, row, strict=True)
            }
            parts.append(_text(self.select(_Relation(below.source, columns, below.where), ids)))
        return self._table(self._cte(" UNION ALL ".join(parts)), ids)

    def _unnest(self, node: Unnest) -> _Relation:
        below = self._ready(self.relation(node.input))
        ids = [column.id for column in node.input.columns]
        select = self.select(_Relation(below.source, below.columns, below.where), ids)
        places = _places(node)
        if places is not None:
            # As a list they would all be in memory at once, and computed before the engine's limits hold.
            names = "".join(f"below.{column_name(id_)}, " for id_ in ids)
            fresh_name = column_name(node.columns[-1].id)
            table = f"range(0, {places}) AS places, ({_text(select)}) AS below"
            text = f"SELECT {names}places.range AS {fresh_name} FROM {table}"
            return self._table(self._cte(text), [column.id for column in node.columns])
        if not ids:
            select.set("expressions", [])
        lists = [self.expression(item, below.columns) for item in node.lists]
        fresh = [column.id for column in node.columns[len(ids) :]]
        if node.index:
            sizes = [sql.call("coalesce", sql.call("len", item.copy()), 0) for item in lists]
            lists.append(sql.call("range", 0, sql.cast(sql.call("greatest", *sizes), _T.LONG)))
        for id_, item in zip(fresh, lists, strict=True):
            select.append("expressions", exp.alias_(sql.call("unnest", item), column_name(id_), copy=False))
        return self._table(self._cte(_text(select)), [*ids, *fresh])

    def _window(self, node: Window) -> _Relation:
        """Each window function over the rows' numbers, so that all see rows of equal keys in one order."""
        below = self._stage(self.relation(node.input))
        number = exp.Window(this=sql.call("row_number"))
        if below.order:
            number.set("order", exp.Order(expressions=[item.copy() for item in below.order]))
        extra = itertools.count(1 + max(column.id for column in node.columns))
        place = next(extra)
        rows = self._stage(_Relation(below.source, {**below.columns, place: number}, [], below.order))
        fresh = [column.id for column in node.columns[len(node.input.columns) :]]
        waiting: set[int] = set()
        for id_, call in zip(fresh, node.calls, strict=True):
            if waiting & {read for arg in call.args for read in references(arg)}:
                rows, waiting = self._stage(rows), set()
            args = [self._arg(arg, rows.columns) for arg in call.args]
            tree = _written(call.function.overload, args, call.place)
            partition = [self.expression(key, rows.columns) for key in call.partition]
            while inner := _inner_windows(tree):
                names = [next(extra) for _ in inner]
                for name, window in zip(names, inner, strict=True):
                    rows.columns[name] = _over(window.copy(), rows.columns[place], partition)
                    window.replace(exp.column(column_name(name)))
                rows, waiting = self._stage(rows), set()
            rows.columns[id_] = _over(tree, rows.columns[place], partition)
            waiting.add(id_)
        kept = {column.id: rows.columns[column.id] for column in node.columns}
        order = [exp.Ordered(this=rows.columns[place].copy())] if below.order else []
        return self._stage(_Relation(rows.source, kept, [], order))

    def _shared(self, node: Shared) -> _Relation:
        if node.key not in self.shared:
            plan, first = self.plans[node.key], len(self.ctes)
            relation = self.relation(plan)
            select = self.select(relation, [column.id for column in plan.columns])
            apart = node.key in self.apart
            self.shared[node.key] = self._cte(_text(select), _AGAIN if apart else _ONCE)
            if apart:  # what it reads would be kept in its place
                self.ctes[first:] = [(name, _AGAIN, text) for name, _, text in self.ctes[first:]]
        columns: dict[int, exp.Expr] = {
            column.id: exp.column(column_name(source))
            for column, source in zip(node.columns, node.sources, strict=True)
        }
        return _Relation(self.shared[node.key], columns)

    # --- expressions ---------------------------------------------------------------------------------------

    def _arg(self, arg: Expr, columns: dict[int, exp.Expr]) -> Arg:
        value = arg.value if isinstance(arg, Const) else NOT_CONSTANT
        return Arg(self.expression(arg, columns), arg.type, value)

    def expression(self, expr: Expr, columns: dict[int, exp.Expr]) -> exp.Expr:
        """The SQL of an expression over these columns."""
        match expr:
            case ColumnRef():
                return sql.copied(columns[expr.id])
            case Const():
                return self.constant(expr)
            case Call(overload=overload, args=(PathExpr() as path,)) if overload is DYNAMIC_TEXT:
                return self._part(path, columns) or sql.text(self._path(path, columns, as_text=True))
            case Call():
                queries = self.queries
                args = [self._arg(arg, columns) for arg in expr.args]
                tree = _written(expr.overload, args, expr.place)
                if self.queries > queries and _has_query_in_function(tree):
                    return _with_queries_outside(expr, args)
                return tree
            case PathExpr():
                return self._path(expr, columns, as_text=False)
            case ScalarQuery():
                self.queries += 1
                below = self.relation(expr.plan)
                select = self.select(below, [expr.plan.columns[0].id])
                if below.limit is None:
                    select.set("limit", exp.Limit(expression=exp.Literal.number(1)))
                query = exp.Subquery(this=select)
                return sql.text(query) if expr.type is _T.STRING else query
            case InQuery():
                return self._in_query(expr, columns)
        raise AssertionError(type(expr))

    def condition(self, expr: Expr, columns: dict[int, exp.Expr]) -> exp.Expr:
        """A filter's predicate. Null is as good as false there: equality stays plain and is pushed down."""
        if isinstance(expr, Call) and expr.overload.name in ("and", "or"):
            return expr.overload.sql([Arg(self.condition(arg, columns), _T.BOOL) for arg in expr.args])
        if isinstance(expr, Call) and expr.overload.name == "==":
            left, right = (self._arg(arg, columns) for arg in expr.args)
            return same(sql.binary(exp.EQ, _bare(left.sql, [right.sql]), right.sql), left, [right])
        if isinstance(expr, Call) and expr.overload.name == "in":
            value, *items = (self._arg(arg, columns) for arg in expr.args)
            listed = [item.sql for item in items]
            return same(exp.In(this=_bare(value.sql, listed), expressions=listed), value, items)
        tree = self.expression(expr, columns)
        if (
            isinstance(tree, exp.NEQ)
            and sql.is_promoted(tree.this)
            and sql.string_value(tree.expression) == ""
        ):
            return exp.NEQ(this=tree.this.this, expression=tree.expression)  # null is as good as empty
        return tree

    def _in_query(self, expr: InQuery, columns: dict[int, exp.Expr]) -> exp.Expr:
        self.queries += 1
        below = self._stage(self.relation(expr.plan))
        column = below.columns[expr.plan.columns[0].id]
        item = sql.lower(column.copy()) if expr.fold_case else column.copy()
        value = self.expression(expr.value, columns)
        query = exp.Select(expressions=[item])
        query.set("from_", _from(below.source))
        query.set("where", exp.Where(this=sql.negate(sql.is_null(column.copy()))))
        found = exp.In(this=sql.lower(value) if expr.fold_case else value, query=exp.Subquery(this=query))
        total = sql.coalesce(found, exp.false())
        return sql.negate(total) if expr.negated else total

    def _path(self, expr: PathExpr, columns: dict[int, exp.Expr], *, as_text: bool) -> exp.Expr:
        """A path into JSON. Text that is not JSON raises in the engine, so it is read inside TRY."""
        path, steps = json_path(expr.steps), expr.base
        name = "json_extract_string" if as_text else "json_extract"
        if isinstance(steps, Call) and steps.overload is PARSE_JSON:
            text = sql.call("nullif", self.expression(steps.args[0], columns), "")
            return sql.call("try", sql.call(name, text, path))
        return sql.call(name, self.expression(steps, columns), path)

    def _part(self, expr: PathExpr, columns: dict[int, exp.Expr]) -> exp.Expr | None:
        """One part of a text split by a constant, as text: no array is made of all of them."""
        match expr:
            case PathExpr(base=Call(args=(text, Const(value=str() as by))) as split, steps=(int() as place,)):
                if split.overload.name == "split" and by and text.type is _T.STRING and abs(place) < 2**31:
                    number = place if place < 0 else place + 1
                    return sql.call("split_part", self.expression(text, columns), by, number)
        return None

    def constant(self, const: Const) -> exp.Expr:
        return sql.constant(const.value, const.type)


def _written(overload: Overload, args: list[Arg], place: Place) -> exp.Expr:
    """The SQL of a call; what the function has against its arguments is told with the call's place."""
    try:
        return overload.sql(args)
    except QueryError as error:
        if error.span is None:
            raise error.again(place.span) from None
        raise


def _bare(value: exp.Expr, others: Sequence[exp.Expr]) -> exp.Expr:
    """A promoted path as it is stored, where it is compared with texts that are not empty: the engine pushes
    that down to the file."""
    column = value.this
    if sql.is_promoted(value) and isinstance(column, exp.Column) and all(map(sql.string_value, others)):
        return column
    return value


def _has_query_in_function(tree: exp.Expr) -> bool:
    return any(function.find(exp.Subquery) is not None for function in tree.find_all(exp.Lambda))


def _with_queries_outside(call: Call, args: Sequence[Arg]) -> exp.Expr:
    """A call whose SQL has a function of items: DuckDB takes no query inside one, so that the arguments that
    hold a query are computed before it."""
    places = [place for place, arg in enumerate(args) if arg.sql.find(exp.Subquery) is not None]

    def body(row: exp.Expr) -> exp.Expr:
        given = list(args)
        for number, place in enumerate(places, 1):
            arg = args[place]
            given[place] = Arg(sql.call("struct_extract", row.copy(), number), arg.type, arg.value)
        return call.overload.sql(given)

    return sql.let(sql.call("row", *(args[place].sql for place in places)), "th_queries", body)


def _over(tree: exp.Expr, number: exp.Expr, partition: list[exp.Expr]) -> exp.Expr:
    """The tree of a window function with the rows' number as order, and the parts, in each OVER clause."""
    for window in tree.find_all(exp.Window):
        window.set("order", exp.Order(expressions=[exp.Ordered(this=number.copy())]))
        for key in partition:
            window.append("partition_by", key.copy())
    return tree


def _places(node: Unnest) -> int | None:
    """How many places a `range` of constants has; None of any other list."""
    match node:
        case Unnest(lists=(Call(args=(Const(value=float() as steps),)) as call,), index=False):
            # A bound that no number of rows ever reaches, so that every count is a long.
            is_range = call.overload is range_places.overloads[0] and math.isfinite(steps)
            return max(0, min(math.floor(steps) + 1, 2**62)) if is_range else None
    return None


def _inner_windows(tree: exp.Expr) -> list[exp.Window]:
    """The window functions that stand inside another one and have none inside themselves."""
    windows = list(tree.find_all(exp.Window))
    outer = {id(window.find_ancestor(exp.Window)) for window in windows}
    return [window for window in windows if window.find_ancestor(exp.Window) and id(window) not in outer]
