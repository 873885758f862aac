"""Incidents that have something in common with one, and what it is.

What few incidents share says more than what many do: the weight of a thing falls with the number of incidents
that have it. An account alone makes no incident similar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log10
from typing import Final

import sqlalchemy as sa

from trailhawk.detect.entities import (
    AWS_ACCESS_KEY,
    AWS_ACCOUNT,
    AWS_BUCKET,
    AWS_INSTANCE,
    AWS_OBJECT,
    AWS_PRINCIPAL,
    AWS_SESSION,
    IP,
)
from trailhawk.incidents import log
from trailhawk.incidents.incident import Incident

MOST: Final = 20

_WEIGHTS: Final[Mapping[str, float]] = {
    AWS_SESSION: 10,
    AWS_ACCESS_KEY: 10,
    AWS_PRINCIPAL: 6,
    AWS_INSTANCE: 6,
    IP: 5,
    AWS_BUCKET: 3,
    AWS_OBJECT: 3,
    log.RULE: 3,
    log.LABEL: 2,
    AWS_ACCOUNT: 0.5,
}
_OTHER_TYPES: Final = 4.0
_LEAST: Final = 0.6
"""More than an account weighs."""

_WORDS: Final[Mapping[str, str]] = {
    AWS_SESSION: "session",
    AWS_ACCESS_KEY: "access key",
    AWS_PRINCIPAL: "principal",
    AWS_INSTANCE: "instance",
    IP: "address",
    AWS_BUCKET: "bucket",
    AWS_OBJECT: "object",
    AWS_ACCOUNT: "account",
}


@dataclass(frozen=True, slots=True)
class Similar:
    """Another incident, how much it has in common, and what: the weightiest first, each as words."""

    incident: Incident
    score: float
    reasons: tuple[str, ...]


def similar(connection: sa.Connection, incident: Incident, *, most: int = MOST) -> tuple[Similar, ...]:
    """The incidents that have most in common with this one."""
    things = {(log.key(kind), log.key(value)): thing for (kind, value), thing in _things(incident).items()}
    mine, theirs = log.names.alias("mine"), log.names.alias("theirs")
    shared = (
        sa.select(theirs.c.number, theirs.c.kind, theirs.c.value)
        .join(mine, sa.and_(mine.c.value == theirs.c.value, mine.c.kind == theirs.c.kind))
        .where(mine.c.number == incident.number, theirs.c.number != incident.number)
    )
    sharing: dict[tuple[str, str], set[int]] = {}
    for number, kind, value in connection.execute(shared):
        thing = things.get((kind, value))
        if thing is not None:
            sharing.setdefault(thing, set()).add(number)
    found: dict[int, list[tuple[float, str]]] = {}
    for (kind, text), numbers in sharing.items():
        weight = _WEIGHTS.get(kind, _OTHER_TYPES) / (1 + log10(len(numbers)))
        for number in numbers:
            found.setdefault(number, []).append((weight, text))
    scores = {number: sum(weight for weight, _ in reasons) for number, reasons in found.items()}
    best = sorted((n for n in scores if scores[n] >= _LEAST), key=lambda n: (-scores[n], -n))[:most]
    incidents = _incidents(connection, best)
    return tuple(
        Similar(
            incidents[number],
            round(scores[number], 2),
            tuple(text for _, text in sorted(found[number], key=lambda one: (-one[0], one[1]))),
        )
        for number in best
    )


def _things(incident: Incident) -> dict[tuple[str, str], tuple[str, str]]:
    """By each name that an incident is found by: what it names, as its kind and in words."""
    things = {}
    named = len(incident.rule_ids) == len(incident.rule_names)
    for rule_id, name in zip(
        incident.rule_ids, incident.rule_names if named else incident.rule_ids, strict=True
    ):
        things[log.RULE, rule_id] = (log.RULE, f"same rule: {name}")
    for label in incident.labels:
        things[log.LABEL, label.lower()] = (log.LABEL, f"same label: {label}")
    for each in incident.entities:
        thing = (each.type, f"same {_WORDS.get(each.type, each.type)} {each.value}")
        if each.type == AWS_OBJECT:
            thing = (each.type, f"same object {each.name}")
        things[each.type, each.name] = thing
        if each.type != AWS_OBJECT:
            things |= {(each.type, value): thing for _, value in each.identifiers}
    return things


def _incidents(connection: sa.Connection, numbers: list[int]) -> dict[int, Incident]:
    query = sa.select(log.incidents.c.number, log.incidents.c.body)
    rows = connection.execute(query.where(log.incidents.c.number.in_(numbers)))
    return {number: log.decoded(body) for number, body in rows}
