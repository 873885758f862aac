"""Syntax to plan: statements, lets and functions, and the walk along a pipe.

Each operator is bound by a function of its own in `operators/`. Result names and types follow Microsoft's
parser; what is not bound yet is refused by name and place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from trailhawk.errors import BindingError, LimitError, QueryError, Span, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.operators import SOURCES, STEPS, several, tables
from trailhawk.kql.operators import declared as declaring
from trailhawk.kql.operators.arrays import asks_again, named_parts
from trailhawk.kql.operators.external import ReadExternal, externaldata, refuse
from trailhawk.kql.operators.graph import STEPS_ON_GRAPHS, Graph
from trailhawk.kql.operators.shared import property_text, refs
from trailhawk.kql.operators.watchlists import WATCHLIST_FUNCTION
from trailhawk.kql.parser.limits import MAX_PROBLEMS
from trailhawk.kql.plan import (
    Chart,
    ColumnRef,
    Const,
    Expr,
    Frame,
    Node,
    Project,
    Query,
)
from trailhawk.kql.scalars import ScalarBinder
from trailhawk.kql.schema import WATCHLIST_ALIASES, Catalog
from trailhawk.kql.scope import (
    Binding,
    Env,
    FunctionBinding,
    PatternBinding,
    ScalarBinding,
    Scope,
    StoredNames,
    TableBinding,
    suggestion,
    visible,
)
from trailhawk.kql.types import KqlType

_T = KqlType
MAX_NODES = 5_000
"""Plan nodes in one query: functions and lets that call each other twice can grow without end."""
MAX_CALLS = 600
TABLE_FUNCTIONS = frozenset(
    {"materialize", "table", "view", WATCHLIST_FUNCTION, WATCHLIST_ALIASES, *tables.ELSEWHERE}
)


SAME_COLUMNS = (syntax.Where, syntax.Sort, syntax.Take, syntax.Top, syntax.Sample, syntax.Render)
"""Operators that leave the columns as they are: what follows one with an error can be read nonetheless."""


class Binder:
    """Binds one query; it holds the counter of column ids and the queries that are computed once.

    `now` is in ticks, or a column of the rows. `functions` are stored functions, `clip` bounds every table's
    time column, or its ingestion time where `ingested`: at least the first, before the second.
    Where `replayed`, ingestion_time() is the event's time.
    Where `found` is given, the errors of operators that leave the columns as they are go there, and binding
    goes on behind them; the plan is then none that may be run.
    """

    def __init__(
        self,
        catalog: Catalog,
        now: int | ColumnRef,
        functions: Mapping[str, syntax.Function],
        *,
        clip: tuple[Expr | None, Expr | None] = (None, None),
        probe: Callable[[Node], Frame] | None = None,
        parameters: Mapping[str, object] | None = None,
        external: ReadExternal = refuse,
        found: list[QueryError] | None = None,
        ingested: bool = False,
        replayed: bool = False,
    ) -> None:
        self.catalog = catalog
        self.found = found
        self.clip = clip
        self.ingested = ingested
        self.replayed = replayed
        self.probe = probe
        self.external = external
        self.parameters = dict(parameters or {})
        self.scalars = ScalarBinder(self, now, found=found)
        self.root = Env(StoredNames(functions))
        self.ids = 0
        self.nodes = 0
        self.calls = 0
        self.chart: Chart | None = None
        self.partitions: tuple[str, ...] = ()
        """Names of the hidden columns by which mv-apply and partition tell their parts apart."""
        self.label: str | None = None
        """What the rows before the operator being bound are called: a table's name, or `as`."""
        self.has_wide_rows = False
        """Whether one column holds a row of many values, of which not all may be read."""
        self.has_looked = False
        """Whether rows were asked for while binding."""
        self.shared: dict[tuple[int, int], tuple[int, Node]] = {}
        self.kept: list[Env] = []
        """What `shared` knows by id: an id is another's once its object is gone."""

    # --- the query -----------------------------------------------------------------------------------------

    def query(self, query: syntax.Query) -> Query:
        env = self.root
        plans: list[list[tuple[str, Node]]] = []
        declared: set[str] = set()
        lets: set[str] = set()
        for statement in query.statements:
            match statement:
                case syntax.Let():
                    _only_once(statement, lets)
                    env = env.with_({statement.name: self._let(statement, env)})
                case syntax.SetOption():
                    self.scalars.options[statement.name] = statement.value
                case syntax.ExpressionStatement():
                    plans.append(self._results(statement.value, env))
                    env = several.named(statement.value, env)
                case syntax.OtherStatement():
                    raise UnsupportedError(f"statement {statement.keyword}", statement.span)
                case syntax.DeclarePattern():
                    env = env.with_({statement.name: PatternBinding(statement, env)})
                case syntax.QueryParameters():
                    given = {
                        p.name: declaring.parameter(self, p, self.parameters, env)
                        for p in statement.parameters
                    }
                    declared |= set(given)
                    lets |= set(given)
                    env = env.with_(given)
        for name in self.parameters.keys() - declared:
            raise BindingError(f"the query declares no parameter '{name}'", query.span)
        plans = [found for found in plans if found]
        if not plans:
            raise BindingError(
                "the query has no tabular expression", query.span, hint="end it with a table or print"
            )
        results = [result for found in (plans[-1], *plans[:-1]) for result in found]
        first, *rest = [self._without_hidden(plan) for _, plan in results]
        return Query(first, self.chart, tuple(rest), tuple(name for name, _ in results))

    def _results(self, expr: syntax.Expr, env: Env) -> list[tuple[str, Node]]:
        found = several.results(self, expr, env)
        return [(several.name_of(expr), self._result(expr, env))] if found is None else found

    def _result(self, expr: syntax.Expr, env: Env) -> Node:
        """The plan of a statement; one that is a value is printed."""
        is_value = isinstance(expr, syntax.Binary | syntax.Unary | syntax.Literal | syntax.InList)
        if isinstance(expr, syntax.Call) and not self.is_table(expr, env):
            is_value = self.scalars.knows(expr.name, env)
        if not is_value:
            return self.table(expr, env)
        printed = syntax.Print(expr.span, (expr,))
        return self.table(syntax.Pipe(expr.span, None, (printed,)), env)

    def _without_hidden(self, plan: Node) -> Node:
        shown = visible(plan.columns)
        return plan if shown == plan.columns else Project(shown, plan, refs(shown))

    def _let(self, let: syntax.Let, env: Env) -> Binding:
        if isinstance(let.value, syntax.Function):
            return FunctionBinding(let.name, let.value, env)
        if self.is_table(let.value, env):
            return TableBinding(let.value, env)
        value = self.scalars.bind(let.value, Scope((), env))
        return ScalarBinding(self.scalars.bounded(value, let.name_span))

    def look(self, plan: Node, what: str, span: Span) -> Frame:
        """The rows of a plan, run now: for what cannot name its columns before it has seen the data."""
        if self.probe is None:
            raise UnsupportedError(f"{what} without a schema, where no query can be run", span)
        self.has_looked = True
        return self.probe(plan)

    # --- what the scalar binder asks -----------------------------------------------------------------------

    def new_id(self) -> int:
        self.ids += 1
        return self.ids

    def table_names(self) -> tuple[str, ...]:
        return self.catalog.table_names()

    def is_table(self, expr: syntax.Expr, env: Env) -> bool:
        """Does the expression give a table?"""
        if declaring.pattern_of(expr, env) is not None:
            return True
        match expr:
            case syntax.Pipe():
                return bool(expr.operators) or (expr.source is not None and self.is_table(expr.source, env))
            case syntax.DataTable() | syntax.ExternalData():
                return True
            case syntax.Member(target=syntax.Call(name=place)):
                return place in tables.PLACES
            case syntax.Name():
                return self._is_table_name(env.get(expr.text), expr.text)
            case syntax.Call():
                called = env.get(expr.name)
                if isinstance(called, FunctionBinding):
                    return self._gives_table(called)
                return expr.name in TABLE_FUNCTIONS
            case _:
                return False

    def _is_table_name(self, binding: Binding | None, name: str) -> bool:
        if isinstance(binding, FunctionBinding):
            return self._gives_table(binding)
        if binding is not None:
            return isinstance(binding, TableBinding)
        return tables.table_named(self, name) is not None

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
        if self.calls > MAX_CALLS:
            raise LimitError("the query calls too many functions", span)
        parameters = function.value.parameters
        named = {arg.names[0]: arg.value for arg in args if isinstance(arg, syntax.Named)}
        positional = [arg for arg in args if not isinstance(arg, syntax.Named)]
        if len(positional) > len(parameters):
            raise BindingError(
                f"'{function.name}' takes {len(parameters)} arguments, not {len(positional)}", span
            )
        known = [parameter.name for parameter in parameters]
        for arg in args:
            if isinstance(arg, syntax.Named) and arg.names[0] not in known:
                raise BindingError(
                    f"'{function.name}' has no parameter '{arg.names[0]}'",
                    arg.name_spans[0],
                    hint=suggestion(arg.names[0], known),
                )
        names: dict[str, Binding] = {}
        for parameter in parameters:
            given = named.get(parameter.name)
            if given is None:
                given = positional.pop(0) if positional else parameter.default
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
        declared = set(names)
        for statement in function.value.statements:
            if isinstance(statement, syntax.Let):
                _only_once(statement, declared)
                env = env.with_({statement.name: self._let(statement, env)})
        return env

    # --- tables --------------------------------------------------------------------------------------------

    def table(self, expr: syntax.Expr, env: Env) -> Node:
        """The plan of a tabular expression, with column ids of its own."""
        node = self.table_or_graph(expr, env)
        if isinstance(node, Graph):
            raise BindingError(
                "a table is expected, this is a graph",
                expr.span,
                hint="graph-match and graph-to-table give one",
            )
        return node

    def table_or_graph(self, expr: syntax.Expr, env: Env) -> Node:
        """As `table`; where a graph operator may follow, a graph may come."""
        pattern = declaring.pattern_of(expr, env)
        if pattern is not None:
            return declaring.pattern_table(self, pattern, env)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise LimitError(f"the query grows beyond {MAX_NODES} steps", expr.span)
        match expr:
            case syntax.Pipe():
                return self._pipe(expr, env)
            case syntax.Name():
                return tables.table_name(self, expr, env)
            case syntax.Call():
                return tables.table_call(self, expr, env)
            case syntax.DataTable():
                return tables.datatable(self, expr, env)
            case syntax.ExternalData():
                return externaldata(self, expr, env)
            case syntax.Member():
                return tables.table_elsewhere(self, expr, env)
            case _:
                raise BindingError("a table is expected", expr.span)

    def _pipe(self, pipe: syntax.Pipe, env: Env) -> Node:
        operators = pipe.operators
        if pipe.source is None:
            if not operators:
                raise BindingError("a table is expected", pipe.span)
            node, operators = self._source(operators[0], env), operators[1:]
            label = None
        else:
            node = self.table_or_graph(pipe.source, env)
            label = pipe.source.text if isinstance(pipe.source, syntax.Name) else None
        return self._steps(pipe, node, operators, env, label)

    def _steps(
        self, pipe: syntax.Pipe, node: Node, operators: Sequence[syntax.Operator], env: Env, label: str | None
    ) -> Node:
        for operator in operators:
            self.nodes += 1
            if self.nodes > MAX_NODES:
                raise LimitError(f"the query grows beyond {MAX_NODES} steps", operator.span)
            if isinstance(operator, syntax.As):
                # Rows that begin a sub-pipe cannot be asked for again by a name, except those of partition.
                if pipe.source is not None or operator is not pipe.operators[0]:
                    rows: syntax.Expr = _before(pipe, operator)
                    if not self.partitions and property_text(operator, "hint.materialized") == "True":
                        node = tables.materialize(self, rows, env)
                        rows = syntax.Call(rows.span, "materialize", (rows,), rows.span)
                    env = env.with_({operator.name: TableBinding(rows, env)})
                label = operator.name
                continue
            if isinstance(operator, syntax.Invoke):
                node = tables.invoke(self, _before(pipe, operator), operator, env)
                label = None
                continue
            if isinstance(operator, syntax.Partition) and asks_again(operator):
                operator = named_parts(operator, _before(pipe, operator))
            bind = STEPS.get(type(operator))
            if bind is None:
                raise UnsupportedError(spelling(operator), operator.span)
            if isinstance(node, Graph) and not isinstance(operator, STEPS_ON_GRAPHS):
                raise BindingError(f"{spelling(operator)} is for tables, not for graphs", operator.span)
            self.label = label
            try:
                node = bind(self, node, operator, env)
            except QueryError as error:
                found = self.found
                if found is None or len(found) >= MAX_PROBLEMS - 1 or not isinstance(operator, SAME_COLUMNS):
                    raise
                found.append(error)
            label = None
        return node

    def body(self, pipe: syntax.Pipe, node: Node, env: Env, partition: str) -> Node:
        """The steps of a sub-pipe over each part of the rows, told apart by a hidden column."""
        outside = self.partitions
        self.partitions = (*outside, partition)
        try:
            return self._steps(pipe, node, pipe.operators, env, None)
        finally:
            self.partitions = outside

    def _source(self, operator: syntax.Operator, env: Env) -> Node:
        bind = SOURCES.get(type(operator))
        if bind is None:
            raise UnsupportedError(spelling(operator), operator.span)
        return bind(self, operator, env)


def _only_once(let: syntax.Let, declared: set[str]) -> None:
    """Note the name of a let; one that the query or the function has given already is refused."""
    if let.name in declared:
        raise BindingError(f"'{let.name}' is declared twice", let.name_span, hint="give it another name")
    declared.add(let.name)


def _before(pipe: syntax.Pipe, operator: syntax.Operator) -> syntax.Pipe:
    """The pipe up to an operator."""
    place = next(i for i, item in enumerate(pipe.operators) if item is operator)
    if pipe.source is None and place == 0:
        raise UnsupportedError(spelling(operator), operator.span, hint="it cannot begin a sub-pipe")
    return syntax.Pipe(pipe.span, pipe.source, pipe.operators[:place])


def spelling(operator: syntax.Operator) -> str:
    """How the operator is written in KQL."""
    name = type(operator).__name__
    if isinstance(operator, syntax.RangeSource):
        return "range"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
