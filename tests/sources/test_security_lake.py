"""Security Lake: OCSF in Parquet and JSON back into AWS's own words, in bounded memory."""

import datetime as dt
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.programs import program
from trailhawk.connectors.store import comparable
from trailhawk.sources import SOURCES, known_by, parquet
from trailhawk.sources.cloudtrail import TABLE, CloudTrail
from trailhawk.sources.ocsf_cloudtrail import as_cloudtrail, nested
from trailhawk.sources.ocsf_network import as_audit, as_request
from trailhawk.sources.parquet_pages import check_footer, examined
from trailhawk.sources.security_lake import SECURITY_LAKE

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
BY_NAME = {source.name: source for source in SECURITY_LAKE}


WRITER = program("bench/security_lake.py")
EVENT = {
    "eventVersion": "1.11",
    "userIdentity": {
        "type": "AssumedRole",
        "principalId": "AROAEXAMPLE:i-0123456789abcdef0",
        "arn": "arn:aws:sts::011122223333:assumed-role/web/i-0123456789abcdef0",
        "accountId": "011122223333",
        "accessKeyId": "ASIAEXAMPLE",
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": "AROAEXAMPLE",
                "arn": "arn:aws:iam::011122223333:role/web",
                "accountId": "011122223333",
                "userName": "web",
            },
            "attributes": {"creationDate": "2026-03-01T08:00:00Z", "mfaAuthenticated": "false"},
            "ec2RoleDelivery": "2.0",
        },
    },
    "eventTime": "2026-03-01T09:30:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "awsRegion": "eu-central-1",
    "sourceIPAddress": "203.0.113.66",
    "userAgent": "[aws-cli/2.15]",
    "requestParameters": {"bucketName": "cards", "key": "käse, 😀.csv", "Host": "s3.amazonaws.com"},
    "responseElements": None,
    "additionalEventData": {
        "bytesTransferredOut": 4096.0,
        "bytesTransferredIn": 0,
        "SignatureVersion": "SigV4",
    },
    "requestID": "R1",
    "eventID": "e1",
    "readOnly": True,
    "resources": [
        {"type": "AWS::S3::Object", "ARN": "arn:aws:s3:::cards/käse"},
        {"accountId": "011122223333", "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::cards"},
    ],
    "eventType": "AwsApiCall",
    "managementEvent": False,
    "recipientAccountId": "011122223333",
    "vpcEndpointId": "vpce-1",
    "eventCategory": "Data",
    "tlsDetails": {"tlsVersion": "TLSv1.3", "cipherSuite": "X", "clientProvidedHostHeader": "h"},
}
LOGIN = {
    "eventVersion": "1.08",
    "userIdentity": {
        "type": "IAMUser",
        "principalId": "AIDA",
        "arn": "arn:aws:iam::011122223333:user/ann",
        "accountId": "011122223333",
        "userName": "ann",
    },
    "eventTime": "2026-03-01T09:31:00Z",
    "eventSource": "signin.amazonaws.com",
    "eventName": "ConsoleLogin",
    "awsRegion": "us-east-1",
    "sourceIPAddress": "203.0.113.66",
    "userAgent": "Mozilla",
    "errorMessage": "Failed authentication",
    "requestParameters": None,
    "responseElements": {"ConsoleLogin": "Failure"},
    "additionalEventData": {"LoginTo": "https://console", "MobileVersion": "No", "MFAUsed": "No"},
    "eventID": "e2",
    "readOnly": False,
    "eventType": "AwsConsoleSignIn",
    "managementEvent": True,
    "recipientAccountId": "011122223333",
    "eventCategory": "Management",
}
CREATE = EVENT | {
    "eventSource": "iam.amazonaws.com",
    "eventName": "CreateAccessKey",
    "sourceIPAddress": "cloudformation.amazonaws.com",
    "requestParameters": {"userName": "backdoor"},
    "responseElements": {"accessKey": {"accessKeyId": "AKIANEW", "userName": "backdoor", "status": "Active"}},
    "additionalEventData": None,
    "resources": None,
    "vpcEndpointId": None,
    "eventID": "e3",
    "eventCategory": "Management",
    "managementEvent": True,
    "readOnly": False,
}
LISTED = EVENT | {
    "eventName": "ListObjects",
    "resources": [
        {"type": "AWS::S3::Object", "ARNPrefix": "arn:aws:s3:::cards/a"},
        {"accountId": "011122223333", "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::cards"},
    ],
    "eventID": "e5",
}
ASSUME = EVENT | {
    "eventSource": "sts.amazonaws.com",
    "eventName": "AssumeRole",
    "errorCode": "AccessDenied",
    "requestParameters": {"roleArn": "arn:aws:iam::011122223333:role/admin", "roleSessionName": "x"},
    "resources": [
        {"ARN": "arn:aws:iam::011122223333:role/admin", "accountId": "011122223333", "type": "AWS::IAM::Role"}
    ],
    "additionalEventData": None,
    "eventID": "e4",
}
FLOW = {
    "metadata": {"product": {"name": "Amazon VPC", "version": "5"}, "version": "1.1.0"},
    "class_uid": 4001,
    "cloud": {"account": {"uid": "011122223333"}, "region": "eu-central-1", "zone": "euc1-az1"},
    "src_endpoint": {"ip": "203.0.113.66", "port": 56858, "svc_name": "-"},
    "dst_endpoint": {
        "ip": "172.31.2.52",
        "intermediate_ips": ["10.0.0.1"],
        "port": 22,
        "svc_name": "AMAZON CLOUDFRONT",
        "interface_uid": "eni-0a",
        "vpc_uid": "vpc-1",
        "instance_uid": "i-0",
        "subnet_uid": "subnet-1",
    },
    "connection_info": {
        "protocol_num": 6,
        "tcp_flags": 2,
        "protocol_ver": "IPv4",
        "direction_id": 1,
        "boundary_id": 99,
    },
    "traffic": {"packets": 1, "bytes": 2**40},
    "time": 1772357400000,
    "start_time_dt": "2026-03-01T09:30:00Z",
    "end_time_dt": "2026-03-01T09:31:00Z",
    "status_code": "OK",
    "action": "Denied",
    "unmapped": {"sublocation_id": "-", "ecs_cluster_name": "web", "reject_reason": "BPA"},
}
QUERY = {
    "metadata": {"product": {"name": "Route 53", "version": "1.100000"}, "version": "1.1.0"},
    "class_uid": 4003,
    "cloud": {"account": {"uid": "011122223333"}, "region": "eu-central-1"},
    "src_endpoint": {"ip": "10.0.0.1", "port": 15083, "vpc_uid": "vpc-1", "instance_uid": "i-0"},
    "dst_endpoint": {"instance_uid": "rslvr-in-1", "interface_uid": "rni-1"},
    "connection_info": {"protocol_name": "UDP"},
    "query": {"hostname": "evil.example.", "type": "A", "class": "IN"},
    "answers": [{"rdata": "203.0.113.9", "type": "A", "class": "IN"}],
    "rcode": "NXDomain",
    "action": "Denied",
    "disposition": "Blocked",
    "firewall_rule": {"uid": "rslvr-frg-1"},
    "time": 1772357400000,
    "unmapped": {"firewall_domain_list_id": "rslvr-fdl-1"},
}
REQUEST = {
    "metadata": {
        "product": {"name": "AWS WAF", "version": "1", "feature": {"uid": "arn:aws:wafv2:acl"}},
        "labels": ["awswaf:managed:x"],
    },
    "class_uid": 4002,
    "src_endpoint": {"ip": "203.0.113.9", "svc_name": "ALB", "uid": "app/x", "location": {"country": "DE"}},
    "http_request": {
        "http_method": "GET",
        "version": "HTTP/2.0",
        "uid": "R1",
        "user_agent": "curl",
        "url": {"path": "/latest/meta-data", "hostname": "169.254.169.254"},
        "http_headers": [{"name": "X-A", "value": "b"}],
    },
    "firewall_rule": {"uid": "Default_Action", "type": "REGULAR"},
    "disposition": "Blocked",
    "time": 1772357400123,
}
AUDIT = {
    "metadata": {"product": {"name": "Amazon EKS", "version": "audit.k8s.io/v1"}, "log_level": "Metadata"},
    "class_uid": 6003,
    "cloud": {"account": {"uid": "011122223333"}},
    "message": "ResponseComplete",
    "api": {
        "operation": "create",
        "request": {"uid": "a1"},
        "response": {"code": 201},
        "group": {"name": "rbac.authorization.k8s.io"},
        "version": "v1",
    },
    "actor": {"user": {"name": "system:anonymous", "groups": [{"name": "system:unauthenticated"}]}},
    "http_request": {"url": {"path": "/apis/rbac/clusterrolebindings"}, "user_agent": "kubectl"},
    "src_endpoint": {"ip": "203.0.113.66", "intermediate_ips": ["10.0.0.1"]},
    "resources": [{"type": "clusterrolebindings", "name": "x"}],
    "time_dt": "2026-03-01T09:30:00.5Z",
    "unmapped": {"annotations.authorization.k8s.io/decision": "allow"},
}
FINDING = {
    "metadata": {
        "product": {
            "name": "GuardDuty",
            "uid": "arn:aws:securityhub:eu-central-1::product/aws/guardduty",
            "feature": {"uid": "arn:aws:guardduty:detector/1"},
        },
        "version": "1.1.0",
    },
    "class_uid": 2004,
    "cloud": {"account": {"uid": "011122223333"}, "region": "eu-central-1"},
    "finding_info": {
        "uid": "arn:aws:guardduty:eu-central-1:011122223333:detector/1/finding/2",
        "title": "Trail was disabled",
        "created_time_dt": "2026-03-01T09:00:00Z",
        "modified_time_dt": "2026-03-01T09:30:00Z",
        "types": ["TTPs/Defense Evasion"],
    },
    "resources": [{"type": "AwsIamAccessKey", "uid": "AWS::IAM::AccessKey:ASIAEXAMPLE", "data": "{}"}],
    "severity": "High",
    "severity_id": 4,
    "status": "New",
    "time": 1772357400000,
    "unmapped": {
        "RecordState": "ARCHIVED",
        "Severity.Product": "8",
        "ProductFields.aws/securityhub/CompanyName": "Amazon",
    },
}


def dump(*events: object) -> bytes:
    return b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events)


def parquet_of(*events: Mapping[str, Any]) -> bytes:
    """A Parquet file of events of OCSF, `unmapped` as a map; times are timestamps as far as they are text."""
    rows = [{**event} for event in events]
    for row in rows:
        for name in row:
            if name.endswith("_dt"):
                row[name] = dt.datetime.fromisoformat(row[name])
    maps = [list(row.pop("unmapped", {}).items()) for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    file = io.BytesIO()
    pq.write_table(table.append_column("unmapped", pa.array(maps, pa.map_(pa.string(), pa.string()))), file)
    return file.getvalue()


def same_rows(events: list[dict[str, Any]], version: int) -> tuple[list[Any], list[Any]]:
    """The rows of events as CloudTrail delivers them and as Security Lake does, JSON by its value."""
    source = BY_NAME["securitylake-cloudtrail"]
    direct = CloudTrail().rows([json.dumps(event, ensure_ascii=False).encode() for event in events])
    chunks = list(source.chunks(iter([WRITER.parquet_of(events, version)])))
    by_lake = source.rows([record for chunk in chunks for record in chunk.records])
    assert (by_lake.bad, [chunk.bad for chunk in chunks]) == ((), [()] * len(chunks))
    assert by_lake.table["_th_id"].to_pylist() == direct.table["_th_id"].to_pylist()
    return list(comparable(direct.table, TABLE)), list(comparable(by_lake.table, TABLE))


def test_source_version_2_gives_the_rows_that_cloudtrail_gives(read: Any) -> None:
    events: list[dict[str, Any]] = [EVENT, LOGIN, CREATE, ASSUME]
    direct, by_lake = same_rows([*events, LISTED], 2)
    assert by_lake == direct
    found = read(WRITER.parquet_of(events, 2))
    assert (found.source, found.reasons, len(found.rows)) == ("securitylake-cloudtrail", [], 4)
    get, login, create, assume = found.rows
    assert get["RequestParameters"] == '{"bucketName":"cards","key":"käse, 😀.csv","Host":"s3.amazonaws.com"}'
    assert json.loads(get["AdditionalEventData"])["bytesTransferredOut"] == 4096
    assert (get["SessionIssuerArn"], get["EC2RoleDelivery"]) == ("arn:aws:iam::011122223333:role/web", "2.0")
    assert json.loads(login["AdditionalEventData"])["MFAUsed"] == "No"
    assert create["SourceIpAddress"] == "cloudformation.amazonaws.com"
    assert (assume["ErrorCode"], assume["TimeGenerated"]) == ("AccessDenied", dt.datetime(2026, 3, 1, 9, 30))


def test_source_version_1_gives_them_but_for_what_it_has_not_kept(read: Any) -> None:
    direct, by_lake = same_rows([EVENT, LOGIN, CREATE, ASSUME], 1)
    assert by_lake == direct  # texts only in requests and answers
    tags = {"items": [{"key": "a", "value": "b"}, {"key": "c", "value": "d"}]}
    event = EVENT | {
        "eventName": "AuthorizeSecurityGroupIngress",
        "requestParameters": {
            "maxResults": 5,
            "groupId": "sg-1",
            "ipPermissions": {
                "items": [
                    {"ipProtocol": "tcp", "fromPort": 22, "ipRanges": {"items": [{"cidrIp": "0.0.0.0/0"}]}}
                ]
            },
            "tagSet": tags,
        },
    }
    found = read(WRITER.parquet_of([event], 1))
    (row,) = found.rows
    asked = json.loads(row["RequestParameters"])
    assert (asked["maxResults"], asked["groupId"]) == ("5", "sg-1"), "numbers are text"
    assert asked["tagSet"]["items"] == tags["items"]
    assert (row["CidrIp"], row["SourcePort"], row["IpProtocol"]) == ("0.0.0.0/0", "22", "tcp")


@pytest.mark.parametrize("version", [1, 2])
def test_recorded_events_come_by_both_roads_as_one_row(version: int) -> None:
    events: list[dict[str, Any]] = []
    for path in sorted(DATA.rglob("*.json")):
        if len(events) > 1_500:
            break
        try:
            content = json.loads(path.read_bytes())
        except ValueError:
            continue
        for event in content.get("Records", []) if isinstance(content, dict) else []:
            if isinstance(event.get("eventTime"), str) and not isinstance(
                event.get("requestParameters"), str
            ):
                events.append(event)
    if not events:
        pytest.skip("no recordings beside the repository")
    direct, by_lake = same_rows(events, version)
    same = sum(one == other for one, other in zip(direct, by_lake, strict=True))
    assert same == len(events) if version == 2 else same > len(events) // 3


def test_flows(read: Any) -> None:
    egress = FLOW | {
        "src_endpoint": {"ip": "10.0.0.1", "port": 22, "interface_uid": "eni-0b"},
        "dst_endpoint": {"ip": "203.0.113.66", "port": 443},
        "connection_info": {"protocol_num": 6, "direction": "Outbound", "boundary_id": 11},
        "metadata": {"product": {"name": "Amazon VPC", "version": "2"}, "version": "1.0.0-rc.2"},
        "cloud": {"account_uid": "011122223333"},
        "action": None,
        "disposition": "Allowed",
    }
    for data in (dump(FLOW, egress), parquet_of(FLOW, egress)):
        found = read(data)
        assert (found.source, found.reasons) == ("securitylake-vpcflow", [])
        first, second = found.rows
        assert (first["SrcAddr"], first["DstAddr"], first["PktDstAddr"]) == (
            "203.0.113.66",
            "10.0.0.1",
            "172.31.2.52",
        )
        assert (first["Action"], first["FlowDirection"], first["InterfaceId"]) == (
            "REJECT",
            "ingress",
            "eni-0a",
        )
        assert (first["Bytes"], first["DstPort"], first["LogStatus"], first["VpcId"]) == (
            2**40,
            22,
            "OK",
            "vpc-1",
        )
        assert first["PktDstAwsService"] == "AMAZON_CLOUDFRONT"
        assert (first["Start"], first["End"]) == (
            dt.datetime(2026, 3, 1, 9, 30),
            dt.datetime(2026, 3, 1, 9, 31),
        )
        assert (first["EcsClusterName"], json.loads(first["_th_rest"])) == ("web", {"reject-reason": "BPA"})
        assert (second["Action"], second["FlowDirection"], second["InterfaceId"]) == (
            "ACCEPT",
            "egress",
            "eni-0b",
        )
        assert (second["AccountId"], second["TrafficPath"]) == ("011122223333", "8")


def test_queries_requests_audit_events_and_findings(read: Any) -> None:
    for data in (dump(QUERY), parquet_of(QUERY)):
        found = read(data)
        assert (found.source, found.reasons) == ("securitylake-route53", [])
        (row,) = found.rows
        assert (row["QueryName"], row["Rcode"], row["SrcPort"]) == ("evil.example.", "NXDOMAIN", "15083")
        assert (row["FirewallRuleAction"], row["FirewallDomainListId"]) == ("BLOCK", "rslvr-fdl-1")
        assert json.loads(row["Answers"]) == [{"Rdata": "203.0.113.9", "Type": "A", "Class": "IN"}]
        assert json.loads(row["SrcIds"])["instance"] == "i-0"
    for data in (dump(REQUEST), parquet_of(REQUEST)):
        found = read(data)
        assert (found.source, found.reasons) == ("securitylake-waf", [])
        (row,) = found.rows
        assert (row["Action"], row["ClientIp"], row["Uri"]) == ("BLOCK", "203.0.113.9", "/latest/meta-data")
        assert row["TimeGenerated"] == dt.datetime(2026, 3, 1, 9, 30, 0, 123000)
        assert {"name": "Host", "value": "169.254.169.254"} in json.loads(row["Headers"])
    for data in (dump(AUDIT), parquet_of(AUDIT)):
        found = read(data)
        assert (found.source, found.reasons) == ("securitylake-eks", [])
        (row,) = found.rows
        assert (row["User"], row["Verb"], row["ResponseCode"]) == ("system:anonymous", "create", 201)
        assert (row["AwsAccountId"], row["AuthDecision"]) == ("011122223333", "allow")
        assert json.loads(row["SourceIPs"]) == ["203.0.113.66", "10.0.0.1"]
    found = read(parquet_of(FINDING))
    assert (found.source, found.reasons) == ("securitylake-findings", [])
    (row,) = found.rows
    assert row["AwsSecurityFindingTitle"] == "Trail was disabled"
    assert json.loads(row["AwsSecurityFindingSeverity"]) == {
        "Label": "HIGH",
        "Original": "High",
        "Product": 8,
        "Normalized": 70,
    }
    assert (row["RecordState"], row["AwsAccountId"]) == ("ARCHIVED", "011122223333")
    assert json.loads(row["RawData"])["unmapped"]["Severity.Product"] == "8"


AUDIT_15 = AUDIT | {
    "metadata": {
        "product": {"name": "Amazon EKS", "version": "audit.k8s.io/v1"},
        "log_level": "RequestResponse",
        "log_name": "Event",
        "version": "1.5.0",
    },
    "cloud": {"account": {"uid": "arn:aws:sts::011122223333:assumed-role/nodes/i-1"}, "provider": "AWS"},
    "api": {
        "operation": "create",
        "request": {"uid": "a1", "data": '{"kind":"Pod","spec":{"hostPID":true}}'},
        "response": {"code": 201, "data": '{"kind":"Pod","n":1.0}'},
        "version": "v1",
    },
    "actor": {
        "session": {
            "credential_uid": "ASIAX",
            "issuer": "arn:aws:iam::011122223333:role/nodes",
            "uid": "i-1",
        },
        "user": {"name": "ann", "groups": [{"name": "system:masters"}], "uid_alt": "AROAX"},
    },
    "http_request": {"url": {"path": "/api/v1/namespaces/d/pods/p/exec?command=id"}, "user_agent": "kubectl"},
    "resources": [{"type": "pods/exec", "name": "p", "namespace": "d"}],
    "policy": {"name": "RBAC: allowed"},
    "unmapped": {"annotations.authorization.k8s.io/decision": "allow", "eks_cluster_name": "prod"},
}


def test_audit_events_of_ocsf_1_5(read: Any) -> None:
    for data in (dump(AUDIT_15), parquet_of(AUDIT_15)):
        found = read(data)
        assert (found.source, found.reasons) == ("securitylake-eks", [])
        (row,) = found.rows
        assert json.loads(row["ObjectRef"]) == {
            "resource": "pods",
            "subresource": "exec",
            "namespace": "d",
            "name": "p",
            "apiVersion": "v1",
        }
        assert (row["AwsAccountId"], row["ClusterName"]) == ("011122223333", "prod")
        event = json.loads(row["RawEvent"])
        assert event["requestObject"] == {"kind": "Pod", "spec": {"hostPID": True}}
        assert event["responseObject"]["kind"] == "Pod"
        assert event["user"]["extra"] == {
            "accessKeyId": ["ASIAX"],
            "arn": ["arn:aws:sts::011122223333:assumed-role/nodes/i-1"],
            "canonicalArn": ["arn:aws:iam::011122223333:role/nodes"],
            "principalId": ["AROAX"],
            "sessionName": ["i-1"],
        }
        assert event["annotations"] == {
            "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason": "RBAC: allowed",
        }


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        ("pods", "/api/v1/namespaces/d/pods/p", ("pods", None)),
        ("pods", "/api/v1/namespaces/d/pods/p/exec", ("pods", "exec")),
        ("podsexec", "/api/v1/namespaces/d/pods/p/exec", ("pods", "exec")),
        ("pods;log", "/api/v1/namespaces/d/pods/p/log", ("pods", "log")),
        ("pods/proxy", "/api/v1/namespaces/d/pods/p/proxy/a/b", ("pods", "proxy")),
        ("nodes/status", "/api/v1/nodes/n/status", ("nodes", "status")),
        ("namespacesfinalize", "/api/v1/namespaces/d/finalize", ("namespaces", "finalize")),
        ("namespaces", "/api/v1/namespaces/d", ("namespaces", None)),
        ("deployments/scale", "/apis/apps/v1/namespaces/d/deployments/x/scale", ("deployments", "scale")),
        ("events", "/version", ("events", None)),
        ("a/b/c", None, ("a", "b/c")),
    ],
)
def test_what_a_kubernetes_request_was_for(
    kind: str, path: str | None, expected: tuple[str, str | None]
) -> None:
    made = as_audit({"resources": [{"type": kind}], "http_request": {"url": {"path": path}}})
    event = made["_event"]
    assert isinstance(event, dict)
    assert (event["objectRef"]["resource"], event["objectRef"].get("subresource")) == expected


@pytest.mark.parametrize(
    ("uid", "account"),
    [
        ("011122223333", "011122223333"),
        ("arn:aws-us-gov:sts::011122223333:assumed-role/r/i", "011122223333"),
        ("arn:aws:iam", ""),
        ("203.0.113.66", ""),
        (11122223333, ""),
    ],
)
def test_the_account_of_an_audit_event(uid: object, account: str) -> None:
    assert as_audit({"cloud": {"account": {"uid": uid}}})["_account"] == account


REQUEST_15 = REQUEST | {
    "http_request": {
        "http_method": "GET",
        "user_agent": "curl",
        "referrer": "https://a/",
        "url": {"path": "/", "hostname": "example.com", "port": 8443},
        "x_forwarded_for": ["198.51.100.7", "10.0.0.1"],
        "http_headers": [{"name": "user-agent", "value": "curl"}, {"name": "accept", "value": "*/*"}],
    },
    "firewall_rule": {
        "uid": "sqli",
        "type": "REGULAR",
        "condition": "SQL_INJECTION",
        "sensitivity": "HIGH",
        "match_location": "HEADER",
        "match_details": ["10", "AND", "1"],
        "name": "rate",
        "rate_limit": 100,
    },
    "http_status": 405,
    "tls": {"ja3_hash": {"value": "719"}},
    "ja4_fingerprint_list": [{"value": "t13"}],
    "unmapped": {
        "httpRequest.scheme": "https",
        "terminatingRuleMatchDetails[].matchedFieldName": "x-q",
        "rateBasedRuleList[].limitKey": "IP",
    },
}


def test_requests_of_ocsf_1_5(read: Any) -> None:
    for data in (dump(REQUEST_15), parquet_of(REQUEST_15)):
        found = read(data)
        assert (found.source, found.reasons) == ("securitylake-waf", [])
        (row,) = found.rows
        assert json.loads(row["Headers"]) == [
            {"name": "user-agent", "value": "curl"},
            {"name": "accept", "value": "*/*"},
            {"name": "Referer", "value": "https://a/"},
            {"name": "Host", "value": "example.com:8443"},
            {"name": "X-Forwarded-For", "value": "198.51.100.7, 10.0.0.1"},
        ]
        assert json.loads(row["TerminatingRuleMatchDetails"]) == [
            {
                "matchedFieldName": "x-q",
                "conditionType": "SQL_INJECTION",
                "sensitivityLevel": "HIGH",
                "location": "HEADER",
                "matchedData": ["10", "AND", "1"],
            }
        ]
        assert json.loads(row["RateBasedRuleList"]) == [
            {"limitKey": "IP", "rateBasedRuleName": "rate", "maxRateAllowed": 100}
        ]
        assert json.loads(row["HttpRequest"])["scheme"] == "https"
        assert (row["ResponseCodeSent"], row["Ja3Fingerprint"]) == (405, "719")
        assert json.loads(row["_th_rest"])["ja4Fingerprint"] == "t13"
    plain = as_request(REQUEST)
    assert not {"terminatingRuleMatchDetails", "rateBasedRuleList", "ja3Fingerprint"} & set(plain)
    usual = as_request({"http_request": {"url": {"hostname": "example.com", "port": 443}}})
    assert usual["httpRequest"] == {"headers": [{"name": "Host", "value": "example.com"}]}


def test_users_of_identity_center_and_owners_in_ocsf_1_5() -> None:
    user = {"account": {"uid": "011122223333"}, "credential_uid": "da3f", "type": "IdentityCenterUser"}
    store = "arn:aws:identitystore::011122223333:identitystore/d-99"
    event = WRITER.as_ocsf(LOGIN) | {
        "actor": {"idp": {"uid": store}, "user": user | {"name": "ann", "uid_alt": "e364"}},
        "resources": [{"uid": "arn:aws:s3:::b", "type": "T", "owner": {"account": {"uid": "011122223333"}}}],
        "unmapped": {"additionalEventData.CredentialType": "PASSWORD"},
    }
    made = as_cloudtrail(event)
    behalf = {"userId": "e364", "identityStoreArn": store}
    identity = {"type": "IdentityCenterUser", "accountId": "011122223333", "credentialId": "da3f"}
    assert made["userIdentity"] == identity | {"onBehalfOf": behalf}
    assert made["resources"] == [{"accountId": "011122223333", "type": "T", "ARN": "arn:aws:s3:::b"}]
    additional = made["additionalEventData"]
    assert isinstance(additional, dict)
    assert (additional["UserName"], additional["CredentialType"]) == ("ann", "PASSWORD")
    # OCSF 1.1 has no place for whom it was done, and keeps the principal in its own.
    event["actor"] = {"user": user | {"uid_alt": "AROAX:ann"}}
    event["unmapped"] = {"userIdentity.onBehalfOf.userId": "e364", "userIdentity.credentialId": "da3f"}
    expected = identity | {"principalId": "AROAX:ann", "onBehalfOf": {"userId": "e364"}}
    assert as_cloudtrail(event)["userIdentity"] == expected
    # A role that acts for a user keeps its own id and key.
    event["actor"] = {"user": user | {"type": "AssumedRole", "uid_alt": "AROAX:ann"}, "idp": {"uid": store}}
    assert as_cloudtrail(event)["userIdentity"] == {
        "type": "AssumedRole",
        "principalId": "AROAX:ann",
        "accountId": "011122223333",
        "accessKeyId": "da3f",
        "credentialId": "da3f",
        "onBehalfOf": behalf,
    }


def test_a_file_that_could_be_two_logs_is_that_of_its_product(read: Any) -> None:
    """Columns alone do not tell: the statistics of the product count before them."""
    both: dict[str, Any] = json.loads(json.dumps(AUDIT_15))
    both["api"]["service"] = {"name": "eks"}
    both["metadata"]["uid"] = "x"
    assert read(parquet_of(both)).source == "securitylake-eks"
    trail = both | {"metadata": both["metadata"] | {"product": {"name": "CloudTrail"}}}
    assert read(parquet_of(trail)).source == "securitylake-cloudtrail"


def test_a_finding_of_the_first_version(read: Any) -> None:
    old = {
        **{name: value for name, value in FINDING.items() if name != "finding_info"},
        "class_uid": 2001,
        "cloud": {"account_uid": "011122223333"},
        "finding": {"uid": "f1", "title": "Open port", "modified_time": 1772357400000},
    }
    (row,) = read(parquet_of(old)).rows
    assert (row["AwsSecurityFindingId"], row["AwsAccountId"]) == ("f1", "011122223333")


def test_lines_of_json_cost_only_the_broken_one(read: Any) -> None:
    event = WRITER.as_ocsf(EVENT) | {"time_dt": "2026-03-01T09:30:00Z"}
    event["actor"]["session"]["created_time_dt"] = "2026-03-01T08:00:00Z"
    other = {**event, "metadata": {"product": {"name": "Okta"}}}
    found = read(dump(event, other) + b'{"class_uid":\n' + dump({**event, "class_uid": 9}, event))
    assert (found.source, len(found.rows), len(found.bad)) == ("securitylake-cloudtrail", 2, 3)
    assert any("of the product 'Okta'" in reason for reason in found.reasons)
    assert any("of the class '9'" in reason for reason in found.reasons)


def test_what_others_wrote_is_not_taken(read: Any) -> None:
    """Security Lake's custom sources have the same classes and the same columns."""
    okta = {**FLOW, "metadata": {"product": {"name": "Palo Alto"}}}
    assert read(parquet_of(okta)).source == ""
    assert read(dump(okta)).source == ""
    # A file of both, of which the footer says no single product.
    found = read(parquet_of(FLOW, okta))
    assert (found.source, len(found.rows)) == ("securitylake-vpcflow", 1)
    assert "of the product 'Palo Alto'" in found.reasons[0]
    # S3 Inventory, and a file of S3 Storage Lens.
    inventory = pa.table({"bucket": ["b"], "key": ["k"], "size": [1], "last_modified_date": [1772357400000]})
    lens = pa.table(
        {"version_number": ["V_1"], "record_type": ["BUCKET"], "metric_name": ["x"], "metric_value": [1]}
    )
    for table in (inventory, lens):
        file = io.BytesIO()
        pq.write_table(table, file)
        assert read(file.getvalue()).source == ""


def test_a_damaged_file_is_set_aside_whole(read: Any) -> None:
    data = WRITER.parquet_of([EVENT] * 50)
    source = BY_NAME["securitylake-cloudtrail"]
    broken = data[:200] + b"\xff" * 400 + data[600:]
    found = read(broken, source=source)
    assert found.rows == []
    assert found.reasons[0].startswith("Parquet that cannot be read after 0 rows")
    assert found.bad[0].size == len(data)
    assert read(data[:-3]).source == "vpcflow", "no footer: set aside with its reason"


def test_a_value_that_stands_in_every_row_is_not_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_PIECE_BYTES", 1 << 20)
    source = BY_NAME["securitylake-cloudtrail"]
    count, length = 100, 200_000
    event = EVENT | {"requestParameters": {"bucketName": "x" * length}}
    data = WRITER.parquet_of([event] * count)
    assert len(data) < 60_000
    sizes = [sum(map(len, chunk.records)) for chunk in source.chunks(iter([data]))]
    assert sum(sizes) > count * length
    assert max(sizes) < 2 << 20
    monkeypatch.setattr(parquet, "MAX_RECORD_BYTES", 150_000)
    monkeypatch.setattr(parquet, "_PIECE_BYTES", 100_000)
    (chunk, *_) = source.chunks(iter([data]))
    assert "larger than" in chunk.bad[0].reason


_HOSTILE = """
import io, resource, sys
import pyarrow as pa, pyarrow.parquet as pq
from trailhawk.sources.security_lake import SECURITY_LAKE
rows, inner = 6, 700_000
keys = pa.repeat("k", rows * inner)
maps = pa.MapArray.from_arrays(pa.array(range(0, rows * inner + 1, inner), pa.int32()), keys, keys)
text = pa.repeat("CloudTrail", rows)
def struct(**fields):
    return pa.StructArray.from_arrays(list(fields.values()), list(fields))
table = pa.table({
    "metadata": struct(product=struct(name=text), uid=text),
    "api": struct(operation=text, service=struct(name=text)),
    "class_uid": pa.repeat(pa.scalar(6003, pa.int32()), rows),
    "unmapped": maps,
})
file = io.BytesIO()
pq.write_table(table, file, compression="zstd", row_group_size=rows if sys.argv[1] == "one" else 2)
data = file.getvalue()
del table, maps, keys, file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source = next(source for source in SECURITY_LAKE if source.name == "securitylake-cloudtrail")
reasons = [part.reason for chunk in source.chunks(iter([data])) for part in chunk.bad]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(data), (after - before) // 1024, reasons[0])
"""


@pytest.mark.parametrize("groups", ["one", "many"])
def test_lists_that_hold_more_than_memory_are_not_unfolded(groups: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HOSTILE, groups], capture_output=True, text=True, check=True, timeout=120
    )
    size, grown, reason = done.stdout.split(maxsplit=2)
    assert int(size) < 1_000_000
    assert int(grown) < 1_000, "MB"
    assert "row of Parquet larger than 16 MB" in reason or "lists of a row group" in reason


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_files_of_several_row_groups_and_of_dictionaries_that_end(dictionary: bool, version: str) -> None:
    """A writer gives up a column's dictionary when it is too large, in the middle of a row group."""
    events = [
        EVENT | {"eventID": f"e{number}", "requestParameters": {"key": "k" * 50 + str(number)}}
        for number in range(500)
    ]
    table = pq.read_table(io.BytesIO(WRITER.parquet_of(events)))
    file = io.BytesIO()
    pq.write_table(
        table,
        file,
        row_group_size=200,
        use_dictionary=dictionary,
        dictionary_pagesize_limit=2_000,
        data_page_size=500,
        data_page_version=version,
        compression="zstd" if dictionary else "gzip",
        write_batch_size=20,
    )
    pages = examined(file, pq.ParquetFile(file).metadata)
    assert bool(pages.mixed) == dictionary
    source = BY_NAME["securitylake-cloudtrail"]
    chunks = list(source.chunks(iter([file.getvalue()])))
    assert [chunk.bad for chunk in chunks] == [()] * len(chunks)
    rows = source.rows([record for chunk in chunks for record in chunk.records])
    assert rows.table["AwsEventId"].to_pylist() == [event["eventID"] for event in events]
    keys = [json.loads(text)["key"] for text in rows.table["RequestParameters"].to_pylist()]
    assert keys == ["k" * 50 + str(number) for number in range(500)]


def test_what_stands_in_unmapped_goes_where_it_was() -> None:
    assert nested({"a": "1", "a.b": "2", "c.d": "3", "c": "4"}) == {"a": {"b": "2"}, "c": {"d": "3"}}
    assert nested({"x[].y": "1,2", "x[].z": "3"}) == {"x": [{"y": "1,2", "z": "3"}]}
    assert nested({"x[]": "1,2"}) == {"x": ["1", "2"]}
    assert nested('{"a.b":"1"}') == nested({"a": {"b": "1"}}) == {"a": {"b": "1"}}
    assert nested(None) == nested([1]) == nested("no JSON") == {}
    deep = nested({".".join("a" * 500): "1"})
    assert len(json.dumps(deep)) < 3_000


@pytest.mark.parametrize(
    "unmapped",
    [
        {"requestParameters.r[].ARN": "," * 12_000_000},
        {"requestParameters.r[].ARN": "," * 9_000, "requestParameters.s[].ARN": "," * 9_000},
        {f"requestParameters.r[].{'n' * 5_000}": "," * 5_000},
        {".".join([f"p{place}", *"a" * 30]): "1" for place in range(20_000)},
    ],
    ids=["one text", "texts", "name", "paths"],
)
def test_a_text_of_commas_becomes_no_record_many_times_larger(unmapped: dict[str, str]) -> None:
    """12 kB that unpack to 12 million values took 3.5 GB, and what stood beside them was lost."""
    event = WRITER.as_ocsf(EVENT, 1) | {"unmapped": unmapped}
    made = as_cloudtrail(event)
    assert len(json.dumps(made)) < 3 * len(json.dumps(event))
    parameters = made.get("requestParameters", {})
    assert isinstance(parameters, dict)
    asked = next(iter(parameters.values()), None)
    assert asked is None or (isinstance(asked, list) and len(asked) == 1), "the text as it was"


def test_a_record_too_large_for_its_log_is_a_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source = BY_NAME["securitylake-cloudtrail"]
    event = WRITER.as_ocsf(EVENT, 1) | {"time_dt": None, "actor": {}}
    large = event | {"unmapped": {"requestParameters.a[].b": "," * 300}}
    monkeypatch.setattr("trailhawk.sources.converted.MAX_RECORD_BYTES", 2_000)
    rows = source.rows([json.dumps(each).encode() for each in (event, large, event)])
    assert (rows.table.num_rows, list(rows.kept)) == (2, [0, 2])
    assert "in the words of its log it is larger than" in rows.bad[0][1]


def test_values_that_json_has_not_are_text() -> None:
    table = pa.table(
        {
            "a": pa.array([dt.date(2026, 3, 1), None]),
            "b": pa.array([dt.timedelta(seconds=1), None]),
            "c": pa.array([b"\xff", None], pa.binary()),
            "d": pa.array([2**62, None], pa.timestamp("us")),
            "e": pa.array([1.5, None]),
        }
    )
    (batch,) = table.to_batches()
    assert parquet.dicts(batch) == [
        {"a": "2026-03-01", "b": "0:00:01", "c": "\ufffd", "d": 2**62, "e": 1.5},
        {},
    ]


def test_numbers_of_a_request_keep_their_digits() -> None:
    event = WRITER.as_ocsf(EVENT | {"requestParameters": {"n": 0}})
    event["api"]["request"]["data"] = '{"n":123456789012345678901234567890.10}'
    event |= {"time_dt": None, "actor": {}}
    source = BY_NAME["securitylake-cloudtrail"]
    (row,) = source.rows([json.dumps(event).encode()]).table.to_pylist()
    assert row["RequestParameters"] == '{"n":123456789012345678901234567890.10}'
    assert as_cloudtrail(event)["recipientAccountId"] == "011122223333"


def test_the_footer_tells_the_source() -> None:
    data = WRITER.parquet_of([EVENT])
    head, blocks = known_by(iter([data[:100], data[100:]]))
    assert b"".join(blocks) == data
    assert len(head) < len(data)
    assert [source.name for source in SOURCES if source.recognises("x", head)] == ["securitylake-cloudtrail"]
    assert "unmapped.key" in parquet.columns(head)
    assert parquet.only_value(head, "metadata.product.name") == "CloudTrail"
    assert known_by(iter([]))[0] == b""


_FOOTERS = """
import io, random, sys
import pyarrow as pa, pyarrow.parquet as pq
from trailhawk.sources import SOURCES, known_by
flow = {"interface_id": ["eni-0a"], "start": [1772357400], "srcaddr": ["10.0.0.1"]}
product = pa.StructArray.from_arrays([pa.array(["Amazon VPC"])], ["name"])
ends = pa.StructArray.from_arrays([pa.array(["10.0.0.1"]), pa.array([443])], ["ip", "port"])
lake = {
    "metadata": pa.StructArray.from_arrays([product], ["product"]),
    "class_uid": pa.array([4001], pa.int32()),
    "traffic": pa.StructArray.from_arrays([pa.array([1])], ["bytes"]),
    "src_endpoint": ends,
    "dst_endpoint": ends,
    "unmapped": pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string())),
}
files = []
for columns in (flow, lake):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    files.append(file.getvalue())
chance = random.Random(20260301)
for number in range(int(sys.argv[1])):
    data = bytearray(files[number % 2])
    size = int.from_bytes(data[-8:-4], "little")
    for _ in range(chance.choice((1, 1, 2))):
        at = chance.randrange(len(data) - 8 - size, len(data) - 8)
        data[at] = chance.choice((data[at] ^ 1 << chance.randrange(8), chance.randrange(256), 0x19, 0x15))
    head, blocks = known_by(iter([bytes(data)]))
    known = [source for source in SOURCES if source.recognises("x", head)]
    name = ("vpcflow", "securitylake-vpcflow")[number % 2]
    source = next(source for source in SOURCES if source.name == name)
    for chunk in source.chunks(blocks):
        source.rows(chunk.records)
print("done")
"""


@pytest.mark.fuzz
def test_no_footer_ends_the_process() -> None:
    """Arrow ends the process where what a footer says of a column does not fit the schema."""
    count = os.environ.get("TRAILHAWK_FUZZ", "300")
    done = subprocess.run(
        [sys.executable, "-c", _FOOTERS, count], capture_output=True, text=True, check=False, timeout=600
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_footers_that_do_not_fit_the_schema() -> None:
    """What the check looks at, each alone; the footer's numbers are in Thrift's compact form."""
    file = io.BytesIO()
    pq.write_table(pa.table({"start": pa.array([1, 2], pa.int64())}), file, use_dictionary=False)
    data = file.getvalue()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    schema = pq.ParquetFile(file).schema
    check_footer(footer, schema)
    # Of the column: field 1, its type (INT64 is 2, in zigzag 4), before field 2, a list of encodings.
    kind = b"\x15\x04\x19"
    before, _, after = footer.rpartition(kind)
    for change, why in (
        (before + b"\x15\x0c\x19" + after, "of another type"),
        (before + b"\x15\x40\x19" + after, "of another type"),
        (footer[:60], "cut off"),
    ):
        with pytest.raises(ValueError, match=why):
            check_footer(change, schema)
    other = io.BytesIO()
    pq.write_table(pa.table({"start": [1], "end": [2]}), other)
    with pytest.raises(ValueError, match="other columns"):
        check_footer(footer, pq.ParquetFile(other).schema)
    text = io.BytesIO()
    pq.write_table(pa.table({"start": ["x"]}), text)
    with pytest.raises(ValueError, match="of another type"):
        check_footer(footer, pq.ParquetFile(text).schema)


def number(value: int) -> bytes:
    """A whole number in Thrift's compact form, seven bits a byte."""
    head = b""
    while value > 0x7F:
        head += bytes([value & 0x7F | 0x80])
        value >>= 7
    return head + bytes([value])


def listed(kind: int, count: int) -> bytes:
    """The head of a list."""
    return bytes([0xF0 | kind]) + number(count)


# A root with one column: name (4) and number of children (5), and type (1), repetition (3) and name (4).
_SCHEMA = b"\x19\x2c" + b"\x48\x01s\x15\x02\x00" + b"\x15\x0c\x25\x00\x18\x01v\x00"
_CHUNK = b"\x26\x00\x00"  # no more than its place in the file (2), which is all that Arrow must have
_GROUP = b"\x19" + listed(12, 1_000) + _CHUNK * 1_000 + b"\x16\x00" + b"\x16\x00\x00"
_COLUMN = b"\x15\x0c\x25\x00\x18\x01v\x00"
_FOOTERS_TOO_LARGE = {
    "columns in its row groups": _SCHEMA + b"\x16\x00\x19" + listed(12, 100) + _GROUP * 100,
    "row groups": _SCHEMA + b"\x16\x00\x19" + listed(12, 10_001) + b"\x00" * 10_001,
    "columns and groups of columns": b"\x19" + listed(12, 900_000) + _COLUMN * 300_000,
    "lists of more than": _SCHEMA + b"\x39" + listed(12, 4_000_000) + b"\x00" * 4_000_000,
    # What is read is not what a list says it holds, and a number of a field that others cut to 16 bits.
    "other values than it should": _SCHEMA + b"\x16\x00\x19" + listed(3, 9) + b"\x00" * 9,
    "no known number": _SCHEMA + b"\x0c" + number(2 * (65_536 + 4)) + b"\x00",
    "list of lists": b"\xf9\x19" + b"\x00" * 9,
    "is too large": b"\x00" * (8 << 20),
    "cut off": _SCHEMA,
}


@pytest.mark.parametrize("why", _FOOTERS_TOO_LARGE)
def test_a_footer_of_more_than_a_log_has_is_not_given_to_arrow(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow makes some 1,500 bytes of a column chunk that takes three, and those of all that are claimed."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("Arrow was asked")

    footer = b"\x15\x02" + _FOOTERS_TOO_LARGE[why] + (b"" if why == "cut off" else b"\x00")
    data = b"PAR1" + bytes(16) + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    monkeypatch.setattr(pq, "read_metadata", asked)
    monkeypatch.setattr(pq, "ParquetFile", asked)
    head, blocks = known_by(iter([data]))
    assert [source.name for source in SOURCES if source.recognises("x", head)] in ([], ["vpcflow"])
    for name in ("securitylake-cloudtrail", "vpcflow", "cloudfront"):
        (chunk,) = next(source for source in SOURCES if source.name == name).chunks(iter([data]))
        assert (chunk.records, len(chunk.bad), chunk.bad[0].size) == ([], 1, len(data))
        assert why in chunk.bad[0].reason
    assert b"".join(blocks) == data


def test_a_footer_of_many_row_groups_is_read(read: Any) -> None:
    file = io.BytesIO()
    table = pq.read_table(io.BytesIO(WRITER.parquet_of([EVENT] * 300)))
    pq.write_table(table, file, row_group_size=3)
    found = read(file.getvalue())
    assert (found.source, found.reasons, len(found.rows)) == ("securitylake-cloudtrail", [], 300)
