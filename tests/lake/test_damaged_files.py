"""A data file that is missing, cut off or damaged is told by its name, whoever reads it."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from trailhawk import connectors, sources
from trailhawk.connectors.ingest import ingest
from trailhawk.connectors.quarantine import quarantined
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.errors import LakeError
from trailhawk.lake.catalog import Lake
from trailhawk.lake.compaction import compact
from trailhawk.lake.files import damaged

NOW = dt.datetime(2026, 3, 3, tzinfo=dt.UTC)


def flipped(content: bytes) -> bytes:
    """The file with all but its beginning and its end wrong: only who unpacks the rows notices."""
    size = len(content)
    middle = bytes(byte ^ 0x5A for byte in content[size // 10 : size * 8 // 10])
    return content[: size // 10] + middle + content[size * 8 // 10 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "another file": lambda _: b"damaged",
    "cut off": lambda content: content[: len(content) // 2],
    "flipped": flipped,
}


def call(number: int) -> dict[str, object]:
    # Random text: what packs well would leave nothing to damage.
    agent = os.urandom(40).hex()
    return {"eventTime": "2026-03-01T10:00:00Z", "eventID": str(number), "eventName": "a", "userAgent": agent}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake", [*sources.TABLES, *connectors.TABLES])
    take(lake, tmp_path, [json.dumps(call(number)) for number in range(2000)] + ["no JSON"])
    return lake


def take(lake: Lake, folder: Path, lines: list[str]) -> None:
    log = folder / f"log-{len(list(folder.iterdir()))}.json"
    log.write_text("\n".join(lines))
    ingest(lake, [log], clock=lambda: NOW)


def only_file(lake: Lake, table: str) -> Path:
    (file,) = lake.snapshot(table).files()
    return Path(file.path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_query_names_the_file(lake: Lake, damage: str) -> None:
    path = only_file(lake, "AWSCloudTrail")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    engine = DuckDBEngine(lake)
    with pytest.raises(LakeError, match="put it back from a backup") as caught:
        engine.query("AWSCloudTrail | summarize dcount(UserAgent)", now=NOW)
    assert str(path) in str(caught.value)
    engine.close()


def test_a_query_names_a_file_that_is_gone(lake: Lake) -> None:
    path = only_file(lake, "AWSCloudTrail")
    path.unlink()
    engine = DuckDBEngine(lake)
    with pytest.raises(LakeError, match=path.name):
        engine.query("AWSCloudTrail | summarize dcount(UserAgent)", now=NOW)
    engine.close()


@pytest.mark.parametrize("table", ["AWSCloudTrail", "IngestLedger"])
def test_taking_in_names_the_file(lake: Lake, tmp_path: Path, table: str) -> None:
    path = only_file(lake, table)
    path.write_text("damaged")
    again = Lake(lake.root, [*sources.TABLES, *connectors.TABLES])
    with pytest.raises(LakeError, match=path.name):
        take(again, tmp_path, [json.dumps(call(1))])


@pytest.mark.parametrize("damage", DAMAGES)
def test_compaction_names_the_file_and_leaves_the_table_as_it_was(lake: Lake, damage: str) -> None:
    path = only_file(lake, "AWSCloudTrail")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    delta = lake.delta("AWSCloudTrail")
    version, live = delta.refresh(), delta.live()
    with pytest.raises(LakeError, match=path.name):
        compact(delta, dt.date(2026, 3, 1), list(live))
    assert (delta.refresh(), delta.live()) == (version, live)


def test_the_list_of_the_quarantine_names_the_file(lake: Lake) -> None:
    assert len(quarantined(lake)) == 1
    path = only_file(lake, "Quarantine")
    path.write_text("damaged")
    with pytest.raises(LakeError, match=path.name):
        quarantined(lake)


def test_the_first_damaged_file_of_many(lake: Lake, tmp_path: Path) -> None:
    good = only_file(lake, "AWSCloudTrail")
    bad = tmp_path / "bad.parquet"
    bad.write_text("damaged")
    assert damaged([good]) is None
    found = damaged([good, bad])
    assert found is not None
    assert str(bad) in str(found)
