"""Syntax tree to KQL text that reads back to the same tree (spans aside)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from trailhawk.errors import UnsupportedError
from trailhawk.kql import literals, syntax
from trailhawk.kql.parser import words
from trailhawk.kql.syntax import Expr
from trailhawk.kql.types import KqlType

_ATOM = 9
_UNARY = 8
_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_]*")
# Words that are names to the parser and yet could begin something else where a name stands.
_AMBIGUOUS = """
    alias declare dynamic evaluate kind let range restrict set typeof view with_source withsource
"""
_BRACKETED = frozenset(_AMBIGUOUS.split())
_LEVELS = {op: level for level, op in words.INFIX.values()}
_READ_OVER = (syntax.OtherStatement, syntax.OtherOperator, syntax.MacroExpand)


def to_kql(query: syntax.Query) -> str:
    """The text of a query, one operator a line. UnsupportedError for statements and steps only read over."""
    return ";\n".join(_statement(statement, "\n") for statement in query.statements)


def _statement(node: syntax.Statement, line: str = " ") -> str:
    match node:
        case syntax.Let(name=name, value=value):
            return f"let {_name(name)} = {_pipe(value, line)}"
        case syntax.SetOption(name=name, value=None):
            return f"set {name}"
        case syntax.SetOption(name=name, value=Expr() as value):
            return f"set {name} = {_property_value(value)}"
        case syntax.QueryParameters(parameters=parameters):
            return f"declare query_parameters({_commas(map(_parameter, parameters))})"
        case syntax.DeclarePattern():
            return _pattern(node)
        case syntax.ExpressionStatement(value=value):
            return _pipe(value, line)
    raise _unprintable(node)


def _unprintable(node: syntax.Node) -> UnsupportedError:
    keyword = getattr(node, "keyword", type(node).__name__)
    return UnsupportedError(f"printing '{keyword}'", node.span)


# --- expressions -------------------------------------------------------------------------------------------


def _pipe(node: Expr, line: str = " ") -> str:
    """A pipe or an expression, without parentheses."""
    if not isinstance(node, syntax.Pipe):
        return _expression(node)
    steps = [_operator(operator) for operator in node.operators]
    if node.source is not None:
        steps.insert(0, _expression(node.source))
    return f"{line}| ".join(steps)


def _level(node: Expr) -> int:
    match node:
        case syntax.Pipe():
            return 0
        case syntax.Binary(op=op) | syntax.InList(op=op):
            return _LEVELS[op]
        case syntax.Between():
            return _LEVELS["between"]
        case syntax.Unary():
            return _UNARY
    return _ATOM


def _expression(node: Expr, weakest: int = 1) -> str:
    """In parentheses where it binds weaker than its place allows."""
    if _level(node) < weakest:
        return f"({_pipe(node)})"
    match node:
        case syntax.Binary():
            return _binary(node)
        case syntax.InList(op=op, left=left, items=items):
            inside = _pipe(items[0]) if len(items) == 1 else _listed(items)
            return f"{_expression(left, 4)} {op} ({inside})"
        case syntax.Between(left=left, low=low, high=high, negated=negated):
            op = "!between" if negated else "between"
            return f"{_expression(left, 4)} {op} ({_expression(low)} .. {_expression(high)})"
        case syntax.Unary(op=op, operand=operand):
            return f"{op}{_expression(operand, _ATOM)}"
        case syntax.Literal():
            return _literal(node)
        case syntax.Name(text=text):
            return _name(text)
        case syntax.NamePattern(text=text):
            return text
        case syntax.Star():
            return "*"
        case syntax.Member() | syntax.Index() | syntax.Call():
            return _path(node)
        case syntax.Named(names=names, value=value):
            left_side = _name(names[0]) if len(names) == 1 else f"({_commas(map(_name, names))})"
            return f"{left_side} = {_expression(value)}"
        case syntax.TypeOf(type=KqlType() as kind):
            return f"typeof({kind.value})"
        case syntax.TypeOf(columns=columns):
            return f"typeof({_commas(map(_column, columns))})"
        case syntax.DataTable(columns=columns, values=values):
            return f"datatable{_schema(columns)}[{_commas(map(_expression, values))}]"
        case syntax.ExternalData(columns=columns, uris=uris, properties=properties):
            return f"externaldata{_schema(columns)}[{_commas(map(_expression, uris))}]{_with(properties)}"
        case syntax.Function():
            return _function(node)
    raise _unprintable(node)


def _binary(node: syntax.Binary) -> str:
    level = _LEVELS[node.op]
    if level <= 2:
        return f" {node.op} ".join(_expression(term, level + 1) for term in _terms(node))
    if level == 7:
        return f"{_expression(node.left, _UNARY)} {node.op} {_expression(node.right, _UNARY)}"
    if level in (3, 4):
        return f"{_expression(node.left, level + 1)} {node.op} {_expression(node.right, level + 1)}"
    parts: list[str] = []
    left: Expr = node
    while isinstance(left, syntax.Binary) and _LEVELS[left.op] == level:
        parts += [_expression(left.right, level + 1), left.op]
        left = left.left
    parts.append(_expression(left, level + 1))
    return " ".join(reversed(parts))


def _terms(node: syntax.Binary) -> list[Expr]:
    """The terms of an and/or chain, all of them if the parser would balance them into this very tree."""
    shape: list[Expr] = []
    _flatten(node, node.op, shape)
    if _is_balanced(node, node.op, shape):
        return shape
    return [node.left, node.right]


def _flatten(node: Expr, op: str, terms: list[Expr]) -> None:
    if isinstance(node, syntax.Binary) and node.op == op:
        _flatten(node.left, op, terms)
        _flatten(node.right, op, terms)
    else:
        terms.append(node)


def _is_balanced(node: Expr, op: str, terms: Sequence[Expr]) -> bool:
    if len(terms) == 1:
        return True
    split = 1 << (len(terms) - 1).bit_length() - 1
    return (
        isinstance(node, syntax.Binary)
        and _size(node.left, op) == split
        and _is_balanced(node.left, op, terms[:split])
        and _is_balanced(node.right, op, terms[split:])
    )


def _size(node: Expr, op: str) -> int:
    if isinstance(node, syntax.Binary) and node.op == op:
        return _size(node.left, op) + _size(node.right, op)
    return 1


def _path(node: Expr) -> str:
    """Members, indexes and calls from right to left, so that a long path is no deep recursion."""
    parts: list[str] = []
    while True:
        match node:
            case syntax.Member(target=target, name=name):
                parts.append(f".{name}")
                node = target
            case syntax.Index(target=target, index=index):
                parts.append(f"[{_expression(index)}]")
                node = target
            case syntax.Call(target=None):
                parts.append(_call(node))
                break
            case syntax.Call(target=Expr() as target):
                parts.append(f".{_call(node)}")
                node = target
            case syntax.Literal():
                parts.append(f"({_literal(node)})")
                break
            case _:
                parts.append(_expression(node, _ATOM))
                break
    return "".join(reversed(parts))


def _call(node: syntax.Call) -> str:
    if node.name in words.PIPE_FUNCTIONS:
        return f"{node.name}({_pipe(node.args[0])})"
    name = node.name if node.name in words.CALLABLE else _name(node.name)
    return f"{name}({_commas(map(_expression, node.args))})"


def _pattern(node: syntax.DeclarePattern) -> str:
    if node.parameters is None:
        return f"declare pattern {_name(node.name)}"
    path = f"[{_column(node.path)}]" if node.path is not None else ""
    cases = [
        f"({_commas(map(_expression, case.values))})"
        + (f".[{_expression(case.path)}]" if case.path is not None else "")
        + f" = {_body(case.body)};"
        for case in node.cases
    ]
    head = f"declare pattern {_name(node.name)} = ({_commas(map(_column, node.parameters))}){path}"
    return f"{head} {{ {' '.join(cases)} }}"


def _body(node: syntax.Function) -> str:
    body = [_statement(statement) for statement in node.statements]
    if node.body is not None:
        body.append(_pipe(node.body))
    return f"{{ {'; '.join(body)} }}"


def _function(node: syntax.Function) -> str:
    view = "view " if node.view else ""
    return f"{view}({_commas(map(_parameter, node.parameters))}) {_body(node)}"


def _parameter(node: syntax.Parameter) -> str:
    if node.type is None:
        columns = [*map(_column, node.columns or ()), *(["*"] if node.open else [])]
        return f"{_name(node.name)}:({_commas(columns)})"
    default = f" = {_expression(node.default)}" if node.default is not None else ""
    return f"{_name(node.name)}:{node.type.value}{default}"


def _commas(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def _name(text: str) -> str:
    if _PLAIN_NAME.fullmatch(text) and text not in words.NO_REFERENCE and text not in _BRACKETED:
        return text
    return f"[{quoted(text)}]"


def _column(node: syntax.ColumnDecl) -> str:
    return f"{_name(node.name)}:{node.type.value}"


def _schema(columns: Iterable[syntax.ColumnDecl], *, is_open: bool = False) -> str:
    return f"({_commas([*(['*'] if is_open else []), *map(_column, columns)])})"


# --- literals ----------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """A text as a KQL literal in double quotes."""
    return '"' + "".join(_character(character) for character in text) + '"'


def _character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def _literal(node: syntax.Literal) -> str:
    value, kind = node.value, node.type
    if kind is KqlType.DYNAMIC:
        return f"dynamic({_json(value)})"
    if isinstance(value, str):
        return quoted(value) if kind is KqlType.STRING else f"{kind.value}({value})"
    if value is None:
        return f"{kind.value}(null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _integer(value, kind)
    if isinstance(value, float):
        plain = math.isfinite(value) and math.copysign(1, value) > 0
        return repr(value) if plain and kind is KqlType.REAL else f"{kind.value}({value!r})"
    if isinstance(value, Decimal):
        return f"decimal({value})"
    raise _unprintable(node)


def _integer(value: int, kind: KqlType) -> str:
    if kind is KqlType.DATETIME:
        return f"datetime({literals.format_datetime(value)})"
    if kind is KqlType.TIMESPAN:
        return f"timespan({literals.format_timespan(value)})"
    return str(value) if kind is KqlType.LONG and value >= 0 else f"{kind.value}({value})"


def _json(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int():
            return str(value) if value > -(2**63) else f"long({value})"
        case float():
            return repr(value) if math.isfinite(value) else f"real({value!r})"
        case dict():
            return "{" + _commas(f"{quoted(str(name))}: {_json(item)}" for name, item in value.items()) + "}"
        case list():
            return f"[{_commas(map(_json, value))}]"
    raise TypeError(f"no JSON value: {value!r}")


# --- operators ---------------------------------------------------------------------------------------------


def _listed(values: Iterable[Expr]) -> str:
    return _commas(map(_expression, values))


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _given(keyword: str, node: Expr | None) -> str:
    return "" if node is None else f"{keyword} {_expression(node)}"


def _by(values: Sequence[Expr], keyword: str = "by") -> str:
    return f"{keyword} {_listed(values)}" if values else ""


def _properties(properties: Iterable[syntax.Property]) -> str:
    return " ".join(map(_property, properties))


def _property(node: syntax.Property) -> str:
    return f"{node.name}={_property_value(node.value)}"


def _property_value(value: Expr) -> str:
    if isinstance(value, syntax.Name) and _PLAIN_NAME.fullmatch(value.text) and value.text not in words.TRUTH:
        return value.text
    return _expression(value)


def _with(properties: Sequence[syntax.Property]) -> str:
    return f" with ({_commas(map(_property, properties))})" if properties else ""


def _split(properties: Sequence[syntax.Property], *late: str) -> tuple[str, str]:
    """The properties that stand at the front, and those of these names, which stand at the end."""
    return (
        _properties(item for item in properties if item.name not in late),
        _commas(_property(item) for item in properties if item.name in late),
    )


def _sub_pipe(node: syntax.Pipe) -> str:
    return f"({_pipe(node)})"


def _ordering(node: syntax.Ordering) -> str:
    direction = {None: "", True: "desc", False: "asc"}[node.descending]
    nulls = {None: "", True: "nulls first", False: "nulls last"}[node.nulls_first]
    return _words(_expression(node.value), direction, nulls)


def _operator(node: syntax.Operator) -> str:
    if isinstance(node, _READ_OVER):
        raise _unprintable(node)
    return _words(*_parts(node))


def _parts(node: syntax.Operator) -> tuple[str, ...]:
    match node:
        case syntax.As(name=name, properties=properties):
            return "as", _properties(properties), _name(name)
        case syntax.AssertSchema(columns=asserted):
            return "assert-schema", _schema(asserted)
        case syntax.Consume(properties=properties):
            return "consume", _properties(properties)
        case syntax.Count(name=name):
            return "count", f"as {_name(name)}" if name is not None else ""
        case syntax.Distinct(values=values):
            return "distinct", _listed(values)
        case syntax.Evaluate(call=call, columns=columns, properties=properties, open=is_open):
            schema = "" if columns is None else f": {_schema(columns, is_open=is_open)}"
            return "evaluate", _properties(properties), _path(call), schema
        case syntax.Extend(values=values):
            return "extend", _listed(values)
        case syntax.Facet(columns=facets, body=body):
            return "facet by", _listed(facets), f"with {_sub_pipe(body)}" if body else ""
        case syntax.Find():
            return _find(node)
        case syntax.Fork(branches=branches):
            return "fork", *map(_branch, branches)
        case syntax.GetSchema():
            return ("getschema",)
        case syntax.Invoke(call=call):
            return "invoke", _path(call)
        case syntax.Join(right=right, keys=keys, properties=properties):
            return "join", _properties(properties), _expression(right, _ATOM), _by(keys, "on")
        case syntax.Lookup(right=right, keys=keys, properties=properties):
            return "lookup", _properties(properties), _expression(right, _ATOM), _by(keys, "on")
        case syntax.MakeSeries():
            return _make_series(node)
        case syntax.MvExpand(columns=mv_columns, limit=limit, properties=properties):
            return (
                "mv-expand",
                _properties(properties),
                _commas(map(_mv_column, mv_columns)),
                _given("limit", limit),
            )
        case syntax.MvApply(columns=mv_columns, limit=limit, body=body, properties=properties):
            columns_text = _commas(map(_mv_column, mv_columns))
            return (
                "mv-apply",
                _properties(properties),
                columns_text,
                _given("limit", limit),
                f"on {_sub_pipe(body)}",
            )
        case syntax.Parse(value=value, pattern=pattern, where=where, properties=properties):
            keyword = "parse-where" if where else "parse"
            return keyword, _properties(properties), _expression(value), "with", *map(_parse_part, pattern)
        case syntax.ParseKv(value=value, columns=kv_columns, properties=properties):
            return "parse-kv", _expression(value), f"as {_schema(kv_columns)}{_with(properties)}"
        case syntax.Partition():
            return _partition(node)
        case syntax.Print(values=values):
            return "print", _listed(values)
        case syntax.Project(values=values):
            return "project", _listed(values)
        case syntax.ProjectAway(columns=away):
            return "project-away", _listed(away)
        case syntax.ProjectByNames(values=values):
            return "project-by-names", _listed(values)
        case syntax.ProjectKeep(columns=kept):
            return "project-keep", _listed(kept)
        case syntax.ProjectRename(values=values):
            return "project-rename", _listed(values)
        case syntax.ProjectReorder(columns=ordered):
            return "project-reorder", _commas(
                _words(_expression(column), order or "") for column, order in ordered
            )
        case syntax.RangeSource(name=name, start=start, stop=stop, step=step):
            return "range", _name(name), _given("from", start), _given("to", stop), _given("step", step)
        case syntax.Reduce(value=value, properties=properties):
            front, late = _split(properties, "threshold", "characters")
            return "reduce", front, "by", _expression(value), f"with {late}" if late else ""
        case syntax.Render():
            return _render(node)
        case syntax.Sample(count=count):
            return "sample", _expression(count)
        case syntax.SampleDistinct(count=count, of=of):
            return "sample-distinct", _expression(count), "of", _expression(of)
        case syntax.Scan():
            return _scan(node)
        case syntax.Search(tables=tables, predicate=predicate, properties=properties):
            return "search", _properties(properties), _in(tables), _expression(predicate)
        case syntax.Serialize(values=values):
            return "serialize", _listed(values)
        case syntax.Sort(keys=orderings):
            return "sort by", _commas(map(_ordering, orderings))
        case syntax.Summarize(values=values, by=by, properties=properties):
            front, late = _split(properties, "bin")
            return "summarize", front, _listed(values), _by(by), late
        case syntax.Take(count=count):
            return "take", _expression(count)
        case syntax.Top(count=count, by=ordering):
            return "top", _expression(count), "by", _ordering(ordering)
        case syntax.TopHitters(count=count, of=of, by=weight):
            return "top-hitters", _expression(count), "of", _expression(of), _given("by", weight)
        case syntax.TopNested(levels=levels):
            return (_commas(map(_nested_level, levels)),)
        case syntax.Union(tables=tables, properties=properties):
            return "union", _properties(properties), _listed(tables)
        case syntax.Where(predicate=predicate):
            return "where", _expression(predicate)
    return _graph_parts(node)


def _graph_parts(node: syntax.Operator) -> tuple[str, ...]:
    match node:
        case syntax.MakeGraph(source=source, target=target, nodes=nodes, properties=properties):
            tables = _commas(f"{_expression(table, _ATOM)} on {_expression(key)}" for table, key in nodes)
            split = ""
            if node.partition_by is not None and node.body is not None:
                split = f"partitioned-by {_expression(node.partition_by)} {_sub_pipe(node.body)}"
            arrow = f"{_expression(source)} --> {_expression(target)}"
            return "make-graph", arrow, _properties(properties), f"with {tables}" if tables else "", split
        case syntax.GraphMatch(patterns=patterns, where=where, project=project, properties=properties):
            keyword = "graph-shortest-paths" if node.shortest else "graph-match"
            paths = _commas("".join(map(_graph_part, pattern)) for pattern in patterns)
            columns = "" if project is None else f"project {_listed(project)}"
            return keyword, _properties(properties), paths, _given("where", where), columns
        case syntax.GraphWhere(predicate=predicate, edges=edges):
            return "graph-where-edges" if edges else "graph-where-nodes", _expression(predicate)
        case syntax.GraphMarkComponents(properties=properties):
            return "graph-mark-components", _properties(properties)
        case syntax.GraphToTable(outputs=outputs):
            return "graph-to-table", _commas(map(_graph_output, outputs))
    raise _unprintable(node)


def _find(node: syntax.Find) -> tuple[str, ...]:
    tables = _in(node.tables)
    project = "" if node.project is None else f"project {_commas(map(_find_column, node.project))}"
    return (
        "find",
        _properties(node.properties),
        tables,
        "where",
        _expression(node.predicate),
        "project-smart" if node.smart else project,
        _by(node.project_away, "project-away"),
    )


def _find_column(node: Expr | syntax.ColumnDecl) -> str:
    return _column(node) if isinstance(node, syntax.ColumnDecl) else _expression(node)


def _in(tables: Sequence[Expr]) -> str:
    return f"in ({_listed(tables)})" if tables else ""


def _branch(node: syntax.ForkBranch) -> str:
    name = "" if node.name is None else f"{_name(node.name)}="
    return name + _sub_pipe(node.body)


def _make_series(node: syntax.MakeSeries) -> tuple[str, ...]:
    columns = _commas(
        _words(_expression(item.value), _given("default =", item.default)) for item in node.columns
    )
    if node.in_range and node.start is not None and node.stop is not None:
        span: tuple[str, ...] = (f"in range({_listed([node.start, node.stop, node.step])})",)
    else:
        span = _given("from", node.start), _given("to", node.stop), _given("step", node.step)
    return (
        "make-series",
        _properties(node.properties),
        columns,
        "on",
        _expression(node.axis),
        *span,
        _by(node.by),
    )


def _mv_column(node: syntax.MvColumn) -> str:
    return _words(_expression(node.value), f"to typeof({node.to.value})" if node.to else "")


def _parse_part(node: syntax.ParsePart) -> str:
    if node.text is not None:
        return _expression(node.text)
    if node.name is None:
        return "*"
    return _name(node.name) + (f":{node.type.value}" if node.type else "")


def _partition(node: syntax.Partition) -> tuple[str, ...]:
    body = f"{{ {_pipe(node.body)} }}" if node.standalone else _sub_pipe(node.body)
    if node.id is not None:
        return (
            "__partitionby",
            _properties(node.properties),
            _expression(node.by),
            f"id guid({node.id})",
            body,
        )
    return "partition", _properties(node.properties), "by", _expression(node.by), body


def _render(node: syntax.Render) -> tuple[str, ...]:
    groups: list[str] = []
    last = ""
    for item in node.properties:
        if item.name == last and isinstance(item.value, syntax.Name):
            groups[-1] += f", {_property_value(item.value)}"
        elif item.name in ("by", "with"):
            groups.append(f"{item.name} {_property_value(item.value)}")
        else:
            groups.append(_property(item))
        last = item.name
    return "render", node.chart, f"with ({_commas(groups)})" if groups else ""


def _scan(node: syntax.Scan) -> tuple[str, ...]:
    return (
        "scan",
        _properties(node.properties),
        f"order by {_commas(map(_ordering, node.order_by))}" if node.order_by else "",
        _by(node.partition_by, "partition by"),
        f"declare ({_commas(map(_parameter, node.declare))})" if node.declare else "",
        f"with ({' '.join(map(_step, node.steps))})",
    )


def _step(node: syntax.ScanStep) -> str:
    output = "" if node.output == "all" else f"output={node.output}"
    assignments = f" => {_listed(node.assignments)}" if node.assignments else ""
    head = _words("step", _name(node.name), "optional" if node.optional else "", output)
    return f"{head}: {_expression(node.condition)}{assignments};"


def _nested_level(node: syntax.TopNestedLevel) -> str:
    return _words(
        "top-nested",
        "" if node.count is None else _expression(node.count),
        "of",
        _expression(node.of),
        _given("with others =", node.others),
        "by",
        _ordering(node.by),
    )


def _graph_part(node: syntax.GraphNodePattern | syntax.GraphEdgePattern) -> str:
    if isinstance(node, syntax.GraphNodePattern):
        return f"({'' if node.name is None else _name(node.name)})"
    low, high = ("" if bound is None else _expression(bound, _ATOM) for bound in (node.low, node.high))
    steps = f"*{low}..{high}" if low else ""
    inner = ("" if node.name is None else _name(node.name)) + steps
    left, right = (
        ("<-", "-") if node.direction == "<-" else ("-", "->") if node.direction == "->" else ("-", "-")
    )
    return f"{left}[{inner}]{right}" if inner else f"{left}{right}"


def _graph_output(node: syntax.GraphOutput) -> str:
    return _words(
        node.kind, f"as {_name(node.name)}" if node.name is not None else "", _properties(node.properties)
    )
