"""Alerts put into incidents, inside one transaction: what `grouping.groups` says, piece by piece.

A new alert reads only the incidents that it joins. Where a late alert comes between those of Sentinel's
grouping, the incidents after it are cut anew, as far as its coming matters; what somebody has closed, merged
or split, and what is full, stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from trailhawk.detect.alert import Alert
from trailhawk.detect.store import AlertStore
from trailhawk.incidents import log
from trailhawk.incidents.change import GROUPING, Change, ChangeKind
from trailhawk.incidents.grouping import MAX_ALERTS, WITHIN, Link, Linked, LinkKind
from trailhawk.incidents.incident import Facts, Incident, Status, joined, made_of, merged, reopened

_PAGE = 500
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class _Held:
    """An incident while alerts are being placed: as it stood, and what has come to it."""

    number: int
    before: Incident | None
    facts: Facts | None
    at: datetime | None = None
    """T of the newest alert that came; of the one that made others move, where none came."""
    grown: bool = False
    regrouped: bool = False
    absorbed: list[int] = field(default_factory=list)
    into: int | None = None

    @property
    def is_closed(self) -> bool:
        return self.before is not None and self.before.status is Status.CLOSED

    @property
    def alerts(self) -> int:
        return len(self.facts.alerts) if self.facts else 0

    def touch(self, at: datetime) -> None:
        self.at = at if self.at is None else max(self.at, at)

    def add(self, facts: Facts) -> None:
        self.facts = facts if self.facts is None else joined([self.facts, facts])


class Placing:
    """Alerts on their way into incidents. `finish` writes what came of all of them, one change each."""

    def __init__(self, connection: sa.Connection, alerts: AlertStore) -> None:
        self._connection = connection
        self._alerts = alerts
        self._held: dict[int, _Held] = {}
        self._next: int | None = None

    # Alerts come

    def place(self, alert: Alert, each: Linked) -> None:
        """Put an alert where it belongs; one that is in an incident may join it with others by new links."""
        number = self._connection.scalar(
            sa.select(log.members.c.number).where(log.members.c.alert_id == alert.id)
        )
        if number is not None:
            self._link_again(alert, each, number)
        elif each.lookback is not None:
            self._place_by_rule(alert, each, each.links[0].text, each.lookback)
        else:
            self._come(alert, each, self._together(_joined_numbers(self._connection, each), alert.at))

    def _come(self, alert: Alert, each: Linked, number: int | None) -> None:
        held = self._begun() if number is None else self._hold(number)
        _add_member(self._connection, each, held.number)
        held.add(Facts.of(alert))
        held.grown = True
        held.touch(alert.at)

    def _link_again(self, alert: Alert, each: Linked, number: int) -> None:
        """An alert that comes twice is as one that came once; but its lineage may be known better now."""
        if each.lookback is not None:
            return
        query = sa.select(log.links.c.link, log.links.c.kind).where(log.links.c.alert_id == alert.id)
        known = {Link(text, LinkKind(kind)) for text, kind in self._connection.execute(query)}
        new = [link for link in each.links if Link(log.key(link.text), link.kind) not in known]
        # Of an alert that a rule's own grouping has placed the links are none of ours.
        if not new or any(link.kind is LinkKind.RULE for link in known):
            return
        _add_links(self._connection, alert.id, new)
        numbers = _joined_numbers(self._connection, each)
        self._together(numbers | {number: numbers.get(number, 0)}, alert.at)

    # Our own grouping

    def _together(self, numbers: dict[int, int], at: datetime) -> int | None:
        """The one incident that these are from now on; None for none. Those that were split stay apart.

        The numbers come with how many of their alerts are joined with the new one.
        """
        if not numbers:
            return None
        pairs = log.apart_pairs(self._connection, numbers) if len(numbers) > 1 else set()
        chosen: list[int] = []
        for number in sorted(numbers, key=lambda number: (-numbers[number], number)):
            if all(frozenset((number, other)) not in pairs for other in chosen):
                chosen.append(number)
        number = min(chosen)
        for other in sorted(chosen):
            if other != number:
                self.absorb(other, number, at)
        return number

    def absorb(self, gone: int, into: int, at: datetime) -> None:
        """Put all alerts of an incident into another."""
        source, target = self._hold(gone), self._hold(into)
        if source.facts is not None:
            target.add(source.facts)
        self._connection.execute(
            sa.update(log.members).where(log.members.c.number == gone).values(number=into)
        )
        log.set_together(self._connection, gone, into)
        target.absorbed += [gone, *source.absorbed]
        for number in target.absorbed:
            self._hold(number).into = into
        source.absorbed = []
        for held in (source, target):
            held.touch(at)

    # Sentinel's grouping

    def _place_by_rule(self, alert: Alert, each: Linked, key: str, lookback: timedelta) -> None:
        number = self._open_block(each, key, lookback)
        if number is not None:
            self._come(alert, each, number)
            return
        blocks, seen = self._cut(each, key, lookback)
        taken: set[int] = set()
        for place, block in enumerate(blocks):
            number = next((n for _, n in block if n not in taken), None)
            held = self._begun() if number is None else self._hold(number)
            taken.add(held.number)
            if place == 0:
                _add_member(self._connection, each, held.number)
                held.grown = True
            moving = [alert_id for alert_id, old in block if old != held.number]
            log.moved(self._connection, moving, held.number)
            self._rebuild(held, alert.at)
            for old in {old for _, old in block} - {held.number}:
                self._rebuild(self._hold(old), alert.at)
        for number in seen - taken:
            # Its alerts have all gone elsewhere: it points to where the first of them went.
            first = next(alert_id for block in blocks for alert_id, old in block if old == number)
            self._hold(number).into = self._number_of(first)

    def _open_block(self, each: Linked, key: str, lookback: timedelta) -> int | None:
        """The incident whose time, from its first alert, holds this one, and that can take it."""
        of_rule = (
            sa.select(log.members.c.number, sa.func.min(log.members.c.at).label("first"))
            .join(log.links, log.links.c.alert_id == log.members.c.alert_id)
            .where(log.links.c.link == key, log.links.c.kind == LinkKind.RULE.value)
            .group_by(log.members.c.number)
        )
        near = of_rule.where(log.members.c.at >= each.at - lookback, log.members.c.at <= each.at)
        numbers = [number for number, _ in self._connection.execute(near)]
        firsts = [
            (first, number)
            for some in log.chunks(numbers)
            for number, first in self._connection.execute(of_rule.where(log.members.c.number.in_(some)))
            if first <= each.at <= first + lookback
        ]
        number: int
        for _, number in sorted(firsts, reverse=True):
            held = self._hold(number)
            if held.alerts < MAX_ALERTS and (each.reopens or not held.is_closed):
                return number
        return None

    def _cut(
        self, each: Linked, key: str, lookback: timedelta
    ) -> tuple[list[list[tuple[str, int]]], set[int]]:
        """The incidents that begin with this alert, as alert ids with the numbers they have had; and these.

        It goes on until an incident begins with the alert that it has always begun with.
        """
        block: list[tuple[str, int]] = []
        blocks, first, seen = [block], each.at, set[int]()
        size = 1
        for alert_id, number, at in self._later(each.at, key):
            if self._is_settled(number):
                continue
            if at > first + lookback or size >= MAX_ALERTS:
                if number not in seen:
                    break
                block, first, size = [], at, 0
                blocks.append(block)
            block.append((alert_id, number))
            seen.add(number)
            size += 1
        return blocks, seen

    def _later(self, at: datetime, key: str) -> Iterator[tuple[str, int, datetime]]:
        """The alerts of a rule's key after this moment with their incidents, read as they are wanted."""
        place = (at, "")
        while True:
            after = sa.or_(
                log.members.c.at > place[0],
                sa.and_(log.members.c.at == place[0], log.members.c.alert_id > place[1]),
            )
            query = (
                sa.select(log.members.c.alert_id, log.members.c.number, log.members.c.at)
                .join(log.links, log.links.c.alert_id == log.members.c.alert_id)
                .where(log.links.c.link == key, log.links.c.kind == LinkKind.RULE.value, after)
                .order_by(log.members.c.at, log.members.c.alert_id)
                .limit(_PAGE)
            )
            rows = self._connection.execute(query).all()
            yield from ((row.alert_id, row.number, row.at) for row in rows)
            if len(rows) < _PAGE:
                return
            place = (rows[-1].at, rows[-1].alert_id)

    def _is_settled(self, number: int) -> bool:
        """Whether the alerts of an incident stay where they are."""
        held = self._hold(number)
        return (
            held.is_closed
            or held.alerts >= MAX_ALERTS
            or (held.before is not None and held.before.shaped_by_hand)
        )

    def _rebuild(self, held: _Held, at: datetime) -> None:
        """What follows from the alerts that an incident has now."""
        ids = self._connection.scalars(
            sa.select(log.members.c.alert_id).where(log.members.c.number == held.number)
        ).all()
        found = [Facts.of(alert) for some in log.chunks(ids) for alert in self._stored(some)]
        held.facts = joined(found) if found else None
        held.regrouped = True
        held.touch(at)

    def _stored(self, ids: Sequence[str]) -> Sequence[Alert]:
        return self._alerts.stored(self._connection, ids)

    def _number_of(self, alert_id: str) -> int:
        query = sa.select(log.members.c.number).where(log.members.c.alert_id == alert_id)
        number: int = self._connection.execute(query).scalar_one()
        return number

    # By hand

    def take_out(self, number: int, alert_ids: Sequence[str], at: datetime) -> int:
        """Put some of an incident's alerts into a new one; its number."""
        source, made = self._hold(number), self._begun()
        log.moved(self._connection, alert_ids, made.number)
        for pair in log.apart_pairs(self._connection, [number]):
            (other,) = pair - {number}
            log.set_apart(self._connection, made.number, other)
        log.set_apart(self._connection, number, made.number)
        self._rebuild(source, at)
        self._rebuild(made, at)
        return made.number

    # What came of it

    def finish(self, *, by: str = GROUPING, at: datetime | None = None) -> tuple[Change, ...]:
        """Write the changes; `by` somebody else than the grouping they are made by hand, at this moment."""
        found = []
        is_by_hand = by != GROUPING
        for held in sorted(self._held.values(), key=lambda held: held.number):
            if held.at is None or held.into is not None or held.facts is None:
                continue
            absorbed = [self._held[number].before for number in held.absorbed]
            others = [incident for incident in absorbed if incident is not None]
            kind = _kind(held, others, is_by_hand)
            if kind is None:
                continue
            after = _after(held, others, held.facts)
            found.append(
                log.write(
                    self._connection,
                    held.before,
                    replace(after, shaped_by_hand=after.shaped_by_hand or is_by_hand),
                    held.facts,
                    kind=kind,
                    by=by,
                    at=at or held.at,
                    others=self._others(held, others, is_by_hand),
                )
            )
        for held in sorted(self._held.values(), key=lambda held: held.number):
            if held.into is not None and held.before is not None and held.at is not None:
                found.append(self._write_away(held, held.before, held.into, by, at or held.at))
        self._held.clear()
        return tuple(found)

    def _others(self, held: _Held, absorbed: Iterable[Incident], is_by_hand: bool) -> list[int]:
        """The incidents that a change is also about."""
        if is_by_hand and held.regrouped:
            return [other.number for other in self._held.values() if other is not held]
        return [incident.number for incident in absorbed]

    def _write_away(self, held: _Held, before: Incident, into: int, by: str, at: datetime) -> Change:
        moment = max(at, before.modified_at + _MICROSECOND)
        after = replace(
            before,
            status=Status.CLOSED,
            closed_at=before.closed_at or moment,
            merged_into=into,
            alert_ids=(),
            entities=(),
        )
        kind = ChangeKind.MERGED_AWAY
        return log.write(self._connection, before, after, None, kind=kind, by=by, at=at, others=[into])

    def _hold(self, number: int) -> _Held:
        if number not in self._held:
            before, facts = log.stands(self._connection, number) or (None, None)
            self._held[number] = _Held(number, before, facts)
        return self._held[number]

    def _begun(self) -> _Held:
        """A new incident."""
        if self._next is None:
            self._next = log.next_number(self._connection)
        held = self._held[self._next] = _Held(self._next, None, None)
        self._next += 1
        return held


def _kind(held: _Held, absorbed: Sequence[Incident], is_by_hand: bool) -> ChangeKind | None:
    """What happened to an incident; None for nothing."""
    if held.before is None:
        return ChangeKind.CREATED
    if absorbed:
        return ChangeKind.MERGED
    if held.grown and held.is_closed:
        return ChangeKind.REOPENED
    if held.grown:
        return ChangeKind.ALERTS_ADDED
    if held.regrouped:
        return ChangeKind.SPLIT if is_by_hand else ChangeKind.REGROUPED
    return None


def _after(held: _Held, absorbed: Sequence[Incident], facts: Facts) -> Incident:
    if held.before is None:
        made = made_of(held.number, facts)
        return merged(made, absorbed, facts) if absorbed else made
    after = merged(held.before, absorbed, facts) if absorbed else held.before.with_facts(facts)
    if held.grown and after.status is Status.CLOSED:
        after = reopened(after)
    return after


def _joined_numbers(connection: sa.Connection, each: Linked) -> dict[int, int]:
    """The incidents that hold alerts joined with this one, with the number of these."""
    principals = sorted({log.key(link.text) for link in each.links if link.kind is LinkKind.PRINCIPAL})
    own = sorted({log.key(link.text) for link in each.links if link.kind is not LinkKind.PRINCIPAL})
    if not principals and not own:
        return {}
    link = log.links.c
    shared = sa.or_(
        link.link.in_(own), sa.and_(link.link.in_(principals), link.kind != LinkKind.PRINCIPAL.value)
    )
    query = (
        sa.select(log.members.c.number, sa.func.count(sa.distinct(log.members.c.alert_id)))
        .join(log.links, link.alert_id == log.members.c.alert_id)
        .where(
            shared,
            log.members.c.lookback.is_(None),
            log.members.c.started_at <= each.ended_at + WITHIN,
            log.members.c.ended_at >= each.started_at - WITHIN,
        )
        .group_by(log.members.c.number)
    )
    return {int(number): int(count) for number, count in connection.execute(query)}


def _add_member(connection: sa.Connection, each: Linked, number: int) -> None:
    connection.execute(
        sa.insert(log.members),
        {
            "alert_id": each.alert_id,
            "number": number,
            "started_at": each.started_at,
            "ended_at": each.ended_at,
            "at": each.at,
            "lookback": None if each.lookback is None else each.lookback // _MICROSECOND,
        },
    )
    _add_links(connection, each.alert_id, each.links)


def _add_links(connection: sa.Connection, alert_id: str, links: Iterable[Link]) -> None:
    keys = sorted({(log.key(link.text), link.kind.value) for link in links})
    rows = [{"alert_id": alert_id, "link": text, "kind": kind} for text, kind in keys]
    if rows:
        connection.execute(sa.insert(log.links), rows)
