"""Compaction beside writers, retention, clearing away, and what the lake says of itself."""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trailhawk.cli import run
from trailhawk.errors import NotFoundError
from trailhawk.kql.schema import INGESTION_TIME, Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import Delta, Lake, Transaction, compaction, merging
from trailhawk.lake.care import Caretaker, Retention
from trailhawk.lake.compaction import compact, compact_busy_days
from trailhawk.lake.retention import expiring, forget
from trailhawk.lake.status import day_states
from trailhawk.lake.table import BATCH, CONFLICT, OBJECT, fitted

EVENTS = Table(
    "Events", (Column("TimeGenerated", KqlType.DATETIME), Column("Text", KqlType.STRING)), constants={}
)
KEPT = Table("Kept", (Column("TimeGenerated", KqlType.DATETIME),), constants={})
DAY = dt.date(2026, 3, 1)
NOW = dt.datetime(2026, 3, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def rows(table: Table, *moments: dt.datetime) -> pa.Table:
    values = [
        {"TimeGenerated": at, INGESTION_TIME: at, OBJECT: "o", BATCH: "b", CONFLICT: False} for at in moments
    ]
    return fitted(pa.Table.from_pylist(values), table)


def at(day: dt.date, hour: float = 0) -> dt.datetime:
    return dt.datetime.combine(day, dt.time()) + hour * HOUR


def lake_of(path: Path) -> Lake:
    lake = Lake(path, [EVENTS, KEPT])
    for name in lake.table_names():
        lake.delta(name).create()
    return lake


def append(delta: Delta, *moments: dt.datetime) -> None:
    delta.refresh()
    transaction = Transaction("ingest", delta.transaction("ingest") + 1)
    delta.commit(delta.stage(rows(delta.table, *moments)), transaction=transaction)


def files(delta: Delta) -> Counter[str]:
    delta.refresh()
    return Counter(path.partition("/")[0].partition("=")[2] for path in delta.live())


def stored(delta: Delta) -> list[dt.datetime]:
    """All event times; each file is asked to be sorted."""
    found: list[dt.datetime] = []
    delta.refresh()
    for path in delta.live():
        times = pq.ParquetFile(delta.root / path).read()["TimeGenerated"].to_pylist()
        assert times == sorted(times)
        found += times
    return sorted(found)


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same policy over rows that a test can write."""
    monkeypatch.setattr(compaction, "FILE_ROWS", 200)
    monkeypatch.setattr(merging, "SLICE_ROWS", 25)
    monkeypatch.setattr(compaction, "_TIER_ROWS", 1)


def test_a_growing_day_stays_under_fifty_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    delta = lake_of(tmp_path).delta("Events")
    written: list[dt.datetime] = []
    most = rewritten = 0
    rewrite = delta.stage_sorted

    def counted(parts: object, day: dt.date) -> object:
        nonlocal rewritten
        staged = rewrite(parts, day)  # type: ignore[arg-type]
        rewritten += staged.rows
        return staged

    monkeypatch.setattr(delta, "stage_sorted", counted)
    for number in range(150):
        moments = [at(DAY, (number * 7 + place) % 24 + place / 100) for place in range(5)]
        append(delta, *moments)
        written += moments
        compact_busy_days(delta, today=DAY)
        most = max(most, files(delta)[str(DAY)])
    assert most < 50
    assert stored(delta) == sorted(written)
    # Written once by the append, then a few times from tier to tier.
    assert rewritten / len(written) < 1 + 4


def test_large_rows_are_rewritten_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of the quarantine holds 64 KiB: a slice of as many rows as of logs would be gigabytes."""
    day = dt.date(2026, 3, 1)
    for most, groups in ((1 << 30, 1), (1, 10)):
        monkeypatch.setattr(merging, "SLICE_BYTES", most)
        delta = lake_of(tmp_path / str(groups)).delta(EVENTS.name)
        for hour in range(10):
            append(delta, at(day, hour))
        delta.refresh()
        assert compaction.compact(delta, day, list(delta.live()))
        delta.refresh()
        (path,) = delta.live()
        assert pq.ParquetFile(delta.root / path).num_row_groups == groups


def test_an_hour_of_large_rows_is_rewritten_in_slices_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the mean of the day's rows one slice would hold all of them."""
    monkeypatch.setattr(merging, "SLICE_BYTES", 64 * 1024)
    delta = lake_of(tmp_path).delta(EVENTS.name)
    append(delta, *(at(DAY, place / 50) for place in range(1000)))
    for part in range(4):
        late = rows(EVENTS, *(at(DAY, 20 + place / 100 + part / 400) for place in range(20)))
        large = pa.array([os.urandom(2_000).hex() for _ in range(20)])
        delta.commit(delta.stage(late.set_column(late.column_names.index("Text"), "Text", large)))
    assert compaction.compact(delta, DAY, list(delta.live()))
    delta.refresh()
    (path,) = delta.live()
    metadata = pq.ParquetFile(delta.root / path).metadata
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    assert sum(group.num_rows for group in groups) == 1080
    assert max(group.total_byte_size for group in groups) < 80 * 1024
    assert max(group.num_rows for group in groups) > 200


def test_late_arrivals_rewrite_only_late_arrivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    delta = lake_of(tmp_path).delta("Events")
    for part in range(6):
        append(delta, *(at(DAY, hour / 10) for hour in range(part, 240, 6)))
    today = DAY + dt.timedelta(days=10)
    assert compact_busy_days(delta, today=today) == 1
    whole = set(delta.live())
    written = len(stored(delta))
    for number in range(20):
        append(delta, at(DAY, number))
        compact_busy_days(delta, today=today)
        assert files(delta)[str(DAY)] <= 4
    assert whole <= set(delta.live())
    assert len(stored(delta)) == written + 20


@pytest.mark.long
def test_appends_and_reads_go_on_while_days_are_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    lake = lake_of(tmp_path)
    faults: list[BaseException] = []
    stop = threading.Event()
    days = [DAY + dt.timedelta(days=back) for back in range(3)]

    def going_on(work: object) -> threading.Thread:
        def loop() -> None:
            try:
                work()  # type: ignore[operator]
            except BaseException as error:
                faults.append(error)

        thread = threading.Thread(target=loop)
        thread.start()
        return thread

    def write() -> None:
        delta = lake.apart().delta("Events")
        for number in range(60):
            append(delta, *(at(day, number / 3) for day in days))

    def read() -> None:
        view, known = lake.apart(), 0
        while not stop.is_set():
            snapshot = view.snapshot("Events")
            assert snapshot.rows >= known, "rows went missing"
            known = snapshot.rows
            assert sum(pq.ParquetFile(file.path).metadata.num_rows for file in snapshot.files()) == known

    def care() -> None:
        delta = lake.apart().delta("Events")
        while not stop.is_set():
            compact_busy_days(delta, today=DAY + dt.timedelta(days=9))

    others = [going_on(read), going_on(care), going_on(care)]
    going_on(write).join()
    stop.set()
    for thread in others:
        thread.join()
    assert faults == []
    delta = lake.delta("Events")
    assert len(stored(delta)) == 180
    compact_busy_days(delta, today=DAY + dt.timedelta(days=9))
    assert max(files(delta).values()) <= 4


def test_files_that_another_has_retired_are_not_retired_again(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    one, two = lake.apart().delta("Events"), lake.apart().delta("Events")
    for hour in range(6):
        append(one, at(DAY, hour))
    two.refresh()
    paths = sorted(two.live())
    assert compact(one, DAY, paths)
    two.refresh()  # the files are chosen before, the commit comes from a state in which they are gone
    assert not compact(two, DAY, paths)
    assert len(stored(two)) == 6


def test_rows_older_than_their_retention_go_by_whole_days(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    for table in ("Events", "Kept"):
        for back in range(11):
            append(lake.delta(table), at(DAY + dt.timedelta(days=back), 23))
    care = Caretaker(lake, clock=lambda: NOW, retention=Retention(5), settle=lambda: None, kept=["Kept"])
    (coming,) = care.expiring()
    assert (coming.table, coming.before, coming.days, coming.rows) == ("Events", dt.date(2026, 3, 7), 6, 6)
    assert lake.snapshot("Events").rows == 11
    assert care.forget() == [coming]
    assert lake.snapshot("Events").rows == 5
    assert lake.snapshot("Kept").rows == 11
    assert [each.rows for each in care.forget()] == [0]


def test_a_clock_that_is_far_ahead_is_not_believed(tmp_path: Path) -> None:
    """Nor is an event that is newer than its being stored."""
    lake = lake_of(tmp_path)
    for back in range(11):
        append(lake.delta("Events"), at(DAY + dt.timedelta(days=back), 23))
    last = lake.snapshot("Events").files()[-1].last
    assert last is not None

    def care(now: dt.datetime) -> Caretaker:
        keep = Retention(5)
        return Caretaker(lake, clock=lambda: now, retention=keep, settle=lambda: None, logs=["Events"])

    assert care(last + dt.timedelta(days=6)).believed() == last + dt.timedelta(days=6)
    ahead = care(last + dt.timedelta(days=200))
    assert ahead.believed() <= last + dt.timedelta(days=7)
    kept = lake.snapshot("Events").rows
    assert sum(each.rows for each in ahead.expiring()) == kept
    assert sum(each.rows for each in ahead.forget(now=last)) < kept
    stored_at = pa.array([last.replace(tzinfo=None)], pa.timestamp("us"))
    future = rows(EVENTS, at(DAY + dt.timedelta(days=9_000)))
    future = future.set_column(future.schema.get_field_index(INGESTION_TIME), INGESTION_TIME, stored_at)
    delta = lake.delta("Events")
    delta.refresh()
    delta.commit(delta.stage(future))
    assert ahead.believed() <= last + dt.timedelta(days=7)


def test_a_table_may_have_a_retention_of_its_own(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    append(lake.delta("Events"), at(DAY))
    keep = Retention(5, {"Events": 0})
    assert Caretaker(lake, clock=lambda: NOW, retention=keep, settle=lambda: None).forget(["Events"]) == []
    wrong = Caretaker(lake, clock=lambda: NOW, retention=Retention(0, {"Evens": 1}), settle=lambda: None)
    with pytest.raises(NotFoundError, match=r"'Evens'.*see \[lake.retention\]"):
        wrong.forget()


def test_forgetting_yields_to_compaction(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    delta, other = lake.delta("Events"), lake.apart().delta("Events")
    for hour in range(6):
        append(delta, at(DAY, hour))
    refresh = delta.refresh

    def and_then_it_is_compacted() -> int:
        version = refresh()
        delta.refresh = refresh  # type: ignore[method-assign]
        assert compact_busy_days(other, today=DAY + dt.timedelta(days=5)) == 1
        return version

    delta.refresh = and_then_it_is_compacted  # type: ignore[method-assign]
    assert forget(delta, before=DAY + dt.timedelta(days=1)).rows == 6
    assert lake.snapshot("Events").rows == 0
    assert expiring(delta, before=DAY + dt.timedelta(days=1)).files == 0


def test_clearing_away_settles_first_and_takes_retired_files(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    delta = lake.delta("Events")
    for hour in range(6):
        append(delta, at(DAY, hour))
    settled: list[bool] = []
    care = Caretaker(lake, clock=lambda: NOW, retention=Retention(), settle=lambda: settled.append(True))
    assert care.compact(["Events"]) == {"Events": 1}
    two_days_ago = time.time() - 2 * 86_400
    assert care.vacuum() == {"Events": 0, "Kept": 0}
    for path in (tmp_path / "Events").rglob("*.parquet"):
        os.utime(path, (two_days_ago, two_days_ago))
    assert settled == [True]
    assert lake.snapshot("Events").rows == 6
    with pytest.raises(NotFoundError):
        care.compact(["Nothing"])


def test_states_of_days(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    append(lake.delta("Events"), at(DAY, 3), at(DAY, 1), at(DAY + dt.timedelta(days=1)))
    first, second = day_states(lake, lake.table_names())
    assert (first.table, first.day, first.rows, first.files) == ("Events", DAY, 2, 1)
    assert (first.oldest, first.newest) == (
        at(DAY, 1).replace(tzinfo=dt.UTC),
        at(DAY, 3).replace(tzinfo=dt.UTC),
    )
    assert second.day == DAY + dt.timedelta(days=1)
    assert first.bytes > 0


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "trailhawk.toml").write_text("[lake]\nretention_days = 30\n[lake.retention]\nSecurityAlert = 0\n")

    def json_of(*words: str) -> list[dict[str, object]]:
        assert run(["--home", str(home), "lake", *words, "--format", "json"]) == 0
        found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
        return found

    record = {"eventTime": "2025-01-01T00:00:00Z", "eventID": "1", "eventName": "x", "eventSource": "s"}
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"Records": [{"eventVersion": "1.11", **record}]}))
    assert run(["--home", str(home), "ingest", str(log), "--quiet"]) == 0
    capsys.readouterr()
    tables = {each["table"]: each for each in json_of("status")}
    assert tables["AWSCloudTrail"]["rows"] == 1
    assert json_of("status", "AWSCloudTrail", "--days")[0]["day"] == "2025-01-01"
    assert json_of("compact") == json_of("vacuum") == []
    shown = {each["table"]: each["rows"] for each in json_of("retention")}
    assert shown["AWSCloudTrail"] == 1
    assert not {"IngestLedger", "SecurityAlert"} & set(shown)
    assert {each["table"]: each["rows"] for each in json_of("retention", "--apply")}["AWSCloudTrail"] == 1
    assert "AWSCloudTrail" not in {each["table"] for each in json_of("status")}
    assert run(["--home", str(home), "lake", "compact", "Nope"]) == 1
    assert "no table 'Nope' in the lake" in capsys.readouterr().err


def test_the_ledger_is_never_shortened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trailhawk.toml").write_text("[lake.retention]\nIngestLedger = 30\n")
    assert run(["--home", str(tmp_path), "lake", "retention"]) == 2
    assert "lake.retention.IngestLedger is not shortened" in capsys.readouterr().err


def test_a_round_with_nothing_to_do_looks_at_the_log_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta = lake_of(tmp_path).delta("Events")
    append(delta, *(at(DAY + dt.timedelta(days=day)) for day in range(9)))
    actions = iter([delta.actions()])
    monkeypatch.setattr(delta, "actions", lambda: next(actions))
    assert compact_busy_days(delta, today=NOW.date()) == 0


def written_anew(appends: Sequence[int], *, stored: Sequence[tuple[str, int]] = ()) -> float:
    """How often each row of these appends to a closed day was written anew; files are named by their mark."""
    files = [compaction._File(name, rows) for name, rows in stored]
    most = max(compaction.CLOSED_FILES, sum(not name.startswith("m") for name, _ in stored) + 2)
    rewritten = 0
    for number, rows in enumerate(appends):
        chosen = compaction._beside(files, rows, "m")
        anew = sum(file.rows for file in files if file.path in chosen)
        files = [file for file in files if file.path not in chosen]
        files.append(compaction._File(f"m{number}", rows + anew))
        rewritten += anew
        assert len(files) <= most
    return rewritten / sum(appends)


@pytest.mark.parametrize(
    ("appends", "rows", "large", "most"),
    [
        (300, 5, 0, 7),
        (300, 5, 2_000_000, 16),
        (5_000, 5, 0, 22),
        (5_000, 5, 2_000_000, 70),
        (20_000, 5, 2_000_000, 135),
        (1_000, 20_000, 1_000_000, 13),
        (20, 104_000, 0, 1.5),
    ],
)
def test_how_often_rows_of_a_closed_day_are_written_anew(
    appends: int, rows: int, large: int, most: float
) -> None:
    """About as the cube root of the appends, and as the square root beside a large file: there is room for
    two files only. A day that comes in twenty batches is written anew one and a half times."""
    assert written_anew([rows] * appends, stored=[("m", large)] if large else []) < most


def test_a_row_that_comes_alone_between_batches() -> None:
    assert written_anew([1, 20_000] * 200, stored=[("m", 2_000_000)]) < 20
    assert written_anew([1, 1, 1, 1, 50_000] * 80, stored=[("m", 2_000_000)]) < 13


def test_files_of_an_older_schema_leave_room_for_two_of_todays() -> None:
    older = [("older-1", 10), ("older-2", 10)]
    assert written_anew([5] * 200, stored=[*older, ("m", 2_000_000)]) < 110
    assert written_anew([100_000] * 40, stored=older) < 7


def test_few_files_are_read_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each some pages are held, and a handle."""
    delta = lake_of(tmp_path).delta(EVENTS.name)
    for place in range(40):
        append(delta, at(DAY, place / 2))
    compact, at_once = compaction.compact, list[int]()

    def counted(delta: Delta, day: dt.date, paths: Sequence[str], *, file_rows: int) -> bool:
        at_once.append(len(paths))
        return compact(delta, day, paths, file_rows=file_rows)

    monkeypatch.setattr(compaction, "compact", counted)
    compact_busy_days(delta, today=NOW.date())
    assert max(at_once) == 16
    assert len(stored(delta)) == 40
    assert len(delta.live()) <= compaction.CLOSED_FILES


def test_what_comes_is_merged_with_files_a_slice_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "SLICE_ROWS", 60)
    monkeypatch.setattr(merging, "_READ_ROWS", 7)
    delta = lake_of(tmp_path).delta(EVENTS.name)
    early = [at(DAY, place / 20) for place in range(100)]
    among = [at(DAY, 2 + place / 50) for place in range(100)]
    last = [at(DAY, 23)] * 70  # of one time, which is not cut
    append(delta, *early)
    append(delta, *last)
    delta.refresh()
    coming = rows(EVENTS, *among)
    slices = list(merging.merged(EVENTS, delta.file, sorted(delta.live()), coming))
    assert [each.num_rows for each in slices] == [60, 60, 60, 20, 70]
    times = [time for each in slices for time in each["TimeGenerated"].to_pylist()]
    assert times == [time.replace(tzinfo=None) for time in sorted([*early, *among, *last])]


def test_texts_that_repeat_are_not_spread_out_when_they_are_written_anew(tmp_path: Path) -> None:
    """A late row that comes alone has none that repeats; what is stored beside it has."""
    delta = lake_of(tmp_path).delta("Events")
    many = rows(delta.table, *[at(DAY, 1)] * 2_000)
    texts = pa.array(["a" * 50_000, "b"] * 1_000).dictionary_encode()
    delta.commit(delta.stage(many.set_column(1, "Text", texts)))
    [path] = delta.live()
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        staged = delta.stage(rows(delta.table, at(DAY)), onto={DAY: [path]})
    finally:
        pa.set_memory_pool(usual)
    assert (pool.max_memory() or 0) < 20_000_000  # spread out it is 50 MB
    delta.commit(staged, remove=[path])
    assert len(stored(delta)) == 2_001
