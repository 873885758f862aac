"""Results of CloudTrail Lake's queries that have a column `eventJson`, the event as CloudTrail wrote it.

A query with a delivery URI leaves gzipped CSV files (`result_1.csv.gz`, perhaps with lines of comment on top)
and `result_sign.json`, which proves them. GetQueryResults gives the same rows as JSON.
Format: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/view-download-cloudtrail-lake-query-results.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from trailhawk.sources.framing import BOM
from trailhawk.sources.lines import lines_of
from trailhawk.sources.source import Chunk

_EVENT: Final = b"eventjson"
_HEADER_BYTES: Final = 16 * 1024
_COMMENTS: Final = 20
_CELL: Final = re.compile(rb'(?:"((?:[^"]++|"")*+)"|([^,"]*+))(?:,|\Z)')


def event_column(head: bytes) -> int | None:
    """The place of the events in the rows of a CSV file that begins so, None for another file."""
    lines = head[:_HEADER_BYTES].removeprefix(BOM).split(b"\n", _COMMENTS)
    header = next((line for line in lines[:_COMMENTS] if line.strip() and not line.startswith(b"#")), b"")
    if _EVENT not in header.lower():
        return None
    names = [name.strip().lower() for name in _cells(header.rstrip())]
    return names.index(_EVENT) if _EVENT in names else None


def events(blocks: Iterator[bytes], column: int) -> Iterator[Chunk]:
    """The events of a CSV file, one a line; a line without one stays as it is, and is no record."""
    is_headed = False
    for cut in lines_of(blocks):
        records: list[bytes] = []
        starts: list[int] = []
        for start, line in zip(cut.starts, cut.lines, strict=True):
            if not is_headed:
                is_headed = not line.removeprefix(BOM).startswith(b"#")
                continue
            cells = _cells(line)
            records.append(cells[column] if column < len(cells) and cells[column] else line)
            starts.append(start)
        yield Chunk(records, cut.bad, starts.__getitem__)


def _cells(line: bytes) -> list[bytes]:
    """The cells of a line, none where its quotes do not close."""
    found: list[bytes] = []
    end = 0
    while end < len(line):
        cell = _CELL.match(line, end)
        if cell is None:
            return []
        found.append(cell[2] if cell[1] is None else cell[1].replace(b'""', b'"'))
        end = cell.end()
    return found
