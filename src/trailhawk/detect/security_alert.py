"""SecurityAlert: alerts as rows of Log Analytics' table.

https://learn.microsoft.com/azure/azure-monitor/reference/tables/securityalert
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime

import pyarrow as pa

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import as_json
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType

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

_ARROW = {_S: pa.string(), _T: pa.timestamp("us"), _R: pa.float64(), _B: pa.bool_()}
ARROW_SCHEMA = pa.schema([(column.name, _ARROW[column.type]) for column in SECURITY_ALERT.stored])


def alert_rows(alerts: Iterable[Alert]) -> pa.Table:
    """The alerts as rows of SecurityAlert's stored columns, text never null."""
    rows = [_row(alert) for alert in alerts]
    return pa.Table.from_pylist(rows, schema=ARROW_SCHEMA)


def _row(alert: Alert) -> dict[str, object]:
    values: dict[str, object] = {
        "TimeGenerated": _naive(alert.at),
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
        "StartTime": _naive(alert.started_at),
        "EndTime": _naive(alert.ended_at),
        "ProcessingEndTime": _naive(alert.at),
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
    empty = {column.name: "" for column in SECURITY_ALERT.stored if column.type is _S}
    return empty | values | dict.fromkeys(["ConfidenceScore"]) | _overridden(alert)


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


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
