"""Ingest filters: the transform of each table, in the state database, with every version there was.

Nothing is overwritten: applying and removing are versions, so that it is known which filter dropped a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from trailhawk.connectors.objects import Transform, TransformResult
from trailhawk.detect.store import Moment, make_tables, metadata, reading
from trailhawk.engine.transform import RowTransform
from trailhawk.errors import NotFoundError
from trailhawk.kql.schema import Table

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.engine.duckdb import DuckDBEngine

_filters = sa.Table(
    "filters",
    metadata,
    sa.Column("table_name", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("note", sa.String, nullable=False),
)


@dataclass(frozen=True, slots=True)
class FilterVersion:
    """One version of a table's filter: who set it and when; an empty `text` for its removal."""

    table: str
    version: int
    at: datetime
    by: str
    text: str
    note: str


class FilterStore:
    """The filters in the state database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        make_tables(engine, [_filters])

    def apply(self, table: str, text: str, *, by: str, now: datetime, note: str = "") -> FilterVersion:
        """Make this text the filter of the table. It must have been checked."""
        return self._add(table, text, by=by, now=now, note=note)

    def remove(self, table: str, *, by: str, now: datetime) -> FilterVersion:
        """Take the filter of the table out of use; NotFoundError where it has none."""
        if self.current(table) is None:
            raise NotFoundError(f"{table} has no filter", hint="see `trailhawk filter list`")
        return self._add(table, "", by=by, now=now, note="")

    def current(self, table: str) -> FilterVersion | None:
        """The filter of a table now."""
        versions = self.versions(table)
        return versions[-1] if versions and versions[-1].text else None

    def versions(self, table: str = "") -> Sequence[FilterVersion]:
        """All versions, of one table or of all; by table, oldest first."""
        query = sa.select(_filters).order_by(_filters.c.table_name, _filters.c.version)
        if table:
            query = query.where(_filters.c.table_name == table)
        with reading(self._engine) as connection:
            return [FilterVersion(*row) for row in connection.execute(query).all()]

    def _add(self, table: str, text: str, *, by: str, now: datetime, note: str) -> FilterVersion:
        with self._engine.begin() as connection:
            last = connection.scalar(
                sa.select(sa.func.max(_filters.c.version)).where(_filters.c.table_name == table)
            )
            made = FilterVersion(table, (last or 0) + 1, now, by, text, note)
            connection.execute(
                sa.insert(_filters).values(
                    table_name=table, version=made.version, at=now, by=by, text=text, note=note
                )
            )
        return made


class Transforms(Mapping[str, "Transform"]):
    """The filters as the ingest takes them: by table, always at their newest version.

    `store` is asked at every batch, so that a process which runs for months follows `filter apply`; it gives
    None where there is no state database yet. A `lasting` one therefore has a transform for every table,
    the others only for those with a filter now.
    """

    def __init__(
        self,
        store: Callable[[], FilterStore | None],
        engine: Callable[[], DuckDBEngine],
        table: Callable[[str], Table | None],
        *,
        clock: Callable[[], datetime],
        lasting: bool = False,
    ) -> None:
        self._store = store
        self._engine = engine
        self._table = table
        self._clock = clock
        self._lasting = lasting
        self._made: dict[tuple[str, int], RowTransform] = {}
        self._then: dict[tuple[str, int, datetime | None], Transform] = {}

    def __getitem__(self, name: str) -> Transform:
        table = self._table(name)
        if table is None or not (self._lasting or self._current(name)):
            raise KeyError(name)
        return partial(self._run, table)

    def at(self, name: str, moment: datetime) -> Transform | None:
        """The filter of a table as it was in force at a moment, None where it had none; of one that asks for
        the time as it was in that minute."""
        store, table = self._store(), self._table(name)
        versions = [each for each in store.versions(name) if each.at <= moment] if store else []
        if table is None or not versions or not versions[-1].text:
            return None
        made = self._made_for(table, versions[-1])
        minute = moment.replace(second=0, microsecond=0) if made.reads_clock else None
        key = (name, versions[-1].version, minute)
        if key not in self._then:
            self._then[key] = partial(result, made.at(minute) if minute else made)
        return self._then[key]

    def __iter__(self) -> Iterator[str]:
        store = self._store()
        return iter(dict.fromkeys(version.table for version in store.versions()) if store else ())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _current(self, name: str) -> FilterVersion | None:
        store = self._store()
        return store.current(name) if store else None

    def _run(self, table: Table, rows: pa.Table) -> TransformResult:
        current = self._current(table.name)
        if current is None:
            return TransformResult(np.ones(rows.num_rows, bool), rows)
        return result(self._made_for(table, current), rows)

    def _made_for(self, table: Table, version: FilterVersion) -> RowTransform:
        key = (version.table, version.version)
        if key not in self._made:
            self._made[key] = RowTransform(version.text, table, self._engine(), clock=self._clock)
        return self._made[key]


def result(transform: RowTransform, rows: pa.Table) -> TransformResult:
    """What a transform makes of rows, in the ingest's terms."""
    made = transform(rows)
    return TransformResult(made.kept, made.rows)
