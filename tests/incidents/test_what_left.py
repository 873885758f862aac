"""The manifest over the ways in which objects leave, and over the ways in which one read is logged twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from trailhawk import connectors, sources
from trailhawk.connectors.ingest import ingest
from trailhawk.detect.alert import Alert
from trailhawk.detect.content import functions
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.result import Engine
from trailhawk.incidents.evidence import evidence
from trailhawk.incidents.incident import assemble
from trailhawk.incidents.manifest import Callers, Manifest, manifest
from trailhawk.incidents.report import report
from trailhawk.incidents.scope import Scope
from trailhawk.lake.catalog import Lake

Json = dict[str, Any]
EngineOf = Callable[..., Engine]

START = datetime(2026, 3, 1, 11, 30, tzinfo=UTC)
NOW = START + timedelta(hours=2)
HOME, OTHER = "111122223333", "444455556666"
SESSION = f"arn:aws:sts::{HOME}:assumed-role/web/one"
THIEF = "203.0.113.66"
EVERYTHING = Scope("true", START, NOW)


def call(name: str, request: Json, *, out: object = None, **more: Any) -> Json:
    return {
        "eventTime": "2026-03-01T11:40:00Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": name,
        "sourceIPAddress": THIEF,
        "userAgent": "[aws-cli/2]",
        "recipientAccountId": HOME,
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": "AROA1:one",
            "arn": SESSION,
            "accountId": HOME,
            "accessKeyId": "ASIAEXAMPLE000000001",
        },
        "requestParameters": request,
        "additionalEventData": {"bytesTransferredOut": out},
    } | more


def found(engine: Engine) -> Manifest:
    return manifest(engine, EVERYTHING, Callers(), now=NOW)


def said(manifest: Manifest) -> list[tuple[str, str, int, int, int, str]]:
    lines = manifest.lines
    return [(one.bucket, one.key, one.bytes, one.reads, one.denied, one.copied_to) for one in lines]


def logged_twice(get: Json) -> list[Json]:
    """One read, in the reader's account and in that of the bucket."""
    owner = {"type": "AWSAccount", "principalId": "AROA1:one", "accountId": HOME}
    return [
        call("GetObject", get, out=100, eventID="1", sharedEventID="one"),
        call("GetObject", get, out=100, eventID="2", sharedEventID="one", recipientAccountId=OTHER)
        | {"userIdentity": owner},
    ]


def test_one_read_that_two_accounts_log(engine_of: EngineOf) -> None:
    """The owner of the bucket and the reader's account each have a record of it, with an id of its own."""
    get = {"bucketName": "cards", "key": "a.csv"}
    engine = engine_of([*logged_twice(get), call("GetObject", get, out=100.0, eventID="3")])
    (line,) = found(engine).lines
    assert (line.bytes, line.reads, line.session) == (200, 2, SESSION)


SOURCES = ["cards/dir/a%20b.csv", "/cards/dir/a b.csv", "cards/dir/a b.csv?versionId=v1"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["CopyObject", "UploadPartCopy"])
def test_what_is_copied_to_another_bucket_leaves_its_own(engine_of: EngineOf, source: str, name: str) -> None:
    """Not a byte of it passes the caller's address; what CloudTrail counts is the answer."""
    request = {"bucketName": "elsewhere", "key": "x", "x-amz-copy-source": source}
    read = found(engine_of([call(name, request, out=224)]))
    assert said(read) == [("cards", "dir/a b.csv", 0, 1, 0, "s3://elsewhere/x")]
    assert read.lines[0].version == ("v1" if "versionId" in source else "")
    assert (read.objects, read.bytes) == (1, 0)


def test_what_is_copied_within_its_bucket_stays(engine_of: EngineOf) -> None:
    request = {"bucketName": "cards", "key": "x", "x-amz-copy-source": "cards/a.csv"}
    assert found(engine_of([call("CopyObject", request, out=224)])).lines == ()


def test_the_story_tells_of_copies(engine_of: EngineOf, raised: Callable[..., Alert]) -> None:
    request = {"bucketName": "elsewhere", "key": "x", "x-amz-copy-source": "cards/a.csv"}
    engine = engine_of([call("CopyObject", request, eventID="copy")])
    one = raised("one", details=(("EventIds", ("copy",)),))
    story = " ".join(report(engine, assemble(1, [one]), [one], now=NOW).story)
    assert "1 object was copied to bucket elsewhere: the log does not say how large" in story


def test_what_the_callers_read_besides_is_told_and_not_counted(
    engine_of: EngineOf, raised: Callable[..., Alert]
) -> None:
    """A rule tells of an address once, and the thief comes back after it; what was read is in the logs."""

    def get(event_id: str, key: str, time: str, **more: Any) -> Json:
        request = {"bucketName": "cards", "key": key}
        return call("GetObject", request, out=100, eventID=event_id, eventTime=f"2026-03-01T{time}Z") | more

    other = call("GetObject", {})["userIdentity"] | {"arn": f"{SESSION}-else", "principalId": "AROA1:else"}
    owner = {"type": "AWSAccount", "principalId": "AROA1:one", "accountId": HOME}
    engine = engine_of(
        [
            get("named", "a.csv", "11:40:00", sharedEventID="one"),
            get("twin", "a.csv", "11:40:00", sharedEventID="one", recipientAccountId=OTHER)
            | {"userIdentity": owner},
            get("later", "b.csv", "15:00:00"),
            get("again", "a.csv", "15:00:01"),
            get("refused", "c.csv", "15:00:02", errorCode="AccessDenied"),
            get("elsewhere", "d.csv", "15:00:03", sourceIPAddress="192.0.2.9"),
            get("another", "e.csv", "15:00:04", userIdentity=other),
            get("too late", "f.csv", "15:00:04", eventTime="2026-03-02T03:00:00Z"),
        ]
    )
    one = raised("one", details=(("EventIds", ("twin",)),))
    two = raised("two", details=(("EventIds", ("named",)),))
    told = report(engine, assemble(1, [one, two]), [one, two], now=NOW)
    assert said(told.manifest) == [("cards", "a.csv", 100, 1, 0, "")]
    sentence = (
        "Not in the manifest, for no alert names it: 2 reads of 2 objects, 200 bytes and 1 read refused, by "
        "the same callers and addresses from 2026-03-01 15:00:00 UTC to 2026-03-01 15:00:02 UTC."
    )
    assert told.manifest.notes == (sentence,)
    assert sentence in told.story
    besides = told.manifest.besides
    assert besides
    found = engine.query(besides.query, now=NOW).rows()
    assert {row["AwsEventId"] for row in found} == {"later", "again", "refused"}
    assert any("trailhawk query" in command for step in told.steps for command in step.commands)


def test_one_read_of_which_the_alert_names_the_poorer_record(
    engine_of: EngineOf, raised: Callable[..., Alert]
) -> None:
    """The record of the bucket's account names no ARN; its twin is the same read, and no other one."""
    engine = engine_of(logged_twice({"bucketName": "cards", "key": "a.csv"}))
    one = raised("one", details=(("EventIds", ("2",)),))
    told = report(engine, assemble(1, [one]), [one], now=NOW)
    assert (said(told.manifest), told.manifest.besides) == ([("cards", "a.csv", 100, 1, 0, "")], None)


def test_directory_buckets_are_buckets(engine_of: EngineOf) -> None:
    get = {"bucketName": "cards--use1-az4--x-s3", "key": "a.csv"}
    engine = engine_of([call("GetObject", get, out=7, eventSource="s3express.amazonaws.com")])
    assert [one.bytes for one in found(engine).lines] == [7]


def test_bytes_that_nobody_counted(engine_of: EngineOf) -> None:
    engine = engine_of([call("GetObject", {"bucketName": "cards", "key": "a.csv"})])
    assert said(found(engine)) == [("cards", "a.csv", 0, 1, 0, "")]


def logged(operation: str, key: str, status: int, sent: str, size: str) -> str:
    """A line of S3's access log."""
    return (
        f"79a59df900b949e5 cards [01/Mar/2026:11:40:00 +0000] {THIEF} {SESSION} 3E57427F33A59F07 {operation}"
        f' {key} "GET /{key} HTTP/1.1" {status} - {sent} {size} 20 10 "-" "aws-cli/2" - hostid SigV4 TLS'
        " AuthHeader cards.s3.us-east-1.amazonaws.com TLSv1.3 - -"
    )


def test_access_logs_where_there_is_nothing_else(tmp_path: Path) -> None:
    lines = [
        logged("REST.GET.OBJECT", "a%2520b.csv", 200, "100", "100"),
        logged("REST.GET.OBJECT", "a%2520b.csv", 206, "30", "100"),
        logged("REST.GET.OBJECT", "old.csv", 304, "-", "50"),
        logged("REST.GET.OBJECT", "secret.csv", 403, "243", "-"),
        logged("REST.HEAD.OBJECT", "seen.csv", 200, "-", "9"),
        logged("REST.COPY.OBJECT_GET", "copied.csv", 200, "-", "5000"),
    ]
    path = tmp_path / "2026-03-01-12-00-00-0123456789ABCDEF"
    path.write_text("\n".join(lines) + "\n")
    lake = Lake(tmp_path / "lake", [*sources.TABLES, *connectors.TABLES])
    assert ingest(lake, [path], clock=lambda: NOW).rows == len(lines)
    callers = Callers((SESSION,), (THIEF,), ("cards",))
    engine = DuckDBEngine(lake, functions=functions())
    read = manifest(engine, EVERYTHING, callers, now=NOW)
    assert {(one.key, one.bytes, one.reads, one.denied) for one in read.lines} == {
        ("a%20b.csv", 130, 2, 0),
        ("secret.csv", 0, 0, 1),
        ("copied.csv", 5000, 1, 0),
    }
    (log,) = evidence(engine, (), read, now=NOW)
    assert (log.location, log.events) == (str(path), 5)
    assert log.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_lake_without_any_data_event_does_not_say_that_nothing_left(
    engine_of: EngineOf, raised: Callable[..., Alert]
) -> None:
    """The incident names no bucket; "0 objects left" would be read as the answer that it is not."""
    engine = engine_of([call("DescribeInstances", {}, eventSource="ec2.amazonaws.com", eventID="look")])
    one = raised("one", details=(("EventIds", ("look",)),))
    told = report(engine, assemble(1, [one]), [one], now=NOW)
    sentence = (
        "What was read is not known: neither S3 data events nor access logs of any bucket are stored for "
        "this time; none of the 30 days before is either."
    )
    assert [gap.told for gap in told.manifest.gaps] == [sentence]
    assert told.manifest.unknown
    assert sentence in told.story
    engine_of([call("GetObject", {"bucketName": "cards", "key": "a"}, eventTime="2026-02-20T08:00:00Z")])
    (gap,) = report(engine, assemble(1, [one]), [one], now=NOW).manifest.gaps
    assert gap.told.endswith("for this time; the last is of 2026-02-20 08:00:00 UTC.")
    engine_of([call("GetObject", {"bucketName": "cards", "key": "a"})])
    told = report(engine, assemble(1, [one]), [one], now=NOW)
    assert (told.manifest.gaps, told.manifest.unknown) == ((), False)
    assert "not known" not in " ".join(told.story)


def test_a_refused_read_does_not_tell_of_another_bucket(
    engine_of: EngineOf, raised: Callable[..., Alert]
) -> None:
    """Of one bucket the log says that all reads were refused, of the other it says nothing."""
    engine = engine_of(
        [
            call("GetObject", {"bucketName": "a", "key": "x"}, eventID="1", errorCode="AccessDenied"),
            call("PutBucketPolicy", {"bucketName": "b"}, eventID="2"),
        ]
    )
    one = raised("one", details=(("EventIds", ("1", "2")),))
    told = report(engine, assemble(1, [one]), [one], now=NOW)
    assert [gap.bucket for gap in told.manifest.gaps] == ["b"]
    assert told.manifest.unknown
    assert "1 read was refused." in told.story
    assert "Nothing left" not in " ".join(told.story)
    only = raised("only", details=(("EventIds", ("1",)),))
    told = report(engine, assemble(1, [only]), [only], now=NOW)
    assert (told.manifest.gaps, told.manifest.unknown) == ((), False)
    assert "Nothing left: 1 read was refused." in told.story


def test_one_who_changes_the_client_at_every_call(engine_of: EngineOf, raised: Callable[..., Alert]) -> None:
    ids = [f"id-{n}" for n in range(30)]
    engine = engine_of(
        [
            call("GetCallerIdentity", {}, eventSource="sts.amazonaws.com", eventID=n, userAgent=f"tool/{n}")
            for n in ids
        ]
    )
    one = raised("one", details=(("EventIds", tuple(ids)),))
    story = " ".join(report(engine, assemble(1, [one]), [one], now=NOW).story)
    assert story.count("tool/id-") == 7
    assert " and 23 other clients, " in story
