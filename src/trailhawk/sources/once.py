"""What several sources ask about an object's first bytes, one after the other, is answered once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

Answer = TypeVar("Answer")


def once(question: Callable[[bytes], Answer]) -> Callable[[bytes], Answer]:
    """The question, with the answer for the bytes asked about last kept. They are compared and not hashed,
    as `lru_cache` does: for 64 KB that takes as long as the answer."""
    last: tuple[bytes, Answer] | None = None

    @wraps(question)
    def asked(head: bytes) -> Answer:
        nonlocal last
        held = last  # another thread may change it meanwhile
        if held is None or held[0] != head:
            held = last = (head, question(head))
        return held[1]

    return asked
