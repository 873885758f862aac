"""What an ingest filter would have saved, and which rules and hunts would have lost results by it.

The rows of the table are sent through the filter into files of their own, and every rule and hunt that
reads rows which it drops or changes is run over both. Nothing in the lake or the state database changes.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from trailhawk.detect.absent import absent, is_there
from trailhawk.detect.absent import reason as reason_of
from trailhawk.detect.filtered import INGESTED, AsThen, Filtered
from trailhawk.detect.history import BIN, IsQuiet, Progress, Reads, RuleSummary, Stored, detect, stored
from trailhawk.detect.prices import Prices
from trailhawk.detect.rule import Rule
from trailhawk.detect.run import Leave
from trailhawk.detect.spans import Mask, Moments
from trailhawk.detect.store import AlertStore, open_state, sqlite_url
from trailhawk.engine.reach import Changes, Reach, reach, reads_any
from trailhawk.engine.result import TimeRange
from trailhawk.engine.transform import RowTransform, Transformed
from trailhawk.errors import NotAllowedError, QueryError, UsageError
from trailhawk.kql.passes import scans

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.engine.reading import Files

_CHUNK_ROWS: Final = 100_000
_BY: Final = ("EventSource", "EventName")
_TIME_BYTES: Final = 28
_DAY: Final = timedelta(days=1)
MONTH: Final = timedelta(days=365.25 / 12)

_WEEK: Final = timedelta(days=7)
_LEAST: Final = timedelta(hours=1)
_LOOKS_BACK: Final = timedelta(days=14)
"""How far before its time a hunt finds rows."""


@dataclass(frozen=True, slots=True)
class Saving:
    """Rows of one event source and name, how many of them were dropped, and what that saves in a month.

    `bytes` are those of the values as text, as Sentinel bills them: what of them is saved is what dropped
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
    those that are there with the filter only (a count that changed is one of each). `error` says why nothing
    is known of it: it cannot be run, or has too little history."""

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
    results changed or could not be told. `notes` say what makes the figures less sure."""

    table: str
    start: datetime
    end: datetime
    rows: int
    dropped: int
    savings: tuple[Saving, ...]
    total: Saving
    tried: int
    effects: tuple[Effect, ...]
    notes: tuple[str, ...] = ()


def trial(
    transform: RowTransform,
    engine: DuckDBEngine,
    *,
    rule_engine: DuckDBEngine,
    files: Files,
    rules: Sequence[Rule],
    hunts: Sequence[Rule],
    tables: Sequence[str],
    last: timedelta,
    prices: Prices,
    folder: Path,
    now: datetime,
    leave: Leave | None = None,
    in_force: bool = False,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> Trial:
    """Try a filter over the last so much time that its table holds, up to `now`.

    `files` are the table's in the lake, `tables` those that hold rows, `folder` is for files of this trial.
    `leave` takes out what exceptions take; `in_force` tells that the table has a filter now.
    UsageError where the table is empty.
    """
    table = transform.table
    held = stored(engine, table.name, now=now)
    if held.first is None or held.last is None:
        raise UsageError(f"{table.name} is empty: there is nothing to try a filter on")
    end = _end(held, now)
    start = max(end - last, held.first)
    reads = _Reads(rule_engine, end)
    rules, hunts = ([one for one in each if reads.may_read(one, table.name)] for each in (rules, hunts))
    # A rule must not learn anew because the copy begins late.
    back = max((max(rule.period, rule.history_needed) + _DAY for rule in rules), default=timedelta())
    back = max(back, _LOOKS_BACK) if hunts else back
    sums = _Sums()
    filtered = Filtered(folder, table)
    chunks = list(_chunks(held, start - back, start, end))
    reading = _share(progress, 0, 20)
    names = [column.name for column in table.stored]
    as_then = AsThen(transform)
    for number, (since, until) in enumerate(chunks):
        rows = engine.query(
            f"['{table.name}'] | extend {INGESTED} = ingestion_time()",
            now=end,
            window=TimeRange(since, until),
        ).table
        reading(number + 1, len(chunks))
        if not rows.num_rows:
            continue  # the time before the first row, of which a hunt would have seen more
        made = as_then(rows, names) if transform.reads_clock else transform(rows.select(names))
        if since >= start:
            sums.add(rows, made, names)
        filtered.add(rows, made)
    replays = _Replays(
        rule_engine,
        rule_engine.over(filtered.tables(rule_engine.tables)),
        filtered.changes(rule_engine),
        tables=tables,
        window=TimeRange(start, end),
        folder=folder,
        now=now,
        workers=workers,
        reads=reads,
        leave=leave,
    )
    effects = [
        *replays.effects(rules, progress),
        *_hunt_effects(
            (engine, engine.over(filtered.tables(engine.tables))),
            filtered.changes(engine),
            hunts,
            picked=TimeRange(start, end),
            held=TimeRange(start - back, end),
            workers=workers,
            progress=_share(progress, 90, 100),
        ),
    ]
    progress(100, 100)
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
        tried=len(rules) + len(hunts),
        effects=tuple(effect for effect in effects if effect.lost or effect.other or effect.error),
        notes=tuple(_notes(held, start, end, last, in_force=in_force)),
    )


def _end(held: Stored, now: datetime) -> datetime:
    """Just after the newest row. One event with a wrong year must not be all that is looked at: what lies in
    the future is left out, unless there is nothing else."""
    past = [moment for moment in held.moments if moment < now]
    if past and held.last is not None and held.last >= now:
        return min(past[-1] + BIN, now)
    return (held.last or now) + timedelta(microseconds=1)


def _notes(held: Stored, start: datetime, end: datetime, last: timedelta, *, in_force: bool) -> Iterator[str]:
    span = end - start
    if in_force:
        yield "a filter is in force: what it drops is not in the table, and is counted nowhere here"
    if span < last - _LEAST:
        yield f"the table holds {_long(span)} of the {_long(last)} asked for"
    if span < _DAY:
        yield f"a month is {MONTH / max(span, _LEAST):.0f} times that long: its figures are a guess"
    elif span < _WEEK - _LEAST:
        yield "a month is reckoned from less than a week: it may have other days than these"
    if held.last is not None and held.last >= end:
        yield f"rows after {end:%Y-%m-%d %H:%M} lie in the future and are left out"


def _long(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


class _Reads:
    """The tables that rules read, each compiled once."""

    def __init__(self, engine: DuckDBEngine, now: datetime) -> None:
        self._engine = engine
        self._now = now
        self._known: dict[str, frozenset[str] | None] = {}

    def __call__(self, rule: Rule) -> frozenset[str] | None:
        """The names of the tables; None for a query that does not compile."""
        if rule.query not in self._known:
            try:
                plan = self._engine.compiled(rule.query, now=self._now).plan
                self._known[rule.query] = frozenset(scan.table.name for scan in scans(plan))
            except QueryError:
                self._known[rule.query] = None
        return self._known[rule.query]

    def may_read(self, rule: Rule, table: str) -> bool:
        """Whether the query reads the table; one that does not compile is told if it names the table."""
        read = self(rule)
        return table in (read if read is not None else rule.query)


def _share(progress: Progress, low: int, high: int) -> Progress:
    """The progress of a step that is the share from `low` to `high` percent of the whole."""
    return lambda done, total: progress(low + (high - low) * done // max(total, 1), 100)


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


# --- savings ----------------------------------------------------------------------------------------------


class _Sums:
    """Rows and bytes by event source and name."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[tuple[str, ...], str]] = Counter()

    def add(self, rows: pa.Table, made: Transformed, names: Sequence[str]) -> None:
        import pyarrow as pa

        before = sizes(rows.select(names))
        after = np.zeros(rows.num_rows, np.int64)
        after[made.kept] = sizes(made.rows)
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


def sizes(rows: pa.Table) -> NDArray[np.int64]:
    """Bytes of each row with its values as text: a number has its digits, a time 28 characters.

    So Azure Monitor bills it: "Data size calculation" in
    https://learn.microsoft.com/azure/azure-monitor/logs/cost-logs
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes = np.zeros(rows.num_rows, np.int64)
    for column in rows.columns:
        if pa.types.is_timestamp(column.type):
            sizes += column.is_valid().to_numpy().astype(np.int64) * _TIME_BYTES
            continue
        text = column if pa.types.is_large_string(column.type) else column.cast(pa.string())
        sizes += pc.binary_length(text).fill_null(0).to_numpy().astype(np.int64)
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


class _Replays:
    """Replays rules over both states of the table, with alerts in databases of their own.

    The windows are the same: a filter that drops the last hour's rows must not end the replay an hour early.
    Only those that the changed rows reach are run over both: all others give the same.
    """

    def __init__(
        self,
        before: DuckDBEngine,
        after: DuckDBEngine,
        changes: Changes,
        *,
        tables: Sequence[str],
        window: TimeRange,
        folder: Path,
        now: datetime,
        workers: int,
        reads: Reads,
        leave: Leave | None,
    ) -> None:
        self._before = before
        self._after = after
        self._changes = changes
        self._tables = tables
        self._held = {name: stored(before, name, now=now) for name in tables}
        self._window = window
        self._folder = folder
        self._now = now
        self._workers = workers
        self._reads = reads
        self._leave = leave
        self._quiet: dict[tuple[str, bool], IsQuiet] = {}
        self._errors: dict[str, str] = {}

    def effects(self, rules: Sequence[Rule], progress: Progress) -> Iterator[Effect]:
        reached = dict[str, Reach | None]()
        for done, rule in enumerate(rules, start=1):
            reached[rule.id] = self._reach(rule)
            progress(20 + 10 * done // len(rules), 100)

        def touched(rule: Rule, at: Moments) -> Mask:
            reach = reached[rule.id]
            return np.ones(len(at), bool) if reach is None else reach.touches(at)

        def untouched(rule: Rule, at: Moments) -> Mask:
            return ~touched(rule, at)

        # Of a rule that nothing reaches it is asked only whether it still learns: no query is run.
        learning = [rule for rule in rules if _is_empty(reached[rule.id]) and rule.history_needed]
        self._alerts(learning, touched, lambda done, total: None)
        some = [rule for rule in rules if not _is_empty(reached[rule.id])]
        before = self._alerts(some, touched, _share(progress, 30, 55))
        after = self._alerts(some, touched, _share(progress, 55, 75), filtered=True)
        told = [rule for rule in some if before[rule.id] != after[rule.id] or rule.id in self._errors]
        rest = [rule for rule in told if reached[rule.id] is not None]
        more = self._alerts(rest, untouched, _share(progress, 75, 90))
        nothing = Counter[str]()
        for rule in rules:
            found = [each.get(rule.id, nothing) for each in (before, after)]
            same = more.get(rule.id, nothing)
            yield _effect("rule", rule, found[0] + same, found[1] + same, self._errors.get(rule.id, ""))

    def _reach(self, rule: Rule) -> Reach | None:
        """The windows that the changes reach; None for all, where they cannot be told apart or where one's
        alerts keep those of others from being raised."""
        assert self._window.start is not None
        assert self._window.end is not None
        if self._reads(rule) is None:
            return None
        found = reach(
            rule.query,
            self._before.tables,
            self._changes,
            period=rule.period,
            history=TimeRange(self._window.start - rule.period, self._window.end + rule.frequency),
            functions=self._before.functions,
        )
        is_alone = not rule.suppression and not rule.trigger.fires(0, rule.threshold)
        return found if is_alone or not found else None

    def _alerts(
        self,
        rules: Sequence[Rule],
        wanted: Callable[[Rule, Moments], Mask],
        progress: Progress,
        *,
        filtered: bool = False,
    ) -> dict[str, Counter[str]]:
        """The ids of the alerts by rule, of those windows at whose T a run is wanted."""

        def quiet(rule: Rule, start: datetime, end: datetime) -> IsQuiet:
            is_quiet = self._is_quiet(rule, start, end, filtered=filtered)

            def is_left_out(at: Moments) -> Mask:
                left_out = ~wanted(rule, at)
                left_out[~left_out] = is_quiet(at[~left_out])
                return left_out

            return is_left_out

        if not rules:
            return {}
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            state = open_state(sqlite_url(Path(folder) / "state.db"))
            try:
                summary = detect(
                    self._after if filtered else self._before,
                    AlertStore(state),
                    rules,
                    tables=self._tables,
                    now=self._now,
                    start=self._window.start,
                    end=self._window.end,
                    progress=progress,
                    workers=self._workers,
                    quiet=quiet,
                    reads=self._reads,
                    leave=self._leave,
                    held=self._held,
                )
            finally:
                state.dispose()
        self._errors |= {each.rule.id: why for each in summary.rules if (why := _unknown(each))}
        found: dict[str, Counter[str]] = {rule.id: Counter() for rule in rules}
        for alert in summary.alerts:
            found[alert.rule_id][alert.id] += 1
        return found

    def _is_quiet(self, rule: Rule, start: datetime, end: datetime, *, filtered: bool) -> IsQuiet:
        """At which T the rule's query cannot have a result; looked up when it is first asked for."""
        engine = self._after if filtered else self._before

        def is_quiet(at: Moments) -> Mask:
            key = rule.id, filtered
            if not len(at):
                return np.zeros(0, bool)
            if key not in self._quiet:
                try:
                    self._quiet[key] = engine.activity(
                        rule.query,
                        period=rule.period,
                        history=TimeRange(start, end, replayed=True),
                        frequency=rule.frequency,
                    ).is_quiet
                except QueryError:  # it is told where the query is run
                    self._quiet[key] = lambda at: np.zeros(len(at), bool)
            return self._quiet[key](at)

        return is_quiet


def _is_empty(reach: Reach | None) -> bool:
    """Whether no window is reached."""
    return reach is not None and not reach


def _unknown(done: RuleSummary) -> str:
    """Why nothing is known of what a rule would have raised; '' where it is."""
    if done.error or done.reason:
        return done.error or done.reason
    if done.learning and not done.run + done.suppressed:
        return f"it needs {_long(done.rule.history_needed)} of history, which the lake has not"
    return ""


def _hunt_effects(
    engines: tuple[DuckDBEngine, DuckDBEngine],
    changes: Changes,
    hunts: Sequence[Rule],
    *,
    picked: TimeRange,
    held: TimeRange,
    workers: int,
    progress: Progress,
) -> Iterator[Effect]:
    """Each hunt that reads a changed row run once over both states of the table, as of the end of the time
    that is `picked`. It finds rows of the time `held`, which begins earlier: many compare with what was there
    before."""
    end = picked.end
    if end is None:
        raise ValueError("a time without an end")

    def result(engine: DuckDBEngine, hunt: Rule) -> Counter[str]:
        return Counter(map(repr, engine.query(hunt.query, now=end, window=held, picked=picked).tuples()))

    def effect(hunt: Rule) -> Effect:
        try:
            compiled = engines[0].compiled(hunt.query, now=end, window=held, picked=picked)
            if not reads_any(compiled.plan, changes):
                return _effect("hunt", hunt, Counter(), Counter(), "")
            before, after = (result(engine, hunt) for engine in engines)
        except NotAllowedError as error:
            return _effect("hunt", hunt, Counter(), Counter(), error.message)
        except QueryError as error:
            missing = absent(hunt, error, is_there(engines[0], end))
            why = reason_of(missing) if missing else error.render(hunt.query).split("\n", 1)[0]
            return _effect("hunt", hunt, Counter(), Counter(), why)
        return _effect("hunt", hunt, before, after, "")

    with ThreadPoolExecutor(workers) as pool:
        for done, found in enumerate(pool.map(effect, hunts), start=1):
            progress(done, len(hunts))
            yield found


def _effect(kind: str, rule: Rule, before: Counter[str], after: Counter[str], error: str) -> Effect:
    lost, other = before - after, after - before
    return Effect(kind, rule.name, rule.source, before.total(), lost.total(), other.total(), error)
