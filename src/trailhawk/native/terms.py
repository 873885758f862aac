"""The terms of a row group by the kernel: gathered from Arrow's own buffers, and laid down in a filter."""

from __future__ import annotations

import ctypes
import os
import weakref

import numpy as np
from numpy.typing import NDArray

_UNSURE = 1
_NO_NULLS = np.empty(0, np.uint8)


class TermSet:
    """The hashes of terms, each once; there may be more than are expected. For one thread at a time."""

    def __init__(self, library: ctypes.CDLL, expected: int = 0) -> None:
        self._library = library
        self._set = library.terms_new(int.from_bytes(os.urandom(8)), expected)
        if not self._set:
            raise MemoryError("no memory for terms")
        weakref.finalize(self, library.terms_free, self._set)

    def add(
        self,
        data: NDArray[np.uint8],
        offsets: NDArray[np.int32],
        valid: NDArray[np.uint8] = _NO_NULLS,
        first: int = 0,
    ) -> bool:
        """Add the terms of texts that lie between each offset and the next one; of those with a bit that is
        not 0, counted from `first`, where bits are given. False where a character makes the terms unsure."""
        count = len(offsets) - 1
        status: int = self._library.terms_add(
            self._set, data, len(data), offsets, count, valid, len(valid), first
        )
        return status != _UNSURE

    def hashes(self) -> NDArray[np.uint64]:
        """All of them, in no order."""
        found = np.empty(self._library.terms_count(self._set), np.uint64)
        self._library.terms_take(self._set, found, len(found))
        return found


def fill(library: ctypes.CDLL, hashes: NDArray[np.uint64], pages: NDArray[np.uint8]) -> None:
    """Set the bits of these hashes in the pages of a filter, one a row; all are 0 before."""
    library.terms_fill(hashes, len(hashes), pages, *pages.shape)
