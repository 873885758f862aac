"""CloudWatch Logs: subscriptions in every packing, exports, and the logs inside them."""

import base64
import datetime as dt
import gzip
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import pytest

from trailhawk.sources.cloudwatch import CloudWatch

AT = dt.datetime(2026, 3, 1, 9, 30)
MILLIS = 1772357400000


def envelope(messages: Sequence[object], **changes: object) -> dict[str, object]:
    return {
        "messageType": "DATA_MESSAGE",
        "owner": "111122223333",
        "logGroup": "/app/web",
        "logStream": "i-0",
        "subscriptionFilters": ["all"],
        "logEvents": [
            {"id": f"id-{place}", "timestamp": MILLIS, "message": message}
            for place, message in enumerate(messages)
        ],
        **changes,
    }


def dump(value: object) -> bytes:
    return json.dumps(value).encode()


TEXTS = ["hello 😀", "two\nlines\u0001"]
ONE, TWO = dump(envelope(TEXTS[:1])), dump(envelope(TEXTS[1:], logStream="i-1"))
CONTROL = dump(envelope(["CWL CONTROL MESSAGE: Checking health"], messageType="CONTROL_MESSAGE"))
PACKED = base64.b64encode(gzip.compress(ONE)).decode(), base64.b64encode(gzip.compress(TWO)).decode()


@pytest.mark.parametrize(
    "data",
    [
        ONE + TWO,
        ONE + b"\n" + CONTROL + b"\n" + TWO + b"\n",
        gzip.compress(ONE) + gzip.compress(TWO),
        gzip.compress(gzip.compress(ONE) + gzip.compress(TWO)),
        b"[" + ONE + b"," + TWO + b"]",
        json.dumps(json.loads(ONE), indent=2).encode() + b"\n" + TWO,
        b"\n".join(dump({"awslogs": {"data": data}}) for data in PACKED),
        dump({"Records": [{"kinesis": {"data": data, "partitionKey": "x"}} for data in PACKED]}),
        dump({"Records": [{"eventSource": "aws:kinesis", "kinesis": {"data": data}} for data in PACKED]}),
        dump({"invocationId": "x", "records": [{"recordId": "1", "data": data} for data in PACKED]}),
    ],
)
def test_every_packing_of_a_subscription(data: bytes, read: Any) -> None:
    found = read(data)
    assert (found.source, found.reasons) == ("cloudwatch", [])
    assert [row["Message"] for row in found.rows] == TEXTS
    for row in found.rows:
        assert (row["TimeGenerated"], row["ExtractedTime"], row["LogGroup"]) == (AT, AT, "/app/web")
    assert found.rows[0]["_th_id"] != found.rows[1]["_th_id"]


def test_an_event_that_comes_twice_is_known_again(read: Any) -> None:
    first, second = read(ONE + ONE).rows
    assert first["_th_id"] == second["_th_id"]


def test_a_control_message_holds_nothing(read: Any) -> None:
    assert (read(CONTROL).source, read(CONTROL).records) == ("cloudwatch", 0)


def test_one_bad_event_costs_only_itself(read: Any) -> None:
    broken = envelope(["a", 7, "b", "c"])
    events = broken["logEvents"]
    assert isinstance(events, list)
    del events[2]["timestamp"]
    events.append({"timestamp": -5, "message": "x"})
    events.append("odd")
    found = read(dump(broken) + b"\n" + ONE[:-20] + b"\n" + TWO)
    assert [row["Message"] for row in found.rows] == ["a", "c", TEXTS[1]]
    assert len(found.bad) == 5
    assert "no timestamp" in found.reasons
    assert "timestamp is no time: -5" in found.reasons


def test_base64_that_is_damaged_is_set_aside(read: Any) -> None:
    data = dump({"Records": [{"kinesis": {"data": PACKED[0]}}, {"kinesis": {"data": PACKED[1][:-8] + "!!"}}]})
    found = read(data)
    assert [row["Message"] for row in found.rows] == TEXTS[:1]
    assert len(found.bad) == 1


def test_a_bomb_in_base64_is_not_opened(read: Any) -> None:
    bomb = base64.b64encode(gzip.compress(b'{"logEvents":[' + b" " * 40_000_000 + b"]}")).decode()
    found = read(dump({"awslogs": {"data": PACKED[0]}}) + b"\n" + dump({"awslogs": {"data": bomb}}))
    assert (len(found.rows), len(found.bad)) == (1, 1)


def test_an_export_and_its_lines_without_time(read: Any) -> None:
    data = (
        "2026-03-01T09:30:00.000Z hello 😀\n"
        "2026-03-01T09:30:00.000Z Traceback\n  File x\nValueError\n"
        "2026-03-01T09:30:00.000Z \n"
        "2026-13-01T09:30:00.000Z odd\n"
    )
    found = read(gzip.compress(data.encode()), name="exportedlogs/task/stream/000000.gz")
    assert found.source == "cloudwatch"
    assert [row.get("Message") for row in found.rows] == ["hello 😀", "Traceback\n  File x\nValueError", None]
    assert found.reasons == ["its time is none"]


def test_bytes_of_no_text_do_not_cost_the_event_before_them(read: Any) -> None:
    found = read(b"2026-03-01T09:30:00.000Z hello\n\xff\xfe\n2026-03-01T09:30:00.000Z bye\n")
    assert [row["Message"] for row in found.rows] == ["hello\n\\xff\\xfe", "bye"]


def test_lines_before_the_first_event_are_bad(read: Any) -> None:
    found = read(b"lost\n2026-03-01T09:30:00.000Z hello\n", source=CloudWatch())
    assert [row["Message"] for row in found.rows] == ["hello"]
    assert found.reasons == ["a line that belongs to no event"]


def test_what_aws_logs_tail_prints(read: Any) -> None:
    data = (
        "2026-03-01T09:30:00.000000+00:00 app/web/0a1b hello 😀\n"
        "2026-03-01T09:30:00.250000+00:00 app/web/0a1b Traceback\n  File x\nValueError\n"
        "2026-03-01T09:30:00.500000+00:00 app/web/0a1b\r\n"
        "2026-03-01T09:30:00.000000+00:00 other [x] 2026-03-01T09:30:00.000Z y\n"
    )
    found = read(data.encode(), name="web.log")
    assert (found.source, found.reasons) == ("cloudwatch", [])
    assert [(row["LogStream"], row.get("Message")) for row in found.rows] == [
        ("app/web/0a1b", "hello 😀"),
        ("app/web/0a1b", "Traceback\n  File x\nValueError"),
        ("app/web/0a1b", None),
        ("other", "[x] 2026-03-01T09:30:00.000Z y"),
    ]
    assert [row["TimeGenerated"].microsecond for row in found.rows] == [0, 250_000, 500_000, 0]


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T09:30:00 hello\n",  # of which zone?
        "2026-03-01T09:30:00.123456+00:00 host sshd[1]: hello\n",
        "2026-03-01T09:30:00.123000+00:00 host a\n2026-03-01T09:30:00.123456+00:00 host b\n",
        "2026-03-01T09:30:00.123000+02:00 host hello\n",
    ],
)
def test_other_lines_with_a_time_are_not_cloudwatchs(text: str, read: Any) -> None:
    assert read(text.encode()).source == ""


def test_only_the_time_in_front_is_taken_off(read: Any) -> None:
    bare = json.dumps(TRAIL | {"eventTime": "2026-03-01T09:30:00.000Z"})
    found = read(f"2026-03-01T09:30:01.000Z {bare}\n{bare}\n".encode())
    assert (found.source, found.reasons) == ("cloudtrail", [])
    assert [row["TimeGenerated"] for row in found.rows] == [AT, AT]


def test_the_object_that_tries_the_bucket_is_no_log(read: Any) -> None:
    assert read(b"Permission Check Successful", name="exportedlogs/aws-logs-write-test").digest


TRAIL = {
    "eventVersion": "1.11",
    "eventTime": "2026-03-01T09:30:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "eventID": "id-0",
}
RESOLVER = {"version": "1.1", "query_timestamp": "2026-03-01T09:30:00Z", "query_name": "example.com."}
AUDIT = {
    "kind": "Event",
    "apiVersion": "audit.k8s.io/v1",
    "auditID": "1",
    "stageTimestamp": "2026-03-01T09:30:00Z",
}
ACL = {
    "timestamp": MILLIS,
    "formatVersion": 1,
    "webaclId": "arn:x",
    "terminatingRuleId": "r",
    "httpRequest": {},
}
PROXY = '203.0.113.9 - - [01/Mar/2026:09:30:00 +0000] "GET / HTTP/1.1" 200 31 "-" "curl" "x" - 0.004'
FLOW = "2 111122223333 eni-0a 10.0.0.1 10.0.0.2 1 2 6 5 60 1772357400 1772357460 ACCEPT OK"


@pytest.mark.parametrize(
    ("message", "source"),
    [
        (json.dumps(TRAIL), "cloudtrail"),
        (json.dumps(RESOLVER), "route53"),
        (json.dumps(AUDIT), "eks"),
        (json.dumps(ACL), "waf"),
        (PROXY, "proxy"),
        (FLOW, "vpcflow"),
    ],
)
def test_a_known_log_inside_goes_to_its_own_table(message: str, source: str, read: Any) -> None:
    line, tailed, short = (
        f"2026-03-01T09:30:01{front} {message}\n".encode() for front in (".000Z", ".250000+00:00 i-0/a", "")
    )
    packed = dump({"awslogs": {"data": base64.b64encode(gzip.compress(dump(envelope([message])))).decode()}})
    for data in (dump(envelope([message])), line, tailed, short, packed):
        found = read(data + data)
        assert (found.source, len(found.rows), found.reasons) == (source, 2, [])
        assert {row["TimeGenerated"] for row in found.rows} == {AT}


def test_a_damaged_gzip_inside_is_told(read: Any) -> None:
    data = gzip.compress(gzip.compress(ONE + b"\n" + TWO)[:-12])
    found = read(data)
    assert found.source == "cloudwatch"
    assert "gzip stream ends early" in found.reasons[-1]


def test_somebodys_text_does_not_make_an_envelope(read: Any) -> None:
    hostile: dict[str, object] = TRAIL | {
        "userAgent": 'x", "logEvents": [{"message": "y"}]',
        "logEvents": [],
        "Events": None,
    }
    assert read(b'{"Records":[' + dump(hostile) + b"]}").source == "cloudtrail"


def _export(events: int, lines: int) -> Iterator[bytes]:
    for _ in range(events):
        yield b"2026-03-01T09:30:00.000Z begin\n" + (b"x" * 999 + b"\n") * lines


def test_long_events_of_an_export_come_in_chunks_of_bounded_size() -> None:
    chunks = [sum(map(len, chunk.records)) for chunk in CloudWatch().chunks(_export(300, 500))]
    assert sum(chunks) > 149_000_000
    assert max(chunks) < 36 << 20


def test_lines_behind_an_event_that_is_too_long_are_not_gathered() -> None:
    blocks = chain(_export(1, 1100), iter([b"y\n" * 100_000]))
    chunks = list(CloudWatch().chunks(blocks))
    assert sum(len(chunk.bad) for chunk in chunks) >= 100_000
    assert max(len(chunk.bad) for chunk in chunks) <= 20_001
    assert sum(len(chunk.records) for chunk in chunks) == 1
