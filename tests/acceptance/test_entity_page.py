"""What `trailhawk entity` tells of each kind of entity."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trailhawk.cli import run
from trailhawk.engine.result import TimeRange
from trailhawk.errors import UsageError
from trailhawk.incidents.entity import node_of
from trailhawk.workspace import Workspace

DAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
ACCOUNT, INSTANCE, KEY, THIEF = "111122223333", "i-0123456789abcdef0", "ASIAEXAMPLESTOLEN001", "203.0.113.66"
USER = "arn:aws:identitystore:::user/u-1"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/web-role/{INSTANCE}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/apps/web-role"


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        (KEY, "AwsAccessKey", KEY),
        (INSTANCE, "AwsInstance", INSTANCE),
        (ACCOUNT, "AwsAccount", ACCOUNT),
        (SESSION, "AwsSession", SESSION),
        (ROLE, "AwsPrincipal", ROLE),
        (USER, "AwsPrincipal", USER),
        (f"arn:aws:iam::{ACCOUNT}:root", "AwsPrincipal", f"arn:aws:iam::{ACCOUNT}:root"),
        ("arn:aws:s3:::cards", "AwsBucket", "cards"),
        ("arn:aws:s3:::cards/a b.csv", "AwsObject", "cards/a b.csv"),
        (f"arn:aws:ec2:us-east-1:{ACCOUNT}:instance/{INSTANCE}", "AwsInstance", INSTANCE),
        (" 203.0.113.66 ", "IP", THIEF),
        ("2001:DB8::1", "IP", "2001:db8::1"),
        ("cards", "AwsBucket", "cards"),
        ("s3://cards", "AwsBucket", "cards"),
        ("s3://cards/x/y", "AwsObject", "cards/x/y"),
    ],
)
def test_what_a_text_names(text: str, kind: str, name: str) -> None:
    node = node_of(text)
    assert (node.type, node.name) == (kind, name)


@pytest.mark.parametrize("text", ["", "what is", "a", "$(rm)"])
def test_what_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no key, ARN"):
        node_of(text)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    records = [
        {
            "eventVersion": "1.11",
            "eventID": f"event-{place}",
            "eventTime": (DAY + timedelta(minutes=place)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventSource": "s3.amazonaws.com",
            "eventName": name,
            "awsRegion": "us-east-1",
            "recipientAccountId": ACCOUNT,
            "sourceIPAddress": THIEF,
            "userAgent": "[aws-cli/2.17.20 x]",
            "userIdentity": {
                "type": "AssumedRole",
                "principalId": f"AROAEXAMPLE:{INSTANCE}",
                "arn": SESSION,
                "accountId": ACCOUNT,
                "accessKeyId": KEY,
                "sessionContext": {"ec2RoleDelivery": "1.0", "sessionIssuer": {"type": "Role", "arn": ROLE}},
            },
            "requestParameters": {"bucketName": "cards", "key": "a.csv"},
            "additionalEventData": {"bytesTransferredOut": 100},
        }
        | ({"errorCode": "AccessDenied"} if place == 2 else {})
        for place, name in enumerate(["GetObject", "GetObject", "PutObject"])
    ]
    (home / "log.json").write_text(json.dumps({"Records": records}))
    Workspace(home, clock=lambda: DAY + timedelta(days=1)).ingest([home / "log.json"], lambda _: None)
    return home


@pytest.mark.parametrize("text", [KEY, SESSION, ROLE, THIEF, INSTANCE, "cards", "s3://cards/a.csv", ACCOUNT])
def test_each_kind_of_entity_finds_its_calls(text: str, home: Path) -> None:
    workspace = Workspace(home, clock=lambda: DAY + timedelta(days=1))
    page, incidents = workspace.entity(text, within=TimeRange(DAY, DAY + timedelta(days=1)))
    assert page.whole is not None
    assert (page.whole.calls, page.whole.refused) == (3, 1)
    assert [(each.name, each.calls) for each in page.lists["calls"]] == [
        ("s3:GetObject", 2),
        ("s3:PutObject", 1),
    ]
    assert incidents == ()


def test_a_user_of_the_identity_center_finds_what_he_did(tmp_path: Path) -> None:
    behalf = {"userId": "u-1", "identityStoreArn": f"arn:aws:identitystore::{ACCOUNT}:identitystore/d-1"}
    identity = {"type": "IdentityCenterUser", "accountId": ACCOUNT, "onBehalfOf": behalf}
    record = {
        "eventID": "event-1",
        "eventTime": "2026-03-02T09:30:00Z",
        "eventSource": "sso.amazonaws.com",
        "eventName": "Federate",
        "recipientAccountId": ACCOUNT,
        "sourceIPAddress": THIEF,
        "errorCode": "AccessDenied",
        "userIdentity": identity,
    }
    other = {**record, "eventID": "event-2"}
    other["userIdentity"] = {**identity, "onBehalfOf": {**behalf, "userId": "u-2"}}
    (tmp_path / "log.json").write_text(json.dumps({"Records": [record, other]}))
    workspace = Workspace(tmp_path, clock=lambda: DAY + timedelta(days=1))
    workspace.ingest([tmp_path / "log.json"], lambda _: None)
    day = TimeRange(DAY, DAY + timedelta(days=1))
    page, _ = workspace.entity(USER, within=day)
    assert [(each.name, each.calls) for each in page.lists["calls"]] == [("sso:Federate", 1)]
    related = {each.expansion.id: [node.id for node in each.nodes] for each in page.expanded}
    assert related["principal-addresses"] == [f"IP:{THIEF}"]
    assert related["principal-denied"] == ["AwsApi:sso:Federate"]
    page, _ = workspace.entity(THIEF, within=day)
    users = [USER, USER.replace("u-1", "u-2")]
    assert [each.name for each in page.lists["by"]] == users
    related = {each.expansion.id: [node.id for node in each.nodes] for each in page.expanded}
    assert related["address-principals"] == [f"AwsPrincipal:{each}" for each in users]


@pytest.mark.parametrize("kind", ["Unknown", "IdentityCenterUser"])
def test_a_call_counts_once_of_whatever_kind_its_principal_is(kind: str, tmp_path: Path) -> None:
    user = f"arn:aws:iam::{ACCOUNT}:user/u"
    record = {
        "eventID": "event-1",
        "eventTime": "2026-03-02T09:30:00Z",
        "eventSource": "sso.amazonaws.com",
        "eventName": "Federate",
        "recipientAccountId": ACCOUNT,
        "sourceIPAddress": THIEF,
        "errorCode": "AccessDenied",
        "userIdentity": {"type": kind, "arn": user, "accountId": ACCOUNT},
    }
    (tmp_path / "log.json").write_text(json.dumps({"Records": [record]}))
    workspace = Workspace(tmp_path, clock=lambda: DAY + timedelta(days=1))
    workspace.ingest([tmp_path / "log.json"], lambda _: None)
    page, _ = workspace.entity(user, within=TimeRange(DAY, DAY + timedelta(days=1)))
    related = {each.expansion.id: [edge.count for edge in each.edges] for each in page.expanded}
    assert (related["principal-addresses"], related["principal-denied"]) == ([1], [1])


def test_an_entity_that_nobody_saw(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--home", str(home), "entity", "198.51.100.99"]) == 0
    shown = capsys.readouterr()
    assert "no call of CloudTrail is about it" in shown.out
    assert shown.err.startswith("looked at the rows since 2026-01-31")


def test_the_page_as_data(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    span = "2026-03-02/2026-03-03"
    assert run(["--home", str(home), "entity", "cards", "--timespan", span, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["type"], data["calls"]["calls"]) == ("AwsBucket", 3)
    readers = next(each for each in data["related"] if each["question"] == "bucket-readers")
    assert [(each["target"], each["bytes"]) for each in readers["found"]] == [(f"AwsPrincipal:{ROLE}", 200)]


def test_old_logs_are_looked_at_up_to_their_newest_row(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--home", str(home), "entity", KEY, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["calls"]["calls"] == 3


def test_the_page_for_people(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--home", str(home), "entity", KEY, "--timespan", "2026-03-02/2026-03-03"]) == 0
    shown = capsys.readouterr().out
    assert "3 calls, 1 refused, 2026-03-02 09:00 to 2026-03-02 09:02" in shown
    assert "First and last use, by address (1)" in shown
