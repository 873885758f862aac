"""What cannot be is refused by the kernel's terms, whatever is said of the buffers."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from trailhawk.native.terms import TermSet, fill

DATA = np.frombuffer(b"one two", np.uint8)


@pytest.mark.parametrize(
    "offsets", [[-1, 3], [0, 8], [3, 0], [0, 7, 3], [0, -(2**31)], [2**31 - 1, 2**31 - 1], [8, 8]]
)
def test_offsets_outside_of_the_text_are_refused(compiled: ctypes.CDLL, offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="terms_add"):
        TermSet(compiled).add(DATA, np.array(offsets, np.int32))


def test_no_offset_at_all_is_refused(compiled: ctypes.CDLL) -> None:
    with pytest.raises(ValueError, match="terms_add"):
        TermSet(compiled).add(DATA, np.empty(0, np.int32))


@pytest.mark.parametrize("first", [-1, 6, 2**62, 2**63 - 1])
def test_bits_outside_of_those_given_are_refused(compiled: ctypes.CDLL, first: int) -> None:
    offsets = np.array([0, 3, 4, 7], np.int32)
    bits = np.array([0b0010_0000], np.uint8)
    found = TermSet(compiled)
    assert found.add(DATA, offsets, bits, 5)
    assert len(found.hashes()) == 1
    with pytest.raises(ValueError, match="terms_add"):
        TermSet(compiled).add(DATA, offsets, bits, first)


def test_an_array_of_another_kind_is_refused(compiled: ctypes.CDLL) -> None:
    for offsets in (np.array([0, 7], np.int64), np.array([0, 0, 7, 7], np.int32)[::2]):
        with pytest.raises(ctypes.ArgumentError):
            TermSet(compiled).add(DATA, offsets)  # type: ignore[arg-type]  # that is what is tested


def test_a_character_cut_by_the_end_of_a_value_is_none(compiled: ctypes.CDLL) -> None:
    data = np.frombuffer("\u0130\u017f\u212a".encode(), np.uint8)
    assert TermSet(compiled).add(data, np.array([0, 1, 2, 3, 4, 5, 6, 7], np.int32))
    for start, end in ((0, 2), (2, 4), (4, 7)):
        assert not TermSet(compiled).add(data, np.array([start, end], np.int32))


def test_pages_that_hold_nothing_are_refused(compiled: ctypes.CDLL) -> None:
    for shape in ((0, 512), (1, 4), (1, 0)):
        with pytest.raises(ValueError, match="terms_fill"):
            fill(compiled, np.zeros(1, np.uint64), np.zeros(shape, np.uint8))


@pytest.mark.parametrize("expected", [-1, 0, 1_000, 600_000, 2**63 - 1])
def test_there_may_be_more_or_fewer_terms_than_expected(compiled: ctypes.CDLL, expected: int) -> None:
    data = np.frombuffer(b"-".join(b"term%d" % (number % 3_000) for number in range(9_000)), np.uint8)
    found = TermSet(compiled, expected)
    assert found.add(data, np.array([0, len(data)], np.int32))
    assert len(set(found.hashes().tolist())) == len(found.hashes()) == 3_000
