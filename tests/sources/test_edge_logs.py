"""Logs of the edge: Classic Load Balancers, ALB's connections and health checks, CloudFront."""

import datetime as dt
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trailhawk.sources.cloudfront import CloudFront

CLASSIC = (
    "2026-03-01T09:30:00.945958Z my-lb 203.0.113.66:2817 10.0.0.1:80 0.000086 0.001048 0.001337 200 200 0 57 "
    '"GET https://www.example.com:443/latest/meta-data HTTP/1.1" "curl/7.38.0 \\"x\\"" ECDHE-RSA TLSv1.2'
)
TCP = '2026-03-01T09:30:01.945958Z my-lb [2001:db8::1]:2817 - 0.001069 -1 -1 - - 82 305 "- - - " "-" - -'
CONNECTION = (
    "2026-03-01T09:30:00.514108Z 203.0.113.66 36280 443 TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256 4.036 "
    '"CN=amazondomains.com,O=endEntity,L=Seattle,ST=Washington,C=US" '
    "NotBefore=2025-09-21T22:43:21Z;NotAfter=2026-06-17T22:43:21Z FEF257372D5C14D4 Success TID_3180a73013c8"
)
REFUSED = (
    '2026-03-01T09:30:01.514108Z 203.0.113.66 36281 443 - - - "-" - - Failed:ClientCertExpired TID_1 x25519'
)
HEALTHY = "http 2026-03-01T09:30:00.875678Z 0.019584011 172.31.20.97:80 HCLogsTestIPs PASS 200 -"
FAILED = "https 2026-03-01T09:30:01.901409Z 1.121980746 172.31.31.9:8443 HCLogsTestIPs FAIL 502 TargetError"
FIELDS = [
    "date",
    "time",
    "x-edge-location",
    "sc-bytes",
    "c-ip",
    "cs-method",
    "cs(Host)",
    "cs-uri-stem",
    "sc-status",
    "cs(Referer)",
    "cs(User-Agent)",
    "cs-uri-query",
    "cs(Cookie)",
    "x-edge-result-type",
    "x-edge-request-id",
    "x-host-header",
    "cs-protocol",
    "cs-bytes",
    "time-taken",
    "x-forwarded-for",
    "ssl-protocol",
    "ssl-cipher",
    "x-edge-response-result-type",
    "cs-protocol-version",
    "fle-status",
    "fle-encrypted-fields",
    "c-port",
    "time-to-first-byte",
    "x-edge-detailed-result-type",
    "sc-content-type",
    "sc-content-len",
    "sc-range-start",
    "sc-range-end",
]
VALUES = [
    "2026-03-01",
    "09:30:00",
    "FRA2",
    "392",
    "203.0.113.66",
    "GET",
    "d111.cloudfront.net",
    "/index.html",
    "200",
    "-",
    "Mozilla/5.0%20(x)",
    "a=b",
    "-",
    "Hit",
    "SOX4x==",
    "d111.cloudfront.net",
    "https",
    "23",
    "0.001",
    "-",
    "TLSv1.3",
    "X",
    "Hit",
    "HTTP/2.0",
    "-",
    "-",
    "11040",
    "0.001",
    "Hit",
    "text/html",
    "78",
    "-",
    "-",
]


def text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_classic_load_balancers(read: Any) -> None:
    found = read(text(CLASSIC, TCP, "no line", CLASSIC.replace("200 200", "600x 9999999999")))
    assert (found.source, len(found.rows), len(found.bad)) == ("elb", 3, 1)
    first, second, third = found.rows
    assert first["TimeGenerated"] == dt.datetime(2026, 3, 1, 9, 30, 0, 945958)
    assert (first["ClientIp"], first["ClientPort"], first["BackendIp"]) == ("203.0.113.66", 2817, "10.0.0.1")
    assert (first["ElbStatusCode"], first["SentBytes"], first["SslProtocol"]) == (200, 57, "TLSv1.2")
    assert first["UserAgent"] == r"curl/7.38.0 \"x\""
    assert (second["ClientIp"], second["BackendIp"], "BackendPort" in second) == ("2001:db8::1", "-", False)
    assert "BackendStatusCode" not in third
    assert json.loads(third["_th_rest"]) == {"ElbStatusCode": "600x", "BackendStatusCode": "9999999999"}
    # Old logs end with the request.
    short = CLASSIC[: CLASSIC.index(' "curl')]
    assert read(text(short)).rows[0]["RequestRaw"].startswith("GET https")


def test_connections(read: Any) -> None:
    found = read(text(CONNECTION, REFUSED, CONNECTION[:60]))
    assert (found.source, len(found.rows), len(found.bad)) == ("alb-connection", 2, 1)
    first, second = found.rows
    assert (first["ClientIp"], first["ClientPort"], first["ListenerPort"]) == ("203.0.113.66", 36280, 443)
    assert first["LeafClientCertSubject"].startswith("CN=amazondomains.com,O=endEntity")
    assert (first["TlsVerifyStatus"], first["ConnTraceId"]) == ("Success", "TID_3180a73013c8")
    assert (second["TlsVerifyStatus"], second["TlsKeyExchange"]) == ("Failed:ClientCertExpired", "x25519")
    assert read(text(REFUSED)).source == "alb-connection"


def test_health_checks(read: Any) -> None:
    found = read(text(HEALTHY, FAILED, HEALTHY.replace("0.019584011", "-"), "http x"))
    assert (found.source, len(found.rows), len(found.bad)) == ("alb-health", 3, 1)
    first, second, _ = found.rows
    assert (first["CheckType"], first["TargetIp"], first["TargetPort"]) == ("http", "172.31.20.97", 80)
    assert (first["Status"], second["Status"], second["ReasonCode"]) == ("PASS", "FAIL", "TargetError")
    assert read(text(HEALTHY.replace("0.019584011", "-"))).source == "alb-health"


@pytest.mark.parametrize(
    ("name", "source"),
    [("AccessLog", "alb"), ("ConnectionLog", "alb-connection"), ("HealthCheckLog", "alb-health")],
)
def test_what_tries_whether_the_bucket_can_be_written(read: Any, name: str, source: str) -> None:
    found = read(f"Enable {name} for ELB: 011122223333 at 2026-03-01T09:30:00Z".encode())
    assert (found.source, found.digest) == (source, True)


def _w3c() -> bytes:
    return text("#Version: 1.0", "#Fields: " + " ".join(FIELDS), "\t".join(VALUES))


def _plain() -> bytes:
    return text("\t".join(FIELDS), "\t".join(VALUES))


def _spaced() -> bytes:
    return text(" ".join(FIELDS), " ".join(VALUES))


def _json() -> bytes:
    return text(json.dumps(dict(zip(FIELDS, VALUES, strict=True))))


def _parquet() -> bytes:
    file = io.BytesIO()
    names = [name.replace("-", "_").replace("(", "_").replace(")", "") for name in FIELDS]
    columns: dict[str, list[Any]] = {name: [value] for name, value in zip(names, VALUES, strict=True)}
    columns["sc_status"] = [200]
    pq.write_table(pa.table(columns), file, compression="gzip")
    return file.getvalue()


@pytest.mark.parametrize("made", [_w3c, _plain, _spaced, _json, _parquet], ids=lambda made: made.__name__[1:])
def test_cloudfront(read: Any, made: Any) -> None:
    found = read(made())
    assert (found.source, found.reasons) == ("cloudfront", [])
    (row,) = found.rows
    assert row["TimeGenerated"] == dt.datetime(2026, 3, 1, 9, 30)
    assert (row["CIp"], row["ScStatus"], row["CsHost"]) == ("203.0.113.66", "200", "d111.cloudfront.net")
    assert (row["CsUserAgent"], row["XEdgeRequestId"]) == ("Mozilla/5.0%20(x)", "SOX4x==")
    assert (row["ScContentLen"], row["CsReferer"], "_th_rest" in row) == ("78", "-", False)


def test_cloudfront_with_fields_of_ones_own_choice(read: Any) -> None:
    header = "timestamp(ms)\tx-edge-location\tc-ip\tDistributionId\tc-country\tunheard-of"
    data = text(
        header,
        "1772357400123\tFRA2\t203.0.113.66\tE1\tDE\tx",
        "1772357400123\tFRA2",
        "-\tFRA2\t203.0.113.66\tE1\tDE\tx",
        "#Fields: timestamp x-edge-location c-ip",
        "1772357401\tFRA2\t203.0.113.67",
    )
    found = read(data)
    assert (found.source, len(found.rows), len(found.bad)) == ("cloudfront", 2, 2)
    first, second = found.rows
    assert first["TimeGenerated"] == dt.datetime(2026, 3, 1, 9, 30, 0, 123000)
    assert (first["DistributionId"], first["CCountry"]) == ("E1", "DE")
    assert json.loads(first["_th_rest"]) == {"unheard-of": "x"}
    assert (second["CIp"], second["TimeGenerated"]) == ("203.0.113.67", dt.datetime(2026, 3, 1, 9, 30, 1))
    assert any("2 values for 6 fields" in reason for reason in found.reasons)


def test_a_long_header_over_short_lines_is_not_held_for_all_of_them() -> None:
    names = ["x-edge-location", "x-edge-request-id", *(f"f{place:03}{'a' * 34}" for place in range(190))]
    data = text("#Version: 1.0", f"#Fields: {' '.join(names)}", *"a" * 20_000)
    source = CloudFront()
    chunks = list(source.chunks(iter([data])))
    assert sum(len(chunk.records) for chunk in chunks) == 20_000
    assert max(sum(map(len, chunk.records)) for chunk in chunks) < 17 << 20
    first = len(chunks[0].records)
    assert chunks[1].position(0) - chunks[0].position(0) == 2 * first
    (_, reason) = source.rows(chunks[1].records[:1]).bad[0]
    assert reason == "not a CloudFront log record: 1 values for 192 fields"


def test_what_is_no_log_of_cloudfront(read: Any) -> None:
    for data in (
        text("date\ttime\tmessage", "2026-03-01\t09:30:00\tx"),
        text("#Version: 1.0", "#Fields: date time c-ip cs-method", "2026-03-01 09:30:00 203.0.113.9 GET"),
        text('{"x-edge-location":"FRA2"}'),
        text('"bucket","key","size"', '"cards","a.csv","12"'),
    ):
        assert read(data).source == ""
    event = {"eventSource": "cloudfront.amazonaws.com", "x-edge-location": "", "date": ""}
    assert read(text(json.dumps(event))).source != "cloudfront"
