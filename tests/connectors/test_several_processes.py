"""Processes that ingest at once, one that reads meanwhile, and ingests that are killed."""

import collections
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"

_INGEST = """
import datetime as dt, sys
from pathlib import Path
from trailhawk.connectors import TABLES
from trailhawk.connectors.ingest import ingest
from trailhawk.lake import Lake
from trailhawk.sources import TABLES as SOURCE_TABLES
lake = Lake(Path(sys.argv[1]), [*SOURCE_TABLES, *TABLES])
paths = [Path(path) for path in sys.argv[2:]]
print(ingest(lake, paths, clock=lambda: dt.datetime.now(dt.UTC), batch_records=90).rows)
"""


def _start(*arguments: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", _INGEST, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.long
def test_two_writers_and_a_reader_are_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trailhawk.connectors import LEDGER, TABLES
    from trailhawk.lake import Lake
    from trailhawk.sources import TABLES as SOURCE_TABLES

    monkeypatch.syspath_prepend(BENCH)
    import cloudtrail_files  # type: ignore[import-not-found]  # of bench/
    import crash  # type: ignore[import-not-found]

    expected = cloudtrail_files.write(tmp_path / "logs/both", events=1200, days=1, repeat=0.1)
    expected |= cloudtrail_files.write(tmp_path / "logs/one", events=400, days=1, seed=2)
    expected |= cloudtrail_files.write(tmp_path / "logs/two", events=400, days=1, seed=3)
    # Records without id are exact only if each object is taken by one process alone.
    nameless = [{"eventTime": "2026-01-01T00:00:00Z", "eventName": str(n)} for n in range(300)]
    for number in range(30):
        text = json.dumps({"Records": nameless[number * 10 : number * 10 + 10]})
        (tmp_path / f"logs/both/nameless-{number}.json").write_text(text)
    root = tmp_path / "lake"
    both = tmp_path / "logs/both"
    writers = [_start(root, both, tmp_path / "logs/one"), _start(root, both, tmp_path / "logs/two")]
    lake = Lake(root, [*SOURCE_TABLES, *TABLES])
    seen = [0]
    while any(writer.poll() is None for writer in writers):
        snapshot = lake.snapshot("AWSCloudTrail")
        rows = crash._column_rows(lake, "AWSCloudTrail", ("AwsEventId",))
        assert len(rows) >= snapshot.rows >= seen[-1]
        seen.append(snapshot.rows)
    told = sum(int(writer.communicate()[0]) for writer in writers)
    assert [writer.returncode for writer in writers] == [0, 0]
    rows = crash._column_rows(lake, "AWSCloudTrail", ("AwsEventId", "RecipientAccountId", "EventName"))
    assert {row[:2] for row in rows if row[0]} == expected
    assert len(rows) == len(expected) + 300 == told
    assert collections.Counter(row[2] for row in rows if not row[0]) == {str(n): 1 for n in range(300)}
    ledger = crash._column_rows(lake, LEDGER.name, ("Object", "Rows"))
    assert len(ledger) == len(set(ledger)) == sum(path.is_file() for path in (tmp_path / "logs").rglob("*"))
    assert sum(int(str(count)) for _, count in ledger) == told


@pytest.mark.long
def test_killed_ingests_lose_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import crash

    faults = crash.crash(tmp_path, events=1500, days=1, kills=3, batch=150, wait=True)
    assert faults == [], capsys.readouterr().out
