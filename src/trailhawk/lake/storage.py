"""Where a table's files lie: a folder, or a bucket of any S3-compatible store with copies in a folder.

Data files never change once they are written, so a copy is as good as the file. In a bucket the table's log
alone decides: delta-rs commits with a conditional put (`If-None-Match`), which of two writers lets one win.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from trailhawk.errors import LakeError
from trailhawk.lake.files import DamagedFileError

if TYPE_CHECKING:
    import pyarrow.fs

_FETCHES: Final = 8
_BLOCK_BYTES: Final = 4 << 20
_END: Final = b"PAR1"  # of every Parquet file
_IN_USE_SECONDS: Final = 600
"""A copy that was asked for so lately may be open, or about to be, and is not removed."""


class Storage(Protocol):
    """The files of one table, by their paths in it. `root` is where they lie, or their copies."""

    @property
    def root(self) -> Path: ...

    @property
    def uri(self) -> str:
        """What delta-rs opens."""

    @property
    def options(self) -> dict[str, str] | None:
        """What delta-rs is told of the store."""

    @property
    def is_local(self) -> bool:
        """Whether what could not be written is not written later either."""

    def has_log(self) -> bool:
        """Whether there may be a table."""

    def is_newest(self, version: int) -> bool:
        """Whether it is plain at a glance that the log has no later version than this one."""

    def publish(self, path: str) -> None:
        """A new file was written below `root`: put it where the table's files lie."""

    def fetch(self, paths: Iterable[str]) -> None:
        """See to it that these files can be read below `root`; DamagedFileError where one is gone."""

    def renew(self, path: str) -> bool:
        """A file cannot be read: where this is a copy, copy it once more. Whether that was done."""

    def remove(self, path: str) -> None:
        """Delete a file; it need not exist."""

    def keep(self, version: int, paths: Iterable[str]) -> None:
        """See to it that a commit and its files outlast a loss of power."""


@dataclass(frozen=True)
class Folder:
    """Files in a local folder."""

    root: Path

    @property
    def uri(self) -> str:
        return str(self.root)

    @property
    def options(self) -> None:
        return None

    @property
    def is_local(self) -> bool:
        return True

    def has_log(self) -> bool:
        return (self.root / "_delta_log").is_dir()

    def is_newest(self, version: int) -> bool:
        # The oldest entries go first when the log is cleaned: while this one is there, the next would be too.
        this, later = (f"{self.root}/_delta_log/{number:020}.json" for number in (version, version + 1))
        return os.path.exists(this) and not os.path.exists(later)

    def publish(self, path: str) -> None:
        pass

    def fetch(self, paths: Iterable[str]) -> None:
        pass

    def renew(self, path: str) -> bool:
        return False

    def remove(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    def keep(self, version: int, paths: Iterable[str]) -> None:
        # The files themselves were synced when they were written, their names and the log were not: delta-rs
        # leaves that to the system.
        log = self.root / "_delta_log"
        for path in {log / f"{version:020}.json", log, *((self.root / path).parent for path in paths)}:
            _sync(path)


@dataclass(frozen=True, slots=True)
class S3:
    """A place for tables in a bucket, and how it is reached.

    Credentials are those of the environment: AWS's variables, a web identity, the instance's role. `url` is
    `s3://bucket/prefix`. `cache` is the folder of the copies, `cache_bytes` about how large it may get.
    """

    url: str
    cache: Path
    cache_bytes: int
    endpoint_url: str = ""
    region: str = ""

    def table(self, name: str) -> Bucket:
        return Bucket(self, name, self.cache / name)


@dataclass(frozen=True)
class Bucket:
    """Files of a table in a bucket, with copies below `root`."""

    place: S3
    name: str
    root: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _connected: list[pyarrow.fs.FileSystem] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return f"{self.place.url.rstrip('/')}/{self.name}"

    @property
    def options(self) -> dict[str, str]:
        options = {"AWS_REGION": self.place.region or os.environ.get("AWS_REGION", "us-east-1")}
        if self.place.endpoint_url:
            options["AWS_ENDPOINT_URL"] = self.place.endpoint_url
            options["AWS_ALLOW_HTTP"] = str(self.place.endpoint_url.startswith("http://")).lower()
        return options

    @property
    def is_local(self) -> bool:
        return False

    def has_log(self) -> bool:
        return True  # a look would cost as much as opening the table

    def is_newest(self, version: int) -> bool:
        return False  # to ask for an entry is as dear as to ask for the list

    def publish(self, path: str) -> None:
        try:
            with (
                (self.root / path).open("rb") as file,
                self._files.open_output_stream(self._key(path)) as out,
            ):
                while block := file.read(_BLOCK_BYTES):
                    out.write(block)
        except OSError as error:
            raise self._fault("written", path, error) from error
        self._make_room()

    def fetch(self, paths: Iterable[str]) -> None:
        missing = [path for path in paths if not self._touched(path)]
        if not missing:
            return
        with ThreadPoolExecutor(min(_FETCHES, len(missing))) as pool:
            list(pool.map(self._copy, missing))
        self._make_room()

    def renew(self, path: str) -> bool:
        try:
            self._copy(path)
        except DamagedFileError:
            return False
        return True

    def remove(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)
        try:
            self._files.delete_file(self._key(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._fault("removed", path, error) from error

    def keep(self, version: int, paths: Iterable[str]) -> None:
        pass  # what a store has answered for is kept

    @property
    def _files(self) -> pyarrow.fs.FileSystem:
        with self._lock:
            if not self._connected:
                from pyarrow.fs import S3FileSystem

                self._connected.append(
                    S3FileSystem(
                        endpoint_override=self.place.endpoint_url or None,
                        region=self.options["AWS_REGION"],
                    )
                )
            return self._connected[0]

    def _key(self, path: str) -> str:
        return f"{self.uri.removeprefix('s3://')}/{path}"

    def _touched(self, path: str) -> bool:
        """Whether there is a copy, which is thereby in use; one that was cut off is none."""
        try:
            os.utime(self.root / path)
            with (self.root / path).open("rb") as copy:
                copy.seek(max(0, os.fstat(copy.fileno()).st_size - len(_END)))
                return copy.read() == _END
        except FileNotFoundError:
            return False

    def _copy(self, path: str) -> None:
        """Copy a file whole, or not at all."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with self._files.open_input_file(self._key(path)) as file, unfinished.open("wb") as copy:
                while block := file.read(_BLOCK_BYTES):
                    copy.write(block)
                copy.flush()
                os.fsync(copy.fileno())  # else a loss of power may leave the name and not the bytes
            unfinished.replace(target)
        except FileNotFoundError as error:
            said = f"there is no {self.uri}/{path}"
            raise DamagedFileError(target, FileNotFoundError(errno.ENOENT, said)) from error
        except OSError as error:
            raise self._fault("read", path, error) from error
        finally:
            unfinished.unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Remove the copies not asked for the longest, of all tables, where there are too many bytes."""
        with self._lock:
            copies = sorted(_copies(self.place.cache), key=lambda copy: copy.used_at)
            surplus = sum(copy.size for copy in copies) - self.place.cache_bytes
            old = time.time() - _IN_USE_SECONDS
            for copy in copies:
                if surplus <= 0 or copy.used_at > old:
                    return
                copy.path.unlink(missing_ok=True)
                surplus -= copy.size

    def _fault(self, what: str, path: str, error: OSError) -> LakeError:
        reason = " ".join(str(error).split())
        return LakeError(f"{self.uri}/{path} cannot be {what}: {reason}", hint="see [lake] in trailhawk.toml")


def _sync(path: Path) -> None:
    """Have a file or folder on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return  # another process has committed since, and cleaned up
    try:
        os.fsync(handle)
    except OSError as error:
        raise LakeError(f"{path} cannot be written to the disk: {error.strerror}") from error
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class _Copy:
    path: Path
    size: int
    used_at: float


def _copies(cache: Path) -> Iterable[_Copy]:
    for path in cache.glob("*/*/*.parquet"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # another process has removed it
        yield _Copy(path, status.st_size, status.st_mtime)


def storage(place: Path | S3, name: str) -> Storage:
    """Where the table of this name lies."""
    return Folder(place / name) if isinstance(place, Path) else place.table(name)
