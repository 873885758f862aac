"""Blast radius and manifest count what the accused did, and of nobody else, whatever the logs hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import Entity, entity
from trailhawk.engine.result import Engine
from trailhawk.incidents.blast import blast
from trailhawk.incidents.incident import assemble
from trailhawk.incidents.literal import fill, strings
from trailhawk.incidents.manifest import Callers, manifest
from trailhawk.incidents.report import Report, report
from trailhawk.incidents.scope import Scope

Json = dict[str, object]
Raised = Callable[..., Alert]
EngineOf = Callable[..., Engine]

START = datetime(2026, 3, 1, 11, 30, tzinfo=UTC)
NOW = START + timedelta(hours=2)
OFFICE = "198.51.100.7"
USER = "arn:aws:iam::111122223333:user"


def sign_in(minute: int, user: str) -> Json:
    """A sign-in to the console, which names no access key."""
    return {
        "eventTime": (START + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventID": f"sign-in-{user}",
        "eventSource": "signin.amazonaws.com",
        "eventName": "ConsoleLogin",
        "sourceIPAddress": OFFICE,
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64)",
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "principalId": f"AIDA{user}", "arn": f"{USER}/{user}"},
        "responseElements": {"ConsoleLogin": "Success"},
    }


def told(engine: Engine, raised: Raised, *named: Entity, ids: tuple[str, ...]) -> Report:
    one = raised("one", *named, details=(("EventIds", ids),))
    return report(engine, assemble(1, [one]), [one], now=NOW)


def test_who_signs_in_beside_the_accused_is_not_accused(engine_of: EngineOf, raised: Raised) -> None:
    engine = engine_of([sign_in(5, "eve"), sign_in(6, "bob"), sign_in(7, "carol")])
    found = blast(engine, told(engine, raised, ids=("sign-in-eve",)), now=NOW)
    assert [(each.name, each.calls) for each in found.calls] == [("signin:ConsoleLogin", 1)]
    assert {each.name for each in found.others} == {f"{USER}/bob", f"{USER}/carol"}


def test_what_others_are_able_to_do_is_not_told_of_an_unnamed_principal(
    engine_of: EngineOf, raised: Raised
) -> None:
    session = "arn:aws:sts::111122223333:assumed-role/web/one"
    thief: Json = {
        **sign_in(5, "x"),
        "eventID": "list",
        "eventSource": "s3.amazonaws.com",
        "eventName": "ListBuckets",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": "AROA1:one",
            "arn": session,
            "accessKeyId": "ASIAEXAMPLE000000001",
        },
    }
    engine = engine_of([thief, sign_in(6, "bob")])
    found = blast(engine, told(engine, raised, entity("AwsSession", Arn=session), ids=("list",)), now=NOW)
    assert found.able == ()


@pytest.mark.parametrize("hostile", ["{addresses}", "{known}", "{addresses}) | take 0 //"])
def test_a_name_that_looks_like_a_place_of_the_query_stays_a_name(engine_of: EngineOf, hostile: str) -> None:
    engine = engine_of([sign_in(5, "eve")])
    scope = Scope("false", START, NOW)
    callers = Callers((hostile,), (OFFICE,), ("bucket",))
    assert manifest(engine, scope, callers, now=NOW).lines == ()


def test_places_are_filled_once() -> None:
    assert fill("{a} {b} {c}", a="{b}", b="2") == "{b} 2 {c}"
    assert strings([]) == "(dynamic([]))"
