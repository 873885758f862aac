import datetime as dt
import gzip
import json
from pathlib import Path

import pytest

from support.lakes import assert_balanced, rows
from trailhawk.connectors import LEDGER, QUARANTINE, TABLES
from trailhawk.connectors.again import Retried, retry
from trailhawk.connectors.ingest import ingest
from trailhawk.connectors.quarantine import contents, quarantined
from trailhawk.connectors.reopen import object_at
from trailhawk.errors import NotFoundError
from trailhawk.lake import Lake
from trailhawk.lake.compaction import compact_busy_days
from trailhawk.sources import SOURCES, Source, tables_of, with_custom
from trailhawk.sources import TABLES as SOURCE_TABLES
from trailhawk.sources.cloudtrail import CloudTrail

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)


class Strict(CloudTrail):
    """An older source: it knows fewer files."""

    def recognises(self, name: str, head: bytes) -> bool:
        return name.endswith(".json") and super().recognises(name, head)


class Deaf(CloudTrail):
    """An older source: records with a certain name made it stumble."""

    def rows(self, records):  # type: ignore[no-untyped-def]
        return super().rows([b"[]" if b"Odd" in record else record for record in records])


def take(lake: Lake, *paths: Path, source: Source | None = None) -> None:
    ingest(lake, paths, clock=lambda: NOW, sources=(source,) if source else SOURCES)


def again(lake: Lake, *ids: str, **options: object) -> list[Retried]:
    find = object_at({})
    return retry(lake, ids or None, clock=lambda: NOW, sources=SOURCES, find=find, **options)  # type: ignore[arg-type]


def event(number: int, **changes: object) -> dict[str, object]:
    base = {"eventTime": "2026-03-01T00:00:00Z", "eventID": f"id-{number}", "eventName": "GetObject"}
    return base | changes


def write(path: Path, *events: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"Records": events}))
    return path


def kept(lake: Lake) -> list[bytes]:
    """The bytes of what is in quarantine."""
    return [content for _, content in contents(lake, [part.id for part in quarantined(lake)])]


def states(told: list[Retried]) -> list[tuple[str, int]]:
    return [(each.state, each.rows) for each in told]


def test_records_leave_the_quarantine_once_when_the_source_was_mended(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", event(1), event(2, eventName="Odd"), event(3, eventName="Odd"), 7)
    take(lake, path, source=Deaf())
    assert len(quarantined(lake)) == 3
    path.unlink()  # the bytes that are kept are enough
    told = again(lake)
    assert sorted(states(told)) == [("bad", 0), ("stored", 1), ("stored", 1)]
    assert kept(lake) == [b"7"]
    assert_balanced(lake, retried=True)
    retried = [row for row in rows(lake, LEDGER.name) if row["State"] == "retried"]
    assert [(row["Records"], row["Rows"], row["Quarantined"]) for row in retried] == [(0, 1, -1)] * 2
    assert states(again(lake)) == [("bad", 0)]
    with pytest.raises(NotFoundError, match="'nothing'"):
        again(lake, "nothing")


def test_a_whole_object_is_known_now(lake: Lake, tmp_path: Path) -> None:
    large = write(tmp_path / "large.log", *(event(n % 100, userAgent="x" * 900) for n in range(101)), 7)
    write(tmp_path / "small.log", event(200))
    take(lake, tmp_path, source=Strict())
    assert lake.snapshot("AWSCloudTrail").rows == 0
    told = again(lake)
    assert sorted(states(told)) == [("stored", 1), ("stored", 100)]
    assert [part.location for part in quarantined(lake)] == [str(large)]
    assert kept(lake) == [b"7"]
    assert lake.snapshot("AWSCloudTrail").rows == 101
    assert_balanced(lake, retried=True)
    take(lake, tmp_path)
    assert lake.snapshot("AWSCloudTrail").rows == 101


def test_what_a_source_took_by_mistake_goes_to_its_own_when_that_was_mended(
    lake: Lake, tmp_path: Path
) -> None:
    """A pattern of a source of one's own that is too wide takes other logs, and can read nothing of them."""

    def described(objects: str) -> tuple[Source, ...]:
        (tmp_path / "sources").mkdir(exist_ok=True)
        (tmp_path / "sources" / "linux.yaml").write_text(
            "name: linux\ntable: Linux_CL\ndescription: Ours.\ntime: {from: at, format: iso}\n"
            f"objects: {objects}\n"
            "columns:\n  - {name: Host, type: string, from: host, description: Which.}\n"
        )
        return with_custom(tmp_path / "sources")

    wide = described(".*")
    own = Lake(tmp_path / "own", [*tables_of(wide), *TABLES])
    log = write(tmp_path / "a.json", event(1), event(2))
    ingest(own, [log], clock=lambda: NOW, sources=wide)
    assert [part.source for part in quarantined(own)] == ["linux"]

    def retried(sources: tuple[Source, ...]) -> list[tuple[str, int, str]]:
        told = retry(own, clock=lambda: NOW, sources=sources, find=object_at({}))
        return [(each.state, each.rows, each.reason) for each in told]

    assert retried(wide) == [("bad", 0, "no at")]
    assert retried(described("^http:Linux_CL/")) == [("stored", 2, "")]
    assert_balanced(own, retried=True)


def test_an_object_that_changed_or_went_is_left_alone(lake: Lake, tmp_path: Path) -> None:
    events = [event(n, userAgent="x" * 900) for n in range(100)]
    changed, gone = write(tmp_path / "changed.log", *events), write(tmp_path / "gone.log", *events[1:])
    take(lake, tmp_path, source=Strict())
    write(changed, *events[2:])
    gone.unlink()
    told = {Path(each.location).name: each for each in again(lake)}
    assert {name: each.state for name, each in told.items()} == {"changed.log": "gone", "gone.log": "gone"}
    assert told["changed.log"].reason == "its object is another one by now"
    assert len(quarantined(lake)) == 2


def test_what_could_not_be_read_can_be_read_now(lake: Lake, tmp_path: Path) -> None:
    for name in ("a.json", "b.json", "c.json"):
        (tmp_path / "logs" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "logs" / name).symlink_to(tmp_path / f"there/{name}")
    take(lake, tmp_path / "logs")
    assert {each.state for each in again(lake)} == {"gone"}
    write(tmp_path / "there/a.json", event(1, eventID=None), event(2))
    taken = write(tmp_path / "there/b.json", event(3, eventID=None))
    take(lake, taken)
    told = {Path(each.location).name: each for each in again(lake)}
    assert {name: (each.state, each.rows) for name, each in told.items()} == {
        "a.json": ("stored", 2),
        "b.json": ("stored", 0),
        "c.json": ("gone", 0),
    }
    assert [Path(part.location).name for part in quarantined(lake)] == ["c.json"]
    assert_balanced(lake, retried=True)
    # It is known by its bytes as if an ingest had taken it.
    take(lake, tmp_path / "there")
    assert lake.snapshot("AWSCloudTrail").rows == 3


def test_what_unpacks_to_too_much_is_left_to_an_ingest(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/a.json.gz").symlink_to(tmp_path / "there.json.gz")
    take(lake, tmp_path / "logs")
    packed = gzip.compress(json.dumps({"Records": [event(number) for number in range(400)]}).encode())
    (tmp_path / "there.json.gz").write_bytes(packed)
    monkeypatch.setattr("trailhawk.connectors.again.MAX_BYTES", 10_000)
    assert len(packed) < 10_000
    (told,) = again(lake)
    assert (told.state, "too large" in told.reason) == ("gone", True)
    monkeypatch.undo()
    assert states(again(lake)) == [("stored", 400)]


def test_two_that_try_at_once_store_it_once(lake: Lake, tmp_path: Path) -> None:
    take(lake, write(tmp_path / "a.json", event(1, eventID=None, eventName="Odd")), source=Deaf())
    met: list[str] = []

    def phase(name: str) -> None:
        if name == "commit" and not met:
            met.append(name)
            assert states(again(lake)) == [("stored", 1)]

    assert states(again(lake, phase=phase)) == [("left", 0)]
    assert lake.snapshot("AWSCloudTrail").rows == 1
    assert quarantined(lake) == []
    assert_balanced(lake, retried=True)


class StopError(Exception):
    """Stands for a crash."""


def test_a_crash_before_the_quarantine_followed(lake: Lake, tmp_path: Path) -> None:
    for number in range(3):
        odd = event(number, eventID=None, eventName="Odd", requestID=str(number))
        take(lake, write(tmp_path / f"{number}.json", odd, 7), source=Deaf())

    def phase(name: str) -> None:
        if name == "ledger":
            raise StopError

    with pytest.raises(StopError):
        again(lake, phase=phase)
    assert lake.snapshot("AWSCloudTrail").rows == 3
    fresh = Lake(lake.root, [*SOURCE_TABLES, *TABLES])
    compact_busy_days(fresh.delta(QUARANTINE.name), today=dt.date(2026, 4, 1))
    assert states(again(fresh)) == [("bad", 0)] * 3
    assert fresh.snapshot("AWSCloudTrail").rows == 3
    assert_balanced(fresh, retried=True)
