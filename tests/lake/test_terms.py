"""The skipping index: no row is lost by it, absent terms are not read for, damage means a scan."""

from __future__ import annotations

import ctypes
import datetime as dt
import random
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from trailhawk.kql.plan import AllOf, AnyOf, Need, Needle
from trailhawk.kql.schema import INGESTION_TIME, Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import Lake
from trailhawk.lake import delta as delta_module
from trailhawk.lake import terms as terms_module
from trailhawk.lake.compaction import compact
from trailhawk.lake.table import DataFile, Found, stored_schema
from trailhawk.lake.terms import FOLDER, LEAST_ROWS, TermsWriter, terms_of, terms_path
from trailhawk.native import build, kernel
from trailhawk.native.terms import fill

EVENTS = Table(
    "Events",
    (
        Column("TimeGenerated", KqlType.DATETIME),
        Column("Text", KqlType.STRING),
        Column("Other", KqlType.STRING),
    ),
)
DAY = dt.datetime(2026, 3, 1)
ROWS = 4 * LEAST_ROWS


def rows(texts: list[str], start: dt.datetime = DAY) -> pa.Table:
    count = len(texts)
    rng = random.Random(count)
    given = {
        "TimeGenerated": [start + dt.timedelta(seconds=place) for place in range(count)],
        "Text": texts,
        "Other": [f"{rng.getrandbits(800):x}" for _ in range(count)],
        INGESTION_TIME: [start] * count,
    }
    schema = stored_schema(EVENTS)
    columns = [pa.array(given.get(field.name, [None] * count), field.type) for field in schema]
    return pa.table(columns, schema=schema)


def texts(seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [f"from 10.{rng.randrange(256)}.{rng.randrange(256)}.9 by user-{place}" for place in range(ROWS)]


def filled(path: Path, *days: list[str]) -> Lake:
    lake = Lake(path, [EVENTS])
    table = lake.delta("Events")
    table.create()
    for place, day in enumerate(days):
        table.commit(table.stage(rows(day, DAY + dt.timedelta(days=place))))
    return lake


def look(lake: Lake, need: Need) -> Found:
    snapshot = lake.snapshot("Events")
    return snapshot.look(snapshot.files(), need)


def holds(lake: Lake, text: str, *, left: bool = True, right: bool = True, column: str = "Text") -> bool:
    return bool(look(lake, Needle(frozenset({column}), text, left, right)).parts)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    own = texts()
    own[17] = "Ünïcode—arn:aws:iam::123456789012:role/Admin-Role, 203.0.113.77!"
    own[18] = "2001:db8:85a3:0:0:8a2e:370:7334 " + "ab" * 700 + "Z9"
    return filled(tmp_path_factory.mktemp("lake"), own)


@pytest.mark.parametrize(
    "text",
    [
        "203.0.113.77",
        "203",
        "ARN:aws",
        "role/admin-role",
        "Admin",
        "123456789012",
        ", 203.0.113.77!",
        "Ünïcode—arn",
        "—arn:",
        "2001:db8:85a3:0:0:8a2e:370:7334",
        "ab" * 700 + "z9",
        "",
        "!!!",
        "ü",
    ],
)
def test_what_is_there_is_found(lake: Lake, text: str) -> None:
    assert holds(lake, text)


@pytest.mark.parametrize(
    "text",
    [
        "203.0.113.78",
        "77.113.0.203",
        "nobody",
        "arn:aws:iam::123456789013",
        "ab" * 699 + "z9",
        "user-9000000",
    ],
)
def test_what_is_not_there_is_not_read_for(lake: Lake, text: str) -> None:
    assert not holds(lake, text)


def test_a_needle_inside_a_term_is_no_term(lake: Lake) -> None:
    assert holds(lake, "dmin-Rol", left=False, right=False)
    assert holds(lake, "123456789012:rol", right=False)
    assert holds(lake, "56789012:role", left=False)
    assert not holds(lake, "dmin-nobody-Rol", left=False, right=False)
    assert not holds(lake, "nobody:rol", right=False)


def test_a_column_that_the_index_does_not_know_is_read(lake: Lake) -> None:
    assert holds(lake, "nobody", column="_th_Text_path")
    assert not holds(lake, "nobody", column="NewerColumnThatTheFileLacks")


def test_needs_are_joined(lake: Lake) -> None:
    yes, no = (Needle(frozenset({"Text"}), text) for text in ("admin", "nobody"))
    assert look(lake, AnyOf((no, yes))).parts
    assert look(lake, AllOf((yes, yes))).parts
    assert not look(lake, AllOf((yes, no))).parts
    assert not look(lake, AnyOf((no, no))).parts
    assert not look(lake, AnyOf(())).parts


def test_every_term_of_random_texts_is_found(lake: Lake) -> None:
    rng = random.Random(5)
    letters = "aZ09.-_:/ é—"
    own = ["".join(rng.choice(letters) for _ in range(rng.randrange(40))) for _ in range(ROWS)]
    lake = filled(lake.root / "random", own)
    for text in rng.sample(own, 300):
        assert holds(lake, text)
        cut = text[1:-1]
        assert holds(lake, cut, left=False, right=False)


def test_no_character_folds_to_an_ascii_letter_but_those_the_index_knows() -> None:
    """What the engine's lower() and its regular expressions without case make of Unicode."""
    found = duckdb.sql(
        "SELECT chr(i::INT) FROM range(128, 65536) t(i) WHERE i NOT BETWEEN 55296 AND 57343 "
        "AND (ascii(lower(chr(i::INT))) < 128 OR regexp_matches(chr(i::INT), '[a-z0-9]', 'i'))"
    )
    assert found is not None
    assert {char for (char,) in found.fetchall()} == {"\u0130", "\u017f", "\u212a"}


@pytest.mark.parametrize("char", ["\u0130", "\u017f", "\u212a"])
def test_a_row_group_with_such_a_character_is_read(tmp_path: Path, char: str) -> None:
    own = texts()
    own[5] = f"{char}elvin"
    assert holds(filled(tmp_path, own), "nobody")


def test_only_row_groups_that_may_hold_it_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta_module, "ROW_GROUP_ROWS", LEAST_ROWS)
    own = texts()
    own[LEAST_ROWS + 5] = own[3 * LEAST_ROWS + 5] = "the needle"
    lake = filled(tmp_path, texts(2), own)
    found = look(lake, Needle(frozenset({"Text"}), "NEEDLE"))
    (part,) = found.parts
    assert (found.groups, found.skipped, part.share) == (8, 6, 0.5)
    assert part.spans is not None
    second = DAY.replace(tzinfo=dt.UTC) + dt.timedelta(days=1)
    assert [(first - second).seconds for first, _ in part.spans] == [LEAST_ROWS, 3 * LEAST_ROWS]


def test_what_is_everywhere_is_read_without_a_long_look(tmp_path: Path) -> None:
    lake = filled(tmp_path, *[texts(day) for day in range(16)])
    found = look(lake, Needle(frozenset({"Text"}), "user"))
    assert (len(found.parts), found.groups) == (16, 0)


def index_of(lake: Lake) -> Path:
    (file,) = lake.snapshot("Events").files()
    return terms_path(lake.root / "Events", file.path)


def test_a_missing_or_damaged_index_is_a_scan(tmp_path: Path) -> None:
    path = index_of(filled(tmp_path, texts()))
    whole = path.read_bytes()
    damaged = bytearray(whole)
    for place in range(len(damaged) - 4000, len(damaged), 100):
        damaged[place] ^= 0xFF
    zeros = whole[: len(whole) // 3] + bytes(len(whole) - len(whole) // 3)
    for content in (b"", whole[:7], whole[:20], b"x" + whole[1:], whole[:-8], zeros, bytes(damaged)):
        path.write_bytes(content)
        # Of a damaged filter the pages that are whole may still say no: never for what is there.
        assert all(holds(Lake(tmp_path, [EVENTS]), f"user-{place}") for place in range(0, ROWS, 37))
    path.unlink()
    assert holds(Lake(tmp_path, [EVENTS]), "nobody")


def test_an_index_is_at_most_a_tenth_of_its_file(lake: Lake) -> None:
    snapshot = lake.snapshot("Events")
    (file,) = (file for file in snapshot.files())
    size = terms_path(lake.root / "Events", file.path).stat().st_size
    assert 0 < size <= file.size / 10


def test_a_small_file_has_none(tmp_path: Path) -> None:
    lake = filled(tmp_path, ["a"] * (LEAST_ROWS - 1))
    assert not (tmp_path / "Events" / FOLDER).exists()
    assert holds(lake, "nobody")


def test_compaction_writes_indexes_anew_and_cleaning_drops_those_without_a_file(tmp_path: Path) -> None:
    lake = filled(tmp_path, texts())
    table = lake.delta("Events")
    table.commit(table.stage(rows(texts(9))))
    old = {terms_path(table.root, path) for path in table.live()}
    assert compact(table, DAY.date(), sorted(table.live()))
    (file,) = lake.snapshot("Events").files()
    new = terms_path(table.root, file.path)
    assert new.exists()
    assert not holds(lake, "nobody")
    assert holds(lake, "user-77")
    # The retired data files are still there for readers of older versions, and so are their indexes.
    table.clean(older_than=dt.timedelta(days=1))
    assert all(path.exists() for path in old)
    for path in (tmp_path / "Events").glob("_th_day=*/*.parquet"):
        if terms_path(table.root, path.name) in old:
            path.unlink()
    table.clean(older_than=dt.timedelta(days=1))
    assert list((tmp_path / "Events" / FOLDER).iterdir()) == [new]


def test_what_is_not_committed_leaves_no_index(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    table = lake.delta("Events")
    table.discard(table.stage(rows(texts())))
    assert not list((tmp_path / "Events" / FOLDER).iterdir())


def test_the_longest_terms_come_first_or_not_at_all() -> None:
    assert len(terms_of(Needle(frozenset({"Text"}), "10.0.0.7"))) == 5
    assert len(terms_of(Needle(frozenset({"Text"}), "inside", left=False, right=False))) == 0
    assert len(terms_of(Needle(frozenset({"Text"}), "a-inside-b", left=False, right=False))) == 1


def test_files_of_others_are_read(lake: Lake) -> None:
    snapshot = lake.snapshot("Events")
    foreign = DataFile("s3://bucket/other.parquet", 1, 1, frozenset({"Text"}), None, None, None, None)
    assert snapshot.look([foreign], Needle(frozenset({"Text"}), "nobody")).parts


def gathered(library: ctypes.CDLL, column: pa.Array | pa.ChunkedArray) -> list[int] | None:
    """The hashes of a column's terms, which the kernel and the road in Python agree on."""
    table = pa.table({"Text": column})
    plain = terms_module._gathered(table, frozenset())
    found = terms_module._gathered_by(library, table)
    if plain is None or found is None:
        assert (plain is None) is (found is None)
        return None
    hashes: list[int] = np.sort(found).tolist()
    assert hashes == plain.tolist()
    return hashes


@pytest.mark.parametrize("seed", range(40))
def test_the_kernel_finds_the_same_terms(compiled: ctypes.CDLL, seed: int) -> None:
    rng = random.Random(seed)
    letters = rng.choice(["aZ09.-_:/ é—\n", "0123456789.", "abcXYZ", "a.", "\x00\x7f@[`{/:aZ"])
    if seed % 8 == 7:
        letters += "\u0130\u017f\u212a\u0131\u2129"
    own = ["".join(rng.choices(letters, k=rng.randrange(rng.choice([4, 40, 300])))) for _ in range(200)]
    column = pa.array([None if rng.random() < 0.2 else text for text in own], pa.string())
    first = rng.randrange(100)
    gathered(compiled, column)
    gathered(compiled, column.slice(first, rng.randrange(100)))
    gathered(compiled, pa.chunked_array([column.slice(first), column.slice(0, first), column.slice(3, 0)]))
    gathered(compiled, column.dictionary_encode())


@pytest.mark.parametrize("before", ["", "-" * 7, "-" * 60, "é" * 31, "a-" * 40, "10.0.0." * 9])
def test_the_kernel_reads_terms_of_every_length_at_every_place(compiled: ctypes.CDLL, before: str) -> None:
    whole = "".join(random.Random(1).choices("abcXYZ019", k=200))
    own = [before + whole[:length] + behind for length in range(140) for behind in ("", ".", ".9.9.9")]
    for text in own:  # alone, it ends where the buffer does
        assert gathered(compiled, pa.array([text])) is not None
    assert gathered(compiled, pa.array(own)) is not None


@pytest.mark.parametrize("char", ["\u0130", "\u017f", "\u212a"])
def test_the_kernel_sees_what_folds_to_ascii_at_every_place(compiled: ctypes.CDLL, char: str) -> None:
    for before in range(130):
        assert gathered(compiled, pa.array(["x" * before + char])) is None
        assert gathered(compiled, pa.array(["x" * before + char + "y" * 70, "é"])) is None
    assert gathered(compiled, pa.array([char, "a"]).slice(1)) is not None


def test_the_kernel_takes_a_million_terms(compiled: ctypes.CDLL) -> None:
    own = pa.array([f"{n} {n:x}z {'z' * (n % 50)}" for n in range(300_000)])
    assert len(gathered(compiled, own) or []) == 600_049


def test_neighbours_are_of_one_value(compiled: ctypes.CDLL) -> None:
    assert len(gathered(compiled, pa.array(["10.9.8.7"])) or []) == 5
    assert len(gathered(compiled, pa.array(["10", "9", "8", "7", "6.5", "4.3"])) or []) == 8


@pytest.mark.parametrize("page", [5, 512, 4096])
@pytest.mark.parametrize("pages", [1, 2, 7, 64])
def test_the_kernel_sets_the_same_bits(compiled: ctypes.CDLL, pages: int, page: int) -> None:
    edges = [0, 1, 2**20, 2**40 - 1, 2**40, 2**63, 2**64 - 1]
    edges += [2**64 - place * 2**43 for place in range(1, 16)]  # a probe or another is beyond 64 bits
    drawn = [random.Random(pages).getrandbits(64) for _ in range(3_000)]
    hashes = np.array(edges + drawn, np.uint64)
    plain, found = (np.zeros((pages, page), np.uint8) for _ in range(2))
    terms_module._fill(hashes, plain)
    fill(compiled, hashes, found)
    assert np.array_equal(plain, found)


@pytest.fixture
def portable(compiled: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    """The kernel as processors have it that know neither SSE2 nor numbers of 128 bits."""
    path = tmp_path / "kernel.so"
    build.compile_with(next(build.compilers()), path, ["-U__SSE2__", "-U__SIZEOF_INT128__"])
    monkeypatch.setattr(build, "OBJECT", path)
    found = kernel._loaded.__wrapped__()
    assert found is not None
    return found


def test_it_is_the_same_on_other_processors(portable: ctypes.CDLL) -> None:
    for seed in range(0, 40, 3):
        test_the_kernel_finds_the_same_terms(portable, seed)
    test_the_kernel_reads_terms_of_every_length_at_every_place(portable, "é" * 31)
    test_the_kernel_sees_what_folds_to_ascii_at_every_place(portable, "\u212a")
    test_the_kernel_sets_the_same_bits(portable, 7, 512)


def test_the_index_is_the_same_without_the_kernel(
    compiled: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = rows(texts())
    files = []
    for switch in ("", "off"):
        monkeypatch.setenv(kernel.SWITCH, switch)
        writer = TermsWriter(["Text", "Other"], ["Text"], "TimeGenerated")
        writer.add(written, LEAST_ROWS)
        writer.write(tmp_path / FOLDER / "index.terms", data_size=10_000_000)
        files.append((tmp_path / FOLDER / "index.terms").read_bytes())
    assert files[0] == files[1]
