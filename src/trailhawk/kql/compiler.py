"""Text to optimized plan: parse, bind, optimize."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from trailhawk.errors import LimitError, QueryError
from trailhawk.kql import syntax
from trailhawk.kql.binder import Binder
from trailhawk.kql.operators.external import ReadExternal, refuse
from trailhawk.kql.parser import parse
from trailhawk.kql.passes import optimize
from trailhawk.kql.placeholders import fill
from trailhawk.kql.plan import Chart, Frame, Node, OutColumn
from trailhawk.kql.scalars import ticks_of
from trailhawk.kql.schema import Catalog
from trailhawk.kql.stored import Functions


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
    others: tuple[Compiled, ...] = ()
    """The query's other results: of earlier statements, and of fork and facet after their first."""


def compile_query(
    text: str,
    catalog: Catalog,
    *,
    now: datetime,
    start: datetime | None = None,
    end: datetime | None = None,
    functions: Functions | None = None,
    probe: Callable[[Node], Frame] | None = None,
    parameters: Mapping[str, object] | None = None,
    external: ReadExternal = refuse,
) -> Compiled:
    """The plan of a query. `now` is what now() means; [start, end) clips every table by its time column.

    `functions` are the stored functions it may call. `probe` runs a plan, for operators whose columns follow
    from the data. `parameters` are values for `declare query_parameters`, bound as constants and never read
    as KQL; `external` reads the files of externaldata. Raises QueryError with the place in the text.
    """
    clip = (None if start is None else ticks_of(start), None if end is None else ticks_of(end))
    stored = functions if functions is not None else Functions()
    filled = fill(text, now=now, start=start, end=end)
    try:
        query = _parsed(filled.text)
    except QueryError as error:
        raise filled.explained(error) from None
    try:
        binder = Binder(
            catalog,
            ticks_of(now),
            stored,
            clip=clip,
            probe=probe,
            parameters=parameters,
            external=external,
        )
        bound = binder.query(query)
    except QueryError as error:
        raise filled.explained(stored.explained(error, query)) from None
    except RecursionError:
        raise _too_deep() from None
    try:
        others = tuple(Compiled(optimize(plan), plan.columns, None) for plan in bound.others)
        return Compiled(optimize(bound.plan), bound.plan.columns, bound.chart, others)
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> LimitError:
    return LimitError("the query nests too deep", hint="split it with let statements")
