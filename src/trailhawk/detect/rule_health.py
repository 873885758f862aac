"""What SentinelHealth is told of rules: a row of each run of the schedule, in Sentinel's words.

https://learn.microsoft.com/azure/sentinel/health-table-reference
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from trailhawk.connectors.sentinel_health import ANALYTICS_RULE, Record
from trailhawk.detect.alert import most_alerts
from trailhawk.detect.rule import Aggregation, Rule, RuleKind
from trailhawk.detect.run import Run
from trailhawk.detect.schedule import WindowState
from trailhawk.detect.scheduler import Round
from trailhawk.words import counted

_NAMESPACE: Final = uuid.UUID("0f3d3f57-5a2e-5d0c-8d5e-6f0b0b1f2a77")


def of_round(done: Round, rules: Iterable[Rule]) -> list[Record]:
    """A row for each query that the round ran, in order; of windows that were skipped there is none."""
    by_id = {rule.id: rule for rule in rules}
    raised = Counter((alert.rule_id, alert.at) for alert in done.alerts)
    disabled = {rule.id for rule in done.disabled}
    last = {each.window.rule_id: each for each in (*done.runs, *done.postponed)}
    return [
        _record(
            by_id[each.window.rule_id],
            each,
            alerts=raised[each.window.rule_id, each.window.at],
            is_disabled=each.window.rule_id in disabled and last.get(each.window.rule_id) is each,
        )
        for each in (*done.runs, *done.postponed)
        if each.began is not None
    ]


def _record(rule: Rule, each: Run, *, alerts: int, is_disabled: bool) -> Record:
    issues = _issues(rule, each)
    status, reason = "Success", ""
    if each.state is WindowState.FAILED:
        status, reason = "Failure", each.reason.partition(":")[0]
    elif each.state is WindowState.SKIPPED:
        status, reason = "Partial success", "not run"
    elif issues:
        status, reason = "Partial success", "alerts summed up"
    described = (
        each.reason or "; ".join(issues) or f"{counted(each.rows, 'row')}, {counted(alerts, 'new alert')}"
    )
    return Record(
        operation="NRT analytics rule run" if rule.kind is RuleKind.NRT else "Scheduled analytics rule run",
        name=rule.name,
        id=rule.id,
        type=ANALYTICS_RULE,
        kind=rule.kind.value,
        status=status,
        reason=reason,
        description=f"{described}; the rule is disabled" if is_disabled else described,
        properties=_properties(rule, each, alerts, issues),
    )


def _issues(rule: Rule, each: Run) -> list[str]:
    """What a run that went well could not do."""
    if rule.aggregation is Aggregation.PER_RESULT and each.rows > most_alerts(rule):
        return [f"{each.rows} rows: the last alert sums up those that have none of their own"]
    return []


def _properties(rule: Rule, each: Run, alerts: int, issues: list[str]) -> Mapping[str, object]:
    """Sentinel's extended properties of a rule's run, then the window and what else is ours.

    QueryStartTimeUTC and QueryEndTimeUTC are when the query began and ended.
    """
    assert each.began is not None
    return {
        "RuleId": rule.id,
        "AlertsGeneratedAmount": alerts,
        "QueryResultAmount": each.rows,
        "EntitiesGeneratedAmount": sum(len(alert.entities) for alert in each.alerts),
        "QueryStartTimeUTC": _moment(each.began),
        "QueryEndTimeUTC": _moment(each.began + timedelta(seconds=each.seconds)),
        "QueryFrequency": _span(rule.frequency),
        "QueryPeriod": _span(rule.period),
        "TriggerType": "NrtRun" if rule.kind is RuleKind.NRT else "Scheduled",
        "TriggerOperator": rule.trigger.value,
        "TriggerThreshold": rule.threshold,
        "AggregationKind": rule.aggregation.value,
        "SuppressionEnabled": str(rule.suppression is not None),
        "SuppressionDuration": _span(rule.suppression or timedelta(0)),
        "CorrelationId": str(uuid.uuid5(_NAMESPACE, f"{rule.id}\n{each.window.at.isoformat()}")),
        "Issues": "; ".join(issues),
        "WindowStartUTC": _moment(each.window.start),
        "WindowEndUTC": _moment(each.window.at),
        "Milliseconds": round(each.seconds * 1000, 1),
        "RowsExcepted": sum(len(taken.places) for taken in each.taken),
    }


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _span(span: timedelta) -> str:
    """A span as Sentinel writes it: 01:00:00, 14.00:00:00."""
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02}:{minutes:02}:{seconds:02}"
    return f"{days}.{clock}" if days else clock
