"""The footers of data files, which the engine keeps for the next query, within a bound.

The engine itself drops one only where a query needs the memory, not when its file is gone; in a lake that is
written to all day most of them are soon gone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import duckdb

_LEAST: Final = 64 << 20
_SHARE: Final = 10
"""What is kept may take this part of the engine's memory, or the least, if that is more: some 450 footers of
wide tables."""
_FILES: Final = 256
"""How much is kept is asked for after so many files were read: it takes 0.3 ms, a query over these 50."""
_ASK: Final = """
    SELECT coalesce(sum(memory_usage_bytes) FILTER (tag = 'OBJECT_CACHE'), 0)::BIGINT,
        coalesce(sum(memory_usage_bytes) FILTER (tag <> 'OBJECT_CACHE'), 0)::BIGINT
    FROM duckdb_memory()
"""


class Footers:
    """Those that an engine keeps, for all threads that use it; `memory` is the engine's limit in bytes."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, memory: int) -> None:
        self._connection = connection
        self._memory = memory
        self._most = max(_LEAST, memory // _SHARE)
        self._lock = threading.Lock()
        self._users = 0
        self._files = 0

    @contextmanager
    def used(self) -> Iterator[None]:
        """While a query may run. Behind the last of those at work it is looked whether too much is kept."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
        if self._files >= _FILES:
            self._bound()

    def read(self, files: int) -> None:
        """Count files that a query reads."""
        with self._lock:
            self._files += files

    def _bound(self) -> None:
        """Drop the half of what may be kept, or more, those first that were not used for the longest time."""
        with self._lock:
            if self._users:  # it would have less memory than it may use
                return
            self._files = 0
            with self._connection.cursor() as cursor:
                kept, others = cursor.execute(_ASK).fetchone() or (0, 0)
                if kept <= self._most:
                    return
                try:
                    with suppress(
                        duckdb.OutOfMemoryException
                    ):  # something else came to stand there meanwhile
                        cursor.execute(limit(others + self._most // 2))
                finally:
                    cursor.execute(limit(self._memory))


def limit(memory: int) -> str:
    """The statement that sets the engine's memory, in bytes; what it keeps beyond that is dropped."""
    return f"SET GLOBAL memory_limit = '{memory}B'"
