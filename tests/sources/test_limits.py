"""Hostile and huge objects: bounded memory, bounded time, and the good records beside them are kept."""

import base64
import datetime as dt
import gzip
import io
import itertools
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trailhawk.sources import SOURCES, Unpacked, envelope, framing, unpack
from trailhawk.sources.cloudtrail import CloudTrail
from trailhawk.sources.cloudwatch import CloudWatch
from trailhawk.workspace import Workspace, utc_now

SOURCE = CloudTrail()
GOOD = json.dumps({"eventVersion": "1.11", "eventTime": "2026-03-01T09:30:00Z", "eventID": "good"}).encode()


def _counted(blocks: Iterator[bytes]) -> tuple[int, int]:
    records = bad = 0
    for chunk in SOURCE.chunks(blocks):
        records += len(chunk.records)
        bad += len(chunk.bad)
        assert len(chunk.records) <= framing.CHUNK_RECORDS + 1
    return records, bad


def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(size >> 20)) + packer.flush()


def test_a_bomb_goes_off_in_bounded_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "_FREE_BYTES", 4 << 20)
    unpacked = Unpacked(io.BytesIO(_bomb(64 << 20)), block=1 << 20)
    assert sum(map(len, unpacked)) < 32 << 20
    assert unpacked.fault == "unpacks to more than 400 times its size"
    # One bomb in another unpacks to the inner one, which is no log.
    nested = Unpacked(io.BytesIO(gzip.compress(_bomb(16 << 20))))
    assert next(iter(nested)).startswith(b"\x1f\x8b")
    # Small things may repeat themselves as they like.
    plain = GOOD * 1_000
    repeated = Unpacked(io.BytesIO(gzip.compress(plain)))
    assert (b"".join(repeated), repeated.fault) == (plain, "")


def test_a_bomb_of_bombs_goes_off_in_bounded_bytes() -> None:
    inner = _bomb(1 << 20) * 20_000  # 20 GB when both are unpacked
    outer = gzip.compress(inner)
    assert len(outer) < 200_000
    unpacked = Unpacked(io.BytesIO(outer))
    assert sum(map(len, unpacked)) < 6 << 20
    assert unpacked.fault == "unpacks to more than 4 times its size"
    # Logs packed twice are as large as packed once.
    twice = gzip.compress(gzip.compress(os.urandom(6 << 20)))
    unpacked = Unpacked(io.BytesIO(twice))
    assert (sum(map(len, unpacked)) > 6 << 20, unpacked.fault) == (True, "")


def test_what_a_bomb_held_before_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "_FREE_BYTES", 1 << 20)
    bomb = gzip.compress(b'{"Records":[' + GOOD + b"," + b" " * (16 << 20))
    assert _counted(iter(Unpacked(io.BytesIO(bomb), block=1 << 18))) == (1, 0)


@pytest.mark.parametrize("opening", [b"[", b'{"Records":[', b'{"a":'])
def test_nesting_without_end_is_one_bad_part(opening: bytes) -> None:
    deep = opening * 100_000
    for data in (deep, GOOD + b"\n" + deep + b"\n" + GOOD):
        records, bad = _counted(iter([data]))
        assert records == (2 if data.startswith(GOOD) and opening != b"[" else data.count(GOOD))
        assert bad <= 2


def test_a_record_nested_too_deep_costs_itself() -> None:
    inner = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
    deep = GOOD[:-1] + b',"requestParameters":' + inner + b"}"
    for data in (b'{"Records":[' + b",".join([GOOD, deep, GOOD]) + b"]}", b"\n".join([GOOD, deep, GOOD])):
        assert _counted(iter([data])) == (2, 1)


@pytest.mark.parametrize("depth", [240, 300, 900])
@pytest.mark.parametrize(
    "member",
    [
        '"unheard":[]',
        '"addendum":[]',
        '"userIdentity":{"type":[]}',
        '"userIdentity":{"unheard":[]}',
        '"tlsDetails":[]',
        '"requestParameters":[]',
        '"insightDetails":[]',
        '"@timestamp":1772357400,"unheard":[]',
        '"eventID":[]',
        '"eventTime":[]',
        '"eventType":"AwsAggregatedEvent","timeWindow":{"windowStart":[]}',
        '"eventType":"AwsAggregatedEvent","timeWindow":{},"summary":[]',
    ],
)
def test_a_member_nested_deep_costs_its_record_at_most(member: str, depth: int) -> None:
    """JSON is read deeper than it is written again."""
    deep = member.replace("[]", "[" * depth + "]" * depth).encode()
    record = b'{"eventVersion":"1.11",' + (
        b"" if b"eventT" in deep else b'"eventTime":"2026-03-01T09:30:00Z",'
    )
    (chunk,) = SOURCE.chunks(iter([b"\n".join([GOOD, record + deep + b"}", GOOD])]))
    rows = SOURCE.rows(chunk.records)
    assert [place for place in rows.kept if place != 1] == [0, 2]
    assert len(rows.kept) + len(rows.bad) == 3


def test_deep_records_of_one_id_are_compared(tmp_path: Path) -> None:
    deep = '{"a":' * 800 + "1" + "}" * 800
    text = GOOD.decode()[:-1] + f',"recipientAccountId":"1","requestParameters":{deep}' + "}"
    workspace = Workspace.open(tmp_path / "home", clock=lambda: utc_now() + dt.timedelta(seconds=1))
    found = []
    for number, each in enumerate((text, text.replace("1.11", "1.10"), text.replace(': "good"', ':"good"'))):
        (tmp_path / f"{number}.json").write_text('{"Records":[' + each + "]}")
        done = workspace.ingest([tmp_path / f"{number}.json"], lambda _: None)
        found.append((done.rows, done.duplicates, done.quarantined))
    assert found == [(1, 0, 0), (1, 0, 0), (0, 1, 0)]


@pytest.mark.parametrize(
    "unit",
    [
        b'{"eventVersion":',
        b'{"eventVersion":1 ',
        b'{"eventVersion":"',
        b'{"eventVersion":{"eventVersion":1},',
    ],
)
def test_starts_without_ends_take_no_square_of_the_time(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "_MAX_WASTE", 1 << 20)
    started = time.process_time()
    _counted(iter([unit * 60_000 + b"\n" + GOOD]))
    assert time.process_time() - started < 20


def test_balanced_nests_of_starts_take_no_square_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "_MAX_WASTE", 1 << 20)
    started = time.process_time()
    _counted(iter([b'{"eventVersion":' * 30_000 + b"1" + b"}" * 30_000]))
    assert time.process_time() - started < 20


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_the_end_of_an_oversized_record_is_found_however_its_bytes_come(size: int) -> None:
    record = json.dumps({"a{": 'b"}\\', "c": [{"d": "{" * 9}, "}\\\\"] * 700, "e": {}}).encode()
    walk = framing._Walk()
    data = record + b',{"f":1}'
    ends = ((start, walk.feed(data[start : start + size])) for start in range(0, len(data), size))
    assert next(start + end for start, end in ends if end is not None) == len(record)


@pytest.mark.parametrize("between", [b"", b"}\n", b"},"])
@pytest.mark.parametrize("junk", [b"x", b"{x", b"x{"])
def test_a_record_behind_sixteen_megabytes_that_are_none_is_kept(junk: bytes, between: bytes) -> None:
    data = b"x" + junk * ((16 << 20) // len(junk) + 100) + between + GOOD
    assert _counted(iter([data[: (16 << 20) + 2], data[(16 << 20) + 2 :]])) == (1, 2)
    assert _counted(iter([data[:-20], data[-20:]])) == (1, 1)


@pytest.mark.parametrize("unit", [b'{"eventVersion":{', b'{"eventVersion":"', b"{}x,"])
def test_what_is_cut_off_comes_in_chunks_of_bounded_size(unit: bytes) -> None:
    data = b'{"Records":[' + GOOD + b"," + unit * 50_000
    sizes = [len(chunk.bad) for chunk in SOURCE.chunks(iter([data]))]
    assert max(sizes) <= framing.CHUNK_RECORDS


def test_braces_without_ends_take_no_square_of_the_time() -> None:
    source = next(each for each in SOURCES if each.name == "guardduty")
    finding = b'{"schemaVersion":"2.0","accountId":"1","region":"x","id":"a","type":"b","service":{}}\n'
    started = time.process_time()
    chunks = list(source.chunks(iter([finding + b"{\n" * 500_000])))
    assert time.process_time() - started < 20
    assert (sum(len(each.records) for each in chunks), sum(len(each.bad) for each in chunks)) == (1, 500_000)


def test_short_lines_that_are_no_json_take_no_square_of_the_time() -> None:
    started = time.process_time()
    assert _counted(iter([b"x\n" * 250_000 + GOOD])) == (1, 250_000)
    assert time.process_time() - started < 10


def test_many_tiny_values_are_streamed() -> None:
    data = b'{"Records":[' + b"{}," * 600_000 + GOOD + b"]}"
    records, _ = _counted(iter([data]))
    assert records == 600_001


_LARGE = """
import itertools, json, pathlib, re, resource, sys
from trailhawk.sources import Unpacked
from trailhawk.sources.cloudtrail import CloudTrail
size = int(sys.argv[1])
record = json.loads(sys.argv[2])
records = (record | {"eventID": str(n), "userAgent": "x" * 900} for n in range(1000))
block = b",".join(json.dumps(each).encode() for each in records)

class Stream:
    def __init__(self):
        self.left = size // len(block)
        blocks = (block + b"," for _ in range(self.left))
        self.parts = itertools.chain([b'{"Records":['], blocks, [block, b"]}"])
    def read(self, size):
        return next(self.parts, b"")

source = CloudTrail()
count = bad = 0
for chunk in source.chunks(iter(Unpacked(Stream()))):
    rows = source.rows(chunk.records)
    count += rows.table.num_rows
    bad += len(chunk.bad) + len(rows.bad)
status = pathlib.Path("/proc/self/status")
if status.exists():  # what getrusage tells there may be the parent's peak
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) // 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(count, bad, (size // len(block) + 1) * 1000, peak)
"""


def test_records_of_any_size_on_one_line_are_read_in_bounded_memory() -> None:
    """TRAILHAWK_LARGE_BYTES=3000000000 for the real thing."""
    size = int(os.environ.get("TRAILHAWK_LARGE_BYTES", 80_000_000))
    command = [sys.executable, "-c", _LARGE, str(size), GOOD.decode()]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count, bad, expected, megabytes = map(int, output.split())
    assert (count, bad) == (expected, 0)
    assert megabytes < 1024


def test_an_object_of_many_blocks_keeps_its_places() -> None:
    records = [json.dumps(json.loads(GOOD) | {"eventID": str(n)}).encode() for n in range(300)]
    records[40], records[200] = records[40][:50], b'{"eventVersion": tru}'
    data = b'{"Records":[' + b",".join(records) + b"]}"
    for size in (777, 4096):
        found = []
        blocks = (data[at : at + size] for at in itertools.count(0, size) if at < len(data) + size)
        for chunk in SOURCE.chunks(itertools.takewhile(bool, blocks)):
            for place, record in enumerate(chunk.records):
                at = chunk.position(place)
                assert data[at : at + len(record)] == record
                found.append(record)
        assert found == [record for place, record in enumerate(records) if place not in (40, 200)]


def test_many_small_records_have_their_places_at_once() -> None:
    count = 200_000  # looked for from the start each time, these take an hour
    (first, *_) = chunks = list(SOURCE.chunks(iter([b'{"a":1}\n' * count])))
    assert sum(len(chunk.records) for chunk in chunks) == count
    assert [first.position(place) for place in (3, 0, 2)] == [24, 0, 16]
    assert [chunk.position(len(chunk.records) - 1) for chunk in chunks][-1] == 8 * (count - 1)
    last = chunks[-1]
    assert last.position(5) == 8 * (count - len(last.records) + 5)


def _packed(size: int) -> str:
    event = {"id": "1", "timestamp": 1772357400000, "message": "a" * size}
    inner = {"messageType": "DATA_MESSAGE", "logGroup": "g", "logStream": "s", "logEvents": [event]}
    return base64.b64encode(gzip.compress(json.dumps(inner).encode())).decode()


@pytest.mark.parametrize(
    "outer",
    [
        pytest.param(lambda data: {"Records": [{"kinesis": {"data": data}}] * 12}, id="in one object"),
        pytest.param(lambda data: {"awslogs": {"data": data}}, id="in lines"),
    ],
)
def test_bombs_in_envelopes_go_off_one_by_one(
    outer: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envelope, "_MAX_INFLATED", 4 << 20)
    monkeypatch.setattr(framing, "_MAX_GROWN", 4 << 20)
    monkeypatch.setattr(framing, "CHUNK_BYTES", 2 << 20)
    data = json.dumps(outer(_packed(1 << 20))).encode() + b"\n"
    held, records = 0, 0
    source = CloudWatch()
    for chunk in source.chunks(iter([data * 12])):
        held = max(held, sum(map(len, chunk.records)))
        records += len(chunk.records)
    assert records >= 12
    assert held < 8 << 20


def test_very_many_members_take_no_square_of_the_time() -> None:
    nothing = gzip.compress(b"")
    count = 4_000_000 // len(nothing)
    began = time.process_time()
    unpacked = Unpacked(io.BytesIO(nothing * count + gzip.compress(GOOD)))
    assert (b"".join(unpacked), unpacked.fault) == (GOOD, "")
    assert time.process_time() - began < 5  # 10 s when each was copied with all behind it; now below 1


@pytest.mark.parametrize("size", [1, 7, 20_000, 1 << 22])
def test_members_are_read_whatever_the_reads_give(size: int) -> None:
    parts = [os.urandom(length) for length in (0, 1, 15_000, 0, 70_000, 300_000, 5)]
    packed = io.BytesIO(b"".join(map(gzip.compress, parts)) + bytes(700))

    class Slow:
        def read(self, most: int, /) -> bytes:
            return packed.read(min(most, size))

    unpacked = Unpacked(Slow())
    assert (b"".join(unpacked), unpacked.fault) == (b"".join(parts), "")


def test_a_record_that_takes_more_memory_than_there_is_costs_none_of_its_neighbours() -> None:
    source = CloudTrail()
    source._connection().execute("SET memory_limit = '24MB'")
    good = {**json.loads(GOOD), "ofNoColumn": 1}
    bad = good | {"requestParameters": [1] * 4_000_000}
    rows = source.rows([json.dumps(record).encode() for record in (good, bad, good, good)])
    assert (rows.table.num_rows, list(rows.kept)) == (3, [0, 2, 3])
    ((place, reason),) = rows.bad
    assert place == 1
    assert reason.startswith("not a CloudTrail record that can be read: Out of Memory Error")
