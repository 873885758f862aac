"""Which records a table holds already: hashes of identity and payload, read from the data files themselves.

Equal payloads have equal event times and so the same event day; only the days a batch touches are looked at.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trailhawk.lake.delta import Delta
from trailhawk.lake.files import DamagedFileError, opened
from trailhawk.lake.table import DAY, ID, OBJECT, PAYLOAD, fitted

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = NDArray[np.int64]

_MAX_CACHED_HASHES = 19_000_000  # 20 bytes each: at most 380 MB


@dataclass
class _Day:
    """The hashes of one event day, sorted by identity, the files they were read from, each with a number,
    and for each hash the number of its file."""

    files: dict[str, int] = field(default_factory=dict)
    ids: Hashes = field(default_factory=lambda: np.empty(0, np.int64))
    payloads: Hashes = field(default_factory=lambda: np.empty(0, np.int64))
    numbers: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def forget(self, paths: set[str]) -> None:
        """Without the hashes of these files."""
        kept = ~np.isin(self.numbers, [self.files.pop(path) for path in paths])
        self.ids, self.payloads, self.numbers = self.ids[kept], self.payloads[kept], self.numbers[kept]

    def add(self, found: Mapping[str, tuple[Hashes, Hashes]]) -> None:
        """With the hashes of these files."""
        first = max(self.files.values(), default=0) + 1
        numbers = dict(zip(found, range(first, first + len(found)), strict=True))
        self.files |= numbers
        ids = np.concatenate([self.ids, *(ids for ids, _ in found.values())])
        order = np.argsort(ids)
        self.ids = ids[order]
        self.payloads = np.concatenate([self.payloads, *(payloads for _, payloads in found.values())])[order]
        lengths = [len(ids) for ids, _ in found.values()]
        fresh = np.repeat(np.array(list(numbers.values()), np.int32), lengths)
        self.numbers = np.concatenate([self.numbers, fresh])[order]


class Seen:
    """The stored identities of one table, kept for the days last asked for. Not for several threads."""

    def __init__(self, delta: Delta) -> None:
        self._delta = delta
        self._days: OrderedDict[dt.date, _Day] = OrderedDict()
        self.damaged: dict[str, DamagedFileError] = {}
        """Files that could not be read, by their paths. What is in them counts as not stored, where not even
        the hashes can be read: see `hidden`."""

    def compare(
        self, day: dt.date, ids: Hashes, payloads: Hashes
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """For each record of one event day: is it stored, and is its identity stored with another payload.

        Answers for the state of the table last looked at.
        """
        known = self._day(day)
        order = np.argsort(ids)  # sought in order, each is found near the one before: five times as fast
        low, high = np.empty_like(order), np.empty_like(order)
        low[order] = np.searchsorted(known.ids, ids[order], side="left")
        high[order] = np.searchsorted(known.ids, ids[order], side="right")
        met = high > low
        stored = np.zeros(len(ids), bool)
        first = low[met]
        stored[met] = known.payloads[first] == payloads[met]
        # An identity stored with several payloads is rare: look at each.
        for index in np.flatnonzero(met & ~stored & (high - low > 1)):
            stored[index] = payloads[index] in known.payloads[low[index] : high[index]]
        return stored, met & ~stored

    def hidden(
        self, day: dt.date, times: NDArray[np.datetime64], conflict: NDArray[np.bool_]
    ) -> Iterator[tuple[DamagedFileError, NDArray[np.bool_]]]:
        """The damaged files of an event day, each with which of these records it may hold as well: by their
        times, and where its hashes could be read only of those in `conflict`."""
        actions = self._delta.actions() if self.damaged else None
        if actions is None:
            return
        time, known = self._delta.table.time_column, self._day(day)
        names = ("path", f"partition.{DAY}", f"min.{time}", f"max.{time}")
        for path, of, first, last in zip(*(actions[name].to_pylist() for name in names), strict=True):
            error = self.damaged.get(str(self._delta.root / path))
            if of == day and error is not None:
                low, high = (np.datetime64(each.replace(tzinfo=None), "us") for each in (first, last))
                within = (times >= low) & (times <= high)
                yield error, within & conflict if path in known.files else within

    def _day(self, day: dt.date) -> _Day:
        known = self._days.setdefault(day, _Day())
        self._days.move_to_end(day)
        live = set(self._delta.live([day]))
        if gone := known.files.keys() - live:  # compacted or removed meanwhile
            known.forget(gone)
        if fresh := live - known.files.keys():
            known.add({path: found for path in sorted(fresh) if (found := self._read(path))})
            self._forget()
        return known

    def _read(self, path: str) -> tuple[Hashes, Hashes] | None:
        """The hashes of a file; None for a damaged one, which is asked again next time."""
        try:
            found = read_hashes([self._delta.file(path)])
        except DamagedFileError as error:
            if not error.is_lasting:
                raise
            if self._delta.renew(error):
                return self._read(path)
            self.damaged[error.path] = error
            return None
        self.damaged.pop(str(self._delta.root / path), None)
        return found

    def _forget(self) -> None:
        while len(self._days) > 1 and sum(len(day.ids) for day in self._days.values()) > _MAX_CACHED_HASHES:
            self._days.popitem(last=False)


def read_hashes(paths: Iterable[Path]) -> tuple[Hashes, Hashes]:
    """Identity and payload hashes of the rows of data files, without the rows that have no identity."""
    import pyarrow.compute as pc

    ids, payloads = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for path in paths:
        with opened(path) as file:
            rows = file.read(columns=[ID, PAYLOAD])
        rows = rows.filter(pc.is_valid(rows[ID]))
        ids.append(rows[ID].to_numpy())
        payloads.append(rows[PAYLOAD].fill_null(0).to_numpy())
    return np.concatenate(ids), np.concatenate(payloads)


def rows_of(
    delta: Delta,
    day: dt.date,
    ids: Hashes,
    *,
    first: dt.datetime,
    last: dt.datetime,
    damaged: Collection[str] = (),
) -> Iterator[pa.Table]:
    """The stored rows of one event day with these identities and an event time in [first, last] (without
    zone), in the table's stored columns, as of the state last looked at. Damaged files are not read."""
    import pyarrow as pa

    time = delta.table.time_column
    for path in sorted(delta.live([day])):
        if str(delta.root / path) in damaged:
            continue
        with opened(delta.file(path)) as file:
            place = file.schema_arrow.names.index(time)
            for group in range(file.num_row_groups):
                bounds = file.metadata.row_group(group).column(place).statistics
                if bounds is not None and bounds.has_min_max and (bounds.min > last or bounds.max < first):
                    continue
                known = file.read_row_group(group, columns=[ID], use_threads=False)[ID]
                wanted = np.isin(known.fill_null(0).to_numpy(), ids) & known.is_valid().to_numpy()
                if wanted.any():
                    rows = file.read_row_group(group, use_threads=False).filter(pa.array(wanted))
                    yield fitted(rows, delta.table)


def rows_of_objects(
    delta: Delta, wanted: Callable[[str], bool], *, first: dt.datetime, last: dt.datetime
) -> Iterator[pa.Table]:
    """The stored rows without identity, of objects whose keys are wanted, with an event time in [first, last]
    (without zone), in the table's stored columns, as of the state last looked at."""
    import pyarrow as pa
    import pyarrow.compute as pc

    time = delta.table.time_column
    days = [
        first.date() + dt.timedelta(days=number) for number in range((last.date() - first.date()).days + 1)
    ]
    for path in sorted(delta.live(days)):
        with opened(delta.file(path), dictionaries=[OBJECT]) as file:
            for group in range(file.num_row_groups):
                known = file.read_row_group(group, columns=[OBJECT, ID, time], use_threads=False)
                keys = pa.array(filter(wanted, pc.unique(known[OBJECT]).to_pylist()), pa.string())
                if not len(keys):
                    continue
                inside = pc.and_(pc.greater_equal(known[time], first), pc.less_equal(known[time], last))
                found = pc.and_(pc.and_(inside, pc.is_in(known[OBJECT], keys)), pc.is_null(known[ID]))
                if pc.any(found).as_py():
                    yield fitted(file.read_row_group(group, use_threads=False).filter(found), delta.table)


def repeated(ids: Hashes, payloads: Hashes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each record of a batch: did an equal one come earlier in it, and did its identity with another
    payload."""
    duplicate, conflict = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    order = np.argsort(ids)
    same_id = ids[order[1:]] == ids[order[:-1]]
    met = np.zeros(len(ids), bool)
    met[order[1:][same_id]] = met[order[:-1][same_id]] = True
    places = np.flatnonzero(met)
    if len(places):
        duplicate[places], conflict[places] = _repeated(ids[places], payloads[places])
    return duplicate, conflict


def _repeated(ids: Hashes, payloads: Hashes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The same of records whose identities all come more than once, which are few."""
    order = np.lexsort((np.arange(len(ids)), payloads, ids))
    ids_sorted, payloads_sorted = ids[order], payloads[order]
    same_id = np.zeros(len(ids), bool)
    same_id[1:] = ids_sorted[1:] == ids_sorted[:-1]
    again = same_id.copy()
    again[1:] &= payloads_sorted[1:] == payloads_sorted[:-1]
    duplicate, conflict = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    duplicate[order] = again
    if not np.any(same_id & ~again):
        return duplicate, conflict
    # Of an identity with several payloads the earliest record is the plain one.
    groups = np.cumsum(~same_id) - 1
    earliest = np.full(groups[-1] + 1, len(ids))
    np.minimum.at(earliest, groups, order)
    conflict[order] = (order != earliest[groups]) & ~again
    return duplicate, conflict
