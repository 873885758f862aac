"""A window that is called quiet has no result: the law that lets a replay leave windows out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from trailhawk.engine.activity import Activity, Ticks
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.reach import Changes, reach
from trailhawk.engine.result import TimeRange
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.stored import Functions, StoredFunction
from trailhawk.kql.types import KqlType

EVENTS = Table(
    "Events",
    (
        Column("TimeGenerated", KqlType.DATETIME),
        Column("Name", KqlType.STRING),
        Column("User", KqlType.STRING),
        Column("Size", KqlType.LONG),
    ),
)
RowsOf = Callable[[str, datetime, timedelta], list[dict[str, object]]]
START = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = 96


class _Memory:
    """A catalog of one table whose rows are all in memory."""

    def table(self, name: str) -> Table | None:
        return EVENTS if name == EVENTS.name else None

    def table_names(self) -> tuple[str, ...]:
        return (EVENTS.name,)

    def snapshot(self, name: str) -> _Memory:
        return self

    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[()]:
        return ()


def events() -> pa.Table:
    rng = random.Random(7)
    moments = sorted(rng.randrange(HOURS * 3600) for _ in range(150))
    return pa.table(
        {
            "TimeGenerated": pa.array([START.replace(tzinfo=None) + timedelta(seconds=m) for m in moments]),
            "Name": [rng.choice(["Get", "Put", "Put", "List"]) for _ in moments],
            "User": [rng.choice(["ann", "bob", "eve"]) for _ in moments],
            "Size": [rng.choice([0, 5, None]) for _ in moments],
        }
    )


STORED = Functions(
    [
        StoredFunction("is_early", "hourofday(now()) == 5", "is_early.kql"),
        StoredFunction("is_at", "(T: datetime) { hourofday(T) == 5 }", "is_at.kql"),
    ]
)


@pytest.fixture(scope="module")
def engine() -> DuckDBEngine:
    rows = events()
    return DuckDBEngine(_Memory(), functions=STORED, relations={"Events": lambda _: rows})  # type: ignore[arg-type]  # has no files


def places(moments: Sequence[datetime]) -> Ticks:
    return np.array([int(at.timestamp()) * 1_000_000 for at in moments])


def quiet(activity: Activity, moments: Sequence[datetime]) -> list[bool]:
    return list(activity.is_quiet(places(moments)))


QUERIES = {
    "filter": 'Events | where Name == "Get" and Size > 0',
    "recent part of a longer period": 'Events | where TimeGenerated >= ago(1h) | where Name == "Get"',
    "keys": 'Events | where Name == "Get" | summarize N = count() by User | where User == "eve"',
    "inner join": """Events | where Name == "Get" | join kind=inner (
        Events | where TimeGenerated > ago(2h) and Size == 5) on User""",
    "left anti": """Events | where TimeGenerated >= ago(1h) and User == "eve"
        | join kind=leftanti (Events | where TimeGenerated < ago(1h)) on Name""",
    "outer join": 'Events | where Size == 5 | join kind=leftouter (Events | where Name == "List") on User',
    "right outer join": """Events | where Size == 5
        | join kind=rightouter (Events | where Name == "List") on User""",
    "full outer join": """Events | where User == "a"
        | join kind=fullouter (Events | where Name == "List") on User""",
    "union": 'union (Events | where Name == "Get"), (Events | where User == "eve" and Size == 5)',
    "materialize": """let E = materialize(Events | extend Who = User | where Name != "List");
        E | where Who == "eve" | join kind=inner (E | where TimeGenerated > ago(1h)) on Who""",
    "subquery": """Events
        | where User in ((Events | where TimeGenerated > ago(1h) and Size == 5 | project User))""",
    "scalar subquery": 'Events | where Size == 5 | where 1 < toscalar(Events | where Name == "Get" | count)',
    "no input needed": 'Events | where Name == "Never" | count',
    "mv-expand": """Events | where Name == "Get" | extend A = dynamic([1, 2])
        | mv-expand A | where "bob" == User""",
    "groups": """Events | where Name != "List" | summarize N = count(), Last = max(TimeGenerated) by User
        | where (N > 2 or User == "eve" and N > 1) and Last >= ago(1h)""",
    "groups of made values": """Events | extend Who = strcat(User, "!"), Twice = Size * 2
        | summarize Total = sum(Twice), Kinds = dcount(Name) by Who, Name | extend Much = Total + Kinds
        | where Much > 12 or Kinds > 1""",
    "groups of the recent part": """Events | where TimeGenerated >= ago(1h) | summarize N = count() by User
        | where N >= 2 | join kind=inner (Events | where TimeGenerated < ago(1h)) on User""",
    "groups without keys": "Events | where TimeGenerated >= ago(1h) | summarize N = count() | where N < 2",
    "groups beside now": """Events | summarize N = countif(TimeGenerated > ago(90m)), M = count() by User
        | where N > 1 and M > 1""",
    "groups up to a moment": """Events | where TimeGenerated > ago(2h) and TimeGenerated <= ago(1h)
        | summarize N = count() by User | where N > 1""",
    "groups that filter a series": """let E = materialize(Events | where Name != "Get");
        let Busy = E | where TimeGenerated >= ago(1h) | summarize N = count() by User | where N > 1;
        E | join kind=leftsemi Busy on User
        | make-series Calls = count() default = 0 on TimeGenerated from ago(4h) to now() step 1h by User
        | where array_length(Calls) > 0""",
    "series of is_empty": """Events | where Name == "Get"
        | make-series Calls = count() default = 0 on TimeGenerated from ago(4h) to now() step 1h""",
    "the day so far": 'Events | where TimeGenerated >= startofday(now()) and Name == "Get"',
    "the hours before": 'Events | where TimeGenerated < bin(now(), 6h) and Name == "Get"',
    "in the evening": 'Events | where hourofday(now()) >= 18 | where Name == "Get"',
    "never in the morning": "let early = hourofday(now()) < 12; Events | where not(early) and Size == 5",
    "on one day of the week": 'Events | where dayofweek(now()) == 6d and Name == "Get"',
    "in the same week": 'Events | where startofweek(TimeGenerated) == startofweek(now()) and Name == "Get"',
    "by a difference that is the evening": """Events
        | where datetime_diff("hour", now(), startofday(now())) >= 18 and Size == 5""",
    "by a name for the evening": """let TimeGenerated = now(); let StartTime = startofday(now());
        Events | where datetime_diff("hour", TimeGenerated, StartTime) >= 18 and Size == 5""",
    "by the time since": """Events | where Name == "Get" | summarize First = min(TimeGenerated),
        Last = max(TimeGenerated) by User | where datetime_diff("hour", Last, First) >= 1""",
    "by the hour's text": """Events
        | where format_datetime(now(), 'HH') !in ('04', '07') and Name == 'Get'""",
}


@pytest.fixture(scope="module")
def rows_of(engine: DuckDBEngine) -> RowsOf:
    """The rows of a query in a window; each is run once, whatever the frequency."""
    return cache(
        lambda text, at, period: engine.query(text, now=at, window=TimeRange(at - period, at)).rows()
    )


@pytest.mark.parametrize("text", QUERIES.values(), ids=list(QUERIES))
@pytest.mark.parametrize("period", [timedelta(hours=hours) for hours in (1, 5, 12)], ids=["1h", "5h", "12h"])
@pytest.mark.parametrize("frequency", [None, timedelta(hours=1)], ids=["any", "hourly"])
def test_a_quiet_window_has_no_result(
    engine: DuckDBEngine,
    rows_of: RowsOf,
    text: str,
    period: timedelta,
    frequency: timedelta | None,
) -> None:
    history = TimeRange(START - period, START + timedelta(hours=HOURS + 1))
    activity = engine.activity(text, period=period, history=history, frequency=frequency)
    moments = [START + timedelta(hours=hour) for hour in range(1, HOURS + 1, 3)]
    for at, is_quiet in zip(moments, quiet(activity, moments), strict=True):
        if is_quiet:
            assert rows_of(text, at, period) == []


def test_quiet_windows_are_found(engine: DuckDBEngine) -> None:
    history = TimeRange(START - timedelta(hours=1), START + timedelta(hours=HOURS + 1))
    activity = engine.activity(QUERIES["filter"], period=timedelta(hours=1), history=history)
    found = quiet(activity, [START + timedelta(hours=hour) for hour in range(1, HOURS)])
    assert sum(found) > HOURS / 2


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        (QUERIES["by the time since"], 1),
        ('Events | where hourofday(TimeGenerated) < 25 and Name == "Get"', 1),
        ('Events | where datetime_diff("hour", TimeGenerated, ago(1h)) > 0 and Name == "Get"', 1),
        ("Events | where hourofday(now()) >= 18 and TimeGenerated >= ago(1h)", 5),
        ("Events | where ago(2h) + 1h <= TimeGenerated and hourofday(now()) >= 18", 5),
        ("Events | where TimeGenerated between (ago(3h) .. now(-2h)) and hourofday(now()) >= 18", 5),
        ("Events | where TimeGenerated >= startofday(now())", 1),
        ("Events | where TimeGenerated >= datetime(2026-01-04)", 1),
    ],
)
def test_beside_what_depends_on_now_quiet_windows_are_found(
    engine: DuckDBEngine, text: str, hours: int
) -> None:
    hour = timedelta(hours=1)
    activity = engine.activity(
        text, period=hours * hour, history=TimeRange(START - hour, START + HOURS * hour)
    )
    assert sum(quiet(activity, [START + n * hour for n in range(1, HOURS)])) > 10


FORMS = {
    "an or": "startofday(ago(1h)) == startofmonth(ago(1h))",
    "weeks": "bin(now(), 1d) == startofweek(now())",
    "a day of the week": "dayofweek(now()) == 6d",
    "an hour": "hourofday(now()) == 5",
    "a month": "monthofyear(ago(1d)) == 2",
    "a text": "format_datetime(now(), 'HH') == '04'",
    "not": "not(hourofday(now()) != 5)",
    "in": "hourofday(now()) in (4, 5)",
    "not in": "hourofday(now()) !in (range(6, 23, 1))",
    "between": "now() between (startofday(now()) .. startofday(now()) + 2h)",
    "iff": "iff(hourofday(now()) == 5, 'yes', Name) == 'yes'",
    "iff with constants": "iff(hourofday(now()) == 5, true, false)",
    "case": "case(Size == 7, false, hourofday(now()) == 5, true, false)",
    "coalesce": "coalesce(Size > 9, false) or coalesce(hourofday(now()) == 5, false)",
    "a difference": "datetime_diff('hour', now(), startofday(now())) == 5",
    "a part": "datetime_part('hour', now()) == 5",
    "arithmetic": "(now() - startofday(now())) / 1h == 5",
    "a remainder": "tolong(now() - datetime(2026-01-01)) % 72000000000 == 0",
    "an array": "dynamic([0, 1, 0, 0, 0, 1])[hourofday(now())] == 1",
    "a scalar": "toscalar(print hourofday(now())) == 5",
    "a scalar of a value": "toscalar(hourofday(now())) == 5",
    "a subquery": "hourofday(TimeGenerated) in ((print hourofday(now())))",
    "a stored function": "is_early()",
    "a stored function of a moment": "is_at(now())",
    "text": "tostring(now()) has '05'",
    "a least": "min_of(hourofday(now()), 5) == 5",
    "the time and now": "TimeGenerated > iff(hourofday(now()) == 5, ago(30d), now())",
}
"""Conditions on now() alone, or almost, that hold at some moments and not at most."""


PLACES = {
    "where": "Events | where Name == 'Never' or {0}",
    "let": "let due = () {{ {0} }}; Events | where Name == 'Never' or due",
    "extend": """Events | extend Due = {0} | where not(not(Due) and Name != 'Never')
        | summarize count() by User""",
    "groups": """Events | extend Due = {0} | summarize N = count(), D = countif(Due) by User
        | where N > 99 or D > 0""",
    "union": "union (Events | extend Due = {0}), (Events | where Name == 'Never') | where Due",
}
HANGING = [
    pytest.param(PLACES[place].format(form), id=f"{place}-{name}")
    for place in PLACES
    for name, form in FORMS.items()
    if place != "let" or not any(column.name in form for column in EVENTS.columns)
]


@pytest.mark.parametrize("text", HANGING)
def test_what_hangs_on_now_may_hold_at_any_time(engine: DuckDBEngine, text: str) -> None:
    """A window with rows is neither called quiet nor out of the reach of a change of them."""
    hour = timedelta(hours=1)
    moments = [START + n * hour for n in range(1, HOURS)]
    history = TimeRange(START - hour, START + HOURS * hour)
    is_empty = np.array(quiet(engine.activity("Events", period=hour, history=history), moments))
    activity = engine.activity(text, period=hour, history=history, frequency=hour)
    assert not (np.array(quiet(activity, moments)) & ~is_empty).any()
    changes = Changes("Events", frozenset({"Name", "Size"}), engine.rows, engine.rows)
    reached = reach(text, _Memory(), changes, period=hour, history=history, functions=STORED)
    assert (reached.touches(places(moments)) | is_empty).all()
    at = next(at for at, empty in zip(moments, is_empty, strict=True) if not empty)
    engine.query(text, now=at, window=TimeRange(at - hour, at))  # it is a query that runs


def test_a_count_of_nothing_is_a_result(engine: DuckDBEngine) -> None:
    history = TimeRange(START, START + timedelta(hours=HOURS))
    activity = engine.activity(QUERIES["no input needed"], period=timedelta(hours=1), history=history)
    assert activity.covers == ()
    assert quiet(activity, [START + timedelta(hours=5)]) == [False]


@pytest.mark.parametrize(
    "name", ["groups", "groups of made values", "groups of the recent part", "groups that filter a series"]
)
def test_few_windows_have_the_groups_that_are_asked_for(engine: DuckDBEngine, name: str) -> None:
    period, hour = timedelta(hours=2), timedelta(hours=1)
    history = TimeRange(START - period, START + timedelta(hours=HOURS + 1))
    by_rows, by_groups = (
        engine.activity(QUERIES[name], period=period, history=history, frequency=frequency)
        for frequency in (None, hour)
    )
    moments = [START + n * hour for n in range(1, HOURS)]
    busy = [len(moments) - sum(quiet(activity, moments)) for activity in (by_rows, by_groups)]
    assert 0 < busy[1] < 0.6 * busy[0]
    # Between the runs nothing is told of groups.
    between = [at + timedelta(minutes=30) for at in moments]
    assert quiet(by_rows, between) == quiet(by_groups, between)
