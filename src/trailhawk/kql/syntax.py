"""The syntax tree: what the parser reads, before any name is looked up.

Wide on purpose: one class for each of KQL's operators. Every node has the span it was read from.
Reference: https://learn.microsoft.com/kusto/query/
"""

from __future__ import annotations

from decimal import Decimal

from trailhawk.errors import Span
from trailhawk.kql.records import Record
from trailhawk.kql.types import KqlType


class Node(Record, frozen=True):
    """What every part of the tree has: the range of text it was read from."""

    span: Span


# --- expressions -------------------------------------------------------------------------------------------


class Expr(Node, frozen=True):
    """Anything that can stand where a value or a table is asked for."""


class Literal(Expr, frozen=True):
    """A constant. datetime is ticks since the Unix epoch, timespan is ticks; `value` None is a typed null.

    A dynamic literal holds plain Python values (dict, list, str, int, float, bool, None).
    """

    value: bool | int | float | Decimal | str | dict[str, object] | list[object] | None
    type: KqlType


class Name(Expr, frozen=True):
    """A column, variable, table or function without parentheses."""

    text: str


class NamePattern(Expr, frozen=True):
    """A name with wildcards, as in `project-away a*` or `union Aws*`. A lone `*` is `Star`."""

    text: str


class Star(Expr, frozen=True):
    """`*`: all columns."""


class Member(Expr, frozen=True):
    """`target.name`"""

    target: Expr
    name: str


class Index(Expr, frozen=True):
    """`target[index]`"""

    target: Expr
    index: Expr


class Call(Expr, frozen=True):
    """`name(args)`; an argument may be a `Named`, a `Star`, or a `Pipe` (toscalar, materialize).

    `target` is what stands before the dot in `database('d').function(args)`.
    """

    name: str
    args: tuple[Expr, ...]
    name_span: Span
    target: Expr | None = None


class Unary(Expr, frozen=True):
    """`-x` or `+x`"""

    op: str
    operand: Expr


class Binary(Expr, frozen=True):
    """Arithmetic, comparison, logic and text operators, `op` spelt as in the documentation.

    One of: + - * / % == != <> < <= > >= =~ !~ and or, and has !has has_cs !has_cs hasprefix !hasprefix
    hasprefix_cs !hasprefix_cs hassuffix ... contains !contains contains_cs !contains_cs startswith ...
    endswith ... `matches regex`. `:` (search's has) is read as `has`, `<>` as `!=`, `=` never comes here.
    """

    op: str
    left: Expr
    right: Expr


class InList(Expr, frozen=True):
    """`left in (a, b)`; op is one of in !in in~ !in~ has_any has_all. One item may be a `Pipe`."""

    op: str
    left: Expr
    items: tuple[Expr, ...]


class Between(Expr, frozen=True):
    """`left between (low .. high)`, `left !between (low .. high)`"""

    left: Expr
    low: Expr
    high: Expr
    negated: bool


class TypeOf(Expr, frozen=True):
    """`typeof(long)`; for a tabular typeof `columns` is given instead."""

    type: KqlType | None
    columns: tuple[ColumnDecl, ...] = ()


class Named(Expr, frozen=True):
    """`name = value`, or `(a, b) = value`."""

    names: tuple[str, ...]
    value: Expr
    name_spans: tuple[Span, ...]


class ColumnDecl(Node, frozen=True):
    """`name: type`"""

    name: str
    type: KqlType


class Parameter(Node, frozen=True):
    """A function's parameter: scalar (`type`), or tabular (`columns`; `open` for `(*)` or a trailing `*`)."""

    name: str
    type: KqlType | None
    columns: tuple[ColumnDecl, ...] | None = None
    open: bool = False
    default: Expr | None = None


class Function(Expr, frozen=True):
    """`(parameters) { statements; body }`, the value of a `let`. `view` for `view () {...}`."""

    parameters: tuple[Parameter, ...]
    statements: tuple[Statement, ...]
    body: Expr | None
    view: bool = False


class Pipe(Expr, frozen=True):
    """`source | operator | ...`. The source of a sub-pipe (partition, mv-apply, fork, facet) is None."""

    source: Expr | None
    operators: tuple[Operator, ...]


class DataTable(Expr, frozen=True):
    """`datatable(columns)[values]`, values row by row."""

    columns: tuple[ColumnDecl, ...]
    values: tuple[Expr, ...]


class ExternalData(Expr, frozen=True):
    columns: tuple[ColumnDecl, ...]
    uris: tuple[Expr, ...]
    properties: tuple[Property, ...] = ()


# --- statements --------------------------------------------------------------------------------------------


class Statement(Node, frozen=True):
    """What stands between two semicolons."""


class Let(Statement, frozen=True):
    name: str
    value: Expr
    name_span: Span


class SetOption(Statement, frozen=True):
    name: str
    value: Expr | None


class QueryParameters(Statement, frozen=True):
    """`declare query_parameters(a: long = 1, ...)`"""

    parameters: tuple[Parameter, ...]


class PatternCase(Node, frozen=True):
    """`(values).[path] = { body }`; the body is a function without parameters."""

    values: tuple[Expr, ...]
    path: Expr | None
    body: Function


class DeclarePattern(Statement, frozen=True):
    """`declare pattern name = (a: string, ...)[path: string] { cases }`; parameters None if only declared."""

    name: str
    parameters: tuple[ColumnDecl, ...] | None = None
    path: ColumnDecl | None = None
    cases: tuple[PatternCase, ...] = ()


class OtherStatement(Statement, frozen=True):
    """A statement we read over but never run: alias, restrict. `keyword` names it."""

    keyword: str


class ExpressionStatement(Statement, frozen=True):
    value: Expr


class Query(Node, frozen=True):
    statements: tuple[Statement, ...]


# --- parts of operators ------------------------------------------------------------------------------------


class Property(Node, frozen=True):
    """`kind=inner`, `hint.strategy=shuffle`, `withsource=T`: a parameter. A bare word is a Name."""

    name: str
    value: Expr


class Ordering(Node, frozen=True):
    """One key of a sort: `expr [asc|desc] [nulls first|last]`; None where the query does not say."""

    value: Expr
    descending: bool | None
    nulls_first: bool | None


# --- tabular operators -------------------------------------------------------------------------------------


class Operator(Node, frozen=True):
    """One step of a pipe. `span` starts at the operator's name."""


class AssertSchema(Operator, frozen=True):
    """`assert-schema (name: type, ...)`"""

    columns: tuple[ColumnDecl, ...]


class As(Operator, frozen=True):
    name: str
    properties: tuple[Property, ...] = ()


class Consume(Operator, frozen=True):
    properties: tuple[Property, ...] = ()


class Count(Operator, frozen=True):
    """`count [as name]`"""

    name: str | None = None


class Distinct(Operator, frozen=True):
    values: tuple[Expr, ...]


class Evaluate(Operator, frozen=True):
    """`evaluate plugin(args) [: (schema)]`"""

    call: Call
    columns: tuple[ColumnDecl, ...] | None = None
    properties: tuple[Property, ...] = ()
    open: bool = False
    """True where the schema starts with `*`: the input's columns come first."""


class Extend(Operator, frozen=True):
    values: tuple[Expr, ...]


class Facet(Operator, frozen=True):
    columns: tuple[Expr, ...]
    body: Pipe | None


class Find(Operator, frozen=True):
    """`find [withsource=x] [in (tables)] where predicate [project ...] [project-away ...]`, a source."""

    tables: tuple[Expr, ...]
    predicate: Expr
    project: tuple[Expr | ColumnDecl, ...] | None
    project_away: tuple[Expr, ...] = ()
    properties: tuple[Property, ...] = ()
    smart: bool = False
    """True for `project-smart`."""


class ForkBranch(Node, frozen=True):
    name: str | None
    body: Pipe


class Fork(Operator, frozen=True):
    branches: tuple[ForkBranch, ...]


class GetSchema(Operator, frozen=True):
    pass


class GraphNodePattern(Node, frozen=True):
    name: str | None


class GraphEdgePattern(Node, frozen=True):
    """`-[name*low..high]->`; direction is `->`, `<-` or `--`. low and high are None for a single edge."""

    name: str | None
    direction: str
    low: Expr | None = None
    high: Expr | None = None


class GraphMatch(Operator, frozen=True):
    """Also graph-shortest-paths (`shortest` True). A pattern alternates nodes and edges."""

    patterns: tuple[tuple[GraphNodePattern | GraphEdgePattern, ...], ...]
    where: Expr | None
    project: tuple[Expr, ...] | None
    properties: tuple[Property, ...] = ()
    shortest: bool = False


class GraphMarkComponents(Operator, frozen=True):
    properties: tuple[Property, ...] = ()


class GraphToTable(Operator, frozen=True):
    """`graph-to-table nodes [as N] [with_node_id=x], edges [as E] ...`"""

    outputs: tuple[GraphOutput, ...]


class GraphOutput(Node, frozen=True):
    kind: str
    name: str | None
    properties: tuple[Property, ...] = ()


class GraphWhere(Operator, frozen=True):
    """`graph-where-nodes predicate`, `graph-where-edges predicate` (`edges` True)"""

    predicate: Expr
    edges: bool


class Invoke(Operator, frozen=True):
    call: Call


class Join(Operator, frozen=True):
    """`join [kind=x] (right) on keys`. A key is a Name (both sides) or `$left.a == $right.b`."""

    right: Expr
    keys: tuple[Expr, ...]
    properties: tuple[Property, ...] = ()


class Lookup(Operator, frozen=True):
    right: Expr
    keys: tuple[Expr, ...]
    properties: tuple[Property, ...] = ()


class MacroExpand(Operator, frozen=True):
    """`macro-expand entity_group as x (...)`: read, never run here."""


class MakeGraph(Operator, frozen=True):
    """`make-graph source --> target [with nodes on key[, nodes on key]]` or `with_node_id=name`."""

    source: Expr
    target: Expr
    nodes: tuple[tuple[Expr, Expr], ...] = ()
    properties: tuple[Property, ...] = ()
    partition_by: Expr | None = None
    """`partitioned-by column (body)`"""
    body: Pipe | None = None


class MakeSeriesColumn(Node, frozen=True):
    """`[name =] aggregate [default = value]`"""

    value: Expr
    default: Expr | None


class MakeSeries(Operator, frozen=True):
    """`make-series columns on axis [from a] [to b] step c [by keys]`; `in range(a, b, c)` likewise."""

    columns: tuple[MakeSeriesColumn, ...]
    axis: Expr
    start: Expr | None
    stop: Expr | None
    step: Expr
    by: tuple[Expr, ...] = ()
    in_range: bool = False
    properties: tuple[Property, ...] = ()


class MvColumn(Node, frozen=True):
    """`[name =] array [to typeof(type)]`"""

    value: Expr
    to: KqlType | None


class MvExpand(Operator, frozen=True):
    columns: tuple[MvColumn, ...]
    limit: Expr | None
    properties: tuple[Property, ...] = ()


class MvApply(Operator, frozen=True):
    """`mv-apply columns [limit n] [id x] on (body)`"""

    columns: tuple[MvColumn, ...]
    limit: Expr | None
    body: Pipe
    properties: tuple[Property, ...] = ()


class ParsePart(Node, frozen=True):
    """A step of parse's pattern: a text to find, a column to fill (`name`, `type`), or `*` (neither)."""

    text: Expr | None = None
    name: str | None = None
    type: KqlType | None = None


class OtherOperator(Operator, frozen=True):
    """A step we read over but never run: __executeAndCache. `keyword` names it."""

    keyword: str


class Parse(Operator, frozen=True):
    """`parse [kind=simple|regex|relaxed] [flags=x] value with pattern`; parse-where keeps only matches."""

    value: Expr
    pattern: tuple[ParsePart, ...]
    where: bool
    properties: tuple[Property, ...] = ()


class ParseKv(Operator, frozen=True):
    value: Expr
    columns: tuple[ColumnDecl, ...]
    properties: tuple[Property, ...] = ()


class Partition(Operator, frozen=True):
    """`partition [hint...] by column (body)` or `{query}`; also `__partitionby`."""

    by: Expr
    body: Pipe
    properties: tuple[Property, ...] = ()
    id: str | None = None
    standalone: bool = False
    """True for `{query}`: the body begins with a source of its own."""


class Print(Operator, frozen=True):
    """`print values`, a source: always the first operator of a Pipe whose source is None."""

    values: tuple[Expr, ...]


class Project(Operator, frozen=True):
    values: tuple[Expr, ...]


class ProjectAway(Operator, frozen=True):
    columns: tuple[Expr, ...]


class ProjectByNames(Operator, frozen=True):
    """`project-by-names values`: texts or arrays of texts that name columns, wildcards allowed."""

    values: tuple[Expr, ...]


class ProjectKeep(Operator, frozen=True):
    columns: tuple[Expr, ...]


class ProjectRename(Operator, frozen=True):
    values: tuple[Expr, ...]


class ProjectReorder(Operator, frozen=True):
    """Each value's order is None, `asc`, `desc`, `granny-asc` or `granny-desc`."""

    columns: tuple[tuple[Expr, str | None], ...]


class RangeSource(Operator, frozen=True):
    """`range name from a to b step c`, a source."""

    name: str
    start: Expr
    stop: Expr
    step: Expr


class Reduce(Operator, frozen=True):
    """`reduce by value [with threshold=x, characters=y]`"""

    value: Expr
    properties: tuple[Property, ...] = ()


TITLES = frozenset({"title", "xtitle", "ytitle"})
"""Properties of `render` whose value is an expression."""


class Render(Operator, frozen=True):
    """`render chart [properties] [with (properties)]`"""

    chart: str
    properties: tuple[Property, ...] = ()


class Sample(Operator, frozen=True):
    count: Expr


class SampleDistinct(Operator, frozen=True):
    count: Expr
    of: Expr


class ScanStep(Node, frozen=True):
    """`step name [optional] [output=all|last|none] : condition [=> a = b, ...]`"""

    name: str
    condition: Expr
    assignments: tuple[Named, ...]
    optional: bool = False
    output: str = "all"


class Scan(Operator, frozen=True):
    """`scan [with_match_id=x] [declare (a: long = 0)] with (step ...)`"""

    steps: tuple[ScanStep, ...]
    declare: tuple[Parameter, ...] = ()
    properties: tuple[Property, ...] = ()
    partition_by: tuple[Expr, ...] = ()
    order_by: tuple[Ordering, ...] = ()


class Search(Operator, frozen=True):
    """`search [kind=case_sensitive] [in (tables)] predicate`, a source or a step.

    A bare text in the predicate stays a Literal: it means `* has "text"`.
    """

    tables: tuple[Expr, ...]
    predicate: Expr
    properties: tuple[Property, ...] = ()


class Serialize(Operator, frozen=True):
    values: tuple[Expr, ...] = ()


class Sort(Operator, frozen=True):
    keys: tuple[Ordering, ...]


class Summarize(Operator, frozen=True):
    values: tuple[Expr, ...]
    by: tuple[Expr, ...]
    properties: tuple[Property, ...] = ()


class Take(Operator, frozen=True):
    """`take n`, `limit n`"""

    count: Expr


class Top(Operator, frozen=True):
    count: Expr
    by: Ordering


class TopHitters(Operator, frozen=True):
    count: Expr
    of: Expr
    by: Expr | None


class TopNestedLevel(Node, frozen=True):
    count: Expr | None
    of: Expr
    by: Ordering
    others: Expr | None


class TopNested(Operator, frozen=True):
    levels: tuple[TopNestedLevel, ...]


class Union(Operator, frozen=True):
    """`union [kind=inner|outer] [withsource=x] [isfuzzy=true] tables`, a source or a step."""

    tables: tuple[Expr, ...]
    properties: tuple[Property, ...] = ()


class Where(Operator, frozen=True):
    """`where`, `filter`"""

    predicate: Expr
