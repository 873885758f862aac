"""externaldata: what it reads, and what it refuses."""

from __future__ import annotations

import gzip
import random
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.catalog import NoTables
from trailhawk.engine import external
from trailhawk.engine.download import AllowedHosts, Bounds
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.external import External
from trailhawk.errors import LimitError, NotAllowedError, QueryError, Span, UnsupportedError
from trailhawk.kql.operators.external import ExternalFile
from trailhawk.kql.types import KqlType

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def rows(folder: Path | None, text: str, max_bytes: int = 1 << 20) -> list[tuple[object, ...]]:
    reader = External(() if folder is None else (folder,), bounds=Bounds(max_bytes))
    engine = DuckDBEngine(NoTables(), external=reader)
    try:
        return engine.query(text, now=NOW).tuples()
    finally:
        engine.close()


def test_csv_with_every_type(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('s,n\n"x, y",0x10,1.5,true,2026-01-02,01:00:00,"[1,2]"\nz,many,,,,,\n')
    text = (
        "externaldata(s: string, n: long, r: real, b: bool, t: datetime, d: timespan, j: dynamic)"
        f'["{path}"] with (format="csv", ignoreFirstRecord=true)'
    )
    assert rows(tmp_path, text) == [
        ("x, y", 16, 1.5, True, datetime(2026, 1, 2, tzinfo=UTC), timedelta(hours=1), [1, 2]),
        ("z", None, None, None, None, None, None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.tsv", "x\t1\ny\t2\n", [("x", 1), ("y", 2)]),
        ("a.json", '{"s": "x", "n": 1}\n{"n": 2, "s": {"k": 1}}\n', [("x", 1), ('{"k": 1}', 2)]),
        ("a.multijson", '[{"s": "x",\n "n": 1}]\n{"s": "y"}', [("x", 1), ("y", None)]),
        ("a.txt", "one two\nthree\n", [("one two", None), ("three", None)]),
    ],
)
def test_formats_by_the_files_name(
    tmp_path: Path, name: str, content: str, expected: list[tuple[object, ...]]
) -> None:
    (tmp_path / name).write_text(content)
    assert rows(tmp_path, f'externaldata(s: string, n: long)["{tmp_path / name}"]') == expected


def test_packed_files(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.csv.gz", "wt") as stream:
        stream.write("x,1\n")
    with zipfile.ZipFile(tmp_path / "b.csv.zip", "w") as archive:
        archive.writestr("b.csv", "y,2\n")
    files = f'"{tmp_path / "a.csv.gz"}", "{(tmp_path / "b.csv.zip").as_uri()}"'
    assert rows(tmp_path, f"externaldata(s: string, n: long)[{files}] | where n > 0") == [("x", 1), ("y", 2)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.csv", [("x", 1), ("y", 2)]), ("*/b.*", [("y", 2)]), ("a.csv", [("x", 1)]), ("*.CSV", None)],
)
def test_files_of_a_zip(tmp_path: Path, pattern: str, expected: list[tuple[object, ...]] | None) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("read.me", "what,9")
        archive.writestr("a.csv", "s,n\nx,1")
        archive.writestr("in/b.csv", "s,n\ny,2")
    options = f'with (format="csv", zipPattern="{pattern}", ignoreFirstRecord=true)'
    query = f'externaldata(s: string, n: long)["{tmp_path / "all.zip"}"] {options}'
    if expected is None:
        with pytest.raises(QueryError, match=r"has no file '\*\.CSV'"):
            rows(tmp_path, query)
    else:
        assert rows(tmp_path, query) == expected


@pytest.mark.parametrize(
    "place",
    [
        "https://example.com/a.csv?key=secret",
        "{root}/other/a.csv",
        "{root}/in/../other/a.csv",
        "{root}/in/no",
    ],
)
def test_what_is_not_on_the_list_is_refused_when_it_runs(tmp_path: Path, place: str) -> None:
    for folder in ("in", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text("x\n")
    uri = place.format(root=tmp_path)
    with pytest.raises(NotAllowedError, match="externaldata") as caught:
        rows(tmp_path / "in", f'externaldata(s: string)["{uri}"]')
    assert "secret" not in str(caught.value)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.csv").write_text("x\n")
    (tmp_path / "in" / "a.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(NotAllowedError):
        rows(tmp_path / "in", f'externaldata(s: string)["{tmp_path / "in" / "a.csv"}"]')


def test_by_default_nothing_is_on_the_list(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n")
    with pytest.raises(NotAllowedError):
        rows(None, f'externaldata(s: string)["{tmp_path / "a.csv"}"]')


def test_a_file_that_unpacks_beyond_the_limit(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.csv.gz", "wb") as stream:
        stream.write(b"0\n" * (1 << 20))
    with pytest.raises(LimitError, match="more than 1 MiB"):
        rows(tmp_path, f'externaldata(s: string)["{tmp_path / "a.csv.gz"}"]')


def test_a_pattern_that_is_too_long() -> None:
    with pytest.raises(LimitError, match="at most 1,000 characters"):
        rows(None, f'externaldata(s: string)["/a.zip"] with (zipPattern="{"[" * 1001}")')


def test_the_files_of_a_zip_are_bounded_together(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a", "b", "c"):
            archive.writestr(name, b"0\n" * 200_000)
    with pytest.raises(LimitError, match="more than 1 MiB"):
        rows(tmp_path, f'externaldata(s: string)["{tmp_path / "a.csv.zip"}"]')


def test_a_zip_of_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "MAX_MEMBERS", 2)
    for count in (2, 3):
        with zipfile.ZipFile(tmp_path / f"{count}.csv.zip", "w") as archive:
            for number in range(count):
                archive.writestr(f"{number}.csv", f"{number}\n")
    assert rows(tmp_path, f'externaldata(n: long)["{tmp_path / "2.csv.zip"}"]') == [(0,), (1,)]
    with pytest.raises(LimitError, match="more than 2 files"):
        rows(tmp_path, f'externaldata(n: long)["{tmp_path / "3.csv.zip"}"] with (zipPattern="0.csv")')


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_damaged_zip_is_told_as_one(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.csv.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in ("é.csv", "b.csv"):
            archive.writestr(name, "a,1\nb,2\n" * 20)
    whole = path.read_bytes()
    chance = random.Random(method)
    told = 0
    for _ in range(250):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] = chance.choice((0, 255, chance.randrange(256)))
        path.write_bytes(damaged)
        file = ExternalFile(str(path), "csv", (("s", KqlType.STRING),), False, Span(0, 0))
        try:
            External([tmp_path])(file)
        except QueryError as error:
            told += "cannot be read" in str(error)
    assert told > 50


def test_files_that_are_not_what_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_text("plain")
    (tmp_path / "a.json").write_text("{")
    for name in ("a.csv.gz", "a.json"):
        with pytest.raises(QueryError):
            rows(tmp_path, f'externaldata(s: string)["{tmp_path / name}"]')


def test_a_format_that_is_not_read() -> None:
    with pytest.raises(UnsupportedError, match="format=parquet"):
        rows(None, 'externaldata(s: string)["/a.parquet"] with (format="parquet")')


def test_packed_files_that_cannot_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.csv.zip").write_bytes(b"PK\x03\x04")
    (tmp_path / "long.csv").write_text("x" * 200_000)
    for name in ("a.csv.zip", "long.csv"):
        with pytest.raises(QueryError, match="cannot be read"):
            rows(tmp_path, f'externaldata(s: string)["{tmp_path / name}"]')


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotAllowedError):
        rows(tmp_path, f'externaldata(s: string)["{tmp_path}"]')


def test_more_values_than_memory_is_kept_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "MAX_VALUES", 10)
    (tmp_path / "a.csv").write_text("x,1\n" * 6)
    with pytest.raises(LimitError, match="more than 10 values"):
        rows(tmp_path, f'externaldata(s: string, n: long)["{tmp_path / "a.csv"}"]')


def test_a_file_is_read_again_only_after_a_while(tmp_path: Path) -> None:
    path, moment = tmp_path / "a.csv", 0.0
    reader = External([tmp_path], keep=300, clock=lambda: moment)
    engine = DuckDBEngine(NoTables(), external=reader)

    def read() -> list[tuple[object, ...]]:
        return engine.query(f'externaldata(s: string)["{path}"]', now=NOW).tuples()

    path.write_text("old\n")
    assert read() == [("old",)]
    path.write_text("new\n")
    assert read() == [("old",)]
    moment = 300.0
    assert read() == [("new",)]
    path.unlink()
    moment = 600.0
    for _ in range(2):
        with pytest.raises(NotAllowedError):
            read()
    engine.close()


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "MAX_VALUES", 10)
    reader, opened = External([tmp_path]), []
    read_lines = external._READERS["txt"]

    def counted(text: str, file: ExternalFile) -> object:
        opened.append(file.uri)
        return read_lines(text, file)

    monkeypatch.setitem(external._READERS, "txt", counted)
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("x\n" * 6)
    engine = DuckDBEngine(NoTables(), external=reader)
    for name in ("a", "a", "b", "a"):
        uri = tmp_path / f"{name}.txt"
        assert len(engine.query(f'externaldata(s: string)["{uri}"]', now=NOW).tuples()) == 6
    engine.close()
    assert [Path(uri).stem for uri in opened] == ["a", "b", "a"]


def test_what_the_list_has_is_told_without_reading(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in" / "a.csv", tmp_path / "b.csv"
    inside.parent.mkdir()
    for path in (inside, outside):
        path.write_text("1\n")
    reader = External([inside.parent], AllowedHosts.of(["https://lists.example.com/feeds"]))
    asked = (
        str(inside),
        str(outside),
        "https://lists.example.com/feeds/a.csv",
        "https://lists.example.com/a.csv",
    )
    files = [ExternalFile(uri, "csv", (), False, Span(0, 0)) for uri in asked]
    assert [reader.allows(file) for file in files] == [True, False, True, False]
