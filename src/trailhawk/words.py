"""Words for people that depend on a number."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 rule`, `1,204 rules`; a plural that is no noun with an s is given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
