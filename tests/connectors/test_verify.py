"""CloudTrail's digest chain: each thing that can be wrong is told, and nothing else."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import shutil
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.request import Request, urlopen

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from trailhawk.connectors.again import retry
from trailhawk.connectors.digest import GivenKeys, Listed, ListedKeys, Name, read_digest
from trailhawk.connectors.fetch import Fetched, log_object, refused_object
from trailhawk.connectors.ingest import Ingestor, ingest
from trailhawk.connectors.ledger import LEDGER
from trailhawk.connectors.notices import Notice
from trailhawk.connectors.quarantine import QUARANTINE
from trailhawk.connectors.trail_store import Aws, FolderStore, bucket_of
from trailhawk.connectors.verify import Ledger, Report, What, verify
from trailhawk.errors import SourceError, UsageError
from trailhawk.lake import Lake
from trailhawk.simulate.digest import Digest, DigestChain, LogFile, Signer, key_list
from trailhawk.simulate.text import iso
from trailhawk.sources import SOURCES, TABLES

START = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())
HOURS = 6
REGION: Final = "eu-west-1"
ACCOUNT, BUCKET = "111122223333", "trail-of-the-test"
NOW = datetime(2026, 3, 2, tzinfo=UTC)


@cache
def signer(name: str = "of the region") -> Signer:
    return Signer(Random(name))


class Trail:
    """A folder with logs and digests of some hours: two log files an hour, none in the third."""

    def __init__(self, folder: Path, *, account: str = ACCOUNT, region: str = REGION) -> None:
        self.folder = folder
        self.account, self.region = account, region
        self.chain = DigestChain(signer(), bucket=BUCKET, account=account, region=region, trail="main")
        self.digests: list[Digest] = []
        self.logs: list[Path] = []

    def log(self, at: int) -> LogFile:
        """Write a log file; what a digest says of it."""
        number = len(self.logs)
        record = {
            "eventVersion": "1.11",
            "eventID": f"{self.account}-{self.region}-{number}",
            "eventTime": datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z"),
            "eventName": "ListBuckets",
            "recipientAccountId": self.account,
        }
        text = json.dumps({"Records": [record]}).encode()
        stamp = datetime.fromtimestamp(at, UTC)
        key = (
            f"AWSLogs/{self.account}/CloudTrail/{self.region}/{stamp:%Y/%m/%d}/"
            f"{self.account}_CloudTrail_{self.region}_{stamp:%Y%m%dT%H%MZ}_{number:016d}.json.gz"
        )
        self.logs.append(self.write(key, gzip.compress(text, mtime=0)))
        return LogFile(at, key, hashlib.sha256(text).hexdigest(), at, at)

    def write(self, key: str, content: bytes) -> Path:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def hour(self, number: int, *, logs: int = 2) -> None:
        for place in range(logs):
            self.chain.add(self.log(START + number * 3600 + 300 + 600 * place))
        self.complete(number + 1)

    def complete(self, hours: int) -> None:
        for digest in self.chain.complete(START + hours * 3600):
            self.put(digest)

    def put(self, digest: Digest) -> Path:
        self.digests.append(digest)
        path = self.write(digest.key, gzip.compress(digest.text, mtime=0))
        path.with_name(f".{path.name}.head.json").write_bytes(digest.head)
        return path

    def path(self, number: int) -> Path:
        return self.folder / self.digests[number].key


def trail(folder: Path, **of: str) -> Trail:
    made = Trail(folder, **of)
    for number in range(HOURS):
        made.hour(number, logs=0 if number == 2 else 2)
    return made


def keys_of(folder: Path, key: Signer | None = None) -> GivenKeys:
    path = folder / "keys.json"
    path.write_bytes(key_list([key or signer()], START, START + 7 * 86_400))
    return GivenKeys(path)


def taken(folder: Path, lake_folder: Path) -> Ledger:
    """What the ledger holds after the folder was ingested."""
    lake = Lake(lake_folder, [*TABLES, LEDGER, QUARANTINE])
    ingest(lake, [folder], clock=lambda: NOW)
    return ledger_of(lake)


def ledger_of(lake: Lake) -> Ledger:
    import pyarrow.parquet as pq

    files = lake.snapshot(LEDGER.name).files()
    return Ledger(row for file in files for row in pq.read_table(file.path).to_pylist())


@pytest.fixture
def whole(tmp_path: Path) -> Trail:
    return trail(tmp_path / "bucket")


def check(made: Trail, ledger: Ledger | None = None, **options: Any) -> Report:
    return verify(
        FolderStore(made.folder), options.pop("keys", keys_of(made.folder.parent)), ledger, **options
    )


def told(report: Report) -> list[tuple[What, str]]:
    """What is wrong and the name of the file it is about."""
    return [(one.what, one.place.rpartition("/")[2]) for one in report.findings]


def test_an_intact_chain_all_of_it_ingested(whole: Trail, tmp_path: Path) -> None:
    report = check(whole, taken(whole.folder, tmp_path / "lake"))
    assert report.ok
    (chain,) = report.chains
    assert (chain.account, chain.region, chain.trail) == (ACCOUNT, REGION, "main")
    assert (chain.digests, chain.valid, chain.empty, chain.logs, chain.complete) == (6, 6, 1, 10, 10)
    assert (chain.gaps, chain.restarts, chain.digests_missing) == (0, 0, 0)
    assert chain.last - chain.first == timedelta(hours=HOURS)
    assert all(log.in_lake for log in report.logs)


def test_a_flipped_byte_of_a_log(whole: Trail, tmp_path: Path) -> None:
    ledger = taken(whole.folder, tmp_path / "lake")
    path = whole.logs[3]
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(text.replace(b"ListBuckets", b"ListBuckeds"), mtime=0))
    report = check(whole, ledger)
    assert told(report) == [(What.LOG_TAMPERED, path.name)]
    assert "the lake took other bytes than lie there now" in report.findings[0].detail
    assert report.chains[0].complete == 9


def test_what_was_tampered_with_before_it_was_taken(whole: Trail, tmp_path: Path) -> None:
    path = whole.logs[0]
    path.write_bytes(gzip.compress(b'{"Records":[]}', mtime=0))
    report = check(whole, taken(whole.folder, tmp_path / "lake"))
    assert told(report) == [(What.LOG_TAMPERED, path.name)]
    assert "the lake holds what was tampered with" in report.findings[0].detail


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda content: content + gzip.compress(b'{"Records":[{}]}'), "bytes after the end"),
        (lambda content: content[:-9], "ends early"),
        (lambda content: content[:20] + bytes([content[20] ^ 8]) + content[21:], "damaged|another hash"),
    ],
)
def test_damaged_and_lengthened_logs(whole: Trail, spoil: Callable[[bytes], bytes], why: str) -> None:
    path = whole.logs[1]
    path.write_bytes(spoil(path.read_bytes()))
    report = check(whole)
    assert told(report) == [(What.LOG_TAMPERED, path.name)]
    assert any(word in report.findings[0].detail for word in why.split("|"))


def test_a_flipped_byte_of_a_digest(whole: Trail, tmp_path: Path) -> None:
    ledger = taken(whole.folder, tmp_path / "lake")
    path = whole.path(3)
    text = whole.digests[3].text.replace(b'"hashAlgorithm":"SHA-256"', b'"hashAlgorithm":"SHA-255"', 1)
    path.write_bytes(gzip.compress(text))
    report = check(whole, ledger)
    found = told(report)
    assert found[0] == (What.DIGEST_INVALID, path.name)
    assert "the next digest has another hash of it" in report.findings[0].detail
    assert "signature does not fit" in report.findings[0].detail
    # What it names is proven by nobody any more.
    assert [what for what, _ in found[1:]] == [What.LOG_UNPROVEN] * 2
    assert report.chains[0].complete == 8


def test_a_deleted_log(whole: Trail, tmp_path: Path) -> None:
    ledger = taken(whole.folder, tmp_path / "lake")
    whole.logs[4].unlink()
    report = check(whole, ledger)
    assert told(report) == [(What.LOG_MISSING, whole.logs[4].name)]
    assert report.findings[0].detail == "deleted or moved; the lake has it"
    assert report.chains[0].missing == 1


def test_a_log_deleted_before_it_was_taken(whole: Trail, tmp_path: Path) -> None:
    whole.logs[4].unlink()
    report = check(whole, taken(whole.folder, tmp_path / "lake"))
    assert told(report) == [(What.LOG_MISSING, whole.logs[4].name)]
    assert report.findings[0].detail == "deleted or moved; the lake has it neither"


@pytest.mark.parametrize("gone", [(2,), (3, 4), (0,)])
def test_deleted_digests(whole: Trail, gone: tuple[int, ...]) -> None:
    for number in gone:
        whole.path(number).unlink()
    report = check(whole)
    name = whole.path(gone[-1]).name
    assert told(report) == [(What.DIGEST_MISSING, name)]
    if gone[0]:
        assert f"{len(gone)}.0 h without proof" in report.findings[0].detail


def test_the_newest_digests_deleted_shows_where_the_end_is_known(whole: Trail) -> None:
    end = datetime.fromtimestamp(START + 6 * 3600, UTC)
    for number in (2, 3, 4, 5):
        whole.path(number).unlink()
    assert check(whole).ok
    report = check(whole, until=end)
    assert [one.what for one in report.findings] == [What.GAP]
    assert report.findings[0].place == "2026-03-01T02:00:00Z to 2026-03-01T06:00:00Z"


def test_a_swapped_key(whole: Trail) -> None:
    report = check(whole, keys=keys_of(whole.folder.parent, signer("of somebody else")))
    assert {one.what for one in report.findings} == {What.DIGEST_INVALID, What.LOG_UNPROVEN}
    assert sum(one.what is What.DIGEST_INVALID for one in report.findings) == 6
    assert all(
        "no public key with the fingerprint" in one.detail
        for one in report.findings
        if one.what is What.DIGEST_INVALID
    )


def test_a_chain_forged_with_a_key_that_claims_the_fingerprint(tmp_path: Path) -> None:
    forger = Signer(Random("of the forger"))
    forger.__dict__["fingerprint"] = signer().fingerprint
    made = Trail(tmp_path / "bucket")
    made.chain.signer = forger
    made.hour(0)
    report = check(made)
    assert report.findings[0].what is What.DIGEST_INVALID
    assert "its signature does not fit" in report.findings[0].detail


def test_a_file_never_ingested(whole: Trail, tmp_path: Path) -> None:
    held = whole.logs[5].read_bytes()
    whole.logs[5].unlink()
    ledger = taken(whole.folder, tmp_path / "lake")
    whole.logs[5].write_bytes(held)
    report = check(whole, ledger)
    assert told(report) == [(What.LOG_NOT_TAKEN, whole.logs[5].name)]
    assert "never ingested" in report.findings[0].detail
    assert report.chains[0].not_taken == 1
    assert [log.in_lake for log in report.logs].count(False) == 1


def test_a_digest_put_elsewhere(whole: Trail) -> None:
    # The third hour's digest laid over the fourth's: a true signature in the wrong place.
    third, fourth = whole.path(2), whole.path(3)
    fourth.write_bytes(third.read_bytes())
    fourth.with_name(f".{fourth.name}.head.json").write_bytes(whole.digests[2].head)
    found = check(whole).findings
    assert [(one.what, one.place.rpartition("/")[2]) for one in found] == [(What.DIGEST_INVALID, fourth.name)]
    assert "was moved" in found[0].detail


def test_validation_switched_off_and_on(tmp_path: Path) -> None:
    made = Trail(tmp_path / "bucket")
    made.hour(0)
    made.chain.restart()
    made.hour(1)
    report = check(made)
    assert report.ok  # it began anew, but no hour is without proof
    assert report.chains[0].restarts == 1
    for number in (2, 3):
        made.hour(number)
    for number in (1, 2):
        made.path(number).unlink()
    made.chain.restart()
    made.hour(4)
    assert [one.what for one in check(made).findings] == [What.DIGEST_MISSING]


def test_a_chain_begun_anew_whose_past_was_deleted(tmp_path: Path) -> None:
    """The digests that are left know of nothing; the ledger does."""
    made = Trail(tmp_path / "bucket")
    made.hour(0)
    made.hour(1)
    made.chain.restart()
    made.hour(2)
    ledger = taken(made.folder, tmp_path / "lake")
    assert check(made, ledger).ok
    for path in (made.path(0), made.path(1), *made.logs[:4]):
        path.unlink()
    assert check(made).ok
    report = check(made, ledger)
    assert told(report) == [(What.DIGEST_MISSING, made.path(0).name)]
    assert "since the lake took it, and 1 more until 2026-03-01T02:00:00Z" in report.findings[0].detail
    later = datetime.fromtimestamp(START + 2 * 3600, UTC)
    assert check(made, ledger, since=later).ok
    made.path(2).unlink()
    report = check(made, ledger)
    assert (report.chains, len(report.findings)) == ((), 1)


@pytest.mark.parametrize(
    ("ingested", "verified"),
    [
        ("copy/bucket", "copy/bucket"),
        ("copy/bucket", "./copy/../copy/bucket/"),
        ("copy/bucket", "copy"),
        ("copy/bucket", "."),
        ("copy/bucket", "{here}/copy/bucket"),
        ("{here}/copy/bucket", "copy/bucket"),
        ("./copy", "link"),
        ("link", "copy/bucket"),
        ("link", "{here}/link"),
    ],
)
def test_a_folder_is_known_however_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ingested: str, verified: str
) -> None:
    made = Trail(tmp_path / "copy" / "bucket")
    made.hour(0)
    made.chain.restart()
    made.hour(1)
    (tmp_path / "link").symlink_to("copy/bucket")
    monkeypatch.chdir(tmp_path)
    ledger = taken(Path(ingested.format(here=tmp_path)), tmp_path / "lake")
    keys = keys_of(tmp_path)

    def found() -> list[tuple[What, str]]:
        return told(verify(FolderStore(Path(verified.format(here=tmp_path))), keys, ledger))

    assert found() == []
    for path in (made.path(0), *made.logs[:2]):
        path.unlink()
    assert found() == [(What.DIGEST_MISSING, made.path(0).name)]


def test_a_relative_path_of_another_place_is_not_missed(
    whole: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = trail(tmp_path / "elsewhere" / "logs").folder
    monkeypatch.chdir(other.parent)
    ledger = taken(Path("logs"), tmp_path / "lake")
    ledger.digests.append(("", whole.digests[0].key, f"s3://{BUCKET}/{whole.digests[0].key}"))
    monkeypatch.chdir(whole.folder)
    report = verify(FolderStore(Path(".")), keys_of(tmp_path), ledger)
    assert What.DIGEST_MISSING not in {one.what for one in report.findings}


def test_digests_of_other_places_are_not_missed(whole: Trail, tmp_path: Path, aws: Aws) -> None:
    ledger = taken(trail(tmp_path / "elsewhere").folder, tmp_path / "lake")
    ledger.digests.append(("another", whole.digests[0].key, ""))
    assert len(ledger.digests) == HOURS + 1
    assert What.DIGEST_MISSING not in {one.what for one in check(whole, ledger).findings}
    client = upload(whole)
    ledger.digests.append((BUCKET, whole.digests[0].key, ""))
    store, keys = aws.bucket(BUCKET, "AWSLogs"), ListedKeys(aws.list_keys)
    end = datetime.fromtimestamp(START + HOURS * 3600, UTC)
    assert verify(store, keys, ledger, until=end).ok
    client.delete_object(Bucket=BUCKET, Key=whole.digests[0].key)
    report = verify(store, keys, ledger, until=end)
    assert told(report) == [(What.DIGEST_MISSING, whole.path(0).name)]  # once, as the next one names it


def test_hours_between_two_chains(tmp_path: Path) -> None:
    made = Trail(tmp_path / "bucket")
    made.hour(0)
    later = DigestChain(signer(), bucket=BUCKET, account=ACCOUNT, region=REGION, trail="main")
    later.add(made.log(START + 4 * 3600 + 60))
    for digest in later.complete(START + 5 * 3600):
        made.put(digest)
    report = check(made)
    assert [one.what for one in report.findings] == [What.GAP]
    assert report.findings[0].place == "2026-03-01T01:00:00Z to 2026-03-01T04:00:00Z"
    assert (report.chains[0].gaps, report.chains[0].restarts) == (1, 1)


def test_backfilled_logs(whole: Trail) -> None:
    whole.chain.add(whole.log(START + 1800))
    whole.complete(HOURS + 1)
    report = check(whole)
    assert report.ok
    ordinary, backfill = report.chains
    assert (ordinary.backfill, ordinary.logs) == (False, 10)
    assert (backfill.backfill, backfill.digests, backfill.logs) == (True, 1, 1)


def test_a_copied_backfill_digest_does_not_tell_when_it_was_made(whole: Trail, tmp_path: Path) -> None:
    """Its signature is in its follower, and the time of its hour may lie before its key's."""
    for hour in (0, 1):
        whole.chain.add(whole.log(START + hour * 3600 + 1800))
    whole.complete(HOURS + 1)
    for head in whole.folder.rglob("*backfill*.head.json"):
        head.unlink()
    path = tmp_path / "keys.json"
    path.write_bytes(key_list([signer()], START + 5 * 3600, START + 7 * 86_400))
    found = check(whole, keys=GivenKeys(path)).findings
    told = {one.what for one in found if one.place.endswith("_backfill.json.gz")}
    assert told == {What.DIGEST_UNSIGNED}  # the newest has no follower


def test_a_log_that_no_digest_names(whole: Trail) -> None:
    whole.log(START + 3 * 3600 + 900)
    whole.log(START + 5 * 3600 + 900)  # within the newest hour: its digest may be to come
    report = check(whole)
    assert report.ok
    assert report.unlisted == (whole.logs[-2].as_posix(),)


def test_accounts_and_regions_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "bucket"
    here, there = trail(folder), trail(folder, account="444455556666", region="us-east-1")
    there.logs[0].unlink()
    report = check(here)
    assert [(chain.account, chain.region, chain.missing) for chain in report.chains] == [
        (ACCOUNT, REGION, 0),
        ("444455556666", "us-east-1", 1),
    ]
    assert (report.findings[0].account, report.findings[0].region) == ("444455556666", "us-east-1")


def test_a_region_whose_digests_were_all_deleted(whole: Trail, aws: Aws) -> None:
    other = trail(whole.folder, region="us-east-1")
    assert check(whole).unlisted == ()
    shutil.rmtree(whole.folder / "AWSLogs" / ACCOUNT / "CloudTrail-Digest" / "us-east-1")
    assert check(whole).unlisted == tuple(path.as_posix() for path in other.logs)
    ending = datetime.fromtimestamp(START + 5 * 3600, UTC)
    assert check(whole, since=ending).unlisted == tuple(path.as_posix() for path in other.logs[-2:])
    upload(whole)
    found = verify(aws.bucket(BUCKET, ""), ListedKeys(aws.list_keys), None).unlisted
    assert [place.rpartition("/")[2] for place in found] == [path.name for path in other.logs]


def test_logs_of_a_time_before_validation_was_on(whole: Trail) -> None:
    whole.log(START - 3600)
    assert check(whole).unlisted == ()
    asked = check(whole, since=datetime.fromtimestamp(START - 2 * 3600, UTC))
    assert asked.unlisted == (whole.logs[-1].as_posix(),)


def test_a_range_of_time_needs_no_digest_before_it(whole: Trail) -> None:
    hour = timedelta(hours=1)
    start = datetime.fromtimestamp(START, UTC)
    whole.path(0).unlink()
    report = check(whole, since=start + hour, until=start + 4 * hour)
    assert report.ok
    assert (report.chains[0].digests, report.chains[0].logs) == (3, 4)


def test_a_copy_without_metadata_is_proven_by_the_next_digest(whole: Trail) -> None:
    for head in whole.folder.rglob(".*.head.json"):
        head.unlink()
    report = check(whole)
    assert (What.DIGEST_UNSIGNED, whole.path(5).name) in told(report)
    assert len(report.findings) == 3
    assert report.chains[0].valid == 5
    assert report.chains[0].unproven == 2


def test_a_digest_that_leads_out_of_the_folder(tmp_path: Path) -> None:
    made = Trail(tmp_path / "bucket")
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    made.chain.add(LogFile(START + 60, "AWSLogs/../../secret.json", hashlib.sha256(b"{}").hexdigest(), 0, 0))
    made.complete(1)
    report = check(made)
    assert [one.what for one in report.findings] == [What.LOG_MISSING]
    assert report.findings[0].place.startswith("s3://")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no digest"),
        (b"[1]", "no digest"),
        (b'{"awsAccountId":1}', "no digest"),
        (b"[" * 100_000, "no digest"),
        (b'{"x":' + b"[" * 100_000, "no digest"),
        (gzip.compress(bytes(70 << 20), mtime=0), "more than"),
        (gzip.compress(b"{}", mtime=0)[:-4], "ends early"),
        (b"\xff\xfe{}", "no digest"),
    ],
)
def test_what_is_no_digest(content: bytes, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        read_digest(content)


def test_a_digest_with_no_time(whole: Trail) -> None:
    text = whole.digests[0].text.replace(b'"digestStartTime":"2026', b'"digestStartTime":"T026')
    with pytest.raises(SourceError, match="is no time"):
        read_digest(text)


@pytest.mark.parametrize("year", ["0001", "1999", "9999"])
def test_times_that_no_day_can_be_added_to(whole: Trail, year: str) -> None:
    """Anybody who may write to the bucket may write such a digest; the others are checked all the same."""
    digest = whole.digests[5]
    with pytest.raises(SourceError, match="is no time of a digest"):
        read_digest(digest.text.replace(b'"digestEndTime":"2026', f'"digestEndTime":"{year}'.encode()))
    assert Name.of(f"1_CloudTrail-Digest_r_t_r_{year}0101T000000Z.json.gz") is None
    path = whole.path(5)
    head = json.loads(digest.head)
    head["Metadata"]["backfill-generation-timestamp"] = f"{year}-01-01T00:00:00Z"
    path.with_name(f".{path.name}.head.json").write_text(json.dumps(head))
    listed = ListedKeys(lambda *_: [Listed(signer().public, signer().fingerprint)])
    assert check(whole, keys=listed).ok


def test_keys_that_cannot_be_had_in_one_region(tmp_path: Path) -> None:
    """A region may be switched off later, and a name of a file may name any."""
    folder = tmp_path / "bucket"
    here, there = trail(folder), trail(folder, region="nowhere-1")
    asked: list[str] = []

    def keys(region: str, start: datetime, end: datetime) -> list[Listed]:
        asked.append(region)
        if region != REGION:
            raise OSError("Could not connect to the endpoint URL")
        assert start <= NOW <= end
        return [Listed(signer().public, signer().fingerprint)]

    report = check(here, keys=ListedKeys(keys))
    assert [(chain.region, chain.valid) for chain in report.chains] == [(REGION, 6), ("nowhere-1", 0)]
    unsigned = [one for one in report.findings if one.what is What.DIGEST_UNSIGNED]
    assert len(unsigned) == 6
    assert unsigned[0].detail == "its public key cannot be had: Could not connect to the endpoint URL"
    assert sorted(asked) == [REGION, "nowhere-1"]  # once a month, whatever was answered
    for number in range(HOURS):
        here.path(number).unlink()
    with pytest.raises(OSError, match="endpoint"):
        check(there, keys=ListedKeys(keys))


def test_two_trails_of_an_account_in_two_places(tmp_path: Path) -> None:
    """Its own and that of its organisation: strays are sought in both."""
    whole = trail(tmp_path / "bucket")
    for digest in whole.digests:
        text = digest.text.replace(b"AWSLogs/", b"AWSLogs/o-1/")
        whole.write(digest.key.replace("AWSLogs/", "AWSLogs/o-1/"), gzip.compress(text))
    stray = whole.log(START + 3 * 3600 + 900)
    there = whole.write(stray.key.replace("AWSLogs/", "AWSLogs/o-1/"), b"")
    assert set(check(whole).unlisted) == {whole.logs[-1].as_posix(), there.as_posix()}


def test_two_copies_in_one_folder(tmp_path: Path) -> None:
    """Each is checked for itself: what one lacks the other does not make good."""
    made = trail(tmp_path / "all" / "monday")
    tuesday = Path(shutil.copytree(made.folder, tmp_path / "all" / "tuesday"))
    made.folder = tmp_path / "all"
    report = check(made)
    assert (report.ok, [chain.logs for chain in report.chains]) == (True, [10, 10])
    log = tuesday / made.logs[3].relative_to(tmp_path / "all" / "monday")
    log.write_bytes(gzip.compress(b'{"Records":[]}'))
    (digest := tuesday / made.digests[4].key).unlink()
    found = [(one.what, one.place.rpartition("/")[2]) for one in check(made).findings]
    assert found == [(What.LOG_TAMPERED, log.name), (What.DIGEST_MISSING, digest.name)]


def test_a_trail_that_was_given_another_prefix(tmp_path: Path) -> None:
    """Its chain goes on there, and is one."""
    made = Trail(tmp_path / "bucket")
    for number in range(2):
        made.hour(number)
    made.folder = tmp_path / "bucket" / "later"
    for number in range(2, 4):
        made.hour(number)
    made.folder = tmp_path / "bucket"
    report = check(made)
    assert (report.ok, [chain.digests for chain in report.chains]) == (True, [4])


@pytest.mark.parametrize("names", list(itertools.permutations("abc")))
def test_a_trail_that_was_moved_beside_a_copy_of_its_beginning(tmp_path: Path, names: Sequence[str]) -> None:
    """It goes on behind the digest that its next one names, whatever the folders are called."""
    first, then, copy = (tmp_path / "all" / name for name in names)
    made = Trail(first)
    made.hour(0)
    made.hour(1)
    shutil.copytree(first, copy)
    made.hour(2)
    made.folder = then
    for number in range(3, 6):
        made.hour(number)
    made.folder = tmp_path / "all"
    report = check(made)
    assert (report.findings, sorted(chain.digests for chain in report.chains)) == ((), [2, 6])


@pytest.mark.parametrize("names", list(itertools.permutations("abc")))
def test_a_digest_gone_where_a_trail_was_moved(tmp_path: Path, names: Sequence[str]) -> None:
    first, then, copy = (tmp_path / "all" / name for name in names)
    made = Trail(first)
    made.hour(0)
    shutil.copytree(first, copy)
    made.hour(1)
    made.hour(2)
    made.path(2).unlink()
    made.folder = then
    made.hour(3)
    made.folder = tmp_path / "all"
    report = check(made)
    assert [(one.what, "1.0 h without" in one.detail) for one in report.findings] == [
        (What.DIGEST_MISSING, True)
    ]
    assert sorted(chain.digests for chain in report.chains) == [1, 3]


def test_names() -> None:
    folder = "p/AWSLogs/o-1/1/CloudTrail-Digest/us-gov-east-1/2026/01/02/"
    key = folder + "1_CloudTrail-Digest_us-gov-east-1_a_b-c_us-west-2_20260102T030405Z"
    assert Name.of(key + ".json.gz") == Name(
        "1", "us-gov-east-1", "a_b-c", "us-west-2", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), False
    )
    backfill = Name.of(key + "_backfill.json.gz")
    assert backfill is not None
    assert backfill.backfill
    assert Name.of("1_CloudTrail_us-east-1_20260102T0304Z_a.json.gz") is None
    assert Name.of("1_CloudTrail-Digest_r_t_r_99999999T999999Z.json.gz") is None


def test_keys_that_cannot_be_asked_for_say_what_gives_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    told = "public keys of eu-west-1: Unable to locate credentials; --keys FILE gives them"
    with pytest.raises(OSError, match=told):
        Aws().list_keys("eu-west-1", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))


def test_public_keys_in_all_forms(whole: Trail, tmp_path: Path) -> None:
    public = signer().key.public_key()
    for number, content in enumerate(
        [
            signer().public,
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
            signer("another").key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)
            + public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        ]
    ):
        path = tmp_path / f"key-{number}"
        path.write_bytes(content)
        assert check(whole, keys=GivenKeys(path)).ok
    for content in (
        b"",
        b"{}",
        b"-----BEGIN X-----\nno\n-----END X-----",
        b'{"PublicKeyList":[{"Value":"%"}]}',
    ):
        path.write_bytes(content)
        with pytest.raises(UsageError):
            GivenKeys(path)


@pytest.mark.parametrize("spelling", [iso, float, lambda at: iso(at).replace("Z", "+00:00")])
@pytest.mark.parametrize("is_given", [True, False])
def test_a_key_signs_nothing_outside_of_its_times(
    whole: Trail, tmp_path: Path, spelling: Callable[[int], object], is_given: bool
) -> None:
    """But for two hours: a digest is signed some time after its hour."""

    def faults(first: int, last: int) -> list[str]:
        key: dict[str, object] = {"Fingerprint": signer().fingerprint}
        times = {"ValidityStartTime": spelling(first), "ValidityEndTime": spelling(last)}
        if is_given:
            path = tmp_path / "keys.json"
            value = b64encode(signer().public).decode()
            path.write_text(json.dumps({"PublicKeyList": [{**key, **times, "Value": value}]}))
            report = check(whole, keys=GivenKeys(path))
        else:
            moments = (datetime.fromtimestamp(at, UTC) for at in (first, last))
            listed = Listed(signer().public, signer().fingerprint, *moments)
            report = check(whole, keys=ListedKeys(lambda *_: [listed]))
        return [one.detail for one in report.findings if one.what is What.DIGEST_INVALID]

    end = START + HOURS * 3600
    assert not faults(START, end)
    assert not faults(START + 3 * 3600, end - 2 * 3600)
    early = faults(START + 5 * 3600, end)
    assert len(early) == 2
    assert "its public key was in use from" in early[0]
    late = faults(START - 86_400, end - 3 * 3600 - 60)
    assert len(late) == 2
    assert "its public key was in use until" in late[0]


def test_a_key_whose_times_stand_for_always(whole: Trail, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = {"Fingerprint": signer().fingerprint, "Value": b64encode(signer().public).decode()}
    times = {"ValidityStartTime": "0001-01-01T00:00:00Z", "ValidityEndTime": "9999-12-31T23:59:59Z"}
    path.write_text(json.dumps({"PublicKeyList": [key | times]}))
    assert check(whole, keys=GivenKeys(path)).ok


def test_addresses() -> None:
    assert bucket_of("s3://b") == ("b", "")
    assert bucket_of("s3://b/p/q") == ("b", "p/q")
    assert bucket_of("folder/b") is None
    with pytest.raises(UsageError):
        bucket_of("s3:///p")


# --- a bucket ---------------------------------------------------------------------------------------------


class _Keys(BaseHTTPRequestHandler):
    """CloudTrail's ListPublicKeys: moto has none."""

    def do_POST(self) -> None:
        assert self.headers["X-Amz-Target"].endswith(".ListPublicKeys")
        self.rfile.read(int(self.headers["Content-Length"]))
        region = self.headers["Authorization"].split("/")[2]
        key = {"Value": b64encode(signer().public).decode(), "Fingerprint": signer().fingerprint}
        body = json.dumps({"PublicKeyList": [key] if region == REGION else []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    moto_server = pytest.importorskip("moto.server")
    s3 = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    s3.start()
    address = "http://{}:{}".format(*s3.get_host_and_port())
    # moto's servers of one process share what they hold.
    urlopen(Request(f"{address}/moto-api/reset", method="POST")).close()
    keys = ThreadingHTTPServer(("127.0.0.1", 0), _Keys)
    threading.Thread(target=keys.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL_S3": address,
        "AWS_ENDPOINT_URL_CLOUDTRAIL": f"http://127.0.0.1:{keys.server_port}",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        yield Aws()
    finally:
        s3.stop()
        keys.shutdown()
        keys.server_close()


def upload(made: Trail, prefix: str = "") -> Any:
    """Put a trail's files into its bucket, digests with their metadata."""
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    metadata = {digest.key: dict(digest.metadata) for digest in made.digests}
    for path in made.folder.rglob("*.json.gz"):
        key = path.relative_to(made.folder).as_posix()
        client.put_object(
            Bucket=BUCKET, Key=prefix + key, Body=path.read_bytes(), Metadata=metadata.get(key, {})
        )
    return client


def test_a_bucket_with_the_keys_of_cloudtrail(whole: Trail, aws: Aws) -> None:
    client = upload(whole)
    end = datetime.fromtimestamp(START + HOURS * 3600, UTC)
    store, keys = aws.bucket(BUCKET, ""), ListedKeys(aws.list_keys)
    report = verify(store, keys, None, until=end)
    assert report.ok
    assert (report.chains[0].valid, report.chains[0].complete) == (6, 10)
    assert report.unlisted == ()
    stray = whole.log(START + 3700)
    client.put_object(Bucket=BUCKET, Key=stray.key, Body=whole.logs[-1].read_bytes())
    assert verify(store, keys, None, until=end).unlisted == (f"s3://{BUCKET}/{stray.key}",)

    log = whole.logs[0].relative_to(whole.folder).as_posix()
    client.delete_object(Bucket=BUCKET, Key=log)
    client.delete_object(Bucket=BUCKET, Key=whole.digests[4].key)
    report = verify(store, keys, None, until=end)
    assert [(one.what, one.place) for one in report.findings] == [
        (What.LOG_MISSING, f"s3://{BUCKET}/{log}"),
        (What.DIGEST_MISSING, f"s3://{BUCKET}/{whole.digests[4].key}"),
    ]
    later = end + timedelta(hours=5)
    assert [one.what for one in verify(store, keys, None, since=end, until=later).findings] == []
    assert not verify(store, keys, None, since=end, until=later).ok  # nothing to check proves nothing
    since = end - timedelta(hours=1)
    report = verify(store, keys, None, since=since, until=later)
    assert [one.what for one in report.findings] == [What.GAP]


def test_a_digest_that_names_a_bucket_that_is_none(whole: Trail, aws: Aws) -> None:
    """It is nobody's word; what it says must not end the check of the others."""
    client = upload(whole)
    name = whole.digests[0].key.rpartition("/")[2].replace("_main_", "_forged_")
    key = f"AWSLogs/{ACCOUNT}/CloudTrail-Digest/{REGION}/2026/03/01/{name}"
    forged = json.loads(whole.digests[3].text)
    forged |= {"digestS3Object": key, "previousDigestS3Bucket": "no bucket!"}
    client.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(forged).encode())
    report = verify(aws.bucket(BUCKET, ""), ListedKeys(aws.list_keys), None)
    forgery, main = report.chains
    assert (forgery.valid, main.valid, main.complete) == (0, 6, 10)
    assert any("cannot be looked at (Parameter validation failed" in one.detail for one in report.findings)


def test_digests_below_any_prefix(aws: Aws, tmp_path: Path) -> None:
    made = Trail(tmp_path / "bucket")
    made.hour(0)
    client = upload(made, prefix="team/logs/eu/")
    for path in made.folder.rglob("*.json.gz"):
        key = path.relative_to(made.folder).as_posix().replace("AWSLogs/", "team/logs/AWSLogs/o-1/")
        client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    # A folder of this name in a wrong place hides none of the others.
    for stray in ("CloudTrail-Digest/x/y.json.gz", "team/logs/AWSLogs/CloudTrail-Digest/x/y.json.gz"):
        client.put_object(Bucket=BUCKET, Key=stray, Body=b"")
    found = [each.location for each in aws.bucket(BUCKET, "").digests(None, None)]
    assert [place.rpartition(f"/{ACCOUNT}/")[0].removeprefix(f"s3://{BUCKET}/") for place in found] == [
        "team/logs/AWSLogs/o-1",
        "team/logs/eu/AWSLogs",
    ]


def test_dropped_rows_come_back_from_a_bucket(aws: Aws, tmp_path: Path) -> None:
    """What `filter refetch` opens; it looks at the bytes itself."""
    made = Trail(tmp_path / "bucket")
    made.log(START)
    upload(made)
    key = made.logs[0].relative_to(made.folder).as_posix()
    with aws.open(BUCKET, key) as stream:
        assert stream.read() == made.logs[0].read_bytes()
    with pytest.raises(OSError, match="NoSuchKey"):
        aws.open(BUCKET, "nowhere")


def test_metadata_of_another_signature(whole: Trail, aws: Aws) -> None:
    client = upload(whole)
    digest = whole.digests[1]
    client.put_object(
        Bucket=BUCKET,
        Key=digest.key,
        Body=gzip.compress(digest.text),
        Metadata={"signature": "ab" * 256, "signature-algorithm": "SHA256withRSA"},
    )
    report = verify(aws.bucket(BUCKET, "AWSLogs"), ListedKeys(aws.list_keys), None)
    assert report.findings[0].what is What.DIGEST_INVALID
    assert "another signature than the next digest says" in report.findings[0].detail


def test_a_simulation_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trailhawk.cli import run

    sim, home = str(tmp_path / "sim"), ["--home", str(tmp_path / "home")]
    options = ["--days", "1", "--events-per-day", "300", "--end", "2026-03-20", "--quiet"]
    assert run([*home, "simulate", "cloud-breach-s3", "--out", sim, *options]) == 0
    assert run([*home, "ingest", f"{sim}/logs", "--quiet"]) == 0
    capsys.readouterr()
    asked = [*home, "verify", f"{sim}/logs", "--keys", f"{sim}/digest-keys.json", "--quiet"]
    assert run(asked) == 0
    said = capsys.readouterr()
    assert "\nnothing is missing: " in said.out  # and every file of every account and region is proven
    assert not said.err
    path = next(
        path for path in sorted(Path(sim).rglob("*_CloudTrail_us-east-1_*.json.gz")) if "1234" in path.name
    )
    path.write_bytes(b"")
    assert run([*asked, "--format", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    assert [finding["place"] for finding in report["findings"]] == [path.as_posix()]
    assert run([*home, "verify", str(tmp_path / "home"), "--keys", f"{sim}/digest-keys.json"]) == 1
    assert "no digest files there" in capsys.readouterr().err
    assert run([*home, "verify", str(tmp_path / "nowhere")]) == 2


def test_the_ledger_knows_objects_of_buckets_and_their_parts(whole: Trail) -> None:
    def row(number: int, state: str, *, quarantined: int = 0) -> dict[str, object]:
        key = whole.logs[number].relative_to(whole.folder).as_posix()
        return {
            "Object": f"s3:{BUCKET}/{key}@etag",
            "Bucket": BUCKET,
            "Key": key,
            "Location": f"s3://{BUCKET}/{key}",
            "Sha256": hashlib.sha256(whole.logs[number].read_bytes()).hexdigest(),
            "State": state,
            "Quarantined": quarantined,
        }

    rows = [row(number, "stored") for number in range(2, 10)]
    rows += [row(0, "part"), row(1, "part"), row(1, "stored"), row(3, "stored", quarantined=2)]
    report = check(whole, Ledger(rows))
    assert told(report) == [(What.LOG_NOT_TAKEN, whole.logs[0].name)]
    assert "only parts of it were taken" in report.findings[0].detail
    details = {log.place.rpartition("/")[2]: log.detail for log in report.logs}
    assert details[whole.logs[3].name] == "2 of its records are in quarantine"
    assert details[whole.logs[1].name] == ""


def test_a_log_that_lies_whole_in_quarantine_is_not_in_the_lake(whole: Trail, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", [*TABLES, LEDGER, QUARANTINE])
    ingestor = Ingestor(lake, clock=lambda: NOW)
    keys = [path.relative_to(whole.folder).as_posix() for path in whole.logs]
    for number, (path, key) in enumerate(zip(whole.logs, keys, strict=True)):
        notice = Notice(BUCKET, key, etag=f"{number}", size=1)
        if number == 4:
            ingestor.take(refused_object(notice, "AccessDenied: no kms:Decrypt"))
        else:
            ingestor.take(log_object(Fetched(notice, path.open("rb"))))
    ingestor.flush()
    report = check(whole, ledger_of(lake))
    assert told(report) == [(What.LOG_NOT_TAKEN, whole.logs[4].name)]
    assert "in quarantine" in report.findings[0].detail
    found = log_object(Fetched(Notice(BUCKET, keys[4], etag="4"), whole.logs[4].open("rb")))
    (retried,) = retry(lake, clock=lambda: NOW, sources=SOURCES, find=lambda _: found)
    assert retried.state == "stored"
    assert check(whole, ledger_of(lake)).ok


def test_other_bytes_were_taken_than_lie_there_and_are_proven(whole: Trail, tmp_path: Path) -> None:
    path = whole.logs[2]
    good = path.read_bytes()
    path.write_bytes(gzip.compress(b'{"Records":[]}', mtime=0))
    ledger = taken(whole.folder, tmp_path / "lake")
    path.write_bytes(good)  # put back, as if nothing had been
    report = check(whole, ledger)
    assert told(report) == [(What.LOG_NOT_TAKEN, path.name)]
    assert "the lake took other bytes" in report.findings[0].detail
    path.write_bytes(gzip.decompress(good))  # a copy that was unpacked says nothing of that
    assert check(whole, taken(whole.folder, tmp_path / "lake")).ok
