"""Ids and times as AWS spells them, drawn from a stream of chance that the caller hands in."""

from __future__ import annotations

from base64 import b32encode, b64encode
from functools import lru_cache
from random import Random
from time import gmtime, strftime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_MIXED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"


def uuid(rng: Random) -> str:
    """A random UUID (version 4)."""
    bits = f"{rng.getrandbits(128):032x}"
    return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-{'89ab'[int(bits[16], 16) & 3]}{bits[17:20]}-{bits[20:]}"


def hex_id(rng: Random, digits: int) -> str:
    return f"{rng.getrandbits(digits * 4):0{digits}x}"


def identifier(rng: Random, prefix: str, length: int = 17) -> str:
    """AIDA..., AROA... (17 more characters) or AKIA..., ASIA... (16 more)."""
    return prefix + "".join(rng.choices(_BASE32, k=length))


def letters(rng: Random, length: int) -> str:
    return "".join(rng.choices(_LOWER, k=length))


def mixed(rng: Random, length: int) -> str:
    return "".join(rng.choices(_MIXED, k=length))


def s3_request_id(rng: Random) -> str:
    """Sixteen capitals and digits."""
    return b32encode(rng.randbytes(10)).decode()


def opaque(rng: Random, size: int) -> str:
    """`size` random bytes in base64: an x-amz-id-2, the body of a session token."""
    return b64encode(rng.randbytes(size)).decode()


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return strftime("%Y-%m-%d", gmtime(number * 86_400))


def iso(at: int) -> str:
    """2026-11-21T15:04:05Z"""
    day, second = divmod(at, 86_400)
    return f"{_day(day)}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"


def long_time(at: int) -> str:
    """Nov 21, 2026, 3:04:05 PM, the way CloudTrail prints times inside responses."""
    moment = gmtime(at)
    half = "AM" if moment.tm_hour < 12 else "PM"
    day = f"{_MONTHS[moment.tm_mon - 1]} {moment.tm_mday}, {moment.tm_year}"
    return f"{day}, {moment.tm_hour % 12 or 12}:{moment.tm_min:02d}:{moment.tm_sec:02d} {half}"
