"""pivot."""

from __future__ import annotations

from trailhawk.errors import BindingError
from trailhawk.kql import syntax
from trailhawk.kql.plan import ColumnRef, Node
from trailhawk.kql.plugins.registry import Use, plugin
from trailhawk.kql.plugins.shared import (
    Arguments,
    column_argument,
    hidden,
    kept,
    projected,
    quoted,
    steps,
)
from trailhawk.kql.printer import quoted as literal

_AGGREGATES = {
    "count": "countif",
    "sum": "sumif",
    "min": "minif",
    "max": "maxif",
    "avg": "avgif",
    "dcount": "dcountif",
    "stdev": "stdevif",
    "variance": "varianceif",
    "take_any": "take_anyif",
    "any": "take_anyif",
    "make_list": "make_list_if",
    "make_set": "make_set_if",
    "make_bag": "make_bag_if",
}
"""Each supported aggregate, and the one that takes a condition."""
MAX_COLUMNS = 5_000


@plugin("pivot")
def pivot(use: Use) -> Node:
    """Each value of a column as a column, with an aggregate of the rows that have it.

    `pivot(column [, aggregate(x)] [, column1, ...]) [: schema]`. Rows are grouped by the other columns, or
    those named. Columns stand in the order in which their values first appear.
    """
    arguments = Arguments(use)
    turned = column_argument(arguments, "pivotColumn")
    aggregate, over = _aggregate(use, arguments)
    named = [column_argument(arguments, "column").name for _ in list(arguments.rest)]
    used = {turned.name, *over}
    by = named or [column.name for column in kept(use) if column.name not in used]
    declared = use.columns
    values = (
        _values(use, turned.name)
        if declared is None
        else [column.name for column in declared if column.name not in by]
    )
    key = f"tostring({quoted(turned.name)})"
    function = _AGGREGATES[aggregate.name] if aggregate else "countif"
    value = ", ".join([*map(quoted, over), ""]) if over else ""
    columns = [f"{quoted(name)} = {function}({value}{key} == {literal(name)})" for name in values]
    groups = ", ".join(map(quoted, by))
    if not columns:
        return steps(use, use.node, f"distinct {groups}" if by else "take 0")
    found = steps(use, use.node, f"summarize {', '.join(columns)}" + (f" by {groups}" if by else ""))
    return found if declared is None else _as_declared(use, found)


def _aggregate(use: Use, arguments: Arguments) -> tuple[syntax.Call | None, list[str]]:
    """The aggregate and the columns it reads; None for count()."""
    if not arguments.rest or not isinstance(arguments.rest[0], syntax.Call):
        return None, []
    call = arguments.rest.pop(0)
    assert isinstance(call, syntax.Call)
    if call.name not in _AGGREGATES:
        raise BindingError(
            f"pivot() does not take the aggregate '{call.name}'",
            call.span,
            hint=f"one of {', '.join(_AGGREGATES)}",
        )
    names = []
    for arg in call.args:
        if not isinstance(arg, syntax.Name):
            raise BindingError("pivot() takes an aggregate of a column", arg.span, hint="extend it first")
        names.append(arg.text)
    return call, names


def _values(use: Use, name: str) -> list[str]:
    """The values of the column, in the order of their first rows."""
    number = hidden(use)
    source = next(column for column in kept(use) if column.name == name)
    plan = steps(
        use,
        projected(use, use.node, [("v", ColumnRef(source.type, source.id))]),
        f"serialize {number} = row_number() | summarize n = min({number}) by v = tostring(v) | sort by n asc",
    )
    found = [str(row[0]) for row in use.binder.look(plan, "pivot()", use.call.span).rows()]
    if len(found) > MAX_COLUMNS:
        raise BindingError(
            f"pivot() would give {len(found)} columns", use.call.span, hint=f"at most {MAX_COLUMNS}"
        )
    return found


def _as_declared(use: Use, node: Node) -> Node:
    """The declared columns in their order and types."""
    by_name = {column.name: column for column in node.columns}
    values = []
    for declared in use.columns or ():
        column = by_name[declared.name]
        ref = ColumnRef(column.type, column.id)
        values.append((declared.name, use.binder.scalars.convert(ref, declared.type, declared.span)))
    return projected(use, node, values)
