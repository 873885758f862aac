"""Incidents in PostgreSQL: the same as in SQLite, hostile texts too."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import entity
from trailhawk.detect.rule import Grouping, Matching, Rule, RuleKind, Severity
from trailhawk.detect.store import open_state
from trailhawk.incidents.incident import Classification, Closing, Incident
from trailhawk.incidents.store import Wanted

pytest.importorskip("psycopg")
if shutil.which("initdb") is None or shutil.which("postgres") is None:
    pytest.skip("PostgreSQL is not installed", allow_module_level=True)

Raised = Callable[..., Alert]
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
ANY = Rule(
    id="s",
    name="s",
    query="T",
    kind=RuleKind.SCHEDULED,
    severity=Severity.LOW,
    grouping=Grouping(Matching.ANY_ALERT, timedelta(hours=5)),
)


@pytest.fixture(scope="module")
def database() -> Iterator[sa.Engine]:
    """A cluster of this test's own, which listens to a socket in its folder alone."""
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
        engine = open_state(f"postgresql://hunter@/postgres?host={folder}")
        yield engine
        engine.dispose()
        server.send_signal(signal.SIGINT)  # a fast end: whoever is connected is sent away
        server.wait(30)
        drain.join()
        server.stderr.close()


def work(desk: Any, raised: Raised) -> tuple[tuple[Incident, ...], list[Any]]:
    """Some of everything; how the incidents stand, and what the log tells."""
    store = desk.incidents

    def key(number: int) -> Any:
        return entity("AwsAccessKey", Id=f"ASIA{number}")

    hostile = entity("Url", Address="https://x/\0" + "é" * 5_000)
    desk.raise_(raised("a", key(1), hostile), raised("b", key(2), severity=Severity.HIGH))
    desk.raise_(raised("h4", minutes=240, rule="s"), raised("h8", minutes=480, rule="s"), rule=ANY)
    desk.raise_(raised("h0", rule="s"), rule=ANY)
    desk.raise_(raised("c", key(1), key(2), hostile, minutes=3))
    store.set(1, by="ana", now=NOW, owner="ana", add_labels=["x"], title="It's \u202e '%s'")
    store.comment(1, "one", by="ana", now=NOW)
    store.add_task(1, "look", by="ana", now=NOW)
    store.split(1, ["b"], by="ana", now=NOW)
    store.close(3, Closing.of(Classification.TRUE_POSITIVE), by="ana", now=NOW)
    store.merge(1, [4], by="bo", now=NOW)
    seen: list[int] = []
    store.consume("reader", lambda connection, change: seen.append(change.sequence))
    told = [
        [change.number, change.kind, change.by, change.at, change.alerts_added, change.others]
        for change in store.changes_since(0)
    ]
    assert seen == [change.sequence for change in store.changes_since(0)]
    address = hostile.value
    found = [
        [incident.number for incident in store.found(wanted)]
        for wanted in (
            Wanted(entity="ASIA2"),
            Wanted(entity=address),
            Wanted(label="X"),
            Wanted(text="IT'S"),
            Wanted(owner="ana"),
        )
    ]
    similar = [[each.incident.number, each.reasons] for each in store.similar(1)]
    return store.all(), [told, found, similar, store.classifications(), store.precisions()]


def test_the_same_as_in_sqlite(database: sa.Engine, new_desk: Any, raised: Raised) -> None:
    from_sqlite = work(new_desk(), raised)
    from_postgresql = work(type(new_desk())(database), raised)
    assert from_postgresql == from_sqlite
    assert len(from_sqlite[0]) >= 2
