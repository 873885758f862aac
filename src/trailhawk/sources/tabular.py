"""Rows of a table as query services and portals export them: CSV, JSON objects, and JSON lists with a header.

Each row becomes a record of its own, a JSON object by the names of the columns; CSV gives texts. Of the
hundreds of columns of a wide table a row fills a few: only those of the log are named where they are empty.

    CSV                                  a header, rows
    Azure CLI, Log Analytics' exports    [{"TimeGenerated": "..."}], or one object a line
    Log Analytics' API                   {"tables": [{"columns": [{"name": ...}], "rows": [[...]]}]}
    Athena's GetQueryResults             {"ResultSet": {"Rows": [{"Data": [{"VarCharValue": "..."}]}]}}
    CloudTrail Lake's GetQueryResults    {"QueryResultRows": [[{"eventName": "..."}]]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Final

import orjson

from trailhawk.sources import csv_text, framing
from trailhawk.sources.json_lists import LISTS, items
from trailhawk.sources.json_rows import Record, shape
from trailhawk.sources.once import once
from trailhawk.sources.source import HEAD_BYTES, BadPart, Chunk

_BLANK: Final = re.compile(rb"\s*+(?:\[\s*+)?")
_ANSWER: Final = re.compile(
    rb'\s*+\{[^\[\]]{0,4096}?"(?:tables|Rows|QueryResultRows)"\s*+:\s*+\['
    rb'(?:\s*+\[|\s*+\{\s*+"(?:Data|name|columns|rows)"\s*+:)'
)
_OBJECTS: Final = shape(lists=("value",))
_DECODER: Final = json.JSONDecoder()


@once
def first_record(head: bytes) -> Record:
    """The first row of a table that begins so, by column; {} where there is none, or none that is whole."""
    head = head.removeprefix(framing.BOM)
    if _is_answer(head):
        return _first_answered(head)
    if head.lstrip()[:1] in (b"{", b"["):
        return _first_object(head)
    names = csv_text.header(head)
    rows = csv_text.first_rows(head, 1) if len(names) > 1 else []
    return dict(rows[0]) if rows else dict.fromkeys(names, "")


def is_table(head: bytes) -> bool:
    """Whether an object that begins so may be CSV or an answer, and is not JSON objects, as logs are."""
    head = head.removeprefix(framing.BOM)
    return _is_answer(head) or head.lstrip()[:1] not in (b"{", b"[")


def chunks(blocks: Iterator[bytes], is_kept: Callable[[str], bool]) -> Iterator[Chunk]:
    """The rows of a table in any of the forms, each as a JSON object, with the empty cells that are kept."""
    first = next(blocks, b"")
    whole = chain((first,), blocks)
    head = first[:HEAD_BYTES].removeprefix(framing.BOM)
    if _is_answer(head):
        return _chunked(_answered(whole, is_kept))
    if head.lstrip()[:1] in (b"{", b"["):
        return framing.chunks(whole, _OBJECTS)
    return _chunked(_of_csv(whole, is_kept))


def _is_answer(head: bytes) -> bool:
    return _ANSWER.match(head) is not None


def _first_answered(head: bytes) -> Record:
    """The first row of an answer; its columns without values where it has no rows."""
    described: list[str] = []
    for found in items(iter((head,)), LISTS):
        for row in map(_loaded, found.texts):
            described = described or _columns(row)
    rows = (each for each in _answered(iter((head,)), lambda _: True) if not isinstance(each, BadPart))
    first = orjson.loads(next(rows, (0, b"{}"))[1])
    return first if isinstance(first, dict) and first else dict.fromkeys(described, "")


def _first_object(head: bytes) -> Record:
    begin = _BLANK.match(head)
    try:
        text = head.decode("utf-8", "replace")[begin.end() if begin else 0 :]
        found, _ = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


_Found = tuple[int, bytes] | BadPart
"""A row with its start, or what is none."""


def _chunked(found: Iterator[_Found]) -> Iterator[Chunk]:
    """Rows in chunks of bounded size: each names all columns, which may be far more than its values."""
    records: list[bytes] = []
    starts: list[int] = []
    bad: list[BadPart] = []
    size = 0
    for each in found:
        if isinstance(each, BadPart):
            bad.append(each)
            size += len(each.head)
        else:
            starts.append(each[0])
            records.append(each[1])
            size += len(each[1])
        if max(len(records), len(bad)) >= framing.CHUNK_RECORDS or size >= framing.CHUNK_BYTES:
            yield Chunk(records, tuple(bad), starts.__getitem__)
            records, starts, bad, size = [], [], [], 0
    if records or bad:
        yield Chunk(records, tuple(bad), starts.__getitem__)


def _of_csv(blocks: Iterator[bytes], is_kept: Callable[[str], bool]) -> Iterator[_Found]:
    for cut in csv_text.rows_of(blocks):
        yield from cut.bad
        kept = frozenset(filter(is_kept, cut.names))
        for start, row in zip(cut.starts, cut.rows, strict=True):
            yield start, orjson.dumps(_filled(cut.names, row, kept))


def _filled(names: Sequence[str], values: Sequence[object], kept: frozenset[str]) -> Record:
    """A row without the columns that have no value, but for those that are kept."""
    return {
        name: value
        for name, value in zip(names, values, strict=True)
        if value not in (None, "") or name in kept
    }


def _answered(blocks: Iterator[bytes], is_kept: Callable[[str], bool]) -> Iterator[_Found]:
    """The rows of an answer; the list of the columns stands before them, or is the first row."""
    names: list[str] = []
    kept: frozenset[str] = frozenset()
    for found in items(blocks, LISTS):
        yield from found.bad
        for text, start in zip(found.texts, found.starts, strict=True):
            row = _loaded(text)
            kind = _kind(row)
            if kind == "CatalogName":
                continue
            if columns := _columns(row):
                names, kept = columns, frozenset(filter(is_kept, columns))
                continue
            if kind == "VarCharValue" and not names:
                names = _bounded([str(each.get(kind, "")) for each in _objects(row)])
                kept = frozenset(filter(is_kept, names))
                continue
            made = _row(row, kind, names, kept)
            try:
                yield (start, orjson.dumps(made)) if isinstance(made, dict) else BadPart.of(text, start, made)
            except orjson.JSONEncodeError:
                yield BadPart.of(text, start, "a row that is nested too deeply")


def _bounded(names: list[str]) -> list[str]:
    """Names of columns, none where they are too many or too long: each row has them all."""
    is_small = len(names) <= csv_text.MAX_COLUMNS and sum(map(len, names)) <= csv_text.MAX_HEADER
    return names if is_small else []


def _columns(row: object) -> list[str]:
    """The names of the columns, where a list describes columns."""
    found = _objects(row)
    is_all = isinstance(row, list) and len(found) == len(row) and all(map(_DESCRIBES, found))
    return _bounded([str(each["name"]) for each in found]) if is_all else []


_DESCRIBES: Final = {"name", "type"}.issubset


def _loaded(text: bytes) -> object:
    """The value of a list, None where it has half a character or goes too deep."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _objects(row: object) -> list[Record]:
    return [each for each in row if isinstance(each, dict)] if isinstance(row, list) else []


def _kind(row: object) -> str:
    """The first member of the objects in a row, '' for a row of values."""
    first = next((each for each in _objects(row) if each), {})
    return next(iter(first), "")


def _row(row: object, kind: str, names: list[str], kept: frozenset[str]) -> Record | str:
    """A row by column; why it is none."""
    if not isinstance(row, list):
        return "a row that is no list of values"
    if kind in ("", "VarCharValue") and names:
        values = [each.get("VarCharValue") if isinstance(each, dict) else each for each in row]
        if len(values) != len(names):
            return f"a row of {len(values)} values under {len(names)} columns"
        return _filled(names, values, kept)
    return {name: value for each in _objects(row) for name, value in each.items()}
