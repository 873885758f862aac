"""AWS GuardDuty findings as Sentinel's AWSGuardDuty table.

They come as JSON lines in the export to S3, as events of EventBridge, and as the answer of GetFindings; with
names in camel case, in Pascal case (the SDKs) or in snake case (other tools). All are stored in camel case,
so that one query finds them all and the same finding by two roads is one row.
Format: https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_findings-summary.html
"""

from __future__ import annotations

import re
from typing import Final

from trailhawk.kql.types import KqlType
from trailhawk.sources.columns import declared
from trailhawk.sources.json_rows import Field, JsonRows, JsonSource, Record, paths, shape, text_of

_TEXT, _TIME, _INT, _REAL, _JSON = (
    KqlType.STRING,
    KqlType.DATETIME,
    KqlType.INT,
    KqlType.REAL,
    KqlType.DYNAMIC,
)

_LINES: Final = (
    ("TimeGenerated", _TIME, "When the finding was last updated, UTC.", "updatedAt|createdAt"),
    ("AccountId", _TEXT, "Account in which the activity took place.", "accountId"),
    ("ActivityType", _TEXT, "Type of the finding, such as Recon:EC2/Portscan.", "type"),
    ("Arn", _TEXT, "ARN of the finding.", "arn"),
    ("Description", _TEXT, "What the finding says.", "description"),
    ("Id", _TEXT, "Id of the finding; new occurrences of the same activity share it.", "id"),
    ("Partition", _TEXT, "AWS partition, such as aws.", "partition"),
    ("Region", _TEXT, "Region in which the finding was made.", "region"),
    ("ResourceDetails", _JSON, "The resource that was targeted.", "resource"),
    ("SchemaVersion", _TEXT, "Version of the finding's format.", "schemaVersion"),
    ("ServiceDetails", _JSON, "Action, actor, evidence and counts.", "service"),
    (
        "Severity",
        _INT,
        "Severity without its fraction: 1-3 low, 4-6 medium, 7-8 high, 9-10 critical.",
        "severity",
    ),
    (
        "SeverityScore",
        _REAL,
        "Severity as GuardDuty gives it, with its fraction. A column of ours.",
        "severity",
    ),
    ("TimeCreated", _TIME, "When the finding was first made.", "createdAt"),
    ("Title", _TEXT, "Summary of the finding.", "title"),
)
TABLE: Final = declared(
    "AWSGuardDuty",
    "Findings of AWS GuardDuty, one row an update of a finding.",
    _LINES,
    promoted={
        "ResourceDetails": "resourceType instanceDetails.instanceId accessKeyDetails.accessKeyId "
        "accessKeyDetails.principalId accessKeyDetails.userName",
        "ServiceDetails": "action.actionType resourceRole",
    },
    statistics=("ActivityType", "AccountId"),
)

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*", re.ASCII)
_CAMEL_MARKS: Final = frozenset(("accountId", "schemaVersion", "createdAt", "updatedAt"))
# Names that GuardDuty writes otherwise than the SDK's with a small first letter.
_ODD: Final = {
    "sourceIps": "sourceIPs",
    "latitude": "lat",
    "longitude": "lon",
    "loginAttributes": "LoginAttributes",
    "code": "productCodeId",
    "productType": "productCodeType",
    "taskCreatedAt": "createdAt",
    "kubernetesResourcesTypes": "type",
}
_DEEPEST: Final = 200


def camel(name: str) -> str:
    """A member's name in camel case; what is no name (an ARN, a resource type) stays.

    >>> camel("InstanceDetails"), camel("instance_details"), camel("AWS::IAM::Role"), camel("source_ips")
    ('instanceDetails', 'instanceDetails', 'AWS::IAM::Role', 'sourceIPs')
    """
    if _NAME.fullmatch(name) is None:
        return name
    first, *more = name.split("_") if name.islower() else [name]
    plain = first[:1].lower() + first[1:] + "".join(word[:1].upper() + word[1:] for word in more)
    return _ODD.get(plain, plain)


def _respelt(value: object, depth: int = 0) -> object:
    if depth > _DEEPEST:
        return value
    if isinstance(value, dict):
        return {camel(name): _respelt(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_respelt(item, depth + 1) for item in value]
    return value


def _in_camel_case(finding: Record) -> Record | None:
    if not _CAMEL_MARKS.isdisjoint(finding):
        return None
    return {camel(name): _respelt(item) for name, item in finding.items()}


def _identity(finding: Record) -> str:
    """A finding is sent again with each new occurrence: an update is a record of its own."""
    found = text_of(finding.get("id"))
    updated = text_of(finding.get("updatedAt"))
    return f"{found}\0{text_of(finding.get('accountId'))}\0{updated}" if found else ""


_MARK: Final = (
    r'"arn:aws[a-z-]*:guardduty:[^"]*:detector/|"[dD]etector_?[iI]d"\s*:|"source"\s*:\s*"aws\.guardduty"'
    r'|\A\s*\{\s*"[fF]indings"\s*:\s*\[\s*\]'
)
_FIELDS: Final = [Field(name, kind, paths(place)) for name, kind, _, place in _LINES]
GUARDDUTY: Final = JsonSource(
    "guardduty",
    TABLE,
    JsonRows(TABLE, _FIELDS, what="GuardDuty finding", identity=_identity, prepare=_in_camel_case),
    framing=shape(
        lists=("findings", "Findings"),
        inner=("detail",),
        starts="schemaVersion|SchemaVersion|schema_version|AccountId|account_id",
    ),
    marks=(_MARK,),
)
