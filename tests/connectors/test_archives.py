import datetime as dt
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import text
from trailhawk.connectors import LEDGER, QUARANTINE, TABLES, archives
from trailhawk.connectors.again import retry
from trailhawk.connectors.ingest import Progress, Summary, ingest
from trailhawk.connectors.objects import Outcome
from trailhawk.connectors.quarantine import quarantined
from trailhawk.connectors.reopen import GoneError, object_at
from trailhawk.lake import Lake
from trailhawk.sources import SOURCES
from trailhawk.sources import TABLES as SOURCE_TABLES
from trailhawk.sources.cloudtrail import CloudTrail

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)
NAMES = ("AWSLogs/1/CloudTrail/a.json", "AWSLogs/1/CloudTrail/b.json.gz", "README.md", "__MACOSX/._a.json")


def log(*numbers: int) -> bytes:
    return text.log(*(f"id-{number}" for number in numbers))


FILES = dict(zip(NAMES, (log(1, 2), gzip.compress(log(3)), b"# logs", b"\0\5\26\7"), strict=True))


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.mkdir("AWSLogs")
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def taped(files: dict[str, bytes], packing: str = "") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(None, f"w:{packing}", packed) as archive:  # type: ignore[call-overload]  # by name
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
        link = tarfile.TarInfo("link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return packed.getvalue()


def put(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def take(
    lake: Lake, *paths: Path, progress: Callable[[Progress], None] = lambda _: None, strict: bool = False
) -> tuple[Summary, list[Outcome]]:
    told: list[Outcome] = []
    summary = ingest(lake, paths, clock=lambda: NOW, progress=progress, told=told.append, strict=strict)
    return summary, told


def reasons(lake: Lake) -> dict[str, str]:
    told = ((part.location.partition("//"), part.reason) for part in quarantined(lake))
    return {f"{Path(place).name}{inside}{name}": reason for (place, inside, name), reason in told}


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("logs.zip", zipped),
        ("logs.tar", taped),
        ("logs.tar.gz", lambda files: taped(files, "gz")),
        ("logs.TGZ", lambda files: taped(files, "gz")),
        ("logs.tar.bz2", lambda files: taped(files, "bz2")),
        ("logs.txz", lambda files: taped(files, "xz")),
        ("logs.tar.zst", lambda files: pa.compress(taped(files), codec="zstd", asbytes=True)),
    ],
)
def test_an_archive_is_a_folder_of_logs(
    name: str, pack: Callable[[dict[str, bytes]], bytes], lake: Lake, tmp_path: Path
) -> None:
    archive = put(tmp_path / "logs", name, pack(FILES))
    steps: list[Progress] = []
    summary, told = take(lake, archive.parent, progress=steps.append)
    assert (summary.objects, summary.records, summary.rows, summary.unrecognised) == (3, 3, 3, 1)
    assert [outcome.location for outcome in told] == [
        f"{archive}//{NAMES[2]}",
        f"{archive}//{NAMES[0]}",
        f"{archive}//{NAMES[1]}",
    ]
    done = [step.bytes for step in steps]
    assert done == sorted(done)
    assert done[-1] <= steps[-1].all_bytes == archive.stat().st_size
    # Again, and as files beside it: what the ledger holds is known by its bytes.
    put(archive.parent, "a.json", FILES[NAMES[0]])
    summary, _ = take(lake, archive.parent)
    assert (summary.rows, summary.skipped, summary.unrecognised) == (0, 3, 1)
    assert lake.snapshot(QUARANTINE.name).rows == 0


def test_the_ledger_tells_where_a_file_of_an_archive_lies(lake: Lake, tmp_path: Path) -> None:
    archive = put(tmp_path, "logs.zip", zipped(FILES))
    take(lake, archive)
    [file] = lake.snapshot(LEDGER.name).files()
    found = {row["Location"]: row["Size"] for row in pq.ParquetFile(file.path).read().to_pylist()}
    assert found == {f"{archive}//{name}": len(FILES[name]) for name in NAMES[:2]}


def test_what_is_set_aside_of_an_archive_is_found_again(lake: Lake, tmp_path: Path) -> None:
    class Deaf(CloudTrail):
        def recognises(self, name: str, head: bytes) -> bool:
            return False

    archives_ = [
        put(tmp_path, "logs!.zip", zipped({"a!b.json": log(1)})),
        put(tmp_path, "l.tgz", taped({"c.json": log(2)}, "gz")),
    ]
    ingest(lake, archives_, clock=lambda: NOW, sources=(Deaf(),))
    assert [part.reason for part in quarantined(lake)] == ["not a log of a known kind"] * 2
    found = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}))
    assert [(each.state, each.rows) for each in found] == [("stored", 1)] * 2
    for location in (f"{archives_[0]}//a!b.json", f"{archives_[1]}//c.json"):
        with object_at({})(location).open() as file:
            assert file.read() in (log(1), log(2))
    # As ledgers of before have it.
    for location in (f"{archives_[0]}!a!b.json", f"{archives_[1]}!c.json"):
        with object_at({})(location).open() as file:
            assert file.read() in (log(1), log(2))
    for inside in ("//", "!"):
        for location in (f"{archives_[0]}{inside}none.json", f"{tmp_path}/none.zip{inside}a.json"):
            with pytest.raises(GoneError):
                object_at({})(location).open()


NAMED_ALIKE = ("a.json", "a.json", "2//a.json", "2/a.json", "/a.json", "\\x2fa.json", "d//a.json", "!a.json")


@pytest.mark.parametrize("name", ["logs.zip", "logs.tar"])
def test_each_file_has_a_location_of_its_own(name: str, lake: Lake, tmp_path: Path) -> None:
    """Also of one name in an archive, and beside the archive; each can be tried again."""

    class Deaf(CloudTrail):
        def recognises(self, name: str, head: bytes) -> bool:
            return False

    pairs = [(name, log(number)) for number, name in enumerate(NAMED_ALIKE)]
    folder = tmp_path / "logs"
    archive = put(folder, name, (_zipped_pairs if name == "logs.zip" else _taped_pairs)(pairs))
    put(folder, f"{name}!a.json", log(100))
    put(folder, f"{name}!!a.json", log(101))
    put(folder, "\\xff.json", log(102))
    if (odd := _not_utf8(folder)) is not None:
        odd.write_bytes(log(103))
    _, told = take(lake, folder)
    assert len({each.location for each in told}) == len(told) >= len(pairs) + 3
    assert f"{archive}//2//a.json" in {each.location for each in told}
    other = Lake(tmp_path / "other", [*SOURCE_TABLES, *TABLES])
    ingest(other, [folder], clock=lambda: NOW, sources=(Deaf(),))
    waiting = quarantined(other)
    assert len({each.location for each in waiting}) == len(waiting) == len(told)
    for each in waiting:
        with object_at({})(each.location).open() as file:
            assert hashlib.sha256(file.read()).hexdigest() == each.object.removeprefix("sha256:")


def _not_utf8(folder: Path) -> Path | None:
    path = folder / os.fsdecode(b"\xff.json")
    try:
        path.touch()
    except OSError:
        return None  # a file system of Unicode
    return path


def _zipped_pairs(pairs: list[tuple[str, bytes]]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there already
        for name, content in pairs:
            archive.writestr(name, content)
    return packed.getvalue()


def _taped_pairs(pairs: list[tuple[str, bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(None, "w", packed) as archive:
        for name, content in pairs:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return packed.getvalue()


def test_a_damaged_archive_gives_what_it_holds_and_is_set_aside(lake: Lake, tmp_path: Path) -> None:
    tape = taped({"a.json": log(1), "b.json": log(2), "c.json": log(3)})
    put(tmp_path / "logs", "cut.tar", tape[:2100])
    put(tmp_path / "logs", "cut.tar.gz", gzip.compress(tape)[:-30])
    put(tmp_path / "logs", "cut.zip", zipped(FILES)[:-40])
    broken = bytearray(zipped({"d.json": log(4), "e.json": log(5) * 20}))
    broken[broken.index(b"e.json") + 30] ^= 0xFF
    put(tmp_path / "logs", "broken.zip", bytes(broken))
    summary, _ = take(lake, tmp_path / "logs")
    assert summary.rows >= 3
    found = reasons(lake)
    assert "the archive is damaged behind" in found["cut.tar"]
    assert "the archive is damaged behind" in found["cut.tar.gz"]
    assert "the archive is damaged behind 0 files" in found["cut.zip"]
    assert "it cannot be unpacked" in found["broken.zip//e.json"]
    # It is tried again with the next ingest, and set aside once.
    assert take(lake, tmp_path / "logs")[0].quarantined == 0
    # Its mark goes when it is whole and its logs are stored.
    whole = put(tmp_path / "logs", "cut.zip", zipped(FILES | {"new.json": log(6)}))
    [mark] = [part.id for part in quarantined(lake) if part.location == str(whole)]

    def again() -> tuple[str, str]:
        [found] = retry(lake, [mark], clock=lambda: NOW, sources=SOURCES, find=object_at({}))
        return found.state, found.reason

    assert again() == ("gone", "the archive can be read now: ingest it")
    assert take(lake, tmp_path / "logs")[0].rows == 2
    assert again() == ("stored", "")
    assert mark not in {part.id for part in quarantined(lake)}


@pytest.mark.parametrize("error", [MemoryError(), AttributeError("no such"), AssertionError()])
def test_an_archive_over_which_the_library_fails_ends_nothing(
    error: Exception, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "logs", "a.zip", zipped(FILES))
    put(tmp_path / "logs", "b.tar", taped({"b.json": log(8)}))
    put(tmp_path / "logs", "c.json", log(9))

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(zipfile.ZipFile, "infolist", fail)
    summary, _ = take(lake, tmp_path / "logs")
    assert summary.rows == 2
    assert f"behind 0 files ({str(error) or type(error).__name__})" in reasons(lake)["a.zip"]


def test_an_archive_that_is_none_is_a_file(lake: Lake, tmp_path: Path) -> None:
    put(tmp_path / "logs", "events.zip", log(1))
    put(tmp_path / "logs", "events.tar.gz", gzip.compress(log(2)))
    put(tmp_path / "logs", "page.zip", b"<html>not found</html>")
    summary, told = take(lake, tmp_path / "logs")
    assert (summary.rows, summary.unrecognised) == (2, 1)
    assert sorted(outcome.state for outcome in told) == ["stored", "stored", "unrecognised"]


def test_bombs_and_locked_files_are_set_aside(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_FREE_BYTES", 1 << 20)
    locked = bytearray(zipped({"locked.json": log(1)}))
    locked[locked.index(b"locked.json") - 24] |= 1
    locked[locked.rindex(b"locked.json") - 38] |= 1
    put(tmp_path / "logs", "a.zip", bytes(locked))
    put(tmp_path / "logs", "b.zip", zipped({"bomb.json": bytes(8 << 20), "good.json": log(2)}))
    holes = tarfile.TarInfo("holes.json")
    holes.type = tarfile.GNUTYPE_SPARSE
    holes.size = 512
    put(tmp_path / "logs", "c.tar", holes.tobuf(tarfile.GNU_FORMAT) + bytes(512 * 4))
    summary, _ = take(lake, tmp_path / "logs")
    assert summary.rows == 1
    assert reasons(lake) == {
        "a.zip//locked.json": "cannot be read: it is encrypted: unpack the archive with its password first",
        "b.zip//bomb.json": "cannot be read: it unpacks to more than 400 times its size",
        "c.tar//holes.json": "cannot be read: it is stored with holes: unpack the archive first",
    }


def test_lists_and_names_of_any_length_are_not_held(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        header = tarfile.TarInfo("x")
        header.type, header.size = kind, 3 << 30
        tape = taped({"a.json": log(1)})[:1536] + header.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
        put(tmp_path / "logs", f"{kind.decode()}.tar", tape)
    monkeypatch.setattr(archives, "_DIRECTORY_BYTES", 100)
    put(tmp_path / "logs", "many.zip", zipped(FILES))
    summary, _ = take(lake, tmp_path / "logs")
    assert summary.rows == 1
    found = reasons(lake)
    assert "its list of files is larger than 100 bytes" in found["many.zip"]
    assert all("a name of 3,221,225,472 bytes" in found[f"{kind}.tar"] for kind in ("x", "L"))


def test_a_large_file_of_a_tar_is_looked_at_and_then_read(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_HELD_BYTES", 9 << 20)
    filler = "x" * 1000
    lines = b"".join(
        json.dumps({"eventTime": "2026-03-01T00:00:00Z", "eventID": f"id-{number}", "note": filler}).encode()
        + b"\n"
        for number in range(12_000)
    )
    archive = put(tmp_path, "logs.tar", taped({"events": lines}))
    summary, _ = take(lake, archive)
    assert (summary.rows, summary.quarantined) == (12_000, 0)


def _swallowed(path: Path) -> None:
    for member in archives.members(path, str(path)):
        with suppress(OSError), member.item.open() as file:
            while file.read(1 << 16):
                pass


@pytest.mark.parametrize("kind", ["stored", "deflated", "bzip2", "lzma", "tar", "inside zip", "inside tar"])
def test_damage_of_any_kind_is_told_as_such(kind: str, tmp_path: Path) -> None:
    """Nothing but OSError comes out, and nothing takes long: 400 damaged archives of a kind."""
    chance = random.Random(kind)
    content = {"logs/\u00e4.json": log(1) * 20, "b.json": bytes(range(256)) * 20}
    method = {"stored": 0, "deflated": 8, "bzip2": 12, "lzma": 14}.get(kind, 0)
    whole = taped(content | {"x" * 200 + "\u00fc": b"{}"}) if kind == "tar" else zipped(content, method)
    if kind.startswith("inside"):
        inner = {"a.zip": zipped(content), "a.tar": taped(content), "a.tgz": taped(content, "gz")}
        whole = zipped(inner, 0) if kind == "inside zip" else taped(inner)
    file = tmp_path / ("a.tar" if kind.endswith("tar") else "a.zip")
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(whole))] = chance.choice((chance.randrange(256), 0x39, 0x53))
        file.write_bytes(damaged)
        _swallowed(file)


@pytest.mark.parametrize("attributes", [{"size": "9" * 17}, {"GNU.sparse.size": "zz"}, {"size": "-1024"}])
def test_a_size_that_is_not_there_is_not_waited_for(
    attributes: dict[str, str], lake: Lake, tmp_path: Path
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        header = tarfile.TarInfo("a.json")
        header.size, header.pax_headers = 4, attributes
        archive.addfile(header, io.BytesIO(b"abcd"))
    put(tmp_path / "logs", "a.tar", packed.getvalue())
    put(tmp_path / "logs", "b.json", log(1))
    assert take(lake, tmp_path / "logs")[0].rows == 1
    assert "the archive is damaged" in reasons(lake)["a.tar"]


def test_names_that_climb_are_no_hidden_ones(lake: Lake, tmp_path: Path) -> None:
    names = ("../a.json", "./b/c.json", "..\\..\\d.json", ".git/e.json", "f\\.g.json")
    archive = put(tmp_path, "a.tar", taped({name: log(place) for place, name in enumerate(names)}))
    _, told = take(lake, archive)
    assert [each.location for each in told] == [f"{archive}//{name}" for name in names[:3]]


def test_the_list_of_a_large_zip_is_measured_where_zipfile_reads_it(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zipped(FILES)
    end = content.rindex(b"PK\5\6")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, 1 << 40, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    # The last record says something small.
    put(tmp_path, "a.zip", content[:end] + record + locator + content[end:])
    take(lake, tmp_path / "a.zip")
    assert "its list of files is larger" in reasons(lake)["a.zip"]


def test_zstandard_leaves_no_word_on_the_terminal(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    packed = pa.compress(taped(FILES), codec="zstd", asbytes=True)
    _swallowed(put(tmp_path, "a.tar.zst", packed))
    assert capfd.readouterr() == ("", "")


TWO_DAYS = {"b.zip": zipped({"a.json": log(1), "c/a.json.gz": gzip.compress(log(2))}), "n.json": log(3)}


@pytest.mark.parametrize("outer", [zipped, taped, lambda files: taped(files, "gz")])
@pytest.mark.parametrize("packing", ["zip", "tar", "tgz"])
def test_an_archive_in_an_archive_is_opened(
    outer: Callable[[dict[str, bytes]], bytes], packing: str, lake: Lake, tmp_path: Path
) -> None:
    files = {"a.json": log(1), "c/a.json.gz": gzip.compress(log(2)), "README.md": b"# logs"}
    inner = zipped(files) if packing == "zip" else taped(files, "gz" if packing == "tgz" else "")
    name = "x.zip" if outer is zipped else "x.tar"
    held = {f"day.{packing}": inner, "n.json": log(3), "none.zip": log(4)}
    archive = put(tmp_path / "logs", name, outer(held))
    steps: list[Progress] = []
    summary, told = take(lake, archive.parent, progress=steps.append)
    assert (summary.rows, summary.quarantined, summary.unrecognised) == (4, 0, 1)
    assert {each.location for each in told} == {
        f"{archive}//{inside}"
        for inside in (*(f"day.{packing}//{name}" for name in files), "n.json", "none.zip")
    }
    done = [step.bytes for step in steps]
    assert done == sorted(done)
    assert done[-1] <= steps[-1].all_bytes
    for each in told:
        with object_at({})(each.location).open() as file:
            name = each.location.removeprefix(f"{archive}//")
            assert file.read() == (held | {f"day.{packing}//{name}": files[name] for name in files})[name]
    # Again, and lying beside it: nothing is taken twice.
    put(archive.parent, f"day.{packing}", inner)
    summary, _ = take(lake, archive.parent)
    assert (summary.rows, summary.skipped, summary.quarantined) == (0, 6, 0)
    balanced(lake)


def balanced(lake: Lake) -> None:
    counted = ("Rows", "Duplicates", "Filtered", "Quarantined")
    rows = [
        row
        for file in lake.snapshot(LEDGER.name).files()
        for row in pq.ParquetFile(file.path).read().to_pylist()
    ]
    assert rows
    assert all(row["Records"] == sum(row[name] for name in counted) for row in rows)


def test_archives_in_archives_of_archives_are_told_and_set_aside(lake: Lake, tmp_path: Path) -> None:
    inner = zipped({"deep.zip": zipped(FILES), "deep.tar.gz": taped(FILES, "gz"), "a.json": log(9)})
    archive = put(tmp_path, "outer.zip", zipped({"inner.zip": inner}))
    summary, _ = take(lake, archive)
    assert (summary.rows, summary.quarantined) == (1, 2)
    reason = "an archive that is not opened where it lies: unpack it first"
    assert reasons(lake) == {f"outer.zip//inner.zip//deep.{end}": reason for end in ("zip", "tar.gz")}
    found = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}))
    assert [(each.state, each.reason) for each in found] == [("bad", reason)] * 2
    assert take(lake, archive)[0].quarantined == 0
    balanced(lake)


def test_archives_of_one_name_and_files_of_one_name_in_them(lake: Lake, tmp_path: Path) -> None:
    inner = _zipped_pairs([("a.json", log(1)), ("a.json", log(2))])
    other = _zipped_pairs([("a.json", log(3)), ("/a.json", log(4))])
    archive = put(tmp_path, "x.zip", _zipped_pairs([("b.zip", inner), ("b.zip", other)]))
    _, told = take(lake, archive)
    names = ("b.zip//a.json", "b.zip//2//a.json", "2//b.zip//a.json", "2//b.zip//\\x2fa.json")
    assert [each.location for each in told] == [f"{archive}//{name}" for name in names]
    for number, each in enumerate(told, 1):
        with object_at({})(each.location).open() as file:
            assert file.read() == log(number)


def test_the_mark_of_an_archive_that_was_not_opened_before_goes_when_its_logs_are_taken(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = put(tmp_path, "x.zip", zipped({"b.zip": TWO_DAYS["b.zip"]}))
    with monkeypatch.context() as before:
        before.setattr(archives, "_is_one", lambda name, _: name == "x.zip")
        assert take(lake, archive)[0].quarantined == 1

    def again() -> tuple[str, str]:
        [found] = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}))
        return found.state, found.reason

    assert again() == ("gone", "the archive can be read now: ingest it")
    assert take(lake, archive)[0].rows == 2
    whole = archive.read_bytes()
    archive.write_bytes(zipped({"b.zip": zipped({"a.json": log(1)})}))
    assert again() == ("gone", "its object is another one by now")
    archive.write_bytes(whole)
    assert again() == ("stored", "")
    assert quarantined(lake) == []
    balanced(lake)


@pytest.mark.parametrize("pack", [zipped, lambda files: taped(files, "gz")])
def test_marks_of_one_archive_are_tried_again_together(
    pack: Callable[[dict[str, bytes]], bytes], lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each of them the whole outer archive was gone through, with all archives in it."""
    held = {f"{number}.zip": zipped({"a.json": log(number)}) for number in range(5)}
    archive = put(tmp_path, "x.zip" if pack is zipped else "x.tgz", pack(held))
    with monkeypatch.context() as before:
        before.setattr(archives, "_is_one", lambda name, _: name == archive.name)
        assert take(lake, archive)[0].quarantined == 5
    put(tmp_path, archive.name, pack(held | {"4.zip": zipped({"a.json": log(4), "b.json": log(9)})}))
    assert take(lake, archive)[0].rows == 6
    put(tmp_path, archive.name, pack(held | {"3.zip": zipped({"a.json": log(3), "c.json": b" "})}))
    went: list[str] = []

    def counted(path: Path, location: str) -> Iterator[tuple[archives.Member, archives.Position]]:
        went.append(location)
        return outer(path, location)

    def inner(*given: object) -> Iterator[archives.Member]:
        went.append("inner")
        yield from opened(*given)  # type: ignore[arg-type]

    outer, opened = archives._outer, archives._inner
    monkeypatch.setattr(archives, "_outer", counted)
    monkeypatch.setattr(archives, "_inner", inner)
    found = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}))
    told = {Path(each.location).name: (each.state, each.reason) for each in found}
    ingest_it = ("gone", "the archive can be read now: ingest it")
    stored = ("stored", "")
    assert told == {"0.zip": stored, "1.zip": stored, "2.zip": stored, "3.zip": ingest_it, "4.zip": stored}
    assert (went.count("inner"), len(went)) == (5, 7)
    balanced(lake)


@pytest.mark.parametrize("outer", ["x.zip", "x.tar"])
def test_a_damaged_archive_in_an_archive_gives_what_it_holds(outer: str, lake: Lake, tmp_path: Path) -> None:
    pack = zipped if outer == "x.zip" else taped
    tape = taped({"a.json": log(1), "b.json": log(2)})
    damaged = {"cut.tar": tape[:1200], "cut.zip": TWO_DAYS["b.zip"][:-40], "c.json": log(3)}
    archive = put(tmp_path, outer, pack(damaged))
    summary, _ = take(lake, archive)
    assert (summary.rows, summary.quarantined) == (2, 2)
    found = reasons(lake)
    assert "the archive is damaged behind 1 files" in found[f"{outer}//cut.tar"]
    assert "the archive is damaged behind 0 files" in found[f"{outer}//cut.zip"]
    assert take(lake, archive)[0].quarantined == 0
    states = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}))
    assert {each.state for each in states} == {"gone"}
    assert all("damaged behind" in each.reason for each in states)
    put(tmp_path, outer, pack(damaged | {"cut.tar": tape, "cut.zip": TWO_DAYS["b.zip"]}))
    take(lake, archive)
    states = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}))
    assert [each.state for each in states] == ["stored", "stored"]
    assert quarantined(lake) == []
    balanced(lake)


@pytest.mark.parametrize("outer", ["x.zip", "x.tar.gz"])
def test_what_is_damaged_where_another_was_mended_is_set_aside_again(
    outer: str, lake: Lake, tmp_path: Path
) -> None:
    """It was taken for the one before, whose mark had gone: neither its logs nor a mark were in the lake."""
    pack = zipped if outer == "x.zip" else lambda files: taped(files, "gz")

    def given(inner: bytes, at: int) -> tuple[int, int]:
        archive = put(tmp_path, outer, pack({"b.zip": inner}))
        os.utime(archive, (at, at))
        return take(lake, archive)[0].rows, len(quarantined(lake))

    assert given(zipped({"a.json": log(1)})[:-40], 1) == (0, 1)
    assert given(zipped({"a.json": log(1)}), 2) == (1, 1)
    [found] = retry(lake, clock=lambda: NOW, sources=SOURCES, find=object_at({}))
    assert (found.state, quarantined(lake)) == ("stored", [])
    assert given(zipped({"a.json": log(3)})[:-40], 3) == (0, 1)
    balanced(lake)


@pytest.mark.parametrize("outer", ["x.zip", "x.tar", "x.tar.gz"])
@pytest.mark.parametrize("inner", ["b.zip", "b.tar.gz", "b.tar"])
def test_what_archives_in_an_archive_unpack_to_is_bounded(
    outer: str, inner: str, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten members, each of which may unpack to what it does, some come, and then no more."""
    monkeypatch.setattr(archives, "_FREE_BYTES", 1 << 20)
    monkeypatch.setattr(archives, "_MAX_RATIO", 1)
    monkeypatch.setattr(archives, "_COPY_BYTES", 1 << 16)
    spaces = b" " * 300_000
    bombs = {f"{number}.json": log(number) + spaces for number in range(10)}
    held = {"a.json": log(98)}
    held[inner] = zipped(bombs) if inner == "b.zip" else taped(bombs, "gz" if inner.endswith("gz") else "")
    held["good.zip"] = zipped({"good.json": log(99)})
    packed = zipped(held) if outer == "x.zip" else taped(held, "gz" if outer.endswith("gz") else "")
    summary, _ = take(lake, put(tmp_path, outer, packed))
    found = reasons(lake)
    if outer == "x.tar" and inner == "b.tar":  # nothing is packed
        assert (summary.rows, found) == (12, {})
        return
    assert 2 <= summary.rows < 12
    assert summary.quarantined >= 1
    assert f"{outer}//good.zip//good.json" not in found
    assert all("unpack" in reason for reason in found.values())
    balanced(lake)


def test_a_zip_in_an_archive_needs_room_for_its_copy(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_HELD_BYTES", 100)
    archive = put(tmp_path, "x.zip", zipped(TWO_DAYS))
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=7))
        summary, _ = take(lake, archive)
    assert (summary.rows, summary.quarantined) == (1, 1)
    assert "7 bytes are free" in reasons(lake)["x.zip//b.zip"]
    assert take(lake, archive)[0].rows == 2  # the copy is on disk
