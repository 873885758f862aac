"""SecurityAlert: alerts as rows of Log Analytics' table.

https://learn.microsoft.com/azure/azure-monitor/reference/tables/securityalert
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import as_stored, described

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.detect.alert import Alert

_S, _T, _R, _B = KqlType.STRING, KqlType.DATETIME, KqlType.REAL, KqlType.BOOL

SECURITY_ALERT = Table(
    name="SecurityAlert",
    description="Alerts raised by analytics rules.",
    columns=(
        Column("TenantId", _S),
        Column("TimeGenerated", _T, "T of the rule's run"),
        Column("DisplayName", _S),
        Column("AlertName", _S),
        Column("AlertSeverity", _S, "Informational, Low, Medium or High"),
        Column("Description", _S),
        Column("ProviderName", _S),
        Column("VendorName", _S),
        Column("VendorOriginalId", _S),
        Column("SystemAlertId", _S),
        Column("ResourceId", _S),
        Column("SourceComputerId", _S),
        Column("AlertType", _S, "Id of the rule"),
        Column("ConfidenceLevel", _S),
        Column("ConfidenceScore", _R),
        Column("IsIncident", _B),
        Column("StartTime", _T, "First event"),
        Column("EndTime", _T, "Last event"),
        Column("ProcessingEndTime", _T),
        Column("RemediationSteps", _S),
        Column("ExtendedProperties", _S, "JSON: the query and the custom details"),
        Column("Entities", _S, "JSON: list of entities"),
        Column("SourceSystem", _S),
        Column("WorkspaceSubscriptionId", _S),
        Column("WorkspaceResourceGroup", _S),
        Column("ExtendedLinks", _S),
        Column("ProductName", _S),
        Column("ProductComponentName", _S),
        Column("AlertLink", _S),
        Column("Status", _S),
        Column("CompromisedEntity", _S),
        Column("Tactics", _S, "Names between commas"),
        Column("Techniques", _S, "JSON: list of ids, those of sub-techniques among them"),
        Column("SubTechniques", _S, "JSON: list of the ids that are of sub-techniques"),
        Column("Type", _S),
    ),
    constants={"Type": "SecurityAlert", "SourceSystem": "Detection", "TenantId": ""},
    statistics=("TimeGenerated",),
)


def alert_rows(alerts: Iterable[Alert]) -> pa.Table:
    """The alerts as rows of SecurityAlert's stored columns, text never null."""
    return described(map(_row, alerts), SECURITY_ALERT)


def _row(alert: Alert) -> dict[str, object]:
    from trailhawk.detect.entities import as_json

    values: dict[str, object] = {
        "TimeGenerated": as_stored(alert.at),
        "DisplayName": alert.name,
        "AlertName": alert.name,
        "AlertSeverity": alert.severity.value,
        "Description": alert.description,
        "ProviderName": "Trailhawk",
        "VendorName": "Trailhawk",
        "VendorOriginalId": alert.id,
        "SystemAlertId": alert.id,
        "AlertType": alert.rule_id,
        "IsIncident": False,
        "StartTime": as_stored(alert.started_at),
        "EndTime": as_stored(alert.ended_at),
        "ProcessingEndTime": as_stored(alert.at),
        "ExtendedProperties": _json(_extended(alert)),
        "Entities": _json(as_json(alert.entities)),
        "ProductName": "Trailhawk",
        "ProductComponentName": "Scheduled Alerts",
        "Status": "New",
        "CompromisedEntity": alert.entities[0].name if alert.entities else "",
        "Tactics": ", ".join(alert.tactics),
        "Techniques": _json(alert.techniques),
        "SubTechniques": _json([technique for technique in alert.techniques if "." in technique]),
    }
    return values | _overridden(alert)


def _overridden(alert: Alert) -> dict[str, object]:
    """Columns that the rule's `alertDynamicProperties` set, such as AlertLink or ProductName."""
    texts = {column.name for column in SECURITY_ALERT.stored if column.type is _S}
    return {name: value for name, value in alert.properties if name in texts}


def _extended(alert: Alert) -> dict[str, object]:
    return {
        "Query": alert.query,
        "Query Start Time UTC": alert.started_at.isoformat(),
        "Query End Time UTC": alert.at.isoformat(),
        "Analytic Rule Ids": [alert.rule_id],
        "Analytic Rule Name": alert.rule_name,
        "Custom Details": _json({name: list(values) for name, values in alert.custom_details}),
        "Search Query Results Overall Count": str(alert.rows),
    }


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
