"""What the compiler knows of a table: columns, promoted JSON paths, computed constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trailhawk.kql.types import KqlType

HIDDEN_PREFIX = "_th_"
INGESTION_TIME = "_th_ingestion_time"
LOG_OBJECT = "_th_object"

WATCHLIST_ALIASES = "_GetWatchlistAlias"
"""The table of the watchlists' aliases, under the name of the function that gives it."""


def watchlist_table(alias: str) -> str:
    """The name under which a catalog holds a watchlist; its table() may raise NotFoundError with a hint."""
    return f"{HIDDEN_PREFIX}watchlist_{alias.encode().hex()}"


Path = tuple[str | int, ...]
"""Steps into a JSON value: names of members and places in arrays."""


def json_path(steps: Path) -> str:
    """Steps as DuckDB writes them: a path, or a JSON pointer where a name cannot stand in a path."""
    # In quotes too, DuckDB takes * for every member, and no name at all for a fault.
    if any(step in ("", "*") for step in steps):
        return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f'."{_escaped(step)}"' for step in steps)


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')


@dataclass(frozen=True, slots=True)
class Column:
    """A named, typed column."""

    name: str
    type: KqlType
    description: str = ""


@dataclass(frozen=True, slots=True)
class Promoted:
    """A path of a JSON text column that is also stored as a text column of its own.

    The hidden column holds what `tostring(parse_json(column).path)` gives, NULL where the path is absent.
    """

    column: str
    path: Path

    @property
    def hidden(self) -> str:
        return HIDDEN_PREFIX + "_".join([self.column, *map(str, self.path)])


@dataclass(frozen=True)
class Table:
    """A table as queries see it.

    `columns` is the logical order that getschema shows. `constants` are columns that are not stored but
    computed at the scan. `statistics` are the stored columns that get minimum and maximum in each file.
    """

    name: str
    columns: tuple[Column, ...]
    description: str = ""
    time_column: str = "TimeGenerated"
    promoted: tuple[Promoted, ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    statistics: tuple[str, ...] = ()

    def column(self, name: str) -> Column | None:
        """The column of this very name (names are case-sensitive)."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def stored(self) -> tuple[Column, ...]:
        """The columns that stand in the files, without the computed and the hidden ones."""
        return tuple(column for column in self.columns if column.name not in self.constants)


class Catalog(Protocol):
    """Where the binder finds tables."""

    def table(self, name: str) -> Table | None: ...

    def table_names(self) -> tuple[str, ...]: ...
