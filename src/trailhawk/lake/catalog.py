"""The lake: which tables there are, and which files hold them now."""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from trailhawk.errors import NotFoundError
from trailhawk.kql.schema import INGESTION_TIME, Table
from trailhawk.lake.delta import Delta
from trailhawk.lake.files import opened
from trailhawk.lake.known import Known
from trailhawk.lake.storage import S3, Storage, storage
from trailhawk.lake.table import DAY, DataFile, Found, Part, schema_mark, stored_names

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from trailhawk.kql.plan import Need
    from trailhawk.lake.terms import Terms, Wanted

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UNKNOWN_LOW, _UNKNOWN_HIGH = -(2**63), 2**63 - 1
_MOST_INDEXES = 10_000
_SAMPLES = 8

EXPORT = "export"
"""The Delta application whose version is the last sequence number taken over from the state database."""


class Snapshot:
    """One version of a table: its files and their time ranges. `version` is -1 where nothing is stored."""

    def __init__(
        self,
        table: Table,
        storage: Storage,
        version: int,
        actions: pa.Table | None,
        marks: _Marks,
        indexes: _Indexes,
        *,
        exported: int = 0,
    ) -> None:
        self.table = table
        self.version = version
        self.exported = exported
        """For a table filled from the state database: the last sequence number that is in the lake."""
        self._storage = storage
        self._marks = marks
        self._indexes = indexes
        self._paths: list[str] = [] if actions is None else actions["path"].to_pylist()
        self._rows: list[int | None] = [] if actions is None else actions["num_records"].to_pylist()
        self._sizes: list[int] = [] if actions is None else actions["size_bytes"].to_pylist()
        self._files: dict[int, DataFile] = {}
        if actions is None:
            return
        self._first = _bounds(actions, f"min.{table.time_column}", _UNKNOWN_LOW)
        self._last = _bounds(actions, f"max.{table.time_column}", _UNKNOWN_HIGH)
        self._ingested_first = _bounds(actions, f"min.{INGESTION_TIME}", _UNKNOWN_LOW)
        self._ingested_last = _bounds(actions, f"max.{INGESTION_TIME}", _UNKNOWN_HIGH)
        self._order = self._first.argsort(kind="stable")

    @property
    def rows(self) -> int:
        """How many rows the table holds, as its log says."""
        return sum(count or 0 for count in self._rows)

    def files(
        self, since: dt.datetime | None = None, until: dt.datetime | None = None, *, fetch: bool = True
    ) -> tuple[DataFile, ...]:
        """The files that may hold rows with an event time in [since, until), ordered by their first row.

        They can be read at once; without `fetch` only what is told of them can be used.
        """
        if not self._paths:
            return ()
        order = self._order
        if since is not None:
            order = order[self._last[order] >= _micros(since)]
        if until is not None:
            order = order[self._first[order] < _micros(until)]
        wanted = order.tolist()
        if fetch:
            self._storage.fetch(path for path in (unquote(self._paths[at]) for at in wanted) if _own(path))
        return tuple(map(self._file, wanted))

    def look(self, files: Sequence[DataFile], need: Need) -> Found:
        """What of these files may hold rows with what is needed, by the index over their terms."""
        from trailhawk.lake.terms import Wanted

        wanted = Wanted(need)
        if _is_everywhere(self._indexes, files, wanted):
            return Found(tuple(map(Part, files)))
        parts: list[Part] = []
        groups = skipped = 0
        for file in files:
            terms = self._indexes.of(file)
            if terms is None:
                parts.append(Part(file))
                continue
            kept = [group for group, may in enumerate(terms.look(range(terms.groups), wanted, file)) if may]
            groups += terms.groups
            skipped += terms.groups - len(kept)
            if len(kept) == terms.groups:
                parts.append(Part(file))
            elif kept:
                spans = _joined([terms.span(group) for group in kept])
                parts.append(Part(file, spans, len(kept) / terms.groups))
        return Found(tuple(parts), groups, skipped)

    def _file(self, index: int) -> DataFile:
        file = self._files.get(index)
        if file is None:
            path = unquote(self._paths[index])
            whole = str(self._storage.root / path) if _own(path) else path
            file = self._files[index] = DataFile(
                path=whole,
                rows=self._rows[index] or 0,
                size=self._sizes[index],
                columns=self._marks.columns(whole, lambda: self._storage.fetch([path])),
                first=_moment(self._first[index]),
                last=_moment(self._last[index]),
                ingested_first=_moment(self._ingested_first[index]),
                ingested_last=_moment(self._ingested_last[index]),
            )
        return file


class Lake:
    """Tables at rest in one folder or bucket, one Delta table each. Safe to use from several threads.

    `root` is the folder of the files, or of the copies of a bucket's. A table that is `known` and not there
    has gone: LakeError for who reads it or writes to it.
    """

    def __init__(self, place: Path | S3, tables: Iterable[Table], *, known: Known | None = None) -> None:
        self._place = place
        self.root = root = place if isinstance(place, Path) else place.cache
        self._tables = {table.name: table for table in tables}
        self._deltas: dict[str, Delta] = {}
        self._known = Known() if known is None else known
        self._snapshots: dict[str, Snapshot] = {}
        self._marks = {name: _Marks(table) for name, table in self._tables.items()}
        self._indexes = {name: _Indexes(root / name) for name in self._tables}
        self._lock = threading.RLock()

    def table(self, name: str) -> Table | None:
        """The table of this very name."""
        return self._tables.get(name)

    def table_names(self) -> tuple[str, ...]:
        return tuple(self._tables)

    def delta(self, name: str) -> Delta:
        """The Delta table behind a table; NotFoundError if the lake does not know the name."""
        with self._lock:
            if name not in self._tables:
                raise NotFoundError(
                    f"no table {name!r} in the lake", hint=f"there is {', '.join(self._tables)}"
                )
            if name not in self._deltas:
                self._deltas[name] = Delta(storage(self._place, name), self._tables[name], known=self._known)
            return self._deltas[name]

    def apart(self) -> Lake:
        """The same lake with a view of its own: a writer commits from the state it has checked, which a
        reader in another thread must not move on."""
        return Lake(self._place, self._tables.values(), known=self._known)

    def snapshot(self, name: str) -> Snapshot:
        """The state of the table now; empty where nothing was stored yet."""
        delta = self.delta(name)
        with self._lock:
            version = delta.refresh()
            known = self._snapshots.get(name)
            if known is None or known.version != version:
                known = Snapshot(
                    self._tables[name],
                    delta.storage,
                    version,
                    delta.actions(),
                    self._marks[name],
                    self._indexes[name],
                    exported=delta.transaction(EXPORT),
                )
                self._snapshots[name] = known
            return known


class _Marks:
    """The columns of a data file by the mark in its name; a file of another schema is opened once a mark,
    a file without mark (another engine wrote it) once a file."""

    def __init__(self, table: Table) -> None:
        names = stored_names(table)
        self._columns = {schema_mark(names): frozenset(names)}

    def columns(self, path: str, fetch: Callable[[], None]) -> frozenset[str]:
        name = path.rpartition("/")[2]
        key = name[:8] if len(name) == 8 + 1 + 32 + len(".parquet") and name[8] == "-" else path
        if key not in self._columns:
            fetch()
            with opened(path) as file:
                names: list[str] = file.schema_arrow.names
            self._columns[key] = frozenset(names) - {DAY}
        return self._columns[key]


class _Indexes:
    """The indexes of a table's data files; the last used are kept. For several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._terms: OrderedDict[str, Terms | None] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, file: DataFile) -> Terms | None:
        """The index of a data file; None where it has none that can be read."""
        from trailhawk.lake.terms import Terms, terms_path

        with self._lock:
            if file.path in self._terms:
                self._terms.move_to_end(file.path)
                return self._terms[file.path]
        found = Terms.open(terms_path(self._root, file.path))
        with self._lock:
            self._terms[file.path] = found
            if len(self._terms) > _MOST_INDEXES:
                self._terms.popitem(last=False)
        return found


def _is_everywhere(indexes: _Indexes, files: Sequence[DataFile], wanted: Wanted) -> bool:
    """Do a few row groups, here and there, all seem to hold it? Then looking into each is not worth while."""
    first = indexes.of(files[0]) if files else None
    if first is None or len(files) * first.groups < 2 * _SAMPLES:
        return False
    for sample in range(_SAMPLES):
        place = (sample + 0.5) * len(files) / _SAMPLES
        file = files[int(place)]
        terms = indexes.of(file)
        if terms is not None and not all(terms.look([int(place % 1 * terms.groups)], wanted, file)):
            return False
    return True


def _joined(spans: Sequence[tuple[int, int]]) -> tuple[tuple[dt.datetime, dt.datetime], ...]:
    """Spans of time in microseconds, those that touch as one."""
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(
        (_EPOCH + dt.timedelta(microseconds=first), _EPOCH + dt.timedelta(microseconds=last))
        for first, last in joined
    )


def _own(path: str) -> bool:
    """Whether a path of the log lies below the table, as ours do."""
    return "://" not in path and not path.startswith("/")


def _bounds(actions: pa.Table, name: str, unknown: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A statistics column as microseconds since 1970, with a value beyond every time where it is missing."""
    import numpy as np
    import pyarrow as pa

    if name not in actions.column_names:
        return np.full(actions.num_rows, unknown, dtype=np.int64)
    times = actions[name]
    if not pa.types.is_timestamp(times.type) or times.type.unit != "us":
        times = times.cast(pa.timestamp("us"))
    # Seen as numbers, not cast: casts load pyarrow.compute and `to_numpy` pandas, 0.2 s for a list of files.
    ticks = (tick for chunk in times.chunks for tick in chunk.view(pa.int64()).to_pylist())
    return np.array([unknown if tick is None else tick for tick in ticks], dtype=np.int64)


def _micros(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


def _moment(micros: np.int64) -> dt.datetime | None:
    value = int(micros)
    return None if value in (_UNKNOWN_LOW, _UNKNOWN_HIGH) else _EPOCH + dt.timedelta(microseconds=value)
