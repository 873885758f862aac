"""What ends a query: its time and its memory, in the engine, in Python beside it and in Python inside it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk.engine.duckdb import DuckDBEngine, Limits
from trailhawk.engine.watch import Stopped, Watched, Watcher, resident
from trailhawk.errors import LimitError
from trailhawk.lake.catalog import Lake

# What ends Python code may land in a callback of the collector, which can only tell of it; a second later the
# watcher ends the code again.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*Stopped:pytest.PytestUnraisableExceptionWarning")

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECONDS = 1.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    home: Path = tmp_path_factory.mktemp("home")
    lake = Lake(home / "lake", [])
    # What is imported when it is first used must not count.
    warm = DuckDBEngine(lake)
    warm.query("print series_fit_2lines(range(1, 20)), hash_sha256(1)", now=NOW)
    warm.query(SCAN.format(rows=2), now=NOW)
    warm.close()
    limits = Limits(memory=256 << 20, seconds=SECONDS, temporary=64 << 20)
    engine = DuckDBEngine(lake, limits=limits, temporary=home / "temporary")
    yield engine
    engine.close()


SCAN = (
    "range x from 1 to {rows} step 1 | sort by x asc"
    " | scan declare (s: long = 0) with (step a: true => s = a.s + x;) | count"
)
SLOW = {
    "in the engine": "range x from 1 to 1000000000 step 1 | summarize dcount(hash_sha256(x))",
    "in Python that takes all rows": SCAN.format(rows=3_000_000),
    "in Python that takes a row": "range x from 1 to 20000 step 1 | extend s = range(x, x + 2000)"
    " | extend p = series_fit_2lines(s) | summarize count(), max(tostring(p))",
}


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_query_ends_in_time(engine: DuckDBEngine, name: str) -> None:
    started = time.monotonic()
    with pytest.raises(LimitError, match=r"the query ran longer than 1 s|needs more memory"):
        engine.query(SLOW[name], now=NOW)
    assert time.monotonic() - started < 60  # on a busy machine too
    # And the engine is as it was.
    assert engine.query("print 1", now=NOW).tuples() == [(1,)]
    assert engine.query(SCAN.format(rows=3), now=NOW).tuples() == [(3,)]


def test_rows_beyond_memory_end_in_an_error(tmp_path: Path) -> None:
    limits = Limits(memory=128 << 20, seconds=60, temporary=64 << 20)
    small = DuckDBEngine(Lake(tmp_path / "lake", []), limits=limits, temporary=tmp_path / "temporary")
    before = resident()
    text = "range a from 1 to 100000 step 1 | extend k = 1 | as t | join kind=inner t on k"
    with pytest.raises(LimitError, match="needs more memory than it may use"):
        small.query(text, now=NOW)
    assert resident() - before < 2 << 30
    assert small.query("print 1", now=NOW).tuples() == [(1,)]
    small.close()


def test_queries_of_other_threads_go_on(engine: DuckDBEngine) -> None:
    failures: list[Exception] = []
    done: list[int] = []

    def work() -> None:
        until = time.monotonic() + 2 * SECONDS
        last = until + 60
        while (began := time.monotonic()) < (until if done else last):
            try:
                done.append(len(engine.query(SCAN.format(rows=100), now=NOW).tuples()))
            except Exception as error:  # told by the assertion below
                if time.monotonic() - began < SECONDS:  # a busy machine may keep it for longer
                    failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(LimitError):
        engine.query(SLOW["in Python that takes all rows"], now=NOW)
    thread.join()
    assert failures == []
    assert done


def test_a_query_that_ends_at_its_limit_leaves_nothing_behind() -> None:
    watcher = Watcher()
    ended = 0
    for turn in range(0, 30, 2):

        def body(query: Watched, longer: float = turn / 100) -> int:
            until = query.until + longer  # the watcher looks while one of them ends
            while time.monotonic() < until:
                pass
            return 1

        try:
            watcher.run(body, seconds=0.01, growth=1 << 40)
        except LimitError:
            ended += 1
    for _ in range(1000):
        time.sleep(0)  # an exception that was left would come here
    assert ended > 0


PROFILED = """
import cProfile, time
from trailhawk.engine.watch import Watcher
from trailhawk.errors import LimitError

def body(query):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        pass

watcher = Watcher()
watcher.run(lambda query: 1, seconds=60, growth=1 << 40)
cProfile.run("watcher.run(lambda query: 1, seconds=60, growth=1 << 40)")
try:
    watcher.run(body, seconds=0.01, growth=1 << 40)
except LimitError:
    cProfile.run("watcher.run(lambda query: 1, seconds=60, growth=1 << 40)")
    print("ended")
"""


def test_a_profiler_may_look_on_after_a_query() -> None:
    done = subprocess.run([sys.executable, "-c", PROFILED], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1:] == ["ended"], done.stderr


def test_a_run_inside_another_is_part_of_it() -> None:
    watcher = Watcher()
    seen: list[Watched] = []

    def outer(query: Watched) -> int:
        seen.append(query)
        return watcher.run(lambda inner: (seen.append(inner), 7)[1], seconds=0.001, growth=1)  # type: ignore[func-returns-value]

    assert watcher.run(outer, seconds=60, growth=1 << 40) == 7
    assert seen[0] is seen[1]


def test_python_that_the_engine_calls_is_stopped() -> None:
    watcher = Watcher()

    def body(_: Watched) -> None:
        with watcher.calling(0.1):
            while True:
                pass

    with pytest.raises((Stopped, LimitError)):
        watcher.run(body, seconds=60, growth=1 << 40)
