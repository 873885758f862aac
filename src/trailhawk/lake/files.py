"""Opening the lake's data files, so that a damaged one is told by its name wherever it is met.

Pages have checksums, as Parquet knows them; a footer has one of ours: it stands before it, where readers who
do not know it never look.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from trailhawk.errors import LakeError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_SEAL: Final = b"TrailCRC"
_SEAL_BYTES: Final = len(_SEAL) + 4
_END_BYTES: Final = 8
"""Of a Parquet file: the length of the footer, and `PAR1`."""


class DamagedFileError(LakeError):
    """A data file that is missing, cut off or damaged.

    `is_lasting` where the file itself is at fault, and not what stands between it and us: a disk that cannot
    be read, a right that lacks, too many open files.
    """

    def __init__(self, path: Path | str, reason: object) -> None:
        self.path = str(path)
        self.is_lasting = getattr(reason, "errno", None) in (None, errno.ENOENT)
        told = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        self.reason = (told.strip() or type(reason).__name__).splitlines()[0]
        super().__init__(
            f"the file {path} cannot be read: {self.reason}",
            hint="put it back from a backup, or see `trailhawk lake repair`; other files are as they were",
        )


@contextmanager
def opened(path: Path | str, *, dictionaries: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """A data file for reading, some text columns as dictionaries; what goes wrong in reading it comes as
    DamagedFileError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(
            path, read_dictionary=list(dictionaries), page_checksum_verification=True
        ) as file:
            if not _has_its_footer(path):
                raise DamagedFileError(path, "its footer is not the one that was written")
            yield file
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: of a column's name
        raise DamagedFileError(path, error) from error


def seal(file: BinaryIO) -> None:
    """Put the checksum of a Parquet file's footer before it."""
    end = file.seek(0, os.SEEK_END)
    start = end - _footer_bytes(file, end) - _END_BYTES
    file.seek(start)
    footer = file.read()
    file.seek(start)
    file.write(_SEAL + zlib.crc32(footer).to_bytes(4, "little") + footer)


def _has_its_footer(path: Path | str) -> bool:
    """Whether the footer of a Parquet file is that of its checksum; files of the first versions have none."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _footer_bytes(file, end) - _END_BYTES - _SEAL_BYTES))
        before, footer = file.read(_SEAL_BYTES), file.read()
    return not before.startswith(_SEAL) or before.endswith(zlib.crc32(footer).to_bytes(4, "little"))


def _footer_bytes(file: BinaryIO, end: int) -> int:
    file.seek(end - _END_BYTES)
    return int.from_bytes(file.read(4), "little")


def damaged(paths: Iterable[Path | str]) -> DamagedFileError | None:
    """The first of these files that cannot be read through, as an error; all that come before it are read."""
    for path in paths:
        try:
            with opened(path) as file:
                for group in range(file.num_row_groups):
                    file.read_row_group(group)
        except DamagedFileError as error:
            return error
    return None
