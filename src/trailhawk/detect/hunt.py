"""Hunting queries run as on Sentinel's hunting page: what they find, and how much more than a day before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from trailhawk.detect.absent import absent, is_there, reason
from trailhawk.detect.attack_table import attack_table
from trailhawk.detect.rule import Rule
from trailhawk.engine.result import Engine, Result, TimeRange
from trailhawk.errors import NotAllowedError, QueryError

DAY = timedelta(days=1)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Hunted:
    """What one hunt found: rows now, and rows had it been run a day earlier; None where it cannot run."""

    hunt: Rule
    rows: int | None
    before: int | None
    reason: str = ""
    skipped: bool = False
    """Whether it reads what the settings do not allow or this lake has not, rather than failing."""

    @property
    def delta(self) -> int | None:
        """How many more rows than a day earlier."""
        return None if self.rows is None or self.before is None else self.rows - self.before


@dataclass(frozen=True, slots=True)
class TacticSum:
    """Of the hunts that name a tactic: how many there are, found something, found more than a day before."""

    tactic: str
    hunts: int
    with_rows: int
    more: int


def by_tactic(found: Sequence[Hunted]) -> tuple[TacticSum, ...]:
    """The tactics that these hunts name, in ATT&CK's order; others after them."""
    order = [tactic.name for tactic in attack_table().all_tactics]
    named = {tactic for each in found for tactic in each.hunt.tactics}
    sums = []
    for tactic in [*(name for name in order if name in named), *sorted(named.difference(order))]:
        own = [each for each in found if tactic in each.hunt.tactics]
        more = sum((each.delta or 0) > 0 for each in own)
        sums.append(TacticSum(tactic, len(own), sum(bool(each.rows) for each in own), more))
    return tuple(sums)


def hunt(engine: Engine, query: str, *, now: datetime, picked: TimeRange | None = None) -> Result:
    """The rows of one hunting query. Tables are not clipped but by `now`: a hunt says itself what it reads.

    `picked` is what {{StartTimeISO}} and {{EndTimeISO}} mean, the last day unless given.
    """
    return engine.query(
        query, now=now, window=TimeRange(None, now), picked=picked or TimeRange(now - DAY, now)
    )


def hunt_all(
    engine: Engine,
    hunts: Sequence[Rule],
    *,
    now: datetime,
    picked: TimeRange | None = None,
    workers: int = 1,
    progress: Progress = lambda done, of: None,
) -> tuple[Hunted, ...]:
    """Every hunt run twice, as of now and as of a day before, side by side; in the order given.

    `picked` is as in `hunt()`; the run of a day before has it a day earlier.
    """
    runs = [(now, picked), (now - DAY, _a_day_earlier(picked))]

    def results() -> Iterator[Hunted]:
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(lambda each: _hunted(engine, each, runs), hunts)

    found = []
    for done, each in enumerate(results(), start=1):
        found.append(each)
        progress(done, len(hunts))
    return tuple(found)


def _a_day_earlier(picked: TimeRange | None) -> TimeRange | None:
    if picked is None:
        return None
    return TimeRange(picked.start and picked.start - DAY, picked.end and picked.end - DAY)


def _hunted(engine: Engine, each: Rule, runs: Sequence[tuple[datetime, TimeRange | None]]) -> Hunted:
    try:
        rows, before = (
            hunt(engine, each.query, now=now, picked=picked).table.num_rows for now, picked in runs
        )
    except NotAllowedError as error:
        return Hunted(each, None, None, error.message, skipped=True)
    except QueryError as error:
        if missing := absent(each, error, is_there(engine, runs[0][0])):
            return Hunted(each, None, None, reason(missing), skipped=True)
        return Hunted(each, None, None, error.render(each.query).split("\n", 1)[0])
    return Hunted(each, rows, before)
