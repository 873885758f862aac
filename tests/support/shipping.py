"""A shipper's side of the HTTP way in, and waiting for what another thread or process does."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from trailhawk.connectors.http import HttpConnector

TOKEN = "0123456789abcdef-of-the-test"
HASH = hashlib.sha256(TOKEN.encode()).hexdigest()


def until(ready: Callable[[], object], seconds: float = 60) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


@contextmanager
def running(web: HttpConnector) -> Iterator[httpx.Client]:
    """The connector at work in a thread, and a client that has its token."""
    stop = threading.Event()
    thread = threading.Thread(target=web.run, args=(stop,))
    thread.start()
    try:
        until(lambda: web.port)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{web.port}", headers=headers) as client:
            yield client
    finally:
        stop.set()
        thread.join()
