"""HTTP: shippers that go in the midst of a body, and trouble of the lake that passes."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from support.shipping import HASH, TOKEN, running, until
from trailhawk.connectors import http
from trailhawk.connectors.connector import Board
from trailhawk.connectors.ingest import Ingestor
from trailhawk.connectors.objects import Outcome
from trailhawk.errors import StateError

if TYPE_CHECKING:
    from support.aws import Store

EVENT = json.dumps({"eventVersion": "1.11", "eventID": "1", "eventTime": "2026-03-01T09:30:00Z"}).encode()
SETTINGS = http.HttpSettings("web", "127.0.0.1", 0, token_sha256=(HASH,), flush_seconds=0)


def post(client: httpx.Client) -> int:
    return client.post("/ingest/AWSCloudTrail", content=EVENT).status_code


def test_who_goes_in_the_midst_of_a_body_leaves_nothing_and_is_no_error(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of them was a traceback among the lines that `trailhawk run` tells."""
    web = http.HttpConnector(SETTINGS, store.intake())
    head = f"POST /ingest/AWSCloudTrail HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    begun = [f"{head}Content-Length: 500\r\n\r\n{{", f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{"]
    with running(web) as client:
        for sent in [*begun, "no request at all\r\n\r\n"]:
            with socket.create_connection(("127.0.0.1", web.port)) as gone:
                gone.sendall(sent.encode())
        assert post(client) == 200
        until(lambda: web.state().rows)
        assert web.state().problem == ""
    assert store.events() == ["1"]
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_an_outage_is_told_and_is_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said was told until the process ended, though all was stored."""
    monkeypatch.setattr(http, "_RETRY_SECONDS", 0.05)
    away = threading.Event()
    away.set()

    class Away(Ingestor):
        def flush(self) -> None:
            if away.is_set():
                self._abandon()
                raise StateError("the state database is away")
            super().flush()

    web = http.HttpConnector(SETTINGS, intake(store, Away))
    with running(web) as client:
        assert post(client) == 200
        until(lambda: web.state().problem)
        assert web.state().problem == "the state database is away"
        away.clear()
        until(lambda: web.state().rows)
        until(lambda: not web.state().problem)
    assert store.events() == ["1"]


def test_a_body_over_which_it_failed_is_told_until_the_next_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That, too, was told until the process ended."""
    web = http.HttpConnector(SETTINGS, store.intake())
    with running(web) as client:
        with monkeypatch.context() as broken:
            broken.setattr(http, "unpacked", None)
            assert post(client) == 500
        assert "a body could not be taken" in web.state().problem
        assert client.post("/ingest/AWSCloudTrail", content="no JSON").status_code == 400
        assert "a body could not be taken" in web.state().problem
        assert post(client) == 200
        assert web.state().problem == ""


def test_of_several_problems_one_being_over_leaves_the_others() -> None:
    moments = iter(range(1, 10))
    board = Board("main", "sqs", lambda: datetime(2026, 3, next(moments), tzinfo=UTC))
    board.problem("queue", "throttled")
    board.problem("objects", "denied")
    board.over("queue")
    board.over("queue")
    assert (board.state().problem, board.state().problem_since) == (
        "denied",
        datetime(2026, 3, 1, tzinfo=UTC),
    )
    board.problem("queue", "throttled")
    board.problem("objects", "denied again")
    assert board.state().problem == "denied again"
    board.over("objects")
    assert board.state().problem == "throttled"
    board.over("queue")
    assert (board.state().problem, board.state().problem_since) == ("", None)
    board.problem("queue", "gone")
    assert board.state().problem_since == datetime(2026, 3, 2, tzinfo=UTC)


def test_it_is_told_where_all_that_came_is_in_the_quarantine() -> None:
    """Objects come, and nothing of them can be found: a source of one's own may have taken them."""
    board = Board("main", "sqs", lambda: datetime(2026, 3, 1, tzinfo=UTC))
    bad = Outcome("stored", "s3://logs/a.json", records=3, quarantined=3)
    for outcome in (*[bad] * 9, Outcome("skipped", ""), Outcome("digest", "")):
        board.ended(outcome, 1)
    assert board.state().problem == ""
    board.ended(dataclasses.replace(bad, state="quarantined", location="s3://logs/b.json"), 1)
    told = board.state().problem
    assert told.startswith("all that came, 10 objects by now, is in the quarantine, at last s3://logs/b.json")
    board.problem("buckets", "AccessDenied")
    board.ended(bad, 1)
    assert board.state().problem == "AccessDenied"  # which says why
    board.over("buckets")
    board.ended(dataclasses.replace(bad, rows=1, quarantined=2), 1)
    for outcome in [bad] * 20:
        board.ended(outcome, 1)
    assert board.state().problem == ""


def test_what_an_error_that_nobody_foresaw_left_is_taken_when_it_is_started_again(store: Store) -> None:
    class Broken(Ingestor):
        def flush(self) -> None:
            self._abandon()
            raise RuntimeError

    web = http.HttpConnector(SETTINGS, intake(store, Broken))
    failed: list[BaseException] = []

    def run() -> None:
        try:
            web.run(threading.Event())
        except RuntimeError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: web.port)
    url = f"http://127.0.0.1:{web.port}/ingest/AWSCloudTrail"
    assert httpx.post(url, content=EVENT, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    thread.join()
    assert failed
    web._intake = store.intake()
    with running(web):
        until(lambda: web.state().rows)
    assert store.events() == ["1"]


def intake(store: Store, kind: type[Ingestor]) -> Any:
    made = store.intake()
    return dataclasses.replace(made, taker=lambda worker: kind(store.lake, clock=made.clock, worker=worker))
