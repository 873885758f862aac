"""Rules and hunts read from files: Sentinel's YAML as it is published, and ARM templates."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, get_args

import msgspec
import yaml

from trailhawk.detect import arm
from trailhawk.detect.rule import (
    MAX_ENTITY_MAPPINGS,
    MAX_PERIOD,
    MIN_FREQUENCY,
    Aggregation,
    AlertDetails,
    EntityMapping,
    Expectation,
    FieldMapping,
    Grouping,
    Matching,
    Rule,
    RuleKind,
    RuleTest,
    Severity,
    Trigger,
)
from trailhawk.documents import Loader
from trailhawk.errors import RuleError

_TRIGGERS = {
    "gt": Trigger.GREATER,
    "lt": Trigger.LESS,
    "eq": Trigger.EQUAL,
    "ne": Trigger.NOT_EQUAL,
} | {trigger.value.lower(): trigger for trigger in Trigger}


# --- durations ---------------------------------------------------------------------------------------------

_SHORT = re.compile(r"(?i)(\d+)\s*(d(?:ays?)?|h(?:(?:ou)?rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)")
_ISO = re.compile(r"(?i)P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def duration(text: str) -> timedelta:
    """A time span as published rules write it: `5m`, `1h`, `14d`, `PT5M`, `P14D`. ValueError otherwise."""
    text = text.strip()
    if short := _SHORT.fullmatch(text):
        return timedelta(**{_UNITS[short[2][0].lower()]: int(short[1])})
    iso = _ISO.fullmatch(text)
    if iso is None or not any(iso.groups()):
        raise ValueError(f"'{text}' is no duration; write 5m, 1h, 14d or PT5M, PT1H, P14D")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in iso.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


# --- the file ----------------------------------------------------------------------------------------------


class _Fields(msgspec.Struct, rename="camel", frozen=True):
    identifier: str
    column_name: str


class _Mapping(msgspec.Struct, rename="camel", frozen=True):
    entity_type: str
    field_mappings: list[_Fields] | None = None


class _EntityColumn(msgspec.Struct, rename="camel", frozen=True):
    column_name: str


class _Connector(msgspec.Struct, rename="camel", frozen=True):
    connector_id: str = ""
    data_types: list[str] | None = None


class _Property(msgspec.Struct, rename="camel", frozen=True):
    alert_property: str
    value: str


class _Details(msgspec.Struct, rename="camel", frozen=True):
    alert_display_name_format: str | None = None
    alert_description_format: str | None = None
    alert_severity_column_name: str | None = None
    alert_tactics_column_name: str | None = None
    alert_dynamic_properties: list[_Property] | None = None


class _EventGrouping(msgspec.Struct, rename="camel", frozen=True):
    aggregation_kind: str = "SingleAlert"


class _Grouping(msgspec.Struct, rename="camel", frozen=True):
    enabled: bool = False
    reopen_closed_incident: bool = False
    lookback_duration: str = "PT5H"
    matching_method: str = "AllEntities"
    group_by_entities: list[str] | None = None
    group_by_alert_details: list[str] | None = None
    group_by_custom_details: list[str] | None = None


class _Incident(msgspec.Struct, rename="camel", frozen=True):
    create_incident: bool | None = None
    grouping_configuration: _Grouping | None = None


class _Expect(msgspec.Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    alerts: int | None = None
    rows: int | None = None
    severity: str | None = None
    entities: dict[str, list[str]] | None = None


class _Test(msgspec.Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    name: str
    expect: _Expect
    events: list[dict[str, object]] | None = None
    logs: dict[str, list[dict[str, object] | str]] | None = None
    rows: dict[str, list[dict[str, object]]] | None = None
    at: str | None = None


class _File(msgspec.Struct, rename="camel", frozen=True):
    id: str
    name: str
    query: str
    kind: str | None = None
    description: str | None = None
    severity: str | None = None
    query_frequency: str | None = None
    query_period: str | None = None
    trigger_operator: str | None = None
    trigger_threshold: int = 0
    tactics: list[str] | None = None
    relevant_techniques: list[str] | None = None
    required_data_connectors: list[_Connector] | None = None
    entity_mappings: list[_Mapping] | None = None
    sentinel_entities_mappings: list[_EntityColumn] | None = None
    custom_details: dict[str, str] | None = None
    alert_details_override: _Details | None = None
    event_grouping_settings: _EventGrouping | None = None
    suppression_enabled: bool = False
    suppression_duration: str | None = None
    incident_configuration: _Incident | None = None
    learning_period: str | int | None = None
    version: str | float = ""
    tags: list[object] | None = None
    tests: list[_Test] | None = None


_NAMESPACE = uuid.UUID("0b6f7a52-5f0e-5b9c-8a0e-2f6d3c1b7e44")
_SUFFIXES = (".yaml", ".yml", ".json")


def _members(kind: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, frozenset[str]]]:
    fields = msgspec.structs.fields(kind)
    yield path, frozenset(field.encode_name for field in fields)
    for field in fields:
        if inside := _struct(field.type):
            yield from _members(inside, f"{path}{field.encode_name}.")


def _struct(type_: object) -> type[msgspec.Struct] | None:
    """The struct in the type of a field, `list[_Mapping] | None`."""
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return type_
    return next(filter(None, map(_struct, get_args(type_))), None)


MEMBERS = dict(_members(_File))
"""What a rule or hunt may say that is read here, and below `entityMappings.` what a mapping may."""


class _Loader(Loader):
    """YAML as published rules mean it: a date in a sample event stays the text it is."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in Loader.yaml_implicit_resolvers.items()
}


# --- habits of published files -----------------------------------------------------------------------------

_TEXTS = ("id", "name", "description", "severity", "kind", "queryFrequency", "queryPeriod", "version")
_LISTS = ("tactics", "relevantTechniques", "tags")


def _tidied(document: Mapping[str, object]) -> dict[str, object]:
    """The document as if its author had been strict: members without a value are absent, a single value
    stands in its list, numbers that are names are text. The tests stay as they are."""
    found = {str(key): value if key == "tests" else _filled(value) for key, value in document.items()}
    found = {key: value for key, value in found.items() if value is not None}
    for name in _TEXTS:
        if isinstance(found.get(name), int | float):
            found[name] = str(found[name])
    for name in _LISTS:
        found |= {name: _listed(found[name])} if name in found else {}
    threshold = found.get("triggerThreshold")
    if isinstance(threshold, float) and threshold.is_integer():
        found["triggerThreshold"] = int(threshold)
    if isinstance(connectors := found.get("requiredDataConnectors"), list):
        found["requiredDataConnectors"] = [_connector(each) for each in connectors]
    if isinstance(details := found.get("customDetails"), list):  # one mapping an item
        found["customDetails"] = {k: v for each in details if isinstance(each, dict) for k, v in each.items()}
    return found


def _filled(value: object) -> object:
    """The value without what is empty inside, None where nothing is left."""
    if isinstance(value, dict):
        inside = {str(key): _filled(item) for key, item in value.items()}
        return {key: item for key, item in inside.items() if item is not None} or None
    if isinstance(value, list):
        return [found for item in value if not _is_half(item) and (found := _filled(item)) is not None]
    return value


def _is_half(item: object) -> bool:
    """Whether the item names an identifier or property and leaves what fills it empty."""
    return isinstance(item, dict) and any(item.get(name, "") is None for name in _FILLED_BY)


_FILLED_BY = ("columnName", "value")


def _listed(value: object) -> list[object]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value if isinstance(value, list) else [value]


def _connector(value: object) -> object:
    if isinstance(value, str):
        return {"connectorId": value}
    if isinstance(value, dict) and "dataTypes" in value:
        return {**value, "dataTypes": _listed(value["dataTypes"])}
    return value


# --- reading -----------------------------------------------------------------------------------------------


def parse_rule(text: str | bytes, *, source: str) -> Rule:
    """The rule in this YAML text; RuleError names the source and the bad member."""
    document, tree = _read_yaml(text, source)
    return replace(_typed(document, source, tree), query_line=_query_line(tree))


# The scheduler looks into the same files every minute: 0.2 s for those of the package. It walks them in turn,
# so that a bound below their number would never hit; 20 KB a file, 0.3 GB for as many as the bound.
@lru_cache(maxsize=16_384)
def parse_rules(text: str | bytes, *, source: str) -> tuple[Rule, ...]:
    """The rules of a file: one in YAML, any number in an ARM template. RuleError as `parse_rule`."""
    if not source.lower().endswith(".json"):
        return (parse_rule(text, source=source),)
    try:
        template = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RuleError(f"{source}: not JSON: {error}") from None
    found = list(arm.documents(template)) if isinstance(template, dict) else []
    if not found:
        raise RuleError(
            f"{source}: no rule or hunt in this template: neither Scheduled, NRT nor a hunting query"
        )
    return tuple(_typed(document, source) for document in found)


def _read_yaml(text: str | bytes, source: str) -> tuple[Mapping[str, object], yaml.Node | None]:
    """The document and its tree, which knows on which line of the text each member stands."""
    try:
        document, tree = _loaded(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        document, tree = _with_tabs(text)
        if document is None:
            raise RuleError(f"{source}: not YAML: {_told(error, text)}") from None
    if document is None:
        raise RuleError(f"{source}: an empty file")
    if not isinstance(document, dict):
        raise RuleError(f"{source}: a rule is a mapping, found {type(document).__name__}")
    if "query" not in document and "detection" in document:
        raise RuleError(f"{source}: a Sigma rule", hint="'trailhawk rules import-sigma' makes it one of ours")
    return document, tree


def _loaded(text: str | bytes) -> tuple[object, yaml.Node | None]:
    """What `yaml.load` reads, and the tree it makes that of; None and None where there is nothing."""
    loader = _Loader(text)
    try:
        tree = loader.get_single_node()
        return (None if tree is None else loader.construct_document(tree)), tree
    finally:
        loader.dispose()


def _told(error: yaml.YAMLError | UnicodeDecodeError, text: str | bytes) -> str:
    """What is wrong with a text that is no YAML, and on which line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and (mark := error.problem_mark):
        return f"{error.problem} at line {mark.line + 1}, column {mark.column + 1}"
    if isinstance(error, yaml.reader.ReaderError):  # its position is one in UTF-8
        before = (text.encode() if isinstance(text, str) else text)[: error.position]
        line = before.count(b"\n") + 1
        return f"{error.reason} at line {line}"
    return " ".join(str(error).split())


def _with_tabs(text: str | bytes) -> tuple[object, yaml.Node | None]:
    """The document of a text indented by tabs, which YAML refuses, and its tree; None for another fault."""
    lines = text if isinstance(text, str) else text.decode("utf-8", "replace")
    spaced = _INDENT.sub(lambda found: found[0].expandtabs(2), lines)
    try:
        return (None, None) if spaced == lines else _loaded(spaced)
    except yaml.YAMLError:
        return None, None


_INDENT = re.compile(r"^[ \t]*\t[ \t]*", re.MULTILINE)


_STEP: re.Pattern[str] = re.compile(r"\.(\w+)|\[(\d+)\]")


def _query_line(tree: yaml.Node | None) -> int:
    """The line that the text of the query begins on; 0 where its lines are not those of the file."""
    _, query = _member_node(tree, "query")
    if not isinstance(query, yaml.ScalarNode):
        return 0
    first, last = query.start_mark.line, query.end_mark.line
    if query.style == "|":
        return first + 2  # below the sign
    return first + 1 if first == last and "\n" not in query.value else 0


def _member_node(node: yaml.Node | None, name: str) -> tuple[yaml.Node | None, yaml.Node | None]:
    """Key and value of a member; where a merge (`<<`) brings another, the last, as that is the one read."""
    pairs = reversed(node.value) if isinstance(node, yaml.MappingNode) else ()
    return next(((key, value) for key, value in pairs if key.value == name), (None, None))


def _place(tree: yaml.Node | None, path: str) -> str:
    """`, line 4` of the member at such a path, `$.tests[0].expect`, as far as the file has it; or nothing.

    Lists are gone into where they are read as they stand: those of tests.
    """
    node, line = tree, None
    for name, index in _STEP.findall(path):
        if name and isinstance(node, yaml.MappingNode):
            key, node = _member_node(node, name)
            line = key.start_mark.line if key else line
        elif index and isinstance(node, yaml.SequenceNode) and path.startswith("$.tests["):
            node = node.value[int(index)]
            line = node.start_mark.line
        else:
            break
    return "" if line is None else f", line {line + 1}"


def _typed(document: Mapping[str, object], source: str, tree: yaml.Node | None = None) -> Rule:
    document = _tidied(document)
    try:
        file = msgspec.convert(document, _File, strict=False)
        return _rule(file, {str(key): value for key, value in document.items()}, source)
    except msgspec.ValidationError as error:
        path = str(error).partition(" - at `")[2]
        raise RuleError(f"{source}: {error}{_place(tree, path)}") from None
    except _BadMemberError as error:
        path = f"$.{error.member}"
        raise RuleError(f"{source}: {error.reason} - at `{path}`{_place(tree, path)}") from None


class _BadMemberError(Exception):
    def __init__(self, member: str, reason: str) -> None:
        self.member = member
        self.reason = reason


def _duration(text: str, member: str) -> timedelta:
    try:
        return duration(text)
    except ValueError as error:
        raise _BadMemberError(member, str(error)) from None


_E = TypeVar("_E", bound=Enum)


def _member(kind: type[_E], text: str, member: str) -> _E:
    """The member of an enum with this value, case and blanks aside."""
    found = next((m for m in kind if str(m.value).lower() == text.replace(" ", "").lower()), None)
    if found is None:
        raise _BadMemberError(member, f"'{text}' is none of {', '.join(str(m.value) for m in kind)}")
    return found


def _rule(file: _File, document: Mapping[str, object], source: str) -> Rule:
    hunting = file.kind is None and file.query_frequency is None
    kind = RuleKind.HUNTING if hunting else _member(RuleKind, file.kind or "Scheduled", "kind")
    frequency, period = _timing(file, kind)
    if not file.query.strip():
        raise _BadMemberError("query", "the query is empty")
    return Rule(
        id=file.id,
        name=file.name.strip(),
        query=file.query,
        kind=kind,
        severity=_member(Severity, file.severity or "Informational", "severity"),
        description=(file.description or "").strip().strip("'").strip(),
        frequency=frequency,
        period=period,
        trigger=_trigger(file.trigger_operator or "gt"),
        threshold=file.trigger_threshold,
        tactics=tuple(dict.fromkeys(tactic.replace(" ", "") for tactic in file.tactics or ())),
        techniques=tuple(dict.fromkeys(file.relevant_techniques or ())),
        data_types=tuple(t for c in file.required_data_connectors or () for t in c.data_types or ()),
        entity_mappings=_entity_mappings(file.entity_mappings or ()),
        entity_columns=tuple(each.column_name for each in file.sentinel_entities_mappings or ()),
        custom_details=tuple((file.custom_details or {}).items()),
        details=_details(file.alert_details_override),
        aggregation=_aggregation(file.event_grouping_settings),
        suppression=_suppression(file),
        create_incident=file.incident_configuration.create_incident if file.incident_configuration else None,
        grouping=_grouping(file.incident_configuration),
        learning_period=None if file.learning_period is None else _learning(file.learning_period),
        version=str(file.version),
        tags=tuple(tag for tag in file.tags or () if isinstance(tag, str)),
        tests=tuple(_test(test, index, kind) for index, test in enumerate(file.tests or ())),
        extra=tuple(_extra(document)),
        source=source,
    )


def _extra(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """The members that nothing reads, by their paths."""
    if isinstance(value, list):
        for item in value:
            yield from _extra(item, path)
    elif isinstance(value, Mapping) and path in MEMBERS:
        for name, item in value.items():
            if name in MEMBERS[path]:
                yield from _extra(item, f"{path}{name}.")
            else:
                yield f"{path}{name}", item


def _timing(file: _File, kind: RuleKind) -> tuple[timedelta, timedelta]:
    """Frequency and period: both zero for a hunt, a minute for NRT."""
    if kind is RuleKind.HUNTING:
        return timedelta(0), timedelta(0)
    if kind is RuleKind.NRT:
        return timedelta(minutes=1), timedelta(minutes=1)
    if file.query_frequency is None:
        raise _BadMemberError("queryFrequency", "a scheduled rule needs it")
    frequency = _duration(file.query_frequency, "queryFrequency")
    period = _duration(file.query_period or file.query_frequency, "queryPeriod")
    if not MIN_FREQUENCY <= frequency <= MAX_PERIOD:
        raise _BadMemberError("queryFrequency", "must lie between 5 minutes and 14 days")
    if not frequency <= period <= MAX_PERIOD:
        raise _BadMemberError("queryPeriod", "must lie between the frequency and 14 days")
    return frequency, period


def _trigger(text: str) -> Trigger:
    trigger = _TRIGGERS.get(text.replace(" ", "").lower())
    if trigger is None:
        raise _BadMemberError("triggerOperator", f"'{text}' is none of gt, lt, eq, ne")
    return trigger


def _entity_mappings(mappings: Iterable[_Mapping]) -> tuple[EntityMapping, ...]:
    read = tuple(
        EntityMapping(
            m.entity_type,
            tuple(FieldMapping(field.identifier, field.column_name) for field in m.field_mappings or ()),
        )
        for m in mappings
    )
    read = tuple(mapping for mapping in read if mapping.fields)
    if len(read) > MAX_ENTITY_MAPPINGS:
        raise _BadMemberError("entityMappings", f"at most {MAX_ENTITY_MAPPINGS} mappings, found {len(read)}")
    return read


def _details(details: _Details | None) -> AlertDetails:
    if details is None:
        return AlertDetails()
    return AlertDetails(
        display_name_format=details.alert_display_name_format or "",
        description_format=details.alert_description_format or "",
        severity_column=details.alert_severity_column_name or "",
        tactics_column=details.alert_tactics_column_name or "",
        properties=tuple((p.alert_property, p.value) for p in details.alert_dynamic_properties or ()),
    )


def _aggregation(settings: _EventGrouping | None) -> Aggregation:
    if settings is None:
        return Aggregation.SINGLE
    return _member(Aggregation, settings.aggregation_kind, "eventGroupingSettings.aggregationKind")


def _suppression(file: _File) -> timedelta | None:
    if not file.suppression_enabled:
        return None
    return _duration(file.suppression_duration or "PT5H", "suppressionDuration")


def _grouping(incident: _Incident | None) -> Grouping | None:
    if incident is None or incident.grouping_configuration is None:
        return None
    raw = incident.grouping_configuration
    if not raw.enabled:
        return None
    where = "incidentConfiguration.groupingConfiguration"
    grouping = Grouping(
        matching=_member(Matching, raw.matching_method, f"{where}.matchingMethod"),
        lookback=_duration(raw.lookback_duration, f"{where}.lookbackDuration"),
        reopen=raw.reopen_closed_incident,
        entities=tuple(raw.group_by_entities or ()),
        details=tuple(raw.group_by_alert_details or ()),
        custom_details=tuple(raw.group_by_custom_details or ()),
    )
    if grouping.matching is Matching.SELECTED and not (
        grouping.entities or grouping.details or grouping.custom_details
    ):
        raise _BadMemberError(where, "matching method Selected needs at least one thing to group by")
    return grouping


def _learning(value: str | int) -> timedelta:
    return timedelta(0) if str(value).strip() == "0" else _duration(str(value), "learningPeriod")


def _test(test: _Test, index: int, kind: RuleKind) -> RuleTest:
    member = f"tests[{index}].expect"
    wanted, other = ("rows", "alerts") if kind is RuleKind.HUNTING else ("alerts", "rows")
    count = getattr(test.expect, wanted)
    if count is None or getattr(test.expect, other) is not None:
        raise _BadMemberError(member, f"give the number of {wanted} expected, and no {other}")
    expect = Expectation(
        alerts=count,
        severity=None
        if test.expect.severity is None
        else _member(Severity, test.expect.severity, f"{member}.severity"),
        entities=tuple((kind, tuple(values)) for kind, values in (test.expect.entities or {}).items()),
    )
    return RuleTest(
        name=test.name,
        expect=expect,
        events=tuple(test.events or ()),
        logs=tuple((table, tuple(lines)) for table, lines in (test.logs or {}).items()),
        rows=tuple((table, tuple(rows)) for table, rows in (test.rows or {}).items()),
        at=None if test.at is None else _time(test.at, f"tests[{index}].at"),
    )


def _time(text: str, member: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _BadMemberError(member, f"'{text}' is no time; write 2026-03-02T09:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# --- folders of rules --------------------------------------------------------------------------------------


def load_rules(
    folders: Iterable[Path], *, fault: Callable[[RuleError], None] | None = None
) -> tuple[Rule, ...]:
    """All rules of these files and folders, in order of name; a later one's rule replaces one of the same id.

    RuleError for a path that does not exist. A file that is no rule, and a copy of another in its folder,
    is told to `fault` and left out; without `fault` its RuleError is raised. Two rules with one id are both
    kept, see `other_id`.
    """
    rules: dict[str, Rule] = {}
    for folder in folders:
        rules |= _folder(folder, fault)
    return tuple(sorted(rules.values(), key=lambda rule: (rule.name, rule.id)))


def is_copy(rule: Rule, other: Rule) -> bool:
    """Whether two rules of one id are one rule in two files, rather than two whose authors shared the id."""
    return rule.name == other.name and rule.query == other.query


def other_id(rule: Rule) -> str:
    """The id of a rule whose own is already another's: published packs hold such pairs."""
    return str(uuid.uuid5(_NAMESPACE, f"{rule.id}\n{rule.name}\n{rule.query}"))


def rule_files(folder: Path) -> list[Path]:
    """The files of a folder that may hold rules, at any depth. RuleError where there is no such folder."""
    if not folder.is_dir():
        raise RuleError(f"no file or folder of rules at {folder}")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())


def named_files(path: Path) -> list[tuple[Path, Path]]:
    """A file, or the files of a folder, each with its name below the path. RuleError where neither is."""
    if path.is_file():
        return [(path, Path(path.name))]
    return [(file, file.relative_to(path)) for file in rule_files(path)]


def _folder(folder: Path, fault: Callable[[RuleError], None] | None) -> dict[str, Rule]:
    found: dict[str, Rule] = {}
    for path, name in named_files(folder):
        try:
            for rule in parse_rules(path.read_bytes(), source=name.as_posix()):
                if (other := found.get(rule.id)) is not None:
                    if is_copy(rule, other):
                        raise RuleError(f"{rule.source}: the id {rule.id} is also that of {other.source}")
                    rule = replace(rule, id=other_id(rule))
                found[rule.id] = rule
        except RuleError as error:
            error.source = name.as_posix()
            if fault is None:
                raise
            fault(error)
    return found
