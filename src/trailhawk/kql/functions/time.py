"""Dates and times. A datetime is a TIMESTAMP in UTC, a timespan 100 ns ticks in a BIGINT."""

from __future__ import annotations

from collections.abc import Collection

from sqlglot import exp

from trailhawk.errors import UnsupportedError
from trailhawk.kql.functions import sql
from trailhawk.kql.functions.registry import (
    Arithmetic,
    Datetime,
    Int,
    Integer,
    Long,
    NeedsConstantError,
    Number,
    NumberArg,
    Real,
    Same,
    Sql,
    String,
    Timespan,
    TimespanArg,
    scalar,
)
from trailhawk.kql.literals import DATETIME_MIN
from trailhawk.kql.types import TICKS_PER_DAY, TICKS_PER_SECOND, KqlType


@scalar(aliases=("floor",), name_after="")
def bin_(value: Integer, size: Integer) -> Arithmetic:
    """The value rounded down to a multiple of the size; null with a size below zero.

    Times count from 0001-01-01, a Monday: bins of 7d begin on Mondays.

    >>> bin(7, 5)
    5
    >>> bin(-7, 5)
    -10
    >>> bin(7, -5)
    null
    >>> bin(datetime(2020-01-01 13:45), 1h)
    2020-01-01T13:00:00.0000000Z
    >>> bin(datetime(2007-01-03), 7d)
    2007-01-01T00:00:00.0000000Z
    >>> bin(26h, 1d)
    1.00:00:00
    """
    return sql.binary(exp.Sub, value, sql.floor_mod(value.copy(), _upward(size)))


def _upward(size: Sql) -> Sql:
    """The size of a bin, null where it is below zero."""
    if isinstance(size, exp.Literal):
        return size
    return sql.case((sql.binary(exp.GTE, size, sql.literal(0)), size.copy()), otherwise=exp.Null())


@bin_.overload
def _(value: NumberArg, size: NumberArg) -> Same:
    number, step = sql.alike(value, size)
    step = _upward(step)
    if KqlType.DECIMAL in (value.type, size.type):
        return sql.binary(exp.Sub, number, sql.floor_mod(number.copy(), step))
    return sql.binary(exp.Mul, exp.Floor(this=sql.binary(exp.Div, number, step)), step.copy())


@bin_.overload
def _(value: Datetime, size: TimespanArg) -> Datetime:
    micros = sql.epoch_us(value)
    if isinstance(size.value, int) and size.value % 10 == 0 and 0 < size.value <= -DATETIME_MIN:
        # Counted from the first moment that KQL knows, nothing is negative: one division.
        since = sql.binary(exp.Add, micros, sql.literal(-DATETIME_MIN // 10))
        into = sql.binary(exp.Mod, since, sql.literal(size.value // 10))
        return sql.call("make_timestamp", sql.binary(exp.Sub, micros.copy(), into))
    # In ticks, so that a size below a microsecond or an odd one stays exact.
    ticks = sql.binary(exp.Mul, micros, sql.literal(10))
    since = sql.binary(exp.Add, ticks.copy(), sql.literal(-DATETIME_MIN))
    floored = sql.binary(exp.Sub, ticks, sql.floor_mod(since, _upward(size.sql)))
    return sql.call("make_timestamp", sql.binary(exp.IntDiv, floored, sql.literal(10)))


@bin_.overload
def _(value: Timespan, size: Timespan) -> Timespan:
    return sql.binary(exp.Sub, value, sql.floor_mod(value.copy(), _upward(size)))


def _start(unit: str, value: exp.Expr) -> exp.Expr:
    return sql.cast(sql.call("date_trunc", unit, value), KqlType.DATETIME)


_MOST_DAYS = 366 * 10_000


def _offset(given: exp.Expr, in_a_unit: int) -> exp.Expr:
    """The offset in units of so many days; null of one beyond KQL's years, which the engine refuses."""
    return _up_to(_MOST_DAYS // in_a_unit, given)


def _up_to(most: int, given: exp.Expr) -> exp.Expr:
    if isinstance(given, exp.Literal) and int(given.this) <= most:
        return given
    late = sql.binary(exp.GT, given, sql.literal(most))
    early = sql.binary(exp.LT, given.copy(), sql.literal(-most))
    return sql.case((sql.any_of(late, early), exp.Null()), otherwise=given.copy())


def _months(count: exp.Expr) -> exp.Expr:
    return sql.call("to_months", sql.cast(count, KqlType.INT))


def _days(count: exp.Expr) -> exp.Expr:
    return sql.call("to_days", sql.cast(count, KqlType.INT))


@scalar(name_after="")
def startofday(date: Datetime, offset: Long = sql.literal(0)) -> Datetime:  # noqa: B008  # a constant tree
    """Midnight of the day, `offset` days on.

    >>> startofday(datetime(2020-05-17 10:00))
    2020-05-17T00:00:00.0000000Z
    """
    return sql.binary(exp.Add, _start("day", date), _days(_offset(offset, 1)))


@scalar()
def startofweek(date: Datetime, offset: Long = sql.literal(0)) -> Datetime:  # noqa: B008
    """The Sunday that begins the week, `offset` weeks on.

    >>> startofweek(datetime(2020-01-01))
    2019-12-29T00:00:00.0000000Z
    """
    back = sql.cast(sql.call("dayofweek", date), KqlType.LONG)
    days = sql.binary(exp.Sub, sql.binary(exp.Mul, _offset(offset, 7), sql.literal(7)), back)
    return sql.binary(exp.Add, _start("day", date.copy()), _days(days))


@scalar()
def startofmonth(date: Datetime, offset: Long = sql.literal(0)) -> Datetime:  # noqa: B008
    """The first of the month, `offset` months on.

    >>> startofmonth(datetime(2020-05-17))
    2020-05-01T00:00:00.0000000Z
    """
    return sql.binary(exp.Add, _start("month", date), _months(_offset(offset, 28)))


@scalar()
def startofyear(date: Datetime, offset: Long = sql.literal(0)) -> Datetime:  # noqa: B008
    """The first of January, `offset` years on.

    >>> startofyear(datetime(2020-05-17))
    2020-01-01T00:00:00.0000000Z
    """
    months = sql.binary(exp.Mul, _offset(offset, 365), sql.literal(12))
    return sql.binary(exp.Add, _start("year", date), _months(months))


@scalar()
def dayofweek(date: Datetime) -> Timespan:
    """The days since Sunday, as a timespan.

    >>> dayofweek(datetime(2020-01-01))
    3.00:00:00
    """
    return sql.binary(
        exp.Mul, sql.cast(sql.call("dayofweek", date), KqlType.LONG), sql.literal(864_000_000_000)
    )


@scalar()
def hourofday(date: Datetime) -> Long:
    """The hour, 0 to 23.

    >>> hourofday(datetime(2020-01-01 13:45))
    13
    """
    return sql.call("hour", date)


@scalar()
def dayofmonth(date: Datetime) -> Int:
    """The day of the month, 1 to 31.

    >>> dayofmonth(datetime(2020-01-17))
    17
    """
    return sql.cast(sql.call("day", date), KqlType.INT)


@scalar()
def dayofyear(date: Datetime) -> Int:
    """The day of the year, 1 to 366.

    >>> dayofyear(datetime(2020-02-01))
    32
    """
    return sql.cast(sql.call("dayofyear", date), KqlType.INT)


@scalar(aliases=("getmonth",))
def monthofyear(date: Datetime) -> Long:
    """The month, 1 to 12.

    >>> monthofyear(datetime(2020-02-01))
    2
    """
    return sql.call("month", date)


@scalar()
def getyear(date: Datetime) -> Long:
    """The year.

    >>> getyear(datetime(2020-02-01))
    2020
    """
    return sql.call("year", date)


def _moment(micros: Sql) -> Sql:
    """The datetime of Unix microseconds; null of what is beyond the years 1 to 9999."""
    whole = sql.try_cast(micros, KqlType.LONG)
    known = exp.Between(
        this=whole, low=sql.literal(-62_135_596_800_000_000), high=sql.literal(253_402_300_799_999_999)
    )
    return sql.call("make_timestamp", sql.case((known, whole.copy()), otherwise=sql.null(KqlType.LONG)))


def _micros(count: Sql, each: int) -> Sql:
    """The microseconds of so many units; of whole units exact, a real has not all of them in late years."""
    whole = sql.call("floor", count)
    rest = sql.binary(exp.Mul, sql.binary(exp.Sub, count.copy(), whole.copy()), sql.literal(each))
    exact = sql.binary(exp.Mul, sql.huge(sql.try_cast(whole, KqlType.LONG)), sql.literal(each))
    return sql.binary(exp.Add, exact, sql.try_cast(rest, KqlType.LONG))


def _part(part: Sql, known: Collection[str], function: str) -> str:
    """The name of a part of a datetime, which has to be a constant."""
    text = sql.string_value(part)
    if text is None:
        raise NeedsConstantError(f"a part of {function}() that is not a constant")
    name = text.lower()
    if name not in known:
        raise UnsupportedError(f"the part '{name}' of {function}()", hint=f"take one of {', '.join(known)}")
    return name


@scalar()
def unixtime_seconds_todatetime(seconds: Real) -> Datetime:
    """The datetime of a Unix time in seconds.

    >>> unixtime_seconds_todatetime(1577836800)
    2020-01-01T00:00:00.0000000Z
    """
    return _moment(_micros(seconds, 1_000_000))


@scalar()
def unixtime_milliseconds_todatetime(milliseconds: Real) -> Datetime:
    """The datetime of a Unix time in milliseconds.

    >>> unixtime_milliseconds_todatetime(1577836800000)
    2020-01-01T00:00:00.0000000Z
    """
    return _moment(_micros(milliseconds, 1_000))


@scalar()
def unixtime_microseconds_todatetime(microseconds: Number) -> Datetime:
    """The datetime of a Unix time in microseconds.

    >>> unixtime_microseconds_todatetime(1577836800000001)
    2020-01-01T00:00:00.0000010Z
    """
    return _moment(microseconds)


@scalar()
def unixtime_nanoseconds_todatetime(nanoseconds: Number) -> Datetime:
    """The datetime of a Unix time in nanoseconds, cut to microseconds.

    >>> unixtime_nanoseconds_todatetime(1577836800000001999)
    2020-01-01T00:00:00.0000010Z
    """
    whole = sql.try_cast(nanoseconds, KqlType.LONG)
    return _moment(sql.binary(exp.IntDiv, whole, sql.literal(1000)))


_UNITS = {
    "year": ("to_months", 12, _MOST_DAYS // 365),
    "quarter": ("to_months", 3, _MOST_DAYS // 90),
    "month": ("to_months", 1, _MOST_DAYS // 28),
    "week": ("to_days", 7, _MOST_DAYS // 7),
    "day": ("to_days", 1, _MOST_DAYS),
    "hour": ("to_hours", 1, _MOST_DAYS * 24),
    "minute": ("to_minutes", 1, _MOST_DAYS * 1_440),
    "second": ("to_seconds", 1, _MOST_DAYS * 86_400),
    "millisecond": ("to_microseconds", 1_000, _MOST_DAYS * 86_400_000),
    "microsecond": ("to_microseconds", 1, _MOST_DAYS * 86_400_000_000),
}
"""The engine's function for a unit, what the number is multiplied by for it, and the most there are."""


@scalar()
def datetime_add(part: String, count: Long, date: Datetime) -> Datetime:
    """The datetime `count` parts later, null beyond year 9999; part is year, quarter, month, week, day, hour,
    minute, second, millisecond, microsecond or nanosecond (those of a row's date are cut to microseconds).

    >>> datetime_add("month", 1, datetime(2020-01-31))
    2020-02-29T00:00:00.0000000Z
    >>> datetime_add("nanosecond", 5000, datetime(2020-01-31))
    2020-01-31T00:00:00.0000050Z
    """
    name = _part(part, (*_UNITS, "nanosecond"), "datetime_add")
    if name == "nanosecond":
        ticks = sql.binary(exp.IntDiv, count, sql.literal(100))
        later = sql.binary(exp.Sub, ticks, sql.floor_mod(ticks.copy(), sql.literal(10)))
        micros = sql.binary(exp.IntDiv, later, sql.literal(10))
        return sql.binary(exp.Add, date, sql.call("to_microseconds", micros))
    unit, factor, most = _UNITS[name]
    amount = sql.binary(exp.Mul, _up_to(most, count), sql.literal(factor))
    small = unit in ("to_months", "to_days")
    return sql.binary(exp.Add, date, sql.call(unit, sql.cast(amount, KqlType.INT) if small else amount))


def _week(date: Sql) -> Sql:
    """The number of the week, from Sunday on, since the first day there is (a Monday)."""
    first = sql.cast(sql.literal("0001-01-01"), KqlType.DATETIME)
    days = sql.binary(exp.Add, sql.call("date_diff", "day", first, date), sql.literal(1))
    return sql.binary(exp.IntDiv, days, sql.literal(7))


@scalar()
def datetime_diff(part: String, later: Datetime, earlier: Datetime) -> Long:
    """How many boundaries of a part lie between two datetimes; a week begins on Sunday.

    >>> datetime_diff("day", datetime(2020-01-03), datetime(2020-01-01 23:00))
    2
    >>> datetime_diff("week", datetime(2017-10-29), datetime(2017-09-30 23:59))
    5
    >>> datetime_diff("month", datetime(2015-12-30), datetime(2017-01-01))
    -13
    """
    name = _part(part, (*_UNITS, "nanosecond"), "datetime_diff")
    if name == "nanosecond":
        micros = sql.binary(exp.Sub, sql.epoch_us(later), sql.epoch_us(earlier))
        return sql.binary(exp.Mul, _up_to((2**63 - 1) // 1000, micros), sql.literal(1000))
    if name == "week":
        return sql.binary(exp.Sub, _week(later), _week(earlier))
    return sql.call("date_diff", name, earlier, later)


_PARTS = ("year", "quarter", "month", "week_of_year", "day", "dayofyear", "hour", "minute", "second")
_FRACTIONS = {"millisecond": 1_000, "microsecond": 1}


@scalar(aliases=("datepart",))
def datetime_part(part: String, date: Datetime) -> Long:
    """A part of a datetime as a number; milliseconds and smaller ones are those of the second.

    >>> datetime_part("hour", datetime(2020-01-01 13:45))
    13
    >>> datetime_part("millisecond", datetime(2017-10-30 01:02:03.765))
    765
    >>> datetime_part("week_of_year", datetime(2017-10-30))
    44
    """
    name = _part(part, (*_PARTS, *_FRACTIONS, "nanosecond"), "datetime_part")
    if name in _PARTS:
        return sql.call("date_part", "week" if name == "week_of_year" else name, date)
    micros = sql.binary(exp.Mod, sql.call("date_part", "microsecond", date), sql.literal(1_000_000))
    if name == "nanosecond":
        return sql.binary(exp.Mul, micros, sql.literal(1000))
    return sql.binary(exp.IntDiv, micros, sql.literal(_FRACTIONS[name]))


@scalar()
def make_datetime(
    year: Integer,
    month: Integer,
    day: Integer,
    hour: Integer = sql.literal(0),  # noqa: B008
    minute: Integer = sql.literal(0),  # noqa: B008
    second: Number = sql.literal(0),  # noqa: B008
) -> Datetime:
    """The datetime of its parts; null if there is no such day or time.

    >>> make_datetime(2020, 5, 17)
    2020-05-17T00:00:00.0000000Z
    >>> make_datetime(2020, 5, 17, 12, 30, 5.5)
    2020-05-17T12:30:05.5000000Z
    >>> make_datetime(2020, 13, 1)
    null
    >>> make_datetime(2020, 5, 17, 24, 0)
    null
    """
    # The engine also takes 24:00:00 and a 60th second.
    parts = [_long(part) for part in (year, month, day, _below(24, hour), minute)]
    micros = sql.binary(exp.IntDiv, _second(second), sql.literal(10))
    seconds = sql.binary(exp.Div, sql.cast(micros, KqlType.REAL), sql.literal(1_000_000))
    return sql.call("try", sql.call("make_timestamp", *parts, seconds))


def _below(end: int, value: Sql, then: Sql | None = None) -> Sql:
    """The value, or what it gives; null if it is not in the range from 0 on that ends before `end`."""
    least = sql.binary(exp.GTE, value, sql.literal(0))
    is_in = sql.all_of(least, sql.binary(exp.LT, value.copy(), sql.literal(end)))
    return sql.case((is_in, value.copy() if then is None else then), otherwise=exp.Null())


def _second(second: Sql) -> Sql:
    """The ticks of a second of a minute, which none of them rounds up to the next one."""
    ticks = sql.binary(exp.Mul, second.copy(), sql.literal(TICKS_PER_SECOND))
    bounded = sql.call("least", ticks, 60 * TICKS_PER_SECOND - 1)
    return _below(60, second, sql.try_cast(bounded, KqlType.LONG))


def _time(hours: Sql, minutes: Sql) -> Sql:
    """The ticks of an hour and a minute of a day; null where there are none such."""
    first = sql.binary(exp.Mul, _long(_below(24, hours)), sql.literal(3600 * TICKS_PER_SECOND))
    last = sql.binary(exp.Mul, _long(_below(60, minutes)), sql.literal(60 * TICKS_PER_SECOND))
    return sql.binary(exp.Add, first, last)


def _long(value: Sql) -> Sql:
    return sql.cast(value, KqlType.LONG)


@scalar()
def make_timespan(hours: Integer, minutes: Integer) -> Timespan:
    """The timespan of hours and minutes; of those and seconds; or of days and those. Null if hours are
    not 0 to 23, minutes not 0 to 59 or seconds not below 60.

    >>> make_timespan(1, 30)
    01:30:00
    >>> make_timespan(1, 30, 5.5)
    01:30:05.5000000
    >>> make_timespan(2, 1, 30, 5)
    2.01:30:05
    >>> make_timespan(24, 0)
    null
    """
    return _time(hours, minutes)


@make_timespan.overload
def _(hours: Integer, minutes: Integer, seconds: Number) -> Timespan:
    return sql.binary(exp.Add, _time(hours, minutes), _second(seconds))


@make_timespan.overload
def _(days: Integer, hours: Integer, minutes: Integer, seconds: Number) -> Timespan:
    midnight = sql.binary(exp.Mul, _long(days), sql.literal(TICKS_PER_DAY))
    time = sql.binary(exp.Add, _time(hours, minutes), _second(seconds))
    return sql.binary(exp.Add, midnight, time)


@scalar(aliases=("weekofyear",))
def week_of_year(date: Datetime) -> Int:
    """The number of the week as ISO 8601 counts them.

    >>> week_of_year(datetime(2020-12-31))
    53
    """
    return sql.cast(sql.call("week", date), KqlType.INT)


def _end(starts: exp.Expr) -> exp.Expr:
    # Kusto says .9999999; the engine keeps microseconds. Constants are folded in ticks and exact.
    return sql.binary(exp.Sub, starts, sql.call("to_microseconds", 1))


@scalar()
def endofday(date: Datetime, offset: Long = sql.literal(0)) -> Datetime:  # noqa: B008
    """The last moment of the day.

    >>> endofday(datetime(2020-05-17 10:00))
    2020-05-17T23:59:59.9999990Z
    """
    return _end(startofday(date, sql.binary(exp.Add, _offset(offset, 1), sql.literal(1))))


@scalar()
def endofweek(date: Datetime, offset: Long = sql.literal(0)) -> Datetime:  # noqa: B008
    """The last moment of the week, which ends on Saturday.

    >>> endofweek(datetime(2020-01-01))
    2020-01-04T23:59:59.9999990Z
    """
    return _end(startofweek(date, sql.binary(exp.Add, _offset(offset, 7), sql.literal(1))))


@scalar()
def endofmonth(date: Datetime, offset: Long = sql.literal(0)) -> Datetime:  # noqa: B008
    """The last moment of the month.

    >>> endofmonth(datetime(2020-02-17))
    2020-02-29T23:59:59.9999990Z
    """
    return _end(startofmonth(date, sql.binary(exp.Add, _offset(offset, 28), sql.literal(1))))


@scalar()
def endofyear(date: Datetime, offset: Long = sql.literal(0)) -> Datetime:  # noqa: B008
    """The last moment of the year.

    >>> endofyear(datetime(2020-02-17))
    2020-12-31T23:59:59.9999990Z
    """
    return _end(startofyear(date, sql.binary(exp.Add, _offset(offset, 365), sql.literal(1))))
