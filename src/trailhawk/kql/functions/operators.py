"""KQL's operators, registered under the way they are written.

Equality and the text operators are total: they give true or false for a null beside a value, null only
for two nulls. Ordering is three-valued. Strings are never null. NaN equals nothing and has no order:
that is `not_nan`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from sqlglot import exp

from trailhawk.kql import decimals
from trailhawk.kql.functions import expressions, sql
from trailhawk.kql.functions.python import Exact, python
from trailhawk.kql.functions.registry import (
    AnyArg,
    Arg,
    Arithmetic,
    Bool,
    Datetime,
    Integer,
    Long,
    Number,
    NumberArg,
    Real,
    String,
    Timespan,
    scalar,
)
from trailhawk.kql.types import KqlType

# --- logic -------------------------------------------------------------------------------------------------


@scalar("and", internal=True)
def and_(left: Bool, right: Bool) -> Bool:
    """True if both are true."""
    return sql.all_of(left, right)


@scalar("or", internal=True)
def or_(left: Bool, right: Bool) -> Bool:
    """True if one is true."""
    return sql.any_of(left, right)


@scalar("not")
def not_(value: Bool) -> Bool:
    """The opposite; null of null.

    >>> not(1 == 1)
    False
    """
    return sql.negate(value)


# --- comparison --------------------------------------------------------------------------------------------


def _never_null(arg: Arg) -> bool:
    return arg.type is KqlType.STRING or isinstance(arg.value, bool | int | float | str)


def _may_be_nan(arg: Arg) -> bool:
    return arg.type is KqlType.REAL and (not isinstance(arg.value, int | float) or math.isnan(arg.value))


def not_nan(found: exp.Expr, value: Arg) -> exp.Expr:
    """What was found of a value, false where it is NaN: the engine has NaN equal to itself, above infinity.

    A bound, as the engine joins it with the other one that a comparison with a constant is: the value is then
    computed once.
    """
    if not _may_be_nan(value):
        return found
    most = sql.constant(math.inf, KqlType.REAL)
    return sql.all_of(found, sql.binary(exp.LTE, value.sql.copy(), most))


def same(found: exp.Expr, value: Arg, others: Iterable[Arg]) -> exp.Expr:
    """What the engine found by whether a value equals one of the others, false where both are NaN."""
    return not_nan(found, value) if any(map(_may_be_nan, others)) else found


def _equal(left: Arg, right: Arg, kind: type[exp.Binary]) -> exp.Expr:
    found = _equal_or_nan(left, right, kind)
    if kind is exp.EQ:
        return same(found, left, [right])
    differs = same(exp.true(), left, [right])
    return found if isinstance(differs, exp.Boolean) else sql.any_of(found, sql.negate(differs))


def _equal_or_nan(left: Arg, right: Arg, kind: type[exp.Binary]) -> exp.Expr:
    plain = sql.binary(kind, left.sql, right.sql)
    certain = [_never_null(left), _never_null(right)]
    if all(certain):
        return plain
    if any(certain):
        return sql.coalesce(plain, exp.Boolean(this=kind is exp.NEQ))
    distinct = exp.NullSafeNEQ if kind is exp.NEQ else exp.NullSafeEQ
    both = sql.all_of(sql.is_null(left.sql.copy()), sql.is_null(right.sql.copy()))
    return sql.case(
        (both, sql.null(KqlType.BOOL)), otherwise=sql.binary(distinct, left.sql.copy(), right.sql.copy())
    )


@scalar("==", internal=True)
def equal(left: AnyArg, right: AnyArg) -> Bool:
    """Equal, case-sensitive; a null equals no value, NaN not even NaN."""
    return _equal(left, right, exp.EQ)


@scalar("!=", internal=True)
def not_equal(left: AnyArg, right: AnyArg) -> Bool:
    """Not equal; a null differs from every value."""
    return _equal(left, right, exp.NEQ)


def _ordered(kind: type[exp.Binary], left: Arg, right: Arg) -> exp.Expr:
    """The comparison; false with NaN, which the engine has above all numbers."""
    most, least = (left, right) if kind in (exp.GT, exp.GTE) else (right, left)
    if not _may_be_nan(most) or most.sql.find(exp.Subquery) is None:
        return not_nan(sql.binary(kind, left.sql, right.sql), most)
    # A query would be run for each place where it is written: with the signs turned, its NaN is where it is
    # never above the other side.
    turned = [exp.Neg(this=exp.Paren(this=sql.cast(arg.sql, KqlType.REAL))) for arg in (right, left)]
    return not_nan(sql.binary(kind, *turned), least)


@scalar("<", internal=True)
def less(left: AnyArg, right: AnyArg) -> Bool:
    """Less than; null if one is null, false if one is NaN."""
    return _ordered(exp.LT, left, right)


@scalar("<=", internal=True)
def less_or_equal(left: AnyArg, right: AnyArg) -> Bool:
    """At most; null if one is null, false if one is NaN."""
    return _ordered(exp.LTE, left, right)


@scalar(">", internal=True)
def greater(left: AnyArg, right: AnyArg) -> Bool:
    """Greater than; null if one is null, false if one is NaN."""
    return _ordered(exp.GT, left, right)


@scalar(">=", internal=True)
def greater_or_equal(left: AnyArg, right: AnyArg) -> Bool:
    """At least; null if one is null, false if one is NaN."""
    return _ordered(exp.GTE, left, right)


@scalar("=~", internal=True)
def equal_fold(left: String, right: String) -> Bool:
    """Equal without regard to case."""
    return sql.binary(exp.EQ, sql.lower(left), sql.lower(right))


@scalar("!~", internal=True)
def not_equal_fold(left: String, right: String) -> Bool:
    """Not equal without regard to case."""
    return sql.binary(exp.NEQ, sql.lower(left), sql.lower(right))


# --- arithmetic --------------------------------------------------------------------------------------------


@scalar("+", internal=True)
def add(left: NumberArg, right: NumberArg) -> Arithmetic:
    """Sum; int and int give long."""
    return sql.binary(exp.Add, *sql.alike(left, right))


@add.overload
def _(left: Datetime, right: Timespan) -> Datetime:
    return sql.binary(exp.Add, left, sql.ticks_to_interval(right))


@add.overload
def _(left: Timespan, right: Datetime) -> Datetime:
    return sql.binary(exp.Add, right, sql.ticks_to_interval(left))


@add.overload
def _(left: Timespan, right: Timespan) -> Timespan:
    return sql.binary(exp.Add, left, right)


@scalar("-", internal=True)
def subtract(left: NumberArg, right: NumberArg) -> Arithmetic:
    """Difference; int and int give long."""
    return sql.binary(exp.Sub, *sql.alike(left, right))


@subtract.overload
def _(left: Datetime, right: Timespan) -> Datetime:
    return sql.binary(exp.Sub, left, sql.ticks_to_interval(right))


@subtract.overload
def _(left: Datetime, right: Datetime) -> Timespan:
    return sql.binary(exp.Mul, sql.binary(exp.Sub, sql.epoch_us(left), sql.epoch_us(right)), sql.literal(10))


@subtract.overload
def _(left: Timespan, right: Timespan) -> Timespan:
    return sql.binary(exp.Sub, left, right)


@scalar("*", internal=True)
def multiply(left: NumberArg, right: NumberArg) -> Arithmetic:
    """Product; a timespan may be multiplied by a number."""
    if KqlType.DECIMAL not in (left.type, right.type) or left.type.is_integer or right.type.is_integer:
        return sql.binary(exp.Mul, left.sql, right.sql)
    return decimal_product(sql.decimal(left), sql.decimal(right))


@python("decimal_product", internal=True)
def decimal_product(left: Exact, right: Exact) -> Exact | None:
    """A product of decimals; the engine's own has the places of both and four digits before the point."""
    return None if left is None or right is None else decimals.product(left, right)


def _scaled(timespan: exp.Expr, factor: Arg) -> exp.Expr:
    product = sql.binary(exp.Mul, timespan, factor.sql)
    return product if factor.type.is_integer else sql.try_cast(product, KqlType.LONG)


@multiply.overload
def _(left: Timespan, right: NumberArg) -> Timespan:
    return _scaled(left, right)


@multiply.overload
def _(left: NumberArg, right: Timespan) -> Timespan:
    return _scaled(right, left)


@scalar("/", internal=True)
def divide(left: Integer, right: Integer) -> Arithmetic:
    """Quotient; of two integers it is cut off, of two timespans it is a real. An integer by 0 is null."""
    return sql.binary(exp.IntDiv, left, right)


@divide.overload
def _(left: NumberArg, right: NumberArg) -> Arithmetic:
    if KqlType.DECIMAL in (left.type, right.type):
        return decimal_quotient(sql.decimal(left), sql.decimal(right))
    return sql.binary(exp.Div, left.sql, right.sql)


@python("decimal_quotient", internal=True)
def decimal_quotient(left: Exact, right: Exact) -> Exact | None:
    """A quotient of decimals; the engine's own is a real."""
    return None if left is None or right is None else decimals.quotient(left, right)


@divide.overload
def _(left: Timespan, right: Timespan) -> Real:
    return sql.binary(exp.Div, sql.cast(left, KqlType.REAL), sql.cast(right, KqlType.REAL))


@divide.overload
def _(left: Timespan, right: NumberArg) -> Timespan:
    if right.type.is_integer:
        return sql.binary(exp.IntDiv, left, right.sql)
    return sql.try_cast(sql.binary(exp.Div, left, right.sql), KqlType.LONG)


@scalar("%", internal=True)
def modulo(left: Integer, right: Integer) -> Arithmetic:
    """Remainder, never negative.

    >>> -7 % 5
    3
    >>> 0.1 % 1
    0.1
    """
    return sql.floor_mod(left, right)


@modulo.overload
def _(left: NumberArg, right: NumberArg) -> Arithmetic:
    value, divisor = sql.alike(left, right)
    once = sql.binary(exp.Mod, value, divisor)  # A size added to it and taken off would cost digits.
    size = exp.Abs(this=divisor.copy())
    more = sql.binary(exp.Add, once.copy(), size)
    zero = sql.literal(0)
    return sql.case(
        (sql.binary(exp.GT, once, zero), once.copy()),
        (sql.binary(exp.LT, more, size.copy()), more.copy()),  # The sum of a tiny one is the size itself.
        (sql.binary(exp.LTE, once.copy(), zero.copy()), zero.copy()),  # Not -0.0, and null of null.
        otherwise=exp.Null(),
    )


@modulo.overload
def _(left: Timespan, right: Timespan) -> Timespan:
    return sql.floor_mod(left, right)


@scalar("neg", internal=True)
def neg(value: Number) -> Arithmetic:
    """The number with its sign turned: what unary minus means."""
    return exp.Neg(this=exp.Paren(this=value))


@neg.overload
def _(value: Timespan) -> Timespan:
    return exp.Neg(this=exp.Paren(this=value))


def _wide(kind: type[exp.Binary], left: exp.Expr, right: exp.Expr) -> exp.Expr:
    """A whole number computed in 128 bits, of which the lower 64 stay."""
    return sql.lower_bits(sql.binary(kind, sql.huge(left), sql.huge(right)))


@scalar("wide_add", internal=True)
def wide_add(left: Integer, right: Integer) -> Long:
    """Sum of whole numbers that goes on at the other end of 64 bits."""
    return _wide(exp.Add, left, right)


@scalar("wide_subtract", internal=True)
def wide_subtract(left: Integer, right: Integer) -> Long:
    """Difference of whole numbers that goes on at the other end of 64 bits."""
    return _wide(exp.Sub, left, right)


@scalar("wide_multiply", internal=True)
def wide_multiply(left: Integer, right: Integer) -> Long:
    """Product of whole numbers, of which the lower 64 bits stay."""
    return _wide(exp.Mul, left, right)


@scalar("wide_divide", internal=True)
def wide_divide(left: Integer, right: Integer) -> Long:
    """Quotient of whole numbers; the least one by -1 stays as it is, by 0 it is null."""
    return _wide(exp.IntDiv, left, right)


@scalar("wide_modulo", internal=True)
def wide_modulo(left: Integer, right: Integer) -> Long:
    """Remainder of whole numbers, by those near the ends of 64 bits too."""
    return sql.lower_bits(sql.floor_mod(sql.huge(left), sql.huge(right)))


@scalar("wide_bin", internal=True)
def wide_bin(value: Integer, size: Integer) -> Long:
    """A whole number rounded down to a multiple, of one near the ends of 64 bits too."""
    upward = sql.binary(exp.GTE, size, sql.literal(0))
    step = sql.case((upward, sql.huge(size.copy())), otherwise=exp.Null())
    floored = sql.floor_mod(sql.huge(value.copy()), step)
    return sql.lower_bits(sql.binary(exp.Sub, sql.huge(value), floored))


@scalar("wide_abs", internal=True)
def wide_abs(value: Integer) -> Long:
    """The whole number without its sign; the least one stays as it is."""
    return sql.lower_bits(exp.Abs(this=sql.huge(value)))


@scalar("wide_neg", internal=True)
def wide_neg(value: Integer) -> Long:
    """The whole number with its sign turned; the least one stays as it is."""
    return _wide(exp.Sub, sql.literal(0), value)


# --- text --------------------------------------------------------------------------------------------------

# What parts terms: all of ASCII and Latin-1 that is no letter or digit, and the blocks of punctuation, signs,
# arrows, boxes and pictures. The classes of Unicode (\\p{L}) say it in full, at 4 ms a pattern to compile.
_SEPARATORS = (
    r"\x00-/:-@\[-`{-\x{A9}\x{AB}-\x{B1}\x{B4}\x{B6}-\x{B8}\x{BB}\x{BF}\x{D7}\x{F7}\x{2000}-\x{206F}"
    r"\x{20A0}-\x{20CF}\x{2190}-\x{245F}\x{249C}-\x{24B5}\x{2500}-\x{2775}\x{2794}-\x{2BFF}\x{3000}-\x{3004}"
    r"\x{3008}-\x{3020}\x{FE10}-\x{FE6F}\x{FF00}-\x{FF0F}\x{FF1A}-\x{FF20}\x{FF3B}-\x{FF40}\x{FF5B}-\x{FF65}"
    r"\x{1F000}-\x{1FAFF}"
)
_TERM_START = f"(?:^|[{_SEPARATORS}])"
_TERM_END = f"(?:$|[{_SEPARATORS}])"
SEPARATOR = re.sub(r"\\x\{(\w+)\}", lambda found: chr(int(found[1], 16)), f"[{_SEPARATORS}]")
"""One character that parts terms, in Python's syntax."""
_IS_SEPARATOR = re.compile(SEPARATOR)


def term_start(needle: str) -> str:
    """What stands before the needle as a term, in RE2: nothing, where it begins with what parts terms."""
    return "" if _IS_SEPARATOR.match(needle[:1]) or not needle else _TERM_START


def term_end(needle: str) -> str:
    """What stands after the needle as a term, in RE2: nothing, where it ends with what parts terms."""
    return "" if _IS_SEPARATOR.match(needle[-1:]) or not needle else _TERM_END


_SPECIAL = frozenset(r"\.+*?()|[]{}^$")


def _escape(needle: str) -> str:
    """The needle as a literal in RE2 syntax (re.escape escapes more than RE2 takes)."""
    return "".join("\\" + char if char in _SPECIAL else char for char in needle)


def _folded(name: str, source: exp.Expr, needle: exp.Expr) -> exp.Expr:
    """A test of the source against the needle without regard to case; for a needle without letters the
    source need not be folded."""
    constant = sql.string_value(needle)
    if constant is not None and constant.isascii() and constant.lower() == constant.upper():
        return sql.call(name, source, needle)
    return sql.call(name, sql.lower(source), sql.lower(needle))


def _edge(needle: exp.Expr, in_term: str, boundary: str) -> exp.Expr:
    """The boundary, for a needle that begins or ends inside a term; elsewhere it is one itself."""
    is_inside = sql.call("regexp_matches", needle.copy(), in_term)
    return sql.case((is_inside, exp.Literal.string(boundary)), otherwise=exp.Literal.string(""))


def _term(
    source: exp.Expr, needle: exp.Expr, *, fold: bool, before: bool = True, after: bool = True
) -> exp.Expr:
    """Does `needle` stand in `source` with term boundaries (non-alphanumeric or an end) at its sides, where
    it does not itself begin or end with what parts terms?

    A cheap substring test goes before the regular expression.
    """
    constant = sql.string_value(needle)
    found = _folded("contains", source, needle) if fold else sql.call("contains", source, needle)
    if constant is None:
        parts: list[exp.Expr] = [sql.call("regexp_escape", needle.copy())]
        if before:
            parts.insert(0, _edge(needle, f"^[^{_SEPARATORS}]", _TERM_START))
        if after:
            parts.append(_edge(needle, f"[^{_SEPARATORS}]$", _TERM_END))
        pattern: exp.Expr = sql.call("concat", *parts)
    else:
        if constant == "":
            return exp.true()
        left = term_start(constant) if before else ""
        right = term_end(constant) if after else ""
        if not left and not right:
            return found
        pattern = exp.Literal.string(left + _escape(constant) + right)
    matches = expressions.matches(source.copy(), pattern, fold=fold)
    if constant is None:  # AND computes both sides where it is no filter: an expression for each row
        return sql.case((found, matches), otherwise=exp.false())
    return sql.all_of(found, matches)


@scalar("has_any_of", internal=True)
def has_any_of(source: String, *terms: String) -> Bool:
    """Is one of the texts a whole term of the source? What has_any with a list means.

    Constant terms share one regular expression.
    """
    needles = [sql.string_value(term) for term in terms]
    if len(needles) < 2 or not all(needles):
        return sql.any_of(*[_term(source.copy(), term, fold=True) for term in terms])
    groups: dict[tuple[str, str], list[str]] = {}
    for needle in needles:
        assert needle
        groups.setdefault((term_start(needle), term_end(needle)), []).append(_escape(needle))
    lowered = sql.lower(source)
    found = [sql.call("contains", lowered.copy(), sql.lower(term)) for term in terms]
    matches = [
        expressions.matches(source.copy(), f"{before}(?:{'|'.join(group)}){after}", fold=True)
        for (before, after), group in groups.items()
    ]
    return sql.all_of(sql.any_of(*found), sql.any_of(*matches))


@scalar(internal=True)
def has(source: String, term: String) -> Bool:
    """Is the text a whole term of the source, without regard to case?

    >>> "North America" has "america"
    True
    >>> "North America" has "amer"
    False
    """
    return _term(source, term, fold=True)


@scalar("has_anywhere", internal=True)
def has_anywhere(term: String, *sources: String) -> Bool:
    """Is the text a whole term of one of the sources? What `* has` means, for a text without line ends.

    One regular expression over the sources as lines, where one of them holds the text at all: to make one
    for each of fifty columns takes longer than many a search.
    """
    lines = sql.call("concat_ws", sql.call("chr", 10), *[source.copy() for source in sources])
    found = [_folded("contains", source, term.copy()) for source in sources]
    return sql.all_of(sql.any_of(*found), _term(lines, term, fold=True))


@scalar(internal=True)
def has_cs(source: String, term: String) -> Bool:
    """Is the text a whole term of the source?

    >>> "North America" has_cs "america"
    False
    """
    return _term(source, term, fold=False)


@scalar(internal=True)
def hasprefix(source: String, term: String) -> Bool:
    """Does a term of the source begin with the text, without regard to case?

    >>> "North America" hasprefix "ame"
    True
    """
    return _term(source, term, fold=True, after=False)


@scalar(internal=True)
def hasprefix_cs(source: String, term: String) -> Bool:
    """Does a term of the source begin with the text?

    >>> "North America" hasprefix_cs "ame"
    False
    """
    return _term(source, term, fold=False, after=False)


@scalar(internal=True)
def hassuffix(source: String, term: String) -> Bool:
    """Does a term of the source end with the text, without regard to case?

    >>> "North America" hassuffix "RICA"
    True
    """
    return _term(source, term, fold=True, before=False)


@scalar(internal=True)
def hassuffix_cs(source: String, term: String) -> Bool:
    """Does a term of the source end with the text?

    >>> "North America" hassuffix_cs "RICA"
    False
    """
    return _term(source, term, fold=False, before=False)


@scalar(internal=True)
def contains(source: String, text: String) -> Bool:
    """Does the text stand anywhere in the source, without regard to case?

    >>> "North America" contains "H AM"
    True
    """
    return _folded("contains", source, text)


@scalar(internal=True)
def contains_cs(source: String, text: String) -> Bool:
    """Does the text stand anywhere in the source?

    >>> "North America" contains_cs "H AM"
    False
    """
    return sql.call("contains", source, text)


@scalar(internal=True)
def startswith(source: String, text: String) -> Bool:
    """Does the source begin with the text, without regard to case?

    >>> "arn:aws:iam" startswith "ARN:"
    True
    """
    return _folded("starts_with", source, text)


@scalar(internal=True)
def startswith_cs(source: String, text: String) -> Bool:
    """Does the source begin with the text?

    >>> "arn:aws:iam" startswith_cs "ARN:"
    False
    """
    return sql.call("starts_with", source, text)


@scalar(internal=True)
def endswith(source: String, text: String) -> Bool:
    """Does the source end with the text, without regard to case?

    >>> "s3.amazonaws.com" endswith ".COM"
    True
    """
    return _folded("ends_with", source, text)


@scalar(internal=True)
def endswith_cs(source: String, text: String) -> Bool:
    """Does the source end with the text?

    >>> "s3.amazonaws.com" endswith_cs ".COM"
    False
    """
    return sql.call("ends_with", source, text)


@scalar("matches regex", internal=True)
def matches_regex(source: String, pattern: String) -> Bool:
    """Does the regular expression (RE2) match anywhere in the source?

    >>> "i-0a1b2c3d" matches regex "^i-[0-9a-f]+$"
    True
    """
    return expressions.matches(source, expressions.regex(pattern))


# --- lists -------------------------------------------------------------------------------------------------


@scalar("in", internal=True)
def in_(value: AnyArg, *items: AnyArg) -> Bool:
    """Is the value one of the items? False for null."""
    test = same(exp.In(this=value.sql, expressions=[item.sql for item in items]), value, items)
    return test if value.type is KqlType.STRING else sql.coalesce(test, exp.false())


@scalar("in~", internal=True)
def in_fold(value: String, *items: String) -> Bool:
    """Is the text one of the items, without regard to case?"""
    return exp.In(this=sql.lower(value), expressions=[sql.lower(item) for item in items])


@scalar("parse_group", internal=True)
def parse_group(source: String, pattern: String, group: AnyArg) -> String:
    """A group (a constant number) of the parse operator's pattern."""
    return expressions.group(source, pattern, int(str(group.value)))


@scalar("random_place", internal=True)
def random_place() -> Real:
    """A number by chance: the order in which sample draws its rows."""
    return sql.call("random")
