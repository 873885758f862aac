"""Tables that an older version made, with fewer columns than they have now."""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from trailhawk.connectors.ledger import LEDGER
from trailhawk.detect.bookmark_table import HUNTING_BOOKMARK
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.incidents.security_incident import SECURITY_INCIDENT
from trailhawk.kql.schema import INGESTION_TIME, Column, Promoted, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import ConflictError, Delta, Lake
from trailhawk.lake.compaction import compact, compact_busy_days
from trailhawk.lake.table import CONFLICT, fitted, stored_names

NOW = dt.datetime(2026, 3, 9, tzinfo=dt.UTC)
DAY = dt.datetime(2026, 3, 1)
TODAY = Table(
    "Events",
    (
        Column("TimeGenerated", KqlType.DATETIME),
        Column("Text", KqlType.STRING),
        Column("Worker", KqlType.STRING),
        Column("Bytes", KqlType.LONG),
        Column("More", KqlType.DYNAMIC),
    ),
    constants={},
)
ONCE = Table("Events", TODAY.columns[:2], constants={})


def rows(table: Table, hour: int, **values: object) -> pa.Table:
    hidden = {INGESTION_TIME: DAY, CONFLICT: False}
    row = {"TimeGenerated": DAY + dt.timedelta(hours=hour), "Text": str(hour)} | hidden | values
    return fitted(pa.Table.from_pylist([row]), table)


def opened(root: Path, table: Table) -> Delta:
    delta = Delta(root / table.name, table)
    delta.create()
    return delta


def wrote(root: Path, table: Table, *hours: int, **values: object) -> Delta:
    delta = opened(root, table)
    for hour in hours:
        delta.commit(delta.stage(rows(table, hour, **values)))
    return delta


def asked(root: Path, query: str) -> list[tuple[object, ...]]:
    with closing(DuckDBEngine(Lake(root, [TODAY]))) as engine:
        return engine.query(query, now=NOW).tuples()


def of_others(root: Path) -> list[tuple[object, ...]]:
    """What another engine reads."""
    found = DeltaTable(root / "Events").to_pyarrow_table().sort_by("TimeGenerated").to_pylist()
    return [(row["Text"], row["Worker"], row["Bytes"], row["More"]) for row in found]


EVERY = "Events | sort by TimeGenerated asc | project Text, Worker, Bytes, tostring(More.k)"


def test_a_table_gets_the_columns_that_came_since_in_one_commit(tmp_path: Path) -> None:
    before = wrote(tmp_path, ONCE, 1).version
    assert asked(tmp_path, EVERY) == [("1", "", None, "")]
    delta = wrote(tmp_path, TODAY, 2, Worker="a", Bytes=7, More='{"k":"v"}')
    assert delta.version == before + 2
    names = {field.name for field in DeltaTable(tmp_path / "Events").schema().fields}
    assert set(stored_names(TODAY)) < names
    assert asked(tmp_path, EVERY) == [("1", "", None, ""), ("2", "a", 7, "v")]
    assert asked(tmp_path, "Events | where isempty(Worker) and isnull(Bytes) | count") == [(1,)]
    assert asked(tmp_path, 'Events | where Worker == "a" | summarize sum(Bytes)') == [(7,)]
    assert of_others(tmp_path) == [("1", None, None, None), ("2", "a", 7, '{"k":"v"}')]
    opened(tmp_path, TODAY)
    assert DeltaTable(tmp_path / "Events").version() == delta.version


def test_compaction_goes_over_files_of_both(tmp_path: Path) -> None:
    wrote(tmp_path, ONCE, 1, 2, 3)
    wrote(tmp_path, TODAY, 4, 5, Worker="a")
    delta = Delta(tmp_path / "Events", TODAY)
    assert compact_busy_days(delta, today=NOW.date()) == 1
    assert len(delta.live()) == 1
    assert asked(tmp_path, "Events | summarize count() by Worker | sort by Worker asc") == [("", 3), ("a", 2)]
    assert [row[:2] for row in of_others(tmp_path)] == [
        *((str(hour), "") for hour in (1, 2, 3)),
        *((str(hour), "a") for hour in (4, 5)),
    ]


def test_compaction_alone_gives_a_table_its_columns(tmp_path: Path) -> None:
    wrote(tmp_path, ONCE, 1, 2)
    delta = Delta(tmp_path / "Events", TODAY)
    delta.refresh()
    assert compact(delta, DAY.date(), sorted(delta.live()))
    assert of_others(tmp_path) == [("1", "", None, None), ("2", "", None, None)]
    assert asked(tmp_path, EVERY) == [("1", "", None, ""), ("2", "", None, "")]


def test_a_path_that_is_promoted_since_is_kept_in_compaction(tmp_path: Path) -> None:
    texts = Table("Events", (*ONCE.columns, Column("Json", KqlType.STRING)), constants={})
    wrote(tmp_path, texts, 1, Json='{"who":{"name":"ann"}}')
    wrote(tmp_path, texts, 2, Json="no JSON")
    today = dataclasses.replace(texts, promoted=(Promoted("Json", ("who", "name")),))
    wrote(tmp_path, today, 3, Json='{"who":{"name":"bob"}}', _th_Json_who_name="bob")
    query = "Events | sort by TimeGenerated asc | project tostring(parse_json(Json).who.name)"
    lake = Lake(tmp_path, [today])
    with closing(DuckDBEngine(lake)) as engine:
        assert engine.query(query, now=NOW).tuples() == [("ann",), ("",), ("bob",)]
        delta = Delta(tmp_path / "Events", today)
        delta.refresh()
        assert compact(delta, DAY.date(), sorted(delta.live()))
        assert engine.query(query, now=NOW).tuples() == [("ann",), ("",), ("bob",)]
    (file,) = lake.snapshot("Events").files()
    assert today.promoted[0].hidden not in file.columns


@pytest.mark.parametrize(
    "held",
    [
        '"ann"',
        '""',
        "null",
        "1",
        "-7",
        "1.0",
        "1.9",
        "-2.5",
        "1e3",
        "3000000000",
        "9007199254740993",
        "18446744073709551615",
        "36893488147419103232",
        "1e400",
        "true",
        "false",
        "[1]",
        '"1_000"',
        '" 12 "',
        '"0x1F"',
        '"12"',
        '"NaN"',
    ],
)
def test_a_path_answers_alike_with_a_column_of_its_own_and_without(tmp_path: Path, held: str) -> None:
    """A file without the column, one with it, and the JSON itself, which a computed text is read as."""
    texts = Table("Events", (*ONCE.columns, Column("Json", KqlType.STRING)), constants={})
    today = dataclasses.replace(texts, promoted=(Promoted("Json", ("n",)),))
    text = f'{{"n":{held}}}'
    stored = None if held == "null" else held.strip('"')
    wrote(tmp_path, texts, 1, Json=text)
    wrote(tmp_path, today, 2, Json=text, _th_Json_n=stored)
    numbers = """
        | project a = tolong(P.n), b = toint(P.n), c = P.n == 1, d = P.n in (1), e = P.n > 0, f = P.n != 12,
            g = P.n in (1.9, 12), h = P.n between (1 .. 2000), i = P.n in ((print x = 1)), j = P.n == "1",
            r = tostring(todouble(P.n))"""
    promoted = f"Events | extend P = parse_json(Json) {numbers}"
    whole = f"Events | extend P = parse_json(strcat(Json, ' ')) {numbers}"
    with closing(DuckDBEngine(Lake(tmp_path, [today]))) as engine:
        found = engine.query(promoted, now=NOW).tuples()
        assert found[0] == found[1]
        assert [found[0]] * 2 == engine.query(whole, now=NOW).tuples()


@pytest.mark.parametrize(
    ("held", "number"), [("1.9", 1), ("1e3", 1000), ("true", 1), ("3000000000", -1294967296)]
)
def test_a_text_that_reads_as_a_number_is_one_where_its_path_has_a_column(
    tmp_path: Path, held: str, number: int
) -> None:
    texts = Table("Events", (*ONCE.columns, Column("Json", KqlType.STRING)), constants={})
    today = dataclasses.replace(texts, promoted=(Promoted("Json", ("n",)),))
    wrote(tmp_path, texts, 1, Json=f'{{"n":"{held}"}}')
    wrote(tmp_path, today, 2, Json=f'{{"n":"{held}"}}', _th_Json_n=held)
    with closing(DuckDBEngine(Lake(tmp_path, [today]))) as engine:
        query = "| project toint(P.n), P.n == 1, P.n in (1), P.n > 0"
        promoted = engine.query(f"Events | extend P = parse_json(Json) {query}", now=NOW).tuples()
        whole = engine.query(f"Events | extend P = parse_json(strcat(Json, ' ')) {query}", now=NOW).tuples()
    assert [row[0] for row in promoted] == [number, number]
    assert [row[0] for row in whole] == [None, None]
    assert [row[1:] for row in promoted] == [row[1:] for row in whole]


def test_an_older_version_reads_and_writes_beside_a_newer(tmp_path: Path) -> None:
    older = wrote(tmp_path, ONCE, 1)
    wrote(tmp_path, TODAY, 2, Worker="a")
    staged = older.stage(rows(ONCE, 3))
    with pytest.raises(ConflictError):
        older.commit(staged)
    older.commit(staged)
    assert asked(tmp_path, EVERY) == [("1", "", None, ""), ("2", "a", None, ""), ("3", "", None, "")]
    assert [row[:2] for row in of_others(tmp_path)] == [("1", None), ("2", "a"), ("3", None)]


def test_who_widens_at_the_same_moment_finds_it_done(tmp_path: Path) -> None:
    wrote(tmp_path, ONCE, 1)
    one, two = Delta(tmp_path / "Events", TODAY), Delta(tmp_path / "Events", TODAY)
    for each in (one, two):
        each.refresh()
    for each in (one, two):
        each.widen()
    assert one.version == two.version == 2
    two.commit(two.stage(rows(TODAY, 2, Worker="b")))
    one.commit(one.stage(rows(TODAY, 3, Worker="a")))
    assert [row[1] for row in of_others(tmp_path)] == [None, "b", "a"]


WRITER = """
    import datetime as dt, pathlib, sys, time
    import pyarrow as pa
    from trailhawk.connectors.ledger import LEDGER
    from trailhawk.kql.schema import INGESTION_TIME
    from trailhawk.lake import ConflictError, Delta, Transaction
    from trailhawk.lake.compaction import compact_busy_days
    from trailhawk.lake.table import fitted

    root, worker = pathlib.Path(sys.argv[1]), sys.argv[2]
    day = dt.datetime(2026, 3, 1)
    row = {"TimeGenerated": day, INGESTION_TIME: day, "Worker": worker}
    (root / worker).touch()
    while not (root / "begin").exists():
        time.sleep(0.001)
    delta = Delta(root / LEDGER.name, LEDGER)
    delta.create()
    for turn in range(6):
        staged = delta.stage(fitted(pa.Table.from_pylist([row | {"Records": turn}]), LEDGER))
        while True:
            try:
                delta.commit(staged, transaction=Transaction("test", delta.transaction("test") + 1))
                break
            except ConflictError:
                continue
        compact_busy_days(delta, today=dt.date(2026, 3, 9))
"""


def test_two_processes_open_an_older_ledger_at_once(tmp_path: Path) -> None:
    once = Table(
        LEDGER.name,
        tuple(column for column in LEDGER.columns if column.name != "Worker"),
        constants=LEDGER.constants,
    )
    wrote(tmp_path, once, 0)
    code = textwrap.dedent(WRITER)
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in ("a", "b")]
    while not all((tmp_path / name).exists() for name in "ab"):
        assert [writer.poll() for writer in writers] == [None, None]
        time.sleep(0.001)
    (tmp_path / "begin").touch()
    assert [writer.wait(180) for writer in writers] == [0, 0]
    found = DeltaTable(tmp_path / LEDGER.name).to_pyarrow_table().select(["Worker", "Records"]).to_pylist()
    count = {worker: sorted(row["Records"] for row in found if row["Worker"] == worker) for worker in "ab"}
    assert count == {"a": list(range(6)), "b": list(range(6))}
    assert len(found) == 13


@pytest.mark.parametrize("table", [HUNTING_BOOKMARK, SECURITY_INCIDENT], ids=lambda table: str(table.name))
def test_a_table_that_is_not_there_is_empty_and_made_when_written(tmp_path: Path, table: Table) -> None:
    with closing(DuckDBEngine(Lake(tmp_path, [table]))) as engine:
        assert engine.query(f"{table.name} | count", now=NOW).tuples() == [(0,)]
        delta = opened(tmp_path, table)
        row = {table.time_column: DAY, INGESTION_TIME: DAY}
        delta.commit(delta.stage(fitted(pa.Table.from_pylist([row]), table)))
        assert engine.query(f"{table.name} | count", now=NOW).tuples() == [(1,)]
