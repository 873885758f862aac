"""What CloudTrail's records have been seen to hold: each is a row, with the text as it came."""

import json
from typing import Any

import pytest

RECORD = {
    "eventVersion": "1.08",
    "userIdentity": {"type": "IAMUser", "accountId": "011122223333", "userName": "ann"},
    "eventTime": "2026-03-01T09:30:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "awsRegion": "us-gov-east-1",
    "sourceIPAddress": "203.0.113.9",
    "eventID": "e1",
    "recipientAccountId": "011122223333",
}
SERVICE = {"accountId": "011122223333", "invokedBy": "autoscaling.amazonaws.com"}
CENTER = {
    "type": "IdentityCenterUser",
    "arn": "",
    "accessKeyId": "",
    "onBehalfOf": {"userId": "u", "identityStoreArn": "arn:i"},
}
ANONYMOUS = {"type": "AWSAccount", "principalId": "", "accountId": "ANONYMOUS_PRINCIPAL"}
ISSUED = {
    "type": "AssumedRole",
    "sessionContext": {
        "sessionIssuer": {"userName": "web"},
        "attributes": {"mfaAuthenticated": "true", "creationDate": "2026-03-01T08:00:00Z"},
        "ec2RoleDelivery": "2.0",
    },
}
MANY = {
    "bucketName": "b",
    "x-amz-copy-source": "b/k",
    "Host": "h",
    "list-type": "2",
    "policy": "HIDDEN_DUE_TO_SECURITY_REASONS",
}
ITEMS = {"instancesSet": {"items": [{"instanceId": "i-0"}]}}
KEYS = ["käse.csv", "😀", "\u202egpj.exe", "a%20b%2520c", "two\nlines", "tab\tand\u0000nul", "\ud83d\ude00"]


def row_of(read: Any, **changes: object) -> dict[str, Any]:
    found = read(json.dumps({"Records": [RECORD | changes]}).encode())
    assert (found.source, found.reasons) == ("cloudtrail", [])
    (row,) = found.rows
    return row  # type: ignore[no-any-return]


@pytest.mark.parametrize("version", ["1.03", "1.08", "1.10", "1.11", None])
def test_versions_are_text(version: str | None, read: Any) -> None:
    assert row_of(read, eventVersion=version).get("EventVersion") == version


@pytest.mark.parametrize(
    "kind",
    ["FederatedUser", "SAMLUser", "WebIdentityUser", "Role", "Directory", "AWSAccount", "Unknown", "Unheard"],
)
def test_callers_of_any_type(kind: str, read: Any) -> None:
    row = row_of(read, userIdentity={"type": kind, "principalId": "p", "accountId": "000000000001"})
    assert (row["UserIdentityType"], row["UserIdentityPrincipalid"]) == (kind, "p")
    assert (row["UserIdentityAccountId"], row.get("UserIdentityArn")) == ("000000000001", None)


@pytest.mark.parametrize(
    "address",
    [
        "2001:db8::1",
        "::ffff:192.0.2.1",
        "AWS Internal",
        "secretsmanager.amazonaws.com",
        "redacted",
        "<Attacker source IP>",
        "06.237.252.245",
    ],
)
def test_addresses_stay_as_logged(address: str, read: Any) -> None:
    assert row_of(read, sourceIPAddress=address)["SourceIpAddress"] == address


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"requestParameters": None, "responseElements": None}, {"RequestParameters": None}),
        ({"requestParameters": "text"}, {"RequestParameters": '"text"'}),
        ({"readOnly": "true", "managementEvent": False}, {"ReadOnly": True, "ManagementEvent": False}),
        ({"errorCode": "", "errorMessage": None}, {"ErrorCode": None, "ErrorMessage": None}),
        ({"errorCode": "Client.UnauthorizedOperation"}, {"ErrorCode": "Client.UnauthorizedOperation"}),
        (
            {"userIdentity": SERVICE},
            {"UserIdentityType": None, "UserIdentityInvokedBy": SERVICE["invokedBy"]},
        ),
        (
            {"userIdentity": CENTER},
            {"UserIdentityUserId": "u", "UserIdentityStoreArn": "arn:i", "UserIdentityArn": None},
        ),
        (
            {"userIdentity": ANONYMOUS},
            {"UserIdentityAccountId": "ANONYMOUS_PRINCIPAL", "UserIdentityPrincipalid": None},
        ),
        ({"userIdentity": {"type": "Root"}}, {"UserIdentityType": "Root", "UserIdentityUserName": None}),
        ({"userIdentity": None}, {"UserIdentityType": None}),
        ({"userIdentity": ISSUED}, {"EC2RoleDelivery": "2.0", "SessionMfaAuthenticated": True}),
        ({"userIdentity": ISSUED}, {"SessionIssuerUserName": "web", "UserIdentityUserName": None}),
        ({"userAgent": "[aws-cli/2.17]"}, {"UserAgent": "[aws-cli/2.17]"}),
        ({"userAgent": "AWS Internal"}, {"UserAgent": "AWS Internal"}),
        ({"userAgent": None}, {"UserAgent": None}),
        (
            {"userIdentity": {"type": "IAMUser", "invokedBy": "cloudformation.amazonaws.com"}},
            {"UserIdentityType": "IAMUser", "UserIdentityInvokedBy": "cloudformation.amazonaws.com"},
        ),
        (
            {"errorCode": "AccessDenied"},
            {"ErrorCode": "AccessDenied", "ErrorMessage": None},
        ),
        ({"awsRegion": "me-south-1r"}, {"AWSRegion": "me-south-1r"}),
        (
            {"eventType": "AwsServiceEvent", "readOnly": "false"},
            {"EventTypeName": "AwsServiceEvent", "ReadOnly": False},
        ),
        (
            {"sessionCredentialFromConsole": True},
            {"_th_rest": '{"sessionCredentialFromConsole":true}'},
        ),
        (
            {"responseElements": {"secretString": "***", "a": "sensitiveDataRemoved"}},
            {"ResponseElements": '{"secretString":"***","a":"sensitiveDataRemoved"}'},
        ),
        (
            {"requestParameters": {"DescribeInstanceTypesRequest": {"InstanceType": "t3"}}},
            {"RequestParameters": '{"DescribeInstanceTypesRequest":{"InstanceType":"t3"}}'},
        ),
        (
            {"additionalEventData": {"bytesTransferredOut": 89.0}},
            {"AdditionalEventData": '{"bytesTransferredOut":89.0}'},
        ),
        (
            {"additionalEventData": {"bytesTransferredOut": 89}},
            {"_th_AdditionalEventData_bytesTransferredOut": "89"},
        ),
        ({"resources": [{"arn": "a"}, {"ARNPrefix": "p"}]}, {"Resources": '[{"arn":"a"},{"ARNPrefix":"p"}]'}),
        ({"resources": None}, {"Resources": None}),
        ({"resources": []}, {"Resources": "[]"}),
        ({"eventName": "UpdateFunctionCode20150331v2"}, {"EventName": "UpdateFunctionCode20150331v2"}),
        ({"requestParameters": MANY}, {"_th_RequestParameters_x-amz-copy-source": "b/k"}),
        ({"requestParameters": ITEMS}, {"RequestParameters": json.dumps(ITEMS, separators=(",", ":"))}),
        (
            {"responseElements": {"credentials": {"expiration": "Sep 14, 2020, 7:10:27\u202fAM"}}},
            {"ResponseElements": '{"credentials":{"expiration":"Sep 14, 2020, 7:10:27\u202fAM"}}'},
        ),
        ({"sharedEventID": "s1", "requestID": None}, {"SharedEventId": "s1", "AwsRequestId_": None}),
        ({"eventType": "logout", "eventCategory": None}, {"EventTypeName": "logout", "Category": None}),
        ({"serviceEventDetails": {"a": 1}}, {"ServiceEventDetails": '{"a":1}'}),
        ({"addendum": {"reason": "UPDATED_DATA"}}, {"_th_rest": '{"addendum":{"reason":"UPDATED_DATA"}}'}),
        (
            {"eventContext": {"tagContext": {"resourceTags": []}}},
            {"_th_rest": '{"eventContext":{"tagContext":{"resourceTags":[]}}}'},
        ),
        (
            {"userIdentity": {"type": "AssumedRole", "invokedByDelegate": {"accountId": "011122223333"}}},
            {"_th_rest": '{"userIdentity":{"invokedByDelegate":{"accountId":"011122223333"}}}'},
        ),
        (
            {"requestParameters": {"text": "x" * 1_000_000, "omitted": True}},
            {"RequestParameters": '{"text":"' + "x" * 1_000_000 + '","omitted":true}'},
        ),
        ({"recipientAccountId": "000000000001"}, {"RecipientAccountId": "000000000001"}),
    ],
)
def test_members_as_they_have_been_seen(
    changes: dict[str, object], expected: dict[str, object], read: Any
) -> None:
    row = row_of(read, **changes)
    assert {name: row.get(name) for name in expected} == expected


@pytest.mark.parametrize("key", KEYS)
def test_any_key_of_an_object_is_kept(key: str, read: Any) -> None:
    row = row_of(read, requestParameters={"bucketName": "b", "key": key})
    assert row["_th_RequestParameters_key"] == key.encode("utf-16", "surrogatepass").decode("utf-16")
    assert json.loads(row["RequestParameters"])["key"] == row["_th_RequestParameters_key"]


def test_an_empty_file_holds_nothing(read: Any) -> None:
    for data in (b'{"Records":[]}', b'{"Records": []}\n{"Records":[]}\n'):
        assert (read(data).source, read(data).records) == ("cloudtrail", 0)


def test_ids_of_an_event_are_those_of_the_account_that_got_it(read: Any) -> None:
    first, copy, shared = (
        row_of(read),
        row_of(read, requestID="another"),
        row_of(read, recipientAccountId="222233334444"),
    )
    assert first["_th_id"] == copy["_th_id"] != shared["_th_id"]


def test_records_stand_in_any_order_and_share_request_ids(read: Any) -> None:
    times = ["2026-03-01T09:30:00Z", "2026-03-01T09:10:00Z", "2026-03-01T09:20:00Z"]
    records = [RECORD | {"eventTime": at, "eventID": at, "requestID": "r1"} for at in times]
    found = read(json.dumps({"Records": records}).encode())
    assert [row["AwsEventId"] for row in found.rows] == times
    assert len({row["_th_id"] for row in found.rows}) == 3
