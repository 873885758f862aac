"""An object of S3 read as the ingest asks for it: what is too large to be held or to be put on disk first."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from botocore import exceptions as aws

from trailhawk.connectors.pace import Pace
from trailhawk.connectors.retry import REFUSALS

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from botocore.response import StreamingBody

T = TypeVar("T")

READ_BYTES: Final = 1024 * 1024

Ask = Callable[[int], tuple["StreamingBody", int]]
"""Asks for the object's bytes from a place on: the body, and where it begins (at 0 with a store that gives no
ranges)."""
Retry = Callable[[Callable[[], bytes]], bytes]
"""Tries something until it is done; raises what it gives up with."""


class Streamed(io.RawIOBase):
    """A body that goes on where the network broke, in the very same content.

    `body` is the object's body from its start, None where it is to be asked for; `size` is the object's, if
    known. What `retry` gives up with comes from reading.
    """

    def __init__(
        self, body: StreamingBody | None, ask: Ask, retry: Retry, pace: Pace, *, size: int | None
    ) -> None:
        super().__init__()
        self._body = body
        self._ask = ask
        self._retry = retry
        self._pace = pace
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._retry(lambda: self._read(len(view)))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._leave()
        super().close()

    def _read(self, size: int) -> bytes:
        """The next bytes, none at the end; after an error the next call asks for the rest anew."""
        try:
            if self._body is None:
                self._body, place = self._ask(self._at)
                self._pass_over(self._body, self._at - place)
            data = self._pace.read(self._body, size)
            if not data and size and self._size not in (None, self._at):
                raise aws.IncompleteReadError(actual_bytes=self._at, expected_bytes=self._size)
        except (*REFUSALS, OSError):
            self._leave()
            raise
        self._at += len(data)
        return data

    def _pass_over(self, body: StreamingBody, count: int) -> None:
        while count > 0 and (data := self._pace.read(body, min(count, READ_BYTES))):
            count -= len(data)

    def _leave(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
