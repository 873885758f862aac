"""A query run again and again over what has newly arrived: each row once, late ones too.

Time is cut by ingestion into windows that follow one another without gap. A window is looked at when it ends,
and again for a while if rows turn up in it afterwards: a batch is stamped when it is read, and seen when it
is committed. Of a window that is looked at again, only the rows that it had not given before are told. Every
table is clipped to the window, as for an NRT rule; watchlists are whole.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from trailhawk.engine.result import Engine, Result, TimeRange

MEMORY: Final = timedelta(hours=1)
"""How long after its end a window is looked at again when rows turn up in it."""

MOST_ROWS: Final = 1_000
"""Rows told of one look; what is more is counted."""

_MOST_KEPT: Final = 100_000
"""Result rows of a window that are read and remembered; what is more is only counted."""


@dataclass(frozen=True)
class Arrived:
    """What one look found: the new rows, their columns in order, and how many more there were.

    `at` is the end of the newest window. `rows` are at most as many as the stream was told to give.
    """

    at: datetime
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, object], ...]
    more: int = 0


@dataclass
class _Window:
    start: datetime
    end: datetime
    stored: int = 0
    told: Counter[bytes] = field(default_factory=Counter)


class Livestream:
    """A query over what arrives from `start` on. `tables` are those of the lake that it reads."""

    def __init__(
        self,
        engine: Engine,
        query: str,
        *,
        tables: Sequence[str],
        start: datetime,
        memory: timedelta = MEMORY,
        most: int = MOST_ROWS,
    ) -> None:
        self._engine = engine
        self._query = query
        self._tables = tuple(tables)
        self._end = start
        self._memory = memory
        self._most = most
        self._windows: deque[_Window] = deque()

    def look(self, now: datetime) -> Arrived:
        """The rows that arrived since the last look, the oldest window first; raises QueryError.

        A look that fails is made up for by the next one: what it did not tell is still to be told.
        """
        if now > self._end:
            self._windows.append(_Window(self._end, now))
            self._end = now
        while self._windows and self._windows[0].end < now - self._memory:
            self._windows.popleft()
        columns: tuple[str, ...] = ()
        rows: list[Mapping[str, object]] = []
        more = 0
        # All queries first: where one fails, nothing counts as told.
        looked = [(window, stored, self._result(window, now)) for window, stored in self._grown()]
        for window, stored, result in looked:
            columns = tuple(column.name for column in result.columns)
            more += 0 if window.told else max(0, result.table.num_rows - _MOST_KEPT)
            for row in _untold(window, result):
                if len(rows) < self._most:
                    rows.append(row)
                else:
                    more += 1
            window.stored = stored
        return Arrived(self._end, columns, tuple(rows), more)

    def _result(self, window: _Window, now: datetime) -> Result:
        clip = TimeRange(window.start, window.end, ingested=True)
        return self._engine.query(self._query, now=now, window=clip)

    def _grown(self) -> list[tuple[_Window, int]]:
        """The windows that hold more rows than when they were last looked at, with how many."""
        if not self._windows:
            return []
        batches: Counter[datetime] = Counter()
        clip = TimeRange(self._windows[0].start, self._end, ingested=True)
        for table in self._tables:
            count = f"['{table}'] | summarize Rows = count() by At = ingestion_time()"
            for row in self._engine.query(count, now=self._end, window=clip).rows():
                at, found = row["At"], row["Rows"]
                if isinstance(at, datetime) and isinstance(found, int):
                    batches[at] += found
        moments = sorted(batches)
        sums = [0]
        for moment in moments:
            sums.append(sums[-1] + batches[moment])
        grown = []
        for window in self._windows:
            stored = sums[bisect_left(moments, window.end)] - sums[bisect_left(moments, window.start)]
            if stored > window.stored:
                grown.append((window, stored))
        return grown


def _untold(window: _Window, result: Result) -> Iterator[Mapping[str, object]]:
    """The rows of a window's result that were not told before; equal rows count by their number."""
    found: Counter[bytes] = Counter()
    for row in replace(result, table=result.table.slice(0, _MOST_KEPT)).rows():
        key = _key(row)
        found[key] += 1
        if found[key] > window.told[key]:
            yield row
    window.told |= found


def _key(row: Mapping[str, object]) -> bytes:
    """A row by its values: lists that a set was gathered into are taken in any order."""
    text = json.dumps({name: _ordered(value) for name, value in row.items()}, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _ordered(value: object) -> object:
    if isinstance(value, list):
        return sorted((_ordered(item) for item in value), key=lambda item: json.dumps(item, default=str))
    if isinstance(value, dict):
        return {str(name): _ordered(item) for name, item in value.items()}
    return value


def stream(
    live: Livestream,
    *,
    clock: Callable[[], datetime],
    wait: Callable[[float], bool],
    every: timedelta,
    tell: Callable[[Arrived], None],
    fail: Callable[[Exception], None],
    retried: tuple[type[Exception], ...] = (),
) -> None:
    """Look every so often and tell what arrived, until `wait` (seconds) says True.

    An exception of `retried` is told to `fail`, and the next look makes up for it.
    """
    while True:
        try:
            arrived = live.look(clock())
        except retried as error:
            fail(error)
        else:
            if arrived.rows:
                tell(arrived)
        if wait(every.total_seconds()):
            return
