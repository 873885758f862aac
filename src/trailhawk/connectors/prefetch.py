"""Objects read ahead by threads while the ingest is busy, about in the order they were asked for: one that is
slow to come holds up no other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from trailhawk.connectors.fetch import Fetched, Fetcher, RefusedError
from trailhawk.connectors.notices import Notice

Ticket = TypeVar("Ticket")

_AHEAD_BYTES: Final = 64 * 1024 * 1024
_UNTOLD_BYTES: Final = 1024 * 1024  # what an object is taken for whose size nobody told


@dataclass(eq=False)
class _Asked(Generic[Ticket]):
    """An object whose reading was begun."""

    notice: Notice
    ticket: Ticket
    answer: Future[Fetched]

    @property
    def size(self) -> int:
        return _UNTOLD_BYTES if self.notice.size is None else self.notice.size


class Prefetch(Generic[Ticket]):
    """Reads objects ahead: at most `most` of them and some 64 MiB, however many are asked for. Used by one
    thread."""

    def __init__(self, fetcher: Fetcher, *, threads: int, most: int = 128) -> None:
        self._fetcher = fetcher
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
        self._begun: list[_Asked[Ticket]] = []
        self._asked: deque[tuple[Notice, Ticket]] = deque()
        self._begun_bytes = 0
        self._most = most

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was not taken; reads under way come to their end first."""
        self._asked.clear()
        self._pool.shutdown(cancel_futures=True)
        for asked in self._begun:
            if not asked.answer.cancelled() and not asked.answer.exception():
                asked.answer.result().file.close()
        self._begun.clear()

    def __len__(self) -> int:
        """How many objects were asked for and not taken."""
        return len(self._begun) + len(self._asked)

    @property
    def is_full(self) -> bool:
        return len(self._begun) >= self._most or self._begun_bytes >= _AHEAD_BYTES

    def ask(self, notice: Notice, ticket: Ticket) -> None:
        """Read an object; `ticket` comes back with it."""
        self._asked.append((notice, ticket))
        self._begin()

    def ready(self, *, wait: bool = False) -> Iterator[tuple[Ticket, Notice, Fetched | RefusedError]]:
        """The objects that are there, the oldest first; with `wait` at least one. The caller closes files."""
        while asked := self._next(wait=wait):
            self._begun.remove(asked)
            self._begun_bytes -= asked.size
            self._begin()
            wait = False
            try:
                found: Fetched | RefusedError = asked.answer.result()
            except RefusedError as error:
                found = error
            yield asked.ticket, asked.notice, found

    def _next(self, *, wait: bool) -> _Asked[Ticket] | None:
        """The oldest object that is there."""
        if wait and self._begun:
            futures.wait([asked.answer for asked in self._begun], return_when=futures.FIRST_COMPLETED)
        return next((asked for asked in self._begun if asked.answer.done()), None)

    def _begin(self) -> None:
        """Begin to read what there is room for."""
        while self._asked and not self.is_full:
            notice, ticket = self._asked.popleft()
            asked = _Asked(notice, ticket, self._pool.submit(self._fetcher.fetch, notice))
            self._begun_bytes += asked.size
            self._begun.append(asked)
