"""Messages to a real SMTP server and a real HTTP receiver on loopback: each once, or the log says why not."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from trailhawk.cli import run as typed
from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import AWS_ACCESS_KEY, IP, entity
from trailhawk.detect.rule import Severity
from trailhawk.detect.store import AlertStore, open_state, sqlite_url
from trailhawk.errors import LakeError, NotFoundError
from trailhawk.incidents.grouping import linked
from trailhawk.incidents.incident import Classification, Closing, Incident
from trailhawk.incidents.store import IncidentStore
from trailhawk.respond import notifier, sending
from trailhawk.respond.channel import USUAL, Apprise, Channel, Email, Way, Webhook, When, channels
from trailhawk.respond.message import MOST_EACH, MOST_TEXT, Item, filled, in_chat, message
from trailhawk.respond.notifier import Delivered, Notifier, sample
from trailhawk.respond.outbox import CLAIM, MAX_TRIES, MOST_IN_DIGEST, Outbox, Outcome, State
from trailhawk.respond.sending import signature
from trailhawk.settings import Section, SettingsError

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = (
    "key read\r\nBcc: thief@example.net\r\n\r\n"
    "<script>alert(1)</script> <!channel> https://evil.example \u202e"
)


class Desk:
    """Incidents, an outbox, and a clock that stands where it is put."""

    def __init__(self, folder: Path, *ways: Channel, environment: dict[str, str] | None = None) -> None:
        self.alerts = AlertStore(open_state(sqlite_url(folder / "state.db")))
        self.incidents = IncidentStore(self.alerts)
        self.outbox = Outbox(self.alerts.engine)
        self.now = AT
        self.folder = folder
        self.notifier = Notifier(
            self.incidents,
            self.outbox,
            ways,
            clock=lambda: self.now,
            environment=environment or {},
            story=lambda incident: (f"Key of {incident.title} was used.",),
            templates=folder / "templates",
        )

    def raise_(self, name: str, key: str, severity: Severity = Severity.HIGH) -> None:
        raised = Alert(
            id=name,
            rule_id="r",
            rule_name="The rule",
            at=self.now,
            started_at=self.now - timedelta(minutes=30),
            ended_at=self.now,
            name=name,
            description="",
            severity=severity,
            tactics=("Exfiltration",),
            techniques=("T1530",),
            entities=(entity(AWS_ACCESS_KEY, Id=key), entity(IP, Address="203.0.113.66")),
            custom_details=(),
            properties=(),
            query="",
            rows=1,
        )
        with self.alerts.engine.begin() as connection:
            self.alerts.record(connection, [], self.alerts.new_alerts(connection, [raised]))
            self.incidents.add(connection, [raised], [linked(raised, None, [])])

    def tell(self) -> list[Delivered]:
        self.notifier.collect()
        done: list[Delivered] = []
        self.notifier.deliver(done.append)
        return done

    def outcomes(self) -> list[Outcome]:
        return [each.outcome for each in self.outbox.tries()]


def channel(way: Way, **more: Any) -> Channel:
    usual = Channel(name="desk", way=way, when=USUAL, severity=Severity.MEDIUM, digest_hours=0)
    return replace(usual, **more)


# --- a mail server -----------------------------------------------------------------------------------------


class Mailbox:
    """Takes mails; `refuse` is answered to the next ones instead."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.to: list[list[str]] = []
        self.refuse: list[str] = []
        self.hang_up = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refuse:
            return self.refuse.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        found = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        self.mails.append(found)
        self.to.append(list(envelope.rcpt_tos))
        if self.hang_up:
            # The mail is taken, but whoever sent it never hears so.
            self.hang_up -= 1
            assert server.transport is not None
            server.transport.abort()  # type: ignore[attr-defined]
        return "250 taken"


@contextmanager
def mail_server(box: Mailbox, port: int = 0, **more: Any) -> Iterator[int]:
    controller = Controller(box, hostname="127.0.0.1", port=port, **more)
    if port == 0:
        # aiosmtpd wants to know the port before it listens.
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            controller.port = probe.getsockname()[1]
    controller.start()
    try:
        yield int(controller.port)
    finally:
        controller.stop()


def by_mail(port: int, *to: str) -> Email:
    return Email("127.0.0.1", port, "none", "trailhawk@example.com", to or ("soc@example.com",), "", "")


def test_a_new_incident_is_mailed_once(tmp_path: Path) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        desk = Desk(tmp_path, channel(by_mail(port)))
        desk.raise_("Objects read from a new address", "ASIAEXAMPLE000000001")
        assert [each.sent for each in desk.tell()] == [True]
        assert desk.tell() == []
    (mail,) = box.mails
    assert mail["Subject"] == "[High] Incident 1 created: Objects read from a new address"
    assert mail["Auto-Submitted"] == "auto-generated"
    body = mail.get_body(("plain",))
    assert body is not None
    assert "Key of Objects read from a new address was used." in body.get_content()
    (one,) = desk.outbox.tries()
    assert mail["Message-ID"] == f"<{one.delivery}@example.com>"
    assert one.outcome is Outcome.SENT


def test_log_text_does_not_get_into_headers_html_or_other_parts(tmp_path: Path) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        desk = Desk(tmp_path, channel(by_mail(port)))
        desk.raise_(HOSTILE, "ASIAEXAMPLE000000001")
        desk.tell()
    (mail,) = box.mails
    assert mail["Bcc"] is None
    assert box.to == [["soc@example.com"]]
    assert "\n" not in mail["Subject"]
    assert "\u202e" not in mail["Subject"]
    assert mail["Subject"].startswith("[High] Incident 1 created: key read Bcc: thief@example.net")
    html = mail.get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html.get_content()
    assert [part.get_content_type() for part in mail.walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]


def test_a_server_that_is_away_gets_its_mail_when_it_is_back(tmp_path: Path) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        pass
    desk = Desk(tmp_path, channel(by_mail(port)))
    desk.raise_("Read", "ASIAEXAMPLE000000001")
    (failed,) = desk.tell()
    assert not failed.sent
    assert failed.again_at == AT + timedelta(seconds=30)
    desk.now += timedelta(seconds=29)
    assert desk.tell() == []
    with mail_server(box, port):
        desk.now += timedelta(seconds=1)
        assert [each.sent for each in desk.tell()] == [True]
    assert len(box.mails) == 1
    assert desk.outcomes() == [Outcome.NOT_SENT, Outcome.SENT]


def test_a_mail_without_answer_is_sent_again_under_the_same_id_and_the_log_says_so(tmp_path: Path) -> None:
    box = Mailbox()
    box.hang_up = 1
    with mail_server(box) as port:
        desk = Desk(tmp_path, channel(by_mail(port)))
        desk.raise_("Read", "ASIAEXAMPLE000000001")
        desk.tell()
        desk.now += timedelta(minutes=1)
        desk.tell()
    assert desk.outcomes() == [Outcome.UNCERTAIN, Outcome.SENT]
    assert len({mail["Message-ID"] for mail in box.mails}) == 1


def test_what_the_server_will_not_have_is_given_up_and_can_be_sent_again(tmp_path: Path) -> None:
    box = Mailbox()
    box.refuse = ["451 later", "550 never"]
    with mail_server(box) as port:
        desk = Desk(tmp_path, channel(by_mail(port)))
        desk.raise_("Read", "ASIAEXAMPLE000000001")
        (first,) = desk.tell()
        assert first.again_at is not None
        desk.now = first.again_at
        (second,) = desk.tell()
        assert (second.again_at, second.detail) == (None, "550 never")
        (given_up,) = desk.outbox.notices([State.FAILED])
        assert desk.outbox.tries()[-1].detail == "550 never; given up"
        desk.outbox.again(given_up.delivery, desk.now)
        assert [each.sent for each in desk.tell()] == [True]


def test_a_process_that_ended_while_sending_leaves_its_message_to_the_next(tmp_path: Path) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        desk = Desk(tmp_path, channel(by_mail(port)))
        desk.raise_("Read", "ASIAEXAMPLE000000001")
        desk.notifier.collect()
        desk.outbox.take(channel(by_mail(port)), desk.now)  # and then nothing more is heard of it
        assert desk.tell() == []
        desk.now += CLAIM + timedelta(seconds=1)
        assert [each.sent for each in desk.tell()] == [True]
    assert desk.outcomes() == [Outcome.LEFT, Outcome.SENT]


def test_a_digest_holds_all_of_its_hours(tmp_path: Path) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        desk = Desk(tmp_path, channel(by_mail(port), digest_hours=24))
        for place in range(3):
            desk.raise_(f"Read {place}", f"ASIAEXAMPLE00000000{place}")
        assert desk.tell() == []
        desk.now = datetime(2026, 3, 2, tzinfo=UTC)
        (done,) = desk.tell()
    assert (done.sent, done.notices) == (True, 3)
    assert box.mails[0]["Subject"] == "[Trailhawk] 3 changes of incidents"


@pytest.mark.parametrize("left", [False, True])
def test_a_digest_that_is_tried_again_holds_what_it_held(tmp_path: Path, left: bool) -> None:
    """It may have arrived, and who has it drops the second by its id: what came since goes by itself."""
    daily = channel(by_mail(1), digest_hours=1)
    desk = Desk(tmp_path, daily)
    desk.raise_("Read 1", "ASIAEXAMPLE000000001")
    desk.notifier.collect()
    desk.now += timedelta(hours=1)
    first = desk.outbox.take(daily, desk.now)
    if not left:
        desk.outbox.not_sent(first, desk.now, "no answer", again=True, perhaps=True)
    desk.raise_("Read 2", "ASIAEXAMPLE000000002")
    desk.notifier.collect()
    desk.now += timedelta(hours=2)
    desk.outbox.left(desk.now)
    again, other = desk.outbox.take(daily, desk.now), desk.outbox.take(daily, desk.now)
    assert [each.id for each in again] == [each.id for each in first]
    assert again[0].delivery == first[0].delivery != other[0].delivery
    assert desk.outbox.take(daily, desk.now) == ()


def test_a_digest_is_bounded(tmp_path: Path) -> None:
    """More goes in a next message; the stories are of the gravest, each once."""
    daily = channel(by_mail(1), digest_hours=24, when=(When.CREATED, When.ASSIGNED))
    desk = Desk(tmp_path, daily)
    for place in range(30):
        severity = Severity.HIGH if place >= 15 else Severity.MEDIUM
        desk.raise_(f"Read {place}", f"ASIAEXAMPLE0000000{place:02}", severity)
    for turn in range(7):
        for number in range(1, 31):
            desk.incidents.set(number, owner=f"ana{turn}", by="ana", now=desk.now)
    desk.notifier.collect()
    desk.now += timedelta(hours=24)
    first = desk.outbox.take(daily, desk.now)
    second = desk.outbox.take(daily, desk.now)
    assert (len(first), len(second)) == (MOST_IN_DIGEST, 30 * 8 - MOST_IN_DIGEST)
    assert first[0].delivery != second[0].delivery
    made = desk.notifier._message(first)
    told = {line for line in made.text.splitlines() if line.startswith("- Key of")}
    assert made.text.count("- Key of") == len(told) == 20
    assert {f"- Key of Read {place} was used." for place in range(15, 30)} < told
    desk.outbox.not_sent(first, desk.now, "away", again=True, perhaps=False)
    desk.outbox.not_sent(second, desk.now, "away", again=True, perhaps=False)
    desk.now += timedelta(hours=1)
    assert [each.id for each in desk.outbox.take(daily, desk.now)] == [each.id for each in first]


def test_a_digest_in_a_chat_has_a_line_each_and_the_gravest_first() -> None:
    """Services cut what is long."""
    incident = sample(AT).incident
    grades = (Severity.LOW, Severity.HIGH, Severity.MEDIUM)
    items = [
        Item(replace(incident, number=place, severity=each), "created", "said", AT, story=("a", "b"))
        for place, each in enumerate(grades, 1)
    ]
    head, *lines = message("id", items, at=AT, data={}).chat.splitlines()
    assert head == "3 changes of incidents, the gravest first:"
    assert [line.split(": ")[1] for line in lines] == [f"incident {each} created" for each in (2, 3, 1)]


def test_half_a_page_is_none() -> None:
    incident = replace(sample(AT).incident, title="<" * 256)
    items = [Item(incident, "created", "said", AT) for _ in range(2_000)]
    made = message("id", items, at=AT, data={})
    assert made.html.endswith("</pre>")
    assert len(made.text) <= MOST_TEXT
    assert made.text.endswith("...")


def test_a_mail_has_no_character_that_an_old_server_need_not_take(tmp_path: Path) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        desk = Desk(tmp_path, channel(by_mail(port)))
        desk.raise_("Schlüssel gelesen", "ASIAEXAMPLE000000001")
        desk.tell()
    (mail,) = box.mails
    body = mail.get_body(("plain",))
    assert body is not None
    assert "Schlüssel" in body.get_content()
    assert {part["Content-Transfer-Encoding"] for part in mail.walk()} <= {
        None,
        "7bit",
        "base64",
        "quoted-printable",
    }


def test_a_channel_is_told_of_what_it_asked_for(tmp_path: Path) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        asked = (When.CREATED, When.SEVERITY_RAISED, When.CLOSED)
        desk = Desk(tmp_path, channel(by_mail(port), when=asked))
        desk.raise_("Small", "ASIAEXAMPLE000000001", Severity.LOW)
        assert desk.tell() == []
        desk.now += timedelta(minutes=1)
        desk.raise_("Large", "ASIAEXAMPLE000000001", Severity.HIGH)
        desk.tell()
        desk.incidents.comment(1, "looking", by="ann", now=desk.now + timedelta(minutes=1))
        closing = Closing.of(Classification.TRUE_POSITIVE)
        desk.now += timedelta(minutes=2)
        desk.incidents.close(1, closing, by="ann", now=desk.now)
        desk.tell()
    assert [mail["Subject"] for mail in box.mails] == [
        "[High] Incident 1 severity raised: Large",
        "[High] Incident 1 closed: Large",
    ]


def test_who_sets_up_a_channel_is_not_told_of_the_past(tmp_path: Path) -> None:
    desk = Desk(tmp_path, channel(by_mail(1)))
    desk.raise_("Old", "ASIAEXAMPLE000000001")
    desk.notifier.begin()
    assert desk.notifier.collect() == 0


def test_a_home_has_templates_of_its_own_and_they_can_do_no_harm(tmp_path: Path) -> None:
    box = Mailbox()
    (tmp_path / "templates").mkdir()
    subject = tmp_path / "templates" / "subject.txt.j2"
    subject.write_text("Look: {{ first.incident.title }}")
    with mail_server(box) as port:
        desk = Desk(tmp_path, channel(by_mail(port)))
        desk.raise_("Read", "ASIAEXAMPLE000000001")
        desk.tell()
        assert box.mails[0]["Subject"] == "Look: Read"
        subject.write_text("{{ first.__class__.__mro__ }}")
        desk.raise_("Read more", "ASIAEXAMPLE000000002")
        (failed,) = desk.tell()
    assert not failed.sent
    assert "subject.txt.j2" in failed.detail


def test_a_password_that_is_no_ascii_is_told_and_not_shown(tmp_path: Path) -> None:
    def lets_in(*_: object) -> AuthResult:
        return AuthResult(success=True)

    with mail_server(Mailbox(), authenticator=lets_in, auth_require_tls=False) as port:
        way = replace(by_mail(port), user="ann", password_env="PASSWORD")
        desk = Desk(tmp_path, channel(way), environment={"PASSWORD": "geheim-ä"})
        desk.raise_("Read", "ASIAEXAMPLE000000001")
        (failed,) = desk.tell()
    assert (failed.sent, failed.again_at) == (False, None)
    assert "no ASCII" in failed.detail
    assert "ä" not in failed.detail


@pytest.mark.parametrize(
    ("first", "then", "tls"),
    [
        (b"220 here\r\n", b"250-and another thing\r\n", "none"),
        (b"", b"220-and another thing\r\n", "none"),
        (b"", b"\x16", "tls"),
        (b"220 here\r\n250-here\r\n250 STARTTLS\r\n220 go\r\n", b"\x16", "starttls"),
    ],
)
def test_a_mail_server_that_goes_on_talking_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bytes, then: bytes, tls: str
) -> None:
    """Each line comes in time, and there is always another: after the greeting, in it, or before it."""
    monkeypatch.setattr(sending, "SECONDS", 0.3)
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            taken, _ = server.accept()
            with taken, suppress(OSError):
                taken.sendall(first)
                while not done.wait(0.05):
                    taken.sendall(then)

        thread = threading.Thread(target=talk)
        thread.start()
        desk = Desk(tmp_path, channel(replace(by_mail(server.getsockname()[1]), tls=tls)))
        desk.raise_("Read", "ASIAEXAMPLE000000001")
        (failed,) = desk.tell()
        done.set()
        thread.join(10)
    assert not thread.is_alive()
    assert not failed.sent
    assert failed.again_at is not None


def test_a_mail_server_that_says_too_much_is_left(tmp_path: Path) -> None:
    """Each line comes at once, and there is always another."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            taken, _ = server.accept()
            with taken, suppress(OSError):
                while True:
                    taken.sendall(b"220-and another thing\r\n" * 1_000)

        thread = threading.Thread(target=talk)
        thread.start()
        desk = Desk(tmp_path, channel(by_mail(server.getsockname()[1])))
        desk.raise_("Read", "ASIAEXAMPLE000000001")
        (failed,) = desk.tell()
        thread.join(10)
    assert not thread.is_alive()
    assert "says too much" in failed.detail
    assert failed.again_at is not None


# --- a receiver of webhooks --------------------------------------------------------------------------------


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted; `answers` are given in turn, 200 after them."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.posted: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.headers: dict[str, str] = {}
        self.echoes = False
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?team=soc"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver = self.server
        assert isinstance(receiver, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = receiver.answers.pop(0) if receiver.answers else 200
        if status == 200:
            receiver.posted.append(({key.lower(): value for key, value in self.headers.items()}, body))
        self.send_response(status)
        said = f"{status} for {self.path}".encode() if receiver.echoes else b""
        for name, value in receiver.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def by_chat(receiver: Receiver, *, private: bool = True, host: str = "127.0.0.1") -> Apprise:
    return Apprise(f"json://{host}:{receiver.server_address[1]}/chat", "", private_addresses=private)


def by_hook(url: str, *, private: bool = True, secret: str = "") -> Webhook:
    return Webhook(url=url, url_env="", secret_env=secret, private_addresses=private)


def test_a_webhook_is_signed(tmp_path: Path, receiver: Receiver) -> None:
    key = b"0123456789abcdef0123456789abcdef"
    secret = "whsec_" + base64.b64encode(key).decode()
    desk = Desk(
        tmp_path, channel(by_hook(receiver.url, secret="HOOK_SECRET")), environment={"HOOK_SECRET": secret}
    )
    desk.raise_(HOSTILE, "ASIAEXAMPLE000000001")
    assert [each.sent for each in desk.tell()] == [True]
    ((headers, body),) = receiver.posted
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    data = json.loads(body)
    assert data["changes"][0]["incident"]["title"] == HOSTILE
    assert {"type": "AwsAccessKey", "Id": "ASIAEXAMPLE000000001"} in data["changes"][0]["incident"][
        "entities"
    ]


def test_the_signature_is_that_of_the_published_form() -> None:
    # Recomputed by hand from the form's own words: id, timestamp and body with full stops between.
    signed = hmac.new(b"secret", b'msg_1.1700000000.{"a":1}', hashlib.sha256).digest()
    assert (
        signature("secret", "msg_1", 1_700_000_000, b'{"a":1}') == "v1," + base64.b64encode(signed).decode()
    )


def test_a_receiver_that_fails_gets_each_message_once(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [503, 429]
    desk = Desk(tmp_path, channel(by_hook(receiver.url)))
    desk.raise_("One", "ASIAEXAMPLE000000001")
    for _ in range(6):
        desk.tell()
        desk.now += timedelta(minutes=2)
    assert len(receiver.posted) == 1
    assert desk.outcomes() == [Outcome.NOT_SENT, Outcome.NOT_SENT, Outcome.SENT]


@pytest.mark.parametrize(
    ("hold", "by_apprise"),
    [("7200", False), ("Sun, 01 Mar 2026 14:00:00 GMT", False), ("7200", True)],
)
def test_a_receiver_that_asks_to_wait_is_left_alone(
    tmp_path: Path, receiver: Receiver, hold: str, by_apprise: bool
) -> None:
    receiver.answers, receiver.headers = [429], {"Retry-After": hold}
    desk = Desk(tmp_path, channel(by_chat(receiver) if by_apprise else by_hook(receiver.url)))
    for place in range(3):
        desk.raise_(f"Read {place}", f"ASIAEXAMPLE00000000{place}")
    (failed,) = desk.tell()
    assert failed.again_at == AT + timedelta(hours=2)
    desk.now += timedelta(hours=1, minutes=59)
    assert desk.tell() == []
    desk.now += timedelta(minutes=1)
    assert [each.sent for each in desk.tell()] == [True] * 3
    assert len(receiver.posted) == 3


def test_a_receiver_that_asks_to_wait_hears_of_nothing_new_either(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [429], {"Retry-After": "7200"}
    desk = Desk(tmp_path, channel(by_hook(receiver.url)))
    desk.raise_("Read 0", "ASIAEXAMPLE000000000")
    desk.tell()
    desk.now += timedelta(hours=1)
    desk.raise_("Read 1", "ASIAEXAMPLE000000001")
    assert desk.tell() == []
    assert desk.outbox.take(channel(by_hook(receiver.url)), desk.now) == ()
    desk.now += timedelta(hours=1)
    assert [each.sent for each in desk.tell()] == [True] * 2


@pytest.mark.parametrize(
    ("status", "asked", "seconds"),
    [
        (429, "5", 5),
        (503, " 5 ", 5),
        (500, "5", 0),
        (429, "", 0),
        (429, "-5", 0),
        (429, "soon", 0),
        (429, "999999999", 86_400),
        (429, "9" * 5000, 0),
        (429, "Sun, 01 Mar 2026 11:00:00 GMT", 0),
        (429, "Sun, 01 Mar 2026 12:01:00 -0000", 60),
    ],
)
def test_how_long_a_receiver_asks_to_wait(status: int, asked: str, seconds: int) -> None:
    assert sending._hold(status, asked, AT) == timedelta(seconds=seconds)


def test_a_receiver_that_is_away_does_not_keep_others_waiting(tmp_path: Path, receiver: Receiver) -> None:
    """One try a round: with a hundred messages and half a minute each, others would wait for an hour."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    away = channel(by_hook(f"http://127.0.0.1:{port}/"), name="away")
    desk = Desk(tmp_path, away, channel(by_hook(receiver.url)))
    for place in range(5):
        desk.raise_(f"Read {place}", f"ASIAEXAMPLE00000000{place}")
    assert [(each.channel, each.sent) for each in desk.tell()] == [("away", False)] + [("desk", True)] * 5


def test_a_slow_receiver_does_not_keep_others_waiting(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "_MOST_SECONDS", 0.0)
    slow = channel(by_hook(receiver.url), name="slow")
    desk = Desk(tmp_path, slow, channel(by_hook(receiver.url)))
    for place in range(2):
        desk.raise_(f"Read {place}", f"ASIAEXAMPLE00000000{place}")
    told = [[each.channel for each in desk.tell()] for _ in range(3)]
    assert told == [["slow", "desk"], ["slow", "desk"], []]


def test_one_message_that_is_refused_does_not_keep_the_next_waiting(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answers = [400]
    desk = Desk(tmp_path, channel(by_hook(receiver.url)))
    for place in range(2):
        desk.raise_(f"Read {place}", f"ASIAEXAMPLE00000000{place}")
    assert [each.sent for each in desk.tell()] == [False, True]


def test_a_storm_goes_together(tmp_path: Path, receiver: Receiver) -> None:
    desk = Desk(tmp_path, channel(by_hook(receiver.url), most_hourly=3))
    for place in range(3):
        desk.raise_(f"Read {place}", f"ASIAEXAMPLE0000000{place:02}")
    assert len(desk.tell()) == 3
    for place in range(3, 13):
        desk.raise_(f"Read {place}", f"ASIAEXAMPLE0000000{place:02}")
    assert desk.tell() == []
    desk.now += timedelta(hours=1)
    (done,) = desk.tell()
    assert (done.sent, done.notices) == (True, 10)
    numbers = [
        each["incident"]["number"] for _, body in receiver.posted for each in json.loads(body)["changes"]
    ]
    assert numbers == list(range(1, 14))
    assert desk.tell() == []


def test_what_there_is_no_room_for_goes_in_the_next(tmp_path: Path, receiver: Receiver) -> None:
    """Though fewer wait than may go out within an hour."""
    desk = Desk(tmp_path, channel(by_hook(receiver.url), most_hourly=3))
    for place in range(3):
        desk.raise_(f"Read {place}", f"ASIAEXAMPLE0000000{place:02}")
        assert len(desk.tell()) == 1
        desk.now += timedelta(minutes=20 if place else 10)
    desk.raise_("Read 3", "ASIAEXAMPLE000000003")
    desk.raise_("Read 4", "ASIAEXAMPLE000000004")
    assert desk.tell() == []
    desk.now += timedelta(minutes=10)
    assert [(each.sent, each.notices) for each in desk.tell()] == [(True, 2)]


def test_what_a_clock_that_was_ahead_sent_takes_no_room(tmp_path: Path, receiver: Receiver) -> None:
    desk = Desk(tmp_path, channel(by_hook(receiver.url), most_hourly=1))
    desk.now += timedelta(hours=5)
    desk.raise_("Read 0", "ASIAEXAMPLE000000000")
    assert len(desk.tell()) == 1
    desk.now -= timedelta(hours=5)
    desk.raise_("Read 1", "ASIAEXAMPLE000000001")
    assert len(desk.tell()) == 1


def test_what_went_together_is_sent_again_together(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [400]
    desk = Desk(tmp_path, channel(by_hook(receiver.url), most_hourly=3))
    for place in range(5):
        desk.raise_(f"Read {place}", f"ASIAEXAMPLE0000000{place:02}")
    (failed,) = desk.tell()
    assert (failed.notices, failed.again_at) == (5, None)
    desk.raise_("Read 5", "ASIAEXAMPLE0000000005")
    assert desk.outbox.again(failed.delivery, desk.now) == 5
    done = desk.tell()
    assert [(each.sent, each.notices) for each in done] == [(True, 5), (True, 1)]
    assert [headers["webhook-id"] for headers, _ in receiver.posted] == [each.delivery for each in done]
    assert done[0].delivery == failed.delivery != done[1].delivery


@pytest.mark.parametrize(
    ("fault", "said"),
    [(LakeError("the lake cannot be read"), "the lake cannot be read"), (KeyError(1), "KeyError")],
)
def test_who_is_on_call_is_told_though_the_lake_is_away(
    tmp_path: Path, receiver: Receiver, fault: Exception, said: str
) -> None:
    def away(_: Incident) -> tuple[str, ...]:
        raise fault

    desk = Desk(tmp_path, channel(by_hook(receiver.url)))
    desk.notifier._story = away
    desk.raise_("One", "ASIAEXAMPLE000000001")
    assert [each.sent for each in desk.tell()] == [True]
    (change,) = json.loads(receiver.posted[0][1])["changes"]
    assert change["story"] == [f"More could not be said: {said}"]


def test_a_message_that_ends_its_process_each_time_is_given_up(tmp_path: Path) -> None:
    away = channel(by_mail(1))
    desk = Desk(tmp_path, away)
    desk.raise_("One", "ASIAEXAMPLE000000001")
    desk.notifier.collect()
    for _ in range(MAX_TRIES):
        assert len(desk.outbox.take(away, desk.now)) == 1
        desk.now += CLAIM + timedelta(seconds=1)
        desk.outbox.left(desk.now)
    assert desk.outbox.take(away, desk.now) == ()
    assert [each.state for each in desk.outbox.notices()] == [State.FAILED]


def test_no_secret_is_in_the_log(tmp_path: Path, receiver: Receiver) -> None:
    """Receivers tell what they were asked for, and libraries what they could not do."""
    receiver.answers, receiver.echoes = [400, 400], True
    port = receiver.server_address[1]
    address = f"http://127.0.0.1:{port}/services/T0123456789?token=s3cr3t-t0k3n"
    for url in (address, address + " x"):
        way = Webhook(url="", url_env="HOOK", secret_env="", private_addresses=True)
        (tmp_path / str(len(url))).mkdir()
        desk = Desk(tmp_path / str(len(url)), channel(way), environment={"HOOK": url})
        desk.raise_("One", "ASIAEXAMPLE000000001")
        (failed,) = desk.tell()
        assert not failed.sent
        for text in (failed.detail, *(each.detail for each in desk.outbox.tries())):
            assert "T0123456789" not in text
            assert "s3cr3t-t0k3n" not in text
    assert failed.detail.startswith("127.0.0.1: ")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.com?token=s3cr3t", "https://hooks.example.com"),
        ("https://ann:s3cr3t@hooks.example.com:8443/s3cr3t#s3cr3t", "https://hooks.example.com"),
        ("https://[s3cr3t", "https://..."),
        ("slack://s3cr3t/s3cr3t/s3cr3t", "slack://..."),
    ],
)
def test_the_list_of_channels_has_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, shown: str
) -> None:
    kind = "apprise" if url.startswith("slack") else "webhook"
    (tmp_path / "trailhawk.toml").write_text(f'[notify.channels.desk]\ntype = "{kind}"\nurl = "{url}"\n')
    assert typed(["--home", str(tmp_path), "notify", "list", "--format", "json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["to"] == shown


def test_a_wrong_address_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trailhawk.toml").write_text(
        '[notify.channels.desk]\ntype = "webhook"\nurl = "hooks.example.com/s3cr3t"\n'
    )
    assert typed(["--home", str(tmp_path), "notify", "list"]) == 2
    assert "s3cr3t" not in capsys.readouterr().err


def test_a_host_is_dialled_at_each_of_its_addresses(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "addresses", lambda host, port: ["127.0.0.9", "127.0.0.1"])
    desk = Desk(tmp_path, channel(by_hook(receiver.url)))
    desk.raise_("One", "ASIAEXAMPLE000000001")
    assert [each.sent for each in desk.tell()] == [True]


def test_a_user_in_the_address_signs_in(tmp_path: Path, receiver: Receiver) -> None:
    desk = Desk(tmp_path, channel(by_hook(receiver.url.replace("//", "//ann:p%40ss@"))))
    desk.raise_("One", "ASIAEXAMPLE000000001")
    assert [each.sent for each in desk.tell()] == [True]
    kind, _, pair = receiver.posted[0][0]["authorization"].partition(" ")
    assert (kind, base64.b64decode(pair)) == ("Basic", b"ann:p@ss")


def test_a_receiver_killed_and_started_again_gets_each_message_once(tmp_path: Path) -> None:
    receiver = Receiver()
    port = receiver.server_address[1]
    desk = Desk(tmp_path, channel(by_hook(receiver.url)))
    got: list[bytes] = []
    for place in range(12):
        desk.raise_(f"Read {place}", f"ASIAEXAMPLE0000000{place:02}")
        if place % 4 == 1:
            got += [body for _, body in receiver.posted]
            receiver.close()
        if place % 4 == 3:
            receiver = Receiver(int(port))
        desk.tell()
        desk.now += timedelta(minutes=5)
    for _ in range(8):
        desk.now += timedelta(hours=1)
        desk.tell()
    got += [body for _, body in receiver.posted]
    receiver.close()
    numbers = [json.loads(body)["changes"][0]["incident"]["number"] for body in got]
    assert sorted(numbers) == list(range(1, 13))


def test_redirects_are_not_followed(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [302]
    receiver.headers = {"Location": "http://169.254.169.254/latest/meta-data/"}
    desk = Desk(tmp_path, channel(by_hook(receiver.url)))
    desk.raise_("One", "ASIAEXAMPLE000000001")
    (failed,) = desk.tell()
    assert (failed.sent, failed.again_at) == (False, None)
    assert "redirects are not followed" in failed.detail


def test_private_addresses_are_not_reached_unless_allowed(tmp_path: Path, receiver: Receiver) -> None:
    desk = Desk(tmp_path, channel(by_hook(receiver.url, private=False)))
    desk.raise_("One", "ASIAEXAMPLE000000001")
    (failed,) = desk.tell()
    assert "private network" in failed.detail
    assert receiver.posted == []


def test_a_secret_that_is_not_there_is_named(tmp_path: Path, receiver: Receiver) -> None:
    desk = Desk(tmp_path, channel(by_hook(receiver.url, secret="HOOK_SECRET")))
    desk.raise_("One", "ASIAEXAMPLE000000001")
    (failed,) = desk.tell()
    assert failed.detail == "the environment variable HOOK_SECRET is not set"


@pytest.mark.parametrize(("secret", "said"), [("", "is not set"), ("whsec_a!b?", "no base64")])
def test_what_is_to_be_signed_does_not_go_out_without(
    tmp_path: Path, receiver: Receiver, secret: str, said: str
) -> None:
    way = by_hook(receiver.url, secret="HOOK_SECRET")
    desk = Desk(tmp_path, channel(way), environment={"HOOK_SECRET": secret})
    desk.raise_("One", "ASIAEXAMPLE000000001")
    (failed,) = desk.tell()
    assert said in failed.detail
    assert receiver.posted == []


def test_apprise_carries_what_is_no_mail_and_no_webhook(tmp_path: Path, receiver: Receiver) -> None:
    desk = Desk(tmp_path, channel(by_chat(receiver)))
    desk.raise_(HOSTILE, "ASIAEXAMPLE000000001")
    assert [each.sent for each in desk.tell()] == [True]
    ((_, body),) = receiver.posted
    text = json.loads(body)["message"]
    assert "incident 1 created" in text
    assert not set("<>@") & set(text)
    assert "https://" not in text
    assert "hxxps://evil[.]example" in text


@pytest.mark.parametrize("status", [302, 307, 308])
def test_apprise_follows_no_redirect(tmp_path: Path, receiver: Receiver, status: int) -> None:
    other = Receiver()
    receiver.answers = [status]
    receiver.headers = {"Location": f"http://127.0.0.1:{other.server_address[1]}/chat"}
    desk = Desk(tmp_path, channel(by_chat(receiver)))
    desk.raise_("One", "ASIAEXAMPLE000000001")
    (failed,) = desk.tell()
    other.close()
    assert (failed.sent, failed.again_at) == (False, None)
    assert failed.detail == f"status {status}: redirects are not followed"
    assert (receiver.posted, other.posted) == ([], [])


def test_a_channel_has_one_address(tmp_path: Path, receiver: Receiver) -> None:
    way = by_chat(receiver)
    desk = Desk(tmp_path, channel(replace(way, url=f"{way.url}, {way.url}/2")))
    desk.raise_("One", "ASIAEXAMPLE000000001")
    (failed,) = desk.tell()
    assert (failed.detail, failed.again_at) == ("2 addresses: a channel has one", None)
    assert receiver.posted == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433"])
def test_apprise_reaches_no_private_address_unless_allowed(
    tmp_path: Path, receiver: Receiver, host: str
) -> None:
    desk = Desk(tmp_path, channel(by_chat(receiver, private=False, host=host)))
    desk.raise_("One", "ASIAEXAMPLE000000001")
    (failed,) = desk.tell()
    assert failed.detail == "127.0.0.1 is in a private network: set private_addresses"
    assert failed.again_at is None
    assert receiver.posted == []
    assert desk.outcomes() == [Outcome.NOT_SENT]


@pytest.mark.parametrize(
    ("address", "is_reached"),
    [
        ("203.0.113.9", False),
        ("169.254.169.254", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("fd00:ec2::254", False),
        ("fe80::1%1", False),
        ("localhost", False),
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
    ],
)
def test_the_guard_looks_at_the_address_that_a_connection_goes_to(address: str, is_reached: bool) -> None:
    """A name that leads elsewhere the second time it is asked for is of no use: no name counts here."""
    script = """
import socket, sys
from trailhawk.respond.carrier import Answered, RefusedError, guard
kept = Answered()
guard(kept)
kind = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
refused = 0
for how in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    with socket.socket(kind, how) as made:
        made.setblocking(False)
        where = (sys.argv[1], 9)
        for go in (made.connect, made.connect_ex, lambda to: made.sendto(b"x", to)):
            try:
                go(where)
            except RefusedError:
                refused += 1
            except OSError:
                pass
print(refused, kept.refused)
"""
    known = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", script, address], capture_output=True, text=True, check=True, env=known
    )
    assert done.stdout.strip() == ("0 []" if is_reached else f"6 ['{address}']")


def test_apprise_is_ended_when_it_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"json://127.0.0.1:{server.getsockname()[1]}/"
        desk = Desk(tmp_path, channel(Apprise(url, "", private_addresses=True)))
        desk.raise_("One", "ASIAEXAMPLE000000001")
        (failed,) = desk.tell()
    assert "did not come to an end" in failed.detail
    assert desk.outcomes() == [Outcome.UNCERTAIN]


def test_what_apprise_got_no_answer_to_may_have_arrived(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            taken, _ = server.accept()
            with taken:
                taken.recv(65_536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        way = Apprise(f"json://127.0.0.1:{server.getsockname()[1]}/", "", private_addresses=True)
        desk = Desk(tmp_path, channel(way))
        desk.raise_("Read", "ASIAEXAMPLE000000001")
        assert [each.sent for each in desk.tell()] == [False]
        thread.join()
    assert desk.outcomes() == [Outcome.UNCERTAIN]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!channel> [a](http://b) @all *c* `d`", "＜!channel＞ ［a］(hxxp://b) ＠all ＊c＊ ｀d｀"),
        ("__b__ _i_ role_name \\*", "＿＿b＿＿ ＿i＿ role＿name ＼＊"),
        ("https://evil.example/x?y", "hxxps://evil[.]example/x?y"),
        ("see evil.example, www.evil.example.", "see evil[.]example, www.evil[.]example."),
        ("evil。example evil．xn--p1ai", "evil[.]example evil[.]xn--p1ai"),
        ("slack://x javascript://y ftp://z", "slack[:]//x javascript[:]//y ftp[:]//z"),
        ("arn:aws:s3:::files i-0a 198.51.100.7 v1.2", "arn:aws:s3:::files i-0a 198.51.100.7 v1.2"),
    ],
)
def test_text_in_a_chat_is_no_markup_and_no_link(text: str, said: str) -> None:
    assert in_chat(text) == said


FORGED = "x\nHigh: incident 7 closed: benign\r\n- all is well\u2028See it: http://evil.example"


def test_no_text_of_a_log_looks_like_a_line_of_ours() -> None:
    incident = replace(sample(AT).incident, number=1, title=FORGED, techniques=(FORGED,))
    told = Item(incident, "created", FORGED, AT, story=(FORGED, FORGED))
    usual = Item(replace(incident, title="x", techniques=("y",)), "created", "said", AT, story=("a", "b"))
    made, plain = (message("id", [item], at=AT, data={}) for item in (told, usual))
    for name in ("text", "chat", "html"):
        assert len(getattr(made, name).splitlines()) == len(getattr(plain, name).splitlines())
        assert "http://" not in getattr(made, name)
    assert made.subject.startswith("[Informational] Incident 1 created: x High: incident 7")


def test_a_long_text_of_a_log_is_cut() -> None:
    long = "x " * 200_000
    item = Item(replace(sample(AT).incident, title=long), "created", long, AT, story=(long,))
    made = message("id", [item], at=AT, data={})
    assert made.text.count("…") == 3
    assert len(made.text) < 4 * MOST_EACH
    assert filled("{{ a }}{{ a }}", {"a": long}).count("…") == 2


def test_what_a_playbook_says_keeps_the_lines_of_its_author_alone() -> None:
    said = filled("one {{ a }}\ntwo {{ b | join('\\n') }}", {"a": "x\ny", "b": ["c\nd", "e"]})
    assert said.splitlines() == ["one x y", "two c d", "e"]
    made = message("id", [Item(sample(AT).incident, "playbook", said, AT)], at=AT, data={})
    assert set(said.splitlines()) < set(made.chat.splitlines())


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"type": "pigeon"}, "type"),
        ({"type": "email", "host": "h", "from": "a@b.c", "to": ["x\r\nBcc: y@z"]}, "to"),
        ({"type": "email", "from": "a@b.c", "to": ["a@b.c"]}, "host"),
        ({"type": "webhook", "url": "ftp://example.com"}, "url"),
        ({"type": "webhook", "url": "https://example.com", "when": ["sometimes"]}, "when"),
        ({"type": "webhook", "url": "https://example.com", "severity": "Huge"}, "severity"),
        ({"type": "webhook", "url": "https://example.com", "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, object], wrong: str) -> None:
    with pytest.raises(SettingsError, match=rf"notify\.channels\.desk\.{wrong}"):
        channels({"desk": Section(Path("trailhawk.toml"), "notify.channels.desk", values)})


def test_a_test_message_goes_at_once(tmp_path: Path, receiver: Receiver) -> None:
    desk = Desk(tmp_path, channel(by_hook(receiver.url)))
    assert desk.notifier.test("desk", sample(AT)).sent
    assert json.loads(receiver.posted[0][1])["test"] is True
    with pytest.raises(NotFoundError, match="no channel"):
        desk.notifier.test("nobody", sample(AT))
