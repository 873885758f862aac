"""An incident told in full, over records made by hand: a thief, the instance, a role taken with the key."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trailhawk.detect import content
from trailhawk.detect.entities import IP, entity
from trailhawk.detect.history import detect
from trailhawk.detect.rule import Severity
from trailhawk.detect.store import AlertStore, open_state, sqlite_url
from trailhawk.engine.result import Engine
from trailhawk.incidents.indicators import indicators
from trailhawk.incidents.lineage import issues, lineage
from trailhawk.incidents.report import Report, report
from trailhawk.incidents.store import IncidentStore

DAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
NOW = DAY + timedelta(days=2)
INSTANCE = "i-0123456789abcdef0"
SESSION = f"AROAEXAMPLEROLE000001:{INSTANCE}"
ARN = f"arn:aws:sts::111122223333:assumed-role/web-role/{INSTANCE}"
ROLE = "arn:aws:iam::111122223333:role/apps/web-role"
AGENT_KEY, STOLEN, CHAINED = "ASIAEXAMPLEAGENT0001", "ASIAEXAMPLESTOLEN001", "ASIAEXAMPLECHAINED01"
HOME, THIEF = "198.51.100.20", "203.0.113.66"

Json = dict[str, object]


def at(minute: float) -> Json:
    return {"eventTime": (DAY + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")}


def call(
    minute: float, service: str, name: str, identity: Json, address: str, agent: str, **more: object
) -> Json:
    return {
        **at(minute),
        "eventSource": f"{service}.amazonaws.com",
        "eventName": name,
        "sourceIPAddress": address,
        "userAgent": agent,
        "recipientAccountId": "111122223333",
        "userIdentity": identity,
        **more,
    }


def session(key: str) -> Json:
    return {
        "type": "AssumedRole",
        "principalId": SESSION,
        "arn": ARN,
        "accountId": "111122223333",
        "accessKeyId": key,
        "sessionContext": {"ec2RoleDelivery": "1.0", "sessionIssuer": {"type": "Role", "arn": ROLE}},
    }


def issue(key: str, event_id: str) -> Json:
    return call(
        0,
        "sts",
        "AssumeRole",
        {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"},
        "ec2.amazonaws.com",
        "ec2.amazonaws.com",
        eventID=event_id,
        requestParameters={"roleArn": ROLE, "roleSessionName": INSTANCE},
        responseElements={
            "credentials": {"accessKeyId": key, "expiration": "Mar 2, 2026, 3:12:00\u202fPM"},
            "assumedRoleUser": {"assumedRoleId": SESSION, "arn": ARN},
        },
    )


def read(minute: float, key: str, size: float, *, error: str = "") -> Json:
    failed: Json = {"errorCode": error} if error else {}
    return call(
        minute,
        "s3",
        "GetObject",
        session(STOLEN),
        THIEF,
        "[aws-cli/2.17.20 md/command#s3.sync]",
        eventID=f"read-{key}-{minute}",
        requestParameters={"bucketName": "cardholders", "key": key},
        additionalEventData={"bytesTransferredOut": size},
        **failed,
    )


def agent(minute: float) -> Json:
    client = "aws-sdk-go/1.55.5 (go1.23.7; linux; amd64) amazon-ssm-agent/3.3"
    return call(minute, "ssm", "UpdateInstanceInformation", session(AGENT_KEY), HOME, client)


RECORDS = [
    issue(AGENT_KEY, "issue-agent"),
    issue(STOLEN, "issue-stolen"),
    agent(2),
    call(
        5,
        "s3",
        "GetObject",
        session(STOLEN),
        HOME,
        "[aws-cli/1.18]",
        requestParameters={"bucketName": "config"},
    ),
    call(
        10, "s3", "ListBuckets", session(STOLEN), THIEF, "[aws-cli/2.17.20 md/command#s3.ls]", eventID="list"
    ),
    read(11, 'a "quoted"\nkey.csv', 100.0),
    read(11.1, "large.bin", 8_000_000),
    read(11.2, "large.bin", 5_000_000),
    read(11.3, "secret.csv", 0, error="AccessDenied"),
    call(
        12,
        "sts",
        "AssumeRole",
        session(STOLEN),
        THIEF,
        "aws-cli/2.17.20",
        eventID="chain",
        requestParameters={"roleArn": "arn:aws:iam::111122223333:role/admin", "roleSessionName": "x"},
        responseElements={"credentials": {"accessKeyId": CHAINED}},
    ),
    agent(20),
]


@pytest.fixture
def told(engine_of: Callable[..., Engine], tmp_path: Path) -> Report:
    """The incident of these records, after the replay of the package's rules for stolen credentials."""
    engine = engine_of(RECORDS)
    alerts = AlertStore(open_state(sqlite_url(tmp_path / "state.db")))
    incidents = IncidentStore(alerts)
    rules = [rule for rule in content.rules() if rule.source.startswith("cloudtrail/")]
    sink = incidents.sink(engine, {rule.id: rule for rule in rules}, now=NOW)
    detect(engine, alerts, rules, tables=["AWSCloudTrail"], now=NOW, sink=sink)
    (incident,) = incidents.all()
    return report(engine, incident, incidents.alerts_of(incident), now=NOW)


def test_the_incident_says_what_it_is(told: Report) -> None:
    assert told.incident.severity is Severity.HIGH
    assert told.incident.title == f"Role session {INSTANCE} of web-role used outside its instance"
    assert "T1552.005" in told.incident.techniques


def test_the_timeline_holds_the_thiefs_calls_and_no_other(told: Report) -> None:
    assert {event.address for event in told.timeline} == {THIEF}
    assert [event.name for event in told.timeline] == ["ListBuckets", *["GetObject"] * 4, "AssumeRole"]
    assert told.timeline[0].event_id == "list"
    assert told.timeline[0].client == "aws-cli/2.17.20 md/command#s3.ls"
    assert told.timeline[-1].target == "arn:aws:iam::111122223333:role/admin"


def test_what_to_look_for_elsewhere(told: Report) -> None:
    found = indicators(told)
    assert {each.type for each in found} == {"access key", "address", "client", "session"}
    (address,) = (each for each in found if each.type == "address")
    times = [event.at for event in told.timeline]
    assert (address.value, address.events) == (THIEF, len(times))
    assert (address.first, address.last) == (min(times), max(times))
    assert STOLEN in {each.value for each in found if each.events}
    assert AGENT_KEY not in {each.value for each in found if each.events}


def test_a_service_is_no_address_and_what_an_alert_names_has_no_events(told: Report) -> None:
    by_service = dataclasses.replace(told.timeline[0], address="athena.amazonaws.com", client="")
    bare = dataclasses.replace(told, timeline=(by_service,), entities=(entity(IP, Address="192.0.2.1"),))
    assert [(each.type, each.value, each.events, each.last) for each in indicators(bare)] == [
        ("access key", STOLEN, 1, by_service.at),
        ("address", "192.0.2.1", 0, None),
        ("session", by_service.session, 1, by_service.at),
    ]


@pytest.mark.parametrize(
    ("arn", "kind"),
    [
        ("arn:aws:iam::111122223333:user/mallory", "principal"),
        ("arn:aws:iam::111122223333:user/assumed-role/mallory", "principal"),
        ("arn:aws:iam::111122223333:root", "principal"),
        ("arn:aws:sts::111122223333:federated-user/mallory", "session"),
        ("arn:aws-us-gov:sts::111122223333:assumed-role/web-role/mallory", "session"),
    ],
)
def test_only_who_has_temporary_credentials_is_a_session(told: Report, arn: str, kind: str) -> None:
    by_user = dataclasses.replace(told.timeline[0], session=arn)
    bare = dataclasses.replace(told, timeline=(by_user,), entities=())
    (found,) = (each for each in indicators(bare) if each.value == arn)
    assert found.type == kind


def test_the_manifest_counts_bytes_and_calls(told: Report) -> None:
    lines = {line.key: line for line in told.manifest.lines}
    assert (lines["large.bin"].bytes, lines["large.bin"].reads) == (13_000_000, 2)
    assert lines['a "quoted"\nkey.csv'].bytes == 100
    assert (lines["secret.csv"].reads, lines["secret.csv"].denied) == (0, 1)
    assert (told.manifest.objects, told.manifest.bytes, told.manifest.denied) == (2, 13_000_100, 1)
    assert told.manifest.buckets == ("cardholders",)


def test_the_lineage_names_both_keys_their_issue_and_what_was_got_with_them(told: Report) -> None:
    assert {i.key: i.event_id for i in told.lineage.issues} == {
        AGENT_KEY: "issue-agent",
        STOLEN: "issue-stolen",
        CHAINED: "chain",
    }
    stolen = told.lineage.issue_of(STOLEN)
    assert stolen is not None
    assert (stolen.instance, stolen.role) == (INSTANCE, "web-role")
    assert stolen.expires == "2026-03-02 15:12:00 UTC"
    assert {use.address for use in told.lineage.uses if use.key == STOLEN} == {HOME, THIEF}
    keys = {each.value for each in told.entities if each.type == "AwsAccessKey"}
    assert keys == {AGENT_KEY, STOLEN}


def test_the_story_is_told_in_sentences(told: Report) -> None:
    story = " ".join(told.story)
    assert f"Credentials {STOLEN} of role web-role were issued to instance {INSTANCE} through EC2" in story
    assert f"from {THIEF} with aws-cli/2.17.20" in story
    assert f"The session's own traffic comes from {HOME}" in story
    assert "2 objects, 13,000,100 bytes, left bucket cardholders" in story
    assert "Refused: AccessDenied x1." in story
    assert (
        "To do: revoke the sessions of role web-role. Temporary credentials cannot be deleted."
        in " ".join(told.to_do)
    )
    assert all(sentence.endswith(".") for sentence in told.story)


def test_lineage_goes_up_to_the_first_caller(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(RECORDS)
    found = issues(engine, [CHAINED], start=DAY, end=NOW, now=NOW)
    assert [each.key for each in found] == [STOLEN, CHAINED]


def test_lineage_of_keys_that_nobody_issued(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(RECORDS)
    assert issues(engine, ["AKIAEXAMPLEUSER00001"], start=DAY, end=NOW, now=NOW) == ()
    assert lineage(engine, [], start=DAY, end=NOW, now=NOW).issues == ()
