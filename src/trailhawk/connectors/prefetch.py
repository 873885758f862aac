"""Objects read ahead by threads while the ingest is busy, and given in the order they were asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from trailhawk.connectors.fetch import Fetched, Fetcher, RefusedError
from trailhawk.connectors.notices import Notice

Ticket = TypeVar("Ticket")

_AHEAD_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Asked(Generic[Ticket]):
    notice: Notice
    ticket: Ticket
    answer: Future[Fetched]


class Prefetch(Generic[Ticket]):
    """Reads objects ahead: at most `most` of them and some 64 MiB. Used by one thread."""

    def __init__(self, fetcher: Fetcher, *, threads: int, most: int = 128) -> None:
        self._fetcher = fetcher
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
        self._asked: deque[_Asked[Ticket]] = deque()
        self._most = most

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was not taken; reads under way come to their end first."""
        self._pool.shutdown(cancel_futures=True)
        for asked in self._asked:
            if not asked.answer.cancelled() and not asked.answer.exception():
                asked.answer.result().file.close()
        self._asked.clear()

    def __len__(self) -> int:
        """How many objects were asked for and not taken."""
        return len(self._asked)

    @property
    def is_full(self) -> bool:
        return len(self._asked) >= self._most or (
            sum(asked.notice.size or 0 for asked in self._asked) >= _AHEAD_BYTES
        )

    def ask(self, notice: Notice, ticket: Ticket) -> None:
        """Read an object; `ticket` comes back with it."""
        self._asked.append(_Asked(notice, ticket, self._pool.submit(self._fetcher.fetch, notice)))

    def ready(self, *, wait: bool = False) -> Iterator[tuple[Ticket, Notice, Fetched | RefusedError]]:
        """The objects that are there, the oldest first; with `wait` at least one. The caller closes files."""
        while self._asked and (wait or self._asked[0].answer.done()):
            asked = self._asked[0]
            try:
                answer: Fetched | RefusedError = asked.answer.result()
            except RefusedError as error:
                answer = error
            self._asked.popleft()
            wait = False
            yield asked.ticket, asked.notice, answer
