"""Channels, `[notify.channels.NAME]` of the settings: where messages go, and about what.

    [notify.channels.desk]
    type = "email"                      # email, webhook or apprise
    host = "smtp.example.com"
    from = "trailhawk@example.com"
    to = ["soc@example.com"]
    when = ["created", "severity raised"]
    severity = "Medium"

Secrets are named, not written: `password_env`, `secret_env` and `url_env` name environment variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from trailhawk.detect.rule import Severity
from trailhawk.incidents.change import Change, ChangeKind
from trailhawk.settings import Section

MOST_HOURLY: Final = 100
"""Messages within an hour to one channel, unless told: nobody reads more, and services refuse them."""


class When(Enum):
    """What a channel can be told of."""

    CREATED = "created"
    SEVERITY_RAISED = "severity raised"
    ALERTS_ADDED = "alerts added"
    REOPENED = "reopened"
    CLOSED = "closed"
    ASSIGNED = "assigned"
    COMMENTED = "commented"


USUAL = (When.CREATED, When.SEVERITY_RAISED, When.REOPENED)


@dataclass(frozen=True, slots=True)
class Email:
    """Mail through an SMTP server. `tls` is `starttls`, `tls` from the first byte, or `none`."""

    host: str
    port: int
    tls: str
    sender: str
    to: tuple[str, ...]
    user: str
    password_env: str


@dataclass(frozen=True, slots=True)
class Webhook:
    """A POST of JSON, signed as standardwebhooks.com has it where there is a secret. A host in a private
    network is reached only where `private_addresses` says so; redirects are never followed."""

    url: str
    url_env: str
    secret_env: str
    private_addresses: bool


@dataclass(frozen=True, slots=True)
class Apprise:
    """Any service that Apprise knows (Slack, Teams, PagerDuty, SNS ...), by its address in Apprise's form.
    For private networks and redirects the same holds as for a webhook."""

    url: str
    url_env: str
    private_addresses: bool


Way = Email | Webhook | Apprise


@dataclass(frozen=True, slots=True)
class Channel:
    """Where, about what, from which severity on; with `digest_hours` one message for all of so many hours.
    After `most_hourly` messages within an hour (0: no bound) what waits goes together in the next one."""

    name: str
    way: Way
    when: tuple[When, ...]
    severity: Severity
    digest_hours: int
    most_hourly: int = 0

    def wants(self, change: Change) -> When | None:
        """What this change is to the channel; None where it is not to be told."""
        if change.after.severity.rank < self.severity.rank:
            return None
        return next((each for each in occasions(change) if each in self.when), None)


def occasions(change: Change) -> tuple[When, ...]:
    """What a change is, the weightiest first. One that was merged away is told by the incident it went to."""
    before, after, fields = change.before, change.after, change.fields
    if change.kind is ChangeKind.MERGED_AWAY:
        return ()
    if before is None:
        return (When.CREATED,)
    found: list[When] = []
    if after.severity.rank > before.severity.rank:
        found.append(When.SEVERITY_RAISED)
    if change.kind is ChangeKind.REOPENED:
        found.append(When.REOPENED)
    if change.kind is ChangeKind.CLOSED:
        found.append(When.CLOSED)
    if "owner" in fields and after.owner:
        found.append(When.ASSIGNED)
    if change.kind is ChangeKind.COMMENTED:
        found.append(When.COMMENTED)
    if change.alerts_added:
        found.append(When.ALERTS_ADDED)
    return tuple(found)


def channels(sections: Mapping[str, Section]) -> tuple[Channel, ...]:
    """The channels of a settings file; SettingsError where one is wrong."""
    return tuple(_channel(name, section) for name, section in sections.items())


def _channel(name: str, section: Section) -> Channel:
    kind = section.text("type", "")
    read = _READERS.get(kind)
    if read is None:
        raise section.wrong("type", f"is '{kind}'", hint="write email, webhook or apprise")
    names = {each.value: each for each in When}
    asked = section.texts("when", tuple(each.value for each in USUAL))
    for each in asked:
        if each not in names:
            raise section.wrong("when", f"has '{each}'", hint=f"there is {', '.join(names)}")
    severity = Severity.named(section.text("severity", "Medium"))
    if severity is None:
        raise section.wrong("severity", "is none", hint="write High, Medium, Low or Informational")
    channel = Channel(
        name=name,
        way=read(section),
        when=tuple(names[each] for each in asked),
        severity=severity,
        digest_hours=section.number("digest_hours", 0, most=24 * 31),
        most_hourly=section.number("most_hourly", MOST_HOURLY, most=10_000),
    )
    section.end()
    return channel


_TLS = {"starttls": 587, "tls": 465, "none": 25}


def _email(section: Section) -> Email:
    host, sender, to = section.text("host", ""), section.text("from", ""), section.texts("to")
    tls = section.text("tls", "starttls")
    if not host:
        raise section.wrong("host", "is missing", hint="the name of the SMTP server")
    if tls not in _TLS:
        raise section.wrong("tls", f"is '{tls}'", hint=f"write {', '.join(_TLS)}")
    for key, addresses in (("from", (sender,)), ("to", to or ("",))):
        for address in addresses:
            if not _is_mail_address(address):
                raise section.wrong(key, f"has '{address}'", hint="write name@example.com")
    return Email(
        host=host,
        port=section.number("port", _TLS[tls], least=1, most=65_535),
        tls=tls,
        sender=sender,
        to=to,
        user=section.text("user", ""),
        password_env=section.text("password_env", ""),
    )


def _is_mail_address(text: str) -> bool:
    name, at, host = text.rpartition("@")
    return bool(name and at and host) and text.isascii() and not any(c.isspace() or c in "<>,;" for c in text)


def _webhook(section: Section) -> Webhook:
    way = Webhook(
        url=section.text("url", ""),
        url_env=section.text("url_env", ""),
        secret_env=section.text("secret_env", ""),
        private_addresses=section.flag("private_addresses", False),
    )
    if not way.url_env and not way.url.startswith(("https://", "http://")):
        # Not what it is: it may be a secret.
        raise section.wrong("url", "is no http or https address", hint="write https://..., or url_env")
    return way


def _apprise(section: Section) -> Apprise:
    way = Apprise(
        url=section.text("url", ""),
        url_env=section.text("url_env", ""),
        private_addresses=section.flag("private_addresses", False),
    )
    if not way.url and not way.url_env:
        raise section.wrong("url", "is missing", hint='url_env = "NAME" keeps it out of this file')
    return way


_READERS: Mapping[str, Callable[[Section], Way]] = {"email": _email, "webhook": _webhook, "apprise": _apprise}
