"""Findings of the new Security Hub (OCSF) in the words of the older one (ASFF), so that both are one table.

Classes 2002 (vulnerability), 2003 (compliance), 2004 (detection) and 2006 (data security), and 2001 of OCSF
1.0. Security Lake writes the findings of Security Hub CSPM in OCSF too, and into `unmapped` what has no place
there.
Format: https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-ocsf.html ,
https://schema.ocsf.io/ ,
https://github.com/ocsf/examples/tree/main/mappings/markdown/AWS (Security Hub)
"""

from __future__ import annotations

import re
from typing import Final

from trailhawk.kql.types import KqlType
from trailhawk.sources.json_rows import Record, at, number, paths, text_of
from trailhawk.sources.ocsf_cloudtrail import nested

# The member of ASFF, and where its value stands in OCSF.
_MEMBERS: Final = {
    "Id": "finding_info.uid",
    "ProductArn": "metadata.product.uid",
    "ProductName": "metadata.product.name",
    "SchemaVersion": "metadata.version",
    "GeneratorId": "finding_info.analytic.uid|finding_info.analytic.name|metadata.product.feature.uid",
    "AwsAccountId": "cloud.account.uid|cloud.account_uid",
    "Region": "cloud.region",
    "CreatedAt": "finding_info.created_time_dt|finding_info.created_time",
    "UpdatedAt": "finding_info.modified_time_dt|finding_info.modified_time|time_dt|time",
    "FirstObservedAt": "finding_info.first_seen_time_dt|finding_info.first_seen_time",
    "LastObservedAt": "finding_info.last_seen_time_dt|finding_info.last_seen_time",
    "ProcessedAt": "metadata.processed_time_dt|metadata.processed_time|metadata.logged_time_dt",
    "Title": "finding_info.title",
    "Description": "finding_info.desc",
    "Types": "finding_info.types",
}
_PATHS: Final = {name: paths(place) for name, place in _MEMBERS.items()}
_UNMAPPED: Final = ("ProductFields", "FindingProviderFields", "RecordState", "WorkflowState", "Sample")
"""Members of ASFF that Security Lake keeps beside OCSF."""
_NORMALIZED: Final = {"INFORMATIONAL": 0, "LOW": 1, "MEDIUM": 40, "HIGH": 70, "CRITICAL": 90}
"""The number that Security Hub gives for each label."""
_SEVERITIES: Final = ("", "INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL", "CRITICAL")
"""By severity_id; 6 is Fatal."""
_OUTCOMES: Final = {"pass": "PASSED", "fail": "FAILED", "warning": "WARNING", "unknown": "NOT_AVAILABLE"}
_CLOSED: Final = 3  # an activity_id
_GONE: Final = frozenset(("ARCHIVED", "DELETED"))
# A run of capitals that ends a word: EC2, IAM, the DB of DBInstance.
_CAPITALS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z]|[^A-Za-z]|$)")


def is_ocsf(finding: Record) -> bool:
    """Whether a finding is written in OCSF."""
    return ("finding_info" in finding or "finding" in finding) and "class_uid" in finding


def as_asff(finding: Record) -> Record:
    """The members of ASFF that have a column, from a finding in OCSF; those that it has not are left out."""
    if "finding_info" not in finding:
        finding = finding | {"finding_info": finding.get("finding")}
    more = nested(finding.get("unmapped"))
    made: Record = {name: more[name] for name in _UNMAPPED if name in more}
    for name, places in _PATHS.items():
        found = next((value for steps in places if (value := at(finding, steps)) not in (None, "")), None)
        if found is not None:
            made[name] = found
    status = text_of(finding.get("status")).upper().replace(" ", "_")
    gone = status in _GONE or finding.get("activity_id") == _CLOSED
    made.setdefault("RecordState", "ARCHIVED" if gone else "ACTIVE")
    if status:
        made.setdefault("WorkflowState", status)
    made |= _severity(finding, more.get("Severity"))
    for name, value in (
        ("Compliance", _compliance(finding.get("compliance"))),
        ("Remediation", _remediation(finding.get("remediation"))),
        ("Resources", _resources(finding.get("resources"))),
    ):
        if value:
            made[name] = value
    return made


def _severity(finding: Record, given: object) -> Record:
    level, text = finding.get("severity_id"), text_of(finding.get("severity"))
    label = _SEVERITIES[level] if isinstance(level, int) and 0 < level < len(_SEVERITIES) else text.upper()
    if not label:
        return {}
    found: Record = {"Label": label, "Original": text}
    if isinstance(given, dict):  # with texts for numbers
        found |= {name: number(value, KqlType.LONG) or value for name, value in given.items()}
    if label in _NORMALIZED:
        found["Normalized"] = _NORMALIZED[label]
    return {"Severity": found}


def _compliance(value: object) -> Record:
    if not isinstance(value, dict):
        return {}
    made: Record = {}
    if status := text_of(value.get("status")):
        made["Status"] = _OUTCOMES.get(status.lower(), status.upper())
    if control := value.get("control"):
        made["SecurityControlId"] = control
    if isinstance(standards := value.get("standards"), list):
        made["AssociatedStandards"] = [{"StandardsId": standard} for standard in standards]
    if requirements := value.get("requirements"):
        made["RelatedRequirements"] = requirements
    if reasons := value.get("status_details"):
        made["StatusReasons"] = reasons
    return made


def _remediation(value: object) -> Record:
    if not isinstance(value, dict):
        return {}
    found = {"Text": value.get("desc"), "Url": at(value, ("references", 0))}
    return {"Recommendation": {name: text for name, text in found.items() if text}}


def _resources(value: object) -> list[object]:
    """Resources by their ARN, where they have one, and under the names of types that ASFF has for them."""
    made: list[object] = []
    for each in value if isinstance(value, list) else ():
        if not isinstance(each, dict):
            continue
        arn, tags = text_of(each.get("uid_alt")), each.get("tags")
        found = {
            "Type": asff_type(text_of(each.get("type"))),
            "Id": arn if arn.startswith("arn:") else each.get("uid"),
            "Partition": each.get("cloud_partition"),
            "Region": each.get("region"),
            "Tags": _tags(tags) if isinstance(tags, list) else None,
        }
        made.append({name: item for name, item in found.items() if item})
    return made


def _tags(tags: list[object]) -> Record:
    return {text_of(tag.get("name")): tag.get("value") for tag in tags if isinstance(tag, dict)}


def asff_type(name: str) -> str:
    """A resource type of CloudFormation as ASFF spells it; another name stays.

    >>> asff_type("AWS::EC2::Instance"), asff_type("AWS::RDS::DBInstance"), asff_type("AWS::::Account")
    ('AwsEc2Instance', 'AwsRdsDbInstance', 'AwsAccount')
    """
    if not name.startswith("AWS::"):
        return name
    return "".join(_CAPITALS.sub(lambda run: run[0].capitalize(), part) for part in name.split("::"))
