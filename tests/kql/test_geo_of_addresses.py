"""geo_info_from_ip_address() over a database written here, and without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.errors import UnsupportedError
from trailhawk.kql.functions.geo_ip import DATABASE

CITY = {
    "country": {"iso_code": "NO", "names": {"en": "Norway"}},
    "subdivisions": [{"iso_code": "46", "names": {"en": "Vestland"}}],
    "city": {"names": {"en": "Bergen"}},
    "location": {"latitude": 60.4, "longitude": 5.3},
}


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "city.mmdb"
    writer = MMDBWriter(6, "GeoLite2-City", languages=["en"], ipv4_compatible=True, float_type="f64")
    writer.insert_network(IPSet(["203.0.113.0/24", "2001:db8::/32"]), CITY)
    writer.insert_network(IPSet(["198.51.100.0/24"]), {"country": {"iso_code": "SE"}})
    writer.to_db_file(str(path))
    monkeypatch.setenv(DATABASE, str(path))
    return path


@pytest.fixture
def said() -> Callable[[str], str]:
    engine = DuckDBEngine(NoTables())

    def ask(address: str) -> str:
        query = f"print tostring(geo_info_from_ip_address('{address}'))"
        ((value,),) = engine.query(query, now=datetime(2026, 1, 1, tzinfo=UTC)).tuples()
        return str(value)

    return ask


@pytest.mark.usefixtures("database")
def test_an_address_has_a_place(said: Callable[[str], str]) -> None:
    place = {"country": "Norway", "state": "Vestland", "city": "Bergen", "latitude": 60.4, "longitude": 5.3}
    assert json.loads(said("203.0.113.66")) == place
    assert json.loads(said("2001:db8::1")) == place
    assert json.loads(said("198.51.100.1"))["country"] == "SE"


@pytest.mark.usefixtures("database")
def test_what_has_no_place(said: Callable[[str], str]) -> None:
    assert json.loads(said("192.0.2.1"))["country"] == ""
    assert said("ec2.amazonaws.com") == ""


def test_without_a_database_it_is_refused(
    said: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATABASE, raising=False)
    with pytest.raises(UnsupportedError, match="without a database"):
        said("203.0.113.66")


def test_a_file_that_is_no_database_is_named(
    said: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "none.mmdb"
    path.write_text("no database")
    monkeypatch.setenv(DATABASE, str(path))
    with pytest.raises(UnsupportedError, match=r"none\.mmdb"):
        said("203.0.113.66")
