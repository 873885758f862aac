"""A wrong set-up sets no object aside, and what a library does in a panic ends no other job."""

from __future__ import annotations

import random
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from support.shipping import until
from trailhawk.connectors import s3, sqs
from trailhawk.connectors.config import Location, Reading, S3Settings, SqsSettings
from trailhawk.connectors.connector import ConnectorError, State
from trailhawk.connectors.fetch import Fetched, Fetcher, RefusedError
from trailhawk.connectors.notices import Notice
from trailhawk.connectors.retry import Kind, fault_of
from trailhawk.connectors.running import Running
from trailhawk.run import Event, Job, Runner

if TYPE_CHECKING:
    from support.aws import Aws, Store

REDIRECT = ClientError({"Error": {"Code": "PermanentRedirect", "Message": "elsewhere"}}, "GetObject")


def elsewhere(self: Fetcher, notice: Notice) -> Fetched:
    raise RefusedError(notice.location, fault_of(REDIRECT))


def test_a_bucket_in_another_region_sets_nothing_aside(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the messages come: the objects are well, and are taken when the address is mended."""
    assert fault_of(REDIRECT).kind is Kind.SETUP
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    queue = aws.queue(aws.bucket())
    aws.put("logs", "1.json")
    given = SqsSettings("main", queue, aws.access, tries=1)
    with monkeypatch.context() as patch:
        patch.setattr(Fetcher, "fetch", elsewhere)
        stop, made = threading.Event(), sqs.connector(given, store.intake())
        thread = threading.Thread(target=made.run, args=(stop,))
        thread.start()
        while "s3://logs/1.json: PermanentRedirect: elsewhere (the bucket is in" not in made.state().problem:
            assert thread.is_alive()
            stop.wait(0.05)
        stop.set()
        thread.join()
        old = S3Settings("old", (Location("logs"),), aws.access, reading=Reading(threads=1))
        with pytest.raises(ConnectorError, match="PermanentRedirect"):
            s3.connector(old, store.intake()).run(threading.Event(), once=True)
    sqs.connector(given, store.intake()).run(threading.Event(), once=True)
    assert store.events() == ["0"]
    assert not store.reasons()


def test_an_object_that_is_refused_is_told_though_others_are_read(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next object that was read had ended the trouble, long before the message came again."""
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    fetch, is_well = Fetcher.fetch, threading.Event()
    denial = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetObject")

    def sometimes(self: Fetcher, notice: Notice) -> Fetched:
        if notice.key == "1.json" and not is_well.is_set():
            raise RefusedError(notice.location, fault_of(denial))
        return fetch(self, notice)

    monkeypatch.setattr(Fetcher, "fetch", sometimes)
    queue = aws.queue(aws.bucket())
    aws.put("logs", "1.json")
    made = sqs.connector(SqsSettings("main", queue, aws.access, tries=1000, flush_seconds=0), store.intake())
    stop = threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    until(lambda: "s3://logs/1.json: AccessDenied" in made.state().problem)
    aws.put("logs", "2.json")
    until(lambda: store.events() == ["1"])
    until(lambda: not made._held)
    assert "s3://logs/1.json: AccessDenied" in made.state().problem
    is_well.set()
    until(lambda: store.events() == ["0", "1"])
    until(lambda: not made.state().problem)
    stop.set()
    thread.join()


class Panic(BaseException):
    """As libraries in Rust raise it."""


def test_a_job_in_a_panic_is_told_and_started_again() -> None:
    stop, told, runs = threading.Event(), list[Event](), list[int]()

    def work(stop: threading.Event) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise Panic("index out of bounds")
        stop.set()

    runner = Runner(
        [Job("files", work)],
        tell=told.append,
        clock=lambda: datetime(2026, 3, 3, tzinfo=UTC),
        rng=random.Random(1),
    )
    assert runner.run(stop, drain_seconds=30) == []
    assert len(runs) == 2
    assert [(each.level, each.message) for each in told if each.job == "files"] == [
        ("error", "failed: Panic: index out of bounds")
    ]


def test_a_full_disk_is_no_idle_connector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process told last stands there for ever: it can tell nothing new."""
    running, now = Running(tmp_path / "health", "one"), datetime(2026, 3, 3, tzinfo=UTC)
    running.write(
        [State("main", "sqs", doing="waiting for messages", idle_since=now)],
        now=now,
        every=timedelta(seconds=60),
    )
    assert running.health({"name": "main"}, now=now)["state"] == "idle"
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=0))
    for minutes in (0, 1, 5, 600):  # after four of them it "has ended"
        told = running.health({"name": "main"}, now=now + timedelta(minutes=minutes))
        assert (told["state"], told["idle_since"]) == ("failing", None)
        assert f"no room is left on the disk of {tmp_path / 'health'}" in str(told["reason"])
    running.end([State("main", "sqs")], now=now)
    assert running.health({"name": "main"}, now=now)["state"] == "stopped"
