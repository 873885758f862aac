"""Automation rules from files: YAML, and JSON as Sentinel exports it (a template, a list, one rule)."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from trailhawk.documents import Loader
from trailhawk.errors import TrailhawkError, UsageError
from trailhawk.respond.automation import (
    ADDED,
    CHANGED,
    MOST_ACTIONS,
    MOST_CONDITIONS,
    MOST_RULES,
    PROPERTIES,
    RULE_PROPERTIES,
    Action,
    Added,
    AddTask,
    Boolean,
    Changed,
    Condition,
    Details,
    Items,
    Modify,
    Operator,
    Property,
    Rule,
    RunPlaybook,
    Trigger,
    inside,
)
from trailhawk.respond.changing import Setting, setting

MOST_BYTES: Final = 4 << 20
_DEPTH: Final = 10
_TYPE: Final = "automationrules"
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WORKFLOW = re.compile(r"(?i)workflows/([^/'\")\]]+)")
_NAMESPACE = uuid.UUID("4e1bd8f5-0b7b-5d5e-9f07-6f3b0a5b8b61")


class AutomationError(TrailhawkError):
    """A file of automation rules that cannot be meant."""

    kind = "automation rule"


# --- the shape of a file -----------------------------------------------------------------------------------


class _Named(msgspec.Struct, rename="camel", frozen=True):
    label_name: str


class _Owner(msgspec.Struct, rename="camel", frozen=True):
    assigned_to: str | None = None
    email: str | None = None
    user_principal_name: str | None = None
    object_id: str | None = None


class _Configuration(msgspec.Struct, rename="camel", frozen=True):
    severity: str | None = None
    status: str | None = None
    owner: _Owner | str | None = None
    labels: tuple[_Named | str, ...] | None = None
    classification: str | None = None
    classification_reason: str | None = None
    classification_comment: str | None = None
    logic_app_resource_id: str | None = None
    tenant_id: str | None = None
    playbook: str | None = None
    title: str | None = None
    description: str | None = None


class _Action(msgspec.Struct, rename="camel", frozen=True):
    action_type: str
    order: int = 1
    action_configuration: _Configuration = _Configuration()


class _Condition(msgspec.Struct, rename="camel", frozen=True):
    condition_type: str
    condition_properties: dict[str, Any]


class _Logic(msgspec.Struct, rename="camel", frozen=True):
    triggers_on: str
    triggers_when: str
    is_enabled: bool = True
    expiration_time_utc: str | None = None
    conditions: tuple[_Condition, ...] | None = None


class _Rule(msgspec.Struct, rename="camel", frozen=True):
    display_name: str
    triggering_logic: _Logic
    actions: tuple[_Action, ...]
    order: int = 1
    id: str = ""


# --- reading -----------------------------------------------------------------------------------------------


def load_rules(folder: Path, *, fault: Callable[[AutomationError], None] | None = None) -> tuple[Rule, ...]:
    """The rules of a folder in the order in which they run. AutomationError for a file that holds none and
    for two rules of one id; with `fault` it is told of them, and they are left out."""
    found: dict[str, Rule] = {}

    def tell(error: AutomationError) -> None:
        if fault is None:
            raise error
        fault(error)

    for path in sorted(each for each in folder.glob("*") if each.suffix in (".yaml", ".yml", ".json")):
        try:
            rules = read_rules(path)
        except AutomationError as error:
            tell(error)
            continue
        for rule in rules:
            if rule.id in found:
                tell(AutomationError(f"{path.name}: the id {rule.id} is that of {found[rule.id].source} too"))
            else:
                found[rule.id] = rule
    order = sorted(found.values(), key=lambda rule: (rule.order, rule.name.lower(), rule.id))
    if len(order) > MOST_RULES:
        tell(AutomationError(f"{len(order)} automation rules: {MOST_RULES} at most, the first are kept"))
    return tuple(order[:MOST_RULES])


def read_rules(path: Path) -> tuple[Rule, ...]:
    """The rules of a file; AutomationError names it and the bad member."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise AutomationError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise AutomationError(f"{path} is longer than {MOST_BYTES:,} bytes")
    return parse_rules(content, source=path.name)


def parse_rules(content: bytes, *, source: str) -> tuple[Rule, ...]:
    """The rules in this text; YAML or, where the source ends in .json, JSON."""
    try:
        if source.lower().endswith(".json"):
            document = json.loads(content.decode("utf-8-sig"))
        else:
            document = _plain(yaml.load(content, Loader=Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AutomationError(f"{source}: cannot be read: {' '.join(str(error).split())}") from None
    found = list(_documents(document, source))
    if not found:
        raise AutomationError(f"{source}: no automation rule in it")
    return tuple(_rule(each, source, place) for place, each in enumerate(found))


def _plain(value: object) -> object:
    """What YAML reads as a moment, as the text that it was."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime | date) else value


def _documents(document: object, source: str) -> Iterator[Mapping[str, object]]:
    """The rules of a template (`resources`), of an answer of the API (`value`), of a list, or the one."""
    if isinstance(document, list):
        for each in document:
            yield from _documents(each, source)
        return
    if not isinstance(document, dict):
        raise AutomationError(f"{source}: a rule is a mapping, found {type(document).__name__}")
    for name in ("resources", "value"):
        if isinstance(inner := document.get(name), list):
            for each in inner:
                if isinstance(each, dict) and _is_rule(each):
                    yield from _documents(each, source)
            return
    properties = document.get("properties")
    yield {**properties, "id": _id(document)} if isinstance(properties, dict) else document


def _is_rule(document: Mapping[str, object]) -> bool:
    return str(document.get("type") or _TYPE).lower().endswith(_TYPE)


def _id(document: Mapping[str, object]) -> str:
    """The guid in the resource's name or id; names in templates are expressions around it."""
    for name in ("name", "id"):
        if found := _GUID.findall(str(document.get(name) or "")):
            return str(found[-1]).lower()
    return ""


def _rule(document: Mapping[str, object], source: str, place: int) -> Rule:
    name = str(document.get("displayName") or "")[:100]
    where = f"{source}{f', rule {name}' if name else ''}"
    try:
        file = msgspec.convert(document, _Rule)
        found = _made(file, source, place)
        _check(found)
    except msgspec.ValidationError as error:
        raise AutomationError(f"{where}: {error}") from None
    except UsageError as error:
        raise AutomationError(f"{where}: {error.message}", hint=error.hint) from None
    return found


def _made(file: _Rule, source: str, place: int) -> Rule:
    logic, name = file.triggering_logic, " ".join(file.display_name.split())
    if not name or len(name) > 500:
        raise UsageError("displayName is 1 to 500 characters")
    actions = sorted(file.actions, key=lambda action: action.order)
    return Rule(
        id=file.id or str(uuid.uuid5(_NAMESPACE, f"{source}\n{place}")),
        name=name,
        order=file.order,
        enabled=logic.is_enabled,
        expires_at=_moment(logic.expiration_time_utc) if logic.expiration_time_utc else None,
        trigger=_trigger(logic),
        conditions=tuple(_condition(each, 1) for each in logic.conditions or ()),
        actions=tuple(map(_action, actions)),
        source=source,
    )


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"expirationTimeUtc '{text}' is no moment", hint="write 2026-12-31T00:00:00Z"
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _trigger(logic: _Logic) -> Trigger:
    asked = (logic.triggers_on.lower(), logic.triggers_when.lower())
    known = {
        ("incidents", "created"): Trigger.INCIDENT_CREATED,
        ("incidents", "updated"): Trigger.INCIDENT_UPDATED,
        ("alerts", "created"): Trigger.ALERT_CREATED,
    }
    if asked not in known:
        raise UsageError(
            f"there is no trigger {logic.triggers_on} {logic.triggers_when}",
            hint="there is Incidents Created, Incidents Updated, Alerts Created",
        )
    return known[asked]


# --- conditions --------------------------------------------------------------------------------------------


class _Property(msgspec.Struct, rename="camel", frozen=True):
    property_name: str
    property_values: tuple[str, ...] = ()
    operator: str = "Equals"


class _Changed(msgspec.Struct, rename="camel", frozen=True):
    property_name: str
    change_type: str | None = None
    operator: str | None = None
    property_values: tuple[str, ...] | None = None


class _ArrayChanged(msgspec.Struct, rename="camel", frozen=True):
    array_type: str
    change_type: str = "Added"


class _Array(msgspec.Struct, rename="camel", frozen=True):
    array_type: str
    item_conditions: tuple[_Condition, ...]
    array_condition_type: str = "AnyItem"


class _Boolean(msgspec.Struct, rename="camel", frozen=True):
    operator: str
    inner_conditions: tuple[_Condition, ...]


def _condition(file: _Condition, depth: int) -> Condition:
    if depth > _DEPTH:
        raise UsageError(f"conditions lie more than {_DEPTH} deep in each other")
    reader = _READERS.get(file.condition_type.lower())
    if reader is None:
        raise UsageError(f"there is no conditionType '{file.condition_type}'")
    return reader(file.condition_properties, depth)


def _property(members: Mapping[str, object], _depth: int) -> Condition:
    file = msgspec.convert(members, _Property)
    name = _known(PROPERTIES, file.property_name, "propertyName")
    values = file.property_values
    if not values:
        raise UsageError(f"the condition on {name} has no propertyValues")
    if name in RULE_PROPERTIES:
        values = tuple(value.rstrip("'\")]").rsplit("/", 1)[-1] for value in values)
    return Property(name, _operator(file.operator), values)


def _changed(members: Mapping[str, object], _depth: int) -> Condition:
    file = msgspec.convert(members, _Changed)
    name = _known(CHANGED, file.property_name, "propertyName")
    end = (
        _known({"ChangedFrom": 0, "ChangedTo": 0}, file.change_type, "changeType") if file.change_type else ""
    )
    values = file.property_values or ()
    if end and not values:
        raise UsageError(f"{name} {end} has no propertyValues")
    if values and not end:
        raise UsageError(f"the condition on {name} has propertyValues and no changeType")
    return Changed(name, end, _operator(file.operator or "Equals"), values)


def _array_changed(members: Mapping[str, object], _depth: int) -> Condition:
    file = msgspec.convert(members, _ArrayChanged)
    _known({"Added": 0}, file.change_type, "changeType")
    return Added(_known(ADDED, file.array_type, "arrayType"))


def _array(members: Mapping[str, object], depth: int) -> Condition:
    file = msgspec.convert(members, _Array)
    kinds = {"CustomDetails": 0, "CustomDetailValues": 0, "IncidentLabels": 0}
    name = _known(kinds, file.array_type, "arrayType")
    every = (
        _known({"AnyItem": 0, "AllItems": 0}, file.array_condition_type, "arrayConditionType") == "AllItems"
    )
    items = tuple(_condition(each, depth + 1) for each in file.item_conditions)
    if not items:
        raise UsageError(f"the condition on {name} has no itemConditions")
    allowed = ("IncidentLabel",) if name == "IncidentLabels" else ("IncidentCustomDetailsValue",)
    if name == "CustomDetails":
        if every:
            raise UsageError("CustomDetails goes with AnyItem")
        _only(items, (*allowed, "IncidentCustomDetailsKey"), name, nested="CustomDetailValues")
        return Details(items)
    _only(items, allowed, name, nested="")
    if name == "CustomDetailValues" and depth == 1:
        raise UsageError("CustomDetailValues lies inside of CustomDetails")
    return Items(name, every, items)


def _only(items: Iterable[Condition], names: Iterable[str], where: str, *, nested: str) -> None:
    for each in items:
        if isinstance(each, Boolean):
            _only(each.inner, names, where, nested=nested)
        elif not (
            (isinstance(each, Property) and each.name in names)
            or (isinstance(each, Items) and each.name == nested)
        ):
            raise UsageError(f"{where} cannot hold a condition on {each}")


def _boolean(members: Mapping[str, object], depth: int) -> Condition:
    file = msgspec.convert(members, _Boolean)
    operator = _known({"And": 0, "Or": 0}, file.operator, "operator")
    inner = tuple(_condition(each, depth + 1) for each in file.inner_conditions)
    if not inner:
        raise UsageError("a Boolean condition has no innerConditions")
    return Boolean(operator == "And", inner)


_READERS: Final[Mapping[str, Callable[[Mapping[str, object], int], Condition]]] = {
    "property": _property,
    "propertychanged": _changed,
    "propertyarraychanged": _array_changed,
    "propertyarray": _array,
    "boolean": _boolean,
}


def _known(names: Iterable[str], text: str, what: str) -> str:
    """The name as it is written here, however the file writes it."""
    found = next((name for name in names if name.lower() == text.lower()), None)
    if found is None:
        raise UsageError(f"there is no {what} '{text}'", hint=f"there is {', '.join(names)}")
    return found


def _operator(text: str) -> Operator:
    return _enum(Operator, text, "operator")


_E = TypeVar("_E", bound=Enum)


def _enum(kind: type[_E], text: str, what: str) -> _E:
    return kind(_known([str(each.value) for each in kind], text, what))


# --- actions -----------------------------------------------------------------------------------------------


def _action(file: _Action) -> Action:
    asked, kind = file.action_configuration, file.action_type.lower()
    if kind == "modifyproperties":
        return Modify(_setting(asked))
    if kind == "runplaybook":
        return RunPlaybook(_playbook(asked))
    if kind == "addincidenttask":
        if not (asked.title or "").strip():
            raise UsageError("a task has no title")
        return AddTask(" ".join((asked.title or "").split()), (asked.description or "").strip())
    raise UsageError(
        f"there is no actionType '{file.action_type}'",
        hint="there is ModifyProperties, RunPlaybook, AddIncidentTask",
    )


def _setting(asked: _Configuration) -> Setting:
    found = setting(
        severity=asked.severity,
        status=asked.status,
        owner=_owner(asked.owner),
        labels=tuple(each if isinstance(each, str) else each.label_name for each in asked.labels or ()),
        classification=asked.classification,
        reason=asked.classification_reason,
        comment=asked.classification_comment,
    )
    if found == Setting():
        raise UsageError("ModifyProperties sets nothing")
    return found


def _owner(asked: _Owner | str | None) -> str | None:
    """Whom an owner means; of a person of Entra ID alone the object id is known. Nothing is nobody's."""
    if asked is None or isinstance(asked, str):
        return asked
    return asked.user_principal_name or asked.email or asked.assigned_to or asked.object_id or ""


def _playbook(asked: _Configuration) -> str:
    """The playbook's name; of a Logic App's id the last part."""
    text = (asked.playbook or asked.logic_app_resource_id or "").strip()
    if not text:
        raise UsageError("RunPlaybook names no playbook", hint="write playbook or logicAppResourceId")
    found = _WORKFLOW.findall(text)
    return str(found[-1]) if found else text


# --- what goes together ------------------------------------------------------------------------------------


def _check(rule: Rule) -> None:
    every = list(_all(rule.conditions))
    if len(every) > MOST_CONDITIONS:
        raise UsageError(f"{len(every)} conditions", hint=f"{MOST_CONDITIONS} at most")
    if not 1 <= len(rule.actions) <= MOST_ACTIONS:
        raise UsageError(f"{len(rule.actions)} actions", hint=f"1 to {MOST_ACTIONS}")
    if rule.trigger is not Trigger.INCIDENT_UPDATED:
        for each in every:
            if isinstance(each, Changed | Added) or _asks_who(each):
                raise UsageError(f"'{each}' is asked when an incident is updated only")
    if rule.trigger is Trigger.ALERT_CREATED:
        if any(not isinstance(each, Property) or each.name not in RULE_PROPERTIES for each in every):
            raise UsageError("a rule for alerts has conditions on AlertAnalyticRuleIds only")
        if any(not isinstance(each, RunPlaybook) for each in rule.actions):
            raise UsageError("a rule for alerts runs playbooks, nothing else")


def _asks_who(condition: Condition) -> bool:
    return isinstance(condition, Property) and condition.name == "IncidentUpdatedBySource"


def _all(conditions: Iterable[Condition]) -> Iterator[Condition]:
    for each in conditions:
        yield each
        yield from _all(inside(each))
