"""The log of changes: put together as it was, followed from a cursor, and inside of the process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import entity
from trailhawk.incidents.change import GROUPING, Change, ChangeKind
from trailhawk.incidents.incident import Classification, Closing

Raised = Callable[..., Alert]
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def key(number: int) -> Any:
    return entity("AwsAccessKey", Id=f"ASIA{number}")


def busy(desk: Any, raised: Raised) -> None:
    """Some of everything."""
    desk.raise_(raised("a", key(1)), raised("b", key(2)))
    desk.incidents.comment(1, "one", by="ana", now=NOW)
    desk.raise_(raised("c", key(1), entity("IP", Address="192.0.2.1"), minutes=5))
    desk.raise_(raised("d", key(1), key(2), minutes=6))
    desk.incidents.split(1, ["a"], by="ana", now=NOW)
    desk.incidents.close(1, Closing.of(Classification.TRUE_POSITIVE), by="ana", now=NOW)


def test_each_change_tells_how_it_stood_before_and_after(desk: Any, raised: Raised) -> None:
    busy(desk, raised)
    changes = desk.incidents.changes_since(0)
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    last: dict[int, Any] = {}
    for change in changes:
        assert change.before == last.get(change.number)
        last[change.number] = change.after
    for incident in desk.incidents.all():
        assert last[incident.number] == incident
    assert [(c.kind, c.is_automatic) for c in changes] == [
        (ChangeKind.CREATED, True),
        (ChangeKind.CREATED, True),
        (ChangeKind.COMMENTED, False),
        (ChangeKind.ALERTS_ADDED, True),
        (ChangeKind.MERGED, True),
        (ChangeKind.MERGED_AWAY, True),
        (ChangeKind.SPLIT, False),
        (ChangeKind.CREATED, False),
        (ChangeKind.CLOSED, False),
    ]
    # The same, whatever part of the log is read.
    for after in range(len(changes)):
        assert desk.incidents.changes_since(after, limit=2) == changes[after : after + 2]


def test_a_reader_has_each_change_once(desk: Any, raised: Raised) -> None:
    notes = sa.Table("notes", sa.MetaData(), sa.Column("sequence", sa.Integer))
    notes.create(desk.alerts.engine)
    busy(desk, raised)

    def handle(connection: sa.Connection, change: Change) -> None:
        connection.execute(sa.insert(notes).values(sequence=change.sequence))
        if change.kind is ChangeKind.SPLIT and fails:
            raise RuntimeError("not now")

    fails = True
    with pytest.raises(RuntimeError):
        desk.incidents.consume("automation", handle)
    assert desk.incidents.cursor("automation") == 6
    fails = False
    assert desk.incidents.consume("automation", handle) == 3
    assert desk.incidents.consume("automation", handle) == 0
    with desk.alerts.engine.connect() as connection:
        assert connection.scalars(sa.select(notes.c.sequence)).all() == list(range(1, 10))
    desk.incidents.begin_at_the_end("late")
    assert desk.incidents.consume("late", handle) == 0
    desk.incidents.begin_at_the_end("automation")
    assert desk.incidents.cursor("automation") == 9


def test_who_subscribed_is_told_of_what_comes(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("a", key(1)))
    heard: list[tuple[int, ChangeKind, str]] = []

    def listen(change: Change) -> None:
        heard.append((change.number, change.kind, change.by))
        if change.kind is ChangeKind.CREATED:
            desk.incidents.set(change.number, by="automation", now=NOW, owner="bo")

    desk.incidents.subscribe(listen)
    desk.incidents.publish()
    assert heard == []
    desk.raise_(raised("b", key(2)))
    assert heard == []
    desk.incidents.publish()
    desk.incidents.comment(1, "seen", by="ana", now=NOW)
    assert heard == [
        (2, ChangeKind.CREATED, GROUPING),
        (2, ChangeKind.UPDATED, "automation"),
        (1, ChangeKind.COMMENTED, "ana"),
    ]


def test_what_a_reader_changes_is_done_with_its_cursor_or_not_at_all(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("a", key(1)))
    store, fails = desk.incidents, True

    def automate(_: sa.Connection, change: Change) -> None:
        if change.by == "rule":
            return
        store.set(change.number, by="rule", now=NOW, owner="bo")
        # The next rule sees what this one has done.
        assert store.incident(change.number).owner == "bo"
        store.add_task(change.number, "call bo", by="rule", now=NOW)
        if fails:
            raise RuntimeError("not now")

    heard: list[str] = []
    store.subscribe(lambda change: heard.append(change.by))
    with pytest.raises(RuntimeError):
        store.consume("automation", automate)
    assert (store.cursor("automation"), store.incident(1).owner, heard) == (0, "", [])
    fails = False
    assert store.consume("automation", automate) == 1
    assert store.consume("automation", automate) == 2
    assert store.consume("automation", automate) == 0
    assert [task.title for task in store.incident(1).tasks] == ["call bo"]
    assert heard == ["rule", "rule"]


def test_a_reader_that_began_before_anything_happened_misses_nothing(desk: Any, raised: Raised) -> None:
    desk.incidents.begin_at_the_end("mailer")
    desk.raise_(raised("a", key(1)))
    desk.incidents.begin_at_the_end("mailer")  # as after a restart
    assert desk.incidents.consume("mailer", lambda _, change: None) == 1
