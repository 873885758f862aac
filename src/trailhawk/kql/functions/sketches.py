"""Sketches and weighted percentiles. A sketch stands for a group's values and can be stored and merged.

Here hll() keeps hashes, and is exact up to 16384 different values; tdigest() keeps values with weights, and
is exact up to 2048 of them. What another engine has stored in these formats is not read.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Annotated

from sqlglot import exp

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.aggregates import json_elements, nearest_rank, no_text_null, share
from trailhawk.kql.functions.python import Float, Json, Value, Whole, python
from trailhawk.kql.functions.registry import (
    AnyArg,
    Arg,
    Arithmetic,
    Bool,
    Dynamic,
    Long,
    NeedsConstantError,
    Number,
    Real,
    RealArg,
    Sql,
    TextArg,
    aggregate,
    scalar,
)
from trailhawk.kql.literals import datetime_ticks, format_datetime, format_timespan, timespan_ticks
from trailhawk.kql.types import KqlType

HASHES = 1 << 14
_VALUES = 1 << 11
SPACE = 1 << 63
_KINDS = {KqlType.DATETIME: 1, KqlType.TIMESPAN: 2}
"""The first number of a digest: what its values are, 0 for plain numbers."""
Percents = Annotated[Arg, frozenset({KqlType.INT, KqlType.LONG, KqlType.REAL, KqlType.DYNAMIC})]
DigestArg = Annotated[
    Arg,
    frozenset({KqlType.INT, KqlType.LONG, KqlType.REAL, KqlType.DECIMAL, KqlType.DATETIME, KqlType.TIMESPAN}),
]


def _gathered(value: Sql, test: Sql) -> Sql:
    return exp.Filter(this=exp.Anonymous(this="list", expressions=[value]), expression=exp.Where(this=test))


def _known(value: Sql) -> Sql:
    return sql.negate(sql.is_null(value.copy()))


# --- distinct values ---------------------------------------------------------------------------------------


def _smallest(hashes: Sql) -> Sql:
    """The sketch: the smallest of the different hashes, which say how many there are in all."""
    return sql.array(
        sql.call("list_slice", sql.call("list_sort", sql.call("list_distinct", hashes)), 1, HASHES)
    )


def _hashed(value: Arg, test: Sql | None) -> Sql:
    # 63 bits, so that it is a long in any reader.
    number = sql.binary(
        exp.BitwiseRightShift,
        sql.call("md5_number_lower", sql.cast(value.sql, KqlType.STRING)),
        sql.literal(1),
    )
    known = _known(value.sql) if test is None else sql.all_of(_known(value.sql), test)
    found = _gathered(sql.cast(number, KqlType.LONG), known)
    return sql.case((sql.is_null(found), sql.null(KqlType.DYNAMIC)), otherwise=_smallest(found.copy()))


@aggregate()
def hll(value: TextArg, accuracy: Long | None = None) -> Dynamic:
    """A sketch of the group's different values, for dcount_hll() and hll_merge()."""
    return _hashed(value, None)


@aggregate()
def hll_if(value: TextArg, predicate: Bool, accuracy: Long | None = None) -> Dynamic:
    """A sketch of the different values of the rows for which the predicate is true."""
    return _hashed(value, predicate)


def _longs(sketch: Sql) -> Sql:
    return exp.TryCast(this=sketch, to=exp.DataType.build("BIGINT[]", dialect="duckdb"))


@aggregate("hll_merge")
def hll_merge_all(sketch: Dynamic) -> Dynamic:
    """One sketch of all that the group's sketches stand for."""
    lists = _gathered(_longs(sketch), _known(sketch))
    return _smallest(sql.coalesce(sql.call("flatten", lists), exp.Array()))


@scalar("hll_merge", name_after="=hll_merged_result")
def hll_merge(*sketches: Dynamic) -> Dynamic:
    """One sketch of all that these sketches stand for."""
    lists = exp.Array(expressions=[sql.coalesce(_longs(sketch), exp.Array()) for sketch in sketches])
    return _smallest(sql.call("flatten", lists))


@python(name_after="dcount_hll")
def dcount_hll(sketch: Json) -> Whole | None:
    """How many different values a sketch stands for.

    >>> dcount_hll(hll_merge(dynamic([1, 2]), dynamic([2, 3])))
    3
    """
    if not isinstance(sketch, list):
        return None
    hashes = [item for item in sketch if isinstance(item, int)]
    if len(hashes) < HASHES:
        return len(hashes)
    return round((len(hashes) - 1) * SPACE / max(hashes))


# --- digests -----------------------------------------------------------------------------------------------


def _digest_number(value: Arg) -> Sql:
    """The value as a number: times in ticks."""
    if value.type is KqlType.DATETIME:
        return sql.binary(exp.Mul, sql.epoch_us(value.sql), sql.literal(10))
    return sql.cast(value.sql, KqlType.REAL) if value.type is KqlType.DECIMAL else value.sql


def _squeezed(kind: int, pairs: list[tuple[float, float]]) -> list[object]:
    """A digest of pairs of value and weight: equal values become one, then neighbours up to the bound."""
    merged: dict[float, float] = {}
    for value, weight in sorted(pairs):
        merged[value] = merged.get(value, 0) + weight
    kept = list(merged.items())
    if len(kept) > _VALUES:
        share = sum(weight for _, weight in kept) / _VALUES
        groups: list[list[tuple[float, float]]] = []
        for (value, weight), before in zip(kept, accumulate((w for _, w in kept), initial=0.0), strict=False):
            place = int(before / share)
            if groups and place < len(groups):
                groups[-1].append((value, weight))
            else:
                groups.append([(value, weight)])
        # The ends stay as they are, so that percentiles 0 and 100 are exact.
        groups = [[kept[0]], *groups, [kept[-1]]]
        groups[1], groups[-2] = groups[1][1:], groups[-2][:-1]
        kept = [_middle(group) for group in groups if group]
    return [[kind], [value for value, _ in kept], [weight for _, weight in kept]]


def _middle(group: list[tuple[float, float]]) -> tuple[float, float]:
    total = sum(weight for _, weight in group)
    if len(group) == 1:
        return group[0]
    return sum(value * weight for value, weight in group) / total, total


def _parts(digest: object) -> tuple[int, list[float], list[float]] | None:
    """Kind, values and weights; None of what is no digest with a value."""
    if not isinstance(digest, list) or len(digest) != 3 or not all(isinstance(part, list) for part in digest):
        return None
    kind, values, weights = digest
    numbers = all(isinstance(item, int | float) for item in (*kind, *values, *weights))
    if not numbers or len(kind) != 1 or len(values) != len(weights) or not values:
        return None
    return int(kind[0]), values, weights


@python("tdigest_of", internal=True)
def tdigest_of(kind: Whole, values: Json, weights: Json) -> Json | None:
    """A digest of values with their weights; null of none."""
    if not isinstance(values, list) or not isinstance(weights, list) or not values:
        return None
    given = zip(values, weights, strict=True)
    return _squeezed(kind, [(value, weight) for value, weight in given if weight > 0])


@python("tdigest_joined", internal=True)
def tdigest_joined(digests: Json) -> Json:
    """One digest of several."""
    found = [part for digest in digests if (part := _parts(digest))] if isinstance(digests, list) else []
    pairs = [pair for _, values, weights in found for pair in zip(values, weights, strict=True)]
    return _squeezed(found[0][0] if found else 0, pairs)


@aggregate()
def tdigest(value: DigestArg, weight: Number | None = None) -> Dynamic:
    """A sketch of how the group's values are spread, for percentile_tdigest() and the like."""
    counted = sql.literal(1) if weight is None else weight
    number = _digest_number(value)
    both = sql.all_of(_known(value.sql), _known(counted))
    kind = sql.literal(_KINDS.get(value.type, 0))
    lists = [
        sql.array(sql.coalesce(_gathered(part, both.copy()), exp.Array()))
        for part in (number, counted.copy())
    ]
    return tdigest_of.overloads[0].build(kind, *lists)


def _merged(digests: Sql) -> Sql:
    return tdigest_joined.overloads[0].build(sql.array(digests))


@aggregate("tdigest_merge", aliases=("merge_tdigest", "merge_tdigests"), prefix="merge_tdigests")
def tdigest_merge_all(digest: Dynamic) -> Dynamic:
    """One digest of all that the group's digests stand for."""
    return _merged(sql.coalesce(_gathered(digest, _known(digest)), exp.Array()))


@scalar("tdigest_merge", aliases=("merge_tdigest", "merge_tdigests"), name_after="=tdigests_merge_result")
def tdigest_merge(*digests: Dynamic) -> Dynamic:
    """One digest of all that these digests stand for."""
    return _merged(exp.Array(expressions=list(digests)))


def _place(weights: list[float], percent: float) -> int:
    """Which value is at a percent: the first that so much of the weight is at or before."""
    wanted = percent / 100 * sum(weights) * (1 - 1e-12)
    reached = accumulate(weights)
    return next(
        (place for place, total in enumerate(reached) if total >= wanted and total > 0), len(weights) - 1
    )


def _at(digest: object, percent: float) -> object:
    parts = _parts(digest)
    if parts is None:
        return None
    kind, values, weights = parts
    value = values[_place(weights, percent)]
    if kind == 1:
        return format_datetime(int(value))
    return format_timespan(int(value)) if kind == 2 else value


@python(name_after="percentile_tdigest")
def percentile_tdigest(digest: Json, percent: Float | None) -> Json | None:
    """The value at a percent of what a digest stands for; a third argument, typeof(...), converts it.

    >>> percentile_tdigest(dynamic([[0], [1, 2, 3], [1, 1, 2]]), 50)
    2
    """
    return None if percent is None else _at(digest, percent)


@python("percentiles_array_digest", internal=True)
def percentiles_array_digest(digest: Json, percents: Json) -> Json | None:
    """The values at several percents."""
    if _parts(digest) is None or not isinstance(percents, list):
        return None
    return [_at(digest, percent) if isinstance(percent, int | float) else None for percent in percents]


@scalar(name_after="percentile_tdigest")
def percentiles_array_tdigest(digest: Dynamic, *percents: AnyArg) -> Dynamic:
    """The values at several percents (or an array of them) of what a digest stands for.

    >>> percentiles_array_tdigest(dynamic([[0], [1, 2, 3], [1, 1, 2]]), 0, 100)
    [1,3]
    """
    if len(percents) == 1 and percents[0].type is KqlType.DYNAMIC:
        asked = percents[0].sql
    else:
        asked = sql.array(
            exp.Array(expressions=[sql.try_cast(percent.sql, KqlType.REAL) for percent in percents])
        )
    return percentiles_array_digest.overloads[0].build(digest, asked)


def _rank(digest: object, value: object) -> tuple[float, float] | None:
    """The weight of the values up to this one, and of all."""

    parts = _parts(digest)
    if parts is None:
        return None
    kind, values, weights = parts
    if isinstance(value, str):
        value = datetime_ticks(value) if kind == 1 else timespan_ticks(value)
    if not isinstance(value, int | float):
        return None
    return sum(w for v, w in zip(values, weights, strict=True) if v <= value), sum(weights)


@python()
def rank_tdigest(digest: Json, value: Value) -> Float | None:
    """How many of the values that a digest stands for are not above this one.

    >>> rank_tdigest(dynamic([[0], [1, 2, 3], [1, 1, 2]]), 2)
    2.0
    """
    found = _rank(digest, value)
    return None if found is None else float(found[0])


@python()
def percentrank_tdigest(digest: Json, value: Value) -> Float | None:
    """The percentage of the values that a digest stands for that are not above this one.

    >>> percentrank_tdigest(dynamic([[0], [1, 2, 3], [1, 1, 2]]), 2)
    50.0
    """
    found = _rank(digest, value)
    return None if found is None or not found[1] else 100 * found[0] / found[1]


# --- percentiles -------------------------------------------------------------------------------------------


@python("weighted_place", internal=True)
def weighted_place(weights: Json, percent: Float | None) -> Whole | None:
    """The place, from 1, of the value at a percent among values in order with these weights."""
    if not isinstance(weights, list) or not weights or percent is None:
        return None
    return 1 + _place([max(0.0, float(weight)) for weight in weights], percent)


def _weighted(value: Arg, weight: Sql, percent: Arg) -> Sql:
    pair = exp.Struct(
        expressions=[
            exp.PropertyEQ(this=exp.to_identifier(name), expression=part)
            for name, part in (("v", value.sql), ("w", sql.cast(weight, KqlType.REAL)))
        ]
    )
    pairs = sql.call("list_sort", _gathered(pair, sql.all_of(_known(value.sql), _known(weight))))
    weights = sql.each(pairs, "th_pair", lambda item: sql.field(item, "w"))
    asked = sql.binary(exp.Mul, share(percent), sql.literal(100))
    place = weighted_place.overloads[0].build(sql.array(weights), asked)
    return sql.field(sql.call("list_extract", pairs.copy(), place), "v")


@aggregate(prefix="percentile")
def percentilew(value: AnyArg, weight: Real, percent: RealArg) -> Arithmetic:
    """The nearest-rank percentile of values that count as often as their weight says."""
    return no_text_null(_weighted(value, weight, percent), value.type)


def _percents(given: tuple[Arg, ...], name: str) -> list[Arg]:
    if len(given) == 1 and given[0].type is KqlType.DYNAMIC:
        if not isinstance(given[0].value, list):
            raise NeedsConstantError(f"{name}() over an array that is no constant")
        return [Arg(sql.literal(str(item)), KqlType.REAL, item) for item in given[0].value]
    return list(given)


def _together(values: list[Sql], type_: KqlType) -> Sql:
    return sql.array(exp.Array(expressions=[json_elements(Arg(value, type_)) for value in values]))


@aggregate(prefix="percentiles")
def percentiles_array(value: AnyArg, *percents: Percents) -> Dynamic:
    """An array of nearest-rank percentiles; the percents may be an array."""
    asked = _percents(percents, "percentiles_array")
    found: list[Sql] = [nearest_rank(value.sql.copy(), percent) for percent in asked]
    return _together(found, value.type)


@aggregate(prefix="percentiles")
def percentilesw_array(value: AnyArg, weight: Number, *percents: Percents) -> Dynamic:
    """An array of nearest-rank percentiles of weighted values; the percents may be an array."""
    asked = _percents(percents, "percentilesw_array")
    found = [_weighted(Arg(value.sql.copy(), value.type), weight.copy(), percent) for percent in asked]
    return _together(found, value.type)
