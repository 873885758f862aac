"""`trailhawk run` where the state database cannot be reached when it starts, or tells another time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from trailhawk.errors import StateError
from trailhawk.incidents import log
from trailhawk.run import Event, Job, _Once, jobs
from trailhawk.settings import SettingsError
from trailhawk.workspace import Workspace

NOW = datetime(2026, 3, 3, tzinfo=UTC)
CHANNEL = """[notify.channels.mail]
type = "email"
host = "127.0.0.1"
from = "a@example.com"
to = ["b@example.com"]
"""


def workspace(home: Path, settings: str) -> Workspace:
    home.mkdir(exist_ok=True)
    (home / "trailhawk.toml").write_text(settings)
    return Workspace.open(home, clock=lambda: NOW)


def test_it_starts_though_the_state_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trailhawk.workspace.content.Content.rules", lambda *_, **__: ())
    folder = tmp_path / "mounted later"
    made = workspace(tmp_path / "home", f'[state]\nurl = "sqlite:///{folder}/state.db"\n{CHANNEL}')
    told: list[Event] = []
    found = {job.name: job for job in jobs(made, tell=told.append, status_seconds=60)}
    assert [(event.level, event.job) for event in told] == [("error", "notify"), ("error", "automation")]
    assert all("unable to open database file" in event.message for event in told)
    assert all(event.message.endswith("let to write to it; it is tried again") for event in told)
    with pytest.raises(StateError):
        once(found["automation"])
    folder.mkdir()
    # Nobody is to miss what rules raise before the jobs that tell of it have come to try again.
    once(found["rules"])
    with made.alerts.reading() as connection:
        assert set(connection.scalars(sa.select(log.cursors.c.name))) == {"notify", "automation"}
    once(found["automation"])
    once(found["notify"])
    assert made.incidents.cursor("notify") == 0


def once(job: Job) -> None:
    """One step of a job."""

    class Once:
        asked = False

        def is_set(self) -> bool:
            self.asked, before = True, self.asked
            return before

        def wait(self, seconds: float) -> bool:
            return False

    job.work(Once())  # type: ignore[arg-type]  # as much of an event as a step asks for


def test_what_is_made_once_is_made_once_by_several_threads() -> None:
    made: list[int] = []
    failing = [ValueError("not yet")]

    def make() -> int:
        if failing:
            raise failing.pop()
        time.sleep(0.01)
        made.append(len(made))
        return made[-1]

    once = _Once(make)
    with pytest.raises(ValueError, match="not yet"):
        once()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: once(), range(4))) == [0, 0, 0, 0]


def test_a_channel_that_is_set_up_wrong_is_told_before(tmp_path: Path) -> None:
    made = workspace(
        tmp_path / "home",
        '[state]\nurl = "sqlite:////none/state.db"\n[notify.channels.mail]\ntype = "pigeon"\n',
    )
    with pytest.raises(SettingsError, match="pigeon"):
        jobs(made, tell=lambda _: None, status_seconds=60)


def test_a_clock_that_differs_is_told_when_that_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = workspace(tmp_path / "home", "")
    (tmp_path / "home" / "rules").mkdir()
    monkeypatch.setattr("trailhawk.workspace.content.Content.rules", lambda *_, **__: ())
    ahead = [
        timedelta(seconds=29),
        timedelta(minutes=-2),
        timedelta(minutes=-2),
        timedelta(),
        timedelta(hours=1),
    ]
    monkeypatch.setattr(Workspace, "ahead_of_state", lambda _: ahead.pop(0))
    told: list[Event] = []
    rules = next(job for job in jobs(made, tell=told.append, status_seconds=60) if job.name == "rules")
    while ahead:
        once(rules)
    assert [event.fields for event in told] == [{"seconds": 120}, {"seconds": 3600}]
    assert "is 120 s behind the state database's" in told[0].message
    assert "is 3,600 s ahead of the state database's" in told[1].message
