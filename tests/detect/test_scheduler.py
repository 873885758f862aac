"""The scheduler under a clock of its own: outages, two at once, late rows, rules that fail."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from trailhawk.detect.alert import Alert, alerts
from trailhawk.detect.history import IsQuiet, detect, settle
from trailhawk.detect.proof import Holding
from trailhawk.detect.rule import Aggregation, Rule, RuleKind, Severity
from trailhawk.detect.rulebook import RuleStates
from trailhawk.detect.run import Run
from trailhawk.detect.schedule import LEARNING, Window, WindowState, windows
from trailhawk.detect.scheduler import COSTLY_FAILURES, PERMANENT_FAILURES, Quiet, Round, Scheduled, Scheduler
from trailhawk.detect.store import AlertStore, open_state, sqlite_url, starts_table, windows_table
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.result import Engine, Result, TimeRange
from trailhawk.errors import LimitError, QueryError
from trailhawk.kql.schema import INGESTION_TIME
from trailhawk.lake.table import fitted
from trailhawk.sources import TABLES

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
(CLOUDTRAIL,) = (table for table in TABLES if table.name == "AWSCloudTrail")
NAMED = "AWSCloudTrail | where EventName == 'StopLogging' | project TimeGenerated, AwsEventId"


def scheduled(query: str = NAMED, **members: object) -> Rule:
    own = {
        "id": "stop",
        "name": "Stopped",
        "query": query,
        "kind": RuleKind.SCHEDULED,
        "severity": Severity.HIGH,
        "frequency": HOUR,
        "period": HOUR,
        "aggregation": Aggregation.PER_RESULT,
    }
    return Rule(**{**own, **members})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Stop:
    """An event and when it reached the lake."""

    id: str
    at: datetime
    came: datetime


class World:
    """A clock, a lake that fills as time goes by, a state database, and schedulers over them."""

    def __init__(self, folder: Path, holding: Holding, events: Iterable[Stop] = ()) -> None:
        self.now = START
        self.events = list(events)
        self.store = AlertStore(open_state(sqlite_url(folder / "state.db")))
        self.states = RuleStates(self.store.engine)
        self._holding = holding

    def engine(self) -> Engine:
        here = [event for event in self.events if event.came <= self.now]
        rows = pa.table(
            {
                "TimeGenerated": pa.array([_naive(event.at) for event in here], pa.timestamp("us")),
                "EventName": pa.array(["StopLogging"] * len(here), pa.string()),
                "AwsEventId": pa.array([event.id for event in here], pa.string()),
                INGESTION_TIME: pa.array([_naive(event.came) for event in here], pa.timestamp("us")),
            }
        )
        return self._holding({CLOUDTRAIL.name: fitted(rows, CLOUDTRAIL)})

    def scheduler(self, owner: str = "one", workers: int = 1, quiet: Quiet | None = None) -> Scheduler:
        return Scheduler(
            self.store, self.states, owner=owner, clock=lambda: self.now, workers=workers, quiet=quiet
        )

    def round(
        self,
        scheduler: Scheduler,
        *rules: Rule,
        engine: Engine | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Round:
        return scheduler.round(engine or self.engine(), rules, [CLOUDTRAIL.name], stopped=stopped)

    def quiet(self, rule: Rule, start: datetime, end: datetime) -> IsQuiet:
        engine = self.engine()
        assert isinstance(engine, DuckDBEngine)
        history = TimeRange(start, end)
        return engine.activity(
            rule.query, period=rule.period, history=history, frequency=rule.frequency
        ).is_quiet


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


@pytest.fixture
def world(tmp_path: Path, holding: Holding) -> World:
    return World(tmp_path, holding)


def test_days_with_outages_two_schedulers_and_late_rows(tmp_path: Path, holding: Holding) -> None:
    rng = random.Random(7)
    days = int(os.environ.get("TRAILHAWK_DAYS", "3"))
    events = []
    for number in range(4 * days):
        at = START + timedelta(minutes=rng.randrange(60, days * 24 * 60))
        late = timedelta(minutes=rng.choice([1, 3, 20, 90, 360]))
        events.append(Stop(f"e{number}", at, at + late))
    world = World(tmp_path, holding, events)
    rules = [scheduled(), scheduled(id="six", name="Six", frequency=6 * HOUR, period=12 * HOUR)]
    outages = [(0.1, 0.15), (0.4, 0.55), (0.8, 0.81)]  # of the time
    schedulers = [world.scheduler("one", workers=2), world.scheduler("two", workers=2)]
    ran: Counter[tuple[str, datetime]] = Counter()
    end = START + timedelta(days=days, hours=13)
    # Starts are an hour before the first event, so that every event is some window's news.
    while world.now < end:
        share = (world.now - START) / timedelta(days=days)
        if not any(low <= share < high for low, high in outages):
            for scheduler in rng.sample(schedulers, 2):
                for each in world.round(scheduler, *rules).runs:
                    assert each.state is WindowState.DONE, each.reason
                    ran[each.window.rule_id, each.window.at] += 1
        world.now += timedelta(minutes=rng.choice([5, 37, 150]))
    for rule in rules:
        first, last = (
            min(at for id_, at in ran if id_ == rule.id),
            max(at for id_, at in ran if id_ == rule.id),
        )
        due = [first + n * rule.frequency for n in range((last - first) // rule.frequency + 1)]
        assert sorted(at for id_, at in ran if id_ == rule.id) == due, "every window, none left out"
        assert last > end - rule.frequency - 3 * HOUR
        alerts = world.store.alerts(rule_id=rule.id)
        seen = Counter((alert.at, alert.started_at) for alert in alerts)
        assert set(seen.values()) == {1}, "each (rule, T, row) once"
        wanted = {(at, event.at) for event in events for at in due if at - rule.period <= event.at < at}
        assert wanted == set(seen), "every event is told by each window that looks at it, however late"


def test_after_an_outage_windows_that_cannot_have_a_result_are_not_run(world: World) -> None:
    asked = []

    class Counting:
        def query(self, text: str, **options: object) -> Result:
            asked.append(text)
            return world.engine().query(text, **options)  # type: ignore[arg-type]

    world.events = [Stop(f"e{n}", START + n * HOUR / 2, START) for n in (3, 40, 41)]
    rule = scheduled(NAMED + " | summarize N = count() by bin(TimeGenerated, 1h) | where N >= 2")
    scheduler = world.scheduler(quiet=world.quiet)
    world.round(scheduler, rule)
    world.now += 48 * HOUR
    asked.clear()
    done = world.round(scheduler, rule, engine=Counting())
    assert [each.window.at for each in done.runs] == [START + n * HOUR for n in range(48)]
    assert {each.state for each in done.runs} == {WindowState.DONE}
    assert [alert.at for alert in done.alerts] == [START + 21 * HOUR]
    assert sum(text == rule.query for text in asked) == 2, "those of the windows that have rows"
    # A late row in a window that was quiet is found all the same.
    world.events.append(Stop("late", START + 2 * HOUR - MINUTE, world.now))
    world.now += 5 * MINUTE
    assert [alert.at for alert in world.round(scheduler, rule).alerts] == [START + 2 * HOUR]


@pytest.mark.parametrize(
    "condition",
    [
        "startofday(ago(1h)) == startofmonth(ago(1h))",
        "bin(now(), 1d) == startofmonth(now())",
        "iff(startofday(now()) == startofmonth(now()), true, false)",
    ],
)
def test_what_hangs_on_now_alone_is_found_in_a_replay_and_after_an_outage(
    tmp_path: Path, holding: Holding, condition: str
) -> None:
    rule = scheduled(
        f"AWSCloudTrail | where EventName == 'Never' or {condition} | project TimeGenerated, AwsEventId"
    )
    first = START + timedelta(days=29)  # the 30th of March
    events = [Stop(f"e{n}", first + n * HOUR + MINUTE, first) for n in range(0, 96, 3)]
    replayed, run_late = [], []
    for place, is_looked in enumerate((False, True)):
        (tmp_path / str(place)).mkdir()
        world = World(tmp_path / str(place), holding, events)
        quiet = world.quiet if is_looked else None
        world.now = first
        scheduler = world.scheduler(quiet=quiet)
        world.round(scheduler, rule)
        world.now += timedelta(days=4)
        run_late.append([alert.at for alert in world.round(scheduler, rule).alerts])
        store = AlertStore(open_state(sqlite_url(tmp_path / str(place) / "replay.db")))
        found = detect(world.engine(), store, [rule], tables=[CLOUDTRAIL.name], now=world.now, quiet=quiet)
        replayed.append([alert.at for alert in found.alerts])
    assert len(replayed[0]) == 8, "a day of them"
    assert replayed[1] == replayed[0]
    assert len(run_late[0]) == 8
    assert run_late[1] == run_late[0]


def test_a_window_of_a_span_is_done_for_the_schedule_until_a_row_comes_late(
    world: World,
) -> None:
    world.events = [Stop(f"e{n}", START + n * HOUR + MINUTE, START) for n in (0, 30)]
    rule = scheduled()
    other = scheduled(id="never", query="AWSCloudTrail | where EventName == 'Never' | project TimeGenerated")
    found = detect(
        world.engine(), world.store, [rule, other], tables=[CLOUDTRAIL.name], now=START, quiet=world.quiet
    )
    assert [(each.run, each.alerts) for each in found.rules] == [(3, 2), (3, 0)]
    with world.store.reading() as connection:
        rows = connection.execute(sa.select(windows_table.c.rule_id)).all()
    assert Counter(row.rule_id for row in rows) == {"stop": 2}, "those that were run"
    # What is done is not planned again.
    world.now = START + 31 * HOUR + 10 * MINUTE
    assert world.round(world.scheduler(quiet=world.quiet), rule, other).runs == ()
    # One row of a span becomes due, by whichever of two schedulers sees it first.
    world.now += HOUR
    world.events.append(Stop("late", START + 31 * HOUR - MINUTE, START))
    world.events.append(Stop("later", START + 29 * HOUR - MINUTE, START))
    ran = [
        (each.window.rule_id, (each.window.at - START) // HOUR)
        for name in ("one", "two")
        for each in world.round(world.scheduler(name), rule, other).runs
    ]
    assert sorted(ran) == [(name, hour) for name in ("never", "stop") for hour in (31, 32)]


@pytest.mark.parametrize(("old", "new"), [(1, 24), (24, 1)])
@pytest.mark.parametrize("replayed", [False, True], ids=["run", "spans"])
def test_an_edited_period_makes_nothing_due_and_late_rows_count_over_it(
    world: World, old: int, new: int, replayed: bool
) -> None:
    world.events = [Stop(f"e{n}", START + n * HOUR + MINUTE, START) for n in (1, 20)]
    rule, edited = scheduled(period=old * HOUR), scheduled(period=new * HOUR)
    if replayed:
        world.now += 30 * HOUR
        detect(
            world.engine(), world.store, [rule], tables=[CLOUDTRAIL.name], now=world.now, quiet=world.quiet
        )
        world.round(world.scheduler(quiet=world.quiet), rule)
    else:
        scheduler = world.scheduler()
        for _ in range(31):
            world.round(scheduler, rule)
            world.now += HOUR
    world.now += HOUR
    world.events.append(Stop("x", world.now - MINUTE, START))
    done = world.round(world.scheduler("two"), edited)
    latest = max(each.window.at for each in done.runs)
    assert world.now - latest < 2 * HOUR
    assert {each.window.at for each in done.runs} <= {latest, latest - HOUR}, "what is due by the clock"
    # A row that comes later than the edit is found by the windows that now look at it.
    world.now += HOUR
    world.round(world.scheduler("two"), edited)
    world.events.append(Stop("late", START + 15 * HOUR - MINUTE, world.now))
    before = set(world.store.windows(rule.id))
    world.now += 10 * MINUTE
    ran = {each.window.at for each in world.round(world.scheduler("three"), edited).runs}
    assert ran & before == {START + (15 + n) * HOUR for n in range(new)} & before != set()


@pytest.mark.parametrize(("old", "new"), [(60, 10), (60, 30), (10, 60), (60, 90), (14 * 24 * 60, 5)])
def test_an_edited_frequency_leaves_no_time_unseen_and_its_windows_are_those_of_a_replay(
    world: World, old: int, new: int
) -> None:
    world.now = START + HOUR + 45 * MINUTE
    world.events = [Stop(f"e{n}", START + n * MINUTE, START) for n in range(0, 400, 5)]
    runs = [*world.round(world.scheduler(), _each(old)).runs]
    before = runs[-1].window.at
    edited, end = _each(new), START + 300 * MINUTE
    while world.now < end + 2 * HOUR:
        runs += world.round(world.scheduler("another"), edited).runs
        world.now += 5 * MINUTE
    seen = [each.window.at for each in runs if each.window.at > before]
    assert before < seen[0] <= max(before, START) + edited.frequency, "nothing in between is left out"
    assert seen == sorted(each.at for each in windows(edited, seen[0] - edited.frequency, seen[-1]))
    known = set(world.store.alerts())
    again = detect(world.engine(), world.store, [edited], tables=[CLOUDTRAIL.name], now=end, start=before)
    assert not [alert for alert in again.alerts if seen[0] <= alert.at <= seen[-1]]
    assert known <= set(world.store.alerts())


def _each(minutes: int) -> Rule:
    return scheduled(frequency=minutes * MINUTE, period=minutes * MINUTE)


def test_rows_that_are_alike_raise_an_alert_each_and_once(world: World) -> None:
    world.events = [Stop(str(n), START + MINUTE, START) for n in range(3)]
    rule = scheduled("AWSCloudTrail | project TimeGenerated, EventName")
    world.now += HOUR + 10 * MINUTE
    assert len(world.round(world.scheduler(), rule).alerts) == 3
    world.events.append(Stop("late", START + MINUTE, START))
    world.now += 10 * MINUTE
    assert len(world.round(world.scheduler(), rule).alerts) == 1


@pytest.mark.parametrize("replayed", [False, True], ids=["run", "spans"])
def test_a_row_that_came_late_before_its_rules_period_was_edited_is_seen(
    world: World, replayed: bool
) -> None:
    """A deployment stops the process and edits the rule: what came meanwhile is looked at after it."""
    rule, scheduler = scheduled(), world.scheduler(quiet=world.quiet)
    world.now += 6 * HOUR
    world.events = [Stop("in time", START + hour * HOUR, START) for hour in (0.5, 5.2)]
    if replayed:
        detect(
            world.engine(), world.store, [rule], tables=[CLOUDTRAIL.name], now=world.now, quiet=world.quiet
        )
    for _ in range(4):
        world.round(scheduler, rule)
        world.now += HOUR
    late = START + (1.5 if replayed else 6.5) * HOUR
    world.events.append(Stop("late", late, world.now))
    again = world.round(world.scheduler("two"), replace(rule, period=2 * HOUR))
    assert late in {alert.started_at for alert in again.alerts}


def test_a_late_row_in_the_look_back_counts(world: World) -> None:
    rule = scheduled(
        NAMED + " | summarize N = count(), Ids = make_set(AwsEventId) | where N >= 2", period=3 * HOUR
    )
    at = START + HOUR / 2
    world.events = [Stop("in time", at + 2 * HOUR, START), Stop("late", at, START + 8 * HOUR)]
    scheduler, alerts = world.scheduler(), list[Alert]()
    for _ in range(10):
        alerts += world.round(scheduler, rule).alerts
        world.now += HOUR
    assert [alert.at for alert in alerts] == [START + 3 * HOUR]


def test_a_row_that_comes_late_in_a_long_outage_counts(world: World) -> None:
    scheduler, alerts = world.scheduler(), list[Alert]()
    world.events = [Stop("late", START + HOUR / 2, START + 10 * HOUR)]
    for _ in range(3):
        alerts += world.round(scheduler, scheduled()).alerts
        world.now += HOUR
    world.now += 5 * 24 * HOUR
    alerts += world.round(world.scheduler("another"), scheduled()).alerts
    assert [alert.at for alert in alerts] == [START + HOUR]


def test_an_alert_on_the_same_events_is_raised_once(world: World) -> None:
    """A late row changes what a row is compared with; what was found stays found."""
    query = NAMED + (
        " | summarize Usual = countif(TimeGenerated < ago(1h)), Now = countif(TimeGenerated >= ago(1h)),"
        " Ids = make_set_if(AwsEventId, TimeGenerated >= ago(1h)) | where Now > 0"
    )
    rule = scheduled(query, period=3 * HOUR, custom_details=(("EventIds", "Ids"),))
    at = START + HOUR / 2
    world.events = [Stop("found", at + HOUR, START), Stop("late", at, START + 4 * HOUR)]
    scheduler, alerts, runs = world.scheduler(), list[Alert](), 0
    for _ in range(6):
        done = world.round(scheduler, rule)
        alerts += done.alerts
        runs += sum(each.window.at == START + 2 * HOUR for each in done.runs)
        world.now += HOUR
    assert runs == 2
    assert [(alert.at, alert.detail("EventIds")) for alert in alerts] == [
        (START + 2 * HOUR, ("found",)),
        (START + HOUR, ("late",)),
    ]


def test_who_is_told_to_stop_begins_no_further_window_and_the_rest_is_run_later(world: World) -> None:
    scheduler, rules = world.scheduler(), [scheduled(), scheduled(id="other", name="Other")]
    world.round(scheduler, *rules)
    world.now += 5 * HOUR
    answers = iter([False] * 4 + [True] * 20)
    stopped = world.round(scheduler, *rules, stopped=lambda: next(answers)).runs
    assert 0 < len(stopped) < 5
    rest = world.round(world.scheduler("another"), *rules).runs
    assert len({(run.window.rule_id, run.window.at) for run in (*stopped, *rest)}) == 10
    assert len(stopped) + len(rest) == 10


def test_two_schedulers_never_run_a_window_twice(world: World) -> None:
    world.now += 10 * HOUR
    one, two = world.scheduler("one"), world.scheduler("two")
    assert len(world.round(one, scheduled()).runs) == 1
    assert world.round(two, scheduled()).runs == ()


def test_a_rule_that_another_holds_is_left_to_it_until_its_lease_ends(world: World) -> None:
    class Breaking:
        def query(self, text: str, **_: object) -> Result:
            if "StopLogging" in text:
                raise KeyboardInterrupt
            return world.engine().query(text, now=world.now)

    one, two = world.scheduler("one"), world.scheduler("two")
    one._release = lambda rule: None  # type: ignore[method-assign]  # as a killed process leaves it
    with pytest.raises(KeyboardInterrupt):
        world.round(one, scheduled(), engine=Breaking())
    assert world.round(two, scheduled()).runs == ()
    world.now += timedelta(minutes=16)
    assert [run.window.at for run in world.round(two, scheduled()).runs] == [START - HOUR, START]


def test_a_new_rule_runs_at_once_and_its_past_is_left_alone(world: World) -> None:
    world.now += timedelta(minutes=30)
    (found,) = world.round(world.scheduler(), scheduled()).runs
    assert found.window.at == START
    world.now = START + HOUR + timedelta(minutes=4)
    assert world.round(world.scheduler(), scheduled()).runs == ()
    world.now = START + HOUR + timedelta(minutes=5)
    (found,) = world.round(world.scheduler(), scheduled()).runs
    assert found.window.at == START + HOUR


def test_a_disabled_rule_does_not_run_and_goes_on_where_it_stopped(world: World) -> None:
    rule, scheduler = scheduled(), world.scheduler()
    world.round(scheduler, rule)
    world.states.set(rule, enabled=False, reason="", now=world.now, by="ana")
    world.now += 3 * HOUR
    assert world.round(scheduler, rule).runs == ()
    world.states.set(rule, enabled=True, reason="", now=world.now, by="ana")
    assert [run.window.at for run in world.round(scheduler, rule).runs] == [
        START + n * HOUR for n in range(3)
    ]


def test_a_rule_that_keeps_failing_is_disabled_with_its_reason(world: World) -> None:
    rule, scheduler = scheduled("AWSCloudTrail | where EventNam == ''"), world.scheduler()
    world.round(scheduler, rule)
    world.now += 5 * HOUR
    last = world.round(scheduler, rule)
    assert [run.state for run in last.runs] == [WindowState.FAILED] * (PERMANENT_FAILURES - 1)
    assert last.disabled == (rule,)
    state = world.states.of([rule])[rule.id]
    assert not state.enabled
    assert state.reason.startswith("failed 3 times in a row: ")
    assert "EventNam" in state.reason


class Failing:
    """An engine whose rules' queries fail for a passing reason so many times."""

    def __init__(self, world: World, times: int, error: QueryError) -> None:
        self._world, self.times, self._error = world, times, error

    def query(self, text: str, **options: object) -> Result:
        if "StopLogging" in text and self.times:
            self.times -= 1
            raise self._error
        return self._world.engine().query(text, **options)  # type: ignore[arg-type]


def test_a_passing_failure_is_tried_again_later_and_later_and_loses_no_window(world: World) -> None:
    rule, scheduler = scheduled(), world.scheduler()
    engine = Failing(world, 8, LimitError("the query ran longer than 600 s"))
    tried = []
    while True:
        before = engine.times
        found = world.round(scheduler, rule, engine=engine)
        if engine.times < before or found.runs:
            tried.append(world.now)
        if found.runs:
            break
        world.now += MINUTE
    gaps = [(later - earlier) // MINUTE for earlier, later in itertools.pairwise(tried)]
    assert gaps == [1, 2, 4, 8, 16, 32, 60, 60]
    assert world.states.of([rule])[rule.id].enabled
    due = (world.now - timedelta(minutes=5) - START) // HOUR
    assert [run.window.at for run in found.runs] == [START + n * HOUR for n in range(-1, due + 1)]


def test_a_rule_that_always_stops_at_a_limit_is_disabled(world: World) -> None:
    rule, scheduler = scheduled(), world.scheduler()
    engine = Failing(world, 1_000, LimitError("the query ran longer than 600 s"))
    while not (found := world.round(scheduler, rule, engine=engine)).disabled:
        world.now += 10 * MINUTE
        assert world.now < START + 48 * HOUR
    assert found.disabled == (rule,)
    assert engine.times == 1_000 - COSTLY_FAILURES
    state = world.states.of([rule])[rule.id]
    assert not state.enabled
    assert state.reason == "stopped 24 times in a row: limit: the query ran longer than 600 s"
    world.states.set(rule, enabled=True, reason="", now=world.now, by="ann")
    engine.times = 1
    assert world.round(scheduler, rule, engine=engine).disabled == ()
    world.now += HOUR
    assert world.round(scheduler, rule, engine=engine).runs


def test_a_rule_without_history_enough_is_learning(world: World) -> None:
    week = timedelta(days=7)
    world.events = [Stop("e", START - HOUR, START - HOUR)]
    (found,) = world.round(world.scheduler(), scheduled(period=week, learning_period=week)).runs
    assert (found.state, found.reason) == (WindowState.SKIPPED, LEARNING)


def test_suppression_skips_the_windows_after_an_alert(world: World) -> None:
    world.events = [Stop(f"e{n}", START + n * HOUR, START + n * HOUR) for n in range(6)]
    rule, scheduler = scheduled(suppression=3 * HOUR), world.scheduler()
    world.now = START - HOUR + timedelta(minutes=5)
    world.round(scheduler, rule)
    world.now += 7 * HOUR
    states = [(run.window.at - START) // HOUR for run in world.round(scheduler, rule).runs if run.alerts]
    assert states == [1, 4]


def test_late_rows_raise_nothing_again_for_a_rule_that_suppresses(world: World) -> None:
    """The run that raised an alert is the last one for as long as it suppresses."""
    rule = scheduled(aggregation=Aggregation.SINGLE, suppression=3 * HOUR)
    rules = [rule, replace(rule, id="replayed")]
    world.events = [Stop(f"e{n}", START + 10 * MINUTE, START + n * 20 * MINUTE) for n in range(8)]
    world.now, scheduler, found = START + HOUR + 5 * MINUTE, world.scheduler(), list[Alert]()
    for _ in range(12):
        found += world.round(scheduler, rules[0]).alerts
        found += detect(
            world.engine(), world.store, rules[1:], tables=["AWSCloudTrail"], now=world.now
        ).alerts
        world.now += 10 * MINUTE
    assert Counter(alert.rule_id for alert in found) == {rule.id: 1 for rule in rules}


def test_nrt_goes_by_ingestion_every_minute_two_minutes_behind(world: World) -> None:
    rule = scheduled(kind=RuleKind.NRT, frequency=MINUTE, period=MINUTE)
    scheduler = world.scheduler()
    came = START + timedelta(minutes=10, seconds=30)
    world.events = [Stop("old", START - 5 * HOUR, came)]
    told = []
    for _ in range(20):
        told += [(world.now, alert.started_at) for alert in world.round(scheduler, rule).alerts]
        world.now += MINUTE
    assert told == [(START + timedelta(minutes=13), START - 5 * HOUR)]


def test_a_replay_of_an_nrt_rule_takes_nothing_from_its_schedule_and_raises_nothing_again(
    world: World,
) -> None:
    """What comes minutes late is seen by the schedule at one moment and by a replay at another."""
    rule = scheduled(
        "AWSCloudTrail | project TimeGenerated, EventName", kind=RuleKind.NRT, frequency=MINUTE, period=MINUTE
    )
    old = [Stop(f"old {n}", START - n * HOUR, START - MINUTE * 30) for n in range(1, 4)]
    late = [Stop(f"{n}", START + n * MINUTE, START + (n + n % 9) * MINUTE) for n in range(5, 60, 3)]
    world.events = [*old, *late, Stop("backfill", START - 9 * HOUR, START + 20 * MINUTE)]
    scheduler, found = world.scheduler(), list[Alert]()
    for _ in range(80):
        found += world.round(scheduler, rule).alerts
        engine, tables = world.engine(), [CLOUDTRAIL.name]
        found += detect(engine, world.store, [rule], tables=tables, now=world.now).alerts
        world.now += MINUTE
    assert sorted(alert.started_at for alert in found) == sorted(event.at for event in world.events)


def test_the_start_of_a_schedule_of_an_earlier_version_is_when_it_is_first_seen(world: World) -> None:
    rule, scheduler = scheduled(kind=RuleKind.NRT, frequency=MINUTE, period=MINUTE), world.scheduler()
    world.round(scheduler, rule)
    with world.store.engine.begin() as connection:
        connection.execute(sa.delete(starts_table))
    world.now += 10 * MINUTE
    world.events = [Stop("late", START - HOUR, START + 5 * MINUTE)]
    assert len(world.round(world.scheduler("another"), rule).alerts) == 1
    assert world.store.schedule_starts() == {rule.id: START - 2 * MINUTE}
    again = detect(world.engine(), world.store, [rule], tables=[CLOUDTRAIL.name], now=world.now)
    assert not again.alerts


def test_the_schedule_can_be_looked_at(world: World) -> None:
    scheduler = world.scheduler()
    world.round(scheduler, scheduled())
    assert scheduler.scheduled() == (Scheduled("stop", START, 0, 0, "", None),)
    engine = Failing(world, 1, LimitError("too long"))
    world.now += HOUR
    world.round(scheduler, scheduled(), engine=engine)
    (found,) = scheduler.scheduled()
    assert (found.due, found.failures, found.retry_at) == (1, 1, world.now + MINUTE)
    assert "too long" in found.reason


def test_a_window_of_ingestion_times(world: World) -> None:
    world.events = [Stop("old", START - 5 * HOUR, START), Stop("new", START, START + HOUR)]
    world.now += 2 * HOUR
    window = TimeRange(START, START + HOUR, ingested=True)
    assert [
        row["AwsEventId"] for row in world.engine().query(NAMED, now=world.now, window=window).rows()
    ] == ["old"]


def test_what_another_process_stores_meanwhile_follows_from_nothing_here(world: World) -> None:
    """A sink takes its time: another process raises the same, under an id of its own."""
    asked: list[list[str]] = []
    written: list[list[str]] = []

    def alert(name: str, event: str) -> Alert:
        rule = scheduled(custom_details=(("EventIds", "AwsEventId"),))
        window = Window(rule.id, START, START - HOUR, START - HOUR)
        (made,) = alerts(rule, window, [{"TimeGenerated": START, "AwsEventId": event, "Name": name}])
        return made

    window = Window("stop", START, START - HOUR, START - HOUR)
    mine = Run(window, WindowState.DONE, alerts=(alert("a", "e1"), alert("b", "e2")), seen=1)
    theirs = Run(window, WindowState.DONE, alerts=(alert("c", "e1"),), seen=2)

    def sink(new: Sequence[Alert]) -> Callable[[sa.Connection], None]:
        asked.append([each.id for each in new])
        if len(asked) == 1:
            settle(world.store, [theirs], None)
        return lambda _: written.append(asked[-1])

    new = settle(world.store, [mine], sink)
    second = [mine.alerts[1].id]
    assert [each.id for each in new] == second
    assert asked == [[each.id for each in mine.alerts], second]
    assert written == [second]
    assert {each.id for each in world.store.alerts()} == {theirs.alerts[0].id, *second}


@pytest.mark.parametrize(
    ("kind", "is_new_process"),
    [(RuleKind.SCHEDULED, False), (RuleKind.SCHEDULED, True), (RuleKind.NRT, False)],
)
def test_windows_that_were_run_while_the_clock_was_ahead_are_run_in_their_time(
    world: World, kind: RuleKind, is_new_process: bool
) -> None:
    frequency = MINUTE if kind is RuleKind.NRT else 10 * MINUTE
    rule = scheduled(kind=kind, frequency=frequency, period=frequency)
    scheduler = world.scheduler(quiet=world.quiet)
    world.round(scheduler, rule)
    world.now += HOUR
    world.round(scheduler, rule)
    world.now -= HOUR
    if is_new_process:
        scheduler = world.scheduler(quiet=world.quiet)
    at = [START + minutes * MINUTE for minutes in (6, 40, 80)]
    world.events = [Stop(f"{moment}", moment, moment + MINUTE) for moment in at]
    told = []
    while world.now < START + 2 * HOUR:
        told += [(alert.started_at, world.now) for alert in world.round(scheduler, rule).alerts]
        world.now += MINUTE
    assert [started for started, _ in told] == at
    assert all(found - started <= frequency + 6 * MINUTE for started, found in told)


def windows_of(world: World) -> list[tuple[datetime, str]]:
    query = sa.select(windows_table.c.at, windows_table.c.state).order_by(windows_table.c.at)
    with world.store.reading() as connection:
        return [(at, state) for at, state in connection.execute(query)]


@pytest.mark.parametrize("behind", [MINUTE / 3, 3 * MINUTE, HOUR, START - datetime(1970, 1, 2, tzinfo=UTC)])
@pytest.mark.parametrize("kind", [RuleKind.SCHEDULED, RuleKind.NRT])
def test_a_start_with_the_clock_behind_leaves_what_was_run(
    world: World, kind: RuleKind, behind: timedelta
) -> None:
    """Whether another process ran it, or this one before a restart: it cannot be told apart."""
    frequency = MINUTE if kind is RuleKind.NRT else 10 * MINUTE
    rule = scheduled(kind=kind, frequency=frequency, period=frequency)
    first = world.scheduler("first")
    world.round(first, rule)
    world.now += 2 * HOUR + 5 * MINUTE
    last = world.round(first, rule).runs[-1].window.at
    before, right = windows_of(world), world.now
    second = world.scheduler("second")
    world.now = right - behind
    assert world.round(second, rule).to_come == (last if last > world.now else None)
    assert windows_of(world) == before
    assert world.round(second, rule).to_come is None, "told once"
    world.now = right + MINUTE / 60
    assert not world.round(second, rule).runs
    world.now = last + frequency + 5 * MINUTE
    assert world.round(second, rule).runs[0].window.at == last + frequency


def test_a_clock_that_goes_back_takes_nothing_from_another_process(world: World) -> None:
    rule = scheduled(frequency=10 * MINUTE, period=10 * MINUTE)
    one, two = world.scheduler("one"), world.scheduler("two")
    world.round(one, rule)
    world.now += HOUR
    mine = [each.window.at for each in world.round(one, rule).runs]
    world.now += HOUR
    theirs = [each.window.at for each in world.round(two, rule).runs]
    world.round(one, rule)
    world.now -= 2 * HOUR
    done = world.round(one, rule)
    assert (done.runs, done.to_come) == ((), theirs[-1])
    assert {at for at, state in windows_of(world) if state == "due"} == {at for at in mine if at > world.now}
    world.now += 2 * HOUR
    assert [each.window.at for each in world.round(two, rule).runs] == [at for at in mine if at > START]


def test_a_clock_that_goes_back_by_more_than_a_day_takes_nothing_back(world: World) -> None:
    rule = scheduled()
    scheduler = world.scheduler()
    world.round(scheduler, rule)
    world.now += 50 * HOUR
    last = world.round(scheduler, rule).runs[-1].window.at
    before = windows_of(world)
    world.now -= 49 * HOUR
    assert world.round(scheduler, rule).to_come == last
    assert windows_of(world) == before


def test_what_failed_while_the_clock_was_ahead_is_tried_again_once_it_is_right(world: World) -> None:
    rule, scheduler = scheduled(), world.scheduler()
    engine = Failing(world, 2, LimitError("too long"))
    for wait in (5 * HOUR, 10 * MINUTE - 5 * HOUR):
        assert world.round(scheduler, rule, engine=engine).postponed
        world.now += wait
    assert [each.window.at for each in world.round(scheduler, rule, engine=engine).runs] == [
        START - HOUR,
        START,
    ]


@pytest.mark.parametrize("has_rows", [False, True])
def test_a_rule_that_began_in_1970_runs_from_the_oldest_row_on(world: World, has_rows: bool) -> None:
    scheduler, rule = world.scheduler(), scheduled()
    world.now = datetime(1970, 1, 2, tzinfo=UTC)
    world.round(scheduler, rule)
    if has_rows:
        world.events = [Stop("e", START - 10 * HOUR, START - HOUR)]
    world.now = START
    runs = world.round(scheduler, rule).runs
    first = 10 if has_rows else 1
    assert [each.window.at for each in runs] == [START - hours * HOUR for hours in range(first, 0, -1)]
