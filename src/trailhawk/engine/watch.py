"""What ends a query that takes too long or too much: one thread that looks at all queries of the process.

The engine keeps its own limit of memory and can be interrupted; what Python computes on the way, and the rows
that leave the engine, know neither. So the process's memory is looked at too, and Python code is ended by an
exception that the watcher sets in its thread.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Protocol, TypeVar

from trailhawk.errors import LimitError

_Result = TypeVar("_Result")
_LOOK_SECONDS = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")
_AGAIN_SECONDS = 1.0
_CALM_SECONDS = 1.0
"""How long memory may take to fall after a query was stopped, before the next one is."""


class Stopped(BaseException):
    """Set in a thread whose time is over; no library's `except Exception` takes it for its own."""


class Interruptible(Protocol):
    """A cursor of the engine."""

    def interrupt(self) -> None: ...


class Watched:
    """One query while it runs. Made by `Watcher.run` alone."""

    def __init__(self, seconds: float, growth: int) -> None:
        self.thread = threading.get_ident()
        self.seconds = seconds
        self.until = time.monotonic() + seconds
        self.growth = growth
        self.reason: LimitError | None = None
        self._cursor: Interruptible | None = None
        self._over = False
        self._again_at = 0.0
        self._set = False
        self._lock = threading.Lock()

    @contextmanager
    def inside(self, cursor: Interruptible) -> Iterator[None]:
        """While the engine works for the query: stopping it is to interrupt the engine."""
        with self._lock:
            if self.reason is not None:
                raise self.error()
            self._cursor = cursor
        try:
            yield
        finally:
            with self._lock:
                self._cursor = None

    def stop(self, reason: LimitError) -> None:
        """End the query for this reason; again and again, since a call into the engine or into a library may
        miss it."""
        with self._lock:
            now = time.monotonic()
            if self._over:
                return
            self.reason = self.reason or reason
            if self._cursor is not None:
                self._cursor.interrupt()
            elif now >= self._again_at:
                self._again_at = now + _AGAIN_SECONDS
                self._set = True
                _stop(self.thread)

    def error(self) -> LimitError:
        """Why it was stopped; new each time, since a raised error holds all that it passed through."""
        return self.reason.again(None) if self.reason is not None else LimitError("the query was stopped")

    def finish(self) -> None:
        """From here on nothing is set in its thread, which is the one that calls this."""
        with self._lock:
            self._over = True
            if self._set:
                self._set = False
                _absorb()


class Watcher:
    """Looks at the running queries every 50 ms; its thread begins with the first of them."""

    def __init__(self) -> None:
        self._running: list[Watched] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._base = 0
        self._calm_until = 0.0
        self._own = threading.local()
        self._calls: dict[int, float] = {}
        """Threads in which the engine calls Python, with the moment at which that is to be over."""
        self._calls_stopped: set[int] = set()
        self._calls_lock = threading.Lock()

    def run(self, body: Callable[[Watched], _Result], *, seconds: float, growth: int) -> _Result:
        """The body's result. LimitError after `seconds`, or where the process grows by more than `growth`
        bytes while queries run; then the youngest of them ends. Within another run of this thread the body
        belongs to that one."""
        outer: Watched | None = getattr(self._own, "query", None)
        if outer is not None:
            return body(outer)
        query = self._own.query = Watched(seconds, growth)
        try:
            try:
                self._add(query)
                return body(query)
            finally:
                self._remove(query)
        except Stopped:
            self._remove(query)  # it may have been set while the query was being removed
            raise query.error() from None

    def current(self) -> Watched:
        """The query that runs in this thread."""
        query: Watched = self._own.query
        return query

    @contextmanager
    def calling(self, seconds: float) -> Iterator[None]:
        """While the engine calls Python in whatever thread it likes: Stopped after these seconds."""
        thread = threading.get_ident()
        with self._calls_lock:
            self._calls[thread] = time.monotonic() + seconds
        try:
            yield
        finally:
            with self._calls_lock:
                self._calls.pop(thread, None)
                if thread in self._calls_stopped:
                    self._calls_stopped.remove(thread)
                    _absorb()

    def _add(self, query: Watched) -> None:
        with self._changed:
            if not self._running:
                self._base = resident()
            self._running.append(query)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="query-watch", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _remove(self, query: Watched) -> None:
        query.finish()
        self._own.query = None
        with self._changed:
            if query in self._running:
                self._running.remove(query)

    def _look(self) -> None:
        while True:
            with self._changed:
                while not self._running:
                    self._changed.wait()
                running = list(self._running)
            self._judge(running, time.monotonic())
            del running  # a query that has ended, and all that its errors hold, is not kept by this thread
            time.sleep(_LOOK_SECONDS)

    def _judge(self, running: list[Watched], now: float) -> None:
        for query in running:
            if query.reason is not None:
                query.stop(query.reason)
            elif now >= query.until:
                query.stop(LimitError(f"the query ran longer than {query.seconds:g} s"))
        youngest = running[-1]
        if now >= self._calm_until and resident() - self._base > youngest.growth:
            self._calm_until = now + _CALM_SECONDS
            youngest.stop(
                LimitError("the query needs more memory than it may use", hint="narrow its time range")
            )
        with self._calls_lock:
            for thread, until in self._calls.items():
                if now >= until:
                    self._calls[thread] = now + _AGAIN_SECONDS
                    self._calls_stopped.add(thread)
                    _stop(thread)


class _Beside:
    """The thread beside the main thread: kept, for to start one takes longer than many a step of a query."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(self, call: Callable[[], None]) -> None:
        """Make this call there, after those asked for before."""
        if self._thread is None or not self._thread.is_alive():  # a forked process has none
            self._thread = threading.Thread(target=self._work, name="query", daemon=True)
            self._thread.start()
        self._calls.put(call)

    def _work(self) -> None:
        while True:
            self._calls.get()()


_BESIDE = _Beside()


def aside(body: Callable[[], _Result], cursor: Interruptible) -> _Result:
    """The body's result, computed in another thread where this is the main thread.

    Only the main thread hears Ctrl-C, and only between Python's own steps; the engine's call, waiting for the
    engine's threads, may never come to one. So the main thread waits beside it, and ends it at a signal.
    """
    if threading.current_thread() is not threading.main_thread():
        return body()
    results: list[_Result] = []
    errors: list[BaseException] = []
    ended = threading.Event()  # a thread's own `join` takes it for ended once a signal came

    def call() -> None:
        try:
            results.append(body())
        except BaseException as error:  # raised again in the thread that waits
            errors.append(error)
        ended.set()

    _BESIDE.do(call)
    try:
        ended.wait()
    except BaseException:
        while not ended.is_set():  # again and again: a call that has not begun yet misses it
            cursor.interrupt()
            ended.wait(_LOOK_SECONDS)
        raise
    try:
        if errors:
            raise errors[0]
        return results[0]
    finally:
        errors.clear()  # an error holds this frame, and would be held by it


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say (it is Linux that does)."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _stop(thread: int) -> None:
    """Raise Stopped in a thread at its next step."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Stopped))


def _absorb() -> None:
    """Nothing that was set in this thread is raised any more.

    It is raised here and caught. Taken back instead, by setting no exception, CPython 3.11 would look for it
    at every call from then on, and spin where a profiler or a debugger looks on.
    """
    try:
        _stop(threading.get_ident())
        while True:
            time.sleep(0)
    except Stopped:
        pass


WATCHER = Watcher()
