"""Values of a result row as the types the query gives them."""

from __future__ import annotations

from datetime import datetime


def moment(value: object) -> datetime:
    """A datetime that is never null; TypeError otherwise, for the query is ours."""
    if not isinstance(value, datetime):
        raise TypeError(f"expected a moment, found {value!r}")
    return value


def count(value: object) -> int:
    """A number of things or bytes; null, as a sum over no value, is 0."""
    return value if isinstance(value, int) else 0
