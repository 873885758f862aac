"""Incidents and their log in the state database: how each stands, and one row for each change.

A row of the log holds the incident without its alerts and entities, and what came to these and went: so an
incident of thousands of alerts does not write thousands of ids with each. The state as it was is put together
from the rows. Changes of one incident have moments that differ and rise.
"""

from __future__ import annotations

import hashlib
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

import msgspec
import sqlalchemy as sa

from trailhawk.detect.entities import AWS_OBJECT, Entity
from trailhawk.detect.store import Moment, metadata
from trailhawk.incidents.change import GROUPING, Change, ChangeKind
from trailhawk.incidents.incident import Facts, Incident, in_order

RULE, LABEL = "#rule", "#label"
"""Kinds of names beside the types of entities."""

incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("severity", sa.Integer, nullable=False),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("classification", sa.String, nullable=False),
    sa.Column("title", sa.String, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("modified_at", Moment, nullable=False),
    sa.Column("first_activity", Moment, nullable=False),
    sa.Column("last_activity", Moment, nullable=False),
    sa.Column("alerts", sa.Integer, nullable=False),
    sa.Column("merged_into", sa.Integer),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("facts", sa.LargeBinary),
)
"""How each incident stands. `severity` is its rank; `facts` is null for one that was merged away."""

log = sa.Table(
    "incident_log",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("delta", sa.LargeBinary, nullable=False),
    sa.Index("incident_log_number", "number", "sequence"),
    sqlite_autoincrement=True,
)

names = sa.Table(
    "incident_names",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("value", sa.String, primary_key=True),
    sa.Index("incident_names_value", "value"),
)
"""What each incident is found by: its entities, rules and labels."""

members = sa.Table(
    "incident_alerts",
    metadata,
    sa.Column("alert_id", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False, index=True),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("ended_at", Moment, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("lookback", sa.BigInteger),
)
"""Which incident each alert is in. `lookback`, in microseconds, is set for Sentinel's grouping."""

links = sa.Table(
    "incident_links",
    metadata,
    sa.Column("alert_id", sa.String, sa.ForeignKey(members.c.alert_id), primary_key=True),
    sa.Column("link", sa.String, primary_key=True),
    sa.Column("kind", sa.String, primary_key=True),
    sa.Index("incident_links_link", "link"),
)

apart = sa.Table(
    "incident_apart",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True),
    sa.Column("other", sa.Integer, primary_key=True),
)
"""Incidents that somebody has split: no alert joins them again by itself. `one` is the lower number."""

cursors = sa.Table(
    "incident_cursors",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("sequence", sa.Integer, nullable=False),
)
"""How far each reader of the log has come."""

TABLES: Final = (incidents, log, names, members, links, apart, cursors)

_MICROSECOND = timedelta(microseconds=1)
_CHUNK = 500
_LONGEST = 400
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Delta:
    """What a change did to the alerts and entities of an incident, and the other incidents it is about."""

    added: tuple[tuple[datetime, str], ...] = ()
    removed: tuple[str, ...] = ()
    entities_added: tuple[Entity, ...] = ()
    entities_removed: tuple[Entity, ...] = ()
    others: tuple[int, ...] = ()


_INCIDENT = msgspec.json.Decoder(Incident)
_FACTS = msgspec.json.Decoder(Facts)
_DELTA = msgspec.json.Decoder(_Delta)
_encode = msgspec.json.Encoder().encode


def key(text: str) -> str:
    """A text of the logs as the columns that are looked up hold it: PostgreSQL knows no NUL, and indexes no
    long text."""
    text = text.replace("\0", "\ufffd")
    if len(text) <= _LONGEST:
        return text
    return text[:_LONGEST] + hashlib.sha256(text.encode(errors="replace")).hexdigest()


# --- how they stand ----------------------------------------------------------------------------------------


def decoded(body: bytes) -> Incident:
    """An incident from its row."""
    return _INCIDENT.decode(body)


def stands(connection: sa.Connection, number: int) -> tuple[Incident, Facts | None] | None:
    """How the incident of this very number stands, with what follows from its alerts."""
    query = sa.select(incidents.c.body, incidents.c.facts).where(incidents.c.number == number)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return decoded(row.body), None if row.facts is None else _FACTS.decode(row.facts)


def next_number(connection: sa.Connection) -> int:
    return (connection.scalar(sa.select(sa.func.max(incidents.c.number))) or 0) + 1


def names_of(incident: Incident) -> set[tuple[str, str]]:
    """The kinds and values that an incident is found by; none for one that was merged away."""
    if incident.merged_into is not None:
        return set()
    found = {(RULE, rule_id) for rule_id in incident.rule_ids}
    found |= {(LABEL, label.lower()) for label in incident.labels}
    for each in incident.entities:
        found.add((each.type, each.name))
        if each.type != AWS_OBJECT:  # a bucket is an entity of its own
            found |= {(each.type, value) for _, value in each.identifiers}
    return {(key(kind), key(value)) for kind, value in found}


# --- writing -----------------------------------------------------------------------------------------------


def write(
    connection: sa.Connection,
    before: Incident | None,
    after: Incident,
    facts: Facts | None,
    *,
    kind: ChangeKind,
    by: str,
    at: datetime,
    others: Sequence[int] = (),
) -> Change:
    """Write one change, and how the incident stands after it."""
    moment = at if before is None else max(at, before.modified_at + _MICROSECOND)
    touched = after.first_modified_at
    if touched is None and by != GROUPING and before is not None:
        touched = moment
    after = replace(after, modified_at=moment, modified_by=by, first_modified_at=touched)
    delta = _delta(before, after, facts, others)
    head = replace(after, alert_ids=(), entities=())
    row = {
        "number": after.number,
        "at": moment,
        "by": by,
        "kind": kind.value,
        "body": _encode(head),
        "delta": _encode(delta),
    }
    sequence = connection.execute(sa.insert(log).returning(log.c.sequence), row).scalar_one()
    _stand(connection, before, after, facts)
    return Change(
        sequence=sequence,
        kind=kind,
        by=by,
        at=moment,
        before=before,
        after=after,
        alerts_added=tuple(alert_id for _, alert_id in delta.added),
        alerts_removed=delta.removed,
        others=delta.others,
    )


def _delta(before: Incident | None, after: Incident, facts: Facts | None, others: Sequence[int]) -> _Delta:
    known = set(before.alert_ids) if before else set()
    kept = set(after.alert_ids)
    had = set(before.entities) if before else set()
    has = set(after.entities)
    return _Delta(
        added=tuple(alert for alert in facts.alerts if alert[1] not in known) if facts else (),
        removed=tuple(alert_id for alert_id in before.alert_ids if alert_id not in kept) if before else (),
        entities_added=in_order(has - had),
        entities_removed=in_order(had - has),
        others=tuple(others),
    )


def _stand(connection: sa.Connection, before: Incident | None, after: Incident, facts: Facts | None) -> None:
    values = {
        "status": after.status.value,
        "severity": after.severity.rank,
        "owner": after.owner,
        "classification": after.closing.classification.value if after.closing else "",
        "title": key(after.title),
        "created_at": after.created_at,
        "modified_at": after.modified_at,
        "first_activity": after.first_activity,
        "last_activity": after.last_activity,
        "alerts": len(after.alert_ids),
        "merged_into": after.merged_into,
        "body": _encode(after),
        "facts": None if facts is None else _encode(facts),
    }
    if before is None:
        connection.execute(sa.insert(incidents).values(number=after.number, **values))
    else:
        connection.execute(sa.update(incidents).where(incidents.c.number == after.number).values(**values))
    had, has = names_of(before) if before else set(), names_of(after)
    if gone := [{"old_kind": kind, "old_value": value} for kind, value in sorted(had - has)]:
        connection.execute(
            sa.delete(names).where(
                names.c.number == after.number,
                names.c.kind == sa.bindparam("old_kind"),
                names.c.value == sa.bindparam("old_value"),
            ),
            gone,
        )
    if new := [{"number": after.number, "kind": kind, "value": value} for kind, value in sorted(has - had)]:
        connection.execute(sa.insert(names), new)


# --- the log -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _State:
    """An incident as it was after the rows that were folded so far."""

    incident: Incident | None = None
    alerts: list[tuple[datetime, str]] = field(default_factory=list)
    entities: set[Entity] = field(default_factory=set)

    def fold(self, delta: _Delta) -> None:
        for alert in delta.added:
            insort(self.alerts, alert)
        if delta.removed:
            gone = set(delta.removed)
            self.alerts = [alert for alert in self.alerts if alert[1] not in gone]
        self.entities |= set(delta.entities_added)
        self.entities -= set(delta.entities_removed)

    def stand(self, head: Incident, delta: _Delta | None) -> Incident:
        """The incident with this head; what `delta` did not touch is taken as it was before."""
        before = self.incident if delta is not None else None
        if before is not None and delta is not None and not (delta.added or delta.removed):
            ids = before.alert_ids
        else:
            ids = tuple(alert_id for _, alert_id in self.alerts)
        if before is not None and delta is not None and not (delta.entities_added or delta.entities_removed):
            entities = before.entities
        else:
            entities = in_order(self.entities)
        self.incident = replace(head, alert_ids=ids, entities=entities)
        return self.incident


def changes(
    connection: sa.Connection, *, after: int = 0, limit: int | None = None, number: int | None = None
) -> tuple[Change, ...]:
    """The changes with a higher sequence number, in order; of one incident where `number` is given."""
    query = sa.select(log).where(log.c.sequence > after).order_by(log.c.sequence).limit(limit)
    if number is not None:
        query = query.where(log.c.number == number)
    rows = connection.execute(query).all()
    states = _states(connection, {row.number for row in rows}, after) if after else {}
    found = []
    for row in rows:
        state = states.setdefault(row.number, _State())
        delta = _DELTA.decode(row.delta)
        before = state.incident
        state.fold(delta)
        found.append(
            Change(
                sequence=row.sequence,
                kind=ChangeKind(row.kind),
                by=row.by,
                at=row.at,
                before=before,
                after=state.stand(decoded(row.body), delta),
                alerts_added=tuple(alert_id for _, alert_id in delta.added),
                alerts_removed=delta.removed,
                others=delta.others,
            )
        )
    return tuple(found)


def _states(connection: sa.Connection, numbers: Iterable[int], until: int) -> dict[int, _State]:
    """How these incidents stood after the change of this sequence number."""
    states: dict[int, _State] = {}
    for some in chunks(sorted(numbers)):
        earlier = sa.and_(log.c.number.in_(some), log.c.sequence <= until)
        deltas = sa.select(log.c.number, log.c.delta).where(earlier).order_by(log.c.sequence)
        for number, delta in connection.execute(deltas):
            states.setdefault(number, _State()).fold(_DELTA.decode(delta))
        last = sa.select(sa.func.max(log.c.sequence)).where(earlier).group_by(log.c.number)
        heads = sa.select(log.c.number, log.c.body).where(log.c.sequence.in_(last))
        for number, body in connection.execute(heads):
            states[number].stand(decoded(body), None)
    return states


def last_sequence(connection: sa.Connection) -> int:
    """The sequence number of the last change; 0 where there is none."""
    return connection.scalar(sa.select(sa.func.max(log.c.sequence))) or 0


def chunks(things: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The things in pieces that fit into a statement."""
    for start in range(0, len(things), _CHUNK):
        yield things[start : start + _CHUNK]


def apart_pairs(connection: sa.Connection, numbers: Iterable[int]) -> set[frozenset[int]]:
    """The pairs with one of these incidents that somebody has split."""
    numbers = list(numbers)
    query = sa.select(apart).where(sa.or_(apart.c.one.in_(numbers), apart.c.other.in_(numbers)))
    return {frozenset((one, other)) for one, other in connection.execute(query)}


def set_apart(connection: sa.Connection, one: int, other: int) -> None:
    pair = {"one": min(one, other), "other": max(one, other)}
    known = sa.select(apart).where(apart.c.one == pair["one"], apart.c.other == pair["other"])
    if connection.execute(known).one_or_none() is None:
        connection.execute(sa.insert(apart), pair)


def set_together(connection: sa.Connection, gone: int, into: int) -> None:
    """What was apart from an incident that was merged away is apart from the one it went into."""
    for pair in apart_pairs(connection, [gone]):
        (other,) = pair - {gone}
        connection.execute(sa.delete(apart).where(apart.c.one == min(pair), apart.c.other == max(pair)))
        if other != into:
            set_apart(connection, into, other)


def moved(connection: sa.Connection, alert_ids: Sequence[str], number: int) -> None:
    """Put alerts that are in incidents into another."""
    for some in chunks(alert_ids):
        connection.execute(sa.update(members).where(members.c.alert_id.in_(some)).values(number=number))
