"""Plugins and shapes that need the libraries of the extra `geo`, and what happens without them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.errors import UnsupportedError
from trailhawk.kql.functions import spherical

NOW = datetime(2024, 5, 17, tzinfo=UTC)
SQUARE = '{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,1],[0,0]]]}'
LINE = '{"type":"LineString","coordinates":[[0,0],[1,0]]}'
PLACES = "datatable(n: long, lng: real, lat: real) [1, 0.5, 0.5, 2, 0.5, -0.001, 3, 9.0, 9.0, 4, 300.0, 0.0]"


@pytest.fixture(scope="module")
def engine() -> DuckDBEngine:
    return DuckDBEngine(NoTables())


@pytest.fixture
def libraries() -> None:
    for name in spherical.LIBRARIES:
        pytest.importorskip(name)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("lookup", "rows"),
    [
        ("geo_polygon_lookup(shapes, square, lng, lat)", [(1, "s")]),
        ("geo_polygon_lookup(shapes, square, lng, lat, radius = 200)", [(1, "s"), (2, "s")]),
        ("geo_line_lookup(shapes, line, lng, lat, 200)", [(2, "s")]),
        (
            "geo_line_lookup(shapes, line, lng, lat, 200, return_unmatched = true)",
            [(1, ""), (2, "s"), (3, ""), (4, "")],
        ),
    ],
)
def test_lookup(engine: DuckDBEngine, lookup: str, rows: list[tuple[int, str]]) -> None:
    shapes = (
        f"datatable(name: string, square: dynamic, line: dynamic) ['s', dynamic({SQUARE}), dynamic({LINE})]"
    )
    query = f"let shapes = {shapes}; {PLACES} | evaluate {lookup} | project n, name | sort by n asc"
    assert engine.query(query, now=NOW).tuples() == rows


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    "expression",
    [
        # A hole is outside.
        (
            "not(geo_point_in_polygon(3, 3, geo_from_wkt("
            "'POLYGON ((0 0, 9 0, 0 9, 0 0), (2 2, 2 5, 5 2, 2 2))')))"
        ),
        # Two squares side by side share a border, not an area.
        (
            'tostring(geo_intersection_2polygons(geo_from_wkt("POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))"),'
            ' geo_from_wkt("POLYGON ((1 0, 2 0, 2 1, 1 1, 1 0))")).type) == "LineString"'
        ),
        # A ring's direction does not matter: the smaller side is meant.
        (
            "abs(geo_polygon_area(geo_from_wkt('POLYGON ((0 0, 1 0, 0 1, 0 0))'))"
            " - geo_polygon_area(geo_from_wkt('POLYGON ((0 0, 0 1, 1 0, 0 0))'))) < 1"
        ),
        # Overlapping parts count once.
        (
            'geo_line_length(geo_from_wkt("MULTILINESTRING ((0 0, 1 0), (0 0, 1 0))")) <'
            ' 1.01 * geo_line_length(geo_from_wkt("LINESTRING (0 0, 1 0)"))'
        ),
        # A ring that crosses itself is none.
        'isnull(geo_polygon_area(geo_from_wkt("POLYGON ((0 0, 1 1, 1 0, 0 1, 0 0))")))',
        # Over the antimeridian, and around a pole.
        "geo_distance_2points(179.5, 0, -179.5, 0) < 112000",
        'geo_point_in_polygon(77, 89, geo_from_wkt("POLYGON ((0 80, 120 80, -120 80, 0 80))"))',
        "array_length(geo_geohash_neighbors('zzz')) == 5",
        "geo_point_to_geohash(180, 90, 18) == 'zzzzzzzzzzzzzzzzzz'",
        # What is no GeoJSON is null, never an error.
        "isnull(geo_line_length(dynamic({'type': 'LineString', 'coordinates': [[1, 'x'], {}, null]})))",
        "isnull(geo_polygon_area(dynamic([1, 2])))",
        "isnull(geo_union_lines_array(dynamic('x')))",
        "isnull(geo_from_wkt('POLYGON ((0 0, 1 1'))",
        "isnull(geo_from_wkt('POINT (1 1) x'))",
        "isnull(geo_distance_2points(real(null), 0, 0, 0))",
        "isnull(geo_distance_2points(real(nan), 0, 0, 0))",
    ],
)
def test_shapes(engine: DuckDBEngine, expression: str) -> None:
    assert engine.query(f"print x = {expression}", now=NOW).tuples() == [(True,)]


def test_without_the_libraries(engine: DuckDBEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spherical, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"geo_distance_2points\(\) .*trailhawk\[geo\]"):
        engine.query("print geo_distance_2points(0, 0, 1, 1)", now=NOW)


@pytest.mark.usefixtures("libraries")
def test_a_shape_is_still_whole_after_it_was_widened(engine: DuckDBEngine) -> None:
    shape = 'geo_from_wkt("POLYGON ((0 0, 1 0, 0 1, 0 0))")'
    area = f"print round(geo_polygon_area({shape}))"
    before = engine.query(area, now=NOW).tuples()
    engine.query(f"print geo_polygon_buffer({shape}, 1000.0, 10.0)", now=NOW)
    assert engine.query(area, now=NOW).tuples() == before


@pytest.mark.usefixtures("libraries")
def test_a_union_of_many_begins_where_s2_begins_it(engine: DuckDBEngine) -> None:
    query = """print cell = array_concat(dynamic(["s6m"]), geo_geohash_neighbors("s6m"))
        | mv-expand cell to typeof(string)
        | summarize west = min(toreal(geo_geohash_to_polygon(cell).coordinates[0][0][0])),
            south = min(toreal(geo_geohash_to_polygon(cell).coordinates[0][0][1])),
            shapes = make_list(geo_geohash_to_polygon(cell))
        | extend corner = geo_union_polygons_array(shapes).coordinates[0][0]
        | project round(west - toreal(corner[0]), 6), round(south - toreal(corner[1]), 6)"""
    assert engine.query(query, now=NOW).tuples() == [(0.0, 0.0)]
