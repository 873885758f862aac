"""Many queries over one engine: a JSON object in, a JSON object out, a line each.

In: `{id, query, tables?, parameters?}`; `tables` names tables with their columns (`{"T": "(a: long, b:
string)"}`), which are empty for that query; `parameters` are values for what the query declares. Out: `{id,
columns: [{name, type}], rows: [[...]], error}`, and where the query gives several results `others`, a list of
`{name, columns, rows}`. Values are JSON's own; datetime is ISO text, timespan [-][d.]hh:mm:ss[.fffffff], NaN
and infinities are text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from trailhawk.engine.result import as_json
from trailhawk.errors import QueryError, TrailhawkError, UsageError
from trailhawk.kql import syntax
from trailhawk.kql.literals import format_timespan
from trailhawk.kql.parser import parse
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.engine.reading import Files, Tables
    from trailhawk.engine.result import Result
    from trailhawk.kql.plan import Need
    from trailhawk.lake.table import DataFile, Found


def run_batch(lines: Iterable[str], engine: DuckDBEngine, *, now: datetime) -> Iterator[str]:
    """The answer to each line, in order; a query that fails says so in its own answer."""
    for line in lines:
        if line.strip():
            yield json.dumps(_answer(line, engine, now), ensure_ascii=False, allow_nan=False)


def _answer(line: str, engine: DuckDBEngine, now: datetime) -> dict[str, object]:
    identity: object = None
    query = ""
    try:
        asked = _asked(line)
        identity, query = asked.get("id"), str(asked["query"])
        tables = asked.get("tables")
        over = engine.over(_Overlay(engine.tables, _tables(tables))) if tables else engine
        parameters = asked.get("parameters")
        if parameters is not None and not isinstance(parameters, dict):
            raise UsageError("parameters is an object of names and values")
        result = over.query(query, now=now, parameters=parameters)
    except QueryError as error:
        return _failed(identity, error.render(query))
    except TrailhawkError as error:
        return _failed(identity, f"{error.kind}: {error}")
    except Exception as error:  # One query that trips the engine must not cost the rest their answers.
        return _failed(identity, f"internal error: {type(error).__name__}: {error}")
    answer: dict[str, object] = {"id": identity, **_json_table(result), "error": None}
    if result.others:
        answer["others"] = [{"name": other.name, **_json_table(other)} for other in result.others]
    return answer


def _json_table(result: Result) -> dict[str, object]:
    columns = [{"name": column.name, "type": column.type.value} for column in result.columns]
    return {"columns": columns, "rows": json_rows(result)}


def _failed(identity: object, message: str) -> dict[str, object]:
    return {"id": identity, "columns": [], "rows": [], "error": message}


def _asked(line: str) -> dict[str, object]:
    try:
        line.encode()
        asked = json.loads(line)
    except UnicodeEncodeError:
        raise UsageError("a line is not UTF-8 text") from None
    except ValueError:
        raise UsageError("a line is not JSON") from None
    if not isinstance(asked, dict) or not isinstance(asked.get("query"), str):
        raise UsageError("a line is an object with id and query")
    return asked


def json_rows(result: Result) -> list[list[object]]:
    """Rows as JSON values."""
    columns = [
        [_json_value(value, column.type) for value in result.table.column(place).to_pylist()]
        for place, column in enumerate(result.columns)
    ]
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[]] * result.table.num_rows


def _json_value(value: object, kind: KqlType) -> object:
    match value:
        case datetime():
            return value.isoformat(timespec="microseconds") + "Z"
        case int() if kind is KqlType.TIMESPAN:
            return format_timespan(value)
        case str() if kind is KqlType.DYNAMIC:
            return as_json(value, real=lambda text: _real(float(text)))
        case float():
            return _real(value)
        case None | bool() | int() | str():
            return value
        case _:
            return float(str(value)) if kind is KqlType.DECIMAL else str(value)


def _real(value: float) -> float | str:
    """A real as JSON has it: NaN and infinities, as of `1e400` too, are text."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# --- tables of one query -----------------------------------------------------------------------------------


def _tables(given: object) -> dict[str, Table]:
    if not isinstance(given, Mapping):
        raise UsageError("tables is an object of names and columns")
    return {str(name): _table(str(name), str(columns)) for name, columns in given.items()}


def _table(name: str, columns: str) -> Table:
    """An empty table from `(a: long, b: string)`."""
    statement = parse(f"datatable{columns}[]").statements[0]
    value = statement.value if isinstance(statement, syntax.ExpressionStatement) else None
    if isinstance(value, syntax.Pipe) and not value.operators:
        value = value.source
    if not isinstance(value, syntax.DataTable):
        raise UsageError(f"the columns of '{name}' read (name: type, ...)")
    return Table(name, tuple(Column(column.name, column.type) for column in value.columns))


@dataclass(frozen=True)
class _Overlay:
    """Tables that stand beside (or in place of) those of a lake, without rows."""

    below: Tables
    own: Mapping[str, Table]

    def table(self, name: str) -> Table | None:
        return self.own.get(name) or self.below.table(name)

    def table_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.own, *self.below.table_names())))

    def snapshot(self, name: str) -> Files:
        return _NoFiles() if name in self.own else self.below.snapshot(name)


class _NoFiles:
    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[DataFile, ...]:
        return ()

    def look(self, files: Sequence[DataFile], need: Need) -> Found:
        from trailhawk.lake.table import Found

        return Found(())
