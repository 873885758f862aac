"""Folders as a connector."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trailhawk.connectors import watching
from trailhawk.connectors.connector import ConnectorError, State
from trailhawk.connectors.watching import FolderSettings

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


def test_a_folder_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="no such file or folder"):
        run(store, tmp_path / "missing")
