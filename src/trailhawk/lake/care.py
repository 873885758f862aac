"""Looking after a lake: compaction, retention and clearing away, table by table, beside whoever uses it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from trailhawk.errors import NotFoundError, raised
from trailhawk.lake.catalog import Lake
from trailhawk.lake.compaction import care_date, compact_busy_days
from trailhawk.lake.delta import Delta, LogError
from trailhawk.lake.files import DamagedFileError
from trailhawk.lake.retention import Forgotten, expiring, forget

KEEP_RETIRED: Final = dt.timedelta(days=1)
"""Files that no version names stay this long: far longer than any query or batch takes."""


MOST_AHEAD: Final = dt.timedelta(days=7)
"""The most that the newest event may lie behind the clock; else retention nobody asked for goes by it."""


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days rows are kept, by event time; 0 is for ever. `tables` stand before `days`."""

    days: int = 0
    tables: Mapping[str, int] = field(default_factory=dict)

    def of(self, table: str) -> int:
        return self.tables.get(table, self.days)


class Caretaker:
    """Looks after the tables of a lake. Any number of processes may do so at once.

    `settle` finishes what commits of one table have left for another to take over; without it, clearing away
    could remove files that are waiting for that. Tables in `kept` are never shortened. Events of the tables
    in `logs` bear times of other clocks than this machine's.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        clock: Callable[[], dt.datetime],
        retention: Retention,
        settle: Callable[[], None],
        kept: Iterable[str] = (),
        logs: Iterable[str] = (),
    ) -> None:
        self._lake = lake.apart()
        self._clock = clock
        self._retention = retention
        self._settle = settle
        self._kept = frozenset(kept)
        self._logs = tuple(logs)

    def compact(
        self, tables: Iterable[str] = (), *, told: Callable[[LogError | DamagedFileError], None] = raised
    ) -> dict[str, int]:
        """Rewrite the days of these tables (of all, unless named) that hold many small files: how many
        rewritings each table had. `told` hears of each damaged file, and of each log."""
        today = care_date(self._clock())
        return {
            delta.table.name: compact_busy_days(delta, today=today, told=told)
            for delta in self._sound(self._names(tables), told)
        }

    def believed(self) -> dt.datetime:
        """The time of the clock, but at most a week after the newest event of the logs: what a clock that is
        ahead by months takes for old is still wanted. An event is no newer than its being stored."""
        now = self._clock()
        sound = [delta.table.name for delta in self._sound(self._logs, lambda _: None)]
        files = [file for name in sound for file in self._lake.snapshot(name).files(fetch=False)]
        newest = max(
            (min(file.last, file.ingested_last) for file in files if file.last and file.ingested_last),
            default=now,
        )
        return min(now, newest + MOST_AHEAD)

    def expiring(
        self,
        tables: Iterable[str] = (),
        *,
        now: dt.datetime | None = None,
        told: Callable[[LogError], None] = raised,
    ) -> list[Forgotten]:
        """What `forget` would remove."""
        limits = self._limits(tables, now or self._clock())
        return [expiring(delta, before=limits[delta.table.name]) for delta in self._sound(limits, told)]

    def forget(
        self,
        tables: Iterable[str] = (),
        *,
        now: dt.datetime | None = None,
        told: Callable[[LogError], None] = raised,
    ) -> list[Forgotten]:
        """Remove the rows that are older than their table's retention, counted from `now`, the clock's time
        unless given; one entry for each table with one. `told` hears of each damaged log."""
        limits = self._limits(tables, now or self._clock())
        return [forget(delta, before=limits[delta.table.name]) for delta in self._sound(limits, told)]

    def vacuum(self, tables: Iterable[str] = ()) -> dict[str, int]:
        """Delete the files that no version of the last day names: how many of each table. LogError, and
        nothing is deleted, where the log of any table is damaged: what waits for another is not known."""
        self._settle()
        return {name: self._lake.delta(name).clean(older_than=KEEP_RETIRED) for name in self._names(tables)}

    def _sound(self, names: Iterable[str], told: Callable[[LogError], None]) -> Iterator[Delta]:
        """The tables at their newest state; of one whose log is damaged `told` hears instead."""
        for name in names:
            delta = self._lake.delta(name)
            try:
                delta.refresh()
            except LogError as error:
                told(error)
            else:
                yield delta

    def _names(self, tables: Iterable[str]) -> tuple[str, ...]:
        names = tuple(tables) or self._lake.table_names()
        for name in names:
            if self._lake.table(name) is None:
                self._lake.delta(name)  # NotFoundError, with the names that there are
        return names

    def _limits(self, tables: Iterable[str], now: dt.datetime) -> dict[str, dt.date]:
        """The first day to keep of each table that is not kept for ever."""
        for name in self._retention.tables:
            if self._lake.table(name) is None:
                raise NotFoundError(f"no table {name!r} in the lake", hint="see [lake.retention]")
        today = now.date()
        days = {name: self._retention.of(name) for name in self._names(tables) if name not in self._kept}
        return {name: today - dt.timedelta(days=count) for name, count in days.items() if count}
