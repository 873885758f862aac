"""SecurityIncident: every change of every incident as a row of Log Analytics' table.

The row with the latest LastModifiedTime of a number is how the incident stands; moments of one incident
differ. https://learn.microsoft.com/azure/azure-monitor/reference/tables/securityincident
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import as_stored, described

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.incidents.change import Change
    from trailhawk.incidents.incident import Incident, Task

MAX_ALERT_IDS: Final = 1_000
"""Ids in AlertIds; AdditionalData.alertsCount counts all alerts."""

_S, _T, _D, _I = KqlType.STRING, KqlType.DATETIME, KqlType.DYNAMIC, KqlType.INT

SECURITY_INCIDENT = Table(
    name="SecurityIncident",
    description="Incidents: a row for each change.",
    columns=(
        Column("TenantId", _S),
        Column("TimeGenerated", _T, "When it was changed."),
        Column("IncidentName", _S, "Guid of the incident."),
        Column("Title", _S),
        Column("Description", _S),
        Column("Severity", _S, "Informational, Low, Medium or High."),
        Column("Status", _S, "New, Active or Closed."),
        Column(
            "Classification",
            _S,
            "Of a closed one: TruePositive, BenignPositive, FalsePositive, Undetermined.",
        ),
        Column("ClassificationComment", _S),
        Column("ClassificationReason", _S),
        Column("Owner", _D, "Object with assignedTo."),
        Column("ProviderName", _S),
        Column("ProviderIncidentId", _S),
        Column("FirstActivityTime", _T, "First event of its alerts."),
        Column("LastActivityTime", _T, "Last event of its alerts."),
        Column("FirstModifiedTime", _T, "When somebody first changed it; the coming of alerts is no change."),
        Column("LastModifiedTime", _T, "When it was changed."),
        Column("CreatedTime", _T),
        Column("ClosedTime", _T),
        Column("IncidentNumber", _I),
        Column("RelatedAnalyticRuleIds", _D, "List of the ids of its rules."),
        Column("AlertIds", _D, "List of the SystemAlertIds of its alerts, the first 1,000."),
        Column("BookmarkIds", _D),
        Column("Comments", _D, "List of objects with message, createdTimeUtc and author."),
        Column("Tasks", _D, "List of objects with title, description and status."),
        Column("Labels", _D, "List of objects with labelName and labelType."),
        Column("IncidentUrl", _S),
        Column("AdditionalData", _D, "Counts of alerts and comments, tactics, techniques."),
        Column("ModifiedBy", _S, "Who changed it; `grouping` when alerts came."),
        Column("SourceSystem", _S),
        Column("Type", _S),
    ),
    constants={"Type": "SecurityIncident", "SourceSystem": "Detection", "TenantId": ""},
    statistics=("TimeGenerated", "IncidentNumber"),
)


def incident_rows(changes: Iterable[Change]) -> pa.Table:
    """The changes as rows of the table's stored columns; text is never null."""
    return described(map(_row, changes), SECURITY_INCIDENT)


def _row(change: Change) -> dict[str, object]:
    incident, closing = change.after, change.after.closing
    return {
        "TimeGenerated": as_stored(change.at),
        "IncidentName": incident.guid,
        "Title": incident.title,
        "Description": incident.description,
        "Severity": incident.severity.value,
        "Status": incident.status.value,
        "Classification": closing.classification.value if closing else "",
        "ClassificationComment": closing.comment if closing else "",
        "ClassificationReason": closing.reason.value if closing and closing.reason else "",
        "Owner": _json(_person(incident.owner)),
        "ProviderName": "Trailhawk",
        "ProviderIncidentId": str(incident.number),
        "FirstActivityTime": as_stored(incident.first_activity),
        "LastActivityTime": as_stored(incident.last_activity),
        "FirstModifiedTime": as_stored(incident.first_modified_at),
        "LastModifiedTime": as_stored(incident.modified_at),
        "CreatedTime": as_stored(incident.created_at),
        "ClosedTime": as_stored(incident.closed_at),
        "IncidentNumber": incident.number,
        "RelatedAnalyticRuleIds": _json(incident.rule_ids),
        "AlertIds": _json(incident.alert_ids[:MAX_ALERT_IDS]),
        "BookmarkIds": "[]",
        "Comments": _json(
            [
                {"message": one.text, "createdTimeUtc": _text(one.at), "author": {"name": one.by}}
                for one in incident.comments
            ]
        ),
        "Tasks": _json([_task(task) for task in incident.tasks]),
        "Labels": _json([{"labelName": label, "labelType": "User"} for label in incident.labels]),
        "AdditionalData": _json(_additional(incident)),
        "ModifiedBy": change.by,
    }


def _additional(incident: Incident) -> dict[str, object]:
    found: dict[str, object] = {
        "alertsCount": len(incident.alert_ids),
        "bookmarksCount": 0,
        "commentsCount": len(incident.comments),
        "alertProductNames": ["Trailhawk"],
        "tactics": incident.tactics,
        "techniques": incident.techniques,
    }
    if incident.merged_into is not None:
        found["mergedIncidentNumber"] = incident.merged_into
    return found


def _person(name: str) -> dict[str, object]:
    return {
        "objectId": None,
        "email": name if "@" in name else None,
        "assignedTo": name or None,
        "userPrincipalName": name or None,
    }


def _task(task: Task) -> dict[str, object]:
    return {
        "taskId": str(task.id),
        "title": task.title,
        "description": task.description,
        "status": "Completed" if task.done_at else "New",
        "createdTimeUtc": _text(task.at),
        "createdBy": {"name": task.by},
        "lastCompletedTimeUtc": _text(task.done_at) if task.done_at else None,
        "lastCompletedBy": {"name": task.done_by} if task.done_at else None,
    }


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
