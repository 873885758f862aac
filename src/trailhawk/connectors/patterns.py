"""Whether an event fits a pattern of an EventBridge rule ("Event patterns", its user guide)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from trailhawk.connectors.policy import Answer, like

_MOST_DEPTH: Final = 20


def fits(pattern: str, event: Mapping[str, object]) -> Answer:
    """Whether an event of which only some is known fits; `perhaps` where the rest, or an operator that is not
    read here, decides. A text that is no pattern fits nothing."""
    try:
        value = json.loads(pattern) if pattern else None
    except (ValueError, RecursionError):
        return "no"
    return _object(value, event, _MOST_DEPTH) if isinstance(value, dict) else "no"


def _object(pattern: Mapping[str, object], event: Mapping[str, object], depth: int) -> Answer:
    return _all(_member(name, wanted, event, depth) for name, wanted in pattern.items())


def _member(name: str, wanted: object, event: Mapping[str, object], depth: int) -> Answer:
    if name not in event or not depth:  # not known, or "$or"
        return "perhaps"
    value = event[name]
    if isinstance(wanted, dict):
        return _object(wanted, value, depth - 1) if isinstance(value, dict) else "no"
    values = value if isinstance(value, list) else [value]
    choices = wanted if isinstance(wanted, list) else []
    return _any(_value(choice, each) for choice in choices for each in values)


def _value(choice: object, value: object) -> Answer:
    if not isinstance(choice, dict) or len(choice) != 1:
        return "yes" if choice == value else "no"
    ((operator, operand),) = choice.items()
    if operator == "exists":
        return "yes" if operand is True else "no"
    if operator == "anything-but" and isinstance(operand, str | list):
        refused = operand if isinstance(operand, list) else [operand]
        return "no" if value in refused else "yes"
    if not isinstance(operand, str) or not isinstance(value, str):
        return "perhaps"
    match operator:
        case "prefix":
            said = value.startswith(operand)
        case "suffix":
            said = value.endswith(operand)
        case "equals-ignore-case":
            said = value.lower() == operand.lower()
        case "wildcard":
            said = like(operand, value, one="")
        case _:
            return "perhaps"
    return "yes" if said else "no"


def _all(answers: Iterable[Answer]) -> Answer:
    found = set(answers)
    return "no" if "no" in found else "perhaps" if "perhaps" in found else "yes"


def _any(answers: Iterable[Answer]) -> Answer:
    found = set(answers)
    return "yes" if "yes" in found else "perhaps" if "perhaps" in found else "no"
