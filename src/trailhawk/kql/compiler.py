"""Text to optimized plan: parse, bind, optimize."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from trailhawk.kql import syntax
from trailhawk.kql.binder import Binder
from trailhawk.kql.parser import parse
from trailhawk.kql.passes import optimize
from trailhawk.kql.plan import Chart, Frame, Node, OutColumn
from trailhawk.kql.scalars import ticks_of
from trailhawk.kql.schema import Catalog


@lru_cache(maxsize=256)
def _parsed(text: str) -> syntax.Query:
    """The syntax tree of a text; a rule is compiled again for each of its windows."""
    return parse(text)


@dataclass(frozen=True)
class Compiled:
    """A query ready to be lowered: `columns` are its result, by name and type."""

    plan: Node
    columns: tuple[OutColumn, ...]
    chart: Chart | None


def compile_query(
    text: str,
    catalog: Catalog,
    *,
    now: datetime,
    start: datetime | None = None,
    end: datetime | None = None,
    functions: Mapping[str, syntax.Function] | None = None,
    probe: Callable[[Node], Frame] | None = None,
) -> Compiled:
    """The plan of a query. `now` is what now() means; [start, end) clips every table by its time column.

    `probe` runs a plan, for operators whose columns follow from the data.
    Raises QueryError with the place in the text.
    """
    clip = (None if start is None else ticks_of(start), None if end is None else ticks_of(end))
    bound = Binder(catalog, ticks_of(now), functions or {}, clip=clip, probe=probe).query(_parsed(text))
    return Compiled(optimize(bound.plan), bound.plan.columns, bound.chart)
