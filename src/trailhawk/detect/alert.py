"""Alerts: what a run's result rows become."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby

from trailhawk.detect.entities import Entity, entities
from trailhawk.detect.rule import Aggregation, Rule, RuleKind, Severity
from trailhawk.detect.schedule import Window
from trailhawk.errors import QueryError
from trailhawk.kql.literals import format_timespan

Row = Mapping[str, object]

MAX_ALERTS = 150
MAX_NRT_ALERTS = 30
MAX_DETAIL_VALUES = 1000
"""Sentinel keeps 50 values of a custom detail; event ids, which an incident rests on, need more."""
MAX_NAME, MAX_DESCRIPTION = 256, 5000

EVENT_IDS = "EventIds"
"""The custom detail that holds the ids of the events an alert rests on."""

_NAMESPACE = uuid.UUID("5b0f8f0e-6c0e-5e3e-9a54-1f6f1c1f7a11")
_START_COLUMNS = ("StartTime", "StartTimeUtc", "FirstSeen", "TimeGenerated")
_END_COLUMNS = ("EndTime", "EndTimeUtc", "LastSeen", "TimeGenerated")
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Alert:
    """What one run of a rule found.

    `at` is T of the run, `started_at` and `ended_at` the first and last event. `id` follows from rule, T and
    result rows, so that a window that is run again gives the same alerts.
    """

    id: str
    rule_id: str
    rule_name: str
    at: datetime
    started_at: datetime
    ended_at: datetime
    name: str
    description: str
    severity: Severity
    tactics: tuple[str, ...]
    techniques: tuple[str, ...]
    entities: tuple[Entity, ...]
    custom_details: tuple[tuple[str, tuple[str, ...]], ...]
    properties: tuple[tuple[str, str], ...]
    query: str
    rows: int

    def detail(self, name: str) -> tuple[str, ...]:
        """The values of a custom detail, none when the alert has no such detail."""
        return next((values for key, values in self.custom_details if key == name), ())

    def values(self, entity_type: str) -> tuple[str, ...]:
        """The first identifiers of the alert's entities of this type."""
        return tuple(each.value for each in self.entities if each.type == entity_type)


def alerts(rule: Rule, window: Window, rows: Sequence[Row]) -> tuple[Alert, ...]:
    """The alerts of one run: none when the trigger does not fire."""
    if not rule.trigger.fires(len(rows), rule.threshold):
        return ()
    given, rows = rows, sorted(rows, key=_canonical)
    # Details are those of the first row; where the query leaves the order open, of the same one in each run.
    first = given[0] if given and is_sorted(rule.query) else None
    if rule.aggregation is Aggregation.SINGLE:
        return (_alert(rule, window, rows, first=first),)
    most = most_alerts(rule)
    if len(rows) <= most:
        return _single(rule, window, rows)
    # The last one sums up all rows, as Sentinel's does.
    return (*_single(rule, window, rows[: most - 1]), _alert(rule, window, rows, first=first))


def _single(rule: Rule, window: Window, rows: Sequence[Row]) -> tuple[Alert, ...]:
    """An alert for each row, also for each of several that are alike."""
    return tuple(
        _alert(rule, window, [row], before=before)
        for _, alike in groupby(rows, key=_canonical)
        for before, row in enumerate(alike)
    )


def most_alerts(rule: Rule) -> int:
    """How many alerts a run raises where each row makes one of its own."""
    return MAX_NRT_ALERTS if rule.kind is RuleKind.NRT else MAX_ALERTS


@lru_cache(maxsize=1024)
def is_sorted(query: str) -> bool:
    """Whether a query ends in an order of its own: `sort` or `top`, and then what leaves rows in place."""
    from trailhawk.kql import syntax
    from trailhawk.kql.parser import parse

    try:
        last = parse(query).statements[-1]
    except QueryError:
        return False  # what stands for the picker's range is filled in where the query is run
    pipe = last.value if isinstance(last, syntax.ExpressionStatement) else None
    projects = syntax.Project | syntax.ProjectAway | syntax.ProjectKeep | syntax.ProjectRename
    in_place = projects | syntax.ProjectReorder | syntax.Where | syntax.Extend | syntax.Take
    operators = reversed(pipe.operators) if isinstance(pipe, syntax.Pipe) else ()
    ends = next((each for each in operators if not isinstance(each, in_place)), None)
    return isinstance(ends, syntax.Sort | syntax.Top)


def _alert(
    rule: Rule, window: Window, rows: Sequence[Row], *, first: Row | None = None, before: int = 0
) -> Alert:
    """The alert of these rows, with the details of `first`; `before` it came so many of just such rows."""
    first = first or (rows[0] if rows else {})
    started_at, ended_at = _span(rows, window)
    severity = Severity.named(str(first.get(rule.details.severity_column) or ""))
    basis = [rule.id, window.at.isoformat(), *map(_canonical, rows), *([str(before)] if before else [])]
    return Alert(
        id=str(uuid.uuid5(_NAMESPACE, "\n".join(basis))),
        rule_id=rule.id,
        rule_name=rule.name,
        at=window.at,
        started_at=started_at,
        ended_at=ended_at,
        name=_filled(rule.details.display_name_format, first, MAX_NAME) or rule.name,
        description=_filled(rule.details.description_format, first, MAX_DESCRIPTION) or rule.description,
        severity=severity or rule.severity,
        tactics=_tactics(first.get(rule.details.tactics_column)) or rule.tactics,
        techniques=rule.techniques,
        entities=entities(rule.entity_mappings, rows, rule.entity_columns),
        custom_details=tuple((name, _values(rows, column)) for name, column in rule.custom_details),
        properties=tuple(
            (name, _text(first[column])) for name, column in rule.details.properties if column in first
        ),
        query=rule.query,
        rows=len(rows),
    )


def _filled(template: str, row: Row, longest: int) -> str:
    """The template with its `{{Column}}`s filled in; empty when a column is missing or empty."""
    names = _PLACEHOLDER.findall(template)
    if any(not _text(row.get(name)) for name in names):
        return ""
    return _PLACEHOLDER.sub(lambda match: _text(row[match[1]]), template).strip()[:longest]


def _tactics(value: object) -> tuple[str, ...]:
    """Tactics from a column: a list, or names between commas. What is no tactic is left out: the purposes of
    GuardDuty's findings, which published rules put here, are tactics in part."""
    if not value:
        return ()
    from trailhawk.detect.attack_table import attack_table

    known = attack_table().tactic_names
    items = value if isinstance(value, list) else str(value).split(",")
    names = (known.get(str(item).replace(" ", "").lower(), "") for item in items)
    return tuple(dict.fromkeys(name for name in names if name))


def _values(rows: Iterable[Row], column: str) -> tuple[str, ...]:
    """The distinct texts of a column, lists opened, up to the limit."""
    found: dict[str, None] = {}
    for row in rows:
        value = row.get(column)
        for item in sorted(map(_text, value)) if isinstance(value, list) else [_text(value)]:
            if item:
                found.setdefault(item)
    return tuple(list(found)[:MAX_DETAIL_VALUES])


def _span(rows: Iterable[Row], window: Window) -> tuple[datetime, datetime]:
    """First and last event: from the time columns of the rows, otherwise the bounds of the window."""
    rows = list(rows)
    starts = [moment for row in rows if (moment := _moment(row, _START_COLUMNS))]
    ends = [moment for row in rows if (moment := _moment(row, _END_COLUMNS))]
    started_at = min(starts, default=window.start)
    return started_at, max(max(ends, default=window.at), started_at)


def _moment(row: Row, columns: Sequence[str]) -> datetime | None:
    return next((value for column in columns if isinstance(value := row.get(column), datetime)), None)


def _text(value: object) -> str:
    """A value as an analyst reads it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, timedelta):
        return format_timespan(value // timedelta(microseconds=1) * 10)
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def _canonical(row: Row) -> str:
    """A row as text that does not depend on the order in which a set was gathered or numbers were added."""
    return json.dumps(_ordered(dict(row)), sort_keys=True, separators=(",", ":"))


def _ordered(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _ordered(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((_ordered(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float):
        return float(f"{value:.12g}")  # the last digits of a sum or deviation are others in another order
    return value if isinstance(value, str | int | bool) or value is None else str(value)
