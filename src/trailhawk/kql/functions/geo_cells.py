"""Cells of the earth. H3, S2 and geohash: a place as a short name that its neighbours nearly share. All but
geohash need the extra `trailhawk[geo]`.
"""

# ruff: noqa: E501  (an example stands on one line)

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Annotated

from trailhawk.kql.functions import spherical
from trailhawk.kql.functions.python import Float, Json, Text, Whole, python, python_overload
from trailhawk.kql.functions.spherical import (
    EARTH_RADIUS,
    Lines,
    LngLat,
    Polygons,
    geographic,
    geographic_overload,
    place,
    point_json,
    ring_json,
)
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    import s2geometry

Small = Annotated[int, frozenset({KqlType.INT})]
MAX_S2_CELLS = 65_536
MAX_H3_CELLS = 61_680


def _widened(shape: Polygons, radius: float) -> tuple[Polygons, list[s2geometry.S2Polygon]]:
    """The shape with all within `radius` metres of it, and its parts as S2 polygons."""
    solids = spherical.solids(shape)
    if radius:
        solids = [spherical.buffered(part, radius, min(10.0, radius)) for part in solids]
        shape = Polygons(tuple(part for solid in solids for part in spherical.rings_of(solid)))
    return shape, solids


# --- H3 ----------------------------------------------------------------------------------------------------


def _h3(cell: str) -> str | None:
    """The cell's name, if it is one."""
    import h3

    return cell if h3.is_valid_cell(cell) else None


@geographic
def geo_point_to_h3cell(longitude: Float, latitude: Float, resolution: Whole) -> Text:
    """The H3 cell of a place, at a resolution of 0 to 15 (6 if not given).

    >>> geo_point_to_h3cell(1, 1, 16)

    >>> geo_point_to_h3cell(-74.04450446039874, 40.689250859314974, 6)
    862a1072fffffff
    >>> geo_point_to_h3cell(-74.04450446039874, 40.689250859314974)
    862a1072fffffff
    """
    import h3

    at = place(longitude, latitude)
    if at is None or resolution is None or not 0 <= resolution <= 15:
        return ""
    return str(h3.latlng_to_cell(at[1], at[0], resolution))


@geographic_overload(geo_point_to_h3cell)
def _point_to_h3cell(longitude: Float, latitude: Float) -> Text:
    import h3

    at = place(longitude, latitude)
    return "" if at is None else str(h3.latlng_to_cell(at[1], at[0], 6))


@geographic
def geo_h3cell_to_central_point(h3cell: Text) -> Json:
    """The middle of an H3 cell.

    >>> geo_point_to_h3cell(todouble(geo_h3cell_to_central_point("862a1072fffffff").coordinates[0]), todouble(geo_h3cell_to_central_point("862a1072fffffff").coordinates[1]), 6)
    862a1072fffffff
    >>> isnull(geo_h3cell_to_central_point("@"))
    True
    """
    import h3

    if _h3(h3cell) is None:
        return None
    latitude, longitude = h3.cell_to_latlng(h3cell)
    return point_json((longitude, latitude))


@geographic
def geo_h3cell_to_polygon(h3cell: Text) -> Json:
    """The border of an H3 cell.

    >>> array_length(geo_h3cell_to_polygon("862a1072fffffff").coordinates[0])
    7
    >>> isnull(geo_h3cell_to_polygon("@"))
    True
    """
    import h3

    if _h3(h3cell) is None:
        return None
    return ring_json([(longitude, latitude) for latitude, longitude in h3.cell_to_boundary(h3cell)])


@geographic
def geo_h3cell_level(h3cell: Text) -> Small | None:
    """The resolution of an H3 cell.

    >>> geo_h3cell_level("862a1072fffffff")
    6
    >>> geo_h3cell_level("abc")
    null
    """
    import h3

    return None if _h3(h3cell) is None else int(h3.get_resolution(h3cell))


@geographic
def geo_h3cell_neighbors(h3cell: Text) -> Json:
    """The cells around an H3 cell.

    >>> array_length(geo_h3cell_neighbors("862a1072fffffff"))
    6
    >>> isnull(geo_h3cell_neighbors("abc"))
    True
    """
    return None if _h3(h3cell) is None else _ring(h3cell, 1)


def _ring(cell: str, distance: int) -> list[str]:
    """The cells at exactly this distance, in H3's spiral order."""
    import h3

    nearer = set(h3.grid_disk(cell, distance - 1)) if distance else set()
    return [other for other in h3.grid_disk(cell, distance) if other not in nearer]


@geographic
def geo_h3cell_rings(h3cell: Text, distance: Whole) -> Json:
    """An H3 cell and the rings around it, one array for each distance from 0 to the given.

    >>> geo_h3cell_rings("861f8894fffffff", 0)
    [["861f8894fffffff"]]
    >>> isnull(geo_h3cell_rings("861f8894fffffff", 150))
    True
    """
    if _h3(h3cell) is None or distance is None or not 0 <= distance <= 142:
        return None
    return [_ring(h3cell, step) for step in range(distance + 1)]


@geographic
def geo_h3cell_children(h3cell: Text, resolution: Whole) -> Json:
    """The cells inside an H3 cell, one resolution finer or at the given one (at most five finer).

    >>> array_length(geo_h3cell_children("862a1072fffffff"))
    7
    >>> array_length(geo_h3cell_children("862a1072fffffff", 9))
    343
    >>> isnull(geo_h3cell_children("862a1072fffffff", 12))
    True
    """
    import h3

    if _h3(h3cell) is None or resolution is None:
        return None
    finer = resolution - h3.get_resolution(h3cell)
    return sorted(h3.cell_to_children(h3cell, resolution)) if 0 < finer <= 5 and resolution <= 15 else None


@geographic_overload(geo_h3cell_children)
def _h3cell_children(h3cell: Text) -> Json:
    import h3

    if _h3(h3cell) is None or h3.get_resolution(h3cell) == 15:
        return None
    return sorted(h3.cell_to_children(h3cell))


@geographic
def geo_h3cell_parent(h3cell: Text, resolution: Whole) -> Text:
    """The cell that holds an H3 cell, one resolution coarser or at the given one.

    >>> geo_h3cell_parent("862a1072fffffff", 15)

    >>> geo_h3cell_parent("862a1072fffffff")
    852a1073fffffff
    >>> geo_h3cell_parent("862a1072fffffff", 1)
    812a3ffffffffff
    """
    import h3

    if _h3(h3cell) is None or resolution is None or not 0 <= resolution <= h3.get_resolution(h3cell):
        return ""
    return str(h3.cell_to_parent(h3cell, resolution))


@geographic_overload(geo_h3cell_parent)
def _h3cell_parent(h3cell: Text) -> Text:
    import h3

    if _h3(h3cell) is None or h3.get_resolution(h3cell) == 0:
        return ""
    return str(h3.cell_to_parent(h3cell))


@geographic
def geo_polygon_to_h3cells(polygon: Json, resolution: Whole, radius: Float | None = None) -> Json:
    """The H3 cells whose middle lies in a polygon, or within so many metres of it; resolution 6 if not given.

    Null where there are more than 61,680.

    >>> array_length(geo_polygon_to_h3cells(geo_from_wkt("POLYGON ((-3.659 40.553, -3.913 40.409, -3.729 40.273, -3.524 40.440, -3.659 40.553))")))
    13
    >>> isnull(geo_polygon_to_h3cells(geo_from_wkt("POLYGON ((0 0, 1 1))")))
    True
    """
    shape = spherical.polygons(polygon)
    if shape is None or resolution is None or not 0 <= resolution <= 15:
        return None
    return _h3cells(shape, resolution, radius or 0.0)


@geographic_overload(geo_polygon_to_h3cells)
def _polygon_to_h3cells(polygon: Json) -> Json:
    shape = spherical.polygons(polygon)
    return None if shape is None else _h3cells(shape, 6, 0.0)


def _h3cells(shape: Polygons, resolution: int, radius: float) -> list[str] | None:
    import h3

    if not 0 <= radius < EARTH_RADIUS:
        return None
    shape, solids = _widened(shape, radius)
    square_metres = sum(part.GetArea() for part in solids) * EARTH_RADIUS**2
    if square_metres / h3.average_hexagon_area(resolution, "m^2") > 2 * MAX_H3_CELLS:
        return None
    cells: set[str] = set()
    for part in shape.parts:
        rings = [[(latitude, longitude) for longitude, latitude in ring] for ring in part]
        try:
            cells |= set(h3.h3shape_to_cells(h3.LatLngPoly(rings[0], *rings[1:]), resolution))
        except h3.H3BaseException:  # a flat reading of the shape fails, as around a pole
            return None
    return sorted(cells) if len(cells) <= MAX_H3_CELLS else None


# --- S2 ----------------------------------------------------------------------------------------------------


def _s2(cell: str) -> s2geometry.S2CellId | None:
    """The cell of this token, if it is one."""
    import s2geometry

    if not cell or len(cell) > 16 or not all(letter in "0123456789abcdefABCDEF" for letter in cell):
        return None
    found = s2geometry.S2CellId.FromToken(cell)
    return found if found.is_valid() else None


def _s2_at(longitude: float | None, latitude: float | None, level: int) -> str:
    import s2geometry

    at = place(longitude, latitude)
    return "" if at is None else str(s2geometry.S2CellId(spherical.point(at)).parent(level).ToToken())


@geographic
def geo_point_to_s2cell(longitude: Float, latitude: Float, level: Whole) -> Text:
    """The token of the S2 cell of a place, at a level of 0 to 30 (11 if not given).

    >>> geo_point_to_s2cell(1, 1, 35)

    >>> geo_point_to_s2cell(-80.195829, 25.802215, 8)
    88d9b
    >>> geo_point_to_s2cell(-80.195829, 25.802215)
    88d9b6c
    """
    return "" if level is None or not 0 <= level <= 30 else _s2_at(longitude, latitude, level)


@geographic_overload(geo_point_to_s2cell)
def _point_to_s2cell(longitude: Float, latitude: Float) -> Text:
    return _s2_at(longitude, latitude, 11)


@geographic
def geo_s2cell_to_central_point(s2cell: Text) -> Json:
    """The middle of an S2 cell.

    >>> geo_point_to_s2cell(todouble(geo_s2cell_to_central_point("88d9b").coordinates[0]), todouble(geo_s2cell_to_central_point("88d9b").coordinates[1]), 8)
    88d9b
    >>> isnull(geo_s2cell_to_central_point("a"))
    True
    """
    cell = _s2(s2cell)
    return None if cell is None else point_json(spherical.lnglat(cell.ToPoint()))


@geographic
def geo_s2cell_to_polygon(s2cell: Text) -> Json:
    """The border of an S2 cell.

    >>> array_length(geo_s2cell_to_polygon("89c259").coordinates[0])
    5
    >>> isnull(geo_s2cell_to_polygon("a"))
    True
    """
    import s2geometry

    cell = _s2(s2cell)
    if cell is None:
        return None
    corners = s2geometry.S2Cell(cell)
    return ring_json([spherical.lnglat(corners.GetVertex(corner)) for corner in range(4)])


@geographic
def geo_s2cell_neighbors(s2cell: Text) -> Json:
    """The cells around an S2 cell, those at its corners with them.

    >>> array_length(geo_s2cell_neighbors("89c259"))
    8
    >>> isnull(geo_s2cell_neighbors("a"))
    True
    """
    cell = _s2(s2cell)
    if cell is None:
        return None
    return list(dict.fromkeys(other.ToToken() for other in cell.GetAllNeighbors(cell.level())))


def _s2cells(
    shapes: list[s2geometry.S2Polygon | s2geometry.S2Polyline], level: int, metres: float, area: float
) -> list[str] | None:
    """The cells that cover the shapes (of this length of borders and area); None if they are too many."""
    import s2geometry

    # An average cell; an edge of n cells' length is covered by at most about three times n.
    cell_area = 4 * math.pi * EARTH_RADIUS**2 / (6 * 4**level)
    if area / cell_area + metres / math.sqrt(cell_area) > 4 * MAX_S2_CELLS:
        return None
    coverer = s2geometry.S2RegionCoverer()
    coverer.set_fixed_level(level)
    coverer.set_max_cells(MAX_S2_CELLS)
    cells: dict[str, None] = {}
    for shape in shapes:
        cells |= dict.fromkeys(cell.ToToken() for cell in coverer.GetCovering(shape))
    return list(cells) if len(cells) <= MAX_S2_CELLS else None


@geographic
def geo_polygon_to_s2cells(polygon: Json, level: Whole, radius: Float | None = None) -> Json:
    """The S2 cells of a level (11 if not given) that cover a polygon, or all within so many metres of it.

    Null where there are more than 65,536.

    >>> array_length(geo_polygon_to_s2cells(geo_from_wkt("POLYGON ((0 0, 0 50, 100 50, 0 0))"), 5))
    286
    >>> isnull(geo_polygon_to_s2cells(geo_from_wkt("POLYGON ((0 0, 0 50, 100 50, 0 0))"), 30))
    True
    """
    shape = spherical.polygons(polygon)
    if shape is None or level is None or not 0 <= level <= 30:
        return None
    return _polygon_cells(shape, level, radius or 0.0)


@geographic_overload(geo_polygon_to_s2cells)
def _polygon_to_s2cells(polygon: Json) -> Json:
    shape = spherical.polygons(polygon)
    return None if shape is None else _polygon_cells(shape, 11, 0.0)


def _polygon_cells(shape: Polygons, level: int, radius: float) -> list[str] | None:
    if not 0 <= radius < EARTH_RADIUS:
        return None
    shape, solids = _widened(shape, radius)
    metres = sum(_metres((*ring, ring[0])) for part in shape.parts for ring in part)
    area = sum(part.GetArea() for part in solids) * EARTH_RADIUS**2
    return _s2cells(list(solids), level, metres, area)


def _metres(part: tuple[LngLat, ...]) -> float:
    vectors = [spherical.vector(at) for at in part]
    return sum(spherical.angle(a, b) for a, b in itertools.pairwise(vectors)) * EARTH_RADIUS


@geographic
def geo_line_to_s2cells(lineString: Json, level: Whole, radius: Float | None = None) -> Json:  # noqa: N803
    """The S2 cells of a level (11 if not given) that cover a line, or all within so many metres of it.

    Null where there are more than 65,536.

    >>> array_length(geo_line_to_s2cells(geo_from_wkt("LINESTRING (0.1 0.1, 0.2 0.2)"), 3))
    1
    """
    shape = spherical.lines(lineString)
    if shape is None or level is None or not 0 <= level <= 30:
        return None
    return _line_cells(shape, level, radius or 0.0)


@geographic_overload(geo_line_to_s2cells)
def _line_to_s2cells(lineString: Json) -> Json:  # noqa: N803
    shape = spherical.lines(lineString)
    return None if shape is None else _line_cells(shape, 11, 0.0)


def _line_cells(shape: Lines, level: int, radius: float) -> list[str] | None:
    if not 0 <= radius < EARTH_RADIUS:
        return None
    if radius:
        wider = spherical.pieces(spherical.line_buffer(shape, radius, min(10.0, radius)))
        return _polygon_cells(Polygons(wider.polygons), level, 0.0)
    metres = sum(_metres(part) for part in shape.parts)
    return _s2cells([spherical.polyline(part) for part in shape.parts], level, metres, 0.0)


# --- geohash -----------------------------------------------------------------------------------------------

_LETTERS = "0123456789bcdefghjkmnpqrstuvwxyz"


def _box(geohash: str) -> tuple[int, int, int, int] | None:
    """Column and row of a geohash's cell, and how many there are of each; None if it is none."""
    if not 1 <= len(geohash) <= 18:
        return None
    column, row, odd = 0, 0, False
    for letter in geohash.lower():
        bits = _LETTERS.find(letter)
        if bits < 0:
            return None
        for shift in range(4, -1, -1):
            bit = bits >> shift & 1
            if odd:
                row = 2 * row + bit
            else:
                column = 2 * column + bit
            odd = not odd
    bits_in_all = 5 * len(geohash)
    return column, row, 1 << (bits_in_all + 1) // 2, 1 << bits_in_all // 2


def _name(column: int, row: int, length: int) -> str:
    columns, rows = (5 * length + 1) // 2, 5 * length // 2
    name, bits, odd = "", 0, False
    for place_ in range(5 * length):
        if odd:
            rows -= 1
            bit = row >> rows & 1
        else:
            columns -= 1
            bit = column >> columns & 1
        odd = not odd
        bits = bits << 1 | bit
        if place_ % 5 == 4:
            name, bits = name + _LETTERS[bits], 0
    return name


def _geohash(longitude: float | None, latitude: float | None, accuracy: int) -> str:
    at = place(longitude, latitude)
    if at is None:
        return ""
    columns, rows = 1 << (5 * accuracy + 1) // 2, 1 << 5 * accuracy // 2
    column = min(int((at[0] + 180) / 360 * columns), columns - 1)
    row = min(int((at[1] + 90) / 180 * rows), rows - 1)
    return _name(column, row, accuracy)


@python()
def geo_point_to_geohash(longitude: Float, latitude: Float, accuracy: Whole) -> Text:
    """The geohash of a place, 1 to 18 letters long (5 if not given).

    >>> geo_point_to_geohash(200, 1, 8)

    >>> geo_point_to_geohash(139.806115, 35.554128, 12)
    xn76m27ty9g4
    >>> geo_point_to_geohash(-122.303404, 47.570482)
    c23n8
    """
    return "" if accuracy is None or not 1 <= accuracy <= 18 else _geohash(longitude, latitude, accuracy)


@python_overload(geo_point_to_geohash)
def _point_to_geohash(longitude: Float, latitude: Float) -> Text:
    return _geohash(longitude, latitude, 5)


@python()
def geo_geohash_to_central_point(geohash: Text) -> Json:
    """The middle of a geohash's cell.

    >>> geo_geohash_to_central_point("sunny")
    {"type":"Point","coordinates":[42.47314453125,23.70849609375]}
    >>> isnull(geo_geohash_to_central_point("a"))
    True
    """
    box = _box(geohash)
    if box is None:
        return None
    column, row, columns, rows = box
    return point_json(((column + 0.5) / columns * 360 - 180, (row + 0.5) / rows * 180 - 90))


@python()
def geo_geohash_to_polygon(geohash: Text) -> Json:
    """The border of a geohash's cell.

    >>> geo_geohash_to_polygon("dr5ru").coordinates[0][0]
    [-74.00390625,40.7373046875]
    >>> isnull(geo_geohash_to_polygon("a"))
    True
    """
    box = _box(geohash)
    if box is None:
        return None
    column, row, columns, rows = box
    west, east = column / columns * 360 - 180, (column + 1) / columns * 360 - 180
    south, north = row / rows * 180 - 90, (row + 1) / rows * 180 - 90
    return ring_json([(west, south), (east, south), (east, north), (west, north)])


# The cells around one, in the order in which Kusto's documentation lists them.
_AROUND = ((-1, -1), (-1, 1), (1, -1), (0, 1), (-1, 0), (1, 1), (1, 0), (0, -1))


@python()
def geo_geohash_neighbors(geohash: Text) -> Json:
    """The cells around a geohash's.

    >>> array_sort_asc(geo_geohash_neighbors("sunny"))
    ["sunnt","sunnv","sunnw","sunnx","sunnz","sunpj","sunpn","sunpp"]
    >>> isnull(geo_geohash_neighbors("a"))
    True
    """
    box = _box(geohash)
    if box is None:
        return None
    column, row, columns, rows = box
    return [
        _name((column + east) % columns, row + north, len(geohash))
        for east, north in _AROUND
        if 0 <= row + north < rows
    ]
