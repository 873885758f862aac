"""S3 server access logs as Sentinel's AWSS3ServerAccess table.

Values stand as logged: `-` for nothing, the key URL-encoded as S3 writes it (url_decode() decodes it). Sizes
are long, since an object may be larger than an int can say.
Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html
"""

from __future__ import annotations

import re
from typing import Final

from trailhawk.kql.types import KqlType
from trailhawk.sources.columns import declared
from trailhawk.sources.moments import clf
from trailhawk.sources.text_rows import TextSource, Values, rest_of

_TEXT, _TIME, _INT, _LONG = KqlType.STRING, KqlType.DATETIME, KqlType.INT, KqlType.LONG

_LINES: Final = (
    ("TimeGenerated", _TIME, "When S3 received the request, UTC.", ""),
    ("AccessPointARN", _TEXT, "Access point of the request.", ""),
    ("ACLRequired", _TEXT, "Yes if an ACL was needed for the request.", ""),
    ("AuthenticationType", _TEXT, "AuthHeader, QueryString, or - without authentication.", ""),
    ("Bucket", _TEXT, "Bucket of the request.", ""),
    ("BucketOwner", _TEXT, "Canonical id of the bucket's owner.", ""),
    ("BytesSent", _LONG, "Bytes of the answer's body.", ""),
    ("CipherSuite", _TEXT, "TLS cipher suite.", ""),
    ("ErrorCode", _TEXT, "S3's error code, - for none.", ""),
    ("HostHeader", _TEXT, "Endpoint that was called.", ""),
    ("HostId", _TEXT, "Extended request id.", ""),
    ("HttpStatus", _INT, "HTTP status of the answer.", ""),
    ("Key", _TEXT, "Key of the object, URL-encoded as logged.", ""),
    ("ObjectSize", _LONG, "Size of the object in bytes.", ""),
    ("Operation", _TEXT, "Operation, such as REST.GET.OBJECT.", ""),
    ("Referer", _TEXT, "Referer header.", ""),
    ("RemoteIp", _TEXT, "Address of the requester.", ""),
    ("Requester", _TEXT, "Canonical id or ARN of the requester, - for anonymous.", ""),
    ("RequestId", _TEXT, "Id of the request.", ""),
    ("RequestUri", _TEXT, "Request line.", ""),
    ("SignatureVersion", _TEXT, "SigV2, SigV4, or - without authentication.", ""),
    ("TLSVersion", _TEXT, "TLS version, - for plain HTTP.", ""),
    ("TotalTime", _INT, "Milliseconds from the request to the last byte of the answer.", ""),
    ("TurnAroundTime", _TEXT, "Milliseconds that S3 worked on it.", ""),
    ("UserAgent", _TEXT, "User agent.", ""),
    ("VersionId", _TEXT, "Version of the object.", ""),
)
TABLE: Final = declared(
    "AWSS3ServerAccess",
    "Requests to S3 buckets that write server access logs, one row a request.",
    _LINES,
    statistics=("Bucket", "RemoteIp", "Operation"),
)

_WORD: Final = r"([^ \t]++) "
_FRONT: Final = (
    rf"{_WORD * 2}\[([^\]]*+)\] {_WORD * 5}(-|%s) {_WORD * 5}([^ \t]++)(?: (-|%s)(?: (-|%s)(?: (.*))?)?)?"
)
_ESCAPED, _PLAIN = r'"(?:[^"\\]++|\\.)*+"', r'"[^"]*+"'
# Quotes inside a value are escaped, mostly. Each way is tried once; none of them can take more than a line's
# length times two, whatever stands in the line.
_WAYS: Final = (
    re.compile(_FRONT % (_ESCAPED, _ESCAPED, _ESCAPED)),
    re.compile(_FRONT % (_PLAIN, _PLAIN, _PLAIN)),
    re.compile(_FRONT.replace("(.*)", '([^"]*)') % (_PLAIN, _PLAIN, r'".*"')),
)
_NAMES: Final = (
    "TimeGenerated BucketOwner Bucket RemoteIp Requester RequestId Operation Key RequestUri HttpStatus "
    "ErrorCode BytesSent ObjectSize TotalTime TurnAroundTime Referer UserAgent VersionId HostId "
    "SignatureVersion CipherSuite AuthenticationType HostHeader TLSVersion AccessPointARN ACLRequired"
)
_ORDER: Final = _NAMES.split()
_TAIL: Final = 9  # fields behind the user agent that have a column
_SIGNATURES: Final = frozenset(("-", "SigV2", "SigV4", "SigV4A"))


def parse(line: str) -> Values | str:
    """The values of a log line; why it is none."""
    match = _WAYS[0].fullmatch(line) or _WAYS[1].fullmatch(line) or _WAYS[2].fullmatch(line)
    if match is None:
        return "its fields are not those of S3"
    values = match.groups("")
    tail = values[-1].split()
    if len(tail) > 3 and tail[2] not in _SIGNATURES and tail[3] in _SIGNATURES:
        tail[1:3] = [f"{tail[1]} {tail[2]}"]  # a host id with a blank in it was seen
    more = tail[_TAIL:]
    if len(tail) != _TAIL:
        tail = tail[:_TAIL] + [""] * (_TAIL - len(tail))
    return (
        clf(values[2]),
        *values[:2],
        *values[3:8],
        _unquoted(values[8]),
        *values[9:15],
        _unquoted(values[15]),
        _unquoted(values[16]),
        *tail,
        rest_of({"more": more}) if more else None,
    )


def _unquoted(text: str) -> str:
    return text[1:-1] if text[:1] == '"' else text


S3_ACCESS: Final = TextSource(
    "s3access",
    TABLE,
    _ORDER,
    parse,
    first=re.compile(rb"[0-9a-f]{16,64} [^ \n]+ \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [-+]\d{4}\] "),
    what="S3 access log line",
    # A line holds the request's id and key, and S3 delivers some lines twice.
    same=True,
)
