"""Text to optimized plan: parse, bind, optimize."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from trailhawk.errors import BindingError, LimitError, QueryError
from trailhawk.kql import syntax
from trailhawk.kql.binder import Binder
from trailhawk.kql.functions import FUNCTIONS
from trailhawk.kql.functions.registry import NeedsConstantError
from trailhawk.kql.lower import lower
from trailhawk.kql.operators.external import ReadExternal, refuse
from trailhawk.kql.parser import parse, problems
from trailhawk.kql.passes import optimize
from trailhawk.kql.placeholders import fill
from trailhawk.kql.plan import NOW, Call, Chart, Const, Frame, Node, OutColumn
from trailhawk.kql.rows import narrowed
from trailhawk.kql.scalars import ticks_of
from trailhawk.kql.schema import Catalog
from trailhawk.kql.stored import Functions
from trailhawk.kql.types import TICKS_PER_SECOND, KqlType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    name: str = ""
    """What the query calls this result, '' where it does not say."""
    explained: Callable[[QueryError], QueryError] = lambda error: error
    """An error of the plan, whose place may be one in a stored function, as one of the query's own text."""


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
    picked: tuple[datetime | None, datetime | None] | None = None,
    ingested: bool = False,
    replayed: bool = False,
) -> Compiled:
    """The plan of a query. `now` is what now() means; [start, end) clips every table by its time column, or
    by ingestion time where `ingested`. Where `replayed`, ingestion_time() is the event's time.

    `picked` is what {{StartTimeISO}} and {{EndTimeISO}} mean, [start, end) unless given.

    `functions` are the stored functions it may call. `probe` runs a plan, for operators whose columns follow
    from the data. `parameters` are values for `declare query_parameters`, bound as constants and never read
    as KQL; `external` reads the files of externaldata. Raises QueryError with the place in the text.
    """
    clip = (_moment(start), _moment(end))
    stored = functions if functions is not None else Functions()
    first, last = picked or (start, end)
    filled = fill(text, now=now, start=first, end=last)
    try:
        query = _parsed(filled.text)
    except QueryError as error:
        raise filled.explained(error) from None

    def explained(error: QueryError) -> QueryError:
        return filled.explained(stored.explained(error, query))

    try:
        binder = Binder(
            catalog,
            ticks_of(now),
            stored,
            clip=clip,
            probe=probe,
            parameters=parameters,
            external=external,
            ingested=ingested,
            replayed=replayed,
        )
        bound = binder.query(query)
    except QueryError as error:
        raise explained(error) from None
    except RecursionError:
        raise _too_deep() from None
    try:
        plans = (bound.plan, *bound.others)
        if binder.has_wide_rows and not binder.has_looked:  # else the rows are to be those that were seen
            plans = narrowed(plans)
        others = tuple(
            Compiled(optimize(plan), plan.columns, None, (), name, explained)
            for plan, name in zip(plans[1:], bound.names[1:], strict=True)
        )
        plan = optimize(plans[0])
        return Compiled(plan, bound.plan.columns, bound.chart, others, bound.names[0], explained)
    except RecursionError:
        raise _too_deep() from None


def compile_for_any_moment(
    text: str,
    catalog: Catalog,
    *,
    period: timedelta,
    functions: Functions | None = None,
    replayed: bool = False,
) -> Node:
    """The optimized plan of a query with NOW in the place of now(); [NOW - period, NOW) clips every table.

    So a condition shows whether it depends on the moment. QueryError, too, where something wants a constant
    of what depends on now(), or where the text has placeholders for a time range.
    """
    if fill(text, now=_EPOCH, start=None, end=None).text != text:
        raise BindingError("the query has a time range written in, it is another for each moment")
    minus = FUNCTIONS["-"].resolve((KqlType.DATETIME, KqlType.TIMESPAN), (False, False))
    assert minus is not None
    length = Const(KqlType.TIMESPAN, period // timedelta(microseconds=1) * TICKS_PER_SECOND // 1_000_000)
    start = Call(KqlType.DATETIME, minus, (NOW, length))
    stored = functions if functions is not None else Functions()
    try:
        binder = Binder(catalog, NOW, stored, clip=(start, NOW), replayed=replayed)
        return optimize(binder.query(_parsed(text)).plan)
    except RecursionError:
        raise _too_deep() from None


def _moment(moment: datetime | None) -> Const | None:
    return None if moment is None else Const(KqlType.DATETIME, ticks_of(moment))


@dataclass(frozen=True)
class Checked:
    """What is wrong with a query, in the order of its text, or else what its results look like."""

    errors: tuple[QueryError, ...]
    results: tuple[tuple[str, tuple[OutColumn, ...]], ...] = ()
    """The name ('' where there is none) and the columns of each result, of the last statement first."""


def check(
    text: str,
    catalog: Catalog,
    *,
    now: datetime,
    functions: Functions | None = None,
    probe: Callable[[Node], Frame] | None = None,
    parameters: Mapping[str, object] | None = None,
) -> Checked:
    """All errors of a query that can be told at once, and its result columns where there is none.

    After an error reading goes on at the next operator, and binding where the columns are still known.
    Nothing is run but what `probe` is asked for.
    """
    filled = fill(text, now=now, start=None, end=None)
    wrong = problems(filled.text)
    stored = functions if functions is not None else Functions()
    found: list[QueryError] = []
    query = None
    try:
        if not wrong:
            query = _parsed(filled.text)
            binder = Binder(catalog, ticks_of(now), stored, probe=probe, parameters=parameters, found=found)
            bound = binder.query(query)
            if not found and binder.scalars.is_wanting:
                found += _still_wanting((bound.plan, *bound.others))
            if not found:
                plans = zip(bound.names, (bound.plan, *bound.others), strict=True)
                return Checked((), tuple((name, plan.columns) for name, plan in plans))
    except QueryError as error:
        found.append(error)
    except RecursionError:
        found.append(_too_deep())
    if query is not None:
        found = [stored.explained(error, query) for error in found]
    # A sub-query that is used twice is bound twice, and has its errors twice.
    told = {(error.span, error.message): filled.explained(error) for error in (*wrong, *found)}
    return Checked(
        tuple(sorted(told.values(), key=lambda error: -1 if error.span is None else error.span.start))
    )


def _still_wanting(plans: Sequence[Node]) -> list[QueryError]:
    """What is told of the first call that wants a constant still where the plans are lowered."""
    for plan in plans:
        try:
            lower(optimize(plan), lambda scan: "", lambda node, inputs: "")
        except NeedsConstantError as error:
            return [error]
    return []


def _too_deep() -> LimitError:
    return LimitError("the query nests too deep", hint="split it with let statements")
