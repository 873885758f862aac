import datetime as dt
import gzip
import io
import json
from pathlib import Path

import pytest

from trailhawk.kql.types import KqlType
from trailhawk.lake.table import REST
from trailhawk.sources import SOURCES, BadPart, Unpacked, source_of
from trailhawk.sources.cloudtrail import TABLE, CloudTrail
from trailhawk.sources.source import MAX_RECORD_BYTES

SOURCE = CloudTrail()

RECORD: dict[str, object] = {
    "eventVersion": "1.11",
    "userIdentity": {
        "type": "AssumedRole",
        "principalId": "AROAEXAMPLE:i-0123456789abcdef0",
        "arn": "arn:aws:sts::111122223333:assumed-role/web/i-0123456789abcdef0",
        "accountId": "011122223333",
        "accessKeyId": "ASIAEXAMPLE",
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": "AROAEXAMPLE",
                "arn": "arn:aws:iam::111122223333:role/web",
                "accountId": "111122223333",
                "userName": "web",
            },
            "attributes": {"creationDate": "2026-03-01T08:00:00Z", "mfaAuthenticated": "false"},
            "ec2RoleDelivery": "1.0",
        },
    },
    "eventTime": "2026-03-01T09:30:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "awsRegion": "eu-central-1",
    "sourceIPAddress": "203.0.113.66",
    "userAgent": "[aws-cli/2.17.60 md/prompt#off]",
    "requestParameters": {"bucketName": "cards", "Host": "cards.s3.amazonaws.com", "key": "käse/😀 a.csv"},
    "responseElements": None,
    "additionalEventData": {"bytesTransferredOut": 89.0, "bytesTransferredIn": 0, "ratio": 1.10},
    "requestID": "EH45WHPCAE9G5SX8",
    "eventID": "5cb53c22-36b5-4ca3-a389-dae3eec919df",
    "readOnly": True,
    "resources": [{"type": "AWS::S3::Object", "ARN": "arn:aws:s3:::cards/a.csv"}],
    "eventType": "AwsApiCall",
    "managementEvent": False,
    "recipientAccountId": "111122223333",
    "eventCategory": "Data",
    "tlsDetails": {"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256"},
}


def record(number: int = 0, **changes: object) -> dict[str, object]:
    return RECORD | {"eventID": f"id-{number}"} | changes


def read(data: bytes, block: int = 1 << 25) -> tuple[list[dict[str, object]], list[BadPart]]:
    """Rows and bad parts of an object."""
    rows: list[dict[str, object]] = []
    bad: list[BadPart] = []
    for chunk in SOURCE.chunks(iter(Unpacked(io.BytesIO(data), block=block))):
        made = SOURCE.rows(chunk.records)
        rows += made.table.to_pylist()
        bad += chunk.bad
        bad += [BadPart.of(chunk.records[place], chunk.position(place), reason) for place, reason in made.bad]
    return rows, bad


def ids(rows: list[dict[str, object]]) -> list[object]:
    return [row["AwsEventId"] for row in rows]


def row_of(value: dict[str, object]) -> dict[str, object]:
    (row,), bad = read(json.dumps({"Records": [value]}).encode())
    assert not bad
    return row


def test_the_table_is_log_analytics_table() -> None:
    schema = Path(__file__).parents[3] / "shared/schemas/AWSCloudTrail.json"
    if not schema.exists():
        pytest.skip("no schema facts beside the repository")
    documented = {
        column["name"]: column["type"]
        for column in json.loads(schema.read_text())["columns"]
        if not column["name"].startswith("_")
    }
    assert {column.name: column.type.value for column in TABLE.columns} == documented
    assert all(column.description for column in TABLE.columns)
    hidden = [promoted.hidden.lower() for promoted in TABLE.promoted]
    assert len(set(hidden)) == len(hidden)


def test_a_record_becomes_a_row() -> None:
    row = row_of(RECORD)
    expected = {
        "TimeGenerated": dt.datetime(2026, 3, 1, 9, 30),
        "AwsEventId": "5cb53c22-36b5-4ca3-a389-dae3eec919df",
        "AwsRequestId": "",
        "AwsRequestId_": "EH45WHPCAE9G5SX8",
        "AWSRegion": "eu-central-1",
        "Category": "Data",
        "EC2RoleDelivery": "1.0",
        "ErrorCode": "",
        "EventTypeName": "AwsApiCall",
        "ManagementEvent": False,
        "ReadOnly": True,
        "ResponseElements": "",
        "SessionCreationDate": dt.datetime(2026, 3, 1, 8),
        "SessionIssuerUserName": "web",
        "SessionMfaAuthenticated": False,
        "SourceIpAddress": "203.0.113.66",
        "TlsVersion": "TLSv1.3",
        "UserAgent": "[aws-cli/2.17.60 md/prompt#off]",
        "UserIdentityAccountId": "011122223333",
        "UserIdentityUserName": "",
        "AdditionalEventData": '{"bytesTransferredOut":89.0,"bytesTransferredIn":0,"ratio":1.1}',
        "RequestParameters": '{"bucketName":"cards","Host":"cards.s3.amazonaws.com","key":"käse/😀 a.csv"}',
        "Resources": '[{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::cards/a.csv"}]',
        "_th_RequestParameters_key": "käse/😀 a.csv",
        "_th_RequestParameters_roleArn": None,
        "_th_AdditionalEventData_bytesTransferredOut": "89.0",
        "_th_ResponseElements_credentials_accessKeyId": None,
    }
    assert {name: row[name] for name in expected} == expected


def test_no_text_is_ever_null_and_a_flag_may_be() -> None:
    row = row_of({"eventTime": "2026-03-01T09:30:00Z"})
    for column in TABLE.stored:
        if column.type is KqlType.STRING:
            assert row[column.name] == "", column.name
    assert row["ReadOnly"] is None
    assert row["SessionCreationDate"] is None
    assert row["_th_id"] is None


def test_numbers_keep_their_digits() -> None:
    text = json.dumps(record(requestParameters={"n": 0})).replace(
        '"n": 0', '"n": 1.10, "big": 1234567890123456789012'
    )
    (row,), _ = read(text.encode())
    assert row["RequestParameters"] == '{"n":1.10,"big":1234567890123456789012}'


def test_a_security_group_rule_is_spread_over_its_columns() -> None:
    listed = {
        "groupId": "sg-1",
        "ipPermissions": {
            "items": [
                {
                    "ipProtocol": "tcp",
                    "fromPort": 22,
                    "toPort": 23,
                    "ipRanges": {"items": [{"cidrIp": "0.0.0.0/0"}, {"cidrIp": "10.0.0.0/8"}]},
                }
            ]
        },
    }
    row = row_of(record(eventName="AuthorizeSecurityGroupIngress", requestParameters=listed))
    names = ("CidrIp", "SourcePort", "DestinationPort", "IpProtocol")
    assert [row[name] for name in names] == ["0.0.0.0/0,10.0.0.0/8", "22", "23", "tcp"]
    plain = {"cidrIp": "10.0.0.0/8", "fromPort": 80, "toPort": 80, "ipProtocol": "tcp"}
    for empty in (plain, {"ipPermissions": {}, **plain}, {"ipPermissions": {"items": []}, **plain}):
        row = row_of(record(eventName="AuthorizeSecurityGroupIngress", requestParameters=empty))
        assert [row[name] for name in names] == ["10.0.0.0/8", "80", "80", "tcp"]
    blank = listed | {"cidrIp": "", "fromPort": None}
    row = row_of(record(eventName="AuthorizeSecurityGroupIngress", requestParameters=blank))
    assert [row[name] for name in names] == ["0.0.0.0/0,10.0.0.0/8", "22", "23", "tcp"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-03-01T09:30:00Z", "09:30:00"),
        ("2026-03-01T09:30:00.250Z", "09:30:00.250000"),
        ("2026-03-01T10:30:00+01:00", "09:30:00"),
        ("2026-03-01 09:30:00", "09:30:00"),
        (1772357400, "09:30:00"),
        (1772357400500, "09:30:00.500000"),
    ],
)
def test_times_as_they_are_written(written: object, meant: str) -> None:
    at = row_of(record(eventTime=written))["TimeGenerated"]
    assert isinstance(at, dt.datetime)
    assert (at.date(), at.time().isoformat()) == (dt.date(2026, 3, 1), meant)


def test_odd_types_become_text() -> None:
    row = row_of(
        record(
            eventVersion=1.05,
            readOnly="True",
            managementEvent="false",
            userIdentity="anonymous",
            requestParameters="just text",
            recipientAccountId=111122223333,
            tlsDetails=None,
            apiVersion={"a": 1},
        )
    )
    assert row["EventVersion"] == "1.05"
    assert (row["ReadOnly"], row["ManagementEvent"]) == (True, False)
    assert row["UserIdentityArn"] == ""
    assert row["RequestParameters"] == '"just text"'
    assert row["RecipientAccountId"] == "111122223333"
    assert row["APIVersion"] == '{"a":1}'


def test_an_insight_keeps_its_details() -> None:
    details = {"state": "Start", "insightType": "ApiCallRateInsight"}
    row = row_of(
        {"eventTime": "2026-03-01T09:30:00Z", "eventType": "AwsCloudTrailInsight", "insightDetails": details}
    )
    assert json.loads(str(row["AdditionalEventData"])) == {"insightDetails": details}


def test_what_has_no_column_is_kept() -> None:
    identity = json.loads(json.dumps(RECORD["userIdentity"]))
    identity["sessionContext"] |= {"sourceIdentity": "ann@example.com", "webIdFederationData": {}}
    row = row_of(
        record(
            userIdentity=identity, sessionCredentialFromConsole="true", addendum={"reason": "DELIVERY_DELAY"}
        )
    )
    assert json.loads(str(row[REST])) == {
        "addendum": {"reason": "DELIVERY_DELAY"},
        "sessionCredentialFromConsole": "true",
        "userIdentity": {"sessionContext": {"sourceIdentity": "ann@example.com"}},
    }
    assert row_of(record())[REST] is None


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


THREE = [record(number) for number in range(3)]
LINES = [_dump(value) for value in THREE]
SUBSCRIPTION = {
    "messageType": "DATA_MESSAGE",
    "logEvents": [{"id": "1", "timestamp": 1, "message": json.dumps(value)} for value in THREE],
}
LOOKUP = {"Events": [{"EventId": "1", "CloudTrailEvent": json.dumps(value)} for value in THREE]}


@pytest.mark.parametrize(
    "data",
    [
        _dump({"Records": THREE}),
        b"\xef\xbb\xbf" + _dump({"Records": THREE}),
        json.dumps({"Records": THREE}, indent=2).replace("\n", "\r\n").encode(),
        _dump(THREE),
        b"\n".join(LINES),
        b"\r\n\r\n".join(LINES) + b"\r\n",
        b"".join(_dump({"Records": [value]}) for value in THREE),
        b"\n".join(_dump({"Records": [value]}) for value in THREE),
        b"\n".join(_dump({"detail-type": "AWS API Call via CloudTrail", "detail": value}) for value in THREE),
        _dump([{"detail-type": "AWS API Call via CloudTrail", "detail": value} for value in THREE]),
        _dump(SUBSCRIPTION),
        _dump(LOOKUP),
        _dump({"owner": "x", "Records": THREE}),
    ],
)
def test_every_wrapping_gives_the_same_rows(data: bytes) -> None:
    for packed in (data, gzip.compress(data)):
        rows, bad = read(packed)
        assert ids(rows) == ["id-0", "id-1", "id-2"]
        assert not bad
    assert SOURCE.recognises("log.json", data[: 64 * 1024])


@pytest.mark.parametrize("data", [_dump({"Records": THREE * 40}), b"\n".join(LINES * 40), _dump(THREE * 40)])
@pytest.mark.parametrize("block", [700, 4096, 10_000])
def test_an_object_larger_than_a_block_is_streamed(data: bytes, block: int) -> None:
    rows, bad = read(data, block)
    assert ids(rows) == ["id-0", "id-1", "id-2"] * 40
    assert not bad


def test_lines_with_a_timestamp_of_their_own() -> None:
    plain = {key: value for key, value in RECORD.items() if key != "eventTime"}
    rows, bad = read(_dump({"@timestamp": 1772357400000, "@version": "1", **plain}))
    assert [row["TimeGenerated"] for row in rows] == [dt.datetime(2026, 3, 1, 9, 30)]
    assert not bad


@pytest.mark.parametrize("cut", [15, 300, 700, 1200])
@pytest.mark.parametrize("wrap", [(b'{"Records":[', b",", b"]}"), (b"[", b",", b"]"), (b"", b"\n", b"")])
def test_one_cut_off_record_costs_only_itself(cut: int, wrap: tuple[bytes, bytes, bytes]) -> None:
    opening, between, closing = wrap
    data = opening + LINES[0] + between + LINES[1][:cut] + between + LINES[2] + closing
    rows, bad = read(data)
    assert ids(rows) == ["id-0", "id-2"]
    (part,) = bad
    assert part.start == len(opening) + len(LINES[0]) + len(between)
    assert data[part.start : part.start + part.size].rstrip(b",\n") == LINES[1][:cut].rstrip(b",\n")
    assert part.reason == "record cut off or not JSON"


def test_a_cut_off_end_costs_the_last_record() -> None:
    whole = _dump({"Records": THREE})
    rows, bad = read(whole[: len(whole) - 400])
    assert ids(rows) == ["id-0", "id-1"]
    (part,) = bad
    assert part.start + part.size == len(whole) - 400


def test_a_record_without_time_is_bad_and_one_without_id_is_kept() -> None:
    timeless = {key: value for key, value in record(1).items() if key != "eventTime"}
    nameless = {key: value for key, value in record(2).items() if key != "eventID"}
    odd = record(3, eventTime="2025-10-21TT00:52:27Z")
    data = _dump({"Records": [record(0), timeless, nameless, odd, 7, None, "x"]})
    rows, bad = read(data)
    assert ids(rows) == ["id-0", ""]
    assert [part.reason.partition(":")[0] for part in bad] == [
        "no eventTime",
        "eventTime is no time",
        *["not a CloudTrail record"] * 3,
    ]
    assert data[bad[0].start : bad[0].start + bad[0].size] == _dump(timeless)


def test_invalid_text_costs_its_record() -> None:
    data = b"\n".join([LINES[0], LINES[1].replace(b"eu-central-1", b"\xff\xfe"), LINES[2]])
    rows, bad = read(data)
    assert ids(rows) == ["id-0", "id-2"]
    assert len(bad) == 1


@pytest.mark.parametrize("block", [1 << 25, 1 << 22])
def test_a_record_over_the_limit_is_set_aside(block: int) -> None:
    huge = _dump(record(1, requestParameters={"text": 'quote " and brace } ' * 850_000}))
    assert len(huge) > MAX_RECORD_BYTES
    for between in (b",", b"\n"):
        opening, closing = (b'{"Records":[', b"]}") if between == b"," else (b"", b"")
        data = opening + between.join([LINES[0], huge, LINES[2]]) + closing
        rows, bad = read(data, block)
        assert ids(rows) == ["id-0", "id-2"]
        (part,) = bad
        assert (part.reason, part.size, len(part.head)) == ("record larger than 16 MB", len(huge), 65536)
        assert data[part.start : part.start + part.size] == huge


def test_what_is_no_cloudtrail_is_not_taken_for_it() -> None:
    assert any(source.name == "cloudtrail" for source in SOURCES)
    for text in (b"", b"# notes", b"version account-id interface-id", b'{"findings": []}', b"\0\1\2"):
        assert not SOURCE.recognises("a.json", text)
    assert SOURCE.recognises("a.json", b'{"Records":[]}')


@pytest.mark.parametrize(
    "changes",
    [
        {"responseElements": {"recordDetail": {"recordId": "rec-1"}}},
        {"requestParameters": {"tagSet": [{"key": "team", "value": "kinesis"}]}},
        {"userIdentity": {"type": "IAMUser", "userName": "kinesis"}},
    ],
)
def test_what_is_named_in_an_event_makes_no_envelope_of_it(changes: dict[str, object]) -> None:
    head = _dump({"Records": [RECORD | changes]})
    found = source_of(SOURCES, "a.json", head)
    assert found is not None
    assert found.name == "cloudtrail"


def test_a_digest_is_known() -> None:
    digest = (
        b'{"awsAccountId":"1","digestStartTime":"2025-10-21T00:00:00Z","digestEndTime":"x","logFiles":[]}'
    )
    assert SOURCE.recognises("d.json.gz", digest)
    assert SOURCE.is_digest(digest)
    assert not SOURCE.is_digest(_dump({"Records": THREE}))


def test_the_signature_of_a_digest_is_known() -> None:
    head = (
        b'{\n    "ContentType": "application/json",\n    "Metadata": {\n        "signature": "7f",\n'
        b'        "signature-algorithm": "SHA256withRSA"\n    }\n}\n'
    )
    assert SOURCE.recognises(".d.json.gz.head.json", head)
    assert SOURCE.is_digest(head)
    assert not SOURCE.recognises("a.json", b'{"Metadata": {"signatures": []}}')
