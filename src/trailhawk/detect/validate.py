"""What is wrong with a rule before it ever runs: its query, its columns, its look-back, Sentinel's limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING

from trailhawk.detect.absent import absent, needed, reason
from trailhawk.detect.attack_table import attack_table
from trailhawk.detect.entities import IDENTIFIERS, TYPES
from trailhawk.detect.rule import Grouping, Matching, Rule, RuleKind
from trailhawk.detect.rule_file import MEMBERS
from trailhawk.errors import QueryError
from trailhawk.words import suggestion

# The compiler is imported where rules are validated: to list them needs no more than a finding.
if TYPE_CHECKING:
    from trailhawk.kql.compiler import Compiled
    from trailhawk.kql.operators.external import ExternalFile

MAX_NAME, MAX_DESCRIPTION, MAX_QUERY = 256, 5_000, 10_000
MAX_CUSTOM_DETAILS, MAX_PLACEHOLDERS, MAX_IDENTIFIERS = 20, 3, 3
MAX_THRESHOLD = 10_000
MAX_SUPPRESSION = timedelta(hours=24)
MIN_LOOK_BACK, MAX_LOOK_BACK = timedelta(minutes=5), timedelta(days=7)
"""How long an incident of a rule's grouping may take alerts."""
SHORT_LOOK_BACK = timedelta(hours=48)
"""The longest look-back of a rule that runs more often than every hour."""

_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_DETAIL_NAME = re.compile(r"[A-Za-z]\w{0,19}")
_EVERYTHING = re.compile(r"\b(search|union)\s+\*", re.IGNORECASE)

Compile = Callable[[str, datetime], "Compiled"]
"""The plan of a query at a moment; raises QueryError."""

Allows = Callable[["ExternalFile"], bool]
"""Whether externaldata may read a file."""


class Level(Enum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a rule: an error keeps it from working, a warning from working as meant."""

    level: Level
    member: str
    message: str
    hint: str = ""

    @property
    def told(self) -> str:
        """The message and what to do about it."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


def validate(
    rule: Rule, compile_: Compile, *, now: datetime, allows: Allows = lambda file: False
) -> tuple[Finding, ...]:
    """What is wrong with a rule, errors first; nothing is run but what columns depend on."""
    found = [
        *_misspelt(rule),
        *_limits(rule),
        *_of_entities(rule),
        *_of_grouping(rule),
        *_of_query(rule, compile_, now, allows),
    ]
    return tuple(sorted(found, key=lambda finding: finding.level is Level.WARNING))


def _warning(member: str, message: str) -> Finding:
    return Finding(Level.WARNING, member, message)


def _misspelt(rule: Rule) -> Iterator[Finding]:
    """Members that nothing reads and that are nearly one that is; those of other tools are left in peace."""
    for member in dict.fromkeys(name for name, _ in rule.extra):
        parent, dot, name = member.rpartition(".")
        for near in get_close_matches(name, MEMBERS.get(parent + dot, ()), n=1, cutoff=0.8):
            yield Finding(Level.WARNING, member, "no member of a rule, not read", f"did you mean '{near}'?")


# --- Sentinel's limits -------------------------------------------------------------------------------------


def _limits(rule: Rule) -> Iterator[Finding]:
    for member, text, most in (
        ("name", rule.name, MAX_NAME),
        ("description", rule.description, MAX_DESCRIPTION),
        ("query", rule.query, MAX_QUERY),
    ):
        if len(text) > most:
            yield _warning(member, f"{len(text):,} characters; Sentinel takes {most:,}")
    if (
        rule.kind is RuleKind.SCHEDULED
        and rule.frequency < timedelta(hours=1) < SHORT_LOOK_BACK < rule.period
    ):
        yield _warning("queryPeriod", "Sentinel looks back at most 48 h where a rule runs more than hourly")
    if not 0 <= rule.threshold <= MAX_THRESHOLD:
        yield _warning("triggerThreshold", f"Sentinel takes 0 to {MAX_THRESHOLD:,}, found {rule.threshold:,}")
    if rule.suppression is not None and rule.suppression > MAX_SUPPRESSION:
        yield _warning("suppressionDuration", "Sentinel suppresses for 24 hours at most")
    if rule.kind is not RuleKind.HUNTING and _EVERYTHING.search(rule.query):
        yield _warning("query", "Sentinel refuses 'search *' and 'union *' in a rule")
    if len(rule.custom_details) > MAX_CUSTOM_DETAILS:
        yield _warning(
            "customDetails", f"Sentinel takes {MAX_CUSTOM_DETAILS}, found {len(rule.custom_details)}"
        )
    for name, _ in rule.custom_details:
        if not _DETAIL_NAME.fullmatch(name):
            yield _warning("customDetails", f"'{name}' is no name that Sentinel takes")
    for mapping in rule.entity_mappings:
        if len(mapping.fields) > MAX_IDENTIFIERS:
            yield _warning("entityMappings", f"{mapping.type} has more than {MAX_IDENTIFIERS} identifiers")
    for member, complaint in attack_table().complaints(rule):
        yield _warning(member, complaint)
    for member, template in _templates(rule):
        if len(_PLACEHOLDER.findall(template)) > MAX_PLACEHOLDERS:
            yield _warning(member, f"Sentinel takes {MAX_PLACEHOLDERS} columns in a format")


def _templates(rule: Rule) -> tuple[tuple[str, str], ...]:
    return (
        ("alertDetailsOverride.alertDisplayNameFormat", rule.details.display_name_format),
        ("alertDetailsOverride.alertDescriptionFormat", rule.details.description_format),
    )


# --- entities and grouping ---------------------------------------------------------------------------------


def _of_entities(rule: Rule) -> Iterator[Finding]:
    """Names that nothing would know: such an entity joins no incident, and no condition finds it."""
    for mapping in rule.entity_mappings:
        if mapping.type not in TYPES:
            yield _unknown("entityMappings", mapping.type, "type of an entity", TYPES)
            continue
        known = IDENTIFIERS.get(mapping.type)
        for field in mapping.fields if known else ():
            if known and field.identifier.lower() not in {name.lower() for name in known}:
                yield _unknown(f"entityMappings.{mapping.type}", field.identifier, "identifier of it", known)


def _of_grouping(rule: Rule) -> Iterator[Finding]:
    """What alerts are to agree in and none of them has: there all agree, and are one incident."""
    grouping = rule.grouping
    if grouping is None:
        return
    where = "incidentConfiguration.groupingConfiguration"
    if not MIN_LOOK_BACK <= grouping.lookback <= MAX_LOOK_BACK:
        yield _warning(f"{where}.lookbackDuration", "Sentinel takes 5 minutes to 7 days")
    if grouping.matching is Matching.SELECTED:
        for member, names, there in _agreed(rule, grouping):
            for name in names:
                if name not in there:
                    yield _unknown(f"{where}.{member}", name, "part of this rule's alerts", there)


def _agreed(rule: Rule, grouping: Grouping) -> tuple[tuple[str, Sequence[str], Sequence[str]], ...]:
    """What a grouping names, by its members, and what there is to name."""
    mapped = [mapping.type for mapping in rule.entity_mappings]
    return (
        ("groupByEntities", grouping.entities, TYPES if rule.entity_columns else mapped),
        ("groupByAlertDetails", grouping.details, ("DisplayName", "Severity")),
        ("groupByCustomDetails", grouping.custom_details, [name for name, _ in rule.custom_details]),
    )


def _unknown(member: str, name: str, what: str, known: Sequence[str]) -> Finding:
    return Finding(Level.WARNING, member, f"'{name}' is no {what}", suggestion(name, known))


# --- the query ---------------------------------------------------------------------------------------------


def _of_query(rule: Rule, compile_: Compile, now: datetime, allows: Allows) -> Iterator[Finding]:
    def is_there(table: str) -> bool:
        try:
            compile_(f"{table} | take 0", now)
        except QueryError:
            return False
        return True

    try:
        compiled = compile_(rule.query, now)
    except QueryError as error:
        if missing := absent(rule, error, is_there):
            yield _warning("query", f"{reason(missing)}: skipped until it has")
        else:
            told = error.located(rule.query, first_line=rule.query_line)
            yield Finding(Level.ERROR, "query", told, error.hint)
        return
    if missing := needed(rule, is_there):
        yield _warning("query", f"{reason(missing)}: it runs over the rest")
    names = [column.name for column in compiled.columns]
    for member, column in _wanted(rule):
        if column not in names:
            # Sentinel drops what no column fills, and published rules rely on that.
            yield _warning(member, f"the query gives no column '{column}'; it gives {', '.join(names)}")
    yield from _outside(compiled, allows)
    if rule.kind is not RuleKind.HUNTING:
        yield from _look_back(rule, compiled, now)


def _wanted(rule: Rule) -> Iterator[tuple[str, str]]:
    """The columns that members of the rule name."""
    for mapping in rule.entity_mappings:
        for field in mapping.fields:
            yield f"entityMappings.{mapping.type}.{field.identifier}", field.column
    for column in rule.entity_columns:
        yield "sentinelEntitiesMappings", column
    for name, column in rule.custom_details:
        yield f"customDetails.{name}", column
    for member, template in _templates(rule):
        for column in _PLACEHOLDER.findall(template):
            yield member, column
    details = rule.details
    if details.severity_column:
        yield "alertDetailsOverride.alertSeverityColumnName", details.severity_column
    if details.tactics_column:
        yield "alertDetailsOverride.alertTacticsColumnName", details.tactics_column
    for name, column in details.properties:
        yield f"alertDetailsOverride.alertDynamicProperties.{name}", column


def _outside(compiled: Compiled, allows: Allows) -> Iterator[Finding]:
    """Lists outside the lake that the query reads and may not."""
    from trailhawk.kql.operators.external import ExternalRows
    from trailhawk.kql.passes import applied

    read = (node.function for node in applied(compiled.plan))
    files = (file for rows in read if isinstance(rows, ExternalRows) for file in rows.files)
    for place in dict.fromkeys(file.place for file in files if not allows(file)):
        told = "'allow' of [externaldata] in trailhawk.toml has not: skipped until it has"
        yield _warning("query", f"it reads a list of {place}, which {told}")


def _look_back(rule: Rule, compiled: Compiled, now: datetime) -> Iterator[Finding]:
    """A query that asks for rows from before the period gets none: Sentinel does not tell, so we do."""
    from trailhawk.kql.passes import scans
    from trailhawk.kql.scalars import ticks_of

    begins = ticks_of(now) - rule.period // timedelta(microseconds=1) * 10
    since = [scan.since for scan in scans(compiled.plan) if scan.since is not None]
    earliest = min(since, default=begins)
    if earliest < begins:
        # Of `> ago(1h)` the first row is a microsecond later.
        asked = timedelta(seconds=round((ticks_of(now) - earliest) / 10**7))
        yield _warning(
            "queryPeriod",
            f"the query asks for {_long(asked)}, the rule sees only its period of {_long(rule.period)}",
        )


def _long(span: timedelta) -> str:
    """A span in the largest unit that it is a whole number of: `14 days`, `1 hour`."""
    for unit in ("days", "hours", "minutes"):
        whole = timedelta(**{unit: 1})
        if span >= whole and not span % whole:
            return f"{span // whole} {unit if span // whole > 1 else unit[:-1]}"
    return f"{span / timedelta(days=1):.3g} days"
