"""Proof that no log is missing: digest chains are checked, and each log they name is sought in the lake."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO, Final, Protocol, TypeVar

from trailhawk.connectors.digest import (
    Digest,
    Keys,
    Name,
    NamedLog,
    is_plausible,
    is_signed,
    log_sha256,
    read_digest,
)
from trailhawk.connectors.ledger import ACCEPTED, LOST, restored_key
from trailhawk.errors import SourceError

_K = TypeVar("_K")
_WORKERS: Final = 8
_LATE: Final = dt.timedelta(hours=3)
"""A digest is there soon after its hour; only after this long is it missing."""
_DIGESTS: Final = "/CloudTrail-Digest/"
_MADE: Final = "backfill-generation-timestamp"
_EVER: Final = (dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC))


class What(StrEnum):
    """What is wrong with a digest, a log file, or a stretch of time."""

    DIGEST_MISSING = "digest missing"
    DIGEST_INVALID = "digest invalid"
    DIGEST_UNSIGNED = "digest unsigned"
    GAP = "gap"
    LOG_MISSING = "missing in the bucket"
    LOG_TAMPERED = "tampered"
    LOG_UNREADABLE = "unreadable"
    LOG_UNPROVEN = "unproven"
    LOG_NOT_TAKEN = "missing in the lake"


COMPLETE: Final = "complete"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `place` is the object, or the stretch of time for a gap."""

    what: What
    account: str
    region: str
    at: dt.datetime
    place: str
    detail: str


@dataclass(frozen=True, slots=True)
class LogCheck:
    """A log file that a digest names: `complete`, or what is wrong with it.

    `in_lake` is whether the ledger has it; None where it was not asked.
    """

    account: str
    region: str
    at: dt.datetime
    place: str
    state: str
    detail: str
    in_lake: bool | None


@dataclass(frozen=True, slots=True)
class ChainSummary:
    """One chain: the digests of a trail in an account and region (backfill digests are a chain of their own).

    `digests` were read; `empty` of them name no log file, `restarts` of them begin the chain anew. `logs`
    is the sum of the counts behind it.
    """

    account: str
    region: str
    trail: str
    backfill: bool
    first: dt.datetime
    last: dt.datetime
    digests: int
    valid: int
    empty: int
    restarts: int
    gaps: int
    digests_missing: int
    logs: int
    complete: int
    missing: int
    tampered: int
    unproven: int
    not_taken: int


@dataclass(frozen=True)
class Report:
    """What was checked and what was found; `ok` where nothing is wrong and there was something to check.

    `unlisted` are log files of the hours that the digests cover, or of regions without digests, which none
    of them names. Another trail without validation may write to the same place, so that this is told and is
    no fault by itself.
    """

    chains: tuple[ChainSummary, ...]
    findings: tuple[Finding, ...]
    logs: tuple[LogCheck, ...]
    unlisted: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.findings and bool(self.chains)


class FoundDigest(Protocol):
    """A digest file where it lies."""

    @property
    def location(self) -> str: ...

    @property
    def name(self) -> Name: ...

    def is_place_of(self, digest: Digest) -> bool:
        """Whether it lies where it says that CloudTrail put it."""
        ...

    def read(self) -> tuple[bytes, Mapping[str, str]]:
        """Bytes and metadata; OSError where they cannot be had."""
        ...


class LogStore(Protocol):
    """A bucket with a trail's files, or a folder with a copy of one."""

    def digests(self, since: dt.datetime | None, until: dt.datetime | None) -> Iterable[FoundDigest]:
        """The digests that end in (since, until]."""
        ...

    def digest(self, bucket: str, key: str) -> FoundDigest | None:
        """The digest of this very place, None where there is none."""
        ...

    def open_log(self, log: NamedLog, beside: str) -> BinaryIO | None:
        """The bytes of a log file that the digest at the location `beside` names; None where it is gone,
        OSError where they cannot be had."""
        ...

    def locate(self, log: NamedLog, beside: str) -> str:
        """Where it is or would be, for people."""
        ...

    def place_of(self, bucket: str, key: str, location: str) -> str | None:
        """Where it has, or had, what the ledger took from there; None for what is not of this store."""
        ...

    def logs(self, beside: str, region: str, since: dt.datetime, until: dt.datetime) -> Iterable[str]:
        """The places, as `locate` gives them, of the log files with a stamp in [since, until] in the account
        and region of the digest at the location `beside`."""
        ...

    def regions(self) -> Iterable[tuple[str, str]]:
        """Each region of an account that has a place for log files, with the folder beside it where its
        digests would lie."""
        ...


# --- the ledger -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Taken:
    """What the ledger says of an object: the states of its rows, the hash of its bytes as delivered, parts
    lost."""

    states: frozenset[str]
    sha256: str
    quarantined: int

    @property
    def finished(self) -> bool:
        """Whether all of it was read. What went into quarantine whole was not, until it came out."""
        has_all = LOST not in self.states
        return has_all and ("stored" in self.states or self.states >= {"quarantined", "retried"})

    @property
    def set_aside(self) -> bool:
        return "quarantined" in self.states and not self.finished


class Ledger:
    """The objects of IngestLedger by bucket and key, by the hash of their bytes and by file name. `rows` have
    COLUMNS. `digests` are bucket, key and location of the digest files that came with the logs."""

    COLUMNS: Final = ("Object", "Bucket", "Key", "Location", "Sha256", "State", "Quarantined", "Batch")

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        objects: dict[str, Taken] = {}
        places: dict[str, tuple[str, str]] = {}
        self.digests: list[tuple[str, str, str]] = []
        lost: dict[str, str] = {}
        for row in rows:
            if row["State"] == LOST:
                lost[restored_key(row["Object"], row["Batch"])] = row["Object"]
                continue
            if row["State"] == ACCEPTED:  # the rows are lost all the same
                continue
            if row["State"] == "digest":
                self.digests.append((row["Bucket"], row["Key"], row["Location"]))
                continue
            states = frozenset((row["State"],))
            if states == {"retried"}:  # the hash is that of the piece that left the quarantine
                self._put(objects, row["Object"], Taken(states, "", row["Quarantined"]))
            else:
                self._put(objects, row["Object"], Taken(states, row["Sha256"], row["Quarantined"]))
                places[row["Object"]] = (row["Bucket"], row["Key"] or row["Location"].rpartition("/")[2])
        for restored, name in lost.items():
            if restored not in objects:  # it was not read again yet
                self._put(objects, name, Taken(frozenset((LOST,)), "", 0))
        self._by_place: dict[tuple[str, str], Taken] = {}
        """Bucket and key; no bucket and the file's name."""
        self._by_sha256: dict[str, Taken] = {}
        for name, place in places.items():
            self._put(self._by_sha256, objects[name].sha256, objects[name])
            self._put(self._by_place, place, objects[name])

    @staticmethod
    def _put(index: dict[_K, Taken], key: _K, taken: Taken) -> None:
        known = index.get(key)
        if known is not None:
            taken = Taken(
                taken.states | known.states,
                taken.sha256 or known.sha256,
                taken.quarantined + known.quarantined,
            )
        index[key] = taken

    def find(self, log: NamedLog, sha256: str) -> Taken | None:
        """By its bytes, by its place, or by its name, which is unique; one that was finished goes first."""
        found = [
            self._by_sha256.get(sha256) if sha256 else None,
            self._by_place.get((log.bucket, log.key)),
            self._by_place.get(("", log.key.rpartition("/")[2])),
        ]
        known = [taken for taken in found if taken is not None]
        return next((taken for taken in known if taken.finished), known[0] if known else None)


# --- checking -----------------------------------------------------------------------------------------------


@dataclass
class _Link:
    """A digest on its way through the check."""

    found: FoundDigest
    digest: Digest | None
    metadata: Mapping[str, str]
    faults: list[str] = field(default_factory=list)
    unsigned: str = ""
    """Why its signature could not be checked."""
    moved: bool = False
    listed: bool = True
    """False for one that only another digest names."""

    @property
    def name(self) -> Name:
        return self.found.name

    @property
    def valid(self) -> bool:
        return self.digest is not None and not self.faults and not self.unsigned

    @property
    def made(self) -> dt.datetime:
        """When it was signed: a backfill digest later than its hour. Of others nothing that is not signed may
        say so."""
        text = self.metadata.get(_MADE, "") if self.name.backfill else ""
        try:
            made = dt.datetime.fromisoformat(text).astimezone(dt.UTC) if text else self.name.end
        except (ValueError, OverflowError):
            return self.name.end
        return made if is_plausible(made) else self.name.end


def verify(
    store: LogStore,
    keys: Keys,
    ledger: Ledger | None,
    *,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Check the digests that end in (since, until] and every log file they name.

    With `until` a chain must reach it, or end less than three hours before. `ledger` is None where the lake
    is not to be asked. `progress` hears (digests and logs done, all known so far). Nothing that the files
    hold raises; OSError where the store itself cannot be listed, or no public key can be had at all.
    """
    with ThreadPoolExecutor(_WORKERS) as pool:
        links = list(pool.map(_read, store.digests(since, until)))
        refused = _add_earlier(links, store, since)
        chains = _chains(links)
        refusals = [refusal for chain in chains for refusal in _prove(chain, keys)]
        if refusals and not any(link.valid for link in links):
            raise refusals[0]
        jobs = [job for chain in chains for job in _jobs(chain)]
        checks: list[LogCheck] = []
        for check in pool.map(lambda job: _check(job, store, ledger), jobs):
            checks.append(check)
            progress(len(links) + len(checks), len(links) + len(jobs))
    findings: list[Finding] = []
    summaries = []
    left = iter(checks)
    for chain in chains:
        own = [next(left) for _ in _jobs(chain)]
        broken = [*_breaks(chain, since, until, refused), *_unproven_digests(chain)]
        summaries.append(_summary(chain, broken, own))
        findings += broken
        findings += map(_log_finding, (check for check in own if check.state != COMPLETE))
    if ledger is not None:
        findings += _gone(ledger, store, links, findings, since, until)
    findings.sort(key=lambda one: (one.account, one.region, one.at, one.what, one.place))
    return Report(
        tuple(summaries),
        tuple(findings),
        tuple(checks),
        tuple(_unlisted(chains, store, checks, since, until)),
    )


def _read(found: FoundDigest) -> _Link:
    try:
        content, metadata = found.read()
    except OSError as error:
        return _Link(found, None, {}, [f"cannot be read: {error.strerror or error}"])
    try:
        digest = read_digest(content)
    except SourceError as error:
        return _Link(found, None, metadata, [str(error)])
    return _Link(found, digest, metadata)


_Refused = Mapping[tuple[str, str], str]
"""Digests that cannot be looked at, by bucket and key, and why."""


def _add_earlier(links: list[_Link], store: LogStore, since: dt.datetime | None) -> _Refused:
    """Add the digests that others name as the one before but that no listing gave: a trail may have written
    to another bucket or prefix then. A digest may name any bucket; those that refuse are given back."""
    refused: dict[tuple[str, str], str] = {}
    known = {(link.digest.bucket, link.digest.key) for link in links if link.digest}
    waiting = [link for link in links if link.digest]
    while waiting:
        digest = waiting.pop().digest
        if digest is None or digest.previous is None or digest.previous in known:
            continue
        name = Name.of(digest.previous[1])
        if since is not None and name is not None and name.end <= since:
            continue
        known.add(digest.previous)
        try:
            found = store.digest(*digest.previous)
        except OSError as error:
            refused[digest.previous] = error.strerror or str(error)
            continue
        if found is not None:
            link = _read(found)
            link.listed = False
            links.append(link)
            waiting.append(link)
    return refused


def _chains(links: Iterable[_Link]) -> list[list[_Link]]:
    """The links of each chain, oldest first."""
    chains: dict[tuple[object, ...], list[_Link]] = defaultdict(list)
    for link in links:
        name = link.name
        chains[name.account, name.region, name.trail, name.home, name.backfill].append(link)
    return [
        sorted(chain, key=lambda link: (link.name.end, link.found.location))
        for _, links in sorted(chains.items(), key=lambda item: item[0])
        for chain in _apart(links)
    ]


def _apart(links: Iterable[_Link]) -> list[list[_Link]]:
    """The links of one name, those of trails or copies in several places apart. A trail that was given
    another place goes on there behind the digest that its next one names, or anew where that is nowhere."""
    places: dict[str, list[_Link]] = defaultdict(list)
    for link in sorted(links, key=lambda link: (link.name.end, link.found.location)):
        places[_base(link)].append(link)
    apart: list[list[_Link]] = []
    for found in sorted(places.values(), key=lambda found: (found[0].name.end, found[0].found.location)):
        names = {link.name for link in found}
        before = {link.digest.previous for link in found if link.digest}
        named = [
            each
            for each in apart
            if any(link.digest and (link.digest.bucket, link.digest.key) in before for link in each)
        ]
        fits = [each for each in named or apart if names.isdisjoint(link.name for link in each)]
        if fits:
            one = max(fits, key=lambda each: max(link.name.end for link in each))
            one += found
        else:
            apart.append(found)
    return apart


def _base(link: _Link) -> str:
    """The account's part of the bucket or folder."""
    return link.found.location.partition(_DIGESTS)[0]


def _prove(chain: Sequence[_Link], keys: Keys) -> list[OSError]:
    """Set down in each link what is wrong with it; refusals of public keys. The newest comes first: what a
    proven digest says of the one before it counts."""
    refusals = []
    after: dict[tuple[str, str], _Link] = {}
    for link in reversed(chain):
        digest = link.digest
        if digest is None:
            continue
        link.moved = not link.found.is_place_of(digest)
        if link.moved:
            link.faults.append(f"was moved: it says it is s3://{digest.bucket}/{digest.key}")
        follower = after.get((digest.bucket, digest.key))
        next_digest = follower.digest if follower and follower.valid else None
        # A signature needs nobody's word: that in a digest which is not proven is as good.
        known = follower.digest.previous_signature if follower and follower.digest else ""
        if next_digest and next_digest.previous_sha256 != digest.sha256:
            link.faults.append("was changed: the next digest has another hash of it")
        signature = link.metadata.get("signature", "").lower()
        if next_digest and signature not in ("", next_digest.previous_signature):
            link.faults.append("has another signature than the next digest says")
        try:
            link.faults += _signature_faults(link, digest, keys, signature or known)
        except OSError as error:
            refusals.append(error)
            link.unsigned = f"its public key cannot be had: {error.strerror or error}"
        if digest.previous is not None:
            after.setdefault(digest.previous, link)
    return refusals


def _signature_faults(link: _Link, digest: Digest, keys: Keys, signature: str) -> list[str]:
    if not signature:
        link.unsigned = "its signature is not here: a copy lacks the object's metadata"
        return []
    found = keys.find(digest, link.name, link.made)
    if not found:
        return [f"no public key with the fingerprint {digest.fingerprint[:64]}"]
    signers = [key for key in found if is_signed(digest, signature, key.rsa)]
    if not signers:
        return ["its signature does not fit its content and the public key"]
    if link.name.backfill and _MADE not in link.metadata:
        return []  # a copy does not tell when it was made
    faults = [key.fault(link.made) for key in signers]
    return faults[:1] if all(faults) else []


def _breaks(
    chain: Sequence[_Link], since: dt.datetime | None, until: dt.datetime | None, refused: _Refused
) -> Iterator[Finding]:
    """Where the chain has a digest too few, and hours that no digest proves."""
    name = chain[0].name
    names = {link.name for link in chain}
    covered: dt.datetime | None = None
    for link in chain:
        digest = link.digest
        if digest is None or link.moved:
            covered = link.name.end
            continue
        before = Name.of(digest.previous[1]) if digest.previous else None
        if digest.previous and before not in names and not (since and before and before.end <= since):
            hours = f"; {_hours(digest.start - covered)} without proof" if covered else ""
            why = refused.get(digest.previous)
            gone = f"cannot be looked at ({why})" if why else "deleted or moved"
            yield Finding(
                What.DIGEST_MISSING,
                name.account,
                name.region,
                before.end if before else digest.start,
                f"s3://{digest.previous[0]}/{digest.previous[1]}",
                f"{gone}: {link.found.location} names it as the one before{hours}",
            )
        elif covered and digest.start > covered and not name.backfill:
            anew = "validation or logging was off, the chain begins anew after it"
            yield _gap(name, covered, digest.start, "no digest is about it" if digest.previous else anew)
        # What is not proven may say that it ends in any year.
        covered = max(covered or digest.start, min(digest.end, link.name.end))
    if until and covered and until - covered > _LATE and not name.backfill:
        why = "the chain ends here: logging stopped, or its last digests were deleted"
        yield _gap(name, covered, until, why)


def _gone(
    ledger: Ledger,
    store: LogStore,
    links: Iterable[_Link],
    told: Iterable[Finding],
    since: dt.datetime | None,
    until: dt.datetime | None,
) -> Iterator[Finding]:
    """Digests that the lake took and that are not there any more, by chain. No digest that is left need name
    them: whoever switches validation off and on may delete all that were before, and no break is seen."""
    known = {link.found.location for link in links}
    said = {finding.place.rpartition("/")[2] for finding in told if finding.what is What.DIGEST_MISSING}
    chains: dict[tuple[object, ...], list[tuple[dt.datetime, str, Name]]] = defaultdict(list)
    for each in ledger.digests:
        place = store.place_of(*each)
        name = Name.of(place) if place else None
        if place is None or name is None or place in known or place.rpartition("/")[2] in said:
            continue
        if (since is None or name.end > since) and (until is None or name.end <= until):
            chain = (name.account, name.region, name.trail, name.home, name.backfill)
            chains[chain].append((name.end, place, name))
    for gone in chains.values():
        gone.sort(key=lambda each: each[:2])
        (first, place, name), (last, *_) = gone[0], gone[-1]
        more = f", and {len(gone) - 1:,} more until {last:%Y-%m-%dT%H:%M:%SZ}" if len(gone) > 1 else ""
        detail = f"deleted or moved since the lake took it{more}; no digest that is left tells of that"
        yield Finding(What.DIGEST_MISSING, name.account, name.region, first, place, detail)


def _gap(name: Name, start: dt.datetime, end: dt.datetime, why: str) -> Finding:
    place = f"{start:%Y-%m-%dT%H:%M:%SZ} to {end:%Y-%m-%dT%H:%M:%SZ}"
    detail = f"{_hours(end - start)} without proof: {why}"
    return Finding(What.GAP, name.account, name.region, start, place, detail)


def _hours(span: dt.timedelta) -> str:
    return f"{span / dt.timedelta(hours=1):,.1f} h"


def _unproven_digests(chain: Iterable[_Link]) -> Iterator[Finding]:
    for link in chain:
        if not link.valid:
            what = What.DIGEST_INVALID if link.faults else What.DIGEST_UNSIGNED
            detail = "; ".join(link.faults) or link.unsigned
            name = link.name
            yield Finding(what, name.account, name.region, name.end, link.found.location, detail)


# --- log files ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Job:
    """A log file to check, and the digest that names it."""

    log: NamedLog
    link: _Link


def _jobs(chain: Iterable[_Link]) -> list[_Job]:
    """The log files that a chain names, each once; what a proven digest says goes first."""
    jobs: dict[tuple[str, str], _Job] = {}
    for link in sorted(chain, key=lambda link: not link.valid):
        for log in link.digest.logs if link.digest else ():
            jobs.setdefault((log.bucket, log.key), _Job(log, link))
    return list(jobs.values())


def _check(job: _Job, store: LogStore, ledger: Ledger | None) -> LogCheck:
    log, link = job.log, job.link
    what, detail, sha256, packed = _content(job, store)
    taken = ledger.find(log, sha256) if ledger else None
    in_lake = None if ledger is None else taken is not None
    state: str = what or COMPLETE
    if what is None and in_lake is not None:
        if taken is None:
            state, detail = What.LOG_NOT_TAKEN, "the ledger has no such object: it was never ingested"
        elif taken.set_aside:
            state, detail = What.LOG_NOT_TAKEN, "all of it is in quarantine: see `trailhawk quarantine list`"
        elif LOST in taken.states:
            state, detail = (
                What.LOG_NOT_TAKEN,
                "rows of it were in a damaged file: see `trailhawk lake repair`",
            )
        elif not taken.finished:
            state, detail = What.LOG_NOT_TAKEN, "only parts of it were taken: ingest it again"
        elif packed and taken.sha256 not in ("", sha256):
            state, detail = What.LOG_NOT_TAKEN, "the lake took other bytes than lie there: ingest it again"
        elif taken.quarantined:
            detail = f"{taken.quarantined:,} of its records are in quarantine"
    elif what is What.LOG_MISSING and in_lake is not None:
        detail += "; the lake has it" if in_lake else "; the lake has it neither"
    elif what is What.LOG_TAMPERED and in_lake is not None:
        detail += _taken_before(taken, sha256)
    return LogCheck(
        link.name.account,
        link.name.region,
        link.name.end,
        store.locate(log, link.found.location),
        state,
        detail,
        in_lake,
    )


def _taken_before(taken: Taken | None, sha256: str) -> str:
    if taken is None:
        return "; the lake has it in no form"
    if taken.sha256 == sha256:
        return "; the lake holds what was tampered with"
    return "; the lake took other bytes than lie there now"


def _content(job: _Job, store: LogStore) -> tuple[What | None, str, str, bool]:
    """What is wrong with a log file's bytes (None for nothing), why, their hash as they lie there, and
    whether they are packed, as CloudTrail delivers them."""
    log = job.log
    try:
        stream = store.open_log(log, job.link.found.location)
        if stream is None:
            return What.LOG_MISSING, "deleted or moved", "", False
        with stream:
            delivered = _Hashed(stream)
            try:
                found = log_sha256(delivered)
            except SourceError as error:
                found = ""
                fault = str(error)
            sha256, packed = delivered.finish(), delivered.packed
    except OSError as error:
        return What.LOG_UNREADABLE, f"cannot be read: {error.strerror or error}", "", False
    if not job.link.valid:
        detail = f"only {job.link.found.location} names it, which is not proven"
        return What.LOG_UNPROVEN, detail, sha256, packed
    if log.algorithm != "SHA-256":
        detail = f"its hash is by {log.algorithm[:20]!r}, known is SHA-256"
        return What.LOG_UNPROVEN, detail, sha256, packed
    if not found:
        return What.LOG_TAMPERED, fault, sha256, packed
    if found != log.sha256.lower():
        return What.LOG_TAMPERED, "its content has another hash than the digest says", sha256, packed
    return None, "", sha256, packed


class _Hashed:
    """A stream whose bytes are hashed as they are read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.packed = False
        self._stream = stream
        self._digest = hashlib.sha256()
        self._begun = False

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        if not self._begun:
            self._begun, self.packed = True, block.startswith(b"\x1f\x8b")
        self._digest.update(block)
        return block

    def finish(self) -> str:
        """The hash of all bytes, also of those that nobody read."""
        while self.read(1 << 20):
            pass
        return self._digest.hexdigest()


def _unlisted(
    chains: Iterable[Sequence[_Link]],
    store: LogStore,
    checks: Iterable[LogCheck],
    since: dt.datetime | None,
    until: dt.datetime | None,
) -> Iterator[str]:
    """Log files that no digest names, from `since` on, also those of regions that have no digest at all.
    Those of the newest hour wait for their digest."""
    named = {check.place for check in checks}
    # By the place, too: a bucket may have a trail of the account and one of the organisation.
    spans: dict[tuple[str, str], list[_Link]] = defaultdict(list)
    for chain in chains:
        for link in chain:
            if link.listed:
                spans[_base(link), link.name.region].append(link)
    for _, links in sorted(spans.items(), key=lambda item: item[0]):
        digests = [link.digest for link in links if link.digest and not link.moved]
        if digests:
            start = since or min(digest.start for digest in digests)
            end = max(digest.end for digest in digests) - dt.timedelta(hours=1)
            found = links[0].found
            places = store.logs(found.location, found.name.region, start, end)
            yield from (place for place in places if place not in named)
    for beside, region in store.regions() if spans else ():
        if (beside.partition(_DIGESTS)[0], region) not in spans:
            yield from store.logs(beside, region, since or _EVER[0], until or _EVER[1])


def _log_finding(check: LogCheck) -> Finding:
    return Finding(What(check.state), check.account, check.region, check.at, check.place, check.detail)


def _summary(chain: Sequence[_Link], broken: Sequence[Finding], checks: Sequence[LogCheck]) -> ChainSummary:
    name = chain[0].name
    states = Counter(check.state for check in checks)
    breaks = Counter(finding.what for finding in broken)
    readable = [link.digest for link in chain if link.digest]
    return ChainSummary(
        account=name.account,
        region=name.region,
        trail=name.trail,
        backfill=name.backfill,
        first=min((digest.start for digest in readable), default=name.end),
        last=max((digest.end for digest in readable), default=chain[-1].name.end),
        digests=len(chain),
        valid=sum(link.valid for link in chain),
        empty=sum(not digest.logs for digest in readable),
        restarts=sum(digest.previous is None for digest in readable[1:]),
        gaps=breaks[What.GAP],
        digests_missing=breaks[What.DIGEST_MISSING],
        logs=len(checks),
        complete=states[COMPLETE],
        missing=states[What.LOG_MISSING],
        tampered=states[What.LOG_TAMPERED] + states[What.LOG_UNREADABLE],
        unproven=states[What.LOG_UNPROVEN],
        not_taken=states[What.LOG_NOT_TAKEN],
    )
