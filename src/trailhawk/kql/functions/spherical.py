"""Shapes on the sphere: GeoJSON read and written, over S2, the library that Kusto's geo functions rest on.

Edges are the shortest way between their ends, the earth is a ball, and what is no valid shape is None.
The libraries are those of the extra `trailhawk[geo]`, imported where they are first used.
"""

from __future__ import annotations

import heapq
import itertools
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from trailhawk.errors import UnsupportedError
from trailhawk.kql.functions.python import python, python_overload
from trailhawk.kql.functions.registry import Overload, ScalarFunction, Sql
from trailhawk.kql.records import replace

if TYPE_CHECKING:
    import s2geometry
    import spherely

EARTH_RADIUS = 6_371_010.0
"""Metres; the radius that documented distances are measured with, and S2's own."""
LIBRARIES = ("h3", "s2geometry", "spherely", "geographiclib")

LngLat = tuple[float, float]
Vector = tuple[float, float, float]
GeoJson = dict[str, object]
Path = tuple[LngLat, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """A LineString or MultiLineString: each part has at least two places."""

    parts: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Polygons:
    """A Polygon or MultiPolygon: the rings of each part, its shell first, the closing place left out."""

    parts: tuple[tuple[Path, ...], ...]


# --- functions that need the libraries ---------------------------------------------------------------------


def geographic(body: Callable[..., object]) -> ScalarFunction:
    """Register a function that needs the extra's libraries: without them a query that calls it is refused."""
    function = python()(_null_for_misshapen(body))
    function.overloads[-1] = _guarded(function.overloads[-1])
    return function


def geographic_overload(function: ScalarFunction) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Another signature of such a function."""

    def register(body: Callable[..., object]) -> Callable[..., object]:
        python_overload(function)(_null_for_misshapen(body))
        function.overloads[-1] = _guarded(function.overloads[-1])
        return body

    return register


def _null_for_misshapen(body: Callable[..., object]) -> Callable[..., object]:
    """The body with null where a library finds a shape invalid that passed as valid here."""

    @wraps(body)
    def careful(*args: object) -> object:
        try:
            return body(*args)
        except (ArithmeticError, RuntimeError, ValueError):
            return None

    return careful


def _guarded(overload: Overload) -> Overload:
    def build(*args: Sql) -> Sql:
        need_libraries(f"{overload.name}()")
        return overload.build(*args)

    build.__module__ = overload.build.__module__
    return replace(overload, build=build)


def need_libraries(what: str) -> None:
    """Raise UnsupportedError where the extra is not installed."""
    if any(find_spec(name) is None for name in LIBRARIES):
        raise UnsupportedError(f"{what} without its libraries", hint="pip install 'trailhawk[geo]'")


# --- reading -----------------------------------------------------------------------------------------------


def place(longitude: float | None, latitude: float | None) -> LngLat | None:
    """A coordinate, if it is one."""
    if longitude is None or latitude is None:
        return None
    inside = -180 <= longitude <= 180 and -90 <= latitude <= 90  # false of NaN
    return (float(longitude), float(latitude)) if inside else None


def path(value: object, least: int) -> Path | None:
    """A list of coordinates, those that repeat the one before left out; None if fewer than `least` stay."""
    if not isinstance(value, list):
        return None
    found: list[LngLat] = []
    for item in value:
        if not isinstance(item, list) or len(item) < 2 or not all(map(_is_number, item[:2])):
            return None
        at = place(item[0], item[1])
        if at is None:
            return None
        if not found or found[-1] != at:
            found.append(at)
    return tuple(found) if len(found) >= least else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parts(value: object, single: str) -> list[object] | None:
    """The coordinates of a shape, or of each shape of a Multi one."""
    if not isinstance(value, dict):
        return None
    coordinates = value.get("coordinates")
    if not isinstance(coordinates, list) or not coordinates:
        return None
    if value.get("type") == single:
        return [coordinates]
    return coordinates if value.get("type") == f"Multi{single}" else None


def lines(value: object) -> Lines | None:
    """The lines of a GeoJSON LineString or MultiLineString; None of anything else."""
    parts = _parts(value, "LineString")
    if parts is None:
        return None
    found = [path(part, 2) for part in parts]
    read = tuple(part for part in found if part is not None and _no_antipodes(part))
    return Lines(read) if len(read) == len(found) else None


def _no_antipodes(part: Path) -> bool:
    return all(angle(vector(a), vector(b)) < math.pi - 1e-14 for a, b in itertools.pairwise(part))


def polygons(value: object) -> Polygons | None:
    """The polygons of a GeoJSON Polygon or MultiPolygon; None of anything else."""
    parts = _parts(value, "Polygon")
    if parts is None:
        return None
    found: list[tuple[Path, ...]] = []
    for part in parts:
        if not isinstance(part, list) or not part:
            return None
        rings = []
        for item in part:
            ring = path(item, 4)
            if ring is None or ring[0] != ring[-1]:
                return None
            rings.append(ring[:-1])
        if solid(tuple(rings)) is None:
            return None
        found.append(tuple(rings))
    return Polygons(tuple(found))


# --- S2's objects ------------------------------------------------------------------------------------------


def vector(at: LngLat) -> Vector:
    longitude, latitude = math.radians(at[0]), math.radians(at[1])
    return (
        math.cos(latitude) * math.cos(longitude),
        math.cos(latitude) * math.sin(longitude),
        math.sin(latitude),
    )


def cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def angle(a: Vector, b: Vector) -> float:
    """Radians between two directions."""
    return math.atan2(math.hypot(*cross(a, b)), dot(a, b))


def point(at: LngLat) -> s2geometry.S2Point:
    import s2geometry

    return s2geometry.S2LatLng.FromDegrees(at[1], at[0]).ToPoint()


def lnglat(at: s2geometry.S2Point) -> LngLat:
    import s2geometry

    found = s2geometry.S2LatLng(at)
    return (found.lng().degrees(), found.lat().degrees())


@lru_cache(maxsize=256)
def polyline(part: Path) -> s2geometry.S2Polyline:
    import s2geometry

    made = s2geometry.S2Polyline()
    made.InitFromS2LatLngs([s2geometry.S2LatLng.FromDegrees(lat, lng) for lng, lat in part])
    return made


@lru_cache(maxsize=256)
def solid(rings: tuple[Path, ...]) -> s2geometry.S2Polygon | None:
    """A polygon of a shell and its holes, each taken as the smaller side of its ring; None if they cross."""
    import s2geometry

    loops = []
    for ring in rings:
        loop = s2geometry.S2Loop()
        loop.Init([point(at) for at in ring])
        if not loop.IsValid():
            return None
        loop.Normalize()
        loops.append(loop)
    made = s2geometry.S2Polygon()
    made.InitNested(loops)
    return made if made.IsValid() else None


def solids(shape: Polygons) -> list[s2geometry.S2Polygon]:
    """The parts as S2 polygons; they were found valid when read."""
    return [made for part in shape.parts if (made := solid(part)) is not None]


@lru_cache(maxsize=256)
def geography(shape: Lines | Polygons) -> spherely.Geography | None:
    """The shape for set operations; None where its parts do not fit together."""
    import spherely

    try:
        if isinstance(shape, Lines):
            return spherely.create_multilinestring(shape.parts)
        parts = [spherely.create_polygon(part[0], part[1:] or None) for part in shape.parts]
        return united(parts)
    except (ValueError, RuntimeError):
        return None


def united(parts: Iterable[spherely.Geography]) -> spherely.Geography:
    """The union of all, the two of fewest places first, as S2 does it: so rings begin where Kusto's do.

    As there, a union counts for the places of both its parts, though it may have fewer.
    """
    import spherely

    waiting = [(_places(part), order, part) for order, part in enumerate(parts)]
    heapq.heapify(waiting)
    order = len(waiting)
    while len(waiting) > 1:
        (places, _, one), (more, _, other) = heapq.heappop(waiting), heapq.heappop(waiting)
        heapq.heappush(waiting, (places + more, order, spherely.union(one, other)))
        order += 1
    return waiting[0][2]


def _places(shape: spherely.Geography) -> int:
    """How many places a shape is drawn with, the closing ones of rings not counted."""
    import spherely

    found = _well_known(memoryview(bytes(spherely.to_wkb(shape))), [0])
    return sum(len(part) - (kind == 3) for kind, content in found for part in content)


# --- writing -----------------------------------------------------------------------------------------------


def number(value: float) -> int | float:
    """Whole numbers without a fraction, as Kusto writes coordinates."""
    return int(value) if value.is_integer() else value


def coordinates(part: Iterable[LngLat]) -> list[object]:
    return [[number(lng), number(lat)] for lng, lat in part]


def point_json(at: LngLat) -> GeoJson:
    return {"type": "Point", "coordinates": [number(at[0]), number(at[1])]}


def ring_json(part: Sequence[LngLat]) -> GeoJson:
    """A polygon of one ring, given without its closing place."""
    return {"type": "Polygon", "coordinates": [coordinates((*part, part[0]))]}


@dataclass(frozen=True, slots=True)
class Pieces:
    """What a set operation gave, kind by kind."""

    points: tuple[LngLat, ...] = ()
    lines: tuple[Path, ...] = ()
    polygons: tuple[tuple[Path, ...], ...] = ()

    def json(self) -> GeoJson:
        """One shape, a Multi one of a kind, or a collection (empty for nothing)."""
        kinds = [
            _kind("Point", [[number(lng), number(lat)] for lng, lat in self.points]),
            _kind("LineString", [coordinates(part) for part in self.lines]),
            _kind("Polygon", [[coordinates((*ring, ring[0])) for ring in part] for part in self.polygons]),
        ]
        found = [kind for kind in kinds if kind is not None]
        return found[0] if len(found) == 1 else {"type": "GeometryCollection", "geometries": found}


def _kind(name: str, parts: Sequence[object]) -> GeoJson | None:
    if not parts:
        return None
    if len(parts) == 1:
        return {"type": name, "coordinates": parts[0]}
    return {"type": f"Multi{name}", "coordinates": list(parts)}


def pieces(shape: spherely.Geography) -> Pieces:
    """The parts of a geography; edges that lie twice in its lines are taken once."""
    import spherely

    points: list[LngLat] = []
    edges: dict[tuple[LngLat, LngLat], None] = {}
    solid_parts: list[tuple[Path, ...]] = []
    for kind, content in _well_known(memoryview(bytes(spherely.to_wkb(shape))), [0]):
        if kind == 1:
            points.append(content[0][0])
        elif kind == 2:
            for a, b in zip(content[0], content[0][1:], strict=False):
                if (b, a) not in edges:
                    edges[a, b] = None
        else:
            solid_parts.append(tuple(ring[:-1] for ring in content))
    return Pieces(tuple(dict.fromkeys(points)), chains(edges), tuple(solid_parts))


def _well_known(data: memoryview, at: list[int]) -> Iterator[tuple[int, tuple[Path, ...]]]:
    """Points (1), lines (2) and polygons (3) of well-known binary, collections opened; `at` is moved on."""

    def take(form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(order + form, data, at[0])
        at[0] += struct.calcsize(order + form)
        return values

    def sequence(count: int) -> Path:
        flat = take(f"{2 * count}d")
        return tuple(zip(flat[::2], flat[1::2], strict=True))

    order = "<" if data[at[0]] else ">"
    at[0] += 1
    kind = int(take("I")[0])
    if kind == 1:
        yield 1, (sequence(1),)
    elif kind == 2:
        yield 2, (sequence(int(take("I")[0])),)
    elif kind == 3:
        rings = int(take("I")[0])
        content = tuple(sequence(int(take("I")[0])) for _ in range(rings))
        if content:
            yield 3, content
    else:
        for _ in range(int(take("I")[0])):
            yield from _well_known(data, at)


def chains(edges: Iterable[tuple[LngLat, LngLat]]) -> tuple[Path, ...]:
    """Edges joined to the longest lines that pass through no place where others meet."""
    rest = dict.fromkeys(edges)
    following: dict[LngLat, list[LngLat]] = {}
    entering: dict[LngLat, int] = {}
    for a, b in rest:
        following.setdefault(a, []).append(b)
        entering[b] = entering.get(b, 0) + 1
    passed = {at for at, out in following.items() if len(out) == 1 and entering.get(at, 0) == 1}
    found = []
    # Lines from their ends first; what is left then are rings.
    for start_inside in (False, True):
        for a, b in list(rest):
            if (a, b) not in rest or (a in passed) is not start_inside:
                continue
            chain = [a, b]
            del rest[a, b]
            while b in passed and (b, following[b][0]) in rest:
                a, b = b, following[b][0]
                del rest[a, b]
                chain.append(b)
            found.append(tuple(chain))
    return tuple(found)


# --- fewer and more places ---------------------------------------------------------------------------------


def to_edge(at: Vector, a: Vector, b: Vector) -> float:
    """Radians from a place to the edge between two others."""
    normal = cross(a, b)
    length = math.hypot(*normal)
    if length > 0 and dot(cross(normal, a), at) > 0 and dot(cross(b, normal), at) > 0:
        return abs(math.asin(max(-1.0, min(1.0, dot(normal, at) / length))))
    return min(angle(at, a), angle(at, b))


def simplified(part: Path, tolerance: float) -> Path:
    """The line with fewer places: no dropped one is farther than `tolerance` (metres) from what stays."""
    kept = [part[0]]
    limit = tolerance / EARTH_RADIUS
    vectors = [vector(at) for at in part]
    stack = [(0, len(part) - 1)]
    while stack:
        first, last = stack.pop()
        farthest, distance = 0, limit
        for place_ in range(first + 1, last):
            apart = to_edge(vectors[place_], vectors[first], vectors[last])
            if apart > distance:
                farthest, distance = place_, apart
        if farthest:
            stack += [(farthest, last), (first, farthest)]
        else:
            kept.append(part[last])
    return _snapped(tuple(kept), limit)


def _snapped(part: Path, limit: float) -> Path:
    """The line without places nearer than `limit` (radians) to the one before; its last place stays."""
    kept = [part[0]]
    for at in part[1:]:
        if angle(vector(kept[-1]), vector(at)) > limit:
            kept.append(at)
    if kept[-1] != part[-1] and len(kept) > 1:
        kept[-1] = part[-1]
    return tuple(kept)


def simplified_ring(ring: Path, tolerance: float) -> Path | None:
    """A ring (without its closing place) with fewer places; None if nothing of it stays."""
    start = vector(ring[0])
    middle = max(range(1, len(ring)), key=lambda i: angle(start, vector(ring[i])))
    halves = (ring[: middle + 1], (*ring[middle:], ring[0]))
    one, other = (simplified(half, tolerance) for half in halves)
    found = (*one[:-1], *other[:-1])
    distinct = tuple(dict.fromkeys(found))
    return distinct if len(one) > 1 and len(other) > 1 and len(distinct) >= 3 else None


_AT = 0.31215691082248312
_SCALE = 0.83829992569888509
"""Where the error of an edge is estimated, and its share of the largest: as in S2EdgeTessellator."""


def densified(part: Path, tolerance: float, *, crossing: bool) -> Path:
    """Straight edges of the flat map as chains of shortest ones, at most `tolerance` metres off.

    With `crossing` an edge between longitudes more than 180 degrees apart goes over the antimeridian.
    """
    found = [part[0]]
    for a, b in itertools.pairwise(part):
        if crossing and abs(b[0] - a[0]) > 180:
            b = (b[0] + math.copysign(360, a[0] - b[0]), b[1])
        found += [
            ((lng + 180) % 360 - 180 if abs(lng) > 180 else lng, lat)
            for lng, lat in _split(a, b, _SCALE * tolerance / EARTH_RADIUS, 0)
        ]
    return tuple(found)


def _split(a: LngLat, b: LngLat, limit: float, depth: int) -> list[LngLat]:
    if depth > 20 or _flat_error(a, b) <= limit:
        return [b]
    middle = _between(a, b, 0.5)
    return _split(a, middle, limit, depth + 1) + _split(middle, b, limit, depth + 1)


def _between(a: LngLat, b: LngLat, share: float) -> LngLat:
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share)


def _flat_error(a: LngLat, b: LngLat) -> float:
    """Radians between the flat edge and the shortest one, about the largest."""
    one, other = vector(a), vector(b)
    if dot(one, other) < -1e-14:
        return math.inf
    return max(angle(vector(_between(a, b, share)), along(one, other, share)) for share in (_AT, 1 - _AT))


def along(a: Vector, b: Vector, share: float) -> Vector:
    """The place at a share of the way from a to b."""
    whole = angle(a, b)
    if whole == 0:
        return a
    weights = (math.sin((1 - share) * whole) / math.sin(whole), math.sin(share * whole) / math.sin(whole))
    return (
        weights[0] * a[0] + weights[1] * b[0],
        weights[0] * a[1] + weights[1] * b[1],
        weights[0] * a[2] + weights[1] * b[2],
    )


def nearest_on_line(at: LngLat, shape: Lines) -> tuple[float, LngLat]:
    """Metres to the nearest place of a line, and the place."""
    here = point(at)
    found = [lnglat(polyline(part).Project(here)[0]) for part in shape.parts]
    return min((angle(vector(at), vector(near)) * EARTH_RADIUS, near) for near in found)


# --- buffers and cells -------------------------------------------------------------------------------------


def buffered(shape: s2geometry.S2Polygon | LngLat, radius: float, tolerance: float) -> s2geometry.S2Polygon:
    """All within `radius` metres of a polygon or place, the edge at most `tolerance` metres off."""
    import s2geometry

    options = s2geometry.S2BufferOperationOptions()
    options.set_buffer_radius(s2geometry.S1Angle.Radians(radius / EARTH_RADIUS))
    options.set_error_fraction(min(1.0, max(1e-6, tolerance / radius)))
    made = s2geometry.S2Polygon()
    operation = s2geometry.S2BufferOperation(s2geometry.S2PolygonLayer(made), options)
    if isinstance(shape, tuple):
        operation.AddPoint(point(shape))
    else:
        copy = s2geometry.S2Polygon()
        copy.Copy(shape)
        operation.AddPolygon(copy)  # the operation empties what it is given
    operation.Build()
    return made


def rings_of(shape: s2geometry.S2Polygon) -> tuple[tuple[Path, ...], ...]:
    """The parts of an S2 polygon: each shell with the holes that follow it."""
    parts: list[list[Path]] = []
    for i in range(shape.num_loops()):
        loop = shape.loop(i)
        places = [lnglat(loop.vertex(k)) for k in range(loop.num_vertices())]
        if loop.is_hole():
            parts[-1].append(tuple(reversed(places)))
        else:
            parts.append([tuple(places)])
    return tuple(tuple(part) for part in parts)


def capsule(a: LngLat, b: LngLat, radius: float, tolerance: float) -> Path:
    """The ring around an edge at a distance of `radius` metres: two half circles."""
    one, other = vector(a), vector(b)
    width = radius / EARTH_RADIUS
    least = math.acos(max(-1.0, 1 - min(1.0, tolerance / radius)))
    steps = max(4, math.ceil(math.pi / (2 * least)))
    ring: list[LngLat] = []
    for center, toward in ((other, one), (one, other)):
        back = _direction(center, toward)
        side = cross(center, back)
        # From one side of the edge round its end to the other, against the clock.
        for step in range(steps + 1):
            turn = math.pi / 2 + math.pi * step / steps
            ring.append(_moved(center, back, side, turn, width))
    return tuple(ring)


def _direction(center: Vector, toward: Vector) -> Vector:
    """The unit tangent at a place toward another."""
    share = dot(center, toward)
    tangent = tuple(t - share * c for c, t in zip(center, toward, strict=True))
    length = math.hypot(*tangent)
    return (tangent[0] / length, tangent[1] / length, tangent[2] / length)


def _moved(center: Vector, ahead: Vector, side: Vector, turn: float, distance: float) -> LngLat:
    x, y, z = (
        math.cos(distance) * c + math.sin(distance) * (math.cos(turn) * a + math.sin(turn) * s)
        for c, a, s in zip(center, ahead, side, strict=True)
    )
    return (math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y))))


def line_buffer(shape: Lines, radius: float, tolerance: float) -> spherely.Geography:
    """All within `radius` metres of the lines; a tolerance below a ten-thousandth of the radius is raised."""
    import spherely

    tolerance = max(tolerance, radius * 1e-4)  # finer rings take half a minute on lines around the earth
    # An edge's side bends away from the shortest way by about length² · radius / (8 · earth²).
    longest = EARTH_RADIUS * math.sqrt(8 * tolerance / radius)
    parts = []
    for part in shape.parts:
        for a, b in itertools.pairwise(part):
            one, other = vector(a), vector(b)
            count = math.ceil(angle(one, other) * EARTH_RADIUS / longest) or 1
            stops = [a, *(_degrees(along(one, other, i / count)) for i in range(1, count)), b]
            parts += [
                spherely.create_polygon(capsule(c, d, radius, tolerance))
                for c, d in itertools.pairwise(stops)
            ]
    return united(parts)


def _degrees(at: Vector) -> LngLat:
    return (math.degrees(math.atan2(at[1], at[0])), math.degrees(math.atan2(at[2], math.hypot(*at[:2]))))
