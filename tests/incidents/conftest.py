"""What tests of incidents share: alerts made by hand, and a state database of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.alerts import alert
from trailhawk.detect.alert import Alert
from trailhawk.detect.rule import Rule
from trailhawk.detect.store import AlertStore, open_state, sqlite_url
from trailhawk.incidents.grouping import linked
from trailhawk.incidents.lineage import Issue
from trailhawk.incidents.store import IncidentStore


class Desk:
    """An incident store and a way to raise alerts into it, as `detect` does."""

    def __init__(self, engine: sa.Engine) -> None:
        self.alerts = AlertStore(engine)
        self.incidents = IncidentStore(self.alerts)

    def raise_(self, *raised: Alert, rule: Rule | None = None, issues: Iterable[Issue] = ()) -> None:
        """All of them in one transaction."""
        issues = list(issues)
        with self.alerts.engine.begin() as connection:
            self.alerts.record(connection, [], self.alerts.new_alerts(connection, raised))
            self.incidents.add(connection, raised, [linked(each, rule, issues) for each in raised])

    def together(self) -> set[frozenset[str]]:
        """The alerts of each incident."""
        return {frozenset(incident.alert_ids) for incident in self.incidents.all()}


@pytest.fixture
def raised() -> Callable[..., Alert]:
    """Makes an alert; see `alert`."""
    return alert


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    engine = open_state(sqlite_url(tmp_path / "state.db"))
    yield Desk(engine)
    engine.dispose()


@pytest.fixture
def new_desk() -> Iterator[Callable[[], Desk]]:
    """Makes a desk over an empty database in memory; one at a time."""
    engines: list[sa.Engine] = []

    def make() -> Desk:
        for engine in engines:
            engine.dispose()
        engines[:] = [open_state("sqlite://")]
        return Desk(engines[0])

    yield make
    for engine in engines:
        engine.dispose()
