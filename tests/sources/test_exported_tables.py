"""What other tools made of logs: Sentinel's tables, the event history, Athena's results, documents."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.text import dump, table
from trailhawk.sources import SOURCES
from trailhawk.sources.athena import struct
from trailhawk.sources.sentinel import time
from trailhawk.workspace import Workspace, utc_now

BY_NAME = {source.name: source for source in SOURCES}
RECORDED = Path(__file__).parents[3] / "shared/data/invictus_stratus/CloudTrail"

ISSUER = {
    "type": "Role",
    "principalId": "AROA",
    "arn": "arn:aws:iam::011122223333:role/app",
    "accountId": "011122223333",
    "userName": "app",
}
RECORD: dict[str, Any] = {
    "eventVersion": "1.11",
    "userIdentity": {
        "type": "AssumedRole",
        "principalId": "AROA:i-0a",
        "arn": "arn:aws:sts::011122223333:assumed-role/app/i-0a",
        "accountId": "011122223333",
        "accessKeyId": "ASIA",
        "sessionContext": {
            "sessionIssuer": ISSUER,
            "attributes": {"creationDate": "2026-03-01T09:00:00Z", "mfaAuthenticated": "false"},
            "ec2RoleDelivery": "1.0",
        },
    },
    "eventTime": "2026-03-01T09:30:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "awsRegion": "eu-central-1",
    "sourceIPAddress": "203.0.113.9",
    "userAgent": '[curl "x", y]',
    "requestParameters": {"bucketName": "b", "key": 'käse, [1],[2] "😀"\nline.csv'},
    "additionalEventData": {"bytesTransferredOut": 89.0, "x": [[1], [2]]},
    "requestID": "r1",
    "eventID": "e1",
    "readOnly": True,
    "resources": [{"ARN": "arn:aws:s3:::b", "accountId": "011122223333", "type": "AWS::S3::Bucket"}],
    "eventType": "AwsApiCall",
    "managementEvent": False,
    "recipientAccountId": "011122223333",
    "eventCategory": "Data",
    "tlsDetails": {"tlsVersion": "TLSv1.3", "cipherSuite": "c", "clientProvidedHostHeader": "b.s3"},
}
RECORDS = [RECORD, RECORD | {"eventID": "e2", "errorCode": "AccessDenied", "userIdentity": {"type": "Root"}}]


def answer(rows: list[dict[str, Any]], indent: int | None = None) -> bytes:
    """As the query API of Log Analytics answers."""
    columns = [{"name": name, "type": "string"} for name in rows[0]]
    values = [list(row.values()) for row in rows]
    return dump({"tables": [{"name": "PrimaryResult", "columns": columns, "rows": values}]}, indent)


# Sentinel


def stored(records: list[dict[str, Any]], source: str = "cloudtrail") -> list[dict[str, Any]]:
    """The rows of records, with the columns that Sentinel's table has too."""
    made = BY_NAME[source].rows([dump(record) for record in records]).table
    names = [column.name for column in BY_NAME[source].table.columns if column.name in made.column_names]
    return made.select(names).to_pylist()  # type: ignore[no-any-return]


def of_api(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """A row as the API and the continuous export write it."""
    values = {
        name: value.isoformat() + ".0000000Z" if isinstance(value, dt.datetime) else value
        for name, value in row.items()
    }
    return {"TenantId": "w", "SourceSystem": "Aws", **values, "Type": kind, "_ResourceId": ""}


def of_cli(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """The same as the CLI writes it: all as text, by name."""
    values = {name: str(value) for name, value in of_api(row, kind).items()}
    return {"TableName": "PrimaryResult", **dict(sorted(values.items()))}


def of_portal(rows: list[dict[str, Any]], kind: str) -> bytes:
    """As the portal exports them."""

    def written(value: object) -> str:
        if isinstance(value, dt.datetime):
            hour = int(value.strftime("%I"))
            return f"{value.month}/{value.day}/{value:%Y}, {hour}:{value:%M:%S}.000 {value:%p}"
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    times = {name for row in rows for name, value in row.items() if isinstance(value, dt.datetime)}
    names = [f"{name} [UTC]" if name in times else name for name in rows[0]]
    cells = [["w", *map(written, row.values()), kind] for row in rows]
    return b"\xef\xbb\xbf" + table(["TenantId", *names, "Type"], cells)


def exports(rows: list[dict[str, Any]], kind: str) -> Iterator[bytes]:
    yield of_portal(rows, kind)
    yield dump([of_cli(row, kind) for row in rows], 2)
    yield b"\n".join(dump(of_api(row, kind)) for row in rows)
    yield dump([of_api(row, kind) for row in rows])
    yield answer([of_api(row, kind) for row in rows])
    yield answer([of_api(row, kind) for row in rows], 1)


@pytest.mark.parametrize("form", range(6))
@pytest.mark.parametrize("block", [1 << 25, 6000])
def test_events_come_back_out_of_sentinel(form: int, block: int, read: Any) -> None:
    expected = read(b"\n".join(map(dump, RECORDS * 5))).rows
    data = list(exports(stored(RECORDS * 5), "AWSCloudTrail"))[form]
    found = read(data, block=block)
    assert (found.source, found.reasons) == ("sentinel-cloudtrail", [])
    assert found.rows == expected


@pytest.mark.parametrize("form", range(6))
def test_other_tables_come_back_out_of_sentinel(form: int, read: Any) -> None:
    flow = {
        "TimeGenerated": dt.datetime(2026, 3, 1, 9, 30),
        "SrcAddr": "10.0.0.1",
        "DstAddr": "10.0.0.2",
        "SrcPort": 443,
        "Bytes": 2**40,
        "InterfaceId": "eni-0a",
        "Start": dt.datetime(2026, 3, 1, 9, 30),
        "End": None,
    }
    finding = {
        "TimeGenerated": dt.datetime(2026, 3, 1, 9, 30),
        "Id": "f1",
        "Arn": "arn:aws:guardduty:eu-central-1:011122223333:detector/d/finding/f1",
        "AccountId": "011122223333",
        "ActivityType": "Recon:EC2/Portscan",
        "ResourceDetails": '{"resourceType":"Instance","instanceDetails":{"instanceId":"i-0a"}}',
        "ServiceDetails": '{"action":{"actionType":"PORT_PROBE"},"count":1}',
        "Severity": 8,
    }
    note = {
        "TimeGenerated": dt.datetime(2026, 3, 1, 9, 30),
        "ExtractedTime": dt.datetime(2026, 3, 1, 9, 30),
        "Message": 'Traceback\n  File "x", [1]\nError: a,b',
    }
    for name, row in (("vpcflow", flow), ("guardduty", finding), ("cloudwatch", note)):
        source = BY_NAME[f"sentinel-{name}"]
        (found,) = [read(list(exports([row], source.table.name))[form])]
        assert (found.source, found.reasons) == (source.name, [])
        (got,) = found.rows
        assert {key: value for key, value in got.items() if key in row} == {
            key: value for key, value in row.items() if value is not None
        }
        assert "_th_rest" not in got
    assert time("3/1/2026, 9:30:00 AM") == time("2026-03-01T09:30:00Z")


def test_paths_that_are_promoted_are_there(read: Any) -> None:
    found = read(of_portal(stored(RECORDS), "AWSCloudTrail")).rows[0]
    assert {name: value for name, value in found.items() if "bucketName" in name} == {
        name: "b" for name in found if "bucketName" in name
    }
    assert any("bucketName" in name for name in found)


@pytest.mark.parametrize("drop", ["Type", "Type TenantId AwsEventId SourceIpAddress Category"])
def test_a_table_is_known_without_its_name(drop: str, read: Any) -> None:
    rows = [{k: v for k, v in of_api(row, "x").items() if k not in drop.split()} for row in stored(RECORDS)]
    for data in (b"\n".join(map(dump, rows)), answer(rows), table(list(rows[0]), [list(rows[0].values())])):
        assert read(data).source == "sentinel-cloudtrail"


def test_rows_of_other_tables_are_nobodys(read: Any) -> None:
    row = of_api(stored(RECORDS)[0], "SecurityEvent")
    assert read(dump([row])).source == ""
    assert read(answer([row])).source == ""
    assert read(b'{"TimeGenerated":"2026-03-01","Type":{"a":"\\ud800"},"b":' + b"[" * 5000).source == ""
    assert read(b"TimeGenerated,Computer\n2026-03-01,a\n").source == ""


@pytest.mark.parametrize("form", range(6))
def test_rows_of_other_tables_among_them_are_set_aside(form: int, read: Any) -> None:
    """As unions and searches give them: each row has the columns of all tables."""
    (event,) = stored([RECORD])
    others = ("AWSGuardDuty", "SigninLogs")
    rows = [event, *(dict.fromkeys(event) | {"TimeGenerated": event["TimeGenerated"]} for _ in others), event]
    kinds = ["AWSCloudTrail", *others, "AWSCloudTrail"]
    for drop in (False, True):
        data = _named(list(exports(rows, "TheTable"))[form], kinds, drop=drop)
        found = read(data)
        assert found.source == "sentinel-cloudtrail"
        assert [row["AwsEventId"] for row in found.rows] == ["e1", "e1"]
        what = ["neither Type nor a column that tells its table"] * 2
        assert found.reasons == [
            f"not a row of AWSCloudTrail: {reason}"
            for reason in (what if drop else [f"a row of {other}" for other in others])
        ]


def _named(data: bytes, kinds: list[str], *, drop: bool) -> bytes:
    """An export with the names of its rows' tables, or without."""
    for kind in kinds:
        data = data.replace(b"TheTable", b"" if drop else kind.encode(), 1)
    return data


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("TimeGenerated [Local Time]", "3/1/2026, 9:30:00.000 AM", "are in 'Local Time': export them in UTC"),
        ("TimeGenerated [UTC]", "01/03/2026, 09:30:00.000", "no time that says which day it is"),
        ("TimeGenerated [UTC]", "13/1/2026, 9:30:00 AM", "no time that says which day it is"),
        ("TimeGenerated [UTC]", "", "no TimeGenerated"),
    ],
)
def test_a_date_is_not_guessed(name: str, value: str, reason: str, read: Any) -> None:
    names = [name, "EventName", "EventSource", "AwsEventId"]
    good = "3/1/2026, 9:30:00.000 AM"
    found = read(table(names, [[value, "GetObject", "s3", "e1"], [good, "GetObject", "s3", "e2"]]))
    assert reason in found.reasons[0]
    assert len(found.rows) == ("[UTC]" in name)


def test_nothing_is_not_the_text_that_the_cli_writes_for_it(read: Any) -> None:
    row = of_cli(stored(RECORDS)[0] | {"ErrorCode": None}, "AWSCloudTrail")
    assert row["ErrorCode"] == "None"
    (found,) = read(dump([row])).rows
    assert "ErrorCode" not in found
    (found,) = read(dump({name: value for name, value in row.items() if name != "TableName"})).rows
    assert found["ErrorCode"] == "None"


def test_long_names_of_columns_take_no_memory(read: Any) -> None:
    """Each row as a record has the names of all columns: 200 kB of CSV would be 4 GB."""
    names = [
        "TimeGenerated",
        "EventName",
        "EventSource",
        "AwsEventId",
        *(f"{i:03}" + "x" * 900 for i in range(30)),
    ]
    row = ["2026-03-01T09:30:00Z", "GetObject", "s3", "e1", *("x" for _ in range(30))]
    source = BY_NAME["sentinel-cloudtrail"]
    sizes = [
        sum(map(len, chunk.records))
        for chunk in source.chunks(iter([table(names, [row] * 3000, csv.QUOTE_MINIMAL)]))
    ]
    assert sum(sizes) > 80_000_000
    assert max(sizes) < 40_000_000
    assert read(table([*names, "y" * 30_000], [[*row, ""]])).source == ""
    # A row of a wide table fills a few of its columns.
    wide = ["TimeGenerated", "EventName", "EventSource", "AwsEventId", *(f"column{i}" for i in range(990))]
    data = table(wide, [[*row[:4], *[""] * 990]] * 500)
    assert sum(len(each) for chunk in source.chunks(iter([data])) for each in chunk.records) < len(data)
    assert {tuple(sorted(each)) for each in read(data).rows} == {
        tuple(sorted(read(table(names[:4], [row[:4]])).rows[0]))
    }
    empty = answer([dict.fromkeys(wide) | dict(zip(wide, row[:4], strict=False))] * 500)
    assert sum(len(each) for chunk in source.chunks(iter([empty])) for each in chunk.records) < len(empty)
    good = {"TimeGenerated": "2026-03-01T09:30:00Z", "Type": "AWSCloudTrail"}
    assert len(read(dump(good) + b"\n" + dump(good | {" [" * 500_000: "x"})).rows) == 2
    deep = {"name": json.loads('{"a":' * 300 + "1" + "}" * 300)}
    answers = {"QueryResultRows": [[{"eventName": "x"}, {"eventSource": "y"}, {"eventTime": "z"}], [deep]]}
    assert len(read(dump(answers)).bad) == 2


def test_what_no_column_holds_is_kept_beside_the_row(read: Any) -> None:
    row = of_api(stored(RECORDS)[0], "AWSCloudTrail") | {"Mine": "x", "ReadOnly": "perhaps"}
    (found,) = read(dump(row)).rows
    assert json.loads(found["_th_rest"]) == {"Mine": "x", "ReadOnly": "perhaps"}


def test_an_export_of_an_event_that_the_trail_brought_is_a_duplicate(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "home", clock=lambda: utc_now() + dt.timedelta(seconds=1))
    objects = {
        "trail.json": dump({"Records": RECORDS}),
        "query_data.csv": of_portal(stored(RECORDS), "AWSCloudTrail"),
        "cli.json": dump([of_cli(row, "AWSCloudTrail") for row in stored(RECORDS)]),
        "athena.csv": athena(RECORDS),
        "event_history.csv": history(RECORDS),
    }
    counted = {}
    for name, data in objects.items():
        (tmp_path / name).write_bytes(data)
        done = workspace.ingest([tmp_path / name], lambda _: None)
        counted[name] = (done.records, done.rows, done.duplicates, done.filtered, done.quarantined)
    assert counted == {
        "trail.json": (2, 2, 0, 0, 0),
        "query_data.csv": (2, 0, 2, 0, 0),
        "cli.json": (2, 0, 2, 0, 0),
        "athena.csv": (2, 0, 2, 0, 0),
        "event_history.csv": (2, 2, 0, 0, 0),  # it says less, so the row differs
    }


# The event history

HISTORY = """
User name,AWS access key,Event time,Event source,Event name,AWS region,Source IP address,User agent,\
Error code,Resources,Request ID,Event ID,Read-only,Event type,Recipient Account Id,Event category
"""


def history(records: list[dict[str, Any]]) -> bytes:
    """As the console writes them."""
    members = ("eventTime", "eventSource", "eventName", "awsRegion", "sourceIPAddress", "userAgent")
    rows = []
    for record in records:
        listed = json.dumps([{"resourceType": "AWS::S3::Bucket", "resourceName": "b"}])
        start = ["i-0a", "ASIA", *(record[name] for name in members), record.get("errorCode", "")]
        end = [record["requestID"], record["eventID"], "true", "AwsApiCall", "011122223333", "Data"]
        rows.append([*start, listed, *end])
    return table(HISTORY.strip().split(","), rows)


def test_the_event_history_is_what_it_says_and_no_more(read: Any) -> None:
    found = read(history(RECORDS))
    assert (found.source, found.reasons, len(found.rows)) == ("cloudtrail-history", [], 2)
    found.rows[0].pop("_th_id")
    assert found.rows[0] == {
        "TimeGenerated": dt.datetime(2026, 3, 1, 9, 30),
        "AWSRegion": "eu-central-1",
        "AwsEventId": "e1",
        "AwsRequestId_": "r1",
        "Category": "Data",
        "EventName": "GetObject",
        "EventSource": "s3.amazonaws.com",
        "EventTypeName": "AwsApiCall",
        "ReadOnly": True,
        "RecipientAccountId": "011122223333",
        "Resources": '[{"resourceType":"AWS::S3::Bucket","resourceName":"b"}]',
        "SourceIpAddress": "203.0.113.9",
        "UserAgent": '[curl "x", y]',
        "UserIdentityAccessKeyId": "ASIA",
        "UserIdentityUserName": "i-0a",
    }
    broken = history(RECORDS).replace(b'[{""resourceType', b"[{resourceType", 1)
    found = read(broken)
    assert (len(found.rows), len(found.bad)) == (1, 1)


# Athena

JSON_TEXTS = ("requestParameters", "responseElements", "additionalEventData", "serviceEventDetails")
COLUMNS = (
    "eventVersion userIdentity eventTime eventSource eventName awsRegion sourceIPAddress userAgent errorCode "
    "errorMessage requestParameters responseElements additionalEventData requestID eventID readOnly "
    "resources eventType apiVersion managementEvent recipientAccountId serviceEventDetails sharedEventID "
    "vpcEndpointId eventCategory tlsDetails"
)


FLOW_COLUMNS = """
version account_id interface_id srcaddr dstaddr srcport dstport protocol packets bytes start end action
log_status
"""
ACCESS_COLUMNS = """
bucketowner bucket_name requestdatetime remoteip requester requestid operation key request_uri httpstatus
errorcode bytessent objectsize totaltime turnaroundtime referrer useragent versionid hostid sigv ciphersuite
authtype endpoint tlsversion
"""


def presto(value: object) -> str:
    """A value as Athena writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name.lower()}={presto(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(presto, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def cell(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if name in JSON_TEXTS and not isinstance(value, str):
        return "" if value is None else json.dumps(value)
    return "" if value is None else presto(value)


def athena(records: list[dict[str, Any]]) -> bytes:
    names = COLUMNS.split()
    rows = [[cell(record, name) for name in names] for record in records]
    header = [*(name.lower() for name in names), "region", "timestamp"]
    return table(header, [[*row, "eu-central-1", "2026/03/01"] for row in rows], csv.QUOTE_ALL)


def queried(records: list[dict[str, Any]]) -> bytes:
    """As the answer of GetQueryResults."""
    names = COLUMNS.split()
    rows = [[name.lower() for name in names], *([cell(each, name) for name in names] for each in records)]
    data = [{"Data": [{"VarCharValue": text} if text else {} for text in row]} for row in rows]
    columns = [{"CatalogName": "hive", "Name": name, "Type": "varchar"} for name in names]
    result = {"Rows": data, "ResultSetMetadata": {"ColumnInfo": columns}}
    return dump({"UpdateCount": 0, "ResultSet": result}, 4)


@pytest.mark.parametrize("written", [athena, queried])
@pytest.mark.parametrize("block", [1 << 25, 8000])
def test_events_come_back_out_of_athena(written: Any, block: int, read: Any) -> None:
    expected = read(b"\n".join(map(dump, RECORDS * 5))).rows
    found = read(written(RECORDS * 5), block=block)
    assert (found.source, found.reasons) == ("athena-cloudtrail", [])
    assert found.rows == expected


@pytest.mark.parametrize(
    "text",
    [
        "{type=SAMLUser, username=cn=Ann, ou=x, accountid=1}",
        "{type=IAMUser, username=a, type=Root}",
        "{type=IAMUser, username={a}",
        "{type=IAMUser, username=a}b}",
        "{type=IAMUser",
        "{type=IAMUser}, ",
        "{" * 300,
        "[1]",
        "x",
    ],
)
def test_a_caller_is_not_guessed(text: str, read: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        struct(text)
    names = ["eventtime", "eventsource", "eventname", "useridentity"]
    row = ["2026-03-01T09:30:00Z", "s3.amazonaws.com", "GetObject"]
    found = read(table(names, [[*row, text], [*row, "{type=Root}"]]))
    assert (len(found.rows), len(found.bad)) == (1, 1)
    assert found.reasons[0].startswith("not a row of CloudTrail's events: useridentity: ")


def test_what_cannot_be_told_apart_is_refused_or_kept_as_text(read: Any) -> None:
    names = ["eventTime", "eventSource", "eventName", "requestParameters", "resources"]
    row = ["2026-03-01 09:30:00.000", "s3.amazonaws.com", "GetObject"]
    rows = [[*row, "{bucketName=b, key=k}", ""], [*row, "", "[{arn=arn:aws:s3:::b/{x}, type=y}]"]]
    found = read(table(names, rows))
    (reason,) = found.reasons
    assert reason.endswith(
        "requestparameters is no JSON, so that its values cannot be told apart: ask for eventJson"
    )
    assert json.loads(found.rows[0]["_th_rest"]) == {
        "resources as text": "[{arn=arn:aws:s3:::b/{x}, type=y}]"
    }
    fields = [{name: text} for name, text in zip(names, rows[1], strict=True)]
    answers = {"QueryStatus": "FINISHED", "QueryResultRows": [fields]}
    assert read(dump(answers)).rows == found.rows


def test_flow_logs_and_access_logs_come_back_out_of_athena(read: Any) -> None:
    flow = "2 111122223333 eni-0a 10.0.0.1 - 443 5000 6 1 40 1772357400 1772357460 ACCEPT OK"
    names = FLOW_COLUMNS.split()
    found = read(
        table([*names, "day"], [["" if v == "-" else v for v in [*flow.split(), "1"]]], csv.QUOTE_ALL)
    )
    assert (found.source, found.rows) == ("athena-vpcflow", read(flow.encode()).rows)
    front = [
        "0a" * 16,
        "cards",
        "01/Mar/2026:09:30:00 +0000",
        "203.0.113.9",
        "-",
        "R1",
        "REST.GET.OBJECT",
        "k",
    ]
    back = ["-", "5", "5", "10", "9", "-", 'curl "x"', "-", "h", "SigV4", "c", "AuthHeader", "b", "TLSv1.2"]
    names = ACCESS_COLUMNS.split()
    found = read(table(names, [[*front, "GET /k HTTP/1.1", "200", *back]], csv.QUOTE_ALL))
    middle = '"GET /k HTTP/1.1" 200 - 5 5 10 9 - "curl "x"" - h SigV4 c AuthHeader b TLSv1.2'
    line = f"{front[0]} cards [{front[2]}] 203.0.113.9 - R1 REST.GET.OBJECT k {middle}"
    assert (found.source, found.rows) == ("athena-s3access", read(line.encode()).rows)


# Elastic


def filled(value: Any) -> Any:
    """A value without its empty members, as the integration stores it."""
    if isinstance(value, dict):
        return {
            name: item for name, each in value.items() if (item := filled(each)) not in (None, "", {}, [])
        }
    return [filled(each) for each in value] if isinstance(value, list) else value


def document(record: dict[str, Any]) -> dict[str, Any]:
    """As Elastic's integration stores a record without its original."""
    caller = record["userIdentity"]
    session = caller.get("sessionContext", {})
    issuer, attributes = session.get("sessionIssuer", {}), session.get("attributes", {})
    tls = record.get("tlsDetails", {})
    flattened = {
        "request_parameters": record.get("requestParameters"),
        "response_elements": record.get("responseElements"),
        "additional_eventdata": record.get("additionalEventData"),
        "service_event_details": record.get("serviceEventDetails"),
    }
    told = {
        "event_version": record.get("eventVersion"),
        "event_type": record.get("eventType"),
        "event_category": record.get("eventCategory"),
        "error_code": record.get("errorCode"),
        "error_message": record.get("errorMessage"),
        "request_id": record.get("requestID"),
        "api_version": record.get("apiVersion"),
        "management_event": record.get("managementEvent"),
        "read_only": record.get("readOnly"),
        "recipient_account_id": record.get("recipientAccountId"),
        "vpc_endpoint_id": record.get("vpcEndpointId"),
        "flattened": flattened,
        **{name: str(value) for name, value in flattened.items() if value},
        "resources": [
            {{"ARN": "arn", "accountId": "account_id"}.get(name, name): item for name, item in each.items()}
            for each in record.get("resources") or ()
        ],
        "user_identity": {
            "type": caller.get("type"),
            "arn": caller.get("arn"),
            "access_key_id": caller.get("accessKeyId"),
            "invoked_by": caller.get("invokedBy"),
            "session_context": {
                "mfa_authenticated": attributes.get("mfaAuthenticated"),
                "creation_date": attributes.get("creationDate", "").replace("Z", ".000Z"),
                "session_issuer": {
                    "type": issuer.get("type"),
                    "principal_id": issuer.get("principalId"),
                    "arn": issuer.get("arn"),
                    "account_id": issuer.get("accountId"),
                },
            },
        },
    }
    made = {
        "@timestamp": record["eventTime"].replace("Z", ".000Z"),
        "aws": {"cloudtrail": told},
        "cloud": {"account": {"id": caller.get("accountId")}, "region": record.get("awsRegion")},
        "event": {"action": record["eventName"], "id": record["eventID"], "provider": record["eventSource"]},
        "source": {"address": record.get("sourceIPAddress")},
        "tags": ["forwarded"],
        "tls": {
            "cipher": tls.get("cipherSuite"),
            "client": {"server_name": tls.get("clientProvidedHostHeader")},
            "version": tls.get("tlsVersion", "").removeprefix("TLSv"),
        },
        "user": {
            "id": caller.get("principalId"),
            "name": issuer.get("userName") or caller.get("userName"),
        },
        "user_agent": {"original": record.get("userAgent")},
    }
    return filled(made)  # type: ignore[no-any-return]


def hits(records: list[dict[str, Any]]) -> bytes:
    found = [{"_index": "logs", "_id": "1", "_source": document(record)} for record in records]
    return dump({"took": 1, "hits": {"total": {"value": 2}, "hits": found}}, 1)


KEPT = [
    record
    | {
        "userIdentity": {
            **record["userIdentity"],
            "sessionContext": {
                name: value
                for name, value in record["userIdentity"].get("sessionContext", {}).items()
                if name != "ec2RoleDelivery"
            },
        }
    }
    for record in RECORDS
]


@pytest.mark.parametrize(
    "written",
    [
        lambda records: b"\n".join(dump(document(record)) for record in records),
        lambda records: b"\n".join(dump({"_index": "x", "_source": document(record)}) for record in records),
        lambda records: dump([document(record) for record in records]),
        hits,
    ],
)
@pytest.mark.parametrize("block", [1 << 25, 6000])
def test_events_come_back_out_of_elastic(written: Any, block: int, read: Any) -> None:
    found = read(written(KEPT * 5), block=block)
    assert (found.source, found.reasons) == ("elastic-cloudtrail", [])
    assert found.rows == read(b"\n".join(map(dump, KEPT * 5))).rows


def test_documents_of_other_logs_are_bad_ones(read: Any) -> None:
    good = document(RECORD)
    long = document(RECORD)
    del long["aws"]["cloudtrail"]["flattened"]["request_parameters"]
    found = read(b"\n".join(map(dump, [good, {"@timestamp": "2026-03-01T09:30:00Z", "aws": {}}, long])))
    assert (len(found.rows), found.reasons) == (
        2,
        ["not a document of aws.cloudtrail: no aws.cloudtrail, or no event.action"],
    )
    assert "RequestParameters" not in found.rows[1]
    assert "requestParameters as text" in found.rows[1]["_th_rest"]


def test_recorded_events_come_back(read: Any) -> None:
    """Recorded events by way of the other tools give the rows that the trail's own files give."""
    if not RECORDED.exists():
        pytest.skip("no recordings beside the repository")
    files = sorted(RECORDED.glob("*.json"))[:20]
    records = [record for file in files for record in json.loads(file.read_bytes())["Records"]]
    expected = read(dump({"Records": records})).rows
    for data in (of_portal(stored(records), "AWSCloudTrail"), athena(records)):
        found = read(data)
        assert found.reasons == []
        rest = [{k: v for k, v in row.items() if k != "_th_rest"} for row in expected]
        assert [{k: v for k, v in row.items() if k != "_th_rest"} for row in found.rows] == rest
    made = read(b"\n".join(dump(document(record)) for record in records)).rows
    lost = {"_th_rest", "EC2RoleDelivery", "SharedEventId", "UserIdentityUserName"}
    for column in (
        expected[0].keys() - lost - {"RequestParameters", "ResponseElements", "AdditionalEventData"}
    ):
        assert [row.get(column) for row in made] == [row.get(column) for row in expected], column
