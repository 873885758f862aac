"""What a query gives, and what runs one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from trailhawk.kql.plan import Chart
from trailhawk.kql.schema import Column
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Event times in [start, end), or ingestion times where `ingested`; None is open.

    Where `replayed`, a row came when its event happened: that is what ingestion_time() gives.
    """

    start: datetime | None = None
    end: datetime | None = None
    ingested: bool = False
    replayed: bool = False


@dataclass(frozen=True)
class Result:
    """Columns by KQL name and type, and their values as Arrow in the same order.

    In the table datetime is timestamp[us] UTC without zone, timespan int64 ticks, dynamic JSON text.
    """

    columns: tuple[Column, ...]
    table: pa.Table
    chart: Chart | None = None
    others: tuple[Result, ...] = ()
    """What the query gives beside: results of earlier statements, of fork and facet after their first."""
    name: str = ""
    """What the query calls it: a branch of fork, a column of facet, a table by `as`; '' where it does not."""
    read: frozenset[str] = frozenset()
    """The tables of the lake that its rows rest on."""

    def all(self) -> tuple[Result, ...]:
        """This result and the others."""
        return (self, *self.others)

    def tuples(self) -> list[tuple[object, ...]]:
        """Rows of Python values: aware datetimes, timedeltas, dynamic as what its JSON says."""
        values = [
            [None if value is None else convert(value) for value in self.table.column(place).to_pylist()]
            for place, convert in enumerate(_CONVERT.get(column.type, _same) for column in self.columns)
        ]
        return list(zip(*values, strict=True)) if values else [()] * int(self.table.num_rows)

    def rows(self) -> list[dict[str, object]]:
        """Rows by column name; of two columns of one name the first is kept."""
        places = {column.name: place for place, column in reversed(list(enumerate(self.columns)))}
        order = sorted(places.items(), key=lambda item: item[1])
        return [{name: row[place] for name, place in order} for row in self.tuples()]


class Engine(Protocol):
    """Runs KQL over the lake."""

    def query(
        self,
        text: str,
        *,
        now: datetime,
        window: TimeRange | None = None,
        parameters: Mapping[str, object] | None = None,
        picked: TimeRange | None = None,
    ) -> Result:
        """The rows of a query; raises QueryError. `window` clips every table, `now` is what now() means.

        `picked` is what {{StartTimeISO}} and {{EndTimeISO}} mean, `window` unless given.
        `parameters` are values for what the query declares by `declare query_parameters`.
        """
        ...


def _same(value: Any) -> object:
    return value


def _aware(value: datetime) -> object:
    return value.replace(tzinfo=UTC)


def _timedelta(ticks: int) -> object:
    return timedelta(microseconds=ticks // 10)


_DEEPEST = 200
"""Levels of lists and objects in a value: what walks through one (a page, JSON, an alert) goes no deeper."""
_BESIDE = re.compile(r'"(?:[^"\\]++|\\.)*+"|[^"\[\]{}]++', re.DOTALL)


def as_json(text: str, *, real: Callable[[str], object] | None = None) -> object:
    """What the text of a dynamic value says.

    The text itself where it is nested too deep, as only hostile text is, or where only the engine takes it
    for JSON (`[1,]`).

    `real` gives what stands for a number with a point or an exponent, for NaN and for the infinities.
    """
    if text.count("[") + text.count("{") > _DEEPEST:
        brackets = _BESIDE.sub("", text)
        if max(accumulate(1 if each in "[{" else -1 for each in brackets), default=0) > _DEEPEST:
            return text
    try:
        value: object = json.loads(text, parse_float=real, parse_constant=real)
    except ValueError:
        return text
    return value


_CONVERT: dict[KqlType, Callable[[Any], object]] = {
    KqlType.DATETIME: _aware,
    KqlType.TIMESPAN: _timedelta,
    KqlType.DYNAMIC: as_json,
}
