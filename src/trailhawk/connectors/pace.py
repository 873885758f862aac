"""An end to bodies that come too slowly: who sends a byte now and then holds no thread for ever."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from botocore import exceptions as aws

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from urllib3.response import HTTPResponse

LEAST_BYTES: Final = 64 * 1024
MOST_SECONDS: Final = 60.0
"""So much of a body, or its rest, is to come within this time. A wait for a single byte ends sooner, by the
client's own limit, which knows nothing of bytes that do come."""
_LOOKS: Final = 30
"""How often within that time it is looked."""


class SlowBodyError(aws.BotoCoreError):
    """A body that came too slowly; to be asked for again."""

    fmt = "less than {bytes:,} bytes of the object came in {seconds:g} s"


@dataclass(eq=False)
class _Begun:
    """A piece that is being read."""

    body: StreamingBody
    since: float = field(default_factory=time.monotonic)
    is_cut: bool = False


class Pace:
    """Reads pieces of bodies, and cuts off those that take too long. Safe to use from several threads."""

    def __init__(self, *, seconds: float = MOST_SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._begun: set[_Begun] = set()
        self._watcher: threading.Thread | None = None

    def read(self, body: StreamingBody, size: int) -> bytes:
        """At most `size` bytes, none at the end. SlowBodyError where they, or LEAST_BYTES of them, take too
        long; else as the body raises."""
        begun = _Begun(body)
        self._begin(begun)
        try:
            data: bytes = body.read(min(size, LEAST_BYTES))
        except (aws.BotoCoreError, OSError, ValueError) as error:
            if begun.is_cut:
                raise SlowBodyError(bytes=min(size, LEAST_BYTES), seconds=self._seconds) from error
            raise
        finally:
            with self._lock:
                self._begun.discard(begun)
        if begun.is_cut:  # what looks like its end may be the cut
            raise SlowBodyError(bytes=min(size, LEAST_BYTES), seconds=self._seconds)
        return data

    def _begin(self, begun: _Begun) -> None:
        with self._lock:
            self._begun.add(begun)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="pace", daemon=True)
                self._watcher.start()

    def _watch(self) -> None:
        """Cut what takes too long, for as long as anything is read."""
        while True:
            time.sleep(self._seconds / _LOOKS)
            with self._lock:
                if not self._begun:
                    self._watcher = None
                    return
                late = time.monotonic() - self._seconds
                slow = [begun for begun in self._begun if begun.since < late and not begun.is_cut]
                for begun in slow:
                    begun.is_cut = True
                    _cut(begun.body)


def _cut(body: StreamingBody) -> None:
    """End the connection, so that who waits for its next byte wakes up."""
    stream = cast("HTTPResponse", body.__enter__())  # gives the stream below, and does nothing else
    try:
        stream.shutdown()
    except (RuntimeError, ValueError, OSError):
        return  # it has come to its end meanwhile
