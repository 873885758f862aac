import gzip
import io
import random

import pytest

from trailhawk.sources import Unpacked

TEXT = random.Random(3).randbytes(200_000).hex().encode()


def unpack(data: bytes, block: int = 64 * 1024) -> tuple[bytes, str, list[int]]:
    unpacked = Unpacked(io.BytesIO(data), block=block)
    blocks = list(unpacked)
    return b"".join(blocks), unpacked.fault, [len(part) for part in blocks]


@pytest.mark.parametrize("data", [b"", b"x", TEXT])
def test_plain_bytes_come_as_they_are(data: bytes) -> None:
    assert unpack(data)[:2] == (data, "")


def test_blocks_are_full_but_for_the_last() -> None:
    _, _, sizes = unpack(gzip.compress(TEXT))
    assert set(sizes[:-1]) == {64 * 1024}


def test_members_one_after_the_other_are_one_stream() -> None:
    members = gzip.compress(TEXT[:1000]) + gzip.compress(b"") + gzip.compress(TEXT[1000:]) + b"\0\0"
    assert unpack(members)[:2] == (TEXT, "")


def test_a_cut_stream_gives_what_it_holds() -> None:
    content, fault, _ = unpack(gzip.compress(TEXT)[:-5000])
    assert fault == "gzip stream ends early"
    assert TEXT.startswith(content)
    assert len(content) > 300_000


def test_a_damaged_stream_gives_what_stands_before_the_damage() -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[100_000:100_400] = bytes(400)
    content, fault, _ = unpack(bytes(packed))
    assert fault.startswith("gzip stream is damaged")
    assert TEXT.startswith(content[:100_000])
    assert len(content) > 100_000


@pytest.mark.parametrize("block", [1000, 64 * 1024, 8 * 1024 * 1024])
def test_damage_costs_the_same_in_blocks_of_any_size(block: int) -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[150_000:150_400] = bytes(400)
    whole = gzip.decompress(gzip.compress(TEXT))
    content, fault, _ = unpack(bytes(packed), block)
    assert fault.startswith("gzip stream is damaged")
    assert content[:250_000] == whole[:250_000]


def test_bytes_behind_the_stream_are_told() -> None:
    assert unpack(gzip.compress(TEXT) + b"tail")[:2] == (TEXT, "bytes after the end of the gzip stream")
