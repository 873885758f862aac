"""Posture checks: each finds what it is for, and nothing once that was mended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from trailhawk.detect.posture import checks, posture

if TYPE_CHECKING:
    from trailhawk.engine.result import Engine

Record = Mapping[str, object]
START = datetime(2026, 3, 1, 8, tzinfo=UTC)
NOW = START + timedelta(days=200)
ACCOUNT = "111122223333"
BOB = {
    "type": "IAMUser",
    "arn": f"arn:aws:iam::{ACCOUNT}:user/bob",
    "accountId": ACCOUNT,
    "userName": "bob",
    "accessKeyId": "AKIABOB",
}
EC2 = {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}
INSTANCE = "i-0123456789abcdef0"


def call(hour: float, service: str, name: str, identity: object = BOB, **more: object) -> Record:
    return {
        "eventTime": (START + timedelta(hours=hour)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": f"{service}.amazonaws.com",
        "eventName": name,
        "awsRegion": "us-east-1",
        "sourceIPAddress": "198.51.100.7",
        "userAgent": "agent/1",
        "eventType": "AwsApiCall",
        "userIdentity": identity,
        "recipientAccountId": ACCOUNT,
    } | more


def request(**members: object) -> dict[str, object]:
    return {"requestParameters": members}


def session(delivery: str) -> dict[str, object]:
    return {
        "type": "AssumedRole",
        "principalId": f"AROAX:{INSTANCE}",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/web/{INSTANCE}",
        "accountId": ACCOUNT,
        "accessKeyId": "ASIAX",
        "sessionContext": {
            "ec2RoleDelivery": delivery,
            "sessionIssuer": {"type": "Role", "userName": "web", "arn": f"arn:aws:iam::{ACCOUNT}:role/web"},
        },
    }


def signed_in(hour: float, mfa: str) -> Record:
    return call(
        hour,
        "signin",
        "ConsoleLogin",
        responseElements={"ConsoleLogin": "Success"},
        additionalEventData={"MFAUsed": mfa},
    )


EVERYBODY = '{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"*"}]}'
LAUNCH = call(
    1,
    "ec2",
    "RunInstances",
    requestParameters={"metadataOptions": {"httpTokens": "optional"}},
    responseElements={"instancesSet": {"items": [{"instanceId": INSTANCE}]}},
)
MENDED = request(ModifyInstanceMetadataOptionsRequest={"HttpTokens": "required", "InstanceId": INSTANCE})
ASSUMED = call(0, "sts", "AssumeRole", EC2, **request(roleArn=f"arn:aws:iam::{ACCOUNT}:role/web"))
POLICY = {"roleName": "web", "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}

FINDS: dict[str, tuple[list[Record], str]] = {
    "metadata-version-one": ([call(1, "s3", "ListBuckets", session("1.0"))], INSTANCE),
    "metadata-tokens-optional": ([LAUNCH], INSTANCE),
    "privileged-instance-role": ([ASSUMED, call(1, "iam", "AttachRolePolicy", **request(**POLICY))], "web"),
    "public-bucket": (
        [call(1, "s3", "PutBucketPolicy", **request(bucketName="open", bucketPolicy=EVERYBODY))],
        "open",
    ),
    "anonymous-reads": (
        [
            call(
                1,
                "s3",
                "GetObject",
                {"type": "AWSAccount", "accountId": "ANONYMOUS_PRINCIPAL", "principalId": ""},
                **request(bucketName="open", key="a"),
            )
        ],
        "open",
    ),
    "trail-without-validation": (
        [call(1, "cloudtrail", "CreateTrail", **request(name="main", enableLogFileValidation=False))],
        "main",
    ),
    "buckets-without-data-events": (
        [call(1, "s3", "GetBucketLocation", managementEvent=True, **request(bucketName="dark"))],
        "dark",
    ),
    "users-without-mfa": ([signed_in(1, "No")], f"arn:aws:iam::{ACCOUNT}:user/bob"),
    "old-access-keys": ([call(1, "s3", "ListBuckets"), call(24 * 100, "s3", "ListBuckets")], "AKIABOB"),
    "root-in-use": (
        [
            call(
                1,
                "iam",
                "ListUsers",
                {"type": "Root", "accountId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:root"},
            )
        ],
        ACCOUNT,
    ),
    "systems-manager-reach": (
        [call(1, "ssm", "UpdateInstanceInformation", session("2.0"), **request(instanceId=INSTANCE))],
        INSTANCE,
    ),
}

MENDS: dict[str, list[Record]] = {
    "metadata-version-one": [call(1, "s3", "ListBuckets", session("2.0"))],
    "metadata-tokens-optional": [LAUNCH, call(2, "ec2", "ModifyInstanceMetadataOptions", **MENDED)],
    "privileged-instance-role": [
        ASSUMED,
        call(1, "iam", "AttachRolePolicy", **request(**POLICY)),
        call(2, "iam", "DetachRolePolicy", **request(**POLICY)),
    ],
    "public-bucket": [
        call(1, "s3", "PutBucketPolicy", **request(bucketName="open", bucketPolicy=EVERYBODY)),
        call(2, "s3", "DeleteBucketPolicy", **request(bucketName="open")),
    ],
    "trail-without-validation": [
        call(1, "cloudtrail", "CreateTrail", **request(name="main", enableLogFileValidation=False)),
        call(2, "cloudtrail", "UpdateTrail", **request(name="main", enableLogFileValidation=True)),
    ],
    "buckets-without-data-events": [
        call(1, "s3", "GetBucketLocation", managementEvent=True, **request(bucketName="dark")),
        call(2, "s3", "GetObject", managementEvent=False, **request(bucketName="dark", key="a")),
    ],
    "users-without-mfa": [signed_in(1, "No"), signed_in(2, "Yes")],
    "old-access-keys": [call(1, "s3", "ListBuckets"), call(24 * 80, "s3", "ListBuckets")],
}


TLS_ONLY = (
    '{"Effect":"Deny","Principal":"*","Action":"s3:*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}'
)
ONE = f'{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{ACCOUNT}:root"}},"Action":"s3:GetObject"}}'
OPEN = '{"Effect":"Allow","Principal":{"AWS":["*"]},"Action":"s3:GetObject"}'
DENIED = '{"Effect":"Deny","Principal":"*","Action":"s3:DeleteBucket"}'
IN_NETWORK = '{"Effect":"Allow","Principal":"*","Action":"s3:*","Condition":{"StringEquals":{"a":"b"}}}'
CLOSED = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)


def policy(hour: float, *statements: str) -> Record:
    text = f'{{"Version":"2012-10-17","Statement":[{",".join(statements)}]}}'
    return call(hour, "s3", "PutBucketPolicy", **request(bucketName="open", bucketPolicy=text))


def inline(hour: float, document: str) -> Record:
    asked = request(roleName="web", policyName="all", policyDocument=document)
    return call(hour, "iam", "PutRolePolicy", **asked)


ENDED = call(3, "ec2", "TerminateInstances", **request(instancesSet={"items": [{"instanceId": INSTANCE}]}))
ACL = {"bucketName": "open", "x-amz-acl": ["public-read"]}
GUARD = {"bucketName": "open", "PublicAccessBlockConfiguration": CLOSED}
WIDE = '{"Statement":{"Effect":"Allow","Action":["s3:*"],"Resource":"*"}}'
NARROW = '{"Statement":{"Effect":"Allow","Action":["s3:*"],"Resource":"arn:aws:s3:::config/*"}}'

FURTHER: list[tuple[str, list[Record], bool]] = [
    ("public-bucket", [policy(1, TLS_ONLY, OPEN)], True),
    ("public-bucket", [policy(1, DENIED, ONE)], False),
    ("public-bucket", [policy(1, IN_NETWORK)], False),
    ("public-bucket", [policy(1, OPEN), policy(2, ONE)], False),
    (
        "public-bucket",
        [policy(1, OPEN), call(2, "s3", "PutBucketPublicAccessBlock", **request(**GUARD))],
        False,
    ),
    ("public-bucket", [policy(1, OPEN), call(2, "s3", "DeleteBucket", **request(bucketName="open"))], False),
    ("public-bucket", [call(1, "s3", "DeleteBucket", **request(bucketName="open")), policy(2, OPEN)], True),
    ("public-bucket", [call(1, "s3", "PutBucketAcl", **request(**ACL))], True),
    ("metadata-version-one", [call(1, "s3", "ListBuckets", session("1.0")), ENDED], False),
    (
        "metadata-version-one",
        [
            call(1, "s3", "ListBuckets", session("1.0")),
            call(2, "ec2", "ModifyInstanceMetadataOptions", **MENDED),
        ],
        False,
    ),
    ("metadata-tokens-optional", [LAUNCH, ENDED], False),
    ("privileged-instance-role", [ASSUMED, inline(1, WIDE)], True),
    ("privileged-instance-role", [ASSUMED, inline(1, NARROW)], False),
    ("privileged-instance-role", [ASSUMED, inline(1, WIDE), inline(2, NARROW)], False),
    (
        "trail-without-validation",
        [
            call(1, "cloudtrail", "CreateTrail", **request(name="main", enableLogFileValidation=False)),
            call(
                2,
                "cloudtrail",
                "DeleteTrail",
                **request(name=f"arn:aws:cloudtrail:us-east-1:{ACCOUNT}:trail/main"),
            ),
        ],
        False,
    ),
    (
        "old-access-keys",
        [
            *FINDS["old-access-keys"][0],
            call(
                24 * 101, "iam", "UpdateAccessKey", EC2, **request(accessKeyId="AKIABOB", status="Inactive")
            ),
        ],
        False,
    ),
]


def subjects(engine: Engine, check: str) -> list[str]:
    asked = [each for each in checks() if each.id == check]
    (answer,) = posture(engine, asked, has_rows=lambda table: True, window=None, now=NOW)
    return [each.subject for each in answer.found]


def test_every_check_is_tested() -> None:
    assert set(FINDS) == {each.id for each in checks()}


@pytest.mark.parametrize("check", list(FINDS))
def test_a_check_finds_what_it_is_for(check: str, engine_of: Callable[[Iterable[Record]], Engine]) -> None:
    records, subject = FINDS[check]
    assert subjects(engine_of(records), check) == [subject]


@pytest.mark.parametrize("check", list(MENDS))
def test_what_was_mended_is_no_finding(check: str, engine_of: Callable[[Iterable[Record]], Engine]) -> None:
    assert subjects(engine_of(MENDS[check]), check) == []


@pytest.mark.parametrize(("check", "records", "is_found"), FURTHER)
def test_what_comes_of_further_settings(
    check: str, records: list[Record], is_found: bool, engine_of: Callable[[Iterable[Record]], Engine]
) -> None:
    assert bool(subjects(engine_of(records), check)) is is_found


def test_a_check_without_its_table_says_so(engine_of: Callable[[Iterable[Record]], Engine]) -> None:
    engine = engine_of([call(1, "s3", "ListBuckets")])
    (answer,) = posture(engine, checks()[:1], has_rows=lambda table: False, window=None, now=NOW)
    assert answer.blind == ("AWSCloudTrail",)
    assert answer.found == ()
