"""Values as KQL literals: the only way log text gets into a query."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

_PLACE = re.compile(r"\{([a-z_]+)\}")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def string(value: str) -> str:
    """A KQL string literal that means exactly this text."""
    return '"' + "".join(_ESCAPES.get(char) or _printable(char) for char in value) + '"'


def _printable(char: str) -> str:
    # Line separators would end the line for a reader that knows them; control characters hide.
    return f"\\u{ord(char):04x}" if ord(char) < 0x20 or char in "\x7f\x85\u2028\u2029" else char


def strings(values: Iterable[str]) -> str:
    """A parenthesised list for `in`; with no value, one that matches nothing, not even the empty text."""
    return "(" + ", ".join(map(string, values)) + ")" if (values := list(values)) else "(dynamic([]))"


def fill(query: str, **values: str) -> str:
    """The query with its `{name}`s filled in, all at once: what is filled in is not looked at again."""
    return _PLACE.sub(lambda found: values.get(found[1], found[0]), query)


def moment(value: datetime) -> str:
    """A KQL datetime literal, to the microsecond."""
    return f"datetime({value.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%S.%f')}Z)"
