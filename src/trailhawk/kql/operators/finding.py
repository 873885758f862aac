"""find: the rows of many tables for which a predicate is true, in the columns they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, Span, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.operators.registry import source
from trailhawk.kql.operators.shared import property_text
from trailhawk.kql.operators.unions import search_predicate, tables_of, united
from trailhawk.kql.plan import ColumnRef, Const, Expr, Filter, Node, OutColumn, Project
from trailhawk.kql.records import field_names
from trailhawk.kql.scope import Env, ScalarBinding, Scope, visible
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
_PACK = "pack_"


@source(syntax.Find)
def find(binder: Binder, operator: syntax.Find, env: Env) -> Node:
    """Rows with the name of their table; what a table has beside is packed in a bag."""
    if operator.project_away:
        raise UnsupportedError("find with project-away", operator.project_away[0].span)
    fuzzy = (property_text(operator, "isfuzzy") or "").lower() == "true"
    names = operator.tables or (syntax.Star(operator.span),)
    tables = tables_of(binder, names, env, fuzzy=fuzzy, lets_named=True)
    known = {column.name: column.type for _, table in tables for column in visible(table.columns)}
    asked = [name for name in dict.fromkeys(_names(operator.predicate)) if name in known]
    anywhere = _looks_everywhere(operator.predicate)
    found: list[tuple[str, Node]] = []
    for label, table in tables:
        own = {column.name for column in visible(table.columns)}
        if asked and not anywhere and not own & set(asked):
            continue
        # A column that only other tables have is null here.
        missing = {
            name: ScalarBinding(Const(known[name], "" if known[name] is _T.STRING else None))
            for name in asked
            if name not in own
        }
        test = _predicate(binder, operator.predicate, Scope(table.columns, env.with_(missing)))
        found.append((label, Filter(table.columns, table, test)))
    if not found:
        raise BindingError("no table has the columns this find names", operator.span)
    label = property_text(operator, "withsource") or property_text(operator, "with_source") or "source_"
    if operator.project is None:
        branches = [(name, _packed(binder, table, _smart(found, asked))) for name, table in found]
        if all(len(visible(table.columns)) <= len(_smart(found, asked)) for _, table in found):
            branches = [(name, _kept(table, _smart(found, asked))) for name, table in found]
    else:
        branches = [(name, _projected(binder, table, operator.project, known)) for name, table in found]
    return united(binder, branches, label)


def _names(expr: syntax.Node) -> Iterator[str]:
    """The names that an expression uses, in order."""
    if isinstance(expr, syntax.Name):
        yield expr.text
    for name in field_names(expr):
        value = getattr(expr, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, syntax.Node):
                yield from _names(part)


def _looks_everywhere(expr: syntax.Expr) -> bool:
    """Does the predicate look into every column: a text alone, or `* has`?"""
    match expr:
        case syntax.Binary(op="and" | "or"):
            return _looks_everywhere(expr.left) or _looks_everywhere(expr.right)
        case syntax.Binary() | syntax.InList():
            return isinstance(expr.left, syntax.Star)
        case syntax.Call(name="not", args=(inner,)):
            return _looks_everywhere(inner)
        case syntax.Pipe(source=syntax.Expr() as inner, operators=()):
            return _looks_everywhere(inner)
        case syntax.Literal():
            return expr.type is not _T.BOOL
        case _:
            return False


def _predicate(binder: Binder, expr: syntax.Expr, scope: Scope) -> Expr:
    """The predicate over one table; a text alone is sought in every column."""
    match expr:
        case syntax.Binary(op="and" | "or"):
            sides = [_predicate(binder, side, scope) for side in (expr.left, expr.right)]
            return binder.scalars.call(expr.op, sides, expr.span)
        case syntax.Call(name="not", args=(inner,)):
            return binder.scalars.call("not", [_predicate(binder, inner, scope)], expr.span)
        case syntax.Pipe(source=syntax.Expr() as inner, operators=()):
            return _predicate(binder, inner, scope)
        case syntax.Literal() if expr.type is not _T.BOOL:
            return search_predicate(binder, expr, scope) or Const(_T.BOOL, False)
        case _:
            return binder.scalars.predicate(expr, scope)


def _smart(found: Sequence[tuple[str, Node]], asked: Sequence[str]) -> list[str]:
    """The columns that all tables have, then those that the predicate names."""
    first, *others = [visible(table.columns) for _, table in found]
    common = [
        column.name
        for column in first
        if all(any(c.name == column.name and c.type is column.type for c in other) for other in others)
    ]
    return [*common, *(name for name in asked if name not in common)]


def _ordered(table: Node, names: Sequence[str]) -> list[OutColumn]:
    by_name = {column.name: column for column in visible(table.columns)}
    return [by_name[name] for name in names if name in by_name]


def _kept(table: Node, names: Sequence[str]) -> Node:
    columns = _ordered(table, names)
    return Project(tuple(columns), table, tuple(ColumnRef(c.type, c.id) for c in columns))


def _packed(binder: Binder, table: Node, names: Sequence[str]) -> Node:
    """The columns of these names, and a bag of the others."""
    columns = _ordered(table, names)
    pack = OutColumn(binder.new_id(), _PACK, _T.DYNAMIC)
    values = (*(ColumnRef(c.type, c.id) for c in columns), _bag(binder, table, names))
    return Project((*columns, pack), table, values)


def _bag(binder: Binder, table: Node, without: Sequence[str]) -> Expr:
    rest = [column for column in visible(table.columns) if column.name not in without]
    args: list[Expr] = []
    for column in rest:
        args += [Const(_T.STRING, column.name), ColumnRef(column.type, column.id)]
    if not args:
        return Const(_T.DYNAMIC, {})
    return binder.scalars.call("bag_pack", args, Span(0, 0))


def _projected(
    binder: Binder,
    table: Node,
    items: Sequence[syntax.Expr | syntax.ColumnDecl],
    known: dict[str, KqlType],
) -> Node:
    """The columns that the query lists; what this table lacks is null."""
    own = {column.name: column for column in visible(table.columns)}
    listed = [
        item.name if isinstance(item, syntax.ColumnDecl) else getattr(item, "text", "") for item in items
    ]
    pairs: list[tuple[OutColumn, Expr]] = []
    for item in items:
        if isinstance(item, syntax.Call):
            pack = OutColumn(binder.new_id(), _PACK, _T.DYNAMIC)
            pairs.append((pack, _bag(binder, table, listed)))
            continue
        name = item.name if isinstance(item, syntax.ColumnDecl) else getattr(item, "text", "")
        if name not in known:
            raise BindingError(f"no table has a column '{name}'", item.span)
        column = own.get(name)
        type_ = item.type if isinstance(item, syntax.ColumnDecl) else known[name]
        value: Expr = Const(type_, "" if type_ is _T.STRING else None)
        if column is not None:
            value = ColumnRef(column.type, column.id)
            if isinstance(item, syntax.ColumnDecl):
                value = binder.scalars.convert(value, item.type, item.span)
        pairs.append((OutColumn(binder.new_id(), name, value.type), value))
    return Project(tuple(column for column, _ in pairs), table, tuple(value for _, value in pairs))
