import bz2
import gzip
import io
import lzma
import random
from collections.abc import Callable

import pyarrow as pa
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


def zstandard(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


PACKERS = pytest.mark.parametrize(
    ("name", "pack"), [("bzip2", bz2.compress), ("xz", lzma.compress), ("Zstandard", zstandard)]
)


@PACKERS
def test_other_packers_are_known_by_their_bytes(name: str, pack: Callable[[bytes], bytes]) -> None:
    content, fault, sizes = unpack(pack(TEXT[:300_000]) + pack(TEXT[300_000:]))
    assert (content, fault) == (TEXT, ""), name
    assert set(sizes[:-1]) == {64 * 1024}


@PACKERS
def test_what_other_packers_hold_before_damage_is_given(name: str, pack: Callable[[bytes], bytes]) -> None:
    first = pack(TEXT[:100_000])
    for rest in (pack(TEXT[100_000:])[:-500], b"no stream of this kind"):
        content, fault, _ = unpack(first + rest)
        assert name in fault
        assert content[:100_000] == TEXT[:100_000] or not content
        assert TEXT.startswith(content)


@PACKERS
def test_a_bomb_of_other_packers_is_ended(
    monkeypatch: pytest.MonkeyPatch, name: str, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr("trailhawk.sources.unpack._FREE_BYTES", 1 << 20)
    content, fault, _ = unpack(pack(bytes(64 << 20)))
    assert fault == "unpacks to more than 400 times its size", name
    assert len(content) < 34 << 20


def test_a_packer_that_asks_for_much_memory_is_refused() -> None:
    large = lzma.compress(TEXT, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 512 << 20}])
    assert unpack(large)[1].startswith("xz stream is damaged (Memory usage limit")


def test_what_reading_raises_goes_through() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(4096)
            if not data:
                raise PermissionError("gone")
            return data

    for pack in (bz2.compress, lzma.compress, zstandard):
        with pytest.raises(PermissionError):
            list(Unpacked(Broken(pack(TEXT)[:-100])))
