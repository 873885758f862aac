"""What people found out about incidents, told back to the rules: how right each is, and what to except.

The alerts of a closed incident are judged as it was classified. What an exception would take is counted over
stored alerts: an alert goes when every value it has of the excepted columns is among the excepted ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import sqlalchemy as sa

from trailhawk.detect.alert import EVENT_IDS, Alert
from trailhawk.detect.rule import Rule
from trailhawk.detect.store import metadata
from trailhawk.incidents import log
from trailhawk.incidents.incident import Classification, Status
from trailhawk.incidents.literal import string
from trailhawk.kql.schema import Column
from trailhawk.kql.types import KqlType

MAX_VALUES: Final = 10
"""Values of one column in a proposal."""
MAX_PROPOSALS: Final = 5
_SINGLES: Final = 5
"""So many of the best single columns are tried two by two."""

TRUE: Final = Classification.TRUE_POSITIVE.value
BENIGN: Final = Classification.BENIGN_POSITIVE.value
FALSE: Final = Classification.FALSE_POSITIVE.value
UNDETERMINED: Final = Classification.UNDETERMINED.value


@dataclass(frozen=True, slots=True)
class Precision:
    """What became of a rule's alerts. `incidents` counts closed incidents that one of them is in."""

    rule_id: str
    alerts: int
    true: int
    benign: int
    false: int
    undetermined: int
    incidents: int

    @property
    def judged(self) -> int:
        """Alerts that somebody could say something about."""
        return self.true + self.benign + self.false

    @property
    def precision(self) -> float | None:
        """The share of true positives among the judged alerts; None where there is none."""
        return self.true / self.judged if self.judged else None


def precisions(connection: sa.Connection) -> dict[str, Precision]:
    """What became of the alerts of each rule that has raised any, by the rule's id."""
    alerts = metadata.tables["alerts"].c
    raised = sa.select(alerts.rule_id, sa.func.count()).group_by(alerts.rule_id)
    counts = {str(rule_id): int(count) for rule_id, count in connection.execute(raised)}
    table, member = log.incidents.c, log.members.c
    closed = (
        sa.select(alerts.rule_id, table.classification, member.number, sa.func.count())
        .join_from(log.incidents, log.members, member.number == table.number)
        .join(metadata.tables["alerts"], alerts.id == member.alert_id)
        .where(table.status == Status.CLOSED.value, table.classification != "")
        .group_by(alerts.rule_id, table.classification, member.number)
    )
    judged: dict[str, Counter[str]] = {}
    incidents: dict[str, set[int]] = {}
    for rule_id, classification, number, count in connection.execute(closed):
        judged.setdefault(rule_id, Counter())[classification] += count
        incidents.setdefault(rule_id, set()).add(number)
    found = {}
    for rule_id, count in counts.items():
        how = judged.get(rule_id, Counter())
        found[rule_id] = Precision(
            rule_id,
            alerts=count,
            true=how[TRUE],
            benign=how[BENIGN],
            false=how[FALSE],
            undetermined=how[UNDETERMINED],
            incidents=len(incidents.get(rule_id, ())),
        )
    return found


# --- proposals ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proposal:
    """An exception that false positives suggest, and what it would have done to the alerts of some time.

    `where` is a predicate over the columns of the rule's result. `false`, `benign`, `true` and `unjudged`
    tell how those were classified that it takes.
    """

    where: str
    before: int
    after: int
    false: int
    benign: int
    true: int
    unjudged: int


@dataclass(frozen=True, slots=True)
class _Condition:
    """A column, and the values of it that are excepted."""

    column: Column
    values: frozenset[str]

    def takes(self, values: frozenset[str]) -> bool:
        return bool(values) and values <= self.values

    def text(self) -> str:
        """The condition in KQL, so that it means the same of one row as `takes` of an alert."""
        names = sorted(self.values)
        name = _name(self.column.name)
        if self.column.type is KqlType.DYNAMIC:
            listed = ", ".join(map(string, names))
            values = f"iff(gettype({name}) == 'array', {name}, pack_array({name}))"
            is_any = f"isnotempty({name})"
            return f"{is_any} and array_length(set_difference({values}, dynamic([{listed}]))) == 0"
        subject = name if self.column.type is KqlType.STRING else f"tostring({name})"
        if len(names) == 1:
            return f"{subject} == {string(names[0])}"
        return f"{subject} in ({', '.join(map(string, names))})"


def proposals(
    rule: Rule, alerts: Iterable[Alert], judged: Mapping[str, str], columns: Sequence[Column]
) -> tuple[Proposal, ...]:
    """Exceptions that would take false positives of a rule and no true positive, the best first.

    `alerts` are the rule's own of some time, `judged` the classifications of alerts by id, `columns` those
    of the rule's result. Of two that take as many false positives the one that takes less else is better.
    """
    alerts = tuple(alerts)
    values = [_values(rule, alert) for alert in alerts]
    verdicts = [judged.get(alert.id, "") for alert in alerts]
    typed = {column.name: column for column in columns}
    singles = []
    for name in sorted({name for each in values for name in each}):
        if name in typed and (condition := _condition(typed[name], values, verdicts)):
            singles.append(condition)
    tried = [(each,) for each in singles]
    best = sorted(tried, key=lambda one: _rank(one, values, verdicts))[:_SINGLES]
    pairs = [(one[0], other[0]) for one, other in combinations(best, 2)]
    ranked = sorted([*tried, *pairs], key=lambda one: _rank(one, values, verdicts))
    found = (_proposal(one, values, verdicts) for one in ranked)
    return tuple(each for each in found if each.false and not each.true)[:MAX_PROPOSALS]


def _values(rule: Rule, alert: Alert) -> dict[str, frozenset[str]]:
    """What an alert has of each column that its rule maps to an entity or a detail, where that is certain."""
    named: dict[tuple[str, str], list[str]] = {}
    for mapping in rule.entity_mappings:
        for field in mapping.fields:
            named.setdefault((mapping.type, field.identifier), []).append(field.column)
    found: dict[str, frozenset[str]] = {}
    for (kind, identifier), sources in named.items():
        if len(set(sources)) == 1:  # of two columns nobody knows which an entity came from
            texts = {each.identifier(identifier) for each in alert.entities if each.type == kind}
            found[sources[0]] = frozenset(text for text in texts if text)
    for name, column in rule.custom_details:
        if name != EVENT_IDS:
            found[column] = found.get(column) or frozenset(alert.detail(name))
    return found


def _condition(
    column: Column, values: Sequence[Mapping[str, frozenset[str]]], verdicts: Sequence[str]
) -> _Condition | None:
    """The values of a column that false positives have and no true positive has; those of most of them."""
    false: Counter[str] = Counter()
    true: set[str] = set()
    for each, verdict in zip(values, verdicts, strict=True):
        if verdict == FALSE:
            false.update(each.get(column.name, ()))
        elif verdict == TRUE:
            true |= each.get(column.name, frozenset())
    wanted = sorted((text for text in false if text not in true), key=lambda text: (-false[text], text))
    return _Condition(column, frozenset(wanted[:MAX_VALUES])) if wanted else None


_Conditions = tuple[_Condition, ...]


def _proposal(
    conditions: _Conditions, values: Sequence[Mapping[str, frozenset[str]]], verdicts: Sequence[str]
) -> Proposal:
    taken = Counter(
        verdict
        for each, verdict in zip(values, verdicts, strict=True)
        if all(one.takes(each.get(one.column.name, frozenset())) for one in conditions)
    )
    count = taken.total()
    return Proposal(
        where=" and ".join(one.text() for one in conditions),
        before=len(values),
        after=len(values) - count,
        false=taken[FALSE],
        benign=taken[BENIGN],
        true=taken[TRUE],
        unjudged=count - taken[FALSE] - taken[BENIGN] - taken[TRUE],
    )


def _rank(
    conditions: _Conditions, values: Sequence[Mapping[str, frozenset[str]]], verdicts: Sequence[str]
) -> tuple[int, int, int, int, int, str]:
    """The order of proposals, the best first: many false positives, nothing else, few values."""
    each = _proposal(conditions, values, verdicts)
    size = sum(len(one.values) for one in conditions)
    return each.true, -each.false, each.unjudged, -len(conditions), size, each.where


def _name(column: str) -> str:
    """A column as a query names it."""
    return column if column.isidentifier() else f"['{column}']"
