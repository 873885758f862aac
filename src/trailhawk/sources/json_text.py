"""JSON text as it is stored: as it came (key order, numbers), without blanks, with characters unescaped."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
import orjson
import xxhash

_HEX = "[0-9a-fA-F]"
_ESCAPE = re.compile(
    rf"\\(?:u([dD][89abAB]{_HEX}{{2}})\\u([dD][c-fC-F]{_HEX}{{2}})|u({_HEX}{{4}})|(.))", re.DOTALL
)
_SHORT = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def tidy(text: str) -> str:
    """Valid JSON text, minified, with only those characters escaped that JSON demands.

    >>> tidy('{"a" : [1.10, "\\\\u00e9\\\\/"]}')
    '{"a":[1.10,"é/"]}'
    """
    packed = msgspec.json.format(text, indent=-1)
    if "\\u" not in packed and "\\/" not in packed:
        return packed
    return _ESCAPE.sub(_shortest, packed)


def parsed(record: bytes) -> tuple[object, int]:
    """A JSON value and its hash, which does not see blanks, escapes or the order of members; signed 64 bits.

    Raises orjson.JSONDecodeError for what is not JSON.
    """
    value = orjson.loads(record)
    canonical = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return value, signed(xxhash.xxh3_64_intdigest(canonical))


hashed = xxhash.xxh3_64_intdigest
"""The hash of a record's bytes as they came; unsigned 64 bits."""


def identity(event: str, account: str) -> int:
    """The hash of what makes an event one and the same; unsigned 64 bits."""
    return xxhash.xxh3_64_intdigest(f"{event}\0{account}".encode())


Tree = dict[str, "Tree | None"]
"""Members that are known; None where all below one is known."""


def tree(paths: Iterable[str]) -> Tree:
    """The tree of dotted paths.

    >>> tree(["a", "b.c"])
    {'a': None, 'b': {'c': None}}
    """
    root: Tree = {}
    for path in paths:
        *above, last = path.split(".")
        here = root
        for step in above:
            inner = here.setdefault(step, {})
            if inner is None:
                break
            here = inner
        else:
            here.setdefault(last, None)
    return root


def beyond(value: dict[str, object], known: Tree) -> dict[str, object]:
    """The members that the tree does not know, empty ones left out.

    >>> beyond({"a": 1, "b": {"c": 2, "d": 3}, "e": {}}, {"a": None, "b": {"c": None}})
    {'b': {'d': 3}}
    """
    found = {
        name: item for name in value.keys() - known.keys() if (item := value[name]) not in (None, "", {})
    }
    for name, inner in known.items():
        if inner is not None and isinstance(item := value.get(name), dict) and (below := beyond(item, inner)):
            found[name] = below
    return found


def signed(value: int) -> int:
    """An unsigned 64-bit value as the signed one with the same bits."""
    return value - (1 << 64) if value >> 63 else value


def _shortest(match: re.Match[str]) -> str:
    high, low, unit, short = match.groups()
    if high is not None:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00))
    if short is not None:
        return "/" if short == "/" else match[0]
    code = int(unit, 16)
    if 0xD800 <= code <= 0xDFFF:
        return match[0]  # half a pair is no character
    char = chr(code)
    if char in _SHORT:
        return _SHORT[char]
    return match[0] if code < 0x20 else char
