"""HTTP/1.1 of uvicorn, with an end to its patience: who sends no whole request is not kept connected, and
of too many at once the last are told to come later."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from trailhawk.connectors.bodies import LATER

HEAD_SECONDS: Final = 20.0
CONNECTIONS: Final = 1000


class Patience(H11Protocol):
    """A connection that is closed when nothing is being answered for HEAD_SECONDS.

    uvicorn itself waits without end for the head of a first request, and for the rest of a body that was
    refused already; a thousand such connections, which need no token, would shut everybody else out.
    """

    _ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self.app = _TOO_MANY
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._ends is None:
            self._ends = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None


# uvicorn's own answer at a limit does not say when to come again.
_TOO_MANY: Final = JSONResponse(
    {"error": "too many are connected: send it again later"}, 503, {**LATER, "Connection": "close"}
)
