"""Decimals as the engine holds them: 21 digits before the point, 17 behind it."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal

EXACT = Context(prec=80, rounding=ROUND_HALF_UP)
"""Products of two of them have all their digits."""
_PLACES, _END = Decimal("1e-17"), 10**21


def held(number: Decimal) -> Decimal | None:
    """The number with the engine's places; None where it has too many digits before the point."""
    if not number.is_finite() or number.copy_abs() >= _END:
        return None
    rounded = number.quantize(_PLACES, context=EXACT)
    return (rounded or Decimal(0)) if rounded.copy_abs() < _END else None


def product(left: Decimal, right: Decimal) -> Decimal | None:
    return held(EXACT.multiply(left, right))


def quotient(left: Decimal, right: Decimal) -> Decimal | None:
    return held(EXACT.divide(left, right)) if right else None
