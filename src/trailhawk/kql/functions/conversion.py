"""Conversions between types. A value that does not convert gives null (for text: '')."""

from __future__ import annotations

from sqlglot import exp

from trailhawk.kql.functions import expressions, sql
from trailhawk.kql.functions.python import Moment, Text, python
from trailhawk.kql.functions.registry import (
    AnyArg,
    Bool,
    Datetime,
    Decimal,
    Dynamic,
    Guid,
    Int,
    Integer,
    IntegerArg,
    Long,
    Number,
    NumberArg,
    Real,
    Sql,
    String,
    Timespan,
    scalar,
)
from trailhawk.kql.literals import TIMESPAN_MAX, TIMESPAN_UNITS, datetime_ticks
from trailhawk.kql.types import TICKS_PER_DAY, TICKS_PER_SECOND, KqlType


@scalar(name_after="")
def tostring(value: String) -> String:
    """The value as text: True, 1.0, 2020-01-01T00:00:00.0000000Z, 1.02:03:04; '' for null.

    >>> tostring(1 == 1)
    True
    >>> tostring(1.0)
    1.0
    >>> tostring(26h)
    1.02:00:00
    """
    return value


@tostring.overload
def _(value: Bool) -> String:
    return sql.case(
        (value, sql.literal("True")),
        (sql.negate(value.copy()), sql.literal("False")),
        otherwise=sql.literal(""),
    )


@tostring.overload
def _(value: Integer) -> String:
    return sql.text(sql.cast(value, KqlType.STRING))


@tostring.overload
def _(value: Real) -> String:
    plain = sql.cast(value, KqlType.STRING)
    named = sql.case(
        (sql.call("isnan", value.copy()), sql.literal("NaN")),
        (
            sql.call("isinf", value.copy()),
            sql.call("if", exp.GT(this=value.copy(), expression=sql.literal(0)), "∞", "-∞"),
        ),
        otherwise=plain,
    )
    return sql.text(named)


@tostring.overload
def _(value: Decimal) -> String:
    # A whole decimal may have no point: its zeros stay.
    digits = sql.cast(value, KqlType.STRING)
    bare = sql.call("rtrim", sql.call("rtrim", digits, "0"), ".")
    return sql.text(sql.case((sql.call("contains", digits.copy(), "."), bare), otherwise=digits.copy()))


@tostring.overload
def datetime_text(value: Datetime) -> String:
    """ISO 8601 with seven places (the seventh is 0: the engine holds microseconds)."""
    return sql.text(iso(value))


def iso(value: exp.Expr) -> exp.Expr:
    """The ISO text of a TIMESTAMP, NULL for NULL."""
    return exp.DPipe(this=sql.call("strftime", value, "%Y-%m-%dT%H:%M:%S.%f"), expression=sql.literal("0Z"))


def timespan_parts(ticks: exp.Expr) -> exp.Expr:
    """[-][d.]hh:mm:ss[.fffffff] of 100 ns ticks; null for null."""
    size = exp.Abs(this=ticks)

    def part(unit: int, modulus: int, width: int) -> exp.Expr:
        whole = sql.binary(exp.IntDiv, size.copy(), sql.literal(unit))
        number = sql.binary(exp.Mod, whole, sql.literal(modulus)) if modulus else whole
        return sql.call("lpad", sql.cast(number, KqlType.STRING), width, "0")

    fraction = sql.binary(exp.Mod, size.copy(), sql.literal(TICKS_PER_SECOND))
    days = sql.binary(exp.IntDiv, size.copy(), sql.literal(TICKS_PER_DAY))
    pieces = [
        sql.case(
            (exp.LT(this=ticks.copy(), expression=sql.literal(0)), sql.literal("-")),
            otherwise=sql.literal(""),
        ),
        sql.case(
            (
                exp.GT(this=days, expression=sql.literal(0)),
                exp.DPipe(this=sql.cast(days.copy(), KqlType.STRING), expression=sql.literal(".")),
            ),
            otherwise=sql.literal(""),
        ),
        part(3600 * TICKS_PER_SECOND, 24, 2),
        sql.literal(":"),
        part(60 * TICKS_PER_SECOND, 60, 2),
        sql.literal(":"),
        part(TICKS_PER_SECOND, 60, 2),
        sql.case(
            (
                exp.GT(this=fraction, expression=sql.literal(0)),
                exp.DPipe(
                    this=sql.literal("."),
                    expression=sql.call("lpad", sql.cast(fraction.copy(), KqlType.STRING), 7, "0"),
                ),
            ),
            otherwise=sql.literal(""),
        ),
    ]
    joined = sql.call("concat", *pieces)
    return sql.case((sql.is_null(ticks.copy()), exp.Null()), otherwise=joined)


@tostring.overload
def _(value: Timespan) -> String:
    return sql.text(timespan_parts(value))


@tostring.overload
def _(value: Guid) -> String:
    return sql.text(value)


@tostring.overload
def dynamic_text(value: Dynamic) -> String:
    return sql.text(sql.call("json_extract_string", value, "$"))


DYNAMIC_TEXT = tostring.overloads[-1]
"""tostring(dynamic): the passes look for it to read promoted columns."""

_WHOLE = r"^\s*[+-]?(\d+|0[xX][0-9a-fA-F]+)\s*$"


def _whole(value: exp.Expr, to: KqlType) -> exp.Expr:
    """Text to a whole number; text with a point or an exponent is none."""
    matches = expressions.matches(value.copy(), _WHOLE)
    trimmed = sql.try_cast(sql.call("trim", value.copy()), to)
    return sql.case(
        (_is_written(value, to), sql.try_cast(value.copy(), to)), (matches, trimmed), otherwise=sql.null(to)
    )


def _is_written(text: exp.Expr, to: KqlType) -> exp.Expr:
    """Is the text a whole number as the engine writes it? A third of the time of looking at its letters."""
    return sql.binary(exp.EQ, sql.cast(sql.try_cast(text.copy(), to), KqlType.STRING), text.copy())


def _within(value: exp.Expr, of: KqlType, least: int, most: int) -> exp.Expr:
    """A number without its fraction, brought between two; null of what is not finite."""
    real = sql.cast(value, of)
    bounded = sql.call("least", sql.call("greatest", sql.call("trunc", real), least), most)
    return sql.case((sql.call("isfinite", real.copy()), bounded), otherwise=exp.Null())


WHOLE_KINDS = ("UBIGINT", "BIGINT", "HUGEINT")
"""What the engine calls whole numbers of JSON."""


def if_kind(value: exp.Expr, then: exp.Expr, *kinds: str) -> exp.Expr:
    """What is given for a JSON value of one of the kinds, else null."""
    is_one = exp.In(this=sql.call("json_type", value), expressions=[sql.literal(kind) for kind in kinds])
    return sql.case((is_one, then), otherwise=exp.Null())


def _number(text: exp.Expr, to: KqlType) -> exp.Expr:
    """Text to a number with a fraction; the engine takes 1_000 for one."""
    return sql.try_cast(sql.call("replace", text, "_", "?"), to)


def _truth(text: exp.Expr) -> exp.Expr:
    """1 of the text `true`, 0 of `false`, else null."""
    is_true, is_false = (sql.binary(exp.EQ, text.copy(), sql.literal(word)) for word in ("true", "false"))
    return sql.case((is_true, sql.literal(1)), (is_false, sql.literal(0)), otherwise=exp.Null())


def _whole_of_dynamic(text: exp.Expr, whole: exp.Expr, truth: exp.Expr, cut: exp.Expr) -> Sql:
    """A dynamic value's text as a whole number: as it is written, else what else the value is."""
    matches = expressions.matches(text.copy(), _WHOLE)
    return sql.case(
        (_is_written(text, KqlType.LONG), whole),
        (matches, sql.try_cast(sql.call("trim", text.copy()), KqlType.LONG)),
        otherwise=sql.coalesce(truth, cut),
    )


def _long(text: exp.Expr) -> exp.Expr:
    return sql.try_cast(text.copy(), KqlType.LONG)


@scalar(internal=True)
def long_of_dynamic(text: String, value: Dynamic) -> Long:
    """tolong() of a dynamic value, given as its text and itself: a number without its fraction, 1 of true."""
    truth = if_kind(value.copy(), _truth(text), "BOOLEAN")
    cut = if_kind(value, _long_of_real(_number(text.copy(), KqlType.REAL)), "DOUBLE")
    return _whole_of_dynamic(text, _long(text), truth, cut)


@scalar(internal=True)
def long_of_promoted(text: String) -> Long:
    """tolong() of a dynamic value of which the text alone is stored: what is written as a number is one."""
    return _whole_of_dynamic(
        text, _long(text), _truth(text), _long_of_real(_number(text.copy(), KqlType.REAL))
    )


def _int_of_real(value: exp.Expr) -> exp.Expr:
    return _within(value, KqlType.REAL, -(2**31), 2**31 - 1)


@scalar(internal=True)
def int_of_dynamic(text: String, value: Dynamic) -> Int:
    """toint() of a dynamic value, given as its text and itself; a number gives its lower 32 bits."""
    low = if_kind(value.copy(), low_bits(_long(text)), *WHOLE_KINDS)
    whole = sql.coalesce(sql.try_cast(text.copy(), KqlType.INT), low)
    truth = if_kind(value.copy(), _truth(text), "BOOLEAN")
    cut = if_kind(value, _int_of_real(_number(text.copy(), KqlType.REAL)), "DOUBLE")
    return sql.try_cast(_whole_of_dynamic(text, whole, truth, cut), KqlType.INT)


@scalar(internal=True)
def int_of_promoted(text: String) -> Int:
    """toint() of a dynamic value of which the text alone is stored."""
    cut = _int_of_real(_number(text.copy(), KqlType.REAL))
    return sql.try_cast(_whole_of_dynamic(text, low_bits(_long(text)), _truth(text), cut), KqlType.INT)


@scalar(internal=True)
def real_of_dynamic(text: String, value: Dynamic) -> Real:
    """todouble() of a dynamic value, given as its text and itself."""
    number = _number(text.copy(), KqlType.REAL)
    return sql.coalesce(number, sql.cast(if_kind(value, _truth(text), "BOOLEAN"), KqlType.REAL))


@scalar(internal=True)
def real_of_promoted(text: String) -> Real:
    """todouble() of a dynamic value of which the text alone is stored."""
    return sql.coalesce(_number(text.copy(), KqlType.REAL), sql.cast(_truth(text), KqlType.REAL))


OF_PROMOTED = {
    "long_of_dynamic": long_of_promoted.overloads[0],
    "int_of_dynamic": int_of_promoted.overloads[0],
    "real_of_dynamic": real_of_promoted.overloads[0],
}
"""For conversions that take a dynamic value's text and itself: those of a text that is promoted."""


@scalar(name_after="")
def tolong(value: String) -> Long:
    """The value as a 64-bit whole number; hexadecimal text is taken.

    >>> tolong("0x1F")
    31
    >>> tolong("many")
    null
    >>> tolong("1.5")
    null
    """
    return _whole(value, KqlType.LONG)


@tolong.overload
def _(value: Integer) -> Long:
    return sql.cast(value, KqlType.LONG)


@tolong.overload
def _(value: Number) -> Long:
    """A real beyond 64 bits gives the nearest long."""
    return _long_of_real(value)


def _long_of_real(value: exp.Expr) -> exp.Expr:
    found = sql.try_cast(sql.call("trunc", value), KqlType.LONG)
    finite = sql.call("isfinite", sql.cast(value.copy(), KqlType.REAL))
    end = sql.case(
        (sql.binary(exp.GT, value.copy(), sql.literal(0)), sql.literal(2**63 - 1)),
        otherwise=sql.literal(-(2**63) + 1),
    )
    return sql.coalesce(found, sql.case((finite, end), otherwise=sql.null(KqlType.LONG)))


@tolong.overload
def _(value: Bool) -> Long:
    return sql.cast(value, KqlType.LONG)


@tolong.overload
def _(value: Timespan) -> Long:
    return value


@tolong.overload
def _(value: Datetime) -> Long:
    return _ticks_since_year_1(value)


def _ticks_since_year_1(value: exp.Expr) -> exp.Expr:
    """A datetime as the number Kusto counts it by."""
    ticks = sql.binary(exp.Mul, sql.epoch_us(value), sql.literal(10))
    return sql.binary(exp.Add, ticks, sql.literal(621355968000000000))


@scalar(name_after="")
def toint(value: String) -> Int:
    """The value as a 32-bit whole number.

    >>> toint("12")
    12
    """
    return _whole(value, KqlType.INT)


@toint.overload
def _(value: IntegerArg) -> Int:
    """A long gives its lower 32 bits."""
    return value.sql if value.type is KqlType.INT else low_bits(value.sql)


def low_bits(value: exp.Expr) -> exp.Expr:
    """The lower 32 bits of a whole number, as an int."""
    low = sql.binary(exp.BitwiseAnd, value, sql.literal(2**32 - 1))
    upper = sql.binary(exp.GTE, low, sql.literal(2**31))
    wrapped = sql.case((upper, sql.binary(exp.Sub, low.copy(), sql.literal(2**32))), otherwise=low.copy())
    return sql.cast(wrapped, KqlType.INT)


@toint.overload
def _(value: Number) -> Int:
    return sql.cast(_within(value, KqlType.REAL, -(2**31), 2**31 - 1), KqlType.INT)


@toint.overload
def _(value: Bool) -> Int:
    return sql.cast(value, KqlType.INT)


@toint.overload
def _(value: Timespan) -> Int:
    """The lower 32 bits of its ticks."""
    return low_bits(value)


@toint.overload
def _(value: Datetime) -> Int:
    return low_bits(_ticks_since_year_1(value))


@scalar(aliases=("toreal",), name_after="")
def todouble(value: String) -> Real:
    """The value as a real.

    >>> todouble("1.5")
    1.5
    >>> todouble("1_000")
    null
    """
    return _number(value, KqlType.REAL)


@todouble.overload
def _(value: Number) -> Real:
    return sql.cast(value, KqlType.REAL)


@todouble.overload
def _(value: Bool) -> Real:
    return sql.cast(value, KqlType.REAL)


@todouble.overload
def _(value: Timespan) -> Real:
    return sql.cast(value, KqlType.REAL)


@todouble.overload
def _(value: Datetime) -> Real:
    return sql.cast(_ticks_since_year_1(value), KqlType.REAL)


@scalar(name_after="")
def todecimal(value: String) -> Decimal:
    """The value as a decimal.

    >>> todecimal("1.5")
    1.5
    """
    return _number(value, KqlType.DECIMAL)


@todecimal.overload
def _(value: NumberArg) -> Decimal:
    return sql.decimal(value)


@scalar(aliases=("toboolean",), name_after="")
def tobool(value: String) -> Bool:
    """The value as a bool: text true and false in any case, whole numbers by being other than 0.

    >>> tobool("True")
    True
    >>> tobool(" 2 ")
    True
    >>> tobool("1.5")
    null
    >>> tobool("yes")
    null
    """
    bare = sql.lower(sql.call("regexp_replace", value, r"^\s+|\s+$", "", "g"))
    number = sql.binary(exp.NEQ, sql.try_cast(bare.copy(), KqlType.LONG), sql.literal(0))
    return sql.case(
        (exp.In(this=value.copy(), expressions=[sql.literal("true"), sql.literal("True")]), exp.true()),
        (exp.In(this=value.copy(), expressions=[sql.literal("false"), sql.literal("False")]), exp.false()),
        (sql.binary(exp.EQ, bare, sql.literal("true")), exp.true()),
        (sql.binary(exp.EQ, bare.copy(), sql.literal("false")), exp.false()),
        (expressions.matches(bare.copy(), r"^[+-]?\d+$"), number),
        otherwise=sql.null(KqlType.BOOL),
    )


@tobool.overload
def _(value: Number) -> Bool:
    return sql.binary(exp.NEQ, value, sql.literal(0))


@tobool.overload
def _(value: Bool) -> Bool:
    return value


@tobool.overload
def _(value: Timespan) -> Bool:
    return sql.binary(exp.NEQ, value, sql.literal(0))


@tobool.overload
def _(value: Datetime) -> Bool:
    return sql.binary(exp.NEQ, _ticks_since_year_1(value), sql.literal(0))


_ISO = r"^\d{4}-\d{2}-\d{2}([T ]([01]\d|2[0-3]):\d{2}(:\d{2}(\.\d{1,9})?)?Z?)?$"
_ISO_WITH_OFFSET = r"^\d{4}-\d{2}-\d{2}[T ]([01]\d|2[0-3]):\d{2}:\d{2}(\.\d{1,9})?[+-]\d{2}(:?\d{2})?$"
_MAYBE_TIME = r"^[^0-9]{0,20}[0-9][\s\S]{0,60}$"


@scalar(name_after="")
def todatetime(value: String) -> Datetime:
    """The text as a datetime in UTC; an offset in it is applied.

    >>> todatetime("2020-01-01T02:00:00+02:00")
    2020-01-01T00:00:00.0000000Z
    >>> todatetime("Wed, 01 Jan 20 02:00:00 GMT")
    2020-01-01T02:00:00.0000000Z
    >>> todatetime("soon")
    null
    """
    # The engine's own cast reads only what is surely ISO 8601: it passes over an offset or a PM at the end.
    zoned = sql.call("epoch_us", exp.TryCast(this=value.copy(), to=exp.DataType.build("TIMESTAMPTZ")))
    return sql.case(
        (expressions.matches(value, _ISO), sql.try_cast(value.copy(), KqlType.DATETIME)),
        (
            expressions.matches(value.copy(), _ISO_WITH_OFFSET),
            sql.call("make_timestamp", zoned),
        ),
        (
            expressions.matches(value.copy(), _MAYBE_TIME),
            datetime_of_text.overloads[0].build(value.copy()),
        ),
        otherwise=sql.null(KqlType.DATETIME),
    )


@python("datetime_of_text", internal=True)
def datetime_of_text(text: Text) -> Moment | None:
    """The text as a datetime, by the rules for literals."""
    return datetime_ticks(text)


@todatetime.overload
def _(value: Datetime) -> Datetime:
    return value


@todatetime.overload
def _(value: Integer) -> Datetime:
    """Of ticks since year 1; null beyond year 9999."""
    micros = sql.binary(exp.IntDiv, sql.cast(value, KqlType.LONG), sql.literal(10))
    since_1970 = sql.binary(exp.Sub, micros, sql.literal(62135596800000000))
    known = exp.Between(this=value.copy(), low=sql.literal(0), high=sql.literal(3155378975999999999))
    return sql.case((known, sql.call("make_timestamp", since_1970)), otherwise=sql.null(KqlType.DATETIME))


_AMOUNT = r"^\s*([+-]?)(\d{0,19})((?:\.\d{0,40})?)\s*([a-z]{0,12})\s*$"
_CLOCK = r"^\s*([+-]?)(?:(\d{1,8})[.:])??(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?\s*$"


@scalar(aliases=("totime",), name_after="")
def totimespan(value: String) -> Timespan:
    """The text [-][d.]hh:mm[:ss[.fffffff]], an amount with its unit or a number of days as a timespan.

    >>> totimespan("1.02:03:04")
    1.02:03:04
    >>> totimespan("90m")
    01:30:00
    >>> totimespan("later")
    null
    """

    return sql.case(
        (expressions.matches(value.copy(), r"^[+-]?\d+$"), _days(value.copy())),
        (expressions.matches(value, _CLOCK), _clock(value.copy())),
        (expressions.matches(value.copy(), _AMOUNT), _amount(value.copy())),
        otherwise=sql.null(KqlType.TIMESPAN),
    )


def _clock(text: exp.Expr) -> exp.Expr:
    """The ticks of days, hours, minutes and seconds, as of a literal; null of more than 64 bits of them."""
    groups = ("sign", "days", "hours", "minutes", "seconds", "fraction")
    names = exp.Array(expressions=[sql.literal(name) for name in groups])
    return sql.let(sql.call("regexp_extract", text, _CLOCK, names), "th_clock", _ticks_of_clock)


def _ticks_of_clock(parts: exp.Expr) -> exp.Expr:
    def number(name: str) -> exp.Expr:
        digits = sql.call("nullif", sql.field(parts.copy(), name), "")
        return sql.coalesce(sql.try_cast(digits, KqlType.LONG), sql.literal(0))

    whole: exp.Expr = sql.huge(number("days"))
    fits = []
    for name, most in (("hours", 24), ("minutes", 60), ("seconds", 60)):
        whole = sql.binary(exp.Add, sql.binary(exp.Mul, whole, sql.literal(most)), number(name))
        fits.append(sql.binary(exp.LT, number(name), sql.literal(most)))
    fraction = sql.try_cast(sql.call("rpad", sql.field(parts.copy(), "fraction"), 7, "0"), KqlType.LONG)
    ticks = sql.binary(exp.Add, sql.binary(exp.Mul, whole, sql.literal(TICKS_PER_SECOND)), fraction)
    total = sql.binary(exp.Mul, ticks, _direction(parts))
    return sql.case((sql.all_of(*fits), sql.try_cast(total, KqlType.LONG)), otherwise=exp.Null())


def _direction(parts: exp.Expr) -> exp.Expr:
    is_negative = sql.binary(exp.EQ, sql.field(parts.copy(), "sign"), sql.literal("-"))
    return sql.case((is_negative, sql.literal(-1)), otherwise=sql.literal(1))


def _days(text: exp.Expr) -> exp.Expr:
    """The ticks of a number of days, which is told sooner than an amount."""
    days = sql.try_cast(text, KqlType.LONG)
    most = TIMESPAN_MAX // TICKS_PER_DAY
    within = exp.Between(this=days, low=sql.literal(-most), high=sql.literal(most))
    ticks = sql.binary(exp.Mul, days.copy(), sql.literal(TICKS_PER_DAY))
    return sql.case((within, ticks), otherwise=exp.Null())


def _amount(text: exp.Expr) -> exp.Expr:
    """The ticks of an amount with its unit, or of a whole number of days, as of a literal; else null."""
    groups = ("sign", "whole", "point", "unit")
    names = exp.Array(expressions=[sql.literal(name) for name in groups])
    return sql.let(sql.call("regexp_extract", text, _AMOUNT, names), "th_amount", _ticks_of_amount)


def _ticks_of_amount(parts: exp.Expr) -> exp.Expr:
    whole, point, unit = (sql.field(parts.copy(), name) for name in ("whole", "point", "unit"))
    by_size: dict[int, list[exp.Expr]] = {}
    for name, ticks in TIMESPAN_UNITS.items():
        by_size.setdefault(int(ticks * 100), []).append(sql.literal(name))
    sizes = [
        (exp.In(this=unit.copy(), expressions=names), sql.literal(size)) for size, names in by_size.items()
    ]
    is_plain = sql.binary(exp.EQ, sql.call("concat", point, unit), sql.literal(""))
    size = sql.huge(sql.case(*sizes, (is_plain, sql.literal(TICKS_PER_DAY * 100)), otherwise=exp.Null()))
    # A text without a digit is no number: '0' stands before the point only where digits follow it.
    has_digits = sql.binary(exp.GT, sql.call("length", point.copy()), sql.literal(1))
    zero = sql.case((has_digits, sql.literal("0")), otherwise=exp.Null())
    ones = sql.huge(sql.coalesce(sql.call("nullif", whole, ""), zero))
    digits = sql.huge(sql.call("rpad", sql.call("substr", point.copy(), 2), 18, "0"))
    below = sql.binary(exp.IntDiv, sql.binary(exp.Mul, digits, size.copy()), sql.huge(sql.literal(10**18)))
    hundredths = sql.binary(exp.Add, sql.binary(exp.Mul, ones, size), below)
    found = sql.binary(exp.IntDiv, hundredths, sql.literal(100))
    return sql.try_cast(sql.binary(exp.Mul, found, _direction(parts)), KqlType.LONG)


@totimespan.overload
def _(value: Timespan) -> Timespan:
    return value


@totimespan.overload
def _(value: NumberArg) -> Timespan:
    # A bare number is a count of days.
    return sql.attempt(
        value.sql, lambda days: sql.cast(sql.binary(exp.Mul, days, sql.literal(TICKS_PER_DAY)), KqlType.LONG)
    )


@scalar(name_after="")
def toguid(value: String) -> Guid:
    """The text as a guid, in lower case with dashes.

    >>> toguid("70fc66f7-8279-44fc-9092-d364d70fce44")
    70fc66f7-8279-44fc-9092-d364d70fce44
    """
    return sql.cast(exp.TryCast(this=value, to=exp.DataType.build("UUID", dialect="duckdb")), KqlType.STRING)


@toguid.overload
def _(value: Guid) -> Guid:
    return value


@scalar(name_after="type")
def gettype(value: AnyArg) -> String:
    """The name of the value's type; of a dynamic that of the value inside.

    >>> gettype(1)
    long
    >>> gettype(dynamic([1]))
    array
    """
    if value.type is not KqlType.DYNAMIC:
        return sql.literal(value.type.value)
    names = {
        "OBJECT": "dictionary",
        "ARRAY": "array",
        "VARCHAR": "string",
        "BOOLEAN": "bool",
        "BIGINT": "long",
        "UBIGINT": "long",
        "DOUBLE": "double",
    }
    kind = sql.call("json_type", value.sql)
    branches = [
        (exp.EQ(this=kind.copy(), expression=sql.literal(k)), sql.literal(v)) for k, v in names.items()
    ]
    return sql.case(*branches, otherwise=sql.literal("null"))
