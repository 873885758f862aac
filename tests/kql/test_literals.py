"""datetime and timespan text, both ways."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trailhawk.kql.literals import (
    DATETIME_MAX,
    DATETIME_MIN,
    TIMESPAN_MAX,
    TIMESPAN_MIN,
    datetime_ticks,
    format_datetime,
    format_timespan,
    timespan_ticks,
)

HOUR = 36_000_000_000
DAY = 24 * HOUR


def ticks(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * 10_000_000  # type: ignore[arg-type,misc]  # a date's parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2014-05-25T08:20:03.1234567Z", ticks(2014, 5, 25, 8, 20, 3) + 1234567),
        ("2014-05-25T08:20:03.123456789Z", ticks(2014, 5, 25, 8, 20, 3) + 1234567),
        ("2014-05-25 08:20", ticks(2014, 5, 25, 8, 20)),
        ("2014-05-25T08:20+02:00", ticks(2014, 5, 25, 6, 20)),
        ("2014-05-25T08:20:00-0530", ticks(2014, 5, 25, 13, 50)),
        ("2014-11-08", ticks(2014, 11, 8)),
        ("2014-11", ticks(2014, 11, 1)),
        ("2014", ticks(2014, 1, 1)),
        ("11/08/2014", ticks(2014, 11, 8)),
        ("11/08/2014 3:05 PM", ticks(2014, 11, 8, 15, 5)),
        ("11-08-2014", ticks(2014, 11, 8)),
        ("20141108", ticks(2014, 11, 8)),
        ("2017 - 08 - 01", ticks(2017, 8, 1)),
        ("Sat, 8 Nov 14 15:05:02 GMT", ticks(2014, 11, 8, 15, 5, 2)),
        ("Saturday, 08-Nov-14 15:05:02", ticks(2014, 11, 8, 15, 5, 2)),
        ("8 Nov 2014 15:05", ticks(2014, 11, 8, 15, 5)),
        ("0001-01-01", DATETIME_MIN),
        ("9999-12-31T23:59:59.9999999Z", DATETIME_MAX),
    ],
)
def test_datetimes(text: str, expected: int) -> None:
    assert datetime_ticks(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2014-13-01",
        "2014-02-30",
        "2014-01-01T25:00",
        "25/12/2014",
        "0001-01-01T00:00+01:00",
        "2014-01-01x",
    ],
)
def test_no_datetimes(text: str) -> None:
    assert datetime_ticks(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.02:03:04.5", DAY + 2 * HOUR + 3 * 600_000_000 + 45_000_000),
        ("-01:00:00", -HOUR),
        ("12:34", 12 * HOUR + 34 * 600_000_000),
        ("7d", 7 * DAY),
        ("1.5h", 54_000_000_000),
        ("15 seconds", 150_000_000),
        ("2", 2 * DAY),
        ("1tick", 1),
        ("1microsecond", 10),
        ("1ms", 10_000),
        ("250nanoseconds", 2),
    ],
)
def test_timespans(text: str, expected: int) -> None:
    assert timespan_ticks(text) == expected


@pytest.mark.parametrize("text", ["", "x", "25:00:00", "1:60", "1y", "1.5", "99999999999d", "9" * 30])
def test_no_timespans(text: str) -> None:
    assert timespan_ticks(text) is None


def test_formats() -> None:
    assert format_datetime(ticks(2020, 1, 1)) == "2020-01-01T00:00:00.0000000Z"
    assert format_datetime(-1) == "1969-12-31T23:59:59.9999999Z"
    assert format_timespan(0) == "00:00:00"
    assert format_timespan(DAY + 1) == "1.00:00:00.0000001"
    assert format_timespan(-HOUR) == "-01:00:00"


@settings(derandomize=True)
@given(st.integers(DATETIME_MIN, DATETIME_MAX))
def test_datetimes_come_back(moment: int) -> None:
    assert datetime_ticks(format_datetime(moment)) == moment


@settings(derandomize=True)
@given(st.integers(TIMESPAN_MIN, TIMESPAN_MAX))
def test_timespans_come_back(span: int) -> None:
    assert timespan_ticks(format_timespan(span)) == span
