"""CloudTrail as log shippers pass it on: under a member of theirs, with a time of theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from trailhawk.sources.cloudtrail import CloudTrail
from trailhawk.workspace import Workspace, utc_now

Json = dict[str, Any]
RECORD: Json = {
    "eventVersion": "1.05",
    "userIdentity": {"type": "IAMUser", "accountId": "011122223333", "userName": "ann"},
    "eventTime": "2021-05-04T18:03:11Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "awsRegion": "us-east-1",
    "sourceIPAddress": "203.0.113.9",
    "requestParameters": {"bucketName": "b", "key": "ä/1", "n": 89.0},
    "eventID": "e1",
    "recipientAccountId": "011122223333",
}
TEXT = json.dumps(RECORD)
FRONT = {"@timestamp": "2021-05-04T18:03:12.345Z", "@version": "1"}
FORMS: dict[str, Json] = {
    "text of a record": {**FRONT, "message": TEXT, "tags": ["aws"], "type": "cloudtrail"},
    "text of a wrapper": {**FRONT, "message": json.dumps({"Records": [RECORD]})},
    "Filebeat": {
        **FRONT,
        "event": {"original": TEXT, "dataset": "aws.cloudtrail"},
        "ecs": {"version": "8.0"},
    },
    "a member": {**FRONT, "cloudtrail": RECORD},
    "a hit of a search": {"_index": "logs", "_source": {**RECORD, **FRONT}},
    "a hit with text": {"_index": "logs", "_source": {**FRONT, "message": TEXT}},
    "beside its own": {**FRONT, **RECORD, "tags": ["aws"]},
    "numbers in front": {"@version": 1, "@timestamp": 1620151392345, "message": TEXT},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block", [64, 1 << 20])
def test_the_record_comes_out(form: str, block: int, read: Callable[..., Any]) -> None:
    data = "\n".join([json.dumps(FORMS[form])] * 2).encode()
    found = read(data, block=block, source=None if block > 64 else CloudTrail())
    assert found.reasons == []
    assert [row["TimeGenerated"].isoformat() for row in found.rows] == ["2021-05-04T18:03:11"] * 2
    for row in found.rows:
        assert (row["EventName"], row["AwsEventId"], row["UserIdentityUserName"]) == (
            "GetObject",
            "e1",
            "ann",
        )
        assert json.loads(row["RequestParameters"]) == RECORD["requestParameters"]


def test_what_has_a_time_and_nothing_of_a_record_is_none(read: Callable[..., Any]) -> None:
    strange = [
        {**FRONT, "message": "started"},
        {**FRONT, "message": '{"a": "eventSource"}'},
        {**FRONT, "level": 3},
    ]
    deep: Json = RECORD
    for _ in range(40):
        deep = {**FRONT, "cloudtrail": deep}
    found = read("\n".join(map(json.dumps, [*strange, deep])).encode())
    assert found.rows == []
    assert found.reasons == ["no CloudTrail record: it has none of the members of one"] * 4


def test_one_event_is_one_row_whichever_way_it_comes(tmp_path: Path) -> None:
    """Logstash's codec moves eventTime to @timestamp; AWS delivers the record in a wrapper."""
    shipped = {name: value for name, value in reversed(RECORD.items()) if name != "eventTime"}
    shipped |= {"@version": "1", "@timestamp": "2021-05-04T18:03:11.000Z"}
    ways = [json.dumps({"Records": [RECORD]}), json.dumps(shipped), json.dumps(FORMS["text of a record"])]
    workspace = Workspace.open(tmp_path / "home", clock=lambda: utc_now() + timedelta(seconds=1))
    stored = []
    for number, way in enumerate(ways):
        (tmp_path / f"{number}.json").write_text(way)
        done = workspace.ingest([tmp_path / f"{number}.json"], lambda _: None)
        stored.append((done.rows, done.duplicates))
    assert stored == [(1, 0), (0, 1), (0, 1)]
