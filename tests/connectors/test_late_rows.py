"""What comes late: a closed day has few files at any commit, whoever writes and rewrites beside."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.lakes import assert_balanced
from support.lakes import rows as stored_rows
from trailhawk.connectors import TABLES
from trailhawk.connectors.ingest import Ingestor
from trailhawk.connectors.objects import LogObject
from trailhawk.connectors.store import KEPT_FOR
from trailhawk.lake import Delta, Lake, Staged, compaction, merging
from trailhawk.lake.compaction import CLOSED_FILES, compact_busy_days, to_fold
from trailhawk.lake.retention import forget
from trailhawk.lake.terms import Terms, terms_path
from trailhawk.sources import TABLES as SOURCE_TABLES

NOW = dt.datetime(2026, 3, 12, 9, tzinfo=dt.UTC)
TABLE = "AWSCloudTrail"
DAYS = [dt.date(2026, 3, day) for day in (1, 2)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", [*SOURCE_TABLES, *TABLES])


def worker(lake: Lake, *, now: dt.datetime = NOW, phase: Callable[[str], None] = lambda _: None) -> Ingestor:
    return Ingestor(lake, clock=lambda: now, phase=phase)


def put(ingestor: Ingestor, number: int, *, each: int = 1, days: list[dt.date] = DAYS) -> None:
    """Store one object with so many events of each day, as one batch."""
    events = [
        {
            "eventTime": f"{day}T{(number * 7 + place) % 24:02}:{place % 60:02}:00Z",
            "eventID": f"{number}-{day}-{place}",
            "eventName": f"needle{number}",
        }
        for day in days
        for place in range(each)
    ]
    content = json.dumps({"Records": events}).encode()
    ingestor.take(LogObject(f"{number}.json", lambda: io.BytesIO(content), identity=f"log:{number}"))
    ingestor.flush()


def counts(delta: Delta) -> Iterator[Counter[str]]:
    """The live files of each day after each commit."""
    live: Counter[str] = Counter()
    for commit in sorted((delta.root / "_delta_log").glob("*.json")):
        for line in commit.read_text().splitlines():
            for kind, action in json.loads(line).items():
                if kind in ("add", "remove"):
                    live[action["partitionValues"]["_th_day"]] += 1 if kind == "add" else -1
        yield live.copy()


def most(delta: Delta) -> int:
    return max(max(each.values(), default=0) for each in counts(delta))


def check(lake: Lake, objects: int, *, each: int = 1) -> None:
    """Every event is there once, each file is sorted, and its statistics are those of its rows."""
    found = [row["AwsEventId"] for row in stored_rows(lake, TABLE)]
    assert sorted(found) == sorted(
        f"{number}-{day}-{place}" for number in range(objects) for day in DAYS for place in range(each)
    )
    assert_balanced(lake)
    for file in lake.snapshot(TABLE).files():
        times = pq.ParquetFile(file.path).read(["TimeGenerated"])["TimeGenerated"].to_pylist()
        assert times == sorted(times)
        assert file.first is not None
        assert file.last is not None
        assert (file.first.replace(tzinfo=None), file.last.replace(tzinfo=None)) == (times[0], times[-1])
        assert file.rows == len(times)


def test_a_closed_day_has_few_files_at_any_commit(lake: Lake) -> None:
    one = worker(lake)
    for number in range(30):
        put(one, number)
    assert most(lake.delta(TABLE)) == CLOSED_FILES == 3
    check(lake, 30)
    put(one, 7)  # what was written anew is known
    check(lake, 30)


def test_a_day_that_grows_is_appended_to(lake: Lake) -> None:
    one = worker(lake, now=dt.datetime(2026, 3, 3, 11, tzinfo=dt.UTC))
    for number in range(5):
        put(one, number)
    assert list(counts(lake.delta(TABLE)))[-1] == {"2026-03-01": 2, "2026-03-02": 5}


def test_yesterday_closes_at_noon(lake: Lake) -> None:
    for number in range(5):
        put(worker(lake, now=dt.datetime(2026, 3, 3, 11, tzinfo=dt.UTC)), number)
    noon = dt.datetime(2026, 3, 3, 12, tzinfo=dt.UTC)
    compact_busy_days(lake.delta(TABLE), today=compaction.care_date(noon))
    put(worker(lake, now=noon), 5)
    assert max(list(counts(lake.delta(TABLE)))[-1].values()) <= CLOSED_FILES
    check(lake, 6)


def test_the_index_of_terms_holds_what_was_written_anew(lake: Lake) -> None:
    one = worker(lake)
    for number in range(5):
        put(one, number, each=900)
    check(lake, 5, each=900)
    files = lake.snapshot(TABLE).files()
    indexed = [file for file in files if Terms.open(terms_path(lake.root / TABLE, file.path))]
    assert {file.rows >= 2_000 for file in indexed} == {True}
    assert {file.path for file in indexed} == {file.path for file in files if file.rows >= 2_000}


def test_two_writers_of_one_day(lake: Lake) -> None:
    """The loser of a race writes anew what the winner has retired."""
    one, other = worker(lake), worker(lake)
    numbers = iter(range(100, 200))
    raced: list[int] = []

    def race(phase: str) -> None:
        if phase == "commit" and len(raced) < 3:
            raced.append(next(numbers))
            put(other, len(raced) + 3)

    for number in range(4):
        put(one, number)
    put(worker(lake, phase=race), 7)
    assert len(raced) == 3
    assert most(lake.delta(TABLE)) == CLOSED_FILES
    check(lake, 8)


def test_a_compaction_that_was_faster(lake: Lake) -> None:
    one = worker(lake)
    for number in range(3):
        put(one, number)
    delta = lake.apart().delta(TABLE)
    rewritten: list[bool] = []

    def race(phase: str) -> None:
        if phase == "commit" and not rewritten:
            delta.refresh()
            rewritten.append(compaction.compact(delta, DAYS[0], list(delta.live([DAYS[0]]))))

    put(worker(lake, phase=race), 3)
    assert rewritten == [True]
    assert most(lake.delta(TABLE)) == CLOSED_FILES
    check(lake, 4)


def test_a_compaction_stands_by_what_it_wrote_where_another_day_was_faster(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else late arrivals, which retire files at every commit, would let no rewriting of today come to its
    end."""
    one = worker(lake)
    for number in range(3):
        put(one, number)
    delta = lake.apart().delta(TABLE)
    delta.refresh()
    commit = delta.commit
    wrote: list[int] = []

    def slow(*given: object, **named: object) -> int:
        if len(wrote) < 2:
            wrote.append(len(wrote))
            put(one, 2 + len(wrote), days=DAYS[1:])
        return commit(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(delta, "commit", slow)
    assert compaction.compact(delta, DAYS[0], list(delta.live([DAYS[0]])))
    assert len(wrote) == 2
    assert Counter(path.partition("/")[0] for path in delta.live())["_th_day=2026-03-01"] == 1
    assert lake.snapshot(TABLE).rows == 8


def test_a_day_that_comes_in_batches_has_few_files_at_any_commit(lake: Lake) -> None:
    """However large they are, nothing is left for compaction."""
    one, delta = worker(lake), lake.delta(TABLE)
    for number in range(8):
        put(one, number, each=50)
    assert most(delta) == CLOSED_FILES
    assert compact_busy_days(delta, today=NOW.date()) == 0
    check(lake, 8, each=50)


def test_what_is_large_is_merged_a_slice_at_a_time(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "SLICE_ROWS", 20)
    one = worker(lake)
    for number in range(5):
        put(one, number, each=30)
    check(lake, 5, each=30)
    largest = max(lake.snapshot(TABLE).files(), key=lambda file: file.rows)
    metadata = pq.ParquetFile(largest.path).metadata
    assert metadata.num_rows >= 60
    assert max(metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)) <= 40


def test_late_rows_beside_files_of_one_size_make_them_one(lake: Lake) -> None:
    """Else each of them would write one of these anew."""
    one, delta = worker(lake), lake.delta(TABLE)
    for number in range(3):
        put(one, number, each=300)
    delta.refresh()
    laid_down = set(delta.live())
    put(one, 3)
    put(one, 4)
    delta.refresh()
    assert not laid_down & set(delta.live())
    assert set(list(counts(delta))[-1].values()) == {2}


def test_a_day_that_is_not_in_order_yet_is_left_to_compaction(lake: Lake) -> None:
    """At noon a day of many files is closed: the next row that comes to it need not wait for all of them."""
    before = dt.datetime(2026, 3, 3, 11, tzinfo=dt.UTC)
    for number in range(6):
        put(worker(lake, now=before), number, days=DAYS[1:], each=20)
    delta = lake.delta(TABLE)
    delta.refresh()
    stored = set(delta.live())
    assert len(stored) == 6
    put(worker(lake, now=before + dt.timedelta(hours=1)), 6, days=DAYS[1:])
    delta.refresh()
    assert len(delta.live()) == 6
    assert len(stored - set(delta.live())) == 1


def test_who_lost_a_race_writes_only_what_must_be(lake: Lake) -> None:
    """Who has large files to write anew would else be overtaken each time."""
    for number in range(3):
        put(worker(lake), number, each=300)
    delta = lake.delta(TABLE)
    delta.refresh()
    first, second, third = sorted(delta.live(DAYS[:1]))

    def chosen(*tried: str) -> tuple[str, ...]:
        return to_fold(delta, {DAYS[0]: 1}, today=NOW.date(), tried={DAYS[0]: tried})[DAYS[0]]

    assert sorted(chosen()) == [first, second, third]
    assert chosen(second, third) == (second, third)  # these still stand
    assert len(chosen(second, "retired meanwhile")) == 1


def test_who_takes_long_to_write_does_not_begin_with_all_of_it_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written longer than a minute ago is written anew, and another writer may be faster again."""
    for number in range(3):
        put(worker(lake), number, each=300, days=DAYS[:1])
    stage, clock, anew = Delta.stage, [NOW], list[int]()

    def noted(self: Delta, rows: pa.Table, **named: Any) -> tuple[Staged, ...]:
        if self.table.name == TABLE:
            anew.append(sum(map(len, named["onto"].values())))
        return stage(self, rows, **named)

    def race(phase: str) -> None:
        if phase == "commit" and len(anew) < 3:
            clock[0] += KEPT_FOR + dt.timedelta(seconds=1)
            put(worker(lake), 10 + len(anew), days=DAYS[1:])

    one = Ingestor(lake, clock=lambda: clock[0], phase=race)
    monkeypatch.setattr(Delta, "stage", noted)
    put(one, 3, days=DAYS[:1])
    assert [count for count in anew if count] == [3, 1]
    assert_balanced(lake)


def test_rows_that_retention_removed_may_come_again(lake: Lake) -> None:
    one = worker(lake)
    put(one, 1)
    forget(lake.delta(TABLE), before=DAYS[1])
    again = {"eventTime": f"{DAYS[0]}T07:00:00Z", "eventID": f"1-{DAYS[0]}-0", "eventName": "needle1"}
    content = json.dumps({"Records": [again]}).encode()
    one.take(LogObject("again", lambda: io.BytesIO(content), identity="log:again"))
    one.flush()
    assert lake.snapshot(TABLE).rows == 2
