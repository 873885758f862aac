"""Whether all that is stored can be read: every live file is read through, and rows that are there twice are
found. What is sound of a file can be written anew."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trailhawk.kql.schema import INGESTION_TIME
from trailhawk.lake.delta import Delta, Staged
from trailhawk.lake.files import DamagedFileError, opened
from trailhawk.lake.merging import repeating
from trailhawk.lake.seen import read_hashes, repeated
from trailhawk.lake.table import DAY, ID, OBJECT, PAYLOAD, schema_mark, stored_schema

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Damage:
    """A live file that cannot be read through. `path` is that in the table, `file` where it or a copy lies.

    Rows and event times (without zone) are as the table's log has them; `readable` of the rows stand in row
    groups that can be read, whose numbers are `sound`.
    """

    table: str
    day: dt.date
    path: str
    file: str
    rows: int
    readable: int
    first: dt.datetime
    last: dt.datetime
    reason: str
    sound: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Doubled:
    """Rows of a live file that stand in their day once more, equal, and were ingested there before: which of
    each row group."""

    table: str
    day: dt.date
    path: str
    file: str
    rows: int
    groups: Mapping[int, Mask] = field(repr=False)


def damages(
    delta: Delta,
    *,
    renewed: Callable[[str], None] = lambda _: None,
    looked: Callable[[], None] = lambda: None,
) -> Iterator[Damage]:
    """The live files of a table's newest state that cannot be read through; `looked` is called after each.

    A copy of a bucket's file that cannot is made anew, and `renewed` told where it is. An error that is not
    the file's own goes through.
    """
    delta.refresh()
    actions = delta.actions()
    if actions is None:
        return
    time = delta.table.time_column
    names = ("path", f"partition.{DAY}", "size_bytes", "num_records", f"min.{time}", f"max.{time}")
    for path, day, *said in zip(*(actions[name].to_pylist() for name in names), strict=True):
        logged = _Logged(path, *said)
        sound, error = _sound(delta, logged)
        if error is not None and delta.renew(error):
            renewed(error.path)
            sound, error = _sound(delta, logged)
        looked()
        if error is not None:
            midnight = dt.datetime.combine(day, dt.time())
            yield Damage(
                table=delta.table.name,
                day=day,
                path=path,
                file=error.path,
                rows=logged.rows or 0,
                readable=sum(sound.values()),
                first=logged.first.replace(tzinfo=None) if logged.first else midnight,
                last=logged.last.replace(tzinfo=None) if logged.last else midnight + dt.timedelta(days=1),
                reason=error.reason,
                sound=tuple(sound),
            )


@dataclass(frozen=True, slots=True)
class _Logged:
    """What the table's log says of a file."""

    path: str
    size: int
    rows: int | None
    first: dt.datetime | None
    last: dt.datetime | None


def _sound(delta: Delta, logged: _Logged) -> tuple[dict[int, int], DamagedFileError | None]:
    """The row groups of a file that can be read, with their rows, and why others cannot."""
    import pyarrow as pa

    sound: dict[int, int] = {}
    error: DamagedFileError | None = None
    try:
        place = delta.file(logged.path)
        with opened(place) as file:
            if said := _other(delta, logged, place.stat().st_size, file):
                raise DamagedFileError(place, said)
            for group in range(file.num_row_groups):
                try:
                    said = _read_through(file, group, delta.table.time_column, logged)
                    if said:
                        raise DamagedFileError(place, said)
                except pa.ArrowMemoryError:
                    raise
                except DamagedFileError as fault:
                    error = error or fault
                except (pa.ArrowException, OSError, OverflowError) as fault:  # the last: of a bound
                    error = error or DamagedFileError(place, fault)
                else:
                    sound[group] = file.metadata.row_group(group).num_rows
    except DamagedFileError as fault:
        sound, error = {}, fault
    if error is not None and not error.is_lasting:
        raise error
    return sound, error


def _other(delta: Delta, logged: _Logged, size: int, file: pq.ParquetFile) -> str:
    """Why a file is not the one that was written, as its length and its footer say; '' if it is."""
    if size != logged.size:
        return f"it has {size:,} bytes, {logged.size:,} were written"
    if file.metadata.num_rows != (logged.rows or 0):
        return f"it has {file.metadata.num_rows:,} rows, {logged.rows or 0:,} were written"
    found = file.schema_arrow
    if schema_mark(frozenset(found.names)) != PurePosixPath(logged.path).name.partition("-")[0]:
        return "its columns are not those that were written"
    wanted = stored_schema(delta.table)
    kinds = {name: wanted.field(name).type for name in wanted.names}
    for column in found:
        if kinds.get(column.name, column.type) != column.type:
            return f"its column {column.name} is of another type than was written"
    return ""


def _read_through(file: pq.ParquetFile, group: int, time: str, logged: _Logged) -> str:
    """Read a row group. What in it is otherwise than the footer or the table's log says; '' for nothing."""
    import pyarrow.compute as pc

    # Column by column, and these in pieces: a row group may be large when it is unpacked.
    promised = file.metadata.row_group(group)
    for place, name in enumerate(file.schema_arrow.names):
        rows, bounds = 0, []
        for batch in file.iter_batches(row_groups=[group], columns=[name], use_threads=False):
            rows += batch.num_rows
            if name == time:
                bounds += [at for at in pc.min_max(batch.column(0)).as_py().values() if at is not None]
        if rows != promised.num_rows:
            return f"its column {name} has {rows:,} rows where {promised.num_rows:,} were written"
        if not bounds:
            continue
        first, last = min(bounds), max(bounds)
        known = promised.column(place).statistics
        if known is not None and known.has_min_max and (known.min, known.max) != (first, last):
            return f"its {name} is not within the bounds that it gives"
        if (logged.first and first < logged.first.replace(tzinfo=None)) or (
            logged.last and last > logged.last.replace(tzinfo=None)
        ):
            return f"its {name} is not within the bounds that were written"
    return ""


def doubled(delta: Delta, *, without: Collection[str] = ()) -> Iterator[Doubled]:
    """The rows of a table's newest state that are stored twice, by file; files at the paths in `without` are
    not read."""
    delta.refresh()
    days: dict[str, list[str]] = defaultdict(list)
    for path in sorted(delta.live().keys() - set(without)):
        days[path.rpartition("/")[0]].append(path)
    for folder, paths in sorted(days.items()):
        if repeated(*read_hashes(map(delta.file, paths)))[0].any():
            day = dt.date.fromisoformat(folder.partition("=")[2])
            for path, groups in _doubled(delta, paths).items():
                rows = sum(int(mask.sum()) for mask in groups.values())
                yield Doubled(delta.table.name, day, path, str(delta.root / path), rows, groups)


def _doubled(delta: Delta, paths: list[str]) -> dict[str, dict[int, Mask]]:
    """For each of these files of a day, by row group, the rows that were stored before."""
    import pyarrow as pa

    parts: list[pa.Table] = []
    groups: list[tuple[str, int]] = []
    for path in paths:
        with opened(delta.file(path)) as file:
            for group in range(file.num_row_groups):
                parts.append(file.read_row_group(group, columns=[ID, PAYLOAD, INGESTION_TIME]))
                groups.append((path, group))
    rows = pa.concat_tables(parts)
    known = np.flatnonzero(rows[ID].is_valid().to_numpy(zero_copy_only=False))
    known = known[np.argsort(rows[INGESTION_TIME].to_numpy()[known], kind="stable")]
    ids, payloads = (rows[name].fill_null(0).to_numpy()[known] for name in (ID, PAYLOAD))
    again = np.zeros(rows.num_rows, bool)
    again[known] = repeated(ids, payloads)[0]
    found: dict[str, dict[int, Mask]] = defaultdict(dict)
    ends = np.cumsum([part.num_rows for part in parts])
    for (path, group), mask in zip(groups, np.split(again, ends[:-1]), strict=True):
        found[path][group] = mask
    return {path: masks for path, masks in found.items() if any(mask.any() for mask in masks.values())}


@dataclass(frozen=True, slots=True)
class Held:
    """The rows of an object in a table, and their event times (without zone)."""

    rows: int
    first: dt.datetime
    last: dt.datetime


def held(delta: Delta, *, sound: Mapping[str, Sequence[int]]) -> dict[str, Held]:
    """What a table holds of each object, as of the state last looked at; of the files at the paths in `sound`
    in these row groups alone."""
    time = delta.table.time_column
    names = (OBJECT, f"{time}_count", f"{time}_min", f"{time}_max")
    found: dict[str, Held] = {}
    for rows in _row_groups(delta, [OBJECT, time], sound):
        made = rows.group_by(OBJECT).aggregate([(time, "count"), (time, "min"), (time, "max")])
        for key, count, first, last in zip(*(made[name].to_pylist() for name in names), strict=True):
            known = found.get(key, Held(0, first, last))
            found[key] = Held(count + known.rows, min(first, known.first), max(last, known.last))
    return found


def counted(delta: Delta, *, sound: Mapping[str, Sequence[int]]) -> pa.Table:
    """How many rows a table holds of each object, as `held`: columns `Object` and `Rows`."""
    import pyarrow as pa

    parts = [pa.table({"Object": pa.array([], pa.string()), "Rows": pa.array([], pa.int64())})]
    for rows in _row_groups(delta, [OBJECT], sound):
        made = rows.group_by(OBJECT).aggregate([([], "count_all")])
        parts.append(pa.table({"Object": made[OBJECT].cast(pa.string()), "Rows": made["count_all"]}))
    made = pa.concat_tables(parts).group_by("Object").aggregate([("Rows", "sum")])
    return made.rename_columns(["Object", "Rows"])


def _row_groups(delta: Delta, columns: list[str], sound: Mapping[str, Sequence[int]]) -> Iterator[pa.Table]:
    """These columns of the row groups of the live files; of the files at the paths in `sound` of these."""
    for path in sorted(delta.live()):
        if path in sound and not sound[path]:
            continue
        with opened(delta.file(path), dictionaries=[OBJECT]) as file:
            for group in sound.get(path, range(file.num_row_groups)):
                yield file.read_row_group(group, columns=columns, use_threads=False)


def rewritten(delta: Delta, day: dt.date, path: str, keep: Mapping[int, Mask | None]) -> tuple[Staged, ...]:
    """A new file of a live one's row groups in `keep`, of each these rows or all; nothing where none is left.
    Commits nothing."""

    def parts() -> Iterator[pa.Table]:
        import pyarrow as pa

        with opened(delta.file(path)) as file:
            dictionaries = sorted(repeating(file))
        with opened(delta.file(path), dictionaries=dictionaries) as file:
            for group, mask in sorted(keep.items()):
                rows = file.read_row_group(group, use_threads=False)
                yield (rows if mask is None else rows.filter(pa.array(mask))).unify_dictionaries()

    keep = {group: mask for group, mask in keep.items() if mask is None or mask.any()}
    return (delta.stage_sorted(parts(), day),) if keep else ()
