"""Ranges of time through functions: which moments give a value that lies in a range.

Ranges are half-open and in ticks, for rows whose times are whole microseconds. They may hold more than the
moments that give such a value, never less: the filters themselves stay in the plan.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import NamedTuple

from trailhawk.kql.folding import IN_TICKS, STARTS, rounded
from trailhawk.kql.literals import datetime_ticks
from trailhawk.kql.plan import Call, ColumnRef, Const, Expr
from trailhawk.kql.types import TICKS_PER_DAY, KqlType

_T = KqlType
_STEPS = {_T.DATETIME: 10, _T.TIMESPAN: 10, _T.LONG: 1}
"""How far apart the values are that are computed of a row's time, which the engine has in microseconds."""


_PARTS = {"yyyy": "year", "MM": "month", "dd": "day", "HH": "hour", "mm": "minute", "ss": "second"}
_FIRST = ("", "01", "01", "00", "00", "00")
_TOKEN = re.compile(r"([A-Za-z])\1*|.", re.DOTALL)
_OF_ANY_WIDTH = frozenset("dMyhHms")


class Range(NamedTuple):
    """At least, and less than; None where there is no bound."""

    low: int | None = None
    high: int | None = None

    def meet(self, other: Range) -> Range:
        low, high = other
        if low is None or (self.low is not None and self.low > low):
            low = self.low
        if high is None or (self.high is not None and self.high < high):
            high = self.high
        return Range(low, high)

    def join(self, other: Range) -> Range:
        """All from the first that is in one of them to the last."""
        low = None if self.low is None or other.low is None else min(self.low, other.low)
        high = None if self.high is None or other.high is None else max(self.high, other.high)
        return Range(low, high)


def compared(op: str, const: Const) -> Range | None:
    """What a value lies in that is so compared with a constant; None where that says nothing."""
    step, value = _STEPS.get(const.type), const.value
    if step is None or not isinstance(value, int):
        return None
    here = value - value % step
    match op:
        case ">":
            return Range(here + step, None)
        case ">=":
            return Range(here, None)
        case "<":
            return Range(None, -(-value // step) * step)
        case "<=":
            return Range(None, here + step)
        case "==":
            return Range(here, here + step)
    return None


def written(form: str, text: str) -> Range | None:
    """The moments that `format_datetime` writes so, by as much of it as says year, month, day and so on one
    below the other; None where it says no year, or no such moment is."""
    found: dict[str, str] = {}
    at = 0
    for token in (each[0] for each in _TOKEN.finditer(form)):
        if token in _OF_ANY_WIDTH or token[0] == "F":
            break
        found[token] = text[at : at + len(token)]
        at += len(token)
    known = list(takewhile(_is_number, (found.get(token, "") for token in _PARTS)))
    if not known:
        return None
    low = datetime_ticks("{}-{}-{} {}:{}:{}".format(*known, *_FIRST[len(known) :]))
    unit = list(_PARTS.values())[len(known) - 1]
    if low is None:
        return None
    return Range(low, STARTS[unit](low, 1) if unit in STARTS else low + IN_TICKS[unit])


def of_column(value: Expr, span: Range) -> tuple[ColumnRef, Range] | None:
    """The column that a value is computed of, and the range it lies in where the value lies in `span`."""
    while isinstance(value, Call):
        found = _below(value, span)
        if found is None:
            return None
        value, span = found
    return (value, span) if isinstance(value, ColumnRef) else None


def _below(call: Call, span: Range) -> tuple[Expr, Range] | None:
    """The argument that is no constant, and its range."""
    match call.overload.name, call.args:
        case (
            "+",
            (value, Const(type=_T.TIMESPAN, value=int() as by))
            | (Const(type=_T.TIMESPAN, value=int() as by), value),
        ) if _is_whole(by):
            return value, _moved(span, -by)
        case "-", (value, Const(type=_T.TIMESPAN, value=int() as by)) if _is_whole(by):
            return value, _moved(span, by)
        case "-", (value, Const(type=_T.DATETIME, value=int() as at)):
            return value, _moved(span, _cut(at))
        case "-", (Const(type=_T.DATETIME, value=int() as at), value):
            return value, _turned(span, _cut(at) + 10)
        case "bin", (Expr(type=_T.DATETIME) as value, Const(value=int() as size)) if size > 0 and _is_whole(
            size
        ):
            return value, _bins_start(span, size)
        case "todatetime", (Expr(type=_T.DATETIME) as value,):
            return value, span
        case "datetime_add", (Const(value=part), Const(value=int() as count), value):
            each = IN_TICKS.get(str(part).lower())
            return None if each is None else (value, _moved(span, -count * each))
        case "datetime_diff", (Const(value=part), Const(value=int() as at), value):
            each = IN_TICKS.get(str(part).lower())
            if each is None or each > TICKS_PER_DAY:
                return None  # weeks begin on Sundays
            turned = _turned(span, at // each + 1)
            return value, Range(*(None if end is None else end * each for end in turned))
        case name, (value, *offset) if name[:7] == "startof" and name[7:] in STARTS:
            return _begun(name[7:], value, span, offset)
        case name, (value, *offset) if name[:5] == "endof" and name[5:] in STARTS:
            return _begun(name[5:], value, _moved(span, 10), offset, later=1)  # of the next, a microsecond on
    return None


def _begun(
    unit: str, value: Expr, span: Range, offset: list[Expr], *, later: int = 0
) -> tuple[Expr, Range] | None:
    """Where the start of a day, week, month or year lies in a range, so many units on."""
    match offset:
        case []:
            units = 0
        case [Const(value=int() as units)]:
            pass
        case _:
            return None

    def next_start(ticks: int | None) -> int | None:
        try:
            return None if ticks is None else STARTS[unit](ticks - 1, 1 - units - later)
        except (OverflowError, ValueError):
            return None  # beyond the years there are

    return value, Range(*map(next_start, span))


def _moved(span: Range, by: int) -> Range:
    return Range(*(None if end is None else end + by for end in span))


def _turned(span: Range, end: int) -> Range:
    """What is taken off the last value before `end`, where that gives one in the range."""
    low, high = (None if bound is None else end - bound for bound in span)
    return Range(high, low)


def _bins_start(span: Range, size: int) -> Range:
    """Where each end's next bin starts, or the end itself where one does."""
    return Range(*(None if end is None else rounded(end + size - 1, size, _T.DATETIME) for end in span))


def _cut(ticks: int) -> int:
    return ticks - ticks % 10


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_whole(ticks: int) -> bool:
    return ticks % 10 == 0
