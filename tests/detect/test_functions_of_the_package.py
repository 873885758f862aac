"""The stored functions of the package: each is KQL with a documentation, and gives the rows it promises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from trailhawk.detect.content import functions

if TYPE_CHECKING:
    from trailhawk.engine.result import Engine

Record = Mapping[str, object]
NOW = datetime(2026, 3, 2, tzinfo=UTC)
STORED = functions()
ACCOUNT = "111122223333"


@pytest.mark.parametrize("name", list(STORED))
def test_a_function_is_documented(name: str) -> None:
    assert STORED.named(name).documentation
    assert STORED[name].body is not None


def rows(engine: Engine, query: str) -> list[list[object]]:
    return [list(row.values()) for row in engine.query(query, now=NOW).table.to_pylist()]


# --- authentication ----------------------------------------------------------------------------------------


def record(hour: int, source: str, name: str, identity: Mapping[str, object], **more: object) -> Record:
    return {
        "eventTime": f"2026-03-01T{hour:02}:00:00Z",
        "eventSource": f"{source}.amazonaws.com",
        "eventName": name,
        "awsRegion": "eu-central-1",
        "sourceIPAddress": "198.51.100.7",
        "userAgent": "agent/1",
        "userIdentity": identity,
        "recipientAccountId": ACCOUNT,
        "eventType": "AwsApiCall",
    } | more


BOB = {
    "type": "IAMUser",
    "principalId": "AIDABOB",
    "arn": f"arn:aws:iam::{ACCOUNT}:user/bob",
    "accountId": ACCOUNT,
    "userName": "bob",
    "accessKeyId": "AKIABOB",
}
ROOT = {"type": "Root", "principalId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:root", "accountId": ACCOUNT}
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/ops/bob"
SIGN_INS: list[Record] = [
    record(
        1,
        "signin",
        "ConsoleLogin",
        BOB,
        responseElements={"ConsoleLogin": "Success"},
        additionalEventData={"MFAUsed": "Yes", "LoginTo": "https://console.aws.amazon.com/"},
    ),
    record(
        2,
        "signin",
        "ConsoleLogin",
        {"type": "IAMUser", "accountId": ACCOUNT, "userName": "HIDDEN_DUE_TO_SECURITY_REASONS"},
        sourceIPAddress="203.0.113.9",
        errorMessage="No username found in supplied account",
        responseElements={"ConsoleLogin": "Failure"},
        additionalEventData={"MFAUsed": "No"},
    ),
    record(
        3,
        "signin",
        "ConsoleLogin",
        ROOT,
        sourceIPAddress="2001:db8::1",
        errorMessage="Failed authentication",
        responseElements={"ConsoleLogin": "Failure"},
        additionalEventData={"MFAUsed": "No"},
    ),
    record(
        4,
        "sts",
        "AssumeRole",
        BOB,
        requestParameters={"roleArn": f"arn:aws:iam::{ACCOUNT}:role/ops", "roleSessionName": "bob"},
        responseElements={
            "credentials": {"accessKeyId": "ASIAOPS"},
            "assumedRoleUser": {"arn": SESSION, "assumedRoleId": "AROAOPS:bob"},
        },
    ),
    record(
        5,
        "sts",
        "AssumeRole",
        BOB,
        errorCode="AccessDenied",
        errorMessage="not authorized",
        requestParameters={"roleArn": f"arn:aws:iam::{ACCOUNT}:role/admin", "roleSessionName": "bob"},
    ),
    record(
        6,
        "sts",
        "AssumeRole",
        {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"},
        sourceIPAddress="ec2.amazonaws.com",
        requestParameters={"roleArn": f"arn:aws:iam::{ACCOUNT}:role/web", "roleSessionName": "i-0aa"},
        responseElements={
            "credentials": {"accessKeyId": "ASIAWEB"},
            "assumedRoleUser": {
                "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/web/i-0aa",
                "assumedRoleId": "AROAWEB:i-0aa",
            },
        },
    ),
    record(7, "sts", "GetSessionToken", BOB, responseElements={"credentials": {"accessKeyId": "ASIABOB"}}),
    record(
        8,
        "sts",
        "GetFederationToken",
        BOB,
        requestParameters={"name": "guest"},
        responseElements={
            "federatedUser": {
                "federatedUserId": f"{ACCOUNT}:guest",
                "arn": f"arn:aws:sts::{ACCOUNT}:federated-user/guest",
            }
        },
    ),
    record(
        9,
        "signin",
        "SwitchRole",
        {"type": "AssumedRole", "principalId": "AROAOPS:bob", "arn": SESSION, "accountId": ACCOUNT},
        responseElements={"SwitchRole": "Success"},
        additionalEventData={"SwitchFrom": str(BOB["arn"])},
    ),
    record(10, "sts", "GetCallerIdentity", BOB),
    record(11, "iam", "CreateUser", BOB),
]


@pytest.fixture
def sign_ins(engine_of: Callable[[Iterable[Record]], Engine]) -> Engine:
    return engine_of(SIGN_INS)


GOLDEN: list[list[object]] = [
    [
        "ConsoleLogin",
        "Logon",
        "Interactive",
        "Success",
        "",
        "bob",
        "Regular",
        "",
        "Multi factor authentication",
        "",
    ],
    [
        "ConsoleLogin",
        "Logon",
        "Interactive",
        "Failure",
        "No such user",
        "HIDDEN_DUE_TO_SECURITY_REASONS",
        "Regular",
        "",
        "Username & Password",
        "",
    ],
    [
        "ConsoleLogin",
        "Logon",
        "Interactive",
        "Failure",
        "No such user or password",
        "root",
        "Admin",
        "",
        "Username & Password",
        "",
    ],
    ["AssumeRole", "Elevate", "AssumeRole", "Success", "", SESSION, "Other", "bob", "Other", "ASIAOPS"],
    [
        "AssumeRole",
        "Elevate",
        "AssumeRole",
        "Failure",
        "Logon violates policy",
        f"arn:aws:iam::{ACCOUNT}:role/admin",
        "Other",
        "bob",
        "Other",
        "",
    ],
    [
        "AssumeRole",
        "Elevate",
        "AssumeRole",
        "Success",
        "",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/web/i-0aa",
        "Other",
        "ec2.amazonaws.com",
        "Managed Identity",
        "ASIAWEB",
    ],
    ["GetSessionToken", "Logon", "Remote", "Success", "", "bob", "Regular", "", "Other", "ASIABOB"],
    [
        "GetFederationToken",
        "Logon",
        "Remote",
        "Success",
        "",
        f"arn:aws:sts::{ACCOUNT}:federated-user/guest",
        "Regular",
        "bob",
        "Other",
        "",
    ],
    ["SwitchRole", "Elevate", "AssumeRole", "Success", "", SESSION, "Other", BOB["arn"], "Other", ""],
]


@pytest.mark.parametrize(
    "name",
    [
        "imAuthentication",
        "_Im_Authentication",
        "_Im_Authentication()",
        "ASimAuthentication",
        "_ASim_Authentication()",
        "vimAuthenticationAWSCloudTrail",
    ],
)
def test_authentications(sign_ins: Engine, name: str) -> None:
    found = rows(
        sign_ins,
        f"{name} | order by TimeGenerated asc | project EventOriginalType, EventType, EventSubType, "
        "EventResult, EventResultDetails, TargetUsername, TargetUserType, ActorUsername, LogonMethod, "
        "TargetSessionId",
    )
    assert found == GOLDEN


def test_one_authentication_in_full(sign_ins: Engine) -> None:
    (row,) = sign_ins.query(
        "imAuthentication(pack=true, username_has_any=dynamic(['ops']))"
        "| where EventOriginalType == 'AssumeRole' | extend AdditionalFields = tostring(AdditionalFields)",
        now=NOW,
    ).table.to_pylist()
    filled = {name: value for name, value in row.items() if value not in ("", None)}
    assert json.loads(filled.pop("AdditionalFields"))["RoleSessionName"] == "bob"
    at = datetime(2026, 3, 1, 4)
    assert filled.pop("EventOriginalUid")
    assert filled == {
        "TimeGenerated": at,
        "EventCount": 1,
        "EventStartTime": at,
        "EventEndTime": at,
        "EventType": "Elevate",
        "EventSubType": "AssumeRole",
        "EventResult": "Success",
        "EventOriginalType": "AssumeRole",
        "EventSeverity": "Informational",
        "EventProduct": "CloudTrail",
        "EventVendor": "AWS",
        "EventSchema": "Authentication",
        "EventSchemaVersion": "0.1.4",
        "Dvc": "CloudTrail",
        "DvcScopeId": ACCOUNT,
        "DvcZone": "eu-central-1",
        "LogonMethod": "Other",
        "TargetUserId": "AROAOPS:bob",
        "TargetUserIdType": "AWSId",
        "TargetUsername": SESSION,
        "TargetUsernameType": "AWSId",
        "TargetUserType": "Other",
        "TargetOriginalUserType": "AssumedRole",
        "TargetUserScopeId": ACCOUNT,
        "TargetSessionId": "ASIAOPS",
        "ActorUserId": "AIDABOB",
        "ActorUserIdType": "AWSId",
        "ActorUsername": "bob",
        "ActorUsernameType": "Simple",
        "ActorUserType": "Regular",
        "ActorOriginalUserType": "IAMUser",
        "ActorScopeId": ACCOUNT,
        "ActorSessionId": "AKIABOB",
        "HttpUserAgent": "agent/1",
        "SrcIpAddr": "198.51.100.7",
        "TargetAppId": "sts.amazonaws.com",
        "TargetAppName": "AWS STS",
        "TargetAppType": "CSP",
        "Type": "AWSCloudTrail",
        "User": SESSION,
        "Src": "198.51.100.7",
        "IpAddr": "198.51.100.7",
        "Application": "AWS STS",
        "LogonTarget": "AWS STS",
        "Dst": "AWS STS",
    }


@pytest.mark.parametrize(
    ("arguments", "hours"),
    [
        ("starttime=datetime(2026-03-01T08:00)", [8, 9]),
        ("endtime=datetime(2026-03-01T02:00)", [1, 2]),
        ("datetime(2026-03-01T02:00), datetime(2026-03-01T03:00)", [2, 3]),
        ("username_has_any=dynamic(['root', 'guest'])", [3, 8]),
        ("targetusername_has='root'", [3]),
        ("targetappname_has_any=dynamic(['console'])", [1, 2, 3, 9]),
        ("srcipaddr_has_any_prefix=dynamic(['203.0.', '10.'])", [2]),
        ("srchostname_has_any=dynamic(['ec2.amazonaws.com'])", [6]),
        ("targetipaddr_has_any_prefix=dynamic(['10.'])", []),
        ("dvcipaddr_has_any_prefix=dynamic(['10.'])", []),
        ("dvchostname_has_any=dynamic(['host'])", []),
        ("eventtype_in=dynamic(['elevate', 'Logoff'])", [4, 5, 6, 9]),
        ("eventresultdetails_in=dynamic(['No such user', 'Logon violates policy'])", [2, 5]),
        ("eventresult='Failure'", [2, 3, 5]),
        ("eventresult='Failure', eventtype_in=dynamic(['Logon']), username_has_any=dynamic(['root'])", [3]),
        ("disabled=true", []),
    ],
)
def test_filters_of_authentications(sign_ins: Engine, arguments: str, hours: list[int]) -> None:
    query = f"_Im_Authentication({arguments}) | order by TimeGenerated asc | project hourofday(TimeGenerated)"
    assert rows(sign_ins, query) == [[hour] for hour in hours]


def test_the_source_of_an_authentication_is_an_address_or_a_name(sign_ins: Engine) -> None:
    query = "imAuthentication | summarize by SrcIpAddr, SrcHostname, Src | order by Src asc"
    assert rows(sign_ins, query) == [
        ["198.51.100.7", "", "198.51.100.7"],
        ["2001:db8::1", "", "2001:db8::1"],
        ["203.0.113.9", "", "203.0.113.9"],
        ["", "ec2.amazonaws.com", "ec2.amazonaws.com"],
    ]


# --- buckets -----------------------------------------------------------------------------------------------

READ = record(
    1,
    "s3",
    "GetObject",
    BOB,
    requestParameters={"bucketName": "cards", "key": "a/b.csv", "Host": "cards.s3", "x-amz-acl": "private"},
    additionalEventData={"bytesTransferredOut": 1234.0, "x-amz-id-2": "id2", "SignatureVersion": "SigV4"},
    responseElements=None,
    readOnly=True,
    requestID="REQ1",
    eventVersion="1.08",
)
LISTED = record(2, "s3", "ListObjects", BOB, requestParameters={"bucketName": "cards", "list-type": "2"})


@pytest.fixture
def buckets(engine_of: Callable[[Iterable[Record]], Engine]) -> Engine:
    return engine_of([READ, LISTED, record(3, "ec2", "RunInstances", BOB)])


@pytest.mark.parametrize("call", ["", "()"])
@pytest.mark.parametrize("name", ["AWSS3BucketAPILogParsed", "AwsBucketAPILogs_CL"])
def test_both_names_have_both_spellings(buckets: Engine, name: str, call: str) -> None:
    parsed = (
        "EventTime, EventName, BucketName, Key, Host, BytesTransferredOut, XAmzAcl, XAmzId, ReadOnly, "
        "UserIdentityArn"
    )
    raw = (
        "Records_eventTime_t, Records_eventName_s, Records_requestParameters_bucketName_s, "
        "Records_requestParameters_key_s, Records_requestParameters_Host_s, "
        "Records_additionalEventData_bytesTransferredOut_d, Records_requestParameters_x_amz_acl_s, "
        "Records_additionalEventData_x_amz_id_2_s, Records_readOnly_b, Records_userIdentity_arn_s"
    )
    at = datetime(2026, 3, 1, 1)
    expected = [at, "GetObject", "cards", "a/b.csv", "cards.s3", 1234.0, "private", "id2", True, BOB["arn"]]
    for columns in (parsed, raw):
        assert rows(buckets, f"{name}{call} | where EventName == 'GetObject' | project {columns}") == [
            expected
        ]
    assert rows(buckets, f"{name}{call} | summarize count() by Type, List_type | order by List_type asc") == [
        ["AwsBucketAPILogs_CL", "", 1],
        ["AwsBucketAPILogs_CL", "2", 1],
    ]


def test_both_names_have_the_same_columns_with_the_types_of_the_schema(buckets: Engine) -> None:
    schemas = [
        {
            (str(row["ColumnName"]), row["ColumnType"])
            for row in buckets.query(f"{name} | getschema", now=NOW).rows()
        }
        for name in ("AWSS3BucketAPILogParsed", "AwsBucketAPILogs_CL")
    ]
    assert schemas[0] == schemas[1]
    assert len(schemas[0]) == 4 + 2 * 239
    letters = {"s": "string", "g": "string", "b": "bool", "d": "real", "t": "datetime"}
    raw = {(name, type_) for name, type_ in schemas[0] if name.startswith("Records_")}
    assert all(letters[name[-1]] == type_ for name, type_ in raw)


# --- callers and what they do for the first time -----------------------------------------------------------


def call(day: int, name: str, address: str, identity: Mapping[str, object], **more: object) -> Record:
    made = record(9, "s3", name, identity, sourceIPAddress=address, **more)
    return {**made, "eventTime": f"2026-02-{day:02}T09:00:00Z"}


ROLE = {
    "type": "AssumedRole",
    "principalId": "AROAOPS:bob",
    "arn": SESSION,
    "accountId": ACCOUNT,
    "accessKeyId": "ASIABOB",
    "sessionContext": {"sessionIssuer": {"type": "Role", "arn": f"arn:aws:iam::{ACCOUNT}:role/ops"}},
}
SERVICE = {"type": "AWSService", "invokedBy": "config.amazonaws.com"}


def signed_on(user: str, kind: str = "IdentityCenterUser", **more: object) -> Record:
    """A user of the identity center, as the record has him: with neither ARN nor id of his own."""
    store = f"arn:aws-cn:identitystore::{ACCOUNT}:identitystore/d-1"
    behalf = {"userId": user, "identityStoreArn": store}
    return {"type": kind, "accountId": ACCOUNT, "onBehalfOf": behalf, "credentialId": "c", **more}


def test_aws_calls_names_callers_in_the_same_columns(engine_of: Callable[[Iterable[Record]], Engine]) -> None:
    engine = engine_of(
        [
            call(1, "GetObject", "198.51.100.7", BOB),
            call(2, "GetObject", "198.51.100.7", ROLE, errorCode="AccessDenied"),
            call(3, "GetObject", "config.amazonaws.com", SERVICE),
            call(4, "GetObject", "198.51.100.7", ROOT),
            call(5, "CreateUser", "198.51.100.7", {**BOB, "invokedBy": "signin.amazonaws.com"}),
            call(
                6,
                "CreateUser",
                "cloudformation.amazonaws.com",
                {**BOB, "invokedBy": "cloudformation.amazonaws.com"},
            ),
            call(7, "RotateKey", "kms.amazonaws.com", {"accountId": ACCOUNT}, eventType="AwsServiceEvent"),
            call(8, "Authenticate", "198.51.100.7", signed_on("u-1"), eventType="AwsServiceEvent"),
            # So they were written until 2025.
            call(9, "Authenticate", "198.51.100.7", signed_on("u-1", "Unknown", principalId=ACCOUNT)),
            call(10, "GetObject", "198.51.100.7", {**ROLE, "onBehalfOf": {"userId": "u-1"}}),
        ]
    )
    shown = "Principal, Session, AccessKey, IsService, IsDenied"
    assert rows(engine, f"AwsCalls | sort by TimeGenerated asc | project {shown}") == [
        [BOB["arn"], "", "AKIABOB", False, False],
        [f"arn:aws:iam::{ACCOUNT}:role/ops", "AROAOPS:bob", "ASIABOB", False, True],
        ["config.amazonaws.com", "", "", True, False],
        [ROOT["arn"], "", "", False, False],
        [BOB["arn"], "", "AKIABOB", False, False],
        [BOB["arn"], "", "AKIABOB", True, False],
        [ACCOUNT, "", "", True, False],
        ["arn:aws-cn:identitystore:::user/u-1", "", "", False, False],
        ["arn:aws-cn:identitystore:::user/u-1", "", "", False, False],
        [f"arn:aws:iam::{ACCOUNT}:role/ops", "AROAOPS:bob", "ASIABOB", False, False],
    ]


def test_users_of_the_identity_center_are_principals_of_their_own(
    engine_of: Callable[[Iterable[Record]], Engine],
) -> None:
    engine = engine_of(
        [
            call(1, "ListApplications", "198.51.100.7", signed_on("u-1")),
            call(28, "ListApplications", "198.51.100.7", signed_on("u-1")),
            call(28, "ListApplications", "198.51.100.7", signed_on("u-2")),
        ]
    )
    tail = "project Subject, Value, KnownValues, Calls"
    assert rows(engine, f'AwsFirstSeen("Principal", "Address", 2d) | {tail}') == [
        ["arn:aws-cn:identitystore:::user/u-2", "198.51.100.7", 0, 1],
    ]


def test_aws_first_seen_gives_pairs_that_are_new(engine_of: Callable[[Iterable[Record]], Engine]) -> None:
    bucket = {"requestParameters": {"bucketName": "cards", "key": "a"}}
    engine = engine_of(
        [
            call(1, "GetObject", "198.51.100.7", BOB, **bucket),
            call(28, "GetObject", "198.51.100.7", BOB, **bucket),
            call(28, "GetObject", "203.0.113.66", BOB, **bucket),
            call(28, "GetObject", "203.0.113.67", BOB, errorCode="AccessDenied", **bucket),
            call(28, "GetObject", "198.51.100.7", ROLE, **bucket),
        ]
    )
    tail = "sort by Subject asc | project Subject, Value, KnownValues, Calls, AccessKeys"
    assert rows(engine, f'AwsFirstSeen("Principal", "Address", 2d) | {tail}') == [
        [f"arn:aws:iam::{ACCOUNT}:role/ops", "198.51.100.7", 0, 1, '["ASIABOB"]'],
        [BOB["arn"], "203.0.113.66", 1, 1, '["AKIABOB"]'],
    ]
    assert rows(engine, f'AwsFirstSeen("Bucket", "Address", 2d) | {tail}') == [
        ["cards", "203.0.113.66", 1, 1, '["AKIABOB"]']
    ]


def issued(hour: int, by: Mapping[str, object], key: str, session: str, **more: object) -> Record:
    return record(
        hour,
        "sts",
        "AssumeRole",
        by,
        requestParameters={
            "roleArn": f"arn:aws:iam::{ACCOUNT}:role/x/{session}",
            "roleSessionName": "s",
            **more,
        },
        responseElements={"credentials": {"accessKeyId": key, "expiration": "Mar 2, 2026, 3:12:00 PM"}},
    )


def test_credential_lineage_goes_up_and_down(engine_of: Callable[[Iterable[Record]], Engine]) -> None:
    first, second = ROLE | {"accessKeyId": "ASIAONE"}, ROLE | {"accessKeyId": "ASIATWO"}
    engine = engine_of(
        [
            issued(1, BOB, "ASIAONE", "one", sourceIdentity="bob@example.com"),
            issued(2, first, "ASIATWO", "two"),
            issued(3, second, "ASIATHREE", "three"),
            issued(4, second, "ASIAUNUSED", "four"),
            issued(5, ROOT, "ASIAOTHER", "other"),
            record(6, "s3", "ListBuckets", ROLE | {"accessKeyId": "ASIATHREE"}),
            record(
                7, "s3", "ListBuckets", ROLE | {"accessKeyId": "ASIATHREE"}, sourceIPAddress="203.0.113.66"
            ),
            record(8, "s3", "ListBuckets", ROLE | {"accessKeyId": "ASIATHREE"}),
            record(
                9, "iam", "CreateAccessKey", BOB, responseElements={"accessKey": {"accessKeyId": "AKIANEW"}}
            ),
        ]
    )
    shown = "project Step, Key, From, FromKind, SourceIdentity, IsUsed, Calls, IsInTwoPlaces"
    assert rows(engine, f'CredentialLineage("ASIATWO") | {shown}') == [
        [-1, "ASIAONE", "AKIABOB", "Key", "bob@example.com", True, 1, False],
        [0, "ASIATWO", "ASIAONE", "Key", "", True, 2, False],
        [1, "ASIATHREE", "ASIATWO", "Key", "", True, 3, True],
        [1, "ASIAUNUSED", "ASIATWO", "Key", "", False, 0, False],
    ]
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/three/s"
    steps = [row[:2] for row in rows(engine, f'CredentialLineage("{session}") | {shown}')]
    assert steps == [[-2, "ASIAONE"], [-1, "ASIATWO"], [0, "ASIATHREE"]]
    from_bob = {row[1] for row in rows(engine, f'CredentialLineage("{BOB["arn"]}") | {shown}')}
    assert from_bob >= {"AKIABOB", "AKIANEW", "ASIAONE", "ASIATWO", "ASIATHREE", "ASIAUNUSED"}
    assert "ASIAOTHER" not in from_bob
    assert rows(engine, 'CredentialLineage("AKIANOBODY")') == []


def test_aws_rare_gives_what_the_subject_and_its_peers_hardly_do(
    engine_of: Callable[[Iterable[Record]], Engine],
) -> None:
    usual = [call(day, "GetObject", "198.51.100.7", BOB) for day in range(1, 28)]
    engine = engine_of(
        [
            *usual,
            call(5, "PutObject", "198.51.100.7", BOB),  # on one day before: rare still
            call(28, "GetObject", "198.51.100.7", BOB),
            call(28, "PutObject", "198.51.100.7", BOB),
            call(28, "DeleteBucket", "203.0.113.66", BOB),
            call(28, "DeleteBucket", "203.0.113.66", ROLE),  # a subject that is new itself
        ]
    )
    shown = "sort by Value asc | project Subject, Value, DaysBefore, Peers"
    assert rows(engine, f'AwsRare("Principal", "Api", 2d) | {shown}') == [
        [BOB["arn"], "s3.amazonaws.com:DeleteBucket", 0, 1],
        [BOB["arn"], "s3.amazonaws.com:PutObject", 1, 0],
    ]
    assert rows(engine, f'AwsRare("Principal", "Api", 2d, 0, 0) | {shown}') == []
