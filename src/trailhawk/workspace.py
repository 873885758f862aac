"""Wiring: one home folder's lake, engine, state and clock, each made when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from trailhawk.errors import LakeError

# The heavy rooms are imported where they are first used: a command loads only what it needs.
if TYPE_CHECKING:
    from trailhawk.connectors.ingest import Progress as IngestProgress
    from trailhawk.connectors.ingest import Summary as IngestSummary
    from trailhawk.connectors.quarantine import Quarantined
    from trailhawk.detect.rule import Rule
    from trailhawk.detect.store import AlertStore
    from trailhawk.incidents.store import IncidentStore
    from trailhawk.lake import Lake

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class TableState:
    """What a table holds now. `first` and `last` are event times, None for an empty table."""

    name: str
    rows: int
    first: datetime | None
    last: datetime | None
    files: int
    bytes: int
    description: str


class Workspace:
    """All that one home folder holds, and what can be done with it."""

    def __init__(self, home: Path, *, clock: Clock = utc_now) -> None:
        self.home = home
        self.clock = clock

    @classmethod
    def open(cls, home: Path, *, clock: Clock = utc_now) -> Workspace:
        """The workspace of this folder, which is made if it does not exist. LakeError where it cannot be."""
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LakeError(f"cannot use {home} as home: {error.strerror}", hint="see --home") from None
        return cls(home.absolute(), clock=clock)

    # What it is made of

    @cached_property
    def lake(self) -> Lake:
        from trailhawk.connectors.ledger import LEDGER
        from trailhawk.connectors.quarantine import QUARANTINE
        from trailhawk.lake import Lake
        from trailhawk.sources import TABLES

        return Lake(self.home / "lake", [*TABLES, LEDGER, QUARANTINE])

    @cached_property
    def alerts(self) -> AlertStore:
        from trailhawk.detect.store import AlertStore, open_state, sqlite_url

        return AlertStore(open_state(sqlite_url(self.home / "state.db")))

    @cached_property
    def incidents(self) -> IncidentStore:
        from trailhawk.incidents.store import IncidentStore

        return IncidentStore(self.alerts)

    # What it does

    def ingest(self, paths: Iterable[Path], progress: Callable[[IngestProgress], None]) -> IngestSummary:
        """Take log files into the lake."""
        from trailhawk.connectors.ingest import ingest

        return ingest(self.lake, paths, clock=self.clock, progress=progress)

    def rules(self, folders: Iterable[Path] = ()) -> tuple[Rule, ...]:
        """The rules of the package and of these folders."""
        from trailhawk.detect.content import rules

        return rules(folders)

    def quarantine(self) -> list[Quarantined]:
        """Everything in quarantine, oldest first."""
        from trailhawk.connectors.quarantine import quarantined

        return quarantined(self.lake)

    def tables(self) -> list[TableState]:
        """What each table of the lake holds."""
        return [self._table_state(name) for name in self.lake.table_names()]

    def _table_state(self, name: str) -> TableState:
        snapshot = self.lake.snapshot(name)
        files = snapshot.files()
        return TableState(
            name=name,
            rows=sum(file.rows for file in files),
            first=min((file.first for file in files if file.first), default=None),
            last=max((file.last for file in files if file.last), default=None),
            files=len(files),
            bytes=sum(file.size for file in files),
            description=snapshot.table.description,
        )
