"""Where an address is, after a database in MaxMind's format that the user has (GeoLite2, DB-IP, others)."""

from __future__ import annotations

import ipaddress
import os
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

from trailhawk.errors import UnsupportedError
from trailhawk.kql.functions.python import Json, Text, python
from trailhawk.kql.functions.registry import Dynamic, String, scalar

DATABASE: Final = "TRAILHAWK_GEO_DATABASE"
"""The environment variable that names the database's file."""


@lru_cache(maxsize=4)
def _opened(path: str, changed: float) -> Any:
    """The database, opened anew when its file has changed. Memory-mapped: only what is asked for is read."""
    import maxminddb

    return maxminddb.open_database(path)


def _database() -> Any:
    path = os.environ.get(DATABASE, "")
    hint = f"set {DATABASE} to a file in MaxMind's format (.mmdb), such as GeoLite2-City"
    if find_spec("maxminddb") is None:
        raise UnsupportedError(
            "geo_info_from_ip_address() without its library", hint="pip install 'trailhawk[geo]'"
        )
    if not path:
        raise UnsupportedError("geo_info_from_ip_address() without a database", hint=hint)
    try:
        return _opened(path, os.stat(path).st_mtime)
    except (OSError, ValueError, RuntimeError) as error:
        raise UnsupportedError(
            f"geo_info_from_ip_address() with the database {path}: {error}", hint=hint
        ) from None


@python("geo_of_address", internal=True)
def geo_of_address(address: Text) -> Json | None:
    """Country, state, city, latitude and longitude of an address; null for what is no address."""
    try:
        found = _database().get(ipaddress.ip_address(address.strip()))
    except ValueError:
        return None
    if not isinstance(found, dict):
        return {"country": "", "state": "", "city": "", "latitude": "", "longitude": ""}
    location = found.get("location") or {}
    states = found.get("subdivisions") or [{}]
    return {
        "country": _name(found.get("country")),
        "state": _name(states[0]),
        "city": _name(found.get("city")),
        "latitude": location.get("latitude", ""),
        "longitude": location.get("longitude", ""),
    }


def _name(part: object) -> str:
    """The English name; databases that have none write the name itself, or the country's code."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    names = part.get("names")
    return str(names.get("en", "") if isinstance(names, dict) else part.get("iso_code", ""))


@scalar()
def geo_info_from_ip_address(address: String) -> Dynamic:
    """Country, state, city, latitude and longitude of an IPv4 or IPv6 address.

    Kusto has a database of its own; here it is the file that the environment variable
    TRAILHAWK_GEO_DATABASE names, in MaxMind's format, and without one the function is refused.
    """
    _database()
    return geo_of_address.overloads[0].build(address)
