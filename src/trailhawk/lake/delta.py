"""One Delta table: stage Parquet files, commit them with an application transaction, list what is live.

Files are written first and become visible by the commit alone, so a process that dies before the commit
leaves only garbage that `clean` removes. Two writers that look for duplicates must not both commit from
the same version: `Transaction` makes the later one fail with `ConflictError`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from trailhawk.errors import LakeError
from trailhawk.kql.schema import Table
from trailhawk.lake.files import DamagedFileError, seal
from trailhawk.lake.known import Known
from trailhawk.lake.merging import merged
from trailhawk.lake.storage import Folder, Storage
from trailhawk.lake.table import (
    DAY,
    ID,
    picked,
    schema_mark,
    statistics,
    stored_schema,
    text_columns,
    trimmed,
)
from trailhawk.lake.terms import TermsWriter, terms_path
from trailhawk.lake.terms import clean as clean_terms

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable, Field

ROW_GROUP_ROWS = 122_880  # DuckDB reads row groups in parallel; this is its own size
ZSTD_LEVEL = 1  # measured on sorted CloudTrail rows: a third faster than 3, and not larger
_ENCODED_ROWS = 8_192  # at a time: a tenth faster than the usual 1,024, and a page stays about 1 MB
_ROW_GROUP_BYTES = 128 * 1024 * 1024
_ENCODED_BYTES = 16 * 1024 * 1024
"""Of rows of a kilobyte or two neither matters; a row may have megabytes, and a page is held whole."""
_SAMPLE_ROWS = 2_000
_MAX_TEXT_STATISTIC = 64
_NOTE = "trailhawk"
_COMMIT_RETRIES = 50
_COLOURS = re.compile("\x1b\\[[0-9;]*m")
_MAX_REASON = 400
_CHECKPOINT = (
    "_last_checkpoint only says where to begin to read: move it away, and the checkpoint if that is damaged,"
    " and the log is read from its commits, where they are all there"
)
_SETTINGS = "see [lake] in trailhawk.toml"


class ConflictError(LakeError):
    """Another writer committed since the version this commit was prepared from."""

    kind = "conflict"


class LogError(LakeError):
    """The log of one table, at `path`, is damaged or has gone; nothing is said of other tables."""

    def __init__(self, table: str, path: str, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.table, self.path = table, path


class UncommittedError(LakeError):
    """A commit that could not be written, and that nobody has: its staged files may go."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A written file that no commit names yet. `path` is relative to the table, `stats` is Delta's JSON."""

    path: str
    size: int
    rows: int
    day: str
    stats: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Transaction:
    """An application's mark on a table: commits of one application carry rising versions."""

    application: str
    version: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that carries a note of ours."""

    version: int
    note: Mapping[str, Any]


class Delta:
    """The Delta table of one `Table` in one place. Safe to use from several threads.

    `root` is the folder of its files or of their copies; `file` gives one that can be read. A table that is
    `known` and not there has gone: it is not made anew, nor taken for an empty one.
    """

    def __init__(self, place: Path | Storage, table: Table, *, known: Known | None = None) -> None:
        self.storage: Storage = Folder(place) if isinstance(place, Path) else place
        self.root = self.storage.root
        self.table = table
        self._known = Known() if known is None else known
        self._delta: DeltaTable | None = None
        self._is_whole = False
        """Whether the table is known to have all columns."""
        self._renewed: set[str] = set()
        self._lock = threading.RLock()

    # Reading

    def refresh(self) -> int:
        """Look at the newest state of the table; its version, or -1 where there is no table yet. LogError
        where there was one when it was last looked for, or its log is damaged."""
        with self._lock, self._reading():
            is_known = self.table.name in self._known  # asked first: another thread may be creating it
            if self._delta is None:
                self._delta = self._open()
            elif not self.storage.is_newest(self.version) and self.storage.has_log():
                self._delta.update_incremental()
            if self._delta is not None:
                self._known.add(self.table.name)
            elif is_known:
                raise self._gone()
            return self.version

    @property
    def version(self) -> int:
        """The version last looked at."""
        return -1 if self._delta is None else self._delta.version()

    def transaction(self, application: str) -> int:
        """The application's version in the state last looked at, 0 if it never committed."""
        with self._reading():
            return 0 if self._delta is None else self._delta.transaction_version(application) or 0

    def actions(self) -> pa.Table | None:
        """The live files of the state last looked at, one a row, with flat statistics columns."""
        import pyarrow as pa

        with self._lock, self._reading():
            if self._delta is None:
                return None
            # Not `pa.table`, which asks first whether it is a pandas frame and for that loads pandas.
            return pa.RecordBatchReader.from_stream(self._delta.get_add_actions(flatten=True)).read_all()

    def live(self, days: Iterable[dt.date] | None = None) -> dict[str, int]:
        """Paths (relative) of the live files and their row counts, of the given event days or of all."""
        actions = self.actions()
        if actions is None:
            return {}
        paths, rows = actions["path"].to_pylist(), actions["num_records"].to_pylist()
        wanted = None if days is None else set(days)
        partitions = actions[f"partition.{DAY}"].to_pylist()
        return {
            path: count or 0
            for path, count, day in zip(paths, rows, partitions, strict=True)
            if wanted is None or day in wanted
        }

    def file(self, path: str) -> Path:
        """A data file, by its path in the table, where it can be read now."""
        self.storage.fetch([path])
        return self.root / path

    def renew(self, error: DamagedFileError) -> bool:
        """Whether a file that could not be read was a copy, which is made anew; once for each file."""
        if error.path in self._renewed:
            return False
        self._renewed.add(error.path)
        return self.storage.renew(str(Path(error.path).relative_to(self.root)))

    def notes(self, after: int) -> list[Commit]:
        """The notes of the commits after a version, oldest first, up to the version last looked at."""
        with self._lock:
            if self._delta is None or self.version <= after:
                return []
            last = self.version
            with self._reading():
                history = self._delta.history(last - after)
        # Newest first, from the log as it is by now: it may hold commits we have not looked at, and then the
        # numbers that delta-rs gives the entries are wrong. The oldest entry is that after `after`.
        numbers = range(after + 1, after + 1 + len(history))
        if len(history) < last - after:  # the log's beginning was cleaned away
            numbers = range(last - len(history) + 1, last + 1)
        commits = (
            Commit(number, cast("dict[str, Any]", json.loads(entry[_NOTE])))
            for number, entry in zip(numbers, reversed(history), strict=True)
            if _NOTE in entry and number <= last
        )
        return sorted(commits, key=lambda commit: commit.version)

    # Writing

    def create(self) -> None:
        """Make the table if there is none, give it the columns that it lacks, and look at it.

        LogError where there was one and it has gone: on a disk that is not mounted any more, say, a second
        lake would begin below its place, and hide in its turn.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        with self._lock:
            is_there = self.refresh() >= 0
            if is_there and not self._has_stayed():
                raise self._gone()
            if is_there:
                self.widen()
                return
            import pyarrow as pa

            self.root.mkdir(parents=True, exist_ok=True)
            schema = stored_schema(self.table).append(pa.field(DAY, pa.date32()))
            try:
                DeltaTable.create(
                    self.storage.uri,
                    schema,
                    storage_options=self.storage.options,
                    mode="ignore",
                    partition_by=[DAY],
                    name=self.table.name,
                    configuration={"delta.dataSkippingStatsColumns": ",".join(statistics(self.table))},
                )
            except (DeltaError, OSError) as error:
                # Another process made it in the same moment; if not, the next look fails.
                if self.refresh() < 0:
                    raise LakeError(f"cannot create table {self.table.name}: {_reason(error)}") from error
            self._delta = None
            if self.refresh() < 0:
                raise LakeError(f"cannot create table {self.table.name} in {self.storage.uri}")
            self.widen()  # who made it in the same moment may know fewer columns

    def widen(self) -> None:
        """Give a table that an older version of Trailhawk made the columns that came since, in one commit.

        Rows that are there have NULL in them for other engines. May look at a newer state. Other writers that
        are about to commit get a ConflictError.
        """
        from deltalake.exceptions import CommitFailedError, DeltaError

        with self._lock:
            while self._delta is not None and not self._is_whole:
                version = self.version
                try:
                    if missing := self._missing(self._delta):
                        self._delta.alter.add_columns(missing)
                    self._is_whole = True
                except (DeltaError, OSError) as error:
                    self._delta = None
                    if not isinstance(error, CommitFailedError) or self.refresh() == version:
                        raise LakeError(
                            f"table {self.table.name} cannot be given its new columns: {_reason(error)}"
                        ) from error

    def stage(
        self, rows: pa.Table, *, onto: Mapping[dt.date, Sequence[str]] | None = None
    ) -> tuple[Staged, ...]:
        """Write rows (columns of `stored_schema`) as one file an event day, sorted by time; commit nothing.

        A day in `onto` gets the rows of these live files as well, which have the same columns; the commit is
        to retire them. Rows without event time are the caller's mistake: LakeError.
        """
        import numpy as np

        if not rows.num_rows:
            return ()
        time = self.table.time_column
        if rows[time].null_count:
            raise LakeError(f"rows of {self.table.name} without {time}: {rows[time].null_count}")
        times = rows[time].to_numpy()
        if np.any(times[1:] < times[:-1]):
            rows = picked(rows, np.argsort(times, kind="stable"))
            times = rows[time].to_numpy()
        days = times.astype("datetime64[D]")
        found, starts = np.unique(days, return_index=True)
        ends = [*starts[1:], len(days)]
        staged: list[Staged] = []
        try:
            for day, start, end in zip(found, starts.tolist(), ends, strict=True):
                part = rows.slice(start, end - start)
                paths = (onto or {}).get(day.item(), ())
                parts = merged(self.table, self.file, paths, part) if paths else [part]
                staged.append(self.stage_sorted(parts, day.item()))
        except BaseException:
            self.discard(staged)
            raise
        return tuple(staged)

    def stage_sorted(self, parts: Iterable[pa.Table], day: dt.date) -> Staged:
        """Write rows of one event day, sorted and in parts (at least one), as one file; commit nothing.

        What could not be written to its end is removed: a full disk is not filled with it.
        """
        parts = map(trimmed, parts)
        first = next(parts)
        schema, layout = first.schema, _Layout.of(first)
        parts = chain((first,), parts)
        del first  # else it would be held beside each of the others
        path = f"{DAY}={day}/{schema_mark(frozenset(schema.names))}-{uuid.uuid4().hex}.parquet"
        target = self.root / path
        try:
            return self._staged(parts, schema, layout, day, path)
        except BaseException as error:
            target.unlink(missing_ok=True)
            terms_path(self.root, path).unlink(missing_ok=True)
            if isinstance(error, OSError) and not error.filename:
                error.filename = str(target)
            raise

    def _staged(
        self, parts: Iterable[pa.Table], schema: pa.Schema, layout: _Layout, day: dt.date, path: str
    ) -> Staged:
        import pyarrow.parquet as pq

        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        stats = _Statistics(statistics(self.table))
        texts = text_columns(schema)
        # The least and the greatest of texts in no order rule out nothing, and cost a seventh of the writing.
        unordered = set(texts).difference(self.table.statistics)
        terms = TermsWriter(texts, layout.repetitive, self.table.time_column)
        with target.open("w+b") as file:
            with pq.ParquetWriter(
                file,
                schema,
                compression="zstd",
                compression_level=ZSTD_LEVEL,
                use_dictionary=layout.repetitive,
                write_statistics=[name for name in schema.names if name not in unordered],
                write_batch_size=layout.encoded_rows,
                max_rows_per_page=ROW_GROUP_ROWS,  # bytes alone part pages: each costs a start of Zstandard's
                write_page_checksum=True,  # decompression alone lets some rot through
                store_schema=False,  # else a reader of Arrow would see dictionaries where text is stored
            ) as writer:
                for part in parts:
                    stats.add(part)
                    group_rows = _within(part, ROW_GROUP_ROWS, _ROW_GROUP_BYTES)
                    terms.add(part, group_rows)
                    writer.write_table(part, row_group_size=group_rows)
                    del part  # before the next one is made
            seal(file)
            file.flush()
            os.fsync(file.fileno())
        size = target.stat().st_size
        self.storage.publish(path)
        terms.write(terms_path(self.root, path), data_size=size)
        return Staged(path, size, stats.rows, str(day), stats.to_json())

    def discard(self, staged: Iterable[Staged]) -> None:
        """Remove staged files that will not be committed; what cannot be removed is left to `clean`."""
        for file in staged:
            with suppress(OSError, LakeError):
                self.storage.remove(file.path)
                terms_path(self.root, file.path).unlink(missing_ok=True)

    def commit(
        self,
        add: Sequence[Staged],
        *,
        remove: Sequence[str] = (),
        moved: bool = False,
        transaction: Transaction | None = None,
        also: Transaction | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> int:
        """Make staged files live (and retire others) from the version last looked at; the new version.

        With `moved` the same rows are in other files from now on, and nothing else changes.
        ConflictError if another writer raised the same application's version meanwhile, or if a file to
        remove is not live; UncommittedError where the log cannot be written to. After any other LakeError the
        commit may have been done or not. Who removes files needs a transaction: two commits that retire the
        same file at once are not told apart otherwise; `also` is one more.
        """
        from deltalake import CommitProperties
        from deltalake import Transaction as DeltaTransaction
        from deltalake.exceptions import CommitFailedError, DeltaError
        from deltalake.transaction import AddAction, RemoveAction

        with self._lock:
            if self._delta is None:
                raise LakeError(f"table {self.table.name} does not exist")
            # delta-rs does not ask: a file retired before the state last looked at would be retired again,
            # and its rows come twice.
            if remove and not set(remove) <= self.live().keys():
                raise ConflictError(f"table {self.table.name}: a file to retire is retired already")
            now_ms = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
            actions: list[AddAction | RemoveAction] = [
                AddAction(file.path, file.size, {DAY: file.day}, now_ms, not moved, file.stats)
                for file in add
            ]
            actions += [
                RemoveAction(
                    path=path,
                    deletion_timestamp=now_ms,
                    data_change=not moved,
                    partition_values={DAY: path.partition("=")[2].partition("/")[0]},
                )
                for path in remove
            ]
            transactions = [
                DeltaTransaction(each.application, each.version) for each in (transaction, also) if each
            ]
            try:
                self._delta.create_write_transaction(
                    actions,
                    "append",
                    self._delta.schema(),
                    partition_by=[DAY],
                    commit_properties=CommitProperties(
                        custom_metadata={_NOTE: json.dumps(note)} if note is not None else None,
                        app_transactions=transactions or None,
                        max_commit_retries=_COMMIT_RETRIES,
                    ),
                )
            except CommitFailedError as error:
                seen = self.version
                self._delta = None
                self.refresh()
                # A store that took the commit and did not say so is asked again, and then says that another
                # has it: that other is this one.
                if self._is_committed(add, note, after=seen):
                    return self.version
                raise ConflictError(f"table {self.table.name}: {error}") from error
            except (DeltaError, OSError) as error:
                seen = self.version
                self._delta = None
                self.refresh()
                if self._is_committed(add, note, after=seen):
                    return self.version
                # A store may still carry out what it was asked for; a folder does not.
                kind = UncommittedError if self.storage.is_local else LakeError
                said = f"table {self.table.name} in {self.storage.uri} cannot be written: {_reason(error)}"
                raise kind(said) from error
            self.refresh()
            self.storage.keep(self.version, [file.path for file in add])
            return self.version

    def clean(self, *, older_than: dt.timedelta) -> int:
        """Delete files that no version of the last `older_than` (at least a day) names; how many.

        Also those that a killed process left. Followers of another table are to be settled first.
        """
        from deltalake.exceptions import DeltaError

        with self._lock:
            if self.refresh() < 0 or self._delta is None:
                return 0
            hours = max(24, int(older_than.total_seconds() // 3600))
            try:
                removed = self._delta.vacuum(
                    hours, dry_run=False, enforce_retention_duration=False, full=True
                )
            except (DeltaError, OSError) as error:
                said = f"table {self.table.name} in {self.storage.uri} cannot be cleared: {_reason(error)}"
                raise LakeError(said) from error
            clean_terms(self.root)
            return len(removed)

    # Parts

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Where delta-rs cannot read the log, which it does piece by piece, LakeError says why; LogError
        where the log itself is at fault."""
        from deltalake.exceptions import DeltaError

        try:
            yield
        except (DeltaError, OSError) as error:
            reason, log = _reason(error), self._log
            message = f"the log of table {self.table.name} cannot be read: {reason}"
            if isinstance(error, OSError):  # it names the file that could not be asked for
                raise LakeError(message, hint="" if self.storage.is_local else _SETTINGS) from error
            hint = f"{log}/{_CHECKPOINT}" if "heckpoint" in reason else f"put {log} back from a backup"
            raise LogError(self.table.name, log, message, hint=hint) from error

    @property
    def _log(self) -> str:
        return f"{self.storage.uri}/_delta_log"

    def _gone(self) -> LogError:
        anew = f"; if it was removed on purpose, delete {self._known.file}" if self._known.file else ""
        return LogError(
            self.table.name,
            self._log,
            f"table {self.table.name} in {self.storage.uri} has gone",
            hint=f"{'see whether its disk is mounted' if self.storage.is_local else _SETTINGS}{anew}",
        )

    def _has_stayed(self) -> bool:
        return not self.storage.is_local or self.storage.has_log()

    def _is_committed(self, add: Sequence[Staged], note: Mapping[str, Any] | None, *, after: int) -> bool:
        """Whether a commit after a version has this note, or these files are live: neither is another's."""
        if note is not None:
            return any(commit.note == note for commit in self.notes(after))
        return bool(add) and {file.path for file in add} <= self.live().keys()

    def _missing(self, delta: DeltaTable) -> list[Field]:
        """The columns of the table's declaration that its metadata does not have."""
        from deltalake import Schema

        present = {field.name for field in delta.schema().fields}
        wanted = Schema.from_arrow(stored_schema(self.table)).fields
        return [field for field in wanted if field.name not in present]

    def _open(self) -> DeltaTable | None:
        if not self.storage.has_log():
            return None
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return DeltaTable(self.storage.uri, storage_options=self.storage.options)
        except TableNotFoundError:
            return None


def _reason(error: Exception) -> str:
    """What delta-rs says, which is a tree in colours, on one line."""
    told = _COLOURS.sub("", str(error)).replace("↳", ": ").split()
    return " ".join(told).replace(" : ", ": ")[:_MAX_REASON]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file is written: the columns worth a dictionary, and the rows that are encoded at a time."""

    repetitive: list[str]
    encoded_rows: int

    @classmethod
    def of(cls, rows: pa.Table) -> _Layout:
        """As rows like these want it."""
        return cls(_repetitive(rows), _within(rows, _ENCODED_ROWS, _ENCODED_BYTES))


def _within(rows: pa.Table, most: int, most_bytes: int) -> int:
    """How many rows like these have so many bytes, at most so many rows."""
    size = max(1.0, rows.nbytes / max(1, rows.num_rows))
    return max(1, min(most, int(most_bytes / size)))


def _repetitive(rows: pa.Table) -> list[str]:
    """Columns worth a dictionary: by a sample, at least every other value came before."""
    sample = rows.slice(max(0, (rows.num_rows - _SAMPLE_ROWS) // 2), _SAMPLE_ROWS)
    return [
        name
        for name in rows.column_names
        if name != ID and 2 * len(sample[name].unique()) <= sample.num_rows + 1
    ]


def _distinct(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """The column, or the values of its dictionary, which are all in use."""
    import pyarrow as pa

    return column.chunk(0).dictionary if pa.types.is_dictionary(column.type) else column


class _Statistics:
    """Delta's statistics of a file whose rows come in parts. A column with a text too long to be a bound
    gets none, which only widens scans."""

    def __init__(self, names: Iterable[str]) -> None:
        self.rows = 0
        self._nulls = dict.fromkeys(names, 0)
        self._bounds: dict[str, list[Any]] = {name: [] for name in self._nulls}

    def add(self, rows: pa.Table) -> None:
        import pyarrow.compute as pc

        self.rows += rows.num_rows
        for name, bounds in self._bounds.items():
            self._nulls[name] += rows[name].null_count
            found = pc.min_max(_distinct(rows[name])).as_py()
            bounds += [value for value in found.values() if value is not None]

    def to_json(self) -> str:
        known = {
            name: bounds
            for name, bounds in self._bounds.items()
            if bounds
            and not any(isinstance(value, str) and len(value) > _MAX_TEXT_STATISTIC for value in bounds)
        }
        return json.dumps(
            {
                "numRecords": self.rows,
                "minValues": {name: _bound(min(bounds)) for name, bounds in known.items()},
                "maxValues": {name: _bound(max(bounds)) for name, bounds in known.items()},
                "nullCount": self._nulls,
            }
        )


def _bound(value: object) -> object:
    return value.isoformat(timespec="microseconds") if isinstance(value, dt.datetime) else value
