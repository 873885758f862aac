"""Files that change while they are read: what is stored is what the ledger says, and nothing is lost."""

import datetime as dt
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from support.lakes import rows
from trailhawk.connectors import LEDGER, archives, parts
from trailhawk.connectors.ingest import ingest
from trailhawk.connectors.quarantine import quarantined
from trailhawk.lake import Lake
from trailhawk.sources import framing

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)


def lines(first: int, last: int) -> bytes:
    """Flow log records, which have no id of their own."""
    head = "version account-id interface-id start end bytes\n" if not first else ""
    rows = (
        f"2 111122223333 eni-{number:04} 1772357400 1772357460 {number}\n" for number in range(first, last)
    )
    return (head + "".join(rows)).encode()


def changed_between(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], path: Path, *, whole: int = 1000
) -> None:
    """Let a file be changed after it was hashed and before it is read."""
    real = parts._file_digests
    left = [True]

    def digests(file: BinaryIO) -> tuple[str, bytes]:
        found = real(file)
        if left.pop() if left else False:
            change(path)
        return found

    monkeypatch.setattr(parts, "_WHOLE_BYTES", whole)
    monkeypatch.setattr(parts, "_file_digests", digests)


def test_a_file_that_grows_gives_what_was_hashed(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "flow.log"
    log.write_bytes(lines(0, 100))

    def grow(path: Path) -> None:
        with path.open("ab") as file:
            file.write(lines(100, 150))

    changed_between(monkeypatch, grow, log)
    summary = ingest(lake, [log], clock=lambda: NOW)
    assert (summary.rows, summary.quarantined) == (100, 0)
    (entry,) = rows(lake, LEDGER.name)
    assert entry["Object"] == f"sha256:{hashlib.sha256(lines(0, 100)).hexdigest()}"
    assert entry["Size"] == len(lines(0, 100))


@pytest.mark.parametrize("batch", [10, 100_000])
def test_a_file_that_shrinks_or_is_overwritten_is_set_aside_and_taken_as_it_is_later(
    batch: int, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of it was stored already stays under the bytes it was hashed by."""
    monkeypatch.setattr(framing, "CHUNK_RECORDS", 7)
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"eventTime": "2026-03-01T00:00:00Z", "eventID": "1", "eventName": "a"}))
    for number, change in enumerate((_shorten, _overwrite)):
        log = tmp_path / f"flow-{number}.log"
        log.write_bytes(lines(0, 100 + number))
        with monkeypatch.context() as patch:
            changed_between(patch, change, log)
            summary = ingest(lake, [log, other], clock=lambda: NOW, batch_records=batch)
        assert (summary.objects, summary.quarantined) == (2, 1)
        assert [each.reason for each in quarantined(lake) if each.location == str(log)] == [
            "cannot be read: it was changed while it was read"
        ]
        before = lake.snapshot("AWSVPCFlow").rows
        whole = log.read_bytes().count(b"\n") - 1
        again = ingest(lake, [log], clock=lambda: NOW)
        assert (again.rows, again.quarantined) == (whole, 0)
        assert lake.snapshot("AWSVPCFlow").rows == before + whole
    assert lake.snapshot("AWSCloudTrail").rows == 1
    for row in rows(lake, LEDGER.name):
        counts = [row[name] for name in ("Rows", "Duplicates", "Filtered", "Quarantined")]
        assert row["Records"] == sum(counts)


def _shorten(path: Path) -> None:
    os.truncate(path, path.read_bytes().index(b"\n", 3000) + 1)


def _overwrite(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"111122223333", b"999988887777"))


def test_files_that_go_while_they_are_read_end_nothing(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing and the reading, an archive too."""
    for number in range(3):
        (tmp_path / f"{number}.log").write_bytes(lines(0, 10 + number))
    (tmp_path / "a.zip").write_bytes(b"PK\5\6" + bytes(18))
    real = archives.is_archive

    def gone(path: Path) -> bool:
        found = real(path)
        if path.name in ("a.zip", "1.log"):
            path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(archives, "is_archive", gone)
    summary = ingest(lake, [tmp_path], clock=lambda: NOW)
    assert summary.rows == 10 + 12
    assert sorted(Path(each.location).name for each in quarantined(lake)) == ["1.log", "a.zip"]
