"""Time zones, by their IANA names. An unknown zone gives null."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

import msgspec

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.python import Moment, Text, python
from trailhawk.kql.functions.registry import Dynamic, scalar
from trailhawk.kql.types import KqlType

_EPOCH = datetime(1970, 1, 1)  # both clocks are read without a zone


@lru_cache(maxsize=1024)
def _zone(name: str) -> tzinfo | None:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _clock(ticks: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ticks // 10)


def _ticks(clock: datetime) -> int:
    return (clock.replace(tzinfo=None) - _EPOCH) // timedelta(microseconds=1) * 10


@python()
def datetime_utc_to_local(moment: Moment, zone: Text) -> Moment | None:
    """What a clock in the zone shows at a moment.

    >>> datetime_utc_to_local(datetime(2020-02-02 20:02:20), "US/Pacific")
    2020-02-02T12:02:20.0000000Z
    >>> datetime_utc_to_local(datetime(2020-02-02 20:02:20), "nowhere")
    null
    """
    place = _zone(zone)
    if moment is None or place is None:
        return None
    try:
        return _ticks(_clock(moment).replace(tzinfo=UTC).astimezone(place))
    except OverflowError:
        return None


@python()
def datetime_local_to_utc(clock: Moment, zone: Text) -> Moment | None:
    """The moment at which a clock in the zone shows this.

    An hour that is left out in spring is read by the clock after the change, one that comes twice in autumn
    by the clock before it.

    >>> datetime_local_to_utc(datetime(2020-02-02 20:02:20), "Europe/Paris")
    2020-02-02T19:02:20.0000000Z
    >>> datetime_local_to_utc(datetime(2022-03-27 02:00), "Europe/Brussels")
    2022-03-27T00:00:00.0000000Z
    """
    place = _zone(zone)
    if clock is None or place is None:
        return None
    try:
        local = _clock(clock).replace(tzinfo=place)
        back = local.astimezone(UTC).astimezone(place)
        if back.replace(tzinfo=None) != local.replace(tzinfo=None):
            local = local.replace(fold=1)
        return _ticks(local.astimezone(UTC))
    except OverflowError:
        return None


@scalar()
def datetime_list_timezones() -> Dynamic:
    """The names of all time zones.

    >>> set_has_element(datetime_list_timezones(), "Europe/Paris")
    True
    """
    names = sorted(zoneinfo.available_timezones())
    return sql.cast(sql.literal(msgspec.json.encode(names).decode()), KqlType.DYNAMIC)
