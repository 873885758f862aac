"""Incidents in the state database: one row for each change, the last one of a number is how it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import AWS_ACCESS_KEY
from trailhawk.detect.rule import Rule, Severity
from trailhawk.detect.store import AlertStore, Moment, metadata
from trailhawk.engine.result import Engine
from trailhawk.errors import NotFoundError
from trailhawk.incidents.grouping import WITHIN, Link, Linked, LinkKind, are_joined, linked
from trailhawk.incidents.incident import Incident, Status, assemble
from trailhawk.incidents.lineage import issues

_changes = sa.Table(
    "incident_changes",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("number", sa.Integer, nullable=False, index=True),
    sa.Column("modified_at", Moment, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

_members = sa.Table(
    "incident_alerts",
    metadata,
    sa.Column("alert_id", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False, index=True),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("ended_at", Moment, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("lookback", sa.BigInteger),
)

_links = sa.Table(
    "incident_links",
    metadata,
    sa.Column("alert_id", sa.String, sa.ForeignKey(_members.c.alert_id), primary_key=True),
    sa.Column("link", sa.String, primary_key=True),
    sa.Column("kind", sa.String, primary_key=True),
    sa.Index("incident_links_link", "link"),
)

SECOND = timedelta(seconds=1)


class IncidentStore:
    """Incidents, grown as alerts come in."""

    def __init__(self, alerts: AlertStore) -> None:
        self._alerts = alerts
        metadata.create_all(alerts.engine)

    def all(self) -> tuple[Incident, ...]:
        """Every incident as it stands, by number; those that were merged into another are left out."""
        last = sa.select(sa.func.max(_changes.c.sequence)).group_by(_changes.c.number)
        query = sa.select(_changes.c.body).where(_changes.c.sequence.in_(last)).order_by(_changes.c.number)
        with self._alerts.reading() as connection:
            found = [_incident(body) for body in connection.scalars(query)]
        return tuple(incident for incident in found if incident.merged_into is None)

    def incident(self, number: int) -> Incident:
        """The incident of this number, or the one it was merged into; NotFoundError when there is none."""
        with self._alerts.reading() as connection:
            found = _latest(connection, number)
        if found is None:
            raise NotFoundError(f"no incident {number}", hint="`trailhawk incidents list` shows them all")
        return found if found.merged_into is None else self.incident(found.merged_into)

    def changes(self, number: int) -> tuple[Incident, ...]:
        """How an incident stood after each change, oldest first."""
        query = sa.select(_changes.c.body).where(_changes.c.number == number)
        with self._alerts.reading() as connection:
            return tuple(map(_incident, connection.scalars(query.order_by(_changes.c.sequence))))

    def alerts_of(self, incident: Incident) -> tuple[Alert, ...]:
        """The alerts of an incident, in order of the runs that raised them."""
        return self._alerts.alerts_named(incident.alert_ids)

    def sink(
        self, engine: Engine, rules: Mapping[str, Rule], *, now: datetime
    ) -> Callable[[Sequence[Alert]], Callable[[sa.Connection], None]]:
        """What `detect` does with new alerts: look up their lineage, then put them into incidents."""

        def prepare(alerts: Sequence[Alert]) -> Callable[[sa.Connection], None]:
            wanted = [alert for alert in alerts if _makes_incident(alert, rules.get(alert.rule_id))]
            found = [_with_lineage(alert, rules.get(alert.rule_id), engine, now) for alert in wanted]
            return lambda connection: self.add(connection, wanted, found)

        return prepare

    def add(self, connection: sa.Connection, alerts: Iterable[Alert], found: Iterable[Linked]) -> None:
        """Put alerts that are already stored into incidents; one that is in an incident stays there."""
        for alert, each in sorted(zip(alerts, found, strict=True), key=lambda pair: (pair[0].at, pair[0].id)):
            if not _is_member(connection, alert.id):
                self._place(connection, alert, each)

    def _place(self, connection: sa.Connection, alert: Alert, each: Linked) -> None:
        numbers = _numbers(connection, each)
        number = min(numbers) if numbers else _next_number(connection)
        _add_member(connection, each, number)
        for other in numbers - {number}:
            connection.execute(sa.update(_members).where(_members.c.number == other).values(number=number))
        members = sa.select(_members.c.alert_id).where(_members.c.number == number)
        alerts = self._alerts.stored(connection, connection.scalars(members).all())
        before = _latest(connection, number)
        status = before.status if before else Status.NEW
        _write(connection, replace(assemble(number, alerts), status=status), alert.at)
        for other in sorted(numbers - {number}):
            if merged := _latest(connection, other):
                _write(connection, replace(merged, status=Status.CLOSED, merged_into=number), alert.at)


def _makes_incident(alert: Alert, rule: Rule | None) -> bool:
    """As the rule says; where it says nothing, an Informational alert stays an alert."""
    if rule is not None and rule.create_incident is not None:
        return rule.create_incident
    return alert.severity is not Severity.INFORMATIONAL


def _with_lineage(alert: Alert, rule: Rule | None, engine: Engine, now: datetime) -> Linked:
    keys = alert.values(AWS_ACCESS_KEY)
    found = issues(engine, keys, start=alert.started_at, end=alert.ended_at + SECOND, now=now)
    return linked(alert, rule, found)


def _is_member(connection: sa.Connection, alert_id: str) -> bool:
    query = sa.select(_members.c.alert_id).where(_members.c.alert_id == alert_id)
    return connection.scalar(query) is not None


def _numbers(connection: sa.Connection, each: Linked) -> set[int]:
    """The incidents that hold an alert joined with this one."""
    texts = [link.text for link in each.links]
    if not texts:
        return set()
    near = sa.select(_links.c.alert_id).where(_links.c.link.in_(texts))
    found = connection.execute(sa.select(_members).where(_members.c.alert_id.in_(near))).all()
    links: dict[str, list[Link]] = {}
    for row in connection.execute(sa.select(_links).where(_links.c.alert_id.in_(near))):
        links.setdefault(row.alert_id, []).append(Link(row.link, LinkKind(row.kind)))
    return {row.number for row in found if are_joined(_linked(row, links[row.alert_id]), each, within=WITHIN)}


def _linked(row: sa.Row[tuple[object, ...]], links: Sequence[Link]) -> Linked:
    lookback = None if row.lookback is None else timedelta(microseconds=row.lookback)
    return Linked(row.alert_id, row.started_at, row.ended_at, row.at, tuple(links), lookback)


def _add_member(connection: sa.Connection, each: Linked, number: int) -> None:
    connection.execute(
        sa.insert(_members),
        {
            "alert_id": each.alert_id,
            "number": number,
            "started_at": each.started_at,
            "ended_at": each.ended_at,
            "at": each.at,
            "lookback": None if each.lookback is None else each.lookback // timedelta(microseconds=1),
        },
    )
    rows = [{"alert_id": each.alert_id, "link": link.text, "kind": link.kind.value} for link in each.links]
    if rows:
        connection.execute(sa.insert(_links), rows)


def _next_number(connection: sa.Connection) -> int:
    return (connection.scalar(sa.select(sa.func.max(_changes.c.number))) or 0) + 1


def _latest(connection: sa.Connection, number: int) -> Incident | None:
    query = sa.select(_changes.c.body).where(_changes.c.number == number)
    body = connection.scalar(query.order_by(_changes.c.sequence.desc()).limit(1))
    return None if body is None else _incident(body)


def _write(connection: sa.Connection, incident: Incident, at: datetime) -> None:
    changed = replace(incident, modified_at=max(at, incident.modified_at))
    row = {
        "number": changed.number,
        "modified_at": changed.modified_at,
        "body": msgspec.json.encode(changed),
    }
    connection.execute(sa.insert(_changes), row)


def _incident(body: bytes) -> Incident:
    return msgspec.json.decode(body, type=Incident)
