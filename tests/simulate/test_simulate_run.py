"""A simulation as a whole: its files, its attack, its truth."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from trailhawk.errors import NotFoundError, UsageError
from trailhawk.simulate.run import Summary, simulate
from trailhawk.simulate.techniques import SCENARIOS

END = date(2026, 3, 20)
KEY = re.compile(
    r"AWSLogs/(\d{12})/CloudTrail/([a-z0-9-]+)/(\d{4})/(\d\d)/(\d\d)/"
    r"\1_CloudTrail_\2_(\3\4\5T\d{4}Z)_[A-Za-z0-9]{16}\.json\.gz"
)
DIGEST_KEY = re.compile(
    r"AWSLogs/(\d{12})/CloudTrail-Digest/([a-z0-9-]+)/\d{4}/\d\d/\d\d/"
    r"\1_CloudTrail-Digest_\2_[a-z]+_us-east-1_\d{8}T\d{6}Z(?:_backfill)?\.json\.gz"
)


class LogFile(NamedTuple):
    stamp: datetime
    account: str
    region: str
    records: list[dict[str, Any]]


class Simulation(NamedTuple):
    summary: Summary
    truth: dict[str, Any]
    files: list[LogFile]
    digests: list[dict[str, Any]]

    @property
    def written(self) -> list[dict[str, Any]]:
        return [record for file in self.files for record in file.records]

    @property
    def events(self) -> dict[str, dict[str, Any]]:
        return {record["eventID"]: record for record in self.written}


def contents(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
    }


def moment(record: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(record["eventTime"])


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """Thirty-five thin days, so that every change of the weeks is there."""
    out = tmp_path_factory.mktemp("simulation")
    summary = simulate("cloud-breach-s3", out, seed=7, days=35, events_per_day=300, end=END)
    files: list[LogFile] = []
    digests: list[dict[str, Any]] = []
    for path, content in contents(summary.logs).items():
        if "/CloudTrail" not in path or path.endswith(".head.json"):
            continue
        body = orjson.loads(gzip.decompress(content))
        if DIGEST_KEY.fullmatch(path):
            digests.append(body)
            continue
        match = KEY.fullmatch(path)
        assert match, path
        stamp = datetime.strptime(match[6], "%Y%m%dT%H%MZ").replace(tzinfo=UTC)
        files.append(LogFile(stamp, match[1], match[2], body["Records"]))
    return Simulation(summary, orjson.loads(summary.truth.read_bytes()), files, digests)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    def run(name: str, seed: int) -> dict[str, bytes]:
        out = tmp_path / name
        simulate("cloud-breach-s3", out, seed=seed, days=2, events_per_day=400, end=END)
        return contents(out)

    first = run("first", 1)
    assert first == run("again", 1)
    other = run("other", 2)
    assert first["truth.json"] != other["truth.json"]
    assert not {path for path in first if "/CloudTrail/" in path} & set(other)


def test_truth_lies_beside_the_logs(simulation: Simulation) -> None:
    summary = simulation.summary
    assert summary.truth.name == "truth.json"
    assert summary.truth.parent == summary.logs.parent
    assert not list(summary.logs.rglob("truth*"))


def test_counts(simulation: Simulation) -> None:
    counts, summary = simulation.truth["counts"], simulation.summary
    assert counts["records"] == summary.records == len(simulation.written)
    assert counts["events"] == summary.events == len(simulation.events)
    assert counts["repeated_records"] == counts["records"] - counts["events"] > 0
    assert counts["files"] == summary.files == len(simulation.files)
    assert counts["digest_files"] == summary.digests == len(simulation.digests) > 800
    assert counts["duplicate_files"] > 0
    assert counts["late_files"] > 0


def test_days_keep_near_the_size_asked_for(tmp_path: Path) -> None:
    summary = simulate("cloud-breach-s3", tmp_path, seed=3, days=1, events_per_day=3000, end=END)
    assert 2850 <= summary.events <= 3150


def test_file_stamps_follow_the_events(simulation: Simulation) -> None:
    lags = [file.stamp - moment(record) for file in simulation.files for record in file.records]
    assert min(lags) >= timedelta(0)
    assert timedelta(minutes=30) < max(lags) <= timedelta(minutes=40)
    assert all(file.stamp.minute % 5 == 0 for file in simulation.files)


def test_records_stand_in_the_trail_that_saw_them(simulation: Simulation) -> None:
    for file in simulation.files:
        for record in file.records:
            assert (record["recipientAccountId"], record["awsRegion"]) == (file.account, file.region)


def test_records_stand_in_no_order(simulation: Simulation) -> None:
    times = [[moment(record) for record in file.records] for file in simulation.files]
    assert sum(one != sorted(one) for one in times) > len(times) // 2


def test_repeats_are_the_same_record(simulation: Simulation) -> None:
    first: dict[str, dict[str, Any]] = {}
    for record in simulation.written:
        assert first.setdefault(record["eventID"], record) == record
    by_content = Counter(frozenset(record["eventID"] for record in file.records) for file in simulation.files)
    whole = sum(times - 1 for times in by_content.values())
    assert whole >= simulation.truth["counts"]["duplicate_files"]


def test_required_fields(simulation: Simulation) -> None:
    required = {
        "eventVersion",
        "userIdentity",
        "eventTime",
        "eventSource",
        "eventName",
        "awsRegion",
        "sourceIPAddress",
        "userAgent",
        "requestParameters",
        "responseElements",
        "eventID",
        "eventType",
        "readOnly",
        "managementEvent",
        "recipientAccountId",
        "eventCategory",
    }
    for record in simulation.events.values():
        assert required <= set(record), record["eventName"]
        assert re.fullmatch(
            r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", record["eventID"]
        )
        assert record["managementEvent"] == (record["eventCategory"] == "Management")
        forwarded = record["sourceIPAddress"].endswith(".amazonaws.com")
        assert forwarded == ("tlsDetails" not in record)
        bracketed = record["userAgent"].startswith("[")
        assert bracketed == (record["eventSource"] == "s3.amazonaws.com" and not forwarded)


def test_every_kind_of_caller(simulation: Simulation) -> None:
    kinds = {record["userIdentity"].get("type", "") for record in simulation.events.values()}
    assert kinds == {
        "IAMUser",
        "AssumedRole",
        "AWSService",
        "AWSAccount",
        "SAMLUser",
        "WebIdentityUser",
        "IdentityCenterUser",
        "",
    }


def test_the_attack_is_what_the_truth_says(simulation: Simulation) -> None:
    attack, events = simulation.truth["attack"], simulation.events
    told = [events[one["event_id"]] for one in attack["events"]]
    assert [record["eventName"] for record in told] == [
        "GetCallerIdentity",
        "ListBuckets",
        "ListObjects",
        "ListObjects",
        *["GetObject"] * 4,
    ]
    assert {record["sourceIPAddress"] for record in told} == {attack["attacker_address"]} == {"203.0.113.66"}
    assert {record["userIdentity"]["accessKeyId"] for record in told} == {attack["stolen_access_key"]}
    assert {record["userIdentity"]["arn"] for record in told} == {attack["session_arn"]}
    assert {record["userIdentity"]["sessionContext"]["ec2RoleDelivery"] for record in told} == {"1.0"}
    assert all(moment(record).date() == END for record in told)
    read = {
        record["requestParameters"]["key"]: record["additionalEventData"]["bytesTransferredOut"]
        for record in told
        if record["eventName"] == "GetObject"
    }
    assert read == {one["key"]: one["bytes"] for one in attack["objects"]}
    assert sum(read.values()) == attack["bytes"] == 459_921


def test_nothing_else_comes_from_the_attacker(simulation: Simulation) -> None:
    attack = simulation.truth["attack"]
    from_there = {
        event_id
        for event_id, record in simulation.events.items()
        if record["sourceIPAddress"] == attack["attacker_address"]
    }
    assert from_there == {one["event_id"] for one in attack["events"]}


def test_lineage_of_the_stolen_key(simulation: Simulation) -> None:
    attack, events = simulation.truth["attack"], simulation.events
    issued = [events[event_id] for event_id in attack["assume_role_event_ids"]]
    assert {record["requestID"] for record in issued} == {attack["assume_role_request_id"]}
    assert {record["eventTime"] for record in issued} == {attack["credentials_issued"]}
    assert [record["responseElements"]["credentials"]["accessKeyId"] for record in issued] == attack[
        "access_keys"
    ]
    assert attack["stolen_access_key"] in attack["access_keys"]
    for record in issued:
        assert record["userIdentity"] == {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}
        assert record["requestParameters"]["roleSessionName"] == attack["instance"]


def test_instance_keys_are_issued_before_they_are_used(simulation: Simulation) -> None:
    """From the second day on; the credentials of the first evening were handed out before the logs begin."""
    issued = {
        record["responseElements"]["credentials"]["accessKeyId"]: record["eventTime"]
        for record in simulation.events.values()
        if record["eventName"] == "AssumeRole" and record["sourceIPAddress"] == "ec2.amazonaws.com"
    }
    sessions = [
        record
        for record in simulation.events.values()
        if "ec2RoleDelivery" in record["userIdentity"].get("sessionContext", {})
    ]
    assert len({record["userIdentity"]["arn"] for record in sessions}) >= 14
    late = (END - timedelta(days=33)).isoformat()
    for record in sessions:
        identity = record["userIdentity"]
        if record["eventTime"] > late:
            assert issued[identity["accessKeyId"]] == identity["sessionContext"]["attributes"]["creationDate"]
            assert issued[identity["accessKeyId"]] <= record["eventTime"]


def test_look_alikes_and_marks(simulation: Simulation) -> None:
    truth, events = simulation.truth, simulation.events
    days = {one["name"]: one["day"] for one in truth["look_alikes"]}
    assert days["new_hire"] == 18
    assert days["new_role"] == 20
    assert days["address_change"] == 22
    assert days["new_bucket"] == 25
    assert days["stop_and_start"] == 27
    marked = truth["marked_events"]
    assert {"CreateRole", "AttachRolePolicy", "CreateInstanceProfile"} <= {
        events[event_id]["eventName"] for event_id in marked["new_role"]
    }
    attack_ids = {one["event_id"] for one in truth["attack"]["events"]}
    for name, event_ids in marked.items():
        assert event_ids, name
        assert not attack_ids & set(event_ids)
        assert set(event_ids) <= set(events)


def test_address_change_shows_in_the_logs(simulation: Simulation) -> None:
    change = next(one for one in simulation.truth["look_alikes"] if one["name"] == "address_change")
    before, after = change["nat"]
    seen = [
        (moment(record), record["sourceIPAddress"])
        for record in simulation.events.values()
        if record["sourceIPAddress"] in (before, after)
    ]
    last_before = max(at for at, address in seen if address == before)
    assert last_before < min(at for at, address in seen if address == after)
    assert abs(last_before - datetime.fromisoformat(change["time"])) < timedelta(days=1)


def test_awkward_text_is_there(simulation: Simulation) -> None:
    keys = {
        (record["requestParameters"] or {}).get("key", "")
        for record in simulation.events.values()
        if record["eventName"] == "GetObject"
    }
    assert any(not key.isascii() for key in keys)
    assert any("%25" in key for key in keys)
    agents = {
        simulation.events[one]["userAgent"] for one in simulation.truth["marked_events"]["hostile_values"]
    }
    assert any("\x1b" in agent for agent in agents)
    assert any("<script>" in agent for agent in agents)


def test_digests_name_every_file_once(simulation: Simulation) -> None:
    named = [file["s3Object"] for digest in simulation.digests for file in digest["logFiles"]]
    assert sorted(named) == sorted(path for path in contents(simulation.summary.logs) if KEY.fullmatch(path))


def test_each_account_and_region_has_a_chain_and_each_region_a_key(simulation: Simulation) -> None:
    keys = orjson.loads((simulation.summary.logs.parent / "digest-keys.json").read_bytes())
    digests = simulation.digests
    pairs = {(each["awsAccountId"], each["digestS3Object"].split("/")[3]) for each in digests}
    assert pairs == {(file.account, file.region) for file in simulation.files}
    assert len(keys["PublicKeyList"]) == len({region for _, region in pairs}) > 1


@pytest.mark.parametrize("seed", range(4))
def test_one_day_holds_the_attack(seed: int, tmp_path: Path) -> None:
    summary = simulate("cloud-breach-s3", tmp_path, seed=seed, days=1, events_per_day=300, end=END)
    assert summary.attack_events == 8
    truth = orjson.loads(summary.truth.read_bytes())
    assert truth["attack"]["first"][:10] == truth["attack"]["last"][:10] == END.isoformat()


def test_progress_hears_every_day(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    simulate(
        "cloud-breach-s3",
        tmp_path,
        seed=1,
        days=3,
        events_per_day=300,
        end=END,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "something.json"
    log.touch()
    with pytest.raises(UsageError, match="already holds files") as refused:
        simulate("cloud-breach-s3", tmp_path, seed=1, end=END)
    assert f"remove {tmp_path / 'logs'}" in str(refused.value)
    assert log.exists()
    (tmp_path / "truth.json").touch()
    with pytest.raises(UsageError, match="already holds a simulation"):
        simulate("cloud-breach-s3", tmp_path, seed=1, end=END)


@pytest.mark.parametrize("last", [1, 2])
def test_one_that_is_interrupted_leaves_room_for_the_next(last: int, tmp_path: Path) -> None:
    def ctrl_c(done: int, _: int) -> None:
        assert any((tmp_path / "sim" / "logs").rglob("*.json.gz"))
        if done == last:
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"seed": 1, "days": 2, "events_per_day": 300, "end": END}
    with pytest.raises(KeyboardInterrupt):
        simulate("cloud-breach-s3", tmp_path / "sim", progress=ctrl_c, **settings)
    assert not list((tmp_path / "sim").iterdir())
    assert simulate("cloud-breach-s3", tmp_path / "sim", **settings).events


def test_unknown_scenario_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cloud-breach-s3"):
        simulate("cloud-breach-s4", tmp_path, seed=1, end=END)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("days", "events_per_day"), [(0, 3000), (35, 10)])
def test_refuses_sizes_out_of_range(days: int, events_per_day: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot simulate"):
        simulate("cloud-breach-s3", tmp_path, seed=1, days=days, events_per_day=events_per_day, end=END)
    assert not list(tmp_path.iterdir())


def test_scenarios_have_descriptions() -> None:
    assert [scenario.name for scenario in SCENARIOS] == ["cloud-breach-s3", "function-credentials"]
    assert all(scenario.description for scenario in SCENARIOS)
