"""How the connectors of running processes fare at this moment, as files of the home tell others."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import shutil
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from trailhawk.connectors.connector import State
from trailhawk.files import write_whole

_LEAST_ROOM: Final = 64 * 1024
_MISSED: Final = 3
_SLACK: Final = dt.timedelta(minutes=1)
"""A process that has missed so many times, and this, to say how it fares does not run any more."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What a process told last. `ended`: when it was stopped as it should be."""

    at: dt.datetime
    every: dt.timedelta
    states: tuple[State, ...]
    ended: dt.datetime | None = None

    def runs(self, now: dt.datetime) -> bool:
        return self.ended is None and abs(now - self.at) <= self.every * _MISSED + _SLACK

    def of(self, name: object) -> State | None:
        return next((state for state in self.states if state.name == name), None)


class Running:
    """Written by `trailhawk run`, read by `trailhawk health`: a file for each process in one folder.

    Of several processes that run the one that told last counts, for each connector; of those that run no more
    likewise, where none runs. `process` names the file of this one.
    """

    def __init__(self, folder: Path, process: str = "") -> None:
        self._folder = folder
        self._own = folder / f"{process or f'{socket.gethostname()}-{os.getpid()}'}.json"

    def write(self, states: Sequence[State], *, now: dt.datetime, every: dt.timedelta) -> None:
        """Tell how connectors fare. When one has brought something last is kept over its starts."""
        self._write(states, _Told(now, every, ()), now)

    def end(self, states: Sequence[State], *, now: dt.datetime) -> None:
        """Tell that connectors run no more: the process ends as it should."""
        self._write(states, _Told(now, dt.timedelta(), (), ended=now), now)

    def health(self, connector: Mapping[str, object], *, now: dt.datetime) -> dict[str, object]:
        """What is known beyond what SentinelHealth told of a connector last; empty where no process ran."""
        name = connector["name"]
        found = [(told, state) for told in self._read().values() if (state := told.of(name))]
        if not found:
            return {}
        told, state = max(found, key=lambda each: (each[0].runs(now), each[0].at))
        received = _newest(state.last_object_at for _, state in found)
        full = "" if told.ended else self._is_full()
        if full:
            state = dataclasses.replace(state, problem=full, problem_since=None, idle_since=None)
        runs = bool(full) or told.runs(now)  # that it tells nothing does not mean then that it has ended
        return {
            "idle_since": state.idle_since if runs else None,
            "last_received": received,
        } | (_at_work(state, received) if runs else _stopped(told, state))

    def _is_full(self) -> str:
        """Where there is no room a process can tell nothing any more, and what it told last is no news."""
        free = shutil.disk_usage(self._folder).free
        full = f"no room is left on the disk of {self._folder}: 'trailhawk run' cannot tell how it fares"
        return full if free < _LEAST_ROOM else ""

    def _write(self, states: Sequence[State], told: _Told, now: dt.datetime) -> None:
        before = self._read()

        def received(state: State) -> dt.datetime | None:
            others = (each.of(state.name) for each in before.values())
            return _newest([state.last_object_at, *(each.last_object_at for each in others if each)])

        kept = tuple(dataclasses.replace(state, last_object_at=received(state)) for state in states)
        self._folder.mkdir(exist_ok=True)
        write_whole(self._own, msgspec.json.encode(dataclasses.replace(told, states=kept)))
        names = {state.name for state in states}
        for path, each in before.items():
            if path != self._own and not each.runs(now) and names.issuperset(one.name for one in each.states):
                path.unlink(missing_ok=True)  # all that it tells is told anew now

    def _read(self) -> dict[Path, _Told]:
        """What each process told last, by its file; what another version tells otherwise is left out."""
        found: dict[Path, _Told] = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                found[path] = msgspec.json.decode(path.read_bytes(), type=_Told)
            except (FileNotFoundError, msgspec.MsgspecError):
                continue
        return found


def _at_work(state: State, received: dt.datetime | None) -> dict[str, object]:
    if state.problem:
        since = f" (since {_short(state.problem_since)})" if state.problem_since else ""
        return {"state": "failing", "reason": state.problem + since}
    if state.idle_since is None:
        return {"state": "ok", "reason": state.doing}
    last = f"last received {_short(received)}" if received else "nothing received yet"
    return {"state": "idle", "reason": f"{state.doing}, idle since {_short(state.idle_since)}, {last}"}


def _stopped(told: _Told, state: State) -> dict[str, object]:
    why = (
        f"since {_short(told.ended)}: 'trailhawk run' was stopped"
        if told.ended
        else f"nothing is told since {_short(told.at)}: 'trailhawk run' has ended"
    )
    problem = f"; its trouble then: {state.problem}" if state.problem else ""
    return {"state": "stopped", "reason": why + problem}


def _newest(moments: Iterable[dt.datetime | None]) -> dt.datetime | None:
    return max((moment for moment in moments if moment), default=None)


def _short(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M}"
