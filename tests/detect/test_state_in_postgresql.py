"""The state database in PostgreSQL: the same alerts and incidents as in SQLite, whoever writes at once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from support.postgresql import INSTALLED, Server, running
from trailhawk.cli import run
from trailhawk.detect.bookmarks import BookmarkStore
from trailhawk.detect.canary import Canary, Stage, keep, last_canaries
from trailhawk.detect.exceptions import ExceptionStore, RuleException
from trailhawk.detect.migrate import bring_up
from trailhawk.detect.rule import Expectation, Rule, RuleKind, RuleTest, Severity
from trailhawk.detect.run import Run, Taken
from trailhawk.detect.schedule import Window, WindowState
from trailhawk.detect.spans import done_since, known, micros, place, spans, write
from trailhawk.detect.store import AlertStore, open_state, reading, server_time
from trailhawk.detect.watchlists import WatchlistStore
from trailhawk.errors import StateError
from trailhawk.incidents.store import IncidentStore
from trailhawk.simulate.run import simulate
from trailhawk.workspace import Workspace

pytest.importorskip("psycopg")
if not INSTALLED:
    pytest.skip("PostgreSQL is not installed", allow_module_level=True)

LAST = date(2026, 3, 20)
NOW = datetime(2026, 3, 21, tzinfo=UTC)
NEAR = ("cloudtrail/", "data/bucket-read", "data/bucket-transfer")
"""Where the rules lie that look at stolen credentials and at reads of buckets."""
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def database(server: Server) -> str:
    return server.address


def trailhawk(home: Path, *words: str) -> str:
    """One command in a process of its own, which leaves no connection behind."""
    command = [sys.executable, "-m", "trailhawk", "--home", str(home), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_the_same_incidents_as_in_sqlite(database: str, tmp_path: Path) -> None:
    made = simulate(
        "cloud-breach-s3", tmp_path, seed=7, days=1, events_per_day=300, flows_per_day=0, end=LAST
    )
    found: dict[str, list[dict[str, object]]] = {}
    for name, settings in (("sqlite", ""), ("postgresql", f'[state]\nurl = "{database}"\n')):
        home = tmp_path / name
        home.mkdir()
        (home / "trailhawk.toml").write_text(settings)
        workspace = Workspace.open(home, clock=lambda: NOW)
        workspace.ingest([made.logs], lambda _: None)
        rules = workspace.content.rules()
        workspace.detect(
            [rule for rule in rules if any(part in Path(rule.source).as_posix() for part in NEAR)]
        )
        workspace.alerts.engine.dispose()
        found[name] = json.loads(trailhawk(home, "incidents", "list", "--format", "json"))
    assert found["postgresql"]
    assert [each["title"] for each in found["postgresql"]] == [each["title"] for each in found["sqlite"]]
    there = tmp_path / "postgresql"
    assert not (there / "state.db").exists()
    assert str(found["postgresql"][0]["title"])[:20] in trailhawk(
        there, "incidents", "show", str(found["postgresql"][0]["number"])
    )


def test_transactions_come_one_after_the_other(database: str) -> None:
    engine = open_state(database)
    AlertStore(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE counted (n INTEGER)")
        connection.exec_driver_sql("INSERT INTO counted VALUES (0)")

    def count() -> None:
        for _ in range(20):
            with engine.begin() as connection:
                known = connection.exec_driver_sql("SELECT n FROM counted").scalar_one()
                connection.execute(sa.text("UPDATE counted SET n = :n"), {"n": known + 1})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT n FROM counted").scalar_one() == 80
    engine.dispose()


def test_exceptions_and_canaries_are_kept_in_it(database: str) -> None:
    engine = open_state(database)
    alerts, store = AlertStore(engine), ExceptionStore(engine)
    rule = Rule(id="r", name="R", query="", kind=RuleKind.SCHEDULED, severity=Severity.LOW)
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    made = store.add(RuleException(0, "r", "R", "A == 'x'", "agreed", moment + DAY, moment, "ada"))
    window = Window("r", moment, moment - DAY, moment - DAY)
    for places in ((0,), (0, 1)):
        done = Run(window, WindowState.DONE, taken=(Taken(made.id, places), Taken(made.id + 1, error="no A")))
        with engine.begin() as connection:
            alerts.record(connection, [done], ())
    counts = store.counts()
    assert (counts[made.id].rows, counts[made.id].windows, counts[made.id].last) == (2, 1, moment)
    assert (counts[made.id + 1].rows, counts[made.id + 1].error) == (0, "no A")
    assert store.remove(made.id, now=moment, by="eve").removed_at == moment
    test = RuleTest("it fires", Expectation(1))
    keep(engine, [Canary(rule, test, None, "")], now=moment)
    keep(engine, [Canary(rule, test, Stage.ALERT, "no alert")], now=moment + DAY)
    last = last_canaries(engine)["r"]
    assert (last.passed, last.at, last.passed_at) == (False, moment + DAY, moment)
    engine.dispose()


def test_a_database_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trailhawk.toml").write_text(f'[state]\nurl = "postgresql://x@/none?host={tmp_path}"\n')
    assert run(["--home", str(tmp_path), "incidents", "list"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("state: the state database none: ")
    assert told.count("\n") == 1


def test_an_address_that_is_none() -> None:
    with pytest.raises(StateError, match=r"see \[state\] url"):
        open_state("postgresql//nothing")


def test_who_reads_waits_for_no_writer(database: str) -> None:
    engine = open_state(database)
    IncidentStore(AlertStore(engine))
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT 1"))
        other = open_state(f"{database}&options=-c%20statement_timeout%3D5s")
        assert AlertStore(other).windows("none") == {}
        IncidentStore(AlertStore(other))
        other.dispose()
    engine.dispose()


def test_a_writer_does_not_wait_for_ever(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_state(database)
    AlertStore(engine)
    monkeypatch.setattr("trailhawk.detect.store._WAIT", timedelta(milliseconds=100))
    longer = pytest.raises(StateError, match="another process has been writing")
    with engine.begin(), longer as refused, engine.begin():
        pass
    assert "lock timeout" in refused.value.message
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one() == "2min"
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "100ms"
    engine.dispose()


def test_who_hangs_in_a_transaction_does_not_hold_up_the_others(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_state(database)
    store = AlertStore(engine)
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    done = Run(Window("hangs", moment, moment, moment), WindowState.DONE)
    monkeypatch.setattr("trailhawk.detect.store._IDLE", timedelta(milliseconds=100))

    def hangs() -> None:
        with engine.begin() as connection:
            store.record(connection, [done], ())
            with engine.begin():  # as soon as the one that hangs was ended
                pass
            store.record(connection, [done], ())

    with pytest.raises(StateError, match="idle-in-transaction"):
        hangs()
    assert store.windows("hangs") == {}
    engine.dispose()


def test_what_a_database_is_set_to_lets_nobody_overtake(database: str) -> None:
    for level in ("repeatable read", "serializable"):
        engine = open_state(
            f"{database}&options=-c%20default_transaction_isolation%3D{level.replace(' ', '%5C%20')}"
        )
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE IF EXISTS tally")
            connection.exec_driver_sql("CREATE TABLE tally (n INTEGER)")
        counted: list[int] = []

        def count(engine: sa.Engine = engine, counted: list[int] = counted) -> None:
            for _ in range(10):
                with engine.begin() as connection:
                    known = connection.exec_driver_sql("SELECT count(*) FROM tally").scalar_one()
                    connection.exec_driver_sql("INSERT INTO tally VALUES (1)")
                    counted.append(known)

        threads = [threading.Thread(target=count) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(counted) == list(range(30))
        engine.dispose()


def test_more_threads_than_connections(database: str) -> None:
    engine = open_state(database)
    store = AlertStore(engine)
    moment = datetime(2026, 3, 1, tzinfo=UTC)

    def write(name: str) -> None:
        done = Run(Window(name, moment, moment, moment), WindowState.DONE)
        with engine.begin() as connection:
            store.record(connection, [done], ())
        assert list(store.windows(name)) == [moment]

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(write, [f"of thread {n}" for n in range(120)]))
    engine.dispose()


def test_spans_of_windows_take_rows_that_saw_less(database: str) -> None:
    store = AlertStore(open_state(database))
    hour = timedelta(hours=1)
    first = datetime(2026, 3, 1, tzinfo=UTC)
    at = np.array([place(first + number * hour) for number in range(6)])
    runs = [
        Run(Window("spans", first + number * hour, first, first), WindowState.DONE, seen=seen)
        for number, seen in ((1, 9), (2, 1), (5, 1))
    ]
    with store.engine.begin() as connection:
        store.record(connection, runs, ())
        write(connection, "spans", list(spans(micros(hour), at[:4], np.full(4, 4), WindowState.DONE)))
        write(connection, "spans", list(spans(micros(hour), at[3:4], np.full(1, 5), WindowState.DONE)))
        assert known(connection, "spans", at).tolist() == [4, 9, 4, 5, -1, 1]
        assert done_since(connection, "spans", int(at[0]))[0].tolist() == at[2:4].tolist()
    assert [each.seen for each in store.windows("spans").values()] == [4, 9, 4, 5, 1]
    store.engine.dispose()


def test_a_nul_of_the_logs_is_kept_as_something_that_can_be(database: str) -> None:
    engine = open_state(database)
    store = AlertStore(engine)
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    runs = [
        Run(Window("a\0b", moment + number * DAY, moment, moment), WindowState.FAILED, "not 'x\0y'")
        for number in range(2)
    ]
    for _ in range(2):
        with engine.begin() as connection:
            store.record(connection, runs, ())
    found = store.windows("a\0b")
    assert [(at, each.reason) for at, each in found.items()] == [
        (moment, "not 'x\ufffdy'"),
        (moment + DAY, "not 'x\ufffdy'"),
    ]
    engine.dispose()


def test_two_bring_an_older_database_over_at_once(database: str) -> None:
    engines = [open_state(database) for _ in range(4)]
    with engines[0].begin() as connection:
        connection.exec_driver_sql("CREATE TABLE older (n INTEGER)")
        connection.exec_driver_sql("INSERT INTO older VALUES (1)")

    def step(connection: sa.Connection) -> None:
        connection.exec_driver_sql("UPDATE older SET n = n + 1")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda engine: bring_up(engine, "older", [], [step, step], began_as="older"), engines))
    with reading(engines[0]) as connection:
        assert connection.exec_driver_sql("SELECT n FROM older").scalar_one() == 3
    for engine in engines:
        engine.dispose()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_the_server_starts_again(server: Server, how: signal.Signals) -> None:
    engine = open_state(server.address)
    store = AlertStore(engine)
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    done = Run(Window(how.name, moment, moment, moment), WindowState.DONE)

    def interrupted() -> None:
        with engine.begin() as connection:
            store.record(connection, [done], ())
            server.stop(how)
            store.record(connection, [done], ())

    with pytest.raises(StateError):
        interrupted()
    with pytest.raises(StateError, match="connection"):
        store.windows(how.name)
    server.start()
    assert store.windows(how.name) == {}
    with engine.begin() as connection:
        store.record(connection, [done], ())
    server.stop(how)
    server.start()
    # The connections that were kept are gone, and nobody has to know.
    assert list(store.windows(how.name)) == [moment]
    engine.dispose()


def test_numbers_go_on_behind_those_that_the_lake_has(database: str) -> None:
    engine = open_state(database)
    store = IncidentStore(AlertStore(engine))
    bookmarks, watchlists = BookmarkStore(engine), WatchlistStore(engine)
    for each in (AlertStore(engine), store, bookmarks, watchlists):
        each.go_on_after(40)
        each.go_on_after(30)
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    for number in range(2):
        watchlists.add("hosts", [f"h{number}"], column="Host", values={}, source="x", now=moment)
    assert [each.sequence for each in watchlists.pending(40)] == [41, 42]
    watchlists.go_on_after(42)
    watchlists.add("hosts", ["h9"], column="Host", values={}, source="x", now=moment)
    assert watchlists.pending(42)[0].sequence == 43
    engine.dispose()


def test_the_first_change_in_a_new_database_goes_on_behind_the_lake(database: str, tmp_path: Path) -> None:
    """Where the state was lost, and the lake is still there."""
    (tmp_path / "trailhawk.toml").write_text(f'[state]\nurl = "{database}"\n')
    items = tmp_path / "items.csv"
    items.write_text("Host\nh1\nh2\n")
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    stored = []
    for _ in range(2):
        engine = open_state(database)
        with engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
        engine.dispose()
        home = Workspace.open(tmp_path, clock=lambda: moment)

        def load(alias: str, home: Workspace = home) -> None:
            home.watchlists.load(alias, items, key=None, now=moment)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(load, "abcd"))
        home.export()
        stored.append(home.lake.snapshot("Watchlist").rows)
        home.alerts.engine.dispose()
    assert stored[1] == 2 * stored[0] > 0


def test_what_time_it_is_there(database: str) -> None:
    engine = open_state(database)
    there = server_time(engine)
    assert there is not None
    assert abs(datetime.now(UTC) - there) < timedelta(seconds=30)
    engine.dispose()


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:hush@hush/hush@db.example/x",
        "postgresql://u:hush@hush@db.example/x",
        "postgresql://u:hu:sh@db.example:hush/x",
        "postgresql://u:hush@[::1/x",
        "postgresql://u:hush%00@127.0.0.1:1/x",
        "postgresql://u:hush@127.0.0.1:1/x",
        "postgresql://u@127.0.0.1:1/x?password=hush",
        "postgresql://u:hush@127.0.0.1:99999999/x",
        "postgresql://u:hush@127.0.0.1:1/x?hush=1&sslmode=hush%27",
        "postgresql+none://u:hush@127.0.0.1/x",
    ],
)
def test_no_error_tells_the_password(address: str) -> None:
    with pytest.raises(StateError) as refused:
        AlertStore(open_state(address))
    assert "hush" not in str(refused.value).replace('option "hush"', "")
