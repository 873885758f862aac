"""Streams that fall silent or shrink, and what SentinelHealth is told of them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import random
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pytest

from trailhawk.connectors import LEDGER, SENTINEL_HEALTH
from trailhawk.connectors.connector import State
from trailhawk.connectors.health import StreamHealth, streams
from trailhawk.connectors.running import Running
from trailhawk.connectors.sentinel_health import (
    CHANGE,
    FAILURES,
    Told,
    connector_states,
    latest,
    of_connector,
    of_stream,
    tell,
)
from trailhawk.lake import Lake
from trailhawk.lake.table import fitted
from trailhawk.run import Event, jobs
from trailhawk.workspace import Workspace

NOW = dt.datetime(2026, 3, 30, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


def lake_of(path: Path) -> Lake:
    return Lake(path, [LEDGER, SENTINEL_HEALTH])


def store(
    lake: Lake,
    moments: Iterable[dt.datetime],
    *,
    rows: int = 100,
    folder: str = "s3://b/AWSLogs/123456789012/CloudTrail/us-east-1",
    delay: dt.timedelta = dt.timedelta(minutes=10),
    filtered: int = 0,
    prefix: str = "",
) -> None:
    """Objects whose newest events are at these moments, stored somewhat later."""
    entries = [
        {
            "TimeGenerated": (moment + delay).replace(tzinfo=None),
            "Object": f"{prefix}{folder}/{number}",
            "Location": f"{folder}/{moment:%Y/%m/%d}/{number}.json.gz",
            "Source": "cloudtrail",
            "TargetTable": "AWSCloudTrail",
            "State": "stored",
            "Rows": rows,
            "Filtered": filtered,
            "LastEvent": moment.replace(tzinfo=None),
        }
        for number, moment in enumerate(moments)
    ]
    delta = lake.delta(LEDGER.name)
    delta.create()
    delta.commit(delta.stage(fitted(pa.Table.from_pylist(entries), LEDGER)))


def hourly(first: dt.datetime, last: dt.datetime) -> list[dt.datetime]:
    return [first + number * HOUR for number in range((last - first) // HOUR + 1)]


def judged(lake: Lake, now: dt.datetime = NOW) -> StreamHealth:
    (stream,) = streams(lake, now=now)
    return stream


def test_a_stream_that_goes_on_is_well(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    store(lake, hourly(NOW - 20 * DAY, NOW - HOUR))
    stream = judged(lake)
    assert (stream.state, stream.reason) == ("ok", "")
    assert (stream.source, stream.account, stream.region) == ("cloudtrail", "123456789012", "us-east-1")
    assert stream.delay == dt.timedelta(minutes=10)
    assert stream.silence == dt.timedelta(minutes=100)
    assert stream.usual_rows == 2400


def test_an_empty_ledger_has_no_streams(tmp_path: Path) -> None:
    assert streams(lake_of(tmp_path), now=NOW) == []


def test_a_stream_that_stops_is_silent(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    store(lake, hourly(NOW - 20 * DAY, NOW - 3 * HOUR))
    stream = judged(lake)
    assert stream.state == "silent"
    assert stream.reason == "no event for 3.0 h, usual is one every 100 min at most"
    assert stream.last_event == NOW - 3 * HOUR
    assert judged(lake, NOW - 90 * dt.timedelta(minutes=1)).state == "ok"


def test_nights_are_usual_once_they_were_seen(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    moments = [moment for moment in hourly(NOW - 20 * DAY, NOW) if 8 <= moment.hour < 18]
    store(lake, moments)
    morning = NOW.replace(hour=7)
    assert judged(lake, morning + DAY).state == "ok"
    assert judged(lake, morning + 2 * DAY).state == "silent"


def test_one_outage_does_not_count_as_usual(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    outage = (NOW - 9 * DAY, NOW - 6 * DAY)
    store(lake, [each for each in hourly(NOW - 20 * DAY, NOW) if not outage[0] < each < outage[1]])
    assert judged(lake).silence < 2 * HOUR


def test_a_stream_that_brings_less_has_shrunk(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    store(lake, hourly(NOW - 20 * DAY, NOW - 26 * HOUR))
    store(lake, hourly(NOW - 25 * HOUR, NOW), rows=20)
    stream = judged(lake)
    assert stream.state == "shrunk"
    assert stream.reason == "500 rows in the last day, usual are 2,400"


def test_a_stream_that_comes_late_is_delayed(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    store(lake, hourly(NOW - 20 * DAY, NOW - 24 * HOUR))
    store(lake, hourly(NOW - 23 * HOUR, NOW - HOUR), delay=HOUR)
    stream = judged(lake)
    assert stream.state == "delayed"
    assert stream.reason == "rows come 60 min after their events, usual are 10 min"
    assert (stream.delay, stream.delay_now) == (HOUR / 6, HOUR)


def test_few_objects_are_not_judged(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    store(lake, hourly(NOW - 30 * HOUR, NOW - 25 * HOUR))
    assert judged(lake).state == "learning"


def test_accounts_and_regions_are_apart(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    store(lake, hourly(NOW - 9 * DAY, NOW))
    store(lake, hourly(NOW - 9 * DAY, NOW - DAY), folder="s3://b/AWSLogs/o-1/210987654321/x/eu-west-1")
    store(lake, hourly(NOW - 9 * DAY, NOW), folder="/var/logs")
    found = {(each.account, each.region): each.state for each in streams(lake, now=NOW)}
    assert found == {
        ("", ""): "ok",
        ("123456789012", "us-east-1"): "ok",
        ("210987654321", "eu-west-1"): "silent",
    }


def test_a_backfill_teaches_the_rhythm_of_the_events(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    store(lake, hourly(NOW - 20 * DAY, NOW - HOUR), delay=30 * DAY)
    stream = judged(lake)
    assert (stream.state, stream.delay) == ("ok", None)
    assert stream.silence == dt.timedelta(minutes=90)


def every(minutes: int, days: int, *, office: bool = False) -> list[dt.datetime]:
    """Moments up to now; of working hours only, if asked for."""
    start = NOW - days * DAY
    moments = [start + number * dt.timedelta(minutes=minutes) for number in range(days * 1440 // minutes)]
    return [one for one in moments if not office or (8 <= one.hour < 18 and one.weekday() < 5)]


@pytest.mark.parametrize("days", [5, 9, 16, 30])
@pytest.mark.parametrize(
    "minutes", [pytest.param(1, marks=pytest.mark.long), 5, pytest.param(60, marks=pytest.mark.long)]
)
def test_nights_and_weekends_of_a_busy_stream_are_no_alarm(tmp_path: Path, minutes: int, days: int) -> None:
    """However many objects a working day brings, and from the first weekend on."""
    lake = lake_of(tmp_path)
    friday = NOW - 3 * DAY
    moments = every(minutes, days, office=True)
    store(lake, [one for one in moments if one < friday.replace(hour=18)])
    for hours in range(62):
        stream = judged(lake, friday.replace(hour=18) + hours * HOUR)
        assert stream.state == "ok", (hours, stream)


def test_a_busy_stream_that_stops_at_work_is_quiet_long_before_it_is_silent(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    tuesday = NOW - 6 * DAY
    assert tuesday.weekday() == 1
    store(lake, [one for one in every(5, 30, office=True) if one < tuesday.replace(hour=10)])
    assert judged(lake, tuesday.replace(hour=11)).state == "ok"
    stream = judged(lake, tuesday.replace(hour=12, minute=30))
    assert stream.state == "quiet"
    assert stream.reason == "no event for 2.6 h; these hours brought 16 objects or more in other weeks"
    assert of_stream(stream).status == "Warning"
    assert judged(lake, tuesday + 7 * DAY).state == "silent"


def test_a_clock_that_is_ahead_hides_no_silence(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    store(lake, hourly(NOW - 20 * DAY, NOW - 9 * HOUR))
    store(lake, [NOW + 400 * DAY], delay=-400 * DAY - 8 * HOUR)
    stream = judged(lake)
    assert (stream.state, stream.last_event) == ("silent", NOW - 8 * HOUR)


def test_what_comes_now_and_then_is_no_alarm(tmp_path: Path) -> None:
    """Of gaps at random one is longer than all before, now and then; few objects make no poor day."""
    rng, moment, moments = random.Random(5), NOW - 35 * DAY, []
    while moment < NOW:
        moment += dt.timedelta(hours=rng.expovariate(1 / 6))
        moments.append(moment)
    for back in range(20, 0, -1):
        lake = lake_of(tmp_path / str(back))
        now = NOW - back * 12 * HOUR
        store(lake, [one for one in moments if one < now - HOUR])
        assert judged(lake, now).state == "ok"


def test_what_filters_drop_is_a_sign_of_life(tmp_path: Path) -> None:
    """Neither silent nor shrunk is a stream of which a filter keeps less since yesterday."""
    lake = lake_of(tmp_path)
    store(lake, hourly(NOW - 20 * DAY, NOW - 26 * HOUR))
    store(lake, hourly(NOW - 25 * HOUR, NOW), rows=0, filtered=100)
    assert judged(lake).state == "ok"
    store(lake, hourly(NOW - 25 * HOUR, NOW), rows=100, prefix="again:2:")
    stream = judged(lake)
    assert (stream.rows, stream.usual_rows) == (2500, 2400)


def test_folders_with_names_of_columns(tmp_path: Path) -> None:
    """Flow logs with Hive's prefixes: account and region stand behind an equals sign."""
    lake = lake_of(tmp_path)
    folder = (
        "s3://b/AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=eu-west-1/year=2026"
    )
    store(lake, hourly(NOW - 2 * DAY, NOW), folder=folder)
    assert (judged(lake).account, judged(lake).region) == ("123456789012", "eu-west-1")


def told(lake: Lake, now: dt.datetime, *, problem: str = "") -> list[tuple[str, str, str, str]]:
    state = State("main", "sqs", problem=problem, problem_since=now if problem else None)
    written = tell(lake.apart(), [of_connector(state), *map(of_stream, streams(lake, now=now))], now=now)
    return [
        (each.operation, each.condition.name, each.condition.status, each.condition.reason)
        for each in written
    ]


def test_only_changes_are_told_and_a_failure_every_hour(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    name = "cloudtrail 123456789012 us-east-1"
    store(lake, hourly(NOW - 20 * DAY, NOW))
    assert told(lake, NOW) == [(CHANGE, "main", "Success", "")]
    assert told(lake, NOW) == []
    later = NOW + 5 * HOUR
    assert told(lake, later) == [(CHANGE, name, "Failure", "silent")]
    assert told(lake, later + HOUR / 2) == []
    assert told(lake, later + HOUR) == [(FAILURES, name, "Failure", "silent")]
    assert told(lake, later + HOUR, problem="AccessDenied: no") == [(CHANGE, "main", "Failure", "connector")]
    assert connector_states(lake)[0]["state"] == "failing"
    store(lake, hourly(NOW + HOUR, later + HOUR))
    assert told(lake, later + 1.5 * HOUR) == [
        (CHANGE, "main", "Success", ""),
        (CHANGE, name, "Success", ""),
    ]
    assert lake.snapshot(SENTINEL_HEALTH.name).rows == 6


def test_what_was_told_by_a_clock_that_was_ahead_is_told_again_once(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    assert told(lake, NOW + 5 * HOUR) == [(CHANGE, "main", "Success", "")]
    assert told(lake, NOW, problem="AccessDenied: no") == [(CHANGE, "main", "Failure", "connector")]
    assert told(lake, NOW + HOUR / 60, problem="AccessDenied: no") == []
    assert told(lake, NOW + HOUR / 2) == [(CHANGE, "main", "Success", "")]


class Once(threading.Event):
    """Stops a job after its first step."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


def test_after_a_start_streams_have_time_to_catch_up(tmp_path: Path) -> None:
    """What waited while nothing ran is read first: no stream is called silent for a pause of ours."""
    moments = [NOW]
    workspace = Workspace.open(tmp_path / "home", clock=lambda: moments[-1])
    store(workspace.lake, hourly(NOW - 20 * DAY, NOW - 9 * HOUR))
    said: list[Event] = []
    (health,) = (job for job in jobs(workspace, tell=said.append, status_seconds=60) if job.name == "health")
    health.work(Once())
    assert not said
    for minutes in (10, 20):
        moments.append(NOW + dt.timedelta(minutes=minutes))
        health.work(Once())
    assert [event.message.split(":")[0] for event in said] == ["cloudtrail 123456789012 us-east-1"]


def test_after_a_start_it_is_told_what_is_well_again(tmp_path: Path) -> None:
    """That a stream came back need not wait, and what begins is told of at once."""
    moments = [NOW]
    workspace = Workspace.open(tmp_path / "home", clock=lambda: moments[-1])
    store(workspace.lake, hourly(NOW - 20 * DAY, NOW - 9 * HOUR))
    state = State("web", "http", doing="listening at port 8514", idle_since=NOW)
    (silent,) = workspace.tell_health([])
    assert silent.condition.reason == "silent"
    store(workspace.lake, hourly(NOW - 8 * HOUR, NOW), prefix="late:")
    moments.append(NOW + HOUR / 4)
    first, second = workspace.tell_health([state], alarms=False, begin={"web"})
    assert (first.condition.status, first.condition.description) == (
        "Success",
        "started, listening at port 8514",
    )
    assert second.condition.status == "Success"
    assert workspace.tell_health([state], alarms=False) == []
    (again,) = workspace.tell_health([state], alarms=False, begin={"web"})
    assert again.operation == CHANGE
    (row,) = latest(workspace.lake)["web"]
    assert json.loads(row["ExtendedProperties"])["IdleSince"] == NOW.isoformat()


WEB = f"""
[connectors.web]
type = "http"
listen = "127.0.0.1:0"
token_sha256 = ["{"0" * 64}"]
"""


def test_a_connector_that_waits_is_idle_and_not_silent(tmp_path: Path) -> None:
    moments = [NOW]
    home = tmp_path / "home"
    home.mkdir()
    (home / "trailhawk.toml").write_text(WEB)
    workspace = Workspace.open(home, clock=lambda: moments[-1])
    state = State("web", "http", doing="listening at port 8514", idle_since=NOW)

    def shown(now: dt.datetime) -> tuple[object, object]:
        moments.append(now)
        (found,) = workspace.health()
        return found["state"], found["reason"]

    def tell(state: State) -> None:
        workspace.tell_health([state], begin={"web"})

    tell(state)
    assert shown(NOW) == (
        "idle",
        "listening at port 8514, idle since 2026-03-30 12:00, nothing received yet",
    )
    tell(dataclasses.replace(state, idle_since=None, last_object_at=NOW))
    assert shown(NOW) == ("ok", "listening at port 8514")
    # A process that begins anew knows when the one before it received something.
    tell(state)
    assert shown(NOW) == (
        "idle",
        "listening at port 8514, idle since 2026-03-30 12:00, last received 2026-03-30 12:00",
    )
    assert workspace.health()[0]["last_received"] == NOW
    tell(dataclasses.replace(state, problem="cannot listen", problem_since=NOW))
    assert shown(NOW) == ("failing", "cannot listen (since 2026-03-30 12:00)")
    tell(state)
    assert shown(NOW + dt.timedelta(minutes=4))[0] == "idle"
    assert shown(NOW + dt.timedelta(minutes=5)) == (
        "stopped",
        "nothing is told since 2026-03-30 12:00: 'trailhawk run' has ended",
    )
    (file,) = (home / "health").iterdir()
    file.write_text("[]")  # of another version
    assert shown(NOW) == ("ok", "started, listening at port 8514")


def test_a_connector_of_a_process_that_was_stopped_is_stopped(tmp_path: Path) -> None:
    moments = [NOW]
    home = tmp_path / "home"
    home.mkdir()
    (home / "trailhawk.toml").write_text(WEB)
    workspace = Workspace.open(home, clock=lambda: moments[-1])
    state = State("web", "http", doing="listening at port 8514", idle_since=NOW)
    workspace.tell_health([state], begin={"web"})
    moments.append(NOW + HOUR)
    workspace.end_health([dataclasses.replace(state, last_object_at=NOW + HOUR / 2)])
    moments.append(NOW + DAY)
    (found,) = workspace.health()
    assert (found["state"], found["idle_since"]) == ("stopped", None)
    assert found["reason"] == "since 2026-03-30 13:00: 'trailhawk run' was stopped"
    assert found["last_received"] == NOW + HOUR / 2
    # The next process knows when the one before it received something.
    workspace.tell_health([dataclasses.replace(state, idle_since=NOW + DAY)], begin={"web"})
    (found,) = workspace.health()
    assert (found["state"], found["last_received"]) == ("idle", NOW + HOUR / 2)
    assert str(found["reason"]).endswith("last received 2026-03-30 12:30")
    workspace.end_health([dataclasses.replace(state, problem="AccessDenied: no")])
    (found,) = workspace.health()
    assert found["reason"] == (
        "since 2026-03-31 12:00: 'trailhawk run' was stopped; its trouble then: AccessDenied: no"
    )


def test_processes_over_one_home_tell_beside_each_other(tmp_path: Path) -> None:
    one, two = Running(tmp_path / "health", "one"), Running(tmp_path / "health", "two")
    minute = dt.timedelta(minutes=1)
    web = State("web", "http", doing="listening", last_object_at=NOW - HOUR)
    main = State("main", "sqs", doing="waiting for messages", idle_since=NOW)

    def shown(name: str, now: dt.datetime) -> tuple[object, object]:
        found = one.health({"name": name}, now=now)
        return found.get("state"), found.get("last_received")

    one.write([web, main], now=NOW, every=minute)
    two.write([main], now=NOW + minute / 2, every=minute)
    assert shown("web", NOW + minute) == ("ok", NOW - HOUR)
    assert shown("main", NOW + minute) == ("idle", None)
    assert shown("other", NOW) == (None, None)
    # Another that ends, or is killed, takes nothing from one that runs.
    one.write([web, main], now=NOW + minute, every=minute)
    two.end([dataclasses.replace(main, last_object_at=NOW)], now=NOW + 2 * minute)
    assert shown("main", NOW + 2 * minute) == ("idle", NOW)
    one.write([web, main], now=NOW + 2 * minute, every=minute)
    assert [file.stem for file in (tmp_path / "health").iterdir()] == ["one"], "its file is cleared away"
    assert shown("main", NOW + 2 * minute) == ("idle", NOW)
    # What only one of them brings is kept by its file until somebody else tells of it.
    two.write([main], now=NOW + HOUR, every=minute)
    assert shown("main", NOW + HOUR) == ("idle", NOW)
    assert shown("web", NOW + HOUR) == ("stopped", NOW - HOUR)
    two.write([web, main], now=NOW + HOUR, every=minute)
    assert [file.stem for file in (tmp_path / "health").iterdir()] == ["two"]
    assert shown("web", NOW + HOUR) == ("ok", NOW - HOUR)
    # A clock that was ahead when it told last does not let it live on.
    assert shown("web", NOW) == ("stopped", NOW - HOUR)


FOLDER = """
[connectors.in]
type = "folder"
paths = ["logs"]
"""


class Begins(threading.Event):
    """Lets something begin at the first wait; stopped at the first wait after `enough`."""

    def __init__(self, begin: Callable[[], None], enough: Callable[[], bool]) -> None:
        super().__init__()
        self._begin, self._enough, self._waits = begin, enough, 0

    def wait(self, timeout: float | None = None) -> bool:
        if not self._waits:
            self._begin()
        self._waits += 1
        assert self._waits < 2000, "it is not told before the next round"
        if self._enough():
            self.set()
        return super().wait(0.01)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_start_is_told_as_a_start_and_trouble_at_once(tmp_path: Path, is_there: bool) -> None:
    """Also where a connector begins after the first round, and long before the next."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "trailhawk.toml").write_text(FOLDER)
    if is_there:
        (home / "logs").mkdir()
    workspace = Workspace.open(home)
    said: list[Event] = []
    found = {job.name: job for job in jobs(workspace, tell=said.append, status_seconds=60)}
    rows_before: list[object] = []
    end = threading.Event()
    thread = threading.Thread(target=found["in"].work, args=(end,))

    def begin() -> None:
        rows_before.extend(workspace.health())
        thread.start()

    def enough() -> bool:
        return any(is_there or "no such file" in event.message for event in said)

    try:
        found["health"].work(Begins(begin, enough))
    finally:
        end.set()
        thread.join()
    assert rows_before == [], "nothing is told of what has not begun"
    messages = [event.message for event in said]
    assert not any("well again" in each for each in messages)
    if is_there:
        assert messages in (["in: started, looking for files"], ["in: started, waiting for files"])
    else:
        assert messages[-1] == f"in: no such file or folder: {home / 'logs'}"
        assert said[-1].level == "warning"


def test_an_idle_connector_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trailhawk.cli import run

    home = tmp_path / "home"
    home.mkdir()
    (home / "trailhawk.toml").write_text(WEB)
    workspace = Workspace.open(home)
    state = State("web", "http", doing="listening at port 8514", idle_since=workspace.clock())
    workspace.tell_health([state], begin={"web"})
    assert run(["--home", str(home), "health", "--check", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["state"], found["last_received"]) == ("web", "idle", None)
    workspace.tell_health([dataclasses.replace(state, problem="cannot listen")])
    assert run(["--home", str(home), "health", "--check"]) == 1


def test_two_that_tell_at_once_tell_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = lake_of(tmp_path)
    store(lake, hourly(NOW - 20 * DAY, NOW))
    conditions = list(map(of_stream, streams(lake, now=NOW + DAY)))
    one, two = lake.apart(), lake.apart()
    second: list[list[Told]] = []
    stage = one.delta(SENTINEL_HEALTH.name).stage

    def and_then_the_other(rows: pa.Table) -> object:
        monkeypatch.undo()
        second.append(tell(two, conditions, now=NOW + DAY))
        return stage(rows)

    monkeypatch.setattr(one.delta(SENTINEL_HEALTH.name), "stage", and_then_the_other)
    assert tell(one, conditions, now=NOW + DAY) == []
    assert len(second[0]) == 1
    assert lake.snapshot(SENTINEL_HEALTH.name).rows == 1


def test_rows_have_sentinels_columns(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    store(lake, hourly(NOW - 20 * DAY, NOW - DAY))
    told(lake, NOW)
    (row,) = latest(lake)["cloudtrail 123456789012 us-east-1"]
    assert row["TimeGenerated"] == NOW.replace(tzinfo=None)
    assert row["Description"].startswith("no event for 24.0 h")
    assert json.loads(row["ExtendedProperties"])["DestinationTable"] == "AWSCloudTrail"
