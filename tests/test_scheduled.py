"""Rules of a home run by the schedule: from a log file to alert, incident and the table SecurityAlert."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trailhawk.detect.scheduler import Round
from trailhawk.errors import RuleError
from trailhawk.workspace import Workspace

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
RULE = """
id: 6d0d2f0e-0000-4000-8000-000000000001
name: A hand is waved
kind: Scheduled
severity: High
queryFrequency: 1h
queryPeriod: 1h
query: AwsCalls | where EventName == "WaveHand" | project TimeGenerated, Principal, EventIds = EventId
entityMappings:
  - entityType: AwsPrincipal
    fieldMappings: [{identifier: Arn, columnName: Principal}]
customDetails: {EventIds: EventIds}
"""


def test_the_schedule_raises_an_incident_once(tmp_path: Path) -> None:
    now = START
    home = tmp_path / "home"
    (home / "rules").mkdir(parents=True)
    (home / "rules" / "stop.yaml").write_text(RULE)
    (home / "rules" / "broken.yaml").write_text("id: [")
    workspace = Workspace.open(home, clock=lambda: now)
    record = {
        "eventVersion": "1.11",
        "eventID": "0a4b3c2d-0000-4000-8000-000000000001",
        "eventTime": "2026-03-02T09:45:00Z",
        "eventSource": "example.amazonaws.com",
        "eventName": "WaveHand",
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/ana"},
    }
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"Records": [record]}))
    workspace.ingest([log], lambda _: None)
    told: list[RuleError] = []

    def due() -> Round:
        return workspace.run_due_rules(fault=told.append)

    assert due().alerts == ()
    now = START + timedelta(hours=1)
    (alert,) = due().alerts
    assert (alert.name, alert.at) == ("A hand is waved", datetime(2026, 3, 2, 10, tzinfo=UTC))
    assert [error.message.split(":")[0] for error in told] == ["broken.yaml"] * 2
    (incident,) = workspace.incidents.all()
    assert incident.severity.value == "High"
    now += timedelta(minutes=1)
    assert due().alerts == ()
    assert workspace.query("SecurityAlert | count", now=now).rows() == [{"Count": 1}]
