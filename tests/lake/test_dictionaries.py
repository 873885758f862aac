"""Text that repeats comes to the lake as Arrow dictionaries, and stands in it as text."""

import datetime as dt
import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from trailhawk.kql.plan import Needle
from trailhawk.kql.schema import INGESTION_TIME, Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import Delta, Lake
from trailhawk.lake.compaction import compact
from trailhawk.lake.table import BATCH, CONFLICT, ID, OBJECT, PAYLOAD, fitted, picked, plain, trimmed

EVENTS = Table(
    "Events",
    (
        Column("TimeGenerated", KqlType.DATETIME),
        Column("Text", KqlType.STRING),
        Column("Name", KqlType.STRING),
    ),
    constants={},
    statistics=("Name",),
)
DAY = dt.datetime(2026, 3, 1)
DICTIONARY = pa.dictionary(pa.int32(), pa.string())


def rows(names: list[str | None], *, day: dt.datetime = DAY, encoded: bool = True) -> pa.Table:
    count = len(names)
    table = pa.table(
        {
            "TimeGenerated": pa.array(
                [day + dt.timedelta(seconds=n) for n in range(count)], pa.timestamp("us")
            ),
            "Text": pa.array([sha256(bytes([n % 256, n // 256])).hexdigest() for n in range(count)]),
            "Name": pa.array(names, pa.string()),
            INGESTION_TIME: pa.array([DAY] * count, pa.timestamp("us")),
            OBJECT: pa.array(["o"] * count),
            BATCH: pa.array(["b"] * count),
            ID: pa.array(range(count), pa.int64()),
            PAYLOAD: pa.array(range(count), pa.int64()),
            CONFLICT: pa.array([False] * count),
        }
    )
    if encoded:
        table = table.set_column(2, "Name", table["Name"].dictionary_encode())
    return fitted(table, EVENTS)


def delta(path: Path) -> Delta:
    table = Delta(path / "Events", EVENTS)
    table.create()
    return table


def test_dictionaries_stay_when_rows_are_fitted_and_can_be_made_text() -> None:
    made = rows(["a", "b", "a"])
    assert made.schema.field("Name").type == DICTIONARY
    assert plain(made).equals(rows(["a", "b", "a"], encoded=False))


def test_a_trimmed_dictionary_holds_only_what_is_in_use() -> None:
    made = rows(["a", None, "b", "c", "b", None])
    column = trimmed(made.slice(1, 4))["Name"].chunk(0)
    assert column.dictionary.to_pylist() == ["b", "c"]
    assert column.to_pylist() == [None, "b", "c", "b"]
    assert column.null_count == 1


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int64(), pa.uint64()])
def test_a_dictionary_is_trimmed_whatever_its_codes_are(kind: pa.DataType) -> None:
    made = pa.DictionaryArray.from_arrays(pa.array([0, 2, None], kind), pa.array(["a", "b", "c"]))
    column = trimmed(pa.table({"Name": made}))["Name"].chunk(0)
    assert (column.dictionary.to_pylist(), column.to_pylist()) == (["a", "c"], ["a", "c", None])


def test_each_day_gets_its_own_values_in_bounds_and_index(tmp_path: Path) -> None:
    lake = Lake(tmp_path, [EVENTS])
    table = lake.delta("Events")
    table.create()
    both = [rows(["early"] * 2_500), rows(["later"] * 2_500, day=DAY + dt.timedelta(days=1))]
    staged = table.stage(pa.concat_tables(both).unify_dictionaries())
    table.commit(staged)
    assert [json.loads(file.stats)["minValues"]["Name"] for file in staged] == ["early", "later"]
    snapshot = lake.snapshot("Events")
    for text, day in (("early", DAY), ("later", DAY + dt.timedelta(days=1))):
        found = snapshot.look(snapshot.files(), Needle(frozenset({"Name"}), text))
        assert [part.file.first for part in found.parts] == [day.replace(tzinfo=dt.UTC)]


def test_a_file_says_text_whatever_came(tmp_path: Path) -> None:
    table = delta(tmp_path)
    table.commit(table.stage(rows(["a", "b", "a"])))
    (path,) = table.live()
    stored = pq.read_table(table.root / path, partitioning=None)
    assert stored.schema.field("Name").type == pa.string()
    assert stored["Name"].to_pylist() == ["a", "b", "a"]
    assert stored[OBJECT].to_pylist() == ["o"] * 3


def test_files_with_and_without_dictionaries_are_compacted(tmp_path: Path) -> None:
    table = delta(tmp_path)
    table.commit(table.stage(rows(["a", "b", "a", "a"])))
    table.commit(table.stage(rows([f"{n} alone" for n in range(4)], encoded=False)))
    table.commit(table.stage(rows([None, "", "c", "c"])))
    before = sorted(str(name) for name in _names(table))
    assert compact(table, DAY.date(), sorted(table.live()))
    assert len(table.live()) == 1
    assert sorted(str(name) for name in _names(table)) == before


def _names(table: Delta) -> list[str | None]:
    read = [pq.read_table(table.root / path, partitioning=None) for path in sorted(table.live())]
    for each in read:
        times = each["TimeGenerated"].to_numpy()
        assert pc.all(pa.array(times[1:] >= times[:-1])).as_py() is not False
    return [name for each in read for name in each["Name"].to_pylist()]


@pytest.mark.parametrize("places", [[0, 2], [-1, 0]])
def test_rows_that_are_not_there_are_not_picked(places: list[int]) -> None:
    rows = pa.table({"A": ["a", "b"], "B": pa.array(["a", "b"]).dictionary_encode()})
    assert picked(rows, np.array([1, 0, 1])).to_pydict() == {"A": ["b", "a", "b"], "B": ["b", "a", "b"]}
    assert picked(rows, np.array([], np.int64)).num_rows == 0
    with pytest.raises(IndexError):
        picked(rows, np.array(places))
