"""Detection queries with the result columns that Microsoft's parser gives them: columns/*.kql.

A case is `=== number`, the query, then `---` and the columns; `--- refused` where that parser finds an error.
The tables are those of columns/schemas.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk.errors import QueryError
from trailhawk.kql.compiler import compile_query
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import TYPE_NAMES

FOLDER = Path(__file__).parent / "columns"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Tables:
    tables: dict[str, Table]

    def table(self, name: str) -> Table | None:
        return self.tables.get(name)

    def table_names(self) -> tuple[str, ...]:
        return tuple(self.tables)


def tables() -> Tables:
    schemas: dict[str, dict[str, str]] = json.loads((FOLDER / "schemas.json").read_text())
    return Tables(
        {
            name: Table(name, tuple(Column(column, TYPE_NAMES[kind]) for column, kind in columns.items()))
            for name, columns in schemas.items()
        }
    )


def cases() -> list[tuple[str, str, str | None]]:
    """Name, query, and columns (None where the query is refused)."""
    found: list[tuple[str, str, str | None]] = []
    for path in sorted(FOLDER.glob("*.kql")):
        for block in path.read_text().split("=== ")[1:]:
            name, rest = block.split("\n", 1)
            query, expected = rest.split("\n---", 1)
            mark, _, columns = expected.partition("\n")
            refused = mark.strip() == "refused"
            found.append((f"{path.stem} {name}", query, None if refused else columns.strip()))
    return found


TABLES = tables()
CASES = cases()


@pytest.mark.parametrize(("name", "query", "columns"), CASES, ids=[name for name, _, _ in CASES])
def test_columns(name: str, query: str, columns: str | None) -> None:
    if columns is None:
        with pytest.raises(QueryError):
            compile_query(query, TABLES, now=NOW)
        return
    compiled = compile_query(query, TABLES, now=NOW)
    assert ", ".join(f"{column.name}: {column.type.value}" for column in compiled.columns) == columns


def test_there_are_cases() -> None:
    assert len(CASES) > 200
