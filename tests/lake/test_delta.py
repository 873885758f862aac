import datetime as dt
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from trailhawk.errors import LakeError, NotFoundError
from trailhawk.kql.schema import INGESTION_TIME, Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import ConflictError, Delta, Lake, Staged, Transaction, merging
from trailhawk.lake.compaction import compact, compact_busy_days
from trailhawk.lake.delta import _Layout
from trailhawk.lake.storage import S3
from trailhawk.lake.table import BATCH, CONFLICT, ID, OBJECT, PAYLOAD, REST, stored_names, stored_schema

EVENTS = Table(
    "Events",
    (Column("TimeGenerated", KqlType.DATETIME), Column("Text", KqlType.STRING)),
    constants={},
)
DAY = dt.datetime(2026, 3, 1)


def rows(*moments: dt.datetime, text: str = "x") -> pa.Table:
    count = len(moments)
    columns = {
        "TimeGenerated": list(moments),
        "Text": [text] * count,
        INGESTION_TIME: [DAY] * count,
        OBJECT: ["o"] * count,
        BATCH: ["b"] * count,
        ID: list(range(count)),
        PAYLOAD: list(range(count)),
        CONFLICT: [False] * count,
        REST: [None] * count,
    }
    return pa.table({name: columns[name] for name in stored_names(EVENTS)}, stored_schema(EVENTS))


def delta(path: Path) -> Delta:
    table = Delta(path / "Events", EVENTS)
    table.create()
    return table


def test_a_lake_without_data_is_empty(tmp_path: Path) -> None:
    snapshot = Lake(tmp_path, [EVENTS]).snapshot("Events")
    assert (snapshot.version, snapshot.files(), snapshot.rows) == (-1, (), 0)


def test_an_unknown_table_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"'Event'.*there is Events"):
        Lake(tmp_path, [EVENTS]).snapshot("Event")


def test_rows_are_filed_by_day_and_sorted_by_time(tmp_path: Path) -> None:
    table = delta(tmp_path)
    table.commit(table.stage(rows(DAY + dt.timedelta(hours=30), DAY + dt.timedelta(hours=2), DAY)))
    files = Lake(tmp_path, [EVENTS]).snapshot("Events").files()
    assert [file.rows for file in files] == [2, 1]
    assert files[0].first == DAY.replace(tzinfo=dt.UTC)
    assert files[0].last == DAY.replace(hour=2, tzinfo=dt.UTC)
    assert files[0].ingested_last == DAY.replace(tzinfo=dt.UTC)
    assert files[0].columns == set(stored_names(EVENTS))
    stored = pa.parquet.read_table(files[0].path, partitioning=None)
    assert stored["TimeGenerated"].to_pylist() == [DAY, DAY.replace(hour=2)]
    assert stored.schema.field("TimeGenerated").type == pa.timestamp("us")


def test_files_are_chosen_by_time_with_an_open_end(tmp_path: Path) -> None:
    table = delta(tmp_path)
    for day in range(5):
        table.commit(table.stage(rows(DAY + dt.timedelta(days=day, hours=1))))
    snapshot = Lake(tmp_path, [EVENTS]).snapshot("Events")

    def days(since: dt.datetime | None, until: dt.datetime | None) -> list[int]:
        return [file.first.day for file in snapshot.files(since, until) if file.first]

    second = dt.datetime(2026, 3, 2, 1, tzinfo=dt.UTC)
    assert days(None, None) == [1, 2, 3, 4, 5]
    assert days(second, None) == [2, 3, 4, 5]
    assert days(second + dt.timedelta(microseconds=1), None) == [3, 4, 5]
    assert days(None, second) == [1]
    assert days(second, second + dt.timedelta(microseconds=1)) == [2]


def test_a_snapshot_is_kept_until_the_table_changes(tmp_path: Path) -> None:
    table = delta(tmp_path)
    lake = Lake(tmp_path, [EVENTS])
    first = lake.snapshot("Events")
    assert lake.snapshot("Events") is first
    table.commit(table.stage(rows(DAY)))
    assert lake.snapshot("Events").rows == 1
    assert first.rows == 0


def test_a_reader_finds_the_newest_state_though_the_log_was_cleaned_meanwhile(tmp_path: Path) -> None:
    table = delta(tmp_path)
    lake = Lake(tmp_path, [EVENTS])
    first = lake.snapshot("Events").version
    for hour in range(3):
        table.commit(table.stage(rows(DAY.replace(hour=hour))))
    DeltaTable(str(table.root)).create_checkpoint()
    for version in range(first + 3):
        (table.root / "_delta_log" / f"{version:020}.json").unlink()
    assert (lake.snapshot("Events").version, lake.snapshot("Events").rows) == (first + 3, 3)


def test_a_file_of_another_writer_tells_its_columns_itself(tmp_path: Path) -> None:
    table = delta(tmp_path)
    path = "_th_day=2026-03-01/part-00000.parquet"
    (tmp_path / "Events" / path).parent.mkdir()
    pa.parquet.write_table(rows(DAY).select(["TimeGenerated", "Text"]), tmp_path / "Events" / path)
    table.commit([Staged(path, 1, 1, "2026-03-01", '{"numRecords": 1}')])
    (file,) = Lake(tmp_path, [EVENTS]).snapshot("Events").files(DAY.replace(tzinfo=dt.UTC))
    assert file.columns == {"TimeGenerated", "Text"}
    assert (file.first, file.last) == (None, None)


def test_the_table_is_an_ordinary_delta_table(tmp_path: Path) -> None:
    from deltalake import DeltaTable

    table = delta(tmp_path)
    table.commit(table.stage(rows(DAY, DAY + dt.timedelta(days=1))))
    read = DeltaTable(tmp_path / "Events").to_pyarrow_table()
    assert read.num_rows == 2
    assert sorted(read["_th_day"].to_pylist()) == [dt.date(2026, 3, 1), dt.date(2026, 3, 2)]


def test_the_loser_of_a_race_is_told(tmp_path: Path) -> None:
    first, second = delta(tmp_path), delta(tmp_path)
    first.commit(first.stage(rows(DAY)), transaction=Transaction("ingest", 1))
    staged = second.stage(rows(DAY))
    with pytest.raises(ConflictError):
        second.commit(staged, transaction=Transaction("ingest", 1))
    assert second.transaction("ingest") == 1
    second.commit(staged, transaction=Transaction("ingest", 2), note={"batch": "two"})
    assert [commit.note for commit in second.notes(0)] == [{"batch": "two"}]
    first.refresh()
    assert sum(first.live().values()) == 2


def test_a_damaged_log_is_told_with_its_table(tmp_path: Path) -> None:
    delta(tmp_path)
    (tmp_path / "Events/_delta_log/00000000000000000001.json").write_text("damaged")
    with pytest.raises(LakeError, match="log of table Events cannot be read"):
        Lake(tmp_path, [EVENTS]).snapshot("Events")


def test_a_hint_that_leads_nowhere_is_told_with_what_to_do(tmp_path: Path) -> None:
    table = delta(tmp_path)
    table.commit(table.stage(rows(DAY)))
    DeltaTable(tmp_path / "Events").create_checkpoint()
    hint = tmp_path / "Events/_delta_log/_last_checkpoint"
    hint.write_text('{"version": 999999, "size": 3}')
    with pytest.raises(LakeError, match="log of table Events cannot be read") as caught:
        Lake(tmp_path, [EVENTS]).snapshot("Events")
    assert f"{hint} only says where to begin" in caught.value.hint
    table.commit(table.stage(rows(DAY)))  # who has the table open goes on
    hint.unlink()
    assert Lake(tmp_path, [EVENTS]).snapshot("Events").rows == 2


def test_a_bucket_that_does_not_answer_is_no_damaged_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("error performing GET http://store/Events/_delta_log/_last_checkpoint: refused")

    table = Delta(S3("s3://lake", tmp_path, cache_bytes=0).table("Events"), EVENTS)
    monkeypatch.setattr("deltalake.DeltaTable", refuse)
    with pytest.raises(LakeError, match=r"log of table Events cannot be read: .* refused") as caught:
        table.refresh()
    assert caught.value.hint == "see [lake] in trailhawk.toml"


def test_a_row_without_time_is_refused(tmp_path: Path) -> None:
    table = delta(tmp_path)
    timeless = rows(DAY).set_column(0, "TimeGenerated", pa.array([None], pa.timestamp("us")))
    with pytest.raises(LakeError, match="rows of Events without TimeGenerated: 1"):
        table.stage(timeless)


def test_a_busy_day_becomes_few_sorted_files(tmp_path: Path) -> None:
    table = delta(tmp_path)
    for hour in (5, 1, 3, 2, 4):
        table.commit(table.stage(rows(DAY.replace(hour=hour), text=str(hour))))
    table.commit(table.stage(rows(DAY + dt.timedelta(days=1))))
    assert compact_busy_days(table, today=dt.date(2026, 3, 2)) == 0
    assert compact_busy_days(table, today=dt.date(2026, 3, 3)) == 1
    files = Lake(tmp_path, [EVENTS]).snapshot("Events").files()
    assert [file.rows for file in files] == [5, 1]
    stored = pa.parquet.read_table(files[0].path, partitioning=None)
    assert stored["Text"].to_pylist() == ["1", "2", "3", "4", "5"]


def test_a_large_day_is_rewritten_slice_by_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "SLICE_ROWS", 4)
    table = delta(tmp_path)
    for start in range(5):
        moments = [DAY + dt.timedelta(minutes=place - place % 2) for place in range(start, 50, 5)]
        table.commit(table.stage(rows(*moments, text=str(start))))
    before = Lake(tmp_path, [EVENTS]).snapshot("Events")
    assert compact(table, DAY.date(), list(table.live()), file_rows=26)
    after = Lake(tmp_path, [EVENTS]).snapshot("Events")
    assert (before.rows, after.rows) == (50, 50)
    times: list[dt.datetime] = []
    for file in after.files():
        times += pa.parquet.read_table(file.path, partitioning=None)["TimeGenerated"].to_pylist()
        assert file.last == times[-1].replace(tzinfo=dt.UTC)
    assert times == sorted(DAY + dt.timedelta(minutes=place - place % 2) for place in range(50))
    assert [file.rows for file in after.files()] in ([26, 24], [28, 22])


def test_compaction_disturbs_no_writer_and_yields_to_another(tmp_path: Path) -> None:
    writer, one, two = delta(tmp_path), delta(tmp_path), delta(tmp_path)
    for hour in range(3):
        writer.commit(writer.stage(rows(DAY.replace(hour=hour))), transaction=Transaction("ingest", hour + 1))
    one.refresh(), two.refresh()
    staged = writer.stage(rows(DAY.replace(hour=9)))
    assert compact(one, DAY.date(), sorted(one.live()))
    writer.commit(staged, transaction=Transaction("ingest", 4))
    assert not compact(two, DAY.date(), sorted(two.live()))
    assert Lake(tmp_path, [EVENTS]).snapshot("Events").rows == 4


def test_cleaning_removes_only_what_no_version_names_and_nobody_writes(tmp_path: Path) -> None:
    table = delta(tmp_path)
    table.commit(table.stage(rows(DAY)))
    folder = tmp_path / "Events" / "_th_day=2026-03-01"
    for name in ("fresh.parquet", "forgotten.parquet"):
        (folder / name).write_bytes(b"under way")
    two_days_ago = time.time() - 2 * 86_400
    os.utime(folder / "forgotten.parquet", (two_days_ago, two_days_ago))
    assert table.clean(older_than=dt.timedelta(hours=1)) == 1
    assert (folder / "fresh.parquet").exists()
    assert Lake(tmp_path, [EVENTS]).snapshot("Events").rows == 1


def test_notes_are_found_though_others_have_committed_since(tmp_path: Path) -> None:
    ours = delta(tmp_path)
    ours.commit(ours.stage(rows(DAY)), note={"batch": 1})
    other = Delta(tmp_path / "Events", EVENTS)
    other.refresh()
    for _ in range(3):
        other.commit(other.stage(rows(DAY)), note={"batch": "later"})
    assert [(commit.version, commit.note) for commit in ours.notes(0)] == [(1, {"batch": 1})]


@pytest.mark.parametrize("note", [None, {"batch": "b1"}])
def test_a_commit_that_was_done_and_not_said_so_is_done(
    note: dict[str, object] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = delta(tmp_path)
    commit = DeltaTable.create_write_transaction

    def deaf(*given: object, **named: object) -> None:
        commit(*given, **named)  # type: ignore[arg-type]  # whatever it is given
        raise CommitFailedError("a version of this number exists")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", deaf)
    staged = table.stage(rows(DAY))
    version = table.commit(staged, transaction=Transaction("ingest", 1), note=note)
    assert (version, table.transaction("ingest"), len(table.live())) == (1, 1, 1)
    if note is not None:  # an empty commit is known by its note alone
        assert table.commit([], transaction=Transaction("ingest", 2), note={"batch": "b2"}) == 2
    monkeypatch.undo()
    other = delta(tmp_path)
    table.commit(table.stage(rows(DAY)), transaction=Transaction("ingest", 3), note=note)
    with pytest.raises(ConflictError):
        other.commit(other.stage(rows(DAY)), transaction=Transaction("ingest", 3), note={"batch": "b3"})


def test_a_lake_that_goes_away_is_not_begun_anew_in_its_place(tmp_path: Path) -> None:
    """On a disk that is not mounted any more: what came meanwhile would be hidden by the disk's return."""
    lake = Lake(tmp_path / "lake", [EVENTS])
    table = lake.delta("Events")
    table.create()
    table.commit(table.stage(rows(DAY)))
    (tmp_path / "lake").rename(tmp_path / "away")
    for each in (lake, lake.apart()):
        with pytest.raises(LakeError, match=r"table Events in .* has gone; see whether its disk is mounted"):
            each.delta("Events").create()
    assert not (tmp_path / "lake").exists()
    (tmp_path / "away").rename(tmp_path / "lake")
    later = lake.apart().delta("Events")
    later.create()
    later.commit(later.stage(rows(DAY)))
    assert lake.snapshot("Events").rows == 2


def test_rows_of_any_size_are_written_in_bounded_memory(tmp_path: Path) -> None:
    """Of the parts of a file one is held at a time; a page and a row group of large rows are no larger than
    those of small ones."""
    table = delta(tmp_path)
    held: list[int] = []

    def parts() -> Iterator[pa.Table]:
        for number in range(6):
            held.append(pa.total_allocated_bytes() - before)
            moment = DAY + dt.timedelta(hours=number)
            yield rows(*[moment] * 160).set_column(
                1, "Text", pa.array([os.urandom(50_000).hex() for _ in range(160)])
            )

    before = pa.total_allocated_bytes()
    staged = table.stage_sorted(parts(), DAY.date())
    assert max(held) < 2.5 * 16_000_000
    with pa.parquet.ParquetFile(table.file(staged.path)) as file:
        column = file.metadata.row_group(0).column(1)
        assert (file.metadata.num_rows, file.metadata.num_row_groups) == (960, 6)
        assert column.total_uncompressed_size > 16_000_000
    layout = _Layout.of(rows(DAY, DAY, text="x" * 100_000))
    assert layout.encoded_rows * 100_000 <= 16 * 1024 * 1024
    assert _Layout.of(rows(DAY, DAY, text="x" * 700)).encoded_rows == 8_192


def test_each_part_of_a_file_has_row_groups_for_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large rows that follow small ones."""
    monkeypatch.setattr("trailhawk.lake.delta._ROW_GROUP_BYTES", 100_000)
    table = delta(tmp_path)
    staged = table.stage_sorted((rows(*[DAY] * 90, text="x" * size) for size in (1, 10_000)), DAY.date())
    with pa.parquet.ParquetFile(table.file(staged.path)) as file:
        groups = [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)]
    assert groups[0] == 90
    assert max(groups[1:]) < 10
