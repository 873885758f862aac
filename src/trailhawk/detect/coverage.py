"""What of ATT&CK's matrix for IaaS is watched: technique, rules and hunts, what data they need, does it come.

A technique counts by the rules and hunts that name it, in any version of ATT&CK, whatever tactic they name
beside it. A name is no proof: what was proven is the time of the last canary that went through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from trailhawk.connectors.health import StreamHealth
from trailhawk.detect.attack_table import AttackTable, Tactic, Technique
from trailhawk.detect.rule import Rule, RuleKind
from trailhawk.engine.result import Engine, TimeRange

if TYPE_CHECKING:
    from trailhawk.detect.canary import LastCanary

DAY: Final = timedelta(days=1)

Reads = Callable[[Rule], frozenset[str] | None]
"""The tables that a rule's query reads; None for one that does not compile."""


class Flow(Enum):
    """Whether rows arrive: some of the last day, some but streams fell silent, only older ones, none ever."""

    ARRIVING = "arriving"
    PARTLY = "partly"
    SILENT = "silent"
    NEVER = "never"

    @property
    def comes(self) -> bool:
        return self in (Flow.ARRIVING, Flow.PARTLY)


class Standing(Enum):
    """How well a technique is watched, the worst first. `score` is what the Navigator shows."""

    NONE = "none"
    OFF = "off"
    BLIND = "blind"
    FAILING = "failing"
    HUNTED = "hunted"
    WATCHED = "watched"
    PROVEN = "proven"

    @property
    def score(self) -> int:
        return _SCORES[self]

    @property
    def about(self) -> str:
        return _ABOUT[self]


_SCORES = {
    Standing.NONE: 0,
    Standing.OFF: 10,
    Standing.BLIND: 20,
    Standing.FAILING: 30,
    Standing.HUNTED: 40,
    Standing.WATCHED: 75,
    Standing.PROVEN: 100,
}
_ABOUT = {
    Standing.NONE: "nothing names it",
    Standing.OFF: "rules that are disabled, and nothing else",
    Standing.BLIND: "rules or hunts whose data does not arrive",
    Standing.FAILING: "rules or hunts whose last canary failed: they no longer fire",
    Standing.HUNTED: "hunts only",
    Standing.WATCHED: "an enabled rule whose data arrives",
    Standing.PROVEN: "such a rule, and its last canary went through",
}


@dataclass(frozen=True, slots=True)
class TableFlow:
    """How a table's data comes. `rows` are those of the last day by event time, `last` is the newest event;
    `silent` names the streams of logs into it that fell silent."""

    name: str
    flow: Flow
    rows: int
    last: datetime | None
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A rule or hunt as coverage sees it. `reason` says why its tables are not known, '' where they are."""

    rule: Rule
    techniques: tuple[str, ...]
    enabled: bool
    tables: tuple[str, ...]
    flow: Flow
    canary: LastCanary | None
    reason: str = ""

    @property
    def is_hunt(self) -> bool:
        return self.rule.kind is RuleKind.HUNTING

    @property
    def standing(self) -> Standing:
        """What this one alone makes of a technique it names."""
        if not self.enabled:
            return Standing.OFF
        if not self.flow.comes:
            return Standing.BLIND
        if self.canary is not None and not self.canary.passed:
            return Standing.FAILING
        if self.is_hunt:
            return Standing.HUNTED
        return Standing.WATCHED if self.canary is None else Standing.PROVEN


@dataclass(frozen=True, slots=True)
class Covered:
    """A technique with the sources that name it itself and, of a technique, those of its sub-techniques."""

    technique: Technique
    own: tuple[Source, ...]
    below: tuple[Source, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple({each.rule.id: each for each in (*self.own, *self.below)}.values())

    @property
    def rules(self) -> tuple[Source, ...]:
        return tuple(each for each in self.sources if not each.is_hunt)

    @property
    def hunts(self) -> tuple[Source, ...]:
        return tuple(each for each in self.sources if each.is_hunt)

    @property
    def standing(self) -> Standing:
        found = {each.standing for each in self.sources}
        return next((each for each in reversed(Standing) if each in found), Standing.NONE)

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple(sorted({table for each in self.sources for table in each.tables}))

    @property
    def canary(self) -> datetime | None:
        """When the last of its rules' canaries went through; None where none did."""
        known = (each.canary.passed_at for each in self.rules if each.canary)
        return max((at for at in known if at is not None), default=None)


@dataclass(frozen=True)
class Coverage:
    """The matrix for IaaS of one version of ATT&CK over a home's rules, hunts and data at a moment.

    `columns` has each tactic with its techniques, sub-techniques after their technique. `beyond` are the
    techniques that content names and the matrix has not, `unknown` the ids that our table has not.
    """

    at: datetime
    version: int
    columns: tuple[tuple[Tactic, tuple[Covered, ...]], ...]
    beyond: tuple[Covered, ...]
    unknown: tuple[str, ...]
    sources: tuple[Source, ...]
    tables: tuple[TableFlow, ...]

    @property
    def matrix(self) -> tuple[Covered, ...]:
        """Each technique of the matrix once, by id."""
        found = {each.technique.id: each for _, column in self.columns for each in column}
        return tuple(found[number] for number in sorted(found))

    def counted(self) -> dict[Standing, int]:
        """How many techniques and sub-techniques of the matrix stand how."""
        standings = [each.standing for each in self.matrix]
        return {standing: standings.count(standing) for standing in reversed(Standing)}


def coverage(
    content: Iterable[Rule],
    *,
    attack: AttackTable,
    version: int,
    reads: Reads,
    flows: Mapping[str, TableFlow],
    enabled: Callable[[Rule], bool],
    canaries: Mapping[str, LastCanary],
    now: datetime,
) -> Coverage:
    """Lay rules and hunts over the matrix. `canaries` has how a rule's last canary ended, by its id."""
    sources = tuple(
        _source(rule, attack, version, reads, flows, enabled(rule), canaries.get(rule.id)) for rule in content
    )
    by_id: dict[str, list[Source]] = {}
    for source in sources:
        for number in source.techniques:
            by_id.setdefault(number, []).append(source)
    matrix = attack.matrix(version)
    in_matrix = {each.id for each in matrix}
    covered = {each.id: _covered(each, by_id, attack) for each in matrix}
    columns = tuple(
        (tactic, tuple(covered[each.id] for each in matrix if tactic.name in each.tactics[version]))
        for tactic in attack.tactics(version)
    )
    named = sorted(by_id.keys() - in_matrix)
    return Coverage(
        at=now,
        version=version,
        columns=tuple((tactic, column) for tactic, column in columns if column),
        beyond=tuple(_covered(attack.techniques[n], by_id, attack) for n in named if n in attack.techniques),
        unknown=tuple(number for number in named if number not in attack.techniques),
        sources=sources,
        tables=tuple(flows[name] for name in sorted(flows)),
    )


def _source(
    rule: Rule,
    attack: AttackTable,
    version: int,
    reads: Reads,
    flows: Mapping[str, TableFlow],
    enabled: bool,
    canary: LastCanary | None,
) -> Source:
    read = reads(rule)
    tables = tuple(sorted(name for name in (rule.data_types if read is None else read) if name in flows))
    return Source(
        rule=rule,
        techniques=attack.named(rule.techniques, version),
        enabled=enabled,
        tables=tables,
        flow=_together([flows[name].flow for name in tables]),
        canary=canary,
        reason="" if read is not None else "its query does not compile; tables as it declares them",
    )


def _together(flows: Sequence[Flow]) -> Flow:
    """How the data of several tables comes: as the worst where none comes, else partly unless all do."""
    if not flows:
        return Flow.ARRIVING  # it reads no logs, so none can be missing
    if all(flow is flows[0] for flow in flows):
        return flows[0]
    return Flow.PARTLY if any(flow.comes for flow in flows) else Flow.SILENT


def _covered(technique: Technique, by_id: Mapping[str, Sequence[Source]], attack: AttackTable) -> Covered:
    below = [
        source
        for number, sources in by_id.items()
        if number in attack.techniques and attack.techniques[number].parent == technique.id
        for source in sources
    ]
    return Covered(technique, tuple(by_id.get(technique.id, ())), tuple(below))


# --- the data ----------------------------------------------------------------------------------------------


def table_flows(
    engine: Engine,
    newest: Mapping[str, datetime | None],
    streams: Iterable[StreamHealth],
    *,
    now: datetime,
) -> dict[str, TableFlow]:
    """How the data of these tables comes; `newest` has each with its newest event, None for an empty one."""
    silent: dict[str, list[str]] = {}
    streams_of: dict[str, int] = {}
    for stream in streams:
        streams_of[stream.table] = streams_of.get(stream.table, 0) + 1
        if stream.state == "silent":
            silent.setdefault(stream.table, []).append(stream.name)
    found = {}
    for name, last in newest.items():
        rows = _rows_of_day(engine, name, now) if last is not None and last >= now - DAY else 0
        quiet = tuple(silent.get(name, ()))
        found[name] = TableFlow(
            name, _flow(rows, last, len(quiet), streams_of.get(name, 0)), rows, last, quiet
        )
    return found


def _flow(rows: int, last: datetime | None, silent: int, streams: int) -> Flow:
    if last is None:
        return Flow.NEVER
    if not rows or (silent and silent == streams):
        return Flow.SILENT
    return Flow.PARTLY if silent else Flow.ARRIVING


def _rows_of_day(engine: Engine, table: str, now: datetime) -> int:
    day = TimeRange(now - DAY, now)
    found = engine.query(f"['{table}'] | count", now=now, window=day).rows()
    count = found[0]["Count"]
    return count if isinstance(count, int) else 0
