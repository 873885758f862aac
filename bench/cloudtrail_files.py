"""Synthetic CloudTrail files for measurements: AWS's key layout, gzip, records of 1.8 kB, repeatable."""

from __future__ import annotations

import datetime as dt
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
    role = f"app-{rng.randrange(40):02d}"
    bucket = f"data-{rng.randrange(30):02d}-{account}"
    key = f"year={at:%Y}/part-{rng.getrandbits(40):010x}.parquet"
    instance = f"i-{rng.randrange(1 << 20):017x}"
    arn = f"arn:aws:sts::{account}:assumed-role/{role}/{instance}"
    return {
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": f"AROA{role.upper()}:{instance}",
            "arn": arn,
            "accountId": account,
            "accessKeyId": f"ASIA{rng.randrange(1 << 30):016d}",
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role",
                    "principalId": f"AROA{role.upper()}",
                    "arn": f"arn:aws:iam::{account}:role/{role}",
                    "accountId": account,
                    "userName": role,
                },
                "attributes": {"creationDate": f"{start:%Y-%m-%dT%H:00:00Z}", "mfaAuthenticated": "false"},
                "ec2RoleDelivery": "2.0",
            },
        },
        "eventTime": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "eventSource": "s3.amazonaws.com",
        "eventName": rng.choice(("GetObject", "PutObject", "ListObjects", "HeadObject")),
        "awsRegion": _REGION,
        "sourceIPAddress": f"10.0.{rng.randrange(8)}.{rng.randrange(256)}",
        "userAgent": "[aws-sdk-java/2.29.6 Linux/6.1.112 OpenJDK_64-Bit_Server_VM/21.0.5 kotlin/2.0 io/sync]",
        "requestParameters": {
            "bucketName": bucket,
            "Host": f"{bucket}.s3.{_REGION}.amazonaws.com",
            "key": key,
        },
        "responseElements": None,
        "additionalEventData": {
            "SignatureVersion": "SigV4",
            "CipherSuite": "TLS_AES_128_GCM_SHA256",
            "bytesTransferredIn": 0,
            "AuthenticationMethod": "AuthHeader",
            "x-amz-id-2": f"{rng.getrandbits(400):x}",
            "bytesTransferredOut": rng.randrange(1 << 20),
        },
        "requestID": f"{rng.getrandbits(64):016X}",
        "eventID": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "readOnly": True,
        "resources": [
            {"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{bucket}/{key}"},
            {"accountId": account, "type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{bucket}"},
        ],
        "eventType": "AwsApiCall",
        "managementEvent": False,
        "recipientAccountId": account,
        "eventCategory": "Data",
        "tlsDetails": {
            "tlsVersion": "TLSv1.3",
            "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": f"{bucket}.s3.{_REGION}.amazonaws.com",
        },
    }
