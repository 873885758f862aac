"""Findings of the new Security Hub: OCSF in, ASFF's columns out, and nothing of the finding lost."""

import datetime as dt
import json
from typing import Any

import pytest

from support.text import dump
from trailhawk.sources.ocsf import asff_type

FINDING = {
    "activity_id": 2,
    "activity_name": "Update",
    "category_uid": 2,
    "class_name": "Compliance Finding",
    "class_uid": 2003,
    "cloud": {"account": {"uid": "011122223333"}, "provider": "AWS", "region": "eu-central-1"},
    "compliance": {"control": "S3.8", "standards": ["standards/pci-dss/v/4.0.1"], "status": "Fail"},
    "finding_info": {
        "analytic": {"name": "securityhub-s3-bucket", "type": "Rule", "type_id": 1},
        "created_time_dt": "2026-03-01T09:00:00.000Z",
        "desc": "The bucket's public access is not blocked.",
        "first_seen_time": 1772355600000,
        "last_seen_time_dt": "2026-03-01T09:30:00.000000001Z",
        "modified_time_dt": "2026-03-01T09:30:00.000Z",
        "title": "Buckets should block public access",
        "types": ["Posture Management"],
        "uid": "arn:aws:securityhub:eu-central-1:011122223333:security-control/S3.8/finding/1",
    },
    "metadata": {
        "product": {
            "name": "Security Hub",
            "uid": "arn:aws:securityhub:eu-central-1::productv2/aws/securityhub",
            "vendor_name": "AWS",
        },
        "uid": "9c61",
        "version": "1.9.0",
    },
    "remediation": {"desc": "Block it.", "references": ["https://docs.example/S3.8"]},
    "resources": [
        {
            "type": "AWS::S3::Bucket",
            "uid": "cards",
            "uid_alt": "arn:aws:s3:::cards",
            "cloud_partition": "aws",
            "region": "eu-central-1",
            "tags": [{"name": "team", "value": "päy"}],
        },
        {"type": "AWS::IAM::AccessKey", "uid": "AKIAEXAMPLE"},
    ],
    "severity": "High",
    "severity_id": 4,
    "status": "In Progress",
    "status_id": 2,
    "time_dt": "2026-03-01T09:31:00.000Z",
}


def event(*findings: object) -> dict[str, object]:
    return {
        "version": "0",
        "detail-type": "Findings Imported V2",
        "source": "aws.securityhub",
        "detail": {"findings": list(findings)},
    }


def row_of(read: Any, finding: object) -> dict[str, Any]:
    found = read(dump(event(finding)))
    assert (found.source, found.reasons) == ("securityhub", [])
    (row,) = found.rows
    return row  # type: ignore[no-any-return]


def test_a_finding_fills_the_columns_of_asff(read: Any) -> None:
    row = row_of(read, FINDING)
    row.pop("_th_id")
    assert json.loads(row.pop("RawData")) == FINDING
    info = FINDING["finding_info"]
    assert isinstance(info, dict)
    texts = {
        "AwsSecurityFindingSeverity": {"Label": "HIGH", "Normalized": 70, "Original": "High"},
        "AwsSecurityFindingTypes": ["Posture Management"],
        "ComplianceAssociatedStandards": [{"StandardsId": "standards/pci-dss/v/4.0.1"}],
        "Remediation": {"Recommendation": {"Text": "Block it.", "Url": "https://docs.example/S3.8"}},
        "Resources": [
            {
                "Type": "AwsS3Bucket",
                "Id": "arn:aws:s3:::cards",
                "Partition": "aws",
                "Region": "eu-central-1",
                "Tags": {"team": "päy"},
            },
            {"Type": "AwsIamAccessKey", "Id": "AKIAEXAMPLE"},
        ],
    }
    assert {name: json.loads(row.pop(name)) for name in texts} == texts
    assert row == {
        "TimeGenerated": dt.datetime(2026, 3, 1, 9, 30),
        "AwsAccountId": "011122223333",
        "AwsRegion": "eu-central-1",
        "AwsSecurityFindingCreatedAt": dt.datetime(2026, 3, 1, 9),
        "AwsSecurityFindingDescription": info["desc"],
        "AwsSecurityFindingFirstObservedAt": dt.datetime(2026, 3, 1, 9),
        "AwsSecurityFindingGeneratorId": "securityhub-s3-bucket",
        "AwsSecurityFindingId": info["uid"],
        "AwsSecurityFindingLastObservedAt": dt.datetime(2026, 3, 1, 9, 30),
        "AwsSecurityFindingProductArn": "arn:aws:securityhub:eu-central-1::productv2/aws/securityhub",
        "AwsSecurityFindingProductName": "Security Hub",
        "AwsSecurityFindingTitle": info["title"],
        "AwsSecurityFindingUpdatedAt": dt.datetime(2026, 3, 1, 9, 30),
        "ComplianceSecurityControlId": "S3.8",
        "ComplianceStatus": "FAILED",
        "RecordState": "ACTIVE",
        "SchemaVersion": "1.9.0",
        "WorkflowState": "IN_PROGRESS",
        "_th_AwsSecurityFindingSeverity_Label": "HIGH",
    }


@pytest.mark.parametrize(
    "wrap",
    [
        lambda finding: dump(event(finding)) + b"\n",
        lambda finding: dump([event(finding)]),
        lambda finding: dump({"Findings": [finding]}),
        lambda finding: dump(finding) + b"\n",
        lambda finding: json.dumps(finding, indent=1).encode(),
    ],
)
def test_every_road_gives_the_same_row(wrap: Any, read: Any) -> None:
    found = read(wrap(FINDING))
    assert (found.source, found.rows) == ("securityhub", [row_of(read, FINDING)])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"severity_id": 6, "severity": "Fatal"}, {"_th_AwsSecurityFindingSeverity_Label": "CRITICAL"}),
        ({"severity_id": 1, "severity": "x"}, {"_th_AwsSecurityFindingSeverity_Label": "INFORMATIONAL"}),
        ({"severity_id": None}, {"_th_AwsSecurityFindingSeverity_Label": "HIGH"}),
        ({"severity_id": 0, "severity": "Unknown"}, {"_th_AwsSecurityFindingSeverity_Label": "UNKNOWN"}),
        ({"severity_id": [], "severity": None}, {"AwsSecurityFindingSeverity": None}),
        ({"compliance": {"status": "Pass"}}, {"ComplianceStatus": "PASSED"}),
        ({"compliance": "none"}, {"ComplianceStatus": None, "ComplianceSecurityControlId": None}),
        ({"status": "Archived"}, {"RecordState": "ARCHIVED", "WorkflowState": "ARCHIVED"}),
        ({"activity_id": 3, "status": "Resolved"}, {"RecordState": "ARCHIVED", "WorkflowState": "RESOLVED"}),
        ({"remediation": None, "resources": 5}, {"Remediation": None, "Resources": None}),
        ({"resources": [7, {}]}, {"Resources": "[{}]"}),
        ({"cloud": None, "metadata": 1}, {"AwsAccountId": None, "AwsSecurityFindingProductName": None}),
        ({"finding_info": {"uid": "u"}}, {"TimeGenerated": dt.datetime(2026, 3, 1, 9, 31)}),
    ],
)
def test_what_else_may_stand_there(changes: dict[str, object], expected: dict[str, Any], read: Any) -> None:
    row = row_of(read, FINDING | changes)
    assert {name: row.get(name) for name in expected} == expected
    assert json.loads(row["RawData"]) == FINDING | changes


def test_a_finding_without_a_time_is_bad(read: Any) -> None:
    timeless = FINDING | {"finding_info": {"uid": "u"}, "time_dt": None}
    found = read(dump(event(timeless, FINDING)))
    assert (len(found.rows), found.reasons) == (1, ["no UpdatedAt"])


def test_one_that_both_security_hubs_send_is_two_and_an_update_is_another(read: Any) -> None:
    info = FINDING["finding_info"]
    assert isinstance(info, dict)
    older = {
        "SchemaVersion": "2018-10-08",
        "Id": info["uid"],
        "ProductArn": "arn:aws:securityhub:eu-central-1::product/aws/securityhub",
        "GeneratorId": "g",
        "AwsAccountId": "011122223333",
        "UpdatedAt": info["modified_time_dt"],
    }
    updated = FINDING | {"finding_info": info | {"modified_time_dt": "2026-03-01T10:00:00Z"}}
    found = read(dump({"Findings": [FINDING, older, updated]}))
    assert found.reasons == []
    assert len({row["_th_id"] for row in found.rows}) == 3


def test_findings_that_guardduty_made_are_security_hubs(read: Any) -> None:
    """Their ids are the ARNs of GuardDuty's findings."""
    arn = "arn:aws:guardduty:eu-central-1:011122223333:detector/d1/finding/d6b1"
    info = FINDING["finding_info"]
    assert isinstance(info, dict)
    product = {"name": "GuardDuty", "uid": "arn:aws:securityhub:eu-central-1::productv2/aws/guardduty"}
    new = FINDING | {"finding_info": info | {"uid": arn}, "metadata": {"product": product}, "class_uid": 2004}
    old = {
        "SchemaVersion": "2018-10-08",
        "Id": arn,
        "ProductArn": "arn:aws:securityhub:eu-central-1::product/aws/guardduty",
        "GeneratorId": "arn:aws:guardduty:eu-central-1:011122223333:detector/d1",
        "AwsAccountId": "011122223333",
        "CreatedAt": "2026-03-01T09:00:00.000Z",
        "UpdatedAt": "2026-03-01T09:30:00.000Z",
        "Severity": {"Label": "HIGH"},
    }
    for finding in (new, old):
        for data in (dump(event(finding)), dump(finding), dump({"Findings": [finding]})):
            found = read(data)
            assert (found.source, found.reasons) == ("securityhub", [])
            assert found.rows[0]["AwsSecurityFindingId"] == arn
            assert found.rows[0]["_th_AwsSecurityFindingSeverity_Label"] == "HIGH"


def test_findings_of_other_tools_are_not_security_hubs(read: Any) -> None:
    other = FINDING | {"metadata": {"product": {"name": "Scanner", "uid": "scanner"}}}
    info = other["finding_info"]
    assert isinstance(info, dict)
    assert read(dump(other | {"finding_info": info | {"uid": "scanner-1"}})).source == ""


@pytest.mark.parametrize(
    ("cloudformation", "asff"),
    [
        ("AWS::EC2::Instance", "AwsEc2Instance"),
        ("AWS::EC2::VPC", "AwsEc2Vpc"),
        ("AWS::EC2::VPCEndpointService", "AwsEc2VpcEndpointService"),
        ("AWS::CloudTrail::Trail", "AwsCloudTrailTrail"),
        ("Other", "Other"),
        ("", ""),
    ],
)
def test_types_of_resources(cloudformation: str, asff: str) -> None:
    assert asff_type(cloudformation) == asff
