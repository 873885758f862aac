"""narrow, preview, rows_near, schema_merge."""

from __future__ import annotations

from trailhawk.errors import BindingError
from trailhawk.kql.operators.shared import refs
from trailhawk.kql.plan import ColumnRef, Join, JoinKind, Node, Sort, SortKey
from trailhawk.kql.plugins.registry import Use, plugin
from trailhawk.kql.plugins.shared import (
    Arguments,
    Row,
    computed,
    hidden,
    kept,
    only,
    over_values,
    projected,
    quoted,
    shared,
    steps,
)
from trailhawk.kql.printer import quoted as literal
from trailhawk.kql.types import KqlType

_T = KqlType


@plugin("narrow")
def narrow(use: Use) -> Node:
    """Each value of each row as a row: its row's number (from 0), its column's name, and itself as text."""
    Arguments(use).end()
    number = hidden(use)
    names = ", ".join(literal(column.name) for column in kept(use))
    values = ", ".join(f"tostring({quoted(column.name)})" for column in kept(use))
    return steps(
        use,
        only(use, use.node, kept(use)),
        f"serialize {number} = row_number(0)"
        f"| project Row = {number}, Column = dynamic([{names}]), Value = pack_array({values})"
        "| mv-expand Column to typeof(string), Value to typeof(string)",
    )


@plugin("preview")
def preview(use: Use) -> Node:
    """The first rows. Kusto's second table, the number of all, has no place in a single result."""
    arguments = Arguments(use)
    count = arguments.whole("NumberOfRows")
    arguments.end()
    return steps(use, use.node, f"take {count}")


@plugin("rows_near")
def rows_near(use: Use) -> Node:
    """Rows at most so many before or after one that fulfils a condition.

    `rows_near(condition, rows [, rows_after])`: of an ordered input, in its order.
    """
    arguments = Arguments(use)
    condition = use.binder.scalars.predicate(arguments.need("Condition"), use.scope)
    before = arguments.whole("NumRows")
    after = arguments.whole("NumRowsAfter") if arguments.rest else before
    arguments.end()
    number = hidden(use)
    numbered = steps(use, use.node, f"serialize {number} = row_number()")
    place = numbered.columns[-1]
    marked = projected(
        use,
        numbered,
        [
            *((column.name, ref) for column, ref in zip(kept(use), refs(kept(use)), strict=True)),
            (number, ColumnRef(_T.LONG, place.id)),
            ("", condition),
        ],
    )
    again = shared(use, marked)
    rows, source = again(), again()
    wanted = computed(
        use,
        [only(use, source, source.columns[-2:])],
        [(number, _T.LONG)],
        lambda found: _near(found, before, after),
    )
    key = (ColumnRef(_T.LONG, rows.columns[-2].id), ColumnRef(_T.LONG, wanted.columns[0].id))
    near = Join(rows.columns, rows, wanted, JoinKind.LEFT_SEMI, (key,))
    ordered = Sort(near.columns, near, (SortKey(key[0], descending=False, nulls_first=True),))
    return only(use, ordered, rows.columns[:-2])


def _near(rows: list[Row], before: int, after: int) -> list[Row]:
    """The numbers near those that are marked."""
    found: set[int] = set()
    last = len(rows)
    for number, holds in rows:
        if holds and isinstance(number, int):
            found.update(range(max(1, number - before), min(last, number + after) + 1))
    return [(number,) for number in sorted(found)]


_SCHEMA = (
    ("ColumnName", _T.STRING),
    ("ColumnOrdinal", _T.INT),
    ("DataType", _T.STRING),
    ("ColumnType", _T.STRING),
)


@plugin("schema_merge")
def schema_merge(use: Use) -> Node:
    """One schema out of several, as getschema gives them one below the other.

    `schema_merge([PreserveOrder])`: unless that is false, a column out of the first schema's order is an
    error in its row; so are types that do not go together.
    """
    arguments = Arguments(use, "PreserveOrder")
    found = arguments.optional("PreserveOrder")
    arguments.end()
    ordered = found is None or found.value is True
    scope = use.scope
    values = []
    for name, type_ in _SCHEMA:
        column = scope.column(name)
        if column is None:
            raise BindingError(f"schema_merge() needs a column '{name}'", use.call.span, hint="use getschema")
        ref = ColumnRef(column.type, column.id)
        values.append(use.binder.scalars.convert(ref, type_, use.call.span))
    return over_values(use, values, _SCHEMA, lambda rows: _merged(rows, ordered))


_WIDER = ("int", "long", "real", "decimal")
_DATA_TYPES = {
    "int": "System.Int32",
    "long": "System.Int64",
    "real": "System.Double",
    "decimal": "System.Data.SqlTypes.SqlDecimal",
}


def _merged(rows: list[Row], ordered: bool) -> list[Row]:
    columns: dict[object, tuple[int, str, str]] = {}
    for name, ordinal, data_type, type_ in rows:
        assert isinstance(ordinal, int)
        known = columns.get(name)
        if known is None:
            columns[name] = (ordinal, str(data_type), str(type_))
            continue
        place, known_data, known_type = known
        if not ordered:  # A column stands where the schema has it that puts the most before it.
            place = max(place, ordinal)
            columns[name] = (place, known_data, known_type)
        if ordered and place != ordinal and place >= 0:
            error = "ERROR(columns are out of order)"
            columns[name] = (-1, f"ERROR(unknown CSL type:{error})", error)
        elif known_type != type_ and not known_type.startswith("ERROR"):
            if known_type in _WIDER and type_ in _WIDER:
                wide = max(known_type, str(type_), key=_WIDER.index)
                columns[name] = (place, _DATA_TYPES[wide], wide)
            else:
                error = f"ERROR(can't unify types {known_type} and {type_})"
                columns[name] = (place, f"ERROR(unknown CSL type:{error})", error)
    found = sorted(columns.items(), key=lambda item: _place(item[1][0]))
    if ordered:
        return [(name, *rest) for name, rest in found]
    return [(name, place, *rest) for place, (name, (_, *rest)) in enumerate(found)]


def _place(ordinal: int) -> tuple[bool, int]:
    return (ordinal < 0, ordinal)
