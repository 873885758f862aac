"""union and search: rows of several tables."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, Span, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.functions.operators import term_end, term_start
from trailhawk.kql.names import Names
from trailhawk.kql.operators.registry import source, step
from trailhawk.kql.operators.shared import carried, one_of, property_text
from trailhawk.kql.operators.tables import table_name
from trailhawk.kql.plan import (
    ColumnRef,
    Const,
    Expr,
    Filter,
    Node,
    OutColumn,
    Union,
)
from trailhawk.kql.records import replace
from trailhawk.kql.scope import (
    Env,
    FunctionBinding,
    NoTableError,
    Scope,
    TableBinding,
)
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType


def tables_of(
    binder: Binder,
    tables: Sequence[syntax.Expr],
    env: Env,
    *,
    fuzzy: bool,
    lets_named: bool = False,
    first: int = 0,
) -> list[tuple[str, Node]]:
    """The tables with what each calls itself, see `label_of`; in a union the rows of a `let` have no name.

    What has none goes by its place, of which `first` is the first's.
    """
    found: list[tuple[str, Node]] = []
    for place, item in enumerate(tables, first):
        if isinstance(item, syntax.NamePattern | syntax.Star):
            pattern = item.text if isinstance(item, syntax.NamePattern) else "*"
            names = [name for name in binder.catalog.table_names() if fnmatch.fnmatchcase(name, pattern)]
            views = [
                name for name in env.all_names() if _is_view(name, env) and fnmatch.fnmatchcase(name, pattern)
            ]
            for name in sorted(set(views)):
                found.append((name, table_name(binder, syntax.Name(item.span, name), env)))
            for name in names:
                if name not in views:
                    found.append((name, table_name(binder, syntax.Name(item.span, name), binder.root)))
            continue
        try:
            node = binder.table(item, env)
        except NoTableError:
            if fuzzy:
                continue
            raise
        found.append((label_of(item, env, lets_named) or f"union_arg{place}", node))
    return found


def _is_view(name: str, env: Env) -> bool:
    """Does a `let` call this a view, so that a pattern of names finds it?"""
    binding = env.get(name)
    return isinstance(binding, FunctionBinding) and binding.value.view and not binding.value.parameters


def label_of(table: syntax.Expr, env: Env, lets_named: bool = False) -> str | None:
    """What a table calls itself in withsource: its name, or that of a last `as`.

    The name of a `let` is another one for what it stands for, or with `lets_named` the label itself.
    """
    match table:
        case syntax.Name():
            binding = env.get(table.text)
            if isinstance(binding, TableBinding) and not lets_named:
                return label_of(binding.value, binding.env)
            return table.text
        case syntax.Pipe(source=source, operators=()) if source is not None:
            return label_of(source, env, lets_named)
        case syntax.Pipe(operators=(*_, syntax.As(name=name))):
            return name
        case _:
            return None


@source(syntax.Union)
def union_tables(binder: Binder, operator: syntax.Union, env: Env) -> Node:
    return _union(binder, None, operator, env)


@step(syntax.Union)
def union(binder: Binder, node: Node, operator: syntax.Union, env: Env) -> Node:
    return _union(binder, node, operator, env)


def _union(binder: Binder, node: Node | None, operator: syntax.Union, env: Env) -> Node:
    label = binder.label or "union_arg0"
    if node is not None and carried(binder, node):
        raise UnsupportedError("union inside a sub-pipe", operator.span)
    kind = one_of(operator, "kind", ("outer", "inner"))
    fuzzy = (property_text(operator, "isfuzzy") or "").lower() == "true" or _best_effort(binder)
    tables = [] if node is None else [(label, node)]
    tables += tables_of(binder, operator.tables, env, fuzzy=fuzzy, first=len(tables))
    if not tables:
        raise BindingError("the union has no table", operator.span)
    return united(binder, tables, property_text(operator, "withsource"), inner=kind == "inner")


def _best_effort(binder: Binder) -> bool:
    """Does `set best_effort = true` say that tables which are not there are passed over?"""
    if "best_effort" not in binder.scalars.options:
        return False
    value = binder.scalars.options["best_effort"]
    return value is None or (isinstance(value, syntax.Literal) and value.value is True)


def united(
    binder: Binder, branches: Sequence[tuple[str, Node]], source: str | None, *, inner: bool = False
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
    names = Names(name for name, known in types.items() if len(known) == 1)
    for name, type_ in wanted:
        shown = name if len(types[name]) == 1 else names.unique(f"{name}_{type_.value}")
        columns.append(OutColumn(binder.new_id(), shown, type_))
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
        columns.insert(0, OutColumn(binder.new_id(), source, _T.STRING))
    return Union(tuple(columns), tuple(branch for _, branch in branches), tuple(rows))


@source(syntax.Search)
def search_tables(binder: Binder, operator: syntax.Search, env: Env) -> Node:
    return _search(binder, None, operator, env)


@step(syntax.Search)
def search(binder: Binder, node: Node, operator: syntax.Search, env: Env) -> Node:
    return _search(binder, node, operator, env)


def _search(binder: Binder, node: Node | None, operator: syntax.Search, env: Env) -> Node:
    label = binder.label or "search_arg0"
    sought = operator.predicate
    if one_of(operator, "kind", ("default", "case_insensitive", "case_sensitive")) == "case_sensitive":
        sought = _with_case(sought)
    if node is not None:
        branches = [(label, node)]
    else:
        tables = operator.tables or (syntax.Star(operator.span),)
        branches = tables_of(binder, tables, env, fuzzy=False, lets_named=True)
    filtered: list[tuple[str, Node]] = []
    for name, branch in branches:
        predicate = _sought(binder, sought, Scope(branch.columns, env))
        if predicate is not None:
            filtered.append((name, Filter(branch.columns, branch, predicate)))
    if not filtered:
        raise BindingError("no table has the columns this search names", operator.span)
    return united(binder, filtered, "$table")


def _sought(binder: Binder, expr: syntax.Expr, scope: Scope) -> Expr | None:
    """The predicate of a search: `search *` finds every row."""
    return Const(_T.BOOL, True) if isinstance(expr, syntax.Star) else search_predicate(binder, expr, scope)


def search_predicate(binder: Binder, expr: syntax.Expr, scope: Scope) -> Expr | None:
    """The predicate over one table's columns; None if it names a column the table lacks."""
    span = expr.span
    if isinstance(expr, syntax.Star):
        raise BindingError("'*' is a condition only alone", span, hint="leave it out beside others")
    if isinstance(expr, syntax.Binary) and expr.op in ("and", "or"):
        left, right = search_predicate(binder, expr.left, scope), search_predicate(binder, expr.right, scope)
        if expr.op == "or":
            return binder.scalars.any_of([side for side in (left, right) if side is not None], span)
        return None if left is None or right is None else binder.scalars.call("and", [left, right], span)
    if isinstance(expr, syntax.Literal):
        return binder.scalars.bind(_anywhere(expr), scope)
    if isinstance(expr, syntax.Call) and expr.name == "not" and len(expr.args) == 1:
        inner = search_predicate(binder, expr.args[0], scope)
        return None if inner is None else binder.scalars.call("not", [inner], span)
    named = expr.left if isinstance(expr, syntax.Binary) else None
    if isinstance(named, syntax.Name) and scope.column(named.text) is None:
        return None
    return binder.scalars.predicate(expr, scope)


_WITH_CASE = {
    f"{negation}{name}": f"{negation}{name}_cs"
    for name in ("has", "hasprefix", "hassuffix", "contains", "startswith", "endswith")
    for negation in ("", "!")
} | {"=~": "==", "!~": "!="}


def _with_case(expr: syntax.Expr) -> syntax.Expr:
    """The predicate with its comparisons of texts by case."""
    match expr:
        case syntax.Binary(op="and" | "or"):
            return replace(expr, left=_with_case(expr.left), right=_with_case(expr.right))
        case syntax.Binary():
            return replace(expr, op=_WITH_CASE.get(expr.op, expr.op))
        case syntax.Call(name="not", args=(inner,)):
            return replace(expr, args=(_with_case(inner),))
        case syntax.Pipe(source=syntax.Expr() as inner, operators=()):
            return _with_case(inner)
        case syntax.Literal():
            sought = _anywhere(expr)
            if sought.op == "matches regex" and isinstance(sought.right, syntax.Literal):
                plain = str(sought.right.value).removeprefix(_ANY_CASE)
                return replace(sought, right=replace(sought.right, value=plain))
            return _with_case(sought)
        case _:
            return expr


_ANY_CASE = "(?i)"


def _anywhere(expr: syntax.Literal) -> syntax.Binary:
    """A text alone as the test of every column that it stands for."""
    span = expr.span
    if isinstance(expr.value, str) and "*" in expr.value:
        return _wildcard(expr.value, span)
    term = expr if expr.type is _T.STRING else syntax.Literal(span, str(expr.value), _T.STRING)
    return syntax.Binary(span, "has", syntax.Star(span), term)


def _wildcard(text: str, span: Span) -> syntax.Binary:
    """`search "a*"` as a prefix, suffix or pattern of a term."""
    inner = text.strip("*")
    if "*" in inner:
        pieces = text.split("*")
        pattern = ".*".join(re.escape(piece) for piece in pieces)
        # Its ends are those of terms as `has` knows them, where no star and no sign stands there.
        pattern = f"{_ANY_CASE}{term_start(pieces[0])}{pattern}{term_end(pieces[-1])}"
        literal = syntax.Literal(span, pattern, _T.STRING)
        return syntax.Binary(span, "matches regex", syntax.Star(span), literal)
    op = {(True, True): "contains", (False, True): "hasprefix", (True, False): "hassuffix"}[
        (text.startswith("*"), text.endswith("*"))
    ]
    return syntax.Binary(span, op, syntax.Star(span), syntax.Literal(span, inner, _T.STRING))
