"""What connectors hand to the ingest: an object to take, what became of it, and what to do with its rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Lost:
    """Which rows an object is read again for: those with event times in [first, last] (without zone), as far
    as they are not there. `object` is what it was first known by in the ledger."""

    object: str
    first: dt.datetime
    last: dt.datetime


@dataclass(frozen=True, slots=True)
class LogObject:
    """An object to take, wherever it lies.

    `location` is for people: a path or s3://bucket/key. `open` gives its bytes as delivered, and raises
    OSError when it cannot be read (BrokenOffError, as reading may, where that is not its own fault). `size`
    is in bytes as delivered, if known. `source` names the log source where the connector knows it; '' lets
    name and first bytes tell. `identity` is what the object is known by in the ledger:
    's3:bucket/key@version-or-etag' for S3; '' stands for 'sha256:...' of its bytes.
    `stamp` changes when an object that could not be read is mended. `doubtful`: by its name it is no log;
    what no source knows is then passed over instead of quarantined. `lost`: it was taken before, and is read
    again for some of its rows; what of it is in quarantine is there already.
    """

    location: str
    open: Callable[[], BinaryIO]
    size: int | None = None
    bucket: str = ""
    key: str = ""
    version: str = ""
    etag: str = ""
    source: str = ""
    identity: str = ""
    stamp: str = ""
    doubtful: bool = False
    lost: Lost | None = None


class BrokenOffError(OSError):
    """The reading of an object broke off for a reason that is not the object's: it is to be brought again."""


OutcomeState = Literal["stored", "skipped", "digest", "quarantined", "unreadable", "unrecognised"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an object, told when the ledger holds it. records = rows + duplicates + filtered +
    quarantined.

    `skipped`: taken before, by this process or another. `quarantined`: no source knows it.
    `unreadable`: its bytes could not be had; it is set down in the quarantine once, and tried again
    whenever a connector brings it again. `unrecognised`: no log by its name and to no source; passed over
    and set down nowhere. `doubt`: why some of its rows may be stored twice, where a damaged file of the lake
    keeps that from being known. `table`: where its rows are; '' where that is not told.
    """

    state: OutcomeState
    location: str
    records: int = 0
    rows: int = 0
    duplicates: int = 0
    filtered: int = 0
    quarantined: int = 0
    doubt: str = ""
    table: str = ""


@dataclass(frozen=True, slots=True)
class TransformResult:
    """What a transform makes of rows: for each row in whether it stays, and those that stay, in order.

    `rows` may lack columns of the table, which are then empty, and may have no others.
    """

    kept: NDArray[np.bool_]
    rows: pa.Table


Transform = Callable[["pa.Table"], TransformResult]
"""Takes rows with a table's stored columns, without the hidden ones."""
