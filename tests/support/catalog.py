"""Catalogs for queries that read no lake."""

from __future__ import annotations

from trailhawk.engine.reading import Files
from trailhawk.kql.schema import Table


class NoTables:
    """A catalog without tables, for queries that bring their rows."""

    def table(self, name: str) -> Table | None:
        return None

    def table_names(self) -> tuple[str, ...]:
        return ()

    def snapshot(self, name: str) -> Files:
        raise KeyError(name)
