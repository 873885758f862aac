"""The queue of notices: what is taken, when messages are deleted, what becomes of objects not to be had."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pytest

from trailhawk.connectors import sqs
from trailhawk.connectors.config import Access, SqsSettings
from trailhawk.connectors.connector import ConnectorError, State
from trailhawk.connectors.ingest import Ingestor

if TYPE_CHECKING:
    from support.aws import Aws, Store


NOW = dt.datetime(2026, 3, 3, 12, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for messages that do not come: moto has one server only."""
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)


def settings(aws: Aws, queue: str, **changes: Any) -> SqsSettings:
    return dataclasses.replace(SqsSettings("main", queue, aws.access), **changes)


def run(aws: Aws, store: Store, queue: str, **changes: Any) -> State:
    made = sqs.connector(settings(aws, queue, **changes), store.intake())
    made.run(threading.Event(), once=True)
    return made.state()


def test_objects_are_taken_and_their_messages_deleted(aws: Aws, store: Store) -> None:
    queue = aws.queue(aws.bucket())
    keys = ["AWSLogs/1.json", "2.json", "3.json", "4.json"]
    for key in keys:
        aws.put("logs", key)
    state = run(aws, store, queue)
    assert set(store.ledger()) == {f"s3://logs/{key}" for key in keys}
    assert store.events() == ["0", "1", "2", "3"]
    assert aws.waiting(queue) == (0, 0)
    assert (state.objects, state.rows, state.skipped, state.in_flight) == (4, 4, 0, 0)
    entry = store.ledger()["s3://logs/AWSLogs/1.json"]
    assert (entry["Bucket"], entry["Key"]) == ("logs", "AWSLogs/1.json")
    assert entry["Object"].startswith("s3:logs/AWSLogs/1.json@")


def test_a_notice_delivered_again_stores_nothing_again(aws: Aws, store: Store) -> None:
    queue = aws.queue(aws.bucket())
    aws.put("logs", "1.json")
    given = aws.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    body = next(message["Body"] for message in given if "1.json" in message["Body"])
    for message in given:
        aws.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    for _ in range(3):
        aws.sqs.send_message(QueueUrl=queue, MessageBody=body)
    first = run(aws, store, queue)
    aws.sqs.send_message(QueueUrl=queue, MessageBody=body)
    second = run(aws, store, queue)
    assert store.events() == ["0"]
    assert second.skipped == 1
    assert first.objects - first.skipped == 1
    assert aws.waiting(queue) == (0, 0)


def notice(key: str, etag: str = "", bucket: str = "logs", version: str = "") -> dict[str, object]:
    told = {"key": key, "eTag": etag, "size": 9, "versionId": version}
    return {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": told}}


def test_keys_are_decoded(aws: Aws, store: Store) -> None:
    aws.bucket()
    queue = aws.queue()
    keys = ["a folder/with space + plus.json", "snowman ☃ é/%41.json", "كتاب=1&b.json"]
    for key in keys:
        aws.put("logs", key)
        body = json.dumps({"Records": [notice(quote_plus(key, safe="/"))]})
        aws.sqs.send_message(QueueUrl=queue, MessageBody=body)
    run(aws, store, queue)
    assert set(store.ledger()) == {f"s3://logs/{key}" for key in keys}
    assert store.events() == ["0", "1", "2"]


def test_a_message_of_several_records_is_deleted_when_all_are_done(aws: Aws, store: Store) -> None:
    aws.bucket()
    queue = aws.queue()
    for name in ("1", "2", "3"):
        aws.put("logs", f"{name}.json")
    records = [notice("1.json"), notice("2.json"), notice("gone.json"), notice("3.json")]
    aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": records}))
    state = run(aws, store, queue)
    assert store.events() == ["0", "1", "2"]
    assert aws.waiting(queue) == (0, 0)
    assert state.set_aside == 1
    assert "NoSuchKey" in store.reasons()[0]
    assert "deleted after the notice" in store.reasons()[0]


def test_what_is_no_notice_is_set_aside_with_its_beginning(aws: Aws, store: Store) -> None:
    aws.bucket()
    queue = aws.queue()
    aws.put("logs", "1.json")
    half = {"Records": [notice("1.json"), {"eventName": "ObjectCreated:Put"}]}
    for body in ("no JSON {", json.dumps({"hello": 1}), json.dumps(half)):
        aws.sqs.send_message(QueueUrl=queue, MessageBody=body)
    run(aws, store, queue)
    assert store.events() == ["0"]
    assert len(store.reasons()) == 3
    assert any("no JSON {" in reason for reason in store.reasons())
    assert aws.waiting(queue) == (0, 0)


def test_what_is_no_notice_is_left_to_a_redrive_policy(aws: Aws, store: Store) -> None:
    queue = aws.queue()
    aws.sqs.send_message(QueueUrl=queue, MessageBody="no JSON {")
    run(aws, store, queue, on_poison="redrive")
    assert not store.reasons()
    assert aws.waiting(queue) == (0, 1)


def test_a_filter_that_nothing_fits_is_told_until_something_does(aws: Aws, store: Store) -> None:
    """Messages of what does not fit are deleted: a prefix mistyped at the start would lose all of them
    without a word. Once something has fitted others may be passed over, also after a new start."""
    queue = aws.queue(aws.bucket())

    def put(folder: str, count: int) -> None:
        for number in range(count):
            aws.put("logs", f"{folder}{number}.json")

    put("AWSLogs/", 9)
    assert run(aws, store, queue, prefixes=("AWSLog/",)).problem == ""
    put("AWSLogs/", 10)
    problem = run(aws, store, queue, prefixes=("AWSLog/",)).problem
    assert "10 objects" in problem
    assert "s3://logs/AWSLogs/" in problem
    assert "prefixes = ['AWSLog/']" in problem
    put("AWSLogs/", 1)
    put("other/", 10)
    assert run(aws, store, queue, prefixes=("AWSLogs/",)).problem == ""
    put("other/", 10)
    state = run(aws, store, queue, prefixes=("AWSLogs/",))
    assert (state.passed_over, state.problem) == (10, "")
    put("other/", 10)
    assert "suffix = '.gz'" in run(aws, store, queue, prefixes=("AWSLogs/",), suffix=".gz").problem


def test_that_another_process_had_what_fits_is_known(aws: Aws, store: Store) -> None:
    queue = aws.queue(aws.bucket())
    first, second = (
        sqs.connector(settings(aws, queue, prefixes=("AWSLogs/",)), store.intake()) for _ in range(2)
    )

    def bring(made: sqs.SqsConnector, folder: str) -> State:
        for number in range(10):
            aws.put("logs", f"{folder}{number}.json")
        made.run(threading.Event(), once=True)
        return made.state()

    assert "10 objects" in bring(second, "other/").problem
    assert bring(first, "AWSLogs/").problem == ""
    assert bring(second, "other/").problem == ""


def test_markers_and_other_prefixes_are_passed_over(aws: Aws, store: Store) -> None:
    queue = aws.queue(aws.bucket())
    aws.s3.put_object(Bucket="logs", Key="AWSLogs/", Body=b"")
    aws.put("logs", "AWSLogs/1.json")
    aws.put("logs", "other/2.json")
    state = run(aws, store, queue, prefixes=("AWSLogs/",))
    assert store.events() == ["0"]
    assert state.passed_over == 2
    assert aws.waiting(queue) == (0, 0)
    assert not store.reasons()


def test_an_empty_object_stops_nothing(aws: Aws, store: Store) -> None:
    queue = aws.queue(aws.bucket())
    aws.s3.put_object(Bucket="logs", Key="0.json", Body=b"")
    aws.put("logs", "1.json")
    run(aws, store, queue)
    assert store.events() == ["0"]
    assert store.ledger()["s3://logs/0.json"]["State"] == "quarantined"
    assert aws.waiting(queue) == (0, 0)


def test_an_object_overwritten_before_it_was_read(aws: Aws, store: Store) -> None:
    """The newest content is taken once; of a bucket with versions, both."""
    queue = aws.queue(aws.bucket())
    aws.put("logs", "1.json")
    aws.put("logs", "1.json")
    run(aws, store, queue)
    assert store.events() == ["1"]
    aws.bucket("kept", versions=True)
    queue = aws.queue(name="more")
    first, second = (aws.put("kept", "2.json") for _ in range(2))
    told = [notice("2.json", put["ETag"].strip('"'), "kept", put["VersionId"]) for put in (first, second)]
    aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": told}))
    run(aws, store, queue)
    assert store.events() == ["1", "2", "3"]


def test_visibility_is_extended_while_an_object_is_on_its_way(aws: Aws, store: Store) -> None:
    """A batch waits longer than the messages are invisible for: they are kept so, again and again."""
    queue = aws.queue(aws.bucket())
    aws.put("logs", "1.json")
    beats: list[list[dict[str, Any]]] = []

    class Slow(Ingestor):
        def flush(self) -> None:
            until = time.monotonic() + 60
            while len(beats) < 3 and time.monotonic() < until:
                time.sleep(0.02)
            super().flush()

    intake = dataclasses.replace(store.intake(), taker=lambda _: Slow(store.lake, clock=lambda: NOW))
    slow = sqs.connector(settings(aws, queue, visibility_seconds=2), intake)
    slow._sqs.meta.events.register(
        "provide-client-params.sqs.ChangeMessageVisibilityBatch",
        lambda params, **_: beats.append(params["Entries"]),
    )
    slow.run(threading.Event(), once=True)
    assert len(beats) >= 3
    assert all(entry["VisibilityTimeout"] == 2 for entries in beats[:3] for entry in entries)
    assert store.events() == ["0"]
    assert aws.waiting(queue) == (0, 0)


def test_a_stop_gives_back_what_is_not_stored(aws: Aws, store: Store) -> None:
    queue = aws.queue(aws.bucket())
    for name in range(5):
        aws.put("logs", f"{name}.json")
    made = sqs.connector(settings(aws, queue, flush_seconds=3600), store.intake())
    stop = threading.Event()
    worker = threading.Thread(target=made.run, args=(stop,))
    worker.start()
    stop.set()
    worker.join()
    stored = len(store.events()) if store.lake.snapshot("AWSCloudTrail").rows else 0
    assert sum(aws.waiting(queue)) == aws.waiting(queue)[0]
    assert aws.waiting(queue)[0] >= 5 - stored
    run(aws, store, queue)
    assert store.events() == ["0", "1", "2", "3", "4"]
    assert made.state().doing == "stopped"


def test_a_queue_that_is_not_there(aws: Aws, store: Store) -> None:
    queue = aws.queue() + "-missing"
    with pytest.raises(ConnectorError, match="NonExistentQueue") as caught:
        run(aws, store, queue)
    assert "doctor main" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("sqs.eu-west-1.amazonaws.com", "eu-west-1"),
        ("sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("sqs-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("vpce-1-2.sqs.eu-central-1.vpce.amazonaws.com", "eu-central-1"),
        ("eu-west-2.queue.amazonaws.com", "eu-west-2"),
        ("127.0.0.1:4566", "us-east-2"),
        ("store", "us-east-2"),
    ],
)
def test_the_region_of_a_queue(host: str, region: str) -> None:
    given = SqsSettings("main", f"https://{host}/111122223333/news", Access(region="us-east-2"))
    assert sqs.queue_region(given) == region
