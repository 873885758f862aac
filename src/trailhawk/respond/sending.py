"""How a message goes out: mail, signed webhook, Apprise. Each either went, or says why not and what next."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import logging
import smtplib
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final
from urllib.parse import urlsplit

from trailhawk.engine.dial import Pinned, addresses, is_public
from trailhawk.respond.channel import Apprise, Email, Way, Webhook
from trailhawk.respond.message import Message, one_line

SECONDS: Final = 30.0
"""How long one try may take."""
_TRANSIENT = frozenset({408, 425, 429})


class NotSentError(Exception):
    """Why a message did not go out. `again`: trying later may help. `perhaps`: it may have arrived all the
    same, since the other side did not answer in time."""

    def __init__(self, reason: str, *, again: bool, perhaps: bool = False) -> None:
        super().__init__(reason)
        self.again = again
        self.perhaps = perhaps


def send(way: Way, message: Message, environment: Mapping[str, str], *, now: datetime) -> str:
    """Send a message at `now`; what the other side said to it. NotSentError where it did not go out."""
    match way:
        case Email():
            return _mail(way, message, environment)
        case Webhook():
            return _post(way, message, environment, now)
        case Apprise():
            return _apprise(way, message, environment)


def _secret(name: str, environment: Mapping[str, str]) -> str:
    if name and name not in environment:
        raise NotSentError(f"the environment variable {name} is not set", again=True)
    return environment[name] if name else ""


# --- mail --------------------------------------------------------------------------------------------------


def mail(way: Email, message: Message) -> EmailMessage:
    """The mail as it goes out. Its Message-ID is that of the delivery: a second copy can be told as one."""
    # In seven bits: a server that does not say 8BITMIME need not take more (RFC 6152).
    made = EmailMessage(policy=SMTP.clone(max_line_length=200, cte_type="7bit"))
    made["From"] = way.sender
    made["To"] = ", ".join(way.to)
    made["Subject"] = one_line(message.subject)
    made["Date"] = format_datetime(message.at)
    host = way.sender.rpartition("@")[2]
    made["Message-ID"] = f"<{message.id}@{host}>"
    if message.thread:
        made["References"] = f"<{message.thread}@{host}>"
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(message.text)
    made.add_alternative(message.html, subtype="html")
    return made


def _mail(way: Email, message: Message, environment: Mapping[str, str]) -> str:
    password = _secret(way.password_env, environment)
    made = mail(way, message)
    try:
        with _connected(way) as server:
            if way.tls == "starttls":
                server.starttls(context=ssl.create_default_context())
            server.ehlo_or_helo_if_needed()
            if way.user:
                server.login(way.user, password)
            _answer(server.mail(way.sender))
            refused = {to: reply for to in way.to if (reply := server.rcpt(to))[0] not in (250, 251)}
            if len(refused) == len(way.to):
                _answer(next(iter(refused.values())))
            said = _data(server, made.as_bytes())
            with suppress(smtplib.SMTPException, OSError):  # it has it already
                server.quit()
    except NotSentError:
        raise
    except smtplib.SMTPResponseException as error:
        raise NotSentError(_reply(error.smtp_code, error.smtp_error), again=error.smtp_code < 500) from None
    except (smtplib.SMTPException, OSError) as error:
        raise NotSentError(f"{way.host}: {error or type(error).__name__}", again=True) from None
    without = f"; refused for {', '.join(refused)}" if refused else ""
    return said + without


def _connected(way: Email) -> smtplib.SMTP:
    if way.tls == "tls":
        return smtplib.SMTP_SSL(way.host, way.port, timeout=SECONDS, context=ssl.create_default_context())
    return smtplib.SMTP(way.host, way.port, timeout=SECONDS)


def _answer(reply: tuple[int, bytes]) -> None:
    if reply[0] not in (250, 251):
        raise smtplib.SMTPResponseException(*reply)


def _data(server: smtplib.SMTP, content: bytes) -> str:
    try:
        code, said = server.data(content)
    except smtplib.SMTPDataError:
        raise
    except (smtplib.SMTPException, OSError) as error:
        reason = f"the server did not say whether it has it: {error or type(error).__name__}"
        raise NotSentError(reason, again=True, perhaps=True) from None
    _answer((code, said))
    return _reply(code, said)


def _reply(code: int, said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return one_line(f"{code} {text}")[:500]


# --- webhook -----------------------------------------------------------------------------------------------


def signature(secret: str, delivery: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, as standardwebhooks.com has it.

    A secret that begins with `whsec_` is base64 of the key, any other is the key itself.
    """
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    signed = f"{delivery}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def _post(way: Webhook, message: Message, environment: Mapping[str, str], now: datetime) -> str:
    url = _secret(way.url_env, environment) or way.url
    secret = _secret(way.secret_env, environment)
    body = json.dumps(message.data, ensure_ascii=True, separators=(",", ":")).encode()
    timestamp = int(now.timestamp())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "trailhawk",
        "webhook-id": message.id,
        "webhook-timestamp": str(timestamp),
    }
    if secret:
        try:
            headers["webhook-signature"] = signature(secret, message.id, timestamp, body)
        except ValueError:
            raise NotSentError(f"{way.secret_env} is no base64 behind whsec_", again=False) from None
    status, said = _posted(way, url, headers, body)
    if 200 <= status < 300:
        return f"{status}"
    if 300 <= status < 400:
        raise NotSentError(f"status {status}: redirects are not followed", again=False)
    raise NotSentError(
        one_line(f"status {status}: {said}")[:500], again=status >= 500 or status in _TRANSIENT
    )


def _posted(way: Webhook, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or {"https": 443, "http": 80}[parts.scheme]
    except (ValueError, KeyError):
        host, port = None, 0
    if not host:
        raise NotSentError("the address is no http or https address", again=False)
    deadline = time.monotonic() + SECONDS
    try:
        found = addresses(host, port)
    except OSError as error:
        raise NotSentError(f"{host}: {error.strerror or error}", again=True) from None
    if not way.private_addresses and not all(map(is_public, found)):
        raise NotSentError(f"{host} is in a private network: set private_addresses", again=False)
    connection = Pinned(parts.scheme, host, port, found[0], deadline)
    watch = threading.Timer(SECONDS, connection.cut)
    watch.daemon = True
    watch.start()
    sent = False
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.connect()
        connection.request("POST", target, body=body, headers=dict(headers))
        sent = True
        with connection.getresponse() as response:
            return response.status, response.read(2_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = f"{host}: {error or type(error).__name__}"
        raise NotSentError(reason, again=True, perhaps=sent) from None
    finally:
        watch.cancel()
        connection.close()


# --- everything else ---------------------------------------------------------------------------------------


def _apprise(way: Apprise, message: Message, environment: Mapping[str, str]) -> str:
    import apprise

    url = _secret(way.url_env, environment) or way.url
    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Trailhawk", secure_logging=True))
    if not service.add(url):
        raise NotSentError("Apprise does not know this address", again=False)
    with _heard("apprise") as heard:
        went = service.notify(title="", body=message.chat, body_format=apprise.NotifyFormat.TEXT)
    if not went:
        # Apprise says the same of a host that was not reached and of one that did not answer in time.
        perhaps = any("connection error" in each.lower() for each in heard)
        reason = "; ".join(heard)[:500] or "Apprise could not send it"
        raise NotSentError(reason, again=True, perhaps=perhaps)
    return "sent"


@contextmanager
def _heard(name: str) -> Iterator[list[str]]:
    """The warnings that a logger is given meanwhile, each as one line."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(one_line(record.getMessage()))

    ear = Ear(logging.WARNING)
    logging.getLogger(name).addHandler(ear)
    try:
        yield said
    finally:
        logging.getLogger(name).removeHandler(ear)
