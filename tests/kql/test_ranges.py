"""Time ranges: a scan is bound to just the rows for which a filter of its time is true."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.kql import passes
from trailhawk.kql.compiler import compile_query
from trailhawk.kql.literals import DATETIME_MAX, DATETIME_MIN, TICKS_PER_HOUR, datetime_ticks, format_datetime
from trailhawk.kql.ranges import Range
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import TICKS_PER_DAY, KqlType

NOW = datetime(2026, 3, 10, 7, 30, 0, 123457, tzinfo=UTC)
EVENTS = Table("Events", (Column("TimeGenerated", KqlType.DATETIME), Column("Name", KqlType.STRING)))
MARCH = (datetime(2026, 3, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days * TICKS_PER_DAY
SPANS = ["1d", "-1d", "0s", "90m", "time(7.03:00:00.000001)", "-1microsecond", "36h"]
ODD_SPANS = ["3tick", "-13tick", "11tick"]


class Tables(NoTables):
    def table(self, name: str) -> Table | None:
        return EVENTS if name == "Events" else None


def scanned(query: str) -> Range:
    (scan,) = passes.scans(compile_query(query, Tables(), now=NOW).plan)
    return Range(scan.since, scan.until)


def moments(chance: random.Random, near: list[int]) -> list[int]:
    """Moments about some, on each side of them and exactly there, and the ends of time."""
    steps = [0, 10, -10, TICKS_PER_DAY, -TICKS_PER_DAY, TICKS_PER_HOUR]
    found = [each + step for each in near for step in steps]
    found += [MARCH + chance.randrange(40 * TICKS_PER_DAY) // 10 * 10 for _ in range(40)]
    found += [DATETIME_MIN, DATETIME_MIN + 10, DATETIME_MAX - 9, DATETIME_MAX - 19, -10, 0, 10]
    return sorted(set(found))


def filters(chance: random.Random, at: int, spans: list[str]) -> str:
    """A filter of the event time against something at or about a moment."""
    moment = f"datetime({format_datetime(at)})"
    span = chance.choice(spans)
    unit = chance.choice(["day", "week", "month", "year"])
    part = chance.choice(["week", "day", "hour", "Minute", "second", "millisecond", "microsecond"])
    offset = chance.choice(["", ", 1", ", -2"])
    time = chance.choice(["TimeGenerated"] * 3 + [f"(TimeGenerated - {span})", f"({span} + TimeGenerated)"])
    of_time = [
        time,
        f"todatetime({time})",
        f"({moment} - ({moment} - {time}))",
        f"({time} + {span})",
        f"bin({time}, {chance.choice(['1d', '1h', '7d', '7h', '11s'])})",
        f"startof{unit}({time}{offset})",
        f"endof{unit}({time}{offset})",
        f"datetime_add('{part}', {chance.choice([-3, 0, 5])}, {time})",
    ]
    op = chance.choice(["<", "<=", ">", ">=", "=="])
    kind = chance.randrange(14)
    if kind == 13:
        size = chance.choice([4, 7, 10, 13, 16, 19])
        form, op = f"'{'yyyy-MM-ddTHH:mm:ss'[:size]}'", "=="
        pair = [f"format_datetime({time}, {form})", f"'{format_datetime(at)[:size]}'"]
    elif kind < 8:
        pair = [of_time[kind], moment]
    elif kind < 11:
        sides = [f"{moment} - {time}", f"{time} - {moment}", f"{time} - ({moment} - 3d)"]
        pair = [sides[kind - 8], span]
    elif kind == 11:
        part = chance.choice(["day", "hour", "minute", "microsecond"])
        pair = [f"datetime_diff('{part}', {moment}, {time})", str(chance.choice([0, 1, -30, 7]))]
    else:
        low = chance.choice([moment, f"toscalar(print {moment})"])
        return f"{chance.choice(of_time)} between ({low} .. {moment} + {chance.choice(['1d', '0s', '3h'])})"
    if chance.random() < 0.5:
        pair.reverse()
    return f"{pair[0]} {op} {pair[1]}"


def rows_and_ranges(seed: int, spans: list[str], odd: int) -> list[tuple[str, set[int], set[int], list[int]]]:
    """Filters, with the rows the engine finds for each and those in the range of its scan."""
    chance = random.Random(seed)
    days = [MARCH, MARCH + 7 * TICKS_PER_DAY, MARCH + 9 * TICKS_PER_DAY + TICKS_PER_HOUR]
    near = [*days, MARCH + chance.randrange(30 * TICKS_PER_DAY) // 10 * 10]
    times = moments(chance, near)
    asked = [filters(chance, chance.choice(times[3:-3]) + odd, spans) for _ in range(60)]
    written = ", ".join(["datetime(null)", *(f"datetime({format_datetime(each)})" for each in times)])
    columns = ", ".join(f"f{number} = {each}" for number, each in enumerate(asked))
    table = f"datatable(TimeGenerated: datetime)[{written}] | extend {columns}"
    found = list(zip(*DuckDBEngine(NoTables()).query(table, now=NOW).tuples(), strict=True))
    made = []
    for number, each in enumerate(asked, 1):
        span = scanned(f"Events | where {each}")
        true = {time for time, is_true in zip([None, *times], found[number], strict=True) if is_true}
        assert None not in true
        inside = {
            time
            for time in times
            if (span.low is None or time >= span.low // 10 * 10)
            and (span.high is None or time < -(-span.high // 10) * 10)
        }
        made.append((each, {time for time in true if time is not None}, inside, times))
    return made


@pytest.mark.parametrize("seed", range(12))
def test_a_filter_bounds_a_scan_to_its_rows(seed: int) -> None:
    for each, true, inside, times in rows_and_ranges(seed, SPANS, 0):
        ends = set(times[:2]) | set(times[-2:])
        assert true <= inside, each
        assert inside - true <= ends, each


@pytest.mark.parametrize("seed", range(12))
def test_what_the_engine_cuts_to_microseconds_loses_no_row(seed: int) -> None:
    for each, true, inside, _ in rows_and_ranges(seed, [*SPANS, *ODD_SPANS], 7):
        assert true <= inside, each


@pytest.mark.parametrize(
    ("form", "text", "span"),
    [
        ("yyyy-MM-dd", "2026-03-02", ("2026-03-02", "2026-03-03")),
        ("yyyy-MM-dd HH:mm:ss", "2026-03-02 23:59:59", ("2026-03-02 23:59:59", "2026-03-03")),
        ("yyyy-MM-ddTHH", "2026-12-31T23", ("2026-12-31 23:00", "2027-01-01")),
        ("yyyy/MM", "2026/12", ("2026-12-01", "2027-01-01")),
        ("yyyy", "2026", ("2026-01-01", "2027-01-01")),
        ("dd.MM.yyyy", "02.03.2026", ("2026-03-02", "2026-03-03")),
        ("yyyy d", "2026 3", ("2026-01-01", "2027-01-01")),
        ("yyyy-M-dd", "2026-3-02", ("2026-01-01", "2027-01-01")),
        ("yyyy HH:mm", "2026 09:30", ("2026-01-01", "2027-01-01")),
        ("M/d/yyyy", "3/2/2026", None),
        ("HH:mm", "09:30", None),
        ("yyyy-MM-dd", "2026-02-30", None),
        ("yyyy-MM-dd", "2026", ("2026-01-01", "2027-01-01")),
        ("yyyy-MM-dd", "today", None),
        ("yyyy", "", None),
    ],
)
@pytest.mark.parametrize("order", ["{0} == {1}", "{1} == {0}"])
def test_a_time_as_text_bounds_a_scan(
    form: str, text: str, span: tuple[str, str | None] | None, order: str
) -> None:
    asked = order.format(f"format_datetime(TimeGenerated - 1h, '{form}')", f"'{text}'")
    hour = TICKS_PER_HOUR
    low, high = (datetime_ticks(each) if each else None for each in span or (None, None))
    expected = Range(None if low is None else low + hour, None if high is None else high + hour)
    assert scanned(f"Events | where {asked}") == expected
    assert scanned(f"Events | where {asked.replace('==', '!=')}") == Range()


@pytest.mark.parametrize(
    ("either", "hours"),
    [
        ("TimeGenerated < {0} + 1h or TimeGenerated between ({0} + 4d .. 1h) and Name == 'a'", (None, 97)),
        ("TimeGenerated between ({0} .. 1h) or TimeGenerated between ({0} + 4d .. 1h)", (0, 97)),
        ("TimeGenerated > {0} + 3h or TimeGenerated < {0} + 5h", (None, None)),
        ("TimeGenerated > {0} or Name == 'a'", (None, None)),
        ("(Name == 'a' or Name == 'b') and bin(TimeGenerated, 1d) == {0}", (0, 24)),
        ("startofday(TimeGenerated) == {0} or endofday(TimeGenerated) == endofday({0} + 2d)", (0, 72)),
    ],
)
def test_one_of_two_filters_bounds_a_scan_from_the_first_to_the_last(
    either: str, hours: tuple[int | None, int | None]
) -> None:
    found = scanned("Events | where " + either.format("datetime(2026-03-01)"))
    assert tuple(None if end is None else (end - MARCH) // TICKS_PER_HOUR for end in found) == hours
