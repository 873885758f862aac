"""AWS for the connectors' tests: moto's server on this machine, asked over HTTP as AWS is."""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from trailhawk import connectors, sources
from trailhawk.connectors.config import Access
from trailhawk.connectors.connector import Intake, Taker
from trailhawk.connectors.ingest import Ingestor
from trailhawk.lake import Lake

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

NOW = dt.datetime(2026, 3, 3, 12, tzinfo=dt.UTC)
REGION = "eu-west-1"


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
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
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
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]  # type: ignore[arg-type]
        return int(told[names[0]]), int(told[names[1]])


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


@pytest.fixture(scope="session", autouse=True)
def models_read_once() -> Iterator[None]:
    """What botocore knows of the services is kept between sessions, of which each test makes several: reading
    it is half of the time that these tests take."""
    from botocore.loaders import JSONFileLoader

    with pytest.MonkeyPatch.context() as patch:
        kept = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
        patch.setattr(JSONFileLoader, "load_file", lambda _, file_path: kept(file_path))
        yield


@pytest.fixture(scope="session")
def aws_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """An empty AWS of one test."""
    from urllib.request import Request, urlopen

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with urlopen(Request(f"{aws_server}/moto-api/reset", method="POST")):
        pass
    made = {"endpoint_url": aws_server, "region_name": REGION}
    return Aws(
        aws_server,
        Access(region=REGION, endpoint_url=aws_server),
        s3=boto3.client("s3", **made),  # type: ignore[call-overload]  # settings by name
        sqs=boto3.client("sqs", **made),  # type: ignore[call-overload]
    )


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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(
        Lake(tmp_path / "lake", [*sources.TABLES, *connectors.TABLES]),
        tmp_path / "connectors",
    )


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def limited(aws: Aws, aws_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A function that signs in a user who may only do these actions; from then on moto checks rights."""
    from urllib.request import Request, urlopen

    def reset_auth(count: str) -> None:
        kind = {"Content-Type": "text/plain"}
        with urlopen(Request(f"{aws_server}/moto-api/reset-auth", count.encode(), kind, method="POST")):
            pass

    def sign_in(*actions: str) -> None:
        iam = boto3.client("iam", endpoint_url=aws_server, region_name="eu-west-1")
        iam.create_user(UserName="reader")
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="reader", PolicyName="p", PolicyDocument=policy)
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        reset_auth("0")

    yield sign_in
    reset_auth("inf")
