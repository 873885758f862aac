"""The state database in PostgreSQL: the same alerts and incidents as in SQLite, whoever writes at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from trailhawk.cli import run
from trailhawk.detect.canary import Canary, Stage, keep, last_canaries
from trailhawk.detect.exceptions import ExceptionStore, RuleException
from trailhawk.detect.rule import Expectation, Rule, RuleKind, RuleTest, Severity
from trailhawk.detect.run import Run, Taken
from trailhawk.detect.schedule import Window, WindowState
from trailhawk.detect.store import AlertStore, open_state
from trailhawk.errors import StateError
from trailhawk.simulate.run import simulate

pytest.importorskip("psycopg")
if shutil.which("initdb") is None or shutil.which("postgres") is None:
    pytest.skip("PostgreSQL is not installed", allow_module_level=True)

LAST = date(2026, 3, 20)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The address of a cluster of this test's own, which listens to a socket in its folder alone."""
    # PostgreSQL refuses to run as root, and others cannot look into pytest's folders.
    user = "nobody" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="th-pg-") as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        options = ["-A", "trust", "-U", "hunter", "--no-sync", "--locale=C", "--encoding=UTF8"]
        subprocess.run(
            ["initdb", "-D", str(folder / "data"), *options], user=user, check=True, capture_output=True
        )
        command = ["postgres", "-D", str(folder / "data"), "-c", "listen_addresses=", "-k", str(folder)]
        server = subprocess.Popen([*command, "-F"], user=user, stderr=subprocess.PIPE, text=True)
        assert server.stderr
        while "ready to accept connections" not in (line := server.stderr.readline()):
            assert line, "the server has ended"
        drain = threading.Thread(target=server.stderr.read, daemon=True)
        drain.start()
        yield f"postgresql://hunter@/postgres?host={folder}"
        server.send_signal(signal.SIGINT)  # a fast end: whoever is connected is sent away
        server.wait(30)
        drain.join()
        server.stderr.close()


def trailhawk(home: Path, *words: str) -> str:
    """One command in a process of its own, which leaves no connection behind."""
    command = [sys.executable, "-m", "trailhawk", "--home", str(home), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_incidents_as_in_sqlite(database: str, tmp_path: Path) -> None:
    made = simulate(
        "cloud-breach-s3", tmp_path, seed=7, days=2, events_per_day=300, flows_per_day=0, end=LAST
    )
    found: dict[str, list[dict[str, object]]] = {}
    for name, settings in (("sqlite", ""), ("postgresql", f'[state]\nurl = "{database}"\n')):
        home = tmp_path / name
        home.mkdir()
        (home / "trailhawk.toml").write_text(settings)
        trailhawk(home, "ingest", str(made.logs), "--quiet")
        trailhawk(home, "detect", "--quiet")
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
