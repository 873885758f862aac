"""CloudTrail Lake's results, aggregated events, and events of EventBridge in a log group."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from support.text import dump
from trailhawk.workspace import Workspace, utc_now

RECORD = {
    "eventVersion": "1.11",
    "userIdentity": {"type": "IAMUser", "accountId": "011122223333", "userName": "ann"},
    "eventTime": "2026-03-01T09:30:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "awsRegion": "eu-central-1",
    "userAgent": 'curl "x", \\y',
    "requestParameters": {"bucketName": "b", "key": 'käse, "😀"\nline.csv'},
    "eventID": "e1",
    "recipientAccountId": "011122223333",
}
TEXT = json.dumps(RECORD, ensure_ascii=False)


def result(*rows: dict[str, str], comment: str = "") -> bytes:
    """A file of results as CloudTrail Lake delivers it."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return (comment + file.getvalue()).encode()


ROWS = [{"eventid": "e1", "eventJson": TEXT}, {"eventid": "e2", "eventJson": TEXT.replace("e1", "e2")}]
FORMS = {
    "delivered": gzip.compress(result(*ROWS)),
    "with a comment": result(*ROWS, comment="# Execution Time: 2026-03-01T10:00:00.7Z \n"),
    "with carriage returns": result(*ROWS).replace(b"\n", b"\r\n"),
    "with a mark of UTF-8": b"\xef\xbb\xbf" + result(*ROWS),
    "only the event": result(*({"EVENTJSON": row["eventJson"]} for row in ROWS)),
    "event first": result(*({"eventjson": row["eventJson"], "a": 'x,"y"'} for row in ROWS)),
    "the answer of GetQueryResults": dump(
        {"QueryStatus": "FINISHED", "QueryResultRows": [[{k: v} for k, v in row.items()] for row in ROWS]}
    ),
    "the answer, pretty": json.dumps(
        {"QueryResultRows": [[{"eventjson": row["eventJson"]}] for row in ROWS]}, indent=1
    ).encode(),
    "lines": b"\n".join(dump({"eventJson": row["eventJson"]}) for row in ROWS),
    "lines of more columns": b"\n".join(dump({"eventName": "GetObject", **row}) for row in ROWS),
    "lines that begin otherwise": b"\n".join(dump(row) for row in ROWS),
    "an array": dump(ROWS),
}


@pytest.mark.parametrize("form", FORMS)
def test_results_of_a_query_are_the_events(form: str, read: Any) -> None:
    (plain,) = read(dump(RECORD)).rows
    found = read(FORMS[form], name="AWSLogs/1/CloudTrail-Lake/Query/result_1.csv.gz")
    assert (found.source, found.reasons) == ("cloudtrail", [])
    assert [row["AwsEventId"] for row in found.rows] == ["e1", "e2"]
    assert found.rows[0] == plain


@pytest.mark.parametrize("block", [200, 4096])
def test_results_larger_than_a_block_are_streamed(block: int, read: Any) -> None:
    found = read(result(*ROWS * 40), block=block)
    assert ([row["AwsEventId"] for row in found.rows], found.reasons) == (["e1", "e2"] * 40, [])


def test_a_row_without_an_event_costs_only_itself(read: Any) -> None:
    lines = result(*ROWS).splitlines(keepends=True)
    data = b"".join([lines[0], lines[1], b'e3,"{""a"":\n', b"e4,\n", b"e5,text\n", lines[2]])
    found = read(data)
    assert (len(found.rows), len(found.bad)) == (2, 3)
    assert found.bad[0].start == len(lines[0] + lines[1])
    answer = {"QueryResultRows": [[{"eventJson": TEXT}], [{"eventName": "GetObject"}], 5, [{"eventJson": 5}]]}
    found = read(dump(answer))
    assert (len(found.rows), len(found.bad)) == (1, 3)


def test_results_without_the_event_are_no_log_of_ours(read: Any) -> None:
    assert read(result({"eventid": "e1", "eventname": "GetObject"})).source == ""


def test_what_proves_the_results_holds_no_records(read: Any) -> None:
    sign = {
        "version": "1.0",
        "region": "eu-central-1",
        "files": [{"fileHashValue": "aa", "fileName": "result_1.csv.gz"}],
        "hashAlgorithm": "SHA-256",
        "signatureAlgorithm": "SHA256withRSA",
        "queryCompleteTime": "2026-03-01T10:00:00Z",
        "hashSignature": "bb",
        "publicKeyFingerprint": "cc",
    }
    found = read(dump(sign), name="AWSLogs/1/CloudTrail-Lake/Query/result_sign.json")
    assert (found.source, found.digest) == ("cloudtrail", True)


def test_an_event_that_the_trail_brought_too_is_one_row(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "home", clock=lambda: utc_now() + dt.timedelta(seconds=1))
    stored = []
    for name, data in (("trail.json", dump({"Records": [RECORD]})), ("result_1.csv.gz", FORMS["delivered"])):
        (tmp_path / name).write_bytes(data)
        done = workspace.ingest([tmp_path / name], lambda _: None)
        stored.append((done.rows, done.duplicates, done.quarantined))
    assert stored == [(1, 0, 0), (1, 1, 0)]


AGGREGATED = {
    "eventVersion": "1.0",
    "accountId": "011122223333",
    "eventId": "6275",
    "eventCategory": "Aggregated",
    "eventType": "AwsAggregatedEvent",
    "awsRegion": "eu-central-1",
    "eventSource": "s3.amazonaws.com",
    "timeWindow": {
        "windowStart": "2026-03-01T09:30:00Z",
        "windowEnd": "2026-03-01T09:35:00Z",
        "windowSize": "PT5M",
    },
    "summary": {
        "primaryDimension": {"dimension": "eventName", "statistics": [{"name": "PutObject", "value": 9}]}
    },
}


def test_an_aggregated_event_is_a_row(read: Any) -> None:
    found = read(dump({"Records": [RECORD, AGGREGATED | {"new": 1}]}))
    assert (found.source, found.reasons) == ("cloudtrail", [])
    row = found.rows[1]
    counted = json.loads(row.pop("AdditionalEventData"))
    assert counted == {name: AGGREGATED[name] for name in ("timeWindow", "summary")}
    row.pop("_th_id")
    assert row == {
        "TimeGenerated": dt.datetime(2026, 3, 1, 9, 30),
        "AwsEventId": "6275",
        "AWSRegion": "eu-central-1",
        "Category": "Aggregated",
        "EventSource": "s3.amazonaws.com",
        "EventTypeName": "AwsAggregatedEvent",
        "EventVersion": "1.0",
        "RecipientAccountId": "011122223333",
        "_th_rest": '{"new":1}',
    }


@pytest.mark.parametrize("window", [None, "soon", {}, {"windowStart": "soon"}])
def test_an_aggregated_event_without_a_window_is_bad(window: object, read: Any) -> None:
    found = read(dump({"Records": [RECORD, AGGREGATED | {"timeWindow": window}]}))
    assert (len(found.rows), len(found.bad)) == (1, 1)
    assert "eventTime" in found.reasons[0]


def _subscribed(*messages: bytes) -> bytes:
    events = [
        {"id": str(place), "timestamp": 1772357400000, "message": message.decode()}
        for place, message in enumerate(messages)
    ]
    return dump(
        {"messageType": "DATA_MESSAGE", "logGroup": "/aws/events/x", "logStream": "s", "logEvents": events}
    )


def _exported(*messages: bytes) -> bytes:
    return b"\n".join(b"2026-03-01T09:31:00.000Z " + message for message in messages)


FINDING = {
    "schemaVersion": "2.0",
    "accountId": "011122223333",
    "id": "f1",
    "service": {"detectorId": "d1"},
    "updatedAt": "2026-03-01T09:30:00.000Z",
}


@pytest.mark.parametrize("envelope", [_subscribed, _exported])
def test_events_that_a_rule_writes_into_a_log_group(envelope: Any, read: Any) -> None:
    """EventBridge's rules have log groups as targets; each message is then a whole event."""
    call = dump({"detail-type": "AWS API Call via CloudTrail", "source": "aws.s3", "detail": RECORD})
    found = read(envelope(call, dump(RECORD), call[:90], call))
    assert (found.source, len(found.rows), len(found.bad)) == ("cloudtrail", 3, 1)
    assert {row["AwsEventId"] for row in found.rows} == {"e1"}
    event = dump({"detail-type": "GuardDuty Finding", "source": "aws.guardduty", "detail": FINDING})
    found = read(envelope(event, event.replace(b"f1", b"f2"), dump(FINDING)))
    assert (found.source, found.reasons) == ("guardduty", [])
    assert [row["Id"] for row in found.rows] == ["f1", "f2", "f1"]


def test_events_of_other_services_are_nobodys(read: Any) -> None:
    state = {"detail-type": "EC2 Instance State-change Notification", "detail": {"state": "running"}}
    assert read(dump(state | {"source": "aws.ec2", "time": "2026-03-01T09:30:00Z"})).source == ""


def test_a_message_of_very_many_values_is_not_unfolded(read: Any) -> None:
    many = b'{"Records":[' + b"{}," * 1_000_000 + b"{}]}"
    found = read(_subscribed(dump(RECORD), many))
    assert (len(found.rows), len(found.bad)) == (1, 1)


CONTROL = dump(
    {
        "messageType": "CONTROL_MESSAGE",
        "owner": "CloudwatchLogs",
        "logGroup": "",
        "logStream": "",
        "subscriptionFilters": [],
        "logEvents": [
            {"id": "", "timestamp": 1772357400000, "message": "CWL CONTROL MESSAGE: Checking health"}
        ],
    }
)


def _packed(text: bytes) -> str:
    return base64.b64encode(gzip.compress(text)).decode()


@pytest.mark.parametrize(
    "deliver",
    [
        lambda *envelopes: b"".join(envelopes),
        lambda *envelopes: b"\n".join(envelopes) + b"\n",
        lambda *envelopes: b"".join(map(gzip.compress, envelopes)),
        lambda *envelopes: dump({"Records": [{"kinesis": {"data": _packed(each)}} for each in envelopes]}),
        lambda *envelopes: b"\n".join(dump({"awslogs": {"data": _packed(each)}}) for each in envelopes),
    ],
)
def test_the_first_object_of_a_subscription_begins_with_a_test_of_it(deliver: Any, read: Any) -> None:
    found = read(deliver(CONTROL, _subscribed(dump(RECORD)), CONTROL))
    assert (found.source, len(found.rows), found.reasons) == ("cloudtrail", 1, [])
    found = read(deliver(CONTROL, CONTROL))
    assert (found.source, found.records) == ("cloudwatch", 0)
