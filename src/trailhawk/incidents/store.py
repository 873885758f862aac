"""Incidents as they are worked with: read, found, changed by hand, followed.

Everything that changes an incident is a `Change` in the log. Whoever follows the log keeps a cursor of its
own (`consume`), or is called inside this process when something was written (`subscribe`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import AWS_ACCESS_KEY
from trailhawk.detect.migrate import bring_up
from trailhawk.detect.rule import Rule, Severity
from trailhawk.detect.store import AlertStore, go_on_after
from trailhawk.engine.result import Engine
from trailhawk.errors import LakeError, LimitError, NotFoundError, UsageError
from trailhawk.incidents import log
from trailhawk.incidents.change import GROUPING, Change, ChangeKind
from trailhawk.incidents.feedback import Precision, precisions
from trailhawk.incidents.grouping import Linked, LinkKind, linked
from trailhawk.incidents.incident import (
    MAX_COMMENT,
    MAX_COMMENTS,
    MAX_LABELS,
    MAX_TASKS,
    MAX_TEXT,
    MAX_TITLE,
    Classification,
    Closing,
    Comment,
    Incident,
    Status,
    Task,
    reopened,
)
from trailhawk.incidents.lineage import Issue, issues
from trailhawk.incidents.migrations import LEGACY, STEPS
from trailhawk.incidents.placing import Placing
from trailhawk.incidents.similar import MOST, Similar, similar

SECOND: Final = timedelta(seconds=1)
MAX_LABEL: Final = 100
BATCH: Final = 1_000
_UNKNOWN: Final = (
    "Where the keys came from could not be looked up, so an incident of the same origin may stand apart"
)

Listener = Callable[[Change], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which incidents are wanted: those that satisfy everything that is given.

    `entity` is a value that an entity has (an ARN, key, address, bucket), `rule` the id of a rule, `text` a
    part of the title, `since` and `until` bounds of the last activity.
    """

    statuses: tuple[Status, ...] = ()
    severities: tuple[Severity, ...] = ()
    classification: Classification | None = None
    owner: str | None = None
    label: str = ""
    rule: str = ""
    entity: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None


EVERYTHING: Final = Wanted()


class _Own(threading.local):
    """The transaction in which this thread handles a change, if it does."""

    connection: sa.Connection | None = None


class IncidentStore:
    """Incidents in the state database, grown as alerts come in."""

    def __init__(self, alerts: AlertStore) -> None:
        self._alerts = alerts
        bring_up(alerts.engine, "incidents", log.TABLES, STEPS, began_as=LEGACY)
        self._listeners: list[Listener] = []
        self._published: int | None = None
        self._publishing = False
        self._lock = threading.RLock()
        self._own = _Own()

    # Reading

    def all(self) -> tuple[Incident, ...]:
        """Every incident as it stands, by number; those that were merged into another are left out."""
        return self.found(EVERYTHING)

    def found(
        self, wanted: Wanted, *, limit: int | None = None, gravest: bool = False
    ) -> tuple[Incident, ...]:
        """The incidents that are wanted, by number; with `limit` the newest of them. The gravest first, of
        equals the newest, if asked for so."""
        table = log.incidents.c
        query = _found(sa.select(log.incidents.c.body), wanted)
        order = (table.severity.desc(), table.number.desc()) if gravest else (table.number.desc(),)
        with self._reading() as connection:
            bodies = connection.scalars(query.order_by(*order).limit(limit)).all()
        return tuple(log.decoded(body) for body in (bodies if gravest else reversed(bodies)))

    def count(self, wanted: Wanted = EVERYTHING) -> int:
        """How many incidents are wanted."""
        with self._reading() as connection:
            return connection.scalar(_found(sa.select(sa.func.count()), wanted)) or 0

    def incident(self, number: int) -> Incident:
        """The incident of this number, or the one it was merged into; NotFoundError when there is none."""
        with self._reading() as connection:
            return _incident(connection, number)

    def incidents_of(self, alert_ids: Iterable[str]) -> dict[str, int]:
        """The numbers of the incidents these alerts are in, by alert; none for one that is in no incident."""
        found: dict[str, int] = {}
        member = log.members.c
        with self._reading() as connection:
            for some in log.chunks(sorted(set(alert_ids))):
                query = sa.select(member.alert_id, member.number).where(member.alert_id.in_(some))
                found |= {str(alert_id): int(number) for alert_id, number in connection.execute(query)}
        return found

    def classifications(self) -> dict[str, str]:
        """How the incidents that alerts are in were classified, by alert; none of those still open, or
        closed as undetermined."""
        table, member = log.incidents.c, log.members.c
        query = (
            sa.select(member.alert_id, table.classification)
            .join(log.incidents, table.number == member.number)
            .where(
                table.status == Status.CLOSED.value,
                table.classification.not_in(["", Classification.UNDETERMINED.value]),
            )
        )
        with self._reading() as connection:
            return {str(alert_id): str(how) for alert_id, how in connection.execute(query)}

    def precisions(self) -> dict[str, Precision]:
        """What became of the alerts of each rule that has raised any, by the rule's id."""
        with self._reading() as connection:
            return precisions(connection)

    def alerts_of(self, incident: Incident) -> tuple[Alert, ...]:
        """The alerts of an incident, in order of the runs that raised them."""
        found: list[Alert] = []
        with self._reading() as connection:
            for some in log.chunks(incident.alert_ids):
                found += self._alerts.stored(connection, some)
        return tuple(sorted(found, key=lambda alert: (alert.at, alert.id)))

    def similar(self, number: int, *, most: int = MOST) -> tuple[Similar, ...]:
        """The incidents that have most in common with this one, with the reasons."""
        with self._reading() as connection:
            return similar(connection, _incident(connection, number), most=most)

    # The log

    def changes(self, number: int) -> tuple[Change, ...]:
        """What was done to the incident of this very number, oldest first."""
        with self._reading() as connection:
            return log.changes(connection, number=number)

    def changes_since(self, sequence: int, *, limit: int | None = BATCH) -> tuple[Change, ...]:
        """The changes with a higher sequence number, over all incidents, in order."""
        with self._reading() as connection:
            return log.changes(connection, after=sequence, limit=limit)

    def go_on_after(self, sequence: int) -> None:
        """See `detect.store.go_on_after`."""
        go_on_after(self._alerts.engine, log.log, sequence)

    def last_sequence(self) -> int:
        """The sequence number of the last change, 0 where there is none."""
        with self._reading() as connection:
            return log.last_sequence(connection)

    def cursor(self, name: str) -> int:
        """How far the reader of this name has come; 0 where it has not begun."""
        with self._reading() as connection:
            return _cursor(connection, name)

    def begin_at_the_end(self, name: str) -> None:
        """Let a reader that has not begun pass over all that has happened so far."""
        with self._writing() as connection:
            has_begun = sa.select(log.cursors.c.name).where(log.cursors.c.name == name)
            if connection.scalar(has_begun) is None:
                _set_cursor(connection, name, log.last_sequence(connection))

    def consume(
        self, name: str, handle: Callable[[sa.Connection, Change], None], *, limit: int = BATCH
    ) -> int:
        """Hand the next changes to a reader and move its cursor; how many there were.

        Each change is handled in the transaction that moves the cursor: what `handle` writes with the
        connection, and what it changes through this store, is done exactly once. An error of `handle` undoes
        all of that and leaves its change to be handed over again.
        """
        done = 0
        for change in self.changes_since(self.cursor(name), limit=limit):
            with self._writing() as connection:
                if _cursor(connection, name) >= change.sequence:
                    continue  # another process was quicker
                self._own.connection = connection
                try:
                    handle(connection, change)
                finally:
                    self._own.connection = None
                _set_cursor(connection, name, change.sequence)
            done += 1
        self.publish()
        return done

    def subscribe(self, listener: Listener) -> None:
        """Call this with every change that is written from now on, in order, when it is committed.

        Changes by hand are told at once, those that alerts make by the next `publish`. A listener may use the
        store; what it changes is told after it returns. An error of a listener is the caller's.
        """
        with self._lock:
            if self._published is None:
                self._published = self.last_sequence()
            self._listeners.append(listener)

    def publish(self) -> None:
        """Tell those who subscribed what has been written since the last time, by whatever process."""
        with self._lock:
            if self._published is None or self._publishing or self._own.connection is not None:
                return
            self._publishing = True
            try:
                while changes := self.changes_since(self._published):
                    for change in changes:
                        self._published = change.sequence
                        for listener in self._listeners:
                            listener(change)
            finally:
                self._publishing = False

    # Alerts come

    def sink(
        self, engine: Engine, rules: Mapping[str, Rule], *, now: datetime
    ) -> Callable[[Sequence[Alert]], Callable[[sa.Connection], None]]:
        """What `detect` does with new alerts: look up their lineage, then put them into incidents. Where the
        logs for it cannot be read, an incident says so."""

        def prepare(alerts: Sequence[Alert]) -> Callable[[sa.Connection], None]:
            wanted = [alert for alert in alerts if makes_incident(alert, rules.get(alert.rule_id))]
            unknown = ""
            try:
                found = _with_lineage(wanted, rules, engine, now)
            except (LakeError, LimitError) as error:
                found = [linked(alert, rules.get(alert.rule_id), ()) for alert in wanted]
                unknown = f"{_UNKNOWN}: {error}"[:MAX_COMMENT]
            asking = {alert.id for alert in wanted if _asks(alert, rules)}

            def write(connection: sa.Connection) -> None:
                for change in self.add(connection, wanted, found):
                    if unknown and not asking.isdisjoint(change.alerts_added):
                        self._remark(connection, change.number, unknown, now)

            return write

        return prepare

    def add(
        self, connection: sa.Connection, alerts: Iterable[Alert], found: Iterable[Linked]
    ) -> tuple[Change, ...]:
        """Put alerts that are already stored into incidents; one that is in an incident stays there, and
        joins it with others by what is newly known of its lineage."""
        placing = Placing(connection, self._alerts)
        for alert, each in sorted(zip(alerts, found, strict=True), key=lambda pair: (pair[0].at, pair[0].id)):
            placing.place(alert, each)
        return placing.finish()

    def relink(
        self, engine: Engine, rules: Mapping[str, Rule], *, since: datetime, now: datetime
    ) -> tuple[Change, ...]:
        """Look again where the credentials of alerts raised since then came from.

        The call that issued a key may reach the lake after what was done with it: CloudTrail delivers each
        region for itself. What is found out joins incidents as if it had been known at once.
        """
        member, link = log.members.c, log.links.c
        named = sa.and_(link.kind == LinkKind.OWN.value, link.link.startswith("key:"))
        query = (
            sa.select(member.alert_id)
            .join(log.links, link.alert_id == member.alert_id)
            .where(member.at >= since, member.lookback.is_(None), named)
            .distinct()
        )
        stored: set[tuple[str, str, str]] = set()
        with self._reading() as connection:
            ids = connection.scalars(query).all()
            alerts = [alert for some in log.chunks(ids) for alert in self._alerts.stored(connection, some)]
            for some in log.chunks(ids):
                rows = connection.execute(sa.select(log.links).where(link.alert_id.in_(some)))
                stored |= {(row.alert_id, row.link, row.kind) for row in rows}
        found = _with_lineage(alerts, rules, engine, now)
        known = [
            (alert, each)
            for alert, each in zip(alerts, found, strict=True)
            if each.lookback is None
            and any((alert.id, log.key(one.text), one.kind.value) not in stored for one in each.links)
        ]
        if not known:
            return ()
        with self._writing() as connection:
            changes = self.add(connection, [alert for alert, _ in known], [each for _, each in known])
        self.publish()
        return changes

    # Changes by hand

    def set(
        self,
        number: int,
        *,
        by: str,
        now: datetime,
        status: Status | None = None,
        severity: Severity | None = None,
        owner: str | None = None,
        title: str | None = None,
        description: str | None = None,
        add_labels: Iterable[str] = (),
        remove_labels: Iterable[str] = (),
    ) -> Change | None:
        """Change what is given, as one change; None where nothing was different.

        An empty owner is nobody. What is set here stays when alerts come. An incident is closed by `close`.
        Raises NotFoundError, and UsageError for what cannot be meant.
        """
        if status is Status.CLOSED:
            raise UsageError("an incident is closed with a classification", hint="see `incidents close`")
        members = {"severity": severity, "owner": owner, "title": title, "description": description}
        for name, value in members.items():
            if isinstance(value, str):
                members[name] = _text(name, value, MAX_TEXT if name == "description" else MAX_TITLE)
        if title is not None and not members["title"]:
            raise UsageError("a title is no empty text")
        given = {name: value for name, value in members.items() if value is not None}
        new_labels, old_labels = _labels(add_labels), {label.lower() for label in _labels(remove_labels)}

        def change(incident: Incident) -> Incident:
            kept = [label for label in incident.labels if label.lower() not in old_labels]
            known = {label.lower() for label in kept}
            labels = (*kept, *(label for label in new_labels if label.lower() not in known))
            if len(labels) > MAX_LABELS:
                raise UsageError(f"an incident has {MAX_LABELS} labels at most")
            fixed = [name for name in given if name != "owner" and name not in incident.set_by_hand]
            changes: dict[str, Any] = dict(given)  # by the name of the member
            after = replace(incident, **changes, labels=labels, set_by_hand=(*incident.set_by_hand, *fixed))
            if status is None or status is incident.status:
                return after
            if incident.status is Status.CLOSED:
                after = reopened(after)
            return replace(after, status=status)

        is_reopened = status is not None and self.incident(number).status is Status.CLOSED
        kind = ChangeKind.REOPENED if is_reopened else ChangeKind.UPDATED
        return self._change(number, change, kind, by=by, now=now)

    def close(self, number: int, closing: Closing, *, by: str, now: datetime) -> Change | None:
        """Close an incident, or classify a closed one otherwise; a comment of the closing is kept with it."""

        def change(incident: Incident) -> Incident:
            closed_at = incident.closed_at if incident.status is Status.CLOSED else now
            return replace(incident, status=Status.CLOSED, closing=closing, closed_at=closed_at)

        return self._change(number, change, ChangeKind.CLOSED, by=by, now=now)

    def reopen(self, number: int, *, by: str, now: datetime) -> Change | None:
        """Open a closed incident again, as Active; None where it is not closed."""

        def change(incident: Incident) -> Incident:
            return reopened(incident) if incident.status is Status.CLOSED else incident

        return self._change(number, change, ChangeKind.REOPENED, by=by, now=now)

    def comment(self, number: int, text: str, *, by: str, now: datetime) -> Change | None:
        """Add a comment."""
        text = _text("comment", text, MAX_COMMENT)
        if not text:
            raise UsageError("a comment is no empty text")

        def change(incident: Incident) -> Incident:
            if len(incident.comments) >= MAX_COMMENTS:
                raise UsageError(f"an incident has {MAX_COMMENTS} comments at most")
            return _commented(incident, text, by, now)

        return self._change(number, change, ChangeKind.COMMENTED, by=by, now=now)

    def add_task(
        self, number: int, title: str, *, by: str, now: datetime, description: str = ""
    ) -> Change | None:
        """Add something to do."""
        title = _text("task", title, MAX_TITLE)
        description = _text("description", description, MAX_TEXT)
        if not title:
            raise UsageError("a task is no empty text")

        def change(incident: Incident) -> Incident:
            if len(incident.tasks) >= MAX_TASKS:
                raise UsageError(f"an incident has {MAX_TASKS} tasks at most")
            place = max((task.id for task in incident.tasks), default=0) + 1
            return replace(incident, tasks=(*incident.tasks, Task(place, title, description, now, by)))

        return self._change(number, change, ChangeKind.TASK, by=by, now=now)

    def set_task(
        self, number: int, task_id: int, *, by: str, now: datetime, done: bool = True
    ) -> Change | None:
        """Mark a task as done, or as open again; NotFoundError where the incident has no such task."""

        def change(incident: Incident) -> Incident:
            if task_id not in {task.id for task in incident.tasks}:
                raise NotFoundError(f"incident {incident.number} has no task {task_id}")
            state = {"done_at": now, "done_by": by} if done else {"done_at": None, "done_by": ""}
            changes: dict[str, Any] = dict(state)  # by the name of the member
            tasks = [
                replace(task, **changes) if task.id == task_id and bool(task.done_at) != done else task
                for task in incident.tasks
            ]
            return replace(incident, tasks=tuple(tasks))

        return self._change(number, change, ChangeKind.TASK, by=by, now=now)

    def merge(self, number: int, others: Iterable[int], *, by: str, now: datetime) -> Change:
        """Put other incidents into this one; the change of this one. What was split before may be merged."""
        with self._writing() as connection:
            into = _incident(connection, number)
            gone = {_incident(connection, other).number for other in others} - {into.number}
            if not gone:
                raise UsageError(f"there is nothing to merge with incident {into.number}")
            placing = Placing(connection, self._alerts)
            for other in sorted(gone):
                placing.absorb(other, into.number, now)
            changes = placing.finish(by=by, at=now)
        self.publish()
        return next(change for change in changes if change.number == into.number)

    def split(self, number: int, alert_ids: Iterable[str], *, by: str, now: datetime) -> Change:
        """Put some of an incident's alerts into an incident of their own; the change that began it.

        No alert that comes later joins the two again by itself. UsageError for alerts that are not in it, and
        where none would be left.
        """
        with self._writing() as connection:
            source = _incident(connection, number)
            wanted = _alerts_named(source, alert_ids)
            placing = Placing(connection, self._alerts)
            made = placing.take_out(source.number, wanted, now)
            changes = placing.finish(by=by, at=now)
        self.publish()
        return next(change for change in changes if change.number == made)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """A connection that takes no lock; while a change is handled, the one of its transaction."""
        if self._own.connection is not None:
            yield self._own.connection
            return
        with self._alerts.reading() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction; while a change is handled, that one."""
        if self._own.connection is not None:
            yield self._own.connection
            return
        with self._alerts.engine.begin() as connection:
            yield connection

    def _remark(self, connection: sa.Connection, number: int, text: str, now: datetime) -> None:
        """Add what the grouping could not know, if it does not stand there and leaves room for a comment."""
        stands = log.stands(connection, number)
        assert stands is not None  # it has just been written
        incident, facts = stands
        is_told = any(each.by == GROUPING and each.text.startswith(_UNKNOWN) for each in incident.comments)
        if len(incident.comments) < MAX_COMMENTS - 1 and not is_told:
            after = _commented(incident, text, GROUPING, now)
            log.write(connection, incident, after, facts, kind=ChangeKind.COMMENTED, by=GROUPING, at=now)

    def _change(
        self, number: int, change: Callable[[Incident], Incident], kind: ChangeKind, *, by: str, now: datetime
    ) -> Change | None:
        with self._writing() as connection:
            before = _incident(connection, number)
            stands = log.stands(connection, before.number)
            facts = stands[1] if stands else None
            after = change(before)
            if after == before:
                return None
            written = log.write(connection, before, after, facts, kind=kind, by=by, at=now)
        self.publish()
        return written


def _found(query: sa.Select[Any], wanted: Wanted) -> sa.Select[Any]:
    table = log.incidents.c
    query = query.where(table.merged_into.is_(None))
    if wanted.statuses:
        query = query.where(table.status.in_([status.value for status in wanted.statuses]))
    if wanted.severities:
        query = query.where(table.severity.in_([severity.rank for severity in wanted.severities]))
    if wanted.classification is not None:
        query = query.where(table.classification == wanted.classification.value)
    if wanted.owner is not None:
        query = query.where(table.owner == wanted.owner)
    if wanted.since is not None:
        query = query.where(table.last_activity >= wanted.since)
    if wanted.until is not None:
        query = query.where(table.last_activity < wanted.until)
    if wanted.text:
        query = query.where(sa.func.lower(table.title).contains(wanted.text.lower(), autoescape=True))
    name = log.names.c
    for kind, value in ((log.LABEL, wanted.label.lower()), (log.RULE, wanted.rule)):
        if value:
            named = sa.select(name.number).where(name.value == value, name.kind == kind)
            query = query.where(table.number.in_(named))
    if wanted.entity:
        named = sa.select(name.number).where(
            name.value == log.key(wanted.entity), name.kind.not_in([log.LABEL, log.RULE])
        )
        query = query.where(table.number.in_(named))
    return query


def _incident(connection: sa.Connection, number: int) -> Incident:
    """The incident of this number or the one it went into, however many steps away."""
    asked = number
    while (stands := log.stands(connection, number)) is not None:
        incident, _ = stands
        if incident.merged_into is None:
            return incident
        number = incident.merged_into
    raise NotFoundError(f"no incident {asked}", hint="`trailhawk incidents list` shows them all")


def _commented(incident: Incident, text: str, by: str, now: datetime) -> Incident:
    place = max((comment.id for comment in incident.comments), default=0) + 1
    return replace(incident, comments=(*incident.comments, Comment(place, now, by, text)))


def _alerts_named(incident: Incident, alert_ids: Iterable[str]) -> list[str]:
    """The incident's alerts of these ids, or of beginnings of ids that only one of them has."""
    found: list[str] = []
    for wanted in alert_ids:
        named = [alert_id for alert_id in incident.alert_ids if alert_id.startswith(wanted) and wanted]
        exact = [alert_id for alert_id in named if alert_id == wanted] or named
        if len(exact) != 1:
            what = "no alert" if not exact else "more than one alert"
            raise UsageError(
                f"incident {incident.number} has {what} '{wanted}'",
                hint=f"`trailhawk incidents show {incident.number} --format json` has their ids",
            )
        found.append(exact[0])
    found = list(dict.fromkeys(found))
    if not found or len(found) == len(incident.alert_ids):
        raise UsageError(
            "a split leaves some alerts on either side", hint=f"there are {len(incident.alert_ids)} alerts"
        )
    return found


def _text(name: str, text: str, most: int) -> str:
    text = text.strip()
    if len(text) > most:
        raise UsageError(f"the {name} is longer than {most:,} characters")
    if "\0" in text:
        raise UsageError(f"the {name} holds a NUL character")
    return text


def _labels(labels: Iterable[str]) -> list[str]:
    found = [_text("label", label, MAX_LABEL) for label in labels]
    if not all(found):
        raise UsageError("a label is no empty text")
    return list({label.lower(): label for label in found}.values())


def _cursor(connection: sa.Connection, name: str) -> int:
    query = sa.select(log.cursors.c.sequence).where(log.cursors.c.name == name)
    return connection.scalar(query) or 0


def _set_cursor(connection: sa.Connection, name: str, sequence: int) -> None:
    moved = connection.execute(
        sa.update(log.cursors).where(log.cursors.c.name == name).values(sequence=sequence)
    )
    if not moved.rowcount:
        connection.execute(sa.insert(log.cursors).values(name=name, sequence=sequence))


def makes_incident(alert: Alert, rule: Rule | None) -> bool:
    """As the rule says; where it says nothing, an Informational alert stays an alert."""
    if rule is not None and rule.create_incident is not None:
        return rule.create_incident
    return alert.severity is not Severity.INFORMATIONAL


def _with_lineage(
    alerts: Sequence[Alert], rules: Mapping[str, Rule], engine: Engine, now: datetime
) -> list[Linked]:
    """The alerts with their links; where their keys came from is looked up once for all of them."""
    asking = {alert.id: alert for alert in alerts if _asks(alert, rules)}
    keys = sorted({key for alert in asking.values() for key in alert.values(AWS_ACCESS_KEY)})
    found: dict[str, Issue] = {}
    if keys:
        start = min(alert.started_at for alert in asking.values())
        end = max(alert.ended_at for alert in asking.values()) + SECOND
        found = {issue.key: issue for issue in issues(engine, keys, start=start, end=end, now=now)}
    return [
        linked(alert, rules.get(alert.rule_id), _chain(alert, found) if alert.id in asking else ())
        for alert in alerts
    ]


def _asks(alert: Alert, rules: Mapping[str, Rule]) -> bool:
    """Whether an alert has keys, and where they came from counts for its grouping."""
    rule = rules.get(alert.rule_id)
    return (rule is None or rule.grouping is None) and bool(alert.values(AWS_ACCESS_KEY))


def _chain(alert: Alert, found: Mapping[str, Issue]) -> list[Issue]:
    """The calls that issued an alert's keys, the keys of their callers, and so on upwards."""
    chain: dict[str, Issue] = {}
    wanted = list(alert.values(AWS_ACCESS_KEY))
    while wanted:
        issue = found.get(wanted.pop())
        if issue is not None and issue.key not in chain:
            chain[issue.key] = issue
            wanted.append(issue.caller_key)
    return list(chain.values())
