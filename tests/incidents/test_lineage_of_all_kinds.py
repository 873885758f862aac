"""Credentials as AWS really hands them out: across accounts, through services, as long-term keys, late."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import Entity, entity
from trailhawk.engine.result import Engine
from trailhawk.incidents.grouping import are_joined, linked
from trailhawk.incidents.incident import assemble
from trailhawk.incidents.lineage import issues, lineage
from trailhawk.incidents.report import report

Json = dict[str, Any]
Raised = Callable[..., Alert]
EngineOf = Callable[..., Engine]

START = datetime(2026, 3, 1, 11, 30, tzinfo=UTC)
NOW = START + timedelta(hours=2)
HOME, OTHER = "111122223333", "444455556666"
FIRST, SECOND, THIRD = "ASIAEXAMPLE000000001", "ASIAEXAMPLE000000002", "ASIAEXAMPLE000000003"
LONG = "AKIAEXAMPLE000000009"
SESSION = f"arn:aws:sts::{HOME}:assumed-role/one/one"
IDENTITY: Json = {
    "type": "AssumedRole",
    "principalId": "AROAEXAMPLE000000001:one",
    "arn": SESSION,
    "accountId": HOME,
    "accessKeyId": FIRST,
}


def record(minute: float, service: str, name: str, identity: Json, **more: Any) -> Json:
    return {
        "eventTime": (START + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": f"{service}.amazonaws.com",
        "eventName": name,
        "sourceIPAddress": "192.0.2.1",
        "userAgent": "aws-cli/2",
        "recipientAccountId": HOME,
        "userIdentity": identity,
    } | more


def assumed(minute: float, key: str, identity: Json, *, account: str = HOME, **more: Any) -> Json:
    return record(
        minute,
        "sts",
        "AssumeRole",
        identity,
        recipientAccountId=account,
        requestParameters={"roleArn": f"arn:aws:iam::{OTHER}:role/two", "roleSessionName": "two"},
        responseElements={"credentials": {"accessKeyId": key, "expiration": "Mar 1, 2026 1:00:00 PM"}},
        **more,
    )


def key(name: str) -> Entity:
    return entity("AwsAccessKey", Id=name)


def chained(engine: Engine, raised: Raised, one: Entity, key_id: str) -> bool:
    """Whether an alert about one thing and one about a key are joined by what the logs say of the key."""
    found = issues(engine, [key_id], start=START, end=NOW, now=NOW)
    return are_joined(linked(raised("a", one), None, ()), linked(raised("b", key(key_id)), None, found))


@pytest.mark.parametrize("ids", [("a", "b"), ("b", "a")])
def test_a_role_of_another_account_is_told_twice_and_is_one(
    engine_of: EngineOf, raised: Raised, ids: tuple[str, str]
) -> None:
    """Both accounts log it; the role's account does not know the caller's key."""
    foreign = {"type": "AWSAccount", "principalId": IDENTITY["principalId"], "accountId": HOME}
    engine = engine_of(
        [
            assumed(1, SECOND, IDENTITY, eventID=ids[0], sharedEventID="shared"),
            assumed(1, SECOND, foreign, account=OTHER, eventID=ids[1], sharedEventID="shared"),
        ]
    )
    (found,) = lineage(engine, [SECOND], start=START, end=NOW, now=NOW).issues
    assert found.caller_key == FIRST
    assert chained(engine, raised, key(FIRST), SECOND)
    rows = engine.query(f'CredentialLineage("{SECOND}")', now=NOW).rows()
    assert [(row["Step"], row["From"]) for row in rows] == [(0, FIRST)]


def test_the_caller_of_another_account_is_known_by_its_id(engine_of: EngineOf, raised: Raised) -> None:
    foreign = {"type": "AWSAccount", "principalId": IDENTITY["principalId"], "accountId": HOME}
    engine = engine_of([assumed(1, SECOND, foreign, account=OTHER)])
    session = entity("AwsSession", Id=IDENTITY["principalId"], Arn=SESSION)
    assert chained(engine, raised, session, SECOND)


def test_who_asks_through_a_service_has_asked(engine_of: EngineOf, raised: Raised) -> None:
    """Switching roles in the console, and what a service does for a user, name a service and the user."""
    engine = engine_of([assumed(1, SECOND, IDENTITY | {"invokedBy": "signin.amazonaws.com"})])
    assert chained(engine, raised, key(FIRST), SECOND)


def test_a_long_term_key_made_with_a_stolen_one_belongs_to_it(engine_of: EngineOf, raised: Raised) -> None:
    made = record(
        1,
        "iam",
        "CreateAccessKey",
        IDENTITY,
        requestParameters={"userName": "backdoor"},
        responseElements={"accessKey": {"accessKeyId": LONG, "userName": "backdoor", "status": "Active"}},
    )
    engine = engine_of([made])
    assert chained(engine, raised, key(FIRST), LONG)
    (found,) = lineage(engine, [FIRST], start=START, end=NOW, now=NOW).issues
    assert (found.key, found.api, found.user) == (LONG, "CreateAccessKey", "backdoor")


def test_a_chain_within_a_second_is_told_from_its_beginning(engine_of: EngineOf) -> None:
    second = IDENTITY | {"accessKeyId": SECOND}
    engine = engine_of([assumed(1, SECOND, IDENTITY, eventID="b"), assumed(1, THIRD, second, eventID="a")])
    found = lineage(engine, [THIRD], start=START, end=NOW, now=NOW).issues
    assert [each.key for each in found] == [SECOND, THIRD]


def test_root_sessions_of_member_accounts(engine_of: EngineOf, raised: Raised) -> None:
    root = record(
        1,
        "sts",
        "AssumeRoot",
        IDENTITY,
        requestParameters={"targetPrincipal": OTHER},
        responseElements={"credentials": {"accessKeyId": SECOND}},
    )
    assert chained(engine_of([root]), raised, key(FIRST), SECOND)


def test_a_service_that_acts_for_somebody_is_no_second_place(engine_of: EngineOf, raised: Raised) -> None:
    def listed(minute: float, **more: Any) -> Json:
        return record(minute, "s3", "ListBuckets", more.pop("identity", IDENTITY), **more)

    through = {"invokedBy": "cloudformation.amazonaws.com"}
    engine = engine_of(
        [
            assumed(0, FIRST, {"type": "AWSService", "invokedBy": "ecs-tasks.amazonaws.com"}),
            listed(1, eventID="listed"),
            listed(2, identity=IDENTITY | through, sourceIPAddress="cloudformation.amazonaws.com"),
            listed(3),
        ]
    )
    rows = engine.query(f'CredentialLineage("{FIRST}")', now=NOW).rows()
    assert [row["IsInTwoPlaces"] for row in rows] == [False]
    one = raised("one", details=(("EventIds", ("listed",)),))
    story = " ".join(report(engine, assemble(1, [one]), [one], now=NOW).story)
    assert "own traffic" not in story
    assert "The service cloudformation.amazonaws.com made 1 call for the session" in story


def test_sessions_without_a_role_are_not_one_session(engine_of: EngineOf, raised: Raised) -> None:
    """GetSessionToken names neither a role nor a session."""

    def token(name: str, of: str) -> list[Json]:
        user = {"type": "IAMUser", "arn": f"arn:aws:iam::{HOME}:user/{name}", "principalId": f"AIDA{name}"}
        return [
            record(0, "sts", "GetSessionToken", user, responseElements={"credentials": {"accessKeyId": of}}),
            record(1, "s3", "ListBuckets", user | {"accessKeyId": of}, eventID=name),
            record(
                2, "s3", "ListBuckets", user | {"accessKeyId": of}, sourceIPAddress=f"198.51.100.{len(name)}"
            ),
        ]

    engine = engine_of([*token("eve", SECOND), *token("carol", THIRD)])
    one = raised("one", details=(("EventIds", ("eve", "carol")),))
    told = [
        line
        for line in report(engine, assemble(1, [one]), [one], now=NOW).story
        if "own traffic comes from 198.51.100.3" in line
    ]
    assert [THIRD in line for line in told] == [False]


def test_the_first_of_a_chain_may_come_last(desk: Any, raised: Raised, engine_of: EngineOf) -> None:
    """That a key was got with another is known; who got that one comes later."""

    def known(engine: Engine, *alerts: Alert) -> None:
        write = desk.incidents.sink(engine, {}, now=NOW)(alerts)
        with desk.alerts.engine.begin() as connection:
            desk.alerts.record(connection, [], alerts)
            write(connection)

    second = IDENTITY | {"accessKeyId": SECOND, "arn": f"arn:aws:sts::{HOME}:assumed-role/b/b"}
    known(engine_of([assumed(5, THIRD, second)]), raised("a", key(FIRST)), raised("c", key(THIRD)))
    assert desk.together() == {frozenset("a"), frozenset("c")}
    engine = engine_of([assumed(4, SECOND, IDENTITY)])
    desk.incidents.relink(engine, {}, since=NOW - timedelta(hours=6), now=NOW)
    assert desk.together() == {frozenset("ac")}
    assert desk.incidents.relink(engine, {}, since=NOW - timedelta(hours=6), now=NOW) == ()
