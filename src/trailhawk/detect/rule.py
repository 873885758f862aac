"""Sentinel's analytics rule and hunting query, typed.

Reference: https://learn.microsoft.com/azure/sentinel/sentinel-analytic-rules-creation
Two members are ours: `tests` (logs and what must come of them) and `learningPeriod` (the history a rule
needs before its silence or its alarm means anything).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

MAX_PERIOD = timedelta(days=14)
MIN_FREQUENCY = timedelta(minutes=5)
MAX_ENTITY_MAPPINGS = 10


class RuleKind(Enum):
    SCHEDULED = "Scheduled"
    NRT = "NRT"
    HUNTING = "Hunting"


class Severity(Enum):
    INFORMATIONAL = "Informational"
    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"

    @property
    def rank(self) -> int:
        """0 for Informational to 3 for High."""
        return list(Severity).index(self)

    @classmethod
    def named(cls, text: str) -> Severity | None:
        """The severity of this name, case aside; None when there is none."""
        return next((severity for severity in cls if severity.value.lower() == text.strip().lower()), None)


class Trigger(Enum):
    """How the number of result rows is compared with the threshold."""

    GREATER = "GreaterThan"
    LESS = "LessThan"
    EQUAL = "Equal"
    NOT_EQUAL = "NotEqual"

    def fires(self, rows: int, threshold: int) -> bool:
        return _COMPARE[self](rows, threshold)


_COMPARE: dict[Trigger, Callable[[int, int], bool]] = {
    Trigger.GREATER: operator.gt,
    Trigger.LESS: operator.lt,
    Trigger.EQUAL: operator.eq,
    Trigger.NOT_EQUAL: operator.ne,
}


class Aggregation(Enum):
    """One alert for a run, or one for each result row."""

    SINGLE = "SingleAlert"
    PER_RESULT = "AlertPerResult"


class Matching(Enum):
    """Which alerts Sentinel's own grouping puts into one incident."""

    ALL_ENTITIES = "AllEntities"
    ANY_ALERT = "AnyAlert"
    SELECTED = "Selected"


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """The column that holds one identifier of an entity."""

    identifier: str
    column: str


@dataclass(frozen=True, slots=True)
class EntityMapping:
    type: str
    fields: tuple[FieldMapping, ...]


@dataclass(frozen=True, slots=True)
class AlertDetails:
    """What a result row changes in the alert; an empty text leaves the rule's own value."""

    display_name_format: str = ""
    description_format: str = ""
    severity_column: str = ""
    tactics_column: str = ""
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Grouping:
    """Sentinel's `groupingConfiguration`: present only when the rule turns it on."""

    matching: Matching
    lookback: timedelta
    reopen: bool = False
    entities: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    custom_details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a rule test must give: a number of alerts (of a hunt: result rows), and what they must hold."""

    alerts: int
    severity: Severity | None = None
    entities: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Entity type, and the values of its first identifier, in any order."""


@dataclass(frozen=True, slots=True)
class RuleTest:
    """Logs, and what must come of them in the first regular run after the last of them.

    `events` are CloudTrail records, `logs` the raw logs of other tables (JSON objects, or lines of text) and
    `rows` rows of tables, each by the table's name. With `at`, the run is the one at or after that moment.
    """

    name: str
    expect: Expectation
    events: tuple[Mapping[str, object], ...] = ()
    logs: tuple[tuple[str, tuple[Mapping[str, object] | str, ...]], ...] = ()
    rows: tuple[tuple[str, tuple[Mapping[str, object], ...]], ...] = ()
    at: datetime | None = None


@dataclass(frozen=True)
class Rule:
    """An analytics rule, typed. `extra` holds the members of the file that nothing reads, by their paths."""

    id: str
    name: str
    query: str
    kind: RuleKind
    severity: Severity
    description: str = ""
    frequency: timedelta = timedelta(0)
    period: timedelta = timedelta(0)
    trigger: Trigger = Trigger.GREATER
    threshold: int = 0
    tactics: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    data_types: tuple[str, ...] = ()
    entity_mappings: tuple[EntityMapping, ...] = ()
    entity_columns: tuple[str, ...] = ()
    """Columns that hold entities in the form of SecurityAlert's Entities."""
    custom_details: tuple[tuple[str, str], ...] = ()
    """Name of the detail, and the column that holds it."""
    details: AlertDetails = AlertDetails()
    aggregation: Aggregation = Aggregation.SINGLE
    suppression: timedelta | None = None
    create_incident: bool | None = None
    """None when the rule does not say: then alerts above Informational make incidents."""
    grouping: Grouping | None = None
    learning_period: timedelta | None = None
    version: str = ""
    tags: tuple[str, ...] = ()
    tests: tuple[RuleTest, ...] = ()
    extra: tuple[tuple[str, object], ...] = ()
    source: str = ""
    query_line: int = field(default=0, compare=False)
    """The line of the file that the query begins on; 0 where it stands otherwise than as a block."""

    @property
    def history_needed(self) -> timedelta:
        """The history that must be stored before a window of this rule is run: what `learningPeriod` says."""
        return self.learning_period or timedelta(0)
