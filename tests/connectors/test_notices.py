"""Messages that tell of new objects, in the forms that AWS gives them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailhawk.connectors.notices import Message, Notice, read


def s3(*names: str, event: str = "ObjectCreated:Put", **changes: object) -> dict[str, object]:
    records = [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": event,
            "s3": {
                "bucket": {"name": "logs", "arn": "arn:aws:s3:::logs"},
                "object": {"key": name, "size": 7, "eTag": "abc", "sequencer": "00"} | changes,
            },
        }
        for name in names
    ]
    return {"Records": records}


def sns(message: object) -> dict[str, object]:
    return {
        "Type": "Notification",
        "MessageId": "1",
        "TopicArn": "arn:aws:sns:eu-west-1:111122223333:logs",
        "Message": message if isinstance(message, str) else json.dumps(message),
    }


def eventbridge(kind: str = "Object Created", source: str = "aws.s3") -> dict[str, object]:
    told = {"key": "a+b%20c", "size": 5, "etag": "def", "version-id": "v1", "sequencer": "00"}
    return {
        "version": "0",
        "detail-type": kind,
        "source": source,
        "detail": {"version": "0", "bucket": {"name": "logs"}, "object": told, "reason": "PutObject"},
    }


def notices(body: object) -> tuple[Notice, ...]:
    said = read(json.dumps(body))
    assert not said.faults
    return said.notices


def test_direct() -> None:
    assert notices(s3("a.json", versionId="v7")) == (Notice("logs", "a.json", "v7", "abc", 7),)


def test_direct_through_sns_and_eventbridge_through_sns() -> None:
    assert notices(sns(s3("a.json"))) == notices(s3("a.json"))
    assert notices(sns(eventbridge())) == notices(eventbridge())


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("red+flower.jpg", "red flower.jpg"),
        ("a%2Bb.json", "a+b.json"),
        ("x/%C3%A9%E2%98%83.json", "x/é☃.json"),
        ("year%3D2026/a.json", "year=2026/a.json"),
        ("%2541", "%41"),
        ("line%0Abreak", "line\nbreak"),
        ("%D9%83%D8%AA%D8%A7%D8%A8", "كتاب"),
        ("%F0%9F%90%A6", "🐦"),
    ],
)
def test_keys_of_s3_are_decoded(encoded: str, key: str) -> None:
    assert [notice.key for notice in notices(s3(encoded))] == [key]


def test_keys_of_eventbridge_are_as_they_are() -> None:
    assert notices(eventbridge()) == (Notice("logs", "a+b%20c", "v1", "def", 5),)


def test_security_lakes_subscribers_are_told_by_eventbridge() -> None:
    key = (
        "aws/CLOUD_TRAIL_MGMT/2.0/region=eu-central-1/accountId=011122223333/eventDay=20260301/"
        "48c42a18526e1c4409654c5587e35780.gz.parquet"
    )
    told = eventbridge()
    told["detail"]["object"] = {"key": key, "size": 33120, "etag": "e", "sequencer": "00"}  # type: ignore[index]
    told["detail"]["bucket"] = {"name": "aws-security-data-lake-eu-central-1-x"}  # type: ignore[index]
    (notice,) = notices(told)
    assert notice.location == f"s3://aws-security-data-lake-eu-central-1-x/{key}"
    assert notice.size == 33120


def test_cloudtrails_note_to_sns() -> None:
    note = {"s3Bucket": "trail", "s3ObjectKey": ["AWSLogs/1+2.json.gz", "AWSLogs/3.json.gz"]}
    expected = (Notice("trail", "AWSLogs/1+2.json.gz"), Notice("trail", "AWSLogs/3.json.gz"))
    assert notices(note) == notices(sns(note)) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "logs"},
        sns({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "logs"}),
        s3("a.json", event="ObjectRemoved:Delete"),
        s3("a.json", event="ObjectRestore:Completed"),
        eventbridge("Object Deleted"),
        {"Records": []},
    ],
)
def test_other_events_tell_of_nothing(body: object) -> None:
    assert read(json.dumps(body)) == Message()


def test_older_and_newer_names_of_the_event() -> None:
    assert notices(s3("a", event="s3:ObjectCreated:Copy"))
    assert notices(s3("a", event="ObjectCreated:CompleteMultipartUpload"))


def test_one_bad_record_does_not_hide_the_good_ones() -> None:
    body = s3("a.json", "%FF", "b.json")
    said = read(json.dumps(body))
    assert [notice.key for notice in said.notices] == ["a.json", "b.json"]
    assert len(said.faults) == 1
    assert said.faults[0].startswith("record 2: the key '%FF' is not UTF-8")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("", "not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "neither"),
        ('{"Records": 7}', "not a list"),
        (json.dumps(eventbridge(source="aws.ec2")), "not of S3"),
        (json.dumps(sns(sns(sns(sns(s3("a")))))), "too many envelopes"),
        ("[" * 100_000, "not JSON"),
        ('{"a": "' + "x" * 3_000_000 + '"}', "characters"),
        ('{"s3Bucket": "b", "s3ObjectKey": [7]}', "not a list of keys"),
    ],
)
def test_what_is_no_notice(body: str, word: str) -> None:
    said = read(body)
    assert not said.notices
    assert any(word in fault for fault in said.faults)


def test_markers() -> None:
    assert Notice("logs", "AWSLogs/", size=0).is_marker
    assert not Notice("logs", "AWSLogs/", size=7).is_marker
    assert not Notice("logs", "AWSLogs/a", size=0).is_marker
    assert Notice("logs", "AWSLogs_$folder$", size=0).is_marker
    assert Notice("logs", "out/_SUCCESS", size=0).is_marker
    assert not Notice("logs", "out/_SUCCESS", size=1).is_marker
    assert not Notice("logs", "out/_SUCCESS").is_marker, "of a size that was not told"
    assert not Notice("logs", "out/NO_SUCCESS", size=0).is_marker


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | (
    st.dictionaries(
        st.sampled_from(["Records", "s3", "bucket", "object", "key", "name", "eventName", "detail", "Message",
                         "detail-type", "source", "Type", "TopicArn", "s3Bucket", "s3ObjectKey"]), inner
    )
), max_leaves=20))  # fmt: skip
def test_any_json_is_answered(value: object) -> None:
    body = json.dumps(value)
    said = read(body)
    assert all(notice.bucket and notice.key for notice in said.notices)


@given(st.text())
def test_any_text_is_answered(body: str) -> None:
    read(body)
