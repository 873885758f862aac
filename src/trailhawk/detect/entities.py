"""The entities of an alert: what a rule's `entityMappings` make of its result rows.

Sentinel's types are taken as they come; Trailhawk's own are AwsPrincipal (Arn), AwsSession (Id or Arn),
AwsAccessKey (Id), AwsInstance (Id), AwsBucket (Name), AwsObject (Bucket, Key) and AwsAccount (Id). Sentinel
drops accounts with names such as root or administrator; nothing is dropped here, for in AWS root is a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trailhawk.detect.rule import EntityMapping

MAX_ENTITIES = 500

AWS_PRINCIPAL = "AwsPrincipal"
AWS_SESSION = "AwsSession"
AWS_ACCESS_KEY = "AwsAccessKey"
AWS_INSTANCE = "AwsInstance"
AWS_BUCKET = "AwsBucket"
AWS_OBJECT = "AwsObject"
AWS_ACCOUNT = "AwsAccount"
IP = "IP"

_IDENTITIES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    AWS_PRINCIPAL: (("arn",),),
    AWS_SESSION: (("id",), ("arn",)),
    AWS_ACCESS_KEY: (("id",),),
    AWS_INSTANCE: (("id",),),
    AWS_BUCKET: (("name",),),
    AWS_OBJECT: (("bucket", "key"),),
    AWS_ACCOUNT: (("id",),),
}
"""The identifiers that say which thing an entity is: each of the tuples is enough for itself. A type that
is not named here is known by all its identifiers together."""


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """A thing that an alert names: its type, and its identifiers in the order of the mapping."""

    type: str
    identifiers: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """What an analyst calls it: the identifiers joined by `/`."""
        return "/".join(value for _, value in self.identifiers)

    @property
    def value(self) -> str:
        """The first identifier."""
        return self.identifiers[0][1]

    def identifier(self, name: str) -> str:
        """The identifier of this name, empty when the entity has none."""
        return next((value for key, value in self.identifiers if key.lower() == name.lower()), "")


def entity(kind: str, /, **identifiers: str) -> Entity:
    """An entity from keyword arguments, as in `entity(AWS_OBJECT, Bucket="logs", Key="a.gz")`."""
    return Entity(kind, tuple(identifiers.items()))


def entities(
    mappings: Sequence[EntityMapping], rows: Iterable[Mapping[str, object]], columns: Sequence[str] = ()
) -> tuple[Entity, ...]:
    """The distinct entities of these rows, mapping by mapping; a mapping gets an equal share of the limit.

    `columns` hold entities as SecurityAlert has them (`as_json`), in JSON or as its text; each is a mapping.
    """
    rows = list(rows)
    share = MAX_ENTITIES // max(1, len(mappings) + len(columns))
    found: dict[Entity, None] = {}
    for mapping in mappings:
        own = dict.fromkeys(e for row in rows for e in _of_row(mapping, row))
        found |= dict.fromkeys(list(own)[:share])
    for column in columns:
        own = dict.fromkeys(e for row in rows for e in _told(row.get(column)))
        found |= dict.fromkeys(list(own)[:share])
    return distinct(found)


def distinct(found: Iterable[Entity]) -> tuple[Entity, ...]:
    """Each thing once, where it is first named, with every identifier that is known of it.

    So a session that one mapping knows by Id and another by Id and Arn is one entity.
    """
    things: dict[int, Entity] = {}
    places: dict[_Identity, int] = {}
    for place, each in enumerate(found):
        same = sorted({places[identity] for identity in _identities(each) if identity in places})
        whole = _joined([*(things[other] for other in same), each])
        first = same[0] if same else place
        for other in same[1:]:
            del things[other]
        things[first] = whole
        places |= dict.fromkeys([*_identities(whole), *_identities(each)], first)
    return tuple(things.values())


_Identity = tuple[str, tuple[tuple[str, str], ...]]


def _identities(each: Entity) -> list[_Identity]:
    """What the entity is known by; two entities with one of these in common are the same thing."""
    values = {name.lower(): value for name, value in each.identifiers}
    enough = [names for names in _IDENTITIES.get(each.type, ()) if all(name in values for name in names)]
    return [
        (each.type, tuple((name, values[name]) for name in names))
        for names in enough or [tuple(sorted(values))]
    ]


def _joined(parts: Sequence[Entity]) -> Entity:
    """One entity with the identifiers of all parts, those it is known by first."""
    values: dict[str, tuple[str, str]] = {}
    for part in parts:
        for name, value in part.identifiers:
            values.setdefault(name.lower(), (name, value))
    order = [name for names in _IDENTITIES.get(parts[0].type, ()) for name in names if name in values]
    return Entity(parts[0].type, tuple(values[name] for name in dict.fromkeys([*order, *values])))


def _of_row(mapping: EntityMapping, row: Mapping[str, object]) -> Iterable[Entity]:
    """The entities one mapping finds in one row.

    A list gives an entity for each of its values; lists beside each other are read in step, and a single
    value goes with each. An identifier without a value is left out; without any, there is no entity.
    """
    columns = [(field.identifier, _texts(row.get(field.column))) for field in mapping.fields]
    longest = max((len(values) for _, values in columns), default=0)
    for place in range(longest):
        identifiers = tuple(
            (name, value)
            for name, values in columns
            if (value := values[0] if len(values) == 1 else _at(values, place))
        )
        if identifiers:
            yield Entity(mapping.type, identifiers)


def _at(values: Sequence[str], place: int) -> str:
    return values[place] if place < len(values) else ""


def _texts(value: object) -> list[str]:
    """The texts a column holds: none for null, one for a scalar, several for a list."""
    if value is None:
        return []
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, dict):
        return [json.dumps(value, separators=(",", ":"))]
    return [str(value)]


_NAMES_OF_SENTINEL = """
Account AzureResource CloudApplication DNS File FileHash Host IP IoTDevice Mailbox MailCluster MailMessage
Malware Process RegistryKey RegistryValue SecurityGroup SubmissionMail URL
"""
_TYPES = {name.lower(): name for name in (*_IDENTITIES, *_NAMES_OF_SENTINEL.split())}
"""What mappings call types, by how SecurityAlert writes them (`cloud-application`) without dashes."""
TYPES = tuple(_TYPES.values())
IDENTIFIERS: Mapping[str, tuple[str, ...]] = {
    kind: tuple(name.capitalize() for names in ways for name in names) for kind, ways in _IDENTITIES.items()
}
"""The identifiers of our own types."""


def _told(value: object) -> Iterable[Entity]:
    """The entities of a column like SecurityAlert's Entities; what is none there is passed over."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return
    for item in value if isinstance(value, list) else [value]:
        kind = item.get("Type") if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(kind, str):
            continue
        identifiers = tuple(
            (name, text)
            for name, text in item.items()
            if isinstance(text, str) and text and name != "Type" and not name.startswith("$")
        )
        if identifiers:
            yield Entity(_TYPES.get(kind.replace("-", "").lower(), kind), identifiers)


def as_json(found: Iterable[Entity]) -> list[dict[str, str]]:
    """The form of SecurityAlert's column Entities: one object each, its type in lower case."""
    return [
        {"$id": str(number), "Type": each.type.lower()} | dict(each.identifiers)
        for number, each in enumerate(found, start=1)
    ]
