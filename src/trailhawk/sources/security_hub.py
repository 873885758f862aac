"""AWS Security Hub findings as Sentinel's AWSSecurityHubFindings table.

Security Hub CSPM writes them in ASFF, the new Security Hub in OCSF. Both fill the same columns in ASFF's
words; `RawData` is the finding as it came, and `SchemaVersion` tells which it was.
Format: https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format.html
"""

from __future__ import annotations

from typing import Final

from trailhawk.kql.types import KqlType
from trailhawk.sources.columns import declared
from trailhawk.sources.json_rows import Field, JsonRows, JsonSource, Record, paths, shape, text_of
from trailhawk.sources.ocsf import as_asff, is_ocsf

_TEXT, _TIME, _JSON = KqlType.STRING, KqlType.DATETIME, KqlType.DYNAMIC

_LINES: Final = (
    ("TimeGenerated", _TIME, "When the finding was last updated, UTC.", "UpdatedAt|CreatedAt"),
    ("AwsAccountId", _TEXT, "Account that the finding is about.", "AwsAccountId"),
    ("AwsRegion", _TEXT, "Region the finding comes from.", "Region"),
    ("AwsSecurityFindingCreatedAt", _TIME, "When the finding was made.", "CreatedAt"),
    ("AwsSecurityFindingDescription", _TEXT, "What the finding says.", "Description"),
    ("AwsSecurityFindingFirstObservedAt", _TIME, "When the issue was first seen.", "FirstObservedAt"),
    ("AwsSecurityFindingGeneratorId", _TEXT, "Rule or check that made the finding.", "GeneratorId"),
    ("AwsSecurityFindingId", _TEXT, "Id of the finding.", "Id"),
    ("AwsSecurityFindingLastObservedAt", _TIME, "When the issue was last seen.", "LastObservedAt"),
    ("AwsSecurityFindingProcessedAt", _TIME, "When Security Hub took it.", "ProcessedAt"),
    ("AwsSecurityFindingProductArn", _TEXT, "ARN of the product that found it.", "ProductArn"),
    ("AwsSecurityFindingProductFields", _JSON, "Fields of the product's own.", "ProductFields"),
    ("AwsSecurityFindingProductName", _TEXT, "Name of the product that found it.", "ProductName"),
    ("AwsSecurityFindingSeverity", _JSON, "Label and numbers of the severity.", "Severity"),
    ("AwsSecurityFindingTitle", _TEXT, "Title of the finding.", "Title"),
    ("AwsSecurityFindingTypes", _JSON, "Types of the finding.", "Types"),
    ("AwsSecurityFindingUpdatedAt", _TIME, "When the finding was last updated.", "UpdatedAt"),
    (
        "ComplianceAssociatedStandards",
        _JSON,
        "Standards that ask for the check.",
        "Compliance.AssociatedStandards",
    ),
    (
        "ComplianceRelatedRequirements",
        _JSON,
        "Requirements behind the check.",
        "Compliance.RelatedRequirements",
    ),
    ("ComplianceSecurityControlId", _TEXT, "Id of the control.", "Compliance.SecurityControlId"),
    (
        "ComplianceSecurityControlParameters",
        _JSON,
        "Parameters of the control.",
        "Compliance.SecurityControlParameters",
    ),
    ("ComplianceStatus", _TEXT, "Outcome of the check, such as FAILED.", "Compliance.Status"),
    ("ComplianceStatusReasons", _JSON, "Why the check ended so.", "Compliance.StatusReasons"),
    ("RawData", _JSON, "The whole finding.", "*"),
    ("RecordState", _TEXT, "ACTIVE or ARCHIVED.", "RecordState"),
    ("Remediation", _JSON, "What to do about it.", "Remediation"),
    ("Resources", _JSON, "Resources that the finding is about.", "Resources"),
    ("SchemaVersion", _TEXT, "Version of the finding's format.", "SchemaVersion"),
    ("WorkflowState", _TEXT, "State of the work on it, such as NEW.", "WorkflowState|Workflow.Status"),
)
TABLE: Final = declared(
    "AWSSecurityHubFindings",
    "Findings of AWS Security Hub, one row an update of a finding.",
    _LINES,
    promoted={"AwsSecurityFindingSeverity": "Label"},
    statistics=("AwsSecurityFindingProductName", "AwsAccountId"),
)


def _prepare(finding: Record) -> Record | None:
    return as_asff(finding) if is_ocsf(finding) else None


def _identity(finding: Record) -> str:
    """An update of a finding. One that both Security Hubs send is two: each says what the other does not."""
    found = text_of(finding.get("Id"))
    hub = "\0v2" if _NEW_HUB in text_of(finding.get("ProductArn")) else ""
    return f"{found}\0{text_of(finding.get('UpdatedAt'))}{hub}" if found else ""


_NEW_HUB: Final = ":productv2/"


_FIELDS: Final = [
    Field(name, kind, ((),) if place == "*" else paths(place)) for name, kind, _, place in _LINES
]
SECURITY_HUB: Final = JsonSource(
    "securityhub",
    TABLE,
    JsonRows(TABLE, _FIELDS, what="Security Hub finding", identity=_identity, prepare=_prepare),
    framing=shape(
        lists=("findings", "Findings"),
        inner=("detail",),
        starts="SchemaVersion|ProductArn|AwsAccountId|activity_id",
    ),
    # OCSF is many tools' format: Security Hub's findings name its product, or come in its event.
    marks=(
        r'"ProductArn"\s*:|:securityhub:[^"]*:productv2/|"source"\s*:\s*"aws\.securityhub"',
        r'"(?:GeneratorId|AwsAccountId)"\s*:|"finding_info"\s*:',
    ),
)
