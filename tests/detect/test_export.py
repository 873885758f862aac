"""Alerts reach the lake once, and a query sees those that have and those that have not."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk.detect.content import rules
from trailhawk.detect.export import export_alerts
from trailhawk.workspace import Workspace

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def _record(place: int) -> dict[str, object]:
    return {
        "eventVersion": "1.11",
        "userIdentity": {"type": "IAMUser", "userName": "ann", "arn": "arn:aws:iam::111122223333:user/ann"},
        "eventTime": f"2026-01-01T0{place}:30:00Z",
        "eventSource": "iam.amazonaws.com",
        "eventName": "CreateUser",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "192.0.2.1",
        "userAgent": "aws-cli/2",
        "eventID": f"00000000-0000-4000-8000-00000000000{place}",
        "recipientAccountId": "111122223333",
    }


RULE = """
id: 5a0c2f3e-1111-4222-8333-944455556666
name: A user was made
severity: Low
queryFrequency: 1h
queryPeriod: 1h
triggerOperator: gt
triggerThreshold: 0
tactics: [Persistence]
relevantTechniques: [T1136.003, T1098]
query: AWSCloudTrail | where EventName == "CreateUser"
"""

COLUMNS = """
TenantId TimeGenerated DisplayName AlertName AlertSeverity Description ProviderName VendorName
VendorOriginalId SystemAlertId ResourceId SourceComputerId AlertType ConfidenceLevel ConfidenceScore
IsIncident StartTime EndTime ProcessingEndTime RemediationSteps ExtendedProperties Entities
SourceSystem WorkspaceSubscriptionId WorkspaceResourceGroup ExtendedLinks ProductName
ProductComponentName AlertLink Status CompromisedEntity Tactics Techniques SubTechniques Type
"""
"""https://learn.microsoft.com/azure/azure-monitor/reference/tables/securityalert, less what bills."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.json").write_text(json.dumps({"Records": [_record(place) for place in range(1, 6)]}))
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "made.yaml").write_text(RULE)
    workspace = Workspace.open(tmp_path / "home", clock=lambda: NOW)
    workspace.ingest([logs], lambda _: None)
    return workspace


def _count(workspace: Workspace) -> object:
    return workspace.query("SecurityAlert | summarize n = count(), d = dcount(SystemAlertId)", now=NOW).rows()


def _detect(workspace: Workspace) -> None:
    found = rules([workspace.home.parent / "rules"])
    workspace.detect([rule for rule in found if rule.name == "A user was made"])


def test_what_is_exported_is_read_from_the_lake_once(workspace: Workspace) -> None:
    _detect(workspace)
    assert workspace.lake.snapshot("SecurityAlert").rows == 5
    assert _count(workspace) == [{"n": 5, "d": 5}]
    assert export_alerts(workspace.alerts, workspace.lake.apart(), now=NOW) == 0


def test_what_is_not_exported_yet_is_read_from_the_state_database(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trailhawk.detect.export.export_alerts", lambda *_, **__: 0)
    _detect(workspace)
    monkeypatch.undo()
    assert workspace.lake.snapshot("SecurityAlert").rows == 0
    assert _count(workspace) == [{"n": 5, "d": 5}]


def test_two_exports_at_once_export_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trailhawk.detect.export.export_alerts", lambda *_, **__: 0)
    _detect(workspace)
    monkeypatch.undo()
    threads = [
        threading.Thread(
            target=export_alerts, args=(workspace.alerts, workspace.lake.apart()), kwargs={"now": NOW}
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _count(workspace) == [{"n": 5, "d": 5}]
    assert workspace.lake.snapshot("SecurityAlert").rows == 5


def test_alerts_have_the_columns_of_log_analytics(workspace: Workspace) -> None:
    _detect(workspace)
    query = "SecurityAlert | take 1"
    (alert,) = workspace.query(query, now=NOW).rows()
    assert set(alert) == set(COLUMNS.split())
    assert (alert["Tactics"], alert["Techniques"], alert["SubTechniques"]) == (
        "Persistence",
        '["T1136.003","T1098"]',
        '["T1136.003"]',
    )


def test_a_restored_state_goes_on_behind_what_the_lake_has(workspace: Workspace) -> None:
    workspace.export()
    workspace.incidents.all()
    workspace.alerts.engine.dispose()
    file = workspace.home / "state.db"
    copy = file.read_bytes()
    _detect(workspace)
    workspace.alerts.engine.dispose()
    for name in ("state.db-wal", "state.db-shm"):
        (workspace.home / name).unlink(missing_ok=True)
    file.write_bytes(copy)
    restored = Workspace.open(workspace.home, clock=lambda: NOW)
    _detect(restored)
    assert len(restored.alerts.alerts()) == 5
    # What is raised again is there again, under ids that are known: nothing counts as exported that is not.
    assert _count(restored) == [{"n": 10, "d": 5}]
    assert restored.lake.snapshot("SecurityAlert").rows == 10
    changes = restored.query("SecurityIncident | count", now=NOW).rows()
    assert changes == [{"Count": 2 * len(restored.incidents.changes_since(0))}]
    restored.alerts.engine.dispose()
