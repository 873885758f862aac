"""Lines of text logs: the same whatever the blocks, with their places, and no line held that is too long."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailhawk.sources.lines import CHUNK_LINES, MAX_LINE_BYTES, lines_of
from trailhawk.sources.source import BadPart


def cut(data: bytes, block: int) -> tuple[list[tuple[int, bytes]], list[BadPart]]:
    blocks: Iterator[bytes] = (data[at : at + block] for at in range(0, len(data), block))
    lines: list[tuple[int, bytes]] = []
    bad: list[BadPart] = []
    for piece in lines_of(blocks):
        assert len(piece.lines) == len(piece.starts) <= CHUNK_LINES
        lines += zip(piece.starts, piece.lines, strict=True)
        bad += piece.bad
    return lines, bad


@given(st.binary(max_size=200), st.integers(1, 64))
def test_lines_are_those_that_splitting_gives(data: bytes, block: int) -> None:
    lines, bad = cut(data, block)
    assert not bad
    assert [line for _, line in lines] == [line.rstrip() for line in data.split(b"\n") if line.strip()]
    assert all(data[at : at + len(line)] == line for at, line in lines)


@pytest.mark.parametrize("block", [1 << 25, 100_000, 777_777])
@pytest.mark.parametrize("size", [MAX_LINE_BYTES + 1, 3 * MAX_LINE_BYTES])
@pytest.mark.parametrize("ending", [b"", b"\n", b"\nlast\n"])
def test_a_line_that_is_too_long_is_set_aside(block: int, size: int, ending: bytes) -> None:
    huge = b"x" * size
    data = b"first\n" + huge + ending
    lines, bad = cut(data, block)
    assert lines == [(0, b"first"), *([(7 + size, b"last")] if b"last" in ending else [])]
    (part,) = bad
    assert (part.start, part.size, part.reason) == (6, size, "line longer than 1 MB")
    assert part.sha256 == hashlib.sha256(huge).hexdigest()
    assert len(part.head) == 64 * 1024


def test_many_lines_come_in_several_pieces() -> None:
    lines, _ = cut(b"a\n" * (CHUNK_LINES * 2 + 5), 1 << 20)
    assert len(lines) == CHUNK_LINES * 2 + 5
    assert lines[-1][0] == 2 * (CHUNK_LINES * 2 + 4)
