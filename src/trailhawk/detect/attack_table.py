"""MITRE ATT&CK's tactics and techniques in the versions that rules name them by.

The table is `content/attack.yaml`: the matrix for IaaS, and what else our content names. It is no list of all
of ATT&CK, so an id that is not in it may well exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Final

import msgspec
import yaml

from trailhawk.detect.rule import Rule
from trailhawk.errors import RuleError

ICS_TACTICS: Final = ("ImpairProcessControl", "InhibitResponseFunction")
"""Tactics of ATT&CK for ICS that Sentinel takes too."""

_ID = re.compile(r"T\d{4}(?:\.\d{3})?")


@dataclass(frozen=True, slots=True)
class Tactic:
    """A column of the matrix in the versions [since, until]; `name` is Sentinel's (`InitialAccess`)."""

    id: str
    title: str
    since: int
    until: int

    @property
    def name(self) -> str:
        return _joined(self.title)

    @property
    def short(self) -> str:
        """ATT&CK's own short name, as in `initial-access`."""
        return self.title.lower().replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Technique:
    """A technique or sub-technique in the versions [since, until].

    `tactics` are names of tactics (`InitialAccess`) by version. `now` is the id that stands for it in later
    versions and `was` the one in earlier ones, '' where it has its own. `parent` is '' for a technique.
    """

    id: str
    title: str
    parent: str
    tactics: Mapping[int, tuple[str, ...]]
    is_iaas: bool
    since: int
    until: int
    now: str
    was: str


@dataclass(frozen=True)
class AttackTable:
    """The tactics in the matrix' order, and the techniques by id."""

    versions: tuple[int, ...]
    all_tactics: tuple[Tactic, ...]
    techniques: Mapping[str, Technique]

    @cached_property
    def tactic_names(self) -> Mapping[str, str]:
        """What Sentinel calls the tactics of all versions, each by its name in lower case."""
        names = (*(tactic.name for tactic in self.all_tactics), *ICS_TACTICS)
        return {name.lower(): name for name in names}

    @property
    def newest(self) -> int:
        return self.versions[-1]

    def tactics(self, version: int) -> tuple[Tactic, ...]:
        """The tactics of this version in the matrix' order."""
        return tuple(tactic for tactic in self.all_tactics if tactic.since <= version <= tactic.until)

    def matrix(self, version: int) -> tuple[Technique, ...]:
        """The techniques of the matrix for IaaS in this version, by id."""
        return tuple(
            each for each in self.techniques.values() if each.is_iaas and each.since <= version <= each.until
        )

    def name(self, number: str) -> str:
        """`Valid Accounts: Cloud Accounts`, '' for an id that is not in the table."""
        found = self.techniques.get(number)
        if found is None:
            return ""
        parent = self.techniques.get(found.parent)
        return f"{parent.title}: {found.title}" if parent else found.title

    def translated(self, number: str, version: int) -> str:
        """The id that stands in this version for an id of any; one that is not in the table stays."""
        found = self.techniques.get(number)
        for _ in self.versions:
            if found is None or found.since <= version <= found.until:
                break
            number = found.now if version > found.until else found.was
            found = self.techniques.get(number)
        return number

    def named(self, numbers: Iterable[str], version: int) -> tuple[str, ...]:
        """These ids in this version, each once."""
        return tuple(dict.fromkeys(self.translated(number, version) for number in numbers))

    def complaints(self, rule: Rule) -> Iterator[tuple[str, str]]:
        """Members of a rule with what is wrong: tactics that no version has, ids of no technique."""
        known = set(self.tactic_names.values())
        for tactic in rule.tactics:
            if tactic not in known:
                yield "tactics", f"'{tactic}' is no tactic of ATT&CK"
        for number in rule.techniques:
            if not _ID.fullmatch(number):
                yield "relevantTechniques", f"'{number}' is no id of a technique; write T1078 or T1078.004"


# --- the file ----------------------------------------------------------------------------------------------


class _Tactic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    name: str
    since: int = 0
    until: int = 0


class _Technique(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    tactics: list[str]
    v18: list[str] | None = None
    iaas: bool = False
    since: int = 0
    until: int = 0
    now: str = ""
    was: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    versions: list[int]
    tactics: list[_Tactic]
    techniques: dict[str, _Technique]


@cache
def attack_table() -> AttackTable:
    """The table that comes with the package."""
    return parse_attack_table((files("trailhawk") / "content" / "attack.yaml").read_bytes())


def parse_attack_table(text: bytes) -> AttackTable:
    """The table in this YAML; RuleError where a technique names a tactic or technique that is not there."""
    try:
        file = msgspec.convert(yaml.load(text, Loader=yaml.CSafeLoader), _File)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise RuleError(f"the table of ATT&CK is wrong: {' '.join(str(error).split())}") from None
    versions = tuple(sorted(file.versions))
    tactics = tuple(
        Tactic(each.id, each.name, each.since or versions[0], each.until or versions[-1])
        for each in file.tactics
    )
    techniques = {number: _technique(number, each, versions) for number, each in file.techniques.items()}
    for number, each in techniques.items():
        for other in filter(None, (each.parent, each.now, each.was)):
            if other not in techniques:
                raise RuleError(f"the table of ATT&CK has no {other}, which {number} names")
        for version, names in each.tactics.items():
            wrong = set(names) - {
                tactic.name for tactic in tactics if tactic.since <= version <= tactic.until
            }
            if wrong:
                raise RuleError(f"ATT&CK {version} has no tactic {min(wrong)}, which {number} names")
    return AttackTable(versions, tactics, techniques)


def _technique(number: str, each: _Technique, versions: tuple[int, ...]) -> Technique:
    since, until = each.since or versions[0], each.until or versions[-1]
    own = tuple(map(_joined, each.tactics))
    by_version = {version: own for version in versions if since <= version <= until}
    if each.v18 is not None:
        by_version[18] = tuple(map(_joined, each.v18))
    return Technique(
        id=number,
        title=each.name,
        parent=number.partition(".")[0] if "." in number else "",
        tactics=by_version,
        is_iaas=each.iaas,
        since=since,
        until=until,
        now=each.now,
        was=each.was,
    )


def _joined(title: str) -> str:
    """`Command and Control` as Sentinel writes it: CommandAndControl."""
    return "".join(word[:1].upper() + word[1:] for word in title.split())
