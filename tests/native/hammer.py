"""Runs the kernel over mutated input: `python hammer.py OBJECT ROUNDS`, with an object that watches itself;
`python hammer.py OBJECT short`, where memory is short.

What it gives is tested elsewhere. Here it only has to stay within its buffers, each of which is an allocation
of its own, and to end. It may refuse what it is given.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np

from trailhawk.native import build, kernel
from trailhawk.native.records import Paths, Reader, Want, joined, used
from trailhawk.native.terms import TermSet, fill

_PIECES = (
    b"10.0.0.7 ",
    b"a.b.c.d.e",
    b"Z" * 70,
    b'{"key":"value"}',
    "\u0130\u017f\u212aé—".encode(),
    b"\xe2\x84",
    b"\x00\xff",
)


def terms(library: ctypes.CDLL, rng: Random) -> None:
    """Texts with offsets of which some are wrong, and filters of all sizes."""
    data = np.array(list(_bytes(rng)), np.uint8)
    count = rng.randrange(12)
    offsets = np.sort(np.array([rng.randrange(len(data) + 1) for _ in range(count)], np.int32))
    if count and rng.random() < 0.3:
        offsets[rng.randrange(count)] = rng.choice([-1, len(data) + 1, 2**31 - 1, -(2**31)])
    bits = np.array([rng.randrange(256) for _ in range(rng.randrange(4))], np.uint8)
    with suppress(ValueError):
        used(offsets, rng.choice([0, 1, 50, 500]))
    found = TermSet(library, rng.choice([-1, 0, 2_000, 10_000]))
    with suppress(ValueError):
        for _ in range(rng.randrange(3)):
            found.add(data, offsets, bits, rng.choice([0, 0, 3, 20, -1, 2**63 - 1]))
        library.text_hashes(data, len(data), offsets, max(0, count - 1), np.empty(count, np.uint64))
        hashes = found.hashes()
        fill(library, hashes, np.zeros((rng.randrange(9), rng.choice([4, 5, 6, 512])), np.uint8))


def _bytes(rng: Random) -> bytes:
    whole = bytearray(b"".join(rng.choices(_PIECES, k=rng.randrange(30))))
    if rng.random() < 0.02:  # more different terms than there is room for at first
        whole += b"-".join(b"%d" % rng.getrandbits(40) for _ in range(2_000))
    for _ in range(rng.randrange(4)):
        if whole:
            whole[rng.randrange(len(whole))] = rng.randrange(256)
    return bytes(whole[: rng.randrange(len(whole) + 1)])


def terms_without_end(library: ctypes.CDLL) -> None:
    """More terms than there is memory for, and then some more."""
    found = TermSet(library)
    refused = 0
    for start in range(0, 300_000, 10_000):
        data = np.frombuffer(b"-".join(b"%x" % (start + place) for place in range(10_000)), np.uint8)
        try:
            found.add(data, np.array([0, len(data)], np.int32))
        except MemoryError:
            refused += 1
    assert refused > 1, "there was memory"


_RECORDS = (
    b'{"eventTime":"2026-03-01T09:30:00Z","eventName":"GetObject","n":{"a":[1,-2.5e3,true,null,"x"]}}',
    b'{"eventTime" : "2026-02-29T09:30:00Z", "eventName":null,"readOnly":false ,"n":[]}',
    '{"eventTime":"2200-12-31T23:59:59Z","eventName":"a\\u00e9\\ud83d\\ude00\\"é","n":{"a":{"b":"c"}}}'.encode(),
    b'{"eventTime":"2026-03-01T09:30:00Z","n":{"a":1,"b":{"c":[{},{"d":0,"d":0}]}}}',
    b'{"unheard":1}',
    b"[" * 70,
)


def records(_: ctypes.CDLL, rng: Random) -> None:
    """Lists of records, records alone and texts with paths, mostly damaged; all that is found is read."""
    members = [("eventTime", Want.TIME), ("eventName", Want.TEXT), ("readOnly", Want.FLAG), ("n", Want.ANY)]
    reader = Reader(members, ["eventName", "n"])
    texts = [_damaged(rng, record) for record in rng.choices(_RECORDS, k=rng.randrange(1, 6))]
    whole = b'{"Records":[' + b",".join(texts) + b"]}"
    runs = [run for text in (whole, _damaged(rng, whole)) if (run := reader.cut(text, 12)) is not None]
    asked = [texts, joined([*runs, *runs])] if runs else [texts]
    for each in asked:
        found = reader.read(each)
        for slices in reader.by_name(found).values() if found is not None else ():
            strings = slices.strings()
            slices.doubled()
            slices.strings(as_json=True)
            list(map(slices.bytes_at, range(len(slices.forms))))
            for path in Paths([["a"], ["a", "b"], ["n", "a"]]).read(strings)[0]:
                path.strings()


def _damaged(rng: Random, text: bytes) -> bytes:
    octets = bytearray(text)
    for _ in range(rng.choice([0, 0, 1, 3])):
        octets[rng.randrange(len(octets))] = rng.choice(b'"\\{}[],:u0 \xff\x00' + bytes([rng.randrange(256)]))
    return bytes(octets[: rng.randrange(len(octets) + 1)] if rng.random() < 0.2 else octets)


HAMMERS = (terms, records)
SHORT_OF_MEMORY = (terms_without_end,)


def main(path: str, rounds: str) -> None:
    build.OBJECT = Path(path)
    library = kernel.library()
    assert library is not None, "the object is not of these sources"
    if rounds == "short":
        for hammer_once in SHORT_OF_MEMORY:
            hammer_once(library)
        return
    for seed in range(int(rounds)):
        for hammer in HAMMERS:
            hammer(library, Random(seed))


if __name__ == "__main__":
    main(*sys.argv[1:])
