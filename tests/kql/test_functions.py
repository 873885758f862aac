"""Every example in the documentation of a KQL function gives what it says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.result import Result
from trailhawk.kql.functions import AGGREGATES, WINDOWS
from trailhawk.kql.functions.reference import Example, documented, examples, pages
from trailhawk.kql.literals import format_datetime, format_timespan
from trailhawk.kql.schema import Table
from trailhawk.kql.types import KqlType

PAGES = Path(__file__).parents[2] / "docs" / "functions"
NOW = datetime(2024, 5, 17, 12, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NoTables:
    """A catalog without tables: the examples need none."""

    def table(self, name: str) -> Table | None:
        return None

    def table_names(self) -> tuple[str, ...]:
        return ()

    def snapshot(self, name: str) -> None:
        raise KeyError(name)


@pytest.fixture(scope="module")
def engine() -> DuckDBEngine:
    return DuckDBEngine(NoTables())


def shown(result: Result) -> str:
    """The one value of a result as Kusto writes it."""
    value, type_ = result.table.column(0)[0].as_py(), result.columns[0].type
    if value is None:
        return "null"
    if type_ is KqlType.DATETIME:
        return format_datetime(int((value.replace(tzinfo=UTC) - _EPOCH).total_seconds() * 10_000_000))
    if type_ is KqlType.TIMESPAN:
        return format_timespan(value)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if type_ is KqlType.DYNAMIC and value.startswith('"'):
        return str(json.loads(value))
    return str(value)


EXAMPLES = [
    pytest.param(example, id=f"{name}-{place}")
    for name, found in examples()
    for place, example in enumerate(found)
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(engine: DuckDBEngine, example: Example) -> None:
    assert shown(engine.query(f"print x = {example.text}", now=NOW)) == example.result


def test_every_scalar_function_has_an_example() -> None:
    without = [function.name for function in documented() if not function.examples]
    assert set(without) <= {*AGGREGATES, *WINDOWS}


def test_every_function_has_a_page() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    assert written == pages(), "stale: run `python -m trailhawk.kql.functions.reference docs/functions`"
