"""An object of S3 as an open file: checked, asked for again where the network broke.

It is read whole, into memory or a file without a name. A very large one, and one for which the folder of
temporary files has no room, is read as the ingest asks for it, and needs no room at all.
"""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn, TypeVar, cast

from botocore import exceptions as aws

from trailhawk.connectors.connector import Taker
from trailhawk.connectors.notices import Notice
from trailhawk.connectors.objects import BrokenOffError, LogObject, Outcome
from trailhawk.connectors.pace import Pace
from trailhawk.connectors.retry import REFUSALS, Fault, Kind, Waits, fault_of, retried
from trailhawk.connectors.streamed import Ask, Streamed
from trailhawk.files import closed_on_failure, has_room

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, GetObjectRequestTypeDef

T = TypeVar("T")

_IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_ON_DISK_BYTES: Final = 8 * _IN_MEMORY_BYTES
_SHARE: Final = 4  # of the free room one object takes at most: others are read at the same time
_BLOCK: Final = 1024 * 1024
_PARTIAL: Final = 206


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object that was read: `notice` is completed by what S3 said of it; the file stands at its start."""

    notice: Notice
    file: BinaryIO


class RefusedError(OSError):
    """An object that cannot be had."""

    def __init__(self, location: str, fault: Fault) -> None:
        super().__init__(f"{location}: {fault}")
        self.fault = fault

    @property
    def reason(self) -> str:
        """The service's words, and ours where they mislead."""
        named = any(right in self.fault.words for right in ("kms:", "s3:GetObject"))  # no words mislead then
        return f"{self.fault}{'' if named else _OURS.get(self.fault.code, '')}"


class _NoRoomError(Exception):
    """The folder of temporary files is full."""


class BrokenReadError(BrokenOffError):
    """The reading of an object broke off, and going on was refused."""

    def __init__(self, refused: RefusedError) -> None:
        super().__init__(str(refused))
        self.refused = refused


_OURS: Final = {
    "NoSuchKey": " (deleted after the notice of it was sent)",
    "AccessDenied": " (or it was deleted: without s3:ListBucket S3 says the same of both)",
    "InvalidObjectState": " (archived: restore it, then list the bucket again)",
    "PermanentRedirect": " (the bucket is in another region than region or endpoint_url say)",
    "AuthorizationHeaderMalformed": " (the bucket is in another region than region or endpoint_url say)",
    "PreconditionFailed": " (overwritten after the notice of it was sent)",
}


class Fetcher:
    """Reads objects of S3. Safe to use from several threads."""

    def __init__(
        self,
        client: S3Client,
        *,
        waits: Waits,
        stop: threading.Event,
        attempts: int | None,
        max_bytes: int,
        told: Callable[[Fault], None] = lambda _: None,
        pace: Pace | None = None,
    ) -> None:
        self._client = client
        self._pace = pace or Pace()
        self._waits = waits
        self._stop = stop
        self._attempts = attempts
        self._max_bytes = max_bytes
        self._told = told

    def fetch(self, notice: Notice) -> Fetched:
        """The object of a notice; RefusedError where it cannot be had, BrokenReadError where that shows while
        it is read.

        The very content that was announced is asked for (by etag, which needs no right beyond s3:GetObject).
        If it was overwritten meanwhile, the announced version is, where the bucket keeps versions; else the
        newest content is taken and known by its own etag, so that its own notice finds it taken.
        """
        if notice.size is not None and notice.size > self._max_bytes:
            self._too_large(notice, notice.size)
        try:
            return self._retried(lambda: self._fetch(notice))
        except REFUSALS as error:
            raise RefusedError(notice.location, fault_of(error)) from error

    def _retried(self, ask: Callable[[], T]) -> T:
        return retried(ask, self._waits, self._stop, attempts=self._attempts, told=self._told)

    def _fetch(self, notice: Notice) -> Fetched:
        try:
            return self._read(notice, {"IfMatch": f'"{notice.etag}"'} if notice.etag else {})
        except aws.ClientError as error:
            if not notice.etag or not _was_replaced(error):
                raise
            if notice.version and (found := self._read_version(notice)):
                return found
            if fault_of(error).kind is Kind.GONE:
                raise
        return self._read(replace(notice, etag="", version=""), {})

    def _read_version(self, notice: Notice) -> Fetched | None:
        """The announced version; None where it may not be read or is gone too."""
        try:
            return self._read(notice, {"VersionId": notice.version})
        except aws.ClientError as error:
            if fault_of(error).kind in (Kind.GONE, Kind.DENIED):
                return None
            raise

    def _read(self, notice: Notice, which: GetObjectRequestTypeDef | dict[str, str]) -> Fetched:
        answer = self._client.get_object(Bucket=notice.bucket, Key=notice.key, **which)
        size = answer.get("ContentLength")  # a store behind a proxy may not say
        if size is not None and size > self._max_bytes:
            answer["Body"].close()
            self._too_large(notice, size)
        found = Notice(
            bucket=notice.bucket,
            key=notice.key,
            version=notice.version or answer.get("VersionId", ""),
            etag=answer.get("ETag", "").strip('"') or notice.etag,
            size=size,
        )
        if size is not None and (size > _ON_DISK_BYTES or not _has_room(size)):
            return Fetched(found, self._streamed(found, which, answer["Body"]))
        return Fetched(found, self._spooled(answer, found) or self._streamed(found, which, None))

    def _spooled(self, answer: GetObjectOutputTypeDef, notice: Notice) -> BinaryIO | None:
        """The body in memory, or in an unnamed file if it is large, None where there is no room for that;
        botocore checks its length."""
        # It is open when the ingest gets it, and closed by it.
        file = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))  # noqa: SIM115
        size = 0
        try:
            # Not `with answer["Body"]`: that gives the stream below it, which does not miss an end cut off.
            with closed_on_failure(file), closing(answer["Body"]) as body:
                while block := self._pace.read(body, _BLOCK):
                    size += len(block)
                    if size > self._max_bytes:
                        self._too_large(notice, size)
                    try:
                        file.write(block)
                    except OSError as error:
                        raise _NoRoomError from error
                file.seek(0)
        except _NoRoomError:
            return None
        return file

    def _streamed(
        self,
        notice: Notice,
        which: GetObjectRequestTypeDef | dict[str, str],
        body: StreamingBody | None,
    ) -> BinaryIO:
        def broken(error: Exception) -> BrokenReadError:
            return BrokenReadError(RefusedError(notice.location, fault_of(error)))

        def retry(read: Callable[[], bytes]) -> bytes:
            def once() -> bytes:
                try:
                    return read()
                except aws.FlexibleChecksumError as error:  # some of what was given already is damaged
                    raise broken(error) from error

            try:
                return self._retried(once)
            except BrokenReadError:
                raise
            except (*REFUSALS, OSError) as error:
                raise broken(error) from error

        stream = Streamed(body, self._rest(notice, which), retry, self._pace, size=notice.size)
        return io.BufferedReader(stream, _BLOCK)

    def _rest(self, notice: Notice, which: GetObjectRequestTypeDef | dict[str, str]) -> Ask:
        """Asks for the rest of an object that was begun: of this very content, or not at all."""
        same = {"IfMatch": f'"{notice.etag}"'} if notice.etag else {}

        def ask(place: int) -> tuple[StreamingBody, int]:
            behind = {"Range": f"bytes={place}-"} if place and place != notice.size else {}
            asked: dict[str, str] = {**which, **same, **behind}  # type: ignore[dict-item]  # texts, all of them
            answer = self._client.get_object(Bucket=notice.bucket, Key=notice.key, **asked)  # type: ignore[arg-type]
            partial = answer["ResponseMetadata"]["HTTPStatusCode"] == _PARTIAL
            return answer["Body"], place if partial else 0

        return ask

    def _too_large(self, notice: Notice, size: int) -> NoReturn:
        words = f"{size:,} bytes are more than max_object_mib allows"
        raise RefusedError(notice.location, Fault(Kind.OTHER, "TooLarge", words))


def _has_room(size: int) -> bool:
    """Whether an object may be put into memory, or into the folder of temporary files without filling it."""
    try:
        return size <= _IN_MEMORY_BYTES or has_room(size, share=_SHARE)
    except OSError:
        return False  # there is no such folder


def _was_replaced(error: aws.ClientError) -> bool:
    return fault_of(error).kind is Kind.GONE or fault_of(error).code in ("PreconditionFailed", "412")


def identity(notice: Notice) -> str:
    """What an object is known by in the ledger: bucket, key and etag, or version where no etag is told.

    The etag comes first because listings of the newest versions, notices and S3 itself all tell it.
    """
    mark = notice.etag or notice.version
    return f"s3:{notice.bucket}/{notice.key}@{mark}" if mark else ""


def log_object(fetched: Fetched, source: str = "") -> LogObject:
    """A fetched object as the ingest takes it."""
    notice = fetched.notice
    return LogObject(
        location=notice.location,
        open=lambda: fetched.file,
        size=notice.size,
        bucket=notice.bucket,
        key=notice.key,
        version=notice.version,
        etag=notice.etag,
        source=source,
        identity=identity(notice),
    )


def take(taker: Taker, fetched: Fetched, done: Callable[[Outcome], None], *, source: str = "") -> None:
    """Bring a fetched object to the ingest; its file is closed when this raises or `done` is called."""

    def ended(outcome: Outcome) -> None:
        fetched.file.close()
        done(outcome)

    try:
        taker.take(log_object(fetched, source), ended)
    except BaseException:
        fetched.file.close()
        raise


def refused_object(notice: Notice, reason: str, *, source: str = "") -> LogObject:
    """An object that cannot be had, so that ledger and quarantine say so."""

    def refuse() -> BinaryIO:
        raise OSError(reason)

    return LogObject(
        location=notice.location,
        open=refuse,
        size=notice.size,
        bucket=notice.bucket,
        key=notice.key,
        version=notice.version,
        etag=notice.etag,
        source=source,
        identity=identity(notice),
        stamp=reason,
    )
