"""CloudTrail's event history as its console downloads it in CSV: sixteen columns of an event, and no more.

There is no request and no answer, of the caller only a name and the access key, and resources come as the
console lists them. The console's JSON has the whole events.
Format: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/view-cloudtrail-events-console.html
"""

from __future__ import annotations

from typing import Final

import orjson

from trailhawk.sources.cloudtrail import CloudTrail
from trailhawk.sources.converted import TableSource
from trailhawk.sources.json_rows import Record, text_of

_MEMBERS: Final = {
    "Event time": "eventTime",
    "Event source": "eventSource",
    "Event name": "eventName",
    "AWS region": "awsRegion",
    "Source IP address": "sourceIPAddress",
    "User agent": "userAgent",
    "Error code": "errorCode",
    "Request ID": "requestID",
    "Event ID": "eventID",
    "Read-only": "readOnly",
    "Event type": "eventType",
    "Recipient Account Id": "recipientAccountId",
    "Event category": "eventCategory",
}
_CALLER: Final = {"User name": "userName", "AWS access key": "accessKeyId"}
_RESOURCES: Final = "Resources"
_TELLING: Final = frozenset(("Event ID", "Event name", "Event time", "Event source"))


def as_cloudtrail(row: Record) -> Record:
    """The event of a row, as far as the console tells it.

    >>> as_cloudtrail({"Event name": "GetObject", "User name": "ann", "Resources": "[]"})
    {'eventName': 'GetObject', 'userIdentity': {'userName': 'ann'}}
    """
    known = {*_MEMBERS, *_CALLER, _RESOURCES}
    record = {_MEMBERS[name]: value for name, value in row.items() if name in _MEMBERS and value != ""}
    record |= {name: value for name, value in row.items() if name not in known}
    record["userIdentity"] = {
        member: value for name, member in _CALLER.items() if (value := row.get(name)) not in (None, "")
    }
    listed = text_of(row.get(_RESOURCES))
    if listed not in ("", "[]"):
        record["resources"] = orjson.loads(listed)
    return record


EVENT_HISTORY: Final = TableSource(
    "cloudtrail-history",
    CloudTrail(),
    known=lambda row: row.keys() >= _TELLING,
    convert=as_cloudtrail,
    what="a row of the event history",
)
