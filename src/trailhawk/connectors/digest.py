"""CloudTrail's digest files: read, and proven by their RSA signature.

The format is AWS's "CloudTrail digest file structure", the signature "Custom implementations of CloudTrail
log file integrity validation".
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from trailhawk.errors import SourceError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

ALGORITHM: Final = "SHA256withRSA"
MAX_DIGEST_BYTES: Final = 64 << 20
MAX_LOG_BYTES: Final = 8 << 30
_READ_BYTES: Final = 1 << 20
_GZIP: Final = 31  # zlib window bits: gzip framing only
_MAGIC: Final = b"\x1f\x8b"
_NAME = re.compile(
    r"(?P<account>[^_/]+)_CloudTrail-Digest_(?P<region>[a-z0-9-]+)_(?P<trail>.+)_(?P<home>[a-z0-9-]+)"
    r"_(?P<stamp>\d{8}T\d{6}Z)(?P<backfill>_backfill)?\.json(?:\.gz)?"
)


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes: ...


class NamedLog(msgspec.Struct, frozen=True, gc=False):
    """A log file as a digest names it; the hash is of its uncompressed bytes."""

    bucket: str = msgspec.field(name="s3Bucket")
    key: str = msgspec.field(name="s3Object")
    sha256: str = msgspec.field(name="hashValue")
    algorithm: str = msgspec.field(name="hashAlgorithm", default="SHA-256")


class _Body(msgspec.Struct, frozen=True):
    awsAccountId: str  # noqa: N815
    digestStartTime: str  # noqa: N815
    digestEndTime: str  # noqa: N815
    digestS3Bucket: str  # noqa: N815
    digestS3Object: str  # noqa: N815
    digestPublicKeyFingerprint: str  # noqa: N815
    previousDigestS3Bucket: str | None  # noqa: N815
    previousDigestS3Object: str | None  # noqa: N815
    previousDigestHashValue: str | None  # noqa: N815
    previousDigestSignature: str | None  # noqa: N815
    logFiles: tuple[NamedLog, ...]  # noqa: N815
    digestSignatureAlgorithm: str = ALGORITHM  # noqa: N815


_BODY: Final = msgspec.json.Decoder(_Body)


@dataclass(frozen=True)
class Name:
    """What the name of a digest file says. A chain is all that but the end time."""

    account: str
    region: str
    trail: str
    home: str
    end: dt.datetime
    backfill: bool

    @classmethod
    def of(cls, key: str) -> Name | None:
        """The parts of a digest's key, None for another key."""
        match = _NAME.fullmatch(key.rpartition("/")[2])
        if match is None:
            return None
        try:
            end = dt.datetime.strptime(match["stamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
        except ValueError:
            return None
        if not is_plausible(end):
            return None
        return cls(
            match["account"], match["region"], match["trail"], match["home"], end, bool(match["backfill"])
        )


@dataclass(frozen=True)
class Digest:
    """A digest file that was read. `sha256` is of its uncompressed bytes."""

    bucket: str
    key: str
    account: str
    start: dt.datetime
    end: dt.datetime
    fingerprint: str
    sha256: str
    signing_text: bytes
    previous: tuple[str, str] | None
    """Bucket and key of the digest before it; None for the first of a chain."""
    previous_sha256: str
    previous_signature: str
    logs: tuple[NamedLog, ...]


def read_digest(content: bytes) -> Digest:
    """The digest in the bytes of its file; SourceError with the reason where it is none."""
    text = _unpacked(content)
    try:
        body = _BODY.decode(text)
        start, end = _moment(body.digestStartTime), _moment(body.digestEndTime)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise SourceError(f"no digest: {error}") from None
    except RecursionError:
        raise SourceError("no digest: it is nested too deep") from None
    if body.digestSignatureAlgorithm != ALGORITHM:
        raise SourceError(f"signature algorithm {body.digestSignatureAlgorithm!r}, known is {ALGORITHM}")
    sha256 = hashlib.sha256(text).hexdigest()
    lines = (
        body.digestEndTime,
        f"{body.digestS3Bucket}/{body.digestS3Object}",
        sha256,
        body.previousDigestSignature or "null",
    )
    first = body.previousDigestS3Bucket is None or body.previousDigestS3Object is None
    return Digest(
        bucket=body.digestS3Bucket,
        key=body.digestS3Object,
        account=body.awsAccountId,
        start=start,
        end=end,
        fingerprint=body.digestPublicKeyFingerprint,
        sha256=sha256,
        signing_text="\n".join(lines).encode(),
        previous=None if first else (body.previousDigestS3Bucket or "", body.previousDigestS3Object or ""),
        previous_sha256=(body.previousDigestHashValue or "").lower(),
        previous_signature=(body.previousDigestSignature or "").lower(),
        logs=body.logFiles,
    )


def log_sha256(stream: Readable) -> str:
    """The hash of a log file's uncompressed bytes; SourceError where it cannot be unpacked.

    Bytes behind the end of the gzip stream are a fault too: they would be read, but are in no hash.
    """
    digest = hashlib.sha256()
    _unpack(stream, digest.update, MAX_LOG_BYTES)
    return digest.hexdigest()


def _unpacked(content: bytes) -> bytes:
    pieces: list[bytes] = []
    _unpack(io.BytesIO(content), pieces.append, MAX_DIGEST_BYTES)
    return b"".join(pieces)


def _unpack(stream: Readable, give: Callable[[bytes], object], most: int) -> None:
    size = 0

    def bounded(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size > most:
            raise SourceError(f"more than {most:,} bytes when unpacked")
        give(piece)

    block = stream.read(_READ_BYTES)
    if not block.startswith(_MAGIC):  # a copy that was unpacked on the way: the hash is of these bytes
        while block:
            bounded(block)
            block = stream.read(_READ_BYTES)
        return
    member = zlib.decompressobj(_GZIP)
    while block and not member.eof:
        try:
            bounded(member.decompress(block, _READ_BYTES))
        except zlib.error as error:
            raise SourceError(f"gzip stream is damaged ({error})") from None
        block = member.unconsumed_tail or (b"" if member.eof else stream.read(_READ_BYTES))
    if not member.eof:
        raise SourceError("gzip stream ends early")
    if member.unused_data or stream.read(1):
        raise SourceError("bytes after the end of the gzip stream")


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise msgspec.ValidationError(f"{text[:40]!r} is no time") from None
    if not is_plausible(moment):
        raise msgspec.ValidationError(f"{text[:40]!r} is no time of a digest")
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def is_plausible(moment: dt.datetime) -> bool:
    """Whether days can be added to a moment and taken from it: anybody may have written it."""
    return 2000 <= moment.year < 9000


# --- keys -------------------------------------------------------------------------------------------------


_AROUND: Final = dt.timedelta(hours=2)
"""A digest is signed after its hour, and a key may change just then."""


class Listed(msgspec.Struct, frozen=True):
    """A key as ListPublicKeys tells it: PKCS #1 in DER, and when digests were signed with it."""

    Value: bytes
    Fingerprint: str
    ValidityStartTime: dt.datetime | None = None
    ValidityEndTime: dt.datetime | None = None


@dataclass(frozen=True)
class PublicKey:
    """A public key; where it is told when it was in use, from `first` to `last`."""

    rsa: RSAPublicKey
    first: dt.datetime | None = None
    last: dt.datetime | None = None

    @classmethod
    def of(cls, listed: Listed, where: str) -> PublicKey:
        return cls(_rsa(listed.Value, where), _utc(listed.ValidityStartTime), _utc(listed.ValidityEndTime))

    def fault(self, made: dt.datetime) -> str:
        """Why a digest that was made then cannot be signed with it; '' where it can."""
        if self.first and made < self.first - _AROUND:
            return f"its public key was in use from {_minute(self.first)} on, it was made {_minute(made)}"
        if self.last and made > self.last + _AROUND:
            return f"its public key was in use until {_minute(self.last)}, it was made {_minute(made)}"
        return ""


def _utc(moment: dt.datetime | None) -> dt.datetime | None:
    """A time that names no zone is UTC; one that stands for always is none."""
    if moment is None or not is_plausible(moment):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _minute(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M}"


class Keys(Protocol):
    """Where public keys come from."""

    def find(self, digest: Digest, name: Name, made: dt.datetime) -> Sequence[PublicKey]:
        """The keys that may have signed a digest made then; empty if none is known, OSError where they
        cannot be had."""
        ...


class GivenKeys:
    """Public keys of a file: PEM, DER (PKCS #1 or SubjectPublicKeyInfo), or the JSON of ListPublicKeys.

    JSON tells keys by fingerprint; a key without one is tried for every digest. UsageError for a file that
    holds no RSA key.
    """

    def __init__(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read the public key {path}: {error.strerror}") from None
        self._named: dict[str, PublicKey] = {}
        self._others: list[PublicKey] = []
        if content.lstrip().startswith(b"{"):
            self._named = _listed(content, path)
        else:
            self._others = _loaded(content, path)

    def find(self, digest: Digest, name: Name, made: dt.datetime) -> Sequence[PublicKey]:
        key = self._named.get(digest.fingerprint)
        return [key] if key is not None else self._others


class ListedKeys:
    """Public keys as CloudTrail lists them, asked for by region and month.

    `list_keys` is CloudTrail's ListPublicKeys of a region: the keys valid in a span of time; OSError where
    they cannot be had.
    """

    def __init__(self, list_keys: Callable[[str, dt.datetime, dt.datetime], Iterable[Listed]]) -> None:
        self._list = list_keys
        self._known: dict[tuple[str, int, int], Mapping[str, PublicKey] | OSError] = {}

    def find(self, digest: Digest, name: Name, made: dt.datetime) -> Sequence[PublicKey]:
        refusal: OSError | None = None
        # The pair of keys is a region's own; older trails' digests were signed with that of the home region.
        for region in dict.fromkeys((name.region, name.home)):
            keys = self._keys(region, made)
            if isinstance(keys, OSError):
                refusal = refusal or keys
            elif digest.fingerprint in keys:
                return [keys[digest.fingerprint]]
        if refusal is not None:
            raise refusal
        return []

    def _keys(self, region: str, made: dt.datetime) -> Mapping[str, PublicKey] | OSError:
        month = (region, made.year, made.month)
        if month not in self._known:
            start = dt.datetime(made.year, made.month, 1, tzinfo=dt.UTC)
            end = (start + dt.timedelta(days=32)).replace(day=1)
            try:
                listed = self._list(region, start - _AROUND, end + _AROUND)
                self._known[month] = {
                    each.Fingerprint: PublicKey.of(each, each.Fingerprint) for each in listed
                }
            except OSError as error:
                self._known[month] = error
        return self._known[month]


def is_signed(digest: Digest, signature: str, key: RSAPublicKey) -> bool:
    """Whether the signature (hexadecimal) is that of the digest by this key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        key.verify(bytes.fromhex(signature), digest.signing_text, PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


class _KeyList(msgspec.Struct, frozen=True):
    PublicKeyList: tuple[Listed, ...]


def _listed(content: bytes, path: Path) -> dict[str, PublicKey]:
    try:
        found = msgspec.json.decode(content, type=_KeyList, strict=False)  # times may be seconds, or text
        return {key.Fingerprint: PublicKey.of(key, str(path)) for key in found.PublicKeyList}
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{path} is no list of public keys: {error}",
            hint="it is what `aws cloudtrail list-public-keys` prints",
        ) from None


def _loaded(content: bytes, path: Path) -> list[PublicKey]:
    if b"-----BEGIN" not in content:
        return [PublicKey(_rsa(content, str(path)))]
    blocks = re.findall(rb"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", content, re.DOTALL)
    return [PublicKey(_rsa(block, str(path))) for block in blocks]


def _rsa(content: bytes, where: str) -> RSAPublicKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

    load: Callable[[bytes], Any] = load_pem_public_key if content.startswith(b"--") else load_der_public_key
    try:
        key = load(content)
    except ValueError:
        raise UsageError(
            f"no public key in {where}", hint="PEM, DER, or the JSON of `aws cloudtrail list-public-keys`"
        ) from None
    if not isinstance(key, RSAPublicKey):
        raise UsageError(f"the public key in {where} is no RSA key")
    return key
