"""What the text of a literal stands for."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from trailhawk.errors import Span
from trailhawk.kql import literals, syntax
from trailhawk.kql.lexer import HEX, LONG, REAL, TIMESPAN, TYPED
from trailhawk.kql.types import TYPE_NAMES, KqlType

Moment = syntax.Call | syntax.Binary
"""`datetime()` and `datetime(8:30)`, which only the query's run knows."""
Json = str | int | float | bool | dict[str, object] | list[object] | Moment | None
"""What `dynamic(...)` holds."""
Value = bool | int | float | Decimal | str

LITERALS = frozenset({LONG, HEX, REAL, TIMESPAN, TYPED})
AMOUNT = re.compile(r"([0-9.]+)([a-z]+)")
_INTEGER = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]{1,16})|([0-9]{1,20}))")
_GUID = re.compile(
    r"([0-9a-fA-F]{8})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{12})"
)
_REAL = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|[+-]?\.[0-9]+([eE][+-]?[0-9]+)?")
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,7})?)?")
TYPED_NAMES = TYPE_NAMES | {"int32": KqlType.INT, "int64": KqlType.LONG}


def _integer(text: str, bits: int) -> int | None:
    found = _INTEGER.fullmatch(text)
    if found is None:
        return None
    value = int(found[2], 16) if found[2] else int(found[3])
    if found[2] and value >= 2 ** (bits - 1):
        value -= 2**bits  # 0xFFFFFFFFFFFFFFFF is -1
    value = -value if found[1] == "-" else value
    return value if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1) else None


def long(text: str) -> int | None:
    return _integer(text, 64)


def _int(text: str) -> int | None:
    return _integer(text, 32)


def _real(text: str) -> float | None:
    named = {"nan": "nan", "inf": "inf", "+inf": "inf", "-inf": "-inf"}.get(text.lower())
    return float(named or text) if named or _REAL.fullmatch(text) else None


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text) if _REAL.fullmatch(text) else None
    except InvalidOperation:
        return None


def _bool(text: str) -> bool | None:
    return {"true": True, "false": False, "1": True, "0": False}.get(text.lower())


def _guid(text: str) -> str | None:
    found = _GUID.fullmatch(text)
    return "-".join(found.groups()).lower() if found else None


READERS: dict[KqlType, Callable[[str], Value | None]] = {
    KqlType.BOOL: _bool,
    KqlType.INT: _int,
    KqlType.LONG: long,
    KqlType.REAL: _real,
    KqlType.DECIMAL: _decimal,
    KqlType.GUID: _guid,
    KqlType.DATETIME: literals.datetime_ticks,
    KqlType.TIMESPAN: literals.timespan_ticks,
}
"""What the text of a typed literal stands for, None for what is none."""


def time_of_day(text: str, span: Span) -> Moment | None:
    """What `datetime(8:30)` stands for: that time of the query's day; None where the text is no time."""
    ticks = literals.timespan_ticks(text) if _TIME_OF_DAY.fullmatch(text) else None
    if ticks is None:
        return None
    today = syntax.Call(span, "startofday", (syntax.Call(span, "now", (), span),), span)
    return syntax.Binary(span, "+", today, syntax.Literal(span, ticks, KqlType.TIMESPAN))


def json_number(text: str) -> int | float:
    value = long(text)
    return float(text) if value is None else value


def json_value(literal: syntax.Literal | Moment) -> Json:
    """A KQL literal inside a dynamic one, as JSON holds it; `datetime()` is a call still."""
    if not isinstance(literal, syntax.Literal):
        return literal
    value = literal.value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, int) and literal.type is KqlType.DATETIME:
        return literals.format_datetime(value)
    if isinstance(value, int) and literal.type is KqlType.TIMESPAN:
        return literals.format_timespan(value)
    return value


def packed(value: object, span: Span) -> syntax.Expr:
    """The JSON value as `dynamic(value)`; where a call stands in it, as calls that pack the like when it is
    known."""
    if isinstance(value, Moment):
        return syntax.Call(span, "todynamic", (value,), span)
    if isinstance(value, dict) and _holds_call(value):
        pairs = [
            each
            for name, item in value.items()
            for each in (syntax.Literal(span, name, KqlType.STRING), packed(item, span))
        ]
        return syntax.Call(span, "bag_pack", tuple(pairs), span)
    if isinstance(value, list) and _holds_call(value):
        return syntax.Call(span, "pack_array", tuple(packed(item, span) for item in value), span)
    assert value is None or isinstance(value, str | int | float | bool | dict | list)
    return syntax.Literal(span, value, KqlType.DYNAMIC)


def _holds_call(value: object) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, Moment) or any(map(_holds_call, items))
