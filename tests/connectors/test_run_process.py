"""`trailhawk run`: jobs that go on, fail, end; and whole processes against AWS."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from trailhawk import run as run_module
from trailhawk.connectors.connector import ConnectorError, State
from trailhawk.run import CatchUp, Event, Job, Runner, every, jobs
from trailhawk.workspace import Workspace

if TYPE_CHECKING:
    from support.aws import Aws

NOW = datetime(2026, 3, 3, tzinfo=UTC)


def runner(jobs: list[Job], told: list[Event]) -> Runner:
    return Runner(jobs, tell=told.append, clock=lambda: NOW, rng=random.Random(1))


def test_a_job_that_fails_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "FIRST_WAIT", 0.001)
    stop, told, calls = threading.Event(), list[Event](), 0

    def work(stop: threading.Event) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ValueError("no luck")
        stop.set()

    assert runner([Job("one", work)], told).run(stop, drain_seconds=5) == []
    assert calls == 3
    failures = [event for event in told if event.level == "error"]
    assert [event.message for event in failures] == ["failed: ValueError: no luck"] * 2
    assert failures[1].fields["again_in_seconds"] == 0.002


def test_a_clock_that_is_ahead_takes_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention of the running process goes by the newest event then, and says so once: it cannot tell
    whether the clock is ahead or the logs have stopped."""
    (home := tmp_path / "home").mkdir()
    (home / "trailhawk.toml").write_text("[lake]\nretention_days = 30\n")
    events = [
        {"eventTime": f"2026-{month:02}-01T10:00:00Z", "eventID": f"id-{month}", "eventName": "a"}
        for month in (1, 2, 3)
    ]
    log = tmp_path / "log.json"
    log.write_bytes(orjson.dumps({"Records": events}))
    now = NOW
    workspace = Workspace(home, clock=lambda: now)
    workspace.ingest([log])
    told: list[Event] = []
    sweep = next(job for job in jobs(workspace, tell=told.append, status_seconds=60) if job.name == "sweep")

    now = NOW + timedelta(days=300)
    monkeypatch.setattr(threading.Event, "wait", lambda stop, _: stop.set())  # one round
    for _ in range(2):
        sweep.work(threading.Event())
    assert workspace.lake.snapshot("AWSCloudTrail").rows == 1, (
        "those of 30 days before a week after the newest"
    )
    (warning,) = [event.message for event in told if event.level == "warning"]
    assert "302 days behind this machine's clock" in warning
    assert "logs have stopped" in warning
    assert [gone.rows for gone in workspace.caretaker.expiring(["AWSCloudTrail"])] == [1]


def test_a_job_that_does_not_end_is_named_after_the_time() -> None:
    stop, told, free = threading.Event(), list[Event](), threading.Event()

    def stubborn(stop: threading.Event) -> None:
        stop.wait()
        free.wait(30)

    def ready(stop: threading.Event) -> None:
        stop.set()

    started = time.monotonic()
    left = runner([Job("stubborn", stubborn), Job("ready", ready)], told).run(stop, drain_seconds=0.1)
    free.set()
    assert left == ["stubborn"]
    assert time.monotonic() - started < 25  # on a busy machine too


@pytest.mark.parametrize("step", [timedelta(hours=8), timedelta(days=-400)])
def test_after_a_start_a_sleep_and_a_set_clock_streams_have_time_to_catch_up(step: timedelta) -> None:
    catch_up, now, minute = CatchUp(every=timedelta(minutes=1)), NOW, timedelta(minutes=1)
    for _ in range(2):
        assert [catch_up.is_over(now + n * minute) for n in range(20)] == [False] * 15 + [True] * 5
        now += step


def test_a_signal_that_reaches_another_thread_stops_the_process() -> None:
    stop, told = threading.Event(), list[Event]()

    def work(stop: threading.Event) -> None:
        time.sleep(0.05)  # by then the first thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        stop.wait(30)

    before = signal.signal(signal.SIGUSR1, lambda number, frame: stop.set())
    try:
        started = time.monotonic()
        assert runner([Job("one", work)], told).run(stop, drain_seconds=5) == []
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - started < 20


class Failing:
    """A connector that ends with an error of its own."""

    name = "main"

    def __init__(self) -> None:
        self.fails = True

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        if self.fails:
            raise ConnectorError("no such queue", hint="see its name")
        stop.wait()

    def state(self) -> State:
        return State("main", "sqs")


def test_what_ended_a_connector_is_its_trouble_until_it_runs_well(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, connector = threading.Event(), Failing()
    bringing = run_module._Bringing(connector)
    assert bringing.state().problem == ""
    with pytest.raises(ConnectorError):
        bringing.work(stop)
    assert bringing.state().problem == "no such queue; see its name"
    connector.fails = False
    thread = threading.Thread(target=bringing.work, args=(stop,))
    thread.start()
    assert bringing.state().problem, "it has only just begun"
    monkeypatch.setattr(run_module, "LONGEST_WAIT", 0.0)
    until(lambda: not bringing.state().problem)
    stop.set()
    thread.join()


def test_a_connector_that_fails_at_once_is_told_as_failing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the next round of health only, a minute later; and never as well."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "trailhawk.toml").write_text('[connectors.main]\ntype = "folder"\npaths = ["logs"]\n')
    workspace = Workspace.open(home)
    monkeypatch.setattr(workspace, "connector", lambda name: Failing())
    stop, said = threading.Event(), list[Event]()

    def tell(event: Event) -> None:
        said.append(event)
        if event.job == "health":
            stop.set()

    found = run_module.jobs(workspace, tell=tell, status_seconds=60)
    working = [job for job in found if job.name in ("main", "health")]
    guard = threading.Timer(30, stop.set)
    guard.start()
    assert runner(working, said).run(stop, drain_seconds=30) == []
    guard.cancel()
    assert [event.message for event in said if event.job == "health"] == [
        "main: no such queue; see its name",
    ]
    (health,) = workspace.health()
    assert health["state"] == "stopped"
    assert "its trouble then: no such queue" in str(health["reason"])


def test_what_was_taken_before_is_told_beside_the_objects() -> None:
    state = State("main", "s3", objects=600, skipped=599, records=1, rows=1)
    assert run_module._line(state) == "600 objects, 599 of them taken before, 1 record, 1 row"
    assert run_module._line(replace(state, skipped=0)) == "600 objects, 1 record, 1 row"


class Draining:
    """A connector that receives something after it was told to stop, as one that stores what it holds."""

    name = "main"

    def __init__(self, may_end: threading.Event) -> None:
        self._state = State("main", "sqs", doing="waiting for messages", idle_since=NOW)
        self._may_end = may_end

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        stop.wait()
        self._may_end.wait(30)
        self._state = replace(self._state, doing="stopped", last_object_at=NOW)

    def state(self) -> State:
        return self._state


def test_what_was_received_while_it_ended_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, may_end = tmp_path / "home", threading.Event()
    home.mkdir()
    (home / "trailhawk.toml").write_text('[connectors.main]\ntype = "folder"\npaths = ["logs"]\n')
    workspace = Workspace.open(home)
    monkeypatch.setattr(workspace, "connector", lambda name: Draining(may_end))
    stop = threading.Event()

    def tell(event: Event) -> None:
        if event.job == "health":
            stop.set()

    found = {job.name: job for job in run_module.jobs(workspace, tell=tell, status_seconds=60)}
    thread = threading.Thread(target=found["main"].work, args=(stop,))
    thread.start()
    found["health"].work(stop)
    (health,) = workspace.health()
    assert (health["state"], health["last_received"]) == ("stopped", None)
    may_end.set()
    thread.join()
    (health,) = workspace.health()
    assert (health["state"], health["last_received"]) == ("stopped", NOW)


def test_a_step_is_repeated_until_the_end() -> None:
    stop, steps = threading.Event(), 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == 4:
            stop.set()

    every(0.0, step)(stop)
    assert steps == 4


Start = Callable[[Path], "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes, which do not outlive the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def started(home: Path) -> subprocess.Popen[bytes]:
        words = ["--home", str(home), "run", "--format", "json", "--status", "1"]
        process = subprocess.Popen([sys.executable, "-m", "trailhawk", *words], stderr=subprocess.PIPE)
        processes.append(process)
        return process

    yield started
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ended(process: subprocess.Popen[bytes]) -> list[dict[str, object]]:
    """Stop a process as a service manager does; what it told."""
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=180)
    assert process.returncode == 0, told.decode()
    return [orjson.loads(line) for line in told.splitlines()]


def until(true: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.1)


def settings(home: Path, aws: Aws, queue: str) -> None:
    home.mkdir()
    (home / "trailhawk.toml").write_text(
        f"""
        [run]
        compact_seconds = 1
        health_seconds = 1

        [connectors.main]
        type = "sqs"
        queue_url = "{queue}"
        region = "{aws.access.region}"
        endpoint_url = "{aws.url}"
        flush_seconds = 1
        """
    )


@pytest.mark.long
def test_two_processes_share_a_queue_and_end_when_told(aws: Aws, start: Start, tmp_path: Path) -> None:
    queue, home = aws.queue(aws.bucket()), tmp_path / "home"
    settings(home, aws, queue)
    processes = [start(home), start(home)]
    for number in range(30):
        aws.put("logs", f"{number}.json")
    lake = Workspace.open(home).lake
    until(lambda: lake.snapshot("AWSCloudTrail").rows >= 30)
    told = [ended(process) for process in processes]
    assert lake.snapshot("AWSCloudTrail").rows == 30
    # The notification's own test message is among the objects of neither.
    assert aws.waiting(queue) == (0, 0)
    for events in told:
        messages = [event["message"] for event in events if event["job"] == "run"]
        assert messages == ["started, connectors: main", "stopping", "stopped"]
        assert any(event["job"] == "main" and "objects" in event for event in events)
    health = Workspace.open(home).health()
    assert {"name": "main", "state": "stopped", "kind": "sqs"}.items() <= health[-1].items()
    assert health[-1]["last_received"]


def test_a_connector_that_fails_is_told_and_ends_no_other(aws: Aws, start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings(home, aws, f"{aws.url}/123456789012/nowhere")
    process = start(home)
    workspace = Workspace.open(home)

    def failing() -> bool:
        return any(each["state"] == "failing" for each in workspace.health())

    until(failing)
    told = ended(process)
    (health,) = [each for each in workspace.health() if each["name"] == "main"]
    assert "does not exist" in str(health["reason"])
    assert any(event["job"] == "health" and event["level"] == "warning" for event in told)


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "trailhawk.toml").write_text("[run]\ndrain_seconds = 0\n")
    command = [sys.executable, "-m", "trailhawk", "--home", str(tmp_path), "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "run.drain_seconds is 0; it is from 1 to 3,600" in done.stderr
    assert done.stderr.count("\n") == 1
