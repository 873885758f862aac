"""Syntax to plan: KQL's tabular operators rewritten into the plan's few nodes.

Result names and types follow Microsoft's parser; what is not bound yet is refused by name and place.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from trailhawk.errors import BindingError, LimitError, Span, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.functions import AGGREGATES, FUNCTIONS, WINDOWS
from trailhawk.kql.functions.aggregates import ROW_FUNCTIONS
from trailhawk.kql.functions.registry import widest
from trailhawk.kql.plan import (
    Aggregate,
    AggregateCall,
    Call,
    Chart,
    ColumnRef,
    Const,
    Expr,
    Filter,
    Join,
    JoinKind,
    Limit,
    Node,
    OutColumn,
    Project,
    Query,
    Scan,
    Shared,
    Sort,
    SortKey,
    Union,
    Unnest,
    Values,
    Window,
)
from trailhawk.kql.scalars import Collector, ScalarBinder
from trailhawk.kql.schema import HIDDEN_PREFIX, INGESTION_TIME, Catalog, Column, Table
from trailhawk.kql.scope import (
    Binding,
    Env,
    FunctionBinding,
    ScalarBinding,
    Scope,
    TableBinding,
    suggestion,
    visible,
)
from trailhawk.kql.types import KqlType

_T = KqlType
MAX_NODES = 5_000
"""Plan nodes in one query: functions and lets that call each other twice can grow without end."""
MAX_CALLS = 60

_DOTNET = {
    _T.BOOL: "System.SByte",
    _T.INT: "System.Int32",
    _T.LONG: "System.Int64",
    _T.REAL: "System.Double",
    _T.DECIMAL: "System.Data.SqlTypes.SqlDecimal",
    _T.STRING: "System.String",
    _T.DATETIME: "System.DateTime",
    _T.TIMESPAN: "System.TimeSpan",
    _T.GUID: "System.Guid",
    _T.DYNAMIC: "System.Object",
}
_JOIN_KINDS = {kind.value: kind for kind in JoinKind} | {
    "anti": JoinKind.LEFT_ANTI,
    "leftantisemi": JoinKind.LEFT_ANTI,
    "rightantisemi": JoinKind.RIGHT_ANTI,
}
_TABLE_FUNCTIONS = frozenset({"materialize", "table", "view"})


class Binder:
    """Binds one query; it holds the counter of column ids and the queries that are computed once.

    `now` is in ticks, `functions` are stored functions, `clip` bounds every table's time column: at least
    the first, before the second, in ticks.
    """

    def __init__(
        self,
        catalog: Catalog,
        now: int,
        functions: Mapping[str, syntax.Function],
        *,
        clip: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self.catalog = catalog
        self.clip = clip
        self.scalars = ScalarBinder(self, now)
        root = Env()
        self.root = Env({name: FunctionBinding(name, value, root) for name, value in functions.items()})
        self.ids = 0
        self.nodes = 0
        self.calls = 0
        self.chart: Chart | None = None
        self.shared: dict[tuple[int, int], tuple[int, Node]] = {}
        self.operators: dict[type[syntax.Operator], Callable[..., Node]] = {
            syntax.As: lambda node, op, env: node,
            syntax.Consume: lambda node, op, env: node,
            syntax.Count: self._count,
            syntax.Distinct: self._distinct,
            syntax.Extend: self._extend,
            syntax.GetSchema: self._getschema,
            syntax.Join: self._join,
            syntax.Lookup: self._lookup,
            syntax.MvExpand: self._mv_expand,
            syntax.Parse: self._parse,
            syntax.Project: self._project,
            syntax.ProjectAway: self._project_away,
            syntax.ProjectKeep: self._project_keep,
            syntax.ProjectRename: self._project_rename,
            syntax.ProjectReorder: self._project_reorder,
            syntax.Render: self._render,
            syntax.Sample: self._take,
            syntax.Search: self._search,
            syntax.Serialize: self._serialize,
            syntax.Sort: self._sort,
            syntax.Summarize: self._summarize,
            syntax.Take: self._take,
            syntax.Top: self._top,
            syntax.Union: self._union,
            syntax.Where: self._where,
        }

    # --- the query -----------------------------------------------------------------------------------------

    def query(self, query: syntax.Query) -> Query:
        env = self.root
        plan: Node | None = None
        for statement in query.statements:
            match statement:
                case syntax.Let():
                    env = env.with_({statement.name: self._let(statement, env)})
                case syntax.SetOption():
                    pass
                case syntax.ExpressionStatement():
                    if plan is not None:
                        raise UnsupportedError(
                            "a second tabular statement", statement.span, hint="run one at a time"
                        )
                    plan = self.table(statement.value, env)
                case syntax.OtherStatement():
                    raise UnsupportedError(f"statement {statement.keyword}", statement.span)
                case syntax.QueryParameters():
                    raise UnsupportedError("statement declare query_parameters", statement.span)
        if plan is None:
            raise BindingError(
                "the query has no tabular expression", query.span, hint="end it with a table or print"
            )
        return Query(self._without_hidden(plan), self.chart)

    def _without_hidden(self, plan: Node) -> Node:
        shown = visible(plan.columns)
        return plan if shown == plan.columns else Project(shown, plan, self._refs(shown))

    def _let(self, let: syntax.Let, env: Env) -> Binding:
        if isinstance(let.value, syntax.Function):
            return FunctionBinding(let.name, let.value, env)
        if self.is_table(let.value, env):
            return TableBinding(let.value, env)
        return ScalarBinding(self.scalars.bind(let.value, Scope((), env)))

    # --- what the scalar binder asks -----------------------------------------------------------------------

    def new_id(self) -> int:
        self.ids += 1
        return self.ids

    def table_names(self) -> tuple[str, ...]:
        return self.catalog.table_names()

    def is_table(self, expr: syntax.Expr, env: Env) -> bool:
        """Does the expression give a table?"""
        match expr:
            case syntax.Pipe():
                return bool(expr.operators) or (expr.source is not None and self.is_table(expr.source, env))
            case syntax.DataTable() | syntax.ExternalData():
                return True
            case syntax.Name():
                return self._is_table_name(env.get(expr.text), expr.text)
            case syntax.Call():
                called = env.get(expr.name)
                if isinstance(called, FunctionBinding):
                    return self._gives_table(called)
                return expr.name in _TABLE_FUNCTIONS
            case _:
                return False

    def _is_table_name(self, binding: Binding | None, name: str) -> bool:
        if isinstance(binding, FunctionBinding):
            return self._gives_table(binding)
        if binding is not None:
            return isinstance(binding, TableBinding)
        return self.catalog.table(name) is not None

    def _gives_table(self, binding: FunctionBinding) -> bool:
        body = binding.value.body
        if body is None:
            return False
        names: dict[str, Binding] = {}
        env = binding.env
        for parameter in binding.value.parameters:
            tabular = parameter.columns is not None or parameter.open
            names[parameter.name] = (
                TableBinding(syntax.DataTable(parameter.span, (), ()), env)
                if tabular
                else ScalarBinding(Const(parameter.type or _T.DYNAMIC, None))
            )
        env = env.with_(names)
        for statement in binding.value.statements:
            if isinstance(statement, syntax.Let):
                bound: Binding
                if isinstance(statement.value, syntax.Function):
                    bound = FunctionBinding(statement.name, statement.value, env)
                elif self.is_table(statement.value, env):
                    bound = TableBinding(statement.value, env)
                else:
                    bound = ScalarBinding(Const(_T.DYNAMIC, None))
                env = env.with_({statement.name: bound})
        return self.is_table(body, env)

    def call_scope(
        self, function: FunctionBinding, args: Sequence[syntax.Expr], scope: Scope, span: Span
    ) -> Env:
        """The names a function's body sees: its parameters, bound to these arguments, and its own lets."""
        self.calls += 1
        if self.calls > MAX_CALLS * 10:
            raise LimitError("the query calls too many functions", span)
        parameters = function.value.parameters
        named = {arg.names[0]: arg.value for arg in args if isinstance(arg, syntax.Named)}
        positional = [arg for arg in args if not isinstance(arg, syntax.Named)]
        if len(positional) > len(parameters):
            raise BindingError(
                f"'{function.name}' takes {len(parameters)} arguments, not {len(positional)}", span
            )
        names: dict[str, Binding] = {}
        for index, parameter in enumerate(parameters):
            given = (
                positional[index] if index < len(positional) else named.get(parameter.name, parameter.default)
            )
            if given is None:
                raise BindingError(f"'{function.name}' needs an argument for '{parameter.name}'", span)
            if parameter.columns is not None or parameter.open:
                names[parameter.name] = TableBinding(given, scope.env)
            else:
                value = self.scalars.bind(given, scope)
                names[parameter.name] = ScalarBinding(
                    self.scalars.convert(value, parameter.type, given.span) if parameter.type else value
                )
        env = function.env.with_(names)
        for statement in function.value.statements:
            if isinstance(statement, syntax.Let):
                env = env.with_({statement.name: self._let(statement, env)})
        return env

    # --- tables --------------------------------------------------------------------------------------------

    def table(self, expr: syntax.Expr, env: Env) -> Node:
        """The plan of a tabular expression, with column ids of its own."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise LimitError(f"the query grows beyond {MAX_NODES} steps", expr.span)
        match expr:
            case syntax.Pipe():
                return self._pipe(expr, env)
            case syntax.Name():
                return self._table_name(expr, env)
            case syntax.Call():
                return self._table_call(expr, env)
            case syntax.DataTable():
                return self._datatable(expr, env)
            case syntax.ExternalData():
                raise UnsupportedError("externaldata", expr.span)
            case syntax.Member():
                raise UnsupportedError("a table of another workspace or database", expr.span)
            case _:
                raise BindingError("a table is expected", expr.span)

    def _pipe(self, pipe: syntax.Pipe, env: Env) -> Node:
        operators = pipe.operators
        if pipe.source is None:
            if not operators:
                raise BindingError("a table is expected", pipe.span)
            node, operators = self._source(operators[0], env), operators[1:]
        else:
            node = self.table(pipe.source, env)
        for operator in operators:
            self.nodes += 1
            if self.nodes > MAX_NODES:
                raise LimitError(f"the query grows beyond {MAX_NODES} steps", operator.span)
            handler = self.operators.get(type(operator))
            if handler is None:
                raise UnsupportedError(_spelling(operator), operator.span)
            if isinstance(operator, syntax.As):
                before = syntax.Pipe(pipe.span, pipe.source, pipe.operators[: pipe.operators.index(operator)])
                env = env.with_({operator.name: TableBinding(before, env)})
            node = handler(node, operator, env)
        return node

    def _source(self, operator: syntax.Operator, env: Env) -> Node:
        match operator:
            case syntax.Print():
                return self._print(operator, env)
            case syntax.RangeSource():
                return self._range(operator, env)
            case syntax.Union():
                return self._union(None, operator, env)
            case syntax.Search():
                return self._search(None, operator, env)
            case _:
                raise UnsupportedError(_spelling(operator), operator.span)

    def _table_name(self, expr: syntax.Name, env: Env) -> Node:
        match env.get(expr.text):
            case TableBinding() as binding:
                return self.table(binding.value, binding.env)
            case FunctionBinding() as binding:
                return self._call_table(binding, (), Scope((), env), expr.span)
            case ScalarBinding():
                raise BindingError(f"'{expr.text}' is a value, not a table", expr.span)
        table = self.catalog.table(expr.text)
        if table is None:
            known = [*self.catalog.table_names(), *env.all_names()]
            raise BindingError(
                f"there is no table '{expr.text}'", expr.span, hint=suggestion(expr.text, known)
            )
        return self._scan(table)

    def _scan(self, table: Table) -> Node:
        stored = [*table.stored]
        if not any(column.name == INGESTION_TIME for column in stored):
            stored.append(Column(INGESTION_TIME, _T.DATETIME))
        columns = {column.name: OutColumn(self.new_id(), column.name, column.type) for column in stored}
        scan = self._clipped(Scan(tuple(columns.values()), table, tuple(columns)))
        if not table.constants:
            return scan
        shown: list[OutColumn] = []
        values: list[Expr] = []
        for column in (*table.columns, Column(INGESTION_TIME, _T.DATETIME)):
            if column.name in columns:
                shown.append(columns[column.name])
                values.append(ColumnRef(column.type, columns[column.name].id))
            else:
                shown.append(OutColumn(self.new_id(), column.name, column.type))
                values.append(Const(column.type, table.constants[column.name]))
        return Project(tuple(shown), scan, tuple(values))

    def _clipped(self, scan: Scan) -> Node:
        times = [column for column in scan.columns if column.name == scan.table.time_column]
        node: Node = scan
        for op, bound in zip((">=", "<"), self.clip, strict=True):
            if bound is not None and times:
                time = ColumnRef(_T.DATETIME, times[0].id)
                test = self.scalars.call(op, [time, Const(_T.DATETIME, bound)], Span(0, 0))
                node = Filter(node.columns, node, test)
        return node

    def _table_call(self, expr: syntax.Call, env: Env) -> Node:
        binding = env.get(expr.name)
        if isinstance(binding, FunctionBinding):
            return self._call_table(binding, expr.args, Scope((), env), expr.span)
        if expr.name == "materialize" and len(expr.args) == 1:
            return self._materialize(expr.args[0], env)
        if expr.name == "table" and len(expr.args) >= 1:
            name = self.scalars.constant(expr.args[0], env, "table()'s name")
            return self._table_name(syntax.Name(expr.args[0].span, str(name.value)), self.root)
        if expr.name in FUNCTIONS or expr.name in AGGREGATES:
            raise BindingError(f"'{expr.name}()' gives a value, not a table", expr.span, hint="use print")
        known = [*env.all_names(), *_TABLE_FUNCTIONS]
        raise BindingError(
            f"there is no function '{expr.name}'", expr.name_span, hint=suggestion(expr.name, known)
        )

    def _call_table(
        self, binding: FunctionBinding, args: Sequence[syntax.Expr], scope: Scope, span: Span
    ) -> Node:
        env = self.call_scope(binding, args, scope, span)
        if binding.value.body is None:
            raise BindingError(f"'{binding.name}' has no result", span)
        return self.table(binding.value.body, env)

    def _materialize(self, expr: syntax.Expr, env: Env) -> Node:
        key = (expr.span.start, id(env))
        if key not in self.shared:
            self.shared[key] = (len(self.shared), self.table(expr, env))
        number, plan = self.shared[key]
        columns = tuple(replace(column, id=self.new_id()) for column in plan.columns)
        return Shared(columns, number, plan, tuple(column.id for column in plan.columns))

    def _datatable(self, expr: syntax.DataTable, env: Env) -> Node:
        columns = tuple(OutColumn(self.new_id(), column.name, column.type) for column in expr.columns)
        width = len(columns)
        if width == 0 or len(expr.values) % width:
            raise BindingError(f"the values do not fill rows of {width} columns", expr.span)
        rows = []
        for start in range(0, len(expr.values), width):
            row = []
            for column, value in zip(columns, expr.values[start : start + width], strict=True):
                constant = self.scalars.constant(value, env, "a datatable's value")
                converted = self.scalars.convert(constant, column.type, value.span)
                if not isinstance(converted, Const):
                    raise BindingError(f"this is no {column.type.value}", value.span)
                row.append(converted)
            rows.append(tuple(row))
        return Values(columns, tuple(rows))

    # --- sources -------------------------------------------------------------------------------------------

    def _one_row(self) -> Node:
        return Values((OutColumn(self.new_id(), "", _T.BOOL),), ((Const(_T.BOOL, True),),))

    def _print(self, operator: syntax.Print, env: Env) -> Node:
        scope = Scope((), env)
        names = _Names()
        columns: list[OutColumn] = []
        values: list[Expr] = []
        for index, item in enumerate(operator.values):
            given = item.names[0] if isinstance(item, syntax.Named) else f"print_{index}"
            value = self.scalars.bind(item.value if isinstance(item, syntax.Named) else item, scope)
            columns.append(OutColumn(self.new_id(), names.unique(given), value.type))
            values.append(value)
        return Project(tuple(columns), self._one_row(), tuple(values))

    def _range(self, operator: syntax.RangeSource, env: Env) -> Node:
        scope = Scope((), env)
        start, stop, step = (
            self.scalars.bind(item, scope) for item in (operator.start, operator.stop, operator.step)
        )
        type_ = start.type
        if type_.is_number:
            type_ = widest([start.type, stop.type, step.type]) or _T.LONG
            type_ = _T.LONG if type_ is _T.INT else type_
        elif type_ not in (_T.DATETIME, _T.TIMESPAN):
            raise BindingError(f"range cannot count in {type_.value}", operator.span)
        stop = self.scalars.convert(stop, type_, operator.stop.span)
        span = operator.span
        # Counting is done in whole numbers: places 0..n, then start + place * step.
        steps = self.scalars.call("-", [stop, start], span)
        places = self.scalars.call("/", [steps, step], span)
        count = Call(
            _T.LONG, FUNCTIONS["range_places"].overloads[0], (self.scalars.convert(places, _T.REAL, span),)
        )
        place = OutColumn(self.new_id(), "place", _T.LONG)
        unnest = Unnest((*(row := self._one_row()).columns, place), row, (count,))
        offset = self.scalars.call("*", [step, ColumnRef(_T.LONG, place.id)], span)
        value = self.scalars.convert(self.scalars.call("+", [start, offset], span), type_, span)
        return Project((OutColumn(self.new_id(), operator.name, type_),), unnest, (value,))

    # --- rows ----------------------------------------------------------------------------------------------

    def _scope(self, node: Node, env: Env) -> Scope:
        return Scope(node.columns, env)

    def _where(self, node: Node, operator: syntax.Where, env: Env) -> Node:
        return Filter(node.columns, node, self.scalars.predicate(operator.predicate, self._scope(node, env)))

    def _take(self, node: Node, operator: syntax.Take | syntax.Sample, env: Env) -> Node:
        return Limit(node.columns, node, self._row_count(operator.count, env))

    def _row_count(self, expr: syntax.Expr, env: Env) -> int:
        count = self.scalars.constant(expr, env, "the number of rows")
        if not isinstance(count.value, int) or isinstance(count.value, bool) or count.value < 0:
            raise BindingError("the number of rows must be a whole number", expr.span)
        return count.value

    def _count(self, node: Node, operator: syntax.Count, env: Env) -> Node:
        column = OutColumn(self.new_id(), operator.name or "Count", _T.LONG)
        return Aggregate((column,), node, (), (AggregateCall(AGGREGATES["count"], (), _T.LONG),))

    def _sort(self, node: Node, operator: syntax.Sort, env: Env) -> Node:
        scope = self._scope(node, env)
        return Sort(node.columns, node, tuple(self._sort_key(key, scope) for key in operator.keys))

    def _sort_key(self, key: syntax.Ordering, scope: Scope) -> SortKey:
        value = self.scalars.bind(key.value, scope)
        if value.type is _T.DYNAMIC:
            raise BindingError(
                "a dynamic value has no order", key.value.span, hint="use tostring(...) or tolong(...)"
            )
        descending = key.descending is not False
        return SortKey(value, descending, key.nulls_first if key.nulls_first is not None else not descending)

    def _top(self, node: Node, operator: syntax.Top, env: Env) -> Node:
        key = self._sort_key(operator.by, self._scope(node, env))
        count = self._row_count(operator.count, env)
        return Limit(node.columns, Sort(node.columns, node, (key,)), count)

    def _serialize(self, node: Node, operator: syntax.Serialize, env: Env) -> Node:
        return (
            self._extend(node, syntax.Extend(operator.span, operator.values), env)
            if operator.values
            else node
        )

    def _render(self, node: Node, operator: syntax.Render, env: Env) -> Node:
        properties = []
        for item in operator.properties:
            value = item.value
            shown = value.text if isinstance(value, syntax.Name) else str(getattr(value, "value", ""))
            properties.append((item.name, shown))
        self.chart = Chart(operator.chart, tuple(properties))
        return node

    # --- columns -------------------------------------------------------------------------------------------

    def _refs(self, columns: Iterable[OutColumn]) -> tuple[Expr, ...]:
        return tuple(ColumnRef(column.type, column.id) for column in columns)

    def _named_values(
        self, items: Sequence[syntax.Expr], scope: Scope, collect: Collector | None = None
    ) -> list[tuple[str, bool, Expr, Span]]:
        """Name, whether the query gave it, value and place of each item of a project or extend."""
        found: list[tuple[str, bool, Expr, Span]] = []
        for item in items:
            if isinstance(item, syntax.Star):
                found += [(c.name, True, ColumnRef(c.type, c.id), item.span) for c in visible(scope.columns)]
                continue
            if isinstance(item, syntax.Named):
                if len(item.names) != 1:
                    raise UnsupportedError("a list of names before '='", item.span)
                found.append((item.names[0], True, self.scalars.bind(item.value, scope, collect), item.span))
            else:
                found.append(
                    (auto_name(item) or "", False, self.scalars.bind(item, scope, collect), item.span)
                )
        return found

    def _column(self, name: str, value: Expr) -> OutColumn:
        """A column for the value; one that only passes through keeps its id."""
        if isinstance(value, ColumnRef):
            return OutColumn(value.id, name, value.type)
        return OutColumn(self.new_id(), name, value.type)

    def _windows(self, node: Node) -> Collector:
        return Collector(WINDOWS, [], [])

    def _over(self, node: Node, windows: Collector) -> Node:
        """The node with the window functions' columns beside its own."""
        if not windows.calls:
            return node
        columns = tuple(replace(c, name=f"{HIDDEN_PREFIX}window{c.id}") for c in windows.columns)
        return Window((*node.columns, *columns), node, tuple(windows.calls))

    def _extend(self, node: Node, operator: syntax.Extend, env: Env) -> Node:
        windows = self._windows(node)
        items = self._named_values(operator.values, self._scope(node, env), windows)
        columns = list(node.columns)
        values: list[Expr] = list(self._refs(columns))
        places = {column.name: i for i, column in enumerate(columns)}
        names = _Names(column.name for column in columns)
        for name, _, value, _ in items:
            if name and name in places:
                columns[places[name]] = OutColumn(self.new_id(), name, value.type)
                values[places[name]] = value
            else:
                unique = names.unique(name or names.computed())
                places[unique] = len(columns)
                columns.append(OutColumn(self.new_id(), unique, value.type))
                values.append(value)
        return Project(tuple(columns), self._over(node, windows), tuple(values))

    def _project(self, node: Node, operator: syntax.Project, env: Env) -> Node:
        windows = self._windows(node)
        items = self._named_values(operator.values, self._scope(node, env), windows)
        names = _Names()
        columns: list[OutColumn] = []
        taken: set[int] = set()
        for name, given, value, span in items:
            if name and given and name in names.used:
                raise BindingError(f"two columns are called '{name}'", span)
            column = self._column(names.unique(name or names.computed()), value)
            if column.id in taken:
                column = replace(column, id=self.new_id())
            taken.add(column.id)
            columns.append(column)
        return Project(tuple(columns), self._over(node, windows), tuple(value for _, _, value, _ in items))

    def _chosen(self, node: Node, items: Sequence[syntax.Expr]) -> list[OutColumn]:
        """The columns that names and patterns choose, in the order of the list."""
        chosen: list[OutColumn] = []
        shown = visible(node.columns)
        for item in items:
            if isinstance(item, syntax.Star):
                matches = list(shown)
            elif isinstance(item, syntax.NamePattern):
                matches = [column for column in shown if fnmatch.fnmatchcase(column.name, item.text)]
            elif isinstance(item, syntax.Name):
                matches = [column for column in shown if column.name == item.text]
                if not matches:
                    raise self._no_column(item, shown)
            else:
                raise BindingError("a column's name is expected", item.span)
            chosen += [column for column in matches if column not in chosen]
        return chosen

    def _no_column(self, item: syntax.Name, columns: Iterable[OutColumn]) -> BindingError:
        hint = suggestion(item.text, [column.name for column in columns])
        return BindingError(f"there is no column '{item.text}'", item.span, hint=hint)

    def _keep(self, node: Node, columns: Sequence[OutColumn]) -> Node:
        return Project(tuple(columns), node, self._refs(columns))

    def _project_away(self, node: Node, operator: syntax.ProjectAway, env: Env) -> Node:
        gone = self._chosen(node, operator.columns)
        return self._keep(node, [column for column in node.columns if column not in gone])

    def _project_keep(self, node: Node, operator: syntax.ProjectKeep, env: Env) -> Node:
        kept = self._chosen(node, operator.columns)
        return self._keep(node, [column for column in node.columns if column in kept])

    def _project_rename(self, node: Node, operator: syntax.ProjectRename, env: Env) -> Node:
        columns = list(node.columns)
        refs = self._refs(columns)
        for item in operator.values:
            if not isinstance(item, syntax.Named) or not isinstance(item.value, syntax.Name):
                raise BindingError("project-rename takes new = old", item.span)
            old = self._chosen(node, [item.value])[0]
            place = [column.id for column in node.columns].index(old.id)
            columns[place] = replace(old, name=item.names[0])
        if len({column.name for column in columns}) < len(columns):
            raise BindingError("two columns would have the same name", operator.span)
        return Project(tuple(columns), node, refs)

    def _project_reorder(self, node: Node, operator: syntax.ProjectReorder, env: Env) -> Node:
        first: list[OutColumn] = []
        for item, order in operator.columns:
            chosen = [column for column in self._chosen(node, [item]) if column not in first]
            if order is not None:
                key = _natural if order.startswith("granny") else (lambda column: column.name)
                chosen.sort(key=key, reverse=order.endswith("desc"))
            first += chosen
        return self._keep(node, [*first, *(column for column in node.columns if column not in first)])

    def _getschema(self, node: Node, operator: syntax.GetSchema, env: Env) -> Node:
        types = (_T.STRING, _T.LONG, _T.STRING, _T.STRING)
        names = ("ColumnName", "ColumnOrdinal", "DataType", "ColumnType")
        columns = tuple(OutColumn(self.new_id(), n, t) for n, t in zip(names, types, strict=True))
        rows = tuple(
            tuple(
                Const(type_, value)
                for type_, value in zip(types, (c.name, place, _DOTNET[c.type], c.type.value), strict=True)
            )
            for place, c in enumerate(visible(node.columns))
        )
        return Values(columns, rows)

    # --- groups --------------------------------------------------------------------------------------------

    def _distinct(self, node: Node, operator: syntax.Distinct, env: Env) -> Node:
        items = self._named_values(operator.values, self._scope(node, env))
        names = _Names()
        columns = tuple(
            OutColumn(self.new_id(), names.unique(name or names.computed()), value.type)
            for name, _, value, _ in items
        )
        return Aggregate(columns, node, tuple(value for _, _, value, _ in items), ())

    def _summarize(self, node: Node, operator: syntax.Summarize, env: Env) -> Node:
        scope = self._scope(node, env)
        names = _Names()
        keys = self._named_values(operator.by, scope)
        for _, _, value, span in keys:
            if value.type is _T.DYNAMIC:
                raise BindingError("a dynamic value cannot be grouped by", span, hint="use tostring(...)")
        key_columns: list[OutColumn] = []
        for name, _, value, _ in keys:
            key_columns.append(OutColumn(self.new_id(), names.unique(name or names.computed()), value.type))
        collect = Collector(AGGREGATES, [], [])
        grouped = {value.id for _, _, value, _ in keys if isinstance(value, ColumnRef)}
        outputs: list[tuple[str, Expr]] = []
        for item in operator.values:
            outputs += self._aggregate_item(item, scope, collect, names, grouped)
        aggregated = Aggregate(
            (*key_columns, *collect.columns),
            node,
            tuple(value for _, _, value, _ in keys),
            tuple(collect.calls),
        )
        columns = list(key_columns)
        values: list[Expr] = list(self._refs(key_columns))
        for name, value in outputs:
            columns.append(OutColumn(self.new_id(), name, value.type))
            values.append(value)
        return Project(tuple(columns), aggregated, tuple(values))

    def _aggregate_item(
        self, item: syntax.Expr, scope: Scope, collect: Collector, names: _Names, grouped: set[int]
    ) -> list[tuple[str, Expr]]:
        given = item.names if isinstance(item, syntax.Named) else ()
        value = item.value if isinstance(item, syntax.Named) else item
        if isinstance(value, syntax.Call) and value.name in ROW_FUNCTIONS:
            found = self._row_aggregate(value, scope, collect, grouped)
        elif isinstance(value, syntax.Call) and value.name == "percentiles":
            found = self._percentiles(value, scope, collect)
        else:
            bound = self.scalars.bind(value, scope, collect)
            found = [(aggregate_name(value) or "", bound)]
        for index, name in enumerate(given):
            if name in names.used:
                raise BindingError(f"two columns are called '{name}'", item.span)
            if index < len(found):
                found[index] = (name, found[index][1])
        return [(names.unique(name or names.computed()), bound) for name, bound in found]

    def _row_aggregate(
        self, call: syntax.Call, scope: Scope, collect: Collector, grouped: set[int]
    ) -> list[tuple[str, Expr]]:
        """arg_max, arg_min and take_any of several columns: values of one and the same row."""
        function = ROW_FUNCTIONS[call.name]
        args = list(call.args)
        found: list[tuple[str, Expr]] = []
        ordering: list[Expr] = []
        if call.name not in ("take_any", "any"):
            if not args:
                raise BindingError(f"{call.name}() needs the value to order by", call.span)
            ordering = [self.scalars.bind(args[0], scope)]
            plain = AGGREGATES["max" if call.name in ("arg_max", "argmax") else "min"]
            name = auto_name(args[0]) or aggregate_name(
                syntax.Call(call.span, plain.name, (args[0],), call.name_span)
            )
            found.append((name or "", self.scalars.collect(plain, ordering, call.span, collect)))
            args = args[1:]
        values: list[tuple[str, Expr]] = []
        for arg in args:
            if isinstance(arg, syntax.Star):
                taken = {ref.id for ref in ordering if isinstance(ref, ColumnRef)}
                left_out = taken | grouped
                values += [
                    (c.name, ColumnRef(c.type, c.id)) for c in visible(scope.columns) if c.id not in left_out
                ]
            else:
                values.append((auto_name(arg) or "", self.scalars.bind(arg, scope)))
        if not ordering and len(values) == 1 and not isinstance(args[0], syntax.Star):
            name = aggregate_name(call) if call.name == "any" else values[0][0]
            return [
                (name or "", self.scalars.collect(AGGREGATES["take_any"], [values[0][1]], call.span, collect))
            ]
        row = tuple(value for _, value in values)
        for place, (name, value) in enumerate(values):
            aggregate = AggregateCall(function, (Const(_T.LONG, place), *ordering, *row), value.type)
            column = OutColumn(self.new_id(), "", value.type)
            collect.calls.append(aggregate)
            collect.columns.append(column)
            found.append((name, ColumnRef(value.type, column.id)))
        return found

    def _percentiles(self, call: syntax.Call, scope: Scope, collect: Collector) -> list[tuple[str, Expr]]:
        if len(call.args) < 2:
            raise BindingError("percentiles() takes a value and percents", call.span)
        value = self.scalars.bind(call.args[0], scope)
        base = auto_name(call.args[0]) or ""
        found = []
        for percent in call.args[1:]:
            bound = self.scalars.bind(percent, scope)
            shown = f"{bound.value}".replace(".", "_") if isinstance(bound, Const) else ""
            column = self.scalars.collect(AGGREGATES["percentile"], [value, bound], call.span, collect)
            found.append((f"percentile_{base}_{shown}", column))
        return found

    # --- two tables ----------------------------------------------------------------------------------------

    def _join(self, node: Node, operator: syntax.Join, env: Env) -> Node:
        kind = self._join_kind(operator, "innerunique")
        right = self.table(operator.right, env)
        keys = self._keys(node, right, operator.keys, env)
        if kind in (JoinKind.LEFT_SEMI, JoinKind.LEFT_ANTI):
            return Join(node.columns, node, right, kind, keys)
        if kind in (JoinKind.RIGHT_SEMI, JoinKind.RIGHT_ANTI):
            return Join(right.columns, node, right, kind, keys)
        columns = self._beside(node, right.columns)
        return Join(columns, node, right, kind, keys)

    def _beside(self, node: Node, right: Iterable[OutColumn]) -> tuple[OutColumn, ...]:
        """The left's columns and the right's, these renamed where a name is taken."""
        names = _Names(column.name for column in node.columns)
        return (*node.columns, *(replace(column, name=names.unique(column.name)) for column in right))

    def _join_kind(self, operator: syntax.Join | syntax.Lookup, default: str) -> JoinKind:
        for item in operator.properties:
            if item.name == "kind":
                text = item.value.text if isinstance(item.value, syntax.Name) else ""
                if text not in _JOIN_KINDS:
                    hint = suggestion(text, _JOIN_KINDS)
                    raise BindingError(f"there is no join kind '{text}'", item.span, hint=hint)
                return _JOIN_KINDS[text]
        return _JOIN_KINDS[default]

    def _keys(
        self, left: Node, right: Node, keys: Sequence[syntax.Expr], env: Env
    ) -> tuple[tuple[Expr, Expr], ...]:
        found: list[tuple[Expr, Expr]] = []
        pending = list(keys)
        while pending:
            key = pending.pop(0)
            if isinstance(key, syntax.Binary) and key.op == "and":
                pending[:0] = [key.left, key.right]
                continue
            if isinstance(key, syntax.Name):
                a = self.scalars.bind(key, Scope(left.columns, env))
                b = self.scalars.bind(key, Scope(right.columns, env))
            elif isinstance(key, syntax.Binary) and key.op == "==":
                sides = (left.columns, right.columns)
                scope = Scope((), env, sides)
                one, other = key.left, key.right
                if _side(one) == "$right" or _side(other) == "$left":
                    one, other = other, one
                a, b = self.scalars.bind(one, scope), self.scalars.bind(other, scope)
            else:
                raise BindingError("a join's key is a column or $left.a == $right.b", key.span)
            if _T.DYNAMIC in (a.type, b.type):
                raise BindingError(
                    "a dynamic value cannot be a join's key", key.span, hint="use tostring(...)"
                )
            if a.type is not b.type and not (a.type.is_number and b.type.is_number):
                raise BindingError(f"the key's types differ: {a.type.value} and {b.type.value}", key.span)
            found.append((a, b))
        return tuple(found)

    def _lookup(self, node: Node, operator: syntax.Lookup, env: Env) -> Node:
        kind = self._join_kind(operator, "leftouter")
        if kind not in (JoinKind.LEFT_OUTER, JoinKind.INNER):
            raise BindingError("lookup is leftouter or inner", operator.span)
        right = self.table(operator.right, env)
        keys = self._keys(node, right, operator.keys, env)
        used = {b.id for _, b in keys if isinstance(b, ColumnRef)}
        joined = Join(self._beside(node, right.columns), node, right, kind, keys)
        kept = [column for column in joined.columns if column.id not in used]
        # The right key is dropped; a clashing name was numbered as if it were not there.
        names = _Names(column.name for column in node.columns)
        right_ids = {column.id: column.name for column in right.columns}
        shown = [replace(c, name=names.unique(right_ids[c.id])) if c.id in right_ids else c for c in kept]
        return Project(tuple(shown), joined, self._refs(kept))

    # --- many tables ---------------------------------------------------------------------------------------

    def _property(
        self, operator: syntax.Union | syntax.Search | syntax.MvExpand | syntax.Parse, name: str
    ) -> str | None:
        for item in operator.properties:
            if item.name.lower() == name:
                if isinstance(item.value, syntax.Name):
                    return item.value.text
                if isinstance(item.value, syntax.Literal):
                    return str(item.value.value)
        return None

    def _branches(self, tables: Sequence[syntax.Expr], env: Env, *, fuzzy: bool) -> list[tuple[str, Node]]:
        found: list[tuple[str, Node]] = []
        for place, item in enumerate(tables):
            if isinstance(item, syntax.NamePattern | syntax.Star):
                pattern = item.text if isinstance(item, syntax.NamePattern) else "*"
                names = [name for name in self.catalog.table_names() if fnmatch.fnmatchcase(name, pattern)]
                for name in names:
                    found.append((name, self._table_name(syntax.Name(item.span, name), self.root)))
                continue
            try:
                node = self.table(item, env)
            except BindingError:
                if fuzzy and isinstance(item, syntax.Name | syntax.Pipe | syntax.Call):
                    continue
                raise
            found.append((item.text if isinstance(item, syntax.Name) else f"union_arg{place}", node))
        return found

    def _union(self, node: Node | None, operator: syntax.Union, env: Env) -> Node:
        branches = self._branches(operator.tables, env, fuzzy=self._property(operator, "isfuzzy") == "true")
        if node is not None:
            branches.insert(0, ("union_arg0", node))
        if not branches:
            raise BindingError("the union has no table", operator.span)
        inner = self._property(operator, "kind") == "inner"
        return self._united(branches, self._property(operator, "withsource"), inner=inner)

    def _united(
        self, branches: Sequence[tuple[str, Node]], source: str | None, *, inner: bool = False
    ) -> Node:
        """All branches' rows; columns meet by name and type, a name of two types is split (v_long, v_real)."""
        types: dict[str, list[KqlType]] = {}
        for _, branch in branches:
            for column in branch.columns:
                known = types.setdefault(column.name, [])
                if column.type not in known:
                    known.append(column.type)
        wanted = [(name, type_) for name, known in types.items() for type_ in known]
        if inner:
            wanted = [
                (name, type_)
                for name, type_ in wanted
                if all(any(c.name == name and c.type is type_ for c in b.columns) for _, b in branches)
            ]
        columns: list[OutColumn] = []
        for name, type_ in wanted:
            shown = name if len(types[name]) == 1 else f"{name}_{type_.value}"
            columns.append(OutColumn(self.new_id(), shown, type_))
        rows: list[tuple[Expr, ...]] = []
        for label, branch in branches:
            by_name = {(column.name, column.type): column for column in branch.columns}
            values: list[Expr] = []
            for name, type_ in wanted:
                found = by_name.get((name, type_))
                missing = Const(type_, "" if type_ is _T.STRING else None)
                values.append(ColumnRef(type_, found.id) if found else missing)
            rows.append((Const(_T.STRING, label), *values) if source else tuple(values))
        if source:
            columns.insert(0, OutColumn(self.new_id(), source, _T.STRING))
        return Union(tuple(columns), tuple(branch for _, branch in branches), tuple(rows))

    def _search(self, node: Node | None, operator: syntax.Search, env: Env) -> Node:
        if self._property(operator, "kind") == "case_sensitive":
            raise UnsupportedError("search kind=case_sensitive", operator.span)
        if node is not None:
            branches = [("search_arg0", node)]
        else:
            tables = operator.tables or tuple(
                syntax.Name(operator.span, n) for n in self.catalog.table_names()
            )
            branches = self._branches(tables, env, fuzzy=False)
        filtered: list[tuple[str, Node]] = []
        for name, branch in branches:
            predicate = self._search_predicate(operator.predicate, Scope(branch.columns, env))
            if predicate is not None:
                filtered.append((name, Filter(branch.columns, branch, predicate)))
        if not filtered:
            raise BindingError("no table has the columns this search names", operator.span)
        return self._united(filtered, "$table")

    def _search_predicate(self, expr: syntax.Expr, scope: Scope) -> Expr | None:
        """The predicate over one table's columns; None if it names a column the table lacks."""
        span = expr.span
        if isinstance(expr, syntax.Binary) and expr.op in ("and", "or"):
            left, right = self._search_predicate(expr.left, scope), self._search_predicate(expr.right, scope)
            if expr.op == "or":
                return self.scalars.any_of([side for side in (left, right) if side is not None], span)
            return None if left is None or right is None else self.scalars.call("and", [left, right], span)
        if isinstance(expr, syntax.Literal):
            star = syntax.Binary(span, "has", syntax.Star(span), expr)
            if isinstance(expr.value, str) and "*" in expr.value:
                star = _wildcard(expr.value, span)
            text = star.right
            if isinstance(text, syntax.Literal) and text.type is not _T.STRING:
                text = syntax.Literal(span, str(text.value), _T.STRING)
            return self.scalars.bind(replace(star, right=text), scope)
        if isinstance(expr, syntax.Call) and expr.name == "not" and len(expr.args) == 1:
            inner = self._search_predicate(expr.args[0], scope)
            return None if inner is None else self.scalars.call("not", [inner], span)
        named = expr.left if isinstance(expr, syntax.Binary) else None
        if isinstance(named, syntax.Name) and scope.column(named.text) is None:
            return None
        return self.scalars.predicate(expr, scope)

    # --- arrays and patterns -------------------------------------------------------------------------------

    def _mv_expand(self, node: Node, operator: syntax.MvExpand, env: Env) -> Node:
        scope = self._scope(node, env)
        as_arrays = (
            self._property(operator, "bagexpansion") == "array" or self._property(operator, "kind") == "array"
        )
        function = FUNCTIONS["expand_bag_arrays" if as_arrays else "expand_list"].overloads[0]
        index = self._property(operator, "with_itemindex")
        lists: list[Expr] = []
        fresh: list[OutColumn] = []
        finals: dict[str, tuple[OutColumn, KqlType | None]] = {}
        names = _Names(column.name for column in node.columns)
        for item in operator.columns:
            named = item.value if isinstance(item.value, syntax.Named) else None
            value = self.scalars.bind(named.value if named else item.value, scope)
            if value.type is not _T.DYNAMIC:
                raise BindingError(
                    f"mv-expand needs a dynamic value, this is a {value.type.value}", item.span
                )
            name = (named.names[0] if named else auto_name(item.value)) or names.computed()
            lists.append(Call(_T.DYNAMIC, function, (value,)))
            fresh.append(OutColumn(self.new_id(), name, _T.DYNAMIC))
            finals[name] = (fresh[-1], item.to)
        place = OutColumn(self.new_id(), index or "", _T.LONG)
        extra = (*fresh, place) if index else tuple(fresh)
        unnest: Node = Unnest((*node.columns, *extra), node, tuple(lists), index is not None)
        columns: list[OutColumn] = []
        values: list[Expr] = []

        def add(name: str, column: OutColumn, to: KqlType | None, span: Span) -> None:
            ref: Expr = ColumnRef(column.type, column.id)
            if to is not None and to is not _T.DYNAMIC:
                ref = self.scalars.convert(ref, to, span)
            columns.append(self._column(name, ref))
            values.append(ref)

        for column in node.columns:
            replaced = finals.pop(column.name, None)
            if replaced:
                add(column.name, replaced[0], replaced[1], operator.span)
            else:
                columns.append(column)
                values.append(ColumnRef(column.type, column.id))
        for name, (column, to) in finals.items():
            add(name, column, to, operator.span)
        if index:
            add(names.unique(index), place, None, operator.span)
        result: Node = Project(tuple(columns), unnest, tuple(values))
        if operator.limit is not None:
            self._row_count(operator.limit, env)
            raise UnsupportedError("mv-expand limit", operator.limit.span)
        return result

    def _parse(self, node: Node, operator: syntax.Parse, env: Env) -> Node:
        kind = self._property(operator, "kind") or "simple"
        if kind not in ("simple", "regex"):
            raise UnsupportedError(f"parse kind={kind}", operator.span)
        scope = self._scope(node, env)
        value = self.scalars.convert(self.scalars.bind(operator.value, scope), _T.STRING, operator.value.span)
        pattern, targets = self._parse_pattern(operator, env, regex=kind == "regex")
        if kind == "regex" and (flags := self._property(operator, "flags")):
            pattern = f"(?{flags}){pattern}"
        text = Const(_T.STRING, pattern)
        matches = self.scalars.call("matches regex", [value, text], operator.span)
        items: list[tuple[str, Expr]] = []
        for place, (name, type_) in enumerate(targets, start=1):
            found = self.scalars.call("parse_group", [value, text, Const(_T.LONG, place)], operator.span)
            items.append((name, self.scalars.convert(found, type_, operator.span)))
        if operator.where:
            node = Filter(node.columns, node, matches)
        columns = list(node.columns)
        values: list[Expr] = list(self._refs(columns))
        for name, extracted in items:
            column = OutColumn(self.new_id(), name, extracted.type)
            places = [i for i, known in enumerate(columns) if known.name == name]
            if places:
                columns[places[0]], values[places[0]] = column, extracted
            else:
                columns.append(column)
                values.append(extracted)
        return Project(tuple(columns), node, tuple(values))

    def _parse_pattern(
        self, operator: syntax.Parse, env: Env, *, regex: bool
    ) -> tuple[str, list[tuple[str, KqlType]]]:
        """The pattern as one regular expression with a group for each column."""
        pieces: list[str] = []
        targets: list[tuple[str, KqlType]] = []
        for place, part in enumerate(operator.pattern):
            last = place == len(operator.pattern) - 1
            if part.text is not None:
                text = str(self.scalars.constant(part.text, env, "parse's text").value)
                pieces.append(text if regex else re.escape(text).replace("\\ ", " "))
            elif part.name is not None:
                type_ = part.type or _T.STRING
                targets.append((part.name, type_))
                pieces.append(_GROUPS.get(type_, "(.*)" if last else "(.*?)"))
            else:
                pieces.append(".*" if last else ".*?")
        anchored = "".join(pieces)
        return (anchored if regex else f"(?s)^{anchored}$"), targets


_GROUPS = {_T.LONG: r"\s*([+-]?\d+)", _T.INT: r"\s*([+-]?\d+)", _T.REAL: r"\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)"}


class _Names:
    """Names given so far in one list of columns."""

    def __init__(self, used: Iterable[str] = ()) -> None:
        self.used = set(used)
        self.counter = 0

    def unique(self, name: str) -> str:
        """The name, with the first free number behind it where it is taken."""
        found, number = name, 0
        while found in self.used:
            number += 1
            found = f"{name}{number}"
        self.used.add(found)
        return found

    def computed(self) -> str:
        """Column1, Column2, ... for what has no name."""
        self.counter += 1
        while f"Column{self.counter}" in self.used:
            self.counter += 1
        return f"Column{self.counter}"


def auto_name(expr: syntax.Expr) -> str | None:
    """The name Kusto gives an unnamed expression's column; None for Column1 and so on."""
    match expr:
        case syntax.Name():
            return expr.text
        case syntax.Member():
            base = auto_name(expr.target)
            return f"{base}_{expr.name}" if base else None
        case syntax.Index():
            base = auto_name(expr.target)
            step = expr.index.value if isinstance(expr.index, syntax.Literal) else None
            return f"{base}_{step}" if base and isinstance(step, str | int) else None
        case syntax.Call() if expr.name in FUNCTIONS:
            after = FUNCTIONS[expr.name].name_after
            if after is None:
                return None
            first = auto_name(expr.args[0]) if expr.args else None
            if after == "":
                return first
            return f"{after}_{first or ''}"
        case syntax.Call() if expr.name in ("column_ifexists", "columnifexists") and expr.args:
            named = expr.args[0]
            return named.value if isinstance(named, syntax.Literal) and isinstance(named.value, str) else None
        case syntax.Pipe() if expr.source is not None and not expr.operators:
            return auto_name(expr.source)
        case _:
            return None


def aggregate_name(expr: syntax.Expr) -> str | None:
    """The name of an unnamed aggregate's column: count_, dcount_user, set_key."""
    if isinstance(expr, syntax.Index | syntax.Member):
        base = aggregate_name(expr.target)
        step = expr.name if isinstance(expr, syntax.Member) else getattr(expr.index, "value", None)
        return f"{base}_{step}" if base and step is not None else None
    if isinstance(expr, syntax.Call) and (expr.name in AGGREGATES or expr.name in ROW_FUNCTIONS):
        first = auto_name(expr.args[0]) if expr.args else None
        if expr.name == "percentile" and len(expr.args) > 1:
            percent = getattr(expr.args[1], "value", "")
            return f"percentile_{first or ''}_{percent}".replace(".", "_")
        prefix = "any" if expr.name == "any" else AGGREGATES[expr.name].prefix
        if prefix == "":
            return first
        return f"{prefix}_{first or ''}"
    if isinstance(expr, syntax.Call) and expr.name in FUNCTIONS and FUNCTIONS[expr.name].name_after == "":
        return aggregate_name(expr.args[0]) if expr.args else None
    return None


def _spelling(operator: syntax.Operator) -> str:
    """How the operator is written in KQL."""
    name = type(operator).__name__
    if isinstance(operator, syntax.RangeSource):
        return "range"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def _side(expr: syntax.Expr) -> str | None:
    """`$left` or `$right` where the expression names one."""
    while isinstance(expr, syntax.Member | syntax.Index):
        expr = expr.target
    if isinstance(expr, syntax.Call):
        sides = {side for arg in expr.args if (side := _side(arg))}
        return sides.pop() if len(sides) == 1 else None
    return expr.text if isinstance(expr, syntax.Name) and expr.text.startswith("$") else None


def _wildcard(text: str, span: Span) -> syntax.Binary:
    """`search "a*"` as a prefix, suffix or pattern of a term."""
    inner = text.strip("*")
    if "*" in inner:
        pattern = ".*".join(re.escape(piece) for piece in text.split("*"))
        literal = syntax.Literal(span, f"(?i){pattern}", _T.STRING)
        return syntax.Binary(span, "matches regex", syntax.Star(span), literal)
    op = {(True, True): "contains", (False, True): "hasprefix", (True, False): "hassuffix"}[
        (text.startswith("*"), text.endswith("*"))
    ]
    return syntax.Binary(span, op, syntax.Star(span), syntax.Literal(span, inner, _T.STRING))


def _natural(column: OutColumn) -> list[tuple[int, int, str]]:
    """Sort key of granny order: numbers inside names by value."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in re.split(r"(\d+)", column.name)
        if part
    ]
