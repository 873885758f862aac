"""Incidents in the state database: they grow, they merge, and nothing comes twice."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from support.alerts import AT, alert
from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import Entity, entity
from trailhawk.detect.rule import Severity
from trailhawk.detect.store import AlertStore, open_state, sqlite_url
from trailhawk.errors import NotFoundError
from trailhawk.incidents.grouping import linked
from trailhawk.incidents.incident import Status
from trailhawk.incidents.store import IncidentStore


def key(number: int) -> Entity:
    return entity("AwsAccessKey", Id=f"ASIA{number}")


@pytest.fixture
def alerts(tmp_path: Path) -> AlertStore:
    return AlertStore(open_state(sqlite_url(tmp_path / "state.db")))


def raise_all(alerts: AlertStore, incidents: IncidentStore, *raised: Alert) -> None:
    """As `detect` does: alerts and incidents in one transaction."""
    for each in raised:
        with alerts.engine.begin() as connection:
            new = alerts.new_alerts(connection, [each])
            alerts.record(connection, [], new)
            incidents.add(connection, [each], [linked(each, None, [])])


def test_an_alert_becomes_an_incident(alerts: AlertStore) -> None:
    incidents = IncidentStore(alerts)
    raise_all(alerts, incidents, alert("a", key(1), severity=Severity.HIGH))
    (incident,) = incidents.all()
    assert (incident.number, incident.title, incident.severity) == (1, "Alert a", Severity.HIGH)
    assert (incident.status, incident.created_at) == (Status.NEW, AT)
    assert incident.values("AwsAccessKey") == ("ASIA1",)
    assert incidents.incident(1) == incident
    assert incidents.alerts_of(incident) == (alert("a", key(1), severity=Severity.HIGH),)


def test_a_graver_alert_gives_the_incident_its_title(alerts: AlertStore) -> None:
    incidents = IncidentStore(alerts)
    raise_all(alerts, incidents, alert("a", key(1)), alert("b", key(1), minutes=60, severity=Severity.HIGH))
    (incident,) = incidents.all()
    assert (incident.title, incident.severity) == ("Alert b", Severity.HIGH)
    assert incident.alert_ids == ("a", "b")
    assert [change.after.title for change in incidents.changes(1)] == ["Alert a", "Alert b"]


def test_the_same_alert_again_changes_nothing(alerts: AlertStore) -> None:
    incidents = IncidentStore(alerts)
    raise_all(alerts, incidents, alert("a", key(1)), alert("a", key(1)))
    assert len(incidents.changes(1)) == 1


def test_an_alert_between_two_incidents_makes_them_one(alerts: AlertStore) -> None:
    incidents = IncidentStore(alerts)
    raise_all(alerts, incidents, alert("a", key(1)), alert("b", key(2)), alert("c", key(1), key(2)))
    (incident,) = incidents.all()
    assert incident.number == 1
    assert set(incident.alert_ids) == {"a", "b", "c"}
    assert incidents.incident(2) == incident
    assert incidents.changes(2)[-1].after.status is Status.CLOSED


def test_the_order_of_alerts_does_not_change_what_is_together(tmp_path: Path) -> None:
    chain = [
        alert("a", key(1)),
        alert("b", key(1), key(2), minutes=120),
        alert("c", key(2), minutes=240),
        alert("d", key(9)),
    ]
    for number, order in enumerate(permutations(chain)):
        store = AlertStore(open_state(sqlite_url(tmp_path / f"{number}.db")))
        incidents = IncidentStore(store)
        raise_all(store, incidents, *order)
        together = {frozenset(incident.alert_ids) for incident in incidents.all()}
        assert together == {frozenset("abc"), frozenset("d")}


def test_an_unknown_number_is_told(alerts: AlertStore) -> None:
    with pytest.raises(NotFoundError, match="no incident 7"):
        IncidentStore(alerts).incident(7)
