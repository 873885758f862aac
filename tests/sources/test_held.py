"""Records in the hands of other tools: what the tool put around them is taken away, and the log is known."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.text import dump, table
from trailhawk.sources import json_lists, with_custom
from trailhawk.workspace import Workspace, utc_now

RECORD = {
    "eventVersion": "1.11",
    "userIdentity": {"type": "IAMUser", "accountId": "011122223333", "userName": "ann"},
    "eventTime": "2026-03-01T09:30:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "awsRegion": "eu-central-1",
    "userAgent": 'curl "x", \\y',
    "requestParameters": {"bucketName": "b", "key": 'käse, [1],[2] "😀"\nline.csv'},
    "eventID": "e1",
    "recipientAccountId": "011122223333",
}
RECORDS = (RECORD, RECORD | {"eventID": "e2"})
CALLS = tuple(json.dumps(record, ensure_ascii=False) for record in RECORDS)
FLOWS = (
    "2 111122223333 eni-0a 10.0.0.1 10.0.0.2 443 5000 6 1 40 1772357400 1772357460 ACCEPT OK",
    "2 111122223333 eni-0b 10.0.0.1 10.0.0.2 443 5000 6 1 40 1772357400 1772357460 REJECT OK",
)
LINES = tuple(
    f"{'0a' * 16} cards [01/Mar/2026:09:30:00 +0000] 203.0.113.9 - {mark} REST.GET.OBJECT k "
    '"GET /k HTTP/1.1" 200 - 5 5 10 9 "-" "curl, \\"x\\"" - h SigV4 c AuthHeader b TLSv1.2 - -'
    for mark in ("R1", "R2")
)
FINDINGS = tuple(
    json.dumps(
        {
            "source": "aws.guardduty",
            "detail-type": "GuardDuty Finding",
            "detail": {
                "schemaVersion": "2.0",
                "accountId": "011122223333",
                "id": mark,
                "service": {"detectorId": "d1"},
                "updatedAt": "2026-03-01T09:30:00.000Z",
            },
        }
    )
    for mark in ("f1", "f2")
)
NOTES = ("started, [1]", 'Traceback\n  File "x", line 1\nError: a,b')
LOGS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "cloudtrail": (CALLS, "AwsEventId", ("e1", "e2")),
    "vpcflow": (FLOWS, "InterfaceId", ("eni-0a", "eni-0b")),
    "s3access": (LINES, "RequestId", ("R1", "R2")),
    "guardduty": (FINDINGS, "Id", ("f1", "f2")),
    "cloudwatch": (NOTES, "Message", NOTES),
}


def lines(values: list[object]) -> bytes:
    return b"".join(dump(value) + b"\n" for value in values)


def looked_up(text: str) -> dict[str, object]:
    return {
        "EventId": "x",
        "EventName": "GetObject",
        "ReadOnly": "true",
        "EventTime": "2026-03-01T10:30:00+01:00",
        "Username": "ann",
        "Resources": [{"ResourceType": "AWS::S3::Bucket", "ResourceName": "b"}],
        "CloudTrailEvent": text,
    }


def logged(*texts: str, **more: object) -> dict[str, object]:
    events = [
        {"timestamp": 1772357400000 + place, "message": text, "ingestionTime": 1772357409000, **more}
        for place, text in enumerate(texts)
    ]
    return {"events": events, "nextForwardToken": "f/1", "searchedLogStreams": []}


def insights(*texts: str) -> dict[str, object]:
    results = [
        [
            {"field": "@timestamp", "value": "2026-03-01 09:30:00.000"},
            {"field": "@message", "value": text},
            {"field": "@log", "value": "111122223333:/app/x"},
            {"field": "@logStream", "value": "s"},
            {"field": "@ptr", "value": "CmEK"},
        ]
        for text in texts
    ]
    statistics = {"recordsMatched": 2.0, "bytesScanned": 1e3}
    return {"queryLanguage": "CWLI", "results": results, "statistics": statistics, "status": "Complete"}


def splunk(text: str) -> dict[str, object]:
    return {"preview": False, "offset": 1, "result": {"_raw": text, "_time": "2026", "sourcetype": "aws"}}


def elastic(text: str) -> dict[str, object]:
    aws = {"cloudtrail": {"event_version": "1.11"}}
    return {"@timestamp": "2026-03-01T09:30:00.000Z", "aws": aws, "event": {"action": "x", "original": text}}


Form = Callable[[tuple[str, ...]], bytes]
OF_CLOUDTRAIL: dict[str, Form] = {
    "lookup-events": lambda texts: dump({"Events": [looked_up(text) for text in texts]}, 4),
    "its pages": lambda texts: b"".join(
        dump({"Events": [looked_up(text)], "NextToken": "t"}, 4) for text in texts
    ),
    "its pages as lines": lambda texts: lines([{"Events": [looked_up(text)]} for text in texts]),
    "its pages in a list": lambda texts: dump([{"Events": [looked_up(text)]} for text in texts]),
    "its events as lines": lambda texts: lines([looked_up(text) for text in texts]),
    "its events in a list": lambda texts: dump([looked_up(text) for text in texts], 1),
    "its texts": lambda texts: dump(list(texts), 4),
    "its texts as text": lambda texts: "\t".join(texts).encode() + b"\n",
    "the event history's JSON": lambda texts: dump({"Records": list(map(json.loads, texts))}),
    "PowerShell": lambda texts: table(
        ["EventId", "EventName", "CloudTrailEvent"], [["x", "y", text] for text in texts], csv.QUOTE_ALL
    ),
    "Firehose": lambda texts: "".join(texts).encode(),
    "EventBridge's archive": lambda texts: b"".join(
        dump({"version": "0", "source": "aws.s3", "detail": json.loads(text)}) for text in texts
    ),
}
OF_ANY_LOG: dict[str, Form] = {
    "Splunk's export": lambda texts: lines([splunk(text) for text in texts]),
    "Splunk's results": lambda texts: dump(
        {
            "preview": False,
            "init_offset": 0,
            "messages": [],
            "fields": [{"name": "_raw"}],
            "results": [{"_bkt": "m~1", "_raw": text} for text in texts],
        }
    ),
    "Splunk's CSV": lambda texts: table(
        ["_time", "host", "_raw", "source"], [["t", "h", t, "s"] for t in texts]
    ),
    "Elasticsearch's documents": lambda texts: lines([elastic(text) for text in texts]),
    "Elasticsearch's flat documents": lambda texts: lines(
        [{"@timestamp": "2026-03-01T09:30:00.000Z", "event.original": text} for text in texts]
    ),
    "Elasticsearch's hits": lambda texts: dump(
        {
            "took": 1,
            "timed_out": False,
            "_shards": {"total": 1},
            "hits": {
                "total": {"value": 2},
                "max_score": None,
                "hits": [{"_index": "logs", "_id": "1", "_source": elastic(text)} for text in texts],
            },
        },
        1,
    ),
    "Elasticsearch's hits as lines": lambda texts: lines(
        [{"_index": "logs", "_source": elastic(text)} for text in texts]
    ),
    "Kibana's CSV": lambda texts: table(["@timestamp", "event.original"], [["t", text] for text in texts]),
}
OF_LOG_GROUPS: dict[str, Form] = {
    "filter-log-events": lambda texts: dump(logged(*texts, logStreamName="s", eventId="1"), 4),
    "get-log-events": lambda texts: dump(logged(*texts), 4),
    "messages alone": lambda texts: dump(list(texts), 4),
    "get-query-results": lambda texts: dump(insights(*texts), 4),
    "Logs Insights' CSV": lambda texts: table(
        ["@timestamp", "@message"], [["2026-03-01 09:30:00.000", text] for text in texts]
    ),
    "the console's CSV": lambda texts: table(
        ["timestamp", "message"], [["1772357400000", text] for text in texts]
    ),
}
FORMS = OF_CLOUDTRAIL | OF_ANY_LOG | OF_LOG_GROUPS
CASES = [
    *((form, "cloudtrail") for form in FORMS),
    *((form, log) for form in OF_ANY_LOG for log in ("vpcflow", "s3access", "guardduty")),
    *((form, log) for form in OF_LOG_GROUPS for log in ("vpcflow", "s3access", "guardduty")),
    *((form, "cloudwatch") for form in OF_LOG_GROUPS if form != "messages alone"),
]


@pytest.mark.parametrize(("form", "log"), CASES)
def test_a_form_is_read_as_the_log_that_it_holds(form: str, log: str, read: Any) -> None:
    texts, column, kept = LOGS[log]
    data = FORMS[form](texts)
    found = read(data)
    assert (found.source, found.reasons) == (log, [])
    assert [row[column] for row in found.rows] == list(kept)
    if log != "cloudwatch":
        assert found.rows == read("\n".join(texts).encode()).rows, "as the log's own file"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block", [1500, 8000])
def test_an_answer_larger_than_a_block_is_streamed(form: str, block: int, read: Any) -> None:
    """The head is always 64 KiB of the object; here it is one block."""
    count = 40
    found = read(FORMS[form](CALLS * count), block=block)
    assert (found.source, found.reasons) == ("cloudtrail", [])
    assert [row["AwsEventId"] for row in found.rows] == ["e1", "e2"] * count


@pytest.mark.parametrize("form", [*OF_ANY_LOG, *OF_LOG_GROUPS, "lookup-events", "its texts"])
def test_a_broken_record_costs_only_itself(form: str, read: Any) -> None:
    texts = (CALLS[0], CALLS[1][:-40], CALLS[1])
    found = read(FORMS[form](texts))
    assert (len(found.rows), len(found.bad)) == (2, 1)
    assert found.rows[1]["AwsEventId"] == "e2"


@pytest.mark.parametrize("form", ["lookup-events", "filter-log-events"])
def test_damage_that_puts_the_next_record_into_one_hides_neither(form: str, read: Any) -> None:
    whole = FORMS[form]((CALLS[0], "victim", CALLS[1]))
    found = read(whole.replace(b'victim"', b'vic","answers":[{"Rdata":"tim"'))
    assert [row["AwsEventId"] for row in found.rows] == ["e1"]
    assert any(b"e2" in part.head for part in found.bad)


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-16", ""), ("utf-16-be", "\ufeff"), ("utf-16-le", ""), ("utf-16-be", "")]
)
@pytest.mark.parametrize("form", ["lookup-events", "Kibana's CSV"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_utf_16_is_read_as_powershell_and_spreadsheets_write_it(
    encoding: str, mark: str, form: str, pack: Callable[[bytes], bytes], read: Any
) -> None:
    text = FORMS[form](CALLS).decode()
    expected = read(text.encode())
    data = mark + text
    found = read(pack(data.encode(encoding)))
    assert (found.source, found.rows) == ("cloudtrail", expected.rows)
    assert "😀" in json.loads(found.rows[0]["RequestParameters"])["key"]
    cut = read(data.encode(encoding)[:-5] + b"\x00\xd8")
    assert len(cut.rows) + len(cut.bad) >= 2


@pytest.mark.parametrize("separator", [";", "\t"])
def test_spreadsheets_csv_is_read(separator: str, read: Any) -> None:
    file = io.StringIO()
    csv.writer(file, delimiter=separator).writerows([["time", "_raw"], *(["t", text] for text in CALLS)])
    found = read(file.getvalue().encode())
    assert (found.source, [row["AwsEventId"] for row in found.rows]) == ("cloudtrail", ["e1", "e2"])


@pytest.mark.parametrize("form", OF_LOG_GROUPS)
def test_a_word_before_the_log_does_not_hide_it(form: str, read: Any) -> None:
    found = read(OF_LOG_GROUPS[form](("started", *CALLS)))
    assert (found.source, [row["AwsEventId"] for row in found.rows]) == ("cloudtrail", ["e1", "e2"])
    assert len(found.bad) == 1
    if form != "messages alone":
        assert read(OF_LOG_GROUPS[form](("a", "b", "c", CALLS[0]))).source == "cloudwatch"
        assert read(OF_LOG_GROUPS[form]((FLOWS[0], FINDINGS[0]))).source == "vpcflow"
        assert read(OF_LOG_GROUPS[form](("started", '{"level":"info"}'))).source == "cloudwatch"


def test_a_broken_text_costs_only_itself(read: Any) -> None:
    data = dump([FLOWS[0], "victim", FLOWS[1]], 4)
    for damage in (b'victim",', b'"victim', b'vic"tim', b"vic\\tim", b"victim\n", b'"victim",', b"\\", b'"'):
        broken = data.replace(b'"victim",', damage)
        found = read(broken)
        assert [row["InterfaceId"] for row in found.rows] == ["eni-0a", "eni-0b"], damage
        assert found.bad


@pytest.mark.parametrize(
    ("grammar", "data"),
    [
        (json_lists.LINES, b'["' + b'\\"' * 9_000),
        (json_lists.LISTS, b'["' + b'[\\"' * 9_000 + b'"['),
        (json_lists.TEXTS, b'["{' + b'\\"{' * 9_000 + b'"x'),
    ],
)
def test_items_without_end_are_looked_at_a_bounded_number_of_times(grammar: Any, data: bytes) -> None:
    found = list(json_lists.items(iter([data * 9]), grammar))
    assert 0 < sum(len(part.texts) + len(part.bad) for part in found) < 100


@pytest.mark.parametrize(
    ("grammar", "start", "unit", "end"),
    [
        (json_lists.LISTS, b'{"results":[[{"field":"@message","value":"x"}],', b"[", b""),
        (json_lists.LISTS, b"[", b'["', b""),
        (json_lists.LISTS, b"[", b'[",', b""),
        (json_lists.LISTS, b"[", b"[x],", b""),
        (json_lists.LISTS, b"[" + b'[\\"' * 20_000, b" ", b""),
        (json_lists.TEXTS, b"[", b'"{', b""),
        (json_lists.LINES, b"[", b'"', b""),
        (json_lists.LINES, b'["' + b'\\"' * 4_000 + b'"', b" ", b"x"),
        (json_lists.LINES, b'["' + b'\\"' * 20_000, b"\n", b"x"),
    ],
)
def test_what_is_no_item_takes_no_square_of_the_time(
    grammar: Any, start: bytes, unit: bytes, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRAILHAWK_HOSTILE_BYTES=40000000 for the real thing."""
    size = int(os.environ.get("TRAILHAWK_HOSTILE_BYTES", 1_000_000))
    monkeypatch.setattr(json_lists, "_MAX_WASTE", min(json_lists._MAX_WASTE, size // 2))
    data = start + unit * (size // len(unit)) + end
    block = max(size // 5, 1)
    began = time.process_time()
    found = list(json_lists.items((data[at : at + block] for at in range(0, len(data), block)), grammar))
    assert time.process_time() - began < 2 + size / 1_500_000
    assert all(len(part.bad) <= 20_002 for part in found)
    assert sum(map(len, (part.bad for part in found))) < 40_000 + size // 8


def test_what_a_log_group_says_is_kept(read: Any) -> None:
    found = read(OF_LOG_GROUPS["get-query-results"](NOTES))
    assert found.rows[1] == {
        "TimeGenerated": dt.datetime(2026, 3, 1, 9, 30),
        "ExtractedTime": dt.datetime(2026, 3, 1, 9, 30),
        "LogGroup": "/app/x",
        "LogStream": "s",
        "Message": NOTES[1],
    }
    found = read(OF_LOG_GROUPS["filter-log-events"](NOTES))
    assert {row["LogStream"] for row in found.rows} == {"s"}
    assert all("_th_id" in row for row in found.rows)
    bad = table(["timestamp", "message"], [["1772357400000", "a"], ["yesterday", "b"]])
    assert read(bad).reasons == ["timestamp is no time: yesterday"]


@pytest.mark.parametrize(
    "data",
    [
        lines([{"preview": False, "result": {"_time": "2026", "count": "3"}}]),
        lines([{"@timestamp": "2026", "event": {"original": "GET / 200"}}]),
        table(["timestamp", "message"], [["2026-03-01", "hello"]]),
        table(["_time", "_raw"], [["t", "hello"]]),
        table(["time", "user", "action"], [["t", "ann", "x"]]),
        dump({"results": [[{"field": "count", "value": "3"}]], "status": "Complete"}),
        dump({"Events": [{"EventId": "x", "EventName": "y"}]}),
        dump(["{}", "{}"]),
        lines([{"timestamp": 1772357400000, "message": "a line of some application"}]),
        dump({"events": [{"timestamp": 1772357400000, "message": "an event of some application"}]}),
    ],
)
def test_what_holds_no_record_is_nobodys(data: bytes, read: Any) -> None:
    assert read(data).source in ("", "cloudtrail")
    assert read(data).rows == []


def test_a_table_of_the_homes_own_is_not_taken_from_it(tmp_path: Path, read: Any) -> None:
    (tmp_path / "app.yaml").write_text(
        "name: app\ntable: App_CL\nobjects: app/\nrecords: [events]\ntime: timestamp\n"
        "columns: [{name: Text, type: string, from: message}]\n"
    )
    event = {"timestamp": 1772357400000, "message": CALLS[0], "ingestionTime": 1772357400000}
    for data in (dump({"events": [event]}), lines([event])):
        found = read(data, name="app/1.json", sources=with_custom(tmp_path))
        assert (found.source, found.rows[0]["Text"]) == ("app", CALLS[0])


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (dump({"Events": []}, 4), "cloudtrail"),
        (dump({"events": [], "searchedLogStreams": []}, 4), "cloudwatch"),
        (dump({"events": [], "nextForwardToken": "f/1"}), "cloudwatch"),
        (
            dump({"queryLanguage": "CWLI", "results": [], "statistics": {}, "status": "Complete"}),
            "cloudwatch",
        ),
    ],
)
def test_an_answer_without_records_is_none_of_the_unknown(data: bytes, source: str, read: Any) -> None:
    """Who asks each region for its events has mostly such files."""
    found = read(data)
    assert (found.source, found.records) == (source, 0)


def test_a_log_is_not_taken_for_a_form_by_what_callers_wrote_in_it(read: Any) -> None:
    """Names of members in requests are the caller's choice: they must not hide the events of an object."""
    for name in ("CloudTrailEvent", "_raw", "original", "result", "@message", "TimeGenerated", "Type"):
        asked = {name: json.dumps(RECORD), "event": {"original": "x"}, "hits": {"hits": []}, "Events": []}
        record = RECORD | {"requestParameters": asked}
        for data in (dump({"Records": [record]}), dump(record), dump([record]), lines([record])):
            found = read(data)
            assert (found.source, len(found.rows), found.reasons) == ("cloudtrail", 1, [])
            assert json.loads(found.rows[0]["RequestParameters"]) == asked


def test_events_that_the_trail_brought_too_are_one_row(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "home", clock=lambda: utc_now() + dt.timedelta(seconds=1))
    (tmp_path / "trail").write_bytes(dump({"Records": list(RECORDS)}, 1))
    assert workspace.ingest([tmp_path / "trail"], lambda _: None, strict=True).rows == 2
    objects = {written(CALLS) for written in FORMS.values()}
    held = [tmp_path / f"held{number}" for number in range(len(objects))]
    for path, data in zip(held, sorted(objects), strict=True):
        path.write_bytes(data)
    done = workspace.ingest(held, lambda _: None, strict=True)
    assert (done.objects, done.records) == (len(held), 2 * len(held))
    assert (done.rows, done.duplicates, done.filtered, done.quarantined) == (0, 2 * len(held), 0, 0)
