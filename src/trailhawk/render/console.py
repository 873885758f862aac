"""Where output goes: one console for results, one for messages and progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

# Into a file or pipe nothing is folded at 80 columns.
_PIPE_WIDTH = 100_000
PAGE_WIDTH = 110


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
    """A progress bar on standard error; silent where that is no terminal or the user wants quiet."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total, /: None
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


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)
