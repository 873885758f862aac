"""Aggregates of summarize. Over only nulls sum is 0, avg NaN, lists and sets are empty, min and max null."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from trailhawk.errors import BindingError
from trailhawk.kql.functions import sql
from trailhawk.kql.functions.conversion import iso, timespan_parts
from trailhawk.kql.functions.dynamic import bag_of, entries
from trailhawk.kql.functions.operators import decimal_quotient
from trailhawk.kql.functions.registry import (
    NOT_CONSTANT,
    AnyArg,
    Arg,
    Arithmetic,
    Bool,
    Dynamic,
    DynamicArg,
    Integer,
    Long,
    LongArg,
    Mean,
    MeanArg,
    NeedsConstantError,
    Number,
    OrderedArg,
    Real,
    RealArg,
    Same,
    Scalar,
    SummableArg,
    aggregate,
    scalar,
)
from trailhawk.kql.types import KqlType

_NAN = exp.cast(exp.Literal.string("NaN"), "DOUBLE")


def _filter(value: exp.Expr, predicate: exp.Expr) -> exp.Expr:
    return exp.Filter(this=value, expression=exp.Where(this=predicate))


def _where(value: exp.Expr, predicate: exp.Expr | None) -> exp.Expr:
    return value if predicate is None else _filter(value, predicate)


def _not_null(value: exp.Expr) -> exp.Expr:
    return sql.negate(sql.is_null(value.copy()))


def no_text_null(value: exp.Expr, type_: KqlType) -> exp.Expr:
    """A string aggregate of no rows is ''."""
    return sql.text(value) if type_ is KqlType.STRING else value


@aggregate()
def count(value: AnyArg | None = None) -> Long:
    """The number of rows, whatever a value in them is; of a bool, those for which it is true."""
    counted = exp.Count(this=exp.Star())
    return _filter(counted, value.sql) if value is not None and value.type is KqlType.BOOL else counted


@aggregate()
def countif(predicate: Bool) -> Long:
    """The number of rows for which the predicate is true."""
    return _filter(exp.Count(this=exp.Star()), predicate)


def _sum(value: Arg, predicate: exp.Expr | None = None) -> exp.Expr:
    total = _where(exp.Sum(this=value.sql), predicate)
    known = sql.coalesce(total, sql.literal(0))
    # Whole numbers are summed in 128 bits by the engine.
    if value.type.is_integer:
        return sql.lower_bits(known)
    # Decimals keep their digits: versions have none after the point.
    return known if value.type is KqlType.DECIMAL else sql.cast(known, value.type)


@aggregate("sum")
def sum_(value: SummableArg) -> Arithmetic:
    """The sum; 0 of only nulls."""
    return _sum(value)


@aggregate()
def sumif(value: SummableArg, predicate: Bool) -> Arithmetic:
    """The sum over the rows for which the predicate is true."""
    return _sum(value, predicate)


def _avg(value: exp.Expr) -> exp.Expr:
    return sql.coalesce(value, _NAN.copy())


def _mean(value: Arg, predicate: exp.Expr | None) -> exp.Expr:
    if value.type is KqlType.DATETIME:
        micros = _where(exp.Avg(this=sql.epoch_us(value.sql)), predicate)
        return sql.call("make_timestamp", sql.cast(micros, KqlType.LONG))
    if value.type is KqlType.TIMESPAN:
        return sql.cast(_where(exp.Avg(this=value.sql), predicate), KqlType.LONG)
    if value.type is KqlType.DECIMAL:
        total, count = (_where(kind(this=value.sql.copy()), predicate) for kind in (exp.Sum, exp.Count))
        return decimal_quotient(*(sql.try_cast(item, KqlType.DECIMAL) for item in (total, count)))
    return _avg(_where(exp.Avg(this=sql.cast(value.sql, KqlType.REAL)), predicate))


@aggregate()
def avg(value: MeanArg) -> Mean:
    """The mean; of only nulls NaN, for datetimes and timespans null."""
    return _mean(value, None)


@aggregate()
def avgif(value: MeanArg, predicate: Bool) -> Mean:
    """The mean over the rows for which the predicate is true."""
    return _mean(value, predicate)


@aggregate("min")
def min_(value: OrderedArg) -> Same:
    """The smallest value."""
    return no_text_null(exp.Min(this=value.sql), value.type)


def _largest(value: Arg, predicate: exp.Expr | None) -> exp.Expr:
    """The largest value; as `sort` places it, NaN is below all numbers."""
    found = _where(exp.Max(this=value.sql), predicate)
    if value.type is not KqlType.REAL:
        return no_text_null(found, value.type)
    number = sql.case((sql.call("isnan", value.sql.copy()), exp.Null()), otherwise=value.sql.copy())
    return sql.coalesce(_where(exp.Max(this=number), predicate), found)


@aggregate("max")
def max_(value: OrderedArg) -> Same:
    """The largest value; NaN where there is no number."""
    return _largest(value, None)


@aggregate()
def minif(value: OrderedArg, predicate: Bool) -> Same:
    """The smallest value over the rows for which the predicate is true."""
    return no_text_null(_filter(exp.Min(this=value.sql), predicate), value.type)


@aggregate()
def maxif(value: OrderedArg, predicate: Bool) -> Same:
    """The largest value over the rows for which the predicate is true."""
    return _largest(value, predicate)


@aggregate()
def dcount(value: Scalar, accuracy: Long = sql.literal(1)) -> Long:  # noqa: B008  # a constant tree
    """The number of different values, exact."""
    return exp.Count(this=exp.Distinct(expressions=[value]))


@aggregate()
def dcountif(value: Scalar, predicate: Bool, accuracy: Long = sql.literal(1)) -> Long:  # noqa: B008
    """The number of different values over the rows for which the predicate is true."""
    return _filter(exp.Count(this=exp.Distinct(expressions=[value])), predicate)


@aggregate("count_distinct")
def count_distinct(value: Scalar) -> Long:
    """The number of different values."""
    return exp.Count(this=exp.Distinct(expressions=[value]))


@aggregate()
def count_distinctif(value: Scalar, predicate: Bool) -> Long:
    """The number of different values over the rows for which the predicate is true."""
    return _filter(exp.Count(this=exp.Distinct(expressions=[value])), predicate)


@aggregate(aliases=("any",), prefix="")
def take_any(value: AnyArg) -> Same:
    """The value of any row; here the smallest, so that two runs agree."""
    return no_text_null(exp.Min(this=value.sql), value.type)


@aggregate(aliases=("anyif",), prefix="")
def take_anyif(value: AnyArg, predicate: Bool) -> Same:
    """The value of any row for which the predicate is true."""
    return no_text_null(_filter(exp.Min(this=value.sql), predicate), value.type)


def _spread(name: str, predicate: exp.Expr | None, *values: exp.Expr) -> exp.Expr:
    """A measure of spread as a real; 0 of no values."""
    measured = sql.call(name, *[sql.cast(value, KqlType.REAL) for value in values])
    return sql.coalesce(_where(measured, predicate), sql.cast(sql.literal(0), KqlType.REAL))


@aggregate()
def stdev(value: Number) -> Real:
    """The sample's standard deviation."""
    return _spread("stddev_samp", None, value)


@aggregate()
def stdevif(value: Number, predicate: Bool) -> Real:
    """The sample's standard deviation over the rows for which the predicate is true."""
    return _spread("stddev_samp", predicate, value)


@aggregate()
def stdevp(value: Number) -> Real:
    """The population's standard deviation."""
    return _spread("stddev_pop", None, value)


@aggregate()
def variance(value: Number) -> Real:
    """The sample's variance."""
    return _spread("var_samp", None, value)


@aggregate()
def varianceif(value: Number, predicate: Bool) -> Real:
    """The sample's variance over the rows for which the predicate is true."""
    return _spread("var_samp", predicate, value)


@aggregate()
def variancep(value: Number) -> Real:
    """The population's variance."""
    return _spread("var_pop", None, value)


@aggregate()
def variancepif(value: Number, predicate: Bool) -> Real:
    """The population's variance over the rows for which the predicate is true."""
    return _spread("var_pop", predicate, value)


@aggregate()
def covariance(left: Number, right: Number) -> Real:
    """The sample's covariance of two numbers."""
    return _spread("covar_samp", None, left, right)


@aggregate()
def covarianceif(left: Number, right: Number, predicate: Bool) -> Real:
    """The sample's covariance of two numbers over the rows for which the predicate is true."""
    return _spread("covar_samp", predicate, left, right)


@aggregate()
def covariancep(left: Number, right: Number) -> Real:
    """The population's covariance of two numbers."""
    return _spread("covar_pop", None, left, right)


@aggregate()
def covariancepif(left: Number, right: Number, predicate: Bool) -> Real:
    """The population's covariance of two numbers over the rows for which the predicate is true."""
    return _spread("covar_pop", predicate, left, right)


@aggregate(prefix="")
def binary_all_and(value: Integer) -> Same:
    """The bits that are set in every one of the numbers."""
    return sql.call("bit_and", value)


@aggregate(prefix="")
def binary_all_or(value: Integer) -> Same:
    """The bits that are set in one or more of the numbers."""
    return sql.call("bit_or", value)


@aggregate(prefix="")
def binary_all_xor(value: Integer) -> Same:
    """The bits that are set in an odd number of the numbers."""
    return sql.call("bit_xor", value)


def _reads_rows(value: exp.Expr) -> bool:
    """Whether a value is taken from the rows themselves, not from a query of its own (`toscalar`)."""
    return any(column.find_ancestor(exp.Subquery) is None for column in value.find_all(exp.Column))


def share(percent: Arg) -> exp.Expr:
    """A percent as a fraction of 1; null of one that a query gives and that is none."""
    known = percent.value is not NOT_CONSTANT
    if known and not (isinstance(percent.value, int | float) and 0 <= percent.value <= 100):
        shown = "null" if percent.value is None else percent.value
        raise BindingError(f"a percent is from 0 to 100, this is {shown}")
    if not known and _reads_rows(percent.sql):
        raise NeedsConstantError("a percent that is not a constant")
    found = sql.binary(exp.Div, sql.cast(percent.sql, KqlType.REAL), sql.literal(100))
    if known:
        return found
    # The engine counts a negative one from the other end; a null it refuses.
    within = exp.Between(this=found, low=sql.literal(0), high=sql.literal(1))
    return sql.case((within, found.copy()), otherwise=exp.Null())


def nearest_rank(value: exp.Expr, percent: Arg) -> exp.Expr:
    """The value at a percentile of the group; null of a percent that is none."""
    fraction = share(percent)
    if percent.value is not NOT_CONSTANT or percent.sql.find(exp.Subquery) is None:
        return sql.call("quantile_disc", value, fraction)
    # The engine's own takes no percent that a query gives: the same rank in the sorted values.
    values = sql.call("list_sort", _filter(sql.call("list", value.copy()), _not_null(value)))
    count = sql.call("count", value.copy())
    above = sql.call("floor", sql.binary(exp.Sub, count, sql.binary(exp.Mul, fraction, count.copy())))
    rank = sql.call("greatest", 1, sql.binary(exp.Sub, count.copy(), above))
    place = sql.case((_not_null(fraction), sql.cast(rank, KqlType.LONG)), otherwise=exp.Null())
    return sql.call("list_extract", values, place)


@aggregate()
def percentile(value: AnyArg, percent: RealArg) -> Arithmetic:
    """The nearest-rank percentile."""
    return no_text_null(nearest_rank(value.sql, percent), value.type)


def json_elements(value: Arg) -> exp.Expr:
    """The argument as it stands inside a JSON array: times as KQL text, dynamic as it is."""
    if value.type is KqlType.DATETIME:
        return iso(value.sql)
    if value.type is KqlType.TIMESPAN:
        return timespan_parts(value.sql)
    return value.sql


def _most(size: Arg) -> exp.Expr:
    """How many values are kept at most: a constant from 0 up, or what a query in its place gives."""
    if size.value is NOT_CONSTANT and not _reads_rows(size.sql):
        return sql.call("greatest", size.sql, 0)
    if size.value is NOT_CONSTANT:
        raise NeedsConstantError("a size that is not a constant")
    if not isinstance(size.value, int) or size.value < 0:
        shown = "null" if size.value is None else size.value
        raise BindingError(f"a size is a whole number from 0 up, this is {shown}")
    return size.sql


def _array(elements: exp.Expr, size: Arg | None) -> exp.Expr:
    kept = elements if size is None else sql.call("list_slice", elements, 1, _most(size))
    return sql.coalesce(sql.call("to_json", kept), sql.cast(sql.literal("[]"), KqlType.DYNAMIC))


def _given(value: Arg, element: exp.Expr, predicate: exp.Expr | None) -> exp.Expr:
    """Is the value there, and the predicate true where there is one?"""
    is_given = sql.negate(sql.is_json_null(element)) if value.type is KqlType.DYNAMIC else _not_null(element)
    return is_given if predicate is None else sql.all_of(is_given, predicate)


def _list(value: Arg, predicate: exp.Expr | None, size: Arg | None) -> exp.Expr:
    element = json_elements(value)
    test = _given(value, element, predicate)
    if value.type is KqlType.DYNAMIC:
        return _array(_elements_of_arrays(element, test), size)
    return _array(_filter(exp.Anonymous(this="list", expressions=[element]), test), size)


def _elements_of_arrays(element: exp.Expr, test: exp.Expr) -> exp.Expr:
    """The group's values; in place of an array, its elements."""
    is_array = exp.EQ(this=sql.call("json_type", element.copy()), expression=sql.literal("ARRAY"))
    elements = sql.case(
        (is_array, sql.elements(element.copy())),
        otherwise=exp.Array(expressions=[element]),
    )
    return sql.call("flatten", _filter(exp.Anonymous(this="list", expressions=[elements]), test))


def _set(value: Arg, predicate: exp.Expr | None, size: Arg | None) -> exp.Expr:
    """Distinct values in order, so that two runs give the same text."""
    element = json_elements(value)
    test = _given(value, element, predicate)
    if value.type is KqlType.DYNAMIC:
        gathered = _elements_of_arrays(element, test)
        return _array(sql.call("list_sort", sql.call("list_distinct", gathered)), size)
    distinct = _filter(exp.Anonymous(this="list", expressions=[exp.Distinct(expressions=[element])]), test)
    return _array(sql.call("list_sort", distinct), size)


def _as_of_old(size: Arg | None) -> Arg:
    """How many values the old spellings keep where they say no size."""
    return size or Arg(sql.literal(128), KqlType.LONG, 128)


@aggregate(prefix="list", keeps_order=True)
def make_list(value: AnyArg, size: LongArg | None = None) -> Dynamic:
    """An array of the group's values, in the input's order; nulls are left out, arrays are joined."""
    return _list(value, None, size)


@aggregate(prefix="list", keeps_order=True)
def makelist(value: AnyArg, size: LongArg | None = None) -> Dynamic:
    """The old make_list(): without a size it keeps 128 values."""
    return _list(value, None, _as_of_old(size))


@aggregate(prefix="list", keeps_order=True)
def make_list_if(value: AnyArg, predicate: Bool, size: LongArg | None = None) -> Dynamic:
    """An array of the values of the rows for which the predicate is true."""
    return _list(value, predicate, size)


@aggregate(prefix="set")
def make_set(value: AnyArg, size: LongArg | None = None) -> Dynamic:
    """An array of the group's different values; nulls are left out."""
    return _set(value, None, size)


@aggregate(prefix="set")
def makeset(value: AnyArg, size: LongArg | None = None) -> Dynamic:
    """The old make_set(): without a size it keeps 128 values, here the smallest ones."""
    return _set(value, None, _as_of_old(size))


@aggregate(prefix="set")
def make_set_if(value: AnyArg, predicate: Bool, size: LongArg | None = None) -> Dynamic:
    """An array of the different values of the rows for which the predicate is true."""
    return _set(value, predicate, size)


@aggregate(prefix="list", keeps_order=True)
def make_list_with_nulls(value: AnyArg) -> Dynamic:
    """An array of the group's values with the nulls among them, in the input's order."""
    return _array(exp.Anonymous(this="list", expressions=[json_elements(value)]), None)


def _bag(value: exp.Expr, predicate: exp.Expr | None, size: Arg | None) -> exp.Expr:
    test = _not_null(value) if predicate is None else sql.all_of(_not_null(value), predicate)
    bags = _filter(exp.Anonymous(this="list", expressions=[entries(value)]), test)
    whole = sql.coalesce(sql.call("flatten", bags), exp.Array())
    return bag_of(whole, None if size is None else _most(size))


@aggregate(prefix="bag", keeps_order=True)
def make_bag(value: Dynamic, size: LongArg | None = None) -> Dynamic:
    """One property bag of the group's bags; of a name that comes twice the first value stays.

    At most `size` names are kept, the first ones.
    """
    return _bag(value, None, size)


@aggregate(prefix="bag", keeps_order=True)
def make_dictionary(value: Dynamic, size: LongArg | None = None) -> Dynamic:
    """The old make_bag(): without a size it keeps 128 names."""
    return _bag(value, None, _as_of_old(size))


@aggregate(prefix="bag", keeps_order=True)
def make_bag_if(value: Dynamic, predicate: Bool, size: LongArg | None = None) -> Dynamic:
    """One property bag of the bags of the rows for which the predicate is true."""
    return _bag(value, predicate, size)


def _row(values: tuple[exp.Expr, ...]) -> exp.Expr:
    """The values as one struct, so that all come from the same row."""
    return _struct([f"f{i}" for i in range(len(values))], values)


def _struct(names: Iterable[str], values: Iterable[exp.Expr]) -> exp.Expr:
    return exp.Struct(
        expressions=[
            exp.PropertyEQ(this=exp.to_identifier(name), expression=value)
            for name, value in zip(names, values, strict=True)
        ]
    )


def _number(place: exp.Expr) -> int:
    return int(place.name) if isinstance(place, exp.Literal) else int(place.this.name)


def _field(row: exp.Expr, place: exp.Expr, values: tuple[Arg, ...]) -> exp.Expr:
    number = _number(place)
    found = sql.call("struct_extract", row, f"f{number}")
    return no_text_null(found, values[number].type)


FEW = 8
"""Up to so many columns of a row are faster one by one than packed into a struct."""
_AS_WHOLE = frozenset({KqlType.BOOL, KqlType.INT, KqlType.LONG, KqlType.TIMESPAN, KqlType.DATETIME})
"""Types whose values are whole numbers of 64 bits."""


def _extreme(function: str, place: exp.Expr, ordering: Arg, values: tuple[Arg, ...]) -> exp.Expr:
    """Value number `place` of the row with the extreme ordering; a null one is beyond all others.

    Among equals the smallest hash of the values decides, so that it does not depend on the order in which
    threads meet the rows, nor on how these are stored: two runs pick the same row, and all columns come
    from it.
    """
    trees = tuple(value.sql for value in values)
    rank = _rank(function, ordering, trees)
    if ordering.type in _AS_WHOLE:
        value = values[_number(place)]
        return no_text_null(sql.call(f"{function}_null", value.sql, rank), value.type)
    return _field(sql.call(function, _row(trees), rank), place, values)


def _extreme_row(function: str, ordering: Arg, row: exp.Expr) -> exp.Expr:
    """The struct of the row with the extreme ordering, chosen as `_extreme` chooses."""
    values = tuple(field.expression for field in row.expressions)
    return sql.call(function, row, _rank(function, ordering, values))


def _hash(values: tuple[exp.Expr, ...]) -> exp.Expr:
    return sql.call("hash", *(value.copy() for value in values))


def _rank(function: str, ordering: Arg, values: tuple[exp.Expr, ...]) -> exp.Expr:
    if ordering.type in _AS_WHOLE:
        return _whole_rank(function, ordering, values)
    return _any_rank(function, ordering, values)


def _whole_rank(function: str, ordering: Arg, values: tuple[exp.Expr, ...]) -> exp.Expr:
    """The ordering above 63 bits of the hash, in one number of 128 bits, which is soon compared."""
    number = sql.epoch_us(ordering.sql) if ordering.type is KqlType.DATETIME else ordering.sql
    beyond = -(2**63) - 1 if function == "arg_max" else 2**63
    number = sql.coalesce(sql.huge(number.copy()), sql.huge(sql.literal(beyond)))
    upper = sql.binary(exp.Mul, number, sql.huge(sql.literal(2**63)))
    half = sql.binary(exp.BitwiseRightShift, _hash(values), sql.literal(1))
    return sql.binary(exp.Sub if function == "arg_max" else exp.Add, upper, sql.huge(half))


def _any_rank(function: str, ordering: Arg, values: tuple[exp.Expr, ...]) -> exp.Expr:
    """Whether there is an ordering, it, and the hash: compared in this order; NaN is no extreme."""
    is_null = sql.is_null(ordering.sql.copy())
    if function == "arg_min":
        return _row((is_null, ordering.sql.copy(), _hash(values)))
    known, smallest = sql.negate(is_null), exp.BitwiseNot(this=_hash(values))
    if ordering.type is not KqlType.REAL:
        return _row((known, ordering.sql.copy(), smallest))
    is_number = sql.negate(sql.call("isnan", ordering.sql.copy()))
    return _row((known, is_number, ordering.sql.copy(), smallest))


@aggregate("arg_max_field", internal=True)
def arg_max_field(place: Long, ordering: AnyArg, *values: AnyArg) -> Same:
    """Value number `place` of the row with the largest `ordering`: a column of arg_max()."""
    return _extreme("arg_max", place, ordering, values)


@aggregate("arg_min_field", internal=True)
def arg_min_field(place: Long, ordering: AnyArg, *values: AnyArg) -> Same:
    """Value number `place` of the row with the smallest `ordering`: a column of arg_min()."""
    return _extreme("arg_min", place, ordering, values)


@aggregate("take_any_field", internal=True)
def take_any_field(place: Long, *values: AnyArg) -> Same:
    """Value number `place` of one row of the group: a column of take_any(a, b)."""
    row = exp.Min(this=_row(tuple(v.sql for v in values)))
    return _field(row, place, values)


@aggregate("arg_max_row", internal=True)
def arg_max_row(ordering: AnyArg, row: Dynamic) -> Dynamic:
    """The row with the largest `ordering`: all columns of a wide arg_max()."""
    return _extreme_row("arg_max", ordering, row)


@aggregate("arg_min_row", internal=True)
def arg_min_row(ordering: AnyArg, row: Dynamic) -> Dynamic:
    """The row with the smallest `ordering`: all columns of a wide arg_min()."""
    return _extreme_row("arg_min", ordering, row)


@aggregate("take_any_row", internal=True)
def take_any_row(row: Dynamic) -> Dynamic:
    """One row of the group: all columns of a wide take_any()."""
    return exp.Min(this=row)


@scalar(internal=True)
def row_of(number: Long, places: DynamicArg, *values: Scalar) -> Dynamic:
    """Values of a row as one struct, so that all come from the same row; `places` tells which they are.

    `number` is that of the aggregate which takes a row of the group.
    """
    assert isinstance(places.value, list)
    return _struct([f"f{place}" for place in places.value], values)


@scalar(internal=True)
def row_field(number: Long, place: Long, row: Dynamic, otherwise: AnyArg) -> Same:
    """The value at a place of the row that the aggregate of this number took; `otherwise` has its type."""
    return no_text_null(sql.call("struct_extract", row, f"f{_number(place)}"), otherwise.type)


ROW_OF = row_of.overloads[0]
ROW_FIELD = row_field.overloads[0]

ROW_FUNCTIONS = {
    "arg_max": arg_max_field,
    "argmax": arg_max_field,
    "arg_min": arg_min_field,
    "argmin": arg_min_field,
    "take_any": take_any_field,
    "any": take_any_field,
}
"""Aggregates that give several columns of one row, by their KQL names."""
ROWS = {arg_max_field: arg_max_row, arg_min_field: arg_min_row, take_any_field: take_any_row}
"""What takes the place of each for more than a FEW columns."""
