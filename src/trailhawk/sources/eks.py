"""Kubernetes audit events of EKS as Sentinel's AWSEKSLogs table.

They come through CloudWatch Logs, whose envelope names the account and, in the log group, the cluster.
Format: https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/
"""

from __future__ import annotations

import re
from typing import Final

import orjson

from trailhawk.kql.types import KqlType
from trailhawk.sources.columns import declared
from trailhawk.sources.envelope import Envelope
from trailhawk.sources.json_rows import Field, JsonRows, JsonSource, Record, Steps, paths, shape, text_of

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
    ("AwsAccountId", _TEXT, "Account of the cluster, where a subscription names it.", "_account"),
    ("ClusterName", _TEXT, "Name of the cluster, where a subscription names it.", "_cluster"),
    ("ObjectRef", _TEXT, "The object concerned, as JSON.", "objectRef"),
    ("RawEvent", _JSON, "The whole event.", "*"),
    ("Region", _TEXT, "Region of the cluster; empty, since no road names it.", ""),
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
_ODD: Final[dict[str, tuple[Steps, ...]]] = {
    "*": ((),),
    "annotations.authorization_k8s_io/decision": (("annotations", "authorization.k8s.io/decision"),),
}
_EVENT: Final = "_event"
_GROUP: Final = re.compile(r"/aws/eks/([^/]{1,100})/cluster")


def _paths(place: str) -> tuple[Steps, ...]:
    """Where a value stands: in the event that an envelope's record holds, or in the record itself."""
    if place.startswith("_"):
        return ((place,),)
    plain = _ODD.get(place) or paths(place)
    return (*((_EVENT, *steps) for steps in plain), *plain)


def _identity(record: Record) -> str:
    held = record.get(_EVENT)
    event = held if isinstance(held, dict) else record
    found = text_of(event.get("auditID"))
    return f"{found}\0{text_of(event.get('stage'))}" if found else ""


class _Audit(JsonSource):
    """Audit events; what the envelope of a subscription says of one goes with it."""

    def in_envelope(self, envelope: Envelope, message: bytes) -> bytes:
        """The record of a message."""
        group = _GROUP.fullmatch(envelope.logGroup)
        if group is None or not message.startswith(b"{"):
            return message
        # Ours stand last, and the last of two members with one name counts.
        about = orjson.dumps({"_account": envelope.owner, "_cluster": group[1]})
        return b'{"%s":%s,%s' % (_EVENT.encode(), message, about[1:])


_FIELDS: Final = [Field(name, kind, _paths(place)) for name, kind, _, place in _LINES]
EKS: Final = _Audit(
    "eks",
    TABLE,
    JsonRows(TABLE, _FIELDS, what="Kubernetes audit event", identity=_identity),
    framing=shape(lists=("items",), starts="kind|apiVersion|_event"),
    marks=(r'"auditID"\s*:', r'"apiVersion"\s*:\s*"audit\.k8s\.io/'),
)
