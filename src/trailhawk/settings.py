"""`trailhawk.toml`, the settings of a home: one value a section, every mistake named by file and key.

A section is a dataclass here with a `read` of its own, a member of `Settings`, and a line in `settings`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from trailhawk.errors import UsageError
from trailhawk.words import suggestion

FILE_NAME = "trailhawk.toml"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # longer than the letter of a drive


class SettingsError(UsageError):
    """A settings file that cannot be meant; the message has file, and key or line."""

    kind = "settings"


class Section:
    """One table of the file while it is read: each key is taken once, what is left over is an error."""

    def __init__(self, file: Path, name: str, values: Mapping[str, object]) -> None:
        self.file = file
        self.name = name
        self._values = dict(values)
        self._known: list[str] = []

    def wrong(self, key: str, what: str, *, hint: str = "") -> SettingsError:
        """The error for a key of this section."""
        path = ".".join(part for part in (self.name, key) if part)
        return SettingsError(f"{self.file}: {path} {what}", hint=hint)

    def text(self, key: str, default: str) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "is a text", hint=f'write {key} = "..."')
        return value

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        value = self._take(key, default)
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise self.wrong(key, "is a list of texts", hint=f'write {key} = ["..."]')
        for item in value:
            if not isinstance(item, str):
                raise self.wrong(key, f"is a list of texts, and {item!r} is none")
        return tuple(value)

    def number(self, key: str, default: int, *, least: int = 0, most: int | None = None) -> int:
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, "is a whole number")
        if value < least or (most is not None and value > most):
            bounds = f"at least {least:,}" if most is None else f"from {least:,} to {most:,}"
            raise self.wrong(key, f"is {value:,}", hint=f"it is {bounds}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "is true or false")
        return value

    def names(self) -> tuple[str, ...]:
        """The keys that nobody took yet, where their names are the user's own."""
        return tuple(self._values)

    def section(self, key: str) -> Section:
        """The table `[name.key]`, an empty one where the file has none."""
        value = self._take(key, {})
        name = f"{self.name}.{key}" if self.name else key
        if not isinstance(value, dict):
            raise self.wrong(key, "is a section", hint=f"write [{name}]")
        return Section(self.file, name, value)

    def sections(self) -> dict[str, Section]:
        """Every table that is left in this one by its name: `[connectors.main]` is `main` of `connectors`."""
        return {key: self.section(key) for key in list(self._values)}

    def end(self) -> None:
        """SettingsError for a key that nobody took."""
        for key in self._values:
            raise self.wrong(key, "is no setting", hint=suggestion(key, self._known))

    def _take(self, key: str, default: object) -> object:
        self._known.append(key)
        return self._values.pop(key, default)


@dataclass(frozen=True, slots=True)
class ExternalDataSettings:
    """`[externaldata]`: what queries may read from outside the lake; nothing unless it is listed.

    `allow` has folders and addresses (`https://host`, with a port and the beginning of a path where wanted).
    A host of a private network is read only where `allow` has its literal address, or with `private_hosts`.
    """

    allow: tuple[str, ...] = ()
    private_hosts: bool = False
    max_mib: int = 100
    timeout_seconds: int = 30
    max_redirects: int = 5

    @classmethod
    def read(cls, section: Section) -> Self:
        read = cls(
            allow=section.texts("allow"),
            private_hosts=section.flag("private_hosts", False),
            max_mib=section.number("max_mib", 100, least=1, most=4096),
            timeout_seconds=section.number("timeout_seconds", 30, least=1, most=600),
            max_redirects=section.number("max_redirects", 5, most=20),
        )
        for place in read.allow:
            if "://" in place and not place.startswith(("https://", "http://")):
                raise section.wrong("allow", f"has '{place}'", hint="write https://host or a folder")
        section.end()
        return read


@dataclass(frozen=True, slots=True)
class LakeSettings:
    """`[lake]`: where the tables lie and how long their rows stay.

    `url` is a folder or `s3://bucket/prefix`; '' is the folder `lake` of the home. `cache_mib` bounds the
    copies of remote files on this machine. `retention_days` counts from the event, 0 keeps rows for ever;
    `[lake.retention]` has tables with a number of their own. `[lake.s3]` has what the object store is told:
    `endpoint_url` and `region`; who we are stands in AWS's environment variables.
    """

    url: str = ""
    cache_mib: int = 4096
    retention_days: int = 0
    retention: Mapping[str, int] = field(default_factory=dict)
    endpoint_url: str = ""
    region: str = ""

    @classmethod
    def read(cls, section: Section) -> Self:
        url = section.text("url", "")
        if _SCHEME.match(url) and not url.startswith("s3://"):
            raise section.wrong("url", f"is '{url}'", hint="write a folder or s3://bucket/prefix")
        days = section.section("retention")
        retention = {key: days.number(key, 0, most=36_500) for key in days.names()}
        if retention.get("IngestLedger"):
            raise days.wrong("IngestLedger", "is not shortened", hint="objects would be taken again")
        s3 = section.section("s3")
        read = cls(
            url=url,
            cache_mib=section.number("cache_mib", 4096, least=64),
            retention_days=section.number("retention_days", 0, most=36_500),
            retention=retention,
            endpoint_url=s3.text("endpoint_url", ""),
            region=s3.text("region", ""),
        )
        for each in (days, s3, section):
            each.end()
        return read


@dataclass(frozen=True, slots=True)
class StateSettings:
    """`[state]`: the database of alerts and incidents.

    `url` is `postgresql://user@host/name`; '' is the file `state.db` of the home. A password is better left
    to the environment variable PGPASSWORD or to libpq's password file.
    """

    url: str = ""

    @classmethod
    def read(cls, section: Section) -> Self:
        read = cls(url=section.text("url", ""))
        if read.url and not read.url.startswith(("postgresql://", "sqlite://")):
            raise section.wrong(
                "url", f"is '{read.url.partition(':')[0]}:...'", hint="write postgresql://..."
            )
        section.end()
        return read


@dataclass(frozen=True, slots=True)
class RunSettings:
    """`[run]`: how often the one process does what, and how long it may take to end.

    All in seconds. `rules`, `compact`, `health`, `notify` and `automation` are waits between two rounds,
    `sweep` that between two rounds of retention and clearing away, `canary` that between two times that every
    rule's canary is sent (0: never). `drain` bounds the end: what is not done by then is left, and is brought
    again at the next start.
    """

    rules_seconds: int = 30
    compact_seconds: int = 15
    health_seconds: int = 60
    sweep_seconds: int = 3600
    canary_seconds: int = 0
    notify_seconds: int = 10
    automation_seconds: int = 10
    drain_seconds: int = 60

    @classmethod
    def read(cls, section: Section) -> Self:
        read = cls(
            rules_seconds=section.number("rules_seconds", 30, least=1, most=86_400),
            compact_seconds=section.number("compact_seconds", 15, least=1, most=86_400),
            health_seconds=section.number("health_seconds", 60, least=1, most=86_400),
            sweep_seconds=section.number("sweep_seconds", 3600, least=1, most=604_800),
            canary_seconds=section.number("canary_seconds", 0, most=2_592_000),
            notify_seconds=section.number("notify_seconds", 10, least=1, most=3600),
            automation_seconds=section.number("automation_seconds", 10, least=1, most=3600),
            drain_seconds=section.number("drain_seconds", 60, least=1, most=3600),
        )
        section.end()
        return read


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a home's settings file says; a section that it has not is at its defaults."""

    externaldata: ExternalDataSettings = field(default_factory=ExternalDataSettings)
    lake: LakeSettings = field(default_factory=LakeSettings)
    state: StateSettings = field(default_factory=StateSettings)
    run: RunSettings = field(default_factory=RunSettings)
    connectors: Mapping[str, Section] = field(default_factory=dict)
    """`[connectors.NAME]` by name, not read yet: their keys depend on the type, see `connectors.config`."""
    notify: Mapping[str, Section] = field(default_factory=dict)
    """`[notify.channels.NAME]` by name, not read yet: see `respond.channel`."""
    respond: Mapping[str, Section] = field(default_factory=dict)
    """`[respond.aws]` by the name aws, not read yet: see `respond.containment`."""


def settings(home: Path) -> Settings:
    """The settings of a home, the defaults where it has no file. SettingsError where the file is wrong."""
    file = home / FILE_NAME
    whole = Section(file, "", _values(file))
    notify, respond = whole.section("notify"), whole.section("respond")
    found = Settings(
        externaldata=ExternalDataSettings.read(whole.section("externaldata")),
        lake=LakeSettings.read(whole.section("lake")),
        state=StateSettings.read(whole.section("state")),
        run=RunSettings.read(whole.section("run")),
        connectors=whole.section("connectors").sections(),
        notify=notify.section("channels").sections(),
        respond={"aws": respond.section("aws")} if "aws" in respond.names() else {},
    )
    notify.end()
    respond.end()
    whole.end()
    return found


def _values(file: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is no TOML: {error}") from None  # it names line and column
