"""What people do to incidents: it is kept with who and when, and stays when alerts come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import Entity, entity
from trailhawk.detect.rule import Severity
from trailhawk.errors import NotFoundError, UsageError
from trailhawk.incidents.change import ChangeKind, told
from trailhawk.incidents.incident import MAX_COMMENTS, Classification, Closing, Reason, Status

Raised = Callable[..., Alert]
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def key(number: int) -> Entity:
    return entity("AwsAccessKey", Id=f"ASIA{number}")


def test_what_is_set_stays_when_alerts_come(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("a", key(1)))
    change = desk.incidents.set(
        1,
        by="ana",
        now=NOW,
        status=Status.ACTIVE,
        severity=Severity.INFORMATIONAL,
        owner="ana",
        title="Ours",
        add_labels=["Exercise", "exercise", "red"],
    )
    assert change.fields == {"status", "severity", "owner", "title", "labels"}
    assert (change.by, change.at, change.kind) == ("ana", NOW, ChangeKind.UPDATED)
    desk.raise_(raised("b", key(1), minutes=5, severity=Severity.HIGH))
    incident = desk.incidents.incident(1)
    assert incident.alert_ids == ("a", "b")
    assert (incident.title, incident.severity, incident.owner) == ("Ours", Severity.INFORMATIONAL, "ana")
    assert (incident.labels, incident.status) == (("exercise", "red"), Status.ACTIVE)
    assert incident.description == "About b"
    assert incident.first_modified_at == NOW
    assert desk.incidents.set(1, by="ana", now=NOW, owner="ana") is None
    desk.incidents.set(1, by="ana", now=NOW, remove_labels=["RED"], owner="")
    assert desk.incidents.incident(1).labels == ("exercise",)


def test_moments_of_an_incident_rise(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("a", key(1)))
    for text in ("one", "two", "three"):
        desk.incidents.comment(1, text, by="ana", now=NOW)
    desk.raise_(raised("b", key(1)))
    moments = [change.at for change in desk.incidents.changes(1)]
    assert moments == sorted(set(moments))
    assert len(moments) == 5


def test_closing_and_opening(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("a", key(1)))
    closing = Closing.of(Classification.FALSE_POSITIVE, Reason.INACCURATE_DATA, "a test")
    change = desk.incidents.close(1, closing, by="ana", now=NOW)
    assert told(change) == "status New -> Closed as FalsePositive, InaccurateData: a test"
    incident = desk.incidents.incident(1)
    assert (incident.closing, incident.closed_at) == (closing, NOW)
    assert desk.incidents.classifications() == {"a": "FalsePositive"}
    other = Closing.of(Classification.TRUE_POSITIVE)
    desk.incidents.close(1, other, by="ana", now=NOW + MINUTE)
    assert desk.incidents.incident(1).closed_at == NOW
    assert other.reason is Reason.SUSPICIOUS_ACTIVITY
    desk.incidents.reopen(1, by="bo", now=NOW + 2 * MINUTE)
    incident = desk.incidents.incident(1)
    assert (incident.status, incident.closing, incident.closed_at) == (Status.ACTIVE, None, None)
    assert desk.incidents.reopen(1, by="bo", now=NOW) is None
    assert desk.incidents.classifications() == {}


def test_a_new_alert_opens_a_closed_incident(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("a", key(1)))
    desk.incidents.close(1, Closing.of(Classification.UNDETERMINED), by="ana", now=NOW)
    desk.raise_(raised("a", key(1)))
    assert desk.incidents.incident(1).status is Status.CLOSED
    desk.raise_(raised("b", key(1)))
    incident = desk.incidents.incident(1)
    assert (incident.status, incident.closing) == (Status.ACTIVE, None)
    assert desk.incidents.changes(1)[-1].kind is ChangeKind.REOPENED


@pytest.mark.parametrize(
    ("classification", "reason"),
    [
        (Classification.FALSE_POSITIVE, None),
        (Classification.TRUE_POSITIVE, Reason.INACCURATE_DATA),
        (Classification.UNDETERMINED, Reason.SUSPICIOUS_ACTIVITY),
    ],
)
def test_a_reason_that_does_not_fit(classification: Classification, reason: Reason | None) -> None:
    with pytest.raises(UsageError, match="does not go with" if reason else "needs a reason"):
        Closing.of(classification, reason)


def test_comments_and_tasks(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("a", key(1)))
    desk.incidents.comment(1, " looks real\n", by="ana", now=NOW)
    desk.incidents.add_task(1, "rotate", description="the key", by="ana", now=NOW)
    desk.incidents.add_task(1, "tell them", by="bo", now=NOW)
    desk.incidents.set_task(1, 1, by="bo", now=NOW + MINUTE)
    incident = desk.incidents.incident(1)
    assert [(c.id, c.by, c.text) for c in incident.comments] == [(1, "ana", "looks real")]
    assert [(t.id, t.title, t.done_by) for t in incident.tasks] == [(1, "rotate", "bo"), (2, "tell them", "")]
    assert desk.incidents.set_task(1, 1, by="ana", now=NOW) is None
    desk.incidents.set_task(1, 1, by="ana", now=NOW, done=False)
    assert desk.incidents.incident(1).tasks[0].done_at is None
    said = [told(change) for change in desk.incidents.changes(1)]
    assert said == [
        "created; 1 alert added",
        "comment: looks real",
        "task 1 added: rotate",
        "task 2 added: tell them",
        "task 1 done: rotate",
        "task 1 open again: rotate",
    ]
    with pytest.raises(NotFoundError, match="no task 7"):
        desk.incidents.set_task(1, 7, by="ana", now=NOW)


def test_bounds(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("a", key(1)))
    with pytest.raises(UsageError, match="longer than 30,000"):
        desk.incidents.comment(1, "x" * 30_001, by="ana", now=NOW)
    with pytest.raises(UsageError, match="no empty text"):
        desk.incidents.comment(1, "  ", by="ana", now=NOW)
    with pytest.raises(UsageError, match="longer than 256"):
        desk.incidents.set(1, by="ana", now=NOW, title="x" * 257)
    with pytest.raises(UsageError, match="closed with a classification"):
        desk.incidents.set(1, by="ana", now=NOW, status=Status.CLOSED)
    with pytest.raises(NotFoundError, match="no incident 9"):
        desk.incidents.comment(9, "x", by="ana", now=NOW)
    for place in range(MAX_COMMENTS):
        desk.incidents.comment(1, f"{place}", by="ana", now=NOW)
    with pytest.raises(UsageError, match="100 comments at most"):
        desk.incidents.comment(1, "one more", by="ana", now=NOW)


def test_tasks_of_merged_incidents_that_differ_in_what_was_done_have_one_order(
    desk: Any, raised: Raised
) -> None:
    for number, name in enumerate("abc", 1):
        desk.raise_(raised(name, key(number)))
        desk.incidents.add_task(number, "look", by="ana", now=NOW)
        if number > 1:
            desk.incidents.set_task(number, 1, by=f"bo {number}", now=NOW)
    desk.incidents.merge(1, [3, 2], by="ana", now=NOW)
    assert [task.done_by for task in desk.incidents.incident(1).tasks] == ["", "bo 2", "bo 3"]


def test_merged_by_hand(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("a", key(1)))
    desk.raise_(raised("b", key(2), severity=Severity.HIGH))
    desk.raise_(raised("c", key(3)))
    desk.incidents.set(2, by="bo", now=NOW, owner="bo", title="The theft", add_labels=["x"])
    desk.incidents.comment(2, "mine", by="bo", now=NOW)
    change = desk.incidents.merge(1, [2, 3, 1], by="ana", now=NOW)
    assert (change.kind, change.others, change.by) == (ChangeKind.MERGED, (2, 3), "ana")
    assert change.alerts_added == ("b", "c")
    (incident,) = desk.incidents.all()
    assert incident.alert_ids == ("a", "b", "c")
    assert (incident.title, incident.owner, incident.labels) == ("The theft", "bo", ("x",))
    assert (incident.severity, incident.status) == (Severity.HIGH, Status.NEW)
    assert [comment.text for comment in incident.comments] == ["mine"]
    gone = desk.incidents.changes(2)[-1]
    assert (gone.kind, gone.others, gone.after.merged_into) == (ChangeKind.MERGED_AWAY, (1,), 1)
    assert gone.after.alert_ids == ()
    assert gone.alerts_removed == ("b",)
    assert desk.incidents.incident(3).number == 1
    desk.raise_(raised("d", key(3), minutes=1))
    assert desk.together() == {frozenset("abcd")}
    with pytest.raises(UsageError, match="nothing to merge"):
        desk.incidents.merge(1, [2], by="ana", now=NOW)


def test_what_was_split_stays_apart(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("a", key(1)), raised("b", key(1), key(2)), raised("c", key(2)))
    made = desk.incidents.split(1, ["c"], by="ana", now=NOW)
    assert (made.kind, made.number, made.others) == (ChangeKind.CREATED, 2, (1,))
    assert made.before is None
    source = desk.incidents.changes(1)[-1]
    assert (source.kind, source.others, source.alerts_removed) == (ChangeKind.SPLIT, (2,), ("c",))
    assert desk.together() == {frozenset("ab"), frozenset("c")}
    # A bridge goes where most of what it is joined with is, and leaves the other alone.
    desk.raise_(raised("d", key(1), key(2), minutes=1))
    assert desk.together() == {frozenset("abd"), frozenset("c")}
    desk.raise_(raised("e", key(5)), raised("f", key(5), key(2), minutes=2))
    assert frozenset("c") in desk.together()
    desk.incidents.merge(1, [2], by="ana", now=NOW)
    assert len(desk.together()) == 1


def test_what_cannot_be_split(desk: Any, raised: Raised) -> None:
    desk.raise_(raised("aa", key(1)), raised("ab", key(1)))
    for ids, message in (
        (["x"], "no alert 'x'"),
        (["a"], "more than one alert 'a'"),
        (["aa", "ab"], "some alerts on either side"),
        ([], "some alerts on either side"),
    ):
        with pytest.raises(UsageError, match=message):
            desk.incidents.split(1, ids, by="ana", now=NOW)


def test_the_alert_about_the_key_names_the_incident(desk: Any, raised: Raised) -> None:
    session = entity("AwsSession", Id="AROA:i-1")
    desk.raise_(raised("proxy", session, severity=Severity.HIGH))
    desk.raise_(raised("theft", session, key(1), minutes=90, severity=Severity.HIGH))
    desk.raise_(raised("light", session, key(1), minutes=30, severity=Severity.MEDIUM))
    assert desk.incidents.incident(1).title == "Alert theft"


def test_better_known_lineage_joins_later(desk: Any, raised: Raised) -> None:
    from trailhawk.incidents.grouping import Link, LinkKind, linked

    parent, child = raised("a", key(1)), raised("b", key(2))
    desk.raise_(parent, child)
    assert len(desk.together()) == 2
    plain = linked(child, None, [])
    better = type(plain)(
        plain.alert_id,
        plain.started_at,
        plain.ended_at,
        plain.at,
        (*plain.links, Link("key:ASIA1", LinkKind.LINEAGE)),
    )
    with desk.alerts.engine.begin() as connection:
        desk.incidents.add(connection, [child], [better])
    assert desk.together() == {frozenset("ab")}


def test_a_new_alert_reads_no_other_alert(desk: Any, raised: Raised, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.raise_(*(raised(f"a{n}", key(n % 3), minutes=n) for n in range(60)))

    def never(*_: object) -> None:
        raise AssertionError("an alert was read")

    monkeypatch.setattr(type(desk.alerts), "stored", staticmethod(never))
    statements: list[str] = []
    sa.event.listen(desk.alerts.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    desk.raise_(raised("b", key(0), key(1), minutes=61))
    assert len(desk.together()) == 2
    assert len(statements) < 40
