"""CSV by the row: what the csv module writes comes back, and damage costs the damaged row."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.text import Quoting, table
from trailhawk.sources import csv_text
from trailhawk.sources.csv_text import cells, header, rows_of

HEAD = ("a", "b c", "d", "e")


def written(rows: list[list[str]], end: str = "\n", quoting: Quoting = csv.QUOTE_MINIMAL) -> bytes:
    return table(HEAD, rows, quoting, end=end)


def read(data: bytes, block: int = 1 << 20) -> tuple[list[list[str]], list[str]]:
    rows: list[list[str]] = []
    bad: list[str] = []
    for cut in rows_of(data[at : at + block] for at in range(0, len(data), block)):
        assert cut.names in (HEAD, ())
        assert len(cut.starts) == len(cut.rows)
        assert all(0 < start < len(data) for start in cut.starts)
        rows += cut.rows
        bad += [part.reason for part in cut.bad]
    return rows, bad


# A lone carriage return is a line's end for some and text for others; a line inside a cell that is itself a
# whole row is taken for damage.
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)
_CELL = _TEXT.filter(lambda text: "\n" not in text or "," not in text)


@given(
    st.lists(st.lists(_CELL, min_size=4, max_size=4).filter(lambda row: any(row)), max_size=6),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from([1, 7, 4096]),
)
def test_what_was_written_comes_back(rows: list[list[str]], end: str, quoting: Quoting, block: int) -> None:
    rows = [[f"x{row[0]}", *row[1:]] for row in rows]  # a blank line and a line of blanks are no rows
    assert read(written(rows, end, quoting), block) == (rows, [])


@pytest.mark.parametrize("block", [5, 4096])
@pytest.mark.parametrize(
    ("victim", "reason"),
    [
        (b'x,"y,z,w', "quotes that do not close"),
        (b'x,"y"z",w,v', "quotes that do not close"),
        (b"x,y,z", "a row of 3 cells under a header of 4"),
        (b"x,y,z,w,v", "a row of 5 cells under a header of 4"),
        (b"x,\xff,z,w", "not UTF-8"),
    ],
)
def test_damage_costs_one_row(victim: bytes, reason: str, block: int) -> None:
    data = written([["1", "b", "c", "d"]]) + victim + b"\n2,b,c,d\n3,b,c,d\n"
    rows, bad = read(data, block)
    assert [row[0] for row in rows] == ["1", "2", "3"]
    (found,) = bad
    assert reason in found


def test_a_cell_of_many_lines_is_one_row() -> None:
    text = 'Traceback\n\n  File "x", line 1\r\nError: a, b  \n'
    assert read(written([["1", text, "c", "d"], ["2", "", "", ""]])) == (
        [["1", text, "c", "d"], ["2", "", "", ""]],
        [],
    )


def test_a_row_that_is_too_long_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_text, "MAX_LINE_BYTES", 100)
    data = written([["1", "x\n" * 90, "c", "d"], ["2", "b", "c", "d"]])
    rows, bad = read(data)
    assert [row[0] for row in rows] == ["2"]
    assert bad


def test_without_a_header_there_are_no_rows() -> None:
    for first in (b"a,a\n", b"a,,b\n", b'"a\n', b"\xff,b\n"):
        assert header(first) == ()
        (found,) = rows_of(iter([first + b"1,2\n"]))
        assert (found.rows, len(found.bad)) == ([], 2)
    assert header(b'\xef\xbb\xbf# note\n\n"a" ,b\r\n') == ()
    assert header(b'\xef\xbb\xbf# note\n\n"a",b \r\n') == ("a", "b")
    assert header(b'{"a":1}\n') == ()


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("said", [False, True])
def test_the_header_tells_what_stands_between_cells(separator: str, said: bool) -> None:
    between = separator.encode()
    start = b"\xef\xbb\xbf" + (b"sep=" + between + b"\r\n" if said else b"")
    data = start + between.join([b"a", b"b c", b"d", b"e"]) + b"\r\n"
    assert header(data) == HEAD
    data += between.join([b"1", b'"x;\ty"', b"1,5", b""]) + b"\r\n" + b"1,2,3,4\r\n"
    assert read(data) == ([["1", "x;\ty", "1,5", ""]], ["a row of 1 cells under a header of 4"])
    assert header(b"sep=,\na,b;c\td\n") == ("a", "b;c\td")


def test_cells_are_those_of_csv() -> None:
    assert cells(b'"",a,""""') == ["", "a", '"']
    assert cells(b"") == [""]
    assert cells(b'a"b,c') is None


def test_quotes_without_end_take_no_more_than_twice_the_time() -> None:
    """Lines of an even number of quotes behind an odd one are looked at once more, not once for each."""
    data = written([]) + b'"a\n' + b'"b"\n' * 20_000
    rows, bad = read(data)
    assert (rows, len(bad)) == ([], 20_001)
