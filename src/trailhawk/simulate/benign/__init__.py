"""An ordinary day of the whole cast, one small generator for each kind of actor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from ..record import Record
from ..world import World
from . import applications
from .day import Day, day_of

SKELETON: tuple[Callable[[World, Day, Random], Iterator[Record]], ...] = (
    applications.credential_issues,
    applications.agents,
    applications.waf_config,
    applications.backup,
    applications.erp,
    applications.collector,
    applications.invoice,
)
"""Always there, each as often as its work asks for."""

VOLUME: tuple[tuple[Callable[[World, Day, Random, int], Iterator[Record]], int], ...] = (
    (applications.orders, 38),
    (applications.media, 20),
    (applications.web, 17),
    (applications.functions, 10),
    (applications.catalog, 8),
    (applications.staging, 7),
)
"""Actor and weight: they share what the skeleton leaves of the day's events."""

WEEKEND = 0.8


def ordinary_day(world: World, number: int) -> list[Record]:
    """All records of day `number`, in no order. A burst may run over midnight."""
    day = day_of(world, number)
    records: list[Record] = []
    for actor in SKELETON:
        records += actor(world, day, world.rng(actor.__name__, number))
    size = world.events_per_day if day.workday else round(world.events_per_day * WEEKEND)
    room = max(0, size - len(records))
    total = sum(weight for _, weight in VOLUME)
    for volume, weight in VOLUME:
        share = room * weight // total
        if share:
            records += volume(world, day, world.rng(volume.__name__, number), share)
    return records
