"""Where a trail's digests and logs lie: a bucket, or a folder with a copy of it."""

from __future__ import annotations

import datetime as dt
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import msgspec

from trailhawk.connectors.digest import Digest, Listed, Name, NamedLog
from trailhawk.errors import UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ROOT: Final = "AWSLogs"
_FOLDER: Final = "CloudTrail-Digest"
_LOGS: Final = "CloudTrail"
_MAX_COMPRESSED_DIGEST: Final = 64 << 20
_MAX_DEPTH: Final = 4
"""So many folders may a trail's prefix have, which come before `AWSLogs`."""
_LOG = re.compile(r"[^/]+_CloudTrail_[a-z0-9-]+_(?P<stamp>\d{8}T\d{4}Z)_[^/]+\.json(?:\.gz)?")
_DAY: Final = dt.timedelta(days=1)


def _in_range(name: Name, since: dt.datetime | None, until: dt.datetime | None) -> bool:
    return (since is None or name.end > since) and (until is None or name.end <= until)


def _stamped(name: str, since: dt.datetime, until: dt.datetime) -> bool:
    """Whether it is the name of a log file with a stamp in [since, until]."""
    match = _LOG.fullmatch(name)
    if match is None:
        return False
    try:
        stamp = dt.datetime.strptime(match["stamp"], "%Y%m%dT%H%MZ").replace(tzinfo=dt.UTC)
    except ValueError:
        return False
    return since <= stamp <= until


# --- folder -------------------------------------------------------------------------------------------------


class _Head(msgspec.Struct, frozen=True):
    Metadata: dict[str, str]


@dataclass(frozen=True)
class FolderDigest:
    """A digest in a folder. Its metadata is in a hidden file beside it, `.NAME.head.json`, as
    `aws s3api head-object` prints it; without one there is none."""

    path: Path
    name: Name

    @property
    def location(self) -> str:
        return self.path.as_posix()

    def is_place_of(self, digest: Digest) -> bool:
        # A folder has no bucket, and a bucket's prefix may have been left out of a copy.
        return _from_root(self.path.as_posix()) == _from_root(digest.key)

    def read(self) -> tuple[bytes, Mapping[str, str]]:
        if self.path.stat().st_size > _MAX_COMPRESSED_DIGEST:
            raise OSError(f"more than {_MAX_COMPRESSED_DIGEST:,} bytes")
        head = self.path.with_name(f".{self.path.name}.head.json")
        metadata: Mapping[str, str] = {}
        if head.exists():
            try:
                metadata = msgspec.json.decode(head.read_bytes(), type=_Head).Metadata
            except (msgspec.DecodeError, RecursionError) as error:
                raise OSError(f"{head.name} is not what `aws s3api head-object` prints: {error}") from None
        return self.path.read_bytes(), metadata


class FolderStore:
    """A copy of a trail's part of a bucket, at any depth of a folder, in AWS's layout (`AWSLogs/...`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._roots = (str(self._folder), os.path.realpath(self._folder))
        self._places: dict[str, str | None] = {}

    def digests(self, since: dt.datetime | None, until: dt.datetime | None) -> Iterator[FolderDigest]:
        for path in sorted(self._folder.rglob("*_CloudTrail-Digest_*.json*")):
            name = Name.of(path.name)
            if name is not None and path.is_file() and _in_range(name, since, until):
                yield FolderDigest(path, name)

    def digest(self, bucket: str, key: str) -> FolderDigest | None:
        return None  # the listing gave all there are

    def open_log(self, log: NamedLog, beside: str) -> BinaryIO | None:
        path = self._path(log, beside)
        try:
            return path.open("rb") if path else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def locate(self, log: NamedLog, beside: str) -> str:
        return str(self._path(log, beside) or f"s3://{log.bucket}/{log.key}")

    def place_of(self, bucket: str, key: str, location: str) -> str | None:
        if bucket or "://" in location or "\0" in location:
            return None
        above, name = os.path.split(location)
        if above not in self._places:  # asked for once, as each step of a path costs a call
            self._places[above] = self._place(above)
        place = self._places[above]
        return None if place is None else f"{place}/{name}"

    def logs(self, beside: str, region: str, since: dt.datetime, until: dt.datetime) -> Iterator[str]:
        folder = Path(beside.partition(f"/{_FOLDER}/")[0], _LOGS, region)
        for path in sorted(folder.rglob("*.json*")):
            if _stamped(path.name, since, until):
                yield path.as_posix()

    def regions(self) -> Iterator[tuple[str, str]]:
        for logs in sorted(self._folder.rglob(_LOGS)):
            for region in sorted(logs.iterdir()) if logs.is_dir() else ():
                yield f"{logs.parent.as_posix()}/{_FOLDER}/", region.name

    def _place(self, folder: str) -> str | None:
        """Where a folder that the ledger names lies in this one, as `digests` would name it.

        Older rows have paths as they were typed, so a relative one is looked for from where we are. It may
        have been typed elsewhere: it counts only where the folder above its `AWSLogs` is still there.
        """
        typed = Path(folder)
        for path, root in zip((str(typed.absolute()), os.path.realpath(folder)), self._roots, strict=True):
            if not Path(path).is_relative_to(root):
                continue
            place = self._folder / Path(path).relative_to(root)
            text = place.as_posix()
            base = text[: len(text) - len(_from_root(text))]
            return text if typed.is_absolute() or Path(base).is_dir() else None
        return None

    def _path(self, log: NamedLog, beside: str) -> Path | None:
        """None for a key that leads out of the folder: a digest may say anything."""
        base = beside[: len(beside) - len(_from_root(beside))]
        key = PurePosixPath(_from_root(log.key))
        return None if key.is_absolute() or ".." in key.parts or "\0" in log.key else Path(base, key)


def _from_root(path: str) -> str:
    """A path from `AWSLogs` on; from its last such part, as the folder's own path may have one too."""
    parts = path.split("/")
    place = len(parts) - 1 - parts[::-1].index(_ROOT) if _ROOT in parts else 0
    return "/".join(parts[place:])


# --- bucket -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BucketDigest:
    """A digest in a bucket."""

    client: S3Client
    bucket: str
    key: str
    name: Name

    @property
    def location(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def is_place_of(self, digest: Digest) -> bool:
        return (digest.bucket, digest.key) == (self.bucket, self.key)

    def read(self) -> tuple[bytes, Mapping[str, str]]:
        with _as_os_error():
            answer = self.client.get_object(Bucket=self.bucket, Key=self.key)
            with answer["Body"] as body:
                content = body.read(_MAX_COMPRESSED_DIGEST + 1)
        if len(content) > _MAX_COMPRESSED_DIGEST:
            raise OSError(f"more than {_MAX_COMPRESSED_DIGEST:,} bytes")
        return content, answer.get("Metadata", {})


class BucketStore:
    """A trail's bucket, below a prefix."""

    def __init__(self, client: S3Client, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix if not prefix or prefix.endswith("/") else prefix + "/"

    def digests(self, since: dt.datetime | None, until: dt.datetime | None) -> Iterator[BucketDigest]:
        with _as_os_error():
            for folder in self._folders_named(_FOLDER, self._prefix, _MAX_DEPTH):
                for region in self._folders(folder):
                    yield from self._of_region(region, since, until)

    def regions(self) -> Iterator[tuple[str, str]]:
        with _as_os_error():
            for folder in self._folders_named(_LOGS, self._prefix, _MAX_DEPTH):
                for region in self._folders(folder):
                    account = folder.removesuffix(f"{_LOGS}/")
                    yield f"s3://{self._bucket}/{account}{_FOLDER}/", region.split("/")[-2]

    def digest(self, bucket: str, key: str) -> BucketDigest | None:
        from botocore.exceptions import ClientError

        name = Name.of(key)
        if name is None:
            return None
        with _as_os_error():
            try:
                self._client.head_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if _is_gone(error):
                    return None
                raise
        return BucketDigest(self._client, bucket, key, name)

    def open_log(self, log: NamedLog, beside: str) -> BinaryIO | None:
        from botocore.exceptions import ClientError

        with _as_os_error():
            try:
                body = self._client.get_object(Bucket=log.bucket, Key=log.key)["Body"]
            except ClientError as error:
                if _is_gone(error):
                    return None
                raise
        return cast(BinaryIO, io.BufferedReader(_Body(body), 1 << 20))

    def locate(self, log: NamedLog, beside: str) -> str:
        return f"s3://{log.bucket}/{log.key}"

    def place_of(self, bucket: str, key: str, location: str) -> str | None:
        ours = bucket == self._bucket and key.startswith(self._prefix)
        return f"s3://{bucket}/{key}" if ours else None

    def logs(self, beside: str, region: str, since: dt.datetime, until: dt.datetime) -> Iterator[str]:
        bucket, _, key = beside.removeprefix("s3://").partition("/")
        prefix = f"{key.partition(f'{_FOLDER}/')[0]}{_LOGS}/{region}/"
        with _as_os_error():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix, StartAfter=f"{prefix}{since:%Y/%m/%d/}"
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    if item["Key"] > f"{prefix}{until + _DAY:%Y/%m/%d/~}":
                        return
                    if _stamped(item["Key"].rpartition("/")[2], since, until):
                        yield f"s3://{bucket}/{item['Key']}"

    def _of_region(
        self, region: str, since: dt.datetime | None, until: dt.datetime | None
    ) -> Iterator[BucketDigest]:
        """Keys begin with the day, and come in order."""
        after = f"{region}{since - _DAY:%Y/%m/%d/}" if since else region
        last = f"{region}{until + _DAY:%Y/%m/%d/~}" if until else ""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=region, StartAfter=after
        )
        for page in pages:
            for item in page.get("Contents", ()):
                key = item["Key"]
                if last and key > last:
                    return
                name = Name.of(key)
                if name is not None and _in_range(name, since, until):
                    yield BucketDigest(self._client, self._bucket, key, name)

    def _folders_named(self, wanted: str, prefix: str, depth: int) -> Iterator[str]:
        """The prefixes of an account that end in this: [any/]AWSLogs/[o-id/]account/CloudTrail-Digest/."""
        parts = prefix.split("/")[:-1]
        if wanted in parts:
            yield "/".join(parts[: parts.index(wanted) + 1]) + "/"
            return
        for folder in self._folders(prefix):
            name = folder.split("/")[-2]
            if name == wanted:
                yield folder
            elif name == _ROOT:
                yield from self._folders_named(wanted, folder, 2)  # of an organisation, and of an account
            elif depth:
                yield from self._folders_named(wanted, folder, depth - 1)

    def _folders(self, prefix: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, Delimiter="/"
        )
        for page in pages:
            for item in page.get("CommonPrefixes", ()):
                yield item["Prefix"]


class _Body(io.RawIOBase):
    """An object's bytes as they come, with AWS's errors as OSError."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with _as_os_error():
            block: bytes = self._body.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()


@contextmanager
def _as_os_error() -> Iterator[None]:
    """AWS's refusals and the network's faults, in the service's words, as OSError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OSError(str(error)) from error


def _is_gone(error: Any) -> bool:
    return error.response.get("Error", {}).get("Code") in ("NoSuchKey", "NoSuchBucket", "404")


# --- AWS ----------------------------------------------------------------------------------------------------


def bucket_of(text: str) -> tuple[str, str] | None:
    """Bucket and prefix of `s3://bucket/prefix`, None for another text; UsageError without a bucket."""
    if not text.startswith("s3://"):
        return None
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not bucket:
        raise UsageError(f"'{text}' names no bucket", hint="write s3://bucket or s3://bucket/prefix")
    return bucket, prefix


class Aws:
    """S3 and CloudTrail as boto3's own chain signs in: environment, profile, instance role."""

    def __init__(self, *, profile: str = "", region: str = "") -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import ProfileNotFound

        try:
            self._session = boto3.Session(profile_name=profile or None, region_name=region or None)
        except ProfileNotFound as error:
            raise UsageError(str(error)) from None
        self._config = Config(retries={"total_max_attempts": 6, "mode": "standard"}, max_pool_connections=16)

    def bucket(self, bucket: str, prefix: str) -> BucketStore:
        return BucketStore(self._session.client("s3", config=self._config), bucket, prefix)

    def open(self, bucket: str, key: str) -> BinaryIO:
        """An object's bytes; OSError in AWS's words where it cannot be had."""
        with _as_os_error():
            body = self._session.client("s3", config=self._config).get_object(Bucket=bucket, Key=key)["Body"]
        return cast(BinaryIO, io.BufferedReader(_Body(body), 1 << 20))

    def list_keys(self, region: str, start: dt.datetime, end: dt.datetime) -> list[Listed]:
        """CloudTrail's public keys of a region that were valid in this span."""
        try:
            with _as_os_error():
                client = self._session.client("cloudtrail", region_name=region, config=self._config)
                pages = client.get_paginator("list_public_keys").paginate(StartTime=start, EndTime=end)
                return [msgspec.convert(key, Listed) for page in pages for key in page["PublicKeyList"]]
        except OSError as error:
            raise OSError(f"public keys of {region}: {error}; --keys FILE gives them") from error
