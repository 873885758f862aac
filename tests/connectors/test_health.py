"""Streams that fall silent or shrink, and what SentinelHealth is told of them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest

from trailhawk.connectors import LEDGER, SENTINEL_HEALTH
from trailhawk.connectors.connector import State
from trailhawk.connectors.health import StreamHealth, streams
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
) -> None:
    """Objects whose newest events are at these moments, stored somewhat later."""
    entries = [
        {
            "TimeGenerated": (moment + delay).replace(tzinfo=None),
            "Location": f"{folder}/{moment:%Y/%m/%d}/{number}.json.gz",
            "Source": "cloudtrail",
            "TargetTable": "AWSCloudTrail",
            "State": "stored",
            "Rows": rows,
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
