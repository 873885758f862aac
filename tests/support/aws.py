"""AWS for tests: moto's server on this machine, asked over HTTP as AWS is, and what comes from there."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

import boto3

from trailhawk.connectors.config import Access
from trailhawk.connectors.connector import Intake, Taker
from trailhawk.connectors.ingest import Ingestor
from trailhawk.lake import Lake

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

NOW = dt.datetime(2026, 3, 3, 12, tzinfo=dt.UTC)
REGION: Final = "eu-west-1"


@dataclass
class Aws:
    """A server that speaks S3, SQS, STS and more."""

    url: str
    access: Access
    s3: S3Client
    sqs: SQSClient
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.url, region_name=REGION)  # type: ignore[call-overload]  # by name

    def bucket(self, name: str = "logs", *, versions: bool = False) -> str:
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        if versions:
            self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def put(self, bucket: str, key: str, *records: Mapping[str, object]) -> Any:
        """Store a CloudTrail file; S3's answer. Without records: of one record that no other call gives."""
        records = records or (record(f"{next(self._numbers)}"),)
        return self.s3.put_object(Bucket=bucket, Key=key, Body=json.dumps({"Records": records}).encode())

    def queue(self, bucket: str = "", *, name: str = "news", **attributes: str) -> str:
        """A queue, told of the bucket's new objects if one is named; its address."""
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]  # any
        if bucket:
            arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
            self.s3.put_bucket_notification_configuration(
                Bucket=bucket,
                NotificationConfiguration={
                    "QueueConfigurations": [{"QueueArn": arn["QueueArn"], "Events": ["s3:ObjectCreated:*"]}]
                },
            )
        return url

    def waiting(self, url: str) -> tuple[int, int]:
        """How many messages wait in a queue and how many are in flight."""
        told = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(told["ApproximateNumberOfMessages"]), int(told["ApproximateNumberOfMessagesNotVisible"])


def record(number: str) -> dict[str, object]:
    """A CloudTrail record with an id of its own."""
    return {
        "eventVersion": "1.11",
        "eventID": number,
        "eventTime": "2026-03-03T10:00:00Z",
        "eventName": "GetObject",
        "eventSource": "s3.amazonaws.com",
        "awsRegion": REGION,
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "userName": "ann"},
    }


def tell_moto(server: str, what: str, content: str = "") -> None:
    """Steers moto itself: `reset` forgets all, `reset-auth` checks rights after so many calls."""
    kind = {"Content-Type": "text/plain"}
    with urlopen(Request(f"{server}/moto-api/{what}", content.encode(), kind, method="POST")):
        pass


@dataclass
class Store:
    """A lake, and what its tables hold."""

    lake: Lake
    folder: Path

    def intake(self, name: str = "test") -> Intake:
        def taker(worker: str) -> Taker:
            return Ingestor(self.lake, clock=lambda: NOW, worker=worker)

        return Intake(taker, self.folder / name, lambda: NOW, random.Random(7))

    def rows(self, table: str, *columns: str) -> list[dict[str, Any]]:
        import pyarrow.parquet as pq

        found: list[dict[str, Any]] = []
        for file in self.lake.snapshot(table).files():
            with pq.ParquetFile(file.path) as parquet:
                found += parquet.read(columns=list(columns) or None).to_pylist()
        return found

    def events(self) -> Sequence[str]:
        return sorted(row["AwsEventId"] for row in self.rows("AWSCloudTrail", "AwsEventId"))

    def ledger(self) -> dict[str, dict[str, Any]]:
        """The ledger by location."""
        return {row["Location"]: row for row in self.rows("IngestLedger")}

    def reasons(self) -> list[str]:
        return [row["Reason"] for row in self.rows("Quarantine", "Reason")]
