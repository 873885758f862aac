"""What an incident is: alerts that belong together under one number, and what people have said of them.

What follows from the alerts (`Facts`) is a join of what follows from each: the order in which they came is
nothing to it, and an alert that comes twice changes nothing. What a person or an automation has set stays.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import (
    AWS_ACCESS_KEY,
    AWS_ACCOUNT,
    AWS_BUCKET,
    AWS_INSTANCE,
    AWS_OBJECT,
    AWS_PRINCIPAL,
    AWS_SESSION,
    IP,
    Entity,
    distinct,
)
from trailhawk.detect.rule import Severity
from trailhawk.errors import UsageError

MAX_ENTITIES: Final = 2_000
"""Entities of an incident, as its alerts name them; objects are left out first."""
MAX_COMMENTS, MAX_COMMENT, MAX_TASKS, MAX_LABELS = 100, 30_000, 40, 100
"""Sentinel's bounds: comments of an incident, characters of one, tasks; the labels are our own."""
MAX_TITLE, MAX_TEXT = 256, 5_000

_NAMESPACE = uuid.UUID("7c1f6f0c-58a3-5d0e-8a55-3f0d9f3f5c21")
_TYPES = (AWS_PRINCIPAL, AWS_SESSION, AWS_ACCESS_KEY, AWS_INSTANCE, AWS_ACCOUNT, IP, AWS_BUCKET)
_PLACES = {kind: place for place, kind in enumerate(_TYPES)} | {AWS_OBJECT: len(_TYPES) + 1}


class Status(Enum):
    NEW = "New"
    ACTIVE = "Active"
    CLOSED = "Closed"


class Classification(Enum):
    """What a closed incident turned out to be; the words are Sentinel's."""

    TRUE_POSITIVE = "TruePositive"
    BENIGN_POSITIVE = "BenignPositive"
    FALSE_POSITIVE = "FalsePositive"
    UNDETERMINED = "Undetermined"


class Reason(Enum):
    """Why it is classified so; which reason goes with which classification is Sentinel's closed list."""

    SUSPICIOUS_ACTIVITY = "SuspiciousActivity"
    SUSPICIOUS_BUT_EXPECTED = "SuspiciousButExpected"
    INCORRECT_ALERT_LOGIC = "IncorrectAlertLogic"
    INACCURATE_DATA = "InaccurateData"


REASONS: Final[Mapping[Classification, tuple[Reason, ...]]] = {
    Classification.TRUE_POSITIVE: (Reason.SUSPICIOUS_ACTIVITY,),
    Classification.BENIGN_POSITIVE: (Reason.SUSPICIOUS_BUT_EXPECTED,),
    Classification.FALSE_POSITIVE: (Reason.INCORRECT_ALERT_LOGIC, Reason.INACCURATE_DATA),
    Classification.UNDETERMINED: (),
}


@dataclass(frozen=True, slots=True)
class Closing:
    """How an incident is closed. The reason is the only one there is, where there is only one."""

    classification: Classification
    reason: Reason | None = None
    comment: str = ""

    @classmethod
    def of(cls, classification: Classification, reason: Reason | None = None, comment: str = "") -> Closing:
        """UsageError for a reason that does not go with the classification, or one that is missing."""
        allowed = REASONS[classification]
        if reason is None and len(allowed) == 1:
            reason = allowed[0]
        if reason not in (allowed or (None,)):
            names = " or ".join(each.value for each in allowed) or "no reason"
            if reason is None:
                raise UsageError(f"{classification.value} needs a reason: {names}")
            raise UsageError(
                f"{classification.value} does not go with {reason.value}",
                hint=f"it goes with {names}",
            )
        if len(comment) > MAX_TEXT:
            raise UsageError(f"the comment is longer than {MAX_TEXT:,} characters")
        return cls(classification, reason, comment)


@dataclass(frozen=True, slots=True)
class Comment:
    id: int
    at: datetime
    by: str
    text: str


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do about an incident; done when `done_at` is set."""

    id: int
    title: str
    description: str
    at: datetime
    by: str
    done_at: datetime | None = None
    done_by: str = ""


# --- what follows from the alerts --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """What an alert would call its incident; the least of several is chosen.

    An alert about somebody's credentials says more than one without, a grave one more than a light one, one
    that names the very key more than one that knows the session only.
    """

    no_credentials: bool
    harmlessness: int
    no_key: bool
    started_at: datetime
    at: datetime
    alert_id: str
    title: str
    description: str

    @classmethod
    def of(cls, alert: Alert) -> Name:
        types = {each.type for each in alert.entities}
        return cls(
            no_credentials=not types & {AWS_SESSION, AWS_ACCESS_KEY},
            harmlessness=-alert.severity.rank,
            no_key=AWS_ACCESS_KEY not in types,
            started_at=alert.started_at,
            at=alert.at,
            alert_id=alert.id,
            title=alert.name,
            description=alert.description,
        )


_Ranked = tuple[tuple[datetime, int, str], ...]
"""Texts in order, each with the moment it is first known of and its place among those of that moment."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What alerts add up to. `entities` are as the alerts name them."""

    name: Name
    severity: Severity
    first_activity: datetime
    last_activity: datetime
    alerts: tuple[tuple[datetime, str], ...]
    """T and id of each alert."""
    rules: tuple[tuple[datetime, str, str], ...]
    """First activity, name and id of each rule."""
    entities: tuple[Entity, ...]
    tactics: _Ranked
    techniques: _Ranked

    @classmethod
    def of(cls, alert: Alert) -> Facts:
        at = alert.started_at
        return cls(
            name=Name.of(alert),
            severity=alert.severity,
            first_activity=at,
            last_activity=alert.ended_at,
            alerts=((alert.at, alert.id),),
            rules=((at, alert.rule_name, alert.rule_id),),
            entities=tuple(sorted(set(alert.entities), key=_place))[:MAX_ENTITIES],
            tactics=_firsts((at, place, each) for place, each in enumerate(alert.tactics)),
            techniques=_firsts((at, place, each) for place, each in enumerate(alert.techniques)),
        )


def joined(facts: Iterable[Facts]) -> Facts:
    """What several, at least one, add up to; in any order, and twice is as once."""
    facts = tuple(facts)
    if len(facts) == 1:
        return facts[0]
    rules: dict[str, tuple[datetime, str, str]] = {}
    for rule in sorted(rule for each in facts for rule in each.rules):
        rules.setdefault(rule[2], rule)
    return Facts(
        name=min(each.name for each in facts),
        severity=max((each.severity for each in facts), key=lambda severity: severity.rank),
        first_activity=min(each.first_activity for each in facts),
        last_activity=max(each.last_activity for each in facts),
        alerts=tuple(sorted({alert for each in facts for alert in each.alerts})),
        rules=tuple(rules.values()),
        entities=tuple(sorted({one for each in facts for one in each.entities}, key=_place))[:MAX_ENTITIES],
        tactics=_firsts(one for each in facts for one in each.tactics),
        techniques=_firsts(one for each in facts for one in each.techniques),
    )


def _firsts(ranked: Iterable[tuple[datetime, int, str]]) -> _Ranked:
    firsts: dict[str, tuple[datetime, int, str]] = {}
    for each in sorted(ranked):
        firsts.setdefault(each[2], each)
    return tuple(firsts.values())


def _place(each: Entity) -> tuple[int, Entity]:
    """Who before where before what; objects, of which there are most, last."""
    return _PLACES.get(each.type, len(_TYPES)), each


# --- the incident ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as it stands after a change.

    `created_at` is T of the first run that raised one of its alerts, `modified_at` the moment of the last
    change; those of one incident differ, and rise. `set_by_hand` names the members that a person or an
    automation has set and that its alerts do not change any more; `shaped_by_hand` tells that somebody has
    merged or split it.
    """

    number: int
    title: str
    description: str
    severity: Severity
    status: Status
    created_at: datetime
    modified_at: datetime
    first_activity: datetime
    last_activity: datetime
    alert_ids: tuple[str, ...]
    rule_ids: tuple[str, ...]
    rule_names: tuple[str, ...]
    entities: tuple[Entity, ...]
    tactics: tuple[str, ...]
    techniques: tuple[str, ...]
    merged_into: int | None = None
    guid: str = ""
    owner: str = ""
    labels: tuple[str, ...] = ()
    closing: Closing | None = None
    closed_at: datetime | None = None
    first_modified_at: datetime | None = None
    """When somebody, and not the grouping of alerts, first changed it."""
    modified_by: str = ""
    comments: tuple[Comment, ...] = ()
    tasks: tuple[Task, ...] = ()
    set_by_hand: tuple[str, ...] = ()
    shaped_by_hand: bool = False

    def values(self, entity_type: str) -> tuple[str, ...]:
        """The first identifiers of the incident's entities of this type."""
        return tuple(each.value for each in self.entities if each.type == entity_type)

    def with_facts(self, facts: Facts) -> Incident:
        """The incident over these alerts, with all that was set by hand."""
        found = replace(
            self,
            title=facts.name.title,
            description=facts.name.description,
            severity=facts.severity,
            created_at=facts.alerts[0][0],
            first_activity=facts.first_activity,
            last_activity=facts.last_activity,
            alert_ids=tuple(alert_id for _, alert_id in facts.alerts),
            rule_ids=tuple(rule_id for _, _, rule_id in facts.rules),
            rule_names=tuple(dict.fromkeys(name for _, name, _ in facts.rules)),
            entities=in_order(distinct(facts.entities)),
            tactics=tuple(text for *_, text in facts.tactics),
            techniques=tuple(text for *_, text in facts.techniques),
        )
        return replace(found, **{name: getattr(self, name) for name in self.set_by_hand})


def in_order(entities: Iterable[Entity]) -> tuple[Entity, ...]:
    """Entities in the order in which an incident has them."""
    return tuple(sorted(entities, key=_place))


def made_of(number: int, facts: Facts) -> Incident:
    """A new incident over these alerts."""
    at, first = facts.alerts[0]
    blank = Incident(
        number=number,
        title="",
        description="",
        severity=facts.severity,
        status=Status.NEW,
        created_at=at,
        modified_at=facts.alerts[-1][0],
        first_activity=at,
        last_activity=at,
        alert_ids=(),
        rule_ids=(),
        rule_names=(),
        entities=(),
        tactics=(),
        techniques=(),
        guid=str(uuid.uuid5(_NAMESPACE, f"{number}\n{first}")),
    )
    return blank.with_facts(facts)


def assemble(number: int, alerts: Iterable[Alert]) -> Incident:
    """The incident that these alerts, at least one, make. It does not depend on their order."""
    return made_of(number, joined(map(Facts.of, alerts)))


def merged(into: Incident, others: Sequence[Incident], facts: Facts) -> Incident:
    """One incident of several: what was set by hand in `into` goes before what was set in the others.

    Comments, tasks and labels are all kept. It is closed only where all of them were.
    """
    found = into
    for name in ("title", "description", "severity"):
        source = next((each for each in (into, *others) if name in each.set_by_hand), None)
        if source is not None:
            kept = (*found.set_by_hand, name) if name not in found.set_by_hand else found.set_by_hand
            found = replace(found, **{name: getattr(source, name), "set_by_hand": kept})
    every = (into, *others)
    comments = sorted({(c.at, c.by, c.text) for each in every for c in each.comments})
    tasks = {replace(task, id=0) for each in every for task in each.tasks}
    in_time = sorted(tasks, key=_in_time)
    touched = [each.first_modified_at for each in every if each.first_modified_at]
    found = replace(
        found,
        owner=next((each.owner for each in every if each.owner), ""),
        labels=tuple(dict.fromkeys(label for each in every for label in each.labels)),
        comments=tuple(Comment(place, *comment) for place, comment in enumerate(comments, 1)),
        tasks=tuple(replace(task, id=place) for place, task in enumerate(in_time, 1)),
        first_modified_at=min(touched, default=None),
        shaped_by_hand=any(each.shaped_by_hand for each in every),
    )
    states = {each.status for each in every}
    if into.status is Status.CLOSED and len(states) > 1:
        found = reopened(found)
    elif states != {Status.NEW} and states != {Status.CLOSED}:
        found = replace(found, status=Status.ACTIVE)
    return found.with_facts(facts)


def _in_time(task: Task) -> tuple[datetime, str, str, str, datetime, str]:
    return task.at, task.title, task.by, task.description, task.done_at or task.at, task.done_by


def reopened(incident: Incident) -> Incident:
    """A closed incident, open again."""
    return replace(incident, status=Status.ACTIVE, closing=None, closed_at=None)
