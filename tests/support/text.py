"""Files of logs as other tools write them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Literal

Quoting = Literal[0, 1, 2, 3]
"""One of the csv module's QUOTE_..."""


def dump(value: object, indent: int | None = None) -> bytes:
    """JSON in UTF-8, with letters as they are."""
    return json.dumps(value, ensure_ascii=False, indent=indent).encode()


def log(*ids: str) -> bytes:
    """A file of CloudTrail with events that have little more than these ids."""
    events = [{"eventTime": "2026-03-01T00:00:00Z", "eventID": each} for each in ids]
    return json.dumps({"Records": events}).encode()


def table(
    names: Sequence[str],
    rows: Iterable[Sequence[str]],
    quoting: Quoting = csv.QUOTE_MINIMAL,
    *,
    end: str = "\r\n",
) -> bytes:
    """CSV with a head."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator=end, quoting=quoting)
    writer.writerow(names)
    writer.writerows(rows)
    return file.getvalue().encode()
