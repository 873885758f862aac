"""What is told of where keys came from when the logs for it cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import Entity, entity
from trailhawk.detect.rule import Grouping, Matching, Rule, RuleKind, Severity
from trailhawk.engine.result import Engine
from trailhawk.errors import LakeError
from trailhawk.incidents.incident import MAX_COMMENTS

Raised = Callable[..., Alert]
NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)


class Damaged:
    """Holds logs that cannot be read, and says so in other words each time."""

    def __init__(self) -> None:
        self.asked = 0

    def query(self, *_: object, **__: object) -> None:
        self.asked += 1
        raise LakeError(f"file {self.asked} is damaged")


@pytest.fixture
def raise_(desk: Any) -> Callable[..., None]:
    """Raises alerts as `detect` does."""
    engine = cast("Engine", Damaged())

    def raise_(*alerts: Alert, rules: Mapping[str, Rule] | None = None) -> None:
        write = desk.incidents.sink(engine, rules or {}, now=NOW)(alerts)
        with desk.alerts.engine.begin() as connection:
            desk.alerts.record(connection, [], alerts)
            write(connection)

    return raise_


def key(name: str) -> Entity:
    return entity("AwsAccessKey", Id=name)


def comments(desk: Any) -> dict[tuple[str, ...], int]:
    """How many comments the incident of some alerts has."""
    return {incident.alert_ids: len(incident.comments) for incident in desk.incidents.all()}


def test_only_where_a_key_would_have_been_looked_up(desk: Any, raised: Raised, raise_: Any) -> None:
    own = Grouping(Matching.ANY_ALERT, timedelta(hours=5))
    rule = Rule("own", "own", query="T", kind=RuleKind.SCHEDULED, severity=Severity.LOW, grouping=own)
    first, second = "ASIAEXAMPLE000000001", "ASIAEXAMPLE000000002"
    raise_(
        raised("a", key(first)),
        raised("b"),
        raised("c", key(second), rule="own"),
        rules={"own": rule},
    )
    assert comments(desk) == {("a",): 1, ("b",): 0, ("c",): 0}


def test_once_in_whatever_words_the_error_comes(desk: Any, raised: Raised, raise_: Any) -> None:
    for name in "ab":
        raise_(raised(name, key("ASIAEXAMPLE000000001")))
    assert comments(desk) == {("a", "b"): 1}


def test_the_last_comment_is_left_to_people(desk: Any, raised: Raised, raise_: Any) -> None:
    named = key("ASIAEXAMPLE000000001")
    desk.raise_(raised("a", named))
    for place in range(MAX_COMMENTS - 1):
        desk.incidents.comment(1, f"comment {place}", by="me", now=NOW)
    raise_(raised("b", named))
    assert comments(desk) == {("a", "b"): MAX_COMMENTS - 1}
    desk.incidents.comment(1, "the last", by="me", now=NOW)
