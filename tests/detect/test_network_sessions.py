"""ASIM's NetworkSession over VPC flow logs: the rows it promises, and every parameter as a filter."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk import connectors, sources
from trailhawk.connectors.ingest import ingest
from trailhawk.detect.content import functions
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.lake.catalog import Lake

NOW = datetime(2026, 3, 2, tzinfo=UTC)
START = 1772359200  # 2026-03-01T10:00:00Z
HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action"
    " log-status vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr region az-id"
    " pkt-dst-aws-service flow-direction"
)
ACCOUNT = "111122223333"


def flow(minute: int, source: str, target: str, port: int, action: str, direction: str, **more: str) -> str:
    start = START + minute * 60
    status = more.get("status", "OK")
    return (
        f"5 {ACCOUNT} eni-0aa {source} {target} 40000 {port} {more.get('protocol', '6')} 10 4000 {start}"
        f" {start + 30} {action} {status} vpc-1 subnet-1 i-0aa 19 IPv4 {more.get('origin', source)} {target}"
        f" eu-central-1 euc1-az1 {more.get('service', '-')} {direction}"
    )


FLOWS = [
    flow(0, "10.0.0.5", "198.51.100.7", 443, "ACCEPT", "egress", service="S3"),
    flow(1, "203.0.113.9", "10.0.0.5", 22, "REJECT", "ingress"),
    flow(2, "10.0.0.5", "10.0.1.6", 53, "ACCEPT", "egress", protocol="17", origin="10.0.9.9"),
    f"5 {ACCOUNT} eni-0aa - - - - - - - {START + 180} {START + 240} - NODATA {'- ' * 10}-",
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    home: Path = tmp_path_factory.mktemp("home")
    lake = Lake(home / "lake", [*sources.TABLES, *connectors.TABLES])
    log = home / "flow.log"
    log.write_text("\n".join([HEADER, *FLOWS]) + "\n")
    assert ingest(lake, [log], clock=lambda: NOW).rows == len(FLOWS)
    return DuckDBEngine(lake, functions=functions())


def rows(engine: DuckDBEngine, query: str) -> list[tuple[object, ...]]:
    return engine.query(query, now=NOW).tuples()


@pytest.mark.parametrize(
    "name", ["_Im_NetworkSession", "imNetworkSession", "_ASim_NetworkSession", "ASimNetworkSession"]
)
def test_each_flow_with_data_is_a_session(engine: DuckDBEngine, name: str) -> None:
    shown = f"{name} | sort by TimeGenerated asc | project SrcIpAddr, DstIpAddr, DstPortNumber, DvcAction"
    assert rows(engine, shown) == [
        ("10.0.0.5", "198.51.100.7", 443, "Allow"),
        ("203.0.113.9", "10.0.0.5", 22, "Deny"),
        ("10.0.9.9", "10.0.1.6", 53, "Allow"),
    ]


def test_the_fields_of_a_session(engine: DuckDBEngine) -> None:
    query = "_Im_NetworkSession(dstportnumber=443, pack=true) | project "
    asked = {
        "EventSchema": "NetworkSession",
        "EventVendor": "AWS",
        "EventProduct": "VPC",
        "EventType": "NetworkSession",
        "EventCount": 1,
        "EventResult": "Success",
        "EventSeverity": "Informational",
        "EventStartTime": datetime(2026, 3, 1, 10, tzinfo=UTC),
        "EventEndTime": datetime(2026, 3, 1, 10, 0, 30, tzinfo=UTC),
        "NetworkDirection": "Outbound",
        "NetworkProtocol": "TCP",
        "NetworkProtocolVersion": "IPv4",
        "NetworkBytes": 4000,
        "NetworkDuration": 30_000,
        "Duration": 30_000,
        "SrcDvcId": "i-0aa",
        "SrcVpcId": "vpc-1",
        "DstDvcId": "",
        "DstAppName": "S3",
        "Dvc": "eni-0aa",
        "DvcScopeId": ACCOUNT,
        "TcpFlagsSyn": True,
        "TcpFlagsRst": False,
        "ASimMatchingIpAddr": "-",
        "IpAddr": "10.0.0.5",
        "Type": "AWSVPCFlow",
    }
    assert rows(engine, query + ", ".join(asked)) == [tuple(asked.values())]
    assert rows(engine, query + "tostring(AdditionalFields.Region)") == [("eu-central-1",)]


@pytest.mark.parametrize(
    ("given", "ports"),
    [
        ("starttime=datetime(2026-03-01T10:01:00Z)", [22, 53]),
        ("endtime=datetime(2026-03-01T10:00:59Z)", [443]),
        ("srcipaddr_has_any_prefix=dynamic(['203.0.113.'])", [22]),
        ("dstipaddr_has_any_prefix=dynamic(['10.0.', '192.168.'])", [22, 53]),
        ("ipaddr_has_any_prefix=dynamic(['198.51.100.', '203.'])", [22, 443]),
        ("dstportnumber=53", [53]),
        ("hostname_has_any=dynamic(['web'])", []),
        ("dvcaction=dynamic(['deny'])", [22]),
        ("eventresult='Failure'", [22]),
        ("eventresult='*'", [22, 53, 443]),
        ("disabled=true", []),
    ],
)
def test_parameters_filter(engine: DuckDBEngine, given: str, ports: list[int]) -> None:
    found = rows(engine, f"_Im_NetworkSession({given}) | project DstPortNumber | sort by DstPortNumber asc")
    assert [port for (port,) in found] == ports


def test_which_address_matched(engine: DuckDBEngine) -> None:
    query = "_Im_NetworkSession(ipaddr_has_any_prefix=dynamic(['10.'])) | sort by TimeGenerated asc"
    assert rows(engine, f"{query} | project ASimMatchingIpAddr") == [
        ("SrcIpAddr",),
        ("DstIpAddr",),
        ("Both",),
    ]


def test_a_time_range_leaves_files_unread(engine: DuckDBEngine) -> None:
    text = "_Im_NetworkSession(starttime=datetime(2026-03-05)) | count"
    assert "read_parquet" not in engine.explain(text, now=NOW)
