"""Hashes for grouping and sampling: xxHash64, as a long.

A text is hashed in UTF-8, numbers and times as their eight bytes, so that the numbers are Kusto's.
"""

from __future__ import annotations

import struct

import msgspec
import xxhash
from sqlglot import exp

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.python import (
    Duration,
    ExactFloat,
    Flag,
    Json,
    Moment,
    Text,
    Whole,
    python,
    python_overload,
)
from trailhawk.kql.functions.registry import AnyArg, Long, Sql, scalar
from trailhawk.kql.types import KqlType

_YEAR_1 = 621_355_968_000_000_000
"""Ticks from 0001-01-01, where Kusto counts from, to the Unix epoch."""
_TOP = 1 << 64
_NOTHING = b""
"""What is hashed of a null, as of an empty text."""


def _signed(number: int) -> int:
    number %= _TOP
    return number - _TOP if number >> 63 else number


def _hash(data: bytes, modulus: int | None) -> int | None:
    found = _signed(xxhash.xxh64_intdigest(data))
    if modulus is None:
        return found
    return found % modulus if modulus > 0 else None


@python("hash", aliases=("hash_xxhash64",))
def hash_(source: Text, modulus: Whole | None = None) -> Whole | None:
    """The xxHash64 of a value; with a modulus the rest of it, from 0 up.

    >>> hash("World")
    1846988464401551951
    >>> hash("World", 100)
    51
    >>> hash(datetime(2015-01-01))
    1380966698541616202
    >>> hash(int(null)) == hash("")
    True
    """
    return _hash(source.encode(), modulus)


@python_overload(hash_)
def _(source: Whole, modulus: Whole | None = None) -> Whole | None:
    return _hash(_NOTHING if source is None else struct.pack("<q", source), modulus)


@python_overload(hash_)
def _(source: ExactFloat, modulus: Whole | None = None) -> Whole | None:
    return _hash(_NOTHING if source is None else struct.pack("<d", source), modulus)


@python_overload(hash_)
def _(source: Flag, modulus: Whole | None = None) -> Whole | None:
    return _hash(_NOTHING if source is None else struct.pack("<?", source), modulus)


@python_overload(hash_)
def _(source: Moment, modulus: Whole | None = None) -> Whole | None:
    return _hash(_NOTHING if source is None else struct.pack("<q", source + _YEAR_1), modulus)


@python_overload(hash_)
def _(source: Duration, modulus: Whole | None = None) -> Whole | None:
    return _hash(_NOTHING if source is None else struct.pack("<q", source), modulus)


@python_overload(hash_)
def _(source: Json, modulus: Whole | None = None) -> Whole | None:
    if isinstance(source, str):
        return _hash(source.encode(), modulus)
    return _hash(_NOTHING if source is None else msgspec.json.encode(source), modulus)


@python("hashes_combined", internal=True)
def hashes_combined(hashes: Json) -> Whole | None:
    """One hash of several, in order."""
    if not isinstance(hashes, list) or not hashes:
        return None
    found = 0
    for item in hashes:
        number = (item if isinstance(item, int) else 0) % _TOP
        found ^= (number + 0x9E3779B97F4A7C15 + (found << 6) + (found >> 2)) % _TOP
    return _signed(found)


def _combined(hashes: list[Sql]) -> Sql:
    return hashes_combined.overloads[0].build(sql.array(exp.Array(expressions=hashes)))


@scalar()
def hash_combine(*hashes: Long) -> Long:
    """One hash of two or more, in order. The mixing is our own: the number is not Kusto's.

    >>> hash_combine(hash("a"), hash("b")) == hash_many("a", "b")
    True
    >>> hash_combine(1, 2) == hash_combine(2, 1)
    False
    """
    return _combined(list(hashes))


@scalar()
def hash_many(*values: AnyArg) -> Long:
    """One hash of several values, in order. The mixing is our own: the number is not Kusto's.

    >>> hash_many("a", 1) == hash_many("a", 2)
    False
    """
    hashes = []
    for value in values:
        found = hash_.resolve((value.type,), (False,))
        given = value.sql
        if found is None:
            found, given = hash_.overloads[0], sql.cast(given, KqlType.STRING)
        else:
            given = sql.cast(given, found.param(0).convert_to(value.type)) if value.type.is_number else given
        hashes.append(found.build(given))
    return _combined(hashes)
