"""Policies of AWS: the statements that a connector needs, and what a resource's policy says of somebody.

Only as much of the policy language as queues and buckets of logs use ("Grammar of the IAM JSON policy
language", IAM user guide): it answers yes, no, or that conditions decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

Statement = Mapping[str, object]
Answer = Literal["yes", "no", "perhaps"]

_SOURCE_ARN: Final = {"arnlike", "arnequals", "stringlike", "stringequals"}


def allow(
    actions: Sequence[str], resources: Sequence[str], *, principal: object = None, condition: object = None
) -> Statement:
    """A statement that allows something."""
    said: dict[str, object] = {"Effect": "Allow"}
    if principal is not None:
        said["Principal"] = principal
    said["Action"] = list(actions)
    if resources:
        said["Resource"] = list(resources)
    if condition is not None:
        said["Condition"] = condition
    return said


def document(*statements: Statement) -> dict[str, object]:
    """A policy of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def statements(policy: str) -> list[Statement]:
    """The statements of a policy's text; none for what is no policy."""
    try:
        value = json.loads(policy) if policy else {}
    except json.JSONDecodeError:
        return []
    found = value.get("Statement", []) if isinstance(value, dict) else []
    return [each for each in _many(found) if isinstance(each, dict)]


def may_send(policy: str, *, service: str, action: str, source: str) -> Answer:
    """Whether a resource's policy lets a service of AWS do something for the resource `source` (an ARN)."""
    answer: Answer = "no"
    for statement in statements(policy):
        if not _is_for(statement, service) or not _matches(statement.get("Action"), action):
            continue
        applies = _conditions(statement, source)
        if statement.get("Effect") == "Deny":
            if applies == "yes":
                return "no"
            answer = "perhaps" if applies == "perhaps" and answer == "yes" else answer
        elif applies == "yes":
            answer = "yes"
        elif applies == "perhaps" and answer == "no":
            answer = "perhaps"
    return answer


def denials(policy: str, action: str) -> list[Statement]:
    """The statements that may forbid an action to somebody."""
    return [
        statement
        for statement in statements(policy)
        if statement.get("Effect") == "Deny" and _matches(statement.get("Action"), action)
    ]


def sources(policy: str) -> list[str]:
    """The ARNs that conditions on `aws:SourceArn` name."""
    return [
        text
        for statement in statements(policy)
        for operator, key, values in _tests(statement)
        if key == "aws:sourcearn" and operator in _SOURCE_ARN
        for text in values
    ]


def _is_for(statement: Statement, service: str) -> bool:
    principal = statement.get("Principal")
    if principal == "*":
        return True
    if not isinstance(principal, dict):
        return False
    return service in _many(principal.get("Service")) or "*" in _many(principal.get("AWS"))


def _matches(patterns: object, action: str) -> bool:
    return any(fnmatchcase(action.lower(), str(pattern).lower()) for pattern in _many(patterns))


def _conditions(statement: Statement, source: str) -> Answer:
    """Whether the conditions hold for a source; `perhaps` where there are others."""
    answer: Answer = "yes"
    for operator, key, values in _tests(statement):
        if key == "aws:sourcearn" and operator in _SOURCE_ARN:
            if not any(fnmatchcase(source, value) for value in values):
                return "no"
        elif key != "aws:sourceaccount":  # of S3 and SNS it always comes with the ARN
            answer = "perhaps"
    return answer


def _tests(statement: Statement) -> Iterator[tuple[str, str, list[str]]]:
    condition = statement.get("Condition")
    for operator, keys in condition.items() if isinstance(condition, dict) else ():
        for key, values in keys.items() if isinstance(keys, dict) else ():
            yield str(operator).lower(), str(key).lower(), [str(value) for value in _many(values)]


def _many(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]
