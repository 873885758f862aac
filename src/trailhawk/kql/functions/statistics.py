"""Statistics: error function, beta distribution, Welch's test, random numbers and guids."""

from __future__ import annotations

import math

from sqlglot import exp

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.python import Float, python
from trailhawk.kql.functions.registry import Guid, Long, Real, Sql, scalar
from trailhawk.kql.types import KqlType

_STEPS = 2_000
_TINY = 1e-300
_MOST_SHAPE = 1e8  # beyond it neither the steps nor the digits of lgamma() are enough


@python(name_after="")
def erf(value: Float) -> Float | None:
    """The error function.

    >>> erf(0)
    0.0
    """
    return None if value is None else math.erf(value)


@python(name_after="")
def erfc(value: Float) -> Float | None:
    """One minus the error function.

    >>> erfc(0)
    1.0
    """
    return None if value is None else math.erfc(value)


@scalar()
def rand(count: Long | None = None) -> Real:
    """A random number from 0 to below 1, or a whole one from 0 to below `count`.

    >>> rand() < 1
    True
    >>> rand(1)
    0.0
    """
    number: Sql = sql.call("random")
    if count is None:
        return number
    return exp.Floor(this=sql.binary(exp.Mul, number, sql.cast(count, KqlType.REAL)))


@scalar()
def new_guid() -> Guid:
    """A random guid.

    >>> strlen(tostring(new_guid()))
    36
    """
    return sql.cast(sql.call("uuid"), KqlType.STRING)


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    found = d
    for m in range(1, _STEPS):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + step * d
            c = 1 + step / c
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = c if abs(c) > _TINY else _TINY
            found *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return found


def _beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _is_missing(*numbers: float | None) -> bool:
    return None in numbers


def _is_shape(*numbers: float) -> bool:
    return all(0 < number <= _MOST_SHAPE for number in numbers)


@python()
def beta_cdf(x: Float, alpha: Float, beta: Float) -> Float | None:
    """The share of a beta distribution up to x; NaN outside 0 to 1, and where alpha or beta is
    not above 0 or above 1e8.

    >>> beta_cdf(0.5, 2, 2)
    0.5
    >>> beta_cdf(1.5, 2, 2)
    nan
    >>> beta_cdf(real(null), 2, 2)
    null
    """
    if _is_missing(x, alpha, beta):
        return None
    if not 0 <= x <= 1 or not _is_shape(alpha, beta):
        return math.nan
    return _beta(x, alpha, beta)


@python()
def beta_pdf(x: Float, alpha: Float, beta: Float) -> Float | None:
    """The density of a beta distribution at x; NaN outside 0 to 1, and where alpha or beta is
    not above 0 or above 1e8.

    >>> round(beta_pdf(0.5, 2, 2), 9)
    1.5
    >>> beta_pdf(0.5, -2, 2)
    nan
    """
    if _is_missing(x, alpha, beta):
        return None
    if not 0 <= x <= 1 or not _is_shape(alpha, beta):
        return math.nan
    if x in (0, 1):
        here, other = (alpha, beta) if x == 0 else (beta, alpha)
        return other if here == 1 else 0.0 if here > 1 else math.inf
    scale = math.lgamma(alpha + beta) - math.lgamma(alpha) - math.lgamma(beta)
    try:
        return math.exp(scale + (alpha - 1) * math.log(x) + (beta - 1) * math.log1p(-x))
    except OverflowError:
        return math.inf


@python()
def beta_inv(probability: Float, alpha: Float, beta: Float) -> Float | None:
    """The x up to which a beta distribution has this share; null of no probability, NaN where alpha or beta
    is not above 0 or above 1e8.

    >>> round(beta_inv(0.5, 2, 2), 9)
    0.5
    >>> beta_inv(1.5, 2, 2)
    null
    >>> beta_inv(0.5, -2, 2)
    nan
    """
    if _is_missing(probability, alpha, beta) or not 0 <= probability <= 1:
        return None
    if not _is_shape(alpha, beta):
        return math.nan
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _beta(middle, alpha, beta) < probability else (low, middle)
    return (low + high) / 2


@python()
def welch_test(
    mean1: Float, variance1: Float, count1: Float, mean2: Float, variance2: Float, count2: Float
) -> Float | None:
    """The p-value of Welch's test that two samples have the same mean.

    >>> welch_test(5, 2, 10, 5, 2, 10)
    1.0
    >>> welch_test(1e308, 1, 10, 0, 1, 10)
    0.0
    """
    numbers = (mean1, variance1, count1, mean2, variance2, count2)
    if any(number is None for number in numbers) or count1 < 2 or count2 < 2:
        return None
    a, b = variance1 / count1, variance2 / count2
    if a < 0 or b < 0 or a + b == 0:
        return None
    apart, shares = mean1 - mean2, (a / (a + b), b / (a + b))
    squared = apart * apart / (a + b)
    freedom = 1 / (shares[0] ** 2 / (count1 - 1) + shares[1] ** 2 / (count2 - 1))
    return _beta(freedom / (freedom + squared), freedom / 2, 0.5)
