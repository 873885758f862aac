"""How fast the sources make rows of bytes: events a second of one core, without storing them.

`python bench/sources.py [--events N] [--source NAME]` makes objects of N distinct records in memory, and
reads each with its source: cut into records (chunks), and records mapped to rows. Processor time, best of
three. With `--store`, flow logs are also taken from a .gz file into a lake.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import gzip
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from fuzz_sources import CASES

from trailhawk import connectors, sources
from trailhawk.connectors.ingest import ingest
from trailhawk.lake import Lake
from trailhawk.sources import SOURCES, Source
from trailhawk.sources.vpc_flow import DEFAULT

ROUNDS = 3
HEADER = b" ".join(DEFAULT)


def flows(chance: random.Random, count: int) -> Iterator[bytes]:
    """Lines of the default format, all different."""
    for _ in range(count):
        start = 1772323200 + chance.randrange(86_400)
        octets = [chance.randrange(256) for _ in range(4)]
        yield (
            f"2 111122223333 eni-{chance.randrange(64):017x} 10.0.{octets[0]}.{octets[1]} "
            f"52.1.{octets[2]}.{octets[3]} {chance.randrange(1024, 65_536)} 443 6 {chance.randrange(1, 900)} "
            f"{chance.randrange(40, 10**6)} {start} {start + 60} ACCEPT OK"
        ).encode()


def custom_flows(chance: random.Random, count: int) -> Iterator[bytes]:
    """The same with eight fields more."""
    for line in flows(chance, count):
        yield line + b" vpc-0abc subnet-0abc i-0123456789abcdef0 18 IPv4 10.0.0.1 52.1.1.1 egress"


def accesses(chance: random.Random, count: int) -> Iterator[bytes]:
    """Lines of S3's access log, all different."""
    for _ in range(count):
        at = dt.datetime(2026, 3, 1) + dt.timedelta(seconds=chance.randrange(86_400))
        key = f"cards/2026/{chance.randrange(10**6)}.csv"
        size = chance.randrange(10**6)
        owner = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"
        request = chance.randrange(16**16)
        yield (
            f"{owner} cards [{at:%d/%b/%Y:%H:%M:%S} +0000] 10.0.0.{chance.randrange(256)} "
            f"arn:aws:sts::111122223333:assumed-role/web/i-0123456789abcdef0 {request:016X} REST.GET.OBJECT "
            f'{key} "GET /{key} HTTP/1.1" 200 - {size} {size} 70 10 "-" "aws-cli/2.17.60" - '
            f"{chance.randrange(16**40):040x}= SigV4 ECDHE-RSA-AES128-GCM-SHA256 AuthHeader "
            "cards.s3.eu-central-1.amazonaws.com TLSv1.3 - -"
        ).encode()


def numbered(name: str) -> Callable[[random.Random, int], Iterator[bytes]]:
    """The fuzz bench's good record of a source with another mark in each."""
    victim = CASES[name].victim

    def records(_: random.Random, count: int) -> Iterator[bytes]:
        for number in range(count):
            yield victim.replace(b"mark-victim", b"mark-%d" % number)

    return records


OTHERS = "proxy alb nlb guardduty securityhub route53 waf eks networkfirewall-flow"
RECORDS: dict[str, tuple[str, bytes, Callable[[random.Random, int], Iterator[bytes]]]] = {
    "vpcflow": ("vpcflow", HEADER + b"\n", flows),
    "vpcflow-custom": (
        "vpcflow",
        HEADER + b" vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr flow-direction\n",
        custom_flows,
    ),
    "s3access": ("s3access", b"", accesses),
    **{
        name: (name, b"", numbered(name))
        for name in (
            "proxy",
            "alb",
            "nlb",
            "guardduty",
            "securityhub",
            "route53",
            "waf",
            "eks",
            "networkfirewall-flow",
        )
    },
}


def measure(source: Source, data: bytes) -> tuple[int, float, float]:
    """Rows, and the best seconds for chunks alone and for all."""
    chunks = whole = float("inf")
    rows = 0
    for _ in range(ROUNDS):
        started = time.process_time()
        found = list(source.chunks(iter([data])))
        cut = time.process_time()
        rows = sum(source.rows(chunk.records).table.num_rows for chunk in found)
        done = time.process_time()
        chunks, whole = min(chunks, cut - started), min(whole, done - started)
    return rows, chunks, whole


def stored(data: bytes) -> tuple[int, float]:
    """Rows of a .gz file of flow logs in a lake, and the processor seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flow.log.gz"
        path.write_bytes(gzip.compress(data))
        lake = Lake(Path(folder) / "lake", [*sources.TABLES, *connectors.TABLES])
        started = time.process_time()
        summary = ingest(lake, [path], clock=lambda: dt.datetime(2026, 3, 3, tzinfo=dt.UTC))
        return summary.rows, time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--source", choices=[*RECORDS, "all"], default="all")
    parser.add_argument("--store", action="store_true", help="take flow logs into a lake, too")
    chosen = parser.parse_args()
    by_name = {source.name: source for source in SOURCES}
    gc.disable()  # as the ingest does
    for name, (source, header, records) in RECORDS.items():
        if chosen.source not in (name, "all"):
            continue
        data = header + b"\n".join(records(random.Random(1), chosen.events))
        rows, chunks, whole = measure(by_name[source], data)
        print(
            f"{name:22} {rows / whole:10,.0f} events/s  (chunks {rows / chunks:10,.0f})  "
            f"{len(data) / rows:5.0f} bytes an event",
            flush=True,
        )
        if chosen.store and name == "vpcflow":
            count, seconds = stored(data)
            print(f"{'':22} {count / seconds:10,.0f} events/s from a .gz file to committed rows", flush=True)


if __name__ == "__main__":
    main()
