"""Objects of S3 that are read as the ingest asks for them: too large, or without room on disk."""

from __future__ import annotations

import errno
import gzip
import json
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import boto3
import pytest

from trailhawk.connectors import fetch, s3, sqs
from trailhawk.connectors.config import Access, Location, S3Settings, SqsSettings
from trailhawk.connectors.connector import ConnectorError
from trailhawk.connectors.credentials import config
from trailhawk.connectors.fetch import BrokenReadError, Fetcher
from trailhawk.connectors.notices import Notice
from trailhawk.connectors.retry import Kind, Waits

if TYPE_CHECKING:
    from support.aws import Aws, Store

NOTICE = Notice("logs", "a.json", etag="abc")
BODY = random.Random(5).randbytes(500_000)
DISK_FREE = 1 << 40


class Asked(NamedTuple):
    range: str
    match: str


class Bucket:
    """An S3 that cuts each body off after some bytes, and refuses what the test says."""

    def __init__(self, body: bytes) -> None:
        self.asked: list[Asked] = []
        self.cut_off = len(body)
        self.ranges = True
        self.refuse: Callable[[int], tuple[int, str] | None] = lambda number: None
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = Asked(self.headers.get("Range", ""), self.headers.get("If-Match", ""))
                bucket.asked.append(asked)
                if refused := bucket.refuse(len(bucket.asked)):
                    self._answer(refused[0], f"<Error><Code>{refused[1]}</Code></Error>".encode())
                    return
                start = int(asked.range[6:-1]) if asked.range and bucket.ranges else 0
                self._answer(206 if start else 200, body[start:], bucket.cut_off)

            def _answer(self, status: int, content: bytes, most: int = 10_000) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", '"abc"')
                self.end_headers()
                self.wfile.write(content[:most])
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def fetcher(self, *, attempts: int = 3, max_bytes: int = 1 << 30) -> Fetcher:
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="eu-west-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=config(Access(endpoint_url=self.url)),
        )
        waits = Waits(random.Random(1), first=0.001, longest=0.002)
        stop = threading.Event()
        return Fetcher(client, waits=waits, stop=stop, attempts=attempts, max_bytes=max_bytes)

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    made = Bucket(BODY)
    yield made
    made.end()


@pytest.fixture
def on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever does not fit into 1,000 bytes is read as it is asked for."""
    monkeypatch.setattr(fetch, "_IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(fetch, "_ON_DISK_BYTES", 1000)


@pytest.mark.usefixtures("on_the_way")
@pytest.mark.parametrize("ranges", [True, False])
def test_reading_goes_on_where_it_broke(bucket: Bucket, ranges: bool) -> None:
    """In the very same content; also with a store that knows no ranges."""
    bucket.cut_off, bucket.ranges = (200_000, True) if ranges else (len(BODY), False)
    with bucket.fetcher().fetch(NOTICE).file as file:
        if not ranges:
            assert file.read(100) == BODY[:100]
            file.raw._leave()  # type: ignore[attr-defined]  # as where the network breaks
            assert file.read() == BODY[100:]
        else:
            assert file.read() == BODY
    assert {each.match for each in bucket.asked} == {'"abc"'}
    if ranges:
        assert [each.range for each in bucket.asked] == ["", "bytes=200000-", "bytes=400000-"]


@pytest.mark.usefixtures("on_the_way")
def test_what_passes_is_waited_for_while_reading(bucket: Bucket) -> None:
    bucket.cut_off = 200_000
    bucket.refuse = lambda number: (503, "SlowDown") if number in (2, 3, 5) else None
    with bucket.fetcher(attempts=4).fetch(NOTICE).file as file:
        assert file.read() == BODY


@pytest.mark.usefixtures("on_the_way")
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((412, "PreconditionFailed"), Kind.OTHER),
        ((404, "NoSuchKey"), Kind.GONE),
        ((403, "AccessDenied"), Kind.DENIED),
        ((403, "ExpiredToken"), Kind.CREDENTIALS),
        ((503, "SlowDown"), Kind.PASSING),
    ],
)
def test_what_is_refused_while_reading_breaks_it_off(
    bucket: Bucket, answer: tuple[int, str], kind: Kind
) -> None:
    bucket.cut_off = 200_000
    bucket.refuse = lambda number: answer if number > 1 else None
    with bucket.fetcher().fetch(NOTICE).file as file, pytest.raises(BrokenReadError) as caught:
        file.read()
    assert caught.value.refused.fault.kind is kind


def test_a_full_folder_for_temporary_files_is_passed_by(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full already, or full while an object is written into it."""
    monkeypatch.setattr(fetch, "_IN_MEMORY_BYTES", 1000)
    if Path("/dev/full").exists():
        full = Path("/dev/full")
        monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full.open("w+b", buffering=0))
        with bucket.fetcher().fetch(NOTICE).file as file:
            assert file.read() == BODY
        assert len(bucket.asked) == 2
        bucket.asked.clear()
    for usage in (_usage(4 * len(BODY) - 1), _no_folder):
        monkeypatch.setattr("shutil.disk_usage", usage)
        with bucket.fetcher().fetch(NOTICE).file as file:
            assert file.read() == BODY
        assert len(bucket.asked) == 1
        bucket.asked.clear()


def _usage(free: int) -> Callable[[str], object]:
    class Usage(NamedTuple):
        free: int

    return lambda folder: Usage(free)


def _no_folder(folder: str) -> object:
    raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")


# --- in the connectors --------------------------------------------------------------------------------------


def many(name: str, count: int = 300) -> bytes:
    events = (
        {"eventID": f"{name}{number:04}", "eventTime": "2026-03-03T10:00:00Z", "userAgent": "x" * 50}
        for number in range(count)
    )
    return json.dumps({"Records": list(events)}).encode()


def broken_for(monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str] | None) -> list[int]:
    """Let reading of large objects break off after a first piece, as often as told, with this refusal."""
    from botocore.exceptions import ClientError

    left = [1]

    def rest(self: Fetcher, notice: Notice, which: object) -> Callable[[int], tuple[object, int]]:
        ask = real(self, notice, which)  # type: ignore[arg-type]

        def asked(place: int) -> tuple[object, int]:
            if left[0] and answer:
                left[0] -= 1
                status = {"HTTPStatusCode": answer[0]}
                raise ClientError(
                    {"Error": {"Code": answer[1]}, "ResponseMetadata": status},  # type: ignore[typeddict-item]
                    "GetObject",
                )
            return ask(place)

        return asked

    def streamed(self: Fetcher, notice: Notice, which: object, body: object) -> object:
        if body is not None:
            body.close()  # type: ignore[attr-defined]
        return real_streamed(self, notice, which, None)  # type: ignore[arg-type]

    real, real_streamed = Fetcher._rest, Fetcher._streamed
    monkeypatch.setattr(Fetcher, "_rest", rest)
    monkeypatch.setattr(Fetcher, "_streamed", streamed)
    return left


@pytest.mark.usefixtures("on_the_way")
def test_a_queue_with_large_objects(aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = aws.queue(aws.bucket())
    for name in "abc":
        aws.s3.put_object(Bucket="logs", Key=f"{name}.json.gz", Body=gzip.compress(many(name)))
    made = sqs.connector(SqsSettings("main", queue, aws.access), store.intake())
    made.run(threading.Event(), once=True)
    assert len(store.events()) == 900
    assert aws.waiting(queue) == (0, 0)
    ledger = store.ledger()
    for name in "abc":
        entry = ledger[f"s3://logs/{name}.json.gz"]
        assert (entry["Records"], entry["Rows"]) == (300, 300)
        assert entry["Size"] == len(gzip.compress(many(name)))


@pytest.mark.usefixtures("on_the_way")
@pytest.mark.parametrize("answer", [(403, "AccessDenied"), (503, "SlowDown"), (412, "PreconditionFailed")])
def test_a_queue_brings_again_what_broke_off(
    answer: tuple[int, str], aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqs, "_LONGEST_RELEASE", 0.0)
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    monkeypatch.setattr(Waits, "wait", lambda self, attempt: 0.0)
    left = broken_for(monkeypatch, answer)
    left[0] = 12 if answer[0] == 503 else 1
    queue = aws.queue(aws.bucket())
    aws.s3.put_object(Bucket="logs", Key="a.json", Body=many("a"))
    made = sqs.connector(SqsSettings("main", queue, aws.access), store.intake())
    made.run(threading.Event(), once=True)
    assert (len(store.events()), store.reasons(), aws.waiting(queue)) == (300, [], (0, 0))
    assert made.state().set_aside == 0


@pytest.mark.usefixtures("on_the_way")
def test_a_listing_sets_aside_what_was_refused_while_reading(
    aws: Aws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.bucket()
    aws.s3.put_object(Bucket="logs", Key="a.json", Body=many("a"))
    aws.s3.put_object(Bucket="logs", Key="b.json", Body=many("b"))
    monkeypatch.setattr(Waits, "wait", lambda self, attempt: 0.0)
    left = broken_for(monkeypatch, (404, "NoSuchKey"))
    given = S3Settings("main", (Location("logs", ""),), aws.access)
    s3.connector(given, store.intake()).run(threading.Event(), once=True)
    assert len(store.events()) == 300
    (reason,) = store.reasons()
    assert "NoSuchKey" in reason
    s3.connector(given, store.intake()).run(threading.Event(), once=True)
    assert len(store.events()) == 600
    # What passes ends the pass, and the next one goes on.
    aws.s3.put_object(Bucket="logs", Key="c.json", Body=many("c"))
    broken_for(monkeypatch, (503, "SlowDown"))[0] = 30
    with pytest.raises(ConnectorError, match="SlowDown"):
        s3.connector(given, store.intake()).run(threading.Event(), once=True)
    s3.connector(given, store.intake()).run(threading.Event(), once=True)
    assert (len(store.events()), left) == (900, [0])
