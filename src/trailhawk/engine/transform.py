"""Runs ingest transforms: rows on their way into a table, through a plan of filters and projections."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trailhawk.kql.lower import column_name
from trailhawk.kql.schema import Table
from trailhawk.kql.transform import CLOCK, ROW, SOURCE, Transform, transform

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.engine.duckdb import DuckDBEngine


@dataclass(frozen=True)
class Transformed:
    """For each row in whether it stays, and the rows that stay, in order, with the columns that are left."""

    kept: NDArray[np.bool_]
    rows: pa.Table


class RowTransform:
    """A transform of a table, for many batches of rows; safe to use from several threads.

    QueryError where the text is none, and from a call where the engine refuses a row's value.
    """

    def __init__(
        self, text: str, table: Table, engine: DuckDBEngine, *, clock: Callable[[], datetime]
    ) -> None:
        self.text = text
        self.table = table
        self._clock = clock
        self._engine = engine
        made = transform(text, table, now=clock())
        self.reads_clock = made.reads_clock
        """Whether the same row may become another at another time."""
        self._made: Transform | None = None if made.reads_clock else made

    def at(self, moment: datetime) -> RowTransform:
        """The same transform as it was at a moment, compiled once."""
        found = copy.copy(self)
        found._made = self._made or transform(self.text, self.table, now=moment)
        return found

    def by_row(self) -> Callable[[pa.Table, pa.ChunkedArray], Transformed]:
        """The same transform with a moment for each row, as a column of times.

        QueryError where a function wants a constant of what depends on now().
        """
        made = transform(self.text, self.table, now=None)

        def run(rows: pa.Table, moments: pa.ChunkedArray) -> Transformed:
            return self._run(made, rows.append_column(CLOCK, moments))

        return run

    def __call__(self, rows: pa.Table) -> Transformed:
        """Transform rows that have the table's stored columns."""
        # With now() in it compiled for each batch: it is the moment of the ingest.
        return self._run(self._made or transform(self.text, self.table, now=self._clock()), rows)

    def _run(self, made: Transform, rows: pa.Table) -> Transformed:
        import pyarrow as pa

        count = rows.num_rows
        placed = rows.append_column(ROW, pa.array(np.arange(count, dtype=np.int64)))
        result = self._engine.holding({SOURCE: placed}).rows(made.plan)
        places = result[column_name(made.row.id)].to_numpy()
        if len(places) > 1 and (places[1:] < places[:-1]).any():
            order = np.argsort(places, kind="stable")
            result, places = result.take(pa.array(order)), places[order]
        kept = np.zeros(count, bool)
        kept[places] = True
        columns = [result[column_name(column.id)] for column in made.columns]
        return Transformed(kept, pa.table(columns, names=[column.name for column in made.columns]))
