"""Who works by leases: that a process has ended is known of those of this machine and home alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from trailhawk.detect.owner import Owner
from trailhawk.detect.owner import boot as boot_of
from trailhawk.detect.rule import Rule, RuleKind, Severity
from trailhawk.detect.rulebook import RuleStates
from trailhawk.detect.schedule import WindowState
from trailhawk.detect.scheduler import Round, Scheduler
from trailhawk.detect.store import AlertStore, open_state, sqlite_url
from trailhawk.engine.result import Result

AT = datetime(2026, 3, 1, 11, tzinfo=UTC)
RULE = Rule(
    id="stop",
    name="Stopped",
    query="T",
    kind=RuleKind.SCHEDULED,
    severity=Severity.HIGH,
    frequency=timedelta(hours=1),
    period=timedelta(hours=1),
)
AT_WORK = """
import sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from trailhawk.detect.owner import Owner, boot
from trailhawk.detect.rule import Rule, RuleKind, Severity
from trailhawk.detect.rulebook import RuleStates
from trailhawk.detect.scheduler import Scheduler
from trailhawk.detect.store import AlertStore, open_state, sqlite_url

class Slow:
    def query(self, text, **named):
        print(owner.name, flush=True)
        time.sleep(60)

home = Path(sys.argv[1])
owner = Owner(home / "processes", boot=boot())
store = AlertStore(open_state(sqlite_url(home / "state.db")))
hour = timedelta(hours=1)
rule = Rule(id="stop", name="Stopped", query="T", kind=RuleKind.SCHEDULED, severity=Severity.HIGH,
    frequency=hour, period=hour)
Scheduler(store, RuleStates(store.engine), owner=owner.name, has_ended=owner.has_ended,
    clock=lambda: datetime(2026, 3, 1, 12, tzinfo=UTC)).round(Slow(), [rule], [])
"""


@pytest.fixture
def here() -> str:
    found = boot_of()
    if not found:
        pytest.skip("the system does not tell its boots apart")
    return found


@pytest.fixture
def killed(tmp_path: Path) -> str:
    """The name of a process that was killed while it ran a rule of the home `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert name.startswith(f"{socket.gethostname()}:{process.pid}/")
        others = World(tmp_path)
        assert others.round().runs == (), "it is at work"
        process.send_signal(signal.SIGKILL)
    return name


class World:
    """A scheduler over the home, ten minutes after the process began its query."""

    def __init__(self, home: Path, *, boot: str | None = None) -> None:
        store = AlertStore(open_state(sqlite_url(home / "state.db")))
        self.owner = Owner(home / "processes", boot=boot if boot is not None else boot_of())
        self._scheduler = Scheduler(
            store,
            RuleStates(store.engine),
            owner=self.owner.name,
            has_ended=self.owner.has_ended,
            clock=lambda: datetime(2026, 3, 1, 12, 10, tzinfo=UTC),
        )

    def round(self) -> Round:
        return self._scheduler.round(Nothing(), [RULE], [])


class Nothing:
    """An engine over an empty lake."""

    def query(self, text: str, **named: object) -> Result:
        return Result((), pa.table({}))


def test_the_rule_of_a_killed_process_is_run_at_once(here: str, killed: str, tmp_path: Path) -> None:
    assert World(tmp_path).owner.has_ended(killed)
    first, second = World(tmp_path).round().runs
    assert (first.window.at, first.state) == (AT, WindowState.DONE)
    assert second.window.at == AT + RULE.frequency


@pytest.mark.parametrize("boot", ["", "another boot"])
def test_of_another_machine_nothing_is_known(here: str, killed: str, tmp_path: Path, boot: str) -> None:
    world = World(tmp_path, boot=boot)
    assert not world.owner.has_ended(killed)
    assert world.round().runs == ()


def test_what_is_no_name_of_a_process_of_this_home(here: str, killed: str, tmp_path: Path) -> None:
    owner, other = Owner(tmp_path / "one", boot=here), Owner(tmp_path / "two", boot=here)
    for name in (owner.name, other.name, killed, "host:1", "", f"host:1/{here}/", f"host:1/{here}/../x"):
        assert not owner.has_ended(name)


def test_files_are_cleared_away(here: str, tmp_path: Path) -> None:
    owner = Owner(tmp_path, boot=here)
    (left, young) = (tmp_path / f"{name}.lock" for name in ("left", "young"))
    for path in (left, young, *tmp_path.glob("*.lock")):
        path.touch()
        if path is not young:
            os.utime(path, (0, 0))
    other = Owner(tmp_path, boot=here)
    assert not left.exists()
    assert young.exists()
    assert not other.has_ended(owner.name), "it is old, and lives"
    name = owner.name
    del owner
    assert sorted(tmp_path.glob("*.lock")) == sorted([young, tmp_path / f"{other.name.split('/')[-1]}.lock"])
    assert not other.has_ended(name), "it gave back what it had"
