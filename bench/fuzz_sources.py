"""Fuzz the log sources: damaged records between good ones, thousands of them, the same for the same seed.

    python bench/fuzz_sources.py                              every source, 200,000 inputs each
    python bench/fuzz_sources.py --source vpcflow --inputs 5000 --seed 7
    python bench/fuzz_sources.py --source guardduty --engine atheris

An input is an object of three records, the middle one damaged; one in eight is damaged anywhere, and so is
each that is packed or Parquet. It is unpacked and read as the ingest does it. Checked: no crash; no input
takes longer than two seconds; every record is a row or a bad one, never both, never neither; rows fit the
table; and the good records before and after the damaged one are rows. Without atheris installed the engine
`mutate` (bytes flipped, cut, doubled, swapped for nasty ones) is what there is.
"""

from __future__ import annotations

import argparse
import bz2
import datetime as dt
import gzip
import importlib.util
import io
import json
import lzma
import operator
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import FunctionType
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from trailhawk.kql.schema import Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import ID, PAYLOAD, REST, stored_schema
from trailhawk.sources import SOURCES, Placed, Source, Unpacked, known_by
from trailhawk.sources.framing import LEAST_CUT

SLOWEST = 2.0
"""Processor seconds that an input may take, and for each byte it unpacks to: hundreds come to megabytes."""
SLOWEST_BYTE = 0.25e-6
TRACED = 30
"""So many times as long takes a loop that atheris watches: 145,000 values of a footer 1.9 s for 0.06."""
BATCH = 256
ATHERIS_BATCH = 64
_NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
_NASTY = (
    *(rb'"', rb"\"", rb"\\", b"{", b"}", b"[", b"]", b"\n", b"\r\n", b"\r", b"\0", b"\t", b"  ", b" ", b"-"),
    *(b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", "é".encode(), "😀".encode(), "\u202e".encode(), b"\xed\xa0\x80"),
    *(
        rb"\ud800",
        rb"\u0000",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-1",
        b"9" * 40,
        b"0x1F",
        b"1.5",
        b"null",
        b"true",
    ),
    *(
        b"{}",
        b"[]",
        b'""',
        b"[" * 2000,
        b'{"a":' * 1500,
        b"[" * 300 + b"]" * 300,
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b"2026-13-45T99:99:99Z",
        b"[01/",
    ),
    *(b'{"logEvents":[', b'{"Records":[', b'"message":"', b",", b":", b"%", b"A" * 5000),
)


_WRAPPERS = (b'{"logEvents":[', b'{"Records":[')


@dataclass(frozen=True)
class Case:
    """Good records of a source: two that must stay rows, and one to damage.

    `wrap` makes an object of records. `kept` are the texts that the rows of the good ones have in `column`,
    at its start where `open_end` (what follows may be taken for more of the record). An object `of_a_piece`
    is its middle record alone, of which damage anywhere may cost all.
    """

    name: str
    source: Source
    before: bytes
    victim: bytes
    after: bytes
    column: str
    kept: tuple[str, str]
    wrap: Callable[[Sequence[bytes]], bytes]
    path: str = "logs/object"
    open_end: bool = False
    of_a_piece: bool = False


def _lines(records: Sequence[bytes]) -> bytes:
    return b"".join(record + b"\n" for record in records)


def _wrapped(records: Sequence[bytes]) -> bytes:
    return b'{"Records":[' + b",".join(records) + b"]}"


def _large(records: Sequence[bytes]) -> bytes:
    """As large as what the kernel cuts."""
    return b'{"Records":[' + b",".join(records) + b" " * LEAST_CUT + b"]}"


def _subscription(records: Sequence[bytes]) -> bytes:
    """One envelope a record, as Firehose puts them one after the other."""
    return b"".join(
        b'{"messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"g","logStream":"s","logEvents":['
        b'{"id":"%d","timestamp":1772357400000,"message":"%s"}]}\n' % (index, record)
        for index, record in enumerate(records)
    )


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _flow_lines(records: Sequence[bytes]) -> bytes:
    header = b"vpc-id version interface-id srcaddr dstaddr srcport dstport start end flow-direction tgw-id\n"
    return header + _lines(records)


def _cloudtrail(mark: str) -> bytes:
    return _json(
        {
            "eventVersion": "1.11",
            "userIdentity": {"type": "IAMUser", "accountId": "111122223333", "userName": "ann"},
            "eventTime": "2026-03-01T09:30:00Z",
            "eventSource": "s3.amazonaws.com",
            "eventName": "GetObject",
            "requestParameters": {"bucketName": "cards", "key": "käse/😀.csv"},
            "eventID": mark,
            "recipientAccountId": "111122223333",
        }
    )


def _guardduty(mark: str) -> bytes:
    return _json(
        {
            "schemaVersion": "2.0",
            "accountId": "111122223333",
            "id": mark,
            "arn": "arn:aws:guardduty:eu-central-1:111122223333:detector/d/finding/" + mark,
            "resource": {"instanceDetails": {"instanceId": "i-0", "tags": [{"key": "a", "value": "é"}]}},
            "service": {"detectorId": "d", "count": 3, "action": {"actionType": "NETWORK_CONNECTION"}},
            "severity": 8.5,
            "createdAt": "2026-03-01T09:00:00.000Z",
            "updatedAt": "2026-03-01T09:30:00.123Z",
        }
    )


def _security_hub(mark: str) -> bytes:
    return _json(
        {
            "SchemaVersion": "2018-10-08",
            "Id": mark,
            "ProductArn": "arn:aws:securityhub:eu-central-1::product/aws/guardduty",
            "GeneratorId": "g",
            "AwsAccountId": "111122223333",
            "UpdatedAt": "2026-03-01T09:30:00.000Z",
            "Severity": {"Label": "HIGH"},
            "Resources": [{"Type": "AwsS3Bucket"}],
        }
    )


def _security_hub_ocsf(mark: str) -> bytes:
    return _json(
        {
            "activity_id": 2,
            "class_uid": 2003,
            "cloud": {"account": {"uid": "111122223333"}, "region": "eu-central-1"},
            "compliance": {"control": "S3.8", "standards": ["s"], "status": "Fail"},
            "finding_info": {"modified_time_dt": "2026-03-01T09:30:00.000Z", "title": "é", "uid": mark},
            "metadata": {"product": {"uid": "arn:aws:securityhub:eu-central-1::productv2/aws/x"}},
            "resources": [{"type": "AWS::S3::Bucket", "uid": "b", "tags": [{"name": "a", "value": "b"}]}],
            "severity": "High",
            "severity_id": 4,
            "status": "New",
        }
    )


def _findings(records: Sequence[bytes]) -> bytes:
    return b'{"Findings":[' + b",".join(records) + b"]}"


def _queried(mark: str) -> bytes:
    """A row of a CSV file of CloudTrail Lake."""
    return b'%s,"%s"' % (mark.encode(), _cloudtrail(mark).replace(b'"', b'""'))


def _results(records: Sequence[bytes]) -> bytes:
    return b"eventid,eventJson\n" + _lines(records)


def _rule_event(mark: str) -> bytes:
    """An event of EventBridge, as a rule writes it into a log group."""
    return _json({"version": "0", "source": "aws.s3", "detail": json.loads(_cloudtrail(mark))})


def _route53(mark: str) -> bytes:
    return _json(
        {
            "version": "1.100000",
            "account_id": "111122223333",
            "query_timestamp": "2026-03-01T09:30:00Z",
            "query_name": mark,
            "answers": [{"Rdata": "203.0.113.9", "Type": "A", "Class": "IN"}],
            "srcids": {"instance": "i-0"},
        }
    )


def _waf(mark: str) -> bytes:
    return _json(
        {
            "timestamp": 1772357400000,
            "formatVersion": 1,
            "webaclId": mark,
            "action": "BLOCK",
            "terminatingRuleId": "r",
            "httpRequest": {"clientIp": "203.0.113.9", "headers": [{"name": "Host", "value": "x"}]},
        }
    )


def _eks(mark: str) -> bytes:
    return _json(
        {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "auditID": mark,
            "stage": "ResponseComplete",
            "verb": mark,
            "stageTimestamp": "2026-03-01T09:30:00.123456Z",
            "user": {"username": "system:node"},
        }
    )


def _logstash(mark: str) -> bytes:
    record = {
        "eventTime": "2026-03-01T09:30:00Z",
        "eventName": mark,
        "requestParameters": {"bucketName": "b"},
    }
    return _json({"@timestamp": "2026-03-01T09:30:05Z", "@version": "1", "Records": record})


def _firewall(kind: str, inner: dict[str, object]) -> Callable[[str], bytes]:
    def record(mark: str) -> bytes:
        event = {"timestamp": "2026-03-01T09:30:00.123456+0000", "event_type": kind, "src_ip": "10.0.0.1"}
        return _json(
            {
                "firewall_name": mark,
                "availability_zone": "eu-central-1a",
                "event_timestamp": "1772357400",
                "event": event | inner,
            }
        )

    return record


def _lake(product: str, class_uid: int, inner: dict[str, object]) -> bytes:
    """An event of Security Lake."""
    about: dict[str, object] = {"name": product, "uid": "arn:aws:securityhub:eu-central-1::product/aws/x"}
    event: dict[str, object] = {
        "metadata": {"product": about | {"version": "5"}, "uid": "e-1", "version": "1.1.0"},
        "class_uid": class_uid,
        "time": 1772357400000,
        "cloud": {"account": {"uid": "111122223333"}, "region": "eu-central-1"},
        "src_endpoint": {"ip": "203.0.113.9", "port": 443, "intermediate_ips": ["10.0.0.1"]},
        "unmapped": {"a.b[].c": "1,2", "recipientAccountId": "111122223333"},
    }
    return _json(event | inner)


def _lake_cloudtrail(mark: str) -> bytes:
    user = {"type": "IAMUser", "uid": "arn:aws:iam::111122223333:user/ann", "uid_alt": "AIDA"}
    asked = {"data": '{"bucketName":"cards","key":"käse"}', "uid": mark}
    return _lake(
        "CloudTrail",
        6003,
        {
            "actor": {"user": user, "session": {"created_time_dt": "2026-03-01T09:00:00Z", "is_mfa": False}},
            "api": {"operation": "GetObject", "service": {"name": "s3.amazonaws.com"}, "request": asked},
            "resources": [{"uid": "arn:aws:s3:::cards", "type": "AWS::S3::Bucket"}],
        },
    )


def _lake_flow(mark: str) -> bytes:
    return _lake(
        "Amazon VPC",
        4001,
        {
            "connection_info": {"direction_id": 1, "protocol_num": 6, "boundary_id": 4},
            "dst_endpoint": {"ip": "10.0.0.2", "port": 22, "interface_uid": mark},
            "traffic": {"bytes": 40, "packets": 1},
            "end_time_dt": "2026-03-01T09:31:00Z",
            "action": "Allowed",
        },
    )


def _lake_query(mark: str) -> bytes:
    answers = [{"rdata": "203.0.113.9", "type": "A", "class": "IN"}]
    query = {"hostname": mark, "type": "A", "class": "IN"}
    return _lake("Route 53", 4003, {"query": query, "rcode": "NoError", "answers": answers})


def _lake_request(mark: str) -> bytes:
    request = {"http_method": "GET", "uid": mark, "url": {"path": "/"}, "http_headers": [{"name": "a"}]}
    return _lake("AWS WAF", 4002, {"http_request": request, "disposition": "Blocked"})


def _lake_audit(mark: str) -> bytes:
    api = {"operation": mark, "request": {"uid": mark}, "response": {"code": 200}}
    return _lake("Amazon EKS", 6003, {"api": api, "actor": {"user": {"groups": [{"name": "g"}]}}})


def _lake_finding(mark: str) -> bytes:
    finding = {"uid": mark, "title": "é", "modified_time_dt": "2026-03-01T09:30:00Z"}
    return _lake("GuardDuty", 2004, {"finding_info": finding, "severity_id": 4, "severity": "High"})


def _flow(mark: str) -> bytes:
    return (
        f"2 111122223333 {mark} 10.0.0.1 2001:db8::1 1 443 6 5 600 1772357400 1772357460 ACCEPT OK".encode()
    )


def _custom_flow(mark: str) -> bytes:
    return f"vpc-1 5 {mark} 10.0.0.1 - 1 443 1772357400 1772357460 egress tgw-1".encode()


def _s3(mark: str) -> bytes:
    return (
        f"79a59df900b949e55d96a1e698fbaced amzn-bucket [01/Mar/2026:09:30:00 +0000] 192.0.2.3 - {mark} "
        'REST.GET.OBJECT a%20b.csv "GET /a%20b.csv HTTP/1.1" 200 - 113 113 7 6 "-" "curl \\"x\\"" - host= '
        "SigV4 ECDHE AuthHeader h.s3.amazonaws.com TLSv1.3 - Yes"
    ).encode()


def _proxy(mark: str) -> bytes:
    return (
        '203.0.113.9 - - [01/Mar/2026:09:30:00 +0000] "GET /latest/meta-data/ HTTP/1.1" 200 31 "-" '
        f'"{mark}" "169.254.169.254" 169.254.169.254:80 0.004'
    ).encode()


def _alb(mark: str) -> bytes:
    return (
        "https 2026-03-01T09:30:00.123456Z app/lb/1 192.168.1.1:2817 10.0.0.1:80 0.1 0.1 0.1 200 200 1 57 "
        f'"GET https://x:443/ HTTP/1.1" "{mark}" ECDHE TLSv1.2 arn "Root=1" "x" "arn" 1 '
        '2026-03-01T09:30:00.000000Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_1'
    ).encode()


def _nlb(mark: str) -> bytes:
    return (
        f"tls 2.0 2026-03-01T09:30:00 net/lb/1 {mark} 192.0.2.1:51341 10.0.0.1:443 5 2 98 246 - arn - ECDHE "
        "tlsv12 - x - - - 2026-03-01T09:29:00"
    ).encode()


def _elb(mark: str) -> bytes:
    return (
        "2026-03-01T09:30:00.123456Z my-lb 192.168.1.1:2817 10.0.0.1:80 0.1 0.1 0.1 200 200 0 57 "
        f'"GET https://x:443/ HTTP/1.1" "{mark}" ECDHE TLSv1.2'
    ).encode()


def _connection(mark: str) -> bytes:
    return (
        '2026-03-01T09:30:00.123456Z 203.0.113.9 36280 443 TLSv1.2 ECDHE 4.036 "CN=x,O=y" '
        f"NotBefore=2023-09-21T22:43:21Z;NotAfter=2026-06-17T22:43:21Z FEF2 Success {mark}"
    ).encode()


def _health(mark: str) -> bytes:
    return f"http 2026-03-01T09:30:00.123456Z 1.1 10.0.0.1:80 {mark} FAIL 502 TargetError".encode()


_FRONT: Final = "date\ttime\tx-edge-location\tc-ip\tcs(User-Agent)\tx-edge-request-id\ttimestamp(ms)"


def _cloudfront(mark: str) -> bytes:
    return f"2026-03-01\t09:30:00\tFRA2\t203.0.113.9\tcurl%20x\t{mark}\t1772357400123".encode()


def _cloudfront_json(mark: str) -> bytes:
    values = _cloudfront(mark).decode().split("\t")
    return _json(dict(zip(_FRONT.split("\t"), values, strict=True)))


def _w3c(records: Sequence[bytes]) -> bytes:
    header = b"#Version: 1.0\n#Fields: " + _FRONT.replace("\t", " ").encode() + b"\n"
    return header + _lines(records)


def _exported(mark: str) -> bytes:
    return f"2026-03-01T09:30:00.123Z {mark} something happened".encode()


def _tailed(mark: str) -> bytes:
    return f"2026-03-01T09:30:00.123000+00:00 stream/[1] {mark} something happened".encode()


def _event(mark: str) -> bytes:
    return mark.encode()


def _transcript(mark: str) -> bytes:
    return mark.encode() + b"\x1b[0m"


def _streamed(mark: str) -> bytes:
    return _json(
        {
            "eventVersion": "1.0",
            "eventTime": "2026-03-01T09:30:00Z",
            "target": {"id": "i-0"},
            "sessionId": mark,
            "sessionData": ["ls", "\u001b[0m"],
        }
    )


def _csv(*cells: str) -> bytes:
    """A row of CSV with every cell in quotes."""
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells).encode()


def _table(header: str) -> Callable[[Sequence[bytes]], bytes]:
    return lambda records: header.encode() + b"\n" + _lines(records)


def _answer(before: str, after: str) -> Callable[[Sequence[bytes]], bytes]:
    return lambda records: before.encode() + b",".join(records) + after.encode()


def _looked_up(mark: str) -> bytes:
    return _json({"EventId": mark, "Resources": [{}], "CloudTrailEvent": _cloudtrail(mark).decode()})


def _text(mark: str) -> bytes:
    return _json(_cloudtrail(mark).decode())


def _logged(mark: str) -> bytes:
    at = 1772357400000
    return _json(
        {"logStreamName": "s", "timestamp": at, "message": mark, "ingestionTime": at, "eventId": mark}
    )


def _insight(mark: str) -> bytes:
    return _json([{"field": "@timestamp", "value": _NOW.isoformat()}, {"field": "@message", "value": mark}])


def _splunk(mark: str) -> bytes:
    return _json({"preview": False, "offset": 1, "result": {"_raw": _cloudtrail(mark).decode()}})


def _splunk_row(mark: str) -> bytes:
    return _csv("2026-03-01", "host", "aws", _cloudtrail(mark).decode())


def _elastic(mark: str) -> bytes:
    return _json({"@timestamp": "2026-03-01T09:30:00Z", "event": {"original": _cloudtrail(mark).decode()}})


def _document(mark: str) -> bytes:
    told = {"flattened": {"request_parameters": {"key": "käse"}}, "user_identity": {"type": "IAMUser"}}
    event = {"action": "GetObject", "provider": "s3.amazonaws.com", "id": mark}
    return _json({"@timestamp": "2026-03-01T09:30:00.000Z", "aws": {"cloudtrail": told}, "event": event})


def _console(mark: str) -> bytes:
    return _csv("1772357400000", mark)


def _history(mark: str) -> bytes:
    return _csv(
        "ann", "2026-03-01T09:30:00Z", "s3.amazonaws.com", "GetObject", mark, '[{"resourceName":"b"}]'
    )


def _athena(mark: str) -> bytes:
    caller = "{type=IAMUser, arn=arn:aws:iam::1:user/ann, sessioncontext={attributes=null}}"
    asked = '{"bucketName":"cards","key":"käse"}'
    return _csv("2026-03-01T09:30:00Z", "s3.amazonaws.com", "GetObject", caller, asked, mark)


def _athena_flow(mark: str) -> bytes:
    return _csv("2", mark, "10.0.0.1", "10.0.0.2", "443", "1772357400", "1772357460")


def _athena_access(mark: str) -> bytes:
    front = ("owner", "cards", "01/Mar/2026:09:30:00 +0000", "203.0.113.9", "-", mark, "REST.GET.OBJECT", "k")
    return _csv(*front, "GET /k HTTP/1.1", "200", "", "5", "5", "10", "9", "-", "curl", "-")


_ACCESS_COLUMNS: Final = (
    "bucketowner,bucket_name,requestdatetime,remoteip,requester,requestid,operation,key,request_uri,httpstatus,"
    "errorcode,bytessent,objectsize,totaltime,turnaroundtime,referrer,useragent,versionid"
)


def _exported_row(table: Table) -> tuple[str, Callable[[str], bytes], str]:
    """The header of a table that was exported from Sentinel, its rows, and the column with the mark."""
    texts = [column.name for column in table.stored if column.type is KqlType.STRING]
    times = [column.name for column in table.stored if column.type is KqlType.DATETIME]
    header = ",".join(["TenantId", *(f"{name} [UTC]" for name in times), texts[-1], "Extra", "Type"])
    at = ["3/1/2026, 9:30:00.123 AM"] * len(times)
    return header, lambda mark: _csv("w", *at, mark, '{"a":[1]}', table.name), texts[-1]


def _exported_object(mark: str) -> bytes:
    row = {"TimeGenerated": "2026-03-01T09:30:00.1230000Z", "AwsEventId": mark, "ReadOnly": "True"}
    return _json(row | {"RequestParameters": '{"bucketName":"b"}', "Type": "AWSCloudTrail"})


def _exported_list(mark: str) -> bytes:
    return _json(["2026-03-01T09:30:00Z", mark, True, '{"bucketName":"b [1],[2]"}', "AWSCloudTrail"])


_API: Final = (
    '{"tables":[{"name":"PrimaryResult","columns":['
    + ",".join(
        f'{{"name":"{name}","type":"string"}}'
        for name in ("TimeGenerated", "AwsEventId", "ReadOnly", "RequestParameters", "Type")
    )
    + '],"rows":['
)


def _escaped(record: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """The record as it stands in a JSON string."""
    return lambda mark: json.dumps(record(mark).decode())[1:-1].encode()


def _cases() -> Iterator[Case]:
    by_name = {source.name: source for source in SOURCES}
    marks = ("mark-before", "mark-victim", "mark-after")

    def case(
        name: str,
        source: str,
        record: Callable[[str], bytes],
        column: str,
        wrap: Callable[[Sequence[bytes]], bytes] = _lines,
        path: str = "logs/object",
        open_end: bool = False,
        names: tuple[str, str, str] = marks,
        kept: tuple[str, str] = (marks[0], marks[2]),
    ) -> Case:
        before, victim, after = map(record, names)
        return Case(name, by_name[source], before, victim, after, column, kept, wrap, path, open_end)

    interfaces = ("eni-0a", "eni-0b", "eni-0c")
    ends = (interfaces[0], interfaces[2])
    exported = tuple(f"{mark} something happened" for mark in (marks[0], marks[2]))
    session = "sessions/ann-0a1b2c3d4e5f67890.log"
    yield case("cloudtrail", "cloudtrail", _cloudtrail, "AwsEventId", _wrapped)
    yield case("cloudtrail-large", "cloudtrail", _cloudtrail, "AwsEventId", _large)
    yield case("cloudtrail-lines", "cloudtrail", _cloudtrail, "AwsEventId")
    yield case("cloudtrail-subscription", "cloudtrail", _escaped(_cloudtrail), "AwsEventId", _subscription)
    yield case("cloudtrail-lake", "cloudtrail", _queried, "AwsEventId", _results)
    yield case("cloudtrail-events", "cloudtrail", _escaped(_rule_event), "AwsEventId", _subscription)
    yield case("vpcflow", "vpcflow", _flow, "InterfaceId", names=interfaces, kept=ends)
    yield case(
        "vpcflow-custom", "vpcflow", _custom_flow, "InterfaceId", _flow_lines, names=interfaces, kept=ends
    )
    yield case(
        "vpcflow-subscription", "vpcflow", _flow, "InterfaceId", _subscription, names=interfaces, kept=ends
    )
    yield case("guardduty", "guardduty", _guardduty, "Id")
    yield case("securityhub", "securityhub", _security_hub, "AwsSecurityFindingId")
    yield case("securityhub-ocsf", "securityhub", _security_hub_ocsf, "AwsSecurityFindingId", _findings)
    yield case("route53", "route53", _route53, "QueryName")
    yield case("waf", "waf", _waf, "WebAclId")
    yield case("eks", "eks", _eks, "Verb")
    yield case("securitylake-cloudtrail", "securitylake-cloudtrail", _lake_cloudtrail, "AwsRequestId_")
    yield case(
        "securitylake-vpcflow", "securitylake-vpcflow", _lake_flow, "InterfaceId", names=interfaces, kept=ends
    )
    yield case("securitylake-route53", "securitylake-route53", _lake_query, "QueryName")
    yield case("securitylake-waf", "securitylake-waf", _lake_request, "RequestId")
    yield case("securitylake-eks", "securitylake-eks", _lake_audit, "Verb")
    yield case("securitylake-findings", "securitylake-findings", _lake_finding, "AwsSecurityFindingId")
    yield case("logstash", "logstash", _logstash, "Records_eventName_s")
    alert = _firewall("alert", {"alert": {"signature": "s", "severity": 1}})
    yield case("networkfirewall-alert", "networkfirewall-alert", alert, "FirewallName")
    flow = _firewall("netflow", {"netflow": {"bytes": 1}, "tcp": {"syn": True}})
    yield case("networkfirewall-flow", "networkfirewall-flow", flow, "FirewallName")
    tls = _firewall("tls", {"tls_error": {"error_message": "e"}, "sni": "x"})
    yield case("networkfirewall-tls", "networkfirewall-tls", tls, "FirewallName")
    yield case("s3access", "s3access", _s3, "RequestId")
    yield case("proxy", "proxy", _proxy, "UserAgent")
    yield case("alb", "alb", _alb, "UserAgent")
    yield case("nlb", "nlb", _nlb, "Listener")
    yield case("elb", "elb", _elb, "UserAgent")
    yield case("alb-connection", "alb-connection", _connection, "ConnTraceId")
    yield case("alb-health", "alb-health", _health, "TargetGroupId")
    yield case("cloudfront", "cloudfront", _cloudfront, "XEdgeRequestId", _w3c)
    yield case("cloudfront-json", "cloudfront", _cloudfront_json, "XEdgeRequestId")
    yield case("cloudwatch", "cloudwatch", _event, "Message", _subscription)
    yield case("cloudwatch-export", "cloudwatch", _exported, "Message", open_end=True, kept=exported)  # type: ignore[arg-type]
    yield case("cloudwatch-tail", "cloudwatch", _tailed, "Message", open_end=True, kept=exported)  # type: ignore[arg-type]
    yield case("ssm", "ssm", _escaped(_streamed), "SessionId", _subscription)
    yield case("lookup-events", "cloudtrail", _looked_up, "AwsEventId", _answer('{"Events":[', "]}"))
    yield case("lookup-texts", "cloudtrail", _text, "AwsEventId", _answer("[", "]"))
    messages = _answer("[\n", "\n]")
    yield case(
        "messages",
        "vpcflow",
        lambda mark: _json(_flow(mark).decode()),
        "InterfaceId",
        messages,
        names=interfaces,
        kept=ends,
    )
    logged = _answer('{"events":[', '],"searchedLogStreams":[]}')
    yield case("filter-log-events", "cloudwatch", _logged, "Message", logged)
    yield case(
        "insights", "cloudwatch", _insight, "Message", _answer('{"results":[', '],"status":"Complete"}')
    )
    yield case("console", "cloudwatch", _console, "Message", _table("timestamp,message"))
    yield case("splunk", "cloudtrail", _splunk, "AwsEventId")
    yield case("splunk-csv", "cloudtrail", _splunk_row, "AwsEventId", _table("_time,host,sourcetype,_raw"))
    yield case("elastic", "cloudtrail", _elastic, "AwsEventId")
    yield case("elastic-cloudtrail", "elastic-cloudtrail", _document, "AwsEventId")
    history = _table("User name,Event time,Event source,Event name,Event ID,Resources")
    yield case("cloudtrail-history", "cloudtrail-history", _history, "AwsEventId", history)
    athena = _table("eventtime,eventsource,eventname,useridentity,requestparameters,eventid")
    yield case("athena-cloudtrail", "athena-cloudtrail", _athena, "AwsEventId", athena)
    flows = _table("version,interface_id,srcaddr,dstaddr,dstport,start,end")
    yield case(
        "athena-vpcflow", "athena-vpcflow", _athena_flow, "InterfaceId", flows, names=interfaces, kept=ends
    )
    access = _table(_ACCESS_COLUMNS)
    yield case("athena-s3access", "athena-s3access", _athena_access, "RequestId", access)
    yield case("sentinel-objects", "sentinel-cloudtrail", _exported_object, "AwsEventId")
    yield case("sentinel-lists", "sentinel-cloudtrail", _exported_list, "AwsEventId", _answer(_API, "]}]}"))
    for name in by_name:
        if name.startswith("sentinel-"):
            header, record, column = _exported_row(by_name[name].table)
            yield case(name, name, record, column, _table(header))
    transcript = tuple(f"{mark}\x1b[0m" for mark in (marks[0], marks[2]))
    yield case("ssm-transcript", "ssm-transcript", _transcript, "Output", path=session, kept=transcript)  # type: ignore[arg-type]


def _parquet(columns: Mapping[str, Sequence[object]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), file, compression="snappy", row_group_size=2)
    return file.getvalue()


def _pieces() -> Iterator[Case]:
    """Objects that are packed, and Parquet."""
    by_name = {source.name: source for source in SOURCES}

    def case(name: str, source: str, data: bytes, column: str) -> Case:
        whole = operator.itemgetter(1)
        return Case(name, by_name[source], b"", data, b"", column, ("", ""), whole, of_a_piece=True)

    flows = {
        "version": [5, 5, 5],
        "interface_id": ["eni-0a", "eni-0b", None],
        "srcaddr": ["10.0.0.1", "2001:db8::1", "-"],
        "bytes": [1, None, 2**40],
        "start": [1772357400] * 3,
    }
    yield case("vpcflow-parquet", "vpcflow", _parquet(flows), "InterfaceId")
    events = [json.loads(_lake_cloudtrail(mark)) for mark in ("a", "b", "c")]
    calls = {name: pa.array([event[name] for event in events]) for name in events[0]}
    texts = pa.array([list(event["unmapped"].items()) for event in events], pa.map_(pa.string(), pa.string()))
    lake = _parquet(calls | {"unmapped": texts})
    yield case("securitylake-parquet", "securitylake-cloudtrail", lake, "AwsRequestId_")
    fronts = {name: [text] * 3 for name, text in json.loads(_cloudfront_json("a")).items()}
    yield case("cloudfront-parquet", "cloudfront", _parquet(fronts), "XEdgeRequestId")
    lines = _lines([_cloudtrail(f"mark-{number}") for number in range(20)])
    packed = {
        "gzip": gzip.compress(lines[:2000]) + gzip.compress(lines[2000:]),
        "bzip2": bz2.compress(lines),
        "xz": lzma.compress(lines),
        "zstd": pa.compress(lines, codec="zstd", asbytes=True),
        "utf-16": lines.decode().encode("utf-16"),
        "utf-16-be": lines.decode().encode("utf-16-be"),
    }
    for name, data in packed.items():
        yield case(f"cloudtrail-{name}", "cloudtrail", data, "AwsEventId")


CASES = {case.name: case for case in chain(_cases(), _pieces())}


class FuzzError(AssertionError):
    """What went wrong, with the input."""


def mutated(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """The bytes with one to four injuries."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(found) + 1)
        end = min(len(found), at + chance.choice((1, 1, 2, 8, 40, 400)))
        match chance.randrange(8):
            case 0 | 1:
                found[at:end] = bytes(chance.randrange(256) for _ in range(end - at))
            case 2 | 3:
                found[at:at] = chance.choice(_NASTY)
            case 4:
                found[at:end] = chance.choice(_NASTY)
            case 5:
                del found[at:end]
            case 6:
                found[at:at] = found[at:end]
            case _:
                start = chance.randrange(len(other) + 1)
                found[at:end] = other[start : start + end - at]
    return bytes(found)


def _opens(damaged: bytes) -> bool:
    """Whether it opens a wrapper, which has a claim to what follows."""
    return any(mark in damaged for mark in _WRAPPERS)


@dataclass(frozen=True)
class Counts:
    """What became of the records of all inputs."""

    inputs: int
    records: int
    rows: int
    bad: int
    seconds: float


@dataclass(frozen=True)
class Input:
    """An object, whether its good neighbours must be rows, and the records it was cut into."""

    data: bytes
    strict: bool
    records: list[bytes]


class Fuzz:
    """Feeds inputs to a case's source and checks what comes out.

    `at_once` is how many inputs of `one` are made rows together: their damage is then guided by what reading
    an object does, and an error tells the input, but the fuzzer's own copy of one may be of a later input.
    `traced` is how many times as long code takes as it does by itself.
    """

    def __init__(self, case: Case, at_once: int = 1, *, traced: int = 1) -> None:
        self._case = case
        self._at_once = at_once
        self._traced = traced
        self._waiting: list[Input] = []
        self._schema = stored_schema(case.source.table)
        hidden = {ID, PAYLOAD, REST}
        promoted = {item.hidden for item in case.source.table.promoted}
        stored = {column.name for column in case.source.table.stored}
        self._names = stored | promoted | hidden
        source = case.source
        self._reader = source.placed(case.path, _NOW) if isinstance(source, Placed) else source
        self.records = self.rows = self.bad = self.inputs = 0

    def check(self, inputs: Sequence[tuple[bytes, bool]]) -> None:
        """Feed objects, each with whether its good neighbours must be rows; FuzzError for a wrong one."""
        self._check([self._read(data, strict) for data, strict in inputs])

    def one(self, victim: bytes) -> None:
        """Feed one damaged record between its neighbours."""
        case = self._case
        data = case.wrap([case.before, victim, case.after])
        self._waiting.append(self._read(data, not case.of_a_piece and not _opens(victim)))
        if len(self._waiting) >= self._at_once:
            self.finish()

    def finish(self) -> None:
        """Make rows of what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._check(waiting)

    def counts(self, started: float) -> Counts:
        """What became of all since that time of the processor."""
        return Counts(self.inputs, self.records, self.rows, self.bad, time.process_time() - started)

    def _read(self, data: bytes, strict: bool) -> Input:
        case, source = self._case, self._case.source
        records: list[bytes] = []
        started = time.process_time()
        try:
            blocks = list(Unpacked(io.BytesIO(data)))
            size = sum(map(len, blocks))
            head, whole = known_by(iter(blocks))
            source.recognises(case.path, head)
            source.is_digest(head)
            for chunk in self._reader.chunks(whole):
                for place in range(len(chunk.records)):
                    at = chunk.position(place)
                    if not 0 <= at <= size:
                        raise FuzzError(f"a record at {at} of {len(data)} bytes")
                records += chunk.records
                self.bad += len(chunk.bad)
                self.records += len(chunk.records) + len(chunk.bad)
            if time.process_time() - started > (SLOWEST + size * SLOWEST_BYTE) * self._traced:
                raise FuzzError("slow")
        except Exception as error:
            error.add_note(f"input: {data!r}")
            raise
        return Input(data, strict, records)

    def _check(self, inputs: Sequence[Input]) -> None:
        try:
            self._check_rows(inputs)
        except Exception as error:
            if len(inputs) > 1:
                for each in inputs:
                    self._check([each])
            error.add_note(f"inputs: {[each.data for each in inputs]!r}")
            raise

    def _check_rows(self, inputs: Sequence[Input]) -> None:
        case, source = self._case, self._case.source
        records = list(chain.from_iterable(each.records for each in inputs))
        started = time.process_time()
        made = source.rows(records)
        if time.process_time() - started > SLOWEST * self._traced * len(inputs):
            raise FuzzError("slow")
        places = [*made.kept, *(place for place, _ in made.bad)]
        if sorted(places) != list(range(len(records))) or made.table.num_rows != len(made.kept):
            raise FuzzError(f"{len(records)} records, {len(made.kept)} rows, {len(made.bad)} bad")
        if list(made.kept) != sorted(made.kept):
            raise FuzzError("rows out of order")
        if set(made.table.column_names) != self._names:
            raise FuzzError(f"columns {set(made.table.column_names) ^ self._names}")
        for field in self._schema:
            if field.name in self._names:
                made.table[field.name].cast(field.type).validate(full=True)
        if made.table[source.table.time_column].null_count:
            raise FuzzError("a row without time")
        self.rows += len(made.kept)
        self.bad += len(made.bad)
        self.inputs += len(inputs)
        owners = [index for index, each in enumerate(inputs) for _ in each.records]
        texts: dict[int, list[str]] = {}
        for place, text in zip(made.kept, made.table[case.column].to_pylist(), strict=True):
            texts.setdefault(owners[place], []).append(text)
        for index, each in enumerate(inputs):
            if each.strict and (lost := self._lost(texts.get(index, []), each.records)):
                raise FuzzError(f"the row of {lost!r} is lost")

    def _lost(self, texts: list[str], records: list[bytes]) -> str:
        """The good record that is no row, '' where both are."""
        case = self._case
        for text, good in zip(case.kept, (case.before, case.after), strict=True):
            if text in texts or (case.open_end and any(each.startswith(text) for each in texts)):
                continue
            # Damage may make valid JSON in which the good record stands inside the damaged one.
            if not any(good in record and record != good for record in records):
                return text
        return ""


def run(name: str, *, inputs: int, seed: int) -> Counts:
    """Feed this many damaged inputs to a case. FuzzError for the first that is not handled."""
    case, fuzz = CASES[name], Fuzz(CASES[name])
    chance = random.Random(f"{seed} {name}")
    started = time.process_time()
    others = [each.victim for each in CASES.values()]
    for start in range(0, inputs, BATCH):
        batch: list[tuple[bytes, bool]] = []
        for number in range(start, min(start + BATCH, inputs)):
            other = chance.choice(others)
            if number % 8 and not case.of_a_piece:
                damaged = mutated(case.victim, chance, other)
                batch.append((case.wrap([case.before, damaged, case.after]), not _opens(damaged)))
            else:
                whole = case.wrap([case.before, case.victim, case.after])
                batch.append((mutated(whole, chance, other), False))
        fuzz.check(batch)
    return fuzz.counts(started)


def tell(name: str, counts: Counts) -> None:
    """Print a line of what became of a case's inputs."""
    print(
        f"{name:24} {counts.inputs:8,} inputs {counts.records:10,} records = {counts.rows:10,} rows "
        f"+ {counts.bad:9,} bad  {counts.seconds:7.1f} s",
        flush=True,
    )


def _functions() -> Iterator[FunctionType]:
    """The functions of the sources, whose branches atheris is to see."""
    for name, module in list(sys.modules.items()):
        if name.startswith("trailhawk.sources"):
            for item in vars(module).values():
                members = vars(item).values() if isinstance(item, type) else (item,)
                for each in members:
                    if isinstance(each, FunctionType) and each.__module__ == name:
                        yield each


def run_atheris(name: str, *, inputs: int, seed: int) -> None:
    """The same with atheris' coverage-guided damage; ends the process."""
    import atheris

    case, fuzz = CASES[name], Fuzz(CASES[name], ATHERIS_BATCH, traced=TRACED)
    started, seen = time.process_time(), 0

    def one(victim: bytes) -> None:
        nonlocal seen
        fuzz.one(victim)
        seen += 1
        if seen == inputs:
            fuzz.finish()
            tell(name, fuzz.counts(started))

    for function in _functions():
        atheris.instrument_func(function)
    folder = tempfile.mkdtemp()
    (Path(folder) / "good").write_bytes(case.victim)
    limits = "-max_len=4096", f"-timeout={4 * TRACED}"
    arguments = [sys.argv[0], f"-runs={inputs}", f"-seed={seed}", *limits, folder]
    atheris.Setup(arguments, one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", choices=[*CASES, "all"], default="all")
    parser.add_argument("--inputs", type=int, default=200_000, help="damaged inputs for each source")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=["mutate", "atheris"], default="mutate")
    chosen = parser.parse_args()
    names = list(CASES) if chosen.source == "all" else [chosen.source]
    if chosen.engine == "atheris" and importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: damage of our own instead")
        chosen.engine = "mutate"
    if chosen.engine == "atheris":
        if len(names) > 1:
            parser.error("atheris takes one source a process: name it with --source")
        run_atheris(names[0], inputs=chosen.inputs, seed=chosen.seed)
        return
    for name in names:
        tell(name, run(name, inputs=chosen.inputs, seed=chosen.seed))


if __name__ == "__main__":
    main()
