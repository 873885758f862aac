"""Numbers. What has no result (the root of a negative number) is null or NaN, never an error."""

from __future__ import annotations

from sqlglot import exp

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.registry import (
    NOT_CONSTANT,
    Bool,
    Datetime,
    Decimal,
    Integer,
    IntegerArg,
    Long,
    Number,
    NumberArg,
    Real,
    Same,
    Sql,
    Timespan,
    scalar,
)
from trailhawk.kql.types import KqlType

_DECIMAL_PLACES = 17
_WHOLE_DIGITS = 21
"""Digits of a decimal after and before the point."""


def _real(value: Sql) -> Sql:
    return sql.cast(value, KqlType.REAL)


def _where(test: Sql, value: Sql) -> Sql:
    """The value where the test holds, else null."""
    return sql.case((test, value), otherwise=sql.null(KqlType.REAL))


@scalar("abs", name_after="")
def abs_(value: Integer) -> Long:
    """The number (or timespan) without its sign.

    >>> abs(-5)
    5
    >>> abs(-1.5)
    1.5
    >>> abs(-1h)
    01:00:00
    """
    return exp.Abs(this=sql.cast(value, KqlType.LONG))


@abs_.overload
def _(value: Number) -> Same:
    return exp.Abs(this=value)


@abs_.overload
def _(value: Timespan) -> Timespan:
    return exp.Abs(this=value)


@scalar(name_after="")
def ceiling(value: Integer) -> Same:
    """The smallest whole number that is not less.

    >>> ceiling(1.1)
    2.0
    >>> ceiling(-1.1) == -1
    True
    """
    return value


@ceiling.overload
def _(value: Real) -> Real:
    return sql.call("ceil", value)


@ceiling.overload
def _(value: Decimal) -> Decimal:
    return sql.try_cast(sql.call("ceil", value), KqlType.DECIMAL)


@scalar("round", name_after="")
def round_(value: NumberArg, places: IntegerArg | None = None) -> Same:
    """The number rounded to `places` after the point; a negative `places` rounds before it.

    >>> round(2.15, 1)
    2.2
    >>> round(-50.55, -2)
    -100.0
    >>> round(2.98765)
    3.0
    >>> round(decimal(2.345), 2)
    2.35
    """
    is_decimal = value.type is KqlType.DECIMAL
    if places is not None and is_decimal and places.value is NOT_CONSTANT:
        return sql.let(value.sql, "rounded", lambda number: _rounded(number, places.sql))
    if not is_decimal:
        at = [] if places is None else [sql.try_cast(places.sql, KqlType.INT)]
        return sql.call("round", value.sql, *at)
    count = 0 if places is None else places.value
    if not isinstance(count, int):
        return sql.null(KqlType.DECIMAL)
    count = max(-_WHOLE_DIGITS - 1, min(count, _DECIMAL_PLACES))
    rounded = sql.call("round", value.sql, count)  # The engine gives a decimal fewer places by its type.
    return sql.try_cast(rounded, KqlType.DECIMAL)


def _rounded(number: Sql, places: Sql) -> Sql:
    """A decimal at as many places as the row says: the engine takes a constant for them."""
    within = [
        (
            sql.binary(exp.EQ, places.copy(), sql.literal(count)),
            sql.try_cast(sql.call("round", number.copy(), count), KqlType.DECIMAL),
        )
        for count in range(-_WHOLE_DIGITS, _DECIMAL_PLACES)
    ]
    more = (sql.binary(exp.GTE, places.copy(), sql.literal(_DECIMAL_PLACES)), number.copy())
    fewer = (sql.binary(exp.LT, places.copy(), sql.literal(-_WHOLE_DIGITS)), sql.literal(0))
    return sql.case(*within, more, fewer, otherwise=sql.null(KqlType.DECIMAL))


@scalar(name_after="")
def sqrt(value: Real) -> Real:
    """The square root; null of a negative number.

    >>> sqrt(256)
    16.0
    >>> sqrt(-1)
    null
    """
    return _where(sql.binary(exp.GTE, value, sql.literal(0)), sql.call("sqrt", value.copy()))


@scalar("pow", name_after="")
def pow_(base: Real, exponent: Real) -> Real:
    """The base raised to the exponent.

    >>> pow(2, 3)
    8.0
    """
    return sql.call("pow", base, exponent)


@scalar("exp", name_after="")
def exp_(value: Real) -> Real:
    """e raised to the number.

    >>> exp(0)
    1.0
    """
    return sql.call("exp", value)


@scalar(name_after="")
def exp2(value: Real) -> Real:
    """2 raised to the number.

    >>> exp2(10)
    1024.0
    """
    return sql.call("pow", _real(sql.literal(2)), value)


@scalar(name_after="")
def exp10(value: Real) -> Real:
    """10 raised to the number.

    >>> exp10(3)
    1000.0
    """
    return sql.call("pow", _real(sql.literal(10)), value)


def _logarithm(name: str, value: Sql) -> Sql:
    positive = sql.binary(exp.GTE, value, sql.literal(0))
    return _where(positive, sql.call(name, value.copy()))


@scalar(name_after="")
def log(value: Real) -> Real:
    """The natural logarithm; null of a negative number.

    >>> log(1)
    0.0
    >>> log(-1)
    null
    """
    return _logarithm("ln", value)


@scalar(name_after="")
def log2(value: Real) -> Real:
    """The logarithm to base 2; null of a negative number.

    >>> log2(8)
    3.0
    """
    return _logarithm("log2", value)


@scalar(name_after="")
def log10(value: Real) -> Real:
    """The logarithm to base 10; null of a negative number.

    >>> log10(1000)
    3.0
    """
    return _logarithm("log10", value)


@scalar()
def sign(value: Number) -> Real:
    """-1, 0 or 1, the number's sign; 0 of null.

    >>> sign(-42)
    -1.0
    """
    return sql.coalesce(_real(sql.call("sign", value)), sql.cast(sql.literal(0), KqlType.REAL))


@scalar(name_after="")
def sin(angle: Real) -> Real:
    """The sine of an angle in radians.

    >>> sin(0)
    0.0
    """
    return sql.attempt(angle, lambda given: sql.call("sin", given))


@scalar(name_after="")
def cos(angle: Real) -> Real:
    """The cosine of an angle in radians.

    >>> cos(0)
    1.0
    """
    return sql.attempt(angle, lambda given: sql.call("cos", given))


@scalar(name_after="")
def tan(angle: Real) -> Real:
    """The tangent of an angle in radians.

    >>> tan(0)
    0.0
    """
    return sql.attempt(angle, lambda given: sql.call("tan", given))


@scalar()
def cot(angle: Real) -> Real:
    """The cotangent of an angle in radians.

    >>> round(cot(1), 4)
    0.6421
    """
    return sql.attempt(angle, lambda given: sql.call("cot", given))


def _within_one(name: str, value: Sql) -> Sql:
    return _where(
        exp.Between(this=value, low=sql.literal(-1), high=sql.literal(1)), sql.call(name, value.copy())
    )


@scalar(name_after="")
def asin(value: Real) -> Real:
    """The angle whose sine is the number; null beyond -1 and 1.

    >>> asin(0)
    0.0
    >>> asin(2)
    null
    """
    return _within_one("asin", value)


@scalar(name_after="")
def acos(value: Real) -> Real:
    """The angle whose cosine is the number; null beyond -1 and 1.

    >>> acos(1)
    0.0
    """
    return _within_one("acos", value)


@scalar(name_after="")
def atan(value: Real) -> Real:
    """The angle whose tangent is the number.

    >>> atan(0)
    0.0
    """
    return sql.call("atan", value)


@scalar(name_after="")
def atan2(y: Real, x: Real) -> Real:
    """The angle between the x axis and the ray to (x, y).

    >>> atan2(0, 1)
    0.0
    """
    return sql.call("atan2", y, x)


@scalar()
def pi() -> Real:
    """The number pi.

    >>> round(pi(), 4)
    3.1416
    """
    return sql.call("pi")


@scalar()
def degrees(radians: Real) -> Real:
    """An angle in radians as degrees.

    >>> degrees(pi())
    180.0
    """
    return sql.call("degrees", radians)


@scalar()
def radians(degrees: Real) -> Real:
    """An angle in degrees as radians.

    >>> round(radians(180), 4)
    3.1416
    """
    return sql.call("radians", degrees)


@scalar(name_after="")
def gamma(value: Real) -> Real:
    """The gamma function; null where it has no value.

    >>> gamma(5)
    24.0
    """
    return sql.attempt(value, lambda given: sql.call("gamma", given))


@scalar(name_after="")
def loggamma(value: Real) -> Real:
    """The natural logarithm of the gamma function's absolute value.

    >>> round(loggamma(5), 4)
    3.1781
    """
    return sql.attempt(value, lambda given: sql.call("lgamma", given))


@scalar()
def isnan(value: Real) -> Bool:
    """Is it NaN, no number?

    >>> isnan(0.0 / 0.0)
    True
    >>> isnan(1)
    False
    """
    return sql.coalesce(sql.call("isnan", value), exp.false())


@scalar()
def isinf(value: Real) -> Bool:
    """Is it infinite?

    >>> isinf(1.0 / 0.0)
    True
    """
    return sql.coalesce(sql.call("isinf", value), exp.false())


@scalar()
def isfinite(value: Real) -> Bool:
    """Is it neither infinite nor NaN?

    >>> isfinite(1.0 / 0.0)
    False
    """
    return sql.coalesce(sql.call("isfinite", value), exp.false())


# --- bits --------------------------------------------------------------------------------------------------


@scalar(name_after="")
def binary_and(left: Long, right: Long) -> Long:
    """The bits that are set in both.

    >>> binary_and(6, 3)
    2
    """
    return sql.binary(exp.BitwiseAnd, left, right)


@scalar(name_after="")
def binary_or(left: Long, right: Long) -> Long:
    """The bits that are set in one or both.

    >>> binary_or(6, 3)
    7
    """
    return sql.binary(exp.BitwiseOr, left, right)


@scalar(name_after="")
def binary_xor(left: Long, right: Long) -> Long:
    """The bits that are set in one alone.

    >>> binary_xor(6, 3)
    5
    """
    return sql.call("xor", left, right)


@scalar(name_after="")
def binary_not(value: Long) -> Long:
    """Every bit turned.

    >>> binary_not(5)
    -6
    """
    return sql.call("xor", value, sql.literal(-1))


def _shift(count: Sql) -> Sql:
    return sql.cast(sql.binary(exp.Mod, count, sql.literal(64)), KqlType.INT)


def _unless_negative(count: Sql, value: Sql) -> Sql:
    return sql.case(
        (sql.binary(exp.GTE, count.copy(), sql.literal(0)), value), otherwise=sql.null(KqlType.LONG)
    )


@scalar(name_after="")
def binary_shift_left(value: Long, count: Long) -> Long:
    """The bits moved up by `count` (modulo 64); null of a negative count.

    >>> binary_shift_left(1, 2)
    4
    >>> binary_shift_left(1, -1)
    null
    """
    # A BIT loses what is shifted out; a BIGINT would raise an overflow.
    bits = exp.cast(value, "BIT")
    return _unless_negative(
        count, sql.cast(sql.binary(exp.BitwiseLeftShift, bits, _shift(count)), KqlType.LONG)
    )


@scalar(name_after="")
def binary_shift_right(value: Long, count: Long) -> Long:
    """The bits moved down by `count` (modulo 64); null of a negative count.

    >>> binary_shift_right(5, 1)
    2
    """
    return _unless_negative(count, sql.binary(exp.BitwiseRightShift, value, _shift(count)))


@scalar(name_after="")
def bitset_count_ones(value: Long) -> Long:
    """How many bits are set.

    >>> bitset_count_ones(42)
    3
    """
    return sql.cast(sql.call("bit_count", value), KqlType.LONG)


# --- bins --------------------------------------------------------------------------------------------------


def _whole_bin(value: Sql, size: Sql, fixed: Sql) -> Sql:
    offset = sql.floor_mod(sql.binary(exp.Sub, value, fixed), size)
    return sql.binary(exp.Sub, value.copy(), offset)


@scalar(name_after="")
def bin_at(value: Integer, size: Integer, fixed: Integer) -> Same:
    """The value rounded down to a bin's start, where one bin starts at the fixed point.

    >>> bin_at(6.5, 2.5, 7)
    4.5
    >>> bin_at(1h, 1d, 12h)
    -12:00:00
    >>> bin_at(datetime(2017-05-15 10:20), 1d, datetime(1970-01-01 12:00))
    2017-05-14T12:00:00.0000000Z
    """
    return _whole_bin(value, size, fixed)


@bin_at.overload
def _(value: NumberArg, size: NumberArg, fixed: NumberArg) -> Same:
    number, step, start = sql.alike(value, size, fixed)
    if KqlType.DECIMAL in (value.type, size.type, fixed.type):
        return _whole_bin(number, step, start)
    steps = exp.Floor(this=sql.binary(exp.Div, sql.binary(exp.Sub, number, start), step))
    return sql.binary(exp.Add, start.copy(), sql.binary(exp.Mul, steps, step.copy()))


@bin_at.overload
def _(value: Timespan, size: Timespan, fixed: Timespan) -> Timespan:
    return _whole_bin(value, size, fixed)


@bin_at.overload
def _(value: Datetime, size: Timespan, fixed: Datetime) -> Datetime:
    ticks, start = [sql.binary(exp.Mul, sql.epoch_us(moment), sql.literal(10)) for moment in (value, fixed)]
    return sql.call("make_timestamp", sql.binary(exp.IntDiv, _whole_bin(ticks, size, start), sql.literal(10)))
