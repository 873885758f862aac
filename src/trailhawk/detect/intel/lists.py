"""Plain lists: one indicator a line, or a column of a CSV file."""

from __future__ import annotations

import csv
import io
import re
import uuid
from collections.abc import Iterator
from datetime import datetime

import orjson

from trailhawk.detect.intel import MAX_INDICATORS, Indicator, Observable, Reading
from trailhawk.detect.intel.observable import MAX_VALUE, recognised
from trailhawk.errors import SourceError, UsageError
from trailhawk.kql.scope import suggestion

_COMMENTS = ("#", ";", "//")
_COMMENT = re.compile(r"\s+(?:#|;|//).*")
_NOWHERE = ("0.0.0.0", "127.0.0.1", "::1", "::")
"""What stands before the name in a file of hosts to block."""
_NAMES = (
    *("indicator", "ioc", "value", "ip", "ip_address", "address", "dst_ip"),
    *("domain", "host", "url", "hash", "sha256_hash"),
)
"""Columns that hold the indicator in common feeds, the likeliest first."""
_NAMESPACE = uuid.UUID("6d6a4c1e-4a58-4c42-9c7b-9a3d2a3c5b10")


def read_list(
    content: bytes,
    *,
    source: str,
    now: datetime,
    column: str = "",
    valid_until: datetime | None = None,
    confidence: int | None = None,
    tags: tuple[str, ...] = (),
) -> Reading:
    """The indicators of a list, valid from `now`. What a line is, is recognised; a bad line is refused.

    With `column`, or where the file's name ends in .csv, it is CSV. SourceError where it is no text,
    UsageError where there is no such column.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(f"{source} is not UTF-8 text") from None
    if "\0" in text:
        raise SourceError(f"{source} is not text: it holds NUL characters")
    is_csv = bool(column) or source.lower().endswith((".csv", ".tsv"))
    reading = Reading()
    for number, word in _column(text, source, column) if is_csv else _words(text):
        try:
            found = recognised(word)
        except ValueError as error:
            reading.refuse(f"line {number} ({word[:60]!r})", str(error))
            continue
        reading.add(_indicator(found, now=now, valid_until=valid_until, confidence=confidence, tags=tags))
        if len(reading.indicators) > MAX_INDICATORS:
            raise SourceError(f"{source} has more than {MAX_INDICATORS:,} indicators", hint="split it")
    return reading


def _words(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if not word or word.startswith(_COMMENTS):
            continue
        word = _COMMENT.sub("", word[: 2 * MAX_VALUE])
        first, *rest = word.split(maxsplit=2)
        yield number, rest[0] if rest and first in _NOWHERE else word


def _column(text: str, source: str, column: str) -> Iterator[tuple[int, str]]:
    lines = [("" if line.lstrip().startswith("#") else line) for line in text.splitlines()]
    head = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t|", key=head.count)
    reader = csv.reader(io.StringIO("\n".join(lines), newline=""), delimiter=delimiter, skipinitialspace=True)
    place: int | None = None
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if place is None:
                place = _place(row, source, column)
                if column or not _is_indicator(row[place]):
                    continue
            if place < len(row):
                yield reader.line_num, row[place].strip()
    except csv.Error as error:
        raise SourceError(f"{source}, line {reader.line_num}: {error}") from None


def _place(header: list[str], source: str, column: str) -> int:
    """The column's place in the first row; without a name the usual one, or where an indicator stands."""
    names = [cell.strip() for cell in header]
    folded = [name.lower().replace(" ", "_") for name in names]
    if column:
        if column in names:
            return names.index(column)
        if column.lower() in folded:
            return folded.index(column.lower())
        hint = suggestion(column, names) or f"there is {', '.join(name[:40] for name in names[:20])}"
        raise UsageError(f"{source} has no column '{column}'", hint=hint)
    for place, name in enumerate(names):
        if _is_indicator(name):
            return place
    for name in _NAMES:
        if name in folded:
            return folded.index(name)
    listed = ", ".join(name[:40] for name in names[:20])
    raise UsageError(f"which column of {source} holds the indicators?", hint=f"give --column: {listed}")


def _is_indicator(word: str) -> bool:
    try:
        recognised(word)
    except ValueError:
        return False
    return True


def _indicator(
    found: Observable,
    *,
    now: datetime,
    valid_until: datetime | None,
    confidence: int | None,
    tags: tuple[str, ...],
) -> Indicator:
    """A STIX indicator of what the list names; its id follows from that."""
    value = found.value.replace("\\", "\\\\").replace("'", "\\'")
    pattern = f"[{found.key} = '{value}']"
    name = f"indicator--{uuid.uuid5(_NAMESPACE, f'{found.key} {found.value}')}"
    data = {
        "type": "indicator",
        "spec_version": "2.1",
        "id": name,
        "name": found.value,
        "pattern": pattern,
        "pattern_type": "stix",
        "labels": list(tags),
    }
    return Indicator(
        id=name,
        pattern=pattern,
        observables=(found,),
        data=orjson.dumps(data).decode(),
        valid_from=now,
        valid_until=valid_until,
        confidence=confidence,
        tags=tags,
    )
