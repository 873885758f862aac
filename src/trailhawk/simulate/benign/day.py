"""One day of the simulation, and when in it things happen."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from time import gmtime

from ..world import DAY, World

# Share of an hour (UTC) in the work of a company whose offices are in New York and Berlin.
_OFFICE_HOURS = (1, 1, 1, 1, 1, 1, 3, 6, 8, 8, 8, 7, 9, 14, 17, 18, 17, 16, 17, 17, 14, 9, 4, 2)
_FLAT = (1,) * 24


@dataclass(frozen=True)
class Day:
    """Day `number` (the first is 1), from `start` to `end`. `pace` is 1 at 3,000 events a day."""

    number: int
    start: int
    workday: bool
    pace: float

    @property
    def end(self) -> int:
        return self.start + DAY

    def holds(self, at: int) -> bool:
        return self.start <= at < self.end

    def times(self, base: float, *, least: int = 1, most: int = 100_000) -> int:
        """How often something happens that happens `base` times a day at the default size."""
        return min(most, max(least, round(base * self.pace)))


def day_of(world: World, number: int) -> Day:
    start = world.start + (number - 1) * DAY
    return Day(number, start, gmtime(start).tm_wday < 5, world.events_per_day / 3000)


def spread(rng: Random, day: Day, count: int) -> list[int]:
    """`count` moments of the day, more of them when people work, ascending."""
    weights = _OFFICE_HOURS if day.workday else _FLAT
    hours = rng.choices(range(24), weights, k=count)
    return sorted(day.start + hour * 3600 + rng.randrange(3600) for hour in hours)


def regular(rng: Random, day: Day, count: int, *, jitter: int = 40) -> list[int]:
    """`count` moments evenly over the day, as a timer would have it."""
    step = DAY // count
    offset = rng.randrange(max(1, step - jitter))
    return [day.start + offset + place * step + rng.randrange(jitter) for place in range(count)]
