"""JSON text as it is stored: as it came (key order, numbers), without blanks, with characters unescaped."""

from __future__ import annotations

import re

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
    if "\\" not in packed:
        return packed
    return _ESCAPE.sub(_shortest, packed)


def canonical_hash(record: bytes) -> int:
    """Hash of a JSON value that does not see blanks, escapes or the order of members; signed 64 bits.

    Raises orjson.JSONDecodeError for what is not JSON.
    """
    canonical = orjson.dumps(orjson.loads(record), option=orjson.OPT_SORT_KEYS)
    return signed(xxhash.xxh3_64_intdigest(canonical))


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
