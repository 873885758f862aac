"""A call that issued a key comes into the lake after the alert about the key: it joins what it would have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import Entity, entity
from trailhawk.incidents.change import ChangeKind

if TYPE_CHECKING:
    from trailhawk.engine.result import Engine

EngineOf = Callable[[Iterable[Mapping[str, object]]], "Engine"]
Raised = Callable[..., Alert]
NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)


def issue(time: str, key: str, by_key: str) -> dict[str, object]:
    """CloudTrail's record of a key that was asked for with another one."""
    return {
        "eventTime": f"2026-03-01T{time}Z",
        "eventSource": "sts.amazonaws.com",
        "eventName": "AssumeRole",
        "sourceIPAddress": "192.0.2.1",
        "recipientAccountId": "111122223333",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": "AROAEXAMPLE000000001:one",
            "arn": "arn:aws:sts::111122223333:assumed-role/one/one",
            "accessKeyId": by_key,
        },
        "requestParameters": {"roleArn": "arn:aws:iam::111122223333:role/two", "roleSessionName": "two"},
        "responseElements": {"credentials": {"accessKeyId": key, "expiration": "Mar 1, 2026 1:00:00 PM"}},
    }


def key(name: str) -> Entity:
    return entity("AwsAccessKey", Id=name)


def raise_(desk: Any, engine: Engine, *alerts: Alert) -> None:
    """As `detect` does."""
    write = desk.incidents.sink(engine, {}, now=NOW)(alerts)
    with desk.alerts.engine.begin() as connection:
        desk.alerts.record(connection, [], alerts)
        write(connection)


def test_what_came_late_joins(desk: Any, raised: Raised, engine_of: EngineOf) -> None:
    first, second, third = "ASIAEXAMPLE000000001", "ASIAEXAMPLE000000002", "ASIAEXAMPLE000000003"
    engine = engine_of([issue("11:00:00", second, first)])
    raise_(desk, engine, raised("a", key(first)), raised("b", key(second)), raised("c", key(third)))
    assert desk.together() == {frozenset("ab"), frozenset("c")}
    since = NOW - timedelta(hours=6)
    assert desk.incidents.relink(engine, {}, since=since, now=NOW) == ()
    engine = engine_of([issue("11:20:00", third, second)])
    merged, away = desk.incidents.relink(engine, {}, since=since, now=NOW)
    assert (merged.kind, away.kind) == (ChangeKind.MERGED, ChangeKind.MERGED_AWAY)
    assert desk.together() == {frozenset("abc")}
    assert desk.incidents.relink(engine, {}, since=since, now=NOW) == ()
