"""Queries with the rows they must give: golden/*.kql, run on the engine.

A case is `=== name`, the query, then `---` and the columns as `name: type, ...` and each row as a JSON array
(datetime and timespan as tostring() writes them, NaN and infinities as text). `--- any order` compares rows
without order; `--- error` is followed by the message as it is rendered.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.result import Result
from trailhawk.errors import QueryError
from trailhawk.kql.literals import format_datetime, format_timespan
from trailhawk.kql.types import KqlType

FOLDER = Path(__file__).parent / "golden"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    name: str
    query: str
    mark: str
    expected: str


def cases() -> list[Case]:
    found = []
    for path in sorted(FOLDER.glob("*.kql")):
        for block in path.read_text().split("=== ")[1:]:
            name, rest = block.split("\n", 1)
            query, expected = rest.split("\n---", 1)
            mark, _, body = expected.partition("\n")
            found.append(Case(f"{path.stem}: {name.strip()}", query.strip(), mark.strip(), body.strip("\n")))
    return found


CASES = cases()


@pytest.fixture(scope="module")
def engine() -> DuckDBEngine:
    return DuckDBEngine(NoTables())


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_golden(case: Case, engine: DuckDBEngine) -> None:
    if case.mark == "error":
        with pytest.raises(QueryError) as caught:
            engine.query(case.query, now=NOW)
        assert caught.value.render(case.query).rstrip() == case.expected.rstrip()
        return
    result = engine.query(case.query, now=NOW)
    columns, *rows = case.expected.splitlines()
    found = ", ".join(f"{column.name}: {column.type.value}" for column in result.columns)
    assert found == columns
    shown = [json.dumps(row, ensure_ascii=False, sort_keys=True) for row in shown_rows(result)]
    wanted = [json.dumps(json.loads(row), ensure_ascii=False, sort_keys=True) for row in rows]
    if case.mark == "any order":
        shown, wanted = sorted(shown), sorted(wanted)
    assert shown == wanted


def shown_rows(result: Result) -> list[list[object]]:
    """Rows as JSON values, times as KQL writes them."""
    columns = [
        [shown(value, column.type) for value in result.table.column(place).to_pylist()]
        for place, column in enumerate(result.columns)
    ]
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[]] * result.table.num_rows


def shown(value: object, kind: KqlType) -> object:
    match value:
        case datetime():
            micros = (value.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution)
            return format_datetime(micros * 10)
        case int() if kind is KqlType.TIMESPAN:
            return format_timespan(value)
        case str() if kind is KqlType.DYNAMIC:
            return json.loads(value)
        case float() if not math.isfinite(value):
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)


def test_there_are_cases() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 100
