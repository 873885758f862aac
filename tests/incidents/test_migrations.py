"""A home of the first version: its incidents are there, its log too, and they go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import entity
from trailhawk.detect.migrate import bring_up
from trailhawk.detect.store import AlertStore, open_state, sqlite_url
from trailhawk.errors import StateError
from trailhawk.incidents import log
from trailhawk.incidents.change import ChangeKind
from trailhawk.incidents.incident import Status
from trailhawk.incidents.store import IncidentStore

Raised = Callable[..., Alert]
KEYS = [entity("AwsAccessKey", Id=f"ASIA{n}") for n in range(3)]


def moment(alert: Alert) -> str:
    return alert.at.isoformat().replace("+00:00", "Z")


def body(number: int, alerts: list[Alert], **more: object) -> bytes:
    """An incident as the first version wrote it."""
    return json.dumps(
        {
            "number": number,
            "title": alerts[0].name,
            "description": "as it was",
            "severity": "Low",
            "status": "New",
            "created_at": moment(alerts[0]),
            "modified_at": moment(alerts[-1]),
            "first_activity": alerts[0].started_at.isoformat(),
            "last_activity": alerts[-1].ended_at.isoformat(),
            "alert_ids": [alert.id for alert in alerts],
            "rule_ids": ["r"],
            "rule_names": ["The rule r"],
            "entities": [
                {"type": each.type, "identifiers": [list(one) for one in each.identifiers]}
                for each in dict.fromkeys(each for alert in alerts for each in alert.entities)
            ],
            "tactics": ["Collection"],
            "techniques": ["T1530"],
            "merged_into": None,
            **more,
        }
    ).encode()


def first_version(engine: sa.Engine, alerts: list[Alert]) -> None:
    """Alerts a and b in incident 1, c in 2, which went into 1 by d."""
    store = AlertStore(engine)
    a, b, c, d = alerts
    changes = [
        (1, a, body(1, [a])),
        (1, b, body(1, [a, b])),
        (2, c, body(2, [c])),
        (1, d, body(1, [a, b, c, d])),
        (2, d, body(2, [c], status="Closed", merged_into=1)),
    ]
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS schema_versions")
        connection.exec_driver_sql(
            "CREATE TABLE incident_changes (sequence INTEGER PRIMARY KEY, number INTEGER NOT NULL,"
            " modified_at BIGINT NOT NULL, body BLOB NOT NULL)"
        )
        log.members.create(connection, checkfirst=True)
        log.links.create(connection, checkfirst=True)
        store.record(connection, [], alerts)
        for sequence, (number, alert, text) in enumerate(changes, 1):
            at = int(alert.at.timestamp() * 1e6)
            connection.exec_driver_sql(
                "INSERT INTO incident_changes VALUES (?, ?, ?, ?)", (sequence, number, at, text)
            )
        for alert in alerts:
            times = {"started_at": alert.started_at, "ended_at": alert.ended_at, "at": alert.at}
            connection.execute(sa.insert(log.members).values(alert_id=alert.id, number=1, **times))
            for each in alert.entities:
                link = {"alert_id": alert.id, "link": f"key:{each.value}", "kind": "own"}
                connection.execute(sa.insert(log.links).values(link))


@pytest.fixture
def old(tmp_path: Path, raised: Raised) -> Path:
    path = tmp_path / "state.db"
    engine = open_state(sqlite_url(path))
    one, two, _ = KEYS
    first_version(
        engine,
        [
            raised("a", one),
            raised("b", one, minutes=1),
            raised("c", two, minutes=2),
            raised("d", one, two, minutes=3),
        ],
    )
    engine.dispose()
    return path


def test_the_incidents_of_the_first_version(old: Path, raised: Raised) -> None:
    for _ in range(2):  # the second time nothing is left to do
        engine = open_state(sqlite_url(old))
        alerts = AlertStore(engine)
        store = IncidentStore(alerts)
        (incident,) = store.all()
        assert (incident.number, incident.title, incident.status) == (1, "Alert a", Status.NEW)
        assert incident.alert_ids == ("a", "b", "c", "d")
        assert incident.guid
        assert store.incident(2) == incident
        kinds = [(change.number, change.kind) for change in store.changes_since(0)]
        added, away = ChangeKind.ALERTS_ADDED, ChangeKind.MERGED_AWAY
        created = ChangeKind.CREATED
        assert kinds == [(1, created), (1, added), (2, created), (1, added), (2, away)]
        assert store.changes(1)[-1].alerts_added == ("c", "d")
        engine.dispose()
    engine = open_state(sqlite_url(old))
    alerts = AlertStore(engine)
    store = IncidentStore(alerts)
    later = raised("e", KEYS[1], minutes=9)
    from trailhawk.incidents.grouping import linked

    with engine.begin() as connection:
        alerts.record(connection, [], [later])
        store.add(connection, [later], [linked(later, None, [])])
    assert store.incident(1).alert_ids == ("a", "b", "c", "d", "e")
    assert [found.number for found in store.found(wanted("ASIA1"))] == [1]
    engine.dispose()


def wanted(value: str) -> Any:
    from trailhawk.incidents.store import Wanted

    return Wanted(entity=value)


def test_one_that_may_only_be_read_says_what_to_do(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as a user whom no file's mode stops.
    monkeypatch.setattr("trailhawk.detect.store._cannot_be_written", lambda _: True)
    engine = open_state(sqlite_url(old))
    with pytest.raises(StateError, match="earlier version and may only be read here"):
        IncidentStore(AlertStore(engine))
    engine.dispose()


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    engine = open_state(sqlite_url(tmp_path / "state.db"))
    bring_up(engine, "room", [], [lambda _: None, lambda _: None], began_as="none")
    with pytest.raises(StateError, match="later version"):
        bring_up(engine, "room", [], [lambda _: None], began_as="none")
    engine.dispose()


def test_steps_are_taken_once_and_in_order(tmp_path: Path) -> None:
    engine = open_state(sqlite_url(tmp_path / "state.db"))
    taken: list[int] = []
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE old (n INTEGER)")
    steps = [lambda _: taken.append(1), lambda _: taken.append(2)]
    bring_up(engine, "room", [], steps, began_as="old")
    bring_up(engine, "room", [], [*steps, lambda _: taken.append(3)], began_as="old")
    bring_up(engine, "new room", [], steps, began_as="none")
    assert taken == [1, 2, 3]
    engine.dispose()
