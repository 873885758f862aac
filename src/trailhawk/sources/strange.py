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
    if front_of(head) == "short":
        return "lines with a time without zone: 'aws logs tail' with its detailed format tells when it was"
    if head.startswith(parquet.MAGIC):
        return "Parquet with the columns of no known log: docs/sources.md names the logs"
    if len(csv_text.header(head)) >= _LEAST_COLUMNS and csv_text.first_rows(head, 1):
        return "CSV with the columns of no known log or export: docs/sources.md names them"
    return ""
