"""What several techniques do, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from ..benign.applications import PART_SIZE
from ..record import GET_OBJECT, Caller, Json, Record, s3_object
from ..text import iso
from ..world import Bucket

ATTACKER = "203.0.113.66"
CLI = (
    "aws-cli/2.17.20 md/awscrt#0.21.2 ua/2.0 os/linux#6.8.11-amd64 md/arch#x86_64 lang/python#3.11.9 "
    "md/pyimpl#CPython cfg/retry-mode#standard md/installer#source md/prompt#off md/command#{command}"
)
"""The AWS command line on the attacker's machine; `command` is what it was asked for, as in s3.sync."""


def copied(rng: Random, who: Caller, at: int, bucket: Bucket, between: int) -> Iterator[Record]:
    """Every object of the bucket; a large one in ranges, each a call of its own."""
    for place, (name, size) in enumerate(bucket.objects):
        # The client copies in parallel: all within a second or two, in no order.
        start = at + place * between + rng.randint(0, between // 20 if between else 2)
        for part, offset in enumerate(range(0, size, PART_SIZE)):
            length = min(PART_SIZE, size - offset)
            yield s3_object(rng, who, start + part // 4, GET_OBJECT, bucket, name, length)


def event_truth(record: Record) -> Json:
    """A call of the attacker for truth.json."""
    request = record.body["requestParameters"]
    object_key = request.get("key") if isinstance(request, dict) else None
    event: Json = {
        "event_id": record.event_id,
        "name": record.body["eventName"],
        "time": record.body["eventTime"],
    }
    return {**event, "object": object_key} if object_key else event


def whole_bucket(bucket: Bucket, records: Sequence[Record]) -> Json:
    """The end of an attack's truth where every object of a bucket was taken."""
    return {
        "bucket": bucket.name,
        "objects": [{"key": name, "bytes": size} for name, size in bucket.objects],
        "bytes": sum(size for _, size in bucket.objects),
        "first": iso(min(record.at for record in records)),
        "last": iso(max(record.at for record in records)),
        "events": [event_truth(record) for record in records],
    }
