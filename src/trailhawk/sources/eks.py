"""Kubernetes audit events of EKS as Sentinel's AWSEKSLogs table.

They come through CloudWatch Logs.
Format: https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/
"""

from __future__ import annotations

from typing import Final

from trailhawk.kql.types import KqlType
from trailhawk.sources.columns import declared
from trailhawk.sources.json_rows import Field, JsonRows, JsonSource, Record, paths, shape, text_of

_TEXT, _TIME, _INT, _JSON = KqlType.STRING, KqlType.DATETIME, KqlType.INT, KqlType.DYNAMIC

_LINES: Final = (
    (
        "TimeGenerated",
        _TIME,
        "When this stage of the request was reached, UTC.",
        "stageTimestamp|requestReceivedTimestamp",
    ),
    (
        "AuthDecision",
        _TEXT,
        "What RBAC decided: allow or forbid.",
        "annotations.authorization_k8s_io/decision",
    ),
    ("AwsAccountId", _TEXT, "Account of the cluster, where the road names it.", "_awsAccountId"),
    ("ClusterName", _TEXT, "Name of the cluster, where the road names it.", "_clusterName"),
    ("ObjectRef", _TEXT, "The object concerned, as JSON.", "objectRef"),
    ("RawEvent", _JSON, "The whole event.", "*"),
    ("Region", _TEXT, "Region of the cluster, where the road names it.", "_region"),
    ("ResponseCode", _INT, "HTTP status of the answer.", "responseStatus.code"),
    ("SourceIPs", _JSON, "Addresses the request came through.", "sourceIPs"),
    ("Stage", _TEXT, "Stage of the request, such as ResponseComplete.", "stage"),
    ("User", _TEXT, "User or service account.", "user.username"),
    ("UserAgent", _TEXT, "Client program.", "userAgent"),
    ("Verb", _TEXT, "What was asked, such as get.", "verb"),
)
TABLE: Final = declared(
    "AWSEKSLogs",
    "Audit events of EKS clusters, one row a stage of a request.",
    _LINES,
    statistics=("User", "Verb"),
)
# The annotation's name has dots in it, so it is written here as steps.
_ODD: Final = {
    "*": ((),),
    "annotations.authorization_k8s_io/decision": (("annotations", "authorization.k8s.io/decision"),),
}


def _identity(event: Record) -> str:
    found = text_of(event.get("auditID"))
    return f"{found}\0{text_of(event.get('stage'))}" if found else ""


_FIELDS: Final = [Field(name, kind, _ODD.get(place) or paths(place)) for name, kind, _, place in _LINES]
EKS: Final = JsonSource(
    "eks",
    TABLE,
    JsonRows(TABLE, _FIELDS, what="Kubernetes audit event", identity=_identity),
    framing=shape(lists=("items",), starts="kind|apiVersion"),
    marks=(r'"auditID"\s*:', r'"apiVersion"\s*:\s*"audit\.k8s\.io/'),
)
