"""SecurityIncident in KQL: a row for each change, from the state database and from the lake alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import entity
from trailhawk.detect.rule import Severity
from trailhawk.incidents.grouping import linked
from trailhawk.incidents.incident import Classification, Closing
from trailhawk.workspace import Workspace

Raised = Callable[..., Alert]
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
LATEST = "SecurityIncident | summarize arg_max(LastModifiedTime, *) by IncidentNumber"


def raise_(workspace: Workspace, *alerts: Alert) -> None:
    with workspace.alerts.engine.begin() as connection:
        workspace.alerts.record(connection, [], alerts)
        workspace.incidents.add(connection, alerts, [linked(each, None, []) for each in alerts])


def rows(workspace: Workspace, text: str) -> list[dict[str, object]]:
    return [dict(row) for row in workspace.query(text, now=NOW).rows()]


def test_a_row_for_each_change_whether_exported_or_not(tmp_path: Path, raised: Raised) -> None:
    workspace = Workspace.open(tmp_path, clock=lambda: NOW)
    store = workspace.incidents
    one, two = (entity("AwsAccessKey", Id=f"ASIA{n}") for n in (1, 2))
    raise_(workspace, raised("a", one), raised("b", two, severity=Severity.HIGH))
    store.set(1, by="ana", now=NOW, owner="ana@example.com", add_labels=["x"])
    store.comment(1, 'said "so"', by="ana", now=NOW + timedelta(minutes=1))
    store.add_task(1, "look", by="ana", now=NOW + timedelta(minutes=2))
    store.close(2, Closing.of(Classification.TRUE_POSITIVE, None, "it was"), by="bo", now=NOW)
    store.merge(1, [2], by="Automation rule - merge", now=NOW + timedelta(minutes=3))
    whole = rows(workspace, "SecurityIncident | sort by IncidentNumber asc, LastModifiedTime asc")
    assert len(whole) == 8

    workspace.export()
    assert rows(workspace, "SecurityIncident | sort by IncidentNumber asc, LastModifiedTime asc") == whole
    store.comment(1, "later", by="ana", now=NOW + timedelta(minutes=4))
    (first, second) = rows(workspace, f"{LATEST} | sort by IncidentNumber asc")
    assert first["Title"] == "Alert b"
    assert (first["Status"], first["Classification"]) == ("Active", "")
    assert first["Severity"] == "High"
    assert first["AlertIds"] == ["a", "b"]
    assert second["AlertIds"] == []
    assert (second["Status"], second["Classification"]) == ("Closed", "TruePositive")
    assert second["ClassificationReason"] == "SuspiciousActivity"

    text = f"""
{LATEST}
| where IncidentNumber == 1
| project Owner = tostring(Owner.assignedTo), Label = tostring(Labels[0].labelName),
    Says = tostring(Comments[0].message), By = tostring(Comments[0].author.name),
    Task = tostring(Tasks[0].status), Alerts = toint(AdditionalData.alertsCount),
    Answered = FirstModifiedTime - CreatedTime, Comments = array_length(Comments), ModifiedBy
"""
    assert rows(workspace, text) == [
        {
            "Owner": "ana@example.com",
            "Label": "x",
            "Says": 'said "so"',
            "By": "ana",
            "Task": "New",
            "Alerts": 2,
            "Answered": timedelta(hours=21),
            "Comments": 2,
            "ModifiedBy": "ana",
        }
    ]
    joined = (
        f"{LATEST} | where IncidentNumber == 1 | mv-expand Id = AlertIds to typeof(string)"
        " | join kind=inner SecurityAlert on $left.Id == $right.SystemAlertId"
        " | project AlertName | sort by AlertName asc"
    )
    assert rows(workspace, joined) == [{"AlertName": "Alert a"}, {"AlertName": "Alert b"}]
    audit = 'SecurityIncident | where ModifiedBy contains "Automation" | project IncidentNumber'
    assert sorted(str(row["IncidentNumber"]) for row in rows(workspace, audit)) == ["1", "2"]


def test_the_queries_of_the_page_run(tmp_path: Path, raised: Raised) -> None:
    workspace = Workspace.open(tmp_path, clock=lambda: NOW)
    store = workspace.incidents
    raise_(workspace, raised("a", entity("AwsAccessKey", Id="ASIA1")), raised("b"))
    store.close(2, Closing.of(Classification.UNDETERMINED), by="ana", now=NOW)
    page = Path(__file__).parents[2] / "docs" / "incidents.md"
    standing, spans = re.findall(r"(?s)```kusto\n(.*?)```", page.read_text())
    assert [row["IncidentNumber"] for row in rows(workspace, standing)] == [1]
    assert rows(workspace, spans)[0]["Closed"] == timedelta(hours=21)
