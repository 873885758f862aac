"""Rows joined to a lookup table by where an address or place lies: ipv4_lookup, ipv6_lookup, geo_..._lookup.

The keys that occur are matched in Python, once each; the rows themselves are joined by the engine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence

from trailhawk.errors import BindingError
from trailhawk.kql import syntax
from trailhawk.kql.functions import AGGREGATES, spherical
from trailhawk.kql.operators.joins import beside
from trailhawk.kql.operators.shared import refs
from trailhawk.kql.plan import (
    Aggregate,
    AggregateCall,
    ColumnRef,
    Expr,
    Join,
    JoinKind,
    Node,
    OutColumn,
)
from trailhawk.kql.plugins.registry import Use, plugin
from trailhawk.kql.plugins.shared import Arguments, Row, as_number, computed, kept, only, projected, shared
from trailhawk.kql.scope import Scope, visible
from trailhawk.kql.types import KqlType

_T = KqlType
Matcher = Callable[[list[Row], list[object]], Iterator[tuple[int, int]]]
"""From distinct keys and the lookup table's keys to pairs of their places."""


def _table(use: Use, arguments: Arguments) -> Node:
    given = arguments.need("LookupTable")
    if not use.binder.is_table(given, use.env):
        raise BindingError(f"{use.name}() takes a table to look up in", given.span)
    return use.binder.table(given, use.env)


def _key_of(table: Node, use: Use, arg: syntax.Expr, type_: KqlType) -> tuple[OutColumn, Expr]:
    """The lookup table's key column, and its values as this type."""
    bound = use.binder.scalars.bind(arg, Scope(table.columns, use.env))
    for column in table.columns:
        if isinstance(bound, ColumnRef) and bound.id == column.id:
            return column, use.binder.scalars.convert(bound, type_, arg.span)
    raise BindingError(f"{use.name}() takes a column of the lookup table", arg.span)


def _joined(
    use: Use,
    table: Node,
    source_keys: Sequence[Expr],
    lookup_key: Expr,
    match: Matcher,
    *,
    dropped: Sequence[OutColumn] = (),
    extra: Sequence[tuple[Expr, Expr]] = (),
    unmatched: bool,
    lookup_first: bool = False,
) -> Node:
    """The rows beside those of the lookup table that match; `dropped` columns of that table are left out."""
    source = shared(
        use,
        projected(
            use,
            use.node,
            [
                *((column.name, ref) for column, ref in zip(kept(use), refs(kept(use)), strict=True)),
                *(("", key) for key in (*source_keys, *(one for one, _ in extra))),
            ],
        ),
    )
    width, count = len(kept(use)), len(source_keys)
    rows, keys = source(), source()
    rows_keys = refs(rows.columns[width:])
    own_keys = keys.columns[width : width + count]
    groups = tuple(OutColumn(use.binder.new_id(), "", column.type) for column in own_keys)
    tally = OutColumn(use.binder.new_id(), "", _T.LONG)
    distinct = Aggregate(
        (*groups, tally), keys, refs(own_keys), (AggregateCall(AGGREGATES["count"], (), _T.LONG),)
    )
    given = [column for column in visible(table.columns) if column not in dropped]
    lookup = projected(
        use,
        table,
        [
            *((column.name, ref) for column, ref in zip(given, refs(given), strict=True)),
            *(("", other) for _, other in extra),
            ("", lookup_key),
        ],
    )

    def matched(found: list[Row], others: list[Row]) -> Iterator[Row]:
        for place, other in match(found, [row[-1] for row in others]):
            yield (*found[place], *others[other][:-1])

    columns = [
        *(("", column.type) for column in groups),
        *((column.name, column.type) for column in lookup.columns[:-1]),
    ]
    pairs = computed(use, [only(use, distinct, groups), lookup], columns, matched, feeders=(0, 1))
    on = zip(
        rows_keys,
        (*refs(pairs.columns[:count]), *refs(pairs.columns[count + len(given) :])),
        strict=True,
    )
    kind = JoinKind.LEFT_OUTER if unmatched else JoinKind.INNER
    joined = Join((*rows.columns, *pairs.columns), rows, pairs, kind, tuple(on))
    shown_rows = rows.columns[:width]
    shown = beside(only(use, rows, shown_rows), pairs.columns[count : count + len(given)])
    left, right = shown[:width], shown[width:]
    return only(use, joined, (*right, *left) if lookup_first else shown)


def _ip_lookup(use: Use, match: Matcher, source_name: str, lookup_name: str, *, lookup_first: bool) -> Node:
    arguments = Arguments(use, "return_unmatched", "LookupTable", source_name, lookup_name)
    table = _table(use, arguments)
    source = arguments.value(source_name)
    key = use.binder.scalars.convert(source.value, _T.STRING, source.span)
    _, lookup_key = _key_of(table, use, arguments.need(lookup_name), _T.STRING)
    extra: list[tuple[Expr, Expr]] = []
    dropped: list[OutColumn] = []
    while (
        arguments.rest
        and isinstance(name := arguments.rest[0], syntax.Name)
        and name.text not in use.env.all_names()
    ):
        arguments.rest.pop(0)
        ours = use.binder.scalars.bind(name, use.scope)
        column, theirs = _key_of(table, use, name, ours.type)
        extra.append((ours, theirs))
        dropped.append(column)
    unmatched = arguments.flag("return_unmatched")
    arguments.end()
    return _joined(
        use,
        table,
        [key],
        lookup_key,
        match,
        dropped=dropped,
        extra=extra,
        unmatched=unmatched,
        lookup_first=lookup_first,
    )


@plugin("ipv4_lookup")
def ipv4_lookup(use: Use) -> Node:
    """Rows beside those of a table of IPv4 ranges that hold an address of theirs.

    `ipv4_lookup(table, address, range [, other_key, ...] [, return_unmatched])`: the names of other keys are
    columns of both sides that must be equal.
    """
    return _ip_lookup(use, _in_networks(_ipv4), "SourceIPv4Key", "IPv4LookupKey", lookup_first=False)


@plugin("ipv6_lookup")
def ipv6_lookup(use: Use) -> Node:
    """Rows beside those of a table of IPv6 (or IPv4) ranges that hold an address of theirs.

    `ipv6_lookup(table, address, range [, return_unmatched])`. The table's columns come first, as in Kusto.
    """
    return _ip_lookup(use, _in_networks(_ipv6), "SourceIPv6Key", "IPv6LookupKey", lookup_first=True)


def _in_networks(read: Callable[[str], tuple[int, int, int] | None]) -> Matcher:
    def match(keys: list[Row], networks: list[object]) -> Iterator[tuple[int, int]]:
        by_length: dict[int, dict[int, list[int]]] = {}
        for place, text in enumerate(networks):
            if (found := read(str(text))) is not None:
                address, length, width = found
                by_length.setdefault(length, {}).setdefault(address >> (width - length), []).append(place)
        for place, row in enumerate(keys):
            if (found := read(str(row[0]))) is None:
                continue
            address, length, width = found
            for other, places in by_length.items():
                # Of two ranges the shorter prefix counts.
                shift = width - min(length, other)
                if other <= length:
                    yield from ((place, hit) for hit in places.get(address >> shift, ()))
                else:
                    yield from (
                        (place, hit)
                        for start, hits in places.items()
                        if start >> (other - length) == address >> shift
                        for hit in hits
                    )

    return match


def _ipv4(text: str) -> tuple[int, int, int] | None:
    """Address, length of its prefix, and the width of the family; None if it is none."""
    try:
        network = ipaddress.IPv4Interface(text.strip())
    except ValueError:
        return None
    return int(network.ip), network.network.prefixlen, 32


def _ipv6(text: str) -> tuple[int, int, int] | None:
    text = text.strip()
    try:
        if ":" not in text:
            four = _ipv4(text)
            return None if four is None else (0xFFFF << 32 | four[0], 96 + four[1], 128)
        network = ipaddress.IPv6Interface(text)
    except ValueError:
        return None
    return int(network.ip), network.network.prefixlen, 128


def _geo_lookup(
    use: Use, lookup_name: str, match: Callable[[float], Matcher], *, radius_needed: bool
) -> Node:
    spherical.need_libraries(f"{use.name}()")
    options = ("radius", "return_unmatched", "lookup_area_radius", "return_lookup_key")
    arguments = Arguments(use, *options)
    table = _table(use, arguments)
    column, lookup_key = _key_of(table, use, arguments.need(lookup_name), _T.DYNAMIC)
    places = [arguments.value(name) for name in ("SourceLongitude", "SourceLatitude")]
    keys = [use.binder.scalars.convert(value.value, _T.REAL, value.span) for value in places]
    radius = arguments.optional("radius")
    if radius is None and radius_needed:
        raise BindingError(f"{use.name}() needs a radius", use.call.span)
    metres = 0.0 if radius is None else as_number(radius.value)
    if metres is None:
        raise BindingError(f"the radius of {use.name}() is a number of metres", use.call.span)
    unmatched = arguments.flag("return_unmatched")
    arguments.optional("lookup_area_radius")  # a hint of how to search: changes no result
    with_key = arguments.flag("return_lookup_key")
    arguments.end()
    return _joined(
        use,
        table,
        keys,
        lookup_key,
        match(metres),
        dropped=() if with_key else (column,),
        unmatched=unmatched,
    )


@plugin("geo_polygon_lookup")
def geo_polygon_lookup(use: Use) -> Node:
    """Rows beside those of a table of polygons that hold a place of theirs.

    `geo_polygon_lookup(table, polygon, longitude, latitude [, radius] [, return_unmatched]
    [, lookup_area_radius] [, return_lookup_key])`: the radius, in metres, widens the polygons.
    """
    return _geo_lookup(
        use, "LookupPolygonKey", lambda radius: _near(_in_polygon, radius), radius_needed=False
    )


@plugin("geo_line_lookup")
def geo_line_lookup(use: Use) -> Node:
    """Rows beside those of a table of lines that pass within a radius (metres) of a place of theirs.

    `geo_line_lookup(table, line, longitude, latitude, radius [, return_unmatched] [, lookup_area_radius]
    [, return_lookup_key])`
    """
    return _geo_lookup(use, "LookupLineKey", lambda radius: _near(_to_line, radius), radius_needed=True)


Distance = Callable[[object], Callable[[spherical.LngLat], float] | None]
"""From a shape to how far (metres) a place is from it; None of what is no such shape."""


def _near(distance: Distance, radius: float) -> Matcher:
    def match(keys: list[Row], shapes: list[object]) -> Iterator[tuple[int, int]]:
        measures = [distance(shape) for shape in shapes]
        for place, (longitude, latitude) in enumerate(keys):
            assert isinstance(longitude, float | None)
            assert isinstance(latitude, float | None)
            at = spherical.place(longitude, latitude)
            if at is None:
                continue
            for other, measure in enumerate(measures):
                if measure is not None and measure(at) <= radius:
                    yield place, other

    return match


def _in_polygon(value: object) -> Callable[[spherical.LngLat], float] | None:
    shape = spherical.polygons(value)
    if shape is None:
        return None
    solids = spherical.solids(shape)

    def measure(at: spherical.LngLat) -> float:
        here = spherical.point(at)
        return float(min(solid.GetDistance(here).radians() for solid in solids)) * spherical.EARTH_RADIUS

    return measure


def _to_line(value: object) -> Callable[[spherical.LngLat], float] | None:
    shape = spherical.lines(value)
    return None if shape is None else lambda at: spherical.nearest_on_line(at, shape)[0]
