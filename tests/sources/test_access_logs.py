"""S3 server access, load balancers and proxies: quotes, missing fields, new fields, hostile text."""

import datetime as dt
import json
import time
from typing import Any

import pytest

from trailhawk.sources.proxy import PROXY
from trailhawk.sources.s3_access import S3_ACCESS

AT = dt.datetime(2026, 3, 1, 9, 30)
FRONT = (
    "79a59df900b949e55d96a1e698fbaced cards [01/Mar/2026:09:30:00 +0000] 2001:db8::1 "
    "arn:aws:sts::111122223333:assumed-role/waf/i-0 3E57427F3EXAMPLE REST.GET.OBJECT a%2520b/k%C3%A4se.csv "
    '"GET /a%2520b/k%C3%A4se.csv HTTP/1.1" 200 - 3000000000 3000000000 70 10 '
)
TAIL = " - s9lzHYrFp76= SigV4 ECDHE AuthHeader cards.s3.amazonaws.com TLSv1.3 arn:aws:s3:::ap Yes"
LINE = FRONT + '"-" "aws-cli/2"' + TAIL


def test_an_s3_request_becomes_a_row(read: Any) -> None:
    found = read(LINE.encode())
    assert (found.source, found.reasons) == ("s3access", [])
    (row,) = found.rows
    row.pop("_th_id")
    assert row == {
        "TimeGenerated": AT,
        "BucketOwner": "79a59df900b949e55d96a1e698fbaced",
        "Bucket": "cards",
        "RemoteIp": "2001:db8::1",
        "Requester": "arn:aws:sts::111122223333:assumed-role/waf/i-0",
        "RequestId": "3E57427F3EXAMPLE",
        "Operation": "REST.GET.OBJECT",
        "Key": "a%2520b/k%C3%A4se.csv",
        "RequestUri": "GET /a%2520b/k%C3%A4se.csv HTTP/1.1",
        "HttpStatus": 200,
        "ErrorCode": "-",
        "BytesSent": 3_000_000_000,
        "ObjectSize": 3_000_000_000,
        "TotalTime": 70,
        "TurnAroundTime": "10",
        "Referer": "-",
        "UserAgent": "aws-cli/2",
        "VersionId": "-",
        "HostId": "s9lzHYrFp76=",
        "SignatureVersion": "SigV4",
        "CipherSuite": "ECDHE",
        "AuthenticationType": "AuthHeader",
        "HostHeader": "cards.s3.amazonaws.com",
        "TLSVersion": "TLSv1.3",
        "AccessPointARN": "arn:aws:s3:::ap",
        "ACLRequired": "Yes",
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (FRONT + '"-" "aws-cli/2" -', {"UserAgent": "aws-cli/2", "VersionId": "-"}),  # 18 fields, as of old
        (FRONT.rstrip(), {"TurnAroundTime": "10"}),
        (LINE + " new-field x", {"_th_rest": '{"more": ["new-field", "x"]}', "ACLRequired": "Yes"}),
        (FRONT + '"-" "a \\"b\\" c"' + TAIL, {"UserAgent": 'a \\"b\\" c', "TLSVersion": "TLSv1.3"}),
        (FRONT + '"-" "a "b" c"' + TAIL, {"UserAgent": 'a "b" c', "TLSVersion": "TLSv1.3"}),
        (FRONT + '"-" "ends in \\"' + TAIL, {"UserAgent": "ends in \\", "TLSVersion": "TLSv1.3"}),
        (
            FRONT + '"-" "x"' + TAIL.replace("s9lz", "s9 lz"),
            {"HostId": "s9 lzHYrFp76=", "CipherSuite": "ECDHE"},
        ),
        (LINE.replace("TLSv1.3", "TLSV1.2"), {"TLSVersion": "TLSV1.2"}),
        (LINE.replace(" 200 - ", " 2x0 - "), {"HttpStatus": None, "_th_rest": '{"HttpStatus": "2x0"}'}),
        (
            LINE.replace(" 70 10 ", " 99999999999 - ") + " more",
            {"TotalTime": None, "_th_rest": '{"TotalTime": "99999999999", "more": ["more"]}'},
        ),
        (LINE.replace("09:30:00 +0000", "10:30:00 +0100"), {"TimeGenerated": AT}),
        (LINE.replace("arn:aws:sts::111122223333:assumed-role/waf/i-0", "svc:x"), {"Requester": "svc:x"}),
        (LINE.replace("arn:aws:sts::111122223333:assumed-role/waf/i-0", "-"), {"Requester": "-"}),
        (LINE.replace("2001:db8::1", "-"), {"RemoteIp": "-"}),
        (LINE.rpartition(" Yes")[0].rpartition(" arn")[0], {"TLSVersion": "TLSv1.3", "ACLRequired": None}),
    ],
)
def test_odd_s3_lines(line: str, expected: dict[str, object], read: Any) -> None:
    found = read(line.encode())
    assert found.reasons == []
    (row,) = found.rows
    assert {name: row.get(name) for name in expected} == expected


def test_s3_lines_of_its_own_doing(read: Any) -> None:
    batch = (
        "36c1f05b76016b78528454e6e0c60e2b cards [19/Sep/2019:17:06:39 +0000] 192.0.2.9 arn:aws:iam::1:user/a "
        "6CE38F1312D32BDD BATCH.DELETE.OBJECT Screen+Shot.png - 204 - - 57138 - - - - - Lw= SigV4 E Auth h T"
    )
    expired = (
        "b854390a51155554b82ce2759564a113 cards [25/Mar/2025:19:28:02 +0000] - AmazonS3 366DB3C4B325AB11 "
        'S3.EXPIRE.OBJECT a/b.sst "-" - - - 317 - - "-" "-" version host - - - - - - -'
    )
    first, second = read(f"{batch}\n{expired}\n".encode()).rows
    assert (first["RequestUri"], first["UserAgent"], first["ObjectSize"]) == ("-", "-", 57138)
    assert "BytesSent" not in first
    assert (second["RemoteIp"], second["Requester"], second["RequestUri"]) == ("-", "AmazonS3", "-")
    assert (second["VersionId"], second["HostId"], second["ACLRequired"]) == ("version", "host", "-")
    assert "HttpStatus" not in second


def test_a_bad_s3_line_costs_only_itself(read: Any) -> None:
    bad = [LINE[:60], LINE.replace("01/Mar", "41/Mar"), LINE.replace("[", "("), 'x "', FRONT + '"-" "open']
    found = read("\n".join([LINE, *bad, LINE]).encode() + b"\n" + LINE.encode().replace(b"cards", b"\xff"))
    assert len(found.rows) == 2
    assert len(found.bad) == len(bad) + 1
    assert {reason.partition(":")[0] for reason in found.reasons} == {
        "not a S3 access log line",
        "no time that can be read",
    }


def test_the_same_s3_line_twice_is_one_record() -> None:
    first, again, other = S3_ACCESS.rows(
        [LINE.encode(), LINE.encode(), LINE.replace("3E57", "4E57").encode()]
    ).table.to_pylist()
    assert first["_th_id"] == again["_th_id"] != other["_th_id"]


@pytest.mark.parametrize("filler", ['" - ', '\\"', '"a" ', "a b ", '""', "[", '" "'])
def test_hostile_text_takes_no_longer(filler: str) -> None:
    """Time that grows with the square of a line's length would take hours here."""
    text = filler * (400_000 // len(filler))
    lines = [FRONT + f'"{text}" "{text}"', FRONT + f'"-" "{text}"' + TAIL, text, LINE + text]
    proxied = [
        f'1.2.3.4 - {text} [01/Mar/2026:09:30:00 +0000] "GET {text} HTTP/1.1" 200 1 "{text}" "{text}"',
        text,
    ]
    started = time.process_time()
    S3_ACCESS.rows([line.encode() for line in lines])
    PROXY.rows([line.encode() for line in proxied])
    assert time.process_time() - started < 5


COMBINED = '192.0.2.1 - - [01/Mar/2026:09:30:00 +0000] "GET / HTTP/1.1" 200 1 "-" "x"'
PROXIED = (
    '203.0.113.66 - - [01/Mar/2026:09:30:00 +0000] "GET /latest/meta-data/iam/security-credentials/ '
    'HTTP/1.1" 200 31 "-" "curl/8.5" "169.254.169.254" 169.254.169.254:80 0.004'
)


def test_a_request_through_a_proxy_becomes_a_row(read: Any) -> None:
    for data in (PROXIED.encode(), f"2026-03-01T09:30:01.000Z {PROXIED}\n".encode()):
        found = read(data)
        assert (found.source, found.reasons) == ("proxy", [])
        assert found.rows == [
            {
                "TimeGenerated": AT,
                "RemoteIp": "203.0.113.66",
                "Method": "GET",
                "RequestUri": "/latest/meta-data/iam/security-credentials/",
                "HttpVersion": "HTTP/1.1",
                "HttpStatus": 200,
                "BytesSent": 31,
                "UserAgent": "curl/8.5",
                "HostHeader": "169.254.169.254",
                "Upstream": "169.254.169.254:80",
                "RequestTime": 0.004,
                "RequestRaw": "GET /latest/meta-data/iam/security-credentials/ HTTP/1.1",
            }
        ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('::1 - bob [01/Mar/2026:09:30:00 +0000] "GET / HTTP/2.0" 304 - "-" "x"', {"RemoteUser": "bob"}),
        (
            'shop.example:443 192.0.2.1 - - [01/Mar/2026:09:30:00 +0000] "GET / HTTP/1.1" 200 5 "r" "x"',
            {"HostHeader": "shop.example", "RemoteIp": "192.0.2.1", "Referer": "r"},
        ),
        (
            r'192.0.2.1 - - [01/Mar/2026:09:30:00 +0000] "\x16\x03\x01" 400 150 "-" "-"',
            {"RequestRaw": r"\x16\x03\x01", "Method": None, "HttpStatus": 400},
        ),
        (
            r'192.0.2.1 - - [01/Mar/2026:09:30:00 +0000] "GET /\x22k\xC3\xA4 b HTTP/1.1" 200 1 "-" "a\"b"',
            {"RequestUri": '/"kä b', "UserAgent": 'a"b'},
        ),
        (
            COMBINED + ' "h" 10.0.0.1:80, 10.0.0.2:80 0.1 "198.51.100.7" extra',
            {
                "Upstream": "10.0.0.1:80, 10.0.0.2:80",
                "ForwardedFor": "198.51.100.7",
                "_th_rest": '{"more": ["extra"]}',
            },
        ),
    ],
)
def test_odd_proxy_lines(line: str, expected: dict[str, object], read: Any) -> None:
    found = read(line.encode())
    assert (found.source, found.reasons) == ("proxy", [])
    (row,) = found.rows
    assert {name: row.get(name) for name in expected} == expected


ALB = (
    "https 2026-03-01T09:30:00.186641Z app/lb/50dc 2001:db8::1:2817 [2001:db8::2]:80 0.086 0.048 0.037 200 "
    '200 0 57 "GET https://x:443/ HTTP/1.1" "curl \\"x\\"" ECDHE TLSv1.2 arn:tg "Root=1" "x" "arn:cert" 1 '
    '2026-03-01T09:29:59.364000Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_1'
)
NLB = (
    "tls 2.0 2026-03-01T09:30:00 net/lb/c6e7 g3d4 192.0.2.1:51341 10.0.0.1:443 5 2 98 246 - arn:cert - ECDHE "
    "tlsv12 - x.example - - - 2026-03-01T09:29:30"
)


def test_load_balancers(read: Any) -> None:
    found = read(f"{ALB} new\n{ALB[:120]}\n{ALB}\n".encode())
    assert (found.source, len(found.rows), len(found.bad)) == ("alb", 2, 1)
    row = found.rows[0]
    assert (row["ClientIp"], row["ClientPort"]) == ("2001:db8::1", 2817)
    assert (row["TargetIp"], row["TargetPort"]) == ("2001:db8::2", 80)
    assert (row["UserAgent"], row["SentBytes"], row["ConnTraceId"]) == ('curl \\"x\\"', 57, "TID_1")
    assert json.loads(row["_th_rest"]) == {"more": ["new"]}
    assert read(b"Enable AccessLog for ELB: lb at 2026-03-01T09:30:00.000Z").digest
    found = read(NLB.encode())
    assert (found.source, found.reasons) == ("nlb", [])
    assert found.rows[0]["DomainName"] == "x.example"
    assert found.rows[0]["TimeGenerated"] == AT
