"""S3 server access logs of a few buckets: a line for each request that CloudTrail has as a data event.

Fields and layout (the partitioned prefix, by event time):
https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import cast
from urllib.parse import quote

from ..record import Record
from ..text import hex_id
from ..world import HOUR, MINUTE, World
from .files import Bucket, stamp

LOGGED = ("cardholders", "documents", "waf-config")
"""The buckets with access logging switched on."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_OPERATIONS = {
    "GetObject": "REST.GET.OBJECT",
    "HeadObject": "REST.HEAD.OBJECT",
    "PutObject": "REST.PUT.OBJECT",
    "ListObjects": "REST.GET.BUCKET",
}
_STATUS = {"AccessDenied": 403, "NoSuchKey": 404}

Body = Mapping[str, object]


@dataclass
class AccessLog:
    """Takes CloudTrail records in any order and keeps those of the logged buckets."""

    world: World
    bucket: Bucket
    _waiting: dict[tuple[str, int], list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._logged = {self.world.buckets[name].name: self.world.buckets[name] for name in LOGGED}
        buckets = self._logged.values()
        self._sizes = {(bucket.name, key): size for bucket in buckets for key, size in bucket.objects}

    def add(self, record: Record) -> None:
        """Queue the line of a request to a logged bucket; anything else is passed over."""
        body = record.body
        if body["eventSource"] != "s3.amazonaws.com" or body["eventName"] not in _OPERATIONS:
            return
        name = str(_part(body, "requestParameters").get("bucketName"))
        if name in self._logged and record.account == self._logged[name].account:
            rng = self.world.rng("access", record.event_id)
            key = str(_part(body, "requestParameters").get("key", ""))
            line = access_line(record, rng, whole=self._sizes.get((name, key), 0))
            self._waiting[name, record.at // HOUR].append((record.at, line))

    def flush(self) -> None:
        """Write all that waits, a file for each bucket and hour, an hour or two late."""
        for (name, hour), lines in sorted(self._waiting.items()):
            bucket, rng = self._logged[name], self.world.rng("access", name, hour)
            lines.sort()
            texts = [line for _, line in lines]
            if rng.random() < 0.02:  # delivery is best effort: a line may come twice
                texts.append(rng.choice(texts))
            written = (hour + 1) * HOUR + rng.randint(10 * MINUTE, 2 * HOUR)
            day = stamp("%Y/%m/%d", hour * HOUR)
            unique = hex_id(rng, 16).upper()
            key = (
                f"s3-access-logs/{bucket.account}/{bucket.region}/{name}/{day}/"
                f"{stamp('%Y-%m-%d-%H-%M-%S', written)}-{unique}"
            )
            self.bucket.put(key, texts, compress=False)
        self._waiting.clear()


def access_line(record: Record, rng: Random, *, whole: int = 0) -> str:
    """The line of one request, 26 fields, with the ids and bytes of its CloudTrail record.

    `whole` is the size of the object, if it is known: a read of less is one of a range.
    """
    body = record.body
    request, extra, tls = (
        _part(body, name) for name in ("requestParameters", "additionalEventData", "tlsDetails")
    )
    name, key = str(request["bucketName"]), str(request.get("key", ""))
    operation = _OPERATIONS[str(body["eventName"])]
    error = str(body.get("errorCode", "-"))
    sent, received = _number(extra, "bytesTransferredOut"), _number(extra, "bytesTransferredIn")
    method = operation.split(".")[1]
    target = (
        "/" + quote(key) if key else f"/?list-type=2&prefix={quote(str(request.get('prefix', '')), safe='')}"
    )
    is_range = operation == "REST.GET.OBJECT" and error == "-" and sent < whole
    size = received if method == "PUT" else whole if is_range else sent
    milliseconds = rng.randint(9, 60) + max(sent, received) // 120_000
    month = _MONTHS[int(stamp("%m", record.at)) - 1]
    fields = (
        sha256(record.account.encode()).hexdigest(),
        name,
        f"[{stamp('%d', record.at)}/{month}/{stamp('%Y:%H:%M:%S', record.at)} +0000]",
        str(body["sourceIPAddress"]),
        _requester(body),
        str(body["requestID"]),
        operation,
        # The key is escaped twice where it holds anything unusual.
        quote(quote(key)) if key else "-",
        f'"{method} {target} HTTP/1.1"',
        str(206 if is_range else _STATUS.get(error, 200)),
        error,
        str(sent or "-"),
        str(size) if key and error == "-" and size else "-",
        str(milliseconds),
        str(max(1, milliseconds - rng.randint(1, 6))),
        '"-"',
        f'"{str(body["userAgent"]).strip("[]")}"',
        "-",
        str(extra.get("x-amz-id-2", "-")),
        "SigV4" if "SignatureVersion" in extra else "-",
        str(extra.get("CipherSuite", "-")),
        str(extra.get("AuthenticationMethod", "-")),
        str(tls.get("clientProvidedHostHeader", "-")),
        str(tls.get("tlsVersion", "-")),
        "-",
        "-",
    )
    return " ".join(fields)


def _requester(body: Body) -> str:
    return str(_part(body, "userIdentity").get("arn") or "-")


def _part(body: Body, name: str) -> Body:
    return cast("Body", body.get(name) or {})


def _number(body: Body, name: str) -> int:
    value = body.get(name, 0)
    return value if isinstance(value, int) else 0
