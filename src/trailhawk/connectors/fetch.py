"""An object of S3 as an open file: read whole, checked, asked for again where the network broke."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn, cast

from botocore import exceptions as aws

from trailhawk.connectors.connector import Taker
from trailhawk.connectors.notices import Notice
from trailhawk.connectors.objects import LogObject, Outcome
from trailhawk.connectors.retry import Fault, Kind, Waits, fault_of, retried

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, GetObjectRequestTypeDef

_IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_BLOCK: Final = 1024 * 1024


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
        return f"{self.fault}{_OURS.get(self.fault.code, '')}"


_OURS: Final = {
    "NoSuchKey": " (deleted after the notice of it was sent)",
    "AccessDenied": " (or it was deleted: without s3:ListBucket S3 says the same of both)",
    "InvalidObjectState": " (archived: restore it, then list the bucket again)",
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
    ) -> None:
        self._client = client
        self._waits = waits
        self._stop = stop
        self._attempts = attempts
        self._max_bytes = max_bytes
        self._told = told
        self._one_large = threading.Lock()  # large objects come one at a time: they take disk

    def fetch(self, notice: Notice) -> Fetched:
        """The object of a notice; RefusedError where it cannot be had.

        The very content that was announced is asked for (by etag, which needs no right beyond s3:GetObject).
        If it was overwritten meanwhile, the announced version is, where the bucket keeps versions; else the
        newest content is taken and known by its own etag, so that its own notice finds it taken.
        """
        if notice.size is not None and notice.size > self._max_bytes:
            self._too_large(notice, notice.size)
        try:
            if notice.size is not None and notice.size > 8 * _IN_MEMORY_BYTES:
                with self._one_large:
                    return self._retried(notice)
            return self._retried(notice)
        except (aws.BotoCoreError, aws.ClientError) as error:
            raise RefusedError(notice.location, fault_of(error)) from error

    def _retried(self, notice: Notice) -> Fetched:
        return retried(
            lambda: self._fetch(notice), self._waits, self._stop, attempts=self._attempts, told=self._told
        )

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
        size = answer["ContentLength"]
        if size > self._max_bytes:
            answer["Body"].close()
            self._too_large(notice, size)
        return Fetched(
            Notice(
                bucket=notice.bucket,
                key=notice.key,
                version=notice.version or answer.get("VersionId", ""),
                etag=answer.get("ETag", "").strip('"') or notice.etag,
                size=size,
            ),
            _spooled(answer),
        )

    def _too_large(self, notice: Notice, size: int) -> NoReturn:
        words = f"{size:,} bytes are more than max_object_mib allows"
        raise RefusedError(notice.location, Fault(Kind.OTHER, "TooLarge", words))


def _was_replaced(error: aws.ClientError) -> bool:
    return fault_of(error).kind is Kind.GONE or fault_of(error).code in ("PreconditionFailed", "412")


def _spooled(answer: GetObjectOutputTypeDef) -> BinaryIO:
    """The body in memory, or in an unnamed file if it is large; botocore checks its length."""
    # It is open when the ingest gets it, and closed by it.
    file = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))  # noqa: SIM115
    try:
        # Not `with answer["Body"]`: that gives the stream below it, which does not miss an end cut off.
        with closing(answer["Body"]) as body:
            shutil.copyfileobj(body, file, _BLOCK)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


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
