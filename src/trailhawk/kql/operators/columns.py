"""Operators over columns: extend, project and its variants."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError
from trailhawk.kql import syntax
from trailhawk.kql.functions import WINDOWS
from trailhawk.kql.names import Names
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import carried, column_for, named_values, refs, riders, scope_of
from trailhawk.kql.plan import (
    ColumnRef,
    Expr,
    Node,
    OutColumn,
    Project,
    Window,
)
from trailhawk.kql.records import replace
from trailhawk.kql.scalars import Collector
from trailhawk.kql.schema import HIDDEN_PREFIX
from trailhawk.kql.scope import (
    Env,
    suggestion,
    visible,
)
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType


def windows_over(binder: Binder, node: Node) -> Collector:
    """Gathers window functions, which see one partition of the rows at a time."""
    return Collector(WINDOWS, partition=refs(carried(binder, node)))


def over(node: Node, windows: Collector) -> Node:
    """The node with the window functions' columns beside its own."""
    if not windows.calls:
        return node
    columns = tuple(replace(c, name=f"{HIDDEN_PREFIX}window{c.id}") for c in windows.columns)
    return Window((*node.columns, *columns), node, tuple(windows.calls))


@step(syntax.Extend)
def extend(binder: Binder, node: Node, operator: syntax.Extend, env: Env) -> Node:
    windows = windows_over(binder, node)
    items = named_values(binder, operator.values, scope_of(node, env), windows)
    columns = list(node.columns)
    values: list[Expr] = list(refs(columns))
    places = {column.name: i for i, column in enumerate(columns)}
    names = Names(column.name for column in columns)
    named: set[str] = set()
    for name, given, value, span in items:
        if given and name in named:
            raise BindingError(f"two columns are called '{name}'", span)
        named.update([name] if given else [])
        if name and name in places:
            columns[places[name]] = OutColumn(binder.new_id(), name, value.type)
            values[places[name]] = value
        else:
            unique = names.unique(name or names.computed())
            places[unique] = len(columns)
            columns.append(OutColumn(binder.new_id(), unique, value.type))
            values.append(value)
    return Project(tuple(columns), over(node, windows), tuple(values))


@step(syntax.Project)
def project(binder: Binder, node: Node, operator: syntax.Project, env: Env) -> Node:
    windows = windows_over(binder, node)
    items = named_values(binder, operator.values, scope_of(node, env), windows)
    names = Names()
    columns: list[OutColumn] = []
    taken: set[int] = set()
    written: set[str] = set()
    for name, given, value, span in items:
        spelled = given or isinstance(value, ColumnRef)
        if spelled and name in written:
            raise BindingError(f"two columns are called '{name}'", span)
        if spelled and name:
            written.add(name)
        column = column_for(binder, names.unique(name or names.computed()), value)
        if column.id in taken:
            column = replace(column, id=binder.new_id())
        taken.add(column.id)
        columns.append(column)
    values = tuple(value for _, _, value, _ in items)
    parts = (*carried(binder, node), *riders(node))
    return Project((*columns, *parts), over(node, windows), (*values, *refs(parts)))


def chosen(node: Node, items: Sequence[syntax.Expr]) -> list[OutColumn]:
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
                raise no_column(item, shown)
        else:
            raise BindingError("a column's name is expected", item.span)
        chosen += [column for column in matches if column not in chosen]
    return chosen


def no_column(item: syntax.Name, columns: Iterable[OutColumn]) -> BindingError:
    hint = suggestion(item.text, [column.name for column in columns])
    return BindingError(f"there is no column '{item.text}'", item.span, hint=hint, code="unknown-column")


def keep(node: Node, columns: Sequence[OutColumn]) -> Node:
    return Project(tuple(columns), node, refs(columns))


@step(syntax.ProjectAway)
def project_away(binder: Binder, node: Node, operator: syntax.ProjectAway, env: Env) -> Node:
    gone = chosen(node, operator.columns)
    return keep(node, [column for column in node.columns if column not in gone])


@step(syntax.ProjectKeep)
def project_keep(binder: Binder, node: Node, operator: syntax.ProjectKeep, env: Env) -> Node:
    kept = chosen(node, operator.columns)
    hidden = (*carried(binder, node), *riders(node))
    return keep(node, [column for column in node.columns if column in kept or column in hidden])


@step(syntax.ProjectByNames)
def project_by_names(binder: Binder, node: Node, operator: syntax.ProjectByNames, env: Env) -> Node:
    """Columns named by texts and arrays of texts; a name that no column has is passed over."""
    found: list[OutColumn] = []
    for item in operator.values:
        value = binder.scalars.constant(item, env, "a name of project-by-names").value
        for name in value if isinstance(value, list) else [value]:
            if not isinstance(name, str):
                raise BindingError("project-by-names takes texts and arrays of texts", item.span)
            matches = [c for c in visible(node.columns) if fnmatch.fnmatchcase(c.name, name)]
            found += [column for column in matches if column not in found]
    return keep(node, [*found, *carried(binder, node), *riders(node)])


@step(syntax.ProjectRename)
def project_rename(binder: Binder, node: Node, operator: syntax.ProjectRename, env: Env) -> Node:
    columns = list(node.columns)
    values = refs(columns)
    for item in operator.values:
        if not isinstance(item, syntax.Named) or not isinstance(item.value, syntax.Name):
            raise BindingError("project-rename takes new = old", item.span)
        old = chosen(node, [item.value])[0]
        place = [column.id for column in node.columns].index(old.id)
        columns[place] = replace(old, name=item.names[0])
    if len({column.name for column in columns}) < len(columns):
        raise BindingError("two columns would have the same name", operator.span)
    return Project(tuple(columns), node, values)


@step(syntax.ProjectReorder)
def project_reorder(binder: Binder, node: Node, operator: syntax.ProjectReorder, env: Env) -> Node:
    first: list[OutColumn] = []
    for item, order in operator.columns:
        matches = [column for column in chosen(node, [item]) if column not in first]
        if order is not None:
            key = _natural if order.startswith("granny") else (lambda column: column.name)
            matches.sort(key=key, reverse=order.endswith("desc"))
        first += matches
    return keep(node, [*first, *(column for column in node.columns if column not in first)])


def _natural(column: OutColumn) -> list[tuple[int, int, str]]:
    """Sort key of granny order: numbers inside names by value."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in re.split(r"(\d+)", column.name)
        if part
    ]
