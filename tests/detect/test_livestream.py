"""A livestream tells each row once, whenever it was committed and however often it is looked for."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest

from trailhawk.cli import run
from trailhawk.detect.livestream import Arrived, Livestream, stream
from trailhawk.engine.duckdb import DuckDBEngine, Limits
from trailhawk.engine.result import Result, TimeRange
from trailhawk.errors import LimitError, QueryError
from trailhawk.kql.schema import INGESTION_TIME
from trailhawk.lake import Lake
from trailhawk.lake.compaction import compact_busy_days
from trailhawk.lake.table import fitted
from trailhawk.sources import TABLES

START: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)
TABLE: Final = "AWSCloudTrail"
ALL: Final = f"{TABLE} | project EventName"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


class Home:
    """A lake to which batches come, each stamped with the second it was read in."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(folder, TABLES)
        self.engine = DuckDBEngine(self.lake, limits=Limits(threads=1))

    def commit(self, stamped: float, *names: str, event: float = 0, table: str = TABLE) -> None:
        delta = self.lake.delta(table)
        delta.create()
        count = len(names)
        times = pa.array([naive(at(event))] * count, pa.timestamp("us"))
        stamps = pa.array([naive(at(stamped))] * count, pa.timestamp("us"))
        columns = {"TimeGenerated": times, INGESTION_TIME: stamps}
        name = "EventName" if table == TABLE else "SrcAddr"
        rows = fitted(pa.table({**columns, name: pa.array(names)}), delta.table)
        delta.commit(delta.stage(rows))

    def live(self, query: str = ALL, **options: object) -> Livestream:
        settings = {"tables": [TABLE], "start": START} | options
        return Livestream(self.engine, query, **settings)  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def names(arrived: Arrived) -> list[object]:
    return [row["EventName"] for row in arrived.rows]


def test_each_look_tells_what_arrived_since_the_last(home: Home) -> None:
    home.commit(-5, "before")
    live = home.live()
    home.commit(1, "a", "b")
    assert names(live.look(at(30))) == ["a", "b"]
    assert names(live.look(at(60))) == []
    home.commit(70, "c", event=-86_400 * 3)  # an event of three days ago
    assert names(live.look(at(90))) == ["c"]
    assert names(live.look(at(90))) == []


def test_what_is_committed_after_its_window_was_looked_at_is_told_then_and_once(home: Home) -> None:
    live = home.live()
    home.commit(10, "a")
    assert names(live.look(at(30))) == ["a"]
    home.commit(20, "slow")
    home.commit(35, "b")
    assert names(live.look(at(60))) == ["slow", "b"]
    assert names(live.look(at(90))) == []


def test_what_is_committed_later_than_is_remembered_is_not_told(home: Home) -> None:
    live = home.live(memory=timedelta(minutes=5))
    live.look(at(30))
    live.look(at(400))
    home.commit(10, "too late")
    home.commit(390, "b")
    assert names(live.look(at(430))) == ["b"]


def test_equal_rows_are_told_by_their_number(home: Home) -> None:
    live = home.live()
    home.commit(1, "a", "a")
    assert names(live.look(at(30))) == ["a", "a"]
    home.commit(2, "a")
    assert names(live.look(at(60))) == ["a"]


def test_an_aggregate_is_told_again_when_it_changes(home: Home) -> None:
    live = home.live(f"{TABLE} | summarize Rows = count(), Names = make_set(EventName)")
    home.commit(1, "a", "b")
    assert live.look(at(30)).rows[0]["Rows"] == 2
    assert live.look(at(60)).rows == ()
    home.commit(2, "c")
    assert [row["Rows"] for row in live.look(at(90)).rows] == [3]


def test_rewriting_files_tells_nothing_again(home: Home) -> None:
    live = home.live()
    for second in range(1, 11):
        home.commit(second, f"n{second}")
    assert len(live.look(at(30)).rows) == 10
    assert compact_busy_days(home.lake.apart().delta(TABLE), today=at(86_400 * 3).date())
    assert live.look(at(60)).rows == ()
    home.commit(65, "after")
    assert names(live.look(at(90))) == ["after"]


def test_two_tables_each_in_its_own_time(home: Home) -> None:
    query = f"union (AWSVPCFlow | project What = SrcAddr), ({TABLE} | project What = EventName)"
    live = home.live(query, tables=[TABLE, "AWSVPCFlow"])
    home.commit(10, "a")
    assert [row["What"] for row in live.look(at(30)).rows] == ["a"]
    home.commit(10, "10.0.0.5", table="AWSVPCFlow")  # the same batch, its other table
    assert [row["What"] for row in live.look(at(60)).rows] == ["10.0.0.5"]


def test_rows_beyond_the_most_are_counted(home: Home) -> None:
    live = home.live(most=3)
    home.commit(1, *map(str, range(10)))
    arrived = live.look(at(30))
    assert (len(arrived.rows), arrived.more) == (3, 7)
    assert live.look(at(60)) == Arrived(at(60), (), ())


class Failing:
    """The engine, which runs out of memory at one of its queries."""

    def __init__(self, engine: DuckDBEngine, failing: int) -> None:
        self.engine, self.left = engine, failing

    def query(
        self,
        text: str,
        *,
        now: datetime,
        window: TimeRange | None = None,
        parameters: Mapping[str, object] | None = None,
        picked: TimeRange | None = None,
    ) -> Result:
        self.left -= 1
        if self.left == 0:
            raise LimitError("no memory")
        return self.engine.query(text, now=now, window=window, parameters=parameters, picked=picked)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_look_that_fails_is_made_up_for(home: Home, failing: int) -> None:
    live = Livestream(Failing(home.engine, 2 + failing), ALL, tables=[TABLE], start=START)
    home.commit(1, "a")
    assert names(live.look(at(30))) == ["a"]
    home.commit(2, "b")
    home.commit(40, "c")
    with pytest.raises(LimitError):
        live.look(at(60))
    assert names(live.look(at(90))) == ["b", "c"]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_order_they_come_in_every_row_is_told_once(home: Home, seed: int) -> None:
    rng = random.Random(seed)
    batches = [(rng.uniform(0, 300), rng.uniform(0, 90), number) for number in range(15)]
    due = sorted((stamped + slow, stamped, number) for stamped, slow, number in batches)
    live, told, sent = home.live(), Counter[object](), Counter[object]()
    for second in range(0, 460, 20):
        while due and due[0][0] <= second:
            _, stamped, number = due.pop(0)
            rows = [f"{number}-{rng.randrange(2)}" for _ in range(rng.randrange(1, 4))]
            home.commit(stamped, *rows)
            sent.update(rows)
        told.update(names(live.look(at(second))))
    assert told == sent
    assert sum(sent.values()) > 15


def test_the_stream_looks_until_it_is_told_to_stop(home: Home) -> None:
    times = iter([at(30), at(60), at(90), at(120)])
    waits: list[float] = []
    told: list[object] = []
    failed: list[Exception] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        home.commit(len(waits) * 30 + 5, f"after {len(waits)}")
        return len(waits) == 4

    home.commit(5, "first")
    stream(
        Livestream(Failing(home.engine, 3), ALL, tables=[TABLE], start=START),
        clock=lambda: next(times),
        wait=wait,
        every=timedelta(seconds=30),
        tell=lambda arrived: told.extend(names(arrived)),
        fail=failed.append,
        retried=(LimitError,),
    )
    assert told == ["first", "after 1", "after 2", "after 3"]
    assert waits == [30.0] * 4
    assert len(failed) == 1


def test_what_is_not_retried_ends_the_stream(home: Home) -> None:
    home.commit(5, "first")
    with pytest.raises(QueryError):
        stream(
            home.live("AWSCloudTrial"),
            clock=lambda: at(30),
            wait=lambda _: False,
            every=timedelta(seconds=30),
            tell=lambda _: None,
            fail=lambda _: None,
        )


# --- the command -------------------------------------------------------------------------------------------

EVENT: Final = {
    "eventVersion": "1.11",
    "eventTime": "2026-03-02T09:00:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "ListBuckets",
    "eventID": "5b0f8f0e-6c0e-4e3e-9a54-1f6f1c1f7a11",
    "awsRegion": "eu-central-1",
    "recipientAccountId": "111122223333",
}


def test_the_command_prints_rows_as_lines_of_json_and_ends_on_ctrl_c(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home, log = str(tmp_path / "home"), tmp_path / "trail.json"
    log.write_text(json.dumps({"Records": [EVENT]}))
    assert run(["--home", home, "ingest", str(log), "-q"]) == 0
    capfd.readouterr()
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    words = [
        "hunt",
        "live",
        f"{TABLE} | project EventName",
        "--since",
        "1h",
        "--every",
        "60s",
        "--format",
        "jsonl",
    ]
    assert run(["--home", home, *words]) == 0
    timer.join()
    said = capfd.readouterr()
    assert [json.loads(line) for line in said.out.splitlines()] == [{"EventName": "ListBuckets"}]
    assert "AWSCloudTrail every 60s" in said.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["AWSCloudTrial | count"], 1, "AWSCloudTrial"),
        (["print 1 | take 1"], 2, "no table"),
        ([TABLE, "--every", "soon"], 2, "'soon' is no span"),
        ([TABLE, "--every", "0s"], 2, "'0s' is no span"),
    ],
)
def test_what_cannot_be_watched_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    assert run(["--home", str(tmp_path), "hunt", "live", *words]) == code
    assert said in capsys.readouterr().err
