"""STIX 2.0 and 2.1: the indicators of a bundle, of a TAXII answer, or of objects one after the other.

https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html#_muftrcpnf89v
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from trailhawk.detect.intel import MAX_DATA, MAX_INDICATORS, Indicator, Reading
from trailhawk.detect.intel.observable import Observable, observable
from trailhawk.detect.intel.pattern import parse
from trailhawk.errors import SourceError

MAX_TAGS, MAX_TAG = 50, 200
_ID = re.compile(r"indicator--[0-9A-Za-z-]{1,100}")

# https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html#_yd3ar14ekwrs
_TLP = {
    "marking-definition--613f2e26-407d-48c7-9eca-b8e91df99dc9": "white",
    "marking-definition--34098fce-860f-48ae-8e50-ebd3cc5e41da": "green",
    "marking-definition--f88d31f6-486f-44da-b317-01333bde0b82": "amber",
    "marking-definition--5e57c739-391a-4eb3-b6be-7d15ca92d5ed": "red",
}


def read_stix(content: bytes, *, source: str) -> Reading:
    """The indicators of a file. SourceError where it is no STIX; a bad object is refused by itself."""
    reading = Reading()
    for place, found in enumerate(_objects(content, source), 1):
        if found.get("type") != "indicator":
            reading.others += 1
            continue
        name = found.get("id")
        where = name[:120] if isinstance(name, str) else f"object {place}"
        try:
            reading.add(_indicator(found))
        except ValueError as error:
            reading.refuse(where, str(error))
        if len(reading.indicators) > MAX_INDICATORS:
            raise SourceError(f"{source} has more than {MAX_INDICATORS:,} indicators", hint="split it")
    return reading


def _objects(content: bytes, source: str) -> Iterator[Mapping[str, Any]]:
    try:
        found = orjson.loads(content)
        documents = [found]
    except orjson.JSONDecodeError as error:
        documents = list(_lines(content, source, error))
    for document in documents:
        if isinstance(document, dict) and isinstance(document.get("objects"), list):
            listed: Sequence[Any] = document["objects"]
        elif isinstance(document, dict) and "objects" not in document and document.get("type") != "bundle":
            listed = [document]
        elif isinstance(document, list):
            listed = document
        elif isinstance(document, dict):
            listed = []  # a bundle of nothing has no member objects
        else:
            raise SourceError(f"{source} is no STIX bundle: it is a {type(document).__name__}")
        for each in listed:
            if not isinstance(each, dict) or not isinstance(each.get("type"), str):
                raise SourceError(f"{source} is no STIX bundle: an object without a type")
            yield each


def _lines(content: bytes, source: str, first: orjson.JSONDecodeError) -> Iterator[Any]:
    """JSON, one object a line; where the first line is none, the whole is none."""
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError as error:
            reason = f"line {number}: {error}" if number > 1 else str(first)
            raise SourceError(f"{source} is no JSON: {reason}") from None


def _indicator(found: Mapping[str, Any]) -> Indicator:
    name = found.get("id")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise ValueError("its id is no 'indicator--...'")
    pattern = found.get("pattern")
    if not isinstance(pattern, str) or not pattern.strip():
        raise ValueError("it has no pattern")
    observables, joined = _compared(pattern, found)
    return Indicator(
        id=name,
        pattern=pattern,
        observables=observables,
        data=_data(found),
        valid_from=_moment(found, "valid_from"),
        valid_until=_moment(found, "valid_until"),
        created=_moment(found, "created"),
        modified=_moment(found, "modified"),
        confidence=_confidence(found.get("confidence")),
        revoked=found.get("revoked") is True,
        tags=_tags(found),
        tlp=_tlp(found),
        joined=joined,
    )


def _compared(pattern: str, found: Mapping[str, Any]) -> tuple[tuple[Observable, ...], str]:
    """What can be looked for; nothing of a pattern in another language, such as yara or sigma."""
    if found.get("pattern_type", "stix") != "stix":
        return (), ""
    parsed = parse(pattern)
    made = dict.fromkeys(observable(key, value) for key, value in parsed.equalities)
    joined = parsed.joined if len(made) + parsed.passed > 1 else ""
    return tuple(made), joined


def _data(found: Mapping[str, Any]) -> str:
    text = orjson.dumps(found).decode()
    if len(text) > MAX_DATA:
        raise ValueError(f"an object of {len(text):,} characters; {MAX_DATA:,} at most")
    return text


def _moment(found: Mapping[str, Any], member: str) -> datetime | None:
    value = found.get(member)
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"its {member} is no time: {str(value)[:40]!r}") from None


def _confidence(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100:
        raise ValueError(f"its confidence is no number from 0 to 100: {str(value)[:40]!r}")
    return value


def _tags(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Labels, and the kinds of indicator, which STIX 2.0 writes as labels."""
    listed = [each for member in ("indicator_types", "labels") for each in found.get(member) or ()]
    return tuple(dict.fromkeys(each[:MAX_TAG] for each in listed if isinstance(each, str)))[:MAX_TAGS]


def _tlp(found: Mapping[str, Any]) -> str:
    marks = found.get("object_marking_refs")
    return next((_TLP[mark] for mark in marks if mark in _TLP), "") if isinstance(marks, list) else ""
