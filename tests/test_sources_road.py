"""Logs of several sources through the whole road: a folder, the lake, queries; and tables of one's own."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from trailhawk.errors import SourceError
from trailhawk.workspace import Workspace

NOW = datetime(2026, 3, 3, tzinfo=UTC)
SESSION = "ann-0a1b2c3d4e5f67890"
FINDING = {
    "schemaVersion": "2.0",
    "accountId": "111122223333",
    "id": "f1",
    "type": "Recon:EC2/Portscan",
    "resource": {"instanceDetails": {"instanceId": "i-0123456789abcdef0"}},
    "service": {"detectorId": "d", "action": {"actionType": "NETWORK_CONNECTION"}, "count": 3},
    "severity": 5.5,
    "updatedAt": "2026-03-01T09:30:00Z",
}
PASCAL = {name[:1].upper() + name[1:]: value for name, value in json.loads(json.dumps(FINDING)).items()}
START = {
    "eventVersion": "1.11",
    "eventTime": "2026-03-01T09:00:00Z",
    "eventSource": "ssm.amazonaws.com",
    "eventName": "StartSession",
    "eventID": "e1",
    "sourceIPAddress": "203.0.113.66",
    "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/ann", "accessKeyId": "AKIA1"},
    "requestParameters": {"target": "i-0123456789abcdef0"},
    "responseElements": {"sessionId": SESSION},
}
READ = {
    "eventTime": "2026-03-01T10:00:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "eventID": "0f0f0f0f-1111-4222-8333-444455556666",
    "requestParameters": {"bucketName": "cards", "key": "käse.csv"},
    "additionalEventData": {"bytesTransferredOut": 12},
}
FLOW = "2 111122223333 eni-0a 10.0.0.1 203.0.113.9 51000 443 6 20 4249 1772357400 1772357460 ACCEPT OK"
PROXIED = (
    '203.0.113.66 - - [01/Mar/2026:09:30:00 +0000] "GET /latest/meta-data/ HTTP/1.1" 200 31 "-" "curl" '
    '"169.254.169.254" 169.254.169.254:80 0.004'
)
OKTA = """
name: okta
table: Okta_CL
objects: okta/
time: {from: published}
columns:
  - {name: Actor, type: string, from: actor.id}
  - {name: Target, type: dynamic, from: target}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    home, logs = tmp_path / "home", tmp_path / "logs"
    (home / "sources").mkdir(parents=True)
    (home / "sources" / "okta.yaml").write_text(OKTA)
    files: dict[str, Any] = {
        "trail.json": json.dumps({"Records": [START, READ]}),
        "finding.jsonl": json.dumps(FINDING) + "\n" + json.dumps(PASCAL) + "\n",
        "flow.log": f"{FLOW}\n{FLOW} x\n",
        "proxy.log": PROXIED + "\n",
        "logstash.json": json.dumps({"@version": "1", "Records": READ | {"eventID": "other"}}),
        f"sessions/{SESSION}.log": "Script started on 2026-03-01 09:00:01+0000\nsh-4.2$ id\n",
        "okta/a.json": json.dumps(
            {"published": "2026-03-01T09:30:00Z", "actor": {"id": "ann"}, "target": [1, 2]}
        ),
    }
    for name, text in files.items():
        path = logs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made = Workspace.open(home, clock=lambda: NOW)
    summary = made.ingest([logs], lambda _: None)
    assert (summary.records, summary.rows, summary.duplicates, summary.quarantined) == (11, 9, 1, 1)
    return made


def rows(workspace: Workspace, query: str) -> list[list[object]]:
    return [list(row.values()) for row in workspace.query(query, now=NOW).rows()]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            """AWSGuardDuty | project Severity, SeverityScore, tostring(ServiceDetails.action.actionType),
                tostring(ResourceDetails.instanceDetails.instanceId), gettype(ServiceDetails.count)""",
            [[5, 5.5, "NETWORK_CONNECTION", "i-0123456789abcdef0", "long"]],
        ),
        (
            "AWSVPCFlow | project SrcAddr, DstPort, Bytes, Action, Type",
            [["10.0.0.1", 443, 4249, "ACCEPT", "AWSVPCFlow"]],
        ),
        ("ProxyAccess | where HostHeader startswith '169.254.' | project RemoteIp", [["203.0.113.66"]]),
        ("Okta_CL | project Actor, toint(Target[1])", [["ann", 2]]),
        (
            """AwsBucketAPILogs_CL
                | summarize count() by EventName, BucketName, Records_requestParameters_key_s""",
            [["GetObject", "cards", "käse.csv", 2]],
        ),
        ("AWSS3BucketAPILogParsed() | summarize sum(BytesTransferredOut)", [[24.0]]),
        (
            "AwsBucketAPILogsRaw_CL | project Records_eventName_s, Records_eventTime_t",
            [["GetObject", datetime(2026, 3, 1, 10, tzinfo=UTC)]],
        ),
        (
            """AWSSSMSessions | where Output has 'id'
                | project SessionId, InstanceId, CallerIpAddress, CallerAccessKeyId, LineNumber""",
            [[SESSION, "i-0123456789abcdef0", "203.0.113.66", "AKIA1", 2]],
        ),
        (
            "IngestLedger | where Records != Rows + Duplicates + Filtered + Quarantined | count",
            [[0]],
        ),
        ("Quarantine | project Reason", [["not a flow log record: 15 fields, and no header says which"]]),
    ],
)
def test_what_was_taken_can_be_asked_for(
    workspace: Workspace, query: str, expected: list[list[object]]
) -> None:
    assert rows(workspace, query) == expected


def test_a_wrong_file_of_a_source_is_told_when_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "bad.yaml").write_text(OKTA.replace("Okta_CL", "Okta"))
    with pytest.raises(SourceError, match=r"bad\.yaml: table: 'Okta' cannot be used"):
        Workspace.open(tmp_path).ingest([], lambda _: None)
