"""The state database: windows and alerts. SQLite in WAL mode, or any database SQLAlchemy has a URL for.

Moments are stored as microseconds since the Unix epoch, so that they sort and compare the same everywhere.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote
from weakref import WeakSet

import msgspec
import sqlalchemy as sa

from trailhawk.detect.alert import EVENT_IDS, Alert
from trailhawk.detect.run import Run
from trailhawk.detect.schedule import EPOCH, WindowState
from trailhawk.errors import NotFoundError, StateError


class Moment(sa.TypeDecorator[datetime]):
    """An aware moment in UTC, stored as microseconds."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else EPOCH + timedelta(microseconds=value)


metadata = sa.MetaData()
"""All tables of the state database; the rooms above add theirs."""

windows_table = sa.Table(
    "windows",
    metadata,
    sa.Column("rule_id", sa.String, primary_key=True),
    sa.Column("at", Moment, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
)
"""One row for each (rule, T) that was due, see WindowState; what needed no query may be in `spans_table`."""

spans_table = sa.Table(
    "window_spans",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("rule_id", sa.String, nullable=False, index=True),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("first_at", sa.BigInteger, nullable=False),
    sa.Column("last_at", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
)
"""Windows of a rule that ended alike: T from the first to the last by steps, in microseconds. A window's row
counts before a span, and of two spans the one with the higher number. See `spans`."""

starts_table = sa.Table(
    "schedule_starts",
    metadata,
    sa.Column("rule_id", sa.String, primary_key=True),
    sa.Column("at", Moment, nullable=False),
)
"""Where the first window of a rule begins that its schedule has planned; in a state of an earlier version,
since this is kept."""

taken_table = sa.Table(
    "exceptions_taken",
    metadata,
    sa.Column("exception_id", sa.Integer, primary_key=True),
    sa.Column("rule_id", sa.String, primary_key=True),
    sa.Column("at", Moment, primary_key=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("error", sa.String, nullable=False),
)
"""How many result rows of a window (rule, T) an exception took, or why it could not be applied."""

_alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("rule_id", sa.String, nullable=False, index=True),
    sa.Column("at", Moment, nullable=False, index=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """How a window ended, and how many stored rows its news held then."""

    state: WindowState
    reason: str
    seen: int


_opened: WeakSet[sa.Engine] = WeakSet()


@atexit.register
def _close() -> None:
    """SQLite folds its write-ahead log into the file when the last connection is closed."""
    for engine in _opened:
        engine.dispose()


def open_state(url: str, *, first: Callable[[sa.Engine], None] | None = None) -> sa.Engine:
    """A connection pool to the state database; for SQLite a write-ahead log and waiting for other writers.

    Transactions come one after the other, in every database; who reads (`reading`) waits for nobody. A SQLite
    file that cannot be written, nor what stands beside it, is read as it is. Whatever the database refuses
    comes as StateError. `first` is called once, before the first transaction that may write is begun; see
    `_First`.
    """
    where, is_read_only = _address(url), False
    file = _file_of(where)
    if file and _cannot_be_written(file):
        where, is_read_only = _only_to_read(file), True
    try:
        if where.drivername == "postgresql":
            engine = _postgresql(where)
        else:
            # What is in memory has a pool of its own.
            pool = sa.StaticPool if is_read_only else _Pool if file else None
            engine = sa.create_engine(where, poolclass=pool)
    except ModuleNotFoundError as error:
        raise StateError(
            f"the state database needs the package {error.name}", hint="pip install 'trailhawk[postgresql]'"
        ) from None
    except sa.exc.ArgumentError:
        raise _NO_ADDRESS from None
    sa.event.listen(engine, "handle_error", _refused)
    if first is not None and not is_read_only:
        sa.event.listen(engine, "begin", _First(first).begins)  # before the listeners that lock
    if is_read_only:
        sa.event.listen(engine, "connect", _leave_transactions)
        sa.event.listen(engine, "before_cursor_execute", _create_beside(file), retval=True)
    elif engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_immediate)
    elif engine.dialect.name == "postgresql":
        sa.event.listen(engine, "begin", _begin_alone)
        sa.event.listen(engine, "before_cursor_execute", _without_nul, retval=True)
    _opened.add(engine)
    return engine


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection that takes no lock: each statement sees what was committed when it began."""
    with engine.connect().execution_options(isolation_level=_READS) as connection:
        yield connection


def make_tables(engine: sa.Engine, tables: Iterable[sa.Table]) -> None:
    """Make those of the tables that do not stand yet; where none is missing nobody waits for a writer."""
    with reading(engine) as connection:
        there = set(sa.inspect(connection).get_table_names())
    missing = [table for table in tables if table.name not in there]
    if missing:
        metadata.create_all(engine, tables=missing)


def go_on_after(engine: sa.Engine, table: sa.Table, sequence: int) -> None:
    """Let the next `sequence` of a table be behind this one, which was given already.

    The lake holds rows up to there. A state that is older, as after a restored copy, would give its numbers
    again, and what has them would count as exported.
    """
    with reading(engine) as connection:
        if _last_number(connection, table) >= sequence:
            return
    with engine.begin() as connection:
        if _last_number(connection, table) >= sequence:
            return
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.setval(_numbers_of(table), sequence)))
            return
        connection.execute(sa.delete(_given).where(_given.c.name == table.name))
        connection.execute(sa.insert(_given).values(name=table.name, seq=sequence))


_given = sa.table("sqlite_sequence", sa.column("name", sa.String), sa.column("seq", sa.BigInteger))


def _last_number(connection: sa.Connection, table: sa.Table) -> int:
    """The highest sequence number that a table has ever given."""
    if connection.dialect.name != "postgresql":
        return connection.scalar(sa.select(_given.c.seq).where(_given.c.name == table.name)) or 0
    last = sa.text("SELECT pg_sequence_last_value(CAST(:numbers AS regclass))")
    numbers = connection.scalar(sa.select(_numbers_of(table)))
    return connection.execute(last, {"numbers": numbers}).scalar() or 0


def _numbers_of(table: sa.Table) -> sa.ColumnElement[str]:
    return sa.func.pg_get_serial_sequence(table.name, "sequence")


def server_time(engine: sa.Engine) -> datetime | None:
    """What time it is where the state database is served; None where it is a file of this machine."""
    if engine.dialect.name != "postgresql":
        return None
    now = sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * 1_000_000, sa.BigInteger)
    with reading(engine) as connection:
        return connection.execute(sa.select(sa.type_coerce(now, Moment))).scalar_one()


_READS = "AUTOCOMMIT"
_NO_ADDRESS = StateError("the address of the state database is none", hint="see [state] url")

_WAIT = timedelta(seconds=30)
"""How long a transaction waits for others to end."""

_IDLE = timedelta(minutes=2)
"""After so long without a statement PostgreSQL ends a transaction: its process hangs or is cut off."""

_POSTGRESQL: Mapping[str, object] = {
    "fallback_application_name": "trailhawk",
    "connect_timeout": 10,
    # A server or a network that is gone without a word is noticed in a minute, not in hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    # A pooler may give each transaction to another session, which knows no statement prepared before.
    "prepare_threshold": None,
}
"""How we connect unless the address, or for the time to wait libpq's environment, says else."""


def _address(url: str) -> sa.URL:
    """The parts of an address. StateError, which repeats nothing of it: it may hold a password."""
    try:
        where = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise _NO_ADDRESS from None
    if where.drivername == "postgresql":
        if "@" in f"{where.host}{where.database}":
            raise StateError(
                "the address of the state database has more than one @",
                hint="in a password write %40 for @, %2F for / and %3A for :",
            )
        if "\0" in unquote(url):
            raise StateError("the address of the state database holds a NUL character")
    return where


def _postgresql(where: sa.URL) -> sa.Engine:
    given = {*where.query, *(["connect_timeout"] if "PGCONNECT_TIMEOUT" in os.environ else [])}
    return sa.create_engine(
        where.set(drivername="postgresql+psycopg"),
        poolclass=_Pool,
        pool_pre_ping=True,  # after a restart of the server what was kept is opened again
        # With another one that the database may be set to, a transaction would see what was there before it
        # waited for its turn.
        isolation_level="READ COMMITTED",
        connect_args={key: value for key, value in _POSTGRESQL.items() if key not in given},
    )


def _file_of(where: sa.URL) -> Path | None:
    """The file of a SQLite database; None of one in memory, and of another kind of database."""
    name = where.database or ":memory:"
    is_file = where.drivername == "sqlite" and ":memory:" not in name and "mode" not in where.query
    return Path(name) if is_file else None


class _Pool(sa.QueuePool):
    """Connections for so many threads at once; the others wait."""

    def _do_get(self) -> sa.pool.ConnectionPoolEntry:
        try:
            return super()._do_get()
        except sa.exc.TimeoutError:
            raise StateError(
                "the state database: every connection is in use", hint="others write to it; try again"
            ) from None


_STATE_LOCK = 7_215_091_644_237
"""A number of our own among the advisory locks of a database."""


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return sa.URL.create("sqlite", database=str(path)).render_as_string()


def _cannot_be_written(database: Path) -> bool:
    """Whether this process may not write such a file, nor make it or a log beside it, in a folder that is
    there."""
    may_be_made = os.access(database.parent, os.W_OK) or not database.parent.is_dir()
    return not may_be_made or (database.is_file() and not os.access(database, os.W_OK))


def _only_to_read(database: Path) -> sa.URL:
    """The URL of a SQLite file that is only read; of one that is not there that of an empty database. Where a
    log stands beside it, what it says counts too."""
    options = {"mode": "ro", "uri": "true"}
    if not database.is_file():
        return sa.URL.create("sqlite", database="file::memory:", query=options)
    log = database.with_name(database.name + "-wal")
    if not log.is_file() or not log.stat().st_size:
        options["immutable"] = "1"  # without it SQLite would want to make the log's index
    return sa.URL.create("sqlite", database=database.absolute().as_uri(), query=options)


def _create_beside(file: Path | None) -> Callable[..., tuple[str, object]]:
    """What is missing in a database that is only read stands in its one connection, empty."""

    def changed(
        _: object, cursor: object, statement: str, parameters: object, context: object, many: bool
    ) -> tuple[str, object]:
        words = statement.split(maxsplit=2)
        if words[0] in ("INSERT", "UPDATE", "DELETE"):
            said = f"the state database {file} may only be read here"
            raise StateError(said, hint="see who may write to it and its folder")
        if words[:2] == ["CREATE", "TABLE"]:
            return f"CREATE TEMP TABLE IF NOT EXISTS {words[2]}", parameters
        if words[:1] == ["CREATE"] and words[1] in ("INDEX", "UNIQUE"):
            return "SELECT 1", parameters
        return statement, parameters

    return changed


def _refused(context: sa.ExceptionContext) -> None:
    error = context.original_exception
    if not isinstance(error, Exception) or isinstance(error, StateError) or context.is_pre_ping:
        return  # an interrupt and what we say stay what they are; a connection that is gone is opened again
    where = context.engine.url.database if context.engine else None
    reason = " ".join(str(error).split())
    raise StateError(
        f"the state database {where or ''}: {reason}", hint=_hint(reason, where or "")
    ) from error


def _hint(reason: str, where: str) -> str:
    """What to do about a refusal. On a full disk SQLite often says no more than that reading or writing
    failed: it needs a little room even to read."""
    sign = next((sign for sign in _HINTS if sign in reason), "")
    if sign == "disk I/O error":
        with suppress(OSError):
            if shutil.disk_usage(Path(where).parent).free < _LITTLE_ROOM:
                sign = "is full"
    return _HINTS.get(sign, "")


_LITTLE_ROOM = 1 << 20
_OTHERS = "another process has been writing to it for long; try again"
_HINTS = {
    "database is locked": _OTHERS,
    "lock timeout": _OTHERS,
    "is full": "make room; what was written before is kept",
    "disk I/O error": "a home belongs on a local disk; over a network use PostgreSQL, see [state] url",
    "unable to open": "its folder must be there, and whoever runs this must be let to write to it",
    "locking protocol": "a home belongs on a local disk; over a network use PostgreSQL, see [state] url",
}
"""What to do about what a database refuses, by a part of its words."""


def _leave_transactions(connection: object, _: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # the driver must not begin by itself


def _set_up_sqlite(connection: object, _: object) -> None:
    _leave_transactions(connection, _)
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute(f"PRAGMA busy_timeout={_WAIT // timedelta(milliseconds=1)}")
    _write_ahead(cursor.execute)
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _write_ahead(execute: Callable[[str], object]) -> None:
    """Let a database have a write-ahead log. Of several that open a new one at once SQLite refuses some
    without waiting, as each might wait for the other."""
    for wait in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5):
        try:
            execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(wait)
        else:
            return
    execute("PRAGMA journal_mode=WAL")


class _First:
    """What is done before the first transaction that may write; transactions of its own are no such. An error
    of it is that of the transaction, and the next one tries again."""

    def __init__(self, act: Callable[[sa.Engine], None]) -> None:
        self._act = act
        self._lock = threading.RLock()
        self._acts = False
        self._is_done = False

    def begins(self, connection: sa.Connection) -> None:
        if self._is_done or _only_reads(connection):
            return
        with self._lock:
            if self._is_done or self._acts:
                return
            self._acts = True
            try:
                self._act(connection.engine)
            finally:
                self._acts = False
            self._is_done = True


def _only_reads(connection: sa.Connection) -> bool:
    return connection.get_execution_options().get("isolation_level") == _READS


def _begin_immediate(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later would fail when another process wrote in between.
    if not _only_reads(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_alone(connection: sa.Connection) -> None:
    # What reads first and writes later must not be overtaken in between: one transaction at a time, as in
    # SQLite. The lock ends with the transaction; a process that hangs in one must not keep it for ever.
    if not _only_reads(connection):
        connection.exec_driver_sql(
            f"SET LOCAL lock_timeout = {_WAIT // timedelta(milliseconds=1)};"
            f" SET LOCAL idle_in_transaction_session_timeout = {_IDLE // timedelta(milliseconds=1)};"
            f" SELECT pg_advisory_xact_lock({_STATE_LOCK})"
        )


def _without_nul(
    _: object, cursor: object, statement: str, parameters: object, context: object, many: bool
) -> tuple[str, object]:
    """PostgreSQL knows no NUL: a text of the logs that holds one is kept, and looked for, with the sign for
    what cannot be shown."""
    if many and isinstance(parameters, Sequence):
        return statement, [_shown(each) for each in parameters]
    return statement, _shown(parameters)


def _shown(given: object) -> object:
    if not isinstance(given, Mapping):
        return given
    held = {name: value for name, value in given.items() if isinstance(value, str) and "\0" in value}
    return (
        {**given, **{name: value.replace("\0", "\ufffd") for name, value in held.items()}} if held else given
    )


class AlertStore:
    """Windows and alerts in the state database."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        make_tables(engine, (windows_table, spans_table, starts_table, taken_table, _alerts))

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A connection that takes no lock."""
        return reading(self.engine)

    def windows(self, rule_id: str) -> dict[datetime, WindowRecord]:
        """The windows of a rule that were run or skipped, by T; each one, so of a few rules at most."""
        window, span = windows_table.c, spans_table.c
        spans = sa.select(span.first_at, span.last_at, span.step, span.state, span.reason, span.seen)
        query = sa.select(window.at, window.state, window.reason, window.seen)
        found: dict[datetime, WindowRecord] = {}
        with self.reading() as connection:
            for first, last, step, state, reason, seen in connection.execute(
                spans.where(span.rule_id == rule_id).order_by(span.number)
            ):
                record = WindowRecord(WindowState(state), reason, seen)
                for at in range(first, last + 1, step):
                    found[EPOCH + timedelta(microseconds=at)] = record
            for at, state, reason, seen in connection.execute(query.where(window.rule_id == rule_id)):
                found[at] = WindowRecord(WindowState(state), reason, seen)
        return found

    def schedule_starts(self) -> dict[str, datetime]:
        """By rule: where the first window begins that its schedule has planned."""
        with self.reading() as connection:
            query = sa.select(starts_table.c.rule_id, starts_table.c.at)
            return {row.rule_id: row.at for row in connection.execute(query)}

    def first_window(self) -> datetime | None:
        """T of the first window of any rule; None where none was ever due."""
        with self.reading() as connection:
            alone = connection.scalar(sa.select(sa.func.min(windows_table.c.at, type_=Moment)))
            of_span = connection.scalar(sa.select(sa.func.min(spans_table.c.first_at)))
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        firsts = [alone, None if of_span is None else epoch + timedelta(microseconds=of_span)]
        return min((first for first in firsts if first), default=None)

    def new_alerts(self, connection: sa.Connection, alerts: Sequence[Alert]) -> tuple[Alert, ...]:
        """Those of the alerts that are not stored yet.

        Nor are those new that rest on the same events as one of the same run, and have the same entities: the
        run was made again, and what it compares with has changed.
        """
        ids = [alert.id for alert in alerts]
        known = (
            set(connection.scalars(sa.select(_alerts.c.id).where(_alerts.c.id.in_(ids)))) if ids else set()
        )
        fresh = [alert for alert in alerts if alert.id not in known]
        told: set[object] = set()
        for rule_id, at in {(alert.rule_id, alert.at) for alert in fresh if alert.detail(EVENT_IDS)}:
            query = sa.select(_alerts.c.body).where(_alerts.c.rule_id == rule_id, _alerts.c.at == at)
            told.update(map(_basis, map(_alert, connection.scalars(query))))
        return tuple(alert for alert in fresh if not alert.detail(EVENT_IDS) or _basis(alert) not in told)

    def record(self, connection: sa.Connection, runs: Iterable[Run], new: Iterable[Alert]) -> None:
        """Write how these windows ended, and the alerts that are new, inside the caller's transaction."""
        runs, new = list(runs), list(new)
        if runs:
            places = [{"old_rule": run.window.rule_id, "old_at": run.window.at} for run in runs]
            connection.execute(_FORGET, places)
            connection.execute(sa.insert(windows_table), [_window_row(run) for run in runs])
        excepted = [run for run in runs if run.taken]
        if excepted:
            places = [{"old_rule": run.window.rule_id, "old_at": run.window.at} for run in excepted]
            connection.execute(_FORGET_TAKEN, places)
            connection.execute(sa.insert(taken_table), [row for run in excepted for row in _taken_rows(run)])
        if new:
            connection.execute(sa.insert(_alerts), [_alert_row(alert) for alert in new])

    def alerts(self, *, rule_id: str | None = None) -> tuple[Alert, ...]:
        """All alerts in order of the run that raised them."""
        query = sa.select(_alerts.c.body).order_by(_alerts.c.at, _alerts.c.sequence)
        if rule_id is not None:
            query = query.where(_alerts.c.rule_id == rule_id)
        with self.reading() as connection:
            return tuple(map(_alert, connection.scalars(query)))

    def has_alert(self, rule_id: str, *, after: datetime, until: datetime) -> bool:
        """Whether a rule has raised an alert at a T after the one of these, not after the other."""
        query = sa.select(_alerts.c.id).where(
            _alerts.c.rule_id == rule_id, _alerts.c.at > after, _alerts.c.at <= until
        )
        with self.reading() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def alerts_named(self, ids: Sequence[str]) -> tuple[Alert, ...]:
        """The alerts with these ids, in order of the run that raised them."""
        with self.reading() as connection:
            return self.stored(connection, ids)

    @staticmethod
    def stored(connection: sa.Connection, ids: Sequence[str]) -> tuple[Alert, ...]:
        """The alerts with these ids, read inside the caller's transaction."""
        query = sa.select(_alerts.c.body).where(_alerts.c.id.in_(ids))
        return tuple(map(_alert, connection.scalars(query.order_by(_alerts.c.at, _alerts.c.sequence))))

    def alert(self, alert_id: str) -> Alert:
        """The alert with this id; NotFoundError when there is none."""
        found = self.alerts_named([alert_id])
        if not found:
            raise NotFoundError(f"no alert {alert_id}")
        return found[0]

    def go_on_after(self, sequence: int) -> None:
        """See `go_on_after`."""
        go_on_after(self.engine, _alerts, sequence)

    def pending(self, after_sequence: int, *, limit: int | None = 10_000) -> tuple[tuple[int, Alert], ...]:
        """Alerts stored after this sequence number, with their own: what is not exported to the lake yet."""
        query = sa.select(_alerts.c.sequence, _alerts.c.body).where(_alerts.c.sequence > after_sequence)
        with self.reading() as connection:
            rows = connection.execute(query.order_by(_alerts.c.sequence).limit(limit)).all()
        return tuple((sequence, _alert(body)) for sequence, body in rows)


_FORGET = sa.delete(windows_table).where(
    windows_table.c.rule_id == sa.bindparam("old_rule"),
    windows_table.c.at == sa.bindparam("old_at", type_=Moment),
)

_FORGET_TAKEN = sa.delete(taken_table).where(
    taken_table.c.rule_id == sa.bindparam("old_rule"),
    taken_table.c.at == sa.bindparam("old_at", type_=Moment),
)


def _taken_rows(run: Run) -> list[dict[str, object]]:
    window = run.window
    return [
        {
            "exception_id": taken.exception_id,
            "rule_id": window.rule_id,
            "at": window.at,
            "rows": len(taken.places),
            "error": taken.error,
        }
        for taken in run.taken
    ]


def _window_row(run: Run) -> dict[str, object]:
    return {
        "rule_id": run.window.rule_id,
        "at": run.window.at,
        "state": run.state.value,
        "reason": run.reason,
        "rows": run.rows,
        "seen": run.seen,
    }


def _alert_row(alert: Alert) -> dict[str, object]:
    return {"id": alert.id, "rule_id": alert.rule_id, "at": alert.at, "body": msgspec.json.encode(alert)}


def _basis(alert: Alert) -> object:
    """What an alert rests on: run, events and entities."""
    entities = frozenset((each.type, each.value) for each in alert.entities)
    return alert.rule_id, alert.at, frozenset(alert.detail(EVENT_IDS)), entities


def _alert(body: bytes) -> Alert:
    return msgspec.json.decode(body, type=Alert)
