"""Sigma correlations as one query: rows of some rules counted in every stretch of time, by what they share.

A stretch slides in steps of a sixtieth of the timespan, and is one step longer, so that no stretch of the
timespan is missed. The events told are those of all stretches that fulfil the condition, each once.
Reference: https://sigmahq.io/docs/meta/correlations.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from sigma.correlations import (
    SigmaCorrelationCondition,
    SigmaCorrelationConditionOperator,
    SigmaCorrelationRule,
    SigmaCorrelationType,
)

from trailhawk.detect.sigma.fields import LogSource
from trailhawk.errors import RuleError
from trailhawk.kql.printer import quoted

STEPS = 60
MIN_EVERY, MAX_EVERY = 300, 3600
MAX_PERIOD = 14 * 86_400
MAX_RULES, MAX_KEYS = 20, 10
"""Steps in a timespan, seconds between runs and of a look back, rules and fields of a correlation."""

_COUNTS = {
    SigmaCorrelationType.EVENT_COUNT: "sum(Rows)",
    SigmaCorrelationType.VALUE_COUNT: "count_distinct(Value)",
    SigmaCorrelationType.TEMPORAL: "count_distinct(Value)",
}
_OPERATORS = {
    SigmaCorrelationConditionOperator.GT: ">",
    SigmaCorrelationConditionOperator.GTE: ">=",
}


def correlation_document(
    rule: SigmaCorrelationRule, source: LogSource, conditions: Mapping[str, str]
) -> dict[str, object]:
    """Timing, query and columns of a correlation over these rules' conditions, by their reference."""
    count = _COUNTS.get(rule.type)
    if count is None:
        _refuse(f"correlations of type {rule.type.name.lower()} are not translated")
    if len(conditions) > MAX_RULES or len(rule.group_by or ()) > MAX_KEYS:
        _refuse(f"more than {MAX_RULES} rules or {MAX_KEYS} fields")
    condition = rule.condition
    if not isinstance(condition, SigmaCorrelationCondition):
        _refuse("a condition over names of rules is not translated")
    operator = _OPERATORS.get(condition.op)
    if operator is None:
        _refuse(
            f"'{condition.op.name.lower()}' would hold wherever too little is stored; "
            "only gt and gte are translated"
        )
    span = rule.timespan.seconds
    step = max(1, span // STEPS)
    steps = -(-span // step)
    every = min(max(span, MIN_EVERY), MAX_EVERY)
    period = every + span + 2 * step
    if period > MAX_PERIOD:
        _refuse(f"a timespan of {rule.timespan.spec} is longer than a rule can look back")
    keys = [f"Key{place}" for place, _ in enumerate(rule.group_by or (), 1)]
    parts = [
        f"({source.view} | where {found}\n    | extend {_columns(rule, source, reference, keys)})"
        for reference, found in conditions.items()
    ]
    wanted = "| where isnotempty(Value)\n  " if rule.type is SigmaCorrelationType.VALUE_COUNT else ""
    listed = ", ".join(keys)
    by = f" by {listed}" if keys else ""
    shared = ", ".join([*keys, "Step"])
    people = ", ".join(f"{name} = make_set({name}, 100)" for name in source.who)
    query = f"""let Found = materialize(union {", ".join(parts)}
  {wanted}| extend Step = bin(TimeGenerated, {step}s));
let Full = Found
  | summarize Rows = count(), News = countif(TimeGenerated >= ago({every}s))
      by {", ".join([*keys, "Value", "Step"])}
  | mv-expand Later = range(0, {steps}, 1) to typeof(long)
  | extend Stretch = Step + Later * {step}s
  | where Stretch >= bin(ago({every}s), {step}s) and Stretch < now()
  | summarize Count = {count}, News = sumif(News, Later == 0) by {", ".join([*keys, "Stretch"])}
  | where Count {operator} {condition.count} and News > 0
  | mv-expand Earlier = range(0, {steps}, 1) to typeof(long)
  | extend Step = Stretch - Earlier * {step}s
  | summarize Count = max(Count) by {shared};
Found
| join kind=inner Full on {shared}
| summarize StartTime = min(TimeGenerated), EndTime = max(TimeGenerated), Events = count(),
    Count = max(Count), {", ".join(source.summary)}, {people}{by}"""
    return {
        "queryFrequency": f"{every}s",
        "queryPeriod": f"{period}s",
        "query": query,
        "title": f"for {{{{{keys[0]}}}}}" if keys else "",
        "details": {**source.details, "Count": "Count"},
    }


def _columns(rule: SigmaCorrelationRule, source: LogSource, reference: str, keys: list[str]) -> str:
    """The columns by which the rows of one rule are counted."""
    columns = [
        f"{key} = {source.expression(_field(rule, name, reference))}"
        for key, name in zip(keys, rule.group_by or (), strict=True)
    ]
    if rule.type is SigmaCorrelationType.VALUE_COUNT:
        condition = rule.condition
        fields = condition.fieldref if isinstance(condition, SigmaCorrelationCondition) else None
        if not fields:
            _refuse("a value_count needs the field whose values are counted")
        names = [fields] if isinstance(fields, str) else fields
        values = [source.expression(_field(rule, name, reference)) for name in names]
        joined = f"strcat_delim({quoted(chr(1))}, {', '.join(values)})"
        columns.append(f"Value = {values[0] if len(values) == 1 else joined}")
    else:
        columns.append(f"Value = {quoted(reference)}")
    return ", ".join(columns)


def _field(rule: SigmaCorrelationRule, name: str, reference: str) -> str:
    """A field, or the one that an alias stands for in this rule."""
    alias = rule.aliases.aliases.get(name)
    if alias is None:
        return name
    for each, field in alias.mapping.items():
        if each.reference == reference:
            return field
    raise RuleError(f"the alias '{name}' names no field of the rule '{reference}'")


def _refuse(reason: str) -> NoReturn:
    raise RuleError(reason)
