"""How a message goes out: mail, signed webhook, Apprise. Each either went, or says why not and what next.

What the other side or a library says is kept in the log of deliveries: secrets of the channel, and the parts
of its address that may be some, are taken out of it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parsedate_to_datetime
from typing import BinaryIO, Final
from urllib.parse import unquote, urlsplit

import msgspec

from trailhawk.engine.dial import Pinned, addresses, is_public
from trailhawk.respond.carrier import Answered, Asked
from trailhawk.respond.channel import Apprise, Email, Way, Webhook
from trailhawk.respond.message import Message, one_line

SECONDS: Final = 30.0
"""How long one try may take."""
MOST_SAID: Final = 1 << 18
"""Bytes that a mail server says in one conversation."""
LONGEST_HOLD: Final = timedelta(days=1)
"""For how long a receiver can ask to be left alone."""
_TRANSIENT = frozenset({408, 425, 429})
_ASKS_TO_WAIT = frozenset({429, 503})


class NotSentError(Exception):
    """Why a message did not go out. `again`: trying later may help. `perhaps`: it may have arrived all the
    same, since the other side did not answer in time. `hold`: for how long the receiver wants nothing."""

    def __init__(
        self, reason: str, *, again: bool, perhaps: bool = False, hold: timedelta = timedelta()
    ) -> None:
        super().__init__(reason)
        self.again = again
        self.perhaps = perhaps
        self.hold = hold


def send(way: Way, message: Message, environment: Mapping[str, str], *, now: datetime) -> str:
    """Send a message at `now`; what the other side said to it. NotSentError where it did not go out."""
    hidden = secrets(way, environment)
    try:
        return _without(hidden, _sent(way, message, environment, now))
    except NotSentError as error:
        said = _without(hidden, str(error))
        raise NotSentError(said, again=error.again, perhaps=error.perhaps, hold=error.hold) from None


def _sent(way: Way, message: Message, environment: Mapping[str, str], now: datetime) -> str:
    match way:
        case Email():
            return _mail(way, message, environment)
        case Webhook():
            return _post(way, message, environment, now)
        case Apprise():
            return _apprise(way, message, environment, now)


def _secret(name: str, environment: Mapping[str, str]) -> str:
    """The value of a variable; an empty one is none: what is to be signed does not go out without."""
    if name and not environment.get(name):
        raise NotSentError(f"the environment variable {name} is not set", again=True)
    return environment[name] if name else ""


_HOST = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}|[\d.]+|localhost")


def secrets(way: Way, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What no log is to have of a channel, the longest first: in the address of a chat or a webhook a part of
    the path often is a secret. Its host is none."""
    if isinstance(way, Email):
        password = environment.get(way.password_env, "")
        plain = f"\0{way.user}\0{password}"
        found = [
            password,
            *(base64.b64encode(each.encode()).decode() for each in (password, plain) if password),
        ]
    else:
        url = environment.get(way.url_env, "") or way.url
        parts = [each for each in re.split(r"[/?&=@:#]+", url)[1:] if not _HOST.fullmatch(each)]
        found = [url, url.partition("://")[2].partition("/")[2], *parts, *map(unquote, parts)]
        if isinstance(way, Webhook):
            found.append(environment.get(way.secret_env, ""))
    return tuple(sorted({each for each in found if len(each) >= 6}, key=len, reverse=True))


def _without(hidden: Sequence[str], text: str) -> str:
    for each in hidden:
        text = text.replace(each, "***")
    return text


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
    try:
        made = mail(way, message)
        with _Server(way) as server:
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
    except ValueError:  # smtplib knows ASCII alone; its words would name characters of the password
        raise NotSentError("the host, the user or the password is no ASCII text", again=False) from None
    without = f"; refused for {', '.join(refused)}" if refused else ""
    return said + without


class _Server(smtplib.SMTP):
    """A conversation with a mail server: `SECONDS` long from its first byte on, however often the other side
    says something, and with `MOST_SAID` bytes of what it says."""

    def __init__(self, way: Email) -> None:
        self._first_byte = ssl.create_default_context() if way.tls == "tls" else None
        self._line: socket.socket | None = None
        self._deadline = time.monotonic() + SECONDS
        self._watch = threading.Timer(SECONDS, self._cut)
        self._watch.daemon = True
        self._watch.start()
        try:
            super().__init__(way.host, way.port, timeout=SECONDS)
        except BaseException:
            self.close()
            raise

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        made = socket.create_connection((host, port), timeout)
        if time.monotonic() > self._deadline:
            made.close()
            raise TimeoutError("timed out")
        self._line = made.dup()  # whatever is wrapped around the other
        return self._first_byte.wrap_socket(made, server_hostname=host) if self._first_byte else made

    def _cut(self) -> None:
        if self._line is not None:
            with suppress(OSError):  # it may have ended by itself
                self._line.shutdown(socket.SHUT_RDWR)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Bounded(self.sock.makefile("rb"))
        return super().getreply()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._watch.cancel()
            if self._line is not None:
                self._line.close()


class _Bounded:
    """What a mail server says, so much of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = MOST_SAID

    def readline(self, most: int) -> bytes:
        line = self._file.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise OSError("the server says too much")
        return line

    def close(self) -> None:
        self._file.close()


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
    if secret.startswith("whsec_"):
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    else:
        key = secret.encode()
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
    status, said, retry_after = _posted(way, url, headers, body)
    if 200 <= status < 300:
        return f"{status}"
    if 300 <= status < 400:
        raise NotSentError(f"status {status}: redirects are not followed", again=False)
    raise NotSentError(
        one_line(f"status {status}: {said}")[:500],
        again=status >= 500 or status in _TRANSIENT,
        hold=_hold(status, retry_after, now),
    )


def _hold(status: int, retry_after: str, now: datetime) -> timedelta:
    """For how long a receiver wants nothing, by Retry-After (RFC 9110, 10.2.3): seconds or a date."""
    if status not in _ASKS_TO_WAIT:
        return timedelta()
    if re.fullmatch(r"\d{1,9}", retry_after.strip()):
        asked = timedelta(seconds=int(retry_after))
    else:
        try:
            until = parsedate_to_datetime(retry_after)
        except ValueError:
            return timedelta()
        asked = (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
    return min(max(asked, timedelta()), LONGEST_HOLD)


def _posted(way: Webhook, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str, str]:
    """Status, the beginning of the answer's text, and its Retry-After."""
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
    given = dict(headers)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        given["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    connection = _dialled(parts.scheme, host, port, list(dict.fromkeys(found)), deadline)
    watch = threading.Timer(deadline - time.monotonic(), connection.cut)
    watch.daemon = True
    watch.start()
    sent = False
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body=body, headers=given)
        sent = True
        with connection.getresponse() as response:
            text = response.read(2_000).decode("utf-8", "replace")
            return response.status, text, response.headers.get("Retry-After", "")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = f"{host}: {error or type(error).__name__}"
        raise NotSentError(reason, again=True, perhaps=sent) from None
    finally:
        watch.cancel()
        connection.close()


def _dialled(scheme: str, host: str, port: int, found: Sequence[str], deadline: float) -> Pinned:
    """A connection to the first of the addresses that answers; each has its share of the time."""
    last: Exception = TimeoutError("timed out")
    for place, address in enumerate(found):
        share = max(deadline - time.monotonic(), 0) / (len(found) - place)
        connection = Pinned(scheme, host, port, address, time.monotonic() + share)
        watch = threading.Timer(share, connection.cut)
        watch.daemon = True
        watch.start()
        try:
            connection.connect()
        except (OSError, ValueError) as error:
            connection.close()
            last = error
        else:
            connection.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            return connection
        finally:
            watch.cancel()
    raise NotSentError(f"{host}: {last or type(last).__name__}", again=True)


# --- everything else ---------------------------------------------------------------------------------------


def _apprise(way: Apprise, message: Message, environment: Mapping[str, str], now: datetime) -> str:
    url = _secret(way.url_env, environment) or way.url
    asked = Asked(url=url, text=message.chat, private_addresses=way.private_addresses)
    answered = _carried(asked)
    if not answered.is_known:
        raise NotSentError("Apprise does not know this address", again=False)
    if answered.services != 1:
        # One that fails would have the others get it again with each try.
        raise NotSentError(f"{answered.services} addresses: a channel has one", again=False)
    if answered.went:
        return "sent"
    if answered.refused:
        where = ", ".join(answered.refused)
        raise NotSentError(f"{where} is in a private network: set private_addresses", again=False)
    if 300 <= answered.status < 400:
        raise NotSentError(f"status {answered.status}: redirects are not followed", again=False)
    # Apprise says the same of a host that was not reached and of one that did not answer in time.
    perhaps = any("connection error" in each.lower() for each in answered.said)
    reason = one_line("; ".join(answered.said))[:500] or "Apprise could not send it"
    hold = _hold(answered.status, answered.retry_after, now)
    raise NotSentError(reason, again=True, perhaps=perhaps, hold=hold)


def _carried(asked: Asked) -> Answered:
    # -P: what lies in the folder that we were started in is not taken for a module.
    command = [sys.executable, "-P", "-m", "trailhawk.respond.carrier"]
    known = os.environ | {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    try:
        done = subprocess.run(
            command, input=msgspec.json.encode(asked), capture_output=True, timeout=SECONDS, env=known
        )
    except subprocess.TimeoutExpired:
        reason = f"Apprise did not come to an end in {SECONDS:g} seconds"
        raise NotSentError(reason, again=True, perhaps=True) from None
    except OSError as error:
        raise NotSentError(f"Apprise could not be started: {error}", again=True) from None
    try:
        return msgspec.json.decode(done.stdout, type=Answered)
    except msgspec.DecodeError:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        reason = one_line(f"Apprise ended with {done.returncode}: {last}")[:500]
        raise NotSentError(reason, again=True, perhaps=True) from None
