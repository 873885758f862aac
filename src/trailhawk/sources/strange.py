"""Objects that no source reads, of which it can be told what they are: the reason says what to take."""

from __future__ import annotations

import re
from typing import Final

from trailhawk.sources import csv_text, framing, parquet
from trailhawk.sources.envelope import front_of
from trailhawk.sources.source import HEAD_BYTES

# Only by what it begins with: further along these may be somebody's text.
_ARCHIVED: Final = re.compile(rb'\s*+\{\s*+"(?:_id|attributes|date|host|service|source|status)"\s*+:')
_OF_ARCHIVES: Final = (b'"_id"', b'"date"', b'"attributes"')
_LEAST_COLUMNS: Final = 3
_KINDS: Final = (
    (
        (b'"fileVersion"', b'"configurationItems"'),
        "what AWS Config noted of resources, which is no log of what was done",
    ),
    (
        (b'"fileSchema"', b'"sourceBucket"', b'"destinationBucket"'),
        "the manifest of an S3 Inventory, which is no log",
    ),
    (
        (b'"attemptsMade"', b'"arrivalTimestamp"', b'"rawData"'),
        "what Firehose could not deliver: rawData has it in base64, errorMessage the reason",
    ),
)
"""Names that stand near the beginning of a JSON object of a kind, and what that is."""
_NEAR: Final = 1024


def archived(head: bytes) -> str:
    """What that is which begins so, where its record was taken apart by a pipeline of Datadog's; else ''."""
    if _ARCHIVED.match(head) is None or not all(name in head for name in _OF_ARCHIVES):
        return ""
    return "an archive of Datadog's, which has not the records as they were: take the log itself"


def strange(head: bytes) -> str:
    """What an object is that begins so and is nobody's, and what to do; '' where that cannot be told."""
    head = head[:HEAD_BYTES].removeprefix(framing.BOM)
    if reason := archived(head):
        return reason
    if head.lstrip().startswith(b"{"):
        begins = head[:_NEAR]
        for names, reason in _KINDS:
            if all(name in begins for name in names):
                return reason
    if front_of(head) == "short":
        return "lines with a time without zone: 'aws logs tail' with its detailed format tells when it was"
    if head.startswith(parquet.MAGIC):
        return "Parquet with the columns of no known log: docs/sources.md names the logs"
    if len(csv_text.header(head)) >= _LEAST_COLUMNS and csv_text.first_rows(head, 1):
        return "CSV with the columns of no known log or export: docs/sources.md names them"
    return ""
