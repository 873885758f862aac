"""The state database in a SQLite file: readers beside a writer, many that open it at once, a full disk."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from trailhawk.detect.run import Run
from trailhawk.detect.schedule import Window, WindowState
from trailhawk.detect.store import AlertStore, open_state, server_time, sqlite_url
from trailhawk.errors import StateError
from trailhawk.incidents.store import IncidentStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def done(name: str, reason: str = "") -> Run:
    return Run(Window(name, NOON, NOON, NOON), WindowState.DONE, reason)


@pytest.fixture
def address(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "state.db")


def test_who_reads_waits_for_no_writer_and_sees_what_was_committed(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trailhawk.detect.store._WAIT", timedelta(milliseconds=50))
    engine, other = open_state(address), open_state(address)
    store = AlertStore(engine)
    IncidentStore(store)
    with engine.begin() as connection:
        store.record(connection, [done("a")], ())
        beside = AlertStore(other)
        assert beside.windows("a") == {}
        assert IncidentStore(beside).all() == ()
    assert list(beside.windows("a")) == [NOON]
    # Nor does anybody wait for who reads.
    with beside.reading() as connection, engine.begin() as writing:
        store.record(writing, [done("b")], ())
        assert connection.exec_driver_sql("SELECT count(*) FROM windows").scalar_one() == 1
    engine.dispose()
    other.dispose()


def test_a_writer_that_waits_too_long_is_told_what_to_do(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trailhawk.detect.store._WAIT", timedelta(milliseconds=50))
    engine = open_state(address)
    AlertStore(engine)
    longer = pytest.raises(StateError, match="locked; another process has been writing to it for long")
    with engine.begin(), longer, engine.begin():
        pass
    engine.dispose()


def test_many_open_a_new_one_at_once(tmp_path: Path) -> None:
    def opened(address: str) -> None:
        engine = open_state(address)
        IncidentStore(AlertStore(engine))
        engine.dispose()

    for number in range(5):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(opened, [sqlite_url(tmp_path / f"{number}.db")] * 8))


def test_more_threads_than_connections(address: str) -> None:
    engine = open_state(address)
    store = AlertStore(engine)

    def write(name: str) -> None:
        with engine.begin() as connection:
            store.record(connection, [done(name)], ())
        assert list(store.windows(name)) == [NOON]

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(write, [f"of thread {n}" for n in range(80)]))
    engine.dispose()


def test_threads_that_get_no_connection_are_told(address: str) -> None:
    engine = open_state(address)
    pool = type(engine.pool)(
        lambda: sqlite3.connect(":memory:"),  # type: ignore[arg-type]  # of any driver
        pool_size=1,
        max_overflow=0,
        timeout=0.01,  # type: ignore[call-arg]
    )
    kept = pool.connect()
    with pytest.raises(StateError, match="every connection is in use"):
        pool.connect()
    kept.close()
    pool.dispose()
    engine.dispose()


def test_a_disk_that_is_full_loses_nothing_that_was_written(address: str) -> None:
    engine = open_state(address)
    store = AlertStore(engine)
    with engine.begin() as connection:
        store.record(connection, [done("before")], ())
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    def much() -> None:
        with engine.begin() as connection:
            store.record(connection, [done("first")], ())
            store.record(connection, [done(f"much {n}", "x" * 4_000) for n in range(10)], ())

    with pytest.raises(StateError, match="is full; make room; what was written before is kept"):
        much()
    assert (list(store.windows("before")), list(store.windows("first"))) == ([NOON], [])
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    much()
    assert list(store.windows("first")) == [NOON]
    engine.dispose()


def test_a_file_has_the_time_of_this_machine(address: str) -> None:
    engine = open_state(address)
    assert server_time(engine) is None
    engine.dispose()


@pytest.mark.parametrize(
    ("free", "told"), [(4096, "make room"), (1 << 40, "a home belongs on a local disk"), (None, "local disk")]
)
def test_an_error_of_a_full_disk_is_told_as_such(
    free: int | None, told: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says that reading failed: it could not make its index, for which a little room is needed."""
    engine = open_state(address)
    AlertStore(engine)

    def usage(folder: Path) -> object:
        if free is None:
            raise PermissionError
        return SimpleNamespace(free=free)

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr("trailhawk.detect.store.shutil.disk_usage", usage)
    with engine.connect() as connection:
        monkeypatch.setattr(engine.dialect, "do_execute", fail)
        with pytest.raises(StateError, match=f"state.db: disk I/O error; .*{told}"):
            connection.exec_driver_sql("SELECT 1")
        monkeypatch.undo()
    engine.dispose()
