"""What an ingest filter would have saved, and which rules and hunts would have lost results by it.

The rows of the table are sent through the filter into files of their own, and every rule and hunt that
reads the table is run over both. Nothing in the lake or the state database changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from trailhawk.detect.history import IsQuiet, Stored, detect, stored
from trailhawk.detect.prices import Prices
from trailhawk.detect.rule import Rule
from trailhawk.detect.store import AlertStore, open_state, sqlite_url
from trailhawk.engine.result import TimeRange
from trailhawk.errors import QueryError, UsageError
from trailhawk.kql.plan import Need, Node, Scan
from trailhawk.kql.records import Record, field_names
from trailhawk.kql.schema import INGESTION_TIME, Table

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.engine.reading import Files, Tables
    from trailhawk.lake.table import DataFile, Found

_CHUNK_ROWS: Final = 100_000
_INGESTED: Final = "Ingested_of_the_trial"
_BY: Final = ("EventSource", "EventName")
_FIXED_BYTES: Final = 8
_DAY: Final = timedelta(days=1)
MONTH: Final = timedelta(days=365.25 / 12)

Progress = Callable[[int, int], None]


class Kept(Protocol):
    """What a transform made of rows."""

    @property
    def kept(self) -> NDArray[np.bool_]: ...

    @property
    def rows(self) -> pa.Table: ...


@dataclass(frozen=True, slots=True)
class Saving:
    """Rows of one event source and name, how many of them were dropped, and what that saves in a month.

    `bytes` are those of the values as text, as a log store bills them: what of them is saved is what dropped
    rows and masked columns had.
    """

    event_source: str
    event_name: str
    rows: int
    dropped: int
    bytes: int
    bytes_saved: int
    rows_saved_a_month: int
    bytes_saved_a_month: int
    sentinel_usd_a_month: float
    s3_usd_a_month: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What a rule or hunt found without and with the filter. `lost` are results that are no more, `other`
    those that are there with the filter only (a count that changed is one of each)."""

    kind: str
    name: str
    source: str
    results: int
    lost: int
    other: int
    error: str = ""


@dataclass(frozen=True)
class Trial:
    """A filter tried over [start, end). `tried` rules and hunts read the table; `effects` are those whose
    results changed or could not be told."""

    table: str
    start: datetime
    end: datetime
    rows: int
    dropped: int
    savings: tuple[Saving, ...]
    total: Saving
    tried: int
    effects: tuple[Effect, ...]


def trial(
    transform: Callable[[pa.Table], Kept],
    table: Table,
    engine: DuckDBEngine,
    *,
    files: Files,
    rules: Sequence[Rule],
    hunts: Sequence[Rule],
    tables: Sequence[str],
    last: timedelta,
    prices: Prices,
    folder: Path,
    now: datetime,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> Trial:
    """Try a filter over the last so much time that the table holds.

    `files` are the table's in the lake, `tables` those that hold rows, `folder` is for files of this trial.
    UsageError where the table is empty.
    """
    held = stored(engine, table.name, now=now)
    if held.first is None or held.last is None:
        raise UsageError(f"{table.name} is empty: there is nothing to try a filter on")
    end = held.last + timedelta(microseconds=1)
    start = max(end - last, held.first)
    readers = [rule for rule in (*rules, *hunts) if _reads(rule, table.name, engine, end)]
    # A rule must not learn anew because the copy begins late.
    back = max((max(rule.period, rule.history_needed) + _DAY for rule in readers), default=timedelta())
    sums = _Sums()
    copies: list[DataFile] = []
    chunks = list(_chunks(held, start - back, start, end))
    for number, (since, until) in enumerate(chunks):
        rows = engine.query(
            f"['{table.name}'] | extend {_INGESTED} = ingestion_time()",
            now=end,
            window=TimeRange(since, until),
        ).table
        names = [column.name for column in table.stored]
        made = transform(rows.select(names))
        if since >= start:
            sums.add(rows, made, names)
        copies.append(_written(folder / f"{number:06d}.parquet", rows, made, table, since, until))
        progress(number + 1, len(chunks) + 1)
    filtered = engine.over(_Filtered(engine.tables, table.name, _Copies([c for c in copies if c.rows])))
    pair = (engine, filtered)
    effects = [
        *_rule_effects(pair, [r for r in rules if r in readers], tables, start, end, folder, now, workers),
        *(_hunt_effect(pair, hunt, start, end) for hunt in hunts if hunt in readers),
    ]
    progress(1, 1)
    stored_bytes, stored_rows = _stored_size(files, start, end)
    savings = sums.savings(end - start, prices, stored_bytes / stored_rows if stored_rows else 0.0)
    total = _total(savings)
    return Trial(
        table=table.name,
        start=start,
        end=end,
        rows=total.rows,
        dropped=total.dropped,
        savings=tuple(savings),
        total=total,
        tried=len(readers),
        effects=tuple(effect for effect in effects if effect.lost or effect.other or effect.error),
    )


def _reads(rule: Rule, table: str, engine: DuckDBEngine, now: datetime) -> bool:
    """Whether the query reads the table; one that does not compile is told later."""
    try:
        compiled = engine.compiled(rule.query, now=now)
    except QueryError:
        return True
    return table in set(_scanned(compiled.plan))


def _scanned(plan: Node) -> Iterator[str]:
    stack: list[object] = [plan]
    seen: set[int] = set()
    while stack:
        current = stack.pop()
        if isinstance(current, Scan):
            yield current.table.name
        elif isinstance(current, Record):
            if id(current) not in seen:
                seen.add(id(current))
                stack.extend(getattr(current, name) for name in field_names(current))
        elif isinstance(current, tuple):
            stack.extend(current)


# --- the filtered table -----------------------------------------------------------------------------------


def _chunks(
    held: Stored, since: datetime, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Stretches of [since, end) of about so many rows; one begins at `start`."""
    for low, high in ((since, start), (start, end)):
        begin, rows = low, 0
        for moment, count in zip(held.moments, np.diff(held.sums).tolist(), strict=True):
            if not low < moment < high:
                continue
            if rows and rows + count > _CHUNK_ROWS:
                yield begin, moment
                begin, rows = moment, 0
            rows += count
        if begin < high:
            yield begin, high


def _written(
    path: Path, rows: pa.Table, made: Kept, table: Table, since: datetime, until: datetime
) -> DataFile:
    """The rows that a filter left, as a file of the table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from trailhawk.lake.table import DataFile, arrow_type

    kept = rows.filter(pa.array(made.kept))
    left = pa.table(
        {
            column.name: made.rows[column.name]
            if column.name in made.rows.column_names
            else pa.nulls(kept.num_rows, arrow_type(column.type))
            for column in table.stored
        }
    )
    if table.time_column not in made.rows.column_names:
        place = left.column_names.index(table.time_column)
        left = left.set_column(place, table.time_column, kept[table.time_column])
    left = left.append_column(INGESTION_TIME, kept[_INGESTED])
    pq.write_table(left, path, compression="zstd", compression_level=1)
    return DataFile(
        path=str(path),
        rows=left.num_rows,
        size=path.stat().st_size,
        columns=frozenset(left.column_names),
        first=since,
        last=until,
        ingested_first=None,
        ingested_last=None,
    )


class _Copies:
    """The files of the filtered table."""

    def __init__(self, files: Sequence[DataFile]) -> None:
        self._files = files

    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[DataFile, ...]:
        return tuple(
            file
            for file in self._files
            if (since is None or file.last is None or file.last >= since)
            and (until is None or file.first is None or file.first < until)
        )

    def look(self, files: Sequence[DataFile], need: Need) -> Found:
        from trailhawk.lake.table import Found, Part

        return Found(tuple(map(Part, files)))


class _Filtered:
    """The tables of an engine, one of them with other files."""

    def __init__(self, tables: Tables, name: str, files: _Copies) -> None:
        self._tables = tables
        self._name = name
        self._files = files

    def table(self, name: str) -> Table | None:
        return self._tables.table(name)

    def table_names(self) -> tuple[str, ...]:
        return self._tables.table_names()

    def snapshot(self, name: str) -> Files:
        return self._files if name == self._name else self._tables.snapshot(name)


# --- savings ----------------------------------------------------------------------------------------------


class _Sums:
    """Rows and bytes by event source and name."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[tuple[str, ...], str]] = Counter()

    def add(self, rows: pa.Table, made: Kept, names: Sequence[str]) -> None:
        import pyarrow as pa

        before = _sizes(rows.select(names))
        after = np.zeros(rows.num_rows, np.int64)
        after[made.kept] = _sizes(made.rows)
        groups = [name for name in _BY if name in rows.column_names]
        counts = pa.table(
            {
                **{name: rows[name] for name in groups},
                "rows": np.ones(rows.num_rows, np.int64),
                "dropped": (~made.kept).astype(np.int64),
                "bytes": before,
                "saved": before - after,
            }
        )
        wanted = [(name, "sum") for name in ("rows", "dropped", "bytes", "saved")]
        for row in counts.group_by(groups).aggregate(wanted).to_pylist():
            key = tuple(row[name] or "" for name in groups)
            for name, _ in wanted:
                self._counts[key, name] += row[f"{name}_sum"] or 0

    def savings(self, span: timedelta, prices: Prices, stored_bytes: float) -> list[Saving]:
        """By what they save, the most first. `stored_bytes` is what a row takes in the lake."""
        months = MONTH / max(span, timedelta(hours=1))
        found = []
        for key in {key for key, _ in self._counts}:
            source, name = (*key, "", "")[:2]
            rows, dropped, size, saved = (
                self._counts[key, what] for what in ("rows", "dropped", "bytes", "saved")
            )
            in_lake = stored_bytes * rows * (saved / size if size else 0.0)
            found.append(
                Saving(
                    source,
                    name,
                    rows,
                    dropped,
                    size,
                    saved,
                    round(dropped * months),
                    round(saved * months),
                    prices.sentinel.of(saved * months),
                    prices.s3.of(in_lake * months),
                )
            )
        return sorted(found, key=lambda one: (-one.bytes_saved, one.event_source, one.event_name))


def _sizes(rows: pa.Table) -> NDArray[np.int64]:
    """Bytes of each row: text as it is, 8 for anything else that is there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes = np.zeros(rows.num_rows, np.int64)
    for column in rows.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            sizes += pc.binary_length(column).fill_null(0).to_numpy().astype(np.int64)
        else:
            sizes += column.is_valid().to_numpy().astype(np.int64) * _FIXED_BYTES
    return sizes


def _total(savings: Sequence[Saving]) -> Saving:
    return Saving(
        "",
        "",
        sum(one.rows for one in savings),
        sum(one.dropped for one in savings),
        sum(one.bytes for one in savings),
        sum(one.bytes_saved for one in savings),
        sum(one.rows_saved_a_month for one in savings),
        sum(one.bytes_saved_a_month for one in savings),
        sum(one.sentinel_usd_a_month for one in savings),
        sum(one.s3_usd_a_month for one in savings),
    )


def _stored_size(files: Files, start: datetime, end: datetime) -> tuple[int, int]:
    found = files.files(start, end)
    return sum(file.size for file in found), sum(file.rows for file in found)


# --- results ----------------------------------------------------------------------------------------------


def _rule_effects(
    engines: tuple[DuckDBEngine, DuckDBEngine],
    rules: Sequence[Rule],
    tables: Sequence[str],
    start: datetime,
    end: datetime,
    folder: Path,
    now: datetime,
    workers: int,
) -> Iterator[Effect]:
    """Each rule replayed over both states of the table, with alerts in databases of their own."""
    found: list[Mapping[str, Counter[str]]] = []
    errors: dict[str, str] = {}
    for number, engine in enumerate(engines):
        state = open_state(sqlite_url(folder / f"state-{number}.db"))
        try:
            store = AlertStore(state)
            summary = detect(
                engine,
                store,
                rules,
                tables=tables,
                now=now,
                start=start,
                end=end,
                workers=workers,
                quiet=_quiet(engine),
            )
            by_rule: dict[str, Counter[str]] = {rule.id: Counter() for rule in rules}
            for alert in summary.alerts:
                by_rule[alert.rule_id][alert.id] += 1
            errors |= {each.rule.id: each.error for each in summary.rules if each.error}
        finally:
            state.dispose()
        found.append(by_rule)
    for rule in rules:
        yield _effect("rule", rule, found[0][rule.id], found[1][rule.id], errors.get(rule.id, ""))


def _quiet(engine: DuckDBEngine) -> Callable[[Rule, datetime, datetime], IsQuiet]:
    def quiet(rule: Rule, start: datetime, end: datetime) -> IsQuiet:
        return engine.activity(
            rule.query, period=rule.period, history=TimeRange(start, end), frequency=rule.frequency
        ).is_quiet

    return quiet


def _hunt_effect(
    engines: tuple[DuckDBEngine, DuckDBEngine], hunt: Rule, start: datetime, end: datetime
) -> Effect:
    found: list[Counter[str]] = []
    for engine in engines:
        try:
            result = engine.query(hunt.query, now=end, window=TimeRange(start, end))
        except QueryError as error:
            return _effect("hunt", hunt, Counter(), Counter(), error.render(hunt.query).split("\n", 1)[0])
        found.append(Counter(map(repr, result.tuples())))
    return _effect("hunt", hunt, found[0], found[1], "")


def _effect(kind: str, rule: Rule, before: Counter[str], after: Counter[str], error: str) -> Effect:
    lost, other = before - after, after - before
    return Effect(kind, rule.name, rule.source, before.total(), lost.total(), other.total(), error)
