"""CloudTrail's digest files: every hour the log files of a trail with their hashes, signed and chained.

The format follows AWS's "CloudTrail digest file structure"; how it is signed, "Custom implementations of
CloudTrail log file integrity validation".
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from random import Random
from time import gmtime, strftime
from typing import TYPE_CHECKING, NamedTuple

import orjson

from .text import iso
from .world import HOUR

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

ALGORITHM = "SHA256withRSA"
_EXPONENT = 65537
_SMALL_PRIMES = tuple(n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2)))


class LogFile(NamedTuple):
    """A log file as a digest names it: when it was delivered, its key, the hash of its uncompressed bytes."""

    at: int
    key: str
    sha256: str
    oldest: int
    newest: int


class Digest(NamedTuple):
    """A digest file: its key, its uncompressed bytes, and the metadata that S3 keeps beside it."""

    key: str
    text: bytes
    metadata: Mapping[str, str]

    @property
    def head(self) -> bytes:
        """What `aws s3api head-object` prints of it."""
        return orjson.dumps({"Metadata": dict(self.metadata)})


class Signer:
    """An RSA key that follows from a stream of chance, as AWS holds one for a region."""

    def __init__(self, rng: Random, *, bits: int = 2048) -> None:
        self._rng = rng
        self._bits = bits

    @cached_property
    def key(self) -> RSAPrivateKey:
        from cryptography.hazmat.primitives.asymmetric import rsa

        p, q = _prime(self._rng, self._bits // 2), _prime(self._rng, self._bits // 2)
        d = pow(_EXPONENT, -1, (p - 1) * (q - 1))
        public = rsa.RSAPublicNumbers(_EXPONENT, p * q)
        numbers = rsa.RSAPrivateNumbers(
            p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
        )
        return numbers.private_key()

    @cached_property
    def public(self) -> bytes:
        """The public key as ListPublicKeys gives it: PKCS #1 in DER."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.md5(self.public, usedforsecurity=False).hexdigest()

    def sign(self, text: bytes) -> str:
        """The signature of a text in hexadecimal."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        return self.key.sign(text, PKCS1v15(), SHA256()).hex()


def key_list(signers: Iterable[Signer], start: int, end: int) -> bytes:
    """What `aws cloudtrail list-public-keys` prints for these keys, valid from `start` to `end`."""
    keys = [
        {
            "Value": b64encode(signer.public).decode(),
            "ValidityStartTime": iso(start),
            "ValidityEndTime": iso(end),
            "Fingerprint": signer.fingerprint,
        }
        for signer in signers
    ]
    return orjson.dumps({"PublicKeyList": keys}, option=orjson.OPT_INDENT_2) + b"\n"


class DigestChain:
    """The digests of one account, region and trail: one for every hour, also for one without log files.
    `home` is the trail's own region, by default this one.

    A log file that comes too late for the digest of its hour is named in a backfill digest; those have a
    chain of their own.
    """

    def __init__(
        self, signer: Signer, *, bucket: str, account: str, region: str, trail: str, home: str = ""
    ) -> None:
        self.signer = signer
        self._bucket = bucket
        self._account = account
        self._region = region
        self._trail = trail
        self._home = home or region
        self._waiting: list[LogFile] = []
        self._until = 0
        self._previous: Digest | None = None
        self._previous_backfill: Digest | None = None

    def add(self, file: LogFile) -> None:
        """Name a log file in the digest of the hour in which it was delivered."""
        self._waiting.append(file)

    def complete(self, until: int) -> Iterator[Digest]:
        """The digests of the hours that end by `until`."""
        if not self._waiting and not self._until:
            return
        self._waiting.sort()
        for hour in sorted({file.at // HOUR * HOUR for file in self._waiting if file.at < self._until}):
            self._previous_backfill = self._digest(hour, self._previous_backfill, generated=until)
            yield self._previous_backfill
        start = self._until or self._waiting[0].at // HOUR * HOUR
        for hour in range(start, until // HOUR * HOUR, HOUR):
            self._previous = self._digest(hour, self._previous)
            self._until = hour + HOUR
            yield self._previous
        self._waiting = [file for file in self._waiting if file.at >= self._until]

    def restart(self) -> None:
        """Break the chain, as switching validation off and on again does."""
        self._previous = None

    def _digest(self, start: int, previous: Digest | None, *, generated: int = 0) -> Digest:
        end = start + HOUR
        files = [file for file in self._waiting if start <= file.at < end]
        stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(end)) + ("_backfill" if generated else "")
        name = f"{self._account}_CloudTrail-Digest_{self._region}_{self._trail}_{self._home}_{stamp}"
        folder = f"AWSLogs/{self._account}/CloudTrail-Digest/{self._region}"
        key = f"{folder}/{strftime('%Y/%m/%d', gmtime(end))}/{name}.json.gz"
        text = orjson.dumps(
            {
                "awsAccountId": self._account,
                "digestStartTime": iso(start),
                "digestEndTime": iso(end),
                "digestS3Bucket": self._bucket,
                "digestS3Object": key,
                "digestPublicKeyFingerprint": self.signer.fingerprint,
                "digestSignatureAlgorithm": ALGORITHM,
                "newestEventTime": iso(max(file.newest for file in files)) if files else None,
                "oldestEventTime": iso(min(file.oldest for file in files)) if files else None,
                "previousDigestS3Bucket": self._bucket if previous else None,
                "previousDigestS3Object": previous.key if previous else None,
                "previousDigestHashValue": hashlib.sha256(previous.text).hexdigest() if previous else None,
                "previousDigestHashAlgorithm": "SHA-256" if previous else None,
                "previousDigestSignature": previous.metadata["signature"] if previous else None,
                "logFiles": [
                    {
                        "s3Bucket": self._bucket,
                        "s3Object": file.key,
                        "hashValue": file.sha256,
                        "hashAlgorithm": "SHA-256",
                        "newestEventTime": iso(file.newest),
                        "oldestEventTime": iso(file.oldest),
                    }
                    for file in files
                ],
            }
        )
        signed = "\n".join(
            (
                iso(end),
                f"{self._bucket}/{key}",
                hashlib.sha256(text).hexdigest(),
                previous.metadata["signature"] if previous else "null",
            )
        )
        metadata = {"signature": self.signer.sign(signed.encode()), "signature-algorithm": ALGORITHM}
        if generated:
            metadata["backfill-generation-timestamp"] = iso(generated)
        return Digest(key, text, metadata)


class Digests:
    """The digests of a trail of many accounts and regions: a chain for each of them, a key for each region.

    `rng` gives the stream of chance of a region's key.
    """

    def __init__(self, rng: Callable[[str], Random], *, bucket: str, trail: str, home: str) -> None:
        self._rng = rng
        self._bucket = bucket
        self._trail = trail
        self._home = home
        self._signers: dict[str, Signer] = {}
        self._chains: dict[tuple[str, str], DigestChain] = {}

    def add(self, account: str, region: str, file: LogFile) -> None:
        """Name a log file in a digest of its account and region."""
        chain = self._chains.get((account, region))
        if chain is None:
            signer = self._signers.setdefault(region, Signer(self._rng(region)))
            chain = self._chains[account, region] = DigestChain(
                signer,
                bucket=self._bucket,
                account=account,
                region=region,
                trail=self._trail,
                home=self._home,
            )
        chain.add(file)

    def complete(self, until: int) -> Iterator[Digest]:
        """The digests of the hours that end by `until`."""
        for _, chain in sorted(self._chains.items()):
            yield from chain.complete(until)

    def key_list(self, start: int, end: int) -> bytes:
        """The keys of all regions, as `key_list` gives them."""
        return key_list((signer for _, signer in sorted(self._signers.items())), start, end)


def _prime(rng: Random, bits: int) -> int:
    """A prime of this many bits with the two highest set, that is not 1 modulo the public exponent."""
    while True:
        number = rng.getrandbits(bits) | 3 << (bits - 2) | 1
        if all(number % prime for prime in _SMALL_PRIMES) and _is_prime(number, rng):
            return number


def _is_prime(number: int, rng: Random) -> bool:
    """Miller and Rabin's test, with less than one error in 2^80."""
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    if (number - 1) % _EXPONENT == 0:
        return False
    for _ in range(40):
        value = pow(rng.randrange(2, number - 1), odd, number)
        if value in (1, number - 1):
            continue
        for _ in range(twos - 1):
            value = value * value % number
            if value == number - 1:
                break
        else:
            return False
    return True
