"""The investigation graph of an incident: what its entities have to do with each other, and what widens it.

The graph itself comes from the incident's report: alerts and the entities they name, the lineage of the
credentials, the calls and the objects read. It reads from left to right: instance, role, session, key,
address, bucket, object. Expansions are KQL queries in content, one for each question that an analyst asks of
an entity; each is run once for all entities of its type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files

import yaml

from trailhawk.detect.entities import (
    AWS_ACCESS_KEY,
    AWS_BUCKET,
    AWS_INSTANCE,
    AWS_OBJECT,
    AWS_PRINCIPAL,
    AWS_SESSION,
    IP,
    Entity,
)
from trailhawk.engine.result import Engine, TimeRange
from trailhawk.incidents.lineage import Issue, session_of
from trailhawk.incidents.report import Report
from trailhawk.incidents.row import count, moment

ALERT, SERVICE, API = "Alert", "AwsService", "AwsApi"

MAX_OBJECTS = 20
"""Objects of one bucket shown one by one; the smaller ones beyond are one node."""
MAX_NEIGHBOURS = 20
"""Neighbours that one expansion of one entity shows, those with the most calls; the others are counted."""
AROUND = timedelta(hours=24)
"""How long before and after the incident expansions look."""
_ROWS = 5_000
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Node:
    """A thing in the graph. `id` is `type:name`; `facts` are what is known of it, as shown to people."""

    type: str
    name: str
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        return f"{self.type}:{self.name}"


@dataclass(frozen=True, slots=True)
class Edge:
    """Two nodes by id, what they have to do with each other, how often, when, and how many bytes passed."""

    source: str
    target: str
    says: str
    count: int = 1
    first: datetime | None = None
    last: datetime | None = None
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Expansion:
    """A question about entities of one type, `*` for all: a query that declares `Names`, a dynamic list."""

    id: str
    entity: str
    title: str
    query: str


@dataclass(frozen=True, slots=True)
class Expanded:
    """What an expansion says of one node: neighbours and edges, and how many neighbours are left out."""

    expansion: Expansion
    node: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes and edges of the incident, and what each node can be expanded to, in the order of content."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    expanded: tuple[Expanded, ...]


@cache
def expansions() -> tuple[Expansion, ...]:
    """The expansions of the shipped content."""
    text = files("trailhawk").joinpath("content/expansions.yaml").read_text(encoding="utf-8")
    return tuple(Expansion(**entry) for entry in yaml.safe_load(text))


def graph(engine: Engine, report: Report, *, now: datetime) -> Graph:
    """The graph of a reported incident with all its expansions."""
    nodes, edges = _of_incident(report)
    incident = report.incident
    within = TimeRange(incident.first_activity - AROUND, incident.last_activity + AROUND)
    return Graph(nodes, edges, expand(engine, nodes, within=within, now=now))


def expand(
    engine: Engine,
    nodes: Iterable[Node],
    *,
    within: TimeRange,
    now: datetime,
    chosen: Sequence[Expansion] | None = None,
) -> tuple[Expanded, ...]:
    """What the expansions (all of content unless given) say of these nodes; those without an answer are
    left out."""
    by_type: dict[str, list[Node]] = {}
    for node in nodes:
        if node.type not in (ALERT, SERVICE, API):
            by_type.setdefault(node.type, []).append(node)
    every = [node for own in by_type.values() for node in own]
    asked = [
        (expansion, every if expansion.entity == "*" else by_type.get(expansion.entity, []))
        for expansion in (expansions() if chosen is None else chosen)
    ]

    def answers(one: tuple[Expansion, list[Node]]) -> list[Expanded]:
        return list(_expanded(engine, *one, within, now)) if one[1] else []

    # Small queries: while one is compiled, another runs.
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return tuple(found for answer in pool.map(answers, asked) for found in answer)


def _expanded(
    engine: Engine, expansion: Expansion, asked: Sequence[Node], within: TimeRange, now: datetime
) -> Iterable[Expanded]:
    places = {node.name: node for node in asked}
    query = f"{expansion.query}\n| top {_ROWS} by Count desc"
    result = engine.query(query, now=now, window=within, parameters={"Names": list(places)})
    rows: dict[str, list[Mapping[str, object]]] = {}
    for row in result.rows():
        rows.setdefault(str(row["Of"]), []).append(row)
    for name, own in rows.items():
        if name not in places:
            continue
        node = places[name]
        shown = sorted(own, key=lambda row: (-count(row["Count"]), str(row["Type"]), str(row["Name"])))
        neighbours = [Node(str(row["Type"]), str(row["Name"])) for row in shown[:MAX_NEIGHBOURS]]
        edges = [
            Edge(
                source=node.id,
                target=neighbour.id,
                says=str(row["Says"]),
                count=count(row["Count"]),
                first=moment(row["First"]),
                last=moment(row["Last"]),
                bytes=count(row["Bytes"]),
            )
            for neighbour, row in zip(neighbours, shown, strict=False)
        ]
        distinct = tuple(dict.fromkeys(neighbours))
        yield Expanded(expansion, node.id, distinct, tuple(edges), max(0, len(own) - MAX_NEIGHBOURS))


# --- the incident itself -----------------------------------------------------------------------------------


class _Drawing:
    """Nodes and edges as they are found; what is drawn twice is one."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._edges: dict[tuple[str, str, str], Edge] = {}

    def node(self, kind: str, name: str, **facts: str) -> str:
        """The id of a node, made where it is not there; facts add up."""
        node = Node(kind, name)
        known = dict(self._nodes[node.id].facts) if node.id in self._nodes else {}
        known |= {key.replace("_", " "): value for key, value in facts.items() if value}
        self._nodes[node.id] = replace(node, facts=tuple(known.items()))
        return node.id

    def edge(self, edge: Edge) -> None:
        key = (edge.source, edge.target, edge.says)
        before = self._edges.get(key)
        if before is not None:
            times = [t for t in (before.first, before.last, edge.first, edge.last) if t]
            edge = replace(
                edge,
                count=before.count + edge.count,
                bytes=before.bytes + edge.bytes,
                first=min(times, default=None),
                last=max(times, default=None),
            )
        self._edges[key] = edge

    def drawn(self) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
        return tuple(self._nodes.values()), tuple(self._edges.values())


def _of_incident(report: Report) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    drawing = _Drawing()
    sessions = _session_names(report.entities)
    for issue in report.lineage.issues:
        _draw_issue(drawing, issue)
    for use in report.lineage.uses:
        key, address = drawing.node(AWS_ACCESS_KEY, use.key), drawing.node(IP, use.address)
        drawing.edge(Edge(key, address, "used from", use.calls, use.first, use.last))
    _draw_sessions(drawing, report)
    _draw_calls(drawing, report)
    _draw_objects(drawing, report)
    drawn = {node.id for node in drawing.drawn()[0]}
    objects = {(line.bucket, line.key) for line in report.manifest.lines}
    for each in report.entities:
        if each.type == AWS_OBJECT and (each.identifier("Bucket"), each.identifier("Key")) in objects:
            continue  # drawn with its bucket, one by one or among the smaller ones
        drawing.node(each.type, _name(each, sessions))
    for alert in report.alerts:
        drawn_alert = drawing.node(
            ALERT,
            alert.id,
            title=alert.name,
            severity=alert.severity.value,
            rule=alert.rule_name,
            tactics=", ".join(alert.tactics),
            techniques=", ".join(alert.techniques),
        )
        for each in alert.entities:
            target = f"{each.type}:{_name(each, sessions)}"
            if each.type != AWS_OBJECT or target in drawn:
                drawing.edge(Edge(drawn_alert, target, "names", 1, alert.started_at, alert.ended_at))
    return drawing.drawn()


def _session_names(entities: Iterable[Entity]) -> Mapping[str, str]:
    """The name of each session by its id: its ARN where that is known."""
    return {
        each.identifier("Id"): each.identifier("Arn")
        for each in entities
        if each.type == AWS_SESSION and each.identifier("Id") and each.identifier("Arn")
    }


def _name(each: Entity, sessions: Mapping[str, str]) -> str:
    if each.type == AWS_SESSION:
        return each.identifier("Arn") or sessions.get(each.identifier("Id"), each.identifier("Id"))
    return each.name


def _session_arn(issue: Issue) -> str:
    """`arn:P:sts::ACCOUNT:assumed-role/ROLE/SESSION` of `arn:P:iam::ACCOUNT:role/PATH/ROLE`."""
    parts = issue.role_arn.split(":")
    if len(parts) < 6 or not issue.session_name:
        return ""
    return f"arn:{parts[1]}:sts::{parts[4]}:assumed-role/{issue.role}/{issue.session_name}"


def _draw_issue(drawing: _Drawing, issue: Issue) -> None:
    """Who asked for a key -> role -> session -> key; without a role, who asked -> key."""
    if not issue.key:
        return
    key = drawing.node(AWS_ACCESS_KEY, issue.key, issued=_when(issue.at), expires=issue.expires, by=issue.api)
    if issue.instance:
        asker = drawing.node(AWS_INSTANCE, issue.instance)
    elif issue.caller_key:
        asker = drawing.node(AWS_ACCESS_KEY, issue.caller_key)
    elif issue.caller_arn:
        asker = drawing.node(AWS_PRINCIPAL, issue.caller_arn)
    else:
        asker = drawing.node(SERVICE, issue.service or issue.caller_id or "unknown")
    if not issue.role_arn:
        drawing.edge(Edge(asker, key, issue.api, 1, issue.at, issue.at))
        return
    role = drawing.node(AWS_PRINCIPAL, issue.role_arn)
    says = "has the role" if issue.instance else issue.api
    drawing.edge(Edge(asker, role, says, 1, issue.at, issue.at))
    if arn := _session_arn(issue):
        session = drawing.node(AWS_SESSION, arn)
        drawing.edge(Edge(role, session, "session", 1, issue.at, issue.at))
        drawing.edge(Edge(session, key, "key", 1, issue.at, issue.at))
    else:
        drawing.edge(Edge(role, key, "key", 1, issue.at, issue.at))


def _draw_sessions(drawing: _Drawing, report: Report) -> None:
    """Keys whose issue is not stored hang on the session that their own calls name: instance -> role ->
    session -> key."""
    roles = {arn.rsplit("/", 1)[-1]: arn for arn in report.incident.values(AWS_PRINCIPAL) if ":role/" in arn}
    first = {event.key: event for event in reversed(report.timeline) if event.key}
    for event in first.values():
        of = session_of(event.session)
        if of is None or report.lineage.issue_of(event.key):
            continue
        role = drawing.node(AWS_PRINCIPAL, roles.get(of.role, of.role_arn))
        session, key = drawing.node(AWS_SESSION, event.session), drawing.node(AWS_ACCESS_KEY, event.key)
        if of.instance:
            instance = drawing.node(AWS_INSTANCE, of.instance)
            drawing.edge(Edge(instance, role, "has the role", 1, event.at, event.at))
        drawing.edge(Edge(role, session, "session", 1, event.at, event.at))
        drawing.edge(Edge(session, key, "key", 1, event.at, event.at))


def _draw_calls(drawing: _Drawing, report: Report) -> None:
    """Address -> bucket or service, with the calls made; who has no key is drawn beside its address."""
    calls: dict[tuple[str, str, str], Counter[str]] = {}
    for event in report.timeline:
        bucket = event.bucket
        kind, name = (AWS_BUCKET, bucket) if bucket else (SERVICE, event.service)
        says = event.name + (f" ({event.error})" if event.error else "")
        calls.setdefault((event.address, kind, name), Counter())[says] += 1
        if not event.key and event.session:
            who, address = drawing.node(AWS_PRINCIPAL, event.session), drawing.node(IP, event.address)
            drawing.edge(Edge(who, address, "works from", 1, event.at, event.at))
    for (address, kind, name), counts in calls.items():
        own = [e for e in report.timeline if e.address == address and name == (e.bucket or e.service)]
        says = ", ".join(f"{call} x{n}" for call, n in counts.most_common(4))
        more = f" and {len(counts) - 4} more" if len(counts) > 4 else ""
        source, target = drawing.node(IP, address), drawing.node(kind, name)
        drawing.edge(Edge(source, target, says + more, len(own), own[0].at, own[-1].at))


def _draw_objects(drawing: _Drawing, report: Report) -> None:
    """Bucket -> object with the bytes read; beyond the largest ones a single node."""
    by_bucket: dict[str, dict[str, Edge]] = {}
    for line in report.manifest.lines:
        target = Node(AWS_OBJECT, f"{line.bucket}/{line.key}").id
        own = by_bucket.setdefault(line.bucket, {})
        edge = Edge(
            source=Node(AWS_BUCKET, line.bucket).id,
            target=target,
            says="read" if line.reads else "refused",
            count=line.reads or line.denied,
            first=line.first,
            last=line.last,
            bytes=line.bytes,
        )
        before = own.get(line.key)
        own[line.key] = (
            replace(
                before,
                says="read" if "read" in (before.says, edge.says) else "refused",
                count=before.count + edge.count,
                bytes=before.bytes + edge.bytes,
                first=min(line.first, before.first or line.first),
                last=max(line.last, before.last or line.last),
            )
            if before
            else edge
        )
    for bucket, own in by_bucket.items():
        drawing.node(AWS_BUCKET, bucket)
        largest = sorted(own.items(), key=lambda item: (-item[1].bytes, item[0]))
        most = MAX_OBJECTS if len(largest) <= MAX_OBJECTS else MAX_OBJECTS - 1
        for key, edge in largest[:most]:
            drawing.node(AWS_OBJECT, f"{bucket}/{key}", bytes=f"{edge.bytes:,}")
            drawing.edge(edge)
        if others := [edge for _, edge in largest[most:]]:
            rest = drawing.node(AWS_OBJECT, f"{bucket}/ ({len(others):,} smaller objects)")
            for edge in others:
                drawing.edge(replace(edge, target=rest, says="read"))


def _when(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
