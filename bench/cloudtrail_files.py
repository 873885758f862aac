"""Synthetic CloudTrail files for measurements: AWS's key layout, gzip, shaped like recordings, repeatable."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

from isal import igzip

FIRST_DAY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_ACCOUNTS = ("111122223333", "444455556666")
_REGION = "us-east-1"
_FILE_MINUTES = 5


def write(
    folder: Path, *, events: int, days: int, seed: int = 1, repeat: float = 0.01
) -> set[tuple[str, str]]:
    """Write files below `folder`; the (event id, account) of every event.

    `repeat` is the share of events that are delivered a second time.
    """
    rng = random.Random(seed)
    written: set[tuple[str, str]] = set()
    slots = days * 24 * 60 // _FILE_MINUTES
    for account in _ACCOUNTS:
        per_file = max(1, events // slots // len(_ACCOUNTS))
        left = events // len(_ACCOUNTS)
        late: list[dict[str, object]] = []
        for slot in range(slots):
            if left <= 0:
                break
            start = FIRST_DAY + dt.timedelta(minutes=_FILE_MINUTES * slot)
            fresh = [_record(rng, account, start) for _ in range(min(per_file, left))]
            left -= len(fresh)
            written.update((str(record["eventID"]), account) for record in fresh)
            _write_file(folder, rng, account, start, fresh + late)
            late = [record for record in fresh if rng.random() < repeat]
    return written


def write_bursts(folder: Path, *, events: int, days: int, burst: int = 40, seed: int = 1) -> None:
    """Write files of a sparse log below `folder`: bursts of so many events within two hours."""
    rng = random.Random(seed)
    slots = days * 24 * 60 // _FILE_MINUTES
    for number in range(0, events, burst):
        first = rng.randrange(slots - 24)
        held: dict[int, int] = {}
        for _ in range(min(burst, events - number)):
            slot = first + rng.randrange(24)
            held[slot] = held.get(slot, 0) + 1
        account = rng.choice(_ACCOUNTS)
        for slot, count in sorted(held.items()):
            start = FIRST_DAY + dt.timedelta(minutes=_FILE_MINUTES * slot)
            _write_file(folder, rng, account, start, [_record(rng, account, start) for _ in range(count)])


def files(folder: Path) -> Iterator[Path]:
    return folder.rglob("*.json.gz")


def _write_file(
    folder: Path, rng: random.Random, account: str, start: dt.datetime, records: list[dict[str, object]]
) -> None:
    place = folder / f"AWSLogs/{account}/CloudTrail/{_REGION}/{start:%Y/%m/%d}"
    place.mkdir(parents=True, exist_ok=True)
    name = f"{account}_CloudTrail_{_REGION}_{start:%Y%m%dT%H%MZ}_{rng.getrandbits(64):016x}.json.gz"
    rng.shuffle(records)
    with igzip.open(place / name, "wb", compresslevel=2) as file:
        file.write(json.dumps({"Records": records}, separators=(",", ":")).encode())


def _record(rng: random.Random, account: str, start: dt.datetime) -> dict[str, object]:
    at = start + dt.timedelta(seconds=rng.randrange(_FILE_MINUTES * 60))
    source, name, read_only, parameters, answer = rng.choices(_CALLS, _WEIGHTS)[0]
    session = _session(account, start, rng.randrange(_SESSIONS))
    bucket = f"data-{rng.randrange(30):02d}-{account}"
    key = f"year={at:%Y}/part-{rng.getrandbits(40):010x}.parquet"
    is_data = name in _DATA_EVENTS
    words = {"bucket": bucket, "key": key, "n": f"{rng.getrandbits(32):08x}", "account": account}
    record: dict[str, object] = {
        "eventVersion": "1.11",
        "userIdentity": session,
        "eventTime": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "eventSource": source,
        "eventName": name,
        "awsRegion": _REGION,
        "sourceIPAddress": f"10.0.{rng.randrange(8)}.{rng.randrange(256)}",
        "userAgent": _AGENTS[rng.randrange(len(_AGENTS))],
        "requestParameters": _filled(parameters, words),
        "responseElements": _filled(answer, words),
    }
    if source == "s3.amazonaws.com":
        record["additionalEventData"] = {
            "SignatureVersion": "SigV4",
            "CipherSuite": "TLS_AES_128_GCM_SHA256",
            "bytesTransferredIn": 0,
            "AuthenticationMethod": "AuthHeader",
            "x-amz-id-2": base64.b64encode(rng.randbytes(56)).decode(),
            "bytesTransferredOut": rng.randrange(1 << 20),
        }
    if rng.random() < 0.04:
        record["errorCode"] = "AccessDenied"
        record["errorMessage"] = f"User: {session['arn']} is not authorized to perform: {name}"
    record |= {
        "requestID": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "eventID": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "readOnly": read_only,
    }
    if is_data:
        record["resources"] = [
            {"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{bucket}/{key}"},
            {"accountId": account, "type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{bucket}"},
        ]
    record |= {
        "eventType": "AwsApiCall",
        "managementEvent": not is_data,
        "recipientAccountId": account,
        "eventCategory": "Data" if is_data else "Management",
        "tlsDetails": {
            "tlsVersion": "TLSv1.3",
            "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": source.replace("amazonaws", f"{_REGION}.amazonaws"),
        },
    }
    if rng.random() < 0.05:
        record["sessionCredentialFromConsole"] = "true"
    return record


# As recordings of real accounts show: some twenty events to a caller, reads above all, long parameters rare.
_SESSIONS = 60
_AGENTS = (
    "[aws-sdk-java/2.29.6 Linux/6.1.112 OpenJDK_64-Bit_Server_VM/21.0.5 kotlin/2.0 io/sync]",
    "aws-cli/2.17.60 md/awscrt#0.21.2 ua/2.0 os/linux#6.8.0 md/arch#x86_64 lang/python#3.12.6 cfg/retry#x",
    "Boto3/1.34.160 md/Botocore#1.34.160 ua/2.0 os/linux#5.10.226 md/arch#x86_64 lang/python#3.11.9",
    "APN/1.0 HashiCorp/1.0 Terraform/1.9.5 (+https://www.terraform.io) terraform-provider-aws/5.66.0",
    "ec2.amazonaws.com",
)
_Call = tuple[str, str, bool, dict[str, object] | None, dict[str, object] | None]
_OBJECT: dict[str, object] = {"bucketName": "{bucket}", "Host": "{bucket}.s3.amazonaws.com", "key": "{key}"}
_CALLS: tuple[_Call, ...] = (
    ("s3.amazonaws.com", "GetObject", True, _OBJECT, None),
    ("s3.amazonaws.com", "PutObject", False, _OBJECT, {"x-amz-server-side-encryption": "AES256"}),
    (
        "s3.amazonaws.com",
        "ListObjects",
        True,
        {"list-type": "2", "bucketName": "{bucket}", "prefix": "a/"},
        None,
    ),
    (
        "sts.amazonaws.com",
        "AssumeRole",
        True,
        {"roleArn": "arn:aws:iam::{account}:role/app", "roleSessionName": "s-{n}", "durationSeconds": 3600},
        {
            "credentials": {
                "accessKeyId": "ASIA{n}",
                "sessionToken": "{n}" * 12,
                "expiration": "Jan 1, 2026",
            },
            "assumedRoleUser": {
                "assumedRoleId": "AROA:{n}",
                "arn": "arn:aws:sts::{account}:assumed-role/app/{n}",
            },
        },
    ),
    (
        "ec2.amazonaws.com",
        "DescribeInstances",
        True,
        {"instancesSet": {"items": [{"instanceId": "i-0{n}"}]}, "filterSet": {}},
        None,
    ),
    (
        "kms.amazonaws.com",
        "Decrypt",
        True,
        {"encryptionContext": {"id": "{n}"}, "encryptionAlgorithm": "SYM"},
        None,
    ),
    ("secretsmanager.amazonaws.com", "GetSecretValue", True, {"secretId": "prod/db-{n}"}, None),
    ("logs.amazonaws.com", "DescribeLogGroups", True, None, None),
    ("iam.amazonaws.com", "GetRole", True, {"roleName": "app"}, None),
    (
        "iam.amazonaws.com",
        "PutRolePolicy",
        False,
        {
            "roleName": "app",
            "policyName": "p-{n}",
            "policyDocument": '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*"}]}',
        },
        None,
    ),
)
_WEIGHTS = (40, 10, 10, 8, 12, 8, 4, 4, 3, 1)
_DATA_EVENTS = frozenset({"GetObject", "PutObject", "ListObjects"})


@functools.lru_cache(maxsize=4_000)
def _session(account: str, start: dt.datetime, number: int) -> dict[str, object]:
    """One of the callers of an hour; each has a role's session of its own."""
    hour = start.replace(minute=0)
    rng = random.Random(f"{account} {hour:%Y%m%d%H} {number}")
    role = f"app-{number % 40:02d}"
    instance = f"i-{rng.getrandbits(68):017x}"
    principal = f"AROA{rng.getrandbits(64):016X}"
    return {
        "type": "AssumedRole",
        "principalId": f"{principal}:{instance}",
        "arn": f"arn:aws:sts::{account}:assumed-role/{role}/{instance}",
        "accountId": account,
        "accessKeyId": f"ASIA{rng.getrandbits(64):016X}",
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": principal,
                "arn": f"arn:aws:iam::{account}:role/{role}",
                "accountId": account,
                "userName": role,
            },
            "attributes": {"creationDate": f"{hour:%Y-%m-%dT%H:%M:%SZ}", "mfaAuthenticated": "false"},
            "ec2RoleDelivery": "2.0",
        },
    }


def _filled(value: object, words: dict[str, str]) -> object:
    """The value with the words set in."""
    if isinstance(value, str):
        return value if value.startswith("{") and " " in value else value.format_map(words)
    if isinstance(value, list):
        return [_filled(item, words) for item in value]
    if isinstance(value, dict):
        return {name: _filled(item, words) for name, item in value.items()}
    return value
