"""Messages that tell of new objects: what S3, SNS, EventBridge and CloudTrail put into a queue.

S3's own form ("event message structure" in its user guide) comes direct or inside an SNS envelope; keys in
it are encoded as a query string is (`red+flower.jpg`). EventBridge's `Object Created` ("EventBridge event
message structure") has keys as they are, and so has CloudTrail's note to SNS of the files it delivered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

import orjson

from trailhawk.errors import SourceError

_ENVELOPES: Final = 4  # S3 in EventBridge in SNS is the deepest that anybody builds
_MARKERS: Final = ("/", "_$folder$", "/_SUCCESS", "/ConfigWritabilityCheckFile", "/aws-test-file")
_MAX_BYTES: Final = 2 * 1024 * 1024  # SQS carries 1 MiB


@dataclass(frozen=True, slots=True)
class Notice:
    """A new object, as a notice or a listing tells of it. `etag` is without quotes; '' and None: not told."""

    bucket: str
    key: str
    version: str = ""
    etag: str = ""
    size: int | None = None

    @property
    def location(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def is_marker(self) -> bool:
        """Whether it is an empty object that holds no log by its name: by these consoles, Hadoop and AWS's
        services show a folder, its completion, or that they may write. One whose size is not told is looked
        at: CloudTrail's notes tell none."""
        return self.key.endswith(_MARKERS) and self.size == 0


@dataclass(frozen=True, slots=True)
class Message:
    """What a message says: new objects, and the parts of it that could not be understood."""

    notices: tuple[Notice, ...] = ()
    faults: tuple[str, ...] = ()


def read(body: str) -> Message:
    """What a message of a queue says. Messages of other events (a test, a deletion) tell of nothing."""
    try:
        return _read(body, _ENVELOPES)
    except SourceError as error:
        return Message(faults=(error.message,))


def _read(body: str, envelopes: int) -> Message:
    if not envelopes:
        raise SourceError("too many envelopes around the message")
    value = _object(body)
    if value.get("Type") == "Notification" and "TopicArn" in value:
        return _read(_text(value, "Message"), envelopes - 1)
    if value.get("Event") == "s3:TestEvent":
        return Message()
    if "s3ObjectKey" in value and "s3Bucket" in value:
        return _message(_cloudtrail(value))
    if "detail-type" in value and "detail" in value:
        return _message(_eventbridge(value))
    if "Records" in value:
        return _message(_s3(value))
    raise SourceError("neither an S3 event, an EventBridge event nor a note of CloudTrail")


def _message(found: Iterator[Notice | str]) -> Message:
    told = list(found)
    return Message(
        tuple(notice for notice in told if isinstance(notice, Notice)),
        tuple(fault for fault in told if isinstance(fault, str)),
    )


def _s3(event: Mapping[str, object]) -> Iterator[Notice | str]:
    """The objects of an S3 event; a text for a record that cannot be understood."""
    records = event["Records"]
    if not isinstance(records, list):
        raise SourceError("Records is not a list")
    for place, record in enumerate(records):
        try:
            if not isinstance(record, dict):
                raise SourceError("not an object")
            if "ObjectCreated" in _text(record, "eventName"):
                s3 = _member(record, "s3")
                told = _member(s3, "object")
                yield Notice(
                    bucket=_text(_member(s3, "bucket"), "name"),
                    key=_decoded(_text(told, "key")),
                    version=_maybe(told, "versionId"),
                    etag=_maybe(told, "eTag"),
                    size=_size(told),
                )
        except SourceError as error:
            yield f"record {place + 1}: {error.message}"


def _eventbridge(event: Mapping[str, object]) -> Iterator[Notice]:
    if event.get("source") != "aws.s3":
        raise SourceError(f"an EventBridge event of {str(event.get('source'))[:80]!r}, not of S3")
    if event["detail-type"] == "Object Created":
        detail = _member(event, "detail")
        told = _member(detail, "object")
        yield Notice(
            bucket=_text(_member(detail, "bucket"), "name"),
            key=_text(told, "key"),
            version=_maybe(told, "version-id"),
            etag=_maybe(told, "etag"),
            size=_size(told),
        )


def _cloudtrail(note: Mapping[str, object]) -> Iterator[Notice | str]:
    keys = note["s3ObjectKey"]
    for key in keys if isinstance(keys, list) else [keys]:
        if isinstance(key, str) and key:
            yield Notice(bucket=_text(note, "s3Bucket"), key=key)
        else:
            yield "s3ObjectKey is not a list of keys"


def _object(body: str) -> Mapping[str, object]:
    if len(body) > _MAX_BYTES:
        raise SourceError(f"a message of {len(body):,} characters")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SourceError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise SourceError("not a JSON object")
    return value


def _member(value: Mapping[str, object], name: str) -> Mapping[str, object]:
    member = value.get(name)
    if not isinstance(member, dict):
        raise SourceError(f"{name} is not an object")
    return member


def _text(value: Mapping[str, object], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text:
        raise SourceError(f"{name} is not a text")
    return text


def _maybe(value: Mapping[str, object], name: str) -> str:
    text = value.get(name)
    return text.strip('"') if isinstance(text, str) else ""


def _size(value: Mapping[str, object]) -> int | None:
    size = value.get("size")
    return size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None


def _decoded(key: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise SourceError(f"the key {key[:200]!r} is not UTF-8 when decoded") from None
