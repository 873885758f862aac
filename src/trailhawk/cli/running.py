"""The one process that brings logs in and looks after them."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from enum import StrEnum
from types import FrameType
from typing import Annotated

import typer

from trailhawk.cli.options import EXIT_FAILURE, examples, single, workspace_of
from trailhawk.render.output import print_utf8
from trailhawk.render.text import moment, to_json
from trailhawk.run import Event, Runner, jobs
from trailhawk.visible import visible

app = single()

_ONE_WISH_SECONDS = 1.0

_PAST = "each runs from its first look on; over logs of the time before: 'trailhawk detect'"


class LogFormat(StrEnum):
    """How what happens is told."""

    TEXT = "text"
    JSON = "json"


@app.command(epilog=examples("trailhawk run", "trailhawk run --format json --status 300"))
def run(
    context: typer.Context,
    form: Annotated[LogFormat, typer.Option("--format", help="How what happens is told.")] = LogFormat.TEXT,
    status: Annotated[
        int, typer.Option("--status", metavar="SECONDS", min=1, help="How often connectors tell their state.")
    ] = 60,
) -> None:
    """Run every connector and rule, and look after the lake, until stopped.

    Runs each enabled rule when it is due, and what an outage kept from running,
    but not over the time before its first run: `trailhawk detect` does that.
    Compacts, applies retention and clears away, and watches for silence. SIGTERM
    or Ctrl-C lets it finish what it has begun, for run.drain_seconds at most; a
    second one ends it at once. Nothing is lost or doubled either way. A second
    process over the same home shares the work.
    """
    if form is LogFormat.JSON:
        print_utf8(sys.stderr)
    workspace = workspace_of(context)
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            print(_line(event, form), file=sys.stderr, flush=True)

    stop = threading.Event()
    _on_signals(stop)
    found = jobs(workspace, tell=tell, status_seconds=status)
    names = ", ".join(workspace.connector_settings) or "none is set up in trailhawk.toml"
    tell(Event(workspace.clock(), "info", "run", f"started, connectors: {names}", {"process": os.getpid()}))
    tell(Event(workspace.clock(), "info", "rules", _PAST, {}))
    runner = Runner(found, tell=tell, clock=workspace.clock, rng=random.Random())
    left = runner.run(stop, drain_seconds=workspace.settings.run.drain_seconds)
    if left:
        message = f"ended while at work: {', '.join(left)}; what they had begun is brought again"
        tell(Event(workspace.clock(), "warning", "run", message, {"jobs": left}))
        # Their threads cannot be ended one by one, and waiting for them is what the bound is against.
        os._exit(EXIT_FAILURE)
    tell(Event(workspace.clock(), "info", "run", "stopped", {}))


def _on_signals(stop: threading.Event) -> None:
    """Let the first signal stop the work and a later one end the process."""
    first: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        # Some send theirs to the process and to its group: that is one wish, not two.
        if first and time.monotonic() - first[0] > _ONE_WISH_SECONDS:
            os._exit(EXIT_FAILURE)
        first.append(time.monotonic())
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def _line(event: Event, form: LogFormat) -> str:
    if form is LogFormat.JSON:
        told = {"time": event.at, "level": event.level, "job": event.job, "message": event.message}
        return to_json(told | event.fields)
    return f"{moment(event.at.replace(microsecond=0))} {event.level:7} {event.job}: {visible(event.message)}"
