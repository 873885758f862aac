"""How the connectors of the running process fare at this moment, as a file of the home tells others."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from trailhawk.connectors.connector import State
from trailhawk.files import write_whole

_MISSED: Final = 3
_SLACK: Final = dt.timedelta(minutes=1)
"""A process that has missed so many times, and this, to say how it fares does not run any more."""


@dataclass(frozen=True, slots=True)
class _Told:
    at: dt.datetime
    every: dt.timedelta
    states: tuple[State, ...]


class Running:
    """Written by `trailhawk run`, read by `trailhawk health`; of several processes the last one counts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, states: Sequence[State], *, now: dt.datetime, every: dt.timedelta) -> None:
        """Tell how connectors fare. When one has brought something last is kept over its starts."""
        before = self._read()
        last = {state.name: state.last_object_at for state in before.states} if before else {}
        kept = tuple(
            dataclasses.replace(state, last_object_at=state.last_object_at or last.get(state.name))
            for state in states
        )
        write_whole(self._path, msgspec.json.encode(_Told(now, every, kept)))

    def end(self) -> None:
        """Tell no more: the process ends as it should."""
        self._path.unlink(missing_ok=True)

    def health(self, connector: Mapping[str, object], *, now: dt.datetime) -> dict[str, object]:
        """What is known beyond what SentinelHealth told of a connector last; empty where no process runs."""
        told = self._read()
        state = next((each for each in told.states if each.name == connector["name"]), None) if told else None
        if told is None or state is None:
            return {}
        found: dict[str, object] = {"idle_since": state.idle_since, "last_received": state.last_object_at}
        if now - told.at > told.every * _MISSED + _SLACK:
            return found | {
                "state": "stopped",
                "reason": f"nothing is told since {_short(told.at)}: 'trailhawk run' has ended",
            }
        if state.problem:
            since = f" (since {_short(state.problem_since)})" if state.problem_since else ""
            return found | {"state": "failing", "reason": state.problem + since}
        if state.idle_since is None:
            return found | {"state": "ok", "reason": state.doing}
        received = (
            f"last received {_short(state.last_object_at)}"
            if state.last_object_at
            else "nothing received yet"
        )
        return found | {
            "state": "idle",
            "reason": f"{state.doing}, idle since {_short(state.idle_since)}, {received}",
        }

    def _read(self) -> _Told | None:
        """What was told last; None where nothing was, or by a version that tells otherwise."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Told)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None


def _short(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M}"
