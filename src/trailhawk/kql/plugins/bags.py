"""bag_unpack."""

from __future__ import annotations

from trailhawk.errors import BindingError
from trailhawk.kql.plan import ColumnRef, Expr, Node, OutColumn, PathExpr, Project
from trailhawk.kql.plugins.registry import Use, plugin
from trailhawk.kql.plugins.shared import Arguments, column_argument, hidden, kept, projected, quoted, steps
from trailhawk.kql.types import KqlType

_T = KqlType
_TYPES = {"bool": _T.BOOL, "long": _T.LONG, "double": _T.REAL, "string": _T.STRING, "int": _T.LONG}
"""The column type of a slot whose values are all of one type; arrays, bags and mixtures stay dynamic."""
_CONFLICTS = ("error", "replace_source", "keep_source")


@plugin("bag_unpack")
def bag_unpack(use: Use) -> Node:
    """Each key of a bag as a column, in place of the bag.

    `bag_unpack(column [, prefix [, columnsConflict [, ignoredProperties]]]) [: schema]`. The keys come in
    alphabetical order after the other columns. Without a schema the rows are looked at first.
    """
    arguments = Arguments(use, "OutputColumnPrefix", "columnsConflict", "ignoredProperties")
    bag = column_argument(arguments, "Column")
    if bag.type is not _T.DYNAMIC:
        raise BindingError(
            f"bag_unpack() takes a dynamic column, not {bag.type.value}", use.call.args[0].span
        )
    prefix, conflict, ignored = _options(use, arguments)
    sources = tuple(column for column in kept(use) if column.id != bag.id)
    if use.columns is not None:
        return _declared(use, bag, sources, prefix)
    slots = {f"{prefix}{key}": (key, type_) for key, type_ in _slots(use, bag, ignored)}
    clash = [column.name for column in sources if column.name in slots]
    if clash and conflict == "error":
        raise BindingError(
            f"bag_unpack() gives a column '{clash[0]}' that is there already",
            use.call.span,
            hint="give a prefix, or columnsConflict='replace_source'",
        )
    by_name = {column.name: column for column in sources}
    columns = [column for column in sources if column.name not in slots]
    values: list[Expr] = [ColumnRef(column.type, column.id) for column in columns]
    for name, (key, type_) in slots.items():
        if name in by_name and conflict == "keep_source":
            source = by_name[name]
            columns.append(source)
            values.append(ColumnRef(source.type, source.id))
        else:
            value = _slot(use, bag, key, type_)
            columns.append(OutColumn(use.binder.new_id(), name, value.type))
            values.append(value)
    return Project(tuple(columns), use.node, tuple(values))


def _options(use: Use, arguments: Arguments) -> tuple[str, str, frozenset[str]]:
    """Prefix, what to do with a clash, and keys to leave out. Unnamed, a text is a prefix first."""
    found = arguments.optional("OutputColumnPrefix")
    prefix = found.value if found else ""
    found = arguments.optional("columnsConflict")
    conflict = found.value if found else "error"
    found = arguments.optional("ignoredProperties")
    ignored = found.value if found else []
    arguments.end()
    if not isinstance(prefix, str) or conflict not in _CONFLICTS or not isinstance(ignored, list):
        raise BindingError(
            "bag_unpack() takes a prefix, columnsConflict and ignoredProperties",
            use.call.span,
            hint=f"columnsConflict is one of {', '.join(_CONFLICTS)}; ignoredProperties an array of keys",
        )
    return prefix, str(conflict), frozenset(str(key) for key in ignored)


def _slot(use: Use, bag: OutColumn, key: str, type_: KqlType) -> Expr:
    value = PathExpr(_T.DYNAMIC, ColumnRef(_T.DYNAMIC, bag.id), (key,))
    return value if type_ is _T.DYNAMIC else use.binder.scalars.convert(value, type_, use.call.span)


def _declared(use: Use, bag: OutColumn, sources: tuple[OutColumn, ...], prefix: str) -> Node:
    """The columns of the declared schema: the input's where they are named so, else the bag's keys."""
    columns = list(sources) if use.open else []
    values: list[Expr] = [ColumnRef(column.type, column.id) for column in columns]
    by_name = {column.name: column for column in sources}
    for declared in use.columns or ():
        source = by_name.get(declared.name)
        if source is not None and not use.open:
            ref: Expr = ColumnRef(source.type, source.id)
            value = use.binder.scalars.convert(ref, declared.type, declared.span)
        else:
            value = _slot(use, bag, declared.name.removeprefix(prefix), declared.type)
        columns.append(OutColumn(use.binder.new_id(), declared.name, value.type))
        values.append(value)
    return Project(tuple(columns), use.node, tuple(values))


def _slots(use: Use, bag: OutColumn, ignored: frozenset[str]) -> list[tuple[str, KqlType]]:
    """The keys that the bags have, each with the type of its values; nulls do not count."""
    name = hidden(use)
    plan = steps(
        use,
        projected(use, use.node, [(name, ColumnRef(_T.DYNAMIC, bag.id))]),
        f"project b = {quoted(name)} | mv-expand b | where gettype(b) == 'dictionary'"
        "| project k = tostring(bag_keys(b)[0]), b | distinct k, t = gettype(b[k]) | sort by k asc, t asc",
    )
    types: dict[str, set[str]] = {}
    for key, type_ in use.binder.look(plan, "bag_unpack()", use.call.span).rows():
        found = types.setdefault(str(key), set())
        if type_ != "null":
            found.add(str(type_))
    return [
        (key, _TYPES.get(next(iter(found)), _T.DYNAMIC) if len(found) == 1 else _T.DYNAMIC)
        for key, found in sorted(types.items())
        if key not in ignored
    ]
