"""Words for people that depend on a number, or on what there is."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 rule`, `1,204 rules`; a plural that is no noun with an s is given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def suggestion(name: str, known: Sequence[str]) -> str:
    """For a name that is none of those known: the one that it is nearly, in whatever case, or all of them."""
    from difflib import get_close_matches  # only for who mistypes

    small = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), small, n=1)
    return f"did you mean '{small[near[0]]}'?" if near else f"there is {', '.join(known) or 'none'}"
