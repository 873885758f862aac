"""Answers that trickle, break off or are none of AWS's: asked again in bounded time, and told as over."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from urllib3.exceptions import SSLError

from support.shipping import until
from trailhawk.connectors import credentials, sqs
from trailhawk.connectors.config import Access, SqsSettings
from trailhawk.connectors.fetch import Fetcher, RefusedError
from trailhawk.connectors.notices import Notice
from trailhawk.connectors.pace import Pace
from trailhawk.connectors.retry import (
    Fault,
    ForeignAnswerError,
    Kind,
    RedirectedError,
    Waits,
    fault_of,
    retried,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from support.aws import Aws, Store

Give = Callable[[socket.socket], None]


class Wire:
    """A server that answers each request with the bytes that the test gives, in its own time; the last
    answer stays."""

    def __init__(self) -> None:
        self.answers: list[Give] = []
        self.asked: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (data := connection.recv(65_536)):
                    head += data
                if not head:
                    continue
                self.asked.append(head)
                give = self.answers.pop(0) if self.answers[1:] else self.answers[0]
                try:
                    give(connection)
                except OSError:
                    continue  # who asked has gone


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.end()


def answer(body: bytes, *, length: int | None = None, kind: str = "application/octet-stream") -> bytes:
    size = len(body) if length is None else length
    head = f'HTTP/1.1 200 OK\r\nETag: "abc"\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n'
    return head.encode() + body


def whole(body: bytes) -> Give:
    return lambda connection: connection.sendall(answer(body))


def trickling(size: int) -> Give:
    """One byte after the other, each well within what a client waits for one."""

    def give(connection: socket.socket) -> None:
        connection.sendall(answer(b"", length=size))
        for _ in range(size):
            connection.sendall(b"x")
            time.sleep(0.02)

    return give


def access(url: str) -> Access:
    return Access(region="eu-west-1", endpoint_url=url)


@pytest.fixture(autouse=True)
def _signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def client(url: str) -> S3Client:
    return credentials.s3_client(credentials.session(access(url)), access(url))


def fetcher(url: str, told: list[Fault]) -> Fetcher:
    return Fetcher(
        client(url),
        waits=Waits(random.Random(1), first=0.001, longest=0.01),
        stop=threading.Event(),
        attempts=4,
        max_bytes=100 << 20,
        told=told.append,
        pace=Pace(seconds=0.3),
    )


def test_a_body_that_trickles_is_given_up_and_asked_for_again(wire: Wire) -> None:
    told: list[Fault] = []
    wire.answers = [trickling(5000), whole(b"x" * 5000)]
    started = time.monotonic()
    with fetcher(wire.url, told).fetch(Notice("logs", "a.json", etag="abc")).file as file:
        assert file.read() == b"x" * 5000
    assert time.monotonic() - started < 20  # its 5,000 bytes would have taken 100 s
    assert [(fault.kind, fault.words) for fault in told] == [
        (Kind.PASSING, "less than 65,536 bytes of the object came in 0.3 s")
    ]


def test_a_large_body_that_trickles_goes_on_where_it_was(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    content = random.Random(3).randbytes(300_000)

    def begun(connection: socket.socket) -> None:
        connection.sendall(answer(content[:200_000], length=len(content)))
        time.sleep(1)

    def rest(connection: socket.socket) -> None:
        start = int(wire.asked[-1].lower().partition(b"range: bytes=")[2].partition(b"-")[0])
        left = content[start:]
        head = answer(left).replace(b"200 OK", b"206 Partial Content")
        connection.sendall(head)

    told: list[Fault] = []
    monkeypatch.setattr("trailhawk.connectors.fetch._ON_DISK_BYTES", 100_000)
    wire.answers = [begun, rest]
    with fetcher(wire.url, told).fetch(Notice("logs", "a.json", etag="abc")).file as file:
        assert file.read() == content
    assert [fault.code for fault in told] == ["SlowBodyError"]


def test_a_slow_but_steady_body_is_read(wire: Wire) -> None:
    content = bytes(600_000)  # takes longer than a piece may, and each of its pieces much less

    def steady(connection: socket.socket) -> None:
        data = answer(content)
        for start in range(0, len(data), 50_000):
            connection.sendall(data[start : start + 50_000])
            time.sleep(0.04)

    told: list[Fault] = []
    wire.answers = [steady]
    with fetcher(wire.url, told).fetch(Notice("logs", "a.json", etag="abc")).file as file:
        assert file.read() == content
    assert told == []


def test_a_broken_encryption_passes() -> None:
    assert fault_of(SSLError("bad record mac")).passes


def page(status: str, begins: bytes = b"<!DOCTYPE html>\n<html>") -> Give:
    """What a proxy or a login page answers in the service's place."""
    body = begins + b"<body>Please sign in</body></html>"
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
    return lambda connection: connection.sendall(head.encode() + body)


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden"])
def test_a_page_in_the_place_of_an_object_is_not_taken_for_it(wire: Wire, status: str) -> None:
    told: list[Fault] = []
    wire.answers = [page(status), whole(b"body")]
    with fetcher(wire.url, told).fetch(Notice("logs", "a.json", etag="abc")).file as file:
        assert file.read() == b"body"
    (fault,) = told
    assert fault.passes
    assert "the answer to GetObject is none of AWS's" in fault.words


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden"])
def test_a_page_in_the_place_of_a_listing_is_no_empty_bucket(wire: Wire, status: str) -> None:
    wire.answers = [page(status)]
    with pytest.raises(ForeignAnswerError, match="ListObjectsV2 is none of AWS's"):
        client(wire.url).list_objects_v2(Bucket="logs")


@pytest.mark.parametrize(
    "begins",
    [
        b"\n <HTML>",
        b"\xef\xbb\xbf<!-- sign in --><!-- here > -->\r\n<!doctype\nhtml>",
        b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">',
        b"<!---->" * 140 + b"<html>",
    ],
)
def test_pages_begin_in_several_ways(wire: Wire, begins: bytes) -> None:
    wire.answers = [page("200 OK", begins)]
    with pytest.raises(ForeignAnswerError):
        client(wire.url).list_objects_v2(Bucket="logs")


def test_a_page_in_a_message_is_no_page_in_the_place_of_the_queue(aws: Aws, store: Store) -> None:
    """One such message, which any sender may write, had stopped its queue for good notices as well."""
    queue = aws.queue(aws.bucket())
    aws.sqs.send_message(QueueUrl=queue, MessageBody="<!doctype html><html>not found</html>")
    aws.put("logs", "1.json")
    made = sqs.connector(SqsSettings("main", queue, aws.access), store.intake())
    made.run(threading.Event(), once=True)
    assert store.events() == ["0"]
    (reason,) = store.reasons()
    assert "it begins with '<!doctype html><html>not found</html>'" in reason
    assert aws.waiting(queue) == (0, 0)


def test_a_queue_that_a_page_answers_for_is_no_empty_one(wire: Wire, store: Store) -> None:
    """And its trouble is over when the queue answers again, though nothing comes."""
    wire.answers = [page("200 OK"), nothing_waits]
    settings = SqsSettings("main", f"{wire.url}/1/news", access(wire.url))
    made = sqs.connector(settings, store.intake())
    made._waits = Waits(random.Random(1), first=0.3, longest=0.3)
    stop = threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    until(lambda: "the answer to ReceiveMessage is none of AWS's" in made.state().problem)
    until(lambda: not made.state().problem)
    stop.set()
    thread.join()


def test_messages_that_could_not_be_deleted_at_once_are_no_trouble_for_ever(wire: Wire, store: Store) -> None:
    """The queue's trouble was told until the next object came, though it had long been over."""
    settings = SqsSettings("main", f"{wire.url}/1/news", access(wire.url))
    made = sqs.connector(settings, store.intake())
    made._waits = Waits(random.Random(1), first=0.01, longest=0.01)
    refusal = json.dumps({"__type": "com.amazonaws.sqs#ServiceUnavailable", "message": "not now"}).encode()
    busy = answer(refusal).replace(b"200 OK", b"503 Service Unavailable")
    wire.answers = [lambda connection: connection.sendall(busy)]
    made._request(lambda: made._delete_group([]), threading.Event())
    assert made.state().problem == "ServiceUnavailable: not now"
    wire.answers = [nothing_waits]
    made._request(lambda: made._delete_group([]), threading.Event())
    assert made.state().problem == ""
    made._board.problem("objects", "s3://logs/a.json: AccessDenied")
    made._request(lambda: made._delete_group([]), threading.Event())
    assert made.state().problem == "s3://logs/a.json: AccessDenied", "this is another one's"


def nothing_waits(connection: socket.socket) -> None:
    connection.sendall(answer(b"{}", kind="application/x-amz-json-1.0"))


EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
ASSUMED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>
<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""


@pytest.mark.parametrize("role", ["", "arn:aws:iam::123456789012:role/reader"])
def test_who_signs_in_anew_while_it_works_is_found(
    wire: Wire, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a key in a file nor a role's session is believed in when AWS says that it has ended."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    shared, current = tmp_path / "shared", ["OLD"]

    def sign_in(key: str) -> None:
        shared.write_text(f"[hunt]\naws_access_key_id = {key}\naws_secret_access_key = s\n")

    def give(connection: socket.socket) -> None:
        head = wire.asked[-1]
        of_sts = head.startswith(b"POST / ")
        if f"Credential={current[0]}/".encode() in head:
            connection.sendall(answer(ASSUMED.format(key=current[0]).encode() if of_sts else b"log"))
        else:
            expired = b"<ErrorResponse>" + EXPIRED + b"</ErrorResponse>" if of_sts else EXPIRED
            connection.sendall(answer(expired).replace(b"200 OK", b"400 Bad Request"))

    def waited(fault: Fault) -> None:
        told.append(fault)
        if len(told) == 1:
            shared.unlink()
        else:
            sign_in(current[0])

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    sign_in("OLD")
    wire.answers = [give]
    own = Access(region="eu-west-1", endpoint_url=wire.url, profile="hunt", role_arn=role)
    s3, told = credentials.s3_client(credentials.session(own), own), list[Fault]()
    waits = Waits(random.Random(1), first=0.01, longest=0.01)
    reader = Fetcher(s3, waits=waits, stop=threading.Event(), attempts=9, max_bytes=99, told=waited)
    for key in ("OLD", "NEW"):
        current[0] = key
        with reader.fetch(Notice("logs", "a")).file as file:
            assert file.read() == b"log"
    assert {fault.kind for fault in told} == {Kind.CREDENTIALS}
    assert [fault.code for fault in told][:2] == [
        "ExpiredToken",
        "CredentialRetrievalError" if role else "ProfileNotFound",
    ]


@pytest.mark.parametrize("body", [b"", b"{}", b"<ok/>"])
def test_an_answer_without_a_listing_is_no_empty_bucket(wire: Wire, body: bytes) -> None:
    wire.answers = [whole(body)]
    for ask in (client(wire.url).list_objects_v2, client(wire.url).list_object_versions):
        with pytest.raises((ForeignAnswerError, ClientError)) as caught:
            ask(Bucket="logs")
        assert fault_of(caught.value).kind is Kind.PASSING


THROTTLED = b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>"


@pytest.mark.parametrize("body", [b"", b"<html><h1>busy</h1></html>", THROTTLED])
@pytest.mark.parametrize(
    ("asked", "waited"),
    [("7", 7), ("0", 0), ("86400", 300), ("Sun, 22 Nov 2026 22:00:00 GMT", 0), ("-5", 0), ("²", 0)],
)
def test_who_asks_to_be_left_alone_for_a_while_is(wire: Wire, asked: str, waited: int, body: bytes) -> None:
    class Patient(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return False

    waits = list[float]()
    head = b"HTTP/1.1 503 Busy\r\nConnection: close\r\nRetry-After: " + asked.encode("latin-1") + b"\r\n"
    listing = b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"
    refused = head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    wire.answers = [lambda connection: connection.sendall(refused), whole(listing)]
    spread = Waits(random.Random(1), first=0.001, longest=0.01)
    s3 = client(wire.url)
    found = retried(lambda: s3.list_objects_v2(Bucket="logs"), spread, Patient(), attempts=2)
    assert found["KeyCount"] == 0
    assert waits == [pytest.approx(waited, abs=0.01)]


def test_a_redirect_without_an_end_is_told(wire: Wire) -> None:
    """Each look for the bucket's region was redirected as well, until Python's stack was full."""
    head = (
        "HTTP/1.1 301 Moved Permanently\r\nLocation: https://minio.example/logs\r\nContent-Length: 0\r\n\r\n"
    )
    wire.answers = [lambda connection: connection.sendall(head.encode())]
    told: list[Fault] = []
    with pytest.raises(RefusedError) as caught:
        fetcher(wire.url, told).fetch(Notice("logs", "a.json", etag="abc"))
    assert caught.value.fault.kind is Kind.SETUP
    assert "redirect to https://minio.example/logs; see endpoint_url" in caught.value.fault.words
    with pytest.raises(RedirectedError):
        client(wire.url).list_objects_v2(Bucket="logs")
    assert len(wire.asked) == 2
