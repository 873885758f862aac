"""What the logs say about how an account is set up: the checks of content, run over what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Final

import yaml

from trailhawk.detect.rule import Severity
from trailhawk.engine.result import Engine, TimeRange

MOST: Final = 500
"""Findings of one check that are kept, those seen last; the others are counted."""


@dataclass(frozen=True, slots=True)
class Check:
    """A question to the logs; its query gives Subject, Detail, First, Last and Count."""

    id: str
    title: str
    severity: Severity
    why: str
    fix: str
    tables: tuple[str, ...]
    query: str


@dataclass(frozen=True, slots=True)
class Found:
    """A finding: what is so, why one thinks so, since and until when it was seen, how often."""

    subject: str
    detail: str
    first: datetime
    last: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a check found; `blind` names the tables that hold nothing, so that it could not find anything."""

    check: Check
    found: tuple[Found, ...]
    left_out: int
    blind: tuple[str, ...]


@cache
def checks() -> tuple[Check, ...]:
    """The checks of the shipped content, in its order."""
    text = files("trailhawk").joinpath("content/posture.yaml").read_text(encoding="utf-8")
    return tuple(_check(entry) for entry in yaml.safe_load(text))


def _check(entry: Mapping[str, object]) -> Check:
    severity = Severity.named(str(entry["severity"]))
    if severity is None:
        raise ValueError(f"check {entry['id']}: severity {entry['severity']}")
    tables = entry["tables"]
    return Check(
        id=str(entry["id"]),
        title=str(entry["title"]),
        severity=severity,
        why=str(entry["why"]),
        fix=str(entry["fix"]),
        tables=tuple(map(str, tables)) if isinstance(tables, list) else (),
        query=str(entry["query"]),
    )


def posture(
    engine: Engine,
    asked: Sequence[Check],
    *,
    has_rows: Callable[[str], bool],
    window: TimeRange | None,
    now: datetime,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Answer, ...]:
    """The answers of these checks, the gravest first; `has_rows` says whether a table holds anything."""
    answers: list[Answer] = []
    for place, check in enumerate(asked):
        blind = tuple(table for table in check.tables if not has_rows(table))
        rows = [] if blind else engine.query(check.query, now=now, window=window).rows()
        found = sorted(
            map(_found, rows), key=lambda each: (-each.last.timestamp(), each.subject, each.detail)
        )
        answers.append(Answer(check, tuple(found[:MOST]), max(0, len(found) - MOST), blind))
        progress(place + 1, len(asked))
    return tuple(sorted(answers, key=lambda each: -each.check.severity.rank))


def _found(row: Mapping[str, object]) -> Found:
    first, last, count = row["First"], row["Last"], row["Count"]
    if not isinstance(first, datetime) or not isinstance(last, datetime) or not isinstance(count, int):
        raise TypeError("a check gives First and Last as datetime, Count as long")
    return Found(str(row["Subject"]), str(row["Detail"]), first, last, count)
