"""The HTTP way in: what is acknowledged lands once, what is not taken is told why."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from support.shipping import HASH, TOKEN, running, until
from trailhawk.connectors import QUARANTINE, http, patience
from trailhawk.connectors.batch import Batch, Decoded
from trailhawk.connectors.bodies import BodyError, Bounds, records, text_lines, unpacked
from trailhawk.connectors.connector import ConnectorError, Intake, Taker
from trailhawk.connectors.http import HttpConnector, HttpSettings
from trailhawk.connectors.objects import LogObject, Outcome
from trailhawk.connectors.parts import Part
from trailhawk.connectors.spool import Spool, Spooled
from trailhawk.connectors.store import Store, _Plan
from trailhawk.errors import UsageError
from trailhawk.workspace import Workspace

DAY = datetime(2026, 3, 1, tzinfo=UTC)
LINUX = """
name: linux
table: Linux_CL
description: Messages of our machines.
objects: .*
time: {from: at, format: iso}
columns:
  - {name: Host, type: string, from: host, description: Which.}
  - {name: Message, type: string, from: message, description: What.}
"""
RAW = """
name: raw
table: AwsRaw_CL
description: CloudTrail flattened by Logstash.
objects: .*
time: {from: Records_eventTime_t, format: iso}
columns:
  - {name: Records_eventName_s, type: string, from: Records_eventName_s, description: The call.}
  - {name: Records_requestParameters_bucketName_s, type: string, from: Records_requestParameters_bucketName_s,
     description: The bucket.}
"""
FLOWS = """2 111122223333 eni-1 10.0.0.1 10.0.0.2 1 443 6 1 40 1772323200 1772323260 ACCEPT OK
2 111122223333 eni-1 10.0.0.1 10.0.0.2 2 443 6 1 40 1772323200 1772323260 REJECT OK
"""


def call(number: int) -> dict[str, object]:
    return {
        "eventVersion": "1.11",
        "eventID": f"event-{number}",
        "eventTime": "2026-03-01T09:30:00Z",
        "eventName": "GetObject",
        "recipientAccountId": "111122223333",
    }


def home(folder: Path, **settings: object) -> Workspace:
    """A home with a connector `web`, a custom table, and what the settings say."""
    folder.mkdir()
    (folder / "sources").mkdir()
    (folder / "sources" / "linux.yaml").write_text(LINUX)
    (folder / "sources" / "raw.yaml").write_text(RAW)
    keys = {"listen": "127.0.0.1:0", "token_sha256": [HASH], "flush_seconds": 1, **settings}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    (folder / "trailhawk.toml").write_text(f'[connectors.web]\ntype = "http"\n{lines}')
    return Workspace.open(folder)


def connector(workspace: Workspace) -> HttpConnector:
    made = workspace.connector("web")
    assert isinstance(made, HttpConnector)
    return made


def listening(workspace: Workspace) -> AbstractContextManager[httpx.Client]:
    """A client of the home's connector, with its token."""
    return running(connector(workspace))


def count(workspace: Workspace, table: str) -> object:
    return workspace.query(f"{table} | count", now=DAY).tuples()[0][0]


# --- bodies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", []),
        (b" \n\r\n ", []),
        (b"[]", []),
        (b'[{"a":1},\n {"b":[2]}]', [b'{"a":1}', b'{"b":[2]}']),
        (b'{"a":1}\n\n{"a":2}\r\n', [b'{"a":1}', b'{"a":2}']),
        (b'{\n  "a": {\n "b": "c d" }\n}\n', [b'{"a":{"b":"c d"}}']),
        (b'\xef\xbb\xbf{"a":1}', [b'{"a":1}']),
        (b'{"n":1.10,"big":12345678901234567890}', [b'{"n":1.10,"big":12345678901234567890}']),
        ('{"a":"\\u0000 é \\n"}'.encode(), ['{"a":"\\u0000 é \\n"}'.encode()]),
    ],
)
def test_records_of_a_body(body: bytes, found: list[bytes]) -> None:
    assert records(body, Bounds()) == found


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b'[{"a":1}', 400, "the JSON array cannot be read"),
        (b'[{"a":1}] x', 400, "the JSON array cannot be read"),
        (b'{"a":1}\n{"a":}\n', 400, "line 2 cannot be read"),
        (b'{"a":1}\nhello\n', 400, "line 2 is no JSON object"),
        (b"[1, 2]", 400, "member 1 is no JSON object"),
        (b'"text"', 400, "line 1 is no JSON object"),
        (b'{"a":"\xff"}', 400, "line 1 cannot be read"),
        (b'[{"a":"\xff"}]', 400, "cannot be read"),
        (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", 400, "nests deeper than 64"),
        (b'{"a":' + b"[" * 1_000_000, 400, "cannot be read"),
        (b"[" * 1_000_000, 400, "cannot be read"),
        (b'{"a":1}\n' * 101, 413, "more than 100 records"),
    ],
)
def test_bodies_that_are_not_taken(body: bytes, status: int, why: str) -> None:
    with pytest.raises(BodyError, match=why) as caught:
        records(body, Bounds(records=100))
    assert caught.value.status == status


def test_brackets_in_texts_are_no_depth() -> None:
    deep = json.dumps({"a": '\\"[{' * 1000}).encode()
    assert records(deep, Bounds()) == [deep]


def test_unpacking_is_bounded() -> None:
    bounds = Bounds(unpacked_bytes=1 << 20)
    assert unpacked(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", bounds) == b"ab"
    assert unpacked(b"a", "identity", bounds) == b"a"
    bomb = gzip.compress(bytes(64 << 20))
    assert len(bomb) < 70_000
    for body, encoding, status in (
        (bomb, "gzip", 413),
        (bomb[:-8], "gzip", 413),
        (gzip.compress(b"abc")[:-6], "gzip", 400),
        (gzip.compress(b"abc") + b"x", "gzip", 400),
        (b"plain", "gzip", 400),
        (b"", "br", 415),
    ):
        with pytest.raises(BodyError) as caught:
            unpacked(body, encoding, bounds)
        assert caught.value.status == status


@pytest.mark.parametrize(
    "body", [b"[" + b"0," * 2_000_000 + b"0]", b"[" + b"{}," * 900_000 + b"{}]", b"0\n" * 2_000_000]
)
def test_too_many_records_are_refused_before_they_are_made(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BodyError, match="more than 1,000 records"):
            records(body, Bounds(records=1000))
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body)
    finally:
        tracemalloc.stop()
    one = b'[{"a":[' + b"0," * 200_000 + b"0]}]"
    assert records(one, Bounds(records=1000)) == [one[1:-1]]


def test_text_lines() -> None:
    assert text_lines(b"a b\r\n\n c\n", Bounds()) == [b"a b", b" c"]
    with pytest.raises(BodyError):
        text_lines(b"a\n" * 3, Bounds(records=2))


@pytest.mark.fuzz
def test_whatever_is_sent_is_taken_or_refused() -> None:
    """Mutated bodies: one line of JSON a record, or a reason."""
    rng, bounds = random.Random(20), Bounds(records=50, depth=8)
    seeds = [
        b'[{"a":1,"b":"\\u00e9\\n"},{"c":[1,{"d":null}]}]',
        b'{"a":1}\n{"b":"x"}',
        b'{\n "a": [1.5e10]\n}',
    ]
    pieces = [b"[", b'{"a":', b'"', b"\n", b"\\u12", b"\xed\xa0\x80", b"]", b"}", b",", b"\x00"]
    taken = 0
    for _ in range(int(os.environ.get("TRAILHAWK_FUZZ", "3000"))):
        body = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(0, 4)):
            place = rng.randrange(len(body) + 1)
            body[place : place + rng.randint(0, 3)] = rng.choice(pieces) * rng.choice([1, 1, 20])
        with suppress(BodyError):
            found = records(bytes(body), bounds)
            assert all(isinstance(json.loads(record), dict) and b"\n" not in record for record in found)
            taken += 1
    assert taken


# --- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"listen": "8514"}, "listen is '8514'"),
        ({"listen": "127.0.0.1:99999"}, "listen is"),
        ({"listen": "0.0.0.0:8514"}, "without TLS"),
        ({"token_sha256": []}, "token_sha256 is missing"),
        ({"token_sha256": ["secret"]}, "no SHA-256"),
        ({"tls_key": "key.pem"}, "goes with tls_certificate"),
        ({"max_body_mib": 0}, "max_body_mib"),
        ({"unheard": 1}, "unheard"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        connector(home(tmp_path / "home", **settings))


def test_tokens_of_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = home(tmp_path / "home", token_sha256=[], token_file="tokens", token_env="WEB_TOKEN")
    with pytest.raises(ConnectorError, match="token_file"):
        connector(workspace)
    (workspace.home / "tokens").write_text(f"\n{TOKEN}\nanother-long-enough-token\n")
    with pytest.raises(ConnectorError, match="WEB_TOKEN is not set"):
        connector(workspace)
    monkeypatch.setenv("WEB_TOKEN", "short")
    with pytest.raises(ConnectorError, match="shorter than 16"):
        connector(workspace)
    monkeypatch.setenv("WEB_TOKEN", "a-token-of-the-environment")
    with listening(workspace) as client:
        for token in (TOKEN, "another-long-enough-token", "a-token-of-the-environment"):
            headers = {"Authorization": f"bearer {token}"}
            assert client.post("/ingest/Linux_CL", content=b"[]", headers=headers).status_code == 200


def test_a_table_that_nothing_fills(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="no log source fills Nothing_CL"):
        connector(home(tmp_path / "home", tables=["Nothing_CL"]))


# --- requests ---------------------------------------------------------------------------------------------


def test_bodies_land_in_their_tables(tmp_path: Path) -> None:
    workspace = home(tmp_path / "home")
    message = {"at": "2026-03-01T10:00:00Z", "host": "web-1", "message": "hello"}
    raw = {
        "Records_eventTime_t": "2026-03-01T10:00:00Z",
        "Records_eventName_s": "GetObject",
        "Records_requestParameters_bucketName_s": "payroll",
    }
    with listening(workspace) as client:
        answer = client.post("/ingest/AWSCloudTrail", json=[call(1), call(2)])
        assert (answer.status_code, answer.json()["accepted"]) == (200, 2)
        lines = "\n".join(json.dumps(call(number)) for number in (3, 4, 5)).encode()
        headers = {"Content-Encoding": "gzip"}
        answer = client.post("/ingest/AWSCloudTrail", content=gzip.compress(lines), headers=headers)
        assert answer.json()["accepted"] == 3
        assert client.post("/ingest/AWSCloudTrail", json={"Records": [call(6), call(7)]}).status_code == 200
        assert client.post("/ingest/Linux_CL", json=message).status_code == 200
        assert client.post("/ingest/AwsRaw_CL", json=[raw]).status_code == 200
        plain = {"Content-Type": "text/plain; charset=utf-8"}
        assert client.post("/ingest/AWSVPCFlow", content=FLOWS, headers=plain).json()["accepted"] == 2
        assert client.get("/health").json() == {"status": "ok"}
        until(lambda: not Spool(workspace.home / "connectors" / "web" / "spool").waiting())
    assert count(workspace, "AWSCloudTrail") == 7
    assert count(workspace, "AWSVPCFlow") == 2
    found = workspace.query("Linux_CL | project TimeGenerated, Host, Message", now=DAY).tuples()
    assert found == [(datetime(2026, 3, 1, 10, tzinfo=UTC), "web-1", "hello")]
    raws = workspace.query(
        "AwsRaw_CL | project Records_eventName_s, Records_requestParameters_bucketName_s", now=DAY
    )
    assert raws.tuples() == [("GetObject", "payroll")]
    ledger = "IngestLedger | where Object startswith 'http:' | summarize count(), sum(Records), sum(Rows)"
    assert workspace.query(ledger, now=DAY).tuples() == [(6, 11, 11)]


def test_a_connector_that_waits_is_idle(tmp_path: Path) -> None:
    """And says since when, and when it has received something."""
    workspace = home(tmp_path / "home")
    web = connector(workspace)
    assert web.state().idle_since is None
    with running(web) as client:
        until(lambda: web.state().idle_since)
        assert web.state().last_object_at is None
        first = web.state().idle_since
        assert client.post("/ingest/AWSCloudTrail", json=[call(1)]).status_code == 200
        until(lambda: web.state().last_object_at)
        until(lambda: web.state().idle_since)
        last, since = web.state().last_object_at, web.state().idle_since
        assert first
        assert last
        assert since
        assert first < last <= since
        assert web.state().doing.startswith("listening")
    assert (web.state().idle_since, web.state().doing) == (None, "stopped")


def test_what_is_not_taken_is_told_why(tmp_path: Path) -> None:
    workspace = home(tmp_path / "home", max_body_mib=1, max_records=10, tables=["AWSCloudTrail"])
    with listening(workspace) as client:

        def post(content: bytes, table: str = "AWSCloudTrail", **headers: str) -> httpx.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.post(f"/ingest/{table}", content=content, headers=named)

        for authorization in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"):
            answer = post(b"[]", authorization=authorization)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert post(b"[]", "Linux_CL").status_code == 404
        assert post(b"[]", "..%2f..%2fetc").status_code == 404
        assert client.get("/ingest/AWSCloudTrail").status_code == 405
        assert client.get("/").status_code == 404
        answer = post(b'{"eventID":')
        assert (answer.status_code, answer.json()["error"][:21]) == (400, "line 1 cannot be read")
        assert post(b"x", content_encoding="br").status_code == 415
        assert post(b"{}\n" * 11).status_code == 413
        assert post(gzip.compress(bytes(200 << 20)), content_encoding="gzip").status_code == 413
        with suppress(httpx.TransportError):  # answered and closed while it is still being sent
            assert post(bytes(2 << 20)).status_code == 413
        pieces = (bytes(1 << 16) for _ in range(64))
        with suppress(httpx.TransportError):
            assert client.post("/ingest/AWSCloudTrail", content=pieces).status_code == 413
        assert post(b"[]").json()["accepted"] == 0
    assert not list((workspace.home / "connectors" / "web" / "spool").iterdir())


class Stuck:
    """A way into the lake that does not move until it is told to."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def take(self, item: LogObject, done: Callable[[Outcome], None]) -> None:
        self.free.wait()
        done(Outcome("stored", item.location))

    def flush(self) -> None:
        pass

    @property
    def age(self) -> timedelta:
        return timedelta()

    def knows(self, identity: str) -> bool:
        return False


def test_too_much_that_waits(tmp_path: Path) -> None:
    workspace, stuck = home(tmp_path / "home", max_waiting_mib=1), Stuck()
    intake = Intake(taker=lambda worker: stuck, folder=tmp_path / "web", clock=workspace.clock)
    web = HttpConnector(cast(HttpSettings, workspace.connector_settings["web"]), intake)
    record = {**call(1), "userAgent": "x" * 1000}
    with running(web) as client:
        assert client.post("/ingest/AWSCloudTrail", json=[record] * 1000).status_code == 200
        answer = client.post("/ingest/AWSCloudTrail", json=record)
        while answer.status_code == 200:
            answer = client.post("/ingest/AWSCloudTrail", json=[record] * 100)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
        assert "later" in answer.json()["error"]
        stuck.free.set()
        until(lambda: client.post("/ingest/AWSCloudTrail", json=record).status_code == 200)


def test_a_damaged_table_takes_no_room_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what waits for it few bodies are tried now and then, and all is stored once it can be."""
    monkeypatch.setattr(http, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(http, "MOST_FAILED", 2)
    tried: list[int] = []
    begin = HttpConnector._begin

    def seen(self: HttpConnector, taker: Taker, item: Spooled) -> None:
        begin(self, taker, item)
        tried.append(len(self._in_flight))

    monkeypatch.setattr(HttpConnector, "_begin", seen)
    workspace = home(tmp_path / "home", max_waiting_mib=1, flush_seconds=0)
    log = tmp_path / "home" / "lake" / "AWSCloudTrail" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text("damaged")
    line = {"at": "2026-03-01T09:30:00Z", "message": "m" * 500, "host": "h"}
    web = connector(workspace)
    with running(web) as client:
        assert client.post("/ingest/AWSCloudTrail", json=call(0)).status_code == 200
        until(lambda: "log of table AWSCloudTrail cannot be read" in web.state().problem)
        sent = 1
        while client.post("/ingest/AWSCloudTrail", json=call(sent) | {"userAgent": "x" * 99_999}).is_success:
            sent += 1
        assert sent < 10
        assert client.post("/ingest/AWSCloudTrail", json=call(0)).status_code == 429
        tried.clear()
        until(lambda: len(tried) > 6)
        assert set(tried) == {1, 2}
        for _ in range(4):
            assert client.post("/ingest/Linux_CL", json=[line] * 1000).status_code == 200
            until(lambda: len(list(web._spool.waiting())) == sent)
        assert "AWSCloudTrail" in web.state().problem
        shutil.rmtree(log.parent)
        until(lambda: not web._spool.waiting())
        assert client.post("/ingest/AWSCloudTrail", json=call(sent)).status_code == 200
        until(lambda: not web._spool.waiting())
        assert not web.state().problem
    assert (count(workspace, "AWSCloudTrail"), count(workspace, "Linux_CL")) == (sent + 1, 4000)


def test_a_table_that_takes_nothing_loses_no_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a fault that nobody foresaw: so many are tried as show that it is not theirs. Where it is, one that
    can be stored gets past them."""
    monkeypatch.setattr(http, "_RETRY_SECONDS", 0.05)
    workspace = home(tmp_path / "home", flush_seconds=0)
    bodies = [f"{number:032x}" for number in range(61)]
    bad, bad_now, tries = set(bodies), set[str](), [0]
    store, stage = Store.store, Store._stage

    def storing(self: Store, batch: Batch) -> list[Part]:
        bad_now.clear()
        bad_now.update(bad)  # as it is for all of a batch
        return store(self, batch)

    def failing(self: Store, batch: list[Part], decoded: Decoded, plan: _Plan, **named: Any) -> Any:
        if bad_now & {batch[place].identity.removeprefix("http:") for place in plan.parts}:
            tries[0] += 1
            raise RuntimeError("broken")
        return stage(self, batch, decoded, plan, **named)

    monkeypatch.setattr(Store, "store", storing)
    monkeypatch.setattr(Store, "_stage", failing)
    web = connector(workspace)

    def put(numbers: Iterable[int]) -> None:
        for number in numbers:
            web._spool.put("AWSCloudTrail", bodies[number], [json.dumps(call(number)).encode()])

    put(range(30))
    with running(web):
        until(lambda: tries[0] > 300 or len(web._spool.waiting()) < 30)
        assert len(web._spool.waiting()) == 30
        assert "nothing can be stored in AWSCloudTrail" in web.state().problem
        bad.clear()
        until(lambda: not web._spool.waiting())
    assert workspace.quarantine() == []
    bad |= set(bodies[:-1])
    put(range(30, 60))
    with running(web):
        until(lambda: "nothing can be stored in AWSCloudTrail" in web.state().problem)
        put([60])
        until(lambda: count(workspace, "AWSCloudTrail") == 31)
    assert workspace.quarantine()


def test_a_stop_leaves_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of many bodies, tried alone, would be taken to be at fault for the table."""
    workspace, stop = home(tmp_path / "home"), threading.Event()
    web, begin = connector(workspace), HttpConnector._begin
    for number in range(3):
        web._spool.put("AWSCloudTrail", f"{number:032x}", [json.dumps(call(number)).encode()])

    def stopped(self: HttpConnector, taker: Taker, item: Spooled) -> None:
        begin(self, taker, item)
        stop.set()

    monkeypatch.setattr(HttpConnector, "_begin", stopped)
    web.run(stop)
    assert len(web._spool.waiting()) == 3
    monkeypatch.setattr(HttpConnector, "_begin", begin)
    web.run(threading.Event(), once=True)
    assert count(workspace, "AWSCloudTrail") == 3


def test_a_body_that_cannot_be_stored_is_kept_for_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no other copy of it. It is not tried again by itself."""
    workspace, is_broken, stage = home(tmp_path / "home"), [True], Store._stage

    def failing(self: Store, *given: Any, **named: Any) -> Any:
        if is_broken[0] and self._table.name != QUARANTINE.name:
            raise RuntimeError("broken")
        return stage(self, *given, **named)

    monkeypatch.setattr(Store, "_stage", failing)
    line = {"at": "2026-03-01T09:30:00Z", "message": "m", "host": "h"}
    web = connector(workspace)

    def bring() -> None:
        web._spool.put("AWSCloudTrail", f"{1:032x}", [json.dumps(call(1)).encode()])
        web._spool.put("Linux_CL", f"{2:032x}", [json.dumps(line).encode()] * 3)
        web.run(threading.Event(), once=True)
        assert web._spool.waiting() == []

    for _ in range(2):  # sent again with the same key
        bring()
        assert [each.state for each in workspace.retry(None)] == ["bad", "bad"]
    is_broken[0] = False
    assert sorted((each.state, each.rows) for each in workspace.retry(None)) == [("stored", 1), ("stored", 3)]
    assert workspace.quarantine() == []
    bring()
    web._spool.put("Linux_CL", f"{3:032x}", [b'{"host": "of no time"}'])
    web.run(threading.Event(), once=True)
    assert len(workspace.quarantine()) == 1
    assert list(web._spool.folder.iterdir()) == []
    assert (count(workspace, "AWSCloudTrail"), count(workspace, "Linux_CL")) == (1, 3)


def test_few_bodies_are_unpacked_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small body may be large when it is unpacked, and many may be sent at once."""
    lock = threading.Lock()
    busy = most = 0

    def slowly(body: bytes, encoding: str, bounds: Bounds) -> bytes:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        until(lambda: most >= 2)
        with lock:
            busy -= 1
        return body

    monkeypatch.setattr(http, "unpacked", slowly)
    workspace = home(tmp_path / "home")
    answers: list[int] = []
    web = connector(workspace)
    with running(web) as client:
        posts = [
            threading.Thread(
                target=lambda n=n: answers.append(
                    client.post("/ingest/AWSCloudTrail", json=call(n)).status_code
                )
            )
            for n in range(12)
        ]
        for post in posts:
            post.start()
        for post in posts:
            post.join()
    assert answers == [200] * 12
    assert most == 2
    web.run(threading.Event(), once=True)  # what waited at the stop
    assert count(workspace, "AWSCloudTrail") == 12


def test_tls(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    workspace = home(tmp_path / "home", tls_certificate="web.pem", tls_key="web.key")
    (workspace.home / "web.pem").write_bytes(certificate)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (workspace.home / "web.key").write_bytes(private)
    trusted = ssl.create_default_context(cadata=certificate.decode())
    web = connector(workspace)
    with running(web):
        with httpx.Client(base_url=f"https://127.0.0.1:{web.port}", verify=trusted) as client:
            assert client.get("/health").status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{web.port}/health")


def test_sent_twice_with_a_key(tmp_path: Path) -> None:
    workspace = home(tmp_path / "home")
    message = {"at": "2026-03-01T10:00:00Z", "host": "web-1", "message": "hello"}
    with listening(workspace) as client:
        for key in ("a", "a", "b", ""):
            headers = {"Idempotency-Key": key} if key else {}
            assert client.post("/ingest/Linux_CL", json=message, headers=headers).status_code == 200
        until(lambda: not Spool(workspace.home / "connectors" / "web" / "spool").waiting())
        # Also after the first was stored.
        client.post("/ingest/Linux_CL", json=message, headers={"Idempotency-Key": "a"})
        # A key that a shipper gives to all that it sends loses nothing.
        client.post("/ingest/Linux_CL", json=message | {"host": "web-2"}, headers={"Idempotency-Key": "a"})
    connector(workspace).run(threading.Event(), once=True)
    assert count(workspace, "Linux_CL") == 4


def test_a_body_of_another_kind_with_the_same_key(tmp_path: Path) -> None:
    """Text is read by lines: the same bytes are one record of JSON, and three lines."""
    workspace = home(tmp_path / "home")
    with listening(workspace) as client:
        counts = []
        ids = set()
        for kind in ("application/json", "text/plain", "text/plain"):
            headers = {"Idempotency-Key": "a", "Content-Type": kind}
            body = b'{\n"at": "2026-03-01T10:00:00Z", "host": "web-1", "message": "hello"\n}'
            answer = client.post("/ingest/Linux_CL", content=body, headers=headers).json()
            counts.append(answer["accepted"])
            ids.add(answer["id"])
    assert (counts, len(ids)) == ([1, 3, 3], 2)


def test_what_another_process_was_done_with_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = home(tmp_path / "home")
    web = connector(workspace)
    spool = Spool(next((tmp_path / "home").rglob("spool")))
    spool.put("Linux_CL", "0" * 32, [b'{"at":"2026-03-01T09:30:00Z","message":"m","host":"h"}'])
    listed = spool.waiting()
    spool.done(listed[0])
    answers = iter([listed])
    monkeypatch.setattr(Spool, "waiting", lambda _: next(answers, []))
    web.run(threading.Event(), once=True)
    assert count(workspace, "Quarantine") == 0
    assert count(workspace, "IngestLedger") == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = home(tmp_path / "home")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with listening(workspace) as client:
        monkeypatch.setattr(os, "fsync", full)
        answer = client.post("/ingest/AWSCloudTrail", json=call(1))
        monkeypatch.undo()
        assert answer.status_code == 503
        assert answer.json()["error"] == "it cannot be kept: No space left on device"
        assert client.post("/ingest/AWSCloudTrail", json=call(1)).status_code == 200
    connector(workspace).run(threading.Event(), once=True)
    assert count(workspace, "AWSCloudTrail") == 1


def test_who_sends_no_request_does_not_stay_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "HEAD_SECONDS", 1.0)
    refused = b"POST /ingest/x HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n"
    with listening(home(tmp_path / "home")) as client:
        for begin in (b"", b"POST /ingest/Linux_CL HT", refused):
            with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=10) as slow:
                slow.sendall(begin)
                answer = b""
                with suppress(BrokenPipeError, ConnectionResetError):
                    for _ in range(40):  # a byte now and then keeps nothing alive
                        time.sleep(0.05)
                        slow.sendall(b"x" if begin else b"")
                    while piece := slow.recv(4096):
                        answer += piece
                assert answer == b"" or begin == refused
        body = (b'{"at":"2026-03-01T09:30:00Z","message":"m","host":"h"}\n' for _ in range(12))
        slowly = (time.sleep(0.1) or line for line in body)  # type: ignore[func-returns-value]
        assert client.post("/ingest/Linux_CL", content=slowly).json()["accepted"] == 12


def test_one_connection_too_many_is_told_to_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "CONNECTIONS", 1)
    with listening(home(tmp_path / "home")) as client:
        message = {"at": "2026-03-01T10:00:00Z", "host": "web-1", "message": "hello"}
        with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=10):
            answer = client.post("/ingest/Linux_CL", json=message)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert "later" in answer.json()["error"]
        until(lambda: client.post("/ingest/Linux_CL", json=message).status_code == 200)


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        workspace = home(tmp_path / "home", listen=f"127.0.0.1:{other.getsockname()[1]}")
        web, stop = connector(workspace), threading.Event()
        thread = threading.Thread(target=web.run, args=(stop,))
        thread.start()
        until(lambda: web.state().problem)
        stop.set()
        thread.join()
    assert "cannot listen at" in web.state().problem


def test_where_another_process_of_the_home_listens_nothing_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told as failing by the one and as well by the other, in each round of health."""
    monkeypatch.setattr(http, "_RETRY_SECONDS", 0.05)
    workspace = home(tmp_path / "home", listen=f"127.0.0.1:{free_port()}")
    first, second = connector(workspace), connector(workspace)
    stop = threading.Event()
    thread = threading.Thread(target=second.run, args=(stop,))
    try:
        with running(first):
            thread.start()
            until(lambda: second.state().has_begun)
            assert second.state().problem == ""
            assert second.state().doing == "taking what another process of this home receives"
        until(lambda: second.port)
        assert second.state().doing.startswith("listening")
    finally:
        stop.set()
        thread.join()


# --- crashes and real shippers ------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/health").status_code == 200
    return False


@pytest.mark.long
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """What was acknowledged is stored, once, however often the process is killed."""
    workspace = home(tmp_path / "home", listen=f"127.0.0.1:{free_port()}", flush_seconds=0)
    kills = int(os.environ.get("TRAILHAWK_HTTP_KILLS", "2"))
    command = [sys.executable, "-m", "trailhawk", "--home", str(workspace.home), "connectors", "run", "web"]
    address = workspace.connector_settings["web"].where.removesuffix("/ingest/TABLE")
    acknowledged: set[int] = set()
    number = 0
    for kill in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            with httpx.Client(base_url=address, headers=headers, timeout=10) as client:
                until(lambda: answers(client), 60)
                killer = threading.Timer(0.2 + 0.4 * kill, process.send_signal, [signal.SIGKILL])
                with suppress(httpx.TransportError):
                    while True:
                        number += 1
                        if client.post("/ingest/AWSCloudTrail", json=call(number)).status_code == 200:
                            acknowledged.add(number)
                            if killer.ident is None:  # however slow the machine is, something was stored
                                killer.start()
        finally:
            process.kill()
            process.wait()
    connector(workspace).run(threading.Event(), once=True)
    result = workspace.query("AWSCloudTrail | project AwsEventId", now=DAY)
    stored = [int(str(row[0]).removeprefix("event-")) for row in result.tuples()]
    assert acknowledged
    assert len(stored) == len(set(stored))
    assert acknowledged <= set(stored)


SYSLOG = """@version: 3.38
source lines {{ file("{log}" flags(no-parse) follow-freq(0.2)); }};
destination trailhawk {{
  http(
    url("{url}")
    method("POST")
    headers("Authorization: Bearer {token}", "Content-Type: application/json")
    body-prefix("[") delimiter(",\\n") body-suffix("]")
    body("$(format-json at=\\"$ISODATE\\" host=\\"web-1\\" message=\\"$MSG\\")")
    batch-lines(50) batch-timeout(200) workers(1) retries(10) time-reopen(1)
  );
}};
log {{ source(lines); destination(trailhawk); }};
"""


@pytest.mark.skipif(shutil.which("syslog-ng") is None, reason="syslog-ng is not installed")
def test_syslog_ng_delivers(tmp_path: Path) -> None:
    """A real shipper: the http destination of syslog-ng, in batches of a JSON array."""
    workspace = home(tmp_path / "home")
    log = tmp_path / "messages.log"
    lines = [f'message {number} with "quotes" and \\ and é' for number in range(200)]
    log.write_text("".join(f"{line}\n" for line in lines))
    with listening(workspace) as client:
        config = tmp_path / "syslog-ng.conf"
        url = f"{client.base_url}/ingest/Linux_CL"
        config.write_text(SYSLOG.format(log=log, url=url, token=TOKEN))
        files = [f"--{name}={tmp_path / name}" for name in ("persist-file", "pidfile", "control")]
        command = ["syslog-ng", "--foreground", "--no-caps", f"--cfgfile={config}", *files]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            until(lambda: count(workspace, "Linux_CL") == 200 or process.poll() is not None, 60)
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=20)
    found = {row[0] for row in workspace.query("Linux_CL | project Message", now=DAY).tuples()}
    assert found == set(lines), said.decode()
    assert count(workspace, "Linux_CL") == 200
