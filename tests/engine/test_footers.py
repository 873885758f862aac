"""What the engine keeps of data files stays within a bound, and nobody notices when it is cut."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trailhawk.connectors import TABLES
from trailhawk.connectors.ingest import Ingestor
from trailhawk.connectors.objects import LogObject
from trailhawk.engine import footers
from trailhawk.engine.duckdb import DuckDBEngine, Limits
from trailhawk.engine.footers import Footers
from trailhawk.lake.catalog import Lake
from trailhawk.sources import TABLES as SOURCE_TABLES

NOW = datetime(2026, 3, 2, tzinfo=UTC)
MEMORY = 256 << 20


def kept(connection: duckdb.DuckDBPyConnection) -> int:
    [(size, _)] = connection.execute(footers._ASK).fetchall()
    return int(size)


def setting(connection: duckdb.DuckDBPyConnection) -> object:
    return connection.execute("SELECT current_setting('memory_limit')").fetchall()


def test_what_was_not_used_for_long_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footers, "_LEAST", 1 << 20)
    monkeypatch.setattr(footers, "_SHARE", 1 << 20)
    wide = pa.table({f"c{number}": ["x" * 40, "y", "z"] for number in range(80)})
    pq.write_table(wide, tmp_path / "0.parquet", row_group_size=1)
    for number in range(1, 30):
        os.link(tmp_path / "0.parquet", tmp_path / f"{number}.parquet")
    connection = duckdb.connect(config={"memory_limit": f"{MEMORY}B"})
    connection.execute("SET GLOBAL parquet_metadata_cache = true")
    before = setting(connection)
    held = Footers(connection, MEMORY)

    def read(first: int, last: int) -> int:
        """How much more is kept."""
        had = kept(connection)
        with held.used():
            files = [str(tmp_path / f"{number}.parquet") for number in range(first, last)]
            connection.execute("SELECT sum(length(c0)) FROM read_parquet($1)", [files]).fetchall()
        return kept(connection) - had

    for number in range(2, 30):  # the first two are read again and again
        read(number, number + 1)
        read(0, 2)
    assert kept(connection) > 2 << 20
    with held.used():
        held.read(256)
        with held.used():
            pass
        assert kept(connection) > 2 << 20, "a query runs, and may use all of the memory"
    assert 0 < kept(connection) <= 1 << 19
    assert setting(connection) == before
    assert read(0, 2) == 0
    assert read(10, 12) > 0


def test_an_engine_over_files_that_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a lake that is written to and compacted has them all day."""
    monkeypatch.setattr(footers, "_LEAST", 200_000)
    monkeypatch.setattr(footers, "_SHARE", MEMORY)
    monkeypatch.setattr(footers, "_FILES", 8)
    lake = Lake(tmp_path, [*SOURCE_TABLES, *TABLES])
    engine = DuckDBEngine(lake, limits=Limits(memory=MEMORY, threads=1))
    ingestor = Ingestor(lake, clock=lambda: NOW)
    sizes = []
    for number in range(8):
        events = [{"eventTime": "2026-03-01T00:00:00Z", "eventID": f"{number}"}]
        log = json.dumps({"Records": events}).encode()
        item = LogObject(f"s3://logs/{number}", partial(io.BytesIO, log), identity=f"{number}")
        ingestor.take(item, lambda _: None)
        ingestor.flush()
        result = engine.query("AWSCloudTrail | summarize dcount(EventName), count()", now=NOW)
        assert result.table.to_pylist()[0]["count_"] == number + 1
        sizes.append(kept(engine._connection))
    assert max(sizes) > 200_000
    assert any(after < before for before, after in pairwise(sizes))
    assert setting(engine._connection) == [("256.0 MiB",)]
