"""Where output goes: one console for results, one for messages and progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# Into a file or pipe nothing is folded at 80 columns.
_PIPE_WIDTH = 100_000
PAGE_WIDTH = 110

_SOON = 1.0
"""Seconds of silence on a terminal before it is told that work goes on."""

_WHILE = 30.0
"""Seconds between two lines of progress in a log."""


def results() -> Console:
    """The console of standard output: no markup, no guessing at colours for numbers or paths."""
    return _console(stderr=False)


def messages() -> Console:
    """The console of standard error."""
    return _console(stderr=True)


def page_width(console: Console) -> int:
    """How wide a page of prose and panels is drawn."""
    return min(console.width, 140) if console.is_terminal else PAGE_WIDTH


class Bar(Protocol):
    """Told how far the work is."""

    def __call__(self, done: int, total: int, /) -> None: ...


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Bar]:
    """A progress bar on standard error, where that is no terminal a line now and then; or quiet."""
    if quiet:
        yield lambda done, total, /: None
        return
    if not sys.stderr.isatty():
        yield _Lines(title)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    shown = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=messages(),
        transient=True,
    )
    with shown:
        task = shown.add_task(title, total=None)
        yield lambda done, total, /: shown.update(task, completed=done, total=total or None)


@contextmanager
def working(title: str) -> Iterator[None]:
    """A sign of life on a terminal for work that may take seconds and cannot say how far it is."""
    if not sys.stderr.isatty():
        yield
        return
    from threading import Timer

    shown: list[Progress] = []
    late = Timer(_SOON, lambda: shown.append(_spinning(title)))
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()
        late.join()
        for each in shown:
            each.stop()


def _spinning(title: str) -> Progress:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    shown = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=messages(),
        transient=True,
    )
    shown.add_task(title, total=None)
    shown.start()
    return shown


class _Lines:
    """Progress for a log file: a line when the work takes longer than a while, and then once a while."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._started = self._told = monotonic()

    def __call__(self, done: int, total: int, /) -> None:
        now = monotonic()
        if now - self._told < _WHILE:
            return
        self._told = now
        of = f" of {total:,}" if total else ""
        print(f"{self._title}: {done:,}{of} after {now - self._started:.0f} s", file=sys.stderr, flush=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)
