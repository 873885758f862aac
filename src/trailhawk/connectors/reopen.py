"""Objects found again by their location: a file, or an object of S3 through the connector that brought it."""

from __future__ import annotations

import hashlib
import random
import re
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from trailhawk.connectors.config import Access, ConnectorSettings, S3Settings, SqsSettings
from trailhawk.connectors.folder import is_there, open_at
from trailhawk.connectors.objects import LogObject
from trailhawk.connectors.spool import kept
from trailhawk.sources import Source

if TYPE_CHECKING:
    from trailhawk.connectors.again import Find

_IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_S3: Final = re.compile(r"s3://(?P<bucket>[^/]+)/(?P<key>.+)", re.DOTALL)


class GoneError(OSError):
    """An object that is not there any more, or another: no later try will have it."""


def object_at(connectors: Mapping[str, ConnectorSettings]) -> Find:
    """A function that finds an object by its location; OSError where it cannot be had, by it or by opening.

    A bucket is asked with the rights of the connector that names it, else of one that takes any bucket, else
    with what the machine has.
    """
    fetchers: dict[Access, Callable[[str, str], LogObject]] = {}

    def find(location: str) -> LogObject:
        found = _S3.fullmatch(location)
        if not found:
            return LogObject(location, lambda: _file_at(location))
        access = access_for(found["bucket"], connectors)
        if access not in fetchers:
            fetchers[access] = _fetcher(access)
        return fetchers[access](found["bucket"], found["key"])

    return find


def body_or(connectors: Path, sources: Sequence[Source], find: Find) -> Find:
    """A function that finds a body which came over HTTP and was put aside, by a connector with a folder in
    this one, and any other object as `find` does."""

    def found(location: str) -> LogObject:
        body = kept(connectors, location)
        return find(location) if body is None else body.log_object(body.path.open("rb"), sources)

    return found


def unchanged(stream: BinaryIO, sha256: str) -> BinaryIO:
    """The bytes of an object, if they are those of this digest; GoneError if not."""
    digest = hashlib.sha256()
    # Closed by whom it is handed to.
    copy = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))  # noqa: SIM115
    with stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            copy.write(block)
    copy.seek(0)
    if digest.hexdigest() != sha256:
        copy.close()
        raise GoneError(0, "its bytes are not those that were taken then")
    return copy


def _file_at(location: str) -> BinaryIO:
    try:
        return open_at(location)
    except FileNotFoundError as error:
        if is_there(location):
            raise GoneError(error.errno, error.strerror) from None
        words = f"{error.strerror}; its folder is not there or empty, as one that is not mounted"
        raise FileNotFoundError(error.errno, words) from None


def access_for(bucket: str, connectors: Mapping[str, ConnectorSettings]) -> Access:
    """With whose rights a bucket is read."""
    others: list[Access] = []
    for settings in connectors.values():
        if isinstance(settings, S3Settings) and bucket in {each.bucket for each in settings.locations}:
            return settings.access
        if isinstance(settings, SqsSettings):
            if bucket in settings.buckets:
                return settings.access
            if not settings.buckets:
                others.append(settings.access)
    return others[0] if others else Access()


def _fetcher(access: Access) -> Callable[[str, str], LogObject]:
    # Here, since boto3 is not loaded for files alone.
    from trailhawk.connectors import credentials
    from trailhawk.connectors.config import Reading
    from trailhawk.connectors.fetch import Fetcher, RefusedError, log_object
    from trailhawk.connectors.notices import Notice
    from trailhawk.connectors.retry import Kind, Waits

    fetcher = Fetcher(
        credentials.s3_client(credentials.session(access), access),
        waits=Waits(random.Random()),
        stop=threading.Event(),
        attempts=4,
        max_bytes=Reading().max_object_bytes,
    )

    def fetch(bucket: str, key: str) -> LogObject:
        try:
            return log_object(fetcher.fetch(Notice(bucket, key)))
        except RefusedError as error:
            if error.fault.kind is Kind.GONE or error.fault.code == "NoSuchBucket":
                raise GoneError(0, error.reason) from error
            raise OSError(0, error.reason) from error

    return fetch
