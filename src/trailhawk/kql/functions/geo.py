"""Geography. Shapes are GeoJSON over the earth as a ball; what is no valid shape or place gives null. All but
`geo_from_wkt()` need the extra `trailhawk[geo]`.
"""

# ruff: noqa: E501  (an example stands on one line)

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable

from trailhawk.kql.functions import spherical
from trailhawk.kql.functions.python import Flag, Float, Json, Text, python
from trailhawk.kql.functions.spherical import (
    EARTH_RADIUS,
    Lines,
    LngLat,
    Path,
    Pieces,
    Polygons,
    Vector,
    geographic,
    place,
)

_TOLERANCE = 10.0
"""Metres, where the query does not say."""


def _bearing(a: LngLat, b: LngLat) -> float | None:
    """Radians clockwise from north at a toward b; None where no direction is the right one."""
    apart = spherical.angle(spherical.vector(a), spherical.vector(b))
    if a == b or apart > math.pi - 1e-14:
        return None
    turn = math.radians(b[0] - a[0])
    one, other = math.radians(a[1]), math.radians(b[1])
    ahead = math.cos(one) * math.sin(other) - math.sin(one) * math.cos(other) * math.cos(turn)
    return math.atan2(math.sin(turn) * math.cos(other), ahead) % (2 * math.pi)


def _metres(a: LngLat, b: LngLat) -> float:
    return spherical.angle(spherical.vector(a), spherical.vector(b)) * EARTH_RADIUS


def _metres_on_spheroid(a: LngLat, b: LngLat) -> float:
    from geographiclib.geodesic import Geodesic

    return float(Geodesic.WGS84.Inverse(a[1], a[0], b[1], b[0])["s12"])


# --- places ------------------------------------------------------------------------------------------------


@geographic
def geo_distance_2points(
    p1_longitude: Float,
    p1_latitude: Float,
    p2_longitude: Float,
    p2_latitude: Float,
    use_spheroid: Flag | None = None,
) -> Float | None:
    """Metres of the shortest way between two places, on the ball or, if asked, on the WGS 84 spheroid.

    >>> round(geo_distance_2points(-122.407628, 47.578557, -118.275287, 34.019056), 4)
    1546754.352
    >>> round(geo_distance_2points(0, 0, 0, 1, true), 4)
    110574.3886
    >>> geo_distance_2points(300, 1, 1, 1)
    null
    """
    one, other = place(p1_longitude, p1_latitude), place(p2_longitude, p2_latitude)
    if one is None or other is None:
        return None
    return _metres_on_spheroid(one, other) if use_spheroid else _metres(one, other)


@geographic
def geo_azimuth(
    p1_longitude: Float, p1_latitude: Float, p2_longitude: Float, p2_latitude: Float
) -> Float | None:
    """Radians clockwise from true north to the line from the first place to the second.

    Null where both are one place or lie on opposite sides of the earth.

    >>> round(geo_azimuth(5, 10, 10, -40), 10)
    3.054599398
    >>> geo_azimuth(5, 10, 5, 10)
    null
    """
    one, other = place(p1_longitude, p1_latitude), place(p2_longitude, p2_latitude)
    return None if one is None or other is None else _bearing(one, other)


@geographic
def geo_angle(
    p1_longitude: Float,
    p1_latitude: Float,
    p2_longitude: Float,
    p2_latitude: Float,
    p3_longitude: Float,
    p3_latitude: Float,
) -> Float | None:
    """Radians clockwise at the second place, from the line to the first to the line to the third.

    >>> round(geo_angle(0, 10, 0, 5, 3, -10), 10)
    2.9449384341
    >>> geo_angle(0, 10, 0, 10, 3, -10)
    null
    """
    first = place(p1_longitude, p1_latitude)
    corner = place(p2_longitude, p2_latitude)
    last = place(p3_longitude, p3_latitude)
    if first is None or corner is None or last is None:
        return None
    back, ahead = _bearing(corner, first), _bearing(corner, last)
    return None if back is None or ahead is None else (ahead - back) % (2 * math.pi)


@geographic
def geo_point_in_circle(
    p_longitude: Float, p_latitude: Float, pc_longitude: Float, pc_latitude: Float, c_radius: Float
) -> Flag | None:
    """Is a place within so many metres of another?

    >>> geo_point_in_circle(-122.143564, 47.535677, -122.100896, 47.527351, 3500)
    True
    >>> geo_point_in_circle(1, 1, 1, 1, -1)
    null
    """
    at, center = place(p_longitude, p_latitude), place(pc_longitude, pc_latitude)
    if at is None or center is None or c_radius is None or not c_radius >= 0:
        return None
    return _metres(at, center) <= c_radius


@geographic
def geo_point_buffer(
    longitude: Float, latitude: Float, radius: Float, tolerance: Float | None = None
) -> Json:
    """The polygon around a place at so many metres; no point of its edge is more than `tolerance` off.

    >>> geo_point_in_polygon(0, 0.0898, geo_point_buffer(0, 0, 10000))
    True
    >>> isnull(geo_point_buffer(10, 10, -1))
    True
    """
    at, allowed = place(longitude, latitude), _allowed(radius, tolerance)
    if at is None or allowed is None:
        return None
    return Pieces(polygons=spherical.rings_of(spherical.buffered(at, radius, allowed))).json()


def _allowed(radius: float | None, tolerance: float | None) -> float | None:
    """A buffer's tolerance, between a millionth of the radius and the radius; None if one makes no sense."""
    if radius is None or not 0 < radius < EARTH_RADIUS * math.pi:
        return None
    wanted = _TOLERANCE if tolerance is None else tolerance
    return max(min(wanted, radius), radius * 1e-6) if wanted > 0 else None


# --- lines -------------------------------------------------------------------------------------------------


def _distinct(shape: Lines) -> tuple[Path, ...] | None:
    """The parts of a line; those of a multiline united, so that nothing counts twice."""
    if len(shape.parts) == 1:
        return shape.parts
    made = spherical.geography(shape)
    return None if made is None else spherical.pieces(spherical.united([made, made])).lines


def _length(part: Path) -> float:
    return sum(_metres(a, b) for a, b in itertools.pairwise(part))


@geographic
def geo_distance_point_to_line(longitude: Float, latitude: Float, lineString: Json) -> Float | None:  # noqa: N803
    """Metres from a place to the nearest of a LineString or MultiLineString.

    >>> round(geo_distance_point_to_line(0, 1, dynamic({"type":"LineString","coordinates":[[-1,0],[1,0]]})), 1)
    111195.1
    >>> geo_distance_point_to_line(1, 1, dynamic({"type":"LineString"}))
    null
    """
    at, shape = place(longitude, latitude), spherical.lines(lineString)
    return None if at is None or shape is None else spherical.nearest_on_line(at, shape)[0]


@geographic
def geo_closest_point_on_line(longitude: Float, latitude: Float, lineString: Json) -> Json:  # noqa: N803
    """The place of a line that is nearest to another.

    >>> geo_closest_point_on_line(-2, 1, dynamic({"type":"LineString","coordinates":[[-1,0],[1,0]]}))
    {"type":"Point","coordinates":[-1,0]}
    """
    at, shape = place(longitude, latitude), spherical.lines(lineString)
    if at is None or shape is None:
        return None
    return spherical.point_json(spherical.nearest_on_line(at, shape)[1])


@geographic
def geo_line_length(lineString: Json) -> Float | None:  # noqa: N803
    """Metres of a line; of a multiline, those of the union of its parts.

    >>> round(geo_line_length(dynamic({"type":"LineString","coordinates":[[0,0],[1,0]]})), 1)
    111195.1
    >>> geo_line_length(dynamic({"type":"LineString","coordinates":[[1,1]]}))
    null
    """
    shape = spherical.lines(lineString)
    parts = None if shape is None else _distinct(shape)
    return None if parts is None else sum(map(_length, parts))


@geographic
def geo_line_centroid(lineString: Json) -> Json:  # noqa: N803
    """The middle of a line, each stretch weighing its length.

    >>> geo_line_centroid(dynamic({"type":"LineString","coordinates":[[-1,0],[1,0]]}))
    {"type":"Point","coordinates":[0,0]}
    """
    shape = spherical.lines(lineString)
    parts = None if shape is None else _distinct(shape)
    return None if not parts else _middle(spherical.polyline(part).GetCentroid() for part in parts)


def _middle(centroids: Iterable[object]) -> dict[str, object] | None:
    """The place of the sum of weighted centroids."""
    import s2geometry

    total: list[float] = [0.0, 0.0, 0.0]
    for centroid in centroids:
        for axis, value in enumerate(s2geometry.S2Point_ToRaw(centroid)):
            total[axis] += value
    if math.hypot(*total) == 0:
        return None
    return spherical.point_json(spherical.lnglat(s2geometry.S2Point_FromRaw(*total).Normalize()))


@geographic
def geo_line_interpolate_point(lineString: Json, fraction: Float) -> Json:  # noqa: N803
    """The place at a share (0 to 1) of a line's length.

    >>> geo_line_interpolate_point(dynamic({"type":"LineString","coordinates":[[0,0],[10,0]]}), 1)
    {"type":"Point","coordinates":[10,0]}
    >>> isnull(geo_line_interpolate_point(dynamic({"type":"LineString","coordinates":[[0,0],[10,0]]}), 2))
    True
    """
    shape = spherical.lines(lineString)
    if shape is None or len(shape.parts) > 1 or fraction is None or not 0 <= fraction <= 1:
        return None
    found = spherical.polyline(shape.parts[0]).Interpolate(fraction)
    return spherical.point_json(spherical.lnglat(found))


@geographic
def geo_line_locate_point(
    lineString: Json,  # noqa: N803
    longitude: Float,
    latitude: Float,
    use_spheroid: Flag | None = None,
) -> Float | None:
    """The share of a line's length that lies before its place nearest to another.

    >>> geo_line_locate_point(dynamic({"type":"LineString","coordinates":[[0,0],[10,0]]}), 0, 1)
    0.0
    >>> geo_line_locate_point(dynamic({"type":"LineString","coordinates":[[1,1]]}), 1, 1)
    null
    """
    shape, at = spherical.lines(lineString), place(longitude, latitude)
    if shape is None or at is None or len(shape.parts) > 1:
        return None
    part = shape.parts[0]
    measure = _metres_on_spheroid if use_spheroid else _metres
    near, following = spherical.polyline(part).Project(spherical.point(at))
    stretches = [measure(a, b) for a, b in itertools.pairwise(part)]
    before = sum(stretches[: following - 1]) + measure(part[following - 1], spherical.lnglat(near))
    return min(1.0, before / sum(stretches))


@geographic
def geo_line_simplify(lineString: Json, tolerance: Float | None = None) -> Json:  # noqa: N803
    """A line with fewer places: none closer to the next, and none left out farther off, than the tolerance.

    >>> geo_line_simplify(dynamic({"type":"LineString","coordinates":[[0,0],[1,0],[2,0]]}))
    {"type":"LineString","coordinates":[[0,0],[2,0]]}
    >>> isnull(geo_line_simplify(dynamic({"type":"LineString","coordinates":[[1,1],[2,2]]}), -1))
    True
    """
    shape, wanted = spherical.lines(lineString), _simplification(tolerance)
    parts = None if shape is None else _distinct(shape)
    if parts is None or wanted is None:
        return None
    fewer = [spherical.simplified(part, wanted) for part in parts]
    left = tuple(part for part in fewer if len(part) > 1)
    return Pieces(lines=left).json() if left else None


def _simplification(tolerance: float | None) -> float | None:
    wanted = _TOLERANCE if tolerance is None else tolerance
    return wanted if 0 <= wanted <= 7_800_000 else None


@geographic
def geo_line_densify(
    lineString: Json,  # noqa: N803
    tolerance: Float | None = None,
    preserve_crossing: Flag | None = None,
) -> Json:
    """A line drawn on a flat map, with places added so that shortest ways between them follow it.

    >>> geo_line_densify(dynamic({"type":"LineString","coordinates":[[50,50],[50.5,50.5]]}), 50)
    {"type":"LineString","coordinates":[[50,50],[50.25,50.25],[50.5,50.5]]}
    >>> isnull(geo_line_densify(dynamic({"type":"LineString","coordinates":[[1,1],[2,2]]}), 0))
    True
    """
    shape, wanted = spherical.lines(lineString), _density(tolerance)
    if shape is None or wanted is None:
        return None
    crossing = preserve_crossing is True
    dense = tuple(spherical.densified(part, wanted, crossing=crossing) for part in shape.parts)
    return Pieces(lines=dense).json()


def _density(tolerance: float | None) -> float | None:
    wanted = _TOLERANCE if tolerance is None else tolerance
    return wanted if 0.1 <= wanted <= 10_000 else None


@geographic
def geo_line_buffer(lineString: Json, radius: Float, tolerance: Float | None = None) -> Json:  # noqa: N803
    """The polygon of all within so many metres of a line, its ends round.

    >>> geo_point_in_polygon(0.5, 0.001, geo_line_buffer(dynamic({"type":"LineString","coordinates":[[0,0],[1,0]]}), 200))
    True
    >>> isnull(geo_line_buffer(dynamic({"type":"LineString","coordinates":[[0,0],[1,1]]}), 0))
    True
    """
    shape, allowed = spherical.lines(lineString), _allowed(radius, tolerance)
    if shape is None or allowed is None:
        return None
    return spherical.pieces(spherical.line_buffer(shape, radius, allowed)).json()


@geographic
def geo_intersects_2lines(lineString1: Json, lineString2: Json) -> Flag | None:  # noqa: N803
    """Have two lines a place in common?

    >>> geo_intersects_2lines(geo_from_wkt("LINESTRING (0 0, 2 2)"), geo_from_wkt("LINESTRING (0 2, 2 0)"))
    True
    >>> geo_intersects_2lines(geo_from_wkt("LINESTRING (0 0, 2 2)"), geo_from_wkt("LINESTRING (3 3)"))
    null
    """
    return _intersects(spherical.lines(lineString1), spherical.lines(lineString2))


def _intersects(one: Lines | Polygons | None, other: Lines | Polygons | None) -> bool | None:
    import spherely

    if one is None or other is None:
        return None
    a, b = spherical.geography(one), spherical.geography(other)
    if a is None or b is None:
        return None
    # S2 takes one side of a border only; a place in common is enough here.
    return bool(spherely.intersects(a, b)) or bool(_places(one) & _places(other))


def _places(shape: Lines | Polygons) -> set[LngLat]:
    if isinstance(shape, Lines):
        return {at for part in shape.parts for at in part}
    return {at for part in shape.parts for ring in part for at in ring}


@geographic
def geo_intersection_2lines(lineString1: Json, lineString2: Json) -> Json:  # noqa: N803
    """What two lines have in common: places, lines, or an empty collection.

    >>> geo_intersection_2lines(geo_from_wkt("LINESTRING (0 0, 2 0)"), geo_from_wkt("LINESTRING (0 0, 2 0)"))
    {"type":"LineString","coordinates":[[0,0],[2,0]]}
    >>> geo_intersection_2lines(geo_from_wkt("LINESTRING (0 0, 2 0)"), geo_from_wkt("LINESTRING (3 3, 4 4)"))
    {"type":"GeometryCollection","geometries":[]}
    """
    found = _intersection(spherical.lines(lineString1), spherical.lines(lineString2))
    return None if found is None else found.json()


def _intersection(one: Lines | Polygons | None, other: Lines | Polygons | None) -> Pieces | None:
    import spherely

    if one is None or other is None:
        return None
    a, b = spherical.geography(one), spherical.geography(other)
    return None if a is None or b is None else spherical.pieces(spherely.intersection(a, b))


@geographic
def geo_union_lines_array(lineStrings: Json) -> Json:  # noqa: N803
    """All lines of an array as one shape, what lies twice taken once.

    >>> geo_union_lines_array(pack_array(geo_from_wkt("LINESTRING (0 0, 2 0)"), geo_from_wkt("LINESTRING (2 0, 4 0)")))
    {"type":"LineString","coordinates":[[0,0],[2,0],[4,0]]}
    >>> isnull(geo_union_lines_array(dynamic([{"type":"LineString","coordinates":[[1,1]]}])))
    True
    """
    if not isinstance(lineStrings, list) or not lineStrings:
        return None
    read = [spherical.lines(item) for item in lineStrings]
    parts = [spherical.geography(shape) for shape in read if shape is not None]
    made = [part for part in parts if part is not None]
    return spherical.pieces(spherical.united(made)).json() if len(made) == len(read) else None


# --- polygons ----------------------------------------------------------------------------------------------


@geographic
def geo_point_in_polygon(longitude: Float, latitude: Float, polygon: Json) -> Flag | None:
    """Lies a place in a polygon, or is it one of its corners?

    >>> geo_point_in_polygon(1, 1, geo_from_wkt("POLYGON ((0 0, 3 0, 0 3, 0 0))"))
    True
    >>> geo_point_in_polygon(1, 1, dynamic({"type":"Polygon","coordinates":[[[0,0],[10,10],[10,10],[0,0]]]}))
    null
    """
    at, shape = place(longitude, latitude), spherical.polygons(polygon)
    if at is None or shape is None:
        return None
    here = spherical.point(at)
    return any(part.Contains(here) for part in spherical.solids(shape)) or at in _places(shape)


@geographic
def geo_distance_point_to_polygon(longitude: Float, latitude: Float, polygon: Json) -> Float | None:
    """Metres from a place to a polygon; 0 inside.

    >>> geo_distance_point_to_polygon(1, 1, geo_from_wkt("POLYGON ((0 0, 3 0, 0 3, 0 0))"))
    0.0
    """
    at, shape = place(longitude, latitude), spherical.polygons(polygon)
    if at is None or shape is None:
        return None
    here = spherical.point(at)
    nearest = min(part.GetDistance(here).radians() for part in spherical.solids(shape))
    return float(nearest) * EARTH_RADIUS


@geographic
def geo_closest_point_on_polygon(longitude: Float, latitude: Float, polygon: Json) -> Json:
    """The place of a polygon that is nearest to another: itself, where the polygon holds it.

    >>> geo_closest_point_on_polygon(1, 1, geo_from_wkt("POLYGON ((0 0, 3 0, 0 3, 0 0))"))
    {"type":"Point","coordinates":[1,1]}
    """
    at, shape = place(longitude, latitude), spherical.polygons(polygon)
    if at is None or shape is None:
        return None
    here = spherical.point(at)
    parts = spherical.solids(shape)
    if any(part.Contains(here) for part in parts):
        return spherical.point_json(at)
    nearest = min(parts, key=lambda part: part.GetDistance(here).radians())
    return spherical.point_json(spherical.lnglat(nearest.Project(here)))


def _united(value: object) -> Polygons | None:
    """A polygon; the parts of a multipolygon united, so that nothing counts twice."""
    shape = spherical.polygons(value)
    if shape is None or len(shape.parts) == 1:
        return shape
    made = spherical.geography(shape)
    return None if made is None else Polygons(spherical.pieces(made).polygons)


@geographic
def geo_polygon_area(polygon: Json) -> Float | None:
    """Square metres of a polygon; of a multipolygon, those of the union of its parts.

    >>> round(geo_polygon_area(geo_from_wkt("POLYGON ((0 0, 1 0, 0 1, 0 0))")) / 1000000, 3)
    6182.489
    >>> geo_polygon_area(dynamic({"type":"Polygon","coordinates":[[[0,0],[10,10],[10,10],[0,0]]]}))
    null
    """
    shape = _united(polygon)
    if shape is None:
        return None
    return float(sum(part.GetArea() for part in spherical.solids(shape))) * EARTH_RADIUS**2


@geographic
def geo_polygon_perimeter(polygon: Json) -> Float | None:
    """Metres of a polygon's borders, those of its holes with them.

    >>> round(geo_polygon_perimeter(geo_from_wkt("POLYGON ((0 0, 1 0, 0 1, 0 0))")), 1)
    379639.8
    """
    shape = _united(polygon)
    if shape is None:
        return None
    return sum(_length((*ring, ring[0])) for part in shape.parts for ring in part)


@geographic
def geo_polygon_centroid(polygon: Json) -> Json:
    """The middle of a polygon's area.

    >>> tostring(geo_polygon_centroid(geo_from_wkt("POLYGON ((-1 0, 0 -1, 1 0, 0 1, -1 0))"))) contains "Point"
    True
    """
    shape = _united(polygon)
    return None if shape is None else _middle(part.GetCentroid() for part in spherical.solids(shape))


@geographic
def geo_polygon_buffer(polygon: Json, radius: Float, tolerance: Float | None = None) -> Json:
    """The polygon of all within so many metres of another.

    >>> geo_point_in_polygon(-0.001, 0.5, geo_polygon_buffer(geo_from_wkt("POLYGON ((0 0, 1 0, 0 1, 0 0))"), 200))
    True
    >>> isnull(geo_polygon_buffer(geo_from_wkt("POLYGON ((0 0, 1 0, 0 1, 0 0))"), 0))
    True
    """
    shape, allowed = spherical.polygons(polygon), _allowed(radius, tolerance)
    if shape is None or allowed is None:
        return None
    wider = [spherical.buffered(part, radius, allowed) for part in spherical.solids(shape)]
    parts = tuple(part for made in wider for part in spherical.rings_of(made))
    united = spherical.geography(Polygons(parts))
    return None if united is None else spherical.pieces(united).json()


def _fewer(shape: Polygons, tolerance: float) -> Pieces:
    """The polygons with fewer places; those too small for the tolerance are gone."""
    parts = []
    for part in shape.parts:
        rings = [ring for item in part if (ring := spherical.simplified_ring(item, tolerance)) is not None]
        if rings and spherical.simplified_ring(part[0], tolerance) is not None:
            parts.append(tuple(rings))
    return Pieces(polygons=tuple(parts))


@geographic
def geo_polygon_simplify(polygon: Json, tolerance: Float | None = None) -> Json:
    """A polygon with fewer places: none closer to the next, and none left out farther off, than the tolerance.

    Null where nothing of it stays.

    >>> geo_polygon_simplify(geo_from_wkt("POLYGON ((0 0, 1 0, 2 0, 0 2, 0 0))"))
    {"type":"Polygon","coordinates":[[[0,0],[2,0],[0,2],[0,0]]]}
    >>> isnull(geo_polygon_simplify(geo_from_wkt("POLYGON ((5 48, 0 50, 0 47, 4 47, 5 48))"), 1000000))
    True
    """
    shape, wanted = _united(polygon), _simplification(tolerance)
    if shape is None or wanted is None:
        return None
    found = _fewer(shape, wanted)
    return found.json() if found.polygons else None


@geographic
def geo_simplify_polygons_array(polygons: Json, tolerance: Float | None = None) -> Json:
    """The union of an array's polygons with fewer places, as geo_polygon_simplify() has them.

    >>> geo_simplify_polygons_array(pack_array(geo_from_wkt("POLYGON ((0 0, 1 0, 2 0, 0 2, 0 0))")))
    {"type":"Polygon","coordinates":[[[0,0],[2,0],[0,2],[0,0]]]}
    """
    united, wanted = _union(polygons), _simplification(tolerance)
    if united is None or wanted is None:
        return None
    found = _fewer(Polygons(united.polygons), wanted)
    return found.json() if found.polygons else None


@geographic
def geo_polygon_densify(
    polygon: Json, tolerance: Float | None = None, preserve_crossing: Flag | None = None
) -> Json:
    """A polygon drawn on a flat map, with places added so that shortest ways between them follow it.

    >>> geo_polygon_densify(dynamic({"type":"Polygon","coordinates":[[[10,10],[11,10],[11,11],[10,10]]]}), 200)
    {"type":"Polygon","coordinates":[[[10,10],[11,10],[11,11],[10,10]]]}
    """
    shape, wanted = spherical.polygons(polygon), _density(tolerance)
    if shape is None or wanted is None:
        return None
    crossing = preserve_crossing is True
    dense = tuple(
        tuple(spherical.densified((*ring, ring[0]), wanted, crossing=crossing)[:-1] for ring in part)
        for part in shape.parts
    )
    return Pieces(polygons=dense).json()


@geographic
def geo_intersects_2polygons(polygon1: Json, polygon2: Json) -> Flag | None:
    """Have two polygons a place in common?

    >>> geo_intersects_2polygons(geo_from_wkt("POLYGON ((0 0, 3 0, 0 3, 0 0))"), geo_from_wkt("POLYGON ((1 1, 3 1, 1 3, 1 1))"))
    True
    """
    return _intersects(spherical.polygons(polygon1), spherical.polygons(polygon2))


@geographic
def geo_intersects_line_with_polygon(lineString: Json, polygon: Json) -> Flag | None:  # noqa: N803
    """Have a line and a polygon a place in common?

    >>> geo_intersects_line_with_polygon(geo_from_wkt("LINESTRING (1 1, 5 5)"), geo_from_wkt("POLYGON ((0 0, 3 0, 0 3, 0 0))"))
    True
    """
    return _intersects(spherical.lines(lineString), spherical.polygons(polygon))


@geographic
def geo_intersection_line_with_polygon(lineString: Json, polygon: Json) -> Json:  # noqa: N803
    """What of a line lies in a polygon.

    >>> geo_intersection_line_with_polygon(geo_from_wkt("LINESTRING (2 0, 4 0)"), geo_from_wkt("POLYGON ((1 -1, 6 -1, 6 4, 1 4, 1 -1))"))
    {"type":"LineString","coordinates":[[2,0],[4,0]]}
    """
    found = _intersection(spherical.lines(lineString), spherical.polygons(polygon))
    return None if found is None else found.json()


@geographic
def geo_intersection_2polygons(polygon1: Json, polygon2: Json) -> Json:
    """What two polygons have in common: polygons, and borders and corners where they only touch.

    >>> geo_intersection_2polygons(geo_from_wkt("POLYGON ((2 45, 0 45, 1 44, 2 45))"), geo_from_wkt("POLYGON ((3 44, 2 45, 2 43, 3 44))"))
    {"type":"Point","coordinates":[2,45]}
    """
    one, other = spherical.polygons(polygon1), spherical.polygons(polygon2)
    found = _intersection(one, other)
    if one is None or other is None or found is None:
        return None
    # S2's polygons hold one side of their borders, so that shared ones are in neither.
    inside = {_rounded(at) for part in found.polygons for ring in part for at in ring}
    borders = _edges(one)
    shared = [edge for edge in _edges(other) if edge[::-1] in borders]
    touching = spherical.chains(shared)
    covered = inside | {_rounded(at) for edge in shared for at in edge}
    corners = [at for at in sorted(_places(one) & _places(other)) if _rounded(at) not in covered]
    return Pieces(tuple(corners), touching, found.polygons).json()


def _rounded(at: LngLat) -> LngLat:
    """A place as it is told from others after a way through S2."""
    return (round(at[0], 9), round(at[1], 9))


def _edges(shape: Polygons) -> set[tuple[LngLat, LngLat]]:
    """The borders, all run through with the inside on the left."""
    found = set()
    for part in shape.parts:
        for place_, ring in enumerate(part):
            turned = ring if _is_left(ring) is (place_ == 0) else ring[::-1]
            found |= set(zip(turned, (*turned[1:], turned[0]), strict=True))
    return found


def _is_left(ring: Path) -> bool:
    """Is the smaller side of the ring on its left?"""
    vectors = [spherical.vector(at) for at in ring]
    total: Vector = (0.0, 0.0, 0.0)
    for a, b in zip(vectors, (*vectors[1:], vectors[0]), strict=True):
        turn = spherical.cross(a, b)
        total = (total[0] + turn[0], total[1] + turn[1], total[2] + turn[2])
    middle = (sum(v[0] for v in vectors), sum(v[1] for v in vectors), sum(v[2] for v in vectors))
    return spherical.dot(total, middle) > 0


@geographic
def geo_union_polygons_array(polygons: Json) -> Json:
    """All polygons of an array as one shape.

    >>> array_length(geo_union_polygons_array(pack_array(geo_from_wkt("POLYGON ((0 0, 3 0, 0 3, 0 0))"), geo_from_wkt("POLYGON ((0 0, 3 0, 0 2, 0 0))"))).coordinates)
    1
    >>> isnull(geo_union_polygons_array(dynamic([])))
    True
    """
    found = _union(polygons)
    return None if found is None else found.json()


def _union(values: object) -> Pieces | None:
    if not isinstance(values, list) or not values:
        return None
    read = [spherical.polygons(item) for item in values]
    parts = [spherical.geography(shape) for shape in read if shape is not None]
    made = [part for part in parts if part is not None]
    return spherical.pieces(spherical.united(made)) if len(made) == len(read) else None


# --- well-known text ---------------------------------------------------------------------------------------

_WORD = re.compile(r"\s*([A-Za-z]+|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[(),])")
_KINDS = {
    "POINT": ("Point", 0),
    "LINESTRING": ("LineString", 1),
    "POLYGON": ("Polygon", 2),
    "MULTIPOINT": ("MultiPoint", 1),
    "MULTILINESTRING": ("MultiLineString", 2),
    "MULTIPOLYGON": ("MultiPolygon", 3),
}
"""What a word means in GeoJSON, and how many lists deep its coordinates lie."""


@python()
def geo_from_wkt(wkt: Text) -> Json:
    """The GeoJSON of a shape in well-known text; null where it is none.

    >>> geo_from_wkt("POINT (1 2)")
    {"type":"Point","coordinates":[1,2]}
    >>> geo_from_wkt("MULTIPOINT (1 1, 2.5 2)")
    {"type":"MultiPoint","coordinates":[[1,1],[2.5,2]]}
    >>> isnull(geo_from_wkt("LINESTRING"))
    True
    """
    words: list[str] = []
    at = 0
    while at < len(wkt.rstrip()):
        match = _WORD.match(wkt, at)
        if match is None or len(words) > 1_000_000:
            return None
        words.append(match[1])
        at = match.end()
    try:
        words.reverse()
        shape = _shape(words, 0)
    except (ValueError, IndexError, KeyError):
        return None
    return None if words else shape


def _shape(words: list[str], depth: int) -> object:
    """The shape that begins here (the last word is the next)."""
    name = words.pop().upper()
    if name == "GEOMETRYCOLLECTION":
        if depth > 16:
            raise ValueError("too deep")
        shapes = []
        _take(words, "(")
        while True:
            shapes.append(_shape(words, depth + 1))
            if words.pop() != ",":
                break
        return {"type": "GeometryCollection", "geometries": shapes}
    kind, lists = _KINDS[name]
    if kind == "Point":
        _take(words, "(")
        found = _coordinate(words)
        _take(words, ")")
    else:
        found = _nested(words, lists)
    return {"type": kind, "coordinates": found}


def _take(words: list[str], wanted: str) -> None:
    if words.pop() != wanted:
        raise ValueError(wanted)


def _nested(words: list[str], depth: int) -> list[object]:
    found: list[object] = []
    _take(words, "(")
    while True:
        if depth > 1:
            found.append(_nested(words, depth - 1))
        elif words[-1] == "(":  # MULTIPOINT ((1 1), (2 2))
            words.pop()
            found.append(_coordinate(words))
            _take(words, ")")
        else:
            found.append(_coordinate(words))
        if (following := words.pop()) != ",":
            if following != ")":
                raise ValueError(following)
            return found


def _coordinate(words: list[str]) -> list[object]:
    longitude, latitude = float(words.pop()), float(words.pop())
    if place(longitude, latitude) is None:
        raise ValueError("no place")
    return [spherical.number(longitude), spherical.number(latitude)]
