"""Apprise in a process of its own, `python -m trailhawk.respond.carrier`: it can be ended when it takes too
long, and what it may reach is decided where Python connects.

Services follow redirects and look names up again as they like. Here no redirect is followed, and each
connection, whoever makes it and in whatever thread, is looked at with the address that it really goes to: one
of a private network is refused unless the channel allows it. A name cannot lead elsewhere in between.

It reads one JSON object, `Asked`, and writes one, `Answered`.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Any, Final

import msgspec

from trailhawk.engine.dial import is_public

_EVENTS: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
MOST_SAID: Final = 20


class Asked(msgspec.Struct, frozen=True):
    """A text for a service, by its address in Apprise's form."""

    url: str
    text: str
    private_addresses: bool


class Answered(msgspec.Struct):
    """What came of it. `said` are Apprise's warnings, `refused` the private addresses that were not reached,
    `status` and `retry_after` those of the last answer over HTTP."""

    is_known: bool = False
    services: int = 0
    went: bool = False
    said: list[str] = []
    refused: list[str] = []
    status: int = 0
    retry_after: str = ""


class RefusedError(OSError):
    """A connection to an address that the channel does not allow."""


def guard(answered: Answered) -> None:
    """From now on this process connects to public addresses alone. It cannot be taken back."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or arguments[1] is None:
            return
        where = arguments[1][0] if isinstance(arguments[1], tuple) else arguments[1]
        if not _is_public(where):
            if len(answered.refused) < MOST_SAID and str(where) not in answered.refused:
                answered.refused.append(str(where))
            raise RefusedError(f"{where} is no public address")

    sys.addaudithook(look)


def _is_public(where: object) -> bool:
    """A file, or a name that something below Python would look up, is none."""
    try:
        return is_public(str(where))
    except ValueError:
        return False


def follow_no_redirects(answered: Answered) -> None:
    """requests, which all services of Apprise use for HTTP, takes a redirect for the answer that it is."""
    sessions = import_module("requests.sessions")
    send = sessions.Session.send

    def kept(self: object, request: object, **more: object) -> object:
        answer = send(self, request, **more)
        answered.status = int(answer.status_code)
        answered.retry_after = str(answer.headers.get("Retry-After", ""))[:100]
        return answer

    sessions.Session.send = kept
    sessions.Session.get_redirect_target = lambda _self, _answer: None


def carry(asked: Asked) -> Answered:
    """Send a text; the whole of this process is bound by what may be reached."""
    import apprise

    answered = Answered()
    follow_no_redirects(answered)
    if not asked.private_addresses:
        guard(answered)
    asset = apprise.AppriseAsset(app_id="Trailhawk", secure_logging=True)
    service = apprise.Apprise(asset=asset)
    ear = _Ear(answered.said)
    logging.getLogger("apprise").addHandler(ear)
    answered.is_known = bool(service.add(asked.url))
    answered.services = len(service)
    if answered.services == 1:
        for one in service:
            if "overflow" not in asked.url:
                # One message is one: parts of it could arrive without the others, and again with them.
                one.overflow_mode = apprise.OverflowMode.TRUNCATE
        answered.went = bool(service.notify(title="", body=asked.text, body_format=apprise.NotifyFormat.TEXT))
    return answered


class _Ear(logging.Handler):
    """Keeps the first warnings."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._said) < MOST_SAID:
            self._said.append(record.getMessage()[:500])


def main() -> None:
    out, sys.stdout = sys.stdout, sys.stderr  # a service that prints does not spoil the answer
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    out.buffer.write(msgspec.json.encode(carry(asked)))
    out.flush()


if __name__ == "__main__":
    main()
