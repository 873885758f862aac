"""Functions of IPv4 addresses against what Python's ipaddress says, over texts made at random.

TRAILHAWK_ADDRESSES=100000 for a long run, TRAILHAWK_ADDRESSES_SEED for another one.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIZE = int(os.environ.get("TRAILHAWK_ADDRESSES", "400"))
SEED = int(os.environ.get("TRAILHAWK_ADDRESSES_SEED", "1"))
AT_ONCE = 2000

OCTETS = ("0", "1", "9", "10", "11", "15", "16", "31", "32", "99", "100", "127", "128", "172", "192", "255")
ODD_OCTETS = (
    "",
    "00",
    "01",
    "256",
    "300",
    "1e2",
    "-1",
    "+1",
    " 1",
    "٣",
    "0x1",
    "1.",
    "999999999999999999999",
)
SPACES = ("", "", "", " ", "\t", "\n", "\r", "\f", "\v", "\u00a0", "  ")
ENDS = (
    *("", "", "", "", "/0", "/1", "/7", "/8", "/9", "/12", "/16", "/23", "/24", "/31", "/32"),
    *("/33", "/08", "/", "/-1", "//8", "/8/8", "/ 8", ".", ".1", "%1", ":80", "\x00"),
)
HOSTILE = (
    *("", " ", ".", "...", "/", "/8", "0", "AWS Internal", "s3.amazonaws.com", "::1", "::ffff:10.0.0.1"),
    *("10.0.0.1/8\n", "10.0.0.1\nx", "x\n10.0.0.1", "10,0,0,1", "10.0.0.1 10.0.0.2", "1٠.0.0.1", "10.0.0.1"),
    *("2001:db8::1", "10.0.0.0/255.0.0.0", "167772161", "10..0.1", ".10.0.0.1", "10.0.0.1/8 x", "é10.0.0.1"),
)
RANGES = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "0.0.0.0/0", "128.0.0.0/1", "10.11.0.0/31", "9.9.9.9"),
    *("11.1.2.3/7", "100.99.15.16/28", "100.99.15.128/25", "10.255.0.0/18", " 172.31.0.0/17 ", "10.0.0.1/33"),
    *("no address", "", "255.255.255.255/32", "16.0.0.0/5", "0.0.0.0"),
)
SPACE = "[\t\n\f\r ]*"
ADDRESS = re.compile(rf"{SPACE}([0-9]+(?:\.[0-9]+){{3}})(?:/([0-9]{{1,2}}))?{SPACE}")


def parsed(text: str) -> tuple[int, int] | None:
    """The number of an address and its prefix."""
    found = ADDRESS.fullmatch(text)
    try:
        if found is None or (found[2] and str(int(found[2])) != found[2]):
            return None
        return int(IPv4Address(found[1])), IPv4Network((0, int(found[2] or 32))).prefixlen
    except ValueError:
        return None


def cut(number: int, prefix: int) -> int:
    return number >> (32 - prefix) << (32 - prefix)


def compared(left: str, right: str, prefix: int) -> int | None:
    one, two = parsed(left), parsed(right)
    if one is None or two is None:
        return None
    shared = min(one[1], two[1], prefix)
    first, second = cut(one[0], shared), cut(two[0], shared)
    return (first > second) - (first < second)


def is_match(left: str, right: str, prefix: int) -> bool | None:
    order = compared(left, right, prefix)
    return None if order is None else order == 0


def is_in_range(text: str, range_: str) -> bool | None:
    one, two = parsed(text), parsed(range_)
    if one is None or two is None:
        return None
    return cut(cut(*one), two[1]) == cut(*two)


def is_in_any_range(text: str, ranges: Sequence[str]) -> bool | None:
    return None if parsed(text) is None else any(is_in_range(text, range_) for range_ in ranges)


def address(chance: random.Random) -> str:
    if chance.random() < 0.1:
        return chance.choice(HOSTILE)
    octets = [
        chance.choice(OCTETS) if chance.random() < 0.7 else str(chance.randrange(256)) for _ in range(4)
    ]
    if chance.random() < 0.3:
        octets[chance.randrange(4)] = chance.choice(ODD_OCTETS)
    elif chance.random() < 0.1:
        octets = octets[: chance.randrange(4)]
    if chance.random() < 0.5:
        return ".".join(octets)
    return chance.choice(SPACES) + ".".join(octets) + chance.choice(ENDS) + chance.choice(SPACES)


def values(range_: str, some: Sequence[str], prefix: int) -> dict[str, Callable[[str, str], object]]:
    """Expressions over two columns, and what they are to give."""
    constant, constants = json.dumps(range_), f"dynamic({json.dumps(some)})"
    return {
        "parse_ipv4(a)": lambda a, _: None if (one := parsed(a)) is None else cut(*one),
        "ipv4_is_private(a)": lambda a, _: is_in_any_range(a, RANGES[:3]),
        "ipv4_is_private(strcat(a, ''))": lambda a, _: is_in_any_range(a, RANGES[:3]),
        f"ipv4_is_in_range(a, {constant})": lambda a, _: is_in_range(a, range_),
        f"ipv4_is_in_any_range(a, {constants})": lambda a, _: is_in_any_range(a, some),
        f"ipv4_is_match(a, {constant})": lambda a, _: is_match(a, range_, 32),
        f"ipv4_is_match(a, {constant}, {prefix})": lambda a, _: is_match(a, range_, prefix),
        f"ipv4_is_match({constant}, a)": lambda a, _: is_match(range_, a, 32),
        f"ipv4_compare(a, {constant})": lambda a, _: compared(a, range_, 32),
        f"ipv4_compare(a, {constant}, {prefix})": lambda a, _: compared(a, range_, prefix),
        "ipv4_is_in_range(a, b)": is_in_range,
        "ipv4_is_in_any_range(a, b)": lambda a, b: is_in_any_range(a, [b]),
        "ipv4_is_match(a, b)": lambda a, b: is_match(a, b, 32),
        f"ipv4_compare(strcat(a, ''), b, {prefix})": lambda a, b: compared(a, b, prefix),
    }


def test_addresses_of_a_column_and_constants() -> None:
    chance = random.Random(SEED)
    engine = DuckDBEngine(NoTables())
    for _ in range(0, SIZE, AT_ONCE):
        pairs = [(address(chance), address(chance)) for _ in range(min(SIZE, AT_ONCE))]
        some = chance.sample(RANGES, chance.randrange(5))
        expected = values(chance.choice(RANGES), some, chance.choice((0, 1, 8, 12, 24, 31, 32)))
        rows = ", ".join(f"{json.dumps(a)}, {json.dumps(b)}" for a, b in pairs)
        query = f"datatable(a: string, b: string) [{rows}] | project a, b, " + ", ".join(expected)
        for a, b, *found in engine.query(query, now=NOW).tuples():
            for (what, said), value in zip(expected.items(), found, strict=True):
                assert value == said(str(a), str(b)), (what, a, b)


def test_more_ranges_than_a_pattern_holds() -> None:
    ranges = [f"10.{number // 256}.{number % 256}.16/28" for number in range(2500)]
    rows = '"10.0.0.17", "10.9.195.31", "10.9.195.32", "10.9.196.16", "none"'
    query = f"datatable(a: string) [{rows}] | project ipv4_is_in_any_range(a, dynamic({json.dumps(ranges)}))"
    found = [value for (value,) in DuckDBEngine(NoTables()).query(query, now=NOW).tuples()]
    assert found == [True, True, False, False, None]
