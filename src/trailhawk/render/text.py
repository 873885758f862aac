"""Values as text: for people, for JSON, for CSV. Log text is written by attackers too, so nothing reaches
the terminal that it would obey."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum

from trailhawk.visible import HOSTILE, visible
from trailhawk.words import counted

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def moment(value: datetime) -> str:
    """ISO 8601 in UTC with a Z; the fraction only where there is one."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def span(value: timedelta) -> str:
    """A timespan as Kusto writes it: `[-][days.]hh:mm:ss[.fffffff]`."""
    microseconds = abs(value) // timedelta(microseconds=1)
    seconds, fraction = divmod(microseconds, 1_000_000)
    days, seconds = divmod(seconds, 86_400)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    sign = "-" if value < timedelta() else ""
    return f"{sign}{f'{days}.' if days else ''}{clock}{f'.{fraction:06d}0' if fraction else ''}"


def size(count: int) -> str:
    """Bytes with thousands marks, and in a handy unit from 10,000 on: `459,921 bytes (449.1 KiB)`."""
    exact = counted(count, "byte")
    if count < 10_000:
        return exact
    power = min((count.bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{exact} ({count / 1024**power:,.1f} {_UNITS[power]})"


def cell(value: object) -> str:
    """One value for a person; safe to print."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, timedelta):
        return span(value)
    if isinstance(value, float):
        return _real(value)
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return to_json(value)
    return visible(str(value))


def _real(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def members(thing: object) -> dict[str, object]:
    """The fields of a dataclass by name, one level deep."""
    return {name: getattr(thing, name) for name in getattr(thing, "__dataclass_fields__", {})}


def plain(value: object) -> object:
    """The value in JSON's own terms: times as ISO text with Z, timespans as Kusto writes them."""
    match value:
        case None | bool() | int() | str():
            return value.value if isinstance(value, Enum) else value
        case float():
            return value if math.isfinite(value) else _real(value)
        case datetime():
            return moment(value)
        case timedelta():
            return span(value)
        case Enum():
            return plain(value.value)
        case Decimal():
            return str(value)
        case _ if is_dataclass(value):
            return plain(members(value))
        case Mapping():
            return {str(name): plain(member) for name, member in value.items()}
        case set() | frozenset():
            return sorted((plain(member) for member in value), key=str)
        case list() | tuple():
            return [plain(member) for member in value]
        case _:
            return str(value)


def to_json(value: object, *, indent: int | None = None) -> str:
    """Exact JSON that is also safe to print: what a terminal would act on stands as `\\uXXXX`."""
    separators = (",", ":") if indent is None else None
    return printable_json(json.dumps(plain(value), ensure_ascii=False, indent=indent, separators=separators))


def printable_json(text: str) -> str:
    """JSON text with what a terminal would act on as `\\uXXXX`; it means the same."""
    return HOSTILE.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    character = found[0]
    if character == "\n":  # only the layout's own: inside strings json.dumps has escaped it already
        return character
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def csv_lines(names: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterable[str]:
    """CSV as in RFC 4180, a string a record; text that a spreadsheet would run gets a `'` in front."""
    yield ",".join(_csv_cell(name) for name in names)
    for row in rows:
        yield ",".join(_csv_cell(value) for value in row)


def _csv_cell(value: object) -> str:
    text = visible(value, keep="\n\r\t") if isinstance(value, str) else cell(value)
    if isinstance(value, str) and text.startswith(_FORMULA):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text
