"""Policies of AWS: the statements that a connector needs, and what a resource's policy says of somebody.

Only as much of the policy language as queues and buckets of logs use ("Grammar of the IAM JSON policy
language", IAM user guide): it answers yes, no, or that conditions decide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
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
    except (ValueError, RecursionError):
        return []
    found = value.get("Statement", []) if isinstance(value, dict) else []
    return [each for each in _many(found) if isinstance(each, dict)]


def may_send(
    policy: str, *, service: str, action: str, source: str, resource: str = "", account: str = ""
) -> Answer:
    """Whether a resource's policy lets a service of AWS do something for the resource `source` (an ARN).

    `resource` is the one that has the policy. `account` owns the source; '' where that is not known, of which
    a condition on it makes `perhaps`, as does an empty source.
    """
    known = {
        "aws:sourcearn": source,
        "aws:sourceaccount": account,
        "aws:securetransport": "true",
        "aws:principalisawsservice": "true",
        "aws:principalservicename": service,
    }
    said = _answers(policy, principals={service}, action=action, resource=resource, known=known)
    allowed, denied = said["Allow"], said["Deny"]
    if "yes" in denied or not allowed:
        return "no"
    return "yes" if "yes" in allowed and not denied else "perhaps"


def denials(
    policy: str, *, action: str, resource: str = "", principals: AbstractSet[str] = frozenset()
) -> list[tuple[Statement, Answer]]:
    """The statements that forbid an action, or may, to somebody who is known by these names.

    The transport is taken as encrypted: that statement stands in most buckets' policies.
    """
    found: list[tuple[Statement, Answer]] = []
    for statement in statements(policy):
        if statement.get("Effect") == "Deny" and _is_about(statement, principals, action, resource):
            answer = _conditions(statement, {"aws:securetransport": "true"})
            if answer != "no":
                found.append((statement, answer))
    return found


def sources(policy: str) -> list[str]:
    """The ARNs that conditions on `aws:SourceArn` name."""
    return [
        text
        for statement in statements(policy)
        for operator, key, values in _tests(statement)
        if key == "aws:sourcearn" and operator in _SOURCE_ARN
        for text in values
    ]


def _answers(
    policy: str, *, principals: AbstractSet[str], action: str, resource: str, known: Mapping[str, str]
) -> dict[str, set[Answer]]:
    """What the statements about this say by effect, leaving out those whose conditions do not hold."""
    said: dict[str, set[Answer]] = {"Allow": set(), "Deny": set()}
    for statement in statements(policy):
        effect = said.get(str(statement.get("Effect")))
        if effect is not None and _is_about(statement, principals, action, resource):
            effect.add(_conditions(statement, known))
    return {effect: answers - {"no"} for effect, answers in said.items()}


def _is_about(statement: Statement, principals: AbstractSet[str], action: str, resource: str) -> bool:
    return (
        _names_one(statement, "Principal", lambda value: _is_one_of(value, principals))
        and _names_one(statement, "Action", lambda value: _matches(value, action.lower(), lower=True))
        and (
            not resource
            or not {"Resource", "NotResource"} & set(statement)
            or _names_one(statement, "Resource", lambda value: _matches(value, resource))
        )
    )


def _names_one(statement: Statement, element: str, matches: Callable[[object], bool]) -> bool:
    """Whether an element of a statement names it, or its opposite does not."""
    if f"Not{element}" in statement:
        return not matches(statement[f"Not{element}"])
    return matches(statement.get(element))


def _is_one_of(principal: object, names: AbstractSet[str]) -> bool:
    values = principal.values() if isinstance(principal, dict) else [principal]
    named = {str(name) for value in values for name in _many(value)}
    return "*" in named or bool(named & names)


def _matches(patterns: object, text: str, *, lower: bool = False) -> bool:
    return any(like(str(each).lower() if lower else str(each), text) for each in _many(patterns))


def like(pattern: str, text: str, *, one: str = "?") -> bool:
    """Whether a text fits a pattern with * and ?, of which alone the policy language knows.

    `one` is what stands for one character, '' for none. Piece by piece, so that no pattern takes long.
    """
    pieces = pattern.split("*")
    regexes = ("".join("." if part == one else re.escape(part) for part in each) for each in pieces)
    tests = [re.compile(regex, re.DOTALL) for regex in regexes]
    if len(pieces) == 1:
        return tests[0].fullmatch(text) is not None
    place = 0
    for number, test in enumerate(tests[:-1]):
        found = test.search(text, place) if number else test.match(text)
        if found is None:
            return False
        place = found.end()
    last = len(text) - len(pieces[-1])
    return last >= place and tests[-1].match(text, last) is not None


def _conditions(statement: Statement, known: Mapping[str, str]) -> Answer:
    """Whether the conditions hold; `perhaps` where they are about what is not known."""
    answer: Answer = "yes"
    for operator, key, values in _tests(statement):
        test = _TESTS.get(operator.removesuffix("ifexists").replace("not", ""))
        if test is None or not known.get(key):
            answer = "perhaps"
        elif any(test(value, known[key]) for value in values) == ("not" in operator):
            return "no"
    return answer


# By operator, in small letters and without "Not" and "IfExists". Only the ARN and Like ones know wildcards.
_TESTS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "stringequals": str.__eq__,
    "stringequalsignorecase": lambda value, text: value.lower() == text.lower(),
    "stringlike": like,
    "arnequals": like,
    "arnlike": like,
    "bool": lambda value, text: value.lower() == text,
}


def _tests(statement: Statement) -> Iterator[tuple[str, str, list[str]]]:
    condition = statement.get("Condition")
    for operator, keys in condition.items() if isinstance(condition, dict) else ():
        for key, values in keys.items() if isinstance(keys, dict) else ():
            yield str(operator).lower(), str(key).lower(), [str(value) for value in _many(values)]


def _many(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]
