"""The logs beside CloudTrail: they tell the same story, and leave the CloudTrail files as they are."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson
import pytest

from trailhawk.errors import UsageError
from trailhawk.simulate.run import Summary, simulate

END = date(2026, 3, 20)
FLOW_KEY = re.compile(
    r"AWSLogs/(\d{12})/vpcflowlogs/([a-z0-9-]+)/\d{4}/\d\d/\d\d/"
    r"\1_vpcflowlogs_\2_fl-[0-9a-f]{17}_\d{8}T\d{4}Z_[0-9a-f]{8}\.log\.gz"
)
ACCESS_KEY = re.compile(
    r"s3-access-logs/\d{12}/[a-z0-9-]+/[a-z0-9-]+/\d{4}/\d\d/\d\d/(\d{4}(-\d\d){5})-[0-9A-F]{16}"
)
FINDING_KEY = re.compile(r"AWSLogs/\d{12}/GuardDuty/[a-z0-9-]+/\d{4}/\d\d/\d\d/[0-9a-f-]{36}\.jsonl\.gz")
PROXY_KEY = re.compile(r"exportedlogs/banking-nginx-access/[0-9a-f-]{36}/i-[0-9a-f]+/000000\.gz")
ACCESS_FIELD = re.compile(r'\[[^\]]*\]|"[^"]*"|\S+')


class Simulation(NamedTuple):
    summary: Summary
    truth: dict[str, Any]
    files: dict[str, bytes]

    def lines(self, form: re.Pattern[str]) -> Iterator[str]:
        """The lines of every file whose key has this form."""
        for key, content in self.files.items():
            if form.fullmatch(key):
                text = gzip.decompress(content) if key.endswith("gz") else content
                yield from text.decode().splitlines()

    @property
    def events(self) -> dict[str, dict[str, Any]]:
        """CloudTrail's S3 events by request id."""
        found = {}
        for key, content in self.files.items():
            if "/CloudTrail/" in key:
                for record in orjson.loads(gzip.decompress(content))["Records"]:
                    if record["eventSource"] == "s3.amazonaws.com":
                        found[record["requestID"]] = record
        return found


def run(out: Path, *, flows_per_day: int = 200, seed: int = 7, days: int = 5) -> Simulation:
    summary = simulate(
        "cloud-breach-s3", out, seed=seed, days=days, events_per_day=400, end=END, flows_per_day=flows_per_day
    )
    paths = sorted(path for path in summary.logs.rglob("*") if path.is_file())
    files = {str(path.relative_to(summary.logs)): path.read_bytes() for path in paths}
    return Simulation(summary, orjson.loads(summary.truth.read_bytes()), files)


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return run(tmp_path_factory.mktemp("others"))


def test_every_file_lies_where_aws_puts_it(simulation: Simulation) -> None:
    others = [key for key in simulation.files if "/CloudTrail" not in key]
    forms = (FLOW_KEY, ACCESS_KEY, FINDING_KEY, PROXY_KEY)
    assert all(any(form.fullmatch(key) for form in forms) for key in others)
    assert all(any(form.fullmatch(key) for key in others) for form in forms)
    assert len(others) == simulation.summary.other_files


def test_same_seed_same_bytes(simulation: Simulation, tmp_path: Path) -> None:
    assert run(tmp_path).files == simulation.files


def test_cloudtrail_files_do_not_depend_on_the_others(simulation: Simulation, tmp_path: Path) -> None:
    alone = run(tmp_path, flows_per_day=0)
    assert alone.summary.other_files == 0
    assert "other_logs" not in alone.truth
    assert alone.files == {key: text for key, text in simulation.files.items() if "/CloudTrail" in key}


def test_the_theft_is_in_the_proxy_log_alone(simulation: Simulation) -> None:
    attack = simulation.truth["attack"]
    asked = [line for line in simulation.lines(PROXY_KEY) if '"169.254.169.254"' in line]
    assert len(asked) == simulation.truth["other_logs"]["proxy"]["metadata_requests"] == 2
    assert all(f" {attack['attacker_address']} - - [" in line for line in asked)
    assert f"security-credentials/{attack['role']} HTTP" in asked[1]
    first = datetime.fromisoformat(asked[0].split()[0]).replace(tzinfo=UTC)
    issued, used = (datetime.fromisoformat(attack[name]) for name in ("credentials_issued", "first"))
    assert issued < first < used
    assert not any(" 169.254." in line for line in simulation.lines(FLOW_KEY))


def test_the_attackers_flows_go_to_the_web_server(simulation: Simulation) -> None:
    attack, told = simulation.truth["attack"], simulation.truth["other_logs"]["vpc_flow"]["attack"]
    flows = [line.split() for line in simulation.lines(FLOW_KEY) if attack["attacker_address"] in line]
    assert len(flows) == len(told) == 6
    ends = {attack["attacker_address"], attack["instance_private_address"]}
    assert all({flow[3], flow[4]} == ends and flow[2] == attack["interface"] for flow in flows)
    assert sorted(int(flow[9]) for flow in flows) == sorted(flow["bytes"] for flow in told)


def test_flow_records_are_of_version_2(simulation: Simulation) -> None:
    lines = list(simulation.lines(FLOW_KEY))
    files = sum(bool(FLOW_KEY.fullmatch(key)) for key in simulation.files)
    header = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes"
    assert sum(line.startswith(header) for line in lines) == files
    records = [line.split() for line in lines if line.startswith("2 ")]
    assert len(records) == simulation.truth["other_logs"]["vpc_flow"]["records"]
    assert {len(record) for record in records} == {14}
    assert {record[12] for record in records} == {"ACCEPT", "REJECT", "-"}
    assert {record[13] for record in records} == {"OK", "NODATA"}
    assert all(int(record[10]) <= int(record[11]) <= int(record[10]) + 3600 for record in records)


def test_s3_access_lines_agree_with_the_events(simulation: Simulation) -> None:
    events = simulation.events
    lines = [ACCESS_FIELD.findall(line) for line in simulation.lines(ACCESS_KEY)]
    assert {len(fields) for fields in lines} == {26}
    for fields in lines:
        event = events[fields[5]]
        request = event["requestParameters"]
        assert fields[1] == request["bucketName"]
        assert fields[3] == event["sourceIPAddress"]
        assert unquote(unquote(fields[7])) == request.get("key", "-")
        sent = event["additionalEventData"]["bytesTransferredOut"]
        assert fields[11] == (str(sent) if sent else "-")
    ids = {fields[5] for fields in lines}
    told = simulation.truth["other_logs"]["s3_access"]
    assert set(told["attack_request_ids"]) <= ids
    assert len(told["attack_request_ids"]) == 6
    buckets = set(told["buckets"])
    assert ids == {
        request_id
        for request_id, event in events.items()
        if event["managementEvent"] is False and event["requestParameters"]["bucketName"] in buckets
    }


def test_the_finding_comes_twice_with_a_rising_count(simulation: Simulation) -> None:
    attack = simulation.truth["attack"]
    (identity,) = simulation.truth["other_logs"]["guardduty"]["attack_ids"]
    findings = [orjson.loads(line) for line in simulation.lines(FINDING_KEY)]
    once, again = sorted(
        (each for each in findings if each["id"] == identity), key=lambda each: str(each["updatedAt"])
    )
    details = once["resource"]["accessKeyDetails"]
    assert once["type"] == "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS"
    assert details["accessKeyId"] == attack["stolen_access_key"]
    assert details["principalId"].endswith(attack["instance"])
    assert once["createdAt"] == again["createdAt"]
    assert once["service"]["count"] < again["service"]["count"]
    assert all(f'"{address}"' in orjson.dumps(once).decode() for address in (attack["attacker_address"],))


def test_more_flows_when_asked_for(simulation: Simulation, tmp_path: Path) -> None:
    more = run(tmp_path, flows_per_day=1000, days=1)
    per_day = simulation.truth["other_logs"]["vpc_flow"]["records"] / 5
    assert more.truth["other_logs"]["vpc_flow"]["records"] > per_day + 700


def test_too_few_flows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 for CloudTrail alone"):
        run(tmp_path, flows_per_day=3)
