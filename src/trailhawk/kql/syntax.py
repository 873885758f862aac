"""The syntax tree: what the parser reads, before any name is looked up.

Wide on purpose: one class for each of KQL's operators. Every node has the span it was read from.
Reference: https://learn.microsoft.com/kusto/query/
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from trailhawk.errors import Span
from trailhawk.kql.types import KqlType


@dataclass(frozen=True, slots=True)
class Node:
    span: Span


# --- expressions -------------------------------------------------------------------------------------------


class Expr(Node):
    """Anything that can stand where a value or a table is asked for."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Literal(Expr):
    """A constant. datetime is ticks since the Unix epoch, timespan is ticks; `value` None is a typed null.

    A dynamic literal holds plain Python values (dict, list, str, int, float, bool, None).
    """

    value: bool | int | float | Decimal | str | dict[str, object] | list[object] | None
    type: KqlType


@dataclass(frozen=True, slots=True)
class Name(Expr):
    """A column, variable, table or function without parentheses."""

    text: str


@dataclass(frozen=True, slots=True)
class NamePattern(Expr):
    """A name with wildcards, as in `project-away a*` or `union Aws*`. A lone `*` is `Star`."""

    text: str


@dataclass(frozen=True, slots=True)
class Star(Expr):
    """`*`: all columns."""


@dataclass(frozen=True, slots=True)
class Member(Expr):
    """`target.name`"""

    target: Expr
    name: str


@dataclass(frozen=True, slots=True)
class Index(Expr):
    """`target[index]`"""

    target: Expr
    index: Expr


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """`name(args)`; an argument may be a `Named`, a `Star`, or a `Pipe` (toscalar, materialize).

    `target` is what stands before the dot in `database('d').function(args)`.
    """

    name: str
    args: tuple[Expr, ...]
    name_span: Span
    target: Expr | None = None


@dataclass(frozen=True, slots=True)
class Unary(Expr):
    """`-x` or `+x`"""

    op: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Expr):
    """Arithmetic, comparison, logic and text operators, `op` spelt as in the documentation.

    One of: + - * / % == != <> < <= > >= =~ !~ and or, and has !has has_cs !has_cs hasprefix !hasprefix
    hasprefix_cs !hasprefix_cs hassuffix ... contains !contains contains_cs !contains_cs startswith ...
    endswith ... `matches regex`. `:` (search's has) is read as `has`, `<>` as `!=`, `=` never comes here.
    """

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class InList(Expr):
    """`left in (a, b)`; op is one of in !in in~ !in~ has_any has_all. One item may be a `Pipe`."""

    op: str
    left: Expr
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Between(Expr):
    """`left between (low .. high)`, `left !between (low .. high)`"""

    left: Expr
    low: Expr
    high: Expr
    negated: bool


@dataclass(frozen=True, slots=True)
class TypeOf(Expr):
    """`typeof(long)`; for a tabular typeof `columns` is given instead."""

    type: KqlType | None
    columns: tuple[ColumnDecl, ...] = ()


@dataclass(frozen=True, slots=True)
class Named(Expr):
    """`name = value`, or `(a, b) = value`."""

    names: tuple[str, ...]
    value: Expr
    name_spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class ColumnDecl(Node):
    """`name: type`"""

    name: str
    type: KqlType


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    """A function's parameter: scalar (`type`), or tabular (`columns`; `open` for `(*)` or a trailing `*`)."""

    name: str
    type: KqlType | None
    columns: tuple[ColumnDecl, ...] | None = None
    open: bool = False
    default: Expr | None = None


@dataclass(frozen=True, slots=True)
class Function(Expr):
    """`(parameters) { statements; body }`, the value of a `let`. `view` for `view () {...}`."""

    parameters: tuple[Parameter, ...]
    statements: tuple[Statement, ...]
    body: Expr | None
    view: bool = False


@dataclass(frozen=True, slots=True)
class Pipe(Expr):
    """`source | operator | ...`. The source of a sub-pipe (partition, mv-apply, fork, facet) is None."""

    source: Expr | None
    operators: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class DataTable(Expr):
    """`datatable(columns)[values]`, values row by row."""

    columns: tuple[ColumnDecl, ...]
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ExternalData(Expr):
    columns: tuple[ColumnDecl, ...]
    uris: tuple[Expr, ...]
    properties: tuple[Property, ...] = ()


# --- statements --------------------------------------------------------------------------------------------


class Statement(Node):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Let(Statement):
    name: str
    value: Expr
    name_span: Span


@dataclass(frozen=True, slots=True)
class SetOption(Statement):
    name: str
    value: Expr | None


@dataclass(frozen=True, slots=True)
class QueryParameters(Statement):
    """`declare query_parameters(a: long = 1, ...)`"""

    parameters: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True)
class PatternCase(Node):
    """`(values).[path] = { body }`; the body is a function without parameters."""

    values: tuple[Expr, ...]
    path: Expr | None
    body: Function


@dataclass(frozen=True, slots=True)
class DeclarePattern(Statement):
    """`declare pattern name = (a: string, ...)[path: string] { cases }`; parameters None if only declared."""

    name: str
    parameters: tuple[ColumnDecl, ...] | None = None
    path: ColumnDecl | None = None
    cases: tuple[PatternCase, ...] = ()


@dataclass(frozen=True, slots=True)
class OtherStatement(Statement):
    """A statement we read over but never run: alias, restrict. `keyword` names it."""

    keyword: str


@dataclass(frozen=True, slots=True)
class ExpressionStatement(Statement):
    value: Expr


@dataclass(frozen=True, slots=True)
class Query(Node):
    statements: tuple[Statement, ...]


# --- parts of operators ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Property(Node):
    """`kind=inner`, `hint.strategy=shuffle`, `withsource=T`: a parameter. A bare word is a Name."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Ordering(Node):
    """One key of a sort: `expr [asc|desc] [nulls first|last]`; None where the query does not say."""

    value: Expr
    descending: bool | None
    nulls_first: bool | None


# --- tabular operators -------------------------------------------------------------------------------------


class Operator(Node):
    """One step of a pipe. `span` starts at the operator's name."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class AssertSchema(Operator):
    """`assert-schema (name: type, ...)`"""

    columns: tuple[ColumnDecl, ...]


@dataclass(frozen=True, slots=True)
class As(Operator):
    name: str
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class Consume(Operator):
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class Count(Operator):
    """`count [as name]`"""

    name: str | None = None


@dataclass(frozen=True, slots=True)
class Distinct(Operator):
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Evaluate(Operator):
    """`evaluate plugin(args) [: (schema)]`"""

    call: Call
    columns: tuple[ColumnDecl, ...] | None = None
    properties: tuple[Property, ...] = ()
    open: bool = False
    """True where the schema starts with `*`: the input's columns come first."""


@dataclass(frozen=True, slots=True)
class Extend(Operator):
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Facet(Operator):
    columns: tuple[Expr, ...]
    body: Pipe | None


@dataclass(frozen=True, slots=True)
class Find(Operator):
    """`find [withsource=x] [in (tables)] where predicate [project ...] [project-away ...]`, a source."""

    tables: tuple[Expr, ...]
    predicate: Expr
    project: tuple[Expr | ColumnDecl, ...] | None
    project_away: tuple[Expr, ...] = ()
    properties: tuple[Property, ...] = ()
    smart: bool = False
    """True for `project-smart`."""


@dataclass(frozen=True, slots=True)
class ForkBranch(Node):
    name: str | None
    body: Pipe


@dataclass(frozen=True, slots=True)
class Fork(Operator):
    branches: tuple[ForkBranch, ...]


@dataclass(frozen=True, slots=True)
class GetSchema(Operator):
    pass


@dataclass(frozen=True, slots=True)
class GraphNodePattern(Node):
    name: str | None


@dataclass(frozen=True, slots=True)
class GraphEdgePattern(Node):
    """`-[name*low..high]->`; direction is `->`, `<-` or `--`. low and high are None for a single edge."""

    name: str | None
    direction: str
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class GraphMatch(Operator):
    """Also graph-shortest-paths (`shortest` True). A pattern alternates nodes and edges."""

    patterns: tuple[tuple[GraphNodePattern | GraphEdgePattern, ...], ...]
    where: Expr | None
    project: tuple[Expr, ...] | None
    properties: tuple[Property, ...] = ()
    shortest: bool = False


@dataclass(frozen=True, slots=True)
class GraphMarkComponents(Operator):
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class GraphToTable(Operator):
    """`graph-to-table nodes [as N] [with_node_id=x], edges [as E] ...`"""

    outputs: tuple[GraphOutput, ...]


@dataclass(frozen=True, slots=True)
class GraphOutput(Node):
    kind: str
    name: str | None
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class GraphWhere(Operator):
    """`graph-where-nodes predicate`, `graph-where-edges predicate` (`edges` True)"""

    predicate: Expr
    edges: bool


@dataclass(frozen=True, slots=True)
class Invoke(Operator):
    call: Call


@dataclass(frozen=True, slots=True)
class Join(Operator):
    """`join [kind=x] (right) on keys`. A key is a Name (both sides) or `$left.a == $right.b`."""

    right: Expr
    keys: tuple[Expr, ...]
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class Lookup(Operator):
    right: Expr
    keys: tuple[Expr, ...]
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class MacroExpand(Operator):
    """`macro-expand entity_group as x (...)`: read, never run here."""


@dataclass(frozen=True, slots=True)
class MakeGraph(Operator):
    """`make-graph source --> target [with nodes on key[, nodes on key]]` or `with_node_id=name`."""

    source: Expr
    target: Expr
    nodes: tuple[tuple[Expr, Expr], ...] = ()
    properties: tuple[Property, ...] = ()
    partition_by: Expr | None = None
    """`partitioned-by column (body)`"""
    body: Pipe | None = None


@dataclass(frozen=True, slots=True)
class MakeSeriesColumn(Node):
    """`[name =] aggregate [default = value]`"""

    value: Expr
    default: Expr | None


@dataclass(frozen=True, slots=True)
class MakeSeries(Operator):
    """`make-series columns on axis [from a] [to b] step c [by keys]`; `in range(a, b, c)` likewise."""

    columns: tuple[MakeSeriesColumn, ...]
    axis: Expr
    start: Expr | None
    stop: Expr | None
    step: Expr
    by: tuple[Expr, ...] = ()
    in_range: bool = False
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class MvColumn(Node):
    """`[name =] array [to typeof(type)]`"""

    value: Expr
    to: KqlType | None


@dataclass(frozen=True, slots=True)
class MvExpand(Operator):
    columns: tuple[MvColumn, ...]
    limit: Expr | None
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class MvApply(Operator):
    """`mv-apply columns [limit n] [id x] on (body)`"""

    columns: tuple[MvColumn, ...]
    limit: Expr | None
    body: Pipe
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsePart(Node):
    """A step of parse's pattern: a text to find, a column to fill (`name`, `type`), or `*` (neither)."""

    text: Expr | None = None
    name: str | None = None
    type: KqlType | None = None


@dataclass(frozen=True, slots=True)
class OtherOperator(Operator):
    """A step we read over but never run: __executeAndCache. `keyword` names it."""

    keyword: str


@dataclass(frozen=True, slots=True)
class Parse(Operator):
    """`parse [kind=simple|regex|relaxed] [flags=x] value with pattern`; parse-where keeps only matches."""

    value: Expr
    pattern: tuple[ParsePart, ...]
    where: bool
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class ParseKv(Operator):
    value: Expr
    columns: tuple[ColumnDecl, ...]
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class Partition(Operator):
    """`partition [hint...] by column (body)` or `{query}`; also `__partitionby`."""

    by: Expr
    body: Pipe
    properties: tuple[Property, ...] = ()
    id: str | None = None
    standalone: bool = False
    """True for `{query}`: the body begins with a source of its own."""


@dataclass(frozen=True, slots=True)
class Print(Operator):
    """`print values`, a source: always the first operator of a Pipe whose source is None."""

    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Project(Operator):
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ProjectAway(Operator):
    columns: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ProjectByNames(Operator):
    """`project-by-names values`: texts or arrays of texts that name columns, wildcards allowed."""

    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ProjectKeep(Operator):
    columns: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ProjectRename(Operator):
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ProjectReorder(Operator):
    """Each value's order is None, `asc`, `desc`, `granny-asc` or `granny-desc`."""

    columns: tuple[tuple[Expr, str | None], ...]


@dataclass(frozen=True, slots=True)
class RangeSource(Operator):
    """`range name from a to b step c`, a source."""

    name: str
    start: Expr
    stop: Expr
    step: Expr


@dataclass(frozen=True, slots=True)
class Reduce(Operator):
    """`reduce by value [with threshold=x, characters=y]`"""

    value: Expr
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class Render(Operator):
    """`render chart [with (properties)]`"""

    chart: str
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample(Operator):
    count: Expr


@dataclass(frozen=True, slots=True)
class SampleDistinct(Operator):
    count: Expr
    of: Expr


@dataclass(frozen=True, slots=True)
class ScanStep(Node):
    """`step name [optional] [output=all|last|none] : condition [=> a = b, ...]`"""

    name: str
    condition: Expr
    assignments: tuple[Named, ...]
    optional: bool = False
    output: str = "all"


@dataclass(frozen=True, slots=True)
class Scan(Operator):
    """`scan [with_match_id=x] [declare (a: long = 0)] with (step ...)`"""

    steps: tuple[ScanStep, ...]
    declare: tuple[Parameter, ...] = ()
    properties: tuple[Property, ...] = ()
    partition_by: tuple[Expr, ...] = ()
    order_by: tuple[Ordering, ...] = ()


@dataclass(frozen=True, slots=True)
class Search(Operator):
    """`search [kind=case_sensitive] [in (tables)] predicate`, a source or a step.

    A bare text in the predicate stays a Literal: it means `* has "text"`.
    """

    tables: tuple[Expr, ...]
    predicate: Expr
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class Serialize(Operator):
    values: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Sort(Operator):
    keys: tuple[Ordering, ...]


@dataclass(frozen=True, slots=True)
class Summarize(Operator):
    values: tuple[Expr, ...]
    by: tuple[Expr, ...]
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class Take(Operator):
    """`take n`, `limit n`"""

    count: Expr


@dataclass(frozen=True, slots=True)
class Top(Operator):
    count: Expr
    by: Ordering


@dataclass(frozen=True, slots=True)
class TopHitters(Operator):
    count: Expr
    of: Expr
    by: Expr | None


@dataclass(frozen=True, slots=True)
class TopNestedLevel(Node):
    count: Expr | None
    of: Expr
    by: Ordering
    others: Expr | None


@dataclass(frozen=True, slots=True)
class TopNested(Operator):
    levels: tuple[TopNestedLevel, ...]


@dataclass(frozen=True, slots=True)
class Union(Operator):
    """`union [kind=inner|outer] [withsource=x] [isfuzzy=true] tables`, a source or a step."""

    tables: tuple[Expr, ...]
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class Where(Operator):
    """`where`, `filter`"""

    predicate: Expr
