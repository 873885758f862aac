"""Variants of the breach: each kind of log tells the same, and the truth says what should be found."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from trailhawk.cli import run
from trailhawk.errors import NotFoundError
from trailhawk.simulate.run import simulate
from trailhawk.simulate.techniques import SCENARIOS

END = date(2026, 3, 20)
(SCENARIO,) = (each for each in SCENARIOS if each.name == "cloud-breach-s3")
ACCESS_FIELD = re.compile(r'\[[^\]]*\]|"[^"]*"|\S+')


class Told(NamedTuple):
    """A variant's truth and logs, its attacker's CloudTrail records in order of time."""

    truth: dict[str, Any]
    folder: Path

    @property
    def records(self) -> list[dict[str, Any]]:
        ids = {event["event_id"] for event in (self.truth["attack"] or {"events": []})["events"]}
        found = {
            record["eventID"]: record
            for path in self.folder.glob("AWSLogs/*/CloudTrail/**/*.json.gz")
            for record in orjson.loads(gzip.decompress(path.read_bytes()))["Records"]
            if record["eventID"] in ids
        }
        assert set(found) == ids
        return sorted(found.values(), key=lambda record: str(record["eventTime"]))

    @property
    def findings(self) -> list[dict[str, Any]]:
        ids = self.truth["other_logs"]["guardduty"]["attack_ids"]
        lines = self._lines("AWSLogs/*/GuardDuty/**/*.jsonl.gz")
        found = [body for line in lines if (body := orjson.loads(line))["id"] in ids]
        return sorted(found, key=lambda body: str(body["updatedAt"]))

    @property
    def proxy(self) -> list[str]:
        return [line for line in self._lines("exportedlogs/**/*.gz") if '"169.254.169.254"' in line]

    @property
    def access(self) -> dict[str, list[str]]:
        """Fields of the attack's access lines by request id."""
        ids = set(self.truth["other_logs"]["s3_access"]["attack_request_ids"])
        found = {}
        for path in self.folder.glob("s3-access-logs/**/*"):
            for line in path.read_text().splitlines() if path.is_file() else ():
                fields = ACCESS_FIELD.findall(line)
                if fields[5] in ids:
                    found[fields[5]] = fields
        assert set(found) == ids
        return found

    def _lines(self, form: str) -> Iterator[str]:
        for path in sorted(self.folder.glob(form)):
            yield from gzip.decompress(path.read_bytes()).decode().splitlines()


def told(out: Path, variant: str, *, seed: int = 5, days: int = 2) -> Told:
    summary = simulate(
        SCENARIO.name,
        out,
        variant=variant,
        seed=seed,
        days=days,
        events_per_day=300,
        flows_per_day=20,
        end=END,
    )
    return Told(orjson.loads(summary.truth.read_bytes()), summary.logs)


def moment(record: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(record["eventTime"])


def test_slow_takes_an_object_every_twenty_minutes(tmp_path: Path) -> None:
    story = told(tmp_path, "slow")
    reads = [moment(record) for record in story.records if record["eventName"] == "GetObject"]
    gaps = [later - sooner for sooner, later in pairwise(reads)]
    assert len(reads) == 18
    assert all(timedelta(minutes=18) < gap < timedelta(minutes=22) for gap in gaps)
    assert reads[-1].date() == END
    created = {finding["createdAt"] for finding in story.findings}
    counts = [finding["service"]["count"] for finding in story.findings]
    assert len(created) == 1
    assert counts == sorted(counts)
    assert counts[-1] == len(story.records) - 1


@pytest.mark.parametrize("seed", range(12))
def test_slow_stays_within_the_life_of_the_key_and_the_day(seed: int) -> None:
    from trailhawk.simulate.techniques.cloud_breach_s3 import VARIANTS
    from trailhawk.simulate.world import DAY, build

    slow = next(variant for variant in VARIANTS if variant.name == "slow")
    world = build(
        seed=seed, start=1_772_000_000 // DAY * DAY, days=1, events_per_day=300, setting=slow.setting
    )
    attack = slow.attack(world, world.rng("attack", "cloud-breach-s3"))
    issued = datetime.fromisoformat(str(attack.truth["credentials_issued"])).timestamp()
    assert issued <= attack.requests[-1].at < attack.records[0].at
    assert attack.records[-1].at < min(issued + 6.25 * 3600, world.end)


def test_from_aws(tmp_path: Path) -> None:
    story = told(tmp_path, "V3")
    (kind,) = {finding["type"] for finding in story.findings}
    assert kind.endswith("InstanceCredentialExfiltration.InsideAWS")
    action = story.findings[0]["service"]["action"]["awsApiCallAction"]
    assert action["remoteAccountDetails"] == {"accountId": "567890123456", "affiliated": False}
    assert action["remoteIpDetails"]["ipAddressV4"] == story.truth["attack"]["attacker_address"]


def test_forged(tmp_path: Path) -> None:
    story = told(tmp_path, "forged")
    office = next(one for one in story.truth["look_alikes"] if one["name"] == "address_change")["office"]
    assert story.truth["attack"]["attacker_address"].split(".")[:2] == office[-1].split(".")[:2]
    assert {record["userAgent"].strip("[]").split("/")[0] for record in story.records} == {"Boto3"}


def test_large_objects_are_read_in_ranges(tmp_path: Path) -> None:
    story = told(tmp_path, "V5")
    expected = story.truth["expected"]
    sizes = {one["key"]: one["bytes"] for one in story.truth["attack"]["objects"]}
    assert {one["key"]: one["bytes"] for one in expected["objects"]} == sizes
    assert expected["bytes"] == sum(sizes.values()) > 100_000_000
    assert {one["reads"] for one in expected["objects"]} == {1, 6, 9}
    lines = [fields for fields in story.access.values() if fields[6] == "REST.GET.OBJECT"]
    ranged = [fields for fields in lines if fields[9] == "206"]
    assert len(ranged) == 15
    assert {int(fields[12]) for fields in ranged} == {size for size in sizes.values() if size > 8 * 1024**2}
    assert sum(int(fields[11]) for fields in lines) == expected["bytes"]


def test_token_required(tmp_path: Path) -> None:
    story = told(tmp_path, "V6")
    assert story.records == []
    assert story.findings == []
    assert story.truth["expected"]["incidents"] == 0
    assert [line.split('" ')[1].split()[0] for line in story.proxy] == ["401"] * 3
    assert len(story.truth["other_logs"]["vpc_flow"]["attack"]) == 8


def test_token_fetched(tmp_path: Path) -> None:
    story = told(tmp_path, "V6b")
    assert {record["userIdentity"]["sessionContext"]["ec2RoleDelivery"] for record in story.records} == {
        "2.0"
    }
    assert set(story.truth["attack"]["key_delivery"].values()) == {"2.0"}
    methods = [re.findall(r'"(GET|PUT) \S+ HTTP/1.1" (\d+)', line)[0] for line in story.proxy]
    assert methods == [("GET", "401"), ("PUT", "200"), ("GET", "200"), ("GET", "200")]


def test_denied(tmp_path: Path) -> None:
    story = told(tmp_path, "V7")
    errors = [record.get("errorCode") for record in story.records]
    assert errors[:4] == [None] * 4
    assert set(errors[4:]) == {"AccessDenied"}
    assert story.truth["expected"]["refused"] == len(errors) - 4 == 12
    assert story.truth["expected"]["bytes"] == 0
    assert story.truth["attack"]["objects"] == story.truth["expected"]["objects"] == []
    assert {fields[9] for fields in story.access.values() if "OBJECT" in fields[6]} == {"403"}


def test_look_alikes_hold_no_attack(tmp_path: Path) -> None:
    story = told(tmp_path, "V8")
    assert story.truth["attack"] is None
    assert story.truth["expected"]["incidents"] == 0
    assert story.proxy == []
    last = [one for one in story.truth["look_alikes"] if "event_ids" in one]
    assert {one["name"] for one in last} == {"analyst_sync", "last_day_move"}
    assert all(one["event_ids"] and one["time"].startswith(END.isoformat()) for one in last)
    assert story.truth["counts"]["latest_minutes"] > 30


def test_hidden_has_the_size_asked_for(tmp_path: Path) -> None:
    words = ["simulate", "cloud-breach-s3", "--variant", "v9", "--days", "2", "--events", "4000", "--quiet"]
    assert run([*words, "--end", END.isoformat(), "--out", str(tmp_path)]) == 0
    truth = orjson.loads((tmp_path / "truth.json").read_bytes())
    assert 3_700 <= truth["counts"]["events"] <= 4_300
    assert truth["variant"]["number"] == "V9"


def test_public_bucket(tmp_path: Path) -> None:
    story = told(tmp_path, "V10")
    identities = [record["userIdentity"] for record in story.records]
    assert all(identity["accountId"] == "ANONYMOUS_PRINCIPAL" for identity in identities)
    assert not any("accessKeyId" in identity or "arn" in identity for identity in identities)
    assert not any("SignatureVersion" in record["additionalEventData"] for record in story.records)
    fields = list(story.access.values())
    assert {line[4] for line in fields} == {line[21] for line in fields} == {"-"}
    assert story.findings == []
    assert story.truth["expected"]["bytes"] == 459_921


def test_list_tells_every_variant(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "list", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    variants = [variant for scenario in SCENARIOS for variant in scenario.variants]
    assert [one["number"] for one in told] == [variant.number for variant in variants]
    assert run(["simulate", "list"]) == 0
    out = capsys.readouterr().out
    assert all(variant.name in out for variant in variants)
    page = (Path(__file__).parents[2] / "docs" / "simulate.md").read_text()
    assert all(f"| `{variant.name}` | {variant.number} |" in page for variant in variants)
    assert all(f"`{scenario.name}`" in page for scenario in SCENARIOS)


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotFoundError, match="no variant of cloud-breach-s3 named 'v11'"):
        told(tmp_path, "v11")
    assert run(["simulate", "cloud-breach-s3"]) == 2
    both = ["--events", "900", "--events-per-day", "300", "--out", str(tmp_path / "x")]
    assert run(["simulate", "cloud-breach-s3", *both]) == 2
    assert "give one of them" in capsys.readouterr().err
