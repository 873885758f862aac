"""Objects that cannot be had, told apart; what passes is waited for, with growing and spread waits."""

from __future__ import annotations

import dataclasses
import errno
import io
import itertools
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    FlexibleChecksumError,
    MetadataRetrievalError,
    NoCredentialsError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from support.shipping import until
from trailhawk.connectors import s3, sqs
from trailhawk.connectors.config import Access, ConnectorSettings, Location, Reading, S3Settings, SqsSettings
from trailhawk.connectors.connector import ConnectorError
from trailhawk.connectors.credentials import config
from trailhawk.connectors.fetch import BrokenReadError, Fetched, Fetcher, RefusedError
from trailhawk.connectors.notices import Notice
from trailhawk.connectors.prefetch import Prefetch
from trailhawk.connectors.retry import Fault, Kind, Waits, fault_of, retried
from trailhawk.errors import BindingError, LakeError, StateError

if TYPE_CHECKING:
    from support.aws import Aws, Store

FLOW = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end \
action log-status"
Answer = tuple[int, bytes, dict[str, str]]


class Store3:
    """An S3 of the test's own making: it answers what the test says, in turn; the last answer stays."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str, str]] = []
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store.asked.append((self.command, self.path, self.headers.get("If-Match", "")))
                status, body, headers = store.answers.pop(0) if store.answers[1:] else store.answers[0]
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def own() -> Iterator[Store3]:
    store = Store3()
    yield store
    store.end()


def refusal(status: int, code: str, words: str = "so it is") -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{words}</Message></Error>".encode()
    return status, body, {"Content-Type": "application/xml"}


def content(body: bytes, **headers: str) -> Answer:
    return 200, body, {"ETag": '"abc"'} | headers


def fetcher(url: str, *, attempts: int | None = 3, max_bytes: int = 1000, told: Any = None) -> Fetcher:
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=config(Access(endpoint_url=url)),
    )
    waits = Waits(random.Random(1), first=0.001, longest=0.01)
    return Fetcher(
        client,
        waits=waits,
        stop=threading.Event(),
        attempts=attempts,
        max_bytes=max_bytes,
        told=told or (lambda _: None),
    )


NOTICE = Notice("logs", "a.json", etag="abc")


def test_an_object_is_asked_for_as_it_was_announced(own: Store3) -> None:
    own.answers = [content(b"body")]
    fetched = fetcher(own.url).fetch(NOTICE)
    with fetched.file as file:
        assert file.read() == b"body"
    assert own.asked == [("GET", "/logs/a.json", '"abc"')]
    assert fetched.notice == Notice("logs", "a.json", etag="abc", size=4)


@pytest.mark.parametrize("code", ["SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout"])
def test_what_passes_is_asked_again(own: Store3, code: str) -> None:
    told: list[Fault] = []
    own.answers = [refusal(503, code), refusal(503, code), content(b"body")]
    fetcher(own.url, told=told.append).fetch(NOTICE).file.close()
    assert [fault.code for fault in told] == [code, code]


def test_a_body_cut_off_is_read_again(own: Store3) -> None:
    own.answers = [(200, b"bo", {"ETag": '"abc"', "Content-Length": "4"}), content(b"body")]
    with fetcher(own.url).fetch(NOTICE).file as file:
        assert file.read() == b"body"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (refusal(404, "NoSuchKey"), Kind.GONE, "deleted after the notice"),
        (refusal(403, "AccessDenied", "not authorized to perform: kms:Decrypt"), Kind.DENIED, "kms:Decrypt"),
        (refusal(403, "AccessDenied", "may not do s3:GetObject on a"), Kind.DENIED, "s3:GetObject on a"),
        (refusal(403, "AccessDenied"), Kind.DENIED, "without s3:ListBucket"),
        (refusal(403, "InvalidObjectState"), Kind.OTHER, "restore it"),
        (refusal(403, "ExpiredToken"), Kind.CREDENTIALS, "ExpiredToken"),
        (refusal(404, "NoSuchBucket"), Kind.OTHER, "NoSuchBucket"),
        (refusal(500, "Whatever"), Kind.PASSING, "Whatever"),
    ],
)
def test_refusals_are_told_apart(own: Store3, answer: Answer, kind: Kind, words: str) -> None:
    own.answers = [answer]
    with pytest.raises(RefusedError) as caught:
        fetcher(own.url).fetch(NOTICE)
    assert caught.value.fault.kind is kind
    assert words in caught.value.reason
    assert ("s3:ListBucket" in caught.value.reason) == ("s3:ListBucket" in words)


def test_too_large_an_object_is_not_read(own: Store3) -> None:
    own.answers = [content(b"x" * 1001)]
    with pytest.raises(RefusedError, match="max_object_mib"):
        fetcher(own.url).fetch(NOTICE)
    with pytest.raises(RefusedError, match="max_object_mib"):
        fetcher(own.url).fetch(dataclasses.replace(NOTICE, size=1001))
    assert len(own.asked) == 1


def test_an_overwritten_object_is_taken_as_what_it_is_now(own: Store3) -> None:
    own.answers = [refusal(412, "PreconditionFailed"), content(b"new", ETag='"def"')]
    fetched = fetcher(own.url).fetch(NOTICE)
    fetched.file.close()
    assert (fetched.notice.etag, own.asked[1]) == ("def", ("GET", "/logs/a.json", ""))


def test_an_overwritten_version_is_read_by_its_id_if_that_is_allowed(own: Store3) -> None:
    notice = dataclasses.replace(NOTICE, version="v1")
    own.answers = [refusal(412, "PreconditionFailed"), content(b"old")]
    fetched = fetcher(own.url).fetch(notice)
    fetched.file.close()
    assert (fetched.notice.etag, fetched.notice.version) == ("abc", "v1")
    assert own.asked[1][1] == "/logs/a.json?versionId=v1"
    own.answers = [
        refusal(412, "PreconditionFailed"),
        refusal(403, "AccessDenied"),
        content(b"new", ETag="d"),
    ]
    fetched = fetcher(own.url).fetch(notice)
    fetched.file.close()
    assert (fetched.notice.etag, fetched.notice.version) == ("d", "")


def test_nobody_there() -> None:
    with pytest.raises(RefusedError) as caught:
        fetcher("http://127.0.0.1:9").fetch(NOTICE)
    assert caught.value.fault.kind is Kind.PASSING


def test_waits_grow_and_are_spread() -> None:
    waits = Waits(random.Random(3), first=1.0, longest=60.0)
    rounds = [[waits.wait(attempt) for attempt in range(10)] for _ in range(200)]
    for attempt in range(10):
        here = [each[attempt] for each in rounds]
        longest = min(60.0, 2.0**attempt)
        assert longest * 0.1 <= min(here) < longest * 0.2
        assert longest * 0.9 < max(here) <= longest
    assert Waits(random.Random(3)).wait(10_000) <= 60


def test_a_stop_ends_the_waiting() -> None:
    stop = threading.Event()
    stop.set()
    calls = 0

    def ask() -> None:
        nonlocal calls
        calls += 1
        raise EndpointConnectionError(endpoint_url="http://x")

    with pytest.raises(EndpointConnectionError):
        retried(ask, Waits(random.Random(1)), stop, attempts=None)
    assert calls == 1


@pytest.mark.parametrize(
    "error",
    [
        UnauthorizedSSOTokenError(),
        SSOTokenLoadError(error_msg="it ended"),
        TokenRetrievalError(provider="sso", error_msg="it ended"),
        MetadataRetrievalError(error_msg="no answer"),
        ClientError({"Error": {"Code": "AccessDenied", "Message": "not you"}}, "AssumeRole"),
        ClientError({"Error": {"Code": "ForbiddenException", "Message": "x"}}, "GetRoleCredentials"),
    ],
)
def test_credentials_that_end_are_no_fault_of_the_object(error: Exception) -> None:
    assert fault_of(error).kind is Kind.CREDENTIALS
    assert fault_of(error).passes


def test_faults() -> None:
    assert fault_of(NoCredentialsError()).kind is Kind.CREDENTIALS
    throttled = ClientError(
        {"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": 429}},  # type: ignore[typeddict-item]
        "GetObject",
    )
    assert fault_of(throttled).passes
    assert str(fault_of(throttled)) == "X"


def test_little_is_read_ahead_however_much_is_asked_for(own: Store3) -> None:
    own.answers = [content(b"body")]
    notices = [Notice("logs", f"{number}.json", etag="abc", size=4) for number in range(50)]
    with Prefetch[int](fetcher(own.url), threads=2, most=5) as ahead:
        for number, notice in enumerate(notices):
            ahead.ask(notice, number)
        assert (len(ahead), ahead.is_full) == (50, True)
        threading.Event().wait(0.2)
        assert len(own.asked) <= 5
        taken = []
        while len(ahead):
            for number, _, answer in ahead.ready(wait=True):
                assert isinstance(answer, Fetched)
                answer.file.close()
                taken.append(number)
    assert sorted(taken) == list(range(50))
    with Prefetch[int](fetcher(own.url), threads=2) as ahead:
        ahead.ask(dataclasses.replace(NOTICE, size=2**40), 1)
        assert ahead.is_full


def test_an_object_that_is_slow_to_come_holds_up_no_other() -> None:
    class Slow:
        def fetch(self, notice: Notice) -> Fetched:
            if notice.key == "0.json":
                assert late.wait(30)
                raise RefusedError(notice.location, Fault(Kind.PASSING, "ReadTimeoutError", "too slow"))
            return Fetched(notice, io.BytesIO(b"body"))

    late = threading.Event()
    with Prefetch[int](Slow(), threads=2, most=4) as ahead:  # type: ignore[arg-type]  # it only fetches
        for number in range(20):
            ahead.ask(Notice("logs", f"{number}.json", etag="abc", size=4), number)
        taken: list[int] = []
        while len(ahead) > 1:
            taken += [number for number, _, _ in ahead.ready(wait=True)]
        assert taken == list(range(1, 20))
        late.set()
        ((number, _, answer),) = ahead.ready(wait=True)
        assert number == 0
        assert isinstance(answer, RefusedError)
        assert not list(ahead.ready(wait=True))


# --- in the connectors --------------------------------------------------------------------------------------


def denied(aws: Aws, keys: Callable[[str], bool]) -> Callable[..., Any]:
    """A fetcher for which S3 refuses some keys, as a policy would."""

    def refuse(self: Fetcher, notice: Notice) -> Any:
        if keys(notice.key):
            raise RefusedError(notice.location, Fault(Kind.DENIED, "AccessDenied", "kms:Decrypt"))
        return real(self, notice)

    real = Fetcher.fetch
    return refuse


def test_a_queue_sets_aside_what_stays_denied(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `tries` receipts it is in the quarantine and its message is gone; before, it comes back."""
    queue = aws.queue(aws.bucket())
    aws.put("logs", "1.json")
    aws.put("logs", "2.json")
    given = SqsSettings("main", queue, aws.access, tries=2)
    monkeypatch.setattr(Fetcher, "fetch", denied(aws, lambda key: key == "1.json"))
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    made = sqs.connector(given, store.intake())
    made.run(threading.Event(), once=True)
    assert store.events() == ["1"]
    assert aws.waiting(queue) == (0, 0)
    (reason,) = store.reasons()
    assert "AccessDenied" in reason
    assert made.state().set_aside == 1


@pytest.mark.parametrize("refusals", [50, 100])
def test_objects_wait_where_everything_is_denied(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    """As for a session that was revoked: ten times as often, and only then is all of it set aside."""
    aws.bucket()
    queue = aws.queue()
    keys = [f"{number}.json" for number in range(5)]
    for key in keys:
        aws.put("logs", key)
    records = [
        {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "logs"}, "object": {"key": key}}}
        for key in keys
    ]
    aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": records}))
    left = iter(range(refusals))
    given = SqsSettings("main", queue, aws.access, tries=2)
    monkeypatch.setattr(Fetcher, "fetch", denied(aws, lambda key: next(left, None) is not None))
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    sqs.connector(given, store.intake()).run(threading.Event(), once=True)
    assert aws.waiting(queue) == (0, 0)
    held = 5 if refusals < 2 * 10 * 5 else 0
    assert (len(store.ledger()), len(store.reasons())) == (5, 5 - held)


def test_objects_wait_where_each_process_finds_everything_denied(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `--once` by cron: that two of the messages came often enough says nothing of the objects."""
    queue = aws.queue(aws.bucket())
    for number in range(4):
        aws.put("logs", f"{number}.json")
    given = SqsSettings("main", queue, aws.access, tries=2)
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    for _ in range(3):
        stop, asked = threading.Event(), iter(range(12))

        def refuses(key: str, stop: threading.Event = stop, asked: Iterator[int] = asked) -> bool:
            if next(asked, None) is None:
                stop.set()
            return True

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Fetcher, "fetch", denied(aws, refuses))
            sqs.connector(given, store.intake()).run(stop, once=True)
        assert not store.reasons()
    sqs.connector(given, store.intake()).run(threading.Event(), once=True)
    assert sorted(store.events()) == ["0", "1", "2", "3"]


def test_the_end_of_a_queues_connector_waits_for_nothing(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the queue asks to be left alone when the messages in flight are given back."""
    queue = aws.queue(aws.bucket())
    aws.put("logs", "1.json")
    made = sqs.connector(SqsSettings("main", queue, aws.access), store.intake())
    stop, asked = threading.Event(), []

    def busy(**_: Any) -> None:
        asked.append(stop.is_set())
        headers = {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": "300"}}
        answer: Any = {"Error": {"Code": "ServiceUnavailable"}, "ResponseMetadata": headers}
        raise ClientError(answer, "ChangeMessageVisibilityBatch")

    def refuses(key: str) -> bool:
        stop.set()
        return True

    monkeypatch.setattr(made._sqs, "change_message_visibility_batch", busy)
    monkeypatch.setattr(Fetcher, "fetch", denied(aws, refuses))
    running = threading.Thread(target=made.run, args=(stop,), daemon=True)
    running.start()
    running.join(60)
    assert not running.is_alive()
    assert asked == [True]


def test_a_queue_with_a_redrive_policy_keeps_what_stays_denied(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    monkeypatch.setattr(Fetcher, "fetch", denied(aws, lambda key: True))
    dead = aws.queue(name="dead")
    arn = aws.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    queue = aws.queue(aws.bucket(), RedrivePolicy=policy)
    aws.put("logs", "1.json")
    given = SqsSettings("main", queue, aws.access, tries=2, on_poison="redrive")
    sqs.connector(given, store.intake()).run(threading.Event(), once=True)
    assert aws.waiting(queue) == (0, 0)
    assert aws.waiting(dead) == (1, 0)
    assert not store.reasons()


@pytest.mark.parametrize("code", ["SlowDown", "ExpiredToken"])
def test_what_passes_sends_no_message_to_the_dead_letters(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """However often S3 refuses the object: it is asked for again while its message is held."""
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    dead = aws.queue(name="dead")
    arn = aws.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    queue = aws.queue(
        aws.bucket(), RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    )
    for key in ("1.json", "2.json"):
        aws.put("logs", key)
    left, real = iter(range(9)), Fetcher.fetch

    def busy(self: Fetcher, notice: Notice) -> Fetched:
        if notice.key == "1.json" and next(left, None) is not None:
            answer: Any = {"Error": {"Code": code, "Message": "no"}}
            raise RefusedError(notice.location, fault_of(ClientError(answer, "GetObject")))
        return real(self, notice)

    monkeypatch.setattr(Fetcher, "fetch", busy)
    made = sqs.connector(
        SqsSettings("main", queue, aws.access, flush_seconds=0, tries=2),
        Outage(store, LakeError("never"), most=0).intake,
    )
    with at_work(made, monkeypatch, threading.Event()):
        until(lambda: made.state().rows == 2)
    assert store.events() == ["0", "1"]
    assert (aws.waiting(queue), aws.waiting(dead)) == ((0, 0), (0, 0))
    assert not store.reasons()


def test_an_object_that_never_passes_is_set_aside(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body whose checksum is wrong however often it is read, while others are read: its message is not held
    for ever, and each time it is given up counts. That others are read hides it not."""
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    queue = aws.queue(aws.bucket())
    aws.put("logs", "0.json")
    asked, problems, real = [0], set[str](), Fetcher.fetch

    def wrong(self: Fetcher, notice: Notice) -> Fetched:
        if notice.key != "0.json":
            return real(self, notice)
        asked[0] += 1
        if asked[0] % 11 == 0:
            aws.put("logs", f"{asked[0]}.json")
            until(lambda: made.state().rows == asked[0] // 11)
            problems.add(made.state().problem)
        raise RefusedError(notice.location, fault_of(FlexibleChecksumError(error_msg="another checksum")))

    monkeypatch.setattr(Fetcher, "fetch", wrong)
    made = sqs.connector(
        SqsSettings("main", queue, aws.access, flush_seconds=0, tries=2),
        Outage(store, LakeError("never"), most=0).intake,
    )
    with at_work(made, monkeypatch, threading.Event()):
        until(lambda: made.state().set_aside)
        until(lambda: not made.state().problem)
    (problem,) = problems
    assert problem.startswith("s3://logs/0.json: FlexibleChecksumError")
    assert asked == [22]
    assert "another checksum" in store.reasons()[0]
    assert aws.waiting(queue) == (0, 0)


def test_only_its_own_denials_set_an_object_aside(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not how often its message came: workers were killed, say, or S3 was busy."""
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    queue = aws.queue(aws.bucket())
    for key in ("1.json", "2.json"):
        aws.put("logs", key)
    for _ in range(4):
        for message in aws.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]:
            receipt = message["ReceiptHandle"]
            aws.sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=0)
    left = iter(range(2))
    refuses = denied(aws, lambda key: key == "1.json" and next(left, None) is not None)
    monkeypatch.setattr(Fetcher, "fetch", refuses)
    given = SqsSettings("main", queue, aws.access, tries=3)
    sqs.connector(given, store.intake()).run(threading.Event(), once=True)
    assert store.events() == ["0", "1"]
    assert not store.reasons()
    assert not list((store.intake().folder / "refused").iterdir())


def test_an_object_that_ends_the_worker_is_set_aside_at_last(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message comes back too often: it is tried alone, and after `tries` deaths no more."""
    from trailhawk.connectors.ingest import Ingestor

    class Killed(BaseException):
        """The end of a process, in a test."""

    class Weak(Ingestor):
        def take(self, item: Any, done: Any = None) -> None:
            if item.key == "bomb.json" and not item.stamp:
                raise Killed
            super().take(item, done)

    queue = aws.queue(aws.bucket())
    for key in ("bomb.json", "good.json"):
        aws.put("logs", key)
    given = SqsSettings("main", queue, aws.access, tries=2)
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    intake = dataclasses.replace(
        store.intake(), taker=lambda worker: Weak(store.lake, clock=store.intake().clock)
    )
    deaths = 0
    for _ in range(10):
        try:
            sqs.connector(given, intake).run(threading.Event(), once=True)
            break
        except Killed:
            deaths += 1
    assert deaths == 4  # twice unsuspected, once watched, once alone
    assert store.events() == ["1"]
    assert aws.waiting(queue) == (0, 0)
    (reason,) = store.reasons()
    assert "did not end well 2 times" in reason


@pytest.mark.parametrize(
    "outage", [StateError("no server"), LakeError("no bucket"), OSError(errno.ENOSPC, "no room")], ids=str
)
def test_an_outage_of_ours_sets_no_object_aside(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch, outage: Exception
) -> None:
    """However often its message comes back meanwhile."""
    from trailhawk.connectors.ingest import Ingestor

    class Out(Ingestor):
        def flush(self) -> None:
            if self.age:
                raise outage
            super().flush()

    queue = aws.queue(aws.bucket())
    aws.put("logs", "good.json")
    given = SqsSettings("main", queue, aws.access, tries=1)
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    clock = itertools.count()
    out = dataclasses.replace(
        store.intake(),
        taker=lambda worker: Out(
            store.lake, clock=lambda: store.intake().clock() + timedelta(seconds=next(clock))
        ),
    )
    for _ in range(5):
        with pytest.raises(type(outage), match="no "):
            sqs.connector(given, out).run(threading.Event(), once=True)
    sqs.connector(given, store.intake()).run(threading.Event(), once=True)
    assert store.events() == ["0"]
    assert not store.reasons()
    assert not list((store.intake().folder / "tries").iterdir())


class Outage:
    """What a connector stores in, where the first so many batches cannot be stored. `told` hears of each."""

    def __init__(
        self, store: Store, error: Exception, *, most: int, told: Callable[[int], None] = lambda _: None
    ) -> None:
        from trailhawk.connectors.ingest import Ingestor

        self.failed = 0
        outage, clock, now = self, itertools.count(), store.intake().clock()

        class Out(Ingestor):
            def flush(self) -> None:
                if self.age and outage.failed < most:
                    outage.failed += 1
                    told(outage.failed)
                    self._abandon()
                    raise error
                super().flush()

        self.intake = dataclasses.replace(
            store.intake(),
            taker=lambda worker: Out(store.lake, clock=lambda: now + timedelta(seconds=next(clock))),
        )


@dataclasses.dataclass(frozen=True)
class Counted(Waits):
    """Hardly waits, and knows after which attempts it was asked to."""

    attempts: list[int] = dataclasses.field(default_factory=list)

    def wait(self, attempt: int) -> float:
        self.attempts.append(attempt)
        return 0.001


@contextmanager
def at_work(
    made: sqs.SqsConnector, monkeypatch: pytest.MonkeyPatch, stop: threading.Event
) -> Iterator[list[int]]:
    """The connector at work, and the attempts after which it waited; stopped, it has to end well."""
    waits = Counted(random.Random(7))
    monkeypatch.setattr(sqs, "_POLL_SECONDS", 0)
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    monkeypatch.setattr(made, "_waits", waits)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(made.run, stop)
        try:
            yield waits.attempts
        finally:
            stop.set()
            running.result()


@pytest.mark.parametrize("is_over", [True, False], ids=["over", "stopped"])
def test_an_outage_of_ours_sends_no_message_to_the_dead_letters(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    """They are held until it is over: each that came again would count as received once more. A stop before
    gives them back."""
    dead = aws.queue(name="dead")
    arn = aws.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    queue = aws.queue(aws.bucket(), RedrivePolicy=policy)
    for key in ("1.json", "2.json"):
        aws.put("logs", key)
    stop = threading.Event()

    def told(failed: int) -> None:
        if failed == 6:
            stop.set()

    outage = Outage(store, StateError("no server"), most=5 if is_over else 6, told=told)
    made = sqs.connector(SqsSettings("main", queue, aws.access, flush_seconds=0), outage.intake)
    with at_work(made, monkeypatch, stop):
        until(lambda: made.state().rows == 2 or stop.is_set())
    assert made.state().problem == ("" if is_over else "no server")
    if not is_over:
        assert made.state().doing == "stopped"
        sqs.connector(SqsSettings("main", queue, aws.access), store.intake()).run(
            threading.Event(), once=True
        )
    assert store.events() == ["0", "1"]
    assert (aws.waiting(queue), aws.waiting(dead)) == ((0, 0), (0, 0))


def test_denials_of_all_are_no_objects_own(aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a spell in which everything was denied, another one's being read sets nothing aside."""
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    queue = aws.queue(aws.bucket())
    for number in range(4):
        aws.put("logs", f"{number}.json")
    asked = Counter[str]()

    def refuses(key: str) -> bool:
        asked[key] += 1
        if asked.total() <= 40:
            return True
        if key != "0.json":
            until(lambda: made.state().rows)
        return key != "0.json" and asked.total() <= 42

    monkeypatch.setattr(Fetcher, "fetch", denied(aws, refuses))
    given = SqsSettings("main", queue, aws.access, flush_seconds=0)
    made = sqs.connector(given, Outage(store, LakeError("never"), most=0).intake)
    with at_work(made, monkeypatch, threading.Event()):
        until(lambda: made.state().objects == 4)
    assert sorted(store.events()) == ["0", "1", "2", "3"]
    assert not store.reasons()


def test_an_outage_of_ours_uses_up_no_tries(aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object of a message is denied, the other waits to be stored: only that one is brought again."""
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    aws.bucket()
    queue = aws.queue()
    told: list[dict[str, Any]] = []
    for key in ("1.json", "2.json"):
        etag = aws.put("logs", key)["ETag"].strip('"')
        what = {"bucket": {"name": "logs"}, "object": {"key": key, "eTag": etag, "size": 9}}
        told.append({"eventName": "ObjectCreated:Put", "s3": what})
    aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": told}))
    outage = Outage(store, LakeError("no bucket"), most=8)
    refuses = denied(aws, lambda key: key == "1.json" and not made.state().rows)
    monkeypatch.setattr(Fetcher, "fetch", refuses)
    made = sqs.connector(SqsSettings("main", queue, aws.access, flush_seconds=0, tries=2), outage.intake)
    with at_work(made, monkeypatch, threading.Event()):
        until(lambda: made.state().rows == 2 or made.state().set_aside)
    assert outage.failed == 8
    assert store.events() == ["0", "1"]
    assert not store.reasons()


def test_what_is_known_already_is_no_sign_that_an_outage_is_over(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.bucket()
    queue = aws.queue()
    given = SqsSettings("main", queue, aws.access, flush_seconds=0, prefixes=("logs/",))
    told: list[dict[str, Any]] = []
    for key in ("logs/1.json", "logs/2.json", "other/3.json"):
        etag = aws.put("logs", key)["ETag"].strip('"')
        what = {"bucket": {"name": "logs"}, "object": {"key": key, "eTag": etag, "size": 9}}
        told.append({"eventName": "ObjectCreated:Put", "s3": what})
    told.append({"eventName": "ObjectCreated:Put", "s3": "nothing"})
    for records in (told[:1], told):
        aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": records}))
        if records != told:
            sqs.connector(given, store.intake()).run(threading.Event(), once=True)
    full, problems = OSError(errno.ENOSPC, "No space left on device", "/lake/a.parquet"), set[str]()
    outage = Outage(store, full, most=5, told=lambda _: problems.add(made.state().problem))
    made = sqs.connector(given, outage.intake)
    with at_work(made, monkeypatch, threading.Event()) as attempts:
        until(lambda: made.state().rows)
    assert attempts == [0, 1, 2, 3, 4]
    told_so = "make room, nothing is lost: what was begun is brought again"
    assert problems == {"", f"/lake/a.parquet: No space left on device; {told_so}"}
    state = made.state()
    assert (state.objects, state.skipped, state.set_aside, state.passed_over) == (3, 1, 1, 1)
    assert store.events() == ["0", "1"]


def flows(aws: Aws, count: int) -> None:
    """Put flow logs into the bucket, each of one line."""
    for number in range(count):
        line = f"2 1 eni-1 10.0.0.{number} 10.0.0.2 1 2 6 1 40 1772532000 1772532060 ACCEPT OK"
        place = f"AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/03/03/{number}.log"
        aws.s3.put_object(Bucket="logs", Key=place, Body=f"{FLOW}\n{line}\n".encode())


def broken_log(store: Store) -> Path:
    """The log of the flows' table is damaged; the file that does it."""
    log = store.lake.root / "AWSVPCFlow" / "_delta_log" / f"{0:020}.json"
    log.parent.mkdir(parents=True)
    log.write_text("damaged")
    return log


@pytest.mark.parametrize("what", ["filter", "unknown function", "log"])
def test_a_table_that_nothing_can_be_stored_in_keeps_nothing_out_of_others(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Also where as many objects as may be in flight are for it; they come again, none is lost. That it is in
    trouble is told until something of it is stored."""
    from trailhawk.connectors.ingest import Ingestor

    def bad(rows: object) -> Any:
        if what == "filter":
            raise RuntimeError("no such watchlist")
        raise BindingError("no function 'f'")

    queue = aws.queue(aws.bucket())
    flows(aws, 4)
    for number in range(3):
        aws.put("logs", f"{number}.json")
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 3.0)
    made_at, ticks = store.intake().clock(), itertools.count()
    transforms: dict[str, Any] = {} if what == "log" else {"AWSVPCFlow": bad}
    if what == "log":
        damaged = broken_log(store)
    intake = dataclasses.replace(
        store.intake(),
        taker=lambda worker: Ingestor(
            store.lake, clock=lambda: made_at + timedelta(seconds=next(ticks)), transforms=transforms
        ),
    )
    given = SqsSettings("main", queue, aws.access, flush_seconds=0, max_in_flight=2)
    made = sqs.connector(given, intake)
    problems = list[str]()

    def is_stored() -> bool:
        problems.append(made.state().problem)
        return len(store.events()) == 3

    with at_work(made, monkeypatch, threading.Event()):
        until(lambda: made.state().problem)
        until(is_stored)
    assert all("AWSVPCFlow" in each for each in [*problems, made.state().problem])
    assert not store.reasons()
    until(lambda: aws.waiting(queue) == (4, 0))
    transforms.clear()
    if what == "log":
        damaged.unlink()
        damaged.parent.rmdir()
    mended = sqs.connector(given, store.intake())
    monkeypatch.setattr(mended, "_board", made._board)
    mended.run(threading.Event(), once=True)
    assert len(store.rows("AWSVPCFlow", "SrcAddr")) == 4
    assert aws.waiting(queue) == (0, 0)
    assert not mended.state().problem


def test_a_damaged_quarantine_is_told_until_it_is_mended(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 1.0)
    queue = aws.queue(aws.bucket())
    log = store.lake.root / "Quarantine" / "_delta_log" / f"{0:020}.json"
    log.parent.mkdir(parents=True)
    log.write_text("damaged")
    aws.s3.put_object(Bucket="logs", Key="bad.json", Body=b"no log at all")
    given = SqsSettings("main", queue, aws.access, flush_seconds=0)
    made = sqs.connector(given, Outage(store, LakeError("never"), most=0).intake)
    with at_work(made, monkeypatch, threading.Event()):
        until(lambda: "log of table Quarantine cannot be read" in made.state().problem)
        log.unlink()
        log.parent.rmdir()
        until(lambda: made.state().set_aside)
        until(lambda: not made.state().problem)


def test_a_listing_goes_on_where_one_table_is_damaged(aws: Aws, store: Store) -> None:
    """Whatever of it was listed before, and however large its batches are."""
    from trailhawk.connectors.ingest import Ingestor

    aws.bucket()
    flows(aws, 5)
    for number in range(3):
        aws.put("logs", f"{number}.json")
    damaged = broken_log(store)
    intake = dataclasses.replace(
        store.intake(),
        taker=lambda worker: Ingestor(store.lake, clock=store.intake().clock, batch_records=2),
    )
    given = S3Settings("old", (Location("logs"),), aws.access, reading=Reading(threads=1))
    made = s3.connector(given, intake)
    for _ in range(2):
        with pytest.raises(LakeError, match="log of table AWSVPCFlow cannot be read"):
            made.run(threading.Event(), once=True)
        assert "AWSVPCFlow" in made.state().problem
        assert store.events() == ["0", "1", "2"]
    damaged.unlink()
    damaged.parent.rmdir()
    made.run(threading.Event(), once=True)
    assert not made.state().problem
    assert len(store.rows("AWSVPCFlow", "SrcAddr")) == 5
    assert not store.reasons()


def test_what_breaks_off_while_it_is_read_was_not_brought(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its message would be given back when a table is in trouble, and waited for as well."""
    queue = aws.queue(aws.bucket())
    aws.put("logs", "1.json")

    def broken(taker: object, fetched: Fetched, done: object, *, source: str) -> NoReturn:
        fetched.file.close()
        raise BrokenReadError(RefusedError("s3://logs/1.json", Fault(Kind.PASSING, "ReadTimeout", "")))

    monkeypatch.setattr(sqs, "take", broken)
    made = sqs.connector(SqsSettings("main", queue, aws.access), store.intake())
    with at_work(made, monkeypatch, threading.Event()):
        until(lambda: made._waiting)
        ((_, message),) = made._waiting
        assert (message.left, message.brought) == (0, 0)


def test_tries_of_messages_that_are_gone_are_forgotten(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead letters have them, say: a queue keeps none for more than 14 days."""
    queue = aws.queue(aws.bucket())
    intake = store.intake()
    old, new = (intake.folder / "refused" / name for name in ("old", "new"))
    old.parent.mkdir(parents=True)
    for path, days in ((old, 15), (new, 13)):
        path.write_text("3")
        moment = (intake.clock() - timedelta(days=days)).timestamp()
        os.utime(path, (moment, moment))
    made = sqs.connector(SqsSettings("main", queue, aws.access), intake)
    made.run(threading.Event(), once=True)
    assert list(old.parent.iterdir()) == [new]
    moment = (intake.clock() - timedelta(days=15)).timestamp()
    os.utime(new, (moment, moment))
    made.run(threading.Event(), once=True)
    assert list(old.parent.iterdir()) == [new], "not looked at again within a day"
    monkeypatch.setattr(sqs, "_FORGET_SECONDS", 0.0)
    made._forgets_at = 0.0
    with at_work(made, monkeypatch, threading.Event()):
        until(lambda: not list(old.parent.iterdir()))
        moment = (intake.clock() - timedelta(days=15)).timestamp()
        new.write_text("3")
        os.utime(new, (moment, moment))
        until(lambda: not list(old.parent.iterdir()))


def test_tries_are_taken_back_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, gone = (sqs._Tries(tmp_path / "tries", name) for name in ("first", "second", "gone"))
    for _ in range(3):
        first.begin()
    second.begin()
    assert (first.count, second.count) == (3, 1)
    first.take_back()
    assert first.count == 2

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sqs, "write_whole", full)
    for tried in (first, second, gone):
        tried.take_back()
    assert [tried.count for tried in (first, second, gone)] == [0, 0, 0]


def test_a_listing_stops_where_everything_is_denied(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.bucket()
    for number in range(25):
        aws.put("logs", f"{number:02d}.json")
    monkeypatch.setattr(Fetcher, "fetch", denied(aws, lambda key: True))
    given = S3Settings("old", (Location("logs"),), aws.access, reading=Reading(threads=1))
    with pytest.raises(ConnectorError, match="20 objects in a row are refused"):
        s3.connector(given, store.intake()).run(threading.Event(), once=True)
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    made = s3.connector(given, store.intake())
    made.run(threading.Event(), once=True)
    assert len(store.events()) == 25, "what was refused is tried again when it is listed again"


def test_what_was_set_aside_is_taken_after_a_fix(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`quarantine retry` fetches it with the connector's rights, and a listing knows it then."""
    from trailhawk.connectors.again import retry
    from trailhawk.connectors.reopen import object_at
    from trailhawk.sources import SOURCES

    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    queue = aws.queue(aws.bucket())
    aws.put("logs", "a + b.json")
    aws.sqs.purge_queue(QueueUrl=queue)
    record = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "logs"}, "object": {"key": "a+%2B+b.json"}},
    }
    aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": [record]}))
    given = SqsSettings("main", queue, aws.access, tries=1)
    with monkeypatch.context() as patch:
        patch.setattr(Fetcher, "fetch", denied(aws, lambda key: True))
        sqs.connector(given, store.intake()).run(threading.Event(), once=True)
    assert store.reasons()
    (told,) = retry(store.lake, clock=store.intake().clock, sources=SOURCES, find=object_at({"main": given}))
    assert (told.state, told.rows) == ("stored", 1)
    assert store.events() == ["0"]
    assert not store.reasons()
    made = s3.connector(S3Settings("old", (Location("logs"),), aws.access), store.intake())
    made.run(threading.Event(), once=True)
    assert made.state().skipped == 1


@pytest.mark.parametrize(
    ("code", "gone"),
    [("NoSuchKey", True), ("NoSuchBucket", True), ("AccessDenied", False), ("ExpiredToken", False)],
)
def test_what_is_gone_for_good(aws: Aws, monkeypatch: pytest.MonkeyPatch, code: str, gone: bool) -> None:
    from trailhawk.connectors.reopen import GoneError, object_at

    def refused(self: Fetcher, notice: Notice) -> NoReturn:
        answer: Any = {"Error": {"Code": code, "Message": "no"}}
        raise RefusedError(notice.location, fault_of(ClientError(answer, "GetObject")))

    monkeypatch.setattr(Fetcher, "fetch", refused)
    settings = S3Settings("main", (Location("logs"),), aws.access)
    with pytest.raises(OSError, match=code) as caught:
        object_at({"main": settings})("s3://logs/a")
    assert isinstance(caught.value, GoneError) is gone
    told = str(caught.value.strerror)
    assert ("or it was deleted: without s3:ListBucket" in told) is (code == "AccessDenied")


def test_whose_rights_read_a_bucket() -> None:
    from trailhawk.connectors.reopen import access_for

    one, two, three = (Access(profile=name) for name in ("one", "two", "three"))
    connectors: dict[str, ConnectorSettings] = {
        "any": SqsSettings("any", "https://q", one),
        "named": SqsSettings("named", "https://q", two, buckets=("logs",)),
        "old": S3Settings("old", (Location("older", "x/"),), three),
    }
    assert [access_for(name, connectors) for name in ("logs", "older", "other")] == [two, three, one]
    assert access_for("logs", {}) == Access()
