"""A home's lake and state as the engine sees them: tables, and rows that are not in the lake yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from trailhawk.kql.schema import WATCHLIST_ALIASES, watchlist_table

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.engine.reading import Files
    from trailhawk.kql.plan import Need
    from trailhawk.kql.schema import Table
    from trailhawk.lake.table import DataFile, Found
    from trailhawk.workspace.home import Workspace

_WATCHLIST = watchlist_table("")


class Tables:
    """The lake as the engine sees it, made when a query first names a table: `print 1` needs none.

    Watchlists stand in it under names of their own, see `watchlist_table`.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def table(self, name: str) -> Table | None:
        if name == WATCHLIST_ALIASES:
            from trailhawk.detect.watchlists import ALIASES

            return ALIASES
        if name.startswith(_WATCHLIST):
            return self._workspace.watchlists.table(name)
        return self._workspace.lake.table(name)

    def table_names(self) -> tuple[str, ...]:
        return self._workspace.lake.table_names()

    def snapshot(self, name: str) -> Files:
        return _NoFiles() if _is_watchlist(name) else self._workspace.lake.snapshot(name)


class _NoFiles:
    """The files of what is not in the lake."""

    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[DataFile, ...]:
        return ()

    def look(self, files: Sequence[DataFile], need: Need) -> Found:
        from trailhawk.lake.table import Found

        return Found(())


class Relations(Mapping[str, "Callable[[Files], pa.Table]"]):
    """What the state database holds and this state of the lake does not hold yet, as rows; and watchlists."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._known: dict[str, Callable[[Files], pa.Table]] = {
            "SecurityAlert": self._alerts,
            "SecurityIncident": self._incidents,
            "Watchlist": self._watchlists,
            "HuntingBookmark": self._bookmarks,
        }

    def __getitem__(self, name: str) -> Callable[[Files], pa.Table]:
        if _is_watchlist(name):
            return lambda _: self._workspace.watchlists.rows(name)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._known, WATCHLIST_ALIASES))

    def __len__(self) -> int:
        return len(self._known) + 1

    def _alerts(self, snapshot: Files) -> pa.Table:
        from trailhawk.detect.security_alert import alert_rows

        pending = self._workspace.alerts.pending(_exported(snapshot), limit=None)
        return alert_rows(alert for _, alert in pending)

    def _incidents(self, snapshot: Files) -> pa.Table:
        from trailhawk.incidents.export import pending_rows

        return pending_rows(self._workspace.incidents, _exported(snapshot))

    def _watchlists(self, snapshot: Files) -> pa.Table:
        from trailhawk.detect.watchlist_table import watchlist_rows

        return watchlist_rows(self._workspace.watchlists.pending(_exported(snapshot), limit=None))

    def _bookmarks(self, snapshot: Files) -> pa.Table:
        from trailhawk.detect.bookmark_table import bookmark_rows

        return bookmark_rows(self._workspace.bookmarks.pending(_exported(snapshot), limit=None))


def _exported(snapshot: Files) -> int:
    """Up to which row of the state database the lake has its rows."""
    from trailhawk.lake.catalog import Snapshot

    return snapshot.exported if isinstance(snapshot, Snapshot) else 0


def _is_watchlist(name: str) -> bool:
    return name == WATCHLIST_ALIASES or name.startswith(_WATCHLIST)
