"""Security Hub, Route 53, WAF, EKS, Network Firewall and Logstash: one good record, one bad, what is kept."""

import datetime as dt
import json
from typing import Any

import pytest

from support.text import dump
from trailhawk.sources import SOURCES

AT = dt.datetime(2026, 3, 1, 9, 30)
HUB = {
    "SchemaVersion": "2018-10-08",
    "Id": "arn:aws:securityhub:eu-central-1:111122223333:finding/1",
    "ProductArn": "arn:aws:securityhub:eu-central-1::product/aws/guardduty",
    "ProductName": "GuardDuty",
    "GeneratorId": "g",
    "AwsAccountId": "011122223333",
    "Region": "eu-central-1",
    "CreatedAt": "2026-03-01T09:00:00.000Z",
    "UpdatedAt": "2026-03-01T09:30:00.000Z",
    "Severity": {"Label": "HIGH", "Normalized": 70},
    "Compliance": {"Status": "FAILED", "SecurityControlId": "S3.8"},
    "Resources": [{"Type": "AwsS3Bucket", "Id": "arn:aws:s3:::cards"}],
    "Workflow": {"Status": "NEW"},
    "ProductFields": {"aws/guardduty/service/detectorId": "d"},
    "Sample": False,
}
QUERY = {
    "version": "1.100000",
    "account_id": "011122223333",
    "region": "eu-central-1",
    "vpc_id": "vpc-1",
    "query_timestamp": "2026-03-01T09:30:00Z",
    "query_name": "xn--example.com.",
    "query_type": "AAAA",
    "rcode": "NXDOMAIN",
    "answers": [{"Rdata": "2001:db8::1", "Type": "AAAA", "Class": "IN"}],
    "srcaddr": "10.0.0.1",
    "srcport": "61999",
    "srcids": {"instance": "i-0"},
    "firewall_rule_action": "BLOCK",
}
JUDGED = {
    "timestamp": 1772357400000,
    "formatVersion": 1,
    "webaclId": "arn:aws:wafv2:x",
    "terminatingRuleId": "r",
    "action": "BLOCK",
    "responseCodeSent": 403,
    "httpRequest": {
        "clientIp": "2001:db8::1",
        "uri": "/",
        "args": "a=1",
        "headers": [{"name": "Host", "value": "169.254.169.254"}],
    },
    "labels": [],
}
AUDIT = {
    "kind": "Event",
    "apiVersion": "audit.k8s.io/v1",
    "auditID": "a1",
    "stage": "ResponseComplete",
    "verb": "get",
    "user": {"username": "system:anonymous"},
    "sourceIPs": ["203.0.113.9"],
    "objectRef": {"resource": "secrets", "name": "db"},
    "responseStatus": {"code": 200},
    "stageTimestamp": "2026-03-01T09:30:00.000000Z",
    "annotations": {"authorization.k8s.io/decision": "allow"},
}
FIREWALL = {"firewall_name": "fw", "availability_zone": "eu-central-1a", "event_timestamp": "1772357400"}
EVENT = {"timestamp": "2026-03-01T09:30:00.000000+0000", "src_ip": "10.0.0.1", "dest_port": 443, "flow_id": 9}
ALERT = FIREWALL | {
    "event": EVENT
    | {"event_type": "alert", "alert": {"signature": "bad", "severity": 1, "action": "blocked"}}
}
FLOW = FIREWALL | {
    "event": EVENT
    | {
        "event_type": "netflow",
        "netflow": {"bytes": 3, "start": "2026-03-01T09:00:00+0000"},
        "tcp": {"syn": True},
    }
}
TLS = FIREWALL | {"event": EVENT | {"event_type": "tls", "sni": "x", "tls_error": {"error_message": "e"}}}


@pytest.mark.parametrize(
    ("record", "source", "expected"),
    [
        (
            HUB,
            "securityhub",
            {
                "AwsAccountId": "011122223333",
                "ComplianceStatus": "FAILED",
                "ComplianceSecurityControlId": "S3.8",
                "WorkflowState": "NEW",
                "AwsSecurityFindingSeverity": '{"Label":"HIGH","Normalized":70}',
                "_th_AwsSecurityFindingSeverity_Label": "HIGH",
                "RawData": json.dumps(HUB, separators=(",", ":")),
            },
        ),
        (
            QUERY,
            "route53",
            {
                "QueryName": "xn--example.com.",
                "SrcPort": "61999",
                "FirewallRuleAction": "BLOCK",
                "SrcIds": '{"instance":"i-0"}',
            },
        ),
        (
            JUDGED,
            "waf",
            {
                "ClientIp": "2001:db8::1",
                "ResponseCodeSent": 403,
                "FormatVersion": "1",
                "Headers": '[{"name":"Host","value":"169.254.169.254"}]',
                "Labels": "[]",
            },
        ),
        (
            AUDIT,
            "eks",
            {
                "User": "system:anonymous",
                "AuthDecision": "allow",
                "ResponseCode": 200,
                "ObjectRef": '{"resource":"secrets","name":"db"}',
                "SourceIPs": '["203.0.113.9"]',
            },
        ),
        (
            ALERT,
            "networkfirewall-alert",
            {"Signature": "bad", "Severity": "1", "DestPort": "443", "FlowId": "9"},
        ),
        (
            FLOW,
            "networkfirewall-flow",
            {"NetFlowBytes": "3", "Syn": True, "NetFlowStart": dt.datetime(2026, 3, 1, 9)},
        ),
        (TLS, "networkfirewall-tls", {"Sni": "x", "ErrorMessage": "e"}),
    ],
)
def test_a_record_becomes_a_row(
    record: dict[str, Any], source: str, expected: dict[str, Any], read: Any
) -> None:
    for data in (dump(record), dump([record]), json.dumps(record, indent=2).encode()):
        found = read(data)
        assert (found.source, found.reasons) == (source, [])
        (row,) = found.rows
        assert row["TimeGenerated"] == AT
        assert {name: row.get(name) for name in expected} == expected
    bad = [b"7", b'"text"', b"null", dump({"firewall_name": "x"}), dump(record)[:-30]]
    found = read(b"\n".join([dump(record), *bad, dump(record)]))
    assert (len(found.rows), len(found.bad)) == (2, len(bad))


def test_a_subscription_names_the_cluster_of_an_audit_event(read: Any) -> None:
    def subscribed(*messages: str, group: str = "/aws/eks/pay/cluster") -> bytes:
        events = [{"id": str(n), "timestamp": 1, "message": text} for n, text in enumerate(messages)]
        return dump(
            {
                "messageType": "DATA_MESSAGE",
                "owner": "011122223333",
                "logGroup": group,
                "logStream": "kube-apiserver-audit-1",
                "logEvents": events,
            }
        )

    (plain,) = read(dump(AUDIT)).rows
    text = json.dumps(AUDIT)
    found = read(subscribed(text, text[:-40], "I0301 not JSON", text[:-1] + ',"_cluster":"other"}', text))
    assert (found.source, len(found.rows), len(found.bad)) == ("eks", 3, 2)
    for row in found.rows:
        assert (row.pop("AwsAccountId"), row.pop("ClusterName")) == ("011122223333", "pay")
    assert found.rows[0] == found.rows[2] == plain
    assert json.loads(plain["RawEvent"]) == AUDIT
    # From another group nothing is known of the cluster.
    assert read(subscribed(text, group="mine")).rows == [plain]
    assert read(b"2026-03-01T09:31:00.000Z " + text.encode()).rows == [plain]


def test_security_hub_as_eventbridge_sends_it(read: Any) -> None:
    event = {"detail-type": "Security Hub Findings - Imported", "detail": {"findings": [HUB, HUB]}}
    found = read(dump(event))
    assert (found.source, len(found.rows), found.reasons) == ("securityhub", 2, [])
    assert json.loads(read(dump(HUB)).rows[0]["RawData"])["Sample"] is False


def test_what_has_no_column_is_kept_and_what_is_no_number_too(read: Any) -> None:
    (row,) = read(dump(JUDGED | {"ja4Fingerprint": "t13", "responseCodeSent": "many"})).rows
    assert json.loads(row["_th_rest"]) == {"ja4Fingerprint": "t13", "responseCodeSent": "many"}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, '"\\ud800"', "NaN"])
def test_hostile_json_is_set_aside(text: str, read: Any) -> None:
    found = read(dump(QUERY) + b"\n" + text.encode() + b"\n" + dump(QUERY) + b"\n")
    assert found.source == "route53"
    assert len(found.rows) == 2
    nested = dump(QUERY | {"answers": 0}).replace(b'"answers": 0', f'"answers": {text}'.encode())
    found = read(dump(QUERY) + b"\n" + nested + b"\n" + dump(QUERY) + b"\n")
    assert [row["QueryName"] for row in found.rows].count("xn--example.com.") >= 2


CALL = {
    "eventVersion": "1.08",
    "eventTime": "2026-03-01T09:30:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "eventID": "0f0f0f0f-1111-4222-8333-444455556666",
    "readOnly": True,
    "requestParameters": {"bucketName": "cards", "Host": "h", "x-amz-acl": "private"},
    "additionalEventData": {"bytesTransferredOut": 12},
    "resources": [{"ARN": "arn:aws:s3:::cards"}],
}
FLAT = {
    "Records_eventTime_t": "2026-03-01T09:30:00Z",
    "Records_eventVersion_s": "1.08",
    "Records_eventSource_s": "s3.amazonaws.com",
    "Records_eventName_s": "GetObject",
    "Records_eventID_g": "0f0f0f0f-1111-4222-8333-444455556666",
    "Records_readOnly_b": True,
    "Records_requestParameters_bucketName_s": "cards",
    "Records_requestParameters_Host_s": "h",
    "Records_requestParameters_x_amz_acl_s": "private",
    "Records_additionalEventData_bytesTransferredOut_d": 12.0,
    "Records_resources_s": '[{"ARN":"arn:aws:s3:::cards"}]',
}


def test_logstash_records_nested_and_flattened(read: Any) -> None:
    nested = {"@timestamp": "2026-03-01T09:31:00Z", "@version": "1", "Records": CALL}
    rows = []
    for data in (dump(nested), dump([nested]), dump(FLAT), dump({"TimeGenerated": "x", **FLAT})):
        found = read(data)
        assert (found.source, found.reasons) == ("logstash", [])
        (row,) = found.rows
        assert row["TimeGenerated"] == row["Records_eventTime_t"] == AT
        expected = {**FLAT, "Records_eventTime_t": AT}
        assert {name: row[name] for name in expected} == expected
        rows.append(row)
    assert len({row["_th_id"] for row in rows}) == 1


def test_cloudtrails_other_kinds_of_events(read: Any) -> None:
    """Insight, network activity and Lambda data events are CloudTrail's, each with what is special in it."""
    insight = {
        "eventVersion": "1.08",
        "eventTime": "2026-03-01T09:30:00Z",
        "awsRegion": "eu-central-1",
        "eventID": "i1",
        "eventType": "AwsCloudTrailInsight",
        "recipientAccountId": "111122223333",
        "sharedEventID": "s1",
        "insightDetails": {"state": "Start", "eventSource": "ssm.amazonaws.com", "eventName": "PutParameter"},
        "eventCategory": "Insight",
    }
    network = {
        "eventVersion": "1.09",
        "userIdentity": {"type": "AWSAccount", "accountId": "ANONYMOUS_PRINCIPAL", "principalId": ""},
        "eventTime": "2026-03-01T09:30:00Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "ListBuckets",
        "errorCode": "VpceAccessDenied",
        "eventType": "AwsVpceEvent",
        "vpcEndpointId": "vpce-1",
        "vpcEndpointAccountId": "111122223333",
        "eventCategory": "NetworkActivity",
    }
    function = CALL | {
        "eventSource": "lambda.amazonaws.com",
        "eventName": "Invoke",
        "requestParameters": {"functionName": "arn:aws:lambda:x", "invocationType": "Event"},
        "eventCategory": "Data",
    }
    found = read(dump({"Records": [insight, network, function]}))
    assert (found.source, found.reasons) == ("cloudtrail", [])
    first, second, third = found.rows
    assert (first["Category"], first["EventTypeName"]) == ("Insight", "AwsCloudTrailInsight")
    assert json.loads(first["AdditionalEventData"])["insightDetails"]["state"] == "Start"
    assert (second["Category"], second["VpcEndpointId"]) == ("NetworkActivity", "vpce-1")
    assert (second["ErrorCode"], second["UserIdentityAccountId"]) == (
        "VpceAccessDenied",
        "ANONYMOUS_PRINCIPAL",
    )
    assert json.loads(second["_th_rest"]) == {"vpcEndpointAccountId": "111122223333"}
    assert third["_th_RequestParameters_functionName"] == "arn:aws:lambda:x"


def test_no_other_source_takes_cloudtrail_for_its_own() -> None:
    """What an event quotes of other logs does not change whose it is."""
    quoted = CALL | {
        "requestParameters": {
            "webaclId": "x",
            "httpRequest": {},
            "query_timestamp": "x",
            "query_name": "y",
            "ProductArn": "p",
            "GeneratorId": "g",
            "detectorId": "d",
            "sessionData": [],
            "sessionId": "s",
            "Records": {},
        }
    }
    data = dump({"Records": [quoted]})
    assert next(source.name for source in SOURCES if source.recognises("x", data)) == "cloudtrail"
