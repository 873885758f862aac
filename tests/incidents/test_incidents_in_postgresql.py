"""Incidents in PostgreSQL: the same as in SQLite, hostile texts too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from support.postgresql import INSTALLED, running
from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import entity
from trailhawk.detect.rule import Grouping, Matching, Rule, RuleKind, Severity
from trailhawk.detect.store import open_state
from trailhawk.incidents.incident import Classification, Closing, Incident
from trailhawk.incidents.store import Wanted

pytest.importorskip("psycopg")
if not INSTALLED:
    pytest.skip("PostgreSQL is not installed", allow_module_level=True)

Raised = Callable[..., Alert]
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
ANY = Rule(
    id="s",
    name="s",
    query="T",
    kind=RuleKind.SCHEDULED,
    severity=Severity.LOW,
    grouping=Grouping(Matching.ANY_ALERT, timedelta(hours=5)),
)


@pytest.fixture(scope="module")
def database() -> Iterator[sa.Engine]:
    with running() as server:
        engine = open_state(server.address)
        yield engine
        engine.dispose()


def work(desk: Any, raised: Raised) -> tuple[tuple[Incident, ...], list[Any]]:
    """Some of everything; how the incidents stand, and what the log tells."""
    store = desk.incidents

    def key(number: int) -> Any:
        return entity("AwsAccessKey", Id=f"ASIA{number}")

    hostile = entity("Url", Address="https://x/\0" + "é" * 5_000)
    desk.raise_(raised("a", key(1), hostile), raised("b", key(2), severity=Severity.HIGH))
    desk.raise_(raised("h4", minutes=240, rule="s"), raised("h8", minutes=480, rule="s"), rule=ANY)
    desk.raise_(raised("h0", rule="s"), rule=ANY)
    desk.raise_(raised("c", key(1), key(2), hostile, minutes=3))
    store.set(1, by="ana", now=NOW, owner="ana", add_labels=["x"], title="It's \u202e '%s'")
    store.comment(1, "one", by="ana", now=NOW)
    store.add_task(1, "look", by="ana", now=NOW)
    store.split(1, ["b"], by="ana", now=NOW)
    store.close(3, Closing.of(Classification.TRUE_POSITIVE), by="ana", now=NOW)
    store.merge(1, [4], by="bo", now=NOW)
    seen: list[int] = []
    store.consume("reader", lambda connection, change: seen.append(change.sequence))
    told = [
        [change.number, change.kind, change.by, change.at, change.alerts_added, change.others]
        for change in store.changes_since(0)
    ]
    assert seen == [change.sequence for change in store.changes_since(0)]
    address = hostile.value
    found = [
        [incident.number for incident in store.found(wanted)]
        for wanted in (
            Wanted(entity="ASIA2"),
            Wanted(entity=address),
            Wanted(label="X"),
            Wanted(text="IT'S"),
            Wanted(owner="ana"),
        )
    ]
    similar = [[each.incident.number, each.reasons] for each in store.similar(1)]
    return store.all(), [told, found, similar, store.classifications(), store.precisions()]


def test_the_same_as_in_sqlite(database: sa.Engine, new_desk: Any, raised: Raised) -> None:
    from_sqlite = work(new_desk(), raised)
    from_postgresql = work(type(new_desk())(database), raised)
    assert from_postgresql == from_sqlite
    assert len(from_sqlite[0]) >= 2
