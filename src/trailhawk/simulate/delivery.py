"""Log files as CloudTrail leaves them in a bucket: batches, late files, repeats and digests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from time import gmtime, strftime
from typing import NamedTuple

import orjson
from isal import igzip

from .digest import Digests, LogFile
from .record import Record
from .text import mixed
from .world import HOME_REGION, HOUR, MINUTE, SECURITY

SLOT = 5 * MINUTE
FULL = 25
"""A file is closed at the next five-minute mark once it holds this many records ..."""
QUIET_SPAN = 5
"""... or after this many marks: a quiet account and region does not get a file for every call."""
MOST_RECORDS = 600
LATEST = 40 * MINUTE
"""No record lies in a file stamped later than this after its event."""
TRAIL_BUCKET = f"example-trail-{SECURITY}"

Pair = tuple[str, str]


class _Written(NamedTuple):
    """A record waiting for its file, already as JSON."""

    at: int
    line: bytes


@dataclass(frozen=True)
class _Batch:
    pair: Pair
    stamp: int
    lines: tuple[_Written, ...]


@dataclass
class Tally:
    """What was written."""

    files: int = 0
    digests: int = 0
    records: int = 0
    """Records in all files, repeats included."""
    distinct: int = 0
    repeated: int = 0
    duplicate_files: int = 0
    late_files: int = 0
    latest_minutes: int = 0
    """The most that a file came after the oldest of its events."""
    bytes: int = 0


def trail_digests(rng: Callable[[str], Random]) -> Digests:
    """The digests of the simulation's trail; each region's key follows from its stream of chance."""
    return Digests(rng, bucket=TRAIL_BUCKET, trail="organization", home=HOME_REGION)


@dataclass
class Delivery:
    """Takes records in any order and writes files under `folder`; `flush` as time goes on."""

    folder: Path
    rng: Random
    digests: Digests
    tally: Tally = field(default_factory=Tally)
    _waiting: dict[Pair, list[_Written]] = field(default_factory=lambda: defaultdict(list))
    _folders: set[Path] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Queue a record for delivery."""
        self._waiting[record.account, record.region].append(_Written(record.at, orjson.dumps(record.body)))
        self.tally.distinct += 1

    def flush(self, until: int, *, last: bool = False) -> None:
        """Write every file that is complete at `until` (all of them at the `last` flush)."""
        for pair in sorted(self._waiting):
            batches, rest = _batches(pair, self._waiting[pair], until, last=last)
            self._waiting[pair] = rest
            self._write_all(batches)
        self._write_digests(until + HOUR if last else until)

    def _write_all(self, batches: list[_Batch]) -> None:
        if not batches:
            return
        picks = self.rng.sample(range(len(batches)), len(batches))
        late = set(picks[: max(1, len(batches) // 60)])
        twice = set(picks[-max(1, len(batches) // 150) :])
        carried: tuple[_Written, ...] = ()
        for number, batch in enumerate(batches):
            lines = list(batch.lines)
            if carried and batch.stamp - min(line.at for line in carried) <= LATEST:
                lines += carried
                self.tally.repeated += len(carried)
            carried = ()
            if self.rng.random() < 0.04:
                carried = tuple(self.rng.sample(batch.lines, min(len(batch.lines), self.rng.randint(1, 3))))
            stamp = batch.stamp
            slack = (LATEST - (stamp - min(line.at for line in lines))) // SLOT
            if number in late and slack > 0:
                stamp += SLOT * self.rng.randint(max(1, slack - 3), slack)
                self.tally.late_files += 1
            latest = (stamp - min(line.at for line in lines)) // MINUTE
            self.tally.latest_minutes = max(self.tally.latest_minutes, latest)
            # Inside a file records stand in no order.
            self.rng.shuffle(lines)
            self._write_log(batch.pair, stamp, lines)
            if number in twice:
                self._write_log(batch.pair, stamp, lines)
                self.tally.duplicate_files += 1
                self.tally.repeated += len(lines)

    def _write_log(self, pair: Pair, stamp: int, lines: list[_Written]) -> None:
        account, region = pair
        day = strftime("%Y/%m/%d", gmtime(stamp))
        minute = strftime("%Y%m%dT%H%MZ", gmtime(stamp))
        name = f"{account}_CloudTrail_{region}_{minute}_{mixed(self.rng, 16)}.json.gz"
        key = f"AWSLogs/{account}/CloudTrail/{region}/{day}/{name}"
        text = b'{"Records":[' + b",".join(line.line for line in lines) + b"]}"
        self._write(key, text)
        self.tally.files += 1
        self.tally.records += len(lines)
        times = [line.at for line in lines]
        log = LogFile(stamp, key, sha256(text).hexdigest(), min(times), max(times))
        self.digests.add(account, region, log)

    def _write(self, key: str, text: bytes) -> None:
        path = self.folder / key
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        content = igzip.compress(text, 1, mtime=0)
        self.tally.bytes += len(content)
        path.write_bytes(content)

    def _write_digests(self, until: int) -> None:
        for digest in self.digests.complete(until):
            self._write(digest.key, digest.text)
            # A folder has no metadata. Hidden, so that ingest passes it over.
            path = self.folder / digest.key
            path.with_name(f".{path.name}.head.json").write_bytes(digest.head)
            self.tally.digests += 1


def _batches(
    pair: Pair, waiting: list[_Written], until: int, *, last: bool
) -> tuple[list[_Batch], list[_Written]]:
    """Waiting records cut into files, and those whose file is not complete yet."""
    waiting.sort(key=lambda line: line.at)
    batches: list[_Batch] = []
    begin = 0
    for place, record in enumerate(waiting):
        first_slot, last_slot = waiting[begin].at // SLOT, record.at // SLOT
        following = waiting[place + 1].at // SLOT if place + 1 < len(waiting) else None
        count = place + 1 - begin
        if following is None and not last:
            break
        full = following != last_slot and (count >= FULL or following is None)
        quiet = following is not None and following - first_slot >= QUIET_SPAN
        if full or quiet or count >= MOST_RECORDS:
            stamp = (last_slot + 1) * SLOT
            if stamp > until and not last:
                break
            batches.append(_Batch(pair, stamp, tuple(waiting[begin : place + 1])))
            begin = place + 1
    return batches, waiting[begin:]
