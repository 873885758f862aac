"""Opening the lake's data files, so that a damaged one is told by its name wherever it is met."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trailhawk.errors import LakeError

if TYPE_CHECKING:
    import pyarrow.parquet as pq


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
            yield file
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: of a column's name
        raise DamagedFileError(path, error) from error


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
