"""The ledger of ingested objects, and how it and the quarantine follow a data table.

A batch's ledger and quarantine files are written before the data table's commit, and that commit names
them. The two tables take them over afterwards (`settle`), each remembering the data table's version up to
which it did. So the data table's log is the one truth, and recovery after a crash is the ordinary road.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trailhawk.errors import LakeError
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake import ConflictError, Delta, Lake, Staged, Transaction, UncommittedError
from trailhawk.lake.compaction import COMPACT
from trailhawk.lake.files import opened
from trailhawk.lake.table import fitted

if TYPE_CHECKING:
    from trailhawk.lake.seen import Hashes

_TEXT, _LONG, _TIME = KqlType.STRING, KqlType.LONG, KqlType.DATETIME

LEDGER: Final = Table(
    name="IngestLedger",
    description="One row for each object taken in (for a very large one, each part of it).",
    columns=(
        Column("TimeGenerated", _TIME, "When the batch of the object was prepared for storing."),
        Column("Object", _TEXT, "What it is known by: sha256 of a file's content; bucket, key and version."),
        Column("Location", _TEXT, "Where it was read."),
        Column("Bucket", _TEXT, "S3 bucket; empty for a file."),
        Column("Key", _TEXT, "S3 key; empty for a file."),
        Column("Version", _TEXT, "S3 version or etag; empty for a file."),
        Column("Size", _LONG, "Bytes as delivered, compressed or not."),
        Column(
            "Sha256", _TEXT, "Digest of the bytes as delivered; empty for the first parts of a large stream."
        ),
        Column("Source", _TEXT, "Log source that read it; empty if none knew it."),
        Column("TargetTable", _TEXT, "Table the rows went to; empty if no source knew the object."),
        Column(
            "State",
            _TEXT,
            "stored; part (more of the object follows); digest; quarantined (nothing of use); retried (taken"
            " out of quarantine; Records and Quarantined say by how much they change); lost (rows of it were"
            " in a damaged file; Records and Rows say how many less there are); doubled (rows that were there"
            " twice went; Rows and Duplicates say by how much they change); accepted (it is no fault any more"
            " that rows are lost; nothing changes).",
        ),
        Column("FirstRecord", _LONG, "Place of the part's first record in the object."),
        Column("Records", _LONG, "Records found: rows, duplicates, filtered and quarantined ones."),
        Column("Rows", _LONG, "Rows stored."),
        Column("Duplicates", _LONG, "Records stored before with equal payload."),
        Column("Filtered", _LONG, "Records left out by an ingest transform."),
        Column("Quarantined", _LONG, "Records or byte ranges put into quarantine."),
        Column("FirstEvent", _TIME, "Event time of the oldest record, stored or not."),
        Column("LastEvent", _TIME, "Event time of the newest record, stored or not."),
        Column("ReadTime", _TIME, "When the object was read."),
        Column("Worker", _TEXT, "Process that stored it, as its connector names it."),
        Column("Batch", _TEXT, "Id of the commit that stored it."),
    ),
    statistics=("Object",),
)

AGAIN: Final = "again:"
"""Begins the identity of an object that is read once more for the rows a filter had dropped."""

LOST: Final = "lost"
DOUBLED: Final = "doubled"
ACCEPTED: Final = "accepted"
"""States of entries that a repair of the lake writes."""

INGEST: Final = "ingest"
"""Application id of ingesting writers on a data table."""


def object_hash(key: str) -> tuple[int, int]:
    """128 bits of a key's SHA-256 as the two stored hashes, so that two objects never count as one."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True), int.from_bytes(digest[8:16], "big", signed=True)


def part_key(key: str, first_record: int) -> str:
    """The key of an unfinished part of an object."""
    return f"{key}#{first_record}"


RESTORED: Final = "![0-9a-f]{32}$"
"""A pattern: how the identity ends of an object that is read again for rows it lost."""

_FIRST: Final = re.compile(rf"(?:{AGAIN}\d+:)*(?P<object>.*?)(?:![0-9a-f]{{32}})*", re.DOTALL)


def restored_key(key: str, given_up: str) -> str:
    """The key of an object that is read again for the rows it lost in the commit of this id."""
    return f"{key}!{given_up}"


def first_key(key: str) -> str:
    """What an object was first known by, however often it was read again."""
    found = _FIRST.fullmatch(key)
    return found["object"] if found else key


def is_of_repair(key: str, state: str) -> bool:
    """Whether an entry tells of rows that a repair of the lake took away or brought back."""
    return state in (LOST, DOUBLED, ACCEPTED) or re.search(RESTORED, key) is not None


_RECENT_PAIRS = 10_000


class Taken:
    """The objects that the ledger knows, read once and then kept up: 16 bytes for each."""

    def __init__(self, lake: Lake) -> None:
        self._delta = lake.delta(LEDGER.name)
        self._files: set[str] = set()
        self._recent: set[tuple[int, int]] = set()
        self._ids: Hashes = np.empty(0, np.int64)
        self._keys: Hashes = np.empty(0, np.int64)

    def refresh(self) -> None:
        """Read what was added since the last look."""
        from trailhawk.lake.seen import read_hashes

        self._delta.refresh()
        live = set(self._delta.live())
        fresh = sorted(live - self._files)
        ids, keys = read_hashes(self._delta.file(path) for path in fresh)
        self._files = live
        if len(ids) + len(self._recent) <= _RECENT_PAIRS:
            self._recent.update(zip(ids.tolist(), keys.tolist(), strict=True))
            return
        recent = np.array(list(self._recent), np.int64).reshape(-1, 2)
        self._recent = set()
        pairs = np.stack(
            [
                np.concatenate([self._ids, recent[:, 0], ids]),
                np.concatenate([self._keys, recent[:, 1], keys]),
            ]
        )
        self._ids, self._keys = np.unique(pairs, axis=1)  # a compacted file brings what is known already

    def __contains__(self, key: str) -> bool:
        identity, payload = object_hash(key)
        if (identity, payload) in self._recent:
            return True
        low = int(self._ids.searchsorted(identity))
        high = low
        while high < len(self._ids) and self._ids[high] == identity:
            high += 1
        return payload in self._keys[low:high].tolist()

    def parts_of(self, key: str) -> tuple[int, str]:
        """How many records of an unfinished object are stored, and the log source that read them."""
        found, source = 0, ""
        for path in self._files:
            with opened(self._delta.file(path)) as file:
                rows = file.read(columns=["Object", "State", "Records", "Source"]).to_pylist()
            for row in rows:
                if row["Object"] == key and row["State"] == "part":
                    found, source = found + row["Records"], row["Source"]
        return found, source


def settle(lake: Lake, data_table: str, followers: Iterable[str]) -> int:
    """Let the ledger and the quarantine take over what commits of the data table name; how many files.

    Looks at the data table's newest state. Safe beside others that do the same.
    """
    data = lake.delta(data_table)
    version = data.refresh()
    return sum(_follow(lake.delta(name), data, version) for name in followers) if version >= 0 else 0


def _follow(table: Delta, data: Delta, version: int) -> int:
    table.create()
    if is_ahead(table, data):
        raise LakeError(
            f"table {data.table.name} is older than what {table.table.name} has seen of it",
            hint="as in a copy that was made while the lake was written to: see `trailhawk lake repair`",
        )
    while (known := table.transaction(data.table.name)) < version:
        notes = [commit.note for commit in data.notes(known) if commit.version <= version]
        named = [Staged(**file) for note in notes for file in _files(note, table.table.name)]
        gone = {row for note in notes for row in note.get("release", {}).get(table.table.name, ())}
        if not named and not gone and version - known < 100:
            return 0  # compactions only: not worth a commit
        rest, retired = _without(table, gone) if gone else ((), ())
        try:
            table.commit(
                [*named, *rest],
                remove=retired,
                transaction=Transaction(data.table.name, version),
                also=Transaction(COMPACT, table.transaction(COMPACT) + 1) if retired else None,
            )
        except ConflictError:
            table.discard(rest)
            continue  # another process was faster; what is left to do shows in the new state
        except UncommittedError:
            table.discard(rest)
            raise
        return len(named)
    return 0


def is_ahead(follower: Delta, data: Delta) -> bool:
    """Whether a follower's state last looked at is of a version that the data table has not any more. May
    look at a newer state of the data table."""
    known = follower.transaction(data.table.name)
    return known > 0 and known > data.version and known > data.refresh()


def set_back(follower: Delta, data: Delta) -> None:
    """Let a follower that is ahead of the data table take over what is committed there from now on."""
    while follower.refresh() >= 0 and is_ahead(follower, data):
        with suppress(ConflictError):  # another process was faster
            follower.commit([], transaction=Transaction(data.table.name, data.version))


def _without(table: Delta, gone: set[str]) -> tuple[tuple[Staged, ...], tuple[str, ...]]:
    """New files for those that hold rows with these values of `Id`, without these rows; and the old ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    retired: list[str] = []
    rest: list[Staged] = []
    for path in sorted(table.live()):
        with opened(table.file(path)) as file:
            leaves = pc.is_in(file.read(columns=["Id"])["Id"], pa.array(sorted(gone), pa.string()))
            if not pc.any(leaves).as_py():
                continue  # its other columns, which are large, are not read
            rows = file.read()
        retired.append(path)
        rest += table.stage(fitted(rows.filter(pc.invert(leaves)), table.table))
    return tuple(rest), tuple(retired)


def _files(note: Any, table: str) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = note.get("follow", {}).get(table, [])
    return files
