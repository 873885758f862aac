"""Few large sorted files in place of many small ones, beside writers and readers that go on.

A closed day comes down to a few files, and late rows are written together with the smallest, so that it has
few at any commit. A day that still grows is rewritten in tiers, as in a log-structured merge tree: files
of about one size become one of the next, so that a row is rewritten two or three times however long the day
grows. The commit retires the old files and adds the new ones without changing data; readers of an older
version keep theirs until `Delta.clean`.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from trailhawk.errors import raised
from trailhawk.lake.delta import ConflictError, Delta, Staged, Transaction, UncommittedError
from trailhawk.lake.files import DamagedFileError
from trailhawk.lake.merging import SLICE_BYTES, rewritten
from trailhawk.lake.table import DAY, schema_mark, stored_names

COMPACT: Final = "compact"
"""Application id of whoever retires files."""

FILE_ROWS: Final = 1_000_000
"""A rewritten file holds about this many rows, more where the day would otherwise have too many files."""

CLOSED_FILES: Final = 3
"""The most files of a closed day: one holds what was there, the others what comes late, so that an arrival of
ten days back rewrites only those that came late before it."""

_NOT_TRIED: Final[Mapping[dt.date, tuple[str, ...]]] = {}
_DUE: Final = 3
"""Tried beside 2, 4 and 6: 100 equal appends write a row anew 4.2 times, where 4.0 is the least for who knows
what is to come."""
_LONE: Final = 256
"""A row that comes alone says little of what is to come: an append is taken to have at least this part of the
rows that are written anew with it."""
_MERGED: Final = 16
_MERGED_BYTES: Final = 192 * 1024 * 1024
"""The most files that are read beside each other: of each a row group is held as it is stored, some pages of
it unpacked, and a handle."""
_CLOSING: Final = dt.timedelta(hours=12)
_NOT_MUCH: Final = 4
_COMMITS: Final = 20
_TIER_FILES: Final = 8
_TIER_ROWS: Final = 5_000
"""Rows below which a file counts among the smallest; each tier up holds files eight times as large."""

_OPEN_WHOLE: Final = 16
"""Into about so many files of the largest size a growing day is cut: at most 16 of them and 8 of each of
the tiers below make an open day stay under 50."""


def care_date(now: dt.datetime) -> dt.date:
    """The day that care takes for today. From noon on it is the next one: yesterday is rewritten as closed
    before it is closed."""
    return (now + _CLOSING).date()


def to_fold(
    delta: Delta,
    coming: Mapping[dt.date, int],
    *,
    today: dt.date,
    damaged: Collection[str] = (),
    tried: Mapping[dt.date, tuple[str, ...]] = _NOT_TRIED,
    least: bool = False,
) -> dict[dt.date, tuple[str, ...]]:
    """For each closed day that rows come to: the files to write anew together with them (and to retire), so
    that the day stays at `CLOSED_FILES`. As of the state last looked at. Damaged files stay as they are.

    `tried` is what was chosen before another writer was faster: what still stands is chosen again, and else
    only what must be, so that who has much to write anew is not overtaken each time. With `least` all days
    get what must be.
    """
    late = {day: rows for day, rows in coming.items() if _is_closed(day, today)}
    days = _files_by_day(delta, damaged) if late else {}
    mark = schema_mark(stored_names(delta.table))
    chosen: dict[dt.date, tuple[str, ...]] = {}
    for day, rows in late.items():
        files, before = days.get(day, []), tried.get(day, ())
        still = len(files) - len(before) < CLOSED_FILES and {file.path for file in files}.issuperset(before)
        if before and still and not least:
            chosen[day] = before
        else:
            chosen[day] = _beside(files, rows, mark, least=least or bool(before))
    return {day: paths for day, paths in chosen.items() if paths}


def _beside(files: Sequence[_File], rows: int, mark: str, *, least: bool = False) -> tuple[str, ...]:
    """The files of a closed day to be written anew with so many rows: as many as must be, and the next larger
    one where it costs no more than to write these again and again, unless it is to be the `least`."""
    # A file of an older schema is left to `compact`, which knows what to do with its promoted paths; two
    # files of today's have room beside them meanwhile.
    plain = [file for file in files if file.path.rpartition("/")[2].startswith(mark)]
    bound = max(CLOSED_FILES, len(files) - len(plain) + 2)
    chosen: list[str] = []
    total = rows
    for file in sorted(plain, key=lambda file: file.rows):
        # A day that is not in order yet, or no more, is not put in order here: it only gets no more files.
        fits, level = len(files) - len(chosen) + 1 <= max(bound, len(files)), len(chosen)
        # n appends beside one file write n * n / 2 times their rows, and then once that file; beside two the
        # next larger one is due the more seldom.
        usual = max(rows, (total - rows) // _LONE)
        is_due = level and total ** (level + 1) >= _DUE * usual * file.rows**level
        if fits and (least or len(files) > bound or not is_due):
            break
        chosen.append(file.path)
        total += file.rows
    return tuple(chosen)


def compact_busy_days(
    delta: Delta,
    *,
    today: dt.date,
    days: Collection[dt.date] | None = None,
    told: Callable[[DamagedFileError], None] = raised,
) -> int:
    """Rewrite the days (all, or of these) that hold many small files; how many rewritings there were.

    A day is closed when the day after it is over. Looks at the table's newest state. `told` hears of each
    damaged file; it is left where it is, and the rest goes on.
    """
    if delta.refresh() < 0:
        return 0
    compacted = 0
    damaged: set[str] = set()
    files = _files_by_day(delta)
    for day in sorted(files if days is None else days):
        while plan := _plan(files.get(day, []), closed=_is_closed(day, today)):
            is_done = True
            try:
                is_done = compact(delta, day, plan.paths, file_rows=plan.file_rows)
                compacted += is_done
            except DamagedFileError as error:
                if not error.is_lasting or error.path in damaged:
                    raise
                if not delta.renew(error):
                    damaged.add(error.path)
                    told(error)
            # The state has moved on: what others have rewritten by now is seen.
            files = _files_by_day(delta, damaged)
            if not is_done:
                break
    return compacted


def _is_closed(day: dt.date, today: dt.date) -> bool:
    return day < today - dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Files to rewrite, and about how many rows a new one takes."""

    paths: list[str]
    file_rows: int


def _plan(files: Sequence[_File], *, closed: bool) -> _Plan | None:
    """What is to be rewritten next of a day; None if nothing."""
    chosen, file_rows = _closed_day(files) if closed else _open_day(files)
    chosen = sorted(chosen, key=lambda file: file.rows)
    held = list(accumulate(min(file.size, SLICE_BYTES) for file in chosen))
    count = min(_MERGED, max(2, bisect_right(held, _MERGED_BYTES)))
    return _Plan([file.path for file in chosen[:count]], file_rows) if chosen else None


def _closed_day(files: Sequence[_File]) -> tuple[list[_File], int]:
    """The files to rewrite as one, and their rows: the smallest, as many as must be that there is room for
    what comes late, and those that are not much larger than all of these together."""
    if len(files) <= CLOSED_FILES:
        return [], 0
    by_size = sorted(files, key=lambda file: file.rows)
    rows = 0
    for count, file in enumerate(by_size):
        if len(files) - count + 1 < CLOSED_FILES and file.rows > _NOT_MUCH * rows:
            return by_size[:count], rows
        rows += file.rows
    return by_size, rows


def _open_day(files: Sequence[_File]) -> tuple[list[_File], int]:
    """The lowest full tiers, as one: the files of the first tier that is full, and of those below it."""
    whole = max(FILE_ROWS, sum(file.rows for file in files) // _OPEN_WHOLE)
    tiers: dict[int, list[_File]] = defaultdict(list)
    for file in files:
        if file.rows < whole:
            tiers[_tier(file.rows)].append(file)
    full = [tier for tier, members in tiers.items() if len(members) > _TIER_FILES]
    if not full:
        return [], 0
    return [file for tier, members in tiers.items() if tier <= min(full) for file in members], whole


def _tier(rows: int) -> int:
    tier = 0
    while rows >= _TIER_ROWS * 8:
        rows //= 8
        tier += 1
    return tier


def compact(delta: Delta, day: dt.date, paths: Sequence[str], *, file_rows: int = FILE_ROWS) -> bool:
    """Rewrite files of one event day, as of the state last looked at; False where another process rewrote
    something in the same moment. A new file holds about `file_rows` rows, in today's schema; a path that was
    promoted since one of the files was written is left out, and read from its JSON text."""
    delta.widen()
    staged: list[Staged] = []
    try:
        staged += (
            delta.stage_sorted(slices, day)
            for slices in rewritten(delta.table, delta.file, paths, file_rows=file_rows)
        )
    except DamagedFileError:
        delta.discard(staged)
        delta.refresh()
        if set(paths) <= delta.live().keys():
            raise
        return False  # another process retired the files, and cleaned them away, since they were looked up
    except BaseException:
        delta.discard(staged)
        raise
    # Measured: delta-rs lets two commits retire the same files; a transaction of its own does not.
    for _ in range(_COMMITS):
        transaction = Transaction(COMPACT, delta.transaction(COMPACT) + 1)
        try:
            delta.commit(staged, remove=paths, moved=True, transaction=transaction)
        except ConflictError:
            if set(paths) <= delta.live().keys():
                continue  # others were retired: what was written still stands for these
            break
        except UncommittedError:
            delta.discard(staged)
            raise
        return True
    delta.discard(staged)
    return False


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    rows: int
    size: int = 0


def _files_by_day(delta: Delta, damaged: Collection[str] = ()) -> dict[dt.date, list[_File]]:
    """The live files of each day, without the damaged ones."""
    actions = delta.actions()
    days: dict[dt.date, list[_File]] = defaultdict(list)
    if actions is None:
        return days
    names = (f"partition.{DAY}", "path", "num_records", "size_bytes")
    for day, path, rows, size in zip(*(actions[name].to_pylist() for name in names), strict=True):
        if not damaged or str(delta.root / path) not in damaged:
            days[day].append(_File(path, rows or 0, size))
    return days
