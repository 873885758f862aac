"""Alerts reach the lake once, and a query sees those that have and those that have not."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.lakes import damaged
from trailhawk.detect.bookmarks import Bookmark
from trailhawk.detect.content import rules
from trailhawk.detect.export import export_alerts
from trailhawk.lake import LogError
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


def saved(workspace: Workspace) -> bytes:
    """A copy of the state database, which is closed."""
    workspace.alerts.engine.dispose()
    return (workspace.home / "state.db").read_bytes()


def restored(workspace: Workspace, copy: bytes) -> Workspace:
    """The home as a new process finds it, with the state database as it was."""
    workspace.alerts.engine.dispose()
    for name in ("state.db-wal", "state.db-shm"):
        (workspace.home / name).unlink(missing_ok=True)
    (workspace.home / "state.db").write_bytes(copy)
    return Workspace.open(workspace.home, clock=lambda: NOW)


def test_a_restored_state_goes_on_behind_what_the_lake_has(workspace: Workspace) -> None:
    workspace.export()
    workspace.incidents.all()
    copy = saved(workspace)
    _detect(workspace)
    again = restored(workspace, copy)
    _detect(again)
    assert len(again.alerts.alerts()) == 5
    # What is raised again is there again, under ids that are known: nothing counts as exported that is not.
    assert _count(again) == [{"n": 10, "d": 5}]
    assert again.lake.snapshot("SecurityAlert").rows == 10
    changes = again.query("SecurityIncident | count", now=NOW).rows()
    assert changes == [{"Count": 2 * len(again.incidents.changes_since(0))}]
    again.alerts.engine.dispose()


def test_the_first_change_by_hand_after_a_restore_reaches_the_lake(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Though nothing was exported by this process before; a process that only reads looks at no table."""
    _detect(workspace)
    copy = saved(workspace)
    number = workspace.incidents.all()[0].number
    items = tmp_path / "items.csv"
    items.write_text("Arn\none\ntwo\n")

    def by_hand(home: Workspace, said: str) -> dict[str, int]:
        """The rows that this adds to the lake."""
        before = {name: workspace.lake.snapshot(name).rows for name in ("SecurityIncident", "Watchlist")}
        home.incidents.comment(number, said, by="ana", now=NOW)
        home.watchlists.load("admins", items, key=None, now=NOW)
        home.watchlists.remove("admins", now=NOW)
        home.export()
        return {name: workspace.lake.snapshot(name).rows - rows for name, rows in before.items()}

    added = by_hand(workspace, "before")
    assert added["SecurityIncident"] == 1
    assert added["Watchlist"] > 2
    again = restored(workspace, copy)
    assert again.incidents.all()[0].comments == ()
    assert "lake" not in again.__dict__
    assert by_hand(again, "after") == added
    again.alerts.engine.dispose()


def test_a_state_restored_while_tables_cannot_be_read_goes_on_behind_what_they_have(
    workspace: Workspace, tmp_path: Path
) -> None:
    """What comes meanwhile is in them once they can be read."""
    workspace.export()
    workspace.incidents.all()
    copy = saved(workspace)
    items = tmp_path / "items.csv"
    items.write_text("Arn\none\ntwo\n")
    kept = Bookmark(
        "a", "it", "", (), (), "T", None, NOW, "{}", None, created_at=NOW, created_by="ana", updated_at=NOW,
        updated_by="ana",
    )  # fmt: skip

    def write(home: Workspace) -> None:
        home.watchlists.load("admins", items, key=None, now=NOW)
        home.bookmarks.add(kept)
        _detect(home)

    def rows() -> dict[str, int]:
        return {table: workspace.lake.snapshot(table).rows for table in tables}

    tables = ("SecurityAlert", "SecurityIncident", "Watchlist", "HuntingBookmark")
    write(workspace)
    before = rows()
    assert all(before.values())
    again = restored(workspace, copy)
    with ExitStack() as damage:
        for table in tables:
            damage.enter_context(damaged(workspace.home, table))
        with pytest.raises(LogError):
            write(again)
    Workspace.open(workspace.home, clock=lambda: NOW).export()
    assert rows() == {table: 2 * count for table, count in before.items()}
    again.alerts.engine.dispose()
