"""Kill workers on a queue again and again: every row and every object in the ledger exactly once.

`python bench/sqs_chaos.py [--objects N] [--kills N] [--workers N] [--records N] [--seed N]` starts moto's
server in a process of its own (S3, SQS), stores CloudTrail files in a bucket, and sends their notices out of
order, many twice, in every envelope there is, spread over the run. Workers are processes that run the
connector as `trailhawk connectors run` does; messages stay invisible for 3 s only. One worker after the other
is killed with SIGKILL, each some seconds after it began to work; a last one finishes. Then rows, ledger,
quarantine and queue are compared with what was sent.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gzip
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import boto3
import pyarrow.parquet as pq

from trailhawk.workspace import Workspace

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

REGION = "eu-west-1"
BUCKET = "trail"
PRELOADED = (
    "boto3.session",
    "deltalake",
    "pyarrow.parquet",
    "trailhawk.connectors.ingest",
    "trailhawk.connectors.sqs",
    "trailhawk.detect.filters",
    "trailhawk.workspace",
)
SERVE = """
import time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
time.sleep(86400)
"""


@dataclass(frozen=True)
class Expected:
    """What the lake must hold: events by id, and objects by location with their records."""

    events: frozenset[str]
    objects: dict[str, int]


@dataclass(frozen=True)
class Chaos:
    """What was sent, how many workers were killed, and what is wrong after that."""

    objects: int
    events: int
    messages: int
    kills: int
    stored_before: int
    """Of the killed workers, those that had stored something."""
    seconds: float
    faults: list[str]


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Moto's server in a process of its own; its address."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("the server has no output to read")
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def store(
    s3: S3Client, *, objects: int, records: int, rng: random.Random
) -> tuple[Expected, list[dict[str, str]]]:
    """Put the files into a bucket; what is expected of them, and what S3 says of each."""
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    events: list[str] = []
    located: dict[str, int] = {}
    told = []
    for number in range(objects):
        # Some events are delivered in two files, as CloudTrail does.
        again = rng.sample(events, min(len(events), 1)) if rng.random() < 0.1 else []
        fresh = [f"{number:06d}-{n:03d}" for n in range(records)]
        events += fresh
        body = json.dumps({"Records": [_record(event) for event in fresh + again]}).encode()
        day = 1 + number % 3
        key = f"AWSLogs/1/CloudTrail/{REGION}/2026/03/{day:02d}/file + {number:06d} é.json.gz"
        put = s3.put_object(Bucket=BUCKET, Key=key, Body=gzip.compress(body, 1))
        told.append({"key": key, "etag": put["ETag"].strip('"')})
        located[f"s3://{BUCKET}/{key}"] = len(fresh) + len(again)
    return Expected(frozenset(events), located), told


def _record(event: str) -> dict[str, object]:
    return {
        "eventVersion": "1.11",
        "eventID": event,
        "eventTime": f"2026-03-0{1 + int(event[:6]) % 3}T10:00:00Z",
        "eventName": "GetObject",
        "eventSource": "s3.amazonaws.com",
        "awsRegion": REGION,
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "userName": "ann"},
    }


def messages(told: list[dict[str, str]], rng: random.Random) -> Iterator[str]:
    """Notices in any order, a third of them twice, one to three in a message, in every envelope."""
    order = told + rng.sample(told, len(told) // 3)
    rng.shuffle(order)
    yield json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET})
    while order:
        some = [order.pop() for _ in range(min(len(order), rng.choice((1, 1, 1, 2, 3))))]
        envelope = rng.choice(("s3", "s3", "sns", "eventbridge", "cloudtrail"))
        if envelope == "eventbridge":
            for one in some:
                detail = {"bucket": {"name": BUCKET}, "object": one}
                yield json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})
        elif envelope == "cloudtrail":
            note = json.dumps({"s3Bucket": BUCKET, "s3ObjectKey": [one["key"] for one in some]})
            yield json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:t", "Message": note})
        else:
            records = [
                {
                    "eventName": "ObjectCreated:Put",
                    "s3": {
                        "bucket": {"name": BUCKET},
                        "object": {"key": quote_plus(one["key"], safe="/"), "eTag": one["etag"]},
                    },
                }
                for one in some
            ]
            body = json.dumps({"Records": records})
            sns = {"Type": "Notification", "TopicArn": "arn:aws:sns:t", "Message": body}
            yield json.dumps(sns) if envelope == "sns" else body


def send(sqs: SQSClient, queue: str, bodies: list[str], *, seconds: float, rng: random.Random) -> None:
    """Put all messages into the queue before anybody reads; each is delivered after a delay of its own."""
    for start in range(0, len(bodies), 10):
        sqs.send_message_batch(
            QueueUrl=queue,
            Entries=[
                {"Id": str(n), "MessageBody": body, "DelaySeconds": int(rng.uniform(0, min(seconds, 900)))}
                for n, body in enumerate(bodies[start : start + 10])
            ],
        )


def work(home: Path, begins: Connection, once: bool) -> None:
    """What a worker process does: run the connector, and say when it begins to take messages."""
    os.environ.clear()
    os.environ.update(environment())
    connector = Workspace.open(home).connector("trail")

    def tell() -> None:
        while connector.state().doing == "not started":
            time.sleep(0.01)
        begins.send("begins")

    threading.Thread(target=tell, daemon=True).start()
    connector.run(threading.Event(), once=once)


class Worker:
    """A worker process. It is forked from a server that has the modules loaded and nothing opened, so that
    its life is work and not loading."""

    _processes = multiprocessing.get_context("forkserver")
    _processes.set_forkserver_preload(list(PRELOADED))

    def __init__(self, home: Path, *, once: bool = False) -> None:
        self._begins, told = self._processes.Pipe(duplex=False)
        self.process = self._processes.Process(target=work, args=(home, told, once))
        self.process.start()
        told.close()

    def live(self, seconds: float) -> None:
        """Let it work for so long: of its own processor time, or ten times that by the clock."""
        if not self._begins.poll(300):
            raise SystemExit("a worker did not begin within 300 s")
        before, since = self._processor_seconds(), time.monotonic()
        while (
            self._processor_seconds() - before < seconds
            and time.monotonic() - since < 10 * seconds
            and self.process.is_alive()
        ):
            time.sleep(0.02)

    def kill(self) -> None:
        """End it with SIGKILL; SystemExit if it had ended by itself."""
        self.process.kill()
        self.process.join()
        self._begins.close()
        if self.process.exitcode != -signal.SIGKILL:
            raise SystemExit(f"a worker ended by itself with {self.process.exitcode}")

    def _processor_seconds(self) -> float:
        """User and system time so far (proc(5), stat fields 14 and 15); the clock where that is not told."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return time.monotonic()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def killed(home: Path, *, kills: int, workers: int, lives: tuple[float, float], rng: random.Random) -> int:
    """Keep so many workers running and kill one after the other; how many died by our hand."""
    running = [Worker(home) for _ in range(workers)]
    try:
        for _ in range(kills):
            running[0].live(rng.uniform(*lives))
            running.pop(0).kill()
            running.append(Worker(home))
    finally:
        for each in running:
            each.process.kill()
            each.process.join()
    return kills


def finish(home: Path, sqs: SQSClient, queue: str, *, seconds: float) -> None:
    """Let one worker take the rest, until nothing waits, is delayed or in flight."""
    names = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    ]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        last = Worker(home, once=True)
        last.process.join()
        if last.process.exitcode:
            raise SystemExit(f"the last worker failed with {last.process.exitcode}")
        told = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]  # type: ignore[arg-type]
        if not any(int(told[name]) for name in names):
            return
        time.sleep(0.5)


def rows(home: Path, table: str, *columns: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for file in Workspace.open(home).lake.snapshot(table).files():
        with pq.ParquetFile(file.path) as parquet:
            found += parquet.read(columns=list(columns)).to_pylist()
    return found


def check(home: Path, expected: Expected, sqs: SQSClient, queue: str) -> list[str]:
    """What is wrong; empty if every event and object is there once and the books balance."""
    events = collections.Counter(str(row["AwsEventId"]) for row in rows(home, "AWSCloudTrail", "AwsEventId"))
    counts = ("Records", "Rows", "Duplicates", "Filtered", "Quarantined")
    ledger = rows(home, "IngestLedger", "Location", "Bucket", "Key", *counts)
    objects = collections.Counter(str(row["Location"]) for row in ledger)
    records = {str(row["Location"]): row["Records"] for row in ledger}
    waiting = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    faults = {
        "events lost": len(expected.events - events.keys()),
        "events nobody sent": len(events.keys() - expected.events),
        "events stored twice": sum(count > 1 for count in events.values()),
        "objects missing in the ledger": len(expected.objects.keys() - objects.keys()),
        "objects nobody sent": len(objects.keys() - expected.objects.keys()),
        "objects in the ledger twice": sum(count > 1 for count in objects.values()),
        "objects with another number of records": sum(
            records.get(location) != count for location, count in expected.objects.items()
        ),
        "ledger rows and stored rows differ by": sum(_number(row["Rows"]) for row in ledger) - events.total(),
        "entries out of balance": sum(
            _number(row["Records"]) != sum(_number(row[count]) for count in counts[1:]) for row in ledger
        ),
        "entries with another bucket or key": sum(
            row["Location"] != f"s3://{row['Bucket']}/{row['Key']}" for row in ledger
        ),
        "parts in quarantine": len(rows(home, "Quarantine", "Id")),
        "messages left": int(waiting["ApproximateNumberOfMessages"])
        + int(waiting["ApproximateNumberOfMessagesNotVisible"]),
    }
    return [f"{what}: {count}" for what, count in faults.items() if count]


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def chaos(
    folder: Path,
    *,
    objects: int,
    kills: int,
    workers: int = 2,
    records: int = 20,
    lives: tuple[float, float] = (0.2, 3.0),
    spread: float = 0.0,
    seed: int = 7,
) -> Chaos:
    """The whole run in `folder`; messages arrive over `spread` seconds, 0 for as long as it should take."""
    rng = random.Random(seed)
    home = folder / "home"
    home.mkdir(parents=True)
    with server() as url:
        made = {"endpoint_url": url, "region_name": REGION} | {
            "aws_access_key_id": "AKIDEXAMPLE",
            "aws_secret_access_key": "secret",
        }
        s3: S3Client = boto3.client("s3", **made)  # type: ignore[call-overload]
        sqs: SQSClient = boto3.client("sqs", **made)  # type: ignore[call-overload]
        expected, told = store(s3, objects=objects, records=records, rng=rng)
        queue = sqs.create_queue(QueueName="news", Attributes={"VisibilityTimeout": "3"})["QueueUrl"]
        bodies = list(messages(told, rng))
        lasts = spread or kills * sum(lives) / 2
        send(sqs, queue, bodies, seconds=lasts, rng=rng)
        (home / "trailhawk.toml").write_text(
            f'[connectors.trail]\ntype = "sqs"\nqueue_url = "{queue}"\nregion = "{REGION}"\n'
            f'endpoint_url = "{url}"\nvisibility_seconds = 3\nflush_seconds = 1\n'
        )
        started = time.monotonic()
        died = killed(home, kills=kills, workers=workers, lives=lives, rng=rng)
        seen = {row["Worker"] for row in rows(home, "IngestLedger", "Worker")}
        finish(home, sqs, queue, seconds=600 + lasts)
        seconds = time.monotonic() - started
        faults = check(home, expected, sqs, queue)
    return Chaos(
        objects=len(expected.objects),
        events=len(expected.events),
        messages=len(bodies),
        kills=died,
        stored_before=len(seen),
        seconds=seconds,
        faults=faults,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--records", type=int, default=20)
    parser.add_argument("--lives", type=float, nargs=2, default=(0.2, 3.0), help="seconds a worker works")
    parser.add_argument("--spread", type=float, default=0.0, help="seconds over which messages arrive")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = chaos(
            Path(folder),
            objects=given.objects,
            kills=given.kills,
            workers=given.workers,
            records=given.records,
            lives=(given.lives[0], given.lives[1]),
            spread=given.spread,
            seed=given.seed,
        )
    print(
        f"{done.objects:,} objects with {done.events:,} events in {done.messages:,} messages, "
        f"{given.workers} workers, {done.kills} killed ({done.stored_before} had stored something), "
        f"{done.seconds:.0f} s"
    )
    for fault in done.faults:
        print(fault)
    print("rows and ledger are exactly right" if not done.faults else "FAULTS")
    sys.exit(bool(done.faults))


if __name__ == "__main__":
    main()
