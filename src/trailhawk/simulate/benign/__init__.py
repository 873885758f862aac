"""An ordinary day of the whole cast, one small generator for each kind of actor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from ..record import Record
from ..world import World
from . import applications, changes, people, pipelines, services
from .day import Day, day_of

Actor = Callable[[World, Day, Random], Iterator[Record]]

SKELETON: tuple[Actor, ...] = (
    applications.credential_issues,
    applications.agents,
    applications.waf_config,
    applications.backup,
    applications.erp,
    applications.collector,
    applications.invoice,
    people.administrators,
    people.analysts,
    people.developers,
    pipelines.deployments,
    pipelines.hosted_jobs,
    services.recorder,
    services.trails,
    services.autoscaling,
    services.occasional,
    services.internet,
    services.monitors,
)
"""Always there, each as often as its work asks for."""

MARKED: tuple[Actor, ...] = (
    services.fleet_launch,
    changes.new_hire,
    changes.new_role,
    changes.address_change,
    changes.new_bucket,
    changes.stop_and_start,
    changes.elastic_address_change,
    changes.operator_on_instance,
    changes.rare_role,
    changes.power_policy,
    changes.modest_policy,
    changes.hostile_values,
)
"""Changes and oddities whose event ids the truth lists."""

VOLUME: tuple[tuple[Callable[[World, Day, Random, int], Iterator[Record]], int], ...] = (
    (applications.orders, 40),
    (applications.media, 20),
    (applications.web, 17),
    (applications.functions, 9),
    (applications.catalog, 8),
    (applications.staging, 6),
)
"""Actor and weight: they share what the skeleton leaves of the day's events."""

WEEKEND = 0.87
"""Customers also come at weekends; only the staff is off."""


def ordinary_day(world: World, number: int) -> Iterator[tuple[Record, str]]:
    """Day `number`, the first being 1: records in no order, each with its mark if it has one.

    Told one by one, so that no more than a record is held in memory. A burst may run over midnight.
    """
    day = day_of(world, number)
    count = 0
    for actor in SKELETON + MARKED:
        mark = actor.__name__ if actor in MARKED else ""
        for record in actor(world, day, world.rng(actor.__name__, number)):
            count += 1
            yield record, mark
    size = world.events_per_day if day.workday else round(world.events_per_day * WEEKEND)
    room = max(0, size - count)
    total = sum(weight for _, weight in VOLUME)
    for volume, weight in VOLUME:
        share = room * weight // total
        if share:
            for record in volume(world, day, world.rng(volume.__name__, number), share):
                yield record, ""
