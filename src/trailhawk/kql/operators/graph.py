"""Graphs: make-graph and what reads one. A graph is two plans, nodes and edges, inside a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, LimitError, Span, UnsupportedError
from trailhawk.kql import graphs, syntax
from trailhawk.kql.functions import AGGREGATES, WINDOWS
from trailhawk.kql.functions.registry import widest
from trailhawk.kql.names import Names, auto_name
from trailhawk.kql.operators.once import once
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import carried, property_text, refs
from trailhawk.kql.operators.unions import united
from trailhawk.kql.plan import (
    Aggregate,
    AggregateCall,
    Apply,
    ColumnRef,
    Const,
    Expr,
    Filter,
    Frame,
    Join,
    JoinKind,
    Node,
    OutColumn,
    Project,
    Shared,
    Union,
    Window,
)
from trailhawk.kql.records import field_names, replace
from trailhawk.kql.schema import HIDDEN_PREFIX
from trailhawk.kql.scope import Env, Scope, visible
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
MAX_EDGES = 50
"""Edges in one pattern."""
_LONGEST = 10**9
MAX_JOINED_EDGES = 8
"""A pattern of at most so many single edges is joined by the engine; others are searched for."""
_KEY = f"{HIDDEN_PREFIX}node"
# What a node has beside its properties; a query cannot write these names.
_ID, _IN, _OUT = "#id", "#in", "#out"
_NODE_FUNCTIONS = {"node_id": _ID, "node_degree_in": _IN, "node_degree_out": _OUT}
_PATH_FUNCTIONS = frozenset({"map", "all", "any"})


class Graph(Node, frozen=True):
    """Nodes and edges. `key`, `source` and `target` are columns of theirs that no query can name.

    Each is the node's id, and behind it the part where the graph is partitioned. A graph has no columns.
    """

    nodes: Node
    edges: Node
    key: tuple[OutColumn, ...]
    source: tuple[OutColumn, ...]
    target: tuple[OutColumn, ...]


def _graph(node: Node, span: Span) -> Graph:
    if not isinstance(node, Graph):
        raise BindingError("a graph is expected", span, hint="make-graph gives one")
    return node


def _last(node: Node, count: int) -> tuple[OutColumn, ...]:
    return node.columns[len(node.columns) - count :]


# --- make-graph --------------------------------------------------------------------------------------------


@step(syntax.MakeGraph)
def make_graph(binder: Binder, node: Node, operator: syntax.MakeGraph, env: Env) -> Node:
    """A graph with the rows as edges; their ends are nodes, with the properties that a table has of them."""
    if carried(binder, node):
        raise UnsupportedError("make-graph inside a sub-pipe", operator.span)
    part_name = f"{HIDDEN_PREFIX}part{binder.new_id()}"
    tables = [
        (visible_only(binder.table(item, env)), key, place)
        for place, (item, key) in enumerate(operator.nodes)
    ]
    part = operator.partition_by
    ends = [_key(binder, node, item, env) for item in (operator.source, operator.target)]
    keys = [_key(binder, table, key, env) for table, key, _ in tables]
    type_ = widest(value.type for value in (*ends, *keys))
    if type_ is None or (type_ is not ends[0].type and not type_.is_number):
        raise BindingError("the ends of edges and the nodes' ids are of different types", operator.span)

    def with_keys(table: Node, values: Sequence[Expr], span: Span) -> Node:
        """The table's own columns, the keys in one type, and the part for each."""
        converted = [binder.scalars.convert(value, type_, span) for value in values]
        fresh = [OutColumn(binder.new_id(), _KEY, type_) for _ in converted]
        if part is not None:
            parted = _key(binder, table, part, env)
            converted.append(parted)
            fresh.append(OutColumn(binder.new_id(), part_name, parted.type))
        columns = visible(table.columns)
        return Project((*columns, *fresh), table, (*refs(columns), *converted))

    width = 1 if part is None else 2
    use_edges = once(binder, with_keys(node, ends, operator.span))
    edges = use_edges()
    source, target, *parts = _last(edges, width + 1)
    given = [
        (str(place), with_keys(table, [key], operator.span))
        for (table, _, place), key in zip(tables, keys, strict=True)
    ]
    names = [item.text for _, item in operator.nodes if isinstance(item, syntax.Name)]
    called = property_text(operator, "with_node_id")
    names = list(dict.fromkeys(names if tables else [called] if called else []))
    branches = [*given, ("", _endpoints(binder, use_edges(), names, width))]
    rows = united(binder, branches, None)
    key = tuple(column for column in rows.columns if column.name in (_KEY, part_name))
    if len(key) != width:
        raise BindingError("the column that parts the graph has different types", operator.span)
    key = (next(c for c in key if c.name == _KEY), *(c for c in key if c.name == part_name))
    use_nodes = once(binder, _merged(binder, rows, key))
    nodes = use_nodes()
    graph = Graph((), nodes, edges, nodes.columns[:width], (source, *parts), (target, *parts))
    if operator.body is None:
        return graph
    found = binder.body(operator.body, graph, env, part_name)
    if isinstance(found, Graph):
        raise BindingError("the sub-pipe of make-graph ends with a graph", operator.body.span)
    kept = tuple(column for column in found.columns if column.name != part_name)
    return Project(kept, found, refs(kept))


def visible_only(node: Node) -> Node:
    """The table without what a query cannot name."""
    shown = visible(node.columns)
    return node if shown == node.columns else Project(shown, node, refs(shown))


def _key(binder: Binder, table: Node, name: syntax.Expr, env: Env) -> Expr:
    value = binder.scalars.bind(name, Scope(table.columns, env))
    if value.type is _T.DYNAMIC:
        raise BindingError("a dynamic value cannot be a node's id", name.span, hint="use tostring(...)")
    return value


def _endpoints(binder: Binder, edges: Node, names: Sequence[str], width: int) -> Node:
    """Both ends of every edge as nodes whose only properties are the columns of their ids."""
    source, target, *parts = _last(edges, width + 1)
    columns = [OutColumn(binder.new_id(), name, source.type) for name in (*names, _KEY)]
    columns += [OutColumn(binder.new_id(), column.name, column.type) for column in parts]
    rows = tuple((*refs([end] * (len(names) + 1)), *refs(parts)) for end in (source, target))
    return Union(tuple(columns), (edges, edges), rows)


def _merged(binder: Binder, rows: Node, key: tuple[OutColumn, ...]) -> Node:
    """One row for each node, of its properties those that are not empty."""
    others = [column for column in rows.columns if column not in key]
    calls = tuple(AggregateCall(AGGREGATES["max"], (ref,), ref.type) for ref in refs(others))
    columns = tuple(replace(column, id=binder.new_id()) for column in (*key, *others))
    return Aggregate(columns, rows, refs(key), calls)


# --- graph-to-table, graph-where, graph-mark-components ----------------------------------------------------


@step(syntax.GraphToTable)
def graph_to_table(binder: Binder, node: Node, operator: syntax.GraphToTable, env: Env) -> Node:
    """The nodes or the edges as rows."""
    graph = _graph(node, operator.span)
    if len(operator.outputs) > 1:
        raise UnsupportedError("graph-to-table of nodes and edges at once", operator.span, hint="ask for one")
    return exported(binder, graph, operator.outputs[0])


def exported(binder: Binder, graph: Graph, output: syntax.GraphOutput) -> Node:
    """The rows of one of graph-to-table's outputs; ids are hashes of the nodes' ids."""
    table = graph.nodes if output.kind == "nodes" else graph.edges
    ids = (
        [("with_node_id", graph.key)]
        if output.kind == "nodes"
        else [("with_source_id", graph.source), ("with_target_id", graph.target)]
    )
    pairs: list[tuple[OutColumn, Expr]] = []
    for name, key in ids:
        shown = property_text(output, name)
        if shown is not None:
            value = binder.scalars.call("hash", [ColumnRef(key[0].type, key[0].id)], output.span)
            pairs.append((OutColumn(binder.new_id(), shown, value.type), value))
    for column in (*visible(table.columns), *carried(binder, table)):
        pairs.append((column, ColumnRef(column.type, column.id)))
    return Project(tuple(column for column, _ in pairs), table, tuple(value for _, value in pairs))


@step(syntax.GraphWhere)
def graph_where(binder: Binder, node: Node, operator: syntax.GraphWhere, env: Env) -> Node:
    """The graph with the nodes (and edges between them), or the edges, for which a predicate is true."""
    graph = _graph(node, operator.span)
    if operator.edges:
        test = binder.scalars.predicate(operator.predicate, Scope(visible(graph.edges.columns), env))
        return replace(graph, edges=Filter(graph.edges.columns, graph.edges, test))
    test = binder.scalars.predicate(operator.predicate, Scope(visible(graph.nodes.columns), env))
    use = once(binder, Filter(graph.nodes.columns, graph.nodes, test))
    nodes, edges = use(), graph.edges
    key = nodes.columns[: len(graph.key)]
    for end in (graph.source, graph.target):
        other = use()
        keys = tuple(zip(refs(end), refs(other.columns[: len(end)]), strict=True))
        edges = Join(edges.columns, edges, other, JoinKind.LEFT_SEMI, keys)
    return replace(graph, nodes=nodes, edges=edges, key=key)


@step(syntax.GraphMarkComponents)
def graph_mark_components(binder: Binder, node: Node, operator: syntax.GraphMarkComponents, env: Env) -> Node:
    """The graph with the number of its component in each node."""
    graph = _graph(node, operator.span)
    kind = property_text(operator, "kind") or "weak"
    if kind not in ("weak", "strong"):
        raise BindingError(f"there is no kind of component '{kind}'", operator.span, hint="weak or strong")
    name = property_text(operator, "with_component_id") or "ComponentId"
    if any(column.name == name for column in graph.nodes.columns):
        raise BindingError(f"the nodes have a property '{name}'", operator.span)
    columns = tuple(replace(column, id=binder.new_id()) for column in graph.nodes.columns)
    number = OutColumn(binder.new_id(), name, _T.LONG)
    given = (graph.nodes.columns, (*graph.source, *graph.target))
    width = len(graph.key)

    def mark(inputs: tuple[Frame, ...]) -> list[list[object]]:
        nodes, edges = inputs
        places = {row[:width]: place for place, row in enumerate(nodes.rows())}
        source, target = _ends(edges, places, width)
        found = graphs.components(len(places), source, target, strong=kind == "strong")
        return [*nodes.values, list(found)]

    use = once(
        binder, Apply((*columns, number), (graph.nodes, graph.edges), given, mark, "graph-mark-components")
    )
    marked = use()
    return replace(graph, nodes=marked, key=marked.columns[:width])


def _ends(edges: Frame, places: dict[tuple[object, ...], int], width: int) -> tuple[list[int], list[int]]:
    """The nodes of each edge; their keys are the frame's first columns."""
    rows = edges.rows()
    return (
        [places[row[:width]] for row in rows],
        [places[row[width : 2 * width]] for row in rows],
    )


# --- patterns ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Output:
    """A column that a match gives: a node's or an edge's value, or one made of a path's values.

    `place` is a column of the nodes (for "node" and "inner") or of the edges; `how`: value, map, any, all.
    """

    column: OutColumn
    of: str
    variable: str
    place: int
    how: str = "value"


@dataclass
class _Side:
    """The nodes or the edges of a graph with columns computed for a pattern."""

    columns: tuple[OutColumn, ...]
    values: list[Expr] = field(default_factory=list)

    def place(self, value: Expr) -> int:
        """Where among the computed columns this value is."""
        if value not in self.values:
            self.values.append(value)
        return self.values.index(value)


class _Pattern:
    """A pattern being bound: which variables there are, what is asked of them, and what a match gives."""

    def __init__(self, binder: Binder, graph: Graph, operator: syntax.GraphMatch, env: Env) -> None:
        self.binder = binder
        self.graph = graph
        self.env = env
        self.edges: list[graphs.EdgePattern] = []
        self.paths: set[str] = set()
        self.nodes: list[str] = []
        self._read(operator)
        self.degrees = (OutColumn(binder.new_id(), _IN, _T.LONG), OutColumn(binder.new_id(), _OUT, _T.LONG))
        self.asks_degrees = False
        key = replace(graph.key[0], name=_ID)
        self.node_side = _Side((*visible(graph.nodes.columns), key, *self.degrees))
        self.edge_side = _Side(visible(graph.edges.columns))
        self.outputs: dict[str, _Output] = {}
        self.node_tests: dict[str, list[int]] = {}
        self.edge_tests: dict[str, list[int]] = {}
        self.inner_tests: dict[str, list[int]] = {}
        self.in_where = False
        self.path_in_rest = False
        """Does a condition that the search does not test look at the path? The first may then not do."""

    def _read(self, operator: syntax.GraphMatch) -> None:
        for number, sequence in enumerate(operator.patterns):
            names = [part.name or f"#{number}.{place}" for place, part in enumerate(sequence)]
            self.nodes = list(dict.fromkeys((*self.nodes, *names[::2])))
            for place in range(1, len(sequence), 2):
                edge = sequence[place]
                if not isinstance(edge, syntax.GraphEdgePattern):
                    raise BindingError("nodes and edges alternate in a pattern", edge.span)
                low, high = self._length(edge.low), self._length(edge.high)
                if high < low:
                    raise BindingError("an edge's smallest length is above its largest", edge.span)
                if edge.low is not None:
                    self.paths.add(names[place])
                self.edges.append(
                    graphs.EdgePattern(
                        names[place], names[place - 1], names[place + 1], edge.direction, low, high
                    )
                )
        edges = [edge.name for edge in self.edges]
        if len({*edges, *self.nodes}) < len(edges) + len(self.nodes):
            raise BindingError("a name of the pattern stands for two things", operator.span)
        if len(edges) > MAX_EDGES:
            raise LimitError(f"the pattern has more than {MAX_EDGES} edges", operator.span)
        if not graphs.is_connected(self.edges, self.nodes):
            raise BindingError("the parts of the pattern are not connected", operator.span)

    def _length(self, bound: syntax.Expr | None) -> int:
        """A constant: how many edges a path has at least or at most; 1 for a single edge."""
        if bound is None:
            return 1
        value = self.binder.scalars.constant(bound, self.env, "an edge's length").value
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BindingError("an edge's length is a whole number from 0", bound.span)
        return min(value, _LONGEST)

    # --- what is asked -------------------------------------------------------------------------------------

    @property
    def edge_names(self) -> set[str]:
        return {edge.name for edge in self.edges}

    def where(self, predicate: syntax.Expr) -> list[syntax.Expr]:
        """Conditions on one variable become tests of the search; the others are given back."""
        rest = []
        for conjunct in _conjuncts(predicate):
            if not self._test(conjunct):
                rest.append(conjunct)
        return rest

    def _test(self, conjunct: syntax.Expr) -> bool:
        """Take the condition as a test of one node, or of each edge or inner node of a path, if it is one."""
        if isinstance(conjunct, syntax.Call) and conjunct.name == "all" and self._is_over_path(conjunct):
            variable, inner = self._path(conjunct.args[0])
            side, tests = self._side(inner), self.inner_tests if inner else self.edge_tests
            value = self._element_test(conjunct.args[1], inner)
            tests.setdefault(variable, []).append(side.place(value))
            return True
        variables = self._variables(conjunct)
        if len(variables) != 1 or any(
            self._is_over_path(part) or self._is_length(part) for part in _walk(conjunct)
        ):
            return False
        variable = variables.pop()
        is_node = variable in self.nodes
        bare = _rewritten(conjunct, lambda part: self._bare(part, variable))
        value = self._element_test(bare, is_node)
        tests = self.node_tests if is_node else self.edge_tests
        tests.setdefault(variable, []).append(self._side(is_node).place(value))
        return True

    def _side(self, of_nodes: bool) -> _Side:
        return self.node_side if of_nodes else self.edge_side

    def _element_test(self, condition: syntax.Expr, of_node: bool) -> Expr:
        return self.binder.scalars.predicate(
            self._element(condition), Scope(self._side(of_node).columns, self.env)
        )

    def _element(self, expr: syntax.Expr) -> syntax.Expr:
        """An expression over one element: node_id() and the like without argument are its own."""
        return _rewritten(expr, self._own_function)

    def _own_function(self, part: syntax.Expr) -> syntax.Expr | None:
        if isinstance(part, syntax.Call) and not part.args:
            if part.name in _NODE_FUNCTIONS:
                return self._node_function(part)
            if part.name == "labels":
                return syntax.Literal(part.span, [], _T.DYNAMIC)
        return None

    def _node_function(self, call: syntax.Call) -> syntax.Expr:
        name = _NODE_FUNCTIONS[call.name]
        self.asks_degrees |= name in (_IN, _OUT)
        value = syntax.Name(call.span, name)
        return syntax.Call(call.span, "tostring", (value,), call.span) if name == _ID else value

    def _bare(self, part: syntax.Expr, variable: str) -> syntax.Expr | None:
        """A variable's property as the column of its table."""
        match part:
            case syntax.Member(target=syntax.Name(text=name)) if name == variable:
                return self._known(variable, part.name, part.span)
            case syntax.Call(args=(syntax.Name(text=name),)) if name == variable:
                if part.name in _NODE_FUNCTIONS and variable in self.nodes:
                    return self._node_function(part)
                if part.name == "labels":
                    return syntax.Literal(part.span, [], _T.DYNAMIC)
        return None

    def _known(self, variable: str, name: str, span: Span) -> syntax.Name:
        side = self._side(variable in self.nodes)
        if not any(column.name == name for column in side.columns):
            what = "node" if variable in self.nodes else "edge"
            raise BindingError(f"the {what} '{variable}' has no property '{name}'", span)
        return syntax.Name(span, name)

    def _variables(self, expr: syntax.Expr) -> set[str]:
        known = {*self.nodes, *self.edge_names}
        return {part.text for part in _walk(expr) if isinstance(part, syntax.Name) and part.text in known}

    def _is_over_path(self, part: syntax.Expr) -> bool:
        return (
            isinstance(part, syntax.Call)
            and part.name in _PATH_FUNCTIONS
            and len(part.args) == 2
            and self._path(part.args[0])[0] in self.edge_names
        )

    def _is_length(self, part: syntax.Expr) -> bool:
        """Is it array_length() of a path's edges or inner nodes?"""
        return (
            isinstance(part, syntax.Call)
            and part.name == "array_length"
            and len(part.args) == 1
            and self._path(part.args[0])[0] in self.paths
        )

    def _path(self, expr: syntax.Expr) -> tuple[str, bool]:
        """The edge variable that a path function is over, and whether it means the nodes inside."""
        inner = False
        if (
            isinstance(expr, syntax.Call)
            and expr.name in ("inner_nodes", "inner_edges")
            and len(expr.args) == 1
        ):
            inner, expr = expr.name == "inner_nodes", expr.args[0]
        return (expr.text if isinstance(expr, syntax.Name) else "", inner)

    # --- what is given -------------------------------------------------------------------------------------

    def expression(self, expr: syntax.Expr) -> syntax.Expr:
        """The expression over columns that a match gives."""
        return _rewritten(expr, self._given)

    def _given(self, part: syntax.Expr) -> syntax.Expr | None:
        if isinstance(part, syntax.Call) and self._is_over_path(part):
            return self._over_path(part)
        of_path = self._path_property(part)
        if of_path is not None:
            return self._over_path(of_path)
        match part:
            case syntax.Member(target=syntax.Name(text=name)) if name in self.nodes:
                return self._value(part, name, "node", self._known(name, part.name, part.span))
            case syntax.Member(target=syntax.Name(text=name)) if name in self.edge_names:
                return self._value(part, name, "edge", self._known(name, part.name, part.span))
            case syntax.Call(args=(syntax.Name(text=name),)) if name in self.nodes:
                if part.name in _NODE_FUNCTIONS:
                    return self._value(part, name, "node", self._node_function(part))
            case syntax.Call(args=(path,)) if self._is_length(part):
                each = syntax.Literal(part.span, True, _T.BOOL)
                return replace(
                    part, args=(self._over_path(syntax.Call(part.span, "map", (path, each), part.span)),)
                )
            case _:
                pass
        is_labels = isinstance(part, syntax.Call) and part.name == "labels" and len(part.args) == 1
        if is_labels and len(self._variables(part)) == 1:
            return syntax.Literal(part.span, [], _T.DYNAMIC)
        if isinstance(part, syntax.Name) and part.text in {*self.nodes, *self.edge_names}:
            return self._whole(part)
        return None

    def _whole(self, part: syntax.Name) -> syntax.Name:
        """A node, an edge or each edge of a path as a bag of the properties that it has."""
        if self.in_where:
            raise UnsupportedError(f"a condition on all properties of '{part.text}'", part.span)
        every = (syntax.Literal(part.span, True, _T.BOOL),)
        bag = syntax.Call(part.span, "pack_all", every, part.span)
        if part.text in self.paths:
            return self._over_path(syntax.Call(part.span, "map", (part, bag), part.span))
        of_node = part.text in self.nodes
        table = self.graph.nodes if of_node else self.graph.edges
        bound = self.binder.scalars.bind(bag, Scope(visible(table.columns), self.env))
        place = self._side(of_node).place(bound)
        of = "node" if of_node else "edge"
        return self._give(part.span, _Output(self._column(_T.DYNAMIC), of, part.text, place))

    def _path_property(self, part: syntax.Expr) -> syntax.Call | None:
        """`path.property`, or a step into one, as map() over the path's edges."""
        steps: list[syntax.Member | syntax.Index] = []
        node = part
        while isinstance(node, syntax.Member | syntax.Index):
            target = node.target
            if isinstance(node, syntax.Member) and isinstance(target, syntax.Name):
                if target.text not in self.paths:
                    return None
                if self.in_where:
                    what = f"a condition that compares each edge of '{target.text}' with others"
                    raise UnsupportedError(what, part.span)
                value: syntax.Expr = syntax.Name(node.span, node.name)
                for step_ in reversed(steps):
                    value = replace(step_, target=value)
                return syntax.Call(part.span, "map", (target, value), part.span)
            steps.append(node)
            node = target
        return None

    def _value(self, part: syntax.Expr, variable: str, of: str, value: syntax.Expr) -> syntax.Name:
        side = self._side(of == "node")
        bound = self.binder.scalars.bind(value, Scope(side.columns, self.env))
        return self._give(part.span, _Output(self._column(bound.type), of, variable, side.place(bound)))

    def _over_path(self, call: syntax.Call) -> syntax.Name:
        """map, any or all over the edges or inner nodes of a path."""
        variable, inner = self._path(call.args[0])
        side = self._side(inner)
        if call.name == "map":
            bound = self.binder.scalars.bind(self._element(call.args[1]), Scope(side.columns, self.env))
            value = self.binder.scalars.call("pack_array", [bound], call.span)
        else:
            value = self._element_test(call.args[1], inner)
        column = self._column(_T.DYNAMIC if call.name == "map" else _T.BOOL)
        of = "inner" if inner else "path"
        return self._give(call.span, _Output(column, of, variable, side.place(value), call.name))

    def _column(self, type_: KqlType) -> OutColumn:
        id_ = self.binder.new_id()
        return OutColumn(id_, f"#{id_}", type_)

    def _give(self, span: Span, output: _Output) -> syntax.Name:
        for known in self.outputs.values():
            if replace(known, column=output.column) == output:
                return syntax.Name(span, known.column.name)
        self.outputs[output.column.name] = output
        return syntax.Name(span, output.column.name)

    # --- the search ----------------------------------------------------------------------------------------

    def search(self, span: Span, cycles: str, *, shortest: bool, every: bool, name: str) -> Apply:
        """The matches as rows: what the pattern gives, ends and length, and the part of the graph."""
        nodes, edges = self._nodes(), self._edges()
        outputs = list(self.outputs.values())
        parts = self.graph.key[1:]
        extra = [
            OutColumn(self.binder.new_id(), f"{HIDDEN_PREFIX}{what}", _T.LONG)
            for what in ("start", "end", "length")
        ]
        part_columns = [replace(part, id=self.binder.new_id()) for part in parts]
        columns = (*(output.column for output in outputs), *extra, *part_columns)
        width = len(self.graph.key)
        first, last = self.edges[0].left if self.edges else self.nodes[0], self.nodes[-1]
        direct = shortest and len(self.edges) == 1 and self.edges[0].low <= 1 and not self.path_in_rest
        tests = (self.node_tests, self.edge_tests, self.inner_tests)
        pattern = tuple(self.edges)

        def match(inputs: tuple[Frame, ...]) -> list[list[object]]:
            node_rows, edge_rows = inputs
            places = {row[:width]: place for place, row in enumerate(node_rows.rows())}
            source, target = _ends(edge_rows, places, width)
            node_values, edge_values = node_rows.values[width:], edge_rows.values[2 * width :]
            found = graphs.Search(
                len(places),
                source,
                target,
                span,
                _allowed(tests[0], node_values),
                _allowed(tests[1], edge_values),
                _allowed(tests[2], node_values),
                cycles,
            )
            matches = (
                found.shortest(pattern[0], every=every) if direct else found.matches(pattern, self.nodes)
            )
            result: list[list[object]] = [[] for _ in columns]
            for item in matches:
                if shortest and not direct and item.nodes[first] == item.nodes[last]:
                    continue
                row = [_given_value(output, item, node_values, edge_values) for output in outputs]
                row += [item.nodes[first], item.nodes[last], item.length]
                row += [node_rows.values[1 + place][item.nodes[first]] for place in range(len(parts))]
                for values, value in zip(result, row, strict=True):
                    values.append(value)
            return result

        given = (nodes.columns, edges.columns)
        return Apply(columns, (nodes, edges), given, match, name)

    def joined(self, span: Span, cycles: str) -> Node | None:
        """The matches of a pattern of single edges as joins; None of one that needs the search."""
        by_path = {"path", "inner"} & {output.of for output in self.outputs.values()}
        if self.paths or by_path or self.inner_tests or not 0 < len(self.edges) <= MAX_JOINED_EDGES:
            return None
        numbered = self._numbered_edges()
        use_nodes, use_edges = once(self.binder, self._nodes()), once(self.binder, numbered)
        width = len(self.graph.key)
        places: dict[str, Node] = {}
        found: Node | None = None
        for edge in graphs.in_order(self.edges, self.edges[0].left):
            rows = self._either_way(use_edges, width) if edge.direction == "--" else use_edges()
            places[edge.name] = rows
            walked = self._tested(rows, self.edge_tests.get(edge.name, []), 2 * width)
            ends = [walked.columns[:width], walked.columns[width : 2 * width]]
            if edge.direction == "<-":
                ends.reverse()
            if found is None:
                places[edge.left] = use_nodes()
                found = self._tested(places[edge.left], self.node_tests.get(edge.left, []), width)
            known = [name in places for name in (edge.left, edge.right)]
            if cycles == "none" and all(known):
                return None
            on: list[tuple[Expr, Expr]] = []
            for name, end, is_known in zip((edge.left, edge.right), ends, known, strict=True):
                if is_known:
                    on += zip(refs(places[name].columns[:width]), refs(end), strict=True)
            found = Join((*found.columns, *walked.columns), found, walked, JoinKind.INNER, tuple(on))
            for name, end, is_known in zip((edge.left, edge.right), ends, known, strict=True):
                if not is_known:
                    places[name] = use_nodes()
                    other = self._tested(places[name], self.node_tests.get(name, []), width)
                    pairs = tuple(zip(refs(end), refs(other.columns[:width]), strict=True))
                    found = Join((*found.columns, *other.columns), found, other, JoinKind.INNER, pairs)
        if found is None:
            return None
        found = self._without_cycles(found, places, cycles, span)
        values: list[Expr] = []
        for output in self.outputs.values():
            start = width if output.of == "node" else 2 * width
            column = places[output.variable].columns[start + output.place]
            values.append(ColumnRef(column.type, column.id))
        parts = [replace(part, id=self.binder.new_id()) for part in self.graph.key[1:]]
        first = places[self.edges[0].left].columns[1:width]
        columns = (*(output.column for output in self.outputs.values()), *parts)
        return Project(columns, found, (*values, *refs(first)))

    def _numbered_edges(self) -> Node:
        """The edges with their computed columns and, last, a number of each."""
        edges = self._edges()
        number = OutColumn(self.binder.new_id(), f"{HIDDEN_PREFIX}edge", _T.LONG)
        return Window((*edges.columns, number), edges, (AggregateCall(WINDOWS["row_number"], (), _T.LONG),))

    def _either_way(self, use: Callable[[], Shared], width: int) -> Node:
        """Each edge, and the edge turned round: one from a node to itself stands twice, as in Kusto."""
        along, against = use(), use()
        source, target = against.columns[:width], against.columns[width : 2 * width]
        columns = tuple(replace(column, id=self.binder.new_id()) for column in along.columns)
        rest = refs(against.columns[2 * width :])
        return Union(columns, (along, against), (refs(along.columns), (*refs(target), *refs(source), *rest)))

    def _tested(self, rows: Node, tests: Sequence[int], start: int) -> Node:
        """The rows for which the computed conditions are true."""
        for place in tests:
            column = rows.columns[start + place]
            rows = Filter(rows.columns, rows, ColumnRef(column.type, column.id))
        return rows

    def _without_cycles(self, found: Node, places: dict[str, Node], cycles: str, span: Span) -> Node:
        """Matches in which no edge, or no node, stands twice."""
        if cycles == "unique_edges":
            single = [places[edge.name].columns[-1] for edge in self.edges]
        else:
            single = [places[name].columns[0] for name in self.nodes] if cycles == "none" else []
        for pair in combinations(refs(single), 2):
            found = Filter(found.columns, found, self.binder.scalars.call("!=", list(pair), span))
        return found

    def rest(self, conditions: Sequence[syntax.Expr]) -> list[syntax.Expr]:
        """The conditions that the search does not test, over what a match gives."""
        self.in_where = True
        bound = [self.expression(condition) for condition in conditions]
        self.in_where = False
        ends = {self.edges[0].left, self.edges[0].right} if self.edges else set()
        self.path_in_rest = any(output.variable not in ends for output in self.outputs.values())
        return bound

    def _nodes(self) -> Node:
        nodes = self._with_degrees() if self.asks_degrees else self.graph.nodes
        return self._computed(nodes, self.graph.key, self.node_side)

    def _edges(self) -> Node:
        ends = (*self.graph.source, *self.graph.target)
        # A part stands behind both ends, and a column may stand only once in a list.
        copies = tuple(replace(column, id=self.binder.new_id()) for column in ends)
        values = tuple(self.edge_side.values)
        columns = tuple(OutColumn(self.binder.new_id(), "", value.type) for value in values)
        return Project((*copies, *columns), self.graph.edges, (*refs(ends), *values))

    def _computed(self, table: Node, key: tuple[OutColumn, ...], side: _Side) -> Node:
        columns = tuple(OutColumn(self.binder.new_id(), "", value.type) for value in side.values)
        return Project((*key, *columns), table, (*refs(key), *side.values))

    def _with_degrees(self) -> Node:
        """The nodes with the numbers of edges that come in and go out."""
        nodes = self.graph.nodes
        for degree, end in zip(self.degrees, (self.graph.target, self.graph.source), strict=True):
            keys = tuple(replace(column, id=self.binder.new_id()) for column in end)
            counted = OutColumn(self.binder.new_id(), degree.name, _T.LONG)
            call = AggregateCall(AGGREGATES["count"], (), _T.LONG)
            counts = Aggregate((*keys, counted), self.graph.edges, refs(end), (call,))
            pairs = tuple(zip(refs(self.graph.key), refs(keys), strict=True))
            joined = Join((*nodes.columns, *counts.columns), nodes, counts, JoinKind.LEFT_OUTER, pairs)
            whole = self.binder.scalars.call(
                "coalesce", [ColumnRef(_T.LONG, counted.id), Const(_T.LONG, 0)], Span(0, 0)
            )
            nodes = Project((*nodes.columns, degree), joined, (*refs(nodes.columns), whole))
        return nodes


def _allowed(tests: dict[str, list[int]], values: Sequence[Sequence[object]]) -> dict[str, Sequence[bool]]:
    """For each variable with tests: which elements pass all of them."""
    return {
        variable: [
            all(item is True for item in row) for row in zip(*(values[p] for p in places), strict=True)
        ]
        for variable, places in tests.items()
    }


def _given_value(
    output: _Output,
    match: graphs.Match,
    node_values: Sequence[Sequence[object]],
    edge_values: Sequence[Sequence[object]],
) -> object:
    """The value of a match's column."""
    if output.of == "node":
        return node_values[output.place][match.nodes[output.variable]]
    if output.of == "edge":
        return edge_values[output.place][match.edges[output.variable][0]]
    inner = output.of == "inner"
    places = (match.inner if inner else match.edges)[output.variable]
    column = (node_values if inner else edge_values)[output.place]
    values = [column[place] for place in places]
    if output.how == "map":
        return [value[0] if isinstance(value, list) and value else None for value in values]
    return (all if output.how == "all" else any)(value is True for value in values)


STEPS_ON_GRAPHS = (
    syntax.GraphMatch,
    syntax.GraphToTable,
    syntax.GraphWhere,
    syntax.GraphMarkComponents,
)


@step(syntax.GraphMatch)
def graph_match(binder: Binder, node: Node, operator: syntax.GraphMatch, env: Env) -> Node:
    """Each place where the pattern lies in the graph, or the shortest paths of a pattern, as a row."""
    name = "graph-shortest-paths" if operator.shortest else "graph-match"
    graph = _graph(node, operator.span)
    if operator.project is None:
        raise UnsupportedError(f"{name} without project", operator.span)
    cycles = (property_text(operator, "cycles") or "unique_edges").lower()
    if cycles not in ("all", "none", "unique_edges"):
        raise BindingError(
            f"there is no way of cycles '{cycles}'", operator.span, hint="all, none or unique_edges"
        )
    wanted = (property_text(operator, "output") or "any").lower()
    if wanted not in ("any", "all"):
        raise BindingError(f"there is no output '{wanted}'", operator.span, hint="any or all")
    pattern = _Pattern(binder, graph, operator, env)
    if operator.shortest and (len(operator.patterns) > 1 or not pattern.paths):
        raise BindingError("a shortest path is one sequence with an edge of variable length", operator.span)
    rest = pattern.rest(pattern.where(operator.where) if operator.where is not None else [])
    items: list[tuple[syntax.Expr, syntax.Expr]] = []
    for item in operator.project:
        value = item.value if isinstance(item, syntax.Named) else item
        items.append((item, pattern.expression(value)))
    joined = None if operator.shortest else pattern.joined(operator.span, cycles)
    found: Node = joined or pattern.search(
        operator.span,
        "none" if operator.shortest else cycles,
        shortest=operator.shortest,
        every=wanted == "all",
        name=name,
    )
    scope = Scope(found.columns, env)
    for condition in rest:
        found = Filter(found.columns, found, binder.scalars.predicate(condition, scope))
    if operator.shortest:
        found = _nearest(binder, found, every=wanted == "all")
        scope = Scope(found.columns, env)
    return _projected(binder, found, items, scope)


def _projected(
    binder: Binder, found: Node, items: Sequence[tuple[syntax.Expr, syntax.Expr]], scope: Scope
) -> Node:
    names = Names()
    pairs: list[tuple[OutColumn, Expr]] = []
    for item, value in items:
        given = item.names[0] if isinstance(item, syntax.Named) else auto_name(item)
        if isinstance(item, syntax.Named) and item.names[0] in names.used:
            raise BindingError(f"two columns are called '{given}'", item.span)
        bound = binder.scalars.bind(value, scope)
        shown = names.unique(given or names.computed())
        pairs.append((OutColumn(binder.new_id(), shown, bound.type), bound))
    for column in carried(binder, found):
        pairs.append((column, ColumnRef(column.type, column.id)))
    return Project(tuple(column for column, _ in pairs), found, tuple(value for _, value in pairs))


def _nearest(binder: Binder, found: Node, *, every: bool) -> Node:
    """The shortest rows for each pair of ends, one of them or all."""
    given = found.columns
    columns = tuple(replace(column, id=binder.new_id()) for column in given)
    start, end, length = (
        next(place for place, column in enumerate(given) if column.name == f"{HIDDEN_PREFIX}{what}")
        for what in ("start", "end", "length")
    )

    def nearest(inputs: tuple[Frame, ...]) -> list[list[object]]:
        rows = inputs[0].rows()
        best: dict[tuple[object, object], int] = {}
        for row in rows:
            pair, size = (row[start], row[end]), int(str(row[length]))
            best[pair] = min(size, best.get(pair, size))
        kept: list[tuple[object, ...]] = []
        taken: set[tuple[object, object]] = set()
        for row in rows:
            pair = (row[start], row[end])
            if row[length] == best[pair] and (every or pair not in taken):
                taken.add(pair)
                kept.append(row)
        return [[row[place] for row in kept] for place in range(len(given))]

    return Apply(columns, (found,), (given,), nearest, "graph-shortest-paths")


# --- syntax ------------------------------------------------------------------------------------------------


def _conjuncts(expr: syntax.Expr) -> Iterator[syntax.Expr]:
    while isinstance(expr, syntax.Pipe) and expr.source is not None and not expr.operators:
        expr = expr.source
    if isinstance(expr, syntax.Binary) and expr.op == "and":
        yield from _conjuncts(expr.left)
        yield from _conjuncts(expr.right)
    else:
        yield expr


def _parts(expr: syntax.Node) -> Iterator[syntax.Expr]:
    for name in field_names(expr):
        value = getattr(expr, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, syntax.Expr):
                yield part


def _walk(expr: syntax.Expr) -> Iterator[syntax.Expr]:
    yield expr
    for part in _parts(expr):
        yield from _walk(part)


def _rewritten(expr: syntax.Expr, change: Callable[[syntax.Expr], syntax.Expr | None]) -> syntax.Expr:
    """The expression with parts replaced, from the outside in; None leaves a part as it is."""
    changed = change(expr)
    if changed is not None:
        return changed
    values: dict[str, object] = {}
    for name in field_names(expr):
        value = getattr(expr, name)
        if isinstance(value, syntax.Expr):
            values[name] = _rewritten(value, change)
        elif isinstance(value, tuple) and any(isinstance(part, syntax.Expr) for part in value):
            values[name] = tuple(
                _rewritten(part, change) if isinstance(part, syntax.Expr) else part for part in value
            )
    return replace(expr, **values) if values else expr
