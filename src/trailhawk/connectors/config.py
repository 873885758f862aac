"""`[connectors.NAME]` of a home's settings: which ways in there are, and how each is set up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, Self, cast

from trailhawk.errors import NotFoundError
from trailhawk.words import suggestion

if TYPE_CHECKING:
    from trailhawk.connectors.connector import Connector, Intake
    from trailhawk.settings import Section
    from trailhawk.sources import Source

_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}")
_SESSION: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,253}[a-z0-9]", re.IGNORECASE)
_LOCATION: Final = re.compile(r"s3://(?P<bucket>[^/]+)(?:/(?P<prefix>.*))?", re.DOTALL)


class ConnectorSettings(Protocol):
    """What every connector's settings tell."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def where(self) -> str:
        """Where it brings logs from, for people."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who a connector is to AWS, and where it asks. `duration` of a role's session is in seconds.

    With `role_arn` and `web_identity_token_file` the role is assumed by that token; with `role_arn` alone by
    the credentials of the profile or the machine, with the external id where there is one. `endpoint_url` is
    for stores that speak S3; it is asked for every service.
    """

    region: str = ""
    profile: str = ""
    role_arn: str = ""
    external_id: str = ""
    web_identity_token_file: str = ""
    session_name: str = "trailhawk"
    duration: int = 3600
    endpoint_url: str = ""

    @classmethod
    def read(cls, section: Section) -> Self:
        """The keys of a connector's section that say who it is. SettingsError where they contradict."""
        access = cls(
            region=section.text("region", ""),
            profile=section.text("profile", ""),
            role_arn=section.text("role_arn", ""),
            external_id=section.text("external_id", ""),
            web_identity_token_file=section.text("web_identity_token_file", ""),
            session_name=section.text("session_name", "trailhawk"),
            # A session is renewed a quarter of an hour before its end: a shorter one with each request.
            duration=section.number("session_seconds", 3600, least=1800, most=43_200),
            endpoint_url=section.text("endpoint_url", ""),
        )
        if access.role_arn and not _ROLE.fullmatch(access.role_arn):
            raise section.wrong(
                "role_arn", f"is {access.role_arn!r}", hint="write arn:aws:iam::ACCOUNT:role/NAME"
            )
        if not _SESSION.fullmatch(access.session_name):
            raise section.wrong(
                "session_name", f"is {access.session_name!r}", hint="write 2 to 64 letters, digits or +=,.@-_"
            )
        if access.external_id and not access.role_arn:
            raise section.wrong("external_id", "is given without role_arn", hint="say which role it is for")
        if access.web_identity_token_file and not access.role_arn:
            raise section.wrong(
                "web_identity_token_file", "is given without role_arn", hint="say which role it is for"
            )
        if access.external_id and access.web_identity_token_file:
            raise section.wrong("external_id", "is not used with web_identity_token_file", hint="keep one")
        if access.endpoint_url and not access.endpoint_url.startswith(("http://", "https://")):
            raise section.wrong("endpoint_url", f"is {access.endpoint_url!r}", hint="write https://host:port")
        return access


@dataclass(frozen=True, slots=True)
class Reading:
    """How objects are read: by so many threads at once, up to so many bytes an object."""

    threads: int = 8
    max_object_bytes: int = 4096 * 1024 * 1024

    @classmethod
    def read(cls, section: Section) -> Self:
        return cls(
            threads=section.number("threads", 8, least=1, most=64),
            max_object_bytes=section.number("max_object_mib", 4096, least=1, most=5 * 1024 * 1024) * 1024**2,
        )


@dataclass(frozen=True, slots=True)
class SqsSettings:
    """A queue with notices of new objects.

    Of these only objects in `buckets` whose key begins with one of `prefixes` and ends with `suffix` are
    taken; empty means any. `tries` is how often an object that cannot be had is tried before it is set aside
    (`on_poison`: "set-aside", or "redrive" to leave it to the queue's redrive policy). A batch is stored
    after `flush_seconds` at the latest.
    """

    name: str
    queue_url: str
    access: Access = Access()
    reading: Reading = Reading()
    buckets: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    suffix: str = ""
    source: str = ""
    visibility_seconds: int = 300
    tries: int = 5
    on_poison: str = "set-aside"
    flush_seconds: int = 10
    max_in_flight: int = 1000

    type = "sqs"

    @property
    def where(self) -> str:
        return self.queue_url

    @property
    def picks(self) -> tuple[object, ...]:
        """Which of the objects that the queue tells of are taken, and as what."""
        return frozenset(self.buckets), frozenset(self.prefixes), self.suffix, self.source

    @classmethod
    def read(cls, name: str, section: Section) -> Self:
        queue_url = section.text("queue_url", "")
        if not queue_url.startswith(("http://", "https://")):
            raise section.wrong(
                "queue_url",
                f"is {queue_url!r}",
                hint="write the queue's address, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
            )
        return cls(
            name=name,
            queue_url=queue_url,
            access=Access.read(section),
            reading=Reading.read(section),
            buckets=_buckets(section),
            prefixes=_prefixes(section),
            suffix=section.text("suffix", ""),
            source=section.text("source", ""),
            visibility_seconds=section.number("visibility_seconds", 300, least=1, most=43_200),
            tries=section.number("tries", 5, least=1, most=1000),
            on_poison=_choice(section, "on_poison", ("set-aside", "redrive")),
            flush_seconds=section.number("flush_seconds", 10, most=3600),
            max_in_flight=section.number("max_in_flight", 1000, least=1, most=100_000),
        )


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket, and the beginning of the keys in it that are meant."""

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Buckets whose objects are listed: a backfill, or the way in where there is no queue.

    Every `every_seconds` the days since `recent_days` ago are listed again, every `full_every_seconds` all;
    0 stands for never: then it ends after one pass. `since_days` leaves out objects whose key names an older
    day. `versions` takes versions that were overwritten or deleted, too.
    """

    name: str
    locations: tuple[Location, ...]
    access: Access = Access()
    reading: Reading = Reading()
    suffix: str = ""
    source: str = ""
    since_days: int = 0
    every_seconds: int = 0
    recent_days: int = 3
    full_every_seconds: int = 86_400
    versions: bool = False
    flush_seconds: int = 30

    type = "s3"

    @property
    def where(self) -> str:
        return ", ".join(map(str, self.locations))

    @classmethod
    def read(cls, name: str, section: Section) -> Self:
        locations = section.texts("locations")
        if not locations:
            raise section.wrong("locations", "is missing", hint='write locations = ["s3://BUCKET/PREFIX"]')
        return cls(
            name=name,
            locations=tuple(_location(section, text) for text in locations),
            access=Access.read(section),
            reading=Reading.read(section),
            suffix=section.text("suffix", ""),
            source=section.text("source", ""),
            since_days=section.number("since_days", 0, most=36_500),
            every_seconds=section.number("every_seconds", 0, most=31_536_000),
            recent_days=section.number("recent_days", 3, least=1, most=3650),
            full_every_seconds=section.number("full_every_seconds", 86_400, most=31_536_000),
            versions=section.flag("versions", False),
            flush_seconds=section.number("flush_seconds", 30, most=3600),
        )


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of connector: how its section is read, and the module whose `connector(settings, intake)` makes
    one. The module is loaded when it is needed, and boto3 with it."""

    read: Callable[[str, Section], ConnectorSettings]
    module: str


def _http(name: str, section: Section) -> ConnectorSettings:
    from trailhawk.connectors.http import HttpSettings

    return HttpSettings.read(name, section)


def _folder(name: str, section: Section) -> ConnectorSettings:
    from trailhawk.connectors.watching import FolderSettings

    return FolderSettings.read(name, section)


KINDS: Final[Mapping[str, Kind]] = {
    "folder": Kind(_folder, "trailhawk.connectors.watching"),
    "http": Kind(_http, "trailhawk.connectors.http"),
    "s3": Kind(S3Settings.read, "trailhawk.connectors.s3"),
    "sqs": Kind(SqsSettings.read, "trailhawk.connectors.sqs"),
}
"""The types of connectors; one more is a line here."""


class _Module(Protocol):
    def connector(self, settings: ConnectorSettings, intake: Intake) -> Connector: ...


def connectors(sections: Mapping[str, Section]) -> dict[str, ConnectorSettings]:
    """The connectors of a settings file, from the sections below `[connectors]`. SettingsError if wrong."""
    found = {name: _read(name, section) for name, section in sections.items()}
    queues: dict[str, SqsSettings] = {}
    for name, each in found.items():
        if isinstance(each, SqsSettings):
            first = queues.setdefault(each.queue_url, each)
            if first.picks != each.picks:
                raise sections[name].wrong(
                    "queue_url",
                    f"is the queue of {first.name}, too, with other buckets, prefixes, suffix or source",
                    hint="a message goes to one of them, which deletes what only the other wants: write one"
                    " section for both, or give each a queue",
                )
    return found


def one(found: Mapping[str, ConnectorSettings], name: str, *, sources: Iterable[Source]) -> ConnectorSettings:
    """The connector of this name; NotFoundError if there is none, or none of the sources is the one that it
    names: each message would be received until it is given up."""
    if name not in found:
        none = "trailhawk.toml of the home has none yet, see docs/connectors.md"
        known = f"there is {', '.join(found)}" if found else none
        raise NotFoundError(f"no connector {name!r}", hint=known)
    settings = found[name]
    if isinstance(settings, SqsSettings | S3Settings) and settings.source:
        names = [each.name for each in sources]
        if settings.source not in names:
            hint = suggestion(settings.source, names)
            raise NotFoundError(f"connector {name}: no log source {settings.source!r}", hint=hint)
    return settings


def open_connector(settings: ConnectorSettings, intake: Intake) -> Connector:
    """A connector ready to run."""
    module = cast(_Module, import_module(KINDS[settings.type].module))
    return module.connector(settings, intake)


def _read(name: str, section: Section) -> ConnectorSettings:
    if not _NAME.fullmatch(name):
        raise section.wrong("", "is no name for a connector", hint="letters, digits, - and _, up to 64")
    kind = section.text("type", "")
    if kind not in KINDS:
        raise section.wrong(
            "type", f"is {kind!r}" if kind else "is missing", hint=f"there is {', '.join(KINDS)}"
        )
    settings = KINDS[kind].read(name, section)
    section.end()
    return settings


def _choice(section: Section, key: str, choices: tuple[str, ...]) -> str:
    """One of a few words, the first unless the file says another."""
    word = section.text(key, choices[0])
    if word not in choices:
        raise section.wrong(key, f"is {word!r}", hint=f"write one of {', '.join(choices)}")
    return word


def _buckets(section: Section) -> tuple[str, ...]:
    buckets = section.texts("buckets")
    for bucket in buckets:
        if not _BUCKET.fullmatch(bucket):
            raise section.wrong("buckets", f"has {bucket!r}, which is no name of a bucket")
    return buckets


def _prefixes(section: Section) -> tuple[str, ...]:
    prefixes = section.texts("prefixes")
    for prefix in prefixes:
        if prefix.startswith(("s3://", "arn:")):
            raise section.wrong(
                "prefixes", f"has {prefix!r}", hint="write how keys begin, without their bucket: AWSLogs/"
            )
    return prefixes


def _location(section: Section, text: str) -> Location:
    found = _LOCATION.fullmatch(text)
    if not found or not _BUCKET.fullmatch(found["bucket"]):
        raise section.wrong("locations", f"has {text!r}", hint="write s3://BUCKET or s3://BUCKET/PREFIX")
    return Location(found["bucket"], found["prefix"] or "")
