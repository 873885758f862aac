"""Folders as a connector."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from support.shipping import until
from trailhawk.connectors import watching
from trailhawk.connectors.connector import ConnectorError, State
from trailhawk.connectors.ingest import Ingestor
from trailhawk.connectors.objects import LogObject, Outcome
from trailhawk.connectors.watching import FolderSettings
from trailhawk.errors import LakeError

if TYPE_CHECKING:
    from support.aws import Store


def write(path: Path, number: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "eventVersion": "1.11",
        "eventID": number,
        "eventTime": "2026-03-03T10:00:00Z",
        "eventName": "GetObject",
        "eventSource": "s3.amazonaws.com",
        "awsRegion": "eu-west-1",
        "recipientAccountId": "111122223333",
    }
    path.write_text(json.dumps({"Records": [record]}))


def run(store: Store, *paths: Path) -> State:
    made = watching.connector(FolderSettings("files", paths), store.intake())
    made.run(threading.Event(), once=True)
    return made.state()


def test_files_are_taken_once(store: Store, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write(logs / "a" / "1.json", "1")
    write(logs / "2.json", "2")
    assert run(store, logs).rows == 2
    write(logs / "3.json", "3")
    state = run(store, logs)
    assert (state.rows, state.skipped, state.doing) == (1, 2, "stopped")
    assert store.events() == ["1", "2", "3"]


def test_files_that_come_while_it_runs(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0.02)
    logs = tmp_path / "logs"
    logs.mkdir()
    made = watching.connector(FolderSettings("files", (logs,), quiet_seconds=0), store.intake())
    stop = threading.Event()
    worker = threading.Thread(target=made.run, args=(stop,))
    worker.start()
    try:
        for number in ("1", "2"):
            write(logs / f"{number}.json", number)
            for _ in range(3000):
                if made.state().rows >= int(number):
                    break
                threading.Event().wait(0.02)
    finally:
        stop.set()
        worker.join()
    assert store.events() == ["1", "2"]


def test_what_cannot_be_stored_is_taken_again_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of one table is damaged: what is for others is stored and not read again, and that something is
    wrong is told all the time."""
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0.02)
    log = store.lake.root / "AWSVPCFlow" / "_delta_log" / f"{0:020}.json"
    log.parent.mkdir(parents=True)
    log.write_text("damaged")
    logs = tmp_path / "logs"
    write(logs / "1.json", "1")
    head = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end"
    line = "2 123456789010 eni-1 10.0.0.1 10.0.0.2 1 443 6 1 40 1772532000 1772532060 ACCEPT OK"
    (logs / "flows.log").write_text(f"{head} action log-status\n{line}\n")
    made = watching.connector(FolderSettings("files", (logs,), quiet_seconds=0), store.intake())
    stop = threading.Event()
    problems = list[str]()

    def is_stored(rows: int) -> bool:
        problems.append(made.state().problem)
        return made.state().rows == rows

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(made.run, stop)
        try:
            until(lambda: made.state().problem)
            until(lambda: is_stored(1))
            write(logs / "2.json", "2")
            until(lambda: is_stored(2))
            assert all("log of table AWSVPCFlow cannot be read" in each for each in problems)
            log.unlink()
            log.parent.rmdir()
            until(lambda: made.state().rows == 3)
            until(lambda: not made.state().problem)
        finally:
            stop.set()
            running.result()
    state = made.state()
    assert (state.objects, state.skipped) == (3, 0)
    assert store.events() == ["1", "2"]


def test_an_outage_in_the_midst_of_a_look_leaves_out_no_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0.02)
    logs = tmp_path / "logs"
    for number in range(3):
        write(logs / f"{number}.json", f"{number}")
    outages = iter([False, True, True, True, False])

    class Out(Ingestor):
        def take(self, item: LogObject, done: Callable[[Outcome], None] = lambda _: None) -> None:
            if next(outages, False):
                self._abandon()
                raise LakeError("no bucket")
            super().take(item, done)

    now = store.intake().clock
    intake = dataclasses.replace(store.intake(), taker=lambda worker: Out(store.lake, clock=now))
    made = watching.connector(FolderSettings("files", (logs,), quiet_seconds=0), intake)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(made.run, stop)
        try:
            until(lambda: made.state().problem == "no bucket")
            until(lambda: made.state().rows == 3)
            until(lambda: not made.state().problem)
        finally:
            stop.set()
            running.result()
    assert store.events() == ["0", "1", "2"]


def test_new_failures_put_off_no_earlier_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often new files cannot be stored, those of before are taken again when they are due; and the
    longer a round takes, the later."""
    moment = [0.0]
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: moment[0]))
    taken: list[tuple[str, float]] = []

    class Never(Ingestor):
        def take(self, item: LogObject, done: Callable[[Outcome], None] = lambda _: None) -> None:
            taken.append((Path(item.location).name, moment[0]))
            moment[0] += 0.5 if moment[0] > 30 else 0.0

        def flush(self) -> None:
            raise LakeError("no bucket")

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            moment[0] += 1.0
            write(logs / f"{moment[0]}.json", "1")
            if moment[0] > 400:
                self.set()
            return True

    logs = tmp_path / "logs"
    write(logs / "first.json", "1")
    now = store.intake().clock
    intake = dataclasses.replace(store.intake(), taker=lambda worker: Never(store.lake, clock=now))
    watching.connector(FolderSettings("files", (logs,), quiet_seconds=0), intake).run(Stop())
    again = [when for name, when in taken if name == "first.json"]
    assert [int(when) for when in again[1:5]] == [2, 4, 8, 16]
    assert again[6] - again[5] >= 150


def test_a_folder_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="no such file or folder"):
        run(store, tmp_path / "missing")
